//! What tests and demonstrations say to the stand-in itself, under `/_stand-in`: on the front door, and on a door of its
//! own that stays open in an outage.

use std::sync::Arc;

use actix_web::web::{self, Data, Json, Path, Query};
use actix_web::{HttpResponse, Responder};
use serde::Deserialize;
use serde_json::json;

use crate::failure::Failure;
use crate::faults::Faults;
use crate::shared::Shared;
use crate::webhooks::Endpoint;

type State = Data<Arc<Shared>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    success: bool,
}

/// The routes.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/_stand-in", web::get().to(figures))
        .route("/_stand-in/clock", web::get().to(clock))
        .route("/_stand-in/clock", web::post().to(advance))
        .route("/_stand-in/faults", web::get().to(faults))
        .route("/_stand-in/faults", web::post().to(set_faults))
        .route("/_stand-in/webhooks", web::post().to(set_endpoint))
        .route("/_stand-in/webhooks", web::delete().to(no_endpoint))
        .route("/_stand-in/deliveries", web::get().to(deliveries))
        .route("/_stand-in/ledger", web::get().to(ledger))
        .route("/_stand-in/payment_intents/{id}/authenticate", web::get().to(page))
        .route("/_stand-in/payment_intents/{id}/authenticate", web::post().to(authenticate))
        .route("/_stand-in/payment_intents/{id}/settle", web::post().to(settle));
}

async fn figures(shared: State) -> impl Responder {
    Json(shared.figures())
}

async fn clock(shared: State) -> impl Responder {
    Json(json!({"now_ms": shared.clock.now_ms()}))
}

async fn advance(shared: State, said: Json<Advance>) -> impl Responder {
    Json(json!({"now_ms": shared.advance(said.advance_ms)}))
}

async fn faults(shared: State) -> impl Responder {
    Json(shared.state().weather.faults.clone())
}

async fn set_faults(shared: State, said: Json<Faults>) -> HttpResponse {
    match shared.set_faults(said.into_inner()) {
        Ok(()) => HttpResponse::NoContent().finish(),
        Err(said) => HttpResponse::BadRequest().json(Failure::parameter("", said).body()),
    }
}

async fn set_endpoint(shared: State, said: Json<Endpoint>) -> HttpResponse {
    if said.secrets.is_empty() {
        let said = "an endpoint has a secret, or two while one replaces the other";
        return HttpResponse::BadRequest().json(Failure::parameter("secrets", said).body());
    }
    shared.set_endpoint(Some(said.into_inner()));
    HttpResponse::NoContent().finish()
}

async fn no_endpoint(shared: State) -> impl Responder {
    shared.set_endpoint(None);
    HttpResponse::NoContent()
}

async fn deliveries(shared: State) -> impl Responder {
    Json(json!({"data": shared.state().webhooks.made}))
}

async fn ledger(shared: State) -> impl Responder {
    Json(shared.ledger())
}

/// Where a customer of the demonstration is sent for 3-D Secure.
async fn page() -> impl Responder {
    let form = |success: bool, says: &str| {
        format!("<form method=post action=\"?success={success}\"><button>{says}</button></form>")
    };
    let (pass, fail) = (form(true, "Pass"), form(false, "Fail"));
    let page = format!("<!doctype html><title>3-D Secure</title><h1>3-D Secure (stand-in)</h1>{pass}{fail}");
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page)
}

async fn authenticate(shared: State, id: Path<String>, said: Query<Decision>) -> HttpResponse {
    decided(shared.decide(&id, said.success, true))
}

async fn settle(shared: State, id: Path<String>, said: Query<Decision>) -> HttpResponse {
    decided(shared.decide(&id, said.success, false))
}

fn decided(outcome: Result<serde_json::Value, Failure>) -> HttpResponse {
    match outcome {
        Ok(intent) => HttpResponse::Ok().json(intent),
        Err(failure) => {
            let status = actix_web::http::StatusCode::from_u16(failure.status);
            HttpResponse::build(status.unwrap_or(actix_web::http::StatusCode::BAD_REQUEST))
                .json(failure.body())
        }
    }
}
