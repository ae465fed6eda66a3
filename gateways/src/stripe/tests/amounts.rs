//! Money that Stripe counts otherwise.

use super::super::amounts::{from_stripe, to_stripe};
use super::*;

/// Currencies without decimals at Stripe. Source: <https://docs.stripe.com/currencies#zero-decimal>.
const WHOLE: [&str; 15] =
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"];

fn money(amount: i64, code: &str) -> Money {
    Money::new(amount, code.parse().unwrap())
}

#[test]
fn amounts_are_said_in_stripes_units_and_back() {
    let rows = [
        ("GBP", 1_999, Ok(1_999)),
        ("HUF", 1_999, Ok(1_999)),
        ("TWD", 1_999, Ok(1_999)),
        ("JPY", 1_999, Ok(1_999)),
        ("ISK", 5, Ok(500)),
        ("UGX", 5, Ok(500)),
        ("UGX", i64::MAX, Err("too large")),
        ("MGA", 500, Ok(5)),
        ("MGA", 550, Err("whole units")),
        ("KWD", 5_120, Ok(5_120)),
        ("KWD", 5_124, Err("two decimals")),
        ("BHD", 10, Ok(10)),
        ("TND", 1, Err("two decimals")),
        ("CLF", 10_000, Err("does not take this currency")),
    ];
    for (code, amount, expected) in rows {
        match (to_stripe(money(amount, code)), expected) {
            (Ok(said), Ok(expected)) => {
                assert_eq!(said, expected, "{amount} {code}");
                let back = from_stripe(said, &code.to_lowercase());
                assert_eq!(back, Some(money(amount, code)), "{amount} {code} back");
            }
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{amount} {code}: {reason}"),
            (seen, expected) => panic!("{amount} {code}: {seen:?}, expected {expected:?}"),
        }
    }
    assert_eq!(from_stripe(505, "isk"), None, "a fraction of a króna");
    assert_eq!(from_stripe(1, "xyz"), None);
}

#[test]
fn what_stripe_calls_whole_is_said_in_whole_units() {
    for code in WHOLE {
        let one = 10_i64.pow(u32::from(code.parse::<Currency>().unwrap().exponent()));
        assert_eq!(to_stripe(money(7 * one, code)), Ok(7), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn yen_krona_and_dinar_are_charged_captured_and_given_back_exactly() {
    for (code, amount, at_stripe) in [("JPY", 1_999, 1_999), ("ISK", 1_999, 199_900), ("KWD", 1_990, 1_990)] {
        let shop = Shop::open();
        let request = ChargeRequest { amount: money(amount, code), ..shop.request("pm_card_visa") };
        let outcome = shop.door.authorize(&request).await;
        assert_eq!(name(&outcome), "authorized", "{code}");
        let reference = reference_of(&outcome).unwrap();
        assert_eq!(shop.door.capture(&request, reference).await, CaptureOutcome::Captured, "{code}");
        let refund = shop.door.refund(&request, reference, "k", money(990, code)).await;
        assert_eq!(refund_name(&refund), "refunded", "{code}");
        assert_eq!(shop.stripe.ledger().totals[&code.to_lowercase()].captured, at_stripe, "{code}");
        let payment = &shop.intents(request.order).await[0];
        assert_eq!(
            (payment.amount, payment.captured, payment.refunded),
            (request.amount, amount, 990),
            "{code}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_cannot_charge_is_declined_without_asking() {
    let shop = Shop::open();
    let request = ChargeRequest { amount: money(1_999, "KWD"), ..shop.request("pm_card_visa") };
    let declined = "declined: the payment provider takes two decimals of this currency only; the last of three must be 0";
    assert_eq!(name(&shop.door.authorize(&request).await), declined);
    assert_eq!(shop.door.void(&request, None).await, VoidOutcome::Voided);
    assert_eq!(shop.stripe.figures().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_finds_too_little_too_much_or_in_no_currency_of_its_own_is_declined() {
    let shop = Shop::open();
    let rows = [
        (money(29, "GBP"), "declined: the amount is below what the payment provider takes"),
        (money(100_000_000, "GBP"), "declined: the amount is above what the payment provider takes"),
        (money(1_000, "KPW"), "declined: the payment provider does not take this currency"),
    ];
    for (amount, expected) in rows {
        let request = ChargeRequest { amount, ..shop.request("pm_card_visa") };
        assert_eq!(name(&shop.door.authorize(&request).await), expected, "{amount}");
    }
    assert!(shop.stripe.ledger().charges.is_empty());
}
