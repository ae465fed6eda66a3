//! Money as PayPal writes it: a decimal text, with the decimals that PayPal gives a currency.

use doorbuster_engine::money::{Currency, Money};

use super::wire::Amount;

/// The amount has pence where PayPal takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotWhole;

/// Decimals that PayPal takes: those of ISO 4217, but none of forint, yen and New Taiwan dollar.
/// Source: developer.paypal.com/reference/currency-codes.
fn decimals(currency: Currency) -> u8 {
    match currency.code() {
        "HUF" | "JPY" | "TWD" => 0,
        _ => currency.exponent(),
    }
}

/// `1999 GBP` minor units as `19.99`, `199900 HUF` as `1999`.
pub(super) fn write(money: Money) -> Result<Amount, NotWhole> {
    let exponent = money.currency.exponent();
    let dropped = exponent.saturating_sub(decimals(money.currency));
    let unit = 10_i64.checked_pow(u32::from(dropped)).ok_or(NotWhole)?;
    let (Some(kept), Some(0)) = (money.amount.checked_div(unit), money.amount.checked_rem(unit)) else {
        return Err(NotWhole);
    };
    let places = usize::from(decimals(money.currency));
    let sign = if kept < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", kept.unsigned_abs(), width = places.saturating_add(1));
    let (whole, part) = digits.split_at(digits.len().saturating_sub(places));
    let point = if places == 0 { "" } else { "." };
    Ok(Amount {
        currency_code: money.currency.code().to_owned(),
        value: format!("{sign}{whole}{point}{part}"),
    })
}

/// The amount in minor units; `None` where the text is no amount of a currency that we know.
pub(super) fn read(amount: &Amount) -> Option<Money> {
    let currency: Currency = amount.currency_code.parse().ok()?;
    let (sign, text) = match amount.value.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, amount.value.as_str()),
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let places = usize::from(currency.exponent());
    let (kept, beyond) = part.split_at_checked(places).unwrap_or((part, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || beyond.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let minor: i64 = format!("{whole}{kept:0<places$}").parse().ok()?;
    Some(Money::new(minor.checked_mul(sign)?, currency))
}
