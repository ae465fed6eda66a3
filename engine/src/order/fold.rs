//! The only mutation: one event folded into an order.

use crate::answer::{Answer, CheckoutResult, Folded, Refusal, Settlement};
use crate::identity::{Recorded, RefundId, RequestStamp};
use crate::money::Money;

use super::{
    FulfilmentView, Funds, Inquiry, LineUnits, NOTICES_MAX, Off, Order, OrderDraft, OrderEvent, OrderLine,
    OrderState, Paying, Refund, RefundState, RefundView, Stage, Stray, TIMELINE_MAX, TimelineEntry,
};

impl Order {
    /// Folds one event: total, deterministic, reads no clock. Panics only where the journal breaks an invariant.
    pub fn evolve(
        &mut self,
        event: &OrderEvent,
        recorded: Recorded,
        request: Option<RequestStamp>,
    ) -> Folded {
        if event.is_change() {
            self.version = self.version.checked_add(1).expect("law 10: a version fits u64");
            self.note(event, recorded);
        }
        match event {
            OrderEvent::Started(draft) => {
                assert!(self.is_absent(), "law 10: an order starts once");
                self.start(draft, recorded);
                self.checkout = request;
                Folded::default()
            }
            OrderEvent::UnitsReserved => {
                assert!(self.stage == Stage::Holding, "law 6: units are reserved after they were asked for");
                self.stage = Stage::Paying(Paying::Asked);
                self.reserved = Some(recorded);
                self.pinned_from = recorded.at;
                Folded::default()
            }
            OrderEvent::PaymentDeferred { until } => {
                assert!(
                    self.stage == Stage::Paying(Paying::Asked),
                    "law 8: a payment is put off before it was asked for"
                );
                self.stage = Stage::Paying(Paying::Deferred { until: *until });
                self.settle_payers(|order| Ok(order.checkout_answer(CheckoutResult::PaymentPending)))
            }
            OrderEvent::PaymentResumed => {
                assert!(
                    matches!(self.stage, Stage::Paying(Paying::Deferred { .. })),
                    "law 8: what is resumed was put off"
                );
                self.stage = Stage::Paying(Paying::Asked);
                self.pinned_from = recorded.at;
                Folded::default()
            }
            OrderEvent::UnitsRefused { shortages } => {
                assert!(self.stage == Stage::Holding, "law 6: units are refused after they were asked for");
                self.stage = Stage::Off(Off::Refused);
                self.settle_payers(|_| Err(Refusal::InsufficientStock(shortages.clone())))
            }
            OrderEvent::PaymentUnanswered => {
                self.stage = Stage::Paying(Paying::LookingUp);
                self.settle_payers(|order| Ok(order.checkout_answer(CheckoutResult::PaymentPending)))
            }
            OrderEvent::ActionRequired { reference, action } => {
                self.stage = Stage::Paying(Paying::ActionRequired);
                self.reference = Some(reference.clone());
                self.action = Some(action.clone());
                let action = action.clone();
                self.settle_payers(|order| {
                    Ok(order.checkout_answer(CheckoutResult::ActionRequired { action }))
                })
            }
            OrderEvent::ConfirmRequested => {
                self.stage = Stage::Paying(Paying::Confirming);
                self.confirm = request;
                Folded::default()
            }
            OrderEvent::VoidRequested { by_request, refund } => {
                assert!(!self.units_freed, "law 8: a charge is cancelled before its units go back");
                self.stage = Stage::Voiding { by_request: *by_request, refund: *refund };
                if *by_request {
                    self.cancel = request;
                }
                Folded::default()
            }
            OrderEvent::PaymentDeclined { reason, retryable } => {
                self.stage = Stage::Off(Off::Declined);
                let refusal = Refusal::PaymentDeclined { reason: reason.clone(), retryable: *retryable };
                self.settle_all(refusal)
            }
            OrderEvent::PaymentVoided => {
                let reason = match self.stage {
                    Stage::Voiding { by_request: true, refund: _ } => "the order was cancelled",
                    Stage::Absent
                    | Stage::Holding
                    | Stage::Paying(_)
                    | Stage::Voiding { .. }
                    | Stage::Placed
                    | Stage::Off(_) => "the payment timed out",
                };
                self.stage = Stage::Off(Off::Voided);
                self.settle_all(Refusal::PaymentDeclined { reason: reason.into(), retryable: true })
            }
            OrderEvent::Placed { reference } => {
                assert!(
                    matches!(self.stage, Stage::Paying(_) | Stage::Voiding { .. }),
                    "law 8: an order is placed once, while its units are pinned"
                );
                self.stage = Stage::Placed;
                if self.funds != Funds::Authorized && self.totals.total.amount > 0 {
                    self.captured = self.totals.total;
                    self.funds = Funds::Captured;
                }
                self.reference.clone_from(reference);
                self.action = None;
                self.settle_payers(|order| Ok(order.checkout_answer(CheckoutResult::Placed)))
            }
            OrderEvent::PaymentAuthorized { reference } => {
                assert!(
                    matches!(self.stage, Stage::Paying(_)),
                    "law 8: a payment is authorized while it is open"
                );
                self.funds = Funds::Authorized;
                self.reference = Some(reference.clone());
                Folded::default()
            }
            OrderEvent::PaymentCaptured => {
                assert!(self.funds == Funds::Authorized, "law 7: what is captured was authorized, once");
                self.funds = Funds::Captured;
                self.captured = self.totals.total;
                Folded::default()
            }
            OrderEvent::CaptureFailed { reason: _ } => {
                assert!(self.funds == Funds::Authorized, "law 7: what cannot be captured was authorized");
                self.funds = Funds::Lost;
                Folded::default()
            }
            OrderEvent::AuthorizationVoided => {
                assert!(self.funds == Funds::Authorized, "law 7: what is let go was authorized");
                self.funds = Funds::Released;
                let refund = self.cancelling().map(|refund| refund.view.id);
                let refund = refund.expect("law 7: an authorization is let go for a cancellation");
                // Nothing was ours, so nothing goes back but the units.
                self.pending_refund(refund).view.amount.amount = 0;
                self.fold_refund_succeeded(refund)
            }
            OrderEvent::Noticed { event, asks } => {
                if self.notices.len() >= NOTICES_MAX {
                    self.notices.remove(0);
                }
                self.notices.push(event.clone());
                if *asks {
                    self.stage = Stage::Paying(Paying::Confirming);
                }
                Folded::settle(request, || Ok(Answer::Noticed))
            }
            OrderEvent::StrayFound { reference } => {
                self.strays.push(Stray { reference: reference.clone(), settled: false });
                Folded::default()
            }
            OrderEvent::StrayReturned { reference } | OrderEvent::StrayKept { reference, reason: _ } => {
                let stray = self.strays.iter_mut().find(|stray| stray.reference == *reference);
                stray.expect("law 7: only money that was found goes back").settled = true;
                Folded::default()
            }
            OrderEvent::UnitsSold => {
                assert!(self.stage == Stage::Placed, "law 6: only a placed order sells");
                self.units_sold = true;
                Folded::default()
            }
            OrderEvent::UnitsFreed => {
                assert!(
                    matches!(self.stage, Stage::Off(_)),
                    "law 6: only an order that is off frees its units"
                );
                self.units_freed = true;
                Folded::default()
            }
            OrderEvent::CartTold => {
                self.cart_told = true;
                Folded::default()
            }
            OrderEvent::CancelRequested { refund } => {
                let amount = Money::new(self.unreserved_money(), self.captured.currency);
                let units = self.lines.iter();
                let units = units
                    .map(|line| LineUnits { line: line.line, quantity: self.refundable_units(line.line) });
                let lines = units.filter(|units| units.quantity > 0).collect();
                let view = self.refund_view(*refund, amount, lines, true, Some("cancelled".into()), recorded);
                let request = self.cancel.take().or(request);
                self.refunds.push(Refund { view, request, cancels: true, restocked: false });
                Folded::default()
            }
            OrderEvent::RefundRequested { refund, amount, lines, restock, reason } => {
                let view =
                    self.refund_view(*refund, *amount, lines.clone(), *restock, reason.clone(), recorded);
                self.refunds.push(Refund { view, request, cancels: false, restocked: false });
                Folded::default()
            }
            OrderEvent::RefundSucceeded { refund, reference: _ } => self.fold_refund_succeeded(*refund),
            OrderEvent::RefundFailed { refund, reason } => {
                let failed = self.pending_refund(*refund);
                failed.view.state = RefundState::Failed;
                let (request, cancels) = (failed.request.take(), failed.cancels);
                let action = if cancels { "cancel" } else { "refund" };
                let detail = format!("the provider refused the refund: {reason}");
                Folded::settle(request, || Err(self.illegal(action, &detail)))
            }
            OrderEvent::UnitsRestocked { refund } => {
                let done = self.refunds.iter_mut().find(|known| known.view.id == *refund);
                done.expect("law 7: only a known refund restocks").restocked = true;
                Folded::default()
            }
            OrderEvent::Fulfilled { fulfilment, lines, tracking } => {
                let view = FulfilmentView {
                    id: *fulfilment,
                    order: self.id,
                    lines: lines.clone(),
                    tracking: tracking.clone(),
                    created_at: recorded.at,
                };
                self.fold_fulfilled(&view, recorded);
                Folded::settle(request, || Ok(Answer::Fulfilment(view)))
            }
            OrderEvent::Completed => {
                assert!(self.state() == OrderState::Fulfilled, "law 10: only a fulfilled order is completed");
                self.completed = true;
                Folded::default()
            }
            OrderEvent::Answered(inquiry) => Folded::settle(request, || Ok(self.as_it_stands(*inquiry))),
        }
    }

    /// What a request is told that found nothing to change.
    pub(super) fn as_it_stands(&self, inquiry: Inquiry) -> Answer {
        match inquiry {
            Inquiry::Confirm if self.stage == Stage::Placed => self.checkout_answer(CheckoutResult::Placed),
            Inquiry::Confirm => self.checkout_answer(CheckoutResult::PaymentPending),
            Inquiry::Cancel => Answer::Order(Box::new(self.view())),
        }
    }

    fn start(&mut self, draft: &OrderDraft, recorded: Recorded) {
        let lines = draft.lines.iter().map(|line| OrderLine {
            line: line.line,
            sku: line.sku.clone(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price,
            total: line.unit_price.checked_times(line.quantity).expect("law 7: a cart's line totals fit"),
            fulfilled: 0,
            refunded: 0,
        });
        self.stage = Stage::Holding;
        self.cart = draft.cart;
        self.lines = lines.collect();
        self.totals = draft.totals;
        self.email.clone_from(&draft.email);
        self.provider.clone_from(&draft.provider);
        self.method.clone_from(&draft.method);
        self.shipping_address.clone_from(&draft.shipping_address);
        self.pin_ms = draft.pin_ms;
        self.started = recorded;
        self.captured = Money::zero(draft.totals.total.currency);
        self.refunded = self.captured;
    }

    fn fold_refund_succeeded(&mut self, refund: RefundId) -> Folded {
        let done = self.pending_refund(refund);
        done.view.state = RefundState::Succeeded;
        let (request, cancels, view) = (done.request.take(), done.cancels, done.view.clone());
        let refunded = self.refunded.checked_add(view.amount);
        self.refunded = refunded.expect("law 7: refunds are in the order's currency and fit");
        assert!(self.refunded.amount <= self.captured.amount, "law 7: refunded <= captured");
        for units in &view.lines {
            let line = self.line_mut(units.line);
            line.refunded = line.refunded.checked_add(units.quantity).expect("law 10: units fit");
            assert!(line.refunded <= line.quantity, "law 7: refunded units <= ordered units");
        }
        self.cancelled |= cancels;
        Folded::settle(request, || {
            Ok(if cancels { Answer::Order(Box::new(self.view())) } else { Answer::Refund(view) })
        })
    }

    fn fold_fulfilled(&mut self, view: &FulfilmentView, recorded: Recorded) {
        for units in &view.lines {
            let line = self.line_mut(units.line);
            line.fulfilled = line.fulfilled.checked_add(units.quantity).expect("law 10: units fit");
            assert!(line.fulfilled <= line.quantity, "law 10: fulfilled units <= ordered units");
        }
        self.fulfilments.push(view.clone());
        let left =
            |line: &OrderLine| line.quantity.saturating_sub(line.refunded).saturating_sub(line.fulfilled);
        if self.lines.iter().all(|line| left(line) <= 0) {
            self.fulfilled_at = Some(recorded.at);
        }
    }

    /// Tells checkout and confirmation, whichever wait, how the payment stands.
    fn settle_payers(&mut self, verdict: impl FnOnce(&Self) -> Result<Answer, Refusal>) -> Folded {
        let payers = [self.checkout.take(), self.confirm.take()];
        if payers.iter().all(Option::is_none) {
            return Folded::default();
        }
        let verdict = verdict(self);
        let settlements = payers.into_iter().flatten();
        let settlements =
            settlements.map(|request| Settlement { request, verdict: verdict.clone() }).collect();
        Folded { settlements, ..Folded::default() }
    }

    /// Tells everybody that the order is off: who wanted to pay, and who wanted exactly this.
    fn settle_all(&mut self, refusal: Refusal) -> Folded {
        let cancel = self.cancel.take();
        let mut folded = self.settle_payers(|_| Err(refusal));
        let cancelled =
            cancel.map(|request| Settlement { request, verdict: Ok(Answer::Order(Box::new(self.view()))) });
        folded.settlements.extend(cancelled);
        folded
    }

    fn refund_view(
        &self,
        id: RefundId,
        amount: Money,
        lines: Vec<LineUnits>,
        restock: bool,
        reason: Option<String>,
        recorded: Recorded,
    ) -> RefundView {
        assert!(self.stage == Stage::Placed, "law 7: money goes back only after it came");
        assert!(self.refund(id).is_none(), "law 7: a refund is asked for once");
        RefundView {
            id,
            order: self.id,
            amount,
            lines,
            restock,
            reason,
            state: RefundState::Pending,
            created_at: recorded.at,
        }
    }

    fn pending_refund(&mut self, id: RefundId) -> &mut Refund {
        let refund = self.refunds.iter_mut().find(|refund| refund.view.id == id);
        let refund = refund.expect("law 7: only a known refund ends");
        assert!(refund.view.state == RefundState::Pending, "law 7: a refund ends once");
        refund
    }

    fn line_mut(&mut self, line: u32) -> &mut OrderLine {
        self.lines
            .iter_mut()
            .find(|known| known.line == line)
            .expect("law 10: units are of a line of the order")
    }

    fn note(&mut self, event: &OrderEvent, recorded: Recorded) {
        if self.timeline.len() >= TIMELINE_MAX {
            return;
        }
        let (kind, detail) = event.described();
        self.timeline.push(TimelineEntry {
            position: recorded.position,
            at: recorded.at,
            kind: kind.into(),
            detail,
        });
    }
}

impl OrderEvent {
    /// Whether it is a step of the order's life, which its version counts and its timeline shows.
    pub fn is_change(&self) -> bool {
        !matches!(self, Self::Answered(_))
    }

    /// Its wire name, and what people want to know of it: a step of the timeline.
    pub fn described(&self) -> (&'static str, Option<String>) {
        describe(self)
    }
}

fn describe(event: &OrderEvent) -> (&'static str, Option<String>) {
    match event {
        OrderEvent::Started(draft) => {
            ("started", Some(format!("{} lines, {}", draft.lines.len(), draft.totals.total)))
        }
        OrderEvent::UnitsReserved => ("units_reserved", None),
        OrderEvent::UnitsRefused { shortages } => {
            let short =
                shortages.iter().map(|s| format!("{}: {} asked, {} there", s.sku, s.requested, s.available));
            ("units_refused", Some(short.collect::<Vec<_>>().join("; ")))
        }
        OrderEvent::PaymentUnanswered => ("payment_unanswered", None),
        OrderEvent::ActionRequired { reference, action: _ } => ("action_required", Some(reference.clone())),
        OrderEvent::ConfirmRequested => ("confirm_requested", None),
        OrderEvent::VoidRequested { by_request, refund: _ } => {
            let why = if *by_request { "asked for" } else { "the payment took too long" };
            ("void_requested", Some(why.into()))
        }
        OrderEvent::PaymentDeclined { reason, retryable: _ } => ("payment_declined", Some(reason.clone())),
        OrderEvent::PaymentVoided => ("payment_voided", None),
        OrderEvent::Placed { reference } => ("placed", reference.clone()),
        OrderEvent::UnitsSold => ("units_sold", None),
        OrderEvent::UnitsFreed => ("units_freed", None),
        OrderEvent::CartTold => ("cart_told", None),
        OrderEvent::CancelRequested { refund } => ("cancel_requested", Some(refund.to_string())),
        OrderEvent::RefundRequested { refund, amount, lines: _, restock: _, reason } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            ("refund_requested", Some(format!("{refund}, {amount}{reason}")))
        }
        OrderEvent::RefundSucceeded { refund, reference: _ } => {
            ("refund_succeeded", Some(refund.to_string()))
        }
        OrderEvent::RefundFailed { refund, reason } => ("refund_failed", Some(format!("{refund}: {reason}"))),
        OrderEvent::UnitsRestocked { refund } => ("units_restocked", Some(refund.to_string())),
        OrderEvent::Fulfilled { fulfilment, lines: _, tracking } => {
            let tracking = tracking.as_ref().map(|tracking| format!(", {tracking}")).unwrap_or_default();
            ("fulfilled", Some(format!("{fulfilment}{tracking}")))
        }
        OrderEvent::Completed => ("completed", None),
        OrderEvent::PaymentDeferred { until: _ } => ("payment_deferred", None),
        OrderEvent::PaymentResumed => ("payment_resumed", None),
        OrderEvent::PaymentAuthorized { reference } => ("payment_authorized", Some(reference.clone())),
        OrderEvent::PaymentCaptured => ("payment_captured", None),
        OrderEvent::CaptureFailed { reason } => ("capture_failed", Some(reason.clone())),
        OrderEvent::AuthorizationVoided => ("authorization_voided", None),
        OrderEvent::Noticed { event, asks: _ } => ("provider_notice", Some(event.clone())),
        OrderEvent::StrayFound { reference } => ("stray_payment_found", Some(reference.clone())),
        OrderEvent::StrayReturned { reference } => ("stray_payment_returned", Some(reference.clone())),
        OrderEvent::StrayKept { reference, reason } => {
            ("stray_payment_kept", Some(format!("{reference}: {reason}")))
        }
        OrderEvent::Answered(_) => ("answered", None),
    }
}
