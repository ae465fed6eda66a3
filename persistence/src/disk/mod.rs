//! Everything a data directory needs of the machine, behind traits, so that proofs can put a disk of their own there.
//!
//! Production runs on [`MachineDisk`]; no other file of this room touches `std::fs` or sled. Calls go through a table once
//! a frame or file, never once a record. Law 3 rests on what [`DiskFile::sync_data`], [`Disk::sync_directory`] and
//! [`Trees::sync`] promise: what was there when they were called survives a power cut once they return.
//! Start at [`Disk`].

mod doubt;
mod machine;
mod store;
mod trees;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

pub use machine::MachineDisk;
pub use trees::{Entries, Tree, TreeBatch, Trees, Value};

use crate::error::CheckpointError;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not be there yet, for reading and writing.
    CreateNew {
        /// Its permissions, before the process's mask.
        mode: u32,
    },
    /// A new file, or an existing one emptied, for reading and writing.
    Replace {
        /// Its permissions where it is new, before the process's mask.
        mode: u32,
    },
}

/// With whom a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// With nobody; the lock's file is made where it is missing.
    Exclusive,
    /// With others who only read; the lock's file must be there.
    Shared,
}

/// A lock, held as long as this value.
pub trait Held: Send + Sync + Debug {}

/// A machine's file system, its randomness, and the key-value stores that lie on it. For any thread.
pub trait Disk: Send + Sync + Debug {
    /// Makes a directory and the missing ones above it. One that is there already is fine.
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Files and directories in `directory`, sorted by name.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file or directory another name, replacing a file of that name. Open files stay open.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether there is something of this name.
    fn exists(&self, path: &Path) -> bool;

    /// Bytes of a file, by its name.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// Whether both names lead to one file.
    fn same_file(&self, one: &Path, other: &Path) -> bool;

    /// Makes creations, renames and removals in `directory` durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Bytes that can still be written where `path` lies.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Locks the file `path`; `None` when somebody else holds it.
    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Held>>>;

    /// Fills `bytes` with random ones, fit for secrets.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// Opens the key-value store in the directory `path`, making it where it is missing.
    fn trees(&self, path: &Path) -> Result<Box<dyn Trees>, CheckpointError>;

    /// Opens a private copy of the store in `path`, which stays as it is; `None` where there is no store.
    fn trees_copy(&self, path: &Path) -> Result<Option<Box<dyn Trees>>, CheckpointError>;
}

/// An open file. It stays the same file when it is renamed.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all of `parts`, one after another, from `offset` on.
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Appends the whole content to `into`.
    fn read_all(&self, into: &mut Vec<u8>) -> io::Result<()>;

    /// Fills `bytes` from `offset` on, or fails where the file ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Bytes it has.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it, or lengthens it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes its content durable, and of its length what reading the content needs.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes its content and everything about it durable, but for its name.
    fn sync_all(&self) -> io::Result<()>;
}

/// Reads a whole file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    disk.open(path, OpenMode::Read)?.read_all(&mut bytes)?;
    Ok(bytes)
}

/// Really writes zeros over `from..to`, so that blocks are allocated and later syncs move no metadata.
pub(crate) fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut offset = from;
    while offset < to {
        let left = usize::try_from(to - offset).unwrap_or(usize::MAX).min(ZEROS.len() * 16);
        let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(16);
        let mut planned = 0;
        while planned < left {
            let part = (left - planned).min(ZEROS.len());
            parts.push(IoSlice::new(&ZEROS[..part]));
            planned += part;
        }
        file.write_all_at(&mut parts, offset)?;
        offset += left as u64;
    }
    Ok(())
}

/// Writes a small file so that after a crash it is there whole or not at all.
pub(crate) fn write_durably(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let file = disk.open(&temporary, OpenMode::Replace { mode })?;
    file.write_all_at(&mut [IoSlice::new(bytes)], 0)?;
    file.sync_all()?;
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => disk.sync_directory(parent),
        None => Ok(()),
    }
}

/// Whether all bytes are zero; compares by blocks, since a segment's tail is megabytes of them.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4_096] = [0; 4_096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
