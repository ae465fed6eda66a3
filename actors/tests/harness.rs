//! An engine in a temporary directory, with workers on arbiters of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorbuster_actors::{
    CheckoutInput, Engine, EngineOptions, LineRequest, Readiness, ReserveRequest, Ticket, Verdict,
};
use doorbuster_engine::answer::{Answer, Item, ReservationRecord};
use doorbuster_engine::cart::CartView;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell, StockView};
use doorbuster_gateways::fake::Fake;
use tokio::time::Instant;

/// Runs `test` with an engine on `data` and two workers; afterwards drains and stops it.
pub(crate) fn with_engine<T>(data: &Path, test: impl AsyncFnOnce(Engine) -> T) -> T {
    with_options(data, |_| {}, test)
}

/// [`with_engine`] with changed options.
pub(crate) fn with_options<T>(
    data: &Path,
    change: impl FnOnce(&mut EngineOptions),
    test: impl AsyncFnOnce(Engine) -> T,
) -> T {
    let mut options = EngineOptions::new(data.to_path_buf());
    options.workers = 2;
    options.segment_bytes = 4 << 20;
    options.providers = vec![Arc::new(Fake::default())];
    change(&mut options);
    actix_rt::System::new().block_on(async move {
        let (engine, _) = Engine::start(options, &mut |_| {}).unwrap();
        let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
        for arbiter in &arbiters {
            let engine = engine.clone();
            arbiter.spawn_fn(move || engine.attach_worker());
        }
        while engine.readiness() != Readiness::Ready {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let result = test(engine.clone()).await;
        engine.drain().await;
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().unwrap();
        }
        engine.stop();
        result
    })
}

pub(crate) fn sku(text: &str) -> Sku {
    Sku::new(text).unwrap()
}

pub(crate) fn pounds(amount: i64) -> Money {
    Money::new(amount, Currency::GBP)
}

/// A ticket of an anonymous caller; the body stands for what is asked.
pub(crate) fn ticket(engine: &Engine, key: &str, body: &str) -> Ticket {
    engine.ticket(
        "anonymous",
        Some(key),
        "POST",
        "/",
        body.as_bytes(),
        Instant::now() + Duration::from_secs(20),
    )
}

pub(crate) async fn define(engine: &Engine, name: &str, on_hand: i64) {
    let definition = Definition {
        name: name.into(),
        price: pounds(1_000),
        oversell: Oversell::Deny,
        reservation_ttl_ms: None,
        low_stock_at: None,
    };
    let ticket = ticket(engine, &format!("define {name}"), &on_hand.to_string());
    engine.define_sku(ticket, sku(name), definition, Some(on_hand)).await.unwrap();
}

/// Reserves `items`; the key alone is the request's content.
pub(crate) async fn reserve(
    engine: &Engine,
    key: &str,
    items: &[(&str, i64)],
    ttl_ms: Option<u64>,
) -> Verdict {
    let items =
        items.iter().map(|(name, quantity)| Item { sku: sku(name), quantity: *quantity }).collect::<Vec<_>>();
    let body = format!("{items:?}");
    let request = ReserveRequest { items, ttl_ms, partial: false, customer: None };
    engine.reserve(ticket(engine, key, &body), request).await
}

pub(crate) fn record(verdict: Verdict) -> ReservationRecord {
    match verdict.unwrap().answer {
        Answer::Reservation(record) => record,
        other => panic!("not a reservation: {other:?}"),
    }
}

pub(crate) async fn stock(engine: &Engine, name: &str) -> StockView {
    engine.stock(sku(name)).await.unwrap()
}

/// A cart with these lines.
pub(crate) async fn cart(engine: &Engine, key: &str, lines: &[(&str, i64)]) -> CartView {
    let lines = lines
        .iter()
        .map(|(name, quantity)| LineRequest { sku: sku(name), quantity: *quantity, unit_price: None })
        .collect();
    match engine.create_cart(ticket(engine, key, "cart"), None, lines).await.unwrap().answer {
        Answer::CartCreated(view) => *view,
        other => panic!("not a cart: {other:?}"),
    }
}

/// Checks a cart out by a method of the fake provider.
pub(crate) async fn checkout(engine: &Engine, key: &str, cart: &CartView, method: &str) -> Verdict {
    let input = CheckoutInput {
        email: "shopper@example.org".into(),
        provider: "fake".into(),
        method: method.into(),
        expected_total: None,
        shipping_address: None,
        expected_version: None,
    };
    engine.checkout(ticket(engine, key, method), cart.id, input).await
}

/// Waits for something that other actors do in their own time.
pub(crate) async fn eventually(what: &str, mut test: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if test().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

/// Copies a data directory as a crash would leave it: whatever is on disk at this moment.
pub(crate) fn snapshot_of(data: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(data).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            snapshot_of(&entry.path(), &target);
        } else {
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}
