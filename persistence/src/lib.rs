//! Everything that writes bytes for the disk: the journal, checkpoints, recovery and verification.
//!
//! Laws kept here: (3) what was acknowledged survives; (9) the journal is gapless, ordered and checksummed, a torn
//! tail is cut and any other damage refuses to start; (10) state is the journal folded, each event once.
//!
//! The way in: [`disk::Disk`] is the machine underneath; [`directory::DataDirectory`] locks the place, [`recovery::recover`] makes the world and the journal
//! from it, [`writer::JournalWriter`] carries batches to the disk while serving, [`checkpoint::CheckpointStore`] keeps
//! restarts short, [`archive::archive_segments`] clears behind it, [`tail::JournalTail`] follows the journal,
//! [`verify::verify`] proves all of it offline. [`rescue`]
//! makes a data directory of a copy kept elsewhere.

pub mod archive;
pub mod checkpoint;
pub mod codec;
pub mod directory;
pub mod disk;
pub mod error;
pub mod file_journal;
pub mod frame;
pub mod journal;
pub mod memory_journal;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod rescue;
pub mod segment;
pub mod space;
pub mod tail;
pub mod verify;
pub mod writer;

mod acknowledgements;
mod fold;
mod laws;
mod preparer;
mod sequences;
