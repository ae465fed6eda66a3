//! A deterministic world around the real engine: its actors, journal writer, checkpointer and recovery run in one thread
//! over a simulated disk, clock, router, payment provider and clients. One seed gives one history.
//!
//! Start at [`world::live`], which lives the history of a seed. What the engine is compared with stands in [`model`], what
//! is compared in [`checker`], what goes wrong in [`mischief`], who asks in [`clients`].

// `shelf` is stock here and `self` is itself.
#![allow(clippy::similar_names)]

pub mod ask;
pub mod broken;
pub mod caught;
pub mod checker;
pub mod clients;
pub mod common;
pub mod disk;
pub mod ending;
pub mod host;
#[cfg(feature = "mutants")]
pub mod hunt;
pub mod journal;
pub mod ledger;
pub mod mischief;
pub mod model;
pub mod night;
pub mod panics;
pub mod pinch;
pub mod postman;
pub mod provider;
pub mod random;
pub mod room;
pub mod rows;
pub mod run;
pub mod sometimes;
pub mod starts;
pub mod world;
