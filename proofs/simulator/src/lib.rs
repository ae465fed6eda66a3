//! A deterministic world around the real engine: its actors, journal writer, checkpointer and recovery run in one thread
//! over a simulated disk, clock, router, payment provider and clients. One seed gives one history.
//!
//! Start at [`random::Random`]: everything that is left to chance in a world is drawn from one of these.

pub mod disk;
pub mod random;
