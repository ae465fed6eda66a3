//! The checkpoint's rows while the engine serves, held against the model: a row shows what its entity was after the record it
//! says it reflects, and never a record that is not durable. Law 10.

use std::collections::BTreeMap;
use std::path::Path;

use doorbuster_engine::answer::ReservationState;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::stock::Stock;
use doorbuster_engine::world::Snapshot;
use doorbuster_persistence::checkpoint::{CheckpointStore, EntityRow, Residence};
use doorbuster_persistence::codec::decode_stored;
use doorbuster_persistence::error::CheckpointError;

use crate::broken::{Broken, Checked, demand};
use crate::disk::Machine;
use crate::journal::first_frame;
use crate::model::Model;
use crate::world::ROOT;

/// Holds all rows that the store shows now against the model.
pub fn check(model: &Model, disk: &Machine) -> Checked {
    let copy = disk.fork_stores();
    let disk = copy.boot();
    let path = Path::new(ROOT).join("checkpoint");
    if !disk.exists(&path) {
        return Ok(());
    }
    let mut checked = Ok(());
    let read = CheckpointStore::open(&*disk, &path).and_then(|store| {
        store.for_each(|row| {
            if checked.is_ok() {
                checked = check_row(model, &row);
            }
        })
    });
    read.map_err(|error: CheckpointError| Broken {
        law: 10,
        seen: format!("the checkpoint in use cannot be read: {error}"),
    })?;
    checked
}

/// Segments were just archived: the one that is now the first of the live ones begins no later than the replay of the older
/// mark, so that either mark does without the archive. Law 9.
pub fn check_archive(disk: &Machine) -> Checked {
    let Some(begins) = first_live_frame(disk) else { return Ok(()) };
    let copy = disk.fork_stores();
    let disk = copy.boot();
    let read =
        CheckpointStore::open(&*disk, &Path::new(ROOT).join("checkpoint")).and_then(|store| store.marks());
    let marks =
        read.map_err(|error| Broken { law: 10, seen: format!("the marks cannot be read: {error}") })?;
    let needed = marks.get(1).map_or(1, |older| older.replay_from_frame.0);
    demand(begins <= needed, 9, || {
        format!(
            "the live journal begins with frame {begins} after archiving, a mark replays from frame {needed}"
        )
    })
}

fn first_live_frame(disk: &Machine) -> Option<u64> {
    let live = disk.list(&Path::new(ROOT).join("journal"));
    let first = live.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "segment"))?;
    let mut begins = None;
    disk.with_synced_file(&first, &mut |bytes| begins = first_frame(bytes));
    begins
}

fn check_row(model: &Model, row: &EntityRow) -> Checked {
    let EntityRow { entity, sequence, residence, blob } = row;
    let durable = model.durable_sequence(entity.partition());
    demand(*sequence <= durable, 10, || {
        format!("the row of {entity} reflects record {sequence} of its partition, {durable} are durable")
    })?;
    if *residence == Residence::Gone {
        return Ok(());
    }
    let snapshot: Snapshot = decode_stored(blob)
        .map_err(|error| Broken { law: 10, seen: format!("the row of {entity} is unreadable: {error}") })?;
    let (shows, was) = match (&snapshot, entity) {
        (Snapshot::Stock(stock), EntityKey::Sku(sku)) => {
            check_holds(model, sku, stock, *sequence)?;
            let was = model.shelves.get(sku).and_then(|shelf| shelf.past.up_to(*sequence));
            (was == Some(&stock.view()), format!("{was:?}"))
        }
        (Snapshot::Cart(cart), EntityKey::Cart(id)) => {
            let was = model.carts.get(&id.0).and_then(|cart| cart.past.up_to(*sequence));
            // A cart that is gone is shown to nobody.
            (was.is_some_and(|was| was.as_ref().is_none_or(|was| *was == cart.view())), format!("{was:?}"))
        }
        (Snapshot::Order(order), EntityKey::Order(id)) => {
            let was = model.orders.get(&id.0).and_then(|order| order.past.up_to(*sequence));
            (was == Some(&order.view()), format!("{was:?}"))
        }
        (Snapshot::Reservation(reservation), EntityKey::Reservation(id)) => {
            let was = model.sagas.get(&id.0).and_then(|saga| saga.past.up_to(*sequence));
            (was == Some(&reservation.record()), format!("{was:?}"))
        }
        _ => (false, "something else".to_owned()),
    };
    demand(shows, 10, || {
        format!("the row of {entity} reflects record {sequence} and shows {snapshot:?}; then it was {was}")
    })
}

/// What a SKU's row says is held by callers, and until when.
fn check_holds(model: &Model, sku: &Sku, stock: &Stock, sequence: u64) -> Checked {
    let mut were: BTreeMap<u128, (i64, u64)> = BTreeMap::new();
    for (id, single) in model.singles.iter().filter(|(_, single)| single.sku == *sku) {
        if let Some(Some(record)) = single.past.up_to(sequence)
            && record.state == ReservationState::Held
        {
            were.insert(*id, (single.quantity, record.expires_at.0));
        }
    }
    let mut are: BTreeMap<u128, (i64, u64)> = BTreeMap::new();
    for (key, _, expires_at) in stock.reservations() {
        let quantity = stock
            .reservation(key.reservation())
            .map_or(0, |record| record.items.iter().map(|item| item.quantity).sum());
        are.insert(key.0, (quantity, expires_at.0));
    }
    demand(are == were, 10, || {
        format!("the row of {sku} reflects record {sequence} and holds {are:?}, then it was {were:?}")
    })
}
