//! The engine as the front door sees it: attach workers, make tickets, ask, drain.
//!
//! The calls by resource are in `door`. Cheap to clone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use doorbuster_engine::answer::{Refusal, ReservationRecord};
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{CartId, Fingerprint, RequestKey, RequestStamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::catalogue::{Card, Catalogue};
use crate::checkpointer::Order;
use crate::index::{Claim, KeyReused};
use crate::message::{Body, Client, Parcel, Place, Seen, Slot};
use crate::runtime::Shared;
use crate::start::DRAIN_MAX;
use crate::together::Share;
use crate::types::{Readiness, Ticket, Verdict};
use crate::worker::Worker;

thread_local! {
    /// The worker that this thread is, once it is one.
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// A running engine. See the module's header.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    running: Arc<Mutex<Running>>,
}

/// Threads that end with the engine.
pub(crate) struct Running {
    pub(crate) io: Option<tokio::runtime::Runtime>,
    pub(crate) checkpointer: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Wherever the last engine handle is dropped, also inside an async context: the runtime must not block there.
        if let Some(io) = self.io.take() {
            io.shutdown_background();
        }
    }
}

/// A command with its key claimed, on its way to an entity.
pub(crate) struct Asked {
    /// Whose actor.
    pub(crate) of: EntityKey,
    /// What to do.
    pub(crate) command: Command,
    /// The SKU's card, where admission counts by SKU.
    pub(crate) card: Option<Arc<Card>>,
    /// The key, held until the actor takes the request up.
    pub(crate) claim: Option<Claim>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("readiness", &self.readiness()).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(shared: Arc<Shared>, running: Running) -> Self {
        Self { shared, running: Arc::new(Mutex::new(running)) }
    }

    /// Makes this thread a worker: it will host its share of the actors. Call it once or more in every thread that serves
    /// connections, inside its actix runtime; further calls and threads beyond the configured number change nothing.
    pub fn attach_worker(&self) {
        WORKER.with_borrow_mut(|mine| {
            if mine.is_some() {
                return;
            }
            let mut seeds = self.shared.seeds.lock();
            let Some(index) = seeds.iter().position(Option::is_some) else { return };
            let Some((seed, inbox)) = seeds.get_mut(index).and_then(Option::take) else { return };
            let all_attached = seeds.iter().all(Option::is_none);
            drop(seeds);
            *mine = Some(Worker::start(index, Arc::clone(&self.shared), seed, inbox));
            if all_attached {
                // A drain that began meanwhile stays a drain.
                let _ = self.shared.readiness.compare_exchange(Readiness::Recovering, Readiness::Ready);
            }
        });
    }

    /// Where the engine stands.
    pub fn readiness(&self) -> Readiness {
        self.shared.readiness.load()
    }

    /// When the requests now in flight, and `beside` others that will come, are answered at the measured rate; in
    /// milliseconds, between 50 and 10,000.
    pub fn drain_time_ms(&self, beside: u64) -> u64 {
        self.shared.drain_time_ms(beside)
    }

    /// All SKUs as anybody may read them.
    pub fn catalogue(&self) -> &Catalogue {
        &self.shared.catalogue
    }

    /// Makes the ticket of a request: its key hashed with the secret and its caller, what it asks hashed too. Without a
    /// key it gets a random one, which is neither remembered nor journalled.
    pub fn ticket(
        &self,
        caller: &str,
        key: Option<&str>,
        method: &str,
        path: &str,
        body: &[u8],
        deadline: impl Into<Instant>,
    ) -> Ticket {
        let deadline = deadline.into();
        match key {
            Some(key) => {
                let stamp = RequestStamp {
                    key: self.shared.secrets.request_key(caller, key),
                    fingerprint: self.shared.secrets.fingerprint(method, path, body),
                };
                Ticket { stamp, keyed: true, deadline }
            }
            None => {
                let stamp = RequestStamp { key: RequestKey(self.random_bits()), fingerprint: Fingerprint(0) };
                Ticket { stamp, keyed: false, deadline }
            }
        }
    }

    /// The signed proof of a reservation as it was granted.
    pub fn receipt(&self, record: &ReservationRecord) -> String {
        self.shared.secrets.receipt(record)
    }

    /// The token that opens a cart: given once, when the cart is made.
    pub fn cart_token(&self, cart: CartId) -> String {
        self.shared.secrets.cart_token(cart)
    }

    /// Whether `token` opens `cart`; takes the same time either way.
    pub fn cart_token_matches(&self, cart: CartId, token: &str) -> bool {
        self.shared.secrets.cart_token_matches(cart, token)
    }

    /// From now on the engine calls itself draining, so that balancers turn away; it still takes what comes.
    pub fn begin_drain(&self) {
        self.shared.readiness.store(Readiness::Draining);
    }

    /// Refuses further changes with `draining`, waits until everything in flight is answered, writes a last checkpoint and closes the journal. Call it while the
    /// workers still run.
    pub async fn drain(&self) {
        self.begin_drain();
        self.shared.closed.store(true, Ordering::Release);
        let until = Instant::now() + DRAIN_MAX;
        while self.shared.in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (done, finished) = std::sync::mpsc::sync_channel(1);
        let _ = self.shared.checkpoints.send(Order::Round(done));
        while matches!(finished.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
            && Instant::now() < until
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the engine's own threads, after [`Engine::drain`] and after the workers have stopped.
    pub fn stop(&self) {
        let _ = self.shared.checkpoints.send(Order::Stop);
        let mut running = self.running.lock();
        if let Some(thread) = running.checkpointer.take() {
            let _ = thread.join();
        }
        if let Err(error) = self.shared.journal.shutdown() {
            tracing::error!(%error, "the journal did not close cleanly; the next start recovers it");
        }
        if let Some(io) = running.io.take() {
            io.shutdown_background();
        }
    }

    /// Sends a command and waits for its verdict, to its deadline at most.
    pub(crate) async fn ask(
        &self,
        to: EntityKey,
        command: Command,
        ticket: Ticket,
        card: Option<Arc<Card>>,
    ) -> Verdict {
        let claim = self.claim(&ticket)?;
        self.ask_claimed(Asked { of: to, command, card, claim }, ticket).await
    }

    /// Claims a ticket's key; a request without one has nothing to claim.
    pub(crate) fn claim(&self, ticket: &Ticket) -> Result<Option<Claim>, Refusal> {
        if !ticket.keyed {
            return Ok(None);
        }
        self.shared.index.claim(ticket.stamp).map(Some).map_err(|KeyReused| Refusal::KeyReused)
    }

    /// Sends a command whose key is claimed, and waits for its verdict, to its deadline at most.
    pub(crate) async fn ask_claimed(&self, asked: Asked, ticket: Ticket) -> Verdict {
        let place = Place::take(&self.shared, asked.card.clone())?;
        let (slot, verdict) = Slot::new(current_worker(), place);
        self.send_claimed(asked, ticket, slot);
        wait(verdict, ticket.deadline).await
    }

    /// The same for one of many that are heard of together, without waiting.
    pub(crate) fn ask_together(&self, asked: Asked, ticket: Ticket, share: Share) {
        match Place::take(&self.shared, asked.card.clone()) {
            Ok(place) => self.send_claimed(asked, ticket, Slot::of_many(current_worker(), place, share)),
            Err(refusal) => share.say(Err(refusal)),
        }
    }

    fn send_claimed(&self, asked: Asked, ticket: Ticket, slot: Slot) {
        let Asked { of, command, card: _, claim } = asked;
        self.send(Parcel::new(of, Body::Client(Client { command, ticket, slot, claim })));
    }

    /// Reads an entity's state on its worker; the result comes when what it shows is durable.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        to: EntityKey,
        read: impl FnOnce(Option<Seen<'_>>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = Place::take(&self.shared, None)?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let query = Box::new(move |seen: Option<Seen<'_>>| {
            let result = read(seen);
            let tell: Box<dyn FnOnce() + Send> = Box::new(move || {
                let _ = sender.send(result);
                drop(place);
            });
            tell
        });
        self.send(Parcel::new(to, Body::Query(query)));
        match tokio::time::timeout(READ_DEADLINE, receiver).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Refusal::Recovering { retry_after_ms: 1_000 }),
            Err(_) => Err(Refusal::DeadlineExceeded),
        }
    }

    /// Says a verdict that is known already, once the worker of `at` has everything on disk that it reflects.
    pub(crate) async fn fence(&self, at: EntityKey, verdict: Verdict) -> Verdict {
        let place = Place::take(&self.shared, None)?;
        let (slot, answer) = Slot::new(current_worker(), place);
        self.send(Parcel::new(at, Body::Fence(slot, verdict)));
        wait(answer, Instant::now() + READ_DEADLINE).await
    }

    /// 128 random bits for ids that nobody may guess.
    pub(crate) fn random_bits(&self) -> u128 {
        self.shared.host.random_bits()
    }

    /// Brings a parcel on its way from whatever thread this is.
    pub(crate) fn send(&self, parcel: Parcel) {
        WORKER.with_borrow(|mine| match mine {
            Some(worker) if Arc::ptr_eq(&worker.shared, &self.shared) => worker.send(parcel),
            Some(_) | None => self.shared.post(parcel),
        });
    }

    /// Refuses changes before the workers are there, and once the drain has begun in earnest.
    pub(crate) fn check_open(&self) -> Result<(), Refusal> {
        match self.readiness() {
            Readiness::Ready => Ok(()),
            Readiness::Recovering => Err(Refusal::Recovering { retry_after_ms: 1_000 }),
            Readiness::Draining if self.shared.closed.load(Ordering::Acquire) => Err(Refusal::Draining),
            Readiness::Draining => Ok(()),
        }
    }
}

/// How long a read may take.
const READ_DEADLINE: Duration = Duration::from_secs(10);

async fn wait(verdict: tokio::sync::oneshot::Receiver<Verdict>, deadline: Instant) -> Verdict {
    match tokio::time::timeout_at(deadline, verdict).await {
        Ok(Ok(verdict)) => verdict,
        // The actor panicked or was stopped with the request in hand: unknown, a retry with the same key settles it.
        Ok(Err(_)) => Err(Refusal::Recovering { retry_after_ms: 1_000 }),
        Err(_) => Err(Refusal::DeadlineExceeded),
    }
}

/// Runs `call` with this thread being `worker` (or none), as the thread of a connection would be.
pub(crate) fn as_worker<T>(worker: Option<&Rc<Worker>>, call: impl FnOnce() -> T) -> T {
    let before = WORKER.replace(worker.cloned());
    let result = call();
    WORKER.set(before);
    result
}

fn current_worker() -> Option<usize> {
    WORKER.with_borrow(|mine| mine.as_ref().map(|worker| worker.index))
}
