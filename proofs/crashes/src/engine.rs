//! The real binary as a child process, under the recorder.

use std::fs::File;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::client::{ADMIN_KEY, Client};
use crate::disk::Image;

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the programs are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The engine (default: `doorbuster` beside this program)
    #[arg(long, env = "DOORBUSTER", value_name = "FILE")]
    doorbuster: Option<PathBuf>,
    /// The recorder (default: `libdoorbuster_disk_shim.so` beside this program)
    #[arg(long, env = "DOORBUSTER_DISK_SHIM", value_name = "FILE")]
    shim: Option<PathBuf>,
}

impl Programs {
    fn find(named: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
        let beside = std::env::current_exe()?.with_file_name(name);
        let path = named.map_or(beside, Path::to_path_buf);
        path.canonicalize().with_context(|| {
            format!("{} is missing; build it (`scripts/proofs/crashes` does) or name it", path.display())
        })
    }

    fn engine(&self) -> anyhow::Result<PathBuf> {
        Self::find(self.doorbuster.as_deref(), "doorbuster")
    }

    fn shim(&self) -> anyhow::Result<PathBuf> {
        Self::find(self.shim.as_deref(), "libdoorbuster_disk_shim.so")
    }
}

/// Words of the control file; see `proofs/disk-shim/src/control.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    SyncErrorFrom = 0,
    WriteErrorFrom = 1,
    WriteError = 2,
    WhichWrites = 3,
    ShortWrites = 4,
    SlowSyncMs = 5,
    Scope = 6,
    SyncErrors = 7,
    Syncs = 8,
    Writes = 9,
    Faults = 10,
}

/// One data directory below a recorded one, the record and the control file.
#[derive(Debug)]
pub(crate) struct Scene {
    programs: Programs,
    place: PathBuf,
    control: File,
}

impl Scene {
    /// A new one in `place`, which is made.
    pub(crate) fn new(programs: &Programs, place: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(place.join("disk"))?;
        let place = place.canonicalize()?;
        let control =
            File::options().read(true).write(true).create(true).truncate(true).open(place.join("control"))?;
        control.set_len(4_096)?;
        Ok(Self { programs: programs.clone(), place, control })
    }

    /// The recorded directory.
    pub(crate) fn disk(&self) -> PathBuf {
        self.place.join("disk")
    }

    /// The data directory: below the recorded one, so that its own making is recorded too.
    pub(crate) fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    /// The record.
    pub(crate) fn record(&self) -> PathBuf {
        self.place.join("record")
    }

    /// The engine's words.
    pub(crate) fn log(&self) -> PathBuf {
        self.place.join("engine.log")
    }

    /// Sets a word of the control file.
    pub(crate) fn set(&self, word: Word, value: u64) -> anyhow::Result<()> {
        Ok(self.control.write_all_at(&value.to_le_bytes(), word as u64 * 8)?)
    }

    /// Reads one.
    pub(crate) fn get(&self, word: Word) -> anyhow::Result<u64> {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word as u64 * 8)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Withdraws every fault and forgets what was counted.
    pub(crate) fn calm(&self) -> anyhow::Result<()> {
        Ok(self.control.write_all_at(&[0; 128], 0)?)
    }

    /// Puts the recorder before `command`.
    pub(crate) fn under_recorder(&self, command: &mut Command) -> anyhow::Result<()> {
        command
            .env("LD_PRELOAD", self.programs.shim()?)
            .env("DOORBUSTER_SHIM_ROOT", self.disk())
            .env("DOORBUSTER_SHIM_LOG", self.record())
            .env("DOORBUSTER_SHIM_CONTROL", self.place.join("control"));
        Ok(())
    }

    /// Starts the engine and waits until it is ready.
    pub(crate) fn start(&self, more: &[&str]) -> anyhow::Result<Engine> {
        // Free a moment ago; whoever takes it meanwhile makes the start fail and say so.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(self.programs.engine()?);
        command
            .args(["serve", "--segment-mib", "1", "--log-format", "json"])
            .arg("--data")
            .arg(self.data())
            .args(["--listen", &address.to_string(), "--admin-key", ADMIN_KEY])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.under_recorder(&mut command)?;
        let mut engine = Engine { child: command.spawn()?, address };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = engine.child.try_wait()? {
                bail!("the engine did not start: {status}; its words: {}", self.last_words());
            }
            let ready = Client::new(address)
                .and_then(|mut client| client.send("GET", "/readyz", None, &[], &Value::Null));
            if ready.is_ok_and(|answer| answer.status == 200) {
                return Ok(engine);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the engine was not ready within {PATIENCE:?}; its words: {}", self.last_words())
    }

    /// The end of the engine's log.
    pub(crate) fn last_words(&self) -> String {
        let mut text = String::new();
        let _ = File::open(self.log()).and_then(|mut file| file.read_to_string(&mut text));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// A running engine; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Engine {
    /// SIGKILL.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        anyhow::ensure!(told.success(), "SIGTERM could not be sent");
        self.ended(PATIENCE)?.context("the engine did not stop within a minute of SIGTERM")
    }

    /// Its exit status, once it ends by itself; `None` if it goes on.
    pub(crate) fn ended(&mut self, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let began = Instant::now();
        while began.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }

    /// The most memory it had resident, bytes.
    pub(crate) fn memory_peak(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which the recorder's times are too.
pub(crate) fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The tree below `root` as it is now.
pub(crate) fn tree(root: &Path) -> anyhow::Result<Image> {
    fn walk(root: &Path, below: &Path, image: &mut Image) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                image.directories.push(path.clone());
                walk(root, &path, image)?;
            } else {
                image.files.insert(path.clone(), Arc::new(std::fs::read(root.join(&path))?));
            }
        }
        Ok(())
    }
    let mut image = Image::default();
    walk(root, Path::new(""), &mut image)?;
    Ok(image)
}

/// A file's inode number; 0 where there is none.
pub(crate) fn inode(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.ino())
}
