//! The load generator: one thread, one epoll, keep-alive connections without pipelining.
//!
//! Laws: (1) a request is sent only when its connection has no other under way; (2) only answers that are what was asked
//! for count, and any other voids the run; (3) at a fixed rate a request's time begins when it was due, not when a
//! connection was free for it, so that a slow server cannot hide its queue; (4) the generator tells what it spent itself
//! and whether it kept its rate.
//!
//! It is our own because it must do what no packaged one does at once: a fresh key in each request, a look into each
//! answer, an open loop with a clock finer than a millisecond, and the very same loop for HTTP and for Redis. It costs
//! about what wrk does: two system calls a request and a share of one more. Start at [`drive`].

pub(crate) mod crowd;
pub(crate) mod requests;
pub(crate) mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use rustix::event::epoll;

use crate::figures;
use doorbuster_servers::process::interrupted;
use requests::Script;

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each connection asks again as soon as it is answered.
    Closed,
    /// So many a second, whatever becomes of the earlier ones.
    Open {
        /// Requests a second.
        per_second: u32,
    },
}

/// One load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// How requests come.
    pub(crate) pace: Pace,
    /// Connections.
    pub(crate) connections: usize,
    /// Time before anything is measured.
    pub(crate) warm_up: Duration,
    /// Time that is measured.
    pub(crate) window: Duration,
}

/// A border of what is measured, for whoever keeps other figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Border {
    /// The measured time begins.
    Begin,
    /// It ends.
    End,
}

/// What the generator saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Time between the borders.
    pub(crate) window: Duration,
    /// Good answers between the borders.
    pub(crate) answers: u64,
    /// What they were worth.
    pub(crate) worth: u64,
    /// What all good answers were worth, also those before and after the measured time.
    pub(crate) worth_in_all: u64,
    /// Bytes of the good answers' bodies between the borders.
    pub(crate) body_bytes: u64,
    /// Nanoseconds from asking (or from when it was due) to the whole answer.
    pub(crate) latency: Histogram<u64>,
    /// Answers that were not what was asked for, by status.
    pub(crate) unexpected: BTreeMap<u16, u64>,
    /// The first of them.
    pub(crate) first_unexpected: Option<String>,
    /// Requests that fell due between the borders (open loop).
    pub(crate) due: u64,
    /// Those of them that were sent before the end.
    pub(crate) sent: u64,
    /// Nanoseconds between a request's time and its sending, where a connection was free: the generator's own delay.
    pub(crate) own_delay: Histogram<u64>,
    /// Processor time of the generator between the borders.
    pub(crate) own_cpu: Duration,
}

impl Seen {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            window: Duration::ZERO,
            answers: 0,
            worth: 0,
            worth_in_all: 0,
            body_bytes: 0,
            latency: histogram(),
            unexpected: BTreeMap::new(),
            first_unexpected: None,
            due: 0,
            sent: 0,
            own_delay: histogram(),
            own_cpu: Duration::ZERO,
        }
    }

    /// Why this run proves nothing, if so.
    pub(crate) fn void(&self, load: &Load) -> Option<String> {
        if let Some((status, count)) = self.unexpected.iter().next() {
            let first = self.first_unexpected.as_deref().unwrap_or("");
            return Some(format!(
                "{count} answers were {status}, not what was asked for; the first: {first}"
            ));
        }
        if self.answers == 0 {
            return Some("no answer came".to_owned());
        }
        let Pace::Open { per_second } = load.pace else { return None };
        // Below this share the server was not asked what the row says it was asked.
        let enough = self.due - self.due / 100;
        if self.sent < enough {
            return Some(format!(
                "the rate of {per_second} a second was not kept: {} of {} requests were sent in time{}",
                self.sent,
                self.due,
                if self.own_delay_us() > OWN_DELAY_MAX_US {
                    ", for want of processor time for the generator"
                } else {
                    ", since every connection still waited for its answer"
                }
            ));
        }
        if self.own_delay_us() > OWN_DELAY_MAX_US {
            return Some(format!(
                "the generator came too late: {} us behind its schedule at its 99th percentile, {OWN_DELAY_MAX_US} are let pass",
                self.own_delay_us()
            ));
        }
        None
    }

    /// The 99th percentile of the generator's own delay.
    pub(crate) fn own_delay_us(&self) -> u64 {
        self.own_delay.value_at_quantile(0.99) / 1_000
    }
}

/// Latest that the generator itself may be, at its 99th percentile: it is part of what is shown as the server's
/// latency, which lies between a tenth of a millisecond and a few.
const OWN_DELAY_MAX_US: u64 = 1_000;

/// How long answers to what is under way are awaited at the end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// Longest sleep, so that an interruption is noticed.
const NAP_MAX: Duration = Duration::from_millis(50);

/// First size of a connection's inbox: one answer. A batch's answer makes it grow once.
const INBOX_BYTES: usize = 4 * 1024;

/// Largest inbox: an answer beyond it is no answer of ours.
const INBOX_BYTES_MAX: usize = 8 * 1024 * 1024;

fn histogram() -> Histogram<u64> {
    // From a nanosecond to a minute, in three digits: the bounds are constants, so they fit.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
    filled: usize,
    outbox: Vec<u8>,
    written: usize,
    /// When the request under way began; `None` where none is.
    began: Option<Instant>,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .with_context(|| format!("nobody listens at {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let inbox = vec![0; INBOX_BYTES];
        Ok(Self { stream, inbox, filled: 0, outbox: Vec::with_capacity(512), written: 0, began: None })
    }

    /// Sends what is left of the request.
    fn flush(&mut self) -> anyhow::Result<()> {
        while self.written < self.outbox.len() {
            match self.stream.write(&self.outbox[self.written..]) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a request could not be sent"),
            }
        }
        Ok(())
    }

    /// Receives what is there. Stops at a short read: the next bytes wake the poller again.
    fn receive(&mut self) -> anyhow::Result<()> {
        loop {
            if self.filled == self.inbox.len() {
                anyhow::ensure!(
                    self.filled < INBOX_BYTES_MAX,
                    "an answer of more than {INBOX_BYTES_MAX} bytes"
                );
                self.inbox.resize(self.filled * 4, 0);
            }
            match self.stream.read(&mut self.inbox[self.filled..]) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => {
                    self.filled += count;
                    if self.filled < self.inbox.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("an answer could not be received"),
            }
        }
    }
}

/// Requests by the clock.
struct Schedule {
    next: Instant,
    interval: Duration,
    /// Due times for which no connection was free.
    waiting: VecDeque<Instant>,
}

/// Phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Drained,
}

/// Loads the server at `address`. `border` is called at both ends of the measured time, between two requests.
pub(crate) fn drive(
    address: SocketAddr,
    load: &Load,
    script: &mut dyn Script,
    mut border: impl FnMut(Border) -> anyhow::Result<()>,
) -> anyhow::Result<Seen> {
    // Sleeps of fifty microseconds need a timer that is not fifty late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(load.connections);
    for index in 0..load.connections {
        let connection = Connection::open(address)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&poller, &connection.stream, epoll::EventData::new_u64(index as u64), flags)?;
        connections.push(connection);
    }

    let mut run = Run {
        script,
        free: (0..load.connections).rev().collect(),
        had_free: true,
        connections,
        seen: Seen::new(),
        phase: Phase::WarmUp,
        schedule: match load.pace {
            Pace::Closed => None,
            Pace::Open { per_second } => Some(Schedule {
                next: Instant::now(),
                interval: Duration::from_secs(1) / per_second.max(1),
                waiting: VecDeque::new(),
            }),
        },
    };
    let started = Instant::now();
    let mut measured_from = started;
    let mut own_cpu = Duration::ZERO;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(load.connections.max(1));
    loop {
        let now = Instant::now();
        if run.phase == Phase::WarmUp && now - started >= load.warm_up {
            run.phase = Phase::Measured;
            border(Border::Begin)?;
            own_cpu = figures::own_thread_cpu()?;
            measured_from = Instant::now();
        }
        if run.phase == Phase::Measured && now.saturating_duration_since(measured_from) >= load.window {
            run.seen.window = measured_from.elapsed();
            run.seen.own_cpu = figures::own_thread_cpu()?.saturating_sub(own_cpu);
            run.phase = Phase::Drained;
            border(Border::End)?;
        }
        if run.phase == Phase::Drained {
            if run.free.len() == run.connections.len() {
                return Ok(run.seen);
            }
            let over = measured_from + load.window + DRAIN_PATIENCE;
            anyhow::ensure!(
                now < over,
                "answers were still missing {DRAIN_PATIENCE:?} after the last request"
            );
        } else {
            run.send_what_is_due()?;
        }
        if interrupted() {
            bail!("interrupted");
        }
        let nap = run
            .schedule
            .as_ref()
            .map_or(NAP_MAX, |schedule| schedule.next.saturating_duration_since(Instant::now()).min(NAP_MAX));
        let timeout = rustix::event::Timespec::try_from(nap)?;
        events.clear();
        match epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("epoll"),
        }
        for event in events.drain(..) {
            run.attend(usize::try_from(event.data.u64())?)?;
        }
    }
}

/// A run under way.
struct Run<'a> {
    script: &'a mut dyn Script,
    connections: Vec<Connection>,
    /// Connections without a request under way.
    free: Vec<usize>,
    /// Whether there was one when requests were last sent.
    had_free: bool,
    schedule: Option<Schedule>,
    seen: Seen,
    phase: Phase,
}

impl Run<'_> {
    /// Closed loop: asks on every free connection. Open loop: asks what the clock demands.
    fn send_what_is_due(&mut self) -> anyhow::Result<()> {
        if self.schedule.is_none() {
            let now = Instant::now();
            while let Some(index) = self.free.pop() {
                self.ask(index, now)?;
            }
            return Ok(());
        }
        let measured = self.phase == Phase::Measured;
        let now = Instant::now();
        if let Some(schedule) = &mut self.schedule {
            while schedule.next <= now {
                schedule.waiting.push_back(schedule.next);
                schedule.next += schedule.interval;
                self.seen.due += u64::from(measured);
            }
        }
        // Where a connection was free all the time, a request waited for nobody but the generator.
        let own = self.had_free;
        while let Some(index) = self.free.last().copied() {
            let Some(due) = self.schedule.as_mut().and_then(|schedule| schedule.waiting.pop_front()) else {
                break;
            };
            self.free.pop();
            if measured {
                self.seen.sent += 1;
                if own {
                    self.seen.own_delay.saturating_record(nanoseconds(now - due));
                }
            }
            self.ask(index, due)?;
        }
        self.had_free = !self.free.is_empty();
        Ok(())
    }

    fn ask(&mut self, index: usize, began: Instant) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        connection.outbox.clear();
        connection.written = 0;
        connection.began = Some(began);
        self.script.ask(index, &mut connection.outbox);
        connection.flush()
    }

    /// Something happened on a connection.
    fn attend(&mut self, index: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        connection.flush()?;
        // The poller also tells that a fresh connection is writable; then nothing is under way to be answered.
        let Some(began) = connection.began else { return Ok(()) };
        connection.receive()?;
        let read = self.script.read(&connection.inbox[..connection.filled]);
        let answer = match read {
            Ok(None) => return Ok(()),
            Ok(Some(answer)) => answer,
            Err(malformed) => {
                let start = String::from_utf8_lossy(&connection.inbox[..connection.filled.min(200)]);
                bail!("the server sent what is no answer ({malformed}): {start}");
            }
        };
        anyhow::ensure!(answer.length == connection.filled, "the server answered more than was asked");
        let now = Instant::now();
        let measured = self.phase == Phase::Measured;
        match self.script.judge(index, &answer) {
            Some(worth) => {
                self.seen.worth_in_all += worth;
                if measured {
                    self.seen.answers += 1;
                    self.seen.worth += worth;
                    self.seen.body_bytes += answer.body.len() as u64;
                    self.seen.latency.saturating_record(nanoseconds(now.saturating_duration_since(began)));
                }
            }
            None => {
                *self.seen.unexpected.entry(answer.status).or_default() += 1;
                if self.seen.first_unexpected.is_none() {
                    let start = &answer.body[..answer.body.len().min(300)];
                    self.seen.first_unexpected = Some(String::from_utf8_lossy(start).into_owned());
                }
            }
        }
        connection.filled = 0;
        connection.began = None;
        if self.phase == Phase::Drained || self.schedule.is_some() {
            self.free.push(index);
            Ok(())
        } else {
            self.ask(index, now)
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
