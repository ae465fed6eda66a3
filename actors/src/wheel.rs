//! Timers of one worker: a wheel of slots, each a moment of business time; pure, driven by whoever owns it.
//!
//! An entry fires at the first turn of the wheel at or after its time; what it wakes checks for itself whether its
//! time has come. Entries of what ends or leaves memory are taken out, so that the wheel is as large as what is there
//! (law 11); for that each slot finds an entry by its hash.
//! Law 6 asks for seconds; a slot is [`SLOT_MS`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::Hash;

use doorbuster_engine::identity::Timestamp;
use indexmap::IndexSet;

/// Width of a slot: a fifth of the second within which an expiry must be seen.
pub(crate) const SLOT_MS: u64 = 100;

/// Slots that hold something, by number; far fewer than entries.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    slots: BTreeMap<u64, IndexSet<T, foldhash::fast::RandomState>>,
    entries: usize,
}

impl<T: Hash + Eq> Wheel<T> {
    /// An empty wheel.
    pub(crate) fn new() -> Self {
        Self { slots: BTreeMap::new(), entries: 0 }
    }

    /// Arms `entry` for `due`; armed twice for one slot, it fires once.
    pub(crate) fn arm(&mut self, due: Timestamp, entry: T) {
        let new = self.slots.entry(slot_of(due)).or_default().insert(entry);
        self.entries = self.entries.saturating_add(usize::from(new));
    }

    /// Takes `entry` out that was armed for `due`, if it has not fired.
    pub(crate) fn disarm(&mut self, due: Timestamp, entry: &T) {
        let Entry::Occupied(mut slot) = self.slots.entry(slot_of(due)) else { return };
        if !slot.get_mut().swap_remove(entry) {
            return;
        }
        if slot.get().is_empty() {
            slot.remove();
        }
        self.entries = self.entries.saturating_sub(1);
    }

    /// Takes up to `limit` entries that are due at `now`, earliest slots first.
    pub(crate) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<T> {
        let mut due = Vec::new();
        let slot_now = now.0 / SLOT_MS;
        while due.len() < limit
            && let Some(mut first) = self.slots.first_entry()
            && *first.key() <= slot_now
        {
            let room = limit.saturating_sub(due.len());
            let entries = first.get_mut();
            if entries.len() <= room {
                due.extend(first.remove());
            } else {
                let keep = entries.len().saturating_sub(room);
                due.extend(entries.drain(keep..));
            }
        }
        self.entries = self.entries.saturating_sub(due.len());
        due
    }

    /// What is armed and has not fired, earliest slots first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &T> {
        self.slots.values().flatten()
    }

    /// Entries armed and not fired.
    pub(crate) fn len(&self) -> usize {
        self.entries
    }
}

fn slot_of(due: Timestamp) -> u64 {
    due.0.div_ceil(SLOT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_fires_before_its_time_and_everything_within_one_slot_after() {
        let mut wheel = Wheel::new();
        for due in [0, 1, 99, 100, 101, 5_000] {
            wheel.arm(Timestamp(due), due);
        }
        let mut fired = Vec::new();
        for now in (0..=5_200).step_by(50) {
            for due in wheel.take_due(Timestamp(now), usize::MAX) {
                assert!(due <= now && now < due + 2 * SLOT_MS, "due {due} fired at {now}");
                fired.push(due);
            }
        }
        fired.sort_unstable();
        assert_eq!(fired, [0, 1, 99, 100, 101, 5_000]);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn what_is_taken_out_never_fires_and_leaves_nothing_behind() {
        let mut wheel = Wheel::new();
        for (due, entry) in [(100, "kept"), (100, "left"), (100, "left"), (500, "left")] {
            wheel.arm(Timestamp(due), entry);
        }
        wheel.disarm(Timestamp(100), &"left");
        wheel.disarm(Timestamp(500), &"left");
        wheel.disarm(Timestamp(500), &"left");
        wheel.disarm(Timestamp(900), &"never armed");
        assert_eq!((wheel.len(), wheel.slots.len()), (1, 1));
        assert_eq!(wheel.take_due(Timestamp(10_000), usize::MAX), ["kept"]);
    }

    #[test]
    fn a_crowd_in_one_slot_fires_in_bounded_portions() {
        let mut wheel = Wheel::new();
        for n in 0..1_000 {
            wheel.arm(Timestamp(10), n);
        }
        let mut seen = vec![false; 1_000];
        while wheel.len() > 0 {
            let portion = wheel.take_due(Timestamp(200), 300);
            assert!(!portion.is_empty() && portion.len() <= 300);
            for n in portion {
                assert!(!std::mem::replace(&mut seen[n], true), "{n} fired twice");
            }
        }
        assert!(seen.into_iter().all(|fired| fired));
    }
}
