//! The announcer and a Redis that comes and goes: every announcement once in its stream, in order, whatever was killed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use doorbuster_outlets::announcement::{Announcement, Herald, Source, Stream};
use doorbuster_outlets::announcer::{Announcer, AnnouncerOptions};
use doorbuster_outlets::limits::{Ask, Counts};
use doorbuster_outlets::link::{Link, LinkOptions};
use doorbuster_outlets::streams::Keys;
use doorbuster_persistence::codec;
use doorbuster_servers::proxy::{Proxy, Weather};
use doorbuster_servers::redis::Redis;
use tokio::runtime::Runtime;

use crate::shop::{Book, ENGINE, Frame, Shop};

const BEGIN_MS: u64 = 1_790_000_000_000;

/// An entry of a stream: its id and its event.
type Told = Vec<(String, String)>;

/// A runtime and what announces on it.
struct Post {
    runtime: Runtime,
    announcer: Option<Announcer>,
}

impl Post {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, announcer: None }
    }

    fn start_with(&mut self, book: &Book, redis: &Redis, change: impl FnOnce(&mut AnnouncerOptions)) {
        let quick = LinkOptions {
            connect_timeout: Duration::from_millis(500),
            reply_timeout: Duration::from_millis(500),
            rest_max: Duration::from_millis(200),
            ..LinkOptions::patient("test")
        };
        let link = Link::new(&redis.url(), quick, self.runtime.handle().clone()).unwrap();
        let mut options = AnnouncerOptions {
            batch_max: 10,
            memory_interval_bytes: 8_192,
            idle: Duration::from_millis(5),
            ..AnnouncerOptions::new(book.memory())
        };
        change(&mut options);
        self.announcer = Some(Announcer::start(book.tail(), link, options).unwrap());
    }

    fn start(&mut self, book: &Book, redis: &Redis) {
        self.start_with(book, redis, |_| {});
    }

    fn stop(&mut self) {
        self.announcer.take().unwrap().stop();
    }
}

fn expected(frames: &[Frame]) -> BTreeMap<&'static str, Told> {
    let mut herald = Herald::default();
    let mut all: BTreeMap<&str, Told> = Stream::ALL.map(|stream| (stream.name(), vec![])).into();
    for (frame, (_, body)) in (1..).zip(frames) {
        let mut told: Vec<Announcement> = vec![];
        for record in codec::records(body) {
            herald.fold(&record.unwrap(), &mut |announcement| told.push(announcement)).unwrap();
        }
        for (number, told) in told.iter().enumerate() {
            let event = told.cloud_event(Source { engine: ENGINE }).to_string();
            all.get_mut(told.subject.stream().name()).unwrap().push((format!("{frame}-{number}"), event));
        }
    }
    all
}

fn connection(redis: &Redis) -> redis::Connection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_connection_with_timeout(Duration::from_secs(5)).unwrap()
}

fn told(redis: &Redis, prefix: &str) -> BTreeMap<&'static str, Told> {
    let mut connection = connection(redis);
    let keys = Keys::new(prefix);
    let read = |stream: Stream| {
        type Entries = Vec<(String, BTreeMap<String, String>)>;
        let mut xrange = redis::cmd("XRANGE");
        let entries: Entries =
            xrange.arg(keys.stream(stream)).arg("-").arg("+").query(&mut connection).unwrap();
        let entries = entries.into_iter().map(|(id, mut fields)| {
            let event = fields.remove("event").unwrap();
            let parsed: serde_json::Value = serde_json::from_str(&event).unwrap();
            for name in ["id", "type", "subject", "sequence"] {
                assert_eq!(parsed[name].as_str().unwrap_or(""), fields[name], "the fields beside the event");
            }
            (id, event)
        });
        (stream.name(), entries.collect())
    };
    Stream::ALL.map(read).into()
}

#[track_caller]
fn arrives(redis: &Redis, wanted: &BTreeMap<&'static str, Told>) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = told(redis, "doorbuster");
        if seen == *wanted {
            return;
        }
        if Instant::now() > until {
            for (stream, wanted) in wanted {
                let seen = &seen[stream];
                let apart = wanted.iter().zip(seen).position(|(one, other)| one != other);
                println!("{stream}: {} wanted, {} seen, apart from {apart:?}", wanted.len(), seen.len());
            }
            panic!("the streams are not what the journal says");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_streams_are_the_journals_whatever_is_killed_flushed_paused_or_started_again() {
    // A Redis that forgets when it is killed, and one that does not.
    for settings in
        [&["--save", "", "--appendonly", "no"][..], &["--appendonly", "yes", "--appendfsync", "always"]]
    {
        let frames = Shop::sample(BEGIN_MS).frames;
        let mut redis = Redis::start_with(settings).unwrap();
        let mut book = Book::open();
        let mut post = Post::new();
        post.start(&book, &redis);
        let mut written = 0;
        for round in 0..12 {
            let end = frames.len() * (round + 1) / 12;
            book.write(&frames[written..end]);
            written = end;
            match round % 6 {
                0 => arrives(&redis, &expected(&frames[..written])),
                1 => {
                    redis.kill().unwrap();
                    redis.run().unwrap();
                }
                2 => {
                    redis.pause();
                    std::thread::sleep(Duration::from_millis(700));
                    redis.resume();
                }
                3 => {
                    redis.say(&["FLUSHALL"]).unwrap();
                }
                4 => {
                    post.stop();
                    book = book.reopened();
                    post.start(&book, &redis);
                }
                _ => {
                    redis.say(&["DEL", &Keys::new("doorbuster").stream(Stream::Orders)]).unwrap();
                    redis.kill().unwrap();
                    post.stop();
                    post.start(&book, &redis);
                    std::thread::sleep(Duration::from_millis(300));
                    redis.run().unwrap();
                }
            }
        }
        arrives(&redis, &expected(&frames));
        // A start from the kept memory repeats nothing and misses nothing.
        post.stop();
        let mut shop = Shop::sample(BEGIN_MS);
        assert!(book.memory().exists(), "a memory was kept on the way");
        post.start(&book, &redis);
        shop.flap(20);
        book.write(&shop.frames[frames.len()..]);
        arrives(&redis, &expected(&shop.frames));
        post.stop();
    }
}

#[test]
fn a_redis_that_is_absent_at_the_start_or_full_on_the_way_gets_everything_later() {
    let frames = Shop::sample(BEGIN_MS).frames;
    let (mut redis, mut book, mut post) = (Redis::start().unwrap(), Book::open(), Post::new());
    redis.kill().unwrap();
    post.start(&book, &redis);
    book.write(&frames[..40]);
    std::thread::sleep(Duration::from_millis(300));
    redis.run().unwrap();
    arrives(&redis, &expected(&frames[..40]));
    redis.say(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    book.write(&frames[40..]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(told(&redis, "doorbuster"), expected(&frames[..40]), "a full Redis takes nothing");
    redis.say(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    arrives(&redis, &expected(&frames));
}

#[test]
fn a_redis_whose_replies_come_half_a_second_late_slows_no_request_and_loses_no_announcement() {
    let frames = Shop::sample(BEGIN_MS).frames;
    let (redis, mut book, mut post) = (Redis::start().unwrap(), Book::open(), Post::new());
    let proxy = Proxy::before(redis.port()).unwrap();
    let url = redis.url().replace(&format!(":{}", redis.port()), &format!(":{}", proxy.port()));
    let announcing = LinkOptions {
        reply_timeout: Duration::from_millis(300),
        rest_max: Duration::from_millis(200),
        ..LinkOptions::patient("test")
    };
    let announcing = Link::new(&url, announcing, post.runtime.handle().clone()).unwrap();
    let options = AnnouncerOptions {
        batch_max: 10,
        idle: Duration::from_millis(5),
        ..AnnouncerOptions::new(book.memory())
    };
    post.announcer = Some(Announcer::start(book.tail(), announcing.clone(), options).unwrap());
    let hasty = LinkOptions::hasty("test");
    let counting = Link::new(&url, hasty, post.runtime.handle().clone()).unwrap();
    let counts = Counts::new(counting.clone(), "shop");
    let ask = [Ask { limit: "cart", who: 7, interval_us: 1_000, burst: 1_000_000, cost: 1 }];
    // As a request asks: from a runtime of its own.
    let request = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let began = Instant::now();
        (runtime.block_on(counts.take(&ask)).is_ok(), began.elapsed())
    };
    book.write(&frames[..20]);
    arrives(&redis, &expected(&frames[..20]));
    assert!(request().0, "Redis counts while the weather is clear");

    proxy.set(Weather::Slow(Duration::from_millis(250)));
    let (until, mut took, mut opened) = (Instant::now() + Duration::from_secs(6), Vec::new(), false);
    for frame in frames[20..120].chunks(1) {
        book.write(frame);
        took.push(request());
        opened |= announcing.is_open();
    }
    while Instant::now() < until {
        took.push(request());
        opened |= announcing.is_open();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(took.iter().all(|(counted, _)| !counted), "an answer half a second late is none");
    let slowest = took.iter().map(|(_, took)| *took).max().unwrap();
    // The time-out, and what a busy machine adds.
    assert!(slowest < hasty.reply_timeout + Duration::from_millis(60), "a request waited for {slowest:?}");
    let waited = took.iter().filter(|(_, took)| *took > Duration::from_millis(20)).count();
    assert!(
        waited * 10 < took.len(),
        "{waited} of {} waited for a time-out: the breaker is open",
        took.len()
    );
    assert!(opened, "announcing leaves Redis alone");
    assert_ne!(
        told(&redis, "doorbuster"),
        expected(&frames[..120]),
        "this weather is too bad to announce in"
    );

    proxy.set(Weather::Clear);
    book.write(&frames[120..]);
    arrives(&redis, &expected(&frames));
    assert!(!announcing.is_open());
    let until = Instant::now() + Duration::from_secs(10);
    while !request().0 {
        assert!(Instant::now() < until, "requests are not counted again");
        std::thread::sleep(Duration::from_millis(20));
    }
    post.stop();
}

#[test]
fn streams_of_another_journal_are_left_alone() {
    let frames = Shop::sample(BEGIN_MS).frames;
    let (redis, mut book, mut post) = (Redis::start().unwrap(), Book::open(), Post::new());
    let offset = Keys::new("doorbuster").offset();
    redis.say(&["HSET", &offset, "engine", "another", "next_frame", "9", "mark", "1"]).unwrap();
    book.write(&frames[..40]);
    post.start(&book, &redis);
    std::thread::sleep(Duration::from_millis(400));
    assert!(told(&redis, "doorbuster").values().all(Vec::is_empty));
    post.stop();
    redis.say(&["DEL", &offset]).unwrap();
    post.start(&book, &redis);
    arrives(&redis, &expected(&frames[..40]));
    post.stop();
    // The same engine's directory as it was earlier, and one that went another way since.
    for other in [&frames[..10], &Shop::sample(BEGIN_MS + 1).frames[..60]] {
        let mut earlier = Book::open();
        earlier.write(other);
        post.start(&earlier, &redis);
        std::thread::sleep(Duration::from_millis(400));
        post.stop();
        assert_eq!(told(&redis, "doorbuster"), expected(&frames[..40]), "{} frames", other.len());
    }
    // Under another name both are told.
    let mut earlier = Book::open();
    earlier.write(&frames[..10]);
    post.start_with(&earlier, &redis, |options| options.prefix = "second".to_owned());
    let until = Instant::now() + Duration::from_secs(10);
    while told(&redis, "second") != expected(&frames[..10]) {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn after_a_flush_a_stream_is_refilled_with_what_it_would_hold() {
    const LENGTH: usize = 150;
    let mut shop = Shop::open(BEGIN_MS);
    for _ in 0..2_000 {
        let reservation = shop.reserve("MUG", 1);
        shop.stock("MUG", doorbuster_engine::stock::StockEvent::Expired { reservation });
        if shop.at_ms.is_multiple_of(5) {
            shop.flush();
        }
    }
    shop.flush();
    let (redis, mut book, mut post) = (Redis::start().unwrap(), Book::open(), Post::new());
    post.start_with(&book, &redis, |options| options.stream_length = LENGTH as u64);
    book.write(&shop.frames);
    let all = &expected(&shop.frames)["reservations"];
    assert_eq!(all.len(), 2_000);
    for flushed in [false, true, true] {
        if flushed {
            redis.say(&["FLUSHALL"]).unwrap();
        }
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = &told(&redis, "doorbuster")["reservations"];
            if seen.last() == all.last() {
                // Redis trims by whole nodes of a hundred.
                assert!((LENGTH..=LENGTH + 110).contains(&seen.len()), "{} are kept", seen.len());
                assert_eq!(seen[..], all[all.len() - seen.len()..], "without a gap");
                break;
            }
            assert!(Instant::now() < until, "flushed {flushed}: {} of {}", seen.len(), all.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn live_listeners_hear_what_is_new_and_nothing_old() {
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let old = Shop::sample(u64::try_from(now_ms).unwrap() - 86_400_000);
    let (redis, mut book, mut post) = (Redis::start().unwrap(), Book::open(), Post::new());
    let mut listener = connection(&redis);
    let mut heard = listener.as_pubsub();
    heard.psubscribe(Keys::new("doorbuster").channel("com.doorbuster.order.*")).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    book.write(&old.frames);
    post.start(&book, &redis);
    arrives(&redis, &expected(&old.frames));
    let mut shop = old;
    let before = shop.frames.len();
    shop.at_ms = u64::try_from(now_ms).unwrap();
    let order = shop.order(crate::shop::Fate::Paid);
    shop.flush();
    book.write(&shop.frames[before..]);
    for kind in ["created", "paid"] {
        let message = heard.get_message().unwrap();
        let text: String = message.get_payload().unwrap();
        assert!(message.get_channel_name().ends_with(&format!("com.doorbuster.order.{kind}.v1")));
        assert!(text.contains(&order.to_string()), "{text}");
    }
}
