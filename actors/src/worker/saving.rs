//! What goes to the checkpoint: which entities changed, and their states once they are durable. What a failed round was
//! given goes to the next one again.

use std::sync::Arc;

use doorbuster_engine::answer::LedgerChunk;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::world::Snapshot;
use indexmap::IndexSet;

use crate::checkpointer::{Portion, Row};

use super::{Changes, Handed, Pending, Remembered, Seat, Worker};

/// Answers and endings handed to the checkpointer at a time.
pub(crate) const REMEMBERED_MAX: usize = 1_024;

impl Worker {
    /// An entity changed for the first time since its last checkpoint.
    pub(crate) fn mark_dirty(&self, entity: &EntityKey) {
        self.dirty.borrow_mut().push(entity.clone());
    }

    /// Remembers an answer or ending for the next checkpoint. A full portion goes at once: answers may be in the store
    /// before the rows that reflect them, and must not pile up here while no round runs (law 11).
    pub(crate) fn remember(&self, remembered: Remembered) {
        self.remembered.borrow_mut().push(remembered);
        if self.remembered.borrow().len() >= REMEMBERED_MAX {
            self.save_remembered();
        }
    }

    /// Takes the names of what changed and of what is gone since the last round, and the sequences as they stand. If the
    /// last round was not done, what it was given is taken again: nobody knows what of it reached the store.
    pub(crate) fn take_changes(&self) -> Changes {
        let mut handed = std::mem::take(&mut *self.handed.borrow_mut());
        if handed.round <= self.shared.rounds_done() {
            handed = Handed::default();
        }
        handed.gone.append(&mut self.gone.borrow_mut());
        let changed: IndexSet<EntityKey, foldhash::fast::FixedState> =
            handed.changed.into_iter().chain(self.dirty.borrow_mut().drain(..)).collect();
        Changes {
            changed: changed.into_iter().collect(),
            gone: handed.gone,
            sequences: *self.sequences.borrow(),
        }
    }

    /// All of this was given to `round`.
    pub(crate) fn handed_over(&self, round: u64, changed: Vec<EntityKey>, gone: Vec<(EntityKey, u64)>) {
        *self.handed.borrow_mut() = Handed { round, changed, gone };
    }

    /// Takes the names of what has ended since they were last taken.
    pub(crate) fn take_gone(&self) -> Vec<(EntityKey, u64)> {
        std::mem::take(&mut self.gone.borrow_mut())
    }

    /// Writes a state to the checkpoint once it is durable, and before it what its events left behind: a replay skips
    /// what a row reflects, so a row must never be there without its answers.
    ///
    /// A state to which nothing has happened is left out: a retry of what has ended makes one, and its row would take the
    /// place of the one that tells a replay to skip what has ended (law 10).
    pub(crate) fn save(&self, entity: &EntityKey, snapshot: &Snapshot, sequence: u64) {
        if sequence == 0 {
            self.round.borrow_mut().awaited.remove(entity);
            return;
        }
        self.save_row(entity, Row::of(entity, snapshot, sequence));
    }

    /// [`Worker::save`] for a copy that is encoded where nobody waits for it.
    pub(crate) fn save_copy(&self, entity: &EntityKey, copy: Snapshot, sequence: u64) {
        self.save_row(entity, Row::of_copy(entity, copy, sequence));
    }

    fn save_row(&self, entity: &EntityKey, row: Row) {
        self.save_remembered();
        let portion = Portion::Row(Box::new(row));
        if mutant::active(Mutant::CheckpointAheadOfJournal) {
            self.shared.checkpoint(portion);
        } else {
            self.when_durable(Pending::Portion(Box::new(portion)));
        }
        self.round.borrow_mut().awaited.remove(entity);
    }

    /// Writes remembered answers and endings to the checkpoint once they are durable.
    pub(crate) fn save_remembered(&self) {
        let remembered = std::mem::take(&mut *self.remembered.borrow_mut());
        if !remembered.is_empty() {
            self.when_durable(Pending::Portion(Box::new(Portion::Remembered(remembered))));
        }
    }

    /// Writes a page of a SKU's ledger to the checkpoint once it is durable; until then it is read from where it waits.
    pub(crate) fn save_ledger(&self, page: LedgerChunk) {
        let page = Arc::new(page);
        self.shared.pages.left_memory(&page);
        self.when_durable(Pending::Portion(Box::new(Portion::Ledger(page))));
    }

    /// A recovered state that nothing woke still has to reach the checkpoint once.
    pub(super) fn save_idle(&self, entity: &EntityKey) {
        let mut seats = self.seats.borrow_mut();
        let Some(Seat::Idle(stored)) = seats.get_mut(entity) else { return };
        stored.dirty = false;
        stored.saved_in = self.round.borrow().number;
        let (snapshot, sequence) = (stored.snapshot.clone(), stored.sequence);
        drop(seats);
        self.save(entity, &snapshot, sequence);
    }
}
