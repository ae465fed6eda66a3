//! How fast a journal folds. Run by hand: `cargo test --release -p doorbuster-persistence -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{Fingerprint, RequestKey, RequestStamp, ReservationId};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};
use doorbuster_persistence::checkpoint::{CheckpointStore, EntityRow, Residence, RoundMark};
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::disk::MachineDisk;
use doorbuster_persistence::file_journal::JournalOptions;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::recovery::recover;
use doorbuster_persistence::verify::verify;
use doorbuster_persistence::writer::{Batch, JournalWriter, WriterOptions};

use crate::shop::sku;

const SKUS: u64 = 10_000;
const RECORDS: u64 = 2_000_000;

#[test]
#[ignore = "a measurement, not a promise"]
fn speed_of_writing_recovery_and_verification() {
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path()).unwrap();
    let recovered = recover(&directory, JournalOptions::default(), &mut |_| {}).unwrap();
    let durable = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&durable);
    let handle = JournalWriter::spawn(
        Box::new(recovered.journal),
        WriterOptions::default(),
        Box::new(move |_, number| told.store(number, Ordering::Release)),
        Box::new(|error| panic!("{error}")),
    )
    .unwrap();
    let mut sequences = [0_u64; 256];
    let began = Instant::now();
    let mut batch = Batch { number: 1, ..Batch::default() };
    for n in 0..RECORDS {
        let reservation = ReservationId(u128::from(n / (2 * SKUS) * SKUS + n % SKUS));
        let event = match n / SKUS {
            0 => StockEvent::Defined {
                definition: Definition {
                    name: "thing".into(),
                    price: Money::new(100, Currency::GBP),
                    oversell: Oversell::Deny,
                    reservation_ttl_ms: None,
                    low_stock_at: None,
                },
                opening: 1_000_000,
            },
            1 => StockEvent::Adjusted { delta: 1, reason: "x".into(), reference: None, location: None },
            turn if turn % 2 == 0 => StockEvent::Reserved {
                reservation,
                quantity: 1,
                ttl_ms: 600_000,
                fingerprint: Fingerprint(n),
                customer: None,
                location: None,
            },
            _ => StockEvent::Committed { reservation },
        };
        let request =
            Some(RequestStamp { key: RequestKey(u128::from(n) << 64), fingerprint: Fingerprint(n) });
        let entry = Entry { entity: EntityKey::Sku(sku(n % SKUS)), request, event: Event::Stock(event) };
        let partition = entry.entity.partition();
        let sequence = &mut sequences[usize::from(partition)];
        *sequence += 1;
        let header = RecordHeader {
            partition,
            epoch: 1,
            sequence: *sequence,
            position: n + 1,
            at_ms: 1_000_000 + n / 50,
        };
        if batch.records == 0 {
            batch.bytes = handle.buffer();
        }
        while handle.claim(512).is_err() {
            std::thread::yield_now();
        }
        let bytes = codec::append_record(&mut batch.bytes, &header, &entry).unwrap();
        handle.release(512 - bytes);
        batch.records += 1;
        if batch.records == 256 {
            let number = batch.number + 1;
            handle.submit(std::mem::replace(&mut batch, Batch { number, ..Batch::default() })).unwrap();
        }
    }
    let last = batch.number;
    handle.submit(batch).unwrap();
    handle.shutdown().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(durable.load(Ordering::Acquire), last);
    let stats = handle.stats();
    println!("wrote {:.2} M records/s, {} frames, {} bytes", rate(seconds), stats.frames, stats.bytes);
    drop((handle, recovered.store, directory));

    let directory = DataDirectory::open(root.path()).unwrap();
    let recovered = recover(&directory, JournalOptions::default(), &mut |_| {}).unwrap();
    println!("recovered {:.2} M records/s", rate(recovered.report.seconds));
    assert_eq!(recovered.report.records_replayed, RECORDS);
    drop((recovered, directory));
    let report = verify(root.path(), &mut |_| {}).unwrap();
    println!("verified {:.2} M records/s", rate(report.seconds));
    assert!(report.is_sound());
}

#[allow(clippy::cast_precision_loss)] // a figure for people
fn rate(seconds: f64) -> f64 {
    RECORDS as f64 / seconds / 1e6
}

#[test]
#[ignore = "a measurement, not a promise"]
fn speed_of_a_million_rows() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint");
    let row = |n: u64, round: u64| EntityRow {
        entity: EntityKey::Sku(sku(n)),
        sequence: n + round,
        residence: Residence::Resident,
        blob: vec![7; 220],
    };
    for round in 1..=2_u64 {
        let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
        let began = Instant::now();
        store.put((0..1_000_000).map(|n| row(n, round))).unwrap();
        let put = began.elapsed().as_secs_f64();
        let mark = RoundMark {
            replay_from_frame: FrameNumber(1),
            durable_frame: FrameNumber(0),
            sequences: [0; 256],
            position_max: 0,
            at_ms: 0,
        };
        store.finish_round(&mark).unwrap();
        let finished = began.elapsed().as_secs_f64();
        let began = Instant::now();
        for n in 0..10_000 {
            store.put([row(n * 97, round)]).unwrap();
        }
        let single = began.elapsed().as_secs_f64();
        drop(store);
        let began = Instant::now();
        let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
        let opened = began.elapsed().as_secs_f64();
        let mut count = 0;
        store.for_each(|_| count += 1).unwrap();
        let read = began.elapsed().as_secs_f64() - opened;
        let bytes = store.bytes_on_disk().unwrap();
        let memory = std::fs::read_to_string("/proc/self/status").unwrap();
        let memory = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
        println!(
            "{count} rows: put {put:.1} s, with mark {finished:.1} s, 10,000 alone {single:.2} s, open {opened:.2} s, \
             read {read:.2} s, {bytes} bytes, {memory}"
        );
    }
}
