//! The real machine: `std::fs`, the kernel's vectored writes and locks, its randomness, and sled.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::store::SledTrees;
use super::{Disk, DiskFile, Held, LockKind, OpenMode, Trees};
use crate::error::CheckpointError;

/// The disk of the machine this process runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineDisk;

impl Disk for MachineDisk {
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew { mode } => {
                options.write(true).create_new(true).mode(mode);
            }
            OpenMode::Replace { mode } => {
                options.write(true).create(true).truncate(true).mode(mode);
            }
        }
        Ok(Box::new(MachineFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn same_file(&self, one: &Path, other: &Path) -> bool {
        match (one.metadata(), other.metadata()) {
            (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
            _ => false,
        }
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(path)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Held>>> {
        let (file, locked) = match kind {
            LockKind::Exclusive => {
                let options =
                    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
                let file = options?;
                let locked = file.try_lock();
                (file, locked)
            }
            LockKind::Shared => {
                let file = File::open(path)?;
                let locked = file.try_lock_shared();
                (file, locked)
            }
        };
        match locked {
            Ok(()) => Ok(Some(Box::new(HeldFile { file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
    }

    fn trees(&self, path: &Path) -> Result<Box<dyn Trees>, CheckpointError> {
        Ok(Box::new(SledTrees::open(path)?))
    }

    fn trees_copy(&self, path: &Path) -> Result<Option<Box<dyn Trees>>, CheckpointError> {
        match SledTrees::open_copy(path)? {
            Some(trees) => Ok(Some(Box::new(trees))),
            None => Ok(None),
        }
    }
}

/// The kernel drops the lock with the last descriptor, also when the process is killed.
#[derive(Debug)]
struct HeldFile {
    file: File,
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // A child between fork and exec has a copy of the descriptor, and would hold the lock that long.
        let _ = self.file.unlock();
    }
}

impl Held for HeldFile {}

#[derive(Debug)]
struct MachineFile(File);

impl DiskFile for MachineFile {
    /// In as few system calls as the kernel allows.
    fn write_all_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        /// Linux takes at most 1,024 slices a call.
        const SLICES_MAX: usize = 1_024;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let count = parts.len().min(SLICES_MAX);
            match rustix::io::pwritev(&self.0, &parts[..count], offset) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_all(&self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(into)?;
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
