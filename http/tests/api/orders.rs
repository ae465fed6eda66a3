//! Orders: read, listed, cancelled, refunded, fulfilled.

use serde_json::{Value, json};

use super::harness::{Request, Shop, eventually, get, post};

/// A paid order of four units of A at £2.50: its path, its cart's token, itself.
fn paid(shop: &Shop) -> (String, String, Value) {
    let cart = shop.cart(&[("A", 4)]);
    let order = shop.expect(Shop::checkout(&cart, "ok"), 201);
    let id = order["id"].as_str().unwrap().to_owned();
    eventually("sale", || {
        let timeline = shop.expect(get(&format!("/v1/orders/{id}/timeline")).admin(), 200);
        timeline["data"].as_array().unwrap().iter().any(|entry| entry["kind"] == "units_sold").then_some(())
    });
    (id, cart.1, order)
}

fn refund(id: &str, body: Value) -> Request {
    post(&format!("/v1/admin/orders/{id}/refunds")).admin().fresh_key().json(body)
}

fn fulfil(id: &str, body: Value) -> Request {
    post(&format!("/v1/admin/orders/{id}/fulfilments")).admin().fresh_key().json(body)
}

#[test]
fn an_order_answers_to_its_carts_token_and_the_admin() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let (id, token, order) = paid(&shop);
    let path = format!("/v1/orders/{id}");
    let read = shop.send(get(&path).token(&token));
    assert_eq!(read.status, 200);
    assert_eq!(read.json()["number"], order["number"]);
    let tag = read.header("etag").unwrap().to_owned();
    assert_eq!(shop.send(get(&path).admin().header("If-None-Match", &tag)).status, 304);
    for request in [
        get(&path),
        get(&path).token("wrong"),
        get("/v1/orders/ord_00000000000000000000000000000000").admin(),
        get("/v1/orders/x").admin(),
    ] {
        shop.refused(request, 404, "not_found");
    }
    let timeline = shop.expect(get(&format!("{path}/timeline")).token(&token), 200);
    let kinds: Vec<_> =
        timeline["data"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["started", "units_reserved", "placed"], "{kinds:?}");
    shop.refused(get(&format!("{path}/timeline")).token("wrong"), 404, "not_found");
    let reservation = format!("/v1/reservations/{}", id.replace("ord_", "res_"));
    for refused in
        [post(&format!("{reservation}/commit")).fresh_key(), super::harness::delete(&reservation).fresh_key()]
    {
        let answer = shop.send(refused);
        assert!(
            matches!(answer.status, 404 | 409),
            "an order's reservation refuses strangers: {}",
            answer.text()
        );
    }
}

#[test]
fn a_cancelled_order_returns_money_and_units() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let (id, token, _) = paid(&shop);
    let cancel = || post(&format!("/v1/orders/{id}/cancel")).token(&token).key("cancel-1");
    shop.refused(post(&format!("/v1/orders/{id}/cancel")).fresh_key(), 404, "not_found");
    let first = shop.send(cancel());
    assert_eq!(first.status, 200, "{}", first.text());
    let order = first.json();
    assert_eq!((&order["state"], &order["payment"]["state"]), (&json!("cancelled"), &json!("refunded")));
    assert_eq!(order["payment"]["refunded"]["amount"], 1_000);
    eventually("restock", || {
        Some(shop.stock_of("A")).filter(|stock| stock["sold"] == 0 && stock["on_hand"] == 10)
    });
    let again = shop.send(cancel());
    assert_eq!((again.status, again.is_replay(), again.text()), (200, true, first.text()));
    shop.refused(fulfil(&id, json!({})), 409, "illegal_transition");
    shop.refused(refund(&id, json!({})), 409, "illegal_transition");
}

#[test]
fn refunds_return_what_was_paid_and_no_more() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let (id, _, _) = paid(&shop);
    let part = shop.expect(
        refund(
            &id,
            json!({"lines": [{"line_id": "1", "quantity": 1}], "restock": true, "reason": "returned"}),
        ),
        201,
    );
    assert_eq!(
        (&part["amount"]["amount"], &part["state"], &part["restock"]),
        (&json!(250), &json!("succeeded"), &json!(true))
    );
    eventually("restock", || (shop.stock_of("A")["sold"] == 3).then_some(()));
    let goodwill = shop.expect(refund(&id, json!({"amount": {"amount": 100, "currency": "GBP"}})), 201);
    assert_eq!(goodwill["lines"], json!([]));
    let path = format!("/v1/orders/{id}");
    let order = shop.expect(get(&path).admin(), 200);
    assert_eq!(
        (&order["state"], &order["payment"]["refunded"]["amount"]),
        (&json!("partially_refunded"), &json!(350))
    );
    assert_eq!(order["refunds"].as_array().unwrap().len(), 2);
    shop.refused(
        refund(&id, json!({"amount": {"amount": 651, "currency": "GBP"}})),
        409,
        "illegal_transition",
    );
    shop.refused(refund(&id, json!({"lines": [{"line_id": "1", "quantity": 4}]})), 409, "illegal_transition");
    for wrong in [
        json!({"lines": [{"line_id": "9", "quantity": 1}]}),
        json!({"lines": [{"line_id": "1", "quantity": 0}]}),
        json!({"lines": [{"line_id": "one", "quantity": 1}]}),
        json!({"lines": []}),
        json!({"amount": {"amount": -1, "currency": "GBP"}}),
        json!({"amount": 5}),
        json!({"lines": [{"line_id": "1", "quantity": 1}, {"line_id": "1", "quantity": 1}]}),
    ] {
        shop.refused(refund(&id, wrong), 422, "validation_failed");
    }
    let rest = shop.expect(refund(&id, json!({})), 201);
    assert_eq!(rest["amount"]["amount"], 650);
    assert_eq!(shop.expect(get(&path).admin(), 200)["state"], "refunded");
    shop.refused(refund("ord_00000000000000000000000000000000", json!({})), 404, "not_found");
    shop.refused(refund(&id, json!({})), 409, "illegal_transition");
    shop.refused(
        post(&format!("/v1/admin/orders/{id}/refunds")).admin().json(json!({})),
        400,
        "idempotency_key_missing",
    );
}

#[test]
fn fulfilments_hand_over_what_was_paid() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let (id, token, _) = paid(&shop);
    let part = shop
        .expect(fulfil(&id, json!({"lines": [{"line_id": "1", "quantity": 1}], "tracking": "TRACK-1"})), 201);
    assert_eq!((&part["tracking"], &part["lines"][0]["quantity"]), (&json!("TRACK-1"), &json!(1)));
    shop.refused(fulfil(&id, json!({"lines": [{"line_id": "1", "quantity": 4}]})), 409, "illegal_transition");
    shop.refused(
        post(&format!("/v1/orders/{id}/cancel")).token(&token).fresh_key(),
        409,
        "illegal_transition",
    );
    let request = post(&format!("/v1/admin/orders/{id}/fulfilments")).admin().key("rest").json(json!({}));
    let rest = shop.send(request);
    assert_eq!(rest.status, 201, "{}", rest.text());
    let order = shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200);
    assert_eq!((&order["state"], &order["lines"][0]["fulfilled"]), (&json!("fulfilled"), &json!(4)));
    shop.refused(fulfil(&id, json!({})), 409, "illegal_transition");
    shop.refused(fulfil(&id, json!({"lines": [{"line_id": "9", "quantity": 1}]})), 422, "validation_failed");
}

#[test]
fn a_second_full_refund_is_late_and_not_wrong() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    for fulfilled in [false, true] {
        let (id, _, _) = paid(&shop);
        if fulfilled {
            shop.expect(fulfil(&id, json!({})), 201);
        }
        shop.expect(refund(&id, json!({})), 201);
        shop.refused(refund(&id, json!({})), 409, "illegal_transition");
    }
}

#[test]
fn keyed_money_moves_once() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let (id, _, _) = paid(&shop);
    let calls = [
        post(&format!("/v1/admin/orders/{id}/fulfilments"))
            .admin()
            .key("f")
            .json(json!({"lines": [{"line_id": "1", "quantity": 1}]})),
        post(&format!("/v1/admin/orders/{id}/refunds"))
            .admin()
            .key("r")
            .json(json!({"amount": {"amount": 10, "currency": "GBP"}})),
    ];
    for call in calls {
        let first = shop.send(call.clone());
        assert_eq!(first.status, 201, "{}", first.text());
        let again = shop.send(call);
        assert_eq!((again.status, again.is_replay(), again.text()), (201, true, first.text()));
    }
    assert_eq!(
        shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200)["payment"]["refunded"]["amount"],
        10
    );
}

#[test]
fn orders_are_listed_newest_first_and_by_what_is_asked() {
    let shop = Shop::open();
    shop.priced("A", 100, 250);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, paid(&shop).0);
    }
    let listed = |query: &str| -> Vec<String> {
        let page = shop.expect(get(&format!("/v1/admin/orders{query}")).admin(), 200);
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|order| order["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(""), ids);
    let first = shop.expect(get("/v1/admin/orders?limit=2").admin(), 200);
    assert_eq!(first["has_more"], true);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(listed(&format!("?limit=2&starting_after={cursor}")), ids[2..4]);
    shop.expect(refund(&ids[1], json!({})), 201);
    assert_eq!(listed("?state=refunded"), ids[1..2]);
    assert_eq!(listed("?state=paid").len(), 4);
    assert_eq!(listed("?email=ada%40example.com").len(), 5);
    assert_eq!(listed("?email=bob%40example.com"), [] as [String; 0]);
    assert_eq!(listed("?since=2100-01-01T00:00:00Z"), [] as [String; 0]);
    assert_eq!(listed("?until=2100-01-01T00:00:00Z").len(), 5);
    for query in ["state=lost", "since=yesterday", "limit=1000", "colour=red", "starting_after=nonsense"] {
        shop.refused(get(&format!("/v1/admin/orders?{query}")).admin(), 422, "validation_failed");
    }
}
