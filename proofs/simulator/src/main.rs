//! The simulator's command line. A stranger's bug is tried by `scripts/proofs/mutant-patch FILE.patch`.

#![allow(clippy::print_stdout)] // it is what a command line does

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use doorbuster_simulator::run::{self, Summary};
use doorbuster_simulator::sometimes::NAMES;
use doorbuster_simulator::world::{History, Telling, live};

/// Lives histories of the real engine in a world of its own making, and checks every law in each.
///
/// One seed is one history: the engine's actors, journal writer, checkpointer and recovery in one thread, over a simulated
/// disk, clock, router, payment provider and clients. A seed that breaks a law is printed with what was seen and the
/// command that lives it again. To try a bug of your own: `scripts/proofs/mutant-patch FILE.patch`.
#[derive(Debug, Parser)]
#[command(name = "cargo simulate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many seeds.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: prints everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Threads; absent: one a core.
    #[arg(long, global = true)]
    threads: Option<usize>,
    /// Prints the outcome as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plants each of the engine's seeded bugs and hunts it: all must be caught. Needs the feature `mutants`, which
    /// `cargo mutants` turns on.
    Mutants {
        /// Only these, by name.
        names: Vec<String>,
        /// Seeds to try before a bug counts as a survivor.
        #[arg(long, default_value_t = 200)]
        seeds_max: u64,
    },
    /// Hunts whatever bug this build has: ends well once a seed breaks a law.
    Catch {
        /// Seeds to try before the bug counts as a survivor.
        #[arg(long, default_value_t = 500)]
        seeds_max: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads =
        arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let sound = match &arguments.command {
        Some(Command::Mutants { names, seeds_max }) => mutants(names, *seeds_max, threads, arguments.json),
        Some(Command::Catch { seeds_max }) => catch(*seeds_max, threads),
        None => match arguments.seed {
            Some(seed) => one(seed, arguments.trace),
            None => many(arguments.from, arguments.seeds, threads, arguments.json),
        },
    };
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, trace: bool) -> bool {
    let history = if trace { live(seed, Telling::Printed) } else { run::one(seed, true) };
    println!(
        "seed {seed}: {} commands, {} events, {} faults, {} lives, {} virtual ms, hash {:016x}",
        history.commands, history.events, history.faults, history.lives, history.virtual_ms, history.hash
    );
    let sound = history.broken.is_none();
    tell_broken(&history);
    sound
}

fn many(from: u64, count: u64, threads: usize, json: bool) -> bool {
    let regressions = if from == 1 { run::regressions() } else { Vec::new() };
    let seeds: Vec<u64> = regressions.into_iter().chain(from..from + count).collect();
    let summary = run::run(&seeds, threads, json);
    if json {
        println!("{}", as_json(&summary));
        return summary.is_sound();
    }
    for history in &summary.broken {
        tell_broken(history);
    }
    println!("rare states reached, over {} histories:", summary.seeds);
    for (name, count) in NAMES.iter().zip(&summary.reached) {
        println!("{count:>9}  {name}");
    }
    println!(
        "{} histories ({} of them twice), {} commands, {} durable events, {} faults, {} lives in {:.1} s on {threads} threads",
        summary.seeds,
        summary.twice,
        summary.commands,
        summary.events,
        summary.faults,
        summary.lives,
        summary.seconds
    );
    if !summary.broken.is_empty() {
        println!("FAILED: {} histories broke a law", summary.broken.len());
    } else if summary.is_sound() {
        println!("every law held in every history");
    } else {
        println!("FAILED: never reached: {}", summary.never().join("; "));
    }
    summary.is_sound()
}

fn tell_broken(history: &History) {
    let Some(broken) = &history.broken else { return };
    let seed = history.seed;
    println!("── seed {seed} after {} virtual ms: {broken}", history.virtual_ms);
    // A history is its seed's: lived again, it shows what led there.
    for line in live(seed, Telling::Kept).lines.iter().rev().take(40).rev() {
        println!("   {}", line.chars().take(400).collect::<String>());
    }
    println!("   once more: cargo simulate --seed {seed}    all of it: cargo simulate --seed {seed} --trace");
}

fn as_json(summary: &Summary) -> serde_json::Value {
    let broken = summary.broken.iter().map(|history| {
        let broken = history.broken.as_ref();
        serde_json::json!({
            "seed": history.seed,
            "law": broken.map(|broken| broken.law),
            "seen": broken.map(|broken| broken.seen.as_str()),
            "virtual_ms": history.virtual_ms,
        })
    });
    serde_json::json!({
        "sound": summary.is_sound(),
        "seeds": summary.seeds,
        "twice": summary.twice,
        "commands": summary.commands,
        "events": summary.events,
        "faults": summary.faults,
        "lives": summary.lives,
        "seconds": summary.seconds,
        "broken": broken.collect::<Vec<_>>(),
        "reached": NAMES.iter().zip(&summary.reached).map(|(name, count)| (*name, *count)).collect::<std::collections::BTreeMap<_, _>>(),
        "never": summary.never(),
    })
}

fn catch(seeds_max: u64, threads: usize) -> bool {
    match run::first_broken(seeds_max, threads) {
        Some(history) => {
            println!("CAUGHT by seed {}", history.seed);
            tell_broken(&history);
            true
        }
        None => {
            println!("SURVIVED {seeds_max} seeds: the simulator has a hole, or the change breaks no law");
            false
        }
    }
}

#[cfg(feature = "mutants")]
fn mutants(names: &[String], seeds_max: u64, threads: usize, json: bool) -> bool {
    use doorbuster_engine::mutant::Mutant;

    let chosen: Vec<Mutant> = Mutant::ALL
        .iter()
        .copied()
        .filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name()))
        .collect();
    let caught = run::hunt(&chosen, seeds_max, threads, json);
    if json {
        let rows = caught.iter().map(|found| {
            serde_json::json!({
                "mutant": found.mutant.name(),
                "law": found.mutant.law(),
                "seed": found.by.as_ref().map(|(seed, _)| *seed),
                "seen": found.by.as_ref().map(|(_, broken)| broken.to_string()),
                "seconds": found.seconds,
            })
        });
        println!("{}", serde_json::Value::Array(rows.collect()));
    } else {
        println!("{:<32} law  seed  seconds  seen", "mutant");
        for found in &caught {
            let (seed, seen) = match &found.by {
                Some((seed, broken)) => (seed.to_string(), broken.to_string()),
                None => ("-".into(), format!("SURVIVED {seeds_max} seeds: {}", found.mutant.what())),
            };
            let seen: String = seen.chars().take(110).collect();
            println!(
                "{:<32} {:>3} {seed:>5} {:>8.1}  {seen}",
                found.mutant.name(),
                found.mutant.law(),
                found.seconds
            );
        }
    }
    let survivors = caught.iter().filter(|found| found.by.is_none()).count();
    if !json {
        println!("{} of {} mutants caught", caught.len() - survivors, caught.len());
    }
    survivors == 0
}

#[cfg(not(feature = "mutants"))]
fn mutants(_: &[String], _: u64, _: usize, _: bool) -> bool {
    println!("this build has no mutants; run `cargo mutants`");
    false
}
