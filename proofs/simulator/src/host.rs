//! The world around the engine besides its disk: its wall clock, its chance, its outside, and the way between workers,
//! on which bundles dawdle and steps arrive twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use doorbuster_actors::{Blocking, Delivery, Held, Host, NoRoom, Outside};
use doorbuster_engine::event::EntityKey;

use crate::provider::{SharedCommon, lock};
use crate::random::Random;
use crate::{panics, sometimes};

/// Bundles on their way, by sender and receiver.
type Ways = BTreeMap<(Option<usize>, usize), VecDeque<Held>>;

/// What was sent and has not arrived: lost with the life that holds it. A bundle knows the engine, which knows its host, so
/// the host itself only looks here.
pub struct OnTheWay {
    _ways: Arc<Mutex<Ways>>,
}

/// See the module's header.
pub struct SimulatedHost {
    common: SharedCommon,
    random: Mutex<Random>,
    ways: Weak<Mutex<Ways>>,
    /// Whether bundles dawdle and double.
    restless: bool,
    /// How often each entity's turn panicked in this life.
    panicked: Mutex<BTreeMap<EntityKey, u32>>,
}

/// Panics of one entity in a life: a fourth within a minute would quarantine it.
const PANICS_MAX: u32 = 1;

impl SimulatedHost {
    /// A host of one life, and what is on the way in it; a restless one delays and doubles what workers send each other.
    pub fn new(common: SharedCommon, random: Random, restless: bool) -> (Self, OnTheWay) {
        let ways = Arc::default();
        let host = Self {
            common,
            random: Mutex::new(random),
            ways: Arc::downgrade(&ways),
            restless,
            panicked: Mutex::default(),
        };
        (host, OnTheWay { _ways: ways })
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

    fn recorded(&self, entity: &EntityKey) {
        if !self.restless || !self.draw(|random| random.one_in(1_500)) {
            return;
        }
        let mut panicked = self.panicked.lock().unwrap_or_else(PoisonError::into_inner);
        let panics = panicked.entry(entity.clone()).or_default();
        if *panics >= PANICS_MAX {
            return;
        }
        *panics += 1;
        drop(panicked);
        {
            let mut common = lock(&self.common);
            common.unhealthy_for(300);
            common.faults += 1;
            if let EntityKey::Sku(sku) = entity {
                *common.quarantined.entry(sku.clone()).or_default() += 1;
            }
            let now_ms = common.clock.now_ms();
            common.trace.line(now_ms, || format!("{entity} panics after it recorded a turn"));
            sometimes!("an actor panicked after it recorded a turn");
        }
        panics::on_purpose();
    }

    fn no_room(&self, seen: NoRoom) {
        lock(&self.common).judge_no_room(seen);
    }

    fn loaded(&self, entity: &EntityKey) {
        match entity {
            EntityKey::Cart(_) => sometimes!("a cart was loaded cold"),
            EntityKey::Order(_) => sometimes!("an order was loaded cold"),
            EntityKey::Reservation(_) => sometimes!("a coordinator was loaded cold"),
            EntityKey::Sku(_) => {}
        }
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
        let Some(all) = self.ways.upgrade() else { return };
        let mut ways = all.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = ways.entry(way).or_default();
        if wait_ms == 0 && queue.is_empty() {
            return delivery.arrive();
        }
        queue.push_back(delivery.hold());
        drop(ways);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let mut ways = all.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(first) = ways.get_mut(&way).and_then(VecDeque::pop_front) {
                first.arrive();
            }
        });
    }
}
