//! All entities of one engine, folded from one journal: what recovery, verification and rebuilds share.
//!
//! Law 10 in one type: [`World::apply`] is the only way in, and it is a pure function of the entries. It is also where a
//! replay spends its time, so it copies nothing it need not and looks everything up once.

use std::collections::VecDeque;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Folded, LedgerChunk, ReservationRecord};
use crate::cart::Cart;
use crate::event::{EntityKey, EntityRef, Event};
use crate::identity::{Fingerprint, Recorded, RequestKey, RequestStamp, ReservationId, Sku, Timestamp};
use crate::invariants::Violation;
use crate::order::Order;
use crate::reservation::Reservation;
use crate::stock::{Stock, StockEvent};

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

    /// Whether units of this SKU that are held for it as a saga's are its business: it asks for them, keeps them or is about
    /// to sell them. Whatever else is held for it goes back (law 6).
    pub fn keeps_units_of(&self, sku: &Sku) -> bool {
        match self {
            Self::Reservation(reservation) => reservation.keeps_units_of(sku),
            Self::Order(order) => order.keeps_units_of(sku),
            Self::Stock(_) | Self::Cart(_) => false,
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

/// Something to be remembered for a day. Small: a replay makes millions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memo {
    /// A request was told its answer.
    Answered {
        /// Which.
        request: RequestStamp,
        /// What it was told.
        answer: Box<Answer>,
        /// When.
        at: Timestamp,
    },
    /// A public reservation ended.
    Ended {
        /// All that is remembered of it.
        record: Box<ReservationRecord>,
        /// The keyed request that ended it, which was told the record.
        request: Option<RequestStamp>,
        /// When.
        at: Timestamp,
    },
}

impl Memo {
    /// When it happened: its day begins here.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Answered { at, .. } | Self::Ended { at, .. } => *at,
        }
    }

    /// The request that was answered, where one was.
    pub fn request(&self) -> Option<RequestStamp> {
        match self {
            Self::Answered { request, .. } => Some(*request),
            Self::Ended { request, .. } => *request,
        }
    }

    /// The answer to be kept under its key, and the ending.
    pub fn into_parts(self) -> (Option<(RequestKey, Settled)>, Option<Ended>) {
        let settled = |request: RequestStamp, answer, at| {
            (request.key, Settled { fingerprint: request.fingerprint, answer, at })
        };
        match self {
            Self::Answered { request, answer, at } => (Some(settled(request, *answer, at)), None),
            Self::Ended { record, request, at } => {
                let told =
                    request.map(|request| settled(request, Answer::Reservation((*record).clone()), at));
                (told, Some(Ended { record: *record, at }))
            }
        }
    }
}

/// Answers and endings of the last day, oldest first. Nobody looks anything up while a journal is replayed, so it is a queue
/// and not a map; in pieces, since a long one would be copied again and again while it grows.
#[derive(Clone, Debug)]
pub struct Memory {
    /// None of them is empty.
    pieces: VecDeque<VecDeque<Memo>>,
    len: usize,
    kept_max: usize,
}

/// Memos of one piece.
const PIECE_MEMOS: usize = 1_024;

impl Default for Memory {
    fn default() -> Self {
        Self::of(usize::MAX)
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Memory {}

impl Memory {
    /// An empty memory of the newest `kept_max` (law 11).
    pub fn of(kept_max: usize) -> Self {
        Self { pieces: VecDeque::new(), len: 0, kept_max }
    }

    /// Adds what has just happened; what is older than a day by then is forgotten.
    pub fn add(&mut self, memo: Memo) {
        self.forget_before(memo.at());
        if self.len >= self.kept_max {
            self.drop_oldest();
        }
        if self.len >= self.kept_max {
            return;
        }
        match self.pieces.back_mut() {
            Some(piece) if piece.len() < PIECE_MEMOS => piece.push_back(memo),
            Some(_) | None => {
                let mut piece = VecDeque::with_capacity(PIECE_MEMOS);
                piece.push_back(memo);
                self.pieces.push_back(piece);
            }
        }
        self.len = self.len.saturating_add(1);
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.pieces.front_mut() else { return };
        oldest.pop_front();
        self.len = self.len.saturating_sub(1);
        if oldest.is_empty() {
            self.pieces.pop_front();
        }
    }

    /// Forgets what is older than [`ANSWER_MEMORY_MS`] before `now`.
    pub fn forget_before(&mut self, now: Timestamp) {
        while self.iter().next().is_some_and(|memo| memo.at().plus_ms(ANSWER_MEMORY_MS) <= now) {
            self.drop_oldest();
        }
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Memo> + '_ {
        self.pieces.iter().flatten()
    }

    /// Takes all of them out, oldest first.
    pub fn take(&mut self) -> impl Iterator<Item = Memo> + use<> {
        self.len = 0;
        std::mem::take(&mut self.pieces).into_iter().flatten()
    }

    /// The same as two maps, in which a key's last answer counts: for whoever looks up.
    pub fn by_key(&self) -> (OrderedMap<RequestKey, Settled>, OrderedMap<ReservationId, Ended>) {
        let (mut answers, mut endings) = (OrderedMap::default(), OrderedMap::default());
        for memo in self.iter() {
            let (settled, ended) = memo.clone().into_parts();
            answers.extend(settled);
            endings.extend(ended.map(|ended| (ended.record.id, ended)));
        }
        (answers, endings)
    }
}

/// Map with an order that does not depend on the run.
pub type OrderedMap<K, V> = IndexMap<K, V, foldhash::fast::FixedState>;

/// All entities, with the answers and endings of the last day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Entities by key.
    pub entities: OrderedMap<EntityKey, Snapshot>,
    /// Answers and ended public reservations of the last day.
    pub memory: Memory,
    /// Ledger entries that left their SKUs' memory, oldest first.
    pub spilled: Vec<LedgerChunk>,
}

/// Which entity an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place among [`World::entities`].
    pub index: usize,
    /// Whether it ended for good: it has left, and the last entity took its place.
    pub over: bool,
}

impl World {
    /// Folds one entry.
    ///
    /// # Errors
    /// When the entry cannot belong to this world.
    pub fn apply(
        &mut self,
        entity: EntityRef<'_>,
        event: &Event,
        recorded: Recorded,
        request: Option<RequestStamp>,
    ) -> Result<Applied, Violation> {
        let index = self.entities.get_index_of(&entity);
        let index = index.unwrap_or_else(|| {
            let key = entity.to_key();
            let snapshot = Snapshot::absent(&key);
            self.entities.insert_full(key, snapshot).0
        });
        self.apply_at(index, event, recorded, request)
    }

    /// [`World::apply`] to the entity at `index`, for whoever has looked it up already.
    ///
    /// # Errors
    /// When the entry cannot belong to this world.
    pub fn apply_at(
        &mut self,
        index: usize,
        event: &Event,
        recorded: Recorded,
        request: Option<RequestStamp>,
    ) -> Result<Applied, Violation> {
        let Some((entity, snapshot)) = self.entities.get_index_mut(index) else {
            let entity = format!("entity {index}");
            return Err(Violation { law: 10, entity, seen: "there is no such entity".into() });
        };
        // The machine would make an answer that is not kept, or that the ending tells already.
        let told = Told::by(event, request);
        let asked = if told == Told::AsSaid { request } else { None };
        let mut folded = snapshot.evolve(entity, event, recorded, asked)?;
        let over = snapshot.is_over();
        if over {
            self.entities.swap_remove_index(index);
        }
        if let Some(chunk) = folded.spilled.take() {
            self.spilled.push(*chunk);
        }
        let at = recorded.at;
        if let Some(record) = folded.ended.take() {
            let request = if told == Told::AsEnded { request } else { None };
            self.memory.add(Memo::Ended { record, request, at });
        }
        for settlement in folded.settlements {
            let request = settlement.request;
            // An open reservation answers for itself; it is remembered only once it has ended.
            if let Ok(answer) = settlement.verdict
                && !is_creation_of_reservation(&answer, request.key)
            {
                self.memory.add(Memo::Answered { request, answer: Box::new(answer), at });
            }
        }
        Ok(Applied { index, over })
    }
}

/// Where a request's answer is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// In the reservation that the request made.
    ByReservation,
    /// It is the reservation as it ended.
    AsEnded,
    /// In what the machine says.
    AsSaid,
}

impl Told {
    fn by(event: &Event, request: Option<RequestStamp>) -> Self {
        match (event, request) {
            (Event::Stock(StockEvent::Reserved { reservation, .. }), Some(request))
                if request.key.reservation() == *reservation =>
            {
                Self::ByReservation
            }
            (
                Event::Stock(
                    StockEvent::Committed { .. } | StockEvent::Released { .. } | StockEvent::Expired { .. },
                ),
                Some(_),
            ) => Self::AsEnded,
            (Event::Stock(_) | Event::Reservation(_) | Event::Cart(_) | Event::Order(_), _) => Self::AsSaid,
        }
    }
}

/// Whether `answer` is the creation of the reservation that `key` names: the reservation itself remembers that.
pub fn is_creation_of_reservation(answer: &Answer, key: RequestKey) -> bool {
    matches!(answer, Answer::Reservation(record) if record.id == key.reservation())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Entry;
    use crate::identity::{Position, Sku};
    use crate::money::{Currency, Money};
    use crate::stock::{Definition, Oversell};

    /// Applies events to one SKU, and holds what the world remembers against what the machine itself would have said.
    fn both(entries: Vec<(StockEvent, Option<RequestStamp>)>) -> (World, Vec<Folded>) {
        let entity = EntityKey::Sku(Sku::new("TEE-M").unwrap());
        let (mut world, mut alone) = (World::default(), Snapshot::absent(&entity));
        let mut said = Vec::new();
        for (number, (event, request)) in (1..).zip(entries) {
            let entry = Entry { entity: entity.clone(), request, event: Event::Stock(event) };
            let recorded = Recorded { position: Position(number), at: Timestamp(1_000 * number) };
            world.apply(EntityRef::from(&entity), &entry.event, recorded, request).unwrap();
            said.push(alone.evolve(&entity, &entry.event, recorded, request).unwrap());
        }
        assert_eq!(world.entities[&entity], alone);
        (world, said)
    }

    fn history() -> Vec<(StockEvent, Option<RequestStamp>)> {
        let stamp = |n: u128| Some(RequestStamp { key: RequestKey(n), fingerprint: Fingerprint(7) });
        let definition = Definition {
            name: "T-shirt".into(),
            price: Money::new(1_999, Currency::GBP),
            oversell: Oversell::Deny,
            reservation_ttl_ms: None,
            low_stock_at: None,
        };
        let reserved = |n: u128| StockEvent::Reserved {
            reservation: ReservationId(n),
            quantity: 1,
            ttl_ms: 60_000,
            fingerprint: Fingerprint(7),
            customer: None,
            location: None,
        };
        let reservation = ReservationId;
        vec![
            (StockEvent::Defined { definition, opening: 10 }, stamp(1)),
            (reserved(2), stamp(2)),
            (reserved(3), stamp(3)),
            (reserved(4), stamp(4)),
            (StockEvent::Extended { reservation: reservation(2), expires_at: Timestamp(99_000) }, stamp(5)),
            (StockEvent::Committed { reservation: reservation(2) }, stamp(6)),
            (StockEvent::Released { reservation: reservation(3) }, stamp(7)),
            (StockEvent::Expired { reservation: reservation(4) }, None),
        ]
    }

    #[test]
    fn what_is_remembered_is_what_the_machine_says() {
        let (world, said) = both(history());
        let (answers, endings) = world.memory.by_key();
        let mut expected: Vec<(RequestKey, Answer)> = Vec::new();
        for folded in &said {
            for settlement in &folded.settlements {
                let answer = settlement.verdict.clone().unwrap();
                if !is_creation_of_reservation(&answer, settlement.request.key) {
                    expected.push((settlement.request.key, answer));
                }
            }
        }
        let remembered = answers.into_iter().map(|(key, settled)| (key, settled.answer));
        assert_eq!(remembered.collect::<Vec<_>>(), expected, "law 5");
        let ended: Vec<ReservationRecord> =
            said.into_iter().filter_map(|folded| folded.ended.map(|record| *record)).collect();
        assert_eq!(endings.into_values().map(|ended| ended.record).collect::<Vec<_>>(), ended);
        assert_eq!((expected.len(), ended.len()), (4, 3));
    }

    #[test]
    fn memory_keeps_the_newest_of_a_day_and_no_more_than_its_bound() {
        let memo = |n: u64| Memo::Answered {
            request: RequestStamp { key: RequestKey(u128::from(n)), fingerprint: Fingerprint(n) },
            answer: Box::new(Answer::CartDeleted),
            at: Timestamp(n),
        };
        let kept = |memory: &Memory| memory.iter().map(|memo| memo.at().0).collect::<Vec<_>>();
        let mut memory = Memory::of(3);
        for n in 1..=5 {
            memory.add(memo(n));
        }
        assert_eq!(kept(&memory), [3, 4, 5], "law 11");
        memory.add(memo(ANSWER_MEMORY_MS + 4));
        assert_eq!(kept(&memory), [5, ANSWER_MEMORY_MS + 4], "an answer is kept for a day");
        let mut none = Memory::of(0);
        none.add(memo(1));
        assert_eq!(kept(&none), [0_u64; 0]);
    }
}
