//! The audit: the engine's orders and stock, the stand-in's ledger and what the shoppers were told, against one another.
//!
//! Pure: books in, violations out. It shares nothing with the engine; each check has a test below that breaks it. Start at
//! [`audit`].

use std::collections::{BTreeMap, BTreeSet};

use doorbuster_stripe::{Ledger, LedgerCharge};
use serde_json::{Value, json};

use crate::books::{Order, Stock};
use crate::plan::Article;
use crate::shopper::{Record, Told};

/// Violations of one kind that are shown.
const EXAMPLES_MAX: usize = 5;

/// Everything that is checked, by the words of the report.
pub(crate) const CHECKS: [&str; 17] = [
    DOUBLE,
    WITHOUT_ORDER,
    WITHOUT_MONEY,
    PENNY,
    TOTAL,
    OPEN,
    UNSETTLED,
    CHANGED,
    STRANGE,
    PROMISE,
    REFUND,
    ORPHAN,
    SOLD,
    RESERVED,
    RECONCILED,
    VERIFIED,
    UNPROVED,
];

const DOUBLE: &str = "orders with more than one captured payment, carts with more than one paid order";
const WITHOUT_ORDER: &str = "captured payments, net of refunds, without a paid order";
const WITHOUT_MONEY: &str = "paid orders without their captured payment";
const PENNY: &str = "orders whose captured minus refunded differs from the ledger";
const TOTAL: &str = "sums over all orders that differ from the ledger";
const OPEN: &str = "authorizations left open";
const UNSETTLED: &str = "orders or refunds left unsettled";
/// A repeat that was answered otherwise.
pub(crate) const CHANGED: &str = "answers that changed when their request was repeated";
/// An answer out of place.
pub(crate) const STRANGE: &str = "answers that no promise allows";
const PROMISE: &str = "answers that the books contradict";
const REFUND: &str = "orders whose refunds differ from what the shoppers were told";
const ORPHAN: &str = "orders or payments that nobody asked for";
const SOLD: &str = "SKUs whose sold units differ from the paid orders' less restocked ones";
const RESERVED: &str = "SKUs with units still reserved, or whose stock does not add up";
/// What `POST /v1/admin/payments/reconcile` still finds.
pub(crate) const RECONCILED: &str = "findings of the reconciliation";
/// What `doorbuster verify` finds.
pub(crate) const VERIFIED: &str = "damage found by verify";
/// What was to happen and did not, so that the rest proves less than it says.
pub(crate) const UNPROVED: &str = "things that were to happen and did not";

/// What was wrong, by kind.
#[derive(Debug, Default)]
pub(crate) struct Violations(BTreeMap<&'static str, (u64, Vec<String>)>);

impl Violations {
    pub(crate) fn add(&mut self, kind: &'static str, example: impl Into<String>) {
        let (count, examples) = self.0.entry(kind).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(example.into());
        }
    }

    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.0.get(kind).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn examples(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.0.iter().flat_map(|(kind, (_, examples))| examples.iter().map(|example| (*kind, example)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn json(&self) -> Value {
        let kinds = CHECKS.iter().map(|kind| {
            let examples = self.0.get(kind).map(|(_, examples)| examples.clone()).unwrap_or_default();
            ((*kind).to_owned(), json!({"count": self.count(kind), "examples": examples}))
        });
        Value::Object(kinds.collect())
    }
}

/// All that is compared.
#[derive(Debug)]
pub(crate) struct Books<'a> {
    pub(crate) orders: &'a [Order],
    pub(crate) stocks: &'a [Stock],
    pub(crate) ledger: &'a Ledger,
    pub(crate) articles: &'a [Article],
    pub(crate) records: &'a [Record],
}

/// What the audit found, in sums that people want to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) orders: u64,
    pub(crate) paid_orders: u64,
    pub(crate) captured: i64,
    pub(crate) refunded: i64,
    pub(crate) net_of_orders: i64,
    pub(crate) units_sold: i64,
    /// Payments captured for orders that are off, and given back in full.
    pub(crate) strays_returned: u64,
    /// Orders beyond one a cart: attempts after a decline.
    pub(crate) further_attempts: u64,
}

/// Compares everything.
pub(crate) fn audit(books: &Books<'_>, violations: &mut Violations) -> Sums {
    let mut sums = Sums::default();
    let by_id: BTreeMap<&str, &Order> = books.orders.iter().map(|order| (order.id.as_str(), order)).collect();
    money(books, &by_id, violations, &mut sums);
    orders(books, violations, &mut sums);
    shoppers(books, &by_id, violations);
    stock(books, violations, &mut sums);
    sums
}

fn order_of(charge: &LedgerCharge) -> &str {
    charge.metadata.get("order").map_or("", String::as_str)
}

/// The ledger against the orders.
fn money(books: &Books<'_>, by_id: &BTreeMap<&str, &Order>, violations: &mut Violations, sums: &mut Sums) {
    let mut charges: BTreeMap<&str, Vec<&LedgerCharge>> = BTreeMap::new();
    for charge in &books.ledger.charges {
        charges.entry(order_of(charge)).or_default().push(charge);
        if charge.amount_captured == 0 && !charge.released {
            violations.add(OPEN, format!("{} for {}", charge.id, order_of(charge)));
        }
        if charge.currency != "gbp" {
            violations.add(PENNY, format!("{} is in {}", charge.id, charge.currency));
        }
    }
    let none = Vec::new();
    for (id, charges) in &charges {
        let net: i64 = charges.iter().map(|charge| charge.amount_captured - charge.amount_refunded).sum();
        let captured = charges.iter().filter(|charge| charge.amount_captured > 0).count();
        let order = by_id.get(id);
        if order.is_none() {
            violations
                .add(ORPHAN, format!("{} names order {id:?}, which the engine does not have", charges[0].id));
        }
        if captured > 1 {
            violations.add(DOUBLE, format!("{id} has {captured} captured payments"));
        }
        if net > 0 && !order.is_some_and(|order| order.stands()) {
            let state = order.map_or("missing", |order| order.state.as_str());
            violations.add(WITHOUT_ORDER, format!("{id} is {state}, {net} was kept"));
        }
        if captured > 0 && net == 0 && order.is_some_and(|order| order.payment.captured.amount == 0) {
            sums.strays_returned += 1;
        }
    }
    for order in books.orders {
        let of_order = charges.get(order.id.as_str()).unwrap_or(&none);
        let net: i64 = of_order.iter().map(|charge| charge.amount_captured - charge.amount_refunded).sum();
        let said = order.payment.captured.amount - order.payment.refunded.amount;
        sums.net_of_orders += said;
        if net != said {
            violations.add(PENNY, format!("{} says {said}, the ledger {net}", order.id));
        }
        let total = order.totals.total.amount;
        let paid = of_order.iter().any(|charge| charge.amount_captured == total);
        if order.stands() && (!paid || order.payment.captured.amount != total) {
            violations.add(WITHOUT_MONEY, format!("{} is {}, over {total}", order.id, order.state));
        }
    }
    let totals = books.ledger.totals.get("gbp").copied().unwrap_or_default();
    (sums.captured, sums.refunded) = (totals.captured, totals.refunded);
    if totals.captured - totals.refunded != sums.net_of_orders {
        let kept = totals.captured - totals.refunded;
        violations.add(TOTAL, format!("the orders say {}, the ledger {kept}", sums.net_of_orders));
    }
    if totals.authorized != 0 {
        violations.add(OPEN, format!("{} minor units in all", totals.authorized));
    }
}

/// The orders by themselves, and by their carts.
fn orders(books: &Books<'_>, violations: &mut Violations, sums: &mut Sums) {
    let carts: BTreeSet<&str> = books.records.iter().map(|record| record.cart.as_str()).collect();
    let mut of_cart: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for order in books.orders {
        sums.orders += 1;
        let (all, paid) = of_cart.entry(order.cart.as_str()).or_default();
        *all += 1;
        if order.stands() {
            *paid += 1;
            sums.paid_orders += 1;
        }
        if !order.is_settled() {
            violations.add(UNSETTLED, format!("{} is {}/{}", order.id, order.state, order.payment.state));
        }
        if !carts.contains(order.cart.as_str()) {
            violations.add(ORPHAN, format!("{} comes from {}, which no shopper has", order.id, order.cart));
        }
    }
    for (cart, (all, paid)) in of_cart {
        sums.further_attempts += all - 1;
        if paid > 1 {
            violations.add(DOUBLE, format!("{cart} has {paid} paid orders"));
        }
    }
}

/// What shoppers were told against what is.
fn shoppers(books: &Books<'_>, by_id: &BTreeMap<&str, &Order>, violations: &mut Violations) {
    let standing = books.orders.iter().filter(|order| order.stands());
    let standing_carts: BTreeSet<&str> = standing.map(|order| order.cart.as_str()).collect();
    for record in books.records {
        let who = format!("shopper {}", record.number);
        for said in &record.strange {
            violations.add(STRANGE, said.clone());
        }
        for said in &record.changed {
            violations.add(CHANGED, said.clone());
        }
        for id in &record.orders {
            if !by_id.contains_key(id.as_str()) {
                violations.add(PROMISE, format!("{who} was told of {id}, which is nowhere"));
            }
        }
        let order = record.order.as_deref().and_then(|id| by_id.get(id));
        let kept = order.is_some_and(|order| order.stands());
        match record.told {
            Told::Paid if !kept && !record.cancelled => {
                violations.add(PROMISE, format!("{who} was told that {:?} is paid", record.order));
            }
            Told::Off if kept => {
                violations.add(PROMISE, format!("{who} was told that {:?} is off", record.order));
            }
            Told::Nothing if record.strange.is_empty() => {
                violations.add(PROMISE, format!("{who} was told nothing at all"));
            }
            Told::Nothing | Told::Paid | Told::Off | Told::Declined | Told::OutOfStock | Told::Waits => {}
        }
        let refused = matches!(record.told, Told::Declined | Told::OutOfStock);
        if refused && standing_carts.contains(record.cart.as_str()) {
            violations.add(PROMISE, format!("{who} was refused, and {} is paid", record.cart));
        }
        let Some(order) = order else { continue };
        if record.cancelled && order.state != "cancelled" {
            let said = format!("{who} was told that {} is cancelled; it is {}", order.id, order.state);
            violations.add(PROMISE, said);
        }
        let refunded = order.payment.refunded.amount;
        if !record.cancelled && order.stands() && refunded != record.refunded {
            let said = format!("{} gave {refunded} back, {who} was told of {}", order.id, record.refunded);
            violations.add(REFUND, said);
        }
        let mut wanted: Vec<(&str, i64)> =
            record.items.iter().map(|(sku, quantity)| (sku.as_str(), *quantity)).collect();
        let mut has: Vec<(&str, i64)> =
            order.lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
        let price: i64 = order.lines.iter().map(|line| line.quantity * line.unit_price.amount).sum();
        wanted.sort_unstable();
        has.sort_unstable();
        if wanted != has || price != order.totals.total.amount {
            violations.add(PROMISE, format!("{} is not what {who} ordered", order.id));
        }
    }
}

/// Stock against orders.
fn stock(books: &Books<'_>, violations: &mut Violations, sums: &mut Sums) {
    let mut expected: BTreeMap<&str, i64> = BTreeMap::new();
    for order in books.orders.iter().filter(|order| order.stands()) {
        for line in &order.lines {
            let back: i64 = order
                .refunds
                .iter()
                .filter(|refund| refund.restock && refund.state == "succeeded")
                .flat_map(|refund| &refund.lines)
                .filter(|units| units.line_id == line.line_id)
                .map(|units| units.quantity)
                .sum();
            *expected.entry(line.sku.as_str()).or_default() += line.quantity - back;
        }
    }
    // The same by what the shoppers were told: a restock that no shopper knows of would balance with itself above.
    let told: i64 = books
        .records
        .iter()
        .filter(|record| !record.cancelled)
        .flat_map(|record| &record.restocked)
        .map(|(_, quantity)| quantity)
        .sum();
    let ordered: i64 = books
        .orders
        .iter()
        .filter(|order| order.stands())
        .flat_map(|order| &order.lines)
        .map(|line| line.quantity)
        .sum();
    let sold: i64 = books.stocks.iter().map(|stock| stock.sold).sum();
    sums.units_sold = sold;
    if sold != ordered - told {
        violations.add(
            SOLD,
            format!("{sold} units in all; paid orders have {ordered}, {told} were told to be back"),
        );
    }
    for article in books.articles {
        let sku = article.sku.as_str();
        let Some(stock) = books.stocks.iter().find(|stock| stock.sku == sku) else {
            violations.add(RESERVED, format!("{sku} is nowhere"));
            continue;
        };
        let expected = expected.get(sku).copied().unwrap_or(0);
        if stock.sold != expected {
            violations.add(SOLD, format!("{sku} has sold {}, paid orders say {expected}", stock.sold));
        }
        let adds_up = stock.received == stock.on_hand + stock.sold && stock.received == article.opening;
        if stock.reserved != 0 || !adds_up || stock.on_hand < 0 {
            violations.add(RESERVED, format!("{stock:?}, opened with {}", article.opening));
        }
    }
}

#[cfg(test)]
mod tests;
