//! Under which one rule each line of an order file falls.
//!
//! Law: every line falls under exactly one [`Rule`], decided from the file alone; the counts add up to the file.
//! `docs/replay.md` tells the rules to people. Start at [`kinds`].

use super::columns::{Columns, FeeList};
use super::reader::{Invoice, Line};

/// What a line is, and so what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Goods at a price: a line of the order.
    Sold,
    /// Goods at price 0 on an order: a line of the order, no money.
    FreeItem,
    /// Postage, vouchers and the like: a line of the order (money), with stock nobody counts.
    Fee,
    /// A return whose sale is in the file: a refund that restocks.
    Refund,
    /// A return of something bought before the file begins, or by a guest: a stock adjustment; its money is not booked.
    ReturnWithoutSale,
    /// A stock correction: an adjustment, up or down, no money.
    Correction,
    /// A book-keeper's entry (bad debt): on an accounting paper, or at a price below zero. Money without goods that
    /// no order can carry; not booked.
    Accounting,
    /// A line of no units; not booked.
    ZeroQuantity,
    /// A line that makes no sense; not booked.
    Malformed,
}

impl Rule {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::Sold,
        Self::FreeItem,
        Self::Fee,
        Self::Refund,
        Self::ReturnWithoutSale,
        Self::Correction,
        Self::Accounting,
        Self::ZeroQuantity,
        Self::Malformed,
    ];

    /// Its name in reports and in the ledger's `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sold => "sold",
            Self::FreeItem => "free_item",
            Self::Fee => "fee",
            Self::Refund => "refund",
            Self::ReturnWithoutSale => "return_without_sale",
            Self::Correction => "correction",
            Self::Accounting => "accounting",
            Self::ZeroQuantity => "zero_quantity",
            Self::Malformed => "malformed",
        }
    }

    /// What is done with its lines, in a few words.
    pub fn booked_as(self) -> &'static str {
        match self {
            Self::Sold | Self::FreeItem | Self::Fee => "order line",
            Self::Refund => "refund, restocked",
            Self::ReturnWithoutSale | Self::Correction => "stock adjustment",
            Self::Accounting | Self::ZeroQuantity | Self::Malformed => "not booked",
        }
    }
}

/// A line's rule as far as its invoice tells it: a return's sale is looked for elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes into the order under [`Rule::Sold`], [`Rule::FreeItem`] or [`Rule::Fee`].
    Order(Rule),
    /// It comes back: [`Rule::Refund`] if its sale is found, else [`Rule::ReturnWithoutSale`].
    Return,
    /// It only moves stock.
    Correction,
    /// It is counted, and nothing is done: [`Rule::Accounting`], [`Rule::ZeroQuantity`] or [`Rule::Malformed`].
    Counted(Rule),
}

/// The kind of each of an invoice's readable lines, in their order.
pub fn kinds(invoice: &Invoice, columns: &Columns, fees: &FeeList) -> Vec<Kind> {
    let begins_with =
        |prefix: &Option<String>| prefix.as_deref().is_some_and(|prefix| invoice.number.starts_with(prefix));
    let is_cancellation = begins_with(&columns.cancellation_prefix);
    let is_accounting = begins_with(&columns.accounting_prefix);
    // A paper without buyer and without any price is a note of the stock room (`found`, `amazon`, or nothing at all).
    let is_stock_note =
        !is_cancellation && invoice.lines.iter().all(|line| line.price == 0 && line.customer.is_empty());
    let paper = if is_accounting {
        Paper::Accounting
    } else if is_cancellation {
        Paper::Cancellation
    } else if is_stock_note {
        Paper::StockNote
    } else {
        Paper::Order { may_return: columns.cancellation_prefix.is_none() }
    };
    invoice.lines.iter().map(|line| kind(line, paper, fees)).collect()
}

/// What an invoice is as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paper {
    Order {
        /// Whether the file has no cancellations of their own, so that returns stand on any invoice.
        may_return: bool,
    },
    Cancellation,
    StockNote,
    Accounting,
}

fn kind(line: &Line, paper: Paper, fees: &FeeList) -> Kind {
    if line.quantity == 0 {
        return Kind::Counted(Rule::ZeroQuantity);
    }
    if paper == Paper::Accounting || line.price < 0 {
        return Kind::Counted(Rule::Accounting);
    }
    if paper == Paper::Cancellation && line.quantity > 0 {
        return Kind::Counted(Rule::Malformed);
    }
    if line.quantity < 0 {
        // Without a price nothing was paid that could be given back: only stock moves.
        let returned =
            line.price > 0 && matches!(paper, Paper::Cancellation | Paper::Order { may_return: true });
        return if returned { Kind::Return } else { Kind::Correction };
    }
    if paper == Paper::StockNote {
        return Kind::Correction;
    }
    if fees.contains(&line.code) {
        return Kind::Order(Rule::Fee);
    }
    Kind::Order(if line.price == 0 { Rule::FreeItem } else { Rule::Sold })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(code: &str, quantity: i64, price: i64, customer: &str) -> Line {
        Line {
            number: 1,
            code: code.to_owned(),
            sku: code.to_owned(),
            description: String::new(),
            quantity,
            at_s: 0,
            price,
            rounded: false,
            customer: customer.to_owned(),
        }
    }

    fn check(columns: &Columns, number: &str, rows: &[(&str, i64, i64, &str, Kind)]) {
        let fees = FeeList::parse(super::super::columns::ONLINE_RETAIL_FEES);
        let invoice = Invoice {
            number: number.to_owned(),
            lines: rows
                .iter()
                .map(|(code, quantity, price, customer, _)| line(code, *quantity, *price, customer))
                .collect(),
            ..Invoice::default()
        };
        let expected: Vec<Kind> = rows.iter().map(|row| row.4).collect();
        assert_eq!(kinds(&invoice, columns, &fees), expected, "invoice {number}");
    }

    #[test]
    fn every_line_falls_under_one_rule() {
        use Kind::{Correction, Counted, Order, Return};
        let retail = Columns::online_retail();
        check(
            &retail,
            "536365",
            &[
                ("85123A", 6, 255, "17850", Order(Rule::Sold)),
                ("22139", 1, 0, "17850", Order(Rule::FreeItem)),
                ("POST", 1, 1800, "17850", Order(Rule::Fee)),
                ("gift_0001_40", 1, 3404, "17850", Order(Rule::Fee)),
                ("M", 1, 0, "17850", Order(Rule::Fee)),
                ("85123A", 0, 255, "17850", Counted(Rule::ZeroQuantity)),
                ("B", 1, -1_106_206, "17850", Counted(Rule::Accounting)),
                ("85123A", -3, 255, "17850", Correction),
            ],
        );
        // One priced line makes it an order, so its free line was given to somebody.
        check(
            &retail,
            "536544",
            &[("A", 1, 0, "", Order(Rule::FreeItem)), ("71053", 1, 5, "", Order(Rule::Sold))],
        );
        check(&retail, "A563185", &[("B", 1, 1_106_206, "", Counted(Rule::Accounting))]);
        check(&retail, "536414", &[("22139", 56, 0, "", Correction)]);
        check(&retail, "536415", &[("22139", 56, 0, "17850", Order(Rule::FreeItem))]);
        check(&retail, "536589", &[("21777", -10, 0, "", Correction)]);
        check(
            &retail,
            "C536379",
            &[
                ("85123A", -1, 255, "17850", Return),
                ("D", -1, 2750, "14527", Return),
                ("85123A", -1, 0, "17850", Correction),
                ("85123A", 1, 255, "17850", Counted(Rule::Malformed)),
            ],
        );
        let plain: Columns = "invoice=a,sku=b,quantity=c,date=d,price=e".parse().unwrap();
        check(
            &plain,
            "C1",
            &[("A", 1, 5, "", Order(Rule::Sold)), ("A", -1, 5, "", Return), ("A", -1, 0, "", Correction)],
        );
    }

    #[test]
    fn rule_names_are_different() {
        let mut names: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rule::ALL.len());
    }

    #[test]
    fn the_page_for_people_explains_every_rule() {
        let page = include_str!("../../../../docs/replay.md");
        for rule in Rule::ALL {
            assert!(
                page.contains(&format!("| `{}` |", rule.name())),
                "docs/replay.md lacks `{}`",
                rule.name()
            );
        }
    }
}
