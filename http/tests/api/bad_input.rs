//! Bad input and bad days: each the documented problem, nothing changed.

use std::time::Duration;

use serde_json::json;

use super::harness::{Shop, check_problem, get, post, put};

#[test]
fn a_wrong_reservation_is_refused_and_nothing_changes() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let before = shop.stock_of("A");
    let many: Vec<_> = (0..101).map(|_| json!({"sku": "A", "quantity": 1})).collect();
    let rows: Vec<(Vec<u8>, u16, &str, &str)> = vec![
        (b"".to_vec(), 400, "malformed", ""),
        (b"{".to_vec(), 400, "malformed", ""),
        (b"not json".to_vec(), 400, "malformed", ""),
        (b"{\"items\":[{\"sku\":\"\xff\xfe\",\"quantity\":1}]}".to_vec(), 400, "malformed", ""),
        (b"{\"items\":[{\"sku\":\"A\",\"quantity\":1}]}}".to_vec(), 400, "malformed", ""),
        (b"null".to_vec(), 422, "validation_failed", ""),
        (b"[]".to_vec(), 422, "validation_failed", ""),
        // The fields in their order, unnamed: what a derived reader would take for an object.
        (b" [[{\"sku\":\"A\",\"quantity\":1}],null,null,null]".to_vec(), 422, "validation_failed", ""),
        (b"[[{\"sku\":\"A\",\"quantity\":1}],null".to_vec(), 400, "malformed", ""),
        (b"{}".to_vec(), 422, "validation_failed", "/items"),
        (b"{\"items\":[]}".to_vec(), 422, "validation_failed", "/items"),
        (json!({"items": many}).to_string().into_bytes(), 422, "validation_failed", "/items"),
        (b"{\"items\":\"A\"}".to_vec(), 422, "validation_failed", "/items"),
        (b"{\"items\":[{\"sku\":\"A\"}]}".to_vec(), 422, "validation_failed", "/items/0/quantity"),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":0}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":-1}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":1.5}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":\"1\"}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":null}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":1000000001}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":9223372036854775808}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":99999999999999999999999}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":1e999}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/quantity",
        ),
        (b"{\"items\":[{\"sku\":\"\",\"quantity\":1}]}".to_vec(), 422, "validation_failed", "/items/0/sku"),
        (b"{\"items\":[{\"sku\":\" A\",\"quantity\":1}]}".to_vec(), 422, "validation_failed", "/items/0/sku"),
        (
            b"{\"items\":[{\"sku\":\"A/B\",\"quantity\":1}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/sku",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":1,\"colour\":\"red\"}]}".to_vec(),
            422,
            "validation_failed",
            "/items/0/colour",
        ),
        (b"{\"items\":[{\"sku\":\"A\",\"quantity\":1}],\"x\":1}".to_vec(), 422, "validation_failed", "/x"),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":1}],\"ttl_s\":0}".to_vec(),
            422,
            "validation_failed",
            "/ttl_s",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":1}],\"ttl_s\":86401}".to_vec(),
            422,
            "validation_failed",
            "/ttl_s",
        ),
        (
            b"{\"items\":[{\"sku\":\"A\",\"quantity\":1}],\"partial\":\"yes\"}".to_vec(),
            422,
            "validation_failed",
            "/partial",
        ),
    ];
    for (body, status, code, pointer) in rows {
        let problem =
            shop.refused(post("/v1/reservations").fresh_key().body("application/json", &body), status, code);
        if !pointer.is_empty() {
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{}", String::from_utf8_lossy(&body));
        }
    }
    let thousands: Vec<_> = (0..10_000).map(|_| json!({"sku": "A", "quantity": 1})).collect();
    shop.refused(post("/v1/reservations").fresh_key().json(json!({"items": thousands})), 413, "too_large");
    assert_eq!(shop.stock_of("A"), before, "nothing changed");
}

#[test]
fn wrong_bodies_of_every_other_call_are_refused() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let cart = shop.cart(&[("A", 1)]);
    let cart_path = format!("/v1/carts/{}", cart.0);
    let long = "x".repeat(501);
    let rows = [
        (post("/v1/carts"), json!({"currency": "gbp"}), "/currency"),
        (post("/v1/carts"), json!({"items": [{"sku": "A", "quantity": 0}]}), "/items/0/quantity"),
        (post("/v1/carts"), json!({"items": {}}), "/items"),
        (post("/v1/carts"), json!({"colour": "red"}), "/colour"),
        (post(&format!("{cart_path}/lines")), json!({}), "/sku"),
        (post(&format!("{cart_path}/lines")), json!({"sku": "A"}), "/quantity"),
        (post(&format!("{cart_path}/lines")), json!({"sku": "A", "quantity": 1, "lines": []}), "/lines"),
        (post(&format!("{cart_path}/lines")), json!({"lines": []}), "/lines"),
        (
            post(&format!("{cart_path}/lines")),
            json!({"lines": [{"sku": "A", "quantity": -1}]}),
            "/lines/0/quantity",
        ),
        (super::harness::patch(&format!("{cart_path}/lines/1")), json!({"quantity": -1}), "/quantity"),
        (
            post(&format!("{cart_path}/checkout")),
            json!({"email": "ada", "payment": {"provider": "fake", "method": "ok"}}),
            "/email",
        ),
        (
            post(&format!("{cart_path}/checkout")),
            json!({"email": "a@b", "payment": {"provider": "gold", "method": "ok"}}),
            "/payment/provider",
        ),
        (
            post(&format!("{cart_path}/checkout")),
            json!({"email": "a@b", "payment": {"provider": "fake"}}),
            "/payment/method",
        ),
        (
            post(&format!("{cart_path}/checkout")),
            json!({"email": "a@b", "payment": {"provider": "fake", "method": ""}}),
            "/payment/method",
        ),
        (
            post(&format!("{cart_path}/checkout")),
            json!({"payment": {"provider": "fake", "method": "ok"}}),
            "/email",
        ),
        (
            post(&format!("{cart_path}/checkout")),
            json!({"email": "a@b", "payment": {"provider": "fake", "method": "ok"}, "expected_total": 5}),
            "/expected_total",
        ),
        (put("/v1/admin/skus/B"), json!({"name": "", "price": {"amount": 1, "currency": "GBP"}}), "/name"),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "x".repeat(201), "price": {"amount": 1, "currency": "GBP"}}),
            "/name",
        ),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "B", "price": {"amount": -1, "currency": "GBP"}}),
            "/price/amount",
        ),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "B", "price": {"amount": 1, "currency": "XXY"}}),
            "/price/currency",
        ),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "B", "price": {"amount": 1.5, "currency": "GBP"}}),
            "/price/amount",
        ),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "B", "price": {"amount": 1, "currency": "GBP"}, "on_hand": -1}),
            "/on_hand",
        ),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "B", "price": {"amount": 1, "currency": "GBP"}, "oversell": {"policy": "maybe"}}),
            "/oversell/policy",
        ),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "B", "price": {"amount": 1, "currency": "GBP"}, "oversell": {"policy": "deny", "limit": 1}}),
            "/oversell/limit",
        ),
        (
            put("/v1/admin/skus/B"),
            json!({"name": "B", "price": {"amount": 1, "currency": "GBP"}, "reservation_ttl_s": 0}),
            "/reservation_ttl_s",
        ),
        (put("/v1/admin/skus/%20B"), json!({"name": "B", "price": {"amount": 1, "currency": "GBP"}}), "/sku"),
        (post("/v1/admin/skus/A/adjustments"), json!({"delta": 0, "reason": "x"}), "/delta"),
        (post("/v1/admin/skus/A/adjustments"), json!({"delta": 1, "reason": ""}), "/reason"),
        (post("/v1/admin/skus/A/adjustments"), json!({"delta": 1, "reason": long}), "/reason"),
        (
            post("/v1/admin/skus/A/adjustments"),
            json!({"delta": 1_000_000_000_001_i64, "reason": "x"}),
            "/delta",
        ),
        (
            put("/v1/admin/skus/A/stock").header("If-Match", "\"1\""),
            json!({"on_hand": -1, "reason": "x"}),
            "/on_hand",
        ),
    ];
    for (request, body, pointer) in rows {
        let line = body.to_string();
        let problem =
            shop.refused(request.admin().token(&cart.1).fresh_key().json(body), 422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{line}: {problem}");
    }
    assert_eq!(shop.stock_of("A")["version"], 1, "nothing changed");
    shop.refused(get("/v1/skus/B"), 404, "not_found");
}

#[test]
fn every_wrong_field_is_told_at_once() {
    let shop = Shop::open();
    let body = json!({"items": [{"sku": " ", "quantity": 1}, {"sku": "A", "quantity": 0}], "ttl_s": 0});
    let problem = shop.refused(post("/v1/reservations").fresh_key().json(body), 422, "validation_failed");
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/items/0/sku", "/items/1/quantity", "/ttl_s"]);
}

#[test]
fn only_json_is_read_as_json() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let body = br#"{"items":[{"sku":"A","quantity":1}]}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml"] {
        shop.refused(post("/v1/reservations").fresh_key().body(kind, body), 415, "unsupported_media_type");
    }
    let packed = post("/v1/reservations")
        .fresh_key()
        .body("application/json", body)
        .header("Content-Encoding", "gzip");
    shop.refused(packed, 415, "unsupported_media_type");
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.shop+json"] {
        assert_eq!(shop.send(post("/v1/reservations").fresh_key().body(kind, body)).status, 201, "{kind}");
    }
}

#[test]
fn an_oversize_body_is_refused_before_it_is_read() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let announced = post("/v1/reservations")
        .fresh_key()
        .header("Content-Type", "application/json")
        .header("Content-Length", "65537");
    shop.refused(announced, 413, "too_large");
    let padded = format!("{{\"items\":[{{\"sku\":\"A\",\"quantity\":1}}]{}}}", " ".repeat(70_000));
    shop.refused(
        post("/v1/reservations").fresh_key().body("application/json", padded.as_bytes()),
        413,
        "too_large",
    );
    // Without an announced length the bytes are counted as they come.
    let mut connection = shop.connect();
    connection.write(b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIdempotency-Key: c\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    for _ in 0..3 {
        connection.write(chunk.as_bytes());
    }
    check_problem("chunked", &connection.read(), 413, "too_large");
    assert_eq!(shop.stock_of("A")["reserved"], 0);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let mut connection = shop.connect();
    connection.write(b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIdempotency-Key: s\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"items\"");
    let answer = connection.read();
    check_problem("slow body", &answer, 408, "deadline_exceeded");
    let mut connection = shop.connect();
    connection.write(b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\n");
    std::thread::sleep(Duration::from_millis(50));
    connection.write(b"Idempotency-Key: t\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n{\"items\":[{\"sku\":\"A\",");
    std::thread::sleep(Duration::from_millis(50));
    connection.write(b"\"quantity\":1}]}");
    let answer = connection.read();
    assert_eq!(answer.status, 201, "slow but in time: {}", answer.text());
}

#[test]
fn a_request_that_is_no_http_is_closed_and_the_next_is_served() {
    let shop = Shop::open();
    for nonsense in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let mut connection = shop.connect();
        connection.write(nonsense);
    }
    let mut huge = shop.connect();
    let mut head = b"GET /livez HTTP/1.1\r\nHost: x\r\n".to_vec();
    head.extend_from_slice(format!("X-Padding: {}\r\n\r\n", "x".repeat(200_000)).as_bytes());
    huge.write(&head);
    assert_eq!(shop.send(get("/livez")).status, 200);
}

#[test]
fn strange_paths_are_not_found_and_never_a_failure() {
    let shop = Shop::open();
    for path in [
        "/v1/skus/%00",
        "/v1/skus/%ff",
        "/v1/skus/%2F",
        "/v1/skus/..%2f..%2fetc",
        "/v1/skus/%20A",
        "/v1/skus/A%",
        "/v1/reservations/%F0%9F%92%A9",
    ] {
        shop.refused(get(path), 404, "not_found");
    }
}

#[test]
fn a_refused_request_leaves_its_connection_usable() {
    let shop = Shop::open();
    let mut connection = shop.connect();
    for (request, status) in [
        (post("/v1/reservations").json(json!({"items": []})), 400),
        (post("/livez").json(json!({"a": 1})), 405),
        (post("/nowhere").json(json!({"a": 1})), 404),
        (put("/v1/admin/skus/A").fresh_key().json(json!({"a": 1})), 401),
        (post("/v1/reservations").fresh_key().json(json!({"items": []})), 422),
    ] {
        let answer = connection.send(request);
        assert_eq!((answer.status, answer.header("connection")), (status, None), "{}", answer.text());
    }
    assert_eq!(connection.send(get("/livez")).status, 200);
}
