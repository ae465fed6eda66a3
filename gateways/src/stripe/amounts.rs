//! Money in Stripe's minor units, which are not everywhere ISO 4217's.
//!
//! | currencies | here | Stripe | so |
//! |---|---|---|---|
//! | GBP, JPY, most | ISO's decimals | the same | as it is |
//! | ISK, UGX | none | hundredths, always `00` | times 100 |
//! | MGA | two decimals | none | by 100, where nothing is left over |
//! | BHD, JOD, KWD, OMR, TND | three decimals | three, the last always `0` | as it is, in tens |
//!
//! HUF and TWD are whole numbers only in payouts, which are not our business. Source: <https://docs.stripe.com/currencies>
//! ("Zero-decimal currencies", "Three-decimal currencies", "Special cases").
//!
//! Law: there and back is the same amount; what Stripe cannot say exactly is refused, never rounded.

use doorbuster_engine::money::{Currency, Money};

/// How Stripe's minor unit relates to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Same,
    /// Stripe counts hundredths of our unit.
    Hundredths,
    /// Stripe counts hundreds of our unit.
    Hundreds,
    /// The same unit, in tens only.
    Tens,
    /// Stripe charges in no currency with so many decimals.
    None,
}

impl Scale {
    fn of(currency: Currency) -> Self {
        match (currency.code(), currency.exponent()) {
            ("ISK" | "UGX", 0) => Self::Hundredths,
            ("MGA", 2) => Self::Hundreds,
            (_, 3) => Self::Tens,
            (_, 0 | 2) => Self::Same,
            (_, _) => Self::None,
        }
    }
}

/// The amount as Stripe counts it, or why Stripe cannot charge it, safe to show.
pub(super) fn to_stripe(money: Money) -> Result<i64, &'static str> {
    let amount = money.amount;
    match Scale::of(money.currency) {
        Scale::Same => Ok(amount),
        Scale::Hundredths => {
            amount.checked_mul(100).ok_or("the amount is too large for the payment provider")
        }
        Scale::Hundreds if amount.checked_rem(100) == Some(0) => {
            amount.checked_div(100).ok_or("the amount is too large for the payment provider")
        }
        Scale::Hundreds => Err("the payment provider takes whole units of this currency only"),
        Scale::Tens if amount.checked_rem(10) == Some(0) => Ok(amount),
        Scale::Tens => {
            Err("the payment provider takes two decimals of this currency only; the last of three must be 0")
        }
        Scale::None => Err("the payment provider does not take this currency"),
    }
}

/// The amount that Stripe names, in our minor units. `None` for a currency that ISO 4217 does not know, or an amount of
/// which our unit would be a fraction: neither can be a payment of ours.
pub(super) fn from_stripe(amount: i64, currency: &str) -> Option<Money> {
    let currency: Currency = currency.to_ascii_uppercase().parse().ok()?;
    Some(Money::new(scaled(amount, currency)?, currency))
}

/// As [`from_stripe`], the currency being known.
pub(super) fn scaled(amount: i64, currency: Currency) -> Option<i64> {
    match Scale::of(currency) {
        Scale::Same | Scale::Tens => Some(amount),
        Scale::Hundredths if amount.checked_rem(100) == Some(0) => amount.checked_div(100),
        Scale::Hundreds => amount.checked_mul(100),
        Scale::Hundredths | Scale::None => None,
    }
}
