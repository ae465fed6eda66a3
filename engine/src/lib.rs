//! The pure core: stock, reservations, carts, checkout and orders as synchronous state machines.
//!
//! Nothing here knows a clock, a thread, a socket or a file. Time, ids and randomness arrive in an
//! [`envelope::Envelope`]; a machine decides ([`envelope::Decision`]) and only `evolve` changes its state, so that
//! the journal folded gives the same state for ever (law 10). The laws are in [`invariants`].
//!
//! Start at [`stock::Stock`] for the smallest machine, at [`order::Order`] for the checkout saga, at [`world::World`]
//! for all of them folded from one journal.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

pub mod answer;
pub mod cart;
pub mod command;
pub mod ended;
pub mod envelope;
pub mod event;
pub mod identity;
pub mod invariants;
pub mod money;
pub mod mutant;
pub mod order;
pub mod payment;
pub mod pricing;
pub mod reservation;
pub mod stock;
pub mod world;
