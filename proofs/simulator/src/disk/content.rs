//! One file's content: what processes see, what is on the disk, and what was done since the last sync.

use std::collections::BTreeSet;

use super::Happened;
use crate::random::Random;

/// A file's bytes in the cache and on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLength(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(to, *offset, bytes),
            Self::SetLength(length) => to.resize(*length, 0),
        }
    }
}

fn put(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}

impl Content {
    /// What a process reads.
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// What a power cut surely leaves, unless unsynced changes make it longer or overwrite it.
    pub(super) fn synced(&self) -> &[u8] {
        &self.synced
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        put(&mut self.seen, offset, &bytes);
        self.unsynced.push(Change::Write { offset, bytes });
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.seen.resize(length, 0);
        self.unsynced.push(Change::SetLength(length));
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    /// A sync that failed: some of it reached the disk, and the rest never will, though it still can be read.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let percent = *random.pick(&[0, 0, 50, 90]);
        self.resolve(random, percent, &mut Happened::default());
    }

    /// Flips a bit in the cache and on the disk.
    pub(super) fn flip(&mut self, offset: u64, bit: u32) -> bool {
        let Ok(at) = usize::try_from(offset) else { return false };
        let Some(byte) = self.seen.get_mut(at) else { return false };
        *byte ^= 1 << bit;
        if let Some(byte) = self.synced.get_mut(at) {
            *byte ^= 1 << bit;
        }
        true
    }

    /// The power fails; returns whether a bit is still to be flipped elsewhere.
    pub(super) fn cut(
        &mut self,
        random: &mut Random,
        surviving: u64,
        flip: bool,
        happened: &mut Happened,
    ) -> bool {
        let mut kept = self.resolve(random, surviving, happened);
        kept.retain(|(begin, end)| *begin < (*end).min(self.synced.len()));
        let flipped = flip && !kept.is_empty();
        if flipped {
            let (begin, end) = *random.pick(&kept);
            let at = begin + random.index(end.min(self.synced.len()) - begin);
            self.synced[at] ^= 1 << random.below(8);
            happened.bits_flipped_unsynced += 1;
        }
        self.seen.clone_from(&self.synced);
        flip && !flipped
    }

    /// Decides what of the unsynced changes is on the disk; returns the ranges kept. `surviving` is in percent.
    ///
    /// A block's state after any number of the writes to it may be there, whatever became of other blocks. Lengths change in
    /// order, so any number of the changes may be there, whatever became of the data.
    fn resolve(
        &mut self,
        random: &mut Random,
        surviving: u64,
        happened: &mut Happened,
    ) -> Vec<(usize, usize)> {
        let mut kept = Vec::new();
        if self.unsynced.is_empty() {
            return kept;
        }
        let grain: usize = if random.one_in(2) { 512 } else { 4_096 };
        let changes = std::mem::take(&mut self.unsynced);
        let lengths = Lengths::of(self.synced.len(), &changes);
        let chosen = lengths.choose(random, surviving);
        happened.lengths_lost += u64::from(chosen.length != lengths.last);
        // Blocks that a lost write ends: later writes to them are lost too.
        let mut ended: BTreeSet<usize> = BTreeSet::new();
        let (mut lost_any, mut reordered) = (false, false);
        for (index, change) in changes.iter().enumerate() {
            let (offset, bytes) = match change {
                Change::SetLength(length) => {
                    if index < chosen.changes {
                        self.synced.resize(*length, 0);
                    }
                    continue;
                }
                Change::Write { offset, bytes } => (*offset, bytes.as_slice()),
            };
            let end = offset + bytes.len();
            let mut begin = offset;
            while begin < end {
                let block = begin / grain;
                let piece_end = ((block + 1) * grain).min(end);
                let piece = &bytes[begin - offset..piece_end - offset];
                if ended.contains(&block) {
                    happened.blocks_lost += 1;
                } else if random.percent(surviving) {
                    put(&mut self.synced, begin, piece);
                    kept.push((begin, piece_end));
                    happened.blocks_kept += 1;
                    reordered |= lost_any;
                } else {
                    ended.insert(block);
                    lost_any = true;
                    if surviving > 0 && piece.len() > 1 && random.one_in(4) {
                        let torn = 1 + random.index(piece.len() - 1);
                        put(&mut self.synced, begin, &piece[..torn]);
                        kept.push((begin, begin + torn));
                        happened.blocks_torn += 1;
                    } else {
                        happened.blocks_lost += 1;
                    }
                }
                begin = piece_end;
            }
        }
        happened.reorderings += u64::from(reordered);
        self.synced.resize(chosen.length, 0);
        kept
    }
}

/// How a file's length changed since the last sync.
struct Lengths {
    /// Length after the change of this index.
    steps: Vec<(usize, usize)>,
    first: usize,
    last: usize,
}

struct ChosenLength {
    length: usize,
    /// Changes of length before this index happened.
    changes: usize,
}

impl Lengths {
    fn of(first: usize, changes: &[Change]) -> Self {
        let mut last = first;
        let mut steps = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let after = match change {
                Change::Write { offset, bytes } => last.max(offset + bytes.len()),
                Change::SetLength(length) => *length,
            };
            if after != last {
                steps.push((index, after));
                last = after;
            }
        }
        Self { steps, first, last }
    }

    fn choose(&self, random: &mut Random, surviving: u64) -> ChosenLength {
        let mut chosen = ChosenLength { length: self.first, changes: 0 };
        for (index, length) in &self.steps {
            if !random.percent(surviving) {
                return chosen;
            }
            chosen = ChosenLength { length: *length, changes: index + 1 };
        }
        chosen.changes = usize::MAX;
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pieces: &[(usize, &[u8])]) -> Content {
        let mut content = Content::default();
        content.set_length(16_384);
        content.sync();
        for (offset, bytes) in pieces {
            content.write(*offset, bytes.to_vec());
        }
        content
    }

    #[test]
    fn a_cut_keeps_all_that_was_synced_and_any_part_of_the_rest() {
        let (mut all, mut none, mut some, mut torn) = (0, 0, 0, 0);
        for seed in 0..500 {
            let mut random = Random::new(seed);
            let mut content = written(&[(0, &[1; 5_000])]);
            content.sync();
            content.write(5_000, vec![2; 6_000]);
            let mut happened = Happened::default();
            let surviving = *random.pick(&[0, 100, 50]);
            content.cut(&mut random, surviving, false, &mut happened);
            assert!(content.seen()[..5_000].iter().all(|byte| *byte == 1), "seed {seed}");
            assert_eq!(content.seen().len(), 16_384);
            match content.seen()[5_000..11_000].iter().map(|byte| u32::from(*byte == 2)).sum() {
                6_000 => all += 1,
                0 => none += 1,
                _ => some += 1,
            }
            torn += happened.blocks_torn;
            assert!(content.seen()[11_000..].iter().all(|byte| *byte == 0), "seed {seed}");
        }
        assert!(all > 100 && none > 100 && some > 100 && torn > 50, "{all} {none} {some} {torn}");
    }

    #[test]
    fn a_later_write_may_survive_an_earlier_one_but_not_within_a_block() {
        let mut reordered = 0;
        for seed in 0..300 {
            let mut content = written(&[(0, &[1; 4_096]), (8_192, &[2; 4_096]), (0, &[3; 4_096])]);
            content.cut(&mut Random::new(seed), 50, false, &mut Happened::default());
            let seen = content.seen();
            // The third write covers the first; a block with nothing in front of its 3 would be one that skipped the 1.
            for block in seen[..4_096].chunks(512) {
                let mixed = block.windows(2).any(|pair| pair[0] == 0 && pair[1] == 3);
                assert!(!mixed, "seed {seed}");
            }
            reordered += u32::from(seen[..4_096].iter().all(|byte| *byte == 0) && seen[8_192] == 2);
        }
        assert!(reordered > 10, "{reordered}");
    }

    #[test]
    fn a_length_that_was_not_synced_may_be_the_old_one() {
        let mut lengths = std::collections::BTreeMap::new();
        for seed in 0..200 {
            let mut content = Content::default();
            content.write(0, vec![1; 1_000]);
            content.sync();
            content.set_length(100);
            content.write(100, vec![2; 2_000]);
            content.cut(&mut Random::new(seed), 50, false, &mut Happened::default());
            *lengths.entry(content.seen().len()).or_insert(0) += 1;
        }
        assert_eq!(lengths.keys().copied().collect::<Vec<_>>(), [100, 1_000, 2_100], "{lengths:?}");
    }

    #[test]
    fn a_failed_sync_can_be_read_and_is_gone_after_the_cut_though_a_later_sync_succeeds() {
        let mut lost = 0;
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut content = written(&[(0, &[1; 512])]);
            content.fail_sync(&mut random);
            assert_eq!(content.seen()[..512], [1; 512]);
            content.write(8_192, vec![2; 512]);
            content.sync();
            content.cut(&mut random, 100, false, &mut Happened::default());
            assert_eq!(content.seen()[8_192..8_704], [2; 512], "seed {seed}");
            lost += u32::from(content.seen()[..512] == [0; 512]);
        }
        assert!(lost > 40, "{lost}");
    }

    #[test]
    fn a_flipped_bit_is_one_bit_of_what_was_kept_unsynced() {
        for seed in 0..100 {
            let mut content = written(&[(0, &[1; 600])]);
            content.sync();
            content.write(600, vec![2; 600]);
            let left = content.cut(&mut Random::new(seed), 100, true, &mut Happened::default());
            assert!(!left);
            let wrong: u32 = content.seen()[600..1_200].iter().map(|byte| (byte ^ 2).count_ones()).sum();
            assert_eq!(wrong, 1, "seed {seed}");
            assert_eq!(content.seen()[..600], [1; 600]);
        }
    }
}
