//! A worker's loops besides its actors: what other threads tell it, and the sweep that fires timers, retries what found
//! no room, and lets idle actors go.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use doorbuster_engine::cart::CartCommand;
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::order::OrderCommand;
use doorbuster_engine::reservation::ReservationCommand;
use doorbuster_engine::stock::StockCommand;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::checkpointer::Portion;
use crate::message::{Body, Parcel};
use crate::worker::{Changes, Due, Inbound, Pending, Round, Worker};

/// Time between sweeps: with the wheel's slots it keeps an expiry within a quarter of a second.
const SWEEP: Duration = Duration::from_millis(50);

/// Most timers fired in one go, so that an expiry storm leaves room for everybody else: half a millisecond of turns, after
/// which whatever else has come gets its turn.
const DUE_MAX: usize = 256;

/// Most states asked for at a time in a checkpoint round, for the same reason.
const SLICE: usize = 128;

/// Entities looked at for idleness in a second: a look is a few hundred nanoseconds.
const LOOKED_AT_MAX: usize = 32_768;

/// Portions that may wait for the checkpointer while a round hands over more: a few megabytes.
const PORTIONS_MAX: usize = 4_096;

/// Hears what other threads tell this worker.
pub(crate) async fn listen(worker: Rc<Worker>, mut inbox: mpsc::UnboundedReceiver<Inbound>) {
    while let Some(inbound) = inbox.recv().await {
        match inbound {
            Inbound::Durable(number) => worker.durable(number),
            Inbound::Parcels(parcels) => {
                for parcel in parcels {
                    worker.dispatch(parcel);
                }
            }
            Inbound::Replies(replies) => {
                for (slot, verdict) in replies {
                    slot.say(verdict);
                }
            }
            Inbound::Loaded(entity, found) => worker.loaded(entity, found),
            Inbound::Rebuilt(entity, found) => worker.rebuilt(&entity, found),
            Inbound::Checkpoint { round } => {
                actix_rt::spawn(checkpoint(Rc::clone(&worker), round));
            }
            Inbound::Survey(survey, answer) => {
                let _ = answer.send(worker.survey(survey));
            }
            Inbound::Orders(below, answer) => {
                let _ = answer.send(worker.orders_below(below));
            }
        }
    }
}

/// Fires timers, retries deferred steps, lets idle actors go.
pub(crate) async fn sweep(worker: Rc<Worker>) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sweeps: u64 = 0;
    loop {
        tick.tick().await;
        sweeps = sweeps.wrapping_add(1);
        if worker.shared.clock.expiry_may_run() {
            fire_timers(&worker).await;
        }
        for sku in worker.take_parked(Instant::now()) {
            worker.dispatch(Parcel::new(EntityKey::Sku(sku), Body::Unpark));
        }
        for parcel in worker.take_deferred() {
            worker.dispatch(parcel);
        }
        if sweeps.is_multiple_of(20) {
            retire_idle(&worker);
            worker.give_room_back();
        }
    }
}

async fn fire_timers(worker: &Rc<Worker>) {
    loop {
        let due = worker.wheel.borrow_mut().take_due(worker.now(), DUE_MAX);
        let full = due.len() == DUE_MAX;
        for entry in due {
            match entry {
                Due::Reservation(sku, reservation) => {
                    let expire = Command::Stock(StockCommand::Expire { reservation });
                    worker.dispatch(Parcel::new(EntityKey::Sku(sku), Body::Internal(expire)));
                }
                Due::Entity(entity) => {
                    if let Some(command) = due_command(&entity) {
                        worker.dispatch(Parcel::new(entity, Body::Internal(command)));
                    }
                }
            }
        }
        if !full {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// What a timer says to an entity; a SKU's timers belong to its reservations.
pub(crate) fn due_command(entity: &EntityKey) -> Option<Command> {
    match entity {
        EntityKey::Sku(_) => None,
        EntityKey::Reservation(_) => Some(Command::Reservation(ReservationCommand::Expire)),
        EntityKey::Cart(_) => Some(Command::Cart(CartCommand::Expire)),
        EntityKey::Order(_) => Some(Command::Order(OrderCommand::Wake)),
    }
}

fn retire_idle(worker: &Rc<Worker>) {
    let limits = &worker.shared.limits;
    let now = Instant::now();
    let (Some(sleep), Some(passivate)) =
        (now.checked_sub(limits.sleep_after), now.checked_sub(limits.passivate_after))
    else {
        return;
    };
    for entity in worker.idle_since(sleep, passivate, LOOKED_AT_MAX) {
        worker.dispatch(Parcel::new(entity, Body::Retire));
    }
}

/// Hands over everything that changed since the last round, a slice at a time.
async fn checkpoint(worker: Rc<Worker>, number: u64) {
    let Changes { changed, mut gone, sequences } = worker.take_changes();
    let awaited = changed.iter().cloned().collect();
    *worker.round.borrow_mut() = Round { number, awaited, failed: false };
    // Before the rows, and after the records of what has ended: under a name that began again a row must have the last word.
    worker.save_remembered();
    if !gone.is_empty() {
        worker.when_durable(Pending::Portion(Box::new(Portion::Gone(gone.clone()))));
    }
    for slice in changed.chunks(SLICE) {
        for entity in slice {
            worker.dispatch(Parcel::new(entity.clone(), Body::Checkpoint));
        }
        tokio::task::yield_now().await;
        while worker.shared.portions_waiting.load(Ordering::Relaxed) > PORTIONS_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    while !worker.round.borrow().awaited.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    worker.save_remembered();
    // What ended meanwhile left without handing its state over: its row must not stay behind the mark half told (law 10).
    let ended = worker.take_gone();
    if !ended.is_empty() {
        worker.when_durable(Pending::Portion(Box::new(Portion::Gone(ended.clone()))));
    }
    gone.extend(ended);
    worker.handed_over(number, changed, gone);
    let failed = worker.round.borrow().failed;
    let done = Portion::Done { round: number, failed, sequences: Box::new(sequences) };
    worker.when_durable(Pending::Portion(Box::new(done)));
}
