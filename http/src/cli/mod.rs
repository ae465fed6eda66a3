//! The `doorbuster` command: one binary that serves, fills, exercises and proves an engine.
//!
//! Each command is a module with its arguments and a `run`. A failure is one sentence with the remedy on stderr and an
//! exit code that supervisors can act on. Start at [`run`].

pub mod admin_key;
pub mod database;
pub mod demo;
pub mod doctor;
pub mod import;
pub mod logging;
pub mod migrate;
pub mod outlets;
pub mod payments;
pub mod rebuild;
pub mod reconcile;
pub mod replay;
pub mod rescue;
pub mod restore;
pub mod rush;
pub mod serve;
pub mod settings;
pub mod top;
pub mod trial;
pub mod verify;

use std::process::ExitCode;

use clap::Parser;
use doorbuster_persistence::error::StartError;

use crate::server::ServerError;

/// Exit codes, shown by `--help`.
const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  a check failed (verify, migrate, rebuild-projection, doctor, replay, rush, trial, import, reconcile)
    2  wrong usage, or an unreachable engine or database
   65  damaged data or a broken law
   66  no data directory there, or no rescue copy
   69  the address is in use or cannot be listened on
   71  the disk is full
   73  the data directory cannot be written, or is not empty (restore)
   74  input/output error, also of the journal while serving
   75  another engine holds the data directory
   76  the data directory or the database is from an engine too new or too old for this one
   77  the rescue copy belongs to another data directory, restored from it
   78  a certificate or a secret cannot be used
  130  stopped by a second signal

Documentation: /docs of a running engine, and docs/ of the source.";

/// An order engine for the minute when everybody wants the same thing.
#[derive(Debug, Parser)]
#[command(name = "doorbuster", version, about, after_help = EXIT_CODES, max_term_width = 110)]
#[command(args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the command can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run the engine.
    Serve(Box<serve::ServeArguments>),
    /// Bring a catalogue into a running engine.
    Import(import::ImportArguments),
    /// Re-run a real order history over HTTP and balance the books.
    Replay(replay::ReplayArguments),
    /// Let simulated shoppers loose on a running engine, and audit it.
    Rush(rush::RushArguments),
    /// Put a running engine on trial: load it, kill it, and hold it to every answer it gave.
    Trial(trial::TrialArguments),
    /// Read a stopped engine's whole journal and check every law.
    Verify(verify::VerifyArguments),
    /// Rebuild a data directory from the rescue copy in Postgres.
    Restore(restore::RestoreArguments),
    /// Bring the schema of a Postgres database up to date.
    Migrate(migrate::MigrateArguments),
    /// Make the projection in Postgres anew from a stopped engine's journal.
    RebuildProjection(rebuild::RebuildArguments),
    /// Compare a payment provider's books with the orders of a running engine.
    Reconcile(reconcile::ReconcileArguments),
    /// Watch a running engine at work, in this terminal.
    Top(top::TopArguments),
    /// Check that this machine is fit to serve.
    Doctor(Box<doctor::DoctorArguments>),
}

/// Why a command ended early: one sentence with the remedy, and its exit code.
#[derive(Debug)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// For supervisors.
    pub code: u8,
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self { code: error.exit_code(), message: error.to_string() }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let code = match &error {
            ServerError::PortInUse { .. } | ServerError::Address { .. } => 69,
            ServerError::Tls { .. } => 78,
            ServerError::Start(_) => 74,
        };
        Self { code, message: error.to_string() }
    }
}

/// Runs the command line of this process.
pub fn run() -> anyhow::Result<ExitCode> {
    let raw = match settings::with_file(std::env::args_os().collect()) {
        Ok(raw) => raw,
        Err(message) => return Ok(fail("serve", &Failure { message, code: 2 })),
    };
    match Cli::parse_from(raw).command {
        Command::Serve(arguments) => Ok(ended("serve", serve::run(*arguments))),
        Command::Import(arguments) => import::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Rush(arguments) => rush::run(arguments),
        Command::Trial(arguments) => trial::run(arguments),
        Command::Verify(arguments) => Ok(ended("verify", verify::run(&arguments))),
        Command::Restore(arguments) => Ok(ended("restore", restore::run(&arguments))),
        Command::Migrate(arguments) => Ok(ended("migrate", migrate::run(&arguments))),
        Command::RebuildProjection(arguments) => Ok(ended("rebuild-projection", rebuild::run(&arguments))),
        Command::Reconcile(arguments) => Ok(ended("reconcile", reconcile::run(&arguments))),
        Command::Top(arguments) => Ok(ended("top", top::run(&arguments))),
        Command::Doctor(arguments) => Ok(ended("doctor", doctor::run(&arguments))),
    }
}

fn ended(command: &str, outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(|failure| fail(command, &failure))
}

fn fail(command: &str, failure: &Failure) -> ExitCode {
    eprintln!("doorbuster {command}: {}", failure.message);
    ExitCode::from(failure.code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_of_serve_is_also_in_the_environment() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments().filter(|argument| argument.get_id() != "help") {
            let long = argument.get_long().unwrap();
            let expected = format!("DOORBUSTER_{}", long.replace('-', "_").to_ascii_uppercase());
            let environment = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(environment.as_deref(), Some(expected.as_str()), "--{long}");
            assert!(argument.get_help().is_some(), "--{long} says what it does");
        }
    }
}
