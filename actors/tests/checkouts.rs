//! Cart to order over the saga, with each of the fake provider's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use doorbuster_actors::{Access, EngineOptions, RefundInput, WhenDown};
use doorbuster_engine::answer::{Answer, CheckoutResult, Refusal};
use doorbuster_engine::money::Money;
use doorbuster_engine::order::{OrderState, OrderView, PaymentState};
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, PaymentProvider, RefundOutcome, VoidOutcome,
};
use doorbuster_gateways::fake::Fake;

use crate::harness::{cart, checkout, define, eventually, pounds, stock, ticket, with_engine, with_options};

/// The fake provider elsewhere, and away when told so.
struct Elsewhere {
    fake: Fake,
    away: Arc<AtomicBool>,
}

impl Elsewhere {
    fn unless_away<T: Send + 'static>(
        &self,
        away: T,
        call: impl FnOnce(&Fake) -> Answering<T>,
    ) -> Answering<T> {
        if self.away.load(Ordering::Relaxed) { Box::pin(std::future::ready(away)) } else { call(&self.fake) }
    }
}

impl PaymentProvider for Elsewhere {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        self.unless_away(ChargeOutcome::Unknown, |fake| fake.authorize(request))
    }

    fn confirm(&self, request: &ChargeRequest, reference: &str) -> Answering<ChargeOutcome> {
        self.unless_away(ChargeOutcome::Unknown, |fake| fake.confirm(request, reference))
    }

    fn look_up(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<ChargeOutcome> {
        self.unless_away(ChargeOutcome::Unknown, |fake| fake.look_up(request, reference))
    }

    fn capture(&self, request: &ChargeRequest, reference: &str) -> Answering<CaptureOutcome> {
        self.unless_away(CaptureOutcome::Unknown, |fake| fake.capture(request, reference))
    }

    fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<VoidOutcome> {
        self.unless_away(VoidOutcome::Unknown, |fake| fake.void(request, reference))
    }

    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome> {
        self.unless_away(RefundOutcome::Unknown, |fake| fake.refund(request, reference, key, amount))
    }
}

#[test]
fn a_copy_of_a_checkout_is_told_its_answer_while_new_ones_are_refused_for_an_absent_provider() {
    let data = tempfile::tempdir().unwrap();
    let away = Arc::new(AtomicBool::new(false));
    let provider = Elsewhere { fake: Fake::default(), away: Arc::clone(&away) };
    let change = |options: &mut EngineOptions| {
        options.providers = vec![Arc::new(provider)];
        options.when_down = WhenDown { fallback: None, defer: None };
    };
    with_options(data.path(), change, async |engine| {
        define(&engine, "TEE", 20).await;
        let paid = cart(&engine, "paid", &[("TEE", 1)]).await;
        let first = checkout(&engine, "pay", &paid, "ok").await.unwrap();
        away.store(true, Ordering::Relaxed);
        let mut refused = None;
        for n in 0..10 {
            let next = cart(&engine, &format!("cart {n}"), &[("TEE", 1)]).await;
            refused = checkout(&engine, &format!("pay {n}"), &next, "ok").await.err();
            if refused.is_some() {
                break;
            }
        }
        assert!(matches!(refused, Some(Refusal::PaymentUnavailable { .. })), "{refused:?}");
        let again = checkout(&engine, "pay", &paid, "ok").await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.answer, first.answer, "law 5");
        away.store(false, Ordering::Relaxed);
    });
}

fn order(answer: Answer) -> (CheckoutResult, OrderView) {
    match answer {
        Answer::Checkout(result, order) => (result, *order),
        other => panic!("not a checkout: {other:?}"),
    }
}

#[test]
fn a_paid_cart_becomes_an_order_and_its_units_are_sold() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 10).await;
        define(&engine, "CUP", 10).await;
        let cart = cart(&engine, "cart", &[("TEE", 2), ("CUP", 1)]).await;
        let first = checkout(&engine, "pay", &cart, "ok").await.unwrap();
        let (result, placed) = order(first.answer.clone());
        assert_eq!(result, CheckoutResult::Placed);
        assert_eq!((placed.state, placed.payment_state), (OrderState::Paid, PaymentState::Captured));
        assert_eq!(placed.totals.total, pounds(3_000));
        let again = checkout(&engine, "pay", &cart, "ok").await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.answer, first.answer, "law 5");
        eventually("units are sold", async || {
            (stock(&engine, "TEE").await.sold, stock(&engine, "CUP").await.sold) == (2, 1)
        })
        .await;
        let other_key = checkout(&engine, "pay twice", &cart, "ok").await;
        assert!(matches!(other_key, Err(Refusal::IllegalTransition { .. })), "law 7: {other_key:?}");

        let refund = RefundInput { amount: None, lines: None, restock: true, reason: None };
        let refunded = engine.refund(ticket(&engine, "refund", "all"), placed.id, refund).await.unwrap();
        let Answer::Refund(view) = refunded.answer else { panic!("not a refund") };
        assert_eq!(view.amount, pounds(3_000));
        eventually("units are back", async || {
            let (tee, cup) = (stock(&engine, "TEE").await, stock(&engine, "CUP").await);
            (tee.sold, tee.on_hand, cup.sold, cup.on_hand) == (0, 10, 0, 10)
        })
        .await;
        let order = engine.order(Access::Admin, placed.id).await.unwrap();
        assert_eq!(order.state, OrderState::Refunded);
        assert_eq!(
            engine.order(Access::Anonymous, placed.id).await.unwrap_err(),
            Refusal::NotFound(doorbuster_engine::answer::Missing::Order)
        );
        let token = engine.cart_token(cart.id);
        assert!(engine.order(Access::Token(token), placed.id).await.is_ok());
    });
}

#[test]
fn a_declined_payment_gives_the_units_back_and_opens_the_cart_again() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 1).await;
        let cart = cart(&engine, "cart", &[("TEE", 1)]).await;
        for attempt in ["declined", "error"] {
            let declined = checkout(&engine, attempt, &cart, attempt).await;
            assert!(matches!(declined, Err(Refusal::PaymentDeclined { .. })), "{declined:?}");
            eventually("the unit is back", async || stock(&engine, "TEE").await.reserved == 0).await;
        }
        let mut paid = None;
        eventually("the cart is open again", async || {
            paid = checkout(&engine, "pay", &cart, "ok").await.ok();
            paid.is_some()
        })
        .await;
        assert_eq!(order(paid.unwrap().answer).0, CheckoutResult::Placed);
    });
}

#[test]
fn a_shopper_who_must_act_confirms_and_gets_the_order() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 1).await;
        let cart = cart(&engine, "cart", &[("TEE", 1)]).await;
        let (result, pending) =
            order(checkout(&engine, "pay", &cart, "requires_action").await.unwrap().answer);
        assert!(matches!(result, CheckoutResult::ActionRequired { .. }));
        assert_eq!((pending.state, stock(&engine, "TEE").await.reserved), (OrderState::PendingPayment, 1));
        let confirm =
            engine.confirm(ticket(&engine, "confirm", ""), Access::Admin, pending.id).await.unwrap();
        assert_eq!(order(confirm.answer).1.state, OrderState::Paid);
    });
}

#[test]
fn an_order_without_stock_is_refused_and_never_charged() {
    let data = tempfile::tempdir().unwrap();
    with_engine(data.path(), async |engine| {
        define(&engine, "TEE", 1).await;
        define(&engine, "CUP", 5).await;
        let cart = cart(&engine, "cart", &[("CUP", 1), ("TEE", 2)]).await;
        let refused = checkout(&engine, "pay", &cart, "ok").await;
        assert!(matches!(refused, Err(Refusal::InsufficientStock(_))), "{refused:?}");
        eventually("nothing is held", async || {
            (stock(&engine, "TEE").await.reserved, stock(&engine, "CUP").await.reserved) == (0, 0)
        })
        .await;
    });
}
