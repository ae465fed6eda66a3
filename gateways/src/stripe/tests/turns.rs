//! Every request to Stripe asks for its turn, and nothing is sent without one.

use doorbuster_stripe::Faults;

use super::*;

/// Counts turns, and grants all or none.
struct Turns {
    granted: AtomicU64,
    open: bool,
}

impl Turnstile for Turns {
    fn turn(&self) -> Answering<bool> {
        self.granted.fetch_add(u64::from(self.open), Ordering::SeqCst);
        Box::pin(std::future::ready(self.open))
    }
}

fn turns(open: bool) -> Arc<Turns> {
    Arc::new(Turns { granted: AtomicU64::new(0), open })
}

#[tokio::test]
async fn each_request_of_a_call_takes_a_turn() {
    let shop = Shop::open();
    let refused = |faults: &mut Faults| faults.failed_before_rate = 1.0;
    for (label, method, call, requests) in [
        ("authorized", "pm_card_visa", "authorize", 1),
        ("declined, and cancelled", "pm_card_chargeDeclined", "authorize", 2),
        ("found again, as it is now", "pm_card_visa", "look up blind", 2),
        ("nobody knows it: made, and cancelled", "pm_card_visa", "void blind", 2),
        ("captured", "pm_card_visa", "capture", 1),
        ("refunded", "pm_card_visa", "refund", 1),
        ("a page of the books", "pm_card_visa", "list", 1),
        ("no answer", "pm_card_visa", "unanswered", 1),
        ("a knock", "pm_card_visa", "check up", 1),
    ] {
        let (request, turns) = (shop.request(method), turns(true));
        let door = shop.door.paced(turns.clone()).unwrap();
        let known = if matches!(call, "look up blind" | "capture" | "refund") {
            reference_of(&shop.door.authorize(&request).await).unwrap().to_owned()
        } else {
            String::new()
        };
        if call == "refund" {
            shop.door.capture(&request, &known).await;
        }
        let before = shop.stripe.figures().requests;
        match call {
            "authorize" => drop(door.authorize(&request).await),
            "look up blind" => drop(door.look_up(&request, None).await),
            "void blind" => drop(door.void(&request, None).await),
            "capture" => drop(door.capture(&request, &known).await),
            "refund" => drop(door.refund(&request, &known, "ref_1", request.amount).await),
            "list" => drop(door.list(Timestamp(0), None).await),
            "check up" => drop(door.check_up().await),
            "unanswered" => {
                shop.once("payment_intents", refused);
                assert_eq!(door.authorize(&request).await, ChargeOutcome::Unknown);
                shop.calm();
            }
            other => panic!("{other}"),
        }
        let sent = shop.stripe.figures().requests - before;
        assert_eq!((sent, turns.granted.load(Ordering::SeqCst)), (requests, requests), "{label}");
    }
}

#[tokio::test]
async fn nothing_is_sent_where_it_is_not_its_turn() {
    let shop = Shop::open();
    let (request, door) = (shop.request("pm_card_visa"), shop.door.paced(turns(false)).unwrap());
    assert_eq!(door.authorize(&request).await, ChargeOutcome::Unknown);
    assert_eq!(door.void(&request, None).await, VoidOutcome::Unknown);
    assert_eq!(door.list(Timestamp(0), None).await, None);
    assert!(matches!(door.check_up().await.standing, CheckupStanding::Unanswered(_)));
    assert_eq!(shop.stripe.figures().requests, 0);
}
