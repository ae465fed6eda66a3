//! The writer thread over lying disks: law 3.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::memory_journal::{Faults, MemoryDisk, MemoryJournal};
use doorbuster_persistence::writer::{Batch, JournalHandle, JournalWriter, WriterOptions};
use parking_lot::Mutex;

struct Bench {
    disk: MemoryDisk,
    handle: JournalHandle,
    durable: [Arc<AtomicU64>; 2],
    fatal: Arc<Mutex<Vec<JournalError>>>,
}

fn bench(faults: Faults) -> Bench {
    let (journal, disk) = MemoryJournal::new();
    disk.set_faults(faults);
    let durable = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let fatal = Arc::new(Mutex::new(Vec::new()));
    let (told, failures) = (durable.clone(), Arc::clone(&fatal));
    let handle = JournalWriter::spawn(
        Box::new(journal),
        WriterOptions::default(),
        Box::new(move |worker, number| {
            assert!(told[worker].swap(number, Ordering::SeqCst) < number, "numbers only rise");
        }),
        Box::new(move |error| failures.lock().push(error)),
    )
    .unwrap();
    Bench { disk, handle, durable, fatal }
}

fn batch(worker: usize, number: u64) -> Batch {
    let bytes = format!("{worker}/{number};").into_bytes();
    Batch { worker, number, bytes, records: 1 }
}

#[test]
fn every_batch_told_durable_survives_a_power_cut_in_order() {
    let bench = bench(Faults::default());
    for number in 1..=500 {
        bench.handle.submit(batch(0, number)).unwrap();
        bench.handle.submit(batch(1, number)).unwrap();
    }
    bench.handle.shutdown().unwrap();
    assert_eq!(bench.durable.each_ref().map(|d| d.load(Ordering::SeqCst)), [500, 500]);
    bench.disk.cut_power(3);
    let (frames, _) = bench.disk.frames().unwrap();
    let text: Vec<u8> = frames.iter().flat_map(|frame| frame.body.clone()).collect();
    let text = String::from_utf8(text).unwrap();
    for worker in 0..2 {
        let expected: Vec<String> = (1..=500).map(|n| format!("{worker}/{n}")).collect();
        let found: Vec<&str> =
            text.split_terminator(';').filter(|t| t.starts_with(&format!("{worker}/"))).collect();
        assert_eq!(found, expected);
    }
    let stats = bench.handle.stats();
    assert_eq!((stats.records, stats.frames), (1_000, frames.len() as u64));
    assert_eq!(bench.handle.durable_frame().0, stats.frames);
    assert!(bench.disk.syncs() <= 1_000);
    assert!(bench.handle.submit(batch(0, 501)).is_err(), "nothing is taken after the end");
}

#[test]
fn a_failed_sync_or_write_is_fatal_told_once_and_never_tried_again() {
    for (name, faults) in [
        ("sync", Faults { fail_sync: Some(1), ..Faults::default() }),
        ("write", Faults { fail_append: Some(1), ..Faults::default() }),
    ] {
        let bench = bench(faults);
        bench.handle.submit(batch(0, 1)).unwrap();
        let mut number = 2;
        while bench.handle.submit(batch(0, number)).is_ok() {
            number += 1;
        }
        let outcome = bench.handle.shutdown();
        assert!(matches!(outcome, Err(JournalError::Stopped { .. })), "{name}: {outcome:?}");
        assert_eq!(bench.fatal.lock().len(), 1, "{name}");
        assert_eq!(bench.durable[0].load(Ordering::SeqCst), 0, "{name}");
        assert_eq!(bench.disk.appends(), 1, "{name}");
        assert!(bench.disk.syncs() <= 1, "{name}");
        bench.disk.cut_power(10);
        assert!(bench.disk.frames().unwrap().0.is_empty(), "{name}");
    }
}

#[test]
fn a_disk_that_loses_syncs_loses_frames_so_the_harness_bites() {
    let bench = bench(Faults { lose_syncs: true, ..Faults::default() });
    bench.handle.submit(batch(0, 1)).unwrap();
    bench.handle.shutdown().unwrap();
    assert_eq!(bench.durable[0].load(Ordering::SeqCst), 1);
    bench.disk.cut_power(0);
    assert!(bench.disk.frames().unwrap().0.is_empty());
}

#[test]
fn a_full_disk_refuses_claims_writes_what_was_claimed_and_resumes() {
    let bench = bench(Faults::default());
    let claim = bench.handle.claim(4).unwrap();
    bench.disk.fill();
    let refused = bench.handle.claim(1).unwrap_err();
    assert_eq!(refused.retry_after_ms, 1_000);
    bench.handle.submit(Batch { worker: 0, number: 1, bytes: vec![0; claim.bytes], records: 1 }).unwrap();
    bench.disk.make_room();
    assert!(bench.handle.claim(1_000).is_ok());
    bench.handle.release(1_000);
    bench.handle.shutdown().unwrap();
    assert_eq!(bench.durable[0].load(Ordering::SeqCst), 1);
}

#[test]
fn an_empty_batch_is_told_durable_in_its_turn_and_writes_nothing() {
    let bench = bench(Faults::default());
    bench.handle.submit(Batch { worker: 1, number: 9, ..Batch::default() }).unwrap();
    bench.handle.shutdown().unwrap();
    assert_eq!(bench.durable[1].load(Ordering::SeqCst), 9);
    assert_eq!(bench.disk.appends(), 0);
}
