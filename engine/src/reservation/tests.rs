//! Promises of a coordinator. Rows are turns of one coordinator, top to bottom; `new` begins another.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::answer::{Answer, Missing, Refusal};
use crate::envelope::{Decision, Envelope};
use crate::identity::{Position, RequestKey, Sku};

const ID: ReservationId = ReservationId(1);

/// A coordinator with its journal, so that every turn can be replayed.
struct Bench {
    reservation: Reservation,
    journal: Vec<(ReservationEvent, Recorded, Option<RequestStamp>)>,
    ended: Vec<ReservationRecord>,
}

impl Bench {
    fn new() -> Self {
        Self { reservation: Reservation::new(ID), journal: Vec::new(), ended: Vec::new() }
    }

    /// One turn: what was decided and what somebody was told, by name.
    fn turn(&mut self, envelope: &Envelope<ReservationCommand>) -> (String, String) {
        let events = match self.reservation.decide(envelope) {
            Decision::Change(events) => events,
            Decision::Answer(answer) => return ("answer".into(), name_of_answer(&answer)),
            Decision::Refuse(refusal) => return ("refuse".into(), name_of_refusal(&refusal)),
            Decision::Nothing => return ("nothing".into(), "-".into()),
            Decision::Join => return ("join".into(), "-".into()),
        };
        let mut told = Vec::new();
        for event in &events {
            let position = Position(self.journal.len() as u64 + 1);
            let recorded = Recorded { position, at: envelope.now };
            let folded = self.reservation.evolve(event, recorded, envelope.request);
            self.journal.push((event.clone(), recorded, envelope.request));
            self.ended.extend(folded.ended.map(|record| *record));
            for settlement in folded.settlements {
                let verdict = match &settlement.verdict {
                    Ok(answer) => name_of_answer(answer),
                    Err(refusal) => name_of_refusal(refusal),
                };
                told.push(format!("K{}:{verdict}", settlement.request.key.0));
            }
        }
        self.reservation.check().unwrap();
        let mut replayed = Reservation::new(ID);
        for (event, recorded, request) in &self.journal {
            replayed.evolve(event, *recorded, *request);
        }
        assert_eq!(replayed, self.reservation, "law 10: the journal folded gives the same coordinator");
        let names: Vec<_> = events.iter().map(name_of_event).collect();
        (names.join("+"), if told.is_empty() { "-".into() } else { told.join(",") })
    }

    /// Phase, obligation, and when it is due.
    fn shown(&self) -> (String, String, String) {
        let items = |items: &[Item]| {
            items.iter().map(|item| format!("{}*{}", item.sku, item.quantity)).collect::<Vec<_>>().join(",")
        };
        let work = |obligation: &ReservationObligation| match obligation {
            ReservationObligation::HoldUnits { items: asked, partial: _ } => format!("hold:{}", items(asked)),
            ReservationObligation::SellUnits(granted) => format!("sell:{}", items(granted)),
            ReservationObligation::FreeUnits(held) => format!("free:{}", items(held)),
        };
        let obligations = self.reservation.obligations();
        let work = obligations.first().map_or_else(|| "-".into(), work);
        let due = self.reservation.due().map_or_else(|| "-".into(), |due| due.0.to_string());
        (format!("{:?}", self.reservation.phase()).to_lowercase(), work, due)
    }
}

fn name_of_event(event: &ReservationEvent) -> &'static str {
    match event {
        ReservationEvent::Requested { .. } => "requested",
        ReservationEvent::Granted { .. } => "granted",
        ReservationEvent::Refused { .. } => "refused",
        ReservationEvent::Extended { .. } => "extended",
        ReservationEvent::Committed => "committed",
        ReservationEvent::Released => "released",
        ReservationEvent::Expired => "expired",
        ReservationEvent::Settled => "settled",
    }
}

fn name_of_answer(answer: &Answer) -> String {
    let Answer::Reservation(record) = answer else { panic!("not a coordinator's answer: {answer:?}") };
    format!("{:?}@{}", record.state, record.expires_at.0).to_lowercase()
}

fn name_of_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound(Missing::Reservation) => "not_found".into(),
        Refusal::InsufficientStock(shortages) => {
            let short = shortages.iter().map(|short| format!("{}-{}", short.sku, short.available));
            format!("short_{}", short.collect::<Vec<_>>().join("_"))
        }
        Refusal::IllegalTransition { from, .. } => format!("illegal_from_{from}"),
        Refusal::ReservationExpired => "reservation_expired".into(),
        Refusal::KeyReused => "key_reused".into(),
        Refusal::InProgress { .. } => "in_progress".into(),
        Refusal::NotFound(
            Missing::Skus(_) | Missing::Cart | Missing::Line | Missing::Order | Missing::Actor,
        )
        | Refusal::CartExpired
        | Refusal::PriceChanged { .. }
        | Refusal::VersionMismatch { .. }
        | Refusal::PaymentDeclined { .. }
        | Refusal::Validation(_)
        | Refusal::Overloaded { .. }
        | Refusal::StorageFull { .. }
        | Refusal::Draining
        | Refusal::Recovering { .. }
        | Refusal::PaymentUnavailable { .. }
        | Refusal::DeadlineExceeded => panic!("not a coordinator's refusal: {refusal:?}"),
    }
}

/// `A*2,B*1`.
fn items(text: &str) -> Vec<Item> {
    let item = |text: &str| {
        let (sku, quantity) = text.split_once('*').unwrap();
        Item { sku: Sku::new(sku).unwrap(), quantity: quantity.parse().unwrap() }
    };
    text.split(',').filter(|text| !text.is_empty()).map(item).collect()
}

/// `request:A*2,B*1`, `some:A*2` (partial), `held:A*2`, `short:A*0` (what each had), `extend:50`, ...
fn command(text: &str) -> ReservationCommand {
    let (op, argument) = text.split_once(':').unwrap_or((text, ""));
    let request = |partial| ReservationCommand::Request {
        items: items(argument),
        ttl_ms: 100,
        partial,
        customer: Some("c".into()),
    };
    match op {
        "request" => request(false),
        "some" => request(true),
        "held" => ReservationCommand::UnitsHeld { granted: items(argument) },
        "short" => {
            let short = |item: Item| Shortage { sku: item.sku, requested: 9, available: item.quantity };
            ReservationCommand::UnitsRefused { shortages: items(argument).into_iter().map(short).collect() }
        }
        "extend" => ReservationCommand::Extend { extend_ms: argument.parse().unwrap() },
        "commit" => ReservationCommand::Commit,
        "release" => ReservationCommand::Release,
        "expire" => ReservationCommand::Expire,
        "settled" => ReservationCommand::UnitsSettled,
        "read" => ReservationCommand::Read,
        _ => panic!("no such op: {op}"),
    }
}

/// `K1` is key 1 with the usual body, `K1!` the same key with another body, `-` no request.
fn stamp(text: &str) -> Option<RequestStamp> {
    let key = text.strip_prefix('K')?;
    let fingerprint = Fingerprint(if key.ends_with('!') { 2 } else { 1 });
    Some(RequestStamp { key: RequestKey(key.trim_end_matches('!').parse().unwrap()), fingerprint })
}

/// Runs a table, and says which decisions and verdicts it reached.
fn check(table: &str) -> BTreeSet<String> {
    let mut bench = Bench::new();
    let mut reached = BTreeSet::new();
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with("op ")) {
        if row == "new" {
            bench = Bench::new();
            continue;
        }
        let columns: Vec<_> = row.split_whitespace().collect();
        let [op, now, key, decision, told, phase, work, due] = columns[..] else {
            panic!("eight columns, please: {row}");
        };
        let now = Timestamp(now.parse().unwrap());
        let turn = bench.turn(&Envelope { now, request: stamp(key), command: command(op) });
        let shown = bench.shown();
        assert_eq!(
            (turn.0.as_str(), turn.1.as_str(), shown.0.as_str(), shown.1.as_str(), shown.2.as_str()),
            (decision, told, phase, work, due),
            "{row}"
        );
        reached.insert(turn.0);
        reached.insert(turn.1.split_once(':').map_or(turn.1.as_str(), |(_, name)| name).to_owned());
    }
    reached
}

const GRANTS: &str = "
    op                now  key  decision   told            phase      work            due
    read                0  K1   refuse     not_found       absent     -               -
    commit              0  K1   refuse     not_found       absent     -               -
    held:A*1            0  -    nothing    -               absent     -               -
    settled             0  -    nothing    -               absent     -               -
    request:B*2,A*1     0  K1   requested  -               requested  hold:B*2,A*1    -
    request:B*2,A*1     1  K1   join       -               requested  hold:B*2,A*1    -
    request:B*3         1  K1!  refuse     key_reused      requested  hold:B*2,A*1    -
    read                1  K1   refuse     not_found       requested  hold:B*2,A*1    -
    release             1  K2   refuse     not_found       requested  hold:B*2,A*1    -
    expire           9999  -    nothing    -               requested  hold:B*2,A*1    -
    held:B*2,A*1        5  -    granted    K1:held@105     held       -               105
    held:B*2,A*1        5  -    nothing    -               held       -               105
    short:A*0           5  -    nothing    -               held       -               105
    settled             5  -    nothing    -               held       -               105
    request:B*2,A*1     6  K1   answer     held@105        held       -               105
    extend:50           6  K2   extended   K2:held@155     held       -               155
    request:B*2,A*1     7  K1   answer     held@105        held       -               155
    read                7  K3   answer     held@155        held       -               155
    extend:99999999999  7  K4   extended   K4:held@86400005 held      -               86400005
    extend:1            8  K5   extended   K5:held@86400005 held      -               86400005
    commit              9  K6   committed  K6:committed@86400005 committed sell:B*2,A*1 -
    commit              9  K7   answer     committed@86400005 committed sell:B*2,A*1  -
    release             9  K8   refuse     illegal_from_committed committed sell:B*2,A*1 -
    expire      999999999  -    nothing    -               committed  sell:B*2,A*1    -
    settled            10  -    settled    -               settled    -               -
    settled            10  -    nothing    -               settled    -               -
    commit             11  K9   answer     committed@86400005 settled -               -
    extend:1           11  K9   refuse     illegal_from_committed settled -           -
    request:B*2,A*1    11  K1   answer     held@105        settled    -               -
    request:A*9        11  K1!  refuse     key_reused      settled    -               -
";

const PARTIAL: &str = "
    op                now  key  decision   told            phase      work            due
    some:A*5,B*5        0  K1   requested  -               requested  hold:A*5,B*5    -
    held:A*3            0  -    granted    K1:held@100     held       -               100
    release             1  K2   released   K2:released@100 released   free:A*3        -
    release             1  K3   answer     released@100    released   free:A*3        -
    commit              1  K3   refuse     illegal_from_released released free:A*3    -
    extend:5            1  K3   refuse     illegal_from_released released free:A*3    -
    settled             2  -    settled    -               settled    -               -
    new
    some:A*5            0  K1   requested  -               requested  hold:A*5        -
    held                0  -    refused    K1:short_A-0    refused    free:A*5        -
";

const REFUSALS: &str = "
    op                now  key  decision   told            phase      work            due
    request:A*5,B*1     0  K1   requested  -               requested  hold:A*5,B*1    -
    short:B*0           1  -    refused    K1:short_B-0    refused    free:A*5,B*1    -
    short:B*0           1  -    nothing    -               refused    free:A*5,B*1    -
    held:A*5,B*1        1  -    nothing    -               refused    free:A*5,B*1    -
    request:A*5,B*1     2  K1   refuse     in_progress     refused    free:A*5,B*1    -
    read                2  K1   refuse     not_found       refused    free:A*5,B*1    -
    settled             3  -    settled    -               settled    -               -
    read                3  K1   refuse     not_found       settled    -               -
    request:A*5,B*1     4  K1   requested  -               requested  hold:A*5,B*1    -
    held:A*5,B*1        5  -    granted    K1:held@105     held       -               105
";

const EXPIRES: &str = "
    op                now  key  decision   told                phase   work            due
    request:A*5         0  K1   requested  -                   requested hold:A*5      -
    held:A*5            0  -    granted    K1:held@100         held    -               100
    expire             99  -    nothing    -                   held    -               100
    extend:1           99  K2   extended   K2:held@101         held    -               101
    expire            100  -    nothing    -                   held    -               101
    commit            101  K3   refuse     reservation_expired held    -               101
    release           101  K3   refuse     reservation_expired held    -               101
    extend:9          101  K3   refuse     reservation_expired held    -               101
    expire            101  -    expired    -                   expired free:A*5        -
    expire            101  -    nothing    -                   expired free:A*5        -
    commit            102  K3   refuse     reservation_expired expired free:A*5        -
    read              102  K3   answer     expired@101         expired free:A*5        -
    request:A*5       102  K1   answer     held@100            expired free:A*5        -
    settled           103  -    settled    -                   settled -               -
    release           104  K3   refuse     reservation_expired settled -               -
";

#[test]
fn granted_units_stay_held_until_sold_and_the_first_answer_stays_the_same() {
    check(GRANTS);
}

#[test]
fn less_than_asked_will_do_only_where_the_request_says_so() {
    check(PARTIAL);
}

#[test]
fn a_refused_request_frees_everything_and_may_be_tried_again() {
    check(REFUSALS);
}

#[test]
fn an_expired_reservation_cannot_be_committed_or_lengthened() {
    check(EXPIRES);
}

#[test]
fn every_event_and_refusal_of_a_coordinator_is_reached() {
    let reached: BTreeSet<_> = [GRANTS, PARTIAL, REFUSALS, EXPIRES].into_iter().flat_map(check).collect();
    for name in [
        "requested",
        "granted",
        "refused",
        "extended",
        "committed",
        "released",
        "expired",
        "settled",
        "answer",
        "refuse",
        "nothing",
        "join",
        "not_found",
        "short_B-0",
        "illegal_from_committed",
        "illegal_from_released",
        "reservation_expired",
        "key_reused",
        "in_progress",
    ] {
        assert!(reached.contains(name), "no row reaches {name}");
    }
}

#[test]
fn an_ended_reservation_is_handed_over_once_it_is_settled_and_a_refused_one_never() {
    let mut bench = Bench::new();
    let mut run = |ops: &[&str]| {
        for op in ops {
            bench.turn(&Envelope { now: Timestamp(0), request: stamp("K1"), command: command(op) });
        }
        std::mem::take(&mut bench.ended)
    };
    assert_eq!(run(&["request:A*1", "short:A*0", "settled"]), [], "nothing was granted, nothing ended");
    let ended = run(&["request:A*1", "held:A*1", "release", "settled"]);
    assert_eq!(ended.iter().map(|record| record.state).collect::<Vec<_>>(), [ReservationState::Released]);
    assert_eq!(ended[0].fingerprint, Fingerprint(1));
}

#[test]
fn a_partial_grant_keeps_nothing_of_a_sku_it_left_out() {
    let mut bench = Bench::new();
    for (op, a, b) in [
        ("some:A*1,B*1", true, true),
        ("held:A*1", true, false),
        ("commit", true, false),
        ("settled", false, false),
    ] {
        bench.turn(&Envelope { now: Timestamp(0), request: stamp("K1"), command: command(op) });
        let keeps = |name: &str| bench.reservation.keeps_units_of(&Sku::new(name).unwrap());
        assert_eq!((keeps("A"), keeps("B"), keeps("C")), (a, b, false), "after {op}");
    }
}

fn any_op() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "request:A*2,B*1",
        "some:A*2,B*1",
        "held:A*2,B*1",
        "held",
        "short:B*0",
        "extend:60",
        "extend:99999999999",
        "commit",
        "release",
        "expire",
        "settled",
        "settled",
        "read",
    ])
}

proptest! {
    /// Laws 2, 6 and 10 for any steps in any order: a coordinator ends at most once between two settlings, every
    /// request is settled at most once, and a SKU's part is never both sold and freed.
    #[test]
    fn laws_hold_whatever_is_asked(turns in prop::collection::vec((any_op(), 0..60_u64), 1..60)) {
        let mut bench = Bench::new();
        let mut now = 0;
        let mut told = BTreeSet::new();
        for (key, (op, passed_ms)) in (10..).zip(turns) {
            now += passed_ms;
            // The request keeps its key, as a client's copies do; every other call has its own.
            let again = op.starts_with("request") || op.starts_with("some");
            let request = stamp(&if again { "K1".into() } else { format!("K{key}") });
            let before = bench.reservation.phase();
            let refused_before = bench.reservation.record().is_none();
            let (decision, said) = bench.turn(&Envelope { now: Timestamp(now), request, command: command(op) });
            if decision == "requested" {
                prop_assert!(refused_before, "a granted request never begins again");
                told.remove("K1");
            }
            for said in said.split(',').filter_map(|said| said.split_once(':')) {
                prop_assert!(told.insert(said.0.to_owned()), "{op} told {} twice", said.0);
            }
            let endings = [ReservationPhase::Committed, ReservationPhase::Released, ReservationPhase::Expired];
            let after = bench.reservation.phase();
            prop_assert!(!endings.contains(&after) || after == before || before == ReservationPhase::Held);
            prop_assert_eq!(bench.reservation.is_finished(), bench.reservation.obligations().is_empty()
                && after != ReservationPhase::Held);
        }
        prop_assert!(bench.ended.len() <= 1, "law 2: it ends once");
    }
}
