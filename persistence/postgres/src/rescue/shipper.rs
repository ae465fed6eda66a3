//! The thread that ships: frames as they become durable, one statement at a time over all that wait.
//!
//! Laws: (3) a frame is confirmed only after the server said that it is committed, and never after a warning of the server;
//! (9) each session begins where the owner's row says, so every frame is shipped once; (11) what waits is in the
//! journal, not in memory, and nobody who sells waits for this thread unless answers are to wait for the copy. Start at
//! [`Shipper::spawn`].

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::rescue::CheckpointSource;
use doorbuster_persistence::rescue::shipment::Packer;
use doorbuster_persistence::tail::JournalTail;

use super::checkpoints::{Courier, Place};
use super::error::RescueError;
use super::sealing::{Files, RescueKey};
use super::status::Status;
use super::tables::{Claimant, Tables};
use crate::error::PostgresError;
use crate::migrations;
use crate::settings::DatabaseSettings;

/// Frames of so many bytes go in one batch, and one frame more: enough for a catch-up at the network's speed, small enough that
/// a slow server commits it in a second.
const BATCH_BYTES: usize = 4 << 20;

/// How long one answer of the server is waited for: a server that was stopped in its tracks must not stop us.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the server itself works on a statement: longer than we wait, so that our end is the first to give up.
const STATEMENT_TIMEOUT_MS: u64 = 60_000;

/// First wait after a session that failed, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often the lag is looked at, also while an answer is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a stop goes on shipping what is durable.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How it ships.
#[derive(Clone, Debug)]
pub struct ShipperOptions {
    /// Where to.
    pub database: DatabaseSettings,
    /// What proves that this directory owns the copy.
    pub token: [u8; 32],
    /// Secrets to seal, and under what; absent: none are shipped.
    pub secrets: Option<(RescueKey, Files)>,
    /// Whether to bring the schema up to date; else it must be.
    pub migrate: bool,
    /// Whether answers wait for the copy: then nothing lingers.
    pub is_replicated: bool,
    /// Least time between two batches, unless answers wait for them: fewer and larger ones cost less. Default 200 ms.
    pub interval: Duration,
    /// Least bytes of batches, compressed, after which another checkpoint is shipped. Default 256 MiB.
    pub checkpoint_bytes: u64,
}

impl ShipperOptions {
    /// Defaults for this database and token.
    pub fn new(database: DatabaseSettings, token: [u8; 32]) -> Self {
        Self {
            database: database.named("doorbuster rescue").with_patience(STATEMENT_TIMEOUT_MS, PATIENCE),
            token,
            secrets: None,
            migrate: true,
            is_replicated: false,
            interval: Duration::from_millis(200),
            checkpoint_bytes: 256 << 20,
        }
    }
}

/// Told on the shipper's thread when another directory owns the copy: this engine must stop.
pub type OnFenced = Box<dyn Fn(&RescueError) + Send>;

/// The running shipper.
#[derive(Debug)]
pub struct Shipper {
    status: Status,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shipper {
    /// Starts the thread. `tail` may stand anywhere: the copy says where to begin.
    pub fn spawn(
        tail: JournalTail,
        checkpoints: Box<dyn CheckpointSource>,
        options: ShipperOptions,
        on_fenced: OnFenced,
    ) -> io::Result<Self> {
        let status = Status::new(tail.durable_frame());
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            claimant: Claimant::new(tail.engine(), &options.token),
            packer: Packer::new(tail.engine()),
            courier: Courier::new(options.checkpoint_bytes),
            begun_at: tail.durable_frame(),
            written_before: tail.written_bytes(),
            body_bytes: 0,
            tail,
            checkpoints,
            options,
            status: status.clone(),
            stop: Arc::clone(&stop),
            is_migrated: false,
            is_sealed: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("rescue".to_owned())
            .spawn(move || runtime.block_on(worker.run(on_fenced)))?;
        Ok(Self { status, stop, thread: Some(thread) })
    }

    /// How far it is.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Ships what is durable, where Postgres takes it, and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker {
    tail: JournalTail,
    checkpoints: Box<dyn CheckpointSource>,
    options: ShipperOptions,
    claimant: Claimant,
    packer: Packer,
    courier: Courier,
    /// Frames after this one were written since this thread's start.
    begun_at: FrameNumber,
    /// Bytes of records that the journal's writer had written by then.
    written_before: u64,
    /// Bytes of records in the packer that were.
    body_bytes: u64,
    status: Status,
    stop: Arc<AtomicBool>,
    is_migrated: bool,
    is_sealed: bool,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl Worker {
    async fn run(mut self, on_fenced: OnFenced) {
        let mut pause = PAUSE_FIRST;
        loop {
            let before = self.status.figures().shipped;
            let Err(error) = self.session().await else { return };
            self.courier.abandon(&*self.checkpoints);
            self.packer.clear();
            self.body_bytes = 0;
            self.status.failed(&error);
            if self.status.figures().shipped > before {
                pause = PAUSE_FIRST;
            }
            if error.needs_a_person() {
                tracing::error!(%error, "the rescue copy is not being written, and needs a person");
                pause = PAUSE_MAX;
            } else {
                tracing::warn!(%error, retry_in_ms = pause.as_millis(), "the rescue copy falls behind");
            }
            if error.is_fenced() {
                on_fenced(&error);
            }
            if self.rest(pause).await {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits; whether it is to end.
    async fn rest(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.stop.load(Ordering::Acquire) {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY.min(pause)).await;
            self.look();
        }
        false
    }

    fn look(&self) {
        let written = self.tail.written_bytes().saturating_sub(self.written_before);
        self.status.observe(self.tail.durable_frame(), written);
    }

    /// Waits for an answer, and looks at the lag meanwhile.
    async fn looking<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut answer).await {
                Ok(answered) => return answered,
                Err(_) => self.look(),
            }
        }
    }

    /// One session with Postgres, until it fails or the engine stops.
    async fn session(&mut self) -> Result<(), RescueError> {
        let mut tables = self.open().await?;
        let (begin, begin_checksum) = self.beginning()?;
        let owner = self.looking(tables.attach(&self.claimant, begin, begin_checksum)).await?;
        self.check_history(owner.last_frame, owner.last_checksum)?;
        self.tail.seek(owner.last_frame.next());
        if let Some((key, files)) = self.options.secrets.as_ref().filter(|_| !self.is_sealed) {
            let sealed = key.seal(self.claimant.engine, files)?;
            self.looking(tables.put_secrets(&self.claimant, &sealed)).await?;
            self.is_sealed = true;
        }
        self.courier.attach(&tables, begin.next()).await?;
        self.status.attached(owner.epoch, owner.last_frame);
        self.tail.confirm_copied(owner.last_frame);
        tracing::info!(epoch = owner.epoch, frame = owner.last_frame.0, "the rescue copy is being written");
        let mut stop_by = None;
        loop {
            let is_stopping = self.stop.load(Ordering::Acquire);
            if is_stopping && Instant::now() > *stop_by.get_or_insert(Instant::now() + STOP_PATIENCE) {
                return Ok(());
            }
            let has_frames = self.tail.wait(LOOK_EVERY);
            self.look();
            // The carrier of the session runs only now: it hears of a server that went away.
            tokio::task::yield_now().await;
            if has_frames {
                let is_full = self.ship(&mut tables, owner.epoch).await?;
                if !self.options.is_replicated && !is_full && !is_stopping {
                    self.looking(tokio::time::sleep(self.options.interval)).await;
                }
            } else if is_stopping {
                return Ok(());
            } else if tables.connection.is_closed() {
                let place = self.options.database.place();
                return Err(PostgresError::Connect { place, what: "the session ended".to_owned() }.into());
            }
            self.carry(&mut tables).await?;
        }
    }

    /// A session in which the schema is what is needed.
    async fn open(&mut self) -> Result<Tables, RescueError> {
        let mut connection = self.looking(self.options.database.connect()).await?;
        if !self.is_migrated {
            if self.options.migrate {
                migrations::migrate(&mut connection).await?;
            } else {
                migrations::check(&mut connection).await?;
            }
            self.is_migrated = true;
        }
        Tables::open(connection).await
    }

    /// The frame before the first one at hand, and its checksum.
    fn beginning(&self) -> Result<(FrameNumber, u32), JournalError> {
        let reader = JournalReader::open(self.tail.paths(), self.claimant.engine, FrameNumber::FIRST)?;
        let checksum = reader.segments().first().map_or(0, |segment| segment.header.previous_checksum);
        Ok((FrameNumber(reader.first_frame().0 - 1), checksum))
    }

    /// Refuses a copy that is not of this journal, or knows more than it.
    fn check_history(&mut self, copied: FrameNumber, checksum: u32) -> Result<(), RescueError> {
        let durable = self.tail.durable_frame();
        if copied > durable {
            return Err(RescueError::Ahead { copied: copied.0, durable: durable.0 });
        }
        if copied < FrameNumber::FIRST {
            return Ok(());
        }
        self.tail.seek(copied);
        let found = match self.tail.next_frame() {
            Ok(frame) => frame.map(|frame| frame.checksum()),
            // The journal at hand begins later: the chain is looked at when the next frame is shipped.
            Err(JournalError::MissingSegment { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match found {
            Some(found) if found != checksum => Err(RescueError::OtherHistory { frame: copied.0 }),
            Some(_) | None => Ok(()),
        }
    }

    /// Ships one batch of all that waits; whether more may.
    async fn ship(&mut self, tables: &mut Tables, epoch: u64) -> Result<bool, RescueError> {
        while self.packer.raw_bytes() < BATCH_BYTES {
            let Some(frame) = self.tail.next_frame()? else { break };
            self.packer.add(&frame);
            if frame.number > self.begun_at {
                self.body_bytes += frame.body.len() as u64;
            }
        }
        let is_full = self.packer.raw_bytes() >= BATCH_BYTES;
        let Some(shipment) = self.packer.pack() else { return Ok(false) };
        let began = Instant::now();
        if !self.looking(tables.append(&self.claimant, epoch, &shipment)).await? {
            // The owner's row says otherwise: this tells what.
            let owner = tables.attach(&self.claimant, shipment.first_frame, 0).await?;
            if owner.epoch != epoch {
                return Err(RescueError::Fenced { epoch: owner.epoch });
            }
            return Err(RescueError::OtherHistory { frame: shipment.first_frame.0 });
        }
        let through = shipment.last_frame;
        let bytes = shipment.payload.len() as u64;
        self.status.shipped(through, std::mem::take(&mut self.body_bytes), bytes, began.elapsed());
        self.courier.shipped(bytes);
        self.tail.confirm_copied(through);
        Ok(is_full)
    }

    /// Does one thing for checkpoints, if there is one to do.
    async fn carry(&mut self, tables: &mut Tables) -> Result<(), RescueError> {
        let tail = &self.tail;
        let durable = || tail.durable_frame();
        let place = Place { shipped: self.status.figures().shipped, durable: &durable };
        self.courier.step(tables, &self.claimant, &*self.checkpoints, place, &self.status).await
    }
}
