//! How fast a journal is replayed, and how soon an engine is ready from a checkpoint.
//!
//! `cargo bench --package doorbuster-benches --bench recovery` makes the data in the system's temporary directory (a
//! gigabyte or so), runs each stage in a process of its own, and prints a line of figures for each. `RECORDS`, `SKUS` and
//! `HELD` change the sizes. The figure that counts is events per CPU second: it cannot hide a second thread.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use doorbuster_actors::{Engine, EngineOptions, Readiness};
use doorbuster_benches::figures::{machine, processor_seconds, size};
use doorbuster_benches::history;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::file_journal::JournalOptions;
use doorbuster_persistence::recovery::recover;
use doorbuster_persistence::verify::verify;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What each stage does; each is a process, so that its peak memory and its processor time are its own.
const STAGES: [&str; 6] = ["write", "replay", "verify", "write-held", "checkpoint", "ready"];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if let (Some(stage), Some(data)) = (arguments.next(), arguments.next()) {
        run(&stage, Path::new(&data));
        return ExitCode::SUCCESS;
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    let own = std::env::current_exe().expect("a path of its own");
    for stage in STAGES {
        let data =
            root.path().join(if matches!(stage, "write" | "replay" | "verify") { "mixed" } else { "held" });
        let done = Command::new(&own).arg(stage).arg(&data).status();
        if !done.is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(stage: &str, data: &Path) {
    let skus = size("SKUS", 100_000);
    let held = size("HELD", 1_000_000);
    let records = size("RECORDS", 4_000_000);
    match stage {
        "write" => history::write(data, skus / 10, held / 10, records as u64),
        "replay" => replay(data),
        "verify" => {
            let report = verify(data, &mut |_| {}).expect("a readable directory");
            assert!(report.is_sound(), "{:?}", report.problems);
            tell("verify", report.records, report.bytes, report.seconds);
        }
        "write-held" => history::write_held(data, skus, held),
        // The first start folds the journal; its clean end leaves a checkpoint of everything.
        "checkpoint" => start(data, false),
        "ready" => start(data, true),
        other => panic!("there is no stage {other}"),
    }
}

fn replay(data: &Path) {
    let directory = DataDirectory::open(data).expect("the written directory");
    let recovered = recover(&directory, JournalOptions::default(), &mut |_| {}).expect("a sound journal");
    let report = &recovered.report;
    let bytes = std::fs::read_dir(data.join("journal")).expect("segments");
    let bytes = bytes.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum();
    tell("replay", report.records_replayed, bytes, report.seconds);
}

/// Starts an engine, waits until it is ready, ends it cleanly.
fn start(data: &Path, told: bool) {
    let mut options = EngineOptions::new(data.to_path_buf());
    options.workers = 2;
    let began = Instant::now();
    actix_rt::System::new().block_on(async move {
        let (engine, report) = Engine::start(options, &mut |_| {}).expect("a sound directory");
        let recovered = began.elapsed();
        let arbiters = [actix_rt::Arbiter::new(), actix_rt::Arbiter::new()];
        for arbiter in &arbiters {
            let engine = engine.clone();
            arbiter.spawn_fn(move || engine.attach_worker());
        }
        while engine.readiness() != Readiness::Ready {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        if told {
            println!(
                "ready        {:.2} s ({:.2} s until the workers start, {:.2} s of it recovery), {} rows, {} records replayed, {}",
                began.elapsed().as_secs_f64(),
                recovered.as_secs_f64(),
                report.seconds,
                report.rows,
                report.records_replayed,
                machine(),
            );
        }
        engine.drain().await;
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().expect("a worker");
        }
        engine.stop();
    });
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn tell(what: &str, records: u64, bytes: u64, seconds: f64) {
    let (millions, cpu) = (records as f64 / 1e6, processor_seconds());
    println!(
        "{what:<12} {millions:.2} M records, {} MiB: {seconds:.2} s, {:.2} M/s; {:.2} M per CPU second; {}",
        bytes >> 20,
        millions / seconds,
        millions / cpu,
        machine(),
    );
}
