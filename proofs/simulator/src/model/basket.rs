//! Carts in the model: lines, versions, one checkout at a time.

use doorbuster_engine::answer::Answer;
use doorbuster_engine::cart::{CartEvent, CartStateName, CartView, Line, NewLine};
use doorbuster_engine::identity::{CartId, OrderId, RequestStamp, Timestamp};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::pricing::Totals;

use super::{Model, Past, Standing, Verdict};
use crate::broken::{Broken, demand};

/// Where a cart stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Takes changes.
    Open,
    /// Becoming this order.
    CheckingOut(OrderId),
    /// Became this order.
    Ordered(OrderId),
    /// Deleted or expired.
    Gone,
}

/// A cart.
#[derive(Clone, Debug)]
pub struct Basket {
    /// Where it stands.
    pub stage: Stage,
    currency: Currency,
    lines: Vec<Line>,
    next_line: u32,
    version: u64,
    ttl_ms: u64,
    /// When it ends by itself.
    pub expires_at_ms: u64,
    /// The request behind the running checkout.
    pub request: Option<RequestStamp>,
    /// Every view there was; `None` once it is gone.
    pub past: Past<Option<CartView>>,
}

impl Basket {
    /// Whether a checkout runs.
    pub fn is_checking_out(&self) -> bool {
        matches!(self.stage, Stage::CheckingOut(_))
    }

    /// Its lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The total.
    pub fn total(&self) -> Money {
        let sum = self.lines.iter().map(|line| line.quantity * line.unit_price.amount).sum();
        Money { amount: sum, currency: self.currency }
    }

    fn totals(&self) -> Totals {
        let zero = Money { amount: 0, currency: self.currency };
        Totals { subtotal: self.total(), discount: zero, shipping: zero, tax: zero, total: self.total() }
    }

    fn add(&mut self, new: &[NewLine]) {
        for line in new {
            match self
                .lines
                .iter_mut()
                .find(|known| known.sku == line.sku && known.unit_price == line.unit_price)
            {
                Some(known) => known.quantity += line.quantity,
                None => {
                    self.lines.push(Line {
                        line: self.next_line,
                        sku: line.sku.clone(),
                        name: line.name.clone(),
                        quantity: line.quantity,
                        unit_price: line.unit_price,
                    });
                    self.next_line += 1;
                }
            }
        }
    }

    fn view(&self, id: CartId) -> Option<CartView> {
        let (state, order) = match self.stage {
            Stage::Open => (CartStateName::Open, None),
            Stage::CheckingOut(order) => (CartStateName::CheckingOut, Some(order)),
            Stage::Ordered(order) => (CartStateName::Ordered, Some(order)),
            Stage::Gone => return None,
        };
        Some(CartView {
            id,
            currency: self.currency,
            state,
            lines: self.lines.clone(),
            totals: self.totals(),
            version: self.version,
            expires_at: Timestamp(self.expires_at_ms),
            order,
        })
    }
}

impl Model {
    pub(super) fn fold_cart(
        &mut self,
        id: CartId,
        event: &CartEvent,
        standing: Standing,
    ) -> Result<Vec<Verdict>, Broken> {
        if let CartEvent::Created { currency, lines: _, ttl_ms } = event {
            demand(!self.carts.contains_key(&id.0), 5, || format!("{id} is made twice"))?;
            let cart = Basket {
                stage: Stage::Open,
                currency: *currency,
                lines: Vec::new(),
                next_line: 1,
                version: 0,
                ttl_ms: *ttl_ms,
                expires_at_ms: standing.at_ms + ttl_ms,
                request: None,
                past: Past::default(),
            };
            self.carts.insert(id.0, cart);
        }
        let Some(mut cart) = self.carts.remove(&id.0) else {
            return Err(Broken { law: 10, seen: format!("{id} changes before it is made") });
        };
        let changed = self.change_cart(id, &mut cart, event, standing);
        cart.version += 1;
        let view = cart.view(id);
        cart.past.note(standing, view.clone());
        self.carts.insert(id.0, cart);
        changed?;
        let answer = match event {
            CartEvent::Created { .. } => view.map(|view| Answer::CartCreated(Box::new(view))),
            CartEvent::LinesAdded { .. } | CartEvent::QuantitySet { .. } => {
                view.map(|view| Answer::Cart(Box::new(view)))
            }
            CartEvent::Deleted => Some(Answer::CartDeleted),
            CartEvent::CheckoutStarted { .. }
            | CartEvent::Ordered { .. }
            | CartEvent::Reopened { .. }
            | CartEvent::Expired => None,
        };
        Ok(standing.request.zip(answer).map(|(request, answer)| (request, Ok(answer))).into_iter().collect())
    }

    fn change_cart(
        &mut self,
        id: CartId,
        cart: &mut Basket,
        event: &CartEvent,
        standing: Standing,
    ) -> Result<(), Broken> {
        let at_ms = standing.at_ms;
        let from = cart.stage.clone();
        let alive = from == Stage::Open && at_ms < cart.expires_at_ms;
        let open = || demand(alive, 10, || format!("{id} changes at {at_ms} while {from:?}"));
        let renewed_ms = at_ms + cart.ttl_ms;
        match event {
            CartEvent::Created { lines, .. } => cart.add(lines),
            CartEvent::LinesAdded { lines } => {
                open()?;
                cart.add(lines);
            }
            CartEvent::QuantitySet { line, quantity } => {
                open()?;
                let known = cart.lines.iter_mut().find(|known| known.line == *line);
                let known =
                    known.ok_or_else(|| Broken { law: 10, seen: format!("{id} has no line {line}") })?;
                known.quantity = *quantity;
                cart.lines.retain(|line| line.quantity > 0);
            }
            CartEvent::CheckoutStarted { draft } => {
                open()?;
                demand(draft.cart == id && draft.totals == cart.totals(), 7, || {
                    format!("{id} is checked out for {:?}, its total is {:?}", draft.totals, cart.totals())
                })?;
                let same = draft.lines.len() == cart.lines.len()
                    && draft.lines.iter().zip(&cart.lines).all(|(drafted, line)| {
                        (drafted.line, &drafted.sku, drafted.quantity, drafted.unit_price)
                            == (line.line, &line.sku, line.quantity, line.unit_price)
                    });
                demand(same && !draft.lines.is_empty(), 7, || {
                    format!("{id} is checked out with other lines")
                })?;
                demand(!self.orders.contains_key(&draft.order.0), 7, || {
                    format!("{} is an order already", draft.order)
                })?;
                cart.stage = Stage::CheckingOut(draft.order);
                cart.request = standing.request;
            }
            CartEvent::Ordered { order } => {
                demand(from == Stage::CheckingOut(*order), 6, || format!("{id} is ordered while {from:?}"))?;
                let placed = self.orders.get(&order.0).is_some_and(super::purchase::Purchase::is_placed);
                demand(placed, 6, || format!("{id} became {order}, which is not placed"))?;
                cart.stage = Stage::Ordered(*order);
            }
            CartEvent::Reopened { order } => {
                demand(from == Stage::CheckingOut(*order), 6, || format!("{id} reopens while {from:?}"))?;
                let off = self.orders.get(&order.0).is_some_and(super::purchase::Purchase::is_off);
                demand(off, 6, || format!("{id} reopens, {order} is not off"))?;
                cart.stage = Stage::Open;
            }
            CartEvent::Deleted => {
                open()?;
                cart.stage = Stage::Gone;
                return Ok(());
            }
            CartEvent::Expired => {
                demand(from == Stage::Open && at_ms >= cart.expires_at_ms, 10, || {
                    format!("{id} expires at {at_ms} while {from:?}, due {}", cart.expires_at_ms)
                })?;
                cart.stage = Stage::Gone;
                return Ok(());
            }
        }
        cart.expires_at_ms = renewed_ms;
        Ok(())
    }
}
