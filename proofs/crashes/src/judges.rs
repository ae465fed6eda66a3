//! Processes that judge images, one a core, each for a while: sled keeps the memory, the threads and the files of a store
//! that made it panic, so a single process that met thousands of torn stores would grow until the system ended it, and
//! what ended one image would end them all. Start at [`Judges::judge`]; [`work`] is what such a process does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::judge::{self, Verdict};
use crate::moments::{Moments, Player};
use crate::recording::Recording;

/// Images that one process judges: enough to be worth reading the recording, few enough that what sled keeps is little.
const BATCH_IMAGES: usize = 250;

/// Judge images of a recording whose numbers come on standard input, in the order of their moments. For `power-cut`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The recording
    #[arg(long, value_name = "DIR")]
    recording: PathBuf,
    /// Seed of moments and of what survives
    #[arg(long)]
    seed: u64,
    /// Where images are built
    #[arg(long, value_name = "DIR")]
    images_in: PathBuf,
}

/// What became of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// Which.
    pub(crate) number: u64,
    /// Acknowledgements that had arrived by its moment, each of which was looked up.
    pub(crate) promised: u64,
    /// What was found.
    pub(crate) verdict: Verdict,
}

/// Some images of one recording, by time.
struct Batch {
    recording: PathBuf,
    numbers: Vec<u64>,
}

/// Images that wait to be judged.
pub(crate) struct Judges {
    seed: u64,
    images_in: PathBuf,
    waiting: Mutex<Vec<Batch>>,
}

impl Judges {
    /// With nothing to do yet. Images are built below `images_in`.
    pub(crate) fn new(seed: u64, images_in: &Path) -> Self {
        Self { seed, images_in: images_in.to_path_buf(), waiting: Mutex::default() }
    }

    /// Adds images of the recording in `place`.
    pub(crate) fn add(&mut self, place: &Path, recording: &Recording, numbers: &[u64]) -> anyhow::Result<()> {
        let moments = Moments::of(recording)?;
        let mut order: Vec<u64> = numbers.to_vec();
        order.sort_by_cached_key(|number| (moments.of_image(self.seed, *number).0, *number));
        let batches = order.chunks(BATCH_IMAGES);
        let waiting = self.waiting.get_mut().map_err(|_| anyhow::anyhow!("a thread that waits panicked"))?;
        waiting.extend(
            batches.map(|numbers| Batch { recording: place.to_path_buf(), numbers: numbers.to_vec() }),
        );
        Ok(())
    }

    /// Has all of them judged by `jobs` processes at a time, and tells of each image.
    pub(crate) fn judge(&self, jobs: usize, told: &(dyn Fn(&Path, Judged) + Sync)) -> anyhow::Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(|| self.feed(told))).collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a thread that waits for a judge panicked"))??;
            }
            Ok(())
        })
    }

    fn feed(&self, told: &(dyn Fn(&Path, Judged) + Sync)) -> anyhow::Result<()> {
        loop {
            let batch = self.waiting.lock().map_err(|_| anyhow::anyhow!("another thread failed"))?.pop();
            let Some(Batch { recording, mut numbers }) = batch else { return Ok(()) };
            while !numbers.is_empty() {
                let (count, ended) = self.one_process(&recording, &numbers, told)?;
                if let Some(how) = ended {
                    let number = *numbers.get(count).with_context(|| how.clone())?;
                    let wrong = vec![format!("the process that judged it ended: {how}")];
                    let verdict = Verdict { wrong, ..Verdict::default() };
                    told(&recording, Judged { number, promised: 0, verdict });
                    numbers.drain(..=count);
                } else {
                    numbers.clear();
                }
            }
        }
    }

    /// How many images a process judged, and how it ended if that was before the last.
    fn one_process(
        &self,
        recording: &Path,
        numbers: &[u64],
        told: &(dyn Fn(&Path, Judged) + Sync),
    ) -> anyhow::Result<(usize, Option<String>)> {
        let place = tempfile::Builder::new().prefix("judge.").tempdir_in(&self.images_in)?;
        let mut child = self.process(recording, place.path())?;
        let mut asked = child.stdin.take().context("a pipe")?;
        // Some kilobytes: the pipe takes them all at once. A process that ended already is found out about below.
        let list = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("\n");
        let _ = asked.write_all(list.as_bytes());
        drop(asked);
        let mut count = 0;
        for line in BufReader::new(child.stdout.take().context("a pipe")?).lines() {
            let judged: Judged = serde_json::from_str(&line?).context("a judge's words")?;
            told(recording, judged);
            count += 1;
        }
        let status = child.wait()?;
        let whole = status.success() && count == numbers.len();
        Ok((count, (!whole).then(|| status.to_string())))
    }

    fn process(&self, recording: &Path, place: &Path) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("judge")
            .args(["--seed", &self.seed.to_string()])
            .arg("--recording")
            .arg(recording)
            .arg("--images-in")
            .arg(place)
            // `verify` reads a copy of the store, which it makes there.
            .env("TMPDIR", place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.spawn().context("starting a process that judges")
    }
}

/// Judges what standard input asks for.
pub(crate) fn work(arguments: &Arguments) -> anyhow::Result<bool> {
    let recording = Recording::read(&arguments.recording)?;
    let moments = Moments::of(&recording)?;
    let mut player = Player::new(&recording);
    let mut told = std::io::stdout().lock();
    for line in std::io::stdin().lines() {
        let number: u64 = line?.parse()?;
        let (time, mut chance) = moments.of_image(arguments.seed, number);
        let image = player.cut(time, &mut chance)?;
        // A name of its own each time: a store that panicked keeps its files open.
        let place = arguments.images_in.join(number.to_string());
        image.write(&place)?;
        drop(image);
        let arrived = recording.history.arrived(time);
        let verdict = judge::judge(&place.join("data"), &recording.history, arrived, &recording.secrets);
        std::fs::remove_dir_all(&place)?;
        let judged = Judged { number, promised: arrived.len() as u64, verdict };
        serde_json::to_writer(&mut told, &judged)?;
        told.write_all(b"\n")?;
        told.flush()?;
    }
    Ok(true)
}
