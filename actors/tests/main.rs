//! The actors under a whole engine: real journal, real checkpoint store, two workers, the fake provider.

// A test says what it expects; anything else should stop it there.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod checkouts;
mod crashes;
mod expiry_race;
mod failing_store;
mod full_disk;
mod harness;
mod late_copies;
mod memory;
mod panics;
mod payments;
mod recovery;
mod reservations;
mod scarce_room;
mod shells;
mod stepped;
mod twins;
