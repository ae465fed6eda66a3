//! `doorbuster trial`: puts a running engine on trial, from outside and over HTTP alone.
//!
//! `fire` loads it and writes every final answer into a ledger; `judge` holds the engine to a ledger, after a kill as
//! after a stop; `retry` sends acknowledged requests again and again; `twins` sends a hundred copies of each kind at
//! once. The proofs under `scripts/proofs/` are made of these. Start at [`run`].

pub mod book;
pub mod fire;
pub mod judge;
pub mod ledger;
pub mod retry;
pub mod twins;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::book::Book;
use self::fire::Stage;
use self::judge::Judge;
use self::ledger::Ledger;
use super::replay::bar;
use super::replay::report::{grouped, latency_table, numbers_table, refusal_lines};
use super::rush::shopper::Stop;
use crate::client::{Client, Options};

/// Exit code for a broken promise.
const EXIT_VIOLATIONS: u8 = 1;

/// Exit code for a wrong call or an engine that cannot be reached.
const EXIT_FAILED: u8 = 2;

/// Violations shown to people; a machine gets all of them.
const VIOLATIONS_SHOWN_MAX: usize = 30;

/// How often the bar of a load moves.
const TICK: Duration = Duration::from_millis(100);

/// Put a running engine on trial: load it, kill it, and hold it to every answer it gave.
///
/// `fire` writes each final answer, refusals too, into a ledger of another process than the engine. Kill the engine in
/// the middle, start it again, and `judge` tells whether anything was lost (acknowledged and gone), doubled (two effects
/// of one key) or a ghost (refused, yet applied). `scripts/proofs/` has whole proofs made of these.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every promise held; 1 one was broken; 2 wrong usage or unreachable engine."
)]
pub struct TrialArguments {
    /// What to do
    #[command(subcommand)]
    pub step: Step,
}

/// The steps of a trial.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Step {
    /// Load the engine with everything shoppers do, and write every final answer into a ledger
    Fire {
        /// How to reach the engine
        #[command(flatten)]
        reach: Reach,
        /// Where answers are written down
        #[arg(long, value_name = "FILE")]
        ledger: PathBuf,
        /// Name of this load: its SKUs and keys begin with it, so that several loads of one engine are apart
        #[arg(long, value_name = "NAME")]
        run: String,
        /// How many shoppers at once
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        shoppers: u32,
        /// For how long, in seconds
        #[arg(long, default_value_t = 5, value_name = "SECONDS")]
        duration: u64,
        /// Seed of what each attempt does
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Hold the engine to a ledger: 0 lost, 0 doubled, 0 ghosts
    Judge {
        /// How to reach the engine
        #[command(flatten)]
        reach: Reach,
        /// What `fire` wrote
        ledger: PathBuf,
        /// How many acknowledged requests are sent again for the same bytes
        #[arg(long, default_value_t = 500)]
        retries: usize,
        /// Send nothing that could change anything: neither what nobody answered nor what was refused
        #[arg(long)]
        only_read: bool,
        /// When the engine was killed, in milliseconds since 1970: tells the acknowledged writes of the second before
        #[arg(long, value_name = "MS")]
        killed_at_ms: Option<u64>,
    },
    /// Send the acknowledged requests of a ledger again and again; no answer may change
    Retry {
        /// How to reach the engine
        #[command(flatten)]
        reach: Reach,
        /// What `fire` wrote
        ledger: PathBuf,
        /// How many retries
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        times: u64,
        /// How many at once
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        concurrency: u32,
    },
    /// Send a hundred copies of each kind of keyed request at once: one effect, one answer
    Twins {
        /// How to reach the engine
        #[command(flatten)]
        reach: Reach,
        /// How many copies
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000))]
        twins: u32,
    },
}

/// How to reach the engine, and how to report.
#[derive(Clone, Debug, clap::Args)]
pub struct Reach {
    /// Where the engine listens
    #[arg(long, env = "DOORBUSTER_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The engine's admin key
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// How long a request is tried again while the engine is away or says "later", in seconds
    #[arg(long, default_value_t = 30)]
    pub patience_s: u64,
    /// How long one attempt may take, in milliseconds
    #[arg(long, default_value_t = 12_000, value_name = "MS")]
    pub attempt_ms: u64,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Reach {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(Options {
            url: self.url.clone(),
            admin_key: self.admin_key.clone(),
            patience: Duration::from_secs(self.patience_s),
            timeout: Duration::from_millis(self.attempt_ms),
        })?)
    }
}

/// Runs the command; its errors are printed here, because they have an exit code of their own.
pub fn run(arguments: TrialArguments) -> anyhow::Result<ExitCode> {
    let outcome = actix_rt::System::new().block_on(async move {
        match arguments.step {
            Step::Fire { reach, ledger, run, shoppers, duration, seed } => {
                fire(&reach, Ledger::open(&ledger)?, run, shoppers, duration, seed).await
            }
            Step::Judge { reach, ledger, retries, only_read, killed_at_ms } => {
                judge(&reach, &ledger, retries, only_read, killed_at_ms).await
            }
            Step::Retry { reach, ledger, times, concurrency } => {
                let client = reach.client()?;
                let book = Book::of(&Ledger::read(&ledger).map_err(anyhow::Error::msg)?);
                let retried = retry::run(&client, book, times, concurrency).await?;
                show(&reach, &retried.json(), &retried.violations);
                Ok(retried.violations.is_empty())
            }
            Step::Twins { reach, twins } => {
                let client = reach.client()?;
                client.hello().await?;
                let rows = twins::run(&client, usize::try_from(twins)?).await?;
                Ok(show_twins(&reach, twins, &rows))
            }
        }
    });
    Ok(match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_VIOLATIONS),
        Err(failure) => {
            eprintln!("doorbuster trial: {failure:#}");
            ExitCode::from(EXIT_FAILED)
        }
    })
}

async fn fire(
    reach: &Reach,
    ledger: Ledger,
    run: String,
    shoppers: u32,
    duration_s: u64,
    seed: u64,
) -> anyhow::Result<bool> {
    let client = reach.client()?;
    client.hello().await?;
    let stage = Rc::new(Stage {
        client: client.clone(),
        run,
        seed,
        ledger: RefCell::new(ledger),
        acknowledged: Cell::new(0),
        refused: Cell::new(0),
        unknown: Cell::new(0),
        repeated: Cell::new(0),
        violations: RefCell::default(),
    });
    stage.make_skus().await?;
    let begun = Instant::now();
    let stopped = load(&stage, shoppers, Duration::from_secs(duration_s)).await;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(stop) = &stopped {
        eprintln!("doorbuster trial: the load ended early: {stop}");
    }
    if let Some(stop @ Stop::Ledger(_)) = stopped {
        return Err(stop.into());
    }
    let violations = stage.violations.borrow().clone();
    let report = json!({
        "acknowledged": stage.acknowledged.get(), "refused": stage.refused.get(), "unknown": stage.unknown.get(),
        "repeated": stage.repeated.get(), "took_ms": took_ms,
        "acknowledged_per_s": stage.acknowledged.get() * 1000 / took_ms.max(1),
        "unanswered_attempts": client.tally().faults(),
        "slowest_us": client.tally().overall().max_us,
        "violations": violations,
    });
    if !reach.json {
        println!("{}\n", latency_table(&client.tally().overall(), &client.tally().latencies()));
        println!("{}\n", refusal_lines(&client.tally().refusals(), client.tally().faults()));
    }
    show(reach, &report, &violations);
    Ok(violations.is_empty())
}

/// Lets all shoppers try until the time is over; tells what stopped them early, if anything did.
async fn load(stage: &Rc<Stage>, shoppers: u32, duration: Duration) -> Option<Stop> {
    let begun = Instant::now();
    let length = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let bar = bar(length, "firing   {bar:30} {msg}");
    let stopped: Rc<RefCell<Option<Stop>>> = Rc::default();
    let shoppers = (0..u64::from(shoppers)).map(|shopper| {
        let (stage, stopped) = (Rc::clone(stage), Rc::clone(&stopped));
        actix_rt::spawn(async move {
            for attempt in 0.. {
                if begun.elapsed() >= duration || stopped.borrow().is_some() {
                    break;
                }
                if let Err(stop) = stage.attempt(shopper, attempt).await {
                    stopped.borrow_mut().get_or_insert(stop);
                }
            }
        })
    });
    let ticking = {
        let (stage, bar) = (Rc::clone(stage), bar.clone());
        actix_rt::spawn(async move {
            loop {
                actix_rt::time::sleep(TICK).await;
                bar.set_position(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).min(length));
                bar.set_message(format!("{} acknowledged", grouped(stage.acknowledged.get())));
            }
        })
    };
    futures_util::future::join_all(shoppers).await;
    ticking.abort();
    bar.finish_and_clear();
    stopped.borrow_mut().take()
}

async fn judge(
    reach: &Reach,
    path: &std::path::Path,
    retries: usize,
    only_read: bool,
    killed_at_ms: Option<u64>,
) -> anyhow::Result<bool> {
    let entries = Ledger::read(path).map_err(anyhow::Error::msg)?;
    let client = reach.client()?;
    client.hello().await?;
    let ledger = if only_read { None } else { Some(Ledger::open(path)?) };
    let before = Book::of(&entries);
    let (found, book) = Judge::new(&client, ledger, retries).run(entries).await?;
    let mut report = found.json();
    report["ledger"] = judge::counts(&book);
    if let Some(killed_at_ms) = killed_at_ms {
        report["acknowledged_in_second_before"] = json!(before.acknowledged_in_second_before(killed_at_ms));
    }
    let violations: Vec<String> = found.all().cloned().collect();
    show(reach, &report, &violations);
    Ok(found.is_clean())
}

/// Figures as a table, then what is broken; or all of it for a machine.
fn show(reach: &Reach, report: &Value, violations: &[String]) {
    if reach.json {
        println!("{report}");
        return;
    }
    let mut table = numbers_table(&["what", "how many"], &[1]);
    let figures = report.as_object().into_iter().flatten();
    let nested = report["ledger"].as_object().into_iter().flatten();
    for (name, figure) in figures.chain(nested) {
        if let Some(figure) = figure.as_u64() {
            table.add_row([name.replace('_', " "), grouped(figure)]);
        }
    }
    println!("{table}\n");
    for violation in violations.iter().take(VIOLATIONS_SHOWN_MAX) {
        println!("  {violation}");
    }
    match violations.len() {
        0 => println!("Every promise held."),
        broken => println!("{broken} promises were broken."),
    }
}

fn show_twins(reach: &Reach, twins: u32, rows: &[twins::Row]) -> bool {
    let is_right = rows.iter().all(twins::Row::is_right);
    if reach.json {
        let rows: Vec<Value> = rows.iter().map(twins::Row::json).collect();
        println!("{}", json!({"twins": twins, "kinds": rows, "right": is_right}));
        return is_right;
    }
    let mut table = numbers_table(&["kind", "status", "answers", "effects told", "verdict"], &[1, 2, 3]);
    for row in rows {
        let verdict = match (&row.wrong, row.is_right()) {
            (Some(wrong), _) => wrong.clone(),
            (None, true) => "one effect, one answer".to_owned(),
            (None, false) => "law 5 is broken".to_owned(),
        };
        table.add_row([
            row.kind.to_owned(),
            row.status.to_string(),
            row.answers.to_string(),
            row.fresh.to_string(),
            verdict,
        ]);
    }
    println!("{twins} twins of each kind at once\n{table}");
    is_right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::stub::{Fault, Stub};

    /// Fires at a stub with this fault for a moment and judges it: what shoppers and judge found together.
    fn trial(fault: Fault) -> (Vec<String>, judge::Findings) {
        actix_rt::System::new().block_on(async {
            let stub = Stub::start(fault);
            let file = tempfile::NamedTempFile::new().unwrap();
            let client = Client::new(Options {
                url: stub.url.clone(),
                admin_key: None,
                patience: Duration::from_secs(5),
                timeout: Duration::from_secs(2),
            })
            .unwrap();
            let stage = Rc::new(Stage {
                client: client.clone(),
                run: "t".to_owned(),
                seed: 7,
                ledger: RefCell::new(Ledger::open(file.path()).unwrap()),
                acknowledged: Cell::new(0),
                refused: Cell::new(0),
                unknown: Cell::new(0),
                repeated: Cell::new(0),
                violations: RefCell::default(),
            });
            stage.make_skus().await.unwrap();
            // Each lost answer costs a pause.
            let attempts = if fault == Fault::AnswersLost { 300 } else { 1_500 };
            for attempt in 0..attempts {
                stage.attempt(attempt % 7, attempt).await.unwrap();
            }
            let entries = Ledger::read(file.path()).unwrap();
            let load = (stage.acknowledged.get(), stage.refused.get(), stage.repeated.get());
            assert!(
                load.0 > attempts && load.1 * 100 > attempts && load.2 * 100 > attempts,
                "{fault:?} was hardly tried: {load:?}"
            );
            let judge = Judge::new(&client, Some(Ledger::open(file.path()).unwrap()), 200);
            let (found, _) = judge.run(entries).await.unwrap();
            stub.stop().await;
            (stage.violations.borrow().clone(), found)
        })
    }

    #[test]
    fn a_sound_engine_is_acquitted() {
        for fault in [Fault::None, Fault::AnswersLost] {
            assert_eq!(trial(fault), (Vec::new(), judge::Findings::default()), "{fault:?}");
        }
    }

    #[test]
    fn every_kind_of_broken_promise_is_found_by_its_name() {
        let (_, found) = trial(Fault::Ghosts);
        assert!(!found.ghosts.is_empty() && !found.doubled.is_empty() && found.lost.is_empty(), "{found:?}");
        let (_, found) = trial(Fault::CommitLost);
        assert!(!found.lost.is_empty() && found.ghosts.is_empty(), "{found:?}");
        let (seen, found) = trial(Fault::KeysForgotten);
        assert!(!seen.is_empty() && !found.doubled.is_empty(), "{seen:?} {found:?}");
        let (_, found) = trial(Fault::UnitLost);
        assert!(!found.lost.is_empty(), "{found:?}");
    }

    #[test]
    fn a_ledger_of_another_engine_is_all_lost() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut ledger = Ledger::open(file.path()).unwrap();
        let request = ledger::Request::new("POST", "/v1/reservations", "k");
        let verdict =
            ledger::Verdict::Reserved { id: "res_77".to_owned(), items: Vec::new(), until_ms: u64::MAX };
        ledger.append(&ledger::Entry { verdict, status: 201, ..ledger::Entry::unknown(&request) }).unwrap();
        actix_rt::System::new().block_on(async {
            let stub = Stub::start(Fault::None);
            let reach = Reach {
                url: stub.url.clone(),
                admin_key: None,
                patience_s: 5,
                attempt_ms: 2_000,
                json: true,
            };
            assert!(!judge(&reach, file.path(), 0, true, None).await.unwrap());
            stub.stop().await;
        });
    }
}
