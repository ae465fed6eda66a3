//! What the commands that speak to Postgres share: where it is, a runtime for it, and what its faults mean to supervisors.

use doorbuster_postgres::error::PostgresError;
use doorbuster_postgres::migrations::MigrationError;
use doorbuster_postgres::settings::DatabaseSettings;

use super::Failure;

/// The settings of this URL; without one those of `DATABASE_URL`, where it is set and not empty.
pub(crate) fn settings(url: Option<&str>) -> Result<Option<DatabaseSettings>, Failure> {
    let usual = std::env::var("DATABASE_URL").ok();
    match url.or(usual.as_deref()).map(str::trim).filter(|url| !url.is_empty()) {
        Some(url) => Ok(Some(DatabaseSettings::parse(url, "doorbuster").map_err(Failure::from)?)),
        None => Ok(None),
    }
}

/// As [`settings`], for a command that is about nothing else.
pub(crate) fn needed(url: Option<&str>) -> Result<DatabaseSettings, Failure> {
    settings(url)?.ok_or_else(|| Failure {
        message: "which database? give --database-url, or DATABASE_URL in the environment".to_owned(),
        code: 2,
    })
}

/// Runs `work` on a runtime of this thread's own: sockets belong to the runtime that opened them.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure { message: format!("cannot make a runtime: {error}"), code: 74 })?;
    runtime.block_on(work)
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        let code = match &error {
            PostgresError::Settings(_) | PostgresError::Connect { .. } | PostgresError::TooOld { .. } => 2,
            PostgresError::Statement { .. } | PostgresError::Deadline { .. } => 1,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<MigrationError> for Failure {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::Postgres(error) => error.into(),
            MigrationError::Newer { .. } => Self { code: 76, message: error.to_string() },
            MigrationError::Busy
            | MigrationError::Changed { .. }
            | MigrationError::HalfApplied { .. }
            | MigrationError::Missing { .. }
            | MigrationError::ChangedByHand(_)
            | MigrationError::Pending { .. } => Self { code: 1, message: error.to_string() },
        }
    }
}
