//! The demo shop at `/demo`: a newcomer's first five minutes. It is there only with `serve --demo`.
//!
//! Laws: (1) without `--demo` none of these routes exists, and nothing here runs; (2) the page is a storefront like any other:
//! whatever a shopper does goes through the public API, and what is here only sets the stage, which elsewhere takes the admin
//! key: a new drop ([`drops`]), a last unit to fight for, a crowd ([`crowd`]); (3) all of that is bounded (law 11): one drop
//! that waits for its opening, one crowd at a time; (4) nothing is remembered beside the engine: after a restart the drop is
//! found in the catalogue. Start at [`configure`]; the page itself is [`pages`].

mod crowd;
mod drops;
mod pages;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, guard};
use doorbuster_actors::{Engine, Ticket};
use doorbuster_engine::answer::Refusal;
use doorbuster_engine::stock::StockView;
use futures_util::FutureExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::crowd::{Crowd, CrowdReport};
use self::drops::{Drop, DropReport};
use crate::body;
use crate::door::{self, FrontDoor};
use crate::line;
use crate::problem::{Code, Problem};
use crate::reply::{json, json_reply, ok};
use crate::wire::json as reader;
use crate::wire::time;

/// Longest body that the stage reads.
const BODY_BYTES_MAX: usize = 1 << 10;

/// How long one step of the stage's own may take in the engine.
const STEP_MAX: Duration = Duration::from_secs(10);

/// Options of the demo shop.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// How long it takes until the last shopper of a crowd has come. All at once would be over before anybody saw it.
    pub crowd_lasts: Duration,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self { crowd_lasts: Duration::from_secs(4) }
    }
}

/// See the module's header.
pub(crate) struct Demo {
    engine: Engine,
    options: DemoOptions,
    /// Held while a drop is made, so that two askers do not make the same one.
    drop: tokio::sync::Mutex<Option<Drop>>,
    crowd: Mutex<Option<Arc<Crowd>>>,
}

impl Demo {
    pub(crate) fn new(engine: Engine, options: DemoOptions) -> Self {
        Self { engine, options, drop: tokio::sync::Mutex::default(), crowd: Mutex::default() }
    }

    /// A ticket of the stage's own, which a repeat under the same key cannot double.
    fn ticket(engine: &Engine, key: &str, path: &str) -> Ticket {
        engine.ticket("demo", Some(key), "POST", path, b"", Instant::now() + STEP_MAX)
    }
}

/// A SKU's stock, as `/v1/admin/skus/{sku}/stock` would show it to an admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Books {
    received: i64,
    on_hand: i64,
    reserved: i64,
    available: i64,
    sold: i64,
}

impl Books {
    fn of(stock: &StockView) -> Self {
        let &StockView { received, on_hand, reserved, available, sold, .. } = stock;
        Self { received, on_hand, reserved, available, sold }
    }
}

/// Everything that the page asks the stage.
#[derive(Serialize)]
struct StateReport {
    /// When this process started: another one after a kill.
    started_at: String,
    /// Whom to kill.
    process: u32,
    drop: Option<DropReport>,
    crowd: Option<CrowdReport>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropRequest {
    units: Option<i64>,
    opens_in_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShoppersRequest {
    shoppers: u32,
}

#[derive(Serialize)]
struct DuelReport {
    sku: &'static str,
    units: i64,
}

/// One request on its way to a handler here.
struct Visit {
    request: HttpRequest,
    door: web::Data<FrontDoor>,
    body: Bytes,
}

impl Visit {
    fn demo(&self) -> Result<&Demo, Problem> {
        self.door.demo.as_ref().ok_or_else(|| Problem::not_found("there is no demo shop here"))
    }
}

/// Adds the routes, where there is a demo shop.
pub(crate) fn configure(config: &mut ServiceConfig, door: &FrontDoor) {
    if door.demo.is_none() {
        return;
    }
    for page in &pages::ALL {
        let reading = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        let reading = reading.to(move |request: HttpRequest, payload: web::Payload| {
            attended(request, payload, move |visit| async move { Ok(pages::reply(page, &visit.request)) })
        });
        config.service(closed("GET, HEAD", web::resource(page.path).route(reading)));
    }
    let reading = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    let reading = reading.to(|request: HttpRequest, payload: web::Payload| attended(request, payload, state));
    config.service(closed("GET, HEAD", web::resource("/demo/state").route(reading)));
    let making =
        web::post().to(|request: HttpRequest, payload: web::Payload| attended(request, payload, new_drop));
    config.service(closed("POST", web::resource("/demo/drops").route(making)));
    let making =
        web::post().to(|request: HttpRequest, payload: web::Payload| attended(request, payload, new_duel));
    config.service(closed("POST", web::resource("/demo/duels").route(making)));
    let making =
        web::post().to(|request: HttpRequest, payload: web::Payload| attended(request, payload, new_crowd));
    config.service(closed("POST", web::resource("/demo/shoppers").route(making)));
}

fn closed(allowed: &'static str, resource: Resource) -> Resource {
    resource.default_service(web::to(move |request: HttpRequest, mut payload: web::Payload| async move {
        body::discard(&mut payload).await;
        door::stray(&request, &Problem::method_not_allowed(allowed.to_owned()))
    }))
}

/// What [`door::observed`] does for routes of the table, for those of the demo shop: they are no part of the API, so they are
/// neither described, limited nor metered one by one.
async fn attended<F, Fut>(request: HttpRequest, payload: web::Payload, handler: F) -> HttpResponse
where
    F: FnOnce(Visit) -> Fut,
    Fut: Future<Output = Result<HttpResponse, Problem>>,
{
    line::taken_up(&request);
    let Some(door) = request.app_data::<web::Data<FrontDoor>>().cloned() else {
        return HttpResponse::InternalServerError().finish();
    };
    let request_id = door.request_id(&request);
    let outcome = match read(&request, payload, &door).await {
        Err(problem) => Err(problem),
        Ok(body) => {
            let visit = Visit { request: request.clone(), door: door.clone(), body };
            let caught = AssertUnwindSafe(async move { handler(visit).await }).catch_unwind().await;
            caught.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "an error inside the demo shop")))
        }
    };
    let mut response = outcome
        .unwrap_or_else(|problem| problem.reply(request_id.to_str().unwrap_or(""), Some(request.path())));
    door.mark(&mut response);
    line::replied(&request);
    door::dressed(response, request_id)
}

/// The body of a call that sets the stage. It must be called JSON: a page of another origin can send that only
/// where `--cors-origin` allows it, and there is no key here that it would lack.
async fn read(request: &HttpRequest, mut payload: web::Payload, door: &FrontDoor) -> Result<Bytes, Problem> {
    if request.method() != actix_web::http::Method::POST {
        body::discard(&mut payload).await;
        return Ok(Bytes::new());
    }
    if !request.headers().contains_key(CONTENT_TYPE) || !body::is_json(request) {
        body::discard(&mut payload).await;
        return Err(Problem::new(Code::UnsupportedMediaType, "this call reads application/json"));
    }
    let patience = Duration::from_millis(door.options.body_timeout_ms);
    body::read(request, payload, BODY_BYTES_MAX, patience).await
}

/// `GET /demo/state`.
async fn state(visit: Visit) -> Result<HttpResponse, Problem> {
    let demo = visit.demo()?;
    let drop = demo.present_drop().await?;
    let crowd = demo.crowd.lock().as_ref().map(|crowd| crowd.report());
    Ok(ok(&StateReport {
        started_at: time::text(visit.door.started_at),
        process: std::process::id(),
        drop,
        crowd,
    }))
}

/// `POST /demo/drops`.
async fn new_drop(visit: Visit) -> Result<HttpResponse, Problem> {
    let DropRequest { units, opens_in_s } = reader::parse(&visit.body)?;
    let units = units.unwrap_or(drops::UNITS);
    let opens_in_s = opens_in_s.unwrap_or(drops::OPENS_IN_S);
    within("/units", units, 1, drops::UNITS_MAX)?;
    within("/opens_in_s", opens_in_s, 1, drops::OPENS_IN_S_MAX)?;
    let demo = visit.demo()?;
    if demo.is_crowded() {
        return Err(not_now("crowded", "make a drop", "a crowd is still in the shop"));
    }
    let drop = demo.announce(units, Duration::from_secs(opens_in_s)).await?;
    Ok(json_reply(StatusCode::CREATED, json(&drop)))
}

/// `POST /demo/duels`.
async fn new_duel(visit: Visit) -> Result<HttpResponse, Problem> {
    let _: Nothing = reader::parse(&visit.body)?;
    let units = visit.demo()?.one_unit_left().await?;
    Ok(json_reply(StatusCode::CREATED, json(&DuelReport { sku: drops::LAST_ONE, units })))
}

/// `POST /demo/shoppers`.
async fn new_crowd(visit: Visit) -> Result<HttpResponse, Problem> {
    let ShoppersRequest { shoppers } = reader::parse(&visit.body)?;
    within("/shoppers", shoppers, 1, crowd::SHOPPERS_MAX)?;
    let report = visit.demo()?.let_in(shoppers).await?;
    Ok(json_reply(StatusCode::ACCEPTED, json(&report)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn within<T: Copy + PartialOrd + std::fmt::Display>(
    pointer: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), Problem> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(Problem::field(pointer, "out_of_range", format!("{value} is not within {least} to {most}")))
}

fn not_now(from: &str, action: &str, detail: &str) -> Problem {
    let (from, action, detail) = (from.to_owned(), action.to_owned(), detail.to_owned());
    Refusal::IllegalTransition { from, action, detail }.into()
}
