//! What it costs to count and to time with the recorder that serves.
//!
//! Handles are kept, as everywhere in the engine; a macro with labels would look its metric up each time.

use criterion::{Criterion, criterion_group, criterion_main};
use doorbuster_http::metrics::install_recorder;

fn metrics(criterion: &mut Criterion) {
    let recorder = install_recorder();
    let counter = metrics::counter!("bench_total", "kind" => "bench");
    let histogram = metrics::histogram!("bench_seconds", "kind" => "bench");
    let mut group = criterion.benchmark_group("metrics");
    group.bench_function("count", |bencher| bencher.iter(|| counter.increment(1)));
    group.bench_function("time", |bencher| {
        bencher.iter_custom(|count| {
            let began = std::time::Instant::now();
            for number in 0..count {
                histogram.record(0.000_1);
                // As the engine's own upkeep does every few seconds: else samples pile up and only their storing is seen.
                if number % 100_000 == 0 {
                    recorder.run_upkeep();
                }
            }
            recorder.run_upkeep();
            began.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, metrics);
criterion_main!(benches);
