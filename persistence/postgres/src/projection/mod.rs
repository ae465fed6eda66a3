//! The projection: the journal folded into tables, each event applied exactly once, in order (law 10).
//!
//! ```text
//! journal ──frames──► batch ──► fold over the rows it touches ──► COPY, upsert and the offset in one transaction
//!                                 ▲ read in the same transaction
//! ```
//!
//! The tables are the only state: a batch reads the rows that its events touch, folds in memory, and writes what changed
//! together with the frame it came to. So a crash of either side anywhere loses nothing and doubles nothing. One thing is
//! kept in memory, which units are held for whom, because a reservation of a second should cost no row: the table
//! `open_holds` is that memory some seconds ago, and whoever begins reads the frames since then again ([`holds`]).
//!
//! [`projector`] is the thread that follows a live journal, [`rebuild`] does the same offline from the beginning,
//! [`digest`] says what the tables hold in one hash, and [`folded`] computes that hash from the journal by the engine's own
//! machines, sharing no rule with the fold here. Start at [`applier::Applier`].

pub mod applier;
pub mod digest;
pub mod error;
pub mod folded;
pub mod projector;
pub mod rebuild;

mod carts;
mod holds;
mod orders;
mod refunds;
mod rows;
mod source;
mod stock;
mod store;
mod tables;
