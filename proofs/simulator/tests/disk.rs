//! The real journal and the real checkpoint store over the simulated disk: each fault happens, and what was synced survives
//! it (law 3).

use std::io::IoSlice;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use doorbuster_engine::event::{EntityKey, PARTITIONS};
use doorbuster_engine::identity::Sku;
use doorbuster_persistence::checkpoint::{CheckpointStore, EntityRow, Residence, RoundMark};
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::disk::{Disk, LockKind, OpenMode};
use doorbuster_persistence::error::{CheckpointError, JournalError, StartError};
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions, Preparation};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::writer::{Batch, JournalHandle, JournalWriter, SteppedWriter, WriterOptions};
use doorbuster_simulator::disk::{Faults, Happened, Machine};
use doorbuster_simulator::random::Random;

const ROOT: &str = "/data";
const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 8_192, preparation: Preparation::Inline };

fn machine(seed: u64) -> Machine {
    Machine::new(Random::new(seed), 1 << 30)
}

/// A process with the journal open, and what it was told.
struct Process {
    _directory: DataDirectory,
    handle: JournalHandle,
    writer: SteppedWriter,
    durable: Arc<Mutex<u64>>,
    fatal: Arc<Mutex<Option<String>>>,
}

impl Process {
    fn told(&self) -> u64 {
        *self.durable.lock().expect("nobody panics with it")
    }

    fn failed(&self) -> Option<String> {
        self.fatal.lock().expect("nobody panics with it").clone()
    }
}

/// Starts on what the machine has; gives every body found.
fn start(machine: &Machine) -> Result<(Process, Vec<Vec<u8>>), StartError> {
    let directory = DataDirectory::open_on(machine.boot(), Path::new(ROOT))?;
    let (paths, engine) = (directory.paths(), directory.engine());
    let mut reader = JournalReader::open(paths, engine, FrameNumber::FIRST)?;
    let mut bodies = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        bodies.push(frame.body.to_vec());
    }
    let journal = FileJournal::open_at(paths, engine, OPTIONS, &reader.tail())?;
    let (durable, fatal) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(None)));
    let (told, failed) = (Arc::clone(&durable), Arc::clone(&fatal));
    let (handle, writer) = JournalWriter::stepped(
        Box::new(journal),
        WriterOptions::default(),
        Box::new(move |_, number| *told.lock().expect("not poisoned") = number),
        Box::new(move |error| *failed.lock().expect("not poisoned") = Some(error.to_string())),
    );
    Ok((Process { _directory: directory, handle, writer, durable, fatal }, bodies))
}

/// Writes random batches until the machine goes off, the journal fails or `batches` are told durable. Returns the bodies
/// handed over, of which so many were told durable.
fn write(process: &mut Process, random: &mut Random, batches: u64) -> (Vec<Vec<u8>>, usize) {
    let mut bodies = Vec::new();
    for number in 1..=batches {
        let bytes: Vec<u8> = (0..random.between(1, 900)).map(|_| random.bits().to_le_bytes()[0]).collect();
        if process.handle.claim(bytes.len()).is_err() {
            process.writer.step();
            continue;
        }
        bodies.push(bytes.clone());
        process.handle.submit(Batch { worker: 0, number, bytes, records: 1 }).expect("the writer lives");
        let told = process.told();
        process.writer.step_write();
        assert_eq!(process.told(), told, "a written frame is not durable yet");
        process.writer.step_sync();
        if process.failed().is_some() {
            return (bodies.clone(), bodies.len() - 1);
        }
    }
    let count = bodies.len();
    (bodies, count)
}

/// Lives of one journal under `faults`, each life ended by them; checks at each start that nothing told durable is missing.
fn lives(seed: u64, faults: impl Fn(&mut Random) -> Faults, cut_between: bool) -> Happened {
    let mut random = Random::new(seed);
    let machine = machine(seed ^ 0xd15c);
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    let mut maybe: Option<Vec<u8>> = None;
    for life in 0..8 {
        let started = start(&machine);
        let (mut process, found) = match started {
            Ok(started) => started,
            Err(_) if machine.is_off() => continue,
            Err(error) => panic!("seed {seed} life {life}: {error}"),
        };
        assert!(found.len() >= acknowledged.len(), "seed {seed} life {life}: acknowledged frames are gone");
        assert_eq!(found[..acknowledged.len()], acknowledged, "seed {seed} life {life}");
        match &found[acknowledged.len()..] {
            [] => {}
            [one] => assert_eq!(Some(one), maybe.as_ref(), "seed {seed} life {life}: a frame nobody wrote"),
            more => panic!("seed {seed} life {life}: {} frames too many", more.len()),
        }
        acknowledged = found;
        machine.set_faults(faults(&mut random));
        let (bodies, durable) = write(&mut process, &mut random, 40);
        acknowledged.extend_from_slice(&bodies[..durable]);
        maybe = bodies.get(durable).cloned();
        machine.set_faults(Faults::default());
        drop(process);
        if cut_between && !machine.is_off() {
            if random.one_in(2) {
                machine.cut_power();
            } else {
                machine.kill();
            }
        }
    }
    machine.happened()
}

fn cuts(random: &mut Random) -> Faults {
    Faults { cut_in: Some(random.below(150)), flip_unsynced: random.one_in(3), ..Faults::default() }
}

fn failures(random: &mut Random) -> Faults {
    Faults {
        fail_sync_in: Some(random.below(60)),
        fail_write_in: random.one_in(3).then(|| random.below(60)),
        cut_in: random.one_in(3).then(|| random.below(150)),
        ..Faults::default()
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_told_durable() {
    let mut sum = Happened::default();
    for seed in 0..400 {
        let happened = lives(seed, cuts, false);
        sum.cuts += happened.cuts;
        sum.blocks_lost += happened.blocks_lost;
        sum.blocks_kept += happened.blocks_kept;
        sum.blocks_torn += happened.blocks_torn;
        sum.names_lost += happened.names_lost;
        sum.names_kept += happened.names_kept;
        sum.bits_flipped_unsynced += happened.bits_flipped_unsynced;
    }
    assert!(sum.cuts > 1_000 && sum.blocks_torn > 50 && sum.names_lost > 50, "{sum:?}");
    assert!(sum.blocks_lost > 500 && sum.blocks_kept > 500 && sum.names_kept > 50, "{sum:?}");
    assert!(sum.bits_flipped_unsynced > 50, "{sum:?}");
}

#[test]
fn a_kill_at_any_operation_keeps_everything_written_and_a_cut_after_it_what_was_read_again() {
    let mut kills = 0;
    for seed in 0..200 {
        let kill = |random: &mut Random| Faults { kill_in: Some(random.below(150)), ..Faults::default() };
        kills += lives(seed, kill, false).kills;
        let mixed = |random: &mut Random| {
            let (at, kill) = (Some(random.below(150)), random.one_in(2));
            Faults { kill_in: at.filter(|_| kill), cut_in: at.filter(|_| !kill), ..Faults::default() }
        };
        kills += lives(seed, mixed, true).kills;
    }
    assert!(kills > 1_000, "{kills}");
}

#[test]
fn what_a_failed_sync_left_readable_is_written_again_before_more_is_built_on_it() {
    let mut failed = 0;
    for seed in 0..400 {
        failed += lives(seed, failures, true).syncs_failed;
    }
    assert!(failed > 500, "{failed}");
}

#[test]
fn one_seed_is_one_history() {
    assert_eq!(lives(7, cuts, true), lives(7, cuts, true));
    assert_ne!(lives(7, cuts, true), lives(8, cuts, true));
}

#[test]
fn a_full_disk_refuses_claims_and_takes_them_again_once_there_is_room() {
    let machine = machine(1);
    let (mut process, _) = start(&machine).unwrap();
    machine.fill(4_096);
    let mut random = Random::new(2);
    while process.handle.claim(500).is_ok() {
        process.handle.release(500);
        write(&mut process, &mut random, 1);
    }
    assert_eq!(process.failed(), None, "claimed bytes could always be written");
    assert!(machine.happened().refused_full > 0 && process.handle.storage_trouble().is_some());
    machine.make_room();
    process.writer.step();
    assert!(process.handle.claim(500).is_ok() && process.handle.storage_trouble().is_none());
}

#[test]
fn damage_in_an_old_frame_refuses_the_start_and_names_the_file() {
    flip_old_frames(100);
}

fn flip_old_frames(seeds: u64) {
    let mut refused = 0;
    for seed in 0..seeds {
        let machine = machine(seed);
        let (mut process, _) = start(&machine).expect("an empty disk");
        write(&mut process, &mut Random::new(seed), 10);
        drop(process);
        machine.kill();
        let Some(flipped) = machine.flip_old_frame(&Path::new(ROOT).join("journal")) else { continue };
        match start(&machine).map(|_| ()) {
            Err(StartError::Journal(JournalError::Damaged { file, .. })) => {
                assert_eq!(file, flipped.file, "seed {seed}");
                refused += 1;
            }
            other => panic!("seed {seed} {flipped:?}: {other:?}"),
        }
    }
    assert!(refused * 10 > seeds * 8, "{refused} of {seeds}");
}

#[test]
fn a_dead_process_reaches_nothing_and_holds_no_lock() {
    let machine = machine(1);
    let dead = machine.boot();
    let lock = Path::new("/LOCK");
    let held = dead.lock(lock, LockKind::Exclusive).unwrap().unwrap();
    assert!(dead.lock(lock, LockKind::Shared).unwrap().is_none());
    let file = dead.open(Path::new("/x"), OpenMode::CreateNew { mode: 0o600 }).unwrap();
    machine.kill();
    assert!(machine.is_off() && file.sync_data().is_err() && !dead.exists(lock));
    let alive = machine.boot();
    let _again = alive.lock(lock, LockKind::Exclusive).unwrap().unwrap();
    drop(held);
    assert!(alive.lock(lock, LockKind::Exclusive).unwrap().is_none(), "a dead process gives no lock back");
    assert!(file.length().is_err() && dead.list(Path::new("/")).is_err());
    assert_eq!(alive.list(Path::new("/")).unwrap().len(), 2);
}

#[test]
fn slow_operations_tell_their_virtual_delay() {
    let machine = machine(1);
    let (mut process, _) = start(&machine).unwrap();
    machine.set_faults(Faults { slow_one_in: Some(2), slow_ms_max: 50, ..Faults::default() });
    write(&mut process, &mut Random::new(1), 20);
    let slow = machine.happened().slow;
    let delay_ms = machine.take_delay_ms();
    assert!(slow > 5 && delay_ms >= slow && delay_ms <= slow * 50, "{slow} took {delay_ms} ms");
    assert_eq!(machine.take_delay_ms(), 0);
}

fn row(number: u64, sequence: u64) -> EntityRow {
    let entity = EntityKey::Sku(Sku::new(&format!("sku-{number}")).expect("a good name"));
    EntityRow { entity, sequence, residence: Residence::Resident, blob: vec![number.to_le_bytes()[0]; 40] }
}

/// Puts rows in rounds until the machine dies or `rounds` are over.
fn checkpoint(store: &CheckpointStore, random: &mut Random, rounds: u64) -> Result<(), CheckpointError> {
    for round in 0..rounds {
        for _ in 0..10 {
            store.put([row(random.below(30), random.bits())])?;
            if random.one_in(4) {
                store.write_gathered()?;
            }
        }
        let frame = FrameNumber(round + 1);
        let sequences = [0; PARTITIONS];
        let mark = RoundMark {
            replay_from_frame: frame,
            durable_frame: frame,
            sequences,
            position_max: 0,
            at_ms: 0,
        };
        store.finish_round(&mark)?;
    }
    Ok(())
}

/// Opens the store and reads all of it, as a start does.
fn load(disk: &dyn Disk) -> Result<CheckpointStore, CheckpointError> {
    let store = CheckpointStore::open(disk, Path::new("/checkpoint"))?;
    store.marks()?;
    store.for_each(|_| {})?;
    Ok(store)
}

#[test]
fn an_honest_cut_leaves_a_sound_checkpoint() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..200 {
        let (machine, mut random) = (machine(seed), Random::new(seed));
        for life in 0..4 {
            let disk = machine.boot();
            let store = load(&*disk).unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
            machine.set_faults(Faults { cut_in: Some(random.below(200)), ..Faults::default() });
            let ended = checkpoint(&store, &mut random, 8);
            assert_eq!(ended.is_err(), machine.is_off());
            machine.set_faults(Faults::default());
        }
        kept += machine.happened().batches_kept;
        lost += machine.happened().batches_lost;
    }
    assert!(kept > 100 && lost > 100, "{kept} {lost}");
}

/// Damages one store, or lets its sync fail, and expects its digest to notice.
fn damage_a_store(seed: u64, damaged: &mut u32, stale: &mut u32) {
    let (machine, mut random) = (machine(seed), Random::new(seed));
    let disk = machine.boot();
    let store = load(&*disk).expect("an empty store");
    checkpoint(&store, &mut random, 3).expect("no fault yet");
    let fail_sync = random.one_in(2);
    if fail_sync {
        // The one after the rows; the first one makes durable what must be there before them.
        machine.set_faults(Faults { fail_sync_in: Some(1), ..Faults::default() });
        checkpoint(&store, &mut random, 1).expect_err("its sync fails");
        // A later round succeeds, on top of rows that never reached the disk.
        checkpoint(&store, &mut random, 1).expect("no fault any more");
    } else {
        machine.set_faults(Faults { damage_store: true, ..Faults::default() });
    }
    machine.cut_power();
    let loaded = load(&*machine.boot());
    if machine.happened().rows_damaged > 0 {
        *damaged += 1;
        assert!(loaded.is_err_and(|error| error.is_damage()), "seed {seed}");
    } else if fail_sync && loaded.is_err() {
        *stale += 1;
    }
}

#[test]
fn a_damaged_store_or_a_failed_sync_or_read_is_noticed() {
    let (mut damaged, mut stale) = (0, 0);
    for seed in 0..200 {
        damage_a_store(seed, &mut damaged, &mut stale);
    }
    assert!(damaged > 50 && stale > 20, "{damaged} {stale}");
    let machine = machine(1);
    let store = load(&*machine.boot()).unwrap();
    machine.set_faults(Faults { fail_store_read_in: Some(0), ..Faults::default() });
    assert!(store.marks().is_err());
    assert_eq!(machine.happened().store_reads_failed, 1);
    machine.set_faults(Faults { fail_store_write_in: Some(0), ..Faults::default() });
    assert!(checkpoint(&store, &mut Random::new(1), 1).is_err());
    assert_eq!(machine.happened().store_writes_failed, 1);
}

#[test]
fn the_synced_image_is_what_the_worst_cut_leaves() {
    let machine = machine(1);
    let disk = machine.boot();
    let (kept, lost) = (Path::new("/kept"), Path::new("/lost"));
    let file = disk.open(kept, OpenMode::CreateNew { mode: 0o600 }).unwrap();
    file.write_all_at(&mut [IoSlice::new(b"synced")], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    file.write_all_at(&mut [IoSlice::new(b"SYNCED or not")], 0).unwrap();
    disk.open(lost, OpenMode::CreateNew { mode: 0o600 }).unwrap().sync_all().unwrap();
    let mut shown = Vec::new();
    machine.with_synced_file(kept, &mut |bytes| shown.push(bytes.to_vec()));
    machine.with_synced_file(lost, &mut |bytes| shown.push(bytes.to_vec()));
    machine.with_file(kept, &mut |bytes| shown.push(bytes.to_vec()));
    assert_eq!(shown, [b"synced".to_vec(), b"SYNCED or not".to_vec()]);
    assert_eq!(machine.list_synced(Path::new("/")), [kept]);
    assert_eq!(machine.list(Path::new("/")), [kept, lost]);
    let fork = machine.fork();
    fork.cut_power();
    assert!(machine.happened().cuts == 0 && fork.happened().cuts == 1 && disk.exists(lost));
    assert!(machine.take_away(kept) && !disk.exists(kept) && machine.list_synced(Path::new("/")).is_empty());
}

#[test]
fn the_disk_does_a_hundred_thousand_operations_a_second() {
    let machine = machine(1);
    let (mut process, _) = start(&machine).unwrap();
    let before = machine.operations();
    let began = Instant::now();
    write(&mut process, &mut Random::new(1), 20_000);
    let operations = machine.operations() - before;
    let took = began.elapsed();
    assert!(operations >= 40_000, "{operations}");
    // Ten times longer than a quiet machine takes for as many.
    assert!(took.as_micros() < u128::from(operations) * 100, "{operations} operations took {took:?}");
}

/// Each seeded bug in the journal and the store that these tests alone can see, with the test that must see it. The others
/// need the whole engine.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_of_journal_and_store_is_caught() {
    use doorbuster_engine::mutant::{self, Mutant};

    fn cut(seed: u64) {
        lives(seed, cuts, false);
    }
    fn fail(seed: u64) {
        lives(seed, failures, true);
    }
    let rows: [(Mutant, fn(u64)); 10] = [
        (Mutant::AcknowledgeBeforeSync, cut),
        (Mutant::SkipSync, cut),
        (Mutant::SkipFrameChecksum, cut),
        (Mutant::SkipDirectorySync, cut),
        (Mutant::StaleSegmentFrames, cut),
        (Mutant::RetryFailedSync, fail),
        (Mutant::TrustCleanFrame, fail),
        (Mutant::AcceptBrokenChain, |_| flip_old_frames(100)),
        (Mutant::CutDamageSilently, |_| flip_old_frames(100)),
        (Mutant::SkipDigest, |seed| damage_a_store(seed, &mut 0, &mut 0)),
    ];
    for (mutant, test) in rows {
        mutant::set(Some(mutant));
        let caught = (0..400).find(|seed| std::panic::catch_unwind(|| test(*seed)).is_err());
        mutant::set(None);
        assert!(caught.is_some(), "{} survives", mutant.name());
    }
}
