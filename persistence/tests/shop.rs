//! A small shop that writes its own history: the model that recovery and verification are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use doorbuster_engine::cart::{CartEvent, NewLine};
use doorbuster_engine::event::{EntityKey, Entry, Event, PARTITIONS};
use doorbuster_engine::identity::{
    CartId, Fingerprint, Position, Recorded, RequestKey, RequestStamp, ReservationId, Sku, Timestamp,
};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};
use doorbuster_engine::world::World;
use doorbuster_persistence::checkpoint::{EntityRow, Residence, RoundMark};
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::error::StartError;
use doorbuster_persistence::file_journal::{JournalOptions, Preparation};
use doorbuster_persistence::frame::{Frame, FrameNumber};
use doorbuster_persistence::journal::Journal;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::recovery::{Recovered, recover};

/// Segments of a few frames.
pub(crate) const SMALL: JournalOptions =
    JournalOptions { segment_bytes: 8_192, preparation: Preparation::Thread };

/// SKUs of the shop.
pub(crate) const SKUS: u64 = 5;

/// One day of the shop per hour would forget nothing; a step of this many milliseconds neither.
const STEP_MS: u64 = 10;

/// The shop, open on a directory.
pub(crate) struct Shop {
    pub(crate) directory: DataDirectory,
    pub(crate) recovered: Recovered,
    /// The model: everything ever recorded, folded in memory.
    pub(crate) model: World,
    sequences: [u64; PARTITIONS],
    position: u64,
    at_ms: u64,
    step: u64,
    /// Entities changed since the last round, and when each one last changed.
    dirty: BTreeSet<EntityKey>,
    last_sequence: BTreeMap<EntityKey, u64>,
    frame: Vec<u8>,
    frame_records: u32,
}

/// Opens a directory as a start does.
pub(crate) fn start(path: &Path) -> Result<(DataDirectory, Recovered), StartError> {
    let directory = DataDirectory::open(path)?;
    let recovered = recover(&directory, SMALL, &mut |_| {})?;
    Ok((directory, recovered))
}

impl Shop {
    /// A shop in a new directory.
    pub(crate) fn open(path: &Path) -> Self {
        let (directory, recovered) = start(path).unwrap();
        assert_eq!(recovered.next_frame, FrameNumber::FIRST);
        Self {
            directory,
            recovered,
            model: World::default(),
            sequences: [0; PARTITIONS],
            position: 0,
            at_ms: 1_000_000,
            step: 0,
            dirty: BTreeSet::new(),
            last_sequence: BTreeMap::new(),
            frame: Vec::new(),
            frame_records: 0,
        }
    }

    /// Closes and starts again on the same directory.
    pub(crate) fn restart(mut self) -> Self {
        let path = self.path();
        drop((self.directory, self.recovered));
        let (directory, recovered) = start(&path).unwrap();
        self.directory = directory;
        self.recovered = recovered;
        self.dirty.clear();
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.paths().root.clone()
    }

    pub(crate) fn sequences(&self) -> [u64; PARTITIONS] {
        self.sequences
    }

    /// Records one event in the frame being filled, and in the model.
    pub(crate) fn record(&mut self, entity: EntityKey, event: Event, request: Option<RequestStamp>) {
        let entry = Entry { entity, request, event };
        let recorded = self.append(&entry);
        self.model.apply((&entry.entity).into(), &entry.event, recorded, entry.request).unwrap();
    }

    fn append(&mut self, entry: &Entry) -> Recorded {
        let partition = entry.entity.partition();
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
        codec::append_record(&mut self.frame, &header, entry).unwrap();
        self.frame_records += 1;
        self.last_sequence.insert(entry.entity.clone(), *sequence);
        self.dirty.insert(entry.entity.clone());
        Recorded { position: Position(self.position), at: Timestamp(self.at_ms) }
    }

    /// Records what no machine would, and leaves the model alone.
    pub(crate) fn record_unchecked(
        &mut self,
        entity: EntityKey,
        event: Event,
        request: Option<RequestStamp>,
    ) {
        self.append(&Entry { entity, request, event });
    }

    /// Records one event as an engine did that wrote records of this version.
    pub(crate) fn record_of_version(&mut self, version: u16, entity: EntityKey, event: Event) {
        let begin = self.frame.len();
        self.record_unchecked(entity, event, None);
        self.frame[begin + 4..begin + 6].copy_from_slice(&version.to_le_bytes());
    }

    /// Leaves a gap in an entity's partition, and records something after it.
    pub(crate) fn skip_sequence(&mut self, entity: &EntityKey) {
        self.sequences[usize::from(entity.partition())] += 1;
        let event = StockEvent::Adjusted { delta: 1, reason: "gap".into(), reference: None, location: None };
        self.record_unchecked(entity.clone(), Event::Stock(event), None);
    }

    /// After a restart the next round must cover what the replay changed; this takes everything there is.
    pub(crate) fn touch_all(&mut self) {
        self.dirty = self.model.entities.keys().cloned().collect();
    }

    /// Writes the frame and syncs it.
    pub(crate) fn flush(&mut self) {
        let frame = Frame { records: self.frame_records, parts: &[&self.frame] };
        self.recovered.journal.append(frame).unwrap();
        self.recovered.journal.sync().unwrap();
        self.frame.clear();
        self.frame_records = 0;
    }

    /// A busy hour of so many frames: SKUs are made, units come, are held, sold and freed; carts are made and filled.
    pub(crate) fn trade(&mut self, frames: u64) {
        for _ in 0..frames {
            for _ in 0..3 {
                self.trade_once();
            }
            self.flush();
        }
    }

    fn trade_once(&mut self) {
        self.step += 1;
        self.at_ms += STEP_MS;
        let step = self.step;
        let sku = sku(step % SKUS);
        let entity = EntityKey::Sku(sku.clone());
        if step <= SKUS {
            let definition = Definition {
                name: "thing".into(),
                price: Money::new(100, Currency::GBP),
                oversell: Oversell::Deny,
                reservation_ttl_ms: None,
                low_stock_at: None,
            };
            return self.record(
                entity,
                Event::Stock(StockEvent::Defined { definition, opening: 100_000 }),
                None,
            );
        }
        match step % 4 {
            0 => {
                let cart = EntityKey::Cart(CartId(u128::from(step)));
                let event = CartEvent::Created { currency: Currency::GBP, lines: Vec::new(), ttl_ms: 1_000 };
                self.record(cart, Event::Cart(event), Some(stamp(step)));
            }
            1 if step > 12 => {
                // Often a cart that has long been cold.
                let made = (step - 1).saturating_sub(step % 3 * 4);
                let cart = EntityKey::Cart(CartId(u128::from(made)));
                let line = NewLine {
                    sku,
                    name: "thing".into(),
                    quantity: 1,
                    unit_price: Money::new(100, Currency::GBP),
                };
                self.record(
                    cart,
                    Event::Cart(CartEvent::LinesAdded { lines: vec![line] }),
                    Some(stamp(step)),
                );
            }
            2 if step > 30 && step % 8 == 2 => {
                // Units of the step twenty before, which held some of the same SKU.
                let reservation = ReservationId(u128::from(step - 20));
                let held = self.model.memory.by_key().1.contains_key(&reservation) || (step - 20) % 4 != 2;
                let event = match (held, step % 3) {
                    (true, _) => StockEvent::Adjusted {
                        delta: 2,
                        reason: "found".into(),
                        reference: None,
                        location: None,
                    },
                    (false, 0) => StockEvent::Committed { reservation },
                    (false, 1) => StockEvent::Released { reservation },
                    (false, _) => StockEvent::Expired { reservation },
                };
                self.record(entity, Event::Stock(event), None);
            }
            2 => {
                let event = StockEvent::Reserved {
                    reservation: ReservationId(u128::from(step)),
                    quantity: 2,
                    ttl_ms: 60_000,
                    fingerprint: Fingerprint(step),
                    customer: None,
                    location: None,
                };
                self.record(entity, Event::Stock(event), Some(stamp(step)));
            }
            _ => {
                let event = StockEvent::Adjusted {
                    delta: 1,
                    reason: "count".into(),
                    reference: None,
                    location: None,
                };
                self.record(entity, Event::Stock(event), Some(stamp(step)));
            }
        }
    }

    /// The rows of all changed entities; carts go cold.
    pub(crate) fn rows(&mut self) -> Vec<EntityRow> {
        std::mem::take(&mut self.dirty).into_iter().filter_map(|entity| self.row(&entity)).collect()
    }

    fn row(&self, entity: &EntityKey) -> Option<EntityRow> {
        let snapshot = self.model.entities.get(entity)?;
        let residence = match entity {
            EntityKey::Cart(_) => Residence::Cold,
            EntityKey::Sku(_) | EntityKey::Reservation(_) | EntityKey::Order(_) => Residence::Resident,
        };
        let blob = codec::encode_stored(snapshot).unwrap();
        Some(EntityRow { entity: entity.clone(), sequence: self.last_sequence[entity], residence, blob })
    }

    /// What a round beginning now will say at its end.
    pub(crate) fn mark(&self, replay_from_frame: FrameNumber) -> RoundMark {
        RoundMark {
            replay_from_frame,
            durable_frame: FrameNumber(self.recovered.journal.next_frame().0 - 1),
            sequences: self.sequences,
            position_max: self.position,
            at_ms: self.at_ms,
        }
    }

    /// A whole round of checkpointing; returns the frame below which to archive.
    pub(crate) fn checkpoint(&mut self) -> FrameNumber {
        let replay_from = self.recovered.journal.next_frame();
        let rows = self.rows();
        self.recovered.store.put(rows).unwrap();
        let mark = self.mark(replay_from);
        self.recovered.store.finish_round(&mark).unwrap()
    }
}

/// SKU number `n`.
pub(crate) fn sku(n: u64) -> Sku {
    Sku::new(&format!("SKU {n}")).unwrap()
}

/// A request of its own for each `n`.
pub(crate) fn stamp(n: u64) -> RequestStamp {
    RequestStamp { key: RequestKey(u128::from(n)), fingerprint: Fingerprint(n) }
}

/// Holds a recovered state against the model: every entity in memory or cold, nothing else, counters going on.
pub(crate) fn assert_is(recovered: &Recovered, model: &World, sequences: &[u64; PARTITIONS], context: &str) {
    assert_eq!(&recovered.sequences, sequences, "{context}: sequences");
    for (entity, expected) in &model.entities {
        let found = if let Some(found) = recovered.world.entities.get(entity) {
            found.clone()
        } else {
            let row =
                recovered.store.get(entity).unwrap().unwrap_or_else(|| panic!("{context}: no {entity}"));
            assert_eq!(row.residence, Residence::Cold, "{context}: {entity}");
            codec::decode_stored(&row.blob).unwrap()
        };
        assert!(found == *expected, "{context}: {entity} is {found:?} instead of {expected:?}");
    }
    for entity in recovered.world.entities.keys() {
        assert!(model.entities.contains_key(entity), "{context}: {entity} never was");
    }
}
