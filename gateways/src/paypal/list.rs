//! The list of payments. PayPal lists no orders; its transaction search lists what became of them.
//!
//! **Its limits.** A transaction appears up to three hours after it was made, so what is missing here may still exist. An
//! order that was never authorized never appears. The app needs the feature Transaction Search. One question spans 31 days
//! at most: older ones are asked for in further pages, newest first, as the trait wants.
//!
//! A transaction names neither the order it belongs to nor what was refunded of it, so each is followed to its payment and
//! from there to its order: 2 requests each, [`AT_ONCE`] at a time. A payment with several transactions (authorization,
//! capture) is told once, by the one that stands furthest.

use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::payment::{PaymentPage, PaymentRecord, Standing};
use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;

use super::Core;
use super::amounts;
use super::door::{Call, Failed};
use super::judge::{Stage, stage};
use super::wire::{Order, Payment, is_id};

/// How late a transaction may appear, by PayPal's word: three hours.
pub(super) const LAG_MS: u64 = 3 * 60 * 60 * 1_000;

/// Longest span of one question, in milliseconds: 31 days.
const SPAN_MS: u64 = 31 * 24 * 60 * 60 * 1_000;

/// Transactions asked for at once. Two searches and four rounds of requests must fit the few seconds of a call's deadline.
const PAGE_SIZE: u32 = 10;

/// Transactions followed at the same time.
const AT_ONCE: usize = 5;

/// PayPal's answer.
#[derive(Debug, Deserialize)]
struct Found {
    #[serde(default)]
    transaction_details: Vec<Entry>,
    #[serde(default)]
    total_pages: u32,
}

#[derive(Debug, Deserialize)]
struct Entry {
    transaction_info: Transaction,
}

/// One transaction.
#[derive(Clone, Debug, Deserialize)]
struct Transaction {
    #[serde(rename = "transaction_id")]
    id: String,
    #[serde(rename = "transaction_event_code", default)]
    event_code: String,
    #[serde(rename = "transaction_initiation_date", default)]
    made_at: String,
    #[serde(default)]
    custom_field: Option<String>,
}

impl Transaction {
    /// Where its payment is read; nothing for fees, withdrawals, refunds and whatever else moves in an account.
    fn path(&self) -> Option<String> {
        let kind = self.event_code.get(..3)?;
        let id = Some(&self.id).filter(|id| is_id(id))?;
        match kind {
            "T00" => Some(format!("/v2/payments/captures/{id}")),
            "T13" => Some(format!("/v2/payments/authorizations/{id}")),
            _ => None,
        }
    }
}

/// Where a list goes on: the end of the span, and the page of it that comes next (0: the last one, whichever that is).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    end_ms: u64,
    page: u32,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let (end_ms, page) = text.split_once('.')?;
        Some(Self { end_ms: end_ms.parse().ok()?, page: page.parse().ok()? })
    }

    fn write(self) -> String {
        format!("{}.{}", self.end_ms, self.page)
    }
}

impl Core {
    pub(super) async fn list(&self, since: Timestamp, after: Option<&str>) -> Option<PaymentPage> {
        let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let cursor = match after {
            Some(text) => Cursor::read(text)?,
            None => Cursor { end_ms: now_ms, page: 0 },
        };
        let start_ms = cursor.end_ms.saturating_sub(SPAN_MS).max(since.0);
        if start_ms >= cursor.end_ms {
            return Some(PaymentPage::default());
        }
        // PayPal's pages are oldest first, so they are read from the last to the first.
        let mut page = cursor.page.max(1);
        let mut found = self.search(start_ms, cursor.end_ms, page, now_ms).await?;
        if cursor.page == 0 && found.total_pages > 1 {
            page = found.total_pages;
            found = self.search(start_ms, cursor.end_ms, page, now_ms).await?;
        }
        let mut transactions: Vec<Transaction> =
            found.transaction_details.into_iter().map(|entry| entry.transaction_info).collect();
        transactions.sort_by(|a, b| b.made_at.cmp(&a.made_at));
        let followed: Vec<Result<Option<PaymentRecord>, ()>> =
            stream::iter(transactions.into_iter().map(|transaction| self.follow(transaction)))
                .buffered(AT_ONCE)
                .collect()
                .await;
        let mut data = vec![];
        for record in followed {
            data.extend(record.ok()?);
        }
        let next = if page > 1 {
            Some(Cursor { end_ms: cursor.end_ms, page: page.saturating_sub(1) })
        } else if start_ms > since.0 {
            Some(Cursor { end_ms: start_ms, page: 0 })
        } else {
            None
        };
        Some(PaymentPage { data, next: next.map(Cursor::write) })
    }

    async fn search(&self, start_ms: u64, end_ms: u64, page: u32, now_ms: u64) -> Option<Found> {
        let (start, end) = (written(start_ms)?, written(end_ms)?);
        let path = format!(
            "/v1/reporting/transactions?start_date={start}&end_date={end}&fields=transaction_info\
             &balance_affecting_records_only=N&page_size={PAGE_SIZE}&page={page}"
        );
        match self.door.ask::<Found>(&Call::get(&path)).await {
            Ok(found) => Some(found),
            // All of the span is younger than PayPal's report: there is nothing to tell yet. An older span that is refused is
            // no empty one, but a question that PayPal does not take.
            Err(Failed::Refused(refusal))
                if refusal.names(&["INVALID_REQUEST"]) && start_ms.saturating_add(LAG_MS) > now_ms =>
            {
                tracing::info!(start, "PayPal's transaction search does not reach this span yet");
                Some(Found { transaction_details: vec![], total_pages: 0 })
            }
            Err(Failed::Refused(_) | Failed::Silent) => None,
        }
    }

    /// The payment behind a transaction: nothing where it is none, or where another transaction tells it. `Err` where
    /// PayPal does not answer.
    async fn follow(&self, transaction: Transaction) -> Result<Option<PaymentRecord>, ()> {
        let Some(path) = transaction.path() else { return Ok(None) };
        let Some(payment) = self.found::<Payment>(&path).await? else { return Ok(None) };
        let Some(id) = payment.order_id().map(str::to_owned) else { return Ok(None) };
        let Some(order) = self.found::<Order>(&format!("/v2/checkout/orders/{id}")).await? else {
            return Ok(None);
        };
        let mut units = order.purchase_units.iter();
        // The first capture tells it, or where there is none the first authorization.
        let teller = units.clone().flat_map(|unit| &unit.payments.captures).next();
        let teller = teller.or_else(|| units.clone().flat_map(|unit| &unit.payments.authorizations).next());
        if teller.is_none_or(|teller| teller.id != payment.id) {
            return Ok(None);
        }
        let standing = match stage(&order) {
            Stage::Captured { .. } => Standing::Captured,
            Stage::Held { .. } | Stage::Arriving { .. } => Standing::Authorized,
            Stage::Denied | Stage::Over => Standing::Cancelled,
            Stage::Waiting { .. } | Stage::Approved | Stage::Examined { .. } | Stage::Strange => {
                Standing::Open
            }
        };
        let sum = |payments: &mut dyn Iterator<Item = &Payment>, states: &[&str]| {
            let amounts = payments.filter(|payment| states.contains(&payment.status.as_str()));
            amounts
                .filter_map(|payment| amounts::read(payment.amount.as_ref()?))
                .fold(0_i64, |sum, money| sum.saturating_add(money.amount))
        };
        let came = ["COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED"];
        let captured = sum(&mut units.clone().flat_map(|unit| &unit.payments.captures), &came);
        let refunded =
            sum(&mut units.clone().flat_map(|unit| &unit.payments.refunds), &["COMPLETED", "PENDING"]);
        let Some(amount) = units.next().and_then(|unit| amounts::read(unit.amount.as_ref()?)) else {
            return Ok(None);
        };
        let named = payment.custom_id.or(transaction.custom_field);
        let made = payment.create_time.as_deref().unwrap_or(&transaction.made_at);
        let created_at = made.parse::<jiff::Timestamp>().ok();
        let created_at = created_at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or(0);
        Ok(Some(PaymentRecord {
            reference: id,
            order: named.and_then(|named| named.parse::<OrderId>().ok()),
            amount,
            captured,
            refunded,
            standing,
            created_at: Timestamp(created_at),
        }))
    }

    async fn found<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ()> {
        match self.door.ask::<T>(&Call::get(path)).await {
            Ok(found) => Ok(Some(found)),
            // A payment that another of PayPal's products made, and that this API does not know.
            Err(Failed::Refused(refusal)) if refusal.is_missing() => Ok(None),
            Err(Failed::Refused(_) | Failed::Silent) => Err(()),
        }
    }
}

/// A time as PayPal reads it, to the second.
fn written(at_ms: u64) -> Option<String> {
    let seconds = i64::try_from(at_ms / 1_000).ok()?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}
