//! Catalogue, stock, ledger, import, actors.

use serde_json::{Value, json};

use super::harness::{Request, Shop, get, post, put};

fn define(sku: &str, body: Value) -> Request {
    put(&format!("/v1/admin/skus/{sku}")).admin().fresh_key().json(body)
}

#[test]
fn a_sku_is_made_then_changed_and_its_opening_counts_once() {
    let shop = Shop::open();
    let body = |name: &str, on_hand: i64| json!({"name": name, "price": {"amount": 500, "currency": "GBP"}, "on_hand": on_hand, "low_stock_at": 2});
    let made = shop.send(define("TEE%20M", body("Tee", 5)));
    assert_eq!((made.status, made.header("etag")), (201, Some("\"1\"")));
    assert_eq!(made.json()["sku"], "TEE M");
    let changed = shop.expect(define("TEE%20M", body("Better tee", 99)), 200);
    assert_eq!(changed["on_hand"], 5, "on_hand counts only at creation");
    let sku = shop.expect(get("/v1/skus/TEE%20M"), 200);
    assert_eq!(
        (&sku["name"], &sku["sellable"], &sku["state"], &sku["price"]),
        (&json!("Better tee"), &json!(5), &json!("in_stock"), &json!({"amount": 500, "currency": "GBP"}))
    );
    shop.refused(get("/v1/skus/NOPE"), 404, "not_found");
    shop.refused(get("/v1/skus/NOPE/availability"), 404, "not_found");
    shop.refused(put("/v1/admin/skus/X").admin().json(body("x", 1)), 400, "idempotency_key_missing");
    shop.refused(put("/v1/admin/skus/X").fresh_key().json(body("x", 1)), 401, "unauthenticated");
}

#[test]
fn availability_reads_in_a_word_and_has_a_version() {
    let shop = Shop::open();
    let body = |on_hand: i64, oversell: Value| json!({"name": "x", "price": {"amount": 1, "currency": "GBP"}, "on_hand": on_hand, "low_stock_at": 2, "oversell": oversell});
    for (sku, on_hand, oversell, sellable, state) in [
        ("IN", 9, json!(null), 9, "in_stock"),
        ("LOW", 2, json!({"policy": "deny"}), 2, "low_stock"),
        ("OUT", 0, json!(null), 0, "sold_out"),
        ("BACK", 0, json!({"policy": "allow", "limit": 3}), 3, "backorder"),
    ] {
        shop.expect(define(sku, body(on_hand, oversell)), 201);
        let found = shop.expect(get(&format!("/v1/skus/{sku}/availability")), 200);
        assert_eq!((&found["sellable"], &found["state"]), (&json!(sellable), &json!(state)), "{sku}");
    }
    let read = shop.send(get("/v1/skus/IN/availability"));
    let tag = read.header("etag").unwrap().to_owned();
    let same = shop.send(get("/v1/skus/IN/availability").header("If-None-Match", &tag));
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(tag.as_str())));
    shop.expect(
        post("/v1/reservations").fresh_key().json(json!({"items": [{"sku": "IN", "quantity": 1}]})),
        201,
    );
    assert_eq!(shop.send(get("/v1/skus/IN/availability").header("If-None-Match", &tag)).status, 200);
    let several = shop.expect(get("/v1/availability?sku=OUT&sku=IN"), 200);
    assert_eq!((&several["data"][0]["sku"], &several["data"][1]["sellable"]), (&json!("OUT"), &json!(8)));
    let problem = shop.refused(get("/v1/availability?sku=IN&sku=NOPE&sku=NIX"), 404, "not_found");
    assert_eq!(problem["skus"], json!(["NOPE", "NIX"]));
    shop.refused(get("/v1/availability"), 422, "validation_failed");
    let in_stock = shop.expect(get("/v1/skus?in_stock=true"), 200);
    assert_eq!(in_stock["data"].as_array().unwrap().len(), 3);
    assert_eq!(shop.expect(get("/v1/skus?in_stock=false"), 200)["data"][0]["sku"], "OUT");
}

#[test]
fn a_list_is_walked_part_by_part_and_stays_stable() {
    let shop = Shop::open();
    for number in 0..25 {
        shop.stock(&format!("S{number:02}"), 1);
    }
    let first = shop.expect(get("/v1/skus"), 200);
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (20, &json!(true)));
    shop.stock("S00A", 1);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = shop.expect(get(&format!("/v1/skus?starting_after={cursor}&limit=100")), 200);
    let names: Vec<_> =
        rest["data"].as_array().unwrap().iter().map(|sku| sku["sku"].as_str().unwrap()).collect();
    assert_eq!(names, ["S20", "S21", "S22", "S23", "S24"]);
    assert_eq!((&rest["has_more"], &rest["next_cursor"]), (&json!(false), &Value::Null));
    for query in ["limit=0", "limit=101", "limit=x", "in_stock=maybe", "colour=red", "limit=1&limit=2"] {
        shop.refused(get(&format!("/v1/skus?{query}")), 422, "validation_failed");
    }
}

#[test]
fn stock_is_adjusted_and_counted_with_a_reason() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let adjust = |body: Value| post("/v1/admin/skus/A/adjustments").admin().fresh_key().json(body);
    let more = shop.expect(adjust(json!({"delta": 7, "reason": "delivery", "reference": "PO-1"})), 200);
    assert_eq!((&more["on_hand"], &more["received"]), (&json!(12), &json!(12)));
    shop.expect(adjust(json!({"delta": -2, "reason": "broken"})), 200);
    let problem = shop.refused(adjust(json!({"delta": -11, "reason": "theft"})), 409, "insufficient_stock");
    assert_eq!(problem["items"][0]["available"], 10);
    let nowhere = post("/v1/admin/skus/NOPE/adjustments").admin().fresh_key();
    shop.refused(nowhere.json(json!({"delta": 1, "reason": "x"})), 404, "not_found");

    let count = |tag: Option<&str>, on_hand: i64| {
        let request = put("/v1/admin/skus/A/stock")
            .admin()
            .fresh_key()
            .json(json!({"on_hand": on_hand, "reason": "count"}));
        match tag {
            Some(tag) => request.header("If-Match", tag),
            None => request,
        }
    };
    shop.refused(count(None, 8), 428, "precondition_required");
    shop.refused(count(Some("*"), 8), 428, "precondition_required");
    let read = shop.send(get("/v1/admin/skus/A/stock").admin());
    let tag = read.header("etag").unwrap().to_owned();
    assert_eq!(shop.send(get("/v1/admin/skus/A/stock").admin().header("If-None-Match", &tag)).status, 304);
    assert_eq!(shop.expect(count(Some(&tag), 8), 200)["on_hand"], 8);
    let problem = shop.refused(count(Some(&tag), 9), 412, "version_mismatch");
    assert!(problem["current_version"].as_u64().is_some());
    shop.refused(count(Some("\"x\""), 9), 412, "version_mismatch");
    shop.refused(count(Some("W/\"1\""), 9), 412, "version_mismatch");

    let held = shop.expect(
        post("/v1/reservations").fresh_key().json(json!({"items": [{"sku": "A", "quantity": 1}]})),
        201,
    );
    let reservation = held["id"].as_str().unwrap();
    shop.expect(post(&format!("/v1/reservations/{reservation}/commit")).fresh_key(), 200);
    let ledger = shop.expect(get("/v1/admin/skus/A/ledger").admin(), 200);
    let rows = ledger["data"].as_array().unwrap();
    let seen: Vec<_> =
        rows.iter().map(|row| (row["kind"].as_str().unwrap(), row["delta"].as_i64().unwrap())).collect();
    assert_eq!(seen, [("sale", -1), ("count", -2), ("adjustment", -2), ("adjustment", 7), ("opening", 5)]);
    assert_eq!(rows[0]["reservation"], reservation);
    assert_eq!((&rows[3]["reason"], &rows[3]["reference"]), (&json!("delivery"), &json!("PO-1")));
    let page = shop.expect(get("/v1/admin/skus/A/ledger?limit=2").admin(), 200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let next =
        shop.expect(get(&format!("/v1/admin/skus/A/ledger?limit=2&starting_after={cursor}")).admin(), 200);
    assert_eq!(next["data"][0], rows[2]);
    shop.refused(get("/v1/admin/skus/NOPE/ledger").admin(), 404, "not_found");
    shop.refused(get("/v1/admin/skus/A/ledger?starting_after=zz").admin(), 422, "validation_failed");
    shop.refused(get("/v1/admin/skus/NOPE/stock").admin(), 404, "not_found");
}

#[test]
fn keyed_changes_of_stock_happen_once() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let requests: [(Request, &str); 3] = [
        (
            post("/v1/admin/skus/A/adjustments").admin().key("a").json(json!({"delta": 1, "reason": "x"})),
            "adjust",
        ),
        (
            put("/v1/admin/skus/B")
                .admin()
                .key("b")
                .json(json!({"name": "B", "price": {"amount": 1, "currency": "GBP"}})),
            "define",
        ),
        (
            put("/v1/admin/skus/A/stock")
                .admin()
                .key("c")
                .header("If-Match", "\"2\"")
                .json(json!({"on_hand": 9, "reason": "x"})),
            "count",
        ),
    ];
    for (request, what) in requests {
        let first = shop.send(request.clone());
        assert!((200..300).contains(&first.status), "{what}: {}", first.text());
        let second = shop.send(request);
        assert_eq!(
            (second.status, second.is_replay(), second.text()),
            (first.status, true, first.text()),
            "{what}"
        );
    }
    assert_eq!(shop.stock_of("A")["on_hand"], 9);
    let reused =
        post("/v1/admin/skus/A/adjustments").admin().key("a").json(json!({"delta": 2, "reason": "x"}));
    shop.refused(reused, 422, "idempotency_key_reused");
}

#[test]
fn an_import_takes_what_is_right_and_names_what_is_wrong() {
    let shop = Shop::open();
    let lines = [
        r#"{"sku":"I-1","name":"One","price":{"amount":100,"currency":"GBP"},"on_hand":3}"#.to_owned(),
        r#"{"sku":"I-2","name":"Two","price":{"amount":100,"currency":"GBP"}}"#.to_owned(),
        "{broken".to_owned(),
        r#"{"sku":"I-3","name":"","price":{"amount":100,"currency":"GBP"}}"#.to_owned(),
        format!(
            r#"{{"sku":"I-4","name":"{}","price":{{"amount":100,"currency":"GBP"}}}}"#,
            "x".repeat(70_000)
        ),
        r#"{"sku":"I-1","name":"One again","price":{"amount":200,"currency":"GBP"},"on_hand":9}"#.to_owned(),
    ];
    let import = |key: &str| {
        post("/v1/admin/import/skus")
            .admin()
            .key(key)
            .body("application/x-ndjson", lines.join("\n").as_bytes())
    };
    let told = shop.expect(import("import-1"), 200);
    assert_eq!(
        (&told["created"], &told["updated"], &told["rejected_total"]),
        (&json!(2), &json!(1), &json!(3)),
        "{told}"
    );
    let rejected: Vec<_> = told["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["code"].as_str().unwrap()))
        .collect();
    assert_eq!(rejected, [(3, "malformed"), (4, "validation_failed"), (5, "too_large")]);
    assert_eq!(shop.stock_of("I-1")["on_hand"], 3);
    assert_eq!(shop.expect(import("import-1"), 200), told, "a repeat answers the same counts");
    let again = shop.expect(import("import-2"), 200);
    assert_eq!((&again["created"], &again["updated"]), (&json!(0), &json!(3)));

    let csv = "sku,name,amount,currency,on_hand,low_stock_at,oversell_policy,oversell_limit,reservation_ttl_s\nC-1,\"One, with comma\",250,GBP,4,1,allow,2,60\nC-2,Two,x,GBP,,,,,\n";
    let told = shop
        .expect(post("/v1/admin/import/skus").admin().body("text/csv; charset=utf-8", csv.as_bytes()), 200);
    assert_eq!((&told["created"], &told["rejected"][0]["line"]), (&json!(1), &json!(3)), "{told}");
    assert_eq!(shop.expect(get("/v1/skus/C-1"), 200)["sellable"], 6);
    let import = |kind: &str, body: &str| post("/v1/admin/import/skus").admin().body(kind, body.as_bytes());
    shop.refused(import("application/json", "{}"), 415, "unsupported_media_type");
    shop.refused(import("text/csv", "sku,name\nA,B\n"), 422, "validation_failed");
    shop.refused(post("/v1/admin/import/skus").body("text/csv", b""), 401, "unauthenticated");
}

#[test]
fn a_long_import_is_read_as_it_comes() {
    let shop = Shop::open();
    let mut body = String::new();
    for number in 0..20_000 {
        use std::fmt::Write;
        writeln!(body, r#"{{"sku":"N-{number}","name":"Number {number}","price":{{"amount":{number},"currency":"GBP"}},"on_hand":1}}"#).unwrap();
    }
    assert!(body.len() > 1 << 20, "longer than any other body may be");
    let told = shop.expect(
        post("/v1/admin/import/skus").admin().fresh_key().body("application/x-ndjson", body.as_bytes()),
        200,
    );
    assert_eq!((&told["created"], &told["rejected_total"]), (&json!(20_000), &json!(0)), "{told}");
    assert_eq!(shop.expect(get("/v1/skus/N-19999"), 200)["price"]["amount"], 19_999);
}

#[test]
fn actors_can_be_looked_into() {
    let shop = Shop::open();
    shop.stock("A", 5);
    shop.stock("B", 5);
    for _ in 0..5 {
        shop.expect(
            post("/v1/reservations").fresh_key().json(json!({"items": [{"sku": "A", "quantity": 1}]})),
            201,
        );
    }
    let list = shop.expect(get("/v1/admin/actors?kind=sku&sort=messages&limit=1").admin(), 200);
    assert_eq!((&list["data"][0]["key"], &list["data"][0]["kind"]), (&json!("A"), &json!("sku")), "{list}");
    assert!(list["data"][0]["messages"].as_u64().unwrap() >= 6);
    let one = shop.expect(get("/v1/admin/actors/sku/A").admin(), 200);
    assert!(
        one["state"].as_str().unwrap().len() > 20 && !one["recent"].as_array().unwrap().is_empty(),
        "{one}"
    );
    for path in ["/v1/admin/actors/sku/NOPE", "/v1/admin/actors/planet/A", "/v1/admin/actors/cart/cart_x"] {
        shop.refused(get(path).admin(), 404, "not_found");
    }
    for query in ["kind=planet", "sort=colour", "limit=0", "x=1"] {
        shop.refused(get(&format!("/v1/admin/actors?{query}")).admin(), 422, "validation_failed");
    }
}
