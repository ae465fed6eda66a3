//! The only mutation: one event folded into a coordinator.

use crate::answer::{Answer, Folded, Refusal, ReservationState};
use crate::identity::{Recorded, RequestStamp};

use super::{Reservation, ReservationEvent, ReservationPhase};

impl Reservation {
    /// Folds one event: total, deterministic, reads no clock. Panics only where the journal breaks an invariant.
    pub fn evolve(
        &mut self,
        event: &ReservationEvent,
        recorded: Recorded,
        request: Option<RequestStamp>,
    ) -> Folded {
        match event {
            ReservationEvent::Requested { items, ttl_ms, partial, customer } => {
                assert!(
                    self.is_finished() && self.granted.is_empty(),
                    "law 2: a reservation is asked for once, or again after a refusal"
                );
                *self = Self {
                    phase: ReservationPhase::Requested,
                    requested: items.clone(),
                    partial: *partial,
                    ttl_ms: *ttl_ms,
                    customer: customer.clone(),
                    request,
                    ..Self::new(self.id)
                };
                Folded::default()
            }
            ReservationEvent::Granted { items } => {
                self.leave(ReservationPhase::Requested, ReservationPhase::Held);
                self.granted.clone_from(items);
                self.granted_at = recorded;
                self.expires_at = recorded.at.plus_ms(self.ttl_ms);
                // The grant is a step of the engine's own; the verdict belongs to the request that began it.
                self.settle(self.request)
            }
            ReservationEvent::Refused { shortages } => {
                self.leave(ReservationPhase::Requested, ReservationPhase::Refused);
                Folded::settle(self.request, || Err(Refusal::InsufficientStock(shortages.clone())))
            }
            ReservationEvent::Extended { expires_at } => {
                self.leave(ReservationPhase::Held, ReservationPhase::Held);
                self.expires_at = *expires_at;
                self.settle(request)
            }
            ReservationEvent::Committed => {
                self.leave(ReservationPhase::Held, ReservationPhase::Committed);
                self.ended = Some(ReservationState::Committed);
                self.settle(request)
            }
            ReservationEvent::Released => {
                self.leave(ReservationPhase::Held, ReservationPhase::Released);
                self.ended = Some(ReservationState::Released);
                self.settle(request)
            }
            ReservationEvent::Expired => {
                self.leave(ReservationPhase::Held, ReservationPhase::Expired);
                self.ended = Some(ReservationState::Expired);
                Folded::default()
            }
            ReservationEvent::Settled => {
                self.phase = ReservationPhase::Settled;
                Folded { ended: self.record().map(Box::new), ..Folded::default() }
            }
        }
    }

    fn settle(&self, request: Option<RequestStamp>) -> Folded {
        let record = self.record().expect("law 6: what is granted has a record");
        Folded::settle(request, || Ok(Answer::Reservation(record)))
    }

    /// Law 2: each phase is left once, so only one ending is ever recorded.
    fn leave(&mut self, from: ReservationPhase, to: ReservationPhase) {
        assert!(self.phase == from, "law 2: {from:?} goes before {to:?}");
        self.phase = to;
    }
}
