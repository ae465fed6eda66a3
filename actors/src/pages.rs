//! Ledger pages between a SKU's memory and the store: whoever reads the ledger finds them here meanwhile (law 3).
//!
//! A page leaves its SKU's memory before the journal has it; the store takes it later, and after a failed round much later.
//! It stays here until a mark proves that the store has it for good. Without this a reader in between would be shown a
//! ledger with a hole. Start at [`Pages::between`].

use std::collections::BTreeMap;
use std::sync::Arc;

use doorbuster_engine::answer::LedgerChunk;
use doorbuster_engine::identity::{Position, Sku};
use parking_lot::Mutex;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By SKU and first position.
    pages: BTreeMap<(Sku, Position), Arc<LedgerChunk>>,
    /// Some never reach the store of this run, and are not here either.
    lost: bool,
}

/// Pages were dropped for want of memory while the store took nothing; the next start has them.
#[derive(Debug)]
pub(crate) struct Lost;

impl Pages {
    /// A page left its SKU's memory.
    pub(crate) fn left_memory(&self, page: &Arc<LedgerChunk>) {
        let mut waiting = self.waiting.lock();
        if let (Some(first), false) = (page.entries.first(), waiting.lost) {
            waiting.pages.insert((page.sku.clone(), first.position), Arc::clone(page));
        }
    }

    /// The store has it.
    pub(crate) fn is_stored(&self, page: &LedgerChunk) {
        if let Some(first) = page.entries.first() {
            self.waiting.lock().pages.remove(&(page.sku.clone(), first.position));
        }
    }

    /// The store takes none any more in this run (law 11: they do not pile up here instead).
    pub(crate) fn lose(&self) {
        *self.waiting.lock() = Waiting { pages: BTreeMap::new(), lost: true };
    }

    /// A SKU's pages on their way that begin before a position, oldest first. To be asked before the store: a page that
    /// has just left here is there.
    pub(crate) fn between(&self, sku: &Sku, below: Position) -> Result<Vec<Arc<LedgerChunk>>, Lost> {
        let waiting = self.waiting.lock();
        if waiting.lost {
            return Err(Lost);
        }
        let pages = waiting.pages.range((sku.clone(), Position(0))..(sku.clone(), below));
        Ok(pages.map(|(_, page)| Arc::clone(page)).collect())
    }
}
