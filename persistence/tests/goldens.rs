//! Bytes that must read back for ever. `DOORBUSTER_GOLDEN=write` makes the files anew; review the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster_engine::answer::Item;
use doorbuster_engine::cart::{CartEvent, NewLine};
use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{
    CartId, Fingerprint, OrderId, RequestKey, RequestStamp, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{DraftLine, Inquiry, OrderDraft, OrderEvent};
use doorbuster_engine::payment::NextAction;
use doorbuster_engine::pricing::totals;
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};
use doorbuster_engine::world::Settled;
use doorbuster_persistence::checkpoint::{ColdKind, ColdRow, RoundMark};
use doorbuster_persistence::codec;
use doorbuster_persistence::disk::{Disk, MachineDisk};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::journal::Journal as _;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::record::{RECORD_HEADER_BYTES, RecordHeader};
use doorbuster_persistence::recovery::CheckpointUse;
use doorbuster_persistence::rescue::base::{BaseHead, BasePage};
use doorbuster_persistence::rescue::restore::Restoration;
use doorbuster_persistence::rescue::shipment::{Packer, Shipment};

use crate::shop::{Shop, assert_is, sku, stamp, start};
use crate::support::{ENGINE, open, paths, read, write};

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
    let mut entries = vec![
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
    let payments = payments().into_iter();
    entries.extend(payments.map(|event| Entry {
        entity: EntityKey::Order(OrderId(6)),
        request: None,
        event: Event::Order(event),
    }));
    let header = |n: u64, entry: &Entry| RecordHeader {
        partition: entry.entity.partition(),
        epoch: 1,
        sequence: n + 1,
        position: 0x10 + n,
        at_ms: 1_700_000_000_000 + n,
    };
    (0..).zip(entries).map(|(n, entry)| (header(n, &entry), entry)).collect()
}

/// What came with payments that are authorized first: an event of each kind.
fn payments() -> Vec<OrderEvent> {
    let reference = || "pi_1".to_owned();
    vec![
        OrderEvent::ActionRequired {
            reference: reference(),
            action: NextAction::ClientSecret("pi_1_secret".into()),
        },
        OrderEvent::ActionRequired {
            reference: reference(),
            action: NextAction::Redirect("https://pay.example/1".into()),
        },
        OrderEvent::PaymentDeferred { until: Timestamp(1_700_000_900_000) },
        OrderEvent::PaymentResumed,
        OrderEvent::PaymentAuthorized { reference: reference() },
        OrderEvent::PaymentCaptured,
        OrderEvent::CaptureFailed { reason: "the authorization ran out".into() },
        OrderEvent::AuthorizationVoided,
        OrderEvent::Noticed { event: "evt_1".into(), asks: false },
        OrderEvent::Noticed { event: "evt_2".into(), asks: true },
        OrderEvent::StrayFound { reference: "pi_2".into() },
        OrderEvent::StrayReturned { reference: "pi_2".into() },
        OrderEvent::StrayKept { reference: "pi_3".into(), reason: "too late".into() },
        OrderEvent::Answered(Inquiry::Confirm),
        OrderEvent::Answered(Inquiry::Cancel),
    ]
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
    // Version 2 knew all but what is last.
    let second_version = include_str!("golden/records-2.hex");
    for (text, known) in [(kept.as_str(), samples().len()), (second_version, samples().len() - 2)] {
        let all: Vec<u8> = text.lines().flat_map(bytes_of).collect();
        let read: Vec<(RecordHeader, Entry)> = codec::records(&all)
            .map(|record| record.map(|record| (record.header, record.entry().unwrap())).unwrap())
            .collect();
        assert_eq!(read, samples()[..known]);
    }
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
    let draft = |order| OrderDraft {
        order,
        cart: CartId(8),
        lines: vec![line.clone()],
        totals: totals(Currency::GBP, [(1, price)].into_iter()).unwrap(),
        email: "somebody@example.com".into(),
        provider: "fake".into(),
        method: "ok".into(),
        shipping_address: None,
        pin_ms: 900_000,
    };
    let started = |order| Event::Order(OrderEvent::Started(Box::new(draft(OrderId(order)))));
    shop.record(EntityKey::Order(OrderId(99)), started(99), Some(stamp(99)));
    // Two more, in the middle of their payments, with all that such an order remembers.
    for (order, how) in [(100, &[0, 8][..]), (101, &[8, 4])] {
        shop.record(EntityKey::Order(OrderId(order)), started(order), None);
        shop.record(EntityKey::Order(OrderId(order)), Event::Order(OrderEvent::UnitsReserved), None);
        for event in how.iter().map(|index| payments().swap_remove(*index)) {
            shop.record(EntityKey::Order(OrderId(order)), Event::Order(event), None);
        }
    }
    for event in [OrderEvent::Placed { reference: Some("pi_1".into()) }, payments().swap_remove(10)] {
        shop.record(EntityKey::Order(OrderId(101)), Event::Order(event), None);
    }
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

/// What a golden says after `name`, on a line of its own.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {name}"))
}

fn shipment_as_text(shipment: &Shipment) -> String {
    let Shipment {
        version,
        first_frame,
        last_frame,
        previous_checksum,
        checksum,
        records,
        raw_bytes,
        payload,
        hash,
    } = shipment;
    let (hash, payload) = (hexadecimal(hash), hexadecimal(payload));
    format!(
        "version {version}\nfirst_frame {first_frame}\nlast_frame {last_frame}\nprevious_checksum {previous_checksum}\n\
         checksum {checksum}\nrecords {records}\nraw_bytes {raw_bytes}\nhash {hash}\npayload {payload}\n"
    )
}

fn shipment_of_text(text: &str) -> Shipment {
    let number = |name: &str| field(text, name).parse::<u64>().unwrap();
    Shipment {
        version: u16::try_from(number("version")).unwrap(),
        first_frame: FrameNumber(number("first_frame")),
        last_frame: FrameNumber(number("last_frame")),
        previous_checksum: u32::try_from(number("previous_checksum")).unwrap(),
        checksum: u32::try_from(number("checksum")).unwrap(),
        records: number("records"),
        raw_bytes: number("raw_bytes"),
        hash: bytes_of(field(text, "hash")).try_into().unwrap(),
        payload: bytes_of(field(text, "payload")),
    }
}

/// A base as its file has it: the head, then each page behind its bytes raw, its bytes packed and its hash.
fn base_as_bytes(head: &BaseHead, pages: &[BasePage]) -> Vec<u8> {
    let mut bytes = head.encode(ENGINE);
    for page in pages {
        bytes.extend_from_slice(&page.raw_bytes.to_le_bytes());
        bytes.extend_from_slice(&(page.payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&page.hash);
        bytes.extend_from_slice(&page.payload);
    }
    bytes
}

fn base_of_bytes(bytes: &[u8]) -> (BaseHead, Vec<BasePage>) {
    let head = BaseHead::decode(ENGINE, bytes).unwrap();
    let (mut pages, mut rest) = (Vec::new(), &bytes[BaseHead::encoded_bytes()..]);
    while !rest.is_empty() {
        let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        let end = 32 + usize::try_from(number(8)).unwrap();
        let (hash, payload) = (rest[16..32].try_into().unwrap(), rest[32..end].to_vec());
        pages.push(BasePage { raw_bytes: number(0), payload, hash });
        rest = &rest[end..];
    }
    assert_eq!(pages.len() as u64, head.pages);
    (head, pages)
}

#[test]
fn the_rescue_copy_keeps_its_bytes_and_a_directory_comes_of_them() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = shop_of_every_kind(&root.path().join("lost"));
    fill(&mut shop);
    shop.trade(2);
    let mut imaging = shop.recovered.store.begin_image().unwrap().unwrap();
    let mut raw_pages = Vec::new();
    while !imaging.is_done() {
        let mut page = Vec::new();
        shop.recovered.store.image_page(&mut imaging, 2_000, &mut page).unwrap();
        raw_pages.push(page);
    }
    shop.recovered.store.end_image();
    let mark =
        RoundMark { durable_frame: FrameNumber(shop.recovered.journal.next_frame().0 - 1), ..imaging.mark };
    let pages: Vec<BasePage> =
        (0..).zip(&raw_pages).map(|(number, raw)| BasePage::pack(ENGINE, &mark, number, raw)).collect();
    let head = BaseHead { mark, pages: pages.len() as u64 };
    let mut packer = Packer::new(ENGINE);
    let from = head.mark.replay_from_frame;
    let mut reader = JournalReader::open(shop.directory.paths(), shop.directory.engine(), from).unwrap();
    while let Some(frame) = reader.next_frame().unwrap() {
        // A segment is read from its begin.
        if frame.number >= from {
            packer.add(&frame);
        }
    }
    let shipment = packer.pack().unwrap();
    let (model, sequences) = (shop.model.clone(), shop.sequences());
    let base = base_as_bytes(&head, &pages);
    let rows: String = base.chunks(64).map(|row| hexadecimal(row) + "\n").collect();
    let kept_shipment = shipment_of_text(&golden("shipment.txt", &shipment_as_text(&shipment)));
    let kept_base: Vec<u8> = golden("base.hex", &rows).lines().flat_map(bytes_of).collect();
    let (kept_head, kept_pages) = base_of_bytes(&kept_base);

    // Another release of the library may pack the same bytes otherwise; what is packed must be the same.
    let frames = kept_shipment.unpack(ENGINE).unwrap();
    assert!(frames == shipment.unpack(ENGINE).unwrap(), "SHIPMENT_VERSION: {RULE}");
    let unlike = Shipment { payload: shipment.payload.clone(), hash: shipment.hash, ..kept_shipment.clone() };
    assert_eq!(unlike, shipment, "SHIPMENT_VERSION: {RULE}");
    assert_eq!(kept_head, head, "BASE_VERSION: {RULE}");
    assert!(kept_base.starts_with(&head.encode(ENGINE)), "BASE_VERSION: {RULE}");
    for (number, (kept, raw)) in (0..).zip(kept_pages.iter().zip(&raw_pages)) {
        assert!(
            kept.unpack(ENGINE, &kept_head.mark, number).unwrap() == *raw,
            "BASE_VERSION, page {number}: {RULE}"
        );
    }

    // The kept bytes alone make a directory that starts.
    let new = root.path().join("new");
    let mut restoration = Restoration::begin(Arc::new(MachineDisk), &new, ENGINE).unwrap();
    restoration.begin_from(kept_head).unwrap();
    for page in &kept_pages {
        restoration.put_page(page).unwrap();
    }
    restoration.take(&kept_shipment).unwrap();
    restoration.finish().unwrap();
    assert!(
        fs::read(new.join("journal/base")).unwrap() == kept_base,
        "a base's file is what the golden holds"
    );
    let (_directory, recovered) = start(&new).unwrap();
    assert_is(&recovered, &model, &sequences, RULE);
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
