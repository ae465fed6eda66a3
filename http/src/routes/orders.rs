//! `/v1/orders` and `/v1/admin/orders`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use doorbuster_engine::answer::Refusal;
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::order::OrderState;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_postgres::history::OrderQuery;

use crate::call::Call;
use crate::problem::Problem;
use crate::reply::{self, changed, ok, versioned};
use crate::wire::requests::{FulfilmentRequest, RefundRequest};
use crate::wire::responses::{OrderList, Timeline};
use crate::wire::{from_engine, into_engine, json};
use doorbuster_actors::{OrderFilter, OrderPage};

fn order(call: &Call) -> Result<OrderId, Problem> {
    call.id().map_err(|_| Problem::not_found("no such order, or not with this Cart-Token"))
}

pub(crate) async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let id = order(&call)?;
    let view = call.engine().order(call.order_access(), id).await?;
    Ok(versioned(&call, view.version, || reply::json(&from_engine::order(&view))))
}

pub(crate) async fn timeline(call: Call) -> Result<HttpResponse, Problem> {
    let id = order(&call)?;
    let entries = call.engine().timeline(call.order_access(), id).await?;
    Ok(ok(&Timeline { data: entries.iter().map(from_engine::timeline_entry).collect() }))
}

pub(crate) async fn confirm(mut call: Call) -> Result<HttpResponse, Problem> {
    let id = order(&call)?;
    call.empty_body().await?;
    let verdict = call.engine().confirm(call.ticket(b"")?, call.order_access(), id).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn cancel(mut call: Call) -> Result<HttpResponse, Problem> {
    let id = order(&call)?;
    call.empty_body().await?;
    let verdict = call.engine().cancel(call.ticket(b"")?, call.order_access(), id).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn refund(mut call: Call) -> Result<HttpResponse, Problem> {
    let id = order(&call)?;
    let body = call.body().await?;
    let request: RefundRequest = if body.is_empty() { json::parse(b"{}")? } else { json::parse(&body)? };
    let input = into_engine::refund(request)?;
    let verdict = call.engine().refund(call.ticket(&body)?, id, input).await;
    changed(&call, verdict, StatusCode::CREATED)
}

pub(crate) async fn fulfil(mut call: Call) -> Result<HttpResponse, Problem> {
    let id = order(&call)?;
    let body = call.body().await?;
    let request: FulfilmentRequest = if body.is_empty() { json::parse(b"{}")? } else { json::parse(&body)? };
    let (lines, tracking) = into_engine::fulfilment(request)?;
    let verdict = call.engine().fulfil(call.ticket(&body)?, id, lines, tracking).await;
    changed(&call, verdict, StatusCode::CREATED)
}

pub(crate) async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let query = call.query()?;
    let state = match query.one("state")? {
        None => None,
        Some(name) => {
            let known =
                from_engine::ORDER_STATES.into_iter().find(|state| from_engine::order_state(*state) == name);
            if known.is_none() {
                let names = from_engine::ORDER_STATES.map(from_engine::order_state).join(", ");
                let message = format!("`{name}` is no state of an order, expected one of: {names}");
                return Err(Problem::field("?state", "unknown_value", message));
            }
            known
        }
    };
    let filter = OrderFilter {
        state,
        email: query.one("email")?.map(str::to_owned),
        since: query.time("since")?,
        until: query.time("until")?,
        starting_after: query.one("starting_after")?.map(str::to_owned),
        limit: query.limit()?,
    };
    let found = search(&call, &filter, query.boolean("fresh")?.unwrap_or(false)).await;
    let (found, source) = match found {
        Ok(None) => (call.engine().orders(filter).await, "engine"),
        Ok(Some(page)) => (Ok(page), "postgres"),
        Err(refusal) => (Err(refusal), "postgres"),
    };
    let page = found.map_err(|refusal| match refusal {
        // Here only the cursor can be missing.
        Refusal::NotFound(_) => {
            Problem::field("?starting_after", "not_a_cursor", "no order of this list is named so")
        }
        Refusal::InsufficientStock(_)
        | Refusal::IllegalTransition { .. }
        | Refusal::ReservationExpired
        | Refusal::CartExpired
        | Refusal::PriceChanged { .. }
        | Refusal::VersionMismatch { .. }
        | Refusal::PaymentDeclined { .. }
        | Refusal::Validation(_)
        | Refusal::KeyReused
        | Refusal::InProgress { .. }
        | Refusal::Overloaded { .. }
        | Refusal::StorageFull { .. }
        | Refusal::Draining
        | Refusal::Recovering { .. }
        | Refusal::PaymentUnavailable { .. }
        | Refusal::DeadlineExceeded => refusal.into(),
    })?;
    Ok(ok(&OrderList {
        data: page.data.iter().map(from_engine::order).collect(),
        has_more: page.next_cursor.is_some(),
        next_cursor: page.next_cursor,
        source,
    }))
}

/// Looks in Postgres, where there is one that can say.
async fn search(call: &Call, filter: &OrderFilter, fresh: bool) -> Result<Option<OrderPage>, Refusal> {
    let Some(history) = call.history() else { return Ok(None) };
    // Whatever the caller was told before is durable by now.
    let through = fresh.then(|| call.engine().follow(FrameNumber::FIRST).durable_frame());
    let search = async |before, limit| {
        let query = OrderQuery {
            state: filter.state.map(OrderState::name),
            email: filter.email.clone(),
            since: filter.since,
            until: filter.until,
            before,
            limit,
            through,
        };
        history.orders(query).await
    };
    call.engine().orders_by_history(filter, search).await
}
