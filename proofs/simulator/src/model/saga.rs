//! Reservations over several SKUs in the model. Laws 2 and 6.

use doorbuster_engine::answer::{Answer, Item, Refusal, ReservationRecord, ReservationState};
use doorbuster_engine::identity::{Fingerprint, Position, RequestStamp, ReservationId, Sku, Timestamp};
use doorbuster_engine::reservation::ReservationEvent;

use super::shelf::Part;
use super::{ANSWERS_KEPT_MS, LIFE_MAX_MS, Model, Past, Standing, Verdict};
use crate::broken::{Broken, demand};
use crate::sometimes;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Units are asked for.
    Asking,
    /// Refused; what was held goes back.
    Refused,
    /// All granted.
    Held,
    /// Being sold.
    Committed,
    /// Going back by choice.
    Released,
    /// Going back by time.
    Expired,
    /// Over after a refusal: the key may try again.
    OverRefused,
    /// Over for good.
    Over,
}

/// A reservation over several SKUs.
#[derive(Clone, Debug)]
pub struct Saga {
    /// Where it stands.
    pub phase: Phase,
    /// What was asked.
    pub asked: Vec<Item>,
    /// What was granted.
    pub granted: Vec<Item>,
    /// Whether less than asked will do.
    pub partial: bool,
    /// Time to live.
    pub ttl_ms: u64,
    /// When it ends by itself.
    pub expires_at_ms: u64,
    request: Option<RequestStamp>,
    over_at_ms: u64,
    /// Its record in all its versions; `None` until it is granted.
    pub past: Past<Option<ReservationRecord>>,
}

impl Saga {
    /// Whether nothing is left to do and nothing will happen.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::OverRefused)
    }

    /// Whether it is granted and open.
    pub fn is_held(&self) -> bool {
        self.phase == Phase::Held
    }

    /// What it asks of SKUs now.
    pub fn asks(&self) -> Option<&[Item]> {
        (self.phase == Phase::Asking).then_some(self.asked.as_slice())
    }

    /// Whether its parts are being sold.
    pub fn sells(&self) -> bool {
        self.phase == Phase::Committed
    }

    /// Whether its parts go back.
    pub fn frees(&self) -> bool {
        matches!(self.phase, Phase::Refused | Phase::Released | Phase::Expired)
    }

    fn record(&self) -> Option<ReservationRecord> {
        self.past.last().cloned().flatten()
    }
}

impl Model {
    pub(super) fn fold_saga(
        &mut self,
        id: u128,
        event: &ReservationEvent,
        standing: Standing,
    ) -> Result<Vec<Verdict>, Broken> {
        let name = ReservationId(id);
        let at_ms = standing.at_ms;
        if let ReservationEvent::Requested { items, ttl_ms, partial, customer: _ } = event {
            demand(!self.singles.contains_key(&id), 5, || format!("{name} is of one SKU already"))?;
            let past = match self.sagas.remove(&id) {
                None => Past::default(),
                Some(before) => {
                    let again = before.phase == Phase::OverRefused
                        || (before.phase == Phase::Over && before.over_at_ms + ANSWERS_KEPT_MS <= at_ms);
                    // A day later the key is a new one, and so are its parts.
                    self.parts.retain(|(of, _), part| *of != id || matches!(part, Part::Held(_)));
                    demand(again, 5, || format!("{name} is asked for again while {:?}", before.phase))?;
                    before.past
                }
            };
            let mut saga = Saga {
                phase: Phase::Asking,
                asked: items.clone(),
                granted: Vec::new(),
                partial: *partial,
                ttl_ms: *ttl_ms,
                expires_at_ms: 0,
                request: standing.request,
                over_at_ms: 0,
                past,
            };
            saga.past.note(standing, None);
            self.sagas.insert(id, saga);
            return Ok(Vec::new());
        }
        let Some(mut saga) = self.sagas.remove(&id) else {
            return Err(Broken { law: 10, seen: format!("{name} changes before it is asked for") });
        };
        let verdict = self.change_saga(id, &mut saga, event, standing);
        self.sagas.insert(id, saga);
        verdict.map(|verdict| verdict.into_iter().collect())
    }

    fn change_saga(
        &mut self,
        id: u128,
        saga: &mut Saga,
        event: &ReservationEvent,
        standing: Standing,
    ) -> Result<Option<Verdict>, Broken> {
        let name = ReservationId(id);
        let at_ms = standing.at_ms;
        let from = saga.phase;
        let wanted = |phase: Phase| {
            demand(from == phase, 2, || format!("{name} is {from:?} where it must be {phase:?}"))
        };
        let part = |item: &Item| self.parts.get(&(id, item.sku.clone())).copied();
        match event {
            ReservationEvent::Requested { .. } => Ok(None),
            ReservationEvent::Granted { items } => {
                wanted(Phase::Asking)?;
                demand(!items.is_empty(), 6, || format!("{name} is granted nothing"))?;
                for item in items {
                    demand(part(item) == Some(Part::Held(item.quantity)), 6, || {
                        format!(
                            "{name} is granted {} of {}, held is {:?}",
                            item.quantity,
                            item.sku,
                            part(item)
                        )
                    })?;
                }
                demand(saga.partial || *items == saga.asked, 6, || {
                    format!("{name} asked for {:?} and is granted {items:?}", saga.asked)
                })?;
                if *items != saga.asked {
                    sometimes!("a partial reservation got less");
                }
                let is_left_out = |item: &&Item| items.iter().all(|granted| granted.sku != item.sku);
                let left_out = saga.asked.iter().filter(is_left_out);
                let held: Vec<Sku> = left_out
                    .filter(|item| matches!(part(item), Some(Part::Held(_))))
                    .map(|item| item.sku.clone())
                    .collect();
                // A SKU that had refused may have granted a late copy, on whose way the rest was granted: like any stray
                // it must go back, in time.
                for sku in held {
                    self.strays.insert((id, sku), at_ms);
                }
                // A stray of an earlier attempt may be there when its SKU is asked again: from here on it is this one's part.
                for item in items {
                    self.strays.remove(&(id, item.sku.clone()));
                }
                saga.phase = Phase::Held;
                saga.granted.clone_from(items);
                saga.expires_at_ms = at_ms + saga.ttl_ms;
                let record = ReservationRecord {
                    id: name,
                    items: items.iter().cloned().collect(),
                    state: ReservationState::Held,
                    created_at: Timestamp(at_ms),
                    ttl_ms: saga.ttl_ms,
                    expires_at: Timestamp(saga.expires_at_ms),
                    position: Position(standing.position),
                    fingerprint: saga.request.map_or(Fingerprint(0), |request| request.fingerprint),
                    order: None,
                };
                saga.past.note(standing, Some(record.clone()));
                sometimes!("a multi-SKU reservation was granted");
                Ok(saga.request.map(|request| (request, Ok(Answer::Reservation(record)))))
            }
            ReservationEvent::Refused { shortages } => {
                wanted(Phase::Asking)?;
                if saga.asked.iter().any(|item| matches!(part(item), Some(Part::Held(_)))) {
                    sometimes!("a multi-SKU reservation was refused after a part was held");
                }
                saga.phase = Phase::Refused;
                saga.past.note(standing, None);
                let refusal = Refusal::InsufficientStock(shortages.clone());
                Ok(saga.request.map(|request| (request, Err(refusal))))
            }
            ReservationEvent::Extended { expires_at } => {
                wanted(Phase::Held)?;
                demand(at_ms < saga.expires_at_ms && expires_at.0 >= saga.expires_at_ms, 2, || {
                    format!("{name} is extended from {} to {}", saga.expires_at_ms, expires_at.0)
                })?;
                let record = saga.record();
                let created_at_ms = record.as_ref().map_or(0, |record| record.created_at.0);
                demand(expires_at.0 <= created_at_ms + LIFE_MAX_MS.max(saga.ttl_ms), 11, || {
                    format!("{name} is held until {}", expires_at.0)
                })?;
                saga.expires_at_ms = expires_at.0;
                let record = record.map(|record| ReservationRecord { expires_at: *expires_at, ..record });
                saga.past.note(standing, record.clone());
                Ok(standing
                    .request
                    .zip(record)
                    .map(|(request, record)| (request, Ok(Answer::Reservation(record)))))
            }
            ReservationEvent::Committed | ReservationEvent::Released | ReservationEvent::Expired => {
                wanted(Phase::Held)?;
                let (phase, state) = if *event == ReservationEvent::Committed {
                    (Phase::Committed, ReservationState::Committed)
                } else if *event == ReservationEvent::Released {
                    (Phase::Released, ReservationState::Released)
                } else {
                    (Phase::Expired, ReservationState::Expired)
                };
                let late = at_ms >= saga.expires_at_ms;
                demand(late == (phase == Phase::Expired), 2, || {
                    format!("{name} ends as {state:?} at {at_ms}, its deadline is {}", saga.expires_at_ms)
                })?;
                saga.phase = phase;
                let record = saga.record().map(|record| ReservationRecord { state, ..record });
                saga.past.note(standing, record.clone());
                Ok(standing
                    .request
                    .zip(record)
                    .map(|(request, record)| (request, Ok(Answer::Reservation(record)))))
            }
            ReservationEvent::Settled => {
                let stray = |item: &Item| self.strays.contains_key(&(id, item.sku.clone()));
                let held =
                    saga.asked.iter().find(|item| matches!(part(item), Some(Part::Held(_))) && !stray(item));
                demand(held.is_none(), 6, || format!("{name} is settled and still holds {held:?}"))?;
                if saga.sells() {
                    let unsold =
                        saga.granted.iter().find(|item| part(item) != Some(Part::Sold(item.quantity)));
                    demand(unsold.is_none(), 6, || format!("{name} is settled and has not sold {unsold:?}"))?;
                }
                saga.phase = match saga.phase {
                    Phase::Refused => Phase::OverRefused,
                    Phase::Committed | Phase::Released | Phase::Expired => Phase::Over,
                    Phase::Asking | Phase::Held | Phase::OverRefused | Phase::Over => {
                        return Err(Broken { law: 2, seen: format!("{name} is settled while {from:?}") });
                    }
                };
                saga.over_at_ms = at_ms;
                let record = saga.record();
                saga.past.note(standing, record);
                Ok(None)
            }
        }
    }
}
