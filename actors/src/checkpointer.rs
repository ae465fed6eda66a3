//! Checkpoints while serving: each round every worker hands over what changed, one state at a time and only when it is
//! durable; this thread writes it to the store and then says from which frame a replay may begin.
//!
//! Laws 3 and 10: the mark is written last, after everything it promises, and journal segments are archived only
//! behind the older of the two kept marks. A round that cannot be completed leaves the last mark in force; it is tried
//! again, after the store was opened anew, with everything that is not known to be in it. While serving it is a thread, in a
//! simulation it is stepped; both take the same steps. Start at [`Checkpointer::step`].

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

/// How far the thread stands back for others that want a core.
const NICE: i32 = 10;

/// Most due times of cold entities woken at a time.
const DUE_MAX: usize = 10_000;

/// Most answers past their day dropped in one round: a second's work, and at a round in ten seconds 20,000 a second.
const FORGOTTEN_MAX: usize = 200_000;

/// Time between two looks for cold entities whose time has come: within the second that an expiry may be late.
const DUE_EVERY: Duration = Duration::from_millis(500);

/// Wait before a failed round is tried again; it doubles each time, up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest such wait: after an hour of a full disk a minute more is nothing.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Most answers, endings and ledger pages kept for writing them again after a failure: some hundred megabytes at most, and
/// usually what the seconds since the last mark brought. Beyond it a failure is not mended before the next start.
const KEPT_MAX: usize = 1_000_000;

/// A state on its way to the store.
pub(crate) struct Row {
    entity: EntityKey,
    sequence: u64,
    residence: Residence,
    state: State,
    due: Option<Timestamp>,
    order: Option<OrderRow>,
}

/// A state as a worker hands it over.
enum State {
    Encoded(Vec<u8>),
    /// A large one is encoded here, where nobody waits for it.
    Copy(Snapshot),
}

impl Row {
    /// The row of one entity.
    pub(crate) fn of(entity: &EntityKey, snapshot: &Snapshot, sequence: u64) -> Self {
        let order = match snapshot {
            Snapshot::Order(order) => {
                let summary = order.summary();
                Some(order_row(summary.created_at, summary.id, encode(&summary)))
            }
            Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_) => None,
        };
        let state = State::Encoded(encode(snapshot));
        let residence = if snapshot.is_resident() { Residence::Resident } else { Residence::Cold };
        Self { entity: entity.clone(), sequence, residence, state, due: snapshot.due(), order }
    }

    /// The row of a SKU, from a copy of its stock.
    pub(crate) fn of_copy(entity: &EntityKey, copy: Snapshot, sequence: u64) -> Self {
        let state = State::Copy(copy);
        let residence = Residence::Resident;
        Self { entity: entity.clone(), sequence, residence, state, due: None, order: None }
    }

    fn put(self, store: &CheckpointStore) -> Result<(), CheckpointError> {
        if let Some(due) = self.due {
            store.due_put(due.0, &self.entity)?;
        }
        if let Some(order) = self.order {
            store.orders_put([order])?;
        }
        let blob = match self.state {
            State::Encoded(bytes) => bytes,
            State::Copy(copy) => encode(&copy),
        };
        let Self { entity, sequence, residence, .. } = self;
        store.put([EntityRow { entity, sequence, residence, blob }])
    }
}

/// What no worker could hand over a second time.
enum Kept {
    Cold(Vec<ColdRow>),
    Ledger(Arc<LedgerChunk>),
}

impl Kept {
    fn weight(&self) -> usize {
        match self {
            Self::Cold(rows) => rows.len(),
            Self::Ledger(page) => page.entries.len(),
        }
    }

    fn put(&self, store: &CheckpointStore) -> Result<(), CheckpointError> {
        match self {
            Self::Cold(rows) => store.answers_put(rows.iter().cloned()),
            Self::Ledger(page) => page
                .entries
                .first()
                .map_or(Ok(()), |first| store.ledger_put(&page.sku, first.position.0, &encode(&**page))),
        }
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
    Ledger(Arc<LedgerChunk>),
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
    std::thread::Builder::new().name(name).spawn(move || {
        // Whoever serves comes first: a round may take longer, a request may not. On Linux this is the thread's own; where
        // it is refused, rounds are merely less polite.
        let _ = rustix::process::setpriority_process(None, NICE);
        Checkpointer::new(shared).run(&orders);
    })
}

/// See the module's header.
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    current: Option<Round>,
    /// Whom to tell when the next round is done.
    asked_by: Vec<std::sync::mpsc::SyncSender<()>>,
    rounds: u64,
    last_from: FrameNumber,
    /// Where a replay begins by the newest mark known to be in the store.
    last_mark: Option<FrameNumber>,
    last_round: Instant,
    last_due: Instant,
    /// Due entries whose entities were woken since the running round began; they leave the store with the next one.
    woken: BTreeSet<(u64, EntityKey)>,
    /// Due entries whose wake-up the running round makes durable.
    closing: BTreeSet<(u64, EntityKey)>,
    /// Everything since the last mark that is here and nowhere else in memory.
    kept: Vec<Kept>,
    kept_weight: usize,
    /// Whether that is all of it.
    kept_is_whole: bool,
    failure: Option<Failure>,
    /// How long the next failure waits.
    pause: Duration,
    /// A failed round is to be made up for, whatever the time.
    overdue: bool,
    /// No later round of this process may count.
    broken: bool,
}

/// A round failed: nothing is written to the store until it is tried again.
struct Failure {
    again_at: Instant,
    /// Whether the store itself failed, and must be opened anew.
    reopen: bool,
}

impl Checkpointer {
    /// A checkpointer before its first round.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        // What a store that failed must at least know when it is opened again.
        let marks = shared.store.get().and_then(|store| store.marks()).unwrap_or_default();
        Self {
            last_mark: marks.first().map(|mark| mark.replay_from_frame),
            shared,
            current: None,
            asked_by: Vec::new(),
            rounds: 0,
            last_from: FrameNumber(0),
            last_round: Instant::now(),
            last_due: Instant::now(),
            woken: BTreeSet::new(),
            closing: BTreeSet::new(),
            kept: Vec::new(),
            kept_weight: 0,
            kept_is_whole: true,
            failure: None,
            pause: RETRY_FIRST,
            overdue: false,
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
                if !self.broken {
                    self.take(portion);
                }
            }
            Some(Order::Round(asked_by)) if self.broken || self.failure.is_some() => drop(asked_by),
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
        // What the workers still hand over for the failed round must not be taken for the next one's.
        if self.current.is_none()
            && self.failure.as_ref().is_some_and(|failure| failure.again_at <= Instant::now())
        {
            self.resume();
        }
        let pause = self.shared.limits.checkpoint_interval;
        let grown = self.shared.journal.next_frame() > self.last_from;
        // A running round may have passed what a caller means, so a caller's round begins after it.
        let due = self.overdue || self.last_round.elapsed() >= pause;
        let wanted = !self.asked_by.is_empty() || (grown && due);
        if self.current.is_none() && self.failure.is_none() && !self.broken && wanted {
            self.begin();
        }
        true
    }

    fn begin(&mut self) {
        if !self.shared.store.has_room() {
            return self.fail("the disk is full", false);
        }
        self.overdue = false;
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

    fn take(&mut self, portion: Portion) {
        match portion {
            Portion::Row(row) => self.write(|store| row.put(store)),
            Portion::Gone(gone) => self.write(|store| store.delete(gone)),
            Portion::Remembered(remembered) => {
                self.keep(Kept::Cold(remembered.into_iter().map(cold_row).collect()));
            }
            Portion::Ledger(page) => self.keep(Kept::Ledger(page)),
            Portion::Done { round, failed, sequences } => {
                let Some(current) = self.current.as_mut().filter(|current| current.number == round) else {
                    return;
                };
                current.waiting = current.waiting.saturating_sub(1);
                current.failed |= failed;
                for (known, told) in current.sequences.iter_mut().zip(sequences.iter()) {
                    *known = (*known).max(*told);
                }
                if current.waiting == 0 {
                    self.finish();
                }
            }
        }
    }

    /// Writes what a worker hands over once more if this fails, or has failed.
    fn write(&mut self, write: impl FnOnce(&CheckpointStore) -> Result<(), CheckpointError>) {
        if self.failure.is_none()
            && let Err(trouble) = self.shared.store.get().and_then(|store| write(&store))
        {
            self.fail(&trouble.to_string(), true);
        }
    }

    /// Writes what exists here only, and keeps it until a mark says that it is in the store.
    fn keep(&mut self, kept: Kept) {
        if self.failure.is_none() && !self.shared.store.has_room() {
            self.fail("the disk is full", false);
        }
        self.write(|store| kept.put(store));
        self.kept_weight = self.kept_weight.saturating_add(kept.weight());
        if self.kept_weight <= KEPT_MAX {
            self.kept.push(kept);
        } else {
            self.kept.push(kept);
            self.drop_kept();
            self.kept_is_whole = false;
            self.give_up_if_lost();
        }
    }

    fn drop_kept(&mut self) {
        for kept in std::mem::take(&mut self.kept) {
            if let Kept::Ledger(page) = kept {
                self.shared.pages.is_stored(&page);
            }
        }
    }

    fn finish(&mut self) {
        let Some(round) = self.current.take() else { return };
        self.last_round = Instant::now();
        if self.failure.is_some() {
            return;
        }
        if round.failed {
            return self.fail("an actor's state cannot be had", false);
        }
        if let Err(trouble) = self.mark(&round) {
            return self.fail(&trouble.to_string(), true);
        }
        self.pause = RETRY_FIRST;
        for asked_by in round.asked_by {
            let _ = asked_by.send(());
        }
    }

    /// Sets the mark, and then clears what it made superfluous.
    fn mark(&mut self, round: &Round) -> Result<(), Trouble> {
        let shared = Arc::clone(&self.shared);
        let mark = RoundMark {
            replay_from_frame: round.from,
            durable_frame: shared.journal.durable_frame(),
            sequences: round.sequences,
            position_max: shared.position.load(Ordering::Relaxed),
            at_ms: shared.clock.now().0,
        };
        let store = shared.store.get()?;
        let archive_below = store.finish_round(&mark)?;
        self.drop_kept();
        self.kept_weight = 0;
        self.kept_is_whole = true;
        self.last_from = round.from;
        self.last_mark = Some(round.from);
        shared.rounds_done.store(round.number, Ordering::Release);
        let moved = archive_segments(shared.directory.paths(), shared.directory.engine(), archive_below)?;
        store.answers_delete_before(mark.at_ms.saturating_sub(ANSWER_MEMORY_MS), FORGOTTEN_MAX)?;
        // What these timers woke has changed, if it had to, before this round took its state.
        let closing: Vec<_> = self.closing.iter().cloned().collect();
        store.due_remove(&closing)?;
        self.closing.clear();
        metrics::counter!("doorbuster_checkpoint_rounds_total").increment(1);
        metrics::histogram!("doorbuster_checkpoint_seconds").record(round.began.elapsed().as_secs_f64());
        tracing::debug!(
            round = round.number,
            archived = moved.len(),
            seconds = round.began.elapsed().as_secs_f64(),
            "checkpoint round done"
        );
        Ok(())
    }

    /// A damaged or full store costs a longer recovery, never data: the last mark stays in force, and the journal behind it.
    fn fail(&mut self, why: &str, reopen: bool) {
        let retry_in_ms = u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(
            why,
            retry_in_ms,
            "a checkpoint round failed and is tried again; the journal keeps everything"
        );
        metrics::counter!("doorbuster_checkpoint_failures_total").increment(1);
        if let Some(current) = &mut self.current {
            current.failed = true;
            current.asked_by.clear();
        }
        self.asked_by.clear();
        // The store may have failed before, and waited only for room since.
        let reopen = reopen || self.failure.as_ref().is_some_and(|failure| failure.reopen);
        self.failure = Some(Failure { again_at: Instant::now() + self.pause, reopen });
        self.pause = self.pause.saturating_mul(2).min(RETRY_MAX);
        self.give_up_if_lost();
    }

    /// Answers that are neither in the store nor here come back by a replay from the last mark only; rows of later rounds
    /// would keep it from making them.
    fn give_up_if_lost(&mut self) {
        if self.failure.is_some() && !self.kept_is_whole {
            tracing::error!(
                "checkpoints stop until the next start, too much happened since one failed; the journal keeps everything"
            );
            self.broken = true;
            self.current = None;
            self.shared.pages.lose();
        }
    }

    /// Tries again: opens the store where it failed, and writes what was kept. The round that follows has the rest.
    fn resume(&mut self) {
        if !self.shared.store.has_room() {
            return self.fail("the disk is full", false);
        }
        let reopen = self.failure.as_ref().is_some_and(|failure| failure.reopen);
        let opened = if reopen { self.shared.store.reopen(self.last_mark) } else { Ok(()) };
        let written = opened.and_then(|()| {
            let store = self.shared.store.get()?;
            self.kept.iter().try_for_each(|kept| kept.put(&store))
        });
        match written {
            Ok(()) => {
                tracing::info!("the checkpoint store takes writes again");
                self.failure = None;
                self.overdue = true;
            }
            Err(trouble) => self.fail(&trouble.to_string(), true),
        }
    }

    /// Wakes cold entities whose time has come.
    fn wake_due(&mut self) {
        let now = self.shared.clock.now();
        let due = match self.shared.store.get().and_then(|store| store.due_until(now.0, DUE_MAX)) {
            Ok(due) => due,
            // They wait until the store can be read again.
            Err(_) if self.failure.is_some() => return,
            Err(trouble) => return self.fail(&trouble.to_string(), true),
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
    let (stored, exists) = load_or_absent(store, entity)?;
    Ok(exists.then_some(stored))
}

/// What the store says of an entity, and whether it exists. One that is gone is absent as of the sequence that ended it: under
/// its name another may have begun since, whose records begin there.
pub(crate) fn load_or_absent(
    store: &CheckpointStore,
    entity: &EntityKey,
) -> Result<(crate::worker::Stored, bool), CheckpointError> {
    let absent = |sequence| (crate::worker::Stored::clean(Snapshot::absent(entity), sequence), false);
    let Some(row) = store.get(entity)? else { return Ok(absent(0)) };
    if row.residence == Residence::Gone {
        return Ok(absent(row.sequence));
    }
    let snapshot: Snapshot = decode(&row.blob)?;
    Ok((crate::worker::Stored::clean(snapshot, row.sequence), true))
}

#[cfg(test)]
mod tests {
    use doorbuster_engine::identity::ReservationId;
    use doorbuster_persistence::disk::MachineDisk;

    use super::*;

    /// A coordinator that was refused, and begun anew under its key, was rebuilt after a panic from the rest of its first life's
    /// records, which its machine refuses to fold.
    #[test]
    fn what_is_gone_is_absent_as_of_the_record_that_ended_it() {
        let root = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(&MachineDisk, &root.path().join("checkpoint")).unwrap();
        let entity = EntityKey::Reservation(ReservationId(7));
        for (ended_at, label) in [(None, "never seen"), (Some(3), "gone")] {
            store.delete(ended_at.map(|sequence| (entity.clone(), sequence))).unwrap();
            let (stored, exists) = load_or_absent(&store, &entity).unwrap();
            assert_eq!((stored.sequence, exists), (ended_at.unwrap_or(0), false), "law 10: {label}");
            assert!(load(&store, &entity).unwrap().is_none(), "{label}");
        }
    }
}
