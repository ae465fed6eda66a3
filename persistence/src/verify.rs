//! Proves a data directory offline: reads the whole journal, folds it anew and checks every law that bytes can show.
//!
//! Changes nothing on disk: it works beside a stopped engine and on a copy of the checkpoint store. The report
//! names every law with what was checked, or why bytes cannot show it (`laws.rs`). Start at [`verify`].

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use doorbuster_engine::event::{EntityKey, EntityRef, EntryRef, Event, PARTITIONS};
use doorbuster_engine::identity::{Fingerprint, OrderId, ReservationId, Timestamp};
use doorbuster_engine::invariants::Violation;
use doorbuster_engine::stock::{Home, StockEvent};
use doorbuster_engine::world::{ANSWER_MEMORY_MS, OrderedMap, Snapshot, World};
use serde::Serialize;

use crate::checkpoint::{CheckpointStore, EntityRow, Residence, RoundMark};
use crate::codec::{self, RawRecord};
use crate::directory::{DataDirectory, DataPaths};
use crate::disk::{Disk, MachineDisk};
use crate::error::{CheckpointError, StartError};
use crate::fold;
use crate::frame::FrameNumber;
pub use crate::laws::LawChecked;
use crate::laws::Tally;
use crate::reader::{Cut, FrameView, JournalReader};
use crate::recovery::{Progress, unreadable};
use crate::rescue::base::Base;
use crate::sequences::Sequences;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The law it breaks.
    pub law: u8,
    /// In which file, where one is to blame.
    pub file: Option<PathBuf>,
    /// Offset of the frame in it, in bytes.
    pub offset: Option<u64>,
    /// What was seen, with the remedy where there is one.
    pub what: String,
}

/// What a verification read and found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Version of this report's form: it grows when a field goes or changes its meaning, not when one is added.
    pub schema: u32,
    /// Whether nothing is wrong.
    pub sound: bool,
    /// Whose data.
    pub engine: String,
    /// Segment files read.
    pub segments: u64,
    /// How many of them lie in the archive.
    pub segments_archived: u64,
    /// First frame read; the fold starts from nothing there, or from the journal's base where it begins later than at 1.
    pub first_frame: FrameNumber,
    /// Frames read.
    pub frames: u64,
    /// Records folded.
    pub records: u64,
    /// Bytes of the journal.
    pub bytes: u64,
    /// Entities in the folded state, by kind.
    pub entities: BTreeMap<&'static str, u64>,
    /// Checkpoint rows compared with the fold at their sequence.
    pub checkpoint_rows: u64,
    /// The torn tail the next start will cut: no problem, it was never acknowledged.
    pub cut: Option<Cut>,
    /// Each law with its number of checks.
    pub laws: Vec<LawChecked>,
    /// What is wrong; the first hundred.
    pub problems: Vec<Problem>,
    /// How long it took.
    pub seconds: f64,
}

impl VerifyReport {
    /// The form that this engine writes.
    pub const SCHEMA: u32 = 1;

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.sound
    }
}

/// Verifies the data directory at `path`. Refuses while an engine runs on it.
///
/// What is wrong with the data is in the report; an error means that it could not be read at all.
pub fn verify(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<VerifyReport, StartError> {
    verify_on(Arc::new(MachineDisk), path, progress)
}

/// As [`verify`], on a disk of the caller's.
pub fn verify_on(
    disk: Arc<dyn Disk>,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, StartError> {
    let began = Instant::now();
    let directory = DataDirectory::open_offline_on(disk, path)?;
    let mut audit = Audit::default();
    audit.read_checkpoint(directory.paths());
    if let Err(error) = audit.read_base(&directory).and_then(|()| audit.read_journal(&directory, progress)) {
        audit.blame_start(error)?;
    }
    audit.finish(progress);
    let mut entities = BTreeMap::new();
    for entity in audit.world.entities.keys() {
        *entities.entry(entity.kind()).or_insert(0) += 1;
    }
    Ok(VerifyReport {
        schema: VerifyReport::SCHEMA,
        sound: audit.problems.is_empty(),
        engine: directory.engine().to_string(),
        segments: audit.segments,
        segments_archived: audit.segments_archived,
        first_frame: audit.first_frame,
        frames: audit.frames,
        records: audit.records,
        bytes: audit.bytes,
        entities,
        checkpoint_rows: audit.rows_compared,
        cut: audit.cut,
        laws: audit.tally.told(),
        problems: audit.problems,
        seconds: began.elapsed().as_secs_f64(),
    })
}

#[derive(Default)]
struct Audit {
    world: World,
    /// Rows not compared yet.
    rows: Rows,
    /// Newest first.
    marks: Vec<RoundMark>,
    /// What the journal begins from, where that is not its first frame.
    base: Option<RoundMark>,
    /// The last sequence that the base reflects of each entity in it.
    reflected: OrderedMap<EntityKey, u64>,
    /// Public reservations that ended in the last day and were not made again since.
    ended: Lately<()>,
    /// Keys answered in the last day, each with its request's body hash and when.
    answered: Lately<(Fingerprint, Timestamp)>,
    /// Orders that the frame being read has changed: they are checked at its end. One turn may take two events, such as
    /// money held and order placed, and a frame holds all of a turn: no start ever finds the state between them.
    orders_changed: BTreeSet<OrderId>,
    /// Whether an event could not be folded: what comes after is only read, not folded.
    stopped: bool,
    /// Whether the fold reached the journal's end, so that the final state means something.
    complete: bool,
    tally: Tally,
    problems: Vec<Problem>,
    segments: u64,
    segments_archived: u64,
    first_frame: FrameNumber,
    frames: u64,
    records: u64,
    bytes: u64,
    rows_compared: u64,
    cut: Option<Cut>,
}

impl Audit {
    /// Beyond it a list helps nobody.
    const PROBLEMS_MAX: usize = 100;

    fn blame(&mut self, law: u8, place: Option<(&Path, u64)>, what: impl Into<String>) {
        if self.problems.len() < Self::PROBLEMS_MAX {
            let file = place.map(|(file, _)| file.to_path_buf());
            let offset = place.map(|(_, offset)| offset);
            self.problems.push(Problem { law, file, offset, what: what.into() });
        }
    }

    /// Turns a refusal to start into a problem, where it speaks of the data.
    fn blame_start(&mut self, error: StartError) -> Result<(), StartError> {
        use crate::error::JournalError as J;

        let what = error.to_string();
        match &error {
            StartError::Gap { file, offset, .. } | StartError::Journal(J::Damaged { file, offset, .. }) => {
                self.blame(9, Some((file, *offset)), what);
            }
            StartError::Journal(J::ForeignSegment { file }) => self.blame(9, Some((file, 0)), what),
            StartError::Journal(J::MissingSegment { .. }) | StartError::MissingFrames { .. } => {
                self.blame(9, None, what);
            }
            // Only the journal's base: all else that is small was read before.
            StartError::Damaged { file, .. } => self.blame(9, Some((file, 0)), what),
            StartError::Law { violation, .. } => self.blame(violation.law, None, what),
            StartError::CheckpointAhead { .. } => self.blame(3, None, what),
            StartError::NotWritable { .. }
            | StartError::NotADataDirectory { .. }
            | StartError::Locked { .. }
            | StartError::NewerVersion { .. }
            | StartError::OlderVersion { .. }
            | StartError::DiskFull { .. }
            | StartError::Journal(
                J::Io { .. }
                | J::Full { .. }
                | J::FrameTooLarge { .. }
                | J::Stopped { .. }
                | J::NewerVersion { .. }
                | J::OlderVersion { .. },
            )
            | StartError::Checkpoint(_) => return Err(error),
        }
        Ok(())
    }

    /// Takes all rows of a copy of the store; an unsound store is named, and costs only time at the next start.
    fn read_checkpoint(&mut self, paths: &DataPaths) {
        let path = paths.checkpoint();
        // sled 0.34 panics on some damage; that is damage too.
        let read = catch_unwind(AssertUnwindSafe(|| read_rows(paths.disk().as_ref(), &path)));
        match read.unwrap_or_else(|_| Err(CheckpointError::damaged("sled panicked when reading it"))) {
            Ok(Some((rows, marks))) => {
                self.rows = rows;
                self.marks = marks;
            }
            Ok(None) => {}
            Err(error) => self.blame(10, Some((&path, 0)), error.to_string()),
        }
    }

    /// Begins the fold with the journal's base, if it has one.
    fn read_base(&mut self, directory: &DataDirectory) -> Result<(), StartError> {
        let Some(base) = Base::read(directory.paths(), directory.engine())? else { return Ok(()) };
        let mut unreadable = None;
        base.for_each_row(|row| {
            self.reflected.insert(row.entity.clone(), row.sequence);
            if row.residence == Residence::Gone {
                return;
            }
            match codec::decode_stored::<Snapshot>(&row.blob) {
                Ok(snapshot) => {
                    self.world.entities.insert(row.entity, snapshot);
                }
                Err(error) => unreadable = Some(format!("the base's row of {}: {error}", row.entity)),
            }
        })?;
        if let Some(what) = unreadable {
            self.blame(10, None, what);
        }
        self.tally.other(10, self.reflected.len() as u64);
        self.base = Some(base.head.mark);
        Ok(())
    }

    fn read_journal(
        &mut self,
        directory: &DataDirectory,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), StartError> {
        let mut reader = JournalReader::open(directory.paths(), directory.engine(), FrameNumber::FIRST)?;
        self.segments = reader.segments().len() as u64;
        self.segments_archived = reader.segments().iter().filter(|segment| segment.archived).count() as u64;
        self.bytes = reader.bytes_left();
        self.first_frame = reader.first_frame();
        let needed = self.base.as_ref().map_or(FrameNumber::FIRST, |base| base.replay_from_frame);
        if self.first_frame > needed {
            return Err(StartError::MissingFrames {
                directory: directory.paths().archive(),
                first_frame: self.first_frame.0,
                needed_frame: needed.0,
            });
        }
        let bytes_total = self.bytes;
        let mut sequences =
            Sequences::after(&self.base.as_ref().map_or([0; PARTITIONS], |base| base.sequences));
        while let Some(frame) = reader.next_frame()? {
            self.fold_frame(&frame, &mut sequences)?;
            self.frames += 1;
            self.tally.other(9, 1);
            if self.frames.is_multiple_of(1_024) {
                let bytes = bytes_total.saturating_sub(reader.bytes_left());
                progress(Progress::Journal { bytes, bytes_total, records: self.records });
            }
        }
        let tail = reader.tail();
        self.cut.clone_from(&tail.cut);
        self.complete = !self.stopped;
        let last = sequences.last();
        self.check_not_ahead(&last, tail.next_frame)
            .map_err(|what| StartError::CheckpointAhead { path: directory.paths().checkpoint(), what })
    }

    /// Law 3, as far as bytes show it: what the checkpoint says was durable is in the journal.
    fn check_not_ahead(&mut self, last: &[u64; PARTITIONS], next_frame: FrameNumber) -> Result<(), String> {
        for mark in self.marks.iter().chain(&self.base) {
            self.tally.other(3, 1 + PARTITIONS as u64);
            if next_frame <= mark.durable_frame {
                return Err(format!("reflects frame {}, the journal ends before", mark.durable_frame));
            }
            if let Some(partition) = (0..PARTITIONS).find(|index| last[*index] < mark.sequences[*index]) {
                let known = mark.sequences[partition];
                return Err(format!(
                    "reflects record {known} of partition {partition}, the journal ends before"
                ));
            }
        }
        // Rows compared meanwhile were within the journal: something after them was folded.
        self.tally.other(3, self.rows_compared + self.rows.len() as u64);
        let ahead = self.rows.values().find(|row| row.sequence > last[usize::from(row.entity.partition())]);
        match ahead {
            Some(row) => {
                Err(format!("reflects record {} of {}, the journal ends before", row.sequence, row.entity))
            }
            None => Ok(()),
        }
    }

    fn fold_frame(&mut self, frame: &FrameView<'_>, sequences: &mut Sequences) -> Result<(), StartError> {
        let mut count = 0;
        for record in codec::records(frame.body) {
            let record = record.map_err(|error| unreadable(frame, error))?;
            sequences.meet(&record.header).map_err(|gap| StartError::Gap {
                file: frame.file.to_path_buf(),
                offset: frame.offset,
                partition: gap.partition,
                expected: gap.expected,
                found: gap.found,
            })?;
            let entry = record.entry_ref().map_err(|error| unreadable(frame, error))?;
            if entry.entity.partition() != record.header.partition {
                let what = format!("{} is recorded in partition {}", entry.entity, record.header.partition);
                return Err(frame.damaged(what).into());
            }
            self.tally.event(9);
            if !self.stopped {
                self.fold_record(frame, &record, &entry);
            }
            count += 1;
        }
        if count != frame.records {
            return Err(frame
                .damaged(format!("a frame says {} records and holds {count}", frame.records))
                .into());
        }
        self.check_orders(frame);
        Ok(())
    }

    fn check_orders(&mut self, frame: &FrameView<'_>) {
        for id in std::mem::take(&mut self.orders_changed) {
            let Some(Snapshot::Order(order)) = self.world.entities.get(&EntityKey::Order(id)) else {
                continue;
            };
            if let Err(violation) = order.check() {
                self.blame_violation(Some((frame.file, frame.offset)), &violation);
            }
        }
    }

    fn fold_record(&mut self, frame: &FrameView<'_>, record: &RawRecord<'_>, entry: &EntryRef<'_>) {
        let place = Some((frame.file, frame.offset));
        // A row reflects everything up to its sequence: the state just before the first record after it.
        if self.rows.get(&entry.entity).is_some_and(|row| record.header.sequence > row.sequence)
            && let Some(row) = self.rows.swap_remove(&entry.entity)
        {
            self.compare_row(&row);
        }
        self.check_key(place, record, entry);
        self.check_ending(place, record, entry);
        self.tally.event(10);
        if self.reflected.get(&entry.entity).is_some_and(|sequence| record.header.sequence <= *sequence) {
            self.records += 1;
            return;
        }
        let applied = match fold::apply(&mut self.world, None, entry, record.recorded()) {
            Ok(applied) => applied,
            Err(violation) => {
                self.blame_violation(place, &violation);
                self.stopped = true;
                return;
            }
        };
        self.records += 1;
        for memo in self.world.memory.take() {
            if let Some(request) = memo.request() {
                self.answered.insert(request.key.0, (request.fingerprint, memo.at()), memo.at());
            }
        }
        // The pages are in the store, or will be; to verify, they are of no more use.
        self.world.spilled.clear();
        if applied.over {
            return;
        }
        let Some((_, snapshot)) = self.world.entities.get_index(applied.index) else { return };
        let (laws, seen): (&[u8], _) = match snapshot {
            // The sum over all holds is taken at the end: at every event it would cost the square of a rush.
            Snapshot::Stock(stock) => (&[1], stock.check()),
            Snapshot::Reservation(reservation) => (&[2, 6, 11], reservation.check()),
            Snapshot::Cart(cart) => (&[11], cart.check()),
            Snapshot::Order(order) => {
                self.orders_changed.insert(order.id());
                (&[6, 7, 8, 11], Ok(()))
            }
        };
        for law in laws {
            self.tally.event(*law);
        }
        if let Err(violation) = seen {
            self.blame_violation(place, &violation);
        }
    }

    /// Law 5: while a key is remembered, nothing happens under it for another body.
    fn check_key(&mut self, place: Option<(&Path, u64)>, record: &RawRecord<'_>, entry: &EntryRef<'_>) {
        let Some(request) = entry.request else { return };
        self.tally.event(5);
        let Some((fingerprint, at)) = self.answered.get(request.key.0) else { return };
        let remembered = at.plus_ms(ANSWER_MEMORY_MS) > Timestamp(record.header.at_ms);
        if remembered && *fingerprint != request.fingerprint {
            let what = format!("{} changed {} for another body than it answered", request.key, entry.entity);
            self.blame(5, place, what);
        }
    }

    /// Law 2: a public reservation ends once, until it is made anew.
    fn check_ending(&mut self, place: Option<(&Path, u64)>, record: &RawRecord<'_>, entry: &EntryRef<'_>) {
        let Event::Stock(event) = &entry.event else { return };
        if let StockEvent::Reserved { reservation, .. } = event {
            self.ended.remove(reservation.0);
        }
        if let StockEvent::Committed { reservation }
        | StockEvent::Released { reservation }
        | StockEvent::Expired { reservation } = event
        {
            self.tally.event(2);
            if self.ended.insert(reservation.0, (), Timestamp(record.header.at_ms)) {
                self.blame(2, place, format!("{reservation} of {} ends a second time", entry.entity));
            }
        }
    }

    fn blame_violation(&mut self, place: Option<(&Path, u64)>, violation: &Violation) {
        self.blame(violation.law, place, violation.to_string());
    }

    /// Law 10: a row is what the fold is at its sequence.
    fn compare_row(&mut self, row: &EntityRow) {
        self.rows_compared += 1;
        self.tally.other(10, 1);
        if row.residence == Residence::Gone {
            return;
        }
        let folded = self.world.entities.get(&row.entity);
        let what = match (codec::decode_stored::<Snapshot>(&row.blob), folded) {
            (Ok(stored), Some(folded)) if stored == *folded => return,
            // The fold forgets a finished coordinator at once, the store at the next round.
            (Ok(Snapshot::Reservation(stored)), None) if stored.is_finished() => return,
            (Ok(_), Some(_)) => "differs from the journal folded up to".to_owned(),
            (Ok(_), None) => "is of an entity that the journal does not have at".to_owned(),
            (Err(error), _) => format!("cannot be read ({error}) at"),
        };
        let remedy = "move the checkpoint directory away, it is rebuilt from the journal";
        let what = format!("the checkpoint row of {} {what} sequence {}; {remedy}", row.entity, row.sequence);
        self.blame(10, None, what);
    }

    fn finish(&mut self, progress: &mut dyn FnMut(Progress)) {
        if !self.complete {
            return;
        }
        progress(Progress::Laws { entities: self.world.entities.len() as u64 });
        for row in std::mem::take(&mut self.rows).into_values() {
            self.compare_row(&row);
        }
        let mut broken: Vec<Violation> = Vec::new();
        for (entity, snapshot) in &self.world.entities {
            broken.extend(snapshot.check().err());
            let Snapshot::Stock(stock) = snapshot else { continue };
            self.tally.other(1, 1);
            for (part, home) in stock.held_parts() {
                self.tally.other(6, 1);
                if !self.has_coordinator(part, home) {
                    let seen = format!("it holds units for {part}, whose coordinator is not there");
                    broken.push(Violation { law: 6, entity: entity.to_string(), seen });
                }
            }
        }
        for violation in broken {
            self.blame_violation(None, &violation);
        }
    }

    /// Whether somebody is there who will end a part. An order remains after its parts have ended, but then says so.
    fn has_coordinator(&self, part: ReservationId, home: Home) -> bool {
        let entity = match home {
            Home::Reservation => EntityRef::Reservation(part),
            Home::Order => EntityRef::Order(OrderId(part.0)),
        };
        self.world.entities.get(&entity).is_some_and(Snapshot::is_resident)
    }
}

/// What happened under a name in the last day at the least, and two days at the most: bounded by a day's work (law 11).
struct Lately<T> {
    today: OrderedMap<u128, T>,
    yesterday: OrderedMap<u128, T>,
    since: Timestamp,
}

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self { today: OrderedMap::default(), yesterday: OrderedMap::default(), since: Timestamp(0) }
    }
}

impl<T> Lately<T> {
    fn get(&self, name: u128) -> Option<&T> {
        self.today.get(&name).or_else(|| self.yesterday.get(&name))
    }

    /// Adds or replaces; says whether it was there.
    fn insert(&mut self, name: u128, what: T, now: Timestamp) -> bool {
        if self.since.plus_ms(ANSWER_MEMORY_MS) <= now {
            self.yesterday = std::mem::take(&mut self.today);
            self.since = now;
        }
        let known = self.today.insert(name, what).is_some();
        known || self.yesterday.contains_key(&name)
    }

    fn remove(&mut self, name: u128) {
        self.today.swap_remove(&name);
        self.yesterday.swap_remove(&name);
    }
}

type Rows = OrderedMap<EntityKey, EntityRow>;

/// Rows and marks of a copy of the store, `None` where there is no store.
fn read_rows(disk: &dyn Disk, path: &Path) -> Result<Option<(Rows, Vec<RoundMark>)>, CheckpointError> {
    let Some(store) = CheckpointStore::open_copy(disk, path)? else { return Ok(None) };
    let marks = store.marks()?;
    let mut rows = Rows::default();
    store.for_each(|row| {
        rows.insert(row.entity.clone(), row);
    })?;
    Ok(Some((rows, marks)))
}
