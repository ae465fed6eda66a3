//! What the core and a payment provider say to each other. The trait has its adapters in `gateways`.

use serde::{Deserialize, Serialize};

use crate::identity::OrderId;
use crate::money::Money;

/// A charge to make. The same `key` always means the same charge: asking twice charges once.
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
}

/// How a charge stands, as far as the provider's answer tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChargeOutcome {
    /// The money is ours.
    Captured {
        /// The provider's name for the charge.
        reference: String,
    },
    /// Definitely not charged, and will not be.
    Declined {
        /// Why, safe to show.
        reason: String,
        /// Whether a new attempt may fare better.
        retryable: bool,
    },
    /// The shopper must act first.
    ActionRequired {
        /// The provider's name for the charge.
        reference: String,
        /// What the shopper's client needs.
        client_secret: String,
    },
    /// No answer, or one that says nothing: the charge may or may not succeed.
    Unknown,
}

/// What became of an attempt to cancel a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoidOutcome {
    /// Definitely cancelled: it can no longer succeed.
    Voided,
    /// Too late: the money is ours.
    AlreadyCaptured {
        /// The provider's name for the charge.
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

/// A provider's answer on its way.
pub type Answering<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// A door to a payment provider. Every call is safe to repeat with the same key; no call panics; an answer that says
/// nothing definite is `Unknown`, never a guess. Deadlines are the caller's business.
pub trait PaymentProvider: Send + Sync {
    /// The name by which checkouts choose it.
    fn name(&self) -> &'static str;
    /// Asks for the money.
    fn charge(&self, request: &ChargeRequest) -> Answering<ChargeOutcome>;
    /// Finishes a charge after the shopper has acted.
    fn confirm(&self, request: &ChargeRequest, reference: &str) -> Answering<ChargeOutcome>;
    /// Asks how a charge stands. A charge it never saw reads as `Declined { retryable: true }`, and never succeeds later.
    fn look_up(&self, request: &ChargeRequest) -> Answering<ChargeOutcome>;
    /// Cancels a charge for good.
    fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<VoidOutcome>;
    /// Gives money back; `key` makes it one refund however often it is asked.
    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome>;
}
