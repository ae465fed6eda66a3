//! What the adapter says to whoever sets it up.

use doorbuster_engine::payment::{Checkup, CheckupStanding};

use super::*;

fn word(checkup: &Checkup) -> &'static str {
    match checkup.standing {
        CheckupStanding::Accepted => "accepted",
        CheckupStanding::Refused(_) => "refused",
        CheckupStanding::Unanswered(_) => "unanswered",
    }
}

#[tokio::test]
async fn good_credentials_are_accepted_and_the_clock_told() {
    let shop = shop();
    let checkup = shop.paypal.check_up().await;
    assert_eq!((word(&checkup), checkup.proves_notices), ("accepted", true));
    let now_s = jiff::Timestamp::now().as_second();
    assert!(checkup.clock_s.is_some_and(|clock_s| (now_s - clock_s).abs() <= 5), "{checkup:?}");
    let deaf = shop_with(|options| options.webhook_id = None);
    assert!(!deaf.paypal.check_up().await.proves_notices);
}

#[tokio::test]
async fn other_credentials_are_refused_and_silence_is_no_refusal() {
    let wrong = shop_with(|options| options.client_secret = "of_somebody".to_owned());
    let checkup = wrong.paypal.check_up().await;
    assert_eq!(word(&checkup), "refused");
    assert!(!format!("{checkup:?}").contains("of_somebody"), "{checkup:?}");
    // Nobody listens on port 1.
    let nobody = PayPal::new(options("http://127.0.0.1:1")).unwrap();
    assert_eq!(word(&nobody.check_up().await), "unanswered");
}
