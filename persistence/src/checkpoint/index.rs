//! Ordered indexes: what falls due when, and orders by time.
//!
//! They lead to rows; put the index entry before the row that needs it, and a crash in between leaves at most an entry
//! that leads nowhere, which costs one look-up.

use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::OrderId;

use super::{CheckpointStore, keys};
use crate::disk::TreeBatch;
use crate::error::CheckpointError;
use crate::frame::array_at;

/// One order of the time index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    /// When it was made, milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Which.
    pub order: OrderId,
    /// A small summary, as it was put.
    pub summary: Vec<u8>,
}

impl CheckpointStore {
    /// Remembers that a cold entity must be woken at `at_ms`.
    pub fn due_put(&self, at_ms: u64, entity: &EntityKey) -> Result<(), CheckpointError> {
        self.due.insert(&keys::numbered(at_ms, &keys::entity(entity)), &[])
    }

    /// At most `count_max` entities due at or before `at_ms`, earliest first; they stay in the index.
    pub fn due_until(&self, at_ms: u64, count_max: usize) -> Result<Vec<(u64, EntityKey)>, CheckpointError> {
        let mut found = Vec::new();
        let end = at_ms.saturating_add(1).to_be_bytes();
        for entry in self.due.range(&[], Some(&end)).take(count_max) {
            let (key, _) = entry?;
            let entity = key.get(8..).and_then(keys::parse_entity);
            let entity = entity.ok_or_else(|| CheckpointError::damaged("a due time's key"))?;
            found.push((u64::from_be_bytes(array_at(&key, 0)), entity));
        }
        Ok(found)
    }

    /// Forgets due times, after their entities were woken and what came of it is durable.
    pub fn due_remove<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a (u64, EntityKey)>,
    ) -> Result<(), CheckpointError> {
        let mut batch = TreeBatch::default();
        for (at_ms, entity) in entries {
            batch.remove(keys::numbered(*at_ms, &keys::entity(entity)));
        }
        self.due.apply_batch(batch)
    }

    /// [`CheckpointStore::due_until`] and [`CheckpointStore::due_remove`] in one: for callers who wake the entities
    /// before anything can fail.
    pub fn due_take_until(
        &self,
        at_ms: u64,
        count_max: usize,
    ) -> Result<Vec<(u64, EntityKey)>, CheckpointError> {
        let found = self.due_until(at_ms, count_max)?;
        self.due_remove(&found)?;
        Ok(found)
    }

    /// Puts an order into the time index, or a newer summary in its place. `summary` stays below 24 KiB.
    pub fn order_put(
        &self,
        created_at_ms: u64,
        order: OrderId,
        summary: &[u8],
    ) -> Result<(), CheckpointError> {
        self.orders.insert(&order_key(created_at_ms, order), summary)
    }

    /// Many of [`CheckpointStore::order_put`], together.
    pub fn orders_put(&self, rows: impl IntoIterator<Item = OrderRow>) -> Result<(), CheckpointError> {
        let mut batch = TreeBatch::default();
        for row in rows {
            batch.insert(order_key(row.created_at_ms, row.order), row.summary);
        }
        self.orders.apply_batch(batch)
    }

    /// At most `count_max` orders, newest first, from just before `cursor` on (from the newest without one).
    pub fn orders_by_time(
        &self,
        cursor: Option<(u64, OrderId)>,
        count_max: usize,
    ) -> Result<Vec<OrderRow>, CheckpointError> {
        let range = match cursor {
            Some((created_at_ms, order)) => self.orders.range(&[], Some(&order_key(created_at_ms, order))),
            None => self.orders.range(&[], None),
        };
        let mut found = Vec::new();
        for entry in range.rev().take(count_max) {
            let (key, summary) = entry?;
            found.push(OrderRow {
                created_at_ms: u64::from_be_bytes(array_at(&key, 0)),
                order: OrderId(u128::from_be_bytes(array_at(&key, 8))),
                summary: summary.to_vec(),
            });
        }
        Ok(found)
    }
}

fn order_key(created_at_ms: u64, order: OrderId) -> Vec<u8> {
    keys::numbered(created_at_ms, &order.0.to_be_bytes())
}
