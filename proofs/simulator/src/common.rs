//! What all of a world shares: time, the model, the provider's books, the requests, what was seen, and the first law broken.

use std::collections::{BTreeMap, HashMap, VecDeque};

use doorbuster_actors::NoRoom;
use doorbuster_engine::answer::{Answer, Shortage};
use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::{RequestStamp, Sku};
use doorbuster_engine::order::OrderEvent;
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::StockEvent;
use tokio::time::Instant;

use crate::ask::Ask;
use crate::broken::{Broken, Checked, demand};
use crate::journal::{Files, Met, Walker};
use crate::ledger::Ledger;
use crate::model::Model;
use crate::model::purchase::Purchase;
use crate::model::tentative::PARKED_MS;
use crate::random::Random;

/// The wall clock's time when a world begins, milliseconds since the Unix epoch.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// So long after the begin of a life everybody who waits for the provider is in the queue.
const QUEUES_UP_MS: u64 = 1_000;

/// Lines of the trace kept for a failure's report.
const LINES_KEPT: usize = 80;

/// The world's time: virtual, and what the wall clock makes of it.
#[derive(Debug, Default)]
pub struct Clock {
    base_ms: u64,
    began: Option<Instant>,
    /// How far the wall clock is ahead of true time.
    pub offset_ms: i64,
}

impl Clock {
    /// A life begins now, at the tokio runtime's present.
    pub fn begin_life(&mut self) {
        self.base_ms = self.now_ms();
        self.began = Some(Instant::now());
    }

    /// A life ends: time stands still until the next begins.
    pub fn end_life(&mut self) {
        self.base_ms = self.now_ms();
        self.began = None;
    }

    /// True time since the world began, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        let elapsed = self.began.map_or(0, |began| began.elapsed().as_millis());
        self.base_ms + u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// What the wall clock shows.
    pub fn wall_ms(&self) -> u64 {
        (EPOCH_MS + self.now_ms()).saturating_add_signed(self.offset_ms)
    }
}

/// What happened, hashed; the newest lines as text where somebody wants them.
#[derive(Debug, Default)]
pub struct Trace {
    /// Hash of everything that happened.
    pub hash: u64,
    /// Whether lines are made at all.
    pub on: bool,
    /// Whether they are printed as they are made.
    pub print: bool,
    /// The newest lines.
    pub lines: VecDeque<String>,
}

impl Trace {
    /// Mixes a number into the hash.
    pub fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    /// Notes a line, if lines are wanted.
    pub fn line(&mut self, at_ms: u64, line: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        let line = format!("{at_ms:>8} ms  {}", line());
        if self.print {
            eprintln!("{line}");
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES_KEPT {
            self.lines.pop_front();
        }
    }
}

/// One request of a client, through all its copies.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// The client's key, if it sends one.
    pub key: Option<String>,
    /// Copies on their way now.
    pub under_way: u32,
    /// Copies whose outcome nobody knows: they may still take effect, or have.
    pub unknown: u32,
    /// Durable events when the first of the copies under way was sent: a copy that joins hears of what was so then.
    pub asked: u64,
    /// When that was.
    pub asked_at_ms: u64,
    /// Whether some copy was definitely refused.
    pub refused: bool,
    /// The first answer, with the life it was given in.
    pub answered: Option<(Answer, u64)>,
    /// Business time of that answer.
    pub answered_at_ms: u64,
    /// Whether the answer was an event's, so that a retry must get the very same.
    pub settled: bool,
    /// Whether a definite verdict is still owed.
    pub owed: bool,
}

/// A refusal for want of stock, to be judged once everything decided before it is durable.
#[derive(Clone, Debug)]
pub struct ShortageSaid {
    /// What was short.
    pub shortages: Vec<Shortage>,
    /// Whether less would have done.
    pub partial: bool,
    /// Durable events when it was asked.
    pub asked: u64,
    /// When it was said.
    pub at_ms: u64,
    /// When that was, in business time.
    pub business_ms: u64,
    /// When it was asked.
    pub asked_at_ms: u64,
    /// What was asked.
    pub ask: Ask,
}

/// See the module's header.
// The flags are circumstances, each independent of the others: no machine hides among them.
#[expect(clippy::struct_excessive_bools)]
#[derive(Debug)]
pub struct Common {
    /// The world's time.
    pub clock: Clock,
    /// The durable journal, folded.
    pub model: Model,
    /// The provider's books.
    pub ledger: Ledger,
    /// What happened.
    pub trace: Trace,
    /// The first law broken.
    pub broken: Option<Broken>,
    /// All requests ever made.
    pub requests: Vec<Request>,
    /// Requests by hashed key and content.
    pub by_stamp: HashMap<(u128, u64), usize>,
    /// Refusals to be judged.
    pub shortages: Vec<ShortageSaid>,
    /// Commands sent, reads apart.
    pub commands: u64,
    /// Faults injected.
    pub faults: u64,
    /// Whether the present life is over: nothing it still says counts.
    pub dead: bool,
    /// Number of the present life.
    pub life: u64,
    /// Whether nobody asks for anything any more: time goes by in long steps.
    pub calm: bool,
    /// Until when clients hardly ask, true time: a long outage of the provider is waited out.
    pub quiet_until_ms: u64,
    /// Whether orders of this life may wait for a provider that is away.
    pub orders_wait: bool,
    /// When this life began, true time.
    pub life_began_ms: u64,
    /// Reservations whose time was said to be over, with the life in which it was said.
    pub said_over: HashMap<u128, u64>,
    /// Until when promises about promptness rest.
    pub unhealthy_until_ms: u64,
    /// SKUs that are quarantined in this life.
    pub quarantined: BTreeMap<Sku, u64>,
    /// Whether the disk is full, or was so a moment ago.
    pub full_until_ms: u64,
    /// The highest the wall clock showed in this life before it jumped back: business time stays there.
    pub wall_high_ms: u64,
    /// Until when the disk is slow.
    pub slow_until_ms: u64,
    /// Failed syncs of earlier lives.
    pub syncs_failed: u64,
    /// Bytes of a segment in this life.
    pub segment_bytes: u64,
    /// Turns that found no room, newest last, and when.
    pub no_room: VecDeque<(u64, NoRoom)>,
    /// Whether a fault was injected that must end the engine.
    pub expects_end: bool,
    /// Follows the journal.
    pub walker: Walker,
    /// Chance of the mischief.
    pub random: Random,
}

impl Common {
    /// Whether the segments are so small that waiting for the next one may be felt like a full disk.
    pub fn is_tight(&self) -> bool {
        self.segment_bytes < 128 << 10
    }

    /// Whether clients hardly ask.
    pub fn is_quiet(&self) -> bool {
        self.clock.now_ms() < self.quiet_until_ms
    }

    /// A law is broken: the first one counts.
    pub fn fail(&mut self, broken: Broken) {
        let now_ms = self.clock.now_ms();
        self.trace.line(now_ms, || format!("BROKEN {broken}"));
        self.broken.get_or_insert(broken);
    }

    /// Notes what a check came to.
    pub fn note(&mut self, checked: Checked) {
        if let Err(broken) = checked {
            self.fail(broken);
        }
    }

    /// Folds what became durable since the last look. Called before anybody hears of it.
    pub fn absorb(&mut self, files: &dyn Files) {
        match self.walker.advance(files) {
            Ok(met) => self.fold(met),
            Err(broken) => self.fail(broken),
        }
    }

    /// Folds the whole journal again as a recovery left it.
    pub fn absorb_again(&mut self, files: &dyn Files) {
        match self.walker.again(files) {
            Ok(met) => self.fold(met),
            Err(broken) => self.fail(broken),
        }
    }

    fn fold(&mut self, met: Vec<Met>) {
        self.ledger.now_ms = self.clock.now_ms();
        self.trace.mix(u64::from(self.walker.last_checksum()));
        for Met { partition, standing, entry } in met {
            let now_ms = self.clock.now_ms();
            self.trace.line(now_ms, || {
                format!("durable #{} {}: {:?}", standing.sequence, entry.entity, entry.event)
            });
            if let Some(request) = entry.request {
                let checked = self.check_cause(request, &entry.event);
                self.note(checked);
            }
            let checked = self.check_not_said_over(&entry);
            self.note(checked);
            self.note_overtaken(&entry);
            if let Err(broken) = self.model.fold(&entry, partition, standing, &self.ledger) {
                self.fail(broken);
            }
        }
    }

    /// Law 4: an event with a key is there because somebody's copy asked for it and was not definitely refused.
    fn check_cause(&self, request: RequestStamp, event: &Event) -> Checked {
        let known = self.by_stamp.get(&(request.key.0, request.fingerprint.0));
        let cause = known.map(|at| &self.requests[*at]).ok_or_else(|| Broken {
            law: 5,
            seen: format!("{event:?} carries {} with a content that nobody sent under it", request.key),
        })?;
        demand(cause.under_way + cause.unknown > 0, 4, || {
            format!("{event:?} is durable after its request was refused: {:?}", cause.ask)
        })?;
        demand(cause.ask.may_cause(event), 5, || format!("{:?} was asked, {event:?} happened", cause.ask))
    }

    /// An order that waited for its provider is let through: whoever has waited longer was to come first. Those that hear of
    /// it on another way may come a moment later; one that goes on to wait was overtaken ([`Self::check_overdue`]). At the
    /// begin of a life all queue up anew, in the order in which they come.
    fn note_overtaken(&mut self, entry: &Entry) {
        let (EntityKey::Order(id), Event::Order(OrderEvent::PaymentResumed)) = (&entry.entity, &entry.event)
        else {
            return;
        };
        let now_ms = self.clock.now_ms();
        let Some(place) = self.model.orders.get(&id.0).and_then(Purchase::waits_at) else { return };
        if now_ms < self.life_began_ms + QUEUES_UP_MS {
            return;
        }
        for order in self.model.orders.values_mut() {
            if order.waits_at().is_some_and(|other| other < place) {
                order.overtaken_at_ms.get_or_insert(now_ms);
            }
        }
    }

    /// Law 2: what was said to be over is not sold, given back or lengthened afterwards. A clock that was set back between two
    /// lives may show the second one an earlier time.
    fn check_not_said_over(&mut self, entry: &Entry) -> Checked {
        let (id, begins) = match (&entry.entity, &entry.event) {
            (_, Event::Stock(StockEvent::Reserved { reservation, .. })) => (reservation.0, true),
            (EntityKey::Reservation(id), Event::Reservation(ReservationEvent::Requested { .. })) => {
                (id.0, true)
            }
            (
                _,
                Event::Stock(
                    StockEvent::Committed { reservation }
                    | StockEvent::Released { reservation }
                    | StockEvent::Extended { reservation, .. },
                ),
            ) => (reservation.0, false),
            (
                EntityKey::Reservation(id),
                Event::Reservation(
                    ReservationEvent::Committed
                    | ReservationEvent::Released
                    | ReservationEvent::Extended { .. },
                ),
            ) => (id.0, false),
            _ => return Ok(()),
        };
        if begins {
            self.said_over.remove(&id);
        }
        demand(self.said_over.get(&id) != Some(&self.life), 2, || {
            format!("{id:032x} was said to be over, and then {:?}", entry.event)
        })
    }

    /// Everything is mended, the wall clock too: it shows no less than business time.
    pub fn heal_clock(&mut self) {
        let behind_ms = self.model.last_at_ms.saturating_sub(self.clock.wall_ms());
        self.clock.offset_ms += i64::try_from(behind_ms).unwrap_or(0);
    }

    /// The life is over: whatever was under way is unknown.
    pub fn end_life(&mut self) {
        for request in &mut self.requests {
            request.unknown += request.under_way;
            request.owed |= request.under_way > 0;
            request.under_way = 0;
        }
        self.shortages.clear();
        for order in self.model.orders.values_mut() {
            order.overtaken_at_ms = None;
        }
    }

    /// Judges refusals said before `at_ms`: everything decided by then is durable now.
    pub fn judge_shortages(&mut self, at_ms: u64) {
        let due: Vec<ShortageSaid> = {
            let (due, later) =
                std::mem::take(&mut self.shortages).into_iter().partition(|said| said.at_ms < at_ms);
            self.shortages = later;
            due
        };
        for said in due {
            let really = said.shortages.iter().any(|shortage| {
                // A quarantined SKU gives nothing until the next start, whatever it has.
                if self.quarantined.get(&shortage.sku).is_some_and(|panics| *panics > 3) {
                    return true;
                }
                let enough = if said.partial { 1 } else { shortage.requested };
                self.model
                    .shelves
                    .get(&shortage.sku)
                    .is_some_and(|shelf| shelf.past.was(said.asked, |view| view.sellable < enough))
            });
            let checked = demand(really, 4, || {
                format!("{:?} was refused for want of stock that was there: {:?}", said.ask, said.shortages)
            });
            self.note(checked);
            let checked = self.check_waited(&said);
            self.note(checked);
        }
    }

    /// ADR 0003: nobody is refused within the second in which sagas may give back what would do. A SKU whose actor was
    /// rebuilt has forgotten who holds what for the moment.
    fn check_waited(&self, said: &ShortageSaid) -> Checked {
        let waited_ms = said.at_ms - said.asked_at_ms;
        let takes = matches!(said.ask, Ask::Reserve(..) | Ask::Checkout(..));
        let hasty = takes
            && waited_ms < PARKED_MS
            && said.shortages.iter().all(|shortage| {
                let enough = if said.partial { 1 } else { shortage.requested };
                !self.quarantined.contains_key(&shortage.sku)
                    && self.model.tentative.would_do(&shortage.sku, enough, said.asked, said.business_ms)
            });
        demand(!hasty, 6, || {
            format!(
                "{:?} was refused after {waited_ms} ms though sagas might have given back what was short: {:?}",
                said.ask, said.shortages
            )
        })
    }

    /// Business time, as far as the world can know it.
    pub fn business_ms(&self) -> u64 {
        self.clock.wall_ms().max(self.model.last_at_ms).max(self.wall_high_ms)
    }

    /// Promises about promptness rest until so many milliseconds from now.
    pub fn unhealthy_for(&mut self, ms: u64) {
        self.unhealthy_until_ms = self.unhealthy_until_ms.max(self.clock.now_ms() + ms);
    }

    /// Law 6: what is due has ended, where nothing kept the engine from it.
    pub fn check_overdue(&self, quarantined: impl Fn(&Sku) -> bool) -> Checked {
        /// A sweep, a slot of the wheel, a flush, and some air.
        const SLACK_MS: u64 = 2_000;
        /// A flush of each of two orders that were let through one behind the other.
        const OVERTAKING_SLACK_MS: u64 = 500;
        if self.clock.now_ms() < self.unhealthy_until_ms + SLACK_MS {
            return Ok(());
        }
        let business_ms = self.clock.wall_ms().max(self.model.last_at_ms);
        let overdue = |due_ms: u64| business_ms >= due_ms.saturating_add(SLACK_MS);
        for (id, single) in &self.model.singles {
            if single.is_held() && overdue(single.expires_at_ms) && !quarantined(&single.sku) {
                return Err(Broken {
                    law: 6,
                    seen: format!("reservation {id:032x} was due at {} and is held", single.expires_at_ms),
                });
            }
        }
        for ((id, sku), since_ms) in &self.model.strays {
            if overdue(since_ms + 3_000) && !quarantined(sku) {
                return Err(Broken {
                    law: 6,
                    seen: format!("{sku} holds for {id:032x}, which asks for nothing"),
                });
            }
        }
        for (id, saga) in &self.model.sagas {
            if saga.is_held() && overdue(saga.expires_at_ms) {
                return Err(Broken {
                    law: 6,
                    seen: format!("reservation {id:032x} was due at {} and is held", saga.expires_at_ms),
                });
            }
        }
        for (id, order) in &self.model.orders {
            let overtaken = order.overtaken_at_ms.filter(|_| order.waits_at().is_some());
            if overtaken.is_some_and(|at_ms| self.clock.now_ms() > at_ms + OVERTAKING_SLACK_MS) {
                return Err(Broken {
                    law: 8,
                    seen: format!(
                        "order {id:032x} waits for its provider, and one behind it was let through"
                    ),
                });
            }
            if order.pin_ends_ms().is_some_and(overdue) {
                return Err(Broken {
                    law: 8,
                    seen: format!("order {id:032x} is {:?} beyond its pin's cap", order.stage),
                });
            }
        }
        Ok(())
    }
}
