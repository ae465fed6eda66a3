//! A ledger folded: what the engine must know now, by id, and what the ledger alone already shows to be wrong.
//!
//! Start at [`Book::of`].

use std::collections::BTreeMap;

use super::ledger::{Entry, Request, Verdict};
use crate::client::ItemReply;

/// What was last promised of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Held.
    Held,
    /// Sold.
    Committed,
    /// Given back.
    Released,
    /// An end was asked for and nobody answered.
    Open,
}

/// A promised reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it holds.
    pub items: Vec<ItemReply>,
    /// Until when, in milliseconds since 1970.
    pub until_ms: u64,
    /// What became of it.
    pub end: End,
}

/// An answer that must be given again, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// To what.
    pub request: Request,
    /// Its status.
    pub status: u16,
    /// Digest of its body.
    pub digest: String,
}

/// Everything a ledger promises.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Opening units by SKU.
    pub skus: BTreeMap<String, i64>,
    /// Reservations by id.
    pub reservations: BTreeMap<String, Held>,
    /// Orders by id, and whether they were paid when last told of.
    pub orders: BTreeMap<String, bool>,
    /// Every acknowledged answer.
    pub answered: Vec<Answered>,
    /// Requests definitely refused, and never acknowledged since.
    pub refused: Vec<Request>,
    /// Requests that nobody answered, and that were never settled since.
    pub unknown: Vec<Request>,
    /// When each acknowledgement arrived, in milliseconds since 1970.
    pub acknowledged_at_ms: Vec<u64>,
    /// Keys with two effects or two answers.
    pub doubled: Vec<String>,
}

impl Book {
    /// Folds a ledger's lines.
    pub fn of(entries: &[Entry]) -> Self {
        let mut book = Self::default();
        let mut by_key: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in entries {
            let key = entry.request.key.as_str();
            if let Some(first) = by_key.get(key)
                && first.verdict.is_acknowledged()
            {
                if entry.verdict.is_acknowledged()
                    && (first.status, &first.digest) != (entry.status, &entry.digest)
                {
                    book.doubled.push(format!(
                        "law 5: key {key} was answered {} and later {} with other bytes",
                        first.status, entry.status
                    ));
                }
                continue;
            }
            by_key.insert(key, entry);
            if entry.verdict.is_acknowledged() {
                book.acknowledged_at_ms.push(entry.at_ms);
                book.answered.push(Answered {
                    request: entry.request.clone(),
                    status: entry.status,
                    digest: entry.digest.clone(),
                });
            }
            book.promise(entry);
        }
        for entry in by_key.values() {
            match entry.verdict {
                Verdict::Refused { .. } => book.refused.push(entry.request.clone()),
                Verdict::Unknown => book.unknown.push(entry.request.clone()),
                Verdict::Sku { .. }
                | Verdict::Reserved { .. }
                | Verdict::Committed { .. }
                | Verdict::Released { .. }
                | Verdict::Carted { .. }
                | Verdict::Ordered { .. }
                | Verdict::Pending { .. }
                | Verdict::Declined => {}
            }
        }
        for request in &book.unknown {
            let id = request.path.split('/').nth(3).unwrap_or_default();
            if let Some(held) = book.reservations.get_mut(id) {
                held.end = End::Open;
            }
        }
        book
    }

    /// Acknowledgements within the second that ended at `ended_at_ms`.
    pub fn acknowledged_in_second_before(&self, ended_at_ms: u64) -> usize {
        let window = ended_at_ms.saturating_sub(1_000)..ended_at_ms;
        self.acknowledged_at_ms.iter().filter(|at_ms| window.contains(at_ms)).count()
    }

    fn promise(&mut self, entry: &Entry) {
        match &entry.verdict {
            Verdict::Sku { sku, units } => drop(self.skus.insert(sku.clone(), *units)),
            Verdict::Reserved { id, items, until_ms } => {
                let held = Held { items: items.clone(), until_ms: *until_ms, end: End::Held };
                if self.reservations.insert(id.clone(), held).is_some() {
                    self.doubled.push(format!("law 5: reservation {id} was granted to two keys"));
                }
            }
            Verdict::Committed { id } => self.end(id, End::Committed),
            Verdict::Released { id } => self.end(id, End::Released),
            Verdict::Ordered { id } => {
                if self.orders.insert(id.clone(), true) == Some(true) {
                    self.doubled.push(format!("law 7: order {id} was placed for two keys"));
                }
            }
            Verdict::Pending { id } => drop(self.orders.insert(id.clone(), false)),
            Verdict::Carted { .. } | Verdict::Declined | Verdict::Refused { .. } | Verdict::Unknown => {}
        }
    }

    fn end(&mut self, id: &str, end: End) {
        match self.reservations.get_mut(id) {
            Some(held) if held.end == End::Held || held.end == end => held.end = end,
            Some(held) => {
                let told = format!("law 2: {id} ended as {:?} and as {end:?}", held.end);
                self.doubled.push(told);
            }
            None => self.doubled.push(format!("law 2: {id} ended as {end:?} before it was granted")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, digest: &str, verdict: Verdict) -> Entry {
        let request = Request::new("POST", "/v1/reservations", key);
        Entry { at_ms: 1_000, status: 201, digest: digest.to_owned(), verdict, ..Entry::unknown(&request) }
    }

    fn reserved(id: &str) -> Verdict {
        Verdict::Reserved { id: id.to_owned(), items: Vec::new(), until_ms: 0 }
    }

    #[test]
    fn a_key_with_two_answers_or_two_effects_is_seen_in_the_ledger_alone() {
        let committed = || Verdict::Committed { id: "r1".to_owned() };
        let released = || Verdict::Released { id: "r1".to_owned() };
        for (name, entries, doubled) in [
            ("the same twice", vec![entry("k", "a", reserved("r1")), entry("k", "a", reserved("r1"))], 0),
            ("other bytes", vec![entry("k", "a", reserved("r1")), entry("k", "b", reserved("r1"))], 1),
            ("two keys, one id", vec![entry("k", "a", reserved("r1")), entry("l", "a", reserved("r1"))], 1),
            (
                "sold and given back",
                vec![
                    entry("k", "a", reserved("r1")),
                    entry("l", "a", committed()),
                    entry("m", "a", released()),
                ],
                1,
            ),
            ("ended before it began", vec![entry("l", "a", committed())], 1),
        ] {
            assert_eq!(Book::of(&entries).doubled.len(), doubled, "{name}");
        }
    }

    #[test]
    fn a_refusal_and_an_unknown_stand_until_a_later_answer_settles_them() {
        let refused = || Verdict::Refused { code: "insufficient_stock".to_owned() };
        let book = Book::of(&[
            entry("refused", "", refused()),
            entry("unknown", "", Verdict::Unknown),
            entry("settled", "", Verdict::Unknown),
            entry("settled", "a", reserved("r1")),
            entry("new attempt", "", refused()),
            entry("new attempt", "a", reserved("r2")),
        ]);
        let keys =
            |requests: &[Request]| requests.iter().map(|request| request.key.clone()).collect::<Vec<_>>();
        assert_eq!(
            (keys(&book.refused), keys(&book.unknown)),
            (vec!["refused".to_owned()], vec!["unknown".to_owned()])
        );
        assert_eq!((book.answered.len(), book.doubled.len()), (2, 0));
        assert_eq!(book.acknowledged_in_second_before(1_500), 2);
        assert_eq!(book.acknowledged_in_second_before(2_500), 0);
    }
}
