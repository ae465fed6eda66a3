//! What an order's state demands: a pure function of it, so that a crash resumes by asking again.

use smallvec::{SmallVec, smallvec};

use crate::identity::RequestStamp;
use crate::mutant::{self, Mutant};
use crate::payment::ChargeRequest;

use super::{Funds, Order, OrderObligation, Paying, Refund, RefundState, Stage, sum_by_sku};

impl Order {
    /// The work its state demands and no event has finished, in the order in which it became due.
    ///
    /// Law 8: `FreeUnits` shows only once the charge definitely cannot succeed, and while the charge is being
    /// cancelled nothing else is asked of the provider about it.
    pub fn obligations(&self) -> SmallVec<[OrderObligation; 1]> {
        let mut obligations: SmallVec<[OrderObligation; 1]> = match self.stage {
            Stage::Paying(Paying::Deferred { .. }) => {
                let since = self.reserved.unwrap_or(self.started).position;
                smallvec![OrderObligation::AwaitProvider { since }]
            }
            Stage::Holding => smallvec![OrderObligation::HoldUnits(self.units())],
            Stage::Paying(Paying::Asked) => smallvec![OrderObligation::Charge(self.charge())],
            Stage::Paying(Paying::LookingUp) => {
                smallvec![OrderObligation::LookUp {
                    charge: self.charge(),
                    reference: self.reference.clone()
                }]
            }
            Stage::Paying(Paying::Confirming) => {
                let reference = self.reference.clone().unwrap_or_default();
                smallvec![OrderObligation::Confirm { charge: self.charge(), reference }]
            }
            Stage::Voiding { by_request: _, refund: _ } => {
                smallvec![OrderObligation::Void { charge: self.charge(), reference: self.reference.clone() }]
            }
            Stage::Off(_) if !self.units_freed => smallvec![OrderObligation::FreeUnits(self.units())],
            Stage::Off(_) if !self.cart_told => {
                smallvec![OrderObligation::TellCart { cart: self.cart, placed: false }]
            }
            Stage::Absent | Stage::Paying(Paying::ActionRequired) | Stage::Off(_) => SmallVec::new(),
            Stage::Placed => self.obligations_when_placed(),
        };
        let open = self.strays.iter().enumerate().filter(|(_, stray)| !stray.settled);
        obligations.extend(open.map(|(nth, stray)| OrderObligation::ReturnStray {
            nth,
            charge: self.charge(),
            reference: stray.reference.clone(),
        }));
        obligations
    }

    /// Whether authorized money is to be let go: the order was called off before it was captured.
    pub(super) fn wants_authorization_voided(&self) -> bool {
        self.stage == Stage::Placed && self.funds == Funds::Authorized && self.cancelling().is_some()
    }

    fn obligations_when_placed(&self) -> SmallVec<[OrderObligation; 1]> {
        let mut obligations = SmallVec::new();
        if !self.units_sold {
            obligations.push(OrderObligation::SellUnits(self.units()));
        }
        if !self.cart_told {
            obligations.push(OrderObligation::TellCart { cart: self.cart, placed: true });
        }
        if self.wants_authorization_voided() {
            obligations
                .push(OrderObligation::Void { charge: self.charge(), reference: self.reference.clone() });
        } else if self.funds == Funds::Authorized && self.wants_capture() {
            let reference = self.reference.clone().unwrap_or_default();
            obligations.push(OrderObligation::Capture { charge: self.charge(), reference });
        }
        for refund in &self.refunds {
            if refund.view.state == RefundState::Pending && self.funds != Funds::Authorized {
                obligations.push(OrderObligation::Refund {
                    refund: refund.view.id,
                    charge: self.charge(),
                    reference: self.reference.clone().unwrap_or_default(),
                    amount: refund.view.amount,
                });
            }
            if self.wants_restock(refund) {
                let units = refund.view.lines.iter().filter_map(|units| {
                    let line = self.lines.iter().find(|line| line.line == units.line)?;
                    Some((&line.sku, units.quantity))
                });
                obligations
                    .push(OrderObligation::Restock { refund: refund.view.id, items: sum_by_sku(units) });
            }
        }
        obligations
    }

    /// Whether authorized money is to be taken: its units are sold.
    fn wants_capture(&self) -> bool {
        let sold = self.units_sold || mutant::active(Mutant::CaptureBeforeSold);
        sold && !mutant::active(Mutant::LoseCapture)
    }

    /// Whether units of `refund` are to go back on the shelf now: never before they were sold.
    pub(super) fn wants_restock(&self, refund: &Refund) -> bool {
        let view = &refund.view;
        self.units_sold
            && view.state == RefundState::Succeeded
            && view.restock
            && !refund.restocked
            && !view.lines.is_empty()
    }

    /// The one charge of this order: the same key however often it is asked (law 7).
    fn charge(&self) -> ChargeRequest {
        ChargeRequest {
            key: format!("{}:charge", self.id),
            order: self.id,
            amount: self.totals.total,
            method: self.method.clone(),
            asked_at: self.pinned_from,
        }
    }
}

impl Order {
    /// The requests that wait for this order's verdict: what an index of running requests is rebuilt from.
    pub fn requests(&self) -> SmallVec<[RequestStamp; 1]> {
        let open = self.refunds.iter().filter(|refund| refund.view.state == RefundState::Pending);
        [self.checkout, self.confirm, self.cancel]
            .into_iter()
            .chain(open.map(|refund| refund.request))
            .flatten()
            .collect()
    }
}
