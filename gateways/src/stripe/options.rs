//! What a merchant has to say before Stripe is asked for money, and what is wrong with it.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

/// Where Stripe's API is.
const API_BASE: &str = "https://api.stripe.com";

/// Requests a second in live mode unless said otherwise. Stripe allows 100 over all of its API together; the rest is left to
/// whatever else the merchant runs on the account. Each endpoint by itself allows 25 until Stripe raises it on request: what
/// is beyond is answered 429 and asked again. Source: <https://docs.stripe.com/rate-limits>.
const LIVE_CALLS_PER_SECOND: u32 = 80;

/// Requests a second in test mode unless said otherwise: Stripe allows 25.
const TEST_CALLS_PER_SECOND: u32 = 20;

/// Longest wait for an answer unless said otherwise. Stripe waits for the bank; most banks answer within three seconds.
const REQUEST_TIMEOUT_MS: u64 = 10_000;

/// How to reach one Stripe account.
#[derive(Clone)]
pub struct Options {
    /// `sk_live_…`, `sk_test_…`, or a restricted `rk_…` that may write payment intents, charges and refunds.
    pub secret_key: String,
    /// What proves that a webhook is Stripe's, `whsec_…`. Two while one replaces the other; none, and webhooks are refused.
    pub webhook_secrets: Vec<String>,
    /// Base of the API without `/v1`. Default `https://api.stripe.com`.
    pub api_base: String,
    /// Requests a second, at least 1. Default 80 with a live key (Stripe allows 100), 20 with a test key (25).
    pub calls_per_second_max: Option<u32>,
    /// Longest wait for one answer, in milliseconds, at least 1. Default 10,000.
    pub request_timeout_ms: u64,
}

/// Why a door to Stripe cannot be opened, and what to do about it. No message repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// There is no key.
    #[error("there is no Stripe secret key; take it from https://dashboard.stripe.com/apikeys")]
    KeyMissing,
    /// It is not a secret key.
    #[error(
        "the Stripe key does not begin with sk_live_, sk_test_, rk_live_ or rk_test_; a publishable key (pk_…) cannot charge, \
         take the secret one or a restricted one from https://dashboard.stripe.com/apikeys"
    )]
    KeyKind,
    /// It has a space, a line break or the like, as when a file's last line came with it.
    #[error("the Stripe secret key has characters that no key has; copy it without spaces and line breaks")]
    KeyCharacters,
    /// A webhook secret is empty or has spaces.
    #[error(
        "a Stripe webhook secret is empty or has spaces; take the endpoint's signing secret (whsec_…) from \
         https://dashboard.stripe.com/webhooks"
    )]
    WebhookSecret,
    /// The base is no address.
    #[error(
        "{0:?} is no base of Stripe's API; it is like https://api.stripe.com, without /v1, query or name"
    )]
    Base(String),
    /// A live key would travel readable.
    #[error("{0:?} is plain http beyond this machine, and the key is a live one; use https")]
    BasePlain(String),
    /// Nothing can be asked at no calls a second, or answered in no time.
    #[error("{0} is at least 1; leave it out for the default")]
    Zero(&'static str),
}

/// What is left of the options once they are known to be sound.
pub(super) struct Checked {
    pub(super) base: String,
    pub(super) live: bool,
    pub(super) calls_per_second_max: u32,
}

impl Options {
    /// Everything by default besides the key.
    pub fn new(secret_key: impl Into<String>) -> Self {
        Self {
            secret_key: secret_key.into(),
            webhook_secrets: vec![],
            api_base: API_BASE.to_owned(),
            calls_per_second_max: None,
            request_timeout_ms: REQUEST_TIMEOUT_MS,
        }
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<Checked, OptionsError> {
        if self.secret_key.is_empty() {
            return Err(OptionsError::KeyMissing);
        }
        let live = match self.secret_key.splitn(3, '_').collect::<Vec<_>>().as_slice() {
            ["sk" | "rk", "live", rest] if !rest.is_empty() => true,
            ["sk" | "rk", "test", rest] if !rest.is_empty() => false,
            _ => return Err(OptionsError::KeyKind),
        };
        if !self.secret_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OptionsError::KeyCharacters);
        }
        let sound =
            |secret: &String| !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.webhook_secrets.iter().all(sound) {
            return Err(OptionsError::WebhookSecret);
        }
        let default = if live { LIVE_CALLS_PER_SECOND } else { TEST_CALLS_PER_SECOND };
        let calls_per_second_max = self.calls_per_second_max.unwrap_or(default);
        if calls_per_second_max == 0 {
            return Err(OptionsError::Zero("calls a second to Stripe"));
        }
        if self.request_timeout_ms == 0 {
            return Err(OptionsError::Zero("the wait for Stripe's answer"));
        }
        Ok(Checked { base: self.check_base(live)?, live, calls_per_second_max })
    }

    /// The base without a slash at its end.
    fn check_base(&self, live: bool) -> Result<String, OptionsError> {
        let wrong = || OptionsError::Base(self.api_base.clone());
        let base = self.api_base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            Some(_) | None => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let named = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if named || uri.query().is_some() || base.ends_with("/v1") {
            return Err(wrong());
        }
        if plain && !is_this_machine(host) {
            if live {
                return Err(OptionsError::BasePlain(self.api_base.clone()));
            }
            tracing::warn!(base, "Stripe is asked over plain http: whoever listens reads the test key");
        }
        Ok(base.to_owned())
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for Options {
    /// Everything but the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("secret_key", &"…")
            .field("webhook_secrets", &self.webhook_secrets.len())
            .field("api_base", &self.api_base)
            .field("calls_per_second_max", &self.calls_per_second_max)
            .field("request_timeout_ms", &self.request_timeout_ms)
            .finish()
    }
}
