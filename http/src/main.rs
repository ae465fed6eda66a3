//! The `doorbuster` binary.

use std::process::ExitCode;

/// The system's allocator spends measurably more of a request's few microseconds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<ExitCode> {
    // Before anything can shake hands: with two providers compiled in or none chosen, rustls panics at first use.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    doorbuster_http::cli::run()
}
