//! What can go wrong between us and Postgres, each with its remedy. No variant ever holds a password.

use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

/// A fault on the way to Postgres or in it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The URL or a file it names cannot be used. Nothing was tried.
    #[error("the database URL cannot be used: {0}")]
    Settings(String),
    /// No session could be opened. Try again later; a person may have to look.
    #[error("cannot connect to {place}: {what}; is it running, and may this user log in there?")]
    Connect {
        /// Host, port and database.
        place: String,
        /// What was seen.
        what: String,
    },
    /// The server is older than what is written for.
    #[error("{place} is PostgreSQL {found}, but 15 or newer is needed; upgrade it or name another")]
    TooOld {
        /// Host, port and database.
        place: String,
        /// Its version, as it says.
        found: String,
    },
    /// Postgres refused a statement, or the session broke.
    #[error("{what}: {}", told(source))]
    Statement {
        /// What was to be done.
        what: &'static str,
        /// What Postgres said.
        source: tokio_postgres::Error,
    },
    /// No answer in time: the server is paused, hangs, or is very slow. The session must not be used again.
    #[error("{what}: no answer within {} ms", limit.as_millis())]
    Deadline {
        /// What was to be done.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl PostgresError {
    /// The code that Postgres gave, where it answered at all.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Statement { source, .. } => source.code(),
            Self::Settings(_) | Self::Connect { .. } | Self::TooOld { .. } | Self::Deadline { .. } => None,
        }
    }
}

/// An error of the client as a person wants to read it: the server's words where it has said some.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => told_by_server(said),
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                let more = inner.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = inner.source();
            }
            text
        }
    }
}

fn told_by_server(said: &DbError) -> String {
    let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{} [{}]{detail}", said.message(), said.code().code())
}
