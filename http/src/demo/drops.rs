//! The drop: a SKU that is announced without a unit, and gets its units when its time has come.
//!
//! Each drop is a SKU of its own, so its books begin at nothing. The engine itself keeps the doors closed: before the opening
//! there is nothing to promise.

use std::time::{Duration, Instant};

use doorbuster_actors::{Engine, Readiness};
use doorbuster_engine::answer::Refusal;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell};
use serde::Serialize;

use super::{Books, Demo, not_now};
use crate::problem::{Code, Problem};

/// Units of a drop, where nobody says how many.
pub(super) const UNITS: i64 = 200;

/// Most units of a drop.
pub(super) const UNITS_MAX: i64 = 10_000;

/// Seconds until a drop opens, where nobody says how many.
pub(super) const OPENS_IN_S: u64 = 10;

/// Most seconds until a drop opens.
pub(super) const OPENS_IN_S_MAX: u64 = 60;

/// The SKU of which there is one unit, whenever two want it.
pub(super) const LAST_ONE: &str = "LAST-ONE";

/// What the SKUs of drops begin with; five digits follow, so that the last in their order is the latest.
const PREFIX: &str = "DROP-";

/// Highest number of a drop.
const NUMBER_MAX: u32 = 99_999;

/// How long a drop's units are held for a shopper: long enough to look around, short enough to watch.
const HOLD_MS: u64 = 120_000;

/// How many SKUs are looked at in one go.
const PAGE: usize = 100;

/// Price of what everybody wants, in pence.
const PRICE: i64 = 17_900;

/// A drop.
#[derive(Clone, Debug)]
pub(super) struct Drop {
    number: u32,
    pub(super) sku: Sku,
    units: i64,
    opens_at: Instant,
}

/// A drop as the page sees it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DropReport {
    /// Its number, from 1.
    number: u32,
    /// Its SKU.
    pub(super) sku: String,
    /// Units it opens with, or opened with.
    units: i64,
    /// Milliseconds until it opens; 0: it has opened, or does this moment.
    opens_in_ms: u64,
    /// Whether its units are there.
    pub(super) open: bool,
    /// Its stock.
    books: Books,
}

impl Drop {
    fn new(number: u32, units: i64, opens_at: Instant) -> Result<Self, Problem> {
        let sku = Sku::new(&format!("{PREFIX}{number:05}"));
        let sku =
            sku.map_err(|error| Problem::new(Code::Internal, format!("a drop has no name: {error}")))?;
        Ok(Self { number, sku, units, opens_at })
    }

    /// Brings the units. A repeat changes nothing.
    async fn open(&self, engine: &Engine) -> Result<(), Refusal> {
        let name = self.sku.as_str();
        let ticket = Demo::ticket(engine, &format!("demo:open:{name}"), name);
        let reason = "the drop opens".to_owned();
        engine.adjust(ticket, self.sku.clone(), self.units, reason, None).await.map(|_| ())
    }

    async fn report(&self, engine: &Engine) -> Result<DropReport, Problem> {
        let stock = engine.stock(self.sku.clone()).await?;
        let wait = self.opens_at.saturating_duration_since(Instant::now());
        Ok(DropReport {
            number: self.number,
            sku: self.sku.as_str().to_owned(),
            units: if stock.received > 0 { stock.received } else { self.units },
            opens_in_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            open: stock.received > 0,
            books: Books::of(&stock),
        })
    }
}

impl Demo {
    /// The latest drop, where there is one.
    pub(super) async fn present_drop(&self) -> Result<Option<DropReport>, Problem> {
        let mut place = self.drop.lock().await;
        let (drop, found) = match &*place {
            Some(drop) => (drop.clone(), false),
            None => match self.latest()? {
                None => return Ok(None),
                Some(drop) => (drop, true),
            },
        };
        let report = drop.report(&self.engine).await?;
        if found && !report.open {
            // Its process ended before it opened. Its time has come by now.
            drop.open(&self.engine).await?;
        }
        *place = Some(drop.clone());
        Ok(Some(drop.report(&self.engine).await?))
    }

    /// Announces a new drop, which opens by itself.
    pub(super) async fn announce(&self, units: i64, wait: Duration) -> Result<DropReport, Problem> {
        let mut place = self.drop.lock().await;
        let before = match &*place {
            Some(drop) => Some(drop.clone()),
            None => self.latest()?,
        };
        if let Some(before) = &before
            && before.opens_at > Instant::now()
        {
            return Err(not_now("announced", "make a drop", "the present drop has not opened yet"));
        }
        let number = before.map_or(1, |before| before.number + 1);
        if number > NUMBER_MAX {
            return Err(not_now("full", "make a drop", "begin anew with another data directory"));
        }
        let drop = Drop::new(number, units, Instant::now() + wait)?;
        let definition = Definition {
            name: "Runner, limited edition".into(),
            price: Money::new(PRICE, Currency::GBP),
            oversell: Oversell::Deny,
            reservation_ttl_ms: Some(HOLD_MS),
            low_stock_at: Some(units / 5),
        };
        let name = drop.sku.as_str();
        let ticket = Self::ticket(&self.engine, &format!("demo:drop:{name}"), name);
        self.engine.define_sku(ticket, drop.sku.clone(), definition, Some(0)).await?;
        *place = Some(drop.clone());
        let (opening, engine) = (drop.clone(), self.engine.clone());
        actix_rt::spawn(async move {
            actix_rt::time::sleep(opening.opens_at.saturating_duration_since(Instant::now())).await;
            while engine.readiness() == Readiness::Ready {
                match opening.open(&engine).await {
                    Ok(()) => break,
                    Err(refusal) => tracing::warn!(?refusal, "the drop cannot open yet"),
                }
                actix_rt::time::sleep(Duration::from_secs(1)).await;
            }
        });
        drop.report(&self.engine).await
    }

    /// Makes sure that exactly one unit of [`LAST_ONE`] is free, and says how many are.
    pub(super) async fn one_unit_left(&self) -> Result<i64, Problem> {
        // One at a time: two who each bring one would make two.
        let _place = self.drop.lock().await;
        let sku = Sku::new(LAST_ONE)
            .map_err(|error| Problem::new(Code::Internal, format!("the last unit has no name: {error}")))?;
        let ticket =
            || self.engine.ticket("demo", None, "POST", LAST_ONE, b"", Instant::now() + super::STEP_MAX);
        if self.engine.catalogue().get(LAST_ONE).is_none() {
            let definition = Definition {
                name: "Desk lamp, the last one".into(),
                price: Money::new(8_900, Currency::GBP),
                oversell: Oversell::Deny,
                reservation_ttl_ms: Some(HOLD_MS),
                low_stock_at: Some(1),
            };
            self.engine.define_sku(ticket(), sku.clone(), definition, Some(1)).await?;
        }
        let free = self.engine.stock(sku.clone()).await?.available;
        if free != 1 {
            self.engine.adjust(ticket(), sku.clone(), 1 - free, "a duel".to_owned(), None).await?;
        }
        Ok(self.engine.stock(sku).await?.available)
    }

    /// The latest drop in the catalogue, made by this process or one before it. It opened long ago.
    fn latest(&self) -> Result<Option<Drop>, Problem> {
        let mut after = PREFIX.to_owned();
        let mut latest = None;
        loop {
            let page = self.engine.catalogue().page(Some(&after), PAGE, None);
            for snapshot in &page.data {
                let name = snapshot.sku.as_str();
                let Some(digits) = name.strip_prefix(PREFIX) else { break };
                if digits.len() == 5
                    && let Ok(number) = digits.parse()
                {
                    latest = Some(number);
                }
            }
            match page.data.last() {
                Some(last) if page.next_cursor.is_some() && last.sku.as_str().starts_with(PREFIX) => {
                    last.sku.as_str().clone_into(&mut after);
                }
                Some(_) | None => break,
            }
        }
        latest.map(|number| Drop::new(number, UNITS, Instant::now())).transpose()
    }
}
