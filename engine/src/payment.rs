//! What the core and a payment provider say to each other. The trait has its adapters in `gateways`.
//!
//! A payment is **authorized** first (the provider holds the shopper's money for us), and **captured** once the order's
//! units are sold. A provider that takes the money at once says so, and nothing is left to capture. Start at
//! [`PaymentProvider`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::identity::{OrderId, Timestamp};
use crate::money::Money;

/// A payment to make. The same `key` always means the same payment: asking twice pays once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeRequest {
    /// The provider's idempotency key, derived from order and step.
    pub key: String,
    /// For which order.
    pub order: OrderId,
    /// How much, more than zero.
    pub amount: Money,
    /// The method token.
    pub method: String,
    /// When the order first asked for it, business time. Providers forget keys after a day; who repeats a request later
    /// than that must look the payment up by its order instead.
    pub asked_at: Timestamp,
}

/// What the shopper's client has to do before a payment goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextAction {
    /// Hand this secret to the provider's own library, which leads through the bank's check (3-D Secure).
    ClientSecret(String),
    /// Send the shopper to this page of the provider, who sends them back.
    Redirect(String),
}

/// How a payment stands, as far as the provider's answer tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChargeOutcome {
    /// The provider holds the money for us; it is ours once captured.
    Authorized {
        /// The provider's name for the payment.
        reference: String,
    },
    /// The money is ours.
    Captured {
        /// The provider's name for the payment.
        reference: String,
    },
    /// Definitely not paid, and will not be.
    Declined {
        /// Why, safe to show.
        reason: String,
        /// Whether a new attempt may fare better.
        retryable: bool,
    },
    /// The shopper must act first.
    ActionRequired {
        /// The provider's name for the payment.
        reference: String,
        /// What to do.
        action: NextAction,
    },
    /// No answer, or one that says nothing: the payment may or may not succeed.
    Unknown,
}

/// What became of an attempt to capture an authorized payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptureOutcome {
    /// All of it is ours.
    Captured,
    /// It can never be captured any more: cancelled at the provider, or the authorization ran out.
    Lost {
        /// Why, safe to show.
        reason: String,
    },
    /// No answer.
    Unknown,
}

/// What became of an attempt to cancel a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoidOutcome {
    /// Definitely cancelled: it can no longer succeed, and what was authorized is let go.
    Voided,
    /// Too late: the money is ours.
    AlreadyCaptured {
        /// The provider's name for the payment.
        reference: String,
    },
    /// No answer.
    Unknown,
}

/// What became of a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundOutcome {
    /// The money went back.
    Refunded {
        /// The provider's name for the refund.
        reference: String,
    },
    /// Definitely not refunded.
    Refused {
        /// Why, safe to show.
        reason: String,
    },
    /// No answer.
    Unknown,
}

/// How a payment stands in the provider's own books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// Neither ours nor ended: something is still to happen, or happened that only asking can tell.
    Open,
    /// Held for us, not captured.
    Authorized,
    /// Ours (some or all of it may have gone back since).
    Captured,
    /// Cancelled for good.
    Cancelled,
}

/// What a provider says of a payment without having been asked, or in a list of all payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentNews {
    /// The order it is for, as we told the provider when we asked for the payment.
    pub order: OrderId,
    /// The provider's name for the payment.
    pub reference: String,
    /// How much it is over.
    pub amount: Money,
    /// How it stands.
    pub standing: Standing,
}

/// A webhook that was proved to come from the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The provider's id of the event: copies bear the same.
    pub event: String,
    /// The provider's name for what happened, e.g. `payment_intent.succeeded`.
    pub kind: String,
    /// What it says of a payment of ours; nothing where the kind is unknown or the payment is somebody else's.
    pub news: Option<PaymentNews>,
    /// A refund of ours that came to nothing after all.
    pub failed_refund: Option<FailedRefund>,
}

/// A refund that was taken, and later came back to the provider: the shopper does not have the money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRefund {
    /// The order it was for.
    pub order: OrderId,
    /// The key under which we asked for it.
    pub key: String,
    /// The provider's name for it.
    pub reference: String,
    /// How much.
    pub amount: Money,
    /// Why, in the provider's word.
    pub reason: String,
}

/// Why a webhook was not believed. Nothing of it may take effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// This provider sends none, or no secret to prove them with is configured.
    #[error("no webhook secret is configured for this provider")]
    NotConfigured,
    /// No signature, or none that fits.
    #[error("the signature does not fit the body")]
    BadSignature,
    /// Signed too long ago, or in the future: perhaps somebody repeats it.
    #[error("the signature is {age_s} s old, more than the {allowed_s} s allowed")]
    Stale {
        /// Age in seconds by our clock; negative if from the future.
        age_s: i64,
        /// What is allowed either way.
        allowed_s: i64,
    },
    /// Signed, but not what the provider's documentation describes.
    #[error("the body is no event: {0}")]
    Malformed(String),
    /// Proving it needs the provider's answer, which did not come: it should be sent again.
    #[error("the provider could not be asked whether this came from it")]
    Unproved,
}

/// A payment in the provider's books, as [`PaymentProvider::list`] tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The provider's name for the payment.
    pub reference: String,
    /// The order that we named when we asked for it; nothing for a payment that is not ours.
    pub order: Option<OrderId>,
    /// How much it is over.
    pub amount: Money,
    /// What was captured of it, minor units.
    pub captured: i64,
    /// What went back of that, minor units.
    pub refunded: i64,
    /// How it stands.
    pub standing: Standing,
    /// When the provider made it.
    pub created_at: Timestamp,
}

/// Some payments, newest first, and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PaymentPage {
    /// The payments.
    pub data: Vec<PaymentRecord>,
    /// What to pass as `after` for those before them; nothing at the end.
    pub next: Option<String>,
}

/// What a provider says to whoever sets it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// Whether it takes our calls.
    pub standing: CheckupStanding,
    /// Its clock when it answered, in seconds since the Unix epoch, where it told.
    pub clock_s: Option<i64>,
    /// Whether its webhooks can be proved with what is configured.
    pub proves_notices: bool,
}

/// Whether a provider takes our calls. The texts are safe to show and say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckupStanding {
    /// It answered, and our credentials are good.
    Accepted,
    /// It refuses us, and will until somebody changes something.
    Refused(String),
    /// It did not answer, or not now.
    Unanswered(String),
}

/// A provider's answer on its way.
pub type Answering<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// Who says when a request may go to the provider. Every request asks for its turn before it is sent, from within
/// its call's own future; a request's own time limit begins after it.
pub trait Turnstile: Send + Sync {
    /// Waits for the next request's turn. `false`: not now; nothing is sent then, and the call has no answer.
    fn turn(&self) -> Answering<bool>;
}

/// A door to a payment provider.
///
/// Every call is safe to repeat with the same key; no call panics; an answer that says nothing definite is `Unknown`,
/// never a guess; a definite answer stays true: after `Declined`, `Voided` or `Lost` the payment can never succeed. A
/// payment keeps the one `reference` it was first told by, in answers, notices and lists alike: by it an order knows its
/// own payment from one it did not ask for. Deadlines, repeats, pace and the question whether the provider is up at all
/// are the caller's business.
pub trait PaymentProvider: Send + Sync {
    /// The name by which checkouts choose it.
    fn name(&self) -> &'static str;

    /// Whether it is a service elsewhere, which may be down: then it is left alone for a while once it stops answering.
    fn is_remote(&self) -> bool {
        true
    }

    /// How many requests the service has answered so far with anything but an error of its own. An `Unknown` beside a growing
    /// count is one payment's trouble, not an outage. `None`: nobody counts, and every `Unknown` counts as no answer.
    fn answers(&self) -> Option<u64> {
        None
    }

    /// Requests a second that we allow ourselves; `None`: as many as we like.
    fn calls_per_second_max(&self) -> Option<u32> {
        None
    }

    /// The same door for one call, whose every request asks `turns` before it is sent. `None`: no call of it is more than one
    /// request, so that whoever places calls can count them by itself.
    fn paced(&self, turns: Arc<dyn Turnstile>) -> Option<Arc<dyn PaymentProvider>> {
        let _ = turns;
        None
    }

    /// Asks the cheapest thing that only good credentials are answered: for whoever sets it up, never while selling.
    fn check_up(&self) -> Answering<Checkup> {
        let standing = CheckupStanding::Accepted;
        Box::pin(std::future::ready(Checkup { standing, clock_s: None, proves_notices: false }))
    }

    /// Asks for the money.
    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome>;

    /// Finishes a payment after the shopper has acted, or may have.
    fn confirm(&self, request: &ChargeRequest, reference: &str) -> Answering<ChargeOutcome>;

    /// Asks how a payment stands of which no answer came. It may make the payment, as `authorize` does: the order still
    /// wants it. `reference` is the provider's name for it where one is known.
    fn look_up(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<ChargeOutcome>;

    /// Makes an authorized payment ours, all of it.
    fn capture(&self, request: &ChargeRequest, reference: &str) -> Answering<CaptureOutcome>;

    /// Cancels a payment for good; without a `reference` nobody knows yet whether it was made at all.
    fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<VoidOutcome>;

    /// Gives captured money back; `key` makes it one refund however often it is asked.
    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome>;

    /// Reads a webhook and proves that the provider sent it. `header` finds a header by its lower-case name; `now_ms` is the
    /// wall clock, milliseconds since the Unix epoch.
    fn notice(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now_ms: u64,
    ) -> Answering<Result<Notice, NoticeError>> {
        let _ = (header, body, now_ms);
        Box::pin(std::future::ready(Err(NoticeError::NotConfigured)))
    }

    /// How far [`Self::list`] may be behind, in milliseconds: younger payments may be missing from it.
    fn list_lag_ms(&self) -> u64 {
        0
    }

    /// The provider's payments made at or after `since`, page by page, newest first. `None` if it does not answer.
    fn list(&self, since: Timestamp, after: Option<&str>) -> Answering<Option<PaymentPage>> {
        let _ = (since, after);
        Box::pin(std::future::ready(Some(PaymentPage::default())))
    }
}
