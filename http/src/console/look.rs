//! One look: asks for what must be asked, counts what has changed, checks what can be checked.

use std::collections::{HashMap, VecDeque};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbuster_actors::{ActorSort, Engine, Readiness};
use doorbuster_engine::identity::Sku;
use doorbuster_engine::money::Currency;
use doorbuster_engine::stock::StockView;
use futures_util::future::join_all;

use super::page::{Page, quantile_us, whole};
use super::story::{Counts, Story};
use super::traffic::{CALLS, Counted, Times, Traffic, is_shed};
use super::watch::INTERVAL;
use super::{Facts, WATCHERS_MAX};
use crate::problem::Code;
use crate::wire::live::{
    LiveActorName, LiveActors, LiveCall, LiveCheck, LiveEngine, LiveFollower, LiveJournal, LiveLaws,
    LiveRefusal, LiveSale, LiveSku, LiveSkus, LiveSnapshot, LiveTraffic, Rate,
};
use crate::wire::{CurrencyCode, Money, from_engine, time};
use doorbuster_persistence::frame::FrameNumber;

/// Looks over which rates and latencies are taken.
const WINDOW_LOOKS: usize = 10;

/// SKUs and actors that are shown.
const SKUS_MAX: usize = 12;
const ACTORS_MAX: usize = 10;

/// How long a look may read the journal, and wait for actors.
const READING_MAX: Duration = Duration::from_millis(400);
const ASKING_MAX: Duration = Duration::from_millis(400);

/// What one look counted, for comparison with later ones.
struct Sample {
    at: Instant,
    story: Counts,
    counted: Counted,
    orders: u64,
    journal: (u64, u64, u64),
    sync: Vec<(f64, u64)>,
    sellable: HashMap<String, i64>,
    shed: u64,
    panics: u64,
    jumps: u64,
}

/// A watch that goes on. See the module's header.
pub(super) struct Looking {
    runtime: tokio::runtime::Runtime,
    facts: Facts,
    traffic: Arc<Traffic>,
    story: Story,
    samples: VecDeque<Sample>,
    number: u64,
    skus: LiveSkus,
    actors: LiveActors,
    /// The first breach of law 1 that was seen, and how many SKUs were looked at in the last look.
    breach: Option<String>,
    checked: u64,
    down: Vec<&'static str>,
}

/// Two figures as a rate.
struct Paces<'a> {
    first: &'a Sample,
    before: &'a Sample,
    last: &'a Sample,
}

#[expect(clippy::cast_precision_loss, reason = "counts of ten seconds are far below 2^52")]
fn per_second(count: u64, time: Duration) -> f64 {
    let exact = count as f64 / time.as_secs_f64().max(0.001);
    (exact * 100.0).round() / 100.0
}

impl Paces<'_> {
    fn window(&self) -> Duration {
        self.last.at.duration_since(self.first.at)
    }

    fn rate(&self, figure: impl Fn(&Sample) -> u64) -> Rate {
        let (first, before, last) = (figure(self.first), figure(self.before), figure(self.last));
        Rate {
            now: per_second(last.saturating_sub(before), self.last.at.duration_since(self.before.at)),
            mean: per_second(last.saturating_sub(first), self.window()),
        }
    }

    /// How much a figure rose since the last look.
    fn rise(&self, figure: impl Fn(&Sample) -> u64) -> u64 {
        figure(self.last).saturating_sub(figure(self.before))
    }
}

/// Law 1 for one SKU: what is wrong, if something is.
fn breach(stock: &StockView) -> Option<String> {
    let StockView { sku, received, on_hand, reserved, available, sellable, sold, .. } = stock;
    let wrong = if *received != on_hand.saturating_add(*sold) {
        format!("received {received} is not on hand {on_hand} + sold {sold}")
    } else if *available != on_hand.saturating_sub(*reserved) {
        format!("available {available} is not on hand {on_hand} - reserved {reserved}")
    } else if *sellable < 0 {
        format!("sellable is {sellable}: more is promised than may be")
    } else if *reserved < 0 || *sold < 0 {
        format!("reserved {reserved} and sold {sold} may not be negative")
    } else {
        return None;
    };
    Some(format!("{sku}: {wrong}"))
}

/// When a SKU is sold out at the pace of the window, in seconds.
fn sold_out_in_s(before: i64, now: i64, window: Duration) -> Option<u64> {
    let gone = u64::try_from(before.saturating_sub(now)).ok().filter(|gone| *gone > 0)?;
    let left = u64::try_from(now).ok().filter(|left| *left > 0)?;
    let window_ms = u64::try_from(window.as_millis()).ok()?;
    Some(left.saturating_mul(window_ms).div_ceil(gone.saturating_mul(1_000)))
}

impl Looking {
    /// Begins a watch; figures come with the first look after it.
    pub(super) fn begin(engine: &Engine, facts: Facts, traffic: &Arc<Traffic>) -> std::io::Result<Self> {
        traffic.watch(true);
        let mut looking = Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            facts,
            traffic: Arc::clone(traffic),
            story: Story::new(engine.follow(FrameNumber::FIRST)),
            samples: VecDeque::new(),
            number: 0,
            skus: LiveSkus::default(),
            actors: LiveActors::default(),
            breach: None,
            checked: 0,
            down: Vec::new(),
        };
        let text = page_text();
        let sample = looking.sample(&Page::new(&text), HashMap::new());
        looking.samples.push_back(sample);
        Ok(looking)
    }

    fn sample(&mut self, page: &Page<'_>, sellable: HashMap<String, i64>) -> Sample {
        let total = |name| whole(page.sum(name).unwrap_or(0.0));
        Sample {
            at: Instant::now(),
            story: self.story.told().counts,
            counted: self.traffic.counted(),
            orders: total("doorbuster_orders_placed_total"),
            journal: (
                total("doorbuster_journal_events_total"),
                total("doorbuster_journal_bytes_total"),
                page.observations("doorbuster_journal_batch_events"),
            ),
            sync: page.buckets("doorbuster_journal_append_seconds", "phase=\"sync\""),
            sellable,
            shed: total("doorbuster_shed_total"),
            panics: whole(page.sum_where("doorbuster_actor_lifecycle_total", "event=\"panic\"")),
            jumps: total("doorbuster_clock_jumps_total"),
        }
    }

    /// Looks once.
    pub(super) fn look(&mut self, engine: &Engine, watchers: usize) -> LiveSnapshot {
        let now = engine.now();
        self.story.read(now, READING_MAX);
        self.ask(engine);
        let text = page_text();
        let page = Page::new(&text);
        let sellable = self.skus.data.iter().map(|sku| (sku.sku.clone(), sku.sellable)).collect();
        let sample = self.sample(&page, sellable);
        self.samples.push_back(sample);
        while self.samples.len() > WINDOW_LOOKS + 1 {
            self.samples.pop_front();
        }
        self.tell_changes(engine, now);
        self.number += 1;
        // There are two samples at least: the one of the beginning, and this one.
        let count = self.samples.len();
        let paces = Paces {
            first: &self.samples[0],
            before: &self.samples[count.saturating_sub(2)],
            last: &self.samples[count - 1],
        };
        let window = paces.window();
        for sku in &mut self.skus.data {
            let before = paces.first.sellable.get(&sku.sku).copied();
            sku.sold_out_in_s = before.and_then(|before| sold_out_in_s(before, sku.sellable, window));
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let told = {
            let skipped = self.story.frames_skipped;
            let told = self.story.told();
            (told.news(), told.wrong.clone(), told.records, skipped)
        };
        let (events, wrong, records, frames_skipped) = told;
        LiveSnapshot {
            at: time::text(now),
            number: self.number,
            interval_ms: ms(INTERVAL),
            window_ms: ms(window),
            engine: LiveEngine {
                version: env!("CARGO_PKG_VERSION"),
                durability: self.facts.durability,
                readiness: match engine.readiness() {
                    Readiness::Recovering => "recovering",
                    Readiness::Ready => "ready",
                    Readiness::Draining => "draining",
                },
                started_at: time::text(self.facts.started_at),
                skus: engine.catalogue().len(),
                watchers: watchers.min(WATCHERS_MAX),
            },
            sale: sale(&paces, &page),
            traffic: traffic(&paces, &page),
            skus: self.skus.clone(),
            actors: self.actors.clone(),
            journal: journal(&paces, &page, frames_skipped),
            followers: followers(&page),
            payments: engine.providers().iter().map(from_engine::provider).collect(),
            laws: laws(self.breach.as_ref(), self.checked, wrong, records),
            events,
        }
    }

    /// Asks actors, for a moment: who does not answer in it is shown as it was.
    fn ask(&mut self, engine: &Engine) {
        let mut hot = self.story.told().hottest(SKUS_MAX);
        // What was shown stays, so that rows do not come and go; then whatever comes first in the catalogue.
        let shown = self.skus.data.iter().map(|row| row.sku.clone());
        let listed =
            engine.catalogue().page(None, SKUS_MAX, None).data.into_iter().map(|row| row.sku.to_string());
        for sku in shown.chain(listed).collect::<Vec<_>>() {
            if hot.len() < SKUS_MAX && !hot.iter().any(|(known, _)| *known == sku) {
                hot.push((sku, 0.0));
            }
        }
        let named: Vec<(Sku, f64)> =
            hot.into_iter().filter_map(|(sku, pace)| Some((Sku::new(&sku).ok()?, pace))).collect();
        let asked = self.runtime.block_on(async {
            let stocks = join_all(named.iter().map(|(sku, _)| engine.stock(sku.clone())));
            let actors = engine.actors(None, ActorSort::Rate, ACTORS_MAX);
            let stocks = tokio::time::timeout(ASKING_MAX, stocks);
            let actors = tokio::time::timeout(ASKING_MAX, actors);
            futures_util::future::join(stocks, actors).await
        });
        let at_ms = engine.now().0;
        if let Ok(stocks) = asked.0
            && stocks.iter().any(Result::is_ok)
        {
            let rows = stocks
                .iter()
                .zip(&named)
                .filter_map(|(stock, (_, pace))| Some((stock.as_ref().ok()?, *pace)));
            let mut data = Vec::new();
            self.checked = 0;
            for (stock, changes_per_s) in rows {
                self.checked += 1;
                if let Some(wrong) = breach(stock) {
                    self.breach.get_or_insert(wrong);
                }
                let name = engine.catalogue().get(stock.sku.as_str()).map(|known| known.name.to_string());
                data.push(LiveSku {
                    sku: stock.sku.to_string(),
                    name: name.unwrap_or_default(),
                    received: stock.received,
                    on_hand: stock.on_hand,
                    reserved: stock.reserved,
                    sellable: stock.sellable,
                    sold: stock.sold,
                    changes_per_s: (changes_per_s * 10.0).round() / 10.0,
                    sold_out_in_s: None,
                });
            }
            self.skus = LiveSkus { at_ms, data };
        }
        if let Ok(actors) = asked.1 {
            self.actors = LiveActors { at_ms, data: actors.iter().map(from_engine::actor).collect() };
        }
    }

    /// News that no journal tells: what has begun or ended since the last look.
    fn tell_changes(&mut self, engine: &Engine, now: doorbuster_engine::identity::Timestamp) {
        let mut news: Vec<(&'static str, String, Option<LiveActorName>)> = Vec::new();
        let count = self.samples.len();
        let (before, last) = (&self.samples[count.saturating_sub(2)], &self.samples[count - 1]);
        for (sku, left) in &last.sellable {
            let actor = Some(LiveActorName { kind: "sku", key: sku.clone() });
            match before.sellable.get(sku) {
                Some(had) if *had > 0 && *left <= 0 => {
                    news.push(("info", format!("{sku} is sold out"), actor));
                }
                Some(had) if *had <= 0 && *left > 0 => {
                    news.push(("info", format!("{sku} can be had again, {left} units"), actor));
                }
                Some(_) | None => {}
            }
        }
        let earlier = count.checked_sub(3).and_then(|place| self.samples.get(place));
        let was_shedding = earlier.is_some_and(|earlier| before.shed > earlier.shed);
        match (was_shedding, last.shed > before.shed) {
            (false, true) => news.push((
                "warning",
                "more is asked than can be served: requests are refused".to_owned(),
                None,
            )),
            (true, false) => {
                news.push(("info", "nobody is refused for want of time any more".to_owned(), None));
            }
            (true, true) | (false, false) => {}
        }
        let paces = Paces { first: before, before, last };
        if paces.rise(|sample| sample.panics) > 0 {
            news.push(("alarm", "an actor panicked and was rebuilt; the log says which".to_owned(), None));
        }
        if paces.rise(|sample| sample.jumps) > 0 {
            news.push(("alarm", "the wall clock jumped; expiry pauses".to_owned(), None));
        }
        let down: Vec<&'static str> =
            engine.providers().iter().filter(|provider| !provider.up).map(|provider| provider.name).collect();
        for name in down.iter().filter(|name| !self.down.contains(name)) {
            news.push(("warning", format!("{name} does not answer; orders wait for it"), None));
        }
        for name in self.down.iter().filter(|name| !down.contains(name)) {
            news.push(("info", format!("{name} answers again"), None));
        }
        self.down = down;
        for (level, text, actor) in news {
            self.story.told().say(now, level, text, actor);
        }
    }
}

fn page_text() -> String {
    crate::metrics::recorder().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default()
}

fn sale(paces: &Paces<'_>, page: &Page<'_>) -> LiveSale {
    let revenue = page.series("doorbuster_order_value_minor_units_total").filter_map(|(labels, value)| {
        let code = labels.strip_prefix("currency=\"")?.strip_suffix('"')?;
        let amount = i64::try_from(whole(value)).ok()?;
        Some(Money { amount, currency: CurrencyCode(Currency::from_str(code).ok()?) })
    });
    LiveSale {
        orders_per_s: paces.rate(|sample| sample.orders),
        orders_placed: paces.last.orders,
        revenue: revenue.collect(),
        reservations_per_s: paces.rate(|sample| sample.story.reserved),
        sold_per_s: paces.rate(|sample| sample.story.sold),
        released_per_s: paces.rate(|sample| sample.story.released),
        expired_per_s: paces.rate(|sample| sample.story.expired),
        declined_per_s: paces.rate(|sample| sample.story.declined),
    }
}

fn traffic(paces: &Paces<'_>, page: &Page<'_>) -> LiveTraffic {
    let window = paces.window();
    let answers = |sample: &Sample| sample.counted.calls.iter().map(Times::count).sum::<u64>();
    let calls = CALLS.iter().enumerate().map(|(kind, call)| {
        let times = paces.last.counted.calls[kind].since(&paces.first.counted.calls[kind]);
        LiveCall {
            call,
            per_s: per_second(times.count(), window),
            p50_us: times.quantile_us(500),
            p99_us: times.quantile_us(990),
            max_us: times.quantile_us(1_000),
        }
    });
    let problems: Vec<(Code, u64)> = Code::ALL
        .iter()
        .enumerate()
        .map(|(place, code)| {
            let count = |sample: &Sample| sample.counted.problems.get(place).copied().unwrap_or(0);
            (*code, count(paces.last).saturating_sub(count(paces.first)))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let shed: u64 = problems.iter().filter(|(code, _)| is_shed(*code)).map(|(_, count)| *count).sum();
    let all = answers(paces.last).saturating_sub(answers(paces.first));
    #[expect(clippy::cast_precision_loss, reason = "counts of ten seconds")]
    let shed_percent = if all == 0 { 0.0 } else { (shed as f64 * 1_000.0 / all as f64).round() / 10.0 };
    let mut refusals: Vec<LiveRefusal> = problems
        .iter()
        .map(|(code, count)| LiveRefusal { code: code.wire(), per_s: per_second(*count, window) })
        .collect();
    refusals.sort_by(|a, b| b.per_s.total_cmp(&a.per_s));
    LiveTraffic {
        requests_per_s: paces.rate(answers),
        calls: calls.collect(),
        refusals,
        shed_percent: shed_percent.min(100.0),
        in_flight: whole(page.sum("doorbuster_requests_in_flight").unwrap_or(0.0)),
    }
}

fn journal(paces: &Paces<'_>, page: &Page<'_>, frames_skipped: u64) -> LiveJournal {
    let gauge = |name| whole(page.sum(name).unwrap_or(0.0));
    let events = paces.last.journal.0.saturating_sub(paces.first.journal.0);
    let frames = paces.last.journal.2.saturating_sub(paces.first.journal.2);
    #[expect(clippy::cast_precision_loss, reason = "counts of ten seconds")]
    let events_per_sync =
        if frames == 0 { 0.0 } else { (events as f64 * 10.0 / frames as f64).round() / 10.0 };
    LiveJournal {
        events_per_s: paces.rate(|sample| sample.journal.0),
        bytes_per_s: paces.rate(|sample| sample.journal.1),
        events_per_sync,
        sync_p50_us: quantile_us(&paces.last.sync, &paces.first.sync, 0.5),
        sync_p99_us: quantile_us(&paces.last.sync, &paces.first.sync, 0.99),
        queue_batches: gauge("doorbuster_journal_queue_batches"),
        claimable_bytes: gauge("doorbuster_journal_claimable_bytes"),
        checkpoint_failures: gauge("doorbuster_checkpoint_failures_total"),
        frames_skipped,
    }
}

fn followers(page: &Page<'_>) -> Vec<LiveFollower> {
    let follower = |name, seconds, frames| {
        let lag_s: Option<f64> = page.sum(seconds);
        LiveFollower {
            name,
            configured: lag_s.is_some(),
            lag_s: lag_s.map(|lag| (lag * 1_000.0).round() / 1_000.0),
            lag_frames: page.sum(frames).map(whole),
        }
    };
    vec![
        follower("projection", "doorbuster_projection_lag_seconds", "doorbuster_projection_lag_frames"),
        follower(
            "announcements",
            "doorbuster_announcement_lag_seconds",
            "doorbuster_announcement_lag_frames",
        ),
        follower("rescue", "doorbuster_rescue_lag_seconds", "doorbuster_rescue_lag_frames"),
    ]
}

fn laws(breach: Option<&String>, checked: u64, wrong: Option<String>, records: u64) -> LiveLaws {
    let checks = vec![
        LiveCheck {
            law: 1,
            what: "of each SKU shown: received = on hand + sold, available = on hand - reserved, sellable is not negative",
            ok: breach.is_none(),
            looked_at: checked,
            found: breach.cloned(),
        },
        LiveCheck {
            law: 9,
            what: "of each record read here: its frame's checksum and chain hold, and its partition has no gap",
            ok: wrong.is_none(),
            looked_at: records,
            found: wrong,
        },
    ];
    LiveLaws { ok: checks.iter().all(|check| check.ok), checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(received: i64, on_hand: i64, reserved: i64, sold: i64) -> StockView {
        let available = on_hand - reserved;
        let sku = Sku::new("TEE").unwrap();
        StockView { sku, received, on_hand, reserved, available, sellable: available, sold, version: 1 }
    }

    #[test]
    fn a_breach_of_law_1_is_told_by_its_figures() {
        for (label, stock, wrong) in [
            ("all is well", stock(10, 7, 2, 3), None),
            ("a unit came from nowhere", stock(10, 8, 2, 3), Some("received 10 is not on hand 8 + sold 3")),
            ("more promised than there is", stock(10, 1, 2, 9), Some("sellable is -1")),
            ("nothing is held less than nothing", stock(10, 10, -1, 0), Some("reserved -1")),
            ("lost in between", StockView { available: 9, ..stock(10, 7, 2, 3) }, Some("available 9 is not")),
        ] {
            let found = breach(&stock);
            let fits = match (&found, wrong) {
                (None, None) => true,
                (Some(found), Some(wrong)) => found.contains(wrong),
                (Some(_), None) | (None, Some(_)) => false,
            };
            assert!(fits, "{label}: {found:?}");
        }
    }

    #[test]
    fn the_lights_follow_what_was_found() {
        assert!(laws(None, 3, None, 5).ok);
        assert!(!laws(Some(&"TEE: wrong".to_owned()), 3, None, 5).ok);
        let found = laws(None, 3, Some("a gap".to_owned()), 5);
        assert!(!found.ok && found.checks[0].ok && !found.checks[1].ok);
    }

    #[test]
    fn a_sku_is_sold_out_when_its_pace_says() {
        for (before, now, expected) in
            [(100, 50, Some(10)), (100, 99, Some(990)), (50, 50, None), (40, 50, None), (10, 0, None)]
        {
            assert_eq!(sold_out_in_s(before, now, Duration::from_secs(10)), expected, "{before} to {now}");
        }
    }
}
