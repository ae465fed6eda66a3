//! The usual way of money, and its ends.

use doorbuster_actors::{Access, Engine, Reply};
use doorbuster_engine::answer::{Answer, CheckoutResult, Refusal};
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::order::{OrderState, OrderView, PaymentState};
use doorbuster_engine::payment::{NextAction, Standing};

use super::{Provider, buy, came_to, live, order, pass, steps, units};
use crate::harness::{define, ticket};

#[test]
fn money_is_authorized_then_the_units_are_sold_then_it_is_captured() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            let (result, placed) = came_to(buy(&engine, "pay", "TEE", "authorize").await);
            assert_eq!(result, CheckoutResult::Placed);
            assert_eq!((placed.state, placed.payment_state), (OrderState::Paid, PaymentState::Authorized));
            assert_eq!(placed.captured.amount, 0, "nothing is ours before the units are sold");
            pass(1).await;
            let now = order(&engine, placed.id).await;
            assert_eq!((now.payment_state, now.captured), (PaymentState::Captured, placed.totals.total));
            assert_eq!(units(&engine, "TEE").await, (2, 0, 1));
            let steps = steps(&engine, placed.id).await;
            let at = |name: &str| {
                steps.iter().position(|step| step == name).unwrap_or_else(|| panic!("{name}: {steps:?}"))
            };
            assert!(
                at("payment_authorized") < at("placed") && at("units_sold") < at("payment_captured"),
                "{steps:?}"
            );
            assert_eq!(provider.asked_for(placed.id), ["authorize", "capture"], "law 7");
        },
    );
}

#[test]
fn a_capture_that_is_lost_calls_the_order_off_and_restocks_it() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            provider.silence(&["capture"]);
            let (_, placed) = came_to(buy(&engine, "pay", "TEE", "authorize").await);
            // Sold, and its money is let go at the provider's desk before we have it.
            pass(1).await;
            assert_eq!(units(&engine, "TEE").await, (2, 0, 1));
            provider.stand(placed.id, Standing::Cancelled);
            provider.silence(&[]);
            pass(30).await;
            let now = order(&engine, placed.id).await;
            assert_eq!((now.state, now.captured.amount, now.refunded.amount), (OrderState::Cancelled, 0, 0));
            assert_eq!(units(&engine, "TEE").await, (3, 0, 0), "{:?}", steps(&engine, placed.id).await);
            assert!(provider.book().refunds.is_empty(), "nothing came, so nothing goes back");
        },
    );
}

#[test]
fn an_order_cancelled_while_authorized_lets_the_money_go_without_a_refund() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            provider.silence(&["capture"]);
            let (_, placed) = came_to(buy(&engine, "pay", "TEE", "authorize").await);
            let cancel =
                engine.cancel(ticket(&engine, "cancel", ""), Access::Admin, placed.id).await.unwrap();
            let Answer::Order(view) = cancel.answer else { panic!("not an order") };
            assert_eq!(view.state, OrderState::Cancelled);
            assert_eq!(provider.payment(placed.id).unwrap().standing, Standing::Cancelled);
            provider.silence(&[]);
            pass(60).await;
            let now = order(&engine, placed.id).await;
            assert_eq!((now.state, now.captured.amount, now.refunded.amount), (OrderState::Cancelled, 0, 0));
            assert_eq!(units(&engine, "TEE").await, (3, 0, 0));
            assert!(provider.book().refunds.is_empty());
        },
    );
}

#[test]
fn a_cancellation_that_meets_a_quicker_capture_gives_the_money_back() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            provider.book().losing = vec!["capture"];
            let (_, placed) = came_to(buy(&engine, "pay", "TEE", "authorize").await);
            pass(2).await;
            assert_eq!(provider.payment(placed.id).unwrap().standing, Standing::Captured);
            assert_eq!(order(&engine, placed.id).await.payment_state, PaymentState::Authorized);
            let cancel =
                engine.cancel(ticket(&engine, "cancel", ""), Access::Admin, placed.id).await.unwrap();
            let Answer::Order(view) = cancel.answer else { panic!("not an order") };
            assert_eq!(
                (view.state, view.captured, view.refunded),
                (OrderState::Cancelled, placed.totals.total, placed.totals.total)
            );
            pass(1).await;
            assert_eq!(units(&engine, "TEE").await, (3, 0, 0));
            let payment = provider.payment(placed.id).unwrap();
            assert_eq!((payment.captured, payment.refunded), (1_000, 1_000), "law 7");
        },
    );
}

#[test]
fn a_shopper_who_is_sent_to_the_providers_page_confirms_once_back() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            let (result, pending) = came_to(buy(&engine, "pay", "TEE", "action").await);
            let page = format!("https://pay.example/pay_of_{}", pending.id);
            assert_eq!(result, CheckoutResult::ActionRequired { action: NextAction::Redirect(page) });
            let confirm = engine.confirm(ticket(&engine, "confirm", ""), Access::Admin, pending.id).await;
            let (result, placed) = came_to(confirm);
            assert_eq!((result, placed.state), (CheckoutResult::Placed, OrderState::Paid));
            pass(1).await;
            assert_eq!(provider.asked_for(pending.id), ["authorize", "confirm", "capture"]);
            let declined = buy(&engine, "other", "TEE", "declined").await;
            assert!(matches!(declined, Err(Refusal::PaymentDeclined { .. })), "{declined:?}");
        },
    );
}

#[test]
fn a_lost_answer_is_looked_up_and_nobody_is_asked_for_money_twice() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            provider.book().losing = vec!["authorize", "capture"];
            let (result, pending) = came_to(buy(&engine, "pay", "TEE", "authorize").await);
            assert_eq!(result, CheckoutResult::PaymentPending);
            pass(3).await;
            provider.book().losing.clear();
            pass(30).await;
            let now = order(&engine, pending.id).await;
            assert_eq!((now.state, now.payment_state), (OrderState::Paid, PaymentState::Captured));
            assert_eq!(provider.book().payments.len(), 1, "law 7");
            assert_eq!(provider.asked_for(pending.id)[..2], ["authorize", "look_up"]);
        },
    );
}

/// Found by a proof of 5,000 checkouts: a shopper whose order was placed meanwhile confirms, and hears at a repeat of what came later.
#[test]
fn who_asks_for_what_is_done_already_is_told_the_same_ever_after() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let told = live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 9).await;
            provider.silence(&["capture"]);
            let (_, placed) = came_to(buy(&engine, "placed", "TEE", "authorize").await);
            let (_, off) = came_to(buy(&engine, "off", "TEE", "authorize").await);
            provider.silence(&["*"]);
            let (_, open) = came_to(buy(&engine, "open", "TEE", "authorize").await);
            provider.silence(&["capture"]);
            engine.cancel(ticket(&engine, "cancel", ""), Access::Admin, off.id).await.unwrap();
            let asked = [("placed", placed.id), ("open", open.id), ("off", off.id)];
            let mut told = Vec::new();
            for (what, id) in asked {
                let first = ask(&engine, what, id).await;
                assert!(!first.replayed, "{what}");
                told.push((what, id, first.answer));
            }
            provider.silence(&[]);
            pass(60).await;
            for (what, id, first) in &told {
                let (OrderView { version: then, .. }, now) = (shown(first), order(&engine, *id).await);
                assert!(now.version > then || *what == "off", "{what} has gone on: {then}, {}", now.version);
                assert!(
                    !steps(&engine, *id).await.contains(&"answered".to_owned()),
                    "{what}: no step of its life"
                );
                let again = ask(&engine, what, *id).await;
                assert!(again.replayed && again.answer == *first, "law 5, {what}: {first:?}, {again:?}");
            }
            told
        },
    );
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            for (what, id, first) in &told {
                let again = ask(&engine, what, *id).await;
                assert!(again.replayed && again.answer == *first, "law 5, {what}, after a start: {again:?}");
            }
        },
    );
}

/// Confirms, or cancels what is off, under a key of its own.
async fn ask(engine: &Engine, what: &str, id: OrderId) -> Reply {
    let ticket = ticket(engine, &format!("ask {what}"), "");
    let verdict = match what {
        "off" => engine.cancel(ticket, Access::Admin, id).await,
        _ => engine.confirm(ticket, Access::Admin, id).await,
    };
    verdict.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"))
}

fn shown(answer: &Answer) -> OrderView {
    match answer {
        Answer::Order(view) | Answer::Checkout(_, view) => (**view).clone(),
        other => panic!("no order is shown: {other:?}"),
    }
}
