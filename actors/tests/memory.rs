//! What is gone leaves memory with all that belongs to it: its key, its timer, its seat (law 11).

use std::time::Duration;

use doorbuster_actors::{EngineOptions, RefundInput, Stepped};
use doorbuster_engine::answer::{Answer, CheckoutResult, Item, Refusal};
use doorbuster_engine::cart::CartStateName;
use doorbuster_engine::identity::RequestKey;

use crate::harness::{cart, checkout, define, pounds, reserve, sku, stock, ticket};
use crate::shells::apart;
use crate::stepped::{Seeded, live_with};

const DAY_MS: u64 = 86_400_000;

/// What the index knows of a key.
fn known_of(stepped: &Stepped, key: RequestKey) -> Option<&'static str> {
    stepped.keys().into_iter().find(|(known, _)| *known == key).map(|(_, stage)| stage)
}

#[test]
fn a_checkout_that_outlives_the_memory_of_its_answer_leaves_no_key_behind() {
    let data = tempfile::tempdir().unwrap();
    let on_day = |day: u64| {
        move |options: &mut EngineOptions| {
            options.limits.payment_pin = Duration::from_secs(3 * 86_400);
            Seeded { ahead_ms: day * DAY_MS + day, ..Seeded::new(day) }
        }
    };
    let (cart, key) = live_with(data.path(), on_day(0), async |engine, _| {
        define(&engine, "TEE", 10).await;
        let cart = cart(&engine, "cart", &[("TEE", 1)]).await;
        let told = checkout(&engine, "pay", &cart, "requires_action").await.unwrap().answer;
        assert!(matches!(told, Answer::Checkout(CheckoutResult::ActionRequired { .. }, _)), "{told:?}");
        (cart.id, ticket(&engine, "pay", "requires_action").stamp.key)
    });
    // Something happens a day later, so that the next start knows of no answer that old.
    live_with(data.path(), on_day(2), async |engine, _| {
        engine.adjust(ticket(&engine, "count", ""), sku("TEE"), 1, "count".into(), None).await.unwrap();
    });
    live_with(data.path(), on_day(4), async |engine, stepped| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let Answer::Cart(seen) = engine.cart(cart).await.unwrap().answer else { panic!("no cart") };
        assert_eq!(seen.state, CartStateName::Open, "nobody paid");
        assert_eq!(known_of(&stepped.borrow(), key), None, "law 11");
    });
}

#[test]
fn a_reservation_refused_before_a_crash_leaves_no_key_behind() {
    let data = tempfile::tempdir().unwrap();
    let far = |_: &mut EngineOptions| Seeded { way_ms: 3_000, ..Seeded::new(4) };
    let (first, key) = live_with(data.path(), far, async |engine, _| {
        let (first, second, key) = apart(&engine);
        define(&engine, first, 5).await;
        define(&engine, second, 1).await;
        let rest = [(second, 1)];
        let other = reserve(&engine, "other", &rest, Some(600_000));
        let items = [(first, 1), (second, 1)];
        // Its card says that there is one; when the question arrives, three seconds later, there is none.
        let (saga, other) = tokio::join!(reserve(&engine, &key, &items, Some(600_000)), other);
        other.unwrap();
        assert!(matches!(saga, Err(Refusal::InsufficientStock(_))), "{saga:?}");
        let body = format!("{:?}", items.map(|(name, quantity)| Item { sku: sku(name), quantity }));
        // The units of the second SKU are on their way back for three seconds more: the engine is killed here.
        (first, ticket(&engine, &key, &body).stamp.key)
    });
    live_with(
        data.path(),
        |_| Seeded::new(5),
        async |engine, stepped| {
            assert!(stepped.borrow().residents().len() == 1, "the coordinator has something left to do");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(stepped.borrow().residents(), [], "and has done it");
            assert_eq!(stock(&engine, first).await.reserved, 0, "law 6");
            assert_eq!(known_of(&stepped.borrow(), key), None, "law 11");
        },
    );
}

#[test]
fn an_order_woken_from_the_store_takes_its_timer_along_when_it_leaves() {
    let data = tempfile::tempdir().unwrap();
    let hasty = |ahead_ms: u64| {
        move |options: &mut EngineOptions| {
            options.limits.payment_pin = Duration::from_secs(20);
            options.limits.passivate_after = Duration::from_millis(100);
            Seeded { ahead_ms, ..Seeded::new(ahead_ms) }
        }
    };
    let order = live_with(data.path(), hasty(0), async |engine, _| {
        define(&engine, "TEE", 10).await;
        let cart = cart(&engine, "cart", &[("TEE", 2)]).await;
        // While the provider takes its time the store notes when the pin ends, and keeps that until it has woken the order.
        let Answer::Checkout(_, order) = checkout(&engine, "pay", &cart, "slow").await.unwrap().answer else {
            panic!("no order")
        };
        engine.fulfil(ticket(&engine, "ship", ""), order.id, None, None).await.unwrap();
        order.id
    });
    // The pin would have ended while nobody was there. The order now waits for the end of its return window, and a refund
    // ends that waiting before the store wakes it.
    live_with(data.path(), hasty(60_000), async |engine, stepped| {
        let refund = RefundInput { amount: Some(pounds(1)), lines: None, restock: false, reason: None };
        engine.refund(ticket(&engine, "refund", ""), order, refund).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(stepped.borrow().residents(), [], "everything has left memory");
        assert_eq!(stepped.borrow().armed(), Vec::<String>::new(), "law 11");
    });
}
