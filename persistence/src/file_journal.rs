//! The journal on disk: preallocated segment files, one frame a batch.
//!
//! Laws: (3) a synced frame survives a power cut; (9) frames are gapless, chained and checksummed. Space: what
//! [`Space::claim`] granted can always be written. Start at [`FileJournal::open`].

use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster_engine::mutant::{self, Mutant};

use crate::directory::{DataPaths, EngineId};
use crate::disk::{self, Disk, DiskFile, OpenMode};
use crate::error::JournalError;
use crate::frame::{self, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, Frame, FrameNumber};
use crate::journal::Journal;
pub use crate::preparer::Preparation;
use crate::preparer::{self, Plan, Preparer};
use crate::reader::{Cut, JournalReader, Tail};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use crate::space::Space;

/// How the file journal lays itself out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of a segment file, written as zeros beforehand. Default 64 MiB: one a second at 64 MB/s of records, and
    /// recovery reads one into memory at a time. At least 4,096.
    pub segment_bytes: u64,
    /// Who prepares the next segment.
    pub preparation: Preparation,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, preparation: Preparation::Thread }
    }
}

impl JournalOptions {
    fn segment_bytes(self) -> u64 {
        self.segment_bytes.max(4_096)
    }

    /// A quarter of a segment at most, so that the unused end of one stays small against it.
    fn frame_bytes_max(self) -> usize {
        let quarter = (self.segment_bytes() - SEGMENT_HEADER_BYTES as u64) / 4;
        usize::try_from(quarter).unwrap_or(usize::MAX).min(FRAME_BODY_BYTES_MAX)
    }

    /// Bytes of records that surely fit into `room` bytes at the end of a segment.
    ///
    /// The last frame may find too little room and move on, wasting less than its own size; and in the worst case each
    /// record gets a frame of its own, whose header is no longer than the shortest record. Hence minus one frame, and half.
    fn usable_bytes(self, room: u64) -> i64 {
        let slack = (self.frame_bytes_max() + FRAME_HEADER_BYTES) as u64;
        i64::try_from(room.saturating_sub(slack) / 2).unwrap_or(i64::MAX)
    }
}

/// The journal on disk.
#[derive(Debug)]
pub struct FileJournal {
    disk: Arc<dyn Disk>,
    journal: PathBuf,
    engine: EngineId,
    options: JournalOptions,
    active: Active,
    next_frame: FrameNumber,
    /// Checksum of the last frame.
    checksum: u32,
    /// Whether frames wait for a sync.
    dirty: bool,
    /// The first error; everything afterwards is refused.
    failed: Option<String>,
    space: Arc<Space>,
    preparer: Preparer,
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    number: u64,
    offset: u64,
    length: u64,
}

impl FileJournal {
    /// Opens the journal for appending, after walking its live segments to the end. A torn tail is cut.
    ///
    /// Recovery, which walks the journal anyway, uses [`FileJournal::open_at`].
    pub fn open(
        paths: &DataPaths,
        engine: EngineId,
        options: JournalOptions,
    ) -> Result<(Self, Option<Cut>), JournalError> {
        let mut reader = JournalReader::open(paths, engine, FrameNumber(u64::MAX))?;
        while reader.next_frame()?.is_some() {}
        let tail = reader.tail();
        let journal = Self::open_at(paths, engine, options, &tail)?;
        Ok((journal, tail.cut))
    }

    /// Opens the journal for appending at the end a reader has found; cuts the torn tail it reported.
    pub fn open_at(
        paths: &DataPaths,
        engine: EngineId,
        options: JournalOptions,
        tail: &Tail,
    ) -> Result<Self, JournalError> {
        let disk = paths.disk();
        let journal = paths.journal();
        remove_unfinished(&**disk, &journal)?;
        if let Some(cut) = &tail.cut {
            apply_cut(&**disk, &journal, cut)?;
        }
        let active = match &tail.last {
            // An archived segment is closed for ever: its name is behind a checkpoint.
            Some((segment, offset)) if !segment.archived => {
                let number = segment.header.number;
                Active::resume(&**disk, &segment.path, number, tail.last_frame..*offset, options)?
            }
            last => {
                let header = SegmentHeader {
                    engine,
                    number: last.as_ref().map_or(1, |(segment, _)| segment.header.number + 1),
                    first_frame: tail.next_frame,
                    previous_checksum: tail.checksum,
                    file_bytes: options.segment_bytes(),
                };
                let path = journal.join("first.preparing");
                let file = preparer::create_zeros(&**disk, &path, options.segment_bytes())
                    .map_err(|error| full_or_io(error, "create", &path, &journal))?;
                Active::begin(&**disk, file, &path, &journal, &header, options)?
            }
        };
        let space = Arc::new(Space::new(options.usable_bytes(active.room())));
        let fresh = options.usable_bytes(options.segment_bytes() - SEGMENT_HEADER_BYTES as u64);
        let plan = Plan {
            disk: Arc::clone(disk),
            journal: journal.clone(),
            segment_bytes: options.segment_bytes(),
            usable_bytes: fresh,
            space: Arc::clone(&space),
        };
        let preparer = Preparer::begin(plan, options.preparation)?;
        Ok(Self {
            disk: Arc::clone(disk),
            journal,
            engine,
            options,
            active,
            next_frame: tail.next_frame,
            checksum: tail.checksum,
            dirty: false,
            failed: None,
            space,
            preparer,
        })
    }

    fn guard<T>(&mut self, done: Result<T, JournalError>) -> Result<T, JournalError> {
        if let Err(error) = &done {
            self.failed = Some(error.to_string());
        }
        done
    }

    fn check(&self) -> Result<(), JournalError> {
        match &self.failed {
            Some(reason) => Err(JournalError::Stopped { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn write(&mut self, frame: Frame<'_>) -> Result<FrameNumber, JournalError> {
        let bytes = frame.body_bytes();
        let bytes_max = self.frame_bytes_max();
        if bytes > bytes_max {
            return Err(JournalError::FrameTooLarge { bytes, bytes_max });
        }
        let total = (FRAME_HEADER_BYTES + bytes) as u64;
        if self.active.room() < total {
            self.rotate()?;
        }
        let usable_before = self.options.usable_bytes(self.active.room());
        let number = self.next_frame;
        let (header, checksum) = frame::encode_header(frame, self.active.number, number, self.checksum);
        let mut parts = Vec::with_capacity(frame.parts.len() + 1);
        parts.push(IoSlice::new(&header));
        parts.extend(frame.parts.iter().map(|part| IoSlice::new(part)));
        self.dirty = true;
        self.active
            .file
            .write_all_at(&mut parts, self.active.offset)
            .map_err(JournalError::io("write", &self.active.path))?;
        self.active.offset += total;
        self.checksum = checksum;
        self.next_frame = number.next();
        // The records' claims end here; what the segment can still promise shrank by about as much.
        let usable_after = self.options.usable_bytes(self.active.room());
        let written = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.space.credit(written + usable_after - usable_before);
        Ok(number)
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        self.sync_active()?;
        let prepared = self.preparer.take()?;
        let header = SegmentHeader {
            engine: self.engine,
            number: self.active.number + 1,
            first_frame: self.next_frame,
            previous_checksum: self.checksum,
            file_bytes: self.options.segment_bytes(),
        };
        let next =
            Active::begin(&*self.disk, prepared.file, &prepared.path, &self.journal, &header, self.options)?;
        // The preparer has credited the new segment; the old one's last promise ends.
        self.space.credit(-self.options.usable_bytes(self.active.room()));
        let sealed = std::mem::replace(&mut self.active, next);
        self.preparer.seal(sealed.file, sealed.path, sealed.offset);
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), JournalError> {
        if self.dirty && !mutant::active(Mutant::SkipSync) {
            let file = &self.active.file;
            let mut synced = file.sync_data();
            if mutant::active(Mutant::RetryFailedSync) {
                synced = synced.or_else(|_| file.sync_data());
            }
            synced.map_err(JournalError::io("sync", &self.active.path))?;
            self.dirty = false;
        }
        Ok(())
    }
}

impl Journal for FileJournal {
    fn append(&mut self, frame: Frame<'_>) -> Result<FrameNumber, JournalError> {
        self.check()?;
        let done = self.write(frame);
        self.guard(done)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        let done = self.sync_active();
        self.guard(done)
    }

    fn tend(&mut self) {
        self.preparer.tend();
    }

    fn next_frame(&self) -> FrameNumber {
        self.next_frame
    }

    fn frame_bytes_max(&self) -> usize {
        self.options.frame_bytes_max()
    }

    fn space(&self) -> Arc<Space> {
        Arc::clone(&self.space)
    }
}

impl Active {
    /// Gives a file of zeros its header, then its name, each durable before the next step.
    fn begin(
        disk: &dyn Disk,
        file: Box<dyn DiskFile>,
        path: &Path,
        journal: &Path,
        header: &SegmentHeader,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        let bytes = header.encode();
        file.write_all_at(&mut [IoSlice::new(&bytes)], 0).map_err(JournalError::io("write", path))?;
        file.sync_data().map_err(JournalError::io("sync", path))?;
        let named = journal.join(segment_name(header.number));
        disk.rename(path, &named).map_err(JournalError::io("name", &named))?;
        if !mutant::active(Mutant::SkipDirectorySync) {
            disk.sync_directory(journal).map_err(JournalError::io("sync", journal))?;
        }
        let offset = SEGMENT_HEADER_BYTES as u64;
        Ok(Self { file, path: named, number: header.number, offset, length: options.segment_bytes() })
    }

    /// Goes on in a segment found on disk, whose last frame is at `last_frame`; fills it up with zeros where it is short.
    fn resume(
        disk: &dyn Disk,
        path: &Path,
        number: u64,
        last_frame: Range<u64>,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        let file = disk.open(path, OpenMode::Write).map_err(JournalError::io("open", path))?;
        let found = file.length().map_err(JournalError::io("read", path))?;
        let length = found.max(options.segment_bytes());
        if found < length {
            let grown = disk::write_zeros(&*file, found, length);
            grown.map_err(|error| full_or_io(error, "extend", path, path))?;
        }
        // The previous run may have ended between a write and its sync; what was read must be durable before more is built on
        // it. Written again first: after a failed sync Linux holds the frame for clean, and another sync would not write it.
        let mut bytes = vec![0; usize::try_from(last_frame.end - last_frame.start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, last_frame.start).map_err(JournalError::io("read", path))?;
        if mutant::active(Mutant::TrustCleanFrame) {
            bytes.clear();
        }
        file.write_all_at(&mut [IoSlice::new(&bytes)], last_frame.start)
            .map_err(JournalError::io("write", path))?;
        file.sync_all().map_err(JournalError::io("sync", path))?;
        Ok(Self { file, path: path.to_path_buf(), number, offset: last_frame.end, length })
    }

    fn room(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }
}

fn full_or_io(error: std::io::Error, action: &'static str, path: &Path, journal: &Path) -> JournalError {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return JournalError::Full { path: journal.to_path_buf(), reason: error.to_string() };
    }
    JournalError::io(action, path)(error)
}

/// Removes segments that never got a name: they hold nothing.
fn remove_unfinished(disk: &dyn Disk, journal: &Path) -> Result<(), JournalError> {
    for path in disk.list(journal).map_err(JournalError::io("list", journal))? {
        if path.extension().is_some_and(|extension| extension == "preparing") {
            disk.remove(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Overwrites a torn tail with zeros, after keeping its bytes in a file beside: evidence is never destroyed.
fn apply_cut(disk: &dyn Disk, journal: &Path, cut: &Cut) -> Result<(), JournalError> {
    let file = disk.open(&cut.file, OpenMode::Write).map_err(JournalError::io("open", &cut.file))?;
    let mut torn = vec![0; usize::try_from(cut.bytes).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut torn, cut.offset).map_err(JournalError::io("read", &cut.file))?;
    let name = cut.file.file_stem().unwrap_or_default().to_string_lossy();
    let kept = journal.join(format!("{name}-{}.torn", cut.offset));
    disk::write_durably(disk, &kept, &torn, 0o644).map_err(JournalError::io("write", &kept))?;
    disk::write_zeros(&*file, cut.offset, cut.offset + cut.bytes)
        .and_then(|()| file.sync_all())
        .map_err(JournalError::io("cut the torn tail of", &cut.file))
}
