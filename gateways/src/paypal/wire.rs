//! What PayPal writes and reads: the fields that matter here, all others are ignored. States stay texts; `judge` knows
//! them, and a state of tomorrow is not an error of parsing.

use serde::{Deserialize, Serialize};

/// `{"currency_code": "GBP", "value": "19.99"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Amount {
    pub(super) currency_code: String,
    pub(super) value: String,
}

/// One way on from an object.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Link {
    pub(super) href: String,
    pub(super) rel: String,
}

/// An order: what the shopper approves.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) status: String,
    /// `AUTHORIZE` as we make it, `CAPTURE` once we forbade it.
    #[serde(default)]
    pub(super) intent: Option<String>,
    #[serde(default)]
    pub(super) purchase_units: Vec<Unit>,
    #[serde(default)]
    pub(super) links: Vec<Link>,
}

/// What is bought. We make one for each order.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Unit {
    #[serde(default)]
    pub(super) custom_id: Option<String>,
    #[serde(default)]
    pub(super) amount: Option<Amount>,
    #[serde(default)]
    pub(super) payments: Payments,
}

/// What became of the money.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Payments {
    #[serde(default)]
    pub(super) authorizations: Vec<Payment>,
    #[serde(default)]
    pub(super) captures: Vec<Payment>,
    #[serde(default)]
    pub(super) refunds: Vec<Payment>,
}

/// An authorization, a capture or a refund: they are described alike.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Payment {
    pub(super) id: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) status_details: Option<StatusDetails>,
    #[serde(default)]
    pub(super) amount: Option<Amount>,
    #[serde(default)]
    pub(super) custom_id: Option<String>,
    #[serde(default)]
    pub(super) supplementary_data: SupplementaryData,
    #[serde(default)]
    pub(super) links: Vec<Link>,
    #[serde(default)]
    pub(super) create_time: Option<String>,
}

/// Why something is pending.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StatusDetails {
    #[serde(default)]
    pub(super) reason: String,
}

/// What a payment belongs to.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct SupplementaryData {
    #[serde(default)]
    pub(super) related_ids: RelatedIds,
}

/// The order of a payment.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RelatedIds {
    #[serde(default)]
    pub(super) order_id: Option<String>,
}

impl Payment {
    /// PayPal's order of this payment, from the related ids or else from the link to what is above it.
    pub(super) fn order_id(&self) -> Option<&str> {
        let above = || {
            let link = self.links.iter().find(|link| link.rel == "up")?;
            Some(link.href.split_once("/v2/checkout/orders/")?.1)
        };
        self.supplementary_data.related_ids.order_id.as_deref().or_else(above).filter(|id| is_id(id))
    }
}

/// A refusal's body. OAuth's has other names for the same.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Failure {
    #[serde(default, alias = "error")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) details: Vec<Detail>,
    #[serde(default)]
    pub(super) links: Vec<Link>,
}

/// What exactly is wrong.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Detail {
    #[serde(default)]
    pub(super) issue: String,
}

/// An access token.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    pub(super) access_token: String,
    pub(super) expires_in: u64,
}

/// Whether a text may stand in a path as one of PayPal's ids. Anything else could lead a request elsewhere.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
