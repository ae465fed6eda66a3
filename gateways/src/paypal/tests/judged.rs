//! Amounts, stages, options: what needs no PayPal.

use std::time::Duration;

use doorbuster_engine::money::Money;

use super::options;
use crate::paypal::amounts::{self, NotWhole};
use crate::paypal::judge::{Stage, stage};
use crate::paypal::wire::{Amount, Order, is_id};
use crate::paypal::{Options, PayPal};

#[test]
fn amounts_are_written_with_paypals_decimals_and_read_back() {
    for (minor, code, wire) in [
        (1_999, "GBP", Ok("19.99")),
        (5, "EUR", Ok("0.05")),
        (100, "USD", Ok("1.00")),
        (1_999, "JPY", Ok("1999")),
        (199_900, "HUF", Ok("1999")),
        (199_950, "HUF", Err(NotWhole)),
        (500, "TWD", Ok("5")),
        (501, "TWD", Err(NotWhole)),
        (1_999, "KWD", Ok("1.999")),
        (-5, "GBP", Ok("-0.05")),
        (i64::MAX, "GBP", Ok("92233720368547758.07")),
    ] {
        let money = Money::new(minor, code.parse().unwrap());
        let written = amounts::write(money);
        assert_eq!(written.as_ref().map(|amount| amount.value.as_str()), wire.as_ref().copied(), "{money}");
        if let Ok(written) = written {
            assert_eq!(amounts::read(&written), Some(money), "{written:?}");
        }
    }
}

#[test]
fn amounts_that_paypal_might_send_are_read_or_refused() {
    for (code, value, minor) in [
        ("GBP", "19.99", Some(1_999)),
        ("GBP", "19.9", Some(1_990)),
        ("GBP", "19", Some(1_900)),
        ("GBP", "19.990", Some(1_999)),
        ("GBP", "19.991", None),
        ("HUF", "1999.00", Some(199_900)),
        ("JPY", "1999", Some(1_999)),
        ("JPY", "1999.5", None),
        ("GBP", "", None),
        ("GBP", ".5", None),
        ("GBP", "1e3", None),
        ("GBP", "--1", None),
        ("GBP", "+1", None),
        ("GBP", "é.99", None),
        ("GBP", "1.é", None),
        ("GBP", "99999999999999999999", None),
        ("XYZ", "1.00", None),
    ] {
        let amount = Amount { currency_code: code.to_owned(), value: value.to_owned() };
        assert_eq!(amounts::read(&amount).map(|money| money.amount), minor, "{amount:?}");
    }
}

#[test]
fn an_orders_stage_is_read_off_its_payments_before_itself() {
    let held = Stage::Held { authorization: "A1".to_owned() };
    let examined = Stage::Examined { authorization: "A1".to_owned() };
    let captured = Stage::Captured { capture: "C1".to_owned() };
    let arriving = Stage::Arriving { reason: "ECHECK".to_owned() };
    let waiting = |page: &str| Stage::Waiting { page: Some(page.to_owned()) };
    let open = r#""links":[{"rel":"approve","href":"a"}]"#;
    let by_source = r#""links":[{"rel":"self","href":"s"},{"rel":"payer-action","href":"p"}]"#;
    for (label, status, more, expected) in [
        ("created", "CREATED", open.to_owned(), waiting("a")),
        ("created by source", "PAYER_ACTION_REQUIRED", by_source.to_owned(), waiting("p")),
        ("saved", "SAVED", open.to_owned(), waiting("a")),
        ("no page", "CREATED", r#""links":[]"#.to_owned(), Stage::Waiting { page: None }),
        ("approved", "APPROVED", r#""intent":"AUTHORIZE""#.to_owned(), Stage::Approved),
        ("forbidden", "APPROVED", r#""intent":"CAPTURE""#.to_owned(), Stage::Over),
        (
            "forbidden before approval",
            "PAYER_ACTION_REQUIRED",
            r#""intent":"CAPTURE""#.to_owned(),
            Stage::Over,
        ),
        ("voided order", "VOIDED", open.to_owned(), Stage::Over),
        ("done without payments", "COMPLETED", open.to_owned(), Stage::Strange),
        ("of tomorrow", "FROZEN", open.to_owned(), Stage::Strange),
        ("held", "COMPLETED", payments("CREATED", &[]), held.clone()),
        ("examined", "COMPLETED", payments("PENDING", &[]), examined),
        ("denied", "COMPLETED", payments("DENIED", &[]), Stage::Denied),
        ("voided", "COMPLETED", payments("VOIDED", &[]), Stage::Over),
        ("run out", "COMPLETED", payments("EXPIRED", &[]), Stage::Over),
        ("authorization of tomorrow", "COMPLETED", payments("FROZEN", &[]), Stage::Strange),
        ("captured, capture not shown", "COMPLETED", payments("CAPTURED", &[]), Stage::Strange),
        ("captured", "COMPLETED", payments("CAPTURED", &["COMPLETED"]), captured.clone()),
        ("partly back", "COMPLETED", payments("CAPTURED", &["PARTIALLY_REFUNDED"]), captured.clone()),
        ("all back", "COMPLETED", payments("CAPTURED", &["REFUNDED"]), captured.clone()),
        ("arriving", "COMPLETED", payments("CAPTURED", &["PENDING"]), arriving),
        ("capture refused, still held", "COMPLETED", payments("CREATED", &["DECLINED"]), held),
        ("capture refused for good", "COMPLETED", payments("CAPTURED", &["FAILED"]), Stage::Denied),
        ("capture of tomorrow", "COMPLETED", payments("CAPTURED", &["FROZEN"]), Stage::Strange),
    ] {
        let text = format!(r#"{{"id":"O1","status":"{status}",{more}}}"#);
        let order: Order = serde_json::from_str(&text).unwrap();
        assert_eq!(stage(&order), expected, "{label}");
    }
}

fn payments(authorization: &str, captures: &[&str]) -> String {
    let captures: Vec<String> = captures
        .iter()
        .map(|status| format!(r#"{{"id":"C1","status":"{status}","status_details":{{"reason":"ECHECK"}}}}"#))
        .collect();
    format!(
        r#""purchase_units":[{{"payments":{{"authorizations":[{{"id":"A1","status":"{authorization}"}}],"captures":[{}]}}}}]"#,
        captures.join(",")
    )
}

#[test]
fn only_paypals_own_names_come_into_a_path() {
    for (text, good) in [
        ("5O190127TN364715T", true),
        ("WH-1", true),
        ("", false),
        ("../../v1/oauth2", false),
        ("A?x=1", false),
        ("A B", false),
        (&"A".repeat(65), false),
    ] {
        assert_eq!(is_id(text), good, "{text:?}");
    }
}

#[test]
fn options_that_cannot_work_are_refused_with_their_remedy() {
    type Change = fn(&mut Options);
    let rows: [(&str, Change, &str); 12] = [
        ("no client id", |o| o.client_id.clear(), "client id"),
        ("no secret", |o| o.client_secret.clear(), "client secret"),
        ("a line break in the secret", |o| o.client_secret.push('\n'), "client secret"),
        ("an empty webhook id", |o| o.webhook_id = Some(String::new()), "webhook id"),
        ("no base", |o| o.api_base.clear(), "api-m.paypal.com"),
        ("in the clear", |o| o.api_base = "http://api-m.paypal.com".to_owned(), "api-m.sandbox.paypal.com"),
        ("a base with a query", |o| o.api_base = "https://x.example/?a=b".to_owned(), "api-m.paypal.com"),
        ("another scheme", |o| o.api_base = "ftp://localhost".to_owned(), "api-m.paypal.com"),
        ("no return page", |o| o.return_url.clear(), "return URL"),
        ("half a cancel page", |o| o.cancel_url = "/cart".to_owned(), "cancel URL"),
        ("no calls", |o| o.calls_per_second_max = 0, "calls a second"),
        ("no time", |o| o.timeout = Duration::ZERO, "time limit"),
    ];
    for (label, change, remedy) in rows {
        let mut options = options("https://api-m.paypal.com");
        change(&mut options);
        let said = PayPal::new(options).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(remedy), "{label}: {said:?}");
    }
    for base in [
        "https://api-m.paypal.com",
        "https://api-m.sandbox.paypal.com/",
        "http://127.0.0.1:1",
        "http://[::1]:1",
    ] {
        assert!(PayPal::new(options(base)).is_ok(), "{base}");
    }
}

#[test]
fn no_secret_is_shown() {
    let mut options = options("https://api-m.paypal.com");
    options.client_secret = "very-secret".to_owned();
    for shown in [format!("{options:?}"), format!("{:?}", PayPal::new(options.clone()).unwrap())] {
        assert!(!shown.contains("very-secret") && shown.contains("api-m.paypal.com"), "{shown}");
    }
}
