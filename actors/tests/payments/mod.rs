//! Orders against a provider elsewhere that does what a test says: holds money, keeps silent, loses answers, tells unasked.
//!
//! The engine is the stepped one, so time is advanced and never slept; the provider's books outlast an engine that is killed, as
//! a real one's do. [`Provider`] is the script, [`live`] one life of an engine with it.

mod books;
mod crashes;
mod flow;
mod notices;
mod outages;
mod provider;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use doorbuster_actors::{Access, CheckoutInput, Engine, EngineOptions, Heard, Stepped, Verdict};
use doorbuster_engine::answer::{Answer, CheckoutResult};
use doorbuster_engine::cart::CartView;
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::order::OrderView;

use crate::harness::{cart, stock, ticket};
use crate::stepped::{Seeded, live_with};

pub(super) use provider::Provider;

/// One life of an engine that sells by these providers, killed at its end. It begins so much after noon: a later life of the same
/// data begins later.
pub(super) fn live<T>(
    data: &Path,
    ahead_s: u64,
    providers: &[&Provider],
    change: impl FnOnce(&mut EngineOptions),
    live: impl AsyncFnOnce(Engine, Rc<RefCell<Stepped>>) -> T,
) -> T {
    let host = |options: &mut EngineOptions| {
        options.providers = providers.iter().map(|provider| provider.door()).collect();
        options.limits.payment_deadline = Duration::from_secs(2);
        options.limits.checkpoint_interval = Duration::from_secs(10);
        change(options);
        Seeded { ahead_ms: ahead_s * 1_000, ..Seeded::new(7) }
    };
    live_with(data, host, live)
}

/// Checks out one unit of `sku` from a cart of its own, by the provider `script`.
pub(super) async fn buy(engine: &Engine, key: &str, sku: &str, method: &str) -> Verdict {
    let cart = cart(engine, &format!("cart {key}"), &[(sku, 1)]).await;
    pay(engine, key, &cart, method).await
}

pub(super) async fn pay(engine: &Engine, key: &str, cart: &CartView, method: &str) -> Verdict {
    let input = CheckoutInput {
        email: "shopper@example.org".into(),
        provider: "script".into(),
        method: method.into(),
        expected_total: None,
        shipping_address: None,
        expected_version: None,
    };
    engine.checkout(ticket(engine, key, method), cart.id, input).await
}

/// What a checkout came to.
pub(super) fn came_to(verdict: Verdict) -> (CheckoutResult, OrderView) {
    match verdict.unwrap().answer {
        Answer::Checkout(result, order) => (result, *order),
        other => panic!("not a checkout: {other:?}"),
    }
}

pub(super) async fn order(engine: &Engine, id: OrderId) -> OrderView {
    engine.order(Access::Admin, id).await.unwrap()
}

/// The names of what happened to an order, oldest first.
pub(super) async fn steps(engine: &Engine, id: OrderId) -> Vec<String> {
    let timeline = engine.timeline(Access::Admin, id).await.unwrap();
    timeline.into_iter().map(|entry| entry.kind).collect()
}

/// Tells the engine what a provider says unasked: `event order reference amount standing`, proved by a header.
pub(super) async fn hear(
    engine: &Engine,
    text: &str,
    signature: &str,
) -> Result<Heard, doorbuster_actors::HearError> {
    let header = |name: &str| (name == "script-signature").then(|| signature.to_owned());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    engine.hear("script", &header, text.as_bytes(), deadline).await
}

/// On hand, reserved and sold units of a SKU.
pub(super) async fn units(engine: &Engine, sku: &str) -> (i64, i64, i64) {
    let stock = stock(engine, sku).await;
    (stock.on_hand, stock.reserved, stock.sold)
}

/// Lets time pass.
pub(super) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// The door of a provider as engines take it.
pub(super) type Door = Arc<dyn doorbuster_engine::payment::PaymentProvider>;
