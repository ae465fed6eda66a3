//! Card numbers have no business here: whoever sends one is told so, and it is neither kept nor repeated.
//!
//! Payments are made with the tokens that a provider's own library hands out, so that no card data ever reaches an engine, its
//! journal or its logs.

/// Shortest and longest card number, in digits (ISO/IEC 7812-1).
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether there is a card number in it: 13 to 19 digits, perhaps in groups with one space or hyphen between, that begin as an
/// issuer of payment cards (2 to 6) and pass the check of Luhn. One in ten other numbers of such length does too, which is why
/// only bodies are looked at that have no place for a long number.
pub fn has_card_number(body: &[u8]) -> bool {
    let mut digits: Vec<u8> = Vec::new();
    let mut gap = false;
    for byte in body.iter().copied().chain([b'"']) {
        match byte {
            b'0'..=b'9' => {
                digits.push(byte - b'0');
                gap = false;
            }
            b' ' | b'-' if !digits.is_empty() && !gap => gap = true,
            _ => {
                if is_card_number(&digits) {
                    return true;
                }
                digits.clear();
                gap = false;
            }
        }
    }
    false
}

fn is_card_number(digits: &[u8]) -> bool {
    DIGITS.contains(&digits.len()) && matches!(digits.first(), Some(2..=6)) && passes_luhn(digits)
}

/// ISO/IEC 7812-1, annex B: from the right, every second digit doubled, digits of the products summed.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_card_number_is_found_wherever_it_stands() {
        // The numbers that providers publish for tests.
        for text in [
            r#"{"payment":{"provider":"stripe","method":"4242424242424242"}}"#,
            r#"{"payment":{"method":"4242 4242 4242 4242"}}"#,
            r#"{"payment":{"method":"5555-5555-5555-4444"}}"#,
            r#"{"card":{"number":378282246310005}}"#,
            r#"{"note":"my card 6011111111111117 please"}"#,
            "4000002500003155",
        ] {
            assert!(has_card_number(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_no_card_number_passes() {
        for text in [
            r#"{"payment":{"provider":"stripe","method":"pm_1PqR4242424242424243"}}"#,
            r#"{"email":"ada@example.com","expected_total":{"amount":1999,"currency":"GBP"}}"#,
            r#"{"line1":"4242 4242 4242"}"#,
            "4242424242424241",
            "0000000000000000",
            "4242--4242--4242--4242",
            "42424242424242424242424242424242",
        ] {
            assert!(!has_card_number(text.as_bytes()), "{text}");
        }
    }
}
