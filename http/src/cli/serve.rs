//! `doorbuster serve`: the composition root's other half. Order matters: the address first (a port in use touches
//! nothing), then recovery (the only start path), then workers, then the banner; at the end the reverse.

use std::io::IsTerminal;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;
use doorbuster_actors::{Engine, EngineOptions, Limits, Readiness};
use doorbuster_engine::payment::PaymentProvider;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::recovery::{Progress, RecoveryReport};
use doorbuster_persistence::writer::Durability;
use indicatif::{ProgressBar, ProgressStyle};

use super::database::{Database, DatabaseArguments};
use super::logging::{self, LogFormat};
use super::outlets::RedisArguments;
use super::payments::PaymentArguments;
use super::rescue::{self, RescueArguments};
use super::{Failure, admin_key, demo, outlets};
use crate::LiveOptions;
use crate::demo::DemoOptions;
use crate::door::{DoorOptions, FrontDoor};
use crate::limits::address::Proxies;
use crate::limits::policy::Policy;
use crate::limits::{RateLimits, SharedCounts};
use crate::metrics;
use crate::server::{self, Doorway, ServerOptions, TlsFiles};

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DurabilityChoice {
    /// On this machine's stable storage
    Local,
    /// On this machine's stable storage and in the rescue copy in Postgres: a lost disk takes nothing that was acknowledged
    Replicated,
    /// Nothing at all: for load tests only, every reply says so
    Memory,
}

/// Run the engine.
///
/// Serves the API on --listen, keeps everything in --data, and recovers from there at every start. Every flag is also an
/// environment variable (DOORBUSTER_…) and a setting of the --config file; a flag beats the environment, the
/// environment beats the file. SIGTERM, SIGHUP and Ctrl-C finish what was begun and exit with 0; a second one exits at once.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArguments {
    /// A TOML file with these settings, e.g. `listen = "0.0.0.0:8080"`; unknown names are refused
    #[arg(long, env = "DOORBUSTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything durable lives; made where it is missing
    #[arg(long, env = "DOORBUSTER_DATA", default_value = "./data", value_name = "DIR")]
    pub data: PathBuf,
    /// Where the API listens
    #[arg(long, env = "DOORBUSTER_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: String,
    /// A second listener for operators: health and metrics without a key. Keep it from strangers
    #[arg(long, env = "DOORBUSTER_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// Threads that serve connections and host actors (default: one a core)
    #[arg(long, env = "DOORBUSTER_WORKERS", value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    pub workers: Option<u16>,
    /// Bring a small catalogue and a demo shop at /demo, and print three curl lines to try
    #[arg(long, env = "DOORBUSTER_DEMO", value_parser = clap::builder::FalseyValueParser::new())]
    pub demo: bool,
    /// Production: the built-in payment provider `fake` is off
    #[arg(long, env = "DOORBUSTER_PRODUCTION", value_parser = clap::builder::FalseyValueParser::new())]
    pub production: bool,
    /// What an acknowledgement means
    #[arg(long, env = "DOORBUSTER_DURABILITY", value_enum, default_value = "local")]
    pub durability: DurabilityChoice,
    /// The rescue copy.
    #[command(flatten)]
    pub rescue: RescueArguments,
    /// The admin key (default: made at first start and kept in the data directory)
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    pub admin_key: Option<String>,
    /// A file that holds the admin key
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY_FILE", conflicts_with = "admin_key", value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// Origin whose pages may call from a browser, e.g. `https://shop.example`; may be given more than once
    #[arg(long, env = "DOORBUSTER_CORS_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// Certificate chain (PEM) to serve HTTPS
    #[arg(long, env = "DOORBUSTER_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "DOORBUSTER_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// How long a request may take before its caller is told that the outcome is unknown
    #[arg(long, env = "DOORBUSTER_REQUEST_DEADLINE_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    pub request_deadline_ms: u64,
    /// How long a request's head may take to arrive
    #[arg(long, env = "DOORBUSTER_HEAD_TIMEOUT_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    pub head_timeout_ms: u64,
    /// How long a request's body may take to arrive; of an import: how long a pause may last
    #[arg(long, env = "DOORBUSTER_BODY_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    pub body_timeout_ms: u64,
    /// How long an idle connection is kept
    #[arg(long, env = "DOORBUSTER_KEEP_ALIVE_S", default_value_t = 75, value_name = "S")]
    pub keep_alive_s: u64,
    /// Connections a worker holds at a time; more wait
    #[arg(long, env = "DOORBUSTER_CONNECTIONS_MAX", default_value_t = 25_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub connections_max: u32,
    /// Requests in the engine at a time; more are refused 503 `overloaded` at once. Each costs about a kilobyte
    #[arg(long, env = "DOORBUSTER_IN_FLIGHT_MAX", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub in_flight_max: u32,
    /// Live streams at a time; more are refused 503 `overloaded`. Each holds a connection and some kilobytes
    #[arg(long, env = "DOORBUSTER_STREAMS_MAX", default_value_t = 10_000, value_name = "N")]
    pub streams_max: u32,
    /// How late a worker may be, through overload, before new requests are refused 503 `overloaded` in part
    #[arg(long, env = "DOORBUSTER_LAG_TARGET_MS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=60_000), value_name = "MS")]
    pub lag_target_ms: u64,
    /// How often strangers may ask: `production`, or a TOML file of limits (docs/rate-limits.md); absent: as often as they like
    #[arg(long, env = "DOORBUSTER_RATE_LIMITS", value_name = "production|FILE")]
    pub rate_limits: Option<String>,
    /// Engines that share the traffic: while they cannot count together, each allows its part
    #[arg(long, env = "DOORBUSTER_RATE_LIMIT_INSTANCES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    pub rate_limit_instances: u32,
    /// What the keys of their common counts in Redis begin with; engines that count together have the same
    #[arg(long, env = "DOORBUSTER_RATE_LIMIT_PREFIX", default_value = "doorbuster", value_parser = outlets::checked_prefix, value_name = "TEXT")]
    pub rate_limit_prefix: String,
    /// A proxy whose X-Forwarded-For is believed, as an address or a network (10.0.0.0/8); may be given more than once
    #[arg(long, env = "DOORBUSTER_TRUSTED_PROXY", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxy: Vec<String>,
    /// Redis
    #[command(flatten)]
    pub redis: RedisArguments,
    /// How long to go on serving after a shutdown signal, for a balancer to notice that /readyz says 503
    #[arg(long, env = "DOORBUSTER_DRAIN_DELAY_MS", default_value_t = 0, value_name = "MS")]
    pub drain_delay_ms: u64,
    /// Size of a journal segment file
    #[arg(long, env = "DOORBUSTER_SEGMENT_MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096), value_name = "MIB")]
    pub segment_mib: u64,
    /// Least time between two checkpoint rounds: shorter ones shorten a restart and cost writes
    #[arg(long, env = "DOORBUSTER_CHECKPOINT_INTERVAL_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=3_600_000), value_name = "MS")]
    pub checkpoint_interval_ms: u64,
    /// Postgres, where what happens can be read by others; it may be away
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// Payments
    #[command(flatten)]
    pub payments: PaymentArguments,
    /// What to log: a level, or target=level pairs
    #[arg(long, env = "DOORBUSTER_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How to log
    #[arg(long, env = "DOORBUSTER_LOG_FORMAT", value_enum, default_value = "auto")]
    pub log_format: LogFormat,
}

/// How long recovery may take before clients are told to wait rather than left in the backlog. A first start, which
/// writes its first journal segment full, takes about a third of it.
const QUIET_RECOVERY: Duration = Duration::from_secs(1);

/// How often samples of histograms are folded, so that they do not pile up while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Exit code after a second signal, as shells know it.
const EXIT_INTERRUPTED: i32 = 130;

/// Exit code when the journal failed while serving.
const EXIT_JOURNAL: i32 = 74;

/// Runs the command.
pub fn run(arguments: ServeArguments) -> Result<ExitCode, Failure> {
    logging::start(&arguments.log, arguments.log_format).map_err(|message| Failure { message, code: 2 })?;
    actix_rt::System::new().block_on(serve(arguments))
}

async fn serve(arguments: ServeArguments) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    // First of all: whatever is made before has meters that nobody reads.
    let recorder = metrics::install_recorder();
    actix_rt::spawn(async move {
        loop {
            actix_rt::time::sleep(UPKEEP).await;
            recorder.run_upkeep();
        }
    });
    let server_options = server_options(&arguments);
    if let Some(files) = &server_options.tls {
        server::check_tls(files)?;
    }
    let places = arguments.database.places()?;
    let outlets = outlets::prepare(&arguments.redis)?;
    let limits = rate_limits(&arguments, outlets.as_ref())?;
    rescue::check(&arguments)?;
    let providers = arguments.payments.providers(arguments.production)?;
    let listener = server::listen(&arguments.listen)?;
    let private_listener = arguments.admin_listen.as_deref().map(server::listen).transpose()?;

    let (engine, report) = recover(&arguments, providers, server_options.workers, &listener).await?;
    let (admin_key, fresh) = admin_key::find(&arguments)?;
    let shipper = rescue::begin(&arguments, &engine)?;
    if let Some(shipper) = &shipper {
        let is_replicated = arguments.durability == DurabilityChoice::Replicated;
        let durable = engine.follow(FrameNumber::FIRST).durable_frame();
        meanwhile_waiting(&listener, rescue::ready(shipper, is_replicated, durable)).await??;
    }
    // Before anybody can know that it serves. Until here a signal simply ends it: recovery may be cut at any point.
    let signals = Signals::new()?;
    let database = places.map(|places| Database::start(&engine, places)).transpose()?;
    let door_options = DoorOptions {
        admin_key: admin_key.clone(),
        providers: engine.providers().iter().map(|provider| provider.name.to_owned()).collect(),
        durability: match arguments.durability {
            DurabilityChoice::Local => "local",
            DurabilityChoice::Replicated => "replicated",
            DurabilityChoice::Memory => "memory",
        },
        request_deadline_ms: arguments.request_deadline_ms,
        body_timeout_ms: arguments.body_timeout_ms,
        lag_target_ms: arguments.lag_target_ms,
        limits,
        origins: arguments.cors_origin.clone(),
        live: LiveOptions {
            streams_max: usize::try_from(arguments.streams_max).unwrap_or(usize::MAX),
            ..LiveOptions::default()
        },
        replication: rescue::replication(&arguments, shipper.as_ref()),
        demo: has_demo_shop(&arguments).then(DemoOptions::default),
        history: database.as_ref().map(Database::history),
        ..DoorOptions::default()
    };
    let door = web::Data::new(FrontDoor::new(engine.clone(), door_options));
    let address =
        listener.local_addr().map_or_else(|_| arguments.listen.clone(), |address| address.to_string());
    let doorway = Doorway::of(&listener)?;
    let server = server::public(door.clone(), listener, &server_options)?;
    let handle = server.handle();
    let running = actix_rt::spawn(server);
    let private =
        private_listener.map(|listener| server::private(door, listener, &server_options)).transpose()?;
    let private_handle = private.as_ref().map(actix_web::dev::Server::handle);
    if let Some(private) = private {
        actix_rt::spawn(private);
    }
    while engine.readiness() == Readiness::Recovering {
        actix_rt::time::sleep(Duration::from_millis(2)).await;
    }
    let outlets =
        outlets.map(|outlets| outlets.start(&arguments.redis, &engine, &arguments.data)).transpose()?;
    arguments.payments.reconcile(&engine);
    if arguments.demo {
        let made = demo::fill(&engine).await;
        let made = made.map_err(|refusal| Failure {
            message: format!("the demo catalogue was refused: {refusal:?}"),
            code: 74,
        })?;
        tracing::info!(made, "demo catalogue");
    }
    tracing::info!(
        address,
        version = env!("CARGO_PKG_VERSION"),
        skus = engine.catalogue().len(),
        records_replayed = report.records_replayed,
        torn_tail_cut = report.cut.is_some(),
        started_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "serving"
    );
    banner(&arguments, &address, &engine, &report, &admin_key, fresh);

    let stopped = async {
        signals.first().await;
        tracing::info!("draining: readyz says 503, what was begun is finished");
        engine.begin_drain();
        actix_rt::time::sleep(Duration::from_millis(arguments.drain_delay_ms)).await;
        // Before the engine refuses anything, so that whoever is inside by now still gets what was asked for.
        doorway.close().await;
        engine.drain().await;
        if let Some(database) = database {
            // Waited for on a thread of its own, a little.
            let _ = actix_rt::task::spawn_blocking(move || database.stop()).await;
        }
        handle.stop(true).await;
        if let Some(private) = private_handle {
            private.stop(false).await;
        }
    };
    tokio::pin!(stopped);
    tokio::select! {
        () = &mut stopped => {}
        () = signals.second() => std::process::exit(EXIT_INTERRUPTED),
    }
    // The server ended by our own stop; an error of its own would have been told while starting.
    let _ = running.await;
    if let Some(outlets) = outlets {
        // Nothing is recorded any more, and what was is announced if Redis is there. It waits in its own thread.
        let _ = web::block(|| outlets.stop()).await;
    }
    if let Some(shipper) = shipper {
        shipper.stop();
    }
    engine.stop();
    tracing::info!("stopped");
    // Everything is on disk; giving millions of entries back to the allocator one by one would only delay the exit.
    std::process::exit(0)
}

/// Whether there is a shop that needs no key. Never in production, where strangers could make drops and crowds.
fn has_demo_shop(arguments: &ServeArguments) -> bool {
    arguments.demo && !arguments.production
}

/// SIGTERM, SIGINT and SIGHUP, counted.
struct Signals {
    count: tokio::sync::watch::Receiver<u32>,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};

        let refuse = |error: std::io::Error| Failure {
            message: format!("cannot listen for signals: {error}"),
            code: 74,
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(refuse)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refuse)?;
        let mut hangup =
            if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup()).map_err(refuse)?) };
        let (sender, count) = tokio::sync::watch::channel(0);
        actix_rt::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = async {
                        match &mut hangup {
                            Some(hangup) => drop(hangup.recv().await),
                            None => std::future::pending().await,
                        }
                    } => {}
                }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { count })
    }

    async fn reach(&self, wanted: u32) {
        // The sender lives as long as the runtime.
        let _ = self.count.clone().wait_for(|count| *count >= wanted).await;
    }

    async fn first(&self) {
        self.reach(1).await;
    }

    async fn second(&self) {
        self.reach(2).await;
    }
}

/// Whether this process was started to outlive its terminal, as by `nohup`; listening for the signal would undo that.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

fn server_options(arguments: &ServeArguments) -> ServerOptions {
    let defaults = ServerOptions::default();
    let tls = arguments.tls_cert.clone().zip(arguments.tls_key.clone());
    ServerOptions {
        workers: arguments.workers.map_or(defaults.workers, usize::from),
        connections_max: usize::try_from(arguments.connections_max).unwrap_or(usize::MAX),
        head_timeout_ms: arguments.head_timeout_ms,
        keep_alive_s: arguments.keep_alive_s,
        cors_origins: arguments.cors_origin.clone(),
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        ..defaults
    }
}

/// The limits asked for, if any.
fn rate_limits(
    arguments: &ServeArguments,
    outlets: Option<&outlets::Prepared>,
) -> Result<Option<Arc<RateLimits>>, Failure> {
    let refuse = |message: String| Failure { message, code: 78 };
    let proxies =
        Proxies::new(&arguments.trusted_proxy).map_err(|what| refuse(format!("--trusted-proxy: {what}")))?;
    let policy = match arguments.rate_limits.as_deref() {
        None => return Ok(None),
        Some("production") => Policy::production(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                refuse(format!(
                    "cannot read the rate limits {file}: {error}; name a readable TOML file, or `production`"
                ))
            })?;
            Policy::parse(&text).map_err(|what| refuse(format!("{file}: {what}")))?
        }
    };
    let counts =
        outlets.map(|outlets| outlets.counts(&arguments.redis, &arguments.rate_limit_prefix)).transpose()?;
    let shared = counts.map(|counts| Arc::new(counts) as Arc<dyn SharedCounts>);
    Ok(Some(Arc::new(RateLimits::new(policy, proxies, shared, arguments.rate_limit_instances))))
}

/// Recovers on a thread of its own; where that takes a while, clients are told to wait meanwhile.
async fn recover(
    arguments: &ServeArguments,
    providers: Vec<Arc<dyn PaymentProvider>>,
    workers: usize,
    listener: &TcpListener,
) -> Result<(Engine, RecoveryReport), Failure> {
    let options = EngineOptions {
        workers,
        durability: match arguments.durability {
            DurabilityChoice::Local => Durability::Local,
            DurabilityChoice::Replicated => Durability::Replicated,
            DurabilityChoice::Memory => Durability::Memory,
        },
        segment_bytes: arguments.segment_mib << 20,
        limits: Limits {
            in_flight_max: usize::try_from(arguments.in_flight_max).unwrap_or(usize::MAX),
            checkpoint_interval: Duration::from_millis(arguments.checkpoint_interval_ms),
            payment_pin: Duration::from_secs(arguments.payments.payment_pin_s),
            ..Limits::default()
        },
        providers,
        when_down: arguments.payments.when_down(),
        on_fatal: Arc::new(|why: &str| {
            // Nothing unrecorded was promised; the next start recovers. Going on would promise what cannot be kept.
            tracing::error!(why, "the journal failed; the process ends so that recovery can speak");
            std::process::exit(EXIT_JOURNAL);
        }),
        ..EngineOptions::new(arguments.data.clone())
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let bar = RecoveryBar::new();
    let shown = bar.clone();
    std::thread::Builder::new()
        .name("recovery".to_owned())
        .spawn(move || {
            let _ = sender.send(Engine::start(options, &mut |progress| shown.show(progress)));
        })
        .map_err(|error| Failure {
            message: format!("cannot start a thread: {error}; look at `ulimit -u`"),
            code: 74,
        })?;
    let outcome = meanwhile_waiting(listener, receiver).await?;
    bar.clear();
    match outcome {
        Ok(started) => Ok(started?),
        Err(_) => Err(Failure {
            message: "recovery ended in an error of its own; report the lines above".to_owned(),
            code: 65,
        }),
    }
}

/// Waits for `work`; where that takes a while, clients are told to wait meanwhile.
async fn meanwhile_waiting<T>(listener: &TcpListener, work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut work = std::pin::pin!(work);
    if let Ok(outcome) = actix_rt::time::timeout(QUIET_RECOVERY, &mut work).await {
        return Ok(outcome);
    }
    let waiting = listener.try_clone().map_err(server::ServerError::from)?;
    let waiting = server::recovering(waiting)?;
    let handle = waiting.handle();
    actix_rt::spawn(waiting);
    let outcome = work.await;
    server::hand_over(handle).await;
    Ok(outcome)
}

/// What a person wants to know first.
fn banner(
    arguments: &ServeArguments,
    address: &str,
    engine: &Engine,
    report: &RecoveryReport,
    admin_key: &str,
    fresh: bool,
) {
    let scheme = if arguments.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    if std::io::stdout().is_terminal() || arguments.demo {
        println!("Doorbuster {} serves {url}", env!("CARGO_PKG_VERSION"));
        println!(
            "  data       {} ({} records replayed in {:.2} s)",
            arguments.data.display(),
            report.records_replayed,
            report.seconds
        );
        println!("  catalogue  {} SKUs", engine.catalogue().len());
        println!("  reference  {url}/docs");
    }
    if has_demo_shop(arguments) {
        println!("  demo shop  {url}/demo");
    }
    if fresh || arguments.demo {
        println!("  admin key  {admin_key}");
    }
    if arguments.durability == DurabilityChoice::Memory {
        println!("  WARNING    --durability memory: acknowledgements are on no disk; for load tests only");
    }
    if arguments.demo {
        println!("\nTry these:\n");
        for line in demo::curl_lines(&url, admin_key) {
            println!("  {line}\n");
        }
    }
}

/// Progress of a recovery or verification on a terminal; silent elsewhere.
#[derive(Clone, Debug)]
pub struct RecoveryBar(ProgressBar);

impl Default for RecoveryBar {
    fn default() -> Self {
        Self::new()
    }
}

impl RecoveryBar {
    /// A bar that shows nothing before it is told something.
    pub fn new() -> Self {
        // indicatif hides it off a terminal.
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{msg:24} {bar:30} {percent:>3}%");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Shows how far it has come.
    pub fn show(&self, progress: Progress) {
        match progress {
            Progress::Checkpoint { rows, rows_total } => self.set("reading the checkpoint", rows, rows_total),
            Progress::Journal { bytes, bytes_total, records: _ } => {
                self.set("replaying the journal", bytes, bytes_total);
            }
            Progress::Laws { entities } => self.set("checking the laws", entities, entities),
        }
    }

    fn set(&self, what: &'static str, done: u64, total: u64) {
        self.0.set_message(what);
        self.0.set_length(total.max(1));
        self.0.set_position(done);
    }

    /// Takes it off the screen.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
