//! The no-op: this very program under another name, and how many workers suit it.

use std::path::Path;

use rustix::process::Signal;

use super::Arena;
use doorbuster_servers::process::{Server, Start, accepts, free_port};

/// Starts it with `workers` workers.
pub(crate) fn start(arena: &Arena, place: &Path, workers: usize) -> anyhow::Result<Server> {
    let port = free_port(arena.options.port)?;
    Server::start(
        Start {
            name: "the no-op",
            program: std::env::current_exe()?,
            arguments: vec![
                "noop".to_owned(),
                format!("--port={port}"),
                format!("--workers={workers}"),
                format!("--answers={}", arena.samples().display()),
            ],
            environment: vec![],
            port,
            log: &place.join("noop.log"),
            user: None,
            stop_signal: Signal::TERM,
        },
        |address| Ok(accepts(address)),
    )
}
