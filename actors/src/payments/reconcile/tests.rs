//! Which payment beside which order is which finding: one row each.

use super::*;
use doorbuster_engine::identity::{CartId, RefundId};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::RefundView;
use doorbuster_engine::pricing::Totals;

const ORDER: OrderId = OrderId(7);

fn pounds(amount: i64) -> Money {
    Money::new(amount, Currency::GBP)
}

/// An order over 1,000: `state payment captured refunded`, with `pending` last where a refund is under way.
fn order(text: &str) -> OrderView {
    let words: Vec<&str> = text.split_whitespace().collect();
    let state = match words[0] {
        "pending" => OrderState::PendingPayment,
        "paid" => OrderState::Paid,
        "fulfilled" => OrderState::Fulfilled,
        "cancelled" => OrderState::Cancelled,
        "part-refunded" => OrderState::PartiallyRefunded,
        "refunded" => OrderState::Refunded,
        other => panic!("{other}"),
    };
    let payment_state = match words[1] {
        "asked" => PaymentState::Pending,
        "action" => PaymentState::RequiresAction,
        "authorized" => PaymentState::Authorized,
        "captured" => PaymentState::Captured,
        "voided" => PaymentState::Voided,
        "declined" => PaymentState::Declined,
        "refunded" => PaymentState::Refunded,
        other => panic!("{other}"),
    };
    let refund = RefundView {
        id: RefundId(1),
        order: ORDER,
        amount: pounds(100),
        lines: Vec::new(),
        restock: false,
        reason: None,
        state: RefundState::Pending,
        created_at: Timestamp(0),
    };
    let zero = pounds(0);
    OrderView {
        id: ORDER,
        number: "7".into(),
        cart: CartId(1),
        state,
        lines: Vec::new(),
        totals: Totals {
            subtotal: pounds(1_000),
            discount: zero,
            shipping: zero,
            tax: zero,
            total: pounds(1_000),
        },
        email: "ada@example.com".into(),
        shipping_address: None,
        provider: "script".into(),
        payment_state,
        payment_id: None,
        captured: pounds(words[2].parse().unwrap()),
        refunded: pounds(words[3].parse().unwrap()),
        created_at: Timestamp(0),
        version: 1,
        refunds: if words.get(4) == Some(&"pending") { vec![refund] } else { Vec::new() },
        fulfilments: Vec::new(),
    }
}

/// A payment: `reference standing amount captured refunded`.
fn payment(text: &str) -> PaymentRecord {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |at: usize| words[at].parse().unwrap();
    PaymentRecord {
        reference: words[0].into(),
        order: Some(ORDER),
        amount: pounds(number(2)),
        captured: number(3),
        refunded: number(4),
        standing: match words[1] {
            "open" => Standing::Open,
            "authorized" => Standing::Authorized,
            "captured" => Standing::Captured,
            "cancelled" => Standing::Cancelled,
            other => panic!("{other}"),
        },
        created_at: Timestamp(0),
    }
}

/// `order | payments, with commas | findings`, a `!` behind those of which the order is told; `-` stands for none.
fn check(table: &str) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [view, payments, expected] = cells[..] else { panic!("{row}") };
        let view = (view != "-").then(|| order(view));
        let records: Vec<_> =
            payments.split(',').map(str::trim).filter(|text| *text != "-").map(payment).collect();
        let found = compare(ORDER, view.as_ref(), &records);
        for one in &found {
            assert_eq!(one.tell.is_some(), one.finding.kind.is_mended_by_telling(), "{row}: {one:?}");
            assert!(!one.finding.repaired && !one.finding.detail.is_empty(), "{row}: {one:?}");
            if let Some(news) = &one.tell {
                assert_eq!(
                    (news.order, Some(&news.reference)),
                    (ORDER, one.finding.reference.as_ref()),
                    "{row}"
                );
            }
        }
        let told = |one: &Compared| if one.tell.is_some() { "!" } else { "" };
        let names: Vec<_> =
            found.iter().map(|one| format!("{}{}", one.finding.kind.name(), told(one))).collect();
        let said = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        assert_eq!(said, expected, "{row}");
    }
}

#[test]
fn what_agrees_is_not_found() {
    check(
        "
        pending asked 0 0                 | -                                    | -
        pending action 0 0                | a open 1000 0 0                      | -
        pending asked 0 0                 | a cancelled 1000 0 0                 | -
        paid authorized 0 0               | a authorized 1000 0 0                | -
        paid captured 1000 0              | a captured 1000 1000 0               | -
        fulfilled captured 1000 0         | a captured 1000 1000 0               | -
        fulfilled captured 1000 0         | a captured 1000 1000 0, b cancelled 1000 0 0, c open 1000 0 0 | -
        part-refunded captured 1000 300   | a captured 1000 1000 300             | -
        refunded refunded 1000 1000       | a captured 1000 1000 1000            | -
        cancelled voided 0 0              | a cancelled 1000 0 0                 | -
        cancelled refunded 1000 1000      | a captured 1000 1000 1000            | -
        -                                 | a cancelled 1000 0 0, b open 5 0 0   | -
        ",
    );
}

#[test]
fn each_kind_of_disagreement_is_found_as_such() {
    check(
        "
        -                                 | a captured 1000 1000 0               | payment_without_order
        -                                 | a authorized 1000 0 0, b captured 9 9 0 | payment_without_order, payment_without_order
        pending asked 0 0                 | a authorized 1000 0 0                | order_behind!
        pending action 0 0                | a captured 1000 1000 0               | order_behind!
        paid authorized 0 0               | a captured 1000 1000 0               | order_behind!
        cancelled voided 0 0              | a authorized 1000 0 0                | unwanted_payment!
        cancelled declined 0 0            | a captured 1000 1000 0               | unwanted_payment!
        cancelled declined 0 0            | a captured 1000 1000 400             | unwanted_payment!
        cancelled declined 0 0            | a captured 1000 1000 0, b authorized 1000 0 0 | unwanted_payment!, unwanted_payment!
        paid captured 1000 0              | a captured 1000 1000 0, b captured 1000 1000 0 | unwanted_payment!, unwanted_payment!
        paid captured 1000 0              | a captured 1000 1000 0, b authorized 1000 0 0 | unwanted_payment!, unwanted_payment!
        paid captured 1000 0              | a captured 1000 1000 0, b captured 1000 1000 1000 | -
        pending asked 0 0                 | a captured 999 999 0                 | amount_differs
        paid captured 1000 0              | a captured 1001 1001 0               | amount_differs
        paid captured 1000 0              | a captured 1000 900 0                | amount_differs
        paid captured 1000 0              | a captured 1000 1000 300             | refund_differs
        part-refunded captured 1000 300   | a captured 1000 1000 0               | refund_differs
        part-refunded captured 1000 300 pending | a captured 1000 1000 400       | -
        ",
    );
}

#[test]
fn an_order_with_money_that_the_list_lacks_is_found() {
    for (view, missing) in [
        ("paid captured 1000 0", true),
        ("paid authorized 0 0", true),
        ("refunded refunded 1000 1000", true),
        ("pending asked 0 0", false),
        ("cancelled voided 0 0", false),
    ] {
        let views = [order(view)];
        let found = without_payment(&views, &BTreeSet::new());
        let kinds: Vec<_> = found.iter().map(|finding| finding.kind).collect();
        let expected = if missing { vec![FindingKind::OrderWithoutPayment] } else { Vec::new() };
        assert_eq!(kinds, expected, "{view}");
        assert_eq!(without_payment(&views, &BTreeSet::from([ORDER])), [], "{view}, listed");
    }
}

#[test]
fn payments_are_sorted_by_the_order_they_are_for() {
    let mut records = vec![payment("a open 1 0 0"), payment("b open 1 0 0"), payment("c open 1 0 0")];
    records[1].order = None;
    let orders = by_order(records);
    let references: Vec<_> = orders[&ORDER].iter().map(|record| record.reference.as_str()).collect();
    assert_eq!((orders.len(), references), (1, vec!["a", "c"]));
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: BTreeSet<_> = FindingKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), FindingKind::ALL.len());
}
