//! Reservations: exact to the last unit, exact to the last retry.

use std::time::Duration;

use doorbuster_engine::answer::{Refusal, ReservationState};

use crate::harness::{define, eventually, record, reserve, stock, ticket, with_engine};

#[test]
fn a_retry_gets_the_first_answer_whatever_became_of_the_reservation() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 10).await;
        let first = record(reserve(&engine, "k1", &[("TEE", 3)], None).await);
        let again = reserve(&engine, "k1", &[("TEE", 3)], None).await.unwrap();
        assert!(again.replayed);
        assert_eq!(record(Ok(again)), first);
        assert_eq!(reserve(&engine, "k1", &[("TEE", 4)], None).await.unwrap_err(), Refusal::KeyReused);

        let committed = record(engine.commit(ticket(&engine, "k2", "commit"), first.id).await);
        assert_eq!(committed.state, ReservationState::Committed);
        let again = reserve(&engine, "k1", &[("TEE", 3)], None).await.unwrap();
        assert!(again.replayed);
        assert_eq!(record(Ok(again)), first, "still the first answer: held, first deadline");
        assert_eq!(record(engine.reservation(first.id).await).state, ReservationState::Committed);

        let repeat = engine.commit(ticket(&engine, "k3", "commit"), first.id).await.unwrap();
        assert!(!repeat.replayed, "another key, the same ending");
        let released = engine.release(ticket(&engine, "k4", "release"), first.id).await;
        assert!(matches!(released, Err(Refusal::IllegalTransition { .. })), "law 2: {released:?}");
        let view = stock(&engine, "TEE").await;
        assert_eq!((view.on_hand, view.reserved, view.sold, view.received), (7, 0, 3, 10));
    });
}

#[test]
fn sixty_four_clients_after_a_thousand_units_get_exactly_a_thousand() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "DROP", 1_000).await;
        let clients: Vec<_> = (0..64)
            .map(|client| {
                let engine = engine.clone();
                actix_rt::spawn(async move {
                    let mut granted = 0;
                    for attempt in 0..200 {
                        match reserve(&engine, &format!("{client}-{attempt}"), &[("DROP", 1)], None).await {
                            Ok(_) => granted += 1,
                            Err(Refusal::InsufficientStock(_)) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    granted
                })
            })
            .collect();
        let mut granted = 0;
        for client in clients {
            granted += client.await.unwrap();
        }
        assert_eq!(granted, 1_000, "law 1: not one more, not one less");
        let view = stock(&engine, "DROP").await;
        assert_eq!((view.reserved, view.available, view.sellable), (1_000, 0, 0));
    });
}

#[test]
fn of_two_carts_after_the_last_x_and_the_last_y_exactly_one_wins() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        for round in 0..1_000 {
            let (x, y) = (format!("X{round}"), format!("Y{round}"));
            define(&engine, &x, 1).await;
            define(&engine, &y, 1).await;
            let (one, two) = ([(x.as_str(), 1), (y.as_str(), 1)], [(y.as_str(), 1), (x.as_str(), 1)]);
            let (key_one, key_two) = (format!("one {round}"), format!("two {round}"));
            let (one, two) =
                futures_join(reserve(&engine, &key_one, &one, None), reserve(&engine, &key_two, &two, None))
                    .await;
            let winners = usize::from(one.is_ok()) + usize::from(two.is_ok());
            assert_eq!(winners, 1, "law 6, round {round}: {one:?} {two:?}");
            eventually("the loser's part is freed", async || {
                let (x, y) = (stock(&engine, &x).await, stock(&engine, &y).await);
                (x.reserved, y.reserved) == (1, 1)
            })
            .await;
        }
    });
}

#[test]
fn a_refused_reservation_over_several_skus_leaves_nothing_held() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "A", 5).await;
        define(&engine, "B", 1).await;
        let held = record(reserve(&engine, "b", &[("B", 1)], None).await);
        let refused = reserve(&engine, "ab", &[("A", 2), ("B", 1)], None).await;
        assert!(matches!(refused, Err(Refusal::InsufficientStock(_))), "{refused:?}");
        eventually("A is free again", async || stock(&engine, "A").await.reserved == 0).await;
        engine.release(ticket(&engine, "r", "release"), held.id).await.unwrap();
        let granted = record(reserve(&engine, "ab", &[("A", 2), ("B", 1)], None).await);
        assert_eq!(granted.items.len(), 2, "law 4: the same key is a new attempt after a refusal");
        let sold = record(engine.commit(ticket(&engine, "c", "commit"), granted.id).await);
        assert_eq!(sold.state, ReservationState::Committed);
        eventually("both parts are sold", async || {
            (stock(&engine, "A").await.sold, stock(&engine, "B").await.sold) == (2, 1)
        })
        .await;
        assert_eq!(record(engine.reservation(granted.id).await).state, ReservationState::Committed);
    });
}

#[test]
fn an_expiry_is_seen_within_a_second() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 2).await;
        define(&engine, "CUP", 2).await;
        let one = record(reserve(&engine, "one", &[("TEE", 1)], Some(1_000)).await);
        let both = record(reserve(&engine, "both", &[("TEE", 1), ("CUP", 1)], Some(1_000)).await);
        tokio::time::sleep(Duration::from_millis(1_900)).await;
        for id in [one.id, both.id] {
            assert_eq!(record(engine.reservation(id).await).state, ReservationState::Expired);
            let late = engine.commit(ticket(&engine, &format!("late {id}"), "commit"), id).await;
            assert_eq!(late.unwrap_err(), Refusal::ReservationExpired);
        }
        eventually("units are back", async || {
            (stock(&engine, "TEE").await.reserved, stock(&engine, "CUP").await.reserved) == (0, 0)
        })
        .await;
    });
}

/// Both futures, polled together.
async fn futures_join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::join!(a, b)
}
