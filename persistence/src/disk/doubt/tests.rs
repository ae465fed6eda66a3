//! A disk that does with a failed sync what Linux does, and what settling a doubt makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::disk::{DiskFile, MachineDisk, Trees};
use crate::error::CheckpointError;

const PAGE: usize = 4_096;

/// The real files are what everybody reads, the machine's memory; what is on the disk is kept beside them.
#[derive(Clone, Debug, Default)]
struct ForgetfulDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Pages>,
    failing_syncs: usize,
    /// Syncs and removals that succeeded, by name.
    done: Vec<String>,
}

#[derive(Debug, Default)]
struct Pages {
    dirty: BTreeSet<usize>,
    on_disk: Vec<u8>,
}

#[derive(Debug)]
struct ForgetfulFile {
    disk: ForgetfulDisk,
    path: PathBuf,
    memory: Box<dyn DiskFile>,
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl DiskFile for ForgetfulFile {
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let begin = usize::try_from(offset).unwrap();
        let mut state = self.disk.0.lock();
        let pages = state.files.entry(self.path.clone()).or_default();
        pages.dirty.extend(begin / PAGE..(begin + length).div_ceil(PAGE));
        self.memory.write_all_at(parts, offset)
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let fails = state.failing_syncs > 0;
        state.failing_syncs = state.failing_syncs.saturating_sub(1);
        let pages = state.files.entry(self.path.clone()).or_default();
        let dirty = std::mem::take(&mut pages.dirty);
        if fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut memory = Vec::new();
        self.memory.read_all(&mut memory)?;
        pages.on_disk.resize(memory.len(), 0);
        for page in dirty {
            let piece = page * PAGE..((page + 1) * PAGE).min(memory.len());
            pages.on_disk[piece.clone()].copy_from_slice(&memory[piece]);
        }
        state.done.push(format!("sync {}", name(&self.path)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn read_all(&self, into: &mut Vec<u8>) -> io::Result<()> {
        self.memory.read_all(into)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.memory.read_exact_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.memory.length()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.memory.set_len(bytes)
    }
}

impl Disk for ForgetfulDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let memory = MachineDisk.open(path, mode)?;
        Ok(Box::new(ForgetfulFile { disk: self.clone(), path: path.to_path_buf(), memory }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().done.push(format!("remove {}", name(path)));
        MachineDisk.remove(path)
    }

    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        MachineDisk.create_directory(path, mode)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        MachineDisk.list(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        MachineDisk.rename(from, to)
    }

    fn exists(&self, path: &Path) -> bool {
        MachineDisk.exists(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Disk::length(&MachineDisk, path)
    }

    fn same_file(&self, one: &Path, other: &Path) -> bool {
        MachineDisk.same_file(one, other)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        MachineDisk.sync_directory(directory)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        MachineDisk.free_bytes(path)
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Held>>> {
        MachineDisk.lock(path, kind)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        MachineDisk.random(bytes)
    }

    fn trees(&self, path: &Path) -> Result<Box<dyn Trees>, CheckpointError> {
        MachineDisk.trees(path)
    }

    fn trees_copy(&self, path: &Path) -> Result<Option<Box<dyn Trees>>, CheckpointError> {
        MachineDisk.trees_copy(path)
    }
}

/// A store of two files: the old bytes are on the disk, new ones were written, and a sync of both failed.
struct Scene {
    root: tempfile::TempDir,
    disk: ForgetfulDisk,
    doubt: Doubt<ForgetfulDisk>,
}

const FILES: [&str; 2] = ["db", "blobs/large"];

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("blobs")).unwrap();
        let disk = ForgetfulDisk::default();
        let doubt = Doubt::of(disk.clone(), root.path());
        let scene = Self { root, disk, doubt };
        for path in FILES {
            let mode = OpenMode::CreateNew { mode: 0o600 };
            let file = scene.disk.open(&scene.root.path().join(path), mode).unwrap();
            // More than one step, and no whole page at the end.
            let length = Doubt::<ForgetfulDisk>::STEP_BYTES + 3 * PAGE + 7;
            file.write_all_at(&mut [IoSlice::new(&vec![1; length])], 0).unwrap();
            file.sync_all().unwrap();
            file.write_all_at(&mut [IoSlice::new(&vec![2; length])], 0).unwrap();
            scene.disk.0.lock().failing_syncs = 1;
            scene.doubt.unless(file.sync_all()).unwrap_err();
        }
        scene
    }

    fn sync(&self) {
        for path in FILES {
            self.disk.open(&self.root.path().join(path), OpenMode::Write).unwrap().sync_all().unwrap();
        }
        self.disk.0.lock().done.clear();
    }

    /// Which bytes a power cut would leave of all files.
    fn on_disk(&self) -> BTreeSet<u8> {
        let state = self.disk.0.lock();
        let paths = FILES.map(|path| self.root.path().join(path));
        paths.iter().flat_map(|path| state.files[path].on_disk.iter().copied()).collect()
    }

    fn is_noted(&self) -> bool {
        self.doubt.note.exists()
    }
}

#[test]
fn what_a_failed_sync_left_in_memory_only_is_written_again_when_the_store_is_opened_next() {
    let scene = Scene::new();
    scene.sync();
    assert_eq!(scene.on_disk(), BTreeSet::from([1]), "a later sync alone brings nothing to the disk");
    assert!(scene.is_noted());
    scene.doubt.settle().unwrap();
    assert_eq!(scene.on_disk(), BTreeSet::from([2]), "everything that is read is on the disk");
    assert!(!scene.is_noted());
    let done = std::mem::take(&mut scene.disk.0.lock().done);
    assert_eq!(done, ["sync large", "sync db", "sync written-in-doubt", "remove written-in-doubt"]);
    scene.doubt.settle().unwrap();
    assert!(scene.disk.0.lock().done.is_empty(), "without a note nothing is written");
}

#[test]
fn a_doubt_stays_until_all_was_synced() {
    let scene = Scene::new();
    for _ in FILES {
        scene.disk.0.lock().failing_syncs = 1;
        scene.doubt.settle().unwrap_err();
        assert!(scene.is_noted());
    }
    scene.doubt.settle().unwrap();
    assert_eq!(scene.on_disk(), BTreeSet::from([2]));
    assert!(!scene.is_noted());
}

#[test]
fn a_doubt_is_settled_once_the_store_was_let_go() {
    let scene = Scene::new();
    let held = MachineDisk.lock(&scene.root.path().join("db"), LockKind::Exclusive).unwrap().unwrap();
    thread::scope(|threads| {
        let settling = threads.spawn(|| scene.doubt.settle());
        thread::sleep(Duration::from_millis(100));
        assert_eq!(scene.on_disk(), BTreeSet::from([1]), "the former user may still write");
        drop(held);
        settling.join().unwrap().unwrap();
    });
    assert_eq!(scene.on_disk(), BTreeSet::from([2]));
}

#[test]
fn only_a_failure_is_noted() {
    let root = tempfile::tempdir().unwrap();
    let doubt = Doubt::of(MachineDisk, root.path());
    doubt.unless(Ok::<(), ()>(())).unwrap();
    assert!(!doubt.note.exists());
    doubt.unless(Err::<(), ()>(())).unwrap_err();
    assert!(doubt.note.exists());
    doubt.settle().unwrap();
    assert!(!doubt.note.exists(), "a directory without a store has nothing to write");
}
