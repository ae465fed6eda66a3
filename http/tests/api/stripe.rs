//! The surface over Stripe's stand-in: real requests, real signatures, one ledger to agree with.

use std::sync::Arc;
use std::time::Duration;

use doorbuster_gateways::stripe::{Options, Stripe};
use doorbuster_stripe::{Endpoint, Time};
use serde_json::{Value, json};

use super::harness::{Request, Shop, eventually, get, post};

const SECRET: &str = "whsec_of_this_test";

/// A shop that takes payments by Stripe, and the Stripe.
struct Till {
    shop: Shop,
    stripe: doorbuster_stripe::Stripe,
}

impl Till {
    /// Webhooks come once [`Till::listen`] says where.
    fn open() -> Self {
        let stand_in =
            doorbuster_stripe::Options { time: Time::Running, ..doorbuster_stripe::Options::default() };
        let stripe = doorbuster_stripe::Stripe::start_with(&stand_in).unwrap();
        let mut options = Options::new(stripe.key());
        options.api_base = stripe.url();
        options.webhook_secrets = vec!["whsec_of_last_month".to_owned(), SECRET.to_owned()];
        options.calls_per_second_max = Some(1_000);
        let door = Stripe::new(&options).unwrap();
        let shop = Shop::open_with(
            |engine| {
                engine.providers.push(Arc::new(door));
                engine.limits.payment_deadline = Duration::from_secs(5);
            },
            |door| door.providers.push("stripe".to_owned()),
        );
        shop.priced("A", 20, 250);
        Self { shop, stripe }
    }

    fn listen(&self) {
        let url = format!("http://{}/v1/webhooks/stripe", self.shop.address());
        self.stripe.set_endpoint(Some(Endpoint { url, secrets: vec![SECRET.to_owned()], kinds: Vec::new() }));
    }

    /// A checkout of four units of A, £10.00.
    fn check_out(&self, method: &str) -> (Request, String) {
        let cart = self.shop.cart(&[("A", 4)]);
        let body = json!({"email": "ada@example.com", "payment": {"provider": "stripe", "method": method}});
        (post(&format!("/v1/carts/{}/checkout", cart.0)).token(&cart.1).fresh_key().json(body), cart.1)
    }

    /// A checkout whose shopper has to pass 3-D Secure: the order, its cart's token, the intent.
    fn pending(&self) -> (String, String, String) {
        let (request, token) = self.check_out("pm_card_threeDSecure2Required");
        let pending = self.shop.expect(request, 202);
        assert_eq!(pending["status"], "requires_action");
        let secret = pending["client_secret"].as_str().unwrap();
        let intent = secret.split("_secret_").next().unwrap().to_owned();
        assert!(intent.starts_with("pi_") && intent.len() < secret.len(), "{secret}");
        (pending["order"]["id"].as_str().unwrap().to_owned(), token, intent)
    }

    fn order(&self, id: &str) -> Value {
        self.shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200)
    }

    fn captured(&self, id: &str) -> Value {
        eventually("capture", || Some(self.order(id)).filter(|order| order["payment"]["state"] == "captured"))
    }

    /// Every webhook that was sent, once all of them were answered with 200.
    fn told(&self, at_least: usize) -> usize {
        eventually("webhooks", || {
            let deliveries = self.stripe.deliveries();
            let taken = deliveries.iter().filter(|delivery| delivery.status == Some(200)).count();
            (taken >= at_least && taken == deliveries.len()).then_some(taken)
        })
    }

    /// Authorized and not let go, captured, given back, in pence.
    fn ledger(&self) -> (i64, i64, i64) {
        let totals = self.stripe.ledger().totals.get("gbp").copied().unwrap_or_default();
        (totals.authorized, totals.captured, totals.refunded)
    }
}

#[test]
fn a_card_is_authorized_then_captured_and_given_back() {
    let till = Till::open();
    let (request, _) = till.check_out("pm_card_visa");
    let placed = till.shop.expect(request, 201);
    let id = placed["id"].as_str().unwrap();
    till.captured(id);
    assert_eq!(till.ledger(), (0, 1_000, 0));
    let refund = |body: Value| {
        post(&format!("/v1/admin/orders/{id}/refunds")).admin().key(&body.to_string()).json(body)
    };
    let part = || refund(json!({"lines": [{"line_id": "1", "quantity": 1}], "restock": true}));
    let first = till.shop.send(part());
    assert_eq!(first.status, 201, "{}", first.text());
    let again = till.shop.send(part());
    assert_eq!((again.is_replay(), again.text()), (true, first.text()));
    assert_eq!(till.ledger(), (0, 1_000, 250), "one key, one refund");
    till.shop.expect(refund(json!({})), 201);
    assert_eq!(till.ledger(), (0, 1_000, 1_000));
    assert_eq!(till.order(id)["state"], "refunded");
}

#[test]
fn a_declined_card_is_told_and_nothing_is_held() {
    let till = Till::open();
    let (request, _) = till.check_out("pm_card_chargeDeclinedInsufficientFunds");
    till.shop.refused(request, 402, "payment_declined");
    assert_eq!(till.ledger(), (0, 0, 0));
    eventually("the units are back", || (till.shop.stock_of("A")["reserved"] == 0).then_some(()));
}

#[test]
fn a_webhook_finishes_the_order_of_a_shopper_who_never_comes_back() {
    let till = Till::open();
    till.listen();
    let (id, token, intent) = till.pending();
    till.stripe.authenticate(&intent, true).unwrap();
    // Nobody confirms: Stripe's own word is enough.
    let order = till.captured(&id);
    assert_eq!(order["state"], "paid");
    assert_eq!(till.ledger(), (0, 1_000, 0));
    assert!(till.told(2) >= 2);
    // Confirmed after the webhook.
    let confirm = post(&format!("/v1/orders/{id}/confirm")).token(&token).fresh_key();
    assert_eq!(till.shop.expect(confirm, 200)["state"], "paid");
    assert_eq!(till.ledger(), (0, 1_000, 0), "law 7");
}

#[test]
fn webhooks_that_come_after_the_confirmation_change_nothing() {
    let till = Till::open();
    let (id, token, intent) = till.pending();
    till.stripe.authenticate(&intent, true).unwrap();
    till.listen();
    let confirm = post(&format!("/v1/orders/{id}/confirm")).token(&token).fresh_key();
    assert_eq!(till.shop.expect(confirm, 200)["state"], "paid");
    till.captured(&id);
    till.told(1);
    let order = till.order(&id);
    assert_eq!((&order["state"], &order["payment"]["captured"]["amount"]), (&json!("paid"), &json!(1_000)));
    assert_eq!(till.ledger(), (0, 1_000, 0));
    let timeline = till.shop.expect(get(&format!("/v1/orders/{id}/timeline")).admin(), 200);
    assert!(!timeline.to_string().contains("stray"), "{timeline}");
}

#[test]
fn a_signature_of_another_secret_or_another_body_is_refused() {
    let till = Till::open();
    let (id, _, intent) = till.pending();
    let body = format!(
        r#"{{"id":"evt_1","object":"event","type":"payment_intent.succeeded","data":{{"object":{{"id":"{intent}","object":"payment_intent","amount":1000,"currency":"gbp","status":"succeeded","metadata":{{"order":"{id}"}}}}}}}}"#
    );
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let send = |signature: &str, body: &str| {
        post("/v1/webhooks/stripe")
            .header("Stripe-Signature", signature)
            .body("application/json", body.as_bytes())
    };
    let signed = |secret: &str, at_s: u64| doorbuster_stripe::signature(&[secret.to_owned()], at_s, &body);
    for (label, request) in [
        ("no signature", post("/v1/webhooks/stripe").body("application/json", body.as_bytes())),
        ("another secret", send(&signed("whsec_of_somebody", now_s), &body)),
        ("another body", send(&signed(SECRET, now_s), &body.replace("1000", "1001"))),
        ("ten minutes old", send(&signed(SECRET, now_s - 600), &body)),
        ("of the future", send(&signed(SECRET, now_s + 600), &body)),
        ("no header of Stripe's", send("t=x,v1=y", &body)),
    ] {
        let problem = till.shop.refused(request, 400, "signature_invalid");
        assert!(!problem.to_string().contains(SECRET), "{label}: {problem}");
        assert_eq!(till.order(&id)["state"], "pending_payment", "{label}");
    }
}

#[test]
fn a_cancelled_order_lets_the_card_go() {
    let till = Till::open();
    let (id, token, _) = till.pending();
    let cancelled = till.shop.expect(post(&format!("/v1/orders/{id}/cancel")).token(&token).fresh_key(), 200);
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(till.ledger(), (0, 0, 0));
    let compare = post("/v1/admin/payments/reconcile").admin().json(json!({"provider": "stripe"}));
    let found = till.shop.expect(compare, 200);
    assert_eq!((&found["complete"], &found["findings"]), (&json!(true), &json!([])));
}
