//! Latencies by kind of call, refusals by code, and attempts that nobody answered.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What was seen of all calls.
#[derive(Debug, Default)]
pub struct Tally {
    by_label: BTreeMap<&'static str, Histogram<u64>>,
    refusals: BTreeMap<(std::cmp::Reverse<u16>, String), u64>,
    faults: u64,
}

/// How long calls of one kind took, from sending to the answer's last byte.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Which kind.
    pub label: String,
    /// How many answers.
    pub count: u64,
    /// Half took at most this long, in microseconds.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Latency {
    /// Reads the percentiles of a histogram of microseconds.
    pub fn of(label: &str, histogram: &Histogram<u64>) -> Self {
        Self {
            label: label.to_owned(),
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.50),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

impl Tally {
    /// Counts an answer.
    pub fn answered(&mut self, label: &'static str, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.by_label.entry(label).or_insert_with(microseconds).saturating_record(took_us);
    }

    /// Counts a refusal.
    pub fn refused(&mut self, status: u16, code: &str) {
        *self.refusals.entry((std::cmp::Reverse(status), code.to_owned())).or_default() += 1;
    }

    /// Counts an attempt that nobody answered.
    pub fn fault(&mut self) {
        self.faults += 1;
    }

    /// Attempts that nobody answered.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Refusals as (status, code, times), highest status first.
    pub fn refusals(&self) -> Vec<(u16, String, u64)> {
        self.refusals.iter().map(|((status, code), times)| (status.0, code.clone(), *times)).collect()
    }

    /// Latencies of each kind of call.
    pub fn latencies(&self) -> Vec<Latency> {
        self.by_label.iter().map(|(label, histogram)| Latency::of(label, histogram)).collect()
    }

    /// All answers of all kinds together.
    pub fn overall(&self) -> Latency {
        let mut all = microseconds();
        for histogram in self.by_label.values() {
            // Same bounds, so one always fits the other.
            let _ = all.add(histogram);
        }
        Latency::of("all", &all)
    }
}

/// A histogram from 1 µs to 10 minutes at three digits; longer answers count as the longest.
pub(crate) fn microseconds() -> Histogram<u64> {
    // The bounds are constants that the crate accepts; `new` cannot fail for the digits alone either.
    Histogram::new_with_bounds(1, 600_000_000, 3)
        .unwrap_or_else(|_| unreachable!("Invariant: constant bounds are sound"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_refusals_are_told_by_kind() {
        let mut tally = Tally::default();
        for took_ms in 1..=1000 {
            tally.answered("checkout", Duration::from_millis(took_ms));
        }
        tally.answered("cart", Duration::from_secs(4000));
        tally.refused(409, "insufficient_stock");
        tally.refused(503, "overloaded");
        tally.refused(409, "insufficient_stock");
        let latencies = tally.latencies();
        assert_eq!((latencies[1].label.as_str(), latencies[1].count), ("checkout", 1000));
        assert!((499_000..=501_500).contains(&latencies[1].p50_us), "{latencies:?}");
        assert!((989_000..=991_500).contains(&latencies[1].p99_us), "{latencies:?}");
        assert_eq!(tally.overall().count, 1001);
        assert_eq!(
            tally.refusals(),
            [(503, "overloaded".to_owned(), 1), (409, "insufficient_stock".to_owned(), 2)]
        );
    }
}
