//! An order: the checkout saga that makes it, its payment, and its life afterwards.
//!
//! Laws: 6 (all units or none), 7 (one charge; captured minus refunded is what the order says), 8 (units stay pinned
//! while a charge may succeed). Reserve, authorize, **place** (the point of no return), sell, capture, tell the cart: each
//! step is an obligation that the state demands until an event says it is done, so a crash resumes by asking the state.
//! The picture of all states stands in `docs/payments.md`.
//! Start at [`Order::decide`] and [`Order::obligations`]; commands, events and obligations are in `vocabulary`, the state in
//! this file, the guards in `decide`, the only mutation in `fold`, what state demands in `obligations`, what it shows in
//! `shown` and `view`.

mod decide;
mod fold;
mod obligations;
mod shown;
#[cfg(test)]
mod tests;
mod view;
mod vocabulary;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::Item;
use crate::identity::{CartId, OrderId, Recorded, RefundId, RequestStamp, Sku, Timestamp};
use crate::money::{Currency, Money};
use crate::payment::NextAction;
use crate::pricing::Totals;

pub use shown::{FulfilmentView, OrderLine, OrderSummary, OrderView, RefundState, RefundView, TimelineEntry};
pub use vocabulary::{Inquiry, OrderCommand, OrderEvent, OrderObligation, StrayOutcome};

/// A postal address; every part optional but `country`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Addressee.
    pub name: Option<String>,
    /// First line.
    pub line1: Option<String>,
    /// Second line.
    pub line2: Option<String>,
    /// Town.
    pub city: Option<String>,
    /// County, state or province.
    pub region: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// ISO 3166 country code or the shop's own name of it.
    pub country: String,
}

/// A line as the cart handed it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftLine {
    /// Number within the cart and order.
    pub line: u32,
    /// What.
    pub sku: Sku,
    /// Its name.
    pub name: Arc<str>,
    /// How many.
    pub quantity: i64,
    /// Price of one.
    pub unit_price: Money,
}

/// All that an order starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderDraft {
    /// The order's id.
    pub order: OrderId,
    /// The cart it comes from.
    pub cart: CartId,
    /// Its lines.
    pub lines: Vec<DraftLine>,
    /// Sums.
    pub totals: Totals,
    /// Where the confirmation goes.
    pub email: String,
    /// Payment provider's name.
    pub provider: String,
    /// Payment method token.
    pub method: String,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// How long units may stay pinned while the payment is open, in milliseconds.
    pub pin_ms: u64,
}

/// Where an order stands, as the world sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OrderState {
    /// Units are being held or the payment is open.
    PendingPayment,
    /// Paid and placed.
    Paid,
    /// Every unit was handed to the carrier.
    Fulfilled,
    /// The return window has passed.
    Completed,
    /// Called off; nothing is kept, nothing is owed.
    Cancelled,
    /// Part of the money went back.
    PartiallyRefunded,
    /// All of the money went back.
    Refunded,
}

/// Where an order's payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PaymentState {
    /// Not asked for yet.
    None,
    /// Nothing to pay.
    NotRequired,
    /// Asked for, no answer yet.
    Pending,
    /// The shopper must act.
    RequiresAction,
    /// The provider holds the money for us; it is captured once the units are sold.
    Authorized,
    /// The money is ours.
    Captured,
    /// Definitely not charged.
    Declined,
    /// Cancelled before it succeeded.
    Voided,
    /// Part went back.
    PartiallyRefunded,
    /// All went back.
    Refunded,
}

/// Lines and units of a refund or fulfilment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineUnits {
    /// Which line of the order.
    pub line: u32,
    /// How many units of it, 1 or more.
    pub quantity: i64,
}

/// How long after everything was handed to the carrier an order is completed: 14 days.
pub const RETURN_WINDOW_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// Most entries of a timeline; later ones are in the journal only, so that an order's size stays bounded.
pub const TIMELINE_MAX: usize = 500;

/// Most refunds of one order, and most fulfilments: a view that lists more would outgrow a frame.
pub const STEPS_MAX: usize = 500;

/// Most events of its provider that an order remembers, newest last. Stripe tells of a payment with five or so; a copy of one
/// that was forgotten finds the order beyond what it tells of, and changes nothing.
pub const NOTICES_MAX: usize = 64;

/// Most payments that one order sends back without having wanted them. More than one was never seen; a bound keeps a
/// misbehaving provider from growing an order (law 11).
pub const STRAYS_MAX: usize = 8;

/// How far the checkout came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Nothing happened yet.
    Absent,
    /// SKUs are being asked for their units.
    Holding,
    /// Units are pinned, the payment is open.
    Paying(Paying),
    /// The charge is being cancelled; units stay pinned.
    Voiding {
        /// Whether a caller asked for it.
        by_request: bool,
        /// The refund to make if the money came after all.
        refund: RefundId,
    },
    /// The order stands.
    Placed,
    /// The order is off.
    Off(Off),
}

/// Where an open payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Paying {
    /// The provider cannot be asked now, and was not.
    Deferred {
        /// When the order stops waiting.
        until: Timestamp,
    },
    /// The provider is asked for the money.
    Asked,
    /// The provider's answer was unknown and is looked up.
    LookingUp,
    /// The shopper must act.
    ActionRequired,
    /// The shopper has acted, the provider is asked to finish.
    Confirming,
}

/// Why an order is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Off {
    /// Units were not there.
    Refused,
    /// The provider refused the payment.
    Declined,
    /// The charge was cancelled before it succeeded.
    Voided,
}

/// Whether the money of a placed order is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Funds {
    /// Not placed yet, or nothing to pay.
    None,
    /// The provider holds it for us.
    Authorized,
    /// Ours.
    Captured,
    /// Let go before it was ours, because the order was called off.
    Released,
    /// It was promised, and then could not be captured.
    Lost,
}

/// Money that came without being wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stray {
    reference: String,
    /// Nothing more is to be done about it.
    settled: bool,
}

/// A refund with what is not shown of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refund {
    view: RefundView,
    /// Who waits for it.
    request: Option<RequestStamp>,
    /// Whether it calls the whole order off.
    cancels: bool,
    /// Whether its units are back on the shelf.
    restocked: bool,
}

/// State of one order.
// The flags are steps done, each set once and independent of the others: no machine hides among them.
#[expect(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    id: OrderId,
    stage: Stage,
    cart: CartId,
    lines: Vec<OrderLine>,
    totals: Totals,
    email: String,
    provider: String,
    method: String,
    shipping_address: Option<Address>,
    pin_ms: u64,
    started: Recorded,
    reserved: Option<Recorded>,
    /// Since when units are pinned for an open payment: when the provider was first asked.
    pinned_from: Timestamp,
    /// The provider's name for the charge, once it said one.
    reference: Option<String>,
    /// What the shopper has to do, while the payment waits for it.
    action: Option<NextAction>,
    /// The checkout that waits for its verdict.
    checkout: Option<RequestStamp>,
    /// The confirmation that waits for its verdict.
    confirm: Option<RequestStamp>,
    /// The cancellation that waits for the charge to be cancelled; later its refund carries it.
    cancel: Option<RequestStamp>,
    funds: Funds,
    captured: Money,
    refunded: Money,
    strays: Vec<Stray>,
    /// Events of the provider that were told, newest last.
    notices: Vec<String>,
    refunds: Vec<Refund>,
    fulfilments: Vec<FulfilmentView>,
    units_sold: bool,
    units_freed: bool,
    cart_told: bool,
    cancelled: bool,
    /// When the last unit was handed to the carrier.
    fulfilled_at: Option<Timestamp>,
    completed: bool,
    timeline: Vec<TimelineEntry>,
    version: u64,
}

impl Order {
    /// An order to which nothing has happened yet.
    pub fn new(id: OrderId) -> Self {
        // Overwritten by `Started`, before which there is no line and no view.
        let zero = Money::zero(Currency::GBP);
        Self {
            id,
            stage: Stage::Absent,
            cart: CartId(0),
            lines: Vec::new(),
            totals: Totals { subtotal: zero, discount: zero, shipping: zero, tax: zero, total: zero },
            email: String::new(),
            provider: String::new(),
            method: String::new(),
            shipping_address: None,
            pin_ms: 0,
            started: Recorded::default(),
            reserved: None,
            pinned_from: Timestamp(0),
            reference: None,
            action: None,
            checkout: None,
            confirm: None,
            cancel: None,
            funds: Funds::None,
            captured: zero,
            refunded: zero,
            strays: Vec::new(),
            notices: Vec::new(),
            refunds: Vec::new(),
            fulfilments: Vec::new(),
            units_sold: false,
            units_freed: false,
            cart_told: false,
            cancelled: false,
            fulfilled_at: None,
            completed: false,
            timeline: Vec::new(),
            version: 0,
        }
    }

    /// Its id.
    pub fn id(&self) -> OrderId {
        self.id
    }

    /// The payment provider it is paid by.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The cart it came from.
    pub fn cart(&self) -> CartId {
        self.cart
    }

    /// When its checkout began.
    pub fn created_at(&self) -> Timestamp {
        self.started.at
    }

    /// Number of changes so far.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether nothing has happened to it yet.
    pub fn is_absent(&self) -> bool {
        self.stage == Stage::Absent
    }

    /// What happened to it, oldest first, the first [`TIMELINE_MAX`] steps.
    pub fn timeline(&self) -> &[TimelineEntry] {
        &self.timeline
    }
}

/// Units per SKU, in SKU order: the order in which SKUs are asked.
fn sum_by_sku<'a>(units: impl Iterator<Item = (&'a Sku, i64)>) -> Vec<Item> {
    let mut items: Vec<Item> = units.map(|(sku, quantity)| Item { sku: sku.clone(), quantity }).collect();
    items.sort_by(|one, other| one.sku.cmp(&other.sku));
    items.dedup_by(|next, kept| {
        let same = next.sku == kept.sku;
        if same {
            kept.quantity =
                kept.quantity.checked_add(next.quantity).expect("Invariant: units of an order fit");
        }
        same
    });
    items
}
