//! Doors to the outside: payment providers behind [`doorbuster_engine::payment::PaymentProvider`].
//!
//! A gateway translates and nothing else: it knows no stock, no order and no rule, keeps no promise of its own, and
//! says `Unknown` rather than guess. Deadlines, retries and the memory of what was asked are the engine's, so that a
//! door may be slow or gone without a unit or a penny lost (laws 7 and 8).
//!
//! Start at [`fake::Fake`], the built-in provider for trying every path without an account.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

pub mod fake;
#[cfg(feature = "paypal")]
pub mod paypal;
#[cfg(feature = "stripe")]
pub mod stripe;

pub use fake::Fake;
#[cfg(feature = "stripe")]
pub use stripe::Stripe;
