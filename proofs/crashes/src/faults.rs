//! `disk`: the real binary on a disk that fails, is full, is slow or writes short; one row each. Start at [`run`].
//!
//! A failing sync must be the last sync: after it the kernel may have thrown the bytes away and call the next one a
//! success. The record proves that none followed. Whatever was acknowledged before is then read off the disk that a
//! power cut at the end would leave, with everything unsynced gone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::client::Client;
use crate::engine::{Engine, Programs, Scene, Word};
use crate::record::{self, Call, Change};
use crate::recording::{Recording, keep_ledger, memory_backed, settle};
use crate::shoppers::{Seen, Shoppers};

/// Let the disk fail under the running engine: syncs and writes that fail, a full disk, a slow one, short writes.
///
/// Exit code 0: every row held; 1: one did not; 2: the proof itself could not be run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    programs: Programs,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Seconds that the slow disk is loaded
    #[arg(long, default_value_t = 5.0)]
    slow_seconds: f64,
    /// Where the engines' data lies (default: in memory, /dev/shm)
    #[arg(long, value_name = "DIR")]
    place: Option<std::path::PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// Scope words of the control file.
const JOURNAL: u64 = 1;
/// See above.
const CHECKPOINT: u64 = 2;

/// Error numbers, as Linux counts them.
const EIO: u64 = 5;
/// See above.
const ENOSPC: u64 = 28;

/// The engine's exit code when its journal failed.
const EXIT_JOURNAL: i32 = 74;

/// Checkpoints often enough that a row of seconds sees many.
const FREQUENT: [&str; 2] = ["--checkpoint-interval-ms", "300"];

/// How soon the engine must have stopped after a failure.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// How much more memory than at rest the engine may take on a slow disk: the shoppers' requests and nothing that grows.
const MEMORY_GROWTH_MAX: u64 = 128 << 20;

type Row = (&'static str, fn(&Stage) -> anyhow::Result<String>);

const ROWS: [Row; 10] = [
    ("journal: fsync says EIO", |stage| stage.sync_fails(JOURNAL)),
    ("journal: a frame's write says EIO", |stage| stage.write_fails(EIO)),
    ("journal: a frame's write says ENOSPC all the same", |stage| stage.write_fails(ENOSPC)),
    ("journal: preparing a segment, fsync says EIO", Stage::preparing_fails),
    ("checkpoint: fsync says EIO", Stage::checkpoint_sync_fails),
    ("checkpoint: one fsync says EIO, later ones succeed", Stage::checkpoint_sync_fails_once),
    ("checkpoint: a write says ENOSPC", Stage::checkpoint_write_fails),
    ("disk full, then space returns", Stage::disk_full),
    ("writes come out short", Stage::short_writes),
    ("each sync takes 500 ms longer", Stage::slow_disk),
];

/// What a row needs.
struct Stage {
    scene: Scene,
    place: std::path::PathBuf,
    seen: Arc<Seen>,
    slow_seconds: f64,
}

/// Runs the command; `true` means that every row held.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let memory = memory_backed(arguments.place.as_deref());
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let rows: Vec<Row> = ROWS.into_iter().filter(|(name, _)| wanted(name)).collect();
    ensure!(!rows.is_empty(), "no row has this name");
    let bar = ProgressBar::new(rows.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos} of {len} rows: {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(250));
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED).set_header([
        "what the disk does",
        "",
        "what was seen",
    ]);
    let (mut told, mut all) = (Vec::new(), true);
    for (name, row) in rows {
        bar.set_message(name);
        let place = tempfile::Builder::new().prefix("doorbuster-disk.").tempdir_in(&memory)?;
        let scene = Scene::new(&arguments.programs, place.path())?;
        let seen = Arc::default();
        let stage =
            Stage { scene, place: place.path().to_path_buf(), seen, slow_seconds: arguments.slow_seconds };
        let outcome = row(&stage);
        let holds = outcome.is_ok();
        let what = outcome.unwrap_or_else(|error| format!("{error:#}"));
        all &= holds;
        table.add_row([name, if holds { "holds" } else { "BROKEN" }, &what]);
        told.push(json!({"row": name, "holds": holds, "seen": what}));
        if !holds {
            eprintln!("{name}: BROKEN: {what}\nkept: {}", place.keep().display());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if arguments.json {
        println!("{:#}", json!({"shown": all, "rows": told}));
    } else {
        println!("{table}");
    }
    Ok(all)
}

impl Stage {
    /// An engine with its SKUs, and some acknowledged changes.
    fn begin(&self) -> anyhow::Result<(Engine, Shoppers)> {
        self.begin_with(&FREQUENT)
    }

    fn begin_with(&self, options: &[&str]) -> anyhow::Result<(Engine, Shoppers)> {
        let engine = self.scene.start(options)?;
        Shoppers::make_skus(engine.address, &self.seen)?;
        let shoppers = Shoppers::open(engine.address, 8, "before", 1, &self.seen);
        let began = Instant::now();
        while self.seen.acknowledged() < 100 {
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "a hundred acknowledgements take half a minute"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((engine, shoppers))
    }

    /// The record so far. While the engine runs its last entry may be half written: then a moment later.
    fn calls(&self) -> anyhow::Result<Vec<Call>> {
        let mut tries = 0;
        loop {
            match record::read(&std::fs::read(self.scene.record())?) {
                Err(_) if tries < 200 => tries += 1,
                read => return read,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The engine must end by itself with the exit code for a failed journal, and say why.
    fn must_stop(&self, mut engine: Engine, shoppers: Shoppers, words: &str) -> anyhow::Result<String> {
        let began = Instant::now();
        while self.scene.get(Word::Faults)? == 0 {
            ensure!(began.elapsed() < Duration::from_secs(30), "the fault was never met");
            std::thread::sleep(Duration::from_millis(1));
        }
        let failed = Instant::now();
        let status = engine.ended(STOPS_WITHIN)?;
        let took = failed.elapsed();
        shoppers.close();
        let status = status.with_context(|| format!("the engine went on for {STOPS_WITHIN:?}"))?;
        ensure!(status.code() == Some(EXIT_JOURNAL), "it ended with {status}, not {EXIT_JOURNAL}");
        let said = self.scene.last_words();
        ensure!(said.contains(words), "its last words do not tell of it: {said}");
        Ok(format!("stopped within {} ms, exit code {EXIT_JOURNAL}", took.as_millis()))
    }

    /// Nothing acknowledged is missing from the disk that is left if the power goes too, and the next start recovers. That
    /// start reads from memory what a failed sync may have kept from the disk; if the power goes only then, nothing is
    /// missing either.
    fn nothing_lost(&self) -> anyhow::Result<String> {
        let (count, images) = self.judge_end().context("power cut when the engine had ended")?;
        self.scene.calm()?;
        let engine = self.scene.start(&FREQUENT)?;
        let shoppers = Shoppers::open(engine.address, 2, "after", 2, &self.seen);
        let before = self.seen.acknowledged();
        let began = Instant::now();
        while self.seen.acknowledged() < before + 10 {
            ensure!(began.elapsed() < Duration::from_secs(10), "after the restart nothing is acknowledged");
            std::thread::sleep(Duration::from_millis(10));
        }
        shoppers.close();
        engine.kill()?;
        let (later, more) = self.judge_end().context("power cut after the restart")?;
        Ok(format!(
            "{count} acknowledgements in {images} images of the disk then, {later} in {more} after a restart: 0 lost"
        ))
    }

    /// Judges the disk as it is now; how many acknowledgements, and in how many images.
    fn judge_end(&self) -> anyhow::Result<(usize, u64)> {
        settle(&self.scene)?;
        keep_ledger(&self.place, &self.seen)?;
        let recording = Recording::read(&self.place)?;
        let images = recording.judge_end(&self.place.join("image"))?;
        Ok((recording.history.placed.len(), images))
    }

    fn sync_fails(&self, scope: u64) -> anyhow::Result<String> {
        let (engine, shoppers) = self.begin()?;
        self.scene.set(Word::Scope, scope)?;
        let syncs = self.scene.get(Word::Syncs)?;
        self.scene.set(Word::SyncErrorFrom, syncs + 20)?;
        let stopped = self.must_stop(engine, shoppers, "journal")?;
        let calls = self.calls()?;
        let failed = calls.iter().position(|call| call.change == Change::Sync && call.error.is_some());
        let failed = &calls[failed.context("the record shows no failed sync")?];
        let inode = failed.inode;
        let after = |call: &&Call| call.change == Change::Sync && Some(call.start) > failed.end;
        let again = calls.iter().filter(after).filter(|call| call.inode == inode).count();
        ensure!(again == 0, "the failed file was synced {again} times more");
        let others = calls.iter().filter(after).count();
        ensure!(others == 0, "{others} syncs of other files began after the failed one");
        Ok(format!("{stopped}; no sync after the failed one; {}", self.nothing_lost()?))
    }

    fn write_fails(&self, error: u64) -> anyhow::Result<String> {
        let (engine, shoppers) = self.begin()?;
        self.scene.set(Word::Scope, JOURNAL)?;
        self.scene.set(Word::WhichWrites, 1)?;
        self.scene.set(Word::WriteError, error)?;
        let writes = self.scene.get(Word::Writes)?;
        self.scene.set(Word::WriteErrorFrom, writes + 20)?;
        let stopped = self.must_stop(engine, shoppers, "journal")?;
        let calls = self.calls()?;
        let failed = calls.iter().find(|call| call.error == i64::try_from(error).ok());
        let failed = failed.context("the record shows no failed write")?;
        let again = |call: &&Call| {
            matches!(call.change, Change::Write { .. })
                && call.inode == failed.inode
                && Some(call.start) > failed.end
        };
        let again = calls.iter().filter(again).count();
        ensure!(again == 0, "{again} writes to the same file after the failed one");
        Ok(format!("{stopped}; no write to that file after it; {}", self.nothing_lost()?))
    }

    /// Only files that have no name yet are synced while they are being prepared.
    fn preparing_fails(&self) -> anyhow::Result<String> {
        let (engine, shoppers) = self.begin()?;
        // The next preparation: its zeros are written before anything of it is synced.
        let preparing = |call: &Call| matches!(&call.change, Change::Create { path } if is_preparing(path));
        let made = self.calls()?.iter().filter(|call| preparing(call)).count();
        let began = Instant::now();
        while self.calls()?.iter().filter(|call| preparing(call)).count() == made {
            ensure!(began.elapsed() < Duration::from_secs(30), "no segment was prepared in half a minute");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.scene.set(Word::Scope, JOURNAL)?;
        self.scene.set(Word::SyncErrorFrom, 1)?;
        let stopped = self.must_stop(engine, shoppers, "journal")?;
        Ok(format!("{stopped}; {}", self.nothing_lost()?))
    }

    /// A checkpoint that fails costs a longer restart: orders go on, and no round counts while it lasts.
    fn checkpoint_goes_on(&self, fail: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<String> {
        let (engine, shoppers) = self.begin()?;
        fail()?;
        let began = Instant::now();
        while self.scene.get(Word::Faults)? == 0 {
            ensure!(began.elapsed() < Duration::from_secs(30), "the fault was never met");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(500));
        let before = self.seen.acknowledged();
        std::thread::sleep(Duration::from_secs(1));
        let went_on = self.seen.acknowledged() - before;
        ensure!(went_on > 0, "orders stopped: {}", self.scene.last_words());
        shoppers.close();
        engine.kill()?;
        let said = std::fs::read_to_string(self.scene.log())?;
        ensure!(said.contains("a checkpoint round failed"), "the log does not tell of it");
        let calls = self.calls()?;
        let failed = calls.iter().find(|call| call.error.is_some()).context("the record shows no failure")?;
        let archived = |call: &&Call| is_archiving(call) && Some(call.start) > failed.end;
        ensure!(
            calls.iter().filter(archived).count() == 0,
            "segments were archived behind a failed checkpoint"
        );
        Ok(format!(
            "said so, {went_on} more acknowledged, nothing archived behind it; {}",
            self.nothing_lost()?
        ))
    }

    fn checkpoint_sync_fails(&self) -> anyhow::Result<String> {
        self.checkpoint_goes_on(|| {
            self.scene.set(Word::Scope, CHECKPOINT)?;
            self.scene.set(Word::SyncErrorFrom, 1)
        })
    }

    /// The store is opened again, and its rounds count again. What the failed sync left unwritten, the kernel calls clean:
    /// the syncs that succeed do not bring it to the disk.
    fn checkpoint_sync_fails_once(&self) -> anyhow::Result<String> {
        let (engine, shoppers) = self.begin()?;
        self.wait_for("a segment archived", |calls| calls.iter().any(is_archiving))?;
        self.scene.set(Word::Scope, CHECKPOINT)?;
        self.scene.set(Word::SyncErrors, 1)?;
        self.scene.set(Word::SyncErrorFrom, self.scene.get(Word::Syncs)? + 1)?;
        let before = self.seen.acknowledged();
        self.wait_for("a segment archived after the failed sync", |calls| {
            let failed = calls.iter().find(|call| call.change == Change::Sync && call.error.is_some());
            failed.is_some_and(|failed| {
                calls.iter().any(|call| is_archiving(call) && Some(call.start) > failed.end)
            })
        })?;
        let went_on = self.seen.acknowledged() - before;
        shoppers.close();
        engine.kill()?;
        let said = std::fs::read_to_string(self.scene.log())?;
        for words in ["a checkpoint round failed", "takes writes again"] {
            ensure!(said.contains(words), "the log does not say `{words}`");
        }
        Ok(format!("opened again, rounds count again, {went_on} more acknowledged; {}", self.nothing_lost()?))
    }

    fn wait_for(&self, what: &str, test: impl Fn(&[Call]) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !test(&self.calls()?) {
            ensure!(began.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn checkpoint_write_fails(&self) -> anyhow::Result<String> {
        self.checkpoint_goes_on(|| {
            self.scene.set(Word::Scope, CHECKPOINT)?;
            self.scene.set(Word::WriteError, ENOSPC)?;
            self.scene.set(Word::WriteErrorFrom, 1)
        })
    }

    /// Only writes that make a file longer fail: what is preallocated is still there.
    fn disk_full(&self) -> anyhow::Result<String> {
        let (mut engine, shoppers) = self.begin()?;
        self.scene.set(Word::WhichWrites, 2)?;
        self.scene.set(Word::WriteError, ENOSPC)?;
        self.scene.set(Word::WriteErrorFrom, 1)?;
        let began = Instant::now();
        while self.seen.refused(503, "storage_full") < 100 {
            if let Some(status) = engine.ended(Duration::ZERO)? {
                anyhow::bail!("the engine ended with {status}: {}", self.scene.last_words());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "storage_full was never answered; {}",
                self.seen.refusals_line()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let read = |path: &str| -> anyhow::Result<u16> {
            Ok(Client::new(engine.address)?.send("GET", path, None, &[], &Value::Null)?.status)
        };
        let id = self.seen.ledger().iter().rev().find(|a| a.id.starts_with("res_")).map(|a| a.id.clone());
        let id = id.context("something was reserved")?;
        for path in
            ["/livez".to_owned(), "/v1/admin/skus/CUT-0/stock".to_owned(), format!("/v1/reservations/{id}")]
        {
            let status = read(&path)?;
            ensure!(status == 200, "while the disk is full, GET {path} is answered {status}");
        }
        self.scene.set(Word::WriteErrorFrom, 0)?;
        let (space, before) = (Instant::now(), self.seen.acknowledged());
        while self.seen.acknowledged() < before + 100 {
            ensure!(
                space.elapsed() < Duration::from_secs(10),
                "ten seconds after space returned writes are refused"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let resumed = space.elapsed().as_millis();
        shoppers.close();
        let refused = self.seen.refused(503, "storage_full");
        let silent = self.seen.without_retry_after.load(Ordering::Relaxed);
        ensure!(silent == 0, "{silent} refusals without Retry-After");
        engine.kill()?;
        Ok(format!(
            "{refused} writes refused 503 storage_full, reads answered 200, resumed by itself after {resumed} ms; {}",
            self.nothing_lost()?
        ))
    }

    fn short_writes(&self) -> anyhow::Result<String> {
        self.scene.set(Word::ShortWrites, 1)?;
        let (engine, shoppers) = self.begin()?;
        std::thread::sleep(Duration::from_secs(1));
        shoppers.close();
        let short = self.scene.get(Word::Faults)?;
        ensure!(short > 0, "no write came out short");
        let status = engine.stop()?;
        ensure!(status.success(), "after SIGTERM it ended with {status}");
        Ok(format!("{short} short writes, all finished; {}", self.nothing_lost()?))
    }

    /// Fewer requests than shoppers have a place, so that some must be refused; honestly, and at once.
    fn slow_disk(&self) -> anyhow::Result<String> {
        let (engine, shoppers) =
            self.begin_with(&["--checkpoint-interval-ms", "300", "--in-flight-max", "64"])?;
        let memory_before = engine.memory_peak()?;
        self.scene.set(Word::Scope, JOURNAL)?;
        self.scene.set(Word::SlowSyncMs, 500)?;
        let more = Shoppers::open(engine.address, 200, "crowd", 3, &self.seen);
        let before = self.seen.acknowledged();
        std::thread::sleep(Duration::from_secs_f64(self.slow_seconds));
        let grown = engine.memory_peak()?.saturating_sub(memory_before);
        let acknowledged = self.seen.acknowledged() - before;
        let slowest_ms = self.seen.slowest_ms.load(Ordering::Relaxed);
        engine.kill()?;
        shoppers.close();
        more.close();
        ensure!(acknowledged > 0, "nothing at all was acknowledged on the slow disk");
        ensure!(
            slowest_ms < 12_000,
            "somebody waited {slowest_ms} ms, longer than a request's deadline of 10 s"
        );
        ensure!(grown < MEMORY_GROWTH_MAX, "memory grew by {} MiB", grown >> 20);
        let silent = self.seen.without_retry_after.load(Ordering::Relaxed);
        ensure!(silent == 0, "{silent} refusals without Retry-After");
        let refused = self.seen.refused(503, "overloaded");
        ensure!(refused > 0, "208 shoppers found 64 places enough: nobody was refused");
        let calls = self.calls()?;
        let slow = |call: &&Call| {
            call.change == Change::Sync && call.end.is_some_and(|end| end - call.start > 400_000_000)
        };
        let slow = calls.iter().filter(slow).count();
        Ok(format!(
            "{slow} slow syncs, {acknowledged} acknowledged, longest wait {slowest_ms} ms, refusals: [{}], memory grew {} MiB; {}",
            self.seen.refusals_line(),
            grown >> 20,
            self.nothing_lost()?
        ))
    }
}

fn is_archiving(call: &Call) -> bool {
    matches!(&call.change, Change::Rename { to, .. } if to.to_string_lossy().contains("archive/"))
}

fn is_preparing(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "preparing")
}
