//! Which units are held for whom: what an ending alone does not say.
//!
//! An event that ends a hold names the reservation and not its units, so somebody has to remember. In a sale most holds live
//! for a second; a row for each, made and deleted, would cost more than everything else together. So they are remembered
//! here, as many as the engine itself has open, and every few seconds what is new and still open goes to `open_holds`, with
//! the frame it reflects. Whoever begins loads that and reads the frames since again, for the holds alone.

use std::collections::HashMap;

use doorbuster_engine::identity::{ReservationId, Sku};
use doorbuster_engine::stock::StockEvent;

use super::rows::{Row, Value};

#[derive(Debug)]
struct Held {
    quantity: i64,
    /// Whether the table has it.
    stored: bool,
}

/// Open holds of all SKUs.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    by_sku: HashMap<Sku, HashMap<ReservationId, Held>>,
    /// Ended since the table was written, and still in it.
    ended: Vec<(Sku, ReservationId)>,
}

/// What goes to the table.
#[derive(Debug)]
pub(crate) struct HoldRows {
    pub(crate) begun: Vec<Row>,
    /// SKU and reservation of each that ended.
    pub(crate) ended: (Vec<String>, Vec<String>),
}

impl Holds {
    /// Takes a row of the table. `None` where it is no such row.
    pub(crate) fn load(&mut self, sku: &str, reservation: &str, quantity: i64) -> Option<()> {
        let (sku, reservation) = (Sku::new(sku).ok()?, reservation.parse().ok()?);
        self.by_sku.entry(sku).or_default().insert(reservation, Held { quantity, stored: true });
        Some(())
    }

    /// Folds one event and returns the units whose hold it ends; `Err` for a hold that nobody knows.
    pub(crate) fn fold(&mut self, sku: &Sku, event: &StockEvent) -> Result<Option<i64>, ReservationId> {
        match event {
            StockEvent::Reserved { reservation, quantity, .. }
            | StockEvent::PartHeld { reservation, quantity, .. } => {
                let held = Held { quantity: *quantity, stored: false };
                self.by_sku.entry(sku.clone()).or_default().insert(*reservation, held);
                Ok(None)
            }
            StockEvent::Committed { reservation }
            | StockEvent::Released { reservation }
            | StockEvent::Expired { reservation }
            | StockEvent::PartSold { reservation }
            | StockEvent::PartFreed { reservation } => {
                let held = self.by_sku.get_mut(sku).and_then(|holds| holds.remove(reservation));
                let held = held.ok_or(*reservation)?;
                if held.stored {
                    self.ended.push((sku.clone(), *reservation));
                }
                Ok(Some(held.quantity))
            }
            StockEvent::Defined { .. }
            | StockEvent::Redefined { .. }
            | StockEvent::Adjusted { .. }
            | StockEvent::OnHandSet { .. }
            | StockEvent::Extended { .. }
            | StockEvent::Restocked { .. } => Ok(None),
        }
    }

    /// What the table lacks, and what it has too much.
    pub(crate) fn unstored(&self) -> HoldRows {
        let begun = self.by_sku.iter().flat_map(|(sku, holds)| {
            holds.iter().filter(|(_, held)| !held.stored).map(|(reservation, held)| {
                let reservation = Value::text(&reservation.to_string());
                vec![Value::text(sku.as_str()), reservation, Value::integer(held.quantity)]
            })
        });
        let names = |(sku, reservation): &(Sku, ReservationId)| (sku.to_string(), reservation.to_string());
        HoldRows { begun: begun.collect(), ended: self.ended.iter().map(names).unzip() }
    }

    /// The table has everything now.
    pub(crate) fn mark_stored(&mut self) {
        self.ended.clear();
        self.by_sku.retain(|_, holds| !holds.is_empty());
        for held in self.by_sku.values_mut().flat_map(HashMap::values_mut) {
            held.stored = true;
        }
    }
}
