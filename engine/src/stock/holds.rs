//! The holds of one SKU, and copies of them for the store that no single turn pays for.
//!
//! A SKU that everybody wants has a million holds; encoding them all in one turn would stop its sales for a tenth of a
//! second. So a copy is taken in steps between other turns, page by page; a page that changes after it was copied is
//! copied again; and when none is left the copy shows one moment, the present one. Start at [`Stock::begin_copy`].

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::ReservationId;

use super::{Hold, Stock};

/// Holds of a page: what one change makes a running copy take again.
const PAGE: usize = 256;

/// Pages copied in a step: some 4,096 holds are a few hundred kilobytes, or about a tenth of a millisecond.
const STEP_PAGES: usize = 16;

/// Reservation ids are keyed hashes: their own bits hash best, the same on every run.
type Map = IndexMap<ReservationId, Hold, foldhash::fast::FixedState>;

type Page = Vec<(ReservationId, Hold)>;

/// Holds by reservation, in an order that only events make.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds {
    map: Map,
    copying: Option<Box<Copying>>,
    /// In a finished copy: the holds themselves, in the map's order. The map is empty then.
    copied: Vec<Page>,
}

/// A copy that is being taken.
#[derive(Clone, Debug)]
struct Copying {
    pages: Vec<Page>,
    /// Pages that are not copied, or changed since.
    left: BTreeSet<usize>,
    step_pages: usize,
    /// Pages copied with steps of this size.
    copied: usize,
}

impl Holds {
    pub(super) fn get(&self, id: &ReservationId) -> Option<&Hold> {
        self.map.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ReservationId) -> Option<&mut Hold> {
        let (index, _, hold) = self.map.get_full_mut(id)?;
        touch(&mut self.copying, index);
        Some(hold)
    }

    pub(super) fn contains_key(&self, id: &ReservationId) -> bool {
        self.map.contains_key(id)
    }

    pub(super) fn insert(&mut self, id: ReservationId, hold: Hold) -> Option<Hold> {
        let (index, before) = self.map.insert_full(id, hold);
        touch(&mut self.copying, index);
        before
    }

    /// Takes a hold out; the last one moves to its place.
    pub(super) fn swap_remove(&mut self, id: &ReservationId) -> Option<Hold> {
        let (index, _, hold) = self.map.swap_remove_full(id)?;
        touch(&mut self.copying, index);
        touch(&mut self.copying, self.map.len());
        Some(hold)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ReservationId, &Hold)> {
        self.map.iter()
    }

    fn begin_copy(&mut self) {
        let left = (0..self.map.len().div_ceil(PAGE)).collect();
        self.copying = Some(Box::new(Copying { pages: Vec::new(), left, step_pages: STEP_PAGES, copied: 0 }));
    }

    /// One step; the finished copy, if this was the last. `None` also when no copy is being taken.
    fn copy_some(&mut self) -> Option<Self> {
        let copying = self.copying.as_deref_mut()?;
        let pages = self.map.len().div_ceil(PAGE);
        for _ in 0..copying.step_pages {
            let Some(page) = copying.left.pop_first() else { break };
            let first = page.saturating_mul(PAGE);
            let end = first.saturating_add(PAGE).min(self.map.len());
            // A page beyond the end held what has ended since.
            let Some(holds) = self.map.get_range(first..end) else { continue };
            if copying.pages.len() <= page {
                copying.pages.resize_with(page.saturating_add(1), Vec::new);
            }
            if let Some(copy) = copying.pages.get_mut(page) {
                copy.clear();
                copy.extend(holds.iter().map(|(id, hold)| (*id, hold.clone())));
            }
            copying.copied = copying.copied.saturating_add(1);
        }
        if !copying.left.is_empty() {
            // Changes come faster than steps: larger ones catch up with them.
            if copying.copied > pages.saturating_mul(2) {
                copying.copied = 0;
                copying.step_pages = copying.step_pages.saturating_mul(2);
            }
            return None;
        }
        let mut copied = self.copying.take()?.pages;
        copied.truncate(pages);
        Some(Self { map: Map::default(), copying: None, copied })
    }
}

/// The hold at `index` changed.
fn touch(copying: &mut Option<Box<Copying>>, index: usize) {
    if let Some(copying) = copying {
        copying.left.insert(index.checked_div(PAGE).unwrap_or(0));
    }
}

impl PartialEq for Holds {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map && self.copied == other.copied
    }
}

impl Eq for Holds {}

/// In order, so that a checkpoint restores the very same map; a copy reads as what it is a copy of.
impl Serialize for Holds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.copied.is_empty() {
            return indexmap::map::serde_seq::serialize(&self.map, serializer);
        }
        let holds: usize = self.copied.iter().map(Vec::len).sum();
        let mut sequence = serializer.serialize_seq(Some(holds))?;
        for hold in self.copied.iter().flatten() {
            serde::ser::SerializeSeq::serialize_element(&mut sequence, hold)?;
        }
        serde::ser::SerializeSeq::end(sequence)
    }
}

impl<'de> Deserialize<'de> for Holds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = indexmap::map::serde_seq::deserialize(deserializer)?;
        Ok(Self { map, copying: None, copied: Vec::new() })
    }
}

impl Stock {
    /// Whether it has so many holds that a copy of it is taken in steps.
    pub fn is_large(&self) -> bool {
        self.holds.len() > STEP_PAGES.saturating_mul(PAGE) / 4
    }

    /// Begins a copy for the store; an unfinished one is dropped.
    pub fn begin_copy(&mut self) {
        self.holds.begin_copy();
    }

    /// One step of the copy. Returns it once it is whole: it shows the present moment, reads from the store as this very
    /// state, and is good for nothing else.
    pub fn copy_some(&mut self) -> Option<Self> {
        let holds = self.holds.copy_some()?;
        let Self {
            sku,
            definition,
            opening,
            opened,
            received,
            on_hand,
            reserved,
            sold,
            version,
            holds: _,
            ended_parts,
            restocked,
            ledger,
        } = self;
        Some(Self {
            sku: sku.clone(),
            definition: definition.clone(),
            opening: *opening,
            opened: *opened,
            received: *received,
            on_hand: *on_hand,
            reserved: *reserved,
            sold: *sold,
            version: *version,
            holds,
            ended_parts: ended_parts.clone(),
            restocked: restocked.clone(),
            ledger: ledger.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Fingerprint, Position, Timestamp};

    fn hold(quantity: i64) -> Hold {
        Hold {
            quantity,
            ttl_ms: 1,
            created_at: Timestamp(0),
            expires_at: Timestamp(1),
            position: Position(0),
            fingerprint: Fingerprint(0),
            home: None,
        }
    }

    fn in_order<'a>(
        holds: impl Iterator<Item = (&'a ReservationId, &'a Hold)>,
    ) -> Vec<(ReservationId, Hold)> {
        holds.map(|(id, hold)| (*id, hold.clone())).collect()
    }

    /// A small generator: the same numbers on every run.
    fn random(seed: &mut u64) -> usize {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*seed >> 33).unwrap()
    }

    #[test]
    fn a_copy_taken_between_changes_shows_the_moment_it_is_whole() {
        // Each row: holds at the beginning, changes between two steps, and how many of a hundred changes add a hold.
        for (begin, changes, adds) in [
            (0, 3, 50),
            (1, 1, 0),
            (256, 40, 10),
            (257, 40, 90),
            (20_000, 50, 50),
            (20_000, 900, 20),
            (9_000, 4_000, 60),
        ] {
            let mut seed = u64::try_from(begin + changes).unwrap();
            let (mut holds, mut next) = (Holds::default(), 0_u128);
            for _ in 0..begin {
                holds.insert(ReservationId(next), hold(1));
                next += 1;
            }
            holds.begin_copy();
            let mut steps = 0;
            let copy = loop {
                if let Some(copy) = holds.copy_some() {
                    break copy;
                }
                steps += 1;
                assert!(steps < 1_000, "{begin} holds, {changes} changes a step: it never catches up");
                for _ in 0..changes {
                    let any = holds.map.get_index(random(&mut seed) % holds.len().max(1)).map(|(id, _)| *id);
                    match (random(&mut seed) % 100 < adds, any) {
                        (false, Some(id)) if random(&mut seed).is_multiple_of(3) => {
                            holds.get_mut(&id).unwrap().quantity += 1;
                        }
                        (false, Some(id)) => {
                            holds.swap_remove(&id);
                        }
                        (true, _) | (_, None) => {
                            holds.insert(ReservationId(next), hold(1));
                            next += 1;
                        }
                    }
                }
            };
            assert_eq!(
                copy.copied.concat(),
                in_order(holds.iter()),
                "{begin} holds, {changes} changes a step"
            );
            assert!(holds.copying.is_none() && holds.copy_some().is_none(), "one copy, once");
        }
    }

    #[test]
    fn a_copy_reads_from_the_store_as_the_very_stock() {
        let bytes = |stock: &Stock| bincode::serde::encode_to_vec(stock, bincode::config::legacy()).unwrap();
        for holds in [0, 1, PAGE, PAGE + 1, 3_000, 30_000] {
            let mut stock = Stock::new(crate::identity::Sku::new("TEE").unwrap());
            for id in 0..u128::try_from(holds).unwrap() {
                stock.holds.insert(ReservationId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)), hold(1));
            }
            stock.begin_copy();
            let copy = (0..1_000).find_map(|_| stock.copy_some()).unwrap();
            let stored = bytes(&copy);
            assert!(stored == bytes(&stock), "{holds} holds: other bytes");
            let (back, _): (Stock, usize) =
                bincode::serde::decode_from_slice(&stored, bincode::config::legacy()).unwrap();
            assert_eq!(back, stock, "{holds} holds");
        }
    }
}
