//! The checkout in the model: units asked for, money against the provider's books, placed or off. Laws 6, 7, 8.

use doorbuster_engine::answer::{Answer, CheckoutResult, Refusal};
use doorbuster_engine::identity::{OrderId, RequestStamp, Sku, Timestamp};
use doorbuster_engine::money::Money;
use doorbuster_engine::order::{FulfilmentView, OrderEvent, OrderLine, RefundState, RefundView};

use super::{Purchase, Stage};
use crate::broken::{Broken, demand};
use crate::ledger::Ledger;
use crate::model::basket;
use crate::model::shelf::Part;
use crate::model::{Model, Past, Standing, Verdict};
use crate::sometimes;

impl Model {
    pub(in crate::model) fn fold_order(
        &mut self,
        id: OrderId,
        event: &OrderEvent,
        standing: Standing,
        ledger: &Ledger,
    ) -> Result<Vec<Verdict>, Broken> {
        if let OrderEvent::Started(draft) = event {
            demand(!self.orders.contains_key(&id.0), 7, || format!("{id} starts twice"))?;
            let cart = self.carts.get(&draft.cart.0);
            let becoming = cart.is_some_and(|cart| cart.stage == basket::Stage::CheckingOut(id));
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
                let waits = cart.is_some_and(|cart| cart.stage == basket::Stage::CheckingOut(id));
                demand(!waits, 6, || format!("{id} says its cart knows, and it waits"))?;
                order.told = true;
                Ok(Vec::new())
            }
            OrderEvent::CancelRequested { refund } => order.call_off(*refund, standing),
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
                order.refund_requested(view, standing.request)
            }
            OrderEvent::RefundSucceeded { refund, .. } => order.refund_succeeded(*refund, ledger),
            OrderEvent::RefundFailed { refund, reason } => order.refund_failed(*refund, reason, ledger),
            OrderEvent::UnitsRestocked { refund } => order.units_restocked(*refund),
            OrderEvent::Fulfilled { fulfilment, lines, tracking } => {
                let view = FulfilmentView {
                    id: *fulfilment,
                    order: id,
                    lines: lines.clone(),
                    tracking: tracking.clone(),
                    created_at: Timestamp(at_ms),
                };
                order.units_fulfilled(&view, standing)
            }
            OrderEvent::Completed => order.return_window_passed(at_ms),
        }
    }
}

fn payers(order: &mut Purchase) -> Vec<RequestStamp> {
    order.checkout.take().into_iter().chain(order.confirm.take()).collect()
}

fn checkout(order: &Purchase, result: CheckoutResult) -> Answer {
    Answer::Checkout(result, Box::new(order.view()))
}

pub(super) fn answer(requests: Vec<RequestStamp>, answer: &Answer) -> Vec<Verdict> {
    requests.into_iter().map(|request| (request, Ok(answer.clone()))).collect()
}

pub(super) fn refuse(requests: Vec<RequestStamp>, refusal: &Refusal) -> Vec<Verdict> {
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
