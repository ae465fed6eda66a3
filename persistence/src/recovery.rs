//! The only start path: newest sound checkpoint, then the journal's tail, through the same fold as while serving.
//!
//! Laws: (3) nothing acknowledged is missing, else it refuses to start; (9) sequences and frames are gapless;
//! (10) each event is applied exactly once. A damaged checkpoint is set aside and the whole journal
//! replayed; a checkpoint that knows more than the journal refuses. Start at [`recover`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use doorbuster_engine::event::{EntityKey, EntityRef, PARTITIONS};
use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::world::{Memory, OrderedMap, Snapshot, World};
use serde::Serialize;

use crate::checkpoint::{CheckpointStore, ColdRow, EntityRow, Residence, RoundMark};
use crate::codec::{self, CodecError, RawRecord};
use crate::directory::DataDirectory;
use crate::error::{CheckpointError, JournalError, StartError};
use crate::file_journal::{FileJournal, JournalOptions};
use crate::fold;
use crate::frame::FrameNumber;
use crate::reader::{Cut, FrameView, JournalReader};
use crate::rescue::base::Base;
use crate::sequences::Sequences;

/// How far recovery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Rows read from the checkpoint.
    Checkpoint {
        /// So far.
        rows: u64,
        /// Of how many.
        rows_total: u64,
    },
    /// Journal read.
    Journal {
        /// Bytes so far.
        bytes: u64,
        /// Of how many.
        bytes_total: u64,
        /// Records met.
        records: u64,
    },
    /// The laws are being checked.
    Laws {
        /// Entities to check.
        entities: u64,
    },
}

/// Which checkpoint a recovery began from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum CheckpointUse {
    /// None was there: the whole journal was replayed.
    None,
    /// The newest mark; the journal was replayed from this frame.
    Mark {
        /// First frame replayed.
        replay_from: FrameNumber,
    },
    /// The store was unsound: set aside, and the whole journal replayed.
    Rebuilt {
        /// Where the unsound store lies now.
        set_aside: PathBuf,
        /// What was wrong.
        what: String,
    },
}

/// What a recovery did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecoveryReport {
    /// Where it began.
    pub checkpoint: CheckpointUse,
    /// Rows in the checkpoint.
    pub rows: u64,
    /// Records applied.
    pub records_replayed: u64,
    /// Records whose effect the checkpoint held already.
    pub records_skipped: u64,
    /// Torn tail, if there was one.
    pub cut: Option<Cut>,
    /// How long it took.
    pub seconds: f64,
}

/// All that serving needs.
#[derive(Debug)]
pub struct Recovered {
    /// Every entity in memory, with answers and endings met in the replay. Its spilled ledger pages are in the store already.
    pub world: World,
    /// For each entity of the world, in its order: the sequence of its last event, if the replay changed it beyond its
    /// checkpoint row, else 0.
    pub touched: Vec<u64>,
    /// Entities that have a row and ended for good in the replay, each with the sequence of its last event: their rows must
    /// go with the next round, or a later start would find them alive (law 2).
    pub over: Vec<(EntityKey, u64)>,
    /// What the checkpoint remembers of answers and endings: the newest of a day before its mark, oldest first. Those of the
    /// replay are in the world.
    pub answers: Vec<ColdRow>,
    /// Last sequence of every partition.
    pub sequences: [u64; PARTITIONS],
    /// Larger than every position used.
    pub next_position: u64,
    /// Business time of the last record, milliseconds since the Unix epoch; 0 for an empty journal.
    pub last_at_ms: u64,
    /// The next frame.
    pub next_frame: FrameNumber,
    /// The journal, ready to append.
    pub journal: FileJournal,
    /// The checkpoint store.
    pub store: CheckpointStore,
    /// What was done.
    pub report: RecoveryReport,
}

/// [`recover_keeping`] of all answers and endings of a day, however many.
pub fn recover(
    directory: &DataDirectory,
    options: JournalOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovered, StartError> {
    recover_keeping(directory, options, usize::MAX, progress)
}

/// Rebuilds the engine's state from `directory` and opens its journal. Nothing on disk changes before the state is
/// found sound, but that an unsound checkpoint store is set aside. Of the answers and endings met in the replay only the
/// newest `memory_max` are kept, so that a long journal takes no more memory than a short one (law 11).
pub fn recover_keeping(
    directory: &DataDirectory,
    options: JournalOptions,
    memory_max: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovered, StartError> {
    let began = Instant::now();
    let paths = directory.paths();
    let (store, mut rebuild, checkpoint) = open_checkpoint(directory, memory_max, progress)?;
    rebuild.world.memory = Memory::of(memory_max);
    let mut reader = JournalReader::open(paths, directory.engine(), rebuild.mark.replay_from_frame)?;
    if reader.first_frame() > rebuild.mark.replay_from_frame {
        return Err(StartError::MissingFrames {
            directory: paths.journal(),
            first_frame: reader.first_frame().0,
            needed_frame: rebuild.mark.replay_from_frame.0,
        });
    }
    let bytes_total = reader.bytes_left();
    let mut frames = 0_u64;
    while let Some(frame) = reader.next_frame()? {
        rebuild.fold_frame(&frame, &store)?;
        frames += 1;
        if frames.is_multiple_of(1_024) {
            let records = rebuild.records_replayed + rebuild.records_skipped;
            let bytes = bytes_total.saturating_sub(reader.bytes_left());
            progress(Progress::Journal { bytes, bytes_total, records });
        }
    }
    let records = rebuild.records_replayed + rebuild.records_skipped;
    progress(Progress::Journal { bytes: bytes_total, bytes_total, records });
    let tail = reader.tail();
    let ahead = |what: String| StartError::CheckpointAhead { path: paths.checkpoint(), what };
    rebuild.check_not_ahead(tail.next_frame).map_err(ahead)?;
    progress(Progress::Laws { entities: rebuild.world.entities.len() as u64 });
    for snapshot in rebuild.world.entities.values() {
        snapshot
            .check()
            .map_err(|violation| StartError::Law { place: "the recovered state".to_owned(), violation })?;
    }
    rebuild.keep_spilled(&store, 0)?;
    rebuild.world.memory.forget_before(Timestamp(rebuild.last_at_ms));
    let journal = FileJournal::open_at(paths, directory.engine(), options, &tail)?;
    let report = RecoveryReport {
        checkpoint,
        rows: store.row_count(),
        records_replayed: rebuild.records_replayed,
        records_skipped: rebuild.records_skipped,
        cut: tail.cut,
        seconds: began.elapsed().as_secs_f64(),
    };
    Ok(Recovered {
        sequences: rebuild.sequences.last(),
        next_position: rebuild.position_max + 1,
        last_at_ms: rebuild.last_at_ms,
        next_frame: tail.next_frame,
        touched: rebuild.standings.iter().map(|standing| standing.touched).collect(),
        over: rebuild.over,
        answers: rebuild.answers,
        world: rebuild.world,
        journal,
        store,
        report,
    })
}

/// Opens the store and loads its rows; sets it aside when it is unsound.
fn open_checkpoint(
    directory: &DataDirectory,
    memory_max: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<(CheckpointStore, Rebuild, CheckpointUse), StartError> {
    let disk = directory.paths().disk().as_ref();
    let path = directory.paths().checkpoint();
    let unsound = match CheckpointStore::open(disk, &path) {
        Ok(store) => {
            // sled 0.34 panics on some damage; that is damage too.
            match catch_unwind(AssertUnwindSafe(|| {
                fill_from_base(directory, &store)?;
                Ok(Rebuild::load(&store, memory_max, progress)?)
            })) {
                Ok(Ok((rebuild, checkpoint))) => return Ok((store, rebuild, checkpoint)),
                Ok(Err(StartError::Checkpoint(error))) => error,
                Ok(Err(error)) => return Err(error),
                Err(_) => CheckpointError::damaged("sled panicked when reading it"),
            }
        }
        Err(error) => error,
    };
    if !unsound.is_damage() {
        return Err(unsound.into());
    }
    let set_aside = CheckpointStore::set_aside(disk, &path)?;
    tracing::warn!(%unsound, set_aside = %set_aside.display(), "rebuilding the checkpoint from the journal");
    let store = CheckpointStore::open(disk, &path)?;
    let rebuilt = CheckpointUse::Rebuilt { set_aside, what: unsound.to_string() };
    if fill_from_base(directory, &store)? {
        let (from_base, _) = Rebuild::load(&store, memory_max, progress)?;
        return Ok((store, from_base, rebuilt));
    }
    Ok((store, Rebuild::from_nothing(), rebuilt))
}

/// Gives a store without any round what the journal begins from, where that is not its first frame; whether it did.
fn fill_from_base(directory: &DataDirectory, store: &CheckpointStore) -> Result<bool, StartError> {
    if !store.marks()?.is_empty() {
        return Ok(false);
    }
    let Some(base) = Base::read(directory.paths(), directory.engine())? else { return Ok(false) };
    base.fill(store)?;
    Ok(true)
}

/// State under construction.
struct Rebuild {
    world: World,
    mark: RoundMark,
    sequences: Sequences,
    /// For each entity of the world, at its index: what its row reflects and what the replay added.
    standings: Vec<Standing>,
    /// Entities that are gone and have, or had, a row: the last sequence they reflect.
    gone: OrderedMap<EntityKey, u64>,
    /// Entities with a row that ended in the replay.
    over: Vec<(EntityKey, u64)>,
    answers: Vec<ColdRow>,
    /// Whether there are rows at all; without any, nothing is looked up.
    has_rows: bool,
    /// Largest sequence any row of a partition reflects.
    rows_max: [u64; PARTITIONS],
    position_max: u64,
    last_at_ms: u64,
    records_replayed: u64,
    records_skipped: u64,
}

/// How an entity in memory stands to its row.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The last sequence its row reflects, 0 without one.
    reflected: u64,
    /// The last sequence the replay applied, 0 for none.
    touched: u64,
}

impl Rebuild {
    /// Ledger pages kept in memory before they go to the store.
    const SPILLED_MAX: usize = 1_024;

    fn from_nothing() -> Self {
        let mark = RoundMark {
            replay_from_frame: FrameNumber::FIRST,
            durable_frame: FrameNumber(0),
            sequences: [0; PARTITIONS],
            position_max: 0,
            at_ms: 0,
        };
        Self::from_mark(mark)
    }

    fn from_mark(mark: RoundMark) -> Self {
        Self {
            world: World::default(),
            sequences: Sequences::after(&mark.sequences),
            standings: Vec::new(),
            gone: OrderedMap::default(),
            over: Vec::new(),
            answers: Vec::new(),
            has_rows: false,
            rows_max: [0; PARTITIONS],
            position_max: mark.position_max,
            last_at_ms: mark.at_ms,
            records_replayed: 0,
            records_skipped: 0,
            mark,
        }
    }

    fn load(
        store: &CheckpointStore,
        memory_max: usize,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, CheckpointUse), CheckpointError> {
        // Rows of a first round that never ended are sound too: replay from the beginning skips what they reflect.
        let (mut rebuild, checkpoint) = match store.marks()?.into_iter().next() {
            Some(mark) => {
                let replay_from = mark.replay_from_frame;
                (Self::from_mark(mark), CheckpointUse::Mark { replay_from })
            }
            None => (Self::from_nothing(), CheckpointUse::None),
        };
        let rows_total = store.row_count();
        rebuild.has_rows = rows_total > 0;
        let (mut rows, mut failed) = (0_u64, None);
        store.for_each(|row| {
            rows += 1;
            if rows.is_multiple_of(65_536) {
                progress(Progress::Checkpoint { rows, rows_total });
            }
            let partition = usize::from(row.entity.partition());
            rebuild.rows_max[partition] = rebuild.rows_max[partition].max(row.sequence);
            if failed.is_none() && row.residence != Residence::Cold {
                failed = rebuild.take_row(row).err();
            }
        })?;
        progress(Progress::Checkpoint { rows, rows_total });
        if let Some(error) = failed {
            return Err(error);
        }
        store.prove_readable()?;
        rebuild.answers = store.newest_answers(rebuild.last_at_ms, memory_max)?;
        Ok((rebuild, checkpoint))
    }

    fn take_row(&mut self, row: EntityRow) -> Result<(), CheckpointError> {
        if row.residence == Residence::Gone {
            self.gone.insert(row.entity, row.sequence);
            return Ok(());
        }
        let snapshot: Snapshot = codec::decode_stored(&row.blob)
            .map_err(|error| CheckpointError::damaged(format!("the row of {}: {error}", row.entity)))?;
        self.world.entities.insert(row.entity, snapshot);
        self.standings.push(Standing { reflected: row.sequence, touched: 0 });
        Ok(())
    }

    fn fold_frame(&mut self, frame: &FrameView<'_>, store: &CheckpointStore) -> Result<(), StartError> {
        let mut count = 0;
        for record in codec::records(frame.body) {
            let record = record.map_err(|error| unreadable(frame, error))?;
            self.fold_record(frame, &record, store)?;
            count += 1;
        }
        if count != frame.records {
            let what = format!("a frame says {} records and holds {count}", frame.records);
            return Err(frame.damaged(what).into());
        }
        self.keep_spilled(store, Self::SPILLED_MAX)
    }

    fn fold_record(
        &mut self,
        frame: &FrameView<'_>,
        record: &RawRecord<'_>,
        store: &CheckpointStore,
    ) -> Result<(), StartError> {
        let header = record.header;
        self.sequences.meet(&header).map_err(|gap| StartError::Gap {
            file: frame.file.to_path_buf(),
            offset: frame.offset,
            partition: gap.partition,
            expected: gap.expected,
            found: gap.found,
        })?;
        self.position_max = self.position_max.max(header.position);
        if mutant::active(Mutant::ReplayWithoutTail) && self.has_rows {
            return Ok(());
        }
        self.last_at_ms = self.last_at_ms.max(header.at_ms);
        let entry = record.entry_ref().map_err(|error| unreadable(frame, error))?;
        let index = self.find(entry.entity, store)?;
        let reflected = match index {
            Some(index) => self.standings.get(index).map_or(0, |standing| standing.reflected),
            None if self.has_rows => self.gone.get(&entry.entity).copied().unwrap_or(0),
            None => 0,
        };
        if header.sequence <= reflected && !mutant::active(Mutant::ReplayTwice) {
            self.records_skipped += 1;
            return Ok(());
        }
        let applied = fold::apply(&mut self.world, index, &entry, record.recorded());
        let applied = applied.map_err(|violation| StartError::Law {
            place: format!("the frame at offset {} of {}", frame.offset, frame.file.display()),
            violation,
        })?;
        self.records_replayed += 1;
        if applied.over {
            self.note_over(entry.entity, index, header.sequence);
        } else if let Some(standing) = self.standings.get_mut(applied.index) {
            standing.touched = header.sequence;
        } else {
            self.standings.push(Standing { reflected: 0, touched: header.sequence });
        }
        Ok(())
    }

    /// Where an entity is in memory. Wakes a cold one: something happens to it now.
    fn find(&mut self, entity: EntityRef<'_>, store: &CheckpointStore) -> Result<Option<usize>, StartError> {
        let index = self.world.entities.get_index_of(&entity);
        if index.is_some() || !self.has_rows || self.gone.contains_key(&entity) {
            return Ok(index);
        }
        if let Some(row) = store.get(&entity.to_key())? {
            self.take_row(row)?;
        }
        Ok(self.world.entities.get_index_of(&entity))
    }

    /// An entity left the world; where it stood, at `index` if it was not made by this very record, the last one stands now.
    fn note_over(&mut self, entity: EntityRef<'_>, index: Option<usize>, sequence: u64) {
        let had_row = index.is_some_and(|index| self.standings.swap_remove(index).reflected > 0);
        if self.has_rows {
            self.gone.insert(entity.to_key(), sequence);
        }
        if had_row {
            self.over.push((entity.to_key(), sequence));
        }
    }

    /// Moves ledger pages that left their SKUs' memory to the store, when more than `pages_max` wait.
    fn keep_spilled(&mut self, store: &CheckpointStore, pages_max: usize) -> Result<(), StartError> {
        if self.world.spilled.len() <= pages_max {
            return Ok(());
        }
        for chunk in self.world.spilled.drain(..) {
            let Some(first) = chunk.entries.first() else { continue };
            let bytes = codec::encode_stored(&chunk)
                .map_err(|error| CheckpointError::damaged(format!("a ledger page: {error}")))?;
            store.ledger_put(&chunk.sku, first.position.0, &bytes)?;
        }
        Ok(())
    }

    /// Says how the checkpoint knows more than the journal, if it does.
    fn check_not_ahead(&self, next_frame: FrameNumber) -> Result<(), String> {
        if next_frame <= self.mark.durable_frame {
            let last = next_frame.0.saturating_sub(1);
            return Err(format!(
                "reflects frame {}, but the journal ends at frame {last}",
                self.mark.durable_frame
            ));
        }
        if let Some((partition, met, known)) = self.sequences.behind() {
            return Err(format!(
                "reflects record {known} of partition {partition}, but the journal ends at {met}"
            ));
        }
        let last = self.sequences.last();
        match (0..PARTITIONS).find(|index| self.rows_max[*index] > last[*index]) {
            Some(index) => Err(format!(
                "reflects record {} of partition {index}, but the journal ends at {}",
                self.rows_max[index], last[index]
            )),
            None => Ok(()),
        }
    }
}

pub(crate) fn unreadable(frame: &FrameView<'_>, error: CodecError) -> StartError {
    match error {
        CodecError::NewerVersion { found, known } => JournalError::NewerVersion {
            file: frame.file.to_path_buf(),
            found: u32::from(found),
            known: u32::from(known),
        }
        .into(),
        CodecError::OlderVersion { found, oldest } => JournalError::OlderVersion {
            file: frame.file.to_path_buf(),
            found: u32::from(found),
            oldest: u32::from(oldest),
        }
        .into(),
        other @ (CodecError::Encode(_) | CodecError::TooLarge { .. } | CodecError::Decode(_)) => {
            frame.damaged(format!("{other} in frame {}", frame.number)).into()
        }
    }
}
