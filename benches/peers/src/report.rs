//! Medians, spread, ratios and goals out of single runs, as a table and as JSON.
//!
//! A ratio is taken within a round and the median is taken over the rounds: what slows the machine down for a minute
//! then slows both sides. Void runs are in the JSON and in no median.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::figures::Machine;
use crate::goals::{Figure, GOALS, Goal, Wanted};
use crate::measure::{Measured, Run, SyncCount};
use crate::options::Options;
use crate::plan::{Contender, Row};

/// A median and how far the single values lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of these values; `None` of none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }
}

/// One contender at one row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) row: Row,
    pub(crate) contender: Contender,
    /// Runs that count, void ones, and noisy ones among those that count.
    pub(crate) runs: usize,
    pub(crate) void: usize,
    pub(crate) noisy: usize,
    /// Absent where no run counts.
    pub(crate) rate: Option<Spread>,
    pub(crate) p50_us: Option<Spread>,
    pub(crate) p99_us: Option<Spread>,
    pub(crate) p999_us: Option<Spread>,
    pub(crate) server_cpu_us: Option<Spread>,
    pub(crate) generator_cores: Option<Spread>,
    pub(crate) others_cores: Option<Spread>,
}

/// The engine's figure as a multiple of another's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) row: Row,
    pub(crate) figure: Figure,
    pub(crate) against: Contender,
    pub(crate) times: Spread,
}

/// A goal and what was measured of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) goal: Goal,
    pub(crate) measured: Option<Spread>,
    /// Absent where nothing was measured.
    pub(crate) met: Option<bool>,
}

/// Versions of everything that took part.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Versions {
    pub(crate) harness: String,
    pub(crate) engine: Option<String>,
    pub(crate) postgres: Option<String>,
    pub(crate) redis: Option<String>,
}

/// The whole report, as its JSON has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Grows when a field changes its meaning.
    pub(crate) schema: u32,
    /// Seconds since 1970.
    pub(crate) measured_at: u64,
    /// `release` or `debug`; a debug build measures nothing.
    pub(crate) build: &'static str,
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
    pub(crate) options: Options,
    pub(crate) noop_workers: Option<usize>,
    pub(crate) summaries: Vec<Summary>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) goals: Vec<Verdict>,
    pub(crate) syncs: Vec<SyncCount>,
    pub(crate) runs: Vec<Run>,
}

/// What the report says beside the figures.
#[derive(Debug)]
pub(crate) struct Circumstances {
    pub(crate) measured_at: u64,
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
    pub(crate) options: Options,
}

impl Report {
    /// Sums the runs up.
    pub(crate) fn new(circumstances: Circumstances, measured: Measured) -> Self {
        let Circumstances { measured_at, machine, versions, options } = circumstances;
        let Measured { runs, syncs, noop_workers } = measured;
        let ratios = ratios(&runs);
        let goals = GOALS.iter().map(|goal| verdict(*goal, &runs)).collect();
        Self {
            schema: 1,
            measured_at,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            machine,
            versions,
            options,
            noop_workers,
            summaries: summaries(&runs),
            ratios,
            goals,
            syncs,
            runs,
        }
    }

    /// Whether every row has a sound run of everybody, and no count of syncs broke a promise.
    pub(crate) fn is_sound(&self) -> bool {
        self.summaries.iter().all(|summary| summary.runs > 0) && !self.syncs.iter().any(|count| count.broken)
    }
}

fn sound(runs: &[Run]) -> impl Iterator<Item = &Run> {
    runs.iter().filter(|run| run.void.is_none())
}

fn figure(run: &Run, figure: Figure) -> f64 {
    match figure {
        Figure::Rate => run.rate,
        Figure::P99 => run.p99_us,
        Figure::ServerCpu => run.server_cpu_us,
    }
}

fn summaries(runs: &[Run]) -> Vec<Summary> {
    let mut summaries = vec![];
    for row in Row::ALL {
        for contender in Contender::ALL {
            let all: Vec<&Run> =
                runs.iter().filter(|run| run.row == row && run.contender == contender).collect();
            let counted: Vec<&&Run> = all.iter().filter(|run| run.void.is_none()).collect();
            if all.is_empty() {
                continue;
            }
            let spread = |value: fn(&Run) -> f64| Spread::of(counted.iter().map(|run| value(run)).collect());
            summaries.push(Summary {
                row,
                contender,
                runs: counted.len(),
                void: all.len() - counted.len(),
                noisy: counted.iter().filter(|run| run.noisy).count(),
                rate: spread(|run| run.rate),
                p50_us: spread(|run| run.p50_us),
                p99_us: spread(|run| run.p99_us),
                p999_us: spread(|run| run.p999_us),
                server_cpu_us: spread(|run| run.server_cpu_us),
                generator_cores: spread(|run| run.generator_cores),
                others_cores: spread(|run| run.others_cores + run.stolen_cores),
            });
        }
    }
    summaries
}

/// A contender's figure over another's, round by round.
fn ratio(runs: &[Run], row: Row, of: Figure, one: Contender, against: Contender) -> Option<Spread> {
    let value = |round: usize, contender: Contender| {
        let mut found =
            sound(runs).filter(|run| run.round == round && run.row == row && run.contender == contender);
        found.next().map(|run| figure(run, of)).filter(|value| *value > 0.0)
    };
    let rounds = runs.iter().map(|run| run.round + 1).max().unwrap_or(0);
    let ratios = (0..rounds).filter_map(|round| Some(value(round, one)? / value(round, against)?)).collect();
    Spread::of(ratios)
}

fn ratios(runs: &[Run]) -> Vec<Ratio> {
    let mut ratios = vec![];
    for row in Row::ALL {
        for against in Contender::ALL.into_iter().filter(|other| *other != Contender::Engine) {
            for figure in Figure::ALL {
                if let Some(times) = ratio(runs, row, figure, Contender::Engine, against) {
                    ratios.push(Ratio { row, figure, against, times });
                }
            }
        }
    }
    ratios
}

fn verdict(goal: Goal, runs: &[Run]) -> Verdict {
    let measured = match goal.against {
        Some(against) => ratio(runs, goal.row, goal.figure, goal.of, against),
        None => {
            let of_engine = sound(runs).filter(|run| run.row == goal.row && run.contender == goal.of);
            Spread::of(of_engine.map(|run| figure(run, goal.figure)).collect())
        }
    };
    Verdict { goal, measured, met: measured.map(|measured| goal.wanted.is_met(measured.median)) }
}

/// The tables for people.
pub(crate) fn tables(report: &Report) -> String {
    let mut out = vec![work(report), goals(report)];
    if !report.syncs.is_empty() {
        out.push(counted_syncs(report));
    }
    out.extend(remarks(report));
    out.join("\n\n")
}

fn table(header: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header.to_vec());
    for index in left..header.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn number(value: f64) -> String {
    if value >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        out
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |spread| {
        format!("{} ({}–{})", number(spread.median), number(spread.least), number(spread.most))
    })
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |spread| number(spread.median))
}

fn work(report: &Report) -> String {
    let header = [
        "row",
        "who",
        "a second (least–most)",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "server CPU us each",
        "generator cores",
        "others' cores",
        "runs",
    ];
    let mut table = table(&header, 2);
    for summary in &report.summaries {
        let noisy = if summary.noisy > 0 { format!(", {} noisy", summary.noisy) } else { String::new() };
        let void = if summary.void > 0 { format!(", {} void", summary.void) } else { String::new() };
        table.add_row([
            summary.row.name().to_owned(),
            summary.contender.name().to_owned(),
            spread(summary.rate),
            median(summary.p50_us),
            median(summary.p99_us),
            median(summary.p999_us),
            median(summary.server_cpu_us),
            median(summary.generator_cores),
            median(summary.others_cores),
            format!("{}{noisy}{void}", summary.runs),
        ]);
    }
    table.to_string()
}

fn goals(report: &Report) -> String {
    let mut table = table(&["goal", "against", "wanted", "measured (least–most)", ""], 2);
    for Verdict { goal, measured, met } in &report.goals {
        table.add_row([
            format!("{}, {} of {}", goal.row.name(), goal.figure.name(), goal.of.name()),
            goal.against.map_or("(itself)", Contender::name).to_owned(),
            match goal.wanted {
                Wanted::AtLeast(value) => format!("≥ {}", number(value)),
                Wanted::AtMost(value) => format!("≤ {}", number(value)),
            },
            spread(*measured),
            match met {
                Some(true) => "met",
                Some(false) => "short",
                None => "not measured",
            }
            .to_owned(),
        ]);
    }
    table.to_string()
}

fn counted_syncs(report: &Report) -> String {
    let mut table =
        table(&["syncs, counted from outside", "acknowledged", "syncs", "each covers", "at most"], 1);
    for count in &report.syncs {
        table.add_row([
            count.contender.name().to_owned(),
            count.acknowledged.to_string(),
            count.syncs.to_string(),
            number(count.acknowledged_per_sync),
            if count.broken { "BROKEN".to_owned() } else { count.in_flight_max.to_string() },
        ]);
    }
    table.to_string()
}

fn remarks(report: &Report) -> Vec<String> {
    let mut out = vec![];
    for run in report.runs.iter().filter(|run| run.void.is_some()) {
        out.push(format!(
            "VOID: {} of {}, round {}: {}",
            run.row.name(),
            run.contender.name(),
            run.round + 1,
            run.void.as_deref().unwrap_or_default()
        ));
    }
    let noisy = report.runs.iter().filter(|run| run.noisy).count();
    if noisy > 0 {
        out.push(format!(
            "NOISY: in {noisy} of {} runs others used more than {} cores; load average {} before, {} after",
            report.runs.len(),
            report.options.others_max,
            report.machine.load_before,
            report.machine.load_after
        ));
    }
    if report.machine.nice > 0 {
        out.push(format!("YIELDED: everything ran with nice {}", report.machine.nice));
    }
    for count in report.syncs.iter().filter(|count| count.broken) {
        out.push(format!(
            "BROKEN: {} acknowledged {} with {} syncs; {} at a time cannot all have been on the disk",
            count.contender.name(),
            count.acknowledged,
            count.syncs,
            count.in_flight_max
        ));
    }
    if report.build == "debug" {
        out.push("A debug build: these figures say nothing. Use scripts/measure/peers.".to_owned());
    }
    out
}

#[cfg(test)]
mod tests;
