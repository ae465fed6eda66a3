//! Reads a journal from a frame to its end, and tells a torn tail from damage (law 9).
//!
//! Only the last segment can have a torn tail: the next one is named after all before it is durable. There, bytes that
//! are no sound frame are a torn tail when no sound frame follows them; everything else refuses.
//! So does a file shorter than it was made with: a crash tears what is in a file, never its length, which was durable
//! before its name. Start at [`JournalReader::open`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster_engine::mutant::{self, Mutant};
use serde::Serialize;

use crate::directory::{DataPaths, EngineId};
use crate::disk::{self, Disk, OpenMode};
use crate::error::JournalError;
use crate::frame::{self, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameNumber};
use crate::segment::{self, SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader};

/// A torn tail: bytes of a frame that was never durable, hence never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Segment file.
    pub file: PathBuf,
    /// Where the sound frames end.
    pub offset: u64,
    /// How many bytes from there on are not zero or were expected.
    pub bytes: u64,
    /// The frame that was due there.
    pub frame: FrameNumber,
    /// What was wrong.
    pub what: String,
}

/// Where a journal ends, and so where the next frame goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The last segment and the offset of its end; `None` for an empty journal.
    pub last: Option<(SegmentFile, u64)>,
    /// Offset of the last frame in that segment; its end where no frame is in it.
    pub last_frame: u64,
    /// Number of the next frame.
    pub next_frame: FrameNumber,
    /// Checksum of the last frame.
    pub checksum: u32,
    /// What must be cut first.
    pub cut: Option<Cut>,
}

/// A sound frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// Its number.
    pub number: FrameNumber,
    /// Records in it.
    pub records: u32,
    /// Their bytes.
    pub body: &'a [u8],
    /// All of the frame as it was written, header included.
    pub bytes: &'a [u8],
    /// The file it lies in.
    pub file: &'a Path,
    /// Its offset there.
    pub offset: u64,
}

impl FrameView<'_> {
    /// Its checksum, to which the next frame is chained.
    pub fn checksum(&self) -> u32 {
        frame::u32_at(self.bytes, 32)
    }

    /// Checksum of the frame before it.
    pub fn previous_checksum(&self) -> u32 {
        frame::u32_at(self.bytes, 28)
    }

    /// Damage found inside this frame, by file and offset.
    pub fn damaged(&self, what: impl Into<String>) -> JournalError {
        JournalError::damaged(self.file, self.offset, what)
    }
}

/// Walks the frames of a journal in order. Changes nothing on disk.
#[derive(Debug)]
pub struct JournalReader {
    disk: Arc<dyn Disk>,
    segments: Vec<SegmentFile>,
    /// Segment under the reader; `segments.len()` at the end.
    index: usize,
    bytes: Vec<u8>,
    /// Offset of the next frame in `bytes`; 0 while the segment is not loaded.
    offset: usize,
    /// Offset of the last frame passed in this segment; that of the first due one before any.
    last_frame: usize,
    due: FrameNumber,
    from: FrameNumber,
    /// Frames after this one are not looked at.
    through: FrameNumber,
    archive: PathBuf,
    checksum: u32,
    cut: Option<Cut>,
}

impl JournalReader {
    /// A reader that will give frames from `from` on: those before it are checked and passed over.
    ///
    /// Begins at the first segment at hand when `from` lies before it: see [`JournalReader::first_frame`].
    pub fn open(paths: &DataPaths, engine: EngineId, from: FrameNumber) -> Result<Self, JournalError> {
        let segments = segment::list_all(paths, engine)?;
        let index = segments.iter().rposition(|s| s.header.first_frame <= from).unwrap_or(0);
        let start = segments.get(index).map(|s| s.header);
        Ok(Self {
            disk: Arc::clone(paths.disk()),
            index,
            bytes: Vec::new(),
            offset: 0,
            last_frame: 0,
            due: start.map_or(FrameNumber::FIRST, |header| header.first_frame),
            from,
            through: FrameNumber(u64::MAX),
            archive: paths.archive(),
            checksum: start.map_or(0, |header| header.previous_checksum),
            cut: None,
            segments,
        })
    }

    /// Ends the walk after frame `through`, without a look at what follows: for reading beside a writer up to its
    /// durable frame, read *before* [`JournalReader::open`]. What the writer is busy with would look like damage.
    pub fn until(mut self, through: FrameNumber) -> Self {
        self.through = through;
        self
    }

    /// The first frame at hand in this journal, archive included.
    pub fn first_frame(&self) -> FrameNumber {
        self.segments.first().map_or(FrameNumber::FIRST, |s| s.header.first_frame)
    }

    /// The segments, archived ones included, in order.
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Bytes of the segments not read yet, for progress.
    pub fn bytes_left(&self) -> u64 {
        let ahead = self.segments.get(self.index..).unwrap_or_default();
        let files: u64 = ahead.iter().filter_map(|s| self.disk.length(&s.path).ok()).sum();
        files.saturating_sub(self.offset as u64)
    }

    /// The next sound frame; `None` at the end. After an error the journal must not be used.
    pub fn next_frame(&mut self) -> Result<Option<FrameView<'_>>, JournalError> {
        while self.index < self.segments.len() && self.due <= self.through {
            if self.offset == 0 {
                self.load()?;
            }
            let begin = self.offset;
            let Some(records) = self.step()? else {
                self.index += 1;
                // The last segment's end stays for `tail`; any other gives way to the next.
                if self.index < self.segments.len() {
                    self.offset = 0;
                }
                continue;
            };
            let number = FrameNumber(self.due.0 - 1);
            if number >= self.from {
                let bytes = &self.bytes[begin..self.offset];
                let body = &bytes[FRAME_HEADER_BYTES..];
                let file = self.segments[self.index].path.as_path();
                return Ok(Some(FrameView { number, records, body, bytes, file, offset: begin as u64 }));
            }
        }
        Ok(None)
    }

    /// Where the journal ends. Call after [`JournalReader::next_frame`] gave `None`; not together with `until`.
    pub fn tail(&self) -> Tail {
        assert!(self.index >= self.segments.len(), "Invariant: the tail is known only after the last frame");
        Tail {
            last: self.segments.last().map(|s| (s.clone(), self.offset as u64)),
            last_frame: self.last_frame as u64,
            next_frame: self.due,
            checksum: self.checksum,
            cut: self.cut.clone(),
        }
    }

    fn load(&mut self) -> Result<(), JournalError> {
        self.bytes.clear();
        let segment = &mut self.segments[self.index];
        let file = match self.disk.open(&segment.path, OpenMode::Read) {
            // Archived since this reader was opened.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !segment.archived => {
                segment.path = self.archive.join(segment::segment_name(segment.header.number));
                segment.archived = true;
                self.disk.open(&segment.path, OpenMode::Read)
            }
            opened => opened,
        }
        .map_err(JournalError::io("open", &segment.path))?;
        file.read_all(&mut self.bytes).map_err(JournalError::io("read", &segment.path))?;
        let header = SegmentHeader::decode(&segment.path, &self.bytes)?;
        if header.first_frame != self.due || header.previous_checksum != self.checksum {
            // The segment before this one lost frames: it was durable before this one got its name.
            let what = format!(
                "the frames before this segment end at frame {}, but it continues at frame {}",
                self.due.0.saturating_sub(1),
                header.first_frame
            );
            return Err(JournalError::damaged(&segment.path, 36, what));
        }
        // Beside a writer this segment may have been sealed since it was listed.
        let beside_a_writer = self.through < FrameNumber(u64::MAX);
        let length = self.bytes.len() as u64;
        if length < header.file_bytes && self.index + 1 == self.segments.len() && !beside_a_writer {
            let what = format!(
                "the file has {length} of the {} bytes it was made with and no segment follows it, so frames are missing \
                 here or in files after it",
                header.file_bytes
            );
            return Err(JournalError::damaged(&self.segments[self.index].path, length, what));
        }
        self.offset = SEGMENT_HEADER_BYTES;
        self.last_frame = self.offset;
        Ok(())
    }

    /// Passes one frame and returns how many records it says it has; `None` at the segment's end.
    fn step(&mut self) -> Result<Option<u32>, JournalError> {
        let segment = &self.segments[self.index];
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let begin_is_zero = disk::all_zero(&rest[..rest.len().min(FRAME_HEADER_BYTES)]);
        if begin_is_zero && disk::all_zero(rest) {
            return Ok(None);
        }
        let what = match frame::decode(rest) {
            Ok((header, body))
                if header.segment == segment.header.number || mutant::active(Mutant::StaleSegmentFrames) =>
            {
                let offset = self.offset as u64;
                if header.number != self.due {
                    let what = format!("frame {} stands where frame {} was due", header.number, self.due);
                    return Err(JournalError::damaged(&segment.path, offset, what));
                }
                if header.previous_checksum != self.checksum {
                    let what = format!("frame {} does not continue the frame before it", header.number);
                    return Err(JournalError::damaged(&segment.path, offset, what));
                }
                self.last_frame = self.offset;
                self.offset += FRAME_HEADER_BYTES + body.len();
                self.due = self.due.next();
                self.checksum = header.checksum;
                return Ok(Some(header.records));
            }
            Ok(_) => "a frame of another segment begins here",
            Err(what) => what,
        };
        let last = self.index + 1 == self.segments.len();
        let later = later_frame(rest, segment.header.number, self.due);
        if mutant::active(Mutant::AcceptBrokenChain)
            && let Some((at, header)) = later
        {
            (self.offset, self.due, self.checksum) =
                (self.offset + at, header.number, header.previous_checksum);
            return self.step();
        }
        if !last || (later.is_some() && !mutant::active(Mutant::CutDamageSilently)) {
            let what = if last { format!("{what}, and sound frames follow") } else { what.to_owned() };
            return Err(JournalError::damaged(&segment.path, self.offset as u64, what));
        }
        let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |index| index + 1);
        self.cut = Some(Cut {
            file: segment.path.clone(),
            offset: self.offset as u64,
            bytes: used as u64,
            frame: self.due,
            what: what.to_owned(),
        });
        Ok(None)
    }
}

/// A sound frame of this segment, later than `due` or equal to it, that begins anywhere behind the first byte: where, and
/// what it is.
fn later_frame(bytes: &[u8], segment: u64, due: FrameNumber) -> Option<(usize, FrameHeader)> {
    let mut at = 1;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == FRAME_MAGIC[0])?;
        if let Ok((header, _)) = frame::decode(&bytes[at..])
            && header.segment == segment
            && header.number >= due
        {
            return Some((at, header));
        }
        at += 1;
    }
}
