//! Bad days on request.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// Whether the front door answers at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// It does.
    #[default]
    None,
    /// Nobody listens: connections are refused, open ones end.
    Refused,
    /// Requests are read and never answered while it lasts, nor carried out afterwards.
    Hanging,
}

/// What goes wrong. Rates are shares of requests or webhooks, 0 to 1; everything is off by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Answers that come `delay_ms` late.
    pub delay_rate: f64,
    /// How late, by the stand-in's clock.
    pub delay_ms: u64,
    /// Whether a delay comes before the work, so that a caller who gave up is charged all the same; else after it.
    pub delay_before_work: bool,
    /// Approvals that the bank refuses with `generic_decline`.
    pub decline_rate: f64,
    /// 503 before anything was begun; a key is free for a retry.
    pub unavailable_rate: f64,
    /// 500 without any effect, kept under the request's key.
    pub failed_before_rate: f64,
    /// 500 after doing the work, kept under the request's key: only looking tells what became of it.
    pub failed_after_rate: f64,
    /// The work is done and the connection ends without an answer; a retry with the key is told.
    pub lost_reply_rate: f64,
    /// The faults above hit only requests whose path contains this.
    pub path: Option<String>,
    /// The faults above hit at most so many requests together.
    pub times_max: Option<u32>,
    /// 429 beyond so many requests in any second of the stand-in's clock: Stripe allows 100 live, 25 in test mode.
    pub rate_limit_per_s: Option<u32>,
    /// How long a new intent is not yet found by a search; up to a minute with Stripe.
    pub search_lag_ms: u64,
    /// Webhooks delivered twice.
    pub webhook_duplicate_rate: f64,
    /// Webhooks that come late, and therefore out of order.
    pub webhook_late_rate: f64,
    /// How late at most, by the stand-in's clock.
    pub webhook_late_ms: u64,
    /// Whether anybody is at the door.
    pub outage: Outage,
}

impl Faults {
    /// Whether all rates are shares.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rates = [
            ("delay_rate", self.delay_rate),
            ("decline_rate", self.decline_rate),
            ("unavailable_rate", self.unavailable_rate),
            ("failed_before_rate", self.failed_before_rate),
            ("failed_after_rate", self.failed_after_rate),
            ("lost_reply_rate", self.lost_reply_rate),
            ("webhook_duplicate_rate", self.webhook_duplicate_rate),
            ("webhook_late_rate", self.webhook_late_rate),
        ];
        match rates.iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            None => Ok(()),
            Some((name, rate)) => Err(format!("{name} is {rate}; a rate is between 0 and 1")),
        }
    }
}

/// What is to go wrong with one request.
#[allow(clippy::struct_excessive_bools)] // Each fault strikes or not, whatever the others do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strike {
    pub(crate) delay_ms: u64,
    pub(crate) delay_before_work: bool,
    pub(crate) decline: bool,
    pub(crate) unavailable: bool,
    pub(crate) failed_before: bool,
    pub(crate) failed_after: bool,
    pub(crate) lost_reply: bool,
}

/// The faults, their chance, and what they count.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) faults: Faults,
    chance: Chance,
    struck: u32,
    /// When the requests of the last second came.
    recent_ms: VecDeque<u64>,
}

impl Weather {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            chance: Chance::new(seed, 2),
            struck: 0,
            recent_ms: VecDeque::new(),
        }
    }

    /// Changes the faults; what they have counted begins anew.
    pub(crate) fn set(&mut self, faults: Faults) {
        self.faults = faults;
        self.struck = 0;
        self.recent_ms.clear();
    }

    /// Draws what goes wrong with this request. Every request draws the same number of times, so that a fault turned
    /// on does not change what another one hits.
    pub(crate) fn strike(&mut self, path: &str) -> Strike {
        let faults = &self.faults;
        let mut hit = |rate| self.chance.hits(rate);
        let drawn = Strike {
            delay_ms: if hit(faults.delay_rate) { faults.delay_ms } else { 0 },
            delay_before_work: faults.delay_before_work,
            decline: hit(faults.decline_rate),
            unavailable: hit(faults.unavailable_rate),
            failed_before: hit(faults.failed_before_rate),
            failed_after: hit(faults.failed_after_rate),
            lost_reply: hit(faults.lost_reply_rate),
        };
        let meant = faults.path.as_ref().is_none_or(|part| path.contains(part.as_str()));
        let left = faults.times_max.is_none_or(|most| self.struck < most);
        let strikes = drawn.delay_ms > 0
            || drawn.decline
            || drawn.unavailable
            || drawn.failed_before
            || drawn.failed_after
            || drawn.lost_reply;
        if !(meant && left && strikes) {
            return Strike::default();
        }
        self.struck = self.struck.saturating_add(1);
        drawn
    }

    /// Counts a request against the limit; whether it is one too many.
    pub(crate) fn is_too_many(&mut self, now_ms: u64) -> bool {
        let Some(limit) = self.faults.rate_limit_per_s else { return false };
        while self.recent_ms.front().is_some_and(|at_ms| at_ms.saturating_add(1_000) <= now_ms) {
            self.recent_ms.pop_front();
        }
        if self.recent_ms.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return true;
        }
        self.recent_ms.push_back(now_ms);
        false
    }

    /// When the webhooks of one event are delivered: once or twice, now or late.
    pub(crate) fn deliveries(&mut self, now_ms: u64) -> Vec<u64> {
        let copies = if self.chance.hits(self.faults.webhook_duplicate_rate) { 2 } else { 1 };
        let mut due = vec![];
        for _ in 0..copies {
            let late = self.chance.hits(self.faults.webhook_late_rate);
            let by_ms = self.chance.up_to(self.faults.webhook_late_ms);
            due.push(if late { now_ms.saturating_add(by_ms) } else { now_ms });
        }
        due
    }
}
