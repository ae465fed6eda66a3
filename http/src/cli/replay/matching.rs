//! Which earlier sale a return belongs to.
//!
//! A return is matched to the newest earlier sale of the same customer and SKU that has enough units left, and whose
//! order has enough money left (a return at a higher price than the sale's must not take more than was paid).
//! Guests cannot be matched: nobody knows who they were.
//!
//! Memory follows the returns, not the sales: the first pass counts the returns of each (customer, SKU), and only
//! sales of a pair with returns still to come are remembered. Start at [`Matching::find`].

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// How many returns each (customer, SKU) has in the whole file.
#[derive(Clone, Debug, Default)]
pub struct ReturnsToCome {
    pairs: HashMap<(String, String), u32>,
}

impl ReturnsToCome {
    /// Counts one return.
    pub fn count(&mut self, customer: &str, sku: &str) {
        if !customer.is_empty() {
            *self.pairs.entry((customer.to_owned(), sku.to_owned())).or_default() += 1;
        }
    }
}

/// A line of an order that a return may come back to.
#[derive(Clone, Debug)]
struct Sale {
    order: usize,
    price: i64,
    units_left: i64,
    money_left: Rc<Cell<i64>>,
}

/// The sale a return was matched to: a line of that order, known by SKU and price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Which order.
    pub order: usize,
    /// The price its units were sold at, in minor units.
    pub price: i64,
}

#[derive(Debug, Default)]
struct Pair {
    returns_to_come: u32,
    sales: Vec<Sale>,
}

/// Sales that may still be returned.
#[derive(Debug, Default)]
pub struct Matching {
    pairs: HashMap<(String, String), Pair>,
}

impl Matching {
    /// Nothing sold yet; `returns` are still to come.
    pub fn new(returns: ReturnsToCome) -> Self {
        let pairs = returns
            .pairs
            .into_iter()
            .map(|(pair, returns_to_come)| (pair, Pair { returns_to_come, sales: Vec::new() }))
            .collect();
        Self { pairs }
    }

    /// Remembers a line of order `order` if it may come back; says whether. `money_left` is what the order's
    /// customer has paid and not got back, shared by all lines of that order.
    pub fn sold(
        &mut self,
        customer: &str,
        sku: &str,
        order: usize,
        (units, price): (i64, i64),
        money_left: &Rc<Cell<i64>>,
    ) -> bool {
        let Some(pair) = self.pairs.get_mut(&(customer.to_owned(), sku.to_owned())) else { return false };
        pair.sales.push(Sale { order, price, units_left: units, money_left: Rc::clone(money_left) });
        true
    }

    /// Finds the sale that `units` at `price` come back to, and takes them from it.
    pub fn find(&mut self, customer: &str, sku: &str, units: i64, price: i64) -> Option<Match> {
        if customer.is_empty() {
            return None;
        }
        let key = (customer.to_owned(), sku.to_owned());
        let pair = self.pairs.get_mut(&key)?;
        let amount = units.saturating_mul(price);
        let found = pair
            .sales
            .iter_mut()
            .rev()
            .find(|sale| sale.units_left >= units && sale.money_left.get() >= amount)
            .map(|sale| {
                sale.units_left -= units;
                sale.money_left.set(sale.money_left.get() - amount);
                Match { order: sale.order, price: sale.price }
            });
        pair.sales.retain(|sale| sale.units_left > 0);
        pair.returns_to_come = pair.returns_to_come.saturating_sub(1);
        if pair.returns_to_come == 0 {
            self.pairs.remove(&key);
        }
        found
    }

    /// Sales remembered now, for the memory test.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.pairs.values().map(|pair| pair.sales.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (&'a str, &'a str, i64, i64, Option<(usize, i64)>);

    /// Plays rows of (customer, sku, units, price); negative units return. Sales make orders 0, 1, 2, ….
    fn check(rows: &[Row]) {
        let mut returns = ReturnsToCome::default();
        for (customer, sku, units, ..) in rows {
            if *units < 0 {
                returns.count(customer, sku);
            }
        }
        let mut matching = Matching::new(returns);
        let mut orders = 0;
        for (row, (customer, sku, units, price, expected)) in rows.iter().enumerate() {
            if *units > 0 {
                matching.sold(customer, sku, orders, (*units, *price), &Rc::new(Cell::new(units * price)));
                orders += 1;
            } else {
                let found =
                    matching.find(customer, sku, -units, *price).map(|found| (found.order, found.price));
                assert_eq!(found, *expected, "row {row}");
            }
        }
        assert_eq!(matching.remembered(), 0, "nothing is remembered once no return is to come");
    }

    #[test]
    fn a_return_finds_the_newest_earlier_sale_with_enough_units_left() {
        check(&[
            ("ann", "X", 5, 100, None),
            ("ann", "X", 2, 100, None),
            ("bob", "X", 9, 100, None),
            ("ann", "x", 9, 100, None),
            ("ann", "X", -2, 100, Some((1, 100))),
            ("ann", "X", -2, 100, Some((0, 100))),
            ("ann", "X", -4, 100, None),
            ("ann", "X", -3, 100, Some((0, 100))),
            ("ann", "X", -1, 100, None),
        ]);
    }

    #[test]
    fn a_guest_or_a_stranger_finds_nothing() {
        check(&[
            ("", "X", 5, 100, None),
            ("", "X", -1, 100, None),
            ("ann", "Y", -1, 100, None),
            ("ann", "Y", 5, 100, None),
        ]);
    }

    #[test]
    fn a_return_at_another_price_keeps_the_sales_price_and_never_takes_more_than_was_paid() {
        check(&[
            ("ann", "X", 2, 100, None),
            ("ann", "X", 1, 300, None),
            ("ann", "X", -1, 301, None),
            ("ann", "X", -1, 150, Some((1, 300))),
            ("ann", "X", -1, 150, Some((0, 100))),
            ("ann", "X", -1, 51, None),
            ("ann", "X", -1, 50, Some((0, 100))),
        ]);
    }

    #[test]
    fn sales_without_returns_to_come_are_not_remembered() {
        let mut returns = ReturnsToCome::default();
        returns.count("ann", "X");
        let mut matching = Matching::new(returns);
        for order in 0..1000 {
            matching.sold("bob", "X", order, (1, 1), &Rc::new(Cell::new(1)));
        }
        assert_eq!(matching.remembered(), 0);
    }
}
