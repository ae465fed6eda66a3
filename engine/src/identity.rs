//! Names of things: SKUs, reservations, carts, orders, keys.
//!
//! Every id is made outside the core and arrives in a command, so that a replay of the journal is exact.
//! On the wire an id is its prefix and 32 lower-case hexadecimal digits (`res_…`); inside it is 128 bits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not the name or id it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A SKU must have 1 to 64 characters.
    #[error("a SKU has 1 to 64 characters")]
    SkuLength,
    /// A SKU has a character outside letters, digits, space, `.`, `_` and `-`.
    #[error("a SKU consists of letters, digits, space, '.', '_' and '-'")]
    SkuCharacter,
    /// A SKU starts or ends with a space.
    #[error("a SKU has no space at either end")]
    SkuSpace,
    /// An id lacks its prefix or its 32 hexadecimal digits.
    #[error("not an id of this kind")]
    Id,
}

/// The merchant's own name of a stock-keeping unit: 1 to 64 ASCII letters, digits, spaces, `.`, `_`, `-`,
/// no space at either end. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sku(Arc<str>);

impl Sku {
    /// Longest SKU, in characters (all ASCII, so also bytes). Longer ones would not fit a record's bound.
    pub const LENGTH_MAX: usize = 64;

    /// Checks `text` and makes it a SKU.
    pub fn new(text: &str) -> Result<Self, IdentityError> {
        if text.is_empty() || text.len() > Self::LENGTH_MAX {
            return Err(IdentityError::SkuLength);
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(IdentityError::SkuSpace);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'.' | b'_' | b'-')) {
            return Err(IdentityError::SkuCharacter);
        }
        Ok(Self(Arc::from(text)))
    }

    /// A SKU from the journal, which was checked before it was recorded.
    pub(crate) fn trusted(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The SKU as the merchant wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Sku {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl FromStr for Sku {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u128);

        impl $name {
            /// What every id of this kind starts with on the wire.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hexadecimal(text, $prefix).map(Self).ok_or(IdentityError::Id)
            }
        }
    };
}

id!(
    /// A reservation. For a public one it equals the [`RequestKey`] that made it, so the idempotency key names it.
    ReservationId, "res_"
);
id!(
    /// A cart.
    CartId, "cart_"
);
id!(
    /// An order. Its units are held under the [`ReservationId`] of the same bits.
    OrderId, "ord_"
);
id!(
    /// A payment, as this engine calls it; the provider has its own name for it.
    PaymentId, "pay_"
);
id!(
    /// A refund.
    RefundId, "ref_"
);
id!(
    /// A fulfilment: units of an order handed to the carrier.
    FulfilmentId, "ful_"
);
id!(
    /// An idempotency key within its caller: a keyed hash of (server secret, caller, key), never the key itself.
    RequestKey, "key_"
);

impl OrderId {
    /// The reservation under which this order's units are held: the same bits.
    pub fn reservation(self) -> ReservationId {
        ReservationId(self.0)
    }
}

impl RequestKey {
    /// The reservation that a request under this key makes: the same bits.
    pub fn reservation(self) -> ReservationId {
        ReservationId(self.0)
    }
}

impl ReservationId {
    /// The request key that made this reservation, where a request did: the same bits.
    pub fn request_key(self) -> RequestKey {
        RequestKey(self.0)
    }
}

fn parse_hexadecimal(text: &str, prefix: &str) -> Option<u128> {
    let digits = text.strip_prefix(prefix)?;
    let canonical = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u128::from_str_radix(digits, 16).ok() } else { None }
}

/// What a request asked for, hashed with the server secret: method, route and body.
/// Two requests under one key must agree on it (law 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// Key and fingerprint of the request that caused a change, journalled with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStamp {
    /// The caller's idempotency key, hashed.
    pub key: RequestKey,
    /// What was asked.
    pub fingerprint: Fingerprint,
}

/// A cart's capability, hashed: only who holds the token can read or change the cart and its order.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// Where an event stands among all events of one engine: larger is later. Unique; not gapless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    /// Sixteen hexadecimal digits, so that texts order as the positions do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Milliseconds since the Unix epoch, UTC: business time, never behind the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time plus `duration_ms`, or the end of time if it would not fit.
    pub fn plus_ms(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }
}

/// When and where an event was recorded: handed to `evolve` beside the event itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The event's position.
    pub position: Position,
    /// Business time of the turn.
    pub at: Timestamp,
}
