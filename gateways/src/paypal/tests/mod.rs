//! The adapter against a stand-in of PayPal over HTTP, and its judgements without.
//!
//! Nothing here shows that PayPal agrees with the stand-in; docs/payments.md says what it cannot show.

mod calls;
mod checkup;
mod faults;
mod judged;
mod listed;
mod noticed;
mod over_tls;
mod turns;

use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::payment::{
    CaptureOutcome, ChargeOutcome, ChargeRequest, NextAction, PaymentProvider, RefundOutcome, VoidOutcome,
};
use doorbuster_paypal_stand_in as stand_in;

use super::{Options, PayPal};

/// A stand-in, and the adapter at its door.
pub(super) struct Shop {
    pub(super) there: stand_in::PayPal,
    pub(super) paypal: PayPal,
}

pub(super) fn shop() -> Shop {
    shop_with(|_| ())
}

pub(super) fn shop_with(change: impl FnOnce(&mut Options)) -> Shop {
    let there = stand_in::PayPal::start().unwrap();
    let mut options = options(&there.url());
    change(&mut options);
    Shop { paypal: PayPal::new(options).unwrap(), there }
}

pub(super) fn options(base: &str) -> Options {
    Options {
        client_id: stand_in::CLIENT_ID.to_owned(),
        client_secret: stand_in::CLIENT_SECRET.to_owned(),
        webhook_id: Some(stand_in::WEBHOOK_ID.to_owned()),
        api_base: base.to_owned(),
        return_url: "https://shop.example/paid?order={order}".to_owned(),
        cancel_url: "https://shop.example/cart".to_owned(),
        ..Options::default()
    }
}

/// A charge of 19.99 pounds for the order of this number, asked for just now.
pub(super) fn charge(number: u128) -> ChargeRequest {
    let order = OrderId(number);
    ChargeRequest {
        key: format!("{order}:charge"),
        order,
        amount: Money::new(1_999, Currency::GBP),
        method: "pm_card_of_another_provider".to_owned(),
        asked_at: now(),
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap())
}

impl Shop {
    /// A payment that waits for the shopper: its reference.
    pub(super) async fn waiting(&self, request: &ChargeRequest) -> String {
        let outcome = self.paypal.authorize(request).await;
        let ChargeOutcome::ActionRequired { reference, action: NextAction::Redirect(page) } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(page.ends_with(&format!("/checkoutnow?token={reference}")), "{page}");
        reference
    }

    /// A payment that the shopper approved.
    pub(super) async fn approved(&self, request: &ChargeRequest) -> String {
        let reference = self.waiting(request).await;
        self.there.approve(&reference).unwrap();
        reference
    }

    /// A payment that is held.
    pub(super) async fn held(&self, request: &ChargeRequest) -> String {
        let reference = self.approved(request).await;
        let outcome = self.paypal.confirm(request, &reference).await;
        assert_eq!(outcome, ChargeOutcome::Authorized { reference: reference.clone() });
        reference
    }

    /// A payment that is ours.
    pub(super) async fn captured(&self, request: &ChargeRequest) -> String {
        let reference = self.held(request).await;
        assert_eq!(self.paypal.capture(request, &reference).await, CaptureOutcome::Captured);
        reference
    }

    /// How many orders, authorizations, captures and refunds there are.
    pub(super) fn counts(&self) -> [usize; 4] {
        let ledger = self.there.ledger();
        [ledger.orders.len(), ledger.authorizations.len(), ledger.captures.len(), ledger.refunds.len()]
    }
}

/// The outcome in a word, so that a table fits on the page.
pub(super) fn word(outcome: &ChargeOutcome) -> String {
    match outcome {
        ChargeOutcome::Authorized { .. } => "authorized".to_owned(),
        ChargeOutcome::Captured { .. } => "captured".to_owned(),
        ChargeOutcome::Declined { retryable: true, .. } => "declined, try again".to_owned(),
        ChargeOutcome::Declined { retryable: false, .. } => "declined".to_owned(),
        ChargeOutcome::ActionRequired { .. } => "action".to_owned(),
        ChargeOutcome::Unknown => "unknown".to_owned(),
    }
}

pub(super) fn capture_word(outcome: &CaptureOutcome) -> &'static str {
    match outcome {
        CaptureOutcome::Captured => "captured",
        CaptureOutcome::Lost { .. } => "lost",
        CaptureOutcome::Unknown => "unknown",
    }
}

pub(super) fn void_word(outcome: &VoidOutcome) -> &'static str {
    match outcome {
        VoidOutcome::Voided => "voided",
        VoidOutcome::AlreadyCaptured { .. } => "captured",
        VoidOutcome::Unknown => "unknown",
    }
}

pub(super) fn refund_word(outcome: &RefundOutcome) -> &'static str {
    match outcome {
        RefundOutcome::Refunded { .. } => "refunded",
        RefundOutcome::Refused { .. } => "refused",
        RefundOutcome::Unknown => "unknown",
    }
}
