//! The goals, as ratios between the engine and somebody else in one measurement, and whether they are met.

use serde::Serialize;

use crate::plan::{Contender, Row};

/// What of a run is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// Reservations (or answers) a second.
    Rate,
    /// 99th percentile of the latency.
    P99,
    /// The server's processor time for one.
    ServerCpu,
}

impl Figure {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Rate, Self::P99, Self::ServerCpu];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::P99 => "p99",
            Self::ServerCpu => "server CPU",
        }
    }
}

/// The border that a goal draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Wanted {
    /// Whether `figure` keeps it.
    pub(crate) fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(formatter, "≥ {least}"),
            Self::AtMost(most) => write!(formatter, "≤ {most}"),
        }
    }
}

/// One goal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    /// Of which work.
    pub(crate) row: Row,
    /// What of it.
    pub(crate) figure: Figure,
    /// Whose: the engine's, alone or attached.
    pub(crate) of: Contender,
    /// As a multiple of whose; `None`: as it is.
    pub(crate) against: Option<Contender>,
    /// How much.
    pub(crate) wanted: Wanted,
}

const fn goal(row: Row, figure: Figure, against: Contender, wanted: Wanted) -> Goal {
    Goal { row, figure, of: Contender::Engine, against: Some(against), wanted }
}

/// The goals that these contenders can show; `docs/performance.md` has all of them.
pub(crate) const GOALS: [Goal; 14] = [
    goal(Row::Hot, Figure::Rate, Contender::Noop, Wanted::AtLeast(0.85)),
    goal(Row::Hot, Figure::P99, Contender::Noop, Wanted::AtMost(2.0)),
    goal(Row::Many, Figure::Rate, Contender::Noop, Wanted::AtLeast(0.8)),
    goal(Row::Hot, Figure::ServerCpu, Contender::Noop, Wanted::AtMost(1.4)),
    goal(Row::Checkout, Figure::Rate, Contender::Noop, Wanted::AtLeast(0.6)),
    goal(Row::SoldOut, Figure::Rate, Contender::Noop, Wanted::AtLeast(0.95)),
    goal(Row::Availability, Figure::Rate, Contender::Noop, Wanted::AtLeast(0.95)),
    goal(Row::Hot, Figure::Rate, Contender::Typical, Wanted::AtLeast(25.0)),
    goal(Row::Hot, Figure::P99, Contender::Typical, Wanted::AtMost(1.0)),
    goal(Row::Hot, Figure::Rate, Contender::Pgbench, Wanted::AtLeast(12.0)),
    goal(Row::Hot, Figure::Rate, Contender::Redis, Wanted::AtLeast(1.2)),
    goal(Row::Paced, Figure::P99, Contender::Noop, Wanted::AtMost(2.5)),
    Goal {
        row: Row::Batch,
        figure: Figure::Rate,
        of: Contender::Engine,
        against: None,
        wanted: Wanted::AtLeast(600_000.0),
    },
    Goal {
        row: Row::Hot,
        figure: Figure::Rate,
        of: Contender::Attached,
        against: Some(Contender::Engine),
        wanted: Wanted::AtLeast(0.85),
    },
];
