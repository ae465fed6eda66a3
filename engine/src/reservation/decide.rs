//! The guards: each command's refusals in order of precedence, then the event.

use crate::answer::{Answer, Item, Missing, Refusal, Shortage};
use crate::ended::{self, EndedAction};
use crate::envelope::{Decision, Envelope};
use crate::identity::{RequestStamp, Timestamp};
use crate::stock::RESERVATION_LIFE_MAX_MS;

use super::{Reservation, ReservationCommand, ReservationEvent, ReservationPhase};

/// A coordinator's decision.
type ReservationDecision = Decision<ReservationEvent>;

/// When to try again while the parts of a refused attempt still go back: a turn of each SKU and a flush.
const REFUSED_RETRY_MS: u64 = 50;

impl Reservation {
    /// Decides one command; changes nothing.
    pub fn decide(&self, envelope: &Envelope<ReservationCommand>) -> ReservationDecision {
        let now = envelope.now;
        match &envelope.command {
            ReservationCommand::Request { items, ttl_ms, partial, customer } => {
                if let Some(decision) = self.decide_repeat(envelope.request) {
                    return decision;
                }
                Decision::change(ReservationEvent::Requested {
                    items: items.clone(),
                    ttl_ms: *ttl_ms,
                    partial: *partial,
                    customer: customer.clone(),
                })
            }
            ReservationCommand::UnitsHeld { granted } => {
                if self.phase != ReservationPhase::Requested {
                    return Decision::Nothing;
                }
                if granted.is_empty() {
                    return Decision::change(ReservationEvent::Refused {
                        shortages: self.nothing_available(),
                    });
                }
                Decision::change(ReservationEvent::Granted { items: granted.clone() })
            }
            ReservationCommand::UnitsRefused { shortages } => {
                if self.phase != ReservationPhase::Requested {
                    return Decision::Nothing;
                }
                Decision::change(ReservationEvent::Refused { shortages: shortages.clone() })
            }
            ReservationCommand::Extend { extend_ms } => self.while_held(
                EndedAction::Extend,
                now,
                ReservationEvent::Extended { expires_at: self.extended(*extend_ms) },
            ),
            ReservationCommand::Commit => {
                self.while_held(EndedAction::Commit, now, ReservationEvent::Committed)
            }
            ReservationCommand::Release => {
                self.while_held(EndedAction::Release, now, ReservationEvent::Released)
            }
            ReservationCommand::Expire => match self.due() {
                Some(due) if now >= due => Decision::change(ReservationEvent::Expired),
                Some(_) | None => Decision::Nothing,
            },
            ReservationCommand::UnitsSettled => match self.phase {
                ReservationPhase::Refused
                | ReservationPhase::Committed
                | ReservationPhase::Released
                | ReservationPhase::Expired => Decision::change(ReservationEvent::Settled),
                ReservationPhase::Absent
                | ReservationPhase::Requested
                | ReservationPhase::Held
                | ReservationPhase::Settled => Decision::Nothing,
            },
            ReservationCommand::Read => match self.record() {
                Some(record) => Decision::Answer(Answer::Reservation(record)),
                None => not_found(),
            },
        }
    }

    /// What a request meets that is not the first; `None` where it begins something.
    fn decide_repeat(&self, request: Option<RequestStamp>) -> Option<ReservationDecision> {
        if let (Some(first), Some(again)) = (self.request, request)
            && first.fingerprint != again.fingerprint
            && self.phase != ReservationPhase::Absent
        {
            return Some(Decision::Refuse(Refusal::KeyReused));
        }
        match self.phase {
            ReservationPhase::Absent => None,
            ReservationPhase::Requested => Some(Decision::Join),
            // A copy of a refused request is a new attempt (law 4), once the old one's parts are back.
            ReservationPhase::Refused => {
                Some(Decision::Refuse(Refusal::InProgress { retry_after_ms: REFUSED_RETRY_MS }))
            }
            ReservationPhase::Held
            | ReservationPhase::Committed
            | ReservationPhase::Released
            | ReservationPhase::Expired
            | ReservationPhase::Settled => {
                self.record().map(|record| Decision::Answer(Answer::Reservation(record.first())))
            }
        }
    }

    /// `event` while it is held and in time; otherwise what `action` is told of its ending.
    fn while_held(
        &self,
        action: EndedAction,
        now: Timestamp,
        event: ReservationEvent,
    ) -> ReservationDecision {
        let Some(record) = self.record() else {
            return not_found();
        };
        if self.phase != ReservationPhase::Held {
            return ended::decide(&record, action).map_or_else(Decision::Refuse, Decision::Answer);
        }
        // Time ends it, the timer only records it.
        if now >= self.expires_at {
            return Decision::Refuse(Refusal::ReservationExpired);
        }
        Decision::change(event)
    }

    fn extended(&self, extend_ms: u64) -> Timestamp {
        let latest = self.granted_at.at.plus_ms(RESERVATION_LIFE_MAX_MS);
        self.expires_at.plus_ms(extend_ms).min(latest).max(self.expires_at)
    }

    fn nothing_available(&self) -> Vec<Shortage> {
        let shortage =
            |item: &Item| Shortage { sku: item.sku.clone(), requested: item.quantity, available: 0 };
        self.requested.iter().map(shortage).collect()
    }
}

fn not_found() -> ReservationDecision {
    Decision::Refuse(Refusal::NotFound(Missing::Reservation))
}
