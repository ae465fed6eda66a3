//! Stock, and reservations of one SKU, in the model. Laws 1, 2 and 8, and 11 for a reservation's life.

use std::collections::BTreeSet;

use doorbuster_engine::answer::{Answer, Item, ReservationRecord, ReservationState};
use doorbuster_engine::identity::{Fingerprint, Position, ReservationId, Sku, Timestamp};
use doorbuster_engine::stock::{Definition, Oversell, StockEvent, StockView};

use super::{ANSWERS_KEPT_MS, LIFE_MAX_MS, Model, Past, Standing, Verdict};
use crate::broken::{Broken, demand};
use crate::ledger::Ledger;
use crate::sometimes;

/// How long a SKU surely knows that it sold a saga's part, business time: a copy of the hold that comes later may be granted, and
/// goes back. Only a jump of the clock makes a copy that late.
const SALE_REMEMBERED_MS: u64 = 10_000;

/// One SKU.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// What the merchant says of it.
    pub definition: Definition,
    /// Opening, receipts and net adjustments.
    pub received: i64,
    /// Physical units.
    pub on_hand: i64,
    /// Units held.
    pub reserved: i64,
    /// Units sold and not taken back.
    pub sold: i64,
    /// Changes so far.
    pub version: u64,
    /// Every view of it there ever was.
    pub past: Past<StockView>,
    restocked: BTreeSet<u128>,
}

impl Shelf {
    fn limit(&self) -> i64 {
        match self.definition.oversell {
            Oversell::Deny => 0,
            Oversell::Allow(limit) => limit,
        }
    }

    /// Units that may still be promised.
    pub fn sellable(&self) -> i64 {
        self.on_hand - self.reserved + self.limit()
    }

    fn view(&self, sku: &Sku) -> StockView {
        StockView {
            sku: sku.clone(),
            received: self.received,
            on_hand: self.on_hand,
            reserved: self.reserved,
            available: self.on_hand - self.reserved,
            sellable: self.sellable(),
            sold: self.sold,
            version: self.version,
        }
    }
}

/// A reservation of one SKU.
#[derive(Clone, Debug)]
pub struct Single {
    /// Which SKU.
    pub sku: Sku,
    /// How many units.
    pub quantity: i64,
    /// When it ends by itself, exclusive.
    pub expires_at_ms: u64,
    /// Whether it was ever lengthened.
    pub extended: bool,
    /// When it ended, once it did.
    pub ended_at_ms: Option<u64>,
    /// Its record in all its versions.
    pub past: Past<Option<ReservationRecord>>,
}

impl Single {
    /// Whether it is still open.
    pub fn is_held(&self) -> bool {
        self.ended_at_ms.is_none()
    }
}

/// Units held for a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Held, so many.
    Held(i64),
    /// Sold, so many.
    Sold(i64),
    /// Given back.
    Freed,
}

impl Model {
    pub(super) fn fold_stock(
        &mut self,
        sku: &Sku,
        event: &StockEvent,
        standing: Standing,
        ledger: &Ledger,
    ) -> Result<Vec<Verdict>, Broken> {
        if let StockEvent::Defined { definition, opening } = event {
            demand(!self.shelves.contains_key(sku), 10, || format!("{sku} is defined twice"))?;
            demand(*opening >= 0, 1, || format!("{sku} begins with {opening} units"))?;
            let shelf = Shelf {
                definition: definition.clone(),
                received: *opening,
                on_hand: *opening,
                reserved: 0,
                sold: 0,
                version: 0,
                past: Past::default(),
                restocked: BTreeSet::new(),
            };
            self.shelves.insert(sku.clone(), shelf);
        }
        let mut shelf = self
            .shelves
            .remove(sku)
            .ok_or_else(|| Broken { law: 10, seen: format!("{sku} changes before it is defined") })?;
        shelf.version += 1;
        let answer = self.change_shelf(sku, &mut shelf, event, standing, ledger);
        let view = shelf.view(sku);
        let sums = demand(view.received == view.on_hand + view.sold, 1, || format!("{view:?}"))
            .and_then(|()| demand(view.sellable >= 0, 1, || format!("sold beyond what there is: {view:?}")))
            .and_then(|()| demand(view.reserved >= 0 && view.sold >= 0, 1, || format!("{view:?}")));
        if view.sellable == 0 {
            sometimes!("a SKU was sold out");
        }
        if view.available < 0 {
            sometimes!("a SKU was oversold within its limit");
        }
        shelf.past.note(standing, view.clone());
        self.shelves.insert(sku.clone(), shelf);
        let answer = answer?;
        sums?;
        let answer = match event {
            StockEvent::Defined { .. } => Some(Answer::SkuDefined { created: true, stock: view }),
            StockEvent::Redefined { .. } => Some(Answer::SkuDefined { created: false, stock: view }),
            StockEvent::Adjusted { .. } | StockEvent::OnHandSet { .. } => Some(Answer::Stock(view)),
            StockEvent::Reserved { .. }
            | StockEvent::Extended { .. }
            | StockEvent::Committed { .. }
            | StockEvent::Released { .. }
            | StockEvent::Expired { .. }
            | StockEvent::PartHeld { .. }
            | StockEvent::PartSold { .. }
            | StockEvent::PartFreed { .. }
            | StockEvent::Restocked { .. } => answer,
        };
        Ok(standing.request.zip(answer).map(|(request, answer)| (request, Ok(answer))).into_iter().collect())
    }

    fn change_shelf(
        &mut self,
        sku: &Sku,
        shelf: &mut Shelf,
        event: &StockEvent,
        standing: Standing,
        ledger: &Ledger,
    ) -> Result<Option<Answer>, Broken> {
        let at_ms = standing.at_ms;
        match event {
            StockEvent::Defined { .. } => Ok(None),
            StockEvent::Redefined { definition } => {
                shelf.definition = definition.clone();
                Ok(None)
            }
            StockEvent::Adjusted { delta, .. } => {
                shelf.received += delta;
                shelf.on_hand += delta;
                Ok(None)
            }
            StockEvent::OnHandSet { on_hand, .. } => {
                shelf.received += on_hand - shelf.on_hand;
                shelf.on_hand = *on_hand;
                Ok(None)
            }
            StockEvent::Reserved { reservation, quantity, ttl_ms, fingerprint, .. } => {
                let before = self.singles.get(&reservation.0).map(|single| single.ended_at_ms);
                let free = before.is_none_or(|ended| ended.is_some_and(|at| at + ANSWERS_KEPT_MS <= at_ms));
                demand(free, 5, || format!("{reservation} is made twice"))?;
                demand(!self.sagas.contains_key(&reservation.0), 5, || {
                    format!("{reservation} is over several SKUs already")
                })?;
                demand(*quantity >= 1, 1, || format!("{quantity} units"))?;
                demand(*ttl_ms <= LIFE_MAX_MS, 11, || format!("held for {ttl_ms} ms"))?;
                let stamped = standing.request.map_or(Fingerprint(0), |request| request.fingerprint);
                demand(standing.request.is_none() || stamped == *fingerprint, 5, || {
                    format!("{reservation} has another body hash than its request")
                })?;
                shelf.reserved += quantity;
                let record = ReservationRecord {
                    id: *reservation,
                    items: std::iter::once(Item { sku: sku.clone(), quantity: *quantity }).collect(),
                    state: ReservationState::Held,
                    created_at: Timestamp(at_ms),
                    ttl_ms: *ttl_ms,
                    expires_at: Timestamp(at_ms + ttl_ms),
                    position: Position(standing.position),
                    fingerprint: *fingerprint,
                    order: None,
                };
                let mut single = Single {
                    sku: sku.clone(),
                    quantity: *quantity,
                    expires_at_ms: at_ms + ttl_ms,
                    extended: false,
                    ended_at_ms: None,
                    past: Past::default(),
                };
                single.past.note(standing, Some(record.clone()));
                self.singles.insert(reservation.0, single);
                Ok(Some(Answer::Reservation(record)))
            }
            StockEvent::Extended { reservation, expires_at } => {
                let single = self.held(sku, *reservation)?;
                let record = single.past.last().cloned().flatten();
                let created_at_ms = record.as_ref().map_or(0, |record| record.created_at.0);
                demand(at_ms < single.expires_at_ms, 2, || format!("{reservation} is extended too late"))?;
                demand(expires_at.0 >= single.expires_at_ms, 2, || {
                    format!("{reservation} is shortened from {} to {}", single.expires_at_ms, expires_at.0)
                })?;
                demand(expires_at.0 <= created_at_ms + LIFE_MAX_MS, 11, || {
                    format!("{reservation} of {created_at_ms} is held until {}", expires_at.0)
                })?;
                single.expires_at_ms = expires_at.0;
                single.extended = true;
                let record = record.map(|record| ReservationRecord { expires_at: *expires_at, ..record });
                single.past.note(standing, record.clone());
                Ok(record.map(Answer::Reservation))
            }
            StockEvent::Committed { reservation } => {
                let (quantity, answer) =
                    self.end(sku, *reservation, ReservationState::Committed, standing)?;
                shelf.reserved -= quantity;
                shelf.on_hand -= quantity;
                shelf.sold += quantity;
                Ok(answer)
            }
            StockEvent::Released { reservation } => {
                let (quantity, answer) = self.end(sku, *reservation, ReservationState::Released, standing)?;
                shelf.reserved -= quantity;
                Ok(answer)
            }
            StockEvent::Expired { reservation } => {
                let extended = self.held(sku, *reservation)?.extended;
                let (quantity, answer) = self.end(sku, *reservation, ReservationState::Expired, standing)?;
                shelf.reserved -= quantity;
                sometimes!("a reservation expired");
                if extended {
                    sometimes!("an extended reservation expired at its new end");
                }
                Ok(answer)
            }
            StockEvent::PartHeld { reservation, quantity, home: _ } => {
                let id = reservation.0;
                // A late copy of a step may be granted when nobody asks any more; then it must go back at once.
                let Some((asked, partial)) = self.asked_of(id, sku) else {
                    self.strays.insert((id, sku.clone()), at_ms);
                    let sold_at_ms = self.sold_at_ms.get(&(id, sku.clone()));
                    demand(
                        sold_at_ms.is_none_or(|sold_at_ms| at_ms >= sold_at_ms + SALE_REMEMBERED_MS),
                        6,
                        || format!("{sku} holds for {reservation} again what it sold for it"),
                    )?;
                    self.parts.insert((id, sku.clone()), Part::Held(*quantity));
                    shelf.reserved += quantity;
                    sometimes!("a late copy of a hold was granted and given back");
                    return Ok(None);
                };
                let fits = *quantity == asked || (partial && (1..asked).contains(quantity));
                demand(fits, 6, || format!("{quantity} of {sku} held, {asked} asked"))?;
                // A refused attempt's part may be held again by a new attempt under the same key, nothing else.
                let before = self.parts.insert((id, sku.clone()), Part::Held(*quantity));
                demand(matches!(before, None | Some(Part::Freed)), 6, || {
                    format!("{sku} holds for {reservation} again after {before:?}")
                })?;
                shelf.reserved += quantity;
                Ok(None)
            }
            StockEvent::PartSold { reservation } => {
                let quantity = self.end_part(reservation.0, sku, Part::Sold)?;
                self.sold_at_ms.insert((reservation.0, sku.clone()), at_ms);
                demand(self.may_sell(reservation.0), 6, || format!("{reservation} is not to be sold"))?;
                shelf.reserved -= quantity;
                shelf.on_hand -= quantity;
                shelf.sold += quantity;
                Ok(None)
            }
            StockEvent::PartFreed { reservation } => {
                let quantity = self.end_part(reservation.0, sku, |_| Part::Freed)?;
                if self.strays.remove(&(reservation.0, sku.clone())).is_some() {
                    shelf.reserved -= quantity;
                    return Ok(None);
                }
                demand(self.may_free(reservation.0), 8, || format!("{reservation} is not to be freed"))?;
                if self.orders.contains_key(&reservation.0) {
                    ledger.check_never_charged(doorbuster_engine::identity::OrderId(reservation.0))?;
                }
                shelf.reserved -= quantity;
                Ok(None)
            }
            StockEvent::Restocked { step, quantity, order } => {
                let wanted = self.orders.get(&order.0).and_then(|order| order.to_restock(*step, sku));
                demand(wanted.is_some_and(|wanted| *quantity <= wanted && *quantity > 0), 1, || {
                    format!("{quantity} of {sku} restocked, wanted {wanted:?}")
                })?;
                demand(shelf.restocked.insert(*step), 1, || {
                    format!("{sku} is restocked twice by one refund")
                })?;
                shelf.sold -= quantity;
                shelf.on_hand += quantity;
                sometimes!("a refund restocked units");
                Ok(None)
            }
        }
    }

    fn held(&mut self, sku: &Sku, reservation: ReservationId) -> Result<&mut Single, Broken> {
        let single = self.singles.get_mut(&reservation.0).filter(|single| single.is_held());
        single
            .filter(|single| single.sku == *sku)
            .ok_or_else(|| Broken { law: 2, seen: format!("{reservation} is not held at {sku}") })
    }

    fn end(
        &mut self,
        sku: &Sku,
        reservation: ReservationId,
        state: ReservationState,
        standing: Standing,
    ) -> Result<(i64, Option<Answer>), Broken> {
        let at_ms = standing.at_ms;
        let single = self.held(sku, reservation)?;
        let expired = at_ms >= single.expires_at_ms;
        demand(expired == (state == ReservationState::Expired), 2, || {
            format!("{reservation} ends as {state:?} at {at_ms}, its deadline is {}", single.expires_at_ms)
        })?;
        if state == ReservationState::Committed && at_ms + 1 == single.expires_at_ms {
            sometimes!("a commit came one millisecond before the deadline");
        }
        single.ended_at_ms = Some(at_ms);
        let record = single.past.last().cloned().flatten();
        let record = record.map(|record| ReservationRecord { state, ..record });
        single.past.note(standing, record.clone());
        Ok((single.quantity, record.map(Answer::Reservation)))
    }

    fn end_part(&mut self, id: u128, sku: &Sku, end: impl Fn(i64) -> Part) -> Result<i64, Broken> {
        match self.parts.get_mut(&(id, sku.clone())) {
            Some(part @ Part::Held(_)) => {
                let Part::Held(quantity) = *part else { return Ok(0) };
                *part = end(quantity);
                Ok(quantity)
            }
            other => {
                Err(Broken { law: 2, seen: format!("a part of {sku} for {id:032x} ends, it is {other:?}") })
            }
        }
    }

    /// What a saga asks of a SKU now, and whether less will do.
    fn asked_of(&self, id: u128, sku: &Sku) -> Option<(i64, bool)> {
        if let Some(saga) = self.sagas.get(&id) {
            return saga.asks().and_then(|items| {
                items.iter().find(|item| item.sku == *sku).map(|item| (item.quantity, saga.partial))
            });
        }
        self.orders.get(&id).and_then(|order| order.asks(sku)).map(|asked| (asked, false))
    }

    fn may_sell(&self, id: u128) -> bool {
        self.sagas.get(&id).is_some_and(super::saga::Saga::sells)
            || self.orders.get(&id).is_some_and(super::purchase::Purchase::is_placed)
    }

    fn may_free(&self, id: u128) -> bool {
        self.sagas.get(&id).is_some_and(super::saga::Saga::frees)
            || self.orders.get(&id).is_some_and(super::purchase::Purchase::is_off)
    }
}
