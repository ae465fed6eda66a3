//! Which column of a file means what.
//!
//! `online-retail` (the default) knows the UCI file's names and its conventions: invoices beginning with `C` are
//! cancellations, those with `A` entries of the book-keeper, and some stock codes are fees. `shopify` knows Shopify's order export. Anything else is named
//! column by column: `invoice=Order,sku=Item,quantity=Qty,date=When,price=Price`. Start at [`Columns::from_str`].

use std::str::FromStr;

/// Stock codes of the online-retail file that are not goods: postage and carriage (`POST`, `DOT`, `C2`), charges of
/// banks and marketplaces (`BANK CHARGES`, `AMAZONFEE`), charity (`CRUK`), discounts, samples, manual entries and bad
/// debt (`D`, `S`, `M`, `B`), a packing fee (`PADS`). A code ending in `*` stands for all that begin so:
/// vouchers (`gift_…`) are money, not goods. Upper and lower case are one here (`M` and `m` are both manual entries).
pub const ONLINE_RETAIL_FEES: &str = "POST,DOT,C2,M,D,S,B,BANK CHARGES,AMAZONFEE,CRUK,PADS,gift_*";

/// What a column can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Number of the order.
    Invoice,
    /// Stock code.
    Sku,
    /// Product's name.
    Description,
    /// Units, negative on returns.
    Quantity,
    /// When it was placed.
    Date,
    /// Price of one, in major units.
    Price,
    /// Buyer; empty for guests.
    Customer,
}

impl Field {
    /// All of them, in the order of their columns in [`Columns`].
    pub const ALL: [Self; 7] = [
        Self::Invoice,
        Self::Sku,
        Self::Description,
        Self::Quantity,
        Self::Date,
        Self::Price,
        Self::Customer,
    ];

    /// Its name in a mapping.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::Sku => "sku",
            Self::Description => "description",
            Self::Quantity => "quantity",
            Self::Date => "date",
            Self::Price => "price",
            Self::Customer => "customer",
        }
    }

    fn is_required(self) -> bool {
        !matches!(self, Self::Description | Self::Customer)
    }
}

/// A file's columns and conventions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// For each of [`Field::ALL`]: the header names that may carry it, first match wins.
    names: [Vec<String>; 7],
    /// What the number of a cancellation begins with; `None`: a priced negative line is a return on any invoice.
    pub cancellation_prefix: Option<String>,
    /// What the number of a book-keeper's entry begins with.
    pub accounting_prefix: Option<String>,
    /// Whether a line without a stock code is named by its description.
    pub description_names_sku: bool,
    /// The fee list that goes with this file, where the command line names none.
    pub fees: &'static str,
}

impl Columns {
    /// The UCI files (Online Retail and Online Retail II).
    pub fn online_retail() -> Self {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Self {
            names: [
                names(&["InvoiceNo", "Invoice"]),
                names(&["StockCode"]),
                names(&["Description"]),
                names(&["Quantity"]),
                names(&["InvoiceDate"]),
                names(&["UnitPrice", "Price"]),
                names(&["CustomerID", "Customer ID"]),
            ],
            cancellation_prefix: Some("C".to_owned()),
            accounting_prefix: Some("A".to_owned()),
            description_names_sku: false,
            fees: ONLINE_RETAIL_FEES,
        }
    }

    /// Shopify's order export. Its order-level columns (shipping, taxes, discounts, refunded amount) belong to no
    /// line and are not replayed.
    pub fn shopify() -> Self {
        let names = |name: &str| vec![name.to_owned()];
        Self {
            names: [
                names("Name"),
                names("Lineitem sku"),
                names("Lineitem name"),
                names("Lineitem quantity"),
                names("Created at"),
                names("Lineitem price"),
                names("Email"),
            ],
            cancellation_prefix: None,
            accounting_prefix: None,
            description_names_sku: true,
            fees: "",
        }
    }

    /// Finds each field's place in a header row; says which column is missing and what was there instead.
    pub fn places(&self, header: &[String]) -> Result<[Option<usize>; 7], MissingColumn> {
        let mut places = [None; 7];
        for (field, (names, place)) in Field::ALL.iter().zip(self.names.iter().zip(places.iter_mut())) {
            *place = names.iter().find_map(|name| {
                header.iter().position(|column| column.trim().eq_ignore_ascii_case(name.trim()))
            });
            if place.is_none() && field.is_required() {
                return Err(MissingColumn {
                    field: field.name(),
                    looked_for: names.join("` or `"),
                    found: header.join(", "),
                });
            }
        }
        Ok(places)
    }
}

/// The header row lacks a column that every order line needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no column `{looked_for}` for the {field}; the file has: {found}. Name your columns: --columns invoice=…,sku=…,quantity=…,date=…,price=…"
)]
pub struct MissingColumn {
    field: &'static str,
    looked_for: String,
    found: String,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "online-retail" => return Ok(Self::online_retail()),
            "shopify" => return Ok(Self::shopify()),
            _ => {}
        }
        let mut columns = Self {
            names: Default::default(),
            cancellation_prefix: None,
            accounting_prefix: None,
            description_names_sku: false,
            fees: "",
        };
        for pair in text.split(',') {
            let (name, column) = pair.split_once('=').ok_or_else(|| {
                format!("`{pair}` is not field=Column; say `online-retail`, `shopify` or e.g. invoice=Order,sku=Item,quantity=Qty,date=When,price=Price")
            })?;
            if name.trim() == "cancellation-prefix" {
                columns.cancellation_prefix = Some(column.to_owned());
                continue;
            }
            let place = Field::ALL.iter().position(|field| field.name() == name.trim()).ok_or_else(|| {
                format!("`{name}` is no field; there are invoice, sku, description, quantity, date, price, customer and cancellation-prefix")
            })?;
            columns.names[place].push(column.to_owned());
        }
        for (field, names) in Field::ALL.iter().zip(&columns.names) {
            if field.is_required() && names.is_empty() {
                return Err(format!(
                    "the mapping names no column for {}; add {}=…",
                    field.name(),
                    field.name()
                ));
            }
        }
        Ok(columns)
    }
}

/// Which stock codes are fees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeeList {
    exact: Vec<String>,
    prefixes: Vec<String>,
}

impl FeeList {
    /// From a comma-separated list; a code ending in `*` stands for all that begin so.
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for code in text.split(',').map(str::trim).filter(|code| !code.is_empty()) {
            match code.strip_suffix('*') {
                Some(prefix) => list.prefixes.push(prefix.to_ascii_lowercase()),
                None => list.exact.push(code.to_ascii_lowercase()),
            }
        }
        list
    }

    /// Whether `code` is a fee.
    pub fn contains(&self, code: &str) -> bool {
        self.exact.iter().any(|fee| fee.eq_ignore_ascii_case(code))
            || self
                .prefixes
                .iter()
                .any(|fee| code.get(..fee.len()).is_some_and(|start| start.eq_ignore_ascii_case(fee)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn fees_are_told_from_goods() {
        let fees = FeeList::parse(ONLINE_RETAIL_FEES);
        for (code, is_fee) in [
            ("POST", true),
            ("m", true),
            ("M", true),
            ("BANK CHARGES", true),
            ("gift_0001_40", true),
            ("gift", false),
            ("85123A", false),
            ("DCGS0076", false),
            ("DOTS", false),
            ("é", false),
        ] {
            assert_eq!(fees.contains(code), is_fee, "{code}");
        }
    }

    #[test]
    fn columns_are_found_by_name_wherever_they_stand() {
        let places = Columns::online_retail()
            .places(&header("Country,Customer ID,Price,InvoiceDate,quantity,StockCode,Invoice"));
        assert_eq!(places, Ok([Some(6), Some(5), None, Some(4), Some(3), Some(2), Some(1)]));
        let own: Columns = "invoice=No,sku=Item,quantity=Qty,date=When,price=Each".parse().unwrap();
        assert_eq!(
            own.places(&header("No,Item,Qty,When,Each")),
            Ok([Some(0), Some(1), None, Some(2), Some(3), Some(4), None])
        );
    }

    #[test]
    fn a_missing_column_is_named_with_the_remedy() {
        let told = Columns::shopify().places(&header("Name,Email")).unwrap_err().to_string();
        assert!(
            told.contains("Lineitem sku") && told.contains("Name, Email") && told.contains("--columns"),
            "{told}"
        );
        for (mapping, part) in
            [("invoice", "field=Column"), ("price=P", "invoice=…"), ("colour=C", "`colour` is no field")]
        {
            let told = mapping.parse::<Columns>().unwrap_err();
            assert!(told.contains(part), "{mapping}: {told}");
        }
    }
}
