//! The journal, checkpoints, recovery and verification, on real files and lying disks.

mod checkpoints;
mod journals;
mod support;
mod writing;
