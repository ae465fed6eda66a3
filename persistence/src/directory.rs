//! The data directory: one engine's home on disk, held by one engine at a time.
//!
//! ```text
//! LOCK                     flock'd while an engine runs
//! FORMAT                   format version and engine id
//! journal/*.segment        live segments      journal/archive/*.segment  those behind the checkpoint
//! checkpoint/              sled               checkpoint.damaged-<n>/    set aside, never deleted
//! secrets/<name>           32 bytes each, for this user's eyes
//! ```
//!
//! Start at [`DataDirectory::open`].

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Disk, Held, LockKind, MachineDisk, OpenMode};
use crate::error::StartError;

/// Format of the directory as a whole that this engine writes, and the newest it reads.
pub const DIRECTORY_FORMAT_VERSION: u32 = 2;

/// The oldest format it reads: what lies in an older directory has records and rows that no reader here knows, and is
/// refused before anything in it is touched.
const DIRECTORY_FORMAT_VERSION_OLDEST: u32 = 2;

/// Names one engine's data for ever, so that files of another never mix in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EngineId(pub [u8; 16]);

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the parts of a data directory lie, and on which disk.
#[derive(Clone, Debug)]
pub struct DataPaths {
    /// The directory itself.
    pub root: PathBuf,
    disk: Arc<dyn Disk>,
}

impl DataPaths {
    /// The data directory `root` of `disk`.
    pub fn new(disk: Arc<dyn Disk>, root: &Path) -> Self {
        Self { root: root.to_path_buf(), disk }
    }

    /// Where it all lies.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Live segments.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Segments behind the checkpoint.
    pub fn archive(&self) -> PathBuf {
        self.root.join("journal").join("archive")
    }

    /// sled's directory.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    fn format(&self) -> PathBuf {
        self.root.join("FORMAT")
    }

    fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }
}

/// An open data directory; the lock lasts as long as this value.
#[derive(Debug)]
pub struct DataDirectory {
    paths: DataPaths,
    engine: EngineId,
    _lock: Box<dyn Held>,
}

impl DataDirectory {
    /// Bytes that must be free beyond the journal's own segments: sled's first file and some air.
    const FREE_BYTES_MIN: u64 = 16 << 20;

    /// Opens the directory for serving, making it where it is missing.
    ///
    /// Refuses when another engine holds it, a newer engine wrote it, it cannot be written, or the disk is full.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        Self::open_on(Arc::new(MachineDisk), path)
    }

    /// As [`DataDirectory::open`], on a disk of the caller's.
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StartError> {
        let paths = DataPaths::new(disk, path);
        let disk = paths.disk.as_ref();
        let refuse = |error| Self::refusal(&paths, path, error);
        let made = path.ancestors().take_while(|above| !disk.exists(above)).count();
        disk.create_directory(&paths.archive(), 0o777).map_err(refuse)?;
        let locked = disk.lock(&paths.lock(), LockKind::Exclusive).map_err(refuse)?;
        let Some(lock) = locked else { return Err(StartError::Locked { path: path.to_path_buf() }) };
        let free_bytes = disk.free_bytes(path).map_err(refuse)?;
        if free_bytes < Self::FREE_BYTES_MIN {
            let needed_bytes = Self::FREE_BYTES_MIN;
            return Err(StartError::DiskFull { path: path.to_path_buf(), free_bytes, needed_bytes });
        }
        let engine = if let Some(engine) = read_format(&paths)? {
            engine
        } else {
            // A journal without its FORMAT would be read as another engine's; say so rather than make a new id.
            if has_segments(&paths).map_err(refuse)? {
                let what = "it is missing, but there is a journal".to_owned();
                return Err(StartError::Damaged { file: paths.format(), what });
            }
            let engine = EngineId(random(&paths).map_err(refuse)?);
            write_format(&paths, engine).map_err(refuse)?;
            engine
        };
        // Root may write where others may not, and a read-only mount refuses root too: try it.
        let probe = path.join("LOCK.probe");
        disk.open(&probe, OpenMode::Replace { mode: 0o666 })
            .and_then(|file| file.write_all_at(&mut [IoSlice::new(b"probe")], 0))
            .and_then(|()| disk.remove(&probe))
            .map_err(refuse)?;
        for directory in [paths.root.clone(), paths.journal()] {
            disk.sync_directory(&directory).map_err(refuse)?;
        }
        // The directory's own name, and those above it, must survive too. Of one that an earlier start made nobody knows
        // whether it was synced; those that others made may not be ours to open.
        for (index, above) in path.ancestors().skip(1).enumerate() {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            match disk.sync_directory(above) {
                Err(error) if index < made => return Err(refuse(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Self { paths, engine, _lock: lock })
    }

    /// Opens an existing directory for reading beside a stopped engine; changes nothing in it.
    pub fn open_offline(path: &Path) -> Result<Self, StartError> {
        Self::open_offline_on(Arc::new(MachineDisk), path)
    }

    /// As [`DataDirectory::open_offline`], on a disk of the caller's.
    pub fn open_offline_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StartError> {
        let paths = DataPaths::new(disk, path);
        let absent = || StartError::NotADataDirectory { path: path.to_path_buf() };
        if !paths.disk.exists(&paths.lock()) {
            return Err(absent());
        }
        let locked = paths.disk.lock(&paths.lock(), LockKind::Shared);
        let locked = locked.map_err(|error| Self::refusal(&paths, path, error))?;
        let Some(lock) = locked else { return Err(StartError::Locked { path: path.to_path_buf() }) };
        let engine = read_format(&paths)?.ok_or_else(absent)?;
        Ok(Self { paths, engine, _lock: lock })
    }

    /// Where things lie.
    pub fn paths(&self) -> &DataPaths {
        &self.paths
    }

    /// Whose data this is.
    pub fn engine(&self) -> EngineId {
        self.engine
    }

    /// Bytes free on this directory's disk.
    pub fn free_bytes(&self) -> Result<u64, StartError> {
        let root = &self.paths.root;
        self.paths.disk.free_bytes(root).map_err(|error| Self::refusal(&self.paths, root, error))
    }

    /// The secret of this name: made from the operating system's randomness the first time, the same ever after.
    ///
    /// `name` consists of lower-case letters and underscores; it is a constant of the caller.
    pub fn secret(&self, name: &str) -> Result<[u8; 32], StartError> {
        assert!(
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "Invariant: secrets are named by lower-case letters and underscores"
        );
        let directory = self.paths.secrets();
        let disk = self.paths.disk.as_ref();
        let refuse = |error| Self::refusal(&self.paths, &directory, error);
        let file = directory.join(name);
        match disk::read(disk, &file) {
            Ok(bytes) => <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| StartError::Damaged {
                what: format!("a secret has 32 bytes, this file has {}", bytes.len()),
                file,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create_directory(&directory, 0o700).map_err(refuse)?;
                let secret: [u8; 32] = random(&self.paths).map_err(refuse)?;
                disk::write_durably(disk, &file, &secret, 0o600).map_err(refuse)?;
                disk.sync_directory(&self.paths.root).map_err(refuse)?;
                Ok(secret)
            }
            Err(error) => Err(refuse(error)),
        }
    }

    fn refusal(paths: &DataPaths, path: &Path, error: io::Error) -> StartError {
        if error.kind() == io::ErrorKind::StorageFull {
            let free_bytes = paths.disk.free_bytes(path).unwrap_or(0);
            let needed_bytes = Self::FREE_BYTES_MIN;
            return StartError::DiskFull { path: path.to_path_buf(), free_bytes, needed_bytes };
        }
        StartError::NotWritable { path: path.to_path_buf(), source: error }
    }
}

fn random<const N: usize>(paths: &DataPaths) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    paths.disk.random(&mut bytes)?;
    Ok(bytes)
}

fn has_segments(paths: &DataPaths) -> io::Result<bool> {
    for directory in [paths.journal(), paths.archive()] {
        let files = paths.disk.list(&directory)?;
        if files.iter().any(|file| file.extension().is_some_and(|extension| extension == "segment")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The file that is locked while somebody works on the directory.
pub(crate) fn lock_of(paths: &DataPaths) -> PathBuf {
    paths.lock()
}

/// Makes a data directory of what lies in `paths`: the last thing that its maker does.
pub(crate) fn write_format(paths: &DataPaths, engine: EngineId) -> io::Result<()> {
    let text = format!("doorbuster data directory\nformat {DIRECTORY_FORMAT_VERSION}\nengine {engine}\n");
    disk::write_durably(paths.disk.as_ref(), &paths.format(), text.as_bytes(), 0o644)
}

fn read_format(paths: &DataPaths) -> Result<Option<EngineId>, StartError> {
    let file = paths.format();
    let bytes = match disk::read(paths.disk.as_ref(), &file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StartError::not_writable(&file)(error)),
    };
    let damaged = |what: &str| StartError::Damaged { file: file.clone(), what: what.to_owned() };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("it is no text"))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let found: u32 =
        field("format").and_then(|f| f.parse().ok()).ok_or_else(|| damaged("it names no format"))?;
    if found > DIRECTORY_FORMAT_VERSION {
        let known = DIRECTORY_FORMAT_VERSION;
        return Err(StartError::NewerVersion { path: paths.root.clone(), found, known });
    }
    if found < DIRECTORY_FORMAT_VERSION_OLDEST {
        let oldest = DIRECTORY_FORMAT_VERSION_OLDEST;
        return Err(StartError::OlderVersion { path: paths.root.clone(), found, oldest });
    }
    let engine = field("engine")
        .filter(|digits| digits.len() == 32)
        .and_then(|digits| u128::from_str_radix(digits, 16).ok())
        .ok_or_else(|| damaged("it names no engine"))?;
    Ok(Some(EngineId(engine.to_be_bytes())))
}
