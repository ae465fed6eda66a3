//! Units that sagas hold and may still give back, SKU by SKU. Whoever such units would satisfy waits a moment instead of
//! being refused (ADR 0003), so that of two who want the last of two SKUs one wins.

use std::collections::BTreeMap;

use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::Sku;
use doorbuster_engine::stock::StockEvent;

use super::saga::Phase;
use super::shelf::Part;
use super::{Model, Past, Standing};

/// How long whoever wants tentative units waits for them at most.
pub const PARKED_MS: u64 = 1_000;

/// What a SKU could give at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Since when, business time.
    pub at_ms: u64,
    /// Units that may be promised.
    pub sellable: i64,
    /// Units that sagas may still give back.
    pub tentative: i64,
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Tentative {
    held: BTreeMap<(u128, Sku), i64>,
    offers: BTreeMap<Sku, Past<Offer>>,
}

impl Tentative {
    /// Whether all the while, from the moment of the first `index` events to `until_ms`, so many units would have come to
    /// whoever waited for them.
    pub fn would_do(&self, sku: &Sku, enough: i64, index: u64, until_ms: u64) -> bool {
        self.offers.get(sku).is_some_and(|past| {
            !past.began_after(index)
                && past.since(index).iter().filter(|(_, _, offer)| offer.at_ms <= until_ms).all(
                    |(_, _, offer)| offer.sellable < enough && enough <= offer.sellable + offer.tentative,
                )
        })
    }
}

impl Model {
    /// A life begins: what sagas held before is theirs until they ask again, as far as anybody can tell.
    pub fn forget_tentative(&mut self) {
        self.tentative = Tentative::default();
        let skus: Vec<Sku> = self.shelves.keys().cloned().collect();
        let standing =
            Standing { index: self.index, sequence: 0, position: 0, at_ms: self.last_at_ms, request: None };
        for sku in skus {
            self.note_offer(&sku, standing);
        }
    }

    /// Follows an event that was folded.
    pub(super) fn follow_tentative(&mut self, entry: &Entry, standing: Standing) {
        let saga = match (&entry.entity, &entry.event) {
            (EntityKey::Sku(sku), Event::Stock(event)) => {
                let mut saga = None;
                if let StockEvent::PartHeld { reservation, quantity, .. } = event {
                    self.tentative.held.insert((reservation.0, sku.clone()), *quantity);
                    saga = Some(reservation.0);
                }
                if let StockEvent::PartSold { reservation } | StockEvent::PartFreed { reservation } = event {
                    self.tentative.held.remove(&(reservation.0, sku.clone()));
                }
                self.note_offer(sku, standing);
                saga
            }
            (EntityKey::Reservation(id), _) => Some(id.0),
            (EntityKey::Order(id), _) => Some(id.0),
            (EntityKey::Sku(_) | EntityKey::Cart(_), _) => None,
        };
        if let Some(id) = saga
            && !self.may_give_back(id)
        {
            let kept: Vec<Sku> =
                self.tentative.held.keys().filter(|(of, _)| *of == id).map(|(_, sku)| sku.clone()).collect();
            for sku in kept {
                self.tentative.held.remove(&(id, sku.clone()));
                self.note_offer(&sku, standing);
            }
        }
    }

    /// Whether a saga may give back what it holds: it wants more, or it was refused. One that takes less than it asked for
    /// keeps what it has, and so does one that has it all.
    fn may_give_back(&self, id: u128) -> bool {
        let lacks = |sku: &Sku| !matches!(self.parts.get(&(id, sku.clone())), Some(Part::Held(_)));
        if let Some(saga) = self.sagas.get(&id) {
            return saga.phase == Phase::Refused
                || saga
                    .asks()
                    .is_some_and(|items| !saga.partial && items.iter().any(|item| lacks(&item.sku)));
        }
        self.orders
            .get(&id)
            .is_some_and(|order| order.is_off() || (order.is_asking() && order.units().keys().any(lacks)))
    }

    fn note_offer(&mut self, sku: &Sku, standing: Standing) {
        let Some(shelf) = self.shelves.get(sku) else { return };
        let tentative = self.tentative.held.iter().filter(|((_, of), _)| of == sku).map(|(_, units)| units);
        let offer = Offer { at_ms: standing.at_ms, sellable: shelf.sellable(), tentative: tentative.sum() };
        self.tentative.offers.entry(sku.clone()).or_default().note(standing, offer);
    }
}
