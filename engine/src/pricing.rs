//! Sums of lines. One rounding rule: there is nothing to round, prices and quantities are integers.

use serde::{Deserialize, Serialize};

use crate::money::{Currency, Money};

/// The sums of a cart or order. `total = subtotal - discount + shipping + tax`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Sums `(quantity, unit price)` lines in `currency`; `None` when a currency differs or a sum does not fit.
pub fn totals(currency: Currency, lines: impl Iterator<Item = (i64, Money)>) -> Option<Totals> {
    let mut subtotal = Money::zero(currency);
    for (quantity, unit_price) in lines {
        subtotal = subtotal.checked_add(unit_price.checked_times(quantity)?)?;
    }
    let zero = Money::zero(currency);
    Some(Totals { subtotal, discount: zero, shipping: zero, tax: zero, total: subtotal })
}
