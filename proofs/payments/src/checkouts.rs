//! Many checkouts while everything goes wrong: lost, late and refused calls, doubled and shuffled webhooks, kills.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use doorbuster_stripe::Faults;

use crate::Common;
use crate::arena::{self, Arena, Tickets};
use crate::audit::{self, Violations};
use crate::chance::Chance;
use crate::engine::Settings;
use crate::plan::{Plan, Shares, Way};
use crate::report::Report;
use crate::shopper::{self, Record, Told};

/// Beyond the engine's own deadline of five seconds for a call: whoever gave up is charged all the same.
const LATE_MS: u64 = 6_500;

/// How long one kind of delay lasts.
const WEATHER: Duration = Duration::from_millis(1_500);

/// So many shoppers must show every kind of end, else they prove little.
const SHOPPERS_WITH_EVERYTHING: u64 = 2_000;

/// Checkouts under faults and kills.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Checkouts to begin
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    checkouts: u64,
    /// Kills (SIGKILL) at random moments of the load
    #[arg(long, default_value_t = 50, value_name = "N")]
    kills: u32,
    /// Shoppers at once
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4_096))]
    shoppers: u64,
    /// Replies of Stripe lost after the work was done
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    lost: f64,
    /// Calls that Stripe answers late, some of them later than the engine waits
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    delayed: f64,
    /// Payments declined
    #[arg(long, default_value_t = 0.10, value_name = "SHARE")]
    declined: f64,
    /// Webhooks delivered twice
    #[arg(long, default_value_t = 0.10, value_name = "SHARE")]
    doubled: f64,
    /// Webhooks that come late, and therefore shuffled
    #[arg(long, default_value_t = 0.30, value_name = "SHARE")]
    shuffled: f64,
    /// Shoppers in a thousand of whom 3-D Secure is asked
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000))]
    authentication: u64,
    /// Shoppers in a thousand who cancel, as many who have all refunded, and as many a part
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=300))]
    afterwards: u64,
    /// How long units stay pinned for a payment that its shopper abandoned
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pin_s: u64,
    /// Calls to Stripe a second: many, since this proof is about faults; `outage` is about the pace
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    stripe_calls_per_second: u32,
}

impl Arguments {
    /// What goes wrong at the stand-in in the `nth` spell of weather.
    fn faults(&self, nth: u64) -> Faults {
        let (delay_ms, delay_before_work) = match nth % 5 {
            0 | 3 => (300, false),
            1 | 4 => (300, true),
            _ => (LATE_MS, true),
        };
        Faults {
            delay_rate: self.delayed,
            delay_ms,
            delay_before_work,
            decline_rate: self.declined,
            lost_reply_rate: self.lost,
            search_lag_ms: 1_000,
            webhook_duplicate_rate: self.doubled,
            webhook_late_rate: self.shuffled,
            webhook_late_ms: 3_000,
            ..Faults::default()
        }
    }
}

/// Runs the proof; whether everything held.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let settings = Settings {
        calls_per_second: arguments.stripe_calls_per_second,
        pin_s: arguments.pin_s,
        defer_s: 3_600,
    };
    let mut arena = Arena::open(&arguments.common, settings, arguments.checkouts)?;
    let moments = kill_moments(&mut arena.chance, arguments);
    let (records, kills) = load(&arena, arguments, &moments)?;
    let loaded_in = arena.begun.elapsed();
    arena.stripe.set_faults(Faults::default());
    let mut violations = Violations::default();
    expect_everything(arguments, &arena, &records, &kills, &mut violations);
    let patience = Duration::from_secs(arguments.pin_s + 180);
    let (ending, arena) = arena.end(&records, patience, arguments.common.quick, &mut violations)?;
    let mut report = Report::new("checkouts", &arena, &ending, violations);
    report.row("checkouts", records.len());
    report.row("shoppers at once", arguments.shoppers);
    report.row("load, seconds", loaded_in.as_secs());
    report.row("kills of the engine", kills.len());
    let away: Vec<u64> =
        kills.iter().map(|away| u64::try_from(away.as_millis()).unwrap_or(u64::MAX)).collect();
    report.row("  back after at most, ms", away.iter().max().copied().unwrap_or(0));
    report.shoppers(&records);
    report.finish(&arena, &ending);
    let is_shown = report.print(arguments.common.json);
    arena.close(is_shown);
    Ok(is_shown)
}

/// At how many finished checkouts to kill, and how many milliseconds later.
fn kill_moments(chance: &mut Chance, arguments: &Arguments) -> Vec<(u64, u64)> {
    let (first, last) = (arguments.checkouts / 50, arguments.checkouts * 49 / 50);
    let mut moments: Vec<(u64, u64)> = (0..arguments.kills)
        .map(|_| (first + chance.below((last - first).max(1)), chance.below(200)))
        .collect();
    moments.sort_unstable();
    moments
}

/// Lets everybody in; what they were told, and how long the engine was away at each kill.
fn load(
    arena: &Arena,
    arguments: &Arguments,
    moments: &[(u64, u64)],
) -> anyhow::Result<(Vec<Record>, Vec<Duration>)> {
    let bar = arena::bar(arguments.checkouts, "checkouts");
    let tickets = Tickets::new(arguments.checkouts);
    let (finished, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let records = Mutex::new(Vec::new());
    let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let give_up = |error: anyhow::Error| {
        tickets.close();
        is_over.store(true, Ordering::Relaxed);
        if let Ok(mut failed) = failed.lock() {
            failed.get_or_insert(error);
        }
    };
    let shares = Shares { authentication: arguments.authentication, afterwards: arguments.afterwards };
    let shop = || -> anyhow::Result<()> {
        let mut client = arena.client();
        while let Some(number) = tickets.take() {
            let plan = Plan::of(arena.seed, number, shares);
            let record = shopper::visit(&mut client, &arena.stripe, &arena.run, number, &plan, true)?;
            if let Ok(mut records) = records.lock() {
                records.push(record);
            }
            finished.fetch_add(1, Ordering::Relaxed);
            bar.inc(1);
        }
        Ok(())
    };
    let kill = || -> anyhow::Result<Vec<Duration>> {
        let mut kills = Vec::new();
        for (after, later_ms) in moments {
            while finished.load(Ordering::Relaxed) < *after {
                if is_over.load(Ordering::Relaxed) {
                    return Ok(kills);
                }
                arena.engine.check_alive()?;
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(*later_ms));
            kills.push(arena.engine.kill_and_restart()?);
            bar.set_message(format!("checkouts, {} kills", kills.len()));
        }
        Ok(kills)
    };
    let kills = std::thread::scope(|scope| {
        let shoppers: Vec<_> =
            (0..arguments.shoppers).map(|_| scope.spawn(|| shop().unwrap_or_else(&give_up))).collect();
        let killer = scope.spawn(|| {
            kill().unwrap_or_else(|error| {
                give_up(error);
                Vec::new()
            })
        });
        scope.spawn(|| {
            let (began, mut spell) = (Instant::now(), u64::MAX);
            while !is_over.load(Ordering::Relaxed) {
                let now = u64::try_from(began.elapsed().as_millis() / WEATHER.as_millis()).unwrap_or(0);
                if now != spell {
                    spell = now;
                    arena.stripe.set_faults(arguments.faults(spell));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for shopper in shoppers {
            let _ = shopper.join();
        }
        is_over.store(true, Ordering::Relaxed);
        killer.join().ok()
    });
    bar.finish_and_clear();
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let records = records.into_inner().ok().context("a shopper panicked")?;
    Ok((records, kills.context("who kills panicked")?))
}

/// What did not happen proves nothing.
fn expect_everything(
    arguments: &Arguments,
    arena: &Arena,
    records: &[Record],
    kills: &[Duration],
    violations: &mut Violations,
) {
    let kills = kills.len() as u64;
    if kills < u64::from(arguments.kills) {
        violations.add(audit::UNPROVED, format!("{kills} kills of {}", arguments.kills));
    }
    if (records.len() as u64) < arguments.checkouts {
        violations.add(audit::UNPROVED, format!("{} checkouts of {}", records.len(), arguments.checkouts));
    }
    if arguments.checkouts < SHOPPERS_WITH_EVERYTHING {
        return;
    }
    let figures = arena.stripe.figures();
    let told = |what: Told| records.iter().filter(|record| record.told == what).count() as u64;
    let kind = |what: &str| {
        let is = |record: &&Record| record.checkout.as_ref().is_some_and(|checkout| checkout.what == what);
        records.iter().filter(is).count() as u64
    };
    let left = records.iter().filter(|record| record.left_after_passing).count() as u64;
    let cancelled = records.iter().filter(|record| record.cancelled).count() as u64;
    let refunded = records.iter().filter(|record| record.refunded > 0).count() as u64;
    let restocked = records.iter().filter(|record| !record.restocked.is_empty()).count() as u64;
    let repeats: u64 = records.iter().map(|record| record.repeats).sum();
    let rows = [
        ("paid order", true, told(Told::Paid)),
        ("declined payment", arguments.declined > 0.0, told(Told::Declined)),
        ("order out of stock", true, told(Told::OutOfStock)),
        ("3-D Secure", arguments.authentication > 0, kind("202 requires_action")),
        ("shopper who passed and left", arguments.authentication > 0, left),
        ("cancelled order", arguments.afterwards > 0, cancelled),
        ("refund", arguments.afterwards > 0, refunded),
        ("restocked refund", arguments.afterwards > 0, restocked),
        ("repeated request", true, repeats),
        ("lost reply", arguments.lost > 0.0, figures.replies_lost),
        ("replay at the stand-in", arguments.lost > 0.0, figures.replayed),
    ];
    for (what, is_due, seen) in rows {
        if is_due && seen == 0 {
            violations.add(audit::UNPROVED, format!("no {what}"));
        }
    }
    // Each way through 3-D Secure, by the plans.
    let shares = Shares { authentication: arguments.authentication, afterwards: arguments.afterwards };
    let ways = [Way::Returns, Way::ReturnsLate, Way::Leaves, Way::Abandons, Way::Fails, Way::Cancels];
    for way in ways.into_iter().filter(|_| arguments.authentication > 0) {
        if !records.iter().any(|record| Plan::of(arena.seed, record.number, shares).way == way) {
            violations.add(audit::UNPROVED, format!("nobody was to go through 3-D Secure by {way:?}"));
        }
    }
}
