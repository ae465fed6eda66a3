//! Figures the engine tells Prometheus about itself, and the measured drain rate behind `Retry-After`.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use doorbuster_engine::event::EntityKey;
use doorbuster_persistence::writer::{OnSync, SyncObservation};

use crate::payments;
use crate::runtime::Shared;

/// Observes every journal frame; handles are made once.
pub(crate) fn on_sync() -> OnSync {
    let queue = metrics::histogram!("doorbuster_journal_append_seconds", "phase" => "queue");
    let write = metrics::histogram!("doorbuster_journal_append_seconds", "phase" => "write");
    let sync = metrics::histogram!("doorbuster_journal_append_seconds", "phase" => "sync");
    let events = metrics::histogram!("doorbuster_journal_batch_events");
    let bytes = metrics::counter!("doorbuster_journal_bytes_total");
    let records = metrics::counter!("doorbuster_journal_events_total");
    Box::new(move |seen: &SyncObservation| {
        queue.record(Duration::from_micros(seen.queue_us));
        write.record(Duration::from_micros(seen.write_us));
        sync.record(Duration::from_micros(seen.sync_us));
        events.record(f64::from(seen.records));
        bytes.increment(seen.bytes);
        records.increment(u64::from(seen.records));
    })
}

/// Shows everything that is counted here at zero, with every label it can have: of a series that appears with its first event,
/// nobody sees the step from nothing to one.
pub(crate) fn register(shared: &Shared) {
    for reason in ["sku", "node"] {
        metrics::counter!("doorbuster_shed_total", "reason" => reason).absolute(0);
    }
    for kind in EntityKey::KINDS {
        metrics::gauge!("doorbuster_actor_active", "kind" => kind).increment(0.0);
        metrics::counter!("doorbuster_actor_expired_total", "kind" => kind).absolute(0);
        for event in ["passivate", "panic", "rebuild"] {
            metrics::counter!("doorbuster_actor_lifecycle_total", "kind" => kind, "event" => event)
                .absolute(0);
        }
    }
    metrics::counter!("doorbuster_orders_placed_total").absolute(0);
    metrics::counter!("doorbuster_clock_jumps_total").absolute(0);
    metrics::counter!("doorbuster_checkpoint_rounds_total").absolute(0);
    metrics::counter!("doorbuster_checkpoint_failures_total").absolute(0);
    let _ = metrics::histogram!("doorbuster_checkpoint_seconds");
    for desk in &shared.desks {
        payments::register(desk.name());
    }
    metrics::gauge!("doorbuster_payment_pin_seconds").set(shared.limits.payment_pin.as_secs_f64());
    metrics::gauge!("doorbuster_payment_defer_seconds")
        .set(shared.when_down.defer.unwrap_or_default().as_secs_f64());
}

/// Measures the drain rate and publishes the slow gauges, once a second, as long as the engine lives.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut answered_before = 0;
    loop {
        tick.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let answered = shared.answered.load(Ordering::Relaxed);
        let per_second = answered.saturating_sub(answered_before);
        answered_before = answered;
        // Half old, half new: quick to follow a sale's start, slow to believe one bad second. An idle second says
        // nothing about the rate at which a queue would drain.
        if per_second > 0 {
            let smooth = shared.drain_rate.load(Ordering::Relaxed).midpoint(per_second);
            shared.drain_rate.store(smooth, Ordering::Relaxed);
        }
        shared.index.forget_before(shared.clock.now());
        publish(&shared);
    }
}

#[allow(clippy::cast_precision_loss)] // gauges are f64; counts stay far below 2^52
fn publish(shared: &Shared) {
    let (keys, finished, retention_ms) = shared.index.figures();
    let journal = shared.journal.stats();
    metrics::gauge!("doorbuster_requests_in_flight").set(shared.in_flight.load(Ordering::Relaxed) as f64);
    metrics::gauge!("doorbuster_request_keys").set(keys as f64);
    metrics::gauge!("doorbuster_request_keys_finished").set(finished as f64);
    metrics::gauge!("doorbuster_request_key_retention_seconds").set(retention_ms as f64 / 1_000.0);
    metrics::gauge!("doorbuster_skus").set(shared.catalogue.len() as f64);
    metrics::gauge!("doorbuster_journal_queue_batches").set(journal.queue_depth as f64);
    metrics::gauge!("doorbuster_journal_claimable_bytes").set(journal.claimable_bytes as f64);
    for provider in shared.desks.iter().map(|desk| desk.status()) {
        let name = provider.name;
        metrics::gauge!("doorbuster_payment_provider_up", "provider" => name)
            .set(f64::from(u8::from(provider.up)));
        metrics::gauge!("doorbuster_payment_waiting", "provider" => name).set(provider.waiting as f64);
        metrics::gauge!("doorbuster_payment_waiting_oldest_seconds", "provider" => name)
            .set(provider.waiting_oldest.as_secs_f64());
        metrics::gauge!("doorbuster_payment_drain_seconds", "provider" => name)
            .set(provider.drain.as_secs_f64());
        metrics::gauge!("doorbuster_payment_pace_wait_seconds", "provider" => name)
            .set(provider.pace_wait.as_secs_f64());
    }
}
