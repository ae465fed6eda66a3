//! All payments, page by page, and what each line says.

use doorbuster_engine::payment::{PaymentRecord, Standing};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_payment_is_told_as_it_stands() {
    let shop = Shop::open();
    let rows = [
        ("authorized", "pm_card_visa", "", Standing::Authorized, 0, 0),
        ("captured", "pm_card_visa", "capture", Standing::Captured, 1_999, 0),
        ("partly given back", "pm_card_visa", "capture, refund", Standing::Captured, 1_999, 500),
        ("let go", "pm_card_visa", "void", Standing::Cancelled, 0, 0),
        ("declined", "pm_card_chargeDeclined", "", Standing::Cancelled, 0, 0),
        ("waiting for the shopper", "pm_card_authenticationRequired", "", Standing::Open, 0, 0),
        ("processing", "pm_usBankAccount_processing", "", Standing::Open, 0, 0),
    ];
    for (label, method, steps, standing, captured, refunded) in rows {
        let request = shop.request(method);
        let outcome = shop.door.authorize(&request).await;
        let reference = reference_of(&outcome).unwrap_or_default().to_owned();
        for step in steps.split(", ").filter(|step| !step.is_empty()) {
            let done = match step {
                "capture" => capture_name(&shop.door.capture(&request, &reference).await),
                "void" => void_name(&shop.door.void(&request, Some(&reference)).await),
                _ => {
                    let amount = Money::new(500, Currency::GBP);
                    refund_name(&shop.door.refund(&request, &reference, "k", amount).await)
                }
            };
            assert_ne!(done, "unknown", "{label}");
        }
        let page = shop.door.list(request.asked_at, None).await.unwrap();
        let expected = PaymentRecord {
            reference: page.data[0].reference.clone(),
            order: Some(request.order),
            amount: request.amount,
            captured,
            refunded,
            standing,
            created_at: request.asked_at,
        };
        assert_eq!(page.data[0], expected, "{label}");
        if !reference.is_empty() {
            assert_eq!(page.data[0].reference, reference, "{label}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_and_leave_nothing_out() {
    let shop = Shop::open();
    let early = shop.request("pm_card_visa");
    shop.door.authorize(&early).await;
    shop.stripe.advance(10_000);
    let since = Timestamp(shop.stripe.now_ms());
    for _ in 0..205 {
        shop.door.authorize(&shop.request("pm_card_visa")).await;
    }
    let (mut after, mut sizes, mut references) = (None, vec![], vec![]);
    loop {
        let page = shop.door.list(since, after.as_deref()).await.unwrap();
        sizes.push(page.data.len());
        references.extend(page.data.into_iter().map(|payment| payment.reference));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(sizes, [100, 100, 5], "the one before is not among them");
    references.sort();
    references.dedup();
    assert_eq!(references.len(), 205);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_somebody_else_has_no_order() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    shop.door.authorize(&request).await;
    let mut other =
        stripe_client_core::RequestBuilder::new(stripe_client_core::StripeMethod::Post, "/payment_intents");
    other.body = Some("amount=500&currency=gbp&metadata[order]=12345".to_owned());
    assert!(shop.door.account.wire.ask::<objects::Named>(other, None).await.is_ok());
    let page = shop.door.list(Timestamp(0), None).await.unwrap();
    let orders: Vec<_> = page.data.iter().map(|payment| payment.order).collect();
    assert_eq!(orders, [None, Some(request.order)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_stripe_does_not_know_is_no_answer() {
    let shop = Shop::open();
    assert_eq!(shop.door.list(Timestamp(0), Some("pi_nowhere")).await, None);
}
