//! Checkpoints in sled: each entity's state with the sequence it reflects, so that restarts are short.
//!
//! Never trusted further than its own fsync and hashes. sled's `flush` does not fsync on Linux, so [`CheckpointStore::finish_round`]
//! syncs sled's file by a descriptor of its own, before and after the mark; every value carries a hash; and a running digest over all rows,
//! written in the same atomic batch, tells a store that silently lost rows in a power cut. A damaged store
//! costs time, never data: the journal rebuilds it. Start at [`CheckpointStore::open`].

mod chunks;
mod cold;
mod image;
mod index;
mod keys;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use doorbuster_engine::event::{EntityKey, PARTITIONS};
use doorbuster_engine::mutant::{self, Mutant};
use parking_lot::Mutex;

pub use cold::{ColdKind, ColdRow};
pub use image::Imaging;
pub(crate) use image::{mark_bytes, mark_of};
pub use index::OrderRow;

use crate::disk::{Disk, Tree, TreeBatch, Trees};
use crate::error::CheckpointError;
use crate::frame::{FrameNumber, array_at, u64_at};

/// Version of the store's layout. Another one is set aside and rebuilt from the journal.
pub(crate) const LAYOUT_VERSION: u32 = 1;

/// Counts the stores opened by this process.
static OPENED: AtomicU64 = AtomicU64::new(1);

/// Where an entity lives while the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Residence {
    /// In memory: recovery loads it.
    Resident,
    /// Only here: recovery leaves it until something happens to it.
    Cold,
    /// Nowhere: it ended and is forgotten. The row has no state; it tells a replay to skip its records, and vanishes by itself
    /// two rounds later.
    Gone,
}

/// One entity's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityRow {
    /// Whose.
    pub entity: EntityKey,
    /// The last sequence of its partition that it reflects; replay skips this entity's records up to it.
    pub sequence: u64,
    /// Whether recovery loads it.
    pub residence: Residence,
    /// The state, encoded by [`codec::encode_stored`](crate::codec::encode_stored).
    pub blob: Vec<u8>,
}

/// What one finished round of checkpointing says of the journal. Rounds never overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundMark {
    /// Everything in frames before this one is reflected by the rows: the journal's next frame, read before the first
    /// row of the round was captured.
    pub replay_from_frame: FrameNumber,
    /// The last durable frame, read after the last row was put: a journal that ends before it has lost records.
    pub durable_frame: FrameNumber,
    /// Last sequence of each partition, read after `replay_from_frame` and durable by now.
    pub sequences: [u64; PARTITIONS],
    /// The largest position any row may reflect; new positions begin above it.
    pub position_max: u64,
    /// Business time of the round.
    pub at_ms: u64,
}

/// The store. All calls are for any thread; writes take turns.
#[derive(Debug)]
pub struct CheckpointStore {
    rows: Box<dyn Tree>,
    marks: Box<dyn Tree>,
    due: Box<dyn Tree>,
    orders: Box<dyn Tree>,
    ledger: Box<dyn Tree>,
    cold: Box<dyn Tree>,
    cold_times: Box<dyn Tree>,
    digest: Mutex<Digest>,
    gone: Mutex<Gone>,
    gathered: Mutex<Gathered>,
    /// Held while gathered rows are written, so that they are in the order they were put.
    turn: Mutex<()>,
    trees: Box<dyn Trees>,
    /// Tells this store from the one that takes its place when it is opened again.
    number: u64,
}

/// Rows put and not in sled yet.
#[derive(Debug, Default)]
struct Gathered {
    waiting: RowGroup,
    /// Being written now; still to be seen by readers.
    writing: Arc<RowGroup>,
}

/// Keys of rows that are [`Residence::Gone`], and may vanish with a later round.
///
/// Not with the next mark: its replay may begin before the record that ended them. With the one after it cannot.
#[derive(Debug, Default)]
struct Gone {
    this_round: Vec<Vec<u8>>,
    last_round: Vec<Vec<u8>>,
    /// A copy is being taken: none vanishes.
    is_held: bool,
}

/// Sum of all rows' hashes and their number, whatever the order; and how often rows were written: a mark never belongs
/// to rows written less often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digest {
    sum: u128,
    rows: u64,
    generation: u64,
}

impl Digest {
    fn add(&mut self, hash: [u8; 16]) {
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(hash));
        self.rows += 1;
    }

    fn remove(&mut self, hash: [u8; 16]) {
        self.sum = self.sum.wrapping_sub(u128::from_le_bytes(hash));
        self.rows = self.rows.saturating_sub(1);
    }

    fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.sum.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.rows.to_le_bytes());
        bytes[24..].copy_from_slice(&self.generation.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let sum = u128::from_le_bytes(array_at(bytes, 0));
        Self { sum, rows: u64_at(bytes, 16), generation: u64_at(bytes, 24) }
    }
}

/// Keys of the rows' tree that are no entity's: entities begin with 1 to 4.
const DIGEST_KEY: &[u8] = b"\0digest";
const VERSION_KEY: &[u8] = b"\0version";

impl CheckpointStore {
    /// Most bytes of rows written in one atomic batch, below sled's 512 KiB segments.
    const BATCH_BYTES: usize = 256 << 10;

    /// Opens the store in `path`, making it where it is missing.
    ///
    /// An error of kind `Damaged` or `Store` means: [`CheckpointStore::set_aside`], open again, rebuild from the journal.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, CheckpointError> {
        // sled 0.34 panics on some damage; that is damage too.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::on(disk.trees(path)?)));
        opened.unwrap_or_else(|_| Err(CheckpointError::damaged("sled panicked when opening it")))
    }

    /// Opens a private copy of the store in `path` to read from; `None` where there is no store.
    pub(crate) fn open_copy(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, CheckpointError> {
        disk.trees_copy(path)?.map(Self::on).transpose()
    }

    fn on(trees: Box<dyn Trees>) -> Result<Self, CheckpointError> {
        let rows = trees.tree("rows")?;
        let version = rows.get(VERSION_KEY)?;
        match version {
            Some(found) if *found == LAYOUT_VERSION.to_le_bytes() => {}
            Some(_) => return Err(CheckpointError::damaged("it has another layout version")),
            None if rows.is_empty() => {
                rows.insert(VERSION_KEY, &LAYOUT_VERSION.to_le_bytes())?;
            }
            None => return Err(CheckpointError::damaged("it has rows but no layout version")),
        }
        let digest = rows.get(DIGEST_KEY)?.map_or(Digest::default(), |bytes| Digest::decode(&bytes));
        Ok(Self {
            marks: trees.tree("marks")?,
            due: trees.tree("due")?,
            orders: trees.tree("orders")?,
            ledger: trees.tree("ledger")?,
            cold: trees.tree("cold")?,
            cold_times: trees.tree("cold_times")?,
            digest: Mutex::new(digest),
            gone: Mutex::default(),
            gathered: Mutex::default(),
            turn: Mutex::default(),
            rows,
            trees,
            number: OPENED.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Renames a damaged store to `<path>.damaged-<n>`; returns the new name.
    pub fn set_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf, CheckpointError> {
        let mut n = 1;
        loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".damaged-{n}"));
            let target = PathBuf::from(name);
            if !disk.exists(&target) {
                disk.rename(path, &target).map_err(CheckpointError::io("set aside", path))?;
                if let Some(parent) = path.parent() {
                    disk.sync_directory(parent).map_err(CheckpointError::io("sync", parent))?;
                }
                return Ok(target);
            }
            n += 1;
        }
    }

    /// Writes rows, each replacing its entity's last one. Only state that the durable journal holds may come here, and
    /// only after what the same events left behind (answers, ledger pages, due times, order summaries) was put: replay
    /// skips what a row reflects.
    ///
    /// Rows gather until some hundred can be written as one atomic batch (ten times cheaper than alone), seen by
    /// [`CheckpointStore::get`] at once, and durable with the next [`CheckpointStore::finish_round`]. A store that is closed before
    /// takes what is gathered with it, never to the disk: its last sync may have failed and lost the answers that belong to
    /// these rows, and a replay makes the rows again.
    pub fn put(&self, rows: impl IntoIterator<Item = EntityRow>) -> Result<(), CheckpointError> {
        let batch_rows = self.trees.batch_rows();
        for row in rows {
            let mut payload = Vec::with_capacity(row.blob.len() + 9);
            payload.extend_from_slice(&row.sequence.to_le_bytes());
            payload.push(match row.residence {
                Residence::Resident => 0,
                Residence::Cold => 1,
                Residence::Gone => 2,
            });
            payload.extend_from_slice(&row.blob);
            let key = keys::entity(&row.entity);
            if row.residence == Residence::Gone {
                self.gone.lock().this_round.push(key.clone());
            }
            let full = {
                let mut gathered = self.gathered.lock();
                gathered.waiting.add(key, Some(payload));
                gathered.waiting.is_full(batch_rows)
            };
            if full {
                self.write_gathered()?;
            }
        }
        Ok(())
    }

    /// Hands the rows gathered so far to sled, as the next full batch or the round's end would.
    pub fn write_gathered(&self) -> Result<(), CheckpointError> {
        let _turn = self.turn.lock();
        if !self.gathered.lock().waiting.rows.is_empty() {
            // Answers, ledger pages and index entries come before the rows that reflect them, and lie in trees of their own:
            // a power cut that kept a row and lost its answer would take the answer back (law 5).
            self.sync()?;
        }
        let group = {
            let mut gathered = self.gathered.lock();
            gathered.writing = Arc::new(std::mem::take(&mut gathered.waiting));
            Arc::clone(&gathered.writing)
        };
        let written = self.write_group(&group);
        let mut gathered = self.gathered.lock();
        gathered.writing = Arc::default();
        if written.is_err() {
            // An entity that left memory lives here only: it must stay visible until the restart that follows.
            for (key, payload) in &group.rows {
                gathered.waiting.add_older(key, payload.as_ref());
            }
        }
        written
    }

    /// Forgets entities that ended, each with the last sequence of its partition that it reflected.
    pub fn delete(&self, ended: impl IntoIterator<Item = (EntityKey, u64)>) -> Result<(), CheckpointError> {
        self.put(ended.into_iter().map(|(entity, sequence)| EntityRow {
            entity,
            sequence,
            residence: Residence::Gone,
            blob: Vec::new(),
        }))
    }

    /// Removes rows that were gone before the last mark, unless something happened to them since.
    fn purge_gone(&self) -> Result<(), CheckpointError> {
        let purged = {
            let mut gone = self.gone.lock();
            let mut this_round = std::mem::take(&mut gone.this_round);
            if gone.is_held {
                gone.last_round.append(&mut this_round);
                return Ok(());
            }
            std::mem::replace(&mut gone.last_round, this_round)
        };
        let mut group = RowGroup::default();
        for key in purged {
            let gone = chunks::read(&*self.rows, &key)?.is_some_and(|s| s.payload.get(8) == Some(&2));
            if gone {
                group.add(key, None);
            }
            if group.is_full(self.trees.batch_rows()) {
                self.write_group(&std::mem::take(&mut group))?;
            }
        }
        self.write_group(&group)
    }

    fn write_group(&self, group: &RowGroup) -> Result<(), CheckpointError> {
        if group.rows.is_empty() {
            return Ok(());
        }
        let mut digest = self.digest.lock();
        let mut next = *digest;
        let mut batch = TreeBatch::default();
        // Sorted and without repeats, since the hash of the row before is read from the tree.
        for (key, payload) in &group.rows {
            let before = chunks::head(&*self.rows, key)?;
            if let Some(before) = &before {
                next.remove(before.hash);
            }
            let chunk_count = match payload {
                Some(payload) => {
                    let written = chunks::write(&mut batch, key, payload);
                    next.add(written.hash);
                    written.chunk_count
                }
                None => 0,
            };
            for chunk in chunk_count..before.map_or(0, |before| before.chunk_count) {
                batch.remove(keys::chunk(key, chunk));
            }
        }
        next.generation += 1;
        batch.insert(DIGEST_KEY.to_vec(), next.encode().to_vec());
        self.rows.apply_batch(batch)?;
        *digest = next;
        Ok(())
    }

    /// The row of one entity, for those that have left memory.
    pub fn get(&self, entity: &EntityKey) -> Result<Option<EntityRow>, CheckpointError> {
        let key = keys::entity(entity);
        let gathered = {
            let gathered = self.gathered.lock();
            gathered.waiting.rows.get(&key).or_else(|| gathered.writing.rows.get(&key)).cloned()
        };
        let payload = match gathered {
            Some(payload) => payload,
            None => chunks::read(&*self.rows, &key)?.map(|stored| stored.payload),
        };
        payload.map(|payload| decode_row(entity.clone(), &payload)).transpose()
    }

    /// Visits every row, cold and gone ones too, in the order of their keys, and proves that none is missing or old.
    ///
    /// Rows seen before an error count for nothing. Writers wait meanwhile, so this is for the start.
    pub fn for_each(&self, mut visit: impl FnMut(EntityRow)) -> Result<(), CheckpointError> {
        self.write_gathered()?;
        let expected = self.digest.lock();
        let mut seen = Digest::default();
        chunks::scan(&*self.rows, &mut |key, stored| {
            let entity = keys::parse_entity(key).ok_or_else(|| CheckpointError::damaged("a row's key"))?;
            seen.add(stored.hash);
            let row = decode_row(entity, &stored.payload)?;
            if row.residence == Residence::Gone {
                self.gone.lock().this_round.push(key.to_vec());
            }
            visit(row);
            Ok(())
        })?;
        let differs = (seen.sum, seen.rows) != (expected.sum, expected.rows);
        if differs && !mutant::active(Mutant::SkipDigest) {
            let what = format!("{} rows where {} are due, or older ones", seen.rows, expected.rows);
            return Err(CheckpointError::damaged(what));
        }
        Ok(())
    }

    /// Reads what neither [`CheckpointStore::for_each`] nor [`CheckpointStore::answers_for_each`] reads: due times, order
    /// summaries, ledger pages, when answers were given.
    ///
    /// A cut may have damaged a page of theirs alone. Found at the start it costs a rebuild; found later, by whoever wants
    /// that page first, it would fail every round from there on, or refuse every start.
    pub fn prove_readable(&self) -> Result<(), CheckpointError> {
        for tree in [&self.due, &self.orders, &self.ledger, &self.cold_times] {
            for entry in tree.range(&[], None) {
                entry?;
            }
        }
        Ok(())
    }

    /// How many rows there are, gathered ones apart.
    pub fn row_count(&self) -> u64 {
        self.digest.lock().rows
    }

    /// Ends a round: everything put before is durable, then the mark is, in this order.
    ///
    /// Two marks are kept. Returns the frame below which neither needs the journal: what may be archived.
    pub fn finish_round(&self, mark: &RoundMark) -> Result<FrameNumber, CheckpointError> {
        let round = match self.marks.last()? {
            Some((key, _)) => u64::from_be_bytes(array_at(&key, 0)) + 1,
            None => 1,
        };
        if mutant::active(Mutant::MarkBeforeRows) {
            self.put_mark(round, mark)?;
        }
        self.write_gathered()?;
        self.sync()?;
        self.put_mark(round, mark)?;
        for entry in self.marks.range(&[], Some(&round.saturating_sub(1).to_be_bytes())) {
            self.marks.remove(&entry?.0)?;
        }
        self.purge_gone()?;
        let marks = self.marks()?;
        match marks.as_slice() {
            [_, older, ..] => Ok(older.replay_from_frame),
            _ => Ok(FrameNumber::FIRST),
        }
    }

    /// Writes a round's mark, durable.
    fn put_mark(&self, round: u64, mark: &RoundMark) -> Result<(), CheckpointError> {
        let generation = self.digest.lock().generation;
        self.marks.insert(&round.to_be_bytes(), &encode_mark(mark, generation))?;
        self.sync()
    }

    /// The marks of the last two rounds, newest first.
    pub fn marks(&self) -> Result<Vec<RoundMark>, CheckpointError> {
        let mut marks = Vec::with_capacity(2);
        for entry in self.marks.range(&[], None).rev().take(2) {
            // An older mark does not fit newer rows (some were gone since), so a damaged one is not passed over.
            let decoded = decode_mark(&entry?.1);
            let (mark, generation) = decoded.ok_or_else(|| CheckpointError::damaged("a round's mark"))?;
            if generation > self.digest.lock().generation {
                return Err(CheckpointError::damaged("its rows are older than its mark"));
            }
            marks.push(mark);
        }
        Ok(marks)
    }

    /// Bytes of the store on disk.
    pub fn bytes_on_disk(&self) -> Result<u64, CheckpointError> {
        self.trees.bytes_on_disk()
    }

    /// Makes everything put so far durable.
    fn sync(&self) -> Result<(), CheckpointError> {
        self.trees.sync()
    }
}

/// Rows gathered for one atomic batch; a later row of the same key wins.
#[derive(Debug, Default)]
struct RowGroup {
    rows: std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl RowGroup {
    fn add(&mut self, key: Vec<u8>, payload: Option<Vec<u8>>) {
        self.bytes += key.len() + payload.as_ref().map_or(0, Vec::len);
        self.rows.insert(key, payload);
    }

    /// Adds a row unless a newer one of its key is here.
    fn add_older(&mut self, key: &[u8], payload: Option<&Vec<u8>>) {
        if !self.rows.contains_key(key) {
            self.add(key.to_vec(), payload.cloned());
        }
    }

    fn is_full(&self, batch_rows: usize) -> bool {
        self.rows.len() >= batch_rows || self.bytes >= CheckpointStore::BATCH_BYTES
    }
}

/// The rows among the entries of a copy's page.
pub(crate) fn rows_of(page: &[u8]) -> impl Iterator<Item = Result<EntityRow, CheckpointError>> {
    image::entries(page).filter_map(|entry| {
        let Some((index, key, value)) = entry else {
            return Some(Err(CheckpointError::damaged("an entry of its copy")));
        };
        if index != 0 {
            return None;
        }
        let entity = keys::parse_entity(key).ok_or_else(|| CheckpointError::damaged("a row's key"));
        Some(entity.and_then(|entity| decode_row(entity, value)))
    })
}

fn decode_row(entity: EntityKey, payload: &[u8]) -> Result<EntityRow, CheckpointError> {
    let Some((head, blob)) = payload.split_at_checked(9) else {
        return Err(CheckpointError::damaged(format!("the row of {entity} is too short")));
    };
    let residence = match head[8] {
        0 => Residence::Resident,
        1 => Residence::Cold,
        2 => Residence::Gone,
        other => return Err(CheckpointError::damaged(format!("the row of {entity} has residence {other}"))),
    };
    Ok(EntityRow { entity, sequence: u64_at(head, 0), residence, blob: blob.to_vec() })
}

/// Five numbers before the sequences.
const MARK_HEAD_BYTES: usize = 40;

/// Bytes of a mark, its hash included.
pub(crate) const MARK_BYTES: usize = MARK_HEAD_BYTES + PARTITIONS * 8 + 16;

fn encode_mark(mark: &RoundMark, generation: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES);
    bytes.extend_from_slice(&mark.replay_from_frame.0.to_le_bytes());
    bytes.extend_from_slice(&mark.durable_frame.0.to_le_bytes());
    bytes.extend_from_slice(&mark.position_max.to_le_bytes());
    bytes.extend_from_slice(&mark.at_ms.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    for sequence in &mark.sequences {
        bytes.extend_from_slice(&sequence.to_le_bytes());
    }
    let hash = chunks::hash(b"mark", &bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

/// The mark and the generation of the rows it was set on.
fn decode_mark(bytes: &[u8]) -> Option<(RoundMark, u64)> {
    let (body, hash) = bytes.split_at_checked(MARK_HEAD_BYTES + PARTITIONS * 8)?;
    if chunks::hash(b"mark", body) != hash {
        return None;
    }
    let mut sequences = [0; PARTITIONS];
    for (partition, sequence) in sequences.iter_mut().enumerate() {
        *sequence = u64_at(body, MARK_HEAD_BYTES + partition * 8);
    }
    let mark = RoundMark {
        replay_from_frame: FrameNumber(u64_at(body, 0)),
        durable_frame: FrameNumber(u64_at(body, 8)),
        position_max: u64_at(body, 16),
        at_ms: u64_at(body, 24),
        sequences,
    };
    Some((mark, u64_at(body, 32)))
}
