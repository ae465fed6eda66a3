//! The saga against a provider and a network that lose, double, delay and reorder what they carry.
//!
//! Permitted faults: a call or an answer arrives late, twice, out of order, or its answer reads as unknown. Not
//! permitted, because [`crate::payment::PaymentProvider`] promises it: two charges under one key, a declined or
//! voided charge that succeeds later. Laws 5 to 8 and 10 are checked after every turn and once everything is quiet.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// How the provider sees the one charge of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charged {
    Unseen,
    /// Taken up, result not known to the provider itself.
    Open,
    ActionRequired,
    Captured,
    Declined,
    Voided,
}

struct Provider {
    charged: Charged,
    /// Minor units by refund; `None` where it was refused.
    refunds: BTreeMap<RefundId, Option<i64>>,
}

impl Provider {
    /// Carries out one call. `coin` chooses among what a provider may do.
    fn carry_out(&mut self, call: &OrderObligation, coin: u8) -> OrderCommand {
        match call {
            OrderObligation::Charge(_) => {
                if self.charged == Charged::Unseen {
                    self.charged =
                        [Charged::Captured, Charged::Declined, Charged::ActionRequired, Charged::Open]
                            [usize::from(coin % 4)];
                }
                self.charge_answer()
            }
            OrderObligation::LookUp(_) => {
                match (self.charged, coin % 3) {
                    (Charged::Unseen, _) | (Charged::Open, 0) => self.charged = Charged::Declined,
                    (Charged::Open, 1) => self.charged = Charged::Captured,
                    _ => {}
                }
                self.charge_answer()
            }
            OrderObligation::Confirm { .. } => {
                match (self.charged, coin % 3) {
                    (Charged::ActionRequired, 0) => self.charged = Charged::Captured,
                    (Charged::ActionRequired, 1) => self.charged = Charged::Declined,
                    _ => {}
                }
                self.charge_answer()
            }
            OrderObligation::Void { .. } => {
                OrderCommand::VoidAnswered(if self.charged == Charged::Captured {
                    VoidOutcome::AlreadyCaptured { reference: "ch".into() }
                } else {
                    self.charged = Charged::Voided;
                    VoidOutcome::Voided
                })
            }
            OrderObligation::Refund { refund, amount, .. } => {
                assert_eq!(self.charged, Charged::Captured, "only captured money goes back");
                let given = *self.refunds.entry(*refund).or_insert((coin & 3 != 0).then_some(amount.amount));
                let outcome = match given {
                    Some(given) => {
                        assert_eq!(given, amount.amount, "a refund is asked for with one amount");
                        RefundOutcome::Refunded { reference: "re".into() }
                    }
                    None => RefundOutcome::Refused { reason: "no".into() },
                };
                OrderCommand::RefundAnswered { refund: *refund, outcome }
            }
            OrderObligation::HoldUnits(_)
            | OrderObligation::SellUnits(_)
            | OrderObligation::FreeUnits(_)
            | OrderObligation::TellCart { .. }
            | OrderObligation::Restock { .. } => unreachable!("not a provider's call"),
        }
    }

    fn charge_answer(&self) -> OrderCommand {
        OrderCommand::ChargeAnswered(match self.charged {
            Charged::Unseen | Charged::Open => ChargeOutcome::Unknown,
            Charged::ActionRequired => {
                ChargeOutcome::ActionRequired { reference: "ch".into(), client_secret: "s".into() }
            }
            Charged::Captured => ChargeOutcome::Captured { reference: "ch".into() },
            Charged::Declined | Charged::Voided => {
                ChargeOutcome::Declined { reason: "no".into(), retryable: true }
            }
        })
    }

    fn refunded(&self) -> i64 {
        self.refunds.values().flatten().sum()
    }
}

/// What is said of a provider's call whose answer got lost.
fn unheard(call: &OrderObligation) -> OrderCommand {
    match call {
        OrderObligation::Void { .. } => OrderCommand::VoidAnswered(VoidOutcome::Unknown),
        OrderObligation::Refund { refund, .. } => {
            OrderCommand::RefundAnswered { refund: *refund, outcome: RefundOutcome::Unknown }
        }
        OrderObligation::Charge(_)
        | OrderObligation::LookUp(_)
        | OrderObligation::Confirm { .. }
        | OrderObligation::HoldUnits(_)
        | OrderObligation::SellUnits(_)
        | OrderObligation::FreeUnits(_)
        | OrderObligation::TellCart { .. }
        | OrderObligation::Restock { .. } => OrderCommand::ChargeAnswered(ChargeOutcome::Unknown),
    }
}

/// The order, its provider, and everything that is under way between them.
struct Saga {
    bench: Bench,
    provider: Provider,
    now: u64,
    in_stock: bool,
    calls: Vec<OrderObligation>,
    answers: Vec<OrderCommand>,
    /// Requests that were taken up and not told anything yet.
    waiting: BTreeSet<RequestKey>,
    asked: Vec<(RequestStamp, OrderCommand)>,
    charge_was_sent: bool,
    /// The payment came to an end, so nothing of it is asked any more.
    payment_is_over: bool,
}

impl Saga {
    fn new(in_stock: bool, free: bool) -> Self {
        let mut saga = Self {
            bench: Bench::new(),
            provider: Provider { charged: Charged::Unseen, refunds: BTreeMap::new() },
            now: 0,
            in_stock,
            calls: Vec::new(),
            answers: Vec::new(),
            waiting: BTreeSet::new(),
            asked: Vec::new(),
            charge_was_sent: false,
            payment_is_over: false,
        };
        saga.ask(stamp(1), OrderCommand::Start(Box::new(draft(free))));
        saga
    }

    fn ask(&mut self, request: RequestStamp, command: OrderCommand) {
        self.asked.push((request, command.clone()));
        self.turn(Some(request), command);
    }

    fn turn(&mut self, request: Option<RequestStamp>, command: OrderCommand) {
        let said = format!("{command:?}");
        let turn = self.bench.turn(&Envelope { now: Timestamp(self.now), request, command });
        if let Some(request) = request {
            match turn.decision {
                Decision::Change(_) => {
                    assert!(self.waiting.insert(request.key), "law 5: {said} began twice under one key");
                }
                Decision::Join => assert!(self.waiting.contains(&request.key), "{said} joins nobody"),
                Decision::Answer(_) | Decision::Refuse(_) => {
                    assert!(
                        !self.waiting.contains(&request.key),
                        "{said} has a verdict and still waits for one"
                    );
                }
                Decision::Nothing => {}
            }
        }
        for settlement in turn.settlements {
            assert!(
                self.waiting.remove(&settlement.request.key),
                "{:?} is settled twice",
                settlement.request
            );
        }
        self.check_laws();
    }

    fn check_laws(&mut self) {
        let order = &self.bench.order;
        let off = matches!(order.stage, Stage::Off(_));
        if off {
            let harmless = match self.provider.charged {
                Charged::Declined | Charged::Voided => true,
                Charged::Unseen => !self.charge_was_sent,
                Charged::Open | Charged::ActionRequired | Charged::Captured => false,
            };
            assert!(harmless, "law 8: units go back while the charge is {:?}", self.provider.charged);
        }
        let placed = order.stage == Stage::Placed;
        if placed && order.totals.total.amount > 0 {
            assert_eq!(self.provider.charged, Charged::Captured, "law 7: placed without the money");
        }
        assert!(order.refunded.amount <= self.provider.refunded(), "law 7: the order says more went back");
        assert!(self.provider.refunded() <= order.captured.amount, "law 7: more went back than came");
        self.payment_is_over |= off || placed;
        let mut kinds = BTreeSet::new();
        for obligation in order.obligations() {
            let (kind, of_payment) = match obligation {
                OrderObligation::HoldUnits(_) => ("hold".into(), false),
                OrderObligation::Charge(_) => ("charge".into(), true),
                OrderObligation::LookUp(_) => ("look_up".into(), true),
                OrderObligation::Confirm { .. } => ("confirm".into(), true),
                OrderObligation::Void { .. } => ("void".into(), true),
                OrderObligation::SellUnits(_) => ("sell".into(), false),
                OrderObligation::FreeUnits(_) => ("free".into(), false),
                OrderObligation::TellCart { .. } => ("tell".into(), false),
                OrderObligation::Refund { refund, amount, .. } => {
                    assert!(amount.amount > 0, "nobody is asked for nothing");
                    (format!("refund {refund}"), false)
                }
                OrderObligation::Restock { refund, .. } => (format!("restock {refund}"), false),
            };
            assert!(!of_payment || !self.payment_is_over, "law 7: {kind} after the payment's definite end");
            assert!(kinds.insert(kind.clone()), "{kind} is wanted twice");
        }
    }

    /// Starts one of the wanted steps: ours are done at once, the provider's are on their way.
    fn send(&mut self, pick: u8) {
        let obligations = self.bench.order.obligations();
        let Some(obligation) = obligations.get(usize::from(pick) % obligations.len().max(1)) else {
            return;
        };
        let shortages = || vec![Shortage { sku: Sku::new("A").unwrap(), requested: 1, available: 0 }];
        let answer = match obligation {
            OrderObligation::HoldUnits(_) if self.in_stock => OrderCommand::UnitsHeld,
            OrderObligation::HoldUnits(_) => OrderCommand::UnitsRefused { shortages: shortages() },
            OrderObligation::SellUnits(_) => OrderCommand::UnitsSold,
            OrderObligation::FreeUnits(_) => OrderCommand::UnitsFreed,
            OrderObligation::TellCart { .. } => OrderCommand::CartTold,
            OrderObligation::Restock { refund, .. } => OrderCommand::UnitsRestocked { refund: *refund },
            OrderObligation::Charge(_)
            | OrderObligation::LookUp(_)
            | OrderObligation::Confirm { .. }
            | OrderObligation::Void { .. }
            | OrderObligation::Refund { .. } => {
                self.charge_was_sent |= matches!(obligation, OrderObligation::Charge(_));
                self.calls.push(obligation.clone());
                return;
            }
        };
        self.answers.push(answer);
    }

    /// The provider takes up one call; with the coin's high bits the call comes again, or its answer is lost.
    fn carry_out(&mut self, pick: u8, coin: u8) {
        if self.calls.is_empty() {
            return;
        }
        let index = usize::from(pick) % self.calls.len();
        let call = if coin & 0x80 == 0 { self.calls.remove(index) } else { self.calls[index].clone() };
        let answer = self.provider.carry_out(&call, coin & 0x0f);
        self.answers.push(if coin & 0x40 == 0 { answer } else { unheard(&call) });
    }

    /// One answer arrives, and perhaps once more later.
    fn deliver(&mut self, pick: u8, again: bool) {
        if self.answers.is_empty() {
            return;
        }
        let index = usize::from(pick) % self.answers.len();
        let answer = if again { self.answers[index].clone() } else { self.answers.remove(index) };
        self.turn(None, answer);
    }

    /// A caller asks something new, or the same again under its old key.
    fn call(&mut self, pick: u8, coin: u8) {
        if coin & 0x80 != 0 {
            let (request, command) = self.asked[usize::from(pick) % self.asked.len()].clone();
            return self.turn(Some(request), command);
        }
        let key = self.asked.len() as u128 + 1;
        let units = |quantity| Some(vec![LineUnits { line: 1, quantity }]);
        let money = |amount| Some(Money::new(amount, Currency::GBP));
        let refund = |amount, lines| OrderCommand::Refund {
            refund: RefundId(key),
            amount,
            lines,
            restock: coin & 1 == 0,
            reason: None,
        };
        let command = match pick % 9 {
            0 | 1 => OrderCommand::Confirm,
            2 => OrderCommand::Cancel { refund: RefundId(key) },
            3 => refund(None, None),
            4 => refund(money(i64::from(coin)), None),
            5 => refund(None, units(1)),
            6 => refund(money(0), units(1)),
            7 => OrderCommand::Fulfil { fulfilment: FulfilmentId(key), lines: units(1), tracking: None },
            _ => OrderCommand::Fulfil { fulfilment: FulfilmentId(key), lines: None, tracking: None },
        };
        self.ask(stamp(key), command);
    }

    fn step(&mut self, (op, pick, coin): (u8, u8, u8)) {
        match op % 12 {
            0..=2 => self.send(pick),
            3..=5 => self.carry_out(pick, coin),
            6..=8 => self.deliver(pick, coin & 0x80 != 0),
            9 => {
                self.now += u64::from(pick) % 50;
                self.turn(None, OrderCommand::Wake);
            }
            _ => self.call(pick, coin),
        }
    }

    /// No more faults: everything is done that the order still wants.
    fn settle(&mut self) {
        for round in 0_u8..200 {
            while !self.answers.is_empty() {
                self.deliver(0, false);
            }
            let work = u8::try_from(self.bench.order.obligations().len()).unwrap();
            if work > 0 {
                for pick in 0..work {
                    self.send(pick);
                }
                while !self.calls.is_empty() {
                    self.carry_out(0, round % 4);
                }
            } else if let (Stage::Paying(_), Some(due)) = (self.bench.order.stage, self.bench.order.due()) {
                self.now = self.now.max(due.0);
                self.turn(None, OrderCommand::Wake);
            } else if self.calls.is_empty() {
                return;
            } else {
                // What the network held back comes at the worst time: when the order has made up its mind.
                self.carry_out(0, 0);
            }
        }
        panic!("the saga does not end: {:?}", self.bench.order.obligations());
    }

    fn check_end(&mut self) {
        self.bench.check_replay();
        let order = &self.bench.order;
        assert!(order.is_finished(), "nothing is left to do");
        assert_eq!(self.waiting, BTreeSet::new(), "everybody was told");
        assert_ne!(order.state(), OrderState::PendingPayment);
        let captured = if self.provider.charged == Charged::Captured { order.totals.total.amount } else { 0 };
        assert_eq!(order.captured.amount, captured, "law 7: captured");
        assert_eq!(order.refunded.amount, self.provider.refunded(), "law 7: refunded");
        if order.state() == OrderState::Cancelled {
            assert_eq!(order.captured, order.refunded, "a cancelled order keeps no money");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Laws 5 to 8 and 10 whatever is lost, doubled, delayed or asked.
    #[test]
    fn laws_hold_whatever_the_provider_and_the_callers_do(
        in_stock in prop::bool::weighted(0.9),
        free in prop::bool::weighted(0.1),
        steps in prop::collection::vec(any::<(u8, u8, u8)>(), 0..120),
    ) {
        let mut saga = Saga::new(in_stock, free);
        for step in steps {
            saga.step(step);
        }
        saga.bench.check_replay();
        // A crash forgets what is under way, not what the order wants; but the network may still deliver some of it.
        saga.settle();
        saga.check_end();
    }
}

#[test]
fn the_saga_reaches_every_event() {
    let mut reached = BTreeSet::new();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let bytes = seed.to_le_bytes();
        (bytes[0], bytes[1], bytes[2])
    };
    for run in 0..300 {
        let mut saga = Saga::new(run % 10 != 0, run % 10 == 1);
        for _ in 0..run / 2 {
            saga.step(draw());
        }
        saga.settle();
        saga.now += 2 * RETURN_WINDOW_MS;
        saga.turn(None, OrderCommand::Wake);
        saga.check_end();
        reached.extend(saga.bench.journal.iter().map(|(event, _, _)| name_of_event(event)));
    }
    assert_eq!(reached.len(), 20, "a property over events that never happen proves nothing: {reached:?}");
}
