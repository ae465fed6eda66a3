//! A provider that does not answer: what becomes of new checkouts, as the shop chose, and how the rest is caught up with.

use std::time::Duration;

use doorbuster_actors::{Access, Engine, WhenDown};
use doorbuster_engine::answer::{Answer, CheckoutResult, Refusal};
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::order::{OrderState, PaymentState};
use tokio::time::Instant;

use super::{Provider, buy, came_to, live, order, pass, steps, units};
use crate::harness::{define, ticket};

/// So many calls in a row that are not answered open the breaker.
const FAILURES: usize = 5;

/// The provider goes silent, and enough shoppers notice. Tells their orders.
async fn outage(engine: &Engine, provider: &Provider, name: &str) -> Vec<OrderId> {
    provider.silence(&["*"]);
    let mut early = Vec::new();
    for n in 0..FAILURES {
        let (result, pending) = came_to(buy(engine, &format!("{name} {n}"), "TEE", "authorize").await);
        assert_eq!(result, CheckoutResult::PaymentPending);
        early.push(pending.id);
    }
    assert!(!status(engine).up, "{FAILURES} failures in a row open the breaker");
    early
}

fn status(engine: &Engine) -> doorbuster_actors::ProviderStatus {
    engine.providers().into_iter().find(|status| status.name == "script").unwrap()
}

/// Checks out one order after another while nobody can be asked.
async fn defer(engine: &Engine, orders: usize) -> Vec<OrderId> {
    let mut ids = Vec::new();
    for n in 0..orders {
        let (result, pending) = came_to(buy(engine, &format!("late {n}"), "TEE", "authorize").await);
        assert_eq!((result, pending.state), (CheckoutResult::PaymentPending, OrderState::PendingPayment));
        ids.push(pending.id);
    }
    ids
}

#[test]
fn orders_wait_for_a_provider_that_does_not_answer_and_are_charged_in_order_when_it_is_back() {
    const WAITING: usize = 40;
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::named("script", Some(10)));
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 100).await;
            let early = outage(&engine, &provider, "early").await;
            let late = defer(&engine, WAITING).await;
            let waits = status(&engine);
            assert_eq!(waits.waiting, WAITING);
            assert_eq!(waits.drain, Duration::from_secs(8), "two calls each at ten a second");
            for id in &late {
                assert_eq!(steps(&engine, *id).await, ["started", "units_reserved", "payment_deferred"]);
            }
            let held = i64::try_from(FAILURES + WAITING).unwrap();
            assert_eq!(units(&engine, "TEE").await, (100, held, 0), "units are held");
            // Five minutes: those that were asked try on, those that were not stay in line.
            pass(300).await;
            assert!(status(&engine).waiting_oldest >= Duration::from_secs(299));
            for id in &late {
                assert_eq!(provider.asked_for(*id), [""; 0], "nobody is asked for an order that waits");
            }
            provider.silence(&[]);
            pass(90).await;
            for id in early.iter().chain(&late) {
                let now = order(&engine, *id).await;
                assert_eq!(
                    (now.state, now.payment_state),
                    (OrderState::Paid, PaymentState::Captured),
                    "{:?}",
                    steps(&engine, *id).await
                );
            }
            assert_eq!(units(&engine, "TEE").await, (100 - held, 0, held));
            let (waiting, up) = (status(&engine).waiting, status(&engine).up);
            assert_eq!((waiting, up), (0, true));
            let book = provider.book();
            let asked: Vec<OrderId> = book
                .calls
                .iter()
                .filter(|(_, call, id)| *call == "authorize" && late.contains(id))
                .map(|(_, _, id)| *id)
                .collect();
            assert_eq!(asked, late, "first held, first charged, once each");
            // Ten a second, and a fifth more in a second that follows quiet.
            assert!(busiest_second(&book.requests) <= 12, "{} in a second", busiest_second(&book.requests));
        },
    );
}

/// The most of these moments that are in any one second.
fn busiest_second(moments: &[Instant]) -> usize {
    let within = |(n, from): (usize, &Instant)| {
        moments[n..].iter().take_while(|at| **at - *from < Duration::from_secs(1)).count()
    };
    moments.iter().enumerate().map(within).max().unwrap_or(0)
}

#[test]
fn the_pace_is_kept_by_requests_where_a_call_is_several() {
    const WAITING: usize = 30;
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::of_requests(2, 10));
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 100).await;
            let early = outage(&engine, &provider, "early").await;
            let late = defer(&engine, WAITING).await;
            provider.silence(&[]);
            pass(120).await;
            for id in early.iter().chain(&late) {
                let now = order(&engine, *id).await;
                assert_eq!((now.state, now.payment_state), (OrderState::Paid, PaymentState::Captured));
            }
            let book = provider.book();
            let (calls, requests) = (book.calls.len(), book.requests.len());
            assert_eq!(requests, 2 * calls);
            assert!(busiest_second(&book.requests) <= 12, "{} in a second", busiest_second(&book.requests));
            let asked: Vec<OrderId> = book
                .calls
                .iter()
                .filter(|(_, call, id)| *call == "authorize" && late.contains(id))
                .map(|(_, _, id)| *id)
                .collect();
            assert_eq!(asked, late, "first held, first charged, once each");
        },
    );
}

#[test]
fn waiting_for_places_is_not_the_providers_silence() {
    // Four requests at one a second take longer than the two seconds that the provider has for its part of a call.
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::of_requests(4, 1));
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 100).await;
            let orders = defer_or_place(&engine, 2 * FAILURES).await;
            for _ in 0..200 {
                assert!(status(&engine).up, "the breaker stays closed");
                pass(1).await;
            }
            for id in &orders {
                assert_eq!(order(&engine, *id).await.payment_state, PaymentState::Captured);
                assert_eq!(provider.asked_for(*id), ["authorize", "capture"], "nobody had to ask again");
            }
            assert!(busiest_second(&provider.book().requests) <= 2);
        },
    );
}

/// Checks out one order after another, whatever becomes of them at first.
async fn defer_or_place(engine: &Engine, orders: usize) -> Vec<OrderId> {
    let mut ids = Vec::new();
    for n in 0..orders {
        ids.push(came_to(buy(engine, &format!("order {n}"), "TEE", "authorize").await).1.id);
    }
    ids
}

#[test]
fn new_checkouts_stand_in_line_behind_those_that_wait() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::named("script", Some(4)));
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 100).await;
            outage(&engine, &provider, "early").await;
            let late = defer(&engine, 20).await;
            provider.silence(&[]);
            while !status(&engine).up {
                pass(1).await;
            }
            assert!(status(&engine).waiting > 0, "the line is not empty yet");
            let (result, last) = came_to(buy(&engine, "after", "TEE", "authorize").await);
            assert_eq!(result, CheckoutResult::PaymentPending, "who comes now does not overtake");
            pass(120).await;
            let book = provider.book();
            let asked: Vec<OrderId> =
                book.calls.iter().filter(|(_, call, _)| *call == "authorize").map(|(_, _, id)| *id).collect();
            assert_eq!(asked[asked.len() - 21..], [&late[..], &[last.id]].concat());
        },
    );
}

#[test]
fn an_order_whose_time_is_up_while_it_waits_is_off_without_anybody_being_asked() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let briefly = |options: &mut doorbuster_actors::EngineOptions| {
        options.when_down = WhenDown { fallback: None, defer: Some(Duration::from_secs(20)) };
    };
    live(data.path(), 0, &[&provider], briefly, async |engine, _| {
        define(&engine, "TEE", 10).await;
        outage(&engine, &provider, "early").await;
        let late = defer(&engine, 2).await;
        pass(19).await;
        assert_eq!(order(&engine, late[0]).await.state, OrderState::PendingPayment);
        // One is called off by its shopper, the other by its time.
        let cancel = engine.cancel(ticket(&engine, "cancel", ""), Access::Admin, late[1]).await.unwrap();
        let Answer::Order(view) = cancel.answer else { panic!("not an order") };
        assert_eq!(view.state, OrderState::Cancelled);
        pass(3).await;
        assert_eq!(order(&engine, late[0]).await.state, OrderState::Cancelled);
        assert_eq!(units(&engine, "TEE").await, (10, 5, 0), "only those that were asked about stay pinned");
        assert_eq!(status(&engine).waiting, 0);
        provider.silence(&[]);
        pass(60).await;
        for id in late {
            assert_eq!(provider.asked_for(id), [""; 0], "law 8 by never asking");
        }
    });
}

#[test]
fn new_checkouts_go_to_the_other_provider_where_the_shop_names_one() {
    let data = tempfile::tempdir().unwrap();
    let (provider, other) = (Provider::new(), Provider::named("other", None));
    let fall_back = |options: &mut doorbuster_actors::EngineOptions| {
        options.when_down.fallback = Some("other".into());
    };
    live(data.path(), 0, &[&provider, &other], fall_back, async |engine, _| {
        define(&engine, "TEE", 20).await;
        outage(&engine, &provider, "early").await;
        let first = buy(&engine, "late", "TEE", "authorize").await;
        let (result, placed) = came_to(first.clone());
        assert_eq!((result, placed.provider.as_str()), (CheckoutResult::Placed, "other"));
        assert_eq!((provider.asked_for(placed.id), other.asked_for(placed.id)[0]), (vec![], "authorize"));
        provider.silence(&[]);
        pass(30).await;
        let again = buy(&engine, "late", "TEE", "authorize").await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.answer, first.unwrap().answer, "law 5, whoever would be chosen now");
        assert_eq!(came_to(buy(&engine, "back", "TEE", "authorize").await).1.provider, "script");
        // Both away: the order waits for the one that its shopper chose.
        other.silence(&["*"]);
        outage(&engine, &provider, "again").await;
        for n in 0..FAILURES {
            came_to(buy(&engine, &format!("other {n}"), "TEE", "authorize").await);
        }
        let (_, pending) = came_to(buy(&engine, "nobody", "TEE", "authorize").await);
        assert_eq!(pending.provider, "script");
        assert_eq!(steps(&engine, pending.id).await[2], "payment_deferred");
    });
}

#[test]
fn new_checkouts_are_refused_where_the_shop_lets_none_wait() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let refuse = |options: &mut doorbuster_actors::EngineOptions| {
        options.when_down = WhenDown { fallback: None, defer: None };
    };
    live(data.path(), 0, &[&provider], refuse, async |engine, _| {
        define(&engine, "TEE", 10).await;
        outage(&engine, &provider, "early").await;
        let refused = buy(&engine, "late", "TEE", "authorize").await;
        let Err(Refusal::PaymentUnavailable { retry_after_ms }) = refused else { panic!("{refused:?}") };
        assert!((100..=30_000).contains(&retry_after_ms), "{retry_after_ms}");
        assert_eq!(units(&engine, "TEE").await, (10, 5, 0), "nothing was done");
        provider.silence(&[]);
        pass(40).await;
        let (result, _) = came_to(buy(&engine, "late", "TEE", "authorize").await);
        assert_eq!(result, CheckoutResult::Placed, "law 4: another copy is a new attempt");
    });
}

#[test]
fn a_provider_that_refuses_is_not_one_that_is_down() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 10).await;
            for n in 0..FAILURES * 2 {
                let declined = buy(&engine, &format!("pay {n}"), "TEE", "declined").await;
                assert!(matches!(declined, Err(Refusal::PaymentDeclined { .. })), "{declined:?}");
            }
            assert!(status(&engine).up);
        },
    );
}
