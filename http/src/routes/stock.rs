//! `/v1/admin/skus`: the catalogue and its stock, for merchants.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::IF_MATCH;
use doorbuster_engine::identity::{Position, Sku};

use crate::call::Call;
use crate::problem::{Code, Problem};
use crate::reply::{self, changed, ok, versioned};
use crate::wire::requests::{AdjustmentRequest, SkuRequest, StockRequest};
use crate::wire::responses::List;
use crate::wire::{from_engine, into_engine, json};

pub(crate) async fn define(mut call: Call) -> Result<HttpResponse, Problem> {
    // Here the path makes a new name, so a wrong one is the caller's content, not a missing thing.
    let text = call.segment("sku")?;
    let sku = Sku::new(&text).map_err(|error| Problem::field("/sku", "not_a_sku", error.to_string()))?;
    let body = call.body().await?;
    let request: SkuRequest = json::parse(&body)?;
    let (definition, opening) = into_engine::definition(request)?;
    let verdict = call.engine().define_sku(call.ticket(&body)?, sku, definition, opening).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let view = call.engine().stock(call.sku()?).await?;
    Ok(versioned(&call, view.version, || reply::json(&from_engine::stock(&view))))
}

pub(crate) async fn set(mut call: Call) -> Result<HttpResponse, Problem> {
    let sku = call.sku()?;
    let needed = || {
        Problem::new(
            Code::PreconditionRequired,
            "send the ETag of the stock that was counted in If-Match, as a version in quotes",
        )
    };
    if !call.request.headers().contains_key(IF_MATCH) {
        return Err(needed());
    }
    // `*` names no version, and a count that overwrites whatever is there is what this header prevents.
    let expected_version = call.if_match()?.ok_or_else(needed)?;
    let body = call.body().await?;
    let request: StockRequest = json::parse(&body)?;
    let (on_hand, reason) = into_engine::counted_stock(request)?;
    let verdict = call.engine().set_stock(call.ticket(&body)?, sku, on_hand, reason, expected_version).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn adjust(mut call: Call) -> Result<HttpResponse, Problem> {
    let sku = call.sku()?;
    let body = call.body().await?;
    let request: AdjustmentRequest = json::parse(&body)?;
    let (delta, reason, reference) = into_engine::adjustment(request)?;
    let verdict = call.engine().adjust(call.ticket(&body)?, sku, delta, reason, reference).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn ledger(call: Call) -> Result<HttpResponse, Problem> {
    let sku = call.sku()?;
    let query = call.query()?;
    let limit = query.limit()?;
    let before = match query.one("starting_after")? {
        None => None,
        Some(text) => match u64::from_str_radix(text, 16) {
            Ok(position) => Some(Position(position)),
            Err(_) => {
                let message = format!("`{text}` is no cursor of this list");
                return Err(Problem::field("?starting_after", "not_a_cursor", message));
            }
        },
    };
    let page = call.engine().ledger(sku, before, limit).await?;
    Ok(ok(&List {
        data: page.data.iter().map(from_engine::ledger_entry).collect(),
        has_more: page.next_cursor.is_some(),
        next_cursor: page.next_cursor,
    }))
}
