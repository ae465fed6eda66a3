//! Rate limits: how often one address, caller or customer may ask, of which routes.
//!
//! Off until configured. Each limit is a GCRA, the leaky bucket that needs one number for each of whom it counts
//! (ITU-T I.371, annex A). Where a shared count is connected (Redis), all instances count together; while it does not
//! answer, each counts by itself, so that a sale never waits for it. Law 4: who is refused here was not looked at further,
//! nothing is begun and no key is claimed. Law 11: what is remembered of strangers is bounded.
//!
//! Start at [`RateLimits::check`]; what can be said in the file is in [`policy`], who an address belongs to in [`address`].

pub mod address;
pub mod policy;

mod local;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use doorbuster_outlets::limits::{Ask, Count, Counts};
use metrics::{Counter, counter};
use smallvec::SmallVec;

use address::Proxies;
use local::LocalCounts;
use policy::{Limit, Policy, Subject};

use crate::problem::Problem;

/// Requests refused, by limit.
pub const RATE_LIMITED_TOTAL: &str = "doorbuster_rate_limited_total";
/// Decisions made by this instance alone, because the shared count did not answer.
pub const RATE_LIMIT_ALONE_TOTAL: &str = "doorbuster_rate_limit_alone_total";

/// Header that tells how somebody stands (draft-ietf-httpapi-ratelimit-headers-10).
pub(crate) static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Header that tells the limits themselves.
pub(crate) static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Limits of one request are few.
const USUAL: usize = 4;

/// An answer that is on its way.
pub type Counting<'a> = Pin<Box<dyn Future<Output = Option<Vec<Count>>> + 'a>>;

/// A count that instances share.
pub trait SharedCounts: Send + Sync {
    /// Counts all of `asks` or, when one is refused, none; one answer each, in order. `None` when there is no answer in
    /// time, and then this instance counts alone.
    fn take<'a>(&'a self, asks: &'a [Ask<'a>]) -> Counting<'a>;
}

impl SharedCounts for Counts {
    fn take<'a>(&'a self, asks: &'a [Ask<'a>]) -> Counting<'a> {
        // Why there is none is the link's to tell: once an outage, not once a request.
        Box::pin(async move { Self::take(self, asks).await.ok() })
    }
}

/// What the limits said to one request.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    policy: String,
    state: String,
}

impl Decision {
    /// Tells the client how it stands.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in [(&RATE_LIMIT_POLICY, &self.policy), (&RATE_LIMIT, &self.state)] {
            if !value.is_empty()
                && let Ok(value) = HeaderValue::from_str(value)
            {
                headers.insert(name.clone(), value);
            }
        }
    }
}

/// The limits of one door.
pub struct RateLimits {
    policy: Policy,
    proxies: Proxies,
    local: LocalCounts,
    shared: Option<Arc<dyn SharedCounts>>,
    refused: Vec<Counter>,
    alone: Counter,
}

impl RateLimits {
    /// The limits of `policy`, counted by this instance, or with others where there is a shared count.
    ///
    /// `instances` share the traffic: counting alone, each allows its part.
    pub fn new(
        policy: Policy,
        proxies: Proxies,
        shared: Option<Arc<dyn SharedCounts>>,
        instances: u32,
    ) -> Self {
        let refused = policy.limits.iter();
        let refused =
            refused.map(|limit| counter!(RATE_LIMITED_TOTAL, "limit" => limit.name.clone())).collect();
        Self {
            local: LocalCounts::new(&policy, instances),
            policy,
            proxies,
            shared,
            refused,
            alone: counter!(RATE_LIMIT_ALONE_TOTAL),
        }
    }

    /// Counts a request of the route at this place of the table by its head: its address, and `caller`, the token or key it came with.
    pub(crate) async fn check(
        &self,
        request: &HttpRequest,
        route: usize,
        caller: &str,
    ) -> (Decision, Option<Problem>) {
        let peer = request.peer_addr().map(|peer| peer.ip());
        let address = peer.map(|peer| self.proxies.client(peer, request.headers()));
        self.count(route, 1, |subject| match subject {
            Subject::Address => address.map(|address| who(b"address", &address::counted_as(address))),
            Subject::Caller => (!caller.is_empty()).then(|| who(b"caller", caller.as_bytes())),
            Subject::Everybody => Some(0),
            Subject::Customer => None,
        })
        .await
    }

    /// Counts a reservation of `customer`, whom only the body names.
    pub(crate) async fn check_customer(&self, route: usize, customer: &str) -> Result<(), Problem> {
        let of = |subject| (subject == Subject::Customer).then(|| who(b"customer", customer.as_bytes()));
        self.count(route, 1, of).await.1.map_or(Ok(()), Err)
    }

    /// Whether some limit of this route counts customers.
    pub(crate) fn counts_customers(&self, route: usize) -> bool {
        self.policy.limits.iter().any(|limit| limit.subject == Subject::Customer && limit.covers(route))
    }

    async fn count(
        &self,
        route: usize,
        cost: u32,
        of: impl Fn(Subject) -> Option<u128>,
    ) -> (Decision, Option<Problem>) {
        let mut limits: SmallVec<[(usize, &Limit); USUAL]> = SmallVec::new();
        let mut asks: SmallVec<[Ask<'_>; USUAL]> = SmallVec::new();
        for (index, limit) in self.policy.limits.iter().enumerate().filter(|(_, limit)| limit.covers(route)) {
            if let Some(who) = of(limit.subject) {
                limits.push((index, limit));
                asks.push(limit.ask(who, cost));
            }
        }
        if asks.is_empty() {
            return (Decision::default(), None);
        }
        // Counted here as well, so that this instance knows where all stand when it is left alone.
        let indices: SmallVec<[usize; USUAL]> = limits.iter().map(|(index, _)| *index).collect();
        let mut counts = self.local.take(&indices, &asks);
        if let Some(shared) = &self.shared {
            match shared.take(&asks).await {
                Some(answer) if answer.len() == asks.len() => counts = answer,
                Some(_) | None => self.alone.increment(1),
            }
        }
        let mut decision = Decision::default();
        let mut problem: Option<(u64, &str)> = None;
        for ((index, limit), count) in limits.iter().zip(&counts) {
            limit.tell(count, &mut decision.policy, &mut decision.state);
            if !count.allowed {
                self.refused[*index].increment(1);
                if problem.is_none_or(|(longest, _)| count.retry_after_us > longest) {
                    problem = Some((count.retry_after_us, &limit.name));
                }
            }
        }
        let refusal =
            |(retry_after_us, name): (u64, &str)| Problem::rate_limited(name, retry_after_us.div_ceil(1_000));
        (decision, problem.map(refusal))
    }
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits")
            .field("policy", &self.policy)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

/// A name for somebody that says nothing about them.
fn who(kind: &[u8], text: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind).update(b"\0").update(text);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests;
