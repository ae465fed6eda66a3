//! `/v1/reservations`: the hot path.
//!
//! [`create`] reads the body borrowed and once, writes the reply once, and awaits only the engine.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use doorbuster_engine::answer::{Answer, Refusal};
use doorbuster_engine::identity::ReservationId;

use crate::call::{Call, checked_key};
use crate::problem::Problem;
use crate::reply::{changed, json_reply, read};
use crate::wire::requests::{
    BatchItemRequest, BatchRequest, ExtendRequest, LooseBatchRequest, ReservationRequest,
};
use crate::wire::{from_engine, into_engine, json as reader};
use doorbuster_actors::{Reply, ReserveRequest, Ticket};

/// Most reservations of one batch. Beyond it one request would hold its connection for too long.
const BATCH_MAX: usize = 256;

/// Path under which single and batched reservations are fingerprinted alike.
const PATH: &str = "/v1/reservations";

pub(crate) async fn create(mut call: Call) -> Result<HttpResponse, Problem> {
    let body = call.body().await?;
    let request: ReservationRequest<'_> = reader::parse(&body)?;
    let asked = into_engine::reservation(&request)?;
    call.count_customer(asked.customer.as_deref()).await?;
    let key = call.key()?;
    let ticket = call.ticket_for(key, "POST", PATH, &into_engine::canonical(&request));
    let verdict = call.engine().reserve(ticket, asked).await;
    changed(&call, verdict, StatusCode::CREATED)
}

pub(crate) async fn create_many(mut call: Call) -> Result<HttpResponse, Problem> {
    let body = call.body().await?;
    let mut asked: Vec<Result<(Ticket, ReserveRequest), Problem>> =
        match reader::read::<BatchRequest<'_>>(&body) {
            Ok(batch) => {
                check_count(batch.requests.len())?;
                batch.requests.into_iter().map(|item| one_of_many(&call, item)).collect()
            }
            Err(error) => {
                // Some item has the wrong shape, or the envelope has: find out which, and spare the neighbours.
                let Ok(loose) = reader::read::<LooseBatchRequest>(&body) else {
                    return Err(reader::explain(&body, &error));
                };
                check_count(loose.requests.len())?;
                let items = loose.requests.iter().map(|text| reader::parse(&text.0));
                items.map(|item| item.and_then(|item| one_of_many(&call, item))).collect()
            }
        };
    for item in &mut asked {
        if let Ok((_, request)) = item
            && let Err(problem) = call.count_customer(request.customer.as_deref()).await
        {
            *item = Err(problem);
        }
    }
    let mut sent = Vec::with_capacity(asked.len());
    let refused: Vec<Option<Problem>> =
        asked.into_iter().map(|item| item.map(|item| sent.push(item)).err()).collect();
    let mut verdicts = call.engine().reserve_many(sent).await.into_iter();
    let mut out = Vec::with_capacity(refused.len() * 400);
    out.extend_from_slice(b"{\"results\":[");
    for (at, refused) in refused.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let verdict = match refused {
            Some(problem) => Err(problem),
            None => verdicts.next().unwrap_or(Err(Refusal::DeadlineExceeded)).map_err(Problem::from),
        };
        write_result(&mut out, &call, verdict);
    }
    out.extend_from_slice(b"]}");
    Ok(json_reply(StatusCode::OK, out))
}

fn check_count(count: usize) -> Result<(), Problem> {
    if (1..=BATCH_MAX).contains(&count) {
        return Ok(());
    }
    let code = if count == 0 { "too_few" } else { "too_many" };
    Err(Problem::field("/requests", code, format!("{count} requests are not within 1 to {BATCH_MAX}")))
}

fn one_of_many(call: &Call, item: BatchItemRequest<'_>) -> Result<(Ticket, ReserveRequest), Problem> {
    let BatchItemRequest { key, items, ttl_s, partial, customer } = item;
    checked_key(key.as_bytes()).map_err(|message| Problem::field("/key", "wrong_length", message))?;
    let request = ReservationRequest { items, ttl_s, partial, customer };
    let asked = into_engine::reservation(&request)?;
    let ticket = call.ticket_for(Some(&key), "POST", PATH, &into_engine::canonical(&request));
    Ok((ticket, asked))
}

/// Appends what became of one reservation of a batch, as [`crate::wire::responses::BatchResult`] documents it.
fn write_result(out: &mut Vec<u8>, call: &Call, verdict: Result<Reply, Problem>) {
    match verdict {
        Ok(Reply { answer: Answer::Reservation(record), replayed }) => {
            out.extend_from_slice(b"{\"status\":201,");
            if replayed {
                out.extend_from_slice(b"\"replayed\":true,");
            }
            out.extend_from_slice(b"\"reservation\":");
            from_engine::write_reservation(out, &record, &call.engine().receipt(&record));
        }
        Ok(Reply {
            answer:
                Answer::Stock(_)
                | Answer::SkuDefined { .. }
                | Answer::CartCreated(_)
                | Answer::Cart(_)
                | Answer::CartDeleted
                | Answer::Checkout(..)
                | Answer::Order(_)
                | Answer::Refund(_)
                | Answer::Fulfilment(_)
                | Answer::Noticed,
            ..
        }) => unreachable!("Invariant: reserving answers a reservation"),
        Err(problem) => {
            call.door.console.traffic.refused(call.place, problem.code());
            out.extend_from_slice(b"{\"status\":");
            out.extend_from_slice(problem.status().as_str().as_bytes());
            out.extend_from_slice(b",\"problem\":");
            out.extend_from_slice(&problem.body(call.request_id(), None));
        }
    }
    out.push(b'}');
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
