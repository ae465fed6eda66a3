//! The actors under a whole engine: real journal, real checkpoint store, two workers, the fake provider.

mod checkouts;
mod harness;
mod panics;
mod recovery;
mod reservations;
