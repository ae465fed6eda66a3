//! The world around the engine besides its disk: its wall clock, its chance, its outside, and the way between workers,
//! on which bundles dawdle and steps arrive twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use doorbuster_actors::{Blocking, Delivery, Held, Host, Outside};

use crate::provider::{SharedCommon, lock};
use crate::random::Random;

/// Bundles on their way, by sender and receiver.
type Ways = BTreeMap<(Option<usize>, usize), VecDeque<Held>>;

/// See the module's header.
pub struct SimulatedHost {
    common: SharedCommon,
    random: Mutex<Random>,
    ways: std::sync::Arc<Mutex<Ways>>,
    /// Whether bundles dawdle and double.
    restless: bool,
}

impl SimulatedHost {
    /// A host of one life; a restless one delays and doubles what workers send each other.
    pub fn new(common: SharedCommon, random: Random, restless: bool) -> Self {
        Self { common, random: Mutex::new(random), ways: std::sync::Arc::default(), restless }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Host for SimulatedHost {
    fn wall_ms(&self) -> u64 {
        lock(&self.common).clock.wall_ms()
    }

    fn random_bits(&self) -> u128 {
        self.draw(Random::wide_bits)
    }

    fn spawn(&self, work: Outside) {
        tokio::task::spawn_local(work);
    }

    fn spawn_blocking(&self, work: Blocking) {
        let wait_ms = self.draw(|random| random.weighted(&[(4, 0), (3, 1), (1, 12)]));
        let common = SharedCommon::clone(&self.common);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            if !lock(&common).dead {
                work();
            }
        });
    }

    fn deliver(&self, delivery: Delivery<'_>) {
        if !self.restless {
            return delivery.arrive();
        }
        let (wait_ms, again_ms) = self.draw(|random| {
            let wait_ms = random.weighted(&[(60, 0), (6, 1), (3, 8), (1, 60)]);
            (wait_ms, random.one_in(25).then(|| random.weighted(&[(4, 2), (3, 30), (2, 700), (1, 4_000)])))
        });
        if let Some(again_ms) = again_ms
            && let Some(copy) = delivery.copy()
        {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(again_ms)).await;
                copy.arrive();
            });
        }
        // Whoever came first goes first: a later bundle waits behind one that dawdles.
        let way = (delivery.from(), delivery.to());
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = ways.entry(way).or_default();
        if wait_ms == 0 && queue.is_empty() {
            return delivery.arrive();
        }
        queue.push_back(delivery.hold());
        drop(ways);
        let ways = std::sync::Arc::clone(&self.ways);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let mut ways = ways.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(first) = ways.get_mut(&way).and_then(VecDeque::pop_front) {
                first.arrive();
            }
        });
    }
}
