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
use crate::broken::{Checked, demand};
use after_sale::Return;

/// How far a checkout came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Units are asked for.
    Holding,
    /// The provider cannot be asked, and was not: the order waits for it.
    Deferred {
        /// Until then, exclusive, business time.
        until_ms: u64,
    },
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
    /// Paid, or the money is held for us.
    Placed,
    /// Off: units were not there.
    Refused,
    /// Off: not charged.
    Declined,
    /// Off: cancelled before it was charged.
    Voided,
}

/// Whose the money of an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purse {
    /// The shopper's; or there is nothing to pay.
    Shopper,
    /// Held for us.
    Held,
    /// Ours.
    Ours,
    /// It was held, and was let go because the order was called off.
    LetGo,
    /// It was held, and could not be taken.
    Lost,
}

/// Money that came for an order that does not want it.
#[derive(Clone, Debug)]
pub(super) struct Unwanted {
    pub(super) reference: String,
    pub(super) settled: bool,
    /// The provider refuses to give it back.
    pub(super) kept: bool,
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
    /// Since when its units are pinned for a payment that is open.
    pinned_at_ms: u64,
    /// Its place among those who wait for the provider: where its units were reserved.
    place: u64,
    /// Since when somebody behind it was let through before it, true time.
    pub overtaken_at_ms: Option<u64>,
    checkout: Option<RequestStamp>,
    confirm: Option<RequestStamp>,
    cancel: Option<RequestStamp>,
    purse: Purse,
    /// The provider's name for its payment.
    reference: Option<String>,
    unwanted: Vec<Unwanted>,
    /// Events of the provider that it took, oldest first.
    notices: Vec<String>,
    /// Whether its payment was ever to be cancelled.
    void_wanted: bool,
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

    /// Whether the provider may be asked, or was, and how it stands is open.
    fn is_paying(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::LookingUp | Stage::ShopperActs | Stage::Confirming)
    }

    /// When its open payment must be cancelled, or it must stop to wait for the provider.
    pub fn pin_ends_ms(&self) -> Option<u64> {
        if let Stage::Deferred { until_ms } = self.stage {
            return Some(until_ms);
        }
        self.is_paying().then_some(self.pinned_at_ms + self.draft.pin_ms)
    }

    /// Its place among those who wait for the provider, if it waits.
    pub fn waits_at(&self) -> Option<u64> {
        matches!(self.stage, Stage::Deferred { .. }).then_some(self.place)
    }

    /// Whether the payment is open, and which money is its own is not known yet.
    pub fn may_be_paid_by_anyone(&self) -> bool {
        self.is_paying() && self.reference.is_none()
    }

    /// Whether its units are sold.
    pub fn has_sold(&self) -> bool {
        self.sold
    }

    /// Whether it may have this payment cancelled.
    pub fn may_void(&self, reference: Option<&str>) -> bool {
        self.void_wanted
            || self.unwanted.iter().any(|unwanted| Some(unwanted.reference.as_str()) == reference)
    }

    /// Whether it gives back so much of this payment, by a refund of this key.
    pub fn gives_back(&self, reference: &str, key: &str, amount: Money) -> bool {
        let own = self.reference.as_deref() == Some(reference)
            && self.returns.iter().any(|back| back.view.id.to_string() == key && back.view.amount == amount);
        let unwanted = self.unwanted.iter().any(|unwanted| unwanted.reference == reference);
        own || (unwanted && amount == self.total())
    }

    /// Whether it took this event of the provider.
    pub fn has_heard(&self, event: &str) -> bool {
        self.notices.iter().any(|known| known == event)
    }

    /// The provider's name for its payment.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// Whether the provider refuses to give this payment back, which came unwanted.
    pub fn keeps(&self, reference: &str) -> bool {
        self.unwanted.iter().any(|unwanted| unwanted.kept && unwanted.reference == reference)
    }

    /// How many payments came that it does not want.
    pub fn unwanted_payments(&self) -> usize {
        self.unwanted.len()
    }

    /// Minor units of it that are ours.
    fn captured(&self) -> i64 {
        if self.purse == Purse::Ours { self.total().amount } else { 0 }
    }

    /// Law 7: its units are sold where they are paid for, and paid for where they are sold, once all is over.
    pub fn check_paid_for(&self) -> Checked {
        let paid = match self.purse {
            Purse::Ours => true,
            Purse::Shopper => self.is_placed() && self.total().amount == 0,
            Purse::LetGo | Purse::Lost => self.cancelled,
            Purse::Held => false,
        };
        demand(self.sold == (paid && self.is_placed()), 7, || {
            format!(
                "{} is {:?}, its money is {:?}, and sold are its units: {}",
                self.id, self.stage, self.purse, self.sold
            )
        })
    }

    /// What it still has to do, if anything, and the law that wants it done.
    pub fn unfinished(&self) -> Option<(u8, String)> {
        let left = self.unfinished_work()?;
        let money =
            self.sold && self.purse == Purse::Held || self.unwanted.iter().any(|money| !money.settled);
        Some((if money { 7 } else { 6 }, left))
    }

    fn unfinished_work(&self) -> Option<String> {
        if let Some(unwanted) = self.unwanted.iter().find(|unwanted| !unwanted.settled) {
            return Some(format!("has {} that it does not want", unwanted.reference));
        }
        if self.is_open() {
            return Some(format!("is {:?}", self.stage));
        }
        if self.is_placed() && !self.sold {
            return Some("has not sold its units".into());
        }
        if self.purse == Purse::Held {
            return Some("has not taken its money".into());
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
        let all_back = match self.purse {
            Purse::Held => false,
            Purse::Ours => self.refunded == self.captured(),
            Purse::Shopper | Purse::LetGo | Purse::Lost => {
                self.lines.iter().all(|line| line.refunded == line.quantity)
            }
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
            Stage::Deferred { .. }
            | Stage::Asked
            | Stage::LookingUp
            | Stage::Confirming
            | Stage::Voiding { .. } => PaymentState::Pending,
            Stage::Declined => PaymentState::Declined,
            Stage::Voided => PaymentState::Voided,
            Stage::Placed => match self.purse {
                Purse::Shopper => PaymentState::NotRequired,
                Purse::Held => PaymentState::Authorized,
                Purse::LetGo => PaymentState::Voided,
                Purse::Lost => PaymentState::Declined,
                Purse::Ours if self.refunded == 0 => PaymentState::Captured,
                Purse::Ours if self.refunded < self.captured() => PaymentState::PartiallyRefunded,
                Purse::Ours => PaymentState::Refunded,
            },
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
            captured: self.money(self.captured()),
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
