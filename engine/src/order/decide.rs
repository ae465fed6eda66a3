//! The guards: each command's refusals in order of precedence, then the events.

use smallvec::{SmallVec, smallvec};

use crate::answer::{Answer, FieldError, Missing, Refusal};
use crate::envelope::{Decision, Envelope};
use crate::identity::{RefundId, RequestStamp, Timestamp};
use crate::money::Money;
use crate::mutant::{self, Mutant};
use crate::payment::{CaptureOutcome, ChargeOutcome, PaymentNews, RefundOutcome, Standing, VoidOutcome};

use super::{
    Funds, Inquiry, LineUnits, Off, Order, OrderCommand, OrderEvent, OrderState, Paying, Refund, RefundState,
    STEPS_MAX, STRAYS_MAX, Stage, StrayOutcome,
};

/// An order decision.
type OrderDecision = Decision<OrderEvent>;

/// What happens in one turn.
type Events = SmallVec<[OrderEvent; 1]>;

/// When to ask again while another request on the order runs: about one call to a provider.
const STEP_RETRY_MS: u64 = 500;

impl Order {
    /// Decides one command; changes nothing. A step already taken, or one that came too late, is `Nothing`.
    pub fn decide(&self, envelope: &Envelope<OrderCommand>) -> OrderDecision {
        let request = envelope.request;
        match &envelope.command {
            OrderCommand::Start(draft) => match self.stage {
                Stage::Absent => Decision::change(OrderEvent::Started(draft.clone())),
                Stage::Holding | Stage::Paying(_) | Stage::Voiding { .. } | Stage::Placed | Stage::Off(_) => {
                    if self.checkout.is_some() {
                        Decision::Join
                    } else {
                        Decision::Nothing
                    }
                }
            },
            OrderCommand::UnitsHeld { defer_ms } => self.decide_units_held(*defer_ms, envelope.now),
            OrderCommand::UnitsRefused { shortages } => once(self.stage == Stage::Holding, || {
                OrderEvent::UnitsRefused { shortages: shortages.clone() }
            }),
            OrderCommand::ChargeAnswered(outcome) => self.decide_charge_answered(outcome),
            OrderCommand::ProviderReady => self.decide_provider_ready(envelope.now),
            OrderCommand::CaptureAnswered(outcome) => self.decide_capture_answered(outcome),
            OrderCommand::VoidAnswered(outcome) => self.decide_void_answered(outcome),
            OrderCommand::StrayAnswered { reference, outcome } => self.decide_stray(reference, outcome),
            OrderCommand::Notice { event, news } => self.decide_notice(event, news),
            OrderCommand::RefundAnswered { refund, outcome } => self.decide_refund_answered(*refund, outcome),
            OrderCommand::UnitsSold => {
                once(self.stage == Stage::Placed && !self.units_sold, || OrderEvent::UnitsSold)
            }
            OrderCommand::UnitsFreed => once(self.is_off() && !self.units_freed, || OrderEvent::UnitsFreed),
            OrderCommand::UnitsRestocked { refund } => {
                let wanted = self.refund(*refund).is_some_and(|known| self.wants_restock(known));
                once(wanted, || OrderEvent::UnitsRestocked { refund: *refund })
            }
            OrderCommand::CartTold => {
                let over = self.stage == Stage::Placed || (self.is_off() && self.units_freed);
                once(over && !self.cart_told, || OrderEvent::CartTold)
            }
            OrderCommand::Wake => self.decide_wake(envelope.now),
            OrderCommand::Confirm => self.decide_confirm(request).unwrap_or_else(Decision::Refuse),
            OrderCommand::Cancel { refund } => {
                self.decide_cancel(*refund, request).unwrap_or_else(Decision::Refuse)
            }
            OrderCommand::Refund { refund, amount, lines, restock, reason } => self
                .decide_refund(*refund, *amount, lines.as_deref(), *restock, reason.as_ref(), request)
                .unwrap_or_else(Decision::Refuse),
            OrderCommand::Fulfil { fulfilment, lines, tracking } => {
                if let Some(known) = self.fulfilments.iter().find(|known| known.id == *fulfilment) {
                    return Decision::Answer(Answer::Fulfilment(known.clone()));
                }
                match self.fulfilled_units(lines.as_deref()) {
                    Ok(lines) => Decision::change(OrderEvent::Fulfilled {
                        fulfilment: *fulfilment,
                        lines,
                        tracking: tracking.clone(),
                    }),
                    Err(refusal) => Decision::Refuse(refusal),
                }
            }
            OrderCommand::Read => match self.present() {
                Ok(()) => Decision::Answer(Answer::Order(Box::new(self.view()))),
                Err(refusal) => Decision::Refuse(refusal),
            },
        }
    }

    fn decide_units_held(&self, defer_ms: Option<u64>, now: Timestamp) -> OrderDecision {
        if self.stage != Stage::Holding {
            return Decision::Nothing;
        }
        if self.totals.total.amount == 0 {
            // Nothing to pay: held and placed in one breath.
            return Decision::Change(smallvec![
                OrderEvent::UnitsReserved,
                OrderEvent::Placed { reference: None }
            ]);
        }
        let Some(defer_ms) = defer_ms else {
            return Decision::change(OrderEvent::UnitsReserved);
        };
        // Said here, before the provider is asked for the first time, and nowhere else: whoever was asked once may have
        // done it (law 8).
        let until = now.plus_ms(defer_ms);
        Decision::Change(smallvec![OrderEvent::UnitsReserved, OrderEvent::PaymentDeferred { until }])
    }

    fn decide_provider_ready(&self, now: Timestamp) -> OrderDecision {
        match self.stage {
            // After a long silence this may overtake the timer: nobody is charged for what they gave up hours ago.
            Stage::Paying(Paying::Deferred { until })
                if now >= until && !mutant::active(Mutant::ChargeDeferred) =>
            {
                Decision::change(OrderEvent::PaymentVoided)
            }
            Stage::Paying(Paying::Deferred { until: _ }) => Decision::change(OrderEvent::PaymentResumed),
            Stage::Absent
            | Stage::Holding
            | Stage::Paying(_)
            | Stage::Voiding { .. }
            | Stage::Placed
            | Stage::Off(_) => Decision::Nothing,
        }
    }

    fn decide_charge_answered(&self, outcome: &ChargeOutcome) -> OrderDecision {
        let paying = match self.stage {
            Stage::Paying(paying) => Some(paying),
            Stage::Voiding { .. } => None,
            // Late or doubled: the payment has had its definite end.
            Stage::Absent | Stage::Holding | Stage::Placed | Stage::Off(_) => return Decision::Nothing,
        };
        match outcome {
            // Nobody asked: what never left cannot be answered.
            _ if matches!(paying, Some(Paying::Deferred { .. })) => Decision::Nothing,
            ChargeOutcome::Captured { reference } => {
                Decision::Change(self.placed(reference, Funds::Captured))
            }
            // Once it is being cancelled, only the cancellation's own answer counts: it lets go what is authorized.
            ChargeOutcome::Authorized { reference: _ } if paying.is_none() => Decision::Nothing,
            ChargeOutcome::Authorized { reference } => {
                Decision::Change(self.placed(reference, Funds::Authorized))
            }
            ChargeOutcome::ActionRequired { reference, action: _ } if mutant::active(Mutant::PlaceUnpaid) => {
                Decision::Change(self.placed(reference, Funds::Captured))
            }
            ChargeOutcome::Unknown if mutant::active(Mutant::FreeOnUnknown) => {
                Decision::change(OrderEvent::PaymentDeclined { reason: "unknown".into(), retryable: true })
            }
            ChargeOutcome::Declined { reason, retryable } => Decision::change(OrderEvent::PaymentDeclined {
                reason: reason.clone(),
                retryable: *retryable,
            }),
            ChargeOutcome::ActionRequired { reference, action } => match paying {
                Some(Paying::Asked | Paying::LookingUp | Paying::Confirming) => {
                    Decision::change(OrderEvent::ActionRequired {
                        reference: reference.clone(),
                        action: action.clone(),
                    })
                }
                Some(Paying::ActionRequired | Paying::Deferred { .. }) | None => Decision::Nothing,
            },
            ChargeOutcome::Unknown => match paying {
                Some(Paying::Asked | Paying::Confirming) => Decision::change(OrderEvent::PaymentUnanswered),
                Some(Paying::LookingUp | Paying::ActionRequired | Paying::Deferred { .. }) | None => {
                    Decision::Nothing
                }
            },
        }
    }

    fn decide_capture_answered(&self, outcome: &CaptureOutcome) -> OrderDecision {
        if self.stage != Stage::Placed || self.funds != Funds::Authorized {
            return Decision::Nothing;
        }
        match outcome {
            CaptureOutcome::Captured => Decision::change(OrderEvent::PaymentCaptured),
            // Our own cancellation overtook it; what that says counts.
            CaptureOutcome::Lost { .. } if self.cancelling().is_some() => Decision::Nothing,
            CaptureOutcome::Lost { reason } => {
                // Nothing was handed over before it was paid, so all of it goes back on the shelf.
                let refund = RefundId(self.id.0);
                Decision::Change(smallvec![
                    OrderEvent::CaptureFailed { reason: reason.clone() },
                    OrderEvent::CancelRequested { refund },
                    OrderEvent::RefundSucceeded { refund, reference: None },
                ])
            }
            CaptureOutcome::Unknown => Decision::Nothing,
        }
    }

    fn decide_void_answered(&self, outcome: &VoidOutcome) -> OrderDecision {
        match self.stage {
            Stage::Voiding { .. } => match outcome {
                VoidOutcome::Voided => Decision::change(OrderEvent::PaymentVoided),
                VoidOutcome::AlreadyCaptured { reference } => {
                    Decision::Change(self.placed(reference, Funds::Captured))
                }
                VoidOutcome::Unknown => Decision::Nothing,
            },
            Stage::Placed if self.wants_authorization_voided() => match outcome {
                VoidOutcome::Voided => Decision::change(OrderEvent::AuthorizationVoided),
                // The capture was quicker: the money goes back as a refund.
                VoidOutcome::AlreadyCaptured { reference: _ } => {
                    Decision::change(OrderEvent::PaymentCaptured)
                }
                VoidOutcome::Unknown => Decision::Nothing,
            },
            Stage::Absent | Stage::Holding | Stage::Paying(_) | Stage::Placed | Stage::Off(_) => {
                Decision::Nothing
            }
        }
    }

    fn decide_stray(&self, reference: &str, outcome: &StrayOutcome) -> OrderDecision {
        let open = self.strays.iter().any(|stray| stray.reference == reference && !stray.settled);
        once(open, || {
            let reference = reference.into();
            match outcome {
                StrayOutcome::Returned => OrderEvent::StrayReturned { reference },
                StrayOutcome::Refused { reason } => {
                    OrderEvent::StrayKept { reference, reason: reason.clone() }
                }
            }
        })
    }

    /// What a provider tells unasked may be old, doubled or out of order. Money it says it holds is believed, for nobody but
    /// we can undo that; anything else only makes the order ask.
    fn decide_notice(&self, event: &str, news: &PaymentNews) -> OrderDecision {
        if self.is_absent() {
            return Decision::Refuse(Refusal::NotFound(Missing::Order));
        }
        if self.notices.iter().any(|known| known == event) && !mutant::active(Mutant::DoubleNotice) {
            return Decision::Answer(Answer::Noticed);
        }
        let ours = self.reference.as_ref().is_none_or(|known| *known == news.reference);
        let paid = match news.standing {
            Standing::Authorized => Some(Funds::Authorized),
            Standing::Captured => Some(Funds::Captured),
            Standing::Open | Standing::Cancelled => None,
        };
        if news.amount == self.totals.total && self.cannot_tell_whose(paid) {
            return Decision::Refuse(Refusal::InProgress { retry_after_ms: STEP_RETRY_MS });
        }
        let asks = self.stage == Stage::Paying(Paying::ActionRequired) && paid.is_none() && ours;
        let mut events: Events = smallvec![OrderEvent::Noticed { event: event.into(), asks }];
        match (self.stage, paid) {
            (Stage::Absent | Stage::Holding | Stage::Paying(Paying::Deferred { .. }), _) => {}
            // A payment over another amount is not this order's, whatever it says (law 7).
            (_, Some(_)) if news.amount != self.totals.total && !mutant::active(Mutant::BelieveAnyAmount) => {
            }
            (Stage::Paying(_), Some(funds)) if ours => events.extend(self.placed(&news.reference, funds)),
            (Stage::Voiding { .. }, Some(Funds::Captured)) if ours => {
                events.extend(self.placed(&news.reference, Funds::Captured));
            }
            (Stage::Placed, Some(Funds::Captured)) if ours && self.funds == Funds::Authorized => {
                events.push(OrderEvent::PaymentCaptured);
            }
            // Let go or lost for good, says its provider, and here it is.
            (Stage::Placed, Some(Funds::Captured)) if matches!(self.funds, Funds::Released | Funds::Lost) => {
                self.find_stray(&news.reference, &mut events);
            }
            (Stage::Off(_), Some(_)) => self.find_stray(&news.reference, &mut events),
            (Stage::Paying(_) | Stage::Voiding { .. } | Stage::Placed, Some(_)) if !ours => {
                self.find_stray(&news.reference, &mut events);
            }
            (Stage::Paying(_) | Stage::Voiding { .. } | Stage::Placed | Stage::Off(_), _) => {}
        }
        Decision::Change(events)
    }

    /// Whether money would be this order's own or a stray, as its payment goes on: what is told then is not remembered, so that
    /// the provider tells it again. Remembered and left alone, it would stay with the provider for ever (law 7).
    fn cannot_tell_whose(&self, paid: Option<Funds>) -> bool {
        match self.stage {
            Stage::Holding | Stage::Paying(Paying::Deferred { .. }) => paid.is_some(),
            Stage::Voiding { .. } => paid == Some(Funds::Authorized) && self.reference.is_none(),
            Stage::Absent | Stage::Paying(_) | Stage::Placed | Stage::Off(_) => false,
        }
    }

    fn find_stray(&self, reference: &str, events: &mut Events) {
        let known = self.strays.iter().any(|stray| stray.reference == reference);
        if !known && self.strays.len() < STRAYS_MAX && !mutant::active(Mutant::ForgetStray) {
            events.push(OrderEvent::StrayFound { reference: reference.into() });
        }
    }

    /// The money is ours or held for us: the order stands, and is called off again where its owner had asked for that
    /// meanwhile.
    fn placed(&self, reference: &str, funds: Funds) -> Events {
        let mut events = Events::new();
        if funds == Funds::Authorized {
            events.push(OrderEvent::PaymentAuthorized { reference: reference.into() });
        }
        events.push(OrderEvent::Placed { reference: Some(reference.into()) });
        if let Stage::Voiding { by_request: true, refund } = self.stage {
            events.push(OrderEvent::CancelRequested { refund });
        }
        events
    }

    fn decide_refund_answered(&self, refund: RefundId, outcome: &RefundOutcome) -> OrderDecision {
        let pending = self.refund(refund).is_some_and(|known| known.view.state == RefundState::Pending);
        // Nobody asked for money back that is not ours yet.
        if !pending || self.funds == Funds::Authorized {
            return Decision::Nothing;
        }
        match outcome {
            RefundOutcome::Refunded { reference } => {
                Decision::change(OrderEvent::RefundSucceeded { refund, reference: Some(reference.clone()) })
            }
            RefundOutcome::Refused { reason } => {
                Decision::change(OrderEvent::RefundFailed { refund, reason: reason.clone() })
            }
            RefundOutcome::Unknown => Decision::Nothing,
        }
    }

    fn decide_wake(&self, now: Timestamp) -> OrderDecision {
        if self.due().is_none_or(|due| now < due) {
            return Decision::Nothing;
        }
        match self.stage {
            // Nobody was asked, so nothing is to be cancelled.
            Stage::Paying(Paying::Deferred { .. }) => Decision::change(OrderEvent::PaymentVoided),
            Stage::Paying(_) if mutant::active(Mutant::ExpirePinned) => {
                Decision::change(OrderEvent::PaymentVoided)
            }
            Stage::Paying(_) => {
                Decision::change(OrderEvent::VoidRequested { by_request: false, refund: RefundId(self.id.0) })
            }
            Stage::Placed => Decision::change(OrderEvent::Completed),
            Stage::Absent | Stage::Holding | Stage::Voiding { .. } | Stage::Off(_) => Decision::Nothing,
        }
    }

    fn decide_confirm(&self, request: Option<RequestStamp>) -> Result<OrderDecision, Refusal> {
        self.present()?;
        // Whatever has become of the payment meanwhile: the first copy still waits for its verdict.
        if same_key(self.confirm, request) {
            return Ok(Decision::Join);
        }
        match self.stage {
            Stage::Paying(Paying::ActionRequired) => Ok(Decision::change(OrderEvent::ConfirmRequested)),
            Stage::Paying(Paying::Confirming) | Stage::Absent | Stage::Holding => {
                Err(Refusal::InProgress { retry_after_ms: STEP_RETRY_MS })
            }
            Stage::Paying(Paying::Asked | Paying::LookingUp | Paying::Deferred { .. }) => {
                Ok(self.tell_as_it_stands(Inquiry::Confirm))
            }
            Stage::Placed if self.state() != OrderState::Cancelled => {
                Ok(self.tell_as_it_stands(Inquiry::Confirm))
            }
            Stage::Voiding { .. } => Err(self.illegal("confirm", "the payment is being cancelled")),
            Stage::Placed | Stage::Off(_) => {
                Err(self.illegal("confirm", "the order is off; check out again"))
            }
        }
    }

    /// Nothing is left to change, and the answer shows what later changes: so it is recorded that it was given (law 5).
    fn tell_as_it_stands(&self, inquiry: Inquiry) -> OrderDecision {
        if mutant::active(Mutant::AnswerUnrecorded) {
            return Decision::Answer(self.as_it_stands(inquiry));
        }
        Decision::change(OrderEvent::Answered(inquiry))
    }

    fn decide_cancel(
        &self,
        refund: RefundId,
        request: Option<RequestStamp>,
    ) -> Result<OrderDecision, Refusal> {
        self.present()?;
        match self.stage {
            // Some SKUs may not have answered yet; calling off now could race with their grant.
            Stage::Absent | Stage::Holding => Err(Refusal::InProgress { retry_after_ms: STEP_RETRY_MS }),
            Stage::Voiding { by_request: true, refund: _ } => running(self.cancel, request),
            Stage::Paying(Paying::Deferred { .. }) => Ok(Decision::Change(smallvec![
                OrderEvent::VoidRequested { by_request: true, refund },
                OrderEvent::PaymentVoided,
            ])),
            Stage::Paying(_) | Stage::Voiding { by_request: false, refund: _ } => {
                Ok(Decision::change(OrderEvent::VoidRequested { by_request: true, refund }))
            }
            Stage::Off(_) => Ok(self.tell_as_it_stands(Inquiry::Cancel)),
            Stage::Placed => self.decide_cancel_when_placed(refund, request),
        }
    }

    fn decide_cancel_when_placed(
        &self,
        refund: RefundId,
        request: Option<RequestStamp>,
    ) -> Result<OrderDecision, Refusal> {
        if let Some(pending) = self.cancelling() {
            return running(pending.request, request);
        }
        match self.state() {
            OrderState::Cancelled => return Ok(self.tell_as_it_stands(Inquiry::Cancel)),
            OrderState::Paid | OrderState::PartiallyRefunded => {}
            OrderState::PendingPayment
            | OrderState::Fulfilled
            | OrderState::Completed
            | OrderState::Refunded => {
                return Err(
                    self.illegal("cancel", "only an order of which nothing was fulfilled can be cancelled")
                );
            }
        }
        if !self.fulfilments.is_empty() {
            return Err(self.illegal("cancel", "units were handed to the carrier; refund them instead"));
        }
        if self.refunds_in(RefundState::Pending).next().is_some() {
            return Err(self.illegal("cancel", "a refund is under way; try again when it is done"));
        }
        self.free_for_a_refund("cancel", refund)?;
        let mut events: Events = smallvec![OrderEvent::CancelRequested { refund }];
        if self.unreserved_money() == 0 {
            events.push(OrderEvent::RefundSucceeded { refund, reference: None });
        }
        Ok(Decision::Change(events))
    }

    fn decide_refund(
        &self,
        refund: RefundId,
        amount: Option<Money>,
        lines: Option<&[LineUnits]>,
        restock: bool,
        reason: Option<&String>,
        request: Option<RequestStamp>,
    ) -> Result<OrderDecision, Refusal> {
        self.present()?;
        // By its key: a copy may come with an id of its own, and must not give the money back twice.
        if self.refunds_in(RefundState::Pending).any(|pending| same_key(pending.request, request)) {
            return Ok(Decision::Join);
        }
        if let Some(known) = self.refund(refund) {
            return match known.view.state {
                RefundState::Pending => Err(Refusal::InProgress { retry_after_ms: STEP_RETRY_MS }),
                RefundState::Succeeded => Ok(Decision::Answer(Answer::Refund(known.view.clone()))),
                RefundState::Failed => Err(self.illegal("refund", "this refund failed; make another")),
            };
        }
        let asked = self.known_units(lines.unwrap_or_default())?;
        self.known_amount(amount)?;
        match self.state() {
            OrderState::Paid
            | OrderState::Fulfilled
            | OrderState::Completed
            | OrderState::PartiallyRefunded => {}
            OrderState::PendingPayment | OrderState::Cancelled | OrderState::Refunded => {
                return Err(self.illegal("refund", "there is nothing to give back"));
            }
        }
        if self.cancelling().is_some() {
            return Err(self.illegal("refund", "the order is being cancelled"));
        }
        self.money_is_ours()?;
        self.free_for_a_refund("refund", refund)?;
        let left = self.unreserved_money();
        let asks_for_all = lines.is_none() && amount.is_none();
        let (lines, amount) = match (lines, amount) {
            (None, None) => (self.all_units(|line| self.refundable_units(line)), left),
            (None, Some(amount)) => (Vec::new(), amount.amount),
            (Some(_), Some(amount)) => (asked, amount.amount),
            (Some(_), None) => {
                let price = self.price_of(&asked);
                let price = price.ok_or_else(|| self.illegal("refund", "more units than the order has"))?;
                (asked, price)
            }
        };
        if let Some(units) = lines.iter().find(|units| units.quantity > self.refundable_units(units.line)) {
            let left = self.refundable_units(units.line);
            let detail =
                format!("{} units of line {} asked, {left} left to refund", units.quantity, units.line);
            return Err(self.illegal("refund", &detail));
        }
        if amount > left && !mutant::active(Mutant::RefundTooMuch) {
            let detail = format!("{amount} asked, {left} left to refund, in minor units");
            return Err(self.illegal("refund", &detail));
        }
        if asks_for_all && amount == 0 && lines.is_empty() {
            // Not a wrong request, only a late one: everything went back already.
            return Err(self.illegal("refund", "nothing is left to give back"));
        }
        if amount == 0 && lines.is_empty() {
            let message = "a refund gives back money or units; name one";
            return Err(invalid("/amount", "out_of_range", message));
        }
        let mut events: Events = smallvec![OrderEvent::RefundRequested {
            refund,
            amount: Money::new(amount, self.captured.currency),
            lines,
            restock,
            reason: reason.cloned(),
        }];
        if amount == 0 {
            // No money moves, so there is nobody to ask.
            events.push(OrderEvent::RefundSucceeded { refund, reference: None });
        }
        Ok(Decision::Change(events))
    }

    fn fulfilled_units(&self, lines: Option<&[LineUnits]>) -> Result<Vec<LineUnits>, Refusal> {
        self.present()?;
        let asked = self.known_units(lines.unwrap_or_default())?;
        match self.state() {
            OrderState::Paid | OrderState::PartiallyRefunded => {}
            OrderState::PendingPayment
            | OrderState::Fulfilled
            | OrderState::Completed
            | OrderState::Cancelled
            | OrderState::Refunded => return Err(self.illegal("fulfil", "there is nothing to hand over")),
        }
        if self.cancelling().is_some() {
            return Err(self.illegal("fulfil", "the order is being cancelled"));
        }
        self.money_is_ours()?;
        if self.fulfilments.len() >= STEPS_MAX {
            return Err(self.illegal("fulfil", &format!("an order has at most {STEPS_MAX} fulfilments")));
        }
        let units = match lines {
            Some(_) => asked,
            None => self.all_units(|line| self.fulfillable_units(line)),
        };
        if units.is_empty() {
            return Err(self.illegal("fulfil", "no units are named, or none are left"));
        }
        if let Some(units) = units.iter().find(|units| units.quantity > self.fulfillable_units(units.line)) {
            let left = self.fulfillable_units(units.line);
            let detail =
                format!("{} units of line {} asked, {left} left to fulfil", units.quantity, units.line);
            return Err(self.illegal("fulfil", &detail));
        }
        Ok(units)
    }

    /// `lines` with one entry a line, if all are lines of this order and no quantity is senseless.
    fn known_units(&self, lines: &[LineUnits]) -> Result<Vec<LineUnits>, Refusal> {
        let mut summed: Vec<LineUnits> = Vec::new();
        for (index, units) in lines.iter().enumerate() {
            if !self.lines.iter().any(|line| line.line == units.line) {
                return Err(invalid(
                    &format!("/lines/{index}/line_id"),
                    "unknown_line",
                    "the order has no such line",
                ));
            }
            let same = summed.iter_mut().find(|known| known.line == units.line);
            let held = same.as_ref().map_or(0, |known| known.quantity);
            let Some(quantity) = held.checked_add(units.quantity).filter(|_| units.quantity >= 1) else {
                let message = "a quantity is 1 or more";
                return Err(invalid(&format!("/lines/{index}/quantity"), "out_of_range", message));
            };
            match same {
                Some(known) => known.quantity = quantity,
                None => summed.push(LineUnits { line: units.line, quantity }),
            }
        }
        Ok(summed)
    }

    fn known_amount(&self, amount: Option<Money>) -> Result<(), Refusal> {
        let Some(amount) = amount else {
            return Ok(());
        };
        if amount.currency != self.totals.total.currency {
            let message = format!("this order is in {}", self.totals.total.currency);
            return Err(invalid("/amount/currency", "currency_mismatch", &message));
        }
        if amount.amount < 0 {
            return Err(invalid("/amount/amount", "out_of_range", "an amount is 0 or more"));
        }
        Ok(())
    }

    fn price_of(&self, units: &[LineUnits]) -> Option<i64> {
        units.iter().try_fold(0_i64, |sum, units| {
            let line = self.lines.iter().find(|line| line.line == units.line)?;
            sum.checked_add(line.unit_price.checked_times(units.quantity)?.amount)
        })
    }

    /// Every line with units left by `left`.
    fn all_units(&self, left: impl Fn(u32) -> i64) -> Vec<LineUnits> {
        let units = self.lines.iter().map(|line| LineUnits { line: line.line, quantity: left(line.line) });
        units.filter(|units| units.quantity > 0).collect()
    }

    fn free_for_a_refund(&self, action: &str, refund: RefundId) -> Result<(), Refusal> {
        if self.refunds.len() >= STEPS_MAX {
            return Err(self.illegal(action, &format!("an order has at most {STEPS_MAX} refunds")));
        }
        if self.refund(refund).is_some() {
            return Err(self.illegal(action, "the refund's id is taken; use another idempotency key"));
        }
        Ok(())
    }

    /// Nothing is handed over, and nothing given back, before the money was captured; that is a matter of a moment.
    fn money_is_ours(&self) -> Result<(), Refusal> {
        match self.funds {
            Funds::Authorized if mutant::active(Mutant::FulfilUnpaid) => Ok(()),
            Funds::Authorized => Err(Refusal::InProgress { retry_after_ms: STEP_RETRY_MS }),
            Funds::None | Funds::Captured | Funds::Released | Funds::Lost => Ok(()),
        }
    }

    fn present(&self) -> Result<(), Refusal> {
        if self.is_absent() { Err(Refusal::NotFound(Missing::Order)) } else { Ok(()) }
    }

    pub(super) fn refund(&self, id: RefundId) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.view.id == id)
    }

    /// The refund under way that calls the order off.
    pub(super) fn cancelling(&self) -> Option<&Refund> {
        self.refunds_in(RefundState::Pending).find(|refund| refund.cancels)
    }

    fn is_off(&self) -> bool {
        matches!(self.stage, Stage::Off(Off::Refused | Off::Declined | Off::Voided))
    }

    pub(super) fn illegal(&self, action: &str, detail: &str) -> Refusal {
        Refusal::IllegalTransition {
            from: self.state().name().into(),
            action: action.into(),
            detail: detail.into(),
        }
    }
}

/// `event`, unless the step was already taken or is not wanted.
fn once(wanted: bool, event: impl FnOnce() -> OrderEvent) -> OrderDecision {
    if wanted { Decision::change(event()) } else { Decision::Nothing }
}

/// What a copy of a running request is told, and what another request in its way.
fn running(first: Option<RequestStamp>, again: Option<RequestStamp>) -> Result<OrderDecision, Refusal> {
    if same_key(first, again) {
        return Ok(Decision::Join);
    }
    Err(Refusal::InProgress { retry_after_ms: STEP_RETRY_MS })
}

fn same_key(first: Option<RequestStamp>, again: Option<RequestStamp>) -> bool {
    match (first, again) {
        (Some(first), Some(again)) => first.key == again.key,
        (Some(_) | None, Some(_) | None) => false,
    }
}

fn invalid(pointer: &str, code: &str, message: &str) -> Refusal {
    Refusal::Validation(vec![FieldError::new(pointer, code, message)])
}
