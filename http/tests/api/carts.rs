//! Carts: lines, versions, tokens, and every way a checkout can end.

use serde_json::{Value, json};

use super::harness::{Request, Shop, check_problem, delete, eventually, get, patch, post};

fn path(cart: &(String, String)) -> String {
    format!("/v1/carts/{}", cart.0)
}

#[test]
fn a_cart_takes_lines_and_sums_them() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    shop.priced("B", 10, 1_000);
    let made = shop.send(post("/v1/carts").json(json!({"currency": "GBP"})));
    assert_eq!((made.status, made.header("etag")), (201, Some("\"1\"")));
    let cart = made.json();
    assert_eq!(
        (&cart["lines"], &cart["totals"]["total"]["amount"], &cart["state"]),
        (&json!([]), &json!(0), &json!("open"))
    );
    let owned = (cart["id"].as_str().unwrap().to_owned(), cart["token"].as_str().unwrap().to_owned());
    let lines = format!("{}/lines", path(&owned));
    let add = |body: Value| post(&lines).token(&owned.1).json(body);
    shop.expect(add(json!({"sku": "A", "quantity": 2})), 200);
    let both =
        shop.expect(add(json!({"lines": [{"sku": "B", "quantity": 1}, {"sku": "A", "quantity": 1}]})), 200);
    assert_eq!(both["lines"][0]["quantity"], 3, "adds to the line of that SKU and price");
    assert_eq!(both["lines"][0]["total"], json!({"amount": 750, "currency": "GBP"}));
    assert_eq!(both["totals"]["total"]["amount"], 1_750);
    assert!(both.get("token").is_none(), "the token is given once");

    let line = |id: &str| format!("{lines}/{id}");
    let changed = shop.expect(patch(&line("1")).token(&owned.1).json(json!({"quantity": 5})), 200);
    assert_eq!(changed["totals"]["total"]["amount"], 2_250);
    let removed = shop.expect(patch(&line("1")).token(&owned.1).json(json!({"quantity": 0})), 200);
    assert_eq!(removed["lines"].as_array().unwrap().len(), 1);
    shop.refused(patch(&line("1")).token(&owned.1).json(json!({"quantity": 1})), 404, "not_found");
    shop.refused(delete(&line("x")).token(&owned.1), 404, "not_found");
    let empty = shop.expect(delete(&line("2")).token(&owned.1), 200);
    assert_eq!(empty["lines"], json!([]));
}

#[test]
fn a_cart_has_versions() {
    let shop = Shop::open();
    shop.stock("A", 10);
    let cart = shop.cart(&[("A", 1)]);
    let read = shop.send(get(&path(&cart)).token(&cart.1));
    let tag = read.header("etag").unwrap().to_owned();
    assert_eq!(shop.send(get(&path(&cart)).token(&cart.1).header("If-None-Match", &tag)).status, 304);
    let change = |tag: &str, quantity: i64| {
        patch(&format!("{}/lines/1", path(&cart)))
            .token(&cart.1)
            .header("If-Match", tag)
            .json(json!({"quantity": quantity}))
    };
    assert_eq!(shop.send(change(&tag, 2)).status, 200);
    let problem = shop.refused(change(&tag, 3), 412, "version_mismatch");
    assert_eq!(problem["current_version"], 2);
    assert_eq!(shop.send(change("*", 3)).status, 200);
    shop.refused(change("nonsense", 3), 412, "version_mismatch");
    shop.refused(Shop::checkout(&cart, "ok").header("If-Match", "\"1\""), 412, "version_mismatch");
}

#[test]
fn a_cart_answers_only_to_its_token() {
    let shop = Shop::open();
    shop.stock("A", 10);
    let cart = shop.cart(&[("A", 1)]);
    let other = shop.cart(&[("A", 1)]);
    let calls: [&dyn Fn() -> Request; 6] = [
        &|| get(&path(&cart)),
        &|| delete(&path(&cart)),
        &|| post(&format!("{}/lines", path(&cart))).json(json!({"sku": "A", "quantity": 1})),
        &|| patch(&format!("{}/lines/1", path(&cart))).json(json!({"quantity": 1})),
        &|| delete(&format!("{}/lines/1", path(&cart))),
        &|| Shop::checkout(&(cart.0.clone(), String::new()), "ok"),
    ];
    for call in calls {
        shop.refused(call(), 404, "not_found");
        shop.refused(call().token("wrong"), 404, "not_found");
        shop.refused(call().token(&other.1), 404, "not_found");
    }
    shop.refused(get("/v1/carts/cart_00000000000000000000000000000000").token(&cart.1), 404, "not_found");
    shop.refused(get("/v1/carts/nonsense").token(&cart.1), 404, "not_found");
    assert_eq!(shop.send(get(&path(&cart)).token(&cart.1)).status, 200);
}

#[test]
fn a_deleted_cart_is_gone() {
    let shop = Shop::open();
    shop.stock("A", 10);
    let cart = shop.cart(&[("A", 1)]);
    let gone = shop.send(delete(&path(&cart)).token(&cart.1));
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    shop.refused(get(&path(&cart)).token(&cart.1), 410, "cart_expired");
    let add = post(&format!("{}/lines", path(&cart))).token(&cart.1).json(json!({"sku": "A", "quantity": 1}));
    shop.refused(add, 410, "cart_expired");
    shop.refused(Shop::checkout(&cart, "ok"), 410, "cart_expired");
}

#[test]
fn prices_of_ones_own_need_the_admin_key() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let items = json!([{"sku": "A", "quantity": 2, "unit_price": {"amount": 99, "currency": "GBP"}}, {"sku": "A", "quantity": 1}]);
    shop.refused(post("/v1/carts").json(json!({"items": items})), 403, "forbidden");
    let cart = shop.expect(post("/v1/carts").admin().json(json!({"items": items})), 201);
    assert_eq!(cart["lines"].as_array().unwrap().len(), 2, "one SKU at two prices is two lines");
    assert_eq!(cart["totals"]["total"]["amount"], 448);
    let dollars = json!({"items": [{"sku": "A", "quantity": 1, "unit_price": {"amount": 99, "currency": "USD"}}], "currency": "GBP"});
    shop.refused(post("/v1/carts").admin().json(dollars), 422, "validation_failed");
    let unknown = json!({"items": [{"sku": "NOPE", "quantity": 1}]});
    assert_eq!(shop.refused(post("/v1/carts").json(unknown), 404, "not_found")["skus"], json!(["NOPE"]));
}

#[test]
fn a_cart_of_a_thousand_lines_fits_and_one_more_does_not() {
    let shop = Shop::open();
    shop.stock("A", 1_000_000);
    let lines = |count: i64| -> Vec<Value> {
        (0..count)
            .map(|n| json!({"sku": "A", "quantity": 1, "unit_price": {"amount": n, "currency": "GBP"}}))
            .collect()
    };
    let cart = shop.cart(&[]);
    let add = |lines: Vec<Value>| {
        post(&format!("{}/lines", path(&cart))).admin().token(&cart.1).json(json!({"lines": lines}))
    };
    shop.refused(add(lines(1_001)), 422, "validation_failed");
    let full = shop.expect(add(lines(1_000)), 200);
    assert_eq!(full["lines"].as_array().unwrap().len(), 1_000);
    shop.refused(
        add(vec![json!({"sku": "A", "quantity": 1, "unit_price": {"amount": 5_000, "currency": "GBP"}})]),
        422,
        "validation_failed",
    );
    let order = shop.expect(Shop::checkout(&cart, "ok"), 201);
    assert_eq!(order["totals"]["total"]["amount"], 499_500);
}

#[test]
fn a_paid_checkout_sells_the_units_and_closes_the_cart() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let cart = shop.cart(&[("A", 4)]);
    let request = Shop::checkout(&cart, "ok");
    let first = shop.send(request.clone());
    assert_eq!(first.status, 201, "{}", first.text());
    let order = first.json();
    assert_eq!((&order["state"], &order["payment"]["state"]), (&json!("paid"), &json!("captured")));
    assert_eq!((&order["email"], &order["payment"]["provider"]), (&json!("ada@example.com"), &json!("fake")));
    assert_eq!(order["lines"][0]["line_id"], "1");
    assert_eq!(order["totals"]["total"], json!({"amount": 1_000, "currency": "GBP"}));
    eventually("sale", || (shop.stock_of("A")["sold"] == 4).then_some(()));
    let again = shop.send(request);
    assert_eq!((again.status, again.is_replay(), again.text()), (201, true, first.text()));
    let closed = shop.expect(get(&path(&cart)).token(&cart.1), 200);
    assert_eq!((&closed["state"], &closed["order"]), (&json!("ordered"), &order["id"]));
    shop.refused(Shop::checkout(&cart, "ok"), 409, "illegal_transition");
    let add = post(&format!("{}/lines", path(&cart))).token(&cart.1).json(json!({"sku": "A", "quantity": 1}));
    shop.refused(add, 409, "illegal_transition");
}

#[test]
fn a_refused_checkout_opens_the_cart_and_returns_the_units() {
    let shop = Shop::open();
    shop.priced("A", 5, 250);
    shop.priced("B", 1, 250);
    for (lines, method, status, code) in [
        (&[("A", 2)][..], "declined", 402, "payment_declined"),
        (&[("A", 2)], "error", 402, "payment_declined"),
        (&[("A", 2)], "nonsense", 402, "payment_declined"),
        (&[("A", 2), ("B", 2)], "ok", 409, "insufficient_stock"),
        (&[], "ok", 409, "illegal_transition"),
    ] {
        let cart = shop.cart(lines);
        let answer = shop.send(Shop::checkout(&cart, method));
        check_problem(method, &answer, status, code);
        eventually("open cart", || {
            (shop.expect(get(&path(&cart)).token(&cart.1), 200)["state"] == "open").then_some(())
        });
        for sku in ["A", "B"] {
            eventually("return", || (shop.stock_of(sku)["reserved"] == 0).then_some(()));
        }
    }
    let cart = shop.cart(&[("A", 1)]);
    shop.refused(Shop::checkout(&cart, "declined"), 402, "payment_declined");
    eventually("a second try", || {
        Some(shop.send(Shop::checkout(&cart, "ok"))).filter(|answer| answer.status == 201)
    });
}

#[test]
fn a_total_that_changed_is_told_before_money_moves() {
    let shop = Shop::open();
    shop.priced("A", 5, 250);
    let cart = shop.cart(&[("A", 2)]);
    let checkout = |amount: i64, currency: &str| {
        let body = json!({"email": "ada@example.com", "payment": {"provider": "fake", "method": "ok"}, "expected_total": {"amount": amount, "currency": currency}});
        post(&format!("{}/checkout", path(&cart))).token(&cart.1).fresh_key().json(body)
    };
    let problem = shop.refused(checkout(499, "GBP"), 409, "price_changed");
    assert_eq!(problem["total"], json!({"amount": 500, "currency": "GBP"}));
    assert_eq!(problem["expected_total"]["amount"], 499);
    shop.refused(checkout(500, "EUR"), 409, "price_changed");
    assert_eq!(shop.send(checkout(500, "GBP")).status, 201);
}

#[test]
fn a_shopper_who_must_act_confirms_afterwards() {
    let shop = Shop::open();
    shop.priced("A", 5, 250);
    let cart = shop.cart(&[("A", 2)]);
    let pending = shop.expect(Shop::checkout(&cart, "requires_action"), 202);
    assert_eq!(pending["status"], "requires_action");
    assert!(!pending["client_secret"].as_str().unwrap().is_empty());
    assert_eq!(pending["order"]["state"], "pending_payment");
    assert_eq!(shop.stock_of("A")["reserved"], 2, "units stay pinned");
    let order = format!("/v1/orders/{}", pending["order"]["id"].as_str().unwrap());
    shop.refused(post(&format!("{order}/confirm")).fresh_key(), 404, "not_found");
    shop.refused(post(&format!("{order}/confirm")).token(&cart.1), 400, "idempotency_key_missing");
    let confirm = post(&format!("{order}/confirm")).token(&cart.1).key("confirm-1");
    let paid = shop.send(confirm.clone());
    assert_eq!((paid.status, &paid.json()["state"]), (200, &json!("paid")), "{}", paid.text());
    let again = shop.send(confirm);
    assert_eq!((again.status, again.is_replay(), again.text()), (200, true, paid.text()));
    eventually("sale", || (shop.stock_of("A")["sold"] == 2).then_some(()));
}

#[test]
fn a_slow_provider_pays_and_a_silent_one_leaves_the_payment_pending() {
    let shop = Shop::open();
    shop.priced("A", 5, 250);
    let slow = shop.cart(&[("A", 1)]);
    assert_eq!(shop.expect(Shop::checkout(&slow, "slow"), 201)["state"], "paid");
    let silent = shop.cart(&[("A", 1)]);
    let pending = shop.expect(Shop::checkout(&silent, "timeout"), 202);
    assert_eq!(
        (&pending["status"], &pending["order"]["state"]),
        (&json!("payment_pending"), &json!("pending_payment"))
    );
    let order = format!("/v1/orders/{}", pending["order"]["id"].as_str().unwrap());
    eventually("the provider looked up", || {
        (shop.expect(get(&order).token(&silent.1), 200)["state"] == "paid").then_some(())
    });
}
