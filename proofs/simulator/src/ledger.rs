//! The payment provider's own books: what was charged, declined, voided and refunded, whatever it told the engine.
//!
//! It keeps the trait's promises (a key is one charge for ever, a voided charge never succeeds) and is otherwise as bad as a
//! provider can be: it answers late, twice, not at all, or without saying anything; it charges and forgets to say so. Laws 7
//! and 8 are checked against these books.

use std::collections::BTreeMap;

use doorbuster_engine::identity::OrderId;
use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{ChargeOutcome, ChargeRequest, RefundOutcome, VoidOutcome};

use crate::broken::{Checked, demand};
use crate::random::Random;

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// After so many milliseconds.
    After(u64),
    /// The request never arrived.
    Lost,
    /// Done, and nothing said.
    Silent,
    /// Done, and answered with nothing definite.
    Vague,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pays,
    Declines { retryable: bool },
    AsksShopper { pays: bool },
}

/// One charge in the books.
#[derive(Clone, Debug)]
pub struct Charge {
    /// For which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// In which life of the engine it was asked for first.
    pub life: u64,
    fate: Fate,
    settles_at_ms: u64,
    confirmed_at_ms: Option<u64>,
    voided: bool,
}

/// See the module's header.
#[derive(Debug)]
pub struct Ledger {
    /// The world's time.
    pub now_ms: u64,
    /// The engine's life.
    pub life: u64,
    /// From now on everything is answered at once and definitely.
    pub healed: bool,
    random: Random,
    charges: BTreeMap<String, Charge>,
    refunds: BTreeMap<String, (OrderId, Money, bool)>,
}

impl Ledger {
    /// Empty books.
    pub fn new(random: Random) -> Self {
        Self { now_ms: 0, life: 0, healed: false, random, charges: BTreeMap::new(), refunds: BTreeMap::new() }
    }

    /// Draws how the next answer travels.
    pub fn delivery(&mut self) -> Delivery {
        if self.healed {
            return Delivery::After(1);
        }
        let after = self.random.between(1, 40);
        let late = self.random.between(280, 600);
        self.random.weighted(&[
            (62, Delivery::After(after)),
            (12, Delivery::After(late)),
            (8, Delivery::Lost),
            (8, Delivery::Silent),
            (10, Delivery::Vague),
        ])
    }

    /// A charge arrives.
    pub fn charge(&mut self, request: &ChargeRequest) -> Checked {
        let other =
            self.charges.iter().find(|(key, charge)| charge.order == request.order && **key != request.key);
        demand(other.is_none(), 7, || {
            format!("{} is charged under two keys: {other:?}, {request:?}", request.order)
        })?;
        if let Some(known) = self.charges.get(&request.key) {
            return demand(known.amount == request.amount && known.order == request.order, 7, || {
                format!("{} first asked for {:?}, then {:?}", request.key, known.amount, request.amount)
            });
        }
        let fate = if self.healed {
            Fate::Pays
        } else {
            let pays = self.random.percent(70);
            let retryable = self.random.percent(50);
            self.random.weighted(&[
                (62, Fate::Pays),
                (18, Fate::Declines { retryable }),
                (20, Fate::AsksShopper { pays }),
            ])
        };
        let takes_ms =
            if !self.healed && self.random.percent(20) { self.random.between(200, 4_000) } else { 0 };
        self.enter(request, fate, self.now_ms + takes_ms);
        Ok(())
    }

    fn enter(&mut self, request: &ChargeRequest, fate: Fate, settles_at_ms: u64) {
        let charge = Charge {
            order: request.order,
            amount: request.amount,
            life: self.life,
            fate,
            settles_at_ms,
            confirmed_at_ms: None,
            voided: false,
        };
        self.charges.insert(request.key.clone(), charge);
    }

    /// The shopper has acted.
    pub fn confirm(&mut self, request: &ChargeRequest) {
        let takes_ms =
            if !self.healed && self.random.percent(30) { self.random.between(100, 2_000) } else { 0 };
        let done_ms = self.now_ms + takes_ms;
        if let Some(charge) = self.charges.get_mut(&request.key)
            && charge.confirmed_at_ms.is_none()
        {
            charge.confirmed_at_ms = Some(done_ms);
        }
    }

    /// How a charge stands, as the provider would say it now.
    pub fn outcome(&self, key: &str) -> ChargeOutcome {
        let reference = || format!("ch_{key}");
        match self.charges.get(key) {
            None => ChargeOutcome::Unknown,
            Some(charge) if charge.voided => {
                ChargeOutcome::Declined { reason: "the charge was cancelled".into(), retryable: true }
            }
            Some(charge) if self.now_ms < charge.settles_at_ms => ChargeOutcome::Unknown,
            Some(charge) => match (charge.fate, charge.confirmed_at_ms) {
                (Fate::Pays, _) => ChargeOutcome::Captured { reference: reference() },
                (Fate::Declines { retryable }, _) => {
                    ChargeOutcome::Declined { reason: "card declined".into(), retryable }
                }
                (Fate::AsksShopper { .. }, None) => ChargeOutcome::ActionRequired {
                    reference: reference(),
                    client_secret: format!("secret_{key}"),
                },
                (Fate::AsksShopper { .. }, Some(at_ms)) if self.now_ms < at_ms => ChargeOutcome::Unknown,
                (Fate::AsksShopper { pays: true }, Some(_)) => {
                    ChargeOutcome::Captured { reference: reference() }
                }
                (Fate::AsksShopper { pays: false }, Some(_)) => {
                    ChargeOutcome::Declined { reason: "the shopper gave up".into(), retryable: false }
                }
            },
        }
    }

    /// A look-up arrives. A charge never seen is declined for good.
    pub fn look_up(&mut self, request: &ChargeRequest) -> ChargeOutcome {
        if !self.charges.contains_key(&request.key) {
            self.enter(request, Fate::Declines { retryable: true }, self.now_ms);
        }
        self.outcome(&request.key)
    }

    /// A cancellation arrives.
    pub fn void(&mut self, request: &ChargeRequest) -> VoidOutcome {
        match self.look_up(request) {
            ChargeOutcome::Captured { reference } => VoidOutcome::AlreadyCaptured { reference },
            ChargeOutcome::Unknown => VoidOutcome::Unknown,
            ChargeOutcome::Declined { .. } | ChargeOutcome::ActionRequired { .. } => {
                if let Some(charge) = self.charges.get_mut(&request.key) {
                    charge.voided = true;
                }
                VoidOutcome::Voided
            }
        }
    }

    /// A refund arrives.
    pub fn refund(
        &mut self,
        request: &ChargeRequest,
        key: &str,
        amount: Money,
    ) -> Result<RefundOutcome, crate::broken::Broken> {
        let refuses = !self.healed && self.random.percent(15);
        if !self.refunds.contains_key(key) {
            let back: i64 = self
                .refunds
                .values()
                .filter(|(order, _, done)| *order == request.order && *done)
                .map(|(_, amount, _)| amount.amount)
                .sum();
            let taken = self.captured(request.order);
            demand(back + amount.amount <= taken, 7, || {
                format!("{}: {back} of {taken} went back, {} more is asked", request.order, amount.amount)
            })?;
            self.refunds.insert(key.to_owned(), (request.order, amount, !refuses));
        }
        let (order, known, done) = self.refunds[key];
        demand(order == request.order && known == amount, 7, || {
            format!("refund {key} first asked for {known:?}, then {amount:?}")
        })?;
        Ok(if done {
            RefundOutcome::Refunded { reference: format!("re_{key}") }
        } else {
            RefundOutcome::Refused { reason: "the account is closed".into() }
        })
    }

    /// Minor units taken for an order.
    pub fn captured(&self, order: OrderId) -> i64 {
        let of_order = self.charges.iter().filter(|(_, charge)| charge.order == order);
        let captured = of_order
            .filter(|(key, _)| matches!(self.outcome(key), ChargeOutcome::Captured { .. }))
            .map(|(_, charge)| charge.amount.amount);
        captured.sum()
    }

    /// Minor units given back for an order.
    pub fn refunded(&self, order: OrderId) -> i64 {
        let of_order = self.refunds.values().filter(|(of, _, done)| *of == order && *done);
        of_order.map(|(_, amount, _)| amount.amount).sum()
    }

    /// Whether the money of a refund went back: `None` while it was never asked for.
    pub fn went_back(&self, refund: &str) -> Option<bool> {
        self.refunds.get(refund).map(|(_, _, done)| *done)
    }

    /// The charge of an order.
    pub fn charge_of(&self, order: OrderId) -> Option<&Charge> {
        self.charges.values().find(|charge| charge.order == order)
    }

    /// Law 8: whoever lets an order's units go must know that no charge of it can succeed any more.
    pub fn check_never_charged(&self, order: OrderId) -> Checked {
        for (key, charge) in self.charges.iter().filter(|(_, charge)| charge.order == order) {
            demand(matches!(self.outcome(key), ChargeOutcome::Declined { .. }), 8, || {
                format!("{order} is called off, and its charge stands as {:?}: {charge:?}", self.outcome(key))
            })?;
        }
        Ok(())
    }
}
