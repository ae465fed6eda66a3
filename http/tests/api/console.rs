//! The live console: who may watch, what a look tells, how many may, what the page may do; and `doorbuster top`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{ADMIN_KEY, Shop, eventually, get, head, post};

const LIVE: &str = "/v1/admin/live";

/// A watcher of the stream.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    /// Opens the stream; its status and the watcher.
    fn open(shop: &Shop) -> (u16, Self) {
        let stream = TcpStream::connect(shop.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = BufReader::new(stream);
        let request = format!(
            "GET {LIVE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_KEY}\r\nAccept: text/event-stream\r\n\r\n"
        );
        reader.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "no head: {head:?}");
        }
        (head.split(' ').nth(1).unwrap().parse().unwrap(), Self(reader))
    }

    /// The data of the next event with this name.
    fn next(&mut self, name: &str) -> Value {
        let mut named = false;
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended before `{name}`");
            if let Some(event) = line.strip_prefix("event: ") {
                named = event.trim() == name;
            }
            if let (true, Some(data)) = (named, line.strip_prefix("data: ")) {
                return serde_json::from_str(data.trim()).unwrap();
            }
        }
    }

    fn ends(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
    }
}

fn once(shop: &Shop) -> Value {
    shop.expect(get("/v1/admin/live?once=true").admin(), 200)
}

fn sku<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let rows = snapshot["skus"]["data"].as_array().unwrap();
    rows.iter().find(|row| row["sku"] == name).unwrap_or_else(|| panic!("{name} is not shown: {snapshot:#}"))
}

#[test]
fn only_an_admin_watches() {
    let shop = Shop::open();
    for path in [LIVE, "/v1/admin/live?once=true"] {
        shop.refused(get(path), 401, "unauthenticated");
        shop.refused(get(path).header("Authorization", "Bearer wrong"), 401, "unauthenticated");
    }
    shop.refused(get("/v1/admin/live?once=yes").admin(), 422, "validation_failed");
    shop.refused(get("/v1/admin/live?everything=true").admin(), 422, "validation_failed");
    let answer = shop.connect().send_for_head(head(LIVE).admin());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
}

#[test]
fn a_look_tells_what_was_sold_asked_and_refused() {
    let shop = Shop::open();
    shop.priced("LIVE-1", 10, 1_999);
    let (status, mut watcher) = Watcher::open(&shop);
    assert_eq!(status, 200);
    let before = watcher.next("snapshot");
    let placed = |snapshot: &Value| snapshot["sale"]["orders_placed"].as_u64().unwrap();
    let cart = shop.cart(&[("LIVE-1", 2)]);
    shop.expect(Shop::checkout(&cart, "ok"), 201);
    let body = |quantity| json!({"items": [{"sku": "LIVE-1", "quantity": quantity}]});
    shop.expect(post("/v1/reservations").fresh_key().json(body(3)), 201);
    shop.refused(post("/v1/reservations").fresh_key().json(body(99)), 409, "insufficient_stock");

    let after = eventually("the sale is seen", || {
        let snapshot = watcher.next("snapshot");
        let row = sku(&snapshot, "LIVE-1");
        (row["sold"] == 2 && row["reserved"] == 3 && placed(&snapshot) > placed(&before)).then_some(snapshot)
    });
    let row = sku(&after, "LIVE-1");
    assert_eq!(
        (&row["received"], &row["on_hand"], &row["sellable"]),
        (&json!(10), &json!(8), &json!(5)),
        "{row}"
    );
    assert!(after["number"].as_u64() > before["number"].as_u64());
    // Other tests of this process sell too, so at least.
    let revenue = after["sale"]["revenue"].as_array().unwrap();
    let pounds = revenue.iter().find(|money| money["currency"] == "GBP").unwrap();
    assert!(pounds["amount"].as_i64().unwrap() >= 3_998, "{revenue:?}");
    let calls = after["traffic"]["calls"].as_array().unwrap();
    for call in ["reserve", "checkout", "other"] {
        let found = calls.iter().find(|row| row["call"] == call).unwrap();
        assert!(found["p99_us"].as_u64().unwrap() >= found["p50_us"].as_u64().unwrap(), "{found}");
    }
    let refusals = after["traffic"]["refusals"].as_array().unwrap();
    assert!(refusals.iter().any(|row| row["code"] == "insufficient_stock"), "{refusals:?}");
    assert_eq!(after["traffic"]["shed_percent"], 0.0, "sold out is no outage");
    assert_eq!(after["laws"]["ok"], true, "{}", after["laws"]);
    assert!(after["laws"]["checks"][1]["looked_at"].as_u64().unwrap() > 5, "{}", after["laws"]);
    let news = after["events"].as_array().unwrap();
    let order = news.iter().find(|event| event["text"] == "order placed, 39.98 GBP").unwrap();
    let path = format!("/v1/admin/actors/order/{}", order["actor"]["key"].as_str().unwrap());
    shop.expect(get(&path).admin(), 200);
    let actors = after["actors"]["data"].as_array().unwrap();
    assert!(actors.iter().any(|actor| actor["key"] == "LIVE-1"), "{actors:?}");
    assert_eq!(after["payments"][0]["name"], "fake");
    assert_eq!(after["followers"].as_array().unwrap().len(), 3);
    assert!(after["journal"]["claimable_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn all_watchers_are_told_of_the_same_look() {
    let shop = Shop::open();
    let (_, mut first) = Watcher::open(&shop);
    let (_, mut second) = Watcher::open(&shop);
    let told = first.next("snapshot");
    let same = eventually("both hear of one look", || {
        let other = second.next("snapshot");
        (other["number"] == told["number"]).then_some(other)
    });
    assert_eq!(told, same, "measured once, encoded once");
    assert_eq!(first.next("snapshot")["engine"]["watchers"], 2);
}

#[test]
fn one_look_is_json_by_query_or_by_accept() {
    let shop = Shop::open();
    let by_accept = shop.send(get(LIVE).admin().header("Accept", "application/json"));
    assert_eq!((by_accept.status, by_accept.header("content-type")), (200, Some("application/json")));
    let (first, second) = (by_accept.json(), once(&shop));
    assert!(
        second["number"].as_u64() >= first["number"].as_u64(),
        "a script that asks again finds figures warm"
    );
    assert!(first["window_ms"].as_u64().unwrap() > 0, "rates are over some time");
}

#[test]
fn watchers_are_bounded() {
    let shop = Shop::open();
    let mut watchers: Vec<Watcher> = Vec::new();
    for number in 0..64 {
        let (status, watcher) = Watcher::open(&shop);
        assert_eq!(status, 200, "{number}");
        watchers.push(watcher);
    }
    let (status, _) = Watcher::open(&shop);
    assert_eq!(status, 503);
    shop.refused(get("/v1/admin/live?once=true").admin(), 503, "overloaded");
    watchers.clear();
    eventually("there is room again", || (Watcher::open(&shop).0 == 200).then_some(()));
}

#[test]
fn a_drain_ends_the_watch() {
    let shop = Shop::open();
    let (_, mut watcher) = Watcher::open(&shop);
    watcher.next("snapshot");
    drop(shop);
    assert_eq!(watcher.next("end")["reason"], "draining");
    watcher.ends();
}

#[test]
fn the_page_comes_with_a_policy_that_forbids_everything_else() {
    let shop = Shop::open();
    for (path, kind, part) in [
        ("/console", "text/html; charset=utf-8", "<!doctype html>"),
        ("/console/console.css", "text/css; charset=utf-8", "color-scheme"),
        ("/console/console.js", "text/javascript; charset=utf-8", "/v1/admin/live"),
    ] {
        let answer = shop.send(get(path));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert!(answer.text().contains(part), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        for rule in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"]
        {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let tag = answer.header("etag").unwrap().to_owned();
        let again = shop.send(get(path).header("If-None-Match", &tag));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(shop.send(get(path).header("If-None-Match", "\"old\"")).status, 200, "{path}");
        assert!(!answer.text().contains(ADMIN_KEY), "the page holds no secret");
    }
}

#[test]
fn top_shows_one_look_and_says_what_to_do_where_it_cannot() {
    let shop = Shop::open();
    shop.stock("TOP-1", 25);
    let url = format!("http://{}", shop.address());
    let top = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorbuster"));
        command.env_remove("DOORBUSTER_ADMIN_KEY").env_remove("DOORBUSTER_URL");
        let output = command.args(["top", "--once"]).args(more).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, board, error) = top(&["--url", &url, "--admin-key", ADMIN_KEY]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for part in ["laws ok", "TOP-1", "orders/s", "JOURNAL", "fake answers", "projection"] {
        assert!(board.contains(part), "`{part}` is missing:\n{board}");
    }
    for (label, arguments, part) in [
        ("no key", vec!["--url", &url], "DOORBUSTER_ADMIN_KEY"),
        (
            "a wrong key",
            vec!["--url", &url, "--admin-key", "wrong-admin-key"],
            "admin_key of the data directory",
        ),
        (
            "nobody there",
            vec!["--url", "http://127.0.0.1:9", "--admin-key", ADMIN_KEY],
            "is the engine running there",
        ),
    ] {
        let (code, board, error) = top(&arguments);
        assert_eq!((code, board.as_str()), (Some(2), ""), "{label}");
        assert!(error.starts_with("doorbuster top: ") && error.contains(part), "{label}: {error}");
    }
}
