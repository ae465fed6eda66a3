//! Money that goes back once.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_refund_happens_once_and_never_beyond_the_payment() {
    let beyond = "refused: the refund is more than what is left of the payment";
    let nothing = "refused: all of the payment was given back already";
    check(&format!(
        "
        pm_card_visa | authorize -> authorized | capture -> captured | refund 1999 -> refunded | refund 1999 -> refunded | refund 1 as s -> {nothing}
        pm_card_visa | authorize -> authorized | capture -> captured | refund 999 -> refunded | refund 1000 as s -> refunded | refund 999 -> refunded | refund 1 as t -> {nothing}
        pm_card_visa | authorize -> authorized | capture -> captured | refund 2000 -> {beyond} | refund 1999 as s -> refunded
        pm_card_visa | authorize -> authorized | capture -> captured | refund 1500 -> refunded | refund 500 as s -> {beyond}
        pm_card_visa | authorize -> authorized | refund 1999 -> refused: the payment provider refused the refund
        pm_card_visa | authorize -> authorized | capture -> captured | lose /refunds | refund 1999 -> unknown | refund 1999 -> refunded
        pm_card_visa | authorize -> authorized | capture -> captured | shut /refunds | refund 1999 -> unknown | refund 1999 -> refunded
        pm_card_visa | authorize -> authorized | capture -> captured | break /refunds | refund 999 -> unknown | refund 999 -> refunded | refund 1000 as s -> refunded
        pm_card_visa | authorize -> authorized | capture -> captured | refund 999 -> refunded | +25 h | refund 999 -> refunded | refund 1000 as s -> refunded
        pm_card_visa | authorize -> authorized | capture -> captured | +25 h | refund 999 -> refunded | refund 999 -> refunded | +25 h | refund 999 -> refunded | shut /refunds | refund 1000 as s -> unknown
        "
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_stripe_failed_at_without_a_trace_is_refused_and_says_what_to_do() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    let outcome = shop.door.authorize(&request).await;
    let reference = reference_of(&outcome).unwrap();
    shop.door.capture(&request, reference).await;
    shop.once("/refunds", |faults| faults.failed_before_rate = 1.0);
    let refund =
        |key: &'static str| shop.door.refund(&request, reference, key, Money::new(500, Currency::GBP));
    assert_eq!(refund("a").await, RefundOutcome::Unknown);
    match refund("a").await {
        RefundOutcome::Refused { reason } => assert!(reason.contains("look at them once more"), "{reason}"),
        outcome @ (RefundOutcome::Refunded { .. } | RefundOutcome::Unknown) => panic!("{outcome:?}"),
    }
    assert!(shop.stripe.ledger().refunds.is_empty());
    assert!(matches!(refund("b").await, RefundOutcome::Refunded { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_back_is_in_stripes_books_to_the_penny() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    let outcome = shop.door.authorize(&request).await;
    let reference = reference_of(&outcome).unwrap();
    shop.door.capture(&request, reference).await;
    let mut names = vec![];
    // The second time a day later, when Stripe has forgotten the keys.
    for _ in 0..2 {
        for (key, amount) in [("a", 300), ("b", 200), ("a", 300)] {
            let refund = shop.door.refund(&request, reference, key, Money::new(amount, Currency::GBP)).await;
            let RefundOutcome::Refunded { reference } = refund else { panic!("{key}: {refund:?}") };
            names.push(reference);
        }
        shop.stripe.advance(25 * 60 * 60 * 1_000);
    }
    assert_eq!(names[..3], names[3..], "the same refund by the same key");
    let ledger = shop.stripe.ledger();
    assert_eq!((ledger.totals["gbp"].refunded, ledger.refunds.len()), (500, 2));
    assert_eq!(shop.intents(request.order).await[0].refunded, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_in_the_payments_currency() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    let refund = shop.door.refund(&request, "pi_any", "k", Money::new(1, Currency::EUR)).await;
    assert_eq!(refund_name(&refund), "refused: a refund is in the currency of the payment");
    assert_eq!(shop.stripe.figures().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_at_the_bank_later_is_refused_when_asked_again() {
    let failed = "refused: the shopper's bank refused the refund; pay the shopper another way";
    check(&format!(
        "
        pm_card_pendingRefund | authorize -> authorized | capture -> captured | refund 1999 -> refunded | +2 m | refund 1999 -> refunded | +25 h | refund 1999 -> refunded
        pm_card_refundFail    | authorize -> authorized | capture -> captured | refund 1999 -> refunded | refund 1999 -> refunded | +2 m | refund 1999 -> {failed} | +25 h | refund 1999 -> {failed} | refund 1999 as s -> refunded
        "
    ))
    .await;
}
