//! Reservations: granted, kept, sold, given back, and what a key means.

use serde_json::{Value, json};

use super::harness::{Request, Shop, delete, eventually, get, patch, post};

fn reserve(sku: &str, quantity: i64) -> Request {
    post("/v1/reservations").fresh_key().json(json!({"items": [{"sku": sku, "quantity": quantity}]}))
}

fn id(reservation: &Value) -> String {
    reservation["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_reservation_is_held_then_sold_once() {
    let shop = Shop::open();
    shop.stock("TEE", 10);
    let held = shop.expect(reserve("TEE", 3), 201);
    assert_eq!(held["state"], "held");
    assert_eq!(held["items"], json!([{"sku": "TEE", "quantity": 3}]));
    assert!(held["receipt"].as_str().unwrap().len() > 32);
    let path = format!("/v1/reservations/{}", id(&held));
    assert_eq!(shop.expect(get(&path), 200), held);
    assert_eq!(shop.stock_of("TEE")["reserved"], 3);

    let sold = shop.expect(post(&format!("{path}/commit")).fresh_key(), 200);
    assert_eq!(sold["state"], "committed");
    let again = shop.expect(post(&format!("{path}/commit")).fresh_key().json(json!({})), 200);
    assert_eq!(again, sold, "again: the same body");
    let stock = shop.stock_of("TEE");
    assert_eq!((&stock["sold"], &stock["on_hand"], &stock["reserved"]), (&json!(3), &json!(7), &json!(0)));

    let problem = shop.refused(delete(&path).fresh_key(), 409, "illegal_transition");
    assert_eq!(problem["from"], "committed");
    shop.refused(patch(&path).fresh_key().json(json!({"extend_s": 60})), 409, "illegal_transition");
}

#[test]
fn a_released_reservation_gives_its_units_back_once() {
    let shop = Shop::open();
    shop.stock("TEE", 10);
    let path = format!("/v1/reservations/{}", id(&shop.expect(reserve("TEE", 4), 201)));
    let released = shop.expect(delete(&path).fresh_key(), 200);
    assert_eq!(released["state"], "released");
    assert_eq!(shop.expect(delete(&path).fresh_key(), 200), released, "again: the same body");
    assert_eq!(shop.stock_of("TEE")["sellable"], 10);
    shop.refused(post(&format!("{path}/commit")).fresh_key(), 409, "illegal_transition");
}

#[test]
fn an_extended_reservation_ends_later_and_never_after_a_day() {
    let shop = Shop::open();
    shop.stock("TEE", 10);
    let held = shop.expect(reserve("TEE", 1), 201);
    let path = format!("/v1/reservations/{}", id(&held));
    let longer = shop.expect(patch(&path).fresh_key().json(json!({"extend_s": 60})), 200);
    assert!(longer["expires_at"].as_str() > held["expires_at"].as_str(), "{longer}");
    let longest = shop.expect(patch(&path).fresh_key().json(json!({"extend_s": 86_400})), 200);
    let capped = shop.expect(patch(&path).fresh_key().json(json!({"extend_s": 86_400})), 200);
    assert_eq!(longest["expires_at"], capped["expires_at"], "capped at a day");
}

#[test]
fn an_expired_reservation_gives_its_units_back_and_is_gone() {
    let shop = Shop::open();
    shop.stock("TEE", 2);
    let body = json!({"items": [{"sku": "TEE", "quantity": 2}], "ttl_s": 1});
    let path = format!(
        "/v1/reservations/{}",
        id(&shop.expect(post("/v1/reservations").fresh_key().json(body), 201))
    );
    eventually("expiry", || (shop.expect(get(&path), 200)["state"] == "expired").then_some(()));
    eventually("return of the units", || (shop.stock_of("TEE")["sellable"] == 2).then_some(()));
    shop.refused(post(&format!("{path}/commit")).fresh_key(), 410, "reservation_expired");
    shop.refused(delete(&path).fresh_key(), 410, "reservation_expired");
    shop.refused(patch(&path).fresh_key().json(json!({"extend_s": 60})), 410, "reservation_expired");
}

#[test]
fn all_lines_are_reserved_or_none() {
    let shop = Shop::open();
    for (sku, units) in [("A", 5), ("B", 1), ("C", 5)] {
        shop.stock(sku, units);
    }
    let lines = |quantity: i64| json!([{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": quantity}, {"sku": "C", "quantity": 2}]);
    let asked = post("/v1/reservations").fresh_key().json(json!({"items": lines(2)}));
    let problem = shop.refused(asked, 409, "insufficient_stock");
    assert_eq!(problem["items"], json!([{"sku": "B", "requested": 2, "available": 1}]));
    for sku in ["A", "B", "C"] {
        eventually("return of the parts", || (shop.stock_of(sku)["reserved"] == 0).then_some(()));
    }
    let held = shop.expect(post("/v1/reservations").fresh_key().json(json!({"items": lines(1)})), 201);
    assert_eq!(held["items"].as_array().unwrap().len(), 3);
    let path = format!("/v1/reservations/{}", id(&held));
    assert_eq!(shop.expect(post(&format!("{path}/commit")).fresh_key(), 200)["state"], "committed");
    eventually("sale of the parts", || (shop.stock_of("C")["sold"] == 2).then_some(()));
}

#[test]
fn a_partial_reservation_takes_what_is_there() {
    let shop = Shop::open();
    shop.stock("A", 2);
    shop.stock("B", 0);
    let asked =
        |items: Value| post("/v1/reservations").fresh_key().json(json!({"items": items, "partial": true}));
    let held = shop.expect(asked(json!([{"sku": "A", "quantity": 5}])), 201);
    assert_eq!(held["items"], json!([{"sku": "A", "quantity": 2}]));
    shop.refused(
        asked(json!([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 1}])),
        409,
        "insufficient_stock",
    );
    shop.stock("C", 1);
    let held = shop.expect(asked(json!([{"sku": "B", "quantity": 1}, {"sku": "C", "quantity": 3}])), 201);
    assert_eq!(held["items"], json!([{"sku": "C", "quantity": 1}]));
}

#[test]
fn lines_of_one_sku_are_summed() {
    let shop = Shop::open();
    shop.stock("A", 3);
    let items = json!([{"sku": "A", "quantity": 2}, {"sku": "A", "quantity": 2}]);
    let problem = shop.refused(
        post("/v1/reservations").fresh_key().json(json!({"items": items})),
        409,
        "insufficient_stock",
    );
    assert_eq!(problem["items"], json!([{"sku": "A", "requested": 4, "available": 3}]));
}

#[test]
fn an_unknown_sku_is_named() {
    let shop = Shop::open();
    shop.stock("A", 3);
    let items = json!([{"sku": "A", "quantity": 1}, {"sku": "NOPE", "quantity": 1}]);
    let problem =
        shop.refused(post("/v1/reservations").fresh_key().json(json!({"items": items})), 404, "not_found");
    assert_eq!(problem["skus"], json!(["NOPE"]));
    for path in ["/v1/reservations/res_x", "/v1/reservations/res_00000000000000000000000000000000"] {
        shop.refused(get(path), 404, "not_found");
        shop.refused(post(&format!("{path}/commit")).fresh_key(), 404, "not_found");
        shop.refused(delete(path).fresh_key(), 404, "not_found");
        shop.refused(patch(path).fresh_key().json(json!({"extend_s": 1})), 404, "not_found");
    }
}

#[test]
fn a_repeated_key_gets_the_first_answers_bytes_whatever_became_of_it() {
    let shop = Shop::open();
    shop.stock("A", 3);
    let body = json!({"items": [{"sku": "A", "quantity": 1}]});
    let keyed = |body: &Value| post("/v1/reservations").key("k-1").json(body.clone());
    let first = shop.send(keyed(&body));
    assert_eq!((first.status, first.is_replay()), (201, false));
    let path = format!("/v1/reservations/{}", id(&first.json()));
    let second = shop.send(keyed(&body));
    assert_eq!((second.status, second.is_replay(), second.text()), (201, true, first.text()));
    shop.expect(delete(&path).fresh_key(), 200);
    let third = shop.send(keyed(&body));
    assert_eq!((third.status, third.is_replay(), third.text()), (201, true, first.text()));
    assert_eq!(shop.expect(get(&path), 200)["state"], "released", "GET tells the present");
    shop.refused(keyed(&json!({"items": [{"sku": "A", "quantity": 2}]})), 422, "idempotency_key_reused");
    let elsewhere = post(&format!("{path}/commit")).key("k-1");
    shop.refused(elsewhere, 422, "idempotency_key_reused");
    let another_caller = keyed(&json!({"items": [{"sku": "A", "quantity": 2}]})).admin();
    assert_eq!(shop.send(another_caller).status, 201, "keys belong to a caller");
}

#[test]
fn a_refusal_is_not_remembered() {
    let shop = Shop::open();
    shop.stock("A", 0);
    let asked =
        || post("/v1/reservations").key("later").json(json!({"items": [{"sku": "A", "quantity": 1}]}));
    shop.refused(asked(), 409, "insufficient_stock");
    let more = json!({"delta": 1, "reason": "delivery"});
    shop.expect(post("/v1/admin/skus/A/adjustments").admin().fresh_key().json(more), 200);
    assert_eq!(shop.send(asked()).status, 201, "a later copy is a new attempt");
}

#[test]
fn keys_are_needed_where_stock_moves() {
    let shop = Shop::open();
    shop.stock("A", 3);
    let body = json!({"items": [{"sku": "A", "quantity": 1}]});
    shop.refused(post("/v1/reservations").json(body.clone()), 400, "idempotency_key_missing");
    shop.refused(post("/v1/reservations/res_x/commit"), 400, "idempotency_key_missing");
    shop.refused(delete("/v1/reservations/res_x"), 400, "idempotency_key_missing");
    shop.refused(
        patch("/v1/reservations/res_x").json(json!({"extend_s": 1})),
        400,
        "idempotency_key_missing",
    );
    for key in ["", &"k".repeat(256), "ta\tb"] {
        shop.refused(post("/v1/reservations").key(key).json(body.clone()), 422, "validation_failed");
    }
    assert_eq!(shop.send(post("/v1/reservations").key(&"k".repeat(255)).json(body)).status, 201);
}

#[test]
fn a_batch_answers_each_reservation_for_itself() {
    let shop = Shop::open();
    shop.stock("A", 3);
    let single =
        shop.send(post("/v1/reservations").key("b-1").json(json!({"items": [{"sku": "A", "quantity": 1}]})));
    let body = json!({"requests": [
        {"key": "b-1", "items": [{"sku": "A", "quantity": 1}]},
        {"key": "b-2", "items": [{"sku": "A", "quantity": 1}]},
        {"key": "b-2", "items": [{"sku": "A", "quantity": 1}]},
        {"key": "b-3", "items": [{"sku": "NOPE", "quantity": 1}]},
        {"key": "b-4", "items": [{"sku": "A", "quantity": 9}]},
        {"key": "b-5", "items": [{"sku": "A", "quantity": 0}]},
        {"key": "b-1", "items": [{"sku": "A", "quantity": 2}]},
        {"key": "", "items": [{"sku": "A", "quantity": 1}]},
    ]});
    let answer = shop.expect(post("/v1/reservations/batch").json(body), 200);
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 201, 404, 409, 422, 422, 422], "{answer}");
    assert_eq!(results[0]["reservation"], single.json(), "the key lives in the same space");
    assert_eq!(results[0]["replayed"], true);
    assert_eq!(results[1]["reservation"], results[2]["reservation"], "a duplicate replays");
    assert_eq!(results[4]["problem"]["code"], "insufficient_stock");
    assert!(results[4]["problem"]["request_id"].as_str().is_some_and(|id| id.len() >= 16), "{answer}");
    assert_eq!(results[5]["problem"]["errors"][0]["pointer"], "/items/0/quantity");
    assert_eq!(results[6]["problem"]["code"], "idempotency_key_reused");
    assert_eq!(shop.stock_of("A")["reserved"], 2);

    let mixed = json!({"requests": [{"key": "m-1", "items": 5}, {"key": "m-2", "items": [{"sku": "A", "quantity": 1}]}]});
    let answer = shop.expect(post("/v1/reservations/batch").json(mixed), 200);
    assert_eq!(
        (&answer["results"][0]["status"], &answer["results"][1]["status"]),
        (&json!(422), &json!(201))
    );

    let many: Vec<_> =
        (0..257).map(|n| json!({"key": format!("x{n}"), "items": [{"sku": "A", "quantity": 1}]})).collect();
    for envelope in
        [json!({}), json!({"requests": []}), json!({"requests": many}), json!({"requests": 1}), json!([])]
    {
        shop.refused(post("/v1/reservations/batch").json(envelope), 422, "validation_failed");
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let shop = Shop::open();
    shop.stock("A", 9);
    let keyed =
        || post("/v1/reservations").key("before").json(json!({"items": [{"sku": "A", "quantity": 2}]}));
    let first = shop.send(keyed());
    let cart = shop.cart(&[("A", 1)]);
    let order = shop.expect(Shop::checkout(&cart, "ok"), 201);
    let shop = shop.reopened();
    let again = shop.send(keyed());
    assert_eq!((again.status, again.is_replay(), again.text()), (201, true, first.text()));
    assert_eq!(shop.expect(get(&format!("/v1/reservations/{}", id(&first.json()))), 200)["state"], "held");
    let order_path = format!("/v1/orders/{}", order["id"].as_str().unwrap());
    let found = shop.expect(get(&order_path).token(&cart.1), 200);
    assert_eq!((&found["state"], &found["number"]), (&json!("paid"), &order["number"]));
    assert_eq!(shop.expect(get(&format!("/v1/carts/{}", cart.0)).token(&cart.1), 200)["state"], "ordered");
    let stock = eventually("sale", || Some(shop.stock_of("A")).filter(|stock| stock["sold"] == 1));
    assert_eq!((&stock["reserved"], &stock["on_hand"]), (&json!(2), &json!(8)));
}
