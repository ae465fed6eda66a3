//! What only a SKU's actor does: steps of sagas, and requests parked until tentative units are settled.

use std::time::Duration;

use doorbuster_engine::answer::Refusal;
use doorbuster_engine::command::Command;
use doorbuster_engine::event::{EntityKey, Event};
use doorbuster_engine::identity::{Position, ReservationId, Timestamp};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::stock::{PartStatus, StockCommand, StockEvent};
use doorbuster_engine::world::Snapshot;
use tokio::time::Instant;

use crate::message::{Body, Parcel, Step, StepDone, StepKind, StepOutcome};
use crate::worker::Due;

use super::{Applied, EntityActor, News};

impl EntityActor {
    /// A saga's step at this SKU.
    pub(super) fn step(&mut self, step: Step, sent: Instant, now: Instant, patience: Patience) {
        let (reservation, as_of) = (step.reservation, step.as_of);
        if step.ends_a_part() && self.holds_since(reservation, as_of) {
            return self.step_came_too_late(step);
        }
        let command = match step.kind {
            StepKind::Hold { quantity, partial, home } => {
                StockCommand::HoldPart { reservation, quantity, partial, home }
            }
            StepKind::Settle => {
                self.tentative.settle(reservation);
                self.after_turn(News::Figures);
                return;
            }
            StepKind::Sell => StockCommand::SellPart { reservation, as_of },
            StepKind::Free => StockCommand::FreePart { reservation, as_of },
            StepKind::Restock { step, quantity, order } => StockCommand::Restock { step, quantity, order },
        };
        let command = Command::Stock(command);
        if patience.lasts(now) && self.should_park(&command) {
            self.park(Parcel { to: self.entity.clone(), sent, body: Body::Step(step) }, patience);
            return;
        }
        let name = command.name();
        let mut may_come_back = false;
        if matches!(step.kind, StepKind::Hold { .. }) {
            // Before the turn publishes: a reader must not take the units for gone while they may come back.
            self.tentative.expect(reservation);
        } else {
            may_come_back = self.tentative.settle(reservation) && step.kind == StepKind::Free;
            // A saga that was rebuilt while it asked may have asked twice: nobody would end a hold granted from here on.
            self.parked.retain(|(_, parcel)| !holds_for(parcel, reservation, as_of));
        }
        let applied = self.apply(command, None, false);
        self.stats.remember(self.worker.now(), name, applied.name());
        let outcome = match (step.kind, applied) {
            (_, Applied::Refused(Refusal::StorageFull { .. })) => {
                if may_come_back {
                    // They come back as soon as there is room to say so.
                    self.tentative.expect(reservation);
                }
                self.worker.defer(Parcel { to: self.entity.clone(), sent, body: Body::Step(step) });
                return;
            }
            (StepKind::Hold { .. }, Applied::Refused(refusal)) => {
                self.tentative.settle(reservation);
                StepOutcome::Refused(available_of(&refusal))
            }
            (StepKind::Hold { .. }, _) => match self.part(reservation) {
                PartStatus::Held(quantity) => StepOutcome::Held(quantity),
                PartStatus::Absent | PartStatus::Sold | PartStatus::Freed => {
                    self.tentative.settle(reservation);
                    StepOutcome::Refused(0)
                }
            },
            (StepKind::Settle | StepKind::Sell | StepKind::Free | StepKind::Restock { .. }, _) => {
                StepOutcome::Done
            }
        };
        self.answer_step(step, outcome);
    }

    fn answer_step(&self, step: Step, outcome: StepOutcome) {
        let EntityKey::Sku(sku) = self.entity.clone() else { return };
        let done = StepDone { sku, kind: step.kind, as_of: step.as_of, outcome };
        self.worker.send(Parcel::new(step.from, Body::StepDone(done)));
    }

    /// What it would end has ended, and the key is tried again: the part held now is another attempt's.
    fn step_came_too_late(&mut self, step: Step) {
        self.stats.remember(self.worker.now(), "late_step", "nothing");
        self.answer_step(step, StepOutcome::Done);
    }

    fn holds_since(&self, reservation: ReservationId, as_of: Position) -> bool {
        match &self.snapshot {
            Snapshot::Stock(stock) => stock.holds_since(reservation, as_of),
            Snapshot::Reservation(_) | Snapshot::Cart(_) | Snapshot::Order(_) => false,
        }
    }

    pub(super) fn part(&self, reservation: ReservationId) -> PartStatus {
        match &self.snapshot {
            Snapshot::Stock(stock) => stock.part(reservation, self.worker.now()),
            Snapshot::Reservation(_) | Snapshot::Cart(_) | Snapshot::Order(_) => PartStatus::Absent,
        }
    }

    pub(super) fn arm_reservation(&self, reservation: ReservationId, due: DueAt, now: Timestamp) {
        let EntityKey::Sku(sku) = &self.entity else { return };
        if mutant::active(Mutant::ForgetTimer) {
            return;
        }
        let due = match due {
            DueAt::After(ttl_ms) => now.plus_ms(ttl_ms),
            DueAt::At(at) => at,
        };
        self.worker.wheel.borrow_mut().arm(due, Due::Reservation(sku.clone(), reservation));
    }

    /// Takes the timer of a reservation that has ended out of the wheel, which would else keep it to its time (law 11).
    pub(super) fn disarm_reservation(&self, reservation: ReservationId, due: Timestamp) {
        let EntityKey::Sku(sku) = &self.entity else { return };
        self.worker.wheel.borrow_mut().disarm(due, &Due::Reservation(sku.clone(), reservation));
    }

    /// Takes the timer out that an extension replaces.
    pub(super) fn disarm_extended(&self, event: &Event) {
        if let (Event::Stock(StockEvent::Extended { reservation, .. }), Snapshot::Stock(stock)) =
            (event, &self.snapshot)
            && !mutant::active(Mutant::ExpireEarly)
            && let Some(record) = stock.reservation(*reservation)
        {
            self.disarm_reservation(*reservation, record.expires_at);
        }
    }

    /// Whether a request that would be refused now may succeed as soon as some saga gives its units back.
    pub(super) fn should_park(&self, command: &Command) -> bool {
        let Snapshot::Stock(stock) = &self.snapshot else { return false };
        let (wanted, partial) = match command {
            Command::Stock(StockCommand::Reserve(reserve)) => (reserve.quantity, reserve.partial),
            Command::Stock(StockCommand::HoldPart { quantity, partial, .. }) => (*quantity, *partial),
            Command::Stock(_) | Command::Reservation(_) | Command::Cart(_) | Command::Order(_) => {
                return false;
            }
        };
        let sellable = stock.sellable();
        let tentative = self.tentative.units();
        let wanted_at_least = if partial { 1 } else { wanted };
        let waits = !mutant::active(Mutant::DropTentative);
        waits
            && tentative > 0
            && sellable < wanted_at_least
            && wanted_at_least <= sellable.saturating_add(tentative)
    }

    pub(super) fn park(&mut self, parcel: Parcel, patience: Patience) {
        // The worker calls at the end of each one's time: at the end of the first one's, the last one has hardly waited.
        if !patience.called
            && let EntityKey::Sku(sku) = &self.entity
        {
            self.worker.parked(sku.clone(), patience.until);
        }
        self.parked.push_back((Patience { called: true, ..patience }, parcel));
    }

    /// Tries parked requests again, in the order they came; those still blocked stay parked while their time lasts.
    pub(super) fn unpark(&mut self) {
        let now = Instant::now();
        for (patience, parcel) in std::mem::take(&mut self.parked) {
            match parcel.body {
                Body::Client(client) => self.client(client, parcel.sent, now, patience),
                Body::Step(step) => self.step(step, parcel.sent, now, patience),
                Body::Await(..)
                | Body::Start(..)
                | Body::StepDone(_)
                | Body::Internal(_)
                | Body::TellCart { .. }
                | Body::Query(_)
                | Body::Fence(..)
                | Body::Checkpoint
                | Body::Unpark
                | Body::Retire => {}
            }
        }
    }
}

/// How long whoever wants tentative units may wait for them: long for a saga, which takes milliseconds.
const PARKED: Duration = Duration::from_secs(1);

/// Until when a request may be parked. Monotonic time ends it, so that a jump of the clock, which pauses expiry, does not
/// hold it.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    until: Instant,
    /// Whether the worker is to call then.
    called: bool,
}

impl Patience {
    /// Of a request that comes now.
    pub(super) fn fresh(now: Instant) -> Self {
        Self { until: now + PARKED, called: false }
    }

    pub(super) fn lasts(self, now: Instant) -> bool {
        now < self.until
    }
}

/// Whether a parked parcel asks to hold for this reservation, and did so before `as_of`.
fn holds_for(parcel: &Parcel, reservation: ReservationId, as_of: Position) -> bool {
    let Body::Step(step) = &parcel.body else { return false };
    matches!(step.kind, StepKind::Hold { .. }) && step.reservation == reservation && step.as_of < as_of
}

/// When a reservation's timer is due, as its event tells.
#[derive(Clone, Copy)]
pub(super) enum DueAt {
    After(u64),
    At(Timestamp),
}

pub(super) fn timer_of(event: &Event) -> Option<(ReservationId, DueAt)> {
    match event {
        Event::Stock(StockEvent::Reserved { reservation, ttl_ms, .. }) => {
            Some((*reservation, DueAt::After(*ttl_ms)))
        }
        Event::Stock(StockEvent::Extended { reservation, expires_at }) => {
            Some((*reservation, DueAt::At(*expires_at)))
        }
        Event::Stock(_) | Event::Reservation(_) | Event::Cart(_) | Event::Order(_) => None,
    }
}

fn available_of(refusal: &Refusal) -> i64 {
    if let Refusal::InsufficientStock(shortages) = refusal {
        return shortages.first().map_or(0, |shortage| shortage.available);
    }
    0
}
