//! What the front door, the control door, the deliverer and the handle share: one state behind one lock, and the clock.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::account::{Account, Ledger};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::faults::{Faults, Outage, Weather};
use crate::keys::Keys;
use crate::webhooks::{Endpoint, Webhooks};
use crate::{Options, Time};

/// Counts of what was asked and answered since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Repeats every id and every choice for the same requests in the same order.
    pub seed: u64,
    /// The stand-in's clock, milliseconds since the epoch.
    pub now_ms: u64,
    /// Connections to the front door that were accepted.
    pub connections: u64,
    /// Requests under `/v1` that were read.
    pub requests: u64,
    /// Of them, being answered now: also those that a delay or an outage keeps waiting.
    pub under_way: u64,
    /// Answered from an idempotency key.
    pub replayed: u64,
    /// Answered not at all, after the work was done.
    pub replies_lost: u64,
    /// Webhooks due and not yet received.
    pub webhooks_outstanding: usize,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
}

/// Everything that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) account: Account,
    pub(crate) keys: Keys,
    pub(crate) weather: Weather,
    pub(crate) webhooks: Webhooks,
    pub(crate) figures: Figures,
    /// Ids of requests: a stream of their own, so that reading changes no other id.
    requests: Chance,
}

impl State {
    pub(crate) fn request_id(&mut self) -> String {
        let id = self.requests.id("req");
        id[..18].to_owned()
    }

    /// Hands the events of the last change to the deliverer; whether there were any.
    pub(crate) fn announce(&mut self) -> bool {
        let mut any = false;
        for id in self.account.take_fresh() {
            let kind = self.account.event_kind(&id);
            if self.webhooks.wants(kind) {
                let now_ms = self.account.now_ms;
                self.account.set_pending(&id, true);
                for due_ms in self.weather.deliveries(now_ms) {
                    self.webhooks.queue(&id, due_ms, now_ms);
                }
                any = true;
            }
        }
        any
    }
}

/// The state, the clock, and who is to be woken.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    /// There are new deliveries.
    pub(crate) news: Notify,
    pub(crate) outage: watch::Sender<Outage>,
    pub(crate) key: String,
}

impl Shared {
    pub(crate) fn new(options: &Options, seed: u64) -> Self {
        let clock = match options.time {
            Time::Standing => Clock::standing(),
            Time::Running => Clock::running(),
        };
        let livemode = options.key.starts_with("sk_live_") || options.key.starts_with("rk_live_");
        let state = State {
            account: Account::new(seed, livemode, clock.now_ms()),
            keys: Keys::default(),
            weather: Weather::new(seed),
            webhooks: Webhooks::default(),
            figures: Figures { seed, ..Figures::default() },
            requests: Chance::new(seed, 3),
        };
        Self {
            state: Mutex::new(state),
            clock,
            news: Notify::new(),
            outage: watch::channel(Outage::None).0,
            key: options.key.clone(),
        }
    }

    /// The state as it is now: what time brings has happened, and is announced.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let now_ms = self.clock.now_ms();
        state.account.pass_time(now_ms);
        if state.announce() {
            self.news.notify_one();
        }
        state
    }

    /// Changes the account from outside the API, and announces what came of it.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Account) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut state = self.state();
        state.account.request = None;
        let changed = change(&mut state.account);
        if state.announce() {
            self.news.notify_one();
        }
        changed
    }

    pub(crate) fn advance(&self, by_ms: u64) -> u64 {
        self.clock.advance(by_ms);
        self.state().account.now_ms
    }

    pub(crate) fn set_faults(&self, faults: Faults) -> Result<(), String> {
        faults.check()?;
        let outage = faults.outage;
        let mut state = self.state();
        state.account.search_lag_ms = faults.search_lag_ms;
        state.weather.set(faults);
        drop(state);
        self.outage.send_replace(outage);
        Ok(())
    }

    pub(crate) fn set_endpoint(&self, endpoint: Option<Endpoint>) {
        self.state().webhooks.endpoint = endpoint;
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.state().account.ledger()
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.state();
        let now_ms = state.account.now_ms;
        Figures { now_ms, webhooks_outstanding: state.webhooks.outstanding(now_ms), ..state.figures.clone() }
    }

    /// The intent after 3-D Secure, or after a pending payment ended.
    pub(crate) fn decide(&self, id: &str, success: bool, authentication: bool) -> Result<Value, Failure> {
        self.change(|account| {
            if authentication {
                account.authenticate(id, success)?;
            } else {
                account.settle(id, success)?;
            }
            account.show_intent(id, &crate::form::Form::default())
        })
    }
}
