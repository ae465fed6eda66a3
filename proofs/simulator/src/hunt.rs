//! Seeded bugs, planted one after the other and hunted until each is caught (`engine/src/mutant.rs`).
//!
//! A catch counts only where it shows the bug: the same seed must be sound without it, and what is seen must be one of the
//! laws that the bug is known to break, so that none is caught by accident. `caught.txt` keeps for each bug the seed that
//! caught it last; [`again`] lives those alone, in seconds. Start at [`hunt`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use doorbuster_engine::mutant::{self, Mutant};
use indicatif::{ProgressBar, ProgressStyle};

use crate::broken::Broken;
use crate::caught::known;
use crate::run;
use crate::world::{Telling, live};

/// What came of the hunt for one bug.
#[derive(Clone, Debug)]
pub struct Hunted {
    /// Which bug.
    pub mutant: Mutant,
    /// The seed that caught it, and what was seen.
    pub by: Option<(u64, Broken)>,
    /// Seeds that broke for another reason: without the bug too, or by a law that the bug does not break.
    pub beside: Vec<(u64, Broken)>,
    /// How long it took.
    pub seconds: f64,
}

/// Whether a law broken is the bug's own doing.
fn is_its_law(mutant: Mutant, broken: &Broken) -> bool {
    mutant.laws().contains(&broken.law)
}

/// Which seeds are sound without a bug: each is asked about once.
#[derive(Debug, Default)]
struct Sound(Mutex<BTreeMap<u64, bool>>);

impl Sound {
    fn is_sound(&self, seed: u64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&seed).copied();
        known.unwrap_or_else(|| {
            let sound = run::one(seed, false).broken.is_none();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, sound);
            sound
        })
    }
}

/// Hunts each of `mutants` with seeds from 1 to `seeds_max`, on `threads` threads.
pub fn hunt(mutants: &[Mutant], seeds_max: u64, threads: usize, quiet: bool) -> Vec<Hunted> {
    each(mutants, threads, quiet, |mutant, sound| track(mutant, 1..=seeds_max, sound))
}

/// Lives the known seed of each bug again, on `threads` threads: what caught it must still catch it. A bug that has none
/// is a survivor.
pub fn again(mutants: &[Mutant], threads: usize, quiet: bool) -> Vec<Hunted> {
    let known = known();
    each(mutants, threads, quiet, |mutant, sound| {
        let seeds = known.iter().filter(|known| known.mutant == mutant).map(|known| known.seed);
        track(mutant, seeds, sound)
    })
}

fn track(mutant: Mutant, seeds: impl Iterator<Item = u64>, sound: &Sound) -> Hunted {
    let began = Instant::now();
    let mut beside = Vec::new();
    let mut by = None;
    for seed in seeds {
        mutant::set(Some(mutant));
        let broken = live(seed, Telling::Silent).broken;
        mutant::set(None);
        let Some(broken) = broken else { continue };
        if is_its_law(mutant, &broken) && sound.is_sound(seed) {
            by = Some((seed, broken));
            break;
        }
        beside.push((seed, broken));
    }
    Hunted { mutant, by, beside, seconds: began.elapsed().as_secs_f64() }
}

fn each(
    mutants: &[Mutant],
    threads: usize,
    quiet: bool,
    track: impl Fn(Mutant, &Sound) -> Hunted + Sync,
) -> Vec<Hunted> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(mutants.len() as u64) };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} mutants, {elapsed}, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (next, sound, hunted) = (AtomicUsize::new(0), Sound::default(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = track(*mutant, &sound);
                    bar.inc(1);
                    bar.set_message(mutant.name());
                    hunted.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut hunted = hunted.into_inner().unwrap_or_else(PoisonError::into_inner);
    hunted.sort_by_key(|found: &Hunted| found.mutant);
    hunted
}
