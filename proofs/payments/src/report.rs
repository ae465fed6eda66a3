//! What a proof saw, for people and for programs.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::arena::{Arena, Ending};
use crate::audit::{CHECKS, Violations};
use crate::shopper::{Record, Told};

/// Errors of the engine's log that are shown.
const ERRORS_MAX: usize = 5;

/// See the module's header.
pub(crate) struct Report {
    proof: &'static str,
    seed: u64,
    rows: Vec<(String, String)>,
    violations: Violations,
    reconciliation: Value,
    seconds: u64,
    errors: Vec<String>,
}

impl Report {
    pub(crate) fn new(proof: &'static str, arena: &Arena, ending: &Ending, violations: Violations) -> Self {
        Self {
            proof,
            seed: arena.seed,
            rows: Vec::new(),
            violations,
            reconciliation: ending.reconciliation.clone(),
            seconds: arena.begun.elapsed().as_secs(),
            errors: ending.errors.clone(),
        }
    }

    /// Adds a figure.
    pub(crate) fn row(&mut self, what: &str, value: impl std::fmt::Display) {
        self.rows.push((what.to_owned(), value.to_string()));
    }

    /// What the shoppers were told.
    pub(crate) fn shoppers(&mut self, records: &[Record]) {
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        let mut times: Option<Histogram<u64>> = Histogram::new(3).ok();
        for checkout in records.iter().filter_map(|record| record.checkout.as_ref()) {
            *kinds.entry(checkout.what.as_str()).or_default() += 1;
            if let Some(times) = &mut times {
                times.saturating_record(u64::try_from(checkout.took.as_millis()).unwrap_or(u64::MAX));
            }
        }
        self.row("first answers to a checkout", "");
        for (kind, count) in kinds {
            self.row(&format!("  {kind}"), count);
        }
        if let Some(times) = times {
            self.row("  p50, ms, kills included", times.value_at_quantile(0.5));
            self.row("  p99, ms, kills included", times.value_at_quantile(0.99));
        }
        let told = |what: Told| records.iter().filter(|record| record.told == what).count();
        self.row("shoppers who know their order stands", told(Told::Paid));
        self.row("  who left before they knew", told(Told::Waits));
        self.row(
            "  who passed 3-D Secure and never came back",
            records.iter().filter(|record| record.left_after_passing).count(),
        );
        self.row("  who cancelled", records.iter().filter(|record| record.cancelled).count());
        self.row("  who got money back", records.iter().filter(|record| record.refunded > 0).count());
        self.row(
            "  who got units restocked",
            records.iter().filter(|record| !record.restocked.is_empty()).count(),
        );
    }

    /// What both proofs have in common.
    pub(crate) fn finish(&mut self, arena: &Arena, ending: &Ending) {
        use std::sync::atomic::Ordering;

        let met = &arena.met;
        self.row("requests sent", met.attempts.load(Ordering::Relaxed));
        self.row("  without an answer", met.unanswered.load(Ordering::Relaxed));
        self.row("  answered from their key", met.replayed.load(Ordering::Relaxed));
        if let Ok(put_off) = met.put_off.lock() {
            for (why, count) in put_off.iter() {
                self.row(&format!("  told to come back: {why}"), count);
            }
        }
        let figures = arena.stripe.figures();
        self.row("calls at Stripe's stand-in", figures.requests);
        self.row("  replies lost after the work was done", figures.replies_lost);
        self.row("  answered from their key", figures.replayed);
        let sums = &ending.sums;
        self.row("settled in, ms", ending.settled_in.as_millis());
        self.row("requests repeated at the end", ending.repeated);
        self.row("orders", sums.orders);
        self.row("  paid", sums.paid_orders);
        self.row("  further attempts after a decline", sums.further_attempts);
        self.row("  off, whose payment came all the same and went back", sums.strays_returned);
        self.row("captured at Stripe, pence", sums.captured);
        self.row("refunded at Stripe, pence", sums.refunded);
        self.row("captured minus refunded, by the orders", sums.net_of_orders);
        self.row("units sold", sums.units_sold);
        self.row("payments compared by the reconciliation", self.reconciliation["payments"].clone());
        self.row("  with orders", self.reconciliation["orders"].clone());
    }

    /// Whether everything held.
    pub(crate) fn is_shown(&self) -> bool {
        self.violations.is_empty()
    }

    /// Prints it; whether everything held.
    pub(crate) fn print(&self, as_json: bool) -> bool {
        if as_json {
            // As a list: what is indented below two headings may have one name.
            let figures: Vec<Value> = self.rows.iter().map(|(what, value)| json!([what, value])).collect();
            let report = json!({
                "proof": self.proof, "shown": self.is_shown(), "seed": self.seed, "seconds": self.seconds,
                "figures": figures, "violations": self.violations.json(),
                "reconciliation": self.reconciliation, "engine_errors": self.errors.len(),
            });
            println!("{report}");
            return self.is_shown();
        }
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
        for (what, value) in &self.rows {
            table.add_row([what, value]);
        }
        println!("{table}");
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
        for kind in CHECKS {
            table.add_row([kind.to_owned(), self.violations.count(kind).to_string()]);
        }
        println!("{table}");
        for (kind, example) in self.violations.examples() {
            println!("{kind}: {example}");
        }
        if !self.errors.is_empty() {
            println!("the engine logged {} errors, the first of them:", self.errors.len());
            for error in self.errors.iter().take(ERRORS_MAX) {
                println!("  {error}");
            }
        }
        println!("seed {}, {} s in all", self.seed, self.seconds);
        println!(
            "{}",
            if self.is_shown() {
                "Every penny and every unit is where it belongs."
            } else {
                "A promise was broken."
            }
        );
        self.is_shown()
    }
}
