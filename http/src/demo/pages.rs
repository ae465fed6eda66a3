//! The page: files of the binary, served as they are, with nothing inline and nothing from elsewhere.

use std::sync::OnceLock;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
};
use actix_web::{HttpRequest, HttpResponse};

/// Script, style and calls from here alone; no frames, no forms, no base.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file.
pub(super) struct Page {
    /// Where it is found.
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
    tag: OnceLock<HeaderValue>,
}

macro_rules! pages {
    ($($path:literal, $kind:literal, $file:literal;)+) => {
        /// Every file.
        pub(super) static ALL: [Page; [$($path),+].len()] =
            [$(Page { path: $path, kind: $kind, text: include_str!($file), tag: OnceLock::new() },)+];
    };
}

pages! {
    "/demo", "text/html; charset=utf-8", "demo.html";
    "/demo/demo.css", "text/css; charset=utf-8", "demo.css";
    "/demo/demo.js", "text/javascript; charset=utf-8", "demo.js";
    "/demo/calls.js", "text/javascript; charset=utf-8", "calls.js";
    "/demo/stream.js", "text/javascript; charset=utf-8", "stream.js";
    "/demo/view.js", "text/javascript; charset=utf-8", "view.js";
    "/demo/icon.svg", "image/svg+xml", "icon.svg";
}

/// The file, or 304 to who has it already. It is asked about every time: another binary may have another.
pub(super) fn reply(page: &'static Page, request: &HttpRequest) -> HttpResponse {
    let tag = page.tag.get_or_init(|| {
        let hash = blake3::hash(page.text.as_bytes()).to_hex();
        HeaderValue::from_str(&format!("\"{}\"", &hash[..32])).unwrap_or(HeaderValue::from_static("\"\""))
    });
    let known = request.headers().get(IF_NONE_MATCH).and_then(|header| header.to_str().ok()).unwrap_or("");
    let is_known = known.split(',').any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/").as_bytes() == tag.as_bytes()
    });
    let mut response = if is_known {
        HttpResponse::new(StatusCode::NOT_MODIFIED)
    } else {
        HttpResponse::new(StatusCode::OK).set_body(BoxBody::new(page.text))
    };
    let headers = response.headers_mut();
    if !is_known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
    }
    headers.insert(ETAG, tag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
