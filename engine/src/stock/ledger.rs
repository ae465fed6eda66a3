//! The part of a SKU's ledger that stays in memory: the newest entries; older ones spill in chunks.

use crate::answer::LedgerChunk;

use super::{LedgerEntry, Stock};

/// Most entries kept in memory. Beyond it the oldest [`LEDGER_SPILL`] leave for cold storage.
pub const LEDGER_KEPT_MAX: usize = 128;

/// Entries that leave together: one cold row of a few KiB rather than one row an entry.
pub const LEDGER_SPILL: usize = 64;

impl Stock {
    /// Appends an entry; returns the oldest ones once there are too many.
    pub(super) fn note(&mut self, entry: LedgerEntry) -> Option<Box<LedgerChunk>> {
        self.ledger.push(entry);
        if self.ledger.len() < LEDGER_KEPT_MAX {
            return None;
        }
        let entries = self.ledger.drain(..LEDGER_SPILL).collect();
        Some(Box::new(LedgerChunk { sku: self.sku.clone(), entries }))
    }
}
