//! The front door: what every request passes on its way in and out.
//!
//! [`observed`] wraps each handler: it names the request, checks access, catches a panic, turns problems into replies,
//! sets the headers that every reply has, counts, and logs. A handler sees a [`Call`] and answers a reply or a
//! [`Problem`]. Plain generic functions rather than middleware: a middleware would box a future for every request.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, FORWARDED, HeaderName, HeaderValue, VIA, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use doorbuster_engine::identity::Timestamp;
use doorbuster_postgres::history::History;
use futures_util::FutureExt;

use crate::admission::{self, Overload};
use crate::body;
use crate::call::Call;
use crate::console::{Console, Facts};
use crate::demo::{Demo, DemoOptions};
use crate::headers;
use crate::limits::{Decision, RateLimits};
use crate::line;
use crate::live::{Live, LiveOptions};
use crate::metrics::Meters;
use crate::problem::{self, Code, Problem};
use crate::routes::table::{self, Access, Body, Key, Route};
use doorbuster_actors::{Engine, Readiness};
use doorbuster_postgres::rescue::status::Status;

/// Header that names a request, for support.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Header that names an intention, so that a retry of it has one effect.
pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Header that tells that an answer is an earlier one.
pub(crate) static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Header that carries a cart's token.
pub(crate) static CART_TOKEN: HeaderName = HeaderName::from_static("cart-token");
/// Header that tells on every reply what acknowledgements mean, where that is not `local`.
static DURABILITY: HeaderName = HeaderName::from_static("doorbuster-durability");
/// Headers that a proxy adds, which shares its connections among shoppers.
static SHARED: [HeaderName; 3] = [VIA, FORWARDED, HeaderName::from_static("x-forwarded-for")];
/// W3C trace context.
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Longest request id taken from a caller: it goes into every log line of the request.
const REQUEST_ID_MAX: usize = 128;

/// What the front door needs to know beside the engine.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// The admin key.
    pub admin_key: String,
    /// Payment providers that may be chosen.
    pub providers: Vec<String>,
    /// What an acknowledgement means: `local`, `replicated` or `memory`.
    pub durability: &'static str,
    /// How long a request may take, in milliseconds. Beyond it the caller is told that the outcome is unknown.
    pub request_deadline_ms: u64,
    /// How long a body may take to arrive, in milliseconds; of a stream: how long a pause may last.
    pub body_timeout_ms: u64,
    /// How late a worker may be, in milliseconds, before new requests are refused in part. With less, a busy neighbour on
    /// the machine passes for overload; with more, everybody waits longer before anybody is refused.
    pub lag_target_ms: u64,
    /// Finds orders in Postgres, where there is one.
    pub history: Option<History>,
    /// How often strangers may ask; absent: as often as they like.
    pub limits: Option<Arc<RateLimits>>,
    /// Origins whose pages may open a WebSocket: those of the CORS list.
    pub origins: Vec<String>,
    /// Bounds of live streams.
    pub live: LiveOptions,
    /// The rescue copy, where answers wait for it.
    pub replication: Option<Status>,
    /// The demo shop at `/demo`; absent: there is none.
    pub demo: Option<DemoOptions>,
    /// Lines of one import in work at a time. Fewer would leave the disk idle between flushes.
    pub import_in_flight: usize,
}

impl Default for DoorOptions {
    fn default() -> Self {
        Self {
            admin_key: String::new(),
            providers: Vec::new(),
            durability: "local",
            request_deadline_ms: 10_000,
            body_timeout_ms: 10_000,
            lag_target_ms: u64::try_from(admission::TARGET.as_millis()).unwrap_or(u64::MAX),
            history: None,
            limits: None,
            origins: Vec::new(),
            live: LiveOptions::default(),
            replication: None,
            demo: None,
            import_in_flight: 1_024,
        }
    }
}

/// Shared by every worker.
pub struct FrontDoor {
    /// The engine behind the door.
    pub(crate) engine: Engine,
    /// As configured.
    pub(crate) options: DoorOptions,
    /// Counters and timers of every route.
    pub(crate) meters: Meters,
    /// When it was made.
    pub(crate) started_at: Timestamp,
    admin_key: blake3::Hash,
    /// First part of every request id made here, so that ids of different runs differ.
    run: u64,
    requests: AtomicU64,
    /// Requests refused for want of time, by all workers.
    pub(crate) refused: AtomicU64,
    logged: LogBudget,
    shed: metrics::Counter,
    /// Who watches what.
    pub(crate) live: Live,
    /// Who watches the engine.
    pub(crate) console: Console,
    /// The demo shop, where there is one.
    pub(crate) demo: Option<Demo>,
}

impl FrontDoor {
    /// A door before `engine`.
    pub fn new(engine: Engine, options: DoorOptions) -> Self {
        let admin_key = blake3::hash(options.admin_key.as_bytes());
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let started_at = Timestamp(u64::try_from(now_ms).unwrap_or(0));
        let mut random = [0; 8];
        // Without randomness, ids of two runs differ by their starting time.
        let run = getrandom::fill(&mut random).map_or(started_at.0, |()| u64::from_le_bytes(random));
        Self {
            live: Live::new(engine.clone(), options.live),
            console: Console::new(engine.clone(), Facts { durability: options.durability, started_at }),
            demo: options.demo.map(|options| Demo::new(engine.clone(), options)),
            engine,
            options,
            meters: Meters::new(),
            started_at,
            admin_key,
            run,
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            logged: LogBudget::default(),
            shed: metrics::counter!("doorbuster_shed_total", "reason" => "late"),
        }
    }

    /// Whether `key` is the admin key; takes the same time for every wrong one.
    fn is_admin_key(&self, key: &[u8]) -> bool {
        // Comparing hashes of one length in constant time leaks neither content nor length.
        !self.options.admin_key.is_empty() && blake3::hash(key) == self.admin_key
    }

    /// The reply to a request that this worker has no time for.
    fn refuse(&self, request: &HttpRequest, request_id: &HeaderValue, overload: Overload) -> HttpResponse {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.shed.increment(1);
        let draining = self.engine.readiness() == Readiness::Draining;
        // Behind a proxy it is not the refused who would wait but whoever is sent over this connection next.
        if !draining && !SHARED.iter().any(|name| request.headers().contains_key(name)) {
            line::rest(request, overload.rest);
        }
        let mut response =
            problem::overloaded(overload.retry_after_ms, request_id.to_str().unwrap_or(""), request.path());
        if draining {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }

    /// Says on a reply what no caller may overlook: that promises are less or more than usual, and that the end is near.
    pub(crate) fn mark(&self, response: &mut HttpResponse) {
        if self.options.durability != "local" {
            response
                .headers_mut()
                .insert(DURABILITY.clone(), HeaderValue::from_static(self.options.durability));
        }
        if self.engine.readiness() == Readiness::Draining {
            // A connection kept now would be cut under some later request, whose caller could not tell what became of it.
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
    }

    pub(crate) fn request_id(&self, request: &HttpRequest) -> HeaderValue {
        if let Some(given) = request.headers().get(&REQUEST_ID)
            && (1..=REQUEST_ID_MAX).contains(&given.len())
            && given.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
        {
            return given.clone();
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut digits = [0; 24];
        let (run, count) = digits.split_at_mut(16);
        hexadecimal(run, self.run);
        hexadecimal(count, number);
        HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

/// Fills `out` with the last hexadecimal digits of `value`: one of these is made for each request.
fn hexadecimal(out: &mut [u8], mut value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for place in out.iter_mut().rev() {
        // Four bits index sixteen digits.
        #[allow(clippy::cast_possible_truncation)]
        let digit = DIGITS[(value & 15) as usize];
        *place = digit;
        value >>= 4;
    }
}

/// Runs `handler` for one request of `route`, from head to reply.
pub(crate) async fn observed<F, Fut>(
    route: usize,
    request: HttpRequest,
    mut payload: web::Payload,
    handler: F,
) -> HttpResponse
where
    F: FnOnce(Call) -> Fut,
    Fut: Future<Output = Result<HttpResponse, Problem>>,
{
    let started = Instant::now();
    let Some(door) = request.app_data::<web::Data<FrontDoor>>().cloned() else {
        return HttpResponse::InternalServerError().finish();
    };
    let stale = line::taken_up(&request);
    let request_id = door.request_id(&request);
    let description = &table::ROUTES[route];
    if let Some(overload) = admission::refusal(description.standing, stale) {
        // Nothing but the head was looked at: no key is claimed, nothing begun (law 4).
        body::discard(&mut payload).await;
        let response = door.refuse(&request, &request_id, overload);
        let took = started.elapsed();
        door.meters.record(route, response.status(), took);
        door.console.traffic.refused(route, Code::Overloaded);
        door.console.traffic.answered(route, took);
        line::replied(&request);
        return dressed(response, request_id);
    }
    let mut decision = None;
    let mut admitted = admit(&request, description, &door);
    if let Some(limits) = &door.options.limits
        && !matches!(admitted, Ok(true))
    {
        // A wrong admin key counts too, so that none can be guessed by trying.
        let (counted, problem) = limited(limits, &request, route).await;
        admitted = problem.map_or(admitted, Err);
        decision = Some(Box::new(counted));
    }
    let outcome = match admitted {
        Err(problem) => {
            body::discard(&mut payload).await;
            Err(problem)
        }
        Ok(admin) => {
            let deadline = started + Duration::from_millis(door.options.request_deadline_ms);
            let call = Call {
                request: request.clone(),
                route: description,
                place: route,
                door: door.clone(),
                deadline,
                request_id: request_id.clone(),
                admin,
                payload: Some(payload),
            };
            // The call alone crosses the boundary, and it is gone after a panic: nothing half-changed is seen again.
            let caught = AssertUnwindSafe(async move { handler(call).await }).catch_unwind().await;
            caught.unwrap_or_else(|_| {
                Err(Problem::new(Code::Internal, "an error inside the engine; nothing is known of it here"))
            })
        }
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(problem) => {
            door.console.traffic.refused(route, problem.code());
            if problem.status().is_server_error() {
                log_failure(&door, &request, &request_id, description, &problem);
            }
            problem.reply(request_id.to_str().unwrap_or(""), Some(request.path()))
        }
    };
    door.mark(&mut response);
    if let Some(decision) = decision {
        decision.write(response.headers_mut());
    }
    let took = started.elapsed();
    line::replied(&request);
    door.meters.record(route, response.status(), took);
    door.console.traffic.answered(route, took);
    tracing::debug!(
        method = description.method.name(),
        route = description.path,
        status = response.status().as_u16(),
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        request_id = request_id.to_str().unwrap_or(""),
        "answered"
    );
    dressed(response, request_id)
}

/// Counts a request against its limits. Boxed: hardly any request has to wait for a count, and all would carry its state.
fn limited<'a>(
    limits: &'a RateLimits,
    request: &'a HttpRequest,
    route: usize,
) -> Pin<Box<dyn Future<Output = (Decision, Option<Problem>)> + 'a>> {
    let token = request.headers().get(&CART_TOKEN).and_then(|token| token.to_str().ok()).unwrap_or("");
    Box::pin(limits.check(request, route, token))
}

/// Checks who calls; says whether it is the admin.
fn admit(request: &HttpRequest, route: &Route, door: &FrontDoor) -> Result<bool, Problem> {
    headers::refuse_doubled(request.headers())?;
    let admin = match request.headers().get(AUTHORIZATION) {
        None => false,
        Some(header) => {
            let bytes = header.as_bytes();
            let key = bytes.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
            if !key.is_some_and(|(_, key)| door.is_admin_key(key.trim_ascii())) {
                return Err(Problem::new(Code::Unauthenticated, "this is not the admin key"));
            }
            true
        }
    };
    let private = request.app_data::<PrivateListener>().is_some();
    if route.access == Access::Admin && !admin && !private {
        return Err(Problem::new(
            Code::Unauthenticated,
            "this call needs Authorization: Bearer with the admin key",
        ));
    }
    if route.key == Key::Required && !request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return Err(Problem::new(
            Code::IdempotencyKeyMissing,
            "this call moves stock or money: send an Idempotency-Key, so that a retry does it once",
        ));
    }
    if let Body::Stream(_) = route.body
        && body::is_packed(request)
    {
        return Err(Problem::new(Code::UnsupportedMediaType, "send the lines without a content encoding"));
    }
    Ok(admin)
}

/// Marks the second listener, which only operators can reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrivateListener;

/// The headers every reply has.
pub(crate) fn dressed(mut response: HttpResponse, request_id: HeaderValue) -> HttpResponse {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), request_id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// A reply to a request that no route takes.
pub(crate) fn stray(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    line::taken_up(request);
    line::replied(request);
    let request_id = request
        .app_data::<web::Data<FrontDoor>>()
        .map_or(HeaderValue::from_static("unknown"), |door| door.request_id(request));
    Meters::record_stray(problem.status());
    let reply = problem.reply(request_id.to_str().unwrap_or(""), Some(request.path()));
    dressed(reply, request_id)
}

/// One line for a failure of ours. A flood of refusals under overload is cut: metrics count them all.
fn log_failure(
    door: &FrontDoor,
    request: &HttpRequest,
    request_id: &HeaderValue,
    route: &Route,
    problem: &Problem,
) {
    if problem.status() != StatusCode::INTERNAL_SERVER_ERROR && !door.logged.spend() {
        return;
    }
    let traceparent =
        request.headers().get(&TRACEPARENT).and_then(|header| header.to_str().ok()).unwrap_or("");
    let request_id = request_id.to_str().unwrap_or("");
    let (method, path, code) = (route.method.name(), route.path, problem.code().wire());
    if problem.code() == Code::Internal {
        tracing::error!(
            method,
            route = path,
            code,
            request_id,
            traceparent,
            detail = problem.detail(),
            "failed"
        );
    } else {
        tracing::info!(
            method,
            route = path,
            code,
            request_id,
            traceparent,
            detail = problem.detail(),
            "refused"
        );
    }
}

/// At most this many refusals are logged a second.
const REFUSALS_LOGGED_PER_S: u64 = 10;

/// How many lines were written in the present second: the second in the upper bits, the count in the lower ones.
#[derive(Debug, Default)]
struct LogBudget(AtomicU64);

impl LogBudget {
    fn spend(&self) -> bool {
        let second = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0) << 16;
        let spend = |state: u64| {
            let count = if state & !0xffff == second { state & 0xffff } else { 0 };
            (count < REFUSALS_LOGGED_PER_S).then_some(second | (count + 1))
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_hexadecimal_and_of_one_length() {
        let mut digits = [0; 8];
        hexadecimal(&mut digits, 0xabc);
        assert_eq!(&digits, b"00000abc");
        hexadecimal(&mut digits, u64::MAX);
        assert_eq!(&digits, b"ffffffff");
    }

    #[test]
    fn a_panic_in_a_handler_is_a_problem_and_the_next_request_is_served() {
        let directory = tempfile::tempdir().unwrap();
        actix_rt::System::new().block_on(async {
            let options = doorbuster_actors::EngineOptions {
                workers: 1,
                segment_bytes: 1 << 20,
                ..doorbuster_actors::EngineOptions::new(directory.path().join("data"))
            };
            let (engine, _) = Engine::start(options, &mut |_| {}).unwrap();
            let door = web::Data::new(FrontDoor::new(engine.clone(), DoorOptions::default()));
            let live = table::index_of("live");
            let panics = move |request: HttpRequest, payload: web::Payload| {
                observed(live, request, payload, |_| async { panic!("on purpose") })
            };
            let serves = move |request: HttpRequest, payload: web::Payload| {
                observed(live, request, payload, |_| async { Ok(HttpResponse::Ok().finish()) })
            };
            let application = actix_web::App::new()
                .app_data(door)
                .route("/panics", web::get().to(panics))
                .route("/serves", web::get().to(serves));
            let service = actix_web::test::init_service(application).await;
            let request = actix_web::test::TestRequest::get().uri("/panics").to_request();
            let reply = actix_web::test::call_service(&service, request).await;
            assert_eq!(reply.status(), 500);
            let problem: serde_json::Value = actix_web::test::read_body_json(reply).await;
            assert_eq!(problem["code"], "internal");
            assert!(
                !problem.to_string().contains("on purpose"),
                "strangers are not told the inside: {problem}"
            );
            let request = actix_web::test::TestRequest::get().uri("/serves").to_request();
            assert_eq!(actix_web::test::call_service(&service, request).await.status(), 200);
            engine.stop();
        });
    }

    #[test]
    fn a_flood_of_refusals_is_logged_in_part() {
        let budget = LogBudget::default();
        let written = (0..1_000).filter(|_| budget.spend()).count();
        assert!((10..=20).contains(&written), "at most two seconds pass: {written}");
    }
}
