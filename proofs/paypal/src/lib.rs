//! A PayPal of our own for tests and demonstrations: the part of Orders v2 and Payments v2 that a shop needs to sell by
//! redirect, in memory, with ids from a seed, faults on request and a [`Ledger`].
//!
//! It knows access tokens, orders with intent `AUTHORIZE`, their approval, authorizations, captures, voids, refunds,
//! `PayPal-Request-Id`, transaction search, and webhooks with the call that verifies them.
//!
//! **What it can show.** That a merchant's software asks for what PayPal's documentation demands, survives lost replies, 429,
//! 500 that did the work and outages, and that what it believes agrees with the ledger.
//!
//! **What it cannot show.** That PayPal does the same: it is written from the public documentation, not from recorded
//! answers. Which state an order has between creation and approval, how long request ids are kept, what a repeat with another
//! body gets and when an invoice id counts as used are its reading. There are no shoppers' accounts, fees, disputes, payouts,
//! reauthorizations or honor periods; signatures are HMACs, not certificates; nothing runs out by itself; transactions
//! can be searched at once instead of hours later. It speaks plain HTTP on this machine.
//!
//! Start at [`PayPal::start`]; the rules of money stand in `account`, the front door in `api`.

mod account;
mod api;
mod faults;
mod server;
mod show;
mod webhooks;

use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use account::{Entry, Ledger, Step};
pub use faults::Faults;
use server::Shared;
pub use webhooks::Webhook;

/// The client id where none is chosen.
pub const CLIENT_ID: &str = "stand-in-client";

/// The client secret where none is chosen.
pub const CLIENT_SECRET: &str = "stand-in-secret";

/// The id of the one webhook.
pub const WEBHOOK_ID: &str = "STANDINWEBHOOK";

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 is a free one.
    pub listen: SocketAddr,
    /// Repeats ids and choices; `None` draws one.
    pub seed: Option<u64>,
    /// Who may ask for a token.
    pub client_id: String,
    /// Their secret.
    pub client_secret: String,
    /// How long an access token is said to last, in seconds. Only said: tokens end when they are revoked.
    pub token_lasts_s: u64,
    /// Where webhooks go; `None` keeps them for [`PayPal::webhooks`] alone.
    pub webhook_url: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: None,
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            token_lasts_s: 32_400,
            webhook_url: None,
        }
    }
}

/// A stand-in that lasts as long as this value.
#[derive(Debug)]
pub struct PayPal {
    shared: Arc<Shared>,
    address: SocketAddr,
    seed: u64,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl PayPal {
    /// A stand-in on a free port of this machine. Prints its seed.
    pub fn start() -> std::io::Result<Self> {
        Self::start_with(&Options::default())
    }

    /// A stand-in as wished. Prints its seed to standard error.
    pub fn start_with(options: &Options) -> std::io::Result<Self> {
        let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
        let listener = TcpListener::bind(options.listen)?;
        let address = listener.local_addr()?;
        eprintln!("PayPal's stand-in on http://{address}, seed {seed}");
        let shared = Arc::new(Shared::new(options, seed, format!("http://{address}")));
        let (stop, stopped) = oneshot::channel();
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("paypal-stand-in".to_owned())
            .spawn(move || server::serve(&own, listener, stopped))?;
        Ok(Self { shared, address, seed, stop: Some(stop), thread: Some(thread) })
    }

    /// The base of the API, `http://127.0.0.1:…`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What repeats this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The shopper approves an order. `Err` says why they cannot.
    pub fn approve(&self, order: &str) -> Result<(), String> {
        let approved = self.shared.state().account.approve(order);
        self.shared.news.notify_one();
        approved
    }

    /// The next request of this kind is refused with this issue (422), and does nothing.
    pub fn refuse_next(&self, step: Step, issue: &str) {
        self.shared.state().account.refusals.push((step, issue.to_owned()));
    }

    /// What the next request of this kind makes is in this state, `PENDING` or `DECLINED` for instance.
    pub fn next_becomes(&self, step: Step, status: &str) {
        self.shared.state().account.states.push((step, status.to_owned()));
    }

    /// Puts an authorization, capture or refund into another state, as PayPal does in its own time.
    ///
    /// # Panics
    /// If there is none of this id.
    pub fn becomes(&self, id: &str, status: &str) {
        assert!(self.shared.state().account.set_status(id, status), "no payment {id}");
    }

    /// PayPal drops an order, as it does where nobody approves one for three hours.
    ///
    /// # Panics
    /// If there is none of this id.
    pub fn drop_order(&self, id: &str) {
        assert!(self.shared.state().account.drop_order(id), "no order {id}");
    }

    /// Forgets all request ids, as PayPal does after six hours (orders) or 45 days (payments).
    pub fn forget_keys(&self) {
        self.shared.state().account.forget_keys();
    }

    /// Ends every access token before its time.
    pub fn revoke_tokens(&self) {
        self.shared.state().tokens.clear();
    }

    /// What goes wrong from now on, in place of what did.
    ///
    /// # Panics
    /// If a rate is not between 0 and 1.
    pub fn set_faults(&self, faults: Faults) {
        if let Err(said) = self.shared.state().weather.set(faults) {
            panic!("{said}");
        }
    }

    /// The books, in one moment.
    pub fn ledger(&self) -> Ledger {
        self.shared.state().account.ledger()
    }

    /// Every webhook so far, oldest first.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.shared.state().account.webhooks.clone()
    }

    /// An event as PayPal would send it, signed, whatever it says: for what no request here causes.
    pub fn sign(&self, body: &str) -> Webhook {
        webhooks::sign("WH-BY-HAND", body)
    }

    /// How often a path was asked, by its beginning.
    pub fn asked(&self, path: &str) -> usize {
        self.shared.state().asked.iter().filter(|asked| asked.starts_with(path)).count()
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

impl Drop for PayPal {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server was printed where it happened.
            let _ = thread.join();
        }
    }
}
