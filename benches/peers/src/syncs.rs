//! Syncs counted from outside the process, with strace: whether an acknowledgement can have been on the disk.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::contenders::{Arena, bench};
use crate::figures;
use crate::generator::drive;
use crate::measure::{SyncCount, load};
use crate::plan::{Contender, Row};

/// What counts as a sync. `sync_file_range` does not: it waits for no device.
const CALLS: &str = "fsync,fdatasync,sync,syncfs,msync";

/// A strace that counts; ended when dropped.
struct Counter {
    child: Child,
    file: std::path::PathBuf,
}

impl Counter {
    fn start(strace: &Path, roots: &[u32], file: &Path) -> anyhow::Result<Self> {
        let processes: Vec<u32> = roots.iter().flat_map(|root| figures::tree(*root)).collect();
        let mut command = Command::new(strace);
        command.args(["-f", "-c", "-e", &format!("trace={CALLS}"), "-o"]).arg(file);
        for process in processes {
            command.args(["-p", &process.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("strace")?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(500) {
            if child.try_wait()?.is_some() {
                let mut words = String::new();
                if let Some(mut pipe) = child.stderr.take() {
                    std::io::Read::read_to_string(&mut pipe, &mut words)?;
                }
                anyhow::bail!(
                    "strace cannot look at the server ({}); run as root, or leave the count out with --no-syncs",
                    words.trim()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child, file: file.to_owned() })
    }

    fn finish(mut self) -> anyhow::Result<u64> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.child.wait()?;
        let text = std::fs::read_to_string(&self.file)?;
        Ok(total(&text))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of the calls in a summary of strace: the fourth column of each row that names one of them.
fn total(summary: &str) -> u64 {
    let rows = summary.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, calls) = (words.last()?, words.get(3)?);
        CALLS.split(',').any(|call| call == *name).then(|| calls.parse::<u64>().ok()).flatten()
    });
    rows.sum()
}

/// Loads a contender on its hot row under strace, and compares what it acknowledged with what its syncs can have covered.
pub(crate) fn count(arena: &Arena, contender: Contender) -> anyhow::Result<SyncCount> {
    let strace = arena.programs.strace.clone().context("strace")?;
    let stand = arena.stand(contender)?;
    let counter = Counter::start(&strace, &stand.roots(), &arena.path().join("syncs"))?;
    let mut load = load(arena, Row::Hot);
    load.warm_up = Duration::ZERO;
    load.window = load.window.min(Duration::from_secs(2));
    let seen = if contender == Contender::Pgbench {
        bench(arena, &stand, Row::Hot, &load)?.0
    } else {
        drive(stand.server.address, &load, stand.script(arena, Row::Hot)?.as_mut(), |_| Ok(()))?
    };
    let acknowledged = seen.worth_in_all;
    let in_flight_max = match contender {
        Contender::Pgbench => arena.options.pgbench_clients,
        Contender::Typical | Contender::TypicalOneStatement => arena.options.pool.min(load.connections),
        Contender::Engine | Contender::Attached | Contender::Noop | Contender::Redis => load.connections,
    } as u64;
    let syncs = counter.finish()?;
    stand.stop()?;
    Ok(judged(contender, acknowledged, syncs, in_flight_max))
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
fn judged(contender: Contender, acknowledged: u64, syncs: u64, in_flight_max: u64) -> SyncCount {
    SyncCount {
        contender,
        acknowledged,
        syncs,
        acknowledged_per_sync: acknowledged as f64 / (syncs.max(1) as f64),
        in_flight_max,
        // Between two syncs no connection can be acknowledged twice: its next request comes after the answer.
        broken: acknowledged > syncs.saturating_mul(in_flight_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_summed_up() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
             99.00    0.500000          50     10000           fdatasync\n\
              1.00    0.000100          50         2         1 fsync\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.500100          50     10002         1 total\n";
        assert_eq!(total(summary), 10_002);
        assert_eq!(total(""), 0);
    }

    #[test]
    fn a_sync_covers_no_more_than_what_was_under_way() {
        assert!(!judged(Contender::Engine, 2_560, 10, 256).broken);
        assert!(judged(Contender::Engine, 2_561, 10, 256).broken);
        assert!(judged(Contender::Engine, 1, 0, 256).broken);
    }
}
