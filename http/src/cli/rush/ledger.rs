//! The acknowledgement ledger: what the engine promised, written down the moment it was promised.
//!
//! One line an acknowledgement, tab-separated: kind, id, idempotency key, units. Written before anything else is done
//! with the answer, by one write each, so that a killed client leaves at most one torn last line, which is skipped.
//! After a kill of the engine, every line must still be true. Start at [`Ledger::append`] and [`Promises::read`].

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A SKU made; its id is the SKU, its units the opening stock.
    Sku,
    /// A reservation granted.
    Reserved,
    /// A reservation released.
    Released,
    /// A reservation sold.
    Committed,
    /// An order paid.
    Order,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sku, Self::Reserved, Self::Released, Self::Committed, Self::Order];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sku => "sku",
            Self::Reserved => "reserved",
            Self::Released => "released",
            Self::Committed => "committed",
            Self::Order => "order",
        }
    }
}

/// Where acknowledgements go; without a file, nowhere.
#[derive(Debug, Default)]
pub struct Ledger {
    file: Option<File>,
}

impl Ledger {
    /// Appends to `path`, made if it is not there.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: Some(OpenOptions::new().create(true).append(true).open(path)?) })
    }

    /// Writes one acknowledgement down. The file survives a kill of this process, not of the machine: it is the
    /// engine that is on trial.
    pub fn append(&mut self, kind: Kind, id: &str, key: &str, units: i64) -> std::io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(format!("{}\t{id}\t{key}\t{units}\n", kind.name()).as_bytes()),
            None => Ok(()),
        }
    }
}

/// What a ledger says must be true now: of each id the last that was promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// Kind and units by id.
    pub by_id: BTreeMap<String, (Kind, i64)>,
    /// Complete lines.
    pub lines: u64,
}

impl Promises {
    /// Reads a ledger; says which line cannot be understood.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut promises = Self::default();
        // Without its newline the last line was torn when the client died; nobody was told.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        for (number, line) in complete.lines().enumerate() {
            let wrong = || format!("line {} is no acknowledgement: {line:?}", number + 1);
            let fields: Vec<&str> = line.split('\t').collect();
            let [kind, id, _key, units] = fields.as_slice() else { return Err(wrong()) };
            let kind = Kind::ALL.into_iter().find(|known| known.name() == *kind).ok_or_else(wrong)?;
            let units: i64 = units.parse().map_err(|_| wrong())?;
            let promise = promises.by_id.entry((*id).to_owned()).or_insert((kind, units));
            // A grant's line may be written after its end's, when answers overtake each other.
            if kind >= promise.0 {
                *promise = (kind, units);
            }
            promises.lines += 1;
        }
        Ok(promises)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_acknowledgement_can_be_read_back_and_a_torn_line_is_skipped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut ledger = Ledger::open(file.path()).unwrap();
        for (kind, id, units) in [
            (Kind::Sku, "RUSH", 100),
            (Kind::Reserved, "res_1", 1),
            (Kind::Committed, "res_1", 1),
            (Kind::Reserved, "res_2", 2),
            (Kind::Order, "ord_1", 1),
        ] {
            ledger.append(kind, id, "key with spaces", units).unwrap();
        }
        let mut text = std::fs::read_to_string(file.path()).unwrap();
        text.push_str("reserved\tres_3\tk");
        let promises = Promises::read(&text).unwrap();
        assert_eq!(promises.lines, 5);
        let seen: Vec<_> =
            promises.by_id.iter().map(|(id, (kind, units))| (id.as_str(), *kind, *units)).collect();
        assert_eq!(
            seen,
            [
                ("RUSH", Kind::Sku, 100),
                ("ord_1", Kind::Order, 1),
                ("res_1", Kind::Committed, 1),
                ("res_2", Kind::Reserved, 2)
            ]
        );
        assert!(Promises::read("what\tis\tthis\t1\n").unwrap_err().contains("line 1"));
    }
}
