//! A made-up shop's history, written straight into a journal: what recovery is measured on.
//!
//! The mix is that of a drop: of a hundred events some eighty are keyed reservations of one SKU and their ends, the rest
//! checkouts of two lines from cart to order, and a few adjustments. Half of the demand is for the hundredth part of the SKUs.
//! Every record passes [`World::apply`](doorbuster_engine::world::World) when it is folded: nothing here is nonsense.

use std::collections::VecDeque;
use std::path::Path;

use doorbuster_engine::cart::{CartEvent, NewLine};
use doorbuster_engine::event::{EntityKey, Entry, Event, PARTITIONS};
use doorbuster_engine::identity::{
    CartId, Fingerprint, OrderId, RequestKey, RequestStamp, ReservationId, Sku,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{DraftLine, OrderDraft, OrderEvent};
use doorbuster_engine::pricing::totals;
use doorbuster_engine::stock::{Definition, Home, Oversell, StockEvent};
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions};
use doorbuster_persistence::frame::Frame;
use doorbuster_persistence::journal::Journal;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::recovery::recover;

/// Records a frame holds: what one sync carries under load.
const FRAME_RECORDS: u32 = 64;

/// Records of one millisecond.
const RECORDS_A_MS: u64 = 20;

/// Life of a reservation that nobody ends, far beyond any measured history.
const TTL_MS: u64 = 3_600_000;

/// Writes a history; see the module's header.
#[derive(Debug)]
pub struct Writer {
    journal: FileJournal,
    skus: Vec<Sku>,
    sequences: [u64; PARTITIONS],
    records: u64,
    frame: Vec<u8>,
    frame_records: u32,
    frames: u64,
    /// Reservations held, oldest first.
    held: VecDeque<(ReservationId, usize)>,
    random: u64,
    first_at_ms: u64,
}

/// Writes `records` records over `skus` SKUs into a new data directory, with `held` reservations open at any time.
///
/// # Panics
/// When the directory cannot be written.
pub fn write(path: &Path, skus: usize, held: usize, records: u64) {
    let mut writer = Writer::open(path, skus);
    while writer.records < records {
        for _ in 0..30 {
            writer.reserve();
            if writer.held.len() > held {
                writer.end_oldest();
            }
        }
        writer.adjust();
        writer.check_out();
    }
    writer.close();
}

/// Writes a history that only reserves: `held` reservations are open at its end, spread evenly over the SKUs.
///
/// # Panics
/// When the directory cannot be written.
pub fn write_held(path: &Path, skus: usize, held: usize) {
    let mut writer = Writer::open(path, skus);
    for n in 0..held {
        writer.reserve_of(n % skus);
    }
    writer.close();
}

impl Writer {
    fn open(path: &Path, skus: usize) -> Self {
        let directory = DataDirectory::open(path).expect("a new data directory");
        let recovered =
            recover(&directory, JournalOptions::default(), &mut |_| {}).expect("an empty journal");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut writer = Self {
            journal: recovered.journal,
            skus: (0..skus).map(|n| Sku::new(&format!("SKU-{n:07}")).expect("a sound SKU")).collect(),
            sequences: [0; PARTITIONS],
            records: 0,
            frame: Vec::new(),
            frame_records: 0,
            frames: 0,
            held: VecDeque::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            // A quarter of an hour ago: nothing in it is due when an engine starts on it.
            first_at_ms: now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0)) - 900_000,
        };
        for n in 0..skus {
            let definition = Definition {
                name: format!("Item number {n}").into(),
                price: Money::new(1_999, Currency::GBP),
                oversell: Oversell::Deny,
                reservation_ttl_ms: None,
                low_stock_at: None,
            };
            let request = Some(writer.stamp());
            writer.stock(n, request, StockEvent::Defined { definition, opening: 1_000_000_000 });
        }
        writer
    }

    fn close(mut self) {
        self.flush();
        self.journal.sync().expect("a sync");
    }

    fn bits(&mut self) -> u64 {
        // xorshift64*: spreads well, and the same on every run.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn id(&mut self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }

    fn stamp(&mut self) -> RequestStamp {
        RequestStamp { key: RequestKey(self.id()), fingerprint: Fingerprint(self.bits()) }
    }

    /// Half of the time one of the hundredth part of the SKUs.
    fn pick(&mut self) -> usize {
        let bits = self.bits();
        let among = if bits & 1 == 0 { self.skus.len().div_ceil(100) } else { self.skus.len() };
        usize::try_from(bits >> 1).unwrap_or(0) % among
    }

    fn reserve(&mut self) {
        let at = self.pick();
        self.reserve_of(at);
    }

    fn reserve_of(&mut self, at: usize) {
        let request = self.stamp();
        let reservation = request.key.reservation();
        let event = StockEvent::Reserved {
            reservation,
            quantity: 1,
            ttl_ms: TTL_MS,
            fingerprint: request.fingerprint,
            customer: None,
            location: None,
        };
        self.stock(at, Some(request), event);
        self.held.push_back((reservation, at));
    }

    fn end_oldest(&mut self) {
        let Some((reservation, at)) = self.held.pop_front() else { return };
        match self.bits() % 20 {
            0..12 => {
                let request = Some(self.stamp());
                self.stock(at, request, StockEvent::Committed { reservation });
            }
            12..15 => {
                let request = Some(self.stamp());
                self.stock(at, request, StockEvent::Released { reservation });
            }
            _ => self.stock(at, None, StockEvent::Expired { reservation }),
        }
    }

    fn adjust(&mut self) {
        let (at, request) = (self.pick(), Some(self.stamp()));
        let event =
            StockEvent::Adjusted { delta: 1, reason: "found".into(), reference: None, location: None };
        self.stock(at, request, event);
    }

    /// A cart with two lines becomes an order: 13 events.
    fn check_out(&mut self) {
        let first = self.pick();
        let picked = [first, (first + 1) % self.skus.len()];
        let price = Money::new(1_999, Currency::GBP);
        let line = |at: &usize| NewLine {
            sku: self.skus[*at].clone(),
            name: "An item".into(),
            quantity: 1,
            unit_price: price,
        };
        let lines: Vec<NewLine> = picked.iter().map(line).collect();
        let (cart_id, order_id) = (CartId(self.id()), OrderId(self.id()));
        let (cart, order) = (EntityKey::Cart(cart_id), EntityKey::Order(order_id));
        let drafted = (1..).zip(&lines).map(|(number, line)| DraftLine {
            line: number,
            sku: line.sku.clone(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price,
        });
        let draft = Box::new(OrderDraft {
            order: order_id,
            cart: cart_id,
            lines: drafted.collect(),
            totals: totals(Currency::GBP, [(2, price)].into_iter()).expect("sums that fit"),
            email: "somebody@example.com".into(),
            provider: "fake".into(),
            method: "ok".into(),
            shipping_address: None,
            pin_ms: 900_000,
        });
        let [create, add, checkout] = [self.stamp(), self.stamp(), self.stamp()];
        let event = CartEvent::Created { currency: Currency::GBP, lines: Vec::new(), ttl_ms: 604_800_000 };
        self.record(cart.clone(), Some(create), Event::Cart(event));
        self.record(cart.clone(), Some(add), Event::Cart(CartEvent::LinesAdded { lines }));
        let event = CartEvent::CheckoutStarted { draft: draft.clone() };
        self.record(cart.clone(), Some(checkout), Event::Cart(event));
        self.record(order.clone(), Some(checkout), Event::Order(OrderEvent::Started(draft)));
        let reservation = order_id.reservation();
        for at in picked {
            self.stock(at, None, StockEvent::PartHeld { reservation, quantity: 1, home: Home::Order });
        }
        self.record(order.clone(), None, Event::Order(OrderEvent::UnitsReserved));
        let placed = OrderEvent::Placed { reference: Some("charge".into()) };
        self.record(order.clone(), None, Event::Order(placed));
        for at in picked {
            self.stock(at, None, StockEvent::PartSold { reservation });
        }
        self.record(order.clone(), None, Event::Order(OrderEvent::UnitsSold));
        self.record(cart, None, Event::Cart(CartEvent::Ordered { order: order_id }));
        self.record(order, None, Event::Order(OrderEvent::CartTold));
    }

    fn stock(&mut self, at: usize, request: Option<RequestStamp>, event: StockEvent) {
        let entity = EntityKey::Sku(self.skus[at].clone());
        self.record(entity, request, Event::Stock(event));
    }

    fn record(&mut self, entity: EntityKey, request: Option<RequestStamp>, event: Event) {
        let entry = Entry { entity, request, event };
        let partition = entry.entity.partition();
        let sequence = &mut self.sequences[usize::from(partition)];
        *sequence += 1;
        let header = RecordHeader {
            partition,
            epoch: 1,
            sequence: *sequence,
            position: self.records + 1,
            at_ms: self.first_at_ms + self.records / RECORDS_A_MS,
        };
        codec::append_record(&mut self.frame, &header, &entry).expect("a sound record");
        self.records += 1;
        self.frame_records += 1;
        if self.frame_records == FRAME_RECORDS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.journal.append(Frame { records: self.frame_records, parts: &[&self.frame] }).expect("a write");
        self.frames += 1;
        if self.frames.is_multiple_of(256) {
            self.journal.sync().expect("a sync");
        }
        self.frame.clear();
        self.frame_records = 0;
    }
}
