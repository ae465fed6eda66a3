//! Measures law 6 and law 11 in a storm: reservations that all expire within one second, while other requests come at a
//! steady rate. The whole engine with its real journal and checkpoints, asked in this process; no HTTP.
//!
//! Expiry lag is read from the journal: when an expiry was decided minus when it was due. Other requests are timed from
//! when they were due, not from when they were sent, so that a stall counts for everybody whom it kept waiting. Run it by
//! `scripts/measure/expiry-storm`, which names the variables.

// A measurement says what it finds, and its numbers are small.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::cast_precision_loss)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use doorbuster_actors::{Engine, EngineOptions, Readiness, ReserveRequest, Ticket, Verdict};
use doorbuster_engine::answer::{Answer, Item};
use doorbuster_engine::event::Event;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};
use doorbuster_persistence::codec::records;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;

/// Reservations on their way at a time while filling.
const FILLING: usize = 1_024;
/// SKUs of the other requests.
const OTHERS: usize = 50;
/// How long the others are watched before the storm: longer than the ten seconds between two checkpoint rounds.
const CALM: Duration = Duration::from_secs(12);
/// The storm's second, and as long as its last wave may last.
const STORM: Duration = Duration::from_millis(1_500);

struct Settings {
    storm: usize,
    skus: usize,
    open: usize,
    rate: u32,
}

fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn main() {
    let settings = Settings {
        storm: setting("STORM", 100_000),
        skus: setting("SKUS", 1).max(1),
        open: setting("OPEN", 0),
        rate: u32::try_from(setting("RATE", 1_000)).unwrap().max(1),
    };
    let data = tempfile::tempdir().unwrap();
    let latencies = actix_rt::System::new().block_on(measure(data.path(), &settings));
    report(&settings, latencies, lags(data.path()));
}

async fn measure(data: &Path, settings: &Settings) -> Vec<(Duration, Duration)> {
    let options = EngineOptions { workers: 2, ..EngineOptions::new(data.to_path_buf()) };
    let (engine, _) = Engine::start(options, &mut |_| {}).unwrap();
    let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
    for arbiter in &arbiters {
        let engine = engine.clone();
        arbiter.spawn_fn(move || engine.attach_worker());
    }
    while engine.readiness() != Readiness::Ready {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for n in 0..settings.skus {
        define(&engine, &format!("STORM-{n}")).await;
    }
    for n in 0..OTHERS {
        define(&engine, &format!("OTHER-{n}")).await;
    }
    let day_ms = 86_400_000;
    fill(&engine, "open", settings.open, move |_| ("STORM-0".to_owned(), day_ms)).await;
    // Fills at no less than 10,000 a second; the storm breaks after the calm.
    let filling_ms = 2_000 + u64::try_from(settings.storm / 10).unwrap();
    let calm_ms = u64::try_from(CALM.as_millis()).unwrap();
    let breaks_ms = wall_ms() + filling_ms + calm_ms;
    let breaks = Instant::now() + Duration::from_millis(filling_ms) + CALM;
    let (storm, skus) = (settings.storm, settings.skus);
    fill(&engine, "storm", storm, move |n| {
        let due_ms = breaks_ms + u64::try_from(n * 1_000 / storm).unwrap();
        (format!("STORM-{}", n % skus), due_ms.saturating_sub(wall_ms()).max(1))
    })
    .await;
    assert!(
        Instant::now() + CALM < breaks + Duration::from_secs(1),
        "filling took too long for this machine: lower STORM"
    );
    let latencies = others(&engine, settings.rate, breaks).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    engine.drain().await;
    for arbiter in arbiters {
        arbiter.stop();
        arbiter.join().unwrap();
    }
    engine.stop();
    latencies
}

fn wall_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn ticket(engine: &Engine, key: &str) -> Ticket {
    engine.ticket("storm", Some(key), "POST", "/", b"", Instant::now() + Duration::from_secs(60))
}

async fn define(engine: &Engine, name: &str) {
    let definition = Definition {
        name: name.into(),
        price: Money::new(100, Currency::GBP),
        oversell: Oversell::Deny,
        reservation_ttl_ms: None,
        low_stock_at: None,
    };
    engine
        .define_sku(ticket(engine, name), Sku::new(name).unwrap(), definition, Some(1_000_000_000))
        .await
        .unwrap();
}

async fn reserve(engine: &Engine, key: &str, sku: &str, ttl_ms: u64) -> Verdict {
    let items = vec![Item { sku: Sku::new(sku).unwrap(), quantity: 1 }];
    let request = ReserveRequest { items, ttl_ms: Some(ttl_ms), partial: false, customer: None };
    engine.reserve(ticket(engine, key), request).await
}

/// Reserves `count` times, many at once.
async fn fill(
    engine: &Engine,
    name: &'static str,
    count: usize,
    what: impl Fn(usize) -> (String, u64) + Clone + 'static,
) {
    let tasks: Vec<_> = (0..FILLING)
        .map(|first| {
            let (engine, what) = (engine.clone(), what.clone());
            actix_rt::spawn(async move {
                for n in (first..count).step_by(FILLING) {
                    let (sku, ttl_ms) = what(n);
                    reserve(&engine, &format!("{name} {n}"), &sku, ttl_ms).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Sends requests at a steady rate until the storm is over; each is a reservation, every second one sold at once. Returns
/// for each when it was due, relative to [`CALM`] before the storm, and how long it took.
async fn others(engine: &Engine, rate: u32, breaks: Instant) -> Vec<(Duration, Duration)> {
    let taken = Rc::new(RefCell::new(Vec::new()));
    let begins = breaks.checked_sub(CALM).unwrap();
    let count = ((CALM + STORM).as_secs_f64() * f64::from(rate)) as u32;
    let mut tasks = Vec::new();
    for n in 0..count {
        let due = begins + Duration::from_secs(1) * n / rate;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
        let (engine, taken) = (engine.clone(), Rc::clone(&taken));
        tasks.push(actix_rt::spawn(async move {
            // A tenth of them want what the storm is about.
            let sku =
                if n % 10 == 0 { "STORM-0".to_owned() } else { format!("OTHER-{}", n as usize % OTHERS) };
            let held = reserve(&engine, &format!("other {n}"), &sku, 600_000).await.unwrap();
            taken.borrow_mut().push((due - begins, due.elapsed()));
            if n % 2 == 0
                && let Answer::Reservation(held) = held.answer
            {
                engine.commit(ticket(&engine, &format!("sell {n}")), held.id).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    Rc::try_unwrap(taken).unwrap().into_inner()
}

/// By how many milliseconds each expiry came after its time, from the journal.
fn lags(data: &Path) -> Vec<u64> {
    let directory = DataDirectory::open(data).unwrap();
    let mut reader = JournalReader::open(directory.paths(), directory.engine(), FrameNumber::FIRST).unwrap();
    let (mut due, mut lags) = (HashMap::new(), Vec::new());
    while let Some(frame) = reader.next_frame().unwrap() {
        for record in records(frame.body) {
            let record = record.unwrap();
            let at_ms = record.header.at_ms;
            let entry = record.entry().unwrap();
            if let Event::Stock(StockEvent::Reserved { reservation, ttl_ms, .. }) = entry.event {
                due.insert(reservation, at_ms + ttl_ms);
            } else if let Event::Stock(StockEvent::Expired { reservation }) = entry.event {
                lags.push(
                    at_ms.checked_sub(due[&reservation]).expect("law 2: nothing expires before its time"),
                );
            }
        }
    }
    lags
}

/// The value below which this part of all lies.
fn quantile<T: Copy + Ord>(values: &mut [T], part: f64) -> T {
    values.sort_unstable();
    values[((values.len() - 1) as f64 * part).round() as usize]
}

fn report(settings: &Settings, latencies: Vec<(Duration, Duration)>, mut lags: Vec<u64>) {
    let Settings { storm, skus, open, rate } = settings;
    println!(
        "{storm} reservations on {skus} SKU(s) expire in one second; {open} others stay open; {rate} requests/s beside it"
    );
    let (before, during): (Vec<_>, Vec<_>) = latencies.into_iter().partition(|(due, _)| *due < CALM);
    let mut p99 = [Duration::ZERO; 2];
    for (at, (label, mut taken)) in [("before", before), ("during", during)]
        .map(|(label, rows)| (label, rows.into_iter().map(|(_, taken)| taken).collect::<Vec<_>>()))
        .into_iter()
        .enumerate()
    {
        let [half, most, nearly_all, all] =
            [0.5, 0.99, 0.999, 1.0].map(|part| quantile(&mut taken, part).as_secs_f64() * 1e3);
        p99[at] = quantile(&mut taken, 0.99);
        println!(
            "others {label}: p50 {half:.2} ms  p99 {most:.2} ms  p99.9 {nearly_all:.2} ms  max {all:.2} ms  ({} requests)",
            taken.len()
        );
    }
    if lags.is_empty() {
        return;
    }
    assert_eq!(lags.len(), *storm, "law 2: each expires once");
    let [p50, lag_p99, max] = [0.5, 0.99, 1.0].map(|part| quantile(&mut lags, part));
    println!("expiry lag: p50 {p50} ms  p99 {lag_p99} ms  max {max} ms");
    let verdict = |kept: bool| if kept { "kept" } else { "MISSED" };
    println!("goal, lag p99 under 1 s: {}", verdict(lag_p99 < 1_000));
    println!("goal, others' p99 under twice normal: {}", verdict(p99[1] < p99[0] * 2));
}
