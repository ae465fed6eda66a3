//! Bad days: whatever says nothing definite is unknown, and when it is over, everything is definite and happened once.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_leaves_everything_unknown_and_nothing_double() {
    check(
        "
        pm_card_visa | outage | authorize -> unknown | look up blind -> unknown | void blind -> unknown | calm | look up blind -> authorized
        pm_card_visa | authorize -> authorized | outage | look up -> unknown | capture -> unknown | void -> unknown | calm | capture -> captured
        pm_card_visa | authorize -> authorized | capture -> captured | outage | refund 1 -> unknown | calm | refund 1 -> refunded | refund 1 -> refunded
        pm_card_visa | hang | authorize -> unknown | calm | authorize -> authorized
        pm_card_visa | authorize -> authorized | hang | capture -> unknown | calm | look up -> authorized | capture -> captured
        ",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_takes_no_longer_than_it_may() {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        request_timeout_ms: 100,
        ..options
    });
    shop.stripe.set_faults(Faults { outage: Outage::Hanging, ..Faults::default() });
    let since = Instant::now();
    assert_eq!(shop.door.authorize(&shop.request("pm_card_visa")).await, ChargeOutcome::Unknown);
    let waited = since.elapsed();
    assert!((Duration::from_millis(100)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_found_again() {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        request_timeout_ms: 200,
        ..options
    });
    for before_work in [true, false] {
        let request = shop.request("pm_card_visa");
        shop.once("/payment_intents", |faults| {
            faults.delay_rate = 1.0;
            faults.delay_ms = 60_000;
            faults.delay_before_work = before_work;
        });
        assert_eq!(shop.door.authorize(&request).await, ChargeOutcome::Unknown, "{before_work}");
        // While the first request is under way its key is taken: nothing is known, and nothing is made twice.
        if before_work {
            assert_eq!(shop.door.look_up(&request, None).await, ChargeOutcome::Unknown);
            assert_eq!(shop.door.void(&request, None).await, VoidOutcome::Unknown);
        }
        shop.stripe.advance(60_000);
        let mut outcome = ChargeOutcome::Unknown;
        let since = Instant::now();
        while outcome == ChargeOutcome::Unknown && since.elapsed() < Duration::from_secs(10) {
            outcome = shop.door.look_up(&request, None).await;
        }
        assert_eq!(name(&outcome), "authorized", "{before_work}");
        assert_eq!(shop.intents(request.order).await.len(), 1, "{before_work}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_are_unknown_until_there_are_fewer() {
    let shop = Shop::open();
    let request = shop.request("pm_card_visa");
    shop.stripe.set_faults(Faults { rate_limit_per_s: Some(1), ..Faults::default() });
    let outcome = shop.door.authorize(&request).await;
    let reference = reference_of(&outcome).unwrap();
    assert_eq!(shop.door.capture(&request, reference).await, CaptureOutcome::Unknown);
    assert_eq!(shop.door.look_up(&request, None).await, ChargeOutcome::Unknown);
    assert_eq!(shop.door.void(&request, Some(reference)).await, VoidOutcome::Unknown);
    assert_eq!(shop.door.list(Timestamp(0), None).await, None);
    let refund = shop.door.refund(&request, reference, "k", request.amount).await;
    assert_eq!(refund, RefundOutcome::Unknown);
    shop.stripe.advance(1_000);
    assert_eq!(shop.door.capture(&request, reference).await, CaptureOutcome::Captured);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stripe_does_not_accept_declines_nobody() {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        secret_key: "sk_test_rolled_yesterday".to_owned(),
        ..options
    });
    let request = shop.request("pm_card_visa");
    assert_eq!(shop.door.authorize(&request).await, ChargeOutcome::Unknown);
    assert_eq!(shop.door.void(&request, Some("pi_1")).await, VoidOutcome::Unknown);
    assert_eq!(shop.door.capture(&request, "pi_1").await, CaptureOutcome::Unknown);
    assert_eq!(shop.door.refund(&request, "pi_1", "k", request.amount).await, RefundOutcome::Unknown);
    assert_eq!(shop.door.list(Timestamp(0), None).await, None);
    assert_eq!(shop.stripe.figures().answers, [(401, 5)].into());
}

/// Attempts at one step. A call fails at four faults in ten at worst, so this many failures in a row are a bug.
const ATTEMPTS_MAX: usize = 200;

/// Every fault at once, at every step, until each order is paid, declined or voided: then the books agree to the penny.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_weather_every_order_ends_and_is_charged_at_most_once() {
    let seed = std::env::var("DOORBUSTER_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let stand_in = doorbuster_stripe::Options { seed, ..Default::default() };
    let shop = Shop::open_with(&stand_in, |options| options);
    shop.stripe.set_faults(Faults {
        decline_rate: 0.1,
        unavailable_rate: 0.05,
        failed_before_rate: 0.05,
        failed_after_rate: 0.05,
        lost_reply_rate: 0.2,
        search_lag_ms: 60_000,
        ..Faults::default()
    });
    let seed = shop.stripe.seed();
    let (mut paid, mut unpaid, mut captured) = (0, 0, 0);
    for turn in 0..200 {
        let request = shop.request("pm_card_visa");
        let mut attempts = 0..ATTEMPTS_MAX;
        let reference = loop {
            assert!(attempts.next().is_some(), "seed {seed}: nothing becomes definite");
            match shop.door.look_up(&request, None).await {
                ChargeOutcome::Authorized { reference } => break Some(reference),
                ChargeOutcome::Declined { .. } => break None,
                ChargeOutcome::Unknown => {}
                other @ (ChargeOutcome::Captured { .. } | ChargeOutcome::ActionRequired { .. }) => {
                    panic!("seed {seed}: {other:?}")
                }
            }
        };
        let Some(reference) = reference else {
            unpaid += 1;
            continue;
        };
        paid += 1;
        let mut attempts = 0..ATTEMPTS_MAX;
        loop {
            assert!(attempts.next().is_some(), "seed {seed}: nothing becomes definite");
            // Every third order is called off instead.
            if turn % 3 == 0 {
                match shop.door.void(&request, Some(&reference)).await {
                    VoidOutcome::Voided => break,
                    VoidOutcome::Unknown => {}
                    VoidOutcome::AlreadyCaptured { .. } => panic!("seed {seed}: nobody captured {reference}"),
                }
            } else {
                match shop.door.capture(&request, &reference).await {
                    CaptureOutcome::Captured => {
                        captured += 1_999;
                        break;
                    }
                    CaptureOutcome::Unknown => {}
                    CaptureOutcome::Lost { reason } => panic!("seed {seed}: {reason}"),
                }
            }
        }
    }
    assert!(paid > 100 && unpaid > 5, "seed {seed}: {paid} paid, {unpaid} not: the weather was no weather");
    let ledger = shop.stripe.ledger();
    assert_eq!(ledger.totals["gbp"].captured, captured, "seed {seed}");
    assert_eq!(ledger.totals["gbp"].authorized, 0, "seed {seed}: nothing is left held");
    let mut orders: Vec<&str> =
        ledger.charges.iter().map(|charge| charge.metadata["order"].as_str()).collect();
    let charged = orders.len();
    orders.sort_unstable();
    orders.dedup();
    assert_eq!(orders.len(), charged, "seed {seed}: one charge an order");
}
