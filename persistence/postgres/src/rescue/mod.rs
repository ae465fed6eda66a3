//! The rescue copy: the journal shipped to Postgres while it is written, and a data directory rebuilt from it.
//!
//! ```text
//! journal ──frames──► batch ──► one row, with the owner's row in the same statement ──► answers, under `replicated`
//! checkpoint store ──pages──► a finished checkpoint ──► batches behind the one before it are pruned
//! ```
//!
//! Laws: (3) what the copy is said to hold, a restore brings back; under `replicated` nothing is acknowledged before.
//! (9) Batches are gapless: the owner's row says which frame is due and to which checksum it is chained, and a row that does not
//! follow another is refused by the table. At most one directory writes: the epoch of the owner's row grows with each
//! restore, in the same transaction that hands the copy over, so that a machine which comes back is refused. (11) While Postgres
//! is away nothing is kept in memory: the journal is the queue.
//!
//! [`shipper`] is the thread that ships, [`restoring`] the way back, [`sealing`] keeps secrets from the database's readers,
//! [`tables`] all the SQL. Why it is so: `docs/adr/0011-rescue-copy.md`.

pub mod error;
pub mod restoring;
pub mod sealing;
pub mod shipper;
pub mod status;
pub mod tables;

mod checkpoints;
