//! A caller's command: told before, joined, decided, refused; and who waits for which verdict.

use doorbuster_engine::answer::{Answer, Missing, Refusal};
use doorbuster_engine::cart::CartStatus;
use doorbuster_engine::command::Command;
use doorbuster_engine::ended::{self, EndedAction};
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{RequestStamp, ReservationId};
use doorbuster_engine::reservation::ReservationCommand;
use doorbuster_engine::stock::StockCommand;
use doorbuster_engine::world::Snapshot;
use tokio::time::Instant;

use crate::index::{Home, Stage};
use crate::message::{Body, Client, Parcel, Slot};
use crate::types::Reply;
use crate::worker::Pending;

use super::stock::Patience;
use super::{Applied, EntityActor};

impl EntityActor {
    pub(super) fn client(&mut self, client: Client, sent: Instant, now: Instant, patience: Patience) {
        let Client { command, ticket, slot, claim } = client;
        if now > ticket.deadline {
            // Nothing was decided, so this is a definite refusal, not a time-out.
            metrics::counter!("doorbuster_actor_expired_total", "kind" => self.entity.kind()).increment(1);
            self.worker.reply_now(slot, Err(Refusal::DeadlineExceeded));
            return;
        }
        let request = ticket.stamp;
        if ticket.keyed
            && let Some(answer) = self.told_before(request, &command)
        {
            self.replay(slot, answer);
            return;
        }
        if patience.lasts(now) && self.should_park(&command) {
            let body = Body::Client(Client { command, ticket, slot, claim });
            self.park(Parcel { to: self.entity.clone(), sent, body }, patience);
            return;
        }
        let name = command.name();
        let ended_action = ended_action(&command);
        let creates = matches!(
            command,
            Command::Stock(StockCommand::Reserve(_))
                | Command::Reservation(ReservationCommand::Request { .. })
        );
        self.waiters.push((request, slot));
        let applied = self.apply(command, Some(request), ticket.keyed);
        self.stats.remember(self.worker.now(), name, applied.name());
        match applied {
            Applied::Changed => {
                if ticket.keyed && self.waiters.iter().any(|(waiting, _)| waiting.key == request.key) {
                    // A saga has it in hand from here: a copy of it joins, and the key stays taken.
                    self.worker.shared.index.open(request, Home::of(&self.entity));
                }
                self.hand_on_checkout(request);
            }
            Applied::Joined => self.hand_on_checkout(request),
            Applied::Answered(answer) => {
                if let Some(slot) = self.take_waiter(request) {
                    let reply = Reply { answer, replayed: creates };
                    self.worker.when_durable(Pending::Reply(slot, Ok(reply)));
                }
            }
            Applied::Refused(refusal) => {
                if let Some(slot) = self.take_waiter(request) {
                    self.refuse_client(slot, refusal, ended_action);
                }
            }
            Applied::Nothing => {
                if let Some(slot) = self.take_waiter(request) {
                    self.worker.reply_now(slot, Err(Refusal::InProgress { retry_after_ms: 500 }));
                }
            }
        }
        drop(claim);
    }

    /// Says an earlier answer again, once whoever gave it has it on disk: a checkout's is the order's.
    fn replay(&self, slot: Slot, answer: Answer) {
        let told_by = if let Answer::Checkout(_, order) = &answer {
            EntityKey::Order(order.id)
        } else {
            self.entity.clone()
        };
        let verdict = Ok(Reply { answer, replayed: true });
        self.worker.send(Parcel::new(told_by, Body::Fence(slot, verdict)));
    }

    /// The answer this request had before, if it had one.
    pub(super) fn told_before(&self, request: RequestStamp, command: &Command) -> Option<Answer> {
        match self.worker.shared.index.stage(request.key)? {
            Stage::Settled(answer) => Some((*answer).clone()),
            Stage::Ended(record) => match command {
                Command::Stock(StockCommand::Reserve(_))
                | Command::Reservation(ReservationCommand::Request { .. }) => {
                    Some(Answer::Reservation(record.first()))
                }
                Command::Stock(_) | Command::Reservation(_) | Command::Cart(_) | Command::Order(_) => None,
            },
            Stage::Claimed | Stage::Open(_) => None,
        }
    }

    /// Says a refusal: at once where it promises nothing, else when what it reflects is durable. A reservation that is
    /// no longer held here may have ended; then its record answers.
    pub(super) fn refuse_client(
        &self,
        slot: Slot,
        refusal: Refusal,
        action: Option<(ReservationId, EndedAction)>,
    ) {
        let verdict = match (&refusal, action) {
            (Refusal::NotFound(Missing::Reservation), Some((id, action))) => {
                match self.worker.shared.index.stage(id.request_key()) {
                    Some(Stage::Ended(record)) => ended::decide(&record, action),
                    Some(Stage::Claimed | Stage::Open(_) | Stage::Settled(_)) | None => Err(refusal),
                }
            }
            (
                Refusal::InsufficientStock(_)
                | Refusal::Validation(_)
                | Refusal::Overloaded { .. }
                | Refusal::StorageFull { .. }
                | Refusal::PaymentUnavailable { .. }
                | Refusal::DeadlineExceeded,
                _,
            ) => {
                self.worker.reply_now(slot, Err(refusal));
                return;
            }
            _ => Err(refusal),
        };
        let verdict = verdict.map(|answer| Reply { answer, replayed: false });
        self.worker.when_durable(Pending::Reply(slot, verdict));
    }

    /// Lets a copy of a running request wait with it, or answers it if the verdict is known.
    pub(super) fn join(&mut self, request: RequestStamp, slot: Slot) {
        match self.worker.shared.index.stage(request.key) {
            Some(Stage::Settled(answer)) => {
                let reply = Reply { answer: (*answer).clone(), replayed: true };
                self.worker.when_durable(Pending::Reply(slot, Ok(reply)));
            }
            Some(Stage::Open(_)) if self.will_tell(request) => {
                self.waiters.push((request, slot));
            }
            Some(Stage::Claimed | Stage::Open(_) | Stage::Ended(_)) | None => {
                self.worker.reply_now(slot, Err(Refusal::InProgress { retry_after_ms: 500 }));
            }
        }
    }

    /// Whether what runs here ends with a verdict for this request. An order may have told its checkout so long ago that the
    /// answer is forgotten: nobody would ever tell a copy that waits for it, and the order could not leave memory (law 11).
    fn will_tell(&self, request: RequestStamp) -> bool {
        match &self.snapshot {
            Snapshot::Order(order) => order.requests().iter().any(|open| open.key == request.key),
            Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_) => {
                self.saga.is_running() || self.snapshot.is_resident()
            }
        }
    }

    /// A checkout is answered by the order, so whoever waits for it here waits there from now on.
    pub(super) fn hand_on_checkout(&mut self, request: RequestStamp) {
        let Snapshot::Cart(cart) = &self.snapshot else { return };
        let CartStatus::CheckingOut { draft, .. } = cart.status() else { return };
        let order = EntityKey::Order(draft.order);
        if let Some(slot) = self.take_waiter(request) {
            self.worker.send(Parcel::new(order, Body::Await(request, slot)));
        }
    }

    pub(super) fn take_waiter(&mut self, request: RequestStamp) -> Option<Slot> {
        let at = self.waiters.iter().position(|(waiting, _)| waiting.key == request.key)?;
        Some(self.waiters.swap_remove(at).1)
    }

    pub(super) fn fail_waiters(&mut self, refusal: &Refusal) {
        for (_, slot) in std::mem::take(&mut self.waiters) {
            self.worker.reply_now(slot, Err(refusal.clone()));
        }
    }
}

fn ended_action(command: &Command) -> Option<(ReservationId, EndedAction)> {
    match command {
        Command::Stock(StockCommand::Commit { reservation }) => Some((*reservation, EndedAction::Commit)),
        Command::Stock(StockCommand::Release { reservation }) => Some((*reservation, EndedAction::Release)),
        Command::Stock(StockCommand::Extend { reservation, .. }) => Some((*reservation, EndedAction::Extend)),
        Command::Stock(_) | Command::Reservation(_) | Command::Cart(_) | Command::Order(_) => None,
    }
}
