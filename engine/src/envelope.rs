//! The way into and out of a machine: a command in its envelope, a decision back.

use smallvec::{SmallVec, smallvec};

use crate::answer::{Answer, Refusal};
use crate::identity::{RequestStamp, Timestamp};

/// A command with all that the pure core may know of the outside: the time, and which request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<C> {
    /// Business time of the turn.
    pub now: Timestamp,
    /// The request behind the command. `None` for steps the engine takes by itself.
    pub request: Option<RequestStamp>,
    /// What to do.
    pub command: C,
}

/// What a machine decides. Only [`Decision::Change`] touches state, and only through `evolve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<E> {
    /// These events happen, in this order, all or none. The verdict comes from folding them, now or in a later turn.
    Change(SmallVec<[E; 1]>),
    /// Nothing changes; this is the answer (a read, or a repeat of something already done).
    Answer(Answer),
    /// Nothing changes, because of this.
    Refuse(Refusal),
    /// Nothing changes and nothing is to be said: a step already taken, a timer that came too late.
    Nothing,
    /// The request is already running under the same key: its verdict will answer this one too.
    Join,
}

impl<E> Decision<E> {
    /// A change of one event.
    pub fn change(event: E) -> Self {
        Self::Change(smallvec![event])
    }
}
