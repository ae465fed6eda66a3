//! A look at a Redis before it is relied on, for `doorbuster doctor`.

use std::time::{Duration, Instant};

use crate::link::{Link, LinkError};

/// What a Redis looks like.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its version, as it says.
    pub version: String,
    /// What it does when it is full.
    pub policy: String,
    /// How long it took to answer.
    pub took: Duration,
}

impl Seen {
    /// Whether a full Redis may throw away what is announced, the offset beside the streams included.
    pub fn may_evict(&self) -> bool {
        self.policy.starts_with("allkeys")
    }
}

/// Looks at the Redis behind `link`.
pub async fn look(link: &Link) -> Result<Seen, LinkError> {
    let began = Instant::now();
    let info: String = link
        .ask(|mut connection| async move { redis::cmd("INFO").query_async(&mut connection).await })
        .await?;
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
    };
    Ok(Seen { version: field("redis_version"), policy: field("maxmemory_policy"), took: began.elapsed() })
}
