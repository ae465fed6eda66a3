//! What one turn of a SKU costs in the core alone, with 1, 1,000 and 1,000,000 reservations open.
//!
//! The promise behind it: a hot SKU's turn does not grow with the number of its holds, cache misses apart.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use doorbuster_benches::Bench;

fn core_reserve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core_reserve");
    group.throughput(Throughput::Elements(1));
    for (label, holds) in [("1", 1), ("1k", 1_000), ("1M", 1_000_000)] {
        // Each reserve is paired with an end, so that the number of holds stays what the label says.
        group.bench_function(format!("reserve_and_release/{label}"), |bencher| {
            let mut bench = Bench::with_holds(holds);
            bencher.iter(|| {
                let reservation = bench.reserve();
                bench.release(reservation);
            });
        });
        group.bench_function(format!("reserve_and_commit/{label}"), |bencher| {
            let mut bench = Bench::with_holds(holds);
            bencher.iter(|| {
                let reservation = bench.reserve();
                bench.commit(reservation);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, core_reserve);
criterion_main!(benches);
