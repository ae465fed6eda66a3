//! Refunds of an order and their lines.

use doorbuster_engine::identity::RefundId;
use doorbuster_engine::order::LineUnits;

use super::rows::{Row, Value};
use super::store::Changes;
use super::tables::{REFUND_LINES, REFUNDS};

const AMOUNT: usize = 3;
const CANCELS: usize = 6;
const STATE: usize = 8;
const REFERENCE: usize = 9;
const FAILURE: usize = 10;
const SETTLED_AT: usize = 12;
const RESTOCKED_AT: usize = 13;

/// A refund under the batch: its row as it is now.
#[derive(Debug)]
pub(crate) struct Refund {
    row: Row,
    /// Line and quantity.
    pub(crate) units: Vec<(u32, i64)>,
    stored: bool,
    has_changed: bool,
}

impl Refund {
    /// Takes a row of `refunds`; its units come one by one.
    pub(crate) fn load(row: Row) -> Self {
        Self { row, units: Vec::new(), stored: true, has_changed: false }
    }

    /// Takes a row of `refund_lines`.
    pub(crate) fn load_line(&mut self, row: &Row) {
        self.units.push((u32::try_from(row[2].as_integer()).unwrap_or(0), row[3].as_integer()));
    }

    /// One that was just asked for: of the order that `head` begins, `flags` say whether it restocks and whether it cancels.
    pub(crate) fn asked(
        id: RefundId,
        head: &[Value; 3],
        amount: i64,
        units: &[LineUnits],
        flags: (bool, bool),
        reason: Option<&str>,
        at: Value,
    ) -> Self {
        let [order, ordered_at, currency] = head.clone();
        let row = vec![
            Value::text(&id.to_string()),
            ordered_at,
            order,
            Value::integer(amount),
            currency,
            Value::Flag(flags.0),
            Value::Flag(flags.1),
            Value::maybe(reason),
            Value::text("pending"),
            Value::maybe(None),
            Value::maybe(None),
            at,
            Value::Time(None),
            Value::Time(None),
        ];
        let units = units.iter().map(|units| (units.line, units.quantity)).collect();
        Self { row, units, stored: false, has_changed: true }
    }

    pub(crate) fn is(&self, id: RefundId) -> bool {
        self.is_named(&id.to_string())
    }

    pub(crate) fn is_named(&self, id: &str) -> bool {
        self.row[0].as_text() == Some(id)
    }

    pub(crate) fn amount(&self) -> i64 {
        self.row[AMOUNT].as_integer()
    }

    pub(crate) fn set_amount(&mut self, amount: i64) {
        self.row[AMOUNT] = Value::integer(amount);
        self.has_changed = true;
    }

    pub(crate) fn cancels(&self) -> bool {
        self.row[CANCELS] == Value::Flag(true)
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.row[STATE].as_text() == Some("pending")
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.row[STATE].as_text() == Some("succeeded")
    }

    pub(crate) fn succeed(&mut self, reference: Option<&str>, at: Value) {
        self.settle("succeeded", at);
        self.row[REFERENCE] = Value::maybe(reference);
    }

    pub(crate) fn fail(&mut self, reason: &str, at: Value) {
        self.settle("failed", at);
        self.row[FAILURE] = Value::text(reason);
    }

    pub(crate) fn restocked(&mut self, at: Value) {
        self.row[RESTOCKED_AT] = at;
        self.has_changed = true;
    }

    fn settle(&mut self, state: &str, at: Value) {
        self.row[STATE] = Value::text(state);
        self.row[SETTLED_AT] = at;
        self.has_changed = true;
    }

    pub(crate) fn finish(self, changes: &mut Changes) {
        if self.stored {
            if self.has_changed {
                changes.update(&REFUNDS, self.row);
            }
            return;
        }
        let (name, ordered_at) = (self.row[0].clone(), self.row[1].clone());
        changes.insert(&REFUNDS, self.row);
        for (line, quantity) in self.units {
            let units = [Value::small(line), Value::integer(quantity)];
            changes
                .insert(&REFUND_LINES, [name.clone(), ordered_at.clone()].into_iter().chain(units).collect());
        }
    }
}
