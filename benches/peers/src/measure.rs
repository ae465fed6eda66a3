//! One turn, and all of them.
//!
//! Start at [`all`]. A turn that fails to run ends everything; a run that proves nothing is void and only told.

use std::time::Duration;

use serde::Serialize;

use crate::contenders::{Arena, Stand, bench};
use crate::figures::{MachineCpu, cpu_of_tree};
use crate::generator::{Border, Load, Pace, Seen, drive};
use crate::plan::{Contender, Row, Turn, turns};
use crate::syncs;
use doorbuster_servers::process::interrupted;

/// What one run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) row: Row,
    pub(crate) contender: Contender,
    /// Reservations a second (answers, where nothing is reserved).
    pub(crate) rate: f64,
    /// Answers a second.
    pub(crate) answers_a_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Processor time of the server, for a reservation (an answer).
    pub(crate) server_cpu_us: f64,
    /// Cores that the server used.
    pub(crate) server_cores: f64,
    /// Cores that the generator used; near 1 it bounds the rate of a closed loop.
    pub(crate) generator_cores: f64,
    /// Cores that neither used, and that the host took.
    pub(crate) others_cores: f64,
    pub(crate) stolen_cores: f64,
    /// The generator's own delay at its 99th percentile (open loop).
    pub(crate) generator_delay_us: u64,
    /// Bytes of an answer's body.
    pub(crate) body_bytes: f64,
    /// Reservations that were acknowledged in all, and that the server says it granted.
    pub(crate) acknowledged: u64,
    pub(crate) granted: Option<u64>,
    /// Others used the processors meanwhile.
    pub(crate) noisy: bool,
    /// Why it proves nothing.
    pub(crate) void: Option<String>,
}

/// Syncs counted from outside, under load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SyncCount {
    pub(crate) contender: Contender,
    pub(crate) acknowledged: u64,
    pub(crate) syncs: u64,
    pub(crate) acknowledged_per_sync: f64,
    /// Most that one sync can have covered: all that was under way.
    pub(crate) in_flight_max: u64,
    /// More was acknowledged than so many syncs can have covered.
    pub(crate) broken: bool,
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) runs: Vec<Run>,
    pub(crate) syncs: Vec<SyncCount>,
    pub(crate) noop_workers: Option<usize>,
}

/// Processor times at a border.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    server: Duration,
    ours: Duration,
    machine: MachineCpu,
}

impl Spent {
    /// Reads them for servers of these processes.
    pub(crate) fn now(roots: &[u32]) -> anyhow::Result<Self> {
        let mut server = Duration::ZERO;
        for root in roots {
            server += cpu_of_tree(*root)?;
        }
        Ok(Self { server, ours: cpu_of_tree(std::process::id())?, machine: MachineCpu::now()? })
    }

    /// What this process and its children spent since `before`, without the servers.
    pub(crate) fn ours_beside_the_server(self, before: Self) -> Duration {
        let ours = self.ours.saturating_sub(before.ours);
        ours.saturating_sub(self.server.saturating_sub(before.server))
    }
}

/// Measures everything. `tell` hears of each run as it ends.
pub(crate) fn all(arena: &mut Arena, tell: impl Fn(&Run)) -> anyhow::Result<Measured> {
    arena.take_samples()?;
    let (rows, contenders) = (arena.options.rows.clone(), arena.options.contenders.clone());
    if contenders.contains(&Contender::Noop) && arena.options.noop_workers.is_none() {
        arena.options.noop_workers = Some(best_noop(arena)?);
    }
    let mut runs = vec![];
    for turn in turns(arena.options.rounds, &rows, &contenders) {
        let run = run(arena, turn)?;
        tell(&run);
        runs.push(run);
    }
    let mut syncs = vec![];
    if arena.options.counts_syncs() {
        for contender in contenders.iter().copied().filter(|contender| contender.is_durable()) {
            syncs.push(syncs::count(arena, contender)?);
        }
    }
    let noop_workers = arena.options.noop_workers.filter(|_| contenders.contains(&Contender::Noop));
    Ok(Measured { runs, syncs, noop_workers })
}

/// How the row is driven.
pub(crate) fn load(arena: &Arena, row: Row) -> Load {
    let pace = match row {
        Row::Paced => Pace::Open { per_second: arena.options.rate },
        Row::Hot | Row::Many | Row::SoldOut | Row::Availability | Row::Batch | Row::Checkout => Pace::Closed,
    };
    Load {
        pace,
        connections: arena.options.connections(row),
        warm_up: Duration::from_secs_f64(arena.options.warm_up),
        window: arena.options.window(),
    }
}

/// The number of workers with which the no-op is quickest here: with the generator on the same cores it is often not the
/// number of cores, and a slow no-op would flatter everybody else.
fn best_noop(arena: &mut Arena) -> anyhow::Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    eprintln!("finding the number of workers with which the no-op is quickest");
    let mut best = (0.0, 1);
    // One of the first and one of the last: both once more, since a neighbour may have had a busy second.
    for workers in (1..=cores).chain((1..=cores).rev()) {
        arena.options.noop_workers = Some(workers);
        let run = run(arena, Turn { round: 0, row: Row::Hot, contender: Contender::Noop })?;
        if run.void.is_none() && run.rate > best.0 {
            best = (run.rate, workers);
        }
    }
    Ok(best.1)
}

fn run(arena: &Arena, turn: Turn) -> anyhow::Result<Run> {
    anyhow::ensure!(!interrupted(), "interrupted");
    let stand = arena.stand(turn.contender)?;
    let load = load(arena, turn.row);
    let driven = driven(arena, &stand, turn, &load);
    let (seen, before, after) = driven.map_err(|error| {
        anyhow::anyhow!("{error:#}; the server's last words:\n{}", stand.server.last_words())
    })?;
    let run = judge(arena, turn, &load, &stand, &seen, (before, after))?;
    stand.stop()?;
    Ok(run)
}

/// Loads a stand, and reads what was spent at both ends of the measured time.
fn driven(arena: &Arena, stand: &Stand, turn: Turn, load: &Load) -> anyhow::Result<(Seen, Spent, Spent)> {
    if turn.contender == Contender::Pgbench {
        return bench(arena, stand, turn.row, load);
    }
    let mut script = stand.script(arena, turn.row)?;
    let roots = stand.roots();
    let (mut before, mut after) = (Spent::default(), Spent::default());
    let seen = drive(stand.server.address, load, script.as_mut(), |border| {
        let spent = Spent::now(&roots)?;
        match border {
            Border::Begin => before = spent,
            Border::End => after = spent,
        }
        Ok(())
    })?;
    Ok((seen, before, after))
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
fn judge(
    arena: &Arena,
    turn: Turn,
    load: &Load,
    stand: &Stand,
    seen: &Seen,
    (before, after): (Spent, Spent),
) -> anyhow::Result<Run> {
    let seconds = seen.window.as_secs_f64();
    let server = after.server.saturating_sub(before.server);
    let ours = after.ours.saturating_sub(before.ours);
    let everybody = after.machine.used.saturating_sub(before.machine.used);
    let stolen = after.machine.stolen.saturating_sub(before.machine.stolen);
    let others_cores = everybody.saturating_sub(ours).as_secs_f64() / seconds;
    let us = |quantile: f64| seen.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let granted = stand.granted(arena, turn.row)?;
    let void = seen.void(load).or_else(|| void(server, seen.worth_in_all, granted));
    Ok(Run {
        round: turn.round,
        row: turn.row,
        contender: turn.contender,
        rate: seen.worth as f64 / seconds,
        answers_a_second: seen.answers as f64 / seconds,
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        max_us: seen.latency.max() as f64 / 1_000.0,
        server_cpu_us: server.as_secs_f64() * 1e6 / (seen.worth.max(1) as f64),
        server_cores: server.as_secs_f64() / seconds,
        generator_cores: seen.own_cpu.as_secs_f64() / seconds,
        others_cores,
        stolen_cores: stolen.as_secs_f64() / seconds,
        generator_delay_us: seen.own_delay_us(),
        body_bytes: seen.body_bytes as f64 / (seen.answers.max(1) as f64),
        acknowledged: seen.worth_in_all,
        granted,
        noisy: others_cores + stolen.as_secs_f64() / seconds > arena.options.others_max,
        void,
    })
}

/// Why a run proves nothing, beside what the generator saw.
fn void(server: Duration, acknowledged: u64, granted: Option<u64>) -> Option<String> {
    if server.is_zero() {
        return Some("the server under test used no processor time: something else answered".to_owned());
    }
    let granted = granted.filter(|granted| *granted != acknowledged)?;
    Some(format!(
        "{acknowledged} reservations were acknowledged, but the server says that it granted {granted}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_servers_and_wrong_books_void_a_run() {
        let worked = Duration::from_millis(10);
        let rows = [
            (worked, 5, Some(5), None),
            (worked, 5, None, None),
            (Duration::ZERO, 5, Some(5), Some("used no processor time")),
            (
                worked,
                5,
                Some(4),
                Some("5 reservations were acknowledged, but the server says that it granted 4"),
            ),
        ];
        for (server, acknowledged, granted, expected) in rows {
            let seen = void(server, acknowledged, granted);
            match expected {
                None => assert_eq!(seen, None),
                Some(words) => assert!(seen.as_deref().is_some_and(|seen| seen.contains(words)), "{seen:?}"),
            }
        }
    }
}
