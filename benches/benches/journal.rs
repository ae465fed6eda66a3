//! What one batch costs the journal: written only, and written and synced, by the number of its events.
//!
//! The promise behind it: a sync is shared by all who wait, so the cost of an event falls with the batch.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use doorbuster_benches::records::records_of;
use doorbuster_persistence::directory::{DataPaths, EngineId};
use doorbuster_persistence::disk::MachineDisk;
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions};
use doorbuster_persistence::frame::Frame;
use doorbuster_persistence::journal::Journal as _;

fn journal(criterion: &mut Criterion) {
    for (name, synced) in [("journal_write", false), ("journal_write_and_sync", true)] {
        let mut group = criterion.benchmark_group(name);
        for events in [1_u32, 16, 256, 4_096] {
            group.throughput(Throughput::Elements(u64::from(events)));
            group.bench_function(BenchmarkId::from_parameter(events), |bencher| {
                let directory = tempfile::tempdir().expect("a temporary directory");
                let paths = DataPaths::new(Arc::new(MachineDisk), directory.path());
                std::fs::create_dir_all(paths.archive()).expect("a place for the journal");
                let engine = EngineId([7; 16]);
                let (mut journal, _) =
                    FileJournal::open(&paths, engine, JournalOptions::default()).expect("a new journal");
                let bytes = records_of(events);
                bencher.iter(|| {
                    journal.append(Frame { records: events, parts: &[&bytes] }).expect("room");
                    if synced {
                        journal.sync().expect("a disk");
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, journal);
criterion_main!(benches);
