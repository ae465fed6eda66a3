//! Webhooks: proved by PayPal's own word over the very bytes, then told as news.

use doorbuster_engine::payment::{Notice, NoticeError, PaymentNews, PaymentProvider as _, Standing};
use doorbuster_paypal_stand_in::{Faults, Webhook};

use super::{Shop, charge, now, shop, shop_with};

impl Shop {
    async fn notice(&self, webhook: &Webhook) -> Result<Notice, NoticeError> {
        self.notice_at(webhook, now().0).await
    }

    async fn notice_at(&self, webhook: &Webhook, now_ms: u64) -> Result<Notice, NoticeError> {
        let header = |name: &str| webhook.header(name);
        self.paypal.notice(&header, webhook.body.as_bytes(), now_ms).await
    }
}

#[tokio::test]
async fn what_paypal_tells_of_a_payment_becomes_news() {
    let (shop, request) = (shop(), charge(1));
    let reference = shop.captured(&request).await;
    shop.paypal.refund(&request, &reference, "r1", request.amount).await;
    let other = charge(2);
    let second = shop.held(&other).await;
    shop.paypal.void(&other, Some(&second)).await;
    let webhooks = shop.there.webhooks();
    let expected = [
        (&request, &reference, "CHECKOUT.ORDER.APPROVED", Some(Standing::Open)),
        (&request, &reference, "PAYMENT.AUTHORIZATION.CREATED", Some(Standing::Authorized)),
        (&request, &reference, "PAYMENT.CAPTURE.COMPLETED", Some(Standing::Captured)),
        (&request, &reference, "PAYMENT.CAPTURE.REFUNDED", None),
        (&other, &second, "CHECKOUT.ORDER.APPROVED", Some(Standing::Open)),
        (&other, &second, "PAYMENT.AUTHORIZATION.CREATED", Some(Standing::Authorized)),
        (&other, &second, "PAYMENT.AUTHORIZATION.VOIDED", Some(Standing::Cancelled)),
    ];
    assert_eq!(webhooks.len(), expected.len());
    for (webhook, (request, reference, kind, standing)) in webhooks.iter().zip(expected) {
        let notice = shop.notice(webhook).await.unwrap();
        assert_eq!(notice.kind, kind);
        assert_eq!(Some(notice.event.clone()), webhook.header("paypal-transmission-id"));
        let (order, amount, reference) = (request.order, request.amount, reference.clone());
        let news = standing.map(|standing| PaymentNews { order, reference, amount, standing });
        assert_eq!(notice.news, news, "{kind}");
        // A copy says the same.
        assert_eq!(shop.notice(webhook).await, Ok(notice), "{kind}");
    }
}

type Change = fn(&mut Webhook);

fn set(webhook: &mut Webhook, name: &str, value: &str) {
    for (known, old) in &mut webhook.headers {
        if known == name {
            value.clone_into(old);
        }
    }
}

#[tokio::test]
async fn what_was_changed_or_is_not_paypals_is_not_believed() {
    let (shop, request) = (shop(), charge(1));
    shop.approved(&request).await;
    let good = shop.there.webhooks().remove(0);
    let rows: [(&str, Change); 9] = [
        ("one letter changed", |w| w.body = w.body.replacen("APPROVED", "APPROVEd", 1)),
        ("a space taken away", |w| w.body = w.body.replacen(", ", ",", 1)),
        ("a number written otherwise", |w| w.body = w.body.replacen("1.0,", "1,", 1)),
        ("no signature", |w| w.headers.retain(|(name, _)| name != "paypal-transmission-sig")),
        ("another's signature", |w| set(w, "paypal-transmission-sig", "00")),
        ("another event's id", |w| set(w, "paypal-transmission-id", "WH-X")),
        ("another certificate", |w| set(w, "paypal-cert-url", "https://evil.example/cert")),
        ("no time", |w| set(w, "paypal-transmission-time", "yesterday")),
        ("another time", |w| {
            let later = jiff::Timestamp::now().as_second() + 60;
            set(w, "paypal-transmission-time", &jiff::Timestamp::from_second(later).unwrap().to_string());
        }),
    ];
    for (label, change) in rows {
        let mut webhook = good.clone();
        change(&mut webhook);
        assert_ne!(webhook, good, "{label}");
        assert_eq!(shop.notice(&webhook).await, Err(NoticeError::BadSignature), "{label}");
    }
    let mut fields = good.clone();
    fields.body = format!("{},\"webhook_id\":\"X\"", fields.body);
    let said = shop.notice(&fields).await;
    assert!(matches!(said, Err(NoticeError::Malformed(_))), "a body that goes on behind its end: {said:?}");
    assert!(shop.notice(&good).await.is_ok());
}

#[tokio::test]
async fn old_transmissions_are_stale_after_paypals_last_repeat() {
    let (shop, request) = (shop(), charge(1));
    shop.approved(&request).await;
    let webhook = shop.there.webhooks().remove(0);
    let sent = now().0;
    let day_ms = 24 * 60 * 60 * 1_000;
    for (label, at_ms, stale) in [
        ("three days", sent + 3 * day_ms, false),
        ("five days", sent + 5 * day_ms, true),
        ("a minute ahead", sent - 60_000, false),
        ("an hour ahead", sent - 3_600_000, true),
    ] {
        let said = shop.notice_at(&webhook, at_ms).await;
        assert_eq!(matches!(said, Err(NoticeError::Stale { .. })), stale, "{label}: {said:?}");
        assert_eq!(said.is_ok(), !stale, "{label}");
    }
}

#[tokio::test]
async fn what_paypal_does_not_answer_for_is_sent_again() {
    let (shop, request) = (shop(), charge(1));
    shop.approved(&request).await;
    let webhook = shop.there.webhooks().remove(0);
    for status in [401, 403, 429, 500, 503] {
        shop.there.set_faults(Faults {
            status: Some(status),
            path: Some("verify".to_owned()),
            ..Faults::default()
        });
        assert_eq!(shop.notice(&webhook).await, Err(NoticeError::Unproved), "{status}");
    }
    shop.there.set_faults(Faults { outage: true, ..Faults::default() });
    assert_eq!(shop.notice(&webhook).await, Err(NoticeError::Unproved), "outage");
    shop.there.set_faults(Faults::default());
    assert!(shop.notice(&webhook).await.is_ok());
}

#[tokio::test]
async fn without_a_webhook_id_none_is_believed() {
    for (webhook_id, expected) in
        [(None, NoticeError::NotConfigured), (Some("ANOTHER".to_owned()), NoticeError::BadSignature)]
    {
        let shop = shop_with(|options| options.webhook_id = webhook_id);
        shop.approved(&charge(1)).await;
        let webhook = shop.there.webhooks().remove(0);
        assert_eq!(shop.notice(&webhook).await, Err(expected));
    }
}

#[tokio::test]
async fn events_of_other_things_are_proved_and_say_nothing() {
    let shop = shop();
    let authorization = |more: &str| {
        format!(
            r#"{{"id":"WH-1","event_type":"PAYMENT.AUTHORIZATION.CREATED","resource":{{"id":"A1"{more}}}}}"#
        )
    };
    let amount = r#""amount":{"currency_code":"GBP","value":"19.99"}"#;
    let order = charge(3).order;
    let related = r#""supplementary_data":{"related_ids":{"order_id":"O1"}}"#;
    let link = r#""links":[{"rel":"up","href":"https://api.paypal.com/v2/checkout/orders/O1"}]"#;
    for (label, body, expected) in [
        (
            "another kind",
            r#"{"id":"WH-1","event_type":"CUSTOMER.DISPUTE.CREATED","resource":{}}"#.to_owned(),
            Ok(false),
        ),
        ("no resource", r#"{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}"#.to_owned(), Ok(false)),
        ("another shop's", authorization(&format!(r#","custom_id":"42",{amount},{related}"#)), Ok(false)),
        ("no custom id", authorization(&format!(",{amount},{related}")), Ok(false)),
        ("ours", authorization(&format!(r#","custom_id":"{order}",{amount},{related}"#)), Ok(true)),
        (
            "ours, named by a link",
            authorization(&format!(r#","custom_id":"{order}",{amount},{link}"#)),
            Ok(true),
        ),
        ("ours, without its order", authorization(&format!(r#","custom_id":"{order}",{amount}"#)), Ok(false)),
        ("ours, without amount", authorization(&format!(r#","custom_id":"{order}",{related}"#)), Ok(false)),
        ("no event", r#"{"hello":"world"}"#.to_owned(), Err(())),
        (
            "a resource that is none",
            r#"{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED","resource":7}"#.to_owned(),
            Err(()),
        ),
    ] {
        let said = shop.notice(&shop.there.sign(&body)).await;
        match expected {
            Ok(news) => assert_eq!(said.unwrap().news.is_some(), news, "{label}"),
            Err(()) => assert!(matches!(said, Err(NoticeError::Malformed(_))), "{label}: {said:?}"),
        }
    }
}
