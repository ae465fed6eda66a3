//! The pace at which a provider allows itself to be asked: so many requests a second, first come first served.
//!
//! Pure: time is handed in. Requests are spread evenly, with a short burst after quiet; one beyond it is given the next free
//! moment. This is the generic cell rate algorithm (ITU-T I.371) with the waiting told instead of a refusal.

use std::time::Duration;

use tokio::time::Instant;

/// How much of a quiet time counts: the requests of this long may come at once after it, so that a second sees a fifth more than
/// the pace at most. Who sets a pace leaves that much room below what the provider allows.
const BURST: Duration = Duration::from_millis(200);

/// See the module's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two requests; zero: as many as one likes.
    interval: Duration,
    /// When the next would be due if none were early.
    due: Option<Instant>,
}

impl Pace {
    /// So many requests a second; `None`: as many as one likes.
    pub(crate) fn new(calls_per_second_max: Option<u32>) -> Self {
        let interval = calls_per_second_max.and_then(|calls| Duration::from_secs(1).checked_div(calls));
        Self { interval: interval.unwrap_or_default(), due: None }
    }

    /// Whether anybody may ask as often as one likes.
    pub(crate) fn is_free(&self) -> bool {
        self.interval.is_zero()
    }

    /// Takes the next free moment: now, or later.
    pub(crate) fn take(&mut self, now: Instant) -> Instant {
        let at = self.next(now);
        let due = self.due.map_or(now, |due| due.max(now));
        self.due = due.checked_add(self.interval);
        at
    }

    /// How long somebody who came now would wait.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.next(now).saturating_duration_since(now)
    }

    /// How long so many take one after another.
    pub(crate) fn span(&self, requests: u32) -> Duration {
        self.interval.saturating_mul(requests)
    }

    /// The next free moment: now, or later.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        self.due.and_then(|due| due.checked_sub(BURST)).map_or(now, |earliest| earliest.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(calls_per_second_max: Option<u32>, arrivals_ms: &[u64]) -> Vec<u128> {
        let start = Instant::now() + Duration::from_secs(60);
        let mut pace = Pace::new(calls_per_second_max);
        let taken = arrivals_ms.iter().map(|ms| pace.take(start + Duration::from_millis(*ms)));
        taken.map(|at| (at - start).as_millis()).collect()
    }

    #[test]
    fn calls_come_in_a_short_burst_and_then_evenly() {
        assert_eq!(moments(Some(10), &[0; 10]), [0, 0, 0, 100, 200, 300, 400, 500, 600, 700]);
        assert_eq!(
            moments(Some(10), &[0, 0, 0, 0, 1_000, 1_000, 1_000, 1_000]),
            [0, 0, 0, 100, 1_000, 1_000, 1_000, 1_100]
        );
        assert_eq!(moments(None, &[0; 4]), [0; 4]);
    }

    #[test]
    fn no_second_sees_more_than_a_fifth_above_the_pace() {
        let taken = moments(Some(100), &[0; 1_000]);
        for from in (0..9_000).step_by(50) {
            let inside = taken.iter().filter(|at| (from..from + 1_000).contains(*at)).count();
            assert!(inside <= 121, "{inside} calls in the second from {from} ms");
        }
        assert_eq!(taken.last(), Some(&9_790));
    }
}
