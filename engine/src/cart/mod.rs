//! A cart: lines at the prices they were added for, one checkout at a time.
//!
//! Laws: every line is in the cart's currency; totals fit; a cart is in one order at most. Ends after [`CART_TTL_MS`]
//! without a change. Start at [`Cart::decide`]; the vocabulary is in this file, the guards in `decide`, the only
//! mutation in `fold`.

mod decide;
mod fold;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::identity::{CartId, OrderId, Recorded, RequestStamp, Sku, Timestamp};
use crate::invariants::Violation;
use crate::money::{Currency, Money};
use crate::order::{Address, OrderDraft};
use crate::pricing::{Totals, totals};
use crate::stock::QUANTITY_MAX;

/// How long a cart lives after its last change, unless its creation says otherwise: 7 days.
pub const CART_TTL_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Most lines a cart may have. Beyond it a whole-cart answer would outgrow a frame's comfortable size.
pub const LINES_MAX: usize = 1_000;

/// A line to add: name and price as the catalogue (or an admin) gave them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLine {
    /// What.
    pub sku: Sku,
    /// Its name at that time.
    pub name: Arc<str>,
    /// How many, 1 to [`crate::stock::QUANTITY_MAX`].
    pub quantity: i64,
    /// Price of one.
    pub unit_price: Money,
}

/// A line of a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Number within its cart, from 1, never reused.
    pub line: u32,
    /// What.
    pub sku: Sku,
    /// Its name when first added.
    pub name: Arc<str>,
    /// How many.
    pub quantity: i64,
    /// Price of one.
    pub unit_price: Money,
}

/// Where a cart stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CartStatus {
    /// Not created yet.
    Absent,
    /// Takes changes.
    Open,
    /// A checkout is running; changes are refused until it ends.
    CheckingOut {
        /// The checkout as asked, so that the order can be started again after a crash.
        draft: Box<OrderDraft>,
        /// The request that asked.
        request: Option<RequestStamp>,
    },
    /// It became this order.
    Ordered(OrderId),
    /// Deleted by its owner.
    Deleted,
    /// Ended by time.
    Expired,
}

/// What a caller may ask of a cart, and what its order tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CartCommand {
    /// Makes it.
    Create {
        /// Currency of all its lines.
        currency: Currency,
        /// First lines.
        lines: Vec<NewLine>,
        /// Time to live after each change, in milliseconds.
        ttl_ms: u64,
    },
    /// Adds to the line of that SKU and price, or makes a new one.
    AddLines {
        /// What to add.
        lines: Vec<NewLine>,
        /// `If-Match`, where the caller wants to be refused.
        expected_version: Option<u64>,
    },
    /// Sets a line's quantity; 0 removes it.
    SetQuantity {
        /// Which line.
        line: u32,
        /// New quantity, 0 or more.
        quantity: i64,
        /// `If-Match`, where the caller wants to be refused.
        expected_version: Option<u64>,
    },
    /// Starts a checkout.
    Checkout(Box<CheckoutRequest>),
    /// The order was placed.
    OrderPlaced(OrderId),
    /// The order was not placed; the cart opens again.
    OrderFailed(OrderId),
    /// Deletes it.
    Delete,
    /// The timer rang.
    Expire,
    /// Reads it (GET): the view, or why not.
    Read,
}

/// A checkout as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutRequest {
    /// Id for the order, made outside.
    pub order: OrderId,
    /// Where the confirmation goes.
    pub email: String,
    /// Payment provider's name.
    pub provider: String,
    /// Payment method token, the provider's own.
    pub method: String,
    /// The total the shopper saw; a different one refuses with `price_changed`.
    pub expected_total: Option<Money>,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// How long units may stay pinned while the payment is open, in milliseconds.
    pub pin_ms: u64,
    /// `If-Match`, where the caller wants to be refused.
    pub expected_version: Option<u64>,
}

/// What happened to a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CartEvent {
    /// It was made.
    Created {
        /// Currency of its lines.
        currency: Currency,
        /// First lines.
        lines: Vec<NewLine>,
        /// Time to live after each change, in milliseconds.
        ttl_ms: u64,
    },
    /// Lines were added.
    LinesAdded {
        /// As asked; folding merges them.
        lines: Vec<NewLine>,
    },
    /// A line's quantity was set, or the line removed (0).
    QuantitySet {
        /// Which line.
        line: u32,
        /// New quantity.
        quantity: i64,
    },
    /// A checkout began.
    CheckoutStarted {
        /// What the order starts from.
        draft: Box<OrderDraft>,
    },
    /// The checkout ended in an order.
    Ordered {
        /// Which.
        order: OrderId,
    },
    /// The checkout ended without one.
    Reopened {
        /// Which order failed.
        order: OrderId,
    },
    /// It was deleted.
    Deleted,
    /// It ended by time.
    Expired,
}

/// A cart as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartView {
    /// Its id.
    pub id: CartId,
    /// Currency of its lines.
    pub currency: Currency,
    /// Wire name of its state: `open`, `checking_out`, `ordered`.
    pub state: CartStateName,
    /// Lines in the order first added.
    pub lines: Vec<Line>,
    /// Sums.
    pub totals: Totals,
    /// Grows by one with each change.
    pub version: u64,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// The order it became or is becoming.
    pub order: Option<OrderId>,
}

/// A cart's state by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CartStateName {
    /// Takes changes.
    Open,
    /// A checkout is running.
    CheckingOut,
    /// It became an order.
    Ordered,
}

/// Work that a cart's state demands and that is not done yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CartObligation {
    /// The order must be started (a repeat is a no-op there).
    StartOrder {
        /// From this.
        draft: Box<OrderDraft>,
        /// For this request.
        request: Option<RequestStamp>,
    },
}

/// State of one cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    id: CartId,
    currency: Currency,
    status: CartStatus,
    lines: Vec<Line>,
    next_line: u32,
    version: u64,
    ttl_ms: u64,
    expires_at: Timestamp,
    created: Recorded,
}

impl Cart {
    /// A cart to which nothing has happened yet.
    pub fn new(id: CartId) -> Self {
        Self {
            id,
            // Overwritten by `Created`, before which no line and no view exists.
            currency: Currency::GBP,
            status: CartStatus::Absent,
            lines: Vec::new(),
            next_line: 1,
            version: 0,
            ttl_ms: CART_TTL_MS,
            expires_at: Timestamp(0),
            created: Recorded::default(),
        }
    }

    /// Its id.
    pub fn id(&self) -> CartId {
        self.id
    }

    /// Number of changes so far.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where it stands.
    pub fn status(&self) -> &CartStatus {
        &self.status
    }

    /// When and where it was created.
    pub fn created(&self) -> Recorded {
        self.created
    }

    /// Whether nothing has happened to it yet.
    pub fn is_absent(&self) -> bool {
        match &self.status {
            CartStatus::Absent => true,
            CartStatus::Open
            | CartStatus::CheckingOut { .. }
            | CartStatus::Ordered(_)
            | CartStatus::Deleted
            | CartStatus::Expired => false,
        }
    }

    /// Whether it may leave memory: no checkout waits for it.
    pub fn is_finished(&self) -> bool {
        self.checkout().is_none()
    }

    /// The work a running checkout demands.
    pub fn obligations(&self) -> SmallVec<[CartObligation; 1]> {
        match self.checkout() {
            Some((draft, request)) => {
                smallvec![CartObligation::StartOrder { draft: Box::new(draft.clone()), request }]
            }
            None => SmallVec::new(),
        }
    }

    /// When it ends by itself; only an open cart does.
    pub fn due(&self) -> Option<Timestamp> {
        match &self.status {
            CartStatus::Open => Some(self.expires_at),
            CartStatus::Absent
            | CartStatus::CheckingOut { .. }
            | CartStatus::Ordered(_)
            | CartStatus::Deleted
            | CartStatus::Expired => None,
        }
    }

    /// The cart as its owner sees it. One that is absent or over is shown by what is left of it, as open: whoever
    /// asks by [`CartCommand::Read`] is refused before.
    pub fn view(&self) -> CartView {
        let (state, order) = match &self.status {
            CartStatus::Absent | CartStatus::Open | CartStatus::Deleted | CartStatus::Expired => {
                (CartStateName::Open, None)
            }
            CartStatus::CheckingOut { draft, .. } => (CartStateName::CheckingOut, Some(draft.order)),
            CartStatus::Ordered(order) => (CartStateName::Ordered, Some(*order)),
        };
        CartView {
            id: self.id,
            currency: self.currency,
            state,
            lines: self.lines.clone(),
            totals: self.totals(),
            version: self.version,
            expires_at: self.expires_at,
            order,
        }
    }

    /// Checks what this cart alone can show: law 7 (money adds up in one currency) and law 11 (lines are bounded).
    pub fn check(&self) -> Result<(), Violation> {
        let broken =
            |law: u8, seen: String| Err(Violation { law, entity: format!("cart {}", self.id), seen });
        if sums(self.currency, &self.lines).is_none() {
            return broken(7, "lines of several currencies, or a total that does not fit".into());
        }
        if self.lines.len() > LINES_MAX {
            return broken(11, format!("{} lines, {LINES_MAX} at most", self.lines.len()));
        }
        if let Some(line) = self.lines.iter().find(|line| !(1..=QUANTITY_MAX).contains(&line.quantity)) {
            return broken(7, format!("line {} of {} units", line.line, line.quantity));
        }
        let ordered =
            self.lines.iter().zip(self.lines.iter().skip(1)).all(|(one, next)| one.line < next.line);
        if !ordered || self.lines.last().is_some_and(|line| line.line >= self.next_line) {
            return broken(10, "line numbers do not grow".into());
        }
        Ok(())
    }

    fn totals(&self) -> Totals {
        sums(self.currency, &self.lines).expect("Invariant: a cart's totals fit")
    }

    fn checkout(&self) -> Option<(&OrderDraft, Option<RequestStamp>)> {
        match &self.status {
            CartStatus::CheckingOut { draft, request } => Some((draft, *request)),
            CartStatus::Absent
            | CartStatus::Open
            | CartStatus::Ordered(_)
            | CartStatus::Deleted
            | CartStatus::Expired => None,
        }
    }
}

/// Sums `lines`; `None` when one has another currency or a sum does not fit.
fn sums(currency: Currency, lines: &[Line]) -> Option<Totals> {
    totals(currency, lines.iter().map(|line| (line.quantity, line.unit_price)))
}
