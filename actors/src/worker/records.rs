//! What a turn records and promises: journal room, the tick's buffer, the gate, replies on their way out.

use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{Recorded, RequestStamp};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_persistence::codec::append_record;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::writer::Batch;

use crate::host::NoRoom;
use crate::message::Slot;
use crate::types::Verdict;

use super::{Inbound, Pending, Worker};

/// Claimed from the journal at a time, so that most turns claim nothing: a few hundred records' worth.
const CLAIM_BYTES: usize = 128 * 1024;

/// Room kept for turns that end something, as a part of the largest frame: 2 MiB of the default journal, or the endings
/// of ten thousand reservations.
const HEADROOM_PART: usize = 8;

/// A buffer at this size goes to the journal before its tick ends.
const FLUSH_BYTES: usize = 1 << 20;

impl Worker {
    /// Sets journal space aside for a turn of at most `bytes`; `false` refuses the turn before anything changed.
    ///
    /// The last of the room is kept for turns that end something (law 6): a full disk takes no new reservation, but the
    /// old ones still expire and sagas still give back what they hold.
    pub(crate) fn has_room(&self, bytes: usize, ends_something: bool) -> bool {
        let allowance = self.allowance.get();
        if allowance >= bytes || mutant::active(Mutant::IgnoreStorageFull) {
            return true;
        }
        let journal = &self.shared.journal;
        let headroom = journal.frame_bytes_max() / HEADROOM_PART;
        let claimable = usize::try_from(journal.stats().claimable_bytes).unwrap_or(usize::MAX);
        let refuse = || {
            if let Some(listener) = &self.shared.listener {
                listener.no_room(NoRoom {
                    wanted_bytes: bytes,
                    in_hand_bytes: allowance,
                    claimable_bytes: claimable,
                    ends_something,
                });
            }
            false
        };
        let missing = bytes.saturating_sub(allowance);
        if !ends_something && claimable < missing.saturating_add(headroom) {
            return refuse();
        }
        // Where room is scarce nobody keeps any in hand: another worker's sagas would starve beside it.
        let plenty = CLAIM_BYTES.saturating_mul(self.shared.inboxes.len()).saturating_add(headroom);
        let wanted = if claimable > plenty { missing.max(CLAIM_BYTES) } else { missing };
        let claimed = journal.claim(wanted).or_else(|_| journal.claim(missing));
        match claimed {
            Ok(claim) => {
                self.allowance.set(allowance.saturating_add(claim.bytes));
                true
            }
            Err(_) => refuse(),
        }
    }

    /// Gives unused journal space back, so that an idle worker keeps nobody out.
    pub(crate) fn give_room_back(&self) {
        let allowance = self.allowance.replace(0);
        if allowance > 0 {
            self.shared.journal.release(allowance);
        }
    }

    /// Claimed and not used yet.
    pub(crate) fn in_hand_bytes(&self) -> usize {
        self.allowance.get()
    }

    /// Records one event; returns its sequence. The room was claimed before the turn was decided.
    pub(crate) fn append(
        &self,
        entity: &EntityKey,
        recorded: Recorded,
        request: Option<RequestStamp>,
        event: Event,
    ) -> u64 {
        let partition = entity.partition();
        let mut sequences = self.sequences.borrow_mut();
        let Some(sequence) = sequences.get_mut(usize::from(partition)) else { return 0 };
        let reused = mutant::active(Mutant::ReuseSequence) && *sequence % 32 == 31;
        *sequence = sequence.saturating_add(u64::from(!reused));
        let sequence = *sequence;
        let header = RecordHeader {
            partition,
            epoch: 1,
            sequence,
            position: recorded.position.0,
            at_ms: recorded.at.0,
        };
        let mut buffer = self.buffer.borrow_mut();
        let entry = Entry { entity: entity.clone(), request, event };
        let written = append_record(&mut buffer.bytes, &header, &entry);
        let Ok(written) = written else {
            // State has moved on and the record has not: nothing may be promised from here. Recovery speaks next.
            self.shared.die("a decided event could not be encoded");
        };
        buffer.records = buffer.records.saturating_add(1);
        drop(buffer);
        self.allowance.set(self.allowance.get().saturating_sub(written));
        self.schedule_flush();
        sequence
    }

    /// Hands a large buffer over before its tick ends. Only between turns: a turn's events belong in one frame.
    pub(crate) fn flush_if_full(&self) {
        let full =
            self.buffer.borrow().bytes.len() >= FLUSH_BYTES.min(self.shared.journal.frame_bytes_max() / 4);
        if full {
            self.hand_over();
        }
    }

    /// Runs the flush once, after everything that is ready in this tick has run.
    pub(crate) fn schedule_flush(&self) {
        if !self.flush_scheduled.replace(true)
            && let Some(me) = self.me.upgrade()
        {
            actix_rt::spawn(async move {
                tokio::task::yield_now().await;
                me.flush_scheduled.set(false);
                me.flush();
            });
        }
    }

    /// Hands the buffer to the journal, then lets parcels and replies leave for other workers.
    pub(crate) fn flush(&self) {
        self.hand_over();
        for (worker, bundle) in self.outgoing.borrow_mut().iter_mut().enumerate() {
            if !bundle.is_empty() {
                self.shared.deliver(Some(self.index), worker, Inbound::Parcels(std::mem::take(bundle)));
            }
        }
        for (worker, bundle) in self.replies.borrow_mut().iter_mut().enumerate() {
            if !bundle.is_empty() {
                self.shared.deliver(Some(self.index), worker, Inbound::Replies(std::mem::take(bundle)));
            }
        }
    }

    pub(super) fn hand_over(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.records == 0 {
            return;
        }
        let bytes = std::mem::replace(&mut buffer.bytes, self.shared.journal.buffer());
        let records = std::mem::take(&mut buffer.records);
        let number = self.gate.borrow_mut().close_batch();
        if mutant::active(Mutant::DropBatchOnFull) && self.shared.journal.stats().queue_depth > 3 {
            return;
        }
        if self.shared.journal.submit(Batch { worker: self.index, number, bytes, records }).is_err() {
            // The writer has already said why; what waits in the gate will never be said.
            tracing::error!("the journal takes no more records");
        }
    }

    /// The journal has this batch: what waited for it is said and done.
    pub(crate) fn durable(&self, number: u64) {
        let released = self.gate.borrow_mut().acknowledge(number);
        for mut things in released {
            for thing in things.drain(..) {
                match thing {
                    Pending::Reply(slot, verdict) => self.reply_now(slot, verdict),
                    Pending::Effect(effect) => effect(),
                    Pending::Portion(portion) => self.shared.checkpoint(*portion),
                }
            }
            self.gate.borrow_mut().recycle(things);
        }
        self.flush();
    }

    /// Says a verdict: on this thread, or with this tick's bundle to the worker whose connection waits.
    pub(crate) fn reply_now(&self, slot: Slot, verdict: Verdict) {
        match slot.origin {
            Some(origin) if origin != self.index => {
                if let Some(bundle) = self.replies.borrow_mut().get_mut(origin) {
                    bundle.push((slot, verdict));
                }
                self.schedule_flush();
            }
            Some(_) | None => slot.say(verdict),
        }
    }

    /// Says a verdict once batch `number` is durable.
    pub(crate) fn reply_when_durable(&self, number: u64, slot: Slot, verdict: Verdict) {
        let durable = self.gate.borrow().is_durable(number);
        if durable {
            self.reply_now(slot, verdict);
        } else {
            self.gate.borrow_mut().wait(number, Pending::Reply(slot, verdict));
        }
    }

    /// Does a thing once everything recorded so far is durable.
    pub(crate) fn when_durable(&self, thing: Pending) {
        let number = self.last_batch();
        let durable = self.gate.borrow().is_durable(number);
        if durable {
            match thing {
                Pending::Reply(slot, verdict) => self.reply_now(slot, verdict),
                Pending::Effect(effect) => effect(),
                Pending::Portion(portion) => self.shared.checkpoint(*portion),
            }
        } else {
            self.gate.borrow_mut().wait(number, thing);
        }
    }

    /// The newest batch that holds anything.
    pub(super) fn last_batch(&self) -> u64 {
        let open = self.gate.borrow().open_batch();
        if self.buffer.borrow().records > 0 { open } else { open.saturating_sub(1) }
    }

    /// The batch that the next event goes into.
    pub(crate) fn open_batch(&self) -> u64 {
        self.gate.borrow().open_batch()
    }
}
