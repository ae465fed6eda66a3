//! The payment provider as the engine meets it: the books of [`crate::ledger`] behind a bad connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{
    Answering, ChargeOutcome, ChargeRequest, PaymentProvider, RefundOutcome, VoidOutcome,
};

use crate::ask::PROVIDER;
use crate::broken::{Checked, demand};
use crate::common::Common;
use crate::ledger::Delivery;
use crate::model::Model;

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
}

impl Provider {
    /// A door to the world's provider.
    pub fn new(common: SharedCommon) -> Self {
        Self { common }
    }

    /// A request arrives: `act` changes the books, unless it was lost on the way.
    fn arrive(
        &self,
        what: &str,
        request: &ChargeRequest,
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
        let checked = check_demand(&common.model, request);
        common.note(checked);
        if delivery != Delivery::Lost {
            let checked = act(&mut common);
            common.note(checked);
        }
        if !common.ledger.healed && !matches!(delivery, Delivery::After(_)) {
            common.faults += 1;
        }
        delivery
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
                Delivery::Lost | Delivery::Silent => tokio::time::sleep(Duration::from_secs(3_600)).await,
                Delivery::Vague => {
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

/// Law 7: whatever is asked of the provider, the demand for it is durable, and is the order's own total.
fn check_demand(model: &Model, request: &ChargeRequest) -> Checked {
    let order = model.orders.get(&request.order.0);
    let reserved = order.is_some_and(|order| order.stage != crate::model::purchase::Stage::Holding);
    demand(reserved, 7, || {
        format!("the provider is asked about {} before the demand is durable", request.order)
    })?;
    let total = order.map(crate::model::purchase::Purchase::total);
    demand(total == Some(request.amount), 7, || {
        format!("{} is to pay {:?}, its total is {total:?}", request.order, request.amount)
    })
}

impl PaymentProvider for Provider {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    fn charge(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        let delivery = self.arrive("charge", request, |common| common.ledger.charge(request));
        let key = request.key.clone();
        self.answer(delivery, ChargeOutcome::Unknown, move |common| common.ledger.outcome(&key))
    }

    fn confirm(&self, request: &ChargeRequest, _: &str) -> Answering<ChargeOutcome> {
        let delivery = self.arrive("confirm", request, |common| {
            common.ledger.confirm(request);
            Ok(())
        });
        let key = request.key.clone();
        self.answer(delivery, ChargeOutcome::Unknown, move |common| common.ledger.outcome(&key))
    }

    fn look_up(&self, request: &ChargeRequest) -> Answering<ChargeOutcome> {
        let delivery = self.arrive("look up", request, |common| {
            common.ledger.look_up(request);
            Ok(())
        });
        let key = request.key.clone();
        self.answer(delivery, ChargeOutcome::Unknown, move |common| common.ledger.outcome(&key))
    }

    fn void(&self, request: &ChargeRequest, _: Option<&str>) -> Answering<VoidOutcome> {
        let mut outcome = VoidOutcome::Unknown;
        let delivery = self.arrive("void", request, |common| {
            outcome = common.ledger.void(request);
            Ok(())
        });
        self.answer(delivery, VoidOutcome::Unknown, move |_| outcome)
    }

    fn refund(&self, request: &ChargeRequest, _: &str, key: &str, amount: Money) -> Answering<RefundOutcome> {
        let mut outcome = RefundOutcome::Unknown;
        let delivery = self.arrive("refund", request, |common| {
            outcome = common.ledger.refund(request, key, amount)?;
            Ok(())
        });
        self.answer(delivery, RefundOutcome::Unknown, move |_| outcome)
    }
}
