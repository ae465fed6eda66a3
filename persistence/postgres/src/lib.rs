//! Postgres behind the journal: a shop's other systems read here what the engine has done.
//!
//! Laws kept here: (10) the projection is the journal folded, each event applied exactly once, in order; (11) nothing here
//! is ever waited for by a sale, and nothing grows while Postgres is away. Nothing in Postgres is the truth: the journal
//! is, and all of this can be made from it anew.
//!
//! Sockets belong to the runtime that opened them, so whatever connects here runs on a thread and runtime of its own, never
//! on a worker. The way in: [`settings::DatabaseSettings`] says where Postgres is, [`connection::Connection`] is one
//! session with deadlines, [`migrations::migrate`] brings the schema up to date, [`projection::projector::Projector`] follows
//! the journal, [`history::History`] finds orders.

pub mod connection;
pub mod error;
pub mod history;
pub mod metrics;
pub mod migrations;
pub mod projection;
pub mod rescue;
pub mod schema;
pub mod settings;

mod tls;
