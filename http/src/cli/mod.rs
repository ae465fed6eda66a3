//! The `doorbuster` command.

pub mod replay;
