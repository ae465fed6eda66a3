//! Parsers of the disk's bytes under damage: whatever a segment, a record or a stored value has become, reading ends
//! with what was written or with a named fault (law 9), and what is taken prints as it was read.

use std::fs;
use std::time::Duration;

use doorbuster_engine::event::Entry;
use doorbuster_mutator::{Fuzz, Mutator, Reached};
use doorbuster_persistence::codec;
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::frame::{FRAME_HEADER_BYTES, FrameNumber};
use doorbuster_persistence::segment::SEGMENT_HEADER_BYTES;

use crate::goldens;
use crate::support::{open, paths, read, write};

const CASE_MAX: Duration = Duration::from_secs(5);

/// The golden records, one piece each.
fn records() -> Vec<Vec<u8>> {
    goldens::samples()
        .iter()
        .map(|(header, entry)| {
            let mut bytes = Vec::new();
            codec::append_record(&mut bytes, header, entry).unwrap();
            bytes
        })
        .collect()
}

/// Reads `body` as records; each that is read must print as it stood.
fn check_records(body: &[u8], reached: &mut Reached) {
    let mut at = 0;
    for record in codec::records(body) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                reached.note(kind(&error.to_string()));
                return;
            }
        };
        let size = 36 + record.body.len();
        match record.entry() {
            Ok(entry) => {
                let mut printed = Vec::new();
                codec::append_record(&mut printed, &record.header, &entry).unwrap();
                // But for its version: an older one that is read is written as the present one.
                printed[4..6].copy_from_slice(&body[at + 4..at + 6]);
                assert_eq!(printed, body[at..at + size], "an accepted record prints as it was read");
                reached.note("accepted");
            }
            Err(error) => reached.note(kind(&error.to_string())),
        }
        at += size;
    }
}

/// The branch that a message comes from.
fn kind(message: &str) -> String {
    for known in [
        "ends within a record",
        "shorter than its header",
        "has version",
        "no engine ever wrote",
        "no partition",
        "are left over",
        "Utf8",
    ] {
        if message.contains(known) {
            return known.to_owned();
        }
    }
    "not decoded".to_owned()
}

#[test]
fn damaged_records_are_refused_or_print_as_they_were_read() {
    let samples = records();
    let fuzz = Fuzz {
        name: "records",
        part: 0.05,
        case_max: CASE_MAX,
        wanted: &[
            "accepted",
            "ends within a record",
            "shorter than its header",
            "has version",
            "no engine ever wrote",
            "no partition",
            "are left over",
            "not decoded",
        ],
    };
    fuzz.run(|mutator, reached| {
        let mut body = mutator.damaged(&samples);
        if mutator.once_in(3) {
            relength(&mut body);
        }
        if mutator.once_in(4) {
            let next = mutator.damaged(&samples);
            body.extend_from_slice(&next);
        }
        check_records(&body, reached);
    });
}

/// Found by the property above. Version 0 was taken for the present one.
#[test]
fn a_record_of_a_version_nobody_wrote_is_refused() {
    let mut bytes = records().remove(3);
    bytes[4..6].copy_from_slice(&0_u16.to_le_bytes());
    let read: Vec<_> = codec::records(&bytes).collect();
    assert!(matches!(read.as_slice(), [Err(error)] if error.to_string().contains("no engine ever wrote")));
}

/// Makes the length in front true again, so that damage behind it is reached.
fn relength(body: &mut [u8]) {
    if let Some(length) = body.len().checked_sub(4).and_then(|length| u32::try_from(length).ok()) {
        body[..4].copy_from_slice(&length.to_le_bytes());
    }
}

#[test]
fn damaged_stored_values_are_refused_or_print_as_they_were_read() {
    let samples: Vec<Vec<u8>> =
        goldens::samples().iter().map(|(_, entry)| codec::encode_stored(entry).unwrap()).collect();
    let fuzz = Fuzz {
        name: "stored values",
        part: 0.05,
        case_max: CASE_MAX,
        wanted: &["accepted", "shorter than its version", "has version", "are left over"],
    };
    fuzz.run(|mutator, reached| {
        let bytes = mutator.damaged(&samples);
        match codec::decode_stored::<Entry>(&bytes) {
            Ok(entry) => {
                assert_eq!(codec::encode_stored(&entry).unwrap(), bytes);
                reached.note("accepted");
            }
            Err(error) => {
                let message = error.to_string();
                let known = ["shorter than its version", "has version", "are left over"];
                reached.note(*known.iter().find(|known| message.contains(**known)).unwrap_or(&"not decoded"));
            }
        }
    });
}

/// Damage that a careless copy or a lying disk would do to whole frames: one left out, doubled, swapped, or of a true
/// checksum but another content.
fn rearranged(mutator: &mut Mutator, frames: &mut Vec<Vec<u8>>) {
    let (first, second) = (mutator.below(frames.len()), mutator.below(frames.len()));
    match mutator.below(5) {
        0 => drop(frames.remove(first)),
        1 => frames.insert(second, frames[first].clone()),
        2 => frames.swap(first, second),
        3 => {
            // An earlier rearrangement may have cut it short.
            let at = mutator.below(32.min(frames[first].len()).max(1));
            if let Some(byte) = frames[first].get_mut(at) {
                *byte ^= 1 << mutator.below(8);
            }
            reseal(&mut frames[first]);
        }
        _ => {
            let other = frames[second].clone();
            mutator.damage(&mut frames[first], &other);
        }
    }
}

/// Gives a frame the checksum of what it has become.
fn reseal(frame: &mut [u8]) {
    let Some((header, body)) = frame.split_at_mut_checked(FRAME_HEADER_BYTES) else { return };
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..32]), body);
    header[32..].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_damaged_segment_gives_a_sound_beginning_or_names_the_damage() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let bodies: Vec<Vec<u8>> = records();
    let texts: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    write(&mut open(&paths), &texts);
    let file = paths.journal().join("00000000000000000001.segment");
    let sound = fs::read(&file).unwrap();
    let (head, mut rest) = sound.split_at(SEGMENT_HEADER_BYTES);
    // A header that does not say how long the file is lets a short one through to the frames.
    let mut silent_head = head.to_vec();
    silent_head[48..56].fill(0);
    let checksum = crc32c::crc32c(&silent_head[..60]);
    silent_head[60..].copy_from_slice(&checksum.to_le_bytes());
    let mut frames = Vec::new();
    for body in &bodies {
        let (frame, after) = rest.split_at(FRAME_HEADER_BYTES + body.len());
        frames.push(frame.to_vec());
        rest = after;
    }
    let fuzz = Fuzz {
        name: "segments",
        part: 0.1,
        case_max: CASE_MAX,
        wanted: &[
            "whole",
            "cut: the file ends within a frame header",
            "cut: the file ends within a frame",
            "cut: no frame begins here",
            "cut: a frame checksum does not match",
            "stands where frame",
            "does not continue the frame before it",
            "sound frames follow",
            "bytes it was made with",
        ],
    };
    fuzz.run(|mutator, reached| {
        let mut frames = frames.clone();
        for _ in 0..mutator.below(3) {
            rearranged(mutator, &mut frames);
        }
        let mut bytes = if mutator.once_in(4) { head } else { silent_head.as_slice() }.to_vec();
        for frame in &frames {
            bytes.extend_from_slice(frame);
        }
        match mutator.below(4) {
            0 => {
                // Cut anywhere; what follows is gone or zero.
                bytes.truncate(head.len() + mutator.below(bytes.len() + 1 - head.len()));
                if mutator.once_in(2) {
                    bytes.resize(sound.len().max(bytes.len()), 0);
                }
            }
            1 => {
                let at = mutator.below(bytes.len());
                bytes[at] ^= 1 << mutator.below(8);
            }
            2 => bytes.resize(sound.len().max(bytes.len()), 0),
            _ => {}
        }
        fs::write(&file, &bytes).unwrap();
        match read(&paths, FrameNumber::FIRST) {
            Ok((taken, tail)) => {
                // A frame with a true checksum and chain is sound by any measure; only its header was resealed here.
                let expected = bodies.iter().map(Vec::as_slice);
                assert!(
                    taken.iter().map(Vec::as_slice).eq(expected.take(taken.len())),
                    "a beginning, in order"
                );
                match tail.cut {
                    None => reached.note(if taken.len() == bodies.len() { "whole" } else { "ends early" }),
                    Some(cut) => reached.note(format!("cut: {}", cut.what)),
                }
            }
            Err(error) => check_named(&error, reached),
        }
    });
}

/// A refusal names the file; its kind is counted.
fn check_named(error: &JournalError, reached: &mut Reached) {
    let message = error.to_string();
    assert!(message.contains(".segment"), "{message}");
    let known = [
        "stands where frame",
        "does not continue the frame before it",
        "sound frames follow",
        "bytes it was made with",
    ];
    for known in known {
        if message.contains(known) {
            reached.note(known);
            return;
        }
    }
    reached.note("segment header");
}
