//! Business time: the wall clock, but never behind the journal and never backwards.
//!
//! A jump of the wall clock against the monotonic one by more than [`JUMP_MS`] pauses expiry for [`PAUSE`] and is
//! counted and logged: a wrong clock must not give everybody's units away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use doorbuster_engine::identity::Timestamp;
use parking_lot::Mutex;

/// A larger difference between wall and monotonic time than this is a jump.
const JUMP_MS: u64 = 5_000;

/// How long expiry pauses after a jump: time for an operator to look.
const PAUSE: Duration = Duration::from_secs(30);

/// See the module's header. Shared by all workers.
#[derive(Debug)]
pub(crate) struct BusinessClock {
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
    pub(crate) fn starting_after(last: Timestamp) -> Self {
        let wall_ms = wall_ms();
        Self {
            last_ms: AtomicU64::new(last.0.max(wall_ms)),
            watch: Mutex::new(Watch { wall_ms, seen: Instant::now(), paused_until: None }),
        }
    }

    /// Now; never less than any earlier answer.
    pub(crate) fn now(&self) -> Timestamp {
        let wall_ms = wall_ms();
        let before = self.last_ms.fetch_max(wall_ms, Ordering::Relaxed);
        Timestamp(before.max(wall_ms))
    }

    /// Compares wall and monotonic time since the last look; says whether expiry may go on.
    pub(crate) fn expiry_may_run(&self, now: Instant) -> bool {
        let mut watch = self.watch.lock();
        let wall_ms = wall_ms();
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

fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
