//! The engine without threads: one thread, a paused clock, a world that follows a seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbuster_actors::{Blocking, Delivery, Engine, EngineOptions, Host, NoRoom, Outside, Stepped};
use doorbuster_engine::answer::{Answer, Refusal};
use doorbuster_engine::event::EntityKey;
use doorbuster_gateways::fake::Fake;
use tokio::time::Instant;

use crate::harness::{cart, checkout, define, record, reserve, sku, snapshot_of, stock, ticket};

pub(crate) const NOON_MS: u64 = 1_800_000_000_000;
const UNITS: i64 = 1_000;
const SKUS: [&str; 3] = ["TEE", "CUP", "CAP"];

/// Chance from a seed (`SplitMix64`).
pub(crate) struct Chance(AtomicU64);

impl Chance {
    fn next(&self) -> u64 {
        let mut mixed = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A host whose wall runs with the paused clock from noon on; bundles are late now and then, and some come twice.
pub(crate) struct Seeded {
    pub(crate) began: Instant,
    pub(crate) chance: Chance,
    /// Copies arrive so much later, at most; 0: there are none.
    pub(crate) late_ms: u64,
    /// Bundles between workers take so long.
    pub(crate) way_ms: u64,
    /// The turn that records this event from here on panics; 0: none.
    pub(crate) panic_at: Arc<AtomicU64>,
    /// What waits for the disk beside the workers, a rebuild among it, begins so much later.
    pub(crate) blocking_ms: u64,
    /// The wall is so far past noon when the world begins.
    pub(crate) ahead_ms: u64,
    /// Turns that found no journal room.
    pub(crate) no_room: Arc<Mutex<Vec<NoRoom>>>,
}

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        let chance = Chance(AtomicU64::new(seed));
        Self {
            began: Instant::now(),
            chance,
            late_ms: 20,
            way_ms: 0,
            panic_at: Arc::default(),
            blocking_ms: 0,
            ahead_ms: 0,
            no_room: Arc::default(),
        }
    }

    /// A world in which a turn panics after it recorded: `panic_at` counts the events down to it.
    pub(crate) fn panicking(seed: u64, panic_at: &Arc<AtomicU64>) -> Self {
        Self { panic_at: Arc::clone(panic_at), ..Self::new(seed) }
    }
}

impl Host for Seeded {
    fn wall_ms(&self) -> u64 {
        NOON_MS + self.ahead_ms + u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    fn random_bits(&self) -> u128 {
        (u128::from(self.chance.next()) << 64) | u128::from(self.chance.next())
    }

    fn spawn(&self, work: Outside) {
        tokio::task::spawn_local(work);
    }

    fn spawn_blocking(&self, work: Blocking) {
        let wait = Duration::from_millis(self.blocking_ms);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(wait).await;
            work();
        });
    }

    fn recorded(&self, _: &EntityKey) {
        let before = self.panic_at.load(Ordering::Relaxed);
        self.panic_at.store(before.saturating_sub(1), Ordering::Relaxed);
        assert!(before != 1, "on purpose");
    }

    fn no_room(&self, seen: NoRoom) {
        self.no_room.lock().unwrap().push(seen);
    }

    fn deliver(&self, delivery: Delivery<'_>) {
        if self.late_ms > 0
            && (self.late_ms > 20 || self.chance.below(4) == 0)
            && let Some(copy) = delivery.copy()
        {
            let late = Duration::from_millis(self.chance.below(self.late_ms));
            tokio::task::spawn_local(async move {
                tokio::time::sleep(late).await;
                copy.arrive();
            });
        }
        if self.way_ms == 0 || delivery.from().is_none() {
            return delivery.arrive();
        }
        let (bundle, way) = (delivery.hold(), Duration::from_millis(self.way_ms));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(way).await;
            bundle.arrive();
        });
    }
}

/// What a caller was told, under which key.
pub(crate) type Told = Rc<RefCell<BTreeMap<String, (Vec<(&'static str, i64)>, Answer)>>>;

/// Starts an engine without threads on `data`, lets `live` go on beside it, and kills it when that returns.
fn live<T>(data: &Path, seed: u64, live: impl AsyncFnOnce(Engine, Rc<RefCell<Stepped>>) -> T) -> T {
    live_on(data, seed, |_| {}, live)
}

/// [`live`] with changed options.
pub(crate) fn live_on<T>(
    data: &Path,
    seed: u64,
    change: impl FnOnce(&mut EngineOptions),
    live: impl AsyncFnOnce(Engine, Rc<RefCell<Stepped>>) -> T,
) -> T {
    let host = |options: &mut EngineOptions| {
        change(options);
        Seeded::new(seed)
    };
    live_with(data, host, live)
}

/// [`live`] with changed options and a host of one's own.
pub(crate) fn live_with<T>(
    data: &Path,
    host: impl FnOnce(&mut EngineOptions) -> Seeded,
    live: impl AsyncFnOnce(Engine, Rc<RefCell<Stepped>>) -> T,
) -> T {
    live_until(data, usize::MAX, host, live)
}

/// [`live_with`], but the checkpointer takes only so many portions.
fn live_until<T>(
    data: &Path,
    portions: usize,
    host: impl FnOnce(&mut EngineOptions) -> Seeded,
    live: impl AsyncFnOnce(Engine, Rc<RefCell<Stepped>>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let (runtime, world) = (runtime.unwrap(), tokio::task::LocalSet::new());
    world.block_on(&runtime, async {
        let mut options = EngineOptions::new(data.to_path_buf());
        options.workers = 2;
        options.segment_bytes = 1 << 20;
        options.providers = vec![Arc::new(Fake::default())];
        options.limits.checkpoint_interval = Duration::from_millis(200);
        options.on_fatal = Arc::new(|why| panic!("{why}"));
        let host = Arc::new(host(&mut options));
        let (engine, stepped, _) = Engine::start_stepped(options, host, &mut |_| {}).unwrap();
        let stepped = Rc::new(RefCell::new(stepped));
        stepped.borrow_mut().attach_workers();
        let steps = Rc::clone(&stepped);
        tokio::task::spawn_local(async move {
            let mut left = portions;
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let mut steps = steps.borrow_mut();
                steps.journal_step();
                while left > 0 && steps.checkpointer_step() {
                    left -= 1;
                }
            }
        });
        live(engine, stepped).await
    })
}

/// One shopper: reservations over one SKU or two, sold or given back, and checkouts, until killed.
async fn shop(engine: Engine, name: u64, seed: u64, told: Told) {
    let chance = Chance(AtomicU64::new(seed ^ (name << 32)));
    for round in 0.. {
        let first = usize::try_from(chance.below(3)).unwrap();
        let lines = [(SKUS[first], 1), (SKUS[(first + 1) % 3], 2)];
        let lines = lines[..usize::try_from(1 + chance.below(2)).unwrap()].to_vec();
        let key = format!("{name} {round}");
        let verdict = if chance.below(3) == 0 {
            let cart = cart(&engine, &format!("cart {key}"), &lines).await;
            checkout(&engine, &key, &cart, "ok").await
        } else {
            reserve(&engine, &key, &lines, Some(60_000)).await
        };
        let Ok(reply) = verdict else { continue };
        if let Answer::Reservation(held) = &reply.answer {
            let (id, end) = (held.id, ticket(&engine, &format!("end {key}"), ""));
            let _ = if chance.below(2) == 0 {
                engine.commit(end, id).await
            } else {
                engine.release(end, id).await
            };
        }
        told.borrow_mut().insert(key, (lines, reply.answer));
    }
}

/// Two shoppers, each as if connected to a worker, for some time.
pub(crate) async fn sale(engine: Engine, stepped: Rc<RefCell<Stepped>>, seed: u64, lasts: Duration) -> Told {
    for name in SKUS {
        define(&engine, name, UNITS).await;
    }
    let told = Told::default();
    for name in 0..3 {
        let shopper = shop(engine.clone(), name, seed, Rc::clone(&told));
        // The third comes from another thread, as far as the engine can tell.
        let worker = usize::try_from(name).unwrap();
        let shopper = stepped.borrow().at_worker(worker, shopper);
        tokio::task::spawn_local(shopper);
    }
    tokio::time::sleep(lasts).await;
    told
}

/// Everything told is told again, and whatever was under way ends by itself.
pub(crate) async fn nothing_is_lost(engine: &Engine, seed: u64, told: &Told) {
    for (key, (lines, answer)) in &told.take() {
        if let Answer::Reservation(held) = answer {
            let again = reserve(engine, key, lines, Some(60_000)).await;
            assert_eq!(record(again), *held, "seed {seed}, laws 3 and 5: {key}");
        }
    }
    // Whatever was under way ends by itself.
    tokio::time::sleep(Duration::from_secs(70)).await;
    for name in SKUS {
        let stock = stock(engine, name).await;
        assert_eq!(stock.received, UNITS, "seed {seed}: {name}");
        assert_eq!(stock.received, stock.on_hand + stock.sold, "seed {seed}, law 1: {name}");
        assert_eq!(stock.reserved, 0, "seed {seed}, law 6: {name}");
    }
}

#[test]
fn a_stepped_engine_that_is_killed_has_everything_it_acknowledged() {
    for seed in 0..4 {
        let data = tempfile::tempdir().unwrap();
        let told = live(data.path(), seed, async |engine, stepped| {
            sale(engine, stepped, seed, Duration::from_millis(700 + seed * 13)).await
        });
        assert!(told.borrow().len() > 100, "seed {seed}: a sale of {} answers", told.borrow().len());
        live(data.path(), seed + 100, async |engine, _| {
            nothing_is_lost(&engine, seed, &told).await;
            let late = reserve(&engine, "late", &[("TEE", UNITS + 1)], None).await;
            assert!(matches!(late, Err(Refusal::InsufficientStock(_))), "seed {seed}: {late:?}");
        });
    }
}

#[test]
fn answers_of_a_replayed_tail_are_in_the_store_before_any_row_that_reflects_them() {
    async fn adjust(engine: &Engine, name: &str) -> doorbuster_actors::Reply {
        let ticket = ticket(engine, &format!("adjust {name}"), name);
        engine.adjust(ticket, sku(name), 5, "counted".into(), None).await.unwrap()
    }
    // More than one batch of rows, so that some are in the store before the mark is.
    let names: Vec<String> = (0..300).map(|n| format!("TEE {n}")).collect();
    let begun = tempfile::tempdir().unwrap();
    let never = |options: &mut EngineOptions| {
        options.limits.checkpoint_interval = Duration::from_secs(3_600);
        Seeded::new(1)
    };
    let told = live_with(begun.path(), never, async |engine, _| {
        let mut told = Vec::new();
        for name in &names {
            define(&engine, name, UNITS).await;
            told.push(adjust(&engine, name).await.answer);
        }
        told
    });
    // A second life dies after each portion of its first round; rows of either worker may be the first to be written.
    for portions in [0, 1, 2, 250, 257, 258, 259, 260, 261, 290] {
        let data = tempfile::tempdir().unwrap();
        snapshot_of(begun.path(), data.path());
        live_until(
            data.path(),
            portions,
            |_| Seeded::new(2),
            async |_, _| {
                tokio::time::sleep(Duration::from_millis(400)).await;
            },
        );
        live(data.path(), 3, async |engine, _| {
            for (name, told) in names.iter().zip(&told) {
                let again = adjust(&engine, name).await;
                assert!(again.replayed, "law 5, after {portions} portions: {name} was adjusted twice");
                assert_eq!(again.answer, *told, "law 5, after {portions} portions");
            }
        });
    }
}

/// All files under a directory of a data directory, with their bytes.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(name, bytes)| (path.join(name), bytes)));
        } else {
            found.insert(PathBuf::from(path.file_name().unwrap()), std::fs::read(&path).unwrap());
        }
    }
    found.into_iter().map(|(name, bytes)| (name.file_name().unwrap().into(), bytes)).collect()
}

#[test]
fn one_seed_is_one_journal_to_the_byte() {
    let empty = tempfile::tempdir().unwrap();
    // Secrets and the engine's id come from the disk's randomness: all runs begin with the same.
    live(empty.path(), 0, async |_, _| ());
    let journal_of = |seed| {
        let data = tempfile::tempdir().unwrap();
        snapshot_of(empty.path(), data.path());
        live(data.path(), seed, async |engine, stepped| {
            sale(engine, stepped, seed, Duration::from_millis(900)).await;
        });
        files(&data.path().join("journal"))
    };
    let first = journal_of(7);
    assert!(first == journal_of(7), "seed 7 twice: the journals differ");
    assert!(first != journal_of(8), "seeds 7 and 8: the journals must differ");
}
