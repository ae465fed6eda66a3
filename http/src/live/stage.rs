//! A cart or an order that somebody watches: its state, folded on with the journal as everybody folds it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use doorbuster_engine::cart::{Cart, CartStatus};
use doorbuster_engine::event::Event;
use doorbuster_engine::identity::{Position, Recorded};
use doorbuster_engine::order::Order;
use serde::Serialize;

use super::{Seed, Told};
use crate::reply::json;
use crate::wire::from_engine;
use crate::wire::responses::{Order as OrderBody, TimelineEntry};

/// Events kept for a state that is still on its way from its actor.
const WAITING_MAX: usize = 1_024;

/// What is watched and by whom.
pub(super) struct Stage {
    state: State,
    /// Where the journal stood when the actor gave the state: an event before it is in the state already, whenever it is read.
    as_of: Position,
    pub(super) clients: Vec<u64>,
}

enum State {
    /// The actor was asked; what happens meanwhile is kept.
    Waiting(Vec<(Event, Recorded)>),
    Cart(Box<Cart>),
    Order(Box<Order>),
}

/// What an event means for those who watch.
pub(super) enum Turn {
    /// Nothing yet.
    Quiet,
    /// They are told this.
    Tell(Arc<Told>),
    /// They are told this, and nothing more will come.
    Last(Option<Arc<Told>>, &'static str),
}

/// An order as its watchers see it.
#[derive(Serialize)]
struct OrderNow {
    order: OrderBody,
    /// The steps that this watcher has not seen, oldest first.
    changes: Vec<TimelineEntry>,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { state: State::Waiting(Vec::new()), as_of: Position(0), clients: Vec::new() }
    }

    /// Whether its state is here.
    pub(super) fn is_seeded(&self) -> bool {
        !matches!(self.state, State::Waiting(_))
    }

    /// Takes the state its actor gave, and what happened since. Says whether that fitted together; `true` also where it was
    /// here already.
    pub(super) fn seed(&mut self, seed: Seed) -> bool {
        let State::Waiting(kept) = &mut self.state else { return true };
        let kept = std::mem::take(kept);
        (self.state, self.as_of) = match seed {
            Seed::Cart(watched) => (State::Cart(watched.state), watched.as_of),
            Seed::Order(watched) => (State::Order(watched.state), watched.as_of),
        };
        kept.iter().all(|(event, recorded)| self.holds(*recorded) || self.evolve(event, *recorded))
    }

    /// Whether the state that the actor gave has this event in it.
    fn holds(&self, recorded: Recorded) -> bool {
        recorded.position < self.as_of
    }

    /// Folds an event, and says what that means.
    pub(super) fn fold(&mut self, event: &Event, recorded: Recorded) -> Turn {
        if let State::Waiting(kept) = &mut self.state {
            if kept.len() >= WAITING_MAX {
                return Turn::Last(None, "lost");
            }
            kept.push((event.clone(), recorded));
            return Turn::Quiet;
        }
        if self.holds(recorded) {
            return Turn::Quiet;
        }
        if !self.evolve(event, recorded) {
            return Turn::Last(None, "lost");
        }
        let told = self.told(self.version().saturating_sub(1));
        match self.over() {
            Some(reason) => Turn::Last(told, reason),
            None => told.map_or(Turn::Quiet, Turn::Tell),
        }
    }

    /// A panic would end all streams; it means that this state is not what the journal goes on with.
    fn evolve(&mut self, event: &Event, recorded: Recorded) -> bool {
        let folded = catch_unwind(AssertUnwindSafe(|| match (&mut self.state, event) {
            (State::Cart(cart), Event::Cart(event)) => cart.evolve(event, recorded, None),
            (State::Order(order), Event::Order(event)) => order.evolve(event, recorded, None),
            (State::Waiting(_) | State::Cart(_) | State::Order(_), _) => {
                doorbuster_engine::answer::Folded::default()
            }
        }));
        folded.is_ok()
    }

    /// Number of changes so far: what a watcher has seen when it has seen this state.
    pub(super) fn version(&self) -> u64 {
        match &self.state {
            State::Waiting(_) => 0,
            State::Cart(cart) => cart.version(),
            State::Order(order) => order.version(),
        }
    }

    /// The present for whoever has seen version `since`.
    pub(super) fn told(&self, since: u64) -> Option<Arc<Told>> {
        let id = Some(self.version().to_string());
        match &self.state {
            State::Waiting(_) => None,
            // What is over has nothing to show but its end.
            State::Cart(_) if self.over().is_some() => None,
            State::Cart(cart) => Some(Told::new("cart", id, json(&from_engine::cart(&cart.view(), None)))),
            State::Order(order) => {
                let seen = usize::try_from(since).unwrap_or(usize::MAX);
                let changes = order.timeline().iter().skip(seen).map(from_engine::timeline_entry).collect();
                let now = OrderNow { order: from_engine::order(&order.view()), changes };
                Some(Told::new("order", id, json(&now)))
            }
        }
    }

    /// Why nothing more will come, if so.
    pub(super) fn over(&self) -> Option<&'static str> {
        match &self.state {
            State::Cart(cart) => match cart.status() {
                CartStatus::Deleted => Some("cart_deleted"),
                CartStatus::Expired => Some("cart_expired"),
                CartStatus::Absent
                | CartStatus::Open
                | CartStatus::CheckingOut { .. }
                | CartStatus::Ordered(_) => None,
            },
            State::Waiting(_) | State::Order(_) => None,
        }
    }
}
