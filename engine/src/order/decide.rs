//! The guards: each command's refusals in order of precedence, then the events.

use smallvec::{SmallVec, smallvec};

use crate::answer::{Answer, CheckoutResult, FieldError, Missing, Refusal};
use crate::envelope::{Decision, Envelope};
use crate::identity::{RefundId, RequestStamp, Timestamp};
use crate::money::Money;
use crate::mutant::{self, Mutant};
use crate::payment::{ChargeOutcome, RefundOutcome, VoidOutcome};

use super::{
    LineUnits, Off, Order, OrderCommand, OrderEvent, OrderState, Paying, Refund, RefundState, STEPS_MAX,
    Stage,
};

/// An order decision.
type OrderDecision = Decision<OrderEvent>;

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
            OrderCommand::UnitsHeld => self.decide_units_held(),
            OrderCommand::UnitsRefused { shortages } => once(self.stage == Stage::Holding, || {
                OrderEvent::UnitsRefused { shortages: shortages.clone() }
            }),
            OrderCommand::ChargeAnswered(outcome) => self.decide_charge_answered(outcome),
            OrderCommand::VoidAnswered(outcome) => self.decide_void_answered(outcome),
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

    fn decide_units_held(&self) -> OrderDecision {
        if self.stage != Stage::Holding {
            return Decision::Nothing;
        }
        if self.totals.total.amount > 0 {
            return Decision::change(OrderEvent::UnitsReserved);
        }
        // Nothing to pay: held and placed in one breath.
        Decision::Change(smallvec![OrderEvent::UnitsReserved, OrderEvent::Placed { reference: None }])
    }

    fn decide_charge_answered(&self, outcome: &ChargeOutcome) -> OrderDecision {
        let paying = match self.stage {
            Stage::Paying(paying) => Some(paying),
            Stage::Voiding { .. } => None,
            // Late or doubled: the payment has had its definite end.
            Stage::Absent | Stage::Holding | Stage::Placed | Stage::Off(_) => return Decision::Nothing,
        };
        match outcome {
            ChargeOutcome::Captured { reference } => self.placed(reference),
            ChargeOutcome::ActionRequired { reference, client_secret: _ }
                if mutant::active(Mutant::PlaceUnpaid) =>
            {
                self.placed(reference)
            }
            ChargeOutcome::Unknown if mutant::active(Mutant::FreeOnUnknown) => {
                Decision::change(OrderEvent::PaymentDeclined { reason: "unknown".into(), retryable: true })
            }
            ChargeOutcome::Declined { reason, retryable } => Decision::change(OrderEvent::PaymentDeclined {
                reason: reason.clone(),
                retryable: *retryable,
            }),
            ChargeOutcome::ActionRequired { reference, client_secret } => match paying {
                Some(Paying::Asked | Paying::LookingUp | Paying::Confirming) => {
                    Decision::change(OrderEvent::ActionRequired {
                        reference: reference.clone(),
                        client_secret: client_secret.clone(),
                    })
                }
                Some(Paying::ActionRequired) | None => Decision::Nothing,
            },
            ChargeOutcome::Unknown => match paying {
                Some(Paying::Asked | Paying::Confirming) => Decision::change(OrderEvent::PaymentUnanswered),
                Some(Paying::LookingUp | Paying::ActionRequired) | None => Decision::Nothing,
            },
        }
    }

    fn decide_void_answered(&self, outcome: &VoidOutcome) -> OrderDecision {
        match self.stage {
            Stage::Voiding { .. } => match outcome {
                VoidOutcome::Voided => Decision::change(OrderEvent::PaymentVoided),
                VoidOutcome::AlreadyCaptured { reference } => self.placed(reference),
                VoidOutcome::Unknown => Decision::Nothing,
            },
            Stage::Absent | Stage::Holding | Stage::Paying(_) | Stage::Placed | Stage::Off(_) => {
                Decision::Nothing
            }
        }
    }

    /// The money is ours: the order stands, and is called off again where its owner had asked for that meanwhile.
    fn placed(&self, reference: &str) -> OrderDecision {
        let mut events: SmallVec<[OrderEvent; 1]> =
            smallvec![OrderEvent::Placed { reference: Some(reference.into()) }];
        if let Stage::Voiding { by_request: true, refund } = self.stage {
            events.push(OrderEvent::CancelRequested { refund });
        }
        Decision::Change(events)
    }

    fn decide_refund_answered(&self, refund: RefundId, outcome: &RefundOutcome) -> OrderDecision {
        let pending = self.refund(refund).is_some_and(|known| known.view.state == RefundState::Pending);
        if !pending {
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
            Stage::Paying(Paying::Asked | Paying::LookingUp) => {
                Ok(Decision::Answer(self.checkout_answer(CheckoutResult::PaymentPending)))
            }
            Stage::Placed if self.state() != OrderState::Cancelled => {
                Ok(Decision::Answer(self.checkout_answer(CheckoutResult::Placed)))
            }
            Stage::Voiding { .. } => Err(self.illegal("confirm", "the payment is being cancelled")),
            Stage::Placed | Stage::Off(_) => {
                Err(self.illegal("confirm", "the order is off; check out again"))
            }
        }
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
            Stage::Paying(_) | Stage::Voiding { by_request: false, refund: _ } => {
                Ok(Decision::change(OrderEvent::VoidRequested { by_request: true, refund }))
            }
            Stage::Off(_) => Ok(Decision::Answer(Answer::Order(Box::new(self.view())))),
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
            OrderState::Cancelled => return Ok(Decision::Answer(Answer::Order(Box::new(self.view())))),
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
        let mut events: SmallVec<[OrderEvent; 1]> = smallvec![OrderEvent::CancelRequested { refund }];
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
        let mut events: SmallVec<[OrderEvent; 1]> = smallvec![OrderEvent::RefundRequested {
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

    fn present(&self) -> Result<(), Refusal> {
        if self.is_absent() { Err(Refusal::NotFound(Missing::Order)) } else { Ok(()) }
    }

    pub(super) fn refund(&self, id: RefundId) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.view.id == id)
    }

    /// The refund under way that calls the order off.
    fn cancelling(&self) -> Option<&Refund> {
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
