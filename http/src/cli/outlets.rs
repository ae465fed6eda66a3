//! What is told to the outside while serving: flags, the runtime of its sockets, and its end.

use std::path::Path;

use doorbuster_actors::Engine;
use doorbuster_outlets::announcer::{Announcer, AnnouncerOptions};
use doorbuster_outlets::limits::Counts;
use doorbuster_outlets::link::{Link, LinkError, LinkOptions};
use doorbuster_persistence::frame::FrameNumber;

use super::Failure;

/// Flags about Redis.
#[derive(Clone, clap::Args)]
pub struct RedisArguments {
    /// The Redis that announcements go to (docs/events.md), and where engines count rate limits together:
    /// `redis://[user:password@]host:port[/database]`, `rediss://` with TLS. Also read from `REDIS_URL`. Better in the environment than here: a command line can be seen by others
    #[arg(long, env = "DOORBUSTER_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// What every key of an announcement in Redis begins with; engines that share a Redis need different ones
    #[arg(long, env = "DOORBUSTER_REDIS_PREFIX", default_value = "doorbuster", value_parser = checked_prefix, value_name = "TEXT")]
    pub redis_prefix: String,
    /// About how many announcements each stream in Redis keeps; each takes about a kilobyte
    #[arg(long, env = "DOORBUSTER_REDIS_STREAM_LENGTH", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..), value_name = "N")]
    pub redis_stream_length: u64,
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for RedisArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = self.redis_url.is_some();
        f.debug_struct("RedisArguments")
            .field("given", &given)
            .field("prefix", &self.redis_prefix)
            .finish_non_exhaustive()
    }
}

impl RedisArguments {
    /// The URL from the flag, its variable or `REDIS_URL`, which the platforms that rent out a Redis set.
    pub fn url(&self) -> Option<String> {
        let common = || std::env::var("REDIS_URL").ok();
        self.redis_url.clone().or_else(common).filter(|url| !url.is_empty())
    }
}

/// A prefix must not look like the hash tag that follows it.
pub fn checked_prefix(text: &str) -> Result<String, String> {
    let sound = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.'));
    if sound { Ok(text.to_owned()) } else { Err("1 to 64 letters, digits, `-`, `_`, `.` and `:`".to_owned()) }
}

/// The runtime on which sockets to the outside live. Wherever it is dropped, also in an async context: it must not block.
struct Sockets(Option<tokio::runtime::Runtime>);

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Everything that speaks to Redis beside the workers.
pub struct Outlets {
    announcer: Announcer,
    _sockets: Sockets,
}

/// The link to the Redis that is configured, and where its sockets will live.
pub struct Prepared {
    link: Link,
    sockets: Sockets,
}

/// Checks what is configured, before anything is touched; `None` without a Redis.
pub fn prepare(arguments: &RedisArguments) -> Result<Option<Prepared>, Failure> {
    let Some(url) = arguments.url() else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("outlets")
        .enable_all()
        .build()
        .map_err(|error| Failure { message: format!("cannot start a thread: {error}"), code: 74 })?;
    let handle = runtime.handle().clone();
    let sockets = Sockets(Some(runtime));
    let link = Link::new(&url, LinkOptions::patient("announcements"), handle);
    Ok(Some(Prepared { link: link.map_err(refused)?, sockets }))
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` gives it
fn refused(error: LinkError) -> Failure {
    Failure { message: format!("--redis-url (or REDIS_URL): {error}"), code: 78 }
}

impl Prepared {
    /// What instances of one `prefix` count together in that Redis. Requests wait for it, so it has little time.
    pub fn counts(&self, arguments: &RedisArguments, prefix: &str) -> Result<Counts, Failure> {
        let url = arguments.url().unwrap_or_default();
        let link = Link::new(&url, LinkOptions::hasty("limits"), self.link.runtime().clone());
        Ok(Counts::new(link.map_err(refused)?, prefix))
    }

    /// Begins to announce what `engine` records.
    pub fn start(self, arguments: &RedisArguments, engine: &Engine, data: &Path) -> Result<Outlets, Failure> {
        let options = AnnouncerOptions {
            prefix: arguments.redis_prefix.clone(),
            stream_length: arguments.redis_stream_length,
            ..AnnouncerOptions::new(data.join("announcements.memory"))
        };
        tracing::info!(redis = self.link.shown(), prefix = options.prefix, "announcing");
        let announcer = Announcer::start(engine.follow(FrameNumber::FIRST), self.link, options);
        let announcer = announcer.map_err(|error| Failure {
            message: format!("cannot start a thread: {error}; look at `ulimit -u`"),
            code: 74,
        })?;
        Ok(Outlets { announcer, _sockets: self.sockets })
    }
}

impl Outlets {
    /// Announces what is durable and ends. For a thread that may wait.
    pub fn stop(self) {
        self.announcer.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_leaves_the_hash_tag_alone() {
        for sound in ["doorbuster", "shop:eu-1", "a"] {
            assert_eq!(checked_prefix(sound).unwrap(), sound);
        }
        for wrong in ["", "a b", "{x}", "é"] {
            assert!(checked_prefix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_debug_text_shows_the_password() {
        let arguments = RedisArguments {
            redis_url: Some("redis://:s3cret@host".to_owned()),
            redis_prefix: "doorbuster".to_owned(),
            redis_stream_length: 100,
        };
        assert!(!format!("{arguments:?}").contains("s3cret"));
        let wrong = RedisArguments { redis_url: Some("http://:s3cret@host".to_owned()), ..arguments };
        let Err(refused) = prepare(&wrong) else { panic!("not a Redis") };
        assert!(
            refused.message.contains("--redis-url") && !refused.message.contains("s3cret"),
            "{}",
            refused.message
        );
    }
}
