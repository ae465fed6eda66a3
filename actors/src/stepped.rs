//! An engine without threads: whoever holds [`Stepped`] decides when the journal writes, when it syncs, and when the
//! checkpointer goes on. Workers are tasks of one thread.
//!
//! It is the engine that serves: the same workers, writer, checkpointer and recovery, stepped instead of run. With a
//! [`crate::Host`] and a [`doorbuster_persistence::disk::Disk`] that follow a seed, the seed decides every byte of the journal.
//!
//! It lives in a `current_thread` runtime with time, inside a [`tokio::task::LocalSet`]. To kill it, drop that set, this,
//! and every [`Engine`]: nothing is said or written on the way out. Start at [`Engine::start_stepped`].

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::RequestKey;
use doorbuster_persistence::error::StartError;
use doorbuster_persistence::file_journal::Preparation;
use doorbuster_persistence::recovery::{Progress, RecoveryReport};
use doorbuster_persistence::writer::{JournalWriter, SteppedWriter};

use crate::checkpointer::{Checkpointer, Order};
use crate::engine::{Engine, Running, as_worker};
use crate::host::Host;
use crate::runtime::{EngineOptions, Shared};
use crate::start::Prepared;
use crate::types::Readiness;
use crate::worker::Worker;

/// The steps of an engine without threads. See the module's header.
pub struct Stepped {
    shared: Arc<Shared>,
    workers: Vec<Rc<Worker>>,
    writer: SteppedWriter,
    checkpointer: Checkpointer,
    orders: Receiver<Order>,
    stopped: bool,
}

impl Engine {
    /// [`Engine::start`] without threads. After [`EngineOptions::on_fatal`] was told, the process counts as dead: nothing
    /// may be stepped or heard any more.
    ///
    /// Call it where the engine is to live: monotonic time is the runtime's. `options.disk` and `host` make it follow a
    /// seed.
    pub fn start_stepped(
        options: EngineOptions,
        host: Arc<dyn Host>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Stepped, RecoveryReport), StartError> {
        let (prepared, journal) = Prepared::new(&options, Preparation::Inline, progress)?;
        let report = prepared.report.clone();
        let fatal = Arc::clone(&options.on_fatal);
        let (journal, writer) = JournalWriter::stepped(
            Box::new(journal),
            crate::start::writer_options(&options),
            prepared.on_durable(),
            Box::new(move |error| fatal(&error.to_string())),
        );
        let options = EngineOptions { host: Some(Arc::clone(&host)), ..options };
        let (shared, orders) = prepared.share(options, journal, host, end);
        let stepped = Stepped {
            checkpointer: Checkpointer::new(Arc::clone(&shared)),
            shared: Arc::clone(&shared),
            workers: Vec::new(),
            writer,
            orders,
            stopped: false,
        };
        Ok((Self::new(shared, Running { io: None, checkpointer: None }), stepped, report))
    }
}

impl Stepped {
    /// Starts all workers as tasks of the [`tokio::task::LocalSet`] this is called in; from then on the engine is ready.
    pub fn attach_workers(&mut self) {
        let seeds = std::mem::take(&mut *self.shared.seeds.lock());
        for (index, (seed, inbox)) in seeds.into_iter().flatten().enumerate() {
            self.workers.push(Worker::start(index, Arc::clone(&self.shared), seed, inbox));
        }
        let _ = self.shared.readiness.compare_exchange(Readiness::Recovering, Readiness::Ready);
        actix_rt::spawn(crate::observe::watch(Arc::downgrade(&self.shared)));
    }

    /// Runs `call` as if its connection were worker `index`'s: its parcels and replies go the way they go while serving.
    /// A call outside of this counts as one from another thread.
    pub fn at_worker<F: Future>(&self, index: usize, call: F) -> impl Future<Output = F::Output> + use<F> {
        let worker = self.workers.get(index).cloned();
        async move {
            let mut call = pin!(call);
            std::future::poll_fn(move |context| as_worker(worker.as_ref(), || call.as_mut().poll(context)))
                .await
        }
    }

    /// Writes one frame of all that waits, syncs it and tells the workers; `false` when nothing waited.
    pub fn journal_step(&mut self) -> bool {
        self.writer.step()
    }

    /// The first half of [`Stepped::journal_step`]: writes.
    pub fn journal_write(&mut self) -> bool {
        self.writer.step_write()
    }

    /// The second half: syncs and tells.
    pub fn journal_sync(&mut self) -> bool {
        self.writer.step_sync()
    }

    /// Lets the checkpointer take one portion or order, wake what is due and begin a round where it is time; `false` when
    /// nothing waited for it. Call it also then: time alone gives it work.
    pub fn checkpointer_step(&mut self) -> bool {
        let order = self.orders.try_recv().ok();
        let waited = order.is_some();
        if !self.stopped {
            self.stopped = !self.checkpointer.step(order);
        }
        waited
    }

    /// Checkpoint rounds finished since the start.
    pub fn checkpoint_rounds(&self) -> u64 {
        self.shared.rounds_done()
    }

    /// Journal bytes that can be claimed now, with what workers have in hand.
    pub fn room_bytes(&self) -> u64 {
        let in_hand: usize = self.workers.iter().map(|worker| worker.in_hand_bytes()).sum();
        self.shared.journal.stats().claimable_bytes.saturating_add(in_hand as u64)
    }

    /// Keys that the request index knows, those in hand and those answered within the last day, each with what it knows
    /// of it in a word or two.
    pub fn keys(&self) -> Vec<(RequestKey, &'static str)> {
        self.shared.index.stages()
    }

    /// Entities in memory, SKUs apart.
    pub fn residents(&self) -> Vec<EntityKey> {
        self.workers.iter().flat_map(|worker| worker.residents()).collect()
    }

    /// Timers armed: one for each reservation that is held, and one for each cart, order or coordinator in memory that
    /// waits for its time.
    pub fn timers(&self) -> usize {
        self.workers.iter().map(|worker| worker.wheel.borrow().len()).sum()
    }

    /// What each timer will wake, in words.
    pub fn armed(&self) -> Vec<String> {
        let named = |worker: &Rc<Worker>| {
            worker.wheel.borrow().entries().map(|due| format!("{due:?}")).collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(named).collect()
    }

    /// Whether the writer has ended, by [`Engine::stop`] or by a failure.
    pub fn journal_ended(&self) -> bool {
        self.writer.is_ended()
    }
}

impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").field("writer", &self.writer).finish_non_exhaustive()
    }
}

/// Ends the turn that cannot go on; `on_fatal` has been told, so nothing that follows counts.
fn end() -> ! {
    std::panic::resume_unwind(Box::new("the engine has ended"))
}
