//! What PayPal's states and refusals mean, without I/O: [`stage`] of an order, [`plainly`] of an issue.

use doorbuster_engine::payment::ChargeOutcome;

use super::wire::{Link, Order, Payment};

/// The intent that a void gives an order which cannot be cancelled: PayPal then refuses every authorization of it, also
/// one that is still on its way, and nobody ever asks for the capture that the intent would allow.
pub(super) const FORBIDDEN: &str = "CAPTURE";

/// How far an order is, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The shopper has not approved it. They may at this page, where PayPal names one.
    Waiting {
        /// PayPal's page.
        page: Option<String>,
    },
    /// Approved; nothing is held yet. We are the ones to authorize.
    Approved,
    /// Held for us.
    Held {
        /// PayPal's id of the authorization.
        authorization: String,
    },
    /// An authorization that PayPal still examines: it may yet be refused.
    Examined {
        /// PayPal's id of the authorization.
        authorization: String,
    },
    /// Captured, but the money has not arrived: it may yet be refused.
    Arriving {
        /// What it waits for, in PayPal's words.
        reason: String,
    },
    /// Ours.
    Captured {
        /// PayPal's id of the capture.
        capture: String,
    },
    /// The payer's bank or PayPal refused; nothing is held.
    Denied,
    /// Voided, or run out.
    Over,
    /// A state that this file does not know.
    Strange,
}

/// Reads the stage off an order: captures tell more than authorizations, those more than the order itself.
pub(super) fn stage(order: &Order) -> Stage {
    let units = order.purchase_units.iter();
    let captures: Vec<&Payment> = units.clone().flat_map(|unit| &unit.payments.captures).collect();
    let in_state = |payment: &&&Payment, states: &[&str]| states.contains(&payment.status.as_str());
    if let Some(ours) =
        captures.iter().find(|it| in_state(it, &["COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED"]))
    {
        return Stage::Captured { capture: ours.id.clone() };
    }
    if let Some(pending) = captures.iter().find(|it| in_state(it, &["PENDING"])) {
        return Stage::Arriving { reason: reason(pending) };
    }
    let refused = captures.iter().any(|it| in_state(&it, &["DECLINED", "FAILED"]));
    if captures.iter().any(|it| !in_state(&it, &["DECLINED", "FAILED"])) {
        return Stage::Strange;
    }
    if let Some(last) = units.flat_map(|unit| &unit.payments.authorizations).last() {
        let authorization = last.id.clone();
        return match last.status.as_str() {
            "CREATED" => Stage::Held { authorization },
            "PENDING" => Stage::Examined { authorization },
            "CAPTURED" | "PARTIALLY_CAPTURED" if refused => Stage::Denied,
            "DENIED" => Stage::Denied,
            "VOIDED" | "EXPIRED" => Stage::Over,
            _ => Stage::Strange,
        };
    }
    match order.status.as_str() {
        // Forbidden by a void: it can be approved, and never authorized.
        "CREATED" | "SAVED" | "PAYER_ACTION_REQUIRED" | "APPROVED"
            if order.intent.as_deref() == Some(FORBIDDEN) =>
        {
            Stage::Over
        }
        "CREATED" | "SAVED" | "PAYER_ACTION_REQUIRED" => Stage::Waiting { page: approval_page(&order.links) },
        "APPROVED" => Stage::Approved,
        "VOIDED" => Stage::Over,
        _ => Stage::Strange,
    }
}

/// Where the shopper approves. PayPal calls it one thing or the other, by the way in which the order was made.
pub(super) fn approval_page(links: &[Link]) -> Option<String> {
    let page = |name: &str| links.iter().find(|link| link.rel == name).map(|link| link.href.clone());
    page("payer-action").or_else(|| page("approve"))
}

/// Why a payment is pending, in PayPal's words.
pub(super) fn reason(payment: &Payment) -> String {
    payment.status_details.as_ref().map(|details| details.reason.clone()).unwrap_or_default()
}

/// Refusals that mean the order went on without us: reading it again tells how.
pub(super) const WENT_ON: [&str; 6] = [
    "ORDER_ALREADY_AUTHORIZED",
    "ORDER_ALREADY_COMPLETED",
    "ORDER_ALREADY_CAPTURED",
    "ORDER_COMPLETED_OR_VOIDED",
    "AUTHORIZATION_ALREADY_CAPTURED",
    "DUPLICATE_REQUEST_ID",
];

/// Refusals of a capture that mean that nothing is held any more.
pub(super) const NOTHING_HELD: [&str; 5] = [
    "AUTHORIZATION_VOIDED",
    "AUTHORIZATION_EXPIRED",
    "AUTHORIZATION_DENIED",
    "PREVIOUSLY_VOIDED",
    "CAPTURE_NOT_ALLOWED_AFTER_VOID",
];

/// Refusals that lie with the shopper's side of the payment.
const PAYERS: [&str; 11] = [
    "INSTRUMENT_DECLINED",
    "PAYER_CANNOT_PAY",
    "PAYER_ACCOUNT_RESTRICTED",
    "PAYER_ACCOUNT_LOCKED_OR_CLOSED",
    "TRANSACTION_REFUSED",
    "TRANSACTION_LIMIT_EXCEEDED",
    "TRANSACTION_BLOCKED_BY_PAYEE",
    "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED",
    "CARD_EXPIRED",
    "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING",
    "COMPLIANCE_VIOLATION",
];

/// Whether the shopper, not the shop, can do something about an issue.
pub(super) fn is_payers(issue: &str) -> bool {
    PAYERS.contains(&issue)
}

/// An issue in a sentence that may be shown to a shopper, and whether a new attempt may fare better.
pub(super) fn plainly(issue: &str) -> (&'static str, bool) {
    match issue {
        "INSTRUMENT_DECLINED" | "CARD_EXPIRED" | "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING" => {
            ("PayPal's way of paying was declined; choose another card or account there", true)
        }
        "PAYER_CANNOT_PAY" | "PAYER_ACCOUNT_RESTRICTED" | "PAYER_ACCOUNT_LOCKED_OR_CLOSED" => {
            ("this PayPal account cannot pay", true)
        }
        "TRANSACTION_LIMIT_EXCEEDED" => ("the amount is beyond this PayPal account's limit", true),
        "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED" => ("PayPal was tried too often for this payment", true),
        "ORDER_EXPIRED" => ("PayPal's page was left open too long; pay again", true),
        "TRANSACTION_REFUSED" | "COMPLIANCE_VIOLATION" | "TRANSACTION_BLOCKED_BY_PAYEE" => {
            ("PayPal refused the payment", true)
        }
        "ACTION_DOES_NOT_MATCH_INTENT" => ("the payment was cancelled", false),
        "DUPLICATE_INVOICE_ID" => ("this order has been paid at PayPal already", false),
        "CURRENCY_NOT_SUPPORTED" | "INVALID_CURRENCY_CODE" | "PAYEE_ACCOUNT_CURRENCY_NOT_SUPPORTED" => {
            ("PayPal does not take this currency here", false)
        }
        "DECIMALS_NOT_SUPPORTED" | "DECIMAL_PRECISION" => {
            ("PayPal does not take this amount: its currency has fewer decimals there", false)
        }
        "MAX_VALUE_EXCEEDED" | "TRANSACTION_RECEIVING_LIMIT_EXCEEDED" => {
            ("the amount is more than PayPal takes here", false)
        }
        "CAPTURE_FULLY_REFUNDED" => ("all of the payment went back already", false),
        "REFUND_AMOUNT_EXCEEDED" => ("more than is left of the payment", false),
        "REFUND_TIME_LIMIT_EXCEEDED" => ("PayPal refunds payments for 180 days only", false),
        "REFUND_FAILED_INSUFFICIENT_FUNDS" => ("the shop's PayPal account has too little money", true),
        "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK" | "TRANSACTION_DISPUTED" => {
            ("the payment is disputed at PayPal", false)
        }
        "PENDING_CAPTURE" => ("the payment has not arrived yet", true),
        "MAX_NUMBER_OF_REFUNDS_EXCEEDED" => ("PayPal allows no more refunds of this payment", false),
        _ => ("PayPal refused the request", false),
    }
}

/// A decline by an issue.
pub(super) fn declined(issue: &str) -> ChargeOutcome {
    let (reason, retryable) = plainly(issue);
    ChargeOutcome::Declined { reason: reason.to_owned(), retryable }
}
