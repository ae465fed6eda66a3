//! Stock of one SKU.

use serde::{Deserialize, Serialize};

use crate::identity::{Position, ReservationId, Sku, Timestamp};
use crate::money::Money;

/// Most units one line or one reservation may ask for.
pub const QUANTITY_MAX: i64 = 1_000_000_000;

/// Most units a SKU may have: sums of a million of them still fit i64.
pub const UNITS_MAX: i64 = 1_000_000_000_000;

/// A SKU's stock, as an admin sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockView {
    /// Which SKU.
    pub sku: Sku,
    /// Opening + receipts + net adjustments.
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
    /// Grows by one with each change.
    pub version: u64,
}

/// One movement of a SKU's units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Where it stands among all events.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// What kind of movement.
    pub kind: LedgerKind,
    /// Change of `on_hand`.
    pub delta: i64,
    /// Why, in the caller's words.
    pub reason: Option<Box<str>>,
    /// The caller's own reference.
    pub reference: Option<Box<str>>,
    /// The reservation behind a sale.
    pub reservation: Option<ReservationId>,
}

/// Kinds of movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LedgerKind {
    /// Units the SKU was created with.
    Opening,
    /// A delta by an admin.
    Adjustment,
    /// An absolute count by an admin.
    Count,
    /// Units sold.
    Sale,
    /// Units a refund put back.
    Restock,
}

/// How far a SKU may be sold beyond what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Oversell {
    /// Not at all.
    #[default]
    Deny,
    /// By this many units at most; [`UNITS_MAX`] where the merchant named no limit.
    Allow(i64),
}

/// What the merchant says of a SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name, for people.
    pub name: Box<str>,
    /// Price of one.
    pub price: Money,
    /// How far it may be oversold.
    pub oversell: Oversell,
    /// Its own time to live for reservations, in milliseconds.
    pub reservation_ttl_ms: Option<u64>,
    /// `sellable` at or below this reads as `low_stock`.
    pub low_stock_at: Option<i64>,
}

/// What happened to a SKU's stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockEvent {
    /// It was made, with its opening stock.
    Defined {
        /// What it is.
        definition: Definition,
        /// Units it begins with.
        opening: i64,
    },
}
