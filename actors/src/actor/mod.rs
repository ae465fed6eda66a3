//! The actor around a machine: one entity, one message at a time.
//!
//! A turn is: claim journal room, decide, fold, append, answer through the gate, then do what the new state obliges to.
//! No lock, no await, no rule of stock or money: those are the machine's. Start at [`EntityActor::apply`].

mod client;
mod stock;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};
use doorbuster_engine::answer::{Answer, Folded, Refusal};
use doorbuster_engine::cart::CartCommand;
use doorbuster_engine::command::Command;
use doorbuster_engine::envelope::{Decision, Envelope};
use doorbuster_engine::event::{EntityKey, Event};
use doorbuster_engine::identity::{Fingerprint, OrderId, Position, Recorded, RequestStamp, Timestamp};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::order::{OrderCommand, OrderEvent};
use doorbuster_engine::reservation::ReservationCommand;
use doorbuster_engine::stock::StockEvent;
use doorbuster_engine::world::{Ended, Settled, Snapshot, is_creation_of_reservation};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::catalogue::Card;
use crate::housekeeping::due_command;
use crate::index::Home;
use crate::message::{Body, Parcel, Seen, Slot, Start};
use crate::saga::Saga;
use crate::start::checkout_of;
use crate::stats::ActorStats;
use crate::tentative::Tentative;
use crate::types::Reply;
use crate::worker::{Due, OrderPlace, Pending, Remembered, Stored, Worker};

use stock::{Patience, timer_of};

/// Journal room for a turn whose events do not grow with the state.
const TURN_BYTES: usize = 4 * 1024;

/// Journal room for one cart or order line more: SKU, name, numbers, and as much again for what comes with them.
const LINE_BYTES: usize = 640;

/// A parcel in an actor's mailbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Turn(pub(crate) Parcel);

/// See the module's header.
pub(crate) struct EntityActor {
    pub(crate) worker: Rc<Worker>,
    pub(crate) entity: EntityKey,
    pub(crate) snapshot: Snapshot,
    /// Sequence of its last event in its partition.
    sequence: u64,
    position: Position,
    /// Batch that holds its last event.
    last_batch: u64,
    /// Whether it changed since its state last went to the checkpoint.
    dirty: bool,
    /// The checkpoint round its state last went into.
    saved_in: u64,
    /// The checkpoint round for which a copy of its large state is being taken, else 0.
    copying_for: u64,
    /// It no longer speaks for its entity: a turn of it panicked, or it has left memory.
    over: bool,
    stats: Rc<ActorStats>,
    /// Requests that wait for their verdict.
    waiters: Vec<(RequestStamp, Slot)>,
    pub(crate) saga: Saga,
    /// A SKU's public card, and the units sagas may still give back.
    card: Option<Arc<Card>>,
    tentative: Tentative,
    parked: VecDeque<(Patience, Parcel)>,
    /// When its earliest entry in the wheel rings.
    armed: Option<Timestamp>,
    /// Where an order stands in its worker's list.
    listed: Option<OrderPlace>,
}

/// What became of a command.
pub(crate) enum Applied {
    /// Events happened.
    Changed,
    /// Nothing changed; this is the answer.
    Answered(Answer),
    /// Nothing changed, because of this.
    Refused(Refusal),
    /// Nothing changed and nothing is to be said.
    Nothing,
    /// The request is already running.
    Joined,
}

/// What a SKU's card must be told after a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    /// Units may have moved.
    Figures,
    /// Name, price or policy changed.
    Definition,
}

impl Applied {
    fn name(&self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Answered(_) => "answered",
            Self::Refused(_) => "refused",
            Self::Nothing => "nothing",
            Self::Joined => "joined",
        }
    }
}

impl Actor for EntityActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // A recovered saga goes on where its state says it stands; a recovered SKU shows its card.
        if catch_unwind(AssertUnwindSafe(|| self.after_turn(News::Figures))).is_err() {
            self.fail(None);
        }
    }
}

impl Handler<Turn> for EntityActor {
    type Result = ();

    fn handle(&mut self, Turn(parcel): Turn, _: &mut Self::Context) {
        if self.over {
            // Its seat is another's by now: what still was in the mailbox is for whoever sits there.
            self.worker.dispatch(parcel);
            return;
        }
        let (sent, began) = (parcel.sent, Instant::now());
        let again = if let Body::Step(step) = &parcel.body { Some(Body::Step(step.clone())) } else { None };
        let stats = Rc::clone(&self.stats);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.receive(parcel, began)));
        stats.handled(sent, began, Instant::now());
        if outcome.is_err() && !self.over && !mutant::active(Mutant::ReuseStateAfterPanic) {
            self.fail(again);
        }
    }
}

impl EntityActor {
    /// An actor for a state.
    pub(crate) fn new(worker: Rc<Worker>, entity: EntityKey, stored: Stored, stats: Rc<ActorStats>) -> Self {
        let card = match &entity {
            EntityKey::Sku(sku) => worker.shared.catalogue.card(sku.as_str()),
            EntityKey::Reservation(_) | EntityKey::Cart(_) | EntityKey::Order(_) => None,
        };
        // Whoever seats a state arms its timer.
        let armed = stored.snapshot.due();
        Self {
            worker,
            entity,
            snapshot: stored.snapshot,
            sequence: stored.sequence,
            position: Position(0),
            last_batch: 0,
            dirty: stored.dirty,
            saved_in: stored.saved_in,
            copying_for: 0,
            over: false,
            stats,
            waiters: Vec::new(),
            saga: Saga::default(),
            card,
            tentative: Tentative::default(),
            parked: VecDeque::new(),
            armed,
            listed: None,
        }
    }

    /// A turn panicked: the state may be half changed and is never used again. The actor ends when its mailbox is empty.
    fn fail(&mut self, again: Option<Body>) {
        self.over = true;
        self.waiters.clear();
        self.unlist();
        metrics::gauge!("doorbuster_actor_active", "kind" => self.entity.kind()).decrement(1.0);
        self.worker.panicked(&self.entity, again);
        for (_, parcel) in std::mem::take(&mut self.parked) {
            self.worker.dispatch(parcel);
        }
    }

    fn receive(&mut self, parcel: Parcel, now: Instant) {
        match parcel.body {
            Body::Client(client) => self.client(client, parcel.sent, now, Patience::fresh(now)),
            Body::Await(request, slot) => self.join(request, slot),
            Body::Start(start) => self.start(start),
            Body::Step(step) => self.step(step, parcel.sent, now, Patience::fresh(now)),
            Body::StepDone(done) => self.step_done(&done),
            Body::Internal(command) if due_command(&self.entity).as_ref() == Some(&command) => {
                self.ring(command);
            }
            Body::Internal(command) => self.internal(command),
            Body::TellCart { order, placed } => self.tell_cart(order, placed),
            Body::Query(query) => {
                let seen =
                    Seen { snapshot: &self.snapshot, position: self.position, stats: Some(&self.stats) };
                let result = query(Some(seen));
                if mutant::active(Mutant::ReadAheadOfJournal) {
                    return result();
                }
                self.worker.when_durable(Pending::Effect(result));
            }
            Body::Fence(slot, verdict) => self.worker.when_durable(Pending::Reply(slot, verdict)),
            Body::Checkpoint => self.checkpoint(),
            Body::Unpark => self.unpark(),
            Body::Retire => self.retire(),
        }
    }

    /// Its cart tells an order to begin.
    fn start(&mut self, start: Start) {
        let Start { draft, request, waiters, again: _ } = start;
        self.waiters.extend(waiters);
        let applied = self.apply(Command::Order(OrderCommand::Start(draft.clone())), request, true);
        match applied {
            Applied::Refused(Refusal::StorageFull { .. }) => {
                let waiters = std::mem::take(&mut self.waiters);
                // Another copy may overtake this one while it waits for room.
                let body = Body::Start(Start { draft, request, waiters, again: true });
                self.worker.defer(Parcel::new(self.entity.clone(), body));
            }
            Applied::Refused(refusal) => self.fail_waiters(&refusal),
            Applied::Changed | Applied::Answered(_) | Applied::Nothing | Applied::Joined => {}
        }
        // A late copy: whoever waits for a request that is settled already hears its answer.
        for (request, slot) in std::mem::take(&mut self.waiters) {
            self.join(request, slot);
        }
    }

    /// Whether this actor has recorded anything itself, rather than been handed a state.
    pub(crate) fn has_recorded(&self) -> bool {
        self.position != Position(0)
    }

    /// A result or timer as a command; without journal room it comes again.
    pub(crate) fn internal(&mut self, command: Command) {
        let name = command.name();
        let applied = self.apply(command.clone(), None, false);
        self.stats.remember(self.worker.now(), name, applied.name());
        if matches!(applied, Applied::Refused(Refusal::StorageFull { .. })) {
            self.worker.defer(Parcel::new(self.entity.clone(), Body::Internal(command)));
        }
    }

    fn tell_cart(&mut self, order: OrderId, placed: bool) {
        let command = if placed { CartCommand::OrderPlaced(order) } else { CartCommand::OrderFailed(order) };
        let request = checkout_of(&self.snapshot);
        let applied = self.apply(Command::Cart(command), None, false);
        // The order has said what there was to say, maybe so long ago that it is forgotten.
        if let (Applied::Changed, Some(request)) = (&applied, request) {
            self.worker.shared.index.close(request.key);
        }
        let again = matches!(applied, Applied::Refused(Refusal::StorageFull { .. }));
        if again {
            self.worker.defer(Parcel::new(self.entity.clone(), Body::TellCart { order, placed }));
        } else {
            let told = Body::Internal(Command::Order(OrderCommand::CartTold));
            self.worker.send(Parcel::new(EntityKey::Order(order), told));
        }
    }

    /// Decides and folds one command. Everything that follows from it is under way when this returns.
    pub(crate) fn apply(&mut self, command: Command, request: Option<RequestStamp>, keyed: bool) -> Applied {
        // What no caller asks for ends something: it may use the last of the room.
        let ends_something = request.is_none();
        if !self.worker.has_room(self.room_for(&command), ends_something) {
            return Applied::Refused(Refusal::StorageFull { retry_after_ms: 1_000 });
        }
        let now = self.worker.now();
        let decision = self.snapshot.decide(Envelope { now, request, command });
        let events = match decision {
            Decision::Change(events) => events,
            Decision::Answer(answer) => return Applied::Answered(answer),
            Decision::Refuse(refusal) => return Applied::Refused(refusal),
            Decision::Nothing => return Applied::Nothing,
            Decision::Join => return Applied::Joined,
        };
        let mut redefined = false;
        // All are folded before the first is recorded: a fold that panics leaves no half of a decision in the journal.
        let mut folds: SmallVec<[(Recorded, Folded); 1]> = SmallVec::new();
        for event in &events {
            redefined |=
                matches!(event, Event::Stock(StockEvent::Defined { .. } | StockEvent::Redefined { .. }));
            let recorded = Recorded { position: self.worker.shared.next_position(), at: now };
            self.disarm_extended(event);
            match self.snapshot.evolve(&self.entity, event, recorded, request) {
                Ok(folded) => folds.push((recorded, folded)),
                Err(violation) => panic!("{violation}"),
            }
        }
        // Before the first is recorded: whatever becomes of this turn, no round may set a mark behind its records without
        // having asked for the state.
        if !self.dirty {
            self.dirty = true;
            self.worker.mark_dirty(&self.entity);
        }
        self.last_batch = self.worker.open_batch();
        let journalled = if keyed { request } else { None };
        for (event, (recorded, _)) in events.into_iter().zip(&folds) {
            let timer = timer_of(&event);
            self.count(&event);
            self.sequence = self.worker.append(&self.entity, *recorded, journalled, event);
            self.position = recorded.position;
            if let Some((reservation, due)) = timer {
                self.arm_reservation(reservation, due, now);
            }
        }
        if let Some(listener) = &self.worker.shared.listener {
            listener.recorded(&self.entity);
        }
        for (_, folded) in folds {
            self.absorb(folded, now, keyed);
        }
        // Never between two events of one decision: they reach the disk together or not at all.
        self.worker.flush_if_full();
        self.after_turn(if redefined { News::Definition } else { News::Figures });
        Applied::Changed
    }

    /// Counts what a merchant counts. An order has a dozen events and one of them is this: hot paths do not pass here.
    fn count(&self, event: &Event) {
        if let (Event::Order(OrderEvent::Placed { .. }), Snapshot::Order(order)) = (event, &self.snapshot) {
            let total = order.total();
            let minor_units = u64::try_from(total.amount).unwrap_or(0);
            metrics::counter!("doorbuster_orders_placed_total").increment(1);
            metrics::counter!("doorbuster_order_value_minor_units_total", "currency" => total.currency.code().to_owned())
                .increment(minor_units);
        }
    }

    /// Tells those who wait, remembers answers and endings, and lets the ledger's oldest entries go.
    fn absorb(&mut self, folded: Folded, at: Timestamp, keyed: bool) {
        let index = Arc::clone(&self.worker.shared.index);
        for settlement in folded.settlements {
            let request = settlement.request;
            match &settlement.verdict {
                Ok(answer) if is_creation_of_reservation(answer, request.key) => {
                    index.open(request, Home::of(&self.entity));
                }
                Ok(answer) if keyed || index.stage(request.key).is_some() => {
                    index.settle(request, Arc::new(answer.clone()), at);
                    let forgotten = mutant::active(Mutant::ForgetFingerprint);
                    let fingerprint = if forgotten { Fingerprint(0) } else { request.fingerprint };
                    let settled = Settled { fingerprint, answer: answer.clone(), at };
                    self.worker.remember(Remembered::Settled(request.key, settled));
                }
                Ok(_) => {}
                Err(_) => index.refuse(request.key),
            }
            let mut replayed = false;
            while let Some(slot) = self.take_waiter(request) {
                let verdict = settlement.verdict.clone().map(|answer| Reply { answer, replayed });
                self.worker.reply_when_durable(self.last_batch, slot, verdict);
                replayed = true;
            }
        }
        if let Some(record) = folded.ended {
            self.disarm_reservation(record.id, record.expires_at);
            self.worker.remember(Remembered::Ended(Ended { record: (*record).clone(), at }));
            index.end(Arc::from(record), at);
        }
        if let Some(chunk) = folded.spilled {
            self.worker.save_ledger(*chunk);
        }
    }

    /// What a changed state obliges to: its card, its sagas' next steps, its timer, whoever is parked.
    fn after_turn(&mut self, news: News) {
        if let Snapshot::Stock(stock) = &self.snapshot {
            self.tentative.measure(stock);
            let redefined = news == News::Definition;
            let catalogue = &self.worker.shared.catalogue;
            self.card = catalogue.publish(self.card.as_ref(), stock, self.tentative.units(), redefined);
            if self.tentative.take_eased() {
                self.unpark();
            }
            return;
        }
        self.list();
        self.run_obligations();
        self.arm_timer();
        if self.snapshot.is_over() {
            self.over = true;
            self.worker.shared.index.close_coordinator(&self.entity);
            self.worker.forget(&self.entity, self.sequence, self.armed);
        }
    }

    /// An order stands in its worker's list from its beginning until its actor leaves.
    fn list(&mut self) {
        if let Snapshot::Order(order) = &self.snapshot
            && self.listed.is_none()
            && !order.is_absent()
        {
            let place = (order.created_at(), order.id());
            self.listed = Some(place);
            self.worker.list_order(place);
        }
    }

    fn unlist(&mut self) {
        if let Some(place) = self.listed.take() {
            self.worker.unlist_order(place);
        }
    }

    /// Arms the timer the state asks for. One that moves further away is armed again when the earlier entry rings, so
    /// that a busy cart has one entry in the wheel and not one for each change (law 11).
    fn arm_timer(&mut self) {
        let Some(due) = self.snapshot.due() else { return };
        if self.armed.is_some_and(|armed| armed <= due) {
            return;
        }
        let mut wheel = self.worker.wheel.borrow_mut();
        if let Some(later) = self.armed.replace(due) {
            wheel.disarm(later, &Due::Entity(self.entity.clone()));
        }
        wheel.arm(due, Due::Entity(self.entity.clone()));
    }

    /// The timer rang, or the store says that it should have.
    fn ring(&mut self, command: Command) {
        // The store may show a time that has changed since, and the wheel's own entry is still there.
        if self.armed.is_some_and(|armed| armed <= self.worker.now()) {
            self.armed = None;
        }
        self.internal(command);
        // What is due and found no journal room comes again by itself.
        if self.snapshot.due().is_some_and(|due| due > self.worker.now()) {
            self.arm_timer();
        }
    }

    /// Hands its state over for the running round: a large one step by step, with other turns in between.
    fn checkpoint(&mut self) {
        let number = self.worker.round.borrow().number;
        let mut copy = None;
        if let Snapshot::Stock(stock) = &mut self.snapshot
            && (stock.is_large() || self.copying_for == number)
        {
            if self.copying_for != number {
                self.copying_for = number;
                stock.begin_copy();
            }
            copy = stock.copy_some();
            if copy.is_none() {
                self.worker.dispatch(Parcel::new(self.entity.clone(), Body::Checkpoint));
                return;
            }
        }
        self.copying_for = 0;
        self.dirty = false;
        self.saved_in = number;
        match copy {
            Some(copy) => {
                self.worker.save_copy(&self.entity, Snapshot::Stock(Box::new(copy)), self.sequence);
            }
            None => self.worker.save(&self.entity, &self.snapshot, self.sequence),
        }
    }

    /// Leaves memory, or for a SKU goes back to sleep there, unless something is open.
    fn retire(&mut self) {
        let in_use = !self.waiters.is_empty()
            || !self.parked.is_empty()
            || self.stats.depth() > 1
            || self.copying_for > 0;
        if in_use || self.tentative.units() > 0 {
            return;
        }
        if matches!(self.snapshot, Snapshot::Stock(_)) {
            let snapshot = std::mem::replace(&mut self.snapshot, Snapshot::absent(&self.entity));
            self.over = true;
            let (sequence, dirty, saved_in) = (self.sequence, self.dirty, self.saved_in);
            self.worker.lay_down(&self.entity, Stored { snapshot, sequence, dirty, saved_in });
            return;
        }
        // The row must be in the store, not only on its way there, before the next reader looks for it.
        let saved = !self.dirty && self.saved_in <= self.worker.shared.rounds_done();
        if saved && !self.snapshot.is_resident() {
            self.over = true;
            self.unlist();
            self.worker.passivate(&self.entity, self.armed);
        }
    }

    /// The most bytes a turn may append: what its command brings and what its state may copy into an event.
    fn room_for(&self, command: &Command) -> usize {
        let lines = match (command, &self.snapshot) {
            (Command::Stock(_), _) => 0,
            (Command::Reservation(ReservationCommand::Request { items, .. }), _) => items.len(),
            (Command::Cart(CartCommand::AddLines { lines, .. } | CartCommand::Create { lines, .. }), _) => {
                lines.len()
            }
            (Command::Cart(CartCommand::Checkout(_)), Snapshot::Cart(cart)) => cart.view().lines.len(),
            (Command::Order(OrderCommand::Start(draft)), _) => draft.lines.len(),
            (
                Command::Order(
                    OrderCommand::Refund { .. } | OrderCommand::Cancel { .. } | OrderCommand::Fulfil { .. },
                ),
                Snapshot::Order(order),
            ) => order.view().lines.len(),
            (Command::Reservation(ReservationCommand::UnitsHeld { granted }), _) => granted.len(),
            (
                Command::Reservation(ReservationCommand::UnitsRefused { shortages })
                | Command::Order(OrderCommand::UnitsRefused { shortages }),
                _,
            ) => shortages.len(),
            (Command::Reservation(_) | Command::Cart(_) | Command::Order(_), _) => 0,
        };
        TURN_BYTES.saturating_add(lines.saturating_mul(LINE_BYTES))
    }
}
