//! Webhooks: proved by asking PayPal, since its signature covers the very bytes that it sent.
//!
//! Laws: (1) the bytes go back as they came: an event that was parsed and written again has another signature; (2) nothing
//! of an event is used before PayPal has said that it is its own; (3) no answer is [`NoticeError::Unproved`], so that PayPal
//! sends it again (up to 25 times in three days).

use doorbuster_engine::identity::OrderId;
use doorbuster_engine::payment::{Notice, NoticeError, PaymentNews, Standing};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Core;
use super::amounts;
use super::door::{Call, Failed};
use super::wire::{Amount, Order, Payment, is_id};

/// Oldest transmission. PayPal repeats for three days under the first time; a day more for clocks and queues.
const AGE_S_MAX: i64 = 4 * 24 * 60 * 60;

/// How far PayPal's clock may be ahead of ours.
const AHEAD_S_MAX: i64 = 5 * 60;

/// What the headers say of a webhook.
pub(super) struct Transmission {
    id: String,
    time: String,
    signature: String,
    certificate: String,
    algorithm: String,
}

impl Transmission {
    /// The five headers, or nothing where one is missing.
    pub(super) fn read(header: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            id: header("paypal-transmission-id")?,
            time: header("paypal-transmission-time")?,
            signature: header("paypal-transmission-sig")?,
            certificate: header("paypal-cert-url")?,
            algorithm: header("paypal-auth-algo")?,
        })
    }
}

/// PayPal's verdict.
#[derive(Debug, Deserialize)]
struct Verdict {
    verification_status: String,
}

/// An event.
#[derive(Debug, Deserialize)]
struct Event<'body> {
    id: String,
    #[serde(rename = "event_type")]
    kind: String,
    #[serde(borrow, default)]
    resource: Option<&'body RawValue>,
}

impl Core {
    pub(super) async fn notice(
        &self,
        transmission: Option<Transmission>,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Notice, NoticeError> {
        let webhook = self.options.webhook_id.as_deref().ok_or(NoticeError::NotConfigured)?;
        let transmission = transmission.ok_or(NoticeError::BadSignature)?;
        check_time(&transmission.time, now_ms)?;
        let malformed = |error: &dyn std::fmt::Display| NoticeError::Malformed(error.to_string());
        // One JSON value and nothing behind it: what is put between our own fields cannot add any.
        let _whole: &RawValue = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        let path = "/v1/notifications/verify-webhook-signature";
        let question = Some(question(&transmission, webhook, body));
        let call = Call { method: reqwest::Method::POST, path, key: None, body: question };
        match self.door.ask::<Verdict>(&call).await {
            Ok(verdict) if verdict.verification_status == "SUCCESS" => {}
            Ok(_) => return Err(NoticeError::BadSignature),
            Err(Failed::Refused(refusal)) => {
                let issue = refusal.issue();
                tracing::warn!(
                    issue,
                    "PayPal cannot judge a webhook; is the webhook id the id of this webhook?"
                );
                return Err(NoticeError::BadSignature);
            }
            Err(Failed::Silent) => return Err(NoticeError::Unproved),
        }
        let event: Event = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        let news = match (standing(&event.kind), event.resource) {
            (Some(standing), Some(resource)) => {
                news(standing, resource.get()).map_err(|error| malformed(&error))?
            }
            (None, _) | (_, None) => None,
        };
        Ok(Notice { event: event.id, kind: event.kind, news, failed_refund: None })
    }
}

/// How a payment stands after an event; nothing for events that say nothing definite of one. Denials and pending captures
/// are left to whoever asks.
fn standing(kind: &str) -> Option<Standing> {
    match kind {
        "CHECKOUT.ORDER.APPROVED" => Some(Standing::Open),
        "PAYMENT.AUTHORIZATION.CREATED" => Some(Standing::Authorized),
        "PAYMENT.CAPTURE.COMPLETED" => Some(Standing::Captured),
        "PAYMENT.AUTHORIZATION.VOIDED" => Some(Standing::Cancelled),
        _ => None,
    }
}

/// What an event says of a payment of ours; nothing where it is for no order of ours.
fn news(standing: Standing, resource: &str) -> Result<Option<PaymentNews>, serde_json::Error> {
    let (named, reference, amount): (Option<String>, Option<String>, Option<Amount>) =
        if standing == Standing::Open {
            let order: Order = serde_json::from_str(resource)?;
            let unit = order.purchase_units.into_iter().next();
            let (named, amount) = unit.map_or((None, None), |unit| (unit.custom_id, unit.amount));
            (named, Some(order.id), amount)
        } else {
            let payment: Payment = serde_json::from_str(resource)?;
            let reference = payment.order_id().map(str::to_owned);
            (payment.custom_id, reference, payment.amount)
        };
    let Some(order) = named.and_then(|named| named.parse::<OrderId>().ok()) else { return Ok(None) };
    let amount = amount.as_ref().and_then(amounts::read);
    let (Some(reference), Some(amount)) = (reference.filter(|id| is_id(id)), amount) else {
        tracing::warn!(%order, "PayPal's event names no order of PayPal's or no amount; it will be asked about instead");
        return Ok(None);
    };
    Ok(Some(PaymentNews { order, reference, amount, standing }))
}

/// Whether the transmission is of these days. A time that is none was written by somebody else.
fn check_time(time: &str, now_ms: u64) -> Result<(), NoticeError> {
    let sent: jiff::Timestamp = time.parse().map_err(|_| NoticeError::BadSignature)?;
    let here = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
    let age_s = here.saturating_sub(sent.as_second());
    if !(-AHEAD_S_MAX..=AGE_S_MAX).contains(&age_s) {
        return Err(NoticeError::Stale { age_s, allowed_s: AGE_S_MAX });
    }
    Ok(())
}

/// The question to PayPal, with the event's own bytes at its end.
fn question(transmission: &Transmission, webhook: &str, body: &[u8]) -> Vec<u8> {
    let ours = serde_json::json!({
        "auth_algo": transmission.algorithm,
        "cert_url": transmission.certificate,
        "transmission_id": transmission.id,
        "transmission_sig": transmission.signature,
        "transmission_time": transmission.time,
        "webhook_id": webhook,
    });
    let mut question = ours.to_string();
    // Without its closing brace.
    question.pop();
    let mut question = question.into_bytes();
    question.extend_from_slice(b",\"webhook_event\":");
    question.extend_from_slice(body);
    question.push(b'}');
    question
}
