//! Figures from `/proc`: what processes and the machine spent, and what machine it is.
//!
//! All processor times are read from outside the process that they speak of.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

/// Processor time of a process and all below it, those included that have ended and were waited for.
pub(crate) fn cpu_of_tree(root: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{root}/stat"))
        .with_context(|| format!("process {root} is gone"))?;
    let mut ticks: u64 = fields_after_name(&stat)
        .skip(FIRST_TIME_FIELD)
        .take(4)
        .map(|field| field.parse::<u64>().unwrap_or(0))
        .sum();
    // A child that ends between two looks is found in its parent's sum at the next.
    for child in children(root) {
        ticks += ticks_of(cpu_of_tree(child).unwrap_or_default());
    }
    Ok(duration_of(ticks))
}

/// All processes from `root` down.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    for child in children(root) {
        found.extend(tree(child));
    }
    found
}

/// The children of a process, of all its threads.
fn children(parent: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    listed
        .flat_map(|list| {
            list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// `utime` among the fields behind the name; `stime`, `cutime` and `cstime` follow.
const FIRST_TIME_FIELD: usize = 11;

/// `nice` among them.
const NICE_FIELD: usize = 16;

/// The fields of a `stat` behind the process' name, which may itself hold spaces and brackets.
fn fields_after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

fn duration_of(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / ticks_per_second()))
}

fn ticks_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) / (1_000_000_000 / ticks_per_second())
}

/// Processor time of the calling thread.
pub(crate) fn own_thread_cpu() -> anyhow::Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

/// What all processors together did since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineCpu {
    /// Used, for whatever. Interrupts are among it: most kernels put them on the account of the process that they
    /// interrupt; where one keeps them apart they look like somebody else's, which is the safe side.
    pub(crate) used: Duration,
    /// Taken by the host.
    pub(crate) stolen: Duration,
}

impl MachineCpu {
    /// Reads it.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        Ok(Self::parse(&stat))
    }

    fn parse(stat: &str) -> Self {
        let fields: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or("")
            .split_ascii_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let at = |index: usize| fields.get(index).copied().unwrap_or(0);
        let used = [0, 1, 2, 5, 6].into_iter().map(at).sum();
        Self { used: duration_of(used), stolen: duration_of(at(7)) }
    }
}

/// The machine, for whoever reads the figures later.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    pub(crate) cores: usize,
    memory_mib: u64,
    kernel: String,
    system: String,
    /// File system below the data of all contenders.
    pub(crate) file_system: String,
    /// Load averages of 1, 5 and 15 minutes when the measurement began, and when it ended.
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// The priority that all ran with (`nice`): above 0 they yielded to whatever else ran.
    pub(crate) nice: i32,
}

impl Machine {
    /// Looks at it.
    pub(crate) fn look(directory: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("");
            line.split_once([':', '=']).map_or("", |(_, value)| value).trim().trim_matches('"').to_owned()
        };
        let memory_kib = value(&read("/proc/meminfo"), "MemTotal");
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: memory_kib.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1_024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: value(&read("/etc/os-release"), "PRETTY_NAME"),
            file_system: file_system(directory),
            load_before: load_average(),
            load_after: String::new(),
            nice: nice(),
        }
    }
}

/// This process' priority, which its children inherit.
pub(crate) fn nice() -> i32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    fields_after_name(&stat).nth(NICE_FIELD).and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// The load averages.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The kind of file system below `directory`, as `stat` calls it.
pub(crate) fn file_system(directory: &Path) -> String {
    first_line(Command::new("stat").args(["-f", "-c", "%T"]).arg(directory))
        .unwrap_or_else(|| "unknown".into())
}

/// The first line that a command prints; `None` if it cannot be run or fails.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 5 0 1";
        let times: Vec<&str> = fields_after_name(stat).skip(FIRST_TIME_FIELD).take(4).collect();
        assert_eq!(times, ["11", "22", "33", "44"]);
        let stat = "7 (a) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 5 1 0 1";
        assert_eq!(fields_after_name(stat).nth(NICE_FIELD), Some("5"));
    }

    #[test]
    fn idle_and_stolen_time_are_told_apart_from_use() {
        let cpu = MachineCpu::parse("cpu  100 10 50 900 5 3 7 20 0 0\ncpu0 1 1 1 1\n");
        assert_eq!(cpu.used, duration_of(170));
        assert_eq!(cpu.stolen, duration_of(20));
    }

    #[test]
    fn work_of_this_process_is_seen_from_outside() {
        let own = std::process::id();
        let before = cpu_of_tree(own).unwrap();
        let thread_before = own_thread_cpu().unwrap();
        let mut sum = 0_u64;
        while own_thread_cpu().unwrap() < thread_before + Duration::from_millis(60) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_of_tree(own).unwrap() > before);
        assert!(tree(own).contains(&own));
    }
}
