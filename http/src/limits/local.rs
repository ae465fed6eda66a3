//! Counting alone: what one instance remembers of who asked how often.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doorbuster_outlets::limits::{Ask, Count};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::policy::Policy;

/// How many of each limit are remembered. Beyond it those who come anew share one place, the crowd's (law 11): a flood from
/// more addresses than this is refused as one, and known clients are not touched.
const KNOWN_MAX: usize = 250_000;

/// So many decisions after which those who are at rest are forgotten.
const SWEEP_EVERY: usize = 65_536;

/// Who stands for everybody beyond [`KNOWN_MAX`].
const CROWD: u128 = u128::MAX;

/// A limiter as it is made, and as it tells what is left.
type Silent<C> = RateLimiter<u128, DashMapStateStore<u128>, C, NoOpMiddleware<<C as Clock>::Instant>>;
type Limiter<C> = RateLimiter<u128, DashMapStateStore<u128>, C, StateInformationMiddleware>;

/// Counts of one instance.
pub(super) struct LocalCounts<C: Clock = DefaultClock> {
    limiters: Vec<Limiter<C>>,
    clock: C,
    decisions: AtomicUsize,
    known_max: usize,
}

impl LocalCounts {
    /// Counts of `policy`, of which this instance has its part of the requests.
    pub(super) fn new(policy: &Policy, instances: u32) -> Self {
        Self::with_clock(policy, instances, DefaultClock::default(), KNOWN_MAX)
    }
}

impl<C: Clock + Clone> LocalCounts<C> {
    pub(super) fn with_clock(policy: &Policy, instances: u32, clock: C, known_max: usize) -> Self {
        let instances = instances.max(1);
        let limiters = policy.limits.iter().map(|limit| {
            let interval = Duration::from_micros(limit.interval_us().saturating_mul(u64::from(instances)));
            let burst = NonZeroU32::new(limit.burst / instances).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(burst)).allow_burst(burst);
            Silent::<C>::new(quota, DashMapStateStore::default(), clock.clone()).with_middleware()
        });
        Self { limiters: limiters.collect(), clock, decisions: AtomicUsize::new(0), known_max }
    }

    /// Counts each of `asks` by the limit of the same place in `indices`.
    pub(super) fn take(&self, indices: &[usize], asks: &[Ask<'_>]) -> Vec<Count> {
        if self.decisions.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.sweep();
        }
        indices.iter().zip(asks).map(|(index, ask)| self.take_one(&self.limiters[*index], ask)).collect()
    }

    fn take_one(&self, limiter: &Limiter<C>, ask: &Ask<'_>) -> Count {
        let who = if limiter.len() < self.known_max { ask.who } else { CROWD };
        let Some(cost) = NonZeroU32::new(ask.cost) else {
            return Count { allowed: true, remaining: ask.burst, retry_after_us: 0, reset_us: 0 };
        };
        let of = |requests: u32| ask.interval_us.saturating_mul(u64::from(requests));
        match limiter.check_key_n(&who, cost) {
            Ok(Ok(snapshot)) => {
                let remaining = snapshot.remaining_burst_capacity();
                let burst = snapshot.quota().burst_size().get();
                let reset_us = of(burst.saturating_sub(remaining));
                Count { allowed: true, remaining, retry_after_us: 0, reset_us }
            }
            Ok(Err(refused)) => {
                let wait = refused.wait_time_from(self.clock.now());
                let retry_after_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX).max(1);
                let reset_us = of(refused.quota().burst_size().get());
                Count { allowed: false, remaining: 0, retry_after_us, reset_us }
            }
            // More at once than this instance's part of the burst: as when nothing is left.
            Err(_) => {
                Count { allowed: false, remaining: 0, retry_after_us: of(ask.cost), reset_us: of(ask.burst) }
            }
        }
    }

    fn sweep(&self) {
        for limiter in &self.limiters {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn policy() -> Policy {
        let text = "[[limit]]\nname = \"few\"\nroutes = [\"catalogue\"]\nper = \"address\"\nrequests = 60\nwindow_s = 60\nburst = 3\n";
        Policy::parse(text).unwrap()
    }

    #[test]
    fn a_burst_then_one_in_each_interval_and_others_are_not_touched() {
        let (policy, clock) = (policy(), FakeRelativeClock::default());
        let counts = LocalCounts::with_clock(&policy, 1, clock.clone(), KNOWN_MAX);
        let take = |who| counts.take(&[0], &[policy.limits[0].ask(who, 1)])[0];
        let remaining: Vec<u32> =
            (0..3).map(|_| take(7)).filter(|count| count.allowed).map(|count| count.remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = take(7);
        assert_eq!(
            (refused.allowed, refused.retry_after_us, refused.reset_us),
            (false, 1_000_000, 3_000_000)
        );
        assert!(take(8).allowed, "another address has a burst of its own");
        clock.advance(Duration::from_millis(999));
        assert!(!take(7).allowed);
        clock.advance(Duration::from_millis(1));
        assert!(take(7).allowed);
        assert!(!take(7).allowed);
    }

    #[test]
    fn instances_that_count_alone_share_the_quota() {
        let (policy, clock) = (policy(), FakeRelativeClock::default());
        let counts = LocalCounts::with_clock(&policy, 3, clock.clone(), KNOWN_MAX);
        let take = || counts.take(&[0], &[policy.limits[0].ask(7, 1)])[0].allowed;
        assert_eq!([take(), take()], [true, false]);
        clock.advance(Duration::from_secs(2));
        assert!(!take());
        clock.advance(Duration::from_secs(1));
        assert!(take());
    }

    #[test]
    fn memory_is_bounded_and_those_at_rest_are_forgotten() {
        let (policy, clock) = (policy(), FakeRelativeClock::default());
        let counts = LocalCounts::with_clock(&policy, 1, clock.clone(), 10);
        let take = |who: u128| counts.take(&[0], &[policy.limits[0].ask(who, 1)])[0].allowed;
        let allowed = (0..1_000).filter(|who| take(*who)).count();
        assert_eq!(allowed, 10 + 3, "ten are known, the others share one burst");
        assert!(counts.limiters[0].len() <= 11);
        clock.advance(Duration::from_secs(10));
        counts.sweep();
        assert_eq!(counts.limiters[0].len(), 0);
        assert!(take(1));
    }
}
