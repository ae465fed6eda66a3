//! One frame a batch: how the bytes of a journal segment are divided.
//!
//! Law 9 rests on it. A frame carries its number (gapless), the checksum of the frame before it (a chain), the number
//! of its segment (stale bytes of a reused file never pass) and a CRC32C over all of it.
//!
//! ```text
//! offset  0  magic "DBFR"       4
//!         4  body length        4   little endian, as all numbers here
//!         8  records in body    4
//!        12  segment number     8
//!        20  frame number       8
//!        28  checksum of the frame before  4
//!        32  CRC32C of bytes 0..32 and body 4
//!        36  body
//! ```

use std::fmt;

use doorbuster_engine::mutant::{self, Mutant};
use serde::{Deserialize, Serialize};

/// Bytes before a frame's body.
pub const FRAME_HEADER_BYTES: usize = 36;

/// Largest body. A flipped bit in a length must not become a huge allocation or a long search.
pub const FRAME_BODY_BYTES_MAX: usize = 16 << 20;

pub(crate) const FRAME_MAGIC: [u8; 4] = *b"DBFR";

/// A frame's place in the journal: 1, 2, 3, … without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FrameNumber(pub u64);

impl FrameNumber {
    /// The first frame of every journal.
    pub const FIRST: Self = Self(1);

    /// The frame after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for FrameNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A batch about to be written: encoded records, possibly in several pieces (one a worker).
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// How many records the parts hold.
    pub records: u32,
    /// Their bytes, in order. Together at most the journal's `frame_bytes_max`.
    pub parts: &'a [&'a [u8]],
}

impl Frame<'_> {
    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

/// The fixed part of a frame, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Records in the body.
    pub records: u32,
    /// Segment it was written into.
    pub segment: u64,
    /// Its number.
    pub number: FrameNumber,
    /// Checksum of the frame before it.
    pub previous_checksum: u32,
    /// Its own checksum.
    pub checksum: u32,
}

/// Makes the header bytes of a frame, checksum included; returns them and the checksum.
pub(crate) fn encode_header(
    frame: Frame<'_>,
    segment: u64,
    number: FrameNumber,
    previous_checksum: u32,
) -> ([u8; FRAME_HEADER_BYTES], u32) {
    let body_bytes = u32::try_from(frame.body_bytes()).unwrap_or(u32::MAX);
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&FRAME_MAGIC);
    header[4..8].copy_from_slice(&body_bytes.to_le_bytes());
    header[8..12].copy_from_slice(&frame.records.to_le_bytes());
    header[12..20].copy_from_slice(&segment.to_le_bytes());
    header[20..28].copy_from_slice(&number.0.to_le_bytes());
    header[28..32].copy_from_slice(&previous_checksum.to_le_bytes());
    let mut checksum = crc32c::crc32c(&header[..32]);
    for part in frame.parts {
        checksum = crc32c::crc32c_append(checksum, part);
    }
    header[32..].copy_from_slice(&checksum.to_le_bytes());
    (header, checksum)
}

/// Decodes the frame at the start of `bytes`, or says what is wrong with it. Checks everything a frame can know of
/// itself; its place in the chain is the reader's business.
pub(crate) fn decode(bytes: &[u8]) -> Result<(FrameHeader, &[u8]), &'static str> {
    let Some((header, rest)) = bytes.split_at_checked(FRAME_HEADER_BYTES) else {
        return Err("the file ends within a frame header");
    };
    if header[..4] != FRAME_MAGIC {
        return Err("no frame begins here");
    }
    let decoded = FrameHeader {
        body_bytes: u32_at(header, 4),
        records: u32_at(header, 8),
        segment: u64_at(header, 12),
        number: FrameNumber(u64_at(header, 20)),
        previous_checksum: u32_at(header, 28),
        checksum: u32_at(header, 32),
    };
    let body_bytes = decoded.body_bytes as usize;
    if body_bytes > FRAME_BODY_BYTES_MAX {
        return Err("a frame length is over the limit");
    }
    let Some(body) = rest.get(..body_bytes) else {
        return Err("the file ends within a frame");
    };
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..32]), body);
    if checksum != decoded.checksum && !mutant::active(Mutant::SkipFrameChecksum) {
        return Err("a frame checksum does not match");
    }
    Ok((decoded, body))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// `N` bytes at `at`, zeros where the slice is too short; callers have checked the length.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        array.copy_from_slice(found);
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_any_flipped_bit_shows() {
        let frame = Frame { records: 2, parts: &[b"alpha", b"", b"beta"] };
        let (header, checksum) = encode_header(frame, 7, FrameNumber(42), 99);
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(b"alphabeta");
        let expected = FrameHeader {
            body_bytes: 9,
            records: 2,
            segment: 7,
            number: FrameNumber(42),
            previous_checksum: 99,
            checksum,
        };
        assert_eq!(decode(&bytes), Ok((expected, &b"alphabeta"[..])));
        for index in 0..bytes.len() {
            for bit in 0..8 {
                bytes[index] ^= 1 << bit;
                assert!(decode(&bytes).is_err(), "byte {index} bit {bit}");
                bytes[index] ^= 1 << bit;
            }
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length}");
        }
    }
}
