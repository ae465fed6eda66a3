//! The C functions this library replaces. Each does what the original does, by the kernel's own call, and writes it down
//! when it concerns a file under the recorded directory.
//!
//! The C prototypes of `open`, `openat` and `fcntl` end in `...`. Here they take the last argument plainly: on the Linux
//! targets Rust supports, an integer in that place arrives in the same register either way, and an argument not given is
//! only read where the flags say it was.

#![expect(clippy::cast_possible_truncation, reason = "what the kernel returns for an ssize_t fits one")]

use std::path::{Path, PathBuf};

use libc::{c_char, c_int, c_long, c_uint, iovec, mode_t, off_t, off64_t, size_t, ssize_t};

use crate::control::{self, Verdict};
use crate::files::{self, Tracked};
use crate::record::{self, Entry, Kind};

/// What a failed call returns.
const FAILED: c_int = -1;

fn errno() -> i32 {
    // SAFETY: the pointer is to this thread's own error number.
    unsafe { *libc::__errno_location() }
}

fn set_errno(error: i32) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = error }
}

/// What the record says of a result: itself, or the error number below zero.
fn outcome(result: c_long) -> i64 {
    if result < 0 { -i64::from(errno()) } else { result }
}

fn narrow(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(FAILED)
}

/// Runs a call between its two entries.
fn recorded(entry: &Entry<'_>, call: impl FnOnce() -> c_long) -> c_long {
    let number = record::before(entry);
    let result = call();
    let error = errno();
    record::after(number, entry.kind, entry.inode, outcome(result));
    set_errno(error);
    result
}

fn inode_of_path(directory: c_int, path: *const c_char) -> u64 {
    // SAFETY: a zeroed stat is a valid one to be overwritten; `path` came as a C string.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        let result = libc::syscall(libc::SYS_newfstatat, directory, path, &raw mut found, flags);
        if result == 0 { found.st_ino } else { 0 }
    }
}

fn stat_of(fd: c_int) -> Option<libc::stat> {
    // SAFETY: as above; an empty path with AT_EMPTY_PATH means the descriptor itself.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        let flags = libc::AT_EMPTY_PATH;
        let result = libc::syscall(libc::SYS_newfstatat, fd, c"".as_ptr(), &raw mut found, flags);
        (result == 0).then_some(found)
    }
}

fn open_at(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let call = || {
        // SAFETY: the arguments are the caller's, as the kernel's call takes them.
        unsafe { libc::syscall(libc::SYS_openat, directory, path, flags | libc::O_LARGEFILE, mode) }
    };
    let Some(below) = record::below(path) else { return narrow(call()) };
    let was_there = inode_of_path(directory, path) != 0;
    let makes = flags & libc::O_CREAT != 0 && !was_there;
    let cuts = flags & libc::O_TRUNC != 0 && was_there;
    let number = (makes || cuts).then(|| {
        let length = u64::from(makes) | (u64::from(cuts) << 1);
        record::before(&Entry {
            kind: Kind::Open,
            length,
            paths: [&below, Path::new("")],
            ..Entry::default()
        })
    });
    let fd = narrow(call());
    let error = errno();
    let inode = if fd >= 0 { stat_of(fd).map_or(0, |found| found.st_ino) } else { 0 };
    if fd >= 0 {
        files::insert(fd, Tracked { inode, place: record::place(&below) });
    }
    if let Some(number) = number {
        let result = if fd >= 0 { 0 } else { -i64::from(error) };
        record::after(number, Kind::Open, inode, result);
    }
    set_errno(error);
    fd
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(directory, path, flags, mode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(directory, path, flags, mode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    files::remove(fd);
    // SAFETY: closes what the caller asked to close.
    narrow(unsafe { libc::syscall(libc::SYS_close, fd) })
}

fn doubled(fd: c_int, copy: c_int) -> c_int {
    if copy >= 0 {
        match files::find(fd) {
            Some(file) => files::insert(copy, file),
            None => files::remove(copy),
        }
    }
    copy
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: a descriptor and no pointer.
    doubled(fd, narrow(unsafe { libc::syscall(libc::SYS_dup, fd) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    // SAFETY: as above.
    doubled(fd, narrow(unsafe { libc::syscall(libc::SYS_dup3, fd, to, flags) }))
}

fn file_control(fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: the arguments are the caller's, as the kernel's call takes them.
    let result = narrow(unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) });
    if command == libc::F_DUPFD || command == libc::F_DUPFD_CLOEXEC { doubled(fd, result) } else { result }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    file_control(fd, command, argument)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
    file_control(fd, command, argument)
}

/// The bytes of all slices in one piece, no more than `bytes_max`.
fn gathered(slices: &[iovec], bytes_max: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    for slice in slices {
        let length = slice.iov_len.min(bytes_max - whole.len());
        if length > 0 {
            // SAFETY: the caller vouches for its slices, as `writev` demands.
            whole.extend_from_slice(unsafe {
                std::slice::from_raw_parts(slice.iov_base.cast::<u8>(), length)
            });
        }
    }
    whole
}

/// A write to a file of ours: judged, recorded, made. `offset` is `None` for one at the descriptor's own place.
fn write_file(fd: c_int, file: Tracked, slices: &[iovec], offset: Option<off64_t>) -> ssize_t {
    let total: usize = slices.iter().map(|slice| slice.iov_len).sum();
    let mut bytes = gathered(slices, total);
    let length_now = stat_of(fd).map_or(0, |found| found.st_size);
    let at = match offset {
        Some(offset) => offset,
        // SAFETY: no pointer in either call.
        None => unsafe {
            if libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL, 0) & c_long::from(libc::O_APPEND) == 0 {
                libc::syscall(libc::SYS_lseek, fd, 0, libc::SEEK_CUR)
            } else {
                length_now
            }
        },
    };
    let end = at.saturating_add(i64::try_from(total).unwrap_or(i64::MAX));
    let all_zero = bytes.iter().all(|byte| *byte == 0);
    let verdict = control::judge_write(file, total, all_zero, end > length_now);
    if verdict == Verdict::Half {
        bytes.truncate(total.div_ceil(2));
    }
    let entry = Entry {
        kind: Kind::Write,
        inode: file.inode,
        offset: u64::try_from(at).unwrap_or(0),
        length: bytes.len() as u64,
        bytes: &bytes,
        ..Entry::default()
    };
    let result = recorded(&entry, || {
        if let Verdict::Fail(error) = verdict {
            set_errno(error);
            return -1;
        }
        let (start, length) = (bytes.as_ptr(), bytes.len());
        // SAFETY: pointer and length are of `bytes`.
        unsafe {
            match offset {
                Some(offset) => libc::syscall(libc::SYS_pwrite64, fd, start, length, offset),
                None => libc::syscall(libc::SYS_write, fd, start, length),
            }
        }
    });
    ssize_t::try_from(result).unwrap_or(-1)
}

fn slices_of<'a>(slices: *const iovec, count: c_int) -> &'a [iovec] {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller vouches for `count` slices, as `writev` demands.
    if slices.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(slices, count) } }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const libc::c_void, length: size_t) -> ssize_t {
    match files::find(fd) {
        Some(file) => write_file(fd, file, &[iovec { iov_base: bytes.cast_mut(), iov_len: length }], None),
        // SAFETY: the caller's own arguments.
        None => unsafe { libc::syscall(libc::SYS_write, fd, bytes, length) as ssize_t },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, slices: *const iovec, count: c_int) -> ssize_t {
    match files::find(fd) {
        Some(file) => write_file(fd, file, slices_of(slices, count), None),
        // SAFETY: the caller's own arguments.
        None => unsafe { libc::syscall(libc::SYS_writev, fd, slices, count) as ssize_t },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, bytes: *const libc::c_void, length: size_t, offset: off_t) -> ssize_t {
    write_at(fd, bytes, length, offset)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    fd: c_int,
    bytes: *const libc::c_void,
    length: size_t,
    offset: off64_t,
) -> ssize_t {
    write_at(fd, bytes, length, offset)
}

fn write_at(fd: c_int, bytes: *const libc::c_void, length: size_t, offset: off64_t) -> ssize_t {
    match files::find(fd) {
        Some(file) => {
            write_file(fd, file, &[iovec { iov_base: bytes.cast_mut(), iov_len: length }], Some(offset))
        }
        // SAFETY: the caller's own arguments.
        None => unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, length, offset) as ssize_t },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev(fd: c_int, slices: *const iovec, count: c_int, offset: off_t) -> ssize_t {
    write_slices_at(fd, slices, count, offset)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64(fd: c_int, slices: *const iovec, count: c_int, offset: off64_t) -> ssize_t {
    write_slices_at(fd, slices, count, offset)
}

fn write_slices_at(fd: c_int, slices: *const iovec, count: c_int, offset: off64_t) -> ssize_t {
    match files::find(fd) {
        Some(file) => write_file(fd, file, slices_of(slices, count), Some(offset)),
        // The kernel takes the offset in two halves; on 64 bits the second is not read.
        // SAFETY: the caller's own arguments.
        None => unsafe { libc::syscall(libc::SYS_pwritev, fd, slices, count, offset, 0) as ssize_t },
    }
}

fn set_length(fd: c_int, length: off64_t) -> c_int {
    // SAFETY: no pointer.
    let call = || unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) };
    let Some(file) = files::find(fd) else { return narrow(call()) };
    let length = u64::try_from(length).unwrap_or(0);
    let entry = Entry { kind: Kind::SetLength, inode: file.inode, length, ..Entry::default() };
    narrow(recorded(&entry, call))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    set_length(fd, length)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    set_length(fd, length)
}

fn allocate(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int {
    // SAFETY: no pointer.
    let call = || unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, offset, length) };
    let Some(file) = files::find(fd) else { return narrow(call()) };
    let kind = if mode == 0 { Kind::Allocate } else { Kind::Unknown };
    let (offset, length) = (u64::try_from(offset).unwrap_or(0), u64::try_from(length).unwrap_or(0));
    narrow(recorded(&Entry { kind, inode: file.inode, offset, length, ..Entry::default() }, call))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    allocate(fd, mode, offset, length)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int {
    allocate(fd, mode, offset, length)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate(fd: c_int, offset: off_t, length: off_t) -> c_int {
    if allocate(fd, 0, offset, length) == 0 { 0 } else { errno() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate64(fd: c_int, offset: off64_t, length: off64_t) -> c_int {
    if allocate(fd, 0, offset, length) == 0 { 0 } else { errno() }
}

fn sync(fd: c_int, call: c_long) -> c_int {
    // SAFETY: no pointer.
    let make = || unsafe { libc::syscall(call, fd) };
    let Some(file) = files::find(fd) else { return narrow(make()) };
    let length = u64::from(call == libc::SYS_fsync);
    let entry = Entry { kind: Kind::Sync, inode: file.inode, length, ..Entry::default() };
    narrow(recorded(&entry, || {
        if control::sync_fails(file) {
            set_errno(libc::EIO);
            return -1;
        }
        make()
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sync_file_range(fd: c_int, offset: off64_t, length: off64_t, flags: c_uint) -> c_int {
    // SAFETY: no pointer.
    let call = || unsafe { libc::syscall(libc::SYS_sync_file_range, fd, offset, length, flags) };
    let Some(file) = files::find(fd) else { return narrow(call()) };
    let (offset, length) = (u64::try_from(offset).unwrap_or(0), u64::try_from(length).unwrap_or(0));
    let entry = Entry { kind: Kind::SyncRange, inode: file.inode, offset, length, ..Entry::default() };
    narrow(recorded(&entry, call))
}

fn rename_at(from: (c_int, *const c_char), to: (c_int, *const c_char), flags: c_uint) -> c_int {
    // SAFETY: the caller's own arguments.
    let call = || unsafe { libc::syscall(libc::SYS_renameat2, from.0, from.1, to.0, to.1, flags) };
    let (Some(old), Some(new)) = (record::below(from.1), record::below(to.1)) else { return narrow(call()) };
    let inode = inode_of_path(from.0, from.1);
    let kind = if flags == 0 { Kind::Rename } else { Kind::Unknown };
    narrow(recorded(&Entry { kind, inode, paths: [&old, &new], ..Entry::default() }, call))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    rename_at((libc::AT_FDCWD, from), (libc::AT_FDCWD, to), 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    rename_at((from_directory, from), (to_directory, to), 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    rename_at((from_directory, from), (to_directory, to), flags)
}

fn unlink_at(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's own arguments.
    let call = || unsafe { libc::syscall(libc::SYS_unlinkat, directory, path, flags) };
    let Some(below) = named(directory, path) else { return narrow(call()) };
    let inode = inode_of_path(directory, path);
    let entry = Entry { kind: Kind::Unlink, inode, paths: [&below, Path::new("")], ..Entry::default() };
    narrow(recorded(&entry, call))
}

/// The path below the recorded directory, also when it is told relative to an open directory of ours.
fn named(directory: c_int, path: *const c_char) -> Option<PathBuf> {
    if let Some(below) = record::below(path) {
        return Some(below);
    }
    if directory == libc::AT_FDCWD || !record::is_on() {
        return None;
    }
    files::find(directory)?;
    let directory = std::fs::read_link(format!("/proc/self/fd/{directory}")).ok()?;
    // SAFETY: a C string, as the caller handed it on.
    let name = unsafe { std::ffi::CStr::from_ptr(path) };
    let whole = directory.join(name.to_str().ok()?);
    record::below(std::ffi::CString::new(whole.to_str()?).ok()?.as_ptr())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    unlink_at(libc::AT_FDCWD, path, 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    unlink_at(directory, path, flags)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    unlink_at(libc::AT_FDCWD, path, libc::AT_REMOVEDIR)
}

fn make_directory_at(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's own arguments.
    let call = || unsafe { libc::syscall(libc::SYS_mkdirat, directory, path, mode) };
    let Some(below) = record::below(path) else { return narrow(call()) };
    let kind = Kind::MakeDirectory;
    let number = record::before(&Entry { kind, paths: [&below, Path::new("")], ..Entry::default() });
    let result = call();
    let error = errno();
    let told = outcome(result);
    record::after(number, kind, inode_of_path(directory, path), told);
    set_errno(error);
    narrow(result)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    make_directory_at(libc::AT_FDCWD, path, mode)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    make_directory_at(directory, path, mode)
}

/// Calls that change a file in ways the record does not describe: refused for files of ours, so that nothing is missed.
/// Rust's standard library then copies by read and write.
fn unsupported(fd: c_int) -> Option<c_int> {
    files::find(fd).map(|_| {
        set_errno(libc::ENOSYS);
        FAILED
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    if unsupported(to).is_some() {
        return -1;
    }
    // SAFETY: the caller's own arguments.
    unsafe {
        libc::syscall(libc::SYS_copy_file_range, from, from_offset, to, to_offset, length, flags) as ssize_t
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off64_t, length: size_t) -> ssize_t {
    if unsupported(to).is_some() {
        return -1;
    }
    // SAFETY: the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_sendfile, to, from, offset, length) as ssize_t }
}
