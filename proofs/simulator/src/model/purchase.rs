//! Orders in the model: the checkout, the payment against the provider's books, refunds and fulfilments. Laws 6, 7, 8.

use std::collections::BTreeMap;

use doorbuster_engine::answer::{Answer, CheckoutResult, Refusal};
use doorbuster_engine::identity::{OrderId, PaymentId, RequestStamp, Sku, Timestamp};
use doorbuster_engine::money::Money;
use doorbuster_engine::order::{
    FulfilmentView, LineUnits, OrderDraft, OrderEvent, OrderLine, OrderState, OrderView, PaymentState,
    RefundState, RefundView,
};

use super::shelf::Part;
use super::{Model, Past, Standing, Verdict};
use crate::broken::{Broken, Checked, demand};
use crate::ledger::Ledger;
use crate::sometimes;

/// Days until a fulfilled order is completed: 14.
const RETURN_WINDOW_MS: u64 = 14 * 86_400_000;

/// How far a checkout came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Units are asked for.
    Holding,
    /// The provider is asked for money.
    Asked,
    /// Its answer was unknown.
    LookingUp,
    /// The shopper must act.
    ShopperActs,
    /// The shopper has acted.
    Confirming,
    /// The charge is being cancelled.
    Voiding {
        /// Whether a caller asked for it.
        by_request: bool,
    },
    /// Paid.
    Placed,
    /// Off: units were not there.
    Refused,
    /// Off: not charged.
    Declined,
    /// Off: cancelled before it was charged.
    Voided,
}

#[derive(Clone, Debug)]
struct Return {
    view: RefundView,
    request: Option<RequestStamp>,
    cancels: bool,
    restocked: bool,
}

/// An order.
// The flags are steps done, as in the engine: no machine hides among them.
#[expect(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
pub struct Purchase {
    id: OrderId,
    draft: OrderDraft,
    /// How far it came.
    pub stage: Stage,
    started_at_ms: u64,
    started_position: u64,
    checkout: Option<RequestStamp>,
    confirm: Option<RequestStamp>,
    cancel: Option<RequestStamp>,
    captured: i64,
    refunded: i64,
    lines: Vec<OrderLine>,
    returns: Vec<Return>,
    fulfilments: Vec<FulfilmentView>,
    sold: bool,
    freed: bool,
    told: bool,
    cancelled: bool,
    completed: bool,
    fulfilled_at_ms: Option<u64>,
    version: u64,
    /// Every view there was.
    pub past: Past<OrderView>,
}

impl Purchase {
    /// Its id.
    pub fn id(&self) -> OrderId {
        self.id
    }

    /// Whether it is paid and stands.
    pub fn is_placed(&self) -> bool {
        self.stage == Stage::Placed
    }

    /// Whether it is off before it was placed.
    pub fn is_off(&self) -> bool {
        matches!(self.stage, Stage::Refused | Stage::Declined | Stage::Voided)
    }

    /// Whether its payment is open.
    pub fn is_open(&self) -> bool {
        !self.is_placed() && !self.is_off()
    }

    /// When its open payment must be cancelled.
    pub fn pin_ends_ms(&self) -> Option<u64> {
        let paying =
            matches!(self.stage, Stage::Asked | Stage::LookingUp | Stage::ShopperActs | Stage::Confirming);
        paying.then_some(self.started_at_ms + self.draft.pin_ms)
    }

    /// What it still has to do, if anything.
    pub fn unfinished(&self) -> Option<String> {
        if self.is_open() {
            return Some(format!("is {:?}", self.stage));
        }
        if self.is_placed() && !self.sold {
            return Some("has not sold its units".into());
        }
        if self.is_off() && !self.freed {
            return Some("has not freed its units".into());
        }
        if !self.told {
            return Some("has not told its cart".into());
        }
        for back in &self.returns {
            let wants = back.view.restock && !back.view.lines.is_empty() && !back.restocked;
            if back.view.state == RefundState::Pending || (back.view.state == RefundState::Succeeded && wants)
            {
                return Some(format!("has refund {} under way", back.view.id));
            }
        }
        None
    }

    /// Units of a SKU that it asks for now.
    pub fn asks(&self, sku: &Sku) -> Option<i64> {
        if self.stage == Stage::Holding { self.units().get(sku).copied() } else { None }
    }

    /// Units of a SKU that a refund puts back on the shelf now.
    pub fn to_restock(&self, refund: u128, sku: &Sku) -> Option<i64> {
        let back = self.returns.iter().find(|back| back.view.id.0 == refund)?;
        let due =
            self.sold && back.view.state == RefundState::Succeeded && back.view.restock && !back.restocked;
        let units = back
            .view
            .lines
            .iter()
            .filter(|units| self.lines.iter().any(|line| line.line == units.line && line.sku == *sku));
        due.then(|| units.map(|units| units.quantity).sum())
    }

    /// Units by SKU.
    pub fn units(&self) -> BTreeMap<Sku, i64> {
        let mut units = BTreeMap::new();
        for line in &self.draft.lines {
            *units.entry(line.sku.clone()).or_default() += line.quantity;
        }
        units
    }

    /// What is to be paid.
    pub fn total(&self) -> Money {
        self.draft.totals.total
    }

    fn money(&self, amount: i64) -> Money {
        Money { amount, currency: self.total().currency }
    }

    /// Where it stands, as the world sees it.
    pub fn state(&self) -> OrderState {
        if self.is_off() {
            return OrderState::Cancelled;
        }
        if !self.is_placed() {
            return OrderState::PendingPayment;
        }
        let all_back = if self.captured > 0 {
            self.refunded == self.captured
        } else {
            self.lines.iter().all(|line| line.refunded == line.quantity)
        };
        if self.cancelled {
            OrderState::Cancelled
        } else if all_back {
            OrderState::Refunded
        } else if self.returns.iter().any(|back| back.view.state == RefundState::Succeeded) {
            OrderState::PartiallyRefunded
        } else if self.completed {
            OrderState::Completed
        } else if self.fulfilled_at_ms.is_some() {
            OrderState::Fulfilled
        } else {
            OrderState::Paid
        }
    }

    fn payment(&self) -> PaymentState {
        match self.stage {
            Stage::Holding | Stage::Refused => PaymentState::None,
            Stage::ShopperActs => PaymentState::RequiresAction,
            Stage::Asked | Stage::LookingUp | Stage::Confirming | Stage::Voiding { .. } => {
                PaymentState::Pending
            }
            Stage::Declined => PaymentState::Declined,
            Stage::Voided => PaymentState::Voided,
            Stage::Placed if self.captured == 0 => PaymentState::NotRequired,
            Stage::Placed if self.refunded == 0 => PaymentState::Captured,
            Stage::Placed if self.refunded < self.captured => PaymentState::PartiallyRefunded,
            Stage::Placed => PaymentState::Refunded,
        }
    }

    fn view(&self) -> OrderView {
        let payment_state = self.payment();
        let unpaid = matches!(payment_state, PaymentState::None | PaymentState::NotRequired);
        OrderView {
            id: self.id,
            number: self.started_position.to_string(),
            cart: self.draft.cart,
            state: self.state(),
            lines: self.lines.clone(),
            totals: self.draft.totals,
            email: self.draft.email.clone(),
            shipping_address: self.draft.shipping_address.clone(),
            provider: self.draft.provider.clone(),
            payment_state,
            payment_id: (!unpaid).then_some(PaymentId(self.id.0)),
            captured: self.money(self.captured),
            refunded: self.money(self.refunded),
            created_at: Timestamp(self.started_at_ms),
            version: self.version,
            refunds: self.returns.iter().map(|back| back.view.clone()).collect(),
            fulfilments: self.fulfilments.clone(),
        }
    }

    /// Minor units that no refund has taken or asks for.
    fn money_left(&self) -> i64 {
        let taken = self.returns.iter().filter(|back| back.view.state != RefundState::Failed);
        self.captured - taken.map(|back| back.view.amount.amount).sum::<i64>()
    }

    /// Units of a line that no refund has taken or asks for.
    pub fn units_left(&self, line: u32) -> i64 {
        let ordered = self.lines.iter().find(|known| known.line == line).map_or(0, |known| known.quantity);
        let taken = self.returns.iter().filter(|back| back.view.state != RefundState::Failed);
        let taken = taken.flat_map(|back| &back.view.lines).filter(|units| units.line == line);
        ordered - taken.map(|units| units.quantity).sum::<i64>()
    }

    /// Its lines, as shown.
    pub fn lines(&self) -> &[OrderLine] {
        &self.lines
    }

    /// Whether the shopper must act.
    pub fn waits_for_shopper(&self) -> bool {
        self.stage == Stage::ShopperActs
    }

    fn begin_return(&mut self, view: RefundView, request: Option<RequestStamp>, cancels: bool) -> Checked {
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
        Ok(())
    }
}

impl Model {
    pub(super) fn fold_order(
        &mut self,
        id: OrderId,
        event: &OrderEvent,
        standing: Standing,
        ledger: &Ledger,
    ) -> Result<Vec<Verdict>, Broken> {
        if let OrderEvent::Started(draft) = event {
            demand(!self.orders.contains_key(&id.0), 7, || format!("{id} starts twice"))?;
            let cart = self.carts.get(&draft.cart.0);
            let becoming = cart.is_some_and(|cart| cart.stage == super::basket::Stage::CheckingOut(id));
            demand(becoming && draft.order == id, 6, || format!("{id} starts, no cart becomes it"))?;
            let lines = draft.lines.iter().map(|line| OrderLine {
                line: line.line,
                sku: line.sku.clone(),
                name: line.name.clone(),
                quantity: line.quantity,
                unit_price: line.unit_price,
                total: Money {
                    amount: line.unit_price.amount * line.quantity,
                    currency: line.unit_price.currency,
                },
                fulfilled: 0,
                refunded: 0,
            });
            let order = Purchase {
                id,
                draft: (**draft).clone(),
                stage: Stage::Holding,
                started_at_ms: standing.at_ms,
                started_position: standing.position,
                checkout: standing.request,
                confirm: None,
                cancel: None,
                captured: 0,
                refunded: 0,
                lines: lines.collect(),
                returns: Vec::new(),
                fulfilments: Vec::new(),
                sold: false,
                freed: false,
                told: false,
                cancelled: false,
                completed: false,
                fulfilled_at_ms: None,
                version: 0,
                past: Past::default(),
            };
            self.orders.insert(id.0, order);
        }
        let Some(mut order) = self.orders.remove(&id.0) else {
            return Err(Broken { law: 10, seen: format!("{id} changes before it starts") });
        };
        order.version += 1;
        let verdicts = self.change_order(&mut order, event, standing, ledger);
        order.past.note(standing, order.view());
        self.orders.insert(id.0, order);
        verdicts
    }

    fn change_order(
        &self,
        order: &mut Purchase,
        event: &OrderEvent,
        standing: Standing,
        ledger: &Ledger,
    ) -> Result<Vec<Verdict>, Broken> {
        let (id, at_ms) = (order.id, standing.at_ms);
        let from = order.stage.clone();
        let paying = order.pin_ends_ms().is_some();
        let illegal = |law: u8| Broken { law, seen: format!("{id} is {from:?}") };
        let wanted = |holds: bool, law: u8| if holds { Ok(()) } else { Err(illegal(law)) };
        let part = |sku: &Sku| self.parts.get(&(id.0, sku.clone())).copied();
        match event {
            OrderEvent::Started(_) => Ok(Vec::new()),
            OrderEvent::UnitsReserved => {
                wanted(from == Stage::Holding, 6)?;
                for (sku, quantity) in order.units() {
                    demand(part(&sku) == Some(Part::Held(quantity)), 6, || {
                        format!("{id} has reserved {quantity} of {sku}, held is {:?}", part(&sku))
                    })?;
                }
                order.stage = Stage::Asked;
                Ok(Vec::new())
            }
            OrderEvent::UnitsRefused { shortages } => {
                wanted(from == Stage::Holding, 6)?;
                order.stage = Stage::Refused;
                sometimes!("a checkout was refused for want of stock");
                Ok(refuse(payers(order), &Refusal::InsufficientStock(shortages.clone())))
            }
            OrderEvent::PaymentUnanswered => {
                wanted(matches!(from, Stage::Asked | Stage::Confirming), 7)?;
                order.stage = Stage::LookingUp;
                Ok(answer(payers(order), &checkout(order, CheckoutResult::PaymentPending)))
            }
            OrderEvent::ActionRequired { client_secret, .. } => {
                wanted(paying && from != Stage::ShopperActs, 7)?;
                order.stage = Stage::ShopperActs;
                let client_secret = client_secret.clone();
                let result = CheckoutResult::ActionRequired { client_secret };
                Ok(answer(payers(order), &checkout(order, result)))
            }
            OrderEvent::ConfirmRequested => {
                wanted(from == Stage::ShopperActs, 7)?;
                order.stage = Stage::Confirming;
                order.confirm = standing.request;
                Ok(Vec::new())
            }
            OrderEvent::VoidRequested { by_request, .. } => {
                wanted(paying || (*by_request && from == Stage::Voiding { by_request: false }), 8)?;
                if !by_request {
                    let due_ms = order.started_at_ms + order.draft.pin_ms;
                    demand(at_ms >= due_ms, 8, || format!("{id} is cancelled at {at_ms}, due {due_ms}"))?;
                    sometimes!("the pin's cap cancelled a charge");
                }
                order.stage = Stage::Voiding { by_request: *by_request };
                if *by_request {
                    order.cancel = standing.request;
                }
                Ok(Vec::new())
            }
            OrderEvent::PaymentDeclined { reason, retryable } => {
                wanted(paying || matches!(from, Stage::Voiding { .. }), 7)?;
                ledger.check_never_charged(id)?;
                if from == Stage::LookingUp {
                    sometimes!("a charge was unknown, then declined");
                }
                order.stage = Stage::Declined;
                let refusal = Refusal::PaymentDeclined { reason: reason.clone(), retryable: *retryable };
                Ok(called_off(order, &refusal))
            }
            OrderEvent::PaymentVoided => {
                wanted(matches!(from, Stage::Voiding { .. }), 8)?;
                ledger.check_never_charged(id)?;
                order.stage = Stage::Voided;
                let asked = from == Stage::Voiding { by_request: true };
                let reason = if asked { "the order was cancelled" } else { "the payment timed out" };
                let refusal = Refusal::PaymentDeclined { reason: reason.into(), retryable: true };
                Ok(called_off(order, &refusal))
            }
            OrderEvent::Placed { .. } => {
                wanted(paying || matches!(from, Stage::Voiding { .. }), 7)?;
                let captured = ledger.captured(id);
                demand(captured == order.total().amount, 7, || {
                    format!("{id} is placed for {:?}, the provider has taken {captured}", order.total())
                })?;
                match from {
                    Stage::LookingUp => sometimes!("a charge was unknown, then captured"),
                    Stage::Voiding { .. } => sometimes!("a void found the charge captured"),
                    Stage::Confirming => sometimes!("the shopper acted and paid"),
                    Stage::Holding
                    | Stage::Asked
                    | Stage::ShopperActs
                    | Stage::Placed
                    | Stage::Refused
                    | Stage::Declined
                    | Stage::Voided => {}
                }
                if ledger.charge_of(id).is_some_and(|charge| charge.life < ledger.life) {
                    sometimes!("a charge asked for by a crashed life was captured");
                }
                order.stage = Stage::Placed;
                order.captured = order.total().amount;
                Ok(answer(payers(order), &checkout(order, CheckoutResult::Placed)))
            }
            OrderEvent::UnitsSold => {
                wanted(order.is_placed() && !order.sold, 6)?;
                for (sku, quantity) in order.units() {
                    demand(part(&sku) == Some(Part::Sold(quantity)), 6, || {
                        format!("{id} says {quantity} of {sku} are sold, they are {:?}", part(&sku))
                    })?;
                }
                order.sold = true;
                Ok(Vec::new())
            }
            OrderEvent::UnitsFreed => {
                wanted(order.is_off() && !order.freed, 6)?;
                for sku in order.units().keys() {
                    let stray = self.strays.contains_key(&(id.0, sku.clone()));
                    demand(stray || !matches!(part(sku), Some(Part::Held(_))), 6, || {
                        format!("{id} says {sku} is freed, it is {:?}", part(sku))
                    })?;
                }
                order.freed = true;
                Ok(Vec::new())
            }
            OrderEvent::CartTold => {
                wanted(order.is_placed() || order.is_off(), 6)?;
                let cart = self.carts.get(&order.draft.cart.0);
                let waits = cart.is_some_and(|cart| cart.stage == super::basket::Stage::CheckingOut(id));
                demand(!waits, 6, || format!("{id} says its cart knows, and it waits"))?;
                order.told = true;
                Ok(Vec::new())
            }
            OrderEvent::CancelRequested { refund } => {
                let request = order.cancel.take().or(standing.request);
                let units = order
                    .lines
                    .iter()
                    .map(|line| LineUnits { line: line.line, quantity: order.units_left(line.line) });
                let view = RefundView {
                    id: *refund,
                    order: id,
                    amount: order.money(order.money_left()),
                    lines: units.filter(|units| units.quantity > 0).collect(),
                    restock: true,
                    reason: Some("cancelled".into()),
                    state: RefundState::Pending,
                    created_at: Timestamp(at_ms),
                };
                order.begin_return(view, request, true)?;
                sometimes!("an order was cancelled after payment");
                Ok(Vec::new())
            }
            OrderEvent::RefundRequested { refund, amount, lines, restock, reason } => {
                let view = RefundView {
                    id: *refund,
                    order: id,
                    amount: *amount,
                    lines: lines.clone(),
                    restock: *restock,
                    reason: reason.clone(),
                    state: RefundState::Pending,
                    created_at: Timestamp(at_ms),
                };
                order.begin_return(view, standing.request, false)?;
                Ok(Vec::new())
            }
            OrderEvent::RefundSucceeded { refund, .. } => {
                let at = pending(order, refund.0)?;
                let view = order.returns[at].view.clone();
                let went_back = ledger.went_back(&refund.to_string());
                demand(view.amount.amount == 0 || went_back == Some(true), 7, || {
                    format!("{refund} succeeded, the provider says {went_back:?}")
                })?;
                order.returns[at].view.state = RefundState::Succeeded;
                order.refunded += view.amount.amount;
                for units in &view.lines {
                    let line = order.lines.iter_mut().find(|line| line.line == units.line);
                    line.ok_or_else(|| illegal(6))?.refunded += units.quantity;
                }
                let cancels = order.returns[at].cancels;
                order.cancelled |= cancels;
                let request = order.returns[at].request.take();
                let told = if cancels {
                    Answer::Order(Box::new(order.view()))
                } else {
                    Answer::Refund(order.returns[at].view.clone())
                };
                Ok(answer(request.into_iter().collect(), &told))
            }
            OrderEvent::RefundFailed { refund, reason } => {
                let at = pending(order, refund.0)?;
                let went_back = ledger.went_back(&refund.to_string());
                demand(went_back == Some(false), 7, || {
                    format!("{refund} failed, the provider says {went_back:?}")
                })?;
                order.returns[at].view.state = RefundState::Failed;
                sometimes!("a refund was refused by the provider");
                let action = if order.returns[at].cancels { "cancel" } else { "refund" };
                let request = order.returns[at].request.take();
                let refusal = Refusal::IllegalTransition {
                    from: state_name(order.state()).into(),
                    action: action.into(),
                    detail: format!("the provider refused the refund: {reason}"),
                };
                Ok(refuse(request.into_iter().collect(), &refusal))
            }
            OrderEvent::UnitsRestocked { refund } => {
                let back = order.returns.iter_mut().find(|back| back.view.id == *refund);
                let back = back.ok_or_else(|| illegal(6))?;
                demand(back.view.state == RefundState::Succeeded && !back.restocked, 6, || {
                    format!("{refund} restocks while {:?}", back.view.state)
                })?;
                back.restocked = true;
                Ok(Vec::new())
            }
            OrderEvent::Fulfilled { fulfilment, lines, tracking } => {
                wanted(order.is_placed() && !order.cancelled, 6)?;
                for units in lines {
                    let left = order.units_left(units.line);
                    let line = order.lines.iter_mut().find(|line| line.line == units.line);
                    let line = line.ok_or_else(|| illegal(6))?;
                    line.fulfilled += units.quantity;
                    demand(units.quantity > 0 && line.fulfilled <= left, 6, || {
                        format!(
                            "{id}: {} of line {} are fulfilled, {left} are left",
                            line.fulfilled, line.line
                        )
                    })?;
                }
                let view = FulfilmentView {
                    id: *fulfilment,
                    order: id,
                    lines: lines.clone(),
                    tracking: tracking.clone(),
                    created_at: Timestamp(at_ms),
                };
                order.fulfilments.push(view.clone());
                if order.lines.iter().all(|line| line.quantity <= line.refunded + line.fulfilled) {
                    order.fulfilled_at_ms = Some(at_ms);
                }
                sometimes!("an order was fulfilled");
                Ok(answer(standing.request.into_iter().collect(), &Answer::Fulfilment(view)))
            }
            OrderEvent::Completed => {
                let due_ms = order.fulfilled_at_ms.map(|at| at + RETURN_WINDOW_MS);
                wanted(order.state() == OrderState::Fulfilled && due_ms.is_some_and(|due| at_ms >= due), 6)?;
                order.completed = true;
                sometimes!("an order was completed after the return window");
                Ok(Vec::new())
            }
        }
    }
}

/// A state's name on the wire.
pub fn state_name(state: OrderState) -> &'static str {
    match state {
        OrderState::PendingPayment => "pending_payment",
        OrderState::Paid => "paid",
        OrderState::Fulfilled => "fulfilled",
        OrderState::Completed => "completed",
        OrderState::Cancelled => "cancelled",
        OrderState::PartiallyRefunded => "partially_refunded",
        OrderState::Refunded => "refunded",
    }
}

fn pending(order: &Purchase, refund: u128) -> Result<usize, Broken> {
    let at = order.returns.iter().position(|back| back.view.id.0 == refund);
    at.filter(|at| order.returns[*at].view.state == RefundState::Pending).ok_or_else(|| Broken {
        law: 7,
        seen: format!("{}: refund {refund:032x} ends and is not under way", order.id),
    })
}

fn payers(order: &mut Purchase) -> Vec<RequestStamp> {
    order.checkout.take().into_iter().chain(order.confirm.take()).collect()
}

fn checkout(order: &Purchase, result: CheckoutResult) -> Answer {
    Answer::Checkout(result, Box::new(order.view()))
}

fn answer(requests: Vec<RequestStamp>, answer: &Answer) -> Vec<Verdict> {
    requests.into_iter().map(|request| (request, Ok(answer.clone()))).collect()
}

fn refuse(requests: Vec<RequestStamp>, refusal: &Refusal) -> Vec<Verdict> {
    requests.into_iter().map(|request| (request, Err(refusal.clone()))).collect()
}

/// Whoever wanted to pay is refused, whoever wanted it called off is told that it is.
fn called_off(order: &mut Purchase, refusal: &Refusal) -> Vec<Verdict> {
    let cancel = order.cancel.take();
    let mut verdicts = refuse(payers(order), refusal);
    let told = Answer::Order(Box::new(order.view()));
    verdicts.extend(cancel.map(|request| (request, Ok(told))));
    verdicts
}
