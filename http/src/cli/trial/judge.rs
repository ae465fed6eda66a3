//! Judging an engine by a ledger: what was acknowledged is there and stands where it was left, nothing else has happened,
//! and nothing definitely refused took effect.
//!
//! Shares no code with the engine: it reads the surface as a stranger would. Units are the witness: of each SKU exactly
//! those are sold and reserved that the ledger's reservations and orders account for, so a lost, doubled or ghostly
//! effect shows even where no id gives it away. Start at [`Judge::run`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::book::{Answered, Book, End, Held};
use super::ledger::{Entry, Ledger, Request, digest, now_ms};
use crate::cli::rush::audit::stock;
use crate::client::{Client, Failure, OrderReply, ReservationReply, path_segment};

/// How long the last expiry and the last unit of a checkout may take to show: law 6 allows five seconds.
const SETTLE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 8_000 });

/// How long before an end may be seen as such by a client whose clock is the same machine's: none at all, but business
/// time may be a millisecond ahead of the reader's.
const CLOCK_SLACK_MS: u64 = 5;

/// Reads at once.
const READS: usize = 48;

/// States of an order that was paid once, and of one that never was.
const PAID: [&str; 5] = ["paid", "fulfilled", "completed", "partially_refunded", "refunded"];

/// What was found, by kind of broken promise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged and gone, or undone.
    pub lost: Vec<String>,
    /// Two effects, or two answers, of one request.
    pub doubled: Vec<String>,
    /// Refused, yet applied.
    pub ghosts: Vec<String>,
    /// Any other law.
    pub laws: Vec<String>,
}

impl Findings {
    /// Whether every promise held.
    pub fn is_clean(&self) -> bool {
        self.all().next().is_none()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.lost.iter().chain(&self.doubled).chain(&self.ghosts).chain(&self.laws)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "lost": self.lost.len(), "doubled": self.doubled.len(), "ghosts": self.ghosts.len(),
            "laws_broken": self.laws.len(), "violations": self.all().collect::<Vec<_>>(),
        })
    }
}

/// Units of one SKU that the ledger accounts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Units {
    sold: i64,
    reserved: i64,
}

/// A judgement under way.
pub struct Judge<'a> {
    /// Speaks to the engine.
    pub client: &'a Client,
    /// Where new answers go; `None` sends nothing that could change anything.
    pub ledger: Option<RefCell<Ledger>>,
    /// How many acknowledged requests are sent again for the same bytes.
    pub retries: usize,
    found: RefCell<Findings>,
}

impl<'a> Judge<'a> {
    /// Judges with `client`; writes new answers to `ledger`.
    pub fn new(client: &'a Client, ledger: Option<Ledger>, retries: usize) -> Self {
        Self { client, ledger: ledger.map(RefCell::new), retries, found: RefCell::default() }
    }

    /// Judges by these lines; gives the findings and the book as it stands at the end.
    pub async fn run(self, mut entries: Vec<Entry>) -> Result<(Findings, Book), Failure> {
        let mut book = Book::of(&entries);
        // First what nobody answered: a retry with the same key settles it (law 4).
        if self.ledger.is_some() && !book.unknown.is_empty() {
            entries.extend(self.settle(&book.unknown).await?);
            book = Book::of(&entries);
        }
        self.read_back(&book).await?;
        self.same_bytes(&book).await?;
        // Last the refusals, because a copy of one is a new attempt, and may well be granted now.
        if self.ledger.is_some() && !book.refused.is_empty() {
            let granted = self.ask_refused_again(&book.refused).await?;
            if !granted.is_empty() {
                entries.extend(granted);
                book = Book::of(&entries);
                self.read_back(&book).await?;
            }
        }
        self.found.borrow_mut().doubled.extend(book.doubled.iter().cloned());
        Ok((self.found.into_inner(), book))
    }

    /// Sends requests once more, and gives what came of them.
    async fn settle(&self, requests: &[Request]) -> Result<Vec<Entry>, Failure> {
        let mut settled = Vec::new();
        for request in requests {
            let answer = request.call(self.client, "settle")?.send().await?;
            settled.push(self.note(Entry::of(request, &answer)?)?);
        }
        Ok(settled)
    }

    fn note(&self, entry: Entry) -> Result<Entry, Failure> {
        if let Some(ledger) = &self.ledger {
            ledger.borrow_mut().append(&entry).map_err(|error| Failure::Unexpected {
                what: "writing the ledger".to_owned(),
                status: 0,
                excerpt: error.to_string(),
            })?;
        }
        Ok(entry)
    }

    /// A refused request that the engine has an answer for took effect after all: a ghost.
    async fn ask_refused_again(&self, refused: &[Request]) -> Result<Vec<Entry>, Failure> {
        let mut granted = Vec::new();
        let mut asked = stream::iter(refused)
            .map(|request| async move {
                let answer = request.call(self.client, "refused again")?.send().await?;
                Ok::<_, Failure>((request, answer))
            })
            .buffer_unordered(READS);
        while let Some(asked) = asked.next().await {
            let (request, answer) = asked?;
            let entry = Entry::of(request, &answer)?;
            if !entry.verdict.is_acknowledged() {
                continue;
            }
            if answer.replayed {
                let told = format!("law 4: {} was refused, and took effect: {}", request.key, answer.status);
                self.found.borrow_mut().ghosts.push(told);
            }
            granted.push(self.note(entry)?);
        }
        Ok(granted)
    }

    /// Acknowledged requests, evenly chosen, must be answered with the same bytes (law 5).
    async fn same_bytes(&self, book: &Book) -> Result<(), Failure> {
        let step = book.answered.len().div_ceil(self.retries.max(1)).max(1);
        let chosen: Vec<&Answered> =
            if self.retries == 0 { Vec::new() } else { book.answered.iter().step_by(step).collect() };
        let mut again = stream::iter(chosen)
            .map(|answered| async move {
                let answer = answered.request.call(self.client, "again")?.send().await?;
                Ok::<_, Failure>((answered, answer))
            })
            .buffer_unordered(READS);
        while let Some(again) = again.next().await {
            let (answered, answer) = again?;
            if let Some(wrong) = unlike(answered, &answer) {
                self.found.borrow_mut().doubled.push(wrong);
            }
        }
        Ok(())
    }

    /// Reads everything back by id, then compares each SKU's figures with what is accounted for, until they agree or
    /// the time to settle is over.
    async fn read_back(&self, book: &Book) -> Result<(), Failure> {
        // What ends within moments is waited for, because reading everything takes a while.
        let soon = now_ms()..now_ms() + 3_000;
        let last = book.reservations.values().map(|held| held.until_ms).filter(|ms| soon.contains(ms)).max();
        let wait_ms = last.map_or(0, |last| last.saturating_sub(soon.start) + 300);
        actix_rt::time::sleep(Duration::from_millis(wait_ms)).await;
        let begun = Instant::now();
        loop {
            let is_last = begun.elapsed() >= SETTLE;
            let seen = self.read_once(book).await?;
            if seen.is_clean() || is_last {
                let mut found = self.found.borrow_mut();
                found.lost.extend(seen.lost);
                found.doubled.extend(seen.doubled);
                found.laws.extend(seen.laws);
                return Ok(());
            }
            actix_rt::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn read_once(&self, book: &Book) -> Result<Findings, Failure> {
        let mut found = Findings::default();
        let mut units: BTreeMap<String, Units> = BTreeMap::new();
        let mut reads = stream::iter(&book.reservations)
            .map(|(id, held)| async move { self.reservation(id, held).await })
            .buffer_unordered(READS);
        while let Some(read) = reads.next().await {
            match read? {
                Ok((items, state)) => {
                    for (sku, quantity) in items {
                        let units = units.entry(sku).or_default();
                        match state.as_str() {
                            "held" => units.reserved += quantity,
                            "committed" => units.sold += quantity,
                            _ => {}
                        }
                    }
                }
                Err(Wrong::Lost(told)) => found.lost.push(told),
                Err(Wrong::Law(told)) => found.laws.push(told),
            }
        }
        drop(reads);
        let mut reads = stream::iter(&book.orders)
            .map(|(id, paid)| async move { self.order(id, *paid).await })
            .buffer_unordered(READS);
        while let Some(read) = reads.next().await {
            match read? {
                Ok(items) => {
                    for (sku, quantity) in items {
                        units.entry(sku).or_default().sold += quantity;
                    }
                }
                Err(Wrong::Lost(told)) => found.lost.push(told),
                Err(Wrong::Law(told)) => found.laws.push(told),
            }
        }
        drop(reads);
        for (sku, opening) in &book.skus {
            self.compare(sku, *opening, units.get(sku).copied().unwrap_or_default(), book, &mut found)
                .await?;
        }
        Ok(found)
    }

    async fn reservation(&self, id: &str, held: &Held) -> Result<Result<Read, Wrong>, Failure> {
        let path = format!("/v1/reservations/{}", path_segment(id));
        let answer = self.client.get("read reservation", path).send().await?;
        if answer.status == 404 {
            return Ok(Err(Wrong::Lost(format!("law 3: reservation {id} is lost"))));
        }
        let read_at_ms = now_ms();
        let now: ReservationReply = answer.expect()?;
        let is_due = held.until_ms <= read_at_ms + CLOCK_SLACK_MS;
        let is_right = match (now.state.as_str(), held.end) {
            ("held", End::Held | End::Open) => !is_due,
            ("expired", End::Held | End::Open) => is_due,
            ("committed", End::Committed | End::Open) | ("released", End::Released | End::Open) => true,
            (_, _) => false,
        };
        if !is_right && is_due && now.state == "held" {
            return Ok(Err(Wrong::Law(format!("law 6: {id} is still held, and its time is over"))));
        }
        if !is_right && now.state == "expired" && held.end == End::Held {
            return Ok(Err(Wrong::Law(format!("law 2: {id} expired before its time"))));
        }
        if !is_right {
            let told = format!("law 3: {id} was left {:?} and is {}", held.end, now.state);
            return Ok(Err(Wrong::Lost(told)));
        }
        if now.items != held.items {
            let told = format!("law 3: {id} was granted {:?} and holds {:?}", held.items, now.items);
            return Ok(Err(Wrong::Lost(told)));
        }
        Ok(Ok((now.items.into_iter().map(|item| (item.sku, item.quantity)).collect(), now.state)))
    }

    async fn order(&self, id: &str, paid: bool) -> Result<Result<Vec<(String, i64)>, Wrong>, Failure> {
        let path = format!("/v1/orders/{}", path_segment(id));
        let answer = self.client.get("read order", path).as_admin().send().await?;
        if answer.status == 404 {
            return Ok(Err(Wrong::Lost(format!("law 3: order {id} is lost"))));
        }
        let now: OrderReply = answer.expect()?;
        if PAID.contains(&now.state.as_str()) {
            return Ok(Ok(now.lines.into_iter().map(|line| (line.sku, line.quantity)).collect()));
        }
        match (paid, now.state.as_str()) {
            (true, state) => Ok(Err(Wrong::Lost(format!("law 3: order {id} was paid and is {state}")))),
            (false, "pending_payment") => Ok(Err(Wrong::Law(format!("law 6: order {id} waits for ever")))),
            (false, _) => Ok(Ok(Vec::new())),
        }
    }

    async fn compare(
        &self,
        sku: &str,
        opening: i64,
        accounted: Units,
        book: &Book,
        found: &mut Findings,
    ) -> Result<(), Failure> {
        let Some(now) = stock(self.client, sku).await? else {
            found.lost.push(format!("law 3: SKU {sku} is lost"));
            return Ok(());
        };
        found.laws.extend(now.broken_law().map(|told| format!("{sku}: {told}")));
        if now.received != opening {
            found.laws.push(format!("law 1: {sku} opened with {opening} and received {}", now.received));
        }
        for (figure, accounted, engine) in
            [("sold", accounted.sold, now.sold), ("reserved", accounted.reserved, now.reserved)]
        {
            let told = format!("{sku}: {accounted} units {figure} by the ledger, {engine} by the engine");
            if engine < accounted {
                found.lost.push(format!("law 3: {told}"));
            } else if engine > accounted && book.unknown.is_empty() {
                found
                    .doubled
                    .push(format!("law 4 or 5: {told}; something refused or done already took effect"));
            }
        }
        Ok(())
    }
}

/// Units by SKU, and the state.
type Read = (Vec<(String, i64)>, String);

/// What is wrong with one thing read.
enum Wrong {
    Lost(String),
    Law(String),
}

/// Why `answer` is not the one that was given before, if it is not.
pub fn unlike(answered: &Answered, answer: &crate::client::Answer) -> Option<String> {
    let key = &answered.request.key;
    if (answer.status, &digest(answer)) != (answered.status, &answered.digest) {
        return Some(format!(
            "law 5: {key} ({} {}) was answered {} and now {} with other bytes",
            answered.request.method, answered.request.path, answered.status, answer.status
        ));
    }
    // A kept refusal, a declined payment, has the same bytes but no mark.
    (answer.is_success() && !answer.replayed)
        .then(|| format!("law 5: the repeat of {key} is not marked as one"))
}

/// What a ledger says of its requests, for people and machines.
pub fn counts(book: &Book) -> Value {
    let of = |end: End| book.reservations.values().filter(|held| held.end == end).count();
    json!({
        "acknowledged": book.answered.len(), "refused": book.refused.len(), "unknown": book.unknown.len(),
        "held": of(End::Held), "committed": of(End::Committed), "released": of(End::Released),
        "orders": book.orders.len(), "skus": book.skus.len(),
        "declined": book.answered.iter().filter(|answered| answered.status == 402).count(),
    })
}
