//! A disk that does everything to its files that a real one may: a pure function of its seed and of what is asked of it.
//!
//! What a power cut leaves of unsynced work, and nothing else, is left to chance here: each block of a write is kept, lost or
//! torn, in any order; lengths and names come or do not; batches of the store survive as a prefix. Only a completed
//! sync is a barrier (law 3). A kill keeps everything written, since the kernel lives on; it stays unsynced.
//!
//! A [`Machine`] outlives its processes. [`Machine::boot`] gives a process the disk it sees; once that process is cut
//! off, every operation of it fails. Steer it by [`Machine::set_faults`]. Start at [`Machine`].

mod content;
mod names;
mod process;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorbuster_persistence::disk::Disk;

use crate::random::Random;
use content::Content;
use names::{Names, Node};
use process::ProcessDisk;
use store::Store;

/// What shall go wrong from now on. Countdowns are spent by what they count: 0 is the very next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The power fails at this operation, before it or after it.
    pub cut_in: Option<u64>,
    /// The process is killed at this operation, before it or after it.
    pub kill_in: Option<u64>,
    /// This write fails, after a part of it was written.
    pub fail_write_in: Option<u64>,
    /// This sync fails. What it should have made durable counts as clean afterwards and is on the disk in part or not at
    /// all, as Linux does it.
    pub fail_sync_in: Option<u64>,
    /// This read of the store fails.
    pub fail_store_read_in: Option<u64>,
    /// This change of the store fails.
    pub fail_store_write_in: Option<u64>,
    /// At the next power cut the store loses a row that was synced, or finds an older one in its place.
    pub damage_store: bool,
    /// At the next power cut one bit of what was kept unsynced is wrong.
    pub flip_unsynced: bool,
    /// One of this many writes and syncs takes long.
    pub slow_one_in: Option<u64>,
    /// How long it takes at the most, in milliseconds.
    pub slow_ms_max: u64,
}

/// How often each fault really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Power cuts.
    pub cuts: u64,
    /// Kills.
    pub kills: u64,
    /// Blocks of unsynced writes that a cut kept.
    pub blocks_kept: u64,
    /// Blocks of unsynced writes that a cut lost.
    pub blocks_lost: u64,
    /// Blocks of unsynced writes of which a cut kept a part.
    pub blocks_torn: u64,
    /// Cuts that kept a block and lost one that was written earlier.
    pub reorderings: u64,
    /// Files whose unsynced length a cut lost.
    pub lengths_lost: u64,
    /// Unsynced creations, renames and removals that a cut kept.
    pub names_kept: u64,
    /// Unsynced creations, renames and removals that a cut lost.
    pub names_lost: u64,
    /// Bits flipped in what a cut kept unsynced.
    pub bits_flipped_unsynced: u64,
    /// Bits flipped on purpose in what was synced.
    pub bits_flipped_synced: u64,
    /// Operations refused because the disk was full.
    pub refused_full: u64,
    /// Writes that failed.
    pub writes_failed: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Writes and syncs that took long.
    pub slow: u64,
    /// Unsynced batches of a store that a cut kept.
    pub batches_kept: u64,
    /// Unsynced batches of a store that a cut lost.
    pub batches_lost: u64,
    /// Synced rows of a store that were made old or lost.
    pub rows_damaged: u64,
    /// Reads of a store that failed.
    pub store_reads_failed: u64,
    /// Changes of a store that failed.
    pub store_writes_failed: u64,
}

/// Where a bit was flipped on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flipped {
    /// Which file.
    pub file: PathBuf,
    /// Which of its bytes.
    pub offset: u64,
}

/// A machine's disk, as somebody outside of every process sees it. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct Machine {
    state: Arc<Mutex<State>>,
}

impl Machine {
    /// An empty disk of `capacity_bytes`, with a directory `/`.
    pub fn new(random: Random, capacity_bytes: u64) -> Self {
        let state = State {
            random,
            life: 0,
            is_off: true,
            capacity_bytes,
            capacity_now_bytes: capacity_bytes,
            faults: Faults::default(),
            happened: Happened::default(),
            operations: 0,
            delay_ms: 0,
            cut_after: false,
            kill_after: false,
            names: Names::new(),
            files: BTreeMap::new(),
            stores: BTreeMap::new(),
            next_node: 1,
            locks: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk that a new process sees. What an earlier process still holds is dead from here on.
    pub fn boot(&self) -> Arc<dyn Disk> {
        let mut state = self.lock();
        state.life += 1;
        state.is_off = false;
        state.locks.clear();
        Arc::new(ProcessDisk::new(self.clone(), state.life))
    }

    /// Whether a power cut or a kill has ended the process, so that every operation fails until the next boot.
    pub fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// Chooses what goes wrong from now on, in place of what was chosen before.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// What is still to go wrong.
    pub fn faults(&self) -> Faults {
        self.lock().faults
    }

    /// How often each fault really happened so far.
    pub fn happened(&self) -> Happened {
        self.lock().happened
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Virtual milliseconds that slow operations took since the last call; the driver lets them pass.
    pub fn take_delay_ms(&self) -> u64 {
        std::mem::take(&mut self.lock().delay_ms)
    }

    /// The plug is pulled.
    pub fn cut_power(&self) {
        self.lock().cut();
    }

    /// The process is killed.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// Somebody else fills the disk, but for `left_bytes`.
    pub fn fill(&self, left_bytes: u64) {
        let mut state = self.lock();
        state.capacity_now_bytes = state.used_bytes() + left_bytes;
    }

    /// Somebody else makes room again.
    pub fn make_room(&self) {
        let mut state = self.lock();
        state.capacity_now_bytes = state.capacity_bytes;
    }

    /// Whether somebody else has filled the disk.
    pub fn is_filled(&self) -> bool {
        let state = self.lock();
        state.capacity_now_bytes < state.capacity_bytes
    }

    /// Shows a file's bytes, as a process would read them, to `see`; does nothing where there is no such file.
    pub fn with_file(&self, path: &Path, see: &mut dyn FnMut(&[u8])) {
        let state = self.lock();
        if let Some(content) = state.file_at(path) {
            see(content.seen());
        }
    }

    /// Shows the bytes of a file that completed syncs guarantee, and no others, to `see`; does nothing where no file of
    /// this name would surely be there after a power cut.
    pub fn with_synced_file(&self, path: &Path, see: &mut dyn FnMut(&[u8])) {
        let state = self.lock();
        if let Some(Node::File(node)) = state.names.get_synced(path)
            && let Some(content) = state.files.get(&node)
        {
            see(content.synced());
        }
    }

    /// Files and directories that would surely be in `directory` after a power cut, in order.
    pub fn list_synced(&self, directory: &Path) -> Vec<PathBuf> {
        self.lock().names.list_synced(directory)
    }

    /// Files and directories in `directory`, in order.
    pub fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.lock().names.list(directory)
    }

    /// A machine of its own with what this disk holds now, and the same chance ahead: to try what would become of it.
    /// It is off.
    pub fn fork(&self) -> Self {
        let mut state = self.lock().clone();
        state.is_off = true;
        state.locks.clear();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// As [`Machine::fork`], but with the stores alone and no faults ahead: to look at them beside the process that uses them.
    pub fn fork_stores(&self) -> Self {
        let mut state = self.lock();
        let files = std::mem::take(&mut state.files);
        let mut copy = state.clone();
        state.files = files;
        copy.is_off = true;
        copy.locks.clear();
        copy.faults = Faults::default();
        Self { state: Arc::new(Mutex::new(copy)) }
    }

    /// Loses a row of a store, or puts an older one in its place, on the disk itself. False where there is none.
    pub fn damage_store(&self) -> bool {
        let mut state = self.lock();
        let State { random, stores, .. } = &mut *state;
        let damaged = stores.values_mut().any(|store| store.damage_now(random));
        state.happened.rows_damaged += u64::from(damaged);
        damaged
    }

    /// Takes a file away for good, as somebody who ships the archive does. False where it is missing.
    pub fn take_away(&self, path: &Path) -> bool {
        self.lock().names.take_away(path)
    }

    /// Flips one bit on the disk itself, synced or not. False where the file is missing or ends before.
    pub fn flip(&self, path: &Path, offset: u64, bit: u32) -> bool {
        let mut state = self.lock();
        let Some(Node::File(node)) = state.names.get(path) else { return false };
        let flipped = state.files.get_mut(&node).is_some_and(|content| content.flip(offset, bit));
        state.happened.bits_flipped_synced += u64::from(flipped);
        flipped
    }

    /// Flips one bit of a frame in the newest segment of `journal` that another frame follows: damage that no torn tail
    /// explains. `None` where there are no two frames.
    pub fn flip_old_frame(&self, journal: &Path) -> Option<Flipped> {
        let mut state = self.lock();
        let segments = state.names.list(journal);
        let file = segments.into_iter().rfind(|path| path.extension().is_some_and(|e| e == "segment"))?;
        let frames = frames_of(state.file_at(&file)?.seen());
        let (last, first) = (*frames.last()?, *frames.first()?);
        if first == last {
            return None;
        }
        let offset = state.random.between(first, last - 1);
        let bit = u32::try_from(state.random.below(8)).unwrap_or(0);
        drop(state);
        self.flip(&file, offset, bit).then_some(Flipped { file, offset })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the simulated process says nothing about the disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offsets of a segment's frames, by their lengths alone.
fn frames_of(bytes: &[u8]) -> Vec<u64> {
    let mut frames = Vec::new();
    let mut at = 64;
    while bytes.get(at..at + 4) == Some(b"DBFR") {
        let Some(length) = bytes.get(at + 4..at + 8) else { break };
        frames.push(at as u64);
        at += 36 + length.iter().rev().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
    }
    frames
}

/// What the machine knows.
#[derive(Clone, Debug)]
struct State {
    random: Random,
    /// Number of the process whose operations are carried out.
    life: u64,
    is_off: bool,
    capacity_bytes: u64,
    capacity_now_bytes: u64,
    faults: Faults,
    happened: Happened,
    operations: u64,
    delay_ms: u64,
    /// The operation under way is the last one.
    cut_after: bool,
    kill_after: bool,
    names: Names,
    files: BTreeMap<u64, Content>,
    stores: BTreeMap<u64, Store>,
    next_node: u64,
    /// Who holds which lock: shared by how many, 0 for exclusively.
    locks: BTreeMap<PathBuf, u64>,
}

/// Spends one of a countdown; true when it was the last.
fn strike(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

impl State {
    /// Before an operation of process `life`: fails when the process is dead, or dies here.
    fn enter(&mut self, life: u64) -> io::Result<()> {
        if self.is_off || life != self.life {
            return Err(off());
        }
        self.operations += 1;
        if strike(&mut self.faults.cut_in) {
            self.cut_after = self.random.one_in(2);
            if !self.cut_after {
                self.cut();
                return Err(off());
            }
        }
        if strike(&mut self.faults.kill_in) {
            self.kill_after = self.random.one_in(2);
            if !self.kill_after {
                self.kill();
                return Err(off());
            }
        }
        Ok(())
    }

    /// After an operation: fails when the process dies before it learns the outcome.
    fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.cut_after) {
            self.cut();
            return Err(off());
        }
        if std::mem::take(&mut self.kill_after) {
            self.kill();
            return Err(off());
        }
        Ok(())
    }

    /// A write or a sync may take long.
    fn dawdle(&mut self) {
        if let Some(one_in) = self.faults.slow_one_in
            && self.random.one_in(one_in.max(1))
        {
            self.happened.slow += 1;
            self.delay_ms += self.random.between(1, self.faults.slow_ms_max.max(1));
        }
    }

    fn node(&mut self) -> u64 {
        self.next_node += 1;
        self.next_node
    }

    fn file_at(&self, path: &Path) -> Option<&Content> {
        match self.names.get(path)? {
            Node::File(node) => self.files.get(&node),
            Node::Directory | Node::Store(_) => None,
        }
    }

    fn used_bytes(&self) -> u64 {
        let mut used = 0;
        for node in self.names.nodes() {
            used += match node {
                Node::File(node) => self.files.get(&node).map_or(0, |content| content.seen().len() as u64),
                Node::Store(node) => self.stores.get(&node).map_or(0, Store::bytes),
                Node::Directory => 0,
            };
        }
        used
    }

    /// Refuses to take `more` bytes of a full disk. The file or store that grows is out of its table just now, and has
    /// `own_bytes`.
    fn allot_beside(&mut self, more: u64, own_bytes: u64) -> io::Result<()> {
        if more > 0 && self.used_bytes() + own_bytes + more > self.capacity_now_bytes {
            self.happened.refused_full += 1;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn kill(&mut self) {
        if !self.is_off {
            self.happened.kills += 1;
            self.is_off = true;
            self.locks.clear();
            self.sweep();
        }
    }

    fn cut(&mut self) {
        /// How much of what is unsynced survives, in percent: nothing and everything are as likely as a mixture.
        const SURVIVING: [u64; 6] = [0, 100, 10, 50, 50, 90];
        self.happened.cuts += 1;
        self.is_off = true;
        self.locks.clear();
        let surviving = *self.random.pick(&SURVIVING);
        self.names.cut(&mut self.random, surviving, &mut self.happened);
        let mut flip = std::mem::take(&mut self.faults.flip_unsynced);
        for content in self.files.values_mut() {
            flip = content.cut(&mut self.random, surviving, flip, &mut self.happened);
        }
        let damage = std::mem::take(&mut self.faults.damage_store);
        for store in self.stores.values_mut() {
            store.cut(&mut self.random, damage, &mut self.happened);
        }
        self.sweep();
    }

    /// Forgets files that no name leads to, now or after a power cut. Nobody holds them open: every process is dead.
    fn sweep(&mut self) {
        let (files, stores) = self.names.reachable();
        self.files.retain(|node, _| files.contains(node));
        self.stores.retain(|node, _| stores.contains(node));
    }
}
