//! Promises of a SKU's stock, one row each.
//!
//! A table is text: one row a command, what it came to, and the figures after it. [`check`] runs the rows on one SKU in
//! order, folds every event, and checks laws 1 and 2 after each. The random side is in [`properties`], against the
//! independent [`model`].

mod model;
mod properties;

use std::collections::BTreeSet;

use super::*;
use crate::answer::{Answer, Folded, LedgerChunk, Missing, Refusal};
use crate::envelope::{Decision, Envelope};
use crate::identity::RequestStamp;
use crate::money::Currency;

/// Every event a SKU can record, by name. A new variant stops [`event_name`] from compiling and then belongs here.
const EVENTS: [&str; 13] = [
    "Adjusted",
    "Committed",
    "Defined",
    "Expired",
    "Extended",
    "OnHandSet",
    "PartFreed",
    "PartHeld",
    "PartSold",
    "Redefined",
    "Released",
    "Reserved",
    "Restocked",
];

/// Every refusal a SKU can give, by name.
const REFUSALS: [&str; 11] = [
    "!IllegalTransition",
    "!InsufficientStock",
    "!KeyReused",
    "!NotFound.Reservation",
    "!NotFound.Skus",
    "!ReservationExpired",
    "!Validation./delta",
    "!Validation./on_hand",
    "!Validation./oversell/limit",
    "!Validation./quantity",
    "!VersionMismatch",
];

/// The five ways to end a turn that are neither event nor refusal, as far as a SKU knows them.
const QUIET: [&str; 2] = ["Answer", "Nothing"];

/// One SKU under test, with its clock and its journal.
struct Bench {
    stock: Stock,
    next_position: u64,
    journal: Vec<(StockEvent, Recorded, Option<RequestStamp>)>,
    folded: Vec<Folded>,
}

impl Bench {
    fn new() -> Self {
        Self { stock: Stock::new(Sku::new("X").unwrap()), next_position: 1, journal: vec![], folded: vec![] }
    }

    /// Decides, folds what changed, checks the laws.
    fn run(&mut self, command: StockCommand, body: u64, now_ms: u64) -> Decision<StockEvent> {
        let request = Some(RequestStamp {
            key: RequestKey(u128::from(self.next_position)),
            fingerprint: Fingerprint(body),
        });
        let decision = self.stock.decide(&Envelope { now: Timestamp(now_ms), request, command });
        if let Decision::Change(events) = &decision {
            for event in events {
                let recorded = Recorded { position: Position(self.next_position), at: Timestamp(now_ms) };
                self.next_position += 1;
                self.folded.push(self.stock.evolve(event, recorded, request));
                self.journal.push((event.clone(), recorded, request));
                self.stock.check().unwrap();
                self.stock.check_holds().unwrap();
            }
        }
        decision
    }
}

/// Runs a table and returns the names of the events, refusals and quiet ends it reached.
///
/// Columns: op, id, units (or ms, for extend), options, `now_ms`, outcome, `on_hand`, reserved, sold, sellable. `-` is
/// "none" or, on the right, "not looked at". An outcome's number is what was granted, freed or set.
fn check(name: &str, table: &str) -> BTreeSet<String> {
    let mut bench = Bench::new();
    let mut reached = BTreeSet::new();
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with("op ")) {
        let cells: Vec<&str> = row.split_whitespace().collect();
        let [op, id, units, options, now_ms, outcome, on_hand, reserved, sold, sellable] = cells[..] else {
            panic!("{name}: ten cells a row: {row}");
        };
        let before = bench.stock.clone();
        let decision = bench.run(command(op, id, units, options), body(options), now_ms.parse().unwrap());
        let seen = describe(&decision);
        assert_eq!(seen, outcome, "{name}: {row}");
        reached.insert(seen.split('=').next().unwrap().to_owned());
        if !matches!(decision, Decision::Change(_)) {
            assert_eq!(bench.stock, before, "{name}: only a change changes anything: {row}");
        }
        let view = bench.stock.view();
        for (label, cell, figure) in [
            ("on_hand", on_hand, view.on_hand),
            ("reserved", reserved, view.reserved),
            ("sold", sold, view.sold),
            ("sellable", sellable, view.sellable),
        ] {
            if cell != "-" {
                assert_eq!(figure.to_string(), cell, "{name}: {label} after: {row}");
            }
        }
    }
    reached
}

/// `option:5` among comma-separated options.
fn option(options: &str, name: &str) -> Option<u64> {
    options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
}

fn body(options: &str) -> u64 {
    option(options, "body").unwrap_or(1)
}

fn number(units: &str) -> i64 {
    if units == "max" { i64::MAX } else { units.parse().unwrap() }
}

fn definition(limit: i64, reservation_ttl_ms: Option<u64>) -> Definition {
    Definition {
        name: "a thing".into(),
        price: Money::new(1999, Currency::GBP),
        oversell: if limit == 0 { Oversell::Deny } else { Oversell::Allow(limit) },
        reservation_ttl_ms,
        low_stock_at: None,
    }
}

fn command(op: &str, id: &str, units: &str, options: &str) -> StockCommand {
    let reservation = ReservationId(id.trim_start_matches(char::is_alphabetic).parse().unwrap_or(0));
    let partial = options.split(',').any(|option| option == "partial");
    let as_of = Position(option(options, "as_of").unwrap_or(u64::MAX));
    match op {
        "define" => StockCommand::Define {
            definition: definition(
                option(options, "allow").map_or(0, |limit| i64::try_from(limit).unwrap()),
                option(options, "ttl"),
            ),
            opening: (units != "-").then(|| number(units)),
        },
        "adjust" => StockCommand::Adjust { delta: number(units), reason: "delivery".into(), reference: None },
        "set" => StockCommand::SetOnHand {
            on_hand: number(units),
            reason: "counted".into(),
            expected_version: option(options, "version").unwrap(),
        },
        "reserve" => StockCommand::Reserve(Reserve {
            reservation,
            quantity: number(units),
            ttl_ms: option(options, "ttl"),
            partial,
            customer: None,
        }),
        "extend" => StockCommand::Extend { reservation, extend_ms: units.parse().unwrap() },
        "commit" => StockCommand::Commit { reservation },
        "release" => StockCommand::Release { reservation },
        "expire" => StockCommand::Expire { reservation },
        "hold" => {
            let home = if id.starts_with('O') { Home::Order } else { Home::Reservation };
            StockCommand::HoldPart { reservation, quantity: number(units), partial, home }
        }
        "sell" => StockCommand::SellPart { reservation, as_of },
        "free" => StockCommand::FreePart { reservation, as_of },
        "restock" => StockCommand::Restock {
            step: reservation.0,
            quantity: number(units),
            order: OrderId(reservation.0),
        },
        _ => panic!("no such op: {op}"),
    }
}

/// An event's name and the number that matters, e.g. `Reserved=3`; a refusal's with a leading `!`.
fn describe(decision: &Decision<StockEvent>) -> String {
    match decision {
        Decision::Change(events) => {
            assert_eq!(events.len(), 1, "one event a turn: {events:?}");
            let (name, number) = event_name(&events[0]);
            number.map_or(name.to_owned(), |number| format!("{name}={number}"))
        }
        Decision::Refuse(refusal) => refusal_name(refusal),
        Decision::Answer(_) => "Answer".into(),
        Decision::Nothing => "Nothing".into(),
        Decision::Join => "Join".into(),
    }
}

fn event_name(event: &StockEvent) -> (&'static str, Option<i64>) {
    match event {
        StockEvent::Defined { opening, .. } => ("Defined", Some(*opening)),
        StockEvent::Redefined { .. } => ("Redefined", None),
        StockEvent::Adjusted { delta, .. } => ("Adjusted", Some(*delta)),
        StockEvent::OnHandSet { on_hand, .. } => ("OnHandSet", Some(*on_hand)),
        StockEvent::Reserved { quantity, .. } => ("Reserved", Some(*quantity)),
        StockEvent::Extended { expires_at, .. } => ("Extended", Some(i64::try_from(expires_at.0).unwrap())),
        StockEvent::Committed { .. } => ("Committed", None),
        StockEvent::Released { .. } => ("Released", None),
        StockEvent::Expired { .. } => ("Expired", None),
        StockEvent::PartHeld { quantity, .. } => ("PartHeld", Some(*quantity)),
        StockEvent::PartSold { .. } => ("PartSold", None),
        StockEvent::PartFreed { .. } => ("PartFreed", None),
        StockEvent::Restocked { quantity, .. } => ("Restocked", Some(*quantity)),
    }
}

fn refusal_name(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound(Missing::Skus(_)) => "!NotFound.Skus".into(),
        Refusal::NotFound(Missing::Reservation) => "!NotFound.Reservation".into(),
        Refusal::InsufficientStock(shortages) => {
            format!("!InsufficientStock={}/{}", shortages[0].requested, shortages[0].available)
        }
        Refusal::IllegalTransition { .. } => "!IllegalTransition".into(),
        Refusal::ReservationExpired => "!ReservationExpired".into(),
        Refusal::VersionMismatch { current } => format!("!VersionMismatch={current}"),
        Refusal::Validation(errors) => format!("!Validation.{}", errors[0].pointer),
        Refusal::KeyReused => "!KeyReused".into(),
        Refusal::NotFound(Missing::Cart | Missing::Line | Missing::Order | Missing::Actor)
        | Refusal::CartExpired
        | Refusal::PriceChanged { .. }
        | Refusal::PaymentDeclined { .. }
        | Refusal::InProgress { .. }
        | Refusal::Overloaded { .. }
        | Refusal::StorageFull { .. }
        | Refusal::Draining
        | Refusal::Recovering { .. }
        | Refusal::PaymentUnavailable { .. }
        | Refusal::DeadlineExceeded => panic!("not a SKU's to say: {refusal:?}"),
    }
}

const CATALOGUE: &str = "
op       id  units           options                now_ms  outcome                     on_hand  reserved  sold  sellable
reserve  R1  1               -                           0  !NotFound.Skus                    0         0     0         0
adjust   -   1               -                           0  !NotFound.Skus                    0         0     0         0
free     P1  -               -                           0  !NotFound.Skus                    0         0     0         0
define   -   -1              -                           0  !Validation./on_hand              0         0     0         0
define   -   1000000000001   -                           0  !Validation./on_hand              0         0     0         0
define   -   5               allow:1000000000001         0  !Validation./oversell/limit       0         0     0         0
define   -   5               -                           0  Defined=5                         5         0     0         5
define   -   99              allow:2                     0  Redefined                         5         0     0         7
reserve  R1  7               -                           0  Reserved=7                        5         7     0         0
define   -   -               allow:1                     0  !Validation./oversell/limit       5         7     0         0
define   -   -               allow:3                     0  Redefined                         5         7     0         1
";

const UNITS: &str = "
op       id  units           options    now_ms  outcome                  on_hand  reserved  sold  sellable
define   -   -               -               0  Defined=0                      0         0     0         0
adjust   -   10              -               1  Adjusted=10                   10         0     0        10
adjust   -   -3              -               2  Adjusted=-3                    7         0     0         7
adjust   -   -8              -               3  !InsufficientStock=8/7         7         0     0         7
adjust   -   max             -               3  !Validation./delta             7         0     0         7
adjust   -   1000000000000   -               3  !Validation./delta             7         0     0         7
adjust   -   0               -               3  !Validation./delta             7         0     0         7
reserve  R1  4               -               4  Reserved=4                     7         4     0         3
adjust   -   -4              -               5  !InsufficientStock=4/3         7         4     0         3
set      -   9               version:3       6  !VersionMismatch=4             7         4     0         3
set      -   3               version:4       6  !InsufficientStock=4/3         7         4     0         3
set      -   1000000000001   version:4       6  !Validation./on_hand           7         4     0         3
set      -   9               version:4       6  OnHandSet=9                    9         4     0         5
set      -   9               version:4       6  !VersionMismatch=5             9         4     0         5
set      -   4               version:5       6  OnHandSet=4                    4         4     0         0
";

const RESERVING: &str = "
op       id  units  options          now_ms  outcome                   on_hand  reserved  sold  sellable
define   -   10     ttl:100               0  Defined=10                     10         0     0        10
reserve  R1  3      -                     0  Reserved=3                     10         3     0         7
reserve  R1  3      -                     9  Answer                         10         3     0         7
reserve  R1  3      body:2                9  !KeyReused                     10         3     0         7
reserve  R2  8      -                    10  !InsufficientStock=8/7         10         3     0         7
reserve  R2  8      partial              10  Reserved=7                     10        10     0         0
reserve  R3  1      partial              10  !InsufficientStock=1/0         10        10     0         0
reserve  R3  0      -                    10  !Validation./quantity          10        10     0         0
reserve  R3  -1     -                    10  !Validation./quantity          10        10     0         0
hold     O3  0      -                    10  !Validation./quantity          10        10     0         0
sell     R1  -      -                    10  Nothing                        10        10     0         0
free     R1  -      -                    10  Nothing                        10        10     0         0
release  R2  -      -                    11  Released                       10         3     0         7
release  R2  -      -                    11  !NotFound.Reservation          10         3     0         7
commit   R1  -      -                    99  Committed                       7         0     3         7
commit   R1  -      -                    99  !NotFound.Reservation           7         0     3         7
release  R1  -      -                    99  !NotFound.Reservation           7         0     3         7
extend   R1  5      -                    99  !NotFound.Reservation           7         0     3         7
expire   R1  -      -                   100  Nothing                         7         0     3         7
";

const EXPIRY: &str = "
op       id  units  options          now_ms  outcome                   on_hand  reserved  sold  sellable
define   -   10     ttl:100               0  Defined=10                     10         0     0        10
reserve  R1  1      -                  1000  Reserved=1                     10         1     0         9
expire   R1  -      -                  1099  Nothing                        10         1     0         9
commit   R1  -      -                  1100  !ReservationExpired            10         1     0         9
release  R1  -      -                  1100  !ReservationExpired            10         1     0         9
extend   R1  50     -                  1100  !ReservationExpired            10         1     0         9
expire   R1  -      -                  1100  Expired                        10         0     0        10
expire   R1  -      -                  1101  Nothing                        10         0     0        10
commit   R1  -      -                  1101  !NotFound.Reservation          10         0     0        10
reserve  R2  1      ttl:7              2000  Reserved=1                     10         1     0         9
commit   R2  -      -                  2006  Committed                       9         0     1         9
reserve  R3  1      -                  3000  Reserved=1                      9         1     1         8
extend   R3  50     -                  3099  Extended=3150                   9         1     1         8
expire   R3  -      -                  3149  Nothing                         9         1     1         8
expire   R3  -      -                  3150  Expired                         9         0     1         9
reserve  R4  1      -                  4000  Reserved=1                      9         1     1         8
extend   R4  86400000 -                4000  Extended=86404000               9         1     1         8
extend   R4  1      -                  4001  Extended=86404000               9         1     1         8
expire   R4  -      -              86403999  Nothing                         9         1     1         8
commit   R4  -      -              86404000  !ReservationExpired             9         1     1         8
";

const OVERSELL: &str = "
op       id  units  options          now_ms  outcome                   on_hand  reserved  sold  sellable
define   -   2      allow:3               0  Defined=2                       2         0     0         5
reserve  R1  6      -                     0  !InsufficientStock=6/5          2         0     0         5
reserve  R1  5      -                     0  Reserved=5                      2         5     0         0
reserve  R2  1      -                     0  !InsufficientStock=1/0          2         5     0         0
commit   R1  -      -                     1  Committed                      -3         0     5         0
define   -   -      -                     2  !Validation./oversell/limit    -3         0     5         0
define   -   -      allow:2               2  !Validation./oversell/limit    -3         0     5         0
adjust   -   1      -                     3  Adjusted=1                     -2         0     5         1
adjust   -   -2     -                     3  !InsufficientStock=2/1         -2         0     5         1
define   -   -      allow:2               4  Redefined                      -2         0     5         0
adjust   -   2      -                     5  Adjusted=2                      0         0     5         2
define   -   -      -                     6  Redefined                       0         0     5         0
restock  S1  9      -                     7  Restocked=5                     5         0     0         5
";

const PARTS: &str = "
op       id  units  options          now_ms  outcome                   on_hand  reserved  sold  sellable
define   -   10     -                     0  Defined=10                     10         0     0        10
hold     P1  4      -                     0  PartHeld=4                     10         4     0         6
hold     P1  4      -                     0  Nothing                        10         4     0         6
hold     O2  9      -                     0  !InsufficientStock=9/6         10         4     0         6
hold     O2  9      partial               0  PartHeld=6                     10        10     0         0
hold     P3  1      partial               0  !InsufficientStock=1/0         10        10     0         0
commit   P1  -      -                     1  !IllegalTransition             10        10     0         0
release  O2  -      -                     1  !IllegalTransition             10        10     0         0
extend   O2  9      -                     1  !IllegalTransition             10        10     0         0
expire   P1  -      -             900000000  Nothing                        10        10     0         0
reserve  P1  4      -             900000000  !KeyReused                     10        10     0         0
sell     P1  -      -             900000000  PartSold                        6         6     4         0
sell     P1  -      -             900000000  Nothing                         6         6     4         0
free     P1  -      -             900000000  Nothing                         6         6     4         0
hold     P1  4      -             900000000  Nothing                         6         6     4         0
free     O2  -      -             900000001  PartFreed                       6         0     4         6
free     O2  -      -             900000001  Nothing                         6         0     4         6
sell     O2  -      -             900000001  Nothing                         6         0     4         6
hold     O2  6      -             900000001  Nothing                         6         0     4         6
free     P9  -      -             900000001  Nothing                         6         0     4         6
sell     P9  -      -             900000001  Nothing                         6         0     4         6
adjust   -   1      -             900009999  Adjusted=1                      7         0     4         7
hold     P1  1      -             900009999  Nothing                         7         0     4         7
adjust   -   1      -             900010000  Adjusted=1                      8         0     4         8
hold     P1  1      -             900010000  PartHeld=1                      8         1     4         7
";

/// Found by the simulator: a key that was tried again a day later was refused units that were there, for nothing had happened to
/// the SKU since its first attempt.
const QUIET_SKU: &str = "
op       id  units  options          now_ms  outcome                   on_hand  reserved  sold  sellable
define   -   10     -                     0  Defined=10                     10         0     0        10
hold     P1  4      -                     0  PartHeld=4                     10         4     0         6
sell     P1  -      -                     1  PartSold                        6         0     4         6
hold     P1  4      -                 10000  Nothing                         6         0     4         6
hold     P1  4      -                 10001  PartHeld=4                      6         4     4         2
";

/// Events stand at positions 1, 2, 3, …: the part is held at 2, and again at 4.
const LATE_STEPS: &str = "
op       id  units  options          now_ms  outcome                   on_hand  reserved  sold  sellable
define   -   10     -                     0  Defined=10                     10         0     0        10
hold     P1  4      -                     0  PartHeld=4                     10         4     0         6
free     P1  -      as_of:2               0  Nothing                        10         4     0         6
sell     P1  -      as_of:2               0  Nothing                        10         4     0         6
free     P1  -      as_of:3               0  PartFreed                      10         0     0        10
hold     P1  4      -                     0  PartHeld=4                     10         4     0         6
free     P1  -      as_of:3               0  Nothing                        10         4     0         6
sell     P1  -      as_of:4               0  Nothing                        10         4     0         6
sell     P1  -      as_of:5               0  PartSold                        6         0     4         6
";

const RESTOCKING: &str = "
op       id  units  options          now_ms  outcome                   on_hand  reserved  sold  sellable
define   -   5      -                     0  Defined=5                       5         0     0         5
restock  S1  1      -                     0  Nothing                         5         0     0         5
hold     O1  4      -                     0  PartHeld=4                      5         4     0         1
sell     O1  -      -                     0  PartSold                        1         0     4         1
restock  S1  3      -                     1  Restocked=3                     4         0     1         4
restock  S1  3      -                     1  Nothing                         4         0     1         4
restock  S2  2      -                     2  Restocked=1                     5         0     0         5
restock  S3  1      -                     3  Nothing                         5         0     0         5
restock  S4  -2     -                     3  Nothing                         5         0     0         5
";

const TABLES: [(&str, &str); 9] = [
    ("catalogue", CATALOGUE),
    ("units", UNITS),
    ("reserving", RESERVING),
    ("expiry", EXPIRY),
    ("oversell", OVERSELL),
    ("parts", PARTS),
    ("quiet sku", QUIET_SKU),
    ("late steps", LATE_STEPS),
    ("restocking", RESTOCKING),
];

#[test]
fn a_sku_is_defined_once_and_its_oversell_limit_never_falls_below_what_is_promised() {
    check("catalogue", CATALOGUE);
}

#[test]
fn units_move_by_delta_or_by_count_and_never_from_under_a_promise() {
    check("units", UNITS);
}

#[test]
fn a_reservation_is_granted_whole_or_in_part_and_ends_once() {
    check("reserving", RESERVING);
}

#[test]
fn a_deadline_is_exclusive_and_an_extension_stops_at_one_day() {
    check("expiry", EXPIRY);
}

#[test]
fn overselling_stops_at_its_limit() {
    check("oversell", OVERSELL);
}

#[test]
fn only_its_saga_ends_a_part_and_a_late_copy_holds_nothing() {
    check("parts", PARTS);
}

#[test]
fn an_ended_part_is_forgotten_in_time_also_where_nothing_happens_to_its_sku() {
    check("quiet sku", QUIET_SKU);
}

#[test]
fn a_step_decided_before_a_part_was_held_does_not_end_it() {
    check("late steps", LATE_STEPS);
}

#[test]
fn a_restock_happens_once_and_never_beyond_what_was_sold() {
    check("restocking", RESTOCKING);
}

#[test]
fn every_event_and_every_refusal_is_reached_by_some_row() {
    let reached: BTreeSet<String> = TABLES.iter().flat_map(|(name, table)| check(name, table)).collect();
    let known: BTreeSet<String> =
        EVENTS.iter().chain(&REFUSALS).chain(&QUIET).map(ToString::to_string).collect();
    assert_eq!(reached, known);
}

#[test]
fn an_answer_tells_the_stock_after_its_own_change() {
    let mut bench = Bench::new();
    bench.run(command("define", "-", "5", "-"), 1, 0);
    bench.run(command("reserve", "R1", "2", "ttl:50"), 7, 10);
    bench.run(command("extend", "R1", "25", "-"), 1, 20);
    bench.run(command("commit", "R1", "-", "-"), 1, 30);
    bench.run(command("adjust", "-", "4", "-"), 1, 40);

    let verdicts: Vec<Answer> =
        bench.folded.iter().map(|folded| folded.settlements[0].verdict.clone().unwrap()).collect();
    let [
        Answer::SkuDefined { created: true, stock: opened },
        granted,
        extended,
        committed,
        Answer::Stock(adjusted),
    ] = &verdicts[..]
    else {
        panic!("{verdicts:?}");
    };
    assert_eq!((opened.on_hand, opened.version), (5, 1));
    assert_eq!((adjusted.received, adjusted.on_hand, adjusted.sold, adjusted.version), (9, 7, 2, 5));
    for (answer, state, expires_at) in [
        (granted, ReservationState::Held, 60),
        (extended, ReservationState::Held, 85),
        (committed, ReservationState::Committed, 85),
    ] {
        let Answer::Reservation(record) = answer else { panic!("{answer:?}") };
        assert_eq!((record.state, record.expires_at), (state, Timestamp(expires_at)));
        assert_eq!(
            (record.created_at, record.position, record.fingerprint),
            (Timestamp(10), Position(2), Fingerprint(7))
        );
        assert_eq!(record.items.as_slice(), [Item { sku: Sku::new("X").unwrap(), quantity: 2 }]);
    }
    let ended = bench.folded[3].ended.as_deref().unwrap();
    assert_eq!(
        Answer::Reservation(ended.first()),
        *granted,
        "what is kept gives the first answer again (law 5)"
    );
    assert!(bench.folded[..3].iter().all(|folded| folded.ended.is_none()));
}

#[test]
fn a_retry_is_answered_as_at_first_even_after_an_extension() {
    let mut bench = Bench::new();
    bench.run(command("define", "-", "5", "ttl:100"), 1, 0);
    bench.run(command("reserve", "R1", "2", "-"), 1, 10);
    bench.run(command("extend", "R1", "900", "-"), 1, 20);
    let first = bench.folded[1].settlements[0].verdict.clone().unwrap();
    assert_eq!(bench.run(command("reserve", "R1", "2", "-"), 1, 30), Decision::Answer(first));
    let present = bench.stock.reservation(ReservationId(1)).unwrap();
    assert_eq!(present.expires_at, Timestamp(1010), "a read tells the present");
}

#[test]
fn the_time_to_live_is_the_requests_else_the_skus_else_ten_minutes() {
    for (label, sku_ttl, request_ttl, expires_at) in [
        ("nobody says", "-", "-", RESERVATION_TTL_MS),
        ("the SKU says", "ttl:100", "-", 100),
        ("the request says", "ttl:100", "ttl:7", 7),
    ] {
        let mut bench = Bench::new();
        bench.run(command("define", "-", "5", sku_ttl), 1, 0);
        bench.run(command("reserve", "R1", "1", request_ttl), 1, 0);
        assert_eq!(
            bench.stock.reservation(ReservationId(1)).unwrap().expires_at,
            Timestamp(expires_at),
            "{label}"
        );
    }
}

#[test]
fn a_part_is_nobodys_public_reservation() {
    let mut bench = Bench::new();
    bench.run(command("define", "-", "5", "-"), 1, 0);
    bench.run(command("hold", "O1", "1", "-"), 1, 0);
    bench.run(command("reserve", "R2", "1", "ttl:9"), 3, 0);
    assert_eq!(bench.stock.reservation(ReservationId(1)), None);
    assert_eq!(bench.stock.part(ReservationId(1), Timestamp(0)), PartStatus::Held(1));
    assert_eq!(
        bench.stock.reservations().collect::<Vec<_>>(),
        [(RequestKey(2), Fingerprint(3), Timestamp(9))],
        "only public reservations have a key and a timer of their own"
    );
    assert_eq!(bench.stock.open_reservations(), 2);
}

#[test]
fn the_ledger_keeps_the_newest_in_memory_and_loses_no_entry() {
    let mut bench = Bench::new();
    bench.run(command("define", "-", "1000", "-"), 1, 5);
    for n in 1..=500_u64 {
        match n % 4 {
            0 => bench.run(command("adjust", "-", "2", "-"), 1, n),
            1 => bench.run(
                StockCommand::SetOnHand {
                    on_hand: 1000,
                    reason: "counted".into(),
                    expected_version: bench.stock.version(),
                },
                1,
                n,
            ),
            2 => {
                bench.run(command("hold", &format!("O{n}"), "3", "-"), 1, n);
                bench.run(command("sell", &format!("O{n}"), "-", "-"), 1, n)
            }
            _ => bench.run(command("restock", &format!("S{n}"), "1", "-"), 1, n),
        };
    }
    let spilled: Vec<&LedgerChunk> =
        bench.folded.iter().filter_map(|folded| folded.spilled.as_deref()).collect();
    assert!(!spilled.is_empty() && spilled.iter().all(|chunk| chunk.entries.len() == LEDGER_SPILL));
    let mut kept = bench.stock.recent_ledger();
    assert!(kept.len() < LEDGER_KEPT_MAX);
    kept.reverse();
    let all: Vec<LedgerEntry> = std::iter::once(bench.stock.opening_entry())
        .chain(spilled.iter().flat_map(|chunk| chunk.entries.iter().cloned()))
        .chain(kept)
        .collect();
    assert_eq!(all.len(), 501, "one entry a movement, and the opening");
    assert!(all.is_sorted_by(|earlier, later| earlier.position < later.position));
    let kinds: BTreeSet<String> = all.iter().map(|entry| format!("{:?}", entry.kind)).collect();
    assert_eq!(kinds.len(), 5, "every kind of movement: {kinds:?}");
    assert_eq!(all.iter().map(|entry| entry.delta).sum::<i64>(), bench.stock.view().on_hand);
}

#[test]
fn an_event_that_no_decision_gave_stops_the_process() {
    for (label, event) in [
        ("law 2: commit of nothing", StockEvent::Committed { reservation: ReservationId(9) }),
        ("law 2: release of nothing", StockEvent::Released { reservation: ReservationId(9) }),
        (
            "law 2: extension of nothing",
            StockEvent::Extended { reservation: ReservationId(9), expires_at: Timestamp(1) },
        ),
        ("law 2: part of nothing", StockEvent::PartFreed { reservation: ReservationId(9) }),
        (
            "law 2: begun twice",
            StockEvent::PartHeld { reservation: ReservationId(1), quantity: 1, home: Home::Order },
        ),
        (
            "law 1: oversold",
            StockEvent::PartHeld { reservation: ReservationId(2), quantity: 5, home: Home::Order },
        ),
        (
            "law 1: taken from under a promise",
            StockEvent::Adjusted { delta: -5, reason: "theft".into(), reference: None, location: None },
        ),
    ] {
        let mut bench = Bench::new();
        bench.run(command("define", "-", "5", "-"), 1, 0);
        bench.run(command("hold", "O1", "1", "-"), 1, 0);
        let mut stock = bench.stock;
        let recorded = Recorded { position: Position(9), at: Timestamp(1) };
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stock.evolve(&event, recorded, None)));
        assert!(outcome.is_err(), "{label}");
    }
}
