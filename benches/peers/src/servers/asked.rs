//! Bodies as both servers of this program parse them: all fields, borrowed where text allows, unknown ones refused.

use std::borrow::Cow;

use serde::Deserialize;

/// Units of one SKU.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item<'a> {
    #[serde(borrow)]
    pub(crate) sku: Cow<'a, str>,
    pub(crate) quantity: i64,
}

/// A reservation; `key` only within a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reservation<'a> {
    #[serde(borrow)]
    pub(crate) items: Vec<Item<'a>>,
    pub(crate) ttl_s: Option<u32>,
    #[serde(borrow)]
    pub(crate) customer: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) key: Option<Cow<'a, str>>,
}

/// Many independent reservations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch<'a> {
    #[serde(borrow)]
    pub(crate) requests: Vec<Reservation<'a>>,
}

/// A new cart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cart<'a> {
    #[serde(borrow)]
    pub(crate) currency: Cow<'a, str>,
}

/// How to pay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payment<'a> {
    #[serde(borrow)]
    pub(crate) provider: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) method: Cow<'a, str>,
}

/// A checkout.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkout<'a> {
    #[serde(borrow)]
    pub(crate) email: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) payment: Payment<'a>,
}
