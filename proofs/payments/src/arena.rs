//! What both proofs have: a stand-in for Stripe in this process, the engine beside it, and the end that both come to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use doorbuster_servers::process;
use doorbuster_stripe::{Endpoint, Options, Stripe, Time};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Common;
use crate::audit::{self, Books, Sums, Violations};
use crate::books;
use crate::chance::Chance;
use crate::client::{Client, Met, Request};
use crate::engine::{self, Engine, Settings, WEBHOOK_SECRET};
use crate::plan::{Article, articles};
use crate::shopper::{self, Record};

/// Kinds of events that a shop asks Stripe for.
const KINDS: [&str; 6] = [
    "payment_intent.amount_capturable_updated",
    "payment_intent.canceled",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.succeeded",
    "charge.refunded",
];

/// Orders younger than this are left out of a reconciliation: they may be under way.
const COMPARED_AFTER: Duration = Duration::from_secs(62);

/// Both sides, running.
pub(crate) struct Arena {
    pub(crate) seed: u64,
    pub(crate) chance: Chance,
    pub(crate) stripe: Stripe,
    pub(crate) engine: Engine,
    pub(crate) articles: Vec<Article>,
    pub(crate) met: Met,
    pub(crate) begun: Instant,
    /// Begins every key: no two runs share one.
    pub(crate) run: String,
    directory: TempDir,
    keep: bool,
}

/// What the end came to.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) sums: Sums,
    pub(crate) reconciliation: Value,
    pub(crate) settled_in: Duration,
    /// Requests repeated at the very end.
    pub(crate) repeated: u64,
    /// Errors that the engine logged, by their words.
    pub(crate) errors: Vec<String>,
}

impl Arena {
    /// Starts both, and puts something on the shelves.
    pub(crate) fn open(common: &Common, settings: Settings, shoppers: u64) -> anyhow::Result<Self> {
        process::catch_signals()?;
        let seed = common.seed.unwrap_or_else(draw_seed);
        eprintln!("seed {seed}");
        let chance = Chance::new(seed);
        let stripe = Stripe::start_with(&Options {
            seed: Some(seed),
            time: Time::Running,
            // A busy machine must not leave thousands of webhooks waiting for one another.
            webhooks_at_once: 32,
            ..Options::default()
        })?;
        // Where the proof ends early, what it saw is wanted most: only a sound end takes it away.
        let directory =
            tempfile::Builder::new().prefix("doorbuster-payments.").disable_cleanup(true).tempdir()?;
        eprintln!("data directory and log of the engine in {}", directory.path().display());
        let port = engine::free_port()?;
        let engine = Engine::start(common.doorbuster.as_deref(), directory.path(), port, &stripe, settings)?;
        stripe.set_endpoint(Some(Endpoint {
            url: format!("http://{}/v1/webhooks/stripe", engine.address),
            secrets: vec![WEBHOOK_SECRET.to_owned()],
            kinds: KINDS.map(str::to_owned).to_vec(),
        }));
        let articles = articles(shoppers);
        let arena = Self {
            seed,
            chance,
            stripe,
            engine,
            articles,
            met: Met::default(),
            begun: Instant::now(),
            run: format!("run-{seed}"),
            directory,
            keep: common.keep,
        };
        arena.stock()?;
        Ok(arena)
    }

    fn stock(&self) -> anyhow::Result<()> {
        let mut client = self.client();
        for article in &self.articles {
            let price = json!({"amount": article.price, "currency": "GBP"});
            let body = json!({"name": article.sku, "price": price, "on_hand": article.opening});
            let path = format!("/v1/admin/skus/{}", article.sku);
            let request =
                Request { method: "PUT", ..Request::post(path, format!("sku-{}", article.sku), &body) };
            let answer = client.ask(&request)?;
            ensure!(answer.status == 201, "making a SKU was answered {}: {}", answer.status, answer.body);
        }
        Ok(())
    }

    pub(crate) fn client(&self) -> Client<'_> {
        Client::new(self.engine.address, &self.met)
    }

    /// Waits until no order is open, no money is held and neither side asks the other anything; for `patience` at most, since
    /// the audit tells what is left.
    fn settle(&self, patience: Duration) -> anyhow::Result<()> {
        let bar = spinner("settling");
        let began = Instant::now();
        let mut client = self.client();
        let mut quiet_since: Option<(u64, Instant)> = None;
        while began.elapsed() < patience {
            ensure!(!process::interrupted(), "interrupted");
            self.engine.check_alive()?;
            let figures = self.stripe.figures();
            let held = self.stripe.ledger().totals.values().map(|totals| totals.authorized).sum::<i64>();
            let open = books::orders(&mut client, Some("pending_payment"))?.len();
            bar.set_message(format!(
                "settling: {open} orders open, {held} held, {} webhooks due",
                figures.webhooks_outstanding
            ));
            let still = open > 0 || held > 0 || figures.webhooks_outstanding > 0 || figures.under_way > 0;
            match quiet_since {
                Some((requests, since)) if !still && requests == figures.requests => {
                    if since.elapsed() > Duration::from_secs(2) {
                        break;
                    }
                }
                _ => quiet_since = (!still).then(|| (figures.requests, Instant::now())),
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Settles, audits, reconciles, stops and verifies.
    pub(crate) fn end(
        self,
        records: &[Record],
        patience: Duration,
        quick: bool,
        violations: &mut Violations,
    ) -> anyhow::Result<(Ending, Self)> {
        let last_change = Instant::now();
        self.settle(patience)?;
        let settled_in = last_change.elapsed();
        let mut client = self.client();
        let mut repeated = 0;
        for (request, status, bytes) in records.iter().flat_map(|record| &record.later) {
            let again = client.ask(request)?;
            repeated += 1;
            if (again.status, &again.bytes) != (*status, bytes) {
                violations.add(
                    audit::CHANGED,
                    format!("at the end: {}", shopper::difference(request, *status, bytes, &again)),
                );
            }
        }
        let orders = books::orders(&mut client, None)?;
        let stocks = books::stocks(&mut client, &self.articles)?;
        let ledger = self.stripe.ledger();
        let sums = audit::audit(
            &Books { orders: &orders, stocks: &stocks, ledger: &ledger, articles: &self.articles, records },
            violations,
        );
        if !quick {
            let bar = spinner("waiting until the last order is old enough to be compared");
            while last_change.elapsed() < COMPARED_AFTER + settled_in {
                ensure!(!process::interrupted(), "interrupted");
                std::thread::sleep(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        }
        let since = orders.iter().map(|order| order.created_at.as_str()).min().unwrap_or_default();
        let reconciliation = self.reconcile(since, quick, orders.len(), violations)?;
        if let Err(said) = self.engine.stop_and_verify()? {
            violations.add(audit::VERIFIED, said);
        }
        let errors = self.engine.errors()?;
        Ok((Ending { sums, reconciliation, settled_in, repeated, errors }, self))
    }

    fn reconcile(
        &self,
        since: &str,
        quick: bool,
        orders: usize,
        violations: &mut Violations,
    ) -> anyhow::Result<Value> {
        let body = json!({"provider": "stripe", "since": since});
        let mut request = Request::post("/v1/admin/payments/reconcile", "", &body);
        request.key = None;
        let answer = Client::patient(self.engine.address, &self.met).ask(&request)?;
        if answer.status != 200 {
            violations.add(audit::RECONCILED, format!("{}: {}", answer.status, answer.body));
            return Ok(answer.body);
        }
        for finding in answer.body["findings"].as_array().into_iter().flatten() {
            violations.add(audit::RECONCILED, finding.to_string());
        }
        let compared = answer.body["orders"].as_u64().unwrap_or(0);
        if answer.body["complete"] != true || (!quick && compared < orders as u64) {
            violations.add(
                audit::UNPROVED,
                format!(
                    "the reconciliation compared {compared} of {orders} orders, complete: {}",
                    answer.body["complete"]
                ),
            );
        }
        Ok(answer.body)
    }

    /// Takes the data directory away, unless it is wanted or something was wrong.
    pub(crate) fn close(mut self, is_shown: bool) {
        self.directory.disable_cleanup(self.keep || !is_shown);
    }
}

fn draw_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    // Short enough to be typed.
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}

/// A bar over `length` things.
pub(crate) fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed_precise}");
    let bar = ProgressBar::new(length).with_message(what.to_owned());
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

/// Something that takes as long as it takes.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What each of so many threads takes next, up to `length`.
#[derive(Debug)]
pub(crate) struct Tickets {
    next: AtomicU64,
    pub(crate) length: u64,
}

impl Tickets {
    pub(crate) fn new(length: u64) -> Self {
        Self { next: AtomicU64::new(0), length }
    }

    pub(crate) fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.length).then_some(number)
    }

    /// Nobody takes another.
    pub(crate) fn close(&self) {
        self.next.store(self.length, Ordering::Relaxed);
    }
}
