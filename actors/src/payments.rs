//! Calls to payment providers: on the I/O runtime, each with a deadline, repeated until the answer is definite where
//! the saga needs one. A call is placed only once its demand is durable; its answer comes back as a command.

use std::sync::Arc;
use std::time::Duration;

use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{OrderId, RefundId};
use doorbuster_engine::money::Money;
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::order::OrderCommand;
use doorbuster_engine::payment::{ChargeOutcome, ChargeRequest, PaymentProvider, RefundOutcome, VoidOutcome};

use crate::message::{Body, Parcel};
use crate::runtime::Shared;

/// First wait between two tries of a call that must become definite.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A call to make for an order.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) order: OrderId,
    pub(crate) provider: String,
    pub(crate) what: What,
}

/// What to ask the provider.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Charge(ChargeRequest),
    LookUp(ChargeRequest),
    Confirm(ChargeRequest, String),
    Void(ChargeRequest, Option<String>),
    Refund { refund: RefundId, charge: ChargeRequest, reference: String, amount: Money },
}

/// Places a call; its answer will reach the order.
pub(crate) fn place(shared: &Arc<Shared>, call: Call) {
    let shared_for_answer = Arc::clone(shared);
    let Some(provider) = shared.providers.iter().find(|provider| provider.name() == call.provider).cloned()
    else {
        // The front door let no such checkout in, so it was configured when the order began. Whether a charge stands
        // cannot be known without it: the order waits (law 8) for a start with the provider back in place.
        tracing::error!(order = %call.order, provider = call.provider, "an order needs a payment provider that is not configured; start the engine with it");
        return;
    };
    let deadline = shared.limits.payment_deadline;
    shared.host.spawn(Box::pin(async move {
        let command = answer(&*provider, call.what, deadline).await;
        let parcel = Parcel::new(EntityKey::Order(call.order), Body::Internal(Command::Order(command)));
        shared_for_answer.post(parcel);
    }));
}

async fn answer(provider: &dyn PaymentProvider, what: What, deadline: Duration) -> OrderCommand {
    match what {
        What::Charge(charge) => {
            let outcome = tokio::time::timeout(deadline, provider.charge(&charge)).await;
            OrderCommand::ChargeAnswered(outcome.unwrap_or(ChargeOutcome::Unknown))
        }
        What::Confirm(charge, reference) => {
            let outcome = tokio::time::timeout(deadline, provider.confirm(&charge, &reference)).await;
            OrderCommand::ChargeAnswered(outcome.unwrap_or(ChargeOutcome::Unknown))
        }
        What::LookUp(mut charge) if mutant::active(Mutant::ChargeAgainOnUnknown) => {
            charge.key.push_str(":again");
            let outcome = tokio::time::timeout(deadline, provider.charge(&charge)).await;
            OrderCommand::ChargeAnswered(outcome.unwrap_or(ChargeOutcome::Unknown))
        }
        What::LookUp(charge) => {
            let mut wait = BACKOFF_FIRST;
            loop {
                pause(&mut wait).await;
                let outcome = tokio::time::timeout(deadline, provider.look_up(&charge)).await;
                match outcome.unwrap_or(ChargeOutcome::Unknown) {
                    ChargeOutcome::Unknown => {}
                    definite @ (ChargeOutcome::Captured { .. }
                    | ChargeOutcome::Declined { .. }
                    | ChargeOutcome::ActionRequired { .. }) => return OrderCommand::ChargeAnswered(definite),
                }
            }
        }
        What::Void(charge, reference) => {
            let mut wait = BACKOFF_FIRST;
            loop {
                let outcome =
                    tokio::time::timeout(deadline, provider.void(&charge, reference.as_deref())).await;
                match outcome.unwrap_or(VoidOutcome::Unknown) {
                    VoidOutcome::Unknown => pause(&mut wait).await,
                    definite @ (VoidOutcome::Voided | VoidOutcome::AlreadyCaptured { .. }) => {
                        return OrderCommand::VoidAnswered(definite);
                    }
                }
            }
        }
        What::Refund { refund, charge, reference, amount } => {
            let key = refund.to_string();
            let mut wait = BACKOFF_FIRST;
            loop {
                let call = provider.refund(&charge, &reference, &key, amount);
                match tokio::time::timeout(deadline, call).await.unwrap_or(RefundOutcome::Unknown) {
                    RefundOutcome::Unknown => pause(&mut wait).await,
                    outcome @ (RefundOutcome::Refunded { .. } | RefundOutcome::Refused { .. }) => {
                        return OrderCommand::RefundAnswered { refund, outcome };
                    }
                }
            }
        }
    }
}

async fn pause(wait: &mut Duration) {
    tokio::time::sleep(*wait).await;
    *wait = wait.saturating_mul(2).min(BACKOFF_MAX);
}
