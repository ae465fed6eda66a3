//! A Stripe of our own for tests: the part of its API that a shop needs to sell, with state, time and faults.
//!
//! It speaks the wire format that `async-stripe` 1.0.0-rc.10 parses: payment intents with manual capture and 3-D Secure,
//! charges, refunds, lists, search, events, webhooks with real signatures, and idempotency keys as Stripe documents them.
//! Ids and choices come from a seed; time stands until a test moves it, where wished.
//!
//! **What it can show.** That a merchant's software sends what Stripe's documentation demands, survives what it
//! threatens (lost replies, 429, 500 that did the work, late, doubled and shuffled webhooks, an outage), and that its
//! books agree with the [`Ledger`] to the penny.
//!
//! **What it cannot show.** That Stripe itself does the same. It is written from Stripe's public documentation and the
//! generated types, not from recorded answers: wording of messages, retry times of webhooks, and which refusals a key
//! keeps are its reading. A refusal for a parameter or an id that cannot be frees the key; everything behind keeps it.
//! There are no customers, disputes, fees, payouts, multiple captures or connected accounts;
//! what it does not know it refuses as an unknown parameter rather than overlook it. It listens on this machine, over
//! plain HTTP: TLS is not exercised. Everything is kept in memory.
//!
//! Start at [`Stripe::start`]; the routes stand in `api`, the rules of money in `account`.
// A refusal is made once a request, and nobody's time is measured here.
#![allow(clippy::result_large_err)]

mod account;
mod api;
mod cards;
mod chance;
mod clock;
mod control;
mod failure;
mod faults;
mod form;
mod keys;
mod server;
mod shared;
mod webhooks;

use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;

pub use account::{Ledger, LedgerCharge, LedgerRefund, Totals};
pub use faults::{Faults, Outage};
pub use shared::Figures;
use shared::Shared;
pub use webhooks::{Delivery, Endpoint, signature};

/// The secret key where none is chosen.
pub const TEST_KEY: &str = "sk_test_stand_in";

/// How time passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// It stands, from 2026-01-01T00:00:00Z, until it is advanced.
    #[default]
    Standing,
    /// As the machine's clock does, and further when it is advanced. Whoever checks the time in a signature needs this.
    Running,
}

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API listens; port 0 is a free one.
    pub listen: SocketAddr,
    /// Where the control door listens; port 0 is a free one.
    pub control: SocketAddr,
    /// Repeats ids and choices; `None` draws one. [`Stripe::seed`] tells it.
    pub seed: Option<u64>,
    /// The secret key that requests have to bear; `sk_live_…` makes everything live.
    pub key: String,
    /// How time passes.
    pub time: Time,
    /// Webhooks delivered at once: at 1 they come in order, except where faults want otherwise; at least 1.
    pub webhooks_at_once: usize,
}

impl Default for Options {
    fn default() -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: free,
            control: free,
            seed: None,
            key: TEST_KEY.to_owned(),
            time: Time::Standing,
            webhooks_at_once: 1,
        }
    }
}

/// A stand-in that lasts as long as this value.
#[derive(Debug)]
pub struct Stripe {
    shared: Arc<Shared>,
    /// Keeps the port while an outage closes its door.
    _reserved: Socket,
    address: SocketAddr,
    control: SocketAddr,
    seed: u64,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Stripe {
    /// A stand-in on a free port of this machine, whose time stands. Prints its seed.
    pub fn start() -> std::io::Result<Self> {
        Self::start_with(&Options::default())
    }

    /// A stand-in as wished. Prints its seed to standard error.
    pub fn start_with(options: &Options) -> std::io::Result<Self> {
        let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        let (reserved, front) = reserve(options.listen)?;
        let control_door = TcpListener::bind(options.control)?;
        let (address, control) = (front.local_addr()?, control_door.local_addr()?);
        eprintln!("Stripe's stand-in on http://{address}, control on http://{control}, seed {seed}");
        let shared = Arc::new(Shared::new(options, seed));
        shared.state().account.base_url = format!("http://{address}");
        let (stop, stopped) = oneshot::channel();
        let own = Arc::clone(&shared);
        let at_once = options.webhooks_at_once.max(1);
        let thread = std::thread::Builder::new()
            .name("stripe-stand-in".to_owned())
            .spawn(move || server::serve(&own, front, control_door, at_once, stopped))?;
        Ok(Self {
            shared,
            _reserved: reserved,
            address,
            control,
            seed,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The base of the API, `http://127.0.0.1:…`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base of the control door, which stays open in an outage.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What repeats this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The secret key.
    pub fn key(&self) -> &str {
        &self.shared.key
    }

    /// The stand-in's time, milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    /// Moves time forward: what falls due by then happens, retries of webhooks included. Tells the new time.
    pub fn advance(&self, by_ms: u64) -> u64 {
        self.shared.advance(by_ms)
    }

    /// What goes wrong from now on, in place of what did; what is unsaid is well again.
    ///
    /// # Panics
    /// If a rate is not between 0 and 1.
    pub fn set_faults(&self, faults: Faults) {
        if let Err(said) = self.shared.set_faults(faults) {
            panic!("{said}");
        }
    }

    /// Sends webhooks there; `None` sends none. Events from before are not sent.
    pub fn set_endpoint(&self, endpoint: Option<Endpoint>) {
        self.shared.set_endpoint(endpoint);
    }

    /// The customer of the intent that `requires_action` passes 3-D Secure, or fails. Answers the intent, or Stripe's
    /// error where it does not wait for that.
    pub fn authenticate(&self, intent: &str, success: bool) -> Result<Value, Value> {
        self.shared.decide(intent, success, true).map_err(|failure| failure.body())
    }

    /// The intent that is `processing` ends, well or not. Answers as [`Self::authenticate`] does.
    pub fn settle(&self, intent: &str, success: bool) -> Result<Value, Value> {
        self.shared.decide(intent, success, false).map_err(|failure| failure.body())
    }

    /// The books, in one moment.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger()
    }

    /// Counts of what was asked and answered.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// The last 10,000 attempts to deliver a webhook, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.state().webhooks.made.iter().cloned().collect()
    }

    /// Serves until the process ends.
    pub fn wait(mut self) -> std::io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(served)) => served,
            Some(Err(_)) => Err(std::io::Error::other("the stand-in's thread panicked")),
            None => Ok(()),
        }
    }
}

/// A listener, and a socket that never listens on the same port: without it, another program, or a client's own end,
/// could be given the port while an outage has closed the door.
fn reserve(address: SocketAddr) -> std::io::Result<(Socket, TcpListener)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, TcpListener::bind(bound)?))
}

impl Drop for Stripe {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server was printed where it happened.
            let _ = thread.join();
        }
    }
}
