//! A connection to Redis that may fail: time-outs, reconnection and a breaker, cheap to clone, for any runtime.
//!
//! Law 11: whoever asks waits for [`LinkOptions::patience`] at most, or else for [`LinkOptions::connect_timeout`] and
//! [`LinkOptions::reply_timeout`]; and not at all while the breaker is open. Sockets live on the link's own runtime whichever thread asks. Start at [`Link::ask`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, ServerErrorKind,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::metrics::{REDIS_BREAKER_OPEN, REDIS_CONNECTIONS_TOTAL, REDIS_ERRORS_TOTAL};

/// How a link behaves.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// What it is for, as metrics call it: one of a closed set.
    pub purpose: &'static str,
    /// How long a connection may take to come about. Longer, and a vanished host holds up its askers.
    pub connect_timeout: Duration,
    /// How long one answer may take. Shorter than the caller's patience; longer than Redis's slowest fork.
    pub reply_timeout: Duration,
    /// How long one asker waits in all, where that is less than both: a connection in the making is then waited for by nobody,
    /// and serves whoever asks after it came about.
    pub patience: Option<Duration>,
    /// Failures in a row that open the breaker. One alone may be a dropped idle connection.
    pub failures_max: u32,
    /// How long the breaker stays open first; doubled at each failed probe.
    pub rest_min: Duration,
    /// How long it stays open at most, and so how long after Redis is back it may go unnoticed.
    pub rest_max: Duration,
}

impl LinkOptions {
    /// Defaults for what may wait a moment: two seconds for an answer, a probe at least every three.
    pub fn patient(purpose: &'static str) -> Self {
        Self {
            purpose,
            connect_timeout: Duration::from_secs(2),
            reply_timeout: Duration::from_secs(2),
            patience: None,
            failures_max: 3,
            rest_min: Duration::from_millis(100),
            rest_max: Duration::from_secs(3),
        }
    }

    /// Defaults for what a request waits for: 50 milliseconds in all, then do without.
    pub fn hasty(purpose: &'static str) -> Self {
        Self {
            connect_timeout: Duration::from_millis(500),
            reply_timeout: Duration::from_millis(50),
            patience: Some(Duration::from_millis(50)),
            ..Self::patient(purpose)
        }
    }
}

/// Why there is no answer. Never names a password.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The text is no URL of a Redis.
    #[error(
        "not the URL of a Redis: {what}; write redis://[user:password@]host:port[/database], rediss:// for TLS"
    )]
    Url {
        /// What is wrong with it.
        what: String,
    },
    /// The breaker is open: Redis failed lately and is left alone.
    #[error("Redis failed {failures} times in a row; it is asked again in {} ms", rest.as_millis())]
    Open {
        /// How long it is still left alone.
        rest: Duration,
        /// How often it failed in a row.
        failures: u32,
    },
    /// Redis cannot be reached, does not answer in time, or cannot take writes now.
    #[error("Redis is not to be had: {0}")]
    Outage(RedisError),
    /// Redis answered that it will not do this.
    #[error("Redis refused: {0}")]
    Refused(RedisError),
    /// The link's runtime has ended: the process is about to.
    #[error("the connection to Redis has been given up")]
    Closed,
}

/// See the module's header.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    shown: String,
    options: LinkOptions,
    runtime: Handle,
    state: Mutex<State>,
    /// One connection is made at a time, whoever asks.
    connecting: tokio::sync::Mutex<()>,
    meters: Meters,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Attempts to connect that failed, ever.
    attempts_failed: u64,
    /// Failures since the last success.
    failures: u32,
    /// While open: until when nobody asks.
    open_until: Option<Instant>,
    /// While half open: somebody is asking on everybody's behalf.
    probing: bool,
}

struct Meters {
    open: Gauge,
    connections: Counter,
    outages: Counter,
    refusals: Counter,
}

impl Link {
    /// A link to the Redis at `url`, whose sockets live on `runtime`. Nothing is connected yet.
    pub fn new(url: &str, options: LinkOptions, runtime: Handle) -> Result<Self, LinkError> {
        let refuse = |error: RedisError| LinkError::Url { what: error.to_string() };
        let info = url.into_connection_info().map_err(refuse)?;
        // Nagle's algorithm would hold small commands back for an answer to the one before.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        // Shows host and port only; user, password and database are its settings.
        let shown = info.addr().to_string();
        let client = Client::open(info).map_err(refuse)?;
        let purpose = options.purpose;
        let errors = |kind| metrics::counter!(REDIS_ERRORS_TOTAL, "purpose" => purpose, "kind" => kind);
        let meters = Meters {
            open: metrics::gauge!(REDIS_BREAKER_OPEN, "purpose" => purpose),
            connections: metrics::counter!(REDIS_CONNECTIONS_TOTAL, "purpose" => purpose),
            outages: errors("outage"),
            refusals: errors("refused"),
        };
        meters.open.set(0.0);
        let connecting = tokio::sync::Mutex::new(());
        let state = Mutex::default();
        Ok(Self(Arc::new(Inner { client, shown, options, runtime, state, connecting, meters })))
    }

    /// Where Redis is, without user and password.
    pub fn shown(&self) -> &str {
        &self.0.shown
    }

    /// The runtime on which its sockets live.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Whether the breaker is open: nobody asks Redis until its rest is over.
    pub fn is_open(&self) -> bool {
        self.0.state.lock().open_until.is_some_and(|until| until > Instant::now())
    }

    /// Puts `question` to Redis, on the link's runtime, and waits for the answer; from any thread and runtime.
    ///
    /// A question that is put may have taken effect although an [`LinkError::Outage`] is told.
    pub async fn ask<T, F, Fut>(&self, question: F) -> Result<T, LinkError>
    where
        T: Send + 'static,
        F: FnOnce(MultiplexedConnection) -> Fut + Send + 'static,
        Fut: Future<Output = RedisResult<T>> + Send,
    {
        self.admit()?;
        let link = self.clone();
        let asked = self.0.runtime.spawn(async move { link.ask_here(question).await });
        let Some(patience) = self.0.options.patience else {
            return asked.await.unwrap_or(Err(LinkError::Closed));
        };
        // The asker may live where no clock ticks. Whoever stops waiting leaves the question to itself: its outcome counts.
        let waiting = self.0.runtime.spawn(async move { tokio::time::timeout(patience, asked).await });
        match waiting.await {
            Ok(Ok(told)) => told.unwrap_or(Err(LinkError::Closed)),
            Ok(Err(_)) => Err(LinkError::Outage(late())),
            Err(_) => Err(LinkError::Closed),
        }
    }

    async fn ask_here<T, F, Fut>(&self, question: F) -> Result<T, LinkError>
    where
        F: FnOnce(MultiplexedConnection) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let outcome = match self.connection().await {
            Ok(Some(connection)) => question(connection).await,
            // Counted by who made the attempt.
            Ok(None) => return Err(LinkError::Outage(late())),
            Err(error) => Err(error),
        };
        outcome.map_err(|error| self.failed(error)).inspect(|_| self.succeeded())
    }

    /// Refuses while the breaker is open; lets one through as a probe when its rest is over.
    fn admit(&self) -> Result<(), LinkError> {
        let mut state = self.0.state.lock();
        let Some(until) = state.open_until else { return Ok(()) };
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() && !state.probing {
            state.probing = true;
            return Ok(());
        }
        Err(LinkError::Open { rest, failures: state.failures })
    }

    /// The connection that is there, or a new one; `None` where somebody else's attempt was waited for and failed: a queue of
    /// askers that each tried in turn would hold up the last one by as many time-outs.
    async fn connection(&self) -> RedisResult<Option<MultiplexedConnection>> {
        let look = || {
            let state = self.0.state.lock();
            (state.connection.clone(), state.attempts_failed)
        };
        let (present, failed_before) = look();
        if present.is_some() {
            return Ok(present);
        }
        let _alone = self.0.connecting.lock().await;
        let (present, failed) = look();
        if present.is_some() || failed != failed_before {
            return Ok(present);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.options.connect_timeout))
            .set_response_timeout(Some(self.0.options.reply_timeout));
        let connected = self.0.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut state = self.0.state.lock();
        let connection =
            connected.inspect_err(|_| state.attempts_failed = state.attempts_failed.wrapping_add(1))?;
        self.0.meters.connections.increment(1);
        state.connection = Some(connection.clone());
        Ok(Some(connection))
    }

    fn succeeded(&self) {
        let mut state = self.0.state.lock();
        let was_open = state.open_until.take().is_some();
        state.failures = 0;
        state.probing = false;
        drop(state);
        if was_open {
            self.0.meters.open.set(0.0);
            tracing::info!(redis = self.shown(), purpose = self.0.options.purpose, "Redis is back");
        }
    }

    fn failed(&self, error: RedisError) -> LinkError {
        if !is_outage(&error) {
            // It answered, so it is there.
            self.succeeded();
            self.0.meters.refusals.increment(1);
            return LinkError::Refused(error);
        }
        self.0.meters.outages.increment(1);
        let options = &self.0.options;
        let mut state = self.0.state.lock();
        // After a time-out the connection may still bring the late answer; nobody waits for it.
        state.connection = None;
        state.failures = state.failures.saturating_add(1);
        state.probing = false;
        let beyond = state.failures.checked_sub(options.failures_max);
        let opened = beyond.map(|beyond| {
            let rest = options.rest_min.saturating_mul(1 << beyond.min(16)).min(options.rest_max);
            state.open_until = Some(Instant::now() + rest);
            beyond == 0
        });
        drop(state);
        if opened == Some(true) {
            self.0.meters.open.set(1.0);
            tracing::warn!(redis = self.shown(), purpose = options.purpose, %error, "Redis is left alone for a while");
        }
        LinkError::Outage(error)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("redis", &self.0.shown).finish_non_exhaustive()
    }
}

/// What is told to who stopped waiting.
fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Whether Redis is not able to answer anybody now, rather than unwilling to do this one thing.
fn is_outage(error: &RedisError) -> bool {
    let told = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain,
        ) | ErrorKind::Io
            | ErrorKind::AuthenticationFailed
    );
    // A full Redis refuses every write with a code that the library has no name for.
    told || error.is_unrecoverable_error() || matches!(error.code(), Some("OOM" | "NOAUTH" | "MISCONF"))
}
