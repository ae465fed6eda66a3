//! `/v1/admin/actors`: every actor can be looked into.

use actix_web::HttpResponse;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::Sku;

use crate::call::Call;
use crate::problem::Problem;
use crate::reply::ok;
use crate::wire::from_engine;
use crate::wire::responses::ActorList;
use doorbuster_actors::ActorSort;

/// Kinds of actors, by their names on the wire.
const KINDS: [&str; 4] = ["sku", "cart", "order", "reservation"];

pub(crate) async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let query = call.query()?;
    let kind = match query.one("kind")? {
        None => None,
        Some(asked) => {
            let known = KINDS.into_iter().find(|kind| *kind == asked);
            if known.is_none() {
                let message = format!("`{asked}` is no kind of actor, expected one of: {}", KINDS.join(", "));
                return Err(Problem::field("?kind", "unknown_value", message));
            }
            known
        }
    };
    let sort = match query.one("sort")? {
        None | Some("rate") => ActorSort::Rate,
        Some("depth") => ActorSort::Depth,
        Some("wait") => ActorSort::Wait,
        Some("messages") => ActorSort::Messages,
        Some(other) => {
            let message = format!("cannot sort by `{other}`, expected one of: rate, depth, wait, messages");
            return Err(Problem::field("?sort", "unknown_value", message));
        }
    };
    let reports = call.engine().actors(kind, sort, query.limit()?).await;
    Ok(ok(&ActorList { data: reports.iter().map(from_engine::actor).collect() }))
}

pub(crate) async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let (kind, key) = (call.segment("kind")?, call.segment("key")?);
    let entity = match kind.as_str() {
        "sku" => Sku::new(&key).ok().map(EntityKey::Sku),
        "cart" => key.parse().ok().map(EntityKey::Cart),
        "order" => key.parse().ok().map(EntityKey::Order),
        "reservation" => key.parse().ok().map(EntityKey::Reservation),
        _other => None,
    };
    let entity = entity.ok_or_else(|| Problem::not_found("no such actor"))?;
    let detail = call.engine().actor(entity).await?;
    Ok(ok(&from_engine::actor_detail(&detail)))
}
