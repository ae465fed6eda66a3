//! Webhooks: signed as Stripe signs, delivered until somebody says 2xx.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::shared::Shared;

/// The first retry comes after this; each later one after twice the time, up to [`RETRY_MS_MAX`]. Stripe publishes no
/// figures, only that the waits grow.
const RETRY_MS: u64 = 10_000;
const RETRY_MS_MAX: u64 = 6 * 60 * 60 * 1_000;

/// After three days Stripe gives an event up.
const GIVEN_UP_MS: u64 = 3 * 24 * 60 * 60 * 1_000;

/// A receiver that does not answer within this has not received.
const RECEIVER: Duration = Duration::from_secs(10);

/// Deliveries that are remembered for whoever asks; older ones are forgotten.
const REMEMBERED: usize = 10_000;

/// Where webhooks go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `http://…`
    pub url: String,
    /// One secret, or two while one replaces the other: each signs, and one signature that fits is enough.
    pub secrets: Vec<String>,
    /// Kinds of events that are wanted; all where none is named.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// `evt_…`
    pub event: String,
    /// From 1.
    pub attempt: u32,
    /// By the stand-in's clock.
    pub at_ms: u64,
    /// What the receiver answered; `None` where nobody did.
    pub status: Option<u16>,
}

/// A delivery that is to be made.
#[derive(Clone, Debug)]
struct Parcel {
    event: String,
    attempt: u32,
    first_ms: u64,
}

/// What is to be delivered, and what was.
#[derive(Debug, Default)]
pub(crate) struct Webhooks {
    pub(crate) endpoint: Option<Endpoint>,
    /// By due time, then by the order in which they were put there.
    queue: BTreeMap<(u64, u64), Parcel>,
    queued: u64,
    under_way: usize,
    pub(crate) made: std::collections::VecDeque<Delivery>,
}

impl Webhooks {
    /// Queues an event; `false` where nobody wants it.
    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| {
            endpoint.kinds.is_empty() || endpoint.kinds.iter().any(|wanted| wanted == kind)
        })
    }

    pub(crate) fn queue(&mut self, event: &str, due_ms: u64, now_ms: u64) {
        self.put(due_ms, Parcel { event: event.to_owned(), attempt: 1, first_ms: now_ms });
    }

    fn put(&mut self, due_ms: u64, parcel: Parcel) {
        self.queued += 1;
        self.queue.insert((due_ms, self.queued), parcel);
    }

    /// Deliveries that are due or being made: 0 means that everybody was told what there is to tell by now.
    pub(crate) fn outstanding(&self, now_ms: u64) -> usize {
        self.under_way + self.queue.range(..=(now_ms, u64::MAX)).count()
    }

    fn take_due(&mut self, now_ms: u64) -> Result<Parcel, Option<u64>> {
        match self.queue.first_entry() {
            Some(entry) if entry.key().0 <= now_ms => {
                self.under_way += 1;
                Ok(entry.remove())
            }
            Some(entry) => Err(Some(entry.key().0)),
            None => Err(None),
        }
    }
}

/// What `Stripe-Signature` says of a body sent at `at_s`: the time, and for each secret the HMAC-SHA256 over both.
pub fn signature(secrets: &[String], at_s: u64, body: &str) -> String {
    let mut header = format!("t={at_s}");
    for secret in secrets {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
            unreachable!("HMAC takes keys of any length");
        };
        mac.update(format!("{at_s}.{body}").as_bytes());
        header.push_str(",v1=");
        for byte in mac.finalize().into_bytes() {
            let _ = write!(header, "{byte:02x}");
        }
    }
    header
}

/// Delivers for as long as the stand-in lives, so many at once.
pub(crate) async fn deliver(shared: Arc<Shared>, at_once: usize) {
    let places = Arc::new(Semaphore::new(at_once));
    let client = awc::Client::builder().timeout(RECEIVER).disable_redirects().finish();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let news = shared.news.notified();
        let taken = {
            let state = &mut *shared.state();
            state.webhooks.take_due(state.account.now_ms)
        };
        match taken {
            Ok(parcel) => {
                let (shared, client) = (Arc::clone(&shared), client.clone());
                actix_web::rt::spawn(async move {
                    carry(&shared, &client, parcel).await;
                    drop(place);
                });
            }
            Err(next) => {
                drop(place);
                let due = async {
                    match next {
                        Some(due_ms) => shared.clock.until(due_ms).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = due => {}
                    () = news => {}
                }
            }
        }
    }
}

/// Makes one attempt, and plans the next if it failed.
async fn carry(shared: &Shared, client: &awc::Client, parcel: Parcel) {
    let (endpoint, body, at_ms) = {
        let state = &mut *shared.state();
        (state.webhooks.endpoint.clone(), state.account.event_body(&parcel.event), state.account.now_ms)
    };
    let status = match (endpoint, body) {
        (Some(endpoint), Some(body)) => {
            let request = client
                .post(&endpoint.url)
                .insert_header(("Content-Type", "application/json; charset=utf-8"))
                .insert_header(("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)"))
                .insert_header(("Stripe-Signature", signature(&endpoint.secrets, at_ms / 1_000, &body)));
            request.send_body(body).await.ok().map(|response| response.status().as_u16())
        }
        (None, _) | (_, None) => None,
    };
    let state = &mut *shared.state();
    let received = status.is_some_and(|status| (200..300).contains(&status));
    let webhooks = &mut state.webhooks;
    webhooks.under_way -= 1;
    let delivery = Delivery { event: parcel.event.clone(), attempt: parcel.attempt, at_ms, status };
    webhooks.made.push_back(delivery);
    if webhooks.made.len() > REMEMBERED {
        webhooks.made.pop_front();
    }
    if received {
        state.account.set_pending(&parcel.event, false);
        return;
    }
    let wait_ms = RETRY_MS.saturating_mul(1 << (parcel.attempt - 1).min(12)).min(RETRY_MS_MAX);
    let due_ms = state.account.now_ms.saturating_add(wait_ms);
    if due_ms < parcel.first_ms.saturating_add(GIVEN_UP_MS) {
        webhooks.put(due_ms, Parcel { attempt: parcel.attempt + 1, ..parcel });
        shared.news.notify_one();
    }
}
