//! A shop where everything happens: commands drawn from a seed, decided by the engine's own machines, journalled for real.
//!
//! Nothing here is likely, all of it is legal: a machine refuses what is not. So every event is met within some thousand
//! commands, refunds of refunds and parts without a saga included.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use doorbuster_engine::cart::{CartCommand, CartObligation, CheckoutRequest, NewLine};
use doorbuster_engine::command::Command;
use doorbuster_engine::envelope::{Decision, Envelope};
use doorbuster_engine::event::{EntityKey, EntityRef, Entry, Event, PARTITIONS};
use doorbuster_engine::identity::{
    CartId, FulfilmentId, OrderId, Position, Recorded, RefundId, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{
    Address, LineUnits, OrderCommand, OrderEvent, OrderObligation, OrderView, PaymentState, StrayOutcome,
};
use doorbuster_engine::payment::{
    CaptureOutcome, ChargeOutcome, NextAction, PaymentNews, RefundOutcome, Standing, VoidOutcome,
};
use doorbuster_engine::stock::{Definition, Home, Oversell, Reserve, StockCommand};
use doorbuster_engine::world::{Snapshot, World};
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::file_journal::{JournalOptions, Preparation};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::recovery::recover;
use doorbuster_persistence::tail::JournalTail;
use doorbuster_persistence::writer::{Batch, JournalHandle, JournalWriter, WriterOptions};
use doorbuster_postgres::projection::projector::Follow;

const JOURNAL: JournalOptions = JournalOptions { segment_bytes: 256 << 10, preparation: Preparation::Thread };

/// A source of chance: the same for the same seed.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn units(&mut self, most: u64) -> i64 {
        i64::try_from(self.below(most)).unwrap() + 1
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// The shop, open on a directory.
pub(crate) struct Bazaar {
    pub(crate) directory: DataDirectory,
    journal: JournalHandle,
    world: World,
    sequences: [u64; PARTITIONS],
    position: u64,
    at_ms: u64,
    submitted: u64,
    /// Events by name, for whoever wants to know that none is missing.
    pub(crate) met: BTreeMap<String, u64>,
    chance: Chance,
}

impl Bazaar {
    pub(crate) fn open(path: &Path, seed: u64) -> Self {
        let directory = DataDirectory::open(path).unwrap();
        let recovered = recover(&directory, JOURNAL, &mut |_| {}).unwrap();
        let journal = writer(recovered.journal);
        Self {
            directory,
            journal,
            world: recovered.world,
            sequences: recovered.sequences,
            position: recovered.next_position,
            // Some hours before a month ends: orders come to lie in two.
            at_ms: recovered.last_at_ms.max(1_796_083_200_000 - 6 * 3_600_000),
            submitted: 0,
            met: BTreeMap::new(),
            chance: Chance::new(seed),
        }
    }

    /// Closes and starts again, as an engine that was stopped.
    pub(crate) fn reopen(self) -> Self {
        let path = self.directory.paths().root.clone();
        let (met, seed) = (self.met.clone(), self.chance.0);
        self.journal.shutdown().unwrap();
        drop(self);
        Self { met, ..Self::open(&path, seed) }
    }

    /// How the projector follows it.
    pub(crate) fn follow(&self) -> Follow {
        let (paths, engine) = (self.directory.paths().clone(), self.directory.engine());
        let journal = self.journal.clone();
        Box::new(move |from| JournalTail::open(paths.clone(), engine, from, journal.clone()))
    }

    pub(crate) fn durable(&self) -> FrameNumber {
        self.journal.durable_frame()
    }

    /// So many commands, each tried until one of them changes something; everything is durable afterwards.
    pub(crate) fn trade(&mut self, changes: u64) {
        for _ in 0..changes {
            while !self.trade_once() {}
        }
        self.settle();
    }

    /// Waits until everything is durable.
    pub(crate) fn settle(&self) {
        let began = Instant::now();
        while self.journal.stats().records < self.submitted {
            assert!(began.elapsed() < Duration::from_secs(30), "the journal writer hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn trade_once(&mut self) -> bool {
        self.at_ms += self.chance.below(8_000);
        let (entity, command) = match self.chance.below(10) {
            0..=3 => self.about_stock(),
            4..=5 => self.about_carts(),
            _ => self.about_orders(),
        };
        let nothing = Snapshot::absent(&entity);
        let snapshot = self.world.entities.get(&entity).unwrap_or(&nothing);
        let envelope = Envelope { now: Timestamp(self.at_ms), request: None, command };
        let Decision::Change(events) = snapshot.decide(envelope) else { return false };
        let (mut bytes, mut records) = (Vec::new(), 0);
        for event in events {
            let partition = entity.partition();
            let sequence = &mut self.sequences[usize::from(partition)];
            *sequence += 1;
            self.position += 3;
            let header = RecordHeader {
                partition,
                epoch: 1,
                sequence: *sequence,
                position: self.position,
                at_ms: self.at_ms,
            };
            let entry = Entry { entity: entity.clone(), request: None, event };
            codec::append_record(&mut bytes, &header, &entry).unwrap();
            let recorded = Recorded { position: Position(self.position), at: Timestamp(self.at_ms) };
            self.world.apply(EntityRef::from(&entity), &entry.event, recorded, None).unwrap();
            *self.met.entry(name(&entry.event)).or_default() += 1;
            records += 1;
        }
        self.submitted += u64::from(records);
        self.journal.submit(Batch { worker: 0, number: self.submitted, bytes, records }).unwrap();
        true
    }

    fn sku(&mut self) -> Sku {
        Sku::new(&format!("SKU-{}", self.chance.below(7))).unwrap()
    }

    fn money(&mut self) -> Money {
        Money::new(i64::try_from(self.chance.below(4)).unwrap() * 350, Currency::GBP)
    }

    fn about_stock(&mut self) -> (EntityKey, Command) {
        let sku = self.sku();
        let reservation = ReservationId(u128::from(self.chance.below(40)) + 1);
        let as_of = Position(u64::MAX);
        let command = match self.chance.below(14) {
            0 => StockCommand::Define {
                definition: Definition {
                    name: format!("a\0b {}", self.chance.below(5)).into(),
                    price: self.money(),
                    oversell: if self.chance.coin() { Oversell::Deny } else { Oversell::Allow(50) },
                    reservation_ttl_ms: self.chance.coin().then_some(90_000),
                    low_stock_at: self.chance.coin().then_some(5),
                },
                opening: Some(self.chance.units(200)),
            },
            1 => StockCommand::Adjust {
                delta: self.chance.units(30) - 8,
                reason: "delivery\t\\N \"quoted\"".into(),
                reference: self.chance.coin().then(|| "PO-7".into()),
            },
            2 => StockCommand::SetOnHand {
                on_hand: self.chance.units(300),
                reason: "counted".into(),
                expected_version: match self.world.entities.get(&EntityKey::Sku(sku.clone())) {
                    Some(Snapshot::Stock(stock)) => stock.version(),
                    _ => 0,
                },
            },
            3..=5 => StockCommand::Reserve(Reserve {
                reservation,
                quantity: self.chance.units(4),
                ttl_ms: Some(self.chance.below(1_500_000) + 1_000),
                partial: self.chance.coin(),
                customer: None,
            }),
            6 => StockCommand::Extend { reservation, extend_ms: 1_000 },
            7 => StockCommand::Commit { reservation },
            8 => StockCommand::Release { reservation },
            9 => StockCommand::Expire { reservation },
            10 => StockCommand::HoldPart {
                reservation: ReservationId(reservation.0 + 1_000),
                quantity: self.chance.units(3),
                partial: self.chance.coin(),
                home: if self.chance.coin() { Home::Order } else { Home::Reservation },
            },
            11 => StockCommand::SellPart { reservation: ReservationId(reservation.0 + 1_000), as_of },
            12 => StockCommand::FreePart { reservation: ReservationId(reservation.0 + 1_000), as_of },
            _ => {
                StockCommand::Restock { step: u128::from(self.chance.next()), quantity: 1, order: OrderId(9) }
            }
        };
        (EntityKey::Sku(sku), Command::Stock(command))
    }

    fn lines(&mut self) -> Vec<NewLine> {
        (0..self.chance.below(4))
            .map(|_| NewLine {
                sku: self.sku(),
                name: "a thing".into(),
                quantity: self.chance.units(3),
                unit_price: self.money(),
            })
            .collect()
    }

    fn about_carts(&mut self) -> (EntityKey, Command) {
        let number = u128::from(self.chance.below(60)) + 1;
        let order = OrderId(u128::from(self.chance.below(60)) + 1);
        let command = match self.chance.below(10) {
            0..=1 => CartCommand::Create {
                currency: Currency::GBP,
                lines: self.lines(),
                ttl_ms: 1_000_000 + self.chance.below(1_000_000),
            },
            2..=3 => CartCommand::AddLines { lines: self.lines(), expected_version: None },
            4 => CartCommand::SetQuantity {
                line: u32::try_from(self.chance.below(5)).unwrap(),
                quantity: self.chance.units(4) - 1,
                expected_version: None,
            },
            5..=6 => CartCommand::Checkout(Box::new(CheckoutRequest {
                order,
                email: "ada@example.org".into(),
                provider: "fake".into(),
                method: "ok".into(),
                expected_total: None,
                shipping_address: None,
                pin_ms: 600_000,
                expected_version: None,
            })),
            7 => CartCommand::OrderPlaced(order),
            8 => CartCommand::OrderFailed(order),
            _ => {
                if self.chance.coin() {
                    CartCommand::Delete
                } else {
                    CartCommand::Expire
                }
            }
        };
        // What ends a checkout must name its order.
        let key = EntityKey::Cart(CartId(number));
        let command = match (command, self.world.entities.get(&key)) {
            (CartCommand::OrderPlaced(_), Some(Snapshot::Cart(cart))) => {
                CartCommand::OrderPlaced(cart.view().order.unwrap_or(order))
            }
            (CartCommand::OrderFailed(_), Some(Snapshot::Cart(cart))) => {
                CartCommand::OrderFailed(cart.view().order.unwrap_or(order))
            }
            (command, _) => command,
        };
        (key, Command::Cart(command))
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.chance.below(list.len() as u64)).unwrap()]
    }

    fn order_view(&self, key: &EntityKey) -> Option<OrderView> {
        match self.world.entities.get(key) {
            Some(Snapshot::Order(order)) => Some(order.view()),
            _ => None,
        }
    }

    fn waits_for_its_provider(&self, key: &EntityKey) -> bool {
        let Some(Snapshot::Order(order)) = self.world.entities.get(key) else { return false };
        matches!(order.obligations()[..], [OrderObligation::AwaitProvider { .. }])
    }

    fn about_orders(&mut self) -> (EntityKey, Command) {
        let number = u128::from(self.chance.below(160)) + 1;
        let key = EntityKey::Order(OrderId(number));
        let Some(view) = self.order_view(&key) else { return self.about_a_new_order(number) };
        let units: Vec<LineUnits> = view
            .lines
            .iter()
            .map(|line| LineUnits { line: line.line, quantity: self.chance.units(2).min(line.quantity) })
            .collect();
        let some = (!units.is_empty() && self.chance.coin()).then_some(units);
        let refund = RefundId(u128::from(self.chance.next()));
        let known = view.refunds.last().map_or(refund, |last| last.id);
        let reference = || "ch_1".to_owned();
        if view.payment_state == PaymentState::Authorized && self.chance.coin() {
            return (key, Command::Order(self.about_authorized_money(&view, refund)));
        }
        if view.payment_state == PaymentState::RequiresAction && self.chance.coin() {
            let command = if self.chance.coin() { OrderCommand::Confirm } else { self.a_notice(&view) };
            return (key, Command::Order(command));
        }
        if self.waits_for_its_provider(&key) && self.chance.coin() {
            return (key, Command::Order(OrderCommand::ProviderReady));
        }
        let command = match self.chance.below(22) {
            0..=1 => OrderCommand::UnitsHeld {
                defer_ms: (self.chance.below(3) == 0).then(|| 60_000 + self.chance.below(3_000_000_000)),
            },
            2 if self.chance.below(4) == 0 => OrderCommand::UnitsRefused { shortages: vec![] },
            2..=4 => OrderCommand::ChargeAnswered(match self.chance.below(6) {
                0 => ChargeOutcome::Captured { reference: reference() },
                1 | 5 => ChargeOutcome::Authorized { reference: reference() },
                2 => ChargeOutcome::Declined { reason: "no\0money".into(), retryable: true },
                3 => ChargeOutcome::ActionRequired {
                    reference: reference(),
                    action: if self.chance.coin() {
                        NextAction::ClientSecret("s".into())
                    } else {
                        NextAction::Redirect("https://pay.example/".into())
                    },
                },
                _ => ChargeOutcome::Unknown,
            }),
            5 => OrderCommand::VoidAnswered(match self.chance.below(3) {
                0 => VoidOutcome::Voided,
                1 => VoidOutcome::AlreadyCaptured { reference: reference() },
                _ => VoidOutcome::Unknown,
            }),
            6 => OrderCommand::RefundAnswered {
                refund: known,
                outcome: match self.chance.below(3) {
                    0..=1 => RefundOutcome::Refunded { reference: "re_1".into() },
                    _ => RefundOutcome::Refused { reason: "too late".into() },
                },
            },
            7 => OrderCommand::UnitsSold,
            8 => OrderCommand::UnitsFreed,
            9 => OrderCommand::UnitsRestocked { refund: known },
            10 => OrderCommand::CartTold,
            11 => {
                self.at_ms += if self.chance.below(8) == 0 { 15 * 86_400_000 } else { 0 };
                OrderCommand::Wake
            }
            12 if self.chance.coin() => OrderCommand::Cancel { refund },
            12 => OrderCommand::Confirm,
            13 => OrderCommand::Refund {
                refund,
                amount: None,
                lines: some,
                restock: self.chance.coin(),
                reason: self.chance.coin().then(|| "broken".to_owned()),
            },
            14 => OrderCommand::Refund {
                refund,
                amount: Some(Money::new(100, Currency::GBP)),
                lines: None,
                restock: false,
                reason: None,
            },
            15 | 20..=21 => OrderCommand::ProviderReady,
            16..=17 => self.a_notice(&view),
            18 => OrderCommand::StrayAnswered {
                reference: format!("ch_{}", self.chance.below(4)),
                outcome: if self.chance.coin() {
                    StrayOutcome::Returned
                } else {
                    StrayOutcome::Refused { reason: "disputed\t".into() }
                },
            },
            _ => OrderCommand::Fulfil {
                fulfilment: FulfilmentId(u128::from(self.chance.next())),
                lines: some,
                tracking: self.chance.coin().then(|| "TRACK".to_owned()),
            },
        };
        (key, Command::Order(command))
    }

    /// What happens between promise and capture: without this hardly any order would be called off in that moment.
    fn about_authorized_money(&mut self, view: &OrderView, refund: RefundId) -> OrderCommand {
        match self.chance.below(8) {
            0..=1 => OrderCommand::Cancel { refund },
            2 => OrderCommand::VoidAnswered(VoidOutcome::Voided),
            3 => OrderCommand::VoidAnswered(VoidOutcome::AlreadyCaptured { reference: "ch_1".into() }),
            4 => OrderCommand::CaptureAnswered(CaptureOutcome::Captured),
            5 => OrderCommand::CaptureAnswered(CaptureOutcome::Lost { reason: "ran\0out".into() }),
            6 => OrderCommand::UnitsSold,
            _ => self.a_notice(view),
        }
    }

    /// The provider tells of this order's payment, or of another one for it; old, doubled and false tales among them.
    fn a_notice(&mut self, view: &OrderView) -> OrderCommand {
        let standings = [Standing::Open, Standing::Authorized, Standing::Captured, Standing::Cancelled];
        let news = PaymentNews {
            order: view.id,
            reference: format!("ch_{}", self.chance.below(4)),
            amount: if self.chance.below(6) == 0 { Money::new(1, Currency::GBP) } else { view.totals.total },
            standing: *self.pick(&standings),
        };
        OrderCommand::Notice { event: format!("evt_{}", self.chance.below(9)), news }
    }

    /// Starts what some cart's checkout demands, under this number; else about something else.
    fn about_a_new_order(&mut self, number: u128) -> (EntityKey, Command) {
        let drafts = self.world.entities.values().filter_map(|snapshot| match snapshot {
            Snapshot::Cart(cart) => cart.obligations().into_iter().next(),
            _ => None,
        });
        let drafts: Vec<_> = drafts.collect();
        if drafts.is_empty() {
            return self.about_carts();
        }
        let CartObligation::StartOrder { draft, .. } = self.pick(&drafts).clone();
        let mut draft = draft;
        draft.order = OrderId(number);
        draft.shipping_address = self.chance.coin().then(|| Address {
            name: Some("Ada".into()),
            city: Some("London".into()),
            country: "GB".into(),
            ..Address::default()
        });
        (EntityKey::Order(OrderId(number)), Command::Order(OrderCommand::Start(draft)))
    }
}

fn writer(journal: doorbuster_persistence::file_journal::FileJournal) -> JournalHandle {
    let fatal = Box::new(|error| panic!("{error}"));
    JournalWriter::spawn(Box::new(journal), WriterOptions::default(), Box::new(|_, _| {}), fatal).unwrap()
}

/// An event's name. A notice that makes the order ask its provider has one of its own.
fn name(event: &Event) -> String {
    if let Event::Order(OrderEvent::Noticed { asks: true, .. }) = event {
        return "Order Noticed, asking".into();
    }
    let text = match event {
        Event::Stock(event) => format!("Stock {event:?}"),
        Event::Reservation(event) => format!("Reservation {event:?}"),
        Event::Cart(event) => format!("Cart {event:?}"),
        Event::Order(event) => format!("Order {event:?}"),
    };
    let end = text.find([' ', '(', '{']).unwrap_or(text.len());
    let rest = text[end + 1..].find([' ', '(', '{']).map_or(text.len(), |more| end + 1 + more);
    text[..rest].to_owned()
}
