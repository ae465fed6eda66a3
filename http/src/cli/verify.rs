//! `doorbuster verify`: reads a stopped engine's whole journal and says what it checked.

use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table};
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::verify::{VerifyReport, verify};
use doorbuster_postgres::migrations;
use doorbuster_postgres::projection::rebuild::{self, Comparison};

use super::rebuild::{ProjectionBar, tell_comparison};
use super::serve::RecoveryBar;
use super::{Failure, database};

/// Read a stopped engine's whole journal and check every law.
///
/// Names each law with the events it was checked at, the number of checks, and what bytes on disk cannot show of it.
/// Changes nothing. Refuses while an engine runs on the directory. Exit code 0: sound; 1: something is wrong; others as
/// shown by `doorbuster --help`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArguments {
    /// The data directory given to serve
    #[arg(long, env = "DOORBUSTER_DATA", default_value = "./data")]
    pub data: PathBuf,
    /// Also compare the projection in this Postgres with the journal folded: postgres://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Report as one JSON object, whose fields docs/formats.md describes
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &VerifyArguments) -> Result<ExitCode, Failure> {
    let bar = RecoveryBar::new();
    let report = verify(&arguments.data, &mut |progress| bar.show(progress))?;
    bar.clear();
    // A journal that is not sound folds to nothing that a projection could be held against.
    let compared = match &arguments.database_url {
        Some(url) if report.is_sound() => Some(compare(url, arguments)?),
        Some(_) | None => None,
    };
    if arguments.json {
        let mut told = serde_json::to_value(&report).unwrap_or_default();
        if let (Some(compared), Some(told)) = (&compared, told.as_object_mut()) {
            told.insert("projection".to_owned(), super::rebuild::comparison_json(compared));
        }
        println!("{told}");
    } else {
        tell(&report);
        compared.as_ref().map(tell_comparison);
    }
    let is_equal = compared.is_none_or(|compared| compared.is_equal());
    Ok(if report.is_sound() && is_equal { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn compare(url: &str, arguments: &VerifyArguments) -> Result<Comparison, Failure> {
    let settings = database::needed(Some(url))?.named("doorbuster verify");
    let directory = DataDirectory::open_offline(&arguments.data)?;
    let bar = ProjectionBar::new();
    database::block_on(async {
        let mut connection = settings.connect().await?;
        migrations::check(&mut connection).await?;
        Ok(rebuild::compare(&mut connection, &directory, &mut |progress| bar.show(progress)).await?)
    })
}

/// A table as narrow as `--help`.
pub(crate) fn plain(table: &mut Table) {
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(110);
}

fn tell(report: &VerifyReport) {
    let mut figures = Table::new();
    plain(&mut figures);
    figures.set_header(["read", "count"]);
    for (name, count) in [
        ("segments", report.segments),
        ("of them archived", report.segments_archived),
        ("frames", report.frames),
        ("records", report.records),
        ("bytes", report.bytes),
        ("checkpoint rows compared", report.checkpoint_rows),
    ] {
        figures.add_row([name.to_owned(), count.to_string()]);
    }
    for (kind, count) in &report.entities {
        figures.add_row([format!("{kind} entities"), count.to_string()]);
    }
    println!("{figures}");
    let mut laws = Table::new();
    plain(&mut laws);
    laws.set_header(["law", "events", "checks", "what it says, what was checked, and what no byte can show"]);
    for law in &report.laws {
        let mut words = law.text.to_owned();
        for (lead, more) in [("\nchecked: ", law.checked), ("\nnot seen: ", law.not_seen)] {
            words.extend(more.map(|more| format!("{lead}{more}")));
        }
        laws.add_row([law.law.to_string(), law.events.to_string(), law.checks.to_string(), words]);
    }
    println!("{laws}");
    if let Some(cut) = &report.cut {
        println!("A torn tail was found ({cut:?}); it was never acknowledged, and the next start cuts it.");
    }
    for problem in &report.problems {
        let place = match (&problem.file, problem.offset) {
            (Some(file), Some(offset)) => format!(" in {} at offset {offset}", file.display()),
            (Some(file), None) => format!(" in {}", file.display()),
            (None, _) => String::new(),
        };
        println!("law {}{place}: {}", problem.law, problem.what);
    }
    if report.is_sound() {
        println!("Sound: every law that bytes can show holds ({:.2} s).", report.seconds);
    } else {
        println!("Not sound: {} problems.", report.problems.len());
    }
}
