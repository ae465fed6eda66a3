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
    /// Stops after so many histories that broke a law.
    #[arg(long, default_value_t = 5)]
    broken_max: usize,
    /// Prints the outcome as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plants each of the engine's seeded bugs and hunts it: all must be caught, each by a law of its own and by a seed that
    /// is sound without it. Needs the feature `mutants`, which `cargo mutants` turns on.
    Mutants {
        /// Only these, by name.
        names: Vec<String>,
        /// Seeds to try before a bug counts as a survivor.
        #[arg(long, default_value_t = 200)]
        seeds_max: u64,
        /// Lives only the seed that `caught.txt` knows for each: seconds instead of minutes, as every build does.
        #[arg(long)]
        known: bool,
    },
    /// Hunts whatever bug this build has: ends well once a seed breaks a law.
    Catch {
        /// The last seed to try before the bug counts as a survivor.
        #[arg(long, default_value_t = 500)]
        seeds_max: u64,
        /// The first one.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads =
        arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let sound = match &arguments.command {
        Some(Command::Mutants { names, seeds_max, known }) => {
            mutants(names, *seeds_max, *known, threads, arguments.json)
        }
        Some(Command::Catch { seeds_max, from }) => catch(*from, *seeds_max, threads),
        None => match arguments.seed {
            Some(seed) => one(seed, arguments.trace),
            None => many(&arguments, threads),
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

fn many(arguments: &Arguments, threads: usize) -> bool {
    let (from, count) = (arguments.from, arguments.seeds);
    let regressions = if from == 1 { run::regressions() } else { Vec::new() };
    let mut lived = std::collections::BTreeSet::new();
    let mut seeds: Vec<u64> = regressions.into_iter().chain(from..from + count).collect();
    seeds.retain(|seed| lived.insert(*seed));
    let summary = run::run(&seeds, threads, arguments.broken_max, arguments.json);
    if arguments.json {
        println!("{}", as_json(&summary));
        return summary.is_sound();
    }
    for history in &summary.broken {
        tell_broken(history);
    }
    println!("rare states reached, over {} histories:\n histories    times  state", summary.seeds);
    for ((name, histories), times) in NAMES.iter().zip(&summary.reached_in).zip(&summary.reached) {
        println!("{histories:>10} {times:>8}  {name}");
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
        "reached": by_name(&summary.reached),
        "reached_in": by_name(&summary.reached_in),
        "never": summary.never(),
    })
}

fn by_name(counts: &[u64]) -> std::collections::BTreeMap<&'static str, u64> {
    NAMES.iter().copied().zip(counts.iter().copied()).collect()
}

fn catch(from: u64, seeds_max: u64, threads: usize) -> bool {
    match run::first_broken(from, seeds_max, threads) {
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
fn mutants(names: &[String], seeds_max: u64, is_known: bool, threads: usize, json: bool) -> bool {
    use doorbuster_engine::mutant::Mutant;
    use doorbuster_simulator::{caught, hunt};

    if let Some(unknown) = names.iter().find(|name| caught::named(name).is_none()) {
        println!("there is no mutant {unknown}; engine/src/mutant.rs lists them");
        return false;
    }
    let chosen: Vec<Mutant> = Mutant::ALL
        .iter()
        .copied()
        .filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name()))
        .filter(|mutant| !(is_known && caught::missed().contains(mutant)))
        .collect();
    let hunted = if is_known {
        hunt::again(&chosen, threads, json)
    } else {
        hunt::hunt(&chosen, seeds_max, threads, json)
    };
    let survivors = hunted.iter().filter(|found| found.by.is_none()).count();
    if json {
        let rows = hunted.iter().map(|found| {
            serde_json::json!({
                "mutant": found.mutant.name(),
                "laws": found.mutant.laws(),
                "seed": found.by.as_ref().map(|(seed, _)| *seed),
                "law": found.by.as_ref().map(|(_, broken)| broken.law),
                "seen": found.by.as_ref().map(|(_, broken)| broken.seen.as_str()),
                "beside": found.beside.iter().map(|(seed, broken)| (*seed, broken.to_string())).collect::<Vec<_>>(),
                "seconds": found.seconds,
            })
        });
        println!("{}", serde_json::Value::Array(rows.collect()));
        return survivors == 0;
    }
    println!("{:<32} seed law  seconds  seen", "mutant");
    for found in &hunted {
        let (seed, law, seen) = match &found.by {
            Some((seed, broken)) => (seed.to_string(), broken.law.to_string(), broken.seen.clone()),
            None => ("-".into(), "-".into(), format!("SURVIVED: {}", found.mutant.what())),
        };
        let seen: String = seen.chars().take(150).collect();
        println!("{:<32} {seed:>4} {law:>3} {:>8.1}  {seen}", found.mutant.name(), found.seconds);
        for (seed, broken) in &found.beside {
            let beside: String = broken.to_string().chars().take(110).collect();
            println!("{:<32} {seed:>4}               does not count: {beside}", "");
        }
    }
    println!("{} of {} mutants caught", hunted.len() - survivors, hunted.len());
    if is_known {
        for mutant in caught::missed() {
            println!("not lived, for no seed has caught it yet: {} ({})", mutant.name(), mutant.what());
        }
    }
    survivors == 0
}

#[cfg(not(feature = "mutants"))]
fn mutants(_: &[String], _: u64, _: bool, _: usize, _: bool) -> bool {
    println!("this build has no mutants; run `cargo mutants`");
    false
}
