//! `/console`, the page, and `/v1/admin/live`, what it shows.
//!
//! The page is three files in the binary: no build step, nothing fetched from elsewhere, no inline script or style, so that
//! its policy can forbid all of that. It holds no secret; what it shows comes with the admin key that its reader types.

use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use doorbuster_engine::answer::Refusal;

use crate::call::Call;
use crate::live::Source;
use crate::problem::Problem;
use crate::reply::json_reply;
use crate::routes::streams;

const PAGE: &str = include_str!("../console/console.html");
const STYLE: &str = include_str!("../console/console.css");
const SCRIPT: &str = include_str!("../console/console.js");

/// Its own script and style, and calls to this engine: nothing else, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Browsers ask each time, and are told that they have it: after an upgrade nobody runs an old page before a new engine.
const CACHE: &str = "no-cache";

static PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

pub(crate) async fn page(call: Call) -> Result<HttpResponse, Problem> {
    static TAG: OnceLock<String> = OnceLock::new();
    Ok(file(&call, PAGE, "text/html; charset=utf-8", &TAG))
}

pub(crate) async fn style(call: Call) -> Result<HttpResponse, Problem> {
    static TAG: OnceLock<String> = OnceLock::new();
    Ok(file(&call, STYLE, "text/css; charset=utf-8", &TAG))
}

pub(crate) async fn script(call: Call) -> Result<HttpResponse, Problem> {
    static TAG: OnceLock<String> = OnceLock::new();
    Ok(file(&call, SCRIPT, "text/javascript; charset=utf-8", &TAG))
}

/// A file of the binary; its tag is a hash of its bytes.
fn file(call: &Call, text: &'static str, kind: &'static str, tag: &'static OnceLock<String>) -> HttpResponse {
    let tag = tag.get_or_init(|| {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        format!("\"{}\"", &hash[..16])
    });
    let known =
        call.request.headers().get(IF_NONE_MATCH).and_then(|header| header.to_str().ok()).unwrap_or("");
    let has_it = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = if has_it {
        HttpResponse::new(StatusCode::NOT_MODIFIED)
    } else {
        HttpResponse::new(StatusCode::OK).set_body(BoxBody::new(text))
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        PERMISSIONS_POLICY.clone(),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHE));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// Snapshots as they come, or one: with `once`, or where JSON is asked for and events are not.
pub(crate) async fn watch(call: Call) -> Result<HttpResponse, Problem> {
    let once = call.query()?.boolean("once")?;
    let accept = call.request.headers().get(ACCEPT).and_then(|header| header.to_str().ok()).unwrap_or("");
    let wants_json = accept.contains("application/json") && !accept.contains("text/event-stream");
    let is_head = call.request.method() == Method::HEAD;
    if !once.unwrap_or(wants_json) {
        return if is_head {
            Ok(streams::head())
        } else {
            Ok(streams::events(&call, call.door.console.open()?))
        };
    }
    if is_head {
        return Ok(json_reply(StatusCode::OK, Vec::new()));
    }
    let mut watching = call.door.console.open()?;
    let first = tokio::time::timeout_at(call.deadline.into(), watching.receiver().recv()).await;
    match first {
        Ok(Some(told)) => Ok(json_reply(StatusCode::OK, told.data.to_vec())),
        Ok(None) => Err(Refusal::Draining.into()),
        Err(_) => Err(Refusal::DeadlineExceeded.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the policy would refuse must not be in the page: a browser would only say so in its console.
    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        let page = PAGE.to_lowercase();
        for forbidden in ["<style", " style=", "javascript:", "http://", "https://", " onclick=", " onload="]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script src=\"/console/console.js\"").count()
        );
        for (label, text) in [("style", STYLE), ("script", SCRIPT)] {
            for forbidden in
                ["https://", "@import", "eval(", "innerHTML", "insertAdjacentHTML", "document.write"]
            {
                assert!(!text.contains(forbidden), "{label}: {forbidden}");
            }
        }
    }
}
