//! A panic in one actor's turn: that actor is rebuilt from the disk, all others go on.

use doorbuster_engine::answer::Refusal;

use crate::harness::{define, eventually, record, reserve, sku, stock, with_engine};

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
