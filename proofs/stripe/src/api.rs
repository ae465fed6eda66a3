//! The front door: what every request under `/v1` passes, in the order in which Stripe looks: key, rate, idempotency
//! key, parameters, work. Faults stand between.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use crate::account::API_VERSION;
use crate::account::Account;
use crate::failure::Failure;
use crate::faults::{Outage, Strike};
use crate::form::Form;
use crate::keys::{Claim, Kept};
use crate::server::Line;
use crate::shared::Shared;

/// One request as it was read.
struct Asked {
    id: String,
    method: Method,
    path: String,
    query: String,
    body: Bytes,
    key: Option<String>,
    version: String,
}

/// What is decided of a request when it comes, in one turn: what changes later does not concern it.
struct Arrival {
    hangs: bool,
    refused: Option<Failure>,
    strike: Strike,
}

/// What is answered.
struct Reply {
    status: u16,
    body: String,
    /// The request that was answered first, where this one repeats it.
    replays: Option<String>,
    /// Whether nobody is to hear it.
    lost: bool,
}

/// Every request under `/v1`.
pub(crate) async fn answer(request: HttpRequest, body: Bytes, shared: Data<Arc<Shared>>) -> HttpResponse {
    let shared = Arc::clone(&shared);
    let headers = request.headers();
    let (id, arrival) = arrive(&shared, request.path(), check_key(headers, &shared.key));
    let asked = Asked {
        id,
        method: request.method().clone(),
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        body,
        key: header(headers, "idempotency-key").map(str::to_owned),
        version: header(headers, "stripe-version").unwrap_or(API_VERSION).to_owned(),
    };
    // The work goes on where the caller has left: Stripe does not notice either.
    let (id, key, version) = (asked.id.clone(), asked.key.clone(), asked.version.clone());
    let work = actix_web::rt::spawn(carry_out(Arc::clone(&shared), asked, arrival));
    let reply = work.await.ok().flatten().filter(|reply| !reply.lost);
    let Some(reply) = reply else {
        if let Some(line) = request.conn_data::<Line>() {
            line.cut();
        }
        return HttpResponse::InternalServerError().finish();
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response
        .insert_header(("Content-Type", "application/json"))
        .insert_header(("Request-Id", id))
        .insert_header(("Stripe-Version", version));
    if let Some(key) = key {
        response.insert_header(("Idempotency-Key", key));
    }
    if let Some(first) = reply.replays {
        response.insert_header(("Idempotent-Replayed", "true")).insert_header(("Original-Request", first));
    }
    if reply.status == 409 {
        response.insert_header(("Stripe-Should-Retry", "true"));
    }
    response.body(reply.body)
}

/// Counts a request, names it, and decides what is to go wrong with it.
fn arrive(shared: &Shared, path: &str, allowed: Result<(), Failure>) -> (String, Arrival) {
    let state = &mut *shared.state();
    state.figures.requests += 1;
    state.figures.under_way += 1;
    let mut arrival = Arrival {
        hangs: state.weather.faults.outage == Outage::Hanging,
        refused: allowed.err(),
        strike: Strike::default(),
    };
    if !arrival.hangs && arrival.refused.is_none() {
        if state.weather.is_too_many(state.account.now_ms) {
            arrival.refused = Some(too_many(state.account.livemode));
        } else {
            arrival.strike = state.weather.strike(path);
        }
    }
    (state.request_id(), arrival)
}

/// Carries a request out; `None` where an outage swallowed it.
async fn carry_out(shared: Arc<Shared>, asked: Asked, arrival: Arrival) -> Option<Reply> {
    let reply = through_the_weather(&shared, &asked, arrival).await;
    let state = &mut *shared.state();
    state.figures.under_way -= 1;
    if let Some(reply) = &reply {
        state.figures.replayed += u64::from(reply.replays.is_some());
        state.figures.replies_lost += u64::from(reply.lost);
        if !reply.lost {
            *state.figures.answers.entry(reply.status).or_default() += 1;
        }
    }
    reply
}

async fn through_the_weather(shared: &Shared, asked: &Asked, arrival: Arrival) -> Option<Reply> {
    if arrival.hangs {
        let mut outage = shared.outage.subscribe();
        let _over = outage.wait_for(|outage| *outage != Outage::Hanging).await;
        return None;
    }
    if let Some(failure) = arrival.refused {
        return Some(refusal(&failure));
    }
    let strike = arrival.strike;
    if strike.unavailable {
        return Some(refusal(&Failure::fault(503, false)));
    }
    let form = match read(asked) {
        Ok(form) => form,
        Err(failure) => return Some(refusal(&failure)),
    };
    let claimed = match claim(shared, asked, &form) {
        Ok(Claim::Run) => asked.method == Method::POST && asked.key.is_some(),
        Ok(Claim::Replay(kept)) => {
            let lost = strike.lost_reply;
            return Some(Reply { status: kept.status, body: kept.body, replays: Some(kept.request), lost });
        }
        Err(failure) => return Some(refusal(&failure)),
    };
    let due_ms = shared.clock.now_ms().saturating_add(strike.delay_ms);
    if strike.delay_ms > 0 && strike.delay_before_work {
        shared.clock.until(due_ms).await;
    }
    let reply = work(shared, asked, &form, strike, claimed);
    if strike.delay_ms > 0 && !strike.delay_before_work {
        shared.clock.until(due_ms).await;
    }
    Some(reply)
}

/// Does the work in one turn, and keeps the answer under the key if anything was begun.
fn work(shared: &Shared, asked: &Asked, form: &Form, strike: Strike, claimed: bool) -> Reply {
    let state = &mut *shared.state();
    state.account.request = Some((asked.id.clone(), asked.key.clone()));
    state.account.refuse_next = strike.decline;
    let outcome = if strike.failed_before {
        Err(Failure::fault(500, true))
    } else {
        let done = route(&mut state.account, &asked.method, &asked.path, form);
        if strike.failed_after { Err(Failure::fault(500, true)) } else { done }
    };
    state.account.refuse_next = false;
    if state.announce() {
        shared.news.notify_one();
    }
    let began = outcome.as_ref().map_or_else(|failure| failure.began, |_| true);
    let mut reply = match outcome {
        Ok(body) => Reply { status: 200, body: body.to_string(), replays: None, lost: false },
        Err(failure) => refusal(&failure),
    };
    if let Some(key) = asked.key.as_deref().filter(|_| claimed) {
        let (status, body, request) = (reply.status, reply.body.clone(), asked.id.clone());
        state.keys.finish(key, began.then_some(Kept { status, body, request }));
    }
    reply.lost = strike.lost_reply;
    reply
}

/// What is asked for, from the body or the query.
fn read(asked: &Asked) -> Result<Form, Failure> {
    if asked.method == Method::POST { Form::parse(&asked.body) } else { Form::parse(asked.query.as_bytes()) }
}

/// Keys count on what changes something.
fn claim(shared: &Shared, asked: &Asked, form: &Form) -> Result<Claim, Failure> {
    let Some(key) = asked.key.as_deref().filter(|_| asked.method == Method::POST) else {
        return Ok(Claim::Run);
    };
    let state = &mut *shared.state();
    let now_ms = state.account.now_ms;
    state.keys.claim(key, &asked.path, &form.fingerprint(), now_ms)
}

/// Who serves which path.
fn route(account: &mut Account, method: &Method, path: &str, form: &Form) -> Result<Value, Failure> {
    if method == Method::POST {
        let refund = path == "/v1/refunds";
        let known: &[&str] = if refund { &["charge", "payment_intent"] } else { &["latest_charge"] };
        Account::check_expand(form, known)?;
    }
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["payment_intents"]) => {
            let id = account.create_intent(form)?;
            account.show_intent(&id, form)
        }
        ("GET", ["payment_intents"]) => account.list_intents(form),
        ("GET", ["payment_intents", "search"]) => account.search_intents(form),
        ("GET", ["payment_intents", id]) => {
            form.only(&["expand"])?;
            account.show_intent(id, form)
        }
        ("POST", ["payment_intents", id]) => {
            account.update_intent(id, form)?;
            account.show_intent(id, form)
        }
        ("POST", ["payment_intents", id, "confirm"]) => {
            account.confirm_intent(id, form)?;
            account.show_intent(id, form)
        }
        ("POST", ["payment_intents", id, "capture"]) => {
            account.capture_intent(id, form)?;
            account.show_intent(id, form)
        }
        ("POST", ["payment_intents", id, "cancel"]) => {
            account.cancel_intent(id, form)?;
            account.show_intent(id, form)
        }
        ("POST", ["refunds"]) => {
            let id = account.create_refund(form)?;
            account.show_refund(&id, form)
        }
        ("GET", ["refunds"]) => account.list_refunds(form),
        ("GET", ["refunds", id]) => {
            form.only(&["expand"])?;
            account.show_refund(id, form)
        }
        ("GET", ["charges"]) => account.list_charges(form),
        ("GET", ["charges", id]) => account.show_charge(id, form),
        ("GET", ["events"]) => account.list_events(form),
        ("GET", ["events", id]) => account.show_event(id),
        (method, _) => {
            let said = format!("Unrecognized request URL ({method}: {path}). The stand-in does not know it.");
            Err(Failure::new(404, "invalid_request_error", said))
        }
    }
}

fn refusal(failure: &Failure) -> Reply {
    Reply { status: failure.status, body: failure.body().to_string(), replays: None, lost: false }
}

fn too_many(livemode: bool) -> Failure {
    let mode = if livemode { "Request" } else { "Testmode request" };
    let said = format!(
        "{mode} rate limit exceeded. You can learn more about rate limits here: https://docs.stripe.com/rate-limits."
    );
    Failure { status: 429, ..Failure::coded("", "rate_limit", said) }
}

/// The secret key, as `Bearer` or as the name of `Basic`.
fn check_key(headers: &HeaderMap, key: &str) -> Result<(), Failure> {
    let said = header(headers, "authorization").unwrap_or_default();
    let given = match said.split_once(' ') {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => Some(given.trim().to_owned()),
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("basic") => name_of_basic(given.trim()),
        Some(_) | None => None,
    };
    let refused = |said: String| Err(Failure::new(401, "invalid_request_error", said));
    match given {
        Some(given) if given == key => Ok(()),
        Some(given) if !given.is_empty() => {
            let shown: String = given.chars().take(8).collect();
            refused(format!("Invalid API Key provided: {shown}****"))
        }
        Some(_) | None => refused(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using \
             Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
                .to_owned(),
        ),
    }
}

/// The name before the colon in `Basic`'s base 64.
fn name_of_basic(given: &str) -> Option<String> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, vec![]);
    for byte in given.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    Some(text.split(':').next().unwrap_or_default().to_owned())
}

fn header<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers str> {
    headers.get(name)?.to_str().ok()
}
