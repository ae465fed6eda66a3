//! The laws, numbered once. Tests, recovery and `doorbuster verify` cite these numbers.

use std::fmt;

/// One of the promises the engine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Law {
    /// Its number, for ever.
    pub number: u8,
    /// What it says.
    pub text: &'static str,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {}: {}", self.number, self.text)
    }
}

/// All laws in order; `LAWS[n - 1]` is law n.
pub const LAWS: [Law; 11] = [
    Law {
        number: 1,
        text: "received = on_hand + sold; available = on_hand - reserved; sellable = available + oversell limit >= 0; nothing is negative where the limit is 0",
    },
    Law { number: 2, text: "a reservation ends exactly once: committed, released or expired" },
    Law { number: 3, text: "what was acknowledged survives: kill, power cut, full disk, failed fsync" },
    Law {
        number: 4,
        text: "a request definitely refused never takes effect; another copy of it is a new attempt; a time-out means unknown, and a retry with the same key settles it",
    },
    Law {
        number: 5,
        text: "a retry with the same key has one effect and one answer; the same key with another body is refused",
    },
    Law {
        number: 6,
        text: "all of a multi-SKU reservation or checkout, or none of it; no orphan outlives its time by more than five seconds",
    },
    Law {
        number: 7,
        text: "at most one successful charge per order; money in integer minor units; captured minus refunded equals what the order says",
    },
    Law {
        number: 8,
        text: "an expiry never abandons a payment: units stay pinned while a charge may still succeed; at the pin's cap the intent is cancelled, and units return only on a definite answer",
    },
    Law {
        number: 9,
        text: "the journal is gapless, ordered and checksummed; a torn tail is cut, any other damage refuses to start",
    },
    Law { number: 10, text: "a projection is the journal folded, each event applied exactly once, in order" },
    Law {
        number: 11,
        text: "memory and latency are bounded under any load: the rest is refused early, with a computed Retry-After",
    },
];

/// A law that a state was found to break, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("law {law} broken by {entity}: {seen}")]
pub struct Violation {
    /// The law's number.
    pub law: u8,
    /// What broke it: kind and key.
    pub entity: String,
    /// The figures that break it.
    pub seen: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laws_are_numbered_in_order() {
        for (index, law) in LAWS.iter().enumerate() {
            assert_eq!(usize::from(law.number), index + 1, "{law}");
        }
    }
}
