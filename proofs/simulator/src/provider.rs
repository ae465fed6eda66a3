//! The payment provider as the engine meets it: the books of [`crate::ledger`] behind a bad connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{
    Answering, CaptureOutcome, ChargeOutcome, ChargeRequest, Notice, NoticeError, PaymentProvider,
    RefundOutcome, VoidOutcome,
};

use crate::ask::PROVIDER;
use crate::broken::{Checked, demand};
use crate::common::Common;
use crate::ledger::Delivery;
use crate::model::Model;
use crate::model::purchase::{Purchase, Stage};
use crate::sometimes;

/// What a world shares, from wherever.
pub type SharedCommon = Arc<Mutex<Common>>;

/// Everything is one thread, so nobody waits here; a panic elsewhere is reported by itself.
pub fn lock(common: &SharedCommon) -> MutexGuard<'_, Common> {
    common.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module's header.
#[derive(Debug)]
pub struct Provider {
    common: SharedCommon,
    calls_per_second_max: Option<u32>,
    /// When the calls of the last second came, true time.
    calls: Mutex<VecDeque<u64>>,
}

impl Provider {
    /// A door to the world's provider, of one life.
    pub fn new(common: SharedCommon, calls_per_second_max: Option<u32>) -> Self {
        Self { common, calls_per_second_max, calls: Mutex::default() }
    }

    /// A request arrives: `act` changes the books, unless it was lost on the way.
    fn arrive(
        &self,
        what: &str,
        request: &ChargeRequest,
        may: impl FnOnce(&Model) -> Checked,
        act: impl FnOnce(&mut Common) -> Checked,
    ) -> Delivery {
        let mut common = lock(&self.common);
        let now_ms = common.clock.now_ms();
        common.ledger.now_ms = now_ms;
        common.ledger.life = common.life;
        let delivery = common.ledger.delivery();
        if common.dead {
            return Delivery::Lost;
        }
        common.trace.mix(now_ms ^ 3);
        common.trace.line(now_ms, || format!("provider is asked to {what} {}: {delivery:?}", request.key));
        let checked = self.check_pace(now_ms);
        common.note(checked);
        let checked = check_demand(&common.model, request).and_then(|()| may(&common.model));
        common.note(checked);
        if delivery.arrives() {
            let checked = act(&mut common);
            common.note(checked);
        }
        // That it is away at all was counted once.
        if !common.ledger.healed && !matches!(delivery, Delivery::After(_) | Delivery::Away { .. }) {
            common.faults += 1;
        }
        delivery
    }

    /// Law 11: no second sees more than a fifth above the pace.
    fn check_pace(&self, now_ms: u64) -> Checked {
        let Some(pace) = self.calls_per_second_max else { return Ok(()) };
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push_back(now_ms);
        while calls.front().is_some_and(|at_ms| at_ms + 1_000 <= now_ms) {
            calls.pop_front();
        }
        let most = usize::try_from(pace + pace / 5 + 1).unwrap_or(usize::MAX);
        demand(calls.len() <= most, 11, || {
            format!("{} calls to the provider within a second, the pace is {pace}", calls.len())
        })
    }

    fn answer<T: Send + 'static>(
        &self,
        delivery: Delivery,
        vague: T,
        say: impl FnOnce(&mut Common) -> T + Send + 'static,
    ) -> Answering<T> {
        let common = Arc::clone(&self.common);
        Box::pin(async move {
            match delivery {
                Delivery::After(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                // Longer than anybody waits.
                Delivery::Lost | Delivery::Silent | Delivery::Away { said: false } => {
                    tokio::time::sleep(Duration::from_secs(3_600)).await;
                }
                Delivery::Vague | Delivery::Away { said: true } => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    return vague;
                }
            }
            let mut common = lock(&common);
            common.ledger.now_ms = common.clock.now_ms();
            say(&mut common)
        })
    }
}

/// Laws 7 and 8: whatever is asked of the provider, the demand for it is durable and is the order's own total, and no order
/// that waits for the provider is asked about.
fn check_demand(model: &Model, request: &ChargeRequest) -> Checked {
    let order = model.orders.get(&request.order.0);
    let reserved = order.is_some_and(|order| order.stage != Stage::Holding);
    demand(reserved, 7, || {
        format!("the provider is asked about {} before the demand is durable", request.order)
    })?;
    let waits = order.is_some_and(|order| matches!(order.stage, Stage::Deferred { .. }));
    demand(!waits, 8, || format!("the provider is asked about {}, which waits for it", request.order))?;
    let total = order.map(Purchase::total);
    demand(total == Some(request.amount), 7, || {
        format!("{} is to pay {:?}, its total is {total:?}", request.order, request.amount)
    })
}

/// Nothing more than [`check_demand`].
#[expect(clippy::unnecessary_wraps)] // one of several checks of the same shape
fn always(_: &Model) -> Checked {
    Ok(())
}

impl PaymentProvider for Provider {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    fn calls_per_second_max(&self) -> Option<u32> {
        self.calls_per_second_max
    }

    fn authorize(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        let delivery = self.arrive("authorize", request, always, |common| common.ledger.authorize(request));
        let key = request.key.clone();
        self.answer(delivery, ChargeOutcome::Unknown, move |common| common.ledger.outcome(&key))
    }

    fn confirm(&self, request: &ChargeRequest, _: &str) -> Answering<ChargeOutcome> {
        let delivery = self.arrive("confirm", request, always, |common| {
            common.ledger.confirm(request);
            Ok(())
        });
        let key = request.key.clone();
        self.answer(delivery, ChargeOutcome::Unknown, move |common| common.ledger.outcome(&key))
    }

    fn look_up(&self, request: &ChargeRequest, _: Option<&str>) -> Answering<ChargeOutcome> {
        let delivery = self.arrive("look up", request, always, |common| common.ledger.look_up(request));
        let key = request.key.clone();
        self.answer(delivery, ChargeOutcome::Unknown, move |common| common.ledger.outcome(&key))
    }

    fn capture(&self, request: &ChargeRequest, reference: &str) -> Answering<CaptureOutcome> {
        let mut outcome = CaptureOutcome::Unknown;
        let may = |model: &Model| {
            let sold = model.orders.get(&request.order.0).is_some_and(Purchase::has_sold);
            demand(sold, 7, || format!("{} is to pay, and its units are not sold", request.order))
        };
        let delivery = self.arrive("capture", request, may, |common| {
            outcome = common.ledger.capture(reference)?;
            Ok(())
        });
        if delivery == Delivery::Silent || delivery == Delivery::Vague {
            sometimes!("a capture was done and nobody told");
        }
        self.answer(delivery, CaptureOutcome::Unknown, move |_| outcome)
    }

    fn void(&self, request: &ChargeRequest, reference: Option<&str>) -> Answering<VoidOutcome> {
        let mut outcome = VoidOutcome::Unknown;
        let may = |model: &Model| {
            let wants = model.orders.get(&request.order.0).is_some_and(|order| order.may_void(reference));
            demand(wants, 8, || format!("{} cancels {reference:?}, which it may want", request.order))
        };
        let delivery = self.arrive("void", request, may, |common| {
            outcome = common.ledger.void(request, reference);
            Ok(())
        });
        self.answer(delivery, VoidOutcome::Unknown, move |_| outcome)
    }

    fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Answering<RefundOutcome> {
        let mut outcome = RefundOutcome::Unknown;
        let may = |model: &Model| {
            let order = model.orders.get(&request.order.0);
            let wants = order.is_some_and(|order| order.gives_back(reference, key, amount));
            demand(wants, 7, || format!("{} gives {amount:?} of {reference} back, unasked", request.order))
        };
        let delivery = self.arrive("refund", request, may, |common| {
            outcome = common.ledger.refund(request, reference, key, amount)?;
            Ok(())
        });
        self.answer(delivery, RefundOutcome::Unknown, move |_| outcome)
    }

    /// A webhook of this world is the id of an event in the provider's books.
    fn notice(
        &self,
        _: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        _: u64,
    ) -> Answering<Result<Notice, NoticeError>> {
        let common = lock(&self.common);
        let known = common.ledger.tales.iter().find(|tale| tale.event.as_bytes() == body);
        let notice = known.map(|tale| Notice {
            event: tale.event.clone(),
            kind: format!("{:?}", tale.news.standing).to_lowercase(),
            news: Some(tale.news.clone()),
            failed_refund: None,
        });
        Box::pin(std::future::ready(notice.ok_or(NoticeError::BadSignature)))
    }
}
