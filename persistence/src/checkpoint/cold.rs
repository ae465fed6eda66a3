//! What has left memory and is only read again on demand: ledger pages, remembered answers, ended reservations.
//!
//! Rows are added and, past their retention, removed; never changed. The fold makes the same rows again, so adding one
//! twice is harmless.

use doorbuster_engine::identity::Sku;
use doorbuster_engine::world::ANSWER_MEMORY_MS;

use super::{CheckpointStore, chunks, keys};
use crate::disk::TreeBatch;
use crate::error::CheckpointError;
use crate::frame::{array_at, u64_at};

/// What a cold row remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColdKind {
    /// The answer given under a request key.
    Answer,
    /// An ended reservation, by its id.
    EndedReservation,
}

impl ColdKind {
    fn byte(self) -> u8 {
        match self {
            Self::Answer => 1,
            Self::EndedReservation => 2,
        }
    }
}

/// One remembered thing. Answers and ended reservations share their keys' bits, so the kind is part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdRow {
    /// What it is.
    pub kind: ColdKind,
    /// The request key's or reservation id's bits.
    pub key: u128,
    /// When it was made, milliseconds since the Unix epoch: its retention counts from here.
    pub at_ms: u64,
    /// The thing, encoded by [`codec::encode_stored`](crate::codec::encode_stored).
    pub bytes: Vec<u8>,
}

impl CheckpointStore {
    /// Adds a page of a SKU's ledger, whose first entry has `first_position`.
    pub fn ledger_put(&self, sku: &Sku, first_position: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        let mut batch = TreeBatch::default();
        chunks::write(&mut batch, &keys::of_sku(sku, first_position), bytes);
        self.ledger.apply_batch(batch)
    }

    /// At most `count_max` pages of a SKU's ledger that begin before `before_position`, newest first, each with its first position.
    pub fn ledger_scan_back(
        &self,
        sku: &Sku,
        before_position: u64,
        count_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, CheckpointError> {
        let (begin, end) = (keys::of_sku(sku, 0), keys::of_sku(sku, before_position));
        let mut found = Vec::new();
        for entry in self.ledger.range(&begin, Some(&end)).rev() {
            let (key, _) = entry?;
            let Some((page, 0)) = chunks::split_chunk(&key) else { continue };
            let stored = chunks::read(&*self.ledger, page)?;
            let stored = stored.ok_or_else(|| CheckpointError::damaged("a ledger page vanished"))?;
            let first_position = u64::from_be_bytes(array_at(page, page.len() - 8));
            found.push((first_position, stored.payload));
            if found.len() >= count_max {
                break;
            }
        }
        Ok(found)
    }

    /// Adds answers and ended reservations.
    pub fn answers_put(&self, rows: impl IntoIterator<Item = ColdRow>) -> Result<(), CheckpointError> {
        let (mut values, mut times) = (TreeBatch::default(), TreeBatch::default());
        for row in rows {
            let key = cold_key(row.kind, row.key);
            let mut payload = Vec::with_capacity(8 + row.bytes.len());
            payload.extend_from_slice(&row.at_ms.to_le_bytes());
            payload.extend_from_slice(&row.bytes);
            chunks::write(&mut values, &key, &payload);
            times.insert(keys::numbered(row.at_ms, &key), Vec::new());
        }
        // Times first: a time without its row costs one look-up, a row without its time would stay for ever.
        self.cold_times.apply_batch(times)?;
        self.cold.apply_batch(values)
    }

    /// One remembered thing.
    pub fn answer_get(&self, kind: ColdKind, key: u128) -> Result<Option<ColdRow>, CheckpointError> {
        match chunks::read(&*self.cold, &cold_key(kind, key))? {
            Some(stored) => decode_cold(kind, key, &stored.payload).map(Some),
            None => Ok(None),
        }
    }

    /// Visits all of them: answers first, each kind in the order of its keys.
    pub fn answers_for_each(&self, mut visit: impl FnMut(ColdRow)) -> Result<(), CheckpointError> {
        chunks::scan(&*self.cold, &mut |key, stored| {
            let kind = match key.first() {
                Some(1) => ColdKind::Answer,
                Some(2) => ColdKind::EndedReservation,
                _ => return Err(CheckpointError::damaged("a remembered answer's key")),
            };
            visit(decode_cold(kind, u128::from_be_bytes(array_at(key, 1)), &stored.payload)?);
            Ok(())
        })
    }

    /// Reads all of them, and keeps what must be remembered at `at_ms`: those of the last day, the newest `rows_max` of them, oldest
    /// first.
    pub fn newest_answers(&self, at_ms: u64, rows_max: usize) -> Result<Vec<ColdRow>, CheckpointError> {
        let mut rows = Vec::new();
        let keep_newest = |rows: &mut Vec<ColdRow>| {
            rows.sort_by_key(|row| row.at_ms);
            rows.drain(..rows.len().saturating_sub(rows_max));
        };
        self.answers_for_each(|row| {
            if row.at_ms.saturating_add(ANSWER_MEMORY_MS) > at_ms {
                rows.push(row);
            }
            // Older ones would be forgotten again at once: they are not even gathered (law 11).
            if rows.len() > rows_max.saturating_mul(2) {
                keep_newest(&mut rows);
            }
        })?;
        keep_newest(&mut rows);
        Ok(rows)
    }

    /// Removes at most `count_max` rows made before `at_ms`, oldest first; returns how many.
    pub fn answers_delete_before(&self, at_ms: u64, count_max: usize) -> Result<usize, CheckpointError> {
        let (mut values, mut times) = (TreeBatch::default(), TreeBatch::default());
        let mut count = 0;
        for entry in self.cold_times.range(&[], Some(&at_ms.to_be_bytes())).take(count_max) {
            let (time, _) = entry?;
            let key = time.get(8..).unwrap_or_default();
            // A row put again later has a second time; the row goes with the last of them.
            if let Some(stored) = chunks::read(&*self.cold, key)?
                && u64_at(&stored.payload, 0) < at_ms
            {
                chunks::remove(&*self.cold, &mut values, key)?;
            }
            times.remove(time.to_vec());
            count += 1;
        }
        self.cold.apply_batch(values)?;
        self.cold_times.apply_batch(times)?;
        Ok(count)
    }
}

fn cold_key(kind: ColdKind, key: u128) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17);
    bytes.push(kind.byte());
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes
}

fn decode_cold(kind: ColdKind, key: u128, payload: &[u8]) -> Result<ColdRow, CheckpointError> {
    let Some((at_ms, bytes)) = payload.split_at_checked(8) else {
        return Err(CheckpointError::damaged("a remembered answer is too short"));
    };
    Ok(ColdRow { kind, key, at_ms: u64_at(at_ms, 0), bytes: bytes.to_vec() })
}
