//! The projection made anew, and compared with the journal, both beside a stopped engine.
//!
//! A rebuild empties the tables in one transaction and applies the journal from its first frame, as the projector does. It may
//! be killed anywhere: the tables then are the projection of an earlier frame, and whoever comes next goes on from there.

use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::error::StartError;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::tail::JournalTail;

use super::applier::Applier;
use super::digest::{self, Digest};
use super::error::ProjectionError;
use super::folded::Folded;
use super::source::{BATCH_EVENTS_MAX, Source};
use super::tables::{DIGESTED, OPEN_HOLDS};
use crate::connection::{Connection, within};

/// How far a long job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The journal is read for where it ends.
    Reading {
        /// Bytes read.
        bytes: u64,
        /// Of so many.
        bytes_total: u64,
    },
    /// Frames are applied or folded.
    Frames {
        /// The last one done with.
        frame: u64,
        /// Of so many.
        frames_total: u64,
    },
    /// The tables are hashed.
    Rows {
        /// Rows read.
        rows: u64,
    },
}

/// The tables and the journal side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What the tables hold.
    pub tables: Digest,
    /// What the journal folds to, up to the same frame.
    pub journal: Digest,
    /// Where the journal ends.
    pub last: FrameNumber,
}

impl Comparison {
    /// Whether law 10 holds of the projection.
    pub fn is_equal(&self) -> bool {
        self.tables.hash == self.journal.hash
    }
}

/// Empties the tables and applies the whole journal of `directory`. With `takes_over` also where they are another engine's.
pub async fn rebuild(
    connection: Connection,
    directory: &DataDirectory,
    takes_over: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, ProjectionError> {
    rebuild_in_batches(connection, directory, takes_over, BATCH_EVENTS_MAX, progress).await
}

/// As [`rebuild`], with batches of about so many events: whole frames, at least one. What comes out must not depend on it.
pub async fn rebuild_in_batches(
    mut connection: Connection,
    directory: &DataDirectory,
    takes_over: bool,
    events_max: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, ProjectionError> {
    let last = last_frame(directory, progress)?;
    empty(&mut connection, directory, takes_over).await?;
    let paths = directory.paths().clone();
    let tail = JournalTail::of_resting(paths, directory.engine(), FrameNumber::FIRST);
    let mut projection =
        Applier::begin(connection, Source::at_rest(tail, last).in_batches_of(events_max)).await?;
    let mut events = 0;
    while let Some(applied) = projection.step().await? {
        events += applied.events;
        progress(Progress::Frames { frame: applied.frame.0, frames_total: last.0 });
    }
    Ok(events)
}

async fn empty(
    connection: &mut Connection,
    directory: &DataDirectory,
    takes_over: bool,
) -> Result<(), ProjectionError> {
    const WHAT: &str = "emptying the projection";
    let patience = connection.patience();
    let transaction = within(patience, WHAT, connection.client_mut().transaction()).await?;
    let asked = transaction.query_opt("SELECT engine_id FROM doorbuster.projection_state FOR UPDATE", &[]);
    let found: Option<String> = within(patience, WHAT, asked).await?.map(|row| row.get(0));
    let own = directory.engine().to_string();
    if let Some(found) = found.filter(|found| *found != own && !takes_over) {
        return Err(ProjectionError::OtherEngine { found, own });
    }
    let tables = DIGESTED.iter().chain([&&OPEN_HOLDS]).map(|table| format!("doorbuster.{}", table.name));
    let tables = tables.collect::<Vec<_>>().join(", ");
    let sql = format!("TRUNCATE {tables}; DELETE FROM doorbuster.projection_state");
    within(patience, WHAT, transaction.batch_execute(&sql)).await?;
    within(patience, WHAT, transaction.commit()).await?;
    Ok(())
}

/// Hashes the tables, folds the journal of `directory` up to the same frame, and puts both side by side.
pub async fn compare(
    connection: &mut Connection,
    directory: &DataDirectory,
    progress: &mut dyn FnMut(Progress),
) -> Result<Comparison, ProjectionError> {
    let asked = connection.client().query_opt("SELECT engine_id FROM doorbuster.projection_state", &[]);
    let found = connection.within("reading the offset", asked).await?.map(|row| row.get::<_, String>(0));
    let own = directory.engine().to_string();
    if let Some(found) = found.filter(|found| *found != own) {
        return Err(ProjectionError::OtherEngine { found, own });
    }
    let tables = digest::of_tables(connection, &mut |rows| progress(Progress::Rows { rows })).await?;
    let last = last_frame(directory, progress)?;
    if tables.frame > last {
        return Err(ProjectionError::Ahead { applied: tables.frame.0, durable: last.0 });
    }
    let journal = fold(directory, tables.frame, progress)?;
    Ok(Comparison { tables, journal, last })
}

/// The digest of the journal of `directory` up to frame `through`.
pub fn fold(
    directory: &DataDirectory,
    through: FrameNumber,
    progress: &mut dyn FnMut(Progress),
) -> Result<Digest, ProjectionError> {
    let paths = directory.paths().clone();
    let mut tail = JournalTail::of_resting(paths, directory.engine(), FrameNumber::FIRST);
    let mut folded = Folded::default();
    while let Some(frame) = tail.next_frame_through(through)? {
        folded.fold(&frame)?;
        if frame.number.0.is_multiple_of(1_024) {
            progress(Progress::Frames { frame: frame.number.0, frames_total: through.0 });
        }
    }
    Ok(folded.digest())
}

/// The last whole frame of a journal that nobody writes; a torn one behind it was never durable.
fn last_frame(
    directory: &DataDirectory,
    progress: &mut dyn FnMut(Progress),
) -> Result<FrameNumber, ProjectionError> {
    let mut reader = JournalReader::open(directory.paths(), directory.engine(), FrameNumber(u64::MAX))?;
    let bytes_total = reader.bytes_left();
    while reader.next_frame()?.is_some() {
        let bytes = bytes_total.saturating_sub(reader.bytes_left());
        progress(Progress::Reading { bytes, bytes_total });
    }
    Ok(FrameNumber(reader.tail().next_frame.0.saturating_sub(1)))
}

/// Opens the data directory of a stopped engine.
pub fn open(path: &std::path::Path) -> Result<DataDirectory, StartError> {
    DataDirectory::open_offline(path)
}
