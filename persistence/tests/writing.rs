//! The writer thread over lying disks: law 3.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::memory_journal::{Faults, MemoryDisk, MemoryJournal};
use doorbuster_persistence::writer::{Batch, Durability, JournalHandle, JournalWriter, WriterOptions};
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

/// Under `replicated` a writer tells through whoever confirms the copy.
fn replicated() -> (Bench, Arc<AtomicU64>) {
    let (journal, disk) = MemoryJournal::new();
    let durable = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let told = durable.clone();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let options = WriterOptions { durability: Durability::Replicated, ..WriterOptions::default() };
    let handle = JournalWriter::spawn(
        Box::new(journal),
        options,
        Box::new(move |worker, number| {
            counted.fetch_add(1, Ordering::SeqCst);
            assert!(told[worker].swap(number, Ordering::SeqCst) < number, "numbers only rise");
        }),
        Box::new(|error| panic!("{error}")),
    )
    .unwrap();
    (Bench { disk, handle, durable, fatal: Arc::default() }, count)
}

/// Submits a batch and waits until it is on the disk; returns its frame.
fn synced(bench: &Bench, batch: Batch) -> FrameNumber {
    let due = bench.handle.durable_frame().next();
    bench.handle.submit(batch).unwrap();
    assert_eq!(bench.handle.wait_for_durable(due, Duration::from_secs(60)), due);
    due
}

#[test]
fn replicated_tells_nothing_before_the_copy_has_it_and_everything_then() {
    let (bench, _) = replicated();
    let told = || bench.durable.each_ref().map(|durable| durable.load(Ordering::SeqCst));
    let first = synced(&bench, batch(0, 1));
    let second = synced(&bench, batch(1, 1));
    let third = synced(&bench, batch(0, 2));
    assert_eq!(told(), [0, 0], "law 3: on this disk is not enough");
    bench.handle.confirm_copied(first);
    assert_eq!(told(), [1, 0]);
    // A batch without records marks a point in time: it waits for the frames before it.
    bench.handle.submit(Batch { worker: 0, number: 3, bytes: Vec::new(), records: 0 }).unwrap();
    let waited = bench.handle.wait_for_durable(third.next(), Duration::from_millis(50));
    assert_eq!((waited, told()), (third, [1, 0]));
    bench.handle.confirm_copied(second);
    assert_eq!(told(), [1, 1]);
    bench.handle.confirm_copied(third);
    assert_eq!(told(), [3, 1]);
    // The copy may have heard of a frame before the writer told: of one it has already, nobody waits.
    bench.handle.confirm_copied(FrameNumber(third.0 + 5));
    synced(&bench, batch(1, 2));
    bench.handle.shutdown().unwrap();
    assert_eq!(told(), [3, 2]);
}

#[test]
fn what_waits_for_a_copy_is_bounded_and_comes_out_whole() {
    const BATCHES: u64 = 70_000;

    let (bench, count) = replicated();
    for number in 1..=BATCHES {
        bench.handle.submit(batch(usize::from(number % 2 == 0), number)).unwrap();
        // Frames of one batch: the queue must not outrun the writer.
        while bench.handle.stats().queue_depth > 0 {
            std::thread::yield_now();
        }
    }
    bench.handle.shutdown().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let last = bench.handle.durable_frame();
    bench.handle.confirm_copied(last);
    assert_eq!(bench.durable.each_ref().map(|d| d.load(Ordering::SeqCst)), [BATCHES - 1, BATCHES]);
    let told = count.load(Ordering::SeqCst);
    assert!(told <= 65_536, "law 11: {told} acknowledgements were kept apart");
}
