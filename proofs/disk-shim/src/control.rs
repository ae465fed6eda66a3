//! Faults on demand: words of a file shared with the process that steers.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | syncs in scope fail with `EIO` from this one on, counted from 1; 0: none |
//! | 1 | writes in scope fail from this one on; 0: none |
//! | 2 | the error number they fail with |
//! | 3 | which writes: 0 all, 1 those with a byte that is not zero, 2 those that make a file longer (a full disk) |
//! | 4 | 1: writes of more than one byte write half of it |
//! | 5 | milliseconds that each sync in scope takes longer |
//! | 6 | scope: 0 everything, 1 `journal/`, 2 `checkpoint/` |
//! | 7 | how many syncs fail before they succeed again; 0: all from then on |
//! | 8, 9 | told back: syncs and writes met in scope |
//! | 10 | told back: faults given |

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::files::{Place, Tracked};

/// Words in the control file.
const WORDS: usize = 512;

/// The shared words; null without a control file.
static SHARED: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

/// What is to become of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Write it.
    Whole,
    /// Write half of it.
    Half,
    /// Fail with this error number.
    Fail(i32),
}

pub(crate) fn map(path: *const libc::c_char) {
    // SAFETY: `path` is a C string from the environment; the mapping is never undone, so the pointer stays good.
    unsafe {
        let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDWR | libc::O_CLOEXEC);
        let Ok(fd) = i32::try_from(fd) else { return };
        if fd < 0 {
            return;
        }
        let words = libc::mmap(
            std::ptr::null_mut(),
            WORDS * 8,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            0,
        );
        libc::syscall(libc::SYS_close, fd);
        if words != libc::MAP_FAILED {
            SHARED.store(words.cast(), Ordering::Release);
        }
    }
}

fn word(index: usize) -> Option<&'static AtomicU64> {
    let shared = SHARED.load(Ordering::Acquire);
    // SAFETY: a non-null pointer is the mapping of `WORDS` words made above, and every index here is below that.
    (!shared.is_null() && index < WORDS).then(|| unsafe { &*shared.add(index) })
}

fn value(index: usize) -> u64 {
    word(index).map_or(0, |word| word.load(Ordering::Acquire))
}

fn count(index: usize) -> u64 {
    word(index).map_or(0, |word| word.fetch_add(1, Ordering::AcqRel) + 1)
}

fn in_scope(place: Place) -> bool {
    match value(6) {
        1 => place == Place::Journal,
        2 => place == Place::Checkpoint,
        _ => true,
    }
}

/// Waits, counts and judges a sync: `true` means it fails with `EIO`, without having been made.
pub(crate) fn sync_fails(file: Tracked) -> bool {
    if !in_scope(file.place) {
        return false;
    }
    let slow_ms = value(5);
    if slow_ms > 0 {
        let wait = libc::timespec {
            tv_sec: libc::time_t::try_from(slow_ms / 1_000).unwrap_or(1),
            tv_nsec: libc::c_long::try_from(slow_ms % 1_000 * 1_000_000).unwrap_or(0),
        };
        // SAFETY: both pointers are to a timespec or null, as nanosleep wants them.
        unsafe { libc::nanosleep(&raw const wait, std::ptr::null_mut()) };
    }
    let number = count(8);
    let from = value(0);
    let failing = value(7);
    let fails = from > 0 && number >= from && (failing == 0 || number < from.saturating_add(failing));
    if fails {
        count(10);
    }
    fails
}

/// Judges a write of `bytes` bytes, which are `all_zero` or make the file longer (`extends`).
pub(crate) fn judge_write(file: Tracked, bytes: usize, all_zero: bool, extends: bool) -> Verdict {
    if !in_scope(file.place) {
        return Verdict::Whole;
    }
    let meant = match value(3) {
        1 => !all_zero,
        2 => extends,
        _ => true,
    };
    if !meant {
        return Verdict::Whole;
    }
    let number = count(9);
    let from = value(1);
    if from > 0 && number >= from {
        count(10);
        return Verdict::Fail(i32::try_from(value(2)).unwrap_or(libc::EIO));
    }
    if value(4) == 1 && bytes > 1 {
        count(10);
        return Verdict::Half;
    }
    Verdict::Whole
}
