//! An order, its refunds, fulfilments and timeline, as shown: plain data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::identity::{CartId, FulfilmentId, OrderId, PaymentId, Position, RefundId, Sku, Timestamp};
use crate::money::Money;
use crate::pricing::Totals;

use super::{Address, LineUnits, OrderState, PaymentState};

/// A line of an order, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// Number within the order.
    pub line: u32,
    /// What.
    pub sku: Sku,
    /// Its name.
    pub name: Arc<str>,
    /// How many were ordered.
    pub quantity: i64,
    /// Price of one.
    pub unit_price: Money,
    /// `quantity × unit_price`.
    pub total: Money,
    /// Units handed to the carrier.
    pub fulfilled: i64,
    /// Units refunded.
    pub refunded: i64,
}

/// An order, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    /// Its id.
    pub id: OrderId,
    /// Its number, for people: unique, growing.
    pub number: String,
    /// The cart it came from.
    pub cart: CartId,
    /// Where it stands.
    pub state: OrderState,
    /// Its lines.
    pub lines: Vec<OrderLine>,
    /// Sums.
    pub totals: Totals,
    /// Where the confirmation goes.
    pub email: String,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// Provider's name.
    pub provider: String,
    /// Where the payment stands.
    pub payment_state: PaymentState,
    /// The payment's id, where there is one.
    pub payment_id: Option<PaymentId>,
    /// Money taken.
    pub captured: Money,
    /// Money given back.
    pub refunded: Money,
    /// When the checkout began.
    pub created_at: Timestamp,
    /// Grows by one with each change.
    pub version: u64,
    /// Its refunds, oldest first.
    pub refunds: Vec<RefundView>,
    /// Its fulfilments, oldest first.
    pub fulfilments: Vec<FulfilmentView>,
}

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefundState {
    /// Asked for.
    Pending,
    /// The money went back.
    Succeeded,
    /// It did not, and will not.
    Failed,
}

/// A refund, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundView {
    /// Its id.
    pub id: RefundId,
    /// Of which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// Which units.
    pub lines: Vec<LineUnits>,
    /// Whether they go back on the shelf.
    pub restock: bool,
    /// Why.
    pub reason: Option<String>,
    /// Where it stands.
    pub state: RefundState,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// A fulfilment, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfilmentView {
    /// Its id.
    pub id: FulfilmentId,
    /// Of which order.
    pub order: OrderId,
    /// Which units.
    pub lines: Vec<LineUnits>,
    /// The carrier's tracking number.
    pub tracking: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

/// One step of an order's life, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Where it stands among all events.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// Wire name of what happened, e.g. `units_reserved`.
    pub kind: String,
    /// More, for people.
    pub detail: Option<String>,
}

/// The few fields by which orders are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// When the checkout began.
    pub created_at: Timestamp,
    /// Its id.
    pub id: OrderId,
    /// Where it stands.
    pub state: OrderState,
    /// Where the confirmation goes.
    pub email: String,
}
