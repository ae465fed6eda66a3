//! How far the copy is behind, for metrics, for readiness and for whoever waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbuster_persistence::frame::FrameNumber;
use metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;

use super::error::RescueError;

/// What the shipper is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not heard of Postgres yet.
    Connecting,
    /// Connected, and the owner of the copy.
    Shipping,
    /// Postgres is away or refuses; tried again.
    Away,
    /// A person must look.
    Refused,
    /// Another directory owns the copy.
    Fenced,
}

/// Figures of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// What the shipper is about.
    pub standing: Standing,
    /// Which ownership of the copy; 0 before the first session.
    pub epoch: u64,
    /// Last frame of the copy.
    pub shipped: FrameNumber,
    /// Last durable frame here.
    pub durable: FrameNumber,
    /// How long the oldest frame that is not in the copy has been durable here: what a loss of this disk would take.
    pub lag: Duration,
    /// Bytes of records that are not in the copy, of those written since this start.
    pub lag_bytes: u64,
    /// Sessions that were begun and ended, well or not.
    pub sessions: u64,
    /// The last trouble, while it lasts.
    pub trouble: Option<String>,
}

/// Moments kept to tell how old the oldest frame is that has not been shipped. Half of them go when there are more.
const MOMENTS_MAX: usize = 256;

#[derive(Debug)]
struct Inner {
    figures: Figures,
    /// When each durable end was first seen, those not shipped yet.
    moments: VecDeque<(FrameNumber, Instant)>,
    /// Bytes of records shipped that were written since the start.
    shipped_bytes: u64,
    written_bytes: u64,
}

/// See the module's header. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Status {
    inner: Arc<Mutex<Inner>>,
    meters: Arc<Meters>,
}

impl Status {
    /// Of a journal whose frames up to `durable` were written by earlier starts.
    pub(crate) fn new(durable: FrameNumber) -> Self {
        let figures = Figures {
            standing: Standing::Connecting,
            epoch: 0,
            shipped: FrameNumber(0),
            durable,
            lag: Duration::ZERO,
            lag_bytes: 0,
            sessions: 0,
            trouble: None,
        };
        let moments = VecDeque::from([(durable, Instant::now())]);
        let inner = Inner { figures, moments, shipped_bytes: 0, written_bytes: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), meters: Arc::new(Meters::new()) }
    }

    /// The figures now.
    pub fn figures(&self) -> Figures {
        self.inner.lock().figures.clone()
    }

    /// Whether answers that wait for the copy get out: it is being shipped to, and not stuck.
    pub fn is_confirming(&self, patience: Duration) -> bool {
        let inner = self.inner.lock();
        inner.figures.standing == Standing::Shipping && inner.lag() < patience
    }

    /// The journal is durable up to here. Call it often: what lies between two calls passes for as old as the first.
    pub(crate) fn observe(&self, durable: FrameNumber, written_bytes: u64) {
        let mut inner = self.inner.lock();
        if durable > inner.figures.durable || inner.moments.is_empty() {
            inner.figures.durable = durable;
            if durable > inner.figures.shipped {
                inner.moments.push_back((durable, Instant::now()));
            }
            if inner.moments.len() > MOMENTS_MAX {
                let mut index = 0;
                // The oldest stays: it is the lag.
                inner.moments.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
            }
        }
        inner.written_bytes = written_bytes;
        inner.settle();
        self.meters.publish(&inner.figures);
    }

    pub(crate) fn attached(&self, epoch: u64, shipped: FrameNumber) {
        let mut inner = self.inner.lock();
        inner.figures.standing = Standing::Shipping;
        inner.figures.epoch = epoch;
        inner.figures.trouble = None;
        inner.figures.sessions += 1;
        inner.figures.shipped = shipped;
        inner.settle();
        self.meters.publish(&inner.figures);
    }

    /// A batch is in the copy: its last frame, bytes of its records that were written since the start, bytes of its payload.
    pub(crate) fn shipped(&self, through: FrameNumber, body_bytes: u64, packed_bytes: u64, took: Duration) {
        let mut inner = self.inner.lock();
        inner.figures.shipped = through;
        inner.shipped_bytes += body_bytes;
        inner.settle();
        self.meters.batches.increment(1);
        self.meters.bytes.increment(packed_bytes);
        self.meters.commit.record(took.as_secs_f64());
        self.meters.publish(&inner.figures);
    }

    pub(crate) fn failed(&self, error: &RescueError) {
        let mut inner = self.inner.lock();
        inner.figures.standing = if error.is_fenced() {
            Standing::Fenced
        } else if error.needs_a_person() {
            Standing::Refused
        } else {
            Standing::Away
        };
        inner.figures.trouble = Some(error.to_string());
        inner.figures.sessions += 1;
        debug_assert!(RescueError::KINDS.contains(&error.kind()), "it was shown at zero: {}", error.kind());
        metrics::counter!("doorbuster_rescue_errors_total", "kind" => error.kind()).increment(1);
        inner.settle();
        self.meters.publish(&inner.figures);
    }

    pub(crate) fn checkpoint_finished(&self) {
        self.meters.checkpoints.increment(1);
    }

    pub(crate) fn pruned(&self, batches: u64) {
        self.meters.pruned.increment(batches);
    }
}

impl Inner {
    fn lag(&self) -> Duration {
        self.moments.front().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    fn settle(&mut self) {
        while self.moments.front().is_some_and(|(frame, _)| *frame <= self.figures.shipped) {
            self.moments.pop_front();
        }
        self.figures.lag = self.lag();
        if self.figures.shipped >= self.figures.durable {
            // Batches whose answer never came were not counted when they went.
            self.shipped_bytes = self.written_bytes;
        }
        self.figures.lag_bytes = self.written_bytes.saturating_sub(self.shipped_bytes);
    }
}

/// Handles are made once.
#[derive(Debug)]
struct Meters {
    lag_seconds: Gauge,
    lag_frames: Gauge,
    lag_bytes: Gauge,
    epoch: Gauge,
    connected: Gauge,
    batches: Counter,
    bytes: Counter,
    commit: Histogram,
    checkpoints: Counter,
    pruned: Counter,
}

impl Meters {
    fn new() -> Self {
        // At zero from the start: of a series that appears with its first event, nobody sees the step from nothing to one.
        for kind in RescueError::KINDS {
            metrics::counter!("doorbuster_rescue_errors_total", "kind" => kind).absolute(0);
        }
        Self {
            lag_seconds: metrics::gauge!("doorbuster_rescue_lag_seconds"),
            lag_frames: metrics::gauge!("doorbuster_rescue_lag_frames"),
            lag_bytes: metrics::gauge!("doorbuster_rescue_lag_bytes"),
            epoch: metrics::gauge!("doorbuster_rescue_epoch"),
            connected: metrics::gauge!("doorbuster_rescue_connected"),
            batches: metrics::counter!("doorbuster_rescue_batches_total"),
            bytes: metrics::counter!("doorbuster_rescue_bytes_total"),
            commit: metrics::histogram!("doorbuster_rescue_commit_seconds"),
            checkpoints: metrics::counter!("doorbuster_rescue_checkpoints_total"),
            pruned: metrics::counter!("doorbuster_rescue_pruned_batches_total"),
        }
    }

    #[allow(clippy::cast_precision_loss)] // gauges are f64; counts stay far below 2^52
    fn publish(&self, figures: &Figures) {
        self.lag_seconds.set(figures.lag.as_secs_f64());
        self.lag_frames.set(figures.durable.0.saturating_sub(figures.shipped.0) as f64);
        self.lag_bytes.set(figures.lag_bytes as f64);
        self.epoch.set(figures.epoch as f64);
        self.connected.set(if figures.standing == Standing::Shipping { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_age_of_the_oldest_frame_that_is_not_shipped() {
        let status = Status::new(FrameNumber(10));
        status.attached(3, FrameNumber(10));
        status.observe(FrameNumber(10), 0);
        assert_eq!((status.figures().lag, status.figures().epoch), (Duration::ZERO, 3));
        status.observe(FrameNumber(11), 100);
        std::thread::sleep(Duration::from_millis(15));
        for frame in 12..2_000 {
            status.observe(FrameNumber(frame), 100 * (frame - 10));
        }
        let behind = status.figures();
        assert!(behind.lag >= Duration::from_millis(15), "{behind:?}");
        assert_eq!((behind.lag_bytes, behind.durable), (198_900, FrameNumber(1_999)));
        assert!(status.inner.lock().moments.len() <= MOMENTS_MAX, "law 11");
        assert!(!status.is_confirming(Duration::from_millis(15)));
        status.shipped(FrameNumber(1_500), 149_000, 9, Duration::ZERO);
        assert!(status.figures().lag < behind.lag && status.figures().lag_bytes == 49_900);
        status.shipped(FrameNumber(1_999), 49_900, 9, Duration::ZERO);
        assert_eq!((status.figures().lag, status.figures().lag_bytes), (Duration::ZERO, 0));
        assert!(status.is_confirming(Duration::from_millis(15)));
        status.failed(&RescueError::Fenced { epoch: 4 });
        let refused = status.figures();
        assert_eq!(refused.standing, Standing::Fenced);
        assert!(refused.trouble.unwrap().contains("epoch 4") && !status.is_confirming(Duration::MAX));
    }
}
