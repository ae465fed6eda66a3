//! A link under a Redis that is absent, killed, paused or full: law 11, nobody waits for long, and it finds back by itself.

use std::time::{Duration, Instant};

use doorbuster_outlets::link::{Link, LinkError, LinkOptions};
use doorbuster_servers::redis::Redis;
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Short rests, so that a test need not wait for long ones.
fn quick() -> LinkOptions {
    LinkOptions {
        connect_timeout: Duration::from_millis(300),
        reply_timeout: Duration::from_millis(100),
        rest_max: Duration::from_millis(200),
        ..LinkOptions::patient("test")
    }
}

fn count(link: &Link) -> Result<i64, LinkError> {
    let incr =
        |mut connection| async move { redis::cmd("INCR").arg("count").query_async(&mut connection).await };
    // From a runtime that is not the link's.
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(link.ask(incr))
}

/// Asks until Redis answers; how long that took.
fn back(link: &Link) -> Duration {
    let began = Instant::now();
    while let Err(error) = count(link) {
        assert!(began.elapsed() < Duration::from_secs(10), "still not back: {error}");
        std::thread::sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

#[test]
fn a_redis_that_is_gone_or_silent_costs_a_moment_and_then_nothing() {
    let runtime = runtime();
    let mut redis = Redis::start().unwrap();
    let link = Link::new(&redis.url(), quick(), runtime.handle().clone()).unwrap();
    assert_eq!(count(&link).unwrap(), 1);
    for paused in [false, true] {
        if paused {
            redis.pause();
        } else {
            redis.kill().unwrap();
        }
        let mut put = 0;
        let began = Instant::now();
        let opened = loop {
            match count(&link) {
                Ok(_) => panic!("nobody is there to answer"),
                Err(LinkError::Open { .. }) => break began.elapsed(),
                Err(LinkError::Outage(_)) => put += 1,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(put, 3, "paused {paused}");
        assert!(opened < Duration::from_secs(2), "paused {paused}: open after {opened:?}");
        assert!(link.is_open());
        let began = Instant::now();
        for _ in 0..1_000 {
            let _ = count(&link);
        }
        // Probes apart, nobody waits: a thousand questions take a few time-outs and no more.
        assert!(began.elapsed() < Duration::from_secs(3), "paused {paused}: {:?}", began.elapsed());
        if paused {
            redis.resume();
        } else {
            redis.run().unwrap();
        }
        let took = back(&link);
        assert!(took < Duration::from_secs(2), "paused {paused}: back after {took:?}");
        assert!(!link.is_open());
    }
}

#[test]
fn askers_at_once_share_one_attempt_and_a_hasty_one_waits_for_none() {
    let runtime = runtime();
    let redis = Redis::start().unwrap();
    for (patience, within) in [(None, 1_000), (Some(Duration::from_millis(50)), 150)] {
        let options = LinkOptions { patience, failures_max: 1_000, ..quick() };
        let link = Link::new(&redis.url(), options, runtime.handle().clone()).unwrap();
        // The port is there and nobody says a word, so that every attempt takes its whole time-out of 300 ms.
        redis.pause();
        let waited: Vec<Duration> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| {
                        let began = Instant::now();
                        assert!(matches!(count(&link), Err(LinkError::Outage(_))));
                        began.elapsed()
                    })
                })
                .collect();
            askers.into_iter().map(|asker| asker.join().unwrap()).collect()
        });
        redis.resume();
        let longest = waited.into_iter().max().unwrap();
        assert!(longest < Duration::from_millis(within), "{patience:?}: somebody waited {longest:?}");
        back(&link);
    }
}

#[test]
fn a_full_redis_is_an_outage_and_an_unwilling_one_is_not() {
    let runtime = runtime();
    let redis = Redis::start().unwrap();
    let link = Link::new(&redis.url(), quick(), runtime.handle().clone()).unwrap();
    redis.say(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert!(matches!(count(&link), Err(LinkError::Outage(_))));
    redis.say(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    redis.say(&["SET", "count", "no number"]).unwrap();
    for _ in 0..10 {
        let refused = count(&link);
        assert!(matches!(refused, Err(LinkError::Refused(_))), "{refused:?}");
    }
    assert!(!link.is_open(), "whoever says no is there");
}

#[test]
fn no_word_of_a_link_names_the_password() {
    let runtime = runtime();
    let link = Link::new("redis://ada:s3cret@127.0.0.1:1/0", quick(), runtime.handle().clone()).unwrap();
    let told = format!("{link:?} {} {}", link.shown(), count(&link).unwrap_err());
    assert!(!told.contains("s3cret") && told.contains("127.0.0.1:1"), "{told}");
    for wrong in ["http://s3cret@x", "s3cret", "redis://:s3cret@host:port"] {
        let told = Link::new(wrong, quick(), runtime.handle().clone()).unwrap_err().to_string();
        assert!(told.contains("redis://") && !told.contains("s3cret"), "{told}");
    }
}
