//! `/v1/skus` and `/v1/availability`: read from the catalogue's snapshots, without asking an actor.

use actix_web::HttpResponse;
use doorbuster_engine::answer::{Missing, Refusal};
use doorbuster_engine::identity::Sku;

use crate::call::Call;
use crate::problem::Problem;
use crate::reply::{json, ok, versioned};
use crate::wire::from_engine;
use crate::wire::responses::{AvailabilityList, List};
use doorbuster_actors::{Readiness, SkuSnapshot};

/// Most SKUs asked for at once.
const SKUS_MAX: usize = 100;

fn find(call: &Call, text: &str) -> Result<SkuSnapshot, Problem> {
    if call.engine().readiness() == Readiness::Recovering {
        return Err(Refusal::Recovering { retry_after_ms: 1_000 }.into());
    }
    call.engine().catalogue().get(text).ok_or_else(|| match Sku::new(text) {
        Ok(sku) => Refusal::NotFound(Missing::Skus(vec![sku])).into(),
        Err(error) => Problem::not_found(format!("not in the catalogue: {error}")),
    })
}

pub(crate) async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let query = call.query()?;
    let limit = query.limit()?;
    let in_stock = query.boolean("in_stock")?;
    let page = call.engine().catalogue().page(query.one("starting_after")?, limit, in_stock);
    Ok(ok(&List {
        data: page.data.iter().map(from_engine::sku).collect(),
        has_more: page.next_cursor.is_some(),
        next_cursor: page.next_cursor,
    }))
}

pub(crate) async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let snapshot = find(&call, &call.segment("sku")?)?;
    Ok(ok(&from_engine::sku(&snapshot)))
}

pub(crate) async fn availability(call: Call) -> Result<HttpResponse, Problem> {
    let snapshot = find(&call, &call.segment("sku")?)?;
    Ok(versioned(&call, snapshot.version, || json(&from_engine::availability(&snapshot))))
}

pub(crate) async fn availabilities(call: Call) -> Result<HttpResponse, Problem> {
    let query = call.query()?;
    let asked: Vec<&str> = query.all("sku").collect();
    if asked.is_empty() || asked.len() > SKUS_MAX {
        let code = if asked.is_empty() { "too_few" } else { "too_many" };
        return Err(Problem::field(
            "?sku",
            code,
            format!("{} SKUs are not within 1 to {SKUS_MAX}", asked.len()),
        ));
    }
    let mut found = Vec::with_capacity(asked.len());
    let mut missing = Vec::new();
    for text in asked {
        match (call.engine().catalogue().get(text), Sku::new(text)) {
            (Some(snapshot), _) => found.push(from_engine::availability(&snapshot)),
            (None, Ok(sku)) => missing.push(sku),
            (None, Err(error)) => {
                return Err(Problem::field("?sku", "not_a_sku", format!("`{text}`: {error}")));
            }
        }
    }
    if missing.is_empty() {
        Ok(ok(&AvailabilityList { data: found }))
    } else {
        Err(Refusal::NotFound(Missing::Skus(missing)).into())
    }
}
