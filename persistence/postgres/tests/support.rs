//! What tests of this room share: a runtime, a database each, sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use doorbuster_postgres::connection::Connection;
use doorbuster_postgres::settings::DatabaseSettings;
use doorbuster_servers::postgres::Postgres;

/// Runs one test's asynchronous part.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A database of this test's own on the cluster that tests share.
pub(crate) struct Database {
    pub(crate) cluster: Arc<Postgres>,
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Database {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = Postgres::shared().unwrap();
        let url = cluster.fresh_database(&name).unwrap();
        Self { cluster, name, url }
    }

    pub(crate) fn settings(&self) -> DatabaseSettings {
        DatabaseSettings::parse(&self.url, "doorbuster test").unwrap()
    }

    pub(crate) async fn connect(&self) -> Connection {
        self.settings().connect().await.unwrap()
    }

    /// What `psql` prints: rows as lines, fields parted by `|`.
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.cluster.psql(&self.name, sql).unwrap()
    }
}
