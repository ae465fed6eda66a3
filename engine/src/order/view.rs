//! What an order shows: its state and payment by name, its view, its summary, the reservation behind it.

use crate::answer::{Answer, CheckoutResult, ReservationRecord, ReservationState};
use crate::identity::{Fingerprint, PaymentId, Sku, Timestamp};
use crate::invariants::Violation;
use crate::money::Money;

use super::{
    Funds, NOTICES_MAX, Off, Order, OrderState, OrderSummary, OrderView, Paying, PaymentState,
    RETURN_WINDOW_MS, Refund, RefundState, STEPS_MAX, STRAYS_MAX, Stage, sum_by_sku,
};

impl OrderState {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::PendingPayment => "pending_payment",
            Self::Paid => "paid",
            Self::Fulfilled => "fulfilled",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
        }
    }
}

impl Order {
    /// Where it stands: derived, never stored, so that money, units and state cannot disagree.
    pub fn state(&self) -> OrderState {
        match self.stage {
            Stage::Absent | Stage::Holding | Stage::Paying(_) | Stage::Voiding { .. } => {
                OrderState::PendingPayment
            }
            Stage::Off(Off::Refused | Off::Declined | Off::Voided) => OrderState::Cancelled,
            Stage::Placed if self.cancelled => OrderState::Cancelled,
            Stage::Placed if self.is_refunded() => OrderState::Refunded,
            Stage::Placed if self.refunds_in(RefundState::Succeeded).next().is_some() => {
                OrderState::PartiallyRefunded
            }
            Stage::Placed if self.completed => OrderState::Completed,
            Stage::Placed if self.fulfilled_at.is_some() => OrderState::Fulfilled,
            Stage::Placed => OrderState::Paid,
        }
    }

    /// Where its payment stands.
    pub fn payment_state(&self) -> PaymentState {
        match self.stage {
            Stage::Absent | Stage::Holding | Stage::Off(Off::Refused) => PaymentState::None,
            Stage::Paying(Paying::ActionRequired) => PaymentState::RequiresAction,
            Stage::Paying(
                Paying::Deferred { .. } | Paying::Asked | Paying::LookingUp | Paying::Confirming,
            )
            | Stage::Voiding { .. } => PaymentState::Pending,
            Stage::Off(Off::Declined) => PaymentState::Declined,
            Stage::Off(Off::Voided) => PaymentState::Voided,
            Stage::Placed => match self.funds {
                Funds::None => PaymentState::NotRequired,
                Funds::Authorized => PaymentState::Authorized,
                Funds::Released => PaymentState::Voided,
                Funds::Lost => PaymentState::Declined,
                Funds::Captured if self.refunded == self.captured => PaymentState::Refunded,
                Funds::Captured if self.refunded.amount > 0 => PaymentState::PartiallyRefunded,
                Funds::Captured => PaymentState::Captured,
            },
        }
    }

    /// The order as its owner sees it. Before it started there is nothing to show but its id.
    pub fn view(&self) -> OrderView {
        let payment_id = match self.payment_state() {
            PaymentState::None | PaymentState::NotRequired => None,
            PaymentState::Pending
            | PaymentState::RequiresAction
            | PaymentState::Authorized
            | PaymentState::Captured
            | PaymentState::Declined
            | PaymentState::Voided
            | PaymentState::PartiallyRefunded
            | PaymentState::Refunded => Some(PaymentId(self.id.0)),
        };
        OrderView {
            id: self.id,
            number: self.started.position.0.to_string(),
            cart: self.cart,
            state: self.state(),
            lines: self.lines.clone(),
            totals: self.totals,
            email: self.email.clone(),
            shipping_address: self.shipping_address.clone(),
            provider: self.provider.clone(),
            payment_state: self.payment_state(),
            payment_id,
            captured: self.captured,
            refunded: self.refunded,
            created_at: self.started.at,
            version: self.version,
            refunds: self.refunds.iter().map(|refund| refund.view.clone()).collect(),
            fulfilments: self.fulfilments.clone(),
        }
    }

    /// The few fields by which orders are listed.
    pub fn summary(&self) -> OrderSummary {
        OrderSummary {
            created_at: self.started.at,
            id: self.id,
            state: self.state(),
            email: self.email.clone(),
        }
    }

    /// The reservation of the same bits, once its units were held: `held` while the payment is open, then as it ended.
    pub fn reservation_record(&self) -> Option<ReservationRecord> {
        let reserved = self.reserved?;
        let state = match self.stage {
            Stage::Absent | Stage::Holding | Stage::Paying(_) | Stage::Voiding { .. } => {
                ReservationState::Held
            }
            Stage::Placed => ReservationState::Committed,
            Stage::Off(Off::Refused | Off::Declined | Off::Voided) => ReservationState::Released,
        };
        Some(ReservationRecord {
            id: self.id.reservation(),
            items: self.units().into_iter().collect(),
            state,
            created_at: reserved.at,
            ttl_ms: self.pin_ms,
            expires_at: match self.stage {
                Stage::Paying(Paying::Deferred { until }) => until,
                Stage::Absent
                | Stage::Holding
                | Stage::Paying(_)
                | Stage::Voiding { .. }
                | Stage::Placed
                | Stage::Off(_) => self.pinned_from.plus_ms(self.pin_ms),
            },
            position: reserved.position,
            fingerprint: Fingerprint(0),
            order: Some(self.id),
        })
    }

    /// When it must be woken: at the pin's cap while the payment is open, when it has waited long enough for its provider, at
    /// the end of the return window later.
    pub fn due(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Paying(Paying::Deferred { until }) => Some(until),
            Stage::Paying(_) => Some(self.pinned_from.plus_ms(self.pin_ms)),
            Stage::Placed if self.state() == OrderState::Fulfilled => {
                self.fulfilled_at.map(|at| at.plus_ms(RETURN_WINDOW_MS))
            }
            Stage::Absent | Stage::Holding | Stage::Voiding { .. } | Stage::Placed | Stage::Off(_) => None,
        }
    }

    /// Whether units of this SKU that are held for it are to stay: it asks for them, keeps them or is about to sell them.
    pub fn keeps_units_of(&self, sku: &Sku) -> bool {
        let keeps = match self.stage {
            Stage::Holding | Stage::Paying(_) | Stage::Voiding { .. } => true,
            Stage::Placed => !self.units_sold,
            Stage::Absent | Stage::Off(_) => false,
        };
        keeps && self.lines.iter().any(|line| line.sku == *sku)
    }

    /// Whether it may leave memory: nothing to do, nobody waits, no payment open.
    pub fn is_finished(&self) -> bool {
        let waited_for = self.checkout.is_some() || self.confirm.is_some() || self.cancel.is_some();
        let open = matches!(self.stage, Stage::Paying(_));
        !waited_for && !open && self.obligations().is_empty()
    }

    /// Checks what an order alone can show: laws 6, 7, 8 and 11.
    pub fn check(&self) -> Result<(), Violation> {
        let broken =
            |law: u8, seen: String| Err(Violation { law, entity: format!("order {}", self.id), seen });
        let owed = self
            .refunds_in(RefundState::Succeeded)
            .try_fold(0, |sum: i64, refund| sum.checked_add(refund.view.amount.amount));
        if owed != Some(self.refunded.amount) || self.unreserved_money() < 0 {
            return broken(
                7,
                format!("{} of {} refunded, {owed:?} by refunds", self.refunded, self.captured),
            );
        }
        let placed = self.stage == Stage::Placed;
        if self.captured.amount != if self.funds == Funds::Captured { self.totals.total.amount } else { 0 } {
            return broken(7, format!("{} captured of {}", self.captured, self.totals.total));
        }
        let unpaid = self.funds == Funds::None;
        if unpaid != (!placed || self.totals.total.amount == 0) {
            return broken(7, format!("{:?} funds at {:?}", self.funds, self.stage));
        }
        if !self.fulfilments.is_empty() && !matches!(self.funds, Funds::None | Funds::Captured) {
            return broken(7, "units were handed over before they were paid".into());
        }
        if matches!(self.stage, Stage::Paying(Paying::Deferred { .. })) && self.reference.is_some() {
            return broken(8, "a payment is put off that the provider knows of".into());
        }
        if matches!(self.funds, Funds::Released | Funds::Lost) && !self.cancelled {
            return broken(7, "units are kept that nobody pays for".into());
        }
        if self.units_sold && !placed {
            return broken(6, "units are sold without a placed order".into());
        }
        if self.units_freed && !matches!(self.stage, Stage::Off(_)) {
            return broken(8, "units went back while a charge may succeed".into());
        }
        for line in &self.lines {
            let free = self.refundable_units(line.line);
            if free < 0 || !(0..=line.quantity).contains(&line.fulfilled) || line.refunded < 0 {
                return broken(
                    6,
                    format!("line {}: {} refunded, {} fulfilled", line.line, line.refunded, line.fulfilled),
                );
            }
        }
        let (refunds, fulfilments) = (self.refunds.len(), self.fulfilments.len());
        let (strays, notices) = (self.strays.len(), self.notices.len());
        if refunds.max(fulfilments) > STEPS_MAX || strays > STRAYS_MAX || notices > NOTICES_MAX {
            return broken(
                11,
                format!("{refunds} refunds, {fulfilments} fulfilments, {strays} strays, {notices} notices"),
            );
        }
        Ok(())
    }

    /// What it costs.
    pub fn total(&self) -> Money {
        self.totals.total
    }

    /// What a checkout came to, with the order as it is now.
    pub(super) fn checkout_answer(&self, result: CheckoutResult) -> Answer {
        Answer::Checkout(result, Box::new(self.view()))
    }

    /// All its units, summed by SKU.
    pub(super) fn units(&self) -> Vec<crate::answer::Item> {
        sum_by_sku(self.lines.iter().map(|line| (&line.sku, line.quantity)))
    }

    pub(super) fn refunds_in(&self, state: RefundState) -> impl Iterator<Item = &Refund> {
        self.refunds.iter().filter(move |refund| refund.view.state == state)
    }

    /// Minor units that no refund has taken or may yet take, of what is ours or held for us.
    pub(super) fn unreserved_money(&self) -> i64 {
        let pending = self.refunds_in(RefundState::Pending).map(|refund| refund.view.amount.amount);
        let paid = match self.funds {
            Funds::Authorized => self.totals.total.amount,
            Funds::None | Funds::Captured | Funds::Released | Funds::Lost => self.captured.amount,
        };
        pending.fold(paid.saturating_sub(self.refunded.amount), i64::saturating_sub)
    }

    /// Units of a line that no refund has taken or may yet take.
    pub(super) fn refundable_units(&self, line: u32) -> i64 {
        let Some(known) = self.lines.iter().find(|known| known.line == line) else {
            return 0;
        };
        let pending = self
            .refunds_in(RefundState::Pending)
            .flat_map(|refund| &refund.view.lines)
            .filter(|units| units.line == line)
            .map(|units| units.quantity);
        pending.fold(known.quantity.saturating_sub(known.refunded), i64::saturating_sub)
    }

    /// Units of a line that may still be handed to the carrier.
    pub(super) fn fulfillable_units(&self, line: u32) -> i64 {
        let fulfilled = self.lines.iter().find(|known| known.line == line).map_or(0, |known| known.fulfilled);
        self.refundable_units(line).saturating_sub(fulfilled).max(0)
    }

    fn is_refunded(&self) -> bool {
        if self.captured.amount > 0 {
            self.refunded == self.captured
        } else if self.funds == Funds::Authorized {
            false
        } else {
            self.lines.iter().all(|line| line.refunded == line.quantity)
        }
    }
}
