//! A SKU told a second time, as naively as possible: plain maps, 128-bit sums, nothing cached.
//!
//! It shares no code with the machine but its constants' meaning, so that one mistake is not made twice. `available`
//! and `reserved` are summed from scratch at every question.

use std::collections::BTreeMap;

/// What a command asks, in numbers only.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Define { opening: i64, limit: i64, ttl_ms: Option<u64> },
    Adjust { delta: i64 },
    Set { on_hand: i64, current_version: bool },
    Reserve { id: u128, quantity: i64, ttl_ms: Option<u64>, partial: bool, body: u64 },
    Extend { id: u128, extend_ms: u64 },
    Commit { id: u128 },
    Release { id: u128 },
    Expire { id: u128 },
    Hold { id: u128, quantity: i64, partial: bool },
    Sell { id: u128 },
    Free { id: u128 },
    Restock { step: u128, quantity: i64 },
}

/// One holder of units.
#[derive(Clone, Copy, Debug)]
struct Holder {
    units: i128,
    since: u64,
    until: u64,
    body: u64,
    public: bool,
}

/// The naive SKU.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    known: bool,
    opening: i128,
    adjusted: i128,
    sales: i128,
    returns: i128,
    limit: i128,
    ttl_ms: Option<u64>,
    changes: u64,
    holders: BTreeMap<u128, Holder>,
    ended_parts: BTreeMap<u128, u64>,
    /// Oldest first.
    restocks: Vec<(u128, u64)>,
}

impl Model {
    /// Ends a saga's part; a public reservation is nobody's part.
    fn end_part(&mut self, id: u128, now: u64) -> Option<Holder> {
        if self.holders.get(&id)?.public {
            return None;
        }
        self.ended_parts.insert(id, now);
        self.holders.remove(&id)
    }

    pub(super) fn received(&self) -> i128 {
        self.opening + self.adjusted
    }

    pub(super) fn sold(&self) -> i128 {
        self.sales - self.returns
    }

    pub(super) fn on_hand(&self) -> i128 {
        self.received() - self.sold()
    }

    pub(super) fn reserved(&self) -> i128 {
        self.holders.values().map(|holder| holder.units).sum()
    }

    pub(super) fn sellable(&self) -> i128 {
        self.on_hand() - self.reserved() + self.limit
    }

    pub(super) fn version(&self) -> u64 {
        self.changes
    }

    /// Units held by `id`, `None` where nothing is.
    pub(super) fn held(&self, id: u128) -> Option<i128> {
        self.holders.get(&id).map(|holder| holder.units)
    }

    /// Takes one command and tells what it must come to, in the words of the tables.
    pub(super) fn take(&mut self, ask: Ask, now: u64) -> String {
        let restocks_before = self.restocks.len();
        let outcome = self.judge(ask, now);
        if !outcome.starts_with('!') && outcome != "Nothing" && outcome != "Answer" {
            self.changes += 1;
            // What is remembered ends by event time, never by asking.
            self.ended_parts.retain(|_, at| *at + 10_000 > now);
            // The newest sixteen outlive any jump of the clock.
            let fresh = usize::from(self.restocks.len() > restocks_before);
            while self.restocks.len() - fresh > 16 && self.restocks[0].1 + 7 * 86_400_000 <= now {
                self.restocks.remove(0);
            }
        }
        outcome
    }

    fn judge(&mut self, ask: Ask, now: u64) -> String {
        if let (false, Ask::Define { opening, limit, ttl_ms }) = (self.known, ask) {
            *self =
                Self { known: true, opening: opening.into(), limit: limit.into(), ttl_ms, ..Self::default() };
            return format!("Defined={opening}");
        }
        if !self.known {
            return "!NotFound.Skus".into();
        }
        match ask {
            Ask::Define { opening: _, limit, ttl_ms } => {
                if self.on_hand() - self.reserved() + i128::from(limit) < 0 {
                    return "!Validation./oversell/limit".into();
                }
                self.limit = limit.into();
                self.ttl_ms = ttl_ms;
                "Redefined".into()
            }
            Ask::Adjust { delta } => {
                if delta < 0 && self.sellable() < -i128::from(delta) {
                    return format!("!InsufficientStock={}/{}", -delta, self.sellable());
                }
                self.adjusted += i128::from(delta);
                format!("Adjusted={delta}")
            }
            Ask::Set { current_version: false, .. } => format!("!VersionMismatch={}", self.changes),
            Ask::Set { on_hand, current_version: true } => {
                let taken = self.on_hand() - i128::from(on_hand);
                if taken > self.sellable() && taken > 0 {
                    return format!("!InsufficientStock={taken}/{}", self.sellable());
                }
                self.adjusted -= taken;
                format!("OnHandSet={on_hand}")
            }
            Ask::Reserve { id, quantity, ttl_ms, partial, body } => {
                if let Some(holder) = self.holders.get(&id) {
                    return if holder.public && holder.body == body {
                        "Answer".into()
                    } else {
                        "!KeyReused".into()
                    };
                }
                let ttl_ms = ttl_ms.or(self.ttl_ms).unwrap_or(600_000);
                let until = now + ttl_ms;
                self.grant(
                    id,
                    quantity,
                    partial,
                    "Reserved",
                    Holder { units: 0, since: now, until, body, public: true },
                )
            }
            Ask::Hold { id, quantity, partial } => {
                let ended_lately = self.ended_parts.get(&id).is_some_and(|at| *at + 10_000 > now);
                if self.holders.contains_key(&id) || ended_lately {
                    return "Nothing".into();
                }
                let holder = Holder { units: 0, since: now, until: u64::MAX, body: 0, public: false };
                self.grant(id, quantity, partial, "PartHeld", holder)
            }
            Ask::Extend { id, extend_ms } => match self.open(id, now) {
                Err(refusal) => refusal,
                Ok(holder) => {
                    let until = (holder.until + extend_ms).min(holder.since + 86_400_000).max(holder.until);
                    self.holders.insert(id, Holder { until, ..holder });
                    format!("Extended={until}")
                }
            },
            Ask::Commit { id } => match self.open(id, now) {
                Err(refusal) => refusal,
                Ok(holder) => {
                    self.holders.remove(&id);
                    self.sales += holder.units;
                    "Committed".into()
                }
            },
            Ask::Release { id } => {
                if let Err(refusal) = self.open(id, now) {
                    return refusal;
                }
                self.holders.remove(&id);
                "Released".into()
            }
            Ask::Expire { id } => match self.holders.get(&id) {
                Some(holder) if holder.public && holder.until <= now => {
                    self.holders.remove(&id);
                    "Expired".into()
                }
                _ => "Nothing".into(),
            },
            Ask::Sell { id } => match self.end_part(id, now) {
                None => "Nothing".into(),
                Some(holder) => {
                    self.sales += holder.units;
                    "PartSold".into()
                }
            },
            Ask::Free { id } => match self.end_part(id, now) {
                None => "Nothing".into(),
                Some(_) => {
                    // Odd ones are of reservations, which may try again under their key.
                    if id % 2 == 1 {
                        self.ended_parts.remove(&id);
                    }
                    "PartFreed".into()
                }
            },
            Ask::Restock { step, quantity } => {
                let units = i128::from(quantity).min(self.sold());
                if units < 1 || self.restocks.iter().any(|(done, _)| *done == step) {
                    return "Nothing".into();
                }
                self.restocks.push((step, now));
                self.returns += units;
                format!("Restocked={units}")
            }
        }
    }

    fn grant(&mut self, id: u128, quantity: i64, partial: bool, word: &str, holder: Holder) -> String {
        let free = self.sellable();
        let units = if partial { free.min(quantity.into()) } else { quantity.into() };
        if units < 1 || units > free {
            return format!("!InsufficientStock={quantity}/{}", free.max(0));
        }
        self.holders.insert(id, Holder { units, ..holder });
        format!("{word}={units}")
    }

    fn open(&self, id: u128, now: u64) -> Result<Holder, String> {
        match self.holders.get(&id) {
            None => Err("!NotFound.Reservation".into()),
            Some(holder) if !holder.public => Err("!IllegalTransition".into()),
            Some(holder) if now >= holder.until => Err("!ReservationExpired".into()),
            Some(holder) => Ok(*holder),
        }
    }
}
