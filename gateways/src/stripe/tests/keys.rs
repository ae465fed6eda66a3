//! Keys that Stripe remembers, keys that it may have forgotten, and keys that keep a failure.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_found_again_and_pays_once() {
    check(
        "
        pm_card_visa                   | lose /payment_intents | authorize -> unknown | authorize -> authorized
        pm_card_visa                   | lose /payment_intents | authorize -> unknown | look up blind -> authorized
        pm_card_authenticationRequired | lose /payment_intents | authorize -> unknown | look up blind -> action
        pm_card_authenticationRequired | lose /payment_intents | authorize -> unknown | pass | look up blind -> authorized
        pm_card_chargeDeclined         | lose /payment_intents | authorize -> unknown | look up blind -> declined: the card was declined
        pm_card_visa                   | shut /payment_intents | authorize -> unknown | look up blind -> authorized
        ",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_the_key_keeps_is_settled_by_the_books() {
    check(
        "
        pm_card_visa           | break /payment_intents | authorize -> unknown | authorize -> authorized | capture -> captured
        pm_card_visa           | break /payment_intents | authorize -> unknown | void blind -> voided
        pm_card_chargeDeclined | break /payment_intents | authorize -> unknown | look up blind -> declined: the card was declined
        pm_card_visa           | fault /payment_intents | authorize -> unknown | look up blind -> retry: the payment was not made
        pm_card_visa           | fault /payment_intents | authorize -> unknown | void blind -> voided
        ",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_later_the_books_are_asked_instead_of_the_key() {
    check(
        "
        pm_card_visa                   | authorize -> authorized | +21 h | look up blind -> authorized | +5 h | look up blind -> authorized | authorize -> authorized
        pm_card_visa                   | lose /payment_intents | authorize -> unknown | +25 h | look up blind -> authorized | capture -> captured
        pm_card_visa                   | lose /payment_intents | authorize -> unknown | +25 h | void blind -> voided
        pm_card_visa                   | authorize -> authorized | capture -> captured | +25 h | void blind -> too late | look up blind -> captured
        pm_card_authenticationRequired | authorize -> action | +25 h | look up blind -> action | pass | look up blind -> authorized
        pm_card_visa                   | +25 h | look up blind -> retry: the payment was not made | authorize -> retry: the payment was not made | void blind -> voided
        ",
    )
    .await;
}

/// Nineteen hours old, the payment is asked for and its reply lost; two hours later the key is not trusted and the search
/// has not heard of the intent: only the list of the last hours has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_search_has_not_heard_of_the_list_shows() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    shop.stripe.advance(19 * 60 * 60 * 1_000 + 59 * 60 * 1_000);
    shop.once("/payment_intents", |faults| faults.lost_reply_rate = 1.0);
    assert_eq!(shop.door.authorize(&request).await, ChargeOutcome::Unknown);
    shop.stripe.advance(10 * 60 * 1_000);
    shop.stripe.set_faults(Faults { search_lag_ms: 60 * 60 * 1_000, ..Faults::default() });
    let asked = shop.stripe.figures().requests;
    let outcome = shop.door.look_up(&request, None).await;
    assert_eq!(name(&outcome), "authorized");
    assert_eq!(shop.stripe.figures().requests - asked, 3, "a search, a list, the intent");
    assert_eq!(shop.intents(request.order).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_cannot_be_read_say_nothing() {
    for path in ["/search", "/payment_intents"] {
        let shop = Shop::open();
        let request = shop.request("pm_card_visa");
        shop.stripe.advance(25 * 60 * 60 * 1_000);
        shop.once(path, |faults| faults.unavailable_rate = 1.0);
        assert_eq!(shop.door.look_up(&request, None).await, ChargeOutcome::Unknown, "{path}");
        shop.once(path, |faults| faults.unavailable_rate = 1.0);
        assert_eq!(shop.door.void(&request, None).await, VoidOutcome::Unknown, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_for_something_else_sends_to_the_books() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    assert_eq!(name(&shop.door.authorize(&request).await), "authorized");
    // As an upgrade of the engine with payments under way might do.
    let changed = ChargeRequest { method: "pm_card_mastercard".to_owned(), ..request.clone() };
    assert_eq!(name(&shop.door.authorize(&changed).await), "authorized");
    assert_eq!(shop.intents(request.order).await.len(), 1);
    assert_eq!(shop.door.void(&changed, None).await, VoidOutcome::Voided);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_of_one_order_are_told_apart_in_the_books() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    let first = shop.door.authorize(&request).await;
    let other = ChargeRequest { key: format!("{}:2", request.key), ..request.clone() };
    let second = shop.door.authorize(&other).await;
    assert_ne!(reference_of(&first), reference_of(&second));
    shop.stripe.advance(25 * 60 * 60 * 1_000);
    for (request, outcome) in [(&request, &first), (&other, &second)] {
        assert_eq!(shop.door.look_up(request, None).await, *outcome);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_longer_than_stripe_takes_is_not_sent() {
    let shop = Shop::open();
    let request = ChargeRequest { key: "k".repeat(256), ..shop.request("pm_card_visa") };
    assert_eq!(shop.door.authorize(&request).await, ChargeOutcome::Unknown);
    assert_eq!(shop.stripe.figures().requests, 0);
}
