//! Bodies of answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Money;
use super::requests::{Address, LineUnits};

/// Units of one SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// Which.
    pub sku: String,
    /// How many.
    pub quantity: i64,
}

/// A reservation.
// Written by hand on the hot path (`super::from_engine::write_reservation`); this type documents it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// Its id, also the right to use it.
    #[schema(example = "res_0123456789abcdef0123456789abcdef")]
    pub id: String,
    /// `held`, `committed`, `released` or `expired`.
    #[schema(example = "held")]
    pub state: String,
    /// What was granted.
    pub items: Vec<Item>,
    /// When it ends by itself.
    pub expires_at: String,
    /// Signed proof of what was promised.
    pub receipt: String,
    /// Where the grant stands among all events.
    pub journal_position: String,
}

/// What became of one reservation of a batch: exactly one of `reservation` and `problem`.
// Written by hand (`routes::reservations`); this type documents it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BatchResult {
    /// The status a single call would have had.
    pub status: u16,
    /// Present (true) when the key had its answer already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<bool>,
    /// The reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::problem::ProblemBody>)]
    pub problem: Option<serde_json::Value>,
}

/// What became of a batch, in the order asked.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BatchResponse {
    /// One for each request.
    pub results: Vec<BatchResult>,
}

/// A SKU as anybody may see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SkuResponse {
    /// Which.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// Price of one.
    pub price: Money,
    /// Units that can be sold now.
    pub sellable: i64,
    /// `in_stock`, `low_stock`, `sold_out` or `backorder`.
    pub state: &'static str,
    /// Grows with each change.
    pub version: u64,
}

/// What can be sold of a SKU; advisory, may be a flush ahead of the disk.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Availability {
    /// Which.
    pub sku: String,
    /// Units that can be sold now.
    pub sellable: i64,
    /// `in_stock`, `low_stock`, `sold_out` or `backorder`.
    pub state: &'static str,
    /// Grows with each change.
    pub version: u64,
}

/// Availability of several SKUs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AvailabilityList {
    /// In the order asked.
    pub data: Vec<Availability>,
}

/// Part of a list.
#[derive(Clone, Debug, Serialize)]
pub struct List<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Whether there are more.
    pub has_more: bool,
    /// What to send as `starting_after` for the next part.
    pub next_cursor: Option<String>,
}

/// Part of the list of orders.
#[derive(Clone, Debug, Serialize)]
pub struct OrderList {
    /// The rows.
    pub data: Vec<Order>,
    /// Whether there are more.
    pub has_more: bool,
    /// What to send as `starting_after` for the next part.
    pub next_cursor: Option<String>,
    /// Who found them: `postgres`, or `engine` where there is no Postgres or none that can say.
    pub source: &'static str,
}

/// Sums of a cart or order: `total = subtotal - discount + shipping + tax`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Totals {
    /// Sum of the lines.
    pub subtotal: Money,
    /// What promotions take off.
    pub discount: Money,
    /// What delivery costs.
    pub shipping: Money,
    /// Tax on top.
    pub tax: Money,
    /// What the shopper pays.
    pub total: Money,
}

/// A line of a cart.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CartLine {
    /// Its id within the cart and the later order.
    #[schema(example = "1")]
    pub line_id: String,
    /// What.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// How many.
    pub quantity: i64,
    /// Price of one.
    pub unit_price: Money,
    /// `quantity × unit_price`.
    pub total: Money,
}

/// A cart.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Cart {
    /// Its id.
    pub id: String,
    /// The right to use it, for the `Cart-Token` header; given once, at creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// `open`, `checking_out` or `ordered`.
    pub state: &'static str,
    /// Currency of its lines.
    pub currency: String,
    /// Its lines, in the order first added.
    pub lines: Vec<CartLine>,
    /// Sums.
    pub totals: Totals,
    /// Grows with each change; the `ETag`.
    pub version: u64,
    /// When it ends by itself.
    pub expires_at: String,
    /// The order it became or is becoming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// A line of an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OrderLine {
    /// Its id within the order.
    #[schema(example = "1")]
    pub line_id: String,
    /// What.
    pub sku: String,
    /// Its name.
    pub name: String,
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

/// How an order is paid.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Payment {
    /// Provider's name.
    pub provider: String,
    /// `none`, `not_required`, `pending`, `requires_action`, `captured`, `declined`, `voided`, `partially_refunded` or `refunded`.
    pub state: &'static str,
    /// Its id, where there is a payment.
    pub id: Option<String>,
    /// Money taken.
    pub captured: Money,
    /// Money given back.
    pub refunded: Money,
}

/// An order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// Its number, for people.
    pub number: String,
    /// The cart it came from.
    pub cart: String,
    /// `pending_payment`, `paid`, `fulfilled`, `completed`, `cancelled`, `partially_refunded` or `refunded`.
    pub state: &'static str,
    /// Its lines.
    pub lines: Vec<OrderLine>,
    /// Sums.
    pub totals: Totals,
    /// Where the confirmation goes.
    pub email: String,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// How it is paid.
    pub payment: Payment,
    /// Its refunds, oldest first.
    pub refunds: Vec<Refund>,
    /// Its fulfilments, oldest first.
    pub fulfilments: Vec<Fulfilment>,
    /// When the checkout began.
    pub created_at: String,
    /// Grows with each change; the `ETag`.
    pub version: u64,
}

/// A checkout that is not finished.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CheckoutPending {
    /// `requires_action` or `payment_pending`.
    pub status: &'static str,
    /// What the provider's own library in the shopper's client needs to act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// The provider's page to which the shopper must be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
    /// The order so far.
    pub order: Order,
}

/// A webhook was taken.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Received {
    /// Always true.
    pub received: bool,
}

/// How a payment provider stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Provider {
    /// Its name, as in `payment.provider` of a checkout.
    pub name: &'static str,
    /// Whether it answers, as far as is known.
    pub up: bool,
    /// Orders that keep their units and wait for it.
    pub waiting: usize,
    /// How long the first of them has waited, in milliseconds.
    pub waiting_oldest_ms: u64,
    /// How long a call that came now would wait for its turn at the pace the provider allows, in milliseconds.
    pub pace_wait_ms: u64,
    /// How long the waiting orders will take at that pace once it answers, in milliseconds.
    pub drain_ms: u64,
}

/// All payment providers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProviderList {
    /// Each.
    pub data: Vec<Provider>,
}

/// Something in a provider's books that does not agree with the orders.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Finding {
    /// `payment_without_order`, `order_without_payment`, `unwanted_payment`, `order_behind`, `amount_differs` or `refund_differs`.
    pub kind: &'static str,
    /// The order, where one is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// The provider's name for the payment, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// In words.
    pub detail: String,
    /// Whether the order was told, and mends it. What was not is for people.
    pub repaired: bool,
}

/// What a comparison of books came to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Reconciliation {
    /// Whose books.
    pub provider: String,
    /// Orders made at or after this time.
    pub since: String,
    /// Payments that the provider listed.
    pub payments: usize,
    /// Orders that were compared.
    pub orders: usize,
    /// Whether both lists were read to their end; else this speaks only of what was read.
    pub complete: bool,
    /// What did not agree.
    pub findings: Vec<Finding>,
}

/// A refund.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Refund {
    /// Its id.
    pub id: String,
    /// Of which order.
    pub order: String,
    /// How much.
    pub amount: Money,
    /// Which units.
    pub lines: Vec<LineUnits>,
    /// Whether they went back on the shelf.
    pub restock: bool,
    /// Why.
    pub reason: Option<String>,
    /// `pending`, `succeeded` or `failed`.
    pub state: &'static str,
    /// When it was asked for.
    pub created_at: String,
}

/// Units handed to the carrier.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Fulfilment {
    /// Its id.
    pub id: String,
    /// Of which order.
    pub order: String,
    /// Which units.
    pub lines: Vec<LineUnits>,
    /// The carrier's tracking number.
    pub tracking: Option<String>,
    /// When.
    pub created_at: String,
}

/// One step of an order's life.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// Where it stands among all events.
    pub position: String,
    /// When.
    pub at: String,
    /// What happened, e.g. `units_reserved`.
    pub kind: String,
    /// More, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// An order's life, oldest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Timeline {
    /// Its steps.
    pub data: Vec<TimelineEntry>,
}

/// A SKU's stock: `received = on_hand + sold`, `available = on_hand - reserved`, `sellable = available + oversell limit`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Stock {
    /// Which.
    pub sku: String,
    /// Opening + receipts + net adjustments.
    pub received: i64,
    /// Physical units.
    pub on_hand: i64,
    /// Units set aside.
    pub reserved: i64,
    /// Physical units not set aside.
    pub available: i64,
    /// Units that can be sold now.
    pub sellable: i64,
    /// Units committed and not restocked.
    pub sold: i64,
    /// Grows with each change; the `ETag`.
    pub version: u64,
}

/// One movement of a SKU's units.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LedgerEntry {
    /// Where it stands among all events.
    pub position: String,
    /// When.
    pub at: String,
    /// `opening`, `adjustment`, `count`, `sale` or `restock`.
    pub kind: &'static str,
    /// Change of `on_hand`.
    pub delta: i64,
    /// Why.
    pub reason: Option<String>,
    /// The caller's own reference.
    pub reference: Option<String>,
    /// The reservation behind a sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
}

/// A line of an import that was not taken.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RejectedLine {
    /// Its number in the file, from 1.
    pub line: u64,
    /// The problem's code.
    pub code: &'static str,
    /// Why.
    pub message: String,
}

/// What became of an import.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ImportResponse {
    /// SKUs made.
    pub created: u64,
    /// SKUs changed.
    pub updated: u64,
    /// Lines not taken, in the order of the file; at most the first 1,000.
    pub rejected: Vec<RejectedLine>,
    /// How many lines were not taken.
    pub rejected_total: u64,
}

/// Median and 99th percentile, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
}

/// One actor's figures.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Actor {
    /// `sku`, `cart`, `order` or `reservation`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// Messages waiting.
    pub queue_depth: u64,
    /// Messages handled since it was activated.
    pub messages: u64,
    /// Messages a second over the last ten seconds.
    pub rate: f64,
    /// From sending to start.
    pub wait_us: Percentiles,
    /// In the handler.
    pub service_us: Percentiles,
    /// When it last handled one.
    pub last_activity: String,
    /// Times it was rebuilt after a failure.
    pub restarts: u64,
}

/// Actors, hottest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ActorList {
    /// The rows.
    pub data: Vec<Actor>,
}

/// One handled message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecentMessage {
    /// When.
    pub at: String,
    /// Name of the command.
    pub message: &'static str,
    /// Name of the outcome.
    pub outcome: &'static str,
}

/// One actor looked into.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ActorDetail {
    /// Its figures.
    #[serde(flatten)]
    pub actor: Actor,
    /// Its state, for people.
    pub state: String,
    /// Its last messages, newest first.
    pub recent: Vec<RecentMessage>,
    /// Position of its last event.
    pub position: String,
}

/// Whether the process lives or is ready.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, or why not: `recovering`, `draining`.
    pub status: &'static str,
}

/// What runs here.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Version {
    /// The engine's version.
    pub version: &'static str,
    /// The commit it was built from, where the build knew it.
    pub commit: Option<&'static str>,
    /// What an acknowledgement means: `local` (on this disk) or `memory` (nothing; load tests only).
    pub durability: &'static str,
    /// When the process started.
    pub started_at: String,
}
