//! The one place where events become bytes and bytes events.
//!
//! ```text
//! offset  0  length of all that follows  4   little endian, as all numbers here
//!         4  record version              2
//!         6  partition                   2
//!         8  epoch                       4
//!        12  sequence                    8
//!        20  position                    8
//!        28  at_ms                       8
//!        36  body: Entry by bincode 2, fixed-width layout
//! ```
//!
//! Byte formats are pinned by `tests/golden/`; a change bumps [`RECORD_VERSION`] and keeps the old reader.

use std::cmp::Ordering;

use bincode::config;
use bincode::error::{DecodeError, EncodeError};
use doorbuster_engine::event::{Entry, EntryRef, PARTITIONS};
use doorbuster_engine::identity::{Position, Recorded, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{u16_at, u32_at, u64_at};
use crate::record::{RECORD_BODY_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_VERSION, RecordHeader};

/// Version of values in the checkpoint store; others are rebuilt from the journal. Version 2 came with payments that are
/// authorized first.
const STORED_VERSION: u16 = 2;

/// The oldest record version there is a reader for. What comes before it was never released.
const RECORD_VERSION_OLDEST: u16 = 2;

/// Fixed width and a limit: a damaged length inside a body cannot ask for more than a record may have.
const LAYOUT: config::Configuration<
    config::LittleEndian,
    config::Fixint,
    config::Limit<RECORD_BODY_BYTES_MAX>,
> = config::legacy().with_limit::<RECORD_BODY_BYTES_MAX>();

/// Bytes and events did not fit each other.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The event cannot be written; a bug.
    #[error("cannot encode a record: {0}")]
    Encode(#[from] EncodeError),
    /// The event is larger than any record may be; the caller refuses its command.
    #[error("a record of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The bytes are no record of a version known here.
    #[error("cannot decode a record: {0}")]
    Decode(String),
    /// A newer engine wrote it.
    #[error(
        "a record has version {found}, but this engine knows versions up to {known}; start a newer engine"
    )]
    NewerVersion {
        /// Its version.
        found: u16,
        /// The newest known here.
        known: u16,
    },
    /// An engine from before the first release wrote it.
    #[error(
        "a record has version {found}, but this engine reads versions from {oldest} on; start the engine that wrote it"
    )]
    OlderVersion {
        /// Its version.
        found: u16,
        /// The oldest read here.
        oldest: u16,
    },
}

impl From<DecodeError> for CodecError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error.to_string())
    }
}

/// Appends one record to `out` and returns its size in bytes. Leaves `out` as it was when it fails.
///
/// On the hot path of every worker: allocates nothing but what `out` needs to grow.
pub fn append_record(out: &mut Vec<u8>, header: &RecordHeader, entry: &Entry) -> Result<usize, CodecError> {
    let begin = out.len();
    let mut fixed = [0; RECORD_HEADER_BYTES];
    fixed[4..6].copy_from_slice(&RECORD_VERSION.to_le_bytes());
    fixed[6..8].copy_from_slice(&header.partition.to_le_bytes());
    fixed[8..12].copy_from_slice(&header.epoch.to_le_bytes());
    fixed[12..20].copy_from_slice(&header.sequence.to_le_bytes());
    fixed[20..28].copy_from_slice(&header.position.to_le_bytes());
    fixed[28..36].copy_from_slice(&header.at_ms.to_le_bytes());
    out.extend_from_slice(&fixed);
    let encoded = bincode::serde::encode_into_std_write(entry, out, LAYOUT);
    let size = out.len() - begin;
    if let Err(error) = encoded {
        out.truncate(begin);
        return Err(error.into());
    }
    let body = size - RECORD_HEADER_BYTES;
    if body > RECORD_BODY_BYTES_MAX {
        out.truncate(begin);
        return Err(CodecError::TooLarge { bytes: body, bytes_max: RECORD_BODY_BYTES_MAX });
    }
    let length = u32::try_from(size - 4).unwrap_or(u32::MAX);
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    Ok(size)
}

/// Encodes a value for the checkpoint store: version, then bytes.
pub fn encode_stored<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = STORED_VERSION.to_le_bytes().to_vec();
    bincode::serde::encode_into_std_write(value, &mut bytes, LAYOUT)?;
    Ok(bytes)
}

/// Decodes what [`encode_stored`] made. A version or shape of another engine is an error: the store is then rebuilt.
pub fn decode_stored<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let Some((version, body)) = bytes.split_at_checked(2) else {
        return Err(CodecError::Decode("a stored value is shorter than its version".to_owned()));
    };
    let found = u16_at(version, 0);
    match found.cmp(&STORED_VERSION) {
        Ordering::Less => Err(CodecError::OlderVersion { found, oldest: STORED_VERSION }),
        Ordering::Equal => decode_whole(body),
        Ordering::Greater => Err(CodecError::NewerVersion { found, known: STORED_VERSION }),
    }
}

fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, read) = bincode::serde::decode_from_slice::<T, _>(bytes, LAYOUT)?;
    all_read(bytes, read).map(|()| value)
}

fn all_read(bytes: &[u8], read: usize) -> Result<(), CodecError> {
    match bytes.len().saturating_sub(read) {
        0 => Ok(()),
        left => Err(CodecError::Decode(format!("{left} bytes are left over"))),
    }
}

/// A record as it stands in a frame, its body not yet decoded.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Where it stands.
    pub header: RecordHeader,
    /// The entry's bytes.
    pub body: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Decodes the event, with a key of its own.
    pub fn entry(&self) -> Result<Entry, CodecError> {
        decode_whole(self.body)
    }

    /// Decodes the event; its entity's name stays where it lies.
    pub fn entry_ref(&self) -> Result<EntryRef<'a>, CodecError> {
        let (entry, read) = bincode::serde::borrow_decode_from_slice::<EntryRef<'a>, _>(self.body, LAYOUT)?;
        all_read(self.body, read).map(|()| entry)
    }

    /// What folding wants to know beside the event.
    pub fn recorded(&self) -> Recorded {
        Recorded { position: Position(self.header.position), at: Timestamp(self.header.at_ms) }
    }
}

/// Splits a frame's body into its records.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

/// The records of a frame's body, in order. Stops after the first error.
pub fn records(body: &[u8]) -> Records<'_> {
    Records { rest: body }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RawRecord<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = split_record(self.rest);
        self.rest = split.as_ref().map_or(&[], |(_, rest)| rest);
        Some(split.map(|(record, _)| record))
    }
}

fn split_record(bytes: &[u8]) -> Result<(RawRecord<'_>, &[u8]), CodecError> {
    let short = || CodecError::Decode("the frame ends within a record".to_owned());
    let (length, rest) = bytes.split_at_checked(4).ok_or_else(short)?;
    let (record, after) = rest.split_at_checked(u32_at(length, 0) as usize).ok_or_else(short)?;
    if record.len() < RECORD_HEADER_BYTES - 4 {
        return Err(CodecError::Decode("a record is shorter than its header".to_owned()));
    }
    let version = u16_at(record, 0);
    if version > RECORD_VERSION {
        return Err(CodecError::NewerVersion { found: version, known: RECORD_VERSION });
    }
    if version == 0 {
        return Err(CodecError::Decode("no engine ever wrote record version 0".to_owned()));
    }
    if version < RECORD_VERSION_OLDEST {
        return Err(CodecError::OlderVersion { found: version, oldest: RECORD_VERSION_OLDEST });
    }
    let header = RecordHeader {
        partition: u16_at(record, 2),
        epoch: u32_at(record, 4),
        sequence: u64_at(record, 8),
        position: u64_at(record, 16),
        at_ms: u64_at(record, 24),
    };
    if usize::from(header.partition) >= PARTITIONS {
        return Err(CodecError::Decode(format!("there is no partition {}", header.partition)));
    }
    Ok((RawRecord { header, body: &record[RECORD_HEADER_BYTES - 4..] }, after))
}
