//! The payment provider's own books: what was authorized, captured, declined, cancelled and given back, whatever it told the
//! engine; and every state that a payment ever had, of which it may tell unasked.
//!
//! It keeps the trait's promises (a key is one payment for ever, a cancelled payment never succeeds) and is otherwise as bad
//! as a provider can be: it answers late, twice, not at all, or without saying anything; it is away for minutes; it lets
//! authorized money go; it takes money for an order a second time, or of another amount. Laws 7 and 8 are checked against
//! these books.

use std::collections::BTreeMap;

use doorbuster_engine::identity::OrderId;
use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{
    CaptureOutcome, ChargeOutcome, ChargeRequest, NextAction, PaymentNews, RefundOutcome, Standing,
    VoidOutcome,
};

use crate::broken::{Broken, Checked, demand};
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
    /// The provider is away: nobody answers, or somebody says that nobody does.
    Away {
        /// Whether the caller is told at once.
        said: bool,
    },
}

impl Delivery {
    /// Whether the request reached the books.
    pub fn arrives(self) -> bool {
        !matches!(self, Self::Lost | Self::Away { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pays,
    Declines { retryable: bool },
    AsksShopper { pays: bool },
}

/// Why a payment is in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The engine asked for it.
    Asked,
    /// It came besides, over the order's total: the engine has to send it back.
    Stray,
    /// It came besides, over another amount: a matter for people, which no order may believe.
    OtherAmount,
}

/// How a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nobody knows yet.
    Settling,
    /// The shopper must act.
    ShopperActs,
    /// Definitely not paid.
    Declined,
    /// Held for us.
    Authorized,
    /// Ours.
    Captured,
    /// Cancelled, by us or because the authorization ran out.
    Cancelled,
}

impl Status {
    /// Whether it can still become money, or is.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Settling | Self::ShopperActs | Self::Authorized | Self::Captured)
    }
}

/// One payment in the books.
// The flags are what was decided for it and what has happened to it, each by itself.
#[expect(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
pub struct Payment {
    /// The key it was asked for with.
    pub key: String,
    /// For which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// In which life of the engine it was asked for first.
    pub life: u64,
    /// Why it is here.
    pub origin: Origin,
    fate: Fate,
    /// Whether the money is taken at once, or only held until it is captured.
    at_once: bool,
    /// Whether a capture will find that the authorization ran out.
    runs_out: bool,
    ran_out: bool,
    settles_at_ms: u64,
    confirmed_at_ms: Option<u64>,
    /// When the shopper acts on the provider's own page, if nobody asked before.
    acts_at_ms: Option<u64>,
    captured: bool,
    voided: bool,
    /// The newest state that was noted as one to tell of.
    noted: Option<Status>,
}

impl Payment {
    fn status(&self, now_ms: u64) -> Status {
        if self.voided || self.ran_out {
            return Status::Cancelled;
        }
        if now_ms < self.settles_at_ms {
            return Status::Settling;
        }
        let paid = if self.at_once || self.captured { Status::Captured } else { Status::Authorized };
        let acted_at_ms = self.acts_at_ms.filter(|at_ms| *at_ms <= now_ms);
        match (self.fate, acted_at_ms.or(self.confirmed_at_ms)) {
            (Fate::Pays, _) => paid,
            (Fate::Declines { .. }, _) => Status::Declined,
            (Fate::AsksShopper { .. }, None) => Status::ShopperActs,
            (Fate::AsksShopper { .. }, Some(at_ms)) if now_ms < at_ms => Status::Settling,
            (Fate::AsksShopper { pays: true }, Some(_)) => paid,
            (Fate::AsksShopper { pays: false }, Some(_)) => Status::Declined,
        }
    }
}

/// A refund in the books.
#[derive(Clone, Debug)]
struct Returned {
    reference: String,
    amount: Money,
    done: bool,
}

/// Something to tell of, and how often it was told.
#[derive(Clone, Debug)]
pub struct Tale {
    /// The event's id: its copies bear the same.
    pub event: String,
    /// What it says.
    pub news: PaymentNews,
    /// When it was so, true time.
    pub at_ms: u64,
    /// How often an order has taken it.
    pub taken: u32,
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
    /// Until when the provider is away.
    pub away_until_ms: u64,
    /// What there is to tell of, oldest first.
    pub tales: Vec<Tale>,
    random: Random,
    /// By the provider's name for it.
    payments: BTreeMap<String, Payment>,
    /// The name of a payment by the key it was asked for with.
    by_key: BTreeMap<String, String>,
    by_order: BTreeMap<u128, Vec<String>>,
    refunds: BTreeMap<String, Returned>,
}

impl Ledger {
    /// Empty books.
    pub fn new(random: Random) -> Self {
        Self {
            now_ms: 0,
            life: 0,
            healed: false,
            away_until_ms: 0,
            tales: Vec::new(),
            random,
            payments: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_order: BTreeMap::new(),
            refunds: BTreeMap::new(),
        }
    }

    /// Draws how the next answer travels.
    pub fn delivery(&mut self) -> Delivery {
        if self.healed {
            return Delivery::After(1);
        }
        if self.is_away() {
            return Delivery::Away { said: self.random.percent(30) };
        }
        let after = self.random.between(1, 40);
        let late = self.random.between(280, 600);
        self.random.weighted(&[
            (66, Delivery::After(after)),
            (10, Delivery::After(late)),
            (8, Delivery::Lost),
            (8, Delivery::Silent),
            (8, Delivery::Vague),
        ])
    }

    /// Whether the provider is away.
    pub fn is_away(&self) -> bool {
        !self.healed && self.now_ms < self.away_until_ms
    }

    /// The engine asks for money.
    pub fn authorize(&mut self, request: &ChargeRequest) -> Checked {
        let other = self
            .of(request.order)
            .find(|payment| payment.origin == Origin::Asked && payment.key != request.key);
        demand(other.is_none(), 7, || {
            format!("{} is charged under two keys: {other:?}, {request:?}", request.order)
        })?;
        if let Some(known) = self.asked(&request.key) {
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
        let at_once = self.random.percent(40);
        let runs_out = !self.healed && self.random.percent(8);
        let acts_ms = (!self.healed && self.random.percent(40)).then(|| self.random.between(100, 7_000));
        let payment = Payment {
            key: request.key.clone(),
            order: request.order,
            amount: request.amount,
            life: self.life,
            origin: Origin::Asked,
            fate,
            at_once,
            runs_out,
            ran_out: false,
            settles_at_ms,
            confirmed_at_ms: None,
            acts_at_ms: acts_ms.map(|ms| settles_at_ms + ms),
            captured: false,
            voided: false,
            noted: None,
        };
        let reference = format!("pi_{}", request.key);
        self.by_key.insert(request.key.clone(), reference.clone());
        self.keep(&reference, payment);
    }

    fn keep(&mut self, reference: &str, payment: Payment) {
        self.by_order.entry(payment.order.0).or_default().push(reference.to_owned());
        self.payments.insert(reference.to_owned(), payment);
        self.note(reference);
    }

    /// Money comes for an order that the engine never asked for: over `amount`, ours already or only held.
    pub fn besides(&mut self, order: OrderId, amount: Money, origin: Origin) -> String {
        let number = self.of(order).count();
        let payment = Payment {
            key: format!("{order}:besides:{number}"),
            order,
            amount,
            life: self.life,
            origin,
            fate: Fate::Pays,
            at_once: self.random.percent(70),
            runs_out: false,
            ran_out: false,
            settles_at_ms: self.now_ms,
            confirmed_at_ms: None,
            acts_at_ms: None,
            captured: false,
            voided: false,
            noted: None,
        };
        let reference = format!("pi_{}", payment.key);
        self.keep(&reference, payment);
        reference
    }

    /// The shopper has acted.
    pub fn confirm(&mut self, request: &ChargeRequest) {
        let takes_ms =
            if !self.healed && self.random.percent(30) { self.random.between(100, 2_000) } else { 0 };
        let done_ms = self.now_ms + takes_ms;
        let Some(reference) = self.by_key.get(&request.key).cloned() else { return };
        if let Some(payment) = self.payments.get_mut(&reference)
            && payment.confirmed_at_ms.is_none()
        {
            payment.confirmed_at_ms = Some(done_ms);
        }
        self.note(&reference);
    }

    /// How the payment of this key stands, as the provider would say it now.
    pub fn outcome(&self, key: &str) -> ChargeOutcome {
        let Some((reference, payment)) =
            self.by_key.get(key).and_then(|name| self.payments.get_key_value(name))
        else {
            return ChargeOutcome::Unknown;
        };
        let reference = reference.clone();
        match payment.status(self.now_ms) {
            Status::Settling => ChargeOutcome::Unknown,
            Status::ShopperActs => {
                let action = if payment.amount.amount % 2 == 0 {
                    NextAction::ClientSecret(format!("secret_{key}"))
                } else {
                    NextAction::Redirect(format!("https://pay.example/{key}"))
                };
                ChargeOutcome::ActionRequired { reference, action }
            }
            Status::Authorized => ChargeOutcome::Authorized { reference },
            Status::Captured => ChargeOutcome::Captured { reference },
            Status::Cancelled => {
                ChargeOutcome::Declined { reason: "the payment was cancelled".into(), retryable: true }
            }
            Status::Declined => match payment.fate {
                Fate::Declines { retryable } => {
                    ChargeOutcome::Declined { reason: "card declined".into(), retryable }
                }
                Fate::Pays | Fate::AsksShopper { .. } => {
                    ChargeOutcome::Declined { reason: "the shopper gave up".into(), retryable: false }
                }
            },
        }
    }

    /// A look-up arrives. A payment never seen is made now, or declined for good: the trait allows both.
    pub fn look_up(&mut self, request: &ChargeRequest) -> Checked {
        if self.asked(&request.key).is_some() || self.random.percent(50) {
            return self.authorize(request);
        }
        self.enter(request, Fate::Declines { retryable: true }, self.now_ms);
        Ok(())
    }

    /// A cancellation arrives. A payment never seen can never be made from now on.
    pub fn void(&mut self, request: &ChargeRequest, reference: Option<&str>) -> VoidOutcome {
        let name = reference.map(str::to_owned).or_else(|| self.by_key.get(&request.key).cloned());
        let Some(name) = name.filter(|name| self.payments.contains_key(name)) else {
            self.enter(request, Fate::Declines { retryable: true }, self.now_ms);
            return VoidOutcome::Voided;
        };
        let now_ms = self.now_ms;
        let Some(payment) = self.payments.get_mut(&name) else { return VoidOutcome::Unknown };
        let outcome = match payment.status(now_ms) {
            Status::Captured => VoidOutcome::AlreadyCaptured { reference: name.clone() },
            Status::Settling => VoidOutcome::Unknown,
            Status::Declined | Status::ShopperActs | Status::Authorized | Status::Cancelled => {
                payment.voided = true;
                VoidOutcome::Voided
            }
        };
        self.note(&name);
        outcome
    }

    /// A capture arrives.
    pub fn capture(&mut self, reference: &str) -> Result<CaptureOutcome, Broken> {
        let now_ms = self.now_ms;
        let Some(payment) = self.payments.get_mut(reference) else {
            return Err(Broken { law: 7, seen: format!("{reference} is to be captured, and there is none") });
        };
        let outcome = match payment.status(now_ms) {
            Status::Captured => CaptureOutcome::Captured,
            Status::Authorized if payment.runs_out => {
                payment.ran_out = true;
                CaptureOutcome::Lost { reason: "the authorization ran out".into() }
            }
            Status::Authorized => {
                payment.captured = true;
                CaptureOutcome::Captured
            }
            Status::Cancelled if payment.ran_out => {
                CaptureOutcome::Lost { reason: "the authorization ran out".into() }
            }
            Status::Cancelled => CaptureOutcome::Lost { reason: "the payment was cancelled".into() },
            status @ (Status::Settling | Status::ShopperActs | Status::Declined) => {
                let seen = format!("{reference} is to be captured, it is {status:?}");
                return Err(Broken { law: 7, seen });
            }
        };
        self.note(reference);
        Ok(outcome)
    }

    /// A refund arrives.
    pub fn refund(
        &mut self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> Result<RefundOutcome, Broken> {
        let refuses = !self.healed && self.random.percent(15);
        if !self.refunds.contains_key(key) {
            let (taken, back) = self.money(reference);
            demand(back + amount.amount <= taken, 7, || {
                format!("{}: {back} of {taken} went back, {} more is asked", request.order, amount.amount)
            })?;
            let returned = Returned { reference: reference.to_owned(), amount, done: !refuses };
            self.refunds.insert(key.to_owned(), returned);
        }
        let known = &self.refunds[key];
        demand(known.reference == reference && known.amount == amount, 7, || {
            format!("refund {key} first asked for {known:?}, then {amount:?} of {reference}")
        })?;
        Ok(if known.done {
            RefundOutcome::Refunded { reference: format!("re_{key}") }
        } else {
            RefundOutcome::Refused { reason: "the account is closed".into() }
        })
    }

    /// Minor units that were ever captured of a payment, and how many went back.
    pub fn money(&self, reference: &str) -> (i64, i64) {
        let captured =
            self.payments.get(reference).filter(|payment| payment.status(self.now_ms) == Status::Captured);
        let back = self.refunds.values().filter(|refund| refund.reference == reference && refund.done);
        (captured.map_or(0, |payment| payment.amount.amount), back.map(|refund| refund.amount.amount).sum())
    }

    /// Whether the money of a refund went back: `None` while it was never asked for.
    pub fn went_back(&self, refund: &str) -> Option<bool> {
        self.refunds.get(refund).map(|refund| refund.done)
    }

    /// Whether some refund of this payment was refused.
    pub fn refused_to_give_back(&self, reference: &str) -> bool {
        self.refunds.values().any(|refund| refund.reference == reference && !refund.done)
    }

    /// A payment and how it stands.
    pub fn payment(&self, reference: &str) -> Option<(&Payment, Status)> {
        self.payments.get(reference).map(|payment| (payment, payment.status(self.now_ms)))
    }

    /// All payments of an order with their names, how they stand, and the engine's own among them.
    pub fn payments_of(&self, order: OrderId) -> impl Iterator<Item = (&str, &Payment, Status)> {
        self.by_order.get(&order.0).into_iter().flatten().filter_map(|name| {
            let payment = self.payments.get(name)?;
            Some((name.as_str(), payment, payment.status(self.now_ms)))
        })
    }

    fn of(&self, order: OrderId) -> impl Iterator<Item = &Payment> {
        self.payments_of(order).map(|(_, payment, _)| payment)
    }

    fn asked(&self, key: &str) -> Option<&Payment> {
        self.by_key.get(key).and_then(|name| self.payments.get(name))
    }

    /// The payment that the engine asked for, for this order.
    pub fn asked_for(&self, order: OrderId) -> Option<(&Payment, Status)> {
        let asked = self.payments_of(order).find(|(_, payment, _)| payment.origin == Origin::Asked);
        asked.map(|(_, payment, status)| (payment, status))
    }

    /// Law 8: whoever lets an order's units go must know that what it asked for can never become money any more. Money that
    /// came besides goes back by itself.
    pub fn check_never_charged(&self, order: OrderId) -> Checked {
        match self.asked_for(order) {
            Some((payment, status)) if status.is_alive() => Err(Broken {
                law: 8,
                seen: format!("{order} is called off, and its payment is {status:?}: {payment:?}"),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether some payment has yet to come to something by itself.
    pub fn is_settling(&self) -> bool {
        self.payments.values().any(|payment| match payment.status(self.now_ms) {
            Status::Settling => true,
            Status::ShopperActs => payment.acts_at_ms.is_some(),
            Status::Declined | Status::Authorized | Status::Captured | Status::Cancelled => false,
        })
    }

    /// Notes every state that payments came to by themselves, as one to tell of.
    pub fn note_all(&mut self) {
        let changed: Vec<String> = self
            .payments
            .iter()
            .filter(|(_, payment)| payment.noted != Some(payment.status(self.now_ms)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in changed {
            self.note(&name);
        }
    }

    fn note(&mut self, reference: &str) {
        let now_ms = self.now_ms;
        let Some(payment) = self.payments.get_mut(reference) else { return };
        let status = payment.status(now_ms);
        if payment.noted == Some(status) {
            return;
        }
        payment.noted = Some(status);
        let standing = match status {
            Status::Settling | Status::ShopperActs => Standing::Open,
            Status::Authorized => Standing::Authorized,
            Status::Captured => Standing::Captured,
            Status::Declined | Status::Cancelled => Standing::Cancelled,
        };
        let news = PaymentNews {
            order: payment.order,
            reference: reference.to_owned(),
            amount: payment.amount,
            standing,
        };
        let event = format!("evt_{}", self.tales.len());
        self.tales.push(Tale { event, news, at_ms: now_ms, taken: 0 });
    }
}
