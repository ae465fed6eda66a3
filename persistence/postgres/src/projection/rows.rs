//! Rows as plain values: what is copied to the server, read back from it, and hashed.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row as ServerRow;
use tokio_postgres::types::{ToSql, Type};

/// The latest time a row can hold, 9999-12-31, in milliseconds since the Unix epoch: beyond it nobody's calendar goes.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `text`.
    Text,
    /// `bigint`.
    Integer,
    /// `integer`.
    Small,
    /// `boolean`.
    Flag,
    /// `timestamptz`.
    Time,
}

impl Kind {
    pub(crate) fn sql(self) -> Type {
        match self {
            Self::Text => Type::TEXT,
            Self::Integer => Type::INT8,
            Self::Small => Type::INT4,
            Self::Flag => Type::BOOL,
            Self::Time => Type::TIMESTAMPTZ,
        }
    }
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Small(i32),
    Flag(bool),
    /// Milliseconds since the Unix epoch.
    Time(Option<u64>),
}

/// One row: a value for each column of its table, in the table's order.
pub(crate) type Row = Vec<Value>;

impl Value {
    /// A text as Postgres can hold it: a NUL, which it cannot, is shown as U+FFFD.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(Some(storable(text)))
    }

    /// A text or nothing.
    pub(crate) fn maybe(text: Option<&str>) -> Self {
        Self::Text(text.map(storable))
    }

    pub(crate) fn integer(number: i64) -> Self {
        Self::Integer(Some(number))
    }

    /// A count or position of the engine; all of them fit.
    pub(crate) fn count(number: u64) -> Self {
        Self::Integer(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    pub(crate) fn small(number: u32) -> Self {
        Self::Small(i32::try_from(number).unwrap_or(i32::MAX))
    }

    pub(crate) fn time(ms: u64) -> Self {
        Self::Time(Some(ms.min(TIME_MS_MAX)))
    }

    pub(crate) fn maybe_time(ms: Option<u64>) -> Self {
        Self::Time(ms.map(|ms| ms.min(TIME_MS_MAX)))
    }

    /// Reads column `index` of what the server sent.
    pub(crate) fn read(row: &ServerRow, index: usize, kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(row.get(index)),
            Kind::Integer => Self::Integer(row.get(index)),
            Kind::Small => Self::Small(row.get(index)),
            Kind::Flag => Self::Flag(row.get(index)),
            Kind::Time => Self::Time(row.get::<_, Option<SystemTime>>(index).map(to_ms)),
        }
    }

    /// Appends bytes that no other value has.
    pub(crate) fn write_canonical(&self, out: &mut Vec<u8>) {
        let number = |out: &mut Vec<u8>, number: i64| {
            out.push(1);
            out.extend_from_slice(&number.to_le_bytes());
        };
        match self {
            Self::Text(None) | Self::Integer(None) | Self::Time(None) => out.push(0),
            Self::Text(Some(text)) => {
                out.push(2);
                out.extend_from_slice(&(text.len() as u64).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Self::Integer(Some(integer)) => number(out, *integer),
            Self::Small(small) => number(out, i64::from(*small)),
            Self::Flag(flag) => number(out, i64::from(*flag)),
            Self::Time(Some(ms)) => number(out, i64::try_from(*ms).unwrap_or(i64::MAX)),
        }
    }

    /// As the client library takes it.
    pub(crate) fn to_sql(&self) -> Box<dyn ToSql + Sync + Send> {
        match self {
            Self::Text(text) => Box::new(text.clone()),
            Self::Integer(number) => Box::new(*number),
            Self::Small(number) => Box::new(*number),
            Self::Flag(flag) => Box::new(*flag),
            Self::Time(ms) => Box::new(ms.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms))),
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.as_deref(),
            Self::Integer(_) | Self::Small(_) | Self::Flag(_) | Self::Time(_) => None,
        }
    }

    /// The number in it; 0 where there is none.
    pub(crate) fn as_integer(&self) -> i64 {
        match self {
            Self::Integer(number) => number.unwrap_or(0),
            Self::Small(number) => i64::from(*number),
            Self::Flag(flag) => i64::from(*flag),
            Self::Text(_) | Self::Time(_) => 0,
        }
    }

    pub(crate) fn as_time(&self) -> Option<u64> {
        match self {
            Self::Time(ms) => *ms,
            Self::Text(_) | Self::Integer(_) | Self::Small(_) | Self::Flag(_) => None,
        }
    }
}

/// A text as Postgres can hold it.
pub(crate) fn storable(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

fn to_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_values_have_different_bytes() {
        let rows = [
            vec![Value::text("a"), Value::text("bc")],
            vec![Value::text("ab"), Value::text("c")],
            vec![Value::text(""), Value::maybe(None)],
            vec![Value::maybe(None), Value::text("")],
            vec![Value::integer(0), Value::Flag(false), Value::Integer(None)],
            vec![Value::Flag(false), Value::Integer(None), Value::integer(0)],
        ];
        let bytes = rows.map(|row| {
            let mut bytes = Vec::new();
            for value in &row {
                value.write_canonical(&mut bytes);
            }
            bytes
        });
        for (index, one) in bytes.iter().enumerate() {
            assert!(!bytes[index + 1..].contains(one), "row {index} has the bytes of another");
        }
        assert_eq!(Value::text("a\0b"), Value::text("a\u{fffd}b"));
        assert_eq!(Value::time(u64::MAX), Value::time(TIME_MS_MAX));
    }
}
