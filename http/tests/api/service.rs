//! Health, version, metrics, pages, and what every reply has.

use super::harness::{Shop, check_problem, delete, get, post, put};

#[test]
fn whoever_runs_the_engine_sees_how_it_is() {
    let shop = Shop::open();
    assert_eq!(shop.expect(get("/livez"), 200)["status"], "ok");
    assert_eq!(shop.expect(get("/readyz"), 200)["status"], "ok");
    let version = shop.expect(get("/version"), 200);
    assert_eq!(version["durability"], "local");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    shop.refused(get("/metrics"), 401, "unauthenticated");
    let page = shop.send(get("/metrics").admin());
    assert_eq!(page.status, 200);
    assert!(
        page.text().contains("doorbuster_http_requests_total{route=\"/livez\",method=\"GET\",code=\"200\"}")
    );
}

#[test]
fn pages_for_reading_need_nothing_from_elsewhere() {
    let shop = Shop::open();
    let docs = shop.send(get("/docs"));
    assert_eq!((docs.status, docs.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = docs.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = docs.text();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("__NONCE__"));
    assert_eq!(shop.expect(get("/openapi.json"), 200)["openapi"], "3.1.0");
    for code in doorbuster_http::problem::Code::ALL {
        let page = shop.send(get(&code.page()));
        assert_eq!(page.status, 200, "{code:?}");
        assert!(page.text().contains(code.wire()), "{code:?}");
    }
    shop.refused(get("/problems/nonsense"), 404, "not_found");
}

#[test]
fn what_no_route_takes_is_a_problem_too() {
    let shop = Shop::open();
    shop.refused(get("/"), 404, "not_found");
    shop.refused(get("/v1/nothing"), 404, "not_found");
    shop.refused(post("/v1/reservations/x/y/z"), 404, "not_found");
    for (request, allow) in [
        (put("/v1/reservations"), "POST"),
        (get("/v1/reservations"), "POST"),
        (post("/v1/skus/A"), "GET, HEAD"),
        (put("/v1/reservations/res_x"), "GET, HEAD, PATCH, DELETE"),
        (delete("/v1/carts/cart_x/checkout"), "POST"),
    ] {
        let answer = shop.send(request);
        check_problem(allow, &answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allow));
    }
}

#[test]
fn every_reply_has_a_request_id_and_may_not_be_sniffed() {
    let shop = Shop::open();
    for path in ["/livez", "/nothing", "/docs", "/v1/skus"] {
        let answer = shop.send(get(path));
        assert!(answer.header("request-id").is_some_and(|id| id.len() >= 16), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let given = shop.send(get("/livez").header("Request-Id", "order-17.retry:2"));
    assert_eq!(given.header("request-id"), Some("order-17.retry:2"));
    for strange in ["has space", "<script>", &"x".repeat(129)] {
        let answer = shop.send(get("/livez").header("Request-Id", strange));
        assert_ne!(answer.header("request-id"), Some(strange));
    }
}

#[test]
fn a_browser_of_an_allowed_origin_may_call_and_no_other() {
    let shop = Shop::open();
    let allowed = shop.send(get("/v1/skus").header("Origin", "https://shop.example"));
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://shop.example"));
    let strange = shop.send(get("/v1/skus").header("Origin", "https://evil.example"));
    assert_eq!(strange.header("access-control-allow-origin"), None);
}

#[test]
fn a_wrong_admin_key_is_refused_everywhere() {
    let shop = Shop::open();
    for path in ["/v1/admin/orders", "/v1/admin/actors", "/v1/admin/skus/A/stock", "/metrics"] {
        let answer = shop.send(get(path));
        check_problem(path, &answer, 401, "unauthenticated");
        assert!(answer.header("www-authenticate").is_some(), "{path}");
        for key in ["Bearer wrong", "Bearer ", "Basic dGVzdA==", "test-admin-key"] {
            shop.refused(get(path).header("Authorization", key), 401, "unauthenticated");
        }
    }
    assert_eq!(
        shop.send(get("/v1/admin/orders").header("Authorization", "bearer test-admin-key")).status,
        200
    );
}
