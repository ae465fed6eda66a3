//! The copy of a journal and the directory rebuilt from it: laws 3 and 9 over the way out and back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use doorbuster_persistence::checkpoint::{CheckpointStore, RoundMark};
use doorbuster_persistence::directory::{DataDirectory, EngineId};
use doorbuster_persistence::disk::MachineDisk;
use doorbuster_persistence::error::StartError;
use doorbuster_persistence::frame::{Frame, FrameNumber};
use doorbuster_persistence::journal::Journal as _;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::recovery::CheckpointUse;
use doorbuster_persistence::rescue::base::{BaseHead, BasePage};
use doorbuster_persistence::rescue::restore::{Restoration, RestoreError, Restored};
use doorbuster_persistence::rescue::shipment::{Packer, SHIPMENT_VERSION, Shipment, ShipmentError};
use doorbuster_persistence::verify::verify;

use crate::shop::{Shop, assert_is, start};

/// All frames from `from` on, in shipments of at least `bytes` each.
fn ship(shop: &Shop, from: FrameNumber, bytes: usize) -> Vec<Shipment> {
    let mut packer = Packer::new(shop.directory.engine());
    let mut reader = JournalReader::open(shop.directory.paths(), shop.directory.engine(), from).unwrap();
    let mut shipments = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        packer.add(&frame);
        if packer.raw_bytes() >= bytes {
            shipments.extend(packer.pack());
        }
    }
    shipments.extend(packer.pack());
    assert!(packer.is_empty() && packer.pack().is_none());
    shipments
}

fn begin(root: &Path, engine: EngineId) -> Restoration {
    Restoration::begin(Arc::new(MachineDisk), root, engine).unwrap()
}

fn restore(root: &Path, engine: EngineId, shipments: &[Shipment]) -> Result<Restored, RestoreError> {
    let mut restoration = Restoration::begin(Arc::new(MachineDisk), root, engine)?;
    for shipment in shipments {
        restoration.take(shipment)?;
    }
    restoration.finish()
}

/// Every frame of a directory's journal, byte for byte.
fn frames(root: &Path) -> Vec<Vec<u8>> {
    let directory = DataDirectory::open_offline(root).unwrap();
    let first = FrameNumber::FIRST;
    let mut reader = JournalReader::open(directory.paths(), directory.engine(), first).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame.bytes.to_vec());
    }
    frames
}

#[test]
fn what_was_shipped_comes_back_byte_for_byte_and_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(&root.path().join("lost"));
    shop.trade(90);
    let engine = shop.directory.engine();
    let (model, sequences) = (shop.model.clone(), shop.sequences());
    for bytes in [1, 700, 20_000, usize::MAX] {
        let shipments = ship(&shop, FrameNumber::FIRST, bytes);
        let new = root.path().join(format!("new-{bytes}"));
        let restored = restore(&new, engine, &shipments).unwrap();
        assert_eq!((restored.frames, restored.records, restored.last_frame), (90, 270, FrameNumber(90)));
        assert_eq!(restored.bytes, shipments.iter().map(|shipment| shipment.raw_bytes).sum::<u64>());
        let report = verify(&new, &mut |_| {}).unwrap();
        assert!(report.is_sound() && report.records == 270, "{bytes}: {:?}", report.problems);
        let (directory, mut recovered) = start(&new).unwrap();
        assert_is(&recovered, &model, &sequences, "restored");
        assert_eq!(recovered.next_frame, FrameNumber(91));
        // It goes on where the lost one stopped, in the same chain.
        recovered.journal.append(Frame { records: 0, parts: &[] }).unwrap();
        recovered.journal.sync().unwrap();
        drop((directory, recovered));
        assert_eq!(frames(&new).len(), 91);
        assert!(verify(&new, &mut |_| {}).unwrap().is_sound());
    }
    drop(shop);
    let (lost, new) = (frames(&root.path().join("lost")), frames(&root.path().join("new-700")));
    assert!(new[..90] == lost[..], "law 9: the frames are the same bytes");
}

#[test]
fn compression_is_worth_its_while() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(100);
    let shipments = ship(&shop, FrameNumber::FIRST, usize::MAX);
    let packed: usize = shipments.iter().map(|shipment| shipment.payload.len()).sum();
    let raw: u64 = shipments.iter().map(|shipment| shipment.raw_bytes).sum();
    assert!(packed as u64 * 2 < raw, "{packed} of {raw} bytes");
}

type Harm = fn(&mut Shipment);

#[test]
fn a_shipment_that_is_not_what_was_packed_is_never_used() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(&root.path().join("lost"));
    shop.trade(12);
    let engine = shop.directory.engine();
    let sound = ship(&shop, FrameNumber::FIRST, usize::MAX).remove(0);
    assert!(sound.unpack(engine).is_ok());
    assert!(sound.unpack(EngineId([9; 16])).is_err(), "another engine's");
    let harms: [(&str, Harm); 9] = [
        ("first frame", |shipment| shipment.first_frame = FrameNumber(2)),
        ("last frame", |shipment| shipment.last_frame = FrameNumber(11)),
        ("checksum before", |shipment| shipment.previous_checksum ^= 1),
        ("checksum", |shipment| shipment.checksum ^= 1),
        ("records", |shipment| shipment.records += 1),
        ("length", |shipment| shipment.raw_bytes += 1),
        ("hash", |shipment| shipment.hash[15] ^= 0x80),
        ("cut short", |shipment| shipment.payload.truncate(9)),
        ("version 0", |shipment| shipment.version = 0),
    ];
    for (what, harm) in harms {
        let mut harmed = sound.clone();
        harm(&mut harmed);
        let refused = harmed.unpack(engine).unwrap_err();
        assert!(matches!(refused, ShipmentError::Damaged { .. }), "{what}: {refused}");
    }
    for at in 0..sound.payload.len() {
        let mut harmed = sound.clone();
        harmed.payload[at] ^= 4;
        assert!(harmed.unpack(engine).is_err(), "payload byte {at}");
    }
    let newer = Shipment { version: SHIPMENT_VERSION + 1, ..sound };
    let refused = newer.unpack(engine).unwrap_err();
    assert!(refused.to_string().contains("a newer one"), "{refused}");
}

#[test]
fn missing_repeated_and_foreign_frames_are_refused_and_leave_no_data_directory() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(&root.path().join("lost"));
    shop.trade(30);
    let engine = shop.directory.engine();
    let sound = ship(&shop, FrameNumber::FIRST, 900);
    assert!(sound.len() > 4);
    let mut other = Shop::open(&root.path().join("other"));
    other.trade(1);
    other.flush();
    other.trade(9);
    // Another history under the same engine's name: as of a directory copied once, that lived twice.
    let twin = {
        let mut packer = Packer::new(engine);
        let paths = other.directory.paths();
        let mut reader = JournalReader::open(paths, other.directory.engine(), FrameNumber::FIRST).unwrap();
        while let Some(frame) = reader.next_frame().unwrap() {
            if frame.number >= sound[1].first_frame {
                packer.add(&frame);
            }
        }
        packer.pack().unwrap()
    };
    let rows: [(&str, Vec<Shipment>, &str); 5] = [
        ("the first is missing", sound[1..].to_vec(), "frame 1 is due"),
        ("one is missing", [&sound[..1], &sound[2..]].concat(), "is due, but frames"),
        ("one is there twice", [&sound[..2], &sound[1..]].concat(), "is due, but frames"),
        ("two changed places", vec![sound[0].clone(), sound[2].clone(), sound[1].clone()], "is due"),
        ("another history", vec![sound[0].clone(), twin], "of another history"),
    ];
    for (what, shipments, words) in rows {
        let new = root.path().join(what);
        let refused = restore(&new, engine, &shipments).unwrap_err();
        assert!(matches!(refused, RestoreError::Gap { .. }), "{what}: {refused}");
        assert!(refused.to_string().contains(words), "{what}: {refused}");
        let told = verify(&new, &mut |_| {}).unwrap_err();
        assert!(matches!(told, StartError::NotADataDirectory { .. }), "{what}: {told}");
        let again = Restoration::begin(Arc::new(MachineDisk), &new, engine).unwrap_err();
        assert!(matches!(again, RestoreError::NotEmpty { .. }), "{what}: {again}");
    }
    let full = restore(&root.path().join("lost"), engine, &sound).unwrap_err();
    assert!(full.to_string().contains("overwrites nothing"), "{full}");
}

#[test]
fn a_restoration_cut_short_is_no_data_directory_and_files_come_with_it() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(&root.path().join("lost"));
    shop.trade(20);
    let engine = shop.directory.engine();
    let shipments = ship(&shop, FrameNumber::FIRST, 900);
    let new = root.path().join("new");
    let mut restoration = begin(&new, engine);
    restoration.put_file("secrets/server", &[7; 32]).unwrap();
    restoration.put_file("admin_key", b"dbk_key\n").unwrap();
    restoration.take(&shipments[0]).unwrap();
    drop(restoration);
    let refused = start(&new).unwrap_err();
    assert!(matches!(refused, StartError::Damaged { .. }), "segments without FORMAT: {refused}");
    fs::remove_dir_all(&new).unwrap();
    let mut restoration = begin(&new, engine);
    restoration.put_file("secrets/server", &[7; 32]).unwrap();
    for shipment in &shipments {
        restoration.take(shipment).unwrap();
    }
    restoration.finish().unwrap();
    let (directory, _recovered) = start(&new).unwrap();
    assert_eq!((directory.engine(), directory.secret("server").unwrap()), (engine, [7; 32]));
}

/// A copy of the shop's store, taken page by page while the shop goes on between them.
fn image(shop: &mut Shop, mut between: impl FnMut(&mut Shop)) -> (BaseHead, Vec<BasePage>) {
    let engine = shop.directory.engine();
    let mut imaging = shop.recovered.store.begin_image().unwrap().unwrap();
    let (mut pages, mut durable) = (Vec::new(), FrameNumber(0));
    while !imaging.is_done() {
        let had_all_rows = imaging.has_all_rows();
        let mut page = Vec::new();
        shop.recovered.store.image_page(&mut imaging, 300, &mut page).unwrap();
        if imaging.has_all_rows() && !had_all_rows {
            durable = FrameNumber(shop.recovered.journal.next_frame().0 - 1);
        }
        pages.push(BasePage::pack(engine, &imaging.mark, pages.len() as u64, &page));
        between(shop);
    }
    shop.recovered.store.end_image();
    let mark = RoundMark { durable_frame: durable, ..imaging.mark };
    (BaseHead { mark, pages: pages.len() as u64 }, pages)
}

fn restore_from(
    root: &Path,
    engine: EngineId,
    base: &(BaseHead, Vec<BasePage>),
    shipments: &[Shipment],
) -> Result<Restored, RestoreError> {
    let mut restoration = begin(root, engine);
    restoration.begin_from(base.0.clone())?;
    base.1.iter().try_for_each(|page| restoration.put_page(page))?;
    shipments.iter().try_for_each(|shipment| restoration.take(shipment))?;
    restoration.finish()
}

#[test]
fn a_copy_of_the_store_taken_while_trading_and_the_frames_behind_it_are_all_that_is_needed() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(&root.path().join("lost"));
    shop.trade(40);
    shop.checkpoint();
    shop.trade(20);
    shop.checkpoint();
    let mut rounds = 0;
    let base = image(&mut shop, |shop| {
        shop.trade(2);
        rounds += 1;
        if rounds % 3 == 0 {
            shop.checkpoint();
        }
    });
    assert!(base.1.len() > 8 && rounds > 6, "{} pages, {rounds} rounds", base.1.len());
    shop.trade(5);
    let from = base.0.mark.replay_from_frame;
    let shipments = ship(&shop, FrameNumber(from.0 - 3), 900);
    let (engine, model, sequences) = (shop.directory.engine(), shop.model.clone(), shop.sequences());
    drop(shop);
    let new = root.path().join("new");
    let restored = restore_from(&new, engine, &base, &shipments).unwrap();
    assert!(restored.frames < restored.last_frame.0, "only the frames behind it");
    let report = verify(&new, &mut |_| {}).unwrap();
    assert!(report.is_sound() && report.first_frame > FrameNumber::FIRST, "{:?}", report.problems);
    let (directory, recovered) = start(&new).unwrap();
    assert_eq!(recovered.report.checkpoint, CheckpointUse::Mark { replay_from: from });
    assert_is(&recovered, &model, &sequences, "restored from a base");
    drop((directory, recovered));
    assert!(verify(&new, &mut |_| {}).unwrap().is_sound(), "with a checkpoint of its own");
    // A damaged checkpoint costs time, never data, here too.
    fs::remove_dir_all(new.join("checkpoint")).unwrap();
    let (directory, recovered) = start(&new).unwrap();
    assert_is(&recovered, &model, &sequences, "its checkpoint was lost");
    drop((directory, recovered));
    let db = sled::open(new.join("checkpoint")).unwrap();
    db.open_tree("rows").unwrap().insert(b"\0version", b"of another day").unwrap();
    drop(db);
    let (directory, recovered) = start(&new).unwrap();
    assert!(matches!(recovered.report.checkpoint, CheckpointUse::Rebuilt { .. }));
    assert_is(&recovered, &model, &sequences, "its checkpoint was damaged");
    drop((directory, recovered));
    // A base with any byte changed is refused, by the start that needs it and by verify.
    fs::remove_dir_all(new.join("checkpoint")).unwrap();
    let file = new.join("journal/base");
    let sound = fs::read(&file).unwrap();
    for at in [3, 9, 20, 41, 2_150, sound.len() / 2, sound.len() - 1] {
        let mut harmed = sound.clone();
        harmed[at] ^= 1;
        fs::write(&file, &harmed).unwrap();
        let refused = start(&new).unwrap_err();
        assert!(matches!(refused, StartError::Damaged { .. }), "byte {at}: {refused}");
        assert!(!verify(&new, &mut |_| {}).unwrap().is_sound(), "byte {at}");
        let _ = fs::remove_dir_all(new.join("checkpoint"));
    }
    fs::remove_file(&file).unwrap();
    let refused = start(&new).unwrap_err();
    assert!(matches!(refused, StartError::MissingFrames { .. }), "no base: {refused}");
}

#[test]
fn a_base_and_frames_that_do_not_belong_together_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(&root.path().join("lost"));
    shop.trade(40);
    shop.checkpoint();
    shop.trade(10);
    let base = image(&mut shop, |shop| shop.trade(1));
    let engine = shop.directory.engine();
    let (from, through) = (base.0.mark.replay_from_frame, base.0.mark.durable_frame);
    assert!(from < through);
    let all = ship(&shop, from, 1);
    let rows: [(&str, Vec<Shipment>, &str); 2] = [
        ("frames begin too late", all[1..].to_vec(), "none before frame"),
        ("frames end too early", all[..2].to_vec(), "none after frame"),
    ];
    for (what, shipments, words) in rows {
        let refused = restore_from(&root.path().join(what), engine, &base, &shipments).unwrap_err();
        assert!(matches!(refused, RestoreError::Base { .. }), "{what}: {refused}");
        assert!(refused.to_string().contains(words), "{what}: {refused}");
    }
    let short = (base.0.clone(), base.1[1..].to_vec());
    assert!(restore_from(&root.path().join("a page is missing"), engine, &short, &all).is_err());
    // One copy at a time, and none of a store that was opened again meanwhile.
    let mut imaging = shop.recovered.store.begin_image().unwrap().unwrap();
    let copied = root.path().join("copied");
    let elsewhere = CheckpointStore::open(&MachineDisk, &copied).unwrap();
    assert!(elsewhere.begin_image().unwrap().is_none(), "before the first round there is nothing");
    assert!(elsewhere.image_page(&mut imaging, 300, &mut Vec::new()).is_err());
}
