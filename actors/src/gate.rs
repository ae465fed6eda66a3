//! The reply gate of one worker: what may be said only once the disk has it (law 3).
//!
//! Everything a turn promises waits under the number of the batch its events went into; an acknowledgement for batch
//! n lets out all that waits for n or earlier, in order. Pure; the worker owns it.

use std::collections::VecDeque;

/// See the module's header. `T` is whatever waits.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    /// Number of the batch that is being filled.
    open: u64,
    /// Highest batch that is on stable storage.
    durable: u64,
    waiting: VecDeque<(u64, Vec<T>)>,
    /// Emptied vectors, to be filled again.
    spare: Vec<Vec<T>>,
}

impl<T> Gate<T> {
    /// A gate before its first batch.
    pub(crate) fn new() -> Self {
        Self { open: 1, durable: 0, waiting: VecDeque::new(), spare: Vec::new() }
    }

    /// Number of the batch that is being filled.
    pub(crate) fn open_batch(&self) -> u64 {
        self.open
    }

    /// The open batch was handed to the journal; the next one begins.
    pub(crate) fn close_batch(&mut self) -> u64 {
        let closed = self.open;
        self.open = self.open.saturating_add(1);
        closed
    }

    /// Whether batch `number` is on stable storage.
    pub(crate) fn is_durable(&self, number: u64) -> bool {
        number <= self.durable
    }

    /// Lets `thing` wait for batch `number`, which is not durable yet; later numbers never wait before earlier ones.
    pub(crate) fn wait(&mut self, number: u64, thing: T) {
        match self.waiting.back_mut() {
            // A read of an earlier change, arriving late, waits with the newest: never too short.
            Some((last, things)) if *last >= number => things.push(thing),
            Some(_) | None => {
                let mut things = self.spare.pop().unwrap_or_default();
                things.push(thing);
                self.waiting.push_back((number, things));
            }
        }
    }

    /// Batch `number` and all before it are durable; what waited for them comes out, oldest first.
    pub(crate) fn acknowledge(&mut self, number: u64) -> Vec<Vec<T>> {
        self.durable = self.durable.max(number);
        let mut out = Vec::new();
        while self.waiting.front().is_some_and(|(waits_for, _)| *waits_for <= self.durable) {
            if let Some((_, things)) = self.waiting.pop_front() {
                out.push(things);
            }
        }
        out
    }

    /// Takes an emptied vector back for the next batch.
    pub(crate) fn recycle(&mut self, emptied: Vec<T>) {
        if self.spare.len() < 4 && emptied.is_empty() {
            self.spare.push(emptied);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_before_its_batch_is_durable() {
        let mut gate = Gate::new();
        gate.wait(gate.open_batch(), "first");
        let first = gate.close_batch();
        gate.wait(gate.open_batch(), "second");
        gate.wait(first, "late read of the first");
        assert!(gate.acknowledge(0).is_empty());
        assert_eq!(gate.acknowledge(first), [["first"]]);
        assert!(gate.is_durable(first) && !gate.is_durable(first + 1));
        let second = gate.close_batch();
        assert_eq!(gate.acknowledge(second), [["second", "late read of the first"]]);
        assert!(gate.waiting.is_empty());
    }
}
