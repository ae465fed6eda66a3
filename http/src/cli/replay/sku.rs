//! The rule `underscore-hex`: any stock code a shop may have invented, written as a SKU the engine takes, and back.
//!
//! A SKU is 1 to 64 of letters, digits, space, `.`, `_`, `-`, with no space at either end. A code made of these stays as it is,
//! upper and lower case included: `85123A` and `85123a` are two things. Every other byte, and a space at an end,
//! becomes `_xHH` (its two upper-case hex digits); an underscore that would read like such an escape is escaped
//! itself, so that [`decoded`] gives the code back exactly. Start at [`encoded`].

/// Longest SKU the engine takes.
pub const LENGTH_MAX: usize = 64;

/// Why a stock code cannot become a SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is nothing to name.
    Empty,
    /// It is longer than [`LENGTH_MAX`] once written as a SKU; cutting it could make two codes one.
    TooLong,
}

/// `code` as a SKU.
pub fn encoded(code: &str) -> Result<String, Unusable> {
    if code.is_empty() {
        return Err(Unusable::Empty);
    }
    let bytes = code.as_bytes();
    let mut sku = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let at_an_end = at == 0 || at + 1 == bytes.len();
        let plain = match byte {
            b' ' => !at_an_end,
            b'_' => !reads_like_an_escape(&bytes[at..]),
            other => other.is_ascii_alphanumeric() || matches!(other, b'.' | b'-'),
        };
        if plain {
            sku.push(char::from(*byte));
        } else {
            use std::fmt::Write as _;
            // Writing into a String cannot fail.
            let _ = write!(sku, "_x{byte:02X}");
        }
    }
    if sku.len() > LENGTH_MAX { Err(Unusable::TooLong) } else { Ok(sku) }
}

/// The stock code that [`encoded`] made `sku` from; `None` where it cannot have made it.
pub fn decoded(sku: &str) -> Option<String> {
    let bytes = sku.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if reads_like_an_escape(&bytes[at..]) {
            code.push(u8::from_str_radix(sku.get(at + 2..at + 4)?, 16).ok()?);
            at += 4;
        } else {
            code.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(code).ok()
}

fn reads_like_an_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'_', b'x', high, low, ..] if is_hex(*high) && is_hex(*low))
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_code_survives_the_way_there_and_back() {
        for (code, sku) in [
            ("85123A", "85123A"),
            ("85123a", "85123a"),
            ("BANK CHARGES", "BANK CHARGES"),
            ("gift_0001_40", "gift_0001_40"),
            ("A/B", "A_x2FB"),
            (" 22139", "_x2022139"),
            ("22139 ", "22139_x20"),
            (" ", "_x20"),
            ("é", "_xC3_xA9"),
            ("_", "_"),
            ("_x4", "_x4"),
            ("_x41", "_x5Fx41"),
            ("__x41", "__x5Fx41"),
            ("_/", "__x2F"),
            ("_x/", "_x_x2F"),
            ("a_xZZ", "a_xZZ"),
        ] {
            assert_eq!(encoded(code).as_deref(), Ok(sku), "{code:?}");
            assert_eq!(decoded(sku).as_deref(), Some(code), "{sku:?}");
        }
    }

    #[test]
    fn a_code_that_cannot_be_a_sku_is_refused_not_cut() {
        assert_eq!(encoded(""), Err(Unusable::Empty));
        assert_eq!(encoded(&"a".repeat(64)).map(|sku| sku.len()), Ok(64));
        assert_eq!(encoded(&"a".repeat(65)), Err(Unusable::TooLong));
        assert_eq!(encoded(&"/".repeat(17)), Err(Unusable::TooLong));
    }
}
