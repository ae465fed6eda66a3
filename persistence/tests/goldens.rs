//! Bytes that must read back for ever. `DOORBUSTER_GOLDEN=write` makes the files anew; review the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use doorbuster_engine::answer::Item;
use doorbuster_engine::cart::{CartEvent, NewLine};
use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{
    CartId, Fingerprint, OrderId, RequestKey, RequestStamp, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{DraftLine, OrderDraft, OrderEvent};
use doorbuster_engine::pricing::totals;
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};
use doorbuster_engine::world::Settled;
use doorbuster_persistence::checkpoint::{ColdKind, ColdRow};
use doorbuster_persistence::codec;
use doorbuster_persistence::disk::{Disk, MachineDisk};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::record::{RECORD_HEADER_BYTES, RecordHeader};
use doorbuster_persistence::recovery::CheckpointUse;

use crate::shop::{Shop, assert_is, sku, stamp, start};
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

pub(crate) fn samples() -> Vec<(RecordHeader, Entry)> {
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
    assert_eq!(made, kept, "RECORD_VERSION: {RULE}");
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
    assert_eq!(made, kept, "JOURNAL_FORMAT_VERSION: {RULE}");
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

/// What every golden asks of whoever changed its bytes.
const RULE: &str = "the byte format changed: before the first tagged release, bump the version and write the goldens anew with \
     DOORBUSTER_GOLDEN=write; after it, keep the old reader and its golden too (docs/formats.md)";

const TREES: [&str; 7] = ["cold", "cold_times", "due", "ledger", "marks", "orders", "rows"];

/// Every row of a checkpoint, a line each: tree, key, value.
fn rows_of(path: &Path) -> String {
    let trees = MachineDisk.trees(path).unwrap();
    let mut text = String::new();
    for name in TREES {
        for entry in trees.tree(name).unwrap().range(&[], None) {
            let (key, value) = entry.unwrap();
            writeln!(text, "{name} {} {}", hexadecimal(&key), hexadecimal(&value)).unwrap();
        }
    }
    text
}

/// A shop with an entity, an answer and an index entry of every kind; its journal only.
fn shop_of_every_kind(path: &Path) -> Shop {
    let mut shop = Shop::open(path);
    shop.trade(12);
    let items = vec![Item { sku: sku(1), quantity: 1 }, Item { sku: sku(2), quantity: 1 }];
    let asked = ReservationEvent::Requested { items, ttl_ms: 60_000, partial: false, customer: None };
    shop.record(EntityKey::Reservation(ReservationId(77)), Event::Reservation(asked), Some(stamp(77)));
    let price = Money::new(100, Currency::GBP);
    let line = DraftLine { line: 1, sku: sku(1), name: "thing".into(), quantity: 1, unit_price: price };
    let draft = OrderDraft {
        order: OrderId(99),
        cart: CartId(8),
        lines: vec![line],
        totals: totals(Currency::GBP, [(1, price)].into_iter()).unwrap(),
        email: "somebody@example.com".into(),
        provider: "fake".into(),
        method: "ok".into(),
        shipping_address: None,
        pin_ms: 900_000,
    };
    let started = OrderEvent::Started(Box::new(draft));
    shop.record(EntityKey::Order(OrderId(99)), Event::Order(started), Some(stamp(99)));
    shop.flush();
    shop
}

/// Puts everything into the store that a checkpoint may hold.
fn fill(shop: &mut Shop) {
    let store = &shop.recovered.store;
    for memo in shop.model.memory.iter().take(2) {
        let (Some((key, settled)), None) = memo.clone().into_parts() else { panic!("{memo:?}") };
        let bytes = codec::encode_stored(&settled).unwrap();
        store
            .answers_put([ColdRow { kind: ColdKind::Answer, key: key.0, at_ms: settled.at.0, bytes }])
            .unwrap();
    }
    let kind = ColdKind::EndedReservation;
    store.answers_put([ColdRow { kind, key: 5, at_ms: 6, bytes: vec![7; 8] }]).unwrap();
    store.due_put(1_000_500, &EntityKey::Cart(CartId(8))).unwrap();
    store.order_put(1_000_360, OrderId(99), b"summary").unwrap();
    store.ledger_put(&sku(1), 3, b"page").unwrap();
    store.delete([(EntityKey::Reservation(ReservationId(76)), 0)]).unwrap();
    shop.checkpoint();
}

#[test]
fn checkpoints_keep_their_bytes_and_open_again() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = shop_of_every_kind(&root.path().join("today"));
    fill(&mut shop);
    let path = shop.path();
    drop(shop);
    let made = rows_of(&path.join("checkpoint"));
    for name in TREES {
        assert!(made.lines().any(|line| line.split(' ').next() == Some(name)), "no row in {name}");
    }
    let kept = golden("checkpoint.hex", &made);
    assert!(made == kept, "{RULE}");

    // The kept rows under the same journal: a start takes them and replays nothing but what came after.
    let path = root.path().join("kept");
    let shop = shop_of_every_kind(&path);
    let (model, sequences) = (shop.model.clone(), shop.sequences());
    drop(shop);
    fs::remove_dir_all(path.join("checkpoint")).unwrap();
    let trees = MachineDisk.trees(&path.join("checkpoint")).unwrap();
    for line in kept.lines() {
        let [name, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        trees.tree(name).unwrap().insert(&bytes_of(key), &bytes_of(value)).unwrap();
    }
    trees.sync().unwrap();
    drop(trees);
    let (_directory, recovered) = start(&path).unwrap();
    assert!(
        matches!(recovered.report.checkpoint, CheckpointUse::Mark { .. }),
        "{RULE}: {:?}",
        recovered.report
    );
    assert_eq!((recovered.report.records_replayed, recovered.report.records_skipped), (0, 0), "{RULE}");
    assert_is(&recovered, &model, &sequences, RULE);
    let mut answers = Vec::new();
    recovered.store.answers_for_each(|row| answers.push(row)).unwrap();
    let (settled, _) = model.memory.by_key();
    for row in answers.iter().filter(|row| row.kind == ColdKind::Answer) {
        let read: Settled = codec::decode_stored(&row.bytes).unwrap();
        assert_eq!(Some(&read), settled.get(&RequestKey(row.key)), "{RULE}");
    }
    assert_eq!(answers.len(), 3);
    assert_eq!(
        recovered.store.due_until(u64::MAX - 1, 9).unwrap(),
        [(1_000_500, EntityKey::Cart(CartId(8)))]
    );
    assert_eq!(recovered.store.orders_by_time(None, 9).unwrap()[0].summary, b"summary");
    assert_eq!(recovered.store.ledger_scan_back(&sku(1), 9, 9).unwrap(), [(3, b"page".to_vec())]);
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
