//! The front door over a real socket: one binary, a server and a data directory of its own for each test.

// A test that cannot go on should stop at the very line; requests are built to be given away.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod api;
mod parsers;
