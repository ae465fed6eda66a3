//! Law 9 inside the partitions: each one's records count 1, 2, 3, … without a gap, whatever frames they stand in.

use doorbuster_engine::event::PARTITIONS;

use crate::record::RecordHeader;

/// A record stood where another was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceGap {
    pub(crate) partition: u16,
    pub(crate) expected: u64,
    pub(crate) found: u64,
}

/// The last sequence met in each partition.
#[derive(Clone, Debug)]
pub(crate) struct Sequences {
    /// What a checkpoint says was there at the least before the first record met; 0 at the journal's beginning.
    known: [u64; PARTITIONS],
    /// Last one met, 0 before the first.
    met: [u64; PARTITIONS],
}

impl Sequences {
    /// Counting on from a checkpoint. Its figures were read after its replay frame, so the first record met may be
    /// earlier than they say, but never later than the next.
    pub(crate) fn after(known: &[u64; PARTITIONS]) -> Self {
        Self { known: *known, met: [0; PARTITIONS] }
    }

    /// Takes the next record, which must continue its partition.
    pub(crate) fn meet(&mut self, header: &RecordHeader) -> Result<(), SequenceGap> {
        let index = usize::from(header.partition);
        let (Some(met), Some(known)) = (self.met.get_mut(index), self.known.get(index)) else {
            return Err(SequenceGap { partition: header.partition, expected: 0, found: header.sequence });
        };
        let continues = match *met {
            0 => header.sequence != 0 && header.sequence <= known + 1,
            last => header.sequence == last + 1,
        };
        if !continues {
            let expected = if *met == 0 { known + 1 } else { *met + 1 };
            return Err(SequenceGap { partition: header.partition, expected, found: header.sequence });
        }
        *met = header.sequence;
        Ok(())
    }

    /// The first partition whose journal ends before what the checkpoint says was durable: (partition, met, known).
    pub(crate) fn behind(&self) -> Option<(usize, u64, u64)> {
        (0..PARTITIONS)
            .map(|index| (index, self.met[index], self.known[index]))
            .find(|(_, met, known)| *met != 0 && met < known)
    }

    /// The last sequence of every partition.
    pub(crate) fn last(&self) -> [u64; PARTITIONS] {
        std::array::from_fn(|index| self.met[index].max(self.known[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_continues_or_tells_the_gap() {
        let mut known = [0; PARTITIONS];
        known[3] = 10;
        let header = |sequence| RecordHeader { partition: 3, epoch: 1, sequence, position: 0, at_ms: 0 };
        for (met, ok) in [
            (&[11, 12][..], true),
            (&[8, 9, 10, 11], true),
            (&[12], false),
            (&[0], false),
            (&[11, 11], false),
            (&[11, 13], false),
            (&[11, 10], false),
        ] {
            let mut sequences = Sequences::after(&known);
            assert_eq!(met.iter().try_for_each(|s| sequences.meet(&header(*s))).is_ok(), ok, "{met:?}");
        }
        let mut sequences = Sequences::after(&known);
        assert_eq!((sequences.last()[3], sequences.behind()), (10, None));
        sequences.meet(&header(7)).unwrap();
        assert_eq!((sequences.last()[3], sequences.behind()), (10, Some((3, 7, 10))));
    }
}
