//! The real binary: started on a port of its own, killed at any moment, started again on the same directory.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use doorbuster_servers::process::{self, Server, Start};
use doorbuster_stripe::Stripe;
use rustix::process::Signal;

use crate::chance::Chance;
use crate::client::{ADMIN_KEY, Client, Met, Request};

/// What signs webhooks.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_payments_proof";

/// Below the ports that the system gives to callers: a connection to a dead engine could otherwise be given the engine's own
/// port, and reach itself.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port there where nobody listens. It is not drawn from the seed: two runs of one seed may run side by side.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    use std::hash::{BuildHasher as _, RandomState};

    let mut chance = Chance::new(RandomState::new().hash_one(std::process::id()));
    for _ in 0..200 {
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(chance.below(span)).unwrap_or(0);
        if process::free_port(Some(port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// How it is to treat payments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) calls_per_second: u32,
    pub(crate) pin_s: u64,
    pub(crate) defer_s: u64,
}

/// An engine that is killed and comes back, always at the same address.
#[derive(Debug)]
pub(crate) struct Engine {
    program: PathBuf,
    place: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    pub(crate) address: SocketAddr,
    running: Mutex<Option<Server>>,
}

impl Engine {
    /// Starts it in `place`, with the stand-in for its Stripe, and waits until it is ready.
    pub(crate) fn start(
        program: Option<&Path>,
        place: &Path,
        port: u16,
        stripe: &Stripe,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let program = find(program)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut arguments: Vec<String> = Vec::new();
        let mut say = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
        say("--data", &place.join("data").to_string_lossy());
        say("--listen", &address.to_string());
        say("--stripe-api-base", &stripe.url());
        say("--stripe-calls-per-second", &settings.calls_per_second.to_string());
        say("--payment-pin-s", &settings.pin_s.to_string());
        say("--payment-defer-s", &settings.defer_s.to_string());
        // Nothing is mended behind the audit's back: what orders and webhooks settle has to be enough.
        say("--reconcile-interval-s", "0");
        say("--log", "warn");
        say("--log-format", "json");
        let environment = vec![
            ("DOORBUSTER_ADMIN_KEY", ADMIN_KEY.to_owned()),
            ("DOORBUSTER_STRIPE_SECRET_KEY", stripe.key().to_owned()),
            ("DOORBUSTER_STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
            // The load shares the machine with its own shoppers and Stripe: what they make late is no overload of the engine's,
            // and refusing under overload has proofs of its own.
            ("DOORBUSTER_LAG_TARGET_MS", "1000".to_owned()),
        ];
        let place = place.to_owned();
        let engine = Self { program, place, arguments, environment, address, running: Mutex::new(None) };
        if let Err(error) = engine.run() {
            if format!("{error:#}").contains("without Stripe") {
                bail!(
                    "{} was built without Stripe, so there is nothing to prove with it; build it with `cargo build --package \
                     doorbuster-http --features stripe --bin doorbuster` and name it in DOORBUSTER",
                    engine.program.display()
                );
            }
            return Err(error);
        }
        Ok(engine)
    }

    fn log(&self) -> PathBuf {
        self.place.join("engine.log")
    }

    fn run(&self) -> anyhow::Result<()> {
        let mut arguments = vec!["serve".to_owned()];
        arguments.extend(self.arguments.iter().cloned());
        let start = Start {
            name: "the engine",
            program: self.program.clone(),
            arguments,
            environment: self.environment.clone(),
            port: self.address.port(),
            log: &self.log(),
            user: None,
            stop_signal: Signal::TERM,
        };
        let met = Met::default();
        let server = Server::start(start, |address| {
            Ok(Client::new(address, &met).attempt(&Request::get("/readyz"))?.status == 200)
        })?;
        *self.running.lock().map_err(|_| anyhow::anyhow!("the engine's keeper panicked"))? = Some(server);
        Ok(())
    }

    fn take(&self) -> anyhow::Result<Server> {
        let taken = self.running.lock().map_err(|_| anyhow::anyhow!("the engine's keeper panicked"))?.take();
        taken.context("the engine does not run")
    }

    /// SIGKILL, and a new start on the same directory; tells how long it was away.
    pub(crate) fn kill_and_restart(&self) -> anyhow::Result<Duration> {
        let mut server = self.take()?;
        server.check_alive()?;
        let began = Instant::now();
        server.kill()?;
        self.run()?;
        Ok(began.elapsed())
    }

    /// Fails if it ended by itself.
    pub(crate) fn check_alive(&self) -> anyhow::Result<()> {
        let mut running = self.running.lock().map_err(|_| anyhow::anyhow!("the engine's keeper panicked"))?;
        // Between a kill and the next start there is none.
        running.as_mut().map_or(Ok(()), Server::check_alive)
    }

    /// SIGTERM, then `doorbuster verify`; what it said where it found something.
    pub(crate) fn stop_and_verify(&self) -> anyhow::Result<Result<(), String>> {
        self.take()?.stop()?;
        let data = self.place.join("data");
        let output = Command::new(&self.program).args(["verify", "--data"]).arg(data).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        Ok(if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", output.status)) })
    }

    /// Lines of its log at level ERROR, oldest first.
    pub(crate) fn errors(&self) -> anyhow::Result<Vec<String>> {
        use std::io::{BufRead as _, BufReader};

        let lines = BufReader::new(File::open(self.log())?).lines();
        let errors = lines.map_while(Result::ok).filter(|line| line.contains("\"level\":\"ERROR\""));
        Ok(errors.collect())
    }
}

fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("doorbuster");
    let path = named.map_or(beside, Path::to_path_buf);
    let found = path.canonicalize().with_context(|| {
        format!("{} is missing; build it (`scripts/proofs/payments` does) or name it", path.display())
    })?;
    ensure!(found.is_file(), "{} is no program", found.display());
    Ok(found)
}
