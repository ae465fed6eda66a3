//! Keys of the store: bytes whose order is the order wanted.

use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{CartId, OrderId, ReservationId, Sku};

/// `kind, id` with ids big-endian; SKUs end in a zero, which no SKU contains, so that none is another's prefix.
pub(super) fn entity(entity: &EntityKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    match entity {
        EntityKey::Sku(sku) => {
            bytes.push(1);
            bytes.extend_from_slice(sku.as_str().as_bytes());
            bytes.push(0);
        }
        EntityKey::Reservation(id) => id_key(&mut bytes, 2, id.0),
        EntityKey::Cart(id) => id_key(&mut bytes, 3, id.0),
        EntityKey::Order(id) => id_key(&mut bytes, 4, id.0),
    }
    bytes
}

fn id_key(bytes: &mut Vec<u8>, kind: u8, id: u128) {
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_be_bytes());
}

/// The entity that [`entity`] made `bytes` of.
pub(super) fn parse_entity(bytes: &[u8]) -> Option<EntityKey> {
    let (kind, rest) = bytes.split_first()?;
    let id = || <[u8; 16]>::try_from(rest).ok().map(u128::from_be_bytes);
    match kind {
        1 => {
            let text = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
            Sku::new(text).ok().map(EntityKey::Sku)
        }
        2 => id().map(|id| EntityKey::Reservation(ReservationId(id))),
        3 => id().map(|id| EntityKey::Cart(CartId(id))),
        4 => id().map(|id| EntityKey::Order(OrderId(id))),
        _ => None,
    }
}

/// The key of chunk `chunk` of the value under `key`.
pub(super) fn chunk(key: &[u8], chunk: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 2);
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&chunk.to_be_bytes());
    bytes
}

/// `number, rest`: orders by number first.
pub(super) fn numbered(number: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + rest.len());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// `sku, number`: orders by number within one SKU.
pub(super) fn of_sku(sku: &Sku, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(sku.as_str().len() + 9);
    bytes.extend_from_slice(sku.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entity_reads_back() {
        for key in [
            EntityKey::Sku(Sku::new("A").unwrap()),
            EntityKey::Sku(Sku::new("A B.c_d-9").unwrap()),
            EntityKey::Reservation(ReservationId(u128::MAX)),
            EntityKey::Cart(CartId(0)),
            EntityKey::Order(OrderId(7)),
        ] {
            assert_eq!(parse_entity(&entity(&key)), Some(key));
        }
        for bytes in [&b""[..], b"\x01", b"\x01A", b"\x01\xff\0", b"\x02short", b"\x09aaaaaaaaaaaaaaaa"] {
            assert_eq!(parse_entity(bytes), None, "{bytes:?}");
        }
    }
}
