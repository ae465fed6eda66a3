//! A reservation over several SKUs: all of it or none (law 6), or on request what is left.
//!
//! The coordinator journals the request, has its SKUs asked one after another in SKU order, and grants in one event.
//! Asking in one global order is why two requests for the same SKUs never block each other for good. Nothing else
//! may move a coordinator's units, so a repeat of any step is a no-op. Start at [`Reservation::decide`].

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::answer::{Item, Shortage};
use crate::identity::{Recorded, RequestStamp, ReservationId, Timestamp};

/// What may be asked of a coordinator, and what its SKUs told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationCommand {
    /// Begins.
    Request {
        /// One entry a SKU (lines of one SKU are summed by the caller), 1 to 100.
        items: Vec<Item>,
        /// Time to live, in milliseconds.
        ttl_ms: u64,
        /// Whether less than asked will do.
        partial: bool,
        /// Whom it is for, opaque.
        customer: Option<String>,
    },
    /// Every SKU granted (with `partial`: at least one unit in all).
    UnitsHeld {
        /// What was granted, in the order asked, zero lines left out.
        granted: Vec<Item>,
    },
    /// Some SKU refused; the rest must be freed.
    UnitsRefused {
        /// Who could not give what.
        shortages: Vec<Shortage>,
    },
    /// Lengthens its life.
    Extend {
        /// By this much, in milliseconds.
        extend_ms: u64,
    },
    /// Sells the units.
    Commit,
    /// Gives the units back.
    Release,
    /// The timer rang.
    Expire,
    /// Every SKU has sold or freed its part.
    UnitsSettled,
    /// Reads it.
    Read,
}

/// What happened to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationEvent {
    /// It was asked for.
    Requested {
        /// One entry a SKU.
        items: Vec<Item>,
        /// Time to live, in milliseconds.
        ttl_ms: u64,
        /// Whether less than asked will do.
        partial: bool,
        /// Whom it is for.
        customer: Option<String>,
    },
    /// All units are held.
    Granted {
        /// What was granted.
        items: Vec<Item>,
    },
    /// It was refused; what was held goes back.
    Refused {
        /// Who could not give what.
        shortages: Vec<Shortage>,
    },
    /// Its life was lengthened.
    Extended {
        /// New end (exclusive).
        expires_at: Timestamp,
    },
    /// Sold.
    Committed,
    /// Given back by choice.
    Released,
    /// Given back by time.
    Expired,
    /// Every SKU is done; the coordinator can be forgotten.
    Settled,
}

/// Where a coordinator stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReservationPhase {
    /// Not asked for yet.
    Absent,
    /// SKUs are being asked.
    Requested,
    /// Refused; parts are being freed.
    Refused,
    /// All held.
    Held,
    /// Parts are being sold.
    Committed,
    /// Parts are being freed, by choice.
    Released,
    /// Parts are being freed, by time.
    Expired,
    /// Done with; remembered only by its record.
    Settled,
}

/// Work that a coordinator's state demands and that is not done yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationObligation {
    /// Ask these SKUs, one after another in SKU order.
    HoldUnits {
        /// What to ask for.
        items: Vec<Item>,
        /// Whether less will do.
        partial: bool,
    },
    /// Have every SKU sell its part.
    SellUnits(SmallVec<[Item; 4]>),
    /// Have every SKU free its part.
    FreeUnits(SmallVec<[Item; 4]>),
}

/// State of one coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    id: ReservationId,
    phase: ReservationPhase,
    requested: Vec<Item>,
    granted: Vec<Item>,
    partial: bool,
    ttl_ms: u64,
    customer: Option<String>,
    request: Option<RequestStamp>,
    granted_at: Recorded,
    expires_at: Timestamp,
}
