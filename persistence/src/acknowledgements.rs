//! Who is told that a batch is durable, and when: at once, or once a copy elsewhere has its frame too.
//!
//! Law 3 under [`Durability::Replicated`](crate::writer::Durability::Replicated): nothing is told before the frame is on this
//! machine's stable storage *and* [`Held::confirm`] has named it. Held acknowledgements are bounded (law 11): beyond
//! [`Held::HELD_MAX`] the newest of a worker takes in the one before it, which only makes that one wait longer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::frame::FrameNumber;
use crate::writer::OnDurable;

/// How the writer tells.
pub(crate) enum Acknowledgements {
    /// As soon as the frame is synced.
    AtOnce(OnDurable),
    /// When a copy has the frame too.
    Held(Arc<Held>),
}

impl Acknowledgements {
    /// Batches up to `number` of `worker` are on stable storage, in frame `frame` or before.
    pub(crate) fn tell(&self, frame: FrameNumber, batches: impl Iterator<Item = (usize, u64)>) {
        match self {
            Self::AtOnce(on_durable) => batches.for_each(|(worker, number)| on_durable(worker, number)),
            Self::Held(held) => held.hold(frame, batches),
        }
    }
}

/// Acknowledgements that wait for a copy.
#[derive(Debug)]
pub(crate) struct Held {
    state: Mutex<State>,
    /// Woken whenever a frame is durable here.
    durable: Condvar,
}

struct State {
    on_durable: OnDurable,
    waiting: VecDeque<Waiting>,
    /// The newest frame that is durable here.
    durable: FrameNumber,
    /// The newest frame that the copy has.
    confirmed: FrameNumber,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    frame: FrameNumber,
    worker: usize,
    number: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("State");
        shown.field("waiting", &self.waiting.len()).field("durable", &self.durable);
        shown.field("confirmed", &self.confirmed).finish_non_exhaustive()
    }
}

impl Held {
    /// Acknowledgements held apart; a worker's frames beyond it wait together.
    const HELD_MAX: usize = 65_536;

    /// Nothing held; frames up to `durable` are on stable storage from before.
    pub(crate) fn new(durable: FrameNumber, on_durable: OnDurable) -> Self {
        let waiting = VecDeque::new();
        let state = State { on_durable, waiting, durable, confirmed: FrameNumber(0) };
        Self { state: Mutex::new(state), durable: Condvar::new() }
    }

    fn hold(&self, frame: FrameNumber, batches: impl Iterator<Item = (usize, u64)>) {
        let mut state = self.state.lock();
        state.durable = state.durable.max(frame);
        for (worker, number) in batches {
            if frame <= state.confirmed && !state.waiting.iter().any(|held| held.worker == worker) {
                (state.on_durable)(worker, number);
                continue;
            }
            let full = state.waiting.len() >= Self::HELD_MAX;
            let newest =
                if full { state.waiting.iter_mut().rev().find(|held| held.worker == worker) } else { None };
            match newest {
                Some(held) => (held.frame, held.number) = (frame, number),
                None => state.waiting.push_back(Waiting { frame, worker, number }),
            }
        }
        drop(state);
        self.durable.notify_all();
    }

    /// The copy has every frame up to `through`: lets out what waited for them, oldest first.
    pub(crate) fn confirm(&self, through: FrameNumber) {
        let mut state = self.state.lock();
        state.confirmed = state.confirmed.max(through);
        let confirmed = state.confirmed;
        // Where frames were taken together the order of frames is that of a worker only.
        let State { on_durable, waiting, .. } = &mut *state;
        waiting.retain(|held| {
            let is_out = held.frame <= confirmed;
            if is_out {
                on_durable(held.worker, held.number);
            }
            !is_out
        });
    }

    /// Waits until frame `due` is on stable storage here, `patience` at the most; returns the newest that is.
    pub(crate) fn wait_for_durable(&self, due: FrameNumber, patience: Duration) -> FrameNumber {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.durable < due {
            if self.durable.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.durable
    }
}
