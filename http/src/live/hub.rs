//! The thread behind all live streams: reads the journal, folds what is watched, and shares out what is to be told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use doorbuster_actors::{Engine, Readiness};
use doorbuster_engine::event::{EntityKey, EntityRef, PARTITIONS};
use doorbuster_engine::identity::{Recorded, Sku};
use doorbuster_persistence::codec::{self, RawRecord};
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::tail::JournalTail;
use foldhash::fast::RandomState;
use metrics::{Counter, Gauge};
use tokio::sync::mpsc;

use super::stage::{Stage, Turn};
use super::{Ending, LiveOptions, Opening, Told, Topics, Wish};
use crate::metrics::{LIVE_ENDED_TOTAL, LIVE_EVENTS_TOTAL, LIVE_STREAMS};
use crate::reply::json;
use crate::wire::from_engine;

type Map<K, V> = HashMap<K, V, RandomState>;

/// How often the journal is looked at while somebody watches.
const LOOK: Duration = Duration::from_millis(10);

/// Frames read between two looks at wishes and clocks.
const FRAMES: usize = 256;

/// How long a SKU that nobody watches any more is remembered, so that whoever lost a connection goes on where it was.
const LINGER: Duration = Duration::from_secs(60);

/// Deliveries a second to the watchers of one SKU: with more than two thousand watchers its events become rarer than
/// ten a second, so that one SKU cannot take all the time there is for telling.
const DELIVERIES_PER_S: u32 = 20_000;

/// A SKU that is or was watched.
struct Shelf {
    clients: Vec<u64>,
    /// Whether it changed since it was last told.
    dirty: bool,
    /// The frame before it was first watched, and the one in which it last changed since.
    from_frame: u64,
    changed_frame: u64,
    /// Not told again before this.
    due: Instant,
    version: Option<u64>,
    /// What was last told, without and with an id.
    latest: Option<(Arc<Told>, Arc<Told>)>,
    deserted: Option<Instant>,
}

/// A watcher.
struct Client {
    sender: mpsc::Sender<Arc<Told>>,
    ending: Arc<Ending>,
    topics: Topics,
    since: Option<u64>,
    /// Of its SKUs, those it is to be told of.
    pending: Vec<Sku>,
    stalled_since: Option<Instant>,
    last_sent: Instant,
}

/// See the module's header.
pub(super) struct Hub {
    engine: Engine,
    options: LiveOptions,
    wishes: Receiver<Wish>,
    tail: JournalTail,
    /// The last frame that was read.
    frame: u64,
    clients: Map<u64, Client>,
    shelves: Map<Sku, Shelf>,
    stages: Map<EntityKey, Stage>,
    /// How much is watched in each partition: records of others are passed over unread.
    watched: [u32; PARTITIONS],
    dirty: Vec<Sku>,
    heartbeat: Arc<Told>,
    checked_at: Instant,
    streams: Gauge,
    events: Counter,
}

impl Hub {
    pub(super) fn new(engine: Engine, options: LiveOptions, wishes: Receiver<Wish>) -> Self {
        Self {
            tail: engine.follow(FrameNumber::FIRST),
            engine,
            options,
            wishes,
            frame: 0,
            clients: Map::default(),
            shelves: Map::default(),
            stages: Map::default(),
            watched: [0; PARTITIONS],
            dirty: Vec::new(),
            heartbeat: Told::heartbeat(),
            checked_at: Instant::now(),
            streams: metrics::gauge!(LIVE_STREAMS),
            events: metrics::counter!(LIVE_EVENTS_TOTAL),
        }
    }

    /// Works until nobody can wish anything any more.
    pub(super) fn run(mut self) {
        loop {
            let idle = self.clients.is_empty() && self.shelves.is_empty() && self.stages.is_empty();
            let wish = if idle {
                self.wishes.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.wishes.recv_timeout(LOOK)
            };
            match wish {
                Ok(wish) => {
                    if idle {
                        self.begin();
                    }
                    self.grant(wish);
                    while let Ok(wish) = self.wishes.try_recv() {
                        self.grant(wish);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.engine.readiness() == Readiness::Draining {
                self.end_all("draining");
                continue;
            }
            if let Err(error) = self.read() {
                tracing::error!(%error, "live streams end here and begin anew");
                self.end_all("lost");
                self.begin();
            }
            let now = Instant::now();
            self.tell_skus(now);
            if now.duration_since(self.checked_at) >= Duration::from_secs(1).min(self.options.heartbeat) {
                self.checked_at = now;
                self.check(now);
            }
        }
    }

    /// Goes to the journal's end: whoever comes now is told the present by others.
    fn begin(&mut self) {
        let durable = self.tail.durable_frame();
        self.frame = durable.0;
        self.tail.seek(durable.next());
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Open(opening) => self.open(*opening),
            Wish::Seed(key, seed) => {
                let Some(stage) = self.stages.get_mut(&key) else { return };
                let was = stage.is_seeded();
                if !stage.seed(seed) {
                    return self.close_stage(&key, "lost");
                }
                if !was {
                    for client in stage.clients.clone() {
                        self.greet(&key, client);
                    }
                }
            }
            Wish::Close(client) => self.remove(client, None),
        }
    }

    fn open(&mut self, opening: Opening) {
        let Opening { client, topics, since, sender, ending, ready } = opening;
        let now = Instant::now();
        let mut pending = Vec::new();
        match &topics {
            Topics::Skus(skus) => {
                for sku in skus {
                    if self.watch_sku(sku, client, since, now) {
                        pending.push(sku.clone());
                    }
                }
            }
            Topics::One(key) => {
                let partition = usize::from(key.partition());
                let watched = &mut self.watched[partition];
                let stage = self.stages.entry(key.clone()).or_insert_with(|| {
                    *watched += 1;
                    Stage::new()
                });
                stage.clients.push(client);
            }
        }
        let one = match &topics {
            Topics::Skus(_) => None,
            Topics::One(key) => Some(key.clone()),
        };
        let watcher = Client { sender, ending, topics, since, pending, stalled_since: None, last_sent: now };
        self.clients.insert(client, watcher);
        #[expect(clippy::cast_precision_loss)]
        self.streams.set(self.clients.len() as f64);
        match one {
            Some(key) if self.stages.get(&key).is_some_and(Stage::is_seeded) => self.greet(&key, client),
            Some(_) => {}
            None => self.send_skus(client, now),
        }
        // Where nobody waits for it any more, its end follows.
        let _ = ready.send(());
    }

    /// Lets a client watch a SKU, and says whether it must be told the present.
    fn watch_sku(&mut self, sku: &Sku, client: u64, since: Option<u64>, now: Instant) -> bool {
        if !self.shelves.contains_key(sku) {
            self.watched[usize::from(EntityKey::Sku(sku.clone()).partition())] += 1;
            let watch = Shelf {
                clients: Vec::new(),
                dirty: false,
                from_frame: self.frame,
                changed_frame: self.frame,
                due: now,
                version: None,
                latest: None,
                deserted: None,
            };
            self.shelves.insert(sku.clone(), watch);
        }
        let frame = self.frame;
        let Some(watch) = self.shelves.get_mut(sku) else { return false };
        watch.clients.push(client);
        watch.deserted = None;
        refresh(&self.engine, sku, watch, frame);
        // What it has seen is what there is: it was watched all the time since, and did not change.
        !since
            .is_some_and(|since| (watch.from_frame..=frame).contains(&since) && watch.changed_frame <= since)
    }

    /// Tells a cart's or order's new watcher the present, where it has not seen it.
    fn greet(&mut self, key: &EntityKey, client: u64) {
        let (Some(stage), Some(watcher)) = (self.stages.get(key), self.clients.get(&client)) else { return };
        if let Some(reason) = stage.over() {
            return self.remove(client, Some(reason));
        }
        if watcher.since != Some(stage.version()) {
            // A version that was never reached is none that was seen.
            let since = watcher.since.filter(|since| *since <= stage.version()).unwrap_or(0);
            if let Some(told) = stage.told(since) {
                self.send(client, told);
            }
        }
    }

    /// Reads what has become durable.
    fn read(&mut self) -> Result<(), JournalError> {
        for _ in 0..FRAMES {
            // Taken apart, because the frame lies in the tail's memory.
            let Some(frame) = self.tail.next_frame()? else { return Ok(()) };
            let number = frame.number.0;
            let mut turns: Vec<(EntityKey, Turn)> = Vec::new();
            for record in codec::records(frame.body) {
                let Ok(record) = record else { break };
                if self.watched[usize::from(record.header.partition)] > 0 {
                    note(&mut self.shelves, &mut self.stages, &mut self.dirty, number, &record, &mut turns);
                }
            }
            self.frame = number;
            for (key, turn) in turns {
                match turn {
                    Turn::Quiet => {}
                    Turn::Tell(told) => self.send_all(&key, &told),
                    Turn::Last(told, reason) => {
                        if let Some(told) = told {
                            self.send_all(&key, &told);
                        }
                        self.close_stage(&key, reason);
                    }
                }
            }
        }
        Ok(())
    }

    fn send_all(&mut self, key: &EntityKey, told: &Arc<Told>) {
        let Some(stage) = self.stages.get(key) else { return };
        for client in stage.clients.clone() {
            self.send(client, Arc::clone(told));
        }
    }

    /// Tells a watcher of a cart or order. Every change counts there, so whoever cannot take one is too slow.
    fn send(&mut self, client: u64, told: Arc<Told>) {
        let Some(watcher) = self.clients.get_mut(&client) else { return };
        if watcher.sender.try_send(told).is_ok() {
            watcher.last_sent = Instant::now();
            self.events.increment(1);
        } else {
            self.remove(client, Some("slow_reader"));
        }
    }

    /// Tells of the SKUs that changed, and of those that could not be told before.
    fn tell_skus(&mut self, now: Instant) {
        let mut touched: Vec<u64> = Vec::new();
        let mut later = Vec::new();
        for sku in std::mem::take(&mut self.dirty) {
            let Some(watch) = self.shelves.get_mut(&sku) else { continue };
            if watch.due > now {
                later.push(sku);
                continue;
            }
            watch.dirty = false;
            refresh(&self.engine, &sku, watch, self.frame);
            let watchers = u32::try_from(watch.clients.len()).unwrap_or(u32::MAX);
            let share = Duration::from_secs(1) * watchers / DELIVERIES_PER_S;
            watch.due = now + self.options.tick.max(share);
            for client in &watch.clients {
                let Some(watcher) = self.clients.get_mut(client) else { continue };
                if watcher.pending.is_empty() {
                    touched.push(*client);
                }
                if !watcher.pending.contains(&sku) {
                    watcher.pending.push(sku.clone());
                }
            }
        }
        self.dirty.extend(later);
        for client in touched {
            self.send_skus(client, now);
        }
    }

    /// Tells a SKU's watcher all that waits for it, or nothing yet: the newest state is the one that counts.
    fn send_skus(&mut self, client: u64, now: Instant) {
        let Some(watcher) = self.clients.get_mut(&client) else { return };
        if watcher.pending.is_empty() {
            return;
        }
        if watcher.sender.capacity() < watcher.pending.len() {
            watcher.stalled_since.get_or_insert(now);
            return;
        }
        watcher.stalled_since = None;
        watcher.last_sent = now;
        let pending = std::mem::take(&mut watcher.pending);
        let Topics::Skus(all) = &watcher.topics else { return };
        // An id says that all up to it was told, so only what leaves nothing open has one.
        let complete = all.iter().all(|sku| self.shelves.get(sku).is_none_or(|watch| !watch.dirty));
        for (index, sku) in pending.iter().enumerate() {
            let latest = self.shelves.get(sku).and_then(|watch| watch.latest.as_ref());
            let Some((plain, with_id)) = latest else { continue };
            let last = index + 1 == pending.len();
            let told = if last && complete { with_id } else { plain };
            let _ = watcher.sender.try_send(Arc::clone(told));
            self.events.increment(1);
        }
    }

    /// Heartbeats, readers that stand still, and what nobody watches any more.
    fn check(&mut self, now: Instant) {
        let mut over: Vec<(u64, &'static str)> = Vec::new();
        let mut waiting = Vec::new();
        for (id, client) in &mut self.clients {
            if client.sender.is_closed() {
                over.push((*id, "closed"));
                continue;
            }
            let stalled = client.stalled_since.is_some_and(|since| now - since >= self.options.stalled_max);
            if stalled {
                over.push((*id, "slow_reader"));
            } else if !client.pending.is_empty() {
                waiting.push(*id);
            } else if now.duration_since(client.last_sent) >= self.options.heartbeat {
                client.last_sent = now;
                if client.sender.try_send(Arc::clone(&self.heartbeat)).is_err() {
                    client.stalled_since.get_or_insert(now);
                }
            }
        }
        for (client, reason) in over {
            self.remove(client, Some(reason));
        }
        for client in waiting {
            self.send_skus(client, now);
        }
        let watched = &mut self.watched;
        self.shelves.retain(|sku, watch| {
            let keep = watch.deserted.is_none_or(|since| now - since < LINGER);
            if !keep {
                watched[usize::from(EntityKey::Sku(sku.clone()).partition())] -= 1;
            }
            keep
        });
    }

    fn end_all(&mut self, reason: &'static str) {
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            self.remove(client, Some(reason));
        }
        self.shelves.clear();
        self.stages.clear();
        self.dirty.clear();
        self.watched = [0; PARTITIONS];
    }

    fn close_stage(&mut self, key: &EntityKey, reason: &'static str) {
        let clients = self.stages.get(key).map(|stage| stage.clients.clone()).unwrap_or_default();
        for client in clients {
            self.remove(client, Some(reason));
        }
    }

    /// Lets a client go; with a reason, it is told.
    fn remove(&mut self, id: u64, reason: Option<&'static str>) {
        let Some(client) = self.clients.remove(&id) else { return };
        #[expect(clippy::cast_precision_loss)]
        self.streams.set(self.clients.len() as f64);
        if let Some(reason) = reason {
            debug_assert!(super::ENDINGS.contains(&reason), "it was shown at zero: {reason}");
            metrics::counter!(LIVE_ENDED_TOTAL, "reason" => reason).increment(1);
            client.ending.tell(reason);
        }
        match &client.topics {
            Topics::Skus(skus) => {
                for sku in skus {
                    let Some(watch) = self.shelves.get_mut(sku) else { continue };
                    watch.clients.retain(|other| *other != id);
                    if watch.clients.is_empty() {
                        watch.deserted = Some(Instant::now());
                    }
                }
            }
            Topics::One(key) => {
                let Some(stage) = self.stages.get_mut(key) else { return };
                stage.clients.retain(|other| *other != id);
                if stage.clients.is_empty() {
                    self.stages.remove(key);
                    self.watched[usize::from(key.partition())] -= 1;
                }
            }
        }
    }
}

/// Folds one record of a watched partition.
fn note(
    shelves: &mut Map<Sku, Shelf>,
    stages: &mut Map<EntityKey, Stage>,
    dirty: &mut Vec<Sku>,
    frame: u64,
    record: &RawRecord<'_>,
    turns: &mut Vec<(EntityKey, Turn)>,
) {
    let Ok(entry) = record.entry_ref() else { return };
    match entry.entity {
        EntityRef::Sku(name) => {
            let Some(watch) = shelves.get_mut(name) else { return };
            watch.changed_frame = frame;
            if !watch.dirty
                && let Ok(sku) = Sku::new(name)
            {
                watch.dirty = true;
                dirty.push(sku);
            }
        }
        EntityRef::Cart(_) | EntityRef::Order(_) => {
            let key = entry.entity.to_key();
            let Some(stage) = stages.get_mut(&key) else { return };
            let recorded: Recorded = record.recorded();
            let turn = stage.fold(&entry.event, recorded);
            turns.push((key, turn));
        }
        EntityRef::Reservation(_) => {}
    }
}

/// Encodes what the catalogue says of a SKU now. Everything up to `frame` is in it: actors publish before they record.
fn refresh(engine: &Engine, sku: &Sku, watch: &mut Shelf, frame: u64) {
    let Some(snapshot) = engine.catalogue().get(sku.as_str()) else { return };
    let data = json(&from_engine::availability(&snapshot));
    watch.version = Some(snapshot.version);
    let plain = Told::new("availability", None, data.clone());
    let with_id = Told::new("availability", Some(format!("{frame:016x}")), data);
    watch.latest = Some((plain, with_id));
}
