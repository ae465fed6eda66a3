//! The record: one entry before each call and one after it, appended whole.
//!
//! ```text
//! 0 magic "DSHM"  4 kind 1  5 phase 1 (0 before, 1 after)  6 flags 2 (1: the bytes are zeros and left out)
//! 8 thread 4  12 process 4  16 number 8 (of this process)  24 time 8 (CLOCK_MONOTONIC, ns)  32 inode 8
//! 40 offset 8  48 length 8  56 result 8  64 length of the first path 2  66 of the second 2  68 of the bytes 4
//! 72 first path, second path, bytes
//! ```

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::control;
use crate::files::Place;

/// What was called; the numbers are the record's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An open that made the file, cut it to nothing, or only opened it: `length` has bit 0 or 1 set for these.
    Open = 1,
    Write = 2,
    SetLength = 3,
    /// fsync (`length` 1) or fdatasync (`length` 0).
    Sync = 4,
    /// `sync_file_range`: written down because it is *no* barrier.
    SyncRange = 5,
    Rename = 6,
    Unlink = 7,
    MakeDirectory = 8,
    /// Blocks reserved, length grown.
    Allocate = 9,
    /// A call this record cannot describe: whoever reads it must refuse.
    Unknown = 10,
}

/// One entry but for its time and number.
pub(crate) struct Entry<'a> {
    pub(crate) kind: Kind,
    pub(crate) inode: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) paths: [&'a Path; 2],
    pub(crate) bytes: &'a [u8],
}

impl Default for Entry<'_> {
    fn default() -> Self {
        let none = Path::new("");
        Self { kind: Kind::Unknown, inode: 0, offset: 0, length: 0, paths: [none, none], bytes: &[] }
    }
}

static LOG: AtomicI32 = AtomicI32::new(-1);
static NUMBER: AtomicU64 = AtomicU64::new(0);
static ROOT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();

/// Run by the loader before the program's first line, while there is one thread.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    // SAFETY: the loader calls this once, on the only thread, so nobody changes the environment meanwhile; getenv's
    // result is a C string or null, and is copied or used at once.
    unsafe {
        let root = libc::getenv(c"DOORBUSTER_SHIM_ROOT".as_ptr());
        let log = libc::getenv(c"DOORBUSTER_SHIM_LOG".as_ptr());
        if root.is_null() || log.is_null() {
            return;
        }
        let control = libc::getenv(c"DOORBUSTER_SHIM_CONTROL".as_ptr());
        if !control.is_null() {
            control::map(control);
        }
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
        let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, log, flags, 0o644);
        if fd < 0 {
            stop(b"doorbuster-disk-shim: cannot open the record\n");
        }
        let _ = ROOT.set(PathBuf::from(OsStr::from_bytes(CStr::from_ptr(root).to_bytes())));
        LOG.store(i32::try_from(fd).unwrap_or(-1), Ordering::Release);
    }
}

/// Whether anything is recorded at all.
pub(crate) fn is_on() -> bool {
    LOG.load(Ordering::Acquire) >= 0
}

/// The path below the recorded directory, or `None` elsewhere. Of a descriptor's directory only the current one is
/// understood, which is all that Rust's standard library uses on paths it made absolute.
pub(crate) fn below(path: *const libc::c_char) -> Option<PathBuf> {
    if !is_on() || path.is_null() {
        return None;
    }
    // SAFETY: the caller handed this pointer to a function that takes a C string.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    let path = Path::new(OsStr::from_bytes(bytes));
    let path = path.strip_prefix(ROOT.get()?).ok()?;
    Some(path.to_path_buf())
}

/// Which part of a data directory a path belongs to.
pub(crate) fn place(path: &Path) -> Place {
    let has = |name: &str| path.components().any(|part| part.as_os_str() == name);
    if has("journal") {
        Place::Journal
    } else if has("checkpoint") {
        Place::Checkpoint
    } else {
        Place::Other
    }
}

/// Writes the entry before a call; the number ties the one after it to it.
pub(crate) fn before(entry: &Entry<'_>) -> u64 {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
    append(number, 0, 0, entry);
    number
}

/// Writes the entry after a call.
pub(crate) fn after(number: u64, kind: Kind, inode: u64, result: i64) {
    append(number, 1, result, &Entry { kind, inode, ..Entry::default() });
}

fn append(number: u64, phase: u8, result: i64, entry: &Entry<'_>) {
    let is_zero = !entry.bytes.is_empty() && entry.bytes.iter().all(|byte| *byte == 0);
    let bytes = if is_zero { &[][..] } else { entry.bytes };
    let [first, second] = entry.paths.map(|path| path.as_os_str().as_bytes());
    let mut whole = Vec::with_capacity(72 + first.len() + second.len() + bytes.len());
    // SAFETY: neither call takes a pointer.
    let (thread, process) = unsafe { (libc::syscall(libc::SYS_gettid), libc::getpid()) };
    whole.extend_from_slice(b"DSHM");
    whole.push(entry.kind as u8);
    whole.push(phase);
    whole.extend_from_slice(&u16::from(is_zero).to_le_bytes());
    whole.extend_from_slice(&u32::try_from(thread).unwrap_or(0).to_le_bytes());
    whole.extend_from_slice(&u32::try_from(process).unwrap_or(0).to_le_bytes());
    for word in [number, now(), entry.inode, entry.offset, entry.length] {
        whole.extend_from_slice(&word.to_le_bytes());
    }
    whole.extend_from_slice(&result.to_le_bytes());
    for path in [first, second] {
        whole.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
    }
    whole.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    whole.extend_from_slice(first);
    whole.extend_from_slice(second);
    whole.extend_from_slice(bytes);
    // One append, so that entries of threads never mix. A hole in the record would be a lie, so the program ends.
    // SAFETY: pointer and length are of `whole`.
    let written =
        unsafe { libc::syscall(libc::SYS_write, LOG.load(Ordering::Acquire), whole.as_ptr(), whole.len()) };
    if usize::try_from(written).ok() != Some(whole.len()) {
        stop(b"doorbuster-disk-shim: cannot write the record\n");
    }
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn stop(words: &[u8]) -> ! {
    // SAFETY: pointer and length are of `words`; `_exit` runs nothing more of the program.
    unsafe {
        libc::syscall(libc::SYS_write, 2, words.as_ptr(), words.len());
        libc::_exit(70)
    }
}
