//! Records as a hot SKU makes them.

use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{Fingerprint, RequestKey, RequestStamp, ReservationId, Sku};
use doorbuster_engine::stock::StockEvent;
use doorbuster_persistence::codec::append_record;
use doorbuster_persistence::record::RecordHeader;

/// A reservation of one unit of one SKU: nine in ten events of a drop.
///
/// # Panics
/// Never: the SKU's name is sound.
pub fn reserved(number: u64) -> (RecordHeader, Entry) {
    let entity = EntityKey::Sku(Sku::new("BENCH").expect("a sound SKU"));
    let header = RecordHeader {
        partition: entity.partition(),
        epoch: 1,
        sequence: number,
        position: number,
        at_ms: 1_790_000_000_000,
    };
    let (key, fingerprint) = (RequestKey(u128::from(number)), Fingerprint(1));
    let event = StockEvent::Reserved {
        reservation: ReservationId(u128::from(number)),
        quantity: 1,
        ttl_ms: 600_000,
        fingerprint,
        customer: None,
        location: None,
    };
    (header, Entry { entity, request: Some(RequestStamp { key, fingerprint }), event: Event::Stock(event) })
}

/// That many of them as a frame's body has them.
///
/// # Panics
/// When a record cannot be written, which no codec that passes its tests does.
pub fn records_of(count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 1..=u64::from(count) {
        let (header, entry) = reserved(number);
        append_record(&mut bytes, &header, &entry).expect("a small record");
    }
    bytes
}
