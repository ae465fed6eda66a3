//! What was acknowledged is there again: after a stop, after a crash, with and without a checkpoint.

use std::time::Duration;

use doorbuster_actors::{Access, Engine, OrderFilter};
use doorbuster_engine::answer::{Answer, ReservationState};
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::order::OrderState;

use crate::harness::{
    cart, checkout, define, record, reserve, snapshot_of, stock, ticket, with_engine, with_options,
};
use crate::stepped::live_on;

#[test]
fn everything_acknowledged_is_there_after_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let crashed = crashed.path().join("data");
    let (held, sold, order, cart_id) = with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 100).await;
        define(&engine, "CUP", 100).await;
        let held = record(reserve(&engine, "held", &[("TEE", 2)], None).await);
        let sold = record(reserve(&engine, "sold", &[("TEE", 3), ("CUP", 1)], None).await);
        engine.commit(ticket(&engine, "commit", ""), sold.id).await.unwrap();
        let cart = cart(&engine, "cart", &[("CUP", 4)]).await;
        let Answer::Checkout(_, order) = checkout(&engine, "pay", &cart, "ok").await.unwrap().answer else {
            panic!("no order")
        };
        snapshot_of(data.path(), &crashed);
        (held, sold, order, cart.id)
    });
    // Twice: once from the crash, once from the clean stop of that run.
    for run in 0..2 {
        with_engine(&crashed, async |engine| {
            let tee = stock(&engine, "TEE").await;
            assert_eq!((tee.reserved, tee.sold), (2, 3), "run {run}");
            let cup = stock(&engine, "CUP").await;
            assert_eq!((cup.reserved, cup.sold), (0, 5), "run {run}: sagas were finished");
            assert_eq!(record(engine.reservation(held.id).await), held);
            assert_eq!(record(engine.reservation(sold.id).await).state, ReservationState::Committed);
            let again = reserve(&engine, "held", &[("TEE", 2)], None).await.unwrap();
            assert!(again.replayed, "law 5: the key survived");
            let again = engine.commit(ticket(&engine, "commit", ""), sold.id).await.unwrap();
            assert!(again.replayed);
            let found = engine.order(Access::Admin, order.id).await.unwrap();
            assert_eq!(found.state, OrderState::Paid);
            assert_eq!(found.cart, cart_id);
        });
    }
}

/// The row of the second attempt was overwritten by the first one's end: after a restart its parts had no coordinator.
#[test]
fn a_reservation_begun_again_after_a_refusal_survives_the_checkpoint() {
    let data = tempfile::tempdir().unwrap();
    let seldom = |options: &mut doorbuster_actors::EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_secs(3_600);
    };
    let both = [("TEE", 1), ("CUP", 1)];
    let again = live_on(data.path(), 1, seldom, async |engine, _| {
        define(&engine, "TEE", 1).await;
        define(&engine, "CUP", 1).await;
        // Both ask before either is decided, so that a coordinator refuses the second, not the door.
        let (one, two) =
            tokio::join!(reserve(&engine, "one", &both, None), reserve(&engine, "two", &both, None));
        assert!(one.is_ok() != two.is_ok(), "one winner");
        let (winner, loser) = if one.is_ok() { (one, "two") } else { (two, "one") };
        engine.release(ticket(&engine, "release", ""), record(winner).id).await.unwrap();
        crate::harness::eventually("units are back", async || stock(&engine, "CUP").await.available == 1)
            .await;
        let again = record(reserve(&engine, loser, &both, None).await);
        engine.drain().await;
        again
    });
    live_on(data.path(), 2, seldom, async |engine, _| {
        assert_eq!(record(engine.reservation(again.id).await), again, "law 3");
        engine.release(ticket(&engine, "release again", ""), again.id).await.unwrap();
        for name in ["TEE", "CUP"] {
            crate::harness::eventually("units are back", async || stock(&engine, name).await.available == 1)
                .await;
        }
    });
}

#[test]
fn idle_carts_leave_memory_and_come_back_when_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let quick = |options: &mut doorbuster_actors::EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_millis(50);
        options.limits.passivate_after = Duration::from_millis(100);
        options.limits.sleep_after = Duration::from_millis(100);
    };
    let created = with_options(data.path(), quick, async |engine| {
        define(&engine, "TEE", 5).await;
        let created = cart(&engine, "cart", &[("TEE", 2)]).await;
        crate::harness::eventually("the cart left memory", async || {
            let carts = engine.actors(Some("cart"), doorbuster_actors::ActorSort::Rate, 10).await;
            carts.is_empty()
        })
        .await;
        crate::harness::eventually("the SKU went to sleep", async || {
            engine.actors(Some("sku"), doorbuster_actors::ActorSort::Rate, 10).await.is_empty()
        })
        .await;
        record(reserve(&engine, "woken", &[("TEE", 1)], None).await);
        assert_eq!(stock(&engine, "TEE").await.reserved, 1);
        let Answer::Cart(back) = engine.cart(created.id).await.unwrap().answer else { panic!("no cart") };
        assert_eq!(*back, created);
        created
    });
    with_engine(data.path(), async |engine| {
        let Answer::Cart(back) = engine.cart(created.id).await.unwrap().answer else { panic!("no cart") };
        assert_eq!(*back, created);
        let Answer::Checkout(_, order) = checkout(&engine, "pay", &created, "ok").await.unwrap().answer
        else {
            panic!("no order")
        };
        let page = engine.orders(OrderFilter { limit: 10, ..Default::default() }).await.unwrap();
        assert_eq!(page.data.iter().map(|order| order.id).collect::<Vec<_>>(), [order.id]);
    });
    with_engine(data.path(), async |engine| {
        let page = engine.orders(OrderFilter { limit: 10, ..Default::default() }).await.unwrap();
        assert_eq!(page.data.len(), 1, "a finished order is listed from the checkpoint");
    });
}

/// Found by a proof of 100,000 checkouts: every page asked every order in memory, and the pages of all took minutes.
#[test]
fn pages_of_orders_are_whole_whether_they_are_in_memory_or_not() {
    let data = tempfile::tempdir().unwrap();
    let made = with_engine(data.path(), async |engine| buy(&engine, "first", 300).await);
    let late = with_engine(data.path(), async |engine| {
        // Some of the first life's are woken; each of the second life's two workers has more than one listing.
        for id in made.iter().step_by(3) {
            engine.order(Access::Admin, *id).await.unwrap();
        }
        let late = buy(&engine, "second", 700).await;
        let all: Vec<OrderId> = made.iter().chain(&late).rev().copied().collect();
        for limit in [7, 100, 1_000, 5_000] {
            let filter = OrderFilter { limit, ..OrderFilter::default() };
            assert_eq!(pages(&engine, filter).await, all, "pages of {limit}");
        }
        let paid = OrderFilter { limit: 100, state: Some(OrderState::Paid), ..OrderFilter::default() };
        assert_eq!(pages(&engine, paid).await, all, "all are paid");
        let off = OrderFilter { limit: 100, state: Some(OrderState::Cancelled), ..OrderFilter::default() };
        assert_eq!(pages(&engine, off).await, [], "none is off");
        late
    });
    with_engine(data.path(), async |engine| {
        let all: Vec<OrderId> = made.iter().chain(&late).rev().copied().collect();
        let filter = OrderFilter { limit: 100, ..OrderFilter::default() };
        assert_eq!(pages(&engine, filter).await, all, "all of them from the checkpoint");
    });
}

/// So many orders, oldest first.
async fn buy(engine: &Engine, name: &str, count: usize) -> Vec<OrderId> {
    define(engine, name, 10_000).await;
    let mut made = Vec::new();
    for n in 0..count {
        let cart = cart(engine, &format!("cart {name} {n}"), &[(name, 1)]).await;
        let answer = checkout(engine, &format!("pay {name} {n}"), &cart, "ok").await.unwrap().answer;
        let Answer::Checkout(_, order) = answer else { panic!("no order: {answer:?}") };
        made.push((order.created_at, order.id));
    }
    // Those of one millisecond are listed by their ids.
    made.sort_unstable();
    made.into_iter().map(|(_, id)| id).collect()
}

async fn pages(engine: &Engine, mut filter: OrderFilter) -> Vec<OrderId> {
    let mut seen = Vec::new();
    loop {
        let page = engine.orders(filter.clone()).await.unwrap();
        assert!(page.data.len() <= filter.limit);
        seen.extend(page.data.iter().map(|order| order.id));
        match page.next_cursor {
            Some(cursor) => filter.starting_after = Some(cursor),
            None => return seen,
        }
    }
}

#[test]
fn a_ledger_longer_than_memory_is_whole() {
    let data = tempfile::tempdir().unwrap();
    let entries = with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 1_000).await;
        deliver(&engine, "TEE", 300).await;
        read_ledger(&engine, "TEE").await
    });
    assert_eq!(entries.len(), 301);
    assert_eq!(entries.iter().map(|entry| entry.delta).sum::<i64>(), 1_300, "opening and all deliveries");
    let again = with_engine(data.path(), async |engine| read_ledger(&engine, "TEE").await);
    assert_eq!(again, entries);
}

/// So many deliveries of one unit each.
pub(crate) async fn deliver(engine: &Engine, sku: &str, count: usize) {
    for n in 0..count {
        let ticket = ticket(engine, &format!("adjust {n}"), "");
        engine.adjust(ticket, crate::harness::sku(sku), 1, format!("delivery {n}"), None).await.unwrap();
    }
}

/// All pages of a ledger, newest first.
pub(crate) async fn read_ledger(engine: &Engine, sku: &str) -> Vec<doorbuster_engine::stock::LedgerEntry> {
    let mut entries = Vec::new();
    let mut before = None;
    loop {
        let page = engine.ledger(crate::harness::sku(sku), before, 70).await.unwrap();
        before = page.data.last().map(|entry| entry.position);
        entries.extend(page.data);
        if page.next_cursor.is_none() {
            return entries;
        }
    }
}

#[test]
fn a_coordinator_that_has_ended_never_comes_back_from_the_checkpoint() {
    let data = tempfile::tempdir().unwrap();
    // The only rounds are those that stops make, so the rows the second run finds stay stale while it serves.
    let seldom = |options: &mut doorbuster_actors::EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_secs(3_600);
    };
    let both = [("TEE", 1), ("CUP", 1)];
    let (released, committed) = with_options(data.path(), seldom, async |engine| {
        define(&engine, "TEE", 10).await;
        define(&engine, "CUP", 10).await;
        let released = record(reserve(&engine, "released", &both, Some(1_500)).await);
        (released, record(reserve(&engine, "committed", &both, Some(1_500)).await))
    });
    with_options(data.path(), seldom, async |engine| {
        engine.release(ticket(&engine, "release", ""), released.id).await.unwrap();
        engine.commit(ticket(&engine, "commit", ""), committed.id).await.unwrap();
        let ended = async |engine: &Engine| {
            let released = record(engine.reservation(released.id).await).state;
            (released, record(engine.reservation(committed.id).await).state)
        };
        // Their timers are still armed and due soon; what the timers meet must be their absence.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(ended(&engine).await, (ReservationState::Released, ReservationState::Committed));
        let again = engine.release(ticket(&engine, "release again", ""), released.id).await;
        assert_eq!(record(again).state, ReservationState::Released);
        let tee = stock(&engine, "TEE").await;
        assert_eq!((tee.reserved, tee.sold, tee.on_hand), (0, 1, 9));
    });
    with_engine(data.path(), async |engine| {
        let tee = stock(&engine, "TEE").await;
        assert_eq!((tee.reserved, tee.sold, tee.on_hand), (0, 1, 9), "law 10: the journal still folds");
    });
}

#[test]
fn a_cart_that_outlives_the_memory_of_its_key_is_found_and_not_made_again() {
    let data = tempfile::tempdir().unwrap();
    let forgetful = |options: &mut doorbuster_actors::EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_millis(50);
        options.limits.passivate_after = Duration::from_millis(100);
        options.limits.finished_max = 1;
    };
    let created = with_options(data.path(), forgetful, async |engine| {
        define(&engine, "TEE", 5).await;
        let created = cart(&engine, "cart", &[("TEE", 2)]).await;
        cart(&engine, "another", &[("TEE", 1)]).await;
        crate::harness::eventually("the carts left memory", async || {
            engine.actors(Some("cart"), doorbuster_actors::ActorSort::Rate, 10).await.is_empty()
        })
        .await;
        assert_eq!(cart(&engine, "cart", &[("TEE", 2)]).await, created);
        created
    });
    with_engine(data.path(), async |engine| {
        let Answer::Cart(back) = engine.cart(created.id).await.unwrap().answer else { panic!("no cart") };
        assert_eq!(*back, created, "law 10: the journal still folds");
    });
}

/// Law 2. The row says "held", the journal behind it "released": the start that replays this must take the row back,
/// or the start after it would find the reservation alive, with a timer to end it once more.
#[test]
fn a_reservation_that_ended_before_a_crash_stays_ended_at_every_later_start() {
    let data = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let crashed = crashed.path().join("data");
    let lines = [("TEE", 2), ("CUP", 1)];
    let held = with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 100).await;
        define(&engine, "CUP", 100).await;
        record(reserve(&engine, "both", &lines, None).await)
    });
    let rare = |options: &mut doorbuster_actors::EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_secs(3_600);
    };
    with_options(data.path(), rare, async |engine| {
        engine.release(ticket(&engine, "release", ""), held.id).await.unwrap();
        crate::harness::eventually("the units are back", async || stock(&engine, "TEE").await.reserved == 0)
            .await;
        crate::harness::eventually("the units are back", async || stock(&engine, "CUP").await.reserved == 0)
            .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        snapshot_of(data.path(), &crashed);
    });
    for run in 0..3 {
        with_engine(&crashed, async |engine| {
            let found = record(engine.reservation(held.id).await);
            assert_eq!(found.state, ReservationState::Released, "start {run}, law 2");
            let alive = engine.actors(Some("reservation"), doorbuster_actors::ActorSort::Rate, 10).await;
            assert_eq!(alive.len(), 0, "start {run}: {alive:?}");
            assert_eq!(stock(&engine, "TEE").await.available, 100);
        });
    }
}
