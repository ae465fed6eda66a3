//! The request index: which keys are taken, by what, and what they were told (law 5).
//!
//! A key is claimed here before any actor is asked, so that a key reused for another SKU or route is caught; the
//! index also finds a reservation by its id, which is its key. It is rebuilt at start from the recovered state.
//! Finished entries leave oldest first: after 24 hours, or earlier when they are more, or heavier, than the configured
//! bounds (law 11); a metric tells the real retention.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use doorbuster_engine::answer::{Answer, ReservationRecord};
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{CartId, Fingerprint, OrderId, RequestKey, RequestStamp, Sku, Timestamp};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::world::ANSWER_MEMORY_MS;
use parking_lot::Mutex;

/// Which actor has a request in hand. Small, since there is one for every open reservation.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// A SKU's own reservation.
    Sku(Sku),
    /// The coordinator of the same id.
    Reservation,
    /// A cart.
    Cart(Box<CartId>),
    /// An order.
    Order(Box<OrderId>),
}

impl Home {
    /// The home that `entity` is.
    pub(crate) fn of(entity: &EntityKey) -> Self {
        match entity {
            EntityKey::Sku(sku) => Self::Sku(sku.clone()),
            EntityKey::Reservation(_) => Self::Reservation,
            EntityKey::Cart(id) => Self::Cart(Box::new(*id)),
            EntityKey::Order(id) => Self::Order(Box::new(*id)),
        }
    }

    /// The entity this home is, for the request under `key`.
    pub(crate) fn entity(&self, key: RequestKey) -> EntityKey {
        match self {
            Self::Sku(sku) => EntityKey::Sku(sku.clone()),
            Self::Reservation => EntityKey::Reservation(key.reservation()),
            Self::Cart(id) => EntityKey::Cart(**id),
            Self::Order(id) => EntityKey::Order(**id),
        }
    }
}

/// What the index knows of a key.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Copies of it are on their way to the actor; nothing happened yet.
    Claimed,
    /// The actor has it in hand: a saga that runs, or a reservation that is held.
    Open(Home),
    /// It was told this.
    Settled(Arc<Answer>),
    /// It made this reservation, which has ended.
    Ended(Arc<ReservationRecord>),
}

#[derive(Debug)]
struct Slot {
    fingerprint: Fingerprint,
    stage: Stage,
    /// Copies that no actor has looked at yet. While there are any, the key belongs to their content, whatever becomes of
    /// the first one: refused, it would else be free for another body which a copy on its way then overtakes.
    claims: u32,
}

/// Finished keys, oldest first, and what they weigh together.
#[derive(Debug, Default)]
struct Finished {
    keys: VecDeque<Weighed>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Weighed {
    key: RequestKey,
    at: Timestamp,
    bytes: u32,
}

impl Finished {
    fn pop(&mut self) -> Option<Weighed> {
        let oldest = self.keys.pop_front()?;
        self.bytes = self.bytes.saturating_sub(u64::from(oldest.bytes));
        Some(oldest)
    }
}

/// A copy of a request on its way to its actor; dropped, it gives the key back if nothing came of it (law 4).
#[derive(Debug)]
pub(crate) struct Claim {
    index: Arc<RequestIndex>,
    key: RequestKey,
    begins: bool,
}

impl Claim {
    /// Whether nothing had come of the request when this was claimed.
    pub(crate) fn begins(&self) -> bool {
        self.begins
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = Self { index: Arc::clone(&self.index), key: self.key, begins: self.begins };
            KEPT.with_borrow_mut(|all| all.push(kept));
        } else {
            self.index.give_back(self.key);
        }
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Claim>> = const { RefCell::new(Vec::new()) };
}

/// The claims of a turn that panicked on this thread. It may have recorded something, so their keys are not free before the
/// actor is rebuilt: another body would be told the first one's answer, or take effect under its key elsewhere (law 5).
pub(crate) fn kept_by_panic() -> Vec<Claim> {
    KEPT.take()
}

/// The key is taken by a request with another content.
#[derive(Debug)]
pub(crate) struct KeyReused;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct RequestIndex {
    slots: DashMap<RequestKey, Slot, foldhash::fast::RandomState>,
    finished: Mutex<Finished>,
    finished_max: usize,
    finished_bytes_max: u64,
    /// How long the last entry dropped for want of room had been kept, in milliseconds; 24 hours while none was.
    retention_ms: AtomicU64,
}

impl RequestIndex {
    /// An empty index that keeps at most `finished_max` finished entries of at most about `finished_bytes_max` bytes.
    pub(crate) fn new(finished_max: usize, finished_bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            slots: DashMap::default(),
            finished: Mutex::default(),
            finished_max,
            finished_bytes_max,
            retention_ms: AtomicU64::new(ANSWER_MEMORY_MS),
        })
    }

    /// Claims the key for this request, or joins an earlier copy of it.
    pub(crate) fn claim(self: &Arc<Self>, request: RequestStamp) -> Result<Claim, KeyReused> {
        let begins = match self.slots.entry(request.key) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(Slot { fingerprint: request.fingerprint, stage: Stage::Claimed, claims: 1 });
                true
            }
            MapEntry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                if slot.fingerprint != request.fingerprint && !mutant::active(Mutant::AnswerOtherBody) {
                    return Err(KeyReused);
                }
                slot.claims = slot.claims.saturating_add(1);
                matches!(slot.stage, Stage::Claimed)
            }
        };
        Ok(Claim { index: Arc::clone(self), key: request.key, begins })
    }

    /// What is known of a key.
    pub(crate) fn stage(&self, key: RequestKey) -> Option<Stage> {
        self.slots.get(&key).map(|slot| slot.stage.clone())
    }

    /// An actor took the request up.
    pub(crate) fn open(&self, request: RequestStamp, home: Home) {
        self.reach(request.key, request.fingerprint, Stage::Open(home));
    }

    /// At a start or after a panic: the request was in hand when the engine or the actor stopped, unless it had its answer by
    /// then (a checkout whose payment is open was told so, and its cart still waits for the order).
    pub(crate) fn recall_open(&self, request: RequestStamp, home: Home) {
        match self.slots.entry(request.key) {
            MapEntry::Vacant(vacant) => {
                let stage = Stage::Open(home);
                vacant.insert(Slot { fingerprint: request.fingerprint, stage, claims: 0 });
            }
            // A copy that waits for the rebuild would else give the key back with its claim, and the answer be forgotten.
            MapEntry::Occupied(mut occupied) if matches!(occupied.get().stage, Stage::Claimed) => {
                occupied.get_mut().stage = Stage::Open(home);
            }
            MapEntry::Occupied(_) => {}
        }
    }

    /// The request was told its answer.
    pub(crate) fn settle(&self, request: RequestStamp, answer: Arc<Answer>, at: Timestamp) {
        let bytes = weight_of(&answer);
        self.reach(request.key, request.fingerprint, Stage::Settled(answer));
        self.finish(request.key, at, bytes);
    }

    /// The reservation that this key made has ended.
    pub(crate) fn end(&self, record: Arc<ReservationRecord>, at: Timestamp) {
        let key = record.id.request_key();
        let bytes = ENTRY_BYTES.saturating_add(weight_of_items(record.items.len()));
        self.reach(key, record.fingerprint, Stage::Ended(record));
        self.finish(key, at, bytes);
    }

    /// The request was refused after it had been taken up; a later copy is a new attempt.
    pub(crate) fn refuse(&self, key: RequestKey) {
        self.forget(key);
    }

    /// Nobody has the request in hand any more. Whoever had was told of as running at a start, when the answer was past its
    /// day, so there is none to keep (law 11).
    pub(crate) fn close(&self, key: RequestKey) {
        self.forget_if(key, |stage| matches!(stage, Stage::Open(_)));
    }

    /// A coordinator is over. One that was asked without a key was told of as running at a start, so that it is found by its id,
    /// and has no request whose refusal would take it out (law 11).
    pub(crate) fn close_coordinator(&self, entity: &EntityKey) {
        if let EntityKey::Reservation(id) = entity {
            self.close(id.request_key());
        }
    }

    /// What [`Mutant::ForgetIdempotencyAtPassivation`] does wrong.
    pub(crate) fn forget_answers_of(&self, entity: &EntityKey) {
        self.slots.retain(|_, slot| match (&slot.stage, entity) {
            (Stage::Settled(answer), EntityKey::Cart(id)) => {
                !matches!(&**answer, Answer::CartCreated(cart) | Answer::Cart(cart) if cart.id == *id)
            }
            (Stage::Settled(answer), EntityKey::Order(id)) => {
                !matches!(&**answer, Answer::Order(order) | Answer::Checkout(_, order) if order.id == *id)
            }
            _ => true,
        });
    }

    /// Drops finished entries that are older than their time.
    pub(crate) fn forget_before(&self, now: Timestamp) {
        loop {
            let oldest = {
                let mut finished = self.finished.lock();
                match finished.keys.front() {
                    Some(oldest) if oldest.at.plus_ms(ANSWER_MEMORY_MS) <= now => finished.pop(),
                    Some(_) | None => None,
                }
            };
            match oldest {
                Some(oldest) => self.forget_finished(oldest.key),
                None => return,
            }
        }
    }

    /// Entries now, finished ones among them, and the real retention in milliseconds.
    pub(crate) fn figures(&self) -> (usize, usize, u64) {
        (self.slots.len(), self.finished.lock().keys.len(), self.retention_ms.load(Ordering::Relaxed))
    }

    /// Every key with the name of its stage, for a proof that wants to know what is left of what is gone.
    pub(crate) fn stages(&self) -> Vec<(RequestKey, &'static str)> {
        let name = |stage: &Stage| match stage {
            Stage::Claimed => "claimed",
            Stage::Open(Home::Sku(_)) => "open at a SKU",
            Stage::Open(Home::Reservation) => "open at a coordinator",
            Stage::Open(Home::Cart(_)) => "open at a cart",
            Stage::Open(Home::Order(_)) => "open at an order",
            Stage::Settled(_) => "settled",
            Stage::Ended(_) => "ended",
        };
        self.slots.iter().map(|slot| (*slot.key(), name(&slot.stage))).collect()
    }

    fn finish(&self, key: RequestKey, at: Timestamp, bytes: u32) {
        let mut finished = self.finished.lock();
        finished.keys.push_back(Weighed { key, at, bytes });
        finished.bytes = finished.bytes.saturating_add(u64::from(bytes));
        while finished.keys.len() > self.finished_max || finished.bytes > self.finished_bytes_max {
            let Some(oldest) = finished.pop() else { return };
            self.forget_finished(oldest.key);
            self.retention_ms.store(at.0.saturating_sub(oldest.at.0), Ordering::Relaxed);
        }
    }

    fn reach(&self, key: RequestKey, fingerprint: Fingerprint, stage: Stage) {
        match self.slots.entry(key) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(Slot { fingerprint, stage, claims: 0 });
            }
            MapEntry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                slot.fingerprint = fingerprint;
                slot.stage = stage;
            }
        }
    }

    /// A finished key's time is over. If it was forgotten before and has begun anew, it is not what is to be forgotten.
    fn forget_finished(&self, key: RequestKey) {
        self.forget_if(key, |stage| matches!(stage, Stage::Settled(_) | Stage::Ended(_)));
    }

    /// Nothing of the request is known any more; copies on their way keep the key.
    fn forget(&self, key: RequestKey) {
        self.forget_if(key, |_| true);
    }

    fn forget_if(&self, key: RequestKey, is_over: impl FnOnce(&Stage) -> bool) {
        if let MapEntry::Occupied(mut occupied) = self.slots.entry(key)
            && is_over(&occupied.get().stage)
        {
            if occupied.get().claims == 0 {
                occupied.remove();
            } else {
                occupied.get_mut().stage = Stage::Claimed;
            }
        }
    }

    fn give_back(&self, key: RequestKey) {
        if let MapEntry::Occupied(mut occupied) = self.slots.entry(key) {
            let slot = occupied.get_mut();
            slot.claims = slot.claims.saturating_sub(1);
            if slot.claims == 0 && matches!(slot.stage, Stage::Claimed) {
                occupied.remove();
            }
        }
    }
}

/// What a finished entry weighs without its lines: key, slot, queue entry and the answer itself.
const ENTRY_BYTES: u32 = 400;

/// A rough weight of an answer in memory: it only has to keep large answers from passing for small ones.
fn weight_of(answer: &Answer) -> u32 {
    let lines = match answer {
        Answer::Reservation(record) => record.items.len(),
        Answer::CartCreated(cart) | Answer::Cart(cart) => cart.lines.len(),
        Answer::Checkout(_, order) | Answer::Order(order) => {
            order.lines.len().saturating_add(order.refunds.len()).saturating_add(order.fulfilments.len())
        }
        Answer::Refund(refund) => refund.lines.len(),
        Answer::Fulfilment(fulfilment) => fulfilment.lines.len(),
        Answer::Stock(_) | Answer::SkuDefined { .. } | Answer::CartDeleted | Answer::Noticed => 0,
    };
    ENTRY_BYTES.saturating_add(weight_of_items(lines))
}

fn weight_of_items(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX).saturating_mul(120)
}

#[cfg(test)]
mod tests {
    use doorbuster_engine::answer::Answer;

    use super::*;

    fn stamp(key: u128, fingerprint: u64) -> RequestStamp {
        RequestStamp { key: RequestKey(key), fingerprint: Fingerprint(fingerprint) }
    }

    #[test]
    fn a_key_belongs_to_one_content_until_its_claim_is_dropped() {
        let index = RequestIndex::new(10, u64::MAX);
        let first = index.claim(stamp(1, 7)).unwrap();
        let twin = index.claim(stamp(1, 7)).unwrap();
        assert!(first.begins() && twin.begins());
        assert!(index.claim(stamp(1, 8)).is_err(), "law 5: another body under the same key");
        drop(first);
        assert!(index.claim(stamp(1, 8)).is_err(), "the twin still holds the key");
        drop(twin);
        assert!(index.claim(stamp(1, 8)).is_ok(), "law 4: refused twice, so the key is free");
    }

    #[test]
    fn a_coordinator_that_is_over_leaves_no_key_open_and_takes_none_that_is_told_or_on_its_way() {
        let over = EntityKey::Reservation(RequestKey(1).reservation());
        let index = RequestIndex::new(10, u64::MAX);
        index.open(stamp(1, 0), Home::Reservation);
        index.close_coordinator(&over);
        assert!(index.stage(RequestKey(1)).is_none(), "law 11: refused, and asked without a key");
        let retry = index.claim(stamp(1, 7)).unwrap();
        index.close_coordinator(&over);
        assert!(index.claim(stamp(1, 8)).is_err(), "law 5: a retry holds the key");
        drop(retry);
        index.settle(stamp(1, 7), Arc::new(Answer::CartDeleted), Timestamp(5));
        index.close_coordinator(&over);
        assert!(matches!(index.stage(RequestKey(1)), Some(Stage::Settled(_))), "law 5: it was told");
    }

    #[test]
    fn a_key_whose_turn_panicked_is_free_only_when_its_claim_is_given_back() {
        let index = RequestIndex::new(10, u64::MAX);
        let claim = index.claim(stamp(1, 7)).unwrap();
        let turn = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _claim = claim;
            panic!("on purpose");
        }));
        assert!(turn.is_err());
        assert!(index.claim(stamp(1, 8)).is_err(), "law 5: it may have recorded something");
        drop(kept_by_panic());
        assert!(index.claim(stamp(1, 8)).is_ok(), "law 4: it had not");
    }

    /// Three copies, the first refused by its saga: the key was free while the second was still on its way, so that
    /// another body could take it and both could be granted.
    #[test]
    fn a_refused_key_stays_taken_while_a_copy_is_on_its_way() {
        // Each row: when the second copy comes, when it is refused, and whether a third comes after the refusal.
        for (label, joins_open, third) in [
            ("the copy came before the first was taken up", false, false),
            ("the copy came while the first ran", true, false),
            ("and a third comes after the refusal", false, true),
            ("and a third comes after a run that the second joined", true, true),
        ] {
            let index = RequestIndex::new(10, u64::MAX);
            let first = index.claim(stamp(1, 7)).unwrap();
            let early = (!joins_open).then(|| index.claim(stamp(1, 7)).unwrap());
            index.open(stamp(1, 7), Home::Reservation);
            drop(first);
            let second = early.unwrap_or_else(|| index.claim(stamp(1, 7)).unwrap());
            assert_eq!(second.begins(), !joins_open, "{label}");
            index.refuse(RequestKey(1));
            let third = third.then(|| index.claim(stamp(1, 7)).unwrap());
            assert!(index.claim(stamp(1, 8)).is_err(), "law 5: {label}, and it may yet be granted");
            drop(second);
            if let Some(third) = third {
                assert!(third.begins(), "law 4: {label}, it is a new attempt");
                assert!(index.claim(stamp(1, 8)).is_err(), "law 5: {label}, the third holds the key");
                drop(third);
            }
            assert!(index.claim(stamp(1, 8)).is_ok(), "law 4: {label}, all are refused");
        }
    }

    #[test]
    fn a_key_forgotten_early_stays_taken_while_a_copy_is_on_its_way() {
        let index = RequestIndex::new(1, u64::MAX);
        index.settle(stamp(1, 7), Arc::new(Answer::CartDeleted), Timestamp(0));
        let copy = index.claim(stamp(1, 7)).unwrap();
        index.settle(stamp(2, 7), Arc::new(Answer::CartDeleted), Timestamp(1));
        assert!(index.claim(stamp(1, 8)).is_err(), "law 5");
        drop(copy);
        assert!(index.stage(RequestKey(1)).is_none(), "law 11: nothing is left of it");
    }

    #[test]
    fn a_settled_key_survives_the_claims_of_its_copies() {
        let index = RequestIndex::new(10, u64::MAX);
        let claim = index.claim(stamp(1, 7)).unwrap();
        index.settle(stamp(1, 7), Arc::new(Answer::CartDeleted), Timestamp(5));
        drop(claim);
        assert!(matches!(index.stage(RequestKey(1)), Some(Stage::Settled(_))));
        index.forget_before(Timestamp(5 + ANSWER_MEMORY_MS));
        assert!(index.stage(RequestKey(1)).is_none());
    }

    #[test]
    fn what_is_recalled_as_running_does_not_take_an_answer_back() {
        let index = RequestIndex::new(10, u64::MAX);
        index.settle(stamp(1, 7), Arc::new(Answer::CartDeleted), Timestamp(5));
        for key in [1, 2] {
            index.recall_open(stamp(key, 7), Home::Reservation);
        }
        assert!(matches!(index.stage(RequestKey(1)), Some(Stage::Settled(_))), "law 5");
        assert!(matches!(index.stage(RequestKey(2)), Some(Stage::Open(_))));
    }

    #[test]
    fn what_is_recalled_as_running_stays_so_when_waiting_copies_give_up() {
        let index = RequestIndex::new(10, u64::MAX);
        let twin = index.claim(stamp(1, 7)).unwrap();
        index.recall_open(stamp(1, 7), Home::Reservation);
        drop(twin);
        assert!(matches!(index.stage(RequestKey(1)), Some(Stage::Open(_))), "law 5");
    }

    #[test]
    fn an_old_answer_does_not_take_its_key_with_it_when_that_is_in_use_again() {
        let index = RequestIndex::new(10, u64::MAX);
        index.settle(stamp(1, 7), Arc::new(Answer::CartDeleted), Timestamp(5));
        index.open(stamp(1, 7), Home::Reservation);
        index.forget_before(Timestamp(5 + ANSWER_MEMORY_MS));
        assert!(matches!(index.stage(RequestKey(1)), Some(Stage::Open(_))), "law 5");
    }

    #[test]
    fn the_oldest_finished_keys_leave_first_and_the_retention_is_told() {
        let index = RequestIndex::new(2, u64::MAX);
        for key in 0..3 {
            index.settle(
                stamp(key, 0),
                Arc::new(Answer::CartDeleted),
                Timestamp(1_000 * u64::try_from(key).unwrap()),
            );
        }
        assert!(index.stage(RequestKey(0)).is_none());
        assert!(index.stage(RequestKey(1)).is_some());
        assert_eq!(index.figures(), (2, 2, 2_000));
    }

    #[test]
    fn heavy_answers_leave_before_they_fill_the_memory() {
        let index = RequestIndex::new(1_000, u64::from(ENTRY_BYTES) * 3);
        for key in 0..100 {
            index.settle(stamp(key, 0), Arc::new(Answer::CartDeleted), Timestamp(0));
        }
        assert_eq!(index.figures().1, 3);
    }
}
