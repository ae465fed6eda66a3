//! The built-in provider `fake`: pays, declines, asks for action, dawdles or fails by the method's name.
//!
//! | method | charge | look up | void |
//! |---|---|---|---|
//! | `ok` | captured | captured | too late |
//! | `authorize` | authorized; `capture` makes it ours | as it stands | voided, unless captured |
//! | `declined` | declined, final | declined | voided |
//! | `requires_action` | asks for action; `confirm` captures | as it stands | voided, unless confirmed |
//! | `slow` | captured after 2 s | unknown until then | voided until then |
//! | `timeout` | captured, but the answer never arrives | captured | too late |
//! | `error` | declined, worth another attempt | declined | voided |
//! | any other | declined, final | declined | voided |
//!
//! Laws: (1) the same key always means the same charge and the same reference; (2) after `Voided` the charge never
//! succeeds, after `Captured` it is never voided.
//!
//! **What it remembers.** Answers follow from key and method alone, so most charges leave no trace. What does not
//! follow from them (a confirmation, a capture, a void, a charge under way) is kept in memory, bounded by [`CHARGES_KEPT_MAX`].
//! After a restart that memory is gone, and the safe answers are these: a charge by `ok`, `slow` or `timeout` counts
//! as captured, since whoever asks about it had asked for it; one by `authorize` as not captured yet, since
//! capturing again is safe; a charge by `requires_action` counts as not confirmed, since whoever was told otherwise wrote it down and would not ask. No real money moves, so an answer that the
//! engine did not journal was never given. A real provider keeps its own books and needs none of this.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, NextAction, PaymentProvider, RefundOutcome,
    VoidOutcome,
};
use tokio::time::Instant;

/// Most charges remembered. Beyond it the oldest is forgotten, as at a restart: about 10 MiB, and far more charges
/// than are ever under way or waiting for a shopper at once.
pub const CHARGES_KEPT_MAX: usize = 65_536;

/// How long the unhurried methods take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Until `slow` has captured and answers, in milliseconds. Default 2,000: longer than a shopper's patience,
    /// shorter than a request's deadline.
    pub slow_ms: u64,
    /// Until `timeout` gives up with `Unknown`, in milliseconds. Default 60,000: longer than any caller's deadline.
    pub timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { slow_ms: 2_000, timeout_ms: 60_000 }
    }
}

/// The provider `fake`. Cheap to clone; clones share one memory.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    options: Options,
    book: Arc<Mutex<Book>>,
}

/// What a method's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Ok,
    Authorize,
    Declined,
    RequiresAction,
    Slow,
    Timeout,
    Error,
    Unknown,
}

impl Method {
    fn of(request: &ChargeRequest) -> Self {
        match request.method.as_str() {
            "ok" => Self::Ok,
            "authorize" => Self::Authorize,
            "declined" => Self::Declined,
            "requires_action" => Self::RequiresAction,
            "slow" => Self::Slow,
            "timeout" => Self::Timeout,
            "error" => Self::Error,
            _ => Self::Unknown,
        }
    }
}

/// What does not follow from key and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// `slow`: captured from this moment on.
    CapturedAt(Instant),
    /// `requires_action`: the shopper has acted.
    Confirmed,
    /// `authorize`: captured.
    Captured,
    /// Cancelled for good.
    Voided,
}

#[derive(Debug, Default)]
struct Book {
    standings: BTreeMap<String, Standing>,
    oldest_first: VecDeque<String>,
}

impl Book {
    fn get(&self, key: &str) -> Option<Standing> {
        self.standings.get(key).copied()
    }

    fn set(&mut self, key: &str, standing: Standing) {
        if self.standings.insert(key.to_owned(), standing).is_none() {
            self.oldest_first.push_back(key.to_owned());
        }
        if self.oldest_first.len() > CHARGES_KEPT_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.standings.remove(&oldest);
        }
    }
}

impl Fake {
    /// A provider that takes as long as `options` say.
    pub fn new(options: Options) -> Self {
        Self { options, book: Arc::default() }
    }

    /// A panic while the lock is held leaves whole entries only, so a poisoned book is still a book.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the charge stands at this moment, without asking for it.
    fn stand(&self, request: &ChargeRequest) -> ChargeOutcome {
        let reference = reference_of(request);
        let standing = self.book().get(&request.key);
        if standing == Some(Standing::Voided) {
            return declined("the charge was cancelled", false);
        }
        match Method::of(request) {
            Method::Ok | Method::Timeout => ChargeOutcome::Captured { reference },
            Method::Authorize if standing == Some(Standing::Captured) => {
                ChargeOutcome::Captured { reference }
            }
            Method::Authorize => ChargeOutcome::Authorized { reference },
            Method::Slow => match standing {
                Some(Standing::CapturedAt(at)) if Instant::now() < at => ChargeOutcome::Unknown,
                Some(
                    Standing::CapturedAt(_) | Standing::Confirmed | Standing::Captured | Standing::Voided,
                )
                | None => ChargeOutcome::Captured { reference },
            },
            Method::RequiresAction if standing == Some(Standing::Confirmed) => {
                ChargeOutcome::Captured { reference }
            }
            Method::RequiresAction => {
                let action = NextAction::ClientSecret(format!("{reference}_secret"));
                ChargeOutcome::ActionRequired { reference, action }
            }
            Method::Declined => declined("the card was declined", false),
            Method::Error => declined("the provider reported an error", true),
            Method::Unknown => declined(
                "no such payment method; the provider fake knows ok, authorize, declined, requires_action, slow, timeout and error",
                false,
            ),
        }
    }
}

impl PaymentProvider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        let wait = match Method::of(request) {
            Method::Slow => {
                // Noted here and not in the future: the charge goes on even if nobody waits for the answer.
                let mut book = self.book();
                let at = match book.get(&request.key) {
                    Some(Standing::CapturedAt(at)) => at,
                    Some(Standing::Voided | Standing::Confirmed | Standing::Captured) => Instant::now(),
                    None => {
                        let at = later(self.options.slow_ms);
                        book.set(&request.key, Standing::CapturedAt(at));
                        at
                    }
                };
                drop(book);
                Some(at)
            }
            Method::Timeout => {
                let deadline = later(self.options.timeout_ms);
                return Box::pin(async move {
                    tokio::time::sleep_until(deadline).await;
                    ChargeOutcome::Unknown
                });
            }
            Method::Ok
            | Method::Authorize
            | Method::Declined
            | Method::RequiresAction
            | Method::Error
            | Method::Unknown => None,
        };
        let (fake, request) = (self.clone(), request.clone());
        Box::pin(async move {
            if let Some(at) = wait {
                tokio::time::sleep_until(at).await;
            }
            fake.stand(&request)
        })
    }

    fn confirm(&self, request: &ChargeRequest, reference: &str) -> Answering<ChargeOutcome> {
        if reference != reference_of(request) {
            return answer(declined("no such charge", false));
        }
        if Method::of(request) == Method::RequiresAction {
            let mut book = self.book();
            if book.get(&request.key).is_none() {
                book.set(&request.key, Standing::Confirmed);
            }
        }
        answer(self.stand(request))
    }

    fn look_up(&self, request: &ChargeRequest, _reference: Option<&str>) -> Answering<ChargeOutcome> {
        answer(self.stand(request))
    }

    fn capture(&self, request: &ChargeRequest, reference: &str) -> Answering<CaptureOutcome> {
        let lost = |reason: &str| answer(CaptureOutcome::Lost { reason: reason.to_owned() });
        if reference != reference_of(request) {
            return lost("no such charge");
        }
        // One lock around look and write: a void cannot slip in between.
        let mut book = self.book();
        match (Method::of(request), book.get(&request.key)) {
            (_, Some(Standing::Voided)) => lost("the charge was cancelled"),
            (Method::Authorize, _) => {
                book.set(&request.key, Standing::Captured);
                answer(CaptureOutcome::Captured)
            }
            (Method::Ok | Method::Slow | Method::Timeout, _) => answer(CaptureOutcome::Captured),
            (Method::RequiresAction, Some(Standing::Confirmed)) => answer(CaptureOutcome::Captured),
            (Method::RequiresAction | Method::Declined | Method::Error | Method::Unknown, _) => {
                lost("the charge was not authorized")
            }
        }
    }

    fn void(&self, request: &ChargeRequest, _reference: Option<&str>) -> Answering<VoidOutcome> {
        // One lock around look and write: a confirmation cannot slip in between.
        let mut book = self.book();
        let captured = match (Method::of(request), book.get(&request.key)) {
            (_, Some(Standing::Voided)) => false,
            (Method::Ok | Method::Timeout, _) => true,
            (Method::Slow, Some(Standing::CapturedAt(at))) => at <= Instant::now(),
            (Method::Slow, Some(Standing::Confirmed | Standing::Captured) | None) => true,
            (Method::Authorize, standing) => standing == Some(Standing::Captured),
            (Method::RequiresAction, standing) => standing == Some(Standing::Confirmed),
            (Method::Declined | Method::Error | Method::Unknown, _) => false,
        };
        if captured {
            return answer(VoidOutcome::AlreadyCaptured { reference: reference_of(request) });
        }
        book.set(&request.key, Standing::Voided);
        answer(VoidOutcome::Voided)
    }

    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome> {
        let refused = |reason: &str| answer(RefundOutcome::Refused { reason: reason.to_owned() });
        if reference != reference_of(request) {
            return refused("no such charge");
        }
        // Whoever asks for an authorized charge back had captured it, and wrote that down.
        let captured =
            matches!(self.stand(request), ChargeOutcome::Captured { .. } | ChargeOutcome::Authorized { .. });
        if !captured {
            return refused("the charge was not captured");
        }
        if amount.currency != request.amount.currency || !(1..=request.amount.amount).contains(&amount.amount)
        {
            return refused("a refund is more than zero and at most the charge, in the charge's currency");
        }
        answer(RefundOutcome::Refunded { reference: format!("fake_refund_{key}") })
    }
}

/// The provider's name for a charge follows from its key, so that a repeat after a restart gives the same.
fn reference_of(request: &ChargeRequest) -> String {
    format!("fake_charge_{}", request.key)
}

fn declined(reason: &str, retryable: bool) -> ChargeOutcome {
    ChargeOutcome::Declined { reason: reason.to_owned(), retryable }
}

fn later(duration_ms: u64) -> Instant {
    let now = Instant::now();
    // A duration beyond the clock's end is a configuration nobody means; answering at once shows it.
    now.checked_add(Duration::from_millis(duration_ms)).unwrap_or(now)
}

fn answer<T: Send + 'static>(outcome: T) -> Answering<T> {
    Box::pin(std::future::ready(outcome))
}

#[cfg(test)]
mod tests;
