//! Units of one SKU that sagas hold but may give back within milliseconds: while a saga still asks its other SKUs.
//!
//! Whoever asks for such units waits instead of being refused, so that of two carts after the last X and the last Y
//! exactly one wins, never none. Volatile: after a crash nobody waits, and a resumed saga marks its holds again.

use doorbuster_engine::identity::ReservationId;
use doorbuster_engine::stock::Stock;

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

    /// The saga keeps, sells or frees its units: nobody need wait for it any longer. Whether anybody did until now.
    pub(crate) fn settle(&mut self, reservation: ReservationId) -> bool {
        let Some(at) = self.holds.iter().position(|held| *held == reservation) else { return false };
        self.holds.swap_remove(at);
        self.eased = true;
        true
    }

    /// Counts the units of the holds that still stand.
    pub(crate) fn measure(&mut self, stock: &Stock) {
        if self.holds.is_empty() {
            self.units = 0;
            return;
        }
        let held = |id: &ReservationId| stock.held_part(*id).unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use doorbuster_engine::identity::{Recorded, Sku};
    use doorbuster_engine::money::{Currency, Money};
    use doorbuster_engine::stock::{Definition, Home, Oversell, StockEvent};

    use super::*;

    const ONE: ReservationId = ReservationId(1);
    const TWO: ReservationId = ReservationId(2);

    fn stock(events: &[StockEvent]) -> Stock {
        let definition = Definition {
            name: "Tee".into(),
            price: Money::new(1_000, Currency::GBP),
            oversell: Oversell::Deny,
            reservation_ttl_ms: None,
            low_stock_at: None,
        };
        let mut stock = Stock::new(Sku::new("TEE").unwrap());
        stock.evolve(&StockEvent::Defined { definition, opening: 10 }, Recorded::default(), None);
        for event in events {
            stock.evolve(event, Recorded::default(), None);
        }
        stock
    }

    fn held(reservation: ReservationId, quantity: i64) -> StockEvent {
        StockEvent::PartHeld { reservation, quantity, home: Home::Order }
    }

    #[test]
    fn only_units_that_are_held_and_not_settled_may_come_back() {
        let mut tentative = Tentative::default();
        tentative.expect(ONE);
        tentative.expect(ONE);
        tentative.expect(TWO);
        for (label, events, units) in [
            ("nothing granted yet", vec![], 0),
            ("one granted, counted once", vec![held(ONE, 3)], 3),
            ("both granted", vec![held(ONE, 3), held(TWO, 4)], 7),
            ("one sold", vec![held(ONE, 3), held(TWO, 4), StockEvent::PartSold { reservation: ONE }], 4),
            ("one freed", vec![held(ONE, 3), held(TWO, 4), StockEvent::PartFreed { reservation: TWO }], 3),
        ] {
            tentative.measure(&stock(&events));
            assert_eq!(tentative.units(), units, "{label}");
        }
        assert!(tentative.settle(ONE));
        tentative.measure(&stock(&[held(ONE, 3), held(TWO, 4)]));
        assert_eq!(tentative.units(), 4, "what is settled is kept for good");
    }

    #[test]
    fn those_who_wait_hear_once_of_each_hold_that_was_settled() {
        let mut tentative = Tentative::default();
        tentative.expect(ONE);
        assert!(!tentative.take_eased());
        assert!(!tentative.settle(TWO));
        assert!(!tentative.take_eased(), "nobody waited for this one");
        assert!(tentative.settle(ONE));
        assert!(tentative.take_eased());
        assert!(!tentative.take_eased());
    }
}
