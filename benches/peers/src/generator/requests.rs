//! What is asked, and whether the answer is the one that was asked for.
//!
//! A request is bytes made beforehand, into which a key that nobody used before and the number of a SKU are written:
//! the generator shares the machine with the server, so what it spends on a request is taken from the server.

use memchr::memmem;

use super::wire::{self, Answer, Malformed};
use crate::plan::Row;

/// The SKU that has no unit left. As long as the others, so that requests are too.
pub(crate) const SOLD_OUT: &str = "SKU-ENDED";

/// How a SKU is called, in five digits.
pub(crate) fn sku(number: u32) -> String {
    format!("SKU-{number:05}")
}

/// Stands in a template where a key's own digits go.
const KEY: &str = "################";

/// Stands in a template where a SKU's number goes.
const NUMBER: &str = "@@@@@";

/// Asks on behalf of many connections, and judges what comes back.
pub(crate) trait Script {
    /// Writes the next request of a connection.
    fn ask(&mut self, connection: usize, out: &mut Vec<u8>);

    /// Finds the end of an answer.
    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Option<Answer<'a>>, Malformed>;

    /// What an answer is worth, in reservations (or in answers where nothing is reserved); `None` if it is not what was
    /// asked for.
    fn judge(&mut self, connection: usize, answer: &Answer<'_>) -> Option<u64>;
}

/// Bytes of a request with places for keys and SKU numbers.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    keys: Vec<usize>,
    numbers: Vec<usize>,
}

impl Template {
    fn new(text: &str) -> Self {
        let places = |mark: &str| memmem::find_iter(text.as_bytes(), mark.as_bytes()).collect();
        Self { keys: places(KEY), numbers: places(NUMBER), bytes: text.as_bytes().to_vec() }
    }

    /// Appends the request; `turn` counts requests and begins a fresh range of keys.
    fn write(&self, turn: u64, skus: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let out = &mut out[start..];
        for (index, at) in (0_u64..).zip(&self.keys) {
            write_hex(&mut out[*at..*at + KEY.len()], turn * self.keys.len() as u64 + index);
        }
        for (index, at) in (0_u64..).zip(&self.numbers) {
            let which = scattered(turn * self.numbers.len() as u64 + index, skus);
            write_decimal(&mut out[*at..*at + NUMBER.len()], which);
        }
    }
}

/// Goes through all SKUs in an order that jumps about: 7,919 is prime and divides no round number of SKUs.
fn scattered(turn: u64, skus: u32) -> u64 {
    turn.wrapping_mul(7_919) % u64::from(skus)
}

fn write_hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn write_decimal(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789"[(value % 10) as usize];
        value /= 10;
    }
}

/// A request with a body.
fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn key_header(session: u32) -> String {
    format!("Idempotency-Key: peers-{session:08x}-{KEY}\r\n")
}

fn item(sku: &str) -> String {
    format!(r#""items":[{{"sku":"{sku}","quantity":1}}],"ttl_s":600,"customer":"shopper-0123456789""#)
}

/// What a good answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// This status.
    Status(u16),
    /// A refusal because the SKU is sold out.
    SoldOut,
    /// A batch of which every reservation was granted.
    Batch(u64),
}

/// The same request again and again, with fresh keys.
#[derive(Clone, Debug)]
pub(crate) struct Repeated {
    template: Template,
    skus: u32,
    turn: u64,
    wanted: Wanted,
    is_redis: bool,
}

impl Repeated {
    /// The work of `row` over HTTP. `session` tells the keys of this run from those of others. The work of a shopper
    /// is [`Shoppers`].
    pub(crate) fn http(row: Row, session: u32, skus: u32, batch: usize) -> Self {
        let key = key_header(session);
        let one = |sku: &str| post("/v1/reservations", &key, &format!("{{{}}}", item(sku)));
        let any = format!("SKU-{NUMBER}");
        let (text, skus, wanted) = match row {
            Row::Hot | Row::Paced => (one(&sku(0)), 1, Wanted::Status(201)),
            Row::Many | Row::Checkout => (one(&any), skus, Wanted::Status(201)),
            Row::SoldOut => (one(SOLD_OUT), 1, Wanted::SoldOut),
            Row::Availability => {
                let text = format!("GET /v1/skus/{any}/availability HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
                (text, skus, Wanted::Status(200))
            }
            Row::Batch => {
                let one = format!(r#"{{"key":"peers-{session:08x}-{KEY}",{}}}"#, item(&any));
                let body = format!(r#"{{"requests":[{}]}}"#, vec![one; batch].join(","));
                (post("/v1/reservations/batch", "", &body), skus, Wanted::Batch(batch as u64))
            }
        };
        Self { template: Template::new(&text), skus, turn: 0, wanted, is_redis: false }
    }

    /// Calls of a Redis script by its hash: one SKU, or any of many.
    pub(crate) fn redis(row: Row, session: u32, skus: u32, hash: &str) -> Self {
        let (sku, skus) = if row == Row::Hot { (sku(0), 1) } else { (format!("SKU-{NUMBER}"), skus) };
        let words = [
            "EVALSHA",
            hash,
            "2",
            &format!("stock:{sku}"),
            &format!("reservation:{session:08x}-{KEY}"),
            "1",
            "600",
            "shopper-0123456789",
        ];
        let text = doorbuster_servers::redis::command(&words);
        Self { template: Template::new(&text), skus, turn: 0, wanted: Wanted::Status(201), is_redis: true }
    }
}

impl Script for Repeated {
    fn ask(&mut self, _: usize, out: &mut Vec<u8>) {
        self.template.write(self.turn, self.skus, out);
        self.turn += 1;
    }

    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Option<Answer<'a>>, Malformed> {
        if self.is_redis { wire::redis(bytes) } else { wire::http(bytes) }
    }

    fn judge(&mut self, _: usize, answer: &Answer<'_>) -> Option<u64> {
        match self.wanted {
            Wanted::Status(status) => (answer.status == status).then_some(1),
            Wanted::SoldOut => {
                let told = answer.status == 409
                    && memmem::find(answer.body, br#""code":"insufficient_stock""#).is_some();
                told.then_some(1)
            }
            Wanted::Batch(all) => {
                let granted = memmem::find_iter(answer.body, br#""status":201"#).count() as u64;
                (answer.status == 200 && granted == all).then_some(all)
            }
        }
    }
}

/// Where a shopper stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Cart,
    FirstLine,
    SecondLine,
    Checkout,
    Order,
}

/// One connection's shopper.
#[derive(Clone, Debug, Default)]
struct Shopper {
    step: Step,
    cart: String,
    token: String,
    order: String,
}

/// A shopper on each connection: makes a cart, puts two SKUs into it, checks out, reads the order, and begins again.
#[derive(Clone, Debug)]
pub(crate) struct Shoppers {
    session: u32,
    skus: u32,
    turn: u64,
    all: Vec<Shopper>,
    key: Vec<u8>,
}

impl Shoppers {
    /// One shopper a connection.
    pub(crate) fn new(session: u32, skus: u32, connections: usize) -> Self {
        Self { session, skus, turn: 0, all: vec![Shopper::default(); connections], key: vec![] }
    }
}

/// The first text under `name` in a JSON body.
fn text<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let start = memmem::find(body, name)? + name.len();
    let length = memchr::memchr(b'"', &body[start..])?;
    std::str::from_utf8(&body[start..start + length]).ok()
}

impl Script for Shoppers {
    fn ask(&mut self, connection: usize, out: &mut Vec<u8>) {
        self.turn += 1;
        self.key.clear();
        self.key.resize(KEY.len(), b'0');
        write_hex(&mut self.key, self.turn);
        let key = key_header(self.session).replace(KEY, std::str::from_utf8(&self.key).unwrap_or(KEY));
        let shopper = &self.all[connection];
        let (cart, token) = (&shopper.cart, format!("Cart-Token: {}\r\n", shopper.token));
        let line = |which: u64| {
            let number = u32::try_from(scattered(which, self.skus)).unwrap_or(0);
            let body = format!(r#"{{"sku":"{}","quantity":1}}"#, sku(number));
            post(&format!("/v1/carts/{cart}/lines"), &format!("{key}{token}"), &body)
        };
        let request = match shopper.step {
            Step::Cart => post("/v1/carts", &key, r#"{"currency":"GBP"}"#),
            Step::FirstLine => line(self.turn),
            Step::SecondLine => line(self.turn + 1),
            Step::Checkout => post(
                &format!("/v1/carts/{cart}/checkout"),
                &format!("{key}{token}"),
                r#"{"email":"ada@example.com","payment":{"provider":"fake","method":"ok"}}"#,
            ),
            Step::Order => {
                format!("GET /v1/orders/{} HTTP/1.1\r\nHost: 127.0.0.1\r\n{token}\r\n", shopper.order)
            }
        };
        out.extend_from_slice(request.as_bytes());
    }

    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Option<Answer<'a>>, Malformed> {
        wire::http(bytes)
    }

    fn judge(&mut self, connection: usize, answer: &Answer<'_>) -> Option<u64> {
        let shopper = &mut self.all[connection];
        let (wanted, next) = match shopper.step {
            Step::Cart => (201, Step::FirstLine),
            Step::FirstLine => (200, Step::SecondLine),
            Step::SecondLine => (200, Step::Checkout),
            Step::Checkout => (201, Step::Order),
            Step::Order => (200, Step::Cart),
        };
        if answer.status != wanted {
            shopper.step = Step::Cart;
            return None;
        }
        match shopper.step {
            Step::Cart => {
                text(answer.body, br#""id":""#)?.clone_into(&mut shopper.cart);
                text(answer.body, br#""token":""#)?.clone_into(&mut shopper.token);
            }
            Step::Checkout => text(answer.body, br#""id":""#)?.clone_into(&mut shopper.order),
            Step::FirstLine | Step::SecondLine | Step::Order => {}
        }
        shopper.step = next;
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn asked(script: &mut impl Script, times: usize) -> Vec<String> {
        (0..times)
            .map(|_| {
                let mut out = vec![];
                script.ask(0, &mut out);
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    #[test]
    fn keys_are_never_used_twice_and_all_skus_have_their_turn() {
        let mut batch = Repeated::http(Row::Batch, 7, 100, 50);
        let text = asked(&mut batch, 4).concat();
        let keys: BTreeSet<&str> = text.split("\"key\":\"").skip(1).map(|rest| &rest[..31]).collect();
        assert_eq!(keys.len(), 200, "{keys:?}");
        let skus: BTreeSet<&str> = text.split("\"sku\":\"").skip(1).map(|rest| &rest[..9]).collect();
        assert_eq!(skus.len(), 100, "{skus:?}");
        assert!(!text.contains('@') && !text.contains('#'));

        let mut hot = Repeated::http(Row::Hot, 7, 100, 50);
        let requests = asked(&mut hot, 3);
        assert!(requests.iter().all(|request| request.contains("\"sku\":\"SKU-00000\"")));
        assert_eq!(requests.iter().collect::<BTreeSet<_>>().len(), 3);
        for request in requests {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
        }
    }

    #[test]
    fn only_what_was_asked_for_counts() {
        let answer = |status, body: &'static [u8]| Answer { status, body, length: 0 };
        let rows: [(Row, u16, &'static [u8], Option<u64>); 8] = [
            (Row::Hot, 201, b"{}", Some(1)),
            (Row::Hot, 200, b"{}", None),
            (Row::Hot, 503, b"{}", None),
            (Row::SoldOut, 409, br#"{"code":"insufficient_stock"}"#, Some(1)),
            (Row::SoldOut, 409, br#"{"code":"request_in_progress"}"#, None),
            (Row::SoldOut, 201, b"{}", None),
            (Row::Batch, 200, br#"[{"status":201},{"status":201}]"#, Some(2)),
            (Row::Batch, 200, br#"[{"status":201},{"status":409}]"#, None),
        ];
        for (row, status, body, worth) in rows {
            let mut script = Repeated::http(row, 1, 10, 2);
            assert_eq!(script.judge(0, &answer(status, body)), worth, "{} {status}", row.name());
        }
    }

    #[test]
    fn a_shopper_goes_from_cart_to_order_and_begins_again() {
        let mut shoppers = Shoppers::new(1, 10, 1);
        let answers: [(&str, u16, &'static [u8]); 6] = [
            ("POST /v1/carts HTTP", 201, br#"{"id":"cart_1","token":"t1"}"#),
            ("POST /v1/carts/cart_1/lines HTTP", 200, b"{}"),
            ("POST /v1/carts/cart_1/lines HTTP", 200, b"{}"),
            ("POST /v1/carts/cart_1/checkout HTTP", 201, br#"{"id":"ord_1"}"#),
            ("GET /v1/orders/ord_1 HTTP", 200, b"{}"),
            ("POST /v1/carts HTTP", 503, b"{}"),
        ];
        for (start, status, body) in answers {
            let request = asked(&mut shoppers, 1).concat();
            assert!(request.starts_with(start), "{request}");
            let worth = shoppers.judge(0, &Answer { status, body, length: 0 });
            assert_eq!(worth.is_some(), status < 300, "{request}");
        }
        assert!(asked(&mut shoppers, 1).concat().starts_with("POST /v1/carts HTTP"));
    }
}
