//! The way to Stripe: kept-alive connections, a deadline for each call, and what an answer's status says.
//!
//! `async-stripe` builds the requests and reads the answers; the connections between are ours, behind its
//! [`StripeClient`], since its own client opens a new one for every call and knows no deadline.
//!
//! Laws: (1) only a 2xx is an answer, and only a 400 or 402 with Stripe's own error in it a refusal; whatever else comes,
//! or does not come, is [`Failure::Unanswered`]; (2) keys and client secrets are in no log line; (3) every request asks for
//! its turn before it is sent, and its time limit begins then.
//!
//! Sockets belong to the runtime on which they were opened: all calls of one door are made on one runtime.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use doorbuster_engine::payment::Turnstile;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use stripe_client_core::{
    CustomizedStripeRequest, IdempotencyKey, RequestBuilder, RequestStrategy, StripeClient, StripeClientErr,
    StripeMethod, VERSION,
};

use super::objects::{ErrorBody, Refusal};

/// Longest answer that is read. The longest that is asked for, a hundred intents with their charges, has half a megabyte.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long an unused connection is kept. Shorter than the minute after which common balancers drop one silently.
const IDLE: Duration = Duration::from_secs(50);

/// Idle connections that are kept: as many as calls a second are allowed at most, and one answer takes about a second.
const IDLE_CONNECTIONS_MAX: usize = 128;

/// Who asks.
const AGENT: &str = concat!("Doorbuster/", env!("CARGO_PKG_VERSION"));

/// Why there is no object.
pub(super) enum Failure {
    /// Stripe refused, with this status: 400 or 402.
    Refused(StatusCode, Box<Refusal>),
    /// Stripe has no object of this name.
    Missing,
    /// The key answers no more: it was used for something else, or what it keeps is a failure of Stripe's own, which says
    /// nothing of what was done. Only the books tell.
    KeySpent,
    /// Nothing definite.
    Unanswered,
}

impl StripeClientErr for Failure {
    fn deserialize_err(said: impl Display) -> Self {
        tracing::error!(%said, version = VERSION.as_str(), "an answer of Stripe's could not be read");
        Self::Unanswered
    }
}

/// An object, and whether it is as it was when the key was used first rather than as it is now.
pub(super) struct Answer<T> {
    pub(super) object: T,
    pub(super) replayed: bool,
}

/// The connections to one base with one key; clones share them. Its `Debug` is nowhere, so that the key is in none.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    authorization: HeaderValue,
    timeout: Duration,
    /// Requests that Stripe answered with anything but an error of its own.
    answers: Arc<AtomicU64>,
    /// Who says when a request may go; nobody: at once.
    turns: Option<Arc<dyn Turnstile>>,
}

/// One call: what its answer's headers say has no place in the trait's return value.
struct Call<'wire> {
    wire: &'wire Wire,
    replayed: AtomicBool,
}

/// What became of a request.
enum Exchanged {
    /// It was answered: status, headers and body.
    Answer(StatusCode, HeaderMap, Bytes),
    /// There was no connection, or it broke.
    Broken(String),
    /// No answer within the time limit.
    TooLate,
    /// It was not its turn, and nothing was sent.
    NotSent,
}

impl Wire {
    /// Connections to `base` (without a slash at its end), opened when first needed. `None` where the key fits no header.
    pub(super) fn new(base: String, secret_key: &str, timeout: Duration) -> Option<Self> {
        let browsers = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self::believing(base, secret_key, timeout, browsers)
    }

    /// As [`Self::new`], to whoever these authorities vouch for.
    pub(super) fn believing(
        base: String,
        secret_key: &str,
        timeout: Duration,
        roots: RootCertStore,
    ) -> Option<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {secret_key}")).ok()?;
        authorization.set_sensitive(true);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(roots)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Some(Self { client, base, authorization, timeout, answers: Arc::default(), turns: None })
    }

    /// The same connections, over which requests go at their turn.
    pub(super) fn paced(&self, turns: Arc<dyn Turnstile>) -> Self {
        Self { turns: Some(turns), ..self.clone() }
    }

    /// How many requests Stripe has answered with anything but an error of its own.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Asks for an object, of which as much is read as `T` names.
    pub(super) async fn ask<T: miniserde::Deserialize>(
        &self,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Answer<T>, Failure> {
        let mut request = request.customize::<T>();
        if let Some(key) = key {
            let Ok(key) = IdempotencyKey::new(key) else {
                tracing::error!(
                    bytes = key.len(),
                    "an idempotency key has 1 to 255 bytes; the call was not made"
                );
                return Err(Failure::Unanswered);
            };
            request = request.request_strategy(RequestStrategy::Idempotent(key));
        }
        let call = Call { wire: self, replayed: AtomicBool::new(false) };
        let object = request.send(&call).await?;
        Ok(Answer { object, replayed: call.replayed.load(Ordering::Relaxed) })
    }

    /// Asks for nothing but whether it may ask: Stripe's status and its clock, or why there was no answer.
    pub(super) async fn knock(&self) -> Result<(StatusCode, Option<i64>), String> {
        let asked = RequestBuilder::new(StripeMethod::Get, "/payment_intents?limit=1");
        let request = self.request(&asked, None).ok_or("the request cannot be written")?;
        let (status, headers, _) = match self.exchange(request).await {
            Exchanged::Answer(status, headers, body) => (status, headers, body),
            Exchanged::Broken(why) => return Err(why),
            Exchanged::TooLate => return Err("no answer in time".to_owned()),
            Exchanged::NotSent => return Err("not asked: it is not its turn".to_owned()),
        };
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let clock = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Ok((status, clock.map(|clock| clock.timestamp().as_second())))
    }

    fn request(&self, asked: &RequestBuilder, key: Option<&IdempotencyKey>) -> Option<Request<Full<Bytes>>> {
        let query = asked.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let method = match asked.method {
            StripeMethod::Get => Method::GET,
            StripeMethod::Post => Method::POST,
            StripeMethod::Delete => Method::DELETE,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/v1{}{query}", self.base, asked.path))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(USER_AGENT, AGENT)
            .header("stripe-version", VERSION.as_str());
        if let Some(key) = key {
            request = request.header("idempotency-key", key.as_str());
        }
        if asked.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        request.body(Full::new(Bytes::from(asked.body.clone().unwrap_or_default()))).ok()
    }

    /// Sends a request when its turn comes. All that goes to Stripe goes through here.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Exchanged {
        if let Some(turns) = &self.turns
            && !turns.turn().await
        {
            return Exchanged::NotSent;
        }
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let body =
                Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
            Ok((head.status, head.headers, body.to_bytes()))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok((status, headers, body))) => Exchanged::Answer(status, headers, body),
            Ok(Err(why)) => Exchanged::Broken(why),
            Err(_) => Exchanged::TooLate,
        }
    }
}

impl StripeClient for Call<'_> {
    type Err = Failure;

    async fn execute(&self, request: CustomizedStripeRequest) -> Result<Bytes, Failure> {
        let (asked, configured) = request.into_pieces();
        let key = configured.request_strategy.and_then(|strategy| strategy.get_key());
        let path = &asked.path;
        let Some(request) = self.wire.request(&asked, key.as_ref()) else {
            tracing::error!(path, "a request to Stripe cannot be written; the call was not made");
            return Err(Failure::Unanswered);
        };
        let (status, headers, body) = match self.wire.exchange(request).await {
            Exchanged::Answer(status, headers, body) => (status, headers, body),
            Exchanged::Broken(error) => {
                tracing::warn!(path, error, "Stripe could not be asked, or its answer was cut off");
                return Err(Failure::Unanswered);
            }
            Exchanged::NotSent => return Err(Failure::Unanswered),
            Exchanged::TooLate => {
                let waited_ms = self.wire.timeout.as_millis();
                tracing::warn!(path, waited_ms, "Stripe did not answer in time");
                return Err(Failure::Unanswered);
            }
        };
        if status.is_success() || matches!(status.as_u16(), 400 | 402 | 404) {
            self.wire.answers.fetch_add(1, Ordering::Relaxed);
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let replayed = header("idempotent-replayed") == "true";
        self.replayed.store(replayed, Ordering::Relaxed);
        if status.is_success() {
            return Ok(body);
        }
        Err(judge(status, &body, replayed, path, header("request-id")))
    }
}

/// What an answer that is none says.
pub(super) fn judge(status: StatusCode, body: &Bytes, replayed: bool, path: &str, request: &str) -> Failure {
    let code = status.as_u16();
    match code {
        400 | 402 => {
            let said = std::str::from_utf8(body).ok().and_then(|text| miniserde::json::from_str(text).ok());
            let Some(ErrorBody { error }) = said else {
                tracing::error!(path, request, status = code, "a refusal of Stripe's could not be read");
                return Failure::Unanswered;
            };
            let (kind, reason) = (error.kind.as_deref(), error.code.as_deref());
            match kind {
                Some("card_error" | "invalid_request_error") => {
                    tracing::debug!(path, request, status = code, kind, reason, "Stripe refused");
                    Failure::Refused(status, Box::new(error))
                }
                Some("idempotency_error") => {
                    tracing::error!(
                        path,
                        request,
                        "an idempotency key was used for something else before; was the engine upgraded with payments \
                         under way? The payment is looked up in Stripe's books"
                    );
                    Failure::KeySpent
                }
                Some(_) | None => {
                    tracing::warn!(path, request, status = code, kind, reason, "Stripe failed");
                    Failure::Unanswered
                }
            }
        }
        401 => {
            tracing::error!(
                request,
                "Stripe does not accept the secret key: it was rolled, or belongs to another mode. Start with the one \
                 of https://dashboard.stripe.com/apikeys; payments wait meanwhile"
            );
            Failure::Unanswered
        }
        403 => {
            tracing::error!(
                path,
                request,
                "the Stripe key may not do this: give the restricted key write access to PaymentIntents and to Charges and \
                 Refunds; payments wait meanwhile"
            );
            Failure::Unanswered
        }
        404 => Failure::Missing,
        500.. if replayed => Failure::KeySpent,
        _ => {
            tracing::warn!(path, request, status = code, "Stripe has no answer now");
            Failure::Unanswered
        }
    }
}

/// TLS by the crypto provider that the rest of the process uses, without leaning on who installed it first.
fn tls(roots: RootCertStore) -> Option<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(versions.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes: the outermost alone says that something failed, not what.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said.push_str(": ");
        said.push_str(&cause.to_string());
        source = cause.source();
    }
    said
}
