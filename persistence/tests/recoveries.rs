//! Recovery: the only start path, from every state a crash can leave.

use std::fs;
use std::path::Path;

use doorbuster_engine::answer::Item;
use doorbuster_engine::event::{EntityKey, Event};
use doorbuster_engine::identity::ReservationId;
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::StockEvent;
use doorbuster_engine::world::World;
use doorbuster_persistence::archive::archive_segments;
use doorbuster_persistence::checkpoint::{CheckpointStore, Residence};
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::error::{JournalError, StartError};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::journal::Journal;
use doorbuster_persistence::recovery::{CheckpointUse, Progress, recover_keeping};
use doorbuster_persistence::segment::segment_name;
use doorbuster_persistence::verify::verify;

use crate::shop::{SMALL, Shop, assert_is, sku, stamp, start};
use crate::support::{copy_directory, last_segment};

#[test]
fn the_whole_journal_folds_to_what_was_recorded() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(60);
    let shop = shop.restart();
    assert_is(&shop.recovered, &shop.model, &shop.sequences(), "no checkpoint");
    assert_eq!(shop.recovered.world.memory, shop.model.memory);
    let report = &shop.recovered.report;
    assert_eq!(report.checkpoint, CheckpointUse::None);
    assert_eq!((report.records_replayed, report.records_skipped, &report.cut), (180, 0, &None));
    assert_eq!(shop.recovered.next_frame, FrameNumber(61));
    assert!(shop.recovered.next_position > 540 && shop.recovered.last_at_ms == 1_001_800);
}

#[test]
fn a_checkpoint_shortens_the_replay_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    let mut older = FrameNumber::FIRST;
    for round in 0..3_u64 {
        shop.trade(20);
        let replay_from = shop.recovered.journal.next_frame();
        let below = shop.checkpoint();
        assert_eq!(below, older, "both kept marks can be replayed from live segments");
        older = replay_from;
        archive_segments(shop.directory.paths(), shop.directory.engine(), below).unwrap();
        shop.trade(7);
        shop.trade(round);
        shop = shop.restart();
        assert_is(&shop.recovered, &shop.model, &shop.sequences(), "after a checkpoint");
        let report = &shop.recovered.report;
        assert!(matches!(report.checkpoint, CheckpointUse::Mark { .. }));
        assert_eq!(report.records_replayed + report.records_skipped, 3 * (7 + round));
        shop.touch_all();
    }
}

#[test]
fn every_step_of_checkpoint_and_archive_can_be_the_last_one() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let mut shop = Shop::open(&live);
    let mut crashes: Vec<(String, World, [u64; 256])> = Vec::new();
    for round in 0..4 {
        let crash = |shop: &Shop, step: &str, crashes: &mut Vec<(String, World, [u64; 256])>| {
            let name = format!("{round}-{step}");
            copy_directory(&live, &root.path().join(&name));
            crashes.push((name, shop.model.clone(), shop.sequences()));
        };
        shop.trade(15);
        crash(&shop, "traded", &mut crashes);
        let replay_from = shop.recovered.journal.next_frame();
        // Trading goes on while rows are put.
        shop.trade(4);
        let rows = shop.rows();
        let half = rows.len() / 2;
        shop.recovered.store.put(rows[..half].to_vec()).unwrap();
        shop.recovered.store.write_gathered().unwrap();
        crash(&shop, "half the rows", &mut crashes);
        shop.trade(3);
        shop.recovered.store.put(rows[half..].to_vec()).unwrap();
        crash(&shop, "rows gathered", &mut crashes);
        shop.recovered.store.write_gathered().unwrap();
        crash(&shop, "all rows", &mut crashes);
        let mark = shop.mark(replay_from);
        let below = shop.recovered.store.finish_round(&mark).unwrap();
        crash(&shop, "mark", &mut crashes);
        let first =
            archive_segments(shop.directory.paths(), shop.directory.engine(), FrameNumber(below.0 / 2));
        first.unwrap();
        crash(&shop, "archived some", &mut crashes);
        archive_segments(shop.directory.paths(), shop.directory.engine(), below).unwrap();
        crash(&shop, "archived all", &mut crashes);
    }
    drop(shop);
    assert_eq!(crashes.len(), 28);
    for (name, model, sequences) in crashes {
        let path = root.path().join(&name);
        let report = verify(&path, &mut |_| {}).unwrap();
        assert!(report.is_sound(), "{name}: {:?}", report.problems);
        let (_directory, recovered) = start(&path).unwrap();
        assert!(!matches!(recovered.report.checkpoint, CheckpointUse::Rebuilt { .. }), "{name}");
        assert_is(&recovered, &model, &sequences, &name);
    }
}

type Ruin = fn(&Path);

/// Flips a bit of a page that only this tree has, as a power cut in the middle of its write may.
fn damage_page_of(path: &Path, tree: &str) {
    const MARKER: &[u8] = b"a page that nobody but this tree has";
    let db = sled::open(path).unwrap();
    db.open_tree(tree).unwrap().insert(MARKER, MARKER).unwrap();
    db.flush().unwrap();
    drop(db);
    // Opened once more, sled notes where the page lies: else it would take the damage for the torn end of its log.
    drop(sled::open(path).unwrap());
    let file = path.join("db");
    let mut bytes = fs::read(&file).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - MARKER.len()).filter(|at| bytes[*at..].starts_with(MARKER)).collect();
    assert!(!places.is_empty(), "the marker is in the file");
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(&file, bytes).unwrap();
}

#[test]
fn a_checkpoint_lost_or_ruined_costs_time_never_data() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let mut shop = Shop::open(&live);
    for _ in 0..3 {
        shop.trade(20);
        let below = shop.checkpoint();
        archive_segments(shop.directory.paths(), shop.directory.engine(), below).unwrap();
    }
    shop.trade(5);
    let (model, sequences) = (shop.model.clone(), shop.sequences());
    drop(shop);

    let rows: [(&str, bool, Ruin); 7] = [
        ("deleted", false, |path| fs::remove_dir_all(path).unwrap()),
        ("filled with rubbish", true, |path| {
            for entry in fs::read_dir(path).unwrap() {
                let file = entry.unwrap().path();
                if file.is_file() {
                    fs::write(file, vec![0x5a; 70_000]).unwrap();
                }
            }
        }),
        ("a row missing", true, |path| {
            let tree = path.to_path_buf();
            let db = sled::open(&tree).unwrap();
            let rows = db.open_tree("rows").unwrap();
            let key = rows.scan_prefix(b"\x03").keys().next().unwrap().unwrap();
            rows.remove(key).unwrap();
            db.flush().unwrap();
        }),
        ("a mark ruined", true, |path| {
            let db = sled::open(path).unwrap();
            let marks = db.open_tree("marks").unwrap();
            let (key, value) = marks.last().unwrap().unwrap();
            let mut value = value.to_vec();
            value[3] ^= 1;
            marks.insert(key, value).unwrap();
            db.flush().unwrap();
        }),
        ("a page of the ledger damaged", true, |path| damage_page_of(path, "ledger")),
        ("a page of order summaries damaged", true, |path| damage_page_of(path, "orders")),
        ("a page of remembered answers damaged", true, |path| damage_page_of(path, "cold")),
    ];
    for (name, aside, ruin) in rows {
        let path = root.path().join(name);
        copy_directory(&live, &path);
        ruin(&path.join("checkpoint"));
        let (directory, recovered) = start(&path).unwrap();
        assert_is(&recovered, &model, &sequences, name);
        match &recovered.report.checkpoint {
            CheckpointUse::Rebuilt { set_aside, .. } => assert!(set_aside.exists() && aside, "{name}"),
            CheckpointUse::None => assert!(!aside, "{name}"),
            CheckpointUse::Mark { .. } => panic!("{name} was trusted"),
        }
        assert_eq!(path.join("checkpoint.damaged-1").exists(), aside, "{name}");
        assert_eq!(directory.paths().root, path);
    }
}

#[test]
fn a_checkpoint_ahead_of_the_journal_refuses() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let mut shop = Shop::open(&live);
    shop.trade(30);
    shop.checkpoint();
    let segments = shop.recovered.journal.next_frame();
    assert_eq!(segments, FrameNumber(31));
    drop(shop);
    // The last segment is lost, and with it frames the checkpoint was made of.
    let (_, last) = last_segment(&live);
    assert!(last > 1);
    let short = root.path().join("lost");
    copy_directory(&live, &short);
    fs::remove_file(short.join("journal").join(segment_name(last))).unwrap();
    // The one before it was cut to its frames when it was sealed, so it tells that one followed.
    let error = start(&short).err().unwrap();
    assert!(error.to_string().contains("frames are missing here or in files after it"), "{error}");
    assert_eq!(error.exit_code(), 65);
    // Were it not sealed yet, only the checkpoint would know.
    let newest = short.join("journal").join(segment_name(last - 1));
    fs::OpenOptions::new().write(true).open(newest).unwrap().set_len(SMALL.segment_bytes).unwrap();
    let before = listing(&short);
    let error = start(&short).err().unwrap();
    assert!(matches!(error, StartError::CheckpointAhead { .. }), "{error}");
    assert!(error.to_string().contains("durable records are missing"), "{error}");
    assert_eq!(error.exit_code(), 65);
    assert_eq!(listing(&short), before, "data stays untouched");
    assert!(!verify(&short, &mut |_| {}).unwrap().is_sound());

    // All of the journal is lost.
    let bare = root.path().join("bare");
    copy_directory(&live, &bare);
    fs::remove_dir_all(bare.join("journal")).unwrap();
    let error = start(&bare).err().unwrap();
    assert!(
        matches!(error, StartError::CheckpointAhead { .. } | StartError::MissingFrames { .. }),
        "{error}"
    );
}

fn listing(root: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut files: Vec<(std::path::PathBuf, u64)> = fs::read_dir(root.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::metadata(&path).unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn archived_segments_that_are_needed_and_gone_refuse_by_name() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    for _ in 0..3 {
        shop.trade(20);
        let below = shop.checkpoint();
        archive_segments(shop.directory.paths(), shop.directory.engine(), below).unwrap();
    }
    let path = shop.path();
    let archive = shop.directory.paths().archive();
    let (model, sequences) = (shop.model.clone(), shop.sequences());
    drop(shop);
    fs::rename(&archive, path.join("shipped")).unwrap();
    // With its checkpoint the engine starts without its archive …
    let (directory, recovered) = start(&path).unwrap();
    assert_is(&recovered, &model, &sequences, "without the archive");
    drop((directory, recovered));
    // … without both it says what it lacks.
    fs::remove_dir_all(path.join("checkpoint")).unwrap();
    let error = start(&path).err().unwrap();
    assert!(matches!(error, StartError::MissingFrames { needed_frame: 1, .. }), "{error}");
    fs::remove_dir_all(&archive).unwrap();
    fs::rename(path.join("shipped"), &archive).unwrap();
    let (_directory, recovered) = start(&path).unwrap();
    assert_is(&recovered, &model, &sequences, "rebuilt");
}

#[test]
fn a_torn_tail_is_cut_and_reported_and_the_bytes_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(3);
    let (model, sequences) = (shop.model.clone(), shop.sequences());
    shop.trade(1);
    let path = shop.path();
    drop(shop);
    let file = path.join("journal").join(segment_name(1));
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 5] ^= 0xff;
    fs::write(&file, bytes).unwrap();
    let (directory, recovered) = start(&path).unwrap();
    assert_is(&recovered, &model, &sequences, "cut");
    let cut = recovered.report.cut.clone().unwrap();
    assert_eq!((cut.frame, cut.file), (FrameNumber(4), file));
    assert!(
        directory
            .paths()
            .journal()
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().path().extension().is_some_and(|extension| extension == "torn") })
    );
    drop((directory, recovered));
    let (_directory, recovered) = start(&path).unwrap();
    assert_eq!(recovered.report.cut, None);
}

#[test]
fn a_store_never_finished_once_is_still_of_use() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(20);
    let rows = shop.rows();
    let count = rows.len() as u64;
    shop.recovered.store.put(rows).unwrap();
    // As a full batch would be.
    shop.recovered.store.write_gathered().unwrap();
    let shop = shop.restart();
    assert_is(&shop.recovered, &shop.model, &shop.sequences(), "no mark");
    assert_eq!(shop.recovered.report.rows, count);
    assert_eq!(shop.recovered.report.records_replayed, 0);
    let store: &CheckpointStore = &shop.recovered.store;
    assert_eq!(store.marks().unwrap(), []);
}

#[test]
fn a_coordinator_that_ends_in_the_tail_is_named_so_that_its_row_goes() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(10);
    let coordinator = EntityKey::Reservation(ReservationId(77));
    let items = vec![Item { sku: sku(1), quantity: 1 }, Item { sku: sku(2), quantity: 1 }];
    let requested =
        ReservationEvent::Requested { items: items.clone(), ttl_ms: 60_000, partial: false, customer: None };
    for event in [requested, ReservationEvent::Granted { items }] {
        shop.record(coordinator.clone(), Event::Reservation(event), Some(stamp(77)));
    }
    shop.flush();
    shop.checkpoint();
    for event in [ReservationEvent::Released, ReservationEvent::Settled] {
        shop.record(coordinator.clone(), Event::Reservation(event), None);
    }
    let last = shop.sequences()[usize::from(coordinator.partition())];
    shop.flush();
    let mut shop = shop.restart();
    assert_is(&shop.recovered, &shop.model, &shop.sequences(), "ended in the tail");
    assert_eq!(
        shop.recovered.over,
        [(coordinator.clone(), last)],
        "law 2: or the row would come alive again"
    );
    // Made and ended within the tail, it has no row that could.
    let over = std::mem::take(&mut shop.recovered.over);
    shop.recovered.store.delete(over).unwrap();
    let mark = shop.mark(shop.recovered.journal.next_frame());
    shop.recovered.store.finish_round(&mark).unwrap();
    let shop = shop.restart();
    assert_eq!(shop.recovered.over, []);
    assert!(!shop.recovered.world.entities.contains_key(&coordinator));
    assert_is(&shop.recovered, &shop.model, &shop.sequences(), "its row is gone");
}

#[test]
fn a_long_tail_leaves_no_more_answers_than_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(200);
    let (model, sequences, path) = (shop.model.clone(), shop.sequences(), shop.path());
    drop(shop);
    let directory = DataDirectory::open(&path).unwrap();
    let mut told = Vec::new();
    let recovered = recover_keeping(&directory, SMALL, 50, &mut |progress| told.push(progress)).unwrap();
    assert_is(&recovered, &model, &sequences, "bounded");
    let kept: Vec<_> = recovered.world.memory.iter().cloned().collect();
    let all: Vec<_> = model.memory.iter().cloned().collect();
    assert!(all.len() > 300, "{}", all.len());
    assert_eq!(kept, all[all.len() - 50..], "law 11: the newest");
    let Some(Progress::Journal { bytes, bytes_total, records: 600 }) = told.iter().rev().nth(1) else {
        panic!("{told:?}");
    };
    assert_eq!(bytes, bytes_total);
}

#[test]
fn what_an_engine_from_before_the_first_release_wrote_is_refused_with_the_remedy_and_its_rows_are_set_aside()
{
    let root = tempfile::tempdir().unwrap();
    let old = root.path().join("old");
    let mut shop = Shop::open(&old);
    shop.trade(3);
    let event = StockEvent::Adjusted { delta: 1, reason: "found".into(), reference: None, location: None };
    shop.record_of_version(1, EntityKey::Sku(sku(1)), Event::Stock(event));
    shop.flush();
    drop(shop);
    for refused in [start(&old).unwrap_err(), verify(&old, &mut |_| {}).unwrap_err()] {
        let text = refused.to_string();
        let what = StartError::Journal(JournalError::OlderVersion {
            file: old.join("journal").join(segment_name(1)),
            found: 1,
            oldest: 2,
        });
        assert_eq!(text, what.to_string());
        assert!(text.contains("start it with the engine that wrote it") && text.contains("--data"), "{text}");
        assert_eq!(refused.exit_code(), 76);
    }
    // A row by itself costs time only.
    let path = root.path().join("rows");
    let mut shop = Shop::open(&path);
    shop.trade(9);
    let mut rows = shop.rows();
    let row = rows.iter_mut().find(|row| row.residence == Residence::Resident).unwrap();
    assert_eq!(row.blob[..2], [2, 0], "STORED_VERSION");
    row.blob[0] = 1;
    let mark = shop.mark(shop.recovered.journal.next_frame());
    shop.recovered.store.put(rows).unwrap();
    shop.recovered.store.finish_round(&mark).unwrap();
    let shop = shop.restart();
    let CheckpointUse::Rebuilt { set_aside, what } = &shop.recovered.report.checkpoint else {
        panic!("{:?}", shop.recovered.report);
    };
    assert!(set_aside.exists() && what.contains("version 1"), "{what}");
    assert_is(&shop.recovered, &shop.model, &shop.sequences(), "rebuilt");
}

#[test]
fn a_directory_of_an_older_format_is_refused_before_anything_in_it_is_touched() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("old");
    let mut shop = Shop::open(&path);
    shop.trade(9);
    shop.checkpoint();
    drop(shop);
    let file = path.join("FORMAT");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("format 2", "format 1")).unwrap();
    let before = (listing(&path), names(&path));
    for refused in [start(&path).unwrap_err(), verify(&path, &mut |_| {}).unwrap_err()] {
        assert!(matches!(refused, StartError::OlderVersion { found: 1, oldest: 2, .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("start it with the engine that wrote it") && text.contains("--data"), "{text}");
    }
    assert_eq!((listing(&path), names(&path)), before);
}

fn names(root: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
