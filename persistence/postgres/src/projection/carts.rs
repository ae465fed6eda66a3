//! Carts and their lines, folded over the rows a batch touches.

use std::collections::BTreeMap;

use doorbuster_engine::cart::{CartEvent, NewLine};
use doorbuster_engine::identity::{CartId, Recorded};

use super::error::ProjectionError;
use super::rows::{Row, Value, storable};
use super::store::Changes;
use super::tables::{CART_LINES, CARTS};

#[derive(Debug)]
struct Line {
    number: u32,
    sku: String,
    name: String,
    quantity: i64,
    unit_price: i64,
}

#[derive(Debug)]
struct Cart {
    state: String,
    currency: String,
    order: Option<String>,
    version: i64,
    created_at: u64,
    changed_at: u64,
    expires_at: u64,
    next_line: u32,
    ttl_ms: u64,
    lines: Vec<Line>,
    stored: bool,
    has_new_lines: bool,
}

/// The carts of one batch.
#[derive(Debug, Default)]
pub(crate) struct Carts {
    carts: BTreeMap<CartId, Cart>,
}

impl Carts {
    /// Takes a row of `carts`.
    pub(crate) fn load(&mut self, row: &[Value]) {
        let Some(Ok(id)) = row[0].as_text().map(str::parse) else { return };
        let text = |index: usize| row[index].as_text().map(str::to_owned);
        let time = |index: usize| row[index].as_time().unwrap_or(0);
        let cart = Cart {
            state: text(1).unwrap_or_default(),
            currency: text(2).unwrap_or_default(),
            order: text(5),
            version: row[6].as_integer(),
            created_at: time(7),
            changed_at: time(8),
            expires_at: time(9),
            next_line: u32::try_from(row[10].as_integer()).unwrap_or(0),
            ttl_ms: u64::try_from(row[11].as_integer()).unwrap_or(0),
            lines: Vec::new(),
            stored: true,
            has_new_lines: false,
        };
        self.carts.insert(id, cart);
    }

    /// Takes a row of `cart_lines` of a cart that was loaded before.
    pub(crate) fn load_line(&mut self, row: &[Value]) {
        let Some(Ok(id)) = row[0].as_text().map(str::parse) else { return };
        let Some(cart) = self.carts.get_mut(&id) else { return };
        let text = |index: usize| row[index].as_text().unwrap_or_default().to_owned();
        cart.lines.push(Line {
            number: u32::try_from(row[1].as_integer()).unwrap_or(0),
            sku: text(2),
            name: text(3),
            quantity: row[4].as_integer(),
            unit_price: row[5].as_integer(),
        });
    }

    pub(crate) fn fold(
        &mut self,
        id: CartId,
        event: &CartEvent,
        recorded: Recorded,
    ) -> Result<(), ProjectionError> {
        if let CartEvent::Created { currency, ttl_ms, .. } = event {
            let cart = Cart {
                state: "open".to_owned(),
                currency: currency.code().to_owned(),
                order: None,
                version: 0,
                created_at: recorded.at.0,
                changed_at: recorded.at.0,
                expires_at: 0,
                next_line: 1,
                ttl_ms: *ttl_ms,
                lines: Vec::new(),
                stored: false,
                has_new_lines: true,
            };
            self.carts.insert(id, cart);
        }
        let Some(cart) = self.carts.get_mut(&id) else {
            let what = format!("there is no cart {id}");
            return Err(ProjectionError::Inconsistent { position: recorded.position.0, what });
        };
        cart.version += 1;
        cart.changed_at = recorded.at.0;
        let renewed = recorded.at.plus_ms(cart.ttl_ms).0;
        match event {
            CartEvent::Created { lines, .. } | CartEvent::LinesAdded { lines } => {
                for line in lines {
                    cart.add(line);
                }
                cart.has_new_lines = true;
            }
            CartEvent::QuantitySet { line, quantity } => {
                for known in cart.lines.iter_mut().filter(|known| known.number == *line) {
                    known.quantity = *quantity;
                }
                cart.lines.retain(|known| known.quantity > 0);
                cart.has_new_lines = true;
            }
            CartEvent::CheckoutStarted { draft } => {
                cart.enter("checking_out", Some(draft.order.to_string()));
            }
            CartEvent::Ordered { order } => cart.enter("ordered", Some(order.to_string())),
            CartEvent::Reopened { .. } => cart.enter("open", None),
            CartEvent::Deleted => {
                cart.enter("deleted", None);
                return Ok(());
            }
            CartEvent::Expired => {
                cart.enter("expired", None);
                return Ok(());
            }
        }
        cart.expires_at = renewed;
        Ok(())
    }

    /// What changed, as rows.
    pub(crate) fn finish(self, changes: &mut Changes) {
        for (id, cart) in self.carts {
            let id = id.to_string();
            let row = cart.row(&id);
            if cart.stored {
                changes.update(&CARTS, row);
            } else {
                changes.insert(&CARTS, row);
            }
            if !cart.has_new_lines {
                continue;
            }
            for line in &cart.lines {
                changes.insert(&CART_LINES, line.row(&id));
            }
            if cart.stored {
                changes.rewritten_carts.push(id);
            }
        }
    }
}

impl Cart {
    /// To the line of the same SKU and price, else as a new one.
    fn add(&mut self, new: &NewLine) {
        let (sku, price) = (new.sku.as_str(), new.unit_price.amount);
        if let Some(same) = self.lines.iter_mut().find(|line| line.sku == sku && line.unit_price == price) {
            same.quantity += new.quantity;
            return;
        }
        self.lines.push(Line {
            number: self.next_line,
            sku: sku.to_owned(),
            name: storable(&new.name),
            quantity: new.quantity,
            unit_price: price,
        });
        self.next_line += 1;
    }

    fn enter(&mut self, state: &str, order: Option<String>) {
        state.clone_into(&mut self.state);
        self.order = order;
    }

    fn row(&self, id: &str) -> Row {
        let units = self.lines.iter().map(|line| line.quantity).sum();
        let subtotal = self.lines.iter().map(|line| line.quantity * line.unit_price).sum();
        vec![
            Value::text(id),
            Value::text(&self.state),
            Value::text(&self.currency),
            Value::integer(units),
            Value::integer(subtotal),
            Value::maybe(self.order.as_deref()),
            Value::integer(self.version),
            Value::time(self.created_at),
            Value::time(self.changed_at),
            Value::time(self.expires_at),
            Value::small(self.next_line),
            Value::count(self.ttl_ms),
        ]
    }
}

impl Line {
    fn row(&self, cart: &str) -> Row {
        vec![
            Value::text(cart),
            Value::small(self.number),
            Value::text(&self.sku),
            Value::text(&self.name),
            Value::integer(self.quantity),
            Value::integer(self.unit_price),
        ]
    }
}
