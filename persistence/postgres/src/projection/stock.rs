//! SKUs, their stock and its ledger, folded over the rows a batch touches.

use std::collections::BTreeMap;

use doorbuster_engine::identity::{Recorded, Sku};
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};

use super::error::ProjectionError;
use super::holds::Holds;
use super::rows::{Row, Value};
use super::store::Changes;
use super::tables::{SKUS, STOCK_LEDGER, STOCK_LEVELS};

/// A SKU's stock.
#[derive(Clone, Debug, Default)]
struct Level {
    received: i64,
    on_hand: i64,
    reserved: i64,
    sold: i64,
    version: i64,
    changed_at: u64,
}

/// A SKU under the batch.
#[derive(Debug, Default)]
struct Known {
    /// Its row of the catalogue, last two columns apart.
    card: Row,
    created_at: u64,
    defined_at: u64,
    level: Level,
    /// Whether the tables have it.
    stored: bool,
    is_redefined: bool,
}

/// The SKUs of one batch.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    skus: BTreeMap<Sku, Known>,
    ledger: Vec<Row>,
}

impl Shelf {
    /// Takes a row of `skus` with one of `stock_levels` behind it, in their tables' order.
    pub(crate) fn load(&mut self, row: &[Value]) {
        let (card, level) = row.split_at(SKUS.columns.len());
        let Some(Ok(sku)) = card[0].as_text().map(Sku::new) else { return };
        let known = Known {
            created_at: card[8].as_time().unwrap_or(0),
            defined_at: card[9].as_time().unwrap_or(0),
            card: card[..8].to_vec(),
            level: Level {
                received: level[1].as_integer(),
                on_hand: level[2].as_integer(),
                reserved: level[3].as_integer(),
                sold: level[4].as_integer(),
                version: level[5].as_integer(),
                changed_at: level[6].as_time().unwrap_or(0),
            },
            stored: true,
            is_redefined: false,
        };
        self.skus.insert(sku, known);
    }

    pub(crate) fn fold(
        &mut self,
        sku: &Sku,
        event: &StockEvent,
        recorded: Recorded,
        holds: &mut Holds,
    ) -> Result<(), ProjectionError> {
        let position = recorded.position.0;
        let unknown = |what: String| ProjectionError::Inconsistent { position, what };
        let ended = holds
            .fold(sku, event)
            .map_err(|id| unknown(format!("{id} ends at sku {sku}, where it holds nothing")))?;
        if let StockEvent::Defined { definition, opening } = event {
            let level = Level { received: *opening, on_hand: *opening, ..Level::default() };
            let at = recorded.at.0;
            let known = Known { level, created_at: at, defined_at: at, ..Known::default() };
            let known = Known { card: card(sku, definition), ..known };
            if self.skus.insert(sku.clone(), known).is_some() {
                return Err(unknown(format!("sku {sku} is made twice")));
            }
            self.note(sku, recorded, "opening", *opening, [None, None, None]);
        }
        let Some(known) = self.skus.get_mut(sku) else {
            return Err(unknown(format!("there is no sku {sku}")));
        };
        let level = &mut known.level;
        level.version += 1;
        level.changed_at = recorded.at.0;
        let quantity = ended.unwrap_or(0);
        match event {
            StockEvent::Defined { .. } | StockEvent::Extended { .. } => {}
            StockEvent::Redefined { definition } => {
                known.card = card(sku, definition);
                known.defined_at = recorded.at.0;
                known.is_redefined = true;
            }
            StockEvent::Adjusted { delta, reason, reference, .. } => {
                level.received += delta;
                level.on_hand += delta;
                self.note(sku, recorded, "adjustment", *delta, [Some(reason), reference.as_deref(), None]);
            }
            StockEvent::OnHandSet { on_hand, reason } => {
                let delta = on_hand - level.on_hand;
                level.received += delta;
                level.on_hand = *on_hand;
                self.note(sku, recorded, "count", delta, [Some(reason), None, None]);
            }
            StockEvent::Reserved { quantity, .. } | StockEvent::PartHeld { quantity, .. } => {
                level.reserved += quantity;
            }
            StockEvent::Released { .. } | StockEvent::Expired { .. } | StockEvent::PartFreed { .. } => {
                level.reserved -= quantity;
            }
            StockEvent::Committed { reservation } | StockEvent::PartSold { reservation } => {
                level.reserved -= quantity;
                level.on_hand -= quantity;
                level.sold += quantity;
                let reservation = reservation.to_string();
                self.note(sku, recorded, "sale", -quantity, [None, None, Some(&reservation)]);
            }
            StockEvent::Restocked { quantity, order, .. } => {
                level.sold -= quantity;
                level.on_hand += quantity;
                let (reference, reservation) = (order.to_string(), order.reservation().to_string());
                let told = [Some("refund"), Some(reference.as_str()), Some(reservation.as_str())];
                self.note(sku, recorded, "restock", *quantity, told);
            }
        }
        Ok(())
    }

    fn note(&mut self, sku: &Sku, recorded: Recorded, kind: &str, delta: i64, told: [Option<&str>; 3]) {
        let [reason, reference, reservation] = told.map(Value::maybe);
        self.ledger.push(vec![
            Value::count(recorded.position.0),
            Value::text(sku.as_str()),
            Value::time(recorded.at.0),
            Value::text(kind),
            Value::integer(delta),
            reason,
            reference,
            reservation,
        ]);
    }

    /// What changed, as rows.
    pub(crate) fn finish(self, changes: &mut Changes) {
        for (sku, known) in self.skus {
            let mut card = known.card;
            card.extend([Value::time(known.created_at), Value::time(known.defined_at)]);
            let level = known.level;
            let level = vec![
                Value::text(sku.as_str()),
                Value::integer(level.received),
                Value::integer(level.on_hand),
                Value::integer(level.reserved),
                Value::integer(level.sold),
                Value::integer(level.version),
                Value::time(level.changed_at),
            ];
            if !known.stored {
                changes.insert(&SKUS, card);
                changes.insert(&STOCK_LEVELS, level);
                continue;
            }
            if known.is_redefined {
                changes.update(&SKUS, card);
            }
            changes.update(&STOCK_LEVELS, level);
        }
        for row in self.ledger {
            changes.insert(&STOCK_LEDGER, row);
        }
    }
}

/// The first eight columns of a SKU's row.
fn card(sku: &Sku, definition: &Definition) -> Row {
    let (policy, limit) = match definition.oversell {
        Oversell::Deny => ("deny", 0),
        Oversell::Allow(limit) => ("allow", limit),
    };
    let ttl = definition.reservation_ttl_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
    vec![
        Value::text(sku.as_str()),
        Value::text(&definition.name),
        Value::integer(definition.price.amount),
        Value::text(definition.price.currency.code()),
        Value::text(policy),
        Value::integer(limit),
        Value::Integer(ttl),
        Value::Integer(definition.low_stock_at),
    ]
}
