//! What travels between workers and actors: parcels to an entity, verdicts back to a caller.
//!
//! Values go forward, never references back. A parcel for another worker waits until the sender's records have been
//! handed to the journal, so that no effect is ever durable before its cause.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use doorbuster_engine::answer::Refusal;
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{OrderId, Position, RequestStamp, ReservationId, Sku};
use doorbuster_engine::order::OrderDraft;
use doorbuster_engine::stock::Home;
use doorbuster_engine::world::Snapshot;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::catalogue::Card;
use crate::index::Claim;
use crate::runtime::Shared;
use crate::stats::ActorStats;
use crate::together::Share;
use crate::types::{Ticket, Verdict};

/// A message on its way to an entity.
pub(crate) struct Parcel {
    /// Whose actor.
    pub(crate) to: EntityKey,
    /// When it was sent, for the wait it measures.
    pub(crate) sent: Instant,
    /// What it says.
    pub(crate) body: Body,
}

impl Parcel {
    /// A parcel sent now.
    pub(crate) fn new(to: EntityKey, body: Body) -> Self {
        Self { to, sent: Instant::now(), body }
    }
}

/// What a parcel says.
pub(crate) enum Body {
    /// A caller's command.
    Client(Client),
    /// A caller's request that is already running here joins it.
    Await(RequestStamp, Slot),
    /// A cart starts its order.
    Start(Start),
    /// A step a saga asks of a SKU.
    Step(Step),
    /// What became of it.
    StepDone(StepDone),
    /// A step's or a provider's result, or a timer, as a command.
    Internal(Command),
    /// An order tells its cart how it ended, and waits to hear that the cart knows.
    TellCart {
        /// Which order.
        order: OrderId,
        /// Whether it was placed.
        placed: bool,
    },
    /// Reads the state; the result leaves through the gate.
    Query(Query),
    /// Says this verdict once everything its worker recorded so far is durable; asks no actor.
    Fence(Slot, Verdict),
    /// Writes the state to the checkpoint.
    Checkpoint,
    /// Parked requests are tried once more, for good.
    Unpark,
    /// Leaves memory if nothing is open and the checkpoint has its state.
    Retire,
}

/// A cart's word to its order that it begins.
pub(crate) struct Start {
    /// The order as the cart drew it up.
    pub(crate) draft: Box<OrderDraft>,
    /// The checkout's request.
    pub(crate) request: Option<RequestStamp>,
    /// Whoever waits for the checkout comes along.
    pub(crate) waiters: Vec<(RequestStamp, Slot)>,
    /// Whether the order may have been told before. Then it may be over by now and have left memory: only the store can say
    /// that nothing came of it yet (law 7).
    pub(crate) again: bool,
}

/// A caller's command.
pub(crate) struct Client {
    /// What to do.
    pub(crate) command: Command,
    /// For which request.
    pub(crate) ticket: Ticket,
    /// Where the verdict goes.
    pub(crate) slot: Slot,
    /// The key, held until the actor takes the request up.
    pub(crate) claim: Option<Claim>,
}

/// What a query may see.
pub(crate) struct Seen<'a> {
    /// The state.
    pub(crate) snapshot: &'a Snapshot,
    /// Position of its last event in this process's life.
    pub(crate) position: Position,
    /// Its figures, once it is an actor.
    pub(crate) stats: Option<&'a ActorStats>,
}

/// A read of a state; `None` where there is no such entity. What it returns runs once the state is durable.
pub(crate) type Query = Box<dyn FnOnce(Option<Seen<'_>>) -> Box<dyn FnOnce() + Send> + Send>;

/// A step of a saga at a SKU.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Who coordinates.
    pub(crate) from: EntityKey,
    /// Under which reservation.
    pub(crate) reservation: ReservationId,
    /// Where the journal stood when its coordinator began this work. The same key may be tried again: what a SKU holds from
    /// there on is not what this step is about.
    pub(crate) as_of: Position,
    /// What to do.
    pub(crate) kind: StepKind,
}

impl Step {
    /// Whether it says of a held part that it stays, is sold or goes back.
    pub(crate) fn ends_a_part(&self) -> bool {
        match self.kind {
            StepKind::Settle | StepKind::Sell | StepKind::Free => true,
            StepKind::Hold { .. } | StepKind::Restock { .. } => false,
        }
    }
}

/// Kinds of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// Hold units; they stay tentative until `Settle` or `Free`.
    Hold {
        /// How many.
        quantity: i64,
        /// Whether fewer will do.
        partial: bool,
        /// What coordinates.
        home: Home,
    },
    /// The saga keeps what it holds: nobody need wait for it any longer.
    Settle,
    /// Sell the part.
    Sell,
    /// Give the part back.
    Free,
    /// Take units back on the shelf.
    Restock {
        /// By which refund.
        step: u128,
        /// How many.
        quantity: i64,
        /// Whose.
        order: OrderId,
    },
}

/// What became of a step.
#[derive(Clone, Debug)]
pub(crate) struct StepDone {
    /// At which SKU.
    pub(crate) sku: Sku,
    /// Which step.
    pub(crate) kind: StepKind,
    /// The step's own: it names the work that this answers.
    pub(crate) as_of: Position,
    /// How it went.
    pub(crate) outcome: StepOutcome,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepOutcome {
    /// So many units are held.
    Held(i64),
    /// Only so many could have been.
    Refused(i64),
    /// Done, now or before.
    Done,
}

/// Where a verdict goes, and the place in the engine its request takes until then.
pub(crate) struct Slot {
    hearer: Hearer,
    /// The worker whose connection waits, so that replies travel in bundles.
    pub(crate) origin: Option<usize>,
    place: Place,
}

/// Who waits for a verdict.
enum Hearer {
    /// A caller with one request.
    Alone(oneshot::Sender<Verdict>),
    /// A caller with many, who hears of all at once.
    Together(Share),
}

impl Slot {
    /// A slot and the end that hears from it.
    pub(crate) fn new(origin: Option<usize>, place: Place) -> (Self, oneshot::Receiver<Verdict>) {
        let (sender, receiver) = oneshot::channel();
        (Self { hearer: Hearer::Alone(sender), origin, place }, receiver)
    }

    /// The slot of one request of many.
    pub(crate) fn of_many(origin: Option<usize>, place: Place, share: Share) -> Self {
        Self { hearer: Hearer::Together(share), origin, place }
    }

    /// Says the verdict. Nobody may be listening any more; the work is done all the same.
    pub(crate) fn say(self, verdict: Verdict) {
        self.place.shared.answered.fetch_add(1, Ordering::Relaxed);
        match self.hearer {
            Hearer::Alone(sender) => {
                let _ = sender.send(verdict);
            }
            Hearer::Together(share) => share.say(verdict),
        }
    }
}

/// A place among the requests in flight; given back when dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    card: Option<Arc<Card>>,
}

impl Place {
    /// Takes a place, or says why there is none.
    pub(crate) fn take(shared: &Arc<Shared>, card: Option<Arc<Card>>) -> Result<Self, Refusal> {
        let in_flight = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let crowded_sku = card.as_ref().is_some_and(|card| {
            card.waiting.fetch_add(1, Ordering::Relaxed) >= shared.limits.waiting_per_sku_max
        });
        let place = Self { shared: Arc::clone(shared), card };
        if in_flight >= shared.limits.in_flight_max || crowded_sku {
            metrics::counter!("doorbuster_shed_total", "reason" => if crowded_sku { "sku" } else { "node" })
                .increment(1);
            return Err(Refusal::Overloaded { retry_after_ms: shared.drain_time_ms(0) });
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(card) = &self.card {
            card.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
