//! Promises of the provider `fake`, one row each. The clock is tokio's paused one: it advances, nothing sleeps.

use super::*;
use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::money::Currency;

fn request(method: &str) -> ChargeRequest {
    ChargeRequest {
        key: "ord_7:charge".into(),
        order: OrderId(7),
        amount: Money::new(1999, Currency::GBP),
        method: method.into(),
        asked_at: Timestamp(0),
    }
}

fn name(outcome: &ChargeOutcome) -> &'static str {
    match outcome {
        ChargeOutcome::Authorized { reference } => {
            assert_eq!(reference, "fake_charge_ord_7:charge", "the reference follows from the key");
            "authorized"
        }
        ChargeOutcome::Captured { reference } => {
            assert_eq!(reference, "fake_charge_ord_7:charge", "the reference follows from the key");
            "captured"
        }
        ChargeOutcome::Declined { retryable: true, .. } => "declined, retry",
        ChargeOutcome::Declined { retryable: false, .. } => "declined",
        ChargeOutcome::ActionRequired { .. } => "action",
        ChargeOutcome::Unknown => "unknown",
    }
}

fn capture_name(outcome: &CaptureOutcome) -> &'static str {
    match outcome {
        CaptureOutcome::Captured => "captured",
        CaptureOutcome::Lost { .. } => "lost",
        CaptureOutcome::Unknown => "unknown",
    }
}

fn void_name(outcome: &VoidOutcome) -> &'static str {
    match outcome {
        VoidOutcome::Voided => "voided",
        VoidOutcome::AlreadyCaptured { .. } => "too late",
        VoidOutcome::Unknown => "unknown",
    }
}

/// Runs the steps of each row in order and compares what each was answered. `restart` forgets the book;
/// `ask` starts a charge and drops its answer; `+500` advances the clock.
async fn check(table: &str) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (method, steps) = row.split_once('|').unwrap();
        let request = request(method.trim());
        let mut fake = Fake::default();
        for step in steps.split('|').map(str::trim) {
            let (step, expected) =
                step.split_once("->").map_or((step, ""), |(step, want)| (step.trim(), want.trim()));
            let reference = reference_of(&request);
            let seen = match step {
                "charge" => name(&fake.authorize(&request).await),
                "confirm" => name(&fake.confirm(&request, &reference).await),
                "confirm other" => name(&fake.confirm(&request, "fake_charge_other").await),
                "look up" => name(&fake.look_up(&request, None).await),
                "capture" => capture_name(&fake.capture(&request, &reference).await),
                "capture other" => capture_name(&fake.capture(&request, "fake_charge_other").await),
                "void" => void_name(&fake.void(&request, Some(&reference)).await),
                "refund" => match fake.refund(&request, &reference, "k", request.amount).await {
                    RefundOutcome::Refunded { .. } => "refunded",
                    RefundOutcome::Refused { .. } => "refused",
                    RefundOutcome::Unknown => "unknown",
                },
                "ask" => {
                    drop(fake.authorize(&request));
                    ""
                }
                "restart" => {
                    fake = Fake::default();
                    ""
                }
                _ => {
                    let duration_ms = step.strip_prefix('+').unwrap().parse().unwrap();
                    tokio::time::advance(Duration::from_millis(duration_ms)).await;
                    ""
                }
            };
            assert_eq!(seen, expected, "{step} in: {row}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_method_does_what_its_name_says_however_often_it_is_asked() {
    check(
        "
        ok              | charge -> captured        | charge -> captured        | look up -> captured        | refund -> refunded
        declined        | charge -> declined        | charge -> declined        | look up -> declined        | refund -> refused
        error           | charge -> declined, retry | charge -> declined, retry | look up -> declined, retry | refund -> refused
        nonsense        | charge -> declined        | charge -> declined        | look up -> declined        | refund -> refused
        requires_action | charge -> action   | look up -> action   | refund -> refused | confirm -> captured | confirm -> captured | charge -> captured | look up -> captured | refund -> refunded
        requires_action | charge -> action   | confirm other -> declined | look up -> action
        slow            | charge -> captured | charge -> captured  | look up -> captured
        slow            | ask | +1999 | look up -> unknown | +1 | look up -> captured
        timeout         | charge -> unknown  | look up -> captured | confirm -> captured | refund -> refunded
        authorize       | charge -> authorized | charge -> authorized | look up -> authorized | confirm -> authorized
        authorize       | charge -> authorized | capture other -> lost | capture -> captured | capture -> captured | charge -> captured | look up -> captured | refund -> refunded
        ok              | charge -> captured | capture -> captured | look up -> captured
        requires_action | charge -> action   | capture -> lost | confirm -> captured | capture -> captured
        declined        | charge -> declined | capture -> lost
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_voided_charge_never_succeeds_and_a_captured_one_is_never_voided() {
    check(
        "
        ok              | charge -> captured | void -> too late | look up -> captured
        declined        | charge -> declined | void -> voided   | void -> voided
        error           | charge -> declined, retry | void -> voided | charge -> declined
        nonsense        | void -> voided
        requires_action | charge -> action   | void -> voided   | confirm -> declined | look up -> declined | charge -> declined | void -> voided
        requires_action | charge -> action   | confirm -> captured | void -> too late | look up -> captured
        requires_action | void -> voided     | charge -> declined
        slow            | ask | +1999 | void -> voided   | +1 | look up -> declined | charge -> declined
        slow            | ask | +2000 | void -> too late | look up -> captured
        timeout         | ask | void -> too late | look up -> captured
        authorize       | charge -> authorized | void -> voided | capture -> lost | look up -> declined | charge -> declined | void -> voided
        authorize       | charge -> authorized | capture -> captured | void -> too late | look up -> captured
        authorize       | void -> voided     | charge -> declined
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_no_answer_that_the_engine_has_written_down() {
    check(
        "
        ok              | charge -> captured | restart | charge -> captured | void -> too late
        slow            | charge -> captured | restart | look up -> captured | void -> too late
        slow            | ask | restart | look up -> captured
        timeout         | ask | restart | look up -> captured | void -> too late
        declined        | charge -> declined | restart | look up -> declined | void -> voided
        requires_action | charge -> action | restart | look up -> action | confirm -> captured
        requires_action | charge -> action | restart | void -> voided | confirm -> declined
        authorize       | charge -> authorized | restart | look up -> authorized | capture -> captured
        authorize       | charge -> authorized | capture -> captured | restart | refund -> refunded
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_and_timeout_take_as_long_as_the_options_say() {
    let fake = Fake::new(Options { slow_ms: 30, timeout_ms: 70 });
    for (method, expected_ms) in [("ok", 0), ("slow", 30), ("timeout", 70)] {
        let before = Instant::now();
        fake.authorize(&request(method)).await;
        assert_eq!(before.elapsed(), Duration::from_millis(expected_ms), "{method}");
    }
    let before = Instant::now();
    let given_up =
        tokio::time::timeout(Duration::from_secs(10), Fake::default().authorize(&request("timeout"))).await;
    assert!(
        given_up.is_err() && before.elapsed() == Duration::from_secs(10),
        "a caller's deadline comes first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_void_during_a_slow_charge_wins() {
    let fake = Fake::default();
    let charge = tokio::spawn(fake.authorize(&request("slow")));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(fake.void(&request("slow"), None).await, VoidOutcome::Voided);
    assert_eq!(name(&charge.await.unwrap()), "declined");
}

#[tokio::test(start_paused = true)]
async fn a_refund_is_more_than_zero_and_at_most_the_charge() {
    let fake = Fake::default();
    let request = request("ok");
    for (amount, currency, refunded) in [
        (1, Currency::GBP, true),
        (1999, Currency::GBP, true),
        (2000, Currency::GBP, false),
        (0, Currency::GBP, false),
        (-1, Currency::GBP, false),
        (1, Currency::EUR, false),
    ] {
        let outcome = fake.refund(&request, &reference_of(&request), "k", Money::new(amount, currency)).await;
        assert_eq!(
            matches!(outcome, RefundOutcome::Refunded { .. }),
            refunded,
            "{amount} {currency}: {outcome:?}"
        );
    }
    let outcome = fake.refund(&request, "fake_charge_other", "k", Money::new(1, Currency::GBP)).await;
    assert_eq!(outcome, RefundOutcome::Refused { reason: "no such charge".into() });
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let fake = Fake::default();
    for n in 0..CHARGES_KEPT_MAX + 10 {
        let request = ChargeRequest { key: format!("k{n}"), ..request("requires_action") };
        assert_eq!(fake.void(&request, None).await, VoidOutcome::Voided);
    }
    let book = fake.book();
    assert_eq!((book.standings.len(), book.oldest_first.len()), (CHARGES_KEPT_MAX, CHARGES_KEPT_MAX));
    assert!(book.get("k0").is_none() && book.get(&format!("k{CHARGES_KEPT_MAX}")).is_some());
}
