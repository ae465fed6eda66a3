//! The front door: faults, access token, and who serves which path.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use crate::account::{Account, Done, Failure, Kind, Payment, Step, malformed, missing};
use crate::faults::{Faults, Strike};
use crate::server::{Line, Shared, State};
use crate::{show, webhooks};

type Parameters = HashMap<String, String>;

/// Every request.
pub(crate) async fn answer(request: HttpRequest, body: Bytes, shared: Data<Arc<Shared>>) -> HttpResponse {
    let path = request.path().to_owned();
    let parameters =
        Query::<Parameters>::from_query(request.query_string()).map(Query::into_inner).unwrap_or_default();
    if !path.starts_with("/v1/") && !path.starts_with("/v2/") {
        return people(&shared, request.method(), &path, &parameters, &body);
    }
    let strike = {
        let state = &mut *shared.state();
        state.asked.push(format!("{} {path}", request.method()));
        state.weather.strike(&path)
    };
    let lost = || {
        if let Some(line) = request.conn_data::<Line>() {
            line.cut();
        }
        HttpResponse::InternalServerError().finish()
    };
    let said = |status: u16| {
        let name = match status {
            400 => "INVALID_REQUEST",
            429 => "RATE_LIMIT_REACHED",
            _ => "INTERNAL_SERVER_ERROR",
        };
        reply(status, &json!({"name": name, "message": "by request", "debug_id": "standin"}))
    };
    match strike {
        Strike::CutBefore => return lost(),
        Strike::Instead(status) => return said(status),
        Strike::No | Strike::FailedAfter | Strike::CutAfter | Strike::Hangs => {}
    }
    let response = if path == "/v1/oauth2/token" {
        token(&shared, &request, &body)
    } else if is_known(&shared, &request) {
        let key = header(&request, "paypal-request-id");
        let done = route(&mut shared.state(), request.method(), &path, &parameters, key, &body);
        shared.news.notify_one();
        match done {
            Ok((status, Value::Null)) => HttpResponse::build(code(status)).finish(),
            Ok((status, body)) => reply(status, &body),
            Err(failure) => reply(failure.status, &show::failure(&failure)),
        }
    } else {
        reply(
            401,
            &json!({"error": "invalid_token", "error_description": "Token signature verification failed"}),
        )
    };
    match strike {
        Strike::Hangs => std::future::pending().await,
        Strike::CutAfter => lost(),
        Strike::FailedAfter => said(500),
        Strike::No | Strike::CutBefore | Strike::Instead(_) => response,
    }
}

/// Who serves which path.
fn route(
    state: &mut State,
    method: &Method,
    path: &str,
    parameters: &Parameters,
    key: Option<&str>,
    body: &Bytes,
) -> Result<(u16, Value), Failure> {
    let account = &mut state.account;
    let text = std::str::from_utf8(body).map_err(|_| malformed("MALFORMED_REQUEST_JSON"))?;
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let order = |account: &Account, done: Done| {
        let (id, new) = done?;
        Ok((if new { 201 } else { 200 }, show::order(account, account.order(&id)?)))
    };
    let payment = |account: &Account, kind: Kind, done: Done| {
        let (id, new) = done?;
        Ok((if new { 201 } else { 200 }, show::payment(account, account.payment(kind, &id)?)))
    };
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["v2", "checkout", "orders"]) => {
            if key.is_none() && text.contains("payment_source") {
                return Err(malformed("PAYPAL_REQUEST_ID_REQUIRED"));
            }
            let done = account.once(Step::Create, path, key, text, |account| account.create(text));
            order(account, done)
        }
        ("GET", ["v2", "checkout", "orders", id]) => order(account, Ok(((*id).to_owned(), false))),
        ("PATCH", ["v2", "checkout", "orders", id]) => {
            account.once(Step::Patch, path, key, text, |account| account.patch(id, text))?;
            Ok((204, Value::Null))
        }
        ("POST", ["v2", "checkout", "orders", id, "authorize"]) => {
            let done = account.once(Step::Authorize, path, key, text, |account| account.authorize(id));
            order(account, done)
        }
        ("GET", ["v2", "payments", "authorizations", id]) => {
            payment(account, Kind::Authorization, Ok(((*id).to_owned(), false)))
        }
        ("GET", ["v2", "payments", "captures", id]) => {
            payment(account, Kind::Capture, Ok(((*id).to_owned(), false)))
        }
        ("POST", ["v2", "payments", "authorizations", id, "capture"]) => {
            let done = account.once(Step::Capture, path, key, text, |account| account.capture(id, text));
            payment(account, Kind::Capture, done)
        }
        ("POST", ["v2", "payments", "authorizations", id, "void"]) => {
            let done = account.once(Step::Void, path, key, text, |account| account.void(id));
            payment(account, Kind::Authorization, done)
        }
        ("POST", ["v2", "payments", "captures", id, "refund"]) => {
            let done = account.once(Step::Refund, path, key, text, |account| account.refund(id, text));
            payment(account, Kind::Refund, done)
        }
        ("POST", ["v1", "notifications", "verify-webhook-signature"]) => match webhooks::verify(body) {
            Some(ours) => Ok((200, json!({"verification_status": if ours { "SUCCESS" } else { "FAILURE" }}))),
            None => Err(malformed("VALIDATION_ERROR")),
        },
        ("GET", ["v1", "reporting", "transactions"]) => transactions(account, parameters),
        (_, _) => Err(missing()),
    }
}

/// The transaction search: authorizations, captures and refunds of a span, oldest first.
fn transactions(account: &Account, parameters: &Parameters) -> Result<(u16, Value), Failure> {
    let time = |name: &str| -> Result<jiff::Timestamp, Failure> {
        let said = parameters.get(name).map(String::as_str).unwrap_or_default();
        said.parse().map_err(|_| malformed("INVALID_PARAMETER_VALUE"))
    };
    let number = |name: &str, usual: usize| -> usize {
        parameters.get(name).and_then(|said| said.parse().ok()).unwrap_or(usual).max(1)
    };
    let (start, end) = (time("start_date")?, time("end_date")?);
    if end.as_second() - start.as_second() > 31 * 24 * 60 * 60 {
        return Err(malformed("INVALID_DATE_RANGE"));
    }
    let all = parameters.get("balance_affecting_records_only").is_some_and(|said| said == "N");
    let within = |payment: &&Payment| {
        let made: Option<jiff::Timestamp> = payment.created.parse().ok();
        made.is_some_and(|made| start <= made && made <= end) && (all || payment.kind != Kind::Authorization)
    };
    let found: Vec<&Payment> = account.payments.values().filter(within).collect();
    let (size, page) = (number("page_size", 100).min(500), number("page", 1));
    let entry = |payment: &&Payment| {
        let code = match payment.kind {
            Kind::Authorization => "T1300",
            Kind::Capture => "T0006",
            Kind::Refund => "T1107",
        };
        json!({"transaction_info": {
            "transaction_id": payment.id,
            "paypal_reference_id": payment.parent,
            "transaction_event_code": code,
            "transaction_initiation_date": payment.created,
            "transaction_amount": payment.amount,
            "custom_field": payment.custom_id,
        }})
    };
    let shown: Vec<Value> = found.iter().skip((page - 1) * size).take(size).map(entry).collect();
    Ok((
        200,
        json!({
            "transaction_details": shown,
            "page": page,
            "total_items": found.len(),
            "total_pages": found.len().div_ceil(size),
        }),
    ))
}

/// An access token for who knows the secret.
fn token(shared: &Shared, request: &HttpRequest, body: &Bytes) -> HttpResponse {
    let wanted =
        format!("Basic {}", base64(format!("{}:{}", shared.client_id, shared.client_secret).as_bytes()));
    if header(request, "authorization") != Some(wanted.as_str()) {
        return reply(
            401,
            &json!({"error": "invalid_client", "error_description": "Client Authentication failed"}),
        );
    }
    if body.as_ref() != b"grant_type=client_credentials" {
        return reply(400, &json!({"error": "unsupported_grant_type"}));
    }
    let state = &mut *shared.state();
    let token = format!("A21AA{}", state.account.id());
    state.tokens.insert(token.clone());
    reply(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": shared.token_lasts_s}))
}

fn is_known(shared: &Shared, request: &HttpRequest) -> bool {
    let token = header(request, "authorization").and_then(|said| said.strip_prefix("Bearer "));
    token.is_some_and(|token| shared.state().tokens.contains(token))
}

/// What people and demonstrations see: the page on which a shopper approves, faults, books.
fn people(
    shared: &Shared,
    method: &Method,
    path: &str,
    parameters: &Parameters,
    body: &Bytes,
) -> HttpResponse {
    match (method.as_str(), path) {
        (_, "/checkoutnow") => shop(shared, method, parameters),
        ("GET", "/_stand-in") => reply(200, &json!({"asked": shared.state().asked.len()})),
        ("GET", "/_stand-in/ledger") => HttpResponse::Ok().json(shared.state().account.ledger()),
        ("GET", "/_stand-in/faults") => HttpResponse::Ok().json(&shared.state().weather.faults),
        ("POST", "/_stand-in/faults") => {
            let faults = serde_json::from_slice::<Faults>(body).map_err(|error| error.to_string());
            match faults.and_then(|faults| shared.state().weather.set(faults)) {
                Ok(()) => HttpResponse::NoContent().finish(),
                Err(said) => reply(400, &json!({"message": said})),
            }
        }
        (_, _) => reply(404, &json!({"message": "the stand-in does not know this path"})),
    }
}

/// The page on which a shopper approves, and where its buttons lead.
fn shop(shared: &Shared, method: &Method, parameters: &Parameters) -> HttpResponse {
    let token = parameters.get("token").map(String::as_str).unwrap_or_default();
    let order = shared.state().account.order(token).cloned();
    let Ok(order) = order else { return reply(404, &json!({"message": "no such order"})) };
    if method != Method::POST {
        let form = |approve: bool, says: &str| {
            format!(
                "<form method=post action=\"?token={token}&approve={approve}\"><button>{says}</button></form>"
            )
        };
        let forms = format!("{}{}", form(true, "Pay now"), form(false, "Cancel"));
        let (value, currency) = (&order.amount.value, &order.amount.currency_code);
        let page = format!(
            "<!doctype html><title>PayPal</title><h1>PayPal (stand-in)</h1><p>{value} {currency}{forms}"
        );
        return HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page);
    }
    let pays = parameters.get("approve").is_some_and(|said| said == "true");
    let page = if pays { &order.return_url } else { &order.cancel_url };
    if pays {
        let approved = shared.state().account.approve(token);
        shared.news.notify_one();
        if let Err(said) = approved {
            return reply(409, &json!({"message": said}));
        }
    }
    if page.is_empty() {
        return reply(200, &json!({"approved": pays}));
    }
    let joint = if page.contains('?') { '&' } else { '?' };
    let payer = if pays { "&PayerID=STANDINPAYER" } else { "" };
    HttpResponse::SeeOther()
        .insert_header(("Location", format!("{page}{joint}token={token}{payer}")))
        .finish()
}

fn header<'request>(request: &'request HttpRequest, name: &str) -> Option<&'request str> {
    request.headers().get(name)?.to_str().ok()
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn reply(status: u16, body: &Value) -> HttpResponse {
    let mut response = HttpResponse::build(code(status));
    response.insert_header(("PayPal-Debug-Id", "standin")).json(body)
}

/// Base 64, as `Basic` wants it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut bits = 0_u32;
        for index in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(index).copied().unwrap_or(0));
        }
        for index in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * index) & 0x3F).unwrap_or_default();
            text.push(if index <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}
