//! Calls on reservations.

use std::sync::Arc;

use doorbuster_engine::answer::{Answer, Item, Missing, Refusal, ReservationRecord, Shortage};
use doorbuster_engine::command::Command;
use doorbuster_engine::ended::{self, EndedAction};
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{OrderId, ReservationId};
use doorbuster_engine::reservation::ReservationCommand;
use doorbuster_engine::stock::{RESERVATION_TTL_MS, Reserve, StockCommand};
use doorbuster_engine::world::Snapshot;
use smallvec::SmallVec;

use crate::catalogue::Card;
use crate::engine::{Asked, Engine};
use crate::index::{Claim, Stage};
use crate::together::Together;
use crate::types::{Reply, ReserveRequest, Ticket, Verdict};

/// What a caller may do to a held reservation.
#[derive(Clone, Copy)]
enum Change {
    Extend(u64),
    Commit,
    Release,
}

impl Change {
    fn action(self) -> EndedAction {
        match self {
            Self::Extend(_) => EndedAction::Extend,
            Self::Commit => EndedAction::Commit,
            Self::Release => EndedAction::Release,
        }
    }

    fn of_sku(self, reservation: ReservationId) -> Command {
        Command::Stock(match self {
            Self::Extend(extend_ms) => StockCommand::Extend { reservation, extend_ms },
            Self::Commit => StockCommand::Commit { reservation },
            Self::Release => StockCommand::Release { reservation },
        })
    }

    fn of_coordinator(self) -> Command {
        Command::Reservation(match self {
            Self::Extend(extend_ms) => ReservationCommand::Extend { extend_ms },
            Self::Commit => ReservationCommand::Commit,
            Self::Release => ReservationCommand::Release,
        })
    }
}

impl Engine {
    /// Holds units of one SKU or of several, all or none (or on request what is left).
    ///
    /// A refusal for want of stock is answered from the SKU's card where the card is sure; the key is claimed first, so a
    /// retry of a granted request is never taken for a new one.
    pub async fn reserve(&self, ticket: Ticket, request: ReserveRequest) -> Verdict {
        let asked = self.asked(&ticket, request)?;
        self.ask_claimed(asked, ticket).await
    }

    /// The same for many independent requests, which are heard of together; the verdicts come in the order asked. The
    /// earliest deadline holds for all.
    pub async fn reserve_many(&self, requests: Vec<(Ticket, ReserveRequest)>) -> Vec<Verdict> {
        let Some(deadline) = requests.iter().map(|(ticket, _)| ticket.deadline).min() else {
            return Vec::new();
        };
        let (together, shares) = Together::of(requests.len());
        for ((ticket, request), share) in requests.into_iter().zip(shares) {
            match self.asked(&ticket, request) {
                Ok(asked) => self.ask_together(asked, ticket, share),
                Err(refusal) => share.say(Err(refusal)),
            }
        }
        together.all_said(deadline).await
    }

    /// Whom a reservation's request goes to, with its key claimed; or its refusal, if that is known without asking.
    fn asked(&self, ticket: &Ticket, mut request: ReserveRequest) -> Result<Asked, Refusal> {
        self.check_open()?;
        let mut cards: SmallVec<[Arc<Card>; 1]> = SmallVec::with_capacity(request.items.len());
        let mut missing = Vec::new();
        for item in &request.items {
            match self.shared.catalogue.card(item.sku.as_str()) {
                Some(card) => cards.push(card),
                None => missing.push(item.sku.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(Refusal::NotFound(Missing::Skus(missing)));
        }
        let claim = self.claim(ticket)?;
        if claim.as_ref().is_some_and(Claim::begins)
            && let Some(refusal) = sold_out(&request, &cards)
        {
            return Err(refusal);
        }
        let reservation = ticket.stamp.key.reservation();
        if request.items.len() == 1
            && let (Some(Item { sku, quantity }), Some(card)) = (request.items.pop(), cards.pop())
        {
            let command = Command::Stock(StockCommand::Reserve(Reserve {
                reservation,
                quantity,
                ttl_ms: request.ttl_ms,
                partial: request.partial,
                customer: request.customer.map(Into::into),
            }));
            return Ok(Asked { of: EntityKey::Sku(sku), command, card: Some(card), claim });
        }
        let ttl_ms = request.ttl_ms.or(cards.iter().filter_map(|card| card.reservation_ttl_ms()).min());
        let command = Command::Reservation(ReservationCommand::Request {
            items: request.items,
            ttl_ms: ttl_ms.unwrap_or(RESERVATION_TTL_MS),
            partial: request.partial,
            customer: request.customer,
        });
        Ok(Asked { of: EntityKey::Reservation(reservation), command, card: None, claim })
    }

    /// A reservation as it stands.
    pub async fn reservation(&self, id: ReservationId) -> Verdict {
        // It may end between the look into the index and the question to its actor; then the index knows the ending.
        for _ in 0..2 {
            match self.shared.index.stage(id.request_key()) {
                Some(Stage::Open(home)) => {
                    let found = self.held_at(home.entity(id.request_key()), id).await?;
                    if let Some(record) = found {
                        return Ok(fresh(record));
                    }
                }
                Some(Stage::Ended(record)) => {
                    let reply = fresh((*record).clone());
                    return self.fence_ended(&record, Ok(reply)).await;
                }
                Some(Stage::Claimed | Stage::Settled(_)) | None => break,
            }
        }
        let order = EntityKey::Order(OrderId(id.0));
        let found = self.query(order, |seen| match seen?.snapshot {
            Snapshot::Order(order) => order.reservation_record(),
            Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_) => None,
        });
        found.await?.map(fresh).ok_or_else(|| self.not_found(id))
    }

    /// No actor knows this reservation. If the request that makes it runs, that proves nothing: its actor may have recorded it
    /// and been lost before it could say so (law 4).
    fn not_found(&self, id: ReservationId) -> Refusal {
        match self.shared.index.stage(id.request_key()) {
            Some(Stage::Claimed) => Refusal::Recovering { retry_after_ms: 1_000 },
            Some(Stage::Open(_) | Stage::Ended(_) | Stage::Settled(_)) | None => {
                Refusal::NotFound(Missing::Reservation)
            }
        }
    }

    /// Lengthens a reservation's life.
    pub async fn extend(&self, ticket: Ticket, id: ReservationId, extend_ms: u64) -> Verdict {
        self.change(ticket, id, Change::Extend(extend_ms)).await
    }

    /// Gives a reservation's units back.
    pub async fn release(&self, ticket: Ticket, id: ReservationId) -> Verdict {
        self.change(ticket, id, Change::Release).await
    }

    /// Sells a reservation's units.
    pub async fn commit(&self, ticket: Ticket, id: ReservationId) -> Verdict {
        self.change(ticket, id, Change::Commit).await
    }

    async fn change(&self, ticket: Ticket, id: ReservationId, change: Change) -> Verdict {
        self.check_open()?;
        let claim = self.claim(&ticket)?;
        match self.shared.index.stage(id.request_key()) {
            Some(Stage::Open(home)) => {
                let entity = home.entity(id.request_key());
                let command = match &entity {
                    EntityKey::Reservation(_) => change.of_coordinator(),
                    EntityKey::Sku(_) | EntityKey::Cart(_) | EntityKey::Order(_) => change.of_sku(id),
                };
                let card = match &entity {
                    EntityKey::Sku(sku) => self.shared.catalogue.card(sku.as_str()),
                    EntityKey::Reservation(_) => None,
                    // The key names a cart's or order's request, not a reservation.
                    EntityKey::Cart(_) | EntityKey::Order(_) => {
                        return Err(Refusal::NotFound(Missing::Reservation));
                    }
                };
                let coordinated = matches!(entity, EntityKey::Reservation(_));
                let verdict = self.ask_claimed(Asked { of: entity, command, card, claim }, ticket).await;
                // A coordinator that is done has left; the index tells the rest.
                match (&verdict, self.shared.index.stage(id.request_key())) {
                    (Err(Refusal::NotFound(Missing::Reservation)), Some(Stage::Ended(record)))
                        if coordinated =>
                    {
                        self.after_the_end(&ticket, &record, change).await
                    }
                    _ => verdict,
                }
            }
            Some(Stage::Ended(record)) => self.after_the_end(&ticket, &record, change).await,
            Some(Stage::Claimed | Stage::Settled(_)) | None => self.change_of_order(id, change).await,
        }
    }

    /// A change of what has ended. It may have ended by this very request, of which this is a copy that came a moment later.
    async fn after_the_end(&self, ticket: &Ticket, record: &ReservationRecord, change: Change) -> Verdict {
        let verdict = match self.shared.index.stage(ticket.stamp.key) {
            Some(Stage::Settled(answer)) if ticket.keyed => {
                Ok(Reply { answer: (*answer).clone(), replayed: true })
            }
            Some(_) | None => {
                ended::decide(record, change.action()).map(|answer| Reply { answer, replayed: false })
            }
        };
        self.fence_ended(record, verdict).await
    }

    /// Says what an ended reservation's record shows, once the ending is durable: its SKU or its coordinator recorded it.
    async fn fence_ended(&self, record: &ReservationRecord, verdict: Verdict) -> Verdict {
        let verdict = self.fence(EntityKey::Reservation(record.id), verdict).await;
        match record.items.as_slice() {
            [only] => self.fence(EntityKey::Sku(only.sku.clone()), verdict).await,
            _ => verdict,
        }
    }

    /// Units of an order are the order's: nobody else commits, lengthens or releases them.
    async fn change_of_order(&self, id: ReservationId, change: Change) -> Verdict {
        let order = EntityKey::Order(OrderId(id.0));
        let known = self.query(order, |seen| match seen.map(|seen| seen.snapshot) {
            Some(Snapshot::Order(order)) => !order.is_absent(),
            Some(Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_)) | None => false,
        });
        if !known.await? {
            return Err(self.not_found(id));
        }
        let action = match change {
            Change::Extend(_) => "extend",
            Change::Commit => "commit",
            Change::Release => "release",
        };
        Err(Refusal::IllegalTransition {
            from: "held".into(),
            action: action.into(),
            detail: "it belongs to an order, which alone may end it".into(),
        })
    }

    async fn held_at(
        &self,
        home: EntityKey,
        id: ReservationId,
    ) -> Result<Option<ReservationRecord>, Refusal> {
        self.query(home, move |seen| match seen?.snapshot {
            Snapshot::Stock(stock) => stock.reservation(id),
            Snapshot::Reservation(reservation) => reservation.record(),
            Snapshot::Cart(_) | Snapshot::Order(_) => None,
        })
        .await
    }
}

fn fresh(record: ReservationRecord) -> Reply {
    Reply { answer: Answer::Reservation(record), replayed: false }
}

/// The refusal that the cards already show, if they do. Units a saga may give back count as there: whoever wants them
/// waits at the SKU instead.
fn sold_out(request: &ReserveRequest, cards: &[Arc<Card>]) -> Option<Refusal> {
    let mut shortages = Vec::new();
    let mut some_left = false;
    for (item, card) in request.items.iter().zip(cards) {
        let figures = card.figures();
        let within_reach = figures.within_reach();
        some_left |= within_reach > 0;
        if within_reach < item.quantity {
            let available = figures.sellable.max(0);
            shortages.push(Shortage { sku: item.sku.clone(), requested: item.quantity, available });
        }
    }
    let refused = if request.partial { !some_left } else { !shortages.is_empty() };
    refused.then_some(Refusal::InsufficientStock(shortages))
}
