//! The engine with Postgres and Redis attached: it feeds both while it is measured, and their processor time is its own.

use anyhow::Context as _;
use doorbuster_servers::postgres::Postgres;
use doorbuster_servers::redis::Redis;

/// The servers that the engine feeds, gone with this value.
#[derive(Debug)]
pub(super) struct Attached {
    postgres: Postgres,
    redis: Redis,
}

impl Attached {
    /// Both, empty, with their own defaults for durability.
    pub(super) fn start() -> anyhow::Result<Self> {
        Ok(Self { postgres: Postgres::start()?, redis: Redis::start()? })
    }

    /// What the engine must be told.
    pub(super) fn arguments(&self) -> anyhow::Result<[String; 4]> {
        let database = self.postgres.fresh_database("doorbuster").context("a database for the engine")?;
        Ok(["--database-url".to_owned(), database, "--redis-url".to_owned(), self.redis.url()])
    }

    /// Their processes.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        [self.postgres.pid(), self.redis.pid()].into_iter().flatten()
    }
}
