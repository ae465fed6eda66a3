//! What a door says to whoever sets it up.

use super::*;

fn word(checkup: &Checkup) -> &'static str {
    match checkup.standing {
        CheckupStanding::Accepted => "accepted",
        CheckupStanding::Refused(_) => "refused",
        CheckupStanding::Unanswered(_) => "unanswered",
    }
}

#[tokio::test]
async fn a_good_key_is_accepted_and_the_clock_told() {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        webhook_secrets: vec!["whsec_a".to_owned()],
        ..options
    });
    let checkup = shop.door.check_up().await;
    assert_eq!((word(&checkup), checkup.proves_notices), ("accepted", true));
    // The header of the HTTP server is the machine's time, whatever the stand-in's is.
    let now_s = i64::try_from(wall_clock_ms() / 1_000).unwrap();
    assert!(checkup.clock_s.is_some_and(|clock_s| (now_s - clock_s).abs() <= 5), "{checkup:?}");
    assert!(!Shop::open().door.check_up().await.proves_notices);
}

#[tokio::test]
async fn a_key_of_another_account_is_refused_and_silence_is_no_refusal() {
    let shop = Shop::open_with(&doorbuster_stripe::Options::default(), |options| Options {
        secret_key: "sk_test_of_somebody".to_owned(),
        request_timeout_ms: 500,
        ..options
    });
    let checkup = shop.door.check_up().await;
    assert_eq!(word(&checkup), "refused");
    assert!(!format!("{checkup:?}").contains("of_somebody"), "{checkup:?}");
    shop.stripe.set_faults(Faults { outage: Outage::Hanging, ..Faults::default() });
    assert_eq!(word(&shop.door.check_up().await), "unanswered");
    shop.shut();
    assert_eq!(word(&shop.door.check_up().await), "unanswered");
}

#[test]
fn each_status_is_one_or_the_other() {
    for (status, expected) in [
        (200, "accepted"),
        (401, "refused"),
        (403, "refused"),
        (404, "refused"),
        (429, "unanswered"),
        (500, "unanswered"),
    ] {
        let checkup = Checkup { standing: standing_of(status), clock_s: None, proves_notices: true };
        assert_eq!(word(&checkup), expected, "{status}");
    }
}
