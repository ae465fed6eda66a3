//! The journal, checkpoints, recovery and verification, on real files and lying disks.

// Clippy allows this inside test functions only; their helpers are tests as much.
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod directories;
mod following;
mod goldens;
mod journals;
mod killing;
mod parsers;
mod recoveries;
mod rescuing;
mod shop;
mod speed;
mod support;
mod verifying;
mod writing;
