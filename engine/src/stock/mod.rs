//! Stock of one SKU: units on hand, units held, units sold, and the ledger of how they got there.
//!
//! Laws: 1 (conservation, nothing sold that is not sellable) and 2 (a hold ends exactly once), checked by
//! [`Stock::check`]. A hold is either a public reservation's own (it expires by itself) or one part of a saga (only
//! the saga's coordinator ends it). Reads no clock. Start at [`Stock::decide`]; the vocabulary is in this file, the
//! guards in `decide`, the only mutation in `fold`.

mod decide;
mod fold;
mod holds;
mod ledger;
mod parts;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::answer::{Item, ReservationRecord, ReservationState};
use crate::identity::{Fingerprint, OrderId, Position, Recorded, RequestKey, ReservationId, Sku, Timestamp};
use crate::invariants::Violation;
use crate::money::Money;
use crate::mutant::{self, Mutant};

pub use ledger::{LEDGER_KEPT_MAX, LEDGER_SPILL};

/// Most units one line or one reservation may ask for.
pub const QUANTITY_MAX: i64 = 1_000_000_000;

/// Most units a SKU may have: sums of a million of them still fit i64.
pub const UNITS_MAX: i64 = 1_000_000_000_000;

/// Time to live of a reservation when neither it nor its SKU names one: 10 minutes.
pub const RESERVATION_TTL_MS: u64 = 600_000;

/// Longest life of a reservation, extensions included: one day. Beyond it a hold is hoarding.
pub const RESERVATION_LIFE_MAX_MS: u64 = 86_400_000;

/// How long a restocking step is remembered, so that a repeat after a long outage does not add units twice.
const RESTOCK_MEMORY_MS: u64 = 7 * 86_400_000;

/// Restocking steps remembered however old they are.
const RESTOCKS_KEPT_MIN: usize = 16;

/// A SKU's stock, as an admin sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockView {
    /// Which SKU.
    pub sku: Sku,
    /// Opening + receipts + net adjustments.
    pub received: i64,
    /// Physical units.
    pub on_hand: i64,
    /// Units set aside.
    pub reserved: i64,
    /// `on_hand - reserved`.
    pub available: i64,
    /// `available + oversell limit`.
    pub sellable: i64,
    /// Units committed and not restocked.
    pub sold: i64,
    /// Grows by one with each change.
    pub version: u64,
}

/// One movement of a SKU's units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Where it stands among all events.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// What kind of movement.
    pub kind: LedgerKind,
    /// Change of `on_hand`.
    pub delta: i64,
    /// Why, in the caller's words.
    pub reason: Option<Box<str>>,
    /// The caller's own reference.
    pub reference: Option<Box<str>>,
    /// The reservation behind a sale.
    pub reservation: Option<ReservationId>,
}

/// Kinds of movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LedgerKind {
    /// Units the SKU was created with.
    Opening,
    /// A delta by an admin.
    Adjustment,
    /// An absolute count by an admin.
    Count,
    /// Units sold.
    Sale,
    /// Units a refund put back.
    Restock,
}

/// How far a SKU may be sold beyond what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Oversell {
    /// Not at all.
    #[default]
    Deny,
    /// By this many units at most; [`UNITS_MAX`] where the merchant named no limit.
    Allow(i64),
}

impl Oversell {
    /// Units that may be sold beyond what is there.
    pub fn limit(self) -> i64 {
        match self {
            Self::Deny => 0,
            Self::Allow(limit) => limit,
        }
    }
}

/// What the merchant says of a SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name, for people.
    pub name: Box<str>,
    /// Price of one.
    pub price: Money,
    /// How far it may be oversold.
    pub oversell: Oversell,
    /// Its own time to live for reservations, in milliseconds.
    pub reservation_ttl_ms: Option<u64>,
    /// `sellable` at or below this reads as `low_stock`.
    pub low_stock_at: Option<i64>,
}

/// Who coordinates a part that is held here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Home {
    /// A reservation over several SKUs, of the same id as the part.
    Reservation,
    /// An order, of the same bits as the part.
    Order,
}

/// What may be asked of a SKU's stock. The first six come from callers, the rest are steps of sagas and timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StockCommand {
    /// Makes the SKU, or changes what is said of it.
    Define {
        /// What it is.
        definition: Definition,
        /// Units it begins with; counts only at creation.
        opening: Option<i64>,
    },
    /// Adds or takes units.
    Adjust {
        /// Change of `on_hand`, not zero.
        delta: i64,
        /// Why.
        reason: Box<str>,
        /// The caller's own reference.
        reference: Option<Box<str>>,
    },
    /// Sets what is there to a counted figure.
    SetOnHand {
        /// Units counted.
        on_hand: i64,
        /// Why.
        reason: Box<str>,
        /// The version the count is based on.
        expected_version: u64,
    },
    /// Holds units for a public reservation of this one SKU.
    Reserve(Reserve),
    /// Lengthens a reservation's life.
    Extend {
        /// Which.
        reservation: ReservationId,
        /// By this much, in milliseconds, 1 or more.
        extend_ms: u64,
    },
    /// Sells a reservation's units.
    Commit {
        /// Which.
        reservation: ReservationId,
    },
    /// Gives a reservation's units back.
    Release {
        /// Which.
        reservation: ReservationId,
    },
    /// The reservation's timer rang.
    Expire {
        /// Which.
        reservation: ReservationId,
    },
    /// Holds units as one part of a saga. A repeat is a no-op.
    HoldPart {
        /// The saga's reservation.
        reservation: ReservationId,
        /// How many.
        quantity: i64,
        /// Whether fewer will do.
        partial: bool,
        /// Who coordinates.
        home: Home,
    },
    /// Sells a held part. A repeat is a no-op, and so is one that is older than the part.
    SellPart {
        /// The saga's reservation.
        reservation: ReservationId,
        /// Where the journal stood when the saga decided it.
        as_of: Position,
    },
    /// Gives a held part back. A repeat is a no-op, and so is one of what was never held, or is older than the part.
    FreePart {
        /// The saga's reservation.
        reservation: ReservationId,
        /// Where the journal stood when the saga decided it.
        as_of: Position,
    },
    /// Moves units from `sold` back to `on_hand`. A repeat of the same step is a no-op.
    Restock {
        /// The refund that does it.
        step: u128,
        /// How many.
        quantity: i64,
        /// Whose units.
        order: OrderId,
    },
}

/// A public reservation of one SKU, as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Its id, from the request's key.
    pub reservation: ReservationId,
    /// How many, 1 to [`QUANTITY_MAX`].
    pub quantity: i64,
    /// Time to live; absent: the SKU's, else [`RESERVATION_TTL_MS`].
    pub ttl_ms: Option<u64>,
    /// Whether fewer will do.
    pub partial: bool,
    /// Whom it is for, opaque.
    pub customer: Option<Box<str>>,
}

/// What happened to a SKU's stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockEvent {
    /// It was made, with its opening stock.
    Defined {
        /// What it is.
        definition: Definition,
        /// Units it begins with.
        opening: i64,
    },
    /// What is said of it changed.
    Redefined {
        /// What it is now.
        definition: Definition,
    },
    /// Units were added or taken.
    Adjusted {
        /// Change of `on_hand`.
        delta: i64,
        /// Why.
        reason: Box<str>,
        /// The caller's own reference.
        reference: Option<Box<str>>,
        /// Where the units are, opaque; for warehouses to come.
        location: Option<Box<str>>,
    },
    /// What is there was set to a counted figure.
    OnHandSet {
        /// Units counted.
        on_hand: i64,
        /// Why.
        reason: Box<str>,
    },
    /// Units were held for a public reservation.
    Reserved {
        /// Which.
        reservation: ReservationId,
        /// How many.
        quantity: i64,
        /// Time to live, in milliseconds.
        ttl_ms: u64,
        /// Body hash of the request, so that a key reused for something else is caught.
        fingerprint: Fingerprint,
        /// Whom it is for.
        customer: Option<Box<str>>,
        /// Where the units are, opaque; for warehouses to come.
        location: Option<Box<str>>,
    },
    /// A reservation's life was lengthened.
    Extended {
        /// Which.
        reservation: ReservationId,
        /// New end (exclusive).
        expires_at: Timestamp,
    },
    /// A reservation's units were sold.
    Committed {
        /// Which.
        reservation: ReservationId,
    },
    /// A reservation's units went back by choice.
    Released {
        /// Which.
        reservation: ReservationId,
    },
    /// A reservation's units went back by time.
    Expired {
        /// Which.
        reservation: ReservationId,
    },
    /// Units were held as a part of a saga.
    PartHeld {
        /// The saga's reservation.
        reservation: ReservationId,
        /// How many.
        quantity: i64,
        /// Who coordinates.
        home: Home,
    },
    /// A part's units were sold.
    PartSold {
        /// The saga's reservation.
        reservation: ReservationId,
    },
    /// A part's units went back.
    PartFreed {
        /// The saga's reservation.
        reservation: ReservationId,
    },
    /// Units went from `sold` back to `on_hand`.
    Restocked {
        /// The refund that did it.
        step: u128,
        /// How many.
        quantity: i64,
        /// Whose units.
        order: OrderId,
    },
}

/// Units set aside under one reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    quantity: i64,
    ttl_ms: u64,
    created_at: Timestamp,
    expires_at: Timestamp,
    position: Position,
    fingerprint: Fingerprint,
    /// `None` for a public reservation's own hold.
    home: Option<Home>,
}

/// How a saga's part stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PartStatus {
    /// Never held, or ended too long ago to be remembered.
    Absent,
    /// Held, so many units.
    Held(i64),
    /// Sold.
    Sold,
    /// Given back.
    Freed,
}

/// State of one SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    sku: Sku,
    definition: Option<Box<Definition>>,
    opening: i64,
    opened: Recorded,
    received: i64,
    on_hand: i64,
    reserved: i64,
    sold: i64,
    version: u64,
    holds: holds::Holds,
    ended_parts: parts::EndedParts,
    restocked: VecDeque<(u128, Timestamp)>,
    ledger: Vec<LedgerEntry>,
}

impl Stock {
    /// A SKU nobody has defined yet.
    pub fn new(sku: Sku) -> Self {
        Self {
            sku,
            definition: None,
            opening: 0,
            opened: Recorded::default(),
            received: 0,
            on_hand: 0,
            reserved: 0,
            sold: 0,
            version: 0,
            holds: holds::Holds::default(),
            ended_parts: parts::EndedParts::default(),
            restocked: VecDeque::new(),
            ledger: Vec::new(),
        }
    }

    /// Which SKU this is.
    pub fn sku(&self) -> &Sku {
        &self.sku
    }

    /// Whether nobody has defined it yet.
    pub fn is_absent(&self) -> bool {
        self.definition.is_none()
    }

    /// What the merchant says of it.
    pub fn definition(&self) -> Option<&Definition> {
        self.definition.as_deref()
    }

    /// Grows by one with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Units on hand that nobody holds; negative only under an oversell limit.
    pub fn available(&self) -> i64 {
        self.on_hand.saturating_sub(self.reserved)
    }

    /// Units that may be promised now: available plus the oversell limit.
    pub fn sellable(&self) -> i64 {
        let limit = self.definition.as_ref().map_or(0, |definition| definition.oversell.limit());
        self.available().saturating_add(limit)
    }

    /// Reservations held now.
    pub fn open_reservations(&self) -> usize {
        self.holds.len()
    }

    /// The stock as an admin sees it.
    pub fn view(&self) -> StockView {
        StockView {
            sku: self.sku.clone(),
            received: self.received,
            on_hand: self.on_hand,
            reserved: self.reserved,
            available: self.available(),
            sellable: self.sellable(),
            sold: self.sold,
            version: self.version,
        }
    }

    /// A public reservation held here.
    pub fn reservation(&self, id: ReservationId) -> Option<ReservationRecord> {
        let hold = self.holds.get(&id).filter(|hold| hold.home.is_none())?;
        Some(self.record(id, hold, ReservationState::Held))
    }

    /// Units held here for a saga.
    pub fn held_part(&self, id: ReservationId) -> Option<i64> {
        self.holds.get(&id).filter(|hold| hold.home.is_some()).map(|hold| hold.quantity)
    }

    /// How a saga's part stands here. One that ended is remembered for ten seconds.
    pub fn part(&self, id: ReservationId, now: Timestamp) -> PartStatus {
        match self.holds.get(&id) {
            Some(hold) if hold.home.is_some() => PartStatus::Held(hold.quantity),
            // A public reservation's own hold is nobody's part.
            Some(_) => PartStatus::Absent,
            None => self.ended_parts.get(id, now).unwrap_or(PartStatus::Absent),
        }
    }

    /// Whether a part is held here that was not yet held when the journal stood at `as_of`. A step decided then is a late
    /// copy: what it ends has ended, and this part belongs to a later attempt under the same key (law 8).
    pub fn holds_since(&self, id: ReservationId, as_of: Position) -> bool {
        self.holds.get(&id).is_some_and(|hold| hold.home.is_some() && hold.position >= as_of)
    }

    /// Every part held here for a saga, and what coordinates it.
    pub fn parts(&self) -> impl Iterator<Item = (ReservationId, Home)> + '_ {
        self.holds.iter().filter_map(|(id, hold)| Some((*id, hold.home?)))
    }

    /// Every public reservation held here with its request's key and body hash, and when it ends: what an index and a
    /// timer are rebuilt from.
    pub fn reservations(&self) -> impl Iterator<Item = (RequestKey, Fingerprint, Timestamp)> + '_ {
        self.holds
            .iter()
            .filter(|(_, hold)| hold.home.is_none())
            .map(|(id, hold)| (id.request_key(), hold.fingerprint, hold.expires_at))
    }

    /// Every part of a saga held here, with the kind of its coordinator.
    pub fn held_parts(&self) -> impl Iterator<Item = (ReservationId, Home)> + '_ {
        self.holds.iter().filter_map(|(id, hold)| Some((*id, hold.home?)))
    }

    /// Ledger entries kept in memory, newest first; the opening is the last when nothing was spilled before it.
    pub fn recent_ledger(&self) -> Vec<LedgerEntry> {
        self.ledger.iter().rev().cloned().collect()
    }

    /// The first entry of every ledger: the units the SKU was created with.
    pub fn opening_entry(&self) -> LedgerEntry {
        LedgerEntry {
            position: self.opened.position,
            at: self.opened.at,
            kind: LedgerKind::Opening,
            delta: self.opening,
            reason: None,
            reference: None,
            reservation: None,
        }
    }

    /// Checks laws 1 and 2 as far as one SKU can show them.
    pub fn check(&self) -> Result<(), Violation> {
        let broken = |law, seen: String| Err(Violation { law, entity: format!("sku {}", self.sku), seen });
        if mutant::active(Mutant::OversellByOne) {
            return Ok(());
        }
        let limit = self.definition.as_ref().map_or(0, |definition| definition.oversell.limit());
        if self.on_hand.checked_add(self.sold) != Some(self.received) {
            return broken(
                1,
                format!("received {} is not on_hand {} + sold {}", self.received, self.on_hand, self.sold),
            );
        }
        if self.sellable() < 0 {
            return broken(1, format!("sellable is {}", self.sellable()));
        }
        if self.reserved < 0 || self.sold < 0 || (limit == 0 && (self.on_hand < 0 || self.available() < 0)) {
            return broken(
                1,
                format!("negative: on_hand {} reserved {} sold {}", self.on_hand, self.reserved, self.sold),
            );
        }
        Ok(())
    }

    /// Checks that `reserved` is the sum of the holds (law 1). Walks all of them, so it is for verification, not for
    /// every turn.
    pub fn check_holds(&self) -> Result<(), Violation> {
        let sum: i128 = self.holds.iter().map(|(_, hold)| i128::from(hold.quantity)).sum();
        if sum != i128::from(self.reserved) {
            let seen =
                format!("reserved {} is not the sum {sum} of {} holds", self.reserved, self.holds.len());
            return Err(Violation { law: 1, entity: format!("sku {}", self.sku), seen });
        }
        Ok(())
    }

    fn record(&self, id: ReservationId, hold: &Hold, state: ReservationState) -> ReservationRecord {
        ReservationRecord {
            id,
            items: smallvec::smallvec![Item { sku: self.sku.clone(), quantity: hold.quantity }],
            state,
            created_at: hold.created_at,
            ttl_ms: hold.ttl_ms,
            expires_at: hold.expires_at,
            position: hold.position,
            fingerprint: hold.fingerprint,
            order: match hold.home {
                Some(Home::Order) => Some(OrderId(id.0)),
                Some(Home::Reservation) | None => None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
