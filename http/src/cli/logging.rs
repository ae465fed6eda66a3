//! Logs: for people on a terminal, one JSON object a line otherwise; always to stderr, so that stdout stays for answers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise
    Auto,
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

/// Libraries that tell at `info` what matters to nobody who runs an engine; a filter that names them hears them.
const QUIET: [&str; 1] = ["actix_server"];

/// Starts logging for the whole process. `filter` is a level, or `target=level` pairs with commas between.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let mut whole = String::new();
    for target in QUIET.iter().filter(|target| !filter.contains(*target)) {
        whole.push_str(target);
        whole.push_str("=warn,");
    }
    whole.push_str(filter);
    let parsed = EnvFilter::try_new(whole)
        .map_err(|error| format!("--log {filter}: {error}; use e.g. info or doorbuster_http=debug"))?;
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    // Refused only where an embedding program logs already: then its lines are used.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(colours).with_target(false).try_init()
    };
    Ok(())
}
