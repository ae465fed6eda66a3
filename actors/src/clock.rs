//! Business time: the wall clock, but never behind the journal and never backwards.
//!
//! A jump of the wall clock against the monotonic one by more than [`JUMP_MS`] pauses expiry for [`PAUSE`] and is
//! counted and logged: a wrong clock must not give everybody's units away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::mutant::{self, Mutant};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::host::Host;

/// A larger difference between wall and monotonic time than this is a jump.
const JUMP_MS: u64 = 5_000;

/// How long expiry pauses after a jump: time for an operator to look.
const PAUSE: Duration = Duration::from_secs(30);

/// See the module's header. Shared by all workers.
pub(crate) struct BusinessClock {
    /// A wall of its own; without it the system's, read without a detour since every turn asks.
    wall: Option<Arc<dyn Host>>,
    last_ms: AtomicU64,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    wall_ms: u64,
    seen: Instant,
    paused_until: Option<Instant>,
}

impl BusinessClock {
    /// A clock that starts no earlier than `last`, the newest journalled time.
    pub(crate) fn starting_after(last: Timestamp, wall: Option<Arc<dyn Host>>) -> Self {
        let wall_ms = wall.as_ref().map_or_else(crate::host::wall_ms, |wall| wall.wall_ms());
        Self { wall, ..Self::starting(last, wall_ms, Instant::now()) }
    }

    fn starting(last: Timestamp, wall_ms: u64, now: Instant) -> Self {
        Self {
            wall: None,
            last_ms: AtomicU64::new(last.0.max(wall_ms)),
            watch: Mutex::new(Watch { wall_ms, seen: now, paused_until: None }),
        }
    }

    /// Now; never less than any earlier answer.
    pub(crate) fn now(&self) -> Timestamp {
        self.advance(self.wall_ms())
    }

    fn wall_ms(&self) -> u64 {
        match &self.wall {
            None => crate::host::wall_ms(),
            Some(wall) => wall.wall_ms(),
        }
    }

    fn advance(&self, wall_ms: u64) -> Timestamp {
        if mutant::active(Mutant::ClockBackwards) {
            return Timestamp(wall_ms);
        }
        let before = self.last_ms.fetch_max(wall_ms, Ordering::Relaxed);
        Timestamp(before.max(wall_ms))
    }

    /// Compares wall and monotonic time since the last look; says whether expiry may go on.
    pub(crate) fn expiry_may_run(&self) -> bool {
        self.compare(self.wall_ms(), Instant::now())
    }

    fn compare(&self, wall_ms: u64, now: Instant) -> bool {
        let mut watch = self.watch.lock();
        let expected_ms = watch.wall_ms.saturating_add(
            u64::try_from(now.saturating_duration_since(watch.seen).as_millis()).unwrap_or(u64::MAX),
        );
        if wall_ms.abs_diff(expected_ms) > JUMP_MS {
            tracing::error!(
                wall_ms,
                expected_ms,
                "the wall clock jumped; reservations do not expire for 30 s: check the machine's time service"
            );
            metrics::counter!("doorbuster_clock_jumps_total").increment(1);
            watch.paused_until = Some(now + PAUSE);
        }
        watch.wall_ms = wall_ms;
        watch.seen = now;
        watch.paused_until.is_none_or(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: u64 = 1_800_000_000_000;

    #[test]
    fn business_time_is_never_behind_the_journal_and_never_runs_backwards() {
        let clock = BusinessClock::starting(Timestamp(NOON_MS + 500), NOON_MS, Instant::now());
        let rows = [
            ("the wall is behind the journal", NOON_MS, NOON_MS + 500),
            ("the wall has caught up", NOON_MS + 501, NOON_MS + 501),
            ("the wall goes back an hour", NOON_MS - 3_600_000, NOON_MS + 501),
            ("the wall is at zero", 0, NOON_MS + 501),
            ("the wall goes on", NOON_MS + 900, NOON_MS + 900),
        ];
        for (label, wall_ms, expected) in rows {
            assert_eq!(clock.advance(wall_ms), Timestamp(expected), "{label}");
        }
    }

    #[test]
    fn only_a_jump_pauses_expiry_and_only_for_its_time() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        // Each row: monotonic milliseconds since the start, the wall clock's, whether expiry may run.
        let check = |label: &str, looks: &[(u64, i64, bool)]| {
            let clock = BusinessClock::starting(Timestamp(0), NOON_MS, start);
            for (at, wall, may_run) in looks {
                let wall_ms = NOON_MS.saturating_add_signed(*wall);
                assert_eq!(
                    clock.compare(wall_ms, after(*at)),
                    *may_run,
                    "{label}: {at} ms in, wall {wall} ms"
                );
            }
        };
        check("in step", &[(50, 50, true), (100, 100, true), (60_000, 60_000, true)]);
        check("slewed by a time service", &[(1_000, 6_000, true), (2_000, 2_000, true)]);
        check(
            "forward",
            &[(50, 5_051, false), (100, 5_101, false), (30_049, 35_050, false), (30_050, 35_051, true)],
        );
        check("backward", &[(50, -5_000, false), (30_049, 24_999, false), (30_050, 25_000, true)]);
        check(
            "twice",
            &[(50, 9_000, false), (20_000, 0, false), (30_050, 10_050, false), (50_000, 30_000, true)],
        );
    }
}
