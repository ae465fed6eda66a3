//! What goes wrong on request: a rate of each, drawn from the seed.

use serde::{Deserialize, Serialize};

/// A stream of numbers from a seed (`SplitMix64`, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Whether something that happens in `rate` of all cases (0 to 1) happens now.
    fn hits(&mut self, rate: f64) -> bool {
        // 53 bits are what an `f64` holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let drawn = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < rate
    }
}

/// What goes wrong, at rates from 0 to 1. What is unsaid goes well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Every connection is cut, and nothing is done.
    pub outage: bool,
    /// The work is done and the connection cut.
    pub lost_reply_rate: f64,
    /// The work is done and the answer never comes, until the caller leaves.
    pub hang_rate: f64,
    /// 500, with nothing done.
    pub failed_before_rate: f64,
    /// 500, with the work done.
    pub failed_after_rate: f64,
    /// 429, with nothing done.
    pub too_many_rate: f64,
    /// Answers this status with PayPal's usual body, and does nothing.
    pub status: Option<u16>,
    /// Only paths with this in them.
    pub path: Option<String>,
    /// So many times at most.
    pub times_max: Option<u64>,
}

/// What is to go wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// Nothing.
    No,
    /// The line is cut, and nothing is done.
    CutBefore,
    /// This status, and nothing is done.
    Instead(u16),
    /// The work is done, and 500 answered.
    FailedAfter,
    /// The work is done, and the line cut.
    CutAfter,
    /// The work is done, and no answer comes.
    Hangs,
}

/// The faults, and how often they struck.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) faults: Faults,
    chance: Chance,
    struck: u64,
}

impl Weather {
    pub(crate) fn new(seed: u64) -> Self {
        Self { faults: Faults::default(), chance: Chance(seed ^ 0x5EED), struck: 0 }
    }

    pub(crate) fn set(&mut self, faults: Faults) -> Result<(), String> {
        let rates = [
            faults.lost_reply_rate,
            faults.hang_rate,
            faults.failed_before_rate,
            faults.failed_after_rate,
            faults.too_many_rate,
        ];
        if rates.iter().any(|rate| !(0.0..=1.0).contains(rate)) {
            return Err("a rate is between 0 and 1".to_owned());
        }
        self.faults = faults;
        self.struck = 0;
        Ok(())
    }

    /// Draws the same numbers for every request, so that one fault more or less moves no other.
    pub(crate) fn strike(&mut self, path: &str) -> Strike {
        let faults = self.faults.clone();
        let mut hit = |rate| self.chance.hits(rate);
        let (lost, hangs) = (hit(faults.lost_reply_rate), hit(faults.hang_rate));
        let (before, after) = (hit(faults.failed_before_rate), hit(faults.failed_after_rate));
        let too_many = hit(faults.too_many_rate);
        let strike = if faults.outage {
            Strike::CutBefore
        } else if let Some(status) = faults.status {
            Strike::Instead(status)
        } else if too_many {
            Strike::Instead(429)
        } else if before {
            Strike::Instead(500)
        } else if hangs {
            Strike::Hangs
        } else if lost {
            Strike::CutAfter
        } else if after {
            Strike::FailedAfter
        } else {
            Strike::No
        };
        let meant = faults.path.as_ref().is_none_or(|part| path.contains(part.as_str()));
        if strike == Strike::No || !meant || faults.times_max.is_some_and(|most| self.struck >= most) {
            return Strike::No;
        }
        self.struck += 1;
        strike
    }
}
