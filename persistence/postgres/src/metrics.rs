//! What is measured of the projection. Handles are made once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};

/// For how long Postgres has not had everything that is durable; 0 when it has.
pub const LAG_SECONDS: &str = "doorbuster_projection_lag_seconds";
/// Durable frames that are not applied.
pub const LAG_FRAMES: &str = "doorbuster_projection_lag_frames";
/// Events applied.
pub const EVENTS_TOTAL: &str = "doorbuster_projection_events_total";
/// Rows written.
pub const ROWS_TOTAL: &str = "doorbuster_projection_rows_total";
/// From reading a batch's frames to its transaction's end.
pub const BATCH_SECONDS: &str = "doorbuster_projection_batch_seconds";
/// Sessions that ended in a fault.
pub const FAULTS_TOTAL: &str = "doorbuster_projection_faults_total";

/// Handles of the recorder installed now.
pub(crate) struct Meters {
    lag_seconds: Gauge,
    lag_frames: Gauge,
    events: Counter,
    rows: Counter,
    batch: Histogram,
    faults: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        describe_gauge!(
            LAG_SECONDS,
            Unit::Seconds,
            "For how long Postgres has not had everything that is durable."
        );
        describe_gauge!(LAG_FRAMES, "Durable frames that Postgres does not have.");
        describe_counter!(EVENTS_TOTAL, "Events applied to Postgres.");
        describe_counter!(ROWS_TOTAL, "Rows written to Postgres.");
        describe_histogram!(BATCH_SECONDS, Unit::Seconds, "Time to apply one batch to Postgres.");
        describe_counter!(FAULTS_TOTAL, "Sessions with Postgres that ended in a fault.");
        Self {
            lag_seconds: gauge!(LAG_SECONDS),
            lag_frames: gauge!(LAG_FRAMES),
            events: counter!(EVENTS_TOTAL),
            rows: counter!(ROWS_TOTAL),
            batch: histogram!(BATCH_SECONDS),
            faults: counter!(FAULTS_TOTAL),
        }
    }

    pub(crate) fn stand(&self, lag_frames: u64, lag_ms: u64) {
        // Beyond 2^52 a gauge is no longer exact, and nobody minds.
        #[expect(clippy::cast_precision_loss)]
        self.lag_frames.set(lag_frames as f64);
        self.lag_seconds.set(Duration::from_millis(lag_ms).as_secs_f64());
    }

    pub(crate) fn batch(&self, events: u64, rows: u64, took: Duration) {
        self.events.increment(events);
        self.rows.increment(rows);
        self.batch.record(took.as_secs_f64());
    }

    pub(crate) fn fault(&self) {
        self.faults.increment(1);
    }
}
