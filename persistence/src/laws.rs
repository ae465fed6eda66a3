//! Which law `verify` looks at how, and what no byte can show of it: the words beside the figures of a report.
//!
//! The texts are part of the report's JSON, but only for people; programs read the numbers.

use doorbuster_engine::invariants::LAWS;
use serde::Serialize;

/// How often one law was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LawChecked {
    /// Its number.
    pub law: u8,
    /// What it says.
    pub text: &'static str,
    /// Events it was checked at.
    pub events: u64,
    /// Single checks: at events, frames, rows, marks and of the final state. 0 where bytes show nothing of the law.
    pub checks: u64,
    /// What one check is; absent where there is none.
    pub checked: Option<&'static str>,
    /// What bytes on disk cannot show of it, and what does; absent where they show all of it.
    pub not_seen: Option<&'static str>,
}

/// Counts of one verification.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    events: [u64; LAWS.len()],
    checks: [u64; LAWS.len()],
}

impl Tally {
    /// A law held, or did not, at one event.
    pub(crate) fn event(&mut self, law: u8) {
        self.count(law, 1, 1);
    }

    /// A law was checked so many times at something else.
    pub(crate) fn other(&mut self, law: u8, checks: u64) {
        self.count(law, 0, checks);
    }

    fn count(&mut self, law: u8, events: u64, checks: u64) {
        let index = usize::from(law).wrapping_sub(1);
        if let (Some(of_events), Some(of_checks)) = (self.events.get_mut(index), self.checks.get_mut(index)) {
            *of_events = of_events.saturating_add(events);
            *of_checks = of_checks.saturating_add(checks);
        }
    }

    /// Each law with its counts and words.
    pub(crate) fn told(&self) -> Vec<LawChecked> {
        let counts = self.events.iter().zip(&self.checks);
        let laws = LAWS.iter().zip(WORDS).zip(counts);
        laws.map(|((law, (checked, not_seen)), (events, checks))| LawChecked {
            law: law.number,
            text: law.text,
            events: *events,
            checks: *checks,
            checked,
            not_seen,
        })
        .collect()
    }
}

/// For each law: what is checked, and what bytes cannot show.
type Words = (Option<&'static str>, Option<&'static str>);

const WORDS: [Words; LAWS.len()] = [
    (Some("each SKU's sums after each of its events; at the end, reserved is the sum of its holds"), None),
    (Some("each ending is of a reservation that is held, and the first within its day"), None),
    (
        Some("each checkpoint row, and each partition and frame in each mark, is within the journal"),
        Some("what clients were told is in no file: the kill, power-cut and simulator runs compare it"),
    ),
    (
        None,
        Some("a refusal writes nothing, so there is nothing to read: the kill and simulator runs show it"),
    ),
    (
        Some("each event of a keyed request has the fingerprint of the answer kept under its key"),
        Some("that a retry hears the first answer's bytes: the twins and simulator runs show it"),
    ),
    (
        Some("each coordinator after each of its events; at the end, each held part has its coordinator"),
        Some("that an orphan ends within five seconds is a matter of running time: the simulator shows it"),
    ),
    (
        Some("each order's charge and refunds after each frame that changes it"),
        Some("what the provider did: its own books show it"),
    ),
    (Some("each order's stage against its units after each frame that changes it"), None),
    (Some("each frame's checksum, number and chain; each record's sequence and partition"), None),
    (
        Some("each event folds onto the state before it; each checkpoint row is the fold at its sequence"),
        None,
    ),
    (
        Some(
            "the bounds of each cart and coordinator after each of its events, of each order after its frame",
        ),
        Some("load and latency leave no bytes: the load and simulator runs show them"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_law_is_named_with_what_is_checked_or_why_it_cannot_be() {
        let mut tally = Tally::default();
        tally.event(5);
        tally.other(5, 2);
        let told = tally.told();
        assert_eq!(told.len(), LAWS.len());
        for law in &told {
            assert!(law.checked.is_some() || law.not_seen.is_some(), "law {}", law.law);
            assert_eq!((law.events, law.checks), if law.law == 5 { (1, 3) } else { (0, 0) });
        }
    }
}
