//! The `doorbuster` command.

pub mod import;
pub mod replay;
pub mod rush;
