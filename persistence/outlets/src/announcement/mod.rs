//! What strangers are told: one [`Announcement`] a thing that happened, each kind with a schema of its own.
//!
//! Laws: (10) announcements are a pure function of the journal, ids and sequence numbers included, wherever a fold of it was
//! cut and taken up again; none names an e-mail address, a token or a postal address. What is announced and what is not is in
//! ADR 0013. Start at [`Herald::fold`]; `shelf` watches a SKU's level, `json` writes what leaves the house.

mod herald;
mod json;
mod memory;
mod recent;
mod shelf;

use doorbuster_engine::identity::{
    CartId, FulfilmentId, OrderId, PaymentId, Position, RefundId, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::Money;

pub use herald::Herald;
pub use json::Source;
pub use memory::MemoryError;

/// The kinds of resource that are told of, each with a stream of its own: order is kept within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Orders and their payments.
    Orders,
    /// SKUs.
    Inventory,
    /// Carts.
    Carts,
    /// Reservations.
    Reservations,
}

impl Stream {
    /// All of them, in the order of their indexes.
    pub const ALL: [Self; 4] = [Self::Orders, Self::Inventory, Self::Carts, Self::Reservations];

    /// Its name, as keys and metrics spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Inventory => "inventory",
            Self::Carts => "carts",
            Self::Reservations => "reservations",
        }
    }

    /// Its place in [`Stream::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Orders => 0,
            Self::Inventory => 1,
            Self::Carts => 2,
            Self::Reservations => 3,
        }
    }
}

/// Whom an announcement is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An order.
    Order(OrderId),
    /// A SKU.
    Sku(Sku),
    /// A cart.
    Cart(CartId),
    /// A reservation.
    Reservation(ReservationId),
}

impl Subject {
    /// The stream in which all that is said of it stands.
    pub fn stream(&self) -> Stream {
        match self {
            Self::Order(_) => Stream::Orders,
            Self::Sku(_) => Stream::Inventory,
            Self::Cart(_) => Stream::Carts,
            Self::Reservation(_) => Stream::Reservations,
        }
    }
}

/// A line of an order or cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number within the order or cart.
    pub line: u32,
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: i64,
    /// Price of one.
    pub unit_price: Money,
}

/// Why an order was called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Some SKU had not enough units.
    OutOfStock,
    /// The provider refused the payment.
    PaymentDeclined,
    /// The payment was not finished in time.
    PaymentTimedOut,
    /// Shopper or merchant asked for it.
    Requested,
}

/// How much of a SKU can be sold, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    SoldOut,
    /// Some, at or below the merchant's mark.
    Low,
    /// More than that.
    Fine,
}

/// Figures of a SKU beside a change of its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Units that can be promised.
    pub sellable: i64,
    /// Physical units.
    pub on_hand: i64,
    /// The merchant's mark, where there is one.
    pub low_stock_at: Option<i64>,
}

/// What happened, by kind. What is optional was forgotten: see [`Herald`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A checkout began.
    OrderCreated {
        /// The cart it came from.
        cart: CartId,
        /// Its number for people.
        number: String,
        /// Its lines.
        lines: Vec<Line>,
        /// What it will cost.
        total: Money,
    },
    /// The order stands.
    OrderPaid {
        /// What it cost.
        total: Option<Money>,
    },
    /// Units were handed to the carrier.
    OrderFulfilled {
        /// Which fulfilment.
        fulfilment: FulfilmentId,
        /// Lines and units.
        units: Vec<(u32, i64)>,
    },
    /// Its return window has passed.
    OrderCompleted,
    /// It was called off.
    OrderCancelled {
        /// Why.
        reason: CancelReason,
    },
    /// Money went back.
    OrderRefunded {
        /// Which refund.
        refund: RefundId,
        /// How much.
        amount: Option<Money>,
        /// How much by now, this included.
        refunded: Option<Money>,
        /// Whether nothing is left to give back.
        in_full: Option<bool>,
    },
    /// The provider would not give money back.
    OrderRefundFailed {
        /// Which refund.
        refund: RefundId,
        /// How much.
        amount: Option<Money>,
    },
    /// The money is ours.
    PaymentSucceeded {
        /// Which payment.
        payment: PaymentId,
        /// How much.
        amount: Option<Money>,
    },
    /// Definitely not charged.
    PaymentFailed {
        /// Which payment.
        payment: PaymentId,
        /// Whether a new attempt may fare better; absent where it was called off and not refused.
        declined_retryable: Option<bool>,
    },
    /// A SKU is at or below its mark.
    InventoryLow(Figures),
    /// A SKU that was low or sold out is less so.
    InventoryRestocked(Figures, Level),
    /// Nothing of a SKU is left to sell.
    SoldOut(Figures),
    /// A cart with something in it ended by time.
    CartAbandoned {
        /// What was in it.
        lines: Option<Vec<Line>>,
        /// What that would have cost.
        total: Option<Money>,
    },
    /// A reservation's units went back by time.
    ReservationExpired {
        /// Which units.
        items: Vec<(Sku, i64)>,
    },
}

/// Names of all kinds, as `type` has them between `com.doorbuster.` and the version.
pub const KINDS: [&str; 14] = [
    "order.created",
    "order.paid",
    "order.fulfilled",
    "order.completed",
    "order.cancelled",
    "order.refunded",
    "order.refund_failed",
    "payment.succeeded",
    "payment.failed",
    "inventory.low",
    "inventory.restocked",
    "inventory.sold_out",
    "cart.abandoned",
    "reservation.expired",
];

impl Happened {
    /// Its kind's name in [`KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OrderCreated { .. } => "order.created",
            Self::OrderPaid { .. } => "order.paid",
            Self::OrderFulfilled { .. } => "order.fulfilled",
            Self::OrderCompleted => "order.completed",
            Self::OrderCancelled { .. } => "order.cancelled",
            Self::OrderRefunded { .. } => "order.refunded",
            Self::OrderRefundFailed { .. } => "order.refund_failed",
            Self::PaymentSucceeded { .. } => "payment.succeeded",
            Self::PaymentFailed { .. } => "payment.failed",
            Self::InventoryLow(_) => "inventory.low",
            Self::InventoryRestocked(..) => "inventory.restocked",
            Self::SoldOut(_) => "inventory.sold_out",
            Self::CartAbandoned { .. } => "cart.abandoned",
            Self::ReservationExpired { .. } => "reservation.expired",
        }
    }
}

/// Something told to strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Position of the record that brought it about.
    pub position: Position,
    /// Its number among all that this record brought about, from 0.
    pub index: u8,
    /// When it happened, in business time.
    pub at: Timestamp,
    /// Whom it is about.
    pub subject: Subject,
    /// Its number among all that is said of the subject, from 1 without a gap; absent where the subject was forgotten.
    pub sequence: Option<u32>,
    /// What happened.
    pub happened: Happened,
}
