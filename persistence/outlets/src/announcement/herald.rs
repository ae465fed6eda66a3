//! The fold: from the journal's records to announcements, with as little kept between them as can be.

use std::collections::{HashMap, VecDeque};

use doorbuster_engine::cart::{self, Cart, CartEvent};
use doorbuster_engine::event::{EntityRef, EntryRef, Event};
use doorbuster_engine::identity::{
    CartId, OrderId, PaymentId, Recorded, RefundId, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::Money;
use doorbuster_engine::order::{DraftLine, OrderDraft, OrderEvent};
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::StockEvent;
use doorbuster_persistence::codec::{CodecError, RawRecord};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::recent::Recent;
use super::shelf::Shelf;
use super::{Announcement, CancelReason, Happened, Line, Stream, Subject};

/// Orders remembered at least: the half of [`Recent`]. A hundred bytes each.
pub(super) const ORDERS_HALF: usize = 500_000;

/// Open carts remembered at least. Some hundred bytes each.
pub(super) const CARTS_HALF: usize = 100_000;

/// Owed levels looked at with one record. Beyond it one record would bring about more than an index can count.
const OWED_MAX: usize = 64;

/// Folds records into announcements.
///
/// It keeps figures of every SKU and quantities of every open reservation, as the engine itself does; sums of the orders and
/// contents of the carts that were touched last, [`ORDERS_HALF`] and [`CARTS_HALF`] at least. Of an order that was forgotten
/// later announcements have no sequence number and lack its sums; of a cart they lack its lines. What is forgotten is a
/// function of the journal too.
#[derive(Clone, Debug)]
pub struct Herald {
    pub(super) shelves: IndexMap<Sku, Shelf, FixedState>,
    pub(super) holds: HashMap<(ReservationId, u32), i64, FixedState>,
    pub(super) groups: HashMap<ReservationId, Vec<(Sku, i64)>, FixedState>,
    pub(super) carts: Recent<CartId, Cart>,
    pub(super) orders: Recent<OrderId, Story>,
    /// SKUs whose level is owed, by the time when it is looked at.
    pub(super) owed: VecDeque<(Timestamp, u32)>,
    /// The latest business time of a record.
    pub(super) now: Timestamp,
    /// Announcements so far, by stream.
    pub(super) counts: [u64; 4],
}

/// What is kept of an order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Story {
    /// Announcements so far; `None` where its beginning was forgotten.
    pub(super) sequence: Option<u32>,
    total: Option<Money>,
    refunded_amount: i64,
    pending: Vec<Pending>,
    /// A caller asked for the end of its payment.
    called_off: bool,
    /// The provider holds the money for us, and it is not ours yet.
    is_authorized: bool,
    /// The money that was promised never came: what is given back is nothing.
    is_unpaid: bool,
}

/// A refund that is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pending {
    refund: RefundId,
    amount: Option<Money>,
    cancels: bool,
}

/// A record while it is folded: where its announcements go.
struct Telling<'a> {
    recorded: Recorded,
    index: u8,
    counts: &'a mut [u64; 4],
    tell: &'a mut dyn FnMut(Announcement),
}

impl Telling<'_> {
    fn tell(&mut self, subject: Subject, sequence: Option<u32>, happened: Happened) {
        let count = &mut self.counts[subject.stream().index()];
        *count = count.saturating_add(1);
        let (index, Recorded { position, at }) = (self.index, self.recorded);
        self.index = self.index.saturating_add(1);
        (self.tell)(Announcement { position, index, at, subject, sequence, happened });
    }
}

impl Default for Herald {
    fn default() -> Self {
        Self::remembering(ORDERS_HALF, CARTS_HALF)
    }
}

impl Herald {
    /// A herald that has heard nothing yet, with other bounds than usual: orders and carts it remembers at least.
    pub fn remembering(orders: usize, carts: usize) -> Self {
        Self {
            shelves: IndexMap::default(),
            holds: HashMap::default(),
            groups: HashMap::default(),
            carts: Recent::of(carts),
            orders: Recent::of(orders),
            owed: VecDeque::new(),
            now: Timestamp(0),
            counts: [0; 4],
        }
    }

    /// Announcements so far in `stream`.
    pub fn count(&self, stream: Stream) -> u64 {
        self.counts[stream.index()]
    }

    /// What is on hand and reserved of a SKU, as far as the journal has told.
    pub fn figures(&self, sku: &str) -> Option<(i64, i64)> {
        self.shelves.get(sku).map(|shelf| (shelf.on_hand, shelf.reserved))
    }

    /// Folds one record and tells what it brings about, in order.
    pub fn fold(
        &mut self,
        record: &RawRecord<'_>,
        tell: &mut dyn FnMut(Announcement),
    ) -> Result<(), CodecError> {
        let entry = record.entry_ref()?;
        let recorded = record.recorded();
        self.now = self.now.max(recorded.at);
        let mut counts = self.counts;
        let mut telling = Telling { recorded, index: 0, counts: &mut counts, tell };
        self.fold_entry(&entry, &mut telling);
        self.pay_owed(&mut telling);
        self.counts = counts;
        Ok(())
    }

    fn fold_entry(&mut self, entry: &EntryRef<'_>, telling: &mut Telling<'_>) {
        match (entry.entity, &entry.event) {
            (EntityRef::Sku(sku), Event::Stock(event)) => self.fold_stock(sku, event, telling),
            (EntityRef::Reservation(id), Event::Reservation(event)) => {
                self.fold_reservation(id, event, telling);
            }
            (EntityRef::Cart(id), Event::Cart(event)) => self.fold_cart(id, event, telling),
            (EntityRef::Order(id), Event::Order(event)) => self.fold_order(id, event, telling),
            // No engine writes this, and recovery refuses it.
            (
                EntityRef::Sku(_) | EntityRef::Reservation(_) | EntityRef::Cart(_) | EntityRef::Order(_),
                Event::Stock(_) | Event::Reservation(_) | Event::Cart(_) | Event::Order(_),
            ) => {}
        }
    }

    fn fold_stock(&mut self, sku: &str, event: &StockEvent, telling: &mut Telling<'_>) {
        if let StockEvent::Defined { definition, opening } = event {
            // What was journalled was a sound SKU.
            if let Ok(name) = Sku::new(sku) {
                self.shelves.insert(name, Shelf::new(definition, *opening));
            }
            return;
        }
        let Some((index, name, stock)) = self.shelves.get_full_mut(sku) else {
            // The journal at hand begins after its making: nothing is known of its level.
            return;
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        match event {
            StockEvent::Defined { .. } | StockEvent::Extended { .. } => {}
            StockEvent::Redefined { definition } => stock.define(definition),
            StockEvent::Adjusted { delta, .. } => stock.on_hand = stock.on_hand.saturating_add(*delta),
            StockEvent::OnHandSet { on_hand, .. } => stock.on_hand = *on_hand,
            StockEvent::Reserved { reservation, quantity, .. }
            | StockEvent::PartHeld { reservation, quantity, .. } => {
                stock.reserved = stock.reserved.saturating_add(*quantity);
                self.holds.insert((*reservation, index), *quantity);
            }
            StockEvent::Committed { reservation } | StockEvent::PartSold { reservation } => {
                let quantity = self.holds.remove(&(*reservation, index)).unwrap_or(0);
                stock.reserved = stock.reserved.saturating_sub(quantity);
                stock.on_hand = stock.on_hand.saturating_sub(quantity);
            }
            StockEvent::Released { reservation } | StockEvent::PartFreed { reservation } => {
                let quantity = self.holds.remove(&(*reservation, index)).unwrap_or(0);
                stock.reserved = stock.reserved.saturating_sub(quantity);
            }
            StockEvent::Expired { reservation } => {
                let quantity = self.holds.remove(&(*reservation, index)).unwrap_or(0);
                stock.reserved = stock.reserved.saturating_sub(quantity);
                let items = vec![(name.clone(), quantity)];
                telling.tell(
                    Subject::Reservation(*reservation),
                    Some(1),
                    Happened::ReservationExpired { items },
                );
            }
            StockEvent::Restocked { quantity, .. } => {
                stock.on_hand = stock.on_hand.saturating_add(*quantity);
            }
        }
        self.look(index, telling);
    }

    /// Announces the SKU's level if it changed, or owes it.
    fn look(&mut self, index: u32, telling: &mut Telling<'_>) {
        let Some((sku, stock)) = self.shelves.get_index_mut(index as usize) else { return };
        match stock.look(self.now) {
            None => {}
            Some(Ok(happened)) => {
                telling.tell(Subject::Sku(sku.clone()), Some(stock.sequence), happened);
            }
            Some(Err(due)) if !stock.owed => {
                stock.owed = true;
                self.owed.push_back((due, index));
            }
            Some(Err(_)) => {}
        }
    }

    /// Looks again at the levels whose time has come.
    fn pay_owed(&mut self, telling: &mut Telling<'_>) {
        for _ in 0..OWED_MAX {
            let Some((_, index)) = self.owed.front().copied().filter(|(due, _)| *due <= self.now) else {
                return;
            };
            self.owed.pop_front();
            if let Some((_, stock)) = self.shelves.get_index_mut(index as usize) {
                stock.owed = false;
            }
            self.look(index, telling);
        }
    }

    fn fold_reservation(&mut self, id: ReservationId, event: &ReservationEvent, telling: &mut Telling<'_>) {
        match event {
            ReservationEvent::Granted { items } => {
                let items = items.iter().map(|item| (item.sku.clone(), item.quantity)).collect();
                self.groups.insert(id, items);
            }
            ReservationEvent::Expired => {
                let items = self.groups.remove(&id).unwrap_or_default();
                telling.tell(Subject::Reservation(id), Some(1), Happened::ReservationExpired { items });
            }
            ReservationEvent::Committed | ReservationEvent::Released | ReservationEvent::Settled => {
                self.groups.remove(&id);
            }
            ReservationEvent::Requested { .. }
            | ReservationEvent::Refused { .. }
            | ReservationEvent::Extended { .. } => {}
        }
    }

    fn fold_cart(&mut self, id: CartId, event: &CartEvent, telling: &mut Telling<'_>) {
        match event {
            CartEvent::Created { .. } => {
                let mut cart = Cart::new(id);
                cart.evolve(event, telling.recorded, None);
                self.carts.insert(id, cart);
            }
            CartEvent::LinesAdded { .. } | CartEvent::QuantitySet { .. } => {
                if let Some(cart) = self.carts.get_mut(id) {
                    cart.evolve(event, telling.recorded, None);
                }
            }
            // A checkout changes no line, and its draft has an e-mail address that need not be kept here.
            CartEvent::CheckoutStarted { .. } | CartEvent::Reopened { .. } => {}
            CartEvent::Ordered { .. } | CartEvent::Deleted => {
                self.carts.remove(id);
            }
            CartEvent::Expired => {
                let (lines, total) = match self.carts.remove(id).map(|cart| cart.view()) {
                    Some(view) if view.lines.is_empty() => return,
                    Some(view) => {
                        (Some(view.lines.into_iter().map(cart_line).collect()), Some(view.totals.total))
                    }
                    None => (None, None),
                };
                telling.tell(Subject::Cart(id), Some(1), Happened::CartAbandoned { lines, total });
            }
        }
    }

    fn fold_order(&mut self, id: OrderId, event: &OrderEvent, telling: &mut Telling<'_>) {
        if let OrderEvent::Started(draft) = event {
            self.orders.insert(id, Story::of(draft));
        }
        let mut forgotten = Story::default();
        let story = self.orders.get_mut(id).unwrap_or(&mut forgotten);
        let payment = PaymentId(id.0);
        let mut is_off = false;
        match event {
            OrderEvent::Started(draft) => {
                let created = Happened::OrderCreated {
                    cart: draft.cart,
                    number: telling.recorded.position.0.to_string(),
                    lines: draft.lines.iter().map(draft_line).collect(),
                    total: draft.totals.total,
                };
                story.tell(id, created, telling);
            }
            OrderEvent::Placed { .. } => {
                let total = story.total;
                // Nothing to pay: no payment succeeded either. Held for us: it has not succeeded yet.
                if !story.is_authorized && total.is_none_or(|total| total.amount > 0) {
                    story.tell(id, Happened::PaymentSucceeded { payment, amount: total }, telling);
                }
                story.tell(id, Happened::OrderPaid { total }, telling);
            }
            OrderEvent::UnitsRefused { .. } => {
                is_off = true;
                let reason = CancelReason::OutOfStock;
                story.tell(id, Happened::OrderCancelled { reason }, telling);
            }
            OrderEvent::PaymentDeclined { retryable, .. } => {
                is_off = true;
                let declined_retryable = Some(*retryable);
                story.tell(id, Happened::PaymentFailed { payment, declined_retryable }, telling);
                let reason = CancelReason::PaymentDeclined;
                story.tell(id, Happened::OrderCancelled { reason }, telling);
            }
            OrderEvent::PaymentVoided => {
                is_off = true;
                let reason =
                    if story.called_off { CancelReason::Requested } else { CancelReason::PaymentTimedOut };
                story.tell(id, Happened::PaymentFailed { payment, declined_retryable: None }, telling);
                story.tell(id, Happened::OrderCancelled { reason }, telling);
            }
            OrderEvent::VoidRequested { by_request, .. } => story.called_off = *by_request,
            OrderEvent::CancelRequested { refund } => {
                let amount = if story.is_unpaid { story.nothing() } else { story.left() };
                story.pending.push(Pending { refund: *refund, amount, cancels: true });
            }
            OrderEvent::RefundRequested { refund, amount, .. } => {
                story.pending.push(Pending { refund: *refund, amount: Some(*amount), cancels: false });
            }
            OrderEvent::RefundSucceeded { refund, .. } => {
                let pending = story.settle(*refund);
                let amount = pending.amount;
                story.refunded_amount =
                    story.refunded_amount.saturating_add(amount.map_or(0, |amount| amount.amount));
                // Of free goods no money goes back.
                if !story.is_unpaid && amount.is_none_or(|amount| amount.amount > 0) {
                    let refunded = story.total.map(|total| Money::new(story.refunded_amount, total.currency));
                    let in_full = story.total.map(|total| story.refunded_amount >= total.amount);
                    let refund = *refund;
                    story.tell(id, Happened::OrderRefunded { refund, amount, refunded, in_full }, telling);
                }
                if pending.cancels {
                    let reason = if story.is_unpaid {
                        CancelReason::PaymentDeclined
                    } else {
                        CancelReason::Requested
                    };
                    // Of an order that was never paid nothing more is said than this.
                    is_off = story.is_unpaid;
                    story.tell(id, Happened::OrderCancelled { reason }, telling);
                }
            }
            OrderEvent::RefundFailed { refund, .. } => {
                let amount = story.settle(*refund).amount;
                story.tell(id, Happened::OrderRefundFailed { refund: *refund, amount }, telling);
            }
            OrderEvent::Fulfilled { fulfilment, lines, .. } => {
                let units = lines.iter().map(|units| (units.line, units.quantity)).collect();
                story.tell(id, Happened::OrderFulfilled { fulfilment: *fulfilment, units }, telling);
            }
            OrderEvent::Completed => story.tell(id, Happened::OrderCompleted, telling),
            OrderEvent::PaymentAuthorized { .. } => story.is_authorized = true,
            OrderEvent::PaymentCaptured => {
                story.is_authorized = false;
                let amount = story.total;
                story.tell(id, Happened::PaymentSucceeded { payment, amount }, telling);
            }
            OrderEvent::AuthorizationVoided => {
                // The order was called off before the money was ours: none goes back.
                is_off = true;
                story.tell(id, Happened::PaymentFailed { payment, declined_retryable: None }, telling);
                story.tell(id, Happened::OrderCancelled { reason: CancelReason::Requested }, telling);
            }
            OrderEvent::CaptureFailed { .. } => {
                story.is_authorized = false;
                story.is_unpaid = true;
                story.tell(id, Happened::PaymentFailed { payment, declined_retryable: Some(true) }, telling);
            }
            OrderEvent::UnitsReserved
            | OrderEvent::PaymentUnanswered
            | OrderEvent::PaymentDeferred { .. }
            | OrderEvent::PaymentResumed
            // Money that no order wanted is no order's payment.
            | OrderEvent::Noticed { .. }
            | OrderEvent::StrayFound { .. }
            | OrderEvent::StrayReturned { .. }
            | OrderEvent::StrayKept { .. }
            // Whoever asked was told.
            | OrderEvent::Answered(_)
            | OrderEvent::ActionRequired { .. }
            | OrderEvent::ConfirmRequested
            | OrderEvent::UnitsSold
            | OrderEvent::UnitsFreed
            | OrderEvent::CartTold
            | OrderEvent::UnitsRestocked { .. } => {}
        }
        if is_off {
            // Nothing is ever said of it again.
            self.orders.remove(id);
        } else if forgotten.is_to_be_continued() {
            // What is asked for now is answered soon, and what is promised now is kept or broken soon: worth keeping.
            self.orders.insert(id, forgotten);
        }
    }
}

impl Story {
    fn of(draft: &OrderDraft) -> Self {
        Self { sequence: Some(0), total: Some(draft.totals.total), ..Self::default() }
    }

    fn tell(&mut self, id: OrderId, happened: Happened, telling: &mut Telling<'_>) {
        if let Some(sequence) = &mut self.sequence {
            *sequence = sequence.saturating_add(1);
        }
        telling.tell(Subject::Order(id), self.sequence, happened);
    }

    fn is_to_be_continued(&self) -> bool {
        !self.pending.is_empty() || self.called_off || self.is_authorized || self.is_unpaid
    }

    fn nothing(&self) -> Option<Money> {
        self.total.map(|total| Money::zero(total.currency))
    }

    /// Money that no refund has taken or may yet take, as the engine's order counts it.
    fn left(&self) -> Option<Money> {
        let total = self.total?;
        let pending = self.pending.iter().filter_map(|pending| pending.amount);
        let left = pending.fold(total.amount.saturating_sub(self.refunded_amount), |left, amount| {
            left.saturating_sub(amount.amount)
        });
        Some(Money::new(left, total.currency))
    }

    /// Takes a refund out of those that are asked for.
    fn settle(&mut self, refund: RefundId) -> Pending {
        match self.pending.iter().position(|pending| pending.refund == refund) {
            Some(index) => self.pending.swap_remove(index),
            None => Pending { refund, amount: None, cancels: false },
        }
    }
}

fn draft_line(line: &DraftLine) -> Line {
    let DraftLine { line, sku, quantity, unit_price, name: _ } = line;
    Line { line: *line, sku: sku.clone(), quantity: *quantity, unit_price: *unit_price }
}

fn cart_line(line: cart::Line) -> Line {
    let cart::Line { line, sku, quantity, unit_price, name: _ } = line;
    Line { line, sku, quantity, unit_price }
}
