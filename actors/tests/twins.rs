//! Copies of one request: one effect, one answer (law 5), and no effect where the refusal was definite (law 4).

use std::time::Duration;

use doorbuster_actors::{Engine, Ticket, Verdict};
use doorbuster_engine::answer::Refusal;
use tokio::time::Instant;

use crate::harness::{cart, checkout, define, eventually, record, reserve, stock, ticket, with_engine};

const TWINS: usize = 100;

/// Runs `TWINS` copies of one request at a time.
async fn twins<F: Future<Output = Verdict> + 'static>(request: impl Fn(usize) -> F) -> Vec<Verdict> {
    let running: Vec<_> = (0..TWINS).map(|n| actix_rt::spawn(request(n))).collect();
    let mut verdicts = Vec::with_capacity(TWINS);
    for twin in running {
        verdicts.push(twin.await.unwrap());
    }
    verdicts
}

/// One answer for all who were answered, the first of them alone not as a replay; the others are told to wait.
fn check(label: &str, verdicts: &[Verdict]) {
    let answered: Vec<_> = verdicts.iter().filter_map(|verdict| verdict.as_ref().ok()).collect();
    assert!(!answered.is_empty(), "{label}: nobody was answered");
    for reply in &answered {
        assert_eq!(reply.answer, answered[0].answer, "{label}: law 5");
    }
    let first = answered.iter().filter(|reply| !reply.replayed).count();
    assert!(first <= 1, "{label}: {first} copies were each told to be the first");
    for refusal in verdicts.iter().filter_map(|verdict| verdict.as_ref().err()) {
        assert!(matches!(refusal, Refusal::InProgress { .. }), "{label}: {refusal:?}");
    }
}

#[test]
fn a_hundred_copies_of_one_request_have_one_effect_and_one_answer() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 1_000).await;
        define(&engine, "CUP", 1_000).await;
        for (label, items) in [("one SKU", &[("TEE", 2)][..]), ("two SKUs", &[("TEE", 1), ("CUP", 3)][..])] {
            let (one, items) = (engine.clone(), items.to_vec());
            let again = items.clone();
            let verdicts = twins(move |_| {
                let (engine, items) = (one.clone(), items.clone());
                async move { reserve(&engine, label, &items, None).await }
            })
            .await;
            check(label, &verdicts);
            let answer = verdicts.into_iter().find_map(Result::ok).unwrap().answer;
            assert_eq!(reserve(&engine, label, &again, None).await.unwrap().answer, answer, "{label}");
        }
        let (tee, cup) = (stock(&engine, "TEE").await, stock(&engine, "CUP").await);
        assert_eq!((tee.reserved, cup.reserved), (3, 3));

        let cart = cart(&engine, "cart", &[("TEE", 5)]).await;
        let (paying, shopping) = (engine.clone(), cart.clone());
        let verdicts = twins(move |_| {
            let (engine, cart) = (paying.clone(), shopping.clone());
            async move { checkout(&engine, "pay", &cart, "ok").await }
        })
        .await;
        check("checkout", &verdicts);
        let answer = verdicts.into_iter().find_map(Result::ok).unwrap().answer;
        assert_eq!(checkout(&engine, "pay", &cart, "ok").await.unwrap().answer, answer);
        eventually("one order was sold", async || stock(&engine, "TEE").await.sold == 5).await;
        let page = engine.orders(doorbuster_actors::OrderFilter { limit: 10, ..Default::default() }).await;
        assert_eq!(page.unwrap().data.len(), 1, "law 7");
    });
}

#[test]
fn copies_that_race_with_the_end_of_a_refused_one_leave_nothing_held() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        for round in 0..30 {
            let (x, y) = (format!("X{round}"), format!("Y{round}"));
            define(&engine, &x, 1).await;
            define(&engine, &y, 1).await;
            let (shop, names) = (engine.clone(), (x.clone(), y.clone()));
            // Five keys after one pair, each tried by twenty copies again and again: one key wins, all others end.
            let verdicts = twins(move |n| {
                let (engine, (x, y)) = (shop.clone(), names.clone());
                async move {
                    let key = format!("{x} {}", n % 5);
                    let mut verdict = Err(Refusal::InProgress { retry_after_ms: 0 });
                    for _ in 0..50 {
                        verdict = reserve(&engine, &key, &[(&x, 1), (&y, 1)], None).await;
                        if verdict.is_ok() {
                            break;
                        }
                    }
                    verdict
                }
            })
            .await;
            let mut winners: Vec<_> =
                verdicts.into_iter().filter_map(Result::ok).map(|reply| record(Ok(reply)).id).collect();
            winners.dedup();
            assert_eq!(winners.len(), 1, "round {round}");
            engine.release(ticket(&engine, &format!("release {round}"), ""), winners[0]).await.unwrap();
            eventually("all units are free", async || {
                (stock(&engine, &x).await.reserved, stock(&engine, &y).await.reserved) == (0, 0)
            })
            .await;
        }
    });
}

/// A copy that found its coordinator gone was told of the ending as if it had been the first.
#[test]
fn copies_that_come_while_a_reservation_ends_are_told_that_they_are_copies() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 1_000).await;
        define(&engine, "CUP", 1_000).await;
        for round in 0..40 {
            let label = format!("release {round}");
            let held = reserve(&engine, &format!("hold {round}"), &[("TEE", 1), ("CUP", 1)], None).await;
            let id = record(held).id;
            let (shop, key) = (engine.clone(), label.clone());
            let verdicts = twins(move |n| {
                let (engine, key) = (shop.clone(), key.clone());
                async move {
                    // One after another, so that some come in the moment of the end.
                    for _ in 0..n * 4 {
                        tokio::task::yield_now().await;
                    }
                    engine.release(ticket(&engine, &key, ""), id).await
                }
            })
            .await;
            check(&label, &verdicts);
        }
    });
}

/// A ticket whose caller has stopped waiting.
fn late(engine: &Engine, key: &str, body: &str) -> Ticket {
    Ticket {
        deadline: Instant::now().checked_sub(Duration::from_millis(1)).unwrap(),
        ..ticket(engine, key, body)
    }
}

#[test]
fn a_deadline_that_passed_before_the_turn_is_a_definite_refusal() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 10).await;
        let held = record(reserve(&engine, "held", &[("TEE", 1)], None).await);
        let version = stock(&engine, "TEE").await.version;
        let adjust =
            async |ticket| engine.adjust(ticket, crate::harness::sku("TEE"), 5, "found".into(), None).await;
        assert_eq!(adjust(late(&engine, "adjust", "5")).await.unwrap_err(), Refusal::DeadlineExceeded);
        let committed = engine.commit(late(&engine, "commit", ""), held.id).await;
        assert_eq!(committed.unwrap_err(), Refusal::DeadlineExceeded);
        let seen = stock(&engine, "TEE").await;
        assert_eq!((seen.version, seen.on_hand, seen.sold), (version, 10, 0), "law 4: it never takes effect");
        assert!(!adjust(ticket(&engine, "adjust", "5")).await.unwrap().replayed, "law 4: a new attempt");
        assert!(!engine.commit(ticket(&engine, "commit", ""), held.id).await.unwrap().replayed);
        let seen = stock(&engine, "TEE").await;
        assert_eq!((seen.on_hand, seen.sold), (14, 1));
    });
}
