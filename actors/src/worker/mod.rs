//! One worker: a thread that hosts its share of HTTP connections and of actors, their records and their replies.
//!
//! A turn appends its events to the worker's buffer; once per loop tick the buffer goes to the journal and only then
//! do parcels leave for other workers. What a turn promises waits in the gate for the batch's acknowledgement. All of
//! it is one thread: no lock, no atomic on a turn's way but the shared position counter. Start at [`Worker::dispatch`].

mod records;
mod saving;
mod seats;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use actix::Addr;
use doorbuster_engine::answer::LedgerChunk;
use doorbuster_engine::event::{EntityKey, PARTITIONS};
use doorbuster_engine::identity::{OrderId, RequestKey, ReservationId, Sku, Timestamp};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::world::{Ended, Settled, Snapshot};
use indexmap::IndexSet;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::actor::EntityActor;
use crate::checkpointer::Portion;
use crate::gate::Gate;
use crate::index::Claim;
use crate::message::{Body, Parcel, Slot, Step, StepKind};
use crate::runtime::Shared;
use crate::stats::ActorStats;
use crate::types::{ActorReport, ActorSort, Verdict};
use crate::wheel::Wheel;

pub(crate) use saving::REMEMBERED_MAX;

/// What reaches a worker from other threads.
pub(crate) enum Inbound {
    /// This batch and all before it are on stable storage.
    Durable(u64),
    /// For actors here.
    Parcels(Vec<Parcel>),
    /// For connections here.
    Replies(Vec<(Slot, Verdict)>),
    /// A state read from cold storage, or that there is none.
    Loaded(EntityKey, Found),
    /// A state rebuilt after a panic.
    Rebuilt(EntityKey, Result<Rebuilt, Unreadable>),
    /// Write everything changed since the last round to the checkpoint.
    Checkpoint {
        /// The round.
        round: u64,
    },
    /// Collect the figures of the hottest actors of this kind.
    Survey(Survey, tokio::sync::oneshot::Sender<Vec<ActorReport>>),
    /// List orders in memory here.
    Orders(OrdersBelow, tokio::sync::oneshot::Sender<Vec<OrderPlace>>),
}

/// An order's place in lists: when its checkout began, and its id.
pub(crate) type OrderPlace = (Timestamp, OrderId);

/// Which orders are asked for: the newest below a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrdersBelow {
    /// Only those below it; absent: from the newest on.
    pub(crate) place: Option<OrderPlace>,
    /// How many of them.
    pub(crate) limit: usize,
}

/// Which actors are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survey {
    /// Only of this kind.
    pub(crate) kind: Option<&'static str>,
    /// What makes them hot.
    pub(crate) sort: ActorSort,
    /// How many of them.
    pub(crate) limit: usize,
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

/// What was found of an entity on disk, if anything was.
pub(crate) type Found = Result<Option<Stored>, Unreadable>;

/// What a rebuild found of an entity.
pub(crate) struct Rebuilt {
    /// Its state, unless it is over or never was.
    pub(crate) stored: Option<Stored>,
    /// Sequence of its last event.
    pub(crate) sequence: u64,
    /// Answers and endings that the index did not know: the lost turn recorded them and told nobody.
    pub(crate) untold: Vec<Remembered>,
    /// Ledger entries that left its memory since the checkpoint.
    pub(crate) spilled: Vec<LedgerChunk>,
}

/// A state is there and cannot be read, or there is no telling; why has been logged.
#[derive(Debug)]
pub(crate) struct Unreadable;

/// What a timer wakes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Due {
    /// A reservation of a SKU.
    Reservation(Sku, ReservationId),
    /// Any other entity.
    Entity(EntityKey),
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

impl Seat {
    /// The seat of an entity to which nothing has happened yet.
    fn vacant(entity: &EntityKey) -> Self {
        Self::Idle(Stored::clean(Snapshot::absent(entity), 0))
    }
}

/// A state as it was recovered or loaded.
pub(crate) struct Stored {
    /// The state.
    pub(crate) snapshot: Snapshot,
    /// Sequence of its last event in its partition.
    pub(crate) sequence: u64,
    /// Whether the checkpoint does not have it yet.
    pub(crate) dirty: bool,
    /// The checkpoint round it last went into: until that round is done its row may still be on its way.
    pub(crate) saved_in: u64,
}

impl Stored {
    /// A state that the store has, or that needs no row.
    pub(crate) fn clean(snapshot: Snapshot, sequence: u64) -> Self {
        Self { snapshot, sequence, dirty: false, saved_in: 0 }
    }
}

/// What a checkpoint round was given. If it fails, the next one gets it again.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    round: u64,
    changed: Vec<EntityKey>,
    gone: Vec<(EntityKey, u64)>,
}

/// What a checkpoint round has to write.
pub(crate) struct Changes {
    /// Entities whose state changed.
    pub(crate) changed: Vec<EntityKey>,
    /// Entities that are gone, each with its last sequence.
    pub(crate) gone: Vec<(EntityKey, u64)>,
    /// Sequences as they stand.
    pub(crate) sequences: [u64; PARTITIONS],
}

/// A worker's part of a checkpoint round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Rounds are numbered from 1.
    pub(crate) number: u64,
    /// Entities asked for their state that have not handed it over.
    pub(crate) awaited: HashSet<EntityKey, foldhash::fast::RandomState>,
    /// Some state cannot be had: the round must not count.
    pub(crate) failed: bool,
}

/// Panics of one actor: how many within the minute that began then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarts {
    pub(crate) count: u64,
    pub(crate) since: Instant,
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
    /// Entities that may have to leave memory some time: running actors, and carts and the like that nothing woke.
    leaving: RefCell<IndexSet<EntityKey, foldhash::fast::RandomState>>,
    /// Where the next look for idle ones begins.
    hand: Cell<usize>,
    /// Orders whose actors run here, in the order of lists: a page of them must not cost a look at all.
    orders: RefCell<BTreeSet<OrderPlace>>,
    panics: RefCell<HashMap<EntityKey, Restarts, foldhash::fast::RandomState>>,
    /// Keys of turns that panicked, until their actors are rebuilt.
    kept: RefCell<HashMap<EntityKey, Vec<Claim>, foldhash::fast::RandomState>>,
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
    handed: RefCell<Handed>,
    remembered: RefCell<Vec<Remembered>>,
    deferred: RefCell<Vec<Parcel>>,
    /// SKUs with parked requests, and until when these wait; in the order of time.
    parked: RefCell<VecDeque<(Instant, Sku)>>,
    pub(crate) round: RefCell<Round>,
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
            leaving: RefCell::default(),
            hand: Cell::new(0),
            orders: RefCell::default(),
            panics: RefCell::default(),
            kept: RefCell::default(),
            gate: RefCell::new(Gate::new()),
            buffer: RefCell::default(),
            sequences: RefCell::new(seed.sequences.0),
            wheel: RefCell::new(Wheel::new()),
            outgoing: RefCell::new((0..workers).map(|_| Vec::new()).collect()),
            replies: RefCell::new((0..workers).map(|_| Vec::new()).collect()),
            flush_scheduled: Cell::new(false),
            allowance: Cell::new(0),
            dirty: RefCell::new(seed.dirty),
            gone: RefCell::new(seed.gone),
            handed: RefCell::default(),
            remembered: RefCell::default(),
            deferred: RefCell::default(),
            parked: RefCell::default(),
            round: RefCell::default(),
            shared,
        });
        worker.seat(seed.entities);
        for (sku, reservation, home) in seed.strays {
            let from = crate::start::coordinator_of(reservation, home);
            let step = Step { from, reservation, as_of: worker.shared.as_of(), kind: StepKind::Free };
            worker.dispatch(Parcel::new(EntityKey::Sku(sku), Body::Step(step)));
        }
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
            self.arm_reservations(&entity, snapshot);
            if !matches!(entity, EntityKey::Sku(_)) && snapshot.is_resident() {
                unfinished.push(entity.clone());
            }
            if let Some(due) = snapshot.due() {
                self.wheel.borrow_mut().arm(due, Due::Entity(entity.clone()));
            }
            if !matches!(entity, EntityKey::Sku(_)) {
                self.leaving.borrow_mut().insert(entity.clone());
            }
            self.seats.borrow_mut().insert(entity, Seat::Idle(stored));
        }
        for entity in unfinished {
            self.activate(&entity);
        }
    }

    /// Arms the timers of a SKU's reservations; one that is armed already stays as it is.
    fn arm_reservations(&self, entity: &EntityKey, snapshot: &Snapshot) {
        let (EntityKey::Sku(sku), Snapshot::Stock(stock)) = (entity, snapshot) else { return };
        let mut wheel = self.wheel.borrow_mut();
        for (key, _, expires_at) in stock.reservations() {
            wheel.arm(expires_at, Due::Reservation(sku.clone(), key.reservation()));
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
        } else if mutant::active(Mutant::EffectBeforeCause) {
            self.shared.deliver(Some(self.index), owner, Inbound::Parcels(vec![parcel]));
        } else {
            if let Some(bundle) = self.outgoing.borrow_mut().get_mut(owner) {
                bundle.push(parcel);
            }
            self.schedule_flush();
        }
    }

    /// An internal step found no journal space: it is tried again at the next sweep.
    pub(crate) fn defer(&self, parcel: Parcel) {
        if mutant::active(Mutant::ForgetDeferred) {
            return;
        }
        self.deferred.borrow_mut().push(parcel);
    }

    /// Takes the deferred steps for another try.
    pub(crate) fn take_deferred(&self) -> Vec<Parcel> {
        std::mem::take(&mut self.deferred.borrow_mut())
    }

    /// A request is parked at a SKU until then. Later ones are parked longer, so the list is in the order of time.
    pub(crate) fn parked(&self, sku: Sku, until: Instant) {
        self.parked.borrow_mut().push_back((until, sku));
    }

    /// Takes the SKUs whose parked requests have waited long enough.
    pub(crate) fn take_parked(&self, now: Instant) -> Vec<Sku> {
        let mut parked = self.parked.borrow_mut();
        let over = parked.iter().take_while(|(until, _)| *until <= now).count();
        parked.drain(..over).map(|(_, sku)| sku).collect()
    }

    /// Business time.
    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}
