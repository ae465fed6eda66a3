//! Judges every verdict a client hears, by the model of what is durable. Laws 3, 4 and 5.
//!
//! An answer with a key must be the one its event gives. One without an event (a read, a repeat of what is done already)
//! must show something that was so at a moment between question and answer. A refusal must be justified by such a moment.

// An answer or refusal of any other kind than those named is none to this question, also one that is new.
#![allow(clippy::wildcard_enum_match_arm)]

use doorbuster_actors::Verdict;
use doorbuster_engine::answer::{
    Answer, CheckoutResult, Missing, Refusal, ReservationRecord, ReservationState,
};
use doorbuster_engine::identity::{RequestStamp, ReservationId, Timestamp};
use doorbuster_engine::order::{OrderView, PaymentState};

use crate::ask::Ask;
use crate::broken::{Broken, Checked, demand};
use crate::common::{Common, ShortageSaid};
use crate::model::ANSWERS_KEPT_MS;
use crate::model::basket::Stage as CartStage;
use crate::model::purchase::state_name;
use crate::sometimes;

/// What is left to do about a request after a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has its verdict.
    Definite,
    /// It may have taken effect: another copy must find out.
    Unknown,
    /// Definitely not now; another copy may be granted.
    Later,
}

/// One copy of a request on its way.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// Which request.
    pub request: usize,
    /// Its stamp.
    pub stamp: RequestStamp,
    /// Whether it has a key.
    pub keyed: bool,
    /// Durable events when it was sent.
    pub asked: u64,
    /// Business time when it was sent.
    pub business_ms: u64,
}

impl Common {
    /// Judges the verdict of a copy and says what is left to do.
    pub fn judge(&mut self, copy: Copy, verdict: &Verdict) -> Standing {
        let now_ms = self.clock.now_ms();
        self.trace.line(now_ms, || format!("said to request {}: {verdict:?}", copy.request));
        match verdict {
            Ok(reply) => {
                self.trace.mix(now_ms ^ 1);
                let checked = self.judge_answer(copy, &reply.answer, reply.replayed);
                self.note(checked);
                Standing::Definite
            }
            Err(refusal) => {
                self.trace.mix(now_ms ^ 2);
                let checked = self.judge_refusal(copy, refusal);
                self.note(checked);
                match refusal {
                    Refusal::DeadlineExceeded | Refusal::Recovering { .. } => Standing::Unknown,
                    Refusal::InProgress { .. }
                    | Refusal::Overloaded { .. }
                    | Refusal::StorageFull { .. }
                    | Refusal::PaymentUnavailable { .. }
                    | Refusal::Draining => Standing::Later,
                    Refusal::NotFound(_)
                    | Refusal::InsufficientStock(_)
                    | Refusal::IllegalTransition { .. }
                    | Refusal::ReservationExpired
                    | Refusal::CartExpired
                    | Refusal::PriceChanged { .. }
                    | Refusal::VersionMismatch { .. }
                    | Refusal::PaymentDeclined { .. }
                    | Refusal::Validation(_)
                    | Refusal::KeyReused => Standing::Definite,
                }
            }
        }
    }

    fn judge_answer(&mut self, copy: Copy, answer: &Answer, replayed: bool) -> Checked {
        let request = &self.requests[copy.request];
        let ask = request.ask.clone();
        if replayed {
            sometimes!("an answer was given again");
        }
        if let Some((first, life)) = &request.answered
            && request.settled
            && copy.keyed
        {
            let forgotten = self.is_old(request.answered_at_ms);
            demand(first == answer || forgotten, 5, || {
                format!("{ask:?} was first told {first:?}, and now {answer:?}")
            })?;
            if *life < self.life {
                sometimes!("an answer was given again after a crash");
            }
        }
        if request.answered.is_none() && request.refused {
            sometimes!("a refused key was tried again and granted");
        }
        if request.unknown > 0 {
            sometimes!("a time-out was settled by a retry");
        }
        let told = self.model.told.get(&copy.stamp.key.0).filter(|_| copy.keyed && !ask.is_read());
        let settled = match told {
            Some(told) if told.fingerprint == copy.stamp.fingerprint => {
                let first = told.answer.clone();
                demand(first == *answer || self.is_old(told.at_ms), 5, || {
                    format!("{ask:?} was answered {answer:?}, its event says {first:?}")
                })?;
                true
            }
            Some(told) => {
                demand(self.is_old(told.at_ms), 5, || {
                    format!("{ask:?} was answered {answer:?} under a key that was told {:?}", told.answer)
                })?;
                false
            }
            None => {
                let needs_event = matches!(
                    ask,
                    Ask::Define(..)
                        | Ask::Adjust(..)
                        | Ask::Count(..)
                        | Ask::AddLines(..)
                        | Ask::SetQuantity(..)
                        | Ask::DeleteCart(_)
                        | Ask::Checkout(..)
                        | Ask::Confirm(_)
                        | Ask::Cancel(_)
                        | Ask::Refund(..)
                        | Ask::Fulfil(..)
                        | Ask::Reserve(..)
                        | Ask::Extend(..)
                );
                demand(!(copy.keyed && needs_event), 3, || {
                    format!("{ask:?} was answered {answer:?}, and no such event is durable")
                })?;
                false
            }
        };
        if !settled {
            demand(self.was_so(copy, answer), 3, || {
                format!("{ask:?} was answered {answer:?}, which was never so since it was asked")
            })?;
        }
        Self::judge_fit(&ask, answer)?;
        let business_ms = self.business_ms();
        // An answer is kept from its event on, which may be long before it is heard.
        let told = self.model.told.get(&copy.stamp.key.0).filter(|_| settled);
        let (life, told_at_ms) = (self.life, told.map_or(business_ms, |told| told.at_ms));
        let request = &mut self.requests[copy.request];
        request.settled |= settled;
        let forgotten = request.answered_at_ms + ANSWERS_KEPT_MS <= business_ms;
        if request.answered.is_none() || forgotten {
            request.answered = Some((answer.clone(), life));
            request.answered_at_ms = told_at_ms;
        }
        Ok(())
    }

    /// Whether an answer of that time may be forgotten by now.
    fn is_old(&self, at_ms: u64) -> bool {
        let business_ms = self.business_ms();
        at_ms + ANSWERS_KEPT_MS <= business_ms + 1_000
    }

    /// Whether what an answer shows was so at some moment since the copy was sent.
    fn was_so(&self, copy: Copy, answer: &Answer) -> bool {
        let model = &self.model;
        match answer {
            Answer::Reservation(record) => self.record_was_so(copy, record),
            Answer::Stock(view) | Answer::SkuDefined { stock: view, .. } => model
                .shelves
                .get(&view.sku)
                .is_some_and(|shelf| shelf.past.was(copy.asked, |seen| seen == view)),
            Answer::CartCreated(view) | Answer::Cart(view) => model
                .carts
                .get(&view.id.0)
                .is_some_and(|cart| cart.past.was(copy.asked, |seen| seen.as_ref() == Some(&**view))),
            Answer::CartDeleted | Answer::Noticed => true,
            Answer::Checkout(result, view) => self.order_was_so(copy, view) && result_fits(result, view),
            Answer::Order(view) => self.order_was_so(copy, view),
            Answer::Refund(view) => model.orders.get(&view.order.0).is_some_and(|order| {
                order.past.was(copy.asked, |seen| seen.refunds.iter().any(|known| known == view))
            }),
            Answer::Fulfilment(view) => model.orders.get(&view.order.0).is_some_and(|order| {
                order.past.was(copy.asked, |seen| seen.fulfilments.iter().any(|known| known == view))
            }),
        }
    }

    fn order_was_so(&self, copy: Copy, view: &OrderView) -> bool {
        let order = self.model.orders.get(&view.id.0);
        order.is_some_and(|order| order.past.was(copy.asked, |seen| seen == view))
    }

    fn record_was_so(&self, copy: Copy, record: &ReservationRecord) -> bool {
        if record.order.is_some() {
            // An order's units, shown as a reservation: the parts are checked with the order.
            return self.model.orders.contains_key(&record.id.0);
        }
        let Some(past) = self.model.reservation(record.id.0) else { return false };
        // A repeat of the request that made it hears of it as it was first granted, whatever became of it.
        let first = |seen: &ReservationRecord| ReservationRecord {
            state: ReservationState::Held,
            expires_at: Timestamp(seen.created_at.0 + seen.ttl_ms),
            ..seen.clone()
        };
        let repeats = copy.stamp.key.0 == record.id.0;
        past.was(copy.asked, |seen| {
            seen.as_ref().is_some_and(|seen| seen == record || (repeats && first(seen) == *record))
        })
    }

    /// Whether an answer is one to this question at all.
    fn judge_fit(ask: &Ask, answer: &Answer) -> Checked {
        let fits = match (ask, answer) {
            (Ask::Define(sku, ..), Answer::SkuDefined { stock, .. })
            | (Ask::Adjust(sku, _) | Ask::Count(sku, ..) | Ask::SeeStock(sku), Answer::Stock(stock)) => {
                *sku == stock.sku
            }
            (Ask::Reserve(items, _, partial), Answer::Reservation(record)) => {
                let granted = &record.items;
                let all = granted.as_slice() == items.as_slice();
                all || (*partial
                    && granted.iter().all(|item| {
                        items.iter().any(|asked| asked.sku == item.sku && item.quantity <= asked.quantity)
                    }))
            }
            (Ask::Commit(id), Answer::Reservation(record)) => {
                record.id == *id && record.state == ReservationState::Committed
            }
            (Ask::Release(id), Answer::Reservation(record)) => {
                record.id == *id && record.state == ReservationState::Released
            }
            (Ask::Extend(id, _), Answer::Reservation(record)) => {
                record.id == *id && record.state == ReservationState::Held
            }
            (Ask::SeeReservation(id), Answer::Reservation(record)) => record.id == *id,
            (Ask::MakeCart(_), Answer::CartCreated(_)) => true,
            (
                Ask::AddLines(cart, ..) | Ask::SetQuantity(cart, ..) | Ask::SeeCart(cart),
                Answer::Cart(view),
            ) => *cart == view.id,
            (Ask::DeleteCart(_), Answer::CartDeleted) => true,
            (Ask::Checkout(cart, _), Answer::Checkout(_, view)) => *cart == view.cart,
            (Ask::Confirm(order), Answer::Checkout(_, view))
            | (Ask::Cancel(order) | Ask::SeeOrder(order), Answer::Order(view)) => *order == view.id,
            (Ask::Refund(order, ..), Answer::Refund(view)) => *order == view.order,
            (Ask::Fulfil(order, _), Answer::Fulfilment(view)) => *order == view.order,
            _ => false,
        };
        demand(fits, 5, || format!("{ask:?} was answered {answer:?}"))
    }

    fn judge_refusal(&mut self, copy: Copy, refusal: &Refusal) -> Checked {
        let ask = self.requests[copy.request].ask.clone();
        let business_ms = self.business_ms();
        let unjustified =
            |what: &str| Broken { law: 4, seen: format!("{ask:?} was refused with {refusal:?}: {what}") };
        // What took effect under this key is told again, not refused. A copy that was sent before may have been refused before,
        // and hears of it only now: then another one that was under way has had its own attempt (law 4).
        if copy.keyed
            && !ask.is_read()
            && !matches!(
                refusal,
                Refusal::DeadlineExceeded
                    | Refusal::Recovering { .. }
                    | Refusal::Overloaded { .. }
                    | Refusal::StorageFull { .. }
                    | Refusal::InProgress { .. }
                    | Refusal::Draining
            )
            && let Some(told) = self.model.told.get(&copy.stamp.key.0)
            && told.fingerprint == copy.stamp.fingerprint
            && told.index <= copy.asked
            && !self.is_old(told.at_ms)
        {
            return Err(Broken {
                law: 5,
                seen: format!("{ask:?} was told {:?}, and now refused with {refusal:?}", told.answer),
            });
        }
        match refusal {
            Refusal::InsufficientStock(shortages) => {
                let partial = matches!(ask, Ask::Reserve(_, _, true));
                let (shortages, at_ms) = (shortages.clone(), self.clock.now_ms());
                let asked = self.requests[copy.request].asked.min(copy.asked);
                let asked_at_ms = self.requests[copy.request].asked_at_ms;
                self.shortages.push(ShortageSaid {
                    shortages,
                    partial,
                    asked,
                    at_ms,
                    business_ms,
                    asked_at_ms,
                    ask,
                });
                Ok(())
            }
            Refusal::NotFound(missing) => {
                let justified = match (missing, &ask) {
                    (Missing::Skus(skus), _) => skus.iter().any(|sku| {
                        self.model.shelves.get(sku).is_none_or(|shelf| shelf.past.began_after(copy.asked))
                    }),
                    (
                        Missing::Reservation,
                        Ask::Commit(id) | Ask::Release(id) | Ask::Extend(id, _) | Ask::SeeReservation(id),
                    ) => self.reservation_may_be_missing(copy, *id),
                    (
                        Missing::Cart,
                        Ask::SeeCart(id)
                        | Ask::AddLines(id, ..)
                        | Ask::SetQuantity(id, ..)
                        | Ask::DeleteCart(id)
                        | Ask::Checkout(id, _),
                    ) => self.model.carts.get(&id.0).is_none_or(|cart| cart.past.began_after(copy.asked)),
                    (Missing::Line, Ask::SetQuantity(id, line, ..)) => {
                        self.model.carts.get(&id.0).is_none_or(|cart| {
                            cart.past.was(copy.asked, |view| {
                                view.as_ref()
                                    .is_none_or(|view| view.lines.iter().all(|known| known.line != *line))
                            })
                        })
                    }
                    (
                        Missing::Order,
                        Ask::Confirm(id)
                        | Ask::Cancel(id)
                        | Ask::Refund(id, ..)
                        | Ask::Fulfil(id, _)
                        | Ask::SeeOrder(id),
                    ) => self.model.orders.get(&id.0).is_none_or(|order| order.past.began_after(copy.asked)),
                    _ => false,
                };
                if justified { Ok(()) } else { Err(unjustified("it was there all the time")) }
            }
            Refusal::ReservationExpired => {
                let (Ask::Commit(id) | Ask::Release(id) | Ask::Extend(id, _)) = &ask else {
                    return Err(unjustified("no reservation was asked for"));
                };
                let over = self.model.reservation(id.0).is_none_or(|past| {
                    past.was(copy.asked, |record| {
                        record.as_ref().is_some_and(|record| {
                            record.state == ReservationState::Expired
                                || (record.state == ReservationState::Held
                                    && business_ms >= record.expires_at.0)
                        })
                    })
                });
                let due_ms =
                    self.model.reservation(id.0).and_then(|past| past.last()).and_then(Option::as_ref);
                if matches!(ask, Ask::Commit(_))
                    && due_ms.map(|record| record.expires_at.0) == Some(copy.business_ms)
                {
                    sometimes!("a commit came at the deadline and was refused");
                }
                if !over {
                    return Err(unjustified("its time was not over"));
                }
                self.said_over.insert(id.0, self.life);
                Ok(())
            }
            Refusal::CartExpired => {
                let (Ask::SeeCart(id)
                | Ask::AddLines(id, ..)
                | Ask::SetQuantity(id, ..)
                | Ask::DeleteCart(id)
                | Ask::Checkout(id, _)) = &ask
                else {
                    return if matches!(ask, Ask::MakeCart(_)) {
                        Ok(())
                    } else {
                        Err(unjustified("no cart was asked for"))
                    };
                };
                let over =
                    self.model.carts.get(&id.0).is_none_or(|cart| {
                        cart.stage == CartStage::Gone || business_ms >= cart.expires_at_ms
                    });
                if over { Ok(()) } else { Err(unjustified("the cart is open")) }
            }
            Refusal::PriceChanged { expected, total } => {
                let Ask::Checkout(id, Some(asked)) = &ask else {
                    return Err(unjustified("no total was named"));
                };
                let was = self.model.carts.get(&id.0).is_some_and(|cart| {
                    cart.past
                        .was(copy.asked, |view| view.as_ref().is_some_and(|view| view.totals.total == *total))
                });
                let right = asked == expected && expected != total && was;
                if right { Ok(()) } else { Err(unjustified("the total was never that")) }
            }
            Refusal::VersionMismatch { current } => {
                let was = match &ask {
                    Ask::Count(sku, _, asked) => {
                        asked != current
                            && self.model.shelves.get(sku).is_some_and(|shelf| {
                                shelf.past.was(copy.asked, |view| view.version == *current)
                            })
                    }
                    Ask::AddLines(id, _, Some(asked)) | Ask::SetQuantity(id, _, _, Some(asked)) => {
                        asked != current
                            && self.model.carts.get(&id.0).is_some_and(|cart| {
                                cart.past.was(copy.asked, |view| {
                                    view.as_ref().is_none_or(|view| view.version == *current)
                                })
                            })
                    }
                    _ => false,
                };
                if was { Ok(()) } else { Err(unjustified("the version was never that")) }
            }
            Refusal::PaymentDeclined { .. } => {
                let said = self.model.refused.get(&copy.stamp.key.0) == Some(refusal);
                if said || !copy.keyed { Ok(()) } else { Err(unjustified("no event says so")) }
            }
            Refusal::IllegalTransition { from, .. } => {
                self.judge_illegal(copy, &ask, from).map_err(|what| unjustified(&what))
            }
            Refusal::KeyReused => {
                sometimes!("a key was refused for another body");
                let others = self.requests.iter().enumerate().any(|(at, other)| {
                    at != copy.request
                        && other.key.is_some()
                        && other.key == self.requests[copy.request].key
                        && other.ask != ask
                });
                if others { Ok(()) } else { Err(unjustified("nobody else used the key")) }
            }
            Refusal::StorageFull { .. } => {
                let is_full = self.clock.now_ms() <= self.full_until_ms;
                if is_full && !self.is_tight() {
                    sometimes!("a full disk refused");
                }
                if !is_full && !self.is_tight() {
                    return Err(unjustified("there is room"));
                }
                let asked_at_ms = self.requests[copy.request].asked_at_ms;
                self.check_storage_full(&ask, asked_at_ms)
            }
            Refusal::Validation(_) => match &ask {
                Ask::Define(_, definition, _)
                    if matches!(definition.oversell, doorbuster_engine::stock::Oversell::Deny) =>
                {
                    Ok(())
                }
                // All that is left, where nothing is left.
                Ask::Refund(_, None, None, _) => Ok(()),
                _ => Err(unjustified("it is sound")),
            },
            Refusal::PaymentUnavailable { .. } => {
                sometimes!("a checkout was refused because the provider was away");
                let fits = matches!(ask, Ask::Checkout(..)) && !self.orders_wait;
                if fits { Ok(()) } else { Err(unjustified("orders may wait for the provider")) }
            }
            Refusal::InProgress { .. } | Refusal::DeadlineExceeded | Refusal::Recovering { .. } => Ok(()),
            Refusal::Overloaded { .. } | Refusal::Draining => Err(unjustified("there is room")),
        }
    }

    fn reservation_may_be_missing(&self, copy: Copy, id: ReservationId) -> bool {
        if self.model.orders.contains_key(&id.0) {
            return true;
        }
        match self.model.reservation(id.0) {
            None => true,
            Some(past) => {
                past.began_after(copy.asked)
                    || past.was(copy.asked, |record| {
                        record.as_ref().is_none_or(|record| {
                            // A slow disk may not have its end yet: nobody who is refused waits for that.
                            let ended = record.state != ReservationState::Held
                                || self.business_ms() >= record.expires_at.0;
                            ended && self.is_old(record.created_at.0)
                        })
                    })
            }
        }
    }

    fn judge_illegal(&self, copy: Copy, ask: &Ask, from: &str) -> Result<(), String> {
        let name = |state: ReservationState| match state {
            ReservationState::Held => "held",
            ReservationState::Committed => "committed",
            ReservationState::Released => "released",
            ReservationState::Expired => "expired",
        };
        let was = match ask {
            Ask::Commit(id) | Ask::Release(id) | Ask::Extend(id, _) => {
                self.model.orders.contains_key(&id.0)
                    || self.model.reservation(id.0).is_some_and(|past| {
                        past.was(copy.asked, |record| {
                            record.as_ref().is_some_and(|record| {
                                name(record.state) == from && record.state != ReservationState::Held
                            })
                        })
                    })
            }
            Ask::AddLines(id, ..) | Ask::SetQuantity(id, ..) | Ask::DeleteCart(id) | Ask::Checkout(id, _) => {
                self.model.carts.get(&id.0).is_some_and(|cart| {
                    cart.past.was(copy.asked, |view| {
                        view.as_ref().is_some_and(|view| match from {
                            "checking_out" => {
                                view.state == doorbuster_engine::cart::CartStateName::CheckingOut
                            }
                            "ordered" => view.state == doorbuster_engine::cart::CartStateName::Ordered,
                            "open" => view.lines.is_empty(),
                            _ => false,
                        })
                    })
                })
            }
            Ask::Confirm(id) | Ask::Cancel(id) | Ask::Refund(id, ..) | Ask::Fulfil(id, _) => self
                .model
                .orders
                .get(&id.0)
                .is_some_and(|order| order.past.was(copy.asked, |view| state_name(view.state) == from)),
            _ => false,
        };
        if was { Ok(()) } else { Err(format!("it was never {from} since it was asked")) }
    }
}

/// Whether a checkout's result is what its order shows.
fn result_fits(result: &CheckoutResult, view: &OrderView) -> bool {
    match result {
        CheckoutResult::Placed => {
            view.captured == view.totals.total || view.payment_state == PaymentState::Authorized
        }
        CheckoutResult::ActionRequired { .. } => view.payment_state == PaymentState::RequiresAction,
        CheckoutResult::PaymentPending => view.payment_state == PaymentState::Pending,
    }
}
