//! The file journal: law 9, byte by byte.

use std::fs;
use std::os::unix::fs::FileExt;

use doorbuster_persistence::archive::archive_segments;
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions, Preparation};
use doorbuster_persistence::frame::{FRAME_HEADER_BYTES, Frame, FrameNumber};
use doorbuster_persistence::journal::Journal;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::segment::{SEGMENT_HEADER_BYTES, segment_name};

use crate::support::{ENGINE, SMALL, last_segment, open, paths, read, write};

#[test]
fn frames_read_back_over_many_segments_and_restarts() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let bodies: Vec<Vec<u8>> = (0..200_u16).map(|n| vec![n.to_le_bytes()[0]; usize::from(n) * 4]).collect();
    for part in bodies.chunks(30) {
        let mut journal = open(&paths);
        for body in part {
            journal
                .append(Frame { records: 1, parts: &[&body[..body.len() / 2], &body[body.len() / 2..]] })
                .unwrap();
        }
        journal.sync().unwrap();
    }
    let (found, tail) = read(&paths, FrameNumber::FIRST).unwrap();
    assert!(found == bodies);
    assert_eq!(tail.next_frame, FrameNumber(201));
    assert!(tail.last.unwrap().0.header.number > 10);
    let (found, _) = read(&paths, FrameNumber(150)).unwrap();
    assert!(found == bodies[149..]);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_journal_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let model = paths(&root.path().join("model"));
    let bodies: [&[u8]; 3] = [b"first frame", b"second", b"the last frame, which tears"];
    write(&mut open(&model), &bodies);
    let name = segment_name(1);
    let whole = fs::read(model.journal().join(&name)).unwrap();
    let begin = SEGMENT_HEADER_BYTES + 2 * FRAME_HEADER_BYTES + bodies[0].len() + bodies[1].len();
    let end = begin + FRAME_HEADER_BYTES + bodies[2].len();
    // A file of full length whose rest never reached the disk.
    for torn_at in begin..end {
        let paths = paths(&root.path().join(format!("torn-{torn_at}")));
        let mut bytes = whole.clone();
        bytes[torn_at..end].fill(0);
        // The byte before may be zero itself: then the file is as if torn earlier.
        fs::write(paths.journal().join(&name), &bytes).unwrap();
        let (mut journal, cut) = FileJournal::open(&paths, ENGINE, SMALL).unwrap();
        assert_eq!(cut.is_some(), bytes[begin..].iter().any(|b| *b != 0), "torn at {torn_at}");
        if let Some(cut) = cut {
            assert_eq!((cut.offset, cut.frame), (begin as u64, FrameNumber(3)), "torn at {torn_at}");
        }
        assert_eq!(journal.next_frame(), FrameNumber(3));
        write(&mut journal, &[b"instead"]);
        drop(journal);
        let (found, tail) = read(&paths, FrameNumber::FIRST).unwrap();
        assert_eq!(found, [bodies[0], bodies[1], b"instead"], "torn at {torn_at}");
        assert_eq!(tail.cut, None);
    }
}

#[test]
fn a_flipped_byte_cuts_only_the_last_frame_and_refuses_anywhere_else() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let mut journal = open(&paths);
    // Two segments, three frames each.
    let long = [1_u8; 1_000];
    write(&mut journal, &[&long[..], &long, &long, &long, b"one more", b"last"]);
    drop(journal);
    let mut cuts = 0;
    for segment in [1_u64, 2] {
        let path = paths.journal().join(segment_name(segment));
        let whole = fs::read(&path).unwrap();
        // In place: rewriting the file each time costs a flush a byte on some file systems.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let last_begin = SEGMENT_HEADER_BYTES + 2 * FRAME_HEADER_BYTES + 1_008;
        let last_end = last_begin + FRAME_HEADER_BYTES + 4;
        for at in 0..whole.len() {
            file.write_all_at(&[whole[at] ^ 0x40], at as u64).unwrap();
            let seen = read(&paths, FrameNumber::FIRST);
            file.write_all_at(&whole[at..=at], at as u64).unwrap();
            match seen {
                Ok((found, tail)) => {
                    let cut = tail.cut.unwrap_or_else(|| panic!("segment {segment} byte {at} passed unseen"));
                    assert_eq!(segment, 2, "byte {at}");
                    if at < last_end {
                        assert!(at >= last_begin, "byte {at} was cut");
                        assert_eq!((found.len(), cut.offset), (5, last_begin as u64));
                        cuts += 1;
                    } else {
                        // Nothing was ever written there: all frames stay.
                        assert_eq!((found.len(), cut.offset), (6, last_end as u64));
                    }
                }
                Err(JournalError::Damaged { file, offset, .. }) => {
                    assert!(segment == 1 || at < last_begin, "byte {at} refused");
                    assert!(file.ends_with(segment_name(1)) || file.ends_with(segment_name(2)));
                    assert!(offset <= whole.len() as u64);
                }
                Err(JournalError::NewerVersion { .. }) => assert!((8..12).contains(&at)),
                Err(JournalError::ForeignSegment { .. }) => panic!("byte {at}: the checksum comes first"),
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
    assert_eq!(cuts, FRAME_HEADER_BYTES + 4, "every byte of the last frame");
}

#[test]
fn stale_frames_of_another_segment_never_pass() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let mut journal = open(&paths);
    let long = [3_u8; 1_000];
    write(&mut journal, &[&long[..], &long, &long, &long, b"fifth"]);
    drop(journal);
    // Frame 1 as it would stand in a reused file: sound in itself, at the place where frame 6 is due.
    let second = paths.journal().join(segment_name(2));
    let first = fs::read(paths.journal().join(segment_name(1))).unwrap();
    let mut bytes = fs::read(&second).unwrap();
    let end = SEGMENT_HEADER_BYTES + 2 * FRAME_HEADER_BYTES + 1_005;
    let stale = &first[SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES + 1_000];
    bytes[end..end + stale.len()].copy_from_slice(stale);
    fs::write(&second, &bytes).unwrap();
    let (found, tail) = read(&paths, FrameNumber::FIRST).unwrap();
    assert_eq!(found.len(), 5);
    assert_eq!(tail.cut.unwrap().what, "a frame of another segment begins here");
}

#[test]
fn what_is_missing_foreign_or_newer_refuses_and_names_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let long = [5_u8; 900];
    write(&mut open(&paths), &[&long[..]; 12]);
    let path = |number| paths.journal().join(segment_name(number));

    let kept = fs::read(path(2)).unwrap();
    fs::remove_file(path(2)).unwrap();
    let error = read(&paths, FrameNumber::FIRST).unwrap_err();
    assert!(matches!(error, JournalError::MissingSegment { segment: 2, .. }), "{error}");

    let mut newer = kept.clone();
    newer[8] = 3;
    fs::write(path(2), newer).unwrap();
    let error = read(&paths, FrameNumber::FIRST).unwrap_err();
    assert!(matches!(error, JournalError::NewerVersion { found: 3, known: 2, .. }), "{error}");
    assert!(error.to_string().contains("start it with a newer engine"));
    assert!(FileJournal::open(&paths, ENGINE, SMALL).is_err());

    fs::write(path(2), &kept).unwrap();
    assert_eq!(read(&paths, FrameNumber::FIRST).unwrap().0.len(), 12);
    let other = doorbuster_persistence::directory::EngineId([8; 16]);
    let error = FileJournal::open(&paths, other, SMALL).unwrap_err();
    assert!(matches!(error, JournalError::ForeignSegment { .. }), "{error}");
}

#[test]
fn segments_behind_the_checkpoint_move_to_the_archive_and_stay_readable() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let long = [5_u8; 900];
    let mut journal = open(&paths);
    write(&mut journal, &[&long[..]; 12]);
    assert!(archive_segments(&paths, ENGINE, FrameNumber::FIRST).unwrap().is_empty());
    let moved = archive_segments(&paths, ENGINE, FrameNumber(9)).unwrap();
    assert!(!moved.is_empty());
    assert!(moved.iter().all(|segment| segment.path.exists() && segment.archived));
    write(&mut journal, &[b"goes on"]);
    drop(journal);
    let (found, tail) = read(&paths, FrameNumber::FIRST).unwrap();
    assert_eq!((found.len(), tail.next_frame), (13, FrameNumber(14)));
    // Even with every segment archived by hand the numbers go on.
    for segment in fs::read_dir(paths.journal()).unwrap().map(|entry| entry.unwrap().path()) {
        if segment.extension().is_some_and(|extension| extension == "segment") {
            fs::rename(&segment, paths.archive().join(segment.file_name().unwrap())).unwrap();
        }
    }
    let mut journal = open(&paths);
    write(&mut journal, &[b"and on"]);
    drop(journal);
    assert_eq!(read(&paths, FrameNumber::FIRST).unwrap().0.len(), 14);
}

#[test]
fn a_reader_beside_a_writer_sees_the_durable_frames_wherever_they_lie() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let mut journal = open(&paths);
    write(&mut journal, &[&[5; 900][..]; 10]);
    let durable = FrameNumber(journal.next_frame().0 - 1);
    let mut reader = JournalReader::open(&paths, ENGINE, FrameNumber(2)).unwrap().until(durable);
    // Meanwhile segments are archived, and the next frame is half written, its end before its beginning.
    archive_segments(&paths, ENGINE, FrameNumber(8)).unwrap();
    write(&mut journal, &[&[6; 900]]);
    let (last, _) = last_segment(root.path());
    let mut bytes = fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[end - 930..end - 500].fill(0xee);
    fs::write(&last, bytes).unwrap();
    let mut count = 0;
    while let Some(frame) = reader.next_frame().unwrap() {
        assert_eq!(frame.body, [5; 900]);
        count += 1;
    }
    assert_eq!(count, 9);
}

#[test]
fn what_was_claimed_can_be_written_and_no_more_is_claimable_than_prepared() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let mut journal = open(&paths);
    let space = journal.space();
    let mut claimed = 0;
    for round in 0..50 {
        while space.claim(64).is_ok() {
            claimed += 64;
        }
        assert!(claimed <= 2 * SMALL.segment_bytes, "round {round}: {claimed}");
        // The worst case: every record in a frame of its own.
        while claimed >= 64 {
            journal.append(Frame { records: 1, parts: &[&[9; 64]] }).unwrap();
            claimed -= 64;
        }
    }
}

/// Needs a small file system of its own: `mount -t tmpfs -o size=8m tmpfs DIR`, then `DOORBUSTER_SMALL_DISK=DIR`.
#[test]
#[ignore = "needs a small file system"]
fn a_full_disk_refuses_claims_keeps_writing_what_was_claimed_and_resumes_by_itself() {
    let disk =
        std::env::var("DOORBUSTER_SMALL_DISK").expect("DOORBUSTER_SMALL_DISK names a small file system");
    let root = std::path::PathBuf::from(disk).join("data");
    let paths = paths(&root);
    let options = JournalOptions { segment_bytes: 1 << 20, preparation: Preparation::Thread };
    let (mut journal, _) = FileJournal::open(&paths, ENGINE, options).unwrap();
    let space = journal.space();
    let body = [7_u8; 1_000];
    let mut written = 0_u64;
    let wait = |until: &dyn Fn() -> bool| {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            until()
        })
    };
    loop {
        if space.claim(body.len()).is_err() && !wait(&|| space.claim(body.len()).is_ok()) {
            break;
        }
        write(&mut journal, &[&body]);
        written += 1;
    }
    assert!(written > 4_000, "{written}");
    assert!(space.trouble().is_some_and(|trouble| trouble.contains("space")));
    for segment in archive_segments(&paths, ENGINE, journal.next_frame()).unwrap() {
        fs::remove_file(segment.path).unwrap();
    }
    assert!(wait(&|| space.claim(body.len()).is_ok()), "room came back and claims did not");
    write(&mut journal, &[&body]);
    assert_eq!(space.trouble(), None);
    drop(journal);
    let (mut journal, cut) = FileJournal::open(&paths, ENGINE, options).unwrap();
    assert_eq!((cut, journal.next_frame().0), (None, written + 2));
    write(&mut journal, &[&body]);
}
