//! The end of a history: nothing goes wrong any more, every verdict that is owed must come, all work must end, and what is left
//! must add up. Start at [`Life::finish`].

use std::time::Duration;

use doorbuster_engine::answer::Item;
use doorbuster_engine::identity::OrderId;

use crate::ask::Ask;
use crate::broken::{Broken, demand};
use crate::clients::{self, SKUS, enter, sku};
use crate::common::Common;
use crate::provider::lock;
use crate::world::{Durable, Life};
use crate::{night, pinch};

/// Longest time all work may take to end once all is well: the longest pause of a look-up, four times.
const ENDS_WITHIN_MS: u64 = 120_000;

impl Life {
    /// All work has ended: within a second the last record is on the disk, and no room is held back any more.
    async fn rest(&self) {
        for attempt in 0..50 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let stepped = self.stepped.borrow();
            let mut common = lock(&self.common);
            if common.dead || common.broken.is_some() {
                return;
            }
            let left = common.walker.left_bytes(&Durable(&self.disk));
            let checked = common.check_room(stepped.room_bytes(), left);
            // A timer may have rung: then its record is still on the way.
            if checked.is_ok() || attempt == 49 {
                common.note(checked);
                return;
            }
        }
    }

    /// All is well from now on: every verdict must come, and all work must end.
    pub(crate) async fn finish(&self) {
        let owed: Vec<usize> = {
            let common = lock(&self.common);
            (0..common.requests.len()).filter(|at| common.requests[*at].owed).collect()
        };
        for number in owed {
            if clients::insist(&self.common, &self.engine, number).await.is_none() {
                return;
            }
        }
        // What was held before was armed by the start. These are held now, and nobody ends them but their timers.
        for name in SKUS {
            let ask = Ask::Reserve(vec![Item { sku: sku(name), quantity: 1 }], Some(700), false);
            let number = enter(&mut lock(&self.common), ask, Some(format!("last-{name}")));
            if clients::insist(&self.common, &self.engine, number).await.is_none() {
                return;
            }
        }
        if lock(&self.common).is_tight()
            && pinch::pinch(&self.common, &self.engine, &self.disk).await.is_none()
        {
            return;
        }
        let began_ms = lock(&self.common).clock.now_ms();
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let mut common = lock(&self.common);
            if common.dead || common.broken.is_some() {
                return;
            }
            let left = common.model.unfinished();
            if left.is_empty() {
                break;
            }
            let took_ms = common.clock.now_ms() - began_ms;
            let checked = demand(took_ms < ENDS_WITHIN_MS, 6, || {
                format!("all has been well for {took_ms} ms, and still: {}", left.join("; "))
            });
            common.note(checked);
        }
        // Long enough for the watch to find one that is overdue.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let everything = everything(&lock(&self.common), usize::MAX);
        for ask in everything {
            let number = enter(&mut lock(&self.common), ask, None);
            if clients::insist(&self.common, &self.engine, number).await.is_none() {
                return;
            }
        }
        self.rest().await;
        night::pass(&self.common, &self.stepped).await;
        let mut common = lock(&self.common);
        let checked = check_books(&common);
        common.note(checked);
        let checked = common.model.check_sums();
        common.note(checked);
        common.dead = true;
    }
}

/// Reads of everything there is, or of a part of it.
pub(crate) fn everything(common: &Common, most: usize) -> Vec<Ask> {
    let model = &common.model;
    let skus = model.shelves.keys().cloned().map(Ask::SeeStock);
    let held = model.singles.iter().filter(|(_, single)| single.is_held()).map(|(id, _)| *id);
    let sagas = model.sagas.iter().filter(|(_, saga)| saga.is_held()).map(|(id, _)| *id);
    let reservations =
        held.chain(sagas).map(|id| Ask::SeeReservation(doorbuster_engine::identity::ReservationId(id)));
    let carts =
        model.carts.keys().rev().take(most).map(|id| Ask::SeeCart(doorbuster_engine::identity::CartId(*id)));
    let orders = model.orders.keys().rev().take(most).map(|id| Ask::SeeOrder(OrderId(*id)));
    skus.chain(reservations).chain(carts).chain(orders).collect()
}

/// Law 7: the provider's books and the orders agree to the penny.
fn check_books(common: &Common) -> Result<(), Broken> {
    for (id, order) in &common.model.orders {
        let id = OrderId(*id);
        let (taken, back) = (common.ledger.captured(id), common.ledger.refunded(id));
        let view = order.past.last();
        let says = view.map(|view| (view.captured.amount, view.refunded.amount));
        demand(says == Some((taken, back)), 7, || {
            format!("{id} says captured and refunded are {says:?}, the provider says {taken} and {back}")
        })?;
    }
    Ok(())
}
