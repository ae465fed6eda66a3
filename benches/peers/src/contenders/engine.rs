//! The engine: started on an empty directory, every guarantee on, with a catalogue of ample stock.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use rustix::process::Signal;

use super::Arena;
use crate::answers::Answers;
use crate::ask::{call, demand, field};
use crate::generator::requests::{SOLD_OUT, sku};
use doorbuster_servers::process::{Server, Start, free_port};

/// The engine's admin key, of this measurement only.
const ADMIN_KEY: &str = "peers-admin-key-0123456789abcdef";

/// Units of each SKU: more than any run can ask for.
pub(crate) const AMPLE: u64 = 1_000_000_000;

/// Starts the engine in `place`, told `more` than usual, and fills its catalogue.
pub(super) fn start(arena: &Arena, place: &Path, more: &[String]) -> anyhow::Result<Server> {
    let program = arena.programs.engine.clone().context("the engine's binary")?;
    let port = free_port(arena.options.port)?;
    let mut arguments: Vec<String> =
        ["serve", "--log", "warn", "--listen"].iter().map(|&word| word.to_owned()).collect();
    arguments.push(format!("127.0.0.1:{port}"));
    arguments.extend(["--data".to_owned(), place.join("data").display().to_string()]);
    if let Some(workers) = arena.options.engine_workers {
        arguments.extend(["--workers".to_owned(), workers.to_string()]);
    }
    arguments.extend_from_slice(more);
    let server = Server::start(
        Start {
            name: "the engine",
            program,
            arguments,
            environment: vec![("DOORBUSTER_ADMIN_KEY", ADMIN_KEY.to_owned())],
            port,
            log: &place.join("engine.log"),
            user: None,
            stop_signal: Signal::TERM,
        },
        |address| Ok(call(address, "GET", "/readyz", &[], "")?.0 == 200),
    )?;
    fill(server.address, arena.options.skus)?;
    Ok(server)
}

fn fill(address: SocketAddr, skus: u32) -> anyhow::Result<()> {
    let mut csv = "sku,name,amount,currency,on_hand\n".to_owned();
    for number in 0..skus {
        writeln!(csv, "{},An item that everybody wants,1999,GBP,{AMPLE}", sku(number))?;
    }
    writeln!(csv, "{SOLD_OUT},An item that is gone,1999,GBP,0")?;
    let bearer = format!("Bearer {ADMIN_KEY}");
    let headers =
        [("Authorization", bearer.as_str()), ("Content-Type", "text/csv"), ("Idempotency-Key", "catalogue")];
    let answer = demand(address, 200, "POST", "/v1/admin/import/skus", &headers, &csv)?;
    let created = field(&answer, "/created")?.as_u64().unwrap_or(0);
    anyhow::ensure!(created == u64::from(skus) + 1, "the catalogue was not taken: {answer}");
    Ok(())
}

/// Units of the hot SKU that the engine holds or has sold.
pub(super) fn granted_of_hot(address: SocketAddr) -> anyhow::Result<u64> {
    let bearer = format!("Bearer {ADMIN_KEY}");
    let path = format!("/v1/admin/skus/{}/stock", sku(0));
    let stock = demand(address, 200, "GET", &path, &[("Authorization", &bearer)], "")?;
    let units = |pointer: &str| field(&stock, pointer).map(|value| value.as_u64().unwrap_or(0));
    Ok(units("/reserved")? + units("/sold")?)
}

/// One answer of each kind, for the no-op to repeat.
pub(super) fn sample(address: SocketAddr, batch: usize) -> anyhow::Result<Answers> {
    let json = ("Content-Type", "application/json");
    let one = |sku: &str| {
        format!(r#""items":[{{"sku":"{sku}","quantity":1}}],"ttl_s":600,"customer":"shopper-0123456789""#)
    };
    let reserve = |status, sku: &str, key| {
        let headers = [json, ("Idempotency-Key", key)];
        demand(address, status, "POST", "/v1/reservations", &headers, &format!("{{{}}}", one(sku)))
    };
    let items: Vec<String> =
        (0..batch).map(|index| format!(r#"{{"key":"sample-{index}",{}}}"#, one(&sku(0)))).collect();
    let batch = format!(r#"{{"requests":[{}]}}"#, items.join(","));

    let headers = [json, ("Idempotency-Key", "sample-cart")];
    let cart = demand(address, 201, "POST", "/v1/carts", &headers, r#"{"currency":"GBP"}"#)?;
    let text = |answer: &str, pointer: &str| -> anyhow::Result<String> {
        Ok(field(answer, pointer)?.as_str().unwrap_or_default().to_owned())
    };
    let (id, token) = (text(&cart, "/id")?, text(&cart, "/token")?);
    let add = |sku: &str, key| {
        let headers = [json, ("Idempotency-Key", key), ("Cart-Token", token.as_str())];
        let body = format!(r#"{{"sku":"{sku}","quantity":1}}"#);
        demand(address, 200, "POST", &format!("/v1/carts/{id}/lines"), &headers, &body)
    };
    add(&sku(0), "sample-line-1")?;
    let lines = add(&sku(1), "sample-line-2")?;
    let headers = [json, ("Idempotency-Key", "sample-checkout"), ("Cart-Token", token.as_str())];
    let body = r#"{"email":"ada@example.com","payment":{"provider":"fake","method":"ok"}}"#;
    Ok(Answers {
        reservation: reserve(201, &sku(0), "sample-reservation")?,
        refusal: reserve(409, SOLD_OUT, "sample-refusal")?,
        availability: demand(address, 200, "GET", &format!("/v1/skus/{}/availability", sku(1)), &[], "")?,
        batch: demand(address, 200, "POST", "/v1/reservations/batch", &[json], &batch)?,
        order: demand(address, 201, "POST", &format!("/v1/carts/{id}/checkout"), &headers, body)?,
        cart,
        lines,
    })
}
