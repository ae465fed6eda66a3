//! The engine beside a no-op, a typical service, Postgres and Redis: the same work, the same generator, in turns.
//!
//! `scripts/measure/peers` builds and runs it. Start at [`measure::all`]; what is asked is in `generator/requests.rs`,
//! who is asked in `contenders/`, the goals in `goals.rs`.
#![cfg(target_os = "linux")]

mod answers;
mod ask;
mod contenders;
mod figures;
mod generator;
mod goals;
mod measure;
mod options;
mod overload;
mod plan;
mod programs;
mod report;
mod servers;
mod syncs;

use std::process::{Command as Process, ExitCode};

use clap::Parser;

use contenders::Arena;
use doorbuster_servers::process;
use options::Options;
use programs::Programs;
use report::{Circumstances, Report, Versions};

/// The engine's own allocator, for the servers of this program too: the largest cheap gain is kept from nobody.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(version, about = "The engine and its peers, measured side by side")]
enum Command {
    Measure(Box<Options>),
    Overload(overload::Options),
    Idle(overload::idle::Options),
    #[command(hide = true)]
    Noop(servers::noop::Arguments),
    #[command(hide = true)]
    Typical(servers::typical::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Measure(options) => measure(*options),
        Command::Overload(options) => overload::measure(&options),
        Command::Idle(options) => overload::idle::measure(&options),
        Command::Noop(arguments) => servers::noop::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Typical(arguments) => servers::typical::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("peers: {error:#}");
            if process::interrupted() { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::from(2) }
        }
    }
}

/// Exit code after Ctrl-C, as shells know it.
const EXIT_INTERRUPTED: u8 = 130;

fn measure(options: Options) -> anyhow::Result<ExitCode> {
    process::catch_signals()?;
    // A busy port is told before anything is started or installed.
    if let Some(port) = options.port {
        process::free_port(Some(port))?;
    }
    let programs = Programs::find(&options)?;
    let versions = versions(&programs);
    let mut arena = Arena::new(options, programs)?;
    let mut machine = figures::Machine::look(arena.path());
    let measured_at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let measured = measure::all(&mut arena, |run| {
        let state = match &run.void {
            Some(reason) => format!("VOID: {reason}"),
            None if run.noisy => "noisy".to_owned(),
            None => String::new(),
        };
        eprintln!(
            "round {} {:<12} {:<21} {:>9.0}/s  p99 {:>8.0} us  {:>6.1} us CPU  {state}",
            run.round + 1,
            run.row.name(),
            run.contender.name(),
            run.rate,
            run.p99_us,
            run.server_cpu_us,
        );
    })?;
    machine.load_after = figures::load_average();
    machine.nice = machine.nice.max(figures::nice());
    let options = arena.options.clone();
    let report = Report::new(Circumstances { measured_at, machine, versions, options }, measured);
    println!("{}", report::tables(&report));
    if let Some(path) = &report.options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .map_err(|error| anyhow::anyhow!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn versions(programs: &Programs) -> Versions {
    let version = |program: std::path::PathBuf| figures::first_line(Process::new(program).arg("--version"));
    Versions {
        harness: env!("CARGO_PKG_VERSION").to_owned(),
        engine: programs.engine.clone().and_then(version),
        postgres: programs.postgres.clone().map(|directory| directory.join("postgres")).and_then(version),
        redis: programs.redis.clone().and_then(version),
    }
}
