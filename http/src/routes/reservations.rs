//! `/v1/reservations`: the hot path.
//!
//! [`create`] reads the body borrowed and once, writes the reply once, and awaits only the engine.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use doorbuster_engine::answer::Answer;
use doorbuster_engine::identity::ReservationId;
use futures_util::future::join_all;

use crate::door::{Call, checked_key};
use crate::problem::Problem;
use crate::reply::{changed, json, json_reply, read};
use crate::wire::requests::{
    BatchItemRequest, BatchRequest, ExtendRequest, LooseBatchRequest, ReservationRequest,
};
use crate::wire::responses::{BatchResponse, BatchResult};
use crate::wire::{from_engine, into_engine, json as reader};
use doorbuster_actors::Reply;

/// Most reservations of one batch. Beyond it one request would hold its connection for too long.
const BATCH_MAX: usize = 256;

/// Path under which single and batched reservations are fingerprinted alike.
const PATH: &str = "/v1/reservations";

pub(crate) async fn create(mut call: Call) -> Result<HttpResponse, Problem> {
    let body = call.body().await?;
    let request: ReservationRequest<'_> = reader::parse(&body)?;
    let asked = into_engine::reservation(&request)?;
    let key = call.key()?;
    let ticket = call.ticket_for(key, "POST", PATH, &into_engine::canonical(&request));
    let verdict = call.engine().reserve(ticket, asked).await;
    changed(&call, verdict, StatusCode::CREATED)
}

pub(crate) async fn create_many(mut call: Call) -> Result<HttpResponse, Problem> {
    let body = call.body().await?;
    let results = match reader::read::<BatchRequest<'_>>(&body) {
        Ok(batch) => {
            check_count(batch.requests.len())?;
            join_all(batch.requests.into_iter().map(|item| one_of_many(&call, Ok(item)))).await
        }
        Err(error) => {
            // Some item has the wrong shape, or the envelope has: find out which, and spare the neighbours.
            let Ok(loose) = reader::read::<LooseBatchRequest>(&body) else {
                return Err(reader::explain(&body, &error));
            };
            check_count(loose.requests.len())?;
            let items = loose.requests.iter().map(|text| one_of_many(&call, reader::parse(&text.0)));
            join_all(items).await
        }
    };
    Ok(json_reply(StatusCode::OK, json(&BatchResponse { results })))
}

fn check_count(count: usize) -> Result<(), Problem> {
    if (1..=BATCH_MAX).contains(&count) {
        return Ok(());
    }
    let code = if count == 0 { "too_few" } else { "too_many" };
    Err(Problem::field("/requests", code, format!("{count} requests are not within 1 to {BATCH_MAX}")))
}

async fn one_of_many(call: &Call, item: Result<BatchItemRequest<'_>, Problem>) -> BatchResult {
    match reserve_item(call, item).await {
        Ok((record, replayed)) => BatchResult {
            status: StatusCode::CREATED.as_u16(),
            replayed: replayed.then_some(true),
            reservation: Some(record),
            problem: None,
        },
        Err(problem) => BatchResult {
            status: problem.status().as_u16(),
            replayed: None,
            reservation: None,
            problem: serde_json::from_slice(&problem.body(call.request_id(), None)).ok(),
        },
    }
}

async fn reserve_item(
    call: &Call,
    item: Result<BatchItemRequest<'_>, Problem>,
) -> Result<(crate::wire::responses::Reservation, bool), Problem> {
    let BatchItemRequest { key, items, ttl_s, partial, customer } = item?;
    let key: Cow<'_, str> = key;
    checked_key(key.as_bytes()).map_err(|message| Problem::field("/key", "wrong_length", message))?;
    let request = ReservationRequest { items, ttl_s, partial, customer };
    let asked = into_engine::reservation(&request)?;
    let ticket = call.ticket_for(Some(&key), "POST", PATH, &into_engine::canonical(&request));
    let Reply { answer, replayed } = call.engine().reserve(ticket, asked).await?;
    match answer {
        Answer::Reservation(record) => {
            let receipt = call.engine().receipt(&record);
            Ok((from_engine::reservation(&record, receipt), replayed))
        }
        Answer::Stock(_)
        | Answer::SkuDefined { .. }
        | Answer::CartCreated(_)
        | Answer::Cart(_)
        | Answer::CartDeleted
        | Answer::Checkout(..)
        | Answer::Order(_)
        | Answer::Refund(_)
        | Answer::Fulfilment(_) => unreachable!("Invariant: reserving answers a reservation"),
    }
}

pub(crate) async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let id: ReservationId = call.id()?;
    let verdict = call.engine().reservation(id).await;
    read(&call, verdict)
}

pub(crate) async fn extend(mut call: Call) -> Result<HttpResponse, Problem> {
    let id: ReservationId = call.id()?;
    let body = call.body().await?;
    let request: ExtendRequest = reader::parse(&body)?;
    let extend_ms = into_engine::extend_ms(request.extend_s)?;
    let verdict = call.engine().extend(call.ticket(&body)?, id, extend_ms).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn release(call: Call) -> Result<HttpResponse, Problem> {
    let id: ReservationId = call.id()?;
    let verdict = call.engine().release(call.ticket(b"")?, id).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn commit(mut call: Call) -> Result<HttpResponse, Problem> {
    let id: ReservationId = call.id()?;
    call.empty_body().await?;
    // An absent body and an empty object ask the same, so they are fingerprinted alike.
    let verdict = call.engine().commit(call.ticket(b"")?, id).await;
    changed(&call, verdict, StatusCode::OK)
}
