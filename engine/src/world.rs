//! All entities of one engine, folded from one journal: what recovery, verification and rebuilds share.
//!
//! Law 10 in one type: [`World::apply`] is the only way in, and it is a pure function of the entries.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Folded, LedgerChunk, ReservationRecord};
use crate::cart::Cart;
use crate::event::{EntityKey, Entry, Event};
use crate::identity::{Fingerprint, Recorded, RequestKey, RequestStamp, ReservationId, Timestamp};
use crate::invariants::Violation;
use crate::order::Order;
use crate::reservation::Reservation;
use crate::stock::Stock;

/// How long a keyed answer and an ended reservation are remembered: 24 hours.
pub const ANSWER_MEMORY_MS: u64 = 86_400_000;

/// The whole state of one entity: what a checkpoint row holds.
///
/// Variants are appended, never reordered: their index is in every checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Snapshot {
    /// Of a SKU.
    Stock(Box<Stock>),
    /// Of a reservation over several SKUs.
    Reservation(Box<Reservation>),
    /// Of a cart.
    Cart(Box<Cart>),
    /// Of an order.
    Order(Box<Order>),
}

impl Snapshot {
    /// An entity to which nothing has happened yet.
    pub fn absent(entity: &EntityKey) -> Self {
        match entity {
            EntityKey::Sku(sku) => Self::Stock(Box::new(Stock::new(sku.clone()))),
            EntityKey::Reservation(id) => Self::Reservation(Box::new(Reservation::new(*id))),
            EntityKey::Cart(id) => Self::Cart(Box::new(Cart::new(*id))),
            EntityKey::Order(id) => Self::Order(Box::new(Order::new(*id))),
        }
    }

    /// Folds one event.
    ///
    /// # Errors
    /// When the event is of another kind than the entity: the journal is not this engine's.
    pub fn evolve(
        &mut self,
        entity: &EntityKey,
        event: &Event,
        recorded: Recorded,
        request: Option<RequestStamp>,
    ) -> Result<Folded, Violation> {
        match (self, event) {
            (Self::Stock(stock), Event::Stock(event)) => Ok(stock.evolve(event, recorded, request)),
            (Self::Reservation(reservation), Event::Reservation(event)) => {
                Ok(reservation.evolve(event, recorded, request))
            }
            (Self::Cart(cart), Event::Cart(event)) => Ok(cart.evolve(event, recorded, request)),
            (Self::Order(order), Event::Order(event)) => Ok(order.evolve(event, recorded, request)),
            (Self::Stock(_) | Self::Reservation(_) | Self::Cart(_) | Self::Order(_), _) => Err(Violation {
                law: 10,
                entity: entity.to_string(),
                seen: "an event of another kind of entity".into(),
            }),
        }
    }

    /// Checks the laws this one entity can show, at the cost of walking all of it.
    pub fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Stock(stock) => stock.check().and_then(|()| stock.check_holds()),
            Self::Reservation(reservation) => reservation.check(),
            Self::Cart(cart) => cart.check(),
            Self::Order(order) => order.check(),
        }
    }

    /// Whether it must be in memory: a SKU always, others while work or a request is open.
    pub fn is_resident(&self) -> bool {
        match self {
            Self::Stock(_) => true,
            Self::Reservation(reservation) => !reservation.is_finished(),
            Self::Cart(cart) => !cart.is_finished(),
            Self::Order(order) => !order.is_finished(),
        }
    }

    /// Whether an event has ended it for good, so that nothing of it is kept: a coordinator whose SKUs are all done.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Reservation(reservation) => reservation.is_finished() && !reservation.is_absent(),
            Self::Stock(_) | Self::Cart(_) | Self::Order(_) => false,
        }
    }

    /// The earliest timer it needs, SKUs apart (their reservations each have one).
    pub fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Stock(_) => None,
            Self::Reservation(reservation) => reservation.due(),
            Self::Cart(cart) => cart.due(),
            Self::Order(order) => order.due(),
        }
    }
}

/// An answer remembered under its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Body hash of the request.
    pub fingerprint: Fingerprint,
    /// What it was told.
    pub answer: Answer,
    /// When.
    pub at: Timestamp,
}

/// An ended reservation and when it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// All that is remembered of it.
    pub record: ReservationRecord,
    /// When it ended.
    pub at: Timestamp,
}

/// Map with an order that does not depend on the run.
pub type OrderedMap<K, V> = IndexMap<K, V, foldhash::fast::FixedState>;

/// All entities, with the answers and endings of the last day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Entities by key.
    pub entities: OrderedMap<EntityKey, Snapshot>,
    /// Answers by request key, oldest first.
    pub settled: OrderedMap<RequestKey, Settled>,
    /// Ended public reservations by id, oldest first.
    pub ended: OrderedMap<ReservationId, Ended>,
    /// Ledger entries that left their SKUs' memory, oldest first.
    pub spilled: Vec<LedgerChunk>,
}

impl World {
    /// Folds one entry.
    ///
    /// # Errors
    /// When the entry cannot belong to this world.
    pub fn apply(&mut self, entry: &Entry, recorded: Recorded) -> Result<(), Violation> {
        if !self.entities.contains_key(&entry.entity) {
            self.entities.insert(entry.entity.clone(), Snapshot::absent(&entry.entity));
        }
        let Some(snapshot) = self.entities.get_mut(&entry.entity) else {
            return Ok(());
        };
        let folded = snapshot.evolve(&entry.entity, &entry.event, recorded, entry.request)?;
        let forget = snapshot.is_over();
        self.remember(folded, recorded);
        if forget {
            self.entities.swap_remove(&entry.entity);
        }
        Ok(())
    }

    /// Forgets answers and endings older than [`ANSWER_MEMORY_MS`] before `now`.
    pub fn forget_before(&mut self, now: Timestamp) {
        self.settled.retain(|_, settled| settled.at.plus_ms(ANSWER_MEMORY_MS) > now);
        self.ended.retain(|_, ended| ended.at.plus_ms(ANSWER_MEMORY_MS) > now);
    }

    fn remember(&mut self, folded: Folded, recorded: Recorded) {
        for settlement in folded.settlements {
            // An open reservation answers for itself; it is remembered only once it has ended.
            if let Ok(answer) = settlement.verdict
                && !is_creation_of_reservation(&answer, settlement.request.key)
            {
                let settled =
                    Settled { fingerprint: settlement.request.fingerprint, answer, at: recorded.at };
                self.settled.insert(settlement.request.key, settled);
            }
        }
        if let Some(record) = folded.ended {
            self.ended.insert(record.id, Ended { record: *record, at: recorded.at });
        }
        if let Some(chunk) = folded.spilled {
            self.spilled.push(*chunk);
        }
    }
}

/// Whether `answer` is the creation of the reservation that `key` names: the reservation itself remembers that.
pub fn is_creation_of_reservation(answer: &Answer, key: RequestKey) -> bool {
    matches!(answer, Answer::Reservation(record) if record.id == key.reservation())
}
