//! Refunds: one for each key, however often and however late it is asked for.
//!
//! Stripe forgets keys after a day, and then would refund again. So each refund bears its key as metadata, and is looked
//! for there where the key may be forgotten, or tells nothing.

use std::collections::HashMap;

use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{ChargeRequest, RefundOutcome};
use stripe_client_core::StripeRequest as _;
use stripe_core::refund::{CreateRefund, ListRefund, RetrieveRefund};

use super::objects::{Page, Refund};
use super::payments::{Account, ORDER};
use super::wire::{Answer, Failure};
use super::{amounts, declines};

/// The name under which a refund remembers its key.
pub(super) const REFUND: &str = "refund";

/// Pages of refunds of one payment that are read: 1,000 refunds, more than any order has.
const PAGES_MAX: usize = 10;

impl Account {
    pub(super) async fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> RefundOutcome {
        if amount.currency != request.amount.currency {
            return refused("a refund is in the currency of the payment");
        }
        let amount = match amounts::to_stripe(amount) {
            Ok(amount) => amount,
            Err(reason) => return refused(reason),
        };
        // A refund is younger than its payment: while that is young, so is the key.
        if self.is_old(request) {
            match self.find_refund(reference, key).await {
                Some(Some(refund)) => return told(refund),
                Some(None) => {}
                None => return RefundOutcome::Unknown,
            }
        }
        let metadata = [(REFUND, key.to_owned()), (ORDER, request.order.to_string())];
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let create = CreateRefund::new().payment_intent(reference).amount(amount).metadata(metadata);
        match self.wire.ask::<Refund>(create.build(), Some(key)).await {
            Ok(Answer { object, replayed: false }) => told(object),
            // As it was then; it may have failed since.
            Ok(Answer { object, replayed: true }) => {
                match self.wire.ask(RetrieveRefund::new(object.id).build(), None).await {
                    Ok(answer) => told(answer.object),
                    Err(_) => RefundOutcome::Unknown,
                }
            }
            Err(Failure::Refused(_, refusal)) => match self.find_refund(reference, key).await {
                Some(Some(refund)) => told(refund),
                Some(None) => {
                    let (order, code, said) = (request.order, &refusal.code, &refusal.message);
                    tracing::warn!(%order, code, said, "Stripe refused a refund");
                    refused(declines::of_refund(&refusal))
                }
                None => RefundOutcome::Unknown,
            },
            Err(Failure::KeySpent) => match self.find_refund(reference, key).await {
                Some(Some(refund)) => told(refund),
                Some(None) => refused(
                    "the payment provider failed at the refund, and its books show none; look at them once more before \
                     you refund anew",
                ),
                None => RefundOutcome::Unknown,
            },
            Err(Failure::Missing) => {
                tracing::error!("Stripe knows no refunds at the base that is configured; is it right?");
                RefundOutcome::Unknown
            }
            Err(Failure::Unanswered) => RefundOutcome::Unknown,
        }
    }

    /// The refund that bears this key, if there is one. `None` where Stripe does not tell.
    async fn find_refund(&self, reference: &str, key: &str) -> Option<Option<Refund>> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut list = ListRefund::new().payment_intent(reference).limit(100);
            if let Some(after) = after.take() {
                list = list.starting_after(after);
            }
            let page: Page<Refund> = self.wire.ask(list.build(), None).await.ok()?.object;
            after = page.data.last().filter(|_| page.has_more).map(|refund| refund.id.clone());
            let ours = |refund: &Refund| {
                refund
                    .metadata
                    .as_ref()
                    .and_then(|metadata| metadata.get(REFUND))
                    .is_some_and(|said| said == key)
            };
            if let Some(refund) = page.data.into_iter().find(ours) {
                return Some(Some(refund));
            }
            if after.is_none() {
                return Some(None);
            }
        }
        tracing::error!(
            reference,
            "a payment with more refunds than are read; look for this one in Stripe's dashboard"
        );
        None
    }
}

/// What a refund's state says. One that is pending counts: the money left our balance, and Stripe reports a failure later
/// in its dashboard and by `refund.failed`, which `notices` takes.
fn told(refund: Refund) -> RefundOutcome {
    match refund.status.as_deref() {
        Some("succeeded" | "pending" | "requires_action") => RefundOutcome::Refunded { reference: refund.id },
        Some("failed") => refused(declines::of_failed_refund(refund.failure_reason.as_deref())),
        Some("canceled") => refused("the refund was cancelled at the payment provider"),
        Some(_) | None => RefundOutcome::Unknown,
    }
}

fn refused(reason: &str) -> RefundOutcome {
    RefundOutcome::Refused { reason: reason.to_owned() }
}
