//! One simulated shopper: asks for a unit, and does with it what shoppers do.
//!
//! What an attempt does is drawn from the run's seed, the shopper and the attempt, so a run can be had again.
//! Start at [`Stage::attempt`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::{Value, json};

use super::ledger::{Kind, Ledger};
use crate::client::{Answer, CartReply, Client, Failure, OrderReply, ReservationReply, path_segment};

/// What a shopper does with a unit once it is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Habit {
    /// Holds it to the end.
    Keep,
    /// Buys it by committing the reservation.
    Commit,
    /// Gives it back.
    Release,
    /// Forgets it: it expires after a second.
    Forget,
    /// Sends the same request again, expects the same answer, then commits.
    Repeat,
    /// Goes through cart and checkout instead.
    Checkout,
}

impl Habit {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Commit => "commit",
            Self::Release => "release",
            Self::Forget => "forget",
            Self::Repeat => "repeat and commit",
            Self::Checkout => "cart to order",
        }
    }

    /// Of a hundred shoppers so many do this; the shares of real shops differ, but each way must be walked.
    const SHARES: [(Self, u64); 6] = [
        (Self::Commit, 40),
        (Self::Keep, 10),
        (Self::Release, 15),
        (Self::Forget, 10),
        (Self::Repeat, 10),
        (Self::Checkout, 15),
    ];

    /// Draws one.
    pub fn drawn(draw: u64) -> Self {
        let mut rest = draw % 100;
        for (habit, share) in Self::SHARES {
            if rest < share {
                return habit;
            }
            rest -= share;
        }
        Self::Keep
    }
}

/// What became of an acknowledged reservation or order, as last acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Held to the end.
    Held,
    /// Committed.
    Committed,
    /// Released.
    Released,
    /// Left to expire.
    Expired,
    /// An order, paid.
    Ordered,
}

/// An acknowledgement to check later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The reservation's or order's id.
    pub id: String,
    /// Where it must stand.
    pub end: End,
}

/// Everything the shoppers share.
pub struct Stage {
    /// Speaks to the engine.
    pub client: Client,
    /// What everybody wants.
    pub sku: String,
    /// Beginning of this run's idempotency keys.
    pub run: String,
    /// Whether everybody only reserves and keeps.
    pub is_plain: bool,
    /// Seed of the draws.
    pub seed: u64,
    /// Where acknowledgements are written down.
    pub ledger: RefCell<Ledger>,
    /// Acknowledgements to check.
    pub grants: RefCell<Vec<Grant>>,
    /// Attempts told that there is not enough.
    pub sold_out: Cell<u64>,
    /// Attempts refused otherwise.
    pub refused: Cell<u64>,
    /// Attempts whose outcome is unknown because the engine stayed away.
    pub unknown: Cell<u64>,
    /// Attempts made.
    pub attempts: Cell<u64>,
    /// What must not be: a repeat with another answer, a broken promise.
    pub violations: RefCell<Vec<String>>,
}

/// Why an attempt stops a run, or a trial.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The engine is gone, or answers what nobody expects.
    #[error(transparent)]
    Engine(#[from] Failure),
    /// An answer could not be written down.
    #[error("cannot write the ledger: {0}")]
    Ledger(#[from] std::io::Error),
}

/// Long enough to outlive any run or trial and the restarts within it.
pub const KEEP_TTL_S: u64 = 43_200;

impl Stage {
    /// One attempt of one shopper.
    pub async fn attempt(self: &Rc<Self>, shopper: u64, attempt: u64) -> Result<(), Stop> {
        self.attempts.set(self.attempts.get() + 1);
        let habit = if self.is_plain { Habit::Keep } else { Habit::drawn(draw(self.seed, shopper, attempt)) };
        let key = format!("{}:{shopper}:{attempt}", self.run);
        let result = match habit {
            Habit::Checkout => self.buy_through_a_cart(&key).await,
            Habit::Keep | Habit::Commit | Habit::Release | Habit::Forget | Habit::Repeat => {
                self.reserve_and(habit, &key).await
            }
        };
        if matches!(&result, Err(Stop::Engine(_))) {
            self.unknown.set(self.unknown.get() + 1);
        }
        result
    }

    async fn reserve_and(&self, habit: Habit, key: &str) -> Result<(), Stop> {
        let ttl_s = if habit == Habit::Forget { 1 } else { KEEP_TTL_S };
        let body = json!({"items": [{"sku": self.sku, "quantity": 1}], "ttl_s": ttl_s});
        let answer = self.reserve(key, &body).await?;
        let Some(reservation) = self.granted::<ReservationReply>(&answer)? else { return Ok(()) };
        let units: i64 = reservation.items.iter().map(|item| item.quantity).sum();
        if units != 1 {
            self.violation(format!("{} grants {units} units where 1 was asked", reservation.id));
        }
        self.acknowledged(Kind::Reserved, &reservation.id, key, 1)?;
        let end = match habit {
            Habit::Keep | Habit::Checkout => End::Held,
            Habit::Forget => End::Expired,
            Habit::Commit => self.finish(&reservation.id, key, Kind::Committed).await?,
            Habit::Release => self.finish(&reservation.id, key, Kind::Released).await?,
            Habit::Repeat => {
                let again = self.reserve(key, &body).await?;
                self.must_be_the_same(key, &answer, &again);
                self.finish(&reservation.id, key, Kind::Committed).await?
            }
        };
        self.grants.borrow_mut().push(Grant { id: reservation.id, end });
        Ok(())
    }

    async fn reserve(&self, key: &str, body: &Value) -> Result<Answer, Failure> {
        self.client.post("reserve", "/v1/reservations").key(key).json(body).send().await
    }

    /// Commits or releases; a refusal of either is a violation, because the reservation is the shopper's and young.
    async fn finish(&self, id: &str, key: &str, kind: Kind) -> Result<End, Stop> {
        let path = format!("/v1/reservations/{}", path_segment(id));
        let (call, end) = if kind == Kind::Committed {
            (self.client.post("commit", format!("{path}/commit")), End::Committed)
        } else {
            (self.client.delete("release", path), End::Released)
        };
        let key = format!("{key}:{}", kind.name());
        let answer = call.key(key.as_str()).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                // Granted for certain, its end unknown: any end will do when it is read back.
                return Err(failure.into());
            }
        };
        if !answer.is_success() {
            let problem = answer.problem();
            self.violation(format!("{} {id} was refused: {} {}", kind.name(), answer.status, problem.code));
            return Ok(End::Held);
        }
        self.acknowledged(kind, id, &key, 1)?;
        Ok(end)
    }

    async fn buy_through_a_cart(&self, key: &str) -> Result<(), Stop> {
        let answer = self
            .client
            .post("create cart", "/v1/carts")
            .key(format!("{key}:cart"))
            .json(&json!({"items": [{"sku": self.sku, "quantity": 1}]}))
            .send()
            .await?;
        let Some(cart) = self.granted::<CartReply>(&answer)? else { return Ok(()) };
        let key = format!("{key}:checkout");
        let body = json!({"email": "shopper@rush.example", "payment": {"provider": "fake", "method": "ok"}});
        let answer = self
            .client
            .post("checkout", format!("/v1/carts/{}/checkout", path_segment(&cart.id)))
            .key(key.as_str())
            .cart_token(cart.token.unwrap_or_default())
            .json(&body)
            .send()
            .await?;
        if answer.status == 202 {
            self.violation(format!(
                "checkout {key} is still open, though the payment method `ok` pays at once"
            ));
            return Ok(());
        }
        let Some(order) = self.granted::<OrderReply>(&answer)? else { return Ok(()) };
        self.acknowledged(Kind::Order, &order.id, &key, 1)?;
        self.grants.borrow_mut().push(Grant { id: order.id, end: End::Ordered });
        Ok(())
    }

    /// The body of a success; `None` and a count where it was refused.
    fn granted<T: serde::de::DeserializeOwned>(&self, answer: &Answer) -> Result<Option<T>, Failure> {
        if answer.is_success() {
            return answer.expect().map(Some);
        }
        let refusals =
            if answer.problem().code == "insufficient_stock" { &self.sold_out } else { &self.refused };
        refusals.set(refusals.get() + 1);
        Ok(None)
    }

    fn acknowledged(&self, kind: Kind, id: &str, key: &str, units: i64) -> std::io::Result<()> {
        self.ledger.borrow_mut().append(kind, id, key, units)
    }

    fn must_be_the_same(&self, key: &str, first: &Answer, again: &Answer) {
        if first.status != again.status || first.body != again.body {
            self.violation(format!(
                "law 5: key {key} was first answered {} and then {} with other bytes",
                first.status, again.status
            ));
        } else if !again.replayed {
            self.violation(format!("key {key}: the repeat is not marked Idempotent-Replayed"));
        }
    }

    fn violation(&self, told: String) {
        self.violations.borrow_mut().push(told);
    }
}

/// A number from three, by the finishing steps of `splitmix64`.
pub fn draw(seed: u64, shopper: u64, attempt: u64) -> u64 {
    let mut mixed =
        seed ^ shopper.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ attempt.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_habit_is_drawn_in_its_share() {
        let mut seen: BTreeMap<Habit, u64> = BTreeMap::new();
        for shopper in 0..100 {
            for attempt in 0..100 {
                *seen.entry(Habit::drawn(draw(7, shopper, attempt))).or_default() += 1;
            }
        }
        assert_eq!(Habit::SHARES.iter().map(|(_, share)| share).sum::<u64>(), 100);
        for (habit, share) in Habit::SHARES {
            let percent = seen[&habit] / 100;
            assert!(percent.abs_diff(share) <= 2, "{}: {percent} of 100, not {share}", habit.name());
        }
        assert_eq!(draw(7, 1, 2), draw(7, 1, 2));
    }
}
