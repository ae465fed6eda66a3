//! Announcements and their way to Redis, with servers of our own.

// Clippy allows this inside test functions only; their helpers are tests as much.
#![allow(clippy::unwrap_used)]

mod announcements;
mod announcing;
mod links;
mod schema;
mod shop;
