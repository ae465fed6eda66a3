//! Stripe: card payments by payment intents, authorized first and captured by hand.
//!
//! Laws: (1) the same key is the same payment, also when Stripe has forgotten it: then its books are asked; (2) what is
//! called declined or voided can never succeed; (3) no answer, or one that could mean anything, is `Unknown`; (4) secrets
//! are in no log line, no error and no `Debug`.
//!
//! | Stripe says | charge | |
//! |---|---|---|
//! | `requires_capture` | authorized | |
//! | `succeeded` | captured | |
//! | `requires_action` | action required | its client secret, for Stripe.js |
//! | `requires_payment_method`, 402 | declined | once the intent is cancelled |
//! | `requires_confirmation` | | confirmed, then as above |
//! | `canceled` | declined | |
//! | `processing`, 401, 403, 404, 409, 429, 5xx, nothing | unknown | |
//! | 400 | declined, final | with a log line that says what Stripe did not accept |
//! | another amount or currency | declined once cancelled | unknown if it is captured already, and an error in the log |
//!
//! **Which API.** Requests name version `2026-09-30.endive`, that of `async-stripe` 1.0.0-rc.10. It takes the kinds of
//! payment methods as `allowed_payment_method_types`; the older `payment_method_types` is an error in it.
//!
//! **What is whose.** `async-stripe` writes the requests; the connections (`wire`), the few fields that are read
//! (`objects`) and the proof of webhooks (`notices`) are ours, each for the reason in its header. `payments` holds the
//! rules; start there, or at [`Stripe::new`].

mod amounts;
mod books;
mod declines;
mod notices;
mod objects;
mod options;
mod payments;
mod refunds;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, Checkup, CheckupStanding, Notice, NoticeError,
    PaymentPage, PaymentProvider, RefundOutcome, Turnstile, VoidOutcome,
};

pub use options::{Options, OptionsError};
use payments::{Account, Clock};
use wire::Wire;

/// The provider `stripe`. Cheap to clone; clones share their connections.
///
/// All calls are made on one tokio runtime with its I/O and time drivers: connections that are kept belong to it.
#[derive(Clone)]
pub struct Stripe {
    account: Arc<Account>,
    calls_per_second_max: u32,
}

impl Stripe {
    /// A door to the account that `options` name. Opens no connection yet, so that a start does not wait for Stripe.
    pub fn new(options: &Options) -> Result<Self, OptionsError> {
        Self::with_clock(options, Arc::new(wall_clock_ms))
    }

    fn with_clock(options: &Options, clock: Clock) -> Result<Self, OptionsError> {
        let checked = options.check()?;
        let timeout = Duration::from_millis(options.request_timeout_ms);
        let wire =
            Wire::new(checked.base, &options.secret_key, timeout).ok_or(OptionsError::KeyCharacters)?;
        let webhook_secrets = options.webhook_secrets.clone();
        let account = Account { wire, clock, live: checked.live, webhook_secrets };
        Ok(Self { account: Arc::new(account), calls_per_second_max: checked.calls_per_second_max })
    }
}

impl fmt::Debug for Stripe {
    /// No secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripe").field("live", &self.account.live).finish_non_exhaustive()
    }
}

/// Keys are forgotten by Stripe's clock, not by the engine's business time, which may stand in a replay.
fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Account {
    async fn check_up(&self) -> Checkup {
        let (standing, clock_s) = match self.wire.knock().await {
            Ok((status, clock_s)) => (standing_of(status.as_u16()), clock_s),
            Err(why) => (CheckupStanding::Unanswered(why), None),
        };
        Checkup { standing, clock_s, proves_notices: !self.webhook_secrets.is_empty() }
    }
}

fn standing_of(status: u16) -> CheckupStanding {
    match status {
        200 => CheckupStanding::Accepted,
        401 => CheckupStanding::Refused(
            "Stripe does not accept the secret key: it was rolled, or belongs to another account; take the one of \
             https://dashboard.stripe.com/apikeys"
                .to_owned(),
        ),
        403 => CheckupStanding::Refused(
            "the restricted key may not read payment intents: give it write access to payment intents and refunds, and read \
             access to charges"
                .to_owned(),
        ),
        404 => CheckupStanding::Refused("Stripe's API is not at the base that is configured".to_owned()),
        429 => CheckupStanding::Unanswered("Stripe says that the account asks too often (429)".to_owned()),
        other => CheckupStanding::Unanswered(format!("Stripe answered {other}")),
    }
}

impl PaymentProvider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn answers(&self) -> Option<u64> {
        Some(self.account.wire.answers())
    }

    fn calls_per_second_max(&self) -> Option<u32> {
        Some(self.calls_per_second_max)
    }

    fn paced(&self, turns: Arc<dyn Turnstile>) -> Option<Arc<dyn PaymentProvider>> {
        let account = Account { wire: self.account.wire.paced(turns), ..Account::clone(&self.account) };
        Some(Arc::new(Self { account: Arc::new(account), ..self.clone() }))
    }

    fn check_up(&self) -> Answering<Checkup> {
        let account = Arc::clone(&self.account);
        Box::pin(async move { account.check_up().await })
    }

    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        let (account, request) = (Arc::clone(&self.account), request.clone());
        Box::pin(async move { account.authorize(&request).await })
    }

    fn confirm(&self, request: &ChargeRequest, reference: &str) -> Answering<ChargeOutcome> {
        let (account, request, reference) =
            (Arc::clone(&self.account), request.clone(), reference.to_owned());
        Box::pin(async move { account.retrieve_and_settle(&request, &reference).await })
    }

    fn look_up(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<ChargeOutcome> {
        match reference {
            Some(reference) => self.confirm(request, reference),
            // The repeat is answered as the first was; what changed since is asked for.
            None => self.authorize(request),
        }
    }

    fn capture(&self, request: &ChargeRequest, reference: &str) -> Answering<CaptureOutcome> {
        let (account, request, reference) =
            (Arc::clone(&self.account), request.clone(), reference.to_owned());
        Box::pin(async move { account.capture(&request, &reference).await })
    }

    fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<VoidOutcome> {
        let (account, request, reference) =
            (Arc::clone(&self.account), request.clone(), reference.map(str::to_owned));
        Box::pin(async move { account.void(&request, reference.as_deref()).await })
    }

    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome> {
        let (account, request) = (Arc::clone(&self.account), request.clone());
        let (reference, key) = (reference.to_owned(), key.to_owned());
        Box::pin(async move { account.refund(&request, &reference, &key, amount).await })
    }

    fn notice(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now_ms: u64,
    ) -> Answering<Result<Notice, NoticeError>> {
        let notice = self.account.notice(header("stripe-signature").as_deref(), body, now_ms);
        Box::pin(std::future::ready(notice))
    }

    fn list(&self, since: Timestamp, after: Option<&str>) -> Answering<Option<PaymentPage>> {
        let (account, after) = (Arc::clone(&self.account), after.map(str::to_owned));
        Box::pin(async move { account.list(since, after).await })
    }
}
