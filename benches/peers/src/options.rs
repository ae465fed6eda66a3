//! What can be chosen.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::plan::{Contender, Row};

/// Measure the engine beside a no-op, a typical service, Postgres and Redis
///
/// Each round goes through the rows of work, and each row through all who can do it, every time in another order. Each
/// turn starts its server fresh on a free port and in a directory of its own, sets it up, warms it, measures, asks it
/// what it granted, and stops it. One generator drives all (pgbench, which brings its own, apart): keep-alive, no
/// pipelining, a fresh key in each request; only the answers that were asked for count.
///
/// A run is void, and is told and left out, when an answer was not what was asked for, when the generator did not keep its
/// rate, when the server used no processor time, or when it granted another number than it acknowledged. A run is
/// marked noisy when others used the processors meanwhile.
///
/// Server and generator share this machine: trust the ratios of one measurement, not its absolute figures. A run shorter
/// than the engine's checkpoint interval (10 s) sees no checkpoint; --seconds 15 does.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(
    after_help = "Exit codes: 0 measured; 1 some row has no sound run, or a promise was broken; 2 it could not be run; \
                  130 interrupted.\n\nExamples:\n  scripts/measure/peers --rounds 5 --json peers.json\n  scripts/measure/peers \
                  --rows hot,many --contenders noop,engine --seconds 15"
)]
pub(crate) struct Options {
    /// Rows of work
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Row::ALL, hide_default_value = true)]
    pub(crate) rows: Vec<Row>,
    /// Who takes part (default: all)
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::ALL, hide_default_value = true)]
    pub(crate) contenders: Vec<Contender>,
    /// How often everything is repeated
    #[arg(long, default_value_t = 3, value_parser = positive, value_name = "N")]
    pub(crate) rounds: usize,
    /// Measured time of a run
    #[arg(long, default_value_t = 5.0, value_parser = seconds, value_name = "S")]
    pub(crate) seconds: f64,
    /// Time before it in which nothing is measured
    #[arg(long, default_value_t = 1.0, value_parser = seconds, value_name = "S")]
    pub(crate) warm_up: f64,
    /// Connections of every row but the paced one
    #[arg(long, default_value_t = 256, value_parser = positive, value_name = "N")]
    pub(crate) connections: usize,
    /// Requests a second of the paced row
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub(crate) rate: u32,
    /// Connections of the paced row
    #[arg(long, default_value_t = 64, value_parser = positive, value_name = "N")]
    pub(crate) paced_connections: usize,
    /// Reservations in a request of the batch row
    #[arg(long, default_value_t = 64, value_parser = batch, value_name = "N")]
    pub(crate) batch: usize,
    /// Connections of the batch row
    #[arg(long, default_value_t = 64, value_parser = positive, value_name = "N")]
    pub(crate) batch_connections: usize,
    /// SKUs of the rows over many
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000), value_name = "N")]
    pub(crate) skus: u32,
    /// Clients of pgbench
    #[arg(long, default_value_t = 8, value_parser = positive, value_name = "N")]
    pub(crate) pgbench_clients: usize,
    /// Postgres connections of the typical service
    #[arg(long, default_value_t = 8, value_parser = positive, value_name = "N")]
    pub(crate) pool: usize,
    /// Workers of the no-op (default: the best, found before the first round)
    #[arg(long, value_parser = positive, value_name = "N")]
    pub(crate) noop_workers: Option<usize>,
    /// Workers of the engine (default: its own)
    #[arg(long, value_parser = positive, value_name = "N")]
    pub(crate) engine_workers: Option<usize>,
    /// The engine's binary (default: `doorbuster` beside this program)
    #[arg(long, env = "DOORBUSTER", value_name = "FILE")]
    pub(crate) engine: Option<PathBuf>,
    /// Port for every server in turn (default: a free one for each)
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Where the contenders keep their data, on a real disk (default: the system's directory for temporary files)
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Do not count syncs from outside, under strace, in an extra run of each durable contender
    #[arg(long)]
    pub(crate) no_syncs: bool,
    /// Processors that others may use before a run is marked noisy
    #[arg(long, default_value_t = 0.1, value_parser = seconds, value_name = "CORES")]
    pub(crate) others_max: f64,
    /// Where the figures go as JSON, every single run among them
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Install missing packages with apt-get
    #[arg(long)]
    pub(crate) install: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(|| "1 to 10000".to_owned())
}

fn batch(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=256).contains(number));
    number.ok_or_else(|| "1 to 256, which is what the engine takes".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| (0.05..=3_600.0).contains(number))
        .ok_or_else(|| "0.05 to 3600".to_owned())
}

impl Options {
    /// The engine alone, for the measurements beside the rows.
    pub(crate) fn of_engine(
        engine: Option<PathBuf>,
        directory: Option<PathBuf>,
        workers: Option<usize>,
    ) -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            options: Options,
        }
        let defaults =
            <Defaults as clap::Parser>::parse_from(["peers", "--contenders", "engine", "--no-syncs"]);
        Self { engine, directory, engine_workers: workers, ..defaults.options }
    }

    /// Connections of a row.
    pub(crate) fn connections(&self, row: Row) -> usize {
        match row {
            Row::Paced => self.paced_connections,
            Row::Batch => self.batch_connections,
            Row::Hot | Row::Many | Row::SoldOut | Row::Availability | Row::Checkout => self.connections,
        }
    }

    /// Measured time of a run.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Whether syncs are counted.
    pub(crate) fn counts_syncs(&self) -> bool {
        !self.no_syncs
    }
}
