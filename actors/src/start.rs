//! Starting an engine: lock, recover, share out, serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_utils::atomic::AtomicCell;
use doorbuster_engine::cart::CartStatus;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{Fingerprint, OrderId, RequestStamp, ReservationId, Sku, Timestamp};
use doorbuster_engine::reservation::ReservationPhase;
use doorbuster_engine::stock::Home as PartHome;
use doorbuster_engine::world::{ANSWER_MEMORY_MS, Ended, Memo, OrderedMap, Settled, Snapshot, World};
use doorbuster_persistence::checkpoint::{CheckpointStore, ColdKind, ColdRow};
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::error::{CheckpointError, StartError};
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions, Preparation};
use doorbuster_persistence::recovery::{Progress, Recovered, RecoveryReport, recover_keeping};
use doorbuster_persistence::writer::{JournalHandle, JournalWriter, OnDurable, WriterOptions};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::catalogue::Catalogue;
use crate::checkpointer::{self, Order, Portion};
use crate::clock::BusinessClock;
use crate::engine::{Engine, Running};
use crate::host::{Host, Machine};
use crate::index::{Home, RequestIndex};
use crate::pages::Pages;
use crate::payments::Desk;
use crate::runtime::{EngineOptions, Seed, Sequences, Shared, Start};
use crate::secrets::Secrets;
use crate::store::Store;
use crate::types::Readiness;
use crate::worker::{Inbound, REMEMBERED_MAX, Remembered, Stored};

impl Engine {
    /// Recovers the data directory and makes the engine ready for its workers: call [`Engine::attach_worker`] on as many
    /// threads as [`EngineOptions::workers`] says.
    ///
    /// Blocks; `progress` hears how far it has come.
    pub fn start(
        options: EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, RecoveryReport), StartError> {
        let (prepared, journal) = Prepared::new(&options, Preparation::Thread, progress)?;
        let report = prepared.report.clone();
        let on_fatal = Arc::clone(&options.on_fatal);
        let journal = JournalWriter::spawn(
            Box::new(journal),
            writer_options(&options),
            prepared.on_durable(),
            Box::new(move |error| {
                on_fatal(&error.to_string());
                std::process::abort();
            }),
        )
        .map_err(StartError::Journal)?;
        let data = options.data.clone();
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("outside")
            .enable_time()
            .enable_io()
            .build()
            .map_err(|source| StartError::NotWritable { path: data.clone(), source })?;
        let host = options.host.clone().unwrap_or_else(|| Arc::new(Machine::new(io.handle().clone())));
        let (shared, orders) = prepared.share(options, journal, host, std::process::abort);
        let thread = checkpointer::spawn(Arc::clone(&shared), orders)
            .map_err(|source| StartError::NotWritable { path: data, source })?;
        io.spawn(crate::observe::watch(Arc::downgrade(&shared)));
        Ok((Self::new(shared, Running { io: Some(io), checkpointer: Some(thread) }), report))
    }
}

/// A recovered engine before its journal is handed to a writer.
pub(crate) struct Prepared {
    directory: DataDirectory,
    secrets: Secrets,
    store: CheckpointStore,
    index: Arc<RequestIndex>,
    catalogue: Catalogue,
    seeds: Vec<Option<Start>>,
    /// Answers and endings of the replayed tail, which no checkpoint has yet.
    remembered: Vec<Remembered>,
    inboxes: Vec<mpsc::UnboundedSender<Inbound>>,
    last_at: Timestamp,
    next_position: u64,
    pub(crate) report: RecoveryReport,
}

impl Prepared {
    /// Locks the directory, recovers it, and shares out what was found.
    pub(crate) fn new(
        options: &EngineOptions,
        preparation: Preparation,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, FileJournal), StartError> {
        let directory = DataDirectory::open_on(Arc::clone(&options.disk), &options.data)?;
        let secrets = Secrets::new(&directory.secret("server")?);
        let journal_options = JournalOptions { segment_bytes: options.segment_bytes, preparation };
        let answers_max = options.limits.finished_max;
        let mut recovered = recover_keeping(&directory, journal_options, answers_max, progress)?;
        let workers = options.workers.max(1);
        let index = RequestIndex::new(options.limits.finished_max, options.limits.finished_bytes_max);
        let last_at = Timestamp(recovered.last_at_ms);
        recall_answers(std::mem::take(&mut recovered.answers), &index, last_at)?;
        let (inboxes, ends): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let catalogue = Catalogue::default();
        let (seeds, remembered) = share_out(&mut recovered, workers, &catalogue, &index);
        let prepared = Self {
            directory,
            secrets,
            store: recovered.store,
            index,
            catalogue,
            seeds: seeds.into_iter().zip(ends).map(Some).collect(),
            remembered,
            inboxes,
            last_at,
            next_position: recovered.next_position,
            report: recovered.report,
        };
        Ok((prepared, recovered.journal))
    }

    /// How the journal's writer tells the workers.
    pub(crate) fn on_durable(&self) -> OnDurable {
        let inboxes = self.inboxes.clone();
        Box::new(move |worker, number| {
            if let Some(inbox) = inboxes.get(worker) {
                let _ = inbox.send(Inbound::Durable(number));
            }
        })
    }

    /// Puts together what all workers share, and the orders its checkpointer will take. `end` is how the process ends after
    /// a fatal error.
    pub(crate) fn share(
        self,
        options: EngineOptions,
        journal: JournalHandle,
        host: Arc<dyn Host>,
        end: fn() -> !,
    ) -> (Arc<Shared>, Receiver<Order>) {
        let (checkpoints, orders) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared {
            catalogue: self.catalogue,
            index: self.index,
            clock: BusinessClock::starting_after(self.last_at, options.host.clone()),
            limits: options.limits,
            journal,
            store: Store::new(self.store, self.directory.paths().clone()),
            pages: Pages::default(),
            directory: self.directory,
            secrets: self.secrets,
            desks: options.providers.into_iter().map(|provider| Arc::new(Desk::new(provider))).collect(),
            when_down: options.when_down,
            inboxes: self.inboxes,
            seeds: Mutex::new(self.seeds),
            checkpoints,
            host,
            listener: options.host,
            position: AtomicU64::new(self.next_position),
            in_flight: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            drain_rate: AtomicU64::new(1_000),
            rounds_done: AtomicU64::new(0),
            portions_waiting: AtomicUsize::new(0),
            readiness: AtomicCell::new(Readiness::Recovering),
            closed: AtomicBool::new(false),
            on_fatal: options.on_fatal,
            end,
        });
        crate::observe::register(&shared);
        // Before any row of any worker: a replay skips what a row reflects, so its answers must be there first (law 5).
        let mut remembered = self.remembered.into_iter().peekable();
        while remembered.peek().is_some() {
            shared.checkpoint(Portion::Remembered(remembered.by_ref().take(REMEMBERED_MAX).collect()));
        }
        (shared, orders)
    }
}

/// How the journal's writer works here.
pub(crate) fn writer_options(options: &EngineOptions) -> WriterOptions {
    WriterOptions {
        durability: options.durability,
        on_sync: Some(crate::observe::on_sync()),
        ..WriterOptions::default()
    }
}

/// Fills the index with the answers and endings the checkpoint remembers.
fn recall_answers(
    rows: Vec<ColdRow>,
    index: &RequestIndex,
    last_at: Timestamp,
) -> Result<(), CheckpointError> {
    // Some may have grown too old during the replay: they would leave the index again at once.
    for row in rows.into_iter().filter(|row| row.at_ms.saturating_add(ANSWER_MEMORY_MS) > last_at.0) {
        match row.kind {
            ColdKind::Answer => {
                let settled: Settled = checkpointer::decode(&row.bytes)?;
                let request = RequestStamp {
                    key: doorbuster_engine::identity::RequestKey(row.key),
                    fingerprint: settled.fingerprint,
                };
                index.settle(request, Arc::new(settled.answer), settled.at);
            }
            ColdKind::EndedReservation => {
                let ended: Ended = checkpointer::decode(&row.bytes)?;
                index.end(Arc::new(ended.record), ended.at);
            }
        }
    }
    Ok(())
}

/// Gives every worker its entities, and the index and catalogue what they tell. Also returned: the answers and endings that
/// are in no checkpoint yet.
fn share_out(
    recovered: &mut Recovered,
    workers: usize,
    catalogue: &Catalogue,
    index: &RequestIndex,
) -> (Vec<Seed>, Vec<Remembered>) {
    let mut seeds: Vec<Seed> = (0..workers).map(|_| Seed::default()).collect();
    for seed in &mut seeds {
        seed.sequences = Sequences(recovered.sequences);
    }
    let World { entities, mut memory, spilled: _ } = std::mem::take(&mut recovered.world);
    // What the replayed tail settled goes into the index before what is open: a key whose answer was forgotten early may be
    // in use again.
    let mut remembered = Vec::new();
    for (settled, ended) in memory.take().map(Memo::into_parts) {
        if let Some((key, settled)) = settled {
            let request = RequestStamp { key, fingerprint: settled.fingerprint };
            index.settle(request, Arc::new(settled.answer.clone()), settled.at);
            remembered.push(Remembered::Settled(key, settled));
        }
        if let Some(ended) = ended {
            index.end(Arc::new(ended.record.clone()), ended.at);
            remembered.push(Remembered::Ended(ended));
        }
    }
    let strays = strays_among(&entities);
    for ((entity, snapshot), touched) in entities.into_iter().zip(std::mem::take(&mut recovered.touched)) {
        recall_running(&entity, &snapshot, index);
        if let Snapshot::Stock(stock) = &snapshot {
            catalogue.publish(None, stock, 0, false);
        }
        let Some(seed) = seeds.get_mut(usize::from(entity.partition()) % workers) else { continue };
        let dirty = touched > 0;
        if dirty {
            seed.dirty.push(entity.clone());
        }
        seed.entities.push((entity, Stored { snapshot, sequence: touched, dirty, saved_in: 0 }));
    }
    for (entity, sequence) in std::mem::take(&mut recovered.over) {
        if let Some(seed) = seeds.get_mut(usize::from(entity.partition()) % workers) {
            seed.gone.push((entity, sequence));
        }
    }
    for seed in &mut seeds {
        seed.gone.sort();
    }
    for (sku, reservation, home) in strays {
        let worker = usize::from(EntityKey::Sku(sku.clone()).partition()) % workers;
        if let Some(seed) = seeds.get_mut(worker) {
            seed.strays.push((sku, reservation, home));
        }
    }
    (seeds, remembered)
}

/// Parts held for coordinators that do not keep them: a late copy of a step was granted, and the engine ended before it was
/// given back (law 6). Every coordinator that keeps units is in memory, so whoever is not there keeps none.
fn strays_among(entities: &OrderedMap<EntityKey, Snapshot>) -> Vec<(Sku, ReservationId, PartHome)> {
    let mut strays = Vec::new();
    for snapshot in entities.values() {
        let Snapshot::Stock(stock) = snapshot else { continue };
        for (reservation, home) in stock.parts() {
            let coordinator = coordinator_of(reservation, home);
            if !entities.get(&coordinator).is_some_and(|saga| saga.keeps_units_of(stock.sku())) {
                strays.push((stock.sku().clone(), reservation, home));
            }
        }
    }
    strays
}

/// Who coordinates a part.
pub(crate) fn coordinator_of(reservation: ReservationId, home: PartHome) -> EntityKey {
    match home {
        PartHome::Reservation => EntityKey::Reservation(reservation),
        PartHome::Order => EntityKey::Order(OrderId(reservation.0)),
    }
}

/// The request whose checkout a cart waits for.
pub(crate) fn checkout_of(snapshot: &Snapshot) -> Option<RequestStamp> {
    let Snapshot::Cart(cart) = snapshot else { return None };
    let CartStatus::CheckingOut { request, .. } = cart.status() else { return None };
    *request
}

/// Takes the keys of requests that still run, and of reservations that are held, into the index.
pub(crate) fn recall_running(entity: &EntityKey, snapshot: &Snapshot, index: &RequestIndex) {
    let home = Home::of(entity);
    match snapshot {
        Snapshot::Stock(stock) => {
            for (key, fingerprint, _) in stock.reservations() {
                index.open(RequestStamp { key, fingerprint }, home.clone());
            }
        }
        // It has been refused: nobody has its key in hand, and no ending will ever take it out.
        Snapshot::Reservation(reservation) if reservation.phase() == ReservationPhase::Refused => {}
        Snapshot::Reservation(reservation) => {
            // One made without a key is found by its id all the same.
            let key = reservation.id().request_key();
            let request = reservation.request().unwrap_or(RequestStamp { key, fingerprint: Fingerprint(0) });
            index.open(request, home);
        }
        Snapshot::Cart(_) => {
            if let Some(request) = checkout_of(snapshot) {
                index.recall_open(request, home);
            }
        }
        Snapshot::Order(order) => {
            for request in order.requests() {
                index.recall_open(request, home.clone());
            }
        }
    }
}

/// How long a drain waits for requests in flight before it goes on without them.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(20);
