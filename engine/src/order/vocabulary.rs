//! The words of an order: what may be asked of it, what happened to it, what its state demands.

use serde::{Deserialize, Serialize};

use crate::answer::{Item, Shortage};
use crate::identity::{CartId, FulfilmentId, Position, RefundId, Timestamp};
use crate::money::Money;
use crate::payment::{
    CaptureOutcome, ChargeOutcome, ChargeRequest, NextAction, PaymentNews, RefundOutcome, VoidOutcome,
};

use super::{LineUnits, OrderDraft};

/// What may be asked of an order, and what became of its obligations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderCommand {
    /// Begins, from the cart's draft. A repeat joins.
    Start(Box<OrderDraft>),
    /// All units are held.
    UnitsHeld {
        /// Nothing: the provider can be asked now. Else it cannot, and the order may wait this long for it.
        defer_ms: Option<u64>,
    },
    /// Some SKU refused; the rest must be freed.
    UnitsRefused {
        /// Who could not give what.
        shortages: Vec<Shortage>,
    },
    /// What became of [`OrderObligation::Charge`], [`OrderObligation::LookUp`] or [`OrderObligation::Confirm`].
    ChargeAnswered(ChargeOutcome),
    /// The provider that [`OrderObligation::AwaitProvider`] waits for can be asked now. Said when the wait is over, it
    /// comes too late, and the order is off.
    ProviderReady,
    /// What became of [`OrderObligation::Capture`].
    CaptureAnswered(CaptureOutcome),
    /// What became of [`OrderObligation::Void`].
    VoidAnswered(VoidOutcome),
    /// What became of [`OrderObligation::ReturnStray`].
    StrayAnswered {
        /// The provider's name for the payment.
        reference: String,
        /// What the provider said: cancelled, or given back.
        outcome: StrayOutcome,
    },
    /// The provider tells, unasked, how a payment stands; a copy of what was told before is nothing new.
    Notice {
        /// The provider's id of the event, or our own name for what a reconciliation found.
        event: String,
        /// What it says.
        news: PaymentNews,
    },
    /// What became of [`OrderObligation::Refund`].
    RefundAnswered {
        /// Which refund.
        refund: RefundId,
        /// What the provider said.
        outcome: RefundOutcome,
    },
    /// Every SKU has sold its part.
    UnitsSold,
    /// Every SKU has freed its part.
    UnitsFreed,
    /// Every SKU has taken back what this refund restocks.
    UnitsRestocked {
        /// Which refund.
        refund: RefundId,
    },
    /// The cart knows how it ended.
    CartTold,
    /// A timer rang: the pin's cap, or the end of the return window.
    Wake,
    /// The shopper has acted (or asks how it stands).
    Confirm,
    /// Calls it off.
    Cancel {
        /// Id for the refund this may need, made outside.
        refund: RefundId,
    },
    /// Gives money back.
    Refund {
        /// Id for the refund, made outside.
        refund: RefundId,
        /// How much; absent: the price of `lines`, or all that is left.
        amount: Option<Money>,
        /// Which units; absent with `amount` absent: all that is left.
        lines: Option<Vec<LineUnits>>,
        /// Whether those units go back on the shelf.
        restock: bool,
        /// Why.
        reason: Option<String>,
    },
    /// Hands units to the carrier.
    Fulfil {
        /// Id for the fulfilment, made outside.
        fulfilment: FulfilmentId,
        /// Which units; absent: all that is left.
        lines: Option<Vec<LineUnits>>,
        /// The carrier's tracking number.
        tracking: Option<String>,
    },
    /// Reads it.
    Read,
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderEvent {
    /// The checkout began.
    Started(Box<OrderDraft>),
    /// Units are held and pinned; the charge is asked for in the same breath (nothing to pay: placed next).
    UnitsReserved,
    /// Some SKU refused; the order is off and its parts go back.
    UnitsRefused {
        /// Who could not give what.
        shortages: Vec<Shortage>,
    },
    /// The provider's answer is unknown; it will be looked up.
    PaymentUnanswered,
    /// The shopper must act.
    ActionRequired {
        /// The provider's name for the charge.
        reference: String,
        /// What to do.
        action: NextAction,
    },
    /// The shopper says to have acted; the provider is asked to confirm.
    ConfirmRequested,
    /// The charge is to be cancelled; units stay until the answer is definite.
    VoidRequested {
        /// Whether a caller asked for it (else the pin's cap did).
        by_request: bool,
        /// The refund to make if the money came after all.
        refund: RefundId,
    },
    /// Definitely not charged; the order is off and its units go back.
    PaymentDeclined {
        /// Why.
        reason: String,
        /// Whether a new attempt may fare better.
        retryable: bool,
    },
    /// Definitely cancelled, or never asked for; the order is off and its units go back.
    PaymentVoided,
    /// Paid (or nothing to pay): the order stands. The point of no return.
    Placed {
        /// The provider's name for the charge, where there was one.
        reference: Option<String>,
    },
    /// Every SKU has sold its part.
    UnitsSold,
    /// Every SKU has freed its part.
    UnitsFreed,
    /// The cart knows.
    CartTold,
    /// The order is called off after it was placed: money and units go back.
    CancelRequested {
        /// The refund that carries them.
        refund: RefundId,
    },
    /// Money is to go back.
    RefundRequested {
        /// Which refund.
        refund: RefundId,
        /// How much; may be zero for free items.
        amount: Money,
        /// Which units.
        lines: Vec<LineUnits>,
        /// Whether they go back on the shelf.
        restock: bool,
        /// Why.
        reason: Option<String>,
    },
    /// Money went back.
    RefundSucceeded {
        /// Which refund.
        refund: RefundId,
        /// The provider's name for it, where it was asked.
        reference: Option<String>,
    },
    /// Money definitely did not go back.
    RefundFailed {
        /// Which refund.
        refund: RefundId,
        /// Why.
        reason: String,
    },
    /// Units went back on the shelf.
    UnitsRestocked {
        /// By which refund.
        refund: RefundId,
    },
    /// Units were handed to the carrier.
    Fulfilled {
        /// Which fulfilment.
        fulfilment: FulfilmentId,
        /// Which units.
        lines: Vec<LineUnits>,
        /// The carrier's tracking number.
        tracking: Option<String>,
    },
    /// The return window has passed.
    Completed,
    /// The provider cannot be asked now: the order keeps its units and waits. Nothing was asked yet.
    PaymentDeferred {
        /// When it stops waiting; exclusive.
        until: Timestamp,
    },
    /// The provider can be asked again, and is.
    PaymentResumed,
    /// The provider holds the money for us. In the same breath the order is placed.
    PaymentAuthorized {
        /// The provider's name for the charge.
        reference: String,
    },
    /// The authorized money is ours.
    PaymentCaptured,
    /// The authorized money can never be ours; in the same breath the order is called off.
    CaptureFailed {
        /// Why.
        reason: String,
    },
    /// The authorized money was let go, because the order was called off before it was captured.
    AuthorizationVoided,
    /// The provider told of an event, unasked. Remembered, so that a copy has no second effect.
    Noticed {
        /// The provider's id of the event.
        event: String,
        /// Whether the order, whose shopper has to act, now asks the provider how the payment stands.
        asks: bool,
    },
    /// Money came for an order that does not want it: it is off, or was paid by another payment. It goes back.
    StrayFound {
        /// The provider's name for the payment.
        reference: String,
    },
    /// That money went back, or was let go.
    StrayReturned {
        /// The provider's name for the payment.
        reference: String,
    },
    /// The provider refused to give it back. People have to see to it; reconciliation reports it.
    StrayKept {
        /// The provider's name for the payment.
        reference: String,
        /// Why.
        reason: String,
    },
    /// A caller's request found nothing to change, and is answered as the order stands: no step of its life, and no new version.
    /// Recorded so that a repeat is told the same, whatever has become of the order since (law 5).
    Answered(Inquiry),
}

/// A caller's request that may find nothing left to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inquiry {
    /// A confirmation: the order is placed, or its payment is open and not the shopper's to finish.
    Confirm,
    /// A cancellation: the order is off.
    Cancel,
}

/// What became of money that an order does not want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrayOutcome {
    /// Cancelled before it was ours, or given back.
    Returned,
    /// The provider refuses.
    Refused {
        /// Why, safe to show.
        reason: String,
    },
}

/// Work that an order's state demands and that is not done yet. The shell starts what it has not started; after a
/// crash it starts all again: every one is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderObligation {
    /// Ask these SKUs (lines summed), one after another in SKU order, for all of it.
    HoldUnits(Vec<Item>),
    /// Wait until the provider can be asked, first come first served.
    AwaitProvider {
        /// Since when the order waits: its place in the queue.
        since: Position,
    },
    /// Ask the provider for the money. Only after the demand is durable.
    Charge(ChargeRequest),
    /// Ask the provider how the charge stands. The shell waits between tries.
    LookUp {
        /// The charge.
        charge: ChargeRequest,
        /// The provider's name for it, where known.
        reference: Option<String>,
    },
    /// Ask the provider to finish after the shopper's action.
    Confirm {
        /// The charge.
        charge: ChargeRequest,
        /// The provider's name for it.
        reference: String,
    },
    /// Ask the provider to cancel the charge.
    Void {
        /// The charge.
        charge: ChargeRequest,
        /// The provider's name for it, where known.
        reference: Option<String>,
    },
    /// Ask the provider to make the authorized money ours.
    Capture {
        /// The charge.
        charge: ChargeRequest,
        /// The provider's name for it.
        reference: String,
    },
    /// Ask the provider to cancel a payment that the order does not want, or to give it back.
    ReturnStray {
        /// Which of the order's strays it is, from 0.
        nth: usize,
        /// The charge it was taken for.
        charge: ChargeRequest,
        /// The provider's name for the payment.
        reference: String,
    },
    /// Have every SKU sell its part.
    SellUnits(Vec<Item>),
    /// Have every SKU free its part.
    FreeUnits(Vec<Item>),
    /// Tell the cart how it ended.
    TellCart {
        /// Which cart.
        cart: CartId,
        /// Whether the order was placed.
        placed: bool,
    },
    /// Ask the provider to give money back.
    Refund {
        /// Which refund; also its idempotency key.
        refund: RefundId,
        /// The charge it is from.
        charge: ChargeRequest,
        /// The provider's name for the charge.
        reference: String,
        /// How much, more than zero.
        amount: Money,
    },
    /// Have each SKU take units back.
    Restock {
        /// By which refund.
        refund: RefundId,
        /// What (summed per SKU).
        items: Vec<Item>,
    },
}
