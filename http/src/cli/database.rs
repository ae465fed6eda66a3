//! What the commands that speak to Postgres share: where it is, a runtime for it, and what its faults mean to supervisors.

use std::time::Duration;

use doorbuster_actors::Engine;
use doorbuster_postgres::error::PostgresError;
use doorbuster_postgres::history::History;
use doorbuster_postgres::migrations::MigrationError;
use doorbuster_postgres::projection::error::ProjectionError;
use doorbuster_postgres::projection::projector::Projector;
use doorbuster_postgres::settings::DatabaseSettings;

use super::Failure;

/// How long a stopping engine waits for Postgres to be told the rest; what is left is told after the next start.
const LAST_BATCHES: Duration = Duration::from_secs(3);

/// Postgres, as `serve` is told of it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DatabaseArguments {
    /// Postgres that what happens is projected into: postgres://user:password@host:port/database (also read from
    /// `DATABASE_URL`). It may be away, now or later
    #[arg(long, env = "DOORBUSTER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Its replicas, which are asked for the order history first (also read from `DATABASE_REPLICA_URLS`, with commas between)
    #[arg(
        long,
        env = "DOORBUSTER_DATABASE_REPLICA_URLS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub database_replica_urls: Vec<String>,
    /// Do not bring its schema up to date: `doorbuster migrate` does that
    #[arg(long, env = "DOORBUSTER_NO_MIGRATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_migrate: bool,
}

/// Where everything is, read and understood before anything is started.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    primary: DatabaseSettings,
    replicas: Vec<DatabaseSettings>,
    migrates: bool,
}

impl DatabaseArguments {
    /// Where Postgres is, if it is anywhere.
    pub(crate) fn places(&self) -> Result<Option<Places>, Failure> {
        let Some(primary) = settings(self.database_url.as_deref())? else { return Ok(None) };
        let mut urls = self.database_replica_urls.clone();
        if urls.is_empty() {
            let usual = std::env::var("DATABASE_REPLICA_URLS").unwrap_or_default();
            urls.extend(usual.split(',').map(str::to_owned));
        }
        let urls = urls.iter().map(|url| url.trim()).filter(|url| !url.is_empty());
        let replicas =
            urls.map(|url| DatabaseSettings::parse(url, "doorbuster")).collect::<Result<_, _>>()?;
        Ok(Some(Places { primary, replicas, migrates: !self.no_migrate }))
    }
}

/// Postgres behind a running engine.
#[derive(Debug)]
pub(crate) struct Database {
    projector: Projector,
    history: History,
}

impl Database {
    /// Starts the projection of `engine`, and who finds orders in it.
    pub(crate) fn start(engine: &Engine, places: Places) -> Result<Self, Failure> {
        let refuse = |error: std::io::Error| Failure {
            message: format!("cannot start the threads that speak to Postgres: {error}"),
            code: 74,
        };
        let engine = engine.clone();
        let follow = Box::new(move |from| engine.follow(from));
        let projector = Projector::start(places.primary.clone(), follow, places.migrates).map_err(refuse)?;
        let history = History::start(places.primary, places.replicas, projector.status()).map_err(refuse)?;
        Ok(Self { projector, history })
    }

    /// Who finds orders in it.
    pub(crate) fn history(&self) -> History {
        self.history.clone()
    }

    /// Ends the projection: what is durable by now is told first, if Postgres takes it at once.
    pub(crate) fn stop(self) {
        self.projector.stop(LAST_BATCHES);
    }
}

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

impl From<ProjectionError> for Failure {
    fn from(error: ProjectionError) -> Self {
        match error {
            ProjectionError::Postgres(error) => error.into(),
            ProjectionError::Migration(error) => error.into(),
            ProjectionError::Journal(_) | ProjectionError::Unreadable { .. } => {
                Self { code: 65, message: error.to_string() }
            }
            ProjectionError::OtherEngine { .. }
            | ProjectionError::Ahead { .. }
            | ProjectionError::OtherHistory { .. }
            | ProjectionError::Inconsistent { .. }
            | ProjectionError::Contended
            | ProjectionError::Encoding { .. } => Self { code: 1, message: error.to_string() },
        }
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
