//! Webhooks: signed over the very bytes, as PayPal's are, but with an HMAC in place of a certificate.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::WEBHOOK_ID;
use crate::server::Shared;

/// A webhook as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: String,
}

impl Webhook {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

/// Signs a body.
pub(crate) fn sign(id: &str, body: &str) -> Webhook {
    let time =
        jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string();
    let signature = signature(id, &time, WEBHOOK_ID, body);
    let headers = [
        ("paypal-transmission-id", id),
        ("paypal-transmission-time", &time),
        ("paypal-transmission-sig", &signature),
        ("paypal-cert-url", "https://api.paypal.com/v1/notifications/certs/CERT-STAND-IN"),
        ("paypal-auth-algo", "SHA256withRSA"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Webhook { headers, body: body.to_owned() }
}

fn signature(id: &str, time: &str, webhook: &str, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(b"the stand-in's certificate") else {
        unreachable!("HMAC takes keys of any length");
    };
    mac.update(format!("{id}|{time}|{webhook}|{body}").as_bytes());
    let mut signature = String::new();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(signature, "{byte:02x}");
    }
    signature
}

#[derive(Debug, Deserialize)]
struct Question<'body> {
    auth_algo: String,
    cert_url: String,
    transmission_id: String,
    transmission_sig: String,
    transmission_time: String,
    webhook_id: String,
    #[serde(borrow)]
    webhook_event: &'body RawValue,
}

/// Whether the asker's webhook is ours; `None` where the question is none.
pub(crate) fn verify(body: &[u8]) -> Option<bool> {
    let asked: Question = serde_json::from_slice(body).ok()?;
    if asked.auth_algo != "SHA256withRSA" || !asked.cert_url.starts_with("https://api.paypal.com/") {
        return None;
    }
    let event = asked.webhook_event.get();
    let ours = signature(&asked.transmission_id, &asked.transmission_time, &asked.webhook_id, event);
    Some(asked.webhook_id == WEBHOOK_ID && ours == asked.transmission_sig)
}

/// Delivers for as long as the stand-in lives, one after the other, each up to four times.
pub(crate) async fn deliver(shared: Arc<Shared>, url: String) {
    let client = awc::Client::builder().timeout(Duration::from_secs(10)).finish();
    let mut sent = 0;
    loop {
        let news = shared.news.notified();
        let next = shared.state().account.webhooks.get(sent).cloned();
        let Some(webhook) = next else {
            news.await;
            continue;
        };
        sent += 1;
        for wait_s in [1, 5, 25, 0] {
            let mut request = client.post(&url).insert_header(("Content-Type", "application/json"));
            for (name, value) in &webhook.headers {
                request = request.insert_header((name.as_str(), value.as_str()));
            }
            let answer = request.send_body(webhook.body.clone()).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(wait_s)).await;
        }
    }
}
