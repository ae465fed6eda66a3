//! Webhooks: proved to be Stripe's, then read as far as they concern a payment of ours.
//!
//! Laws: (1) nothing of a body is read before a signature over its bytes fits; (2) every `v1` is tried with every secret,
//! so that a secret can be rolled without a gap; (3) what was signed more than [`AGE_S_MAX`] away from now is refused.
//!
//! The signature is HMAC-SHA256 over `<t>.<body>` with the endpoint's secret, in hexadecimal.
//! Source: <https://docs.stripe.com/webhooks#verify-manually>. Only the fields below are read, which have stood in every
//! version of the API: an endpoint sends the version it was made with, whatever version we ask in.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::payment::{FailedRefund, Notice, NoticeError, PaymentNews, Standing};
use serde::Deserialize;
use serde_json::Value;

use super::amounts;
use super::payments::{Account, ORDER};
use super::refunds::REFUND;

/// How far a signature may be from now, either way. Stripe's own libraries allow as much.
const AGE_S_MAX: i64 = 300;

/// Signatures of one header that are tried. Stripe sends one for each secret in force, two during a rotation.
const SIGNATURES_MAX: usize = 16;

/// An event, as far as it is read.
#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    livemode: bool,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
}

/// The intent in an event, as it was then.
#[derive(Deserialize)]
struct Intent {
    id: String,
    amount: i64,
    currency: String,
    metadata: Option<BTreeMap<String, String>>,
}

/// The refund in an event, as it was then.
#[derive(Deserialize)]
struct Refund {
    id: String,
    amount: i64,
    currency: String,
    status: Option<String>,
    failure_reason: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Account {
    pub(super) fn notice(
        &self,
        header: Option<&str>,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Notice, NoticeError> {
        if self.webhook_secrets.is_empty() {
            return Err(NoticeError::NotConfigured);
        }
        let signed_at = prove(&self.webhook_secrets, header.unwrap_or_default(), body)?;
        let age_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX).saturating_sub(signed_at);
        if !(-AGE_S_MAX..=AGE_S_MAX).contains(&age_s) {
            return Err(NoticeError::Stale { age_s, allowed_s: AGE_S_MAX });
        }
        let event: Event =
            serde_json::from_slice(body).map_err(|error| NoticeError::Malformed(error.to_string()))?;
        if event.livemode != self.live {
            let mode = |live| if live { "live mode" } else { "test mode" };
            return Err(NoticeError::Malformed(format!(
                "it is of {}, and the Stripe key of {}; point the other mode's endpoint elsewhere",
                mode(event.livemode),
                mode(self.live)
            )));
        }
        let (mut told, mut failed) = (None, None);
        if let Some(standing) = standing(&event.kind) {
            told = news(event.data.object, standing)?;
        } else if tells_of_refund(&event.kind) {
            failed = failed_refund(event.data.object)?;
        }
        Ok(Notice { event: event.id, kind: event.kind, news: told, failed_refund: failed })
    }
}

/// When the body was signed, in seconds since the epoch, by somebody who knows one of the secrets.
fn prove(secrets: &[String], header: &str, body: &[u8]) -> Result<i64, NoticeError> {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let at = parts().find(|(name, _)| *name == "t").map(|(_, at)| at).ok_or(NoticeError::BadSignature)?;
    let signed_at = at.parse().map_err(|_| NoticeError::BadSignature)?;
    let signatures: Vec<Vec<u8>> = parts()
        .filter(|(name, _)| *name == "v1")
        .take(SIGNATURES_MAX)
        .filter_map(|(_, signature)| bytes_of(signature))
        .collect();
    let signed = [at.as_bytes(), b".", body].concat();
    // Each is compared in constant time, and all of them: how long it took tells nobody how near a guess was.
    let mut fits = false;
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        for signature in &signatures {
            fits |= hmac::verify(&key, &signed, signature).is_ok();
        }
    }
    if fits { Ok(signed_at) } else { Err(NoticeError::BadSignature) }
}

/// Bytes from two hexadecimal digits each.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// What an event says of its intent; nothing for kinds that concern no intent's standing.
fn standing(kind: &str) -> Option<Standing> {
    match kind {
        "payment_intent.amount_capturable_updated" => Some(Standing::Authorized),
        "payment_intent.succeeded" => Some(Standing::Captured),
        "payment_intent.canceled" => Some(Standing::Cancelled),
        "payment_intent.requires_action" | "payment_intent.payment_failed" | "payment_intent.processing" => {
            Some(Standing::Open)
        }
        _ => None,
    }
}

fn news(object: Value, standing: Standing) -> Result<Option<PaymentNews>, NoticeError> {
    let intent: Intent =
        serde_json::from_value(object).map_err(|error| NoticeError::Malformed(error.to_string()))?;
    let order = intent.metadata.as_ref().and_then(|metadata| metadata.get(ORDER)?.parse::<OrderId>().ok());
    let Some(order) = order else { return Ok(None) };
    let Some(amount) = amounts::from_stripe(intent.amount, &intent.currency) else {
        return Err(NoticeError::Malformed(format!("{} {} is no amount", intent.amount, intent.currency)));
    };
    Ok(Some(PaymentNews { order, reference: intent.id, amount, standing }))
}

/// Whether an event has a refund in it that may have failed. Accounts of different ages call it by different names.
fn tells_of_refund(kind: &str) -> bool {
    matches!(kind, "refund.failed" | "refund.updated" | "charge.refund.updated")
}

/// A refund of ours that failed; nothing where it did not, or where somebody else made it.
fn failed_refund(object: Value) -> Result<Option<FailedRefund>, NoticeError> {
    let refund: Refund =
        serde_json::from_value(object).map_err(|error| NoticeError::Malformed(error.to_string()))?;
    if !matches!(refund.status.as_deref(), Some("failed" | "canceled")) {
        return Ok(None);
    }
    let said = |name: &str| refund.metadata.as_ref().and_then(|metadata| metadata.get(name));
    let order = said(ORDER).and_then(|order| order.parse::<OrderId>().ok());
    let (Some(order), Some(key)) = (order, said(REFUND).cloned()) else { return Ok(None) };
    let Some(amount) = amounts::from_stripe(refund.amount, &refund.currency) else {
        return Err(NoticeError::Malformed(format!("{} {} is no amount", refund.amount, refund.currency)));
    };
    let reason = refund.failure_reason.or(refund.status).unwrap_or_default();
    Ok(Some(FailedRefund { order, key, reference: refund.id, amount, reason }))
}
