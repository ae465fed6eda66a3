//! Units of one SKU that sagas hold but may give back within milliseconds: while a saga still asks its other SKUs.
//!
//! Whoever asks for such units waits instead of being refused, so that of two carts after the last X and the last Y
//! exactly one wins, never none. Volatile: after a crash nobody waits, and a resumed saga marks its holds again.

use doorbuster_engine::identity::ReservationId;
use doorbuster_engine::stock::{PartStatus, Stock};

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Tentative {
    holds: Vec<ReservationId>,
    units: i64,
    eased: bool,
}

impl Tentative {
    /// A saga asks to hold units under this reservation.
    pub(crate) fn expect(&mut self, reservation: ReservationId) {
        if !self.holds.contains(&reservation) {
            self.holds.push(reservation);
        }
    }

    /// The saga keeps, sells or frees its units: nobody need wait for it any longer.
    pub(crate) fn settle(&mut self, reservation: ReservationId) {
        if let Some(at) = self.holds.iter().position(|held| *held == reservation) {
            self.holds.swap_remove(at);
            self.eased = true;
        }
    }

    /// Counts the units of the holds that still stand.
    pub(crate) fn measure(&mut self, stock: &Stock) {
        if self.holds.is_empty() {
            self.units = 0;
            return;
        }
        let held = |id: &ReservationId| match stock.part(*id) {
            PartStatus::Held(quantity) => quantity,
            PartStatus::Absent | PartStatus::Sold | PartStatus::Freed => 0,
        };
        self.units = self.holds.iter().map(held).fold(0, i64::saturating_add);
    }

    /// Units that may come back.
    pub(crate) fn units(&self) -> i64 {
        self.units
    }

    /// Whether a hold was settled since last asked.
    pub(crate) fn take_eased(&mut self) -> bool {
        std::mem::take(&mut self.eased)
    }
}
