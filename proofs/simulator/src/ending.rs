//! The end of a history: nothing goes wrong any more, every verdict that is owed must come, all work must end, and what is left
//! must add up. Start at [`Life::finish`].

use std::time::Duration;

use doorbuster_engine::answer::Item;
use doorbuster_engine::identity::OrderId;

use crate::ask::Ask;
use crate::broken::{Broken, demand};
use crate::clients::{self, SKUS, enter, sku};
use crate::common::Common;
use crate::ledger::{Origin, Status};
use crate::provider::lock;
use crate::world::{Durable, Life};
use crate::{night, pinch, postman};

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

    /// Asks for a verdict that is owed, and finds fault with one that does not come. `None` when the life ended meanwhile.
    async fn settle(&self, number: usize) -> Option<()> {
        let within = Duration::from_millis(ENDS_WITHIN_MS);
        match tokio::time::timeout(within, clients::insist(&self.common, &self.engine, number)).await {
            Ok(insisted) => insisted,
            Err(_) => {
                let mut common = lock(&self.common);
                let left = common.model.unfinished();
                let law = left.iter().map(|(law, _)| *law).max().unwrap_or(6);
                let ask = common.requests[number].ask.clone();
                let left: Vec<String> = left.into_iter().map(|(_, what)| what).collect();
                common.fail(Broken { law, seen: format!("{ask:?} has no verdict; {}", left.join("; ")) });
                None
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
            if self.settle(number).await.is_none() {
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
            match self.look_for_the_end(began_ms) {
                Some(true) => break,
                Some(false) => {}
                None => return,
            }
            if postman::deliver_all(&self.common, &self.engine).await.is_none() {
                return;
            }
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
        let mut random = lock(&self.common).random.fork();
        night::pass(&self.common, &self.engine, &self.stepped, &mut random).await;
        let mut common = lock(&self.common);
        let checked = check_books(&common);
        common.note(checked);
        let checked = common.model.check_sums();
        common.note(checked);
        common.dead = true;
    }

    /// Whether everything has ended and was told; `None` where the life ended first, or a law is broken.
    fn look_for_the_end(&self, began_ms: u64) -> Option<bool> {
        let mut common = lock(&self.common);
        if common.dead || common.broken.is_some() {
            return None;
        }
        let left = common.model.unfinished();
        common.note_payments();
        let told = common.ledger.tales.iter().all(|tale| tale.taken > 0);
        if left.is_empty() && told && !common.ledger.is_settling() {
            return Some(true);
        }
        let took_ms = common.clock.now_ms() - began_ms;
        // Money left behind comes first: it is why the work should have ended.
        let law = left.iter().map(|(law, _)| *law).max().unwrap_or(6);
        let checked = demand(took_ms < ENDS_WITHIN_MS, law, || {
            let left: Vec<String> = left.into_iter().map(|(_, what)| what).collect();
            format!("all has been well for {took_ms} ms, and still: {}", left.join("; "))
        });
        common.note(checked);
        Some(false)
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

/// Law 7: the provider's books and the orders agree to the penny, whoever's money is where the orders say it is, and units are
/// sold where they are paid for.
fn check_books(common: &Common) -> Result<(), Broken> {
    for (id, order) in &common.model.orders {
        let id = OrderId(*id);
        order.check_paid_for()?;
        let view = order.past.last();
        let says = view.map(|view| (view.captured.amount, view.refunded.amount));
        let own = order.reference().filter(|_| order.is_placed());
        let booked = own.map_or((0, 0), |own| common.ledger.money(own));
        demand(says == Some(booked), 7, || {
            format!("{id} says captured and refunded are {says:?}, the provider says {booked:?}")
        })?;
        for (reference, payment, status) in common.ledger.payments_of(id) {
            if own == Some(reference) || payment.origin == Origin::OtherAmount {
                continue;
            }
            let (taken, back) = common.ledger.money(reference);
            let kept = order.keeps(reference);
            demand(status != Status::Authorized && (taken == back || kept), 7, || {
                format!(
                    "{id} is {:?}, and the provider has {reference} as {status:?}: {payment:?}",
                    order.stage
                )
            })?;
        }
        let held = own.and_then(|own| common.ledger.payment(own)).map(|(_, status)| status);
        demand(held != Some(Status::Authorized), 7, || format!("{id}: the provider still holds its money"))?;
    }
    Ok(())
}
