//! Prepares the next segment in the background, so that an append never waits for a file to grow.
//!
//! When the disk is full it tries again each second: claims resume by themselves once there is room. Without a thread
//! it works whenever it is tended. Start at [`Preparer::begin`].

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use doorbuster_engine::mutant::{self, Mutant};

use crate::disk::{self, Disk, DiskFile, OpenMode};
use crate::error::JournalError;
use crate::space::Space;

/// Who prepares the next segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preparation {
    /// A thread, which tries again each second while the disk is full.
    #[default]
    Thread,
    /// Whoever uses the journal: at the opening, and then each time it is tended. For a world of one thread.
    Inline,
}

/// A file of zeros, durable, waiting for its header and name.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) path: PathBuf,
}

/// What to prepare, and where.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) journal: PathBuf,
    pub(crate) segment_bytes: u64,
    /// What each prepared segment adds to `space`.
    pub(crate) usable_bytes: i64,
    pub(crate) space: Arc<Space>,
}

/// A full segment to be cut to what it uses. By its open file, since it may be moved to the archive meanwhile.
#[derive(Debug)]
struct Seal {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    used_bytes: u64,
}

enum Order {
    Prepare,
    Seal(Seal),
}

/// The way to whoever prepares.
#[derive(Debug)]
pub(crate) enum Preparer {
    /// A thread.
    Thread(Background),
    /// Its owner.
    Inline(Inline),
}

impl Preparer {
    /// Starts the first preparation.
    pub(crate) fn begin(plan: Plan, preparation: Preparation) -> Result<Self, JournalError> {
        Ok(match preparation {
            Preparation::Thread => Self::Thread(Background::spawn(plan)?),
            Preparation::Inline => Self::Inline(Inline::begin(plan)),
        })
    }

    /// The prepared segment; the next preparation begins.
    pub(crate) fn take(&mut self) -> Result<Prepared, JournalError> {
        match self {
            Self::Thread(background) => background.take(),
            Self::Inline(inline) => inline.take(),
        }
    }

    /// Has a full segment cut to what it uses, some time.
    pub(crate) fn seal(&mut self, file: Box<dyn DiskFile>, path: PathBuf, used_bytes: u64) {
        let seal = Seal { file, path, used_bytes };
        match self {
            Self::Thread(background) => background.order(Order::Seal(seal)),
            Self::Inline(inline) => inline.seals.push(seal),
        }
    }

    /// Does what waits, where no thread does it.
    pub(crate) fn tend(&mut self) {
        match self {
            Self::Thread(_) => {}
            Self::Inline(inline) => inline.tend(),
        }
    }
}

/// The background thread and the ways to it.
#[derive(Debug)]
pub(crate) struct Background {
    orders: Option<Sender<Order>>,
    ready: Receiver<Prepared>,
    thread: Option<JoinHandle<()>>,
    plan: Plan,
}

impl Background {
    fn spawn(plan: Plan) -> Result<Self, JournalError> {
        let (orders, inbox) = bounded(8);
        let (outbox, ready) = bounded(1);
        let worker = Worker { plan: plan.clone(), prepared: 0 };
        let thread = thread::Builder::new()
            .name("journal-preparer".to_owned())
            .spawn(move || worker.run(&inbox, &outbox))
            .map_err(JournalError::io("start the preparing thread for", &plan.journal))?;
        let background = Self { orders: Some(orders), ready, thread: Some(thread), plan };
        background.order(Order::Prepare);
        Ok(background)
    }

    /// Waits for a segment in preparation.
    fn take(&self) -> Result<Prepared, JournalError> {
        loop {
            match self.ready.recv_timeout(Duration::from_millis(20)) {
                Ok(prepared) => {
                    self.order(Order::Prepare);
                    return Ok(prepared);
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Claims keep this from happening: what was claimed fits what was prepared.
                    if let Some(reason) = self.plan.space.trouble() {
                        return Err(JournalError::Full { path: self.plan.journal.clone(), reason });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "the preparing thread ended".to_owned();
                    return Err(JournalError::Stopped { reason });
                }
            }
        }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A lost order means the thread ended; `take` reports that.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        while let Ok(prepared) = self.ready.try_recv() {
            let _ = self.plan.disk.remove(&prepared.path);
        }
    }
}

/// Preparation without a thread.
#[derive(Debug)]
pub(crate) struct Inline {
    worker: Worker,
    ready: Option<Prepared>,
    seals: Vec<Seal>,
}

impl Inline {
    fn begin(plan: Plan) -> Self {
        let mut inline = Self { worker: Worker { plan, prepared: 0 }, ready: None, seals: Vec::new() };
        inline.tend();
        inline
    }

    fn tend(&mut self) {
        for seal in self.seals.drain(..) {
            seal.carry_out();
        }
        if self.ready.is_none() {
            self.ready = self.worker.try_prepare();
        }
    }

    /// Prepares at once what nobody tended.
    fn take(&mut self) -> Result<Prepared, JournalError> {
        self.tend();
        let plan = &self.worker.plan;
        self.ready.take().ok_or_else(|| JournalError::Full {
            path: plan.journal.clone(),
            reason: plan.space.trouble().unwrap_or_default(),
        })
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        if let Some(prepared) = self.ready.take() {
            let _ = self.worker.plan.disk.remove(&prepared.path);
        }
    }
}

impl Seal {
    /// A segment left long only costs space: the reader takes zeros after the last frame.
    fn carry_out(self) {
        if let Err(error) = self.file.set_len(self.used_bytes).and_then(|()| self.file.sync_all()) {
            tracing::warn!(path = %self.path.display(), %error, "cannot shorten a sealed journal segment");
        }
    }
}

#[derive(Debug)]
struct Worker {
    plan: Plan,
    prepared: u64,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Order>, outbox: &Sender<Prepared>) {
        let mut wanted = 0_u32;
        loop {
            let order = if wanted == 0 {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                inbox.recv_timeout(Duration::from_secs(1))
            };
            match order {
                Ok(Order::Prepare) => wanted += 1,
                Ok(Order::Seal(seal)) => {
                    seal.carry_out();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(prepared) = self.try_prepare() {
                wanted -= 1;
                if outbox.send(prepared).is_err() {
                    return;
                }
            }
        }
    }

    /// Prepares one segment and credits its room, or says in the budget why that fails.
    fn try_prepare(&mut self) -> Option<Prepared> {
        let prepared = self.prepare();
        let space = &self.plan.space;
        match prepared {
            Ok(prepared) => {
                if space.trouble().is_some() {
                    tracing::info!("there is room for the journal again");
                }
                space.set_trouble(None);
                space.credit(self.plan.usable_bytes);
                Some(prepared)
            }
            Err(error) => {
                if space.trouble().is_none() {
                    let journal = self.plan.journal.display();
                    tracing::error!(%error, %journal, "cannot prepare a journal segment");
                }
                space.set_trouble(Some(error.to_string()));
                None
            }
        }
    }

    fn prepare(&mut self) -> io::Result<Prepared> {
        let path = self.plan.journal.join(format!("{}.preparing", self.prepared));
        self.prepared += 1;
        let disk = self.plan.disk.as_ref();
        let file = create_zeros(disk, &path, self.plan.segment_bytes)?;
        if mutant::active(Mutant::StaleSegmentFrames) {
            let named = disk.list(&self.plan.journal)?;
            let used = named.iter().rfind(|path| path.extension().is_some_and(|e| e == "segment"));
            let stale = used.map(|path| disk::read(disk, path)).transpose()?.unwrap_or_default();
            file.write_all_at(&mut [IoSlice::new(&stale)], 0)?;
            file.sync_all()?;
        }
        Ok(Prepared { file, path })
    }
}

/// A new file of `bytes` zeros, durable but for its name. Leaves nothing behind when it fails.
pub(crate) fn create_zeros(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
    /// Synced piece by piece: one large sync would stand in the way of the writer's small ones.
    const PIECE_BYTES: usize = 4 << 20;
    let made = disk.open(path, OpenMode::CreateNew { mode: 0o666 })?;
    let filled = (0..bytes).step_by(PIECE_BYTES).try_for_each(|from| {
        disk::write_zeros(&*made, from, bytes.min(from + PIECE_BYTES as u64))?;
        made.sync_data()
    });
    match filled.and_then(|()| made.sync_all()) {
        Ok(()) => Ok(made),
        Err(error) => {
            drop(made);
            let _ = disk.remove(path);
            Err(error)
        }
    }
}
