//! Metrics of the front door, and the recorder that every room's metrics go to.
//!
//! Labels are closed sets: routes come from the table, never from the request. Handles are made once, because a
//! macro with labels looks its metric up on each call.

use std::sync::OnceLock;
use std::time::Duration;

use actix_web::http::StatusCode;
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::limits::{RATE_LIMIT_ALONE_TOTAL, RATE_LIMITED_TOTAL};
use crate::live;
use crate::routes::table::ROUTES;
use crate::routes::{import, payments};

/// Requests answered, by route, method and status.
pub const HTTP_REQUESTS_TOTAL: &str = "doorbuster_http_requests_total";
/// Time from the request's head to its reply.
pub const HTTP_REQUEST_DURATION_SECONDS: &str = "doorbuster_http_request_duration_seconds";
/// What runs, as labels; always 1.
pub const BUILD_INFO: &str = "doorbuster_build_info";
/// Live streams open now.
pub const LIVE_STREAMS: &str = "doorbuster_live_streams";
/// Events handed to live streams.
pub const LIVE_EVENTS_TOTAL: &str = "doorbuster_live_events_total";
/// Live streams that ended, by reason.
pub const LIVE_ENDED_TOTAL: &str = "doorbuster_live_ended_total";
/// Lines taken by imports, by outcome.
pub const IMPORT_LINES_TOTAL: &str = "doorbuster_import_lines_total";

/// Webhooks received, by what became of them.
pub const PAYMENT_NOTICES_TOTAL: &str = "doorbuster_payment_notices_total";

/// Statuses that alerts count: they are shown for each route from the start, because of a series that appears with its first
/// event, nobody sees the step from nothing to one.
const WATCHED: &[u16] = &[500, 503];

/// Edges of every histogram in seconds: from a same-thread turn to the request deadline, with exact edges where
/// objectives lie (50, 250, 500 ms, 1 s).
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Edges of histograms that count things, such as events of a batch.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder for the whole process; again: the one there is.
///
/// Somebody must call `run_upkeep` on it every few seconds, or samples pile up while nobody scrapes.
pub fn install_recorder() -> PrometheusHandle {
    RECORDER
        .get_or_init(|| {
            let builder = PrometheusBuilder::new();
            // Both lists are constants and not empty, the only thing the builder can refuse.
            let builder = builder.set_buckets(SECONDS).and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_events".to_owned()), COUNTS)
            });
            let recorder = builder.unwrap_or_else(|_| PrometheusBuilder::new()).build_recorder();
            let handle = recorder.handle();
            // Refused only where an embedding program has its own recorder: then metrics go there.
            let _ = metrics::set_global_recorder(recorder);
            describe();
            handle
        })
        .clone()
}

/// The recorder, where it was installed.
pub(crate) fn recorder() -> Option<&'static PrometheusHandle> {
    RECORDER.get()
}

fn describe() {
    describe_counter!(HTTP_REQUESTS_TOTAL, "Requests answered.");
    describe_histogram!(
        HTTP_REQUEST_DURATION_SECONDS,
        Unit::Seconds,
        "Time from a request's head to its reply."
    );
    describe_gauge!(BUILD_INFO, "What runs here, as labels; always 1.");
    describe_counter!(RATE_LIMITED_TOTAL, "Requests refused because somebody asked too often.");
    describe_counter!(
        RATE_LIMIT_ALONE_TOTAL,
        "Decisions by this instance alone, because the shared count did not answer."
    );
    describe_counter!(IMPORT_LINES_TOTAL, "Lines taken by imports.");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "commit" => crate::COMMIT.unwrap_or("unknown")).set(1.0);
}

/// Statuses that have a counter of their own; any other is counted under its class's first.
const STATUSES: &[u16] = &[
    101, 200, 201, 202, 204, 304, 400, 401, 402, 403, 404, 405, 408, 409, 410, 412, 413, 415, 422, 428, 429,
    500, 503,
];

struct RouteMeters {
    requests: Vec<OnceLock<Counter>>,
    duration: Histogram,
}

/// Counters and timers of every route.
pub struct Meters {
    routes: Vec<RouteMeters>,
}

impl Meters {
    /// Meters of the recorder installed now.
    pub(crate) fn new() -> Self {
        let meters = |route: &'static str, method: &'static str| RouteMeters {
            requests: STATUSES.iter().map(|_| OnceLock::new()).collect(),
            duration: histogram!(HTTP_REQUEST_DURATION_SECONDS, "route" => route, "method" => method),
        };
        let routes = ROUTES.iter().map(|route| meters(route.path, route.method.name())).collect();
        let meters = Self { routes };
        for route in 0..ROUTES.len() {
            for code in WATCHED {
                meters.requests(route, slot(*code)).absolute(0);
            }
        }
        register();
        meters
    }

    fn requests(&self, route: usize, slot: usize) -> &Counter {
        self.routes[route].requests[slot].get_or_init(|| {
            let description = &ROUTES[route];
            counter!(
                HTTP_REQUESTS_TOTAL,
                "route" => description.path,
                "method" => description.method.name(),
                "code" => STATUSES[slot].to_string()
            )
        })
    }

    /// Notes one answered request.
    pub(crate) fn record(&self, route: usize, status: StatusCode, took: Duration) {
        self.requests(route, slot(status.as_u16())).increment(1);
        self.routes[route].duration.record(took.as_secs_f64());
    }

    /// Notes a request that no route took.
    pub(crate) fn record_stray(status: StatusCode) {
        let code = STATUSES[slot(status.as_u16())].to_string();
        counter!(HTTP_REQUESTS_TOTAL, "route" => "none", "method" => "none", "code" => code).increment(1);
    }
}

fn slot(status: u16) -> usize {
    let exact = STATUSES.binary_search(&status);
    exact
        .unwrap_or_else(|_| STATUSES.partition_point(|known| *known < status / 100 * 100))
        .min(STATUSES.len() - 1)
}

/// Shows what is counted by outcome or reason at zero, with every label it can have.
fn register() {
    for outcome in import::OUTCOMES {
        counter!(IMPORT_LINES_TOTAL, "outcome" => outcome).absolute(0);
    }
    // The thread that tells watchers begins with the first of them.
    gauge!(LIVE_STREAMS).increment(0.0);
    counter!(LIVE_EVENTS_TOTAL).absolute(0);
    for reason in live::ENDINGS {
        counter!(LIVE_ENDED_TOTAL, "reason" => reason).absolute(0);
    }
    for provider in payments::HEARD {
        for outcome in payments::NOTICES {
            counter!(PAYMENT_NOTICES_TOTAL, "provider" => provider, "outcome" => outcome).absolute(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;

    #[test]
    fn every_status_we_send_has_its_own_counter() {
        assert!(STATUSES.is_sorted());
        for code in Code::ALL {
            assert!(STATUSES.contains(&code.status().as_u16()), "{code:?}");
        }
    }

    #[test]
    fn the_metrics_page_tells_what_was_counted() {
        let recorder = install_recorder();
        let meters = Meters::new();
        meters.record(0, StatusCode::OK, Duration::from_millis(3));
        recorder.run_upkeep();
        let page = recorder.render();
        assert!(
            page.contains("doorbuster_http_requests_total{route=\"/v1/skus\",method=\"GET\",code=\"200\"} 1"),
            "{page}"
        );
        assert!(page.contains("doorbuster_http_request_duration_seconds_bucket"), "{page}");
        assert!(page.contains("doorbuster_build_info"), "{page}");
    }
}
