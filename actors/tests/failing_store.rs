//! A checkpoint store that fails while serving: the engine goes on, and so do the checkpoints once it takes writes again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorbuster_engine::answer::Answer;
use doorbuster_persistence::disk::{
    Disk, DiskFile, Entries, Held, LockKind, MachineDisk, OpenMode, Tree, TreeBatch, Trees, Value,
};
use doorbuster_persistence::error::CheckpointError;
use doorbuster_persistence::writer::Durability;
use parking_lot::Mutex;

use crate::harness::{cart, define, record, reserve, stock};
use crate::recovery::{deliver, read_ledger};
use crate::stepped::{live_on, nothing_is_lost, sale};

type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A store as unkind as sled: after one failed write it takes none until it is opened anew, and then it knows only what
/// was synced.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a trouble of its own
pub(crate) struct Unkind {
    now: Content,
    synced: Content,
    /// Writes fail.
    failing: bool,
    /// One failed since the store was opened.
    poisoned: bool,
    /// The disk says that it is full.
    full: bool,
    /// No file can be made: the journal gets no further segment.
    pub(crate) takes_no_file: bool,
    opened: u32,
}

impl Unkind {
    fn write(&mut self) -> Result<&mut Content, CheckpointError> {
        self.poisoned |= self.failing;
        if self.poisoned {
            return Err(CheckpointError::Store { what: "no space left on device".into(), is_damage: false });
        }
        Ok(&mut self.now)
    }
}

/// The machine's disk, but for the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnkindDisk(pub(crate) Arc<Mutex<Unkind>>);

#[derive(Debug)]
struct UnkindTree(Arc<Mutex<Unkind>>, String);

impl Trees for UnkindDisk {
    fn tree(&self, name: &str) -> Result<Box<dyn Tree>, CheckpointError> {
        self.0.lock().now.entry(name.to_owned()).or_default();
        Ok(Box::new(UnkindTree(Arc::clone(&self.0), name.to_owned())))
    }

    fn sync(&self) -> Result<(), CheckpointError> {
        let mut unkind = self.0.lock();
        unkind.synced = unkind.write()?.clone();
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, CheckpointError> {
        Ok(0)
    }
}

impl Tree for UnkindTree {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, CheckpointError> {
        Ok(self.0.lock().now[&self.1].get(key).map(|value| value.as_slice().into()))
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        let mut batch = TreeBatch::default();
        batch.insert(key.to_vec(), value.to_vec());
        self.apply_batch(batch)
    }

    fn remove(&self, key: &[u8]) -> Result<(), CheckpointError> {
        let mut batch = TreeBatch::default();
        batch.remove(key.to_vec());
        self.apply_batch(batch)
    }

    fn apply_batch(&self, batch: TreeBatch) -> Result<(), CheckpointError> {
        let mut unkind = self.0.lock();
        let tree = unkind.write()?.entry(self.1.clone()).or_default();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => tree.insert(key, value),
                None => tree.remove(&key),
            };
        }
        Ok(())
    }

    fn range(&self, begin: &[u8], end: Option<&[u8]>) -> Entries<'_> {
        let unkind = self.0.lock();
        let within = unkind.now[&self.1]
            .range(begin.to_vec()..)
            .take_while(|(key, _)| end.is_none_or(|end| key.as_slice() < end));
        let entries: Vec<_> =
            within.map(|(key, value)| Ok((key.clone().into(), value.clone().into()))).collect();
        Box::new(entries.into_iter())
    }

    fn last(&self) -> Result<Option<(Value, Value)>, CheckpointError> {
        let unkind = self.0.lock();
        let last = unkind.now[&self.1].last_key_value();
        Ok(last.map(|(key, value)| (key.clone().into(), value.clone().into())))
    }

    fn is_empty(&self) -> bool {
        self.0.lock().now[&self.1].is_empty()
    }
}

impl Disk for UnkindDisk {
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        // The journal's disk is another one.
        if self.0.lock().full && path.ends_with("checkpoint") { Ok(0) } else { MachineDisk.free_bytes(path) }
    }

    fn trees(&self, _: &Path) -> Result<Box<dyn Trees>, CheckpointError> {
        let mut unkind = self.0.lock();
        unkind.opened += 1;
        unkind.poisoned = false;
        unkind.now = unkind.synced.clone();
        Ok(Box::new(self.clone()))
    }

    fn trees_copy(&self, _: &Path) -> Result<Option<Box<dyn Trees>>, CheckpointError> {
        Ok(None)
    }

    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        MachineDisk.create_directory(path, mode)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        MachineDisk.list(directory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if matches!(mode, OpenMode::CreateNew { .. }) && self.0.lock().takes_no_file {
            return Err(io::ErrorKind::StorageFull.into());
        }
        MachineDisk.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        MachineDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        MachineDisk.remove(path)
    }

    fn exists(&self, path: &Path) -> bool {
        MachineDisk.exists(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        MachineDisk.length(path)
    }

    fn same_file(&self, one: &Path, other: &Path) -> bool {
        MachineDisk.same_file(one, other)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        MachineDisk.sync_directory(directory)
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Held>>> {
        MachineDisk.lock(path, kind)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        MachineDisk.random(bytes)
    }
}

/// What befalls the store.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Writes,
    Room,
    /// The disk says too late that it is full.
    Both,
}

#[test]
fn checkpoints_go_on_when_the_store_takes_writes_again_and_miss_nothing() {
    for (seed, trouble, lasts_ms) in [
        (1, Trouble::Writes, 150),
        (2, Trouble::Writes, 2_500),
        (3, Trouble::Room, 2_500),
        (4, Trouble::Both, 2_500),
    ] {
        let label = format!("seed {seed}, {trouble:?} for {lasts_ms} ms");
        let data = tempfile::tempdir().unwrap();
        let disk = UnkindDisk::default();
        let on_disk = |options: &mut doorbuster_actors::EngineOptions| {
            options.disk = Arc::new(disk.clone());
            // The process is killed here, not the machine.
            options.durability = Durability::Memory;
        };
        let (told, created, lone, ledger) = live_on(data.path(), seed, on_disk, async |engine, stepped| {
            let rounds = || stepped.borrow().checkpoint_rounds();
            let told =
                sale(engine.clone(), std::rc::Rc::clone(&stepped), seed, Duration::from_millis(900)).await;
            let before = rounds();
            assert!(before > 1, "{label}: rounds before");
            {
                let mut unkind = disk.0.lock();
                unkind.failing = !matches!(trouble, Trouble::Room);
                unkind.full = matches!(trouble, Trouble::Room);
            }
            // These change once, while the store fails.
            define(&engine, "LONE", 7).await;
            let lone = record(reserve(&engine, "lone", &[("LONE", 1)], Some(3_600_000)).await);
            let created = cart(&engine, "lone cart", &[("LONE", 2)]).await;
            deliver(&engine, "LONE", 300).await;
            let ledger = read_ledger(&engine, "LONE").await;
            assert_eq!(ledger.len(), 301, "{label}: pages the store would not take are read all the same");
            tokio::time::sleep(Duration::from_millis(lasts_ms)).await;
            assert!(
                rounds() <= before + 1,
                "{label}: only a round that was as good as done may count meanwhile"
            );
            {
                let mut unkind = disk.0.lock();
                (unkind.failing, unkind.full) = (false, false);
            }
            let failed_at = rounds();
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(rounds() > failed_at + 3, "{label}: {} rounds since", rounds() - failed_at);
            (told, created, lone, ledger)
        });
        let reopened = disk.0.lock().opened > 1;
        assert_eq!(reopened, !matches!(trouble, Trouble::Room), "{label}: opened anew where it failed");
        // Only what the marks stand for counts: the archive is taken away, and the start must not miss it.
        let archive = data.path().join("journal/archive");
        assert!(
            std::fs::read_dir(&archive).unwrap().count() > 0,
            "{label}: segments were archived behind the mark"
        );
        std::fs::remove_dir_all(&archive).unwrap();
        live_on(data.path(), seed + 100, on_disk, async |engine, _| {
            let seen = stock(&engine, "LONE").await;
            assert_eq!((seen.on_hand, seen.reserved), (307, 1), "{label}, law 3");
            assert_eq!(record(engine.reservation(lone.id).await), lone, "{label}, law 3");
            let Answer::Cart(back) = engine.cart(created.id).await.unwrap().answer else { panic!("no cart") };
            assert_eq!(*back, created, "{label}, law 3");
            assert_eq!(read_ledger(&engine, "LONE").await, ledger, "{label}, law 3");
            nothing_is_lost(&engine, seed, &told).await;
        });
    }
}
