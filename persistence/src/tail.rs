//! Follows a journal while it is being written: what a projection, an announcer or a shipper reads.
//!
//! Law 10 begins here: frames are given in order, each once, and none before it is durable. A follower remembers the
//! number of the last frame it has done with, in the same transaction as what it did, and comes back with the next one;
//! positions are no such mark, because workers' records lie in a frame side by side. Reading touches no
//! writer: it opens segments by name, wherever they lie by now, live or archived. Start at [`JournalTail::open`].

use std::fmt;
use std::io;
use std::time::Duration;

use crate::directory::{DataPaths, EngineId};
use crate::disk::{DiskFile, OpenMode};
use crate::error::JournalError;
use crate::frame::{self, FRAME_HEADER_BYTES, FrameNumber};
use crate::reader::FrameView;
use crate::segment::{self, SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader};
use crate::writer::JournalHandle;

/// Least and most bytes read at a time; one frame may ask for more.
const READ_BYTES_MIN: usize = 64 << 10;
const READ_BYTES_MAX: usize = 4 << 20;

/// A place in a journal that moves on as frames become durable. For a thread that may wait for the disk.
pub struct JournalTail {
    paths: DataPaths,
    engine: EngineId,
    /// Tells which frame is durable.
    journal: Option<JournalHandle>,
    segment: Option<Open>,
    /// The next frame to give.
    due: FrameNumber,
    bytes: Vec<u8>,
    /// Where the next frame begins in `bytes`.
    at: usize,
    /// Every frame up to this one was durable when `bytes` were read: only these can be believed.
    sound_through: FrameNumber,
    read_bytes: usize,
}

/// The segment under the tail.
struct Open {
    place: SegmentFile,
    file: Box<dyn DiskFile>,
    /// Offset in the file of `bytes[at]`.
    offset: u64,
    /// The next frame in the file: before `due` while the way to it is walked.
    next: FrameNumber,
    checksum: u32,
}

impl JournalTail {
    /// A tail that will give frames from `from` on, as `journal` makes them durable.
    ///
    /// Opens nothing yet: a frame that no segment at hand has is an error of [`JournalTail::next_frame`].
    pub fn open(paths: DataPaths, engine: EngineId, from: FrameNumber, journal: JournalHandle) -> Self {
        Self { journal: Some(journal), ..Self::of_resting(paths, engine, from) }
    }

    /// As [`JournalTail::open`], of a journal that nobody writes: [`JournalTail::next_frame_through`] says how far.
    pub fn of_resting(paths: DataPaths, engine: EngineId, from: FrameNumber) -> Self {
        Self {
            paths,
            engine,
            journal: None,
            segment: None,
            due: from.max(FrameNumber::FIRST),
            bytes: Vec::new(),
            at: 0,
            sound_through: FrameNumber(0),
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// The next frame that will be given.
    pub fn due(&self) -> FrameNumber {
        self.due
    }

    /// Whose journal it is.
    pub fn engine(&self) -> EngineId {
        self.engine
    }

    /// The first frame at hand, archive included; the first of all in a journal without segments.
    pub fn first_frame(&self) -> Result<FrameNumber, JournalError> {
        let segments = segment::list_all(&self.paths, self.engine)?;
        Ok(segments.first().map_or(FrameNumber::FIRST, |segment| segment.header.first_frame))
    }

    /// The last durable frame of the journal that is followed; 0 before the first.
    pub fn durable_frame(&self) -> FrameNumber {
        self.journal.as_ref().map_or(FrameNumber(0), JournalHandle::durable_frame)
    }

    /// Waits until a frame is there to be given, `patience` at the most; whether one is.
    pub fn wait(&self, patience: Duration) -> bool {
        let Some(journal) = &self.journal else { return false };
        journal.wait_for_durable(self.due, patience) >= self.due
    }

    /// Says that a copy elsewhere has every frame up to `through`. Under
    /// [`Durability::Replicated`](crate::writer::Durability::Replicated) this is what lets answers out.
    pub fn confirm_copied(&self, through: FrameNumber) {
        if let Some(journal) = &self.journal {
            journal.confirm_copied(through);
        }
    }

    /// Bytes of records written since the writer's start, durable ones.
    pub fn written_bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.stats().bytes)
    }

    /// Where the journal's files lie.
    pub fn paths(&self) -> &DataPaths {
        &self.paths
    }

    /// Goes to frame `due`, back or forth, without a look at what lies between.
    pub fn seek(&mut self, due: FrameNumber) {
        let (paths, journal) = (self.paths.clone(), self.journal.take());
        *self = Self { journal, ..Self::of_resting(paths, self.engine, due) };
    }

    /// The next durable frame; `None` when there is none yet. After an error the same call may be made again.
    ///
    /// Fails with [`JournalError::MissingSegment`] where that frame is no longer at hand.
    pub fn next_frame(&mut self) -> Result<Option<FrameView<'_>>, JournalError> {
        let durable = self.durable_frame();
        self.next_frame_through(durable)
    }

    /// As [`JournalTail::next_frame`], where the caller knows that frame `through` and all before it are durable.
    pub fn next_frame_through(
        &mut self,
        through: FrameNumber,
    ) -> Result<Option<FrameView<'_>>, JournalError> {
        if self.due > through {
            return Ok(None);
        }
        if self.due > self.sound_through {
            // What was read beyond the durable frame of that time may be half written.
            self.bytes.clear();
            self.at = 0;
            self.sound_through = through;
            self.read_bytes = READ_BYTES_MIN;
        }
        let (begin, records) = loop {
            if self.segment.is_none() {
                self.segment = Some(self.find()?);
            }
            match self.step() {
                Ok(Some((begin, records, number))) if number == self.due => break (begin, records),
                Ok(Some(_)) => {}
                Ok(None) => self.advance()?,
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
        };
        let number = self.due;
        self.due = number.next();
        let Some(open) = &self.segment else { unreachable!("a frame lies in a segment") };
        let bytes = &self.bytes[begin..self.at];
        let body = &bytes[FRAME_HEADER_BYTES..];
        let offset = open.offset - (self.at - begin) as u64;
        Ok(Some(FrameView { number, records, body, bytes, file: &open.place.path, offset }))
    }

    /// The segment that has the frame due, from its first frame on.
    fn find(&self) -> Result<Open, JournalError> {
        let segments = segment::list_all(&self.paths, self.engine)?;
        let first = segments.first().map_or(2, |segment| segment.header.number);
        let found = segments.into_iter().rev().find(|segment| segment.header.first_frame <= self.due);
        let Some(place) = found else {
            return Err(JournalError::MissingSegment {
                directory: self.paths.journal(),
                segment: first.saturating_sub(1),
            });
        };
        self.enter(place)
    }

    /// Passes to the segment after this one, which must continue it.
    fn advance(&mut self) -> Result<(), JournalError> {
        let Some(done) = self.segment.take() else { return Ok(()) };
        self.bytes.clear();
        self.at = 0;
        let number = done.place.header.number + 1;
        let name = segment::segment_name(number);
        let path = self.paths.journal().join(&name);
        let header = SegmentHeader { number, first_frame: done.next, ..done.place.header };
        let next = self.enter(SegmentFile { path, header, archived: false })?;
        let begins = &next.place.header;
        if begins.first_frame != done.next || begins.previous_checksum != done.checksum {
            let what = format!("it does not continue frame {}", done.next.0.saturating_sub(1));
            return Err(JournalError::damaged(&next.place.path, 36, what));
        }
        self.segment = Some(next);
        Ok(())
    }

    /// Opens a segment at its first frame, under its name in the archive where it has moved there.
    fn enter(&self, mut place: SegmentFile) -> Result<Open, JournalError> {
        let disk = self.paths.disk();
        let file = match disk.open(&place.path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !place.archived => {
                place.path = self.paths.archive().join(segment::segment_name(place.header.number));
                place.archived = true;
                disk.open(&place.path, OpenMode::Read)
            }
            opened => opened,
        };
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (directory, segment) = (self.paths.journal(), place.header.number);
                return Err(JournalError::MissingSegment { directory, segment });
            }
            opened => opened.map_err(JournalError::io("open", &place.path))?,
        };
        let mut header = [0; SEGMENT_HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(JournalError::io("read", &place.path))?;
        place.header = SegmentHeader::decode(&place.path, &header)?;
        Ok(Open {
            file,
            offset: SEGMENT_HEADER_BYTES as u64,
            next: place.header.first_frame,
            checksum: place.header.previous_checksum,
            place,
        })
    }

    /// Passes one frame: where it begins in `bytes`, its records and its number; `None` at the segment's end.
    fn step(&mut self) -> Result<Option<(usize, u32, FrameNumber)>, JournalError> {
        self.ensure(FRAME_HEADER_BYTES)?;
        let rest = &self.bytes[self.at..];
        if rest.len() < FRAME_HEADER_BYTES || rest.iter().take(FRAME_HEADER_BYTES).all(|byte| *byte == 0) {
            return Ok(None);
        }
        let body_bytes = frame::u32_at(rest, 4) as usize;
        self.ensure(FRAME_HEADER_BYTES + body_bytes.min(frame::FRAME_BODY_BYTES_MAX))?;
        let Some(open) = &mut self.segment else { return Ok(None) };
        let damaged = |what: &str| JournalError::damaged(&open.place.path, open.offset, what);
        let (header, body) = frame::decode(&self.bytes[self.at..]).map_err(damaged)?;
        if header.segment != open.place.header.number {
            return Err(damaged("a frame of another segment stands here"));
        }
        if header.number != open.next || header.previous_checksum != open.checksum {
            return Err(damaged("this frame does not continue the one before it"));
        }
        let (begin, bytes) = (self.at, FRAME_HEADER_BYTES + body.len());
        self.at += bytes;
        open.offset += bytes as u64;
        open.next = header.number.next();
        open.checksum = header.checksum;
        Ok(Some((begin, header.records, header.number)))
    }

    /// Reads on until `bytes` bytes lie behind `at`, or the file ends.
    fn ensure(&mut self, bytes: usize) -> Result<(), JournalError> {
        let Some(open) = &self.segment else { return Ok(()) };
        let have = self.bytes.len() - self.at;
        if have >= bytes {
            return Ok(());
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        let from = open.offset + have as u64;
        let wanted = self.read_bytes.max(bytes - have);
        self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        let failed = JournalError::io("read", &open.place.path);
        loop {
            let length = match open.file.length() {
                Ok(length) => length,
                Err(error) => return Err(failed(error)),
            };
            let left = usize::try_from(length.saturating_sub(from)).unwrap_or(usize::MAX);
            self.bytes.resize(have + left.min(wanted), 0);
            match open.file.read_exact_at(&mut self.bytes[have..], from) {
                Ok(()) => return Ok(()),
                // Sealed since its length was asked for: the zeros behind its last frame are cut, once.
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof
                        && length > open.file.length().unwrap_or(length) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Begins anew at the frame due, as after an error of the disk.
    fn forget(&mut self) {
        self.segment = None;
        self.bytes.clear();
        self.at = 0;
    }
}

impl fmt::Debug for JournalTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalTail").field("due", &self.due).finish_non_exhaustive()
    }
}
