//! Live streams over a real socket: law 11 for whoever does not read, nothing lost and nothing twice for whoever does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use doorbuster_http::LiveOptions;
use serde_json::{Value, json};

use crate::api::harness::{Request, Shop, delete, eventually, get, head, patch, post, put};

/// An event as it came.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

/// A stream being read.
struct Watch {
    reader: BufReader<TcpStream>,
    status: u16,
    head: String,
    text: String,
    comments: usize,
}

impl Watch {
    fn open(shop: &Shop, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::on(TcpStream::connect(shop.address()).unwrap(), path, headers)
    }

    fn on(stream: TcpStream, path: &str, headers: &[(&str, &str)]) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut reader = BufReader::new(stream);
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            request.extend([*name, ": ", *value, "\r\n"]);
        }
        reader.get_mut().write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "no head: {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { reader, status, head: head.to_ascii_lowercase(), text: String::new(), comments: 0 }
    }

    /// One more chunk; `None` at the end, or when nothing came in `patience`.
    fn chunk(&mut self, patience: Duration) -> Option<()> {
        self.reader.get_ref().set_read_timeout(Some(patience)).unwrap();
        let mut size = String::new();
        self.reader.read_line(&mut size).ok().filter(|count| *count > 0)?;
        let length = usize::from_str_radix(size.trim(), 16).unwrap();
        self.reader.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        self.text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        (length > 0).then_some(())
    }

    /// The next event, if one comes in time.
    fn within(&mut self, patience: Duration) -> Option<Event> {
        let until = Instant::now() + patience;
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    block
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(|value| value.trim().to_owned())
                };
                if let Some(data) = field("data:") {
                    let name = field("event:").unwrap();
                    return Some(Event {
                        name,
                        id: field("id:"),
                        data: serde_json::from_str(&data).unwrap(),
                    });
                }
                self.comments += usize::from(block.starts_with(':'));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.chunk(left)?;
        }
    }

    fn next(&mut self) -> Event {
        self.within(Duration::from_secs(10)).expect("an event comes")
    }

    fn stays_quiet(&mut self) {
        let came = self.within(Duration::from_millis(400));
        assert_eq!(came, None, "nothing new is told");
    }
}

fn reserve(shop: &Shop, sku: &str) {
    let body = json!({"items": [{"sku": sku, "quantity": 1}]});
    shop.expect(post("/v1/reservations").fresh_key().json(body), 201);
}

fn availability(shop: &Shop, sku: &str) -> Value {
    shop.expect(get(&format!("/v1/skus/{sku}/availability")), 200)
}

fn quantity(cart: &(String, String), quantity: i64) -> Request {
    let path = format!("/v1/carts/{}/lines/1", cart.0);
    patch(&path).token(&cart.1).fresh_key().json(json!({"quantity": quantity}))
}

fn cart_path(cart: &(String, String)) -> String {
    format!("/v1/streams/carts/{}", cart.0)
}

#[test]
fn a_hot_sku_is_told_ten_times_a_second_at_most_and_its_last_state_always() {
    let shop = Shop::open();
    shop.stock("TEE", 1_000);
    shop.stock("MUG", 5);
    let mut watch = Watch::open(&shop, "/v1/streams/skus?sku=TEE&sku=MUG&sku=TEE", &[]);
    assert_eq!(watch.status, 200);
    for header in ["content-type: text/event-stream", "content-encoding: identity", "cache-control: no-store"]
    {
        assert!(watch.head.contains(header), "{}", watch.head);
    }
    let begins = [watch.next(), watch.next()];
    assert_eq!(begins.clone().map(|event| event.data["sku"].as_str().unwrap().to_owned()), ["TEE", "MUG"]);
    assert!(begins[0].id.is_none() && begins[1].id.is_some(), "only the last of a round says where to go on");
    let began = Instant::now();
    let mut connection = shop.connect();
    for _ in 0..300 {
        let body = json!({"items": [{"sku": "TEE", "quantity": 1}]});
        assert_eq!(connection.send(post("/v1/reservations").fresh_key().json(body)).status, 201);
    }
    let mut seen: Vec<Event> = vec![];
    while seen.last().is_none_or(|event| event.data["sellable"] != 700) {
        seen.push(watch.next());
    }
    let most = began.elapsed().as_millis() / 100 + 2;
    assert!(seen.len() as u128 <= most, "{} events, {most} at most", seen.len());
    let versions: Vec<u64> = seen.iter().map(|event| event.data["version"].as_u64().unwrap()).collect();
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
    assert_eq!(seen.last().unwrap().data, availability(&shop, "TEE"));
    watch.stays_quiet();
}

#[test]
fn a_sku_stream_goes_on_where_it_ended() {
    let shop = Shop::open();
    shop.stock("TEE", 10);
    shop.stock("MUG", 10);
    let path = "/v1/streams/skus?sku=TEE&sku=MUG";
    let mut watch = Watch::open(&shop, path, &[]);
    watch.next();
    let id = watch.next().id.unwrap();
    drop(watch);
    let mut again = Watch::open(&shop, path, &[("Last-Event-ID", &id)]);
    again.stays_quiet();
    reserve(&shop, "MUG");
    let told = again.next();
    assert_eq!((&told.data["sku"], &told.data["sellable"]), (&json!("MUG"), &json!(9)));
    drop(again);
    // What happened while nobody watched is told at once, and only that.
    reserve(&shop, "TEE");
    reserve(&shop, "TEE");
    let mut again = Watch::open(&shop, path, &[("Last-Event-ID", &told.id.unwrap())]);
    assert_eq!(again.next().data, availability(&shop, "TEE"));
    again.stays_quiet();
    // Nonsense, and what another life of the engine said, begin with the present.
    for strange in ["", "nonsense", "ffffffffffffffff", "0"] {
        let mut watch = Watch::open(&shop, path, &[("Last-Event-ID", strange)]);
        assert_eq!([watch.next(), watch.next()].map(|event| event.name), ["availability", "availability"]);
    }
}

#[test]
fn a_cart_is_told_whole_after_each_change_in_order_without_a_gap() {
    let shop = Shop::open();
    shop.stock("TEE", 1_000);
    let cart = shop.cart(&[("TEE", 1)]);
    let token = [("Cart-Token", cart.1.as_str())];
    let mut watches: Vec<Watch> = (0..3).map(|_| Watch::open(&shop, &cart_path(&cart), &token)).collect();
    for version in 1..=20 {
        if version > 1 {
            shop.expect(quantity(&cart, version), 200);
        }
        let now = shop.expect(get(&format!("/v1/carts/{}", cart.0)).token(&cart.1), 200);
        for watch in &mut watches {
            let told = watch.next();
            assert_eq!((told.name.as_str(), told.id), ("cart", Some(version.to_string())));
            assert_eq!(told.data, now, "the very cart");
        }
    }
    // Whoever has seen version 20 has seen it all; whoever has seen 18 is told the present.
    let with = |id: &str| Watch::open(&shop, &cart_path(&cart), &[token[0], ("Last-Event-ID", id)]);
    with("20").stays_quiet();
    let mut late = with("18");
    assert_eq!(late.next().id.unwrap(), "20");
    let mut present = with("20");
    shop.expect(quantity(&cart, 5), 200);
    assert_eq!([late.next(), present.next()].map(|event| event.id.unwrap()), ["21", "21"]);
    assert_eq!(shop.send(delete(&format!("/v1/carts/{}", cart.0)).token(&cart.1).fresh_key()).status, 204);
    let end = late.next();
    assert_eq!((end.name.as_str(), &end.data), ("end", &json!({"reason": "cart_deleted"})));
    assert_eq!(late.within(Duration::from_secs(5)), None);
    assert_eq!(late.chunk(Duration::from_secs(5)), None, "and the connection is done");
    shop.refused(get(&cart_path(&cart)).token(&cart.1), 410, "cart_expired");
}

/// Ends the changes however the test does.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whoever_begins_to_watch_amid_changes_misses_none() {
    let shop = Shop::open();
    shop.stock("TEE", 1_000);
    let cart = shop.cart(&[("TEE", 1)]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&done);
        scope.spawn(|| {
            let mut connection = shop.connect();
            let mut version = 1;
            while !done.load(Ordering::Relaxed) {
                version += 1;
                assert_eq!(connection.send(quantity(&cart, version)).status, 200);
            }
        });
        for _ in 0..60 {
            let mut watch = Watch::open(&shop, &cart_path(&cart), &[("Cart-Token", &cart.1)]);
            let mut last = None;
            for _ in 0..6 {
                let told = watch.next();
                let version: i64 = told.id.unwrap().parse().unwrap();
                assert!(last.is_none_or(|last| version == last + 1), "{version} after {last:?}");
                assert_eq!(told.data["lines"][0]["quantity"], version, "the state of that very change");
                last = Some(version);
            }
        }
    });
}

#[test]
fn nobody_watches_what_is_not_theirs() {
    let shop = Shop::open();
    shop.stock("TEE", 10);
    let (cart, other) = (shop.cart(&[("TEE", 1)]), shop.cart(&[("TEE", 1)]));
    let order = shop.expect(Shop::checkout(&cart, "ok"), 201)["id"].as_str().unwrap().to_owned();
    let order = format!("/v1/streams/orders/{order}");
    shop.refused(get(&cart_path(&cart)), 404, "not_found");
    shop.refused(get(&cart_path(&cart)).token(&other.1), 404, "not_found");
    shop.refused(get(&order), 404, "not_found");
    shop.refused(get(&order).token(&other.1), 404, "not_found");
    shop.refused(get("/v1/streams/orders/ord_0").admin(), 404, "not_found");
    shop.refused(get("/v1/streams/skus"), 422, "validation_failed");
    shop.refused(get("/v1/streams/skus?sku=NONE"), 404, "not_found");
    shop.refused(get("/v1/streams/skus?sku=%20"), 422, "validation_failed");
    let many: Vec<String> = (0..101).map(|n| format!("sku=S{n}")).collect();
    shop.refused(get(&format!("/v1/streams/skus?{}", many.join("&"))), 422, "validation_failed");
    // Whoever asks for the head alone gets it, and no stream.
    for (request, status) in [
        (head("/v1/streams/skus?sku=TEE"), 200),
        (head(&cart_path(&cart)).token(&cart.1), 200),
        (head(&order).admin(), 200),
        (head(&order), 404),
    ] {
        assert_eq!(shop.connect().send_for_head(request).status, status);
    }
}

#[test]
fn an_orders_steps_are_all_told_once_across_a_cut_and_a_restart() {
    let shop = Shop::open();
    shop.stock("TEE", 10);
    let cart = shop.cart(&[("TEE", 2)]);
    let told = shop.expect(Shop::checkout(&cart, "requires_action"), 202);
    let id = told["order"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/streams/orders/{id}");
    let mut steps: Vec<Value> = vec![];
    let mut read = |watch: &mut Watch, state: &str| {
        loop {
            let event = watch.next();
            assert_eq!(event.name, "order");
            steps.extend(event.data["changes"].as_array().unwrap().iter().cloned());
            assert_eq!(event.id, Some(event.data["order"]["version"].to_string()));
            if event.data["order"]["state"] == state {
                return event.id.unwrap();
            }
        }
    };
    let mut watch = Watch::open(&shop, &path, &[("Cart-Token", &cart.1)]);
    let last = read(&mut watch, "pending_payment");
    drop(watch);
    shop.expect(post(&format!("/v1/orders/{id}/confirm")).token(&cart.1).fresh_key(), 200);
    let admin = format!("Bearer {}", crate::api::harness::ADMIN_KEY);
    let again = [("Authorization", admin.as_str()), ("Last-Event-ID", last.as_str())];
    let mut last = read(&mut Watch::open(&shop, &path, &again), "paid");
    let shop = shop.reopened();
    let fulfil = post(&format!("/v1/admin/orders/{id}/fulfilments")).admin().fresh_key().json(json!({}));
    let mut watch = Watch::open(&shop, &path, &[again[0], ("Last-Event-ID", &last)]);
    shop.expect(fulfil, 201);
    last = read(&mut watch, "fulfilled");
    let timeline = shop.expect(get(&format!("/v1/orders/{id}/timeline")).admin(), 200);
    assert_eq!(json!(steps), timeline["data"], "every step, once, in order");
    assert_eq!(last.parse::<usize>().unwrap(), steps.len());
}

#[test]
fn a_drain_ends_streams_with_a_word_and_a_restart_goes_on() {
    let shop = Shop::open();
    shop.stock("TEE", 10);
    let cart = shop.cart(&[("TEE", 2)]);
    let token = ("Cart-Token", cart.1.as_str());
    let mut skus = Watch::open(&shop, "/v1/streams/skus?sku=TEE", &[]);
    let mut watch = Watch::open(&shop, &cart_path(&cart), &[token]);
    let (id, frame) = (watch.next().id.unwrap(), skus.next().id.unwrap());
    let closing = std::thread::spawn(move || shop.reopened());
    for stream in [&mut watch, &mut skus] {
        let end = stream.next();
        assert_eq!((end.name.as_str(), &end.data["reason"]), ("end", &json!("draining")));
        assert_eq!(stream.chunk(Duration::from_secs(5)), None);
    }
    let shop = closing.join().unwrap();
    let mut again = Watch::open(&shop, &cart_path(&cart), &[token, ("Last-Event-ID", &id)]);
    again.stays_quiet();
    shop.expect(quantity(&cart, 7), 200);
    assert_eq!(again.next().data["lines"][0]["quantity"], 7);
    let mut skus = Watch::open(&shop, "/v1/streams/skus?sku=TEE", &[("Last-Event-ID", &frame)]);
    assert_eq!(skus.next().data["sellable"], 10);
}

/// A connection whose system takes in as little as it can.
fn narrow(shop: &Shop) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&shop.address().into()).unwrap();
    socket.into()
}

#[test]
fn a_reader_that_stands_still_is_let_go_and_told_why() {
    let shop = Shop::open_with(|_| {}, |door| door.live = LiveOptions { queue: 8, ..LiveOptions::default() });
    let names: Vec<String> = (0..200).map(|n| format!("SKU-{n}")).collect();
    for name in &names {
        shop.stock(name, 1);
    }
    let lines: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let cart = shop.cart(&lines);
    let token = [("Cart-Token", cart.1.as_str())];
    let mut slow = Watch::on(narrow(&shop), &cart_path(&cart), &token);
    let mut quick = Watch::open(&shop, &cart_path(&cart), &token);
    let mut connection = shop.connect();
    // Each event is some forty kilobytes; the kernel between takes a few megabytes.
    for version in 2..=250 {
        assert_eq!(connection.send(quantity(&cart, version)).status, 200);
        while quick.next().id.unwrap() != version.to_string() {}
    }
    let mut last = slow.next();
    let mut versions = 0;
    while last.name == "cart" {
        versions += 1;
        assert_eq!(last.id, Some(versions.to_string()), "no gap before the end");
        last = slow.next();
    }
    assert_eq!((last.name.as_str(), &last.data), ("end", &json!({"reason": "slow_reader"})));
    assert!(versions < 250, "it was let go on the way");
    // It comes again with what it has seen, and is told the present.
    let id = versions.to_string();
    let mut again = Watch::open(&shop, &cart_path(&cart), &[token[0], ("Last-Event-ID", &id)]);
    assert_eq!(again.next().id.unwrap(), "250");
}

#[test]
fn streams_are_counted_and_a_silent_one_beats() {
    let live =
        LiveOptions { streams_max: 2, heartbeat: Duration::from_millis(150), ..LiveOptions::default() };
    let shop = Shop::open_with(|_| {}, |door| door.live = live);
    shop.stock("TEE", 10);
    let path = "/v1/streams/skus?sku=TEE";
    let mut watches: Vec<Watch> = (0..2).map(|_| Watch::open(&shop, path, &[])).collect();
    shop.refused(get(path), 503, "overloaded");
    let began = Instant::now();
    for watch in &mut watches {
        watch.next();
        assert_eq!(watch.within(Duration::from_secs(1)), None);
        let most = began.elapsed().as_millis() / 150 + 2;
        assert!(
            watch.comments >= 3 && watch.comments as u128 <= most,
            "{} heartbeats, {most}",
            watch.comments
        );
    }
    drop(watches.pop());
    let mut third = eventually("a free place", || {
        let watch = Watch::open(&shop, path, &[]);
        (watch.status == 200).then_some(watch)
    });
    assert_eq!(third.next().data["sellable"], 10);
}

#[test]
fn many_watchers_of_one_sku_all_see_its_last_state() {
    let shop = Shop::open();
    shop.stock("TEE", 50);
    let mut watches: Vec<Watch> =
        (0..300).map(|_| Watch::open(&shop, "/v1/streams/skus?sku=TEE", &[])).collect();
    for _ in 0..50 {
        reserve(&shop, "TEE");
    }
    for watch in &mut watches {
        while watch.next().data["state"] != "sold_out" {}
    }
    let body = json!({"delta": 5, "reason": "delivery"});
    shop.expect(post("/v1/admin/skus/TEE/adjustments").admin().fresh_key().json(body), 200);
    for watch in &mut watches {
        assert_eq!(watch.next().data["sellable"], 5);
    }
    let rename = json!({"name": "Tee", "price": {"amount": 5, "currency": "GBP"}, "low_stock_at": 9});
    shop.expect(put("/v1/admin/skus/TEE").admin().fresh_key().json(rename), 200);
    assert_eq!(watches[7].next().data["state"], "low_stock");
}
