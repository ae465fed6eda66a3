//! A second opinion: the door against localstripe, which others wrote from their own reading of Stripe.
//!
//! `scripts/proofs/localstripe` starts it and runs this test with its address; without one the test fails, and without
//! `--ignored` it is not run. What localstripe cannot show: it keeps no idempotency keys (a repeat makes a second payment),
//! searches nothing, lists no payments by time, announces no authorization, and tells of a declined payment no intent.

use doorbuster_engine::payment::{PaymentNews, Standing};
use miniserde::json::Value;
use stripe_client_core::{RequestBuilder, StripeMethod};

use super::super::objects::Named;
use super::notices::hear;
use super::*;

const SECRET: &str = "whsec_localstripe";

fn open() -> Stripe {
    let base = std::env::var("DOORBUSTER_LOCALSTRIPE").unwrap_or_default();
    assert!(!base.is_empty(), "DOORBUSTER_LOCALSTRIPE is not set; run scripts/proofs/localstripe");
    let secrets = vec![SECRET.to_owned()];
    Stripe::new(&Options { api_base: base, webhook_secrets: secrets, ..Options::new("sk_test_local") })
        .unwrap()
}

fn request(method: &str) -> ChargeRequest {
    let order = OrderId(u128::from(ORDERS.fetch_add(1, Ordering::Relaxed)));
    ChargeRequest {
        key: format!("{order}:charge"),
        order,
        amount: Money::new(1_999, Currency::GBP),
        method: method.to_owned(),
        asked_at: Timestamp(wall_clock_ms()),
    }
}

/// Something that is asked of localstripe besides what the door asks.
async fn post<T: miniserde::Deserialize>(door: &Stripe, path: &str, form: &str) -> T {
    let mut request = RequestBuilder::new(StripeMethod::Post, path);
    request.body = Some(form.to_owned());
    let Ok(answer) = door.account.wire.ask(request, None).await else { panic!("localstripe refused {path}") };
    answer.object
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs localstripe: scripts/proofs/localstripe"]
async fn localstripe_agrees_about_each_step() {
    let door = open();

    let paid = request("pm_card_visa");
    let outcome = door.authorize(&paid).await;
    assert_eq!(name(&outcome), "authorized");
    let reference = reference_of(&outcome).unwrap();
    assert_eq!(door.look_up(&paid, Some(reference)).await, outcome);
    assert_eq!(door.capture(&paid, reference).await, CaptureOutcome::Captured);
    assert_eq!(door.capture(&paid, reference).await, CaptureOutcome::Captured, "again");
    assert_eq!(name(&door.confirm(&paid, reference).await), "captured");
    assert_eq!(void_name(&door.void(&paid, Some(reference)).await), "too late");

    // As if a day had passed, since localstripe has forgotten every key: found by what the refund bears.
    let old = ChargeRequest { asked_at: Timestamp(0), ..paid.clone() };
    let refund = |amount, key| door.refund(&old, reference, key, Money::new(amount, Currency::GBP));
    let first = refund(500, "a").await;
    assert_eq!(refund_name(&first), "refunded");
    assert_eq!(refund_name(&refund(1_499, "b").await), "refunded");
    assert_eq!(refund(500, "a").await, first, "the same refund again");

    let let_go = request("pm_card_visa");
    let outcome = door.authorize(&let_go).await;
    let reference = reference_of(&outcome);
    assert_eq!(door.void(&let_go, reference).await, VoidOutcome::Voided);
    assert_eq!(door.void(&let_go, reference).await, VoidOutcome::Voided, "again");
    assert_eq!(name(&door.look_up(&let_go, reference).await), "declined: the payment was cancelled");

    let declined = door.authorize(&request("pm_card_chargeCustomerFail")).await;
    assert_eq!(name(&declined), "declined: the card was declined");
    assert_eq!(door.confirm(&paid, "pi_nobody").await, ChargeOutcome::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs localstripe: scripts/proofs/localstripe"]
async fn localstripe_agrees_about_the_banks_check() {
    let door = open();
    let card = "type=card&card[number]=4000002500003155&card[exp_month]=12&card[exp_year]=2034&card[cvc]=123";
    for (success, expected) in
        [(true, "authorized"), (false, "declined: the bank's check of the shopper failed")]
    {
        let method: Named = post(&door, "/payment_methods", card).await;
        let waiting = request(&method.id);
        let outcome = door.authorize(&waiting).await;
        let ChargeOutcome::ActionRequired { reference, action: NextAction::ClientSecret(secret) } = &outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(door.confirm(&waiting, reference).await, outcome, "not yet");
        let path = format!("/payment_intents/{reference}/_authenticate");
        let _told: Value = post(&door, &path, &format!("client_secret={secret}&success={success}")).await;
        assert_eq!(name(&door.confirm(&waiting, reference).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs localstripe: scripts/proofs/localstripe"]
async fn localstripe_signs_as_we_prove() {
    let door = open();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let heard = hear(listener);
    configure_webhooks(&url);
    let paid = request("pm_card_visa");
    let outcome = door.authorize(&paid).await;
    let reference = reference_of(&outcome).unwrap().to_owned();
    assert_eq!(door.capture(&paid, &reference).await, CaptureOutcome::Captured);
    // Other tests make payments as well: the one of this order is waited for.
    let notice = loop {
        let (signature, body) = heard.recv_timeout(Duration::from_secs(30)).unwrap();
        let find = move |name: &str| Some(signature.clone()).filter(|_| name == "stripe-signature");
        let notice = door.notice(&find, body.as_bytes(), wall_clock_ms()).await.unwrap();
        if notice.news.as_ref().is_some_and(|news| news.order == paid.order) {
            break notice;
        }
    };
    assert_eq!(notice.kind, "payment_intent.succeeded");
    let news =
        PaymentNews { order: paid.order, reference, amount: paid.amount, standing: Standing::Captured };
    assert_eq!(notice.news, Some(news));
}

/// Tells localstripe where webhooks go: outside `/v1`, so not by way of the door.
fn configure_webhooks(url: &str) {
    use std::io::{Read as _, Write as _};
    let base = std::env::var("DOORBUSTER_LOCALSTRIPE").unwrap();
    let mut stream = std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    let form = format!("url={url}&secret={SECRET}");
    let head = "POST /_config/webhooks/doorbuster HTTP/1.1\r\nHost: localstripe\r\nConnection: close\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{form}", form.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
