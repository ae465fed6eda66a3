//! Postgres as it really is: every test talks to a server of its own, started for it and gone with it.

// Clippy allows this inside test functions only; their helpers are tests as much.
#![allow(clippy::unwrap_used)]

mod connecting;
mod migrating;
mod support;
