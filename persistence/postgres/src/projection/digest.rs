//! One hash of all that the projection says, the same however its rows lie.
//!
//! Each row is hashed by itself, with its table's name, and the hashes of a table are added up; so the digest needs no sorting
//! and no memory, and the tables and the journal can be gone through in whatever order comes naturally. It finds mistakes,
//! not forgeries. What it covers are the columns that a fold of the journal can show (`Table::shown`).

use std::fmt;

use doorbuster_persistence::frame::FrameNumber;
use tokio_postgres::IsolationLevel;

use super::error::ProjectionError;
use super::rows::Value;
use super::store::{Prepared, Session};
use super::tables::{DIGESTED, Table};
use crate::connection::{Connection, within};

/// Rows and sum of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    lanes: [u64; 4],
}

/// What tables hold, as rows are added to it one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digester {
    sums: [Sum; DIGESTED.len()],
    bytes: Vec<u8>,
}

impl Digester {
    /// Adds a row, of which the columns beyond those shown are not looked at.
    pub(crate) fn add(&mut self, table: &Table, row: &[Value]) {
        let Some(index) = DIGESTED.iter().position(|known| known.name == table.name) else { return };
        self.bytes.clear();
        self.bytes.extend_from_slice(table.name.as_bytes());
        for value in row.iter().take(table.shown().len()) {
            value.write_canonical(&mut self.bytes);
        }
        let hash = *blake3::hash(&self.bytes).as_bytes();
        let sum = &mut self.sums[index];
        sum.rows += 1;
        for (lane, part) in sum.lanes.iter_mut().zip(hash.chunks_exact(8)) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(part);
            *lane = lane.wrapping_add(u64::from_le_bytes(bytes));
        }
    }

    pub(crate) fn finish(self, frame: FrameNumber) -> Digest {
        let tables = DIGESTED.iter().zip(self.sums).map(|(table, sum)| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(table.name.as_bytes()).update(&sum.rows.to_le_bytes());
            for lane in sum.lanes {
                hasher.update(&lane.to_le_bytes());
            }
            TableDigest { table: table.name, rows: sum.rows, hash: hasher.finalize().to_hex().to_string() }
        });
        let tables: Vec<TableDigest> = tables.collect();
        let mut hasher = blake3::Hasher::new();
        for table in &tables {
            hasher.update(table.hash.as_bytes());
        }
        Digest { frame, hash: hasher.finalize().to_hex().to_string(), tables }
    }
}

/// Rows and hash of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    /// Its name in the schema `doorbuster`.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Of all of them, hexadecimal.
    pub hash: String,
}

/// What a projection says as of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The last frame it reflects.
    pub frame: FrameNumber,
    /// Of all tables, hexadecimal.
    pub hash: String,
    /// Each table's own.
    pub tables: Vec<TableDigest>,
}

impl Digest {
    /// How two digests of the same frame differ, table by table; empty when they do not.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = self.tables.iter().zip(&other.tables).filter(|(one, two)| one != two);
        let told = pairs.map(|(one, two)| match (one.rows, two.rows) {
            (rows, others) if rows == others => format!("{}: {rows} rows, of which some differ", one.table),
            (rows, others) => format!("{}: {rows} rows against {others}", one.table),
        });
        told.collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at frame {}", self.hash, self.frame)
    }
}

/// The digest of what the tables hold now, of one moment even while a projector writes them. `progress` is told the rows
/// read so far.
pub async fn of_tables(
    connection: &mut Connection,
    progress: &mut dyn FnMut(u64),
) -> Result<Digest, ProjectionError> {
    const WHAT: &str = "beginning to read the projection";
    let patience = connection.patience();
    let began = connection.client_mut().build_transaction();
    let began = began.isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
    let transaction = within(patience, WHAT, began).await?;
    let unhurried = transaction.batch_execute("SET LOCAL statement_timeout = 0");
    within(patience, WHAT, unhurried).await?;
    let asked = transaction.query_opt("SELECT last_frame FROM doorbuster.projection_state", &[]);
    let frame = within(patience, WHAT, asked).await?.map_or(0, |row| row.get::<_, i64>(0));
    let mut digester = Digester::default();
    let mut prepared = Prepared::default();
    let mut session = Session { transaction: &transaction, prepared: &mut prepared, patience };
    let mut rows = 0_u64;
    for table in DIGESTED {
        let each = |row: Vec<Value>| {
            digester.add(table, &row);
            rows += 1;
            if rows.is_multiple_of(10_000) {
                progress(rows);
            }
        };
        session.for_each(table, table.shown(), each).await?;
    }
    within(patience, "ending to read the projection", transaction.rollback()).await?;
    progress(rows);
    Ok(digester.finish(FrameNumber(u64::try_from(frame).unwrap_or(0))))
}
