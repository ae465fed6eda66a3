//! The key-value store under the checkpoints, as bad as the real one may be.
//!
//! A batch is whole or not there. At a power cut a prefix of the batches since the last sync survives. Damaged on purpose,
//! it silently loses a synced row or finds an older one in its place, which the engine's digest must notice; or a
//! read fails.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use doorbuster_persistence::disk::{Entries, Tree, TreeBatch, Trees, Value};
use doorbuster_persistence::error::CheckpointError;

use super::process::ProcessDisk;
use super::{Happened, State, off, strike};
use crate::random::Random;

type Rows = BTreeMap<Vec<u8>, Value>;

/// Changes of one tree that happen together; `None` removes.
#[derive(Clone, Debug)]
struct Batch {
    tree: String,
    changes: Vec<(Vec<u8>, Option<Value>)>,
}

impl Batch {
    fn apply(&self, trees: &mut BTreeMap<String, Rows>) {
        let rows = trees.entry(self.tree.clone()).or_default();
        for (key, value) in &self.changes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
    }
}

/// A store's trees, in memory and on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    seen: BTreeMap<String, Rows>,
    synced: BTreeMap<String, Rows>,
    unsynced: Vec<Batch>,
    /// Bytes of keys and values in `seen`.
    bytes: u64,
    /// What some synced rows were before: tree, key, value.
    older: Vec<(String, Vec<u8>, Value)>,
}

impl Store {
    /// Older rows kept for a damage; the newest of them.
    const OLDER_MAX: usize = 64;

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same rows, nothing unsynced.
    pub(super) fn copy(&self) -> Self {
        Self { seen: self.seen.clone(), synced: self.seen.clone(), bytes: self.bytes, ..Self::default() }
    }

    fn change(&mut self, batch: Batch) {
        let rows = self.seen.entry(batch.tree.clone()).or_default();
        for (key, value) in &batch.changes {
            let size = |value: &Value| (key.len() + value.len()) as u64;
            self.bytes += value.as_ref().map_or(0, size);
            let before = match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
            self.bytes -= before.as_ref().map_or(0, size);
        }
        self.unsynced.push(batch);
    }

    fn sync(&mut self) {
        for batch in std::mem::take(&mut self.unsynced) {
            if let Some(rows) = self.synced.get(&batch.tree) {
                for (key, _) in &batch.changes {
                    if let Some(before) = rows.get(key) {
                        self.older.push((batch.tree.clone(), key.clone(), before.clone()));
                    }
                }
            }
            batch.apply(&mut self.synced);
        }
        let excess = self.older.len().saturating_sub(Self::OLDER_MAX);
        self.older.drain(..excess);
    }

    /// A sync that failed: its batches can be read, and never reach the disk, but for a prefix.
    fn fail_sync(&mut self, random: &mut Random) {
        let kept = random.index(self.unsynced.len() + 1);
        for batch in self.unsynced.drain(..).take(kept) {
            batch.apply(&mut self.synced);
        }
    }

    /// The power fails.
    pub(super) fn cut(&mut self, random: &mut Random, damage: bool, happened: &mut Happened) {
        let kept = random.index(self.unsynced.len() + 1);
        happened.batches_kept += kept as u64;
        happened.batches_lost += (self.unsynced.len() - kept) as u64;
        for batch in self.unsynced.drain(..).take(kept) {
            batch.apply(&mut self.synced);
        }
        if damage && self.damage(random) {
            happened.rows_damaged += 1;
        }
        self.settle();
    }

    /// As a cut with damage does, at once.
    pub(super) fn damage_now(&mut self, random: &mut Random) -> bool {
        self.sync();
        let damaged = self.damage(random);
        self.settle();
        damaged
    }

    /// Reads what is on the disk from here on.
    fn settle(&mut self) {
        self.seen.clone_from(&self.synced);
        let sizes = self.seen.values().flatten().map(|(key, value)| (key.len() + value.len()) as u64);
        self.bytes = sizes.sum();
    }

    /// Puts an older row back, or loses one.
    fn damage(&mut self, random: &mut Random) -> bool {
        if !self.older.is_empty() && random.one_in(2) {
            let (tree, key, before) = random.pick(&self.older).clone();
            let rows = self.synced.entry(tree).or_default();
            if rows.get(&key) != Some(&before) {
                rows.insert(key, before);
                return true;
            }
        }
        let Some(rows) = self.synced.get_mut("rows") else { return false };
        if rows.is_empty() {
            return false;
        }
        let at = random.index(rows.len());
        let key = rows.keys().nth(at).cloned();
        key.is_some_and(|key| rows.remove(&key).is_some())
    }
}

/// A process's way to one store.
#[derive(Clone, Debug)]
pub(super) struct ProcessTrees {
    disk: ProcessDisk,
    node: u64,
    batch_rows: usize,
}

impl ProcessTrees {
    /// In some lives rows come in many small batches, so that a crash finds part of a round written; in some in one.
    pub(super) fn new(disk: ProcessDisk, node: u64) -> Self {
        const BATCHES: [usize; 4] = [3, 256, 1, 20];
        let batch_rows = usize::try_from(disk.life()).map_or(1, |life| BATCHES[life % BATCHES.len()]);
        Self { disk, node, batch_rows }
    }

    fn operate<T>(
        &self,
        operation: impl FnOnce(&mut State, &mut Store) -> io::Result<T>,
    ) -> Result<T, CheckpointError> {
        let done = self.disk.operate(|state| {
            let mut store = state.stores.remove(&self.node).ok_or_else(off)?;
            let done = operation(state, &mut store);
            state.stores.insert(self.node, store);
            done
        });
        done.map_err(|error| CheckpointError::of_store(&error))
    }

    /// Reads rows of one tree.
    fn read<T>(&self, tree: &str, see: impl FnOnce(&Rows) -> T) -> Result<T, CheckpointError> {
        let empty = Rows::new();
        self.operate(|state, store| {
            if strike(&mut state.faults.fail_store_read_in) {
                state.happened.store_reads_failed += 1;
                return Err(io::Error::from_raw_os_error(5));
            }
            Ok(see(store.seen.get(tree).unwrap_or(&empty)))
        })
    }

    fn change(&self, tree: &str, changes: Vec<(Vec<u8>, Option<Value>)>) -> Result<(), CheckpointError> {
        self.operate(|state, store| {
            state.dawdle();
            if strike(&mut state.faults.fail_store_write_in) {
                state.happened.store_writes_failed += 1;
                return Err(io::Error::from_raw_os_error(5));
            }
            let size = |(key, value): &(Vec<u8>, Option<Value>)| {
                value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64)
            };
            state.allot_beside(changes.iter().map(size).sum(), store.bytes)?;
            store.change(Batch { tree: tree.to_owned(), changes });
            Ok(())
        })
    }
}

impl Trees for ProcessTrees {
    fn tree(&self, name: &str) -> Result<Box<dyn Tree>, CheckpointError> {
        Ok(Box::new(ProcessTree { trees: self.clone(), name: name.to_owned() }))
    }

    fn sync(&self) -> Result<(), CheckpointError> {
        self.operate(|state, store| {
            state.dawdle();
            if strike(&mut state.faults.fail_sync_in) {
                state.happened.syncs_failed += 1;
                store.fail_sync(&mut state.random);
                return Err(io::Error::from_raw_os_error(5));
            }
            store.sync();
            Ok(())
        })
    }

    fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    fn bytes_on_disk(&self) -> Result<u64, CheckpointError> {
        self.operate(|_, store| Ok(store.bytes))
    }
}

#[derive(Clone, Debug)]
struct ProcessTree {
    trees: ProcessTrees,
    name: String,
}

impl Tree for ProcessTree {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, CheckpointError> {
        self.trees.read(&self.name, |rows| rows.get(key).cloned())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        self.trees.change(&self.name, vec![(key.to_vec(), Some(value.into()))])
    }

    fn remove(&self, key: &[u8]) -> Result<(), CheckpointError> {
        self.trees.change(&self.name, vec![(key.to_vec(), None)])
    }

    fn apply_batch(&self, batch: TreeBatch) -> Result<(), CheckpointError> {
        let changes = batch.into_changes().map(|(key, value)| (key, value.map(Value::from)));
        self.trees.change(&self.name, changes.collect())
    }

    fn range(&self, begin: &[u8], end: Option<&[u8]>) -> Entries<'_> {
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_vec()));
        Box::new(Walk { tree: self, front: Bound::Included(begin.to_vec()), back: end, failed: false })
    }

    fn last(&self) -> Result<Option<(Value, Value)>, CheckpointError> {
        self.trees.read(&self.name, |rows| rows.last_key_value().map(entry))
    }

    fn is_empty(&self) -> bool {
        self.trees.read(&self.name, Rows::is_empty).unwrap_or(false)
    }
}

fn entry((key, value): (&Vec<u8>, &Value)) -> (Value, Value) {
    (Value::from(key.as_slice()), value.clone())
}

/// Walks a tree entry by entry, so that a walk that ends early costs little. Sees changes ahead of it.
struct Walk<'a> {
    tree: &'a ProcessTree,
    front: Bound<Vec<u8>>,
    back: Bound<Vec<u8>>,
    failed: bool,
}

impl Walk<'_> {
    /// Whether no key can lie between the bounds; a map's range would panic on some of these.
    fn is_over(&self) -> bool {
        match (&self.front, &self.back) {
            (Bound::Included(front), Bound::Included(back)) => front > back,
            (Bound::Included(front) | Bound::Excluded(front), Bound::Excluded(back))
            | (Bound::Excluded(front), Bound::Included(back)) => front >= back,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }

    fn step(&mut self, from_back: bool) -> Option<Result<(Value, Value), CheckpointError>> {
        if self.failed || self.is_over() {
            return None;
        }
        let read = self.tree.trees.read(&self.tree.name, |rows| {
            let mut range = rows.range::<Vec<u8>, _>((self.front.as_ref(), self.back.as_ref()));
            if from_back { range.next_back() } else { range.next() }.map(entry)
        });
        match read {
            Ok(found) => {
                let found = found?;
                let bound = Bound::Excluded(found.0.to_vec());
                *(if from_back { &mut self.back } else { &mut self.front }) = bound;
                Some(Ok(found))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Value, Value), CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl DoubleEndedIterator for Walk<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}
