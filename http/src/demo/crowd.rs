//! A crowd of simulated shoppers inside the process, who all want the present drop.
//!
//! They pass the engine's own door: admission, idempotency keys, actors and the journal are the same as for anybody. Only HTTP
//! is left out, so that the browser beside them is not cut off by its own crowd. They come in bursts, a bounded number is in
//! the shop at a time, and afterwards the books are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use doorbuster_actors::{Engine, Readiness, Reply, ReserveRequest, Ticket, Verdict};
use doorbuster_engine::answer::{Answer, Item, Refusal, ReservationRecord};
use doorbuster_engine::identity::Sku;
use doorbuster_engine::stock::StockView;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{Books, Demo, STEP_MAX, not_now};
use crate::problem::Problem;

/// Most shoppers of a crowd.
pub(super) const SHOPPERS_MAX: u32 = 5_000;

/// Shoppers in the shop at a time.
const IN_FLIGHT_MAX: u32 = 128;

/// Bursts in which they come.
const BURSTS: u32 = 40;

/// How long a crowd's shopper keeps what it does not buy.
const HOLD_MS: u64 = 60_000;

/// How often a shopper asks again who was told to come later, or heard nothing.
const ATTEMPTS_MAX: u32 = 6;

/// Longest wait between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A crowd, in the shop or gone.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Begins its keys: no other crowd has the same, of this process or one before it.
    run: String,
    sku: Sku,
    shoppers: u32,
    before: StockView,
    tally: Tally,
    end: Mutex<Option<End>>,
}

/// What its shoppers were told.
#[derive(Debug, Default)]
struct Tally {
    arrived: AtomicU32,
    bought: AtomicU32,
    sold_out: AtomicU32,
    given_back: AtomicU32,
    repeated: AtomicU32,
    doubled: AtomicU32,
    unanswered: AtomicU32,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    took_ms: u64,
    books: Option<Books>,
}

/// A crowd as the page sees it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CrowdReport {
    /// What they want.
    sku: String,
    /// How many there are.
    shoppers: u32,
    /// How many have come.
    arrived: u32,
    /// Got a unit and kept it.
    bought: u32,
    /// Were told that nothing is left.
    sold_out: u32,
    /// Got a unit and gave it back.
    given_back: u32,
    /// Clicked twice, and were told the same twice.
    repeated: u32,
    /// Clicked twice, and got two: never.
    doubled: u32,
    /// Gave up before they were answered.
    unanswered: u32,
    /// Whether some are still in the shop.
    running: bool,
    /// How long all of them took.
    took_ms: Option<u64>,
    /// Units that were sold before they came.
    sold_before: i64,
    /// The drop's stock after them.
    books: Option<Books>,
    /// Whether the books agree with what they were told; unknown until they are read.
    sound: Option<bool>,
}

impl Crowd {
    /// How it stands.
    pub(super) fn report(&self) -> CrowdReport {
        let figure = |count: &AtomicU32| count.load(Ordering::Relaxed);
        let end = *self.end.lock();
        let books = end.and_then(|end| end.books);
        let (bought, doubled) = (figure(&self.tally.bought), figure(&self.tally.doubled));
        CrowdReport {
            sku: self.sku.as_str().to_owned(),
            shoppers: self.shoppers,
            arrived: figure(&self.tally.arrived),
            bought,
            sold_out: figure(&self.tally.sold_out),
            given_back: figure(&self.tally.given_back),
            repeated: figure(&self.tally.repeated),
            doubled,
            unanswered: figure(&self.tally.unanswered),
            running: end.is_none(),
            took_ms: end.map(|end| end.took_ms),
            sold_before: self.before.sold,
            books,
            sound: books.map(|books| is_sound(books, self.before.sold, bought, doubled)),
        }
    }

    /// Lets them in, waits until all are out, and reads the books.
    async fn run(self: Arc<Self>, engine: Engine, lasts: Duration) {
        let began = Instant::now();
        let ending = Ending { crowd: Arc::clone(&self), began };
        let places = Arc::new(Semaphore::new(usize::try_from(IN_FLIGHT_MAX).unwrap_or(usize::MAX)));
        'bursts: for burst in 0..BURSTS {
            let due = lasts / BURSTS * burst;
            actix_rt::time::sleep(due.saturating_sub(began.elapsed())).await;
            for shopper in share(self.shoppers, burst)..share(self.shoppers, burst + 1) {
                if engine.readiness() != Readiness::Ready {
                    break 'bursts;
                }
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { break 'bursts };
                let (crowd, engine) = (Arc::clone(&self), engine.clone());
                actix_rt::spawn(async move {
                    crowd.shop(&engine, shopper).await;
                    drop(place);
                });
            }
        }
        let out = places.acquire_many(IN_FLIGHT_MAX).await;
        drop(out);
        let books = engine.stock(self.sku.clone()).await.ok().map(|stock| Books::of(&stock));
        *self.end.lock() = Some(End { took_ms: milliseconds(began.elapsed()), books });
        drop(ending);
    }

    /// One shopper: takes a unit if there is one; most buy it, some click twice, some give it back.
    async fn shop(&self, engine: &Engine, shopper: u32) {
        let tally = &self.tally;
        tally.arrived.fetch_add(1, Ordering::Relaxed);
        let record = match self.reserve(engine, shopper).await {
            Ok((record, _)) => record,
            Err(Refusal::InsufficientStock(_)) => return count(&tally.sold_out),
            Err(_) => return count(&tally.unanswered),
        };
        if shopper % 5 == 1 {
            match self.reserve(engine, shopper).await {
                Ok((again, replayed)) if replayed && again.id == record.id => count(&tally.repeated),
                Ok(_) => count(&tally.doubled),
                // Whoever is not answered here has the first answer all the same.
                Err(_) => {}
            }
        }
        let gives_back = shopper % 10 == 4;
        let ended = insist(async || {
            let ticket = self.ticket(engine, shopper, if gives_back { "release" } else { "commit" });
            if gives_back {
                engine.release(ticket, record.id).await
            } else {
                engine.commit(ticket, record.id).await
            }
        });
        match ended.await {
            Ok(_) if gives_back => count(&tally.given_back),
            Ok(_) => count(&tally.bought),
            Err(_) => count(&tally.unanswered),
        }
    }

    async fn reserve(&self, engine: &Engine, shopper: u32) -> Result<(ReservationRecord, bool), Refusal> {
        let Reply { answer, replayed } = insist(async || {
            let items = vec![Item { sku: self.sku.clone(), quantity: 1 }];
            let request = ReserveRequest { items, ttl_ms: Some(HOLD_MS), partial: false, customer: None };
            engine.reserve(self.ticket(engine, shopper, "reserve"), request).await
        })
        .await?;
        match answer {
            Answer::Reservation(record) => Ok((record, replayed)),
            Answer::Stock(_)
            | Answer::SkuDefined { .. }
            | Answer::CartCreated(_)
            | Answer::Cart(_)
            | Answer::CartDeleted
            | Answer::Checkout(..)
            | Answer::Order(_)
            | Answer::Refund(_)
            | Answer::Fulfilment(_)
            | Answer::Noticed => unreachable!("Invariant: reserving answers a reservation"),
        }
    }

    /// Each step of each shopper has a key of its own, the same at every attempt.
    fn ticket(&self, engine: &Engine, shopper: u32, step: &str) -> Ticket {
        let key = format!("{}:{shopper}:{step}", self.run);
        engine.ticket("demo-crowd", Some(&key), "POST", step, b"", Instant::now() + STEP_MAX)
    }
}

/// Says that the crowd is gone even where its own task ended early.
struct Ending {
    crowd: Arc<Crowd>,
    began: Instant,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let took_ms = milliseconds(self.began.elapsed());
        self.crowd.end.lock().get_or_insert(End { took_ms, books: None });
    }
}

impl Demo {
    /// Whether a crowd is in the shop.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowd.lock().as_ref().is_some_and(|crowd| crowd.end.lock().is_none())
    }

    /// Lets a crowd in, if there is a drop and no other crowd.
    pub(super) async fn let_in(&self, shoppers: u32) -> Result<CrowdReport, Problem> {
        let refuse = |from, detail| Err(not_now(from, "let shoppers in", detail));
        let Some(drop) = self.present_drop().await? else {
            return refuse("none", "there is no drop yet; make one with POST /demo/drops");
        };
        if !drop.open {
            return refuse("announced", "the drop has not opened yet");
        }
        let sku = Sku::new(&drop.sku).map_err(|error| Problem::not_found(error.to_string()))?;
        let before = self.engine.stock(sku.clone()).await?;
        let crowd = Arc::new(Crowd {
            run: format!("demo:crowd:{}", uuid::Uuid::new_v4().simple()),
            sku,
            shoppers,
            before,
            tally: Tally::default(),
            end: Mutex::default(),
        });
        {
            let mut place = self.crowd.lock();
            if place.as_ref().is_some_and(|other| other.end.lock().is_none()) {
                return refuse("crowded", "another crowd is still in the shop");
            }
            *place = Some(Arc::clone(&crowd));
        }
        actix_rt::spawn(Arc::clone(&crowd).run(self.engine.clone(), self.options.crowd_lasts));
        Ok(crowd.report())
    }
}

/// Whether these books agree with what a crowd was told. Others may have bought beside it, so more may be sold than it knows of,
/// never less; and nobody got two units for one click.
fn is_sound(books: Books, sold_before: i64, bought: u32, doubled: u32) -> bool {
    books.received == books.on_hand + books.sold
        && books.on_hand >= books.reserved
        && books.reserved >= 0
        && books.sold - sold_before >= i64::from(bought)
        && doubled == 0
}

/// How many of `all` have come by the beginning of this burst.
fn share(all: u32, burst: u32) -> u32 {
    // The greatest crowd times all bursts is far below the type's end.
    all * burst / BURSTS
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Asks until there is an answer that stands, as every client should: with the same key.
async fn insist(ask: impl AsyncFn() -> Verdict) -> Verdict {
    let mut attempts = 1;
    loop {
        let verdict = ask().await;
        let pause_ms = match &verdict {
            Err(
                Refusal::Overloaded { retry_after_ms }
                | Refusal::InProgress { retry_after_ms }
                | Refusal::Recovering { retry_after_ms }
                | Refusal::StorageFull { retry_after_ms },
            ) => *retry_after_ms,
            Err(Refusal::DeadlineExceeded) => 0,
            Ok(_) | Err(_) => return verdict,
        };
        if attempts == ATTEMPTS_MAX {
            return verdict;
        }
        attempts += 1;
        actix_rt::time::sleep(Duration::from_millis(pause_ms).min(PAUSE_MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_comes_once() {
        for all in [1, 39, 40, 41, 500, SHOPPERS_MAX] {
            assert_eq!(share(all, 0), 0, "{all}");
            assert_eq!(share(all, BURSTS), all, "{all}");
            assert!((0..BURSTS).all(|burst| share(all, burst) <= share(all, burst + 1)), "{all}");
        }
    }

    #[test]
    fn books_that_hide_a_unit_are_not_sound() {
        let check = |label: &str, books: [i64; 4], bought: u32, doubled: u32, expected: bool| {
            let [received, on_hand, reserved, sold] = books;
            let books = Books { received, on_hand, reserved, available: on_hand - reserved, sold };
            assert_eq!(is_sound(books, 10, bought, doubled), expected, "{label}");
        };
        check("all told", [200, 0, 0, 200], 190, 0, true);
        check("somebody else bought one", [200, 5, 1, 195], 184, 0, true);
        check("one more sold than there was", [200, 0, 0, 201], 191, 0, false);
        check("one was told it has a unit that is not sold", [200, 1, 0, 199], 190, 0, false);
        check("more held than there is", [200, 1, 2, 199], 189, 0, false);
        check("a click counted twice", [200, 0, 0, 200], 190, 1, false);
    }
}
