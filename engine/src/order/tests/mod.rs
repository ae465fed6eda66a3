//! Promises of an order. Rows are turns of one order, top to bottom; `new` begins another.
//!
//! Tables in `tables` and `payments`, the saga against a provider that loses, doubles and delays what it says in `saga`,
//! every interleaving of a small one in `interleavings`.

mod interleavings;
mod payments;
mod provider;
mod saga;
mod tables;

use std::collections::BTreeSet;

use super::*;
use crate::answer::{Answer, CheckoutResult, Missing, Refusal, Settlement, Shortage};
use crate::envelope::{Decision, Envelope};
use crate::identity::{Fingerprint, FulfilmentId, PaymentId, Position, RequestKey};
use crate::payment::{CaptureOutcome, ChargeOutcome, PaymentNews, RefundOutcome, Standing, VoidOutcome};

const ORDER: OrderId = OrderId(1);
const PIN_MS: u64 = 100;

/// An order with its journal, so that every turn can be replayed.
struct Bench {
    order: Order,
    journal: Vec<(OrderEvent, Recorded, Option<RequestStamp>)>,
}

/// What one turn came to.
struct Turn {
    decision: Decision<OrderEvent>,
    settlements: Vec<Settlement>,
}

impl Bench {
    fn new() -> Self {
        Self { order: Order::new(ORDER), journal: Vec::new() }
    }

    /// Decides, folds, checks the laws and the replay.
    fn turn(&mut self, envelope: &Envelope<OrderCommand>) -> Turn {
        let decision = self.order.decide(envelope);
        let mut settlements = Vec::new();
        if let Decision::Change(events) = &decision {
            for event in events {
                let position = Position(self.journal.len() as u64 + 1);
                let recorded = Recorded { position, at: envelope.now };
                settlements.extend(self.order.evolve(event, recorded, envelope.request).settlements);
                self.journal.push((event.clone(), recorded, envelope.request));
            }
            self.order.check().unwrap();
            let changes = self.journal.iter().filter(|(event, _, _)| event.is_change()).count();
            assert_eq!(self.order.version(), changes as u64);
        }
        Turn { decision, settlements }
    }

    /// Law 10: the journal folded gives the same order.
    fn check_replay(&self) {
        let mut replayed = Order::new(ORDER);
        for (event, recorded, request) in &self.journal {
            replayed.evolve(event, *recorded, *request);
        }
        assert_eq!(replayed, self.order, "law 10: the journal folded gives the same order");
        assert_eq!(replayed.obligations(), self.order.obligations());
    }
}

/// Two lines of 2 × 500 and 1 × 300, or a single free one of 2 units.
fn draft(free: bool) -> OrderDraft {
    let line = |line, sku: &str, quantity, amount| DraftLine {
        line,
        sku: Sku::new(sku).unwrap(),
        name: sku.into(),
        quantity,
        unit_price: Money::new(amount, Currency::GBP),
    };
    let lines =
        if free { vec![line(1, "A", 2, 0)] } else { vec![line(1, "B", 2, 500), line(2, "A", 1, 300)] };
    let prices = lines.iter().map(|line| (line.quantity, line.unit_price));
    let totals = crate::pricing::totals(Currency::GBP, prices).unwrap();
    OrderDraft {
        order: ORDER,
        cart: CartId(7),
        lines,
        totals,
        email: "a@example.org".into(),
        provider: "fake".into(),
        method: "ok".into(),
        shipping_address: None,
        pin_ms: PIN_MS,
    }
}

fn name_of_event(event: &OrderEvent) -> &'static str {
    event.described().0
}

fn name_of_answer(answer: &Answer) -> String {
    match answer {
        Answer::Checkout(CheckoutResult::Placed, order) => format!("placed_{}", order.state.name()),
        Answer::Checkout(CheckoutResult::ActionRequired { action }, _) => match action {
            NextAction::ClientSecret(secret) => format!("act_{secret}"),
            NextAction::Redirect(page) => format!("go_{page}"),
        },
        Answer::Checkout(CheckoutResult::PaymentPending, _) => "pending".into(),
        Answer::Order(order) => format!("order_{}", order.state.name()),
        Answer::Refund(refund) => format!("refund_{:?}", refund.state).to_lowercase(),
        Answer::Fulfilment(_) => "fulfilment".into(),
        Answer::Noticed => "noticed".into(),
        Answer::Reservation(_)
        | Answer::Stock(_)
        | Answer::SkuDefined { .. }
        | Answer::CartCreated(_)
        | Answer::Cart(_)
        | Answer::CartDeleted => panic!("not an order's answer: {answer:?}"),
    }
}

fn name_of_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound(Missing::Order) => "not_found".into(),
        Refusal::InsufficientStock(_) => "insufficient_stock".into(),
        Refusal::IllegalTransition { from, .. } => format!("illegal_from_{from}"),
        Refusal::PaymentDeclined { reason, .. } => format!("declined_{}", reason.replace(' ', "_")),
        Refusal::Validation(errors) => format!("{}={}", errors[0].pointer, errors[0].code),
        Refusal::InProgress { .. } => "in_progress".into(),
        Refusal::NotFound(
            Missing::Skus(_) | Missing::Reservation | Missing::Cart | Missing::Line | Missing::Actor,
        )
        | Refusal::ReservationExpired
        | Refusal::CartExpired
        | Refusal::PriceChanged { .. }
        | Refusal::VersionMismatch { .. }
        | Refusal::KeyReused
        | Refusal::Overloaded { .. }
        | Refusal::StorageFull { .. }
        | Refusal::Draining
        | Refusal::Recovering { .. }
        | Refusal::PaymentUnavailable { .. }
        | Refusal::DeadlineExceeded => panic!("not an order's refusal: {refusal:?}"),
    }
}

fn stamp(key: u128) -> RequestStamp {
    RequestStamp { key: RequestKey(key), fingerprint: Fingerprint(1) }
}
