//! `doorbuster doctor`: is this machine fit to serve? Each check says what it saw and what to do.
//!
//! What stands on this machine, Postgres and Redis are looked at here, payment providers in `payments`, the rescue copy in
//! `rescue`.

mod payments;
mod rescue;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use comfy_table::Table;
use doorbuster_outlets::link::{Link, LinkOptions};
use doorbuster_outlets::probe;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_postgres::migrations::{self, MigrationError};
use doorbuster_postgres::schema;
use doorbuster_postgres::settings::DatabaseSettings;
use serde::Serialize;

use super::outlets::RedisArguments;
use super::payments::PaymentArguments;
use super::rescue::RescueArguments;
use super::serve::DurabilityChoice;
use super::{Failure, database};

/// Check that this machine is fit to serve.
///
/// Exit code 0: nothing stands in the way; 1: something does.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArguments {
    /// The data directory to be given to serve
    #[arg(long, env = "DOORBUSTER_DATA", default_value = "./data")]
    pub data: PathBuf,
    /// The address to be given to serve
    #[arg(long, env = "DOORBUSTER_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// The Postgres to be given to serve, if any (also read from `DATABASE_URL`)
    #[arg(long, env = "DOORBUSTER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// The Redis to be given to serve, if any
    #[command(flatten)]
    pub redis: RedisArguments,
    /// What an acknowledgement is to mean: `replicated` needs the rescue copy
    #[arg(long, env = "DOORBUSTER_DURABILITY", value_enum, default_value = "local")]
    pub durability: DurabilityChoice,
    /// The rescue copy to be given to serve, if any
    #[command(flatten)]
    pub rescue: RescueArguments,
    /// The payment providers to be given to serve, if any
    #[command(flatten)]
    pub payments: PaymentArguments,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Finding {
    Good,
    /// Serving works, but less well.
    Warning,
    /// Serving does not work.
    Bad,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    finding: Finding,
    seen: String,
    remedy: String,
}

impl Check {
    fn new(name: &'static str, finding: Finding, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = if finding == Finding::Good { String::new() } else { remedy.into() };
        Self { name, finding, seen: seen.into(), remedy }
    }
}

/// Runs the command.
pub fn run(arguments: &DoctorArguments) -> Result<ExitCode, Failure> {
    let mut checks = data_checks(&arguments.data);
    checks.push(open_files());
    checks.push(port(&arguments.listen));
    checks.push(clock());
    checks.push(cores());
    if let Some(settings) = database::settings(arguments.database_url.as_deref())? {
        checks.push(postgres(settings)?);
    }
    checks.extend(rescue::look(arguments)?);
    checks.extend(payments::look(&arguments.payments)?);
    checks.extend(redis(&arguments.redis));
    let bad = checks.iter().any(|check| check.finding == Finding::Bad);
    if arguments.json {
        println!("{}", serde_json::json!({"fit": !bad, "checks": checks}));
    } else {
        let mut table = Table::new();
        super::verify::plain(&mut table);
        table.set_header(["check", "", "seen", "what to do"]);
        for check in &checks {
            let sign = match check.finding {
                Finding::Good => "ok",
                Finding::Warning => "warning",
                Finding::Bad => "FAILED",
            };
            table.add_row([check.name, sign, &check.seen, &check.remedy]);
        }
        println!("{table}");
        println!("{}", if bad { "Not fit to serve yet." } else { "Fit to serve." });
    }
    Ok(if bad { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Removes the probe directory whatever happens.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Opens the data directory, or where there is none yet a probe beside it, and measures its disk.
fn data_checks(data: &Path) -> Vec<Check> {
    let exists = data.join("FORMAT").exists() || data.join("LOCK").exists();
    let (place, _probe) = if exists {
        (data.to_path_buf(), None)
    } else {
        let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
        let parent = absolute.ancestors().skip(1).find(|parent| parent.is_dir()).unwrap_or(Path::new("/"));
        let place = parent.join(format!(".doorbuster-doctor-{}", std::process::id()));
        (place.clone(), Some(Probe(place)))
    };
    let directory = match DataDirectory::open(&place) {
        Ok(directory) => directory,
        Err(error) => {
            let seen = error.to_string();
            return vec![Check::new("data directory", Finding::Bad, seen, "as said")];
        }
    };
    let state = if exists { "writable, not in use" } else { "not there yet, can be made" };
    let mut checks =
        vec![Check::new("data directory", Finding::Good, format!("{}: {state}", data.display()), "")];
    checks.push(match directory.free_bytes() {
        Ok(free) => {
            let finding = match free {
                0..0x1000_0000 => Finding::Bad,
                0x1000_0000..0x8000_0000 => Finding::Warning,
                0x8000_0000.. => Finding::Good,
            };
            Check::new(
                "disk space",
                finding,
                format!("{} MiB free", free >> 20),
                "free space; 2 GiB is a comfortable beginning",
            )
        }
        Err(error) => Check::new("disk space", Finding::Bad, error.to_string(), "as said"),
    });
    checks.push(match flush_times_us(&place) {
        Ok((median, p99)) => {
            let finding = if median > 20_000 { Finding::Warning } else { Finding::Good };
            let seen = format!("median {median} µs, 99th percentile {p99} µs");
            Check::new(
                "flush to disk (4 KiB)",
                finding,
                seen,
                "every acknowledgement waits for one; use a disk with faster fdatasync",
            )
        }
        Err(error) => Check::new(
            "flush to disk (4 KiB)",
            Finding::Bad,
            error.to_string(),
            "use a disk that can be written and synced",
        ),
    });
    checks
}

/// Median and 99th percentile of writing and syncing 4 KiB of a written file, in microseconds.
fn flush_times_us(place: &Path) -> std::io::Result<(u128, u128)> {
    const ROUNDS: usize = 100;
    let path = place.join("doctor.probe");
    let mut file = fs::File::create(&path)?;
    let block = [0x5a_u8; 4096];
    for _ in 0..16 {
        file.write_all(&[0; 4096])?;
    }
    file.sync_all()?;
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let began = Instant::now();
        file.seek(SeekFrom::Start((round % 16 * 4096) as u64))?;
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(began.elapsed().as_micros());
    }
    drop(file);
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok((times[ROUNDS / 2], times[ROUNDS * 99 / 100]))
}

fn open_files() -> Check {
    let remedy = "raise it with `ulimit -n 65536` or LimitNOFILE= in the service; each connection needs one";
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    match limit {
        Some(limit @ 0..=1_023_u64) => Check::new("open files", Finding::Bad, limit.to_string(), remedy),
        Some(limit @ 1_024..=16_383) => Check::new("open files", Finding::Warning, limit.to_string(), remedy),
        Some(limit) => Check::new("open files", Finding::Good, limit.to_string(), remedy),
        None => Check::new("open files", Finding::Good, "not told by this system", remedy),
    }
}

fn port(listen: &str) -> Check {
    match TcpListener::bind(listen) {
        Ok(_) => Check::new("address", Finding::Good, format!("{listen} is free"), ""),
        Err(error) => Check::new(
            "address",
            Finding::Bad,
            format!("{listen}: {error}"),
            "stop what listens there, or choose another with --listen",
        ),
    }
}

fn clock() -> Check {
    let now = jiff::Timestamp::now();
    // 2026-01-01, before the first release: no right clock is behind it.
    let finding = if now.as_second() < 1_767_225_600 { Finding::Bad } else { Finding::Good };
    Check::new("clock", finding, format!("{now:.0}"), "set the clock (e.g. with chrony); expiry goes by it")
}

/// Whether Postgres answers and has our schema. Serving works without it, so nothing here is worse than a warning.
fn postgres(settings: DatabaseSettings) -> Result<Check, Failure> {
    let place = settings.place();
    let settings = settings.named("doorbuster doctor").with_patience(5_000, Duration::from_secs(6));
    let found = database::block_on(async {
        let found = async {
            let mut connection = settings.connect().await?;
            let differences = migrations::check(&mut connection).await?;
            let sql =
                "SELECT current_setting('server_version'), current_setting('transaction_read_only') = 'on'";
            let row = connection.within("asking the server", connection.client().query_one(sql, &[])).await?;
            Ok::<_, MigrationError>((differences, row.get::<_, String>(0), row.get::<_, bool>(1)))
        };
        Ok(found.await)
    })?;
    let check = |finding, seen: String, remedy| Check::new("Postgres", finding, seen, remedy);
    Ok(match found {
        Ok((differences, _, _)) if !differences.is_empty() => check(
            Finding::Warning,
            format!("{place}: the schema was changed by hand: {}", schema::tell(&differences)),
            "undo that; what was changed may keep the projection from going on",
        ),
        Ok((_, _, true)) => check(
            Finding::Warning,
            format!("{place} is read-only"),
            "name the primary; the projection waits until it can write",
        ),
        Ok((_, version, false)) => check(Finding::Good, format!("{place}, {version}, schema up to date"), ""),
        Err(MigrationError::Pending { applied: 0, .. }) => check(
            Finding::Good,
            format!("{place} answers, and has no schema yet: serve or migrate makes it"),
            "",
        ),
        Err(error) => check(Finding::Warning, error.to_string(), "as said; orders go on without it"),
    })
}

fn cores() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let finding = if cores < 2 { Finding::Warning } else { Finding::Good };
    Check::new(
        "cores",
        finding,
        cores.to_string(),
        "one core serves, but the journal's thread then waits for the workers",
    )
}

/// A Redis that is away is no reason not to serve: the journal keeps what it is to be told.
fn redis(arguments: &RedisArguments) -> Option<Check> {
    let url = arguments.url()?;
    let warning = |seen: String, remedy| Check::new("Redis", Finding::Warning, seen, remedy);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Check::new("Redis", Finding::Bad, error.to_string(), "as said"));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(check) => return Some(check),
    };
    let link = match Link::new(&url, LinkOptions::patient("doctor"), runtime.handle().clone()) {
        Ok(link) => link,
        Err(error) => return Some(Check::new("Redis", Finding::Bad, error.to_string(), "as said")),
    };
    let place = link.shown().to_owned();
    Some(match runtime.block_on(probe::look(&link)) {
        Ok(seen) if seen.may_evict() => warning(
            format!("{place}: version {}, maxmemory-policy {}", seen.version, seen.policy),
            "use noeviction or a volatile- policy: when it is full it would throw announcements away",
        ),
        Ok(seen) if !at_least_seven(&seen.version) => warning(
            format!("{place}: version {}", seen.version),
            "use Redis 7 or newer; others are not tested",
        ),
        Ok(seen) => {
            let took = seen.took.as_micros();
            Check::new("Redis", Finding::Good, format!("{place}: version {}, {took} µs", seen.version), "")
        }
        Err(error) => warning(
            format!("{place}: {error}"),
            "start it or mend --redis-url; orders go on without it, announcements wait in the journal",
        ),
    })
}

fn at_least_seven(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7)
}
