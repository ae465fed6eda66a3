//! What a provider tells unasked.

use doorbuster_actors::{Access, HearError, Heard};
use doorbuster_engine::order::{OrderState, PaymentState};
use doorbuster_engine::payment::{NoticeError, PaymentRecord, Standing};

use super::{Provider, buy, came_to, hear, live, order, pass, steps, units};
use crate::harness::{define, pounds, ticket};

#[test]
fn a_notice_finishes_an_order_whose_shopper_never_comes_back() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            let (_, pending) = came_to(buy(&engine, "pay", "TEE", "action").await);
            provider.stand(pending.id, Standing::Authorized);
            let news = format!("evt_1 {} pay_of_{} 1000 authorized", pending.id, pending.id);
            assert_eq!(
                hear(&engine, &news, "forged").await,
                Err(HearError::NotGenuine(NoticeError::BadSignature))
            );
            assert_eq!(
                order(&engine, pending.id).await.state,
                OrderState::PendingPayment,
                "a forgery has no effect"
            );
            let taken = Heard::Taken { kind: "payment.changed".into() };
            assert_eq!(hear(&engine, &news, "good").await, Ok(taken.clone()));
            pass(1).await;
            let paid = order(&engine, pending.id).await;
            assert_eq!((paid.state, paid.payment_state), (OrderState::Paid, PaymentState::Captured));
            assert_eq!(provider.asked_for(pending.id), ["authorize", "capture"], "nobody had to confirm");
            // Copies, however many and however late.
            for _ in 0..3 {
                assert_eq!(hear(&engine, &news, "good").await, Ok(taken.clone()));
                pass(100).await;
            }
            assert_eq!(order(&engine, pending.id).await, paid, "a copy journals nothing");
            // The shopper comes back after all.
            let confirm = engine.confirm(ticket(&engine, "confirm", ""), Access::Admin, pending.id).await;
            assert_eq!(came_to(confirm).1.state, OrderState::Paid);
        },
    );
}

#[test]
fn a_notice_that_says_nothing_sure_makes_the_order_ask() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            for (n, (standing, told, state)) in [
                (Standing::Authorized, "open", OrderState::Paid),
                (Standing::Cancelled, "cancelled", OrderState::Cancelled),
                // Old news: meanwhile it is held.
                (Standing::Authorized, "cancelled", OrderState::Paid),
            ]
            .into_iter()
            .enumerate()
            {
                let (_, pending) = came_to(buy(&engine, &format!("pay {n}"), "TEE", "action").await);
                provider.stand(pending.id, standing);
                let news = format!("evt_{n} {} pay_of_{} 1000 {told}", pending.id, pending.id);
                assert!(matches!(hear(&engine, &news, "good").await, Ok(Heard::Taken { .. })));
                pass(5).await;
                assert_eq!(order(&engine, pending.id).await.state, state, "{standing:?}, told {told}");
                assert!(provider.asked_for(pending.id).contains(&"confirm"));
            }
        },
    );
}

#[test]
fn a_notice_about_nobody_here_is_taken_and_forgotten() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            let not_ours = Ok(Heard::NotOurs { kind: "payment.changed".into() });
            let unknown = "evt_1 ord_00000000000000000000000000000001 pay_1 1000 captured";
            assert_eq!(hear(&engine, unknown, "good").await, not_ours);
            assert_eq!(hear(&engine, "evt_2 - pay_1 1000 captured", "good").await, not_ours);
            let broken = hear(&engine, "what", "good").await;
            assert!(matches!(broken, Err(HearError::NotGenuine(NoticeError::Malformed(_)))), "{broken:?}");
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
            let nobody = engine.hear("nobody", &|_| None, b"", deadline).await;
            assert_eq!(nobody, Err(HearError::UnknownProvider));
        },
    );
}

/// Money of a second payment, `pay_2`, that the provider has for `order`.
fn second_payment(provider: &Provider, order: doorbuster_engine::identity::OrderId, standing: Standing) {
    let mut book = provider.book();
    let mut payment: PaymentRecord = book.payments[&format!("{order}:charge")].clone();
    payment.reference = "pay_2".into();
    payment.standing = standing;
    payment.captured = if standing == Standing::Captured { payment.amount.amount } else { 0 };
    book.payments.insert(format!("{order}:other"), payment);
}

#[test]
fn money_that_no_order_wants_goes_back() {
    for standing in [Standing::Captured, Standing::Authorized] {
        let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
        live(
            data.path(),
            0,
            &[&provider],
            |_| {},
            async |engine, _| {
                define(&engine, "TEE", 3).await;
                let (_, paid) = came_to(buy(&engine, "pay", "TEE", "authorize").await);
                pass(1).await;
                second_payment(&provider, paid.id, standing);
                let told = if standing == Standing::Captured { "captured" } else { "authorized" };
                let news = format!("evt_1 {} pay_2 1000 {told}", paid.id);
                hear(&engine, &news, "good").await.unwrap();
                pass(5).await;
                let steps = steps(&engine, paid.id).await;
                assert_eq!(
                    steps[steps.len() - 2..],
                    ["stray_payment_found", "stray_payment_returned"],
                    "{steps:?}"
                );
                let second = provider.book().payments[&format!("{}:other", paid.id)].clone();
                match standing {
                    Standing::Captured => assert_eq!(second.refunded, pounds(1_000).amount),
                    _ => assert_eq!(second.standing, Standing::Cancelled),
                }
                let own = provider.payment(paid.id).unwrap();
                assert_eq!((own.captured, own.refunded), (1_000, 0), "law 7: its own money stays");
                let now = order(&engine, paid.id).await;
                assert_eq!((now.state, now.refunded.amount), (OrderState::Paid, 0));
            },
        );
    }
}

#[test]
fn money_that_comes_after_the_order_was_called_off_goes_back() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 3).await;
            let (_, pending) = came_to(buy(&engine, "pay", "TEE", "action").await);
            engine.cancel(ticket(&engine, "cancel", ""), Access::Admin, pending.id).await.unwrap();
            pass(1).await;
            assert_eq!(units(&engine, "TEE").await, (3, 0, 0));
            // The provider breaks its word: what it called cancelled, it captured all the same.
            provider.stand(pending.id, Standing::Captured);
            let news = format!("evt_1 {} pay_of_{} 1000 captured", pending.id, pending.id);
            hear(&engine, &news, "good").await.unwrap();
            pass(5).await;
            assert_eq!(provider.payment(pending.id).unwrap().refunded, 1_000);
            let keys: Vec<String> = provider.book().refunds.keys().cloned().collect();
            assert_eq!(keys, [format!("{}:charge:stray:pay_of_{}", pending.id, pending.id)]);
            assert_eq!(order(&engine, pending.id).await.state, OrderState::Cancelled);
            assert_eq!(units(&engine, "TEE").await, (3, 0, 0), "law 2: its units went back once");
        },
    );
}
