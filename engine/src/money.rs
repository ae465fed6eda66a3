//! Money: integer minor units of one currency, never a float.
//!
//! Law 7 rests on this module: sums are checked, currencies never mix.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An ISO 4217 currency, by its three letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Currency([u8; 3]);

/// The text names no ISO 4217 currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code")]
pub struct UnknownCurrency;

impl Currency {
    /// Pound sterling, two decimals.
    pub const GBP: Self = Self(*b"GBP");
    /// Euro, two decimals.
    pub const EUR: Self = Self(*b"EUR");
    /// US dollar, two decimals.
    pub const USD: Self = Self(*b"USD");
    /// Japanese yen, no decimals.
    pub const JPY: Self = Self(*b"JPY");

    /// The three letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// Decimals of the minor unit: 2 for GBP, 0 for JPY, 3 for KWD. Source: ISO 4217 by `iso_currency`.
    pub fn exponent(self) -> u8 {
        iso_currency::Currency::from_code(self.code())
            .and_then(iso_currency::Currency::exponent)
            .map_or(2, |e| u8::try_from(e).unwrap_or(2))
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = iso_currency::Currency::from_code(text).ok_or(UnknownCurrency)?;
        let mut letters = [0; 3];
        let bytes = known.code().as_bytes();
        if bytes.len() != 3 {
            return Err(UnknownCurrency);
        }
        letters.copy_from_slice(bytes);
        Ok(Self(letters))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in minor units of `currency`: 1999 GBP is £19.99, 1999 JPY is ¥1,999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; negative only where a rule says so.
    pub amount: i64,
    /// The currency whose minor units these are.
    pub currency: Currency,
}

impl Money {
    /// Largest amount accepted from outside, in minor units: a product of it with the largest quantity still fits i128,
    /// and sums of a thousand lines at it still fit i64 by refusing earlier.
    pub const AMOUNT_MAX: i64 = 1_000_000_000_000;

    /// `amount` minor units of `currency`.
    pub fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing, in `currency`.
    pub fn zero(currency: Currency) -> Self {
        Self { amount: 0, currency }
    }

    /// The sum, or `None` when currencies differ or it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        Some(Self { amount: self.amount.checked_add(other.amount)?, currency: self.currency })
    }

    /// The difference, or `None` when currencies differ or it does not fit.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        Some(Self { amount: self.amount.checked_sub(other.amount)?, currency: self.currency })
    }

    /// This amount `quantity` times, or `None` when it does not fit.
    pub fn checked_times(self, quantity: i64) -> Option<Self> {
        Some(Self { amount: self.amount.checked_mul(quantity)?, currency: self.currency })
    }
}

impl fmt::Display for Money {
    /// Major units with the currency's decimals: `19.99 GBP`, `1999 JPY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = usize::from(self.currency.exponent());
        if exponent == 0 {
            return write!(f, "{} {}", self.amount, self.currency);
        }
        let digits = format!("{:0width$}", self.amount.unsigned_abs(), width = exponent.saturating_add(1));
        let (major, minor) = digits.split_at(digits.len().saturating_sub(exponent));
        let sign = if self.amount < 0 { "-" } else { "" };
        write!(f, "{sign}{major}.{minor} {}", self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_with_their_currencys_decimals() {
        for (amount, code, text) in [
            (1999, "GBP", "19.99 GBP"),
            (5, "GBP", "0.05 GBP"),
            (-5, "GBP", "-0.05 GBP"),
            (1999, "JPY", "1999 JPY"),
            (1999, "KWD", "1.999 KWD"),
            (i64::MIN, "GBP", "-92233720368547758.08 GBP"),
        ] {
            assert_eq!(Money::new(amount, code.parse().unwrap()).to_string(), text);
        }
    }

    #[test]
    fn currencies_never_mix_and_sums_never_wrap() {
        let pound = Money::new(1, Currency::GBP);
        assert_eq!(pound.checked_add(Money::new(1, Currency::EUR)), None);
        assert_eq!(pound.checked_sub(Money::new(1, Currency::EUR)), None);
        assert_eq!(pound.checked_add(Money::new(i64::MAX, Currency::GBP)), None);
        assert_eq!(Money::new(i64::MAX, Currency::GBP).checked_times(2), None);
        assert_eq!("EURO".parse::<Currency>(), Err(UnknownCurrency));
        assert_eq!("gbp".parse::<Currency>(), Err(UnknownCurrency));
    }
}
