//! One connection below the HTTP library: whose head is awaited, who is told to wait, who has waited too long.
//!
//! Laws: (1) a head that has begun and does not arrive in time is cut, also the second and the hundredth of a connection;
//! (2) a head's time is counted in looks of its own worker, so that a worker that was late or stopped blames nobody for
//! it; (3) a connection at rest costs nothing: nothing is read, no timer of its own runs.
//!
//! The library has a head time-out of its own. It looks at its clock before it looks at the socket, so a late worker
//! answers 408 to heads that have long been there; it begins with the connection, so a browser that connects ahead of its
//! first request is answered 408 to a request that it sends five seconds later; and it holds for the first head of a
//! connection only. Start at [`Socket`].

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::admission::{REST_MAX, STALE, TICK};

/// What a client hears whose head came too slowly. Nothing was begun, so it may come again at once.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    content-type: application/problem+json\r\ncontent-length: 235\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
    {\"type\":\"/problems/deadline-exceeded\",\"title\":\"Time ran out\",\"status\":408,\
    \"detail\":\"the request's head did not arrive in time; nothing was begun\",\
    \"code\":\"deadline_exceeded\",\"request_id\":\"unknown\",\"retryable\":true,\"retry_after_ms\":1000}";

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet, since the look of this number.
    New { since: u64 },
    /// A head has begun to arrive, since then.
    Head { since: u64 },
    /// A handler has the request.
    Handled,
    /// Between two requests.
    Quiet,
    /// It has become a WebSocket: what its client sends is no head.
    Open,
    /// Its head came too slowly.
    Cut,
    /// It has been told so.
    Told,
}

/// One connection, as its socket and its handlers know it.
#[derive(Debug)]
pub(crate) struct Line {
    phase: Cell<Phase>,
    resting: Cell<bool>,
    /// A rest has just ended that was so long that what is found now has waited too long.
    woken: Cell<bool>,
    /// Such a thing was found.
    stale: Cell<bool>,
    /// It is to be cut, whatever it is busy with.
    gone: Cell<bool>,
    /// Wakes the connection's task, which is the same all its life.
    waker: RefCell<Option<Waker>>,
}

impl Line {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn keep_waker(&self, context: &Context<'_>) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(context.waker())) {
            *kept = Some(context.waker().clone());
        }
    }
}

/// Slots of the wheel that ends rests, one for each [`TICK`] of the longest.
const SLOTS: usize = (REST_MAX.as_millis() / TICK.as_millis()) as usize + 2;

/// Who rests until the wheel comes there, and whether it was long.
type Slot = Vec<(Rc<Line>, bool)>;

/// All connections of a worker.
#[derive(Debug, Default)]
struct Lines {
    all: RefCell<Vec<Weak<Line>>>,
    looks: Cell<u64>,
    head_looks_max: Cell<u64>,
    new_looks_max: Cell<u64>,
    /// Who rests.
    wheel: RefCell<Vec<Slot>>,
    slot: Cell<usize>,
    /// Time that has passed since the slot began.
    since: Cell<Duration>,
}

thread_local! {
    static LINES: Lines = Lines::default();
}

/// How long a head may take on this worker's connections, and how long one may be kept that never sent anything.
pub(crate) fn limit(head_timeout: Duration, keep_alive: Duration) {
    let looks =
        |time: Duration| u64::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX);
    LINES.with(|lines| {
        lines.head_looks_max.set(looks(head_timeout));
        lines.new_looks_max.set(looks(keep_alive));
    });
}

/// Looks after this worker's connections; called at every look of [`crate::admission::keep`].
pub(crate) fn look(passed: Duration) {
    LINES.with(|lines| {
        lines.end_rests(passed);
        let looks = lines.looks.get() + 1;
        lines.looks.set(looks);
        // Twice a second is punctual enough, and with 25,000 connections takes a thousandth of the time.
        if looks.is_multiple_of(25) {
            lines.cut_the_slow();
        }
    });
}

impl Lines {
    fn end_rests(&self, passed: Duration) {
        let mut since = self.since.get() + passed;
        let mut wheel = self.wheel.borrow_mut();
        let mut turns = 0;
        while since >= TICK {
            since -= TICK;
            turns += 1;
            if turns > SLOTS || wheel.is_empty() {
                continue;
            }
            let slot = (self.slot.get() + 1) % SLOTS;
            self.slot.set(slot);
            for (line, long) in wheel[slot].drain(..) {
                line.resting.set(false);
                line.woken.set(long);
                line.wake();
            }
        }
        self.since.set(since);
    }

    fn cut_the_slow(&self) {
        let looks = self.looks.get();
        self.all.borrow_mut().retain(|line| {
            let Some(line) = line.upgrade() else { return false };
            let over = match line.phase.get() {
                Phase::Head { since } if looks.saturating_sub(since) > self.head_looks_max.get() => {
                    Phase::Cut
                }
                // There is nothing to answer.
                Phase::New { since } if looks.saturating_sub(since) > self.new_looks_max.get() => Phase::Told,
                Phase::New { .. }
                | Phase::Head { .. }
                | Phase::Handled
                | Phase::Quiet
                | Phase::Open
                | Phase::Cut
                | Phase::Told => {
                    return true;
                }
            };
            line.phase.set(over);
            line.wake();
            true
        });
    }

    fn rest(&self, line: &Rc<Line>, length: Duration) {
        let ticks = usize::try_from(length.as_millis().div_ceil(TICK.as_millis())).unwrap_or(SLOTS);
        let mut wheel = self.wheel.borrow_mut();
        wheel.resize_with(SLOTS, Vec::new);
        wheel[(self.slot.get() + ticks.clamp(1, SLOTS - 1)) % SLOTS].push((Rc::clone(line), length >= STALE));
        line.resting.set(true);
    }
}

fn line_of(request: &HttpRequest) -> Option<&Rc<Line>> {
    request.conn_data::<Rc<Line>>()
}

/// A handler takes this request up: its head is complete. Whether it has waited unread for long.
pub(crate) fn taken_up(request: &HttpRequest) -> bool {
    line_of(request).is_some_and(|line| {
        line.phase.set(Phase::Handled);
        line.stale.take()
    })
}

/// Its reply is made.
pub(crate) fn replied(request: &HttpRequest) {
    if let Some(line) = line_of(request)
        && line.phase.get() != Phase::Open
    {
        line.phase.set(Phase::Quiet);
    }
}

/// This request's connection becomes a WebSocket once its reply is out.
pub(crate) fn keep_open(request: &HttpRequest) {
    if let Some(line) = line_of(request) {
        line.phase.set(Phase::Open);
    }
}

/// What cuts this request's connection, whatever it is busy with: for clients that do not read. Behind TLS ended here nobody
/// can; the connection then lasts as long as its client's.
pub(crate) fn cutter(request: &HttpRequest) -> impl FnOnce() + use<> {
    let line = line_of(request).cloned();
    move || {
        if let Some(line) = line {
            line.gone.set(true);
            line.wake();
        }
    }
}

/// Leaves this request's connection unread for a while once its reply is out.
pub(crate) fn rest(request: &HttpRequest, length: Duration) {
    if !length.is_zero()
        && let Some(line) = line_of(request)
    {
        LINES.with(|lines| lines.rest(line, length));
    }
}

/// A connection's socket.
#[derive(Debug)]
pub(crate) struct Socket<T> {
    socket: T,
    line: Rc<Line>,
}

impl<T> Socket<T> {
    /// A connection that has just begun.
    pub(crate) fn new(socket: T) -> Self {
        let line = LINES.with(|lines| {
            let line = Rc::new(Line {
                phase: Cell::new(Phase::New { since: lines.looks.get() }),
                resting: Cell::new(false),
                woken: Cell::new(false),
                stale: Cell::new(false),
                gone: Cell::new(false),
                waker: RefCell::default(),
            });
            lines.all.borrow_mut().push(Rc::downgrade(&line));
            line
        });
        Self { socket, line }
    }

    /// Lets handlers find the connection of a request.
    pub(crate) fn introduce(&self, data: &mut Extensions) {
        data.insert(Rc::clone(&self.line));
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.line.phase.get() {
            Phase::Cut => {
                // A client that sends nothing reads nothing either, or the answer fits; more is not owed to it.
                let _ = Pin::new(&mut this.socket).poll_write(context, TOO_SLOW);
                this.line.phase.set(Phase::Told);
                return Poll::Ready(Ok(()));
            }
            Phase::Told => return Poll::Ready(Ok(())),
            Phase::New { .. } | Phase::Head { .. } | Phase::Handled | Phase::Quiet | Phase::Open => {}
        }
        if this.line.resting.get() {
            this.line.keep_waker(context);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(context, buffer);
        let woken = this.line.woken.take();
        if read.is_pending() {
            this.line.keep_waker(context);
        } else if buffer.filled().len() > before
            && let Phase::New { .. } | Phase::Quiet = this.line.phase.get()
        {
            this.line.phase.set(Phase::Head { since: LINES.with(|lines| lines.looks.get()) });
            this.line.stale.set(woken);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Phase::Head { .. } = this.line.phase.get() {
            // Answered without a handler of ours, as a browser's question about other origins is.
            this.line.phase.set(Phase::Quiet);
        }
        if this.line.gone.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut this.socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
