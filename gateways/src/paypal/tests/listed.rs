//! The list of payments, read out of the transaction search.

use std::collections::BTreeMap;

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::payment::{PaymentProvider as _, PaymentRecord, Standing};
use doorbuster_paypal_stand_in::Faults;

use super::{Shop, charge, now, shop};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Every page from `since` on, and how many there were.
async fn all(shop: &Shop, since: Timestamp) -> (Vec<PaymentRecord>, usize) {
    let (mut records, mut pages, mut after) = (vec![], 0, None);
    loop {
        let page = shop.paypal.list(since, after.as_deref()).await.unwrap();
        pages += 1;
        records.extend(page.data);
        match page.next {
            Some(next) => after = Some(next),
            None => return (records, pages),
        }
    }
}

#[tokio::test]
async fn each_payment_is_told_once_with_what_became_of_it() {
    let shop = shop();
    let [waits, held, voided, captured, back] = [1, 2, 3, 4, 5].map(charge);
    shop.waiting(&waits).await;
    let held_at = shop.held(&held).await;
    let voided_at = shop.held(&voided).await;
    shop.paypal.void(&voided, Some(&voided_at)).await;
    let captured_at = shop.captured(&captured).await;
    let back_at = shop.captured(&back).await;
    for key in ["r1", "r2"] {
        let part = doorbuster_engine::money::Money::new(500, back.amount.currency);
        shop.paypal.refund(&back, &back_at, key, part).await;
    }
    let started = now().0;
    let (records, pages) = all(&shop, Timestamp(started - DAY_MS)).await;
    assert_eq!(pages, 1);
    let told: BTreeMap<_, _> = records
        .iter()
        .map(|record| {
            assert!(record.created_at.0 <= started && record.created_at.0 + 60_000 > started, "{record:?}");
            assert_eq!(record.amount, held.amount);
            (
                record.order.unwrap(),
                (record.reference.clone(), record.standing, record.captured, record.refunded),
            )
        })
        .collect();
    assert_eq!(records.len(), told.len(), "twice: {records:?}");
    let expected = BTreeMap::from([
        (held.order, (held_at, Standing::Authorized, 0, 0)),
        (voided.order, (voided_at, Standing::Cancelled, 0, 0)),
        (captured.order, (captured_at, Standing::Captured, 1_999, 0)),
        (back.order, (back_at, Standing::Captured, 1_999, 1_000)),
    ]);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn pages_and_spans_are_walked_to_the_end() {
    let shop = shop();
    for number in 1..=12 {
        shop.captured(&charge(number)).await;
    }
    // 24 transactions are three pages of one span; the two spans before have none.
    let (records, pages) = all(&shop, Timestamp(now().0 - 70 * DAY_MS)).await;
    assert_eq!((records.len(), pages), (12, 5));
    let (records, pages) = all(&shop, Timestamp(now().0 - DAY_MS)).await;
    assert_eq!((records.len(), pages), (12, 3));
    let (records, pages) = all(&shop, Timestamp(now().0 + DAY_MS)).await;
    assert_eq!((records.len(), pages), (0, 1), "from tomorrow on");
    assert_eq!(shop.paypal.list(Timestamp(0), Some("no cursor")).await, None);
}

#[tokio::test]
async fn a_list_that_breaks_off_is_none() {
    let shop = shop();
    shop.captured(&charge(1)).await;
    for path in ["/v1/reporting/", "/v2/payments/captures/", "/v2/checkout/orders/"] {
        shop.there.set_faults(Faults { status: Some(500), path: Some(path.to_owned()), ..Faults::default() });
        assert_eq!(shop.paypal.list(Timestamp(now().0 - DAY_MS), None).await, None, "{path}");
    }
}

#[tokio::test]
async fn a_span_younger_than_paypals_report_is_empty_and_an_older_one_that_is_refused_is_none() {
    let shop = shop();
    let hour_ms = DAY_MS / 24;
    let refused = Faults { status: Some(400), path: Some("/v1/reporting/".to_owned()), ..Faults::default() };
    shop.there.set_faults(refused);
    for (hours, empty) in [(1, true), (2, true), (4, false), (24, false)] {
        let page = shop.paypal.list(Timestamp(now().0 - hours * hour_ms), None).await;
        assert_eq!(page.is_some_and(|page| page.data.is_empty()), empty, "{hours} h");
    }
    assert_eq!(shop.paypal.list_lag_ms(), 3 * hour_ms);
}
