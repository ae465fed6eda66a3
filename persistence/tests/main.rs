//! The journal, checkpoints, recovery and verification, on real files and lying disks.

mod checkpoints;
mod directories;
mod goldens;
mod journals;
mod recoveries;
mod shop;
mod support;
mod verifying;
mod writing;
