//! Steps of sagas that arrive a second time, long after everything has gone on: nothing of them stays.

use std::time::Duration;

use doorbuster_actors::{Access, Engine, EngineOptions, ReserveRequest, Verdict};
use doorbuster_engine::answer::{Answer, Item, Refusal};
use doorbuster_engine::order::OrderState;

use crate::harness::{cart, checkout, define, record, reserve, sku, stock, ticket};
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
    // Each row: when the engine is killed after the delivery, if it is, how long bundles are on their way, and how late copies
    // may be.
    for (label, killed_after_ms, way_ms, late_ms) in [
        ("at once", None, 0, 1_000),
        ("after a crash", Some(50), 0, 1_000),
        ("later", Some(400), 0, 1_000),
        ("after a crash, while the coordinators do not know of them", Some(1_500), 500, 4_000),
    ] {
        let world = || Seeded { way_ms, ..late(late_ms) };
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
            |_| world(),
            async |engine, _| {
                define(&engine, "CUP", 0).await;
                define(&engine, "TEE", 100).await;
                let shoppers =
                    [(); 16].map(|()| engine.clone()).into_iter().enumerate().map(|(n, engine)| {
                        tokio::task::spawn_local(async move {
                            reserve_what_is_left(&engine, &n.to_string()).await
                        })
                    });
                for shopper in shoppers.collect::<Vec<_>>() {
                    assert_eq!(shopper.await.unwrap(), 1, "{label}");
                }
                let delivery = ticket(&engine, "delivery", "50");
                engine.adjust(delivery, sku("CUP"), 50, "delivery".into(), None).await.unwrap();
                match killed_after_ms {
                    None => nothing_stays(&engine).await,
                    Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                }
            },
        );
        live_with(data.path(), |_| world(), async |engine, _| nothing_stays(&engine).await);
    }
}

/// Reserves one CUP and one TEE, again and again while an earlier attempt under the key is not over.
async fn reserve_both(engine: Engine, key: String) -> Verdict {
    loop {
        match reserve(&engine, &key, &[("CUP", 1), ("TEE", 1)], Some(600_000)).await {
            Err(Refusal::InProgress { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            verdict => return verdict,
        }
    }
}

/// [`reserve_both`] under all these keys at once; gives those that were refused.
async fn reserve_at_once(engine: &Engine, keys: Vec<String>) -> Vec<String> {
    let asked = keys.into_iter().map(|key| {
        let verdict = tokio::task::spawn_local(reserve_both(engine.clone(), key.clone()));
        async move { (key, verdict.await.unwrap()) }
    });
    let mut refused = Vec::new();
    for answer in asked.collect::<Vec<_>>() {
        let (key, verdict) = answer.await;
        if verdict.is_err() {
            refused.push(key);
        }
    }
    refused
}

#[test]
fn a_late_step_of_a_refused_attempt_takes_nothing_from_the_next_one() {
    // Each row: how long bundles take, and how late their copies may be.
    for (way_ms, late_ms) in [(1, 40), (3, 200), (1, 1_000), (7, 3_000)] {
        let data = tempfile::tempdir().unwrap();
        let world = |_: &mut EngineOptions| Seeded { way_ms, ..late(late_ms) };
        live_with(data.path(), world, async |engine, _| {
            define(&engine, "CUP", 16).await;
            define(&engine, "TEE", 0).await;
            let mut keys: Vec<String> = (0..16).map(|n| format!("{n}")).collect();
            for delivery in 0..16 {
                let ticket = ticket(&engine, &format!("delivery {delivery}"), "1");
                engine.adjust(ticket, sku("TEE"), 1, "delivery".into(), None).await.unwrap();
                keys = reserve_at_once(&engine, keys).await;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            let (cup, tee) = (stock(&engine, "CUP").await, stock(&engine, "TEE").await);
            let held = i64::try_from(16 - keys.len()).unwrap();
            assert!(held > 0, "some are granted");
            assert_eq!(
                (cup.reserved, tee.reserved),
                (held, held),
                "laws 6 and 8: {way_ms} and {late_ms} ms: what is granted is held, and nothing else"
            );
        });
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
