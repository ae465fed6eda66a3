//! The engine under ten times what it can do, and beside connections that say nothing.
//!
//! [`measure`] finds the most that the engine grants under a share of the processors, offers a multiple of it, and then
//! half of it, to see how soon all is as before. `scripts/measure/overload` builds and runs it.

pub(crate) mod idle;
mod quota;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::contenders::{Arena, Stand};
use crate::figures;
use crate::generator::crowd::{Crowd, Stretch};
use crate::plan::{Contender, Row};
use crate::programs::Programs;
use doorbuster_servers::process::catch_signals;
use quota::Quota;

/// Measure the engine under a multiple of what it can grant
///
/// The engine gets a share of the processors, so that the generator can outrun it. First as many reservations as it can
/// grant (closed loop), then the multiple of that (open loop), then half of it. A request that finds no free connection
/// is turned away by the generator and counted: the connections bound what the engine can have before it, and with it,
/// by Little's law, how quickly anybody can be answered.
///
/// Memory is told twice: as it is, and without what the reservations granted meanwhile weigh, measured while the engine
/// was not overloaded.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 measured; 2 it could not be run; 130 interrupted.")]
pub(crate) struct Options {
    /// Processor time for the engine, in percent of one core; needs a writable cgroup. 0: no limit
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000), value_name = "PERCENT")]
    quota: u32,
    /// Connections of the overload
    #[arg(long, default_value_t = 1_000, value_parser = connections, value_name = "N")]
    connections: usize,
    /// Connections with which the most is found
    #[arg(long, default_value_t = 128, value_parser = connections, value_name = "N")]
    peak_connections: usize,
    /// How many times the most is offered
    #[arg(long, default_value_t = 10.0, value_parser = times, value_name = "N")]
    times: f64,
    /// Length of the overload; the other two stretches take half of it
    #[arg(long, default_value_t = 10.0, value_parser = seconds, value_name = "S")]
    seconds: f64,
    /// Which part of the refused comes again only when told to, and not at once
    #[arg(long, default_value_t = 0.0, value_parser = part, value_name = "0..1")]
    patient: f64,
    /// How often everything is repeated
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    rounds: u32,
    /// Workers of the engine (default: its own)
    #[arg(long, value_name = "N")]
    engine_workers: Option<usize>,
    /// The engine's binary (default: `doorbuster` beside this program)
    #[arg(long, env = "DOORBUSTER", value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Where the engine keeps its data, on a real disk
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn connections(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| (1..=15_000).contains(number)).ok_or_else(|| "1 to 15000".to_owned())
}

fn times(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| (0.1..=100.0).contains(number)).ok_or_else(|| "0.1 to 100".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| (1.0..=600.0).contains(number)).ok_or_else(|| "1 to 600".to_owned())
}

fn part(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| "0 to 1".to_owned())
}

/// Runs the command.
pub(crate) fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    catch_signals()?;
    let plain = crate::options::Options::of_engine(
        options.engine.clone(),
        options.directory.clone(),
        options.engine_workers,
    );
    let programs = Programs::find(&plain)?;
    let arena = Arena::new(plain, programs)?;
    let mut rounds = vec![];
    for round in 1..=options.rounds {
        let report = once(options, &arena)?;
        println!("round {round}: {report}");
        rounds.push(report);
    }
    println!();
    for name in FIGURES {
        let mut all: Vec<f64> = rounds.iter().filter_map(|round| round[name].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        if let [least, .., most] | [least @ most] = all.as_slice() {
            println!("{name:<28} {:>10.2}  ({least:.2} to {most:.2})", all[all.len() / 2]);
        }
    }
    if let Some(path) = &options.json {
        let whole =
            json!({"options": format!("{options:?}"), "load": figures::load_average(), "rounds": rounds});
        std::fs::write(path, format!("{whole:#}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is told of all rounds together.
const FIGURES: [&str; 13] = [
    "peak_per_s",
    "peak_p99_ms",
    "offered_per_s",
    "sent_per_s",
    "goodput_of_peak",
    "granted_p50_ms",
    "granted_p99_ms",
    "refused_per_s",
    "refused_p50_ms",
    "refused_p99_ms",
    "memory_ratio",
    "memory_ratio_beside_grants",
    "recovered_s",
];

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of one run are far below 2^52")]
fn once(options: &Options, arena: &Arena) -> anyhow::Result<Value> {
    let stand = arena.stand(Contender::Engine)?;
    let quota = Quota::of(stand.server.pid(), options.quota)?;
    let mut script = stand.script(arena, Row::Many)?;
    let mut crowd = Crowd::gather(
        stand.server.address,
        options.connections.max(options.peak_connections),
        script.as_mut(),
    )?;
    let half = Duration::from_secs_f64(options.seconds / 2.0);
    let closed =
        |length| Stretch { per_second: None, connections: options.peak_connections, length, patient: 0.0 };
    let memory = Memory::watch(stand.server.pid());
    crowd.drive(&closed(Duration::from_secs(1)))?;
    let at_first = memory.now()?;
    crowd.drive(&closed(half))?;
    let before = memory.now()?;
    let peak = crowd.last().rate();
    memory.forget();
    let offered = peak * options.times;
    let open = |per_second, length| Stretch {
        per_second: Some(per_second),
        connections: options.connections,
        length,
        patient: options.patient,
    };
    crowd.drive(&open(offered, half * 2))?;
    let most = memory.most().max(memory.now()?);
    crowd.drive(&open(peak / 2.0, half))?;
    let told = crowd.told();
    let [_, calm, over, after] = told.as_slice() else { anyhow::bail!("four stretches were driven") };
    drop(quota);
    let report = {
        let per_grant = before.saturating_sub(at_first) as f64 / calm.granted_within.max(1) as f64;
        let grown = most as f64 - per_grant * over.granted_within as f64;
        let ms =
            |told: &hdrhistogram::Histogram<u64>, quantile| told.value_at_quantile(quantile) as f64 / 1e6;
        let seconds = over.length.as_secs_f64();
        json!({
            "peak_per_s": peak, "peak_p99_ms": ms(&calm.granted, 0.99),
            "offered_per_s": over.due as f64 / seconds,
            "sent_per_s": (over.due - over.turned_away) as f64 / seconds,
            "goodput_of_peak": over.rate() / peak,
            "granted_p50_ms": ms(&over.granted, 0.5), "granted_p99_ms": ms(&over.granted, 0.99),
            "refused_per_s": over.refused.len() as f64 / seconds,
            "refused_p50_ms": ms(&over.refused, 0.5), "refused_p99_ms": ms(&over.refused, 0.99),
            "refused_without_retry_after": over.without_time + after.without_time,
            "retry_after_s": over.retry_after_s.iter().map(|(s, n)| (s.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
            "others": over.others.iter().map(|(s, n)| (s.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
            "memory_ratio": most as f64 / before.max(1) as f64,
            "memory_ratio_beside_grants": grown / before.max(1) as f64,
            "recovered_s": after.last_trouble.as_secs_f64(),
            "after_p99_ms": ms(&after.granted, 0.99), "after_refused": after.refused.len(),
            "generator_late_max_ms": over.own_delay_max.as_secs_f64() * 1e3,
        })
    };
    finish(stand)?;
    Ok(report)
}

/// A stand after overload has a long list of reservations to write down; it stops all the same.
fn finish(stand: Stand) -> anyhow::Result<()> {
    stand.stop().context("the engine did not stop in order after the overload")
}

/// Resident memory of a process, looked at ten times a second.
struct Memory {
    process: u32,
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Memory {
    fn watch(process: u32) -> Self {
        let memory = Self { process, most: Arc::default(), over: Arc::default() };
        let (most, over) = (Arc::clone(&memory.most), Arc::clone(&memory.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident_kib(process).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        memory
    }

    fn now(&self) -> anyhow::Result<u64> {
        resident_kib(self.process)
    }

    fn forget(&self) {
        self.most.store(0, Ordering::Relaxed);
    }

    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn resident_kib(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(Path::new(&path)).context(path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("");
    Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or(0))
}
