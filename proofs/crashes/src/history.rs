//! What the journal says at the end of a recording: its one true history, and in which frame each acknowledged change
//! stands. A sound image holds a beginning of it.

use std::collections::HashMap;

use anyhow::Context as _;
use doorbuster_engine::cart::CartEvent;
use doorbuster_engine::event::{EntityKey, Entry, Event};
use doorbuster_engine::identity::ReservationId;
use doorbuster_engine::order::OrderEvent;
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::StockEvent;
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::{DataPaths, EngineId};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;

use crate::shoppers::{Acknowledgement, Promise};

/// An acknowledgement with its place in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Where its event stands; `None` if nowhere, which is a loss already.
    pub(crate) frame: Option<u64>,
    /// The acknowledgement.
    pub(crate) acknowledgement: Acknowledgement,
}

/// The whole journal of a recording.
#[derive(Debug)]
pub(crate) struct History {
    /// The number of the frame after the last.
    pub(crate) next_frame: u64,
    /// Records in all.
    pub(crate) records: u64,
    /// Hash of each frame's body, from frame 1 on.
    bodies: Vec<u64>,
    /// Acknowledgements by time.
    pub(crate) placed: Vec<Placed>,
}

impl History {
    /// Reads the journal that a recording left, and finds every acknowledgement in it.
    pub(crate) fn read(
        paths: &DataPaths,
        engine: EngineId,
        ledger: Vec<Acknowledgement>,
    ) -> anyhow::Result<Self> {
        let mut frames: HashMap<(Promise, String), u64> = HashMap::new();
        let (mut bodies, mut records) = (Vec::new(), 0);
        let mut reader = JournalReader::open(paths, engine, FrameNumber::FIRST)?;
        while let Some(frame) = reader.next_frame()? {
            bodies.push(hash(frame.body));
            for record in codec::records(frame.body) {
                let entry = record.and_then(|record| record.entry()).context("a record of the recording")?;
                records += 1;
                if let Some(promise) = promised(&entry) {
                    frames.entry(promise).or_insert(frame.number.0);
                }
            }
        }
        let next_frame = reader.tail().next_frame.0;
        let place = |acknowledgement: Acknowledgement| {
            let key = (acknowledgement.promise, acknowledgement.id.clone());
            Placed { frame: frames.get(&key).copied(), acknowledgement }
        };
        let placed = ledger.into_iter().map(place).collect();
        Ok(Self { next_frame, records, bodies, placed })
    }

    /// Acknowledgements that had arrived at `time`.
    pub(crate) fn arrived(&self, time: u64) -> &[Placed] {
        let count = self.placed.partition_point(|placed| placed.acknowledgement.at <= time);
        &self.placed[..count]
    }

    /// Whether frame `number` has this body.
    pub(crate) fn has(&self, number: FrameNumber, body: &[u8]) -> bool {
        let index = usize::try_from(number.0.saturating_sub(1)).unwrap_or(usize::MAX);
        self.bodies.get(index) == Some(&hash(body))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::BuildHasher as _;

    foldhash::quality::FixedState::default().hash_one(bytes)
}

/// What this entry lets the engine promise, under the name that clients see.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "shoppers ask for few of the events; the rest promise them nothing"
)]
fn promised(entry: &Entry) -> Option<(Promise, String)> {
    let reservation = |promise, id: &ReservationId| Some((promise, id.to_string()));
    match (&entry.entity, &entry.event) {
        (EntityKey::Sku(sku), Event::Stock(event)) => match event {
            StockEvent::Defined { .. } => Some((Promise::Sku, sku.to_string())),
            StockEvent::Adjusted { reference: Some(reference), .. } => {
                Some((Promise::Adjusted, reference.to_string()))
            }
            StockEvent::Reserved { reservation: id, .. } => reservation(Promise::Reserved, id),
            StockEvent::Extended { reservation: id, .. } => reservation(Promise::Extended, id),
            StockEvent::Committed { reservation: id } => reservation(Promise::Committed, id),
            StockEvent::Released { reservation: id } => reservation(Promise::Released, id),
            _ => None,
        },
        (EntityKey::Reservation(id), Event::Reservation(event)) => match event {
            ReservationEvent::Granted { .. } => reservation(Promise::Reserved, id),
            ReservationEvent::Extended { .. } => reservation(Promise::Extended, id),
            ReservationEvent::Committed => reservation(Promise::Committed, id),
            ReservationEvent::Released => reservation(Promise::Released, id),
            _ => None,
        },
        (EntityKey::Cart(cart), Event::Cart(event)) => match event {
            CartEvent::Created { .. } => Some((Promise::Cart, cart.to_string())),
            CartEvent::LinesAdded { .. } => Some((Promise::Lines, cart.to_string())),
            _ => None,
        },
        (EntityKey::Order(order), Event::Order(OrderEvent::Placed { .. })) => {
            Some((Promise::Order, order.to_string()))
        }
        _ => None,
    }
}
