//! Promises of a cart. Rows are turns of one cart, top to bottom; `new` begins another.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::answer::{Answer, Missing, Refusal};
use crate::envelope::{Decision, Envelope};
use crate::identity::{Fingerprint, Position, RequestKey};

const CART: CartId = CartId(7);
const TTL_MS: u64 = 100;

/// A cart with its journal, so that every turn can be replayed.
struct Bench {
    cart: Cart,
    journal: Vec<(CartEvent, Recorded, Option<RequestStamp>)>,
}

impl Bench {
    fn new() -> Self {
        Self { cart: Cart::new(CART), journal: Vec::new() }
    }

    /// One turn: what was decided and what somebody was told, by name.
    fn turn(&mut self, envelope: &Envelope<CartCommand>) -> (String, String) {
        let events = match self.cart.decide(envelope) {
            Decision::Change(events) => events,
            Decision::Answer(answer) => return ("answer".into(), name_of_answer(&answer).into()),
            Decision::Refuse(refusal) => return ("refuse".into(), name_of_refusal(&refusal)),
            Decision::Nothing => return ("nothing".into(), "-".into()),
            Decision::Join => return ("join".into(), "-".into()),
        };
        let mut told = Vec::new();
        for event in &events {
            let position = Position(self.journal.len() as u64 + 1);
            let recorded = Recorded { position, at: envelope.now };
            let folded = self.cart.evolve(event, recorded, envelope.request);
            self.journal.push((event.clone(), recorded, envelope.request));
            for settlement in folded.settlements {
                let verdict = match &settlement.verdict {
                    Ok(answer) => name_of_answer(answer).into(),
                    Err(refusal) => name_of_refusal(refusal),
                };
                told.push(format!("K{}:{verdict}", settlement.request.key.0));
            }
        }
        self.cart.check().unwrap();
        let mut replayed = Cart::new(CART);
        for (event, recorded, request) in &self.journal {
            replayed.evolve(event, *recorded, *request);
        }
        assert_eq!(replayed, self.cart, "law 10: the journal folded gives the same cart");
        let names: Vec<_> = events.iter().map(name_of_event).collect();
        (names.join("+"), if told.is_empty() { "-".into() } else { told.join(",") })
    }

    fn shown(&self) -> (String, String, String, String) {
        let state = match self.cart.status() {
            CartStatus::Absent => "absent",
            CartStatus::Open => "open",
            CartStatus::CheckingOut { .. } => "checking_out",
            CartStatus::Ordered(_) => "ordered",
            CartStatus::Deleted => "deleted",
            CartStatus::Expired => "expired",
        };
        let view = self.cart.view();
        let line =
            |line: &Line| format!("{}:{}*{}@{}", line.line, line.sku, line.quantity, line.unit_price.amount);
        let lines: Vec<_> = view.lines.iter().map(line).collect();
        let lines = if lines.is_empty() { "-".into() } else { lines.join(",") };
        (state.into(), lines, view.totals.total.amount.to_string(), view.version.to_string())
    }
}

fn name_of_event(event: &CartEvent) -> &'static str {
    match event {
        CartEvent::Created { .. } => "created",
        CartEvent::LinesAdded { .. } => "lines_added",
        CartEvent::QuantitySet { .. } => "quantity_set",
        CartEvent::CheckoutStarted { .. } => "checkout_started",
        CartEvent::Ordered { .. } => "ordered",
        CartEvent::Reopened { .. } => "reopened",
        CartEvent::Deleted => "deleted",
        CartEvent::Expired => "expired",
    }
}

fn name_of_answer(answer: &Answer) -> &'static str {
    match answer {
        Answer::CartCreated(_) => "cart_created",
        Answer::Cart(_) => "cart",
        Answer::CartDeleted => "cart_deleted",
        Answer::Reservation(_)
        | Answer::Stock(_)
        | Answer::SkuDefined { .. }
        | Answer::Checkout(..)
        | Answer::Order(_)
        | Answer::Refund(_)
        | Answer::Fulfilment(_)
        | Answer::Noticed => panic!("not a cart's answer: {answer:?}"),
    }
}

fn name_of_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound(Missing::Cart) => "no_cart".into(),
        Refusal::NotFound(Missing::Line) => "no_line".into(),
        Refusal::IllegalTransition { from, .. } => format!("illegal_from_{from}"),
        Refusal::CartExpired => "cart_expired".into(),
        Refusal::PriceChanged { total, .. } => format!("price_changed_to_{}", total.amount),
        Refusal::VersionMismatch { current } => format!("version_is_{current}"),
        Refusal::Validation(errors) => format!("{}={}", errors[0].pointer, errors[0].code),
        Refusal::InProgress { .. } => "in_progress".into(),
        Refusal::NotFound(Missing::Skus(_) | Missing::Reservation | Missing::Order | Missing::Actor)
        | Refusal::InsufficientStock(_)
        | Refusal::ReservationExpired
        | Refusal::PaymentDeclined { .. }
        | Refusal::KeyReused
        | Refusal::Overloaded { .. }
        | Refusal::StorageFull { .. }
        | Refusal::Draining
        | Refusal::Recovering { .. }
        | Refusal::PaymentUnavailable { .. }
        | Refusal::DeadlineExceeded => panic!("not a cart's refusal: {refusal:?}"),
    }
}

/// `A*2@500` or `A*2@500EUR`, several with commas between.
fn lines(text: &str) -> Vec<NewLine> {
    let line = |text: &str| {
        let (sku, rest) = text.split_once('*').unwrap();
        let (quantity, price) = rest.split_once('@').unwrap();
        let digits = price.trim_end_matches(char::is_alphabetic);
        let currency = price.strip_prefix(digits).filter(|code| !code.is_empty()).unwrap_or("GBP");
        NewLine {
            sku: Sku::new(sku).unwrap(),
            name: sku.into(),
            quantity: quantity.parse().unwrap(),
            unit_price: Money::new(digits.parse().unwrap(), currency.parse().unwrap()),
        }
    };
    text.split(',').filter(|text| !text.is_empty()).map(line).collect()
}

/// `op:argument`, with `#n` for an expected version: `add:A*2@500#3`, `set:1:4`, `checkout:1:1000`.
fn command(text: &str) -> CartCommand {
    let (text, version) = match text.split_once('#') {
        Some((text, version)) => (text, Some(version.parse().unwrap())),
        None => (text, None),
    };
    let mut words = text.split(':');
    let op = words.next().unwrap();
    let mut word = || words.next().unwrap_or_default();
    match op {
        "create" => CartCommand::Create { currency: Currency::GBP, lines: lines(word()), ttl_ms: TTL_MS },
        "add" => CartCommand::AddLines { lines: lines(word()), expected_version: version },
        "flood" => {
            let many = (0..word().parse().unwrap()).map(|n: u32| format!("F{n}*1@1"));
            CartCommand::AddLines {
                lines: lines(&many.collect::<Vec<_>>().join(",")),
                expected_version: version,
            }
        }
        "set" => CartCommand::SetQuantity {
            line: word().parse().unwrap(),
            quantity: word().parse().unwrap(),
            expected_version: version,
        },
        "checkout" => CartCommand::Checkout(Box::new(CheckoutRequest {
            order: OrderId(word().parse().unwrap()),
            email: "a@example.org".into(),
            provider: "fake".into(),
            method: "ok".into(),
            expected_total: word().parse().ok().map(|amount| Money::new(amount, Currency::GBP)),
            shipping_address: None,
            pin_ms: 60_000,
            expected_version: version,
        })),
        "placed" => CartCommand::OrderPlaced(OrderId(word().parse().unwrap())),
        "failed" => CartCommand::OrderFailed(OrderId(word().parse().unwrap())),
        "delete" => CartCommand::Delete,
        "expire" => CartCommand::Expire,
        "read" => CartCommand::Read,
        _ => panic!("no such op: {op}"),
    }
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
        let [op, now, key, decision, told, state, lines, total, version] = columns[..] else {
            panic!("nine columns, please: {row}");
        };
        let request = key
            .strip_prefix('K')
            .map(|key| RequestStamp { key: RequestKey(key.parse().unwrap()), fingerprint: Fingerprint(1) });
        let envelope = Envelope { now: Timestamp(now.parse().unwrap()), request, command: command(op) };
        let turn = bench.turn(&envelope);
        let shown = bench.shown();
        let lines_shown = if lines == "*" { "*".into() } else { shown.1 };
        assert_eq!(
            (
                turn.0.as_str(),
                turn.1.as_str(),
                shown.0.as_str(),
                lines_shown.as_str(),
                shown.2.as_str(),
                shown.3.as_str()
            ),
            (decision, told, state, lines, total, version),
            "{row}"
        );
        reached.insert(turn.0);
        reached.extend(
            turn.1.split(',').map(|told| told.split_once(':').map_or(told, |(_, name)| name).to_owned()),
        );
    }
    reached
}

const LINES: &str = "
    op                      now  key  decision      told                  state  lines             total  version
    read                      0  K1   refuse        no_cart               absent -                     0  0
    add:A*1@500               0  K1   refuse        no_cart               absent -                     0  0
    create:A*0@500            0  K1   refuse        /items/0/quantity=out_of_range absent -            0  0
    create:A*2@500            0  K1   created       K1:cart_created       open   1:A*2@500          1000  1
    create:A*2@500            1  K1   answer        cart_created          open   1:A*2@500          1000  1
    add:A*1@500               1  K2   lines_added   K2:cart               open   1:A*3@500          1500  2
    add:A*1@400,B*2@0         2  K3   lines_added   K3:cart               open   1:A*3@500,2:A*1@400,3:B*2@0  1900  3
    read                      3  K9   answer        cart                  open   1:A*3@500,2:A*1@400,3:B*2@0  1900  3
    set:2:0                   3  K4   quantity_set  K4:cart               open   1:A*3@500,3:B*2@0  1500  4
    set:2:1                   3  K5   refuse        no_line               open   1:A*3@500,3:B*2@0  1500  4
    add:A*1@400               3  K6   lines_added   K6:cart               open   1:A*3@500,3:B*2@0,4:A*1@400  1900  5
    set:1:1#4                 3  K7   refuse        version_is_5          open   1:A*3@500,3:B*2@0,4:A*1@400  1900  5
    set:1:1#5                 3  K7   quantity_set  K7:cart               open   1:A*1@500,3:B*2@0,4:A*1@400   900  6
    add:A*1@1#5               3  K8   refuse        version_is_6          open   1:A*1@500,3:B*2@0,4:A*1@400   900  6
";

const BOUNDS: &str = "
    op                      now  key  decision      told                              state  lines      total  version
    create                    0  K1   created       K1:cart_created                   open   -              0  1
    add:A*1@5EUR              0  K2   refuse        /lines/0/unit_price/currency=currency_mismatch open -   0  1
    add:A*1@-5                0  K2   refuse        /lines/0/unit_price/amount=out_of_range open -          0  1
    add:B*1@5,A*-1@5          0  K2   refuse        /lines/1/quantity=out_of_range    open   -              0  1
    add:A*1000000001@5        0  K2   refuse        /lines/0/quantity=out_of_range    open   -              0  1
    add:A*1000000000@5        0  K2   lines_added   K2:cart                           open   1:A*1000000000@5  5000000000  2
    add:A*1@5                 0  K3   refuse        /lines/0/quantity=out_of_range    open   1:A*1000000000@5  5000000000  2
    add:B*9300000@1000000000000 0 K3  refuse        /lines=out_of_range               open   1:A*1000000000@5  5000000000  2
";

const CHECKOUTS: &str = "
    op                      now  key  decision         told                      state        lines      total  version
    create                    0  K1   created          K1:cart_created           open         -              0  1
    checkout:1                1  K2   refuse           illegal_from_open         open         -              0  1
    add:A*2@500               1  K3   lines_added      K3:cart                   open         1:A*2@500   1000  2
    checkout:1:999            1  K2   refuse           price_changed_to_1000     open         1:A*2@500   1000  2
    checkout:1:1000#1         1  K2   refuse           version_is_2              open         1:A*2@500   1000  2
    placed:1                  1  -    nothing          -                         open         1:A*2@500   1000  2
    checkout:1:1000#2         1  K2   checkout_started -                         checking_out 1:A*2@500   1000  3
    checkout:8:1000           2  K2   join             -                         checking_out 1:A*2@500   1000  3
    checkout:9                2  K4   refuse           in_progress               checking_out 1:A*2@500   1000  3
    add:A*1@500               2  K4   refuse           illegal_from_checking_out checking_out 1:A*2@500   1000  3
    set:1:0                   2  K4   refuse           illegal_from_checking_out checking_out 1:A*2@500   1000  3
    delete                    2  K4   refuse           illegal_from_checking_out checking_out 1:A*2@500   1000  3
    expire                  999  -    nothing          -                         checking_out 1:A*2@500   1000  3
    read                    999  K4   answer           cart                      checking_out 1:A*2@500   1000  3
    failed:9                999  -    nothing          -                         checking_out 1:A*2@500   1000  3
    failed:1                999  -    reopened         -                         open         1:A*2@500   1000  4
    failed:1                999  -    nothing          -                         open         1:A*2@500   1000  4
    checkout:5             1000  K5   checkout_started -                         checking_out 1:A*2@500   1000  5
    placed:1               1000  -    nothing          -                         checking_out 1:A*2@500   1000  5
    placed:5               1000  -    ordered          -                         ordered      1:A*2@500   1000  6
    placed:5               1000  -    nothing          -                         ordered      1:A*2@500   1000  6
    failed:5               1000  -    nothing          -                         ordered      1:A*2@500   1000  6
    checkout:6             1000  K6   refuse           illegal_from_ordered      ordered      1:A*2@500   1000  6
    add:A*1@500            1000  K6   refuse           illegal_from_ordered      ordered      1:A*2@500   1000  6
    expire                 9999  -    nothing          -                         ordered      1:A*2@500   1000  6
    read                   9999  K6   answer           cart                      ordered      1:A*2@500   1000  6
";

const ENDS: &str = "
    op                      now  key  decision      told              state   lines      total  version
    create:A*1@5              0  K1   created       K1:cart_created   open    1:A*1@5        5  1
    expire                   99  -    nothing       -                 open    1:A*1@5        5  1
    add:A*1@5                99  K2   lines_added   K2:cart           open    1:A*2@5       10  2
    expire                  198  -    nothing       -                 open    1:A*2@5       10  2
    read                    199  K3   refuse        cart_expired      open    1:A*2@5       10  2
    add:A*1@5               199  K3   refuse        cart_expired      open    1:A*2@5       10  2
    create                  199  K1   refuse        cart_expired      open    1:A*2@5       10  2
    checkout:1              199  K3   refuse        cart_expired      open    1:A*2@5       10  2
    expire                  199  -    expired       -                 expired 1:A*2@5       10  3
    expire                  199  -    nothing       -                 expired 1:A*2@5       10  3
    read                    199  K3   refuse        cart_expired      expired 1:A*2@5       10  3
    delete                  199  K3   refuse        cart_expired      expired 1:A*2@5       10  3
    new
    create                    0  K1   created       K1:cart_created   open    -              0  1
    delete                    1  K2   deleted       K2:cart_deleted   deleted -              0  2
    delete                    1  K3   refuse        cart_expired      deleted -              0  2
    set:1:1                   1  K3   refuse        cart_expired      deleted -              0  2
    placed:1                  1  -    nothing       -                 deleted -              0  2
";

const MANY: &str = "
    op                      now  key  decision      told              state   lines      total  version
    create                    0  K1   created       K1:cart_created   open    -              0  1
    flood:1001                0  K2   refuse        /lines=too_many_lines open -             0  1
    flood:1000                0  K2   lines_added   K2:cart           open    *           1000  2
    flood:1000                0  K3   lines_added   K3:cart           open    *           2000  3
    add:G*1@1                 0  K4   refuse        /lines=too_many_lines open *          2000  3
    set:1000:0                0  K5   quantity_set  K5:cart           open    *           1998  4
    add:G*1@1                 0  K6   lines_added   K6:cart           open    *           1999  5
    set:1:9223372036854775807 0  K7   refuse        /quantity=out_of_range open *         1999  5
    set:1:-1                  0  K7   refuse        /quantity=out_of_range open *         1999  5
";

#[test]
fn lines_of_one_sku_and_price_are_one_line_whose_number_is_never_reused() {
    check(LINES);
}

#[test]
fn what_does_not_fit_is_refused_where_it_stands() {
    check(BOUNDS);
    check(MANY);
}

#[test]
fn a_cart_has_one_checkout_at_a_time_and_becomes_one_order() {
    check(CHECKOUTS);
}

#[test]
fn time_and_its_owner_end_a_cart_and_a_checkout_keeps_it() {
    check(ENDS);
}

#[test]
fn every_event_and_refusal_of_a_cart_is_reached() {
    let reached: BTreeSet<_> = [LINES, BOUNDS, MANY, CHECKOUTS, ENDS].into_iter().flat_map(check).collect();
    for name in [
        "created",
        "lines_added",
        "quantity_set",
        "checkout_started",
        "ordered",
        "reopened",
        "deleted",
        "expired",
        "answer",
        "refuse",
        "nothing",
        "join",
        "cart_created",
        "cart",
        "cart_deleted",
        "no_cart",
        "no_line",
        "cart_expired",
        "in_progress",
        "price_changed_to_1000",
        "version_is_5",
        "illegal_from_open",
        "illegal_from_checking_out",
        "illegal_from_ordered",
        "/lines=too_many_lines",
        "/lines=out_of_range",
        "/lines/0/unit_price/currency=currency_mismatch",
    ] {
        assert!(reached.contains(name), "no row reaches {name}");
    }
}

#[test]
fn a_running_checkout_demands_its_order_and_keeps_the_cart_in_memory() {
    let mut bench = Bench::new();
    let stamp = RequestStamp { key: RequestKey(2), fingerprint: Fingerprint(1) };
    for (op, request) in [("create:A*2@500", None), ("checkout:1:1000", Some(stamp))] {
        assert!(bench.cart.obligations().is_empty() && bench.cart.is_finished());
        bench.turn(&Envelope { now: Timestamp(0), request, command: command(op) });
    }
    let [CartObligation::StartOrder { draft, request }] = &bench.cart.obligations()[..] else {
        panic!("one obligation: {:?}", bench.cart.obligations());
    };
    assert_eq!((draft.order, draft.cart, draft.lines.len(), *request), (OrderId(1), CART, 1, Some(stamp)));
    assert_eq!(draft.totals.total, Money::new(1000, Currency::GBP));
    assert!(!bench.cart.is_finished());
    assert_eq!(bench.cart.due(), None, "a checkout has no deadline of the cart's");
}

fn any_command() -> impl Strategy<Value = CartCommand> {
    let quantity = prop_oneof![1..5_i64, Just(-1), Just(0), Just(i64::MAX), Just(QUANTITY_MAX)];
    let price = prop_oneof![0..3_i64, Just(Money::AMOUNT_MAX), Just(i64::MAX)];
    let currency = prop_oneof![9 => Just(Currency::GBP), 1 => Just(Currency::EUR)];
    let line =
        ("[ABC]", quantity.clone(), price, currency).prop_map(|(sku, quantity, price, currency)| NewLine {
            sku: Sku::new(&sku).unwrap(),
            name: sku.as_str().into(),
            quantity,
            unit_price: Money::new(price, currency),
        });
    let lines = prop::collection::vec(line, 0..4);
    let version = prop::option::weighted(0.2, 0..6_u64);
    prop_oneof![
        (lines.clone()).prop_map(|lines| CartCommand::Create {
            currency: Currency::GBP,
            lines,
            ttl_ms: TTL_MS
        }),
        (lines, version.clone())
            .prop_map(|(lines, expected_version)| CartCommand::AddLines { lines, expected_version }),
        (1..6_u32, quantity, version).prop_map(|(line, quantity, expected_version)| {
            CartCommand::SetQuantity { line, quantity, expected_version }
        }),
        (1..4_u32).prop_map(|order| command(&format!("checkout:{order}"))),
        (1..4_u128).prop_map(|order| CartCommand::OrderPlaced(OrderId(order))),
        (1..4_u128).prop_map(|order| CartCommand::OrderFailed(OrderId(order))),
        Just(CartCommand::Delete),
        Just(CartCommand::Expire),
        Just(CartCommand::Read),
    ]
}

proptest! {
    /// Laws 7, 10 and 11 for any commands: `turn` checks and replays; the version counts the events.
    #[test]
    fn laws_hold_whatever_is_asked(turns in prop::collection::vec((any_command(), 0..40_u64, 1..5_u128), 1..40)) {
        let mut bench = Bench::new();
        let mut now = 0;
        for (command, passed_ms, key) in turns {
            now += passed_ms;
            let request = Some(RequestStamp { key: RequestKey(key), fingerprint: Fingerprint(1) });
            let before = bench.cart.clone();
            let (decision, _) = bench.turn(&Envelope { now: Timestamp(now), request, command });
            let grew = bench.cart.version() - before.version();
            prop_assert!(grew == u64::from(bench.cart != before), "{decision} changed the version by {grew}");
            prop_assert_eq!(bench.cart.version(), bench.journal.len() as u64);
        }
    }
}
