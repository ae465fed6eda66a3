//! Checkouts through the stand-in for Stripe on the real binary, audited to the penny.
//!
//! `checkouts` has shoppers check out at fixed concurrency while replies are lost, webhooks come doubled and shuffled, cards
//! are declined, and the engine is killed again and again; `outage` takes Stripe away under load and watches the backlog
//! drain. Afterwards every order is compared with the stand-in's ledger, with what the shoppers were told and with the stock,
//! by code that shares nothing with the engine. Start at `checkouts`, `outage` and `audit`.
#![cfg(target_os = "linux")]

mod arena;
mod audit;
mod books;
mod chance;
mod checkouts;
mod client;
mod engine;
mod outage;
mod plan;
mod report;
mod shopper;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use doorbuster_servers::process;

/// A hundred thousand checkouts leave gigabytes in the stand-in's memory; the system's allocator spends more on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code after Ctrl-C, as shells know it.
const EXIT_INTERRUPTED: u8 = 130;

/// Payments through Stripe's stand-in, on the real binary.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 every promise held; 1 one was broken; 2 the proof could not be run to its end."
)]
enum Command {
    Checkouts(checkouts::Arguments),
    Outage(outage::Arguments),
}

/// What both proofs are told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// The engine, built with the feature `stripe` (default: `doorbuster` beside this program)
    #[arg(long, env = "DOORBUSTER", value_name = "FILE")]
    pub(crate) doorbuster: Option<PathBuf>,
    /// Repeats the shoppers, the faults and the kills; drawn and printed if unsaid
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Do not wait until the last orders are old enough (a minute) to be compared by the reconciliation
    #[arg(long)]
    pub(crate) quick: bool,
    /// Keep the data directory also where nothing was wrong
    #[arg(long)]
    pub(crate) keep: bool,
    /// Report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Checkouts(arguments) => checkouts::run(&arguments),
        Command::Outage(arguments) => outage::run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(_) if process::interrupted() => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => {
            eprintln!("doorbuster-payments-proof: {error:#}");
            ExitCode::from(2)
        }
    }
}
