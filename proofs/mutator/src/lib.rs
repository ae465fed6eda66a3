//! Input damaged on purpose: what the properties of every parser are fed.
//!
//! Each case begins with a valid sample and is damaged where it has structure: bits flip, pieces are cut, doubled,
//! swapped with another sample's, numbers grow huge, nesting deep, and NUL, byte-order marks and invalid UTF-8 appear.
//! A case is a function of its seed alone; the seed is printed with every failure and repeats it.
//! Start at [`Fuzz::run`]; [`Mutator`] makes one case.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds that all targets together run where nothing is said.
const SECONDS: f64 = 20.0;

/// Longest input made. Beyond it a case would test the memory of the machine, not the parser.
const BYTES_MAX: usize = 1 << 17;

/// What reaches the branches that valid samples never do.
const TOKENS: &[&[u8]] = &[
    b"",
    b"0",
    b"-0",
    b"-1",
    b"1e3",
    b"1.5",
    b"9007199254740993",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"1e999",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"\"\\u0000\"",
    b"\"\\ud800\"",
    b"\0",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xf0\x9f\x92\xa9",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n",
    b"\r",
    b"\t",
    b"\"",
    b"\\",
    b",",
    b":",
    b"%00",
    b"%zz",
    b"%2e%2e%2f",
    b"../",
    b"&",
    b"=",
    b"W/\"1\"",
    b"*",
    b"chunked",
];

/// One case's source of damage.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// The damage of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `bound`, which is not 0. Steele's and Vigna's splitmix64.
    pub fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // A remainder is uneven by less than one in 2^40 for any bound used here.
        usize::try_from(bits % bound as u64).unwrap_or(0)
    }

    /// One of a list that is not empty.
    pub fn one<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// Whether this time, where it happens once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A sample, damaged up to four times; one in sixteen stays as it is.
    pub fn damaged<T: AsRef<[u8]>>(&mut self, samples: &[T]) -> Vec<u8> {
        let mut bytes = self.one(samples).as_ref().to_vec();
        if self.once_in(16) {
            return bytes;
        }
        for _ in 0..=self.below(4) {
            let other = self.one(samples).as_ref().to_vec();
            self.damage(&mut bytes, &other);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    /// Damages `bytes` once; `other` is where pieces may come from.
    pub fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let token = *self.one(TOKENS);
        let piece = self.piece(bytes);
        match self.below(12) {
            0 if !bytes.is_empty() => {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }
            1 => bytes.truncate(piece.1),
            2 => drop(bytes.drain(piece.0..piece.1)),
            3 => {
                let doubled = bytes[piece.0..piece.1].to_vec();
                bytes.splice(piece.1..piece.1, doubled);
            }
            4 | 5 => drop(bytes.splice(piece.0..piece.1, token.iter().copied())),
            6 => {
                let at = self.below(bytes.len() + 1);
                bytes.splice(at..at, token.iter().copied());
            }
            7 | 8 => {
                let theirs = self.piece(other);
                bytes.splice(piece.0..piece.1, other[theirs.0..theirs.1].iter().copied());
            }
            9 => {
                let depth = [1, 3, 130, 4_000][self.below(4)];
                let (open, shut) = [(b'[', b']'), (b'{', b'}'), (b'"', b'"'), (b'[', b' ')][self.below(4)];
                bytes.splice(piece.1..piece.1, std::iter::repeat_n(shut, depth));
                bytes.splice(piece.0..piece.0, std::iter::repeat_n(open, depth));
            }
            10 => {
                let digit = b"0189"[self.below(4)];
                let length = [1, 19, 20, 400][self.below(4)];
                bytes.splice(piece.0..piece.1, std::iter::repeat_n(digit, length));
            }
            _ => {
                let text = bytes[piece.0..piece.1].to_vec();
                let times = [2, 30, 300][self.below(3)];
                bytes.splice(piece.1..piece.1, text.repeat(times).into_iter().take(BYTES_MAX));
            }
        }
    }

    /// A piece with a meaning of its own where one is met: a number, a string, a bracket's content, a field, a line;
    /// else any.
    fn piece(&mut self, bytes: &[u8]) -> (usize, usize) {
        if bytes.is_empty() {
            return (0, 0);
        }
        let at = self.below(bytes.len());
        let stretch = |of: &dyn Fn(u8) -> bool| {
            let begin = bytes[..at].iter().rposition(|byte| !of(*byte)).map_or(0, |place| place + 1);
            let end =
                bytes[at..].iter().position(|byte| !of(*byte)).map_or(bytes.len(), |length| at + length);
            (begin, end.max(begin))
        };
        match self.below(7) {
            0 => stretch(&|byte| byte.is_ascii_digit()),
            1 => stretch(&|byte| byte != b'"'),
            2 => stretch(&|byte| !b"[]{}".contains(&byte)),
            3 => stretch(&|byte| !b",;&=: ".contains(&byte)),
            4 => stretch(&|byte| byte != b'\n'),
            5 => stretch(&|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            _ => (at, at + 1 + self.below((bytes.len() - at).min(64))),
        }
    }
}

/// What a run of a target reached: names of branches and how often.
#[derive(Debug, Default)]
pub struct Reached(BTreeMap<String, u64>);

impl Reached {
    /// Counts one arrival at `branch`.
    pub fn note(&mut self, branch: impl Into<String>) {
        *self.0.entry(branch.into()).or_default() += 1;
    }

    /// Those of `wanted` that no case has reached.
    pub fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().copied().filter(|branch| !self.0.contains_key(*branch)).collect()
    }
}

/// A target's run: so many cases as its time allows, from one seed.
#[derive(Clone, Debug)]
pub struct Fuzz {
    /// The target's name, in every message.
    pub name: &'static str,
    /// Its part of the whole time; all targets' parts sum to about 1.
    pub part: f64,
    /// Longest time of one case.
    pub case_max: Duration,
    /// Branches that must be reached, or the run fails: else it might have tested nothing.
    pub wanted: &'static [&'static str],
}

impl Fuzz {
    /// Feeds `case` until the time is over and every wanted branch was reached, which may take ten times as long on a
    /// slow machine, never more.
    ///
    /// `DOORBUSTER_FUZZ_SECONDS` is the time of all targets together; `DOORBUSTER_FUZZ_SEED` is the first case's seed,
    /// so that the seed of a failure repeats it at once.
    ///
    /// # Panics
    /// Where a case does, takes too long, or a wanted branch was not reached; the seed is told.
    pub fn run(&self, mut case: impl FnMut(&mut Mutator, &mut Reached)) {
        let name = self.name;
        let given = |variable: &str| std::env::var(variable).ok();
        let seconds = given("DOORBUSTER_FUZZ_SECONDS").map_or(SECONDS, |text| {
            let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0);
            seconds.unwrap_or_else(|| panic!("DOORBUSTER_FUZZ_SECONDS is `{text}`; give seconds, e.g. 600"))
        });
        let first = given("DOORBUSTER_FUZZ_SEED").map_or_else(from_clock, |text| {
            text.parse().unwrap_or_else(|_| panic!("DOORBUSTER_FUZZ_SEED is `{text}`; give a whole number"))
        });
        let budget = Duration::from_secs_f64(seconds * self.part);
        let mut reached = Reached::default();
        let begun = Instant::now();
        let mut cases = 0_u64;
        while begun.elapsed() < budget
            || (!reached.missing(self.wanted).is_empty() && begun.elapsed() < budget * 10)
        {
            let seed = first.wrapping_add(cases);
            let case_begun = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut Mutator::new(seed), &mut reached)));
            if let Err(panic) = outcome {
                eprintln!("{name}: case {cases} failed; repeat it with DOORBUSTER_FUZZ_SEED={seed}");
                resume_unwind(panic);
            }
            let took = case_begun.elapsed();
            assert!(
                took <= self.case_max,
                "{name}: a case took {took:?}, more than {:?}; repeat it with DOORBUSTER_FUZZ_SEED={seed}",
                self.case_max
            );
            cases += 1;
        }
        eprintln!("{name}: {cases} cases from DOORBUSTER_FUZZ_SEED={first}; reached {:?}", reached.0);
        let missing = reached.missing(self.wanted);
        assert!(missing.is_empty(), "{name}: {cases} cases from seed {first} never reached {missing:?}");
    }
}

/// A seed nobody chose.
fn from_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The last 64 bits of the nanoseconds are all that is wanted.
    u64::try_from(since.as_nanos() & u128::from(u64::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [&[u8]; 2] = [b"{\"sku\":\"A\",\"quantity\":12}", b"a,b\n1,\"2\"\n"];

    #[test]
    fn a_seed_is_a_case() {
        for seed in 0..2_000 {
            let made = Mutator::new(seed).damaged(&SAMPLES);
            assert_eq!(made, Mutator::new(seed).damaged(&SAMPLES), "seed {seed}");
            assert!(made.len() <= BYTES_MAX, "seed {seed}");
        }
        let distinct: std::collections::BTreeSet<_> =
            (0..2_000).map(|seed| Mutator::new(seed).damaged(&SAMPLES)).collect();
        assert!(distinct.len() > 1_500, "{}", distinct.len());
    }

    #[test]
    #[should_panic(expected = "never reached [\"nowhere\"]")]
    fn a_run_that_misses_a_branch_fails() {
        let fuzz = Fuzz { name: "test", part: 1e-4, case_max: Duration::from_secs(9), wanted: &["nowhere"] };
        fuzz.run(|_, reached| reached.note("somewhere"));
    }

    #[test]
    #[should_panic(expected = "DOORBUSTER_FUZZ_SEED=")]
    fn a_case_that_takes_too_long_fails() {
        let fuzz = Fuzz { name: "test", part: 1.0, case_max: Duration::ZERO, wanted: &[] };
        fuzz.run(|_, _| std::thread::sleep(Duration::from_millis(1)));
    }
}
