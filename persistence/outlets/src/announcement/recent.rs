//! A map that keeps what was touched lately and forgets the rest, by nothing but the order of touches (law 11).

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;

type Map<K, V> = HashMap<K, V, FixedState>;

/// Two generations: when the young one is full it becomes the old one, and what was old is forgotten. So it keeps between
/// `half` and `2 * half` of the entries touched last. What is forgotten depends on touches alone, never on the run.
#[derive(Clone, Debug)]
pub(super) struct Recent<K, V> {
    young: Map<K, V>,
    old: Map<K, V>,
    half: usize,
}

impl<K: Hash + Eq + Copy, V> Recent<K, V> {
    pub(super) fn of(half: usize) -> Self {
        Self { young: Map::default(), old: Map::default(), half }
    }

    /// The entry, which counts as touched now.
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        if !self.young.contains_key(&key)
            && let Some(value) = self.old.remove(&key)
        {
            self.insert(key, value);
        }
        self.young.get_mut(&key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        self.young.remove(&key).or_else(|| self.old.remove(&key))
    }

    /// All entries, and whether each is of the old generation.
    pub(super) fn iter(&self) -> impl Iterator<Item = (bool, &K, &V)> {
        let of = |old: bool| move |(key, value)| (old, key, value);
        self.young.iter().map(of(false)).chain(self.old.iter().map(of(true)))
    }

    /// Puts an entry back where [`Recent::iter`] found it.
    pub(super) fn restore(&mut self, old: bool, key: K, value: V) {
        let map = if old { &mut self.old } else { &mut self.young };
        map.insert(key, value);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_lately_is_kept_and_the_map_is_bounded() {
        let mut recent = Recent::of(100);
        for key in 0..10_000_u32 {
            recent.insert(key, key);
            assert!(recent.get_mut(7).is_some() || key < 7, "touched every time: {key}");
            assert!(recent.len() <= 200);
        }
        assert!(recent.get_mut(9_950).is_some(), "the last half is always there");
        assert!(recent.get_mut(9_000).is_none());
        assert_eq!(recent.remove(9_999), Some(9_999));
        assert_eq!(recent.remove(9_999), None);
    }
}
