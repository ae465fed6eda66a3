//! `doorbuster rush`: a flash sale of simulated shoppers against a running engine, and the audit after it.
//!
//! Shoppers take turns as fast as they are answered (a closed loop: a slow engine is asked less often, so compare
//! latencies only between runs of the same shape). Every request carries its own key and is sent again with it while
//! the engine is away, so a rush can be run across a kill and a restart. Start at [`run`].

pub mod audit;
pub mod ledger;
pub mod shopper;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::ledger::{Kind, Ledger, Promises};
use self::shopper::{End, Stage, Stop};
use super::replay::bar;
use super::replay::report::{grouped, latency_table, numbers_table, refusal_lines};
use crate::client::{Client, MoneyReply, Options, StockReply, path_segment};

/// Exit code for a broken promise.
const EXIT_VIOLATIONS: u8 = 1;

/// Exit code for a wrong call or an engine that cannot be reached.
const EXIT_FAILED: u8 = 2;

/// Violations shown to people; a machine gets all of them.
const VIOLATIONS_SHOWN_MAX: usize = 50;

/// Run a flash sale of simulated shoppers, then audit the engine.
///
/// Makes a SKU, opens fire, and afterwards checks that no unit was promised twice, that stock adds up, that every
/// acknowledged reservation and order can be read and stands where it was left, and that a repeated key gave the same
/// answer. Exit code 0: all of it holds; 1: a promise was broken; 2: wrong usage or unreachable engine.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every promise held; 1 one was broken; 2 wrong usage or unreachable engine."
)]
pub struct RushArguments {
    /// Where the engine listens
    #[arg(long, env = "DOORBUSTER_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The engine's admin key
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// The SKU everybody wants (default: a new one); one that exists keeps its stock
    #[arg(long)]
    pub sku: Option<String>,
    /// Units of a new SKU
    #[arg(long, default_value_t = 1000)]
    pub stock: u32,
    /// How many shoppers
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub shoppers: u32,
    /// How often each of them tries
    #[arg(long, default_value_t = 200)]
    pub attempts: u32,
    /// How many shoppers are served at once (default: all)
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// Stop after this many seconds, even if attempts are left
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
    /// What shoppers do: `all` (commit, keep, release, forget, repeat, cart to order) or `plain` (reserve and keep)
    #[arg(long, default_value = "all", value_parser = ["all", "plain"])]
    pub habits: String,
    /// Seed of what each attempt does
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Append every acknowledgement to this file as soon as it arrives
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Instead of a rush: read everything in this ledger back, e.g. after a kill and a restart
    #[arg(long, value_name = "FILE", conflicts_with = "ledger")]
    pub check_ledger: Option<PathBuf>,
    /// How long a request is tried again while the engine is away or says "later", in seconds
    #[arg(long, default_value_t = 15)]
    pub patience_s: u64,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; its errors are printed here, because they have an exit code of their own.
pub fn run(arguments: RushArguments) -> anyhow::Result<ExitCode> {
    let outcome = actix_rt::System::new().block_on(async move {
        match &arguments.check_ledger {
            Some(path) => check_ledger(&arguments, path).await,
            None => rush(&arguments).await,
        }
    });
    Ok(match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_VIOLATIONS),
        Err(failure) => {
            eprintln!("doorbuster rush: {failure:#}");
            ExitCode::from(EXIT_FAILED)
        }
    })
}

fn client(arguments: &RushArguments) -> anyhow::Result<Client> {
    Ok(Client::new(Options {
        url: arguments.url.clone(),
        admin_key: arguments.admin_key.clone(),
        patience: Duration::from_secs(arguments.patience_s),
        timeout: Duration::from_secs(10),
    })?)
}

async fn rush(arguments: &RushArguments) -> anyhow::Result<bool> {
    let client = client(arguments)?;
    client.hello().await?;
    let run: String = uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect();
    let sku = arguments.sku.clone().unwrap_or_else(|| format!("RUSH-{run}"));
    let mut ledger = match &arguments.ledger {
        Some(path) => {
            Ledger::open(path).with_context(|| format!("cannot open the ledger {}", path.display()))?
        }
        None => Ledger::default(),
    };
    let before = make_sku(&client, arguments, &sku, &run, &mut ledger).await?;
    let stage = Rc::new(Stage {
        client: client.clone(),
        sku,
        run: format!("rush:{run}"),
        is_plain: arguments.habits == "plain",
        seed: arguments.seed,
        ledger: RefCell::new(ledger),
        grants: RefCell::default(),
        sold_out: Cell::new(0),
        refused: Cell::new(0),
        unknown: Cell::new(0),
        attempts: Cell::new(0),
        violations: RefCell::default(),
    });

    let begun = Instant::now();
    let stopped = open_fire(&stage, arguments).await;
    let took = begun.elapsed();
    let under_fire = client.tally().latencies();
    let overall = client.tally().overall();
    let mut violations = stage.violations.borrow().clone();
    match stopped {
        None | Some(Stop::Engine(_)) => {}
        Some(stop @ Stop::Ledger(_)) => return Err(stop.into()),
    }
    match audit::after_rush(&stage, &before).await {
        Ok(found) => violations.extend(found),
        Err(failure) if arguments.ledger.is_some() => {
            bail!("{failure}. The ledger stands: start the engine and run `doorbuster rush --check-ledger`");
        }
        Err(failure) => return Err(failure.into()),
    }
    let report = outcome(&stage, &before, took, &violations);
    if arguments.json {
        let mut report = report;
        report["call_latencies"] = json!(under_fire);
        println!("{report:#}");
    } else {
        println!("{}", table(&stage, &report));
        println!("\n{}", latency_table(&overall, &under_fire));
        println!("\n{}", refusal_lines(&client.tally().refusals(), client.tally().faults()));
        println!("\n{}", verdict(&violations, "No promise was broken."));
    }
    Ok(violations.is_empty())
}

/// Makes the SKU and tells its stock before the first shot.
async fn make_sku(
    client: &Client,
    arguments: &RushArguments,
    sku: &str,
    run: &str,
    ledger: &mut Ledger,
) -> anyhow::Result<StockReply> {
    if arguments.sku.is_some()
        && let Some(stock) = audit::stock(client, sku).await?
    {
        return Ok(stock);
    }
    let key = format!("rush:{run}:sku");
    let answer = client
        .put("make sku", format!("/v1/admin/skus/{}", path_segment(sku)))
        .key(key.as_str())
        .as_admin()
        .json(&json!({"name": "Rush", "price": MoneyReply::new(1999, "GBP"), "on_hand": arguments.stock}))
        .send()
        .await?;
    if !answer.is_success() {
        return Err(answer.unexpected().into());
    }
    ledger.append(Kind::Sku, sku, &key, i64::from(arguments.stock))?;
    audit::stock(client, sku).await?.context("the engine does not know the SKU it has just made")
}

/// Lets all shoppers try; tells what stopped them early, if anything did.
async fn open_fire(stage: &Rc<Stage>, arguments: &RushArguments) -> Option<Stop> {
    let total = u64::from(arguments.shoppers) * u64::from(arguments.attempts);
    let bar = bar(total, "rushing  {bar:30} {human_pos} of {human_len} attempts, {per_sec}");
    let served = arguments.concurrency.unwrap_or(arguments.shoppers).max(1);
    let places = Arc::new(Semaphore::new(usize::try_from(served).unwrap_or(usize::MAX)));
    let ends_at = arguments.duration.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let stopped: Rc<RefCell<Option<Stop>>> = Rc::default();
    let shoppers = (0..u64::from(arguments.shoppers)).map(|shopper| {
        let (stage, places, bar, stopped) =
            (Rc::clone(stage), Arc::clone(&places), bar.clone(), Rc::clone(&stopped));
        let attempts = u64::from(arguments.attempts);
        actix_rt::spawn(async move {
            for attempt in 0..attempts {
                let Ok(_place) = places.acquire().await else { break };
                let is_over = ends_at.is_some_and(|ends_at| Instant::now() >= ends_at);
                if is_over || stopped.borrow().is_some() {
                    break;
                }
                if let Err(stop) = stage.attempt(shopper, attempt).await {
                    stopped.borrow_mut().get_or_insert(stop);
                }
                bar.inc(1);
            }
        })
    });
    futures_util::future::join_all(shoppers).await;
    bar.finish_and_clear();
    stopped.borrow_mut().take()
}

/// What happened, for machines; [`table`] shows the same to people.
fn outcome(stage: &Stage, before: &StockReply, took: Duration, violations: &[String]) -> Value {
    let grants = stage.grants.borrow();
    let count = |end: End| grants.iter().filter(|grant| grant.end == end).count();
    let seconds = took.as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = stage.attempts.get() as f64 / seconds;
    json!({
        "sku": stage.sku,
        "stock": before.available,
        "attempts": stage.attempts.get(),
        "held": count(End::Held),
        "committed": count(End::Committed),
        "ordered": count(End::Ordered),
        "released": count(End::Released),
        "expired": count(End::Expired),
        "sold_out": stage.sold_out.get(),
        "refused_otherwise": stage.refused.get(),
        "unknown": stage.unknown.get(),
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "attempts_per_s": rate.round(),
        "refusals": stage.client.tally().refusals().iter()
            .map(|(status, code, times)| json!({"status": status, "code": code, "times": times})).collect::<Vec<_>>(),
        "unanswered_attempts": stage.client.tally().faults(),
        "violations": violations,
    })
}

fn table(stage: &Stage, report: &Value) -> String {
    let figure = |name: &str| report[name].as_u64().unwrap_or_default();
    let mut table = numbers_table(&["outcome", "attempts"], &[1]);
    for (name, shown) in [
        ("held", "granted, held to the end"),
        ("committed", "granted, committed"),
        ("ordered", "granted, cart to paid order"),
        ("released", "granted, released"),
        ("expired", "granted, left to expire"),
        ("sold_out", "told there is not enough"),
        ("refused_otherwise", "refused otherwise"),
        ("unknown", "no answer"),
        ("attempts", "all"),
    ] {
        table.add_row([shown.to_owned(), grouped(figure(name))]);
    }
    format!(
        "{}: {} units, {} attempts in {}.{:03} s, {:.0} attempts/s\n{table}",
        stage.sku,
        grouped(figure("stock")),
        grouped(figure("attempts")),
        figure("took_ms") / 1000,
        figure("took_ms") % 1000,
        report["attempts_per_s"].as_f64().unwrap_or_default(),
    )
}

fn verdict(violations: &[String], all_well: &str) -> String {
    if violations.is_empty() {
        return all_well.to_owned();
    }
    let shown: Vec<&str> = violations.iter().take(VIOLATIONS_SHOWN_MAX).map(String::as_str).collect();
    format!("  {}\n{} promises were broken.", shown.join("\n  "), violations.len())
}

async fn check_ledger(arguments: &RushArguments, path: &std::path::Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the ledger {}", path.display()))?;
    let promises = Promises::read(&text).map_err(anyhow::Error::msg)?;
    let client = client(arguments)?;
    client.hello().await?;
    let violations = audit::after_restart(&client, &promises).await?;
    let mut counts = Vec::new();
    for kind in Kind::ALL {
        counts.push((kind.name(), promises.by_id.values().filter(|(known, _)| *known == kind).count()));
    }
    if arguments.json {
        let counts: serde_json::Map<String, Value> =
            counts.into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
        println!("{:#}", json!({"lines": promises.lines, "promises": counts, "violations": violations}));
    } else {
        let mut table = numbers_table(&["last acknowledged as", "ids"], &[1]);
        for (name, count) in counts {
            table.add_row([name.to_owned(), grouped(count as u64)]);
        }
        println!("{table}\n");
        println!("{}", verdict(&violations, "Every acknowledgement in the ledger is still true."));
    }
    Ok(violations.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::stub::{Fault, Stub};

    fn arguments(url: &str, more: &[&str]) -> RushArguments {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: RushArguments,
        }
        let line = ["rush", "--url", url, "--shoppers", "16", "--attempts", "20", "--stock", "100"];
        let line = line.into_iter().chain(more.iter().copied());
        <Line as clap::Parser>::try_parse_from(line).unwrap().arguments
    }

    fn check(fault: Fault, options: &[&str], expected: bool) {
        actix_rt::System::new().block_on(async {
            let stub = Stub::start(fault);
            let kept = rush(&arguments(&stub.url, options)).await.map_err(|failure| format!("{failure:#}"));
            assert_eq!(kept, Ok(expected), "{fault:?} {options:?}");
            stub.stop().await;
        });
    }

    #[test]
    fn a_sound_engine_passes_whatever_shoppers_do() {
        check(Fault::None, &["--habits", "plain"], true);
        check(Fault::None, &[], true);
        check(Fault::None, &["--concurrency", "2", "--seed", "9"], true);
        check(Fault::AnswersLost, &["--seed", "3"], true);
    }

    #[test]
    fn an_engine_that_breaks_a_promise_is_caught() {
        check(Fault::Oversold, &["--habits", "plain", "--json"], false);
        check(Fault::KeysForgotten, &["--json"], false);
    }

    #[test]
    fn a_ledger_tells_whether_everything_is_still_there() {
        let ledger = tempfile::NamedTempFile::new().unwrap();
        let path = ledger.path().to_str().unwrap();
        actix_rt::System::new().block_on(async {
            let stub = Stub::start(Fault::None);
            assert!(rush(&arguments(&stub.url, &["--ledger", path])).await.unwrap());
            let reading = arguments(&stub.url, &["--check-ledger", path]);
            assert!(check_ledger(&reading, ledger.path()).await.unwrap());
            stub.stop().await;
            // Another engine knows nothing of it.
            let stub = Stub::start(Fault::None);
            let reading = arguments(&stub.url, &["--check-ledger", path, "--json"]);
            assert!(!check_ledger(&reading, ledger.path()).await.unwrap());
            stub.stop().await;
        });
    }
}
