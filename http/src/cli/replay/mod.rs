//! `doorbuster replay`: runs a real order history through an engine over HTTP and balances the books.
//!
//! Two passes over the file. The first ([`survey`]) finds the SKUs and the returns to come; the catalogue goes out in
//! one import. The second reads invoice after invoice ([`reader`]), puts every line under one rule ([`rules`]), finds the
//! sale of each return ([`matching`]), and makes requests of them ([`plan`]) that are carried out many at once
//! ([`drive`]). Then the engine is asked again ([`audit`]) and held against the file's side of the [`books`].
//!
//! Memory does not follow the file's lines. What grows: an entry a SKU, an entry a (customer, SKU) with returns
//! and its sales while returns are to come, the lines of orders that may come back, and about 100 bytes an order to read it back by.
//! `docs/replay.md` is the page for people. Start at [`run`].

pub mod audit;
pub mod books;
pub mod columns;
pub mod dates;
pub mod drive;
pub mod matching;
pub mod plan;
pub mod reader;
pub mod report;
pub mod rules;
pub mod sku;
pub mod survey;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::books::Books;
use self::columns::{Columns, FeeList};
use self::drive::{Drive, DriveError, Speed};
use self::plan::Planner;
use self::reader::Reader;
use self::report::Report;
use self::survey::Survey;
use crate::client::{Client, ImportReply, Latency, MoneyReply, Options};

/// Exit code for books that do not balance.
const EXIT_DIFFERENCES: u8 = 1;

/// Exit code for a wrong call, an unreadable file or an engine that cannot be reached.
const EXIT_FAILED: u8 = 2;

/// Re-run a real order history over HTTP and balance the books.
///
/// Makes the catalogue, re-runs every invoice in time order as cart, checkout and order, turns returns into refunds and
/// stock notes into adjustments, then compares the engine with what the file alone says. Exit code 0: the
/// books balance; 1: they differ; 2: wrong usage, unreadable file or unreachable engine. A replay that was stopped
/// resumes when the same command is given again: nothing is booked twice.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the books balance; 1 they differ; 2 wrong usage, unreadable file or unreachable engine.\n\
    A replay that was stopped resumes when the same command is given again: nothing is booked twice."
)]
pub struct ReplayArguments {
    /// The order history: CSV with a header row, UTF-8 or Latin-1
    pub file: PathBuf,
    /// Where the engine listens
    #[arg(long, env = "DOORBUSTER_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The engine's admin key
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// How fast: `max`, or a factor on the file's own clock (1000: a day in 86 seconds)
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    speed: Speed,
    /// How many invoices at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: u16,
    /// Opening stock of each SKU: `needed` (all the file takes), or a number to see refusals; fees always have enough
    #[arg(long, default_value = "needed", value_parser = parse_stock)]
    stock: OpeningStock,
    /// Which column is what: `online-retail`, `shopify`, or
    /// `invoice=…,sku=…,quantity=…,date=…,price=…[,description=…][,customer=…][,cancellation-prefix=…]`
    #[arg(long, default_value = "online-retail", value_parser = parse_columns)]
    columns: Box<Columns>,
    /// Stock codes that are fees, not goods, comma-separated; `*` at the end matches the rest (default: by --columns)
    #[arg(long)]
    pub fees: Option<String>,
    /// Currency of the prices
    #[arg(long, default_value = "GBP", value_parser = parse_currency)]
    pub currency: String,
    /// Put this before every SKU, to keep a replay apart from what the engine sells otherwise
    #[arg(long, default_value = "")]
    pub sku_prefix: String,
    /// Name of this run; requests of one name are never booked twice (default: from the file and these options)
    #[arg(long)]
    pub run_id: Option<String>,
    /// How long a request is tried again while the engine is away or says "later", in seconds
    #[arg(long, default_value_t = 60)]
    pub patience_s: u64,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What the shop opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpeningStock {
    /// All that the file takes from each SKU.
    Needed,
    /// The same for each.
    Fixed(u32),
}

/// Runs the command; its errors are printed here, because they have an exit code of their own.
pub fn run(arguments: ReplayArguments) -> anyhow::Result<ExitCode> {
    let outcome = actix_rt::System::new().block_on(replay(arguments));
    Ok(match outcome {
        Ok(balanced) if balanced => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_DIFFERENCES),
        Err(failure) => {
            eprintln!("doorbuster replay: {failure:#}");
            ExitCode::from(EXIT_FAILED)
        }
    })
}

async fn replay(arguments: ReplayArguments) -> anyhow::Result<bool> {
    let client = Client::new(Options {
        url: arguments.url.clone(),
        admin_key: arguments.admin_key.clone(),
        patience: Duration::from_secs(arguments.patience_s),
        timeout: Duration::from_secs(30),
    })?;
    let decimals = decimals(&arguments.currency);
    // A file that cannot be read is told before anybody waits for the engine.
    Reader::open(&arguments.file, &arguments.columns, decimals)?;
    client.hello().await?;
    let fees = FeeList::parse(arguments.fees.as_deref().unwrap_or(arguments.columns.fees));
    let run_id = match &arguments.run_id {
        Some(name) => name.clone(),
        None => run_id(&arguments)?,
    };

    let size = std::fs::metadata(&arguments.file).map_or(0, |metadata| metadata.len());
    let bar = bar(size, "reading  {bar:30} {bytes} of {total_bytes}");
    let mut survey =
        Survey::of(&arguments.file, &arguments.columns, &fees, decimals, |bytes| bar.set_position(bytes))?;
    bar.finish_and_clear();

    let mut planner = Planner::new(
        &run_id,
        &arguments.sku_prefix,
        (*arguments.columns).clone(),
        fees,
        std::mem::take(&mut survey.returns),
    );
    let mut books = Books::default();
    let import = import(&client, &arguments, &run_id, &survey, &planner, &mut books).await?;

    let begun = Instant::now();
    let bar = self::bar(
        survey.lines,
        "replaying  {bar:30} {human_pos} of {human_len} lines, {per_sec}, {eta} left",
    );
    let may_sell_out = arguments.stock != OpeningStock::Needed;
    let drive = Drive::new(client.clone(), &arguments.currency, may_sell_out, books);
    let mut reader = Reader::open(&arguments.file, &arguments.columns, decimals)?;
    let mut places = survey.time_order.take().map(Vec::into_iter);
    let next = || {
        if let Some(places) = &mut places {
            let Some(place) = places.next() else { return Ok(None) };
            reader.seek(place.position, place.first_line)?;
        }
        let invoice = reader.next_invoice()?;
        Ok::<_, reader::ReadError>(invoice.map(|(_, invoice)| {
            bar.inc((invoice.lines.len() + invoice.bad.len()) as u64);
            planner.plan(&invoice)
        }))
    };
    let concurrency = usize::from(arguments.concurrency);
    let driven = drive.run(next, concurrency, arguments.speed, survey.begins_s.unwrap_or_default()).await;
    bar.finish_and_clear();
    match driven {
        Ok(()) => {}
        Err(DriveError::File(failure)) => return Err(failure.into()),
        Err(DriveError::Engine(failure)) => {
            bail!("{failure}. Nothing is lost: the same command with --run-id {run_id} goes on from here");
        }
    }
    let took = begun.elapsed();

    let to_read = survey.skus.len() + drive.books().placed_orders().len();
    let bar = self::bar(to_read as u64, "balancing  {bar:30} {human_pos} of {human_len}");
    let engine = audit::audit(&client, &drive, concurrency, |done| bar.set_position(done)).await?;
    bar.finish_and_clear();

    let order_times = drive.order_times();
    let mut books = drive.books();
    let file = books.file_sums();
    let report = Report {
        run_id,
        currency: arguments.currency.clone(),
        decimals,
        lines: survey.lines,
        invoices: survey.invoices,
        skus: survey.skus.len() as u64,
        rounded: survey.rounded,
        import,
        rules: planner.tallies.iter().map(|(rule, tally)| (*rule, *tally)).collect(),
        carried: books.carried,
        units_adjusted: books.units_adjusted,
        file,
        engine,
        differences: std::mem::take(&mut books.differences),
        took,
        orders: Latency::of("cart to paid order", &order_times),
        calls: Vec::new(),
        refusals: Vec::new(),
        faults: 0,
    }
    .measured(&client.tally());
    let balanced = report.differences.is_empty();
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.tables());
    }
    Ok(balanced)
}

/// Sends the catalogue and opens the books with its stock.
async fn import(
    client: &Client,
    arguments: &ReplayArguments,
    run_id: &str,
    survey: &Survey,
    planner: &Planner,
    books: &mut Books,
) -> anyhow::Result<ImportReply> {
    let mut rows = Vec::new();
    for (sku, facts) in &survey.skus {
        let opening = match arguments.stock {
            OpeningStock::Fixed(units) if !facts.is_fee => i64::from(units),
            OpeningStock::Fixed(_) | OpeningStock::Needed => facts.units_needed,
        };
        let sku = planner.named(sku);
        if sku.len() > sku::LENGTH_MAX {
            bail!(
                "with the prefix, SKU `{sku}` is longer than {} characters; use a shorter --sku-prefix",
                sku::LENGTH_MAX
            );
        }
        let name = if facts.name.is_empty() { sku.clone() } else { printable(&facts.name) };
        serde_json::to_writer(
            &mut rows,
            &json!({
                "sku": sku,
                "name": name,
                "price": MoneyReply::new(facts.usual_price(), &arguments.currency),
                "on_hand": opening,
            }),
        )?;
        rows.push(b'\n');
        books.open(sku, opening);
    }
    let answer = client
        .post("import", "/v1/admin/import/skus")
        .key(format!("replay:{run_id}:import"))
        .as_admin()
        .timeout(Duration::from_secs(600))
        .bytes("application/x-ndjson", rows.into())
        .send()
        .await?;
    let import: ImportReply = answer.expect()?;
    if let Some(row) = import.rejected.first() {
        bail!(
            "the engine rejected {} SKUs of the catalogue, the first on line {}: {} ({})",
            import.rejected_total,
            row.line,
            row.message,
            row.code
        );
    }
    Ok(import)
}

/// A name as the engine takes it: no control characters, at most 200 characters.
fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(200).collect()
}

/// A name for this run that the same file and options always give: its keys then find what was done already.
fn run_id(arguments: &ReplayArguments) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hash_file(&arguments.file, &mut hasher)
        .with_context(|| format!("cannot read {}", arguments.file.display()))?;
    let options =
        (arguments.stock, &arguments.columns, &arguments.fees, &arguments.currency, &arguments.sku_prefix);
    hasher.update(format!("{options:?}").as_bytes());
    Ok(hasher.finalize().to_hex().as_str().chars().take(16).collect())
}

pub(crate) fn hash_file(path: &Path, hasher: &mut blake3::Hasher) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut piece)?;
        let Some(piece) = piece.get(..read).filter(|piece| !piece.is_empty()) else { return Ok(()) };
        hasher.update(piece);
    }
}

/// A progress bar on a terminal, nothing elsewhere. Without colours, so `NO_COLOR` is honoured by nature.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match f64::from_str(text) {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        Ok(_) | Err(_) => Err("say `max` or a number above 0, e.g. 1000".to_owned()),
    }
}

fn parse_stock(text: &str) -> Result<OpeningStock, String> {
    if text == "needed" {
        return Ok(OpeningStock::Needed);
    }
    u32::from_str(text)
        .map(OpeningStock::Fixed)
        .map_err(|_| "say `needed` or a whole number of units, e.g. 100".to_owned())
}

/// Boxed, because it is by far the largest of all options.
fn parse_columns(text: &str) -> Result<Box<Columns>, String> {
    Columns::from_str(text).map(Box::new)
}

fn parse_currency(text: &str) -> Result<String, String> {
    let sound = text.len() == 3 && text.bytes().all(|letter| letter.is_ascii_uppercase());
    if sound { Ok(text.to_owned()) } else { Err("say an ISO 4217 code, e.g. GBP".to_owned()) }
}

/// Digits after the decimal point of a currency (ISO 4217): 2, but for these.
fn decimals(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::stub::{Fault, Stub};

    fn sample() -> PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sample_orders.csv")).to_owned()
    }

    fn arguments(url: &str, file: &Path, more: &[&str]) -> ReplayArguments {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: ReplayArguments,
        }
        let line = ["replay", file.to_str().unwrap(), "--url", url].into_iter().chain(more.iter().copied());
        <Line as clap::Parser>::try_parse_from(line).unwrap().arguments
    }

    fn check(fault: Fault, times: usize, options: &[&str], expected: bool) {
        check_file(&sample(), fault, times, options, expected);
    }

    /// Replays a file against a stub as often as told; the books must balance the last time, or must not.
    fn check_file(file: &Path, fault: Fault, times: usize, options: &[&str], expected: bool) {
        actix_rt::System::new().block_on(async {
            let stub = Stub::start(fault);
            let mut balanced = None;
            let mut orders = Vec::new();
            for _ in 0..times {
                let outcome = replay(arguments(&stub.url, file, options)).await;
                balanced = Some(outcome.map_err(|failure| format!("{failure:#}")));
                orders.push(stub.orders());
            }
            assert_eq!(balanced, Some(Ok(expected)), "{fault:?} {options:?}");
            if fault != Fault::KeysForgotten {
                orders.dedup();
                assert_eq!(orders.len(), 1, "a replay begun again must place nothing twice");
            }
            stub.stop().await;
        });
    }

    #[test]
    fn the_sample_balances_and_a_second_replay_books_nothing_twice() {
        check(Fault::None, 2, &["--concurrency", "8"], true);
        check(Fault::None, 1, &["--concurrency", "1", "--speed", "1000000000"], true);
    }

    #[test]
    fn the_real_file_balances() {
        let file =
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail/orders.csv"));
        // It stands beside the checkout only where the project is developed; the sample covers the rest.
        if file.exists() {
            check_file(file, Fault::None, 1, &["--concurrency", "64"], true);
        }
    }

    #[test]
    fn a_file_in_no_time_order_balances_as_well() {
        let text = std::fs::read(sample()).unwrap();
        let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        // Whole invoices change places, as in an export that puts the newest first.
        let header = lines.remove(0);
        let mut invoices: Vec<Vec<&[u8]>> = Vec::new();
        let number = |line: &[u8]| line.split(|byte| *byte == b',').next().unwrap_or_default().to_vec();
        for line in lines {
            match invoices.last_mut() {
                Some(invoice) if number(invoice[0]) == number(line) => invoice.push(line),
                Some(_) | None => invoices.push(vec![line]),
            }
        }
        invoices.reverse();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("newest_first.csv");
        std::fs::write(&file, [vec![header], invoices.concat()].concat().concat()).unwrap();
        check_file(&file, Fault::None, 2, &[], true);
    }

    #[test]
    fn answers_lost_on_the_way_are_asked_for_again() {
        check(Fault::AnswersLost, 1, &[], true);
    }

    #[test]
    fn a_shop_with_too_little_stock_turns_orders_away_and_still_balances() {
        for stock in ["0", "5", "40"] {
            check(Fault::None, 1, &["--stock", stock, "--json"], true);
        }
    }

    #[test]
    fn an_engine_that_loses_something_does_not_balance() {
        check(Fault::UnitLost, 1, &["--json"], false);
        check(Fault::RefundLost, 1, &["--json"], false);
        check(Fault::KeysForgotten, 2, &["--json"], false);
    }

    #[test]
    fn an_engine_that_is_not_there_is_told_with_the_remedy() {
        actix_rt::System::new().block_on(async {
            let arguments = arguments("http://127.0.0.1:1", &sample(), &["--patience-s", "0"]);
            let told = replay(arguments).await.map_err(|failure| failure.to_string());
            assert!(
                told.as_ref().is_err_and(|told| told.contains("is the engine running there?")),
                "{told:?}"
            );
        });
    }

    #[test]
    fn options_are_read_or_refused_with_the_remedy() {
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert_eq!(parse_speed("0.5"), Ok(Speed::Times(0.5)));
        for wrong in ["0", "-1", "nan", "inf", "fast"] {
            assert!(parse_speed(wrong).is_err_and(|told| told.contains("`max`")), "{wrong}");
        }
        assert_eq!(parse_stock("needed"), Ok(OpeningStock::Needed));
        assert_eq!(parse_stock("100"), Ok(OpeningStock::Fixed(100)));
        assert!(parse_stock("-1").is_err() && parse_stock("many").is_err());
        assert!(parse_currency("gbp").is_err() && parse_currency("GBP").is_ok());
        assert_eq!(["GBP", "JPY", "KWD"].map(decimals), [2, 0, 3]);
    }
}
