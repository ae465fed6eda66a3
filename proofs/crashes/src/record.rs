//! The record of what a program did to its disk, read back. `proofs/disk-shim` writes it; its `record.rs` has the layout.
//!
//! Each call has an entry before it and one after it. One without the second was under way when its process died: whether
//! it was made is read off the directory it left. Start at [`read`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

/// Bytes before an entry's paths.
const HEAD_BYTES: usize = 72;

/// Bytes written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// As they were.
    Some(Arc<[u8]>),
    /// So many zeros.
    Zeros(u64),
}

impl Bytes {
    /// How many.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Some(bytes) => bytes.len() as u64,
            Self::Zeros(length) => *length,
        }
    }

    /// Only the first `length`.
    pub(crate) fn cut(&mut self, length: u64) {
        match self {
            Self::Some(bytes) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
                *bytes = Arc::from(&bytes[..length]);
            }
            Self::Zeros(zeros) => *zeros = length.min(*zeros),
        }
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file was made.
    Create { path: PathBuf },
    /// A file was cut to nothing when it was opened.
    Empty,
    /// Bytes were written.
    Write { offset: u64, bytes: Bytes },
    /// A length was set.
    SetLength { length: u64 },
    /// A length was made sure of.
    Allocate { end: u64 },
    /// A barrier for this file's bytes, or this directory's names.
    Sync,
    /// `sync_file_range`: no barrier.
    SyncRange,
    /// A name was moved.
    Rename { from: PathBuf, to: PathBuf },
    /// A name was removed.
    Unlink { path: PathBuf },
    /// A directory was made.
    MakeDirectory { path: PathBuf },
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// When it began, nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) start: u64,
    /// When it ended; `None` if its process died first.
    pub(crate) end: Option<u64>,
    /// Which process, and the number it gave this call.
    pub(crate) process: u32,
    /// See above.
    pub(crate) number: u64,
    /// On which file or directory; of a creation, the new one.
    pub(crate) inode: u64,
    /// What.
    pub(crate) change: Change,
    /// Whether it succeeded.
    pub(crate) done: bool,
    /// The error number of one that failed.
    pub(crate) error: Option<i64>,
}

/// Reads a whole record: calls by the time they began. Refuses one with an entry it does not understand.
pub(crate) fn read(bytes: &[u8]) -> anyhow::Result<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<(u32, u64), usize> = HashMap::new();
    let mut at = 0;
    while at < bytes.len() {
        let head = bytes.get(at..at + HEAD_BYTES).context("the record ends within an entry")?;
        ensure!(head[..4] == *b"DSHM", "no entry begins at byte {at} of the record");
        let (kind, phase) = (head[4], head[5]);
        let zeros = u16::from_le_bytes([head[6], head[7]]) == 1;
        let process = u32::from_le_bytes(part(head, 12));
        let number = u64::from_le_bytes(part(head, 16));
        let time = u64::from_le_bytes(part(head, 24));
        let inode = u64::from_le_bytes(part(head, 32));
        let offset = u64::from_le_bytes(part(head, 40));
        let length = u64::from_le_bytes(part(head, 48));
        let result = i64::from_le_bytes(part(head, 56));
        let first_length = usize::from(u16::from_le_bytes(part(head, 64)));
        let second_length = usize::from(u16::from_le_bytes(part(head, 66)));
        let bytes_length = usize::try_from(u32::from_le_bytes(part(head, 68)))?;
        let rest = at + HEAD_BYTES;
        let ends = rest + first_length + second_length + bytes_length;
        let body = bytes.get(rest..ends).context("the record ends within an entry")?;
        at = ends;
        if phase == 1 {
            let Some(index) = open.remove(&(process, number)) else {
                bail!("call {number} of process {process} ends without having begun");
            };
            let call = &mut calls[index];
            call.end = Some(time);
            call.done = result >= 0;
            call.error = (result < 0).then_some(-result);
            if inode != 0 {
                call.inode = inode;
            }
            if let (Change::Write { bytes, .. }, Ok(written)) = (&mut call.change, u64::try_from(result)) {
                bytes.cut(written);
            }
            continue;
        }
        let first = PathBuf::from(std::str::from_utf8(&body[..first_length])?);
        let second = PathBuf::from(std::str::from_utf8(&body[first_length..first_length + second_length])?);
        let change = match kind {
            1 if length & 1 != 0 => Change::Create { path: first },
            1 => Change::Empty,
            2 if zeros => Change::Write { offset, bytes: Bytes::Zeros(length) },
            2 => {
                let written = Arc::from(&body[first_length + second_length..]);
                Change::Write { offset, bytes: Bytes::Some(written) }
            }
            3 => Change::SetLength { length },
            4 => Change::Sync,
            5 => Change::SyncRange,
            6 => Change::Rename { from: first, to: second },
            7 => Change::Unlink { path: first },
            8 => Change::MakeDirectory { path: first },
            9 => Change::Allocate { end: offset + length },
            kind => bail!("the program made a call that the record cannot describe (kind {kind})"),
        };
        open.insert((process, number), calls.len());
        let call = Call { start: time, end: None, process, number, inode, change, done: false, error: None };
        calls.push(call);
    }
    calls.sort_by_key(|call| call.start);
    Ok(calls)
}

/// The entry that ends a call whose process died, once it is known what became of it: the record is whole again.
pub(crate) fn ending(call: &Call) -> Vec<u8> {
    const INTERRUPTED: i64 = -4;
    let written = if let Change::Write { bytes, .. } = &call.change {
        i64::try_from(bytes.length()).unwrap_or(i64::MAX)
    } else {
        0
    };
    let result = if call.done { written } else { INTERRUPTED };
    let mut entry = b"DSHM".to_vec();
    entry.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    entry.extend_from_slice(&call.process.to_le_bytes());
    for word in [call.number, call.end.unwrap_or(0), call.inode, 0, 0] {
        entry.extend_from_slice(&word.to_le_bytes());
    }
    entry.extend_from_slice(&result.to_le_bytes());
    entry.extend_from_slice(&[0; 8]);
    entry
}

fn part<const N: usize>(head: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u8, phase: u8, number: u64, time: u64, result: i64, bytes: &[u8]) -> Vec<u8> {
        let mut entry = b"DSHM".to_vec();
        entry.extend_from_slice(&[kind, phase, 0, 0]);
        entry.extend_from_slice(&[0; 4]);
        entry.extend_from_slice(&7_u32.to_le_bytes());
        for word in [number, time, 3, 512, bytes.len() as u64] {
            entry.extend_from_slice(&word.to_le_bytes());
        }
        entry.extend_from_slice(&result.to_le_bytes());
        entry.extend_from_slice(&[0; 4]);
        entry.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        entry.extend_from_slice(bytes);
        entry
    }

    #[test]
    fn a_short_write_is_as_long_as_it_was_and_a_killed_one_has_no_end() {
        let mut record = entry(2, 0, 1, 10, 0, b"abcdef");
        record.extend(entry(2, 0, 2, 11, 0, b"ghi"));
        record.extend(entry(2, 1, 1, 12, 4, b""));
        let calls = read(&record).unwrap();
        let written = Bytes::Some(Arc::from(&b"abcd"[..]));
        assert_eq!(calls[0].change, Change::Write { offset: 512, bytes: written });
        assert_eq!((calls[0].start, calls[0].end, calls[0].done), (10, Some(12), true));
        assert_eq!((calls[1].end, calls[1].done), (None, false));
        let ended = Call { end: Some(20), done: true, ..calls[1].clone() };
        record.extend(ending(&ended));
        assert_eq!(read(&record).unwrap()[1], ended);
    }

    #[test]
    fn an_unknown_call_or_a_torn_record_is_refused() {
        assert!(read(&entry(10, 0, 1, 1, 0, b"")).is_err());
        let whole = entry(2, 0, 1, 10, 0, b"abc");
        assert!(read(&whole[..whole.len() - 1]).is_err());
    }
}
