//! Replies: the engine's answers as status, headers and bytes.
//!
//! [`render`] is exhaustive over [`Answer`] and depends on nothing but the answer and the engine's own secrets, so
//! that a replayed key gets the first answer's bytes.

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderValue};
use doorbuster_engine::answer::{Answer, CheckoutResult};
use doorbuster_engine::payment::NextAction;
use serde::Serialize;

use crate::call::Call;
use crate::door::IDEMPOTENT_REPLAYED;
use crate::problem::Problem;
use crate::wire::from_engine;
use crate::wire::responses::CheckoutPending;
use doorbuster_actors::Engine;
use doorbuster_actors::{Reply, Verdict};

/// An answer ready to be sent.
struct Rendered {
    status: StatusCode,
    body: Vec<u8>,
    version: Option<u64>,
}

/// JSON of `value`.
pub(crate) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    // Plain data to memory cannot fail.
    let _ = serde_json::to_writer(&mut out, value);
    out
}

/// A JSON reply.
pub(crate) fn json_reply(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    let mut response = HttpResponse::new(status).set_body(BoxBody::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON reply with status 200.
pub(crate) fn ok<T: Serialize>(value: &T) -> HttpResponse {
    json_reply(StatusCode::OK, json(value))
}

/// A reply with a version: its `ETag`, and 304 where the caller has it already.
pub(crate) fn versioned(call: &Call, version: u64, body: impl FnOnce() -> Vec<u8>) -> HttpResponse {
    let mut response = if call.has_version(version) {
        HttpResponse::new(StatusCode::NOT_MODIFIED)
    } else {
        json_reply(StatusCode::OK, body())
    };
    response.headers_mut().insert(ETAG, tag(version));
    response
}

fn tag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The reply to a call that changed something (or repeats the answer to one).
pub(crate) fn changed(call: &Call, verdict: Verdict, success: StatusCode) -> Result<HttpResponse, Problem> {
    let Reply { answer, replayed } = verdict?;
    let Rendered { status, body, version } = render(call.engine(), &answer, success);
    let mut response =
        if status == StatusCode::NO_CONTENT { HttpResponse::new(status) } else { json_reply(status, body) };
    let headers = response.headers_mut();
    if let Some(version) = version {
        headers.insert(ETAG, tag(version));
    }
    if replayed {
        headers.insert(IDEMPOTENT_REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The reply to a call that reads something with a version.
pub(crate) fn read(call: &Call, verdict: Verdict) -> Result<HttpResponse, Problem> {
    let Reply { answer, .. } = verdict?;
    let Rendered { status, body, version } = render(call.engine(), &answer, StatusCode::OK);
    match version {
        Some(version) => Ok(versioned(call, version, || body)),
        None => Ok(json_reply(status, body)),
    }
}

/// An answer as status, bytes and version. `success` is the status where the answer itself does not say another.
fn render(engine: &Engine, answer: &Answer, success: StatusCode) -> Rendered {
    let plain = |body: Vec<u8>| Rendered { status: success, body, version: None };
    match answer {
        Answer::Reservation(record) => {
            let mut body = Vec::with_capacity(384);
            from_engine::write_reservation(&mut body, record, &engine.receipt(record));
            plain(body)
        }
        Answer::Stock(stock) => {
            Rendered { version: Some(stock.version), ..plain(json(&from_engine::stock(stock))) }
        }
        Answer::SkuDefined { created, stock } => Rendered {
            status: if *created { StatusCode::CREATED } else { StatusCode::OK },
            body: json(&from_engine::stock(stock)),
            version: Some(stock.version),
        },
        Answer::CartCreated(cart) => Rendered {
            status: StatusCode::CREATED,
            body: json(&from_engine::cart(cart, Some(engine.cart_token(cart.id)))),
            version: Some(cart.version),
        },
        Answer::Cart(cart) => {
            Rendered { version: Some(cart.version), ..plain(json(&from_engine::cart(cart, None))) }
        }
        // Said to a provider, whose webhook is answered by its route.
        Answer::Noticed => plain(json(&serde_json::json!({ "received": true }))),
        Answer::CartDeleted => Rendered { status: StatusCode::NO_CONTENT, body: Vec::new(), version: None },
        Answer::Checkout(result, order) => {
            let pending = |status, client_secret, redirect_url| Rendered {
                status: StatusCode::ACCEPTED,
                body: json(&CheckoutPending {
                    status,
                    client_secret,
                    redirect_url,
                    order: from_engine::order(order),
                }),
                version: Some(order.version),
            };
            match result {
                CheckoutResult::Placed => {
                    Rendered { version: Some(order.version), ..plain(json(&from_engine::order(order))) }
                }
                CheckoutResult::ActionRequired { action: NextAction::ClientSecret(secret) } => {
                    pending("requires_action", Some(secret.clone()), None)
                }
                CheckoutResult::ActionRequired { action: NextAction::Redirect(url) } => {
                    pending("requires_action", None, Some(url.clone()))
                }
                CheckoutResult::PaymentPending => pending("payment_pending", None, None),
            }
        }
        Answer::Order(order) => {
            Rendered { version: Some(order.version), ..plain(json(&from_engine::order(order))) }
        }
        Answer::Refund(refund) => plain(json(&from_engine::refund(refund))),
        Answer::Fulfilment(fulfilment) => plain(json(&from_engine::fulfilment(fulfilment))),
    }
}
