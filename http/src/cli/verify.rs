//! `doorbuster verify`: reads a stopped engine's whole journal and says what it checked.

use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table};
use doorbuster_persistence::verify::{VerifyReport, verify};

use super::Failure;
use super::serve::RecoveryBar;

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
    /// Report as one JSON object, whose fields docs/formats.md describes
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &VerifyArguments) -> Result<ExitCode, Failure> {
    let bar = RecoveryBar::new();
    let report = verify(&arguments.data, &mut |progress| bar.show(progress))?;
    bar.clear();
    if arguments.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        tell(&report);
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
