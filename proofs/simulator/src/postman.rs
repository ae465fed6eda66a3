//! The provider tells unasked: any state that a payment ever had, soon or days later, out of order, and more than once. Money
//! comes besides too, for orders that do not want it. Laws 3, 5 and 7.

use std::time::Duration;

use doorbuster_actors::{Engine, HearError, Heard};
use doorbuster_engine::answer::Refusal;
use doorbuster_engine::identity::OrderId;
use doorbuster_engine::money::Money;
use doorbuster_engine::order::OrderState;

use crate::ask::PROVIDER;
use crate::broken::{Broken, Checked, demand};
use crate::common::Common;
use crate::ledger::Origin;
use crate::model::purchase::Purchase;
use crate::provider::{SharedCommon, lock};
use crate::random::Random;
use crate::sometimes;

/// How long the provider waits for an answer to what it tells, in milliseconds.
const PATIENCE_MS: u64 = 1_500;

/// Payments that come besides for one order: more than this an engine need not send back.
const BESIDES_MAX: usize = 3;

/// Tells one event again and again until an order takes it, at most so often.
const TRIES_MAX: usize = 400;

/// One life of the postman.
pub async fn deliver(common: SharedCommon, engine: Engine, mut random: Random) {
    loop {
        let pause_ms = {
            let mut guard = lock(&common);
            if guard.dead {
                return;
            }
            let quiet = guard.is_quiet();
            misdirect(&mut guard, &mut random);
            if quiet { random.between(300, 3_000) } else { random.weighted(&[(4, 5), (4, 30), (3, 120)]) }
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let Some(at) = choose(&mut lock(&common), &mut random) else { continue };
        let copies = if random.percent(15) { 2 } else { 1 };
        let told = (0..copies).map(|_| {
            let (common, engine) = (SharedCommon::clone(&common), engine.clone());
            tokio::task::spawn_local(async move { tell(&common, &engine, at).await })
        });
        for told in told.collect::<Vec<_>>() {
            if !matches!(told.await, Ok(Some(_))) {
                return;
            }
        }
    }
}

/// Tells everything that no order has taken yet, until each has. `None` when the life ended meanwhile.
pub async fn deliver_all(common: &SharedCommon, engine: &Engine) -> Option<()> {
    for _ in 0..TRIES_MAX {
        let left: Vec<usize> = {
            let mut common = lock(common);
            common.note_payments();
            let tales = common.ledger.tales.iter().enumerate();
            tales.filter(|(_, tale)| tale.taken == 0).map(|(at, _)| at).collect()
        };
        if left.is_empty() {
            return Some(());
        }
        let mut taken = true;
        for at in left {
            taken &= tell(common, engine, at).await?;
        }
        if !taken {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    lock(common).fail(Broken { law: 6, seen: "the engine does not take what its provider tells".into() });
    None
}

/// Tells some of what was told long ago once more. `None` when the life ended meanwhile.
pub async fn repeat(common: &SharedCommon, engine: &Engine, random: &mut Random, times: usize) -> Option<()> {
    for _ in 0..times {
        let at = {
            let common = lock(common);
            let known = common.ledger.tales.len();
            if known == 0 {
                return Some(());
            }
            random.index(known)
        };
        tell(common, engine, at).await?;
        sometimes!("a notice came days late");
    }
    Some(())
}

impl Common {
    /// Notes what payments came to by themselves.
    pub fn note_payments(&mut self) {
        self.ledger.now_ms = self.clock.now_ms();
        self.ledger.note_all();
    }
}

/// Which event is told next: most likely a new one.
fn choose(common: &mut Common, random: &mut Random) -> Option<usize> {
    common.note_payments();
    let tales = &common.ledger.tales;
    if tales.is_empty() {
        return None;
    }
    if random.percent(65) {
        let new: Vec<usize> = (0..tales.len()).rev().filter(|at| tales[*at].taken == 0).take(12).collect();
        if !new.is_empty() {
            return Some(*random.pick(&new));
        }
    }
    Some(random.index(tales.len()))
}

/// Money comes for an order that did not ask for it, now and then.
fn misdirect(common: &mut Common, random: &mut Random) {
    if !random.one_in(20) {
        return;
    }
    let origin = if random.percent(60) { Origin::Stray } else { Origin::OtherAmount };
    let fits = |order: &&Purchase| {
        let besides =
            common.ledger.payments_of(order.id()).filter(|(_, payment, _)| payment.origin != Origin::Asked);
        let few = besides.count() < BESIDES_MAX && order.total().amount > 0;
        few && match origin {
            Origin::Stray => {
                order.is_off()
                    || order.waits_at().is_some()
                    || order.reference().is_some()
                    || order.may_be_paid_by_anyone()
            }
            Origin::OtherAmount | Origin::Asked => order.may_be_paid_by_anyone() || order.is_off(),
        }
    };
    // One that is off, more often than not; then one whose payment is open: the others are many.
    let open = random.percent(60);
    let all: Vec<&Purchase> = common.model.orders.values().filter(fits).collect();
    let some: Vec<&Purchase> =
        all.iter().copied().filter(|order| order.is_off() != open && !order.is_placed()).collect();
    let among = if some.is_empty() { all } else { some };
    if among.is_empty() {
        return;
    }
    let order = *random.pick(&among);
    let (id, total) = (order.id(), order.total());
    let amount = match origin {
        Origin::OtherAmount => {
            Money { amount: total.amount + if random.percent(50) { 1 } else { -1 }, ..total }
        }
        Origin::Stray | Origin::Asked => total,
    };
    common.ledger.now_ms = common.clock.now_ms();
    common.ledger.life = common.life;
    let reference = common.ledger.besides(id, amount, origin);
    common.faults += 1;
    let now_ms = common.clock.now_ms();
    common.trace.line(now_ms, || format!("{amount:?} come for {id} besides, as {reference}"));
}

/// Tells one event and judges what is said to it: whether it was taken. `None` when the life ended meanwhile.
async fn tell(common: &SharedCommon, engine: &Engine, at: usize) -> Option<bool> {
    let (event, order, asked) = {
        let mut common = lock(common);
        if common.dead {
            return None;
        }
        let tale = &common.ledger.tales[at];
        let (event, news) = (tale.event.clone(), tale.news.clone());
        let asked = common.model.index;
        let now_ms = common.clock.now_ms();
        common.trace.line(now_ms, || format!("the provider tells {event}: {news:?}"));
        (event, news.order, asked)
    };
    let nothing = |_: &str| None;
    let deadline = crate::world::deadline(PATIENCE_MS);
    let heard = engine.hear(PROVIDER, &nothing, event.as_bytes(), deadline).await;
    let mut common = lock(common);
    if common.dead {
        return None;
    }
    let now_ms = common.clock.now_ms();
    common.trace.mix(now_ms ^ 5);
    common.trace.line(now_ms, || format!("said to {event}: {heard:?}"));
    let checked = common.judge_heard(&event, order, asked, &heard);
    common.note(checked);
    let taken = matches!(heard, Ok(Heard::Taken { .. }));
    if taken {
        let tale = &mut common.ledger.tales[at];
        tale.taken += 1;
        if tale.taken == 2 {
            sometimes!("a notice came twice");
        }
    }
    Some(taken)
}

impl Common {
    /// Law 3: what an order is said to have taken is durable. Law 4: nobody says that an order is not there that is.
    fn judge_heard(
        &mut self,
        event: &str,
        order: OrderId,
        asked: u64,
        heard: &Result<Heard, HearError>,
    ) -> Checked {
        let known = self.model.orders.get(&order.0);
        match heard {
            Ok(Heard::Taken { .. }) => {
                let durable = known.is_some_and(|order| order.has_heard(event));
                demand(durable, 3, || format!("{order} is said to have taken {event}, and no event says so"))
            }
            Ok(Heard::NotOurs { .. }) => {
                let there = known.is_some_and(|order| !order.past.began_after(asked));
                demand(!there, 4, || format!("{event} is said to be about nobody, and {order} is there"))
            }
            Err(HearError::Refused(
                Refusal::DeadlineExceeded | Refusal::Recovering { .. } | Refusal::StorageFull { .. },
            )) => Ok(()),
            // An order whose payment is open may not know yet whose money it is.
            Err(HearError::Refused(Refusal::InProgress { .. })) => {
                sometimes!("an order could not tell yet whose money came");
                let open = known.is_none_or(|order| {
                    order.past.was(asked, |view| view.state == OrderState::PendingPayment)
                });
                demand(open, 4, || format!("{event} was not taken, and {order} is not under way"))
            }
            Err(error) => {
                // Proving it goes the way of all that is outside, which has its own deadline.
                Err(Broken { law: 4, seen: format!("{event} was refused: {error:?}") })
            }
        }
    }
}
