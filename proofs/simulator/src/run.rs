//! Many seeds on all cores, and seeded bugs until each is caught.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::broken::Broken;
use crate::sometimes::NAMES;
use crate::world::{COMMANDS_MIN, FAULTS_MIN, History, Telling, live};

/// Every so many seeds one is lived twice: it must be the same history.
pub const TWICE_EVERY: u64 = 100;

/// Fewer seeds than this need not reach every rare state.
pub const FULL_RUN_SEEDS: u64 = 1_000;

/// Seeds that found a bug once, with what it was; lived first in every run.
const REGRESSIONS: &str = include_str!("../regressions.txt");

/// What a run came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Histories lived.
    pub seeds: u64,
    /// Those lived twice to compare.
    pub twice: u64,
    /// Commands sent, durable events, faults and lives, over all of them.
    pub commands: u64,
    /// Durable events.
    pub events: u64,
    /// Faults injected.
    pub faults: u64,
    /// Lives of the engine.
    pub lives: u64,
    /// How often each rare state was reached, in the order of [`NAMES`].
    pub reached: Vec<u64>,
    /// In how many histories each was.
    pub reached_in: Vec<u64>,
    /// Histories that broke a law.
    pub broken: Vec<History>,
    /// How long it took.
    pub seconds: f64,
}

impl Summary {
    /// Rare states that no seed reached.
    pub fn never(&self) -> Vec<&'static str> {
        NAMES.iter().zip(&self.reached).filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect()
    }

    /// Whether the run shows what it must.
    pub fn is_sound(&self) -> bool {
        self.broken.is_empty() && (self.seeds < FULL_RUN_SEEDS || self.never().is_empty())
    }

    fn add(&mut self, history: History) {
        self.seeds += 1;
        self.commands += history.commands;
        self.events += history.events;
        self.faults += history.faults;
        self.lives += history.lives;
        self.reached.resize(NAMES.len(), 0);
        self.reached_in.resize(NAMES.len(), 0);
        for ((sum, histories), count) in
            self.reached.iter_mut().zip(&mut self.reached_in).zip(&history.reached)
        {
            *sum += count;
            *histories += u64::from(*count > 0);
        }
        if history.broken.is_some() {
            self.broken.push(history);
        }
    }
}

/// The committed seeds that found a bug once.
pub fn regressions() -> Vec<u64> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let first = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
            first.unwrap_or_else(|| panic!("regressions.txt: `{line}` does not begin with a seed"))
        })
        .collect()
}

/// One history, checked to be long enough and, on request, to be the same when lived again.
pub fn one(seed: u64, twice: bool) -> History {
    let mut history = live(seed, Telling::Silent);
    if history.broken.is_none() && (history.commands < COMMANDS_MIN || history.faults < FAULTS_MIN) {
        let seen = format!("only {} commands and {} faults", history.commands, history.faults);
        history.broken = Some(Broken { law: 0, seen });
    }
    if twice && history.broken.is_none() {
        let again = live(seed, Telling::Silent);
        if again.hash != history.hash {
            let seen = format!("lived twice, two histories: {:x} and {:x}", history.hash, again.hash);
            history.broken = Some(Broken { law: 0, seen });
        }
    }
    history
}

/// Lives `seeds` and the regressions before them, on `threads` threads. Stops early after `broken_max` broken ones.
pub fn run(seeds: &[u64], threads: usize, broken_max: usize, quiet: bool) -> Summary {
    let began = Instant::now();
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(seeds.len() as u64) };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {elapsed} of {duration}, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    let twice = seed % TWICE_EVERY == 0;
                    let history = one(*seed, twice);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.twice += u64::from(twice);
                    summary.add(history);
                    bar.inc(1);
                    bar.set_message(format!("{} broken", summary.broken.len()));
                    if summary.broken.len() >= broken_max {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.broken.sort_by_key(|history| history.seed);
    summary.seconds = began.elapsed().as_secs_f64();
    summary
}

/// The first seed from `from` to `seeds_max` that breaks a law, for a stranger's patch.
pub fn first_broken(from: u64, seeds_max: u64, threads: usize) -> Option<History> {
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let found: Mutex<Vec<History>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds_max {
                        return;
                    }
                    let history = live(seed, Telling::Silent);
                    if history.broken.is_some() {
                        stop.store(true, Ordering::Relaxed);
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(history);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|history| history.seed);
    found.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_run_that_never_reached_a_state_is_not_sound() {
        for (label, seeds, missing, sound) in [
            ("a full run that reached all", FULL_RUN_SEEDS, None, true),
            ("a full run that missed one", FULL_RUN_SEEDS, Some(3), false),
            ("a short run that missed one", FULL_RUN_SEEDS - 1, Some(3), true),
        ] {
            let mut summary = Summary { seeds, reached: vec![1; NAMES.len()], ..Summary::default() };
            if let Some(at) = missing {
                summary.reached[at] = 0;
                assert_eq!(summary.never(), [NAMES[at]], "{label}");
            }
            assert_eq!(summary.is_sound(), sound, "{label}");
        }
    }
}
