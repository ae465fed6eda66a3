//! An order file as a stream of invoices: neighbouring lines with one invoice number.
//!
//! Holds one invoice at a time, whatever the file's length. A field that is not UTF-8 is read as Latin-1 (as
//! browsers do, by windows-1252). A line that makes no sense is kept with its reason: every line of the file is
//! counted somewhere. Start at [`Reader::open`].

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::columns::{Columns, MissingColumn};
use super::{dates, sku};

/// Most units one line may carry; the engine takes no more.
const UNITS_MAX: i64 = 1_000_000_000;

/// Largest price in minor units; the engine takes no more.
const PRICE_MAX: i64 = 1_000_000_000_000;

/// A line that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which record of the file, the one after the header being 1.
    pub number: u64,
    /// Stock code as the file has it.
    pub code: String,
    /// The same, written as a SKU.
    pub sku: String,
    /// Product's name; may be empty.
    pub description: String,
    /// Units; negative on returns and corrections.
    pub quantity: i64,
    /// When, in seconds since 1970.
    pub at_s: i64,
    /// Price of one in minor units.
    pub price: i64,
    /// Whether the file's price had more decimals than the currency and was rounded.
    pub rounded: bool,
    /// Buyer; empty for guests.
    pub customer: String,
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Which record of the file.
    pub number: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Neighbouring lines with one invoice number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invoice {
    /// Its number in the file.
    pub number: String,
    /// Record number of its first line; tells apart two pieces of one invoice that do not stand together.
    pub first_line: u64,
    /// Time of its first readable line, in seconds since 1970.
    pub at_s: Option<i64>,
    /// What could be read.
    pub lines: Vec<Line>,
    /// What could not.
    pub bad: Vec<BadLine>,
}

/// What can go wrong with a file as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {fault}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why; told within the sentence, so not a source to be told again.
        fault: csv::Error,
    },
    /// The header lacks a column.
    #[error("{path}: {missing}")]
    Columns {
        /// Which file.
        path: PathBuf,
        /// Which column.
        missing: MissingColumn,
    },
}

/// Reads a file's invoices.
pub struct Reader<R> {
    path: PathBuf,
    records: csv::Reader<R>,
    places: [Option<usize>; 7],
    description_names_sku: bool,
    decimals: u32,
    record: csv::ByteRecord,
    record_number: u64,
    waiting: VecDeque<Taken>,
    ended: bool,
}

/// One record, sorted to its invoice.
struct Taken {
    invoice: String,
    number: u64,
    position: csv::Position,
    line: Result<Line, BadLine>,
}

impl Reader<BufReader<File>> {
    /// Opens a file; prices become minor units of a currency with `decimals`.
    pub fn open(path: &Path, columns: &Columns, decimals: u32) -> Result<Self, ReadError> {
        let file = File::open(path)
            .map_err(|fault| ReadError::Unreadable { path: path.to_owned(), fault: fault.into() })?;
        Self::new(path, BufReader::with_capacity(256 * 1024, file), columns, decimals)
    }
}

impl<R: Read> Reader<R> {
    /// Reads from `source`; `path` is what errors call it.
    pub fn new(path: &Path, source: R, columns: &Columns, decimals: u32) -> Result<Self, ReadError> {
        let mut records = csv::ReaderBuilder::new().flexible(true).from_reader(source);
        let header: Vec<String> = records
            .byte_headers()
            .map_err(|fault| ReadError::Unreadable { path: path.to_owned(), fault })?
            .iter()
            .map(|name| text(name).trim_start_matches('\u{feff}').to_owned())
            .collect();
        let places = columns
            .places(&header)
            .map_err(|missing| ReadError::Columns { path: path.to_owned(), missing })?;
        Ok(Self {
            path: path.to_owned(),
            records,
            places,
            description_names_sku: columns.description_names_sku,
            decimals,
            record: csv::ByteRecord::new(),
            record_number: 0,
            waiting: VecDeque::new(),
            ended: false,
        })
    }

    /// Bytes read so far, for a progress bar.
    pub fn bytes_read(&self) -> u64 {
        self.records.position().byte()
    }

    /// The next invoice, or `None` at the end; with it, where in the file it begins.
    pub fn next_invoice(&mut self) -> Result<Option<(csv::Position, Invoice)>, ReadError> {
        let first = match self.waiting.pop_front() {
            Some(first) => first,
            None => match self.take(None)? {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let position = first.position.clone();
        let mut invoice =
            Invoice { number: first.invoice.clone(), first_line: first.number, ..Invoice::default() };
        let mut next = Some(first);
        while let Some(taken) = next {
            if taken.invoice != invoice.number {
                self.waiting.push_back(taken);
                break;
            }
            match taken.line {
                Ok(line) => {
                    invoice.at_s.get_or_insert(line.at_s);
                    invoice.lines.push(line);
                }
                Err(bad) => invoice.bad.push(bad),
            }
            // Exports that write the date and buyer on an order's first line only mean them for the rest as well.
            next = self.take(Some(&invoice))?;
        }
        Ok(Some((position, invoice)))
    }

    /// Takes the next record; `open` is the invoice it may belong to.
    fn take(&mut self, open: Option<&Invoice>) -> Result<Option<Taken>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let position = self.records.position().clone();
        let more = self
            .records
            .read_byte_record(&mut self.record)
            .map_err(|fault| ReadError::Unreadable { path: self.path.clone(), fault })?;
        if !more {
            self.ended = true;
            return Ok(None);
        }
        self.record_number += 1;
        let number = self.record_number;
        let [invoice, code, description, quantity, date, price, customer] =
            self.places.map(|place| place.and_then(|at| self.record.get(at)).map(text).unwrap_or_default());
        let invoice = invoice.trim().to_owned();
        let before = open.filter(|open| open.number == invoice).and_then(|open| open.lines.last());
        let fields = Fields { code, description, quantity, date, price, customer };
        let line = fields
            .read(self.decimals, self.description_names_sku, before)
            .map(|line| Line { number, ..line })
            .map_err(|reason| BadLine { number, reason });
        Ok(Some(Taken { invoice, number, position, line }))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Goes to where an earlier [`Reader::next_invoice`] found an invoice whose first record was `first_line`.
    pub fn seek(&mut self, position: csv::Position, first_line: u64) -> Result<(), ReadError> {
        self.records
            .seek(position)
            .map_err(|fault| ReadError::Unreadable { path: self.path.clone(), fault })?;
        self.waiting.clear();
        self.ended = false;
        self.record_number = first_line.saturating_sub(1);
        Ok(())
    }
}

struct Fields {
    code: String,
    description: String,
    quantity: String,
    date: String,
    price: String,
    customer: String,
}

impl Fields {
    fn read(
        self,
        decimals: u32,
        description_names_sku: bool,
        before: Option<&Line>,
    ) -> Result<Line, &'static str> {
        let code =
            if self.code.is_empty() && description_names_sku { self.description.clone() } else { self.code };
        let sku = sku::encoded(&code).map_err(|unusable| match unusable {
            sku::Unusable::Empty => "no stock code",
            sku::Unusable::TooLong => "stock code longer than a SKU may be",
        })?;
        let quantity: i64 = whole(&self.quantity).ok_or("quantity is no whole number")?;
        if quantity.abs() > UNITS_MAX {
            return Err("quantity beyond what the engine takes");
        }
        let (price, rounded) = minor_units(&self.price, decimals).ok_or("price is no amount")?;
        if price.abs() > PRICE_MAX {
            return Err("price beyond what the engine takes");
        }
        let at_s = match before {
            Some(before) if self.date.trim().is_empty() => before.at_s,
            None if self.date.trim().is_empty() => return Err("no date"),
            Some(_) | None => dates::seconds(&self.date).ok_or("date in no known form")?,
        };
        let customer = match before {
            Some(before) if self.customer.trim().is_empty() => before.customer.clone(),
            Some(_) | None => self.customer.trim().to_owned(),
        };
        Ok(Line {
            number: 0,
            code,
            sku,
            description: self.description.trim().to_owned(),
            quantity,
            at_s,
            price,
            rounded,
            customer,
        })
    }
}

/// A field's text: UTF-8 where it is, else Latin-1.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    }
}

/// A whole number; spreadsheets write `6.0` for 6.
fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text
        .split_once('.')
        .map_or(Some(text), |(whole, rest)| rest.bytes().all(|digit| digit == b'0').then_some(whole))?;
    text.parse().ok()
}

/// `text` in minor units, and whether digits were lost; half a minor unit rounds away from zero.
pub fn minor_units(text: &str, decimals: u32) -> Option<(i64, bool)> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (major, minor) = digits.split_once('.').unwrap_or((digits, ""));
    if major.is_empty() && minor.is_empty() {
        return None;
    }
    if !major.bytes().chain(minor.bytes()).all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let scale = 10_i64.checked_pow(decimals)?;
    let kept = usize::try_from(decimals).ok()?;
    let mut amount = if major.is_empty() { 0 } else { major.parse::<i64>().ok()?.checked_mul(scale)? };
    let padded = format!("{minor:0<kept$}");
    let (kept_digits, lost_digits) = padded.split_at(kept);
    if kept > 0 {
        amount = amount.checked_add(kept_digits.parse().ok()?)?;
    }
    if lost_digits.bytes().next().is_some_and(|digit| digit >= b'5') {
        amount = amount.checked_add(1)?;
    }
    let rounded = lost_digits.bytes().any(|digit| digit != b'0');
    Some((if negative { -amount } else { amount }, rounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoices(file: &[u8]) -> Vec<Invoice> {
        let mut reader = Reader::new(Path::new("test.csv"), file, &Columns::online_retail(), 2).unwrap();
        std::iter::from_fn(|| reader.next_invoice().unwrap()).map(|(_, invoice)| invoice).collect()
    }

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    #[test]
    fn money_is_read_without_a_float() {
        for (text, decimals, expected) in [
            ("2.55", 2, Some((255, false))),
            ("18", 2, Some((1800, false))),
            ("0.1", 2, Some((10, false))),
            (".5", 2, Some((50, false))),
            ("-11062.06", 2, Some((-1_106_206, false))),
            ("0.001", 2, Some((0, true))),
            ("0.005", 2, Some((1, true))),
            ("-0.005", 2, Some((-1, true))),
            ("1.230", 2, Some((123, false))),
            ("1999", 0, Some((1999, false))),
            ("19.5", 0, Some((20, true))),
            ("1.999", 3, Some((1999, false))),
            ("", 2, None),
            (".", 2, None),
            ("1e3", 2, None),
            ("1,000", 2, None),
            ("£2", 2, None),
            ("99999999999999999999", 2, None),
        ] {
            assert_eq!(minor_units(text, decimals), expected, "{text:?}");
        }
    }

    #[test]
    fn latin_1_quotes_and_spreadsheet_dates_are_read() {
        let file = [
            HEADER.as_bytes(),
            b"536365,85123A,\"WHITE \"\"HEART\"\", HOLDER\",6,12/1/2010 8:26,2.55,17850,United Kingdom\n",
            b"536365,gift_0001_40,Voucher \xa340.00,1,12/1/2010 8:26,34.04,17850,United Kingdom\n",
            "C536379,D,Café,-1,2010-12-01T09:41:00,27.5,,France\n".as_bytes(),
        ]
        .concat();
        let read = invoices(&file);
        let seen: Vec<_> = read
            .iter()
            .flat_map(|invoice| &invoice.lines)
            .map(|line| {
                (line.number, line.description.as_str(), line.quantity, line.price, line.customer.as_str())
            })
            .collect();
        assert_eq!(
            seen,
            [
                (1, "WHITE \"HEART\", HOLDER", 6, 255, "17850"),
                (2, "Voucher £40.00", 1, 3404, "17850"),
                (3, "Café", -1, 2750, ""),
            ]
        );
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].number.as_str(), read[0].at_s), ("536365", Some(1_291_191_960)));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_kept_with_its_reason() {
        let check = |line: &str, reason: &str| {
            let read = invoices(format!("{HEADER}{line}\n").as_bytes());
            assert_eq!(read.len(), 1, "{line}");
            assert_eq!(
                read[0].bad,
                [BadLine { number: 1, reason: Box::leak(reason.to_owned().into()) }],
                "{line}"
            );
        };
        check("1,,NAME,6,2010-12-01,2.55,,UK", "no stock code");
        check("1,A,NAME,six,2010-12-01,2.55,,UK", "quantity is no whole number");
        check("1,A,NAME,6.5,2010-12-01,2.55,,UK", "quantity is no whole number");
        check("1,A,NAME,9999999999,2010-12-01,2.55,,UK", "quantity beyond what the engine takes");
        check("1,A,NAME,6,2010-12-01,free,,UK", "price is no amount");
        check("1,A,NAME,6,someday,2.55,,UK", "date in no known form");
        check("1,A,NAME,6,,2.55,,UK", "no date");
        check("1,A,NAME", "quantity is no whole number");
    }

    #[test]
    fn shopify_lines_take_date_and_buyer_from_the_first_line_of_their_order() {
        let file = "Name,Email,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku\n\
                    #1001,ann@example.com,2020-01-02 10:00:00 -0500,2,Tea mug,12.50,MUG-1\n\
                    #1001,,,1,Gift wrap,3.00,\n\
                    #1002,,,1,Tea mug,12.50,MUG-1\n";
        let mut reader =
            Reader::new(Path::new("shopify.csv"), file.as_bytes(), &Columns::shopify(), 2).unwrap();
        let read: Vec<Invoice> =
            std::iter::from_fn(|| reader.next_invoice().unwrap()).map(|(_, invoice)| invoice).collect();
        assert_eq!(read[0].lines[1].sku, "Gift wrap");
        assert_eq!(read[0].lines[1].customer, "ann@example.com");
        assert_eq!(read[0].lines[1].at_s, 1_577_977_200);
        assert_eq!(read[1].bad[0].reason, "no date");
    }

    #[test]
    fn an_invoice_can_be_found_again_by_its_place() {
        let file =
            format!("{HEADER}1,A,a,1,2010-12-02,1,,UK\n2,B,b,1,2010-12-01,1,,UK\n2,C,c,1,2010-12-01,1,,UK\n");
        let columns = Columns::online_retail();
        let mut reader =
            Reader::new(Path::new("t.csv"), std::io::Cursor::new(file.as_bytes()), &columns, 2).unwrap();
        let found: Vec<_> = std::iter::from_fn(|| reader.next_invoice().unwrap()).collect();
        for (position, invoice) in found.iter().rev() {
            reader.seek(position.clone(), invoice.first_line).unwrap();
            assert_eq!(reader.next_invoice().unwrap().map(|(_, again)| again).as_ref(), Some(invoice));
        }
    }
}
