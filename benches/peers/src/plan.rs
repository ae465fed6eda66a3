//! What is measured: the rows of work, who takes part in each, and in which order their turns come.
//!
//! Start at [`turns`]. Pure: nothing here starts, asks or measures anything.

use serde::Serialize;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Row {
    /// Durable reservations of one unit, all of one SKU
    Hot,
    /// The same over many SKUs
    Many,
    /// Refusals: the SKU has no unit left
    SoldOut,
    /// Reads of one SKU's availability
    Availability,
    /// Many independent reservations in one request
    Batch,
    /// Cart, two lines, checkout, order: counted in requests
    Checkout,
    /// Durable reservations of one SKU at a fixed rate (open loop)
    Paced,
}

impl Row {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 7] =
        [Self::Hot, Self::Many, Self::SoldOut, Self::Availability, Self::Batch, Self::Checkout, Self::Paced];

    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Many => "many",
            Self::SoldOut => "sold_out",
            Self::Availability => "availability",
            Self::Batch => "batch",
            Self::Checkout => "checkout",
            Self::Paced => "paced",
        }
    }
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Contender {
    /// Doorbuster, every guarantee on
    Engine,
    /// The same with Postgres and Redis attached: it projects and announces
    Attached,
    /// A bare actix-web server that parses the body and answers one of the engine's size
    Noop,
    /// actix-web, a pool, a Postgres transaction with a row lock
    Typical,
    /// The same service with its transaction folded into one statement
    TypicalOneStatement,
    /// Postgres without HTTP: one prepared statement, driven by pgbench
    Pgbench,
    /// Redis without HTTP: one Lua script by its hash, appendfsync always
    Redis,
}

impl Contender {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 7] = [
        Self::Noop,
        Self::Engine,
        Self::Attached,
        Self::Typical,
        Self::TypicalOneStatement,
        Self::Pgbench,
        Self::Redis,
    ];

    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Attached => "attached",
            Self::Noop => "noop",
            Self::Typical => "typical",
            Self::TypicalOneStatement => "typical_one_statement",
            Self::Pgbench => "pgbench",
            Self::Redis => "redis",
        }
    }

    /// Whether it can do such work. A service over Postgres cannot be asked for 20,000 reservations a second, nor
    /// Postgres or Redis for a cart.
    pub(crate) fn takes_part(self, row: Row) -> bool {
        match self {
            Self::Engine | Self::Attached | Self::Noop => true,
            Self::Typical | Self::TypicalOneStatement => match row {
                Row::Hot | Row::Many | Row::SoldOut | Row::Availability => true,
                Row::Batch | Row::Checkout | Row::Paced => false,
            },
            Self::Pgbench | Self::Redis => match row {
                Row::Hot | Row::Many => true,
                Row::SoldOut | Row::Availability | Row::Batch | Row::Checkout | Row::Paced => false,
            },
        }
    }

    /// Whether its acknowledgements promise a disk.
    pub(crate) fn is_durable(self) -> bool {
        match self {
            Self::Noop => false,
            Self::Engine
            | Self::Attached
            | Self::Typical
            | Self::TypicalOneStatement
            | Self::Pgbench
            | Self::Redis => true,
        }
    }
}

/// One contender at one kind of work, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Turn {
    /// Which repetition, from 0.
    pub(crate) round: usize,
    /// What.
    pub(crate) row: Row,
    /// Who.
    pub(crate) contender: Contender,
}

/// All turns. Within a round each row goes through all its contenders before the next row, so that those who are
/// compared come within seconds of each other; each round begins with another contender, so that nobody is always first.
pub(crate) fn turns(rounds: usize, rows: &[Row], contenders: &[Contender]) -> Vec<Turn> {
    let mut turns = vec![];
    for round in 0..rounds {
        for row in rows.iter().copied() {
            let mut able: Vec<Contender> =
                contenders.iter().copied().filter(|contender| contender.takes_part(row)).collect();
            let shift = round % able.len().max(1);
            able.rotate_left(shift);
            turns.extend(able.into_iter().map(|contender| Turn { round, row, contender }));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_all_who_can_and_begins_with_another() {
        let turns =
            turns(2, &[Row::Hot, Row::Paced], &[Contender::Noop, Contender::Engine, Contender::Redis]);
        let seen: Vec<(usize, &str, &str)> =
            turns.iter().map(|turn| (turn.round, turn.row.name(), turn.contender.name())).collect();
        let expected = [
            (0, "hot", "noop"),
            (0, "hot", "engine"),
            (0, "hot", "redis"),
            (0, "paced", "noop"),
            (0, "paced", "engine"),
            (1, "hot", "engine"),
            (1, "hot", "redis"),
            (1, "hot", "noop"),
            (1, "paced", "engine"),
            (1, "paced", "noop"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn names_are_those_of_the_command_line_and_of_the_json() {
        use clap::ValueEnum as _;
        for row in Row::ALL {
            assert_eq!(row.to_possible_value().unwrap().get_name(), row.name());
            assert_eq!(serde_json::to_value(row).unwrap(), row.name());
        }
        for contender in Contender::ALL {
            assert_eq!(contender.to_possible_value().unwrap().get_name(), contender.name());
            assert_eq!(serde_json::to_value(contender).unwrap(), contender.name());
        }
    }
}
