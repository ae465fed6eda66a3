//! The key-value store under the checkpoints: ordered trees by name, changed by atomic batches.
//!
//! It promises little on purpose, since nothing here is trusted further than its own hashes: a batch is applied whole or
//! not at all, batches of one tree survive in their order, and only [`Trees::sync`] makes them durable (law 3 does not rest
//! on it; the journal rebuilds what is lost).

use std::fmt::Debug;
use std::ops::Deref;

use crate::error::CheckpointError;

/// Bytes as they lie in the store; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub(super) sled::IVec);

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// Key and value, one after another, from either end.
pub type Entries<'a> = Box<dyn DoubleEndedIterator<Item = Result<(Value, Value), CheckpointError>> + 'a>;

/// A store of ordered trees. For any thread.
pub trait Trees: Send + Sync + Debug {
    /// The tree of this name, made where it is missing.
    fn tree(&self, name: &str) -> Result<Box<dyn Tree>, CheckpointError>;

    /// Makes everything that was put into any tree before durable.
    fn sync(&self) -> Result<(), CheckpointError>;

    /// How many rows are written in one atomic batch: large enough to share its cost, small enough to leave readers alone.
    fn batch_rows(&self) -> usize {
        256
    }

    /// Bytes the store takes on disk.
    fn bytes_on_disk(&self) -> Result<u64, CheckpointError>;
}

/// One tree. For any thread.
pub trait Tree: Send + Sync + Debug {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, CheckpointError>;

    /// Puts a value, replacing the one under its key.
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError>;

    /// Removes what is under `key`.
    fn remove(&self, key: &[u8]) -> Result<(), CheckpointError>;

    /// Applies all of `batch` or nothing.
    fn apply_batch(&self, batch: TreeBatch) -> Result<(), CheckpointError>;

    /// Entries with `begin <= key`, and `key < end` where there is an end, in the order of keys.
    fn range(&self, begin: &[u8], end: Option<&[u8]>) -> Entries<'_>;

    /// The entry with the greatest key.
    fn last(&self) -> Result<Option<(Value, Value)>, CheckpointError>;

    /// Whether nothing is in it.
    fn is_empty(&self) -> bool;
}

/// Changes of one tree that happen together. Of several changes of one key the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeBatch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl TreeBatch {
    /// Puts a value, replacing the one under its key.
    pub fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Removes what is under `key`.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// The changes in the order they were made; `None` removes.
    pub fn into_changes(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.changes.into_iter()
    }
}
