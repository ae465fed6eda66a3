//! Every request to PayPal asks for its turn, and nothing is sent without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::payment::{
    Answering, ChargeOutcome, NoticeError, PaymentProvider as _, RefundOutcome, Turnstile, VoidOutcome,
};

use super::{charge, now, shop};

/// Counts turns, and grants all or none.
struct Turns {
    granted: AtomicUsize,
    open: bool,
}

impl Turnstile for Turns {
    fn turn(&self) -> Answering<bool> {
        self.granted.fetch_add(usize::from(self.open), Ordering::SeqCst);
        Box::pin(std::future::ready(self.open))
    }
}

fn turns(open: bool) -> Arc<Turns> {
    Arc::new(Turns { granted: AtomicUsize::new(0), open })
}

#[tokio::test]
async fn each_request_of_a_call_takes_a_turn() {
    let shop = shop();
    let (request, turns) = (charge(1), turns(true));
    let door = shop.paypal.paced(turns.clone()).unwrap();
    let mut before = (0, 0);
    let mut took = || {
        let now = (shop.there.asked(""), turns.granted.load(Ordering::SeqCst));
        let took = (now.0 - before.0, now.1 - before.1);
        before = now;
        took
    };
    let ChargeOutcome::ActionRequired { reference, .. } = door.authorize(&request).await else {
        panic!("it waits for its shopper")
    };
    assert_eq!(took(), (2, 2), "a token, and the order made");
    shop.there.approve(&reference).unwrap();
    door.confirm(&request, &reference).await;
    assert_eq!(took(), (2, 2), "read, and authorized");
    door.capture(&request, &reference).await;
    assert_eq!(took(), (2, 2), "read, and captured");
    assert!(matches!(
        door.refund(&request, &reference, "r1", request.amount).await,
        RefundOutcome::Refunded { .. }
    ));
    assert_eq!(took(), (2, 2), "read, and given back");
    let webhook = shop.there.webhooks().remove(0);
    door.notice(&|name| webhook.header(name), webhook.body.as_bytes(), now().0).await.unwrap();
    assert_eq!(took(), (1, 1), "a webhook is proved by asking");
    door.list(Timestamp(now().0 - 60_000), None).await.unwrap();
    let (sent, granted) = took();
    assert!(
        sent >= 5 && sent == granted,
        "{sent} requests, {granted} turns: a search, and two for each found"
    );
    shop.there.revoke_tokens();
    door.look_up(&request, Some(&reference)).await;
    assert_eq!(took(), (3, 3), "refused, a fresh token, and once more");
}

#[tokio::test]
async fn nothing_is_sent_where_it_is_not_its_turn() {
    let shop = shop();
    let request = charge(1);
    let reference = shop.waiting(&request).await;
    let before = shop.there.asked("");
    let door = shop.paypal.paced(turns(false)).unwrap();
    assert_eq!(door.authorize(&request).await, ChargeOutcome::Unknown);
    assert_eq!(door.void(&request, Some(&reference)).await, VoidOutcome::Unknown);
    assert_eq!(door.list(Timestamp(now().0 - 60_000), None).await, None);
    shop.there.approve(&reference).unwrap();
    let webhook = shop.there.webhooks().remove(0);
    let notice = door.notice(&|name| webhook.header(name), webhook.body.as_bytes(), now().0).await;
    assert_eq!(notice, Err(NoticeError::Unproved), "PayPal sends it again");
    assert_eq!(shop.there.asked(""), before);
}
