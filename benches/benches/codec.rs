//! What it costs to write an event as a record, and to read it back.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use doorbuster_benches::records::{records_of, reserved};
use doorbuster_persistence::codec::{append_record, records};

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    group.bench_function("write", |bencher| {
        let (header, entry) = reserved(1);
        let mut bytes = Vec::with_capacity(1 << 16);
        bencher.iter(|| {
            bytes.clear();
            append_record(&mut bytes, black_box(&header), black_box(&entry)).expect("a small record")
        });
    });
    let bytes = records_of(1);
    let first = || records(black_box(&bytes)).next().expect("a record").expect("a sound record");
    group.bench_function("read", |bencher| {
        bencher.iter(|| black_box(first().entry().expect("a sound entry")));
    });
    group.bench_function("read_borrowed", |bencher| {
        bencher.iter(|| {
            let record = first();
            black_box(record.entry_ref().expect("a sound entry"));
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
