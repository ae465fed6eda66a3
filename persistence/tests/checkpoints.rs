//! The checkpoint store.

use doorbuster_engine::event::{EntityKey, PARTITIONS};
use doorbuster_engine::identity::{CartId, OrderId, Sku};
use doorbuster_persistence::checkpoint::{
    CheckpointStore, ColdKind, ColdRow, EntityRow, OrderRow, Residence, RoundMark,
};
use doorbuster_persistence::disk::MachineDisk;
use doorbuster_persistence::frame::FrameNumber;

fn row(n: u32, sequence: u64, bytes: usize) -> EntityRow {
    let entity = match n % 2 {
        0 => EntityKey::Sku(Sku::new(&format!("SKU-{n}")).unwrap()),
        _ => EntityKey::Cart(CartId(u128::from(n))),
    };
    let blob = (0..bytes).map(|at| at.to_le_bytes()[0] ^ n.to_le_bytes()[0]).collect();
    EntityRow { entity, sequence, residence: Residence::Resident, blob }
}

pub(crate) fn mark(replay_from: u64) -> RoundMark {
    let mut sequences = [0; PARTITIONS];
    sequences[255] = replay_from;
    RoundMark {
        replay_from_frame: FrameNumber(replay_from),
        durable_frame: FrameNumber(replay_from),
        sequences,
        position_max: replay_from * 100,
        at_ms: 5,
    }
}

fn all(store: &CheckpointStore) -> Vec<EntityRow> {
    let mut rows = Vec::new();
    store.for_each(|row| rows.push(row)).unwrap();
    rows
}

#[test]
fn rows_of_any_size_read_back_after_reopening_and_replace_one_another() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint");
    let sizes = [0, 1, 100, 24 << 10, (24 << 10) + 1, 300 << 10];
    for generation in 0..3_u64 {
        let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
        let size = sizes.iter().cycle().skip(usize::try_from(generation).unwrap());
        let rows: Vec<EntityRow> =
            (0..600).zip(size).map(|(n, size)| row(n, generation * 1_000 + u64::from(n), *size)).collect();
        store.put(rows.clone()).unwrap();
        assert_eq!(store.finish_round(&mark(generation + 1)).unwrap().0, generation.max(1));
        assert_eq!(store.row_count(), 600);
        for expected in &rows {
            assert!(store.get(&expected.entity).unwrap().as_ref() == Some(expected));
        }
        drop(store);
        let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
        let mut found = all(&store);
        found.sort_by_key(|row| row.sequence);
        assert!(found == rows);
        assert_eq!(store.marks().unwrap()[0], mark(generation + 1));
    }
}

#[test]
fn ended_entities_are_gone_two_rounds_later_unless_they_came_back() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(&MachineDisk, &root.path().join("checkpoint")).unwrap();
    store.put((0..4).map(|n| row(n, 10, 50_000))).unwrap();
    store.delete([0, 1].map(|n| (row(n, 0, 0).entity, 20))).unwrap();
    assert_eq!(store.get(&row(0, 0, 0).entity).unwrap().unwrap().residence, Residence::Gone);
    store.finish_round(&mark(1)).unwrap();
    assert_eq!(store.row_count(), 4, "a replay from this mark may still meet their records");
    store.put([row(1, 30, 7)]).unwrap();
    store.finish_round(&mark(2)).unwrap();
    assert_eq!(store.row_count(), 3);
    assert_eq!(store.get(&row(0, 0, 0).entity).unwrap(), None);
    assert_eq!(store.get(&row(1, 0, 0).entity).unwrap(), Some(row(1, 30, 7)));
    assert_eq!(all(&store).len(), 3);
}

/// Closing a store, at a stop or before it was opened anew, wrote what was gathered. After a failed sync that were rows whose
/// answers the sync had lost: a replay skipped what they reflect, and the answers were forgotten (law 5).
#[test]
fn rows_that_are_only_gathered_are_not_written_by_closing_the_store() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint");
    let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
    store.put([row(1, 10, 10)]).unwrap();
    store.finish_round(&mark(1)).unwrap();
    store.put([row(1, 20, 10), row(2, 21, 10)]).unwrap();
    assert_eq!(store.get(&row(1, 0, 0).entity).unwrap(), Some(row(1, 20, 10)), "readers see it meanwhile");
    drop(store);
    let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
    assert_eq!(all(&store), [row(1, 10, 10)]);
}

#[test]
fn a_row_that_went_missing_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint");
    let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
    store.put((0..10).map(|n| row(n, 10, 10))).unwrap();
    store.finish_round(&mark(1)).unwrap();
    drop(store);
    // sled itself is content with this; only the digest knows.
    let db = loop {
        // The threads of the store just closed may hold its lock a moment longer.
        match sled::open(&path) {
            Ok(db) => break db,
            Err(sled::Error::Io(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let rows = db.open_tree("rows").unwrap();
    let victim = rows.scan_prefix(b"\x01SKU-4").keys().next().unwrap().unwrap();
    rows.remove(victim).unwrap();
    db.flush().unwrap();
    drop((rows, db));
    let error = CheckpointStore::open(&MachineDisk, &path).unwrap().for_each(|_| {}).unwrap_err();
    assert!(error.to_string().contains("9 rows where 10 are due"), "{error}");
}

#[test]
fn due_times_come_in_order_and_once() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(&MachineDisk, &root.path().join("checkpoint")).unwrap();
    for at_ms in [300, 100, 200, 100] {
        store.due_put(at_ms, &EntityKey::Cart(CartId(u128::from(at_ms)))).unwrap();
    }
    let due = |at_ms: u64| (at_ms, EntityKey::Cart(CartId(u128::from(at_ms))));
    assert_eq!(store.due_take_until(99, 9).unwrap(), []);
    assert_eq!(store.due_until(200, 9).unwrap(), [due(100), due(200)]);
    assert_eq!(store.due_take_until(200, 1).unwrap(), [due(100)]);
    assert_eq!(store.due_take_until(u64::MAX, 9).unwrap(), [due(200), due(300)]);
    assert_eq!(store.due_until(u64::MAX, 9).unwrap(), []);
}

#[test]
fn orders_list_newest_first_page_by_page() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(&MachineDisk, &root.path().join("checkpoint")).unwrap();
    let rows: Vec<OrderRow> = (0..25_u64)
        .map(|n| OrderRow {
            created_at_ms: n / 3,
            order: OrderId(u128::from(n)),
            summary: vec![n.to_le_bytes()[0]],
        })
        .collect();
    store.orders_put(rows.clone()).unwrap();
    let mut found: Vec<OrderRow> = Vec::new();
    loop {
        let cursor = found.last().map(|row| (row.created_at_ms, row.order));
        let page = store.orders_by_time(cursor, 10).unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    found.reverse();
    assert_eq!(found, rows);
}

#[test]
fn ledger_pages_scan_back_within_their_sku() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(&MachineDisk, &root.path().join("checkpoint")).unwrap();
    let skus = ["A", "A B", "A-1"].map(|text| Sku::new(text).unwrap());
    for sku in &skus {
        for position in [10, 20, 30] {
            store.ledger_put(sku, position, &vec![7; 40_000 + usize::try_from(position).unwrap()]).unwrap();
        }
    }
    for sku in &skus {
        let pages = store.ledger_scan_back(sku, 30, 9).unwrap();
        let found: Vec<(u64, usize)> =
            pages.iter().map(|(position, bytes)| (*position, bytes.len())).collect();
        assert_eq!(found, [(20, 40_020), (10, 40_010)]);
        assert_eq!(store.ledger_scan_back(sku, u64::MAX, 1).unwrap()[0].0, 30);
    }
}

#[test]
fn remembered_answers_are_found_by_key_and_forgotten_by_age() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(&MachineDisk, &root.path().join("checkpoint")).unwrap();
    let make = |kind, key: u128, at_ms| ColdRow { kind, key, at_ms, bytes: vec![3; 30_000] };
    let (answer, ended) = (make(ColdKind::Answer, 5, 100), make(ColdKind::EndedReservation, 5, 200));
    store.answers_put([answer.clone(), ended.clone(), make(ColdKind::Answer, 6, 100)]).unwrap();
    // Made again by a replay, and by a later request under the same key.
    store.answers_put([answer.clone(), make(ColdKind::Answer, 6, 300)]).unwrap();
    assert_eq!(store.answer_get(ColdKind::Answer, 5).unwrap(), Some(answer));
    assert_eq!(store.answer_get(ColdKind::EndedReservation, 5).unwrap(), Some(ended.clone()));
    assert_eq!(store.answers_delete_before(200, 99).unwrap(), 2);
    let mut left = Vec::new();
    store.answers_for_each(|row| left.push(row)).unwrap();
    assert_eq!(left, [make(ColdKind::Answer, 6, 300), ended]);
}

#[test]
fn a_store_set_aside_is_never_deleted() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint");
    for n in 1..=2 {
        let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
        store.put((0..100).map(|n| row(n, 10, 1_000))).unwrap();
        store.finish_round(&mark(1)).unwrap();
        drop(store);
        let aside = CheckpointStore::set_aside(&MachineDisk, &path).unwrap();
        assert_eq!(aside, root.path().join(format!("checkpoint.damaged-{n}")));
        assert!(aside.join("db").exists());
    }
    assert_eq!(CheckpointStore::open(&MachineDisk, &path).unwrap().row_count(), 0);
}

#[test]
fn a_store_ruined_anywhere_is_whole_or_says_so_or_is_an_earlier_whole() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint");
    let store = CheckpointStore::open(&MachineDisk, &path).unwrap();
    let mut rounds = vec![(Vec::new(), Vec::new())];
    for round in 1..=3_u64 {
        store.put((0..300).map(|n| row(n, round * 1_000 + u64::from(n), 2_000))).unwrap();
        store.finish_round(&mark(round)).unwrap();
        rounds.push((all(&store), store.marks().unwrap()));
    }
    drop(store);
    let whole = std::fs::read(path.join("db")).unwrap();
    let (mut ruined, mut told) = (0, 0);
    for at in (0..whole.len()).step_by(whole.len() / 23) {
        let copy = root.path().join(format!("ruined-{at}"));
        crate::support::copy_directory(&path, &copy);
        let mut bytes = whole.clone();
        let end = whole.len().min(at + 40_000);
        bytes[at..end].fill(0xa5);
        std::fs::write(copy.join("db"), &bytes).unwrap();
        ruined += 1;
        let seen = std::panic::catch_unwind(|| {
            let store = CheckpointStore::open(&MachineDisk, &copy)?;
            let marks = store.marks()?;
            let mut rows = Vec::new();
            store.for_each(|row| rows.push(row))?;
            Ok::<_, doorbuster_persistence::error::CheckpointError>((rows, marks))
        });
        match seen {
            Ok(Ok((rows, marks))) => {
                let newest = marks.first().map(|mark| mark.replay_from_frame.0);
                // Rows may run ahead of the newest mark (a round in progress), never behind it.
                let whole = rounds.iter().any(|(known, _)| *known == rows);
                assert!(
                    whole || newest.is_none_or(|n| rows.iter().all(|r| r.sequence >= n * 1_000)),
                    "at {at}"
                );
            }
            Ok(Err(_)) | Err(_) => told += 1,
        }
    }
    // How much sled itself repairs depends on where its threads put things; only lies are forbidden.
    assert!(ruined > 20 && told <= ruined, "{told} of {ruined}");
}
