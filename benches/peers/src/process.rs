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
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a start may take. A first start of the engine writes a whole journal segment; on a machine under load
/// that is seconds.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long an orderly stop may take before the server is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C was pressed or SIGTERM came: whoever waits ends, and everything is stopped on the way out.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Catches Ctrl-C and SIGTERM. The second one ends this process at once; the kernel then ends the servers.
pub(crate) fn catch_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ready, is_ready) = std::sync::mpsc::channel();
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
pub(crate) fn free_port(wanted: Option<u16>) -> anyhow::Result<u16> {
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
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    /// Where it listens; Postgres only in a directory of its own.
    pub(crate) address: SocketAddr,
    log: PathBuf,
    stop_signal: Signal,
    is_stopped: bool,
}

/// How a server is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// For messages.
    pub(crate) name: &'static str,
    /// The program and its arguments.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Variables of its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The port that it was told to use.
    pub(crate) port: u16,
    /// Where it says what it has to say.
    pub(crate) log: &'a Path,
    /// As which user; `None` as the own one.
    pub(crate) user: Option<&'a str>,
    /// What ends it in an orderly way.
    pub(crate) stop_signal: Signal,
}

/// `program` as a child that dies with this process, as `user` if one is named.
pub(crate) fn command(program: &Path, user: Option<&str>) -> Command {
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
    pub(crate) fn start(
        start: Start<'_>,
        ready: impl Fn(SocketAddr) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Self> {
        let name = start.name;
        free_port(Some(start.port)).with_context(|| format!("{name} was not started"))?;
        let log = File::options().create(true).append(true).open(start.log)?;
        let child = command(&start.program, start.user)
            .args(&start.arguments)
            .envs(start.environment)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
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
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it ended by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.is_stopped = true;
                bail!("{} ended under load ({status}); its last words:\n{}", self.name, self.last_words())
            }
        }
    }

    /// Stops it in an orderly way.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
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
    pub(crate) fn last_words(&self) -> String {
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

/// Whether somebody accepts connections at `address`.
pub(crate) fn accepts(address: SocketAddr) -> bool {
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
