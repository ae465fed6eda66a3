//! The shadow model: the durable journal folded a second time, by rules written a second time.
//!
//! It shares the engine's words (events, answers, ids as plain data) and none of its rules: no `decide`, no `evolve`, no
//! sum of the engine's is called here. It is naive on purpose: maps by id, every version of everything kept. An event that
//! cannot follow from what was durable before it breaks a law, and [`Model::fold`] says which.
//!
//! Start at [`Model::fold`]; [`shelf`] has stock and single-SKU reservations, [`saga`] those over several SKUs, [`tentative`]
//! what those may still give back, [`basket`]
//! carts, [`purchase`] orders.

pub mod basket;
pub mod purchase;
pub mod saga;
pub mod shelf;
pub mod tentative;

use std::collections::{BTreeMap, HashMap};

use doorbuster_engine::answer::{Answer, Refusal, ReservationRecord};
use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{Fingerprint, RequestStamp, Sku};

use crate::broken::{Broken, Checked, demand};
use crate::ledger::Ledger;
use basket::Basket;
use purchase::Purchase;
use saga::Saga;
use shelf::{Part, Shelf, Single};
use tentative::Tentative;

/// How long an answer must be given again: a day.
pub const ANSWERS_KEPT_MS: u64 = 86_400_000;

/// Longest life of a reservation: a day.
pub const LIFE_MAX_MS: u64 = 86_400_000;

/// Where and when an event stands in the journal.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its place among all durable events: 1, 2, 3, …
    pub index: u64,
    /// Its number in its partition.
    pub sequence: u64,
    /// The engine's position of it.
    pub position: u64,
    /// Business time of its turn.
    pub at_ms: u64,
    /// The request journalled with it.
    pub request: Option<RequestStamp>,
}

/// All versions of something, each from the event on that made it.
#[derive(Clone, Debug)]
pub struct Past<T> {
    versions: Vec<(u64, u64, T)>,
}

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self { versions: Vec::new() }
    }
}

impl<T> Past<T> {
    /// Notes the version that an event made.
    pub fn note(&mut self, standing: Standing, version: T) {
        self.versions.push((standing.index, standing.sequence, version));
    }

    /// The newest version.
    pub fn last(&self) -> Option<&T> {
        self.versions.last().map(|(_, _, version)| version)
    }

    /// The version after the record of this sequence.
    pub fn up_to(&self, sequence: u64) -> Option<&T> {
        let after = self.versions.partition_point(|(_, made, _)| *made <= sequence);
        self.versions.get(after.checked_sub(1)?).map(|(_, _, version)| version)
    }

    /// Whether there was nothing yet after the first `index` events.
    pub fn began_after(&self, index: u64) -> bool {
        self.versions.first().is_none_or(|(from, _, _)| *from > index)
    }

    /// Every version that was current at some moment after the first `index` events.
    pub fn since(&self, index: u64) -> &[(u64, u64, T)] {
        let after = self.versions.partition_point(|(from, _, _)| *from <= index);
        &self.versions[after.saturating_sub(1)..]
    }

    /// Whether some version since then is such.
    pub fn was(&self, index: u64, mut such: impl FnMut(&T) -> bool) -> bool {
        self.since(index).iter().any(|(_, _, version)| such(version))
    }
}

/// What a key was told first.
#[derive(Clone, Debug)]
pub struct Told {
    /// Of which content.
    pub fingerprint: Fingerprint,
    /// The answer.
    pub answer: Answer,
    /// When, business time.
    pub at_ms: u64,
    /// The event that gave it, among all durable ones.
    pub index: u64,
}

/// A verdict that an event gave.
pub type Verdict = (RequestStamp, Result<Answer, Refusal>);

/// See the module's header.
#[derive(Debug, Default)]
pub struct Model {
    /// Stock by SKU.
    pub shelves: BTreeMap<Sku, Shelf>,
    /// Reservations of one SKU.
    pub singles: BTreeMap<u128, Single>,
    /// Parts of sagas by saga and SKU.
    pub parts: BTreeMap<(u128, Sku), Part>,
    /// Parts that were held for sagas that asked for nothing, and since when.
    pub strays: BTreeMap<(u128, Sku), u64>,
    /// When a saga's part was sold, business time.
    pub sold_at_ms: BTreeMap<(u128, Sku), u64>,
    /// Units that sagas may still give back.
    pub tentative: Tentative,
    /// Reservations over several SKUs.
    pub sagas: BTreeMap<u128, Saga>,
    /// Carts.
    pub carts: BTreeMap<u128, Basket>,
    /// Orders.
    pub orders: BTreeMap<u128, Purchase>,
    /// Answers by key.
    pub told: HashMap<u128, Told>,
    /// The newest refusal that an event gave to a key.
    pub refused: HashMap<u128, Refusal>,
    /// Events folded.
    pub index: u64,
    /// Business time of the newest event.
    pub last_at_ms: u64,
    sequences: HashMap<u16, u64>,
    /// Business time of each partition's newest event: no later one is earlier.
    times: HashMap<u16, u64>,
    positions: std::collections::BTreeSet<u64>,
    partition_of: HashMap<EntityKey, u16>,
}

impl Model {
    /// Folds one durable event with its record's header; says what law it breaks, if it cannot have happened.
    ///
    /// `ledger` is what the provider knows: the other side of laws 7 and 8.
    pub fn fold(
        &mut self,
        entry: &Entry,
        partition: u16,
        mut standing: Standing,
        ledger: &Ledger,
    ) -> Result<Vec<Verdict>, Broken> {
        self.index += 1;
        standing.index = self.index;
        let last = self.sequences.entry(partition).or_insert(0);
        demand(standing.sequence == *last + 1, 9, || {
            format!("record {} of partition {partition} follows record {last}", standing.sequence)
        })?;
        *last = standing.sequence;
        let last_at_ms = self.times.entry(partition).or_insert(0);
        demand(standing.at_ms >= *last_at_ms, 9, || {
            format!("a record of partition {partition} is of {}, after one of {last_at_ms}", standing.at_ms)
        })?;
        *last_at_ms = standing.at_ms;
        demand(self.positions.insert(standing.position), 9, || {
            format!("two events stand at position {}", standing.position)
        })?;
        let home = *self.partition_of.entry(entry.entity.clone()).or_insert(partition);
        demand(home == partition, 9, || {
            format!("{} is in partition {home} and in {partition}", entry.entity)
        })?;
        let verdicts = match (&entry.entity, &entry.event) {
            (EntityKey::Sku(sku), Event::Stock(event)) => self.fold_stock(sku, event, standing, ledger),
            (EntityKey::Reservation(id), Event::Reservation(event)) => self.fold_saga(id.0, event, standing),
            (EntityKey::Cart(id), Event::Cart(event)) => self.fold_cart(*id, event, standing),
            (EntityKey::Order(id), Event::Order(event)) => self.fold_order(*id, event, standing, ledger),
            _ => Err(Broken { law: 10, seen: format!("an event of another kind at {}", entry.entity) }),
        }
        .map_err(|broken| Broken {
            seen: format!("{}; by {:?} at {}", broken.seen, entry.event, standing.at_ms),
            ..broken
        })?;
        self.last_at_ms = self.last_at_ms.max(standing.at_ms);
        self.follow_tentative(entry, standing);
        for (request, verdict) in &verdicts {
            match verdict {
                Ok(answer) => self.tell(*request, answer, standing.at_ms)?,
                Err(refusal) => {
                    self.refused.insert(request.key.0, refusal.clone());
                }
            }
        }
        Ok(verdicts)
    }

    fn tell(&mut self, request: RequestStamp, answer: &Answer, at_ms: u64) -> Checked {
        let (fingerprint, answer) = (request.fingerprint, answer.clone());
        let told = Told { fingerprint, answer: answer.clone(), at_ms, index: self.index };
        if let Some(before) = self.told.insert(request.key.0, told) {
            demand(before.at_ms + ANSWERS_KEPT_MS <= at_ms, 5, || {
                format!("{} took effect twice: {:?}, then {answer:?}", request.key, before.answer)
            })?;
        }
        Ok(())
    }

    /// The last durable record of a partition.
    pub fn durable_sequence(&self, partition: u16) -> u64 {
        self.sequences.get(&partition).copied().unwrap_or(0)
    }

    /// The record of a reservation over one SKU or several, as it stands; an order's is the order's.
    pub fn reservation(&self, id: u128) -> Option<&Past<Option<ReservationRecord>>> {
        self.singles
            .get(&id)
            .map(|single| &single.past)
            .or_else(|| self.sagas.get(&id).map(|saga| &saga.past))
    }

    /// Checks what must hold between all things at any durable moment: `reserved` is what is held, law 1.
    pub fn check_sums(&self) -> Checked {
        let mut held: BTreeMap<&Sku, i64> = BTreeMap::new();
        for single in self.singles.values().filter(|single| single.is_held()) {
            *held.entry(&single.sku).or_default() += single.quantity;
        }
        for ((_, sku), part) in &self.parts {
            if let Part::Held(quantity) = part {
                *held.entry(sku).or_default() += quantity;
            }
        }
        for (sku, shelf) in &self.shelves {
            let sum = held.get(sku).copied().unwrap_or(0);
            demand(shelf.reserved == sum, 1, || format!("{sku}: reserved {}, held {sum}", shelf.reserved))?;
        }
        Ok(())
    }

    /// Whether all work has ended: what is left over, in words, and the law that wants it done.
    pub fn unfinished(&self) -> Vec<(u8, String)> {
        let mut left = Vec::new();
        for (id, saga) in &self.sagas {
            if !saga.is_over() && !saga.is_held() {
                left.push((6, format!("reservation {id:032x} is {:?}", saga.phase)));
            }
        }
        for (id, cart) in &self.carts {
            if cart.is_checking_out() {
                left.push((6, format!("cart {id:032x} is checking out")));
            }
        }
        for (id, order) in &self.orders {
            if let Some((law, what)) = order.unfinished() {
                left.push((law, format!("order {id:032x} {what}")));
            }
        }
        for ((id, sku), part) in &self.parts {
            let open = self.sagas.get(id).is_some_and(Saga::is_held)
                || self.orders.get(id).is_some_and(Purchase::is_open);
            if let Part::Held(quantity) = part
                && !open
            {
                left.push((6, format!("{quantity} of {sku} are held for {id:032x}, which is over")));
            }
        }
        left
    }
}
