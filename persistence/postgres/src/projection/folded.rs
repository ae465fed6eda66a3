//! The digest that the projection ought to have, by a second way: the engine's own machines fold the journal, and what they
//! show at the end is put down as rows.
//!
//! Law 10 is checked by comparing the two. Nothing here is shared with the projector's fold but the shape of a row: stock,
//! carts and orders come from the machines' views; only what no view tells (when a charge was settled, say) is noted from the
//! events on the way. Holds the whole world in memory, as a start does.

use std::collections::HashMap;

use doorbuster_engine::cart::{Cart, CartStatus};
use doorbuster_engine::event::{EntityKey, EntityRef, Entry, Event};
use doorbuster_engine::identity::{OrderId, Position, Recorded, RefundId, Timestamp};
use doorbuster_engine::order::{Order, OrderEvent, OrderState, OrderView, PaymentState, RefundState};
use doorbuster_engine::stock::{LedgerEntry, LedgerKind, Oversell, Stock, StockEvent};
use doorbuster_engine::world::{Memory, Snapshot, World};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::FrameView;

use super::digest::{Digest, Digester};
use super::error::ProjectionError;
use super::rows::Value;
use super::source::read;
use super::tables::{
    CART_LINES, CARTS, FULFILMENT_LINES, FULFILMENTS, ORDER_LINES, ORDER_TIMELINE, ORDERS, PAYMENTS,
    REFUND_LINES, REFUNDS, SKUS, STOCK_LEDGER, STOCK_LEVELS,
};

/// What no view tells of an order.
#[derive(Debug, Default)]
struct OrderNotes {
    reserved_at: Option<u64>,
    placed_at: Option<u64>,
    fulfilled_at: Option<u64>,
    completed_at: Option<u64>,
    reference: Option<String>,
    decline_reason: Option<String>,
    settled_at: Option<u64>,
    refunds: HashMap<RefundId, RefundNotes>,
}

/// What no view tells of a refund.
#[derive(Debug, Default)]
struct RefundNotes {
    cancels: bool,
    reference: Option<String>,
    failure: Option<String>,
    settled_at: Option<u64>,
    restocked_at: Option<u64>,
}

/// A journal folded frame by frame.
pub struct Folded {
    world: World,
    digester: Digester,
    changed_at: HashMap<EntityKey, u64>,
    defined_at: HashMap<EntityKey, u64>,
    orders: HashMap<OrderId, OrderNotes>,
    last: FrameNumber,
}

impl Default for Folded {
    fn default() -> Self {
        Self {
            // Nobody asks for answers here.
            world: World { memory: Memory::of(0), ..World::default() },
            digester: Digester::default(),
            changed_at: HashMap::new(),
            defined_at: HashMap::new(),
            orders: HashMap::new(),
            last: FrameNumber(0),
        }
    }
}

impl Folded {
    /// Folds the next frame.
    pub fn fold(&mut self, frame: &FrameView<'_>) -> Result<(), ProjectionError> {
        for event in read(frame) {
            let (header, entry) = event?;
            let recorded = Recorded { position: Position(header.position), at: Timestamp(header.at_ms) };
            self.fold_entry(&entry, recorded)
                .map_err(|what| ProjectionError::Unreadable { frame: frame.number.0, what })?;
        }
        self.last = frame.number;
        Ok(())
    }

    fn fold_entry(&mut self, entry: &Entry, recorded: Recorded) -> Result<(), String> {
        let (entity, at) = (&entry.entity, recorded.at.0);
        let applied = self.world.apply(EntityRef::from(entity), &entry.event, recorded, entry.request);
        applied.map_err(|violation| violation.to_string())?;
        for chunk in std::mem::take(&mut self.world.spilled) {
            chunk.entries.iter().for_each(|line| add_ledger(&mut self.digester, chunk.sku.as_str(), line));
        }
        if matches!(entity, EntityKey::Reservation(_)) {
            return Ok(());
        }
        if !matches!(&entry.event, Event::Order(event) if !event.is_change()) {
            self.changed_at.insert(entity.clone(), at);
        }
        match (&entry.event, entity) {
            (Event::Stock(StockEvent::Defined { .. } | StockEvent::Redefined { .. }), _) => {
                self.defined_at.insert(entity.clone(), at);
            }
            (Event::Order(event), EntityKey::Order(id)) => {
                let Some(Snapshot::Order(order)) = self.world.entities.get(entity) else { return Ok(()) };
                self.orders.entry(*id).or_default().note(event, at, order);
            }
            (Event::Stock(_) | Event::Reservation(_) | Event::Cart(_) | Event::Order(_), _) => {}
        }
        Ok(())
    }

    /// The digest of everything folded.
    pub fn digest(mut self) -> Digest {
        for (entity, snapshot) in &self.world.entities {
            let changed_at = self.changed_at.get(entity).copied().unwrap_or(0);
            match snapshot {
                Snapshot::Stock(stock) => {
                    let defined_at = self.defined_at.get(entity).copied().unwrap_or(0);
                    add_stock(&mut self.digester, stock, defined_at, changed_at);
                }
                Snapshot::Cart(cart) => add_cart(&mut self.digester, cart, changed_at),
                Snapshot::Order(order) => {
                    let notes = self.orders.remove(&order.id()).unwrap_or_default();
                    add_order(&mut self.digester, order, &notes, changed_at);
                }
                Snapshot::Reservation(_) => {}
            }
        }
        self.digester.finish(self.last)
    }
}

impl OrderNotes {
    fn note(&mut self, event: &OrderEvent, at: u64, order: &Order) {
        let refund = |id: &RefundId, notes: &mut Self, with: &dyn Fn(&mut RefundNotes)| {
            with(notes.refunds.entry(*id).or_default());
        };
        match event {
            OrderEvent::UnitsReserved => self.reserved_at = Some(at),
            OrderEvent::ActionRequired { reference, .. } | OrderEvent::PaymentAuthorized { reference } => {
                self.reference = Some(reference.clone());
            }
            OrderEvent::PaymentDeclined { reason, .. } => {
                self.decline_reason = Some(reason.clone());
                self.settled_at = Some(at);
            }
            OrderEvent::PaymentVoided => self.settled_at = Some(at),
            OrderEvent::Placed { reference } => {
                self.reference.clone_from(reference);
                self.placed_at = Some(at);
                if order.payment_state() != PaymentState::Authorized {
                    self.settled_at = Some(at);
                }
            }
            OrderEvent::PaymentCaptured => self.settled_at = Some(at),
            OrderEvent::CaptureFailed { reason } => {
                self.decline_reason = Some(reason.clone());
                self.settled_at = Some(at);
            }
            OrderEvent::AuthorizationVoided => {
                self.settled_at = Some(at);
                for cancelling in
                    self.refunds.values_mut().filter(|refund| refund.cancels && refund.settled_at.is_none())
                {
                    cancelling.settled_at = Some(at);
                }
            }
            OrderEvent::CancelRequested { refund: id } => refund(id, self, &|refund| refund.cancels = true),
            OrderEvent::RefundSucceeded { refund: id, reference } => refund(id, self, &|refund| {
                refund.settled_at = Some(at);
                refund.reference.clone_from(reference);
            }),
            OrderEvent::RefundFailed { refund: id, reason } => refund(id, self, &|refund| {
                refund.settled_at = Some(at);
                refund.failure = Some(reason.clone());
            }),
            OrderEvent::UnitsRestocked { refund: id } => {
                refund(id, self, &|refund| refund.restocked_at = Some(at));
            }
            OrderEvent::Fulfilled { .. } => {
                let open = |line: &doorbuster_engine::order::OrderLine| {
                    line.fulfilled + line.refunded < line.quantity
                };
                if !order.view().lines.iter().any(open) {
                    self.fulfilled_at = Some(at);
                }
            }
            OrderEvent::Completed => self.completed_at = Some(at),
            OrderEvent::Started(_)
            | OrderEvent::UnitsRefused { .. }
            | OrderEvent::PaymentUnanswered
            | OrderEvent::ConfirmRequested
            | OrderEvent::Noticed { .. }
            | OrderEvent::PaymentDeferred { .. }
            | OrderEvent::PaymentResumed
            | OrderEvent::StrayFound { .. }
            | OrderEvent::StrayReturned { .. }
            | OrderEvent::StrayKept { .. }
            | OrderEvent::Answered(_)
            | OrderEvent::VoidRequested { .. }
            | OrderEvent::UnitsSold
            | OrderEvent::UnitsFreed
            | OrderEvent::CartTold
            | OrderEvent::RefundRequested { .. } => {}
        }
    }
}

fn add_stock(digester: &mut Digester, stock: &Stock, defined_at: u64, changed_at: u64) {
    let Some(definition) = stock.definition() else { return };
    let (sku, view, opening) = (stock.sku().as_str(), stock.view(), stock.opening_entry());
    let policy = if definition.oversell == Oversell::Deny { "deny" } else { "allow" };
    let card = [
        Value::text(sku),
        Value::text(&definition.name),
        Value::integer(definition.price.amount),
        Value::text(definition.price.currency.code()),
        Value::text(policy),
        Value::integer(definition.oversell.limit()),
        Value::Integer(definition.reservation_ttl_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX))),
        Value::Integer(definition.low_stock_at),
        Value::time(opening.at.0),
        Value::time(defined_at),
    ];
    let level = [
        Value::text(sku),
        Value::integer(view.received),
        Value::integer(view.on_hand),
        Value::integer(view.reserved),
        Value::integer(view.sold),
        Value::count(view.version),
        Value::time(changed_at),
    ];
    digester.add(&SKUS, &card);
    digester.add(&STOCK_LEVELS, &level);
    add_ledger(digester, sku, &opening);
    stock.recent_ledger().iter().for_each(|entry| add_ledger(digester, sku, entry));
}

fn add_ledger(digester: &mut Digester, sku: &str, entry: &LedgerEntry) {
    let kind = match entry.kind {
        LedgerKind::Opening => "opening",
        LedgerKind::Adjustment => "adjustment",
        LedgerKind::Count => "count",
        LedgerKind::Sale => "sale",
        LedgerKind::Restock => "restock",
    };
    let row = [
        Value::count(entry.position.0),
        Value::text(sku),
        Value::time(entry.at.0),
        Value::text(kind),
        Value::integer(entry.delta),
        Value::maybe(entry.reason.as_deref()),
        Value::maybe(entry.reference.as_deref()),
        Value::maybe(entry.reservation.map(|id| id.to_string()).as_deref()),
    ];
    digester.add(&STOCK_LEDGER, &row);
}

fn add_cart(digester: &mut Digester, cart: &Cart, changed_at: u64) {
    let (id, view) = (cart.id().to_string(), cart.view());
    let state = match cart.status() {
        CartStatus::Absent => return,
        CartStatus::Open => "open",
        CartStatus::CheckingOut { .. } => "checking_out",
        CartStatus::Ordered(_) => "ordered",
        CartStatus::Deleted => "deleted",
        CartStatus::Expired => "expired",
    };
    let row = [
        Value::text(&id),
        Value::text(state),
        Value::text(view.currency.code()),
        Value::integer(view.lines.iter().map(|line| line.quantity).sum()),
        Value::integer(view.totals.subtotal.amount),
        Value::maybe(view.order.map(|order| order.to_string()).as_deref()),
        Value::count(view.version),
        Value::time(cart.created().at.0),
        Value::time(changed_at),
        Value::time(view.expires_at.0),
    ];
    digester.add(&CARTS, &row);
    for line in &view.lines {
        let row = [
            Value::text(&id),
            Value::small(line.line),
            Value::text(line.sku.as_str()),
            Value::text(&line.name),
            Value::integer(line.quantity),
            Value::integer(line.unit_price.amount),
        ];
        digester.add(&CART_LINES, &row);
    }
}

fn add_order(digester: &mut Digester, order: &Order, notes: &OrderNotes, changed_at: u64) {
    let view = order.view();
    let (id, created_at) = (Value::text(&view.id.to_string()), Value::time(view.created_at.0));
    let off_reason = match (view.state, view.payment_state, notes.placed_at) {
        (OrderState::Cancelled, PaymentState::None, None) => Some("refused"),
        (OrderState::Cancelled, PaymentState::Declined, None) => Some("declined"),
        (OrderState::Cancelled, PaymentState::Voided, None) => Some("voided"),
        (_, _, _) => None,
    };
    let address = view.shipping_address.clone().unwrap_or_default();
    let part = |part: &Option<String>| Value::maybe(part.as_deref());
    let row = [
        id.clone(),
        created_at.clone(),
        Value::integer(view.number.parse().unwrap_or(0)),
        Value::text(&view.cart.to_string()),
        Value::text(view.state.name()),
        Value::maybe(off_reason),
        Value::text(&view.email),
        Value::text(&view.provider),
        Value::text(view.totals.total.currency.code()),
        Value::integer(view.totals.subtotal.amount),
        Value::integer(view.totals.discount.amount),
        Value::integer(view.totals.shipping.amount),
        Value::integer(view.totals.tax.amount),
        Value::integer(view.totals.total.amount),
        Value::integer(view.captured.amount),
        Value::integer(view.refunded.amount),
        part(&address.name),
        part(&address.line1),
        part(&address.line2),
        part(&address.city),
        part(&address.region),
        part(&address.postal_code),
        Value::maybe(view.shipping_address.as_ref().map(|address| address.country.as_str())),
        Value::maybe_time(notes.placed_at),
        Value::maybe_time(notes.fulfilled_at),
        Value::maybe_time(notes.completed_at),
        Value::count(view.version),
        Value::time(changed_at),
    ];
    digester.add(&ORDERS, &row);
    for line in &view.lines {
        let row = [
            id.clone(),
            created_at.clone(),
            Value::small(line.line),
            Value::text(line.sku.as_str()),
            Value::text(&line.name),
            Value::integer(line.quantity),
            Value::integer(line.unit_price.amount),
            Value::integer(line.total.amount),
            Value::integer(line.fulfilled),
            Value::integer(line.refunded),
        ];
        digester.add(&ORDER_LINES, &row);
    }
    add_payment(digester, &view, notes);
    add_refunds(digester, &view, notes);
    for fulfilment in &view.fulfilments {
        let name = Value::text(&fulfilment.id.to_string());
        let row = [
            name.clone(),
            created_at.clone(),
            id.clone(),
            Value::maybe(fulfilment.tracking.as_deref()),
            Value::time(fulfilment.created_at.0),
        ];
        digester.add(&FULFILMENTS, &row);
        for units in &fulfilment.lines {
            let units = [Value::small(units.line), Value::integer(units.quantity)];
            let [line, quantity] = units;
            digester.add(&FULFILMENT_LINES, &[name.clone(), created_at.clone(), line, quantity]);
        }
    }
    for step in order.timeline() {
        let row = [
            id.clone(),
            created_at.clone(),
            Value::count(step.position.0),
            Value::time(step.at.0),
            Value::text(&step.kind),
            Value::maybe(step.detail.as_deref()),
        ];
        digester.add(&ORDER_TIMELINE, &row);
    }
}

fn add_payment(digester: &mut Digester, view: &OrderView, notes: &OrderNotes) {
    let state = match view.payment_state {
        PaymentState::None | PaymentState::NotRequired => return,
        PaymentState::Pending => "pending",
        PaymentState::RequiresAction => "requires_action",
        PaymentState::Authorized => "authorized",
        PaymentState::Captured => "captured",
        PaymentState::Declined => "declined",
        PaymentState::Voided => "voided",
        PaymentState::PartiallyRefunded => "partially_refunded",
        PaymentState::Refunded => "refunded",
    };
    let row = [
        Value::text(&view.id.to_string()),
        Value::time(view.created_at.0),
        Value::maybe(view.payment_id.map(|id| id.to_string()).as_deref()),
        Value::text(&view.provider),
        Value::maybe(notes.reference.as_deref()),
        Value::integer(view.totals.total.amount),
        Value::text(view.totals.total.currency.code()),
        Value::text(state),
        Value::maybe(notes.decline_reason.as_deref()),
        Value::maybe_time(notes.reserved_at),
        Value::maybe_time(notes.settled_at),
    ];
    digester.add(&PAYMENTS, &row);
}

fn add_refunds(digester: &mut Digester, view: &OrderView, notes: &OrderNotes) {
    let none = RefundNotes::default();
    for refund in &view.refunds {
        let notes = notes.refunds.get(&refund.id).unwrap_or(&none);
        let state = match refund.state {
            RefundState::Pending => "pending",
            RefundState::Succeeded => "succeeded",
            RefundState::Failed => "failed",
        };
        let (name, ordered_at) = (Value::text(&refund.id.to_string()), Value::time(view.created_at.0));
        let row = [
            name.clone(),
            ordered_at.clone(),
            Value::text(&view.id.to_string()),
            Value::integer(refund.amount.amount),
            Value::text(refund.amount.currency.code()),
            Value::Flag(refund.restock),
            Value::Flag(notes.cancels),
            Value::maybe(refund.reason.as_deref()),
            Value::text(state),
            Value::maybe(notes.reference.as_deref()),
            Value::maybe(notes.failure.as_deref()),
            Value::time(refund.created_at.0),
            Value::maybe_time(notes.settled_at),
            Value::maybe_time(notes.restocked_at),
        ];
        digester.add(&REFUNDS, &row);
        for units in &refund.lines {
            let row =
                [name.clone(), ordered_at.clone(), Value::small(units.line), Value::integer(units.quantity)];
            digester.add(&REFUND_LINES, &row);
        }
    }
}
