//! Calls on SKUs and their stock.

use std::collections::BTreeMap;
use std::sync::Arc;

use doorbuster_engine::answer::{LedgerChunk, Missing, Refusal};
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{Position, Sku};
use doorbuster_engine::stock::{Definition, LedgerEntry, Stock, StockCommand, StockView};
use doorbuster_engine::world::Snapshot;
use doorbuster_persistence::codec::decode_stored;

use crate::engine::Engine;
use crate::message::Seen;
use crate::types::{LedgerPage, Page, Ticket, Verdict};

/// Ledger pages read from cold storage at a time: each holds 64 entries, so two fill the largest page.
const CHUNKS: usize = 3;

impl Engine {
    /// Makes a SKU, or changes what is said of it. `opening` counts only when it is new.
    pub async fn define_sku(
        &self,
        ticket: Ticket,
        sku: Sku,
        definition: Definition,
        opening: Option<i64>,
    ) -> Verdict {
        self.check_open()?;
        let card = self.shared.catalogue.card(sku.as_str());
        let command = Command::Stock(StockCommand::Define { definition, opening });
        self.ask(EntityKey::Sku(sku), command, ticket, card).await
    }

    /// Adds or takes units.
    pub async fn adjust(
        &self,
        ticket: Ticket,
        sku: Sku,
        delta: i64,
        reason: String,
        reference: Option<String>,
    ) -> Verdict {
        let (reason, reference) = (reason.into(), reference.map(Into::into));
        self.ask_sku(ticket, sku, StockCommand::Adjust { delta, reason, reference }).await
    }

    /// Sets what is there to a counted figure, based on a version.
    pub async fn set_stock(
        &self,
        ticket: Ticket,
        sku: Sku,
        on_hand: i64,
        reason: String,
        expected_version: u64,
    ) -> Verdict {
        let command = StockCommand::SetOnHand { on_hand, reason: reason.into(), expected_version };
        self.ask_sku(ticket, sku, command).await
    }

    /// A SKU's stock.
    pub async fn stock(&self, sku: Sku) -> Result<StockView, Refusal> {
        let missing = sku.clone();
        let view = self.query(EntityKey::Sku(sku), |seen| stock_of(seen).map(Stock::view)).await?;
        view.ok_or(Refusal::NotFound(Missing::Skus(vec![missing])))
    }

    /// A SKU's ledger, newest first, from just before `before` on.
    pub async fn ledger(
        &self,
        sku: Sku,
        before: Option<Position>,
        limit: usize,
    ) -> Result<LedgerPage, Refusal> {
        let before = before.unwrap_or(Position(u64::MAX));
        let recent = self.query(EntityKey::Sku(sku.clone()), move |seen| {
            let stock = stock_of(seen)?;
            Some((stock.recent_ledger(), stock.opening_entry()))
        });
        let Some((recent, opening)) = recent.await? else {
            return Err(Refusal::NotFound(Missing::Skus(vec![sku])));
        };
        let oldest_recent = recent.last().map_or(Position(u64::MAX), |entry| entry.position);
        let mut found: Vec<LedgerEntry> =
            recent.into_iter().filter(|entry| entry.position < before).collect();
        // One more than asked tells whether there is a next page.
        let wanted = limit.saturating_add(1);
        let mut below = before.min(oldest_recent);
        while found.len() < wanted {
            let chunks = self.cold_ledger(&sku, below).await?;
            let Some(oldest) =
                chunks.last().and_then(|chunk| chunk.entries.first()).map(|entry| entry.position)
            else {
                break;
            };
            let older = chunks.iter().flat_map(|chunk| chunk.entries.iter().rev());
            found.extend(older.filter(|entry| entry.position < below).cloned());
            below = oldest;
        }
        if found.len() < wanted && opening.position < before {
            found.push(opening);
        }
        let more = found.len() > limit;
        found.truncate(limit);
        debug_assert!(found.windows(2).all(|pair| matches!(pair, [a, b] if a.position > b.position)));
        let next_cursor = if more { found.last().map(|entry| entry.position.to_string()) } else { None };
        Ok(Page { data: found, next_cursor })
    }

    async fn cold_ledger(&self, sku: &Sku, below: Position) -> Result<Vec<LedgerChunk>, Refusal> {
        let (shared, sku) = (Arc::clone(&self.shared), sku.clone());
        let read = self.shared.blocking(move || {
            let mut pages = BTreeMap::new();
            for page in shared.pages.between(&sku, below).ok()? {
                pages.insert(page.entries.first()?.position, LedgerChunk::clone(&page));
            }
            for (first, bytes) in shared.store.get().ok()?.ledger_scan_back(&sku, below.0, CHUNKS).ok()? {
                pages.insert(Position(first), decode_stored(&bytes).ok()?);
            }
            Some(pages.into_values().rev().take(CHUNKS).collect::<Vec<_>>())
        });
        match read.await {
            Some(Some(chunks)) => Ok(chunks),
            Some(None) | None => {
                tracing::error!(
                    "a ledger page cannot be read from the checkpoint; restart to rebuild it from the journal"
                );
                Err(Refusal::Recovering { retry_after_ms: 10_000 })
            }
        }
    }

    async fn ask_sku(&self, ticket: Ticket, sku: Sku, command: StockCommand) -> Verdict {
        self.check_open()?;
        let Some(card) = self.shared.catalogue.card(sku.as_str()) else {
            return Err(Refusal::NotFound(Missing::Skus(vec![sku])));
        };
        self.ask(EntityKey::Sku(sku), Command::Stock(command), ticket, Some(card)).await
    }
}

fn stock_of(seen: Option<Seen<'_>>) -> Option<&Stock> {
    match seen?.snapshot {
        Snapshot::Stock(stock) if !stock.is_absent() => Some(stock),
        Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_) | Snapshot::Order(_) => None,
    }
}
