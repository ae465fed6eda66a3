//! What a process can say of itself: its processor time, its memory, the sizes it was asked for.

/// Processor time of this process and the most memory it ever had, for people.
pub fn machine() -> String {
    let peak = status("VmHWM").map_or("unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    format!("{:.2} CPU s, peak {peak}", processor_seconds())
}

/// Bytes of memory that this process has now.
pub fn resident_bytes() -> u64 {
    status("VmRSS").unwrap_or(0)
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

/// User and system time of all threads of this process so far. The kernel counts in hundredths.
#[allow(clippy::cast_precision_loss)] // figures for people
pub fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// A size from the environment, or this one.
pub fn size(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
