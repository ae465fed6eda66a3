//! Bad days: lost replies, silence, refusals of everything, tokens that end. What is asked again has one effect.

use std::time::Duration;

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::payment::{
    CaptureOutcome, ChargeOutcome, PaymentProvider as _, RefundOutcome, VoidOutcome,
};
use doorbuster_paypal_stand_in::{self as stand_in, Faults};

use super::{Shop, capture_word, charge, options, refund_word, shop, shop_with, void_word, word};
use crate::paypal::{Options, PayPal};

/// Where a request is made, by what stands in its path.
const CREATE: &str = "/v2/checkout/orders";

fn once(path: &str, change: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults { path: Some(path.to_owned()), times_max: Some(1), ..Faults::default() };
    change(&mut faults);
    faults
}

#[tokio::test]
async fn a_lost_reply_asked_again_has_one_effect() {
    type Change = fn(&mut Faults);
    let faults: [(&str, Change); 4] = [
        ("reply lost", |faults| faults.lost_reply_rate = 1.0),
        ("500 with the work done", |faults| faults.failed_after_rate = 1.0),
        ("500 with nothing done", |faults| faults.failed_before_rate = 1.0),
        ("429", |faults| faults.too_many_rate = 1.0),
    ];
    for (label, change) in faults {
        let (shop, request) = (shop(), charge(1));
        shop.there.set_faults(once(CREATE, change));
        assert_eq!(shop.paypal.authorize(&request).await, ChargeOutcome::Unknown, "{label}");
        let ChargeOutcome::ActionRequired { reference, .. } = shop.paypal.look_up(&request, None).await
        else {
            panic!("{label}: nothing found");
        };
        shop.there.approve(&reference).unwrap();
        shop.there.set_faults(once("/authorize", change));
        assert_eq!(shop.paypal.confirm(&request, &reference).await, ChargeOutcome::Unknown, "{label}");
        let held = ChargeOutcome::Authorized { reference: reference.clone() };
        assert_eq!(shop.paypal.look_up(&request, Some(&reference)).await, held, "{label}");
        shop.there.set_faults(once("/capture", change));
        assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Unknown, "{label}");
        assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Captured, "{label}");
        shop.there.set_faults(once("/refund", change));
        let back = async || shop.paypal.refund(&request, &reference, "r1", request.amount).await;
        assert_eq!(back().await, RefundOutcome::Unknown, "{label}");
        assert_eq!(refund_word(&back().await), "refunded", "{label}");
        assert_eq!(shop.counts(), [1, 1, 1, 1], "{label}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_settled_even_where_paypal_forgot_the_request_ids() {
    let (shop, request) = (shop(), charge(1));
    let reference = shop.approved(&request).await;
    let lost = |path: &str| once(path, |faults| faults.lost_reply_rate = 1.0);
    shop.there.set_faults(lost("/authorize"));
    assert_eq!(shop.paypal.confirm(&request, &reference).await, ChargeOutcome::Unknown);
    shop.there.forget_keys();
    assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), "authorized");
    shop.there.set_faults(lost("/capture"));
    assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Unknown);
    shop.there.forget_keys();
    assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Captured);
    shop.there.set_faults(lost("/refund"));
    let back = async || shop.paypal.refund(&request, &reference, "r1", request.amount).await;
    assert_eq!(back().await, RefundOutcome::Unknown);
    shop.there.forget_keys();
    assert_eq!(refund_word(&back().await), "refunded");
    assert_eq!(shop.counts(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_lost_void_asked_again_is_voided() {
    for (stage, path) in [("approved", "/v2/checkout/orders/"), ("held", "/void")] {
        let (shop, request) = (shop(), charge(1));
        let reference = match stage {
            "approved" => shop.approved(&request).await,
            _ => shop.held(&request).await,
        };
        shop.there.set_faults(once(path, |faults| faults.lost_reply_rate = 1.0));
        assert_eq!(shop.paypal.void(&request, Some(&reference)).await, VoidOutcome::Unknown, "{stage}");
        assert_eq!(shop.paypal.void(&request, Some(&reference)).await, VoidOutcome::Voided, "{stage}");
        assert_eq!(shop.paypal.void(&request, Some(&reference)).await, VoidOutcome::Voided, "{stage} again");
        assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), "declined, try again", "{stage}");
    }
}

/// Every call says `Unknown`, and none changes the ledger.
async fn says_nothing_definite(shop: &Shop, reference: &str, label: &str) {
    let request = charge(1);
    let before = shop.there.ledger();
    assert_eq!(word(&shop.paypal.authorize(&request).await), "unknown", "{label}");
    assert_eq!(word(&shop.paypal.confirm(&request, reference).await), "unknown", "{label}");
    assert_eq!(word(&shop.paypal.look_up(&request, Some(reference)).await), "unknown", "{label}");
    assert_eq!(capture_word(&shop.paypal.capture(&request, reference).await), "unknown", "{label}");
    assert_eq!(void_word(&shop.paypal.void(&request, Some(reference)).await), "unknown", "{label}");
    let back = shop.paypal.refund(&request, reference, "r1", request.amount).await;
    assert_eq!(refund_word(&back), "unknown", "{label}");
    assert_eq!(shop.paypal.list(Timestamp(super::now().0 - 60_000), None).await, None, "{label}");
    assert_eq!(shop.there.ledger(), before, "{label}");
}

#[tokio::test]
async fn what_is_no_answer_is_unknown() {
    let mut rows: Vec<(String, Faults)> = [401, 403, 408, 409, 429, 500, 502, 503, 504, 302]
        .map(|status| (status.to_string(), Faults { status: Some(status), ..Faults::default() }))
        .to_vec();
    rows.push(("outage".to_owned(), Faults { outage: true, ..Faults::default() }));
    let hanging = Faults { hang_rate: 1.0, path: Some("oauth2".to_owned()), ..Faults::default() };
    rows.push(("no token comes".to_owned(), hanging));
    for (label, faults) in rows {
        let mut shop = shop();
        let reference = shop.approved(&charge(1)).await;
        if faults.hang_rate > 0.0 {
            shop.paypal = impatient(&shop);
        }
        shop.there.set_faults(faults);
        says_nothing_definite(&shop, &reference, &label).await;
    }
}

/// An adapter that waits for a moment only. What it is asked must not need an answer: this machine may be busy.
fn impatient(shop: &Shop) -> PayPal {
    PayPal::new(Options { timeout: Duration::from_millis(150), ..options(&shop.there.url()) }).unwrap()
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_unknown() {
    let (shop, request) = (shop(), charge(1));
    let reference = shop.approved(&request).await;
    shop.there.set_faults(Faults {
        hang_rate: 1.0,
        path: Some("/authorize".to_owned()),
        ..Faults::default()
    });
    assert_eq!(impatient(&shop).confirm(&request, &reference).await, ChargeOutcome::Unknown);
    shop.there.set_faults(Faults::default());
    assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), "authorized");
    assert_eq!(shop.counts(), [1, 1, 0, 0]);
}

#[tokio::test]
async fn nobody_at_the_door_is_unknown() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let paypal = PayPal::new(options(&format!("http://{free}"))).unwrap();
    assert_eq!(paypal.authorize(&charge(1)).await, ChargeOutcome::Unknown);
    assert_eq!(paypal.void(&charge(1), Some("X")).await, VoidOutcome::Unknown);
}

#[tokio::test]
async fn a_refusal_that_is_not_paypals_is_unknown() {
    // 400, 404 and 422 from something between, with a body that is not PayPal's.
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for status in ["400 Bad Request", "404 Not Found", "422 Unprocessable Entity", "200 OK"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (mut line, _) = listener.accept().await.unwrap();
                let mut bytes = [0; 4_096];
                let read = line.read(&mut bytes).await.unwrap_or(0);
                let token = bytes[..read].windows(6).any(|part| part == b"oauth2");
                let (status, body) = if token {
                    ("200 OK", r#"{"access_token":"t","expires_in":3600}"#)
                } else {
                    (status, "<html>the proxy is sorry</html>")
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                // The client may have left.
                let _ = line.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        let paypal = PayPal::new(options(&base)).unwrap();
        assert_eq!(paypal.authorize(&charge(1)).await, ChargeOutcome::Unknown, "{status}");
        let mut old = charge(1);
        old.asked_at = Timestamp::default();
        assert_eq!(paypal.confirm(&old, "X").await, ChargeOutcome::Unknown, "{status}");
        assert_eq!(paypal.void(&old, Some("X")).await, VoidOutcome::Unknown, "{status}");
        server.abort();
    }
}

#[tokio::test]
async fn one_token_is_fetched_for_all_and_a_fresh_one_where_it_was_revoked() {
    let shop = shop();
    let tokens = || shop.there.asked("POST /v1/oauth2/token");
    let requests: Vec<_> = (1..=8).map(charge).collect();
    let outcomes = futures_util::future::join_all(requests.iter().map(|it| shop.paypal.authorize(it))).await;
    assert!(outcomes.iter().all(|outcome| word(outcome) == "action"), "{outcomes:?}");
    assert_eq!(tokens(), 1, "eight at once");
    shop.there.revoke_tokens();
    let outcomes = futures_util::future::join_all(requests.iter().map(|it| shop.paypal.authorize(it))).await;
    assert!(outcomes.iter().all(|outcome| word(outcome) == "action"), "{outcomes:?}");
    assert_eq!(tokens(), 2, "eight that were refused at once");
    assert_eq!(shop.counts()[0], 8);
}

#[tokio::test]
async fn a_token_is_replaced_before_its_end() {
    // It is said to last as long as the margin: already too late to use again.
    for (token_lasts_s, fetched) in [(60, 3), (600, 1), (0, 3)] {
        let there =
            stand_in::PayPal::start_with(&stand_in::Options { token_lasts_s, ..Default::default() }).unwrap();
        let paypal = PayPal::new(options(&there.url())).unwrap();
        for number in 1..=3 {
            assert_eq!(word(&paypal.authorize(&charge(number)).await), "action");
        }
        assert_eq!(there.asked("POST /v1/oauth2/token"), fetched, "{token_lasts_s}");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_unknown_and_asked_once_a_call() {
    let shop = shop_with(|options| options.client_secret = "wrong".to_owned());
    assert_eq!(shop.paypal.authorize(&charge(1)).await, ChargeOutcome::Unknown);
    assert_eq!(shop.there.asked(""), 1);
    assert_eq!(shop.counts(), [0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_payments_through_bad_weather_end_as_the_ledger_says() {
    let there = stand_in::PayPal::start().unwrap();
    let seed = there.seed();
    let paypal = PayPal::new(options(&there.url())).unwrap();
    let there = std::sync::Arc::new(there);
    there.set_faults(Faults {
        lost_reply_rate: 0.1,
        failed_before_rate: 0.05,
        failed_after_rate: 0.05,
        too_many_rate: 0.05,
        ..Faults::default()
    });
    let mut payments = vec![];
    for number in 1..=24_u128 {
        let (paypal, there) = (paypal.clone(), std::sync::Arc::clone(&there));
        payments.push(tokio::spawn(async move {
            let request = charge(number);
            let mut outcome = paypal.authorize(&request).await;
            let reference = loop {
                match outcome {
                    ChargeOutcome::ActionRequired { reference, .. } => break reference,
                    ChargeOutcome::Unknown => outcome = paypal.look_up(&request, None).await,
                    ChargeOutcome::Authorized { .. }
                    | ChargeOutcome::Captured { .. }
                    | ChargeOutcome::Declined { .. } => panic!("nobody approved it: {outcome:?}"),
                }
            };
            there.approve(&reference).unwrap();
            while word(&paypal.confirm(&request, &reference).await) != "authorized" {}
            if number % 2 == 0 {
                while paypal.void(&request, Some(&reference)).await != VoidOutcome::Voided {}
                return;
            }
            while paypal.capture(&request, &reference).await != CaptureOutcome::Captured {}
            while refund_word(
                &paypal.refund(&request, &reference, &format!("r{number}"), request.amount).await,
            ) != "refunded"
            {}
        }));
    }
    for payment in payments {
        payment.await.unwrap();
    }
    let ledger = there.ledger();
    let counts =
        (ledger.orders.len(), ledger.authorizations.len(), ledger.captures.len(), ledger.refunds.len());
    assert_eq!(counts, (24, 24, 12, 12), "seed {seed}");
    let voided = ledger.authorizations.iter().filter(|entry| entry.status == "VOIDED").count();
    assert_eq!(voided, 12, "seed {seed}");
    assert!(ledger.captures.iter().all(|entry| entry.status == "REFUNDED"), "seed {seed}");
}
