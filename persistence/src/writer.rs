//! The one thread that writes: takes each worker's batches, one frame and one sync for all that wait.
//!
//! It never lingers: while one sync runs, the next batch forms by itself. Law 3: [`OnDurable`] is told of a batch only
//! after its frame is synced. Start at [`JournalWriter::spawn`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::Mutex;

use crate::error::JournalError;
use crate::frame::{Frame, FrameNumber};
use crate::journal::Journal;
use crate::space::{Claim, Space, StorageFull};

/// Told on the writer's thread, once a worker and sync: its batches up to this number are durable. Must not block.
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

/// Starts the journal's thread.
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
    thread: Mutex<Option<JoinHandle<Result<(), String>>>>,
}

impl JournalWriter {
    /// Takes the journal to its own thread.
    pub fn spawn(
        journal: Box<dyn Journal>,
        options: WriterOptions,
        on_durable: OnDurable,
        on_fatal: OnFatal,
    ) -> Result<JournalHandle, JournalError> {
        let (sender, inbox) = bounded(options.queue_batches_max.max(1));
        let (recycle, recycled) = bounded(64);
        let figures = Arc::new(Figures::default());
        let next = journal.next_frame().0;
        figures.next_frame.store(next, Ordering::Release);
        figures.durable_frame.store(next.saturating_sub(1), Ordering::Release);
        let (space, frame_bytes_max) = (journal.space(), journal.frame_bytes_max());
        let durability = options.durability;
        let thread_figures = Arc::clone(&figures);
        let thread = thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || {
                let writer =
                    Writer { journal, options, inbox, recycle, figures: thread_figures, frame_bytes_max };
                writer.run(&on_durable, &on_fatal)
            })
            .map_err(JournalError::io("start the thread of", Path::new("the journal")))?;
        let thread = Mutex::new(Some(thread));
        let shared = Shared { sender, recycled, figures, space, frame_bytes_max, durability, thread };
        Ok(JournalHandle { shared: Arc::new(shared) })
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

struct Writer {
    journal: Box<dyn Journal>,
    options: WriterOptions,
    inbox: Receiver<Message>,
    recycle: Sender<Vec<u8>>,
    figures: Arc<Figures>,
    frame_bytes_max: usize,
}

impl Writer {
    /// Frames take no more batches than this: it bounds the wait of the first one.
    const BATCHES_MAX: usize = 1_024;

    fn run(mut self, on_durable: &OnDurable, on_fatal: &OnFatal) -> Result<(), String> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut durable: Vec<(usize, u64)> = Vec::new();
        let mut carried: Option<(Batch, Instant)> = None;
        let mut ending = false;
        while !ending || carried.is_some() {
            let (first, mut oldest) = match carried.take() {
                Some(first) => first,
                None => match self.inbox.recv() {
                    Ok(Message::Batch(batch, submitted)) => (batch, submitted),
                    Ok(Message::Shutdown) | Err(_) => break,
                },
            };
            let mut bytes = first.bytes.len();
            batches.push(first);
            while !ending && batches.len() < Self::BATCHES_MAX {
                match self.inbox.try_recv() {
                    Ok(Message::Batch(batch, submitted)) => {
                        if bytes + batch.bytes.len() > self.frame_bytes_max {
                            carried = Some((batch, submitted));
                            break;
                        }
                        bytes += batch.bytes.len();
                        oldest = oldest.min(submitted);
                        batches.push(batch);
                    }
                    Ok(Message::Shutdown) | Err(TryRecvError::Disconnected) => ending = true,
                    Err(TryRecvError::Empty) => break,
                }
            }
            if let Err(error) = self.write(&batches, oldest) {
                let reason = error.to_string();
                tracing::error!(%error, "the journal failed");
                on_fatal(error);
                return Err(reason);
            }
            for batch in batches.drain(..) {
                match durable.iter_mut().find(|(worker, _)| *worker == batch.worker) {
                    Some((_, number)) => *number = (*number).max(batch.number),
                    None => durable.push((batch.worker, batch.number)),
                }
                self.recycle(batch.bytes);
            }
            for (worker, number) in durable.drain(..) {
                on_durable(worker, number);
            }
        }
        Ok(())
    }

    fn write(&mut self, batches: &[Batch], oldest: Instant) -> Result<(), JournalError> {
        let parts: Vec<&[u8]> =
            batches.iter().map(|b| b.bytes.as_slice()).filter(|b| !b.is_empty()).collect();
        if parts.is_empty() {
            return Ok(());
        }
        let frame = Frame { records: batches.iter().map(|batch| batch.records).sum(), parts: &parts };
        let began = Instant::now();
        let number = self.journal.append(frame)?;
        let written = Instant::now();
        self.figures.next_frame.store(number.next().0, Ordering::Release);
        let sync_us = match self.options.durability {
            Durability::Local => {
                self.journal.sync()?;
                micros(written, Instant::now())
            }
            Durability::Memory => 0,
        };
        self.figures.durable_frame.store(number.0, Ordering::Release);
        let bytes = frame.body_bytes() as u64;
        self.figures.frames.fetch_add(1, Ordering::Relaxed);
        self.figures.records.fetch_add(u64::from(frame.records), Ordering::Relaxed);
        self.figures.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.figures.last_sync_us.store(sync_us, Ordering::Relaxed);
        if let Some(on_sync) = &self.options.on_sync {
            on_sync(&SyncObservation {
                queue_us: micros(oldest, began),
                write_us: micros(began, written),
                sync_us,
                records: frame.records,
                bytes,
            });
        }
        Ok(())
    }

    fn recycle(&self, mut bytes: Vec<u8>) {
        /// A buffer that once held a large import is not kept for small ticks.
        const CAPACITY_MAX: usize = 1 << 20;
        if bytes.capacity() > 0 && bytes.capacity() <= CAPACITY_MAX {
            bytes.clear();
            let _ = self.recycle.try_send(bytes);
        }
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
