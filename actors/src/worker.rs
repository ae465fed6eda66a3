//! One worker: a thread that hosts its share of HTTP connections and of actors, their records and their replies.
//!
//! A turn appends its events to the worker's buffer; once per loop tick the buffer goes to the journal and only then
//! do parcels leave for other workers. What a turn promises waits in the gate for the batch's acknowledgement. All of
//! it is one thread: no lock, no atomic on a turn's way but the shared position counter. Start at [`Worker::dispatch`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use actix::{Actor, Addr};
use doorbuster_engine::answer::{Missing, Refusal};
use doorbuster_engine::command::Command;
use doorbuster_engine::event::{EntityKey, Entry, Event, PARTITIONS};
use doorbuster_engine::identity::{Recorded, RequestKey, RequestStamp, ReservationId, Sku, Timestamp};
use doorbuster_engine::order::OrderCommand;
use doorbuster_engine::world::{Ended, Settled, Snapshot};
use doorbuster_persistence::codec::append_record;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::writer::Batch;
use tokio::sync::mpsc;

use crate::actor::{EntityActor, Turn};
use crate::checkpointer::{Portion, Row};
use crate::gate::Gate;
use crate::message::{Body, Parcel, Query, Seen, Slot, StepDone, StepKind, StepOutcome};
use crate::runtime::Shared;
use crate::stats::ActorStats;
use crate::types::{ActorReport, Verdict};
use crate::wheel::Wheel;

/// Claimed from the journal at a time, so that most turns claim nothing: a few hundred records' worth.
const CLAIM_BYTES: usize = 128 * 1024;

/// A buffer at this size goes to the journal before its tick ends.
const FLUSH_BYTES: usize = 1 << 20;

/// What reaches a worker from other threads.
pub(crate) enum Inbound {
    /// This batch and all before it are on stable storage.
    Durable(u64),
    /// For actors here.
    Parcels(Vec<Parcel>),
    /// For connections here.
    Replies(Vec<(Slot, Verdict)>),
    /// A state read from cold storage, or that there is none.
    Loaded(EntityKey, Option<Stored>),
    /// A state rebuilt after a panic, or that it could not be.
    Rebuilt(EntityKey, Option<Stored>),
    /// Write everything changed since the last round to the checkpoint.
    Checkpoint {
        /// The round.
        round: u64,
    },
    /// Collect the figures of all actors of this kind.
    Survey(Option<&'static str>, tokio::sync::oneshot::Sender<Vec<ActorReport>>),
}

/// What waits in the gate.
pub(crate) enum Pending {
    /// A verdict.
    Reply(Slot, Verdict),
    /// An effect: a provider's call, a query's result.
    Effect(Box<dyn FnOnce()>),
    /// A part of a checkpoint.
    Portion(Box<Portion>),
}

/// What a timer wakes.
pub(crate) enum Due {
    /// A reservation of a SKU.
    Reservation(Sku, ReservationId),
    /// Any other entity.
    Entity(EntityKey),
    /// Requests parked at a SKU.
    Parked(Sku),
}

/// An entity's place on its worker.
pub(crate) enum Seat {
    /// A state that no message has woken yet.
    Idle(Stored),
    /// A running actor.
    Live(Addr<EntityActor>, Rc<ActorStats>),
    /// Being read from cold storage, or rebuilt after a panic; parcels wait.
    Absent(Vec<Parcel>),
    /// Panicked too often; refused until the engine is restarted.
    Quarantined,
}

/// A state as it was recovered or loaded.
pub(crate) struct Stored {
    /// The state.
    pub(crate) snapshot: Box<Snapshot>,
    /// Sequence of its last event in its partition.
    pub(crate) sequence: u64,
    /// Whether the checkpoint does not have it yet.
    pub(crate) dirty: bool,
}

/// A worker's part of a checkpoint round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// Rounds are numbered from 1.
    pub(crate) number: u64,
    /// States asked for and not yet written out.
    pub(crate) pending: usize,
    /// Some state cannot be had: the round must not count.
    pub(crate) failed: bool,
}

/// Panics of one actor: how many within the minute that began then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarts {
    pub(crate) count: u64,
    pub(crate) since: std::time::Instant,
}

/// An answer or ending to be written with the next checkpoint.
pub(crate) enum Remembered {
    /// A keyed answer.
    Settled(RequestKey, Settled),
    /// An ended reservation.
    Ended(Ended),
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    records: u32,
}

/// See the module's header.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    me: Weak<Worker>,
    seats: RefCell<HashMap<EntityKey, Seat, foldhash::fast::RandomState>>,
    panics: RefCell<HashMap<EntityKey, Restarts, foldhash::fast::RandomState>>,
    pub(crate) gate: RefCell<Gate<Pending>>,
    buffer: RefCell<Buffer>,
    sequences: RefCell<[u64; PARTITIONS]>,
    pub(crate) wheel: RefCell<Wheel<Due>>,
    outgoing: RefCell<Vec<Vec<Parcel>>>,
    replies: RefCell<Vec<Vec<(Slot, Verdict)>>>,
    flush_scheduled: Cell<bool>,
    allowance: Cell<usize>,
    dirty: RefCell<Vec<EntityKey>>,
    gone: RefCell<Vec<(EntityKey, u64)>>,
    remembered: RefCell<Vec<Remembered>>,
    deferred: RefCell<Vec<Parcel>>,
    pub(crate) round: Cell<Round>,
}

impl Worker {
    /// Makes this thread worker `index`, seats what was recovered, and starts its loops.
    pub(crate) fn start(
        index: usize,
        shared: Arc<Shared>,
        seed: crate::runtime::Seed,
        inbox: mpsc::UnboundedReceiver<Inbound>,
    ) -> Rc<Self> {
        let workers = shared.inboxes.len();
        let worker = Rc::new_cyclic(|me| Self {
            index,
            me: me.clone(),
            seats: RefCell::default(),
            panics: RefCell::default(),
            gate: RefCell::new(Gate::new()),
            buffer: RefCell::default(),
            sequences: RefCell::new(seed.sequences.0),
            wheel: RefCell::new(Wheel::new()),
            outgoing: RefCell::new((0..workers).map(|_| Vec::new()).collect()),
            replies: RefCell::new((0..workers).map(|_| Vec::new()).collect()),
            flush_scheduled: Cell::new(false),
            allowance: Cell::new(0),
            dirty: RefCell::new(seed.dirty),
            gone: RefCell::default(),
            remembered: RefCell::new(seed.remembered),
            deferred: RefCell::default(),
            round: Cell::default(),
            shared,
        });
        worker.seat(seed.entities);
        actix_rt::spawn(crate::housekeeping::listen(Rc::clone(&worker), inbox));
        actix_rt::spawn(crate::housekeeping::sweep(Rc::clone(&worker)));
        worker
    }

    /// Seats recovered states, arms their timers, and wakes those with work left over.
    fn seat(&self, entities: Vec<(EntityKey, Stored)>) {
        let mut unfinished = Vec::new();
        self.seats.borrow_mut().reserve(entities.len());
        for (entity, stored) in entities {
            let snapshot = &stored.snapshot;
            if let (EntityKey::Sku(sku), Snapshot::Stock(stock)) = (&entity, &**snapshot) {
                let mut wheel = self.wheel.borrow_mut();
                for (key, _, expires_at) in stock.reservations() {
                    wheel.arm(expires_at, Due::Reservation(sku.clone(), key.reservation()));
                }
            } else if snapshot.is_resident() {
                unfinished.push(entity.clone());
            }
            if let Some(due) = snapshot.due() {
                self.wheel.borrow_mut().arm(due, Due::Entity(entity.clone()));
            }
            self.seats.borrow_mut().insert(entity, Seat::Idle(stored));
        }
        for entity in unfinished {
            self.activate(&entity);
        }
    }

    /// The worker that owns an entity.
    fn owner(&self, entity: &EntityKey) -> usize {
        self.shared.owner(entity)
    }

    /// Brings a parcel on its way: to an actor here, or with this tick's bundle to another worker.
    pub(crate) fn send(&self, parcel: Parcel) {
        let owner = self.owner(&parcel.to);
        if owner == self.index {
            self.dispatch(parcel);
        } else {
            if let Some(bundle) = self.outgoing.borrow_mut().get_mut(owner) {
                bundle.push(parcel);
            }
            self.schedule_flush();
        }
    }

    /// Gives a parcel to its actor here, waking or loading it first where needed.
    pub(crate) fn dispatch(&self, parcel: Parcel) {
        let parcel = match parcel {
            Parcel { body: Body::Fence(slot, verdict), .. } => {
                return self.when_durable(Pending::Reply(slot, verdict));
            }
            parcel => parcel,
        };
        let mut seats = self.seats.borrow_mut();
        match seats.get_mut(&parcel.to) {
            Some(Seat::Live(address, stats)) => {
                stats.sent();
                let address = address.clone();
                drop(seats);
                post(&address, parcel);
            }
            Some(Seat::Absent(waiting)) => waiting.push(parcel),
            Some(Seat::Quarantined) => {
                drop(seats);
                self.refuse(parcel, &Refusal::Recovering { retry_after_ms: 60_000 });
            }
            Some(Seat::Idle(stored)) => {
                if let Body::Query(query) = parcel.body {
                    // Nothing happened to it in this life, so what it shows is durable.
                    let position = doorbuster_engine::identity::Position(0);
                    let result = query(Some(Seen { snapshot: &stored.snapshot, position, stats: None }));
                    drop(seats);
                    result();
                    return;
                }
                if matches!(parcel.body, Body::Checkpoint) {
                    drop(seats);
                    self.save_idle(&parcel.to);
                    return;
                }
                drop(seats);
                self.activate(&parcel.to);
                self.dispatch(parcel);
            }
            None if begins(&parcel.body) => {
                let snapshot = Box::new(Snapshot::absent(&parcel.to));
                seats.insert(parcel.to.clone(), Seat::Idle(Stored { snapshot, sequence: 0, dirty: false }));
                drop(seats);
                self.dispatch(parcel);
            }
            None if matches!(parcel.to, EntityKey::Sku(_))
                || matches!(parcel.body, Body::Checkpoint | Body::Retire) =>
            {
                // All SKUs are in memory: one that is not here does not exist.
                drop(seats);
                self.not_here(parcel);
            }
            None => {
                let entity = parcel.to.clone();
                seats.insert(entity.clone(), Seat::Absent(vec![parcel]));
                drop(seats);
                self.shared.load(self.index, entity);
            }
        }
    }

    /// Starts the actor of an idle state.
    fn activate(&self, entity: &EntityKey) {
        let Some(me) = self.me.upgrade() else { return };
        let mut seats = self.seats.borrow_mut();
        let Some(seat) = seats.get_mut(entity) else { return };
        let restarts = self.panics.borrow().get(entity).map_or(0, |restarts| restarts.count);
        let stats = Rc::new(ActorStats::new(restarts));
        let placeholder = Seat::Absent(Vec::new());
        match std::mem::replace(seat, placeholder) {
            Seat::Idle(stored) => {
                metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).increment(1.0);
                let actor = EntityActor::new(me, entity.clone(), stored, Rc::clone(&stats));
                *seat = Seat::Live(actor.start(), stats);
            }
            other @ (Seat::Live(..) | Seat::Absent(..) | Seat::Quarantined) => *seat = other,
        }
    }

    /// A state came from cold storage (or there is none): whatever waited for it goes on.
    pub(crate) fn loaded(&self, entity: EntityKey, found: Option<Stored>) {
        let mut seats = self.seats.borrow_mut();
        let waiting = match seats.remove(&entity) {
            Some(Seat::Absent(waiting)) => waiting,
            Some(other @ (Seat::Idle(..) | Seat::Live(..) | Seat::Quarantined)) => {
                seats.insert(entity, other);
                return;
            }
            None => Vec::new(),
        };
        let exists = found.is_some();
        if let Some(stored) = found {
            if let Some(due) = stored.snapshot.due() {
                self.wheel.borrow_mut().arm(due, Due::Entity(entity.clone()));
            }
            if stored.dirty {
                self.mark_dirty(&entity);
            }
            seats.insert(entity.clone(), Seat::Idle(stored));
        }
        drop(seats);
        for parcel in waiting {
            if exists { self.dispatch(parcel) } else { self.not_here(parcel) }
        }
    }

    /// An actor panicked in its turn: its state is dropped and built anew from the disk, three times a minute at most.
    pub(crate) fn panicked(&self, entity: &EntityKey) {
        let now = std::time::Instant::now();
        let mut panics = self.panics.borrow_mut();
        let restarts = panics.entry(entity.clone()).or_insert(Restarts { count: 0, since: now });
        if now.saturating_duration_since(restarts.since).as_secs() >= 60 {
            *restarts = Restarts { count: 0, since: now };
        }
        restarts.count = restarts.count.saturating_add(1);
        let restarts = *restarts;
        drop(panics);
        metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => entity.kind(), "event" => "panic")
            .increment(1);
        metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).decrement(1.0);
        if restarts.count > 3 {
            tracing::error!(%entity, "panicked more than three times in a minute; refused until the engine restarts");
            self.seats.borrow_mut().insert(entity.clone(), Seat::Quarantined);
            return;
        }
        tracing::error!(%entity, restarts = restarts.count, "an actor panicked; it is rebuilt from the disk");
        self.seats.borrow_mut().insert(entity.clone(), Seat::Absent(Vec::new()));
        // Its last records may still be on their way to the disk, so the rebuild waits in the gate behind them.
        let (shared, index, rebuilt) = (Arc::clone(&self.shared), self.index, entity.clone());
        self.when_durable(Pending::Effect(Box::new(move || shared.rebuild(index, rebuilt))));
    }

    /// A rebuilt state takes its seat.
    pub(crate) fn rebuilt(&self, entity: EntityKey, found: Option<Stored>) {
        metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => entity.kind(), "event" => "rebuild")
            .increment(1);
        let resident = found.as_ref().is_some_and(|stored| stored.snapshot.is_resident());
        self.loaded(entity.clone(), found);
        if resident {
            self.activate(&entity);
        }
    }

    /// Answers a parcel whose entity does not exist.
    fn not_here(&self, parcel: Parcel) {
        let missing = match &parcel.to {
            EntityKey::Sku(sku) => Missing::Skus(vec![sku.clone()]),
            EntityKey::Reservation(_) => Missing::Reservation,
            EntityKey::Cart(_) => Missing::Cart,
            EntityKey::Order(_) => Missing::Order,
        };
        self.refuse(parcel, &Refusal::NotFound(missing));
    }

    /// Tells whoever sent a parcel that it will not be handled.
    fn refuse(&self, parcel: Parcel, refusal: &Refusal) {
        match parcel.body {
            Body::Client(client) => self.reply_now(client.slot, Err(refusal.clone())),
            Body::Await(_, slot) => self.reply_now(slot, Err(refusal.clone())),
            Body::Start(_, _, waiters) => {
                for (_, slot) in waiters {
                    self.reply_now(slot, Err(refusal.clone()));
                }
            }
            Body::Step(step) => {
                let EntityKey::Sku(sku) = parcel.to else { return };
                let outcome = match step.kind {
                    StepKind::Hold { .. } => StepOutcome::Refused(0),
                    // A quarantined SKU cannot sell or free now; the saga waits and the next start resumes it.
                    StepKind::Settle | StepKind::Sell | StepKind::Free | StepKind::Restock { .. } => return,
                };
                self.send(Parcel::new(step.from, Body::StepDone(StepDone { sku, kind: step.kind, outcome })));
            }
            Body::TellCart { order, .. } => {
                let told = Body::Internal(Command::Order(OrderCommand::CartTold));
                self.send(Parcel::new(EntityKey::Order(order), told));
            }
            Body::Query(query) => run_query_on_nothing(query),
            Body::Fence(slot, verdict) => self.reply_now(slot, verdict),
            Body::Checkpoint => {
                // Its state cannot be had, or it left while the round ran: only the former spoils the round.
                let quarantined = matches!(self.seats.borrow().get(&parcel.to), Some(Seat::Quarantined));
                let mut round = self.round.get();
                round.pending = round.pending.saturating_sub(1);
                round.failed |= quarantined;
                self.round.set(round);
            }
            Body::StepDone(_) | Body::Internal(_) | Body::Unpark | Body::Retire => {}
        }
    }

    /// Sets journal space aside for a turn of at most `bytes`; `false` refuses the turn before anything changed.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let allowance = self.allowance.get();
        if allowance >= bytes {
            return true;
        }
        let wanted = bytes.max(CLAIM_BYTES);
        let claimed = self.shared.journal.claim(wanted).or_else(|_| self.shared.journal.claim(bytes));
        match claimed {
            Ok(claim) => {
                self.allowance.set(allowance.saturating_add(claim.bytes));
                true
            }
            Err(_) => false,
        }
    }

    /// Gives unused journal space back, so that an idle worker keeps nobody out.
    pub(crate) fn give_room_back(&self) {
        let allowance = self.allowance.replace(0);
        if allowance > 0 {
            self.shared.journal.release(allowance);
        }
    }

    /// Records one event; returns its sequence. The room was claimed before the turn was decided.
    pub(crate) fn append(
        &self,
        entity: &EntityKey,
        recorded: Recorded,
        request: Option<RequestStamp>,
        event: Event,
    ) -> u64 {
        let partition = entity.partition();
        let mut sequences = self.sequences.borrow_mut();
        let Some(sequence) = sequences.get_mut(usize::from(partition)) else { return 0 };
        *sequence = sequence.saturating_add(1);
        let sequence = *sequence;
        let header = RecordHeader {
            partition,
            epoch: 1,
            sequence,
            position: recorded.position.0,
            at_ms: recorded.at.0,
        };
        let mut buffer = self.buffer.borrow_mut();
        let entry = Entry { entity: entity.clone(), request, event };
        let written = append_record(&mut buffer.bytes, &header, &entry);
        let Ok(written) = written else {
            // State has moved on and the record has not: nothing may be promised from here. Recovery speaks next.
            self.shared.die("a decided event could not be encoded");
        };
        buffer.records = buffer.records.saturating_add(1);
        let full = buffer.bytes.len() >= FLUSH_BYTES;
        drop(buffer);
        self.allowance.set(self.allowance.get().saturating_sub(written));
        if full {
            self.hand_over();
        }
        self.schedule_flush();
        sequence
    }

    /// Runs the flush once, after everything that is ready in this tick has run.
    pub(crate) fn schedule_flush(&self) {
        if !self.flush_scheduled.replace(true)
            && let Some(me) = self.me.upgrade()
        {
            actix_rt::spawn(async move {
                tokio::task::yield_now().await;
                me.flush_scheduled.set(false);
                me.flush();
            });
        }
    }

    /// Hands the buffer to the journal, then lets parcels and replies leave for other workers.
    pub(crate) fn flush(&self) {
        self.hand_over();
        for (worker, bundle) in self.outgoing.borrow_mut().iter_mut().enumerate() {
            if !bundle.is_empty() {
                self.shared.tell(worker, Inbound::Parcels(std::mem::take(bundle)));
            }
        }
        for (worker, bundle) in self.replies.borrow_mut().iter_mut().enumerate() {
            if !bundle.is_empty() {
                self.shared.tell(worker, Inbound::Replies(std::mem::take(bundle)));
            }
        }
    }

    fn hand_over(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.records == 0 {
            return;
        }
        let bytes = std::mem::replace(&mut buffer.bytes, self.shared.journal.buffer());
        let records = std::mem::take(&mut buffer.records);
        let number = self.gate.borrow_mut().close_batch();
        if self.shared.journal.submit(Batch { worker: self.index, number, bytes, records }).is_err() {
            // The writer has already said why; what waits in the gate will never be said.
            tracing::error!("the journal takes no more records");
        }
    }

    /// The journal has this batch: what waited for it is said and done.
    pub(crate) fn durable(&self, number: u64) {
        let released = self.gate.borrow_mut().acknowledge(number);
        for mut things in released {
            for thing in things.drain(..) {
                match thing {
                    Pending::Reply(slot, verdict) => self.reply_now(slot, verdict),
                    Pending::Effect(effect) => effect(),
                    Pending::Portion(portion) => self.shared.checkpoint(*portion),
                }
            }
            self.gate.borrow_mut().recycle(things);
        }
        self.flush();
    }

    /// Says a verdict: on this thread, or with this tick's bundle to the worker whose connection waits.
    pub(crate) fn reply_now(&self, slot: Slot, verdict: Verdict) {
        match slot.origin {
            Some(origin) if origin != self.index => {
                if let Some(bundle) = self.replies.borrow_mut().get_mut(origin) {
                    bundle.push((slot, verdict));
                }
                self.schedule_flush();
            }
            Some(_) | None => slot.say(verdict),
        }
    }

    /// Says a verdict once batch `number` is durable.
    pub(crate) fn reply_when_durable(&self, number: u64, slot: Slot, verdict: Verdict) {
        let durable = self.gate.borrow().is_durable(number);
        if durable {
            self.reply_now(slot, verdict);
        } else {
            self.gate.borrow_mut().wait(number, Pending::Reply(slot, verdict));
        }
    }

    /// Does a thing once everything recorded so far is durable.
    pub(crate) fn when_durable(&self, thing: Pending) {
        let number = self.last_batch();
        let durable = self.gate.borrow().is_durable(number);
        if durable {
            match thing {
                Pending::Reply(slot, verdict) => self.reply_now(slot, verdict),
                Pending::Effect(effect) => effect(),
                Pending::Portion(portion) => self.shared.checkpoint(*portion),
            }
        } else {
            self.gate.borrow_mut().wait(number, thing);
        }
    }

    /// The newest batch that holds anything.
    fn last_batch(&self) -> u64 {
        let open = self.gate.borrow().open_batch();
        if self.buffer.borrow().records > 0 { open } else { open.saturating_sub(1) }
    }

    /// The batch that the next event goes into.
    pub(crate) fn open_batch(&self) -> u64 {
        self.gate.borrow().open_batch()
    }

    /// An entity changed for the first time since its last checkpoint.
    pub(crate) fn mark_dirty(&self, entity: &EntityKey) {
        self.dirty.borrow_mut().push(entity.clone());
    }

    /// Remembers an answer or ending for the next checkpoint.
    pub(crate) fn remember(&self, remembered: Remembered) {
        self.remembered.borrow_mut().push(remembered);
    }

    /// Takes the names of what changed and of what is gone since the last round, and the sequences as they stand.
    pub(crate) fn take_changes(&self) -> (Vec<EntityKey>, Vec<(EntityKey, u64)>, [u64; PARTITIONS]) {
        (
            std::mem::take(&mut self.dirty.borrow_mut()),
            std::mem::take(&mut self.gone.borrow_mut()),
            *self.sequences.borrow(),
        )
    }

    /// Writes a state to the checkpoint once it is durable, and before it what its events left behind: a replay skips
    /// what a row reflects, so a row must never be there without its answers.
    pub(crate) fn save(&self, entity: &EntityKey, snapshot: &Snapshot, sequence: u64) {
        self.save_remembered();
        let row = Row::of(entity, snapshot, sequence);
        self.when_durable(Pending::Portion(Box::new(Portion::Row(Box::new(row)))));
        let mut round = self.round.get();
        round.pending = round.pending.saturating_sub(1);
        self.round.set(round);
    }

    /// Writes remembered answers and endings to the checkpoint once they are durable.
    pub(crate) fn save_remembered(&self) {
        let remembered = std::mem::take(&mut *self.remembered.borrow_mut());
        if !remembered.is_empty() {
            self.when_durable(Pending::Portion(Box::new(Portion::Remembered(remembered))));
        }
    }

    /// A recovered state that nothing woke still has to reach the checkpoint once.
    fn save_idle(&self, entity: &EntityKey) {
        let mut seats = self.seats.borrow_mut();
        let Some(Seat::Idle(stored)) = seats.get_mut(entity) else { return };
        stored.dirty = false;
        let (snapshot, sequence) = (stored.snapshot.clone(), stored.sequence);
        drop(seats);
        self.save(entity, &snapshot, sequence);
    }

    /// A coordinator whose work is all done leaves memory and checkpoint.
    pub(crate) fn forget(&self, entity: &EntityKey, sequence: u64) {
        self.gone.borrow_mut().push((entity.clone(), sequence));
        if self.seats.borrow_mut().remove(entity).is_some() {
            metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).decrement(1.0);
        }
    }

    /// An idle actor whose state is in the checkpoint leaves memory.
    pub(crate) fn passivate(&self, entity: &EntityKey) {
        if self.seats.borrow_mut().remove(entity).is_some() {
            metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => entity.kind(), "event" => "passivate")
                .increment(1);
            metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).decrement(1.0);
        }
    }

    /// Carts, orders and coordinators that nobody has used since `before`, at most `limit` of them.
    pub(crate) fn idle_since(&self, before: std::time::Instant, limit: usize) -> Vec<EntityKey> {
        let idle = |seat: &Seat| match seat {
            Seat::Live(_, stats) => stats.last_used() < before && stats.depth() == 0,
            Seat::Idle(..) => true,
            Seat::Absent(..) | Seat::Quarantined => false,
        };
        self.seats
            .borrow()
            .iter()
            .filter(|(entity, seat)| !matches!(entity, EntityKey::Sku(_)) && idle(seat))
            .map(|(entity, _)| entity.clone())
            .take(limit)
            .collect()
    }

    /// An internal step found no journal space: it is tried again at the next sweep.
    pub(crate) fn defer(&self, parcel: Parcel) {
        self.deferred.borrow_mut().push(parcel);
    }

    /// Takes the deferred steps for another try.
    pub(crate) fn take_deferred(&self) -> Vec<Parcel> {
        std::mem::take(&mut self.deferred.borrow_mut())
    }

    /// Figures of all running actors of a kind.
    pub(crate) fn survey(&self, kind: Option<&str>) -> Vec<ActorReport> {
        self.seats
            .borrow()
            .iter()
            .filter(|(entity, _)| kind.is_none_or(|kind| kind == entity.kind()))
            .filter_map(|(entity, seat)| match seat {
                Seat::Live(_, stats) => Some(stats.report(entity)),
                Seat::Idle(..) | Seat::Absent(..) | Seat::Quarantined => None,
            })
            .collect()
    }

    /// Business time.
    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}

/// The one place that posts to a mailbox: admission stands before it, so a mailbox needs no bound of its own.
#[allow(clippy::disallowed_methods)]
fn post(address: &Addr<EntityActor>, parcel: Parcel) {
    address.do_send(Turn(parcel));
}

/// Whether a parcel may bring a new entity into being.
fn begins(body: &Body) -> bool {
    use doorbuster_engine::cart::CartCommand;
    use doorbuster_engine::reservation::ReservationCommand;
    use doorbuster_engine::stock::StockCommand;
    match body {
        Body::Client(client) => matches!(
            client.command,
            Command::Stock(StockCommand::Define { .. })
                | Command::Cart(CartCommand::Create { .. })
                | Command::Reservation(ReservationCommand::Request { .. })
        ),
        Body::Start(..) => true,
        Body::Await(..)
        | Body::Step(_)
        | Body::StepDone(_)
        | Body::Internal(_)
        | Body::TellCart { .. }
        | Body::Query(_)
        | Body::Fence(..)
        | Body::Checkpoint
        | Body::Unpark
        | Body::Retire => false,
    }
}

fn run_query_on_nothing(query: Query) {
    query(None)();
}
