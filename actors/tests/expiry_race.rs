//! A sale at the very millisecond at which its reservation ends: one of the two happens, once (law 2).
//!
//! The whole engine in one thread on a paused clock, so that both arrive within the same millisecond for certain. 10,000
//! races by default; `DOORBUSTER_RACES=100000 cargo test -p doorbuster-actors --test main race` runs more.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use doorbuster_engine::answer::{Answer, Refusal, ReservationState};
use doorbuster_engine::event::Event;
use doorbuster_engine::identity::ReservationId;
use doorbuster_engine::stock::StockEvent;
use doorbuster_persistence::codec::records;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::writer::Durability;
use tokio::time::Instant;

use crate::harness::{define, record, reserve, stock, ticket};
use crate::stepped::{NOON_MS, live_on};

const SKUS: [&str; 3] = ["TEE", "CUP", "CAP"];

/// Races at a time; then the clock goes on to the next.
const HEAT: usize = 500;

/// Where from its deadline a sale comes, in milliseconds.
const OFFSETS_MS: [i64; 7] = [-2, -1, -1, 0, 0, 1, 2];

/// What became of one reservation, as the journal tells it: times in milliseconds.
#[derive(Debug, Default)]
struct Fate {
    due: u64,
    sold_at: Vec<u64>,
    expired_at: Vec<u64>,
}

#[test]
fn a_race_of_sale_and_expiry_has_one_winner_and_the_clock_is_the_judge() {
    let races: usize = std::env::var("DOORBUSTER_RACES").map_or(10_000, |text| text.parse().unwrap());
    let units = i64::try_from(races).unwrap();
    let data = tempfile::tempdir().unwrap();
    let quick = |options: &mut doorbuster_actors::EngineOptions| {
        // Nothing is killed here.
        options.durability = Durability::Memory;
        options.limits.checkpoint_interval = Duration::from_secs(10);
    };
    let told = live_on(data.path(), 1, quick, async |engine, stepped| {
        let noon = Instant::now();
        for name in SKUS {
            define(&engine, name, units).await;
        }
        let mut told = BTreeMap::new();
        for first in (0..races).step_by(HEAT) {
            // The wheel turns at whole tenths of a second: there the timer rings in the very millisecond of the deadline.
            let due = noon + Duration::from_millis((since(noon) / 100 + 2) * 100);
            let mut heat = Vec::new();
            for n in first..races.min(first + HEAT) {
                let engine = engine.clone();
                let race = async move {
                    let ttl_ms = since(noon).abs_diff(u64::try_from((due - noon).as_millis()).unwrap());
                    let held =
                        reserve(&engine, &format!("hold {n}"), &[(SKUS[n % 3], 1)], Some(ttl_ms)).await;
                    let held = record(held);
                    let at_ms =
                        (held.expires_at.0 - NOON_MS).saturating_add_signed(OFFSETS_MS[n % OFFSETS_MS.len()]);
                    tokio::time::sleep_until(noon + Duration::from_millis(at_ms)).await;
                    (held.id, engine.commit(ticket(&engine, &format!("sell {n}"), ""), held.id).await)
                };
                let race = stepped.borrow().at_worker(n % 3, race);
                heat.push(tokio::task::spawn_local(race));
            }
            for race in heat {
                let (id, verdict) = race.await.unwrap();
                told.insert(id, verdict);
            }
        }
        // The last timers ring.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut sold = 0;
        for name in SKUS {
            let seen = stock(&engine, name).await;
            assert_eq!((seen.reserved, seen.on_hand), (0, units - seen.sold), "laws 1 and 2: {name}");
            sold += seen.sold;
        }
        for (id, verdict) in &told {
            let state = record(engine.reservation(*id).await).state;
            let expected =
                if verdict.is_ok() { ReservationState::Committed } else { ReservationState::Expired };
            assert_eq!(state, expected, "law 2: {id} was told {verdict:?}");
            match verdict {
                Ok(reply) => {
                    assert!(matches!(&reply.answer, Answer::Reservation(held) if held.state == state));
                }
                Err(refusal) => assert_eq!(*refusal, Refusal::ReservationExpired, "law 4: {id}"),
            }
        }
        let granted = told.values().filter(|verdict| verdict.is_ok()).count();
        assert_eq!(usize::try_from(sold).unwrap(), granted, "law 1: what was sold is what was granted");
        told
    });
    let fates = fates(data.path());
    assert_eq!((fates.len(), told.len()), (races, races));
    let (mut sold, mut in_the_same_ms) = (0, 0);
    for (id, fate) in &fates {
        assert_eq!(fate.sold_at.len() + fate.expired_at.len(), 1, "law 2: {id} ends once: {fate:?}");
        assert_eq!(told[id].is_ok(), fate.expired_at.is_empty(), "law 4: {id}: {fate:?}");
        assert!(fate.sold_at.iter().all(|at| *at < fate.due), "a deadline is exclusive: {id}: {fate:?}");
        assert!(fate.expired_at.iter().all(|at| *at >= fate.due), "law 2: {id} expired early: {fate:?}");
        sold += fate.sold_at.len();
        in_the_same_ms += fate.expired_at.iter().filter(|at| **at == fate.due).count();
    }
    assert!(sold > races / 4 && sold < races * 3 / 4, "both win: {sold} of {races} were sold");
    assert!(
        in_the_same_ms > races / 4,
        "they meet: {in_the_same_ms} timers rang in the millisecond of a sale"
    );
    println!(
        "{races} races: {sold} sold, {} expired, {in_the_same_ms} of them in the deadline's millisecond",
        races - sold
    );
}

fn since(noon: Instant) -> u64 {
    u64::try_from(noon.elapsed().as_millis()).unwrap()
}

fn fates(data: &Path) -> BTreeMap<ReservationId, Fate> {
    let directory = DataDirectory::open(data).unwrap();
    let mut reader = JournalReader::open(directory.paths(), directory.engine(), FrameNumber::FIRST).unwrap();
    let mut fates: BTreeMap<_, Fate> = BTreeMap::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        for record in records(frame.body) {
            let record = record.unwrap();
            let at_ms = record.header.at_ms;
            match record.entry().unwrap().event {
                Event::Stock(StockEvent::Reserved { reservation, ttl_ms, .. }) => {
                    fates.entry(reservation).or_default().due = at_ms + ttl_ms;
                }
                Event::Stock(StockEvent::Committed { reservation }) => {
                    fates.entry(reservation).or_default().sold_at.push(at_ms);
                }
                Event::Stock(StockEvent::Expired { reservation }) => {
                    fates.entry(reservation).or_default().expired_at.push(at_ms);
                }
                _ => {}
            }
        }
    }
    fates
}
