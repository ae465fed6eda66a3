//! The provider `paypal`: PayPal's Orders v2 and Payments v2 over their REST API (ADR 0017).
//!
//! A checkout needs no token for it: the shopper is sent to PayPal's page, approves there, and comes back. That makes it
//! the provider that any checkout can fall over to. The method is ignored, since a checkout that fell over bears another
//! provider's.
//!
//! | trait | PayPal |
//! |---|---|
//! | `authorize` | creates an order with intent `AUTHORIZE`; the shopper is to approve it |
//! | `confirm`, `look_up` | reads the order; once approved, authorizes it |
//! | `capture` | captures the order's authorization, finally |
//! | `void` | forbids an order that is not authorized, voids its authorization where it is |
//! | `refund` | refunds the order's capture |
//! | `notice` | asks PayPal whether a webhook is its own |
//! | `list` | searches transactions, up to three hours late |
//!
//! Laws:
//!
//! 1. The reference is PayPal's order id from the first answer to the last. Nothing is remembered here: what is needed
//!    of an authorization or capture is read from the order when it is needed, so a restart forgets nothing.
//! 2. Money is held only by our own authorizing, which follows a reading that says `APPROVED`. So an order that nobody
//!    authorizes costs nobody anything, and one whose id we never learnt cannot be paid: nobody was sent to its page.
//! 3. Every request that changes something bears a `PayPal-Request-Id` made of the payment's key, the step and what it is
//!    done to (a key of 43 characters leaves room: PayPal takes 108). PayPal keeps it six hours for orders and 45 days for
//!    payments; where it has forgotten, the order's state refuses the second effect, and `invoice_id` (our order) and the
//!    refund's `custom_id` (its key) are guards behind that.
//! 4. `Unknown` is the answer to silence, 401, 403, 408, 409, 429, every 5xx, and to states that this file does not know.
//!    A refusal is definite where it is PayPal's own for this very request (400, 422), and a 404 where the order is old
//!    enough to have run out.
//!
//! One call of the trait is one to four requests. Amounts are PayPal's decimal texts (`amounts`), states are
//! judged without I/O (`judge`), requests are made by `door`. Start at [`PayPal::new`], then `payment.rs`.

mod amounts;
mod door;
mod judge;
mod list;
mod notice;
mod payment;
mod wire;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, Checkup, CheckupStanding, Notice, NoticeError,
    PaymentPage, PaymentProvider, RefundOutcome, Turnstile, VoidOutcome,
};
use reqwest::Url;

use door::Door;

/// PayPal's API for real money.
pub const LIVE: &str = "https://api-m.paypal.com";

/// PayPal's API for trying, with accounts of its own.
pub const SANDBOX: &str = "https://api-m.sandbox.paypal.com";

/// What stands for our order in [`Options::return_url`] and [`Options::cancel_url`].
const ORDER: &str = "{order}";

/// How to reach PayPal, and in whose name.
#[derive(Clone)]
pub struct Options {
    /// The REST app's client id, from the developer dashboard.
    pub client_id: String,
    /// Its secret. Never shown by `Debug`.
    pub client_secret: String,
    /// The id (not the URL) of the webhook that points here. Without it webhooks are not believed.
    pub webhook_id: Option<String>,
    /// [`LIVE`] by default, or [`SANDBOX`], or a stand-in on this machine; only there it may be `http`.
    pub api_base: String,
    /// The shop's page to which PayPal sends a shopper who approved. `{order}` in it becomes our order's id.
    pub return_url: String,
    /// The shop's page to which PayPal sends a shopper who did not. `{order}` in it becomes our order's id.
    pub cancel_url: String,
    /// What [`PaymentProvider::calls_per_second_max`] says, in requests. PayPal publishes no limit and answers 429 where it is
    /// asked too often. Default 50: a sale is five requests and three webhooks to prove, so about six orders a second.
    pub calls_per_second_max: u32,
    /// Until a request counts as unanswered, from connecting to the last byte. Default 5 s: the engine waits
    /// no longer for a whole call, and PayPal answers most within two.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            client_secret: String::new(),
            webhook_id: None,
            api_base: LIVE.to_owned(),
            return_url: String::new(),
            cancel_url: String::new(),
            calls_per_second_max: 50,
            timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("client_id", &self.client_id)
            .field("client_secret", &"…")
            .field("webhook_id", &self.webhook_id)
            .field("api_base", &self.api_base)
            .field("return_url", &self.return_url)
            .field("cancel_url", &self.cancel_url)
            .field("calls_per_second_max", &self.calls_per_second_max)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Why there is no PayPal with these options, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Client id or secret is missing or has characters that neither has.
    #[error(
        "PayPal's {what} is missing or has spaces or signs in it; copy it from the app at developer.paypal.com, Apps & Credentials"
    )]
    Credentials {
        /// Which.
        what: &'static str,
    },
    /// The API's base is no URL, or would carry secrets in the clear.
    #[error(
        "PayPal's API base {base:?} must be https://…, or http:// on this machine; usually https://api-m.paypal.com, or https://api-m.sandbox.paypal.com for trying"
    )]
    ApiBase {
        /// What was given.
        base: String,
    },
    /// Where PayPal should send shoppers is no URL.
    #[error(
        "PayPal's {what} {url:?} must be a whole URL of the shop, https://…; {{order}} in it becomes the order's id"
    )]
    ShopPage {
        /// Which.
        what: &'static str,
        /// What was given.
        url: String,
    },
    /// A limit of nothing, or no time to answer in.
    #[error("PayPal's {what} must be more than zero")]
    Zero {
        /// Which.
        what: &'static str,
    },
    /// TLS or the client would not start.
    #[error("the HTTP client for PayPal would not start: {0}")]
    Client(String),
}

/// The provider `paypal`. Cheap to clone; clones share connections and the access token.
///
/// Its answers run on any multi-thread tokio runtime; connections belong to the one that polls them first.
#[derive(Clone)]
pub struct PayPal {
    core: Arc<Core>,
}

/// What every answer needs.
struct Core {
    door: Door,
    options: Arc<Options>,
}

impl Core {
    async fn check_up(&self) -> Checkup {
        let (standing, clock_s) = match self.door.knock().await {
            Ok((status, clock_s)) => (standing_of(status.as_u16()), clock_s),
            Err(why) => (CheckupStanding::Unanswered(why), None),
        };
        Checkup { standing, clock_s, proves_notices: self.options.webhook_id.is_some() }
    }
}

fn standing_of(status: u16) -> CheckupStanding {
    match status {
        200 => CheckupStanding::Accepted,
        400 | 401 | 403 => {
            CheckupStanding::Refused(format!("PayPal gives no access token: {}", door::CREDENTIALS))
        }
        404 => CheckupStanding::Refused("PayPal's API is not at the base that is configured".to_owned()),
        other => CheckupStanding::Unanswered(format!("PayPal answered {other}")),
    }
}

impl fmt::Debug for PayPal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayPal").field("options", &self.core.options).finish_non_exhaustive()
    }
}

impl PayPal {
    /// A door to PayPal. Connects to nothing yet: the first call fetches an access token.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        for (what, value) in [("client id", &options.client_id), ("client secret", &options.client_secret)] {
            if !visible(value) {
                return Err(OptionsError::Credentials { what });
            }
        }
        if options.webhook_id.as_deref().is_some_and(|id| !visible(id)) {
            return Err(OptionsError::Credentials { what: "webhook id" });
        }
        if !is_safe_base(&options.api_base) {
            return Err(OptionsError::ApiBase { base: options.api_base });
        }
        for (what, url) in [("return URL", &options.return_url), ("cancel URL", &options.cancel_url)] {
            let sample = shop_page(url, OrderId(0));
            let whole = Url::parse(&sample).is_ok_and(|url| matches!(url.scheme(), "https" | "http"));
            if !whole {
                return Err(OptionsError::ShopPage { what, url: url.clone() });
            }
        }
        if options.calls_per_second_max == 0 {
            return Err(OptionsError::Zero { what: "calls a second" });
        }
        if options.timeout.is_zero() {
            return Err(OptionsError::Zero { what: "time limit" });
        }
        let door = Door::new(&options)?;
        Ok(Self { core: Arc::new(Core { door, options: Arc::new(options) }) })
    }
}

/// Whether secrets may be sent there: TLS, or this machine.
fn is_safe_base(base: &str) -> bool {
    let Ok(url) = Url::parse(base) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    plain && (url.scheme() == "https" || (url.scheme() == "http" && here))
}

/// The shop's page for one order.
fn shop_page(page: &str, order: OrderId) -> String {
    page.replace(ORDER, &order.to_string())
}

impl PaymentProvider for PayPal {
    fn name(&self) -> &'static str {
        "paypal"
    }

    fn answers(&self) -> Option<u64> {
        Some(self.core.door.answers())
    }

    fn calls_per_second_max(&self) -> Option<u32> {
        Some(self.core.options.calls_per_second_max)
    }

    fn paced(&self, turns: Arc<dyn Turnstile>) -> Option<Arc<dyn PaymentProvider>> {
        let door = self.core.door.paced(turns);
        Some(Arc::new(Self { core: Arc::new(Core { door, options: Arc::clone(&self.core.options) }) }))
    }

    fn check_up(&self) -> Answering<Checkup> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.check_up().await })
    }

    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        let (core, request) = (Arc::clone(&self.core), request.clone());
        Box::pin(async move { core.authorize(&request).await })
    }

    fn confirm(&self, request: &ChargeRequest, reference: &str) -> Answering<ChargeOutcome> {
        let (core, request, reference) = (Arc::clone(&self.core), request.clone(), reference.to_owned());
        Box::pin(async move { core.go_on(&request, &reference).await })
    }

    fn look_up(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<ChargeOutcome> {
        match reference {
            Some(reference) => self.confirm(request, reference),
            // The same key finds the same order for six hours. Later it is a new one: the old one was shown to nobody, so
            // it cannot be approved (law 2).
            None => self.authorize(request),
        }
    }

    fn capture(&self, request: &ChargeRequest, reference: &str) -> Answering<CaptureOutcome> {
        let (core, request, reference) = (Arc::clone(&self.core), request.clone(), reference.to_owned());
        Box::pin(async move { core.capture(&request, &reference).await })
    }

    fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<VoidOutcome> {
        let Some(reference) = reference.map(str::to_owned) else {
            // Whatever order was made, its page was shown to nobody: it cannot be approved, and runs out (law 2).
            return Box::pin(std::future::ready(VoidOutcome::Voided));
        };
        let (core, request) = (Arc::clone(&self.core), request.clone());
        Box::pin(async move { core.void(&request, &reference).await })
    }

    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome> {
        let (core, request, reference) = (Arc::clone(&self.core), request.clone(), reference.to_owned());
        let key = key.to_owned();
        Box::pin(async move { core.refund(&request, &reference, &key, amount).await })
    }

    fn notice(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now_ms: u64,
    ) -> Answering<Result<Notice, NoticeError>> {
        let transmission = notice::Transmission::read(header);
        let (core, body) = (Arc::clone(&self.core), body.to_vec());
        Box::pin(async move { core.notice(transmission, &body, now_ms).await })
    }

    fn list_lag_ms(&self) -> u64 {
        list::LAG_MS
    }

    fn list(&self, since: Timestamp, after: Option<&str>) -> Answering<Option<PaymentPage>> {
        let (core, after) = (Arc::clone(&self.core), after.map(str::to_owned));
        Box::pin(async move { core.list(since, after.as_deref()).await })
    }
}

#[cfg(test)]
mod tests;
