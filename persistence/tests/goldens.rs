//! Bytes that must read back for ever. `DOORBUSTER_GOLDEN=write` makes the files anew; review the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use doorbuster_engine::cart::{CartEvent, NewLine};
use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{
    CartId, Fingerprint, OrderId, RequestKey, RequestStamp, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::OrderEvent;
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};
use doorbuster_persistence::codec;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::record::{RECORD_HEADER_BYTES, RecordHeader};

use crate::support::{open, paths, read, write};

fn golden(name: &str, made: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("DOORBUSTER_GOLDEN").is_ok_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    fs::read_to_string(&path).unwrap()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes_of(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn samples() -> Vec<(RecordHeader, Entry)> {
    let sku = Sku::new("TEE-M").unwrap();
    let request = Some(RequestStamp { key: RequestKey(0x0102), fingerprint: Fingerprint(0x0304) });
    let stock =
        |request, event| Entry { entity: EntityKey::Sku(sku.clone()), request, event: Event::Stock(event) };
    let definition = Definition {
        name: "T-shirt".into(),
        price: Money::new(1999, Currency::GBP),
        oversell: Oversell::Allow(3),
        reservation_ttl_ms: Some(60_000),
        low_stock_at: None,
    };
    let reservation = ReservationId(0x1112_1314);
    let line = NewLine {
        sku: sku.clone(),
        name: "T-shirt".into(),
        quantity: 2,
        unit_price: Money::new(1999, Currency::GBP),
    };
    let entries = vec![
        stock(None, StockEvent::Defined { definition, opening: 100 }),
        stock(
            request,
            StockEvent::Adjusted {
                delta: -3,
                reason: "count".into(),
                reference: Some("PO-7".into()),
                location: None,
            },
        ),
        stock(
            request,
            StockEvent::Reserved {
                reservation,
                quantity: 2,
                ttl_ms: 600_000,
                fingerprint: Fingerprint(0x0304),
                customer: Some("c".into()),
                location: None,
            },
        ),
        stock(None, StockEvent::Extended { reservation, expires_at: Timestamp(99) }),
        stock(request, StockEvent::Committed { reservation }),
        Entry {
            entity: EntityKey::Reservation(reservation),
            request: None,
            event: Event::Reservation(ReservationEvent::Committed),
        },
        Entry {
            entity: EntityKey::Cart(CartId(5)),
            request,
            event: Event::Cart(CartEvent::LinesAdded { lines: vec![line] }),
        },
        Entry {
            entity: EntityKey::Order(OrderId(6)),
            request: None,
            event: Event::Order(OrderEvent::UnitsReserved),
        },
    ];
    let header = |n: u64, entry: &Entry| RecordHeader {
        partition: entry.entity.partition(),
        epoch: 1,
        sequence: n + 1,
        position: 0x10 + n,
        at_ms: 1_700_000_000_000 + n,
    };
    (0..).zip(entries).map(|(n, entry)| (header(n, &entry), entry)).collect()
}

#[test]
fn records_keep_their_bytes() {
    let mut made = String::new();
    for (header, entry) in samples() {
        let mut bytes = vec![0xee; 3];
        let size = codec::append_record(&mut bytes, &header, &entry).unwrap();
        assert_eq!(bytes.len(), 3 + size);
        made.push_str(&hexadecimal(&bytes[3..]));
        made.push('\n');
    }
    let kept = golden("records.hex", &made);
    assert_eq!(made, kept, "the byte format changed: bump RECORD_VERSION and keep the old reader");
    let all: Vec<u8> = kept.lines().flat_map(bytes_of).collect();
    let read: Vec<(RecordHeader, Entry)> = codec::records(&all)
        .map(|record| record.map(|record| (record.header, record.entry().unwrap())).unwrap())
        .collect();
    assert_eq!(read, samples());
}

#[test]
fn segments_keep_their_bytes() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    write(&mut open(&paths), &[b"first", b"", b"third"]);
    let file = paths.journal().join("00000000000000000001.segment");
    let bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let made: String = bytes[..end].chunks(32).map(|row| hexadecimal(row) + "\n").collect();
    let kept = golden("segment-2.hex", &made);
    assert_eq!(made, kept, "the byte format changed: bump JOURNAL_FORMAT_VERSION and keep the old reader");
    // The zeros after the last frame belong to the file since version 2; version 1 did not say how many there were.
    let first_version = include_str!("golden/segment-1.hex");
    for (text, length) in [(kept.as_str(), bytes.len()), (first_version, 0)] {
        let mut bytes: Vec<u8> = text.lines().flat_map(bytes_of).collect();
        bytes.resize(bytes.len().max(length), 0);
        fs::write(&file, bytes).unwrap();
        let (bodies, tail) = read(&paths, FrameNumber::FIRST).unwrap();
        assert_eq!(bodies, [&b"first"[..], b"", b"third"]);
        assert_eq!(tail.cut, None);
    }
}

#[test]
fn damaged_records_are_refused_whatever_byte_it_is_or_read_as_another_value() {
    for (header, entry) in samples() {
        let mut bytes = Vec::new();
        codec::append_record(&mut bytes, &header, &entry).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x81;
            // The frame's checksum is what finds these; here nothing may panic or allocate without bound.
            for record in codec::records(&flipped) {
                let Ok(record) = record else { break };
                let same = record.entry().is_ok_and(|read| read == entry) && record.header == header;
                assert!(!same, "byte {at}");
            }
            assert!(codec::records(&bytes[..at]).all(|record| record.is_err()), "cut to {at}");
        }
        assert!(bytes.len() > RECORD_HEADER_BYTES);
    }
}
