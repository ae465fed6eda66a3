//! Checkpoints while serving: each round every worker hands over what changed, one state at a time and only when it is
//! durable; this thread writes it to the store and then says from which frame a replay may begin.
//!
//! Laws 3 and 10: the mark is written last, after everything it promises, and journal segments are archived only
//! behind the older of the two kept marks. A round that cannot be completed leaves the last mark in force. While serving
//! it is a thread, in a simulation it is stepped; both take the same steps. Start at [`Checkpointer::step`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use doorbuster_engine::answer::LedgerChunk;
use doorbuster_engine::event::{EntityKey, PARTITIONS};
use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::world::{ANSWER_MEMORY_MS, Snapshot};
use doorbuster_persistence::archive::archive_segments;
use doorbuster_persistence::checkpoint::{
    CheckpointStore, ColdKind, ColdRow, EntityRow, OrderRow, Residence, RoundMark,
};
use doorbuster_persistence::codec::{decode_stored, encode_stored};
use doorbuster_persistence::error::{CheckpointError, JournalError};
use doorbuster_persistence::frame::FrameNumber;
use tokio::time::Instant;

use crate::message::{Body, Parcel};
use crate::runtime::Shared;
use crate::worker::{Inbound, Remembered};

/// Most due times of cold entities woken at a time.
const DUE_MAX: usize = 10_000;

/// Most answers past their day dropped in one round: a second's work, and at a round in ten seconds 20,000 a second.
const FORGOTTEN_MAX: usize = 200_000;

/// Time between two looks for cold entities whose time has come: within the second that an expiry may be late.
const DUE_EVERY: Duration = Duration::from_millis(500);

/// A state on its way to the store.
pub(crate) struct Row {
    state: EntityRow,
    due: Option<Timestamp>,
    order: Option<OrderRow>,
}

impl Row {
    /// The row of one entity.
    pub(crate) fn of(entity: &EntityKey, snapshot: &Snapshot, sequence: u64) -> Self {
        let residence = if snapshot.is_resident() { Residence::Resident } else { Residence::Cold };
        let order = match snapshot {
            Snapshot::Order(order) => {
                let summary = order.summary();
                Some(order_row(summary.created_at, summary.id, encode(&summary)))
            }
            Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_) => None,
        };
        let state = EntityRow { entity: entity.clone(), sequence, residence, blob: encode(snapshot) };
        Self { state, due: snapshot.due(), order }
    }
}

/// States are bounded far below the encoder's limit, so one that does not fit is a bug: the turn that meets it panics.
fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    match encode_stored(value) {
        Ok(bytes) => bytes,
        Err(error) => panic!("a state cannot be encoded: {error}"),
    }
}

fn order_row(created_at: Timestamp, order: OrderId, summary: Vec<u8>) -> OrderRow {
    OrderRow { created_at_ms: created_at.0, order, summary }
}

/// What workers hand over.
pub(crate) enum Portion {
    /// One entity's state.
    Row(Box<Row>),
    /// Entities that are gone, each with its last sequence.
    Gone(Vec<(EntityKey, u64)>),
    /// Answers and endings.
    Remembered(Vec<Remembered>),
    /// Ledger entries that left a SKU's memory.
    Ledger(LedgerChunk),
    /// A worker has handed over everything of a round.
    Done {
        /// Which round.
        round: u64,
        /// Whether some state could not be had.
        failed: bool,
        /// Sequences of its partitions when the round began there.
        sequences: Box<[u64; PARTITIONS]>,
    },
}

/// A request to the thread from outside the workers.
pub(crate) enum Order {
    /// A worker's portion.
    Portion(Portion),
    /// Run a round now and say when it is done.
    Round(std::sync::mpsc::SyncSender<()>),
    /// End.
    Stop,
}

struct Round {
    number: u64,
    from: FrameNumber,
    waiting: usize,
    failed: bool,
    sequences: [u64; PARTITIONS],
    asked_by: Vec<std::sync::mpsc::SyncSender<()>>,
    began: Instant,
}

/// Something the store or the archive refused.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] CheckpointError),
    #[error(transparent)]
    Archive(#[from] JournalError),
}

/// Starts the thread.
pub(crate) fn spawn(shared: Arc<Shared>, orders: Receiver<Order>) -> std::io::Result<JoinHandle<()>> {
    let name = "checkpointer".to_owned();
    std::thread::Builder::new().name(name).spawn(move || Checkpointer::new(shared).run(&orders))
}

/// See the module's header.
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    current: Option<Round>,
    /// Whom to tell when the next round is done.
    asked_by: Vec<std::sync::mpsc::SyncSender<()>>,
    rounds: u64,
    last_from: FrameNumber,
    last_round: Instant,
    last_due: Instant,
    /// Due entries whose entities were woken since the running round began; they leave the store with the next one.
    woken: BTreeSet<(u64, EntityKey)>,
    /// Due entries whose wake-up the running round makes durable.
    closing: BTreeSet<(u64, EntityKey)>,
    broken: bool,
}

impl Checkpointer {
    /// A checkpointer before its first round.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            current: None,
            asked_by: Vec::new(),
            rounds: 0,
            last_from: FrameNumber(0),
            last_round: Instant::now(),
            last_due: Instant::now(),
            woken: BTreeSet::new(),
            closing: BTreeSet::new(),
            broken: false,
        }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let order = match orders.recv_timeout(Duration::from_millis(200)) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !self.step(order) {
                return;
            }
        }
    }

    /// Does what an order asks, then what time asks: wakes what is due, begins a round. Without an order only the latter.
    /// `false`: the order was to end.
    pub(crate) fn step(&mut self, order: Option<Order>) -> bool {
        match order {
            Some(Order::Portion(portion)) => {
                self.shared.portions_waiting.fetch_sub(1, Ordering::Relaxed);
                if !self.broken
                    && let Err(trouble) = self.take(portion)
                {
                    self.stop(&trouble.to_string());
                }
            }
            Some(Order::Round(asked_by)) if self.broken => drop(asked_by),
            Some(Order::Round(asked_by)) => self.asked_by.push(asked_by),
            Some(Order::Stop) => return false,
            None => {}
        }
        if self.broken {
            return true;
        }
        if self.last_due.elapsed() >= DUE_EVERY {
            self.last_due = Instant::now();
            self.wake_due();
        }
        let pause = self.shared.limits.checkpoint_interval;
        let grown = self.shared.journal.next_frame() > self.last_from;
        // A running round may have passed what a caller means, so a caller's round begins after it.
        let wanted = !self.asked_by.is_empty() || (grown && self.last_round.elapsed() >= pause);
        if self.current.is_none() && !self.broken && wanted {
            self.begin();
        }
        true
    }

    fn begin(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        self.closing.append(&mut self.woken);
        let from = self.shared.journal.next_frame();
        let waiting = self.shared.inboxes.len();
        self.current = Some(Round {
            number: self.rounds,
            from,
            waiting,
            failed: false,
            sequences: [0; PARTITIONS],
            asked_by: std::mem::take(&mut self.asked_by),
            began: Instant::now(),
        });
        for worker in 0..waiting {
            self.shared.tell(worker, Inbound::Checkpoint { round: self.rounds });
        }
    }

    fn take(&mut self, portion: Portion) -> Result<(), Trouble> {
        let store = &self.shared.store;
        match portion {
            Portion::Row(row) => {
                if let Some(due) = row.due {
                    store.due_put(due.0, &row.state.entity)?;
                }
                if let Some(order) = row.order {
                    store.orders_put([order])?;
                }
                store.put([row.state])?;
            }
            Portion::Gone(gone) => store.delete(gone)?,
            Portion::Remembered(remembered) => store.answers_put(remembered.into_iter().map(cold_row))?,
            Portion::Ledger(chunk) => {
                if let Some(first) = chunk.entries.first() {
                    store.ledger_put(&chunk.sku, first.position.0, &encode(&chunk))?;
                }
            }
            Portion::Done { round, failed, sequences } => {
                let Some(current) = self.current.as_mut().filter(|current| current.number == round) else {
                    return Ok(());
                };
                current.waiting = current.waiting.saturating_sub(1);
                current.failed |= failed;
                for (known, told) in current.sequences.iter_mut().zip(sequences.iter()) {
                    *known = (*known).max(*told);
                }
                if current.waiting == 0 {
                    self.finish()?;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        let Some(round) = self.current.take() else { return Ok(()) };
        self.last_round = Instant::now();
        if round.failed {
            self.stop("an actor's state cannot be had");
            return Ok(());
        }
        let shared = &self.shared;
        let mark = RoundMark {
            replay_from_frame: round.from,
            durable_frame: shared.journal.durable_frame(),
            sequences: round.sequences,
            position_max: shared.position.load(Ordering::Relaxed),
            at_ms: shared.clock.now().0,
        };
        let archive_below = shared.store.finish_round(&mark)?;
        let moved = archive_segments(shared.directory.paths(), shared.directory.engine(), archive_below)?;
        shared.store.answers_delete_before(mark.at_ms.saturating_sub(ANSWER_MEMORY_MS), FORGOTTEN_MAX)?;
        // What these timers woke has changed, if it had to, before this round took its state.
        let closing: Vec<_> = std::mem::take(&mut self.closing).into_iter().collect();
        shared.store.due_remove(&closing)?;
        shared.rounds_done.store(round.number, Ordering::Release);
        self.last_from = round.from;
        metrics::counter!("doorbuster_checkpoint_rounds_total").increment(1);
        metrics::histogram!("doorbuster_checkpoint_seconds").record(round.began.elapsed().as_secs_f64());
        tracing::debug!(
            round = round.number,
            archived = moved.len(),
            seconds = round.began.elapsed().as_secs_f64(),
            "checkpoint round done"
        );
        for asked_by in round.asked_by {
            let _ = asked_by.send(());
        }
        Ok(())
    }

    /// A damaged or full store costs a longer recovery, never data: the last mark stays in force. No later round of this
    /// process may count, since states that failed to reach the store are no longer marked as changed.
    fn stop(&mut self, why: &str) {
        tracing::error!(
            why,
            "checkpoints stop until the next start; the journal keeps everything, mind the disk"
        );
        metrics::counter!("doorbuster_checkpoint_failures_total").increment(1);
        self.broken = true;
        self.current = None;
        self.asked_by.clear();
    }

    /// Wakes cold entities whose time has come.
    fn wake_due(&mut self) {
        let now = self.shared.clock.now();
        let due = match self.shared.store.due_until(now.0, DUE_MAX) {
            Ok(due) => due,
            Err(trouble) => return self.stop(&trouble.to_string()),
        };
        for (at, entity) in due {
            if self.closing.contains(&(at, entity.clone())) || !self.woken.insert((at, entity.clone())) {
                continue;
            }
            if let Some(command) = crate::housekeeping::due_command(&entity) {
                self.shared.post(Parcel::new(entity, Body::Internal(command)));
            }
        }
    }
}

fn cold_row(remembered: Remembered) -> ColdRow {
    match remembered {
        Remembered::Settled(key, settled) => {
            ColdRow { kind: ColdKind::Answer, key: key.0, at_ms: settled.at.0, bytes: encode(&settled) }
        }
        Remembered::Ended(ended) => ColdRow {
            kind: ColdKind::EndedReservation,
            key: ended.record.id.0,
            at_ms: ended.at.0,
            bytes: encode(&ended),
        },
    }
}

/// Reads a stored thing back.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CheckpointError> {
    decode_stored(bytes).map_err(|error| CheckpointError::Damaged { what: error.to_string() })
}

/// A cold state, read back.
pub(crate) fn load(
    store: &CheckpointStore,
    entity: &EntityKey,
) -> Result<Option<crate::worker::Stored>, CheckpointError> {
    let Some(row) = store.get(entity)? else { return Ok(None) };
    if row.residence == Residence::Gone {
        return Ok(None);
    }
    let snapshot: Snapshot = decode(&row.blob)?;
    Ok(Some(crate::worker::Stored { snapshot, sequence: row.sequence, dirty: false, saved_in: 0 }))
}
