//! The guards: each command's refusals in order of precedence, then the events.

use crate::answer::{Answer, FieldError, Missing, Refusal, Shortage};
use crate::envelope::{Decision, Envelope};
use crate::identity::{Fingerprint, Position, ReservationId, Timestamp};
use crate::mutant::{self, Mutant};

use super::{
    Definition, Hold, Home, PartStatus, QUANTITY_MAX, RESERVATION_LIFE_MAX_MS, RESERVATION_TTL_MS, Reserve,
    Stock, StockCommand, StockEvent, UNITS_MAX,
};

/// A stock decision.
type StockDecision = Decision<StockEvent>;

impl Stock {
    /// Decides one command; changes nothing.
    ///
    /// A public command on a reservation that is not held here answers `NotFound(Reservation)`: whoever keeps ended
    /// reservations then settles it by [`crate::ended::decide`].
    pub fn decide(&self, envelope: &Envelope<StockCommand>) -> StockDecision {
        let now = envelope.now;
        if self.definition.is_none() && !matches!(envelope.command, StockCommand::Define { .. }) {
            return Decision::Refuse(Refusal::NotFound(Missing::Skus(vec![self.sku.clone()])));
        }
        match &envelope.command {
            StockCommand::Define { definition, opening } => self.decide_define(definition, *opening),
            StockCommand::Adjust { delta, reason, reference } => {
                if *delta == 0 {
                    return Decision::Refuse(out_of_range("/delta"));
                }
                if let Err(refusal) = self.check_new_on_hand(self.on_hand.checked_add(*delta), "/delta") {
                    return Decision::Refuse(refusal);
                }
                Decision::change(StockEvent::Adjusted {
                    delta: *delta,
                    reason: reason.clone(),
                    reference: reference.clone(),
                    location: None,
                })
            }
            StockCommand::SetOnHand { on_hand, reason, expected_version } => {
                if *expected_version != self.version {
                    return Decision::Refuse(Refusal::VersionMismatch { current: self.version });
                }
                if let Err(refusal) = self.check_new_on_hand(Some(*on_hand), "/on_hand") {
                    return Decision::Refuse(refusal);
                }
                Decision::change(StockEvent::OnHandSet { on_hand: *on_hand, reason: reason.clone() })
            }
            StockCommand::Reserve(reserve) => {
                let fingerprint = envelope.request.map_or(Fingerprint(0), |request| request.fingerprint);
                self.decide_reserve(reserve, fingerprint)
            }
            StockCommand::Extend { reservation, extend_ms } => {
                self.decide_extend(*reservation, *extend_ms, now)
            }
            StockCommand::Commit { reservation } => match self.public_hold(*reservation, "commit", now) {
                Ok(_) => Decision::change(StockEvent::Committed { reservation: *reservation }),
                Err(refusal) => Decision::Refuse(refusal),
            },
            StockCommand::Release { reservation } => match self.public_hold(*reservation, "release", now) {
                Ok(_) => Decision::change(StockEvent::Released { reservation: *reservation }),
                Err(refusal) => Decision::Refuse(refusal),
            },
            StockCommand::Expire { reservation } => match self.holds.get(reservation) {
                Some(hold)
                    if hold.home.is_none()
                        && (now >= hold.expires_at || mutant::active(Mutant::ExpireEarly)) =>
                {
                    Decision::change(StockEvent::Expired { reservation: *reservation })
                }
                Some(_) | None => Decision::Nothing,
            },
            StockCommand::HoldPart { reservation, quantity, partial, home } => {
                self.decide_hold_part(*reservation, *quantity, *partial, *home, envelope.now)
            }
            StockCommand::SellPart { reservation, as_of } => {
                self.end_part(*reservation, *as_of, StockEvent::PartSold { reservation: *reservation })
            }
            StockCommand::FreePart { reservation, as_of } => {
                self.end_part(*reservation, *as_of, StockEvent::PartFreed { reservation: *reservation })
            }
            StockCommand::Restock { step, quantity, order } => {
                if self.restocked.iter().any(|(done, _)| done == step)
                    && !mutant::active(Mutant::RestockTwice)
                {
                    return Decision::Nothing;
                }
                // Never more than was sold here: anything beyond it is an adjustment, said by a person.
                let quantity = (*quantity).min(self.sold);
                if quantity <= 0 {
                    return Decision::Nothing;
                }
                Decision::change(StockEvent::Restocked { step: *step, quantity, order: *order })
            }
        }
    }

    fn decide_define(&self, definition: &Definition, opening: Option<i64>) -> StockDecision {
        let limit = definition.oversell.limit();
        if !(0..=UNITS_MAX).contains(&limit) {
            return Decision::Refuse(out_of_range("/oversell/limit"));
        }
        if self.definition.is_none() {
            let opening = opening.unwrap_or(0);
            if !(0..=UNITS_MAX).contains(&opening) {
                return Decision::Refuse(out_of_range("/on_hand"));
            }
            return Decision::change(StockEvent::Defined { definition: definition.clone(), opening });
        }
        if self.available().saturating_add(limit) < 0 {
            return Decision::Refuse(Refusal::Validation(vec![FieldError::new(
                "/oversell/limit",
                "oversell_limit_too_low",
                "more units than this are already promised beyond what is on hand; receive stock first",
            )]));
        }
        Decision::change(StockEvent::Redefined { definition: definition.clone() })
    }

    /// Law 1 for a new `on_hand`: in range, and nothing already promised is taken away.
    fn check_new_on_hand(&self, on_hand: Option<i64>, pointer: &str) -> Result<(), Refusal> {
        let Some(on_hand) = on_hand.filter(|units| (-UNITS_MAX..=UNITS_MAX).contains(units)) else {
            return Err(out_of_range(pointer));
        };
        let delta = on_hand.saturating_sub(self.on_hand);
        let received =
            self.received.checked_add(delta).filter(|units| (-UNITS_MAX..=UNITS_MAX).contains(units));
        if received.is_none() {
            return Err(out_of_range(pointer));
        }
        if delta < 0 && self.sellable().saturating_add(delta) < 0 {
            return Err(self.shortage(delta.saturating_neg()));
        }
        Ok(())
    }

    fn decide_reserve(&self, reserve: &Reserve, fingerprint: Fingerprint) -> StockDecision {
        if let Some(hold) = self.holds.get(&reserve.reservation) {
            return match hold.home {
                None if hold.fingerprint == fingerprint => {
                    let record =
                        self.record(reserve.reservation, hold, crate::answer::ReservationState::Held);
                    Decision::Answer(Answer::Reservation(record.first()))
                }
                None | Some(Home::Reservation | Home::Order) => Decision::Refuse(Refusal::KeyReused),
            };
        }
        if !(1..=QUANTITY_MAX).contains(&reserve.quantity) {
            return Decision::Refuse(out_of_range("/quantity"));
        }
        let Some(quantity) = self.grantable(reserve.quantity, reserve.partial) else {
            return Decision::Refuse(self.shortage(reserve.quantity));
        };
        let own_ttl_ms = self.definition.as_ref().and_then(|definition| definition.reservation_ttl_ms);
        Decision::change(StockEvent::Reserved {
            reservation: reserve.reservation,
            quantity,
            ttl_ms: reserve.ttl_ms.or(own_ttl_ms).unwrap_or(RESERVATION_TTL_MS).min(RESERVATION_LIFE_MAX_MS),
            fingerprint,
            customer: reserve.customer.clone(),
            location: None,
        })
    }

    fn decide_hold_part(
        &self,
        reservation: ReservationId,
        quantity: i64,
        partial: bool,
        home: Home,
        now: Timestamp,
    ) -> StockDecision {
        if self.holds.contains_key(&reservation) {
            return Decision::Nothing;
        }
        match self.part(reservation, now) {
            // A late copy of a hold that already ended must not hold again: nobody would ever end it.
            PartStatus::Sold if mutant::active(Mutant::ForgetEndedParts) => {}
            // A refused reservation may be asked for again under its key (law 4). Where this is a late copy, its coordinator
            // hears that units are held and gives them back.
            PartStatus::Freed if home == Home::Reservation => {}
            PartStatus::Held(_) | PartStatus::Sold | PartStatus::Freed => return Decision::Nothing,
            PartStatus::Absent => {}
        }
        if !(1..=QUANTITY_MAX).contains(&quantity) {
            return Decision::Refuse(out_of_range("/quantity"));
        }
        match self.grantable(quantity, partial) {
            Some(quantity) => Decision::change(StockEvent::PartHeld { reservation, quantity, home }),
            None => Decision::Refuse(self.shortage(quantity)),
        }
    }

    /// `event`, if a part is held here that was held when that was decided.
    fn end_part(&self, reservation: ReservationId, as_of: Position, event: StockEvent) -> StockDecision {
        if self.held_part(reservation).is_some() && !self.holds_since(reservation, as_of) {
            Decision::change(event)
        } else {
            Decision::Nothing
        }
    }

    fn decide_extend(&self, reservation: ReservationId, extend_ms: u64, now: Timestamp) -> StockDecision {
        match self.public_hold(reservation, "extend", now) {
            Ok(hold) => {
                let life_max_ms =
                    if mutant::active(Mutant::ExtendForever) { u64::MAX } else { RESERVATION_LIFE_MAX_MS };
                let latest = hold.created_at.plus_ms(life_max_ms);
                let expires_at = hold.expires_at.plus_ms(extend_ms).min(latest).max(hold.expires_at);
                Decision::change(StockEvent::Extended { reservation, expires_at })
            }
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    /// Units that can be granted of `quantity`, or `None` where that is not enough.
    fn grantable(&self, quantity: i64, partial: bool) -> Option<i64> {
        let sellable = self.sellable().saturating_add(i64::from(mutant::active(Mutant::OversellByOne)));
        if quantity <= sellable {
            return Some(quantity);
        }
        (partial && sellable > 0).then_some(sellable)
    }

    /// A public reservation's hold that may still be acted on.
    fn public_hold(
        &self,
        reservation: ReservationId,
        action: &str,
        now: Timestamp,
    ) -> Result<&Hold, Refusal> {
        let Some(hold) = self.holds.get(&reservation) else {
            return Err(Refusal::NotFound(Missing::Reservation));
        };
        if hold.home.is_some() {
            return Err(Refusal::IllegalTransition {
                from: "held".into(),
                action: action.into(),
                detail: "it belongs to an order or a reservation over several SKUs, which alone may end it"
                    .into(),
            });
        }
        // The timer may ring a moment late; the deadline itself is exact.
        let still_open = mutant::active(Mutant::CommitExpired) && now == hold.expires_at;
        if now >= hold.expires_at && !still_open {
            return Err(Refusal::ReservationExpired);
        }
        Ok(hold)
    }

    fn shortage(&self, requested: i64) -> Refusal {
        Refusal::InsufficientStock(vec![Shortage {
            sku: self.sku.clone(),
            requested,
            available: self.sellable().max(0),
        }])
    }
}

fn out_of_range(pointer: &str) -> Refusal {
    let message =
        format!("a quantity is 1 to {QUANTITY_MAX}, a change not zero, and units stay within ±{UNITS_MAX}");
    Refusal::Validation(vec![FieldError::new(pointer, "out_of_range", message)])
}
