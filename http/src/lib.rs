//! The front door: HTTP routes, wire types, problems, metrics, pages for reading, and the `doorbuster` command.
//!
//! Laws kept here: what strangers see is written only by [`wire`] and [`problem`]; every route is described once, in
//! [`routes::table`], and checked, documented and counted from there; handlers know no rule of stock or money.
//! Start at [`routes`], then [`door`] for what every request passes, [`server`] for how it is run.

pub mod cli;
pub mod client;
pub mod demo;
pub mod door;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod routes;
pub mod server;
pub mod wire;

mod admission;
mod body;
mod call;
mod console;
mod headers;
mod line;
mod live;
mod reply;

pub use live::LiveOptions;

/// The commit this was built from, where the build was told (`DOORBUSTER_COMMIT`).
pub const COMMIT: Option<&str> = option_env!("DOORBUSTER_COMMIT");
