//! The load of a trial: shoppers who reserve one or several SKUs, commit, release, forget, repeat, check carts out, and
//! ask for what must be refused. Every final answer goes into the ledger before anything else is done with it.
//!
//! What an attempt does is drawn from seed, shopper and attempt. Start at [`Stage::attempt`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::{Value, json};

use super::ledger::{Entry, Ledger, Request, Verdict};
use crate::cli::rush::shopper::{KEEP_TTL_S, Stop, draw};
use crate::client::{Answer, CartReply, Client, MoneyReply, path_segment};

/// SKUs with units for everybody.
const PLENTY: u64 = 8;

/// SKUs that sell out within moments, and so refuse.
const SCARCE: u64 = 4;

/// Units of a SKU for everybody: more than any trial sells, so that its load never turns into refusals alone.
const PLENTY_UNITS: i64 = 50_000_000;

/// Units of a scarce SKU: few enough that shoppers first fight for them and then find it sold out.
const SCARCE_UNITS: i64 = 12;

/// What a shopper sets out to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// Reserves and commits.
    Commit,
    /// Reserves and keeps.
    Keep,
    /// Reserves and releases.
    Release,
    /// Reserves for a second and forgets.
    Forget,
    /// Reserves, sends the same again, commits, sends that again too.
    Repeat,
    /// Reserves two or three SKUs and commits.
    CommitMany,
    /// Reserves two or three SKUs and releases.
    ReleaseMany,
    /// Wants plenty and scarce SKUs together: all or nothing.
    ReachTooFar,
    /// Wants a scarce SKU and gives it back.
    Scarce,
    /// Cart, checkout, order.
    Checkout,
    /// A cart with a scarce SKU in it.
    CheckoutScarce,
    /// A checkout whose payment is declined.
    Decline,
    /// Uses its key for another body.
    ReuseKey,
    /// Commits what it has released.
    CommitReleased,
}

impl Errand {
    /// Of a hundred attempts so many do this.
    pub const SHARES: [(Self, u64); 14] = [
        (Self::Commit, 28),
        (Self::Keep, 6),
        (Self::Release, 14),
        (Self::Forget, 6),
        (Self::Repeat, 4),
        (Self::CommitMany, 9),
        (Self::ReleaseMany, 6),
        (Self::ReachTooFar, 4),
        (Self::Scarce, 5),
        (Self::Checkout, 10),
        (Self::CheckoutScarce, 2),
        (Self::Decline, 2),
        (Self::ReuseKey, 2),
        (Self::CommitReleased, 2),
    ];

    /// Draws one.
    pub fn drawn(draw: u64) -> Self {
        let mut rest = draw % 100;
        for (errand, share) in Self::SHARES {
            if rest < share {
                return errand;
            }
            rest -= share;
        }
        Self::Commit
    }
}

/// Everything the shoppers share.
pub struct Stage {
    /// Speaks to the engine.
    pub client: Client,
    /// Beginning of this load's keys and SKUs.
    pub run: String,
    /// Seed of the draws.
    pub seed: u64,
    /// Where answers are written down.
    pub ledger: RefCell<Ledger>,
    /// Acknowledged writes.
    pub acknowledged: Cell<u64>,
    /// Definite refusals.
    pub refused: Cell<u64>,
    /// Requests that nobody answered in time.
    pub unknown: Cell<u64>,
    /// Repeats that were answered, with the same bytes.
    pub repeated: Cell<u64>,
    /// What must not be.
    pub violations: RefCell<Vec<String>>,
}

impl Stage {
    /// Makes the SKUs of this load.
    pub async fn make_skus(&self) -> Result<(), Stop> {
        for place in 0..PLENTY + SCARCE {
            let (sku, units) = if place < PLENTY {
                (self.plenty(place), PLENTY_UNITS)
            } else {
                (self.scarce(place), SCARCE_UNITS)
            };
            let body = json!({"name": "Trial", "price": MoneyReply::new(1999, "GBP"), "on_hand": units});
            let path = format!("/v1/admin/skus/{}", path_segment(&sku));
            let request = Request::new("PUT", path, format!("{}:{sku}", self.run)).as_admin().json(&body);
            let answer = self.ask("make sku", &request).await?;
            if !answer.is_success() {
                return Err(answer.unexpected().into());
            }
        }
        Ok(())
    }

    /// One attempt of one shopper.
    pub async fn attempt(self: &Rc<Self>, shopper: u64, attempt: u64) -> Result<(), Stop> {
        let draws = |what: u64| draw(self.seed.wrapping_add(what << 32), shopper, attempt);
        let key = format!("{}:{shopper}:{attempt}", self.run);
        let (first, second) = (self.plenty(draws(1)), self.plenty(draws(1) % PLENTY + 1));
        let (third, scarce) = (self.plenty(draws(1) % PLENTY + 2), self.scarce(draws(2)));
        let units = draws(3) % 3 + 1;
        let one = [(first.as_str(), units)];
        let many = [(first.as_str(), 1), (second.as_str(), units), (third.as_str(), 1)];
        let many = if draws(4).is_multiple_of(2) { &many[..2] } else { &many[..] };
        match Errand::drawn(draws(0)) {
            Errand::Commit => self.reserve_and(&key, &one, Some("commit")).await,
            Errand::Keep => self.reserve_and(&key, &one, None).await,
            Errand::Release => self.reserve_and(&key, &one, Some("release")).await,
            Errand::CommitMany => self.reserve_and(&key, many, Some("commit")).await,
            Errand::ReleaseMany => self.reserve_and(&key, many, Some("release")).await,
            Errand::ReachTooFar => {
                self.reserve_and(&key, &[(&first, 1), (&scarce, 5)], Some("release")).await
            }
            Errand::Scarce => self.reserve_and(&key, &[(&scarce, 1)], Some("release")).await,
            Errand::Forget => self.reserve(&key, &one, 1).await.map(drop),
            Errand::Repeat => self.repeat(&key, &one).await,
            Errand::Checkout => self.check_out(&key, many, "ok").await,
            Errand::CheckoutScarce => self.check_out(&key, &[(&first, 1), (&scarce, 1)], "ok").await,
            Errand::Decline => self.check_out(&key, &one, "declined").await,
            Errand::ReuseKey => self.reuse_key(&key, &one).await,
            Errand::CommitReleased => self.commit_released(&key, &one).await,
        }
    }

    fn plenty(&self, place: u64) -> String {
        format!("{}-plenty-{}", self.run, place % PLENTY)
    }

    fn scarce(&self, place: u64) -> String {
        format!("{}-scarce-{}", self.run, place % SCARCE)
    }

    /// Sends a request until it is settled and writes down what came of it.
    async fn ask(&self, label: &'static str, request: &Request) -> Result<Answer, Stop> {
        let answer = match request.call(&self.client, label)?.send().await {
            Ok(answer) => answer,
            Err(failure) => {
                self.unknown.set(self.unknown.get() + 1);
                self.ledger.borrow_mut().append(&Entry::unknown(request))?;
                return Err(failure.into());
            }
        };
        let entry = Entry::of(request, &answer)?;
        self.ledger.borrow_mut().append(&entry)?;
        let count = match entry.verdict {
            Verdict::Refused { .. } => &self.refused,
            Verdict::Unknown => &self.unknown,
            Verdict::Sku { .. }
            | Verdict::Reserved { .. }
            | Verdict::Committed { .. }
            | Verdict::Released { .. }
            | Verdict::Carted { .. }
            | Verdict::Ordered { .. }
            | Verdict::Pending { .. }
            | Verdict::Declined => &self.acknowledged,
        };
        count.set(count.get() + 1);
        Ok(answer)
    }

    /// The id of a reservation, or `None` where it was refused.
    async fn reserve(&self, key: &str, items: &[(&str, u64)], ttl_s: u64) -> Result<Option<String>, Stop> {
        let request = reservation(key, items, ttl_s);
        let answer = self.ask("reserve", &request).await?;
        if !answer.is_success() {
            return Ok(None);
        }
        let Verdict::Reserved { id, items: held, .. } = Verdict::of(&request, &answer)? else {
            return Ok(None);
        };
        let wanted: u64 = items.iter().map(|(_, units)| units).sum();
        let granted: i64 = held.iter().map(|item| item.quantity).sum();
        if i64::try_from(wanted) != Ok(granted) {
            self.violation(format!("law 6: {id} holds {granted} units where {wanted} were asked"));
        }
        Ok(Some(id))
    }

    async fn reserve_and(&self, key: &str, items: &[(&str, u64)], end: Option<&str>) -> Result<(), Stop> {
        let Some(id) = self.reserve(key, items, KEEP_TTL_S).await? else { return Ok(()) };
        if let Some(end) = end {
            let answer = self.ask("end", &ending(key, &id, end)).await?;
            self.must_succeed(end, &id, &answer);
        }
        Ok(())
    }

    async fn repeat(&self, key: &str, items: &[(&str, u64)]) -> Result<(), Stop> {
        let request = reservation(key, items, KEEP_TTL_S);
        let first = self.ask("reserve", &request).await?;
        if !first.is_success() {
            return Ok(());
        }
        self.same_again(&request, &first).await?;
        let Verdict::Reserved { id, .. } = Verdict::of(&request, &first)? else { return Ok(()) };
        let commit = ending(key, &id, "commit");
        let sold = self.ask("end", &commit).await?;
        self.must_succeed("commit", &id, &sold);
        self.same_again(&commit, &sold).await?;
        self.same_again(&request, &first).await
    }

    async fn same_again(&self, request: &Request, first: &Answer) -> Result<(), Stop> {
        let again = request.call(&self.client, "repeat")?.send().await?;
        if (again.status, &again.body) != (first.status, &first.body) {
            self.violation(format!("law 5: {} got another answer: {}", request.key, again.status));
        } else if !again.replayed {
            self.violation(format!("law 5: the repeat of {} is not marked as one", request.key));
        }
        self.repeated.set(self.repeated.get() + 1);
        Ok(())
    }

    async fn check_out(&self, key: &str, items: &[(&str, u64)], method: &str) -> Result<(), Stop> {
        let cart =
            Request::new("POST", "/v1/carts", format!("{key}:cart")).json(&json!({"items": listed(items)}));
        let answer = self.ask("cart", &cart).await?;
        if !answer.is_success() {
            return Ok(());
        }
        let made: CartReply = answer.expect()?;
        let path = format!("/v1/carts/{}/checkout", path_segment(&made.id));
        let body =
            json!({"email": "shopper@trial.example", "payment": {"provider": "fake", "method": method}});
        let checkout = Request::new("POST", path, format!("{key}:checkout"))
            .token(&made.token.unwrap_or_default())
            .json(&body);
        let answer = self.ask("checkout", &checkout).await?;
        if method == "declined" && answer.is_success() {
            self.violation(format!("law 7: checkout {key} was placed, though its payment is declined"));
        }
        Ok(())
    }

    async fn reuse_key(&self, key: &str, items: &[(&str, u64)]) -> Result<(), Stop> {
        let Some(id) = self.reserve(key, items, KEEP_TTL_S).await? else { return Ok(()) };
        // Not into the ledger: sent again alone it would be refused again, and its key has an answer of its own.
        let other = reservation(key, &[(items[0].0, 77)], KEEP_TTL_S);
        let answer = other.call(&self.client, "reserve")?.send().await?;
        if answer.problem().code != "idempotency_key_reused" {
            self.violation(format!("law 5: {id}'s key was taken for another body: {}", answer.status));
        }
        self.refused.set(self.refused.get() + 1);
        Ok(())
    }

    async fn commit_released(&self, key: &str, items: &[(&str, u64)]) -> Result<(), Stop> {
        let Some(id) = self.reserve(key, items, KEEP_TTL_S).await? else { return Ok(()) };
        let released = self.ask("end", &ending(key, &id, "release")).await?;
        self.must_succeed("release", &id, &released);
        let answer = self.ask("end", &ending(key, &id, "commit")).await?;
        if answer.is_success() {
            self.violation(format!("law 2: {id} was released and then committed"));
        }
        Ok(())
    }

    fn must_succeed(&self, what: &str, id: &str, answer: &Answer) {
        if !answer.is_success() {
            let code = answer.problem().code;
            self.violation(format!("law 2: {what} of {id}, held and young, was refused: {code}"));
        }
    }

    fn violation(&self, told: String) {
        self.violations.borrow_mut().push(told);
    }
}

fn listed(items: &[(&str, u64)]) -> Vec<Value> {
    items.iter().map(|(sku, units)| json!({"sku": sku, "quantity": units})).collect()
}

fn reservation(key: &str, items: &[(&str, u64)], ttl_s: u64) -> Request {
    Request::new("POST", "/v1/reservations", key).json(&json!({"items": listed(items), "ttl_s": ttl_s}))
}

/// Commits or releases.
fn ending(key: &str, id: &str, end: &str) -> Request {
    let path = format!("/v1/reservations/{}", path_segment(id));
    let key = format!("{key}:{end}");
    if end == "commit" {
        Request::new("POST", format!("{path}/commit"), key)
    } else {
        Request::new("DELETE", path, key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_errand_is_drawn() {
        assert_eq!(Errand::SHARES.iter().map(|(_, share)| share).sum::<u64>(), 100);
        let drawn: BTreeSet<Errand> = (0..1000).map(|attempt| Errand::drawn(draw(1, 2, attempt))).collect();
        assert_eq!(drawn.len(), Errand::SHARES.len());
    }
}
