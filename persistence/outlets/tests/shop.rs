//! A shop that writes history of every kind, each event checked by the engine's own machines.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbuster_engine::answer::{Item, Shortage};
use doorbuster_engine::cart::{CartEvent, NewLine};
use doorbuster_engine::event::{EntityKey, Entry, Event, PARTITIONS};
use doorbuster_engine::identity::{
    CartId, Fingerprint, FulfilmentId, OrderId, Position, Recorded, RefundId, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{DraftLine, Inquiry, LineUnits, OrderDraft, OrderEvent};
use doorbuster_engine::payment::NextAction;
use doorbuster_engine::pricing::totals;
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::{Definition, Home, Oversell, StockEvent};
use doorbuster_engine::world::{Snapshot, World};
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::{DataPaths, EngineId};
use doorbuster_persistence::disk::MachineDisk;
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions, Preparation};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::tail::JournalTail;
use doorbuster_persistence::writer::{Batch, JournalHandle, JournalWriter, WriterOptions};

/// The engine of all tests.
pub(crate) const ENGINE: EngineId = EngineId([7; 16]);

/// One frame: records and their bytes.
pub(crate) type Frame = (u32, Vec<u8>);

/// The shop's book, frame by frame.
pub(crate) struct Shop {
    pub(crate) frames: Vec<Frame>,
    pub(crate) world: World,
    sequences: [u64; PARTITIONS],
    position: u64,
    pub(crate) at_ms: u64,
    next_id: u128,
    frame: Vec<u8>,
    records: u32,
    random: u64,
}

pub(crate) fn sku(name: &str) -> Sku {
    Sku::new(name).unwrap()
}

fn gbp(amount: i64) -> Money {
    Money::new(amount, Currency::GBP)
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    OutOfStock,
    Declined,
    TimedOut,
    CalledOff,
    Paid,
    Completed,
    RefundedInParts,
    CancelledLater,
    RefundFails,
    Captured,
    CancelledWhileAuthorized,
    CaptureIsQuicker,
    CaptureFails,
    WaitsAndPays,
    WaitsInVain,
    CalledOffWaiting,
    ActsAndIsToldOf,
    ComesTooLate,
}

pub(crate) const FATES: [Fate; 18] = [
    Fate::OutOfStock,
    Fate::Declined,
    Fate::TimedOut,
    Fate::CalledOff,
    Fate::Paid,
    Fate::Completed,
    Fate::RefundedInParts,
    Fate::CancelledLater,
    Fate::RefundFails,
    Fate::Captured,
    Fate::CancelledWhileAuthorized,
    Fate::CaptureIsQuicker,
    Fate::CaptureFails,
    Fate::WaitsAndPays,
    Fate::WaitsInVain,
    Fate::CalledOffWaiting,
    Fate::ActsAndIsToldOf,
    Fate::ComesTooLate,
];

impl Fate {
    /// Whether the provider first holds the money, before it is ours.
    fn is_authorized_first(self) -> bool {
        match self {
            Self::Captured
            | Self::CancelledWhileAuthorized
            | Self::CaptureIsQuicker
            | Self::CaptureFails
            | Self::WaitsAndPays
            | Self::ActsAndIsToldOf => true,
            Self::OutOfStock
            | Self::Declined
            | Self::TimedOut
            | Self::CalledOff
            | Self::Paid
            | Self::Completed
            | Self::RefundedInParts
            | Self::CancelledLater
            | Self::RefundFails
            | Self::WaitsInVain
            | Self::CalledOffWaiting
            | Self::ComesTooLate => false,
        }
    }
}

impl Shop {
    pub(crate) fn open(at_ms: u64) -> Self {
        let mut shop = Self {
            frames: Vec::new(),
            world: World::default(),
            sequences: [0; PARTITIONS],
            position: 0,
            at_ms,
            next_id: 0,
            frame: Vec::new(),
            records: 0,
            random: 7,
        };
        shop.define("TEE", 1_000, Some(10));
        shop.define("MUG", 500, None);
        shop.define("HOT", 1, None);
        shop.flush();
        shop
    }

    fn record(&mut self, entity: EntityKey, event: Event) {
        let entry = Entry { entity, request: None, event };
        let partition = entry.entity.partition();
        let sequence = &mut self.sequences[usize::from(partition)];
        *sequence += 1;
        self.position += 3;
        self.at_ms += 7;
        let (sequence, position, at_ms) = (*sequence, self.position, self.at_ms);
        let header = RecordHeader { partition, epoch: 1, sequence, position, at_ms };
        codec::append_record(&mut self.frame, &header, &entry).unwrap();
        self.records += 1;
        let recorded = Recorded { position: Position(position), at: Timestamp(at_ms) };
        self.world.apply((&entry.entity).into(), &entry.event, recorded, None).unwrap();
    }

    /// Ends the frame.
    pub(crate) fn flush(&mut self) {
        if self.records > 0 {
            self.frames.push((self.records, std::mem::take(&mut self.frame)));
            self.records = 0;
        }
    }

    pub(crate) fn id(&mut self) -> u128 {
        self.next_id += 1;
        self.next_id << 64 | 0xabc
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    pub(crate) fn stock(&mut self, name: &str, event: StockEvent) {
        self.record(EntityKey::Sku(sku(name)), Event::Stock(event));
    }

    pub(crate) fn define(&mut self, name: &str, opening: i64, low_stock_at: Option<i64>) {
        let definition = Definition {
            name: name.into(),
            price: gbp(1_999),
            oversell: Oversell::Deny,
            reservation_ttl_ms: None,
            low_stock_at,
        };
        self.stock(name, StockEvent::Defined { definition, opening });
    }

    pub(crate) fn adjust(&mut self, name: &str, delta: i64) {
        let event =
            StockEvent::Adjusted { delta, reason: "delivery".into(), reference: None, location: None };
        self.stock(name, event);
    }

    pub(crate) fn reserve(&mut self, name: &str, quantity: i64) -> ReservationId {
        let reservation = ReservationId(self.id());
        let fingerprint = Fingerprint(0);
        let (customer, location) = (Some("ada@example.com".into()), None);
        let event =
            StockEvent::Reserved { reservation, quantity, ttl_ms: 1_000, fingerprint, customer, location };
        self.stock(name, event);
        reservation
    }

    /// A reservation over two SKUs that ends by time.
    pub(crate) fn group_expires(&mut self) {
        let id = ReservationId(self.id());
        let items =
            [("MUG", 2), ("TEE", 1)].map(|(name, quantity)| Item { sku: sku(name), quantity }).to_vec();
        let entity = EntityKey::Reservation(id);
        let requested =
            ReservationEvent::Requested { items: items.clone(), ttl_ms: 5, partial: false, customer: None };
        self.record(entity.clone(), Event::Reservation(requested));
        for (name, quantity) in [("MUG", 2), ("TEE", 1)] {
            self.stock(name, StockEvent::PartHeld { reservation: id, quantity, home: Home::Reservation });
        }
        self.record(entity.clone(), Event::Reservation(ReservationEvent::Granted { items }));
        self.flush();
        self.record(entity.clone(), Event::Reservation(ReservationEvent::Expired));
        for name in ["MUG", "TEE"] {
            self.stock(name, StockEvent::PartFreed { reservation: id });
        }
        self.record(entity, Event::Reservation(ReservationEvent::Settled));
    }

    fn line(name: &str, quantity: i64) -> NewLine {
        NewLine { sku: sku(name), name: name.into(), quantity, unit_price: gbp(1_999) }
    }

    pub(crate) fn cart(&mut self, lines: Vec<NewLine>) -> CartId {
        let id = CartId(self.id());
        let created = CartEvent::Created { currency: Currency::GBP, lines, ttl_ms: 1_000 };
        self.record(EntityKey::Cart(id), Event::Cart(created));
        id
    }

    pub(crate) fn in_cart(&mut self, id: CartId, event: CartEvent) {
        self.record(EntityKey::Cart(id), Event::Cart(event));
    }

    fn in_order(&mut self, id: OrderId, event: OrderEvent) {
        self.record(EntityKey::Order(id), Event::Order(event));
    }

    fn refund(&mut self, id: OrderId, amount: i64) -> RefundId {
        let refund = RefundId(self.id());
        let amount = gbp(amount);
        let event =
            OrderEvent::RefundRequested { refund, amount, lines: vec![], restock: false, reason: None };
        self.in_order(id, event);
        refund
    }

    fn restock(&mut self, id: OrderId, refund: RefundId) {
        self.stock("TEE", StockEvent::Restocked { step: refund.0, quantity: 2, order: id });
        self.in_order(id, OrderEvent::UnitsRestocked { refund });
    }

    /// Money that nobody wanted: one payment goes back, another does not.
    fn strays_come(&mut self, id: OrderId) {
        for (event, reference) in [("evt_secret_3", "ch_stray_1"), ("evt_secret_4", "ch_stray_2")] {
            self.flush();
            self.in_order(id, OrderEvent::Noticed { event: event.into(), asks: false });
            self.in_order(id, OrderEvent::StrayFound { reference: reference.into() });
        }
        self.flush();
        self.in_order(id, OrderEvent::StrayReturned { reference: "ch_stray_1".into() });
        let (reference, reason) = ("ch_stray_2".into(), "no such card".into());
        self.in_order(id, OrderEvent::StrayKept { reference, reason });
        self.in_order(id, OrderEvent::Answered(Inquiry::Cancel));
    }

    /// An order from its cart to its fate, over several frames.
    pub(crate) fn order(&mut self, fate: Fate) -> OrderId {
        let cart = self.cart(vec![Self::line("TEE", 2)]);
        let id = OrderId(self.id());
        let line =
            DraftLine { line: 1, sku: sku("TEE"), name: "TEE".into(), quantity: 2, unit_price: gbp(1_999) };
        let draft = Box::new(OrderDraft {
            order: id,
            cart,
            totals: totals(Currency::GBP, [(2, gbp(1_999))].into_iter()).unwrap(),
            lines: vec![line],
            email: "ada@example.com".into(),
            provider: "fake".into(),
            method: "tok_secret".into(),
            shipping_address: Some(doorbuster_engine::order::Address {
                line1: Some("1 Secret Street".into()),
                country: "GB".into(),
                ..Default::default()
            }),
            pin_ms: 1_000,
        });
        self.in_cart(cart, CartEvent::CheckoutStarted { draft: draft.clone() });
        self.in_order(id, OrderEvent::Started(draft));
        self.flush();
        let reservation = id.reservation();
        if fate == Fate::OutOfStock {
            let shortages = vec![Shortage { sku: sku("TEE"), requested: 2, available: 0 }];
            self.in_order(id, OrderEvent::UnitsRefused { shortages });
            self.in_order(id, OrderEvent::CartTold);
            self.in_cart(cart, CartEvent::Reopened { order: id });
            return id;
        }
        self.stock("TEE", StockEvent::PartHeld { reservation, quantity: 2, home: Home::Order });
        self.in_order(id, OrderEvent::UnitsReserved);
        if matches!(fate, Fate::WaitsAndPays | Fate::WaitsInVain | Fate::CalledOffWaiting) {
            let until = Timestamp(self.at_ms + 60_000);
            self.in_order(id, OrderEvent::PaymentDeferred { until });
        }
        self.flush();
        let refund = RefundId(self.id());
        let reference = || "ch_secret".to_owned();
        let off = match fate {
            Fate::Declined | Fate::ComesTooLate => Some(OrderEvent::PaymentDeclined {
                reason: "card of ada@example.com".into(),
                retryable: false,
            }),
            Fate::TimedOut | Fate::CalledOff => {
                self.in_order(id, OrderEvent::VoidRequested { by_request: fate == Fate::CalledOff, refund });
                Some(OrderEvent::PaymentVoided)
            }
            Fate::WaitsInVain => Some(OrderEvent::PaymentVoided),
            Fate::CalledOffWaiting => {
                self.in_order(id, OrderEvent::VoidRequested { by_request: true, refund });
                Some(OrderEvent::PaymentVoided)
            }
            Fate::OutOfStock
            | Fate::Paid
            | Fate::Completed
            | Fate::RefundedInParts
            | Fate::CancelledLater
            | Fate::RefundFails
            | Fate::Captured
            | Fate::CancelledWhileAuthorized
            | Fate::CaptureIsQuicker
            | Fate::CaptureFails
            | Fate::WaitsAndPays
            | Fate::ActsAndIsToldOf => None,
        };
        if let Some(off) = off {
            self.in_order(id, off);
            self.stock("TEE", StockEvent::PartFreed { reservation });
            self.in_order(id, OrderEvent::UnitsFreed);
            self.in_cart(cart, CartEvent::Reopened { order: id });
            if fate == Fate::ComesTooLate {
                self.strays_come(id);
            }
            return id;
        }
        if fate == Fate::WaitsAndPays {
            self.in_order(id, OrderEvent::PaymentResumed);
            self.flush();
        }
        if fate == Fate::ActsAndIsToldOf {
            let action = NextAction::Redirect("https://pay.example/tok_secret".into());
            self.in_order(id, OrderEvent::ActionRequired { reference: reference(), action });
            self.flush();
            self.in_order(id, OrderEvent::Noticed { event: "evt_secret_1".into(), asks: true });
            self.flush();
            self.in_order(id, OrderEvent::Noticed { event: "evt_secret_2".into(), asks: false });
        }
        if fate.is_authorized_first() {
            self.in_order(id, OrderEvent::PaymentAuthorized { reference: reference() });
        }
        self.in_order(id, OrderEvent::Placed { reference: Some(reference()) });
        self.flush();
        if matches!(fate, Fate::CancelledWhileAuthorized | Fate::CaptureIsQuicker) {
            self.in_order(id, OrderEvent::CancelRequested { refund });
            self.flush();
        }
        self.stock("TEE", StockEvent::PartSold { reservation });
        self.in_order(id, OrderEvent::UnitsSold);
        self.in_cart(cart, CartEvent::Ordered { order: id });
        self.in_order(id, OrderEvent::CartTold);
        match fate {
            Fate::Completed => {
                let fulfilment = FulfilmentId(self.id());
                let lines = vec![LineUnits { line: 1, quantity: 2 }];
                self.in_order(
                    id,
                    OrderEvent::Fulfilled { fulfilment, lines, tracking: Some("GB123".into()) },
                );
                self.flush();
                self.in_order(id, OrderEvent::Completed);
            }
            Fate::RefundedInParts => {
                let (one, other) = (self.refund(id, 998), self.refund(id, 3_000));
                self.flush();
                self.in_order(id, OrderEvent::RefundSucceeded { refund: other, reference: None });
                self.flush();
                self.in_order(id, OrderEvent::RefundSucceeded { refund: one, reference: None });
            }
            Fate::CancelledLater => {
                let one = self.refund(id, 998);
                self.in_order(id, OrderEvent::RefundSucceeded { refund: one, reference: None });
                self.in_order(id, OrderEvent::CancelRequested { refund });
                self.flush();
                self.in_order(id, OrderEvent::RefundSucceeded { refund, reference: None });
                self.restock(id, refund);
            }
            Fate::RefundFails => {
                let refund = self.refund(id, 998);
                self.in_order(id, OrderEvent::RefundFailed { refund, reason: "no such card".into() });
            }
            Fate::Captured | Fate::WaitsAndPays | Fate::ActsAndIsToldOf => {
                self.flush();
                self.in_order(id, OrderEvent::PaymentCaptured);
            }
            Fate::CancelledWhileAuthorized => {
                self.flush();
                self.in_order(id, OrderEvent::AuthorizationVoided);
                self.restock(id, refund);
                self.strays_come(id);
            }
            Fate::CaptureIsQuicker => {
                self.flush();
                self.in_order(id, OrderEvent::PaymentCaptured);
                self.flush();
                self.in_order(id, OrderEvent::RefundSucceeded { refund, reference: None });
                self.restock(id, refund);
            }
            Fate::CaptureFails => {
                self.flush();
                let refund = RefundId(id.0);
                self.in_order(id, OrderEvent::CaptureFailed { reason: "ch_secret ran out".into() });
                self.in_order(id, OrderEvent::CancelRequested { refund });
                self.in_order(id, OrderEvent::RefundSucceeded { refund, reference: None });
                self.restock(id, refund);
            }
            Fate::OutOfStock
            | Fate::Declined
            | Fate::TimedOut
            | Fate::CalledOff
            | Fate::Paid
            | Fate::WaitsInVain
            | Fate::CalledOffWaiting
            | Fate::ComesTooLate => {}
        }
        id
    }

    /// History with every kind of event, every level and every fate in it.
    pub(crate) fn sample(at_ms: u64) -> Self {
        let mut shop = Self::open(at_ms);
        let [empty, full, gone] =
            [vec![], vec![Self::line("TEE", 1)], vec![Self::line("MUG", 4)]].map(|lines| shop.cart(lines));
        shop.in_cart(full, CartEvent::LinesAdded { lines: vec![Self::line("TEE", 2), Self::line("MUG", 1)] });
        shop.in_cart(full, CartEvent::QuantitySet { line: 2, quantity: 5 });
        shop.flush();
        shop.in_cart(empty, CartEvent::Expired);
        shop.in_cart(full, CartEvent::Expired);
        shop.in_cart(gone, CartEvent::Deleted);
        for fate in FATES {
            shop.order(fate);
            shop.flush();
        }
        shop.group_expires();
        shop.flush();
        let mut open = Vec::new();
        for _ in 0..120 {
            match (shop.random(5), open.len()) {
                (0 | 1, _) | (_, 0) => {
                    let quantity = i64::try_from(shop.random(20) + 1).unwrap();
                    open.push(shop.reserve("TEE", quantity));
                }
                (kind, count) => {
                    let at = usize::try_from(shop.random(u64::try_from(count).unwrap())).unwrap();
                    let reservation = open.swap_remove(at);
                    let event = match kind {
                        2 => StockEvent::Committed { reservation },
                        3 => StockEvent::Released { reservation },
                        _ => StockEvent::Expired { reservation },
                    };
                    shop.stock("TEE", event);
                }
            }
            if shop.random(3) == 0 {
                shop.flush();
            }
        }
        // Nearly all of it goes, then all, then some comes back.
        let left = shop.sellable("TEE");
        shop.reserve("TEE", left - 5);
        shop.flush();
        shop.reserve("TEE", 5);
        shop.flush();
        shop.adjust("TEE", 3);
        shop.adjust("TEE", 300);
        shop.flush();
        shop.flap(60);
        // Somebody's word, seconds later, pays what is owed.
        shop.at_ms += 5_000;
        shop.adjust("MUG", 1);
        shop.flush();
        shop
    }

    /// The last unit of HOT goes and comes back, over and over.
    pub(crate) fn flap(&mut self, times: usize) {
        for _ in 0..times {
            let reservation = self.reserve("HOT", 1);
            self.flush();
            self.stock("HOT", StockEvent::Released { reservation });
            self.flush();
        }
    }

    pub(crate) fn sellable(&self, name: &str) -> i64 {
        let Some(Snapshot::Stock(stock)) = self.world.entities.get(&EntityKey::Sku(sku(name))) else {
            panic!("{name} was defined");
        };
        stock.sellable()
    }
}

/// A journal on disk with a writer.
pub(crate) struct Book {
    pub(crate) root: tempfile::TempDir,
    handle: JournalHandle,
    batches: u64,
}

impl Book {
    pub(crate) fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap())
    }

    fn open_in(root: tempfile::TempDir) -> Self {
        let paths = Self::paths(root.path());
        std::fs::create_dir_all(paths.archive()).unwrap();
        let small = JournalOptions { segment_bytes: 64 << 10, preparation: Preparation::Thread };
        let (journal, _) = FileJournal::open(&paths, ENGINE, small).unwrap();
        let handle = JournalWriter::spawn(
            Box::new(journal),
            WriterOptions::default(),
            Box::new(|_, _| {}),
            Box::new(|error| panic!("{error}")),
        )
        .unwrap();
        Self { root, handle, batches: 0 }
    }

    fn paths(root: &Path) -> DataPaths {
        DataPaths::new(Arc::new(MachineDisk), root)
    }

    /// Closes it and opens it again.
    pub(crate) fn reopened(self) -> Self {
        self.handle.shutdown().unwrap();
        Self::open_in(self.root)
    }

    /// Appends frames, each one by itself.
    pub(crate) fn write(&mut self, frames: &[Frame]) {
        for (records, bytes) in frames {
            let due = self.handle.durable_frame().next();
            self.batches += 1;
            let batch = Batch { worker: 0, number: self.batches, bytes: bytes.clone(), records: *records };
            self.handle.submit(batch).unwrap();
            let until = Instant::now() + Duration::from_secs(20);
            while self.handle.durable_frame() < due {
                assert!(Instant::now() < until, "frame {due} does not become durable");
                std::thread::yield_now();
            }
        }
    }

    pub(crate) fn tail(&self) -> JournalTail {
        JournalTail::open(Self::paths(self.root.path()), ENGINE, FrameNumber::FIRST, self.handle.clone())
    }

    pub(crate) fn memory(&self) -> std::path::PathBuf {
        self.root.path().join("announcements.memory")
    }
}
