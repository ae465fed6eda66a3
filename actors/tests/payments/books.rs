//! A provider's books against the orders, over a whole engine. Which row is which finding stands beside `compare`.

use doorbuster_actors::{Engine, FindingKind, Heard, ReconcileError, Reconciliation, RefundInput};
use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{OrderState, PaymentState, RefundState};
use doorbuster_engine::payment::{PaymentRecord, Standing};

use super::{Provider, buy, came_to, hear, live, order, pass, units};
use crate::harness::{define, pounds, ticket};
use crate::stepped::NOON_MS;

/// What a comparison of everything since noon found, in the order of its findings.
async fn compare(engine: &Engine) -> Reconciliation {
    engine.reconcile("script", Timestamp(NOON_MS)).await.unwrap()
}

fn found(reconciliation: &Reconciliation) -> Vec<(FindingKind, Option<OrderId>, bool)> {
    reconciliation.findings.iter().map(|finding| (finding.kind, finding.order, finding.repaired)).collect()
}

#[test]
fn an_order_that_missed_everything_learns_it_from_the_books() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 10).await;
            let (_, paid) = came_to(buy(&engine, "paid", "TEE", "authorize").await);
            let (_, pending) = came_to(buy(&engine, "pending", "TEE", "action").await);
            // The shopper passed the bank's check and left; the webhook was lost.
            provider.stand(pending.id, Standing::Authorized);
            assert_eq!(found(&compare(&engine).await), [], "what is a moment old may be under way");
            pass(61).await;
            let first = compare(&engine).await;
            assert_eq!(found(&first), [(FindingKind::OrderBehind, Some(pending.id), true)]);
            assert_eq!((first.payments, first.orders, first.complete), (2, 2, true));
            pass(5).await;
            for id in [paid.id, pending.id] {
                assert_eq!(order(&engine, id).await.payment_state, PaymentState::Captured);
            }
            assert_eq!(found(&compare(&engine).await), [], "mended");
            assert_eq!(units(&engine, "TEE").await, (8, 0, 2));
        },
    );
}

#[test]
fn what_no_order_can_mend_is_reported_page_after_page() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 10).await;
            let (_, whole) = came_to(buy(&engine, "whole", "TEE", "authorize").await);
            let (_, missing) = came_to(buy(&engine, "missing", "TEE", "authorize").await);
            let (_, differs) = came_to(buy(&engine, "differs", "TEE", "authorize").await);
            let (_, returned) = came_to(buy(&engine, "returned", "TEE", "authorize").await);
            pass(61).await;
            let stranger = OrderId(77);
            {
                let mut book = provider.book();
                book.page = 2;
                book.payments.remove(&format!("{}:charge", missing.id)).unwrap();
                book.payments.get_mut(&format!("{}:charge", differs.id)).unwrap().amount =
                    Money::new(999, Currency::GBP);
                book.payments.get_mut(&format!("{}:charge", returned.id)).unwrap().refunded = 300;
                let other = |reference: &str, order| PaymentRecord {
                    reference: reference.into(),
                    order,
                    amount: Money::new(500, Currency::GBP),
                    captured: 500,
                    refunded: 0,
                    standing: Standing::Captured,
                    created_at: Timestamp(NOON_MS + 1),
                };
                book.listed_besides =
                    vec![other("another_shop", None), other("restored_backup", Some(stranger))];
            }
            let mut expected = vec![
                (FindingKind::OrderWithoutPayment, Some(missing.id), false),
                (FindingKind::AmountDiffers, Some(differs.id), false),
                (FindingKind::RefundDiffers, Some(returned.id), false),
                (FindingKind::PaymentWithoutOrder, Some(stranger), false),
            ];
            expected.sort();
            for _ in 0..2 {
                let comparison = compare(&engine).await;
                assert_eq!((comparison.payments, comparison.orders, comparison.complete), (5, 4, true));
                let mut found = found(&comparison);
                found.sort();
                assert_eq!(found, expected);
            }
            assert_eq!(order(&engine, whole.id).await.state, OrderState::Paid);
        },
    );
}

#[test]
fn a_refund_that_fails_late_is_taken_and_reported_until_somebody_sees_to_it() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 10).await;
            let taken = Heard::Taken { kind: "payment.changed".into() };
            for (label, amount, state) in [
                ("a part", Some(pounds(4)), OrderState::PartiallyRefunded),
                ("all of it", None, OrderState::Refunded),
            ] {
                let (_, bought) = came_to(buy(&engine, label, "TEE", "authorize").await);
                pass(61).await;
                let refund = RefundInput { amount, lines: None, restock: false, reason: None };
                engine
                    .refund(ticket(&engine, &format!("refund {label}"), ""), bought.id, refund)
                    .await
                    .unwrap();
                pass(1).await;
                let told = order(&engine, bought.id).await;
                assert_eq!((told.state, told.refunds[0].state), (state, RefundState::Succeeded), "{label}");
                assert_eq!(found(&compare(&engine).await), [], "{label}: the books agree");
                // A day later the bank gives it back to the provider.
                let key = told.refunds[0].id.to_string();
                let returned = provider.book().refunds[&key];
                let charge = format!("{}:charge", bought.id);
                provider.book().payments.get_mut(&charge).unwrap().refunded -= returned;
                let failed = format!("evt_{label} {} {key} {returned} refund_failed", bought.id);
                let failed = failed.replacen(label, &label.replace(' ', "_"), 1);
                for _ in 0..2 {
                    assert_eq!(hear(&engine, &failed, "good").await, Ok(taken.clone()), "{label}");
                    let differs = [(FindingKind::RefundDiffers, Some(bought.id), false)];
                    assert_eq!(found(&compare(&engine).await), differs, "{label}");
                }
                assert_eq!(
                    order(&engine, bought.id).await,
                    told,
                    "{label}: what the order was told, it keeps"
                );
                // Somebody saw to it.
                provider.book().payments.get_mut(&charge).unwrap().refunded += returned;
                assert_eq!(found(&compare(&engine).await), [], "{label}");
            }
            let nobodys = format!("evt_9 {} ref_9 400 refund_failed", OrderId(77));
            let not_ours = Heard::NotOurs { kind: "payment.changed".into() };
            assert_eq!(hear(&engine, &nobodys, "good").await, Ok(not_ours));
        },
    );
}

#[test]
fn unwanted_money_goes_back_and_where_the_provider_refuses_it_is_reported_until_somebody_sees_to_it() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    live(
        data.path(),
        0,
        &[&provider],
        |_| {},
        async |engine, _| {
            define(&engine, "TEE", 10).await;
            let (_, paid) = came_to(buy(&engine, "paid", "TEE", "authorize").await);
            pass(61).await;
            let second = |reference: &str| {
                let mut second = provider.payment(paid.id).unwrap();
                second.reference = reference.into();
                provider.book().payments.insert(reference.into(), second);
            };
            second("pay_2");
            let unwanted = (FindingKind::UnwantedPayment, Some(paid.id), true);
            // One of two is the order's own; it knows which.
            assert_eq!(found(&compare(&engine).await), [unwanted, unwanted]);
            pass(10).await;
            assert_eq!(provider.book().payments["pay_2"].refunded, 1_000);
            assert_eq!(provider.payment(paid.id).unwrap().refunded, 0);
            assert_eq!(found(&compare(&engine).await), [], "mended");

            provider.book().refuses_refunds = true;
            second("pay_3");
            assert!(found(&compare(&engine).await).contains(&unwanted), "the order is told of it");
            pass(10).await;
            let again = found(&compare(&engine).await);
            assert_eq!(again.len(), 2);
            assert!(again.iter().all(|(_, _, repaired)| !repaired), "told before, and still so: {again:?}");
        },
    );
}

#[test]
fn books_that_cannot_be_had_are_not_compared() {
    let (data, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let local = |options: &mut doorbuster_actors::EngineOptions| {
        options.providers.push(std::sync::Arc::new(doorbuster_gateways::fake::Fake::default()));
    };
    live(data.path(), 0, &[&provider], local, async |engine, _| {
        define(&engine, "TEE", 10).await;
        let since = Timestamp(NOON_MS);
        assert_eq!(engine.reconcile("nobody", since).await, Err(ReconcileError::UnknownProvider));
        assert_eq!(engine.reconcile("fake", since).await, Err(ReconcileError::KeepsNoBooks));
        provider.silence(&["list"]);
        assert_eq!(engine.reconcile("script", since).await, Err(ReconcileError::NoAnswer));
        provider.silence(&["*"]);
        for n in 0..5 {
            came_to(buy(&engine, &format!("early {n}"), "TEE", "authorize").await);
        }
        // Known to be away: said at once, instead of waiting for its return.
        let asked = tokio::time::Instant::now();
        assert_eq!(engine.reconcile("script", since).await, Err(ReconcileError::NoAnswer));
        assert!(asked.elapsed() < std::time::Duration::from_secs(1), "{:?}", asked.elapsed());
    });
}
