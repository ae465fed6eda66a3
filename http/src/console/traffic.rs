//! What the front door sees while somebody watches: how long answers take, and which are problems.
//!
//! Kept here and not read off the metrics page, because that knows statuses and not problems, and histograms with edges too
//! wide for a p99. While nobody watches, a request costs one look at a flag.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;

use crate::problem::Code;
use crate::routes::table::{Access, ROUTES};

/// Kinds of calls, by their names on the wire.
pub(super) const CALLS: [&str; 4] = ["reserve", "commit", "checkout", "other"];

/// Durations below this many microseconds are counted one by one, those above in eight steps for each power of two.
const EXACT: u64 = 16;
const STEPS: usize = 8;

/// Up to 2^27 µs, two minutes: longer than any deadline.
const BUCKETS: usize = 16 + (27 - 4) * STEPS;

/// Times of one kind of call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times(pub(super) [u64; BUCKETS]);

impl Times {
    pub(super) const NONE: Self = Self([0; BUCKETS]);

    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What was counted since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut times = Self::NONE;
        for ((time, now), before) in times.0.iter_mut().zip(self.0).zip(before.0) {
            *time = now.saturating_sub(before);
        }
        times
    }

    /// The upper end of the bucket that holds this part of all, in microseconds: at least the truth, at most an eighth more.
    pub(super) fn quantile_us(&self, per_mille: u64) -> Option<u64> {
        let rank = self.count().saturating_mul(per_mille).div_ceil(1_000);
        let mut seen = 0_u64;
        let bucket = self.0.iter().position(|count| {
            seen = seen.saturating_add(*count);
            *count > 0 && seen >= rank
        });
        bucket.map(upper_us)
    }
}

fn bucket(micros: u64) -> usize {
    if micros < EXACT {
        return usize::try_from(micros).unwrap_or(0);
    }
    let power = micros.ilog2();
    let step = usize::try_from(micros >> (power - 3)).unwrap_or(0) & (STEPS - 1);
    let power = usize::try_from(power).unwrap_or(0);
    (16 + (power - 4) * STEPS + step).min(BUCKETS - 1)
}

fn upper_us(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(16) else { return u64::try_from(bucket).unwrap_or(0) };
    let (power, step) = (above / STEPS + 4, above % STEPS);
    let width = 1_u64 << (power - 3);
    (1_u64 << power) + width * u64::try_from(step + 1).unwrap_or(1) - 1
}

/// All that was counted so far.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) calls: [Times; CALLS.len()],
    /// Problems, in the order of [`Code::ALL`].
    pub(super) problems: Vec<u64>,
}

/// See the module's header.
pub(crate) struct Traffic {
    watched: AtomicBool,
    /// The kind of each route; operators' own calls have none.
    kinds: Vec<Option<usize>>,
    calls: Vec<Vec<AtomicU64>>,
    problems: Vec<AtomicU64>,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        let kinds = ROUTES.iter().map(|route| {
            let business = route.path.starts_with("/v1/") && route.access != Access::Admin;
            let kind = match route.name {
                "create_reservation" | "create_reservations" => 0,
                "commit_reservation" => 1,
                "check_out" => 2,
                _ => 3,
            };
            business.then_some(kind)
        });
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            watched: AtomicBool::new(false),
            kinds: kinds.collect(),
            calls: CALLS.iter().map(|_| zeros(BUCKETS)).collect(),
            problems: zeros(Code::ALL.len()),
        }
    }

    pub(super) fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Notes an answer of a route.
    pub(crate) fn answered(&self, route: usize, took: Duration) {
        if !self.watched.load(Ordering::Relaxed) {
            return;
        }
        let Some(kind) = self.kinds.get(route).copied().flatten() else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.calls.get(kind).and_then(|times| times.get(bucket(micros))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that an answer, or a part of one, is a problem.
    pub(crate) fn refused(&self, route: usize, code: Code) {
        if !self.watched.load(Ordering::Relaxed) || self.kinds.get(route).copied().flatten().is_none() {
            return;
        }
        let place = Code::ALL.iter().position(|known| *known == code);
        if let Some(count) = place.and_then(|place| self.problems.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counted(&self) -> Counted {
        let calls = std::array::from_fn(|kind| {
            let mut times = Times::NONE;
            for (time, count) in times.0.iter_mut().zip(self.calls.get(kind).into_iter().flatten()) {
                *time = count.load(Ordering::Relaxed);
            }
            times
        });
        Counted { calls, problems: self.problems.iter().map(|count| count.load(Ordering::Relaxed)).collect() }
    }
}

/// Whether a problem means that the engine had no time or room.
pub(super) fn is_shed(code: Code) -> bool {
    matches!(
        code.status(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR | StatusCode::TOO_MANY_REQUESTS
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::table::index_of;

    #[test]
    fn a_quantile_is_at_least_the_truth_and_at_most_an_eighth_more() {
        for micros in (0..200).chain([1_000, 9_999, 250_000, 1_234_567, 9_999_999]) {
            let upper = upper_us(bucket(micros));
            assert!(upper >= micros, "{micros}: {upper}");
            assert!(upper <= micros + micros / 8 + 1, "{micros}: {upper}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1, "what is beyond all measure is in the last bucket");
    }

    #[test]
    fn times_tell_median_tail_and_longest() {
        let mut times = Times::NONE;
        assert_eq!(times.quantile_us(500), None, "nothing was asked");
        times.0[bucket(3)] = 98;
        times.0[bucket(900)] = 2;
        for (per_mille, truth) in [(500, 3), (980, 3), (990, 900), (1_000, 900)] {
            let told = times.quantile_us(per_mille).unwrap();
            assert!((truth..=truth + truth / 8).contains(&told), "{per_mille}: {told}");
        }
    }

    #[test]
    fn only_what_shoppers_do_is_counted_and_only_while_somebody_watches() {
        let traffic = Traffic::new();
        let note = |name| {
            traffic.answered(index_of(name), Duration::from_micros(5));
            traffic.refused(index_of(name), Code::InsufficientStock);
        };
        let counts = || {
            let counted = traffic.counted();
            let calls: Vec<u64> = counted.calls.iter().map(Times::count).collect();
            (calls, counted.problems.iter().sum::<u64>())
        };
        note("create_reservation");
        assert_eq!(counts(), (vec![0, 0, 0, 0], 0), "nobody watches");
        traffic.watch(true);
        for name in ["create_reservation", "commit_reservation", "check_out", "get_cart", "get_cart"] {
            note(name);
        }
        for name in ["list_actors", "metrics", "watch_engine", "console"] {
            note(name);
        }
        assert_eq!(counts(), (vec![1, 1, 1, 2], 5));
    }

    #[test]
    fn sold_out_is_no_outage() {
        for (code, shed) in [
            (Code::InsufficientStock, false),
            (Code::PaymentDeclined, false),
            (Code::Overloaded, true),
            (Code::StorageFull, true),
            (Code::RateLimited, true),
            (Code::Internal, true),
        ] {
            assert_eq!(is_shed(code), shed, "{code:?}");
        }
    }
}
