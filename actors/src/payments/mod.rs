//! Calls to payment providers: on the I/O runtime, each with a deadline, paced, repeated until the answer is definite where
//! the saga needs one. A call is placed only once its demand is durable; its answer comes back as a command.
//!
//! `desk` says who may ask when, `breaker` whether asking is worth it, `pace` how often, `turns` when a call's further requests
//! go. Start at [`place`].

mod breaker;
mod desk;
mod pace;
mod reconcile;
mod turns;

use std::sync::{Arc, Weak};
use std::time::Duration;

use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{OrderId, Position, RefundId};
use doorbuster_engine::money::Money;
use doorbuster_engine::mutant::{self, Mutant};
use doorbuster_engine::order::{OrderCommand, StrayOutcome};
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, PaymentProvider, RefundOutcome, VoidOutcome,
};

use crate::message::{Body, Parcel};
use crate::runtime::Shared;

pub use desk::ProviderStatus;
pub(crate) use desk::{Desk, Heard, PATIENCE};
pub use reconcile::{Finding, FindingKind, Reconciliation};
pub(crate) use reconcile::{by_order, compare, without_payment};
pub(crate) use turns::Turns;

/// First wait between two tries of a call that must become definite.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What becomes of a checkout while its provider cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhenDown {
    /// The provider that new checkouts go to instead, if it can be asked.
    pub fallback: Option<String>,
    /// How long an order may keep its units and wait for its provider; absent: new checkouts are refused.
    pub defer: Option<Duration>,
}

impl Default for WhenDown {
    /// No other provider; orders wait for a day.
    fn default() -> Self {
        Self { fallback: None, defer: Some(Duration::from_secs(24 * 60 * 60)) }
    }
}

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
    /// To be asked at all, later.
    Await(Position),
    Charge(ChargeRequest),
    LookUp(ChargeRequest, Option<String>),
    Confirm(ChargeRequest, String),
    Capture(ChargeRequest, String),
    Void(ChargeRequest, Option<String>),
    ReturnStray(ChargeRequest, String),
    Refund {
        refund: RefundId,
        charge: ChargeRequest,
        reference: String,
        amount: Money,
    },
}

/// Shows everything that is counted of a provider at zero, with every label it can have.
pub(crate) fn register(provider: &'static str) {
    register_call::<ChargeOutcome>(provider, "authorize");
    register_call::<ChargeOutcome>(provider, "confirm");
    register_call::<ChargeOutcome>(provider, "look_up");
    register_call::<CaptureOutcome>(provider, "capture");
    register_call::<VoidOutcome>(provider, "void");
    register_call::<RefundOutcome>(provider, "refund");
    metrics::counter!("doorbuster_payment_fallbacks_total", "provider" => provider).absolute(0);
    for outcome in ["returned", "kept"] {
        metrics::counter!("doorbuster_payment_strays_total", "provider" => provider, "outcome" => outcome)
            .absolute(0);
    }
    for kind in FindingKind::ALL {
        for repaired in ["true", "false"] {
            findings_counter(provider, kind, repaired).absolute(0);
        }
    }
}

fn register_call<T: Outcome>(provider: &'static str, call: &'static str) {
    let _ = metrics::histogram!("doorbuster_payment_call_duration_seconds", "provider" => provider, "call" => call);
    for outcome in T::NAMES {
        metrics::counter!("doorbuster_payment_calls_total", "provider" => provider, "call" => call, "outcome" => *outcome)
            .absolute(0);
    }
}

/// Counts what a comparison of books found.
pub(crate) fn count_finding(provider: &'static str, finding: &Finding) {
    let repaired = if finding.repaired { "true" } else { "false" };
    findings_counter(provider, finding.kind, repaired).increment(1);
}

/// Counts what nobody but people can mend.
pub(crate) fn count_for_people(provider: &'static str, kind: FindingKind) {
    findings_counter(provider, kind, "false").increment(1);
}

fn findings_counter(provider: &'static str, kind: FindingKind, repaired: &'static str) -> metrics::Counter {
    metrics::counter!("doorbuster_payment_findings_total", "provider" => provider, "kind" => kind.name(), "repaired" => repaired)
}

/// Places a call; its answer will reach the order. Nothing more is asked once `wanted` is gone: a look-up that went on after
/// the order had begun to cancel could make the payment anew (law 8).
pub(crate) fn place(shared: &Arc<Shared>, call: Call, wanted: Weak<()>) {
    let Some(desk) = shared.desk(&call.provider) else {
        // The front door let no such checkout in, so it was configured when the order began. Whether a charge stands
        // cannot be known without it: the order waits (law 8) for a start with the provider back in place.
        tracing::error!(order = %call.order, provider = call.provider, "an order needs a payment provider that is not configured; start the engine with it");
        return;
    };
    if let What::Await(since) = call.what {
        desk.wait(shared, call.order, since);
        return;
    }
    let (shared_for_answer, desk) = (Arc::clone(shared), Arc::clone(desk));
    let deadline = shared.limits.payment_deadline;
    shared.host.spawn(Box::pin(async move {
        let caller = Caller { desk, deadline, order: call.order, wanted };
        let Some(command) = caller.answer(call.what).await else { return };
        let parcel = Parcel::new(EntityKey::Order(call.order), Body::Internal(Command::Order(command)));
        shared_for_answer.post(parcel);
    }));
}

/// An order waits for its provider no longer.
pub(crate) fn forget(shared: &Shared, provider: &str, since: Position) {
    if let Some(desk) = shared.desk(provider) {
        desk.forget(since);
    }
}

/// Who makes the calls of one order.
struct Caller {
    desk: Arc<Desk>,
    deadline: Duration,
    order: OrderId,
    wanted: Weak<()>,
}

impl Caller {
    fn provider(&self) -> &dyn PaymentProvider {
        &**self.desk.provider()
    }

    /// What the call came to; `None` once nobody wants to know.
    async fn answer(&self, what: What) -> Option<OrderCommand> {
        Some(match what {
            // It has no answer of its own: the desk says when.
            What::Await(_) => return None,
            What::Charge(charge) => OrderCommand::ChargeAnswered(
                self.soon("authorize", |provider: &dyn PaymentProvider| provider.authorize(&charge)).await?,
            ),
            What::Confirm(charge, reference) => {
                let confirm = |provider: &dyn PaymentProvider| provider.confirm(&charge, &reference);
                OrderCommand::ChargeAnswered(self.soon("confirm", confirm).await?)
            }
            What::LookUp(mut charge, _) if mutant::active(Mutant::ChargeAgainOnUnknown) => {
                charge.key.push_str(":again");
                OrderCommand::ChargeAnswered(
                    self.soon("authorize", |provider: &dyn PaymentProvider| provider.authorize(&charge))
                        .await?,
                )
            }
            What::LookUp(charge, reference) => {
                self.pause(0).await;
                let look_up =
                    |provider: &dyn PaymentProvider| provider.look_up(&charge, reference.as_deref());
                OrderCommand::ChargeAnswered(self.until_definite("look_up", look_up).await?)
            }
            What::Capture(charge, reference) => {
                let capture = |provider: &dyn PaymentProvider| provider.capture(&charge, &reference);
                OrderCommand::CaptureAnswered(self.until_definite("capture", capture).await?)
            }
            What::Void(charge, reference) => {
                let void = |provider: &dyn PaymentProvider| provider.void(&charge, reference.as_deref());
                OrderCommand::VoidAnswered(self.until_definite("void", void).await?)
            }
            What::ReturnStray(charge, reference) => {
                let outcome = self.return_stray(&charge, &reference).await?;
                OrderCommand::StrayAnswered { reference, outcome }
            }
            What::Refund { refund, charge, reference, amount } => {
                let key = refund.to_string();
                let give_back =
                    |provider: &dyn PaymentProvider| provider.refund(&charge, &reference, &key, amount);
                OrderCommand::RefundAnswered {
                    refund,
                    outcome: self.until_definite("refund", give_back).await?,
                }
            }
        })
    }

    /// Cancels a payment that nobody wants, or gives it back where it is ours already. Both are safe to repeat.
    async fn return_stray(&self, charge: &ChargeRequest, reference: &str) -> Option<StrayOutcome> {
        let outcome = self.try_to_return(charge, reference).await?;
        let name = match outcome {
            StrayOutcome::Returned => "returned",
            StrayOutcome::Refused { .. } => "kept",
        };
        metrics::counter!("doorbuster_payment_strays_total", "provider" => self.desk.name(), "outcome" => name)
            .increment(1);
        Some(outcome)
    }

    async fn try_to_return(&self, charge: &ChargeRequest, reference: &str) -> Option<StrayOutcome> {
        let void = |provider: &dyn PaymentProvider| provider.void(charge, Some(reference));
        let VoidOutcome::AlreadyCaptured { .. } = self.until_definite("void", void).await? else {
            return Some(StrayOutcome::Returned);
        };
        let key = format!("{}:stray:{reference}", charge.key);
        let give_back =
            |provider: &dyn PaymentProvider| provider.refund(charge, reference, &key, charge.amount);
        Some(match self.until_definite("refund", give_back).await? {
            RefundOutcome::Refunded { .. } | RefundOutcome::Unknown => StrayOutcome::Returned,
            RefundOutcome::Refused { reason } => {
                tracing::error!(order = %charge.order, provider = self.desk.name(), reference, reason, "money came for an order that does not want it, and the provider refuses to give it back; see to it by hand");
                StrayOutcome::Refused { reason }
            }
        })
    }

    /// One try, for a shopper who waits: `Unknown` where the provider is not to be asked now.
    async fn soon<T: Outcome>(
        &self,
        name: &'static str,
        call: impl Fn(&dyn PaymentProvider) -> Answering<T>,
    ) -> Option<T> {
        if !self.desk.place_soon(self.order).await {
            return Some(T::UNKNOWN);
        }
        self.once(name, &call).await
    }

    /// Tries until the answer is definite, at growing intervals.
    async fn until_definite<T: Outcome>(
        &self,
        name: &'static str,
        call: impl Fn(&dyn PaymentProvider) -> Answering<T>,
    ) -> Option<T> {
        let _persists = self.desk.persist();
        let mut tries = 0;
        loop {
            self.desk.place().await;
            let outcome = self.once(name, &call).await?;
            if outcome.is_definite() {
                return Some(outcome);
            }
            self.pause(tries).await;
            tries = tries.saturating_add(1);
        }
    }

    async fn once<T: Outcome>(
        &self,
        name: &'static str,
        call: &impl Fn(&dyn PaymentProvider) -> Answering<T>,
    ) -> Option<T> {
        if self.wanted.strong_count() == 0 {
            // The place in the pace is lost, and one that was to find out whether the provider is back is soon forgotten.
            return None;
        }
        let began = tokio::time::Instant::now();
        let answers = self.provider().answers();
        let turns = Turns::of_placed(&self.desk);
        let answer = turns.within(self.deadline, call(&*turns.provider())).await;
        // A payment that its provider still examines is asked about again and again, and is no outage.
        let answered = match &answer {
            Some(outcome) => outcome.is_definite() || self.provider().answers() > answers,
            None => false,
        };
        self.desk.heard(if answered { Heard::Answered } else { Heard::Nothing });
        let outcome = answer.unwrap_or(T::UNKNOWN);
        let provider = self.desk.name();
        debug_assert!(T::NAMES.contains(&outcome.name()), "it was shown at zero: {}", outcome.name());
        metrics::histogram!("doorbuster_payment_call_duration_seconds", "provider" => provider, "call" => name)
            .record(began.elapsed().saturating_sub(turns.waited()));
        metrics::counter!("doorbuster_payment_calls_total", "provider" => provider, "call" => name, "outcome" => outcome.name())
            .increment(1);
        Some(outcome)
    }

    /// Waits before the next try: twice as long each time, and a quarter more or less by the order, so that many orders do
    /// not come back in one moment.
    async fn pause(&self, tries: u32) {
        let factor = 1_u32.checked_shl(tries).unwrap_or(u32::MAX);
        let wait = BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_MAX);
        let spread = u32::try_from((self.order.0 >> 32) % 512).unwrap_or(0);
        let wait = wait.saturating_mul(768_u32.saturating_add(spread)).checked_div(1024).unwrap_or(wait);
        tokio::time::sleep(wait).await;
    }
}

/// What the answers of all calls have in common.
trait Outcome {
    const UNKNOWN: Self;
    /// Every [`Outcome::name`].
    const NAMES: &'static [&'static str];
    fn is_definite(&self) -> bool;
    fn name(&self) -> &'static str;
}

impl Outcome for ChargeOutcome {
    const UNKNOWN: Self = Self::Unknown;
    const NAMES: &'static [&'static str] =
        &["authorized", "captured", "declined", "action_required", "unknown"];

    fn is_definite(&self) -> bool {
        *self != Self::Unknown
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Authorized { .. } => "authorized",
            Self::Captured { .. } => "captured",
            Self::Declined { .. } => "declined",
            Self::ActionRequired { .. } => "action_required",
            Self::Unknown => "unknown",
        }
    }
}

impl Outcome for CaptureOutcome {
    const UNKNOWN: Self = Self::Unknown;
    const NAMES: &'static [&'static str] = &["captured", "lost", "unknown"];

    fn is_definite(&self) -> bool {
        *self != Self::Unknown
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Lost { .. } => "lost",
            Self::Unknown => "unknown",
        }
    }
}

impl Outcome for VoidOutcome {
    const UNKNOWN: Self = Self::Unknown;
    const NAMES: &'static [&'static str] = &["voided", "already_captured", "unknown"];

    fn is_definite(&self) -> bool {
        *self != Self::Unknown
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Voided => "voided",
            Self::AlreadyCaptured { .. } => "already_captured",
            Self::Unknown => "unknown",
        }
    }
}

impl Outcome for RefundOutcome {
    const UNKNOWN: Self = Self::Unknown;
    const NAMES: &'static [&'static str] = &["refunded", "refused", "unknown"];

    fn is_definite(&self) -> bool {
        *self != Self::Unknown
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Refunded { .. } => "refunded",
            Self::Refused { .. } => "refused",
            Self::Unknown => "unknown",
        }
    }
}
