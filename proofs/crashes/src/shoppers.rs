//! Shoppers in threads of this process: they ask the engine for changes and write down each acknowledgement with the
//! moment at which its last byte had arrived. They share no code with the engine. Start at [`Shoppers::open`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::client::{Answer, Client};
use crate::engine::monotonic_ns;

/// SKUs that everybody wants.
pub(crate) const SKUS: u64 = 8;

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Promise {
    /// A SKU was made.
    Sku,
    /// Stock was adjusted, by its reference.
    Adjusted,
    /// Units are held.
    Reserved,
    /// A reservation lives longer.
    Extended,
    /// A reservation was sold.
    Committed,
    /// A reservation was given back.
    Released,
    /// A cart was made.
    Cart,
    /// Lines were added to a cart.
    Lines,
    /// An order stands.
    Order,
}

/// One acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// When its answer had arrived, nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) at: u64,
    /// What was promised.
    pub(crate) promise: Promise,
    /// Of what: an id on the wire, a SKU, a reference.
    pub(crate) id: String,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Acknowledgements.
    pub(crate) ledger: Mutex<Vec<Acknowledgement>>,
    /// Answers by status and problem code, refusals only.
    pub(crate) refusals: Mutex<std::collections::BTreeMap<(u16, String), u64>>,
    /// Answers 503 or 429 without `Retry-After`.
    pub(crate) without_retry_after: AtomicU64,
    /// Requests without an answer: outcome unknown.
    pub(crate) unanswered: AtomicU64,
    /// Longest wait for an answer, milliseconds.
    pub(crate) slowest_ms: AtomicU64,
}

impl Seen {
    /// How many acknowledgements.
    pub(crate) fn acknowledged(&self) -> usize {
        self.ledger.lock().map_or(0, |ledger| ledger.len())
    }

    /// All acknowledgements, by time.
    pub(crate) fn ledger(&self) -> Vec<Acknowledgement> {
        let mut ledger = self.ledger.lock().map(|ledger| ledger.clone()).unwrap_or_default();
        ledger.sort_by_key(|acknowledgement| acknowledgement.at);
        ledger
    }

    /// How often a refusal of this status and code was met.
    pub(crate) fn refused(&self, status: u16, code: &str) -> u64 {
        let refusals = self.refusals.lock();
        refusals.map_or(0, |refusals| refusals.get(&(status, code.to_owned())).copied().unwrap_or(0))
    }

    /// Refusals in one line.
    pub(crate) fn refusals_line(&self) -> String {
        let Ok(refusals) = self.refusals.lock() else { return String::new() };
        let shown: Vec<String> =
            refusals.iter().map(|((status, code), times)| format!("{times} × {status} {code}")).collect();
        shown.join(", ")
    }

    fn keep(&self, promise: Promise, id: &str) {
        let acknowledgement = Acknowledgement { at: monotonic_ns(), promise, id: id.to_owned() };
        if let Ok(mut ledger) = self.ledger.lock() {
            ledger.push(acknowledgement);
        }
    }
}

/// Running shoppers.
pub(crate) struct Shoppers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Shoppers {
    /// Makes the SKUs where they are missing; the engine must be ready.
    pub(crate) fn make_skus(address: SocketAddr, seen: &Seen) -> anyhow::Result<()> {
        let mut client = Client::new(address)?;
        for sku in 0..SKUS {
            let path = format!("/v1/admin/skus/CUT-{sku}");
            let body =
                json!({"name": "Cut", "price": {"amount": 1999, "currency": "GBP"}, "on_hand": 1_000_000});
            let answer = client.send("PUT", &path, Some(&format!("sku-{sku}")), &[], &body)?;
            anyhow::ensure!(
                answer.is_success(),
                "making a SKU was answered {}: {}",
                answer.status,
                answer.body
            );
            seen.keep(Promise::Sku, &format!("CUT-{sku}"));
        }
        Ok(())
    }

    /// Lets `count` shoppers in, whose chance is seeded by `draws`. `run` begins their keys; it must differ between runs on one engine.
    pub(crate) fn open(address: SocketAddr, count: u64, run: &str, draws: u64, seen: &Arc<Seen>) -> Self {
        let closing = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .filter_map(|number| {
                let (seen, stop, run) = (Arc::clone(seen), Arc::clone(&closing), run.to_owned());
                let name = format!("shopper-{number}");
                let visit = move || {
                    let chance = Chance::new(draws.wrapping_mul(1_000_003).wrapping_add(number));
                    let key = format!("{run}-{number}");
                    Shopper { address, client: None, seen, stop, chance, key, attempt: 0 }.shop();
                };
                std::thread::Builder::new().name(name).stack_size(256 << 10).spawn(visit).ok()
            })
            .collect();
        Self { stop: closing, threads }
    }

    /// Sends everybody home and waits for their last answers.
    pub(crate) fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

struct Shopper {
    address: SocketAddr,
    client: Option<Client>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    chance: Chance,
    key: String,
    attempt: u64,
}

impl Shopper {
    fn shop(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.attempt += 1;
            if self.attempt().is_none() {
                // Refused or unanswered: a moment later another try, with another key.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// One visit; `None` when some answer was not an acknowledgement.
    fn attempt(&mut self) -> Option<()> {
        let key = format!("{}-{}", self.key, self.attempt);
        let sku = format!("CUT-{}", self.chance.below(SKUS));
        match self.chance.below(100) {
            0..8 => self.adjust(&key, &sku),
            8..25 => self.buy(&key, &sku),
            draw => self.reserve(&key, &sku, draw),
        }
    }

    fn adjust(&mut self, key: &str, sku: &str) -> Option<()> {
        let path = format!("/v1/admin/skus/{sku}/adjustments");
        let body = json!({"delta": 1, "reason": "receipt", "reference": key});
        self.ask("POST", &path, key, &[], &body)?;
        self.seen.keep(Promise::Adjusted, key);
        Some(())
    }

    fn reserve(&mut self, key: &str, sku: &str, draw: u64) -> Option<()> {
        let mut items = vec![json!({"sku": sku, "quantity": 1})];
        if draw < 35 {
            let other = format!("CUT-{}", self.chance.below(SKUS));
            if other != sku {
                items.push(json!({"sku": other, "quantity": 1}));
            }
        }
        let ttl_s = if draw < 45 { 1 } else { 3600 };
        let answer =
            self.ask("POST", "/v1/reservations", key, &[], &json!({"items": items, "ttl_s": ttl_s}))?;
        let id = answer.text("id").to_owned();
        self.seen.keep(Promise::Reserved, &id);
        let path = format!("/v1/reservations/{id}");
        let (promise, method, path) = match draw {
            50..80 => (Promise::Committed, "POST", format!("{path}/commit")),
            80..92 => (Promise::Released, "DELETE", path),
            92..96 => (Promise::Extended, "PATCH", path),
            _ => return Some(()),
        };
        let body = if promise == Promise::Extended { json!({"extend_s": 60}) } else { Value::Null };
        self.ask(method, &path, &format!("{key}-end"), &[], &body)?;
        self.seen.keep(promise, &id);
        Some(())
    }

    fn buy(&mut self, key: &str, sku: &str) -> Option<()> {
        let line = json!({"sku": sku, "quantity": 1});
        let answer = self.ask("POST", "/v1/carts", &format!("{key}-cart"), &[], &json!({"items": [line]}))?;
        let (id, token) = (answer.text("id").to_owned(), answer.text("token").to_owned());
        self.seen.keep(Promise::Cart, &id);
        let token = [("Cart-Token", token.as_str())];
        let path = format!("/v1/carts/{id}");
        self.ask("POST", &format!("{path}/lines"), &format!("{key}-line"), &token, &line)?;
        self.seen.keep(Promise::Lines, &id);
        let body =
            json!({"email": "shopper@crashes.example", "payment": {"provider": "fake", "method": "ok"}});
        let answer = self.ask("POST", &format!("{path}/checkout"), &format!("{key}-buy"), &token, &body)?;
        if answer.status == 201 {
            self.seen.keep(Promise::Order, answer.text("id"));
        }
        Some(())
    }

    /// One request; `None` unless it was acknowledged.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Option<Answer> {
        let began = monotonic_ns();
        let answer = self.answer(method, path, key, headers, body);
        let waited_ms = (monotonic_ns() - began) / 1_000_000;
        self.seen.slowest_ms.fetch_max(waited_ms, Ordering::Relaxed);
        let Ok(answer) = answer else {
            self.client = None;
            self.seen.unanswered.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if answer.is_success() {
            return Some(answer);
        }
        if matches!(answer.status, 429 | 503) && answer.retry_after.is_none() {
            self.seen.without_retry_after.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(mut refusals) = self.seen.refusals.lock() {
            *refusals.entry((answer.status, answer.text("code").to_owned())).or_default() += 1;
        }
        None
    }

    fn answer(
        &mut self,
        method: &str,
        path: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> anyhow::Result<Answer> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::new(self.address)?,
        };
        self.client.insert(client).send(method, path, Some(key), headers, body)
    }
}
