//! Actors around the machines: addresses, admission, timers, the reply gate, sagas, passivation, measurements.
//!
//! One worker per core hosts HTTP connections *and* the actors whose key hashes to it. A message reaches an entity's
//! mailbox, its turn is decided by the pure core, its events go to the journal with the worker's batch, and whatever the
//! turn promises waits in the gate until the batch is on stable storage (law 3). Knows no SQL and no JSON.
//!
//! Start at [`Engine`] from outside, at `worker` for the way of a message, at `actor` for one turn, at `saga` for work
//! over several actors.

mod actor;
mod catalogue;
mod checkpointer;
mod clock;
mod door;
mod engine;
mod gate;
mod host;
mod housekeeping;
mod index;
mod message;
mod observe;
mod pages;
mod payments;
mod runtime;
mod saga;
mod secrets;
mod start;
mod stats;
mod stepped;
mod store;
mod tentative;
mod together;
mod types;
mod wheel;
mod worker;

pub use catalogue::Catalogue;
pub use door::payments::{HearError, Heard, ReconcileError};
pub use door::watching::Watched;
pub use engine::Engine;
pub use host::{Blocking, Delivery, Held, Host, NoRoom, Outside};
pub use payments::{Finding, FindingKind, ProviderStatus, Reconciliation, WhenDown};
pub use runtime::{EngineOptions, Limits};
pub use stepped::Stepped;
pub use types::*;
