//! Stands between a program and its disk, loaded by `LD_PRELOAD`: records every change and every sync of the files under
//! one directory, with the time before and after, and injects faults while a control file says so. Linux only.
//!
//! `DOORBUSTER_SHIM_ROOT` names the directory (absolute, no link in it), `DOORBUSTER_SHIM_LOG` the record to append to,
//! `DOORBUSTER_SHIM_CONTROL` the control file of 4,096 bytes; without the first nothing is done. Each call is written
//! down before it is made and again after it, so that a kill between the two is no hole in the record. Calls go to the
//! kernel by `syscall`, never by the functions this library replaces.
//!
//! `proofs/crashes` reads the record and writes the control file. Start at `hooks`.
#![cfg(target_os = "linux")]
// A library that replaces C functions cannot be written without; every block says why it is sound.
#![allow(unsafe_code)]

mod control;
mod files;
mod hooks;
mod record;
