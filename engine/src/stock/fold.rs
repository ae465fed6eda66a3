//! The only mutation: events folded into state. Total and deterministic; a broken law stops the process.

use crate::answer::{Answer, Folded, ReservationState};
use crate::identity::{Recorded, RequestStamp, ReservationId};
use crate::mutant::{self, Mutant};

use super::{
    Hold, LedgerEntry, LedgerKind, PartStatus, RESTOCK_MEMORY_MS, RESTOCKS_KEPT_MIN, Stock, StockEvent,
};

impl Stock {
    /// Folds one event.
    ///
    /// # Panics
    /// When the event cannot have come from [`Stock::decide`] on this state: a broken law must not be served.
    pub fn evolve(
        &mut self,
        event: &StockEvent,
        recorded: Recorded,
        request: Option<RequestStamp>,
    ) -> Folded {
        self.version = self.version.saturating_add(1);
        self.forget_what_is_old(recorded);
        let folded = self.fold(event, recorded, request);
        if let Err(violation) = self.check() {
            panic!("{violation}");
        }
        folded
    }

    fn fold(&mut self, event: &StockEvent, recorded: Recorded, request: Option<RequestStamp>) -> Folded {
        match event {
            StockEvent::Defined { definition, opening } => {
                self.definition = Some(Box::new(definition.clone()));
                self.opening = *opening;
                self.opened = recorded;
                self.received = *opening;
                self.on_hand = *opening;
                Folded::settle(request, || Ok(Answer::SkuDefined { created: true, stock: self.view() }))
            }
            StockEvent::Redefined { definition } => {
                self.definition = Some(Box::new(definition.clone()));
                Folded::settle(request, || Ok(Answer::SkuDefined { created: false, stock: self.view() }))
            }
            StockEvent::Adjusted { delta, reason, reference, location: _ } => {
                self.receive(*delta);
                let spilled = self.note(LedgerEntry {
                    position: recorded.position,
                    at: recorded.at,
                    kind: LedgerKind::Adjustment,
                    delta: *delta,
                    reason: Some(reason.clone()),
                    reference: reference.clone(),
                    reservation: None,
                });
                Folded { spilled, ..Folded::settle(request, || Ok(Answer::Stock(self.view()))) }
            }
            StockEvent::OnHandSet { on_hand, reason } => {
                let delta = on_hand.saturating_sub(self.on_hand);
                self.receive(delta);
                let spilled = self.note(LedgerEntry {
                    position: recorded.position,
                    at: recorded.at,
                    kind: LedgerKind::Count,
                    delta,
                    reason: Some(reason.clone()),
                    reference: None,
                    reservation: None,
                });
                Folded { spilled, ..Folded::settle(request, || Ok(Answer::Stock(self.view()))) }
            }
            StockEvent::Reserved { reservation, quantity, ttl_ms, fingerprint, customer: _, location: _ } => {
                let hold = Hold {
                    quantity: *quantity,
                    ttl_ms: *ttl_ms,
                    created_at: recorded.at,
                    expires_at: recorded.at.plus_ms(*ttl_ms),
                    position: recorded.position,
                    fingerprint: *fingerprint,
                    home: None,
                };
                let settled = Folded::settle(request, || {
                    Ok(Answer::Reservation(self.record(*reservation, &hold, ReservationState::Held)))
                });
                self.hold(*reservation, hold);
                settled
            }
            StockEvent::Extended { reservation, expires_at } => {
                let Some(hold) = self.holds.get_mut(reservation) else {
                    panic!("law 2: only a held reservation is extended: {reservation}");
                };
                hold.expires_at = *expires_at;
                let hold = hold.clone();
                Folded::settle(request, || {
                    Ok(Answer::Reservation(self.record(*reservation, &hold, ReservationState::Held)))
                })
            }
            StockEvent::Committed { reservation } => {
                let hold = self.end_hold(*reservation);
                if mutant::active(Mutant::SellTwice) {
                    self.hold(*reservation, hold.clone());
                }
                let spilled = self.sell(*reservation, hold.quantity, recorded);
                Folded { spilled, ..self.ended(*reservation, &hold, ReservationState::Committed, request) }
            }
            StockEvent::Released { reservation } => {
                let hold = self.end_hold(*reservation);
                if mutant::active(Mutant::ReleaseTwice) {
                    self.reserved = self.reserved.saturating_sub(hold.quantity);
                }
                self.ended(*reservation, &hold, ReservationState::Released, request)
            }
            StockEvent::Expired { reservation } => {
                let hold = self.end_hold(*reservation);
                self.ended(*reservation, &hold, ReservationState::Expired, request)
            }
            StockEvent::PartHeld { reservation, quantity, home } => {
                let hold = Hold {
                    quantity: *quantity,
                    ttl_ms: 0,
                    created_at: recorded.at,
                    expires_at: crate::identity::Timestamp(u64::MAX),
                    position: recorded.position,
                    fingerprint: crate::identity::Fingerprint(0),
                    home: Some(*home),
                };
                self.hold(*reservation, hold);
                Folded::default()
            }
            StockEvent::PartSold { reservation } => {
                let hold = self.end_hold(*reservation);
                self.ended_parts.remember(*reservation, PartStatus::Sold, recorded.at);
                let spilled = self.sell(*reservation, hold.quantity, recorded);
                Folded { spilled, ..Folded::default() }
            }
            StockEvent::PartFreed { reservation } => {
                self.end_hold(*reservation);
                self.ended_parts.remember(*reservation, PartStatus::Freed, recorded.at);
                Folded::default()
            }
            StockEvent::Restocked { step, quantity, order } => {
                self.sold = self.sold.saturating_sub(*quantity);
                self.on_hand = self.on_hand.saturating_add(*quantity);
                self.restocked.push_back((*step, recorded.at));
                let spilled = self.note(LedgerEntry {
                    position: recorded.position,
                    at: recorded.at,
                    kind: LedgerKind::Restock,
                    delta: *quantity,
                    reason: Some("refund".into()),
                    reference: Some(order.to_string().into()),
                    reservation: Some(order.reservation()),
                });
                Folded { spilled, ..Folded::default() }
            }
        }
    }

    /// Sums stay far from the ends of i64: every quantity was checked against `UNITS_MAX` when it was decided.
    fn receive(&mut self, delta: i64) {
        self.received = self.received.saturating_add(delta);
        self.on_hand = self.on_hand.saturating_add(delta);
    }

    fn hold(&mut self, reservation: ReservationId, hold: Hold) {
        self.reserved = self.reserved.saturating_add(hold.quantity);
        let before = self.holds.insert(reservation, hold);
        assert!(before.is_none(), "law 2: a reservation begins once: {reservation}");
    }

    fn end_hold(&mut self, reservation: ReservationId) -> Hold {
        let Some(hold) = self.holds.swap_remove(&reservation) else {
            panic!("law 2: only a held reservation ends: {reservation}");
        };
        self.reserved = self.reserved.saturating_sub(hold.quantity);
        hold
    }

    fn sell(
        &mut self,
        reservation: ReservationId,
        quantity: i64,
        recorded: Recorded,
    ) -> Option<Box<crate::answer::LedgerChunk>> {
        self.on_hand = self.on_hand.saturating_sub(quantity);
        self.sold = self.sold.saturating_add(quantity);
        self.note(LedgerEntry {
            position: recorded.position,
            at: recorded.at,
            kind: LedgerKind::Sale,
            delta: quantity.saturating_neg(),
            reason: None,
            reference: None,
            reservation: Some(reservation),
        })
    }

    fn ended(
        &self,
        reservation: ReservationId,
        hold: &Hold,
        state: ReservationState,
        request: Option<RequestStamp>,
    ) -> Folded {
        let record = self.record(reservation, hold, state);
        let ended = Some(Box::new(record.clone()));
        Folded { ended, ..Folded::settle(request, || Ok(Answer::Reservation(record))) }
    }

    /// Drops memories by event time, so that every replay forgets at the same event.
    fn forget_what_is_old(&mut self, recorded: Recorded) {
        let now = recorded.at;
        self.ended_parts.forget_before(now);
        while let Some((_, at)) = self.restocked.front() {
            // The newest are kept whatever the time: the wall clock may jump while a copy of a step is on its way.
            if at.plus_ms(RESTOCK_MEMORY_MS) > now || self.restocked.len() <= RESTOCKS_KEPT_MIN {
                break;
            }
            self.restocked.pop_front();
        }
    }
}
