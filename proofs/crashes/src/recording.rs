//! A recording: the real engine under load and under the recorder, killed once, stopped once, killed again; with the
//! ledger of what it acknowledged. Start at [`Recording::make`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use doorbuster_persistence::directory::DataDirectory;

use crate::chance::Chance;
use crate::disk::Disk;
use crate::engine::{Programs, Scene, Word, inode, monotonic_ns, tree};
use crate::history::History;
use crate::judge::{self, Secrets};
use crate::record::{self, Call, Change};
use crate::shoppers::{Acknowledgement, Promise, Seen, Shoppers};

/// How a recording is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Seconds of load in each of the engine's lives.
    seconds: f64,
    /// Shoppers at a time.
    shoppers: u64,
    /// Time between two rounds of checkpoints.
    checkpoint_ms: u64,
    /// So much longer than this machine's disk each sync takes.
    slow_sync_ms: u64,
    /// Seed of what shoppers do.
    seed: u64,
    /// `local`, or `memory`: the journal that never syncs.
    durability: &'static str,
}

impl Plan {
    /// Share of the seconds, shoppers, checkpoint interval, how much slower syncs are: quiet shops and crowds, checkpoints
    /// that never rest, disks on which much is unsynced at any moment. The first shares go to the ones with segment changes.
    const VARIED: [(f64, u64, u64, u64); 8] = [
        (1.3, 16, 300, 0),
        (1.0, 48, 100, 3),
        (1.0, 8, 50, 0),
        (1.0, 128, 1_000, 10),
        (0.7, 2, 100, 1),
        (1.3, 32, 200, 20),
        (0.7, 24, 50, 5),
        (1.0, 4, 300, 0),
    ];

    /// The plan of recording `number`.
    pub(crate) fn varied(number: u64, seed: u64, seconds: f64, durability: &'static str) -> Self {
        let index = usize::try_from(number % Self::VARIED.len() as u64).unwrap_or(0);
        let (share, shoppers, checkpoint_ms, slow_sync_ms) = Self::VARIED[index];
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number * 3);
        Self { seconds: seconds * share, shoppers, checkpoint_ms, slow_sync_ms, seed, durability }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seconds, shoppers, checkpoint_ms, slow_sync_ms, .. } = self;
        write!(
            f,
            "three lives of {seconds:.1} s, {shoppers} shoppers, a checkpoint every {checkpoint_ms} ms, syncs {slow_sync_ms} ms longer"
        )
    }
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Recording {
    /// Calls by the time they ended.
    pub(crate) calls: Vec<Call>,
    /// The journal's history and the acknowledgements.
    pub(crate) history: History,
    /// Files that never change once something was acknowledged.
    pub(crate) secrets: Secrets,
    /// Inode number of the recorded directory.
    pub(crate) root_inode: u64,
}

impl Recording {
    /// Makes one in `place`.
    pub(crate) fn make(programs: &Programs, place: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let scene = Scene::new(programs, place)?;
        let seen = Arc::new(Seen::default());
        let checkpoint_ms = plan.checkpoint_ms.to_string();
        let options = ["--durability", plan.durability, "--checkpoint-interval-ms", &checkpoint_ms];
        scene.set(Word::SlowSyncMs, plan.slow_sync_ms)?;
        for life in 0..3 {
            let engine = scene.start(&options)?;
            if life == 0 {
                Shoppers::make_skus(engine.address, &seen)?;
            }
            let run = format!("life-{life}");
            let shoppers = Shoppers::open(engine.address, plan.shoppers, &run, plan.seed + life, &seen);
            std::thread::sleep(Duration::from_secs_f64(plan.seconds));
            if life == 1 {
                shoppers.close();
                let status = engine.stop()?;
                ensure!(
                    status.success(),
                    "after SIGTERM the engine ended with {status}: {}",
                    scene.last_words()
                );
            } else {
                engine.kill()?;
                shoppers.close();
            }
            settle(&scene)?;
        }
        keep_ledger(place, &seen)?;
        Self::read(place)
    }

    /// Judges the disk as a power cut at the very end would leave it: once with everything unsynced gone, and some
    /// other ways. Returns how many images were built in `place`.
    pub(crate) fn judge_end(&self, place: &Path) -> anyhow::Result<u64> {
        /// The first seed whose cut keeps nothing unsynced is among so many.
        const IMAGES: u64 = 20;
        let mut disk = Disk::new(self.root_inode);
        for call in &self.calls {
            disk.apply(call)?;
        }
        for number in 0..=IMAGES {
            let image = match number.checked_sub(1) {
                None => disk.bare(),
                Some(seed) => disk.cut(&[], &mut Chance::new(seed))?,
            };
            image.write(place)?;
            let arrived = self.history.arrived(u64::MAX);
            let verdict = judge::judge(&place.join("data"), &self.history, arrived, &self.secrets);
            std::fs::remove_dir_all(place)?;
            ensure!(
                verdict.is_sound(),
                "image {number}: {} lost: {}",
                verdict.lost,
                verdict.wrong.join("; ")
            );
        }
        Ok(IMAGES + 1)
    }

    /// Reads one back.
    pub(crate) fn read(place: &Path) -> anyhow::Result<Self> {
        let disk = place.join("disk").canonicalize().context("a recording has a directory `disk`")?;
        let mut calls = record::read(&std::fs::read(place.join("record"))?)?;
        ensure!(calls.iter().all(|call| call.end.is_some()), "the record has calls without an end");
        calls.sort_by_key(|call| call.end);
        let ledger = std::fs::read_to_string(place.join("ledger"))?;
        let ledger = ledger.lines().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        let data = disk.join("data");
        let directory = DataDirectory::open_offline(&data)?;
        let history = History::read(directory.paths(), directory.engine(), ledger)?;
        let secrets = judge::secrets(&data)?;
        Ok(Self { calls, history, secrets, root_inode: inode(&disk) })
    }

    /// How often each thing happened that a cut must be able to fall upon; refuses a recording without syncs or starts.
    pub(crate) fn sights(&self) -> anyhow::Result<BTreeMap<&'static str, usize>> {
        let count =
            |test: &dyn Fn(&Call) -> bool| self.calls.iter().filter(|call| call.done && test(call)).count();
        let renamed = |call: &Call, from: &str, to: &str| {
            let Change::Rename { from: old, to: new } = &call.change else { return false };
            old.to_string_lossy().contains(from) && new.to_string_lossy().contains(to)
        };
        let sights = BTreeMap::from([
            ("calls recorded", self.calls.len()),
            ("writes", count(&|call| matches!(call.change, Change::Write { .. }))),
            ("syncs", count(&|call| matches!(call.change, Change::Sync))),
            ("sync_file_range, no barrier", count(&|call| matches!(call.change, Change::SyncRange))),
            ("segments begun", count(&|call| renamed(call, ".preparing", ".segment"))),
            ("segments archived", count(&|call| renamed(call, "journal/", "archive/"))),
            ("torn tails cut by the engine's own starts", count(&|call| renamed(call, ".new", ".torn"))),
            (
                "engine lives",
                self.calls.iter().map(|call| call.process).collect::<std::collections::BTreeSet<_>>().len(),
            ),
        ]);
        for needed in ["writes", "syncs", "segments begun"] {
            ensure!(sights[needed] > 0, "the recording shows no {needed}; let it run longer (--seconds)");
        }
        ensure!(sights["engine lives"] >= 3, "the recording shows fewer than three starts");
        Ok(sights)
    }
}

/// Writes down what was acknowledged.
pub(crate) fn keep_ledger(place: &Path, seen: &Seen) -> anyhow::Result<()> {
    let mut file = File::create(place.join("ledger"))?;
    for Acknowledgement { at, promise, id } in seen.ledger() {
        writeln!(file, "{at}\t{promise:?}\t{id}")?;
    }
    Ok(())
}

/// Makes the record whole after an engine's end, and holds it against the directory that is really there.
pub(crate) fn settle(scene: &Scene) -> anyhow::Result<()> {
    let ended_at = monotonic_ns();
    let mut calls = record::read(&std::fs::read(scene.record())?)?;
    let disk_root = scene.disk();
    let left = tree(&disk_root)?;
    let mut disk = Disk::new(inode(&disk_root));
    let mut ended: Vec<&Call> = calls.iter().filter(|call| call.end.is_some()).collect();
    ended.sort_by_key(|call| call.end);
    for call in ended {
        disk.apply(call)?;
    }
    let mut file = File::options().append(true).open(scene.record())?;
    let mut open: Vec<Call> = calls.extract_if(.., |call| call.end.is_none()).collect();
    disk.settle_killed(&mut open, ended_at, &left, &|path: &Path| inode(&disk_root.join(path)))?;
    for call in &open {
        file.write_all(&record::ending(call))?;
    }
    disk.check_against(&left).context("the record and the directory differ: a call went unseen")
}

fn parse(line: &str) -> anyhow::Result<Acknowledgement> {
    const ALL: [Promise; 9] = [
        Promise::Sku,
        Promise::Adjusted,
        Promise::Reserved,
        Promise::Extended,
        Promise::Committed,
        Promise::Released,
        Promise::Cart,
        Promise::Lines,
        Promise::Order,
    ];
    let wrong = || format!("no acknowledgement: {line:?}");
    let fields: Vec<&str> = line.split('\t').collect();
    let [at, promise, id] = fields.as_slice() else { anyhow::bail!(wrong()) };
    let promise = ALL.into_iter().find(|known| format!("{known:?}") == *promise).with_context(wrong)?;
    Ok(Acknowledgement { at: at.parse().with_context(wrong)?, promise, id: (*id).to_owned() })
}

/// Where a place for recordings or images is made: in memory, where there is such a directory.
pub(crate) fn memory_backed(named: Option<&Path>) -> PathBuf {
    let shared = Path::new("/dev/shm");
    named.map_or_else(
        || if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() },
        Path::to_path_buf,
    )
}
