//! Whether what is read of a store is on the disk at all.
//!
//! After a sync that failed, Linux calls clean the pages it could not write: they are read from memory for a while, and no
//! later sync brings them to the disk. So a failed sync leaves a note in the store's directory, and whoever opens the
//! store next writes every file over itself, which makes all pages dirty again, and syncs it.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Disk, Held, LockKind, OpenMode};

#[cfg(test)]
mod tests;

/// A note that a write or sync of a store failed: an empty file in its directory. It need not be durable: what it warns of
/// is in this machine's memory, and goes with it. Two things take it away unseen, and a power cut must follow soon for
/// either to cost anything: a kill between the failed sync and the note, and a disk that refuses the note too (logged).
#[derive(Debug)]
pub(super) struct Doubt<D> {
    disk: D,
    store: PathBuf,
    note: PathBuf,
}

impl<D: Disk> Doubt<D> {
    /// Bytes read and written at a time.
    const STEP_BYTES: usize = 1 << 20;

    /// How long the store's previous user may take to let go of it.
    const PATIENCE: Duration = Duration::from_secs(10);

    pub(super) fn of(disk: D, store: &Path) -> Self {
        Self { disk, store: store.to_path_buf(), note: store.join("written-in-doubt") }
    }

    /// Notes a failure.
    pub(super) fn unless<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err()
            && let Err(error) = self.disk.open(&self.note, OpenMode::Replace { mode: 0o600 })
        {
            tracing::warn!(%error, "a failed write to the checkpoint store could not be noted");
        }
        result
    }

    /// After a failure: brings to the disk what is read of the store's files. They grow by nothing, so that a full disk
    /// does not hinder it. The note goes last; until then every opening begins anew.
    pub(super) fn settle(&self) -> io::Result<()> {
        if !self.disk.exists(&self.note) {
            return Ok(());
        }
        // Threads of a store closed a moment ago may still write; what was read before would undo it.
        let _held = self.locked()?;
        self.write_again(&self.store)?;
        self.disk.remove(&self.note)
    }

    /// sled's own lock, which its last thread gives back.
    fn locked(&self) -> io::Result<Option<Box<dyn Held>>> {
        let file = self.store.join("db");
        if !self.disk.exists(&file) {
            return Ok(None);
        }
        let give_up = Instant::now() + Self::PATIENCE;
        loop {
            if let Some(held) = self.disk.lock(&file, LockKind::Exclusive)? {
                return Ok(Some(held));
            }
            if Instant::now() >= give_up {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "the store is still in use"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes a file, or each below a directory, over itself, by what is read of it, and syncs it.
    fn write_again(&self, path: &Path) -> io::Result<()> {
        match self.disk.list(path) {
            Ok(entries) => {
                entries.iter().try_for_each(|entry| self.write_again(entry))?;
                return self.disk.sync_directory(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
        let file = self.disk.open(path, OpenMode::Write)?;
        let length = file.length()?;
        let mut bytes = vec![0; Self::STEP_BYTES];
        let mut offset = 0;
        while offset < length {
            let step = usize::try_from(length - offset).unwrap_or(usize::MAX).min(bytes.len());
            file.read_exact_at(&mut bytes[..step], offset)?;
            file.write_all_at(&mut [IoSlice::new(&bytes[..step])], offset)?;
            offset += step as u64;
        }
        file.sync_all()
    }
}
