//! The whole surface under damage: heads, headers, queries and bodies of every route, over a socket.
//!
//! Whatever arrives, each answer is a documented one: never a 500, always problem+json with a code of the list, and
//! the engine serves the next request with the laws intact. What the HTTP parser itself refuses (400, 408 or 431 with
//! no body, and a closed connection) is documented in `docs/API.md`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use doorbuster_http::problem::Code;
use doorbuster_http::routes::table::{Body, Method, ROUTES};
use doorbuster_mutator::{Fuzz, Mutator, Reached};
use serde_json::Value;

use super::reading::BODIES;
use crate::api::harness::{ADMIN_KEY, Shop, get, put};

/// Everything a request is made of, so that each part can be damaged by itself.
struct Parts {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// What lives in the shop, for paths that find something.
struct Known {
    cart: (String, String),
    /// A cart that became an order.
    ordered: (String, String),
    order: String,
    reservation: String,
}

/// A shop with something of everything.
fn furnish(shop: &Shop) -> Known {
    shop.stock("TEE-M", 1_000_000);
    shop.stock("MUG 1", 3);
    let cart = shop.cart(&[("TEE-M", 1)]);
    let paid = shop.cart(&[("TEE-M", 2)]);
    let order = shop.send(Shop::checkout(&paid, "ok")).json();
    let body = serde_json::json!({"items": [{"sku": "TEE-M", "quantity": 1}]});
    let reservation = shop.expect(crate::api::harness::post("/v1/reservations").fresh_key().json(body), 201);
    Known {
        cart,
        ordered: paid,
        order: order["id"].as_str().unwrap().to_owned(),
        reservation: reservation["id"].as_str().unwrap().to_owned(),
    }
}

/// A request that meets a refusal which chance alone seldom finds.
fn pointed(mutator: &mut Mutator, known: &Known) -> Parts {
    let lines = format!("/v1/carts/{}/lines", known.cart.0);
    let priced = r#"{"sku": "TEE-M", "quantity": 1, "unit_price": {"amount": 1, "currency": "GBP"}}"#;
    let mut token = &known.cart.1;
    let (method, path, header, body) = match mutator.below(5) {
        0 => ("GET", "/v1/skus/TEE-M/availability".to_owned(), ("If-None-Match", "*"), ""),
        1 => (
            "POST",
            "/v1/reservations".to_owned(),
            ("Accept", "*/*"),
            r#"{"items": [{"sku": "MUG 1", "quantity": 4}]}"#,
        ),
        2 => ("PATCH", format!("{lines}/1"), ("If-Match", "\"999\""), r#"{"quantity": 1}"#),
        3 => ("POST", lines, ("Accept", "*/*"), priced),
        _ => {
            token = &known.ordered.1;
            let lines = format!("/v1/carts/{}/lines", known.ordered.0);
            ("POST", lines, ("Accept", "*/*"), r#"{"sku": "TEE-M", "quantity": 1}"#)
        }
    };
    let mut headers = vec![
        ("Idempotency-Key", format!("k{}", mutator.below(usize::MAX))),
        ("Cart-Token", token.clone()),
        (header.0, header.1.to_owned()),
    ];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json".to_owned()));
    }
    Parts { method, path, headers, body: body.as_bytes().to_vec() }
}

/// A sound request of some route.
fn request(mutator: &mut Mutator, known: &Known) -> Parts {
    if mutator.once_in(6) {
        return pointed(mutator, known);
    }
    let route = mutator.one(ROUTES);
    let id = match route.path.split('/').find(|part| ["reservations", "carts", "orders"].contains(part)) {
        Some("reservations") => &known.reservation,
        Some("carts") => &known.cart.0,
        _ => &known.order,
    };
    let mut path = route
        .path
        .replace("{id}", id)
        .replace("{line_id}", "1")
        .replace("{sku}", ["TEE-M", "MUG%201", "NOTHING", "NEW-1"][mutator.below(4)])
        .replace("{kind}", "sku")
        .replace("{key}", "TEE-M")
        .replace("{code}", "not-found");
    for (index, parameter) in route.query.iter().enumerate() {
        let value = mutator.one(&["TEE-M", "1", "true", "2026-11-27T09:00:00Z", "paid"]);
        path.push(if index == 0 { '?' } else { '&' });
        path.extend([parameter.name, "=", value]);
    }
    let key = ["k1", "k2", "fixed key", ""][mutator.below(4)];
    let key = if key.is_empty() { format!("k{}", mutator.below(usize::MAX)) } else { key.to_owned() };
    let mut headers = vec![("Idempotency-Key", key)];
    if mutator.once_in(2) {
        headers.push(("Authorization", format!("Bearer {ADMIN_KEY}")));
    }
    if !mutator.once_in(3) {
        headers.push(("Cart-Token", known.cart.1.clone()));
    }
    if mutator.once_in(4) {
        headers.push(("If-Match", format!("\"{}\"", mutator.below(4))));
    }
    if mutator.once_in(6) {
        headers.push(("If-None-Match", "W/\"1\", \"2\"".to_owned()));
    }
    if mutator.once_in(9) {
        headers.push(("Request-Id", "mine-1".to_owned()));
    }
    if mutator.once_in(12) {
        headers
            .push((*mutator.one(&["Accept", "Range", "Expect", "Content-Encoding"]), "bytes=0-1".to_owned()));
    }
    let kind = match route.body {
        Body::Stream(_) => *mutator.one(&["application/x-ndjson", "text/csv"]),
        Body::Unused | Body::Empty | Body::Json(_) | Body::Signed(_) => "application/json",
    };
    let reads = route.body != Body::Unused || mutator.once_in(8);
    let body = if reads { mutator.one(BODIES).as_bytes().to_vec() } else { Vec::new() };
    if !body.is_empty() {
        headers.push(("Content-Type", kind.to_owned()));
    }
    let method = match route.method {
        Method::Get | Method::Post | Method::Put | Method::Patch | Method::Delete => route.method.name(),
    };
    Parts { method, path, headers, body }
}

/// The request as bytes, some part of it damaged.
fn damaged(mutator: &mut Mutator, mut parts: Parts) -> Vec<u8> {
    let others: Vec<&[u8]> = BODIES.iter().map(|body| body.as_bytes()).collect();
    let mut path = std::mem::take(&mut parts.path).into_bytes();
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.clone().into_bytes()))
        .collect();
    let target = mutator.below(10);
    match target {
        0 => mutator.damage(&mut path, b"/v1/skus/../%2e%2e?limit=1&&x=%"),
        1 | 2 => {
            let at = mutator.below(headers.len());
            mutator.damage(&mut headers[at].1, b"\"1\", W/\"2\", *");
        }
        3 => {
            let at = mutator.below(headers.len());
            let header = headers[at].clone();
            if mutator.once_in(2) { headers.push(header) } else { drop(headers.remove(at)) }
        }
        4..=7 => {
            let other = *mutator.one(&others);
            mutator.damage(&mut parts.body, other);
        }
        8 if mutator.once_in(4) => parts.body = vec![b' '; 1_100_000],
        _ => {}
    }
    let method = if mutator.once_in(20) {
        *mutator.one(&["HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "DELETE", "PUT"])
    } else {
        parts.method
    };
    let mut out = format!("{method} ").into_bytes();
    out.extend_from_slice(&path);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in &headers {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if mutator.once_in(8) {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in parts.body.chunks(1 + mutator.below(40)) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
    } else {
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", parts.body.len()).as_bytes());
        out.extend_from_slice(&parts.body);
    }
    if target == 9 {
        mutator.damage(&mut out, b"GET / HTTP/1.1\r\nHost: y\r\nX: 1\r\n\r\n");
    }
    out
}

/// Sends bytes, says that no more will come, and takes all that comes back; of a live stream, which has no end, its begin.
fn exchange(shop: &Shop, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(shop.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
    // The other side may have refused and closed before the end.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    let ended = loop {
        match stream.read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                answer.extend_from_slice(&piece[..count]);
                if is_live(&answer) {
                    return answer;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = ended {
        let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]);
        // A body of a megabyte that its route never reads can outlive the answer: the library lingers on it.
        let lingers = error.kind() == ErrorKind::WouldBlock && !answer.is_empty() && bytes.len() > 1_000_000;
        assert!(
            lingers || error.kind() == ErrorKind::ConnectionReset,
            "{error}: the connection stays\n{sent}"
        );
    }
    answer
}

/// Whether the last answer that began is a live stream.
fn is_live(answers: &[u8]) -> bool {
    answers.windows(LIVE.len()).any(|window| window == LIVE)
}

/// The header of a live stream.
const LIVE: &[u8] = b"content-type: text/event-stream";

/// Checks every answer in `rest`; a broken-off one at the end is the reset of a connection that sent too much.
fn check_answers(sent: &str, mut rest: &[u8], reached: &mut Reached) {
    if rest.is_empty() {
        return reached.note("no answer");
    }
    while let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
        rest = &rest[end + 4..];
        let status: u16 = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned)
        };
        reached.note(format!("{status}"));
        if is_live(head.as_bytes()) {
            assert_eq!(status, 200, "{sent}");
            return reached.note("live");
        }
        let length: usize = field("content-length").map_or(0, |text| text.parse().unwrap());
        let Some((body, after)) = rest.split_at_checked(length) else {
            assert!(sent.contains("HEAD ") || rest.is_empty(), "a body broke off\n{sent}\n{head}");
            return;
        };
        // Of an answer to HEAD only the head comes.
        if sent.contains("HEAD ") && !rest.starts_with(b"{") {
            return;
        }
        rest = after;
        assert!(status < 500 || status == 503, "{status}\n{sent}\n{}", String::from_utf8_lossy(body));
        if status < 400 {
            continue;
        }
        if length == 0 && [400, 408, 431].contains(&status) {
            reached.note("no HTTP");
            continue;
        }
        assert_eq!(field("content-type").as_deref(), Some("application/problem+json"), "{status}\n{sent}");
        let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
        let code = Code::ALL.iter().find(|code| problem["code"] == code.wire());
        let code = code.unwrap_or_else(|| panic!("no documented code\n{sent}\n{problem}"));
        assert_eq!(problem["status"], status, "{problem}");
        reached.note(code.wire());
    }
}

#[test]
fn whatever_is_sent_the_answer_is_a_documented_one() {
    let shop = Shop::open();
    let known = furnish(&shop);
    let fuzz = Fuzz {
        name: "surface",
        part: 0.8,
        case_max: Duration::from_secs(20),
        wanted: &[
            "200",
            "201",
            "304",
            "no HTTP",
            "live",
            "malformed",
            "idempotency_key_missing",
            "unauthenticated",
            "forbidden",
            "not_found",
            "method_not_allowed",
            "insufficient_stock",
            "illegal_transition",
            "version_mismatch",
            "too_large",
            "unsupported_media_type",
            "validation_failed",
            "idempotency_key_reused",
            "precondition_required",
        ],
    };
    let mut cases = 0_u64;
    fuzz.run(|mutator, reached| {
        let parts = request(mutator, &known);
        let bytes = damaged(mutator, parts);
        let answer = exchange(&shop, &bytes);
        let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]).into_owned();
        check_answers(&sent, &answer, reached);
        cases += 1;
        if cases.is_multiple_of(64) {
            assert_eq!(shop.send(get("/readyz")).status, 200, "after\n{sent}");
            shop.stock_of("TEE-M");
        }
    });
    // The door is as it was: a fresh SKU is made and read.
    let body = serde_json::json!({"name": "N", "price": {"amount": 1, "currency": "GBP"}, "on_hand": 1});
    shop.expect(put("/v1/admin/skus/AFTERWARDS").admin().fresh_key().json(body), 201);
}
