//! Idempotency keys, as Stripe documents them.

use doorbuster_stripe::{Faults, Stripe};

use crate::client::{Client, payment, receive};

const INTENTS: &str = "/v1/payment_intents";

#[test]
fn a_retry_with_the_key_has_one_effect_and_one_answer() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let form = payment("pm_card_visa", 1_000);
    let first = client.post_with_key(INTENTS, "k", &form);
    // The order of parameters is not their meaning.
    let (head, tail) = form.split_once('&').unwrap();
    let shuffled = format!("{tail}&{head}");
    for form in [&form, &shuffled] {
        let again = client.post_with_key(INTENTS, "k", form);
        assert_eq!((again.status, &again.text), (200, &first.text));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("original-request"), first.header("request-id"));
        assert_ne!(again.header("request-id"), first.header("request-id"));
    }
    assert_eq!((first.header("idempotent-replayed"), first.header("idempotency-key")), (None, Some("k")));
    assert_eq!(stripe.ledger().charges.len(), 1);
    assert_eq!(stripe.figures().replayed, 2);
    // The answer stays the first one, whatever became of the intent.
    client.post(&format!("{INTENTS}/{}/cancel", first.body["id"].as_str().unwrap()), "");
    assert_eq!(client.post_with_key(INTENTS, "k", &form).text, first.text);
}

#[test]
fn a_refusal_after_execution_began_is_kept_and_one_before_is_not() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    // key, form, status, whether the second answer is a replay
    let rows = [
        ("declined", payment("pm_card_chargeDeclined", 1_000), 402, true),
        ("parameter", payment("pm_card_visa", 0), 400, false),
        ("unknown", payment("pm_card_visa", 1_000) + "&colour=red", 400, false),
    ];
    for (key, form, status, kept) in rows {
        let first = client.post_with_key(INTENTS, key, &form);
        let second = client.post_with_key(INTENTS, key, &form);
        assert_eq!((first.status, second.status), (status, status), "{key}");
        assert_eq!(second.header("idempotent-replayed").is_some(), kept, "{key}");
        assert_eq!(second.text, first.text, "{key}");
    }
    let events = client.get("/v1/events?type=payment_intent.payment_failed").body;
    assert_eq!(events["data"].as_array().unwrap().len(), 1, "the card was asked once");
    let corrected = client.post_with_key(INTENTS, "parameter", &payment("pm_card_visa", 1_000));
    assert_eq!(corrected.status, 200, "a key that kept nothing is free for the corrected request");
}

#[test]
fn a_key_with_another_meaning_is_refused() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let first = client.post_with_key(INTENTS, "k", &payment("pm_card_visa", 1_000));
    let capture = format!("{INTENTS}/{}/capture", first.body["id"].as_str().unwrap());
    let rows = [(INTENTS, payment("pm_card_visa", 1_001)), (&capture, String::new())];
    for (path, form) in rows {
        let answer = client.post_with_key(path, "k", &form);
        assert_eq!((answer.status, answer.error().0), (400, "idempotency_error"), "{path}");
    }
    let long = client.post_with_key(INTENTS, &"k".repeat(256), &payment("pm_card_visa", 1_000));
    assert_eq!((long.status, long.error().0), (400, "idempotency_error"));
    assert_eq!(stripe.ledger().totals["gbp"].authorized, 1_000);
}

#[test]
fn a_key_in_use_is_a_conflict_until_its_request_is_answered() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let slow = Faults { delay_rate: 1.0, delay_ms: 5_000, delay_before_work: true, ..Faults::default() };
    stripe.set_faults(Faults { times_max: Some(1), ..slow });
    let form = payment("pm_card_visa", 1_000);
    let first = client.send("POST", INTENTS, Some("k"), &form).unwrap();
    while stripe.figures().under_way == 0 {
        std::thread::yield_now();
    }
    let second = client.post_with_key(INTENTS, "k", &form);
    assert_eq!(second.status, 409, "{}", second.text);
    assert_eq!(
        (second.error().1, second.header("stripe-should-retry")),
        ("idempotency_key_in_use", Some("true"))
    );
    assert!(stripe.ledger().charges.is_empty());
    stripe.advance(5_000);
    let first = receive(first).unwrap();
    assert_eq!(client.post_with_key(INTENTS, "k", &form).text, first.text);
    assert_eq!(stripe.ledger().charges.len(), 1);
}

#[test]
fn a_key_is_kept_for_a_day_and_then_forgotten() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let form = payment("pm_card_visa", 1_000);
    let first = client.post_with_key(INTENTS, "k", &form);
    stripe.advance(86_400_000 - 1);
    assert_eq!(client.post_with_key(INTENTS, "k", &form).text, first.text);
    assert_eq!(client.post("/_stand-in/clock?", "").status, 400, "time is said in JSON");
    stripe.advance(1);
    let later = client.post_with_key(INTENTS, "k", &form);
    assert_eq!((later.status, later.header("idempotent-replayed")), (200, None));
    assert_eq!(stripe.ledger().charges.len(), 2, "a retry after a day charges again");
}

#[test]
fn a_key_means_nothing_to_a_read() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let before = client.ask("GET", INTENTS, Some("k"), "").unwrap();
    client.pay("pm_card_visa", 1_000);
    let after = client.ask("GET", INTENTS, Some("k"), "").unwrap();
    assert_ne!(before.text, after.text);
}
