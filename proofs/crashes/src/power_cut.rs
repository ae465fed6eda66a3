//! `power-cut`: records the running engine, builds the disks that a power cut could leave, and recovers each.
//!
//! An image is a function of its recording, the seed and its number, so a failure is rebuilt by one command.
//! Start at [`run`].

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Programs;
use crate::judge;
use crate::judges::{Judged, Judges};
use crate::moments::cut;
use crate::recording::{Plan, Recording, memory_backed};
use crate::report::{Report, Totals};

/// Build the disk images that a power cut could leave, recover each, and compare with what was acknowledged.
///
/// Runs `doorbuster serve` under a recorder of every write and sync, with shoppers, checkpoints, segment changes, two
/// kills and three starts, some times over with other timings and crowds; then cuts the power at random moments. Only a
/// completed sync is a barrier: whatever it does not cover may be there or not, sector by sector, in any order. Exit code
/// 0: nothing was lost; 1: something was; 2: the proof itself could not be run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    programs: Programs,
    /// How many images, over all recordings
    #[arg(long, default_value_t = 10_000)]
    images: u64,
    /// How many recordings, each with timings and a crowd of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    recordings: u64,
    /// Seed of shoppers, moments and what survives
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of load in each of an engine's three lives, on the average
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Prove the proof: the same against a journal that never syncs (`serve --durability memory`). It must be caught
    #[arg(long)]
    validate: bool,
    /// Processes that judge (default: one a core)
    #[arg(long)]
    jobs: Option<usize>,
    /// Where images are built (default: in memory, /dev/shm)
    #[arg(long, value_name = "DIR")]
    images_in: Option<PathBuf>,
    /// Use this recording instead of making some
    #[arg(long, value_name = "DIR")]
    recording: Option<PathBuf>,
    /// Build only this image, keep it, and say what becomes of it; with --recording and the same --seed
    #[arg(long, requires = "recording", value_name = "NUMBER")]
    image: Option<u64>,
    /// Keep the recordings here
    #[arg(long, conflicts_with = "recording", value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// From so many images on it is the proof, whose recordings must show everything; fewer are a check of seconds, in which
/// no segment may be archived.
const IMAGES_OF_A_PROOF: u64 = 1_000;

/// Runs the command; `true` means that what was to be shown was shown.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if let (Some(recording), Some(number)) = (&arguments.recording, arguments.image) {
        return one(arguments.seed, recording, number);
    }
    // On a real disk, where a sync takes its time: in memory there would hardly be a moment with something unsynced.
    let own = tempfile::Builder::new().prefix("doorbuster-recording.").tempdir()?;
    let place = arguments.keep.as_deref().unwrap_or_else(|| own.path());
    let began = Instant::now();
    let shown = prove(arguments, place, began);
    // What broke a promise is kept, to be looked at; so is a recording that could not be judged.
    if !matches!(shown, Ok(true)) && !arguments.validate && arguments.recording.is_none() {
        eprintln!("the recordings are in {}", place.display());
        let _ = own.keep();
    }
    shown
}

fn prove(arguments: &Arguments, place: &Path, began: Instant) -> anyhow::Result<bool> {
    let images = tempfile::Builder::new()
        .prefix("doorbuster-images.")
        .tempdir_in(memory_backed(arguments.images_in.as_deref()))?;
    let mut judges = Judges::new(arguments.seed, images.path());
    let mut totals = Totals::default();
    match &arguments.recording {
        Some(recorded) => {
            let numbers: Vec<u64> = (0..arguments.images).collect();
            take(&mut judges, &mut totals, recorded, &numbers)?;
        }
        None => {
            for number in 0..arguments.recordings {
                let recorded = record(arguments, place, number)?;
                let numbers: Vec<u64> = (number..arguments.images)
                    .step_by(usize::try_from(arguments.recordings).unwrap_or(usize::MAX))
                    .collect();
                take(&mut judges, &mut totals, &recorded, &numbers)?;
            }
        }
    }
    if arguments.images >= IMAGES_OF_A_PROOF && !arguments.validate {
        totals.must_have_seen_everything()?;
    }
    let recorded_in = began.elapsed();
    let report = judge_all(arguments, &judges, totals, recorded_in)?;
    for (recorded, judged) in &report.failures {
        let kept = recorded.join(format!("image-{}", judged.number));
        let _ = std::fs::remove_dir_all(&kept);
        cut(&Recording::read(recorded)?, arguments.seed, judged.number)?.0.write(&kept)?;
    }
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        report.print();
    }
    Ok(report.is_shown())
}

/// Makes recording `number`.
fn record(arguments: &Arguments, place: &Path, number: u64) -> anyhow::Result<PathBuf> {
    let place = place.join(number.to_string());
    let durability = if arguments.validate { "memory" } else { "local" };
    let plan = Plan::varied(number, arguments.seed, arguments.seconds, durability);
    eprintln!("recording {} of {}: {plan}", number + 1, arguments.recordings);
    Recording::make(&arguments.programs, &place, &plan)?;
    Ok(place)
}

/// Counts what a recording shows, and has some images of it judged later.
fn take(judges: &mut Judges, totals: &mut Totals, place: &Path, numbers: &[u64]) -> anyhow::Result<()> {
    let recording = Recording::read(place)?;
    totals.add(&recording)?;
    judges.add(place, &recording, numbers)
}

/// Builds all images and judges them, on every core.
fn judge_all(
    arguments: &Arguments,
    judges: &Judges,
    totals: Totals,
    recorded_in: Duration,
) -> anyhow::Result<Report> {
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let bar = ProgressBar::new(arguments.images);
    let style =
        "cutting the power  {bar:30} {human_pos} of {human_len} images, {msg} lost, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    bar.set_message("0");
    bar.enable_steady_tick(Duration::from_millis(250));
    let began = Instant::now();
    let report = Mutex::new(Report::new(arguments.seed, arguments.validate, totals));
    judges.judge(jobs.max(1), &|place: &Path, judged: Judged| {
        if let Ok(mut report) = report.lock() {
            report.add(place, judged);
            bar.set_message(report.lost.to_string());
            bar.inc(1);
            // Without a terminal the bar is not seen, and some minutes of silence look like a hang.
            if bar.is_hidden() && report.images.is_multiple_of(500) {
                eprintln!("{} of {} images, {} lost", report.images, arguments.images, report.lost);
            }
        }
    })?;
    bar.finish_and_clear();
    let mut report = report.into_inner().map_err(|_| anyhow::anyhow!("a thread that counts panicked"))?;
    report.took = (recorded_in, began.elapsed());
    ensure!(report.images == arguments.images, "{} images were judged", report.images);
    Ok(report)
}

/// One image, kept, with its verdict.
fn one(seed: u64, place: &Path, number: u64) -> anyhow::Result<bool> {
    let recording = Recording::read(place).context("reading the recording")?;
    let kept = place.join(format!("image-{number}"));
    let (image, time) = cut(&recording, seed, number)?;
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
