//! Postgres as it really is: every test talks to a server of its own, started for it and gone with it.

// Clippy allows this inside test functions only; their helpers are tests as much.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod bazaar;
mod connecting;
mod migrating;
mod projecting;
mod pruning;
mod rescuing;
mod shop;
mod support;
