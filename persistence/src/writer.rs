//! The one that writes: takes each worker's batches, one frame and one sync for all that wait.
//!
//! It never lingers: while one sync runs, the next batch forms by itself. Law 3: [`OnDurable`] is told of a batch only
//! after its frame is synced. While serving it is a
//! thread, in a simulation it is stepped; both take the same steps. Start at [`JournalWriter::spawn`].

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use doorbuster_engine::mutant::{self, Mutant};
use parking_lot::Mutex;

use crate::acknowledgements::{Acknowledgements, Held};
use crate::error::JournalError;
use crate::frame::{Frame, FrameNumber};
use crate::journal::Journal;
use crate::space::{Claim, Space, StorageFull};

/// Told once a worker and sync: its batches up to this number are durable. On the writer's thread, or under
/// [`Durability::Replicated`] on that of whoever confirms the copy. Must not block.
pub type OnDurable = Box<dyn Fn(usize, u64) + Send>;

/// Told once, on the writer's thread, when the journal failed; the process should stop.
pub type OnFatal = Box<dyn Fn(JournalError) + Send>;

/// Told after every frame what it cost.
pub type OnSync = Box<dyn Fn(&SyncObservation) + Send>;

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: frames are written and not synced. For load tests; every answer says so.
    Memory,
    /// The frame is on this machine's stable storage.
    #[default]
    Local,
    /// The frame is on this machine's stable storage, and a copy elsewhere has it too: told by
    /// [`JournalHandle::confirm_copied`].
    Replicated,
}

/// How the writer works.
pub struct WriterOptions {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Batches that may wait, over all workers. Beyond it `submit` blocks its worker, which admission should prevent.
    /// Default 4,096: at a batch a worker and tick it is never reached.
    pub queue_batches_max: usize,
    /// Told after every frame what it cost.
    pub on_sync: Option<OnSync>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { durability: Durability::Local, queue_batches_max: 4_096, on_sync: None }
    }
}

/// One frame's costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncObservation {
    /// Longest wait of a batch in the queue, microseconds.
    pub queue_us: u64,
    /// Writing, microseconds.
    pub write_us: u64,
    /// Syncing, microseconds; 0 under [`Durability::Memory`].
    pub sync_us: u64,
    /// Records in the frame.
    pub records: u32,
    /// Bytes in the frame.
    pub bytes: u64,
}

/// Records of one worker's tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Which worker.
    pub worker: usize,
    /// The worker's own ascending number for it, told back by [`OnDurable`].
    pub number: u64,
    /// Encoded records, one after another. May be empty: then it only marks a point in time.
    pub bytes: Vec<u8>,
    /// How many records.
    pub records: u32,
}

/// The writer has ended: after a failure or by shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal writer has ended; nothing more is taken until a restart")]
pub struct WriterEnded;

/// Figures of the writer since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Frames written.
    pub frames: u64,
    /// Records written.
    pub records: u64,
    /// Bytes of records written.
    pub bytes: u64,
    /// Batches waiting now.
    pub queue_depth: usize,
    /// Duration of the last sync, microseconds.
    pub last_sync_us: u64,
    /// Bytes that can be claimed now.
    pub claimable_bytes: u64,
}

/// Starts the journal's writer, with or without a thread of its own.
#[derive(Debug)]
pub struct JournalWriter;

enum Message {
    Batch(Batch, Instant),
    Shutdown,
}

#[derive(Debug, Default)]
struct Figures {
    frames: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    last_sync_us: AtomicU64,
    next_frame: AtomicU64,
    durable_frame: AtomicU64,
}

/// The way to the writer; cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub struct JournalHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sender: Sender<Message>,
    recycled: Receiver<Vec<u8>>,
    figures: Arc<Figures>,
    space: Arc<Space>,
    frame_bytes_max: usize,
    durability: Durability,
    /// Acknowledgements that wait for a copy, under [`Durability::Replicated`].
    held: Option<Arc<Held>>,
    thread: Mutex<Option<JoinHandle<Result<(), String>>>>,
}

impl JournalWriter {
    /// Takes the journal to its own thread, which steps whenever something waits.
    pub fn spawn(
        journal: Box<dyn Journal>,
        options: WriterOptions,
        on_durable: OnDurable,
        on_fatal: OnFatal,
    ) -> Result<JournalHandle, JournalError> {
        let queue = bounded(options.queue_batches_max.max(1));
        let (mut shared, stepped) = Self::parts(journal, options, queue, on_durable, on_fatal);
        let thread = thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || stepped.run())
            .map_err(JournalError::io("start the thread of", Path::new("the journal")))?;
        shared.thread = Mutex::new(Some(thread));
        Ok(JournalHandle { shared: Arc::new(shared) })
    }

    /// The writer without a thread. Its queue has no bound: a worker that waited for room in it would wait for itself.
    pub fn stepped(
        journal: Box<dyn Journal>,
        options: WriterOptions,
        on_durable: OnDurable,
        on_fatal: OnFatal,
    ) -> (JournalHandle, SteppedWriter) {
        let (shared, stepped) = Self::parts(journal, options, unbounded(), on_durable, on_fatal);
        (JournalHandle { shared: Arc::new(shared) }, stepped)
    }

    fn parts(
        journal: Box<dyn Journal>,
        options: WriterOptions,
        (sender, inbox): (Sender<Message>, Receiver<Message>),
        on_durable: OnDurable,
        on_fatal: OnFatal,
    ) -> (Shared, SteppedWriter) {
        let (recycle, recycled) = bounded(64);
        let figures = Arc::new(Figures::default());
        let next = journal.next_frame().0;
        figures.next_frame.store(next, Ordering::Release);
        figures.durable_frame.store(next.saturating_sub(1), Ordering::Release);
        let frame_bytes_max = journal.frame_bytes_max();
        let (acknowledgements, held) = match options.durability {
            Durability::Memory | Durability::Local => (Acknowledgements::AtOnce(on_durable), None),
            Durability::Replicated => {
                let held = Arc::new(Held::new(FrameNumber(next.saturating_sub(1)), on_durable));
                (Acknowledgements::Held(Arc::clone(&held)), Some(held))
            }
        };
        let shared = Shared {
            sender,
            recycled,
            figures: Arc::clone(&figures),
            space: journal.space(),
            frame_bytes_max,
            durability: options.durability,
            held,
            thread: Mutex::new(None),
        };
        let stepped = SteppedWriter {
            journal,
            options,
            inbox,
            recycle,
            figures,
            frame_bytes_max,
            acknowledgements,
            on_fatal,
            carried: None,
            batches: Vec::new(),
            written: None,
            durable: Vec::new(),
            ending: false,
            failed: None,
        };
        (shared, stepped)
    }
}

impl JournalHandle {
    /// Hands a batch over. One worker's batches become durable in the order submitted.
    ///
    /// Its bytes must have been claimed, and be at most [`JournalHandle::frame_bytes_max`].
    pub fn submit(&self, batch: Batch) -> Result<(), WriterEnded> {
        self.shared.sender.send(Message::Batch(batch, Instant::now())).map_err(|_| WriterEnded)
    }

    /// An empty buffer for a next batch, used before where there is one.
    pub fn buffer(&self) -> Vec<u8> {
        self.shared.recycled.try_recv().unwrap_or_default()
    }

    /// Sets journal space aside before a command is decided. Writing the records uses it up.
    pub fn claim(&self, bytes: usize) -> Result<Claim, StorageFull> {
        self.shared.space.claim(bytes)
    }

    /// Gives back what was claimed and not written.
    pub fn release(&self, bytes: usize) {
        self.shared.space.release(bytes);
    }

    /// Why no further segment can be prepared at present, if so.
    pub fn storage_trouble(&self) -> Option<String> {
        self.shared.space.trouble()
    }

    /// A frame at or below the next to be written: everything decided later lands in it or after it.
    pub fn next_frame(&self) -> FrameNumber {
        FrameNumber(self.shared.figures.next_frame.load(Ordering::Acquire))
    }

    /// The last durable frame; 0 before the first.
    pub fn durable_frame(&self) -> FrameNumber {
        FrameNumber(self.shared.figures.durable_frame.load(Ordering::Acquire))
    }

    /// Waits until frame `due` is on this machine's stable storage, `patience` at the most; returns the newest that is.
    ///
    /// Where nobody waits for a copy, nobody wakes the one who makes it either: it looks every few milliseconds.
    pub fn wait_for_durable(&self, due: FrameNumber, patience: Duration) -> FrameNumber {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        if let Some(held) = &self.shared.held {
            return held.wait_for_durable(due, patience);
        }
        let until = Instant::now() + patience;
        while self.durable_frame() < due && Instant::now() < until {
            thread::sleep(LOOK_EVERY.min(patience));
        }
        self.durable_frame()
    }

    /// A copy elsewhere has every frame up to `through`: under [`Durability::Replicated`] this lets their acknowledgements
    /// out, else it means nothing.
    pub fn confirm_copied(&self, through: FrameNumber) {
        if let Some(held) = &self.shared.held {
            held.confirm(through);
        }
    }

    /// Largest batch, in bytes.
    pub fn frame_bytes_max(&self) -> usize {
        self.shared.frame_bytes_max
    }

    /// What an acknowledgement promises.
    pub fn durability(&self) -> Durability {
        self.shared.durability
    }

    /// Figures since the start.
    pub fn stats(&self) -> WriterStats {
        let figures = &self.shared.figures;
        WriterStats {
            frames: figures.frames.load(Ordering::Relaxed),
            records: figures.records.load(Ordering::Relaxed),
            bytes: figures.bytes.load(Ordering::Relaxed),
            queue_depth: self.shared.sender.len(),
            last_sync_us: figures.last_sync_us.load(Ordering::Relaxed),
            claimable_bytes: self.shared.space.free_bytes(),
        }
    }

    /// Writes everything submitted before, closes the journal and waits for it. Not from a callback of the writer.
    ///
    /// The first caller gets the outcome; later ones `Ok`.
    pub fn shutdown(&self) -> Result<(), JournalError> {
        // A send that fails means the thread has ended already; its outcome says why.
        let _ = self.shared.sender.send(Message::Shutdown);
        let Some(thread) = self.shared.thread.lock().take() else { return Ok(()) };
        match thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(JournalError::Stopped { reason }),
            Err(_) => Err(JournalError::Stopped { reason: "the journal thread panicked".to_owned() }),
        }
    }
}

/// The writer without a thread: whoever holds it decides when it writes and when it syncs. For a world of one thread,
/// in which a crash may fall between the two.
pub struct SteppedWriter {
    journal: Box<dyn Journal>,
    options: WriterOptions,
    inbox: Receiver<Message>,
    recycle: Sender<Vec<u8>>,
    figures: Arc<Figures>,
    frame_bytes_max: usize,
    acknowledgements: Acknowledgements,
    on_fatal: OnFatal,
    /// Taken from the inbox for the next frame.
    carried: Option<(Batch, Instant)>,
    /// In the frame that was written, or that is being gathered.
    batches: Vec<Batch>,
    /// The frame that is written and not told of yet.
    written: Option<Written>,
    /// The newest batch of each worker in that frame.
    durable: Vec<(usize, u64)>,
    ending: bool,
    failed: Option<String>,
}

/// A frame between its write and its sync.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// Its number, unless all its batches were empty and there is none.
    frame: Option<FrameNumber>,
    records: u32,
    bytes: u64,
    queue_us: u64,
    write_us: u64,
    at: Instant,
}

impl SteppedWriter {
    /// Frames take no more batches than this: it bounds the wait of the first one.
    const BATCHES_MAX: usize = 1_024;

    /// Writes one frame of all that waits, syncs it and tells; `false` when nothing waited.
    pub fn step(&mut self) -> bool {
        let wrote = self.step_write();
        let synced = self.step_sync();
        wrote || synced
    }

    /// The first half of a step: writes one frame of all that waits; `false` when nothing waited, or the frame before
    /// is not synced yet.
    pub fn step_write(&mut self) -> bool {
        if self.failed.is_some() || self.written.is_some() {
            return false;
        }
        self.journal.tend();
        let Some(oldest) = self.gather() else { return false };
        match self.write(oldest) {
            Ok(written) => self.written = Some(written),
            Err(error) => self.fail(error),
        }
        if mutant::active(Mutant::AcknowledgeBeforeSync) {
            self.tell();
        }
        true
    }

    /// The second half of a step: syncs the frame written and tells whose batches are durable; `false` when there is none.
    pub fn step_sync(&mut self) -> bool {
        let Some(written) = self.written.take() else { return false };
        match self.sync(written) {
            Ok(()) => self.tell(),
            Err(error) => self.fail(error),
        }
        true
    }

    /// Whether it was shut down and has written everything, or failed: then no step does anything any more.
    pub fn is_ended(&self) -> bool {
        let idle = self.carried.is_none() && self.written.is_none();
        self.failed.is_some() || (self.ending && idle)
    }

    fn run(mut self) -> Result<(), String> {
        while !self.is_ended() {
            if self.carried.is_none() {
                match self.inbox.recv() {
                    Ok(Message::Batch(batch, submitted)) => self.carried = Some((batch, submitted)),
                    Ok(Message::Shutdown) | Err(_) => break,
                }
            }
            self.step();
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Takes batches for one frame; returns when the one that waited longest was submitted.
    fn gather(&mut self) -> Option<Instant> {
        let mut bytes = 0;
        let mut oldest: Option<Instant> = None;
        while self.batches.len() < Self::BATCHES_MAX {
            let (batch, submitted) = match self.carried.take() {
                Some(carried) => carried,
                None if self.ending => break,
                None => match self.inbox.try_recv() {
                    Ok(Message::Batch(batch, submitted)) => (batch, submitted),
                    Ok(Message::Shutdown) | Err(TryRecvError::Disconnected) => {
                        self.ending = true;
                        break;
                    }
                    Err(TryRecvError::Empty) => break,
                },
            };
            if oldest.is_some() && bytes + batch.bytes.len() > self.frame_bytes_max {
                self.carried = Some((batch, submitted));
                break;
            }
            bytes += batch.bytes.len();
            oldest = Some(oldest.map_or(submitted, |oldest| oldest.min(submitted)));
            self.batches.push(batch);
        }
        oldest
    }

    fn write(&mut self, oldest: Instant) -> Result<Written, JournalError> {
        let parts: Vec<&[u8]> =
            self.batches.iter().map(|b| b.bytes.as_slice()).filter(|b| !b.is_empty()).collect();
        let frame = Frame { records: self.batches.iter().map(|batch| batch.records).sum(), parts: &parts };
        let began = Instant::now();
        let mut written = Written {
            frame: None,
            records: frame.records,
            bytes: frame.body_bytes() as u64,
            queue_us: micros(oldest, began),
            write_us: 0,
            at: began,
        };
        if !parts.is_empty() {
            let number = self.journal.append(frame)?;
            written.frame = Some(number);
            written.at = Instant::now();
            written.write_us = micros(began, written.at);
            self.figures.next_frame.store(number.next().0, Ordering::Release);
        }
        Ok(written)
    }

    fn sync(&mut self, written: Written) -> Result<(), JournalError> {
        let Some(number) = written.frame else { return Ok(()) };
        let sync_us = match self.options.durability {
            Durability::Local | Durability::Replicated => {
                self.journal.sync()?;
                micros(written.at, Instant::now())
            }
            Durability::Memory => 0,
        };
        self.figures.durable_frame.store(number.0, Ordering::Release);
        self.figures.frames.fetch_add(1, Ordering::Relaxed);
        self.figures.records.fetch_add(u64::from(written.records), Ordering::Relaxed);
        self.figures.bytes.fetch_add(written.bytes, Ordering::Relaxed);
        self.figures.last_sync_us.store(sync_us, Ordering::Relaxed);
        if let Some(on_sync) = &self.options.on_sync {
            on_sync(&SyncObservation {
                queue_us: written.queue_us,
                write_us: written.write_us,
                sync_us,
                records: written.records,
                bytes: written.bytes,
            });
        }
        Ok(())
    }

    fn tell(&mut self) {
        for batch in self.batches.drain(..) {
            match self.durable.iter_mut().find(|(worker, _)| *worker == batch.worker) {
                Some((_, number)) => *number = (*number).max(batch.number),
                None => self.durable.push((batch.worker, batch.number)),
            }
            recycle(&self.recycle, batch.bytes);
        }
        // Batches without records wait for the frames before them.
        let frame = FrameNumber(self.journal.next_frame().0.saturating_sub(1));
        self.acknowledgements.tell(frame, self.durable.drain(..));
    }

    fn fail(&mut self, error: JournalError) {
        self.failed = Some(error.to_string());
        tracing::error!(%error, "the journal failed");
        (self.on_fatal)(error);
    }
}

impl fmt::Debug for SteppedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SteppedWriter");
        shown.field("waiting", &self.inbox.len()).field("written", &self.written);
        shown.field("ending", &self.ending).field("failed", &self.failed).finish_non_exhaustive()
    }
}

fn recycle(recycle: &Sender<Vec<u8>>, mut bytes: Vec<u8>) {
    /// A buffer that once held a large import is not kept for small ticks.
    const CAPACITY_MAX: usize = 1 << 20;
    if bytes.capacity() > 0 && bytes.capacity() <= CAPACITY_MAX {
        bytes.clear();
        let _ = recycle.try_send(bytes);
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
