//! Segment files: a bounded piece of the journal each, named by its number.
//!
//! A segment gets its name only when its header is durable, and only after every frame of the one before it is: so a
//! damaged header is never a torn tail, and damage in any segment but the last is never one either.
//!
//! ```text
//! offset  0  magic "DOORBSEG"   8
//!         8  format version     4
//!        12  engine id         16
//!        28  segment number     8
//!        36  first frame        8
//!        44  checksum of the frame before the first  4
//!        48  bytes the file was made with  8   since version 2; zero before
//!        56  reserved, zero     4
//!        60  CRC32C of 0..60    4
//!        64  frames, then zeros
//! ```

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::directory::{DataPaths, EngineId};
use crate::disk::{Disk, OpenMode};
use crate::error::JournalError;
use crate::frame::{FrameNumber, array_at, u32_at, u64_at};

/// Bytes before a segment's first frame.
pub const SEGMENT_HEADER_BYTES: usize = 64;

/// The journal format this engine writes, and the newest it reads.
pub const JOURNAL_FORMAT_VERSION: u32 = 2;

const SEGMENT_MAGIC: [u8; 8] = *b"DOORBSEG";

/// The fixed part of a segment file, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose journal it is.
    pub engine: EngineId,
    /// Its number: 1, 2, 3, … without a gap.
    pub number: u64,
    /// Number of its first frame.
    pub first_frame: FrameNumber,
    /// Checksum of the frame before that one; 0 for the first of all.
    pub previous_checksum: u32,
    /// Bytes the file was made with, durable before it got its name: no crash makes it shorter, only its sealing, once a
    /// segment follows it. 0 where version 1 did not say.
    pub file_bytes: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&JOURNAL_FORMAT_VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.engine.0);
        bytes[28..36].copy_from_slice(&self.number.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.first_frame.0.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.previous_checksum.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.file_bytes.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Decodes the header of `file`, whose first bytes are `bytes`.
    pub(crate) fn decode(file: &Path, bytes: &[u8]) -> Result<Self, JournalError> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            return Err(JournalError::damaged(file, 0, "the file ends within the segment header"));
        };
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(JournalError::damaged(file, 0, "this is no journal segment"));
        }
        let found = u32_at(bytes, 8);
        if found > JOURNAL_FORMAT_VERSION {
            return Err(JournalError::NewerVersion {
                file: file.to_path_buf(),
                found,
                known: JOURNAL_FORMAT_VERSION,
            });
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(JournalError::damaged(file, 0, "the segment header's checksum does not match"));
        }
        Ok(Self {
            engine: EngineId(array_at(bytes, 12)),
            number: u64_at(bytes, 28),
            first_frame: FrameNumber(u64_at(bytes, 36)),
            previous_checksum: u32_at(bytes, 44),
            file_bytes: u64_at(bytes, 48),
        })
    }
}

/// A segment file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Where.
    pub path: PathBuf,
    /// Its header.
    pub header: SegmentHeader,
    /// Whether it lies in the archive.
    pub archived: bool,
}

/// The file name of segment `number`.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}.segment")
}

/// The segments of one directory, by number, headers checked.
pub(crate) fn list(
    disk: &dyn Disk,
    directory: &Path,
    engine: EngineId,
    archived: bool,
) -> Result<Vec<SegmentFile>, JournalError> {
    let paths = match disk.list(directory) {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(JournalError::io("list", directory)(error)),
    };
    let mut segments = Vec::new();
    for path in paths {
        if path.extension() != Some(OsStr::new("segment")) {
            continue;
        }
        let header = match read_header(disk, &path) {
            Ok(header) => header,
            // Moved to the archive since the directory was listed.
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if header.engine != engine {
            return Err(JournalError::ForeignSegment { file: path });
        }
        if path.file_name() != Some(OsStr::new(&segment_name(header.number))) {
            return Err(JournalError::damaged(
                &path,
                28,
                "the segment number is not that of the file's name",
            ));
        }
        segments.push(SegmentFile { path, header, archived });
    }
    segments.sort_by_key(|segment| segment.header.number);
    Ok(segments)
}

/// All segments of a journal, archived and live, which must follow one another without a gap.
pub(crate) fn list_all(paths: &DataPaths, engine: EngineId) -> Result<Vec<SegmentFile>, JournalError> {
    let disk = paths.disk().as_ref();
    let journal = paths.journal();
    // Live ones first: one that is moved to the archive meanwhile is met twice rather than not at all.
    let mut segments = list(disk, &journal, engine, false)?;
    segments.extend(list(disk, &paths.archive(), engine, true)?);
    segments.retain(|segment| segment.archived || disk.exists(&segment.path));
    segments.sort_by_key(|segment| (segment.header.number, segment.archived));
    // A power cut during archiving may leave one file under both names; the live name then counts.
    segments.dedup_by(|later, earlier| disk.same_file(&later.path, &earlier.path));
    for pair in segments.windows(2) {
        let due = pair[0].header.number.saturating_add(1);
        if pair[1].header.number == pair[0].header.number {
            return Err(JournalError::damaged(&pair[1].path, 28, "another file has the same segment number"));
        }
        if pair[1].header.number != due {
            return Err(JournalError::MissingSegment { directory: journal, segment: due });
        }
    }
    Ok(segments)
}

fn read_header(disk: &dyn Disk, path: &Path) -> Result<SegmentHeader, JournalError> {
    let file = disk.open(path, OpenMode::Read).map_err(JournalError::io("open", path))?;
    let length = file.length().map_err(JournalError::io("read", path))?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let found = &mut bytes[..usize::try_from(length).unwrap_or(usize::MAX).min(SEGMENT_HEADER_BYTES)];
    file.read_exact_at(found, 0).map_err(JournalError::io("read", path))?;
    SegmentHeader::decode(path, found)
}
