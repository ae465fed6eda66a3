//! Counts of requests that all instances share, in Redis: one script, one hash slot, one number for each of whom is counted.
//!
//! Law 11: an answer comes within the link's time-outs or not at all, and then each instance counts alone. Nothing here is
//! worth keeping: a Redis that forgot everything has forgiven everybody once. Start at [`Counts::take`].

use redis::Script;

use crate::link::{Link, LinkError};

/// One thing to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The limit's name.
    pub limit: &'a str,
    /// A hash of whom it counts; of no use to learn an address or a token.
    pub who: u128,
    /// Time that one request uses up, in microseconds; 1 or more.
    pub interval_us: u64,
    /// Requests that may come at once; 1 or more.
    pub burst: u32,
    /// Requests that come now; at most `burst`.
    pub cost: u32,
}

/// What became of an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Whether there was room. Counted only when all that were asked together had it.
    pub allowed: bool,
    /// Requests that could come at once now.
    pub remaining: u32,
    /// Until there would be room, in microseconds; 0 where there was.
    pub retry_after_us: u64,
    /// Until all of it is free, in microseconds.
    pub reset_us: u64,
}

/// See the module's header. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Counts {
    link: Link,
    /// What every key begins with. Its braces put all of them into one slot of a cluster, as one script needs it.
    prefix: Box<str>,
    script: Script,
}

impl Counts {
    /// Counts in the Redis at the link's end, under keys that begin with `prefix`: instances that count together have the same.
    /// The link should be a hasty one: requests wait for it.
    pub fn new(link: Link, prefix: &str) -> Self {
        let prefix = format!("{{{prefix}:limits}}").into();
        Self { link, prefix, script: Script::new(include_str!("limits.lua")) }
    }

    /// Counts all of `asks` by the clock of Redis, so that instances need not agree on the time; or none, when one of them has no
    /// room. One answer each, in order.
    pub async fn take(&self, asks: &[Ask<'_>]) -> Result<Vec<Count>, LinkError> {
        self.take_at(None, asks).await
    }

    async fn take_at(&self, now_us: Option<u64>, asks: &[Ask<'_>]) -> Result<Vec<Count>, LinkError> {
        let script = self.script.clone();
        let keys: Vec<String> =
            asks.iter().map(|ask| format!("{}:{}:{:032x}", self.prefix, ask.limit, ask.who)).collect();
        let now = now_us.map_or_else(String::new, |now_us| now_us.to_string());
        let numbers: Vec<u64> = asks
            .iter()
            .flat_map(|ask| [ask.interval_us.max(1), u64::from(ask.burst), u64::from(ask.cost)])
            .collect();
        let told: Vec<u64> = self
            .link
            .ask(async move |mut connection| {
                let mut call = script.prepare_invoke();
                for key in keys {
                    call.key(key);
                }
                call.arg(now).arg(numbers);
                call.invoke_async(&mut connection).await
            })
            .await?;
        let count = |four: &[u64]| Count {
            allowed: four[0] == 1,
            remaining: u32::try_from(four[1]).unwrap_or(u32::MAX),
            retry_after_us: four[2],
            reset_us: four[3],
        };
        Ok(told.chunks_exact(4).map(count).collect())
    }
}

#[cfg(test)]
mod tests {
    use doorbuster_servers::redis::Redis;

    use super::*;
    use crate::link::LinkOptions;

    /// 2026, in microseconds.
    const NOON: u64 = 1_790_000_000_000_000;
    const SECOND: u64 = 1_000_000;

    fn ask(limit: &str, who: u128, burst: u32) -> Ask<'_> {
        Ask { limit, who, interval_us: SECOND, burst, cost: 1 }
    }

    #[test]
    fn instances_count_together_all_or_none() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let redis = Redis::start().unwrap();
        let counts = || {
            let link = Link::new(&redis.url(), LinkOptions::patient("test"), runtime.handle().clone());
            Counts::new(link.unwrap(), "shop")
        };
        let (one, other) = (counts(), counts());
        let take = |counts: &Counts, now_us: u64, asks: &[Ask<'_>]| {
            runtime.block_on(counts.take_at(Some(now_us), asks)).unwrap()
        };
        let burst = [ask("few", 7, 3)];
        for (label, counts, now_us, expected) in [
            ("first", &one, NOON, (true, 2, 0, SECOND)),
            ("by the other", &other, NOON, (true, 1, 0, 2 * SECOND)),
            ("the last", &one, NOON, (true, 0, 0, 3 * SECOND)),
            ("too many", &other, NOON, (false, 0, SECOND, 3 * SECOND)),
            ("a microsecond early", &one, NOON + SECOND - 1, (false, 0, 1, 2 * SECOND + 1)),
            ("in time", &one, NOON + SECOND, (true, 0, 0, 3 * SECOND)),
            ("at rest again", &one, NOON + 100 * SECOND, (true, 2, 0, SECOND)),
        ] {
            let count = take(counts, now_us, &burst)[0];
            assert_eq!(
                (count.allowed, count.remaining, count.retry_after_us, count.reset_us),
                expected,
                "{label}"
            );
        }
        let both = [ask("wide", 7, 10), ask("narrow", 7, 1)];
        assert!(take(&one, NOON, &both).iter().all(|count| count.allowed));
        let refused = take(&one, NOON, &both);
        assert_eq!([refused[0].allowed, refused[1].allowed], [true, false]);
        assert_eq!(refused[0].remaining, 9, "what the narrow one refused does not count for the wide one");
        let untouched = take(&one, NOON, &[Ask { cost: 0, ..ask("wide", 7, 10) }])[0];
        assert_eq!(untouched.remaining, 9);
    }

    #[test]
    fn by_its_own_clock_redis_forgets_whoever_is_at_rest() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let redis = Redis::start().unwrap();
        let link = Link::new(&redis.url(), LinkOptions::patient("test"), runtime.handle().clone()).unwrap();
        let counts = Counts::new(link, "shop");
        let asks = [Ask { interval_us: 3_600 * SECOND, ..ask("rare", 1, 2) }];
        let taken: Vec<bool> =
            (0..3).map(|_| runtime.block_on(counts.take(&asks)).unwrap()[0].allowed).collect();
        assert_eq!(taken, [true, true, false]);
        let key = format!("{{shop:limits}}:rare:{:032x}", 1);
        let left: u64 = redis.say(&["TTL", &key]).unwrap().trim_start_matches(':').parse().unwrap();
        assert!((7_190..=7_200).contains(&left), "{left}");
        redis.say(&["FLUSHALL"]).unwrap();
        redis.say(&["SCRIPT", "FLUSH"]).unwrap();
        assert!(runtime.block_on(counts.take(&asks)).unwrap()[0].allowed, "the script is loaded again");
    }
}
