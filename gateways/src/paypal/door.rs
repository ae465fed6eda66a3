//! Requests to PayPal: access token, deadline, and what an answer's status says.
//!
//! Laws: (1) one access token at a time is fetched, whoever asks; (2) a 401 makes one fresh token and one repeat, not
//! more; (3) what is neither PayPal's answer nor PayPal's refusal is [`Failed::Silent`]; (4) every request, those for
//! tokens too, asks for its turn before it is sent, and its time limit begins then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use doorbuster_engine::payment::Turnstile;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::wire::{Failure, Link, TokenAnswer};
use super::{Options, OptionsError};

/// Longest answer. A page of transactions has about 1 KiB each; beyond 4 MiB somebody else is speaking.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A token is replaced this long before its end, so that none runs out on its way. Tokens last about nine hours.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// PayPal is reached within this or not at all.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Idle connections are kept this long: shorter than the minute or so after which a load balancer forgets one.
const IDLE_MAX: Duration = Duration::from_secs(50);

/// Why there is no answer to use.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// PayPal refused this request, and did nothing.
    Refused(Refusal),
    /// Nothing definite came back.
    Silent,
}

/// What PayPal refused, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal {
    /// 400, 404 or 422.
    pub(super) status: u16,
    /// The issues that are named, or the refusal's own name where none is.
    pub(super) issues: Vec<String>,
    /// Ways on.
    pub(super) links: Vec<Link>,
}

impl Refusal {
    /// The issue that decides: the first.
    pub(super) fn issue(&self) -> &str {
        self.issues.first().map_or("", String::as_str)
    }

    /// Whether one of `known` is named.
    pub(super) fn names(&self, known: &[&str]) -> bool {
        self.issues.iter().any(|issue| known.contains(&issue.as_str()))
    }

    /// Whether the thing asked about is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 || self.names(&["RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"])
    }
}

/// A request to be made.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Path and query, from `/`.
    pub(super) path: &'a str,
    /// The `PayPal-Request-Id` of what must happen once.
    pub(super) key: Option<&'a str>,
    /// JSON.
    pub(super) body: Option<Vec<u8>>,
}

impl<'a> Call<'a> {
    /// Reads something.
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, key: None, body: None }
    }

    /// Changes something, once however often it is asked.
    pub(super) fn post(path: &'a str, key: &'a str, body: &serde_json::Value) -> Self {
        Self { method: Method::POST, path, key: Some(key), body: Some(body.to_string().into_bytes()) }
    }
}

struct Token {
    value: Arc<str>,
    until: Instant,
}

/// Connections to PayPal, and the right to use them; clones share both.
#[derive(Clone)]
pub(super) struct Door {
    client: Client,
    base: String,
    client_id: String,
    client_secret: String,
    token: Arc<Mutex<Option<Token>>>,
    /// Requests that PayPal answered with anything but an error of its own.
    answers: Arc<AtomicU64>,
    /// Who says when a request may go; nobody: at once.
    turns: Option<Arc<dyn Turnstile>>,
}

impl Door {
    /// A door that believes the authorities which browsers do.
    pub(super) fn new(options: &Options) -> Result<Self, OptionsError> {
        Self::believing(options, RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    pub(super) fn believing(options: &Options, roots: RootCertStore) -> Result<Self, OptionsError> {
        let failed = |error: &dyn std::fmt::Display| OptionsError::Client(error.to_string());
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("doorbuster/", env!("CARGO_PKG_VERSION")))
            .timeout(options.timeout)
            .connect_timeout(options.timeout.min(CONNECT_MAX))
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self {
            client,
            base: options.api_base.trim_end_matches('/').to_owned(),
            client_id: options.client_id.clone(),
            client_secret: options.client_secret.clone(),
            token: Arc::default(),
            answers: Arc::default(),
            turns: None,
        })
    }

    /// The same connections, over which requests go at their turn.
    pub(super) fn paced(&self, turns: Arc<dyn Turnstile>) -> Self {
        Self { turns: Some(turns), ..self.clone() }
    }

    /// Makes a request and reads its answer as `T`.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Failed> {
        let body = self.send(call).await?;
        serde_json::from_slice(&body).map_err(|error| {
            tracing::warn!(path = call.path, %error, "PayPal's answer is not what its documentation describes");
            Failed::Silent
        })
    }

    /// Makes a request whose answer says nothing beyond that it worked.
    pub(super) async fn tell(&self, call: &Call<'_>) -> Result<(), Failed> {
        self.send(call).await.map(drop)
    }

    async fn send(&self, call: &Call<'_>) -> Result<BytesMut, Failed> {
        let token = self.token(None).await?;
        let mut response = self.once(call, &token).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // Revoked before its time, or the app's secret was changed: a fresh token tells which.
            let fresh = self.token(Some(&token)).await?;
            response = self.once(call, &fresh).await?;
        }
        let answer = classified(call.path, response).await;
        if matches!(answer, Ok(_) | Err(Failed::Refused(_))) {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// How many requests PayPal has answered with anything but an error of its own.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    async fn once(&self, call: &Call<'_>, token: &str) -> Result<Response, Failed> {
        let request = self.client.request(call.method.clone(), format!("{}{}", self.base, call.path));
        let mut request = request.bearer_auth(token).header("Prefer", "return=representation");
        if let Some(key) = call.key {
            request = request.header("PayPal-Request-Id", key);
        }
        if let Some(body) = &call.body {
            request = request.header("Content-Type", "application/json").body(body.clone());
        }
        if self.turn().await { sent(call.path, request).await } else { Err(Failed::Silent) }
    }

    /// Waits for a request's turn; `false`: not now.
    async fn turn(&self) -> bool {
        match &self.turns {
            Some(turns) => turns.turn().await,
            None => true,
        }
    }

    /// Asks for an access token of its own: PayPal's status and its clock, or why there was no answer.
    pub(super) async fn knock(&self) -> Result<(StatusCode, Option<i64>), String> {
        if !self.turn().await {
            return Err("not asked: it is not its turn".to_owned());
        }
        let response = self.token_request().send().await.map_err(|error| rooted(&error))?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let clock = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Ok((response.status(), clock.map(|clock| clock.timestamp().as_second())))
    }

    fn token_request(&self) -> RequestBuilder {
        self.client
            .post(format!("{}{TOKEN_PATH}", self.base))
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials")
    }

    /// The access token, fetched where there is none, where it ends soon, or where it is the one that was refused.
    async fn token(&self, refused: Option<&str>) -> Result<Arc<str>, Failed> {
        if let Some(token) = usable(self.token.lock().await.as_ref(), refused) {
            return Ok(token);
        }
        // Not while the token is held: those who wait for it do so in their calls' own time. Where somebody else is quicker,
        // the turn is lost.
        if !self.turn().await {
            return Err(Failed::Silent);
        }
        // Held while fetching: whoever comes meanwhile waits for this token instead of fetching another.
        let mut held = self.token.lock().await;
        if let Some(token) = usable(held.as_ref(), refused) {
            return Ok(token);
        }
        *held = None;
        let asked_at = Instant::now();
        let response = sent(TOKEN_PATH, self.token_request()).await?;
        let body = match classified(TOKEN_PATH, response).await {
            Ok(body) => body,
            Err(Failed::Refused(refusal)) => {
                tracing::error!(issue = refusal.issue(), "PayPal gives no access token: {CREDENTIALS}");
                return Err(Failed::Silent);
            }
            Err(Failed::Silent) => return Err(Failed::Silent),
        };
        let Ok(answer) = serde_json::from_slice::<TokenAnswer>(&body) else {
            tracing::error!(
                "PayPal's access token is not what its documentation describes; is the API base right?"
            );
            return Err(Failed::Silent);
        };
        let lasts = Duration::from_secs(answer.expires_in).saturating_sub(TOKEN_MARGIN);
        let value: Arc<str> = Arc::from(answer.access_token);
        *held =
            Some(Token { value: Arc::clone(&value), until: asked_at.checked_add(lasts).unwrap_or(asked_at) });
        Ok(value)
    }
}

/// Where access tokens are had.
const TOKEN_PATH: &str = "/v1/oauth2/token";

/// What to do about refused credentials.
pub(super) const CREDENTIALS: &str =
    "check client id and secret, and that the app is of the same kind (live or sandbox) as the API base";

/// The token that is held, unless it ends soon or is the one that was refused.
fn usable(held: Option<&Token>, refused: Option<&str>) -> Option<Arc<str>> {
    let usable = |token: &&Token| Instant::now() < token.until && refused != Some(&*token.value);
    held.filter(usable).map(|token| Arc::clone(&token.value))
}

async fn sent(path: &str, request: RequestBuilder) -> Result<Response, Failed> {
    request.send().await.map_err(|error| {
        // The error's own text bears the URL and no header.
        tracing::warn!(path, error = %rooted(&error), "PayPal did not answer");
        Failed::Silent
    })
}

/// An error with what caused it: reqwest's own text stops at «error sending request».
fn rooted(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// What an answer's status says.
async fn classified(path: &str, response: Response) -> Result<BytesMut, Failed> {
    let status = response.status();
    let debug_id =
        response.headers().get("paypal-debug-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let debug_id = debug_id.unwrap_or_default();
    let Some(body) = whole(path, response).await else { return Err(Failed::Silent) };
    if status.is_success() {
        return Ok(body);
    }
    // A proxy's or load balancer's page is no refusal of PayPal's, whatever its status.
    let failure: Option<Failure> = serde_json::from_slice(&body).ok();
    let failure = failure.filter(|failure| !failure.name.is_empty());
    let issue = failure.as_ref().map(|failure| issues(failure).join(" ")).unwrap_or_default();
    let status = status.as_u16();
    match (status, failure) {
        (400 | 404 | 422, Some(failure)) => {
            tracing::info!(path, status, issue, debug_id, "PayPal refuses");
            let issues = issues(&failure);
            Err(Failed::Refused(Refusal { status, issues, links: failure.links }))
        }
        (401, _) => {
            tracing::error!(path, issue, debug_id, "PayPal refuses our credentials: {CREDENTIALS}");
            Err(Failed::Silent)
        }
        (403, _) => {
            let remedy =
                "enable the feature for the app at developer.paypal.com, and wait for a new access token";
            tracing::error!(path, issue, debug_id, "PayPal's app may not do this: {remedy}");
            Err(Failed::Silent)
        }
        (429, _) => {
            tracing::warn!(path, debug_id, "PayPal is asked too often: lower the calls a second");
            Err(Failed::Silent)
        }
        (_, _) => {
            tracing::warn!(path, status, issue, debug_id, "PayPal says nothing definite");
            Err(Failed::Silent)
        }
    }
}

fn issues(failure: &Failure) -> Vec<String> {
    let named: Vec<String> =
        failure.details.iter().map(|detail| detail.issue.clone()).filter(|issue| !issue.is_empty()).collect();
    if named.is_empty() { vec![failure.name.clone()] } else { named }
}

/// The answer's body, unless it breaks off or has no end.
async fn whole(path: &str, mut response: Response) -> Option<BytesMut> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Some(body),
            Ok(Some(part)) if body.len().saturating_add(part.len()) <= ANSWER_BYTES_MAX => {
                body.extend_from_slice(&part);
            }
            Ok(Some(_)) => {
                tracing::warn!(path, "PayPal's answer is longer than {ANSWER_BYTES_MAX} bytes");
                return None;
            }
            Err(error) => {
                tracing::warn!(path, error = %rooted(&error), "PayPal's answer broke off");
                return None;
            }
        }
    }
}
