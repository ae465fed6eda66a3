//! `doorbuster rebuild-projection`: empties the projection in Postgres, makes it anew from the journal, and proves it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use doorbuster_postgres::migrations;
use doorbuster_postgres::projection::rebuild::{self, Comparison, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Failure, database};

/// Make the projection in Postgres anew from a stopped engine's journal.
///
/// Empties its tables, applies the whole journal, hashes the tables, and compares the hash with that of the journal folded by
/// the engine's own machines. A kill in the middle loses nothing: the engine, or this command again, goes on from there. Exit
/// code 0: equal; 1: not.
#[derive(Clone, Debug, clap::Args)]
pub struct RebuildArguments {
    /// The data directory given to serve
    #[arg(long, env = "DOORBUSTER_DATA", default_value = "./data")]
    pub data: PathBuf,
    /// Where Postgres is: postgres://user:password@host:port/database (also read from `DATABASE_URL`)
    #[arg(long, env = "DOORBUSTER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Also where the database holds another engine's projection, which is then gone
    #[arg(long)]
    pub take_over: bool,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &RebuildArguments) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let settings =
        database::needed(arguments.database_url.as_deref())?.named("doorbuster rebuild-projection");
    let directory = rebuild::open(&arguments.data)?;
    let bar = ProjectionBar::new();
    let (events, applied_s, compared) = database::block_on(async {
        let show = &mut |progress| bar.show(progress);
        let mut connection = settings.connect().await?;
        migrations::migrate(&mut connection).await?;
        let events = rebuild::rebuild(connection, &directory, arguments.take_over, show).await?;
        let applied_s = began.elapsed().as_secs_f64();
        let mut connection = settings.connect().await?;
        Ok((events, applied_s, rebuild::compare(&mut connection, &directory, show).await?))
    })?;
    bar.clear();
    if arguments.json {
        let mut told = comparison_json(&compared);
        if let Some(told) = told.as_object_mut() {
            told.insert("events".to_owned(), json!(events));
            told.insert("applied_s".to_owned(), json!(applied_s));
        }
        println!("{told}");
    } else {
        println!("{events} events applied in {applied_s:.2} s.");
        tell_comparison(&compared);
    }
    Ok(if compared.is_equal() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A comparison for machines.
pub(crate) fn comparison_json(compared: &Comparison) -> Value {
    let rows: serde_json::Map<String, Value> =
        compared.tables.tables.iter().map(|table| (table.table.to_owned(), json!(table.rows))).collect();
    json!({
        "equal": compared.is_equal(),
        "frame": compared.tables.frame.0,
        "last_frame": compared.last.0,
        "hash": compared.tables.hash,
        "journal_hash": compared.journal.hash,
        "differences": compared.tables.differences(&compared.journal),
        "rows": rows,
    })
}

/// A comparison for people.
pub(crate) fn tell_comparison(compared: &Comparison) {
    let rows: u64 = compared.tables.tables.iter().map(|table| table.rows).sum();
    println!("projection {} ({rows} rows)", compared.tables);
    println!("journal    {}", compared.journal);
    if !compared.is_equal() {
        println!("Not equal: {}.", compared.tables.differences(&compared.journal).join("; "));
        println!("Stop the engine and run `doorbuster rebuild-projection`.");
        return;
    }
    match compared.last.0 - compared.tables.frame.0 {
        0 => println!("Equal: the projection is the journal folded."),
        left => println!("Equal as far as it goes: {left} frames are still to be projected."),
    }
}

/// Progress of a rebuild or comparison on a terminal; silent elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct ProjectionBar(ProgressBar);

impl ProjectionBar {
    pub(crate) fn new() -> Self {
        // indicatif hides it off a terminal.
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len}, {elapsed} of {duration}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    pub(crate) fn show(&self, progress: Progress) {
        let (what, done, total) = match progress {
            Progress::Reading { bytes, bytes_total } => ("reading the journal", bytes, bytes_total),
            Progress::Frames { frame, frames_total } => ("applying frames", frame, frames_total),
            Progress::Rows { rows } => ("hashing rows", rows, rows),
        };
        self.0.set_message(what);
        self.0.set_length(total.max(1));
        self.0.set_position(done);
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
