//! The catalogue as anybody may read it: every SKU's name, price and latest snapshot, without asking its actor.
//!
//! Each SKU publishes `(sellable, tentative, version)` into its card at the end of every turn that changed it; reads and
//! "sold out" are answered from there on any thread (law 11). A snapshot may be a flush ahead of the disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arc_swap::ArcSwap;
use crossbeam_utils::atomic::AtomicCell;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::stock::{Definition, Stock, UNITS_MAX};
use parking_lot::RwLock;

use crate::types::{AvailabilityState, Page, SkuSnapshot};

/// Figures of one SKU at the end of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Units that can be promised now.
    pub(crate) sellable: i64,
    /// Units on hand that nobody holds.
    pub(crate) available: i64,
    /// Units held by sagas that may still give them back at once; no end of them while the SKU's actor is being rebuilt.
    pub(crate) tentative: i64,
    /// The stock's version.
    pub(crate) version: u64,
}

/// One SKU's card.
#[derive(Debug)]
pub(crate) struct Card {
    sku: Sku,
    definition: ArcSwap<Said>,
    figures: AtomicCell<Figures>,
    /// Messages on their way to the SKU's actor: its part of admission.
    pub(crate) waiting: AtomicU32,
}

#[derive(Debug)]
struct Said {
    name: Arc<str>,
    definition: Definition,
}

impl Figures {
    /// Units that can be promised now or may be in a moment: whoever wants more is refused without asking the SKU.
    pub(crate) fn within_reach(&self) -> i64 {
        self.sellable.saturating_add(self.tentative)
    }
}

impl Card {
    /// The latest figures.
    pub(crate) fn figures(&self) -> Figures {
        self.figures.load()
    }

    /// The SKU's actor was lost in a turn that may have moved units: until it is back and publishes, nobody is refused by
    /// what the card last said (law 4).
    pub(crate) fn doubt(&self) {
        self.figures.store(Figures { tentative: UNITS_MAX, ..self.figures.load() });
    }

    /// The SKU's own time to live for reservations.
    pub(crate) fn reservation_ttl_ms(&self) -> Option<u64> {
        self.definition.load().definition.reservation_ttl_ms
    }

    /// The SKU as anybody may see it.
    pub(crate) fn snapshot(&self) -> SkuSnapshot {
        let said = self.definition.load();
        let figures = self.figures.load();
        SkuSnapshot {
            sku: self.sku.clone(),
            name: Arc::clone(&said.name),
            price: said.definition.price,
            sellable: figures.sellable.max(0),
            state: state_of(figures, &said.definition),
            version: figures.version,
        }
    }
}

fn state_of(figures: Figures, definition: &Definition) -> AvailabilityState {
    if figures.sellable <= 0 {
        AvailabilityState::SoldOut
    } else if figures.available <= 0 {
        AvailabilityState::Backorder
    } else if definition.low_stock_at.is_some_and(|mark| figures.sellable <= mark) {
        AvailabilityState::LowStock
    } else {
        AvailabilityState::InStock
    }
}

/// All cards: found without a lock by SKU, listed in SKU order.
#[derive(Debug, Default)]
pub struct Catalogue {
    cards: papaya::HashMap<Sku, Arc<Card>, foldhash::fast::RandomState>,
    listed: RwLock<BTreeMap<Sku, Arc<Card>>>,
}

impl Catalogue {
    /// A SKU as anybody may see it.
    pub fn get(&self, sku: &str) -> Option<SkuSnapshot> {
        self.card(sku).map(|card| card.snapshot())
    }

    /// SKUs in order after `after`; with `in_stock`, only those that can (or cannot) be sold now.
    pub fn page(&self, after: Option<&str>, limit: usize, in_stock: Option<bool>) -> Page<SkuSnapshot> {
        let listed = self.listed.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut data = Vec::with_capacity(limit);
        let mut more = false;
        for card in listed.range::<str, _>((start, Bound::Unbounded)).map(|(_, card)| card) {
            let snapshot = card.snapshot();
            if in_stock.is_some_and(|wanted| wanted != (snapshot.sellable > 0)) {
                continue;
            }
            if data.len() == limit {
                more = true;
                break;
            }
            data.push(snapshot);
        }
        let next_cursor = if more { data.last().map(|last| last.sku.to_string()) } else { None };
        Page { data, next_cursor }
    }

    /// How many SKUs there are.
    pub fn len(&self) -> usize {
        self.cards.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn card(&self, sku: &str) -> Option<Arc<Card>> {
        self.cards.pin().get(sku).cloned()
    }

    /// Publishes a SKU's state at the end of a turn; makes its card at the first.
    pub(crate) fn publish(
        &self,
        card: Option<&Arc<Card>>,
        stock: &Stock,
        tentative: i64,
        redefined: bool,
    ) -> Option<Arc<Card>> {
        let definition = stock.definition()?;
        let figures = Figures {
            sellable: stock.sellable(),
            available: stock.available(),
            tentative,
            version: stock.version(),
        };
        if let Some(card) = card {
            card.figures.store(figures);
            if redefined {
                card.definition.store(Arc::new(said(definition)));
            }
            return Some(Arc::clone(card));
        }
        let card = Arc::new(Card {
            sku: stock.sku().clone(),
            definition: ArcSwap::from_pointee(said(definition)),
            figures: AtomicCell::new(figures),
            waiting: AtomicU32::new(0),
        });
        self.listed.write().insert(card.sku.clone(), Arc::clone(&card));
        self.cards.pin().insert(card.sku.clone(), Arc::clone(&card));
        Some(card)
    }
}

fn said(definition: &Definition) -> Said {
    Said { name: Arc::from(&*definition.name), definition: definition.clone() }
}

#[cfg(test)]
mod tests {
    use doorbuster_engine::identity::Recorded;
    use doorbuster_engine::money::{Currency, Money};
    use doorbuster_engine::stock::{Oversell, StockEvent};

    use super::*;

    fn stock(sku: &str, opening: i64, oversell: Oversell) -> Stock {
        let definition = Definition {
            name: sku.to_lowercase().into(),
            price: Money::new(1_000, Currency::GBP),
            oversell,
            reservation_ttl_ms: None,
            low_stock_at: Some(3),
        };
        let mut stock = Stock::new(Sku::new(sku).unwrap());
        stock.evolve(&StockEvent::Defined { definition, opening }, Recorded::default(), None);
        stock
    }

    fn catalogue(rows: &[(&str, i64)]) -> Catalogue {
        let catalogue = Catalogue::default();
        for (sku, opening) in rows {
            catalogue.publish(None, &stock(sku, *opening, Oversell::Deny), 0, false);
        }
        catalogue
    }

    /// The SKUs of every page, following the cursors.
    fn pages(catalogue: &Catalogue, limit: usize, in_stock: Option<bool>) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = catalogue.page(after.as_deref(), limit, in_stock);
            pages.push(page.data.iter().map(|row| row.sku.to_string()).collect());
            match page.next_cursor {
                Some(cursor) => after = Some(cursor),
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_follow_each_other_without_a_gap_a_repeat_or_an_empty_last_one() {
        let five = catalogue(&[("D", 0), ("B", 1), ("A", 0), ("E", 5), ("C", 9)]);
        let check = |label: &str, limit, in_stock, expected: &[&[&str]]| {
            assert_eq!(pages(&five, limit, in_stock), expected, "{label}");
        };
        check("all in one", 10, None, &[&["A", "B", "C", "D", "E"]]);
        check("exactly full", 5, None, &[&["A", "B", "C", "D", "E"]]);
        check("in SKU order", 2, None, &[&["A", "B"], &["C", "D"], &["E"]]);
        check("to be had", 2, Some(true), &[&["B", "C"], &["E"]]);
        check("sold out", 1, Some(false), &[&["A"], &["D"]]);
        assert_eq!(pages(&catalogue(&[]), 2, None), [[""; 0]]);
        let from_a_gap = five.page(Some("BB"), 1, None);
        assert_eq!(from_a_gap.data.first().unwrap().sku.as_str(), "C", "a cursor need not exist any more");
    }

    #[test]
    fn a_word_says_how_much_is_left() {
        for (sku, opening, oversell, state) in [
            ("PLENTY", 4, Oversell::Deny, AvailabilityState::InStock),
            ("FEW", 3, Oversell::Deny, AvailabilityState::LowStock),
            ("NONE", 0, Oversell::Deny, AvailabilityState::SoldOut),
            ("LATER", 0, Oversell::Allow(9), AvailabilityState::Backorder),
        ] {
            let catalogue = Catalogue::default();
            catalogue.publish(None, &stock(sku, opening, oversell), 0, false);
            assert_eq!(catalogue.get(sku).unwrap().state, state, "{sku}");
        }
    }

    #[test]
    fn a_card_changes_its_figures_each_turn_and_its_words_only_when_redefined() {
        let catalogue = catalogue(&[("TEE", 5)]);
        let card = catalogue.card("TEE").unwrap();
        let mut changed = stock("TEE", 7, Oversell::Deny);
        let definition =
            Definition { price: Money::new(900, Currency::GBP), ..changed.definition().unwrap().clone() };
        changed.evolve(&StockEvent::Redefined { definition }, Recorded::default(), None);
        catalogue.publish(Some(&card), &changed, 2, false);
        let seen = catalogue.get("TEE").unwrap();
        assert_eq!((seen.sellable, seen.price.amount, card.figures().tentative), (7, 1_000, 2));
        catalogue.publish(Some(&card), &changed, 0, true);
        assert_eq!(catalogue.get("TEE").unwrap().price.amount, 900);
        assert_eq!(catalogue.len(), 1);
        assert!(catalogue.publish(None, &Stock::new(Sku::new("GHOST").unwrap()), 0, false).is_none());
        assert!(catalogue.get("GHOST").is_none(), "what was never defined has no card");
    }
}
