//! What each state of an intent is for the order, and that it stays true.

use doorbuster_engine::payment::Standing;
use stripe_client_core::{RequestBuilder, StripeMethod};

use super::super::objects::Intent;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_test_card_is_answered_as_it_deserves_however_often_it_is_asked() {
    check(
        "
        pm_card_visa                                  | authorize -> authorized | authorize -> authorized | look up -> authorized | look up blind -> authorized
        pm_card_mastercard                            | look up blind -> authorized | authorize -> authorized
        pm_card_chargeDeclined                        | authorize -> declined: the card was declined | authorize -> declined: the card was declined | look up blind -> declined: the card was declined
        pm_card_chargeDeclinedInsufficientFunds       | authorize -> declined: the card has insufficient funds
        pm_card_visa_chargeDeclinedLostCard           | authorize -> declined: the card was declined
        pm_card_visa_chargeDeclinedStolenCard         | authorize -> declined: the card was declined
        pm_card_chargeDeclinedFraudulent              | authorize -> declined: the card was declined
        pm_card_chargeDeclinedExpiredCard             | authorize -> declined: the card has expired
        pm_card_chargeDeclinedIncorrectCvc            | authorize -> declined: the card's security code is wrong
        pm_card_chargeDeclinedProcessingError         | authorize -> retry: the payment could not be processed
        pm_card_authenticationRequired                | authorize -> action | authorize -> action | confirm -> action | look up -> action
        pm_usBankAccount_processing                   | authorize -> unknown | look up -> unknown | void -> unknown | settle | look up -> authorized
        pm_usBankAccount_processing                   | authorize -> unknown | unsettle | look up -> declined: the card was declined
        pm_nobody_knows                               | authorize -> declined: the payment provider does not know this payment method, or it was used before
        ",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shopper_passes_the_banks_check_or_fails_it() {
    let failed = "declined: the bank's check of the shopper failed";
    check(&format!(
        "
        pm_card_authenticationRequired           | authorize -> action | pass | confirm -> authorized | authorize -> authorized | capture -> captured | confirm -> captured
        pm_card_threeDSecure2Required            | authorize -> action | pass | look up blind -> authorized
        pm_card_authenticationRequired           | authorize -> action | fail | confirm -> {failed} | confirm -> declined: the bank's check of the shopper failed
        pm_card_authenticationRequired           | authorize -> action | fail | authorize -> {failed}
        pm_card_threeDSecureRequiredChargeDeclined | authorize -> action | pass | confirm -> declined: the card was declined | confirm -> declined: the card was declined
        "
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_intent_is_cancelled_so_that_nobody_can_pay_with_it_later() {
    let shop = Shop::open();
    for (method, act) in [("pm_card_chargeDeclined", false), ("pm_card_authenticationRequired", true)] {
        let request = shop.request(method);
        let mut outcome = shop.door.authorize(&request).await;
        if act {
            let reference = reference_of(&outcome).unwrap().to_owned();
            shop.stripe.authenticate(&reference, false).unwrap();
            outcome = shop.door.confirm(&request, &reference).await;
        }
        assert!(matches!(outcome, ChargeOutcome::Declined { .. }), "{method}: {outcome:?}");
        let intents = shop.intents(request.order).await;
        assert_eq!(intents.iter().map(|intent| intent.standing).collect::<Vec<_>>(), [Standing::Cancelled]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_whose_intent_cannot_be_cancelled_yet_is_unknown() {
    check(
        "
        pm_card_chargeDeclined | lose /cancel  | authorize -> unknown | authorize -> declined: the card was declined
        pm_card_chargeDeclined | shut /cancel  | authorize -> unknown | look up blind -> declined: the card was declined
        pm_card_chargeDeclined | fault /cancel | authorize -> unknown | look up -> declined: the card was declined
        ",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_takes_all_once() {
    let lapsed = "lost: the authorization ran out before it was captured";
    let cancelled = "lost: the authorization was cancelled at the payment provider";
    check(&format!(
        "
        pm_card_visa                   | authorize -> authorized | capture -> captured | capture -> captured | look up -> captured | authorize -> captured
        pm_card_visa                   | authorize -> authorized | void -> voided | capture -> {cancelled} | capture -> {cancelled}
        pm_card_visa                   | authorize -> authorized | lose /capture | capture -> unknown | capture -> captured
        pm_card_visa                   | authorize -> authorized | break /capture | capture -> unknown | capture -> captured | capture -> captured
        pm_card_visa                   | authorize -> authorized | fault /capture | capture -> unknown | capture -> captured | capture -> captured
        pm_card_visa                   | authorize -> authorized | shut /capture | capture -> unknown | capture -> captured
        pm_card_visa                   | authorize -> authorized | +30 h | capture -> captured | +30 h | capture -> captured
        pm_card_visa                   | authorize -> authorized | +169 h | capture -> {lapsed} | look up -> declined: the payment was cancelled
        pm_card_authenticationRequired | authorize -> action | fail | capture -> {cancelled} | look up -> declined: the bank's check of the shopper failed
        "
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_captured_is_in_stripes_books_to_the_penny() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    let outcome = shop.door.authorize(&request).await;
    let reference = reference_of(&outcome).unwrap();
    let totals = |shop: &Shop| shop.stripe.ledger().totals["gbp"];
    assert_eq!((totals(&shop).authorized, totals(&shop).captured), (1_999, 0), "held, not taken");
    for _ in 0..3 {
        assert_eq!(shop.door.capture(&request, reference).await, CaptureOutcome::Captured);
    }
    assert_eq!((totals(&shop).authorized, totals(&shop).captured), (0, 1_999));
    let charge = &shop.stripe.ledger().charges[0];
    assert_eq!(charge.metadata["order"], request.order.to_string());
    assert_eq!(shop.stripe.ledger().charges.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_voided_in_every_state_or_it_is_too_late() {
    check(
        "
        pm_card_visa                   | authorize -> authorized | void -> voided | void -> voided | look up -> declined: the payment was cancelled
        pm_card_visa                   | authorize -> authorized | void blind -> voided | void blind -> voided
        pm_card_visa                   | authorize -> authorized | capture -> captured | void -> too late | void blind -> too late
        pm_card_authenticationRequired | authorize -> action | void -> voided | confirm -> declined: the payment was cancelled
        pm_card_authenticationRequired | authorize -> action | pass | void -> voided | confirm -> declined: the payment was cancelled
        pm_card_authenticationRequired | authorize -> action | fail | void -> voided
        pm_card_chargeDeclined         | authorize -> declined: the card was declined | void blind -> voided
        pm_card_visa                   | void blind -> voided | authorize -> declined: the payment was cancelled
        pm_card_chargeDeclined         | void blind -> voided
        pm_nobody_knows                | void blind -> voided
        pm_card_visa                   | authorize -> authorized | lose /cancel | void -> unknown | void -> voided
        pm_card_visa                   | lose /payment_intents | authorize -> unknown | void blind -> voided | look up blind -> declined: the payment was cancelled
        ",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voided_payment_holds_no_money() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    assert_eq!(shop.door.void(&request, None).await, VoidOutcome::Voided);
    let ledger = shop.stripe.ledger();
    assert_eq!(ledger.totals["gbp"].authorized, 0);
    assert!(ledger.charges.iter().all(|charge| charge.released), "let go at once");
}

/// What somebody else may do to an intent.
async fn meddle(shop: &Shop, path: &str, form: &str) -> Intent {
    let mut request = RequestBuilder::new(StripeMethod::Post, path);
    request.body = Some(form.to_owned());
    let Ok(answer) = shop.door.account.wire.ask(request, None).await else { panic!("{path} was refused") };
    answer.object
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_over_another_amount_never_pays_an_order() {
    let unfit = "declined: the payment at the provider is not over what the order costs";
    let rows = [
        (
            "authorized over another amount",
            "pm_card_authenticationRequired",
            "amount=100",
            true,
            unfit,
            Standing::Cancelled,
        ),
        (
            "waiting over another amount",
            "pm_card_authenticationRequired",
            "amount=2000",
            false,
            unfit,
            Standing::Cancelled,
        ),
        ("another's order", "pm_card_visa", "metadata[order]=ord_7", false, "unknown", Standing::Authorized),
        ("no order any more", "pm_card_visa", "metadata[order]=", false, "authorized", Standing::Authorized),
        (
            "the same amount",
            "pm_card_authenticationRequired",
            "amount=1999",
            true,
            "authorized",
            Standing::Authorized,
        ),
    ];
    for (label, method, change, pass, expected, standing) in rows {
        let shop = Shop::open();
        let request = shop.request(method);
        let outcome = shop.door.authorize(&request).await;
        let reference = reference_of(&outcome).unwrap();
        meddle(&shop, &format!("/payment_intents/{reference}"), change).await;
        if pass {
            shop.stripe.authenticate(reference, true).unwrap();
        }
        assert_eq!(name(&shop.door.confirm(&request, reference).await), expected, "{label}");
        let page = shop.door.list(Timestamp(0), None).await.unwrap();
        assert_eq!(page.data[0].standing, standing, "{label}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_captured_over_another_amount_is_left_to_the_reconciliation() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    let outcome = shop.door.authorize(&request).await;
    let reference = reference_of(&outcome).unwrap();
    meddle(&shop, &format!("/payment_intents/{reference}/capture"), "amount_to_capture=1000").await;
    assert_eq!(shop.door.look_up(&request, Some(reference)).await, ChargeOutcome::Unknown);
    assert_eq!(shop.door.capture(&request, reference).await, CaptureOutcome::Unknown);
    let intents = shop.intents(request.order).await;
    assert_eq!((intents[0].amount.amount, intents[0].captured), (1_999, 1_000), "the books show it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_waits_for_its_confirmation_is_confirmed() {
    for (method, expected) in [
        ("pm_card_visa", "authorized"),
        ("pm_card_authenticationRequired", "action"),
        ("pm_card_chargeDeclined", "declined: the card was declined"),
    ] {
        let shop = Shop::open();
        let request = shop.request(method);
        let form = format!(
            "amount=1999&currency=gbp&capture_method=manual&payment_method={method}&metadata[order]={}\
             &allowed_payment_method_types[0]=card",
            request.order
        );
        let intent = meddle(&shop, "/payment_intents", &form).await;
        assert_eq!(name(&shop.door.confirm(&request, &intent.id).await), expected, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_stripe_does_not_know_is_unknown() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    assert_eq!(shop.door.confirm(&request, "pi_other").await, ChargeOutcome::Unknown);
    assert_eq!(shop.door.capture(&request, "pi_other").await, CaptureOutcome::Unknown);
    assert_eq!(shop.door.void(&request, Some("pi_other")).await, VoidOutcome::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_can_be_made_by_any_task_of_the_runtime() {
    let shop = Shop::open();
    let tasks = (0..8).map(|_| {
        let (door, request) = (shop.door.clone(), shop.request("pm_card_visa"));
        tokio::spawn(async move { door.authorize(&request).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(name(&task.await.unwrap()), "authorized");
    }
}
