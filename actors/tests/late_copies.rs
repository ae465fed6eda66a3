//! Steps of sagas that arrive a second time, long after everything has gone on: nothing of them stays.

use std::time::Duration;

use doorbuster_actors::{Access, Engine, EngineOptions, ReserveRequest};
use doorbuster_engine::answer::{Answer, Item};
use doorbuster_engine::order::OrderState;

use crate::harness::{cart, checkout, define, record, sku, stock, ticket};
use crate::stepped::{Seeded, live_with};

/// A world in which every parcel between workers comes twice, the second time up to `late_ms` later.
fn late(late_ms: u64) -> Seeded {
    Seeded { late_ms, ..Seeded::new(1) }
}

/// Reserves one TEE and one CUP, or whatever of it is there.
async fn reserve_what_is_left(engine: &Engine, key: &str) -> i64 {
    let items = ["CUP", "TEE"].map(|name| Item { sku: sku(name), quantity: 1 }).to_vec();
    let request = ReserveRequest { items, ttl_ms: Some(600_000), partial: true, customer: None };
    let held = record(engine.reserve(ticket(engine, key, "what is left"), request).await);
    held.items.iter().map(|item| item.quantity).sum()
}

#[test]
fn units_held_for_a_partial_grant_that_went_on_without_them_go_back() {
    // Each row: when the engine is killed after the delivery, if it is.
    for (label, killed_after_ms) in [("at once", None), ("after a crash", Some(50)), ("later", Some(400))] {
        let data = tempfile::tempdir().unwrap();
        let nothing_stays = async |engine: &Engine| {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let (cup, tee) = (stock(engine, "CUP").await, stock(engine, "TEE").await);
            assert_eq!(
                (cup.reserved, tee.reserved),
                (0, 16),
                "{label}, law 6: only what was granted is held"
            );
        };
        live_with(
            data.path(),
            |_| late(1_000),
            async |engine, _| {
                define(&engine, "CUP", 0).await;
                define(&engine, "TEE", 100).await;
                for n in 0..16 {
                    assert_eq!(reserve_what_is_left(&engine, &format!("{n}")).await, 1, "{label}: {n}");
                }
                let delivery = ticket(&engine, "delivery", "50");
                engine.adjust(delivery, sku("CUP"), 50, "delivery".into(), None).await.unwrap();
                match killed_after_ms {
                    None => nothing_stays(&engine).await,
                    Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                }
            },
        );
        live_with(data.path(), |_| late(1_000), async |engine, _| nothing_stays(&engine).await);
    }
}

#[test]
fn an_order_that_left_memory_is_not_begun_again() {
    let data = tempfile::tempdir().unwrap();
    let hasty = |options: &mut EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_millis(50);
        options.limits.passivate_after = Duration::from_millis(100);
        late(20_000)
    };
    live_with(data.path(), hasty, async |engine, _| {
        define(&engine, "TEE", 100).await;
        let mut orders = Vec::new();
        for n in 0..16 {
            let cart = cart(&engine, &format!("cart {n}"), &[("TEE", 1)]).await;
            let Answer::Checkout(_, order) =
                checkout(&engine, &format!("pay {n}"), &cart, "ok").await.unwrap().answer
            else {
                panic!("no order")
            };
            orders.push(order.id);
        }
        tokio::time::sleep(Duration::from_secs(25)).await;
        for order in orders {
            let found = engine.order(Access::Admin, order).await.unwrap();
            assert_eq!(found.state, OrderState::Paid, "law 7: {found:?}");
        }
        let seen = stock(&engine, "TEE").await;
        assert_eq!((seen.sold, seen.reserved), (16, 0), "law 1: {seen:?}");
    });
}
