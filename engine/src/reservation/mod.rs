//! A reservation over several SKUs: all of it or none (law 6), or on request what is left.
//!
//! The coordinator journals the request, has its SKUs asked one after another in SKU order, and grants in one event.
//! Asking in one global order is why two requests for the same SKUs never block each other for good. Nothing else
//! may move a coordinator's units, so a repeat of any step is a no-op. Laws: 2 (it ends exactly once), checked with 6
//! by [`Reservation::check`]. Start at [`Reservation::decide`]; the vocabulary is in this file, the guards in
//! `decide`, the only mutation in `fold`.

mod decide;
mod fold;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::answer::{Item, ReservationRecord, ReservationState, Shortage};
use crate::identity::{Fingerprint, Recorded, RequestStamp, ReservationId, Sku, Timestamp};
use crate::invariants::Violation;
use crate::mutant::{self, Mutant};
use crate::stock::RESERVATION_LIFE_MAX_MS;

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
    /// How it ended; what it was once every SKU is done too.
    ended: Option<ReservationState>,
}

impl Reservation {
    /// A coordinator that was not asked for anything yet.
    pub fn new(id: ReservationId) -> Self {
        Self {
            id,
            phase: ReservationPhase::Absent,
            requested: Vec::new(),
            granted: Vec::new(),
            partial: false,
            ttl_ms: 0,
            customer: None,
            request: None,
            granted_at: Recorded::default(),
            expires_at: Timestamp(0),
            ended: None,
        }
    }

    /// The request that made it, as long as the coordinator is remembered: an index of requests is rebuilt from it.
    pub fn request(&self) -> Option<RequestStamp> {
        self.request
    }

    /// Its id.
    pub fn id(&self) -> ReservationId {
        self.id
    }

    /// Where it stands.
    pub fn phase(&self) -> ReservationPhase {
        self.phase
    }

    /// Whom it is for, as the caller said.
    pub fn customer(&self) -> Option<&str> {
        self.customer.as_deref()
    }

    /// Whether nothing has happened to it yet.
    pub fn is_absent(&self) -> bool {
        self.phase == ReservationPhase::Absent
    }

    /// Whether it may leave memory: every SKU is done, or nothing was ever asked.
    pub fn is_finished(&self) -> bool {
        match self.phase {
            ReservationPhase::Absent | ReservationPhase::Settled => true,
            ReservationPhase::Requested
            | ReservationPhase::Refused
            | ReservationPhase::Held
            | ReservationPhase::Committed
            | ReservationPhase::Released
            | ReservationPhase::Expired => false,
        }
    }

    /// Whether units of this SKU that are held for it are to stay: it asks for them, keeps them or is about to sell them. A
    /// partial grant keeps nothing of a SKU that it left out, however long it holds the others.
    pub fn keeps_units_of(&self, sku: &Sku) -> bool {
        let items = match self.phase {
            ReservationPhase::Requested => &self.requested,
            ReservationPhase::Held | ReservationPhase::Committed => &self.granted,
            ReservationPhase::Absent
            | ReservationPhase::Refused
            | ReservationPhase::Released
            | ReservationPhase::Expired
            | ReservationPhase::Settled => return false,
        };
        items.iter().any(|item| item.sku == *sku)
    }

    /// The record as it stands, final state included; `None` until it is granted, and for ever if it was refused.
    pub fn record(&self) -> Option<ReservationRecord> {
        if self.granted.is_empty() {
            return None;
        }
        Some(ReservationRecord {
            id: self.id,
            items: self.granted.iter().cloned().collect(),
            state: self.ended.unwrap_or(ReservationState::Held),
            created_at: self.granted_at.at,
            ttl_ms: self.ttl_ms,
            expires_at: self.expires_at,
            position: self.granted_at.position,
            fingerprint: self.request.map_or(Fingerprint(0), |request| request.fingerprint),
            order: None,
        })
    }

    /// The work its phase demands of its SKUs.
    pub fn obligations(&self) -> SmallVec<[ReservationObligation; 1]> {
        match self.phase {
            ReservationPhase::Absent | ReservationPhase::Held | ReservationPhase::Settled => SmallVec::new(),
            ReservationPhase::Requested => smallvec![ReservationObligation::HoldUnits {
                items: self.requested.clone(),
                partial: self.partial,
            }],
            ReservationPhase::Committed => {
                smallvec![ReservationObligation::SellUnits(self.granted.iter().cloned().collect())]
            }
            // Whatever of the request was held before some SKU refused; the others have nothing to free.
            ReservationPhase::Refused => {
                let left_held = usize::from(mutant::active(Mutant::SkipCompensation));
                let parts = self.requested.iter().skip(left_held).cloned();
                smallvec![ReservationObligation::FreeUnits(parts.collect())]
            }
            ReservationPhase::Released | ReservationPhase::Expired => {
                smallvec![ReservationObligation::FreeUnits(self.granted.iter().cloned().collect())]
            }
        }
    }

    /// When it ends by itself; only a held one does.
    pub fn due(&self) -> Option<Timestamp> {
        (self.phase == ReservationPhase::Held).then_some(self.expires_at)
    }

    /// Checks what a coordinator alone can show: laws 2 and 6.
    pub fn check(&self) -> Result<(), Violation> {
        let broken =
            |law: u8, seen: String| Err(Violation { law, entity: format!("reservation {}", self.id), seen });
        let ended_as_phase_says = match self.phase {
            ReservationPhase::Absent
            | ReservationPhase::Requested
            | ReservationPhase::Refused
            | ReservationPhase::Held => self.ended.is_none(),
            ReservationPhase::Committed => self.ended == Some(ReservationState::Committed),
            ReservationPhase::Released => self.ended == Some(ReservationState::Released),
            ReservationPhase::Expired => self.ended == Some(ReservationState::Expired),
            ReservationPhase::Settled => self.ended.is_some() != self.granted.is_empty(),
        };
        if !ended_as_phase_says || self.ended == Some(ReservationState::Held) {
            return broken(2, format!("{:?}, ended as {:?}", self.phase, self.ended));
        }
        let asked = |sku| self.requested.iter().find(|item| &item.sku == sku).map_or(0, |item| item.quantity);
        if let Some(item) =
            self.granted.iter().find(|item| item.quantity < 1 || item.quantity > asked(&item.sku))
        {
            return broken(
                6,
                format!("{} of {} granted, {} asked", item.quantity, item.sku, asked(&item.sku)),
            );
        }
        if !self.granted.is_empty() && !self.partial && self.granted != self.requested {
            return broken(6, format!("{} of {} SKUs granted", self.granted.len(), self.requested.len()));
        }
        let latest = self.granted_at.at.plus_ms(RESERVATION_LIFE_MAX_MS.max(self.ttl_ms));
        if !self.granted.is_empty() && self.expires_at > latest {
            return broken(11, format!("held until {}, {} at most", self.expires_at.0, latest.0));
        }
        Ok(())
    }
}
