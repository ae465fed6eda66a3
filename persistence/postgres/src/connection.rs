//! One session with Postgres: opened with deadlines, spoken to with deadlines, gone with its value.
//!
//! Every wait goes through [`Connection::within`]: a server that was stopped in its tracks keeps its sockets open and says
//! nothing for ever. After a deadline the session is in an unknown state and is to be dropped, never used again.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};

use crate::error::{PostgresError, told};
use crate::settings::{CONNECT_PATIENCE, DatabaseSettings};
use crate::tls;

/// The oldest server that is written for: `server_version_num` of Postgres 15.
const SERVER_VERSION_MIN: i32 = 150_000;

/// A session. Belongs to the runtime that opened it.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    patience: Duration,
    carrier: JoinHandle<()>,
    warnings: Arc<AtomicU64>,
}

impl DatabaseSettings {
    /// Opens a session: UTC, the statement's and lock's time-outs set, the server's version looked at.
    pub async fn connect(&self) -> Result<Connection, PostgresError> {
        let opened = if self.config.get_ssl_mode() == SslMode::Disable {
            self.open(NoTls).await?
        } else {
            self.open(tls::connector(&self.trust)?).await?
        };
        let set = format!(
            "SET TIME ZONE 'UTC'; SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
             SET idle_in_transaction_session_timeout = {statement}; SET client_min_messages = warning",
            statement = self.statement_timeout_ms,
            lock = self.statement_timeout_ms.min(10_000),
        );
        opened.within("beginning a session", opened.client.batch_execute(&set)).await?;
        let asked = opened.client.query_one("SELECT current_setting('server_version_num')::int4", &[]);
        let version: i32 = opened.within("asking for the server's version", asked).await?.get(0);
        if version < SERVER_VERSION_MIN {
            let found = format!("{}.{}", version / 10_000, version % 10_000);
            return Err(PostgresError::TooOld { place: self.place(), found });
        }
        Ok(opened)
    }

    async fn open<T>(&self, tls: T) -> Result<Connection, PostgresError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let refuse = |what: String| PostgresError::Connect { place: self.place(), what };
        // The library's own time-out ends with the TCP connection; a paused server accepts and then says nothing.
        let opening = tokio::time::timeout(CONNECT_PATIENCE * 2, self.config.connect(tls));
        let (client, connection) = match opening.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(refuse(told(&error))),
            Err(_) => return Err(refuse("it accepts, but does not answer".to_owned())),
        };
        let warnings = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&warnings);
        let carrier = tokio::spawn(async move {
            let mut connection = connection;
            // Whoever waits for an answer is told of an error; nobody else need be. A warning comes before the answer that it
            // belongs to, and is counted before that is handed on.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.parsed_severity().is_none_or(|severity| severity == Severity::Warning)
                {
                    tracing::warn!(notice = notice.message(), "PostgreSQL warns");
                    counted.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        Ok(Connection { client, patience: self.answer_patience, carrier, warnings })
    }
}

impl Connection {
    /// The session's client. Wait for what it returns by [`Connection::within`].
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The session's client, for transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Waits for one answer, so long and no longer. `what` tells people what was being done.
    pub async fn within<T>(
        &self,
        what: &'static str,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        within(self.patience, what, answer).await
    }

    /// How long one answer is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Warnings that the server has sent in this session, each before the answer that it belongs to.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Acquire)
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Otherwise a paused server would keep the socket and the task for as long as it sleeps.
        self.carrier.abort();
    }
}

/// Waits for one answer, so long and no longer.
pub async fn within<T>(
    limit: Duration,
    what: &'static str,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, PostgresError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answered) => answered.map_err(|source| PostgresError::Statement { what, source }),
        Err(_) => Err(PostgresError::Deadline { what, limit }),
    }
}
