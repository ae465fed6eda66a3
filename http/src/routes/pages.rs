//! `/openapi.json`, `/docs` and `/problems/{code}`: everything for reading, nothing fetched from elsewhere.

use std::fmt::Write;
use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};

use crate::call::Call;
use crate::problem::{Code, Problem};
use crate::reply::json_reply;

/// The reference page: one file, its script and style inside.
const DOCS: &str = include_str!("../docs.html");

/// Stands for the nonce in a page.
const NONCE: &str = "__NONCE__";

/// Pages change only with the binary.
const PAGE_CACHE: &str = "public, max-age=300";

pub(crate) async fn openapi(_call: Call) -> Result<HttpResponse, Problem> {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(crate::openapi::text);
    let mut response = json_reply(StatusCode::OK, text.as_bytes().to_vec());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(PAGE_CACHE));
    Ok(response)
}

pub(crate) async fn docs(_call: Call) -> Result<HttpResponse, Problem> {
    Ok(html(DOCS))
}

pub(crate) async fn problem(call: Call) -> Result<HttpResponse, Problem> {
    let name = call.segment("code")?;
    let code = Code::ALL.iter().copied().find(|code| code.page().strip_prefix("/problems/") == Some(&name));
    let code = code.ok_or_else(|| Problem::not_found("no such kind of problem"))?;
    Ok(html(&problem_page(code)))
}

/// A page whose own inline script and style run, by a nonce made for this reply; nothing else, and no framing.
fn html(page: &str) -> HttpResponse {
    let mut random = [0; 16];
    // Without randomness the page comes without script and style rather than with ones that a stranger could name.
    let nonce = getrandom::fill(&mut random)
        .map(|()| format!("{:032x}", u128::from_le_bytes(random)))
        .unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = HttpResponse::new(StatusCode::OK).set_body(BoxBody::new(page.replace(NONCE, &nonce)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn problem_page(code: Code) -> String {
    let retry = if code.retryable() {
        "The same request may succeed later."
    } else {
        "The same request will fail again."
    };
    let mut others = String::new();
    for other in Code::ALL {
        let (page, name, status) = (other.page(), other.wire(), other.status().as_u16());
        // Writing to a text cannot fail.
        let _ = write!(others, "<li><a href=\"{page}\">{name}</a> {status}</li>");
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name}</title><style nonce=\"{NONCE}\">body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem;\
         color-scheme:light dark}}code{{font-family:ui-monospace,monospace}}ul{{columns:2}}</style>\
         <h1><code>{name}</code></h1><p>{title}. HTTP {status}.</p><h2>What to do</h2><p>{remedy}</p><p>{retry}</p>\
         <h2>Every problem</h2><ul>{others}</ul><p><a href=\"/docs\">Reference</a></p></html>",
        name = code.wire(),
        title = code.title(),
        status = code.status().as_u16(),
        remedy = code.remedy(),
    )
}
