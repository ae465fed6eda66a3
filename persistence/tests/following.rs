//! Following a journal that is being written: law 10 begins with every durable frame, once, in order.

use std::path::Path;

use doorbuster_persistence::archive::archive_segments;
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::file_journal::FileJournal;
use doorbuster_persistence::frame::{Frame, FrameNumber};
use doorbuster_persistence::journal::Journal as _;
use doorbuster_persistence::segment::segment_name;
use doorbuster_persistence::tail::JournalTail;
use doorbuster_persistence::writer::{Batch, JournalHandle, JournalWriter, WriterOptions};

use crate::support::{ENGINE, last_segment, open, paths, write};

fn tail(root: &Path, from: u64) -> JournalTail {
    JournalTail::of_resting(paths(root), ENGINE, FrameNumber(from))
}

/// All that the tail has to give through frame `through`.
fn given(tail: &mut JournalTail, through: u64) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
    let mut given = Vec::new();
    while let Some(frame) = tail.next_frame_through(FrameNumber(through))? {
        given.push((frame.number.0, frame.body.to_vec()));
    }
    Ok(given)
}

fn body(number: u64) -> Vec<u8> {
    format!("{number}").repeat(usize::try_from(number % 97).unwrap() + 1).into_bytes()
}

fn expected(from: u64, through: u64) -> Vec<(u64, Vec<u8>)> {
    (from..=through).map(|number| (number, body(number))).collect()
}

/// Appends frames `from` to `through`, synced.
fn append(journal: &mut FileJournal, from: u64, through: u64) {
    for number in from..=through {
        journal.append(Frame { records: 1, parts: &[&body(number)] }).unwrap();
    }
    journal.sync().unwrap();
}

#[test]
fn frames_come_in_order_from_anywhere_whether_live_or_archived() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&paths(root.path()));
    append(&mut journal, 1, 400);
    let (_, segments) = last_segment(root.path());
    assert!(segments > 8, "{segments} segments are no walk");
    let mut early = tail(root.path(), 1);
    assert_eq!(given(&mut early, 3).unwrap(), expected(1, 3));
    // The tail's own segment moves away under it, and most of the others.
    assert!(archive_segments(&paths(root.path()), ENGINE, FrameNumber(300)).unwrap().len() > 4);
    assert_eq!(given(&mut early, 400).unwrap(), expected(4, 400));
    for from in [2, 137, 299, 399, 400] {
        assert_eq!(given(&mut tail(root.path(), from), 400).unwrap(), expected(from, 400), "from {from}");
    }
    early.seek(FrameNumber(250));
    assert_eq!(given(&mut early, 260).unwrap(), expected(250, 260));
    assert_eq!(early.due(), FrameNumber(261));
}

#[test]
fn a_tail_beside_the_writer_misses_nothing_and_sees_nothing_before_it_is_durable() {
    let root = tempfile::tempdir().unwrap();
    let journal = open(&paths(root.path()));
    let handle = JournalWriter::spawn(
        Box::new(journal),
        WriterOptions::default(),
        Box::new(|_, _| {}),
        Box::new(|error| panic!("{error}")),
    )
    .unwrap();
    let writer = {
        let handle: JournalHandle = handle.clone();
        std::thread::spawn(move || {
            for number in 1..=3_000 {
                let bytes = format!("{number};").into_bytes();
                handle.submit(Batch { worker: 0, number, bytes, records: 1 }).unwrap();
            }
        })
    };
    let mut tail = JournalTail::open(paths(root.path()), ENGINE, FrameNumber::FIRST, handle.clone());
    let (mut text, mut frames) = (String::new(), 0);
    while !text.ends_with(";3000;") {
        let Some(frame) = tail.next_frame().unwrap() else {
            std::thread::yield_now();
            continue;
        };
        frames += 1;
        assert_eq!(frame.number, FrameNumber(frames));
        text.push_str(std::str::from_utf8(frame.body).unwrap());
        assert!(tail.due() <= tail.durable_frame().next());
    }
    writer.join().unwrap();
    let numbers: Vec<u64> = text.split_terminator(';').map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=3_000).collect::<Vec<_>>());
    assert!(tail.next_frame().unwrap().is_none());
    handle.shutdown().unwrap();
}

#[test]
fn what_lies_behind_the_durable_frame_is_read_anew_when_it_is_durable() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&paths(root.path()));
    append(&mut journal, 1, 2);
    let mut tail = tail(root.path(), 1);
    assert_eq!(given(&mut tail, 1).unwrap(), expected(1, 1));
    // Frame 2 is in the buffer already, and so are the zeros where the third will be.
    append(&mut journal, 3, 5);
    assert_eq!(given(&mut tail, 5).unwrap(), expected(2, 5));
}

#[test]
fn damage_and_missing_frames_are_told_and_cost_nothing_before_them() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&paths(root.path()));
    write(&mut journal, &[b"alpha", b"beta", b"gamma"]);
    drop(journal);
    let (file, _) = last_segment(root.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.windows(5).position(|window| window == b"gamma").unwrap();
    bytes[place] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let mut damaged = tail(root.path(), 1);
    assert_eq!(given(&mut damaged, 2).unwrap().len(), 2);
    let told = given(&mut damaged, 3).unwrap_err();
    assert!(matches!(&told, JournalError::Damaged { .. }), "{told}");
    bytes[place] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(
        given(&mut damaged, 3).unwrap(),
        [(3, b"gamma".to_vec())],
        "the same call works once it is mended"
    );

    let root = tempfile::tempdir().unwrap();
    let mut journal = open(&paths(root.path()));
    append(&mut journal, 1, 200);
    drop(journal);
    std::fs::remove_file(root.path().join("journal").join(segment_name(1))).unwrap();
    let told = given(&mut tail(root.path(), 1), 200).unwrap_err();
    assert!(matches!(told, JournalError::MissingSegment { segment: 1, .. }), "{told}");
    assert_eq!(given(&mut tail(root.path(), 180), 200).unwrap(), expected(180, 200));
}

#[test]
fn an_empty_journal_gives_nothing() {
    let root = tempfile::tempdir().unwrap();
    drop(open(&paths(root.path())));
    assert!(given(&mut tail(root.path(), 1), 0).unwrap().is_empty());
}
