//! Why a payment was not made, in sentences that a shopper may read.
//!
//! Stripe's own messages are not passed on: they name parameters and objects, and what a bank says of a stolen card is
//! for nobody who may hold it. Sources: <https://docs.stripe.com/declines/codes>, <https://docs.stripe.com/error-codes>.

use super::objects::{Refusal, Trouble};

/// A reason, and whether a new attempt may fare better.
pub(super) type Reason = (&'static str, bool);

/// What a bank or the card's own data said: Stripe's `decline_code`, else its `code`.
pub(super) fn of_card(code: Option<&str>, decline_code: Option<&str>) -> Reason {
    // A bank that gives no reason says so in a decline code of its own, behind which the code may tell more.
    let word = match decline_code {
        Some("generic_decline" | "do_not_honor") | None => code.unwrap_or_default(),
        Some(word) => word,
    };
    match word {
        "insufficient_funds" => ("the card has insufficient funds", false),
        "expired_card" => ("the card has expired", false),
        "incorrect_cvc" | "invalid_cvc" => ("the card's security code is wrong", false),
        "incorrect_number" | "invalid_number" => ("the card's number is wrong", false),
        "invalid_expiry_month" | "invalid_expiry_year" => ("the card's expiry date is wrong", false),
        "incorrect_zip" | "incorrect_address" => ("the address does not fit the card", false),
        "card_velocity_exceeded" | "withdrawal_count_limit_exceeded" => {
            ("the card's limit is exceeded", false)
        }
        "currency_not_supported" => ("the card does not support this currency", false),
        "card_not_supported" | "invalid_account" | "invalid_amount" | "transaction_not_allowed" => {
            ("the card does not support this purchase", false)
        }
        "authentication_required"
        | "payment_intent_authentication_failure"
        | "card_declined_authentication_failed"
        | "mobile_device_authentication_required" => ("the bank's check of the shopper failed", false),
        "live_mode_test_card" | "testmode_decline" | "test_mode_live_card" => {
            ("a test card was used in earnest, or a real one in a test", false)
        }
        "issuer_not_available" => ("the bank could not be reached", true),
        "processing_error" => ("the payment could not be processed", true),
        "approve_with_id" | "reenter_transaction" | "try_again_later" => ("the bank asks to try again", true),
        // Lost, stolen, fraudulent and restricted cards among them: Stripe asks to show them like any other.
        _ => ("the card was declined", false),
    }
}

/// What the intent remembers of its last attempt.
pub(super) fn of_trouble(trouble: Option<&Trouble>) -> Reason {
    match trouble {
        Some(trouble) => of_card(trouble.code.as_deref(), trouble.decline_code.as_deref()),
        None => of_card(None, None),
    }
}

/// What Stripe did not accept about the request itself.
pub(super) fn of_request(refusal: &Refusal) -> Reason {
    match (refusal.code.as_deref(), refusal.param.as_deref()) {
        (Some("amount_too_small"), _) => ("the amount is below what the payment provider takes", false),
        (Some("amount_too_large"), _) => ("the amount is above what the payment provider takes", false),
        (_, Some("currency")) | (Some("invalid_currency" | "currency_not_supported"), _) => {
            ("the payment provider does not take this currency", false)
        }
        (_, Some("payment_method"))
        | (Some("payment_method_invalid_parameter" | "payment_method_unexpected_state"), _) => {
            ("the payment provider does not know this payment method, or it was used before", false)
        }
        (_, _) => ("the payment provider did not accept the payment", false),
    }
}

/// Why money did not go back, for the merchant.
pub(super) fn of_refund(refusal: &Refusal) -> &'static str {
    match (refusal.code.as_deref(), refusal.param.as_deref()) {
        (Some("charge_already_refunded"), _) => "all of the payment was given back already",
        (Some("charge_disputed"), _) => {
            "the shopper disputes the payment at the bank; it cannot be given back as well"
        }
        (Some("balance_insufficient" | "insufficient_funds"), _) => {
            "the balance at the payment provider does not suffice; top it up, then refund anew"
        }
        (Some("refund_disputed_payment"), _) => "the payment is disputed; it cannot be given back as well",
        (Some("amount_too_large"), _) | (_, Some("amount")) => {
            "the refund is more than what is left of the payment"
        }
        (_, _) => "the payment provider refused the refund",
    }
}

/// Why a refund that was begun did not arrive. Source: <https://docs.stripe.com/refunds#failed-refunds>.
pub(super) fn of_failed_refund(reason: Option<&str>) -> &'static str {
    match reason.unwrap_or_default() {
        "lost_or_stolen_card" => {
            "the refund failed: the card was lost or stolen; pay the shopper another way"
        }
        "expired_or_canceled_card" => {
            "the refund failed: the card expired or was closed; pay the shopper another way"
        }
        "insufficient_funds" => "the refund failed: the balance at the payment provider does not suffice",
        "charge_for_pending_refund_disputed" => "the refund was stopped: the shopper disputes the payment",
        "declined" | "unknown" => "the shopper's bank refused the refund; pay the shopper another way",
        _ => "the refund failed at the payment provider; its dashboard tells why",
    }
}
