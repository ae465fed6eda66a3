//! The committed list of seeded bugs, each with the seed that caught it last: every build lives these, and only these.

use doorbuster_engine::mutant::Mutant;

/// Each bug with the seed that caught it, and the law that was seen to break.
const CAUGHT: &str = include_str!("../caught.txt");

/// A line of `caught.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which bug.
    pub mutant: Mutant,
    /// The seed that caught it.
    pub seed: u64,
    /// The law that was seen to break.
    pub law: u8,
}

/// The word for a bug that no seed has caught yet.
const MISSED: &str = " missed";

/// The bugs that were caught, each with its seed.
pub fn known() -> Vec<Known> {
    lines()
        .filter(|line| !line.ends_with(MISSED))
        .map(|line| {
            let mut words = line.split_whitespace();
            let mutant = words.next().and_then(named);
            let seed = words.next().and_then(|word| word.parse().ok());
            let law = words.next().and_then(|word| word.parse().ok());
            let known = mutant.zip(seed).zip(law).map(|((mutant, seed), law)| Known { mutant, seed, law });
            known.unwrap_or_else(|| panic!("caught.txt: `{line}` is not a mutant, a seed and a law"))
        })
        .collect()
}

/// The bugs that no seed has caught yet.
pub fn missed() -> Vec<Mutant> {
    lines()
        .filter_map(|line| line.strip_suffix(MISSED))
        .map(|name| named(name).unwrap_or_else(|| panic!("caught.txt: `{name}` is no mutant")))
        .collect()
}

fn lines() -> impl Iterator<Item = &'static str> {
    CAUGHT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

/// The bug of that name.
pub fn named(name: &str) -> Option<Mutant> {
    Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_one_known_seed_and_breaks_a_law_of_its_own_or_is_called_missed() {
        let (known, missed) = (known(), missed());
        for mutant in Mutant::ALL {
            if missed.contains(mutant) {
                assert!(known.iter().all(|known| known.mutant != *mutant), "{}", mutant.name());
                continue;
            }
            let lines: Vec<&Known> = known.iter().filter(|known| known.mutant == *mutant).collect();
            let [line] = lines.as_slice() else { panic!("{}: {} lines", mutant.name(), lines.len()) };
            assert!(mutant.laws().contains(&line.law), "{}: law {}", mutant.name(), line.law);
        }
    }
}
