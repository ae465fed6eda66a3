//! `power-cut`: records the running engine, builds the disks that a power cut could leave, and recovers each.
//!
//! An image is a function of the recording, the seed and its number, so a failure is rebuilt by one command.
//! Start at [`run`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::chance::Chance;
use crate::disk::{Disk, Image};
use crate::engine::Programs;
use crate::judge::{self, Verdict};
use crate::record::{Call, Change};
use crate::recording::{Plan, Recording, memory_backed};

/// Build the disk images that a power cut could leave, recover each, and compare with what was acknowledged.
///
/// Runs `doorbuster serve` under a recorder of every write and sync, with shoppers, checkpoints, segment changes, two
/// kills and three starts; then cuts the power at random moments. Only a completed sync is a barrier: whatever it does
/// not cover may be there or not, sector by sector, in any order. Exit code 0: nothing was lost; 1: something was; 2:
/// the proof itself could not be run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    programs: Programs,
    /// How many images
    #[arg(long, default_value_t = 10_000)]
    images: u64,
    /// Seed of shoppers, moments and what survives
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of load in each of the engine's three lives
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Shoppers at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    shoppers: u64,
    /// Prove the proof: the same against a journal that never syncs (`serve --durability memory`). It must be caught
    #[arg(long)]
    validate: bool,
    /// Threads (default: one a core)
    #[arg(long)]
    jobs: Option<usize>,
    /// Where images are built (default: in memory, /dev/shm)
    #[arg(long, value_name = "DIR")]
    images_in: Option<PathBuf>,
    /// Use this recording instead of making one
    #[arg(long, value_name = "DIR")]
    recording: Option<PathBuf>,
    /// Build only this image, keep it, and say what becomes of it; with --recording and the same --seed
    #[arg(long, requires = "recording", value_name = "NUMBER")]
    image: Option<u64>,
    /// Keep the recording here
    #[arg(long, conflicts_with = "recording", value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// What all images came to.
#[derive(Debug, Default)]
struct Sums {
    images: u64,
    lost: u64,
    images_with_losses: u64,
    unsound: u64,
    torn: u64,
    began: [u64; 3],
    replayed: u64,
    promised: u64,
    /// The first ones that were unsound.
    failures: Vec<(u64, Verdict)>,
}

/// So many images must show every kind of start, else they prove little.
const IMAGES_WITH_EVERYTHING: u64 = 200;

/// Unsound images shown and kept.
const FAILURES_SHOWN_MAX: usize = 5;

/// Runs the command; `true` means that what was to be shown was shown.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let memory = memory_backed(arguments.images_in.as_deref());
    // On a real disk, where a sync takes its time: in memory there would hardly be a moment with something unsynced.
    let place = tempfile::Builder::new().prefix("doorbuster-recording.").tempdir()?;
    let plan = Plan {
        seconds: arguments.seconds,
        shoppers: arguments.shoppers,
        seed: arguments.seed,
        durability: if arguments.validate { "memory" } else { "local" },
    };
    let (recording, where_it_is) = match (&arguments.recording, &arguments.keep) {
        (Some(recording), _) => (Recording::read(recording)?, recording.clone()),
        (None, Some(keep)) => (Recording::make(&arguments.programs, keep, &plan)?, keep.clone()),
        (None, None) => {
            let made = Recording::make(&arguments.programs, place.path(), &plan);
            let path = place.path().to_path_buf();
            (made.inspect_err(|_| eprintln!("the recording is in {}", path.display()))?, path)
        }
    };
    let images = tempfile::Builder::new().prefix("doorbuster-images.").tempdir_in(&memory)?;
    // sled panics on some damage, and recovery catches that: ten thousand images would print it ten thousand times.
    std::panic::set_hook(Box::new(|_| ()));
    if let Some(number) = arguments.image {
        return one(arguments, &recording, number, &where_it_is);
    }
    let sights = recording.sights()?;
    let began = Instant::now();
    let sums = all(arguments, &recording, images.path())?;
    let took = began.elapsed();
    for (number, _) in &sums.failures {
        let kept = where_it_is.join(format!("image-{number}"));
        cut(&recording, arguments.seed, *number)?.0.write(&kept)?;
    }
    let shown = report(arguments, &recording, &sights, &sums, took, &where_it_is);
    if sums.unsound > 0 && !arguments.validate && arguments.keep.is_none() {
        let _ = place.keep();
    }
    Ok(shown)
}

fn report(
    arguments: &Arguments,
    recording: &Recording,
    sights: &BTreeMap<&'static str, usize>,
    sums: &Sums,
    took: Duration,
    place: &Path,
) -> bool {
    let missing: Vec<&str> = recording
        .history
        .placed
        .iter()
        .filter(|placed| placed.frame.is_none())
        .map(|placed| placed.acknowledgement.id.as_str())
        .collect();
    let [no_checkpoint, mark, set_aside] = sums.began;
    let unseen: Vec<&str> =
        [("a torn tail", sums.torn), ("a checkpoint's mark", mark), ("no checkpoint", no_checkpoint)]
            .into_iter()
            .filter(|(_, count)| *count == 0 && sums.images >= IMAGES_WITH_EVERYTHING)
            .map(|(what, _)| what)
            .collect();
    let shown = if arguments.validate {
        sums.lost > 0
    } else {
        sums.unsound == 0 && sums.promised > 0 && missing.is_empty() && unseen.is_empty()
    };
    if arguments.json {
        let failures: Vec<_> = sums
            .failures
            .iter()
            .map(|(number, verdict)| json!({"image": number, "lost": verdict.lost, "wrong": verdict.wrong}))
            .collect();
        let report = json!({
            "shown": shown, "validate": arguments.validate, "seed": arguments.seed, "recording": sights,
            "acknowledgements": recording.history.placed.len(), "frames": recording.history.next_frame - 1,
            "records": recording.history.records, "images": sums.images, "lost": sums.lost,
            "images_with_losses": sums.images_with_losses, "unsound_images": sums.unsound,
            "torn_tails_cut": sums.torn, "began_without_checkpoint": no_checkpoint, "began_at_mark": mark,
            "checkpoint_set_aside": set_aside, "records_replayed": sums.replayed,
            "promises_checked": sums.promised, "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "failures": failures,
        });
        println!("{report:#}");
        return shown;
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    for (what, count) in sights {
        table.add_row([(*what).to_owned(), count.to_string()]);
    }
    for (what, count) in [
        ("acknowledgements", recording.history.placed.len() as u64),
        ("journal frames", recording.history.next_frame - 1),
        ("journal records", recording.history.records),
        ("images of power cuts", sums.images),
        ("  with a torn tail, cut", sums.torn),
        ("  recovered from a checkpoint's mark", mark),
        ("  recovered without a checkpoint", no_checkpoint),
        ("  checkpoint unsound, set aside, rebuilt", set_aside),
        ("acknowledgements checked, over all images", sums.promised),
        ("images with a lost acknowledgement", sums.images_with_losses),
        ("acknowledgements lost, over all images", sums.lost),
        ("unsound images", sums.unsound),
    ] {
        table.add_row([what.to_owned(), count.to_string()]);
    }
    println!("{table}");
    println!("seed {}, {:.1} s", arguments.seed, took.as_secs_f64());
    if arguments.validate {
        if shown {
            println!("The journal that never syncs was caught: the proof can fail.");
        } else {
            println!("The journal that never syncs lost nothing: this proof proves nothing.");
        }
        return shown;
    }
    for id in missing.iter().take(FAILURES_SHOWN_MAX) {
        println!("  {id} was acknowledged and is in no frame of the journal");
    }
    for (number, verdict) in &sums.failures {
        println!("image {number}: {} lost", verdict.lost);
        for wrong in &verdict.wrong {
            println!("  {wrong}");
        }
        println!(
            "  kept; again: doorbuster-crashes power-cut --recording {} --seed {} --image {number}",
            place.display(),
            arguments.seed
        );
    }
    for what in unseen {
        println!("no image shows {what}: too few or too tame to prove anything");
    }
    println!("{}", if shown { "Nothing acknowledged was lost." } else { "A promise was broken." });
    shown
}

/// Builds all images and judges them, on every core.
fn all(arguments: &Arguments, recording: &Recording, memory: &Path) -> anyhow::Result<Sums> {
    let jobs =
        arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let moments = Moments::of(recording)?;
    let mut order: Vec<(u64, u64)> =
        (0..arguments.images).map(|number| (moments.of_image(arguments.seed, number).0, number)).collect();
    order.sort_unstable();
    let bar = ProgressBar::new(arguments.images);
    let style =
        "cutting the power  {bar:30} {human_pos} of {human_len} images, {msg} lost, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    bar.set_message("0");
    bar.enable_steady_tick(Duration::from_millis(250));
    let sums = Mutex::new(Sums::default());
    let (lost, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let workers = AtomicUsize::new(0);
    let work = || -> anyhow::Result<()> {
        let worker = workers.fetch_add(1, Ordering::Relaxed);
        let mut player = Player::new(recording);
        for (time, number) in order.iter().skip(worker).step_by(jobs) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let image = player.cut(*time, &mut moments.of_image(arguments.seed, *number).1)?;
            let place = memory.join(format!("{worker}"));
            image.write(&place)?;
            let arrived = recording.history.arrived(*time);
            let verdict = judge::judge(&place.join("data"), &recording.history, arrived, &recording.secrets);
            std::fs::remove_dir_all(&place)?;
            bar.set_message((lost.fetch_add(verdict.lost, Ordering::Relaxed) + verdict.lost).to_string());
            bar.inc(1);
            let mut sums = sums.lock().map_err(|_| anyhow::anyhow!("another thread failed"))?;
            sums.add(*number, arrived.len() as u64, verdict);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    let done = work();
                    if done.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    done
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread that builds images panicked"))??;
        }
        anyhow::Ok(())
    })?;
    bar.finish_and_clear();
    sums.into_inner().map_err(|_| anyhow::anyhow!("a thread that builds images panicked"))
}

impl Sums {
    fn add(&mut self, number: u64, promised: u64, verdict: Verdict) {
        self.images += 1;
        self.promised += promised;
        self.lost += verdict.lost;
        self.images_with_losses += u64::from(verdict.lost > 0);
        self.torn += u64::from(verdict.torn);
        self.began[verdict.began] += 1;
        self.replayed += verdict.replayed;
        if !verdict.is_sound() {
            self.unsound += 1;
            self.failures.push((number, verdict));
            // The gravest first.
            self.failures.sort_by_key(|(number, verdict)| (std::cmp::Reverse(verdict.lost), *number));
            self.failures.truncate(FAILURES_SHOWN_MAX);
        }
    }
}

/// One image, kept, with its verdict.
fn one(arguments: &Arguments, recording: &Recording, number: u64, place: &Path) -> anyhow::Result<bool> {
    let kept = place.join(format!("image-{number}"));
    let (image, time) = cut(recording, arguments.seed, number)?;
    let _ = std::fs::remove_dir_all(&kept);
    image.write(&kept)?;
    let trial = place.join(format!("image-{number}-recovered"));
    let _ = std::fs::remove_dir_all(&trial);
    image.write(&trial)?;
    let arrived = recording.history.arrived(time);
    let verdict = judge::judge(&trial.join("data"), &recording.history, arrived, &recording.secrets);
    println!("image {number}, cut at {time} ns, {} acknowledgements had arrived", arrived.len());
    println!("as the cut left it: {}\nafter its recovery: {}", kept.display(), trial.display());
    println!("{verdict:#?}");
    Ok(verdict.is_sound())
}

/// The image of this number and its moment.
fn cut(recording: &Recording, seed: u64, number: u64) -> anyhow::Result<(Image, u64)> {
    let (time, mut chance) = Moments::of(recording)?.of_image(seed, number);
    Ok((Player::new(recording).cut(time, &mut chance)?, time))
}

/// Plays the recording forward from cut to cut.
struct Player<'a> {
    recording: &'a Recording,
    disk: Disk,
    played: usize,
}

impl<'a> Player<'a> {
    /// A call under way at a cut ended at most so many calls later.
    const UNDER_WAY_MAX: usize = 4_096;

    fn new(recording: &'a Recording) -> Self {
        Self { recording, disk: Disk::new(recording.root_inode), played: 0 }
    }

    fn cut(&mut self, time: u64, chance: &mut Chance) -> anyhow::Result<Image> {
        let calls = &self.recording.calls;
        while let Some(call) = calls.get(self.played).filter(|call| call.end.is_some_and(|end| end <= time)) {
            self.disk.apply(call)?;
            self.played += 1;
        }
        let later = calls[self.played..].iter().take(Self::UNDER_WAY_MAX);
        let under_way: Vec<&Call> = later.filter(|call| call.start <= time).collect();
        self.disk.cut(&under_way, chance)
    }
}

/// When the power fails: at any time, or at a call chosen so that rare kinds come as often as frequent ones.
struct Moments<'a> {
    calls: &'a [Call],
    kinds: Vec<Vec<usize>>,
    first: u64,
    last: u64,
}

impl<'a> Moments<'a> {
    fn of(recording: &'a Recording) -> anyhow::Result<Self> {
        let calls = recording.calls.as_slice();
        let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut names: std::collections::HashMap<u64, String> = std::collections::HashMap::new();
        for (index, call) in calls.iter().enumerate() {
            let part = |path: &Path| {
                let parts: Vec<_> =
                    path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
                parts.get(1).map_or_else(String::new, ToString::to_string)
            };
            let kind = match &call.change {
                Change::Create { path } | Change::MakeDirectory { path } => {
                    names.insert(call.inode, part(path));
                    format!("create {}", part(path))
                }
                Change::Rename { from, to } => format!("rename {} {}", part(from), to.components().count()),
                Change::Unlink { path } => format!("unlink {}", part(path)),
                Change::Empty => "empty".to_owned(),
                Change::Write { .. } => format!("write {:?}", names.get(&call.inode)),
                Change::SetLength { .. } => format!("length {:?}", names.get(&call.inode)),
                Change::Allocate { .. } => "allocate".to_owned(),
                Change::Sync => format!("sync {:?}", names.get(&call.inode)),
                Change::SyncRange => "range".to_owned(),
            };
            kinds.entry(kind).or_default().push(index);
        }
        let first = calls.iter().map(|call| call.start).min().context("the recording is empty")?;
        let last = calls.last().and_then(|call| call.end).context("the recording is empty")?;
        ensure!(last > first, "the recording is empty");
        Ok(Self { calls, kinds: kinds.into_values().collect(), first, last })
    }

    /// The moment of an image, and the chance that draws the rest of it.
    fn of_image(&self, seed: u64, number: u64) -> (u64, Chance) {
        let mut chance = Chance::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(number));
        if chance.percent(50) {
            return (self.first + chance.below(self.last - self.first + 1), chance);
        }
        let kind = &self.kinds[chance.index(self.kinds.len())];
        let call = &self.calls[kind[chance.index(kind.len())]];
        let end = call.end.unwrap_or(call.start);
        let time = match chance.below(4) {
            0 => call.start + chance.below(end - call.start + 1),
            1 => end,
            // A moment later: its sync has not ended, or what came after it in other threads is under way.
            2 => end + chance.below(20_000),
            _ => end + chance.below(200_000),
        };
        (time.min(self.last), chance)
    }
}
