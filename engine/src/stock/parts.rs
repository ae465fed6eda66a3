//! Memory of saga parts that ended here, for as long as a late copy of their hold could still arrive.

use std::collections::VecDeque;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::identity::{ReservationId, Timestamp};

use super::PartStatus;

/// How long an ended part is remembered. Messages inside one process take milliseconds; this is ample.
const MEMORY_MS: u64 = 10_000;

/// Most ended parts remembered. Beyond it the oldest is forgotten early: at the 800 orders a second of one SKU that
/// this allows for [`MEMORY_MS`], a copy would have to be seconds late.
const REMEMBERED_MAX: usize = 8_192;

/// Ended parts, oldest first, found by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndedParts {
    #[serde(with = "indexmap::map::serde_seq")]
    status: IndexMap<ReservationId, PartStatus, foldhash::fast::FixedState>,
    order: VecDeque<(ReservationId, Timestamp)>,
}

impl EndedParts {
    /// How the part ended, if it did a short while before `now`. What is older may still stand here, for nothing has happened to
    /// the SKU since; but a key that is tried again a day later must not meet it.
    pub(super) fn get(&self, id: ReservationId, now: Timestamp) -> Option<PartStatus> {
        let status = self.status.get(&id)?;
        let (_, at) = self.order.iter().rev().find(|(known, _)| *known == id)?;
        (now < at.plus_ms(MEMORY_MS)).then_some(*status)
    }

    /// Remembers that the part ended.
    pub(super) fn remember(&mut self, id: ReservationId, status: PartStatus, at: Timestamp) {
        self.status.insert(id, status);
        self.order.push_back((id, at));
        if self.order.len() > REMEMBERED_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets what ended long before `now`.
    pub(super) fn forget_before(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(_, at)| at.plus_ms(MEMORY_MS) <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((id, _)) = self.order.pop_front() {
            self.status.swap_remove(&id);
        }
    }
}
