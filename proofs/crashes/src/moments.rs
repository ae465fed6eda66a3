//! When the power fails, and what the disk holds then: an image is a function of the recording, the seed and its number.
//! Start at [`cut`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::chance::Chance;
use crate::disk::{Disk, Image};
use crate::record::{Call, Change};
use crate::recording::Recording;

/// The image of this number and its moment.
pub(crate) fn cut(recording: &Recording, seed: u64, number: u64) -> anyhow::Result<(Image, u64)> {
    let (time, mut chance) = Moments::of(recording)?.of_image(seed, number);
    Ok((Player::new(recording).cut(time, &mut chance)?, time))
}

/// Plays the recording forward from cut to cut.
pub(crate) struct Player<'a> {
    recording: &'a Recording,
    disk: Disk,
    played: usize,
}

impl<'a> Player<'a> {
    /// A call under way at a cut ended at most so many calls later.
    const UNDER_WAY_MAX: usize = 4_096;

    /// At the recording's beginning.
    pub(crate) fn new(recording: &'a Recording) -> Self {
        Self { recording, disk: Disk::new(recording.root_inode), played: 0 }
    }

    /// The disk as a cut at `time` leaves it, which is no earlier than the last one.
    pub(crate) fn cut(&mut self, time: u64, chance: &mut Chance) -> anyhow::Result<Image> {
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
pub(crate) struct Moments<'a> {
    calls: &'a [Call],
    kinds: Vec<Vec<usize>>,
    first: u64,
    last: u64,
}

impl<'a> Moments<'a> {
    /// Sorts the calls of a recording by kind.
    pub(crate) fn of(recording: &'a Recording) -> anyhow::Result<Self> {
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
    pub(crate) fn of_image(&self, seed: u64, number: u64) -> (u64, Chance) {
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
