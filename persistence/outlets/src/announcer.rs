//! Follows the journal and announces it to Redis: at least once, in order, from wherever Redis says that it ended.
//!
//! Laws: (1) the offset moves in one step with what it stands for, so nothing is skipped whatever is killed when; (2) an
//! announcement's place in its stream is its frame and its number there, so Redis itself refuses a repeat; (3) nothing is
//! kept in memory while Redis is away but one batch: the journal is the queue; (4) streams of another journal are left alone.
//! A thread of its own does all of it. Start at [`Announcer::start`]; the walk is in [`Walk::run`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use doorbuster_engine::identity::Timestamp;
use doorbuster_persistence::codec::{self, CodecError};
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::tail::JournalTail;
use metrics::{Counter, Gauge};
use redis::Script;

use crate::announcement::{Announcement, Herald, Source, Stream};
use crate::lag::Lag;
use crate::link::{Link, LinkError};
use crate::metrics::{
    ANNOUNCEMENT_LAG_FRAMES, ANNOUNCEMENT_LAG_SECONDS, ANNOUNCEMENTS_REFUSED, ANNOUNCEMENTS_TOTAL,
};
use crate::streams::{self, Batch, Entry, Held, Keys, Offset, Step};

/// How the announcer behaves.
#[derive(Clone, Debug)]
pub struct AnnouncerOptions {
    /// What every key in Redis begins with.
    pub prefix: String,
    /// About how many announcements each stream keeps.
    pub stream_length: u64,
    /// The file in which the herald's memory is kept.
    pub memory: PathBuf,
    /// Announcements of one step. More make steps rarer and Redis busier with each.
    pub batch_max: usize,
    /// Journal read since the memory was last kept, in bytes, before it is kept again: what a start reads at most.
    pub memory_interval_bytes: u64,
    /// How long to wait when there is nothing to announce: the delay of an announcement in a quiet shop.
    pub idle: Duration,
}

impl AnnouncerOptions {
    /// Defaults, with the memory in `memory`.
    pub fn new(memory: PathBuf) -> Self {
        Self {
            prefix: "doorbuster".to_owned(),
            stream_length: 1_000_000,
            memory,
            batch_max: 256,
            memory_interval_bytes: 256 << 20,
            idle: Duration::from_millis(20),
        }
    }
}

/// Bytes of one batch's events at most, but for the last one.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Journal read for one step at most: frames may hold much of which nobody is told.
const READ_BYTES_MAX: u64 = 8 << 20;

/// Live listeners hear nothing that is older: it would be history to them.
const NEWS_MAX_MS: u64 = 60_000;

/// How long to wait after something that a person has to mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How long an announcer that is to end goes on with what is durable already.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// How often the lag is told while Redis is away, whatever the breaker's rest.
const LAG_TOLD_EVERY: Duration = Duration::from_secs(1);

/// How often the offset moves although nothing was announced.
const QUIET_STEP: Duration = Duration::from_secs(10);

/// How often Redis is asked, while there is nothing to announce, whether it still has what it was told.
const QUIET_LOOK: Duration = Duration::from_secs(1);

/// A running announcer; stop it with [`Announcer::stop`].
#[derive(Debug)]
pub struct Announcer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Announces what `tail` follows, whichever frame it stands at, over `link`.
    pub fn start(tail: JournalTail, link: Link, options: AnnouncerOptions) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let walk = Walk::new(tail, link, options, Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("announcer".to_owned()).spawn(move || walk.run())?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it once everything durable is announced, or at once where Redis is away; after two seconds in any case. What is not
    /// announced then is at the next start.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why the walk pauses or begins anew.
#[derive(Debug)]
enum Halt {
    /// Redis is not to be had; the same again later.
    Redis(LinkError),
    /// The journal cannot be read now.
    Journal(JournalError),
    /// A record cannot be read: a newer engine's, or damage.
    Record(CodecError),
    /// The streams are not this journal's.
    Refused(String),
    /// The offset is not where it was: ask Redis again.
    Elsewhere,
    /// The process ends.
    Stopped,
}

impl From<LinkError> for Halt {
    fn from(error: LinkError) -> Self {
        Self::Redis(error)
    }
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<CodecError> for Halt {
    fn from(error: CodecError) -> Self {
        Self::Record(error)
    }
}

/// Milliseconds of the wall clock, by which events bear their times.
fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(since).unwrap_or(u64::MAX))
}

struct Meters {
    announced: [Counter; 4],
    lag: Gauge,
    lag_frames: Gauge,
    refused: Gauge,
}

/// What was read and is not yet in Redis.
struct Pending {
    batch: Batch,
    /// Business time of the first announcement; the end of time where there is none.
    since: Timestamp,
    bytes: usize,
}

/// The announcer's thread. See the module's header.
struct Walk {
    tail: JournalTail,
    link: Link,
    options: AnnouncerOptions,
    stop: Arc<AtomicBool>,
    keys: Keys,
    script: Script,
    source: Source,
    /// What was heard, up to and with frame `heard`.
    herald: Herald,
    heard: FrameNumber,
    mark: u32,
    /// Where Redis holds the offset.
    offset: Option<Offset>,
    /// Of each stream, announcements that are not worth refilling: it would trim them at once.
    skipped: [u64; 4],
    /// Whether the next step begins the streams anew.
    anew: bool,
    bytes_since_kept: u64,
    lag: Lag,
    stepped_at: Instant,
    looked_at: Instant,
    /// When it ends, once it is to end.
    leaves_by: Option<Instant>,
    meters: Meters,
}

impl Walk {
    fn new(tail: JournalTail, link: Link, options: AnnouncerOptions, stop: Arc<AtomicBool>) -> Self {
        let announced =
            Stream::ALL.map(|stream| metrics::counter!(ANNOUNCEMENTS_TOTAL, "stream" => stream.name()));
        let meters = Meters {
            announced,
            lag: metrics::gauge!(ANNOUNCEMENT_LAG_SECONDS),
            lag_frames: metrics::gauge!(ANNOUNCEMENT_LAG_FRAMES),
            refused: metrics::gauge!(ANNOUNCEMENTS_REFUSED),
        };
        Self {
            keys: Keys::new(&options.prefix),
            script: streams::script(),
            source: Source { engine: tail.engine() },
            herald: Herald::default(),
            heard: FrameNumber(0),
            mark: 0,
            offset: None,
            skipped: [0; 4],
            anew: false,
            bytes_since_kept: 0,
            lag: Lag::new(wall_clock()),
            stepped_at: Instant::now(),
            looked_at: Instant::now(),
            leaves_by: None,
            tail,
            link,
            options,
            stop,
            meters,
        }
    }

    fn run(mut self) {
        let mut told: Option<String> = None;
        loop {
            let halt = match self.align() {
                Ok(()) => {
                    self.meters.refused.set(0.0);
                    told = None;
                    self.walk()
                }
                Err(halt) => halt,
            };
            let (pause, what) = match halt {
                Halt::Stopped => return,
                Halt::Elsewhere => (Duration::ZERO, None),
                // The link has said so itself.
                Halt::Redis(LinkError::Open { rest, .. }) => (rest, None),
                Halt::Redis(LinkError::Outage(_)) => (Duration::from_millis(50), None),
                Halt::Redis(error) => (REFUSED_PAUSE, Some(error.to_string())),
                Halt::Journal(error) => (REFUSED_PAUSE, Some(error.to_string())),
                Halt::Record(error) => (REFUSED_PAUSE, Some(error.to_string())),
                Halt::Refused(what) => {
                    self.meters.refused.set(1.0);
                    (REFUSED_PAUSE, Some(what))
                }
            };
            if let Some(what) = what
                && told.as_ref() != Some(&what)
            {
                tracing::error!(what, "nothing is announced until this is mended; the journal keeps it all");
                told = Some(what);
            }
            if self.waits(pause) {
                return;
            }
        }
    }

    /// Waits, because something is in the way, and keeps telling what waits with it. Says whether the process ends meanwhile.
    fn waits(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            self.tell_lag();
            let left = until.saturating_duration_since(Instant::now());
            if self.rests(left.min(LAG_TOLD_EVERY)) {
                return true;
            }
            if left <= LAG_TOLD_EVERY {
                return false;
            }
        }
    }

    /// Waits, and says whether the process ends meanwhile.
    fn rests(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            if self.stop.load(Ordering::Acquire) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::park_timeout(left);
        }
    }

    // A count of frames; beyond 2^52 it need not be exact.
    #[expect(clippy::cast_precision_loss)]
    fn behind(&self) -> f64 {
        self.tail.durable_frame().0.saturating_sub(self.heard.0) as f64
    }

    /// Refuses to go on once there is no more time.
    fn check_stop(&mut self) -> Result<(), Halt> {
        if !self.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let until = *self.leaves_by.get_or_insert_with(|| Instant::now() + LEAVE_MAX);
        if Instant::now() < until { Ok(()) } else { Err(Halt::Stopped) }
    }

    fn engine(&self) -> String {
        self.source.engine.to_string()
    }

    /// Asks Redis where to go on, and brings herald and tail there.
    fn align(&mut self) -> Result<(), Halt> {
        self.check_stop()?;
        let engine = self.engine();
        let held = self.link.runtime().block_on(streams::held(&self.link, &self.keys, &engine))?;
        match held {
            Held::Nothing => {
                self.offset = None;
                self.refill()
            }
            Held::Foreign { engine } => Err(Halt::Refused(format!(
                "the streams {} belong to engine {engine}; choose another --redis-prefix, or delete these keys",
                self.keys.pattern()
            ))),
            Held::Ours { offset, lost: true } => {
                self.offset = Some(offset);
                self.refill()
            }
            Held::Ours { offset, lost: false } => {
                self.offset = Some(offset);
                self.skipped = [0; 4];
                self.anew = false;
                let last = FrameNumber(offset.next_frame.saturating_sub(1));
                if last > self.tail.durable_frame() {
                    return Err(self.forked());
                }
                self.hear_through(last)?;
                // Without a frame to compare, as after a start from a kept memory, the frame itself is looked at.
                if last.0 > 0 && self.mark_of(last)?.is_some_and(|mark| mark != offset.mark) {
                    return Err(self.forked());
                }
                Ok(())
            }
        }
    }

    fn forked(&self) -> Halt {
        Halt::Refused(format!(
            "the streams {} tell of a later past than this journal has, which was restored or copied; choose another \
             --redis-prefix, or delete these keys",
            self.keys.pattern()
        ))
    }

    /// Begins where the streams would begin now had Redis lost nothing.
    fn refill(&mut self) -> Result<(), Halt> {
        let mut counts = Stream::ALL.map(|stream| self.herald.count(stream));
        if self.heard.0 == 0
            && let Some((kept, _)) = self.recall()
        {
            counts = Stream::ALL.map(|stream| kept.count(stream));
        }
        self.skipped = counts.map(|count| count.saturating_sub(self.options.stream_length));
        self.anew = true;
        self.herald = Herald::default();
        self.heard = FrameNumber(0);
        self.mark = 0;
        self.hear_through(FrameNumber(0))
    }

    fn recall(&self) -> Option<(Herald, FrameNumber)> {
        Herald::default().recall(&self.options.memory, self.source.engine).unwrap_or_else(|error| {
            tracing::warn!(%error, "the journal is read from its beginning instead");
            None
        })
    }

    /// Brings the herald to what it knows after frame `last`, telling nobody.
    fn hear_through(&mut self, last: FrameNumber) -> Result<(), Halt> {
        if self.heard > last {
            self.herald = Herald::default();
            self.heard = FrameNumber(0);
        }
        if self.heard.0 == 0
            && last.0 > 0
            && let Some((kept, frame)) = self.recall()
            && frame <= last
        {
            (self.herald, self.heard) = (kept, frame);
        }
        self.mark = 0;
        self.tail.seek(self.heard.next());
        if self.heard.0 == 0 {
            let first = self.tail.first_frame()?;
            if first > FrameNumber::FIRST {
                tracing::warn!(
                    first_frame = first.0,
                    "the journal's beginning is no longer at hand; what began there is announced without sequence numbers"
                );
                self.heard = FrameNumber(first.0.saturating_sub(1)).min(last);
                self.tail.seek(first);
            }
        }
        while self.heard < last {
            self.check_stop()?;
            let Some(frame) = self.tail.next_frame_through(last)? else { break };
            for record in codec::records(frame.body) {
                self.herald.fold(&record?, &mut |_| {})?;
            }
            self.heard = frame.number;
            self.mark = crc32c::crc32c(frame.body);
            self.bytes_since_kept = self.bytes_since_kept.saturating_add(frame.body.len() as u64);
        }
        Ok(())
    }

    /// Checksum of a frame's body, where the frame is at hand; the tail stands behind it afterwards.
    fn mark_of(&mut self, frame: FrameNumber) -> Result<Option<u32>, Halt> {
        if self.mark != 0 {
            return Ok(Some(self.mark));
        }
        self.tail.seek(frame);
        match self.tail.next_frame_through(frame) {
            Ok(found) => {
                let mark = found.map(|found| crc32c::crc32c(found.body));
                self.mark = mark.unwrap_or(0);
                Ok(mark)
            }
            Err(JournalError::MissingSegment { .. }) => {
                self.tail.seek(frame.next());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Announces frame after frame, until something is in the way.
    fn walk(&mut self) -> Halt {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => {
                    if self.rests(self.options.idle) {
                        return self.leave();
                    }
                }
                Err(Halt::Stopped) => return self.leave(),
                Err(halt) => return halt,
            }
        }
    }

    /// Reads and announces one batch; `false` when there was nothing to read.
    fn step(&mut self) -> Result<bool, Halt> {
        self.check_stop()?;
        let pending = self.read()?;
        let nothing = pending.batch.entries.is_empty();
        if nothing && self.offset.map(|offset| offset.next_frame) == Some(pending.batch.to.next_frame) {
            self.look()?;
            return Ok(false);
        }
        if nothing && self.stepped_at.elapsed() < QUIET_STEP {
            self.meters.lag_frames.set(self.behind());
            return Ok(self.heard < self.tail.durable_frame());
        }
        self.put(&pending)?;
        if self.bytes_since_kept >= self.options.memory_interval_bytes {
            self.keep();
        }
        Ok(true)
    }

    /// Asks now and then whether Redis still has what it was told: it may have been flushed in a quiet hour.
    fn look(&mut self) -> Result<(), Halt> {
        if self.looked_at.elapsed() < QUIET_LOOK {
            return Ok(());
        }
        self.looked_at = Instant::now();
        let engine = self.engine();
        let held = self.link.runtime().block_on(streams::held(&self.link, &self.keys, &engine))?;
        let there = matches!(held, Held::Ours { offset, lost: false } if Some(offset) == self.offset);
        if !there {
            return Err(Halt::Elsewhere);
        }
        self.tell_clear();
        Ok(())
    }

    /// Reads frames until a batch is full or there are no more.
    fn read(&mut self) -> Result<Pending, Halt> {
        let news_from = wall_clock().0.saturating_sub(NEWS_MAX_MS);
        let to = Offset { next_frame: self.heard.next().0, mark: self.mark };
        let batch = Batch {
            engine: self.engine(),
            from: self.offset,
            to,
            stream_length: self.options.stream_length,
            anew: self.anew,
            entries: Vec::new(),
        };
        let mut pending = Pending { batch, since: Timestamp(u64::MAX), bytes: 0 };
        let read_max = self.bytes_since_kept.saturating_add(READ_BYTES_MAX);
        while pending.batch.entries.len() < self.options.batch_max
            && pending.bytes < BATCH_BYTES_MAX
            && self.bytes_since_kept < read_max
        {
            let Some(frame) = self.tail.next_frame()? else { break };
            let mut told: Vec<Announcement> = Vec::new();
            for record in codec::records(frame.body) {
                self.herald.fold(&record?, &mut |announcement| told.push(announcement))?;
            }
            self.heard = frame.number;
            self.mark = crc32c::crc32c(frame.body);
            self.bytes_since_kept = self.bytes_since_kept.saturating_add(frame.body.len() as u64);
            // The herald has counted the whole frame; which of these is the first worth having is counted back.
            let mut counts = Stream::ALL.map(|stream| self.herald.count(stream));
            for announcement in &told {
                counts[announcement.subject.stream().index()] -= 1;
            }
            for (number, announcement) in (0_u32..).zip(&told) {
                let stream = announcement.subject.stream().index();
                counts[stream] += 1;
                if counts[stream] <= self.skipped[stream] {
                    continue;
                }
                let is_news = announcement.at.0 >= news_from;
                let frame = frame.number.0;
                let entry = Entry::new(&self.keys, self.source, frame, number, is_news, announcement);
                pending.since = pending.since.min(announcement.at);
                pending.bytes += entry.bytes();
                pending.batch.entries.push(entry);
            }
            pending.batch.to = Offset { next_frame: self.heard.next().0, mark: self.mark };
        }
        Ok(pending)
    }

    /// Puts a batch to Redis, as often as it takes.
    fn put(&mut self, pending: &Pending) -> Result<(), Halt> {
        let mut told_outage = false;
        loop {
            let step = self.link.runtime().block_on(streams::take(
                &self.link,
                &self.keys,
                &self.script,
                pending.batch.clone(),
            ));
            match step {
                Ok(Step::Done) => break,
                Ok(Step::Elsewhere) => return Err(Halt::Elsewhere),
                Err(error @ (LinkError::Outage(_) | LinkError::Open { .. })) => {
                    if !told_outage {
                        tracing::debug!(%error, "announcements wait for Redis");
                        told_outage = true;
                    }
                    self.lag.waits(pending.since);
                    let pause = match error {
                        LinkError::Open { rest, .. } => rest,
                        LinkError::Url { .. }
                        | LinkError::Outage(_)
                        | LinkError::Refused(_)
                        | LinkError::Closed => Duration::from_millis(50),
                    };
                    if self.waits(pause.max(Duration::from_millis(10))) {
                        return Err(Halt::Stopped);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        for entry in &pending.batch.entries {
            self.meters.announced[entry.stream().index()].increment(1);
        }
        self.offset = Some(pending.batch.to);
        self.anew = false;
        self.stepped_at = Instant::now();
        self.tell_clear();
        Ok(())
    }

    /// Redis takes what it is given. What is not read yet is younger than now; how much it is the frames tell.
    fn tell_clear(&mut self) {
        self.lag.clear(wall_clock());
        self.meters.lag.set(0.0);
        self.meters.lag_frames.set(self.behind());
    }

    /// Nothing goes to Redis now.
    fn tell_lag(&mut self) {
        let behind = self.behind();
        self.meters.lag.set(self.lag.age(wall_clock(), behind > 0.0).as_secs_f64());
        self.meters.lag_frames.set(behind);
    }

    /// Keeps the memory: only where Redis holds an offset as far as it, or a start could not use it.
    fn keep(&mut self) {
        if self.offset.is_none_or(|offset| offset.next_frame != self.heard.next().0) {
            return;
        }
        match self.herald.keep(&self.options.memory, self.source.engine, self.heard) {
            Ok(()) => self.bytes_since_kept = 0,
            Err(error) => tracing::warn!(%error, "the next start reads more of the journal"),
        }
    }

    /// The last step before the process ends, where Redis is there to take it.
    fn leave(&mut self) -> Halt {
        const WORTH_KEEPING_BYTES: u64 = 1 << 20;
        if self.bytes_since_kept >= WORTH_KEEPING_BYTES {
            self.keep();
        }
        Halt::Stopped
    }
}
