//! Criterion benches of the rooms, and what they share.
//!
//! A bench measures one thing that a design decision rests on, at sizes that show how it grows. Run one with
//! `cargo bench --package doorbuster-benches --bench core_reserve`. Figures go into `docs/` only with the machine they
//! were measured on.

pub mod figures;
pub mod history;
pub mod records;

use doorbuster_engine::envelope::{Decision, Envelope};
use doorbuster_engine::identity::{
    Fingerprint, Position, Recorded, RequestKey, RequestStamp, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell, Reserve, Stock, StockCommand};

/// One SKU with its clock standing still and its positions counted, as a worker would drive it.
#[derive(Clone, Debug)]
pub struct Bench {
    stock: Stock,
    next: u64,
}

impl Bench {
    /// A SKU with `holds` reservations of one unit open, and ample stock.
    ///
    /// # Panics
    /// When the stock machine refuses what it must grant.
    pub fn with_holds(holds: u64) -> Self {
        let mut bench = Self { stock: Stock::new(Sku::new("BENCH").expect("a sound SKU")), next: 1 };
        let definition = Definition {
            name: "bench".into(),
            price: Money::new(1_999, Currency::GBP),
            oversell: Oversell::Deny,
            reservation_ttl_ms: None,
            low_stock_at: None,
        };
        bench.turn(StockCommand::Define { definition, opening: Some(1_000_000_000) });
        for _ in 0..holds {
            bench.reserve();
        }
        bench
    }

    /// Reserves one unit under a new id, which it returns: one decision, one event folded, one answer made.
    pub fn reserve(&mut self) -> ReservationId {
        // Ids are keyed hashes in life; a multiplication spreads these as well, and costs next to nothing.
        let reservation =
            ReservationId(u128::from(self.next).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        self.turn(StockCommand::Reserve(Reserve {
            reservation,
            quantity: 1,
            ttl_ms: None,
            partial: false,
            customer: None,
        }));
        reservation
    }

    /// Gives a reservation back.
    pub fn release(&mut self, reservation: ReservationId) {
        self.turn(StockCommand::Release { reservation });
    }

    /// Sells a reservation's unit.
    pub fn commit(&mut self, reservation: ReservationId) {
        self.turn(StockCommand::Commit { reservation });
    }

    fn turn(&mut self, command: StockCommand) {
        let request =
            Some(RequestStamp { key: RequestKey(u128::from(self.next)), fingerprint: Fingerprint(1) });
        let now = Timestamp(1_000);
        let Decision::Change(events) = self.stock.decide(&Envelope { now, request, command }) else {
            panic!("a bench's command changes something");
        };
        for event in &events {
            let recorded = Recorded { position: Position(self.next), at: now };
            self.next = self.next.wrapping_add(1);
            std::hint::black_box(self.stock.evolve(event, recorded, request));
        }
    }
}
