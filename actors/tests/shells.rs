//! What the shells around the machines must not forget: a turn that panicked after it recorded, copies that come late,
//! timers of what has ended, and the bound on readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorbuster_actors::{Engine, Reply, Verdict};
use doorbuster_engine::answer::{Answer, Refusal, ReservationState};
use doorbuster_engine::event::EntityKey;
use doorbuster_persistence::checkpoint::{CheckpointStore, Residence};
use doorbuster_persistence::disk::MachineDisk;
use tokio::time::Instant;

use crate::harness::{cart, checkout, define, record, reserve, sku, stock, ticket};
use crate::stepped::{Seeded, live_with};

/// Asks until the answer is certain, with the same key; a panic in between answers `Recovering`.
async fn certain(what: &str, mut ask: impl AsyncFnMut() -> Verdict) -> Reply {
    for _ in 0..50 {
        match ask().await {
            Ok(reply) => return reply,
            Err(Refusal::Recovering { .. } | Refusal::InProgress { .. } | Refusal::DeadlineExceeded) => {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    panic!("{what}: never certain");
}

async fn adjust(engine: &Engine, key: &str, delta: i64) -> Reply {
    certain(key, async || {
        let ticket = ticket(engine, key, &delta.to_string());
        engine.adjust(ticket, sku("TEE"), delta, "count".to_owned(), None).await
    })
    .await
}

/// A bit of everything, each call repeated until its answer is certain: all answers by key.
async fn a_bit_of_everything(engine: &Engine) -> Vec<(&'static str, Answer)> {
    let mut told = Vec::new();
    told.push(("adjust", adjust(engine, "adjust", 5).await.answer));
    let one = certain("one", async || reserve(engine, "one", &[("TEE", 2)], Some(60_000)).await).await;
    let one_id = record(Ok(one.clone())).id;
    told.push(("one", one.answer));
    let sold = certain("sell", async || engine.commit(ticket(engine, "sell", ""), one_id).await).await;
    told.push(("sell", sold.answer));
    let items = [("TEE", 1), ("CUP", 2)];
    let both = certain("both", async || reserve(engine, "both", &items, Some(60_000)).await).await;
    let both_id = record(Ok(both.clone())).id;
    told.push(("both", both.answer));
    let freed = certain("free", async || engine.release(ticket(engine, "free", ""), both_id).await).await;
    told.push(("free", freed.answer));
    let lines = [("TEE", 3), ("CUP", 1)];
    let lines = lines.map(|(name, quantity)| doorbuster_actors::LineRequest {
        sku: sku(name),
        quantity,
        unit_price: None,
    });
    let made = certain("cart", async || {
        engine.create_cart(ticket(engine, "cart", "cart"), None, lines.to_vec()).await
    });
    let Answer::CartCreated(cart) = made.await.answer else { panic!("not a cart") };
    let order = certain("pay", async || checkout(engine, "pay", &cart, "ok").await).await;
    told.push(("pay", order.answer));
    told
}

async fn again(engine: &Engine, key: &str, answer: &Answer) -> Reply {
    let id = match answer {
        Answer::Reservation(record) => Some(record.id),
        _ => None,
    };
    match (key, id) {
        ("adjust", _) => adjust(engine, "adjust", 5).await,
        ("one", _) => reserve(engine, "one", &[("TEE", 2)], Some(60_000)).await.unwrap(),
        ("both", _) => reserve(engine, "both", &[("TEE", 1), ("CUP", 2)], Some(60_000)).await.unwrap(),
        ("sell", Some(id)) => engine.commit(ticket(engine, "sell", ""), id).await.unwrap(),
        ("free", Some(id)) => engine.release(ticket(engine, "free", ""), id).await.unwrap(),
        ("pay", _) => {
            let Answer::Checkout(_, order) = answer else { panic!("not a checkout: {answer:?}") };
            let mut view = cart(engine, "another cart", &[("TEE", 1)]).await;
            view.id = order.cart;
            checkout(engine, "pay", &view, "ok").await.unwrap()
        }
        other => panic!("{other:?}"),
    }
}

async fn check_all(engine: &Engine, told: &[(&str, Answer)], label: &str) {
    for (key, answer) in told {
        let reply = again(engine, key, answer).await;
        assert!(reply.replayed, "{label}, law 5: {key} had its answer");
        assert_eq!(reply.answer, *answer, "{label}, law 5: {key}");
    }
    for (name, received, sold) in [("TEE", 105, 5), ("CUP", 100, 1)] {
        let stock = stock(engine, name).await;
        let seen = (stock.received, stock.sold, stock.reserved, stock.on_hand);
        assert_eq!(seen, (received, sold, 0, received - sold), "{label}, laws 1 and 2: {name}");
    }
}

#[test]
fn a_turn_that_panics_after_it_recorded_is_told_all_the_same() {
    let mut undisturbed = 0;
    for n in 0.. {
        let data = tempfile::tempdir().unwrap();
        let panic_at = Arc::new(AtomicU64::new(0));
        let label = format!("a panic after record {n}");
        let (told, fired) = live_with(
            data.path(),
            |_| Seeded::panicking(n, &panic_at),
            async |engine, stepped| {
                for name in ["TEE", "CUP"] {
                    define(&engine, name, 100).await;
                }
                // With a checkpoint in between, the rows below are older than what the panic loses.
                tokio::time::sleep(Duration::from_secs(1)).await;
                panic_at.store(n, Ordering::Relaxed);
                let told = a_bit_of_everything(&engine).await;
                let fired = panic_at.swap(0, Ordering::Relaxed) == 0;
                tokio::time::sleep(Duration::from_secs(3)).await;
                check_all(&engine, &told, &label).await;
                let id = |key| {
                    told.iter().find_map(|(name, answer)| match answer {
                        Answer::Reservation(record) if *name == key => Some(record.id),
                        _ => None,
                    })
                };
                for (key, state) in
                    [("one", ReservationState::Committed), ("both", ReservationState::Released)]
                {
                    let seen = record(engine.reservation(id(key).unwrap()).await);
                    assert_eq!(seen.state, state, "{label}: {key}");
                }
                let timers = stepped.borrow().timers();
                // What ended in the turn that panicked may keep its own until it is due.
                let kept = usize::from(n > 0);
                assert!(
                    n == 0 || timers <= undisturbed + kept,
                    "{label}: {timers}, not {undisturbed} timers"
                );
                undisturbed = if n == 0 { timers } else { undisturbed };
                (told, fired)
            },
        );
        live_with(
            data.path(),
            |_| Seeded::panicking(n, &panic_at),
            async |engine, _| {
                check_all(&engine, &told, &format!("{label}, after a restart")).await;
            },
        );
        if n > 0 && !fired {
            assert!(n > 20, "the scenario has more than {n} events");
            return;
        }
    }
}

#[test]
fn what_a_lost_actor_recorded_is_not_refused_by_the_card_it_left() {
    let data = tempfile::tempdir().unwrap();
    let panic_at = Arc::new(AtomicU64::new(0));
    let host = |_: &mut doorbuster_actors::EngineOptions| Seeded::panicking(1, &panic_at);
    live_with(data.path(), host, async |engine, _| {
        define(&engine, "TEE", 0).await;
        let sold_out = reserve(&engine, "early", &[("TEE", 3)], None).await;
        assert!(matches!(sold_out, Err(Refusal::InsufficientStock(_))), "{sold_out:?}");
        panic_at.store(1, Ordering::Relaxed);
        let delivery =
            engine.adjust(ticket(&engine, "delivery", "9"), sku("TEE"), 9, "delivery".into(), None);
        let lost = delivery.await;
        assert!(matches!(lost, Err(Refusal::Recovering { .. })), "{lost:?}");
        // The actor is not back yet. Its card still says that nothing is there, and nobody may be told so.
        let held = reserve(&engine, "late", &[("TEE", 3)], None).await;
        assert_eq!(record(held).items[0].quantity, 3, "law 4");
        assert_eq!(stock(&engine, "TEE").await.available, 6);
    });
}

#[test]
fn a_late_copy_of_a_hold_leaves_no_units_tentative() {
    let data = tempfile::tempdir().unwrap();
    let host = || Seeded { late_ms: 300, ..Seeded::new(1) };
    live_with(
        data.path(),
        |_| host(),
        async |engine, _| {
            for name in ["TEE", "CUP"] {
                define(&engine, name, 100).await;
            }
            for n in 0..16 {
                let key = format!("both {n}");
                record(reserve(&engine, &key, &[("TEE", 1), ("CUP", 1)], Some(600_000)).await);
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            for name in ["TEE", "CUP"] {
                let asked = Instant::now();
                let refused = reserve(&engine, &format!("late {name}"), &[(name, 85)], None).await;
                assert!(matches!(refused, Err(Refusal::InsufficientStock(_))), "{refused:?}");
                assert!(
                    asked.elapsed() < Duration::from_millis(500),
                    "{name}: waited for units nobody gives back"
                );
            }
        },
    );
}

/// Two SKUs in the order in which a saga asks them, on different workers, and a key whose saga lives where the first one does.
pub(crate) fn apart(engine: &Engine) -> (&'static str, &'static str, String) {
    let worker = |entity: EntityKey| entity.partition() % 2;
    let of_sku = |name: &str| worker(EntityKey::Sku(sku(name)));
    let names = ["CAP", "CUP", "HAT", "MUG", "PEN", "TEE"];
    let first = names[0];
    let second = names.into_iter().find(|second| of_sku(first) != of_sku(second)).unwrap();
    let key = (0..64).map(|n| format!("saga {n}")).find(|key| {
        let id = ticket(engine, key, "").stamp.key.reservation();
        worker(EntityKey::Reservation(id)) == of_sku(first)
    });
    (first, second, key.unwrap())
}

#[test]
fn whoever_waits_for_tentative_units_has_a_second_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    let host = |_: &mut doorbuster_actors::EngineOptions| Seeded { way_ms: 3_000, ..Seeded::new(4) };
    live_with(data.path(), host, async |engine, _| {
        let (first, second, key) = apart(&engine);
        for name in [first, second] {
            define(&engine, name, 1).await;
        }
        let after = |wait_ms: u64, key: String, items: Vec<(&'static str, i64)>| {
            let engine = engine.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                let asked = Instant::now();
                (reserve(&engine, &key, &items, None).await, asked.elapsed())
            })
        };
        // The saga has the first SKU's unit, and its question to the second is on its way for three seconds.
        let saga = after(0, key, vec![(first, 1), (second, 1)]);
        let waiting = [0, 500, 990].map(|ms| after(10 + ms, format!("after {ms}"), vec![(first, 1)]));
        for one in waiting {
            let (refused, waited) = one.await.unwrap();
            assert!(matches!(refused, Err(Refusal::InsufficientStock(_))), "{refused:?}");
            assert!((1_000..1_200).contains(&waited.as_millis()), "waited {waited:?}");
        }
        saga.await.unwrap().0.unwrap();
    });
}

#[test]
fn a_retry_of_an_ended_reservation_leaves_the_row_that_tells_of_its_end() {
    let data = tempfile::tempdir().unwrap();
    // Long enough for the retry to come before the first round.
    let host = |options: &mut doorbuster_actors::EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_millis(500);
        Seeded::new(5)
    };
    let id = live_with(data.path(), host, async |engine, stepped| {
        for name in ["TEE", "CUP"] {
            define(&engine, name, 10).await;
        }
        let both = async || reserve(&engine, "both", &[("TEE", 1), ("CUP", 1)], Some(600_000)).await;
        let held = record(both().await);
        engine.release(ticket(&engine, "end", ""), held.id).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(stepped.borrow().checkpoint_rounds(), 0, "the retry comes before the round");
        assert_eq!(record(both().await), held, "law 5");
        while stepped.borrow().checkpoint_rounds() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        held.id
    });
    let store = CheckpointStore::open(&MachineDisk, &data.path().join("checkpoint")).unwrap();
    let row = store.get(&EntityKey::Reservation(id)).unwrap().unwrap();
    assert_eq!(row.residence, Residence::Gone, "law 10: a replay must skip its records");
    assert!(row.sequence > 0, "{row:?}");
}

#[test]
fn timers_of_ended_reservations_leave_the_wheel() {
    let data = tempfile::tempdir().unwrap();
    live_with(
        data.path(),
        |_| Seeded::new(2),
        async |engine, stepped| {
            define(&engine, "TEE", 100).await;
            for n in 0..30 {
                let held = record(reserve(&engine, &format!("{n}"), &[("TEE", 1)], Some(600_000)).await);
                let ticket = |what: &str| ticket(&engine, &format!("{what} {n}"), "");
                if n % 3 == 0 {
                    engine.extend(ticket("extend"), held.id, 900_000).await.unwrap();
                }
                assert_eq!(stepped.borrow().timers(), 1, "{n} is held");
                let ended = if n % 2 == 0 {
                    engine.commit(ticket("end"), held.id).await
                } else {
                    engine.release(ticket("end"), held.id).await
                };
                ended.unwrap();
                assert_eq!(stepped.borrow().timers(), 0, "law 11: {n} has ended");
            }
        },
    );
}

#[test]
fn readers_take_a_place_like_everybody_else() {
    let data = tempfile::tempdir().unwrap();
    let host = |options: &mut doorbuster_actors::EngineOptions| {
        options.limits.in_flight_max = 4;
        Seeded::new(3)
    };
    live_with(data.path(), host, async |engine, _| {
        define(&engine, "TEE", 100).await;
        let readers: Vec<_> = (0..32)
            .map(|_| {
                let engine = engine.clone();
                tokio::task::spawn_local(async move { engine.stock(sku("TEE")).await })
            })
            .collect();
        let (mut answered, mut refused) = (0, 0);
        for reader in readers {
            match reader.await.unwrap() {
                Ok(_) => answered += 1,
                Err(Refusal::Overloaded { .. }) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((answered, refused), (4, 28), "law 11");
        assert!(engine.stock(sku("TEE")).await.is_ok(), "places come back");
    });
}
