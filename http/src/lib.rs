//! http
pub mod cli;
pub mod client;
