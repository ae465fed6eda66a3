//! Which descriptors are files under the recorded directory.
//!
//! A table by descriptor, one word each: reading it costs a load, so that sockets go their way unhindered.

use std::sync::atomic::{AtomicU64, Ordering};

/// Descriptors beyond it are not seen; the engine's limits lie far below.
const DESCRIPTORS: usize = 1 << 16;

static TABLE: [AtomicU64; DESCRIPTORS] = [const { AtomicU64::new(0) }; DESCRIPTORS];

/// Which part of a data directory a file belongs to, for the scope of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anything else.
    Other,
    /// Under `journal/`.
    Journal,
    /// Under `checkpoint/`.
    Checkpoint,
}

/// An open file or directory under the recorded directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracked {
    pub(crate) inode: u64,
    pub(crate) place: Place,
}

/// Inode numbers take the low bits, the place two above, and one says that there is something.
const PLACE_SHIFT: u32 = 60;
const PRESENT: u64 = 1 << 63;

pub(crate) fn insert(fd: i32, file: Tracked) {
    let place: u64 = match file.place {
        Place::Other => 0,
        Place::Journal => 1,
        Place::Checkpoint => 2,
    };
    let word = PRESENT | (place << PLACE_SHIFT) | (file.inode & ((1 << PLACE_SHIFT) - 1));
    if let Some(slot) = slot(fd) {
        slot.store(word, Ordering::Release);
    }
}

pub(crate) fn remove(fd: i32) {
    if let Some(slot) = slot(fd) {
        slot.store(0, Ordering::Release);
    }
}

pub(crate) fn find(fd: i32) -> Option<Tracked> {
    let word = slot(fd)?.load(Ordering::Acquire);
    if word & PRESENT == 0 {
        return None;
    }
    let place = match (word >> PLACE_SHIFT) & 3 {
        1 => Place::Journal,
        2 => Place::Checkpoint,
        _ => Place::Other,
    };
    Some(Tracked { inode: word & ((1 << PLACE_SHIFT) - 1), place })
}

fn slot(fd: i32) -> Option<&'static AtomicU64> {
    TABLE.get(usize::try_from(fd).ok()?)
}
