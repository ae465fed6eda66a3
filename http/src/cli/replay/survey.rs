//! The first pass over an order file: what the catalogue must hold before the first invoice.
//!
//! Keeps one entry a SKU (name, prices seen, units needed), one a (customer, SKU) with returns, and, only where the file
//! is not in time order, one small entry an invoice. Start at [`Survey::of`].

use std::collections::BTreeMap;
use std::path::Path;

use super::columns::{Columns, FeeList};
use super::matching::ReturnsToCome;
use super::reader::{Invoice, ReadError, Reader};
use super::rules::{Kind, kinds};

/// What the file says of one SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkuFacts {
    /// The first name it was sold under, else the first it was mentioned under.
    pub name: String,
    /// Whether it is a fee.
    pub is_fee: bool,
    /// Units that all its sales and downward corrections take together. As opening stock it suffices in whatever
    /// order they are carried out.
    pub units_needed: i64,
    name_is_from_sale: bool,
    /// Each price and how many lines carry it.
    prices: Vec<(i64, u64)>,
}

impl SkuFacts {
    /// The price most of its lines carry (the lower of two equally frequent ones), free lines aside.
    pub fn usual_price(&self) -> i64 {
        self.prices
            .iter()
            .filter(|(price, _)| *price > 0)
            .max_by_key(|(price, lines)| (*lines, std::cmp::Reverse(*price)))
            .map_or(0, |(price, _)| *price)
    }

    fn see_price(&mut self, price: i64) {
        match self.prices.iter_mut().find(|(seen, _)| *seen == price) {
            Some((_, lines)) => *lines += 1,
            None => self.prices.push((price, 1)),
        }
    }
}

/// Where an invoice stands in the file.
#[derive(Clone, Debug)]
pub struct Place {
    at_s: i64,
    /// Record number of its first line.
    pub first_line: u64,
    /// For seeking.
    pub position: csv::Position,
}

/// What the first pass found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Every SKU the file names, those only returned or corrected included.
    pub skus: BTreeMap<String, SkuFacts>,
    /// Returns of each (customer, SKU).
    pub returns: ReturnsToCome,
    /// Data lines.
    pub lines: u64,
    /// Runs of neighbouring lines with one invoice number.
    pub invoices: u64,
    /// Lines whose price had more decimals than the currency.
    pub rounded: u64,
    /// First invoice's time, in seconds since 1970.
    pub begins_s: Option<i64>,
    /// The invoices in time order, where the file has another order.
    pub time_order: Option<Vec<Place>>,
}

impl Survey {
    /// Reads the whole file once; `progress` hears the bytes read now and then.
    pub fn of(
        path: &Path,
        columns: &Columns,
        fees: &FeeList,
        decimals: u32,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, ReadError> {
        let mut survey = Self::default();
        let mut reader = Reader::open(path, columns, decimals)?;
        let mut newest_s = i64::MIN;
        let mut sorted = true;
        while let Some((_, invoice)) = reader.next_invoice()? {
            let at_s = invoice.at_s.unwrap_or(newest_s);
            sorted &= at_s >= newest_s;
            newest_s = newest_s.max(at_s);
            survey.see(&invoice, columns, fees);
            if survey.invoices.is_multiple_of(256) {
                progress(reader.bytes_read());
            }
        }
        progress(reader.bytes_read());
        if !sorted {
            survey.time_order = Some(places_in_time_order(path, columns, decimals)?);
        }
        Ok(survey)
    }

    fn see(&mut self, invoice: &Invoice, columns: &Columns, fees: &FeeList) {
        self.invoices += 1;
        self.lines += (invoice.lines.len() + invoice.bad.len()) as u64;
        if let Some(at_s) = invoice.at_s {
            self.begins_s = Some(self.begins_s.map_or(at_s, |begins_s| begins_s.min(at_s)));
        }
        for (line, kind) in invoice.lines.iter().zip(kinds(invoice, columns, fees)) {
            self.rounded += u64::from(line.rounded);
            let facts = self
                .skus
                .entry(line.sku.clone())
                .or_insert_with(|| SkuFacts { is_fee: fees.contains(&line.code), ..SkuFacts::default() });
            let is_sale = matches!(kind, Kind::Order(_));
            if !line.description.is_empty() && (facts.name.is_empty() || is_sale && !facts.name_is_from_sale)
            {
                facts.name.clone_from(&line.description);
                facts.name_is_from_sale = is_sale;
            }
            match kind {
                Kind::Order(_) => {
                    facts.units_needed += line.quantity;
                    facts.see_price(line.price);
                }
                Kind::Return => {
                    self.returns.count(&line.customer, &line.sku);
                }
                Kind::Correction => facts.units_needed += (-line.quantity).max(0),
                Kind::Counted(_) => {}
            }
        }
    }
}

/// A second reading, for files in another order (Shopify exports the newest first): 40 bytes an invoice.
fn places_in_time_order(path: &Path, columns: &Columns, decimals: u32) -> Result<Vec<Place>, ReadError> {
    let mut places = Vec::new();
    let mut reader = Reader::open(path, columns, decimals)?;
    let mut before_s = i64::MIN;
    while let Some((position, invoice)) = reader.next_invoice()? {
        // An invoice without a readable time stays with its neighbour.
        before_s = invoice.at_s.unwrap_or(before_s);
        places.push(Place { at_s: before_s, first_line: invoice.first_line, position });
    }
    places.sort_by_key(|place| (place.at_s, place.first_line));
    Ok(places)
}
