//! Webhooks that are Stripe's, and those that are not.

use doorbuster_engine::payment::{FailedRefund, PaymentNews, Standing};

use super::*;

const NOW_S: u64 = 1_767_225_600;

fn door(secrets: &[&str], key: &str) -> Stripe {
    let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    Stripe::new(&Options { webhook_secrets: secrets, ..Options::new(key) }).unwrap()
}

fn event(kind: &str) -> String {
    format!(
        r#"{{"id":"evt_1","object":"event","api_version":"2019-01-01","type":"{kind}","livemode":false,"data":{{"object":
        {{"id":"pi_1","object":"payment_intent","amount":1999,"currency":"gbp","status":"anything","a_new_field":[],
        "metadata":{{"order":"ord_00000000000000000000000000000007"}}}}}}}}"#
    )
}

fn sign(secrets: &[&str], at_s: u64, body: &str) -> String {
    let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    doorbuster_stripe::signature(&secrets, at_s, body)
}

async fn ask(door: &Stripe, header: Option<&str>, body: &str) -> Result<Notice, NoticeError> {
    let header = header.map(str::to_owned);
    let find = move |name: &str| header.clone().filter(|_| name == "stripe-signature");
    door.notice(&find, body.as_bytes(), NOW_S * 1_000 + 999).await
}

/// What is told apart, the secrets configured, the header, and what becomes of it.
type Row = (&'static str, &'static [&'static str], Option<String>, Result<(), NoticeError>);

#[tokio::test]
async fn only_a_signature_that_fits_is_believed() {
    let body = event("payment_intent.succeeded");
    let fits = |secrets: &[&str]| sign(secrets, NOW_S, &body);
    let good = fits(&["whsec_a"]);
    let hex = good.split("v1=").nth(1).unwrap().to_owned();
    let zeros = "0".repeat(64);
    let stale = |age_s| Err(NoticeError::Stale { age_s, allowed_s: 300 });
    let bad = || Err(NoticeError::BadSignature);
    let rows: Vec<Row> = vec![
        ("the secret", &["whsec_a"], Some(good.clone()), Ok(())),
        ("the first of two", &["whsec_a", "whsec_b"], Some(good.clone()), Ok(())),
        ("the second of two", &["whsec_b", "whsec_a"], Some(good.clone()), Ok(())),
        ("two signatures, the first ours", &["whsec_a"], Some(fits(&["whsec_a", "whsec_b"])), Ok(())),
        ("two signatures, the last ours", &["whsec_b"], Some(fits(&["whsec_a", "whsec_b"])), Ok(())),
        (
            "rotated: old and new on both sides",
            &["whsec_b", "whsec_c"],
            Some(fits(&["whsec_a", "whsec_b"])),
            Ok(()),
        ),
        ("an older scheme beside", &["whsec_a"], Some(format!("{good},v0={zeros}")), Ok(())),
        ("spaces after commas", &["whsec_a"], Some(good.replace(',', ", ")), Ok(())),
        ("capitals", &["whsec_a"], Some(good.replace(&hex, &hex.to_uppercase())), Ok(())),
        ("no header", &["whsec_a"], None, bad()),
        ("an empty header", &["whsec_a"], Some(String::new()), bad()),
        ("another secret", &["whsec_b"], Some(good.clone()), bad()),
        ("a rolled secret", &["whsec_b", "whsec_c"], Some(good.clone()), bad()),
        ("no time", &["whsec_a"], Some(format!("v1={hex}")), bad()),
        ("another time", &["whsec_a"], Some(format!("t={},v1={hex}", NOW_S - 1)), bad()),
        ("a time that is none", &["whsec_a"], Some(format!("t=now,v1={hex}")), bad()),
        ("only an older scheme", &["whsec_a"], Some(good.replace("v1=", "v0=")), bad()),
        ("half a signature", &["whsec_a"], Some(format!("t={NOW_S},v1={}", &hex[..32])), bad()),
        ("odd digits", &["whsec_a"], Some(format!("t={NOW_S},v1={}", &hex[..63])), bad()),
        ("no digits", &["whsec_a"], Some(format!("t={NOW_S},v1={}", "é".repeat(32))), bad()),
        ("zeros", &["whsec_a"], Some(format!("t={NOW_S},v1={zeros}")), bad()),
        ("five minutes old", &["whsec_a"], Some(sign(&["whsec_a"], NOW_S - 300, &body)), Ok(())),
        ("older", &["whsec_a"], Some(sign(&["whsec_a"], NOW_S - 301, &body)), stale(301)),
        ("five minutes early", &["whsec_a"], Some(sign(&["whsec_a"], NOW_S + 300, &body)), Ok(())),
        ("earlier", &["whsec_a"], Some(sign(&["whsec_a"], NOW_S + 301, &body)), stale(-301)),
        ("old and not ours", &["whsec_b"], Some(sign(&["whsec_a"], NOW_S - 301, &body)), bad()),
        ("nothing configured", &[], Some(good.clone()), Err(NoticeError::NotConfigured)),
    ];
    for (label, secrets, header, expected) in rows {
        let seen = ask(&door(secrets, "sk_test_a"), header.as_deref(), &body).await.map(drop);
        assert_eq!(seen, expected, "{label}");
    }
    let changed = body.replace("1999", "1");
    let seen = ask(&door(&["whsec_a"], "sk_test_a"), Some(&good), &changed).await;
    assert_eq!(seen, Err(NoticeError::BadSignature), "another body");
}

#[tokio::test]
async fn each_kind_tells_what_it_means() {
    let door = door(&["whsec_a"], "sk_test_a");
    let rows = [
        ("payment_intent.amount_capturable_updated", Some(Standing::Authorized)),
        ("payment_intent.succeeded", Some(Standing::Captured)),
        ("payment_intent.canceled", Some(Standing::Cancelled)),
        ("payment_intent.requires_action", Some(Standing::Open)),
        ("payment_intent.payment_failed", Some(Standing::Open)),
        ("payment_intent.processing", Some(Standing::Open)),
        ("payment_intent.created", None),
        ("payment_intent.partially_funded", None),
        ("charge.refunded", None),
        ("a.kind_of_tomorrow", None),
    ];
    for (kind, standing) in rows {
        let body = event(kind);
        let notice = ask(&door, Some(&sign(&["whsec_a"], NOW_S, &body)), &body).await.unwrap();
        let news = standing.map(|standing| PaymentNews {
            order: OrderId(7),
            reference: "pi_1".to_owned(),
            amount: Money::new(1_999, Currency::GBP),
            standing,
        });
        let (event, kind) = ("evt_1".to_owned(), kind.to_owned());
        assert_eq!(notice, Notice { event, kind, news, failed_refund: None });
    }
}

#[tokio::test]
async fn a_refund_that_failed_is_told_whatever_its_event_is_called() {
    let ours = r#""order":"ord_00000000000000000000000000000007","refund":"ref_7""#;
    let because = |reason: &str| {
        Some(FailedRefund {
            order: OrderId(7),
            key: "ref_7".to_owned(),
            reference: "re_1".to_owned(),
            amount: Money::new(500, Currency::GBP),
            reason: reason.to_owned(),
        })
    };
    let door = door(&["whsec_a"], "sk_test_a");
    for (kind, status, metadata, expected) in [
        ("refund.failed", r#""failed","failure_reason":"declined""#, ours, because("declined")),
        ("charge.refund.updated", r#""failed","failure_reason":"declined""#, ours, because("declined")),
        ("refund.updated", r#""failed""#, ours, because("failed")),
        ("refund.updated", r#""canceled""#, ours, because("canceled")),
        ("refund.updated", r#""succeeded""#, ours, None),
        ("charge.refund.updated", r#""pending""#, ours, None),
        ("refund.created", r#""failed""#, ours, None),
        ("refund.failed", r#""failed""#, r#""order":"ord_00000000000000000000000000000007""#, None),
        ("refund.failed", r#""failed""#, "", None),
    ] {
        let body = format!(
            r#"{{"id":"evt_1","type":"{kind}","livemode":false,"data":{{"object":{{"id":"re_1","amount":500,"currency":"gbp",
            "status":{status},"metadata":{{{metadata}}}}}}}}}"#
        );
        let notice = ask(&door, Some(&sign(&["whsec_a"], NOW_S, &body)), &body).await.unwrap();
        assert_eq!((notice.failed_refund, notice.news), (expected, None), "{kind} {status} {metadata}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_late_is_heard_of_and_shows_in_the_books() {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        webhook_secrets: vec!["whsec_a".to_owned()],
        ..options
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    shop.stripe.set_endpoint(Some(doorbuster_stripe::Endpoint {
        url: format!("http://{}/", listener.local_addr().unwrap()),
        secrets: vec!["whsec_a".to_owned()],
        kinds: vec!["refund.failed".to_owned()],
    }));
    let heard = hear(listener);
    let request = shop.request("pm_card_refundFail");
    let outcome = shop.door.authorize(&request).await;
    let reference = reference_of(&outcome).unwrap();
    shop.door.capture(&request, reference).await;
    let part = Money::new(500, Currency::GBP);
    let said = shop.door.refund(&request, reference, "ref_7", part).await;
    let RefundOutcome::Refunded { reference: refund } = said else { panic!("{said:?}") };
    assert_eq!(shop.intents(request.order).await[0].refunded, 500, "it looks well at first");
    shop.stripe.advance(24 * 60 * 60 * 1_000);
    let (signature, body) = heard.recv_timeout(Duration::from_secs(30)).unwrap();
    let find = move |name: &str| Some(signature.clone()).filter(|_| name == "stripe-signature");
    let notice = shop.door.notice(&find, body.as_bytes(), shop.stripe.now_ms()).await.unwrap();
    let reason = "declined".to_owned();
    let failed = FailedRefund {
        order: request.order,
        key: "ref_7".to_owned(),
        reference: refund,
        amount: part,
        reason,
    };
    assert_eq!((notice.kind.as_str(), notice.failed_refund), ("refund.failed", Some(failed)));
    assert_eq!(shop.intents(request.order).await[0].refunded, 0);
}

#[tokio::test]
async fn what_is_signed_but_not_ours_or_not_right_has_no_effect() {
    let usual = event("payment_intent.succeeded");
    let metadata = r#""metadata":{"order":"ord_00000000000000000000000000000007"}"#;
    let none = || Ok(None::<PaymentNews>);
    let malformed = |said: &'static str| Err(said);
    let rows = [
        ("no metadata", usual.replace(metadata, r#""metadata":{}"#), none()),
        ("metadata that is null", usual.replace(metadata, r#""metadata":null"#), none()),
        ("another's order", usual.replace("ord_00000000000000000000000000000007", "12345"), none()),
        ("live mode", usual.replace(r#""livemode":false"#, r#""livemode":true"#), malformed("live mode")),
        ("no JSON", "hello".to_owned(), malformed("expected value")),
        ("no id", usual.replace(r#""id":"evt_1","#, ""), malformed("missing field `id`")),
        ("no amount", usual.replace(r#""amount":1999,"#, ""), malformed("missing field `amount`")),
        ("no currency of this world", usual.replace("gbp", "xyz"), malformed("is no amount")),
        (
            "an object that is none",
            usual.replace("\"object\":\n", "\"was\":\n"),
            malformed("missing field `object`"),
        ),
    ];
    let door = door(&["whsec_a"], "sk_test_a");
    for (label, body, expected) in rows {
        let seen = ask(&door, Some(&sign(&["whsec_a"], NOW_S, &body)), &body).await;
        match (seen, expected) {
            (Ok(notice), Ok(news)) => assert_eq!(notice.news, news, "{label}"),
            (Err(NoticeError::Malformed(said)), Err(part)) => assert!(said.contains(part), "{label}: {said}"),
            (seen, _) => panic!("{label}: {seen:?}"),
        }
    }
}

#[tokio::test]
async fn a_live_key_believes_live_events_only() {
    for (key, live, believed) in [
        ("sk_live_a", true, true),
        ("sk_live_a", false, false),
        ("rk_live_a", true, true),
        ("rk_test_a", true, false),
        ("rk_test_a", false, true),
    ] {
        let body = event("payment_intent.succeeded")
            .replace(r#""livemode":false"#, &format!(r#""livemode":{live}"#));
        let notice = ask(&door(&["whsec_a"], key), Some(&sign(&["whsec_a"], NOW_S, &body)), &body).await;
        assert_eq!(notice.is_ok(), believed, "{key} {live}: {notice:?}");
    }
}

/// A door on this machine that hears webhooks as a shop would, and hands their signature and body on.
pub(super) fn hear(listener: std::net::TcpListener) -> std::sync::mpsc::Receiver<(String, String)> {
    use std::io::{Read as _, Write as _};
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut bytes, mut piece) = (vec![], [0; 4_096]);
            let (signature, body) = loop {
                let read = stream.read(&mut piece).unwrap();
                bytes.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((headers, body)) = text.split_once("\r\n\r\n") else { continue };
                let header = |name: &str| {
                    let lines = headers.lines().filter_map(|line| line.split_once(": "));
                    let found =
                        lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
                    found.map(str::to_owned).next().unwrap()
                };
                if body.len() >= header("content-length").parse::<usize>().unwrap() {
                    break (header("stripe-signature"), body.to_owned());
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            if tell.send((signature, body)).is_err() {
                return;
            }
        }
    });
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_sends_is_believed_and_understood() {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        webhook_secrets: vec!["whsec_new".to_owned(), "whsec_old".to_owned()],
        ..options
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    shop.stripe.set_endpoint(Some(doorbuster_stripe::Endpoint {
        url: format!("http://{}/", listener.local_addr().unwrap()),
        secrets: vec!["whsec_old".to_owned()],
        kinds: vec![
            "payment_intent.amount_capturable_updated".to_owned(),
            "payment_intent.succeeded".to_owned(),
        ],
    }));
    let heard = hear(listener);
    let request = shop.request("pm_card_visa");
    let outcome = shop.door.authorize(&request).await;
    let reference = reference_of(&outcome).unwrap().to_owned();
    shop.door.capture(&request, &reference).await;
    for standing in [Standing::Authorized, Standing::Captured] {
        let (signature, body) = heard.recv_timeout(Duration::from_secs(30)).unwrap();
        let find = move |name: &str| Some(signature.clone()).filter(|_| name == "stripe-signature");
        let notice = shop.door.notice(&find, body.as_bytes(), shop.stripe.now_ms()).await.unwrap();
        let news = PaymentNews {
            order: request.order,
            reference: reference.clone(),
            amount: request.amount,
            standing,
        };
        assert_eq!(notice.news, Some(news));
    }
}
