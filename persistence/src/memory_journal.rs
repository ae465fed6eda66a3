//! A journal in memory that can lie on purpose: for tests and the simulator.
//!
//! Permitted faults: a power cut that keeps only synced frames, or a torn part of the next one; syncs that return
//! without having synced; a failing write; a failing sync; a full disk. Start at [`MemoryJournal::new`], keep its
//! [`MemoryDisk`] to pull the plug.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::JournalError;
use crate::frame::{self, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, Frame, FrameNumber};
use crate::journal::Journal;
use crate::space::Space;

/// The number in memory frames' segment field.
const SEGMENT: u64 = 1;

/// What shall go wrong. The default is an honest disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Syncs return `Ok` and do nothing: the disk lies.
    pub lose_syncs: bool,
    /// The sync with this count (from 1, over the journal's life) fails.
    pub fail_sync: Option<u64>,
    /// The append with this count (from 1, over the journal's life) fails after writing half of its frame.
    pub fail_append: Option<u64>,
}

/// A frame read back from a memory disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFrame {
    /// Its number.
    pub number: FrameNumber,
    /// Records in it.
    pub records: u32,
    /// Their bytes.
    pub body: Vec<u8>,
}

/// The disk under a [`MemoryJournal`]: survives it, as a disk survives a process.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<DiskState>>,
    space: Arc<Space>,
}

#[derive(Debug, Default)]
struct DiskState {
    /// Everything written.
    bytes: Vec<u8>,
    /// How much of it a power cut keeps.
    synced: usize,
    faults: Faults,
    appends: u64,
    syncs: u64,
    /// Budget taken away while the disk is full.
    withheld: i64,
}

impl MemoryDisk {
    /// An empty, honest disk with room.
    pub fn new() -> Self {
        Self { state: Arc::default(), space: Arc::new(Space::new(1 << 40)) }
    }

    /// Chooses what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// The disk fills up: claims are refused, claimed records can still be written.
    pub fn fill(&self) {
        let mut state = self.state.lock();
        let free = i64::try_from(self.space.free_bytes()).unwrap_or(i64::MAX);
        state.withheld += free;
        self.space.credit(-free);
    }

    /// Somebody made room again.
    pub fn make_room(&self) {
        let mut state = self.state.lock();
        self.space.credit(std::mem::take(&mut state.withheld));
    }

    /// How many syncs were asked for.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// How many appends were asked for.
    pub fn appends(&self) -> u64 {
        self.state.lock().appends
    }

    /// The plug is pulled: only what was synced stays, and `torn_bytes` of what came after.
    pub fn cut_power(&self, torn_bytes: usize) {
        let mut state = self.state.lock();
        let kept = (state.synced + torn_bytes).min(state.bytes.len());
        state.bytes.truncate(kept);
        state.synced = kept;
        state.faults = Faults::default();
    }

    /// The process dies, the machine lives: all that was written stays.
    pub fn kill_process(&self) {
        let mut state = self.state.lock();
        state.synced = state.bytes.len();
        state.faults = Faults::default();
    }

    /// The sound frames from the beginning, and how many bytes after them are a torn tail.
    pub fn frames(&self) -> Result<(Vec<MemoryFrame>, usize), JournalError> {
        let state = self.state.lock();
        let scanned = scan(&state.bytes)?;
        Ok((scanned.frames, state.bytes.len() - scanned.end))
    }
}

struct Scanned {
    frames: Vec<MemoryFrame>,
    end: usize,
    checksum: u32,
}

fn scan(bytes: &[u8]) -> Result<Scanned, JournalError> {
    let mut scanned = Scanned { frames: Vec::new(), end: 0, checksum: 0 };
    let mut due = FrameNumber::FIRST;
    while let Ok((header, body)) = frame::decode(&bytes[scanned.end..]) {
        if header.number != due || header.previous_checksum != scanned.checksum {
            let what = format!("frame {} stands where frame {due} was due", header.number);
            return Err(JournalError::Damaged { file: place(), offset: scanned.end as u64, what });
        }
        scanned.frames.push(MemoryFrame { number: due, records: header.records, body: body.to_vec() });
        scanned.end += FRAME_HEADER_BYTES + body.len();
        scanned.checksum = header.checksum;
        due = due.next();
    }
    Ok(scanned)
}

fn place() -> PathBuf {
    PathBuf::from("(memory)")
}

/// A journal on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryJournal {
    disk: MemoryDisk,
    next_frame: FrameNumber,
    checksum: u32,
    failed: Option<String>,
}

impl MemoryJournal {
    /// A new journal on a new disk.
    pub fn new() -> (Self, MemoryDisk) {
        let disk = MemoryDisk::new();
        let journal = Self { disk: disk.clone(), next_frame: FrameNumber::FIRST, checksum: 0, failed: None };
        (journal, disk)
    }

    /// Opens what is on `disk`, cutting a torn tail.
    pub fn open(disk: &MemoryDisk) -> Result<Self, JournalError> {
        let mut state = disk.state.lock();
        let scanned = scan(&state.bytes)?;
        state.bytes.truncate(scanned.end);
        state.synced = scanned.end;
        drop(state);
        let next_frame = FrameNumber(scanned.frames.len() as u64 + 1);
        Ok(Self { disk: disk.clone(), next_frame, checksum: scanned.checksum, failed: None })
    }

    fn check(&self) -> Result<(), JournalError> {
        match &self.failed {
            Some(reason) => Err(JournalError::Stopped { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn fail(&mut self, action: &'static str) -> JournalError {
        let source = io::Error::other("the memory disk fails on purpose");
        let error = JournalError::Io { action, path: place(), source };
        self.failed = Some(error.to_string());
        error
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, frame: Frame<'_>) -> Result<FrameNumber, JournalError> {
        self.check()?;
        let bytes = frame.body_bytes();
        if bytes > FRAME_BODY_BYTES_MAX {
            let error = JournalError::FrameTooLarge { bytes, bytes_max: FRAME_BODY_BYTES_MAX };
            self.failed = Some(error.to_string());
            return Err(error);
        }
        let (header, checksum) = frame::encode_header(frame, SEGMENT, self.next_frame, self.checksum);
        let mut state = self.disk.state.lock();
        state.appends += 1;
        let begin = state.bytes.len();
        state.bytes.extend_from_slice(&header);
        for part in frame.parts {
            state.bytes.extend_from_slice(part);
        }
        if state.faults.fail_append == Some(state.appends) {
            let half = begin + (state.bytes.len() - begin) / 2;
            state.bytes.truncate(half);
            drop(state);
            return Err(self.fail("write"));
        }
        drop(state);
        // Memory does not run out: a written record's claim returns to the budget.
        self.disk.space.credit(i64::try_from(bytes).unwrap_or(0));
        let number = self.next_frame;
        self.next_frame = number.next();
        self.checksum = checksum;
        Ok(number)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        let mut state = self.disk.state.lock();
        state.syncs += 1;
        if state.faults.fail_sync == Some(state.syncs) {
            drop(state);
            return Err(self.fail("sync"));
        }
        if !state.faults.lose_syncs {
            state.synced = state.bytes.len();
        }
        Ok(())
    }

    fn next_frame(&self) -> FrameNumber {
        self.next_frame
    }

    fn frame_bytes_max(&self) -> usize {
        FRAME_BODY_BYTES_MAX
    }

    fn space(&self) -> Arc<Space> {
        Arc::clone(&self.disk.space)
    }
}
