//! One SKU's level: when it is low, sold out, and back.
//!
//! A hot SKU's last unit may be taken and given back a thousand times a second. So a level is announced at once while the
//! SKU has tokens left, ten in a burst and one more each second; after that the change is owed, and the level that stands
//! when the next token is there is announced with the next record of anybody's. Time is the records', never a clock's.

use serde::{Deserialize, Serialize};

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::stock::Definition;

use super::{Figures, Happened, Level};

/// Announcements of one SKU in a burst.
const TOKENS: u64 = 10;

/// Time in which a token comes back.
pub(super) const TOKEN_MS: u64 = 1_000;

/// What is known of a SKU.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Shelf {
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
    limit: i64,
    low_stock_at: Option<i64>,
    /// The level announced last; that of its making, before any.
    told: u8,
    /// Business time, in milliseconds, at which all tokens are back.
    full_at_ms: u64,
    /// Whether it waits among those whose level is looked at again.
    pub(super) owed: bool,
    pub(super) sequence: u32,
}

impl Shelf {
    /// A SKU as it was made. Being made with nothing is no news.
    pub(super) fn new(definition: &Definition, opening: i64) -> Self {
        let mut shelf = Self {
            on_hand: opening,
            reserved: 0,
            limit: 0,
            low_stock_at: None,
            told: 0,
            full_at_ms: 0,
            owed: false,
            sequence: 0,
        };
        shelf.define(definition);
        shelf.told = code(shelf.level());
        shelf
    }

    pub(super) fn define(&mut self, definition: &Definition) {
        self.limit = definition.oversell.limit();
        self.low_stock_at = definition.low_stock_at;
    }

    fn sellable(&self) -> i64 {
        self.on_hand.saturating_sub(self.reserved).saturating_add(self.limit)
    }

    fn level(&self) -> Level {
        let sellable = self.sellable();
        if sellable <= 0 {
            Level::SoldOut
        } else if self.low_stock_at.is_some_and(|mark| sellable <= mark) {
            Level::Low
        } else {
            Level::Fine
        }
    }

    /// Looks at the level: `Some(Ok)` is to be announced now, `Some(Err)` owed until that time.
    pub(super) fn look(&mut self, now: Timestamp) -> Option<Result<Happened, Timestamp>> {
        let level = self.level();
        let told = level_of(self.told);
        if level == told {
            return None;
        }
        let full_at = self.full_at_ms.max(now.0);
        let spent = full_at.saturating_sub(now.0).div_ceil(TOKEN_MS);
        if spent >= TOKENS {
            return Some(Err(now.plus_ms(TOKEN_MS)));
        }
        self.full_at_ms = full_at.saturating_add(TOKEN_MS);
        self.told = code(level);
        self.sequence = self.sequence.saturating_add(1);
        let figures = Figures {
            sellable: self.sellable().max(0),
            on_hand: self.on_hand,
            low_stock_at: self.low_stock_at,
        };
        Some(Ok(match level {
            Level::SoldOut => Happened::SoldOut(figures),
            Level::Low if told == Level::Fine => Happened::InventoryLow(figures),
            Level::Low | Level::Fine => Happened::InventoryRestocked(figures, level),
        }))
    }
}

fn code(level: Level) -> u8 {
    match level {
        Level::SoldOut => 0,
        Level::Low => 1,
        Level::Fine => 2,
    }
}

fn level_of(code: u8) -> Level {
    match code {
        0 => Level::SoldOut,
        1 => Level::Low,
        _ => Level::Fine,
    }
}
