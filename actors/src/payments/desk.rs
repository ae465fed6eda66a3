//! One provider's desk: who may ask it now, who waits, and how it has answered.
//!
//! Laws it serves: 8 (an order that waits here was never asked about, so its units can go back without asking anybody) and 11
//! (requests are paced, calls counted). Orders whose provider could not be asked wait in the order in which their units were held, and
//! are let through one after another when the provider answers again, at the pace it allows. Start at [`Desk::place`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{OrderId, Position};
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::order::OrderCommand;
use doorbuster_engine::payment::PaymentProvider;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::message::{Body, Parcel};
use crate::runtime::Shared;

use super::breaker::{Breaker, Leave};
use super::pace::Pace;

/// How long a shopper's own call may wait for its place in the pace. Beyond it new checkouts wait as orders instead, and
/// webhooks whose proof needs a request come again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How near the pace's end the next waiting order is let through: their calls then come one behind another, and shoppers who
/// are at the door are not behind all of them.
const NEARLY_FREE: Duration = Duration::from_millis(200);

/// How long waiting orders leave it to others to find out whether the provider is back: two of the longest pauses between tries.
const GIVES_WAY: Duration = Duration::from_secs(60);

/// How often to look whether the queue can go on, where nobody says so.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// After this an order that was let through does not come for its place any more.
const UNCLAIMED: Duration = Duration::from_secs(30);

/// How a provider has answered a call, as far as the desk minds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Something definite, a refusal included.
    Answered,
    /// Nothing, or an error that says nothing.
    Nothing,
}

/// See the module's header.
pub(crate) struct Desk {
    provider: Arc<dyn PaymentProvider>,
    state: Mutex<State>,
    /// The pace once more, of what was really sent: places are given ahead, and whoever comes late for theirs, as when the
    /// journal stood still for a moment, must not go in one heap with those who come in time. First come, first served.
    sent: tokio::sync::Mutex<Pace>,
}

struct State {
    breaker: Breaker,
    /// The pace as places are given.
    pace: Pace,
    /// Requests whose place has come, and that are about to be sent.
    at_gate: u32,
    /// Orders that wait for the provider, by when their units were held; with since when, for the figures.
    waiting: BTreeMap<Position, (OrderId, Instant)>,
    /// Orders that were let through and have yet to make their call, with its moment: their place in the pace is taken already.
    let_through: BTreeMap<OrderId, Instant>,
    /// Calls that are repeated until their answer is definite.
    persisting: usize,
    /// Somebody sees to them.
    attended: bool,
}

/// How a provider stands, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a service elsewhere.
    pub remote: bool,
    /// Whether it answers, as far as is known.
    pub up: bool,
    /// Orders that keep their units and wait for it.
    pub waiting: usize,
    /// How long the first of them has waited.
    pub waiting_oldest: Duration,
    /// How long a call that came now would wait for its place in the pace.
    pub pace_wait: Duration,
    /// How long the waiting orders will take at that pace once it answers; nothing where it has none.
    pub drain: Duration,
}

impl State {
    /// How long somebody who came now would wait for a place.
    fn wait(&self, now: Instant) -> Duration {
        self.pace.wait(now).saturating_add(self.pace.span(self.at_gate))
    }

    /// Takes a waiting order's place in the pace, and its leave: its call comes only when its resumption is durable, and until then
    /// the next would be let through for the same moment. Tells how long the others wait at least.
    fn let_through(&mut self, order: OrderId, now: Instant) -> Duration {
        // Who was called off at this very moment never comes for it.
        self.let_through.retain(|_, at| now.saturating_duration_since(*at) < UNCLAIMED);
        let closed = self.breaker.is_closed();
        let _ = self.breaker.leave(now);
        let at = self.pace.take(now);
        self.let_through.insert(order, at);
        // While one call finds out whether the provider is back, the others stay where they are. Without a pace, a moment's
        // pause keeps the queue a queue.
        if closed { Duration::from_millis(1) } else { PATIENCE }
    }
}

/// A call that is repeated until its answer is definite; it counts for as long as this lives.
pub(crate) struct Persisting<'a>(&'a Desk);

impl Drop for Persisting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.persisting = state.persisting.saturating_sub(1);
    }
}

/// A request whose place has come; it counts for as long as this lives.
struct AtGate<'a>(&'a Desk);

impl Drop for AtGate<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.at_gate = state.at_gate.saturating_sub(1);
    }
}

/// A timer ends with the next tick at the earliest, a millisecond on: whose moment has come does not wait for that, nor do
/// those behind it.
async fn wait_until(at: Instant) {
    if at > Instant::now() {
        tokio::time::sleep_until(at).await;
    }
}

impl Desk {
    pub(crate) fn new(provider: Arc<dyn PaymentProvider>) -> Self {
        let pace = provider.calls_per_second_max().filter(|_| !mutant::active(Mutant::IgnorePace));
        let pace = Pace::new(pace);
        let state = State {
            breaker: Breaker::new(),
            pace,
            at_gate: 0,
            waiting: BTreeMap::new(),
            let_through: BTreeMap::new(),
            persisting: 0,
            attended: false,
        };
        Self { provider, state: Mutex::new(state), sent: tokio::sync::Mutex::new(pace) }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.provider.name()
    }

    pub(crate) fn provider(&self) -> &Arc<dyn PaymentProvider> {
        &self.provider
    }

    /// Whether a new order may ask at once: the provider answers, nobody waits before it, and the pace has room soon.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.breaker.is_closed() && state.waiting.is_empty() && state.wait(Instant::now()) < PATIENCE
    }

    /// When somebody who is refused now may fare better, in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> u64 {
        let (state, now) = (self.state.lock(), Instant::now());
        let rest = match state.breaker.would(now) {
            Leave::Ask => Duration::ZERO,
            Leave::Wait(until) => until.saturating_duration_since(now),
        };
        let wait = rest.max(state.wait(now)).max(LOOK_AGAIN);
        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes a place for an order's call that a shopper waits for, unless the order was let through with one. `false`: not now, and
    /// nothing may be sent.
    pub(crate) async fn place_soon(&self, order: OrderId) -> bool {
        let at = {
            let (mut state, now) = (self.state.lock(), Instant::now());
            match state.let_through.remove(&order) {
                Some(at) => at,
                None if state.wait(now) >= PATIENCE || state.breaker.leave(now) != Leave::Ask => {
                    return false;
                }
                None => state.pace.take(now),
            }
        };
        self.go_at(at).await;
        true
    }

    /// Takes a place for a further request of a call that is under way, whatever the breaker says: it was asked when the call
    /// began. `false`: it would take longer than somebody has patience, and nothing may be sent.
    pub(crate) async fn place_further(&self, patience: Option<Duration>) -> bool {
        let at = {
            let (mut state, now) = (self.state.lock(), Instant::now());
            if patience.is_some_and(|patience| state.wait(now) >= patience) {
                return false;
            }
            state.pace.take(now)
        };
        self.go_at(at).await;
        true
    }

    /// Waits for a place's moment, and until the pace of what was really sent has room.
    async fn go_at(&self, at: Instant) {
        wait_until(at).await;
        let _at_gate = {
            let mut state = self.state.lock();
            if state.pace.is_free() {
                return;
            }
            state.at_gate = state.at_gate.saturating_add(1);
            AtGate(self)
        };
        let mut sent = self.sent.lock().await;
        wait_until(sent.next(Instant::now())).await;
        sent.take(Instant::now());
    }

    /// Takes a place for a call that must become definite however long it takes.
    pub(crate) async fn place(&self) {
        loop {
            let leave = {
                let (mut state, now) = (self.state.lock(), Instant::now());
                match state.breaker.leave(now) {
                    Leave::Ask => Ok(state.pace.take(now)),
                    Leave::Wait(until) => Err(until),
                }
            };
            match leave {
                Ok(at) => return self.go_at(at).await,
                Err(until) => tokio::time::sleep_until(until).await,
            }
        }
    }

    /// Says that a call will be repeated until its answer is definite.
    pub(crate) fn persist(&self) -> Persisting<'_> {
        let mut state = self.state.lock();
        state.persisting = state.persisting.saturating_add(1);
        drop(state);
        Persisting(self)
    }

    /// Notes how a call ended.
    pub(crate) fn heard(&self, heard: Heard) {
        if !self.provider.is_remote() {
            return;
        }
        let mut state = self.state.lock();
        match heard {
            Heard::Answered => {
                if state.breaker.succeed() {
                    tracing::info!(
                        provider = self.name(),
                        waiting = state.waiting.len(),
                        "the payment provider answers again"
                    );
                }
            }
            Heard::Nothing => {
                if state.breaker.fail(Instant::now()) {
                    tracing::warn!(
                        provider = self.name(),
                        "the payment provider does not answer; new checkouts go elsewhere, wait or are refused, as configured"
                    );
                }
            }
        }
    }

    /// An order waits from now on. Once more for the same order changes nothing.
    pub(crate) fn wait(self: &Arc<Self>, shared: &Arc<Shared>, order: OrderId, since: Position) {
        let mut state = self.state.lock();
        state.waiting.entry(since).or_insert_with(|| (order, Instant::now()));
        if !std::mem::replace(&mut state.attended, true) {
            drop(state);
            let (desk, shared_for_queue) = (Arc::clone(self), Arc::clone(shared));
            shared.host.spawn(Box::pin(async move { desk.attend(&shared_for_queue).await }));
        }
    }

    /// Lets waiting orders through, one after another, until none is left.
    async fn attend(&self, shared: &Arc<Shared>) {
        let mut gave_way = Duration::ZERO;
        loop {
            let pause = {
                let mut state = self.state.lock();
                let now = Instant::now();
                let wait = state.wait(now);
                match state.breaker.would(now) {
                    Leave::Wait(until) => until.saturating_duration_since(now).max(LOOK_AGAIN),
                    // Orders that were asked about already find out whether it is over; those that were not stay untouched. If
                    // those can't tell for long, it may be their own trouble.
                    Leave::Ask
                        if !state.breaker.is_closed() && state.persisting > 0 && gave_way < GIVES_WAY =>
                    {
                        gave_way = gave_way.saturating_add(LOOK_AGAIN);
                        LOOK_AGAIN
                    }
                    Leave::Ask if wait > NEARLY_FREE => {
                        wait.saturating_sub(NEARLY_FREE).max(Duration::from_millis(1))
                    }
                    Leave::Ask => {
                        let last_first = mutant::active(Mutant::ServeLastFirst);
                        let next =
                            if last_first { state.waiting.pop_last() } else { state.waiting.pop_first() };
                        let Some((_, (order, _))) = next else {
                            state.attended = false;
                            return;
                        };
                        gave_way = Duration::ZERO;
                        let pause = state.let_through(order, now);
                        let ready = Body::Internal(Command::Order(OrderCommand::ProviderReady));
                        shared.post(Parcel::new(EntityKey::Order(order), ready));
                        pause
                    }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// An order waits no longer: its time is up, or it was called off.
    pub(crate) fn forget(&self, since: Position) {
        self.state.lock().waiting.remove(&since);
    }

    /// How it stands.
    pub(crate) fn status(&self) -> ProviderStatus {
        let state = self.state.lock();
        let now = Instant::now();
        let oldest =
            state.waiting.first_key_value().map(|(_, (_, since))| now.saturating_duration_since(*since));
        let per_order =
            self.provider.calls_per_second_max().and_then(|calls| Duration::from_secs(1).checked_div(calls));
        let waiting = state.waiting.len();
        ProviderStatus {
            name: self.name(),
            remote: self.provider.is_remote(),
            up: state.breaker.is_closed(),
            waiting,
            waiting_oldest: oldest.unwrap_or_default(),
            pace_wait: state.wait(now),
            // Each is two requests: authorized and captured, or declined and cancelled.
            drain: per_order
                .unwrap_or_default()
                .saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX))
                .saturating_mul(2),
        }
    }
}
