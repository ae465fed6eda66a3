//! Refunds: never more than was captured.

use doorbuster_stripe::Stripe;

use crate::client::Client;

/// An intent of 1,000 of which so much was captured; its id.
fn captured(client: &Client, amount: i64) -> String {
    let id = client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/payment_intents/{id}/capture");
    assert_eq!(client.post(&path, &format!("amount_to_capture={amount}")).status, 200);
    id
}

#[test]
fn never_more_is_refunded_than_was_captured() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let id = captured(&client, 700);
    // amount, status, code, refunded of 700 afterwards
    let rows = [
        ("&amount=701", 400, "", 0),
        ("&amount=0", 400, "parameter_invalid_integer", 0),
        ("&amount=300", 200, "", 300),
        ("&amount=401", 400, "", 300),
        ("", 200, "", 700),
        ("", 400, "charge_already_refunded", 700),
        ("&amount=1", 400, "charge_already_refunded", 700),
    ];
    for (form, status, code, refunded) in rows {
        let answer = client.post("/v1/refunds", &format!("payment_intent={id}{form}"));
        assert_eq!((answer.status, answer.error().1), (status, code), "{form}: {}", answer.text);
        let ledger = stripe.ledger();
        assert_eq!(ledger.charges[0].amount_refunded, refunded, "{form}");
        assert_eq!(ledger.totals["gbp"].refunded, refunded, "{form}");
        assert_eq!(ledger.refunds.iter().map(|refund| refund.amount).sum::<i64>(), refunded, "{form}");
        let charge = client.get(&format!("/v1/charges/{}", ledger.charges[0].id)).body;
        assert_eq!(charge["refunded"], refunded == 700, "{form}");
    }
}

#[test]
fn what_was_not_captured_is_not_refunded() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let held = client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap().to_owned();
    let cancelled = client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/payment_intents/{cancelled}/cancel"), "");
    let open = client.post("/v1/payment_intents", "amount=1000&currency=gbp").body;
    let rows =
        [(held, ""), (cancelled, "charge_already_refunded"), (open["id"].as_str().unwrap().to_owned(), "")];
    for (id, code) in rows {
        let answer = client.post("/v1/refunds", &format!("payment_intent={id}"));
        assert_eq!((answer.status, answer.error().1), (400, code), "{id}");
    }
    let rows = [
        ("", "parameter_missing"),
        ("charge=ch_nobody", "resource_missing"),
        ("payment_intent=pi_nobody", "resource_missing"),
        ("payment_intent=pi_1&charge=ch_1", ""),
        ("payment_intent=pi_1&why=so", "parameter_unknown"),
        ("payment_intent=pi_1&reason=whim", ""),
    ];
    for (form, code) in rows {
        let answer = client.post("/v1/refunds", form);
        assert_eq!((answer.status, answer.error().1), (400, code), "{form}");
    }
    assert!(stripe.ledger().refunds.is_empty());
}

#[test]
fn a_refund_is_found_again_by_its_id_and_its_payment() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let (id, other) = (captured(&client, 1_000), captured(&client, 1_000));
    let form = format!("payment_intent={id}&amount=10&reason=requested_by_customer&metadata[line]=2");
    let refund = client.post("/v1/refunds", &form).body;
    assert_eq!(refund["status"], "succeeded");
    let path = format!("/v1/refunds/{}", refund["id"].as_str().unwrap());
    assert_eq!(client.get(&path).body, refund);
    let expanded = client.get(&format!("{path}?expand[]=charge&expand[]=payment_intent")).body;
    assert_eq!(expanded["charge"]["amount_refunded"], 10);
    assert_eq!(expanded["payment_intent"]["id"], id);
    let found = |id: &str| client.get(&format!("/v1/refunds?payment_intent={id}")).body["data"].clone();
    assert_eq!((found(&id), found(&other)), (serde_json::json!([refund]), serde_json::json!([])));
}

#[test]
fn the_ledger_is_what_moved_in_one_answer() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let sold = captured(&client, 600);
    client.post("/v1/refunds", &format!("payment_intent={sold}&amount=100"));
    client.pay("pm_card_visa", 250);
    let released = client.pay("pm_card_visa", 50)["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/payment_intents/{released}/cancel"), "");
    let ledger = client.get("/_stand-in/ledger").body;
    assert_eq!(
        ledger["totals"],
        serde_json::json!({"gbp": {"authorized": 250, "captured": 600, "refunded": 100}})
    );
    let charges = ledger["charges"].as_array().unwrap();
    assert_eq!(charges.len(), 3);
    assert_eq!(charges[0]["metadata"]["order"], "ord_7");
    assert_eq!((&charges[2]["released"], &charges[2]["amount_refunded"]), (&true.into(), &0.into()));
    assert_eq!(ledger, serde_json::to_value(stripe.ledger()).unwrap(), "the handle says the same");
}

#[test]
fn a_refund_arrives_later_or_fails_later_by_the_card() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let rows = [
        ("pm_card_visa", "succeeded", "succeeded", 400),
        ("pm_card_pendingRefund", "pending", "succeeded", 400),
        ("pm_card_refundFail", "succeeded", "failed", 0),
    ];
    for (card, first, last, refunded) in rows {
        let id = client.pay(card, 1_000)["id"].as_str().unwrap().to_owned();
        client.post(&format!("/v1/payment_intents/{id}/capture"), "");
        let refund = client.post("/v1/refunds", &format!("payment_intent={id}&amount=400")).body;
        assert_eq!(refund["status"], first, "{card}");
        let path = format!("/v1/refunds/{}", refund["id"].as_str().unwrap());
        stripe.advance(59_999);
        assert_eq!(client.get(&path).body["status"], first, "{card}");
        stripe.advance(1);
        let refund = client.get(&path).body;
        assert_eq!(refund["status"], last, "{card}");
        assert_eq!(refund.get("failure_reason").is_some(), last == "failed", "{card}");
        let ledger = stripe.ledger();
        let charge = ledger.charges.iter().find(|charge| charge.payment_intent == id).unwrap();
        assert_eq!(charge.amount_refunded, refunded, "{card}");
        let kept = ledger.refunds.iter().any(|refund| refund.payment_intent == id);
        assert_eq!(kept, last != "failed", "{card}");
        let events = client.get("/v1/events").body;
        let kind = match (first, last) {
            ("pending", _) => "refund.updated",
            (_, "failed") => "refund.failed",
            _ => "charge.refunded",
        };
        assert_eq!(events["data"][0]["type"], kind, "{card}");
    }
}
