//! Law 3 the hard way: a process is killed while it writes, and everything it was told durable is found again.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::stock::StockEvent;
use doorbuster_persistence::codec;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::verify::verify;
use doorbuster_persistence::writer::{Batch, JournalWriter, WriterOptions};

use crate::shop::{sku, start};

/// Tells the child which directory to write to; without it the child does nothing.
const CHILD: &str = "DOORBUSTER_KILLED_CHILD";

#[test]
#[ignore = "the child of the test below"]
fn write_until_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let (_directory, recovered) = start(&PathBuf::from(path)).unwrap();
    let mut sequences = recovered.sequences;
    let mut position = recovered.next_position;
    let handle = JournalWriter::spawn(
        Box::new(recovered.journal),
        WriterOptions::default(),
        Box::new(|_, number| {
            let mut out = std::io::stdout().lock();
            // Once the parent has gone there is nobody left to tell.
            let _ = writeln!(out, "durable {number}").and_then(|()| out.flush());
        }),
        Box::new(|error| panic!("{error}")),
    )
    .unwrap();
    loop {
        let mut batch = Batch { bytes: handle.buffer(), ..Batch::default() };
        for n in 0..5 {
            let entity = EntityKey::Sku(sku(n));
            let event =
                StockEvent::Adjusted { delta: 1, reason: "kill".into(), reference: None, location: None };
            let partition = entity.partition();
            let sequence = &mut sequences[usize::from(partition)];
            *sequence += 1;
            let header =
                RecordHeader { partition, epoch: 1, sequence: *sequence, position, at_ms: 1_000 + position };
            position += 1;
            let entry = Entry { entity, request: None, event: Event::Stock(event) };
            while handle.claim(256).is_err() {
                std::thread::yield_now();
            }
            let bytes = codec::append_record(&mut batch.bytes, &header, &entry).unwrap();
            handle.release(256 - bytes);
            batch.records += 1;
        }
        // The batch is known by the last position in it.
        batch.number = position - 1;
        handle.submit(batch).unwrap();
    }
}

/// Lets the child write until it has told `lines` times what is durable, kills it, and returns the last it told.
fn kill_after(path: &Path, lines: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killing::write_until_killed", "--ignored", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut told, mut line, mut count) = (0, String::new(), 0);
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some(number) = line.trim_end().strip_prefix("durable ") {
            told = number.parse().unwrap();
            count += 1;
        }
        if count == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    assert!(!child.wait().unwrap().success());
    assert!(count >= lines, "the child ended by itself after {count} lines");
    told
}

#[test]
fn what_a_killed_process_was_told_durable_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let told = kill_after(root.path(), 1 + round * round * 7);
        let report = verify(root.path(), &mut |_| {}).unwrap();
        assert!(report.is_sound(), "round {round}: {:?}", report.problems);
        let (_directory, recovered) = start(root.path()).unwrap();
        assert!(recovered.next_position > told, "round {round}: {told} was durable");
        // Positions and sequences count the same records: five a batch, none missing, none twice.
        let records: u64 = recovered.sequences.iter().sum();
        assert_eq!((records + 1, records % 5), (recovered.next_position, 0), "round {round}");
        assert_eq!(recovered.report.records_replayed, records);
    }
}
