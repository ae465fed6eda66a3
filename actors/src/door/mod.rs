//! The engine's calls, by resource. Each finds the actor, sends one command, waits for the verdict.

mod carts;
mod following;
mod inspect;
mod orders;
pub(crate) mod payments;
mod reservations;
mod stock;
pub(crate) mod watching;
