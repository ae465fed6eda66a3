//! Each call of the trait in each state of a payment, and what the ledger says afterwards.

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::payment::{
    CaptureOutcome, ChargeOutcome, NextAction, PaymentProvider as _, RefundOutcome, VoidOutcome,
};
use doorbuster_paypal_stand_in::Step;

use crate::paypal::door::Call;

use super::{capture_word, charge, refund_word, shop, void_word, word};

#[tokio::test]
async fn a_payment_goes_from_the_shoppers_approval_to_a_refund() {
    let shop = shop();
    let request = charge(7);
    assert_eq!((shop.paypal.name(), shop.paypal.calls_per_second_max()), ("paypal", Some(50)));
    let reference = shop.waiting(&request).await;
    assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), "action");
    shop.there.approve(&reference).unwrap();
    let held = ChargeOutcome::Authorized { reference: reference.clone() };
    assert_eq!(shop.paypal.look_up(&request, Some(&reference)).await, held);
    assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Captured);
    let captured = ChargeOutcome::Captured { reference: reference.clone() };
    assert_eq!(shop.paypal.confirm(&request, &reference).await, captured);
    let half = Money::new(999, Currency::GBP);
    let refunded = shop.paypal.refund(&request, &reference, "r1", half).await;
    let ledger = shop.there.ledger();
    assert_eq!(refunded, RefundOutcome::Refunded { reference: ledger.refunds[0].id.clone() });
    let order = request.order.to_string();
    for (entry, custom_id, status, value) in [
        (&ledger.orders[0], order.as_str(), "COMPLETED", "19.99"),
        (&ledger.authorizations[0], &order, "CAPTURED", "19.99"),
        (&ledger.captures[0], &order, "PARTIALLY_REFUNDED", "19.99"),
        (&ledger.refunds[0], "r1", "COMPLETED", "9.99"),
    ] {
        let shown = (entry.custom_id.as_str(), entry.status.as_str(), entry.value.as_str());
        assert_eq!(shown, (custom_id, status, value));
        assert_eq!((entry.order.as_str(), entry.currency.as_str()), (reference.as_str(), "GBP"));
    }
    assert_eq!(shop.counts(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn creating_an_order_may_be_refused() {
    for (issue, expected) in [
        ("CURRENCY_NOT_SUPPORTED", "declined"),
        ("PAYEE_ACCOUNT_RESTRICTED", "declined"),
        ("DUPLICATE_INVOICE_ID", "declined"),
        ("DUPLICATE_REQUEST_ID", "declined, try again"),
        ("PAYER_CANNOT_PAY", "declined, try again"),
    ] {
        let shop = shop();
        shop.there.refuse_next(Step::Create, issue);
        assert_eq!(word(&shop.paypal.authorize(&charge(1)).await), expected, "{issue}");
        assert_eq!(shop.counts(), [0, 0, 0, 0], "{issue}");
    }
    let shop = shop();
    let mut request = charge(1);
    request.amount = Money::new(199_950, "HUF".parse().unwrap());
    assert_eq!(word(&shop.paypal.authorize(&request).await), "declined", "half a forint");
    assert_eq!(shop.there.asked("POST"), 0, "half a forint is not asked for");
    request.amount = Money::new(1_999, "KWD".parse().unwrap());
    assert_eq!(word(&shop.paypal.authorize(&request).await), "declined", "a currency that PayPal lacks");
}

#[tokio::test]
async fn authorizing_an_approved_order_may_be_refused() {
    for (issue, expected) in [
        ("INSTRUMENT_DECLINED", "declined, try again"),
        ("PAYER_CANNOT_PAY", "declined, try again"),
        ("PAYER_ACCOUNT_RESTRICTED", "declined, try again"),
        ("TRANSACTION_REFUSED", "declined, try again"),
        ("MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED", "declined, try again"),
        ("DUPLICATE_INVOICE_ID", "declined"),
        ("ACTION_DOES_NOT_MATCH_INTENT", "declined"),
        ("AUTH_CAPTURE_NOT_ENABLED", "declined"),
        ("AN_ISSUE_OF_TOMORROW", "declined"),
        // The order is read again, and is approved still: that says nothing definite.
        ("ORDER_ALREADY_AUTHORIZED", "unknown"),
        ("DUPLICATE_REQUEST_ID", "unknown"),
        ("RESOURCE_NOT_FOUND", "unknown"),
        // Neither the refusal nor an approved order names a page.
        ("PAYER_ACTION_REQUIRED", "unknown"),
    ] {
        let shop = shop();
        let request = charge(1);
        let reference = shop.approved(&request).await;
        shop.there.refuse_next(Step::Authorize, issue);
        assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), expected, "{issue}");
        assert_eq!(shop.counts(), [1, 0, 0, 0], "{issue}");
    }
}

#[tokio::test]
async fn what_becomes_of_an_authorization_is_told() {
    for (status, charged, captured, voided) in [
        ("CREATED", "authorized", "captured", "voided"),
        ("PENDING", "unknown", "captured", "voided"),
        ("DENIED", "declined, try again", "lost", "voided"),
        ("VOIDED", "declined, try again", "lost", "voided"),
        ("EXPIRED", "declined, try again", "lost", "voided"),
        ("OF_TOMORROW", "unknown", "unknown", "unknown"),
    ] {
        let made = async || {
            let (shop, request) = (shop(), charge(1));
            let reference = shop.approved(&request).await;
            shop.there.next_becomes(Step::Authorize, status);
            let first = word(&shop.paypal.confirm(&request, &reference).await);
            assert_eq!(first, charged, "{status}, authorizing");
            assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), charged, "{status}, asking");
            (shop, request, reference)
        };
        let (shop, request, reference) = made().await;
        assert_eq!(capture_word(&shop.paypal.capture(&request, &reference).await), captured, "{status}");
        let (shop, request, reference) = made().await;
        assert_eq!(void_word(&shop.paypal.void(&request, Some(&reference)).await), voided, "{status}");
    }
}

#[tokio::test]
async fn what_becomes_of_a_capture_is_told() {
    // The state of the capture, then what capturing, capturing again, asking, voiding and refunding say.
    for (status, first, again, asked, voided, refunded) in [
        ("COMPLETED", "captured", "captured", "captured", "captured", "refunded"),
        ("PENDING", "unknown", "unknown", "authorized", "unknown", "refused"),
        // The authorization is let go, so that it stays lost.
        ("DECLINED", "lost", "lost", "declined, try again", "voided", "refused"),
        ("FAILED", "lost", "lost", "declined, try again", "voided", "refused"),
        ("OF_TOMORROW", "unknown", "unknown", "unknown", "unknown", "unknown"),
    ] {
        let (shop, request) = (shop(), charge(1));
        let reference = shop.held(&request).await;
        shop.there.next_becomes(Step::Capture, status);
        assert_eq!(capture_word(&shop.paypal.capture(&request, &reference).await), first, "{status}");
        assert_eq!(capture_word(&shop.paypal.capture(&request, &reference).await), again, "{status} again");
        assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), asked, "{status}");
        assert_eq!(void_word(&shop.paypal.void(&request, Some(&reference)).await), voided, "{status}");
        let back = shop.paypal.refund(&request, &reference, "r1", request.amount).await;
        assert_eq!(refund_word(&back), refunded, "{status}");
        assert_eq!(shop.counts()[2], 1, "{status}");
    }
}

#[tokio::test]
async fn a_capture_may_be_refused() {
    // What is held afterwards: a capture that is lost lets go.
    for (issue, expected, held) in [
        ("AUTHORIZATION_VOIDED", "lost", "CREATED"),
        ("AUTHORIZATION_EXPIRED", "lost", "CREATED"),
        ("AUTHORIZATION_DENIED", "lost", "CREATED"),
        ("PAYER_CANNOT_PAY", "lost", "VOIDED"),
        ("TRANSACTION_REFUSED", "lost", "VOIDED"),
        ("INSTRUMENT_DECLINED", "lost", "VOIDED"),
        ("AUTHORIZATION_ALREADY_CAPTURED", "unknown", "CREATED"),
        ("DUPLICATE_REQUEST_ID", "unknown", "CREATED"),
        ("PAYEE_ACCOUNT_RESTRICTED", "unknown", "CREATED"),
        ("AN_ISSUE_OF_TOMORROW", "unknown", "CREATED"),
    ] {
        let (shop, request) = (shop(), charge(1));
        let reference = shop.held(&request).await;
        shop.there.refuse_next(Step::Capture, issue);
        assert_eq!(capture_word(&shop.paypal.capture(&request, &reference).await), expected, "{issue}");
        assert_eq!(shop.there.ledger().authorizations[0].status, held, "{issue}");
        assert_eq!(shop.counts(), [1, 1, 0, 0], "{issue}");
    }
}

#[tokio::test]
async fn nothing_is_captured_that_was_not_held() {
    let (shop, request) = (shop(), charge(1));
    let reference = shop.waiting(&request).await;
    assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Unknown, "not approved");
    shop.there.approve(&reference).unwrap();
    assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Unknown, "not authorized");
    assert_eq!(shop.counts(), [1, 0, 0, 0]);
}

#[tokio::test]
async fn after_a_void_nothing_can_be_held() {
    // Before approval, after it, while held: each with a shopper and an engine that try again afterwards.
    for stage in ["waiting", "approved", "held"] {
        let (shop, request) = (shop(), charge(1));
        let reference = match stage {
            "waiting" => shop.waiting(&request).await,
            "approved" => shop.approved(&request).await,
            _ => shop.held(&request).await,
        };
        for _ in 0..2 {
            let outcome = shop.paypal.void(&request, Some(&reference)).await;
            assert_eq!(outcome, VoidOutcome::Voided, "{stage}");
        }
        if stage == "waiting" {
            shop.there.approve(&reference).unwrap();
        }
        let after = word(&shop.paypal.confirm(&request, &reference).await);
        assert_eq!(after, "declined, try again", "{stage}");
        assert_eq!(capture_word(&shop.paypal.capture(&request, &reference).await), "lost", "{stage}");
        let standing = shop.there.ledger().authorizations.iter().filter(|it| it.status != "VOIDED").count();
        assert_eq!(standing, 0, "{stage}");
    }
}

#[tokio::test]
async fn a_void_forbids_an_authorization_that_is_still_on_its_way() {
    let (shop, request) = (shop(), charge(1));
    let reference = shop.approved(&request).await;
    assert_eq!(shop.paypal.void(&request, Some(&reference)).await, VoidOutcome::Voided);
    // The request that was slow arrives at last, as the adapter had sent it.
    let path = format!("/v2/checkout/orders/{reference}/authorize");
    let call = Call::post(&path, "late", &serde_json::json!({}));
    let late = shop.paypal.core.door.ask::<serde_json::Value>(&call).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(shop.counts(), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_void_of_what_paypal_will_not_change_or_void_is_judged_by_reading_again() {
    for (step, issue, stage, expected) in [
        (Step::Patch, "NOT_PATCHABLE", "waiting", "voided"),
        (Step::Patch, "ORDER_ALREADY_COMPLETED", "approved", "voided"),
        (Step::Void, "PREVIOUSLY_VOIDED", "held", "voided"),
        (Step::Void, "AUTHORIZATION_EXPIRED", "held", "voided"),
        (Step::Void, "PREVIOUSLY_CAPTURED", "held", "captured"),
        (Step::Void, "CANNOT_BE_VOIDED", "held", "unknown"),
    ] {
        let (shop, request) = (shop(), charge(1));
        let reference = match stage {
            "waiting" => shop.waiting(&request).await,
            "approved" => shop.approved(&request).await,
            _ => shop.held(&request).await,
        };
        shop.there.refuse_next(step, issue);
        let outcome = shop.paypal.void(&request, Some(&reference)).await;
        assert_eq!(void_word(&outcome), expected, "{issue} {stage}");
        if let VoidOutcome::AlreadyCaptured { reference: told } = outcome {
            assert_eq!(told, reference);
        }
    }
    // Nobody knows its name, so nobody was sent to its page.
    let shop = shop();
    assert_eq!(shop.paypal.void(&charge(1), None).await, VoidOutcome::Voided);
    assert_eq!(shop.there.asked(""), 0);
}

#[tokio::test]
async fn refunds_are_bounded_and_made_once_a_key() {
    let (shop, request) = (shop(), charge(1));
    let reference = shop.captured(&request).await;
    let pounds = |minor: i64| Money::new(minor, Currency::GBP);
    // Key, amount, outcome, refunds in the ledger afterwards.
    for (label, key, amount, expected, refunds) in [
        ("nothing", "r0", pounds(0), "refused", 0),
        ("less than nothing", "r0", pounds(-1), "refused", 0),
        ("another currency", "r0", Money::new(1, Currency::EUR), "refused", 0),
        ("too much", "r0", pounds(2_000), "refused", 0),
        ("some", "r1", pounds(1_000), "refunded", 1),
        ("some again", "r1", pounds(1_000), "refunded", 1),
        ("too much of the rest", "r2", pounds(1_000), "refused", 1),
        ("the rest", "r3", pounds(999), "refunded", 2),
        ("more", "r4", pounds(1), "refused", 2),
        ("the rest again", "r3", pounds(999), "refunded", 2),
    ] {
        let outcome = shop.paypal.refund(&request, &reference, key, amount).await;
        assert_eq!(refund_word(&outcome), expected, "{label}: {outcome:?}");
        assert_eq!(shop.counts()[3], refunds, "{label}");
    }
    // PayPal has forgotten the request ids; the order still names the refund.
    shop.there.forget_keys();
    let first = shop.there.ledger().refunds[0].id.clone();
    let again = shop.paypal.refund(&request, &reference, "r1", pounds(1_000)).await;
    assert_eq!(again, RefundOutcome::Refunded { reference: first });
    assert_eq!(shop.counts(), [1, 1, 1, 2]);
}

#[tokio::test]
async fn what_becomes_of_a_refund_is_told() {
    for (status, expected) in [
        ("COMPLETED", "refunded"),
        ("PENDING", "refunded"),
        ("FAILED", "refused"),
        ("CANCELLED", "refused"),
        ("OF_TOMORROW", "unknown"),
    ] {
        let (shop, request) = (shop(), charge(1));
        let reference = shop.captured(&request).await;
        shop.there.next_becomes(Step::Refund, status);
        let outcome = shop.paypal.refund(&request, &reference, "r1", request.amount).await;
        assert_eq!(refund_word(&outcome), expected, "{status}");
        let again = shop.paypal.refund(&request, &reference, "r1", request.amount).await;
        assert_eq!(refund_word(&again), expected, "{status} again");
    }
    for (issue, expected) in [
        ("REFUND_FAILED_INSUFFICIENT_FUNDS", "refused"),
        ("REFUND_TIME_LIMIT_EXCEEDED", "refused"),
        ("TRANSACTION_DISPUTED", "refused"),
        ("DUPLICATE_REQUEST_ID", "unknown"),
    ] {
        let (shop, request) = (shop(), charge(1));
        let reference = shop.captured(&request).await;
        shop.there.refuse_next(Step::Refund, issue);
        let outcome = shop.paypal.refund(&request, &reference, "r1", request.amount).await;
        assert_eq!(refund_word(&outcome), expected, "{issue}");
    }
    let (shop, request) = (shop(), charge(1));
    let reference = shop.held(&request).await;
    let early = shop.paypal.refund(&request, &reference, "r1", request.amount).await;
    assert_eq!(refund_word(&early), "refused", "not captured");
}

#[tokio::test]
async fn an_order_that_is_gone_is_over_once_it_is_old_enough() {
    for (asked_at, charged, voided) in
        [(super::now(), "unknown", "unknown"), (Timestamp::default(), "declined, try again", "voided")]
    {
        let shop = shop();
        let mut request = charge(1);
        request.asked_at = asked_at;
        let reference = shop.waiting(&request).await;
        shop.there.drop_order(&reference);
        assert_eq!(word(&shop.paypal.confirm(&request, &reference).await), charged, "{asked_at:?}");
        assert_eq!(void_word(&shop.paypal.void(&request, Some(&reference)).await), voided, "{asked_at:?}");
        // What was to be captured or refunded must be there: it is looked for in the wrong account.
        assert_eq!(shop.paypal.capture(&request, &reference).await, CaptureOutcome::Unknown);
        let back = shop.paypal.refund(&request, &reference, "r1", request.amount).await;
        assert_eq!(back, RefundOutcome::Unknown);
    }
}

#[tokio::test]
async fn another_orders_payment_is_not_touched() {
    let shop = shop();
    let (ours, other) = (charge(1), charge(2));
    let reference = shop.approved(&other).await;
    for reference in [reference.as_str(), "../../../v1/oauth2/token", ""] {
        assert_eq!(shop.paypal.confirm(&ours, reference).await, ChargeOutcome::Unknown, "{reference}");
        assert_eq!(shop.paypal.capture(&ours, reference).await, CaptureOutcome::Unknown, "{reference}");
        assert_eq!(shop.paypal.void(&ours, Some(reference)).await, VoidOutcome::Unknown, "{reference}");
        let back = shop.paypal.refund(&ours, reference, "r1", ours.amount).await;
        assert_eq!(back, RefundOutcome::Unknown, "{reference}");
    }
    assert_eq!(shop.counts(), [1, 0, 0, 0]);
}

#[tokio::test]
async fn an_order_is_paid_once_even_if_paypal_has_two_orders_for_it() {
    let (shop, request) = (shop(), charge(1));
    let first = shop.held(&request).await;
    // As after six hours, with the reference lost: a second order under the same invoice.
    shop.there.forget_keys();
    let second = shop.approved(&request).await;
    assert_ne!(first, second);
    assert_eq!(word(&shop.paypal.confirm(&request, &second).await), "declined");
    assert_eq!(shop.counts(), [2, 1, 0, 0]);
}

#[tokio::test]
async fn the_shop_page_names_our_order() {
    let (shop, request) = (shop(), charge(9));
    let ChargeOutcome::ActionRequired { action: NextAction::Redirect(page), .. } =
        shop.paypal.authorize(&request).await
    else {
        panic!("no page");
    };
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = shop_client(client);
    for (approve, expected) in [
        ("true", format!("https://shop.example/paid?order={}&token=", request.order)),
        ("false", "https://shop.example/cart?token=".to_owned()),
    ] {
        let answer = client.post(format!("{page}&approve={approve}")).send().await.unwrap();
        let to = answer.headers()["location"].to_str().unwrap();
        assert!(to.starts_with(&expected), "{to}");
    }
}

/// A client that needs no TLS: the build has no provider but the one that is named.
fn shop_client(builder: reqwest::ClientBuilder) -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    builder.tls_backend_preconfigured(tls).build().unwrap()
}
