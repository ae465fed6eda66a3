//! What a coordinator's state obliges to, carried out: units asked of SKUs, charges asked of providers, carts told.
//!
//! A machine says which work is open ([`doorbuster_engine::order::Order::obligations`]); this module starts what is
//! not running yet and turns results into commands. After a crash the recovered state says the same again, so every
//! piece of work is safe to repeat. SKUs are asked one after another in SKU order, the same order for everybody: a
//! saga may wait for a SKU while holding others, and still nobody waits in a circle.

use std::sync::{Arc, Weak};

use doorbuster_engine::answer::{Item, Shortage};
use doorbuster_engine::cart::CartObligation;
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{OrderId, Position, RefundId, RequestStamp, Sku};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::order::{OrderCommand, OrderDraft, OrderObligation};
use doorbuster_engine::reservation::{ReservationCommand, ReservationObligation};
use doorbuster_engine::stock::Home;
use doorbuster_engine::world::Snapshot;

use crate::actor::EntityActor;
use crate::message::{Body, Parcel, Start, Step, StepDone, StepKind, StepOutcome};
use crate::payments::{Call, What};
use crate::worker::Pending;

/// Names a piece of work, so that it is started once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Hold,
    Sell,
    Free,
    Restock(RefundId),
    Await(Position),
    Charge,
    LookUp,
    Confirm,
    Capture,
    Void,
    ReturnStray(usize),
    Refund(RefundId),
    TellCart,
    StartOrder,
}

/// A piece of work as the shell does it.
enum Work {
    Hold { items: Vec<Item>, partial: bool, home: Home },
    Steps { tag: Tag, items: Vec<Item> },
    Call { tag: Tag, call: Call },
    TellCart { cart: doorbuster_engine::identity::CartId, order: OrderId, placed: bool },
    StartOrder { draft: Box<OrderDraft>, request: Option<RequestStamp> },
}

impl Work {
    fn tag(&self) -> Tag {
        match self {
            Self::Hold { .. } => Tag::Hold,
            Self::Steps { tag, .. } | Self::Call { tag, .. } => *tag,
            Self::TellCart { .. } => Tag::TellCart,
            Self::StartOrder { .. } => Tag::StartOrder,
        }
    }
}

/// Units being asked of SKUs, one SKU at a time.
struct Asking {
    /// As the machine named them.
    asked: Vec<Item>,
    /// Indices into `asked`, in SKU order.
    order: Vec<usize>,
    /// How many of `order` have answered.
    answered: usize,
    granted: Vec<i64>,
    partial: bool,
    home: Home,
    /// Where the journal stood when it began: its steps are named by it.
    as_of: Position,
}

impl Asking {
    /// A SKU holds units for it. Where it had refused, this is a late copy that found some: what is held is granted.
    fn note_held(&mut self, sku: &Sku, quantity: i64) {
        let asked_so_far = self.order.iter().take(self.answered.saturating_add(1));
        let at = asked_so_far.copied().find(|at| self.asked.get(*at).is_some_and(|item| item.sku == *sku));
        if let Some(granted) = at.and_then(|at| self.granted.get_mut(at)) {
            *granted = quantity;
        }
    }
}

/// Steps sent to several SKUs at once, and who has not answered.
struct Round {
    tag: Tag,
    waiting: Vec<Sku>,
    /// Where the journal stood when it began: its steps are named by it.
    as_of: Position,
}

/// The running work of one coordinator. Volatile: a restart begins it anew from the state.
#[derive(Default)]
pub(crate) struct Saga {
    /// What runs, each with a token that calls to a provider watch: it is gone when the work is no longer wanted.
    running: Vec<(Tag, Arc<()>)>,
    asking: Option<Asking>,
    rounds: Vec<Round>,
}

impl Saga {
    /// Whether anything runs.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }
}

impl EntityActor {
    /// Starts whatever the state asks for and does not run yet.
    pub(crate) fn run_obligations(&mut self) {
        let wanted = self.wanted();
        let is_wanted = |tag: &Tag| wanted.iter().any(|work| work.tag() == *tag);
        for (tag, _) in self.saga.running.iter().filter(|(tag, _)| !is_wanted(tag)) {
            if let (Tag::Await(since), Snapshot::Order(order)) = (tag, &self.snapshot) {
                crate::payments::forget(&self.worker.shared, order.provider(), *since);
            }
        }
        self.saga.running.retain(|(tag, _)| is_wanted(tag));
        for work in wanted {
            let tag = work.tag();
            if self.saga.running.iter().any(|(running, _)| *running == tag) {
                continue;
            }
            let token = Arc::new(());
            let wanted = Arc::downgrade(&token);
            self.saga.running.push((tag, token));
            self.begin(work, wanted);
        }
    }

    fn wanted(&self) -> Vec<Work> {
        match &self.snapshot {
            Snapshot::Stock(_) => Vec::new(),
            Snapshot::Reservation(reservation) => reservation
                .obligations()
                .into_iter()
                .map(|obligation| match obligation {
                    ReservationObligation::HoldUnits { items, partial } => {
                        Work::Hold { items, partial, home: Home::Reservation }
                    }
                    ReservationObligation::SellUnits(items) => {
                        Work::Steps { tag: Tag::Sell, items: items.to_vec() }
                    }
                    ReservationObligation::FreeUnits(items) => {
                        Work::Steps { tag: Tag::Free, items: items.to_vec() }
                    }
                })
                .collect(),
            Snapshot::Cart(cart) => cart
                .obligations()
                .into_iter()
                .map(|obligation| match obligation {
                    CartObligation::StartOrder { draft, request } => Work::StartOrder { draft, request },
                })
                .collect(),
            Snapshot::Order(order) => {
                let (id, provider) = (order.id(), order.provider());
                order.obligations().into_iter().map(|obligation| work_of(obligation, id, provider)).collect()
            }
        }
    }

    fn begin(&mut self, work: Work, wanted: Weak<()>) {
        match work {
            Work::Hold { items, partial, home } => {
                let mut order: Vec<usize> = (0..items.len()).collect();
                order.sort_by(|a, b| {
                    items.get(*a).map(|item| &item.sku).cmp(&items.get(*b).map(|item| &item.sku))
                });
                let granted = vec![0; items.len()];
                let as_of = self.worker.shared.as_of();
                self.saga.asking =
                    Some(Asking { asked: items, order, answered: 0, granted, partial, home, as_of });
                self.ask_next();
            }
            Work::Steps { tag, items } => {
                self.saga.rounds.retain(|round| round.tag != tag);
                let waiting = items.iter().map(|item| item.sku.clone()).collect();
                let as_of = self.worker.shared.as_of();
                self.saga.rounds.push(Round { tag, waiting, as_of });
                for item in items {
                    if let Some(kind) = self.step_kind(tag, item.quantity) {
                        self.send_step(&item.sku, kind, as_of);
                    }
                }
            }
            Work::Call { call, .. } => {
                // The demand must be on disk before the world hears of it.
                let shared = Arc::clone(&self.worker.shared);
                if mutant::active(Mutant::ChargeBeforeDurable) {
                    return crate::payments::place(&shared, call, wanted);
                }
                let effect = Box::new(move || crate::payments::place(&shared, call, wanted));
                self.worker.when_durable(Pending::Effect(effect));
            }
            Work::TellCart { order, .. } if mutant::active(Mutant::LoseCartTold) => {
                let told = Body::Internal(Command::Order(OrderCommand::CartTold));
                self.worker.send(Parcel::new(EntityKey::Order(order), told));
            }
            Work::TellCart { cart, order, placed } => {
                self.worker.send(Parcel::new(EntityKey::Cart(cart), Body::TellCart { order, placed }));
            }
            Work::StartOrder { draft, request } => {
                let order = EntityKey::Order(draft.order);
                let again = !self.has_recorded();
                let start = Start { draft, request, waiters: Vec::new(), again };
                self.worker.send(Parcel::new(order, Body::Start(start)));
            }
        }
    }

    fn step_kind(&self, tag: Tag, quantity: i64) -> Option<StepKind> {
        match tag {
            Tag::Sell => Some(StepKind::Sell),
            Tag::Free => Some(StepKind::Free),
            Tag::Restock(refund) => match &self.entity {
                EntityKey::Order(order) => {
                    Some(StepKind::Restock { step: refund.0, quantity, order: *order })
                }
                EntityKey::Sku(_) | EntityKey::Reservation(_) | EntityKey::Cart(_) => None,
            },
            Tag::Hold
            | Tag::Await(_)
            | Tag::Charge
            | Tag::LookUp
            | Tag::Confirm
            | Tag::Capture
            | Tag::Void
            | Tag::ReturnStray(_)
            | Tag::Refund(_)
            | Tag::TellCart
            | Tag::StartOrder => None,
        }
    }

    fn send_step(&self, sku: &Sku, kind: StepKind, as_of: Position) {
        let reservation = match &self.entity {
            EntityKey::Reservation(id) => *id,
            EntityKey::Order(id) => id.reservation(),
            EntityKey::Sku(_) | EntityKey::Cart(_) => return,
        };
        let step = Step { from: self.entity.clone(), reservation, as_of, kind };
        self.worker.send(Parcel::new(EntityKey::Sku(sku.clone()), Body::Step(step)));
    }

    fn ask_next(&mut self) {
        let Some(asking) = &self.saga.asking else { return };
        let next = asking.order.get(asking.answered).and_then(|at| asking.asked.get(*at));
        match next {
            Some(item) => {
                let (sku, quantity, as_of) = (item.sku.clone(), item.quantity, asking.as_of);
                let kind = StepKind::Hold { quantity, partial: asking.partial, home: asking.home };
                self.send_step(&sku, kind, as_of);
            }
            None => self.asked_all(),
        }
    }

    fn asked_all(&mut self) {
        let Some(asking) = self.saga.asking.take() else { return };
        let answers = asking.asked.iter().zip(&asking.granted);
        let granted: Vec<Item> = answers
            .filter(|(_, quantity)| **quantity > 0)
            .map(|(item, quantity)| Item { sku: item.sku.clone(), quantity: *quantity })
            .collect();
        if granted.is_empty() {
            let shortages = asking
                .asked
                .iter()
                .map(|item| Shortage { sku: item.sku.clone(), requested: item.quantity, available: 0 })
                .collect();
            self.units_refused(shortages);
            return;
        }
        self.internal(match asking.home {
            Home::Reservation => Command::Reservation(ReservationCommand::UnitsHeld { granted }),
            Home::Order => Command::Order(OrderCommand::UnitsHeld { defer_ms: self.defer_ms() }),
        });
        let as_of = self.worker.shared.as_of();
        for (Item { sku, .. }, quantity) in asking.asked.iter().zip(&asking.granted) {
            if *quantity > 0 {
                self.send_step(sku, StepKind::Settle, as_of);
            } else if !self.snapshot.keeps_units_of(sku) {
                // A late copy of an earlier attempt's hold may have found units meanwhile: nobody else would end it (law 6).
                self.send_step(sku, StepKind::Free, as_of);
            }
        }
    }

    /// How long this order may wait for its provider, if it cannot be asked now.
    fn defer_ms(&self) -> Option<u64> {
        let Snapshot::Order(order) = &self.snapshot else { return None };
        let shared = &self.worker.shared;
        let defer = shared.when_down.defer.filter(|_| {
            // Without its provider configured it could only wait, and an operator has to hear of it: asking says so.
            shared.desk(order.provider()).is_some_and(|desk| !desk.is_open())
        })?;
        Some(u64::try_from(defer.as_millis()).unwrap_or(u64::MAX))
    }

    fn units_refused(&mut self, shortages: Vec<Shortage>) {
        let order = matches!(self.entity, EntityKey::Order(_));
        self.internal(if order {
            Command::Order(OrderCommand::UnitsRefused { shortages })
        } else {
            Command::Reservation(ReservationCommand::UnitsRefused { shortages })
        });
    }

    /// A SKU's answer to a step.
    pub(crate) fn step_done(&mut self, done: &StepDone) {
        match (done.kind, done.outcome) {
            // A late copy of a hold, granted when all was over, or when a partial grant had gone on without this SKU: nobody
            // else would end it (law 6).
            (StepKind::Hold { .. }, StepOutcome::Held(_)) if !self.snapshot.keeps_units_of(&done.sku) => {
                self.send_step(&done.sku, StepKind::Free, self.worker.shared.as_of());
            }
            (StepKind::Hold { .. }, _) => self.hold_answered(done),
            (StepKind::Sell, _) => self.round_answered(Tag::Sell, done),
            (StepKind::Free, _) => self.round_answered(Tag::Free, done),
            (StepKind::Restock { step, .. }, _) => self.round_answered(Tag::Restock(RefundId(step)), done),
            (StepKind::Settle, _) => {}
        }
    }

    fn hold_answered(&mut self, done: &StepDone) {
        let (sku, outcome) = (&done.sku, done.outcome);
        let Some(asking) = &mut self.saga.asking else {
            // A late copy: it marked units as tentative that the saga has settled or given back long ago.
            if matches!(outcome, StepOutcome::Held(_)) {
                self.send_step(sku, StepKind::Settle, self.worker.shared.as_of());
            }
            return;
        };
        // An answer to an earlier attempt says nothing of this one's units: by now they may have gone back (law 6).
        if done.as_of != asking.as_of {
            return;
        }
        if let StepOutcome::Held(quantity) = outcome {
            asking.note_held(sku, quantity);
        }
        let Some(at) = asking.order.get(asking.answered).copied() else { return };
        let Some(item) = asking.asked.get(at).filter(|item| item.sku == *sku) else { return };
        let (requested, partial) = (item.quantity, asking.partial);
        match outcome {
            StepOutcome::Held(_) => {}
            StepOutcome::Refused(_) if partial => {}
            StepOutcome::Refused(available) => {
                let mut shortages = vec![Shortage { sku: sku.clone(), requested, available }];
                let asking = self.saga.asking.take();
                shortages.extend(asking.iter().flat_map(|asking| self.further_shortages(asking)));
                self.units_refused(shortages);
                return;
            }
            StepOutcome::Done => return,
        }
        asking.answered = asking.answered.saturating_add(1);
        self.ask_next();
    }

    /// SKUs not asked any more that would have refused too, as their cards show: the caller hears of all at once.
    fn further_shortages(&self, asking: &Asking) -> Vec<Shortage> {
        let rest = asking.order.iter().skip(asking.answered.saturating_add(1));
        rest.filter_map(|at| asking.asked.get(*at))
            .filter_map(|item| {
                let figures = self.worker.shared.catalogue.card(item.sku.as_str())?.figures();
                let available = figures.sellable.max(0);
                (figures.within_reach() < item.quantity).then(|| Shortage {
                    sku: item.sku.clone(),
                    requested: item.quantity,
                    available,
                })
            })
            .collect()
    }

    fn round_answered(&mut self, tag: Tag, done: &StepDone) {
        let answers = |round: &Round| round.tag == tag && round.as_of == done.as_of;
        let Some(at) = self.saga.rounds.iter().position(answers) else { return };
        let Some(round) = self.saga.rounds.get_mut(at) else { return };
        round.waiting.retain(|waiting| *waiting != done.sku);
        if !round.waiting.is_empty() {
            return;
        }
        self.saga.rounds.swap_remove(at);
        let order = matches!(self.entity, EntityKey::Order(_));
        let command = match (tag, order) {
            (Tag::Sell, true) => Command::Order(OrderCommand::UnitsSold),
            (Tag::Free, true) => Command::Order(OrderCommand::UnitsFreed),
            (Tag::Restock(refund), true) => Command::Order(OrderCommand::UnitsRestocked { refund }),
            (_, _) => Command::Reservation(ReservationCommand::UnitsSettled),
        };
        self.internal(command);
    }
}

fn work_of(obligation: OrderObligation, order: OrderId, provider: &str) -> Work {
    let call = |tag, what| Work::Call { tag, call: Call { order, provider: provider.to_owned(), what } };
    match obligation {
        OrderObligation::HoldUnits(items) => Work::Hold { items, partial: false, home: Home::Order },
        OrderObligation::Charge(charge) => call(Tag::Charge, What::Charge(charge)),
        OrderObligation::AwaitProvider { since } => call(Tag::Await(since), What::Await(since)),
        OrderObligation::LookUp { charge, reference } => call(Tag::LookUp, What::LookUp(charge, reference)),
        OrderObligation::Capture { charge, reference } => {
            call(Tag::Capture, What::Capture(charge, reference))
        }
        OrderObligation::ReturnStray { nth, charge, reference } => {
            call(Tag::ReturnStray(nth), What::ReturnStray(charge, reference))
        }
        OrderObligation::Confirm { charge, reference } => {
            call(Tag::Confirm, What::Confirm(charge, reference))
        }
        OrderObligation::Void { charge, reference } => call(Tag::Void, What::Void(charge, reference)),
        OrderObligation::SellUnits(items) => Work::Steps { tag: Tag::Sell, items },
        OrderObligation::FreeUnits(items) => Work::Steps { tag: Tag::Free, items },
        OrderObligation::TellCart { cart, placed } => Work::TellCart { cart, order, placed },
        OrderObligation::Refund { refund, charge, reference, amount } => {
            call(Tag::Refund(refund), What::Refund { refund, charge, reference, amount })
        }
        OrderObligation::Restock { refund, items } => Work::Steps { tag: Tag::Restock(refund), items },
    }
}
