//! Live streams: who watches a SKU, a cart or an order is told of every durable change, without asking anybody.
//!
//! Laws: (1) one thread follows the journal and tells all watchers; an actor is asked once when a watch begins, never again;
//! (2) what is told is durable and encoded once, whoever watches; (3) everything is bounded (law 11): streams, what waits for
//! one client, how long a client may not read, deliveries a second; (4) a cart's or order's watcher gets every change in order,
//! a SKU's the last of what changed within a tenth of a second; (5) while nobody watches, nothing is read. Start at
//! [`Live::open`]; the thread is [`hub`].

mod hub;
mod stage;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::web::Bytes;
use crossbeam_channel::{Receiver, Sender};
use doorbuster_actors::{Engine, Readiness, Watched};
use doorbuster_engine::answer::Refusal;
use doorbuster_engine::cart::Cart;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::order::Order;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::problem::Problem;

/// Why a stream ends, as clients and metrics are told.
pub(crate) const ENDINGS: [&str; 6] =
    ["slow_reader", "draining", "closed", "cart_deleted", "cart_expired", "lost"];

/// Bounds of live streams.
#[derive(Clone, Copy, Debug)]
pub struct LiveOptions {
    /// Streams at a time. Each costs a connection and some kilobytes.
    pub streams_max: usize,
    /// Silence after which a stream is sent a heartbeat, so that nobody between takes it for dead.
    pub heartbeat: Duration,
    /// Least time between two events of one SKU.
    pub tick: Duration,
    /// Events that wait for one client at most; a cart's or order's watcher with more is too slow.
    pub queue: usize,
    /// How long a SKU's watcher may not take what waits for it.
    pub stalled_max: Duration,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            streams_max: 10_000,
            heartbeat: Duration::from_secs(15),
            tick: Duration::from_millis(100),
            queue: 64,
            stalled_max: Duration::from_secs(10),
        }
    }
}

/// Orders that wait for the hub. Beyond it, opening a stream is refused.
const ORDERS_MAX: usize = 16_384;

/// How long opening a stream may take in the hub.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// One event, encoded once for all who get it.
#[derive(Debug)]
pub(crate) struct Told {
    /// Its name; empty for a heartbeat.
    pub(crate) name: &'static str,
    /// What to send as `Last-Event-ID` to go on after it.
    pub(crate) id: Option<String>,
    /// Its data, JSON.
    pub(crate) data: Bytes,
    /// All of it as a server-sent event.
    pub(crate) sse: Bytes,
}

impl Told {
    pub(crate) fn new(name: &'static str, id: Option<String>, data: Vec<u8>) -> Arc<Self> {
        let mut sse = Vec::with_capacity(data.len() + 64);
        if let Some(id) = &id {
            sse.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        sse.extend_from_slice(b"event: ");
        sse.extend_from_slice(name.as_bytes());
        // JSON as we write it has no line break.
        sse.extend_from_slice(b"\ndata: ");
        sse.extend_from_slice(&data);
        sse.extend_from_slice(b"\n\n");
        Arc::new(Self { name, id, data: data.into(), sse: sse.into() })
    }

    /// A comment: it tells nothing but that the stream lives.
    pub(crate) fn heartbeat() -> Arc<Self> {
        Arc::new(Self { name: "", id: None, data: Bytes::new(), sse: Bytes::from_static(b":\n\n") })
    }

    /// The last event of a stream.
    pub(crate) fn end(reason: &'static str) -> Arc<Self> {
        Self::new("end", None, format!("{{\"reason\":\"{reason}\"}}").into_bytes())
    }
}

/// Why a stream ends, for its last event.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    reason: Mutex<Option<&'static str>>,
    told: Notify,
}

impl Ending {
    pub(crate) fn tell(&self, reason: &'static str) {
        *self.reason.lock() = Some(reason);
        self.told.notify_waiters();
        self.told.notify_one();
    }

    /// Why it has ended.
    pub(crate) fn reason(&self) -> &'static str {
        self.reason.lock().unwrap_or("closed")
    }

    /// Waits until it has.
    pub(crate) async fn wait(&self) {
        while self.reason.lock().is_none() {
            self.told.notified().await;
        }
    }
}

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) enum Topics {
    /// SKUs, each once.
    Skus(Vec<Sku>),
    /// A cart or an order.
    One(EntityKey),
}

/// What a watcher of a cart or order begins with.
pub(crate) enum Seed {
    Cart(Watched<Cart>),
    Order(Watched<Order>),
}

/// What the hub is asked to do.
enum Wish {
    Open(Box<Opening>),
    Seed(EntityKey, Seed),
    Close(u64),
}

struct Opening {
    client: u64,
    topics: Topics,
    since: Option<u64>,
    sender: mpsc::Sender<Arc<Told>>,
    ending: Arc<Ending>,
    ready: oneshot::Sender<()>,
}

/// See the module's header.
pub(crate) struct Live {
    engine: Engine,
    options: LiveOptions,
    /// To the thread, once somebody watched.
    hub: OnceLock<Sender<Wish>>,
    open: Arc<AtomicUsize>,
    clients: AtomicUsize,
}

/// A stream that is open until it is dropped.
pub(crate) struct Subscription {
    pub(crate) receiver: mpsc::Receiver<Arc<Told>>,
    pub(crate) ending: Arc<Ending>,
    client: u64,
    hub: Sender<Wish>,
    open: Arc<AtomicUsize>,
}

impl Subscription {
    /// Gives the watchers of this cart or order what they begin with.
    pub(crate) fn seed(&self, key: EntityKey, seed: Seed) -> Result<(), Problem> {
        self.hub.try_send(Wish::Seed(key, seed)).map_err(|_| crowded())
    }
}

/// Whatever tells events until it ends: what a stream is made of.
pub(crate) trait Source: Unpin + 'static {
    /// Where events come from; closed at the end.
    fn receiver(&mut self) -> &mut mpsc::Receiver<Arc<Told>>;
    /// Why it ends.
    fn ending(&self) -> &Arc<Ending>;
    /// A number that differs from stream to stream.
    fn number(&self) -> u64;
}

impl Source for Subscription {
    fn receiver(&mut self) -> &mut mpsc::Receiver<Arc<Told>> {
        &mut self.receiver
    }

    fn ending(&self) -> &Arc<Ending> {
        &self.ending
    }

    fn number(&self) -> u64 {
        self.client
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        // Where the hub is too busy to hear it, it notices by itself that nobody listens.
        let _ = self.hub.try_send(Wish::Close(self.client));
    }
}

fn crowded() -> Problem {
    Refusal::Overloaded { retry_after_ms: 2_000 }.into()
}

impl Live {
    pub(crate) fn new(engine: Engine, options: LiveOptions) -> Self {
        Self { engine, options, hub: OnceLock::new(), open: Arc::default(), clients: AtomicUsize::new(0) }
    }

    /// Opens a stream; `since` is what its watcher has seen already. A cart's or order's watcher is told nothing before
    /// [`Subscription::seed`].
    pub(crate) async fn open(&self, topics: Topics, since: Option<u64>) -> Result<Subscription, Problem> {
        match self.engine.readiness() {
            Readiness::Ready => {}
            Readiness::Recovering => return Err(Refusal::Recovering { retry_after_ms: 1_000 }.into()),
            Readiness::Draining => return Err(Refusal::Draining.into()),
        }
        let hub = self.hub()?;
        let waiting_max = match &topics {
            // All of its SKUs may change at once.
            Topics::Skus(skus) => self.options.queue.max(skus.len() + 1),
            Topics::One(_) => self.options.queue,
        };
        let (sender, receiver) = mpsc::channel(waiting_max);
        let client = u64::try_from(self.clients.fetch_add(1, Ordering::Relaxed)).unwrap_or(u64::MAX);
        let ending = Arc::<Ending>::default();
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        // Counted from here on: whatever happens, its end is too.
        let subscription = Subscription {
            receiver,
            ending: Arc::clone(&ending),
            client,
            hub: hub.clone(),
            open: Arc::clone(&self.open),
        };
        if before >= self.options.streams_max {
            return Err(crowded());
        }
        let (ready, told) = oneshot::channel();
        let opening = Opening { client, topics, since, sender, ending, ready };
        hub.try_send(Wish::Open(Box::new(opening))).map_err(|_| crowded())?;
        match tokio::time::timeout(OPEN_MAX, told).await {
            Ok(Ok(())) => Ok(subscription),
            Ok(Err(_)) => Err(Refusal::Draining.into()),
            Err(_) => Err(crowded()),
        }
    }

    fn hub(&self) -> Result<&Sender<Wish>, Problem> {
        if let Some(hub) = self.hub.get() {
            return Ok(hub);
        }
        let (sender, wishes): (_, Receiver<Wish>) = crossbeam_channel::bounded(ORDERS_MAX);
        let hub = hub::Hub::new(self.engine.clone(), self.options, wishes);
        if self.hub.set(sender).is_ok() {
            let started = std::thread::Builder::new().name("live".to_owned()).spawn(move || hub.run());
            if let Err(error) = started {
                tracing::error!(%error, "no live streams: their thread cannot be started; look at `ulimit -u`");
            }
        }
        self.hub.get().ok_or_else(crowded)
    }
}
