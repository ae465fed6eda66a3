//! One actor's figures: kept by its worker, read by the actor pages. A few hundred bytes, no allocation a message.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::Timestamp;
use tokio::time::Instant;

use crate::types::{ActorReport, ActorSort, RecentMessage};

/// Messages remembered for the actor page.
const RECENT_MAX: usize = 16;

/// Seconds the rate looks back.
const RATE_SECONDS: u32 = 10;

/// Durations counted by powers of two of microseconds: bucket n holds those under 2^n µs. The reported percentile is
/// the bucket's upper end, so it is at most twice the truth; enough to tell a slow actor from a quick one.
#[derive(Debug, Default)]
struct Durations([Cell<u32>; 24]);

impl Durations {
    fn note(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = usize::try_from(u64::BITS.saturating_sub(micros.leading_zeros())).unwrap_or(0).min(23);
        if let Some(count) = self.0.get(bucket) {
            count.set(count.get().saturating_add(1));
        }
    }

    fn percentile_us(&self, per_cent: u64) -> u64 {
        let total: u64 = self.0.iter().map(|count| u64::from(count.get())).sum();
        let rank = total.saturating_mul(per_cent).div_ceil(100);
        let mut seen = 0_u64;
        for (bucket, count) in self.0.iter().enumerate() {
            seen = seen.saturating_add(u64::from(count.get()));
            if seen >= rank && seen > 0 {
                return 1 << bucket;
            }
        }
        0
    }
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct ActorStats {
    depth: Cell<u64>,
    messages: Cell<u64>,
    wait: Durations,
    service: Durations,
    last_activity: Cell<Timestamp>,
    last_used: Cell<Instant>,
    seconds: RefCell<[(u64, u32); RATE_SECONDS as usize]>,
    recent: RefCell<VecDeque<RecentMessage>>,
    restarts: Cell<u64>,
    born: Instant,
}

impl ActorStats {
    /// Figures of an actor just activated.
    pub(crate) fn new(restarts: u64) -> Self {
        Self {
            depth: Cell::new(0),
            messages: Cell::new(0),
            wait: Durations::default(),
            service: Durations::default(),
            last_activity: Cell::new(Timestamp(0)),
            last_used: Cell::new(Instant::now()),
            seconds: RefCell::new([(0, 0); RATE_SECONDS as usize]),
            recent: RefCell::default(),
            restarts: Cell::new(restarts),
            born: Instant::now(),
        }
    }

    /// A message was put into the mailbox.
    pub(crate) fn sent(&self) {
        self.depth.set(self.depth.get().saturating_add(1));
    }

    /// Messages in the mailbox.
    pub(crate) fn depth(&self) -> u64 {
        self.depth.get()
    }

    /// When it was last used.
    pub(crate) fn last_used(&self) -> Instant {
        self.last_used.get()
    }

    /// A message was handled.
    pub(crate) fn handled(&self, sent: Instant, began: Instant, ended: Instant) {
        self.depth.set(self.depth.get().saturating_sub(1));
        self.messages.set(self.messages.get().saturating_add(1));
        self.wait.note(began.saturating_duration_since(sent));
        self.service.note(ended.saturating_duration_since(began));
        self.last_used.set(ended);
        let second = ended.saturating_duration_since(self.born).as_secs();
        let mut seconds = self.seconds.borrow_mut();
        if let Some(slot) = seconds.get_mut(usize::try_from(second % u64::from(RATE_SECONDS)).unwrap_or(0)) {
            if slot.0 != second {
                *slot = (second, 0);
            }
            slot.1 = slot.1.saturating_add(1);
        }
    }

    /// Remembers what was handled and how it went.
    pub(crate) fn remember(&self, at: Timestamp, message: &'static str, outcome: &'static str) {
        self.last_activity.set(at);
        let mut recent = self.recent.borrow_mut();
        if recent.len() == RECENT_MAX {
            recent.pop_back();
        }
        recent.push_front(RecentMessage { at, message, outcome });
    }

    /// Last messages, newest first.
    pub(crate) fn recent(&self) -> Vec<RecentMessage> {
        self.recent.borrow().iter().cloned().collect()
    }

    /// The figures as a report.
    pub(crate) fn report(&self, entity: &EntityKey) -> ActorReport {
        self.report_at(entity, Instant::now())
    }

    /// How hot it is, by one figure: more is hotter.
    pub(crate) fn heat(&self, sort: ActorSort) -> u64 {
        match sort {
            // Rates are not negative, and such numbers are in the order of their bits.
            ActorSort::Rate => self.rate_at(Instant::now()).to_bits(),
            ActorSort::Depth => self.depth.get(),
            ActorSort::Wait => self.wait.percentile_us(99),
            ActorSort::Messages => self.messages.get(),
        }
    }

    fn rate_at(&self, now: Instant) -> f64 {
        let second = now.saturating_duration_since(self.born).as_secs();
        let oldest = second.saturating_sub(u64::from(RATE_SECONDS - 1));
        let in_window: u64 = self
            .seconds
            .borrow()
            .iter()
            .filter(|(at, _)| *at >= oldest && *at <= second)
            .map(|(_, count)| u64::from(*count))
            .sum();
        let window = (second.saturating_add(1)).min(u64::from(RATE_SECONDS));
        #[allow(clippy::cast_precision_loss)] // counts of ten seconds are far below 2^52
        let rate = in_window as f64 / window as f64;
        rate
    }

    fn report_at(&self, entity: &EntityKey, now: Instant) -> ActorReport {
        ActorReport {
            kind: entity.kind(),
            key: key_text(entity),
            queue_depth: self.depth.get(),
            messages: self.messages.get(),
            rate: self.rate_at(now),
            wait_us: (self.wait.percentile_us(50), self.wait.percentile_us(99)),
            service_us: (self.service.percentile_us(50), self.service.percentile_us(99)),
            last_activity: self.last_activity.get(),
            restarts: self.restarts.get(),
        }
    }
}

/// An entity's key as on the wire.
pub(crate) fn key_text(entity: &EntityKey) -> String {
    match entity {
        EntityKey::Sku(sku) => sku.to_string(),
        EntityKey::Reservation(id) => id.to_string(),
        EntityKey::Cart(id) => id.to_string(),
        EntityKey::Order(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use doorbuster_engine::identity::CartId;

    use super::*;

    const CART: EntityKey = EntityKey::Cart(CartId(7));

    #[test]
    fn a_percentile_is_at_least_the_truth_and_at_most_twice_it() {
        for (label, micros, median, worst) in [
            ("nothing noted", vec![], 0, 0),
            ("all at once", vec![0; 10], 1, 1),
            ("one slow of a hundred", [vec![3; 99], vec![900]].concat(), 4, 4),
            ("two slow of a hundred", [vec![3; 98], vec![900; 2]].concat(), 4, 1_024),
            ("beyond the last bucket", vec![u64::MAX], 1 << 23, 1 << 23),
        ] {
            let durations = Durations::default();
            for micros in micros {
                durations.note(Duration::from_micros(micros));
            }
            assert_eq!(
                (durations.percentile_us(50), durations.percentile_us(99)),
                (median, worst),
                "{label}"
            );
        }
    }

    #[test]
    fn the_rate_looks_back_ten_seconds_and_forgets() {
        let stats = ActorStats::new(2);
        let at = |ms| stats.born + Duration::from_millis(ms);
        for ms in 0..20 {
            stats.sent();
            stats.handled(at(ms), at(ms), at(ms + 1));
        }
        let rate = |ms| stats.report_at(&CART, at(ms)).rate;
        for (label, ms, expected) in
            [("the first second", 900, 20.0), ("four seconds", 3_500, 5.0), ("later", 60_000, 0.0)]
        {
            assert!((rate(ms) - expected).abs() < f64::EPSILON, "{label}: {}", rate(ms));
        }
        let report = stats.report_at(&CART, at(900));
        assert_eq!((report.messages, report.queue_depth, report.restarts), (20, 0, 2));
        assert_eq!((report.kind, report.key), ("cart", CartId(7).to_string()));
    }

    #[test]
    fn the_hotter_actor_is_the_one_with_more_of_the_figure() {
        let (busy, crowded) = (ActorStats::new(0), ActorStats::new(0));
        for _ in 0..5 {
            busy.sent();
            busy.handled(
                busy.born,
                busy.born + Duration::from_millis(9),
                busy.born + Duration::from_millis(9),
            );
            crowded.sent();
        }
        for (sort, busy_is_hotter) in [
            (ActorSort::Rate, true),
            (ActorSort::Messages, true),
            (ActorSort::Wait, true),
            (ActorSort::Depth, false),
        ] {
            assert_eq!(busy.heat(sort) > crowded.heat(sort), busy_is_hotter, "{sort:?}");
        }
    }

    #[test]
    fn the_last_sixteen_messages_are_told_newest_first() {
        let stats = ActorStats::new(0);
        for n in 1..=20 {
            stats.remember(Timestamp(n), "reserve", "changed");
        }
        let seen: Vec<u64> = stats.recent().iter().map(|message| message.at.0).collect();
        assert_eq!(seen, (5..=20).rev().collect::<Vec<_>>());
    }
}
