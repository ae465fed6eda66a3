//! The demo shop: absent unless asked for, bounded where it is there, and never a second buyer for one unit.

use std::time::Duration;

use doorbuster_http::demo::DemoOptions;
use doorbuster_http::door::DoorOptions;
use serde_json::{Value, json};

use super::harness::{Request, Shop, eventually, get, head, post, put};

const FILES: [&str; 7] = [
    "/demo",
    "/demo/demo.css",
    "/demo/demo.js",
    "/demo/calls.js",
    "/demo/stream.js",
    "/demo/view.js",
    "/demo/icon.svg",
];

/// With a demo shop whose crowds come within this time.
fn with_demo(crowd_lasts: Duration) -> impl FnOnce(&mut DoorOptions) {
    move |options| options.demo = Some(DemoOptions { crowd_lasts })
}

fn open(crowd_lasts: Duration) -> Shop {
    Shop::open_with(|_| {}, with_demo(crowd_lasts))
}

fn state(shop: &Shop) -> Value {
    shop.expect(get("/demo/state"), 200)
}

/// Announces a drop and waits until it is open; its SKU.
fn drop_of(shop: &Shop, units: i64) -> String {
    let drop = shop.expect(post("/demo/drops").json(json!({"units": units, "opens_in_s": 1})), 201);
    eventually("the opening", || (state(shop)["drop"]["open"] == true).then_some(()));
    drop["sku"].as_str().unwrap().to_owned()
}

fn crowd_of(shop: &Shop, shoppers: u32) -> Value {
    shop.expect(post("/demo/shoppers").json(json!({"shoppers": shoppers})), 202);
    eventually("the end of the crowd", || {
        let crowd = state(shop)["crowd"].clone();
        (crowd["running"] == false).then_some(crowd)
    })
}

fn reserve(sku: &str) -> Request {
    post("/v1/reservations").fresh_key().json(json!({"items": [{"sku": sku, "quantity": 1}]}))
}

#[test]
fn without_being_asked_for_there_is_no_demo_shop() {
    let shop = Shop::open();
    for path in FILES.into_iter().chain(["/demo/state"]) {
        shop.refused(get(path), 404, "not_found");
    }
    for (path, body) in
        [("/demo/drops", json!({})), ("/demo/duels", json!({})), ("/demo/shoppers", json!({"shoppers": 1}))]
    {
        shop.refused(post(path).json(body), 404, "not_found");
    }
    let listed = shop.expect(get("/v1/skus"), 200);
    assert_eq!(listed["data"], json!([]), "nothing was made");
}

#[test]
fn the_page_runs_nothing_but_its_own_files() {
    let shop = open(Duration::ZERO);
    for path in FILES {
        let answer = shop.send(get(path));
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        assert!(answer.header("request-id").is_some(), "{path}");
        let tag = answer.header("etag").unwrap().to_owned();
        let again = shop.send(get(path).header("If-None-Match", &tag));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let other = shop.send(get(path).header("If-None-Match", "\"other\""));
        assert_eq!((other.status, &other.body), (200, &answer.body), "{path}");
        let top = shop.connect().send_for_head(head(path));
        assert_eq!((top.status, top.header("etag")), (200, Some(&*tag)), "{path}");
        let wrong = shop.send(put(path).json(json!({})));
        assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")), "{path}");
        for inline in [" style=", "<style", "<script>", " onclick=", "javascript:", "https://"] {
            assert!(!answer.text().contains(inline), "{path} has {inline:?}, which its policy forbids");
        }
    }
    let page = shop.send(get("/demo")).text();
    for path in ["/demo/demo.css", "/demo/demo.js", "/demo/icon.svg"] {
        assert!(page.contains(path), "the page names {path}");
    }
}

#[test]
fn the_stage_is_bounded_and_says_what_is_wrong() {
    let shop = open(Duration::from_secs(2));
    let check = |label: &str, path: &str, body: Value, status: u16, code: &str| {
        let problem = shop.refused(post(path).json(body), status, code);
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{label}");
    };
    check("no drop to storm", "/demo/shoppers", json!({"shoppers": 1}), 409, "illegal_transition");
    check("nobody", "/demo/shoppers", json!({"shoppers": 0}), 422, "validation_failed");
    check("too many", "/demo/shoppers", json!({"shoppers": 5_001}), 422, "validation_failed");
    check("less than nobody", "/demo/shoppers", json!({"shoppers": -1}), 422, "validation_failed");
    check("no number", "/demo/shoppers", json!({}), 422, "validation_failed");
    check("no units", "/demo/drops", json!({"units": 0}), 422, "validation_failed");
    check("too many units", "/demo/drops", json!({"units": 10_001}), 422, "validation_failed");
    check("no countdown", "/demo/drops", json!({"opens_in_s": 0}), 422, "validation_failed");
    check("too long a countdown", "/demo/drops", json!({"opens_in_s": 61}), 422, "validation_failed");
    check("an unknown field", "/demo/duels", json!({"units": 2}), 422, "validation_failed");
    let unsaid = post("/demo/duels").header("Content-Length", "0");
    shop.refused(unsaid, 415, "unsupported_media_type");
    let text = post("/demo/duels").body("text/plain", b"{}");
    shop.refused(text, 415, "unsupported_media_type");
    let long = post("/demo/duels").body("application/json", &[b' '; 2_000]);
    shop.refused(long, 413, "too_large");

    drop_of(&shop, 5);
    shop.expect(post("/demo/shoppers").json(json!({"shoppers": 80})), 202);
    check("a crowd beside a crowd", "/demo/shoppers", json!({"shoppers": 1}), 409, "illegal_transition");
    check("a drop under a crowd", "/demo/drops", json!({}), 409, "illegal_transition");
}

#[test]
fn a_drop_has_nothing_to_sell_before_it_opens() {
    let shop = open(Duration::ZERO);
    assert_eq!(state(&shop)["drop"], Value::Null);
    let drop = shop.expect(post("/demo/drops").json(json!({"units": 3, "opens_in_s": 2})), 201);
    assert_eq!(
        (&drop["sku"], &drop["units"], &drop["open"]),
        (&json!("DROP-00001"), &json!(3), &json!(false))
    );
    assert!((1..=2_000).contains(&drop["opens_in_ms"].as_u64().unwrap()), "{drop}");
    shop.refused(reserve("DROP-00001"), 409, "insufficient_stock");
    shop.refused(post("/demo/drops").json(json!({})), 409, "illegal_transition");
    shop.refused(post("/demo/shoppers").json(json!({"shoppers": 1})), 409, "illegal_transition");
    eventually("the opening", || (state(&shop)["drop"]["open"] == true).then_some(()));
    for _ in 0..3 {
        shop.expect(reserve("DROP-00001"), 201);
    }
    shop.refused(reserve("DROP-00001"), 409, "insufficient_stock");
    let stock = shop.stock_of("DROP-00001");
    assert_eq!((&stock["received"], &stock["reserved"]), (&json!(3), &json!(3)));
}

#[test]
fn a_drop_is_found_again_after_a_restart_and_opens_once() {
    let shop = open(Duration::ZERO);
    let first = drop_of(&shop, 7);
    shop.expect(reserve(&first), 201);
    let shop = shop.reopened_with(with_demo(Duration::ZERO));
    let found = state(&shop)["drop"].clone();
    assert_eq!((&found["sku"], &found["units"], &found["open"]), (&json!(first), &json!(7), &json!(true)));
    assert_eq!(found["books"]["received"], 7, "it was not opened twice: {found}");
    assert_eq!(found["books"]["reserved"], 1, "{found}");

    // One whose process ends before its time opens as soon as somebody looks.
    shop.expect(post("/demo/drops").json(json!({"units": 200, "opens_in_s": 60})), 201);
    let shop = shop.reopened_with(with_demo(Duration::ZERO));
    for _ in 0..2 {
        let late = state(&shop)["drop"].clone();
        assert_eq!((&late["sku"], &late["open"]), (&json!("DROP-00002"), &json!(true)), "{late}");
        assert_eq!(late["books"]["received"], 200, "{late}");
    }
}

#[test]
fn a_crowd_buys_what_there_is_and_no_unit_twice() {
    let shop = open(Duration::ZERO);
    let check = |label: &str, units: i64, shoppers: u32, sold_out: bool| {
        let sku = drop_of(&shop, units);
        let crowd = crowd_of(&shop, shoppers);
        let figure = |name: &str| crowd[name].as_i64().unwrap();
        assert_eq!(figure("arrived"), i64::from(shoppers), "{label}: {crowd}");
        let told = figure("bought") + figure("sold_out") + figure("given_back") + figure("unanswered");
        assert_eq!(told, i64::from(shoppers), "{label}: everybody was told something: {crowd}");
        assert_eq!(figure("unanswered"), 0, "{label}: {crowd}");
        assert_eq!(figure("doubled"), 0, "{label}: {crowd}");
        assert!(figure("repeated") > 0 && figure("given_back") > 0, "{label}: all habits: {crowd}");
        assert_eq!(figure("sold_out") > 0, sold_out, "{label}: {crowd}");
        assert_eq!(crowd["sound"], true, "{label}: {crowd}");
        let stock = shop.stock_of(&sku);
        assert_eq!(stock["sold"], crowd["bought"], "{label}: {stock}");
        assert_eq!(stock["received"], units, "{label}: {stock}");
        assert_eq!(stock["reserved"], 0, "{label}: {stock}");
        assert!(stock["sold"].as_i64().unwrap() <= units, "{label}: {stock}");
    };
    check("more shoppers than units", 50, 800, true);
    check("more units than shoppers", 400, 60, false);
}

#[test]
fn a_duel_has_one_unit_whoever_came_before() {
    let shop = open(Duration::ZERO);
    let duel = || {
        let duel = shop.expect(post("/demo/duels").json(json!({})), 201);
        assert_eq!((&duel["sku"], &duel["units"]), (&json!("LAST-ONE"), &json!(1)));
    };
    duel();
    duel();
    for _ in 0..3 {
        duel();
        let held = shop.expect(reserve("LAST-ONE"), 201);
        shop.refused(reserve("LAST-ONE"), 409, "insufficient_stock");
        duel();
        // Given back, it would be a second one.
        let path = format!("/v1/reservations/{}", held["id"].as_str().unwrap());
        shop.expect(super::harness::delete(&path).fresh_key(), 200);
        duel();
        shop.expect(reserve("LAST-ONE"), 201);
        shop.refused(reserve("LAST-ONE"), 409, "insufficient_stock");
    }
}
