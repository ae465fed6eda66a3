//! Servers of others for tests and measurements: Postgres and Redis from Debian's packages, on free ports, in temporary
//! directories, stopped and removed afterwards; hurt on request, by kill, pause or a proxy between.
//!
//! A missing program is an error that names the remedy, never a silent skip. Start at [`postgres::Postgres`] and
//! [`redis::Redis`]; between them and whoever asks stands a [`proxy::Proxy`]; any other program is a [`process::Server`].
#![cfg(target_os = "linux")]

pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod redis;
