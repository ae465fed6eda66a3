//! sled as the store of trees: opened with patience, synced by a descriptor of our own.
//!
//! sled's `flush` does not fsync on Linux, so [`Trees::sync`] does it itself. After one that failed, what is read of the
//! files need not be on the disk: [`Doubt`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::doubt::Doubt;
use super::{Disk, Entries, MachineDisk, Tree, TreeBatch, Trees, Value};
use crate::error::CheckpointError;

impl From<sled::Error> for CheckpointError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::of_store(&error),
            other @ (sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Corruption { .. }) => Self::Store { what: other.to_string(), is_damage: true },
        }
    }
}

/// A sled database. Fields drop in this order: the copy's directory goes once sled has let go of it.
#[derive(Debug)]
pub(super) struct SledTrees {
    db: sled::Db,
    /// sled's file by our own descriptor, for fsync.
    file: File,
    file_path: PathBuf,
    doubt: Arc<Doubt<MachineDisk>>,
    _copied: Option<Copied>,
}

impl SledTrees {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let doubt = Doubt::of(MachineDisk, path);
        doubt.settle().map_err(CheckpointError::io("write again", path))?;
        let db = open_sled(path)?;
        let file_path = path.join("db");
        let file = File::open(&file_path).map_err(CheckpointError::io("open", &file_path))?;
        for directory in [Some(path), path.parent()].into_iter().flatten() {
            MachineDisk.sync_directory(directory).map_err(CheckpointError::io("sync", directory))?;
        }
        Ok(Self { db, file, file_path, doubt: Arc::new(doubt), _copied: None })
    }

    pub(super) fn open_copy(path: &Path) -> Result<Option<Self>, CheckpointError> {
        if !path.join("db").exists() {
            return Ok(None);
        }
        let copied = Copied::of(path).map_err(CheckpointError::io("copy", path))?;
        let opened = Self::open(&copied.path)?;
        Ok(Some(Self { _copied: Some(copied), ..opened }))
    }
}

impl Trees for SledTrees {
    fn tree(&self, name: &str) -> Result<Box<dyn Tree>, CheckpointError> {
        let tree = self.doubt.unless(self.db.open_tree(name))?;
        Ok(Box::new(SledTree { tree, doubt: Arc::clone(&self.doubt) }))
    }

    fn sync(&self) -> Result<(), CheckpointError> {
        self.doubt.unless(self.db.flush())?;
        // `flush` only hands the bytes to the kernel (`sync_file_range`); this reaches the disk.
        self.doubt.unless(self.file.sync_all()).map_err(CheckpointError::io("sync", &self.file_path))
    }

    fn bytes_on_disk(&self) -> Result<u64, CheckpointError> {
        Ok(self.db.size_on_disk()?)
    }
}

#[derive(Debug)]
struct SledTree {
    tree: sled::Tree,
    doubt: Arc<Doubt<MachineDisk>>,
}

impl Tree for SledTree {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, CheckpointError> {
        Ok(self.tree.get(key)?.map(Value))
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        self.doubt.unless(self.tree.insert(key, value))?;
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), CheckpointError> {
        self.doubt.unless(self.tree.remove(key))?;
        Ok(())
    }

    fn apply_batch(&self, batch: TreeBatch) -> Result<(), CheckpointError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        Ok(self.doubt.unless(self.tree.apply_batch(changes))?)
    }

    fn range(&self, begin: &[u8], end: Option<&[u8]>) -> Entries<'_> {
        let entries = match end {
            Some(end) => self.tree.range(begin..end),
            None => self.tree.range(begin..),
        };
        Box::new(entries.map(|entry| {
            let (key, value) = entry?;
            Ok((Value(key), Value(value)))
        }))
    }

    fn last(&self) -> Result<Option<(Value, Value)>, CheckpointError> {
        Ok(self.tree.last()?.map(|(key, value)| (Value(key), Value(value))))
    }

    fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
}

/// Opens sled itself. Background threads of a store closed a moment ago may still hold its lock; our own LOCK file says
/// that nobody else does, so waiting is right.
fn open_sled(path: &Path) -> Result<sled::Db, CheckpointError> {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let opened = sled::Config::new()
            .path(path)
            // Small on purpose: rows are written once a round and read rarely; memory belongs to the actors.
            .cache_capacity(64 << 20)
            // Rounds flush; a timer would only add writes.
            .flush_every_ms(None)
            .open();
        match opened {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error)) if is_lock(&error) && Instant::now() < give_up => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// A copy of the store in the system's temporary directory, since sled writes even when it only reads.
#[derive(Debug)]
struct Copied {
    path: PathBuf,
}

impl Copied {
    fn of(store: &Path) -> io::Result<Self> {
        let mut random = [0; 8];
        MachineDisk.random(&mut random)?;
        let name = format!("doorbuster-verify-{:016x}", u64::from_le_bytes(random));
        let copied = Self { path: std::env::temp_dir().join(name) };
        copy_directory(store, &copied.path)?;
        Ok(copied)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
