//! Power cuts and failing disks, on the real binary `doorbuster` under the recorder of `proofs/disk-shim`.
//!
//! `power-cut` builds the disks that a cut could leave and recovers each; `disk` lets syncs and writes fail, the disk be
//! full or slow. The judge shares the engine's decoding and recovery, which are on trial, and nothing of how it decides
//! when to answer. Start at `power_cut` and `faults`.
#![cfg(target_os = "linux")]

mod chance;
mod client;
mod disk;
mod engine;
mod faults;
mod history;
mod judge;
mod judges;
mod moments;
mod power_cut;
mod record;
mod recording;
mod report;
mod shoppers;

use std::process::ExitCode;

use clap::Parser;

/// Power cuts and failing disks, on the real binary.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 every promise held; 1 one was broken; 2 the proof could not be run."
)]
enum Command {
    PowerCut(power_cut::Arguments),
    Disk(faults::Arguments),
    #[command(hide = true)]
    Judge(judges::Arguments),
}

fn main() -> ExitCode {
    // sled panics on some damage, and recovery catches that: ten thousand images would print it ten thousand times.
    std::panic::set_hook(Box::new(|panic| {
        if !panic.location().is_some_and(|at| at.file().contains("/sled-")) {
            eprintln!("{panic}");
        }
    }));
    let outcome = match Command::parse() {
        Command::PowerCut(arguments) => power_cut::run(&arguments),
        Command::Disk(arguments) => faults::run(&arguments),
        Command::Judge(arguments) => judges::work(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("doorbuster-crashes: {error:#}");
            ExitCode::from(2)
        }
    }
}
