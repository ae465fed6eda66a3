//! Stripe's books: one request's payments by its order, and all payments of a span of time.
//!
//! Stripe's search finds by metadata at once among millions, but hears of a new intent late: usually within a minute, in
//! bad times within an hour. Its list shows everything that was made, but only by time. Together they leave nothing out:
//! what the search may not have heard of is at most an hour old, and that the list shows.

use std::collections::BTreeSet;

use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::payment::{ChargeRequest, PaymentPage, PaymentRecord, Standing};
use stripe_client_core::{RequestBuilder, StripeRequest as _};
use stripe_core::payment_intent::{ListPaymentIntent, SearchPaymentIntent};
use stripe_types::RangeQueryTs;

use super::amounts;
use super::objects::{Found, Listed, Page, Status};
use super::payments::{Account, KEY, ORDER};
use super::wire::Failure;

/// How late the search may hear of an intent, in seconds, and what our clock may be ahead.
/// Source: <https://docs.stripe.com/search#data-freshness>.
const SEARCH_LAG_S: u64 = 60 * 60 + 5 * 60;

/// Intents of a page, the most that Stripe gives.
const PAGE: i64 = 100;

/// Pages of the last hour that are read for one request: 2,000 payments. Beyond, the answer is that nobody knows yet; an
/// hour after the rush the search alone knows.
const PAGES_MAX: usize = 20;

impl Account {
    /// The names of all intents that the request has made. `None` where Stripe does not tell, or not all yet.
    pub(super) async fn find(&self, request: &ChargeRequest) -> Option<Vec<String>> {
        let mut names = BTreeSet::new();
        // An order's name is hexadecimal: nothing in it could end the quotes.
        let query = format!("metadata['{ORDER}']:'{}'", request.order);
        let mut page = None;
        loop {
            let mut search = SearchPaymentIntent::new(query.as_str()).limit(PAGE);
            if let Some(page) = page {
                search = search.page(page);
            }
            let found: SearchPage = self.page(search.build()).await?;
            names.extend(
                found.data.iter().filter(|intent| is_of(intent, request)).map(|intent| intent.id.clone()),
            );
            match found.next_page.filter(|_| found.has_more) {
                Some(next) => page = Some(next),
                None => break,
            }
        }
        if !names.is_empty() {
            return Some(names.into_iter().collect());
        }
        let since = (self.clock)().checked_div(1_000)?.saturating_sub(SEARCH_LAG_S);
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let found: Page<Found> = self.page(list_since(since, after.take()).build()).await?;
            names.extend(
                found.data.iter().filter(|intent| is_of(intent, request)).map(|intent| intent.id.clone()),
            );
            match found.data.last().filter(|_| found.has_more) {
                Some(last) => after = Some(last.id.clone()),
                None => return Some(names.into_iter().collect()),
            }
        }
        if names.is_empty() {
            let order = request.order;
            tracing::warn!(%order, "too many payments in the last hour to say that one was not made; it is asked again");
            return None;
        }
        Some(names.into_iter().collect())
    }

    /// A page of all payments since then, newest first.
    pub(super) async fn list(&self, since: Timestamp, after: Option<String>) -> Option<PaymentPage> {
        let since_s = since.0.checked_div(1_000)?;
        let list = list_since(since_s, after).expand(["data.latest_charge".to_owned()]);
        let page: Page<Listed> = self.page(list.build()).await?;
        let next = page.data.last().filter(|_| page.has_more).map(|intent| intent.id.clone());
        Some(PaymentPage { data: page.data.into_iter().filter_map(record).collect(), next })
    }

    async fn page<T: miniserde::Deserialize>(&self, request: RequestBuilder) -> Option<T> {
        match self.wire.ask(request, None).await {
            Ok(answer) => Some(answer.object),
            Err(Failure::Refused(_, refusal)) => {
                let (code, said) = (refusal.code, refusal.message);
                tracing::error!(code, said, "Stripe refuses to show its books");
                None
            }
            Err(Failure::Missing | Failure::KeySpent | Failure::Unanswered) => None,
        }
    }
}

/// A page of a search: it names the next by a token of its own.
#[derive(miniserde::Deserialize)]
struct SearchPage {
    data: Vec<Found>,
    has_more: bool,
    next_page: Option<String>,
}

fn list_since(since_s: u64, after: Option<String>) -> ListPaymentIntent {
    let since = RangeQueryTs::gte(i64::try_from(since_s).unwrap_or(i64::MAX));
    let list = ListPaymentIntent::new().created(since).limit(PAGE);
    match after {
        Some(after) => list.starting_after(after),
        None => list,
    }
}

/// Whether this request made the intent.
fn is_of(intent: &Found, request: &ChargeRequest) -> bool {
    let says = |name: &str, value: &str| {
        intent.metadata.as_ref().and_then(|metadata| metadata.get(name)).is_some_and(|said| said == value)
    };
    says(ORDER, &request.order.to_string()) && says(KEY, &request.key)
}

/// An intent as a payment; `None`, and a line in the log, where it is over what our money cannot say.
fn record(intent: Listed) -> Option<PaymentRecord> {
    let order = intent.metadata.as_ref().and_then(|metadata| metadata.get(ORDER)?.parse::<OrderId>().ok());
    let status = intent.status();
    // Of an authorization that was let go, Stripe calls all of it refunded; nothing of it was ever ours.
    let received = intent.amount_received.unwrap_or_default();
    let refunded = match intent.latest_charge {
        Some(charge) if received > 0 => charge.amount_refunded.unwrap_or_default(),
        Some(_) | None => 0,
    };
    let amount = amounts::from_stripe(intent.amount, &intent.currency);
    let written = amount.and_then(|amount| {
        let minor = |of| amounts::scaled(of, amount.currency);
        Some((amount, minor(received)?, minor(refunded)?))
    });
    let Some((amount, captured, refunded)) = written else {
        let (reference, currency) = (intent.id, intent.currency);
        tracing::error!(
            reference,
            currency,
            "a payment at Stripe is over an amount that cannot be written here"
        );
        return None;
    };
    let created_ms = u64::try_from(intent.created).unwrap_or_default().saturating_mul(1_000);
    Some(PaymentRecord {
        reference: intent.id,
        order,
        amount,
        captured,
        refunded,
        standing: standing(status),
        created_at: Timestamp(created_ms),
    })
}

fn standing(status: Status) -> Standing {
    match status {
        Status::RequiresCapture => Standing::Authorized,
        Status::Succeeded => Standing::Captured,
        Status::Canceled => Standing::Cancelled,
        Status::RequiresPaymentMethod
        | Status::RequiresConfirmation
        | Status::RequiresAction
        | Status::Processing
        | Status::Unheard => Standing::Open,
    }
}
