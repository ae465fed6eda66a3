//! The checkout in the model: units asked for, money against the provider's books, placed or off. Laws 6, 7, 8.

use doorbuster_engine::answer::{Answer, CheckoutResult, Refusal};
use doorbuster_engine::identity::{OrderId, RequestStamp, Sku, Timestamp};
use doorbuster_engine::money::Money;
use doorbuster_engine::order::{
    FulfilmentView, Inquiry, OrderEvent, OrderLine, OrderState, RefundState, RefundView,
};

use super::{Purchase, Purse, Stage, Unwanted};
use crate::broken::{Broken, Checked, demand};
use crate::ledger::{Ledger, Origin, Status};
use crate::model::basket;
use crate::model::shelf::Part;
use crate::model::{Model, Past, Standing, Verdict};
use crate::sometimes;

/// So many of a provider's newest events an order remembers: a copy of one of these has no second effect.
const NOTICES_REMEMBERED: usize = 64;

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
                pinned_at_ms: standing.at_ms,
                place: standing.position,
                overtaken_at_ms: None,
                checkout: standing.request,
                confirm: None,
                cancel: None,
                purse: Purse::Shopper,
                reference: None,
                unwanted: Vec::new(),
                notices: Vec::new(),
                void_wanted: false,
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
        // An answer that changes nothing is no version.
        order.version += u64::from(!matches!(event, OrderEvent::Answered(_)));
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
        let paying = order.is_paying();
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
                order.pinned_at_ms = at_ms;
                order.place = standing.position;
                Ok(Vec::new())
            }
            OrderEvent::PaymentDeferred { until } => {
                wanted(from == Stage::Asked && at_ms < until.0, 8)?;
                // Said in the same breath as that its units are held, or the provider may have been asked.
                demand(order.pinned_at_ms == at_ms, 8, || format!("{id} waits, and was asked about before"))?;
                never_asked(id, ledger)?;
                order.stage = Stage::Deferred { until_ms: until.0 };
                sometimes!("an order waited for its provider");
                Ok(answer(payers(order), &checkout(order, CheckoutResult::PaymentPending)))
            }
            OrderEvent::PaymentResumed => {
                let Stage::Deferred { until_ms } = from else { return Err(illegal(8)) };
                demand(at_ms < until_ms, 8, || {
                    format!("{id} is asked about at {at_ms}, it stopped to wait at {until_ms}")
                })?;
                never_asked(id, ledger)?;
                order.stage = Stage::Asked;
                order.pinned_at_ms = at_ms;
                order.overtaken_at_ms = None;
                sometimes!("an order that waited was let through");
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
            OrderEvent::ActionRequired { reference, action } => {
                wanted(paying && from != Stage::ShopperActs, 7)?;
                order.stage = Stage::ShopperActs;
                order.reference = Some(reference.clone());
                let result = CheckoutResult::ActionRequired { action: action.clone() };
                Ok(answer(payers(order), &checkout(order, result)))
            }
            OrderEvent::ConfirmRequested => {
                wanted(from == Stage::ShopperActs, 7)?;
                order.stage = Stage::Confirming;
                order.confirm = standing.request;
                Ok(Vec::new())
            }
            OrderEvent::VoidRequested { by_request, .. } => {
                let waits = matches!(from, Stage::Deferred { .. });
                let again = waits || from == Stage::Voiding { by_request: false };
                wanted(paying || (*by_request && again), 8)?;
                order.void_wanted = !waits;
                if waits {
                    sometimes!("an order that waited was called off");
                }
                if !by_request {
                    let due_ms = order.pinned_at_ms + order.draft.pin_ms;
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
                if let Stage::Deferred { until_ms } = from {
                    demand(at_ms >= until_ms, 8, || {
                        format!("{id} stops to wait at {at_ms}, due {until_ms}")
                    })?;
                    never_asked(id, ledger)?;
                    sometimes!("an order waited in vain");
                } else {
                    wanted(matches!(from, Stage::Voiding { .. }), 8)?;
                }
                if !order.void_wanted {
                    never_asked(id, ledger)?;
                }
                ledger.check_never_charged(id)?;
                order.stage = Stage::Voided;
                let asked = from == Stage::Voiding { by_request: true };
                let reason = if asked { "the order was cancelled" } else { "the payment timed out" };
                let refusal = Refusal::PaymentDeclined { reason: reason.into(), retryable: true };
                Ok(called_off(order, &refusal))
            }
            OrderEvent::Placed { reference } => {
                wanted(paying || matches!(from, Stage::Voiding { .. }), 7)?;
                order.reference.clone_from(reference);
                if order.total().amount > 0 {
                    let held = order.purse == Purse::Held;
                    check_payment(order, if held { Status::Authorized } else { Status::Captured }, ledger)?;
                    order.purse = if held { Purse::Held } else { Purse::Ours };
                }
                placed_after(&from, reference.as_deref(), ledger);
                order.stage = Stage::Placed;
                Ok(answer(payers(order), &checkout(order, CheckoutResult::Placed)))
            }
            OrderEvent::PaymentAuthorized { reference } => {
                wanted(paying && order.purse == Purse::Shopper, 7)?;
                order.reference = Some(reference.clone());
                check_payment(order, Status::Authorized, ledger)?;
                order.purse = Purse::Held;
                sometimes!("a payment was authorized first");
                Ok(Vec::new())
            }
            OrderEvent::PaymentCaptured => {
                wanted(order.is_placed() && order.purse == Purse::Held && order.sold, 7)?;
                check_payment(order, Status::Captured, ledger)?;
                order.purse = Purse::Ours;
                sometimes!("authorized money was captured");
                Ok(Vec::new())
            }
            OrderEvent::CaptureFailed { .. } => {
                wanted(order.is_placed() && order.purse == Purse::Held && order.sold, 7)?;
                check_payment(order, Status::Cancelled, ledger)?;
                order.purse = Purse::Lost;
                sometimes!("an authorization ran out before the capture");
                Ok(Vec::new())
            }
            OrderEvent::AuthorizationVoided => order.authorization_voided(ledger),
            OrderEvent::Noticed { event, asks } => {
                let recent = order.notices.iter().rev().take(NOTICES_REMEMBERED);
                demand(!recent.clone().any(|known| known == event), 5, || {
                    format!("{id} takes {event} twice")
                })?;
                order.notices.push(event.clone());
                if *asks {
                    wanted(from == Stage::ShopperActs, 7)?;
                    order.stage = Stage::Confirming;
                    sometimes!("a notice made an order ask");
                }
                Ok(Vec::new())
            }
            OrderEvent::StrayFound { reference } => {
                let known = order.unwanted.iter().any(|unwanted| unwanted.reference == *reference);
                demand(!known, 7, || format!("{id} finds {reference} twice"))?;
                let payment = ledger.payment(reference);
                let of_it = payment
                    .is_some_and(|(payment, _)| payment.order == id && payment.amount == order.total());
                demand(of_it, 7, || format!("{id} does not want {reference}, which is {payment:?}"))?;
                let own = order.reference.as_ref() == Some(reference);
                let wants = own
                    && (paying || order.is_placed() && !matches!(order.purse, Purse::LetGo | Purse::Lost));
                demand(!wants, 7, || format!("{id} does not want its own {reference}"))?;
                order.unwanted.push(Unwanted { reference: reference.clone(), settled: false, kept: false });
                Ok(Vec::new())
            }
            OrderEvent::StrayReturned { reference } => {
                let (taken, back) = ledger.money(reference);
                let status = ledger.payment(reference).map(|(_, status)| status);
                let gone = matches!(status, Some(Status::Cancelled | Status::Captured)) && taken == back;
                demand(gone, 7, || {
                    format!("{id} has sent {reference} back: it is {status:?}, {back} of {taken} went back")
                })?;
                if taken > 0 {
                    sometimes!("unwanted money was sent back");
                } else {
                    sometimes!("an unwanted payment was cancelled");
                }
                settle_unwanted(order, reference, false)
            }
            OrderEvent::StrayKept { reference, .. } => {
                demand(ledger.refused_to_give_back(reference), 7, || {
                    format!("{id} gives {reference} up, and nobody refused to give it back")
                })?;
                sometimes!("unwanted money was kept by the provider");
                settle_unwanted(order, reference, true)
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
            OrderEvent::Answered(inquiry) => {
                let is_off = order.state() == OrderState::Cancelled;
                let told = match inquiry {
                    Inquiry::Confirm if order.is_placed() => {
                        wanted(!is_off, 5)?;
                        sometimes!("a confirmation found its order placed");
                        checkout(order, CheckoutResult::Placed)
                    }
                    Inquiry::Confirm => {
                        wanted(matches!(from, Stage::Deferred { .. } | Stage::Asked | Stage::LookingUp), 5)?;
                        sometimes!("a confirmation found the payment open");
                        checkout(order, CheckoutResult::PaymentPending)
                    }
                    Inquiry::Cancel => {
                        wanted(is_off, 5)?;
                        sometimes!("a cancellation found its order off");
                        Answer::Order(Box::new(order.view()))
                    }
                };
                Ok(answer(standing.request.into_iter().collect(), &told))
            }
        }
    }
}

/// Law 8: the provider was never asked about an order that waited for it.
fn never_asked(id: OrderId, ledger: &Ledger) -> Checked {
    demand(ledger.asked_for(id).is_none(), 8, || {
        format!("{id} waited, and the provider was asked: {:?}", ledger.asked_for(id))
    })
}

/// Law 7: the provider has a payment by the order's reference, for this order and all of its total, and it stands like that.
fn check_payment(order: &Purchase, due: Status, ledger: &Ledger) -> Checked {
    let payment = order.reference.as_deref().and_then(|own| ledger.payment(own));
    let right = payment.is_some_and(|(payment, status)| {
        payment.order == order.id && payment.amount == order.total() && status == due
    });
    demand(right, 7, || {
        format!("{} of {:?} has a payment that is {due:?}, it is {payment:?}", order.id, order.total())
    })
}

/// Counts the ways by which an order came to its money.
fn placed_after(from: &Stage, reference: Option<&str>, ledger: &Ledger) {
    match from {
        Stage::LookingUp => sometimes!("a charge was unknown, then captured"),
        Stage::Voiding { .. } => sometimes!("a void found the charge captured"),
        Stage::Confirming => sometimes!("the shopper acted and paid"),
        Stage::ShopperActs => sometimes!("a notice told of money before anybody asked"),
        Stage::Holding
        | Stage::Deferred { .. }
        | Stage::Asked
        | Stage::Placed
        | Stage::Refused
        | Stage::Declined
        | Stage::Voided => {}
    }
    let Some((payment, _)) = reference.and_then(|reference| ledger.payment(reference)) else { return };
    if payment.life < ledger.life {
        sometimes!("a charge asked for by a crashed life was captured");
    }
    if payment.origin == Origin::Stray {
        sometimes!("an order was paid by a payment that it had not asked for");
    }
}

fn settle_unwanted(order: &mut Purchase, reference: &str, kept: bool) -> Result<Vec<Verdict>, Broken> {
    let id = order.id;
    let open =
        order.unwanted.iter_mut().find(|unwanted| unwanted.reference == reference && !unwanted.settled);
    let open =
        open.ok_or_else(|| Broken { law: 7, seen: format!("{id} ends {reference}, which is not open") })?;
    (open.settled, open.kept) = (true, kept);
    Ok(Vec::new())
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
