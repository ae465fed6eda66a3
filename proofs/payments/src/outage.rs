//! Stripe goes away under load and comes back: checkouts go on as configured, and the backlog drains in order and at the
//! allowed rate.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use doorbuster_servers::process;
use doorbuster_stripe::{Faults, Ledger};
use hdrhistogram::Histogram;

use crate::Common;
use crate::arena::{self, Arena, Tickets};
use crate::audit::{self, Violations};
use crate::engine::Settings;
use crate::plan::{Plan, Shares};
use crate::report::Report;
use crate::shopper::{self, Record, Told};

/// Callers at most; far more than a checkout's duration times the rate needs.
const SHOPPERS: u64 = 64;

/// How often the stand-in's count of requests is read.
const TICK: Duration = Duration::from_millis(50);

/// How much above its pace an engine may be in any one second: its burst of a fifth, and what a sample may be off.
const BURST: f64 = 1.25;

/// How the provider is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// Nobody listens: connections are refused
    Refused,
    /// Requests are read and never answered
    Hanging,
}

/// An outage of Stripe under load.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How long Stripe is away
    #[arg(long, default_value_t = 300, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How it is away
    #[arg(long, value_enum, default_value = "refused")]
    how: How,
    /// New checkouts a second, before, during and after
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rate: u64,
    /// Load before the outage, and again after it while the backlog drains
    #[arg(long, default_value_t = 20, value_name = "S")]
    around_s: u64,
    /// Kills (SIGKILL) during the outage
    #[arg(long, default_value_t = 1, value_name = "N")]
    kills: u32,
    /// Requests to Stripe a second; the stand-in refuses beyond a quarter more, as Stripe does beside the default
    #[arg(long, default_value_t = 80, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=10_000))]
    stripe_calls_per_second: u32,
    /// Longest answer to a checkout in the outage, 99 of 100
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    answer_ms: u64,
    /// How long the backlog may take to drain
    #[arg(long, default_value_t = 3_600, value_name = "S")]
    drain_s: u64,
}

/// What was seen of the provider's way back.
#[derive(Debug, Default)]
struct Drain {
    backlog: u64,
    took: Duration,
    first_call_after: Duration,
    calls: u64,
    calls_in_a_second_max: u64,
    calls_in_outage: u64,
}

/// Runs the proof; whether everything held.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let settings = Settings {
        calls_per_second: arguments.stripe_calls_per_second,
        // The engine's default where the outage is shorter: the few orders that were asked about when it began are bound by it.
        pin_s: arguments.seconds.saturating_mul(2).max(900),
        defer_s: 86_400,
    };
    let checkouts = arguments.rate * (arguments.seconds + 2 * arguments.around_s);
    let arena = Arena::open(&arguments.common, settings, checkouts)?;
    arena.stripe.set_faults(arguments.faults(false));
    let mut violations = Violations::default();
    let seen = watch(&arena, arguments, checkouts)?;
    let patience = Duration::from_secs(180);
    let (ending, arena) = arena.end(&seen.records, patience, arguments.common.quick, &mut violations)?;
    judge(arguments, &arena, &seen, &mut violations);
    let order = arrival_order(&seen, &arena.stripe.ledger());
    // A second's worth of calls are under way at once, and whose answer comes first is chance.
    let displaced_max = u64::from(arguments.stripe_calls_per_second);
    if order.displaced_max > displaced_max {
        violations.add(
            audit::UNPROVED,
            format!("an order was charged {} places from its place in the queue", order.displaced_max),
        );
    }
    let mut report = Report::new("outage", &arena, &ending, violations);
    report.row("checkouts", seen.records.len());
    report.row("  a second", arguments.rate);
    report.row("seconds without Stripe", arguments.seconds);
    report.row("kills of the engine meanwhile", seen.kills);
    for (phase, answers) in &seen.answers {
        for (what, times) in answers {
            report.row(&format!("  {phase}: {what}"), times.len());
            report.row("    p50, ms", times.value_at_quantile(0.5));
            report.row("    p99, ms", times.value_at_quantile(0.99));
            report.row("    longest, ms", times.max());
        }
    }
    let drain = &seen.drain;
    report.row("orders that waited when Stripe came back", drain.backlog);
    report.row("  first call after, ms", drain.first_call_after.as_millis());
    report.row("  drained in, ms", drain.took.as_millis());
    report.row("  requests meanwhile", drain.calls);
    report.row("  requests a second, mean, in tenths", mean_in_tenths(drain));
    report.row("  requests in any second, at most", drain.calls_in_a_second_max);
    report.row("  allowed by --stripe-calls-per-second", arguments.stripe_calls_per_second);
    report.row("  charged, in the order of their arrival", order.charged);
    report.row("    out of its place by at most", order.displaced_max);
    report.shoppers(&seen.records);
    report.finish(&arena, &ending);
    let is_shown = report.print(arguments.common.json);
    arena.close(is_shown);
    Ok(is_shown)
}

impl Arguments {
    fn faults(&self, away: bool) -> Faults {
        use doorbuster_stripe::Outage;

        let outage = match self.how {
            _ if !away => Outage::None,
            How::Refused => Outage::Refused,
            How::Hanging => Outage::Hanging,
        };
        let rate_limit_per_s = self.stripe_calls_per_second.checked_mul(5).map(|limit| limit / 4);
        Faults { outage, decline_rate: 0.10, rate_limit_per_s, ..Faults::default() }
    }
}

type Answers = BTreeMap<String, Histogram<u64>>;

/// Everything that was seen.
#[derive(Debug)]
struct Seen {
    records: Vec<Record>,
    /// Milliseconds to the answer of a checkout, by phase and answer.
    answers: BTreeMap<&'static str, Answers>,
    away: (Instant, Instant),
    kills: u32,
    drain: Drain,
}

fn watch(arena: &Arena, arguments: &Arguments, checkouts: u64) -> anyhow::Result<Seen> {
    let bar = arena::bar(checkouts, "before the outage");
    let tickets = Tickets::new(checkouts);
    let started = Instant::now();
    let records = Mutex::new(Vec::new());
    let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let shares = Shares { authentication: 0, afterwards: 0 };
    let (done, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    let samples: Mutex<Vec<(Instant, u64)>> = Mutex::new(Vec::new());
    let shop = || -> anyhow::Result<()> {
        let mut client = arena.client();
        while let Some(number) = tickets.take() {
            let due = started + Duration::from_nanos(number * 1_000_000_000 / arguments.rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let plan = Plan::of(arena.seed, number, shares);
            let record = shopper::visit(&mut client, &arena.stripe, &arena.run, number, &plan, false)?;
            if let Ok(mut records) = records.lock() {
                records.push(record);
            }
            bar.inc(1);
        }
        Ok(())
    };
    let told = std::thread::scope(|scope| {
        let shoppers: Vec<_> = (0..SHOPPERS)
            .map(|_| {
                scope.spawn(|| {
                    shop().unwrap_or_else(|error| {
                        tickets.close();
                        if let Ok(mut failed) = failed.lock() {
                            failed.get_or_insert(error);
                        }
                    });
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let count = arena.stripe.figures().requests;
                requests.store(count, Ordering::Relaxed);
                if let Ok(mut samples) = samples.lock() {
                    samples.push((Instant::now(), count));
                }
                std::thread::sleep(TICK);
            }
        });
        let told = go_away_and_come_back(arena, arguments, &bar, &requests);
        if told.is_err() {
            tickets.close();
        }
        for shopper in shoppers {
            let _ = shopper.join();
        }
        let told = told.and_then(|told| drained(arena, arguments).map(|took| (told, took)));
        done.store(true, Ordering::Relaxed);
        told
    });
    bar.finish_and_clear();
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let ((away, kills, backlog, calls_in_outage), back) = told?;
    let records: Vec<Record> = records.into_inner().ok().context("a shopper panicked")?;
    let samples = samples.into_inner().ok().context("who counts panicked")?;
    let mut drain = drain_of(&samples, away.1, back);
    (drain.backlog, drain.calls_in_outage) = (backlog, calls_in_outage);
    Ok(Seen { answers: answers(&records, away)?, records, away, kills, drain })
}

/// From when to when it was away, the kills meanwhile, the backlog at its return, and the calls that reached it meanwhile.
type Away = ((Instant, Instant), u32, u64, u64);

fn go_away_and_come_back(
    arena: &Arena,
    arguments: &Arguments,
    bar: &indicatif::ProgressBar,
    requests: &AtomicU64,
) -> anyhow::Result<Away> {
    wait(arena, Instant::now() + Duration::from_secs(arguments.around_s))?;
    bar.set_message("Stripe is away");
    arena.stripe.set_faults(arguments.faults(true));
    let gone = Instant::now();
    std::thread::sleep(TICK * 4);
    let before = requests.load(Ordering::Relaxed);
    let until = gone + Duration::from_secs(arguments.seconds);
    let mut kills = 0;
    for nth in 1..=arguments.kills {
        let share = f64::from(nth) / f64::from(arguments.kills + 1);
        wait(arena, gone + Duration::from_secs(arguments.seconds).mul_f64(share))?;
        arena.engine.kill_and_restart()?;
        kills += 1;
    }
    wait(arena, until)?;
    let backlog = waiting(arena)?;
    let after = requests.load(Ordering::Relaxed);
    arena.stripe.set_faults(arguments.faults(false));
    bar.set_message("Stripe is back");
    Ok(((gone, Instant::now()), kills, backlog, after - before))
}

fn wait(arena: &Arena, until: Instant) -> anyhow::Result<()> {
    while Instant::now() < until {
        ensure!(!process::interrupted(), "interrupted");
        arena.engine.check_alive()?;
        std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Orders that wait for Stripe, as the engine says.
fn waiting(arena: &Arena) -> anyhow::Result<u64> {
    let providers = arena.client().look("/v1/admin/payments/providers")?;
    let all = providers["data"].as_array().cloned().unwrap_or_default();
    let stripe = all.iter().find(|provider| provider["name"] == "stripe").context("no provider stripe")?;
    stripe["waiting"].as_u64().context("no count of waiting orders")
}

/// When nobody waits any more.
fn drained(arena: &Arena, arguments: &Arguments) -> anyhow::Result<Instant> {
    let bar = arena::spinner("draining");
    let began = Instant::now();
    loop {
        ensure!(!process::interrupted(), "interrupted");
        arena.engine.check_alive()?;
        let waiting = waiting(arena)?;
        bar.set_message(format!("draining: {waiting} orders wait"));
        if waiting == 0 || began.elapsed() > Duration::from_secs(arguments.drain_s) {
            bar.finish_and_clear();
            return Ok(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The calls from its return until nobody waited.
fn drain_of(samples: &[(Instant, u64)], back: Instant, drained: Instant) -> Drain {
    let inside: Vec<(Instant, u64)> =
        samples.iter().copied().filter(|(at, _)| *at >= back && *at <= drained).collect();
    let first = inside.first().map_or(0, |(_, count)| *count);
    let last = inside.last().map_or(first, |(_, count)| *count);
    let mut calls_in_a_second_max = 0;
    let mut from = 0;
    for (at, count) in &inside {
        while at.duration_since(inside[from].0) > Duration::from_secs(1) {
            from += 1;
        }
        calls_in_a_second_max = calls_in_a_second_max.max(count - inside[from].1);
    }
    let first_call = inside.iter().find(|(_, count)| *count > first).map_or(drained, |(at, _)| *at);
    Drain {
        took: drained.saturating_duration_since(back),
        first_call_after: first_call.saturating_duration_since(back),
        calls: last - first,
        calls_in_a_second_max,
        ..Drain::default()
    }
}

/// Calls a second between the first and the last, times ten.
fn mean_in_tenths(drain: &Drain) -> u64 {
    let calling = drain.took.saturating_sub(drain.first_call_after);
    u64::try_from(u128::from(drain.calls) * 10_000 / calling.as_millis().max(1)).unwrap_or(u64::MAX)
}

fn answers(records: &[Record], away: (Instant, Instant)) -> anyhow::Result<BTreeMap<&'static str, Answers>> {
    let mut answers: BTreeMap<&'static str, Answers> = BTreeMap::new();
    for checkout in records.iter().filter_map(|record| record.checkout.as_ref()) {
        let phase = match checkout.sent {
            sent if sent < away.0 => "1 before",
            sent if sent < away.1 => "2 away",
            _ => "3 after",
        };
        let times = answers.entry(phase).or_default();
        let times = match times.entry(checkout.what.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => new.insert(Histogram::new(3)?),
        };
        times.saturating_record(u64::try_from(checkout.took.as_millis()).unwrap_or(u64::MAX));
    }
    Ok(answers)
}

/// Which orders waited, and how far from their places they were charged.
struct Arrival {
    charged: u64,
    displaced_max: u64,
}

/// The orders that waited, by arrival, against the order in which the ledger has their charges. Who was declined is in no
/// ledger, and everybody else moves up.
fn arrival_order(seen: &Seen, ledger: &Ledger) -> Arrival {
    let mut waited: Vec<(Instant, &str)> = seen
        .records
        .iter()
        .filter(|record| record.told == Told::Waits)
        .filter_map(|record| Some((record.checkout.as_ref()?.sent, record.order.as_deref()?)))
        .collect();
    waited.sort_unstable();
    let charged: BTreeMap<&str, usize> = ledger
        .charges
        .iter()
        .enumerate()
        .filter_map(|(nth, charge)| Some((charge.metadata.get("order")?.as_str(), nth)))
        .collect();
    let by_arrival: Vec<usize> = waited.iter().filter_map(|(_, order)| charged.get(order).copied()).collect();
    Arrival { charged: by_arrival.len() as u64, displaced_max: displaced(&by_arrival) }
}

/// The largest distance of a number from its place in the sorted list.
fn displaced(numbers: &[usize]) -> u64 {
    let mut sorted: Vec<(usize, usize)> =
        numbers.iter().copied().enumerate().map(|(at, number)| (number, at)).collect();
    sorted.sort_unstable();
    let distances = sorted.iter().enumerate().map(|(place, (_, at))| place.abs_diff(*at));
    distances.max().unwrap_or(0) as u64
}

fn judge(arguments: &Arguments, arena: &Arena, seen: &Seen, violations: &mut Violations) {
    let none = Answers::new();
    let away = seen.answers.get("2 away").unwrap_or(&none);
    let waits = away.get("202 payment_pending");
    if waits.is_none_or(Histogram::is_empty) || seen.drain.backlog == 0 {
        violations.add(audit::UNPROVED, "nobody waited for Stripe");
    }
    for (what, times) in away {
        // The first seconds belong to calls that were under way; one that Stripe took just before is an answer like any.
        let is_early = what == "201" || what.starts_with("402") || what.starts_with("409 insufficient");
        if what != "202 payment_pending" && !is_early {
            violations
                .add(audit::STRANGE, format!("{} checkouts in the outage were answered {what}", times.len()));
        }
    }
    if let Some(times) = waits
        && times.value_at_quantile(0.99) > arguments.answer_ms
    {
        let p99 = times.value_at_quantile(0.99);
        violations.add(audit::UNPROVED, format!("99 of 100 were answered within {p99} ms only"));
    }
    let paid_in_outage = seen
        .records
        .iter()
        .filter_map(|record| record.checkout.as_ref())
        .filter(|checkout| checkout.what == "201" && checkout.sent > seen.away.0 + Duration::from_secs(2))
        .filter(|checkout| checkout.sent + checkout.took < seen.away.1)
        .count();
    if paid_in_outage > 0 {
        violations.add(audit::STRANGE, format!("{paid_in_outage} orders were paid while Stripe was away"));
    }
    let most = (f64::from(arguments.stripe_calls_per_second) * BURST).ceil();
    #[allow(clippy::cast_precision_loss)] // counts of calls in one second
    let seen_most = seen.drain.calls_in_a_second_max as f64;
    if seen_most > most {
        violations
            .add(audit::STRANGE, format!("{seen_most} calls in one second, {most} at most are allowed"));
    }
    let refused = arena.stripe.figures().answers.get(&429).copied().unwrap_or(0);
    if refused > 0 {
        violations.add(audit::STRANGE, format!("Stripe refused {refused} calls with 429"));
    }
    if seen.drain.took > Duration::from_secs(arguments.drain_s) {
        violations.add(audit::UNPROVED, "the backlog did not drain in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_is_found_wherever_it_begins() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let samples = [(0, 10), (500, 10), (1_000, 40), (1_500, 90), (2_000, 95), (3_100, 96)];
        let samples: Vec<_> = samples.into_iter().map(|(ms, count)| (at(ms), count)).collect();
        let drain = drain_of(&samples, at(100), at(2_900));
        assert_eq!(
            (drain.calls, drain.calls_in_a_second_max, drain.first_call_after.as_millis()),
            (85, 80, 900)
        );
        assert_eq!(mean_in_tenths(&drain), 850 * 1_000 / 1_900);
    }

    #[test]
    fn an_order_charged_out_of_its_turn_is_found() {
        let rows: [(&[usize], u64); 4] =
            [(&[], 0), (&[1, 2, 5, 9], 0), (&[2, 1, 3], 1), (&[5, 1, 2, 3, 4], 4)];
        for (numbers, expected) in rows {
            assert_eq!(displaced(numbers), expected, "{numbers:?}");
        }
    }
}
