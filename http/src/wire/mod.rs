//! What strangers send and receive: JSON types, their checks, and their conversions.
//!
//! A type here is a promise to clients; the engine's own types never serialize for them. Requests are in
//! [`requests`] with the checks that turn them into the engine's inputs in [`into_engine`]; answers are in
//! [`responses`], made from the engine's in [`from_engine`] alone. Equal answers give equal bytes, because a replayed
//! key must return the first answer's bytes again.

pub mod cards;
pub mod from_engine;
pub mod into_engine;
pub mod json;
pub mod live;
pub mod query;
pub mod requests;
pub mod responses;
pub mod strict;
pub mod time;

use std::fmt;
use std::str::FromStr;

use doorbuster_engine::answer;
use doorbuster_engine::money;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrencyCode(pub money::Currency);

impl Serialize for CurrencyCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.code())
    }
}

impl<'de> Deserialize<'de> for CurrencyCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Fails inside the visitor, so that the parser knows the place.
        struct Code;

        impl Visitor<'_> for Code {
            type Value = CurrencyCode;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an ISO 4217 currency code such as GBP")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<CurrencyCode, E> {
                money::Currency::from_str(text).map(CurrencyCode).map_err(|_| {
                    E::custom(format!("unknown currency `{text}`, expected an ISO 4217 code such as GBP"))
                })
            }
        }

        deserializer.deserialize_str(Code)
    }
}

/// An amount in integer minor units: 1999 GBP is £19.99.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units.
    pub amount: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "GBP")]
    pub currency: CurrencyCode,
}

impl From<money::Money> for Money {
    fn from(money: money::Money) -> Self {
        Self { amount: money.amount, currency: CurrencyCode(money.currency) }
    }
}

impl From<Money> for money::Money {
    fn from(money: Money) -> Self {
        Self::new(money.amount, money.currency.0)
    }
}

/// A SKU that could not give what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Shortage {
    /// Which.
    pub sku: String,
    /// Units asked for.
    pub requested: i64,
    /// Units it could have given.
    pub available: i64,
}

impl From<&answer::Shortage> for Shortage {
    fn from(shortage: &answer::Shortage) -> Self {
        Self { sku: shortage.sku.to_string(), requested: shortage.requested, available: shortage.available }
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemField {
    /// JSON pointer to it, e.g. `/items/0/quantity`; for a query or header its name.
    pub pointer: String,
    /// Stable name, e.g. `out_of_range`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<&answer::FieldError> for ProblemField {
    fn from(error: &answer::FieldError) -> Self {
        Self { pointer: error.pointer.clone(), code: error.code.clone(), message: error.message.clone() }
    }
}
