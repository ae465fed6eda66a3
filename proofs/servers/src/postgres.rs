//! One Postgres cluster of our own.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Context as _;
use rustix::process::Signal;

use crate::process::{Server, Start, command, free_port};
use crate::programs::postgres_directory;

/// The user as whom it runs where this program is root: Postgres refuses to be root.
const USER: &str = "postgres";

/// A cluster in a temporary directory, on a port that it keeps over restarts. Gone with this value.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Server>,
    port: u16,
    settings: Vec<String>,
    programs: PathBuf,
    home: tempfile::TempDir,
}

/// The user to run as; `None`: as whoever we are.
pub fn user() -> Option<&'static str> {
    rustix::process::getuid().is_root().then_some(USER)
}

/// Makes an empty cluster in `home`/data, and `home` where it is missing.
pub fn make_cluster(programs: &Path, home: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(home)?;
    if let Some(user) = user() {
        let id = |flag: &str| -> anyhow::Result<u32> {
            let output = Command::new("id").arg(flag).arg(user).output()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            text.parse().with_context(|| format!("there is no user {user}; the package postgresql makes it"))
        };
        chown(home, Some(id("-u")?), Some(id("-g")?))?;
    }
    let output = command(&programs.join("initdb"), user())
        .args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--pgdata",
        ])
        .arg(home.join("data"))
        .current_dir(home)
        .output()
        .context("initdb cannot be run")?;
    anyhow::ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Postgres {
    /// A cluster with Postgres' own defaults for durability, and little memory.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// A cluster with `settings`, each as `name=value`.
    pub fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        let programs = postgres_directory().context(
            "PostgreSQL was not found: apt-get install postgresql (the tests start a server of their own with it)",
        )?;
        let home = tempfile::Builder::new().prefix("doorbuster-postgres-").tempdir()?;
        // Its files are its own user's; on the way there it may pass, not look.
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o711))?;
        make_cluster(&programs, &home.path().join("cluster"))?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut cluster = Self { server: None, port: free_port(None)?, settings, programs, home };
        cluster.run()?;
        Ok(cluster)
    }

    /// One cluster for all tests that hold it at a time; each makes a database of its own in it. Not to be hurt.
    pub fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return Ok(cluster);
        }
        // No test looks whether it survives a power cut.
        let cluster = Arc::new(Self::start_with(&["fsync=off", "synchronous_commit=off"])?);
        *shared = Arc::downgrade(&cluster);
        Ok(cluster)
    }

    /// Starts it again after a stop or a kill, on the same port.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let cluster = self.home.path().join("cluster");
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", cluster.display()),
            format!("port={}", self.port),
            "max_connections=100".to_owned(),
        ];
        settings.extend(self.settings.iter().cloned());
        let mut arguments = vec!["-D".to_owned(), cluster.join("data").display().to_string()];
        arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        let server = Server::start(
            Start {
                name: "PostgreSQL",
                program: self.programs.join("postgres"),
                arguments,
                environment: vec![],
                port: self.port,
                log: &self.home.path().join("postgres.log"),
                user: user(),
                // Fast shutdown: it does not wait for clients.
                stop_signal: Signal::INT,
            },
            |_| Ok(self.psql("postgres", "SELECT 1").is_ok()),
        )?;
        self.server = Some(server);
        Ok(())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a client finds `database`, over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Makes an empty database and returns its URL.
    pub fn fresh_database(&self, name: &str) -> anyhow::Result<String> {
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url(name))
    }

    /// Runs SQL by `psql` through the socket, and returns what it prints: rows as lines, fields parted by `|`.
    pub fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
            .args(["--username=postgres", "--dbname", database, "--port", &self.port.to_string(), "--host"])
            .arg(self.home.path().join("cluster"))
            .args(["--command", sql])
            .stdin(Stdio::null())
            .output()
            .context("psql cannot be run")?;
        let words = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "psql failed: {words}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Stops it in an orderly way; [`Postgres::run`] starts it again.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.server.take().map_or(Ok(()), Server::stop)
    }

    /// Kills all of it; [`Postgres::run`] starts it again.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.take().map_or(Ok(()), Server::kill)
    }

    /// Stops it in its tracks, connections and all.
    pub fn pause(&self) {
        if let Some(server) = &self.server {
            server.signal(Signal::STOP);
        }
    }

    /// Lets it go on after [`Postgres::pause`].
    pub fn resume(&self) {
        if let Some(server) = &self.server {
            server.signal(Signal::CONT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_keeps_port_and_rows_over_a_kill() {
        let mut postgres = Postgres::start().unwrap();
        postgres.fresh_database("shop").unwrap();
        postgres.psql("shop", "CREATE TABLE sold (units int); INSERT INTO sold VALUES (7)").unwrap();
        let url = postgres.url("shop");
        postgres.kill().unwrap();
        assert!(postgres.psql("shop", "SELECT 1").is_err());
        postgres.run().unwrap();
        assert_eq!(
            (postgres.psql("shop", "SELECT units FROM sold").unwrap().as_str(), postgres.url("shop")),
            ("7", url)
        );
        postgres.pause();
        postgres.stop().unwrap();
    }
}
