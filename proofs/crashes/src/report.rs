//! What a proof of power cuts saw: the recordings, the images, and what was wrong. Start at [`Report::is_shown`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::judges::Judged;
use crate::recording::Recording;

/// So many images must show every kind of start, else they prove little.
const IMAGES_WITH_EVERYTHING: u64 = 200;

/// Unsound images shown and kept.
const FAILURES_SHOWN_MAX: usize = 5;

/// Lost promises named, and reasons why stores were set aside.
const NAMES_SHOWN_MAX: usize = 8;

/// What all recordings show.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    recordings: u64,
    /// How often each thing happened that a cut must be able to fall upon.
    sights: BTreeMap<&'static str, u64>,
    acknowledgements: u64,
    frames: u64,
    records: u64,
    /// Acknowledgements that are in no frame of their recording's journal.
    missing: Vec<String>,
}

impl Totals {
    /// Counts a recording.
    pub(crate) fn add(&mut self, recording: &Recording) -> anyhow::Result<()> {
        self.recordings += 1;
        for (what, count) in recording.sights()? {
            *self.sights.entry(what).or_default() += count as u64;
        }
        let history = &recording.history;
        self.acknowledgements += history.placed.len() as u64;
        self.frames += history.next_frame - 1;
        self.records += history.records;
        let missing = history.placed.iter().filter(|placed| placed.frame.is_none());
        self.missing.extend(missing.map(|placed| placed.acknowledgement.id.clone()));
        Ok(())
    }

    /// Refuses recordings that lack something.
    pub(crate) fn must_have_seen_everything(&self) -> anyhow::Result<()> {
        for (what, count) in &self.sights {
            let is_rare = what.contains("torn");
            ensure!(*count > 0 || is_rare, "the recordings show no {what}; let them run longer (--seconds)");
        }
        Ok(())
    }
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Report {
    seed: u64,
    validate: bool,
    totals: Totals,
    /// Images judged.
    pub(crate) images: u64,
    /// Acknowledgements lost, over all images.
    pub(crate) lost: u64,
    images_with_losses: u64,
    unsound: u64,
    torn: u64,
    began: [u64; 3],
    replayed: u64,
    promised: u64,
    /// Why stores were set aside, and how often.
    set_aside: BTreeMap<String, u64>,
    /// The gravest unsound images, each with its recording.
    pub(crate) failures: Vec<(PathBuf, Judged)>,
    /// How long recording and judging took.
    pub(crate) took: (Duration, Duration),
}

impl Report {
    /// Before the first image.
    pub(crate) fn new(seed: u64, validate: bool, totals: Totals) -> Self {
        Self {
            seed,
            validate,
            totals,
            images: 0,
            lost: 0,
            images_with_losses: 0,
            unsound: 0,
            torn: 0,
            began: [0; 3],
            replayed: 0,
            promised: 0,
            set_aside: BTreeMap::new(),
            failures: Vec::new(),
            took: (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Counts an image of the recording in `place`.
    pub(crate) fn add(&mut self, place: &Path, judged: Judged) {
        let verdict = &judged.verdict;
        self.images += 1;
        self.promised += judged.promised;
        self.lost += verdict.lost;
        self.images_with_losses += u64::from(verdict.lost > 0);
        self.torn += u64::from(verdict.torn);
        self.began[verdict.began] += 1;
        self.replayed += verdict.replayed;
        if let Some(why) = &verdict.set_aside {
            *self.set_aside.entry(without_numbers(why)).or_default() += 1;
        }
        if !verdict.is_sound() {
            self.unsound += 1;
            self.failures.push((place.to_path_buf(), judged));
            // The gravest first.
            self.failures.sort_by_key(|(_, judged)| (std::cmp::Reverse(judged.verdict.lost), judged.number));
            self.failures.truncate(FAILURES_SHOWN_MAX);
        }
    }

    /// Whether what was to be shown is shown.
    pub(crate) fn is_shown(&self) -> bool {
        if self.validate {
            return self.lost > 0;
        }
        let is_sound = self.unsound == 0 && self.totals.missing.is_empty();
        is_sound && self.promised > 0 && self.unseen().is_empty()
    }

    /// Kinds of starts that no image had.
    fn unseen(&self) -> Vec<&'static str> {
        let [no_checkpoint, mark, _] = self.began;
        let kinds =
            [("a torn tail", self.torn), ("a checkpoint's mark", mark), ("no checkpoint", no_checkpoint)];
        let enough = self.images >= IMAGES_WITH_EVERYTHING;
        let unseen = kinds.into_iter().filter(|(_, count)| *count == 0 && enough && !self.validate);
        unseen.map(|(what, _)| what).collect()
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> Value {
        let [no_checkpoint, mark, set_aside] = self.began;
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(place, judged)| {
                let verdict = &judged.verdict;
                json!({"recording": place, "image": judged.number, "lost": verdict.lost, "wrong": verdict.wrong})
            })
            .collect();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        json!({
            "shown": self.is_shown(), "validate": self.validate, "seed": self.seed,
            "recordings": self.totals.recordings, "recording": self.totals.sights,
            "acknowledgements": self.totals.acknowledgements, "frames": self.totals.frames,
            "records": self.totals.records, "images": self.images, "lost": self.lost,
            "images_with_losses": self.images_with_losses, "unsound_images": self.unsound,
            "torn_tails_cut": self.torn, "began_without_checkpoint": no_checkpoint, "began_at_mark": mark,
            "checkpoint_set_aside": set_aside, "set_aside_because": self.set_aside,
            "records_replayed": self.replayed, "promises_checked": self.promised,
            "recorded_ms": milliseconds(self.took.0), "judged_ms": milliseconds(self.took.1),
            "failures": failures,
        })
    }

    /// The report for people.
    pub(crate) fn print(&self) {
        let [no_checkpoint, mark, set_aside] = self.began;
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
        let mut row = |what: &str, count: u64| {
            table.add_row([what.to_owned(), count.to_string()]);
        };
        row("recordings", self.totals.recordings);
        for (what, count) in &self.totals.sights {
            row(what, *count);
        }
        row("acknowledgements", self.totals.acknowledgements);
        row("journal frames", self.totals.frames);
        row("journal records", self.totals.records);
        row("images of power cuts", self.images);
        row("  with a torn tail, cut", self.torn);
        row("  recovered from a checkpoint's mark", mark);
        row("  recovered without a checkpoint", no_checkpoint);
        row("  checkpoint unsound, set aside, rebuilt", set_aside);
        let mut reasons: Vec<_> = self.set_aside.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (why, count) in reasons.into_iter().take(NAMES_SHOWN_MAX) {
            row(&format!("    {why}"), *count);
        }
        row("acknowledgements checked, over all images", self.promised);
        row("images with a lost acknowledgement", self.images_with_losses);
        row("acknowledgements lost, over all images", self.lost);
        row("unsound images", self.unsound);
        println!("{table}");
        let (recorded, judged) = (self.took.0.as_secs_f64(), self.took.1.as_secs_f64());
        println!("seed {}, recorded in {recorded:.0} s, judged in {judged:.0} s", self.seed);
        if self.validate {
            if self.is_shown() {
                println!("The journal that never syncs was caught: the proof can fail.");
            } else {
                println!("The journal that never syncs lost nothing: this proof proves nothing.");
            }
            return;
        }
        self.print_failures();
        println!(
            "{}",
            if self.is_shown() { "Nothing acknowledged was lost." } else { "A promise was broken." }
        );
    }

    fn print_failures(&self) {
        for id in self.totals.missing.iter().take(NAMES_SHOWN_MAX) {
            println!("  {id} was acknowledged and is in no frame of the journal");
        }
        for (place, judged) in &self.failures {
            println!("image {}: {} lost", judged.number, judged.verdict.lost);
            for wrong in &judged.verdict.wrong {
                println!("  {wrong}");
            }
            println!(
                "  kept; again: doorbuster-crashes power-cut --recording {} --seed {} --image {}",
                place.display(),
                self.seed,
                judged.number
            );
        }
        for what in self.unseen() {
            println!("no image shows {what}: too few or too tame to prove anything");
        }
    }
}

/// A reason as others give it too.
fn without_numbers(text: &str) -> String {
    let mut told = String::new();
    for character in text.chars() {
        if !character.is_ascii_digit() {
            told.push(character);
        } else if !told.ends_with('#') {
            told.push('#');
        }
    }
    let length = told.char_indices().nth(120).map_or(told.len(), |(at, _)| at);
    told.truncate(length);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_are_one() {
        assert_eq!(without_numbers("12 rows where 9 are due"), without_numbers("7 rows where 130 are due"));
        assert_eq!(without_numbers(&"ü".repeat(500)).chars().count(), 120);
    }
}
