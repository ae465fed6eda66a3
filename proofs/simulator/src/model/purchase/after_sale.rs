//! What becomes of an order that stands: refunds, units put back, fulfilments. Laws 1, 6, 7.

use doorbuster_engine::answer::{Answer, Refusal};
use doorbuster_engine::identity::{RefundId, RequestStamp, Sku, Timestamp};
use doorbuster_engine::order::{FulfilmentView, LineUnits, OrderState, RefundState, RefundView};

use super::fold::{answer, refuse};
use super::{Purchase, Purse, state_name};
use crate::broken::{Broken, demand};
use crate::ledger::{Ledger, Status};
use crate::model::{Standing, Verdict};
use crate::sometimes;

/// Days until a fulfilled order is completed: 14.
const RETURN_WINDOW_MS: u64 = 14 * 86_400_000;

/// Money and units on their way back.
#[derive(Clone, Debug)]
pub(super) struct Return {
    pub(super) view: RefundView,
    request: Option<RequestStamp>,
    cancels: bool,
    restocked: bool,
}

impl Return {
    /// Whether its units are still to be put back on the shelf.
    pub(super) fn is_to_restock(&self) -> bool {
        self.view.state == RefundState::Succeeded && self.view.restock && !self.restocked
    }
}

/// What an event says to whoever waits, or the law it breaks.
type Verdicts = Result<Vec<Verdict>, Broken>;

impl Purchase {
    /// Units of a SKU that a refund puts back on the shelf now.
    pub fn to_restock(&self, refund: u128, sku: &Sku) -> Option<i64> {
        let back = self.returns.iter().find(|back| back.view.id.0 == refund)?;
        let due = self.sold && back.is_to_restock();
        let units = back
            .view
            .lines
            .iter()
            .filter(|units| self.lines.iter().any(|line| line.line == units.line && line.sku == *sku));
        due.then(|| units.map(|units| units.quantity).sum())
    }

    /// Minor units, ours or held for us, that no refund has taken or asks for.
    fn money_left(&self) -> i64 {
        let taken = self.returns.iter().filter(|back| back.view.state != RefundState::Failed);
        let paid = if self.purse == Purse::Held { self.total().amount } else { self.captured() };
        paid - taken.map(|back| back.view.amount.amount).sum::<i64>()
    }

    /// Units of a line that no refund has taken or asks for.
    pub fn units_left(&self, line: u32) -> i64 {
        let ordered = self.lines.iter().find(|known| known.line == line).map_or(0, |known| known.quantity);
        let taken = self.returns.iter().filter(|back| back.view.state != RefundState::Failed);
        let taken = taken.flat_map(|back| &back.view.lines).filter(|units| units.line == line);
        ordered - taken.map(|units| units.quantity).sum::<i64>()
    }

    fn begin_return(&mut self, view: RefundView, request: Option<RequestStamp>, cancels: bool) -> Verdicts {
        demand(self.is_placed(), 7, || format!("{} refunds while {:?}", self.id, self.stage))?;
        let known = self.returns.iter().any(|back| back.view.id == view.id);
        demand(!known, 7, || format!("{} is asked for twice", view.id))?;
        demand((0..=self.money_left()).contains(&view.amount.amount), 7, || {
            format!("{}: {} is to go back, {} is left", self.id, view.amount.amount, self.money_left())
        })?;
        for units in &view.lines {
            let left = self.units_left(units.line);
            demand((1..=left).contains(&units.quantity), 6, || {
                format!(
                    "{}: {} units of line {} go back, {left} are left",
                    self.id, units.quantity, units.line
                )
            })?;
        }
        self.returns.push(Return { view, request, cancels, restocked: false });
        Ok(Vec::new())
    }

    /// It is called off after it was placed: everything goes back that has not gone yet.
    pub(super) fn call_off(&mut self, refund: RefundId, standing: Standing) -> Verdicts {
        let request = self.cancel.take().or(standing.request);
        if self.purse == Purse::Held {
            self.void_wanted = true;
        }
        let units =
            self.lines.iter().map(|line| LineUnits { line: line.line, quantity: self.units_left(line.line) });
        let view = RefundView {
            id: refund,
            order: self.id,
            amount: self.money(self.money_left()),
            lines: units.filter(|units| units.quantity > 0).collect(),
            restock: true,
            reason: Some("cancelled".into()),
            state: RefundState::Pending,
            created_at: Timestamp(standing.at_ms),
        };
        sometimes!("an order was cancelled after payment");
        self.begin_return(view, request, true)
    }

    /// A part of it is to go back.
    pub(super) fn refund_requested(&mut self, view: RefundView, request: Option<RequestStamp>) -> Verdicts {
        demand(self.purse != Purse::Held, 7, || {
            format!("{}: {} gives back what is not ours yet", self.id, view.id)
        })?;
        self.begin_return(view, request, false)
    }

    /// What was held for us is let go, for the order is called off: nothing goes back but its units.
    pub(super) fn authorization_voided(&mut self, ledger: &Ledger) -> Verdicts {
        demand(self.purse == Purse::Held, 7, || format!("{} lets go what is {:?}", self.id, self.purse))?;
        let status = self.reference.as_deref().and_then(|own| ledger.payment(own)).map(|(_, status)| status);
        demand(status == Some(Status::Cancelled), 8, || {
            format!("{} has let its money go, the provider says {status:?}", self.id)
        })?;
        self.purse = Purse::LetGo;
        let back =
            self.returns.iter_mut().find(|back| back.cancels && back.view.state == RefundState::Pending);
        let back = back.ok_or_else(|| Broken {
            law: 7,
            seen: format!("{} lets its money go, and nobody called it off", self.id),
        })?;
        back.view.amount.amount = 0;
        let refund = back.view.id;
        sometimes!("authorized money was let go");
        self.refund_succeeded(refund, ledger)
    }

    /// Money went back: the provider must say so too.
    pub(super) fn refund_succeeded(&mut self, refund: RefundId, ledger: &Ledger) -> Verdicts {
        let at = self.pending(refund)?;
        let view = self.returns[at].view.clone();
        demand(self.purse != Purse::Held, 7, || format!("{refund} gives back what is not ours yet"))?;
        let went_back = ledger.went_back(&refund.to_string());
        demand(view.amount.amount == 0 || went_back == Some(true), 7, || {
            format!("{refund} succeeded, the provider says {went_back:?}")
        })?;
        self.returns[at].view.state = RefundState::Succeeded;
        self.refunded += view.amount.amount;
        for units in &view.lines {
            let line = self.lines.iter_mut().find(|line| line.line == units.line);
            let line = line.ok_or_else(|| unknown(6, &refund))?;
            line.refunded += units.quantity;
        }
        let cancels = self.returns[at].cancels;
        self.cancelled |= cancels;
        let request = self.returns[at].request.take();
        let told = if cancels {
            Answer::Order(Box::new(self.view()))
        } else {
            Answer::Refund(self.returns[at].view.clone())
        };
        Ok(answer(request.into_iter().collect(), &told))
    }

    /// Money definitely did not go back: the provider must say so too.
    pub(super) fn refund_failed(&mut self, refund: RefundId, reason: &str, ledger: &Ledger) -> Verdicts {
        let at = self.pending(refund)?;
        let went_back = ledger.went_back(&refund.to_string());
        demand(went_back == Some(false), 7, || format!("{refund} failed, the provider says {went_back:?}"))?;
        self.returns[at].view.state = RefundState::Failed;
        sometimes!("a refund was refused by the provider");
        let action = if self.returns[at].cancels { "cancel" } else { "refund" };
        let request = self.returns[at].request.take();
        let refusal = Refusal::IllegalTransition {
            from: state_name(self.state()).into(),
            action: action.into(),
            detail: format!("the provider refused the refund: {reason}"),
        };
        Ok(refuse(request.into_iter().collect(), &refusal))
    }

    /// A refund's units are on the shelf again.
    pub(super) fn units_restocked(&mut self, refund: RefundId) -> Verdicts {
        let back = self.returns.iter_mut().find(|back| back.view.id == refund);
        let back = back.ok_or_else(|| unknown(6, &refund))?;
        demand(back.view.state == RefundState::Succeeded && !back.restocked, 6, || {
            format!("{refund} restocks while {:?}", back.view.state)
        })?;
        back.restocked = true;
        Ok(Vec::new())
    }

    /// Units were handed to the carrier.
    pub(super) fn units_fulfilled(&mut self, view: &FulfilmentView, standing: Standing) -> Verdicts {
        let standing_order = self.is_placed() && !self.cancelled && self.purse != Purse::Held;
        demand(standing_order, 6, || format!("{} is fulfilled while {:?}", self.id, self.stage))?;
        for units in &view.lines {
            let left = self.units_left(units.line);
            let line = self.lines.iter_mut().find(|line| line.line == units.line);
            let line = line.ok_or_else(|| unknown(6, &view.id))?;
            line.fulfilled += units.quantity;
            demand(units.quantity > 0 && line.fulfilled <= left, 6, || {
                format!(
                    "{}: {} of line {} are fulfilled, {left} are left",
                    self.id, line.fulfilled, line.line
                )
            })?;
        }
        self.fulfilments.push(view.clone());
        if self.lines.iter().all(|line| line.quantity <= line.refunded + line.fulfilled) {
            self.fulfilled_at_ms = Some(standing.at_ms);
        }
        sometimes!("an order was fulfilled");
        Ok(answer(standing.request.into_iter().collect(), &Answer::Fulfilment(view.clone())))
    }

    /// The return window has passed.
    pub(super) fn return_window_passed(&mut self, at_ms: u64) -> Verdicts {
        let due_ms = self.fulfilled_at_ms.map(|at| at + RETURN_WINDOW_MS);
        let due = self.state() == OrderState::Fulfilled && due_ms.is_some_and(|due_ms| at_ms >= due_ms);
        demand(due, 6, || format!("{} is completed at {at_ms}, due {due_ms:?}", self.id))?;
        self.completed = true;
        sometimes!("an order was completed after the return window");
        Ok(Vec::new())
    }

    fn pending(&self, refund: RefundId) -> Result<usize, Broken> {
        let at = self.returns.iter().position(|back| back.view.id == refund);
        at.filter(|at| self.returns[*at].view.state == RefundState::Pending).ok_or_else(|| Broken {
            law: 7,
            seen: format!("{}: {refund} ends and is not under way", self.id),
        })
    }
}

fn unknown(law: u8, what: &impl std::fmt::Display) -> Broken {
    Broken { law, seen: format!("{what} is about something that its order does not have") }
}
