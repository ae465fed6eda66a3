//! The last of the journal's room: whoever is refused for want of it has found none, and what ends something comes again once
//! there is some.

use std::sync::Arc;
use std::time::Duration;

use doorbuster_actors::{Engine, EngineOptions};
use doorbuster_engine::answer::Refusal;

use crate::failing_store::UnkindDisk;
use crate::harness::{define, record, reserve, sku, stock, ticket};
use crate::shells::apart;
use crate::stepped::{Seeded, live_with};

const SEGMENT_BYTES: usize = 64 << 10;

/// What callers leave for turns that end something: an eighth of a frame, which is a quarter of a segment.
const HEADROOM_BYTES: usize = (SEGMENT_BYTES - 64) / 4 / 8;

/// Takes room by counting units until it is refused.
async fn take_room(engine: &Engine, name: &str) {
    for n in 0.. {
        let ticket = ticket(engine, &format!("count {name} {n}"), "");
        match engine.adjust(ticket, sku(name), 1, "count".into(), None).await {
            Ok(_) => {}
            Err(Refusal::StorageFull { .. }) => return,
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// From now on there is no room for a further segment, and after a time there is again.
fn full_for(disk: &UnkindDisk, time: Duration) {
    disk.0.lock().takes_no_file = true;
    let disk = disk.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(time).await;
        disk.0.lock().takes_no_file = false;
    });
}

#[test]
fn a_turn_is_refused_only_where_the_room_it_misses_is_not_there() {
    let data = tempfile::tempdir().unwrap();
    let (disk, no_room) = (UnkindDisk::default(), Arc::default());
    let host = |options: &mut EngineOptions| {
        options.segment_bytes = SEGMENT_BYTES as u64;
        options.disk = Arc::new(disk.clone());
        Seeded { no_room: Arc::clone(&no_room), ..Seeded::new(1) }
    };
    live_with(data.path(), host, async |engine, _| {
        let (first, second, _) = apart(&engine);
        for name in [first, second] {
            define(&engine, name, 1_000).await;
            for n in 0..60 {
                record(reserve(&engine, &format!("{name} {n}"), &[(name, 1)], Some(4_000)).await);
            }
        }
        full_for(&disk, Duration::from_secs(8));
        for name in [first, second] {
            take_room(&engine, name).await;
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        let seen = no_room.lock().unwrap().clone();
        for ends_something in [false, true] {
            let mut such = seen.iter().filter(|seen| seen.ends_something == ends_something).peekable();
            assert!(such.peek().is_some(), "somebody found none: ends something: {ends_something}");
            let kept = if ends_something { 0 } else { HEADROOM_BYTES };
            for seen in such {
                let missing = seen.wanted_bytes - seen.in_hand_bytes;
                assert!(seen.claimable_bytes < missing + kept, "law 4: {seen:?}");
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        for name in [first, second] {
            assert_eq!(
                stock(&engine, name).await.reserved,
                0,
                "law 6: {name}: what found no room came again"
            );
        }
    });
}
