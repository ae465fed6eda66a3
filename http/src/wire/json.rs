//! Reading request bodies: the fast way once, and only on failure a second look for the place of the error.

use doorbuster_engine::answer::FieldError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::strict::Strict;
use crate::problem::Problem;

/// Reads `body` as `T`.
///
/// Broken syntax or bytes that are not UTF-8 are `malformed` (400); sound JSON of the wrong shape is
/// `validation_failed` (422) with a pointer to the place.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    read(body).map_err(|error| explain(body, &error))
}

/// Reads `body` by [`Strict`], so that no array anywhere in it passes for an object.
///
/// # Errors
/// As serde says them; [`explain`] makes a problem of it.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = T::deserialize(Strict(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// Says what is wrong with a body that could not be read.
pub fn explain(body: &[u8], error: &serde_json::Error) -> Problem {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Problem::malformed("the body is empty; this call needs a JSON object");
    }
    if let Err(error) = std::str::from_utf8(body) {
        return Problem::malformed(format!("the body is not UTF-8 from byte {}", error.valid_up_to()));
    }
    // The typed reader stops at the first wrong type; the text behind it may be no JSON at all, which weighs more.
    let syntax = serde_json::from_slice::<IgnoredAny>(body).err();
    match syntax.as_ref().map(serde_json::Error::classify) {
        Some(Category::Syntax | Category::Eof | Category::Data | Category::Io) => {
            let syntax = syntax.unwrap_or_else(|| unreachable!("Invariant: classified just above"));
            // A number beyond any float is sound syntax by RFC 8259, only out of everybody's range.
            if !syntax.to_string().starts_with("number out of range") {
                return Problem::malformed(format!("the body is not valid JSON: {syntax}"));
            }
        }
        None => {}
    }
    Problem::validation(vec![field_error(body, error)])
}

fn field_error(body: &[u8], error: &serde_json::Error) -> FieldError {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
    let mut pointer = pointer_at(body, offset(body, error.line(), error.column()));
    let code = if message.starts_with("missing field") {
        if let Some(name) = message.split('`').nth(1) {
            pointer.push('/');
            pointer.push_str(name);
        }
        "required"
    } else if message.starts_with("unknown field") {
        "unknown_field"
    } else if message.starts_with("duplicate field") {
        "duplicate_field"
    } else if message.starts_with("unknown variant") || message.starts_with("unknown currency") {
        "unknown_value"
    } else if message.starts_with("invalid value") || message.starts_with("number out of range") {
        "out_of_range"
    } else {
        "wrong_type"
    };
    FieldError::new(pointer, code, message)
}

/// Offset of a one-based line and column.
fn offset(body: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match body[start..].iter().position(|byte| *byte == b'\n') {
            Some(end) => start += end + 1,
            None => break,
        }
    }
    (start + column).min(body.len())
}

/// An open array or object on the way to a place.
enum Frame {
    /// Index of the present element; none before the first one has begun.
    Array(Option<usize>),
    /// Present key; none before the first.
    Object(Option<String>),
}

/// JSON pointer of the value that contains or just ended before `offset`.
fn pointer_at(body: &[u8], offset: usize) -> String {
    let mut stack: Vec<Frame> = Vec::new();
    // In an object, the next string is a key until a colon is seen.
    let mut expects_key = false;
    let mut at = 0;
    while at < offset {
        let byte = body[at];
        let starts_value = !byte.is_ascii_whitespace() && !matches!(byte, b']' | b'}' | b',' | b':');
        if starts_value && let Some(Frame::Array(index @ None)) = stack.last_mut() {
            // An opening bracket at the very end is the place itself, not yet its first element.
            *index = Some(0);
        }
        match byte {
            b'{' => {
                stack.push(Frame::Object(None));
                expects_key = true;
            }
            b'[' => {
                stack.push(Frame::Array(None));
                expects_key = false;
            }
            b'}' | b']' => {
                stack.pop();
                expects_key = false;
            }
            b',' => match stack.last_mut() {
                Some(Frame::Array(index)) => *index = index.map(|index| index + 1),
                Some(Frame::Object(_)) => expects_key = true,
                None => {}
            },
            b'"' => {
                let end = string_end(body, at);
                if expects_key && let Some(Frame::Object(key)) = stack.last_mut() {
                    *key = serde_json::from_slice(&body[at..end]).ok();
                    expects_key = false;
                }
                at = end;
                continue;
            }
            _other => {}
        }
        at += 1;
    }
    // A value refused by its first byte alone was not passed yet: behind an opening bracket it is the first element.
    if let Some(Frame::Array(index @ None)) = stack.last_mut() {
        let next = body.get(offset..).and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace()));
        *index = next.filter(|byte| **byte != b']').map(|_| 0);
    }
    let mut pointer = String::new();
    for frame in &stack {
        match frame {
            Frame::Array(Some(index)) => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Frame::Object(Some(key)) => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Frame::Array(None) | Frame::Object(None) => {}
        }
    }
    pointer
}

/// Offset just behind the string that opens at `start`.
fn string_end(body: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < body.len() {
        match body[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _other => at += 1,
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;
    use crate::wire::requests::{ReservationRequest, SkuRequest};

    /// One row: body, expected code of the problem, pointer and code of its field.
    fn check<T: for<'a> Deserialize<'a>>(body: &[u8], code: Code, pointer: &str, field: &str) {
        let Err(error) = read::<T>(body) else { panic!("{} was accepted", String::from_utf8_lossy(body)) };
        let problem = explain(body, &error);
        assert_eq!(problem.code(), code, "{}", String::from_utf8_lossy(body));
        let told: serde_json::Value = serde_json::from_slice(&problem.body("r", None)).unwrap();
        if !field.is_empty() {
            assert_eq!(told["errors"][0]["pointer"], pointer, "{told}");
            assert_eq!(told["errors"][0]["code"], field, "{told}");
        }
    }

    #[test]
    fn a_body_of_the_wrong_shape_is_refused_with_a_pointer() {
        use Code::{Malformed, ValidationFailed};
        for (body, code, pointer, field) in [
            (&b""[..], Malformed, "", ""),
            (b"{", Malformed, "", ""),
            (b"{\"items\":[{\"sku\":\"A\",\"quantity\":1}]} x", Malformed, "", ""),
            (b"{\"items\":5, \"x\":", Malformed, "", ""),
            (b"{\"items\":[{\"sku\":\"\xff\",\"quantity\":1}]}", Malformed, "", ""),
            (b"[]", ValidationFailed, "", "wrong_type"),
            (b"{\"items\":5}", ValidationFailed, "/items", "wrong_type"),
            (b"{\"items\":[5]}", ValidationFailed, "/items/0", "wrong_type"),
            (b"{\"items\":{}}", ValidationFailed, "/items", "wrong_type"),
            (b"{}", ValidationFailed, "/items", "required"),
            (b"{\"items\":[],\"foo\":1}", ValidationFailed, "/foo", "unknown_field"),
            (b"{\"items\":[],\"items\":[]}", ValidationFailed, "/items", "duplicate_field"),
            (
                b"{\"items\":[{\"sku\":\"A\",\"quantity\":1},{\"sku\":\"B\"}]}",
                ValidationFailed,
                "/items/1/quantity",
                "required",
            ),
            (
                b"{\"items\":[{\"sku\":\"A\",\"quantity\":\"1\"}]}",
                ValidationFailed,
                "/items/0/quantity",
                "wrong_type",
            ),
            (
                b"{\"items\":[{\"sku\":\"A\",\"quantity\":1.5}]}",
                ValidationFailed,
                "/items/0/quantity",
                "wrong_type",
            ),
            (b"{\"items\":[{\"sku\":[],\"quantity\":1}]}", ValidationFailed, "/items/0/sku", "wrong_type"),
            (
                b"{\"items\":[{\"sku\":\"A\",\n\"quantity\":9223372036854775808}]}",
                ValidationFailed,
                "/items/0/quantity",
                "out_of_range",
            ),
            (
                b"{\"items\":[{\"sku\":\"A\",\"quantity\":1e999}]}",
                ValidationFailed,
                "/items/0/quantity",
                "out_of_range",
            ),
            (b"{\"items\":[],\"ttl_s\":-1}", ValidationFailed, "/ttl_s", "out_of_range"),
        ] {
            check::<Owned>(body, code, pointer, field);
        }
        let price = b"{\"name\":\"A\",\"price\":{\"amount\":1,\"currency\":\"EURO\"}}";
        check::<SkuRequest>(price, ValidationFailed, "/price/currency", "unknown_value");
    }

    /// The borrowed request type, read from any lifetime.
    struct Owned;

    impl<'de> Deserialize<'de> for Owned {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            ReservationRequest::deserialize(deserializer).map(|_| Self)
        }
    }
}
