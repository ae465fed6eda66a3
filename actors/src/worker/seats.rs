//! Who sits where: entities asleep, running, on their way from storage, or shut out; and parcels brought to them.
//!
//! Only the owning worker touches its seats, so an entity has one actor at a time and finding it takes no lock.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use crate::actor::{EntityActor, Turn};
use crate::index::kept_by_panic;
use crate::message::{Body, Parcel, Seen, Step, StepDone, StepKind, StepOutcome};
use crate::stats::ActorStats;
use crate::types::ActorReport;
use actix::{Actor, Addr};
use doorbuster_engine::answer::{Missing, Refusal};
use doorbuster_engine::cart::CartCommand;
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{Position, Timestamp};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::order::OrderCommand;
use doorbuster_engine::reservation::ReservationCommand;
use doorbuster_engine::stock::StockCommand;
use doorbuster_engine::world::Snapshot;
use tokio::time::Instant;

use super::{
    Due, Found, OrderPlace, OrdersBelow, Pending, Rebuilt, Restarts, Seat, Stored, Survey, Unreadable, Worker,
};

impl Worker {
    /// Entities in memory here, SKUs apart, which never leave it.
    pub(crate) fn residents(&self) -> Vec<EntityKey> {
        let seats = self.seats.borrow();
        seats.keys().filter(|entity| !matches!(entity, EntityKey::Sku(_))).cloned().collect()
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
            Some(Seat::Live(address, figures)) => {
                figures.sent();
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
                    let seen = Seen { snapshot: &stored.snapshot, position: Position(0), stats: None };
                    // There is no turn around it to end a panic, and this may be the worker's own loop.
                    let result = catch_unwind(AssertUnwindSafe(|| query(Some(seen))));
                    drop(seats);
                    match result {
                        // It may have gone to sleep while the disk was slow.
                        Ok(result) => self.when_durable(Pending::Effect(result)),
                        Err(_) => self.panicked(&parcel.to, None),
                    }
                    return;
                }
                let large = matches!(&stored.snapshot, Snapshot::Stock(stock) if stock.is_large());
                if matches!(parcel.body, Body::Checkpoint) && !large {
                    drop(seats);
                    self.save_idle(&parcel.to);
                    return;
                }
                drop(seats);
                self.activate(&parcel.to);
                self.dispatch(parcel);
            }
            None if begins(&parcel.body) && !may_be_stored(&parcel.body) => {
                seats.insert(parcel.to.clone(), Seat::vacant(&parcel.to));
                drop(seats);
                self.dispatch(parcel);
            }
            None if matches!(parcel.to, EntityKey::Sku(_) | EntityKey::Reservation(_))
                || matches!(parcel.body, Body::Checkpoint | Body::Retire) =>
            {
                // All SKUs and all unfinished coordinators are in memory: one that is not here does not exist. The store
                // may still show a forgotten coordinator as it once was; taken back from there, a late timer or a
                // retry would end it a second time (law 2).
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
    pub(super) fn activate(&self, entity: &EntityKey) {
        let Some(me) = self.me.upgrade() else { return };
        let mut seats = self.seats.borrow_mut();
        let Some(seat) = seats.get_mut(entity) else { return };
        let restarts = self.panics.borrow().get(entity).map_or(0, |restarts| restarts.count);
        let figures = Rc::new(ActorStats::new(restarts));
        let placeholder = Seat::Absent(Vec::new());
        match std::mem::replace(seat, placeholder) {
            Seat::Idle(stored) => {
                metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).increment(1.0);
                let actor = EntityActor::new(me, entity.clone(), stored, Rc::clone(&figures));
                *seat = Seat::Live(actor.start(), figures);
                self.leaving.borrow_mut().insert(entity.clone());
            }
            other @ (Seat::Live(..) | Seat::Absent(..) | Seat::Quarantined) => *seat = other,
        }
    }

    /// A state came from cold storage (or there is none): whatever waited for it goes on.
    pub(crate) fn loaded(&self, entity: EntityKey, found: Found) {
        let found = match found {
            Ok(found) => found,
            Err(Unreadable) => {
                let seat = self.seats.borrow_mut().remove(&entity);
                return self.refuse_waiting(seat);
            }
        };
        let mut seats = self.seats.borrow_mut();
        let waiting = match seats.remove(&entity) {
            Some(Seat::Absent(waiting)) => waiting,
            Some(other @ (Seat::Idle(..) | Seat::Live(..) | Seat::Quarantined)) => {
                seats.insert(entity, other);
                return;
            }
            None => Vec::new(),
        };
        if let Some(stored) = found {
            if let Some(listener) = &self.shared.listener {
                listener.loaded(&entity);
            }
            self.leaving.borrow_mut().insert(entity.clone());
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
            let seated = self.seats.borrow().contains_key(&entity);
            if !seated && begins(&parcel.body) {
                self.seats.borrow_mut().insert(entity.clone(), Seat::vacant(&entity));
            } else if !seated {
                self.not_here(parcel);
                continue;
            }
            self.dispatch(parcel);
        }
    }

    /// Tells everybody who waited at a seat that its state cannot be had now.
    fn refuse_waiting(&self, seat: Option<Seat>) {
        match seat {
            Some(Seat::Absent(waiting)) => {
                for parcel in waiting {
                    self.refuse(parcel, &Refusal::Recovering { retry_after_ms: 10_000 });
                }
            }
            Some(Seat::Idle(_) | Seat::Live(..) | Seat::Quarantined) | None => {}
        }
    }

    /// An actor panicked in its turn: its state is dropped and built anew from the disk, three times a minute at most.
    /// `again` is what it was doing, if that may be tried once more: a saga's step, which nobody else would repeat.
    pub(crate) fn panicked(&self, entity: &EntityKey, again: Option<Body>) {
        self.kept.borrow_mut().entry(entity.clone()).or_default().extend(kept_by_panic());
        let now = Instant::now();
        let mut panics = self.panics.borrow_mut();
        let restarts = panics.entry(entity.clone()).or_insert(Restarts { count: 0, since: now });
        if now.saturating_duration_since(restarts.since).as_secs() >= 60 {
            *restarts = Restarts { count: 0, since: now };
        }
        restarts.count = restarts.count.saturating_add(1);
        let restarts = *restarts;
        drop(panics);
        if let EntityKey::Sku(sku) = entity
            && let Some(card) = self.shared.catalogue.card(sku.as_str())
        {
            card.doubt();
        }
        metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => entity.kind(), "event" => "panic")
            .increment(1);
        if restarts.count > 3 {
            tracing::error!(%entity, "panicked more than three times in a minute; refused until the engine restarts");
            self.seats.borrow_mut().insert(entity.clone(), Seat::Quarantined);
            if self.round.borrow_mut().awaited.remove(entity) {
                self.round.borrow_mut().failed = true;
            }
            // It is not seated again. But what its last turn recorded is told, lest it be denied (law 4).
            self.rebuild_when_durable(entity);
            return;
        }
        tracing::error!(%entity, restarts = restarts.count, "an actor panicked; it is rebuilt from the disk");
        // A checkpoint round may have asked the lost actor; it asks the rebuilt one.
        let asked = self.round.borrow().awaited.contains(entity);
        let waiting = again.into_iter().chain(asked.then_some(Body::Checkpoint));
        let waiting = waiting.map(|body| Parcel::new(entity.clone(), body)).collect();
        self.seats.borrow_mut().insert(entity.clone(), Seat::Absent(waiting));
        self.rebuild_when_durable(entity);
    }

    /// Its last records may still be on their way to the disk, so the rebuild waits in the gate behind them.
    fn rebuild_when_durable(&self, entity: &EntityKey) {
        let (shared, index, rebuilt) = (Arc::clone(&self.shared), self.index, entity.clone());
        self.when_durable(Pending::Effect(Box::new(move || shared.rebuild(index, rebuilt))));
    }

    /// A rebuilt state takes its seat, unless that is closed for good.
    pub(crate) fn rebuilt(&self, entity: &EntityKey, found: Result<Rebuilt, Unreadable>) {
        metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => entity.kind(), "event" => "rebuild")
            .increment(1);
        let Ok(found) = found else {
            // Whatever it was must not begin anew under the same name.
            let seat = self.seats.borrow_mut().insert(entity.clone(), Seat::Quarantined);
            return self.refuse_waiting(seat);
        };
        let Rebuilt { stored, sequence, untold, spilled } = found;
        // What the lost turn recorded and did not get to tell.
        for remembered in untold {
            self.remember(remembered);
        }
        for chunk in spilled {
            self.save_ledger(chunk);
        }
        // By now the index knows what came of them.
        self.kept.borrow_mut().remove(entity);
        if matches!(self.seats.borrow().get(entity), Some(Seat::Quarantined)) {
            return;
        }
        let resident = stored.as_ref().is_some_and(|stored| stored.snapshot.is_resident());
        match &stored {
            Some(stored) => self.arm_reservations(entity, &stored.snapshot),
            None if sequence == 0 => {}
            None => self.gone.borrow_mut().push((entity.clone(), sequence)),
        }
        self.loaded(entity.clone(), Ok(stored));
        if resident {
            self.activate(entity);
        }
    }

    /// Answers a parcel whose entity does not exist.
    pub(super) fn not_here(&self, parcel: Parcel) {
        let missing = match &parcel.to {
            EntityKey::Sku(sku) => Missing::Skus(vec![sku.clone()]),
            EntityKey::Reservation(_) => Missing::Reservation,
            EntityKey::Cart(_) => Missing::Cart,
            EntityKey::Order(_) => Missing::Order,
        };
        self.refuse(parcel, &Refusal::NotFound(missing));
    }

    /// Tells whoever sent a parcel that it will not be handled.
    pub(super) fn refuse(&self, parcel: Parcel, refusal: &Refusal) {
        match parcel.body {
            Body::Client(client) => self.reply_now(client.slot, Err(refusal.clone())),
            Body::Await(_, slot) => self.reply_now(slot, Err(refusal.clone())),
            Body::Start(start) => {
                for (_, slot) in start.waiters {
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
                let done = StepDone { sku, kind: step.kind, as_of: step.as_of, outcome };
                self.send(Parcel::new(step.from, Body::StepDone(done)));
            }
            Body::TellCart { order, .. } => {
                if !matches!(refusal, Refusal::NotFound(_)) {
                    // The cart is there and cannot hear: the order waits, and the next start tells it again.
                    return;
                }
                let told = Body::Internal(Command::Order(OrderCommand::CartTold));
                self.send(Parcel::new(EntityKey::Order(order), told));
            }
            // Only what is not there reads as absent. What cannot be had now stays unanswered, which says `recovering`.
            Body::Query(query) if matches!(refusal, Refusal::NotFound(_)) => query(None)(),
            Body::Query(query) => drop(query),
            Body::Fence(slot, verdict) => self.reply_now(slot, verdict),
            Body::StepDone(done) => self.free_what_nobody_asked_for(&parcel.to, &done, refusal),
            Body::Checkpoint => {
                // Its state cannot be had, or it left while the round ran: only the former spoils the round.
                let quarantined = matches!(self.seats.borrow().get(&parcel.to), Some(Seat::Quarantined));
                let mut round = self.round.borrow_mut();
                round.awaited.remove(&parcel.to);
                round.failed |= quarantined;
            }
            Body::Internal(_) | Body::Unpark | Body::Retire => {}
        }
    }

    /// A late copy of a hold was granted after its coordinator had left: nobody else would end it (law 6).
    fn free_what_nobody_asked_for(&self, coordinator: &EntityKey, done: &StepDone, refusal: &Refusal) {
        if let (EntityKey::Reservation(reservation), StepOutcome::Held(_), Refusal::NotFound(_)) =
            (coordinator, done.outcome, refusal)
        {
            let (from, as_of) = (coordinator.clone(), self.shared.as_of());
            let step = Step { from, reservation: *reservation, as_of, kind: StepKind::Free };
            self.send(Parcel::new(EntityKey::Sku(done.sku.clone()), Body::Step(step)));
        }
    }

    /// A coordinator whose work is all done leaves memory and checkpoint.
    pub(crate) fn forget(&self, entity: &EntityKey, sequence: u64, armed: Option<Timestamp>) {
        self.gone.borrow_mut().push((entity.clone(), sequence));
        self.disarm(entity, armed);
        self.leaving.borrow_mut().swap_remove(entity);
        if self.seats.borrow_mut().remove(entity).is_some() {
            metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).decrement(1.0);
        }
    }

    /// An idle SKU's actor ends; its state stays here, a fifth of the size, until the next message wakes it.
    pub(crate) fn lay_down(&self, entity: &EntityKey, stored: Stored) {
        self.leaving.borrow_mut().swap_remove(entity);
        self.seats.borrow_mut().insert(entity.clone(), Seat::Idle(stored));
        metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => entity.kind(), "event" => "passivate")
            .increment(1);
        metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).decrement(1.0);
    }

    /// An idle actor whose state is in the checkpoint leaves memory.
    pub(crate) fn passivate(&self, entity: &EntityKey, armed: Option<Timestamp>) {
        self.disarm(entity, armed);
        if mutant::active(Mutant::ForgetIdempotencyAtPassivation) {
            self.shared.index.forget_answers_of(entity);
        }
        self.leaving.borrow_mut().swap_remove(entity);
        if self.seats.borrow_mut().remove(entity).is_some() {
            metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => entity.kind(), "event" => "passivate")
                .increment(1);
            metrics::gauge!("doorbuster_actor_active", "kind" => entity.kind()).decrement(1.0);
        }
    }

    /// The store wakes what is not in memory.
    fn disarm(&self, entity: &EntityKey, armed: Option<Timestamp>) {
        if let Some(due) = armed {
            self.wheel.borrow_mut().disarm(due, &Due::Entity(entity.clone()));
        }
    }

    /// Looks at `limit` entities, going on where the last look ended; returns those nobody has used since `sleep` (SKUs)
    /// or `passivate` (all others).
    pub(crate) fn idle_since(&self, sleep: Instant, passivate: Instant, limit: usize) -> Vec<EntityKey> {
        let (leaving, seats) = (self.leaving.borrow(), self.seats.borrow());
        if leaving.is_empty() {
            return Vec::new();
        }
        let idle = |entity: &&EntityKey| match seats.get(*entity) {
            Some(Seat::Live(_, figures)) => {
                let before = if matches!(entity, EntityKey::Sku(_)) { sleep } else { passivate };
                figures.last_used() < before && figures.depth() == 0
            }
            Some(Seat::Idle(_)) => true,
            Some(Seat::Absent(_) | Seat::Quarantined) | None => false,
        };
        let start = self.hand.get().checked_rem(leaving.len()).unwrap_or(0);
        let looked_at = limit.min(leaving.len());
        self.hand.set(start.saturating_add(looked_at));
        (0..looked_at)
            .filter_map(|step| leaving.get_index((start + step) % leaving.len()))
            .filter(idle)
            .cloned()
            .collect()
    }

    /// An order's actor runs here.
    pub(crate) fn list_order(&self, place: OrderPlace) {
        self.orders.borrow_mut().insert(place);
    }

    /// It does no more.
    pub(crate) fn unlist_order(&self, place: OrderPlace) {
        self.orders.borrow_mut().remove(&place);
    }

    /// The newest orders whose actors run here, below a place, newest first.
    pub(crate) fn orders_below(&self, OrdersBelow { place, limit }: OrdersBelow) -> Vec<OrderPlace> {
        let orders = self.orders.borrow();
        let below = (Bound::Unbounded, place.map_or(Bound::Unbounded, Bound::Excluded));
        orders.range(below).rev().take(limit).copied().collect()
    }

    /// Figures of the hottest running actors of a kind, in no order. Only those are described that will be shown: with a
    /// hundred thousand carts the worker must be back at its orders soon.
    pub(crate) fn survey(&self, Survey { kind, sort, limit }: Survey) -> Vec<ActorReport> {
        let seats = self.seats.borrow();
        let leaving = self.leaving.borrow();
        let of_kind = leaving.iter().filter(|entity| kind.is_none_or(|kind| kind == entity.kind()));
        let mut running: Vec<(u64, &EntityKey, &ActorStats)> = of_kind
            .filter_map(|entity| match seats.get(entity) {
                Some(Seat::Live(_, figures)) => Some((figures.heat(sort), entity, &**figures)),
                Some(Seat::Idle(_) | Seat::Absent(_) | Seat::Quarantined) | None => None,
            })
            .collect();
        if running.len() > limit {
            running.select_nth_unstable_by(limit, |a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            running.truncate(limit);
        }
        running.into_iter().map(|(_, entity, figures)| figures.report(entity)).collect()
    }
}

/// The one place that posts to a mailbox: admission stands before it, so a mailbox needs no bound of its own.
#[allow(clippy::disallowed_methods)]
fn post(address: &Addr<EntityActor>, parcel: Parcel) {
    address.do_send(Turn(parcel));
}

/// Whether an entity that a parcel may bring into being may exist already, in the store: a cart is named by its maker's
/// key, and outlives the memory of that key; an order that was told to begin before may have ended since.
fn may_be_stored(body: &Body) -> bool {
    match body {
        Body::Client(client) => client.ticket.keyed && matches!(client.command, Command::Cart(_)),
        Body::Start(start) => start.again,
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

/// Whether a parcel may bring a new entity into being.
fn begins(body: &Body) -> bool {
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
