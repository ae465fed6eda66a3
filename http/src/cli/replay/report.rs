//! What a replay tells at its end: for people as tables, for machines as one JSON object.

use std::time::Duration;

use comfy_table::{CellAlignment, Table};
use serde_json::json;

use super::books::{Carried, Difference, Sums};
use super::plan::RuleTally;
use super::rules::Rule;
use crate::client::{ImportReply, Latency, Tally};

/// Differences shown to people; a machine gets all of them.
const DIFFERENCES_SHOWN_MAX: usize = 50;

/// Everything worth telling.
#[derive(Debug)]
pub struct Report {
    /// The name under which it can be resumed.
    pub run_id: String,
    /// ISO 4217 code of all money.
    pub currency: String,
    /// Digits after the decimal point.
    pub decimals: u32,
    /// Lines of the file.
    pub lines: u64,
    /// Invoices of the file.
    pub invoices: u64,
    /// SKUs of the file.
    pub skus: u64,
    /// Lines whose price was rounded to a minor unit.
    pub rounded: u64,
    /// What the import said.
    pub import: ImportReply,
    /// Lines, units and value under each rule.
    pub rules: Vec<(Rule, RuleTally)>,
    /// What was asked and how it went.
    pub carried: Carried,
    /// Net units of adjustments.
    pub units_adjusted: i64,
    /// The file's sums.
    pub file: Sums,
    /// The engine's.
    pub engine: Sums,
    /// Where they disagree.
    pub differences: Vec<Difference>,
    /// How long the second pass took.
    pub took: Duration,
    /// From cart to paid order.
    pub orders: Latency,
    /// By kind of call.
    pub calls: Vec<Latency>,
    /// Refusals: status, code, times.
    pub refusals: Vec<(u16, String, u64)>,
    /// Attempts that nobody answered.
    pub faults: u64,
}

impl Report {
    /// Takes latencies and refusals from `tally`.
    pub fn measured(mut self, tally: &Tally) -> Self {
        self.calls = tally.latencies();
        self.calls.push(tally.overall());
        self.refusals = tally.refusals();
        self.faults = tally.faults();
        self
    }

    /// For people.
    pub fn tables(&self) -> String {
        let mut parts = vec![
            format!(
                "{} lines, {} invoices, {} SKUs; run {}{}",
                grouped(self.lines),
                grouped(self.invoices),
                grouped(self.skus),
                self.run_id,
                if self.rounded > 0 { format!("; {} prices rounded", self.rounded) } else { String::new() },
            ),
            self.rules_table(),
            self.sums_table(),
            self.carried_table(),
            latency_table(&self.orders, &self.calls),
        ];
        let seconds = self.took.as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        parts.push(format!(
            "{:.1} s: {:.0} orders/s, {:.0} lines/s",
            self.took.as_secs_f64(),
            self.carried.orders_placed as f64 / seconds,
            self.lines as f64 / seconds
        ));
        parts.push(refusal_lines(&self.refusals, self.faults));
        if self.import.updated > 0 {
            parts.push(format!(
                "note: the engine knew {} of the SKUs before, and keeps its stock of them: books can only balance on an engine \
                 that starts empty, when resuming the same run, or under SKUs of its own (--sku-prefix)",
                self.import.updated
            ));
        }
        parts.push(self.verdict());
        parts.join("\n\n")
    }

    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|(rule, tally)| {
                json!({
                    "rule": rule.name(), "booked_as": rule.booked_as(), "lines": tally.lines, "units": tally.units,
                    "value": tally.value, "fee_lines": tally.fee_lines,
                })
            })
            .collect();
        let refusals: Vec<_> = self
            .refusals
            .iter()
            .map(|(status, code, times)| json!({"status": status, "code": code, "times": times}))
            .collect();
        json!({
            "balanced": self.differences.is_empty(),
            "run_id": self.run_id,
            "currency": self.currency,
            "lines": self.lines,
            "invoices": self.invoices,
            "skus": self.skus,
            "rounded_prices": self.rounded,
            "import": self.import,
            "rules": rules,
            "carried": self.carried,
            "units_adjusted": self.units_adjusted,
            "file": self.file,
            "engine": self.engine,
            "differences": self.differences,
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "order_latency": self.orders,
            "call_latencies": self.calls,
            "refusals": refusals,
            "unanswered_attempts": self.faults,
        })
    }

    fn rules_table(&self) -> String {
        let mut table =
            numbers_table(&["rule", "lines", "of them fees", "units", "value", "booked as"], &[1, 2, 3, 4]);
        let mut sum = RuleTally::default();
        for (rule, tally) in &self.rules {
            sum.lines += tally.lines;
            sum.fee_lines += tally.fee_lines;
            table.add_row([
                rule.name().to_owned(),
                grouped(tally.lines),
                grouped(tally.fee_lines),
                signed(tally.units),
                self.money(tally.value),
                rule.booked_as().to_owned(),
            ]);
        }
        table.add_row([
            "all".to_owned(),
            grouped(sum.lines),
            grouped(sum.fee_lines),
            String::new(),
            String::new(),
            String::new(),
        ]);
        table.to_string()
    }

    fn sums_table(&self) -> String {
        let mut table = numbers_table(&["books", "file", "engine"], &[1, 2]);
        let (file, engine) = (&self.file, &self.engine);
        for (name, left, right) in [
            ("orders", grouped(file.orders), grouped(engine.orders)),
            ("gross sales", self.money(file.gross), self.money(engine.gross)),
            ("refunds", self.money(file.refunds), self.money(engine.refunds)),
            ("units returned", signed(file.units_returned), signed(engine.units_returned)),
            ("units received", signed(file.units_received), signed(engine.units_received)),
            ("units sold, less returned", signed(file.units_sold), signed(engine.units_sold)),
            ("units left", signed(file.units_left), signed(engine.units_left)),
        ] {
            table.add_row([name.to_owned(), left, right]);
        }
        table.to_string()
    }

    fn carried_table(&self) -> String {
        let mut table = numbers_table(&["carried out", "times", "left out for want of stock"], &[1, 2]);
        let carried = &self.carried;
        for (name, made, left) in [
            ("orders", carried.orders_placed, carried.orders_refused),
            ("refunds", carried.refunds_made, carried.refunds_without_order),
            ("adjustments", carried.adjustments_made, carried.adjustments_refused),
        ] {
            table.add_row([name.to_owned(), grouped(made), grouped(left)]);
        }
        format!("{table}\nadjustments net {} units", signed(self.units_adjusted))
    }

    fn verdict(&self) -> String {
        if self.differences.is_empty() {
            return "The books balance: no differences.".to_owned();
        }
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header(["of", "figure", "file", "engine"]);
        for difference in self.differences.iter().take(DIFFERENCES_SHOWN_MAX) {
            table.add_row([&difference.of, &difference.figure, &difference.file, &difference.engine]);
        }
        let hidden = self.differences.len().saturating_sub(DIFFERENCES_SHOWN_MAX);
        let more = if hidden > 0 {
            format!("\n… and {hidden} more (all of them with --json)")
        } else {
            String::new()
        };
        format!("{table}{more}\nThe books do not balance: {} differences.", self.differences.len())
    }

    fn money(&self, amount: i64) -> String {
        money(amount, self.decimals, &self.currency)
    }
}

/// A table of latencies, in milliseconds.
pub fn latency_table(whole: &Latency, calls: &[Latency]) -> String {
    let mut table =
        numbers_table(&["call", "answers", "p50 ms", "p99 ms", "p99.9 ms", "max ms"], &[1, 2, 3, 4, 5]);
    for latency in calls.iter().chain((whole.count > 0).then_some(whole)) {
        let ms = |us: u64| format!("{}.{:02}", us / 1000, us % 1000 / 10);
        table.add_row([
            latency.label.clone(),
            grouped(latency.count),
            ms(latency.p50_us),
            ms(latency.p99_us),
            ms(latency.p999_us),
            ms(latency.max_us),
        ]);
    }
    table.to_string()
}

/// Refusals by code, and attempts without answer.
pub fn refusal_lines(refusals: &[(u16, String, u64)], faults: u64) -> String {
    let mut told: Vec<String> = refusals
        .iter()
        .map(|(status, code, times)| format!("{status} {code}: {}", grouped(*times)))
        .collect();
    if faults > 0 {
        told.push(format!("unanswered attempts: {}", grouped(faults)));
    }
    if told.is_empty() { "No refusals.".to_owned() } else { format!("Refusals: {}", told.join(", ")) }
}

/// A table whose given columns are figures.
pub fn numbers_table(header: &[&str], figures: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(header.iter().copied());
    for column in figures {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `amount` minor units in major ones, with groups of three.
pub fn money(amount: i64, decimals: u32, currency: &str) -> String {
    let scale = 10_u64.pow(decimals);
    let size = amount.unsigned_abs();
    let sign = if amount < 0 { "-" } else { "" };
    let major = grouped(size / scale);
    if decimals == 0 {
        return format!("{sign}{major} {currency}");
    }
    let width = decimals as usize;
    format!("{sign}{major}.{:0width$} {currency}", size % scale)
}

/// A figure with groups of three.
pub fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn signed(figure: i64) -> String {
    format!("{}{}", if figure < 0 { "-" } else { "" }, grouped(figure.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_money_has_its_currencys_decimals() {
        for (figure, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(figure), text);
        }
        for (amount, decimals, text) in
            [(95_607_071, 2, "956,070.71 X"), (-5, 2, "-0.05 X"), (1999, 0, "1,999 X"), (1999, 3, "1.999 X")]
        {
            assert_eq!(money(amount, decimals, "X"), text);
        }
    }
}
