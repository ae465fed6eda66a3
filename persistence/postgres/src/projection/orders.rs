//! Orders with their lines, payments and timelines, folded over the rows a batch touches. Refunds: [`super::refunds`].
//!
//! The rules are written here a second time, over rows and not over the engine's machine, so that one mistake cannot hide in
//! both the tables and the fold that they are compared with.

use std::collections::BTreeMap;

use doorbuster_engine::identity::{OrderId, PaymentId, Recorded};
use doorbuster_engine::order::{LineUnits, OrderDraft, OrderEvent, TIMELINE_MAX};

use super::error::ProjectionError;
use super::refunds::Refund;
use super::rows::{Row, Value};
use super::store::Changes;
use super::tables::{FULFILMENT_LINES, FULFILMENTS, ORDER_LINES, ORDER_TIMELINE, ORDERS, PAYMENTS};

/// Where the columns of an order's row are that change.
mod column {
    pub(super) const CREATED_AT: usize = 1;
    pub(super) const STATE: usize = 4;
    pub(super) const OFF_REASON: usize = 5;
    pub(super) const PROVIDER: usize = 7;
    pub(super) const CURRENCY: usize = 8;
    pub(super) const TOTAL: usize = 13;
    pub(super) const CAPTURED: usize = 14;
    pub(super) const REFUNDED: usize = 15;
    pub(super) const PLACED_AT: usize = 23;
    pub(super) const FULFILLED_AT: usize = 24;
    pub(super) const COMPLETED_AT: usize = 25;
    pub(super) const VERSION: usize = 26;
    pub(super) const CHANGED_AT: usize = 27;
}

/// Where the columns of a line's and of a payment's row are that change.
const LINE_QUANTITY: usize = 5;
const LINE_FULFILLED: usize = 8;
const LINE_REFUNDED: usize = 9;
const PAYMENT_REFERENCE: usize = 4;
const PAYMENT_STATE: usize = 7;
const PAYMENT_REASON: usize = 8;
const PAYMENT_SETTLED_AT: usize = 10;

/// An order under the batch: its rows as they are now.
#[derive(Debug)]
pub(crate) struct Order {
    row: Row,
    /// By number.
    lines: BTreeMap<u32, Row>,
    /// With whether the tables have it.
    payment: Option<(Row, bool)>,
    pub(crate) refunds: Vec<Refund>,
    stored: bool,
    have_lines_changed: bool,
    has_payment_changed: bool,
}

/// The orders of one batch.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    orders: BTreeMap<OrderId, Order>,
    /// Fulfilments and steps of timelines: rows that never change.
    notes: Changes,
}

impl Orders {
    /// Takes a row of `orders`.
    pub(crate) fn load(&mut self, row: Row) {
        let Some(Ok(id)) = row[0].as_text().map(str::parse) else { return };
        let order = Order {
            row,
            lines: BTreeMap::new(),
            payment: None,
            refunds: Vec::new(),
            stored: true,
            have_lines_changed: false,
            has_payment_changed: false,
        };
        self.orders.insert(id, order);
    }

    /// The order that a row of another table is of, by its column `index`.
    pub(crate) fn of(&mut self, row: &Row, index: usize) -> Option<&mut Order> {
        self.orders.get_mut(&row[index].as_text()?.parse().ok()?)
    }

    /// The order with this refund.
    pub(crate) fn with_refund(&mut self, id: &str) -> Option<&mut Refund> {
        self.orders.values_mut().flat_map(|order| &mut order.refunds).find(|refund| refund.is_named(id))
    }

    pub(crate) fn fold(
        &mut self,
        id: OrderId,
        event: &OrderEvent,
        recorded: Recorded,
    ) -> Result<(), ProjectionError> {
        let unknown = |what: String| ProjectionError::Inconsistent { position: recorded.position.0, what };
        if let OrderEvent::Started(draft) = event
            && self.orders.insert(id, Order::start(id, draft, recorded)).is_some()
        {
            return Err(unknown(format!("order {id} starts twice")));
        }
        let Some(order) = self.orders.get_mut(&id) else {
            return Err(unknown(format!("there is no order {id}")));
        };
        if !event.is_change() {
            return Ok(());
        }
        let version = order.row[column::VERSION].as_integer() + 1;
        order.row[column::VERSION] = Value::integer(version);
        order.row[column::CHANGED_AT] = Value::time(recorded.at.0);
        if usize::try_from(version).is_ok_and(|version| version <= TIMELINE_MAX) {
            let (kind, detail) = event.described();
            self.notes.insert(
                &ORDER_TIMELINE,
                vec![
                    order.row[0].clone(),
                    order.row[column::CREATED_AT].clone(),
                    Value::count(recorded.position.0),
                    Value::time(recorded.at.0),
                    Value::text(kind),
                    Value::maybe(detail.as_deref()),
                ],
            );
        }
        if let OrderEvent::Fulfilled { fulfilment, lines, tracking } = event {
            let (name, ordered_at) =
                (Value::text(&fulfilment.to_string()), order.row[column::CREATED_AT].clone());
            let row = vec![
                name.clone(),
                ordered_at.clone(),
                order.row[0].clone(),
                Value::maybe(tracking.as_deref()),
                Value::time(recorded.at.0),
            ];
            self.notes.insert(&FULFILMENTS, row);
            for units in lines {
                let units = [Value::small(units.line), Value::integer(units.quantity)];
                self.notes.insert(
                    &FULFILMENT_LINES,
                    [name.clone(), ordered_at.clone()].into_iter().chain(units).collect(),
                );
            }
        }
        order.take(id, event, recorded).ok_or_else(|| {
            unknown(format!("order {id} is {}, which {} does not follow", order.state(), event.described().0))
        })?;
        order.row[column::STATE] = Value::text(order.derived_state());
        Ok(())
    }

    /// What changed, as rows.
    pub(crate) fn finish(self, changes: &mut Changes) {
        for order in self.orders.into_values() {
            if order.stored {
                changes.update(&ORDERS, order.row);
            } else {
                changes.insert(&ORDERS, order.row);
            }
            for line in order.lines.into_values() {
                if !order.stored {
                    changes.insert(&ORDER_LINES, line);
                } else if order.have_lines_changed {
                    changes.update(&ORDER_LINES, line);
                }
            }
            match order.payment {
                Some((payment, false)) => changes.insert(&PAYMENTS, payment),
                Some((payment, true)) if order.has_payment_changed => changes.update(&PAYMENTS, payment),
                Some(_) | None => {}
            }
            for refund in order.refunds {
                refund.finish(changes);
            }
        }
        changes.append(self.notes);
    }
}

impl Order {
    fn start(id: OrderId, draft: &OrderDraft, recorded: Recorded) -> Self {
        let (id, created_at) = (Value::text(&id.to_string()), Value::time(recorded.at.0));
        let lines = draft.lines.iter().map(|line| {
            let row = vec![
                id.clone(),
                created_at.clone(),
                Value::small(line.line),
                Value::text(line.sku.as_str()),
                Value::text(&line.name),
                Value::integer(line.quantity),
                Value::integer(line.unit_price.amount),
                Value::integer(line.quantity * line.unit_price.amount),
                Value::integer(0),
                Value::integer(0),
            ];
            (line.line, row)
        });
        let lines = lines.collect();
        let totals = &draft.totals;
        let address = draft.shipping_address.as_ref();
        let part = |part: Option<&String>| Value::maybe(part.map(String::as_str));
        let row = vec![
            id.clone(),
            created_at.clone(),
            Value::count(recorded.position.0),
            Value::text(&draft.cart.to_string()),
            Value::text("pending_payment"),
            Value::maybe(None),
            Value::text(&draft.email),
            Value::text(&draft.provider),
            Value::text(totals.total.currency.code()),
            Value::integer(totals.subtotal.amount),
            Value::integer(totals.discount.amount),
            Value::integer(totals.shipping.amount),
            Value::integer(totals.tax.amount),
            Value::integer(totals.total.amount),
            Value::integer(0),
            Value::integer(0),
            part(address.and_then(|address| address.name.as_ref())),
            part(address.and_then(|address| address.line1.as_ref())),
            part(address.and_then(|address| address.line2.as_ref())),
            part(address.and_then(|address| address.city.as_ref())),
            part(address.and_then(|address| address.region.as_ref())),
            part(address.and_then(|address| address.postal_code.as_ref())),
            part(address.map(|address| &address.country)),
            Value::Time(None),
            Value::Time(None),
            Value::Time(None),
            Value::integer(0),
            created_at,
        ];
        Self {
            row,
            lines,
            payment: None,
            refunds: Vec::new(),
            stored: false,
            have_lines_changed: false,
            has_payment_changed: false,
        }
    }

    pub(crate) fn load_line(&mut self, row: Row) {
        self.lines.insert(u32::try_from(row[2].as_integer()).unwrap_or(0), row);
    }

    pub(crate) fn load_payment(&mut self, row: Row) {
        self.payment = Some((row, true));
    }

    fn state(&self) -> &str {
        self.row[column::STATE].as_text().unwrap_or_default()
    }

    fn amount(&self, column: usize) -> i64 {
        self.row[column].as_integer()
    }

    /// Folds one event; `None` where it does not fit what is there.
    fn take(&mut self, id: OrderId, event: &OrderEvent, recorded: Recorded) -> Option<()> {
        let at = Value::time(recorded.at.0);
        match event {
            OrderEvent::Started(_)
            | OrderEvent::UnitsSold
            | OrderEvent::UnitsFreed
            | OrderEvent::CartTold
            | OrderEvent::Noticed { asks: false, .. }
            | OrderEvent::StrayFound { .. }
            | OrderEvent::StrayReturned { .. }
            | OrderEvent::StrayKept { .. }
            | OrderEvent::Answered(_) => {}
            OrderEvent::UnitsReserved => self.ask_for_money(id, &at),
            OrderEvent::UnitsRefused { .. } => self.row[column::OFF_REASON] = Value::text("refused"),
            OrderEvent::PaymentUnanswered
            | OrderEvent::ConfirmRequested
            | OrderEvent::Noticed { asks: true, .. }
            | OrderEvent::PaymentDeferred { .. }
            | OrderEvent::PaymentResumed
            | OrderEvent::VoidRequested { .. } => self.pay("pending", None),
            OrderEvent::ActionRequired { reference, action: _ } => {
                self.pay("requires_action", None);
                self.set_payment(PAYMENT_REFERENCE, Value::text(reference));
            }
            OrderEvent::PaymentDeclined { reason, retryable: _ } => {
                self.row[column::OFF_REASON] = Value::text("declined");
                self.pay("declined", Some(at));
                self.set_payment(PAYMENT_REASON, Value::text(reason));
            }
            OrderEvent::PaymentVoided => {
                self.row[column::OFF_REASON] = Value::text("voided");
                self.pay("voided", Some(at));
            }
            OrderEvent::PaymentAuthorized { reference } => {
                self.pay("authorized", None);
                self.set_payment(PAYMENT_REFERENCE, Value::text(reference));
            }
            OrderEvent::Placed { reference } => {
                self.row[column::PLACED_AT] = at.clone();
                if !self.is_authorized() {
                    self.capture(at);
                }
                self.set_payment(PAYMENT_REFERENCE, Value::maybe(reference.as_deref()));
            }
            OrderEvent::PaymentCaptured => self.capture(at),
            OrderEvent::CaptureFailed { reason } => {
                self.pay("declined", Some(at));
                self.set_payment(PAYMENT_REASON, Value::text(reason));
            }
            OrderEvent::AuthorizationVoided => {
                let cancelling =
                    self.refunds.iter_mut().find(|refund| refund.is_pending() && refund.cancels())?;
                // Nothing was ours, so nothing goes back but the units.
                cancelling.set_amount(0);
                cancelling.succeed(None, at.clone());
                let units = cancelling.units.clone();
                for (line, quantity) in units {
                    self.add_to_line(line, LINE_REFUNDED, quantity)?;
                }
                self.pay("voided", Some(at));
            }
            OrderEvent::CancelRequested { refund } => {
                let amount = self.unclaimed_money();
                let units = self
                    .lines
                    .keys()
                    .map(|line| LineUnits { line: *line, quantity: self.unclaimed_units(*line) });
                let units: Vec<LineUnits> = units.filter(|units| units.quantity > 0).collect();
                let asked =
                    Refund::asked(*refund, &self.head(), amount, &units, (true, true), Some("cancelled"), at);
                self.refunds.push(asked);
            }
            OrderEvent::RefundRequested { refund, amount, lines, restock, reason } => {
                let flags = (*restock, false);
                let asked =
                    Refund::asked(*refund, &self.head(), amount.amount, lines, flags, reason.as_deref(), at);
                self.refunds.push(asked);
            }
            OrderEvent::RefundSucceeded { refund, reference } => {
                let done = self.refunds.iter_mut().find(|known| known.is(*refund))?;
                done.succeed(reference.as_deref(), at);
                let (amount, units) = (done.amount(), done.units.clone());
                self.row[column::REFUNDED] = Value::integer(self.amount(column::REFUNDED) + amount);
                for (line, quantity) in units {
                    self.add_to_line(line, LINE_REFUNDED, quantity)?;
                }
                let (captured, refunded) = (self.amount(column::CAPTURED), self.amount(column::REFUNDED));
                if captured > 0 && refunded > 0 {
                    let state = if refunded == captured { "refunded" } else { "partially_refunded" };
                    self.pay(state, None);
                }
            }
            OrderEvent::RefundFailed { refund, reason } => {
                self.refunds.iter_mut().find(|known| known.is(*refund))?.fail(reason, at);
            }
            OrderEvent::UnitsRestocked { refund } => {
                self.refunds.iter_mut().find(|known| known.is(*refund))?.restocked(at);
            }
            OrderEvent::Fulfilled { lines, .. } => {
                for units in lines {
                    self.add_to_line(units.line, LINE_FULFILLED, units.quantity)?;
                }
                let left = |row: &Row| {
                    row[LINE_QUANTITY].as_integer()
                        - row[LINE_REFUNDED].as_integer()
                        - row[LINE_FULFILLED].as_integer()
                };
                if self.lines.values().all(|row| left(row) <= 0) {
                    self.row[column::FULFILLED_AT] = at;
                }
            }
            OrderEvent::Completed => self.row[column::COMPLETED_AT] = at,
        }
        Some(())
    }

    /// What an order of these rows is called.
    fn derived_state(&self) -> &'static str {
        let is_set = |column: usize| self.row[column].as_time().is_some();
        if self.row[column::OFF_REASON].as_text().is_some() {
            return "cancelled";
        }
        if !is_set(column::PLACED_AT) {
            return "pending_payment";
        }
        let mut succeeded = self.refunds.iter().filter(|refund| refund.has_succeeded()).peekable();
        if succeeded.peek().is_some() {
            let captured = self.amount(column::CAPTURED);
            let is_whole = if captured > 0 {
                self.amount(column::REFUNDED) == captured
            } else {
                self.lines.values().all(|row| row[LINE_REFUNDED] == row[LINE_QUANTITY])
            };
            return match (succeeded.any(Refund::cancels), is_whole) {
                (true, _) => "cancelled",
                (false, true) => "refunded",
                (false, false) => "partially_refunded",
            };
        }
        match (is_set(column::COMPLETED_AT), is_set(column::FULFILLED_AT)) {
            (true, _) => "completed",
            (false, true) => "fulfilled",
            (false, false) => "paid",
        }
    }

    /// Order, its time and its currency: what rows about it begin with.
    fn head(&self) -> [Value; 3] {
        [0, column::CREATED_AT, column::CURRENCY].map(|column| self.row[column].clone())
    }

    fn is_authorized(&self) -> bool {
        let payment = self.payment.as_ref();
        payment.is_some_and(|(payment, _)| payment[PAYMENT_STATE].as_text() == Some("authorized"))
    }

    fn capture(&mut self, at: Value) {
        self.row[column::CAPTURED] = self.row[column::TOTAL].clone();
        self.pay("captured", Some(at));
    }

    fn ask_for_money(&mut self, id: OrderId, at: &Value) {
        if self.amount(column::TOTAL) == 0 {
            return;
        }
        let [order, ordered_at, currency] = self.head();
        let payment = vec![
            order,
            ordered_at,
            Value::text(&PaymentId(id.0).to_string()),
            self.row[column::PROVIDER].clone(),
            Value::maybe(None),
            self.row[column::TOTAL].clone(),
            currency,
            Value::text("pending"),
            Value::maybe(None),
            at.clone(),
            Value::Time(None),
        ];
        self.payment = Some((payment, false));
    }

    fn pay(&mut self, state: &str, settled_at: Option<Value>) {
        self.set_payment(PAYMENT_STATE, Value::text(state));
        if let Some(at) = settled_at {
            self.set_payment(PAYMENT_SETTLED_AT, at);
        }
    }

    /// Where there is nothing to pay there is no payment.
    fn set_payment(&mut self, column: usize, value: Value) {
        if let Some((payment, _)) = &mut self.payment {
            payment[column] = value;
            self.has_payment_changed = true;
        }
    }

    fn add_to_line(&mut self, line: u32, column: usize, quantity: i64) -> Option<()> {
        let row = self.lines.get_mut(&line)?;
        row[column] = Value::integer(row[column].as_integer() + quantity);
        self.have_lines_changed = true;
        Some(())
    }

    /// Money that no refund has taken or may yet take, of what is ours or held for us.
    fn unclaimed_money(&self) -> i64 {
        let pending: i64 = self.refunds.iter().filter(|refund| refund.is_pending()).map(Refund::amount).sum();
        let paid = if self.is_authorized() { column::TOTAL } else { column::CAPTURED };
        self.amount(paid) - self.amount(column::REFUNDED) - pending
    }

    /// Units of a line that no refund has taken or may yet take.
    fn unclaimed_units(&self, line: u32) -> i64 {
        let Some(row) = self.lines.get(&line) else { return 0 };
        let pending = self.refunds.iter().filter(|refund| refund.is_pending());
        let pending = pending.flat_map(|refund| &refund.units).filter(|(of, _)| *of == line);
        let pending: i64 = pending.map(|(_, quantity)| quantity).sum();
        row[LINE_QUANTITY].as_integer() - row[LINE_REFUNDED].as_integer() - pending
    }
}
