//! The engine dies at each step of a payment, and the next one goes on with it.

use doorbuster_actors::{Access, Engine, RefundInput};
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::order::{OrderState, PaymentState};
use doorbuster_engine::payment::Standing;

use super::{Provider, buy, came_to, hear, live, order, pass, steps, units};
use crate::harness::{define, ticket};

/// What the provider keeps to itself, and which step the order comes to then. One life ends there.
struct Point {
    label: &'static str,
    method: &'static str,
    silent: &'static [&'static str],
    losing: &'static [&'static str],
    /// What happens before the crash beside the checkout.
    then: Then,
    last_step: &'static str,
    ends: (OrderState, PaymentState),
    /// On hand and sold of ten units, and what the provider has kept of the 1,000.
    books: (i64, i64, i64),
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Nothing,
    Cancel,
    Refund,
    /// A second payment comes.
    Stray,
    /// The shopper acts at the provider and tells nobody; the provider's notice comes to the next life.
    NoticeLater,
    /// The shopper acts, and the confirmation's answer is lost.
    Confirm,
}

const PAID: (OrderState, PaymentState) = (OrderState::Paid, PaymentState::Captured);

const POINTS: &[Point] = &[
    Point {
        label: "asked, and nobody heard it",
        method: "authorize",
        silent: &["*"],
        losing: &[],
        then: Then::Nothing,
        last_step: "payment_unanswered",
        ends: PAID,
        books: (9, 1, 1_000),
    },
    Point {
        label: "authorized, and the answer was lost",
        method: "authorize",
        silent: &[],
        losing: &["authorize", "look_up"],
        then: Then::Nothing,
        last_step: "payment_unanswered",
        ends: PAID,
        books: (9, 1, 1_000),
    },
    Point {
        label: "placed and sold, not captured",
        method: "authorize",
        silent: &["capture"],
        losing: &[],
        then: Then::Nothing,
        last_step: "cart_told|units_sold",
        ends: PAID,
        books: (9, 1, 1_000),
    },
    Point {
        label: "captured, and the answer was lost",
        method: "authorize",
        silent: &[],
        losing: &["capture"],
        then: Then::Nothing,
        last_step: "cart_told|units_sold",
        ends: PAID,
        books: (9, 1, 1_000),
    },
    Point {
        label: "the shopper is away, and a notice comes",
        method: "action",
        silent: &[],
        losing: &[],
        then: Then::NoticeLater,
        last_step: "action_required",
        ends: PAID,
        books: (9, 1, 1_000),
    },
    Point {
        label: "confirmed, and the answer was lost",
        method: "action",
        silent: &[],
        losing: &["confirm", "look_up"],
        then: Then::Confirm,
        last_step: "confirm_requested|payment_unanswered",
        ends: PAID,
        books: (9, 1, 1_000),
    },
    Point {
        label: "called off, the cancellation unheard",
        method: "action",
        silent: &["void"],
        losing: &[],
        then: Then::Cancel,
        last_step: "void_requested",
        ends: (OrderState::Cancelled, PaymentState::Voided),
        books: (10, 0, 0),
    },
    Point {
        label: "called off while authorized, the cancellation unheard",
        method: "authorize",
        silent: &["capture", "void"],
        losing: &[],
        then: Then::Cancel,
        last_step: "cancel_requested|cart_told|units_sold",
        ends: (OrderState::Cancelled, PaymentState::Voided),
        books: (10, 0, 0),
    },
    Point {
        label: "a refund asked, and its answer lost",
        method: "authorize",
        silent: &[],
        losing: &["refund"],
        then: Then::Refund,
        last_step: "refund_requested",
        ends: (OrderState::Refunded, PaymentState::Refunded),
        books: (10, 0, 0),
    },
    Point {
        label: "a stray found, its return unheard",
        method: "authorize",
        silent: &["void"],
        losing: &[],
        then: Then::Stray,
        last_step: "stray_payment_found",
        ends: PAID,
        books: (9, 1, 1_000),
    },
];

/// The first life: to the point, and no further.
async fn first_life(engine: &Engine, provider: &Provider, point: &Point) -> OrderId {
    define(engine, "TEE", 10).await;
    provider.book().silent = point.silent.to_vec();
    provider.book().losing = point.losing.to_vec();
    let (_, pending) = came_to(buy(engine, "pay", "TEE", point.method).await);
    let id = pending.id;
    pass(2).await;
    let detached = engine.clone();
    let ask: std::pin::Pin<Box<dyn Future<Output = ()>>> = match point.then {
        Then::Nothing => Box::pin(std::future::ready(())),
        Then::Cancel => Box::pin(async move {
            let _ = detached.cancel(ticket(&detached, "cancel", ""), Access::Admin, id).await;
        }),
        Then::Refund => Box::pin(async move {
            let all = RefundInput { amount: None, lines: None, restock: true, reason: None };
            let _ = detached.refund(ticket(&detached, "refund", "all"), id, all).await;
        }),
        Then::Stray => {
            let mut second = provider.payment(id).unwrap();
            second.reference = "pay_2".into();
            provider.book().payments.insert("second".into(), second);
            Box::pin(async move {
                hear(&detached, &format!("evt_1 {id} pay_2 1000 captured"), "good").await.unwrap();
            })
        }
        Then::NoticeLater => {
            provider.stand(id, Standing::Authorized);
            Box::pin(std::future::ready(()))
        }
        Then::Confirm => Box::pin(async move {
            let _ = detached.confirm(ticket(&detached, "confirm", ""), Access::Admin, id).await;
        }),
    };
    // Its caller may never hear of it: the engine dies first.
    tokio::task::spawn_local(ask);
    pass(3).await;
    let steps = steps(engine, id).await;
    let last = steps.last().unwrap();
    assert!(point.last_step.split('|').any(|step| step == last), "{}: {steps:?}", point.label);
    id
}

#[test]
fn a_crash_at_each_step_of_a_payment_is_gone_on_with() {
    for point in POINTS {
        let label = point.label;
        let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
        let id = live(
            data.path(),
            0,
            &[&provider],
            |_| {},
            async |engine, _| first_life(&engine, &provider, point).await,
        );
        provider.book().silent.clear();
        provider.book().losing.clear();
        live(
            data.path(),
            60,
            &[&provider],
            |_| {},
            async |engine, _| {
                if point.then == Then::NoticeLater {
                    hear(&engine, &format!("evt_1 {id} pay_of_{id} 1000 authorized"), "good").await.unwrap();
                }
                pass(30).await;
                let now = order(&engine, id).await;
                let steps = steps(&engine, id).await;
                assert_eq!((now.state, now.payment_state), point.ends, "{label}: {steps:?}");
                let (on_hand, reserved, sold) = units(&engine, "TEE").await;
                let own = provider.payment(id).unwrap();
                assert_eq!((on_hand, sold, own.captured - own.refunded), point.books, "{label}: {steps:?}");
                assert_eq!(reserved, 0, "{label}: law 6");
                assert_eq!(
                    now.captured.amount - now.refunded.amount,
                    own.captured - own.refunded,
                    "{label}: law 7"
                );
                let second = provider.book().payments.get("second").cloned();
                if let Some(second) = second {
                    assert_eq!(second.captured - second.refunded, 0, "{label}: the stray went back");
                }
            },
        );
    }
}

#[test]
fn orders_that_wait_for_their_provider_wait_on_after_a_crash_in_the_same_order() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::named("script", Some(10)));
    let late = live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 40).await;
            provider.silence(&["*"]);
            for n in 0..5 {
                came_to(buy(&engine, &format!("early {n}"), "TEE", "authorize").await);
            }
            let mut late = Vec::new();
            for n in 0..20 {
                late.push(came_to(buy(&engine, &format!("late {n}"), "TEE", "authorize").await).1.id);
            }
            assert_eq!(steps(&engine, late[0]).await.last().unwrap(), "payment_deferred");
            late
        },
    );
    provider.silence(&[]);
    live(
        data.path(),
        60,
        &[&provider],
        |_| {},
        async |engine, _| {
            pass(60).await;
            for id in &late {
                assert_eq!(order(&engine, *id).await.payment_state, PaymentState::Captured);
            }
            assert_eq!(units(&engine, "TEE").await, (15, 0, 25));
            let book = provider.book();
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
fn an_order_whose_time_ran_out_while_the_engine_was_down_is_never_asked_about() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let briefly = |options: &mut doorbuster_actors::EngineOptions| {
        options.when_down.defer = Some(std::time::Duration::from_secs(20));
    };
    let late = live(data.path(), 0, &[&provider], briefly, async |engine, _| {
        define(&engine, "TEE", 40).await;
        provider.silence(&["*"]);
        for n in 0..5 {
            came_to(buy(&engine, &format!("early {n}"), "TEE", "authorize").await);
        }
        came_to(buy(&engine, "late", "TEE", "authorize").await).1.id
    });
    provider.silence(&[]);
    live(data.path(), 3_600, &[&provider], briefly, async |engine, _| {
        pass(60).await;
        assert_eq!(order(&engine, late).await.state, OrderState::Cancelled);
        assert_eq!(provider.asked_for(late), [""; 0]);
    });
}
