//! What the journal records: one [`Entry`] an event, with the entity it belongs to and the request behind it.
//!
//! Variants are appended, never reordered: their index is in every journal.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cart::CartEvent;
use crate::identity::{CartId, OrderId, RequestStamp, ReservationId, Sku};
use crate::order::OrderEvent;
use crate::reservation::ReservationEvent;
use crate::stock::StockEvent;

/// Number of partitions, for ever: a record's partition is journalled, so that a cluster can own them one by one.
pub const PARTITIONS: usize = 256;

/// Whose state an event changes: one actor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntityKey {
    /// A SKU's stock.
    Sku(Sku),
    /// A reservation over several SKUs.
    Reservation(ReservationId),
    /// A cart.
    Cart(CartId),
    /// An order.
    Order(OrderId),
}

impl EntityKey {
    /// Every [`EntityKey::kind`].
    pub const KINDS: [&'static str; 4] = ["sku", "reservation", "cart", "order"];

    /// The partition this entity belongs to, the same on every machine and for ever.
    ///
    /// FNV-1a over the key's bytes (kinds differ by a leading byte), folded to eight bits. Ids are keyed hashes or
    /// random, and SKUs are the merchant's own, so no stranger can aim at one partition.
    pub fn partition(&self) -> u16 {
        EntityRef::from(self).partition()
    }

    /// The kind's name, as metrics and the actor pages spell it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sku(_) => "sku",
            Self::Reservation(_) => "reservation",
            Self::Cart(_) => "cart",
            Self::Order(_) => "order",
        }
    }
}

/// An [`EntityKey`] whose name is still a part of the journal's bytes: finds an entity without an allocation.
///
/// Hashes and compares as the key does, so its variants stay in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum EntityRef<'a> {
    /// A SKU's stock.
    Sku(&'a str),
    /// A reservation over several SKUs.
    Reservation(ReservationId),
    /// A cart.
    Cart(CartId),
    /// An order.
    Order(OrderId),
}

impl EntityRef<'_> {
    /// The key itself.
    pub fn to_key(self) -> EntityKey {
        match self {
            Self::Sku(text) => EntityKey::Sku(Sku::trusted(text)),
            Self::Reservation(id) => EntityKey::Reservation(id),
            Self::Cart(id) => EntityKey::Cart(id),
            Self::Order(id) => EntityKey::Order(id),
        }
    }

    /// [`EntityKey::partition`].
    pub fn partition(self) -> u16 {
        match self {
            Self::Sku(text) => partition_of(1, text.as_bytes()),
            Self::Reservation(id) => partition_of(2, &id.0.to_le_bytes()),
            Self::Cart(id) => partition_of(3, &id.0.to_le_bytes()),
            Self::Order(id) => partition_of(4, &id.0.to_le_bytes()),
        }
    }
}

impl<'a> From<&'a EntityKey> for EntityRef<'a> {
    fn from(key: &'a EntityKey) -> Self {
        match key {
            EntityKey::Sku(sku) => Self::Sku(sku.as_str()),
            EntityKey::Reservation(id) => Self::Reservation(*id),
            EntityKey::Cart(id) => Self::Cart(*id),
            EntityKey::Order(id) => Self::Order(*id),
        }
    }
}

impl indexmap::Equivalent<EntityKey> for EntityRef<'_> {
    fn equivalent(&self, key: &EntityKey) -> bool {
        *self == EntityRef::from(key)
    }
}

impl fmt::Display for EntityRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_key().fmt(f)
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sku(sku) => write!(f, "sku {sku}"),
            Self::Reservation(id) => write!(f, "reservation {id}"),
            Self::Cart(id) => write!(f, "cart {id}"),
            Self::Order(id) => write!(f, "order {id}"),
        }
    }
}

fn partition_of(kind: u8, bytes: &[u8]) -> u16 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = (OFFSET ^ u64::from(kind)).wrapping_mul(PRIME);
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    // FNV's low bits mix worst on short keys; fold all eight bytes into one.
    hash ^= hash >> 32;
    hash ^= hash >> 16;
    hash ^= hash >> 8;
    u16::try_from(hash & 0xff).unwrap_or(0)
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// To a SKU's stock.
    Stock(StockEvent),
    /// To a reservation over several SKUs.
    Reservation(ReservationEvent),
    /// To a cart.
    Cart(CartEvent),
    /// To an order.
    Order(OrderEvent),
}

/// One journalled event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose state it changes.
    pub entity: EntityKey,
    /// The keyed request that caused it, so that its answer can be given again (law 5).
    pub request: Option<RequestStamp>,
    /// What happened.
    pub event: Event,
}

/// An [`Entry`] as the journal's bytes hold it: what a replay folds.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct EntryRef<'a> {
    /// Whose state it changes.
    #[serde(borrow)]
    pub entity: EntityRef<'a>,
    /// The keyed request that caused it.
    pub request: Option<RequestStamp>,
    /// What happened.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn a_borrowed_key_finds_what_the_key_itself_would() {
        let hasher = foldhash::fast::FixedState::default();
        let bits = 0x0123_4567_89ab_cdef_u128;
        for key in [
            EntityKey::Sku(Sku::new("TEE-M").unwrap()),
            EntityKey::Reservation(ReservationId(bits)),
            EntityKey::Cart(CartId(bits)),
            EntityKey::Order(OrderId(bits)),
        ] {
            let borrowed = EntityRef::from(&key);
            assert_eq!(hasher.hash_one(&key), hasher.hash_one(borrowed), "{key}");
            assert!(indexmap::Equivalent::equivalent(&borrowed, &key), "{key}");
            assert_eq!((borrowed.to_key(), borrowed.partition()), (key.clone(), key.partition()));
        }
    }

    #[test]
    fn partitions_are_frozen_and_even() {
        assert_eq!(EntityKey::Sku(Sku::new("TEE-M").unwrap()).partition(), 222, "journals carry this number");
        let mut counts = [0_u32; PARTITIONS];
        for n in 0..25_600 {
            let key = EntityKey::Sku(Sku::new(&format!("SKU-{n}")).unwrap());
            counts[usize::from(key.partition())] += 1;
        }
        assert!(counts.iter().all(|c| (50..=160).contains(c)), "{counts:?}");
    }
}
