//! A panic in one actor's turn: that actor is rebuilt from the disk, all others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorbuster_actors::Engine;
use doorbuster_engine::answer::Refusal;

use crate::harness::{define, eventually, record, reserve, sku, stock, ticket, with_engine};
use crate::stepped::{Seeded, live_with};

#[test]
fn a_question_that_panics_at_a_sleeping_sku_stops_nobody_else() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        for name in ["TEE", "CUP"] {
            define(&engine, name, 10).await;
        }
    });
    // After a start every SKU sleeps until it is asked for something.
    with_engine(data.path(), async |engine| {
        for name in ["TEE", "CUP"] {
            engine.poison(sku(name)).await;
        }
        for name in ["TEE", "CUP"] {
            eventually("the SKU is back", async || engine.stock(sku(name)).await.is_ok()).await;
            assert_eq!(stock(&engine, name).await.on_hand, 10);
            record(reserve(&engine, name, &[(name, 1)], None).await);
        }
    });
}

#[test]
fn an_actor_that_panics_is_rebuilt_and_quarantined_when_it_goes_on() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 10).await;
        define(&engine, "CUP", 10).await;
        let held = record(reserve(&engine, "held", &[("TEE", 4)], None).await);
        for _ in 0..3 {
            engine.poison(sku("TEE")).await;
            assert_eq!(stock(&engine, "CUP").await.on_hand, 10, "others go on");
            eventually("the actor is back", async || engine.stock(sku("TEE")).await.is_ok()).await;
            assert_eq!(stock(&engine, "TEE").await.reserved, 4);
            assert_eq!(record(engine.reservation(held.id).await), held);
        }
        engine.poison(sku("TEE")).await;
        let refused = reserve(&engine, "late", &[("TEE", 1)], None).await;
        assert!(matches!(refused, Err(Refusal::Recovering { .. })), "{refused:?}");
    });
}

/// The actor was lost for good between the record and whatever says that the reservation stands: it was denied.
#[test]
fn a_reservation_that_its_lost_actor_recorded_is_never_denied() {
    let data = tempfile::tempdir().unwrap();
    let panic_at = Arc::new(AtomicU64::new(0));
    let host = |_: &mut doorbuster_actors::EngineOptions| Seeded::panicking(1, &panic_at);
    live_with(data.path(), host, async |engine, _| {
        define(&engine, "TEE", 10).await;
        for _ in 0..3 {
            engine.poison(sku("TEE")).await;
            eventually("the actor is back", async || engine.stock(sku("TEE")).await.is_ok()).await;
        }
        panic_at.store(1, Ordering::Relaxed);
        let lost = reserve(&engine, "held", &[("TEE", 4)], None).await;
        // What it recorded is read from the journal as soon as it is durable.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let id = ticket(&engine, "held", "").stamp.key.reservation();
        let released = engine.release(ticket(&engine, "release", ""), id).await;
        for (label, verdict) in
            [("the request", lost), ("a look", engine.reservation(id).await), ("a release", released)]
        {
            assert!(matches!(verdict, Err(Refusal::Recovering { .. })), "law 4: {label}: {verdict:?}");
        }
    });
    live_with(
        data.path(),
        |_| Seeded::new(2),
        async |engine, _| {
            let id = ticket(&engine, "held", "").stamp.key.reservation();
            assert_eq!(record(engine.reservation(id).await).items[0].quantity, 4, "law 3, after a restart");
        },
    );
}

/// An actor panicked between its record and everything after it, and was not on the list of what changed: the next round set
/// its mark behind the record, and the rebuild read the journal from there. The cart was made a second time, the reservation's
/// units were free again, and a restart would have had neither.
#[test]
fn no_mark_passes_a_record_whose_actor_panicked_before_it_was_rebuilt() {
    let data = tempfile::tempdir().unwrap();
    let panic_at = Arc::new(AtomicU64::new(0));
    let dawdling = |_: &mut doorbuster_actors::EngineOptions| Seeded {
        blocking_ms: 900,
        ..Seeded::panicking(1, &panic_at)
    };
    let make_cart = async |engine: &Engine| {
        engine.create_cart(ticket(engine, "cart", "cart"), None, Vec::new()).await.map(|reply| reply.replayed)
    };
    live_with(data.path(), dawdling, async |engine, stepped| {
        for name in ["TEE", "CUP"] {
            define(&engine, name, 10).await;
        }
        for what in ["a cart", "a reservation"] {
            // Rounds come every 200 ms: everything before is behind a mark.
            tokio::time::sleep(Duration::from_millis(500)).await;
            panic_at.store(1, Ordering::Relaxed);
            let refused = match what {
                "a cart" => make_cart(&engine).await.map(|_| ()),
                _ => reserve(&engine, "held", &[("TEE", 4)], Some(60_000)).await.map(|_| ()),
            };
            assert!(matches!(refused, Err(Refusal::Recovering { .. })), "{what}: {refused:?}");
            // Others go on, so that there is something for a round to write.
            record(reserve(&engine, what, &[("CUP", 1)], Some(60_000)).await);
            let before = stepped.borrow().checkpoint_rounds();
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(
                stepped.borrow().checkpoint_rounds() > before,
                "{what}: the round ends once it is rebuilt"
            );
        }
        assert_eq!(make_cart(&engine).await, Ok(true), "law 5: it was made before");
        assert_eq!(stock(&engine, "TEE").await.reserved, 4, "law 3");
    });
    live_with(
        data.path(),
        |_| Seeded::new(2),
        async |engine, _| {
            assert_eq!(make_cart(&engine).await, Ok(true), "law 5, after a restart");
            assert!(reserve(&engine, "held", &[("TEE", 4)], Some(60_000)).await.unwrap().replayed, "law 5");
            assert_eq!(stock(&engine, "TEE").await.reserved, 4, "law 3, after a restart");
        },
    );
}

/// The key was free as soon as the turn that took it up had panicked: another body took effect under it at another SKU, or was
/// told the first one's answer.
#[test]
fn a_key_stays_taken_when_the_turn_that_took_it_up_panics_after_its_record() {
    let data = tempfile::tempdir().unwrap();
    let panic_at = Arc::new(AtomicU64::new(0));
    let dawdling = |_: &mut doorbuster_actors::EngineOptions| Seeded {
        panic_at: Arc::clone(&panic_at),
        blocking_ms: 300,
        ..Seeded::new(1)
    };
    live_with(data.path(), dawdling, async |engine, _| {
        for name in ["TEE", "CUP"] {
            define(&engine, name, 10).await;
        }
        let deliver = async |name: &str, units: i64| {
            let ticket = ticket(&engine, "delivery", &format!("{units} of {name}"));
            engine.adjust(ticket, sku(name), units, "delivery".into(), None).await
        };
        panic_at.store(1, Ordering::Relaxed);
        let lost = deliver("TEE", 1).await;
        assert!(matches!(lost, Err(Refusal::Recovering { .. })), "{lost:?}");
        for (name, units) in [("TEE", 2), ("CUP", 1)] {
            let other = deliver(name, units).await;
            assert!(matches!(other, Err(Refusal::KeyReused)), "law 5: {units} of {name}: {other:?}");
        }
        assert!(deliver("TEE", 1).await.unwrap().replayed, "law 5: it took effect before");
        let other = deliver("CUP", 1).await;
        assert!(matches!(other, Err(Refusal::KeyReused)), "law 5, after the rebuild: {other:?}");
        assert_eq!(stock(&engine, "TEE").await.on_hand, 11);
        assert_eq!(stock(&engine, "CUP").await.on_hand, 10);
    });
}
