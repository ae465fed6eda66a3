//! What the journal tells while somebody watches: how often what happens, which SKUs move, and the news.
//!
//! Only what is durable is told here, and telling it asks nobody. On the way it is checked that the records of each partition
//! are numbered without a gap (law 9). Start at [`Story::read`].

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use doorbuster_engine::event::{EntityRef, Event, PARTITIONS};
use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::money::Money;
use doorbuster_engine::order::OrderEvent;
use doorbuster_engine::stock::StockEvent;
use doorbuster_persistence::codec::{self, RawRecord};
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::tail::JournalTail;
use foldhash::fast::RandomState;

use crate::wire::live::{LiveActorName, LiveEvent};
use crate::wire::time;

/// News that are kept.
const NEWS_MAX: usize = 40;

/// News of single orders and SKUs in one second; more are counted and told in one line.
const NEWS_PER_LOOK: usize = 6;

/// Started orders whose price is remembered until they are placed.
const PRICES_MAX: usize = 65_536;

/// SKUs whose movement is remembered.
const MOVING_MAX: usize = 50_000;

/// Part of a SKU's movement that is left a second later.
const MEMORY: f64 = 0.8;

/// Longest text that is taken from somebody else into a line.
const TEXT_MAX: usize = 120;

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) reserved: u64,
    pub(super) sold: u64,
    pub(super) released: u64,
    pub(super) expired: u64,
    pub(super) declined: u64,
}

/// See the module's header.
pub(super) struct Story {
    tail: JournalTail,
    told: Told,
    pub(super) frames_skipped: u64,
}

/// What was read, folded.
pub(super) struct Told {
    pub(super) counts: Counts,
    moving: HashMap<Box<str>, f64, RandomState>,
    prices: HashMap<OrderId, Money, RandomState>,
    sequences: Box<[u64; PARTITIONS]>,
    pub(super) records: u64,
    /// The first thing that was wrong with the journal.
    pub(super) wrong: Option<String>,
    news: VecDeque<LiveEvent>,
    numbers: u64,
    /// News that may still be told in this look, and how many were not.
    room: usize,
    untold: u64,
}

impl Story {
    /// Follows from the journal's end on.
    pub(super) fn new(mut tail: JournalTail) -> Self {
        tail.seek(tail.durable_frame().next());
        Self { tail, told: Told::new(), frames_skipped: 0 }
    }

    pub(super) fn told(&mut self) -> &mut Told {
        &mut self.told
    }

    /// Reads what has become durable, for `patience` at most: what is left then is passed over and counted.
    pub(super) fn read(&mut self, now: Timestamp, patience: Duration) {
        let until = Instant::now() + patience;
        self.told.room = NEWS_PER_LOOK;
        loop {
            match self.tail.next_frame() {
                Ok(Some(frame)) => self.told.frame(frame.body),
                Ok(None) => break,
                Err(error) => {
                    if matches!(error, JournalError::Damaged { .. }) {
                        self.told.wrong.get_or_insert(error.to_string());
                    }
                    tracing::warn!(%error, "the console goes on at the journal's end");
                    self.skip();
                    break;
                }
            }
            if Instant::now() >= until {
                self.skip();
                break;
            }
        }
        let untold = std::mem::take(&mut self.told.untold);
        if untold > 0 {
            self.told.say(now, "info", format!("and {untold} more like these in this second"), None);
        }
        self.told.forget();
    }

    fn skip(&mut self) {
        let durable = self.tail.durable_frame();
        let skipped = durable.next().0.saturating_sub(self.tail.due().0);
        self.frames_skipped = self.frames_skipped.saturating_add(skipped);
        self.tail.seek(durable.next());
        self.told.sequences.fill(0);
    }
}

impl Told {
    fn new() -> Self {
        Self {
            counts: Counts::default(),
            moving: HashMap::default(),
            prices: HashMap::default(),
            sequences: Box::new([0; PARTITIONS]),
            records: 0,
            wrong: None,
            news: VecDeque::new(),
            numbers: 0,
            room: NEWS_PER_LOOK,
            untold: 0,
        }
    }

    /// News, newest first.
    pub(super) fn news(&self) -> Vec<LiveEvent> {
        self.news.iter().cloned().collect()
    }

    /// The SKUs that move most, and how often each changes a second.
    pub(super) fn hottest(&self, limit: usize) -> Vec<(String, f64)> {
        let mut all: Vec<(&str, f64)> =
            self.moving.iter().map(|(sku, moved)| (&**sku, moved * (1.0 - MEMORY))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.into_iter().take(limit).map(|(sku, moved)| (sku.to_owned(), moved)).collect()
    }

    /// Adds to the news.
    pub(super) fn say(
        &mut self,
        at: Timestamp,
        level: &'static str,
        text: String,
        actor: Option<LiveActorName>,
    ) {
        self.numbers += 1;
        if self.news.len() >= NEWS_MAX {
            self.news.pop_back();
        }
        self.news.push_front(LiveEvent { number: self.numbers, at: time::text(at), level, text, actor });
    }

    /// What is more than a look's share is only counted, unless it is bad news.
    fn tell(&mut self, record: &RawRecord<'_>, of: EntityRef<'_>, level: &'static str, text: String) {
        if level == "info" {
            if self.room == 0 {
                self.untold += 1;
                return;
            }
            self.room -= 1;
        }
        let key = of.to_key();
        let name = LiveActorName { kind: key.kind(), key: key_text(of) };
        self.say(record.recorded().at, level, text, Some(name));
    }

    fn frame(&mut self, body: &[u8]) {
        for record in codec::records(body) {
            let Ok(record) = record else {
                self.wrong
                    .get_or_insert("a frame whose checksum holds has bytes that are no record".to_owned());
                return;
            };
            self.check_sequence(&record);
            self.record(&record);
        }
    }

    fn check_sequence(&mut self, record: &RawRecord<'_>) {
        self.records += 1;
        let (partition, sequence) = (record.header.partition, record.header.sequence);
        let Some(last) = self.sequences.get_mut(usize::from(partition)) else { return };
        if *last != 0 && sequence != *last + 1 {
            let expected = *last + 1;
            self.wrong
                .get_or_insert(format!("partition {partition}: record {sequence} where {expected} is due"));
        }
        *last = sequence;
    }

    fn record(&mut self, record: &RawRecord<'_>) {
        let Ok(entry) = record.entry_ref() else {
            self.wrong.get_or_insert("a record holds no event".to_owned());
            return;
        };
        match (&entry.event, entry.entity) {
            (Event::Stock(event), EntityRef::Sku(sku)) => {
                self.moves(sku);
                self.stock(record, entry.entity, sku, event);
            }
            (Event::Order(event), EntityRef::Order(id)) => self.order(record, entry.entity, id, event),
            (Event::Stock(_) | Event::Order(_) | Event::Cart(_) | Event::Reservation(_), _) => {}
        }
    }

    fn moves(&mut self, sku: &str) {
        if let Some(moved) = self.moving.get_mut(sku) {
            *moved += 1.0;
        } else if self.moving.len() < MOVING_MAX {
            self.moving.insert(sku.into(), 1.0);
        }
    }

    /// A second is over.
    fn forget(&mut self) {
        self.moving.retain(|_, moved| {
            *moved *= MEMORY;
            *moved > 0.05
        });
    }

    fn stock(&mut self, record: &RawRecord<'_>, of: EntityRef<'_>, sku: &str, event: &StockEvent) {
        let count = &mut self.counts;
        match event {
            StockEvent::Reserved { .. } | StockEvent::PartHeld { .. } => count.reserved += 1,
            StockEvent::Committed { .. } | StockEvent::PartSold { .. } => count.sold += 1,
            StockEvent::Released { .. } | StockEvent::PartFreed { .. } => count.released += 1,
            StockEvent::Expired { .. } => count.expired += 1,
            StockEvent::Defined { opening, .. } => {
                self.tell(record, of, "info", format!("{sku} is new, with {opening} units"));
            }
            StockEvent::Adjusted { delta, reason, .. } => {
                self.tell(record, of, "info", format!("{sku} {delta:+} units: {}", cut(reason)));
            }
            StockEvent::OnHandSet { on_hand, reason } => {
                self.tell(record, of, "info", format!("{sku} counted, {on_hand} on hand: {}", cut(reason)));
            }
            StockEvent::Redefined { .. } | StockEvent::Extended { .. } | StockEvent::Restocked { .. } => {}
        }
    }

    fn order(&mut self, record: &RawRecord<'_>, of: EntityRef<'_>, id: OrderId, event: &OrderEvent) {
        match event {
            OrderEvent::Started(draft) => {
                if self.prices.len() >= PRICES_MAX {
                    self.prices.clear();
                }
                self.prices.insert(id, draft.totals.total);
            }
            OrderEvent::Placed { .. } => {
                let price = self.prices.remove(&id).map(|price| format!(", {price}")).unwrap_or_default();
                self.tell(record, of, "info", format!("order placed{price}"));
            }
            OrderEvent::PaymentDeclined { reason, .. } => {
                self.prices.remove(&id);
                self.counts.declined += 1;
                self.tell(record, of, "info", format!("payment declined: {}", cut(reason)));
            }
            OrderEvent::PaymentDeferred { .. } => {
                self.tell(record, of, "info", "order waits for its payment provider".to_owned());
            }
            OrderEvent::CancelRequested { .. } => self.tell(record, of, "info", "order cancelled".to_owned()),
            OrderEvent::RefundRequested { amount, .. } => {
                self.tell(record, of, "info", format!("refund of {amount} asked for"));
            }
            OrderEvent::RefundFailed { reason, .. } => {
                self.tell(record, of, "warning", format!("refund failed: {}", cut(reason)));
            }
            OrderEvent::CaptureFailed { reason } => {
                self.tell(
                    record,
                    of,
                    "warning",
                    format!("placed, and the money was not to be had: {}", cut(reason)),
                );
            }
            OrderEvent::StrayFound { .. } => {
                self.tell(record, of, "warning", "money came that nobody wants; it goes back".to_owned());
            }
            OrderEvent::StrayKept { reason, .. } => {
                let text =
                    format!("money that nobody wants cannot be given back; see to it: {}", cut(reason));
                self.tell(record, of, "alarm", text);
            }
            OrderEvent::UnitsReserved
            | OrderEvent::UnitsRefused { .. }
            | OrderEvent::PaymentUnanswered
            | OrderEvent::ActionRequired { .. }
            | OrderEvent::ConfirmRequested
            | OrderEvent::VoidRequested { .. }
            | OrderEvent::PaymentVoided
            | OrderEvent::UnitsSold
            | OrderEvent::UnitsFreed
            | OrderEvent::CartTold
            | OrderEvent::RefundSucceeded { .. }
            | OrderEvent::UnitsRestocked { .. }
            | OrderEvent::Fulfilled { .. }
            | OrderEvent::Completed
            | OrderEvent::PaymentResumed
            | OrderEvent::PaymentAuthorized { .. }
            | OrderEvent::PaymentCaptured
            | OrderEvent::AuthorizationVoided
            | OrderEvent::Noticed { .. }
            | OrderEvent::StrayReturned { .. }
            | OrderEvent::Answered(_) => {}
        }
    }
}

fn key_text(of: EntityRef<'_>) -> String {
    match of {
        EntityRef::Sku(sku) => sku.to_owned(),
        EntityRef::Reservation(id) => id.to_string(),
        EntityRef::Cart(id) => id.to_string(),
        EntityRef::Order(id) => id.to_string(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use doorbuster_engine::event::{EntityKey, Entry};
    use doorbuster_engine::identity::{ReservationId, Sku};
    use doorbuster_engine::stock::StockEvent;
    use doorbuster_persistence::codec::append_record;
    use doorbuster_persistence::record::RecordHeader;

    use super::*;

    fn frame(records: &[(u64, &str, StockEvent)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, sku, event) in records {
            let entity = EntityKey::Sku(Sku::new(sku).unwrap());
            let header = RecordHeader {
                partition: entity.partition(),
                epoch: 1,
                sequence: *sequence,
                position: *sequence,
                at_ms: 1_000,
            };
            let entry = Entry { entity, request: None, event: Event::Stock(event.clone()) };
            append_record(&mut bytes, &header, &entry).unwrap();
        }
        bytes
    }

    fn committed() -> StockEvent {
        StockEvent::Committed { reservation: ReservationId(1) }
    }

    fn adjusted() -> StockEvent {
        StockEvent::Adjusted {
            delta: 5,
            reason: "found behind a shelf".into(),
            reference: None,
            location: None,
        }
    }

    #[test]
    fn events_are_counted_and_the_moving_skus_found() {
        let mut told = Told::new();
        told.frame(&frame(&[
            (1, "TEE", committed()),
            (2, "TEE", StockEvent::Expired { reservation: ReservationId(2) }),
            (3, "TEE", StockEvent::Released { reservation: ReservationId(3) }),
            (1, "MUG", committed()),
        ]));
        assert_eq!(told.counts, Counts { sold: 2, expired: 1, released: 1, ..Counts::default() });
        let hottest: Vec<String> = told.hottest(5).into_iter().map(|(sku, _)| sku).collect();
        assert_eq!(hottest, ["TEE", "MUG"]);
        for _ in 0..60 {
            told.forget();
        }
        assert!(told.hottest(5).is_empty(), "what stands still is forgotten");
        assert_eq!((told.records, told.wrong), (4, None));
    }

    #[test]
    fn a_gap_in_a_partition_is_found_and_kept() {
        let mut told = Told::new();
        told.frame(&frame(&[(7, "TEE", committed()), (8, "TEE", committed())]));
        assert_eq!(told.wrong, None, "it begins wherever the journal stands");
        told.frame(&frame(&[(10, "TEE", committed())]));
        told.frame(&frame(&[(11, "TEE", committed())]));
        assert!(
            told.wrong.as_deref().is_some_and(|wrong| wrong.contains("record 10 where 9 is due")),
            "{:?}",
            told.wrong
        );
    }

    #[test]
    fn news_are_bounded_and_what_is_left_out_is_counted() {
        let mut told = Told::new();
        let rows: Vec<_> = (1..=20).map(|sequence| (sequence, "TEE", adjusted())).collect();
        told.frame(&frame(&rows));
        assert_eq!((told.news().len(), told.untold), (NEWS_PER_LOOK, 14));
        let newest = told.news().remove(0);
        assert_eq!(newest.text, "TEE +5 units: found behind a shelf");
        assert_eq!(newest.actor, Some(LiveActorName { kind: "sku", key: "TEE".to_owned() }));
        for n in 0..100 {
            told.say(Timestamp(n), "alarm", "bad".to_owned(), None);
        }
        assert_eq!(told.news().len(), NEWS_MAX);
    }
}
