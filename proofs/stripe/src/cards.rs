//! Stripe's test payment methods, by name, and what each does.

/// What the bank says when asked for the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Approved,
    /// Refused: Stripe's `code`, its `decline_code`, and what it tells the customer.
    Declined(&'static str, Option<&'static str>, &'static str),
    /// Not known yet: the intent is `processing` until the stand-in is told how it ends.
    Pending,
}

/// What becomes of a refund to a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// It has arrived when it was asked for.
    AtOnce,
    /// It is `pending` first, and arrives later.
    Late,
    /// It seems to have arrived, and fails later: the card's account is closed.
    Fails,
}

/// One test payment method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) brand: &'static str,
    pub(crate) last4: &'static str,
    /// Whether the bank wants 3-D Secure first.
    pub(crate) authentication: bool,
    pub(crate) verdict: Verdict,
    pub(crate) refunds: Return,
}

/// A refusal without a reason, also what is drawn at a decline rate.
pub(crate) const GENERIC_DECLINE: Verdict =
    Verdict::Declined("card_declined", Some("generic_decline"), "Your card was declined.");

const NO_FUNDS: Verdict =
    Verdict::Declined("card_declined", Some("insufficient_funds"), "Your card has insufficient funds.");

impl Card {
    /// The payment method of this name; `None` where Stripe would know no such method.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (brand, last4, authentication, verdict) = match name {
            "pm_card_visa" => ("visa", "4242", false, Verdict::Approved),
            "pm_card_visa_debit" => ("visa", "5556", false, Verdict::Approved),
            "pm_card_mastercard" => ("mastercard", "4444", false, Verdict::Approved),
            "pm_card_amex" => ("amex", "8431", false, Verdict::Approved),
            "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => {
                ("visa", "0002", false, GENERIC_DECLINE)
            }
            "pm_card_chargeDeclinedInsufficientFunds" | "pm_card_visa_chargeDeclinedInsufficientFunds" => {
                ("visa", "9995", false, NO_FUNDS)
            }
            "pm_card_visa_chargeDeclinedLostCard" => {
                ("visa", "9987", false, declined("card_declined", Some("lost_card")))
            }
            "pm_card_visa_chargeDeclinedStolenCard" => {
                ("visa", "9979", false, declined("card_declined", Some("stolen_card")))
            }
            "pm_card_chargeDeclinedFraudulent" => {
                ("visa", "0019", false, declined("card_declined", Some("fraudulent")))
            }
            "pm_card_chargeDeclinedExpiredCard" => {
                let said = "Your card has expired.";
                ("visa", "0069", false, Verdict::Declined("expired_card", None, said))
            }
            "pm_card_chargeDeclinedIncorrectCvc" => {
                let said = "Your card's security code is incorrect.";
                ("visa", "0127", false, Verdict::Declined("incorrect_cvc", None, said))
            }
            "pm_card_chargeDeclinedProcessingError" => {
                let said = "An error occurred while processing your card. Try again in a little bit.";
                ("visa", "0119", false, Verdict::Declined("processing_error", None, said))
            }
            "pm_card_authenticationRequired" | "pm_card_threeDSecureRequired" => {
                ("visa", "3184", true, Verdict::Approved)
            }
            "pm_card_threeDSecure2Required" => ("visa", "3220", true, Verdict::Approved),
            "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds" => {
                ("visa", "3178", true, NO_FUNDS)
            }
            "pm_card_threeDSecureRequiredChargeDeclined" => ("visa", "1629", true, GENERIC_DECLINE),
            "pm_card_pendingRefund" => ("visa", "7726", false, Verdict::Approved),
            "pm_card_refundFail" => ("visa", "5126", false, Verdict::Approved),
            "pm_usBankAccount_processing" => ("", "0000", false, Verdict::Pending),
            _ => return None,
        };
        let refunds = match name {
            "pm_card_pendingRefund" => Return::Late,
            "pm_card_refundFail" => Return::Fails,
            _ => Return::AtOnce,
        };
        Some(Self { brand, last4, authentication, verdict, refunds })
    }

    /// Stripe's type of this method.
    pub(crate) fn kind(&self) -> &'static str {
        if self.brand.is_empty() { "us_bank_account" } else { "card" }
    }
}

const fn declined(code: &'static str, decline_code: Option<&'static str>) -> Verdict {
    Verdict::Declined(code, decline_code, "Your card was declined.")
}
