//! The disk as one process sees it: the engine's own traits over a [`Machine`], until the process is dead.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use doorbuster_persistence::disk::{Disk, DiskFile, Held, LockKind, OpenMode, Trees};
use doorbuster_persistence::error::CheckpointError;

use super::content::Content;
use super::names::Node;
use super::store::{ProcessTrees, Store};
use super::{Machine, State, off, strike};

/// A process's way to the machine.
#[derive(Clone, Debug)]
pub(super) struct ProcessDisk {
    machine: Machine,
    life: u64,
}

impl ProcessDisk {
    pub(super) fn new(machine: Machine, life: u64) -> Self {
        Self { machine, life }
    }

    /// Which of the machine's lives it is of.
    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// Carries out one operation, unless the process is dead; it may die before or after.
    pub(super) fn operate<T>(&self, operation: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.machine.lock();
        state.enter(self.life)?;
        let done = operation(&mut state);
        state.leave()?;
        done
    }

    /// Looks without an operation; `None` for a dead process.
    pub(super) fn look(&self) -> Option<MutexGuard<'_, State>> {
        let state = self.machine.lock();
        (!state.is_off && state.life == self.life).then_some(state)
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn taken() -> io::Error {
    io::Error::from(io::ErrorKind::AlreadyExists)
}

/// A new file at `path`, whose directory must be there.
fn create(state: &mut State, path: &Path) -> io::Result<u64> {
    let parent = path.parent().and_then(|parent| state.names.get(parent));
    if parent != Some(Node::Directory) {
        return Err(missing());
    }
    let node = state.node();
    state.files.insert(node, Content::default());
    state.names.link(path, Node::File(node));
    Ok(node)
}

impl Disk for ProcessDisk {
    fn create_directory(&self, path: &Path, _mode: u32) -> io::Result<()> {
        self.operate(|state| {
            let mut above: Vec<&Path> = path.ancestors().collect();
            above.reverse();
            for directory in above {
                match state.names.get(directory) {
                    Some(Node::Directory) => {}
                    Some(Node::File(_) | Node::Store(_)) => return Err(taken()),
                    None => state.names.link(directory, Node::Directory),
                }
            }
            Ok(())
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.operate(|state| match state.names.get(directory) {
            Some(Node::Directory) => Ok(state.names.list(directory)),
            Some(Node::File(_) | Node::Store(_)) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            None => Err(missing()),
        })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let node = self.operate(|state| match (state.names.get(path), mode) {
            (Some(Node::File(_)), OpenMode::CreateNew { .. }) => Err(taken()),
            (Some(Node::File(node)), OpenMode::Replace { .. }) => {
                if let Some(content) = state.files.get_mut(&node) {
                    content.set_length(0);
                }
                Ok(node)
            }
            (Some(Node::File(node)), OpenMode::Read | OpenMode::Write) => Ok(node),
            (Some(Node::Directory | Node::Store(_)), _) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            (None, OpenMode::CreateNew { .. } | OpenMode::Replace { .. }) => create(state, path),
            (None, OpenMode::Read | OpenMode::Write) => Err(missing()),
        })?;
        Ok(Box::new(ProcessFile { disk: self.clone(), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|state| match (state.names.get(from), state.names.get(to)) {
            (None, _) => Err(missing()),
            // Nothing in a data directory is moved with files below it.
            (Some(Node::Directory), _) => Err(io::Error::from(io::ErrorKind::Unsupported)),
            (Some(_), Some(Node::Directory | Node::Store(_))) => Err(taken()),
            (Some(node), Some(Node::File(_)) | None) => {
                state.names.rename(from, to, node);
                Ok(())
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| match state.names.get(path) {
            Some(Node::File(_)) => {
                state.names.unlink(path);
                Ok(())
            }
            Some(Node::Directory | Node::Store(_)) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(missing()),
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.look().is_some_and(|state| state.names.get(path).is_some())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.operate(|state| {
            state.file_at(path).map(|content| content.seen().len() as u64).ok_or_else(missing)
        })
    }

    fn same_file(&self, one: &Path, other: &Path) -> bool {
        self.look().is_some_and(|state| match (state.names.get(one), state.names.get(other)) {
            (Some(one), Some(other)) => one == other && one != Node::Directory,
            (None, _) | (_, None) => false,
        })
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.operate(|state| match state.names.get(directory) {
            Some(Node::Directory | Node::Store(_)) => {
                state.dawdle();
                state.names.sync(directory);
                Ok(())
            }
            Some(Node::File(_)) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            None => Err(missing()),
        })
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.operate(|state| Ok(state.capacity_now_bytes.saturating_sub(state.used_bytes())))
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Held>>> {
        let locked = self.operate(|state| {
            match (state.names.get(path), kind) {
                (Some(Node::File(_)), _) => {}
                (Some(Node::Directory | Node::Store(_)), _) => {
                    return Err(io::Error::from(io::ErrorKind::IsADirectory));
                }
                (None, LockKind::Exclusive) => {
                    create(state, path)?;
                }
                (None, LockKind::Shared) => return Err(missing()),
            }
            let held = state.locks.get(path).copied();
            let next = match (held, kind) {
                (None, LockKind::Exclusive) => 0,
                (None, LockKind::Shared) => 1,
                (Some(readers), LockKind::Shared) if readers > 0 => readers + 1,
                (Some(_), LockKind::Exclusive | LockKind::Shared) => return Ok(false),
            };
            state.locks.insert(path.to_path_buf(), next);
            Ok(true)
        })?;
        let held = || Box::new(HeldLock { disk: self.clone(), path: path.to_path_buf() }) as Box<dyn Held>;
        Ok(locked.then(held))
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.operate(|state| {
            for byte in bytes {
                *byte = state.random.bits().to_le_bytes()[0];
            }
            Ok(())
        })
    }

    fn trees(&self, path: &Path) -> Result<Box<dyn Trees>, CheckpointError> {
        let node = self.operate(|state| match state.names.get(path) {
            Some(Node::Store(node)) => Ok(node),
            Some(Node::File(_) | Node::Directory) => Err(taken()),
            None => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                if state.names.get(parent) != Some(Node::Directory) {
                    return Err(missing());
                }
                let node = state.node();
                state.stores.insert(node, Store::default());
                state.names.link(path, Node::Store(node));
                // As opening the real one does.
                state.names.sync(parent);
                Ok(node)
            }
        });
        let node = node.map_err(|error| CheckpointError::of_store(&error))?;
        Ok(Box::new(ProcessTrees::new(self.clone(), node)))
    }

    fn trees_copy(&self, path: &Path) -> Result<Option<Box<dyn Trees>>, CheckpointError> {
        let copied = self.operate(|state| match state.names.get(path) {
            Some(Node::Store(node)) => Ok(state.stores.get(&node).map(Store::copy)),
            Some(Node::File(_) | Node::Directory) => Err(taken()),
            None => Ok(None),
        });
        let Some(store) = copied.map_err(|error| CheckpointError::of_store(&error))? else { return Ok(None) };
        // On a machine of its own, so that nothing done to it reaches this one.
        let machine = Machine::new(self.machine.lock().random.clone(), u64::MAX);
        {
            let mut state = machine.lock();
            state.is_off = false;
            state.stores.insert(0, store);
        }
        Ok(Some(Box::new(ProcessTrees::new(Self { machine, life: 0 }, 0))))
    }
}

/// Given back when dropped, or when the process dies.
#[derive(Debug)]
struct HeldLock {
    disk: ProcessDisk,
    path: PathBuf,
}

impl Held for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let Some(mut state) = self.disk.look() else { return };
        match state.locks.get(&self.path).copied() {
            Some(readers) if readers > 1 => {
                state.locks.insert(self.path.clone(), readers - 1);
            }
            Some(_) | None => {
                state.locks.remove(&self.path);
            }
        }
    }
}

#[derive(Debug)]
struct ProcessFile {
    disk: ProcessDisk,
    node: u64,
}

impl ProcessFile {
    fn operate<T>(&self, operation: impl FnOnce(&mut State, &mut Content) -> io::Result<T>) -> io::Result<T> {
        self.disk.operate(|state| {
            // Taken out for the time being, so that state and content can be changed together.
            let mut content = state.files.remove(&self.node).ok_or_else(off)?;
            let done = operation(state, &mut content);
            state.files.insert(self.node, content);
            done
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.operate(|state, content| {
            state.dawdle();
            if strike(&mut state.faults.fail_sync_in) {
                state.happened.syncs_failed += 1;
                content.fail_sync(&mut state.random);
                return Err(io::Error::from_raw_os_error(5));
            }
            content.sync();
            Ok(())
        })
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a simulated file fits into memory")
}

impl DiskFile for ProcessFile {
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.operate(|state, content| {
            state.dawdle();
            let mut bytes: Vec<u8> = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
            for part in &*parts {
                bytes.extend_from_slice(part);
            }
            let length = content.seen().len();
            let growth = (index(offset) + bytes.len()).saturating_sub(length);
            // The content is out of the table just now.
            state.allot_beside(growth as u64, length as u64)?;
            if strike(&mut state.faults.fail_write_in) {
                state.happened.writes_failed += 1;
                bytes.truncate(state.random.index(bytes.len() + 1));
                content.write(index(offset), bytes);
                return Err(io::Error::from_raw_os_error(5));
            }
            content.write(index(offset), bytes);
            Ok(())
        })
    }

    fn read_all(&self, into: &mut Vec<u8>) -> io::Result<()> {
        self.operate(|_, content| {
            into.extend_from_slice(content.seen());
            Ok(())
        })
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.operate(|_, content| {
            let from = index(offset);
            let found = content.seen().get(from..from + bytes.len());
            bytes.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.operate(|_, content| Ok(content.seen().len() as u64))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.operate(|state, content| {
            let length = content.seen().len() as u64;
            state.allot_beside(bytes.saturating_sub(length), length)?;
            content.set_length(index(bytes));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }
}
