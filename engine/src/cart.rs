//! A cart: lines at the prices they were added for, one checkout at a time.
//!
//! Laws: every line is in the cart's currency; totals fit; a cart is in one order at most. Ends after [`CART_TTL_MS`]
//! without a change. Start at [`Cart::decide`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::FieldError;
use crate::identity::{CartId, OrderId, Recorded, RequestStamp, Sku, Timestamp};
use crate::money::{Currency, Money};
use crate::order::{Address, OrderDraft};
use crate::pricing::Totals;

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
    Checkout(CheckoutRequest),
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
