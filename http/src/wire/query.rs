//! Query strings and path segments.

use doorbuster_engine::identity::Timestamp;

use super::time;
use crate::problem::Problem;

/// Fewest and most rows of a part of a list, and how many where nothing is said.
const LIMIT_MIN: usize = 1;
const LIMIT_MAX: usize = 100;
const LIMIT_DEFAULT: usize = 20;

/// The decoded parameters of a query string.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `text`, refusing parameters that are not `known`: a misspelt filter must not read as no filter.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
                return Err(Problem::malformed("the query string is not percent-encoded UTF-8"));
            };
            if !known.contains(&name.as_str()) {
                let message = format!("unknown parameter `{name}`, expected one of: {}", known.join(", "));
                return Err(Problem::field(format!("?{name}"), "unknown_field", message));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// Every value of a parameter, in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may be given once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::field(format!("?{name}"), "duplicate_field", "given twice"));
        }
        Ok(first)
    }

    /// `limit`.
    pub fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.one("limit")? else { return Ok(LIMIT_DEFAULT) };
        text.parse().ok().filter(|limit| (LIMIT_MIN..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
            Problem::field(
                "?limit",
                "out_of_range",
                format!("`{text}` is not within {LIMIT_MIN} to {LIMIT_MAX}"),
            )
        })
    }

    /// A parameter that is `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.one(name)? {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => Err(Problem::field(
                format!("?{name}"),
                "wrong_type",
                format!("`{text}` is neither true nor false"),
            )),
        }
    }

    /// A parameter that is an RFC 3339 time.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        time::parse(text).map(Some).ok_or_else(|| {
            let message = format!("`{text}` is not a time such as 2026-11-27T09:00:00Z");
            Problem::field(format!("?{name}"), "wrong_type", message)
        })
    }
}

/// Undoes percent-encoding, in queries also `+` for a space; `None` when the result is not UTF-8 or a code is cut.
pub fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_strangers_refused() {
        let query = Query::parse("sku=A%20B&sku=C+D&limit=7", &["sku", "limit"]).unwrap();
        assert_eq!(query.all("sku").collect::<Vec<_>>(), ["A B", "C D"]);
        assert_eq!(query.limit().unwrap(), 7);
        assert!(query.one("sku").is_err(), "given twice");
        assert!(Query::parse("limt=7", &["limit"]).is_err());
        assert!(Query::parse("limit=%zz", &["limit"]).is_err());
        for text in ["limit=0", "limit=101", "limit=x", "limit=-1"] {
            assert!(Query::parse(text, &["limit"]).unwrap().limit().is_err(), "{text}");
        }
        assert_eq!(Query::parse("", &[]).unwrap().limit().unwrap(), 20);
    }
}
