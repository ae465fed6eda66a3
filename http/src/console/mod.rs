//! The live console: one look a second at a running engine, shared by all who watch.
//!
//! Laws: (1) while nobody watches, nothing is done, and a request costs one look at a flag; (2) one thread looks, and encodes
//! once, however many watch; (3) everything is bounded (law 11): watchers, what waits for one, how long a look may take; (4) a
//! figure that could not be measured keeps the time of the last one, so that whoever shows it can show that it is old.
//!
//! Start at [`Console::open`]. The thread is [`watch`], a look [`look`]; what a look is made of is in [`story`] (the journal),
//! [`traffic`] (the front door) and [`page`] (the metrics). The page that shows it is in `console.html`, `.css` and `.js`.

mod look;
mod page;
mod story;
mod traffic;
mod watch;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;
use doorbuster_actors::{Engine, Readiness};
use doorbuster_engine::answer::Refusal;
use doorbuster_engine::identity::Timestamp;
use tokio::sync::mpsc;

use crate::live::{Ending, Source, Told};
use crate::problem::Problem;

pub(crate) use traffic::Traffic;

/// Watchers at a time: a team before its screens, and some scripts.
pub(crate) const WATCHERS_MAX: usize = 64;

/// Wishes that wait for the thread.
const WISHES_MAX: usize = 256;

/// Snapshots that wait for one watcher. The newest is the one that counts, so more would only be older.
const WAITING_MAX: usize = 2;

/// What the console says of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// What an acknowledgement means.
    pub(crate) durability: &'static str,
    /// When the process started.
    pub(crate) started_at: Timestamp,
}

/// What the thread is asked to do.
enum Wish {
    Open { watcher: u64, sender: mpsc::Sender<Arc<Told>>, ending: Arc<Ending> },
    Close(u64),
}

/// See the module's header.
pub(crate) struct Console {
    engine: Engine,
    facts: Facts,
    /// What the front door counts.
    pub(crate) traffic: Arc<Traffic>,
    /// To the thread, once somebody watched.
    wishes: OnceLock<Sender<Wish>>,
    open: Arc<AtomicUsize>,
    watchers: AtomicU64,
}

/// A watcher, until it is dropped.
pub(crate) struct Watching {
    receiver: mpsc::Receiver<Arc<Told>>,
    ending: Arc<Ending>,
    watcher: u64,
    wishes: Sender<Wish>,
    open: Arc<AtomicUsize>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        // Where the thread is too busy to hear it, it notices by itself that nobody listens.
        let _ = self.wishes.try_send(Wish::Close(self.watcher));
    }
}

impl Source for Watching {
    fn receiver(&mut self) -> &mut mpsc::Receiver<Arc<Told>> {
        &mut self.receiver
    }

    fn ending(&self) -> &Arc<Ending> {
        &self.ending
    }

    fn number(&self) -> u64 {
        self.watcher
    }
}

fn crowded() -> Problem {
    Refusal::Overloaded { retry_after_ms: 2_000 }.into()
}

impl Console {
    pub(crate) fn new(engine: Engine, facts: Facts) -> Self {
        Self {
            engine,
            facts,
            traffic: Arc::new(Traffic::new()),
            wishes: OnceLock::new(),
            open: Arc::default(),
            watchers: AtomicU64::new(0),
        }
    }

    /// Begins to watch: a snapshot comes within a second or two, then one each second.
    pub(crate) fn open(&self) -> Result<Watching, Problem> {
        match self.engine.readiness() {
            Readiness::Ready => {}
            Readiness::Recovering => return Err(Refusal::Recovering { retry_after_ms: 1_000 }.into()),
            Readiness::Draining => return Err(Refusal::Draining.into()),
        }
        let wishes = self.wishes()?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let watcher = self.watchers.fetch_add(1, Ordering::Relaxed);
        let ending = Arc::<Ending>::default();
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        // Counted from here on: whatever happens, its end is too.
        let watching = Watching {
            receiver,
            ending: Arc::clone(&ending),
            watcher,
            wishes: wishes.clone(),
            open: Arc::clone(&self.open),
        };
        if before >= WATCHERS_MAX {
            return Err(crowded());
        }
        wishes.try_send(Wish::Open { watcher, sender, ending }).map_err(|_| crowded())?;
        Ok(watching)
    }

    fn wishes(&self) -> Result<&Sender<Wish>, Problem> {
        if let Some(wishes) = self.wishes.get() {
            return Ok(wishes);
        }
        let (sender, wishes) = crossbeam_channel::bounded(WISHES_MAX);
        let watch = watch::Watch::new(self.engine.clone(), self.facts, Arc::clone(&self.traffic), wishes);
        if self.wishes.set(sender).is_ok() {
            let started = std::thread::Builder::new().name("console".to_owned()).spawn(move || watch.run());
            if let Err(error) = started {
                tracing::error!(%error, "no live console: its thread cannot be started; look at `ulimit -u`");
            }
        }
        self.wishes.get().ok_or_else(crowded)
    }
}
