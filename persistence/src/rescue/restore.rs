//! A data directory made of a copy: segments of the frames that come in, then the file that makes a directory of it.
//!
//! Laws: (3) every frame given is on stable storage before [`Restoration::finish`] returns; (9) frames that do not
//! continue the ones before are refused. `FORMAT` is written last: a restoration that was cut short is no data directory,
//! and no engine starts on it. Start at [`Restoration::begin`].

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory::{self, DataPaths, EngineId};
use crate::disk::{self, Disk, DiskFile, Held, LockKind, OpenMode};
use crate::error::{JournalError, StartError};
use crate::frame::FrameNumber;
use crate::rescue::base::{BaseHead, BasePage, BaseWriter};
use crate::rescue::shipment::{self, Shipment, ShipmentError};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};

/// Why a restoration ended early. What it wrote so far is no data directory.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something is there already; name another place.
    #[error("{} is not empty, and restore overwrites nothing; name a new directory with --data", path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// The copy itself is no good.
    #[error(transparent)]
    Shipment(#[from] ShipmentError),
    /// Frames are missing in the copy, or there twice.
    #[error(
        "the copy is not whole: frame {due} is due, but frames {found} come next; restore the database from a backup of its own"
    )]
    Gap {
        /// The frame that was due.
        due: FrameNumber,
        /// What came.
        found: String,
    },
    /// The checkpoint in the copy and the frames in the copy do not belong together.
    #[error(
        "the copy's checkpoint needs frames {from} to {through}, and the copy has {found}; restore the database from a backup of its own"
    )]
    Base {
        /// First frame that a replay needs.
        from: FrameNumber,
        /// Last frame that it reflects.
        through: FrameNumber,
        /// What is there.
        found: String,
    },
    /// The place of the new directory refused.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A data directory in the making.
#[derive(Debug)]
pub struct Restoration {
    paths: DataPaths,
    engine: EngineId,
    segment: Option<Open>,
    base: Option<BaseWriter>,
    /// The frame that must come next; absent before the first.
    due: Option<FrameNumber>,
    checksum: u32,
    figures: Restored,
    _lock: Box<dyn Held>,
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Segment files.
    pub segments: u64,
    /// Frames.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the frames.
    pub bytes: u64,
    /// The last frame; 0 without any.
    pub last_frame: FrameNumber,
}

/// The segment being filled.
#[derive(Debug)]
struct Open {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    header: SegmentHeader,
    offset: u64,
}

impl Restoration {
    /// Begins at `root`, which must be absent or an empty directory.
    pub fn begin(disk: Arc<dyn Disk>, root: &Path, engine: EngineId) -> Result<Self, RestoreError> {
        let paths = DataPaths::new(disk, root);
        let disk = paths.disk().as_ref();
        let refuse = |error| StartError::not_writable(root)(error);
        // A file system of its own has this directory from the day it was made.
        let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| name == "lost+found");
        match disk.list(root) {
            Ok(found) if found.iter().all(is_ours) => {}
            Ok(_) => return Err(RestoreError::NotEmpty { path: root.to_path_buf() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refuse(error).into()),
        }
        disk.create_directory(&paths.archive(), 0o777).map_err(refuse)?;
        let lock = disk.lock(&directory::lock_of(&paths), LockKind::Exclusive).map_err(refuse)?;
        let lock = lock.ok_or_else(|| StartError::Locked { path: root.to_path_buf() })?;
        Ok(Self {
            paths,
            engine,
            segment: None,
            base: None,
            due: None,
            checksum: 0,
            figures: Restored::default(),
            _lock: lock,
        })
    }

    /// Writes a file that belongs to the data, such as a secret: `name` is its path in the directory, at most one level deep.
    pub fn put_file(&self, name: &str, bytes: &[u8]) -> Result<(), RestoreError> {
        let path = self.paths.root.join(name);
        let refuse = |error| StartError::not_writable(&path)(error);
        let disk = self.paths.disk().as_ref();
        if let Some(parent) = path.parent().filter(|parent| *parent != self.paths.root) {
            disk.create_directory(parent, 0o700).map_err(refuse)?;
        }
        disk::write_durably(disk, &path, bytes, 0o600).map_err(refuse)?;
        Ok(())
    }

    /// The journal will begin somewhere behind its first frame: `head` says from what. Its pages come next, before any frames.
    pub fn begin_from(&mut self, head: BaseHead) -> Result<(), RestoreError> {
        assert!(self.due.is_none(), "Invariant: the base comes before the frames");
        self.base = Some(BaseWriter::begin(&self.paths, self.engine, head)?);
        Ok(())
    }

    /// Adds the next page of the base.
    pub fn put_page(&mut self, page: &BasePage) -> Result<(), RestoreError> {
        let Some(base) = &mut self.base else { unreachable!("Invariant: pages follow their head") };
        base.put(page)?;
        Ok(())
    }

    /// Adds frames, which must follow those before them without a gap.
    pub fn take(&mut self, shipment: &Shipment) -> Result<(), RestoreError> {
        let due = self.due_before(shipment)?;
        if shipment.first_frame != due || shipment.previous_checksum != self.checksum {
            let found = if shipment.first_frame == due {
                format!("{} to {} of another history", shipment.first_frame, shipment.last_frame)
            } else {
                format!("{} to {}", shipment.first_frame, shipment.last_frame)
            };
            return Err(RestoreError::Gap { due, found });
        }
        let raw = shipment.unpack(self.engine)?;
        self.write(&raw).map_err(StartError::Journal)?;
        self.due = Some(shipment.last_frame.next());
        self.checksum = shipment.checksum;
        self.figures.records += shipment.records;
        self.figures.bytes += shipment.raw_bytes;
        self.figures.last_frame = shipment.last_frame;
        Ok(())
    }

    /// The last frame that came in; 0 before the first.
    pub fn last_frame(&self) -> FrameNumber {
        self.figures.last_frame
    }

    /// The frame that must come next, which of the first ones the base decides.
    fn due_before(&mut self, shipment: &Shipment) -> Result<FrameNumber, RestoreError> {
        if let Some(due) = self.due {
            return Ok(due);
        }
        let Some(base) = &self.base else { return Ok(FrameNumber::FIRST) };
        if shipment.first_frame > base.head.mark.replay_from_frame {
            let found = format!("none before frame {}", shipment.first_frame);
            return Err(base_error(&base.head, found));
        }
        self.checksum = shipment.previous_checksum;
        Ok(shipment.first_frame)
    }

    /// Writes frames that were checked, each into the segment it names.
    fn write(&mut self, raw: &[u8]) -> Result<(), JournalError> {
        let mut begin = 0;
        let mut at = 0;
        for found in shipment::frames(raw) {
            let Ok((header, whole)) = found else { unreachable!("every frame was checked") };
            if self.segment.as_ref().is_none_or(|open| open.header.number != header.segment) {
                self.append(&raw[begin..at])?;
                begin = at;
                self.seal()?;
                self.segment = Some(self.open(SegmentHeader {
                    engine: self.engine,
                    number: header.segment,
                    first_frame: header.number,
                    previous_checksum: header.previous_checksum,
                    // Known, and written, when the segment ends.
                    file_bytes: 0,
                })?);
            }
            at += whole.len();
            self.figures.frames += 1;
        }
        self.append(&raw[begin..])
    }

    fn open(&mut self, header: SegmentHeader) -> Result<Open, JournalError> {
        let path = self.paths.journal().join(segment_name(header.number));
        let file = self
            .paths
            .disk()
            .open(&path, OpenMode::CreateNew { mode: 0o666 })
            .map_err(JournalError::io("create", &path))?;
        self.figures.segments += 1;
        Ok(Open { file, path, header, offset: SEGMENT_HEADER_BYTES as u64 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let Some(open) = &mut self.segment else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        open.file
            .write_all_at(&mut [IoSlice::new(bytes)], open.offset)
            .map_err(|error| full_or_io(error, &open.path))?;
        open.offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the segment: its header says how long it is, and all of it is on stable storage.
    fn seal(&mut self) -> Result<(), JournalError> {
        let Some(mut open) = self.segment.take() else { return Ok(()) };
        open.header.file_bytes = open.offset;
        let header = open.header.encode();
        open.file
            .write_all_at(&mut [IoSlice::new(&header)], 0)
            .map_err(|error| full_or_io(error, &open.path))?;
        open.file.sync_all().map_err(JournalError::io("sync", &open.path))
    }

    /// Makes a data directory of it: from here on an engine can start on it.
    pub fn finish(mut self) -> Result<Restored, RestoreError> {
        self.seal().map_err(StartError::Journal)?;
        if let Some(base) = self.base.take() {
            if self.figures.last_frame < base.head.mark.durable_frame {
                let found = format!("none after frame {}", self.figures.last_frame);
                return Err(base_error(&base.head, found));
            }
            base.finish()?;
        }
        let root = &self.paths.root;
        let disk = self.paths.disk().as_ref();
        let refuse = |error| StartError::not_writable(root)(error);
        for directory in [self.paths.journal(), root.clone()] {
            disk.sync_directory(&directory).map_err(refuse)?;
        }
        directory::write_format(&self.paths, self.engine).map_err(refuse)?;
        // The directory's own name must survive too; above it may be directories of others.
        if let Some(parent) = std::path::absolute(root).ok().as_deref().and_then(Path::parent) {
            let _ = disk.sync_directory(parent);
        }
        Ok(self.figures)
    }
}

fn base_error(head: &BaseHead, found: String) -> RestoreError {
    let (from, through) = (head.mark.replay_from_frame, head.mark.durable_frame);
    RestoreError::Base { from, through, found }
}

fn full_or_io(error: io::Error, path: &Path) -> JournalError {
    if error.kind() == io::ErrorKind::StorageFull {
        return JournalError::Full { path: path.to_path_buf(), reason: error.to_string() };
    }
    JournalError::io("write", path)(error)
}
