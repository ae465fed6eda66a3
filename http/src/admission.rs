//! Admission: who is served while a worker is late, and who is told to come again.
//!
//! Laws: (1) who is refused here is refused for its head alone: no body is read, no key claimed, nothing begun (law 4);
//! (2) what was begun before goes ahead of what would begin, and operators are never refused; (3) refusing is held to
//! about a tenth of what serving costs: beyond it, connections that were told to come again are not read for a while,
//! never longer than they were told and never longer than [`REST_MAX`], which bounds how many can be held off; what is
//! then found to have waited unread is refused, so that what is served is served soon.
//!
//! Overload is felt as *lag*: the time between something being ready and the worker's loop coming to it. Requests wait
//! there, in the kernel's buffers and in the loop's queue, before anybody could count them; a task that is due every
//! [`TICK`] waits in the same queue, so its lateness is their wait. Start at [`keep`]; the rule is [`Pressure`].

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::web;
use doorbuster_actors::Readiness;
use tokio::time::Instant;

use crate::door::FrontDoor;
use crate::line;
use crate::routes::table::Standing;

/// How often a worker looks at its own lateness.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// The lag that is let be, where nothing else is configured. A change passes the loop's queue twice, once to be read and
/// once to be answered, and its 99th percentile is to stay below 250 ms: twice this, the disk, and as much again for what
/// comes in bursts.
pub(crate) const TARGET: Duration = Duration::from_millis(60);

/// Lag is believed once this many looks in a row saw it: one long turn, a stopped process and the pauses of a CPU quota
/// show once and are over. Believing the middle one of three was tried: under a quota it cost a third of the goodput for
/// a p99 that was hardly better.
const LOOKS: usize = 3;

/// How far the pressure rises in a second whose lag is twice the target.
const INTEGRAL: f64 = 1.0;

/// How far the present lag moves the pressure at once, for each target that it is off. Damps what the sum alone would
/// swing through; both were chosen by the calculated queue of the tests, where half of this swings up to four targets.
const PROPORTION: f64 = 0.2;

/// Most targets that a lag counts as being off, so that one bad second is made good within a few.
const ERROR_MAX: f64 = 3.0;

/// Refusals for each request served, up to which refused connections are read again at once. A refusal costs a third to
/// a half of a reservation, so this keeps all refusing at about a tenth.
const REFUSED_FOR_EACH_SERVED: f64 = 0.25;

/// Longest rest of a refused connection: once an overload is over, everybody has been heard again within five seconds.
pub(crate) const REST_MAX: Duration = Duration::from_secs(4);

/// From this rest on, what was sent meanwhile has waited too long to be served in time.
pub(crate) const STALE: Duration = Duration::from_millis(100);

/// Shortest rest that is worth a wake-up.
const REST_MIN: Duration = Duration::from_millis(20);

/// How many times longer a rest becomes at most from one look to the next, which under a great lag are a second apart.
const REST_GROWTH_MAX: f64 = 8.0;

/// From lag to the share of requests that is refused.
///
/// From 0 to 1 the pressure is the share of those who would begin something; beyond, of those who have begun already
/// too, which only comes to pass when refusing everybody new was not enough.
#[derive(Clone, Debug)]
struct Pressure {
    /// The lag that is let be.
    target: Duration,
    lags: [Duration; LOOKS],
    looks: usize,
    sum: f64,
    now: f64,
}

impl Pressure {
    const fn new(target: Duration) -> Self {
        Self { target, lags: [Duration::ZERO; LOOKS], looks: 0, sum: 0.0, now: 0.0 }
    }

    /// Notes that the worker came `lag` late, `passed` after it last looked.
    fn note(&mut self, lag: Duration, passed: Duration) {
        self.lags[self.looks % LOOKS] = lag;
        self.looks = self.looks.wrapping_add(1);
        let floor = self.lags.iter().min().copied().unwrap_or_default();
        let error = (floor.as_secs_f64() / self.target.as_secs_f64() - 1.0).min(ERROR_MAX);
        // A look after a long while says no more than one after a second.
        let seconds = passed.as_secs_f64().min(1.0);
        self.sum = (self.sum + INTEGRAL * error * seconds).clamp(0.0, 2.0);
        let at_once = if self.sum > 0.0 { PROPORTION * error } else { 0.0 };
        self.now = (self.sum + at_once).clamp(0.0, 2.0);
    }

    /// The share to refuse of requests that stand so.
    fn share(&self, standing: Standing) -> f64 {
        match standing {
            Standing::Always => 0.0,
            Standing::Begun => (self.now - 1.0).max(0.0),
            Standing::New => self.now.min(1.0),
        }
    }
}

/// How long a refused connection is not read, so that refusing does not eat up what it is to save.
#[derive(Clone, Debug, Default)]
struct Rest {
    length: Duration,
    served: u32,
    refused: u32,
    since: Duration,
}

impl Rest {
    /// Time between two looks at how much was refused.
    const LOOK: Duration = Duration::from_millis(100);

    /// Notes that time passed.
    fn pass(&mut self, passed: Duration) {
        self.since += passed;
        if self.since < Self::LOOK {
            return;
        }
        let allowed = f64::from(self.served.max(1)) * REFUSED_FOR_EACH_SERVED;
        let excess = f64::from(self.refused) / allowed;
        self.length = if excess > 1.0 {
            (self.length + REST_MIN).mul_f64(excess.min(REST_GROWTH_MAX)).min(REST_MAX)
        } else {
            // Who rests is felt again only when his rest is over, so it may not shrink faster than that.
            let shorter = self.length.saturating_sub(self.since / 5);
            if shorter < REST_MIN { Duration::ZERO } else { shorter }
        };
        (self.served, self.refused, self.since) = (0, 0, Duration::ZERO);
    }
}

/// A worker's admission.
#[derive(Debug)]
struct Admission {
    pressure: RefCell<Pressure>,
    rest: RefCell<Rest>,
    /// Told to those who are refused, in milliseconds.
    retry_after_ms: Cell<u64>,
    /// Whether anybody may have to be refused: all that is looked at while there is no overload.
    late: Cell<bool>,
    dice: Cell<u64>,
    /// Whether this thread's loop is watched already.
    kept: Cell<bool>,
}

impl Admission {
    const fn new() -> Self {
        Self {
            pressure: RefCell::new(Pressure::new(TARGET)),
            rest: RefCell::new(Rest { length: Duration::ZERO, served: 0, refused: 0, since: Duration::ZERO }),
            retry_after_ms: Cell::new(1_000),
            late: Cell::new(false),
            dice: Cell::new(0x9e37_79b9_7f4a_7c15),
            kept: Cell::new(false),
        }
    }

    /// Decides about one request. A stale one was sent while its connection rested, against what that was told.
    fn refusal(&self, standing: Standing, stale: bool) -> Option<Overload> {
        if !self.late.get() {
            return None;
        }
        let share = self.pressure.borrow().share(standing);
        let mut rest = self.rest.borrow_mut();
        // Not twice in a row: a connection that is used without a pause would never be served.
        let is_stale = stale && standing == Standing::New;
        if !is_stale && self.throw() >= share {
            rest.served = rest.served.saturating_add(1);
            return None;
        }
        rest.refused = rest.refused.saturating_add(1);
        let rest_ms = u64::try_from(rest.length.as_millis()).unwrap_or(u64::MAX);
        Some(Overload {
            retry_after_ms: self.retry_after_ms.get().max(rest_ms),
            rest: if is_stale { Duration::ZERO } else { rest.length },
        })
    }

    /// A number from 0 to 1, by chance: with any rule, connections that take turns would always meet the same fate.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    fn throw(&self) -> f64 {
        let mut dice = self.dice.get();
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        self.dice.set(dice);
        (dice >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Notes a look at the loop; whether overload began (`Some(true)`) or ended with it.
    fn look(&self, lag: Duration, passed: Duration) -> Option<bool> {
        let mut pressure = self.pressure.borrow_mut();
        pressure.note(lag, passed);
        let mut rest = self.rest.borrow_mut();
        rest.pass(passed);
        // As long as a crowd is kept at rest, that nobody is late proves nothing: it is not there.
        let late = pressure.now > 0.0 || !rest.length.is_zero();
        let was = self.late.replace(late);
        (late != was).then_some(late)
    }
}

/// A refusal for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overload {
    /// When to come again.
    pub(crate) retry_after_ms: u64,
    /// How long the connection is not read meanwhile.
    pub(crate) rest: Duration,
}

thread_local! {
    static ADMISSION: Admission = const { Admission::new() };
}

/// Whether a request that stands so is refused on this worker, now.
pub(crate) fn refusal(standing: Standing, stale: bool) -> Option<Overload> {
    ADMISSION.with(|admission| admission.refusal(standing, stale))
}

/// Watches this thread's loop as long as it runs. Each public worker spawns it; one is enough.
pub(crate) async fn keep(door: web::Data<FrontDoor>) {
    if ADMISSION.with(|admission| admission.kept.replace(true)) {
        return;
    }
    let lags = metrics::histogram!("doorbuster_worker_lag_seconds");
    let mut crowd = Crowd { refused: door.refused.load(Ordering::Relaxed), ..Crowd::default() };
    let target = Duration::from_millis(door.options.lag_target_ms.max(1));
    ADMISSION.with(|admission| admission.pressure.borrow_mut().target = target);
    let mut last = Instant::now();
    loop {
        let due = last + TICK;
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let (lag, passed) = (now.saturating_duration_since(due), now.saturating_duration_since(last));
        last = now;
        lags.record(lag.as_secs_f64());
        let turned = ADMISSION.with(|admission| {
            if let Some(waiting) = crowd.pass(passed, || door.refused.load(Ordering::Relaxed)) {
                admission.retry_after_ms.set(door.engine.drain_time_ms(waiting));
            }
            admission.look(lag, passed)
        });
        match turned {
            Some(true) => tracing::warn!(
                lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
                "a worker is late: new requests are refused in part until it is not"
            ),
            Some(false) => tracing::info!("the worker is in time again: everybody is served"),
            None => {}
        }
        // Who shuts down answers everybody whom it let in, and soon.
        let draining = door.engine.readiness() == Readiness::Draining;
        line::look(if draining { passed + REST_MAX } else { passed });
    }
}

/// Those who were refused in the last second. They will be back, so that `Retry-After` must leave time for them too.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    refused: u64,
    since: Duration,
}

impl Crowd {
    /// Once a second: how many were refused in it.
    fn pass(&mut self, passed: Duration, refused: impl FnOnce() -> u64) -> Option<u64> {
        self.since += passed;
        if self.since < Duration::from_secs(1) {
            return None;
        }
        let (refused, before) = (refused(), self.refused);
        *self = Self { refused, since: Duration::ZERO };
        Some(refused.saturating_sub(before))
    }
}

/// Makes this thread late, or in time again: for tests of what follows from it.
#[cfg(test)]
pub(crate) fn pretend(pressure: f64) {
    ADMISSION.with(|admission| {
        admission.pressure.borrow_mut().now = pressure;
        admission.late.set(pressure > 0.0);
    });
}

#[cfg(test)]
mod tests;
