//! The replies as far as the commands read them. Unknown fields are let through: a newer engine may say more.

use serde::{Deserialize, Serialize};

/// An amount of money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyReply {
    /// Minor units.
    pub amount: i64,
    /// ISO 4217 code.
    pub currency: String,
}

impl MoneyReply {
    /// `amount` minor units of `currency`.
    pub fn new(amount: i64, currency: &str) -> Self {
        Self { amount, currency: currency.to_owned() }
    }
}

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ProblemReply {
    /// Its stable code.
    #[serde(default)]
    pub code: String,
    /// For people.
    pub detail: Option<String>,
    /// When another attempt is worth it, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// A line of a cart.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CartLineReply {
    /// Its id, handed back as it came.
    pub line_id: serde_json::Value,
    /// What.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// Price of one.
    pub unit_price: MoneyReply,
}

/// A cart.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CartReply {
    /// Its id.
    pub id: String,
    /// Its secret, only when it is made.
    pub token: Option<String>,
    /// Its lines.
    #[serde(default)]
    pub lines: Vec<CartLineReply>,
}

/// Sums of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TotalsReply {
    /// What the customer pays.
    pub total: MoneyReply,
}

/// An order, bare or inside a 202.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct OrderReply {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: String,
    /// Sums.
    pub totals: TotalsReply,
    /// How it is paid.
    #[serde(default)]
    pub payment: PaymentReply,
    /// Its lines.
    #[serde(default)]
    pub lines: Vec<OrderLineReply>,
}

impl OrderReply {
    /// Money given back, in minor units.
    pub fn refunded(&self) -> i64 {
        self.payment.refunded.as_ref().map_or(0, |refunded| refunded.amount)
    }

    /// Units given back.
    pub fn units_refunded(&self) -> i64 {
        self.lines.iter().map(|line| line.refunded).sum()
    }
}

/// How an order is paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PaymentReply {
    /// Money given back.
    pub refunded: Option<MoneyReply>,
}

/// A line of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct OrderLineReply {
    /// What was ordered.
    #[serde(default)]
    pub sku: String,
    /// How many were ordered.
    pub quantity: i64,
    /// Units refunded.
    #[serde(default)]
    pub refunded: i64,
}

/// Units of a SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemReply {
    /// What.
    pub sku: String,
    /// How many.
    pub quantity: i64,
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReservationReply {
    /// Its id.
    pub id: String,
    /// `held`, `committed`, `released` or `expired`.
    pub state: String,
    /// When a held one ends.
    pub expires_at: Option<String>,
    /// What it holds.
    #[serde(default)]
    pub items: Vec<ItemReply>,
}

/// A SKU's stock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct StockReply {
    /// Opening, receipts and net adjustments.
    pub received: i64,
    /// Physical units.
    pub on_hand: i64,
    /// Units set aside.
    pub reserved: i64,
    /// `on_hand - reserved`.
    pub available: i64,
    /// `available + oversell limit`.
    pub sellable: i64,
    /// Units committed and not restocked.
    pub sold: i64,
}

impl StockReply {
    /// The first law that these figures break, for a SKU that may not be oversold.
    pub fn broken_law(&self) -> Option<String> {
        let Self { received, on_hand, reserved, available, sellable, sold } = *self;
        if received != on_hand + sold {
            return Some(format!("law 1: received {received} is not on_hand {on_hand} + sold {sold}"));
        }
        if available != on_hand - reserved {
            return Some(format!(
                "law 1: available {available} is not on_hand {on_hand} - reserved {reserved}"
            ));
        }
        if [received, on_hand, reserved, available, sellable, sold].iter().any(|figure| *figure < 0) {
            return Some(format!("law 1: a figure is negative in {self:?}"));
        }
        None
    }
}

/// A row that the import refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// Which line of the file.
    pub line: u64,
    /// Stable code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReply {
    /// SKUs made.
    pub created: u64,
    /// SKUs that were there before.
    pub updated: u64,
    /// Rows that were refused; of very many only the first.
    #[serde(default)]
    pub rejected: Vec<RejectedRow>,
    /// How many rows were refused.
    #[serde(default)]
    pub rejected_total: u64,
}
