//! The books: what the file says there must be, and where the engine disagrees.
//!
//! Law: the file's side is made of the plans alone. Of the engine's answers it takes one thing: which requests were
//! refused for want of stock, because a shop that opens with less than it sold must turn somebody away, and the file
//! cannot say whom. Any other refusal is itself a difference. Start at [`Books::expect_order`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{AdjustmentPlan, OrderPlan, RefundPlan};
use crate::client::{OrderReply, StockReply};

/// Units of one SKU as the file has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkuBook {
    /// What the shop opened with.
    pub opening: i64,
    /// Units on orders.
    pub sold: i64,
    /// Units of these that came back to their orders.
    pub returned: i64,
    /// Net units of adjustments.
    pub adjusted: i64,
}

impl SkuBook {
    /// What must be left on the shelf.
    pub fn left(&self) -> i64 {
        self.opening + self.adjusted - self.sold + self.returned
    }
}

/// An order as the file has it, and what it is called in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OrderBook {
    id: Option<Box<str>>,
    key: Box<str>,
    total: i64,
    refunded: i64,
    units_returned: i64,
    /// Nobody is asked for it: it was refused for want of stock.
    is_withdrawn: bool,
}

/// One figure on which file and engine do not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Of what: a SKU, an order, a request.
    pub of: String,
    /// Which figure.
    pub figure: String,
    /// What the file says.
    pub file: String,
    /// What the engine says.
    pub engine: String,
}

impl Difference {
    fn new(of: &str, figure: &str, file: &dyn ToString, engine: &dyn ToString) -> Self {
        Self {
            of: of.to_owned(),
            figure: figure.to_owned(),
            file: file.to_string(),
            engine: engine.to_string(),
        }
    }
}

/// Sums over everything, for one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Orders.
    pub orders: u64,
    /// Their totals in minor units.
    pub gross: i64,
    /// Money given back in minor units.
    pub refunds: i64,
    /// Units that came back to their orders.
    pub units_returned: i64,
    /// Opening stock and net adjustments.
    pub units_received: i64,
    /// Units sold and not restocked.
    pub units_sold: i64,
    /// Units on the shelf.
    pub units_left: i64,
}

/// What was asked and how it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Orders placed.
    pub orders_placed: u64,
    /// Orders refused for want of stock (only possible with a fixed opening stock).
    pub orders_refused: u64,
    /// Refunds made.
    pub refunds_made: u64,
    /// Refunds left out because their order was refused.
    pub refunds_without_order: u64,
    /// Adjustments made.
    pub adjustments_made: u64,
    /// Adjustments refused for want of stock.
    pub adjustments_refused: u64,
}

/// Both sides of the books.
#[derive(Debug, Default)]
pub struct Books {
    skus: BTreeMap<String, SkuBook>,
    orders: Vec<OrderBook>,
    /// What was asked and how it went.
    pub carried: Carried,
    /// Net units of adjustments, over all SKUs.
    pub units_adjusted: i64,
    /// Where the sides disagree.
    pub differences: Vec<Difference>,
}

impl Books {
    /// Opens a SKU's page.
    pub fn open(&mut self, sku: String, opening: i64) {
        self.skus.insert(sku, SkuBook { opening, ..SkuBook::default() });
    }

    /// The SKUs, in order.
    pub fn skus(&self) -> Vec<String> {
        self.skus.keys().cloned().collect()
    }

    /// Writes down what an order must do.
    pub fn expect_order(&mut self, plan: &OrderPlan) {
        // Plans come in the order of their numbers, so the place in the list is the number.
        self.orders.push(OrderBook {
            id: None,
            key: plan.key.as_str().into(),
            total: plan.total,
            refunded: 0,
            units_returned: 0,
            is_withdrawn: false,
        });
        for line in &plan.lines {
            self.sku(&line.sku).sold += line.quantity;
        }
    }

    /// Writes down what a refund must do.
    pub fn expect_refund(&mut self, plan: &RefundPlan) {
        if let Some(order) = self.orders.get_mut(plan.order) {
            order.refunded += plan.amount;
            order.units_returned += plan.units;
        }
        self.sku(&plan.sku).returned += plan.units;
    }

    /// Writes down what an adjustment must do.
    pub fn expect_adjustment(&mut self, plan: &AdjustmentPlan) {
        self.sku(&plan.sku).adjusted += plan.delta;
        self.units_adjusted += plan.delta;
    }

    /// The engine placed order `number` as `id`.
    pub fn order_placed(&mut self, number: usize, id: &str) {
        self.carried.orders_placed += 1;
        if let Some(order) = self.orders.get_mut(number) {
            order.id = Some(id.into());
        }
    }

    /// An order was refused for want of stock: the file's side goes on as if it had not been asked.
    pub fn order_withdrawn(&mut self, plan: &OrderPlan) {
        self.carried.orders_refused += 1;
        if let Some(order) = self.orders.get_mut(plan.number) {
            order.is_withdrawn = true;
        }
        for line in &plan.lines {
            self.sku(&line.sku).sold -= line.quantity;
        }
    }

    /// A refund's order was refused, so nothing can come back.
    pub fn refund_withdrawn(&mut self, plan: &RefundPlan) {
        self.carried.refunds_without_order += 1;
        if let Some(order) = self.orders.get_mut(plan.order) {
            order.refunded -= plan.amount;
            order.units_returned -= plan.units;
        }
        self.sku(&plan.sku).returned -= plan.units;
    }

    /// An adjustment was refused for want of stock.
    pub fn adjustment_withdrawn(&mut self, plan: &AdjustmentPlan) {
        self.carried.adjustments_refused += 1;
        self.sku(&plan.sku).adjusted -= plan.delta;
        self.units_adjusted -= plan.delta;
    }

    /// A request was refused that the file says must succeed.
    pub fn refused(&mut self, what: &str, told: &str) {
        self.differences.push(Difference::new(what, "answer", &"carried out", &told));
    }

    /// Where `stock` is not what the file says of `sku`; empty where it is.
    pub fn stock_differences(&self, sku: &str, stock: &StockReply) -> Vec<Difference> {
        let book = self.skus.get(sku).copied().unwrap_or_default();
        let sold = book.sold - book.returned;
        let mut found: Vec<Difference> = [
            ("received", book.opening + book.adjusted, stock.received),
            ("sold", sold, stock.sold),
            ("left", book.left(), stock.on_hand),
            ("reserved", 0, stock.reserved),
        ]
        .into_iter()
        .filter(|(_, file, engine)| file != engine)
        .map(|(figure, file, engine)| Difference::new(sku, figure, &file, &engine))
        .collect();
        if let Some(broken) = stock.broken_law() {
            found.push(Difference::new(sku, "laws", &"kept", &broken));
        }
        found
    }

    /// The orders to read back: number and id.
    pub fn placed_orders(&self) -> Vec<(usize, String)> {
        let placed = |(number, order): (usize, &OrderBook)| Some((number, order.id.as_deref()?.to_owned()));
        self.orders.iter().enumerate().filter_map(placed).collect()
    }

    /// Where an order is not what the file says; empty where it is.
    pub fn order_differences(&self, number: usize, reply: &OrderReply) -> Vec<Difference> {
        let Some(order) = self.orders.get(number) else { return Vec::new() };
        let state = match order.refunded {
            0 => "paid",
            refunded if refunded == order.total => "refunded",
            _ => "partially_refunded",
        };
        let name = format!("{} ({})", reply.id, order.key);
        let mut found = Vec::new();
        for (figure, file, engine) in [
            ("total", order.total, reply.totals.total.amount),
            ("refunded", order.refunded, reply.refunded()),
            ("units returned", order.units_returned, reply.units_refunded()),
        ] {
            if file != engine {
                found.push(Difference::new(&name, figure, &file, &engine));
            }
        }
        if state != reply.state {
            found.push(Difference::new(&name, "state", &state, &reply.state));
        }
        found
    }

    /// Notes orders that the file has and the engine was never seen to place.
    pub fn note_missing_orders(&mut self) {
        for order in self.orders.iter().filter(|order| order.id.is_none() && !order.is_withdrawn) {
            self.differences.push(Difference::new(&order.key, "order", &"placed", &"missing"));
        }
    }

    /// The file's sums.
    pub fn file_sums(&self) -> Sums {
        let standing = || self.orders.iter().filter(|order| !order.is_withdrawn);
        let skus = || self.skus.values();
        Sums {
            orders: standing().count() as u64,
            gross: standing().map(|order| order.total).sum(),
            refunds: standing().map(|order| order.refunded).sum(),
            units_returned: standing().map(|order| order.units_returned).sum(),
            units_received: skus().map(|book| book.opening + book.adjusted).sum(),
            units_sold: skus().map(|book| book.sold - book.returned).sum(),
            units_left: skus().map(SkuBook::left).sum(),
        }
    }

    fn sku(&mut self, sku: &str) -> &mut SkuBook {
        // Looked up first: nearly every SKU is there, and the owned key would be built for nothing.
        if !self.skus.contains_key(sku) {
            self.skus.insert(sku.to_owned(), SkuBook::default());
        }
        self.skus.entry(sku.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::PlannedLine;
    use super::super::rules::Rule;
    use super::*;
    use crate::client::{MoneyReply, OrderLineReply, PaymentReply, TotalsReply};

    fn order(number: usize, quantity: i64, price: i64) -> OrderPlan {
        OrderPlan {
            number,
            key: format!("k{number}"),
            lines: vec![PlannedLine { sku: "X".to_owned(), quantity, price }],
            total: quantity * price,
            may_come_back: Vec::new(),
        }
    }

    fn refund(order: usize, units: i64, amount: i64) -> RefundPlan {
        RefundPlan { key: "r".to_owned(), order, sku: "X".to_owned(), sold_price: 5, units, amount }
    }

    fn adjustment(delta: i64) -> AdjustmentPlan {
        AdjustmentPlan {
            key: "a".to_owned(),
            sku: "X".to_owned(),
            delta,
            rule: Rule::Correction,
            reference: "1".to_owned(),
        }
    }

    fn stock(received: i64, on_hand: i64, sold: i64) -> StockReply {
        StockReply { received, on_hand, reserved: 0, available: on_hand, sellable: on_hand, sold }
    }

    fn reply(state: &str, total: i64, refunded: i64, units_refunded: i64) -> OrderReply {
        let money = |amount| MoneyReply::new(amount, "GBP");
        OrderReply {
            id: "ord_1".to_owned(),
            state: state.to_owned(),
            totals: TotalsReply { total: money(total) },
            payment: PaymentReply { refunded: Some(money(refunded)) },
            lines: vec![OrderLineReply {
                quantity: total / 5,
                refunded: units_refunded,
                ..OrderLineReply::default()
            }],
        }
    }

    #[test]
    fn books_balance_only_when_every_figure_agrees() {
        let mut books = Books::default();
        books.open("X".to_owned(), 20);
        for (number, plan) in [order(0, 6, 5), order(1, 4, 5)].iter().enumerate() {
            books.expect_order(plan);
            books.order_placed(number, "ord_1");
        }
        books.expect_refund(&refund(0, 2, 10));
        books.expect_adjustment(&adjustment(-3));
        for (figures, differing) in [
            (stock(17, 9, 8), vec![]),
            (stock(20, 12, 8), vec!["received", "left"]),
            (stock(17, 7, 10), vec!["sold", "left"]),
            (stock(17, 9, 7), vec!["sold", "laws"]),
            (StockReply { reserved: 1, available: 8, sellable: 8, ..stock(17, 9, 8) }, vec!["reserved"]),
        ] {
            let found = books.stock_differences("X", &figures);
            let found: Vec<_> = found.iter().map(|difference| difference.figure.as_str()).collect();
            assert_eq!(found, differing, "{figures:?}");
        }
        for (number, reply, differing) in [
            (0, reply("partially_refunded", 30, 10, 2), vec![]),
            (0, reply("paid", 30, 0, 0), vec!["refunded", "units returned", "state"]),
            (0, reply("partially_refunded", 29, 10, 2), vec!["total"]),
            (1, reply("paid", 20, 0, 0), vec![]),
            (1, reply("refunded", 20, 20, 4), vec!["refunded", "units returned", "state"]),
        ] {
            let found = books.order_differences(number, &reply);
            let found: Vec<_> = found.iter().map(|difference| difference.figure.as_str()).collect();
            assert_eq!(found, differing, "order {number}");
        }
        let sums = books.file_sums();
        assert_eq!((sums.orders, sums.gross, sums.refunds), (2, 50, 10));
        assert_eq!((sums.units_received, sums.units_sold, sums.units_left), (17, 8, 9));
    }

    #[test]
    fn what_was_refused_for_want_of_stock_leaves_no_trace() {
        let mut books = Books::default();
        books.open("X".to_owned(), 1);
        books.expect_order(&order(0, 6, 5));
        books.expect_refund(&refund(0, 1, 5));
        books.expect_adjustment(&adjustment(-3));
        books.order_withdrawn(&order(0, 6, 5));
        books.refund_withdrawn(&refund(0, 1, 5));
        books.adjustment_withdrawn(&adjustment(-3));
        books.note_missing_orders();
        assert_eq!(books.stock_differences("X", &stock(1, 1, 0)), []);
        assert_eq!(books.differences, []);
        assert_eq!(books.file_sums(), Sums { units_received: 1, units_left: 1, ..Sums::default() });
    }

    #[test]
    fn an_order_nobody_placed_is_a_difference() {
        let mut books = Books::default();
        books.expect_order(&order(0, 6, 5));
        books.note_missing_orders();
        assert_eq!(books.differences.len(), 1);
        books.refused("refund r", "409 illegal_transition");
        assert_eq!(books.differences.len(), 2);
    }
}
