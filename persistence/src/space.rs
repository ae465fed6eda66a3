//! The room that is surely there: a budget of preallocated journal bytes.
//!
//! Law 3's second half lives here: space for a record is claimed before its command is decided, so that a full disk
//! refuses commands and never loses a record. Start at [`Space::claim`].

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

/// There is no room for another record; the disk is full or the next segment is not ready yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room in the journal; try again in {retry_after_ms} ms")]
pub struct StorageFull {
    /// When room may have come, in milliseconds: preparation is retried each second.
    pub retry_after_ms: u64,
}

/// Bytes set aside for records. Writing a record uses its claim up; what was claimed too much must be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "claimed bytes are written or released, else the budget shrinks for ever"]
pub struct Claim {
    /// How many.
    pub bytes: usize,
}

/// The budget. Shared by workers (who claim), the journal (who uses up) and the preparer (who adds).
#[derive(Debug, Default)]
pub struct Space {
    /// Bytes neither claimed nor used. The journal keeps it honest: see `FileJournal::append`.
    free: AtomicI64,
    /// Why preparing the next segment fails at present.
    trouble: Mutex<Option<String>>,
}

impl Space {
    /// A budget of `bytes`.
    pub fn new(bytes: i64) -> Self {
        Self { free: AtomicI64::new(bytes), trouble: Mutex::new(None) }
    }

    /// Sets `bytes` aside, or refuses when they are not there.
    pub fn claim(&self, bytes: usize) -> Result<Claim, StorageFull> {
        let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
        let take = |free: i64| if free >= wanted { Some(free.saturating_sub(wanted)) } else { None };
        match self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take) {
            Ok(_) => Ok(Claim { bytes }),
            Err(_) => Err(StorageFull { retry_after_ms: 1_000 }),
        }
    }

    /// Gives back what was claimed and not written.
    pub fn release(&self, bytes: usize) {
        self.credit(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Bytes that can be claimed now.
    pub fn free_bytes(&self) -> u64 {
        u64::try_from(self.free.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Why the next segment cannot be prepared at present, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn credit(&self, bytes: i64) {
        self.free.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_never_exceed_the_budget() {
        let space = Space::new(100);
        assert_eq!(space.claim(60), Ok(Claim { bytes: 60 }));
        assert_eq!(space.claim(41), Err(StorageFull { retry_after_ms: 1_000 }));
        assert_eq!(space.claim(40), Ok(Claim { bytes: 40 }));
        space.release(10);
        assert_eq!(space.free_bytes(), 10);
        assert_eq!(space.claim(usize::MAX), Err(StorageFull { retry_after_ms: 1_000 }));
    }
}
