//! How old the oldest announcement is that Redis does not have: known once it is read, and bounded before.

use std::time::Duration;

use doorbuster_engine::identity::Timestamp;

/// See the module's header. Knows no clock: the time comes with each question.
#[derive(Debug)]
pub(crate) struct Lag {
    /// Business time of the oldest announcement that was read and is not in Redis.
    since: Option<Timestamp>,
    /// When nothing waited, at the last look: what became durable and is not read yet is younger.
    clear_at: Timestamp,
}

impl Lag {
    /// Nothing waits.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { since: None, clear_at: now }
    }

    /// Announcements from `since` on were read and wait. The end of time: a batch without any.
    pub(crate) fn waits(&mut self, since: Timestamp) {
        if since < Timestamp(u64::MAX) {
            self.since = Some(since);
        }
    }

    /// Redis has all that was read.
    pub(crate) fn clear(&mut self, now: Timestamp) {
        *self = Self::new(now);
    }

    /// The age of the oldest one that waits; where that is not read yet (`behind`: the journal has frames that are not), the most
    /// that it can be.
    pub(crate) fn age(&mut self, now: Timestamp, behind: bool) -> Duration {
        if self.since.is_none() && !behind {
            self.clear_at = now;
        }
        let since = self.since.unwrap_or(self.clear_at);
        Duration::from_millis(now.0.saturating_sub(since.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_grows_from_the_first_look_at_which_something_waits() {
        let mut lag = Lag::new(Timestamp(1_000));
        let mut check = |label: &str, now: u64, behind: bool, age_ms: u64| {
            assert_eq!(lag.age(Timestamp(now), behind), Duration::from_millis(age_ms), "{label}");
        };
        check("a quiet shop without Redis", 5_000, false, 0);
        check("frames are there that nobody read: from the last look on", 6_000, true, 1_000);
        check("and they grow old", 36_000, true, 31_000);
    }

    #[test]
    fn what_was_read_bears_its_own_time() {
        let mut lag = Lag::new(Timestamp(1_000));
        lag.waits(Timestamp(u64::MAX));
        assert_eq!(lag.age(Timestamp(2_000), false), Duration::ZERO, "a batch without announcements");
        lag.waits(Timestamp(500));
        assert_eq!(lag.age(Timestamp(2_000), true), Duration::from_millis(1_500));
        lag.clear(Timestamp(3_000));
        assert_eq!(lag.age(Timestamp(3_000), false), Duration::ZERO);
        assert_eq!(lag.age(Timestamp(2_900), true), Duration::ZERO, "a clock that was set back");
    }
}
