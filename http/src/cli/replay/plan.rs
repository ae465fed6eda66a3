//! What an invoice asks of the engine: orders, refunds and adjustments, each with the key it is always asked under.
//!
//! Decided from the file alone, invoice after invoice in time order; the same file gives the same plan and the same keys, so
//! that a replay begun again repeats requests instead of doubling them. Start at [`Planner::plan`].

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::columns::{Columns, FeeList};
use super::matching::{Matching, ReturnsToCome};
use super::reader::{Invoice, Line};
use super::rules::{Kind, Rule, kinds};

/// Most lines of different SKU or price in one cart; an invoice with more becomes several orders.
const CART_LINES_MAX: usize = 1_000;

/// A line of an order, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLine {
    /// What.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// Price of one in minor units.
    pub price: i64,
}

/// An order to place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderPlan {
    /// Which order of the replay, counted from 0.
    pub number: usize,
    /// Beginning of its idempotency keys.
    pub key: String,
    /// Its lines.
    pub lines: Vec<PlannedLine>,
    /// Their sum in minor units.
    pub total: i64,
    /// SKU and price of the lines that may come back, whose line ids are worth remembering.
    pub may_come_back: Vec<(String, i64)>,
}

/// A return whose sale is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundPlan {
    /// Its idempotency key.
    pub key: String,
    /// The order it is from.
    pub order: usize,
    /// What comes back.
    pub sku: String,
    /// The price it was sold at; with the SKU it names the order's line.
    pub sold_price: i64,
    /// How many units.
    pub units: i64,
    /// The return's own price × units, in minor units.
    pub amount: i64,
}

/// A change of stock without an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustmentPlan {
    /// Its idempotency key.
    pub key: String,
    /// Of which SKU.
    pub sku: String,
    /// Change of units.
    pub delta: i64,
    /// Under which rule; its name is the ledger's reason.
    pub rule: Rule,
    /// The invoice, as the ledger's reference.
    pub reference: String,
}

/// All that one invoice asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvoicePlan {
    /// Its time, in seconds since 1970.
    pub at_s: Option<i64>,
    /// Orders to place.
    pub orders: Vec<OrderPlan>,
    /// Returns to refund.
    pub refunds: Vec<RefundPlan>,
    /// Stock to adjust.
    pub adjustments: Vec<AdjustmentPlan>,
}

/// Lines, units and money under one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTally {
    /// How many lines.
    pub lines: u64,
    /// Their units, signed as in the file.
    pub units: i64,
    /// Their units × price in minor units, signed as in the file.
    pub value: i64,
    /// How many of the lines are fees.
    pub fee_lines: u64,
}

/// Turns invoices into plans, and counts every line under its rule.
#[derive(Debug)]
pub struct Planner {
    run: String,
    sku_prefix: String,
    columns: Columns,
    fees: FeeList,
    matching: Matching,
    orders: usize,
    /// What fell under each rule so far.
    pub tallies: BTreeMap<Rule, RuleTally>,
}

impl Planner {
    /// A planner for the run called `run`, whose SKUs in the engine begin with `sku_prefix`.
    pub fn new(run: &str, sku_prefix: &str, columns: Columns, fees: FeeList, returns: ReturnsToCome) -> Self {
        Self {
            run: run.to_owned(),
            sku_prefix: sku_prefix.to_owned(),
            columns,
            fees,
            matching: Matching::new(returns),
            orders: 0,
            tallies: Rule::ALL.iter().map(|rule| (*rule, RuleTally::default())).collect(),
        }
    }

    /// What `invoice` asks.
    pub fn plan(&mut self, invoice: &Invoice) -> InvoicePlan {
        let kinds = kinds(invoice, &self.columns, &self.fees);
        let mut plan = InvoicePlan { at_s: invoice.at_s, ..InvoicePlan::default() };
        let base = format!("replay:{}:{}", self.run, key_part(&invoice.number));
        for _ in &invoice.bad {
            self.tallies.entry(Rule::Malformed).or_default().lines += 1;
        }
        let sold: Vec<&Line> = invoice
            .lines
            .iter()
            .zip(&kinds)
            .filter_map(|(line, kind)| match kind {
                Kind::Order(rule) => {
                    self.tally(*rule, line);
                    Some(line)
                }
                Kind::Return | Kind::Correction | Kind::Counted(_) => None,
            })
            .collect();
        for (part, lines) in carts(&sold).into_iter().enumerate() {
            let key = format!("{base}:{}:{part}", invoice.first_line);
            let order = self.order(key, &lines);
            plan.orders.push(order);
        }
        for (line, kind) in invoice.lines.iter().zip(kinds) {
            match kind {
                Kind::Order(_) => {}
                Kind::Counted(rule) => self.tally(rule, line),
                Kind::Correction => {
                    self.tally(Rule::Correction, line);
                    plan.adjustments.push(self.adjustment(
                        &base,
                        invoice,
                        line,
                        line.quantity,
                        Rule::Correction,
                    ));
                }
                Kind::Return => {
                    let units = -line.quantity;
                    if let Some(found) = self.matching.find(&line.customer, &line.sku, units, line.price) {
                        self.tally(Rule::Refund, line);
                        plan.refunds.push(RefundPlan {
                            key: format!("{base}:{}:refund", line.number),
                            order: found.order,
                            sku: self.named(&line.sku),
                            sold_price: found.price,
                            units,
                            amount: units.saturating_mul(line.price),
                        });
                    } else {
                        self.tally(Rule::ReturnWithoutSale, line);
                        let rule = Rule::ReturnWithoutSale;
                        plan.adjustments.push(self.adjustment(&base, invoice, line, units, rule));
                    }
                }
            }
        }
        plan
    }

    /// How many orders were planned so far.
    pub fn orders(&self) -> usize {
        self.orders
    }

    /// A file's SKU as the engine knows it.
    pub fn named(&self, sku: &str) -> String {
        format!("{}{sku}", self.sku_prefix)
    }

    fn order(&mut self, key: String, lines: &[&Line]) -> OrderPlan {
        let number = self.orders;
        self.orders += 1;
        let total = lines.iter().map(|line| line.quantity.saturating_mul(line.price)).sum();
        let money_left = Rc::new(Cell::new(total));
        // The engine adds lines of one SKU and price together; a sale is such a sum. Orders have few enough
        // lines for a map each; the file's order is kept, because the newest sale is the one that comes last.
        let mut places: BTreeMap<(&str, i64), usize> = BTreeMap::new();
        let mut sums: Vec<(&Line, i64)> = Vec::new();
        for line in lines {
            let place = *places.entry((&line.sku, line.price)).or_insert(sums.len());
            match sums.get_mut(place) {
                Some((_, units)) => *units += line.quantity,
                None => sums.push((line, line.quantity)),
            }
        }
        let mut may_come_back = Vec::new();
        for (line, units) in sums {
            if self.matching.sold(&line.customer, &line.sku, number, (units, line.price), &money_left) {
                may_come_back.push((self.named(&line.sku), line.price));
            }
        }
        let lines = lines
            .iter()
            .map(|line| PlannedLine {
                sku: self.named(&line.sku),
                quantity: line.quantity,
                price: line.price,
            })
            .collect();
        OrderPlan { number, key, lines, total, may_come_back }
    }

    fn adjustment(
        &self,
        base: &str,
        invoice: &Invoice,
        line: &Line,
        delta: i64,
        rule: Rule,
    ) -> AdjustmentPlan {
        AdjustmentPlan {
            key: format!("{base}:{}:adjust", line.number),
            sku: self.named(&line.sku),
            delta,
            rule,
            reference: key_part(&invoice.number),
        }
    }

    fn tally(&mut self, rule: Rule, line: &Line) {
        let is_fee = self.fees.contains(&line.code);
        let tally = self.tallies.entry(rule).or_default();
        tally.lines += 1;
        tally.units += line.quantity;
        tally.value += line.quantity.saturating_mul(line.price);
        tally.fee_lines += u64::from(is_fee);
    }
}

/// Splits an invoice's lines where a cart would be full.
fn carts<'a>(lines: &[&'a Line]) -> Vec<Vec<&'a Line>> {
    let mut carts: Vec<Vec<&Line>> = Vec::new();
    let mut seen: HashSet<(&str, i64)> = HashSet::new();
    for line in lines {
        let key = (line.sku.as_str(), line.price);
        let full = seen.len() >= CART_LINES_MAX && !seen.contains(&key);
        if carts.is_empty() || full {
            carts.push(Vec::new());
            seen.clear();
        }
        seen.insert(key);
        if let Some(cart) = carts.last_mut() {
            cart.push(line);
        }
    }
    carts
}

/// An invoice number fit for a key: printable, short. The line number beside it keeps keys different.
fn key_part(invoice: &str) -> String {
    invoice.chars().filter(char::is_ascii_graphic).take(40).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::columns::ONLINE_RETAIL_FEES;
    use super::super::reader::Reader;
    use super::super::survey::Survey;
    use super::*;

    struct Whole {
        survey: Survey,
        tallies: BTreeMap<Rule, RuleTally>,
        orders: usize,
        invoices: u64,
        largest: usize,
        gross: i64,
        refunds: i64,
        keys: HashSet<String>,
        requests: usize,
    }

    fn whole(path: &Path) -> Whole {
        let (columns, fees) = (Columns::online_retail(), FeeList::parse(ONLINE_RETAIL_FEES));
        let mut survey = Survey::of(path, &columns, &fees, 2, |_| {}).unwrap();
        let mut planner =
            Planner::new("test", "", columns.clone(), fees, std::mem::take(&mut survey.returns));
        let mut reader = Reader::open(path, &columns, 2).unwrap();
        let (mut invoices, mut largest, mut gross, mut refunds, mut requests) = (0, 0, 0, 0, 0);
        let mut keys = HashSet::new();
        while let Some((_, invoice)) = reader.next_invoice().unwrap() {
            invoices += 1;
            largest = largest.max(invoice.lines.len());
            let plan = planner.plan(&invoice);
            gross += plan.orders.iter().map(|order| order.total).sum::<i64>();
            refunds += plan.refunds.iter().map(|refund| refund.amount).sum::<i64>();
            requests += plan.orders.len() + plan.refunds.len() + plan.adjustments.len();
            keys.extend(plan.orders.into_iter().map(|order| order.key));
            keys.extend(plan.refunds.into_iter().map(|refund| refund.key));
            keys.extend(plan.adjustments.into_iter().map(|adjustment| adjustment.key));
        }
        let orders = planner.orders();
        Whole { survey, tallies: planner.tallies, orders, invoices, largest, gross, refunds, keys, requests }
    }

    fn lines(whole: &Whole, rule: Rule) -> u64 {
        whole.tallies[&rule].lines
    }

    #[test]
    fn every_line_of_the_sample_is_counted_once_and_every_rule_occurs() {
        let whole = whole(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sample_orders.csv")));
        let counted: u64 = whole.tallies.values().map(|tally| tally.lines).sum();
        assert_eq!(counted, whole.survey.lines);
        assert_eq!(whole.keys.len(), whole.requests, "no two requests share a key");
        for rule in Rule::ALL {
            assert!(lines(&whole, rule) > 0, "the sample has no line under `{}`", rule.name());
        }
    }

    #[test]
    fn the_real_file_is_counted_to_the_line_and_the_penny() {
        let path =
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail/orders.csv"));
        if !path.exists() {
            // The file stands beside the checkout only where the project is developed; the sample covers the rest.
            return;
        }
        let whole = whole(path);
        assert_eq!((whole.survey.lines, whole.invoices, whole.survey.skus.len()), (50_062, 2_342, 2_879));
        assert_eq!(whole.largest, 675);
        assert!(whole.survey.time_order.is_none());
        let counts: Vec<_> = Rule::ALL.iter().map(|rule| (rule.name(), lines(&whole, *rule))).collect();
        assert_eq!(
            counts,
            [
                ("sold", 48_650),
                ("free_item", 137),
                ("fee", 192),
                ("refund", 415),
                ("return_without_sale", 508),
                ("correction", 160),
                ("accounting", 0),
                ("zero_quantity", 0),
                ("malformed", 0),
            ]
        );
        assert_eq!(counts.iter().map(|(_, lines)| lines).sum::<u64>(), 50_062);
        assert_eq!(whole.tallies[&Rule::ReturnWithoutSale].fee_lines, 36);
        assert_eq!(whole.orders, 1_798);
        assert_eq!((whole.gross, whole.refunds), (95_607_071, 1_119_014));
        assert_eq!(whole.tallies[&Rule::ReturnWithoutSale].value, -10_353_624);
        assert_eq!(whole.keys.len(), whole.requests);
    }

    #[test]
    fn an_invoice_beyond_a_carts_size_becomes_several_orders() {
        let line = |number: u64| Line {
            number,
            code: format!("S{number}"),
            sku: format!("S{number}"),
            description: String::new(),
            quantity: 1,
            at_s: 0,
            price: 1,
            rounded: false,
            customer: "ann".to_owned(),
        };
        let mut lines: Vec<Line> = (1..=1_114).map(line).collect();
        // A repeated line needs no place of its own, even in a full cart.
        lines.insert(1_000, line(7));
        let invoice = Invoice { number: "573585".to_owned(), first_line: 1, lines, ..Invoice::default() };
        let mut planner =
            Planner::new("run", "p-", Columns::online_retail(), FeeList::default(), ReturnsToCome::default());
        let plan = planner.plan(&invoice);
        let sizes: Vec<_> = plan.orders.iter().map(|order| (order.lines.len(), order.key.as_str())).collect();
        assert_eq!(sizes, [(1_001, "replay:run:573585:1:0"), (114, "replay:run:573585:1:1")]);
        assert_eq!(plan.orders[0].lines[0].sku, "p-S1");
    }
}
