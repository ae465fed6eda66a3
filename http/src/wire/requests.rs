//! Request bodies as sent. Unknown fields are refused; ranges are checked on the way into the engine.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CurrencyCode, Money};

/// Units of one SKU.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ItemRequest)]
pub struct ItemRequest<'a> {
    /// The merchant's own name of the SKU.
    #[serde(borrow)]
    #[schema(value_type = String, example = "TEE-M")]
    pub sku: Cow<'a, str>,
    /// How many, 1 to 1,000,000,000.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: i64,
}

/// A reservation as asked.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReservationRequest)]
pub struct ReservationRequest<'a> {
    /// What to reserve, 1 to 100 lines; a SKU on two lines is summed. All of it or none, unless `partial`.
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 100, value_type = Vec<ItemRequest>)]
    pub items: Vec<ItemRequest<'a>>,
    /// Time to live in seconds; absent: the SKU's own, else 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub ttl_s: Option<u64>,
    /// Whether less than asked will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
    /// Whom it is for, in the caller's own terms.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub customer: Option<Cow<'a, str>>,
}

/// One of many independent reservations.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BatchItemRequest)]
pub struct BatchItemRequest<'a> {
    /// Its idempotency key, in the same space as a single call's header.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    pub key: Cow<'a, str>,
    /// What to reserve.
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 100, value_type = Vec<ItemRequest>)]
    pub items: Vec<ItemRequest<'a>>,
    /// Time to live in seconds.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    pub ttl_s: Option<u64>,
    /// Whether less than asked will do.
    #[serde(default)]
    pub partial: Option<bool>,
    /// Whom it is for.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub customer: Option<Cow<'a, str>>,
}

/// Many independent reservations.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BatchRequest)]
pub struct BatchRequest<'a> {
    /// 1 to 256 of them.
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 256, value_type = Vec<BatchItemRequest>)]
    pub requests: Vec<BatchItemRequest<'a>>,
}

/// The same envelope with its items still unread, so that one wrong item does not refuse its neighbours.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LooseBatchRequest {
    /// As sent.
    pub requests: Vec<super::strict::Text>,
}

/// A longer life for a reservation.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// By this many seconds; the whole life is capped at a day.
    #[schema(minimum = 1, maximum = 86_400)]
    pub extend_s: u64,
}

/// No fields; an empty body does as well.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyRequest {}

/// Lines of a cart to add.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineRequest {
    /// What.
    #[schema(example = "TEE-M")]
    pub sku: String,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: i64,
    /// A price of the merchant's own (draft orders, order history); needs the admin key.
    #[serde(default)]
    pub unit_price: Option<Money>,
}

/// A new cart.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CartRequest {
    /// Currency of all its lines; absent: that of its first line, else GBP.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "GBP")]
    pub currency: Option<CurrencyCode>,
    /// First lines.
    #[serde(default)]
    #[schema(max_items = 1_000)]
    pub items: Option<Vec<LineRequest>>,
}

/// Lines to add: either one in place (`sku`, `quantity`), or `lines`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinesRequest {
    /// What, of a single line.
    #[serde(default)]
    pub sku: Option<String>,
    /// How many, of a single line.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: Option<i64>,
    /// A price of the merchant's own, of a single line; needs the admin key.
    #[serde(default)]
    pub unit_price: Option<Money>,
    /// Up to 1,000 lines.
    #[serde(default)]
    #[schema(max_items = 1_000)]
    pub lines: Option<Vec<LineRequest>>,
}

/// A line's new quantity.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantityRequest {
    /// How many; 0 removes the line.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub quantity: i64,
}

/// How to pay.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentRequest {
    /// Provider's name; `fake` is built in outside production.
    #[schema(example = "fake")]
    pub provider: String,
    /// The provider's token of a method; `fake` knows `ok`, `authorize`, `declined`, `requires_action`, `slow`,
    /// `timeout`, `error`.
    #[schema(example = "ok")]
    pub method: String,
}

/// A postal address.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Addressee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line1: Option<String>,
    /// Second line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    /// Town.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// County, state or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// ISO 3166 country code, or the shop's own name of it.
    pub country: String,
}

/// A checkout.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckoutRequest {
    /// Where the confirmation goes.
    #[schema(example = "ada@example.com", max_length = 254)]
    pub email: String,
    /// How to pay.
    pub payment: PaymentRequest,
    /// The total the shopper saw; a different one refuses with `price_changed`.
    #[serde(default)]
    pub expected_total: Option<Money>,
    /// Where it goes.
    #[serde(default)]
    pub shipping_address: Option<Address>,
}

/// Units of an order's line.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineUnits {
    /// The line, as the order shows it.
    #[schema(example = "1")]
    pub line_id: String,
    /// How many units of it.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: i64,
}

/// A refund.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundRequest {
    /// How much; absent: the price of `lines`, or all that is left.
    #[serde(default)]
    pub amount: Option<Money>,
    /// Which units; with `amount` absent too: all that is left.
    #[serde(default)]
    pub lines: Option<Vec<LineUnits>>,
    /// Whether those units go back on the shelf; absent: no.
    #[serde(default)]
    pub restock: Option<bool>,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

/// Units handed to the carrier.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FulfilmentRequest {
    /// Which units; absent: all that is left.
    #[serde(default)]
    pub lines: Option<Vec<LineUnits>>,
    /// The carrier's tracking number.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub tracking: Option<String>,
}

/// Whose books to compare, and how far back.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequest {
    /// The payment provider's name.
    pub provider: String,
    /// Orders made at or after this time; absent: the last hour.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub since: Option<String>,
}

/// Whether more may be sold than is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OversellPolicy {
    /// No.
    Deny,
    /// Yes, up to the limit.
    Allow,
}

/// How far a SKU may be oversold.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OversellRequest {
    /// Whether at all.
    pub policy: OversellPolicy,
    /// Units beyond what is there; absent with `allow`: any number.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub limit: Option<i64>,
}

/// A SKU as the merchant describes it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SkuRequest {
    /// Its name, for people.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Price of one.
    pub price: Money,
    /// Units it begins with; counts only at creation.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub on_hand: Option<i64>,
    /// How far it may be oversold; absent: not at all.
    #[serde(default)]
    pub oversell: Option<OversellRequest>,
    /// Its own time to live of reservations, in seconds.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    pub reservation_ttl_s: Option<u64>,
    /// `sellable` at or below this reads as `low_stock`.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub low_stock_at: Option<i64>,
}

/// A line of an import: a SKU with its name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportLine {
    /// Which SKU.
    pub sku: String,
    /// Its name, for people.
    pub name: String,
    /// Price of one.
    pub price: Money,
    /// Units it begins with; counts only at creation.
    #[serde(default)]
    pub on_hand: Option<i64>,
    /// How far it may be oversold.
    #[serde(default)]
    pub oversell: Option<OversellRequest>,
    /// Its own time to live of reservations, in seconds.
    #[serde(default)]
    pub reservation_ttl_s: Option<u64>,
    /// `sellable` at or below this reads as `low_stock`.
    #[serde(default)]
    pub low_stock_at: Option<i64>,
}

/// A change of what is on hand.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentRequest {
    /// By how much, not 0.
    pub delta: i64,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
    /// The caller's own reference.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub reference: Option<String>,
}

/// A count of what is on hand.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StockRequest {
    /// Units counted.
    #[schema(minimum = 0)]
    pub on_hand: i64,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}
