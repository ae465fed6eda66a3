//! The engine without HTTP: index, mailbox, decision, journal, sync and gate, for callers on the worker's own thread.
//!
//! `cargo bench --package doorbuster-benches --bench engine` runs each row in a process of its own and prints a line for it:
//! durable reservations a second, and a CPU second of all threads, which other work on the machine moves less. `SECONDS` is how
//! long each row is measured, `CALLERS` how many are in flight. The rows show how the cost of a command grows with SKUs and
//! open reservations, and what each weighs in memory.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::{Duration, Instant};

use doorbuster_actors::{Engine, EngineOptions, Readiness, ReserveRequest};
use doorbuster_benches::figures::{machine, processor_seconds, resident_bytes, size};
use doorbuster_engine::answer::Item;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell};
use futures_util::StreamExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// SKUs, and reservations open before the measurement begins.
const ROWS: [(usize, usize); 7] =
    [(1, 10), (1, 10_000), (1, 1_000_000), (1_000, 10), (10_000, 10), (100_000, 10), (1_000_000, 10)];

/// Requests in flight while the catalogue and the open reservations are made.
const IN_FLIGHT: usize = 1_024;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if let (Some(skus), Some(open), Some(data)) = (arguments.next(), arguments.next(), arguments.next()) {
        let (Ok(skus), Ok(open)) = (skus.parse(), open.parse()) else { return ExitCode::FAILURE };
        measure(skus, open, Path::new(&data));
        return ExitCode::SUCCESS;
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    let own = std::env::current_exe().expect("a path of its own");
    for (skus, open) in ROWS {
        let data = root.path().join(format!("{skus}-{open}"));
        let done = Command::new(&own).args([skus.to_string(), open.to_string()]).arg(&data).status();
        if !done.is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
        std::fs::remove_dir_all(&data).expect("the row's own directory");
    }
    ExitCode::SUCCESS
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn measure(skus: usize, open: usize, data: &Path) {
    let mut options = EngineOptions::new(data.to_path_buf());
    options.workers = 1;
    options.limits.in_flight_max = 1 << 20;
    options.limits.waiting_per_sku_max = 1 << 20;
    let (callers, window) = (size("CALLERS", 1_024), Duration::from_secs(size("SECONDS", 3) as u64));
    actix_rt::System::new().block_on(async move {
        let (engine, _) = Engine::start(options, &mut |_| {}).expect("an empty directory");
        engine.attach_worker();
        assert_eq!(engine.readiness(), Readiness::Ready);
        let empty = resident_bytes();
        let names: Rc<[Sku]> =
            (0..skus).map(|number| Sku::new(&format!("SKU-{number:07}")).expect("a sound name")).collect();
        futures_util::stream::iter(names.iter())
            .for_each_concurrent(IN_FLIGHT, |sku| define(&engine, sku.clone()))
            .await;
        let stocked = resident_bytes();
        let next = Rc::new(Cell::new(0_usize));
        futures_util::stream::iter(0..open)
            .for_each_concurrent(IN_FLIGHT, |_| reserve(&engine, &names, &next))
            .await;
        let held = resident_bytes();
        let (began, spent, first) = (Instant::now(), processor_seconds(), next.get());
        let calls = (0..callers).map(|_| {
            let (engine, names, next) = (engine.clone(), Rc::clone(&names), Rc::clone(&next));
            async move {
                while began.elapsed() < window {
                    reserve(&engine, &names, &next).await;
                }
            }
        });
        futures_util::future::join_all(calls.map(actix_rt::spawn)).await;
        let (took, spent) = (began.elapsed().as_secs_f64(), processor_seconds() - spent);
        let done = (next.get() - first) as f64;
        println!(
            "{skus:>9} SKUs {open:>9} open: {:>9.0}/s, {:.2} M per CPU second, {:.2} us each; {} B a SKU, {} B an open reservation; {}",
            done / took,
            done / spent / 1e6,
            spent * 1e6 / done,
            (stocked - empty) / skus.max(1) as u64,
            held.saturating_sub(stocked) / open.max(1) as u64,
            machine(),
        );
        engine.drain().await;
        engine.stop();
    });
    // Giving millions of entries back one by one would only delay the next row.
    std::process::exit(0);
}

async fn define(engine: &Engine, sku: Sku) {
    let definition = Definition {
        name: "An item that everybody wants".into(),
        price: Money::new(1_999, Currency::GBP),
        oversell: Oversell::Deny,
        reservation_ttl_ms: None,
        low_stock_at: None,
    };
    let ticket = engine.ticket("bench", Some(sku.as_str()), "PUT", "/v1/admin/skus", b"", deadline());
    engine.define_sku(ticket, sku, definition, Some(1_000_000_000)).await.expect("a SKU is made");
}

/// One durable reservation of one unit, with a key of its own, of the SKUs in turn.
async fn reserve(engine: &Engine, names: &[Sku], next: &Cell<usize>) {
    let number = next.get();
    next.set(number + 1);
    let key = format!("shopper-{number:016}");
    let ticket =
        engine.ticket("anonymous", Some(&key), "POST", "/v1/reservations", b"SKU-0000000:1", deadline());
    let sku = names[number % names.len()].clone();
    let request = ReserveRequest {
        items: vec![Item { sku, quantity: 1 }],
        ttl_ms: None,
        partial: false,
        customer: None,
    };
    engine.reserve(ticket, request).await.expect("ample stock");
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}
