//! What the engine needs of the world around it besides a disk: the wall clock, chance, threads, and a way from one
//! worker to another.
//!
//! Production runs on the machine itself. A proof puts a world of its own here and then decides what time it is, when a
//! provider's call runs, and when a bundle arrives. While serving nothing here is asked in an actor's turn: the way costs
//! one call a bundle, or a call to a provider. Start at [`Host`].

use std::future::Future;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::order::OrderCommand;
use tokio::sync::mpsc;

use crate::message::{Body, Parcel, Start};
use crate::worker::Inbound;

/// Work that waits for the outside: a call to a payment provider.
pub type Outside = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Work that waits for the disk: a cold state, a page of the ledger, a rebuild.
pub type Blocking = Box<dyn FnOnce() + Send>;

/// See the module's header.
pub trait Host: Send + Sync {
    /// The wall clock, in milliseconds since the Unix epoch. It may jump.
    fn wall_ms(&self) -> u64;

    /// 128 random bits for ids that nobody may guess.
    fn random_bits(&self) -> u128;

    /// Runs a call to the outside beside the workers.
    fn spawn(&self, work: Outside);

    /// Runs work that waits for the disk beside the workers.
    fn spawn_blocking(&self, work: Blocking);

    /// An actor's turn has recorded its events and told nobody yet: the worst moment to panic in.
    fn recorded(&self, entity: &EntityKey) {
        let _ = entity;
    }

    /// A turn was refused for want of journal room.
    fn no_room(&self, seen: NoRoom) {
        let _ = seen;
    }

    /// A state came back from cold storage, because somebody asked for it or its time has come.
    fn loaded(&self, entity: &EntityKey) {
        let _ = entity;
    }

    /// Brings a bundle to its worker. Bundles between the same two must arrive in the order they were sent.
    fn deliver(&self, delivery: Delivery<'_>) {
        delivery.arrive();
    }
}

/// What was seen by a turn that found no journal room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The most it would have appended.
    pub wanted_bytes: usize,
    /// What its worker had in hand.
    pub in_hand_bytes: usize,
    /// What could be claimed from the journal.
    pub claimable_bytes: usize,
    /// Whether it ends something, so that the last of the room is there for it.
    pub ends_something: bool,
}

/// A bundle of parcels or replies on its way to a worker.
pub struct Delivery<'a> {
    from: Option<usize>,
    to: usize,
    inbox: &'a mpsc::UnboundedSender<Inbound>,
    bundle: Inbound,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(
        from: Option<usize>,
        to: usize,
        inbox: &'a mpsc::UnboundedSender<Inbound>,
        bundle: Inbound,
    ) -> Self {
        Self { from, to, inbox, bundle }
    }

    /// Which worker sent it; `None` for a caller or a provider's answer.
    pub fn from(&self) -> Option<usize> {
        self.from
    }

    /// Which worker it goes to.
    pub fn to(&self) -> usize {
        self.to
    }

    /// Brings it there. A worker that has ended takes the process with it, so nobody is left to mind.
    pub fn arrive(self) {
        let _ = self.inbox.send(self.bundle);
    }

    /// Keeps it for later.
    pub fn hold(self) -> Held {
        Held { from: self.from, to: self.to, inbox: self.inbox.clone(), bundle: self.bundle }
    }

    /// A second copy of what in it is safe to say twice: steps of sagas, their results, timers, providers' answers. `None`
    /// if nothing is.
    pub fn copy(&self) -> Option<Held> {
        let Inbound::Parcels(parcels) = &self.bundle else { return None };
        let copies: Vec<Parcel> = parcels.iter().filter_map(copy_of).collect();
        if copies.is_empty() {
            return None;
        }
        let bundle = Inbound::Parcels(copies);
        Some(Held { from: self.from, to: self.to, inbox: self.inbox.clone(), bundle })
    }
}

impl std::fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

/// A bundle that is kept for later. Dropped, it is lost, as with the process.
pub struct Held {
    from: Option<usize>,
    to: usize,
    inbox: mpsc::UnboundedSender<Inbound>,
    bundle: Inbound,
}

impl Held {
    /// Brings it to its worker.
    pub fn arrive(self) {
        let _ = self.inbox.send(self.bundle);
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

fn copy_of(parcel: &Parcel) -> Option<Parcel> {
    let body = match &parcel.body {
        Body::Step(step) => Body::Step(step.clone()),
        Body::StepDone(done) => Body::StepDone(done.clone()),
        Body::Internal(Command::Order(
            command @ (OrderCommand::ChargeAnswered(_)
            | OrderCommand::ProviderReady
            | OrderCommand::CaptureAnswered(_)
            | OrderCommand::VoidAnswered(_)
            | OrderCommand::StrayAnswered { .. }
            | OrderCommand::RefundAnswered { .. }
            | OrderCommand::CartTold),
        )) => Body::Internal(Command::Order(command.clone())),
        Body::TellCart { order, placed } => Body::TellCart { order: *order, placed: *placed },
        Body::Start(start) if start.waiters.is_empty() => {
            let (draft, request) = (start.draft.clone(), start.request);
            Body::Start(Start { draft, request, waiters: Vec::new(), again: true })
        }
        Body::Client(_)
        | Body::Await(..)
        | Body::Start(..)
        | Body::Internal(_)
        | Body::Query(_)
        | Body::Fence(..)
        | Body::Checkpoint
        | Body::Unpark
        | Body::Retire => return None,
    };
    Some(Parcel { to: parcel.to.clone(), sent: parcel.sent, body })
}

/// The machine itself: the system's clock and chance, and a runtime of its own for whatever waits for the outside.
pub(crate) struct Machine {
    io: tokio::runtime::Handle,
}

impl Machine {
    /// A machine that runs outside work there.
    pub(crate) fn new(io: tokio::runtime::Handle) -> Self {
        Self { io }
    }
}

impl Host for Machine {
    fn wall_ms(&self) -> u64 {
        wall_ms()
    }

    fn random_bits(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    fn spawn(&self, work: Outside) {
        self.io.spawn(work);
    }

    fn spawn_blocking(&self, work: Blocking) {
        self.io.spawn_blocking(work);
    }
}

/// The system's clock.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
