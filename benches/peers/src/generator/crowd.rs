//! A crowd: requests by the clock over many connections, whatever becomes of them. Refusals are part of what is measured.
//!
//! Laws: (1) a request's time begins when it is sent, and what finds no free connection is counted as turned away, never
//! made up for later: a connection holds one request, as a browser's does, so that their number bounds what can be under
//! way (Little's law: a mean time in the server = requests under way / answers a second); (2) every answer counts,
//! by what it was; (3) a refused shopper is patient by chance: he comes again when he was told, or at once.
//!
//! Start at [`Crowd::drive`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use memchr::memmem;
use rustix::event::epoll;

use super::requests::Script;
use super::{Connection, histogram, nanoseconds};
use doorbuster_servers::process::interrupted;

/// How a stretch of time is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Requests a second; `None`: each connection asks again as soon as it is answered.
    pub(crate) per_second: Option<f64>,
    /// Connections that are used.
    pub(crate) connections: usize,
    /// How long.
    pub(crate) length: Duration,
    /// Which part of the refused comes again when told, and not at once.
    pub(crate) patient: f64,
}

/// What became of the requests that were sent in a stretch.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Requests that fell due.
    pub(crate) due: u64,
    /// Of these: no connection was free.
    pub(crate) turned_away: u64,
    /// Granted, and how long each took, in nanoseconds.
    pub(crate) granted: Histogram<u64>,
    /// Refused for now, with a time to come again.
    pub(crate) refused: Histogram<u64>,
    /// Refused for now without one.
    pub(crate) without_time: u64,
    /// What `Retry-After` said, in seconds.
    pub(crate) retry_after_s: BTreeMap<u64, u64>,
    /// Any other answer, by status; 0: the connection was closed.
    pub(crate) others: BTreeMap<u16, u64>,
    /// Granted within the stretch itself, whenever they were asked for.
    pub(crate) granted_within: u64,
    /// The last moment, from the stretch's beginning, of which somebody was refused or granted late.
    pub(crate) last_trouble: Duration,
    /// How long it was.
    pub(crate) length: Duration,
    /// Longest time between two looks at the clock: what the generator itself may be late.
    pub(crate) own_delay_max: Duration,
}

impl Told {
    fn new() -> Self {
        Self {
            due: 0,
            turned_away: 0,
            granted: histogram(),
            refused: histogram(),
            without_time: 0,
            retry_after_s: BTreeMap::new(),
            others: BTreeMap::new(),
            granted_within: 0,
            last_trouble: Duration::ZERO,
            length: Duration::ZERO,
            own_delay_max: Duration::ZERO,
        }
    }

    /// Granted a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
    pub(crate) fn rate(&self) -> f64 {
        self.granted_within as f64 / self.length.as_secs_f64()
    }
}

/// What is granted later than this is trouble: the objective of the overload row.
pub(crate) const LATE: Duration = Duration::from_millis(250);

/// Connections to a server, and who uses them.
pub(crate) struct Crowd<'a> {
    address: SocketAddr,
    script: &'a mut dyn Script,
    poller: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    /// In which stretch each request under way was sent.
    stretch_of: Vec<usize>,
    free: VecDeque<usize>,
    /// Patient shoppers with the time at which they come again.
    patient: BinaryHeap<Reverse<(Instant, usize)>>,
    told: Vec<Told>,
    began: Instant,
    dice: u64,
}

impl<'a> Crowd<'a> {
    /// Connects.
    pub(crate) fn gather(
        address: SocketAddr,
        connections: usize,
        script: &'a mut dyn Script,
    ) -> anyhow::Result<Self> {
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let mut crowd = Self {
            address,
            script,
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::with_capacity(connections),
            stretch_of: vec![0; connections],
            free: VecDeque::new(),
            patient: BinaryHeap::new(),
            told: vec![],
            began: Instant::now(),
            dice: 0x2545_f491_4f6c_dd1d,
        };
        for index in 0..connections {
            let connection = crowd.connect(index)?;
            crowd.connections.push(connection);
        }
        Ok(crowd)
    }

    fn connect(&self, index: usize) -> anyhow::Result<Connection> {
        let connection = Connection::open(self.address)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.poller, &connection.stream, epoll::EventData::new_u64(index as u64), flags)?;
        Ok(connection)
    }

    /// Loads the server for a stretch; what is under way at its end goes on into the next.
    pub(crate) fn drive(&mut self, stretch: &Stretch) -> anyhow::Result<()> {
        let number = self.told.len();
        self.told.push(Told::new());
        self.began = Instant::now();
        // Whoever waited patiently for the stretch before comes as one of this.
        self.patient.clear();
        self.free =
            (0..stretch.connections).filter(|index| self.connections[*index].began.is_none()).collect();
        let mut due = 0.0_f64;
        let mut last = self.began;
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1_024);
        loop {
            let now = Instant::now();
            let passed = now - self.began;
            self.told[number].own_delay_max = self.told[number].own_delay_max.max(now - last);
            last = now;
            if passed >= stretch.length {
                self.told[number].length = passed;
                return Ok(());
            }
            anyhow::ensure!(!interrupted(), "interrupted");
            while let Some(Reverse((when, index))) = self.patient.peek().copied()
                && when <= now
            {
                self.patient.pop();
                self.free.push_back(index);
            }
            match stretch.per_second {
                None => {
                    while let Some(index) = self.free.pop_front() {
                        self.told[number].due += 1;
                        self.ask(index, number)?;
                    }
                }
                Some(rate) => {
                    while due < rate * passed.as_secs_f64() {
                        due += 1.0;
                        self.told[number].due += 1;
                        match self.free.pop_front() {
                            Some(index) => self.ask(index, number)?,
                            None => self.told[number].turned_away += 1,
                        }
                    }
                }
            }
            let timeout = rustix::event::Timespec::try_from(Duration::from_micros(200))?;
            events.clear();
            match epoll::wait(&self.poller, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).context("epoll"),
            }
            for event in events.drain(..) {
                self.attend(usize::try_from(event.data.u64())?, stretch)?;
            }
        }
    }

    /// What became of the last stretch.
    pub(crate) fn last(&self) -> Told {
        self.told.last().cloned().unwrap_or_else(Told::new)
    }

    /// What became of each stretch, in their order. What is still under way is forgotten.
    pub(crate) fn told(self) -> Vec<Told> {
        self.told
    }

    fn ask(&mut self, index: usize, stretch: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        connection.outbox.clear();
        connection.written = 0;
        connection.began = Some(Instant::now());
        self.stretch_of[index] = stretch;
        self.script.ask(index, &mut connection.outbox);
        if connection.flush().is_err() {
            self.lost(index)?;
        }
        Ok(())
    }

    /// The server closed a connection: whoever had it gets another.
    fn lost(&mut self, index: usize) -> anyhow::Result<()> {
        if self.connections[index].began.is_some() {
            *self.told[self.stretch_of[index]].others.entry(0).or_default() += 1;
        }
        self.connections[index] = self.connect(index)?;
        self.free.push_back(index);
        Ok(())
    }

    /// Something happened on a connection.
    fn attend(&mut self, index: usize, stretch: &Stretch) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        if connection.flush().is_err() {
            return self.lost(index);
        }
        let Some(began) = connection.began else { return Ok(()) };
        if connection.receive().is_err() {
            return self.lost(index);
        }
        let received = &connection.inbox[..connection.filled];
        let answer = match self.script.read(received) {
            Ok(None) => return Ok(()),
            Ok(Some(answer)) => answer,
            Err(malformed) => anyhow::bail!("the server sent what is no answer: {malformed}"),
        };
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        let told = &mut self.told[self.stretch_of[index]];
        let mut comes_again = now;
        let is_granted = self.script.judge(index, &answer).is_some();
        if is_granted {
            told.granted.saturating_record(nanoseconds(took));
        } else if let (503, Some(seconds)) = (answer.status, retry_after_s(received)) {
            told.refused.saturating_record(nanoseconds(took));
            *told.retry_after_s.entry(seconds).or_default() += 1;
            comes_again += Duration::from_secs(seconds);
        } else if answer.status == 503 {
            told.without_time += 1;
        } else {
            *told.others.entry(answer.status).or_default() += 1;
        }
        if let Some(present) = self.told.last_mut() {
            present.granted_within += u64::from(is_granted);
            if !is_granted || took > LATE {
                present.last_trouble = now - self.began;
            }
        }
        connection.filled = 0;
        connection.began = None;
        if index >= stretch.connections {
            return Ok(());
        }
        if comes_again > now && self.throw() < stretch.patient {
            self.patient.push(Reverse((comes_again, index)));
        } else {
            self.free.push_back(index);
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    fn throw(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What an answer's `Retry-After` says.
fn retry_after_s(answer: &[u8]) -> Option<u64> {
    let head = &answer[..memmem::find(answer, b"\r\n\r\n")?];
    let at = memmem::find(head, b"\r\nretry-after: ")? + 15;
    let end = memchr::memchr(b'\r', &head[at..]).unwrap_or(head.len() - at);
    std::str::from_utf8(&head[at..at + end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_again_is_read_from_the_head_alone() {
        let rows: [(&[u8], Option<u64>); 5] = [
            (b"HTTP/1.1 503 X\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", Some(7)),
            (b"HTTP/1.1 503 X\r\ncontent-length: 0\r\nretry-after: 10\r\n\r\n", Some(10)),
            (b"HTTP/1.1 503 X\r\ncontent-length: 20\r\n\r\n\r\nretry-after: 7\r\n", None),
            (b"HTTP/1.1 503 X\r\nretry-after: soon\r\n\r\n", None),
            (b"HTTP/1.1 503 X\r\nretry-after: 7", None),
        ];
        for (answer, expected) in rows {
            assert_eq!(retry_after_s(answer), expected, "{}", String::from_utf8_lossy(answer));
        }
    }
}
