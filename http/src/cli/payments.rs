//! Payments: flags of `serve`, the providers they make, and the comparison of books every few minutes.
//!
//! Secrets come from the environment or from files, never into a log. The doors to Stripe and PayPal are features of the
//! build, so that whoever only tries Doorbuster need not compile them; without one, its flags are refused with the remedy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorbuster_actors::{Engine, WhenDown};
use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::payment::PaymentProvider;

use super::Failure;

/// How far back each comparison looks: an outage of the engine or of a provider's webhooks of a few hours is caught up with.
const RECONCILE_MS: u64 = 6 * 60 * 60 * 1_000;

/// Flags about payments.
#[derive(Clone, clap::Args)]
pub struct PaymentArguments {
    /// Stripe's secret key, `sk_…` or a restricted `rk_…`; checkouts may then name the provider `stripe`. Also read from
    /// `STRIPE_SECRET_KEY`. Better in the environment or a file than here: a command line can be seen by others
    #[arg(long, env = "DOORBUSTER_STRIPE_SECRET_KEY", hide_env_values = true, value_name = "KEY")]
    pub stripe_secret_key: Option<String>,
    /// A file that holds Stripe's secret key
    #[arg(
        long,
        env = "DOORBUSTER_STRIPE_SECRET_KEY_FILE",
        conflicts_with = "stripe_secret_key",
        value_name = "FILE"
    )]
    pub stripe_secret_key_file: Option<PathBuf>,
    /// What proves Stripe's webhooks, `whsec_…`; two while one replaces the other. Also read from `STRIPE_WEBHOOK_SECRET`
    #[arg(
        long,
        env = "DOORBUSTER_STRIPE_WEBHOOK_SECRET",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "SECRET"
    )]
    pub stripe_webhook_secret: Vec<String>,
    /// Where Stripe's API is, if not at Stripe's. Also read from `STRIPE_API_BASE`
    #[arg(long, env = "DOORBUSTER_STRIPE_API_BASE", value_name = "URL")]
    pub stripe_api_base: Option<String>,
    /// Requests to Stripe a second, at most a fifth more in any one (default: 80 with a live key, 20 with a test key; Stripe allows 100 and 25)
    #[arg(long, env = "DOORBUSTER_STRIPE_CALLS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub stripe_calls_per_second: Option<u32>,
    /// PayPal's client id; checkouts may then name the provider `paypal`
    #[arg(long, env = "DOORBUSTER_PAYPAL_CLIENT_ID", value_name = "ID")]
    pub paypal_client_id: Option<String>,
    /// PayPal's client secret
    #[arg(long, env = "DOORBUSTER_PAYPAL_CLIENT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub paypal_client_secret: Option<String>,
    /// A file that holds PayPal's client secret
    #[arg(
        long,
        env = "DOORBUSTER_PAYPAL_CLIENT_SECRET_FILE",
        conflicts_with = "paypal_client_secret",
        value_name = "FILE"
    )]
    pub paypal_client_secret_file: Option<PathBuf>,
    /// The id of PayPal's webhook that points here; without it PayPal's webhooks are refused
    #[arg(long, env = "DOORBUSTER_PAYPAL_WEBHOOK_ID", value_name = "ID")]
    pub paypal_webhook_id: Option<String>,
    /// Where PayPal's API is, if not at the live one, e.g. `https://api-m.sandbox.paypal.com`
    #[arg(long, env = "DOORBUSTER_PAYPAL_API_BASE", value_name = "URL")]
    pub paypal_api_base: Option<String>,
    /// The shop's page to which PayPal sends a shopper who approved; `{order}` in it becomes the order's id
    #[arg(long, env = "DOORBUSTER_PAYPAL_RETURN_URL", value_name = "URL")]
    pub paypal_return_url: Option<String>,
    /// The shop's page to which PayPal sends a shopper who did not approve (default: the return page)
    #[arg(long, env = "DOORBUSTER_PAYPAL_CANCEL_URL", value_name = "URL")]
    pub paypal_cancel_url: Option<String>,
    /// Requests to PayPal a second, at most a fifth more in any one
    #[arg(long, env = "DOORBUSTER_PAYPAL_CALLS_PER_SECOND", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub paypal_calls_per_second: u32,
    /// The provider that new checkouts go to while theirs does not answer
    #[arg(long, env = "DOORBUSTER_PAYMENT_FALLBACK", value_name = "PROVIDER")]
    pub payment_fallback: Option<String>,
    /// How long orders keep their units and wait for a provider that does not answer, to be charged when it is back; 0: new
    /// checkouts are refused instead, 503 `payment_unavailable`
    #[arg(long, env = "DOORBUSTER_PAYMENT_DEFER_S", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(..=30 * 86_400), value_name = "S")]
    pub payment_defer_s: u64,
    /// How long units stay pinned for a payment that was asked for; then it is cancelled, and they go back once that is sure
    #[arg(long, env = "DOORBUSTER_PAYMENT_PIN_S", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=72_000), value_name = "S")]
    pub payment_pin_s: u64,
    /// How often a provider's books are compared with the orders; 0: only when asked (`doorbuster reconcile`)
    #[arg(long, env = "DOORBUSTER_RECONCILE_INTERVAL_S", default_value_t = 300, value_name = "S")]
    pub reconcile_interval_s: u64,
}

/// Without secrets.
impl std::fmt::Debug for PaymentArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PaymentArguments")
            .field("stripe", &(self.stripe_secret_key.is_some() || self.stripe_secret_key_file.is_some()))
            .field("paypal", &self.paypal_client_id.is_some())
            .field("fallback", &self.payment_fallback)
            .finish_non_exhaustive()
    }
}

/// A refusal of the configuration, with its remedy.
fn refuse(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), code: 78 }
}

impl PaymentArguments {
    /// The providers that are configured; `fake` besides, except in production.
    pub fn providers(&self, production: bool) -> Result<Vec<Arc<dyn PaymentProvider>>, Failure> {
        let mut providers: Vec<Arc<dyn PaymentProvider>> = Vec::new();
        if !production {
            providers.push(Arc::new(doorbuster_gateways::Fake::default()));
        }
        let key = secret(
            self.stripe_secret_key.as_ref(),
            self.stripe_secret_key_file.as_deref(),
            Some("STRIPE_SECRET_KEY"),
        )?;
        if let Some(key) = key {
            providers.push(self.stripe(key)?);
        }
        if let Some(client_id) = &self.paypal_client_id {
            providers.push(self.paypal(client_id)?);
        }
        if let Some(fallback) = &self.payment_fallback
            && !providers.iter().any(|provider| provider.name() == fallback)
        {
            let known: Vec<_> = providers.iter().map(|provider| provider.name()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(refuse(format!(
                "--payment-fallback names `{fallback}`, which is not configured; this engine has: {known}"
            )));
        }
        Ok(providers)
    }

    /// What becomes of checkouts while their provider does not answer.
    pub fn when_down(&self) -> WhenDown {
        let defer = (self.payment_defer_s > 0).then(|| Duration::from_secs(self.payment_defer_s));
        WhenDown { fallback: self.payment_fallback.clone(), defer }
    }

    #[cfg(feature = "stripe")]
    fn stripe(&self, key: String) -> Result<Arc<dyn PaymentProvider>, Failure> {
        use doorbuster_gateways::stripe::{Options, Stripe};

        let mut options = Options::new(key);
        options.webhook_secrets.clone_from(&self.stripe_webhook_secret);
        if options.webhook_secrets.is_empty() {
            let common = std::env::var("STRIPE_WEBHOOK_SECRET").unwrap_or_default();
            options.webhook_secrets =
                common.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
        }
        if options.webhook_secrets.is_empty() {
            tracing::warn!(
                "Stripe's webhooks will be refused: no signing secret is configured (--stripe-webhook-secret); shoppers who leave \
                 during 3-D Secure are then found by the comparison of books only"
            );
        }
        let base = self.stripe_api_base.clone().or_else(|| std::env::var("STRIPE_API_BASE").ok());
        if let Some(base) = base.filter(|base| !base.is_empty()) {
            options.api_base = base;
        }
        options.calls_per_second_max = self.stripe_calls_per_second;
        Ok(Arc::new(Stripe::new(&options).map_err(|error| refuse(error.to_string()))?))
    }

    #[cfg(not(feature = "stripe"))]
    #[expect(clippy::unused_self)] // the same call in both builds
    fn stripe(&self, _key: String) -> Result<Arc<dyn PaymentProvider>, Failure> {
        Err(refuse(
            "a key for Stripe is configured, but this binary was built without Stripe; build it with \
             `cargo build --release --features stripe`, or leave the key out",
        ))
    }

    #[cfg(feature = "paypal")]
    fn paypal(&self, client_id: &str) -> Result<Arc<dyn PaymentProvider>, Failure> {
        use doorbuster_gateways::paypal::{Options, PayPal};

        let client_secret =
            secret(self.paypal_client_secret.as_ref(), self.paypal_client_secret_file.as_deref(), None)?;
        let defaults = Options::default();
        let return_url = self.paypal_return_url.clone().unwrap_or_default();
        let options = Options {
            client_id: client_id.to_owned(),
            client_secret: client_secret.unwrap_or_default(),
            webhook_id: self.paypal_webhook_id.clone(),
            api_base: self.paypal_api_base.clone().unwrap_or(defaults.api_base),
            cancel_url: self.paypal_cancel_url.clone().unwrap_or_else(|| return_url.clone()),
            return_url,
            calls_per_second_max: self.paypal_calls_per_second,
            timeout: defaults.timeout,
        };
        Ok(Arc::new(PayPal::new(options).map_err(|error| refuse(error.to_string()))?))
    }

    #[cfg(not(feature = "paypal"))]
    #[expect(clippy::unused_self)] // the same call in both builds
    fn paypal(&self, _client_id: &str) -> Result<Arc<dyn PaymentProvider>, Failure> {
        Err(refuse(
            "PayPal is configured, but this binary was built without it; build it with \
             `cargo build --release --features paypal`, or leave its client id out",
        ))
    }

    /// Compares each remote provider's books with the orders, now and then, until the process ends.
    pub fn reconcile(&self, engine: &Engine) {
        let Some(interval) =
            (self.reconcile_interval_s > 0).then(|| Duration::from_secs(self.reconcile_interval_s))
        else {
            return;
        };
        let remote: Vec<&'static str> = engine
            .providers()
            .iter()
            .filter(|provider| provider.remote)
            .map(|provider| provider.name)
            .collect();
        for provider in remote {
            let engine = engine.clone();
            actix_rt::spawn(async move {
                loop {
                    actix_rt::time::sleep(interval).await;
                    let since = Timestamp(engine.now().0.saturating_sub(RECONCILE_MS));
                    match engine.reconcile(provider, since).await {
                        Ok(found) => {
                            let open = found.findings.iter().filter(|finding| !finding.repaired).count();
                            let repaired = found.findings.len().saturating_sub(open);
                            if open > 0 {
                                tracing::error!(
                                    provider,
                                    open,
                                    repaired,
                                    "a provider's books do not agree with the orders; `doorbuster reconcile` lists what people have to see to"
                                );
                            } else {
                                tracing::info!(
                                    provider,
                                    payments = found.payments,
                                    orders = found.orders,
                                    repaired,
                                    "books agree"
                                );
                            }
                        }
                        Err(error) => {
                            tracing::warn!(
                                provider,
                                ?error,
                                "books could not be compared; tried again later"
                            );
                        }
                    }
                }
            });
        }
    }
}

/// A secret from its flag, its file or a common variable of the environment.
fn secret(
    given: Option<&String>,
    file: Option<&Path>,
    common: Option<&str>,
) -> Result<Option<String>, Failure> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).map_err(|error| {
            refuse(format!("cannot read the secret in {}: {error}; name a readable file", file.display()))
        })?;
        return Ok(Some(text.trim().to_owned()));
    }
    let common = common.and_then(|name| std::env::var(name).ok());
    Ok(given.cloned().or(common).filter(|text| !text.is_empty()))
}
