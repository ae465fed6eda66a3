//! Prepares the next segment in the background, so that an append never waits for a file to grow.
//!
//! When the disk is full it tries again each second: claims resume by themselves once there is room.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::disk;
use crate::error::JournalError;
use crate::space::Space;

/// A file of zeros, durable, waiting for its header and name.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

enum Order {
    /// Prepare another segment.
    Prepare,
    /// Cut a full segment to what it uses. By its open file, since it may be moved to the archive meanwhile.
    Seal { file: File, path: PathBuf, used_bytes: u64 },
}

/// The background thread and the ways to it.
#[derive(Debug)]
pub(crate) struct Preparer {
    orders: Option<Sender<Order>>,
    ready: Receiver<Prepared>,
    thread: Option<JoinHandle<()>>,
    journal: PathBuf,
    space: Arc<Space>,
}

impl Preparer {
    /// Starts the thread and the first preparation. Each ready segment adds `usable_bytes` to `space`.
    pub(crate) fn spawn(
        journal: &Path,
        segment_bytes: u64,
        usable_bytes: i64,
        space: Arc<Space>,
    ) -> Result<Self, JournalError> {
        let (orders, inbox) = bounded(8);
        let (outbox, ready) = bounded(1);
        let worker = Worker {
            journal: journal.to_path_buf(),
            segment_bytes,
            usable_bytes,
            space: Arc::clone(&space),
            prepared: 0,
        };
        let thread = thread::Builder::new()
            .name("journal-preparer".to_owned())
            .spawn(move || worker.run(&inbox, &outbox))
            .map_err(JournalError::io("start the preparing thread for", journal))?;
        let preparer =
            Self { orders: Some(orders), ready, thread: Some(thread), journal: journal.to_path_buf(), space };
        preparer.order(Order::Prepare);
        Ok(preparer)
    }

    /// The prepared segment, waiting for one in preparation; the next preparation begins.
    pub(crate) fn take(&self) -> Result<Prepared, JournalError> {
        loop {
            match self.ready.recv_timeout(Duration::from_millis(20)) {
                Ok(prepared) => {
                    self.order(Order::Prepare);
                    return Ok(prepared);
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Claims keep this from happening: what was claimed fits what was prepared.
                    if let Some(reason) = self.space.trouble() {
                        return Err(JournalError::Full { path: self.journal.clone(), reason });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "the preparing thread ended".to_owned();
                    return Err(JournalError::Stopped { reason });
                }
            }
        }
    }

    pub(crate) fn seal(&self, file: File, path: PathBuf, used_bytes: u64) {
        self.order(Order::Seal { file, path, used_bytes });
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A lost order means the thread ended; `take` reports that.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        while let Ok(prepared) = self.ready.try_recv() {
            let _ = fs::remove_file(prepared.path);
        }
    }
}

struct Worker {
    journal: PathBuf,
    segment_bytes: u64,
    usable_bytes: i64,
    space: Arc<Space>,
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
                Ok(Order::Seal { file, path, used_bytes }) => {
                    // A segment left long only costs space: the reader takes zeros after the last frame.
                    if let Err(error) = file.set_len(used_bytes).and_then(|()| file.sync_all()) {
                        tracing::warn!(path = %path.display(), %error, "cannot shorten a sealed journal segment");
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            match self.prepare() {
                Ok(prepared) => {
                    wanted -= 1;
                    if self.space.trouble().is_some() {
                        tracing::info!("there is room for the journal again");
                    }
                    self.space.set_trouble(None);
                    self.space.credit(self.usable_bytes);
                    if outbox.send(prepared).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if self.space.trouble().is_none() {
                        tracing::error!(%error, journal = %self.journal.display(), "cannot prepare a journal segment");
                    }
                    self.space.set_trouble(Some(error.to_string()));
                }
            }
        }
    }

    fn prepare(&mut self) -> io::Result<Prepared> {
        let path = self.journal.join(format!("{}.preparing", self.prepared));
        self.prepared += 1;
        create_zeros(&path, self.segment_bytes).map(|file| Prepared { file, path })
    }
}

/// A new file of `bytes` zeros, durable but for its name. Leaves nothing behind when it fails.
pub(crate) fn create_zeros(path: &Path, bytes: u64) -> io::Result<File> {
    /// Synced piece by piece: one large sync would stand in the way of the writer's small ones.
    const PIECE_BYTES: usize = 4 << 20;
    let made = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let filled = (0..bytes).step_by(PIECE_BYTES).try_for_each(|from| {
        disk::write_zeros(&made, from, bytes.min(from + PIECE_BYTES as u64))?;
        made.sync_data()
    });
    match filled.and_then(|()| made.sync_all()) {
        Ok(()) => Ok(made),
        Err(error) => {
            drop(made);
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}
