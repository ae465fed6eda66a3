//! Tests by resource. [`harness`] opens a shop and speaks HTTP by hand, so that wrong requests can be sent too.

mod bad_input;
mod carts;
mod catalogue;
mod command;
mod configuration;
mod console;
mod demo;
mod drain;
mod fresh_page;
pub(crate) mod harness;
mod history;
mod hostile;
mod limits;
mod openapi;
mod orders;
mod outside;
mod payments;
mod races;
mod reservations;
mod service;
mod sockets;
mod streams;
#[cfg(feature = "stripe")]
mod stripe;
mod till;
