//! Servers as child processes: started on a port that was free, stopped whatever happens, watched from outside.
//!
//! Laws: (1) nothing is started on a port where somebody listens; (2) a server never outlives its [`Server`], also after
//! a panic, Ctrl-C, or a kill of this process (then the kernel tells the child); (3) whatever a server said last is shown
//! when it fails.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a start may take. A first start of the engine writes a whole journal segment, and one after a kill replays half a
/// million records in four seconds; on a machine whose cores others hold, that was more than a minute.
const START_PATIENCE: Duration = Duration::from_secs(300);

/// How long an orderly stop may take before the server is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C was pressed or SIGTERM came: whoever waits ends, and everything is stopped on the way out.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Catches Ctrl-C and SIGTERM. The second one ends this process at once; the kernel then ends the servers.
pub fn catch_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kind = tokio::signal::unix::SignalKind::terminate();
            let Ok(mut terminate) = tokio::signal::unix::signal(kind) else { return };
            let Ok(mut interrupt) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
            else {
                return;
            };
            let _ = ready.send(());
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(EXIT_INTERRUPTED);
                }
                eprintln!("interrupted: stopping the servers");
            }
        });
    });
    is_ready.recv().context("signals cannot be caught")
}

/// Exit code after Ctrl-C, as shells know it.
const EXIT_INTERRUPTED: i32 = 130;

/// A port of this machine where nobody listens: the one given, or any.
pub fn free_port(wanted: Option<u16>) -> anyhow::Result<u16> {
    let port = wanted.unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        anyhow::anyhow!(
            "port {port} is busy ({error}): a server that somebody left there would be measured instead of ours; \
             stop it, or leave --port out"
        )
    })?;
    Ok(listener.local_addr()?.port())
}

/// A child process that listens; stopped when it is dropped.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    child: Child,
    /// Where it listens; Postgres only in a directory of its own.
    pub address: SocketAddr,
    log: PathBuf,
    stop_signal: Signal,
    is_stopped: bool,
}

/// How a server is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// For messages.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// What it is told.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// The port that it was told to use.
    pub port: u16,
    /// Where it says what it has to say.
    pub log: &'a Path,
    /// As which user; `None` as the own one.
    pub user: Option<&'a str>,
    /// What ends it in an orderly way.
    pub stop_signal: Signal,
}

/// `program` as a child that dies with this process, as `user` if one is named.
pub fn command(program: &Path, user: Option<&str>) -> Command {
    // `setpriv` (util-linux) becomes the program, so the process' number stays. It sets the signal last: a change of
    // the user would take it back.
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--init-groups");
    }
    command.arg("--pdeathsig=TERM").arg("--").arg(program).stdin(Stdio::null());
    // Out of the terminal's group: Ctrl-C is for this process, which then stops the others in order.
    command.process_group(0);
    command
}

impl Server {
    /// Starts it and waits until `ready` says so.
    pub fn start(
        start: Start<'_>,
        ready: impl Fn(SocketAddr) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        let name = start.name;
        free_port(Some(start.port)).with_context(|| format!("{name} was not started"))?;
        let log = File::options().create(true).append(true).open(start.log)?;
        let mut command = command(&start.program, start.user);
        command.args(&start.arguments).envs(start.environment).stdout(log.try_clone()?).stderr(log);
        let child = spawn(command)
            .with_context(|| format!("{name} ({}) cannot be run by setpriv", start.program.display()))?;
        let mut server = Self {
            name,
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, start.port)),
            log: start.log.to_owned(),
            stop_signal: start.stop_signal,
            is_stopped: false,
        };
        let began = Instant::now();
        while began.elapsed() < START_PATIENCE {
            if let Some(status) = server.child.try_wait()? {
                server.is_stopped = true;
                bail!("{name} did not start ({status}); its last words:\n{}", server.last_words());
            }
            if interrupted() {
                bail!("interrupted");
            }
            if ready(server.address).unwrap_or(false) {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{name} was not ready within {START_PATIENCE:?}; its last words:\n{}", server.last_words())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it and to every process below it: Postgres' backends are sessions of their own.
    pub fn signal(&self, signal: Signal) {
        for pid in family(self.pid()) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Kills it and every process below it, as a power cut would, and waits until they are gone.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.is_stopped = true;
        let all = family(self.pid());
        self.signal(Signal::KILL);
        self.child.wait()?;
        let began = Instant::now();
        while all.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            anyhow::ensure!(began.elapsed() < STOP_PATIENCE, "{} left processes behind", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Fails if it ended by itself.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.is_stopped = true;
                bail!("{} ended under load ({status}); its last words:\n{}", self.name, self.last_words())
            }
        }
    }

    /// Stops it in an orderly way.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let status = self.end()?;
        match status {
            Some(_) => Ok(()),
            None => bail!("{} did not stop within {STOP_PATIENCE:?} and was killed", self.name),
        }
    }

    /// Asks it to stop, waits, kills it if it does not; `None` then.
    fn end(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.is_stopped = true;
        let pid = Pid::from_child(&self.child);
        // It may have ended meanwhile; the wait below tells.
        let _ = kill_process(pid, self.stop_signal);
        self.signal(Signal::CONT);
        let began = Instant::now();
        while began.elapsed() < STOP_PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(None)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_stopped {
            let _ = self.end();
        }
    }
}

/// Spawns from a thread that lasts as long as this process: the kernel tells a child of the death of the *thread* that
/// made it, and a test's thread ends with the test.
fn spawn(command: Command) -> anyhow::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in orders {
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).context("the thread that starts servers has ended")?;
    Ok(answer.recv().context("the thread that starts servers has ended")??)
}

/// A process and all below it.
fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // Behind the name in brackets, which may hold anything: state, then the parent.
            Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut all = vec![root];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        all.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    all
}

/// Whether somebody accepts connections at `address`.
pub fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(port: u16) -> Start<'static> {
        Start {
            name: "sleeper",
            program: "sleep".into(),
            arguments: vec!["60".into()],
            environment: vec![],
            port,
            log: Path::new("/dev/null"),
            user: None,
            stop_signal: Signal::TERM,
        }
    }

    #[test]
    fn nothing_is_started_on_a_busy_port() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let refused = Server::start(sleeper(port), |_| Ok(true)).unwrap_err();
        assert!(format!("{refused:#}").contains(&format!("port {port} is busy")), "{refused:#}");
        drop(holder);
        Server::start(sleeper(port), |_| Ok(true)).unwrap().stop().unwrap();
    }

    #[test]
    fn a_server_ends_with_its_owner_also_in_a_panic() {
        let port = free_port(None).unwrap();
        let pid = std::thread::spawn(move || {
            let server = Server::start(sleeper(port), |_| Ok(true)).unwrap();
            std::panic::panic_any(server.pid());
        })
        .join()
        .unwrap_err();
        let pid = *pid.downcast::<u32>().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
    }

    #[test]
    fn a_server_outlives_the_thread_that_started_it_and_a_pause() {
        let port = free_port(None).unwrap();
        let mut server =
            std::thread::spawn(move || Server::start(sleeper(port), |_| Ok(true)).unwrap()).join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        server.check_alive().unwrap();
        server.signal(Signal::STOP);
        server.stop().unwrap();
        let killed = Server::start(sleeper(port), |_| Ok(true)).unwrap();
        let pid = killed.pid();
        killed.kill().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_words() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let start = Start {
            name: "complainer",
            program: "sh".into(),
            arguments: vec!["-c".into(), "echo no such colour; exit 3".into()],
            environment: vec![],
            port: free_port(None).unwrap(),
            log: &log,
            user: None,
            stop_signal: Signal::TERM,
        };
        let failed = Server::start(start, |_| Ok(false)).unwrap_err().to_string();
        assert!(failed.contains("complainer did not start") && failed.contains("no such colour"), "{failed}");
    }
}
