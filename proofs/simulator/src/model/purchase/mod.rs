//! Orders in the model. Laws 6, 7, 8.
//!
//! This file has what an order is and shows; [`fold`] how a checkout comes to its end, against the provider's
//! books; [`after_sale`] what becomes of an order that stands: refunds and fulfilments.

mod after_sale;
mod fold;

use std::collections::BTreeMap;

use doorbuster_engine::identity::{OrderId, PaymentId, RequestStamp, Sku, Timestamp};
use doorbuster_engine::money::Money;
use doorbuster_engine::order::{
    FulfilmentView, OrderDraft, OrderLine, OrderState, OrderView, PaymentState, RefundState,
};

use super::Past;
use after_sale::Return;

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

    /// Whether it asks for units.
    pub fn is_asking(&self) -> bool {
        self.stage == Stage::Holding
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
            let wants = back.is_to_restock() && !back.view.lines.is_empty();
            if back.view.state == RefundState::Pending || wants {
                return Some(format!("has refund {} under way", back.view.id));
            }
        }
        None
    }

    /// Units of a SKU that it asks for now.
    pub fn asks(&self, sku: &Sku) -> Option<i64> {
        if self.stage == Stage::Holding { self.units().get(sku).copied() } else { None }
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

    /// Its lines, as shown.
    pub fn lines(&self) -> &[OrderLine] {
        &self.lines
    }

    /// Whether the shopper must act.
    pub fn waits_for_shopper(&self) -> bool {
        self.stage == Stage::ShopperActs
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
