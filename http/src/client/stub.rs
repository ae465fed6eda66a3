//! A toy engine for tests of the commands that load one: enough of the surface, in memory, on a real socket.
//!
//! It keeps the promises of the real one unless told not to ([`Fault`]), so that a test can see the checks bite.
//! Start at [`Stub::start`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde_json::{Value, json};

/// What a stub does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Every third request takes effect and is then answered 503, as if the engine died before the answer left.
    AnswersLost,
    /// Every hundredth checkout sells one unit too few.
    UnitLost,
    /// Refunds are acknowledged and forgotten.
    RefundLost,
    /// A repeated key takes effect again.
    KeysForgotten,
    /// Reservations are granted beyond the stock.
    Oversold,
    /// Every tenth reservation is refused and takes effect.
    Ghosts,
    /// Every tenth commit is acknowledged and not done.
    CommitLost,
}

#[derive(Clone, Debug, Default)]
struct Sku {
    received: i64,
    sold: i64,
    reserved: i64,
}

#[derive(Clone, Debug)]
struct Line {
    sku: String,
    quantity: i64,
    price: i64,
    refunded: i64,
}

#[derive(Clone, Debug, Default)]
struct Paper {
    lines: Vec<Line>,
    refunded: i64,
}

struct Toy {
    fault: Fault,
    requests: u64,
    skus: BTreeMap<String, Sku>,
    carts: Vec<Paper>,
    orders: Vec<Paper>,
    reservations: Vec<Held>,
    /// By key: what was asked, and the answer.
    answers: BTreeMap<String, (String, u16, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Held {
    items: Vec<(String, i64)>,
    state: &'static str,
    /// When it ends, in milliseconds since 1970.
    until_ms: i64,
}

/// A running toy engine.
pub(crate) struct Stub {
    /// Where it listens.
    pub(crate) url: String,
    handle: ServerHandle,
    toy: Arc<Mutex<Toy>>,
}

impl Stub {
    /// Starts one within the present System.
    pub(crate) fn start(fault: Fault) -> Self {
        let toy = Arc::new(Mutex::new(Toy {
            fault,
            requests: 0,
            skus: BTreeMap::new(),
            carts: Vec::new(),
            orders: Vec::new(),
            reservations: Vec::new(),
            answers: BTreeMap::new(),
        }));
        let shared = web::Data::new(Arc::clone(&toy));
        let server = HttpServer::new(move || {
            let large = web::PayloadConfig::new(16 * 1024 * 1024);
            App::new().app_data(shared.clone()).app_data(large).default_service(web::to(answer))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        let running = server.run();
        let handle = running.handle();
        actix_rt::spawn(running);
        Self { url, handle, toy }
    }

    /// How many orders it has.
    pub(crate) fn orders(&self) -> usize {
        self.toy.lock().unwrap_or_else(PoisonError::into_inner).orders.len()
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        self.handle.stop(false).await;
    }
}

async fn answer(toy: web::Data<Arc<Mutex<Toy>>>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let key = request.headers().get("Idempotency-Key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let mut toy = toy.lock().unwrap_or_else(PoisonError::into_inner);
    toy.requests += 1;
    let asked = format!("{} {} {}", request.method(), request.path(), String::from_utf8_lossy(&body));
    if let Some((known, status, bytes)) = key.as_ref().and_then(|key| toy.answers.get(key)) {
        if *known != asked {
            return HttpResponse::UnprocessableEntity().json(json!({"code": "idempotency_key_reused"}));
        }
        let status = actix_web::http::StatusCode::from_u16(*status).unwrap();
        return HttpResponse::build(status)
            .insert_header(("Idempotent-Replayed", "true"))
            .body(bytes.clone());
    }
    let path = request.path().trim_start_matches("/v1/").replace("%20", " ");
    let segments: Vec<&str> = path.split('/').collect();
    let (status, reply) = toy.act(request.method().as_str(), &segments, &body);
    let bytes = serde_json::to_vec(&reply).unwrap();
    let is_kept = status < 300 || status == 402;
    let is_ghost = toy.fault == Fault::Ghosts
        && matches!(segments.as_slice(), ["reservations"])
        && toy.requests.is_multiple_of(10);
    if let Some(key) = key.filter(|_| is_kept && toy.fault != Fault::KeysForgotten) {
        toy.answers.insert(key, (asked, status, bytes.clone()));
    }
    if is_ghost && status < 300 {
        return HttpResponse::Conflict().json(json!({"code": "insufficient_stock"}));
    }
    if toy.fault == Fault::AnswersLost && toy.requests.is_multiple_of(3) {
        return HttpResponse::ServiceUnavailable().json(json!({"code": "recovering", "retry_after_ms": 1}));
    }
    HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap()).body(bytes)
}

fn money(amount: i64) -> Value {
    json!({"amount": amount, "currency": "GBP"})
}

fn problem(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"code": code, "detail": "says the stub"}))
}

/// The number in `ord_7`.
fn number(id: &str) -> usize {
    id.rsplit('_').next().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX)
}

impl Toy {
    fn act(&mut self, method: &str, path: &[&str], bytes: &[u8]) -> (u16, Value) {
        let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
        match (method, path) {
            ("GET", ["", "livez"]) => (200, json!({})),
            ("POST", ["admin", "import", "skus"]) => self.import(bytes),
            ("PUT", ["admin", "skus", sku]) => {
                let received = body["on_hand"].as_i64().unwrap();
                self.skus.insert((*sku).to_owned(), Sku { received, ..Sku::default() });
                (201, json!({}))
            }
            ("GET", ["admin", "skus", sku, "stock"]) => match self.expire().get(*sku) {
                Some(stock) => (200, shown(stock)),
                None => problem(404, "not_found"),
            },
            ("POST", ["admin", "skus", sku, "adjustments"]) => {
                let Some(stock) = self.skus.get_mut(*sku) else { return problem(404, "not_found") };
                let delta = body["delta"].as_i64().unwrap();
                if stock.received - stock.sold - stock.reserved + delta < 0 {
                    return problem(409, "insufficient_stock");
                }
                stock.received += delta;
                (200, shown(stock))
            }
            ("POST", ["carts"]) => {
                let mut paper = Paper::default();
                for item in body["items"].as_array().into_iter().flatten() {
                    paper.lines.push(line(item));
                }
                self.carts.push(paper);
                (201, self.cart(self.carts.len() - 1))
            }
            ("POST", ["carts", id, "lines"]) => {
                for added in body["lines"].as_array().unwrap() {
                    let added = line(added);
                    let lines = &mut self.carts[number(id)].lines;
                    match lines.iter_mut().find(|line| line.sku == added.sku && line.price == added.price) {
                        Some(line) => line.quantity += added.quantity,
                        None => lines.push(added),
                    }
                }
                (200, self.cart(number(id)))
            }
            ("POST", ["carts", _, "checkout"]) if body["payment"]["method"] == "declined" => {
                problem(402, "payment_declined")
            }
            ("POST", ["carts", id, "checkout"]) => self.checkout(number(id)),
            ("GET", ["orders", id]) if number(id) >= self.orders.len() => problem(404, "not_found"),
            ("GET", ["orders", id]) => (200, self.order(number(id))),
            ("POST", ["admin", "orders", id, "refunds"]) => self.refund(number(id), &body),
            ("POST", ["reservations"]) => self.reserve(&body),
            ("GET", ["reservations", id]) => {
                self.expire();
                match self.reservations.get(number(id)) {
                    Some(held) => (200, reservation(number(id), held)),
                    None => problem(404, "not_found"),
                }
            }
            ("DELETE", ["reservations", id]) => self.end(number(id), "released"),
            ("POST", ["reservations", id, "commit"]) => self.end(number(id), "committed"),
            (method, path) => panic!("the stub has no {method} {path:?}"),
        }
    }

    fn import(&mut self, bytes: &[u8]) -> (u16, Value) {
        let (mut created, mut updated) = (0, 0);
        for row in bytes.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
            let row: Value = serde_json::from_slice(row).unwrap();
            let sku = row["sku"].as_str().unwrap().to_owned();
            if self.skus.contains_key(&sku) {
                updated += 1;
                continue;
            }
            created += 1;
            let received = row["on_hand"].as_i64().unwrap();
            self.skus.insert(sku, Sku { received, ..Sku::default() });
        }
        (200, json!({"created": created, "updated": updated, "rejected": []}))
    }

    fn checkout(&mut self, cart: usize) -> (u16, Value) {
        let paper = self.carts[cart].clone();
        let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
        for line in &paper.lines {
            *wanted.entry(&line.sku).or_default() += line.quantity;
        }
        let short = wanted.iter().any(|(sku, units)| {
            self.skus.get(*sku).is_none_or(|stock| stock.received - stock.sold - stock.reserved < *units)
        });
        if short {
            return problem(409, "insufficient_stock");
        }
        for (sku, units) in wanted {
            self.skus.entry(sku.to_owned()).or_default().sold += units;
        }
        if self.fault == Fault::UnitLost && self.orders.len().is_multiple_of(100) {
            self.skus.entry(paper.lines[0].sku.clone()).or_default().sold -= 1;
        }
        self.orders.push(paper);
        (201, self.order(self.orders.len() - 1))
    }

    fn refund(&mut self, order: usize, body: &Value) -> (u16, Value) {
        let paper = &mut self.orders[order];
        let wanted = &body["lines"][0];
        let place = number(wanted["line_id"].as_str().unwrap());
        let units = wanted["quantity"].as_i64().unwrap();
        let line = &mut paper.lines[place];
        if line.refunded + units > line.quantity {
            return problem(409, "illegal_transition");
        }
        if self.fault != Fault::RefundLost {
            line.refunded += units;
            paper.refunded += body["amount"]["amount"].as_i64().unwrap_or(units * line.price);
            let sku = line.sku.clone();
            self.skus.entry(sku).or_default().sold -= units;
        }
        (201, json!({"id": "ref_1"}))
    }

    fn reserve(&mut self, body: &Value) -> (u16, Value) {
        let asked = body["items"].as_array().unwrap().iter();
        let items: Vec<(String, i64)> = asked
            .map(|item| (item["sku"].as_str().unwrap().to_owned(), item["quantity"].as_i64().unwrap()))
            .collect();
        let is_short = items.iter().any(|(sku, units)| {
            self.skus.get(sku).is_none_or(|stock| stock.received - stock.sold - stock.reserved < *units)
        });
        if self.fault != Fault::Oversold && is_short {
            return problem(409, "insufficient_stock");
        }
        for (sku, units) in &items {
            self.skus.entry(sku.clone()).or_default().reserved += units;
        }
        // Whoever reads after a second's life is taken to have waited.
        let life_ms = match body["ttl_s"].as_i64().unwrap_or(3600) {
            1 => 0,
            ttl_s => ttl_s * 1000,
        };
        let until_ms = jiff::Timestamp::now().as_millisecond() + life_ms;
        let held = Held { items, state: "held", until_ms };
        let shown = reservation(self.reservations.len(), &held);
        self.reservations.push(held);
        (201, shown)
    }

    fn end(&mut self, place: usize, state: &'static str) -> (u16, Value) {
        let is_lost = self.fault == Fault::CommitLost && state == "committed" && place.is_multiple_of(10);
        let held = &mut self.reservations[place];
        if held.state == "held" {
            if !is_lost {
                held.state = state;
                for (sku, units) in &held.items {
                    let stock = self.skus.entry(sku.clone()).or_default();
                    stock.reserved -= units;
                    stock.sold += if state == "committed" { *units } else { 0 };
                }
            }
            return (200, reservation(place, &Held { state, ..held.clone() }));
        }
        if held.state == state { (200, reservation(place, held)) } else { problem(409, "illegal_transition") }
    }

    /// Ends what is over.
    fn expire(&mut self) -> &BTreeMap<String, Sku> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        for place in 0..self.reservations.len() {
            let held = &self.reservations[place];
            if held.state == "held" && held.until_ms <= now_ms {
                self.end(place, "expired");
            }
        }
        &self.skus
    }

    fn cart(&self, place: usize) -> Value {
        json!({"id": format!("cart_{place}"), "token": "secret", "lines": lines(&self.carts[place])})
    }

    fn order(&self, place: usize) -> Value {
        let paper = &self.orders[place];
        let total: i64 = paper.lines.iter().map(|line| line.quantity * line.price).sum();
        let state = match paper.refunded {
            0 => "paid",
            refunded if refunded == total => "refunded",
            _ => "partially_refunded",
        };
        json!({
            "id": format!("ord_{place}"), "state": state, "totals": {"total": money(total)}, "lines": lines(paper),
            "payment": {"refunded": money(paper.refunded)},
        })
    }
}

fn line(value: &Value) -> Line {
    Line {
        sku: value["sku"].as_str().unwrap().to_owned(),
        quantity: value["quantity"].as_i64().unwrap(),
        price: value["unit_price"]["amount"].as_i64().unwrap_or(1),
        refunded: 0,
    }
}

fn lines(paper: &Paper) -> Vec<Value> {
    let shown = |(place, line): (usize, &Line)| {
        json!({
            "line_id": format!("{place}"), "sku": line.sku, "quantity": line.quantity,
            "unit_price": money(line.price), "refunded": line.refunded,
        })
    };
    paper.lines.iter().enumerate().map(shown).collect()
}

fn reservation(place: usize, held: &Held) -> Value {
    let items: Vec<Value> =
        held.items.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
    let until = jiff::Timestamp::from_millisecond(held.until_ms).unwrap();
    json!({
        "id": format!("res_{place}"), "state": held.state, "items": items,
        "expires_at": format!("{until:.3}"),
    })
}

fn shown(stock: &Sku) -> Value {
    let on_hand = stock.received - stock.sold;
    let available = on_hand - stock.reserved;
    json!({
        "received": stock.received, "sold": stock.sold, "on_hand": on_hand, "reserved": stock.reserved,
        "available": available, "sellable": available,
    })
}
