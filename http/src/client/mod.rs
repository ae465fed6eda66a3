//! A small client of our own HTTP surface, for the commands that load a running engine and check it afterwards.
//!
//! Laws: an unsafe call goes out with an idempotency key, and every further attempt of it carries the same key and
//! body, so that an engine killed in between does it once; attempts end when the patience does. No TLS: it is a tool
//! for a machine or a test network. One thread, many calls at once. Start at [`Client::new`] and [`Call::send`].

mod measure;
#[cfg(test)]
pub(crate) mod stub;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER};
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use measure::microseconds;
pub use measure::{Latency, Tally};
pub use wire::{
    CartLineReply, CartReply, ImportReply, ItemReply, MoneyReply, OrderLineReply, OrderReply, PaymentReply,
    ProblemReply, RejectedRow, ReservationReply, StockReply, TotalsReply,
};

/// Largest reply taken: a whole cart of a thousand lines is a tenth of it. Beyond it something else is talking.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Stands for the code of a refusal that is no problem document.
const NOT_A_PROBLEM: &str = "not_a_problem";

/// How long the first knock is repeated: an engine started in the same breath as the command needs a moment.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// First wait after a failed attempt without `Retry-After`; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(25);

/// Longest wait between attempts: a restarted engine is found again within it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How to reach an engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens, e.g. `http://127.0.0.1:8080`.
    pub url: String,
    /// Its admin key, for calls that need one.
    pub admin_key: Option<String>,
    /// How long a call is tried again before the engine counts as gone.
    pub patience: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The URL cannot be one of ours.
    #[error("`{url}` is no URL of an engine; say e.g. http://127.0.0.1:8080 (https is the proxy's business)")]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// Nobody answered, or only with "later", until the patience ended.
    #[error(
        "no answer from {url} for {waited_s} s (last: {last}); is the engine running there? Start it, correct --url, or raise --patience-s"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// How long it was tried, in seconds.
        waited_s: u64,
        /// What the last attempt ended with.
        last: String,
    },
    /// The engine refused what the command cannot do without.
    #[error("{what} was refused: {status} {code}: {detail}")]
    Refused {
        /// Which call.
        what: String,
        /// Status it answered with.
        status: u16,
        /// The problem's code.
        code: String,
        /// The problem's detail.
        detail: String,
    },
    /// Something answered that does not speak our surface.
    #[error("{what} answered something unexpected ({status}): {excerpt}")]
    Unexpected {
        /// Which call.
        what: String,
        /// Status it answered with.
        status: u16,
        /// The beginning of the answer.
        excerpt: String,
    },
}

/// Speaks to one engine.
#[derive(Clone)]
pub struct Client {
    http: awc::Client,
    base: Rc<str>,
    options: Rc<Options>,
    tally: Rc<RefCell<Tally>>,
}

impl Client {
    /// A client for the engine at `options.url`. Nothing is sent yet.
    pub fn new(options: Options) -> Result<Self, Failure> {
        let base = options.url.trim_end_matches('/').to_owned();
        let sound = base.starts_with("http://") && base.parse::<actix_web::http::Uri>().is_ok();
        if !sound {
            return Err(Failure::BadUrl { url: options.url });
        }
        // Callers bound their own concurrency; a limit here would only hide waiting.
        let connector = awc::Connector::new().limit(0).timeout(Duration::from_secs(5));
        let http = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .add_default_header(("User-Agent", concat!("doorbuster/", env!("CARGO_PKG_VERSION"))))
            .finish();
        Ok(Self {
            http,
            base: base.into(),
            options: Rc::new(options),
            tally: Rc::new(RefCell::new(Tally::default())),
        })
    }

    /// Asks whether an engine is there at all, so that a mistyped URL is told within seconds, whatever the patience.
    pub async fn hello(&self) -> Result<(), Failure> {
        let call = self.get("hello", "/livez");
        let patience = call.patience.min(HELLO_PATIENCE);
        let answer = Call { patience, ..call }.send().await?;
        if answer.is_success() { Ok(()) } else { Err(answer.unexpected()) }
    }

    /// Begins a GET.
    pub fn get(&self, label: &'static str, path: impl Into<String>) -> Call<'_> {
        self.call(label, Method::GET, path.into())
    }

    /// Begins a POST.
    pub fn post(&self, label: &'static str, path: impl Into<String>) -> Call<'_> {
        self.call(label, Method::POST, path.into())
    }

    /// Begins a PUT.
    pub fn put(&self, label: &'static str, path: impl Into<String>) -> Call<'_> {
        self.call(label, Method::PUT, path.into())
    }

    /// Begins a DELETE.
    pub fn delete(&self, label: &'static str, path: impl Into<String>) -> Call<'_> {
        self.call(label, Method::DELETE, path.into())
    }

    /// Begins a call of any method.
    pub fn any(&self, label: &'static str, method: Method, path: impl Into<String>) -> Call<'_> {
        self.call(label, method, path.into())
    }

    /// What was measured so far.
    pub fn tally(&self) -> std::cell::Ref<'_, Tally> {
        self.tally.borrow()
    }

    /// Where it speaks to.
    pub fn url(&self) -> &str {
        &self.base
    }

    fn call(&self, label: &'static str, method: Method, path: String) -> Call<'_> {
        Call {
            client: self,
            label,
            method,
            path,
            key: None,
            cart_token: None,
            if_match: None,
            as_admin: false,
            timeout: self.options.timeout,
            patience: self.options.patience,
            content_type: "application/json",
            body: Bytes::new(),
        }
    }
}

/// One request, sent as often as it takes.
pub struct Call<'a> {
    client: &'a Client,
    label: &'static str,
    method: Method,
    path: String,
    key: Option<String>,
    cart_token: Option<String>,
    if_match: Option<String>,
    as_admin: bool,
    timeout: Duration,
    patience: Duration,
    content_type: &'static str,
    body: Bytes,
}

/// What one attempt came to.
enum Attempt {
    Answered(Answer),
    /// Worth another attempt after this long at least.
    Later {
        wait: Option<Duration>,
        last: String,
    },
}

impl Call<'_> {
    /// Gives it an idempotency key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Shows a cart's token.
    pub fn cart_token(mut self, token: impl Into<String>) -> Self {
        self.cart_token = Some(token.into());
        self
    }

    /// Demands that the thing still has this `ETag`.
    pub fn if_match(mut self, version: impl Into<String>) -> Self {
        self.if_match = Some(version.into());
        self
    }

    /// Shows the admin key, where one is known.
    pub fn as_admin(mut self) -> Self {
        self.as_admin = true;
        self
    }

    /// Allows one attempt this long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends `body` as JSON.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        // Our own plain structures always serialize; an empty body would be refused as malformed and seen.
        self.body = serde_json::to_vec(body).unwrap_or_default().into();
        self
    }

    /// Sends `body` as it stands.
    pub fn bytes(mut self, content_type: &'static str, body: Bytes) -> Self {
        self.content_type = content_type;
        self.body = body;
        self
    }

    /// Sends it, again and again while the engine says "later" or is not there, and gives the first real answer.
    pub async fn send(self) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let mut backoff = BACKOFF_MIN;
        loop {
            let (wait, last) = match self.attempt().await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Later { wait, last } => (wait, last),
            };
            let pause = wait.unwrap_or(backoff).max(backoff);
            if begun.elapsed() + pause > self.patience {
                return Err(self.gave_up(begun, last));
            }
            actix_rt::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Sends a body that is made anew for each attempt, for imports longer than memory. The patience counts from the
    /// last attempt that got somewhere: a long import may be cut off late.
    pub async fn send_stream<S, E>(
        self,
        content_type: &'static str,
        body: impl Fn() -> S,
    ) -> Result<Answer, Failure>
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<Box<dyn std::error::Error>> + 'static,
    {
        let mut failing_since = Instant::now();
        let mut backoff = BACKOFF_MIN;
        loop {
            let sent_at = Instant::now();
            let request = self.request().insert_header((CONTENT_TYPE, content_type));
            let (wait, last) = match self.settle(request.send_stream(Box::pin(body())), sent_at).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Later { wait, last } => (wait, last),
            };
            if sent_at.elapsed() > self.patience {
                failing_since = Instant::now();
            }
            let pause = wait.unwrap_or(backoff).max(backoff);
            if failing_since.elapsed() + pause > self.patience {
                return Err(self.gave_up(failing_since, last));
            }
            actix_rt::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn gave_up(&self, since: Instant, last: String) -> Failure {
        Failure::Unreachable { url: self.client.base.to_string(), waited_s: since.elapsed().as_secs(), last }
    }

    async fn attempt(&self) -> Attempt {
        let sent_at = Instant::now();
        let mut request = self.request();
        if !self.body.is_empty() {
            request = request.insert_header((CONTENT_TYPE, self.content_type));
        }
        self.settle(request.send_body(self.body.clone()), sent_at).await
    }

    fn request(&self) -> awc::ClientRequest {
        let url = format!("{}{}", self.client.base, self.path);
        let mut request = self.client.http.request(self.method.clone(), url);
        if let Some(key) = &self.key {
            request = request.insert_header(("Idempotency-Key", key.as_str()));
        }
        if let Some(token) = &self.cart_token {
            request = request.insert_header(("Cart-Token", token.as_str()));
        }
        if let Some(version) = &self.if_match {
            request = request.insert_header((IF_MATCH, version.as_str()));
        }
        if let (true, Some(admin_key)) = (self.as_admin, &self.client.options.admin_key) {
            request = request.insert_header((AUTHORIZATION, format!("Bearer {admin_key}")));
        }
        request
    }

    async fn settle(&self, sending: awc::SendClientRequest, sent_at: Instant) -> Attempt {
        let exchange = async {
            let mut response = sending.await.map_err(|fault| fault.to_string())?;
            let body = response.body().limit(REPLY_BYTES_MAX).await.map_err(|fault| fault.to_string())?;
            Ok::<_, String>((response, body))
        };
        let settled = match actix_rt::time::timeout(self.timeout, exchange).await {
            Ok(settled) => settled,
            Err(_) => Err(format!("no answer within {} ms", self.timeout.as_millis())),
        };
        let (response, body) = match settled {
            Ok(settled) => settled,
            Err(last) => {
                self.client.tally.borrow_mut().fault();
                return Attempt::Later { wait: None, last };
            }
        };
        let status = response.status().as_u16();
        let mut tally = self.client.tally.borrow_mut();
        tally.answered(self.label, sent_at.elapsed());
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let answer = Answer {
            label: self.label,
            status,
            replayed: header("Idempotent-Replayed") == Some("true"),
            version: header(ETAG.as_str()).map(str::to_owned),
            body,
        };
        if answer.is_success() {
            return Attempt::Answered(answer);
        }
        let problem = answer.problem();
        tally.refused(status, &problem.code);
        // 408: the head or body came too slowly, as it seems to an engine that was stopped for a while; nothing was begun.
        let later = matches!(status, 408 | 429 | 502 | 503 | 504) || problem.code == "request_in_progress";
        if !later {
            return Attempt::Answered(answer);
        }
        let told = problem.retry_after_ms.map(Duration::from_millis).or_else(|| {
            header(RETRY_AFTER.as_str()).and_then(|value| value.parse().ok()).map(Duration::from_secs)
        });
        Attempt::Later { wait: told, last: format!("{status} {}", problem.code) }
    }
}

/// What the engine said.
#[derive(Clone, Debug)]
pub struct Answer {
    label: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Whether it is an earlier answer again, found by the key.
    pub replayed: bool,
    /// Its `ETag`, where it has one.
    pub version: Option<String>,
    /// The body's bytes.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of a success; anything else is a [`Failure::Unexpected`].
    pub fn expect<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if !self.is_success() {
            return Err(self.unexpected());
        }
        serde_json::from_slice(&self.body).map_err(|_| self.unexpected())
    }

    /// The problem a refusal states; a body that is none is given the code `not_a_problem`.
    pub fn problem(&self) -> ProblemReply {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| ProblemReply {
            code: NOT_A_PROBLEM.to_owned(),
            detail: Some(self.excerpt()),
            ..ProblemReply::default()
        })
    }

    /// This answer as a failure, for callers that expected another.
    pub fn unexpected(&self) -> Failure {
        let problem = self.problem();
        if !self.is_success() && problem.code != NOT_A_PROBLEM {
            let detail = match self.status {
                401 | 403 => {
                    "give the engine's admin key with --admin-key or DOORBUSTER_ADMIN_KEY".to_owned()
                }
                _ => problem.detail.unwrap_or_default(),
            };
            return Failure::Refused {
                what: self.label.to_owned(),
                status: self.status,
                code: problem.code,
                detail,
            };
        }
        Failure::Unexpected { what: self.label.to_owned(), status: self.status, excerpt: self.excerpt() }
    }

    fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(300).collect()
    }
}

/// `text` as one segment of a path.
pub fn path_segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            segment.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

    use super::*;

    fn options(url: String) -> Options {
        Options {
            url,
            admin_key: Some("secret".to_owned()),
            patience: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
        }
    }

    #[test]
    fn a_path_segment_carries_any_sku() {
        for (sku, segment) in [
            ("85123A", "85123A"),
            ("BANK CHARGES", "BANK%20CHARGES"),
            ("a.b_c-d", "a.b_c-d"),
            ("é/", "%C3%A9%2F"),
        ] {
            assert_eq!(path_segment(sku), segment);
        }
    }

    #[test]
    fn a_url_that_cannot_be_ours_is_refused_with_the_remedy() {
        for url in ["localhost:8080", "https://shop.example", "", "http://bad host"] {
            let told = Client::new(options(url.to_owned())).err().map(|failure| failure.to_string());
            assert!(told.is_some_and(|told| told.contains("http://127.0.0.1:8080")), "{url}");
        }
    }

    /// A stub that says "later" three times and then tells what it was sent.
    async fn stubborn(calls: web::Data<Arc<AtomicU32>>, request: HttpRequest, body: Bytes) -> HttpResponse {
        let header =
            |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => HttpResponse::ServiceUnavailable()
                .insert_header(("Retry-After", "0"))
                .json(serde_json::json!({"code": "overloaded", "retry_after_ms": 1})),
            1 => HttpResponse::Conflict().json(serde_json::json!({"code": "request_in_progress", "retry_after_ms": 1})),
            // As actix answers a head that came too slowly: without a body.
            2 => HttpResponse::RequestTimeout().finish(),
            _ => HttpResponse::Created().insert_header(("Idempotent-Replayed", "true")).json(serde_json::json!({
                "key": header("Idempotency-Key"), "token": header("Cart-Token"), "auth": header("Authorization"),
                "type": header("Content-Type"), "body": String::from_utf8_lossy(&body), "path": request.path(),
            })),
        }
    }

    #[test]
    fn later_is_tried_again_with_the_same_key_and_body() {
        actix_rt::System::new().block_on(async {
            let calls = web::Data::new(Arc::new(AtomicU32::new(0)));
            let server = HttpServer::new(move || App::new().app_data(calls.clone()).default_service(web::to(stubborn)))
                .workers(1)
                .bind("127.0.0.1:0")
                .unwrap();
            let url = format!("http://{}", server.addrs()[0]);
            let running = server.run();
            let handle = running.handle();
            actix_rt::spawn(running);
            let client = Client::new(options(url)).unwrap();
            let call = client.post("checkout", "/v1/x").key("k1").cart_token("t1").as_admin();
            let answer = call.json(&serde_json::json!({"a": 1})).send().await.unwrap();
            assert!(answer.replayed);
            let seen: serde_json::Value = answer.expect().unwrap();
            let expected = serde_json::json!({
                "key": "k1", "token": "t1", "auth": "Bearer secret", "type": "application/json", "body": "{\"a\":1}",
                "path": "/v1/x",
            });
            assert_eq!(seen, expected);
            let refusals = client.tally().refusals();
            let told = |status, code: &str| (status, code.to_owned(), 1);
            let expected =
                [told(503, "overloaded"), told(409, "request_in_progress"), told(408, "not_a_problem")];
            assert_eq!(refusals, expected);
            assert_eq!(client.tally().latencies()[0].count, 4);
            handle.stop(false).await;
        });
    }

    #[test]
    fn an_engine_that_stays_away_is_reported_when_the_patience_ends() {
        actix_rt::System::new().block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            drop(listener);
            let client =
                Client::new(Options { patience: Duration::from_millis(200), ..options(url) }).unwrap();
            let failure = client.get("health", "/livez").send().await.unwrap_err();
            assert!(matches!(&failure, Failure::Unreachable { .. }), "{failure}");
            assert!(client.tally().faults() >= 2);
        });
    }
}
