//! Payments: asked for, finished, looked up, captured and cancelled.
//!
//! Laws: (1) an outcome that is definite rests on an intent as it is now, never on a stored answer; (2) nothing is called
//! declined or voided whose intent somebody could still make succeed: it is cancelled first, and only a cancellation that
//! Stripe confirmed counts (law 8); (3) an intent over another amount or currency than the order's is never called paid.
//!
//! **Keys.** Making a payment bears the request's own key, so that a repeat finds the first. Confirming and cancelling
//! bear none: an intent's state allows each once, and a key would only keep an answer that has grown old.

use std::collections::HashMap;
use std::sync::Arc;

use doorbuster_engine::payment::{CaptureOutcome, ChargeOutcome, ChargeRequest, NextAction, VoidOutcome};
use hyper::StatusCode;
use stripe_client_core::StripeRequest as _;
use stripe_core::payment_intent::{
    CancelPaymentIntent, CapturePaymentIntent, ConfirmPaymentIntent, CreatePaymentIntent,
    RetrievePaymentIntent,
};
use stripe_shared::{PaymentIntentAllowedPaymentMethodTypes, PaymentIntentCaptureMethod};
use stripe_types::Currency;

use super::amounts;
use super::declines::{self, Reason};
use super::objects::{Intent, Refusal, Status};
use super::wire::{Answer, Failure, Wire};

/// Until then a key is surely remembered. Stripe keeps keys for at least 24 hours; the rest covers a clock that runs ahead
/// and a call that was on its way.
pub(super) const KEY_TRUSTED_MS: u64 = 20 * 60 * 60 * 1_000;

/// The name under which an intent remembers its order.
pub(super) const ORDER: &str = "order";

/// The name under which an intent remembers the key that made it.
pub(super) const KEY: &str = "key";

/// Milliseconds since the epoch by the wall clock.
pub(super) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// One Stripe account behind its wire; clones share the connections.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) wire: Wire,
    pub(super) clock: Clock,
    pub(super) live: bool,
    pub(super) webhook_secrets: Vec<String>,
}

/// An intent that could not be cancelled: as it is now, where Stripe tells.
type StillThere = Option<Intent>;

impl Account {
    /// Whether Stripe may have forgotten the request's key.
    pub(super) fn is_old(&self, request: &ChargeRequest) -> bool {
        (self.clock)().saturating_sub(request.asked_at.0) >= KEY_TRUSTED_MS
    }

    pub(super) async fn authorize(&self, request: &ChargeRequest) -> ChargeOutcome {
        let amount = match amounts::to_stripe(request.amount) {
            Ok(amount) => amount,
            Err(reason) => return declined((reason, false)),
        };
        if self.is_old(request) {
            return self.settle_by_the_books(request).await;
        }
        match self.create(request, amount).await {
            Ok(Answer { object, replayed: false }) => self.settle(request, object).await,
            Ok(Answer { object, replayed: true }) => self.retrieve_and_settle(request, &object.id).await,
            Err(Failure::Refused(status, refusal)) => self.refused(request, status, &refusal).await,
            Err(Failure::KeySpent) => self.settle_by_the_books(request).await,
            Err(Failure::Missing) => {
                tracing::error!(
                    "Stripe knows no payment intents at the base that is configured; is it right?"
                );
                ChargeOutcome::Unknown
            }
            Err(Failure::Unanswered) => ChargeOutcome::Unknown,
        }
    }

    /// The intent of this name, as it is now.
    pub(super) async fn retrieve_and_settle(
        &self,
        request: &ChargeRequest,
        reference: &str,
    ) -> ChargeOutcome {
        match self.retrieve(reference).await {
            Some(intent) => self.settle(request, intent).await,
            None => ChargeOutcome::Unknown,
        }
    }

    pub(super) async fn capture(&self, request: &ChargeRequest, reference: &str) -> CaptureOutcome {
        let key = format!("{}:capture", request.key);
        let captured = self.wire.ask(CapturePaymentIntent::new(reference).build(), Some(&key)).await;
        match captured {
            Ok(Answer { object, replayed: false }) => self.captured(request, object).await,
            // An old answer, or a refusal for the state that it is in: the state tells.
            Ok(Answer { object: Intent { .. }, replayed: true }) | Err(Failure::Refused(..)) => {
                match self.retrieve(reference).await {
                    Some(intent) => self.captured(request, intent).await,
                    None => CaptureOutcome::Unknown,
                }
            }
            // The key keeps a failure. If the capture did not happen, it is asked for without one: an intent is captured
            // once, whoever asks.
            Err(Failure::KeySpent) => {
                let Some(mut intent) = self.retrieve(reference).await else { return CaptureOutcome::Unknown };
                if intent.status() == Status::RequiresCapture {
                    match self.wire.ask(CapturePaymentIntent::new(reference).build(), None).await {
                        Ok(answer) => intent = answer.object,
                        Err(_) => return CaptureOutcome::Unknown,
                    }
                }
                self.captured(request, intent).await
            }
            Err(Failure::Missing) => {
                report_missing(reference);
                CaptureOutcome::Unknown
            }
            Err(Failure::Unanswered) => CaptureOutcome::Unknown,
        }
    }

    pub(super) async fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> VoidOutcome {
        let references = match reference {
            Some(reference) => vec![reference.to_owned()],
            None => match self.references(request).await {
                Some(references) => references,
                None => return VoidOutcome::Unknown,
            },
        };
        for reference in references {
            match self.cancel(&reference).await {
                Ok(()) => {}
                Err(Some(intent)) if intent.status() == Status::Succeeded => {
                    return VoidOutcome::AlreadyCaptured { reference };
                }
                Err(_) => return VoidOutcome::Unknown,
            }
        }
        VoidOutcome::Voided
    }

    /// Every intent that the request has made, by name. `None` where Stripe does not tell.
    ///
    /// While the key is remembered, the request itself is repeated, which may make the payment only to cancel it: a first
    /// request could still be on its way, no list can show that, and Stripe makes the repeat wait for it. Nothing else is
    /// definite. The hold on the shopper's card is let go at once.
    async fn references(&self, request: &ChargeRequest) -> Option<Vec<String>> {
        // What Stripe cannot charge was never asked for.
        let Ok(amount) = amounts::to_stripe(request.amount) else { return Some(vec![]) };
        if self.is_old(request) {
            return self.find(request).await;
        }
        match self.create(request, amount).await {
            Ok(answer) => Some(vec![answer.object.id]),
            Err(Failure::Refused(_, refusal)) => {
                Some(refusal.payment_intent.into_iter().map(|intent| intent.id).collect())
            }
            Err(Failure::KeySpent) => self.find(request).await,
            Err(Failure::Missing | Failure::Unanswered) => None,
        }
    }

    /// Asks for the money, or for the first answer to this request.
    async fn create(&self, request: &ChargeRequest, amount: i64) -> Result<Answer<Intent>, Failure> {
        let metadata = [(ORDER, request.order.to_string()), (KEY, request.key.clone())];
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let create = CreatePaymentIntent::new(amount, currency(request))
            .allowed_payment_method_types(vec![PaymentIntentAllowedPaymentMethodTypes::Card])
            .capture_method(PaymentIntentCaptureMethod::Manual)
            .confirm(true)
            .metadata(metadata)
            .payment_method(&request.method);
        self.wire.ask(create.build(), Some(&request.key)).await
    }

    pub(super) async fn retrieve(&self, reference: &str) -> Option<Intent> {
        match self.wire.ask(RetrievePaymentIntent::new(reference).build(), None).await {
            Ok(answer) => Some(answer.object),
            Err(Failure::Missing) => {
                report_missing(reference);
                None
            }
            Err(_) => None,
        }
    }

    /// What Stripe's books say of a request whose key tells nothing any more.
    async fn settle_by_the_books(&self, request: &ChargeRequest) -> ChargeOutcome {
        let Some(references) = self.find(request).await else { return ChargeOutcome::Unknown };
        let mut live = None;
        let mut ended = None;
        for reference in references {
            let Some(intent) = self.retrieve(&reference).await else { return ChargeOutcome::Unknown };
            if intent.status() == Status::Canceled {
                ended = Some(intent);
            } else if live.replace(intent).is_some() {
                tracing::error!(order = %request.order, "Stripe has two payments of one request; cancel one in the dashboard");
                return ChargeOutcome::Unknown;
            }
        }
        match live.or(ended) {
            Some(intent) => self.settle(request, intent).await,
            None => declined(("the payment was not made", true)),
        }
    }

    /// What the intent as it is now means for the order.
    async fn settle(&self, request: &ChargeRequest, mut intent: Intent) -> ChargeOutcome {
        let other = intent.metadata.as_ref().and_then(|metadata| metadata.get(ORDER));
        if other.is_some_and(|other| *other != request.order.to_string()) {
            tracing::error!(order = %request.order, reference = intent.id, "this payment is another order's; it is left alone");
            return ChargeOutcome::Unknown;
        }
        if !fits(request, &intent) {
            return self.unfit(request, &intent).await;
        }
        if intent.status() == Status::RequiresConfirmation {
            intent = match self.confirm(request, &intent.id).await {
                Ok(intent) => intent,
                Err(outcome) => return outcome,
            };
        }
        match intent.status() {
            Status::RequiresCapture => ChargeOutcome::Authorized { reference: intent.id },
            Status::Succeeded => ChargeOutcome::Captured { reference: intent.id },
            Status::RequiresAction => match intent.client_secret {
                Some(secret) => ChargeOutcome::ActionRequired {
                    reference: intent.id,
                    action: NextAction::ClientSecret(secret),
                },
                None => {
                    tracing::error!(reference = intent.id, "Stripe keeps the client secret from this key");
                    ChargeOutcome::Unknown
                }
            },
            Status::RequiresPaymentMethod => {
                let reason = declines::of_trouble(intent.last_payment_error.as_ref());
                self.decline(request, &intent.id, reason).await
            }
            Status::Canceled => declined(match &intent.last_payment_error {
                Some(trouble) => declines::of_trouble(Some(trouble)),
                None => ("the payment was cancelled", false),
            }),
            Status::RequiresConfirmation | Status::Processing | Status::Unheard => ChargeOutcome::Unknown,
        }
    }

    /// Confirms an intent that asks for it; what came of it, or the outcome where that is clear.
    async fn confirm(&self, request: &ChargeRequest, reference: &str) -> Result<Intent, ChargeOutcome> {
        match self.wire.ask(ConfirmPaymentIntent::new(reference).build(), None).await {
            Ok(answer) => Ok(answer.object),
            Err(Failure::Refused(StatusCode::PAYMENT_REQUIRED, refusal)) => {
                let reason = declines::of_card(refusal.code.as_deref(), refusal.decline_code.as_deref());
                Err(self.decline(request, reference, reason).await)
            }
            // Somebody else was quicker: the state tells.
            Err(Failure::Refused(..)) => self.retrieve(reference).await.ok_or(ChargeOutcome::Unknown),
            Err(_) => Err(ChargeOutcome::Unknown),
        }
    }

    /// The request was refused. Where that left no intent behind, there is none that could succeed; one that it does not
    /// name cannot either, since its client secret was never given to anybody.
    async fn refused(&self, request: &ChargeRequest, status: StatusCode, refusal: &Refusal) -> ChargeOutcome {
        let reason =
            if status == StatusCode::PAYMENT_REQUIRED || refusal.kind.as_deref() == Some("card_error") {
                declines::of_card(refusal.code.as_deref(), refusal.decline_code.as_deref())
            } else {
                tracing::warn!(
                    order = %request.order,
                    code = refusal.code,
                    param = refusal.param,
                    said = refusal.message,
                    "Stripe did not accept a payment"
                );
                declines::of_request(refusal)
            };
        match &refusal.payment_intent {
            Some(intent) => self.decline(request, &intent.id, reason).await,
            None => declined(reason),
        }
    }

    /// Declined once the intent is cancelled; if it cannot be, whatever it turned out to be.
    async fn decline(&self, request: &ChargeRequest, reference: &str, reason: Reason) -> ChargeOutcome {
        match self.cancel(reference).await {
            Ok(()) => declined(reason),
            Err(Some(intent)) if fits(request, &intent) => match intent.status() {
                Status::RequiresCapture => ChargeOutcome::Authorized { reference: intent.id },
                Status::Succeeded => ChargeOutcome::Captured { reference: intent.id },
                Status::RequiresPaymentMethod
                | Status::RequiresConfirmation
                | Status::RequiresAction
                | Status::Processing
                | Status::Canceled
                | Status::Unheard => ChargeOutcome::Unknown,
            },
            Err(_) => ChargeOutcome::Unknown,
        }
    }

    /// Never paid by it: cancelled, or, if the money is ours already, left for whoever compares the books.
    async fn unfit(&self, request: &ChargeRequest, intent: &Intent) -> ChargeOutcome {
        tracing::error!(
            order = %request.order,
            reference = intent.id,
            wanted = %request.amount,
            found = intent.amount,
            found_currency = intent.currency,
            received = intent.amount_received,
            "the payment at Stripe is not over what the order costs; it is cancelled, or, if captured, left for the \
             reconciliation to report"
        );
        match intent.status() {
            Status::Succeeded => ChargeOutcome::Unknown,
            Status::RequiresPaymentMethod
            | Status::RequiresConfirmation
            | Status::RequiresAction
            | Status::Processing
            | Status::RequiresCapture
            | Status::Canceled
            | Status::Unheard => {
                let reason = ("the payment at the provider is not over what the order costs", false);
                self.decline(request, &intent.id, reason).await
            }
        }
    }

    /// What became of a capture, by the intent as it is now.
    async fn captured(&self, request: &ChargeRequest, intent: Intent) -> CaptureOutcome {
        match intent.status() {
            Status::Succeeded if fits(request, &intent) => CaptureOutcome::Captured,
            Status::Succeeded => {
                tracing::error!(
                    order = %request.order,
                    reference = intent.id,
                    wanted = %request.amount,
                    received = intent.amount_received,
                    "another amount was captured than the order costs; compare it in Stripe's dashboard"
                );
                CaptureOutcome::Unknown
            }
            Status::Canceled => lost(intent.cancellation_reason.as_deref()),
            // Not held any more, but somebody could pay anew with it: that must end before it is called lost.
            Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::RequiresAction => {
                match self.cancel(&intent.id).await {
                    Ok(()) => lost(None),
                    Err(_) => CaptureOutcome::Unknown,
                }
            }
            Status::RequiresCapture | Status::Processing | Status::Unheard => CaptureOutcome::Unknown,
        }
    }

    /// Cancels an intent for good. One that is cancelled already is as good.
    async fn cancel(&self, reference: &str) -> Result<(), StillThere> {
        let cancelled = self.wire.ask::<Intent>(CancelPaymentIntent::new(reference).build(), None).await;
        match cancelled {
            Ok(answer) if answer.object.status() == Status::Canceled => Ok(()),
            Ok(answer) => Err(Some(answer.object)),
            Err(Failure::Refused(..)) => match self.retrieve(reference).await {
                Some(intent) if intent.status() == Status::Canceled => Ok(()),
                still => Err(still),
            },
            Err(Failure::Missing) => {
                report_missing(reference);
                Err(None)
            }
            Err(Failure::KeySpent | Failure::Unanswered) => Err(None),
        }
    }
}

/// Whether the intent is over what the order costs. Once it is captured, also whether all of that was.
fn fits(request: &ChargeRequest, intent: &Intent) -> bool {
    let expected = amounts::to_stripe(request.amount);
    let received = match intent.status() {
        Status::Succeeded => intent.amount_received.unwrap_or(intent.amount),
        Status::RequiresPaymentMethod
        | Status::RequiresConfirmation
        | Status::RequiresAction
        | Status::Processing
        | Status::RequiresCapture
        | Status::Canceled
        | Status::Unheard => intent.amount,
    };
    expected == Ok(intent.amount)
        && expected == Ok(received)
        && intent.currency.eq_ignore_ascii_case(request.amount.currency.code())
}

fn currency(request: &ChargeRequest) -> Currency {
    match request.amount.currency.code().to_ascii_lowercase().parse() {
        Ok(currency) => currency,
        Err(never) => match never {},
    }
}

fn declined((reason, retryable): Reason) -> ChargeOutcome {
    ChargeOutcome::Declined { reason: reason.to_owned(), retryable }
}

fn lost(cancellation_reason: Option<&str>) -> CaptureOutcome {
    let reason = match cancellation_reason {
        Some("automatic" | "expired") => "the authorization ran out before it was captured",
        Some(_) | None => "the authorization was cancelled at the payment provider",
    };
    CaptureOutcome::Lost { reason: reason.to_owned() }
}

/// A name that Stripe gave us, and does not know.
fn report_missing(reference: &str) {
    tracing::error!(
        reference,
        "Stripe does not know this payment: does the key belong to another account, or to the other of live and test mode?"
    );
}
