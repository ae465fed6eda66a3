//! What all workers share, and how an engine starts and ends.
//!
//! Recovery is the only way in: lock the directory, rebuild the world, give every worker its share, then serve. Start at
//! [`crate::Engine::start`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use crossbeam_utils::atomic::AtomicCell;
use doorbuster_engine::answer::Folded;
use doorbuster_engine::event::{EntityKey, PARTITIONS};
use doorbuster_engine::identity::{Position, RequestStamp, ReservationId, Sku, Timestamp};
use doorbuster_engine::payment::PaymentProvider;
use doorbuster_engine::world::{Ended, Settled, Snapshot, is_creation_of_reservation};
use doorbuster_persistence::codec::records;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::disk::{Disk, MachineDisk};
use doorbuster_persistence::error::StartError;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::writer::{Durability, JournalHandle};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::catalogue::Catalogue;
use crate::checkpointer::{self, Order, Portion};
use crate::clock::BusinessClock;
use crate::host::{Delivery, Host};
use crate::index::{RequestIndex, Stage};
use crate::message::Parcel;
use crate::pages::Pages;
use crate::payments::{Desk, WhenDown};
use crate::secrets::Secrets;
use crate::start::{checkout_of, recall_running};
use crate::store::Store;
use crate::types::Readiness;
use crate::worker::{Inbound, Rebuilt, Remembered, Stored, Unreadable};

/// How an engine is set up.
pub struct EngineOptions {
    /// Where everything durable lives.
    pub data: PathBuf,
    /// Threads that host connections and actors. Default: one a core.
    pub workers: usize,
    /// What an answer promises.
    pub durability: Durability,
    /// Size of a journal segment file in bytes.
    pub segment_bytes: u64,
    /// Bounds.
    pub limits: Limits,
    /// Doors to payment providers.
    pub providers: Vec<Arc<dyn PaymentProvider>>,
    /// What becomes of checkouts while their provider cannot be asked.
    pub when_down: WhenDown,
    /// On what everything durable lies.
    pub disk: Arc<dyn Disk>,
    /// A world of its own for a proof; absent: the machine.
    pub host: Option<Arc<dyn Host>>,
    /// Told when nothing can be promised any more (the journal failed): must end the process.
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl EngineOptions {
    /// Defaults for a data directory: local durability, no provider; a fatal error aborts the process.
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            durability: Durability::Local,
            segment_bytes: 64 << 20,
            limits: Limits::default(),
            providers: Vec::new(),
            when_down: WhenDown::default(),
            disk: Arc::new(MachineDisk),
            host: None,
            on_fatal: Arc::new(|_| std::process::abort()),
        }
    }
}

/// Bounds of one engine (law 11).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in the engine at a time; more are refused with `overloaded`. Each costs about a kilobyte.
    pub in_flight_max: usize,
    /// Requests on their way to one SKU at a time: half a second's work of one actor.
    pub waiting_per_sku_max: u32,
    /// Finished keys and ended reservations kept for replays; beyond it the oldest go before their 24 hours.
    pub finished_max: usize,
    /// About how many bytes they may weigh together: answers of large carts weigh a hundred kilobytes each.
    pub finished_bytes_max: u64,
    /// Least time between checkpoint rounds.
    pub checkpoint_interval: Duration,
    /// How long an unused cart or order stays in memory.
    pub passivate_after: Duration,
    /// How long an unused SKU keeps its actor. Its state stays in memory; the actor costs four times as much.
    pub sleep_after: Duration,
    /// How long one call to a payment provider may take before its answer counts as unknown. Shorter than a request's
    /// deadline, so that a slow provider ends in `payment_pending`, not in a time-out.
    pub payment_deadline: Duration,
    /// How long units stay pinned while a payment is open.
    pub payment_pin: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_max: 65_536,
            waiting_per_sku_max: 32_768,
            finished_max: 1_000_000,
            finished_bytes_max: 512 << 20,
            checkpoint_interval: Duration::from_secs(10),
            passivate_after: Duration::from_secs(60),
            sleep_after: Duration::from_secs(5),
            payment_deadline: Duration::from_secs(5),
            payment_pin: Duration::from_secs(15 * 60),
        }
    }
}

/// What a worker begins with.
#[derive(Default)]
pub(crate) struct Seed {
    pub(crate) entities: Vec<(EntityKey, Stored)>,
    pub(crate) dirty: Vec<EntityKey>,
    /// What has ended since the checkpoint, with the sequence of its last event.
    pub(crate) gone: Vec<(EntityKey, u64)>,
    /// Parts held for nobody: the first thing the worker does is to give them back.
    pub(crate) strays: Vec<(Sku, ReservationId, doorbuster_engine::stock::Home)>,
    pub(crate) sequences: Sequences,
}

/// A worker's seed and the end of its inbox, until a thread takes them.
pub(crate) type Start = (Seed, mpsc::UnboundedReceiver<Inbound>);

/// Last sequence of each partition.
#[derive(Clone, Copy)]
pub(crate) struct Sequences(pub(crate) [u64; PARTITIONS]);

impl Default for Sequences {
    fn default() -> Self {
        Self([0; PARTITIONS])
    }
}

/// See the module's header.
pub(crate) struct Shared {
    pub(crate) catalogue: Catalogue,
    pub(crate) index: Arc<RequestIndex>,
    pub(crate) clock: BusinessClock,
    pub(crate) limits: Limits,
    pub(crate) journal: JournalHandle,
    pub(crate) store: Store,
    /// Ledger pages on their way there.
    pub(crate) pages: Pages,
    pub(crate) directory: DataDirectory,
    pub(crate) secrets: Secrets,
    /// One for each payment provider.
    pub(crate) desks: Vec<Arc<Desk>>,
    pub(crate) when_down: WhenDown,
    pub(crate) inboxes: Vec<mpsc::UnboundedSender<Inbound>>,
    pub(crate) seeds: Mutex<Vec<Option<Start>>>,
    pub(crate) checkpoints: Sender<Order>,
    pub(crate) host: Arc<dyn Host>,
    /// A proof's host, which hears of every turn; nobody does while serving.
    pub(crate) listener: Option<Arc<dyn Host>>,
    pub(crate) position: AtomicU64,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) answered: AtomicU64,
    pub(crate) drain_rate: AtomicU64,
    pub(crate) rounds_done: AtomicU64,
    /// Portions the checkpointer has not taken yet: what keeps a round from outrunning the store.
    pub(crate) portions_waiting: AtomicUsize,
    pub(crate) readiness: AtomicCell<Readiness>,
    /// Changes are refused: the drain is past its grace.
    pub(crate) closed: AtomicBool,
    pub(crate) on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
    /// Ends the process after that.
    pub(crate) end: fn() -> !,
}

impl Shared {
    /// The worker that owns an entity.
    pub(crate) fn owner(&self, entity: &EntityKey) -> usize {
        usize::from(entity.partition()) % self.inboxes.len().max(1)
    }

    /// Where a payment provider is asked.
    pub(crate) fn desk(&self, provider: &str) -> Option<&Arc<Desk>> {
        self.desks.iter().find(|desk| desk.name() == provider)
    }

    /// The next event's position.
    pub(crate) fn next_position(&self) -> Position {
        Position(self.position.fetch_add(1, Ordering::Relaxed))
    }

    /// Where the journal stands: every event decided so far is before it, every later one is not.
    pub(crate) fn as_of(&self) -> Position {
        Position(self.position.load(Ordering::Relaxed))
    }

    /// Tells a worker something. A worker that has ended takes the process with it, so nobody is left to mind.
    pub(crate) fn tell(&self, worker: usize, inbound: Inbound) {
        if let Some(inbox) = self.inboxes.get(worker) {
            let _ = inbox.send(inbound);
        }
    }

    /// Brings a bundle of parcels or replies to a worker; `from` is the worker that sends it.
    pub(crate) fn deliver(&self, from: Option<usize>, to: usize, bundle: Inbound) {
        if let Some(inbox) = self.inboxes.get(to) {
            self.host.deliver(Delivery::new(from, to, inbox, bundle));
        }
    }

    /// Brings a parcel to its worker from any other thread.
    pub(crate) fn post(&self, parcel: Parcel) {
        self.deliver(None, self.owner(&parcel.to), Inbound::Parcels(vec![parcel]));
    }

    /// Runs `work`, which waits for the disk, beside the workers; `None` if it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.host.spawn_blocking(Box::new(move || {
            let _ = sender.send(work());
        }));
        receiver.await.ok()
    }

    /// Hands a portion to the checkpointer.
    pub(crate) fn checkpoint(&self, portion: Portion) {
        self.portions_waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.checkpoints.send(Order::Portion(portion));
    }

    /// Checkpoint rounds finished.
    pub(crate) fn rounds_done(&self) -> u64 {
        self.rounds_done.load(Ordering::Acquire)
    }

    /// When the requests now in flight, and `beside` others, will be answered at the measured rate, in milliseconds: 50 at
    /// least, 10,000 at most.
    pub(crate) fn drain_time_ms(&self, beside: u64) -> u64 {
        let in_flight = u64::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        let per_second = self.drain_rate.load(Ordering::Relaxed).max(1);
        in_flight
            .saturating_add(beside)
            .saturating_mul(1_000)
            .checked_div(per_second)
            .unwrap_or(10_000)
            .clamp(50, 10_000)
    }

    /// Nothing can be promised any more.
    pub(crate) fn die(&self, why: &str) -> ! {
        (self.on_fatal)(why);
        (self.end)()
    }

    /// Reads a cold state for a worker.
    pub(crate) fn load(self: &Arc<Self>, worker: usize, entity: EntityKey) {
        let shared = Arc::clone(self);
        self.host.spawn_blocking(Box::new(move || {
            let found = shared.store.get().and_then(|store| checkpointer::load(&store, &entity)).map_err(|trouble| {
                tracing::error!(%entity, %trouble, "a cold state cannot be read; restart to rebuild it from the journal");
                Unreadable
            });
            shared.tell(worker, Inbound::Loaded(entity, found));
        }));
    }

    /// Rebuilds a state after a panic: its checkpoint row, then the journal's tail.
    pub(crate) fn rebuild(self: &Arc<Self>, worker: usize, entity: EntityKey) {
        let shared = Arc::clone(self);
        self.host.spawn_blocking(Box::new(move || {
            // What made the actor panic may be in its journal: then folding panics too, and whoever waits must hear of it.
            let found = catch_unwind(AssertUnwindSafe(|| shared.rebuilt(&entity)))
                .map_err(|_| Unreadable)
                .and_then(|found| {
                    found.map_err(|trouble| {
                        tracing::error!(%entity, %trouble, "a state cannot be rebuilt; restart the engine");
                        Unreadable
                    })
                });
            shared.tell(worker, Inbound::Rebuilt(entity, found));
        }));
    }

    fn rebuilt(&self, entity: &EntityKey) -> Result<Rebuilt, StartError> {
        let store = self.store.get()?;
        // The mark before the row: a round that ends between the two has written a newer row, never skipped a record.
        let from = store.marks()?.first().map_or(FrameNumber::FIRST, |mark| mark.replay_from_frame);
        let (mut stored, mut exists) = checkpointer::load_or_absent(&store, entity)?;
        let (mut untold, mut spilled) = (Vec::new(), Vec::new());
        let partition = entity.partition();
        let durable = self.journal.durable_frame();
        let mut reader =
            JournalReader::open(self.directory.paths(), self.directory.engine(), from)?.until(durable);
        while let Some(frame) = reader.next_frame()? {
            for record in records(frame.body) {
                let Ok(record) = record else { continue };
                if record.header.partition != partition || record.header.sequence <= stored.sequence {
                    continue;
                }
                let Ok(entry) = record.entry() else { continue };
                if entry.entity != *entity {
                    continue;
                }
                let checkout = checkout_of(&stored.snapshot);
                let folded =
                    stored
                        .snapshot
                        .evolve(entity, &entry.event, record.recorded(), entry.request)
                        .map_err(|violation| StartError::Law { place: "a rebuild".to_owned(), violation })?;
                spilled.extend(folded.spilled.iter().map(|chunk| (**chunk).clone()));
                untold.extend(self.tell_index(folded, record.recorded().at));
                if let Some(over) = checkout.filter(|_| checkout_of(&stored.snapshot).is_none()) {
                    self.index.close(over.key);
                }
                stored.sequence = record.header.sequence;
                stored.dirty = true;
                exists = !stored.snapshot.is_over();
                if !exists {
                    stored.snapshot = Snapshot::absent(entity);
                }
            }
        }
        let sequence = stored.sequence;
        if exists {
            recall_running(entity, &stored.snapshot, &self.index);
        } else {
            self.index.close_coordinator(entity);
        }
        Ok(Rebuilt { stored: exists.then_some(stored), sequence, untold, spilled })
    }

    /// Tells the index what an event says, where it does not know yet; returns what was news to it.
    fn tell_index(&self, folded: Folded, at: Timestamp) -> Vec<Remembered> {
        let known = |key| match self.index.stage(key) {
            Some(Stage::Settled(_) | Stage::Ended(_)) => true,
            Some(Stage::Claimed | Stage::Open(_)) | None => false,
        };
        let mut news = Vec::new();
        for settlement in folded.settlements {
            let RequestStamp { key, fingerprint } = settlement.request;
            match settlement.verdict {
                Ok(answer) if !known(key) && !is_creation_of_reservation(&answer, key) => {
                    self.index.settle(settlement.request, Arc::new(answer.clone()), at);
                    news.push(Remembered::Settled(key, Settled { fingerprint, answer, at }));
                }
                Err(_) if !known(key) => self.index.refuse(key),
                Ok(_) | Err(_) => {}
            }
        }
        if let Some(record) = folded.ended
            && !known(record.id.request_key())
        {
            news.push(Remembered::Ended(Ended { record: (*record).clone(), at }));
            self.index.end(Arc::from(record), at);
        }
        news
    }
}
