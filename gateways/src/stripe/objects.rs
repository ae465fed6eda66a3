//! What is read of Stripe's objects, and no more.
//!
//! The types of `async-stripe` for answers demand every field that Stripe describes today; one that Stripe leaves out or
//! shapes anew would make every payment unreadable on a busy day. Nothing here is printed: an intent bears its client
//! secret.

use std::collections::BTreeMap;

use miniserde::Deserialize;

/// How an intent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Canceled,
    Succeeded,
    /// A word that Stripe added since.
    Unheard,
}

/// A payment intent. Amounts are in Stripe's minor units.
#[derive(Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    status: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) amount_received: Option<i64>,
    pub(super) client_secret: Option<String>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) last_payment_error: Option<Trouble>,
    pub(super) cancellation_reason: Option<String>,
}

/// Why the last attempt to pay failed.
#[derive(Deserialize)]
pub(super) struct Trouble {
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
}

/// An intent in a list, with its charge.
#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    status: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) amount_received: Option<i64>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) created: i64,
    pub(super) latest_charge: Option<Charge>,
}

/// A charge. Amounts are in Stripe's minor units.
#[derive(Deserialize)]
pub(super) struct Charge {
    pub(super) amount_refunded: Option<i64>,
}

/// An intent of which only its name and its order matter.
#[derive(Deserialize)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

/// A refund.
#[derive(Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) status: Option<String>,
    pub(super) failure_reason: Option<String>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

/// What a refusal carries.
#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: Refusal,
}

/// Why Stripe refused.
#[derive(Deserialize)]
pub(super) struct Refusal {
    /// `card_error`, `invalid_request_error`, `idempotency_error` or `api_error`.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
    pub(super) param: Option<String>,
    pub(super) message: Option<String>,
    /// The intent that the refused attempt left behind.
    pub(super) payment_intent: Option<Named>,
}

/// Something of which only the name is read.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
}

impl Intent {
    pub(super) fn status(&self) -> Status {
        Status::of(&self.status)
    }
}

impl Listed {
    pub(super) fn status(&self) -> Status {
        Status::of(&self.status)
    }
}

impl Status {
    fn of(word: &str) -> Self {
        match word {
            "requires_payment_method" => Self::RequiresPaymentMethod,
            "requires_confirmation" => Self::RequiresConfirmation,
            "requires_action" => Self::RequiresAction,
            "processing" => Self::Processing,
            "requires_capture" => Self::RequiresCapture,
            "canceled" => Self::Canceled,
            "succeeded" => Self::Succeeded,
            other => {
                tracing::error!(status = other, "Stripe says a status that this version has never heard of");
                Self::Unheard
            }
        }
    }
}
