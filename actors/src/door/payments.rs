//! Payments from outside a sale: what providers tell unasked, how they stand, and whether their books agree with ours.

use std::collections::BTreeSet;
use std::time::Duration;

use doorbuster_engine::answer::{Answer, Missing, Refusal};
use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::order::{OrderCommand, RefundState};
use doorbuster_engine::payment::{Answering, FailedRefund, Notice, NoticeError, PaymentNews, PaymentRecord};
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::payments::{
    self, Finding, FindingKind, PATIENCE, ProviderStatus, Reconciliation, Turns, by_order, compare,
    without_payment,
};
use crate::types::{Access, OrderFilter};

/// Most payments one comparison reads; a longer list is compared in part, and says so.
const PAYMENTS_MAX: usize = 200_000;

/// How long a provider may take for one page of its list: PayPal's takes dozens of requests.
const PAGE_DEADLINE: Duration = Duration::from_secs(120);

/// Orders are compared only where they are this much older than the comparison: what is under way agrees later.
const SETTLING_MS: u64 = 60_000;

/// How much further back payments are listed than orders: a payment is made after its order, but clocks differ.
const CLOCKS_DIFFER_MS: u64 = 10 * 60_000;

/// What became of a provider's webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its order remembered it, on stable storage.
    Taken {
        /// The provider's name for what happened.
        kind: String,
    },
    /// Proved, but about nothing that is ours.
    NotOurs {
        /// The provider's name for what happened.
        kind: String,
    },
}

/// Why a provider's webhook was not taken. It should be sent again, except where it is not genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HearError {
    /// No such provider here.
    UnknownProvider,
    /// It is not believed.
    NotGenuine(NoticeError),
    /// The order could not take it now.
    Refused(Refusal),
}

/// Why books could not be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReconcileError {
    /// No such provider here.
    UnknownProvider,
    /// The provider is no service elsewhere, and keeps no books that could disagree.
    KeepsNoBooks,
    /// The provider did not list its payments, or is known not to answer.
    NoAnswer,
    /// The orders could not be listed.
    Refused(Refusal),
}

impl Engine {
    /// Business time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// How each payment provider stands.
    pub fn providers(&self) -> Vec<ProviderStatus> {
        self.shared.desks.iter().map(|desk| desk.status()).collect()
    }

    /// Takes a provider's webhook: proves it, and tells its order. What was told once has no second effect.
    pub async fn hear(
        &self,
        provider: &str,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        deadline: tokio::time::Instant,
    ) -> Result<Heard, HearError> {
        let desk = self.shared.desk(provider).ok_or(HearError::UnknownProvider)?;
        // Some are proved by asking the provider, which is a request like any: a flood of them must not keep payments waiting.
        let turns = Turns::of_patient(desk, PATIENCE);
        let proving = turns.provider().notice(header, body, self.shared.host.wall_ms());
        let proved = self
            .outside(turns, proving, self.shared.limits.payment_deadline)
            .await
            .unwrap_or(Err(NoticeError::Unproved));
        let Notice { event, kind, news, failed_refund } = proved.map_err(HearError::NotGenuine)?;
        if let Some(failed) = failed_refund {
            return self.refund_failed(desk.name(), kind, failed).await;
        }
        let Some(news) = news else { return Ok(Heard::NotOurs { kind }) };
        match self.tell(event, news, deadline).await {
            Ok(()) => Ok(Heard::Taken { kind }),
            Err(Refusal::NotFound(_)) => Ok(Heard::NotOurs { kind }),
            Err(refusal) => Err(HearError::Refused(refusal)),
        }
    }

    /// A refund failed after its order was told that the money went back. No rule can mend that: the provider refused the way
    /// back, so people find another. A comparison finds the same for as long as the payment is in its span.
    async fn refund_failed(
        &self,
        provider: &'static str,
        kind: String,
        failed: FailedRefund,
    ) -> Result<Heard, HearError> {
        let view = match self.order(Access::Admin, failed.order).await {
            Ok(view) => view,
            Err(Refusal::NotFound(_)) => return Ok(Heard::NotOurs { kind }),
            Err(refusal) => return Err(HearError::Refused(refusal)),
        };
        let known = view.refunds.iter().find(|refund| refund.id.to_string() == failed.key);
        match known.map(|refund| refund.state) {
            // The order has it that way already.
            Some(RefundState::Failed) => {}
            // One of its own, whose first answer may still be on its way, or a stray payment's way back.
            Some(RefundState::Succeeded | RefundState::Pending) | None => {
                let FailedRefund { order, reference, amount, reason, .. } = failed;
                tracing::error!(%order, provider, refund = reference, %amount, reason, "a refund failed after all, and the shopper does not have the money; give it back another way");
                payments::count_for_people(provider, FindingKind::RefundDiffers);
            }
        }
        Ok(Heard::Taken { kind })
    }

    /// Compares a provider's books with the orders made at or after `since`, and tells orders what they do not know.
    pub async fn reconcile(
        &self,
        provider: &str,
        since: Timestamp,
    ) -> Result<Reconciliation, ReconcileError> {
        let desk = self.shared.desk(provider).ok_or(ReconcileError::UnknownProvider)?;
        if !desk.provider().is_remote() {
            return Err(ReconcileError::KeepsNoBooks);
        }
        let now_ms = self.shared.host.wall_ms();
        let settling_ms = desk.provider().list_lag_ms().saturating_add(SETTLING_MS);
        // Orders first: a payment that is made while we look then has no order here, never the other way round.
        let views = self
            .orders_of(provider, since, now_ms.saturating_sub(settling_ms))
            .await
            .map_err(ReconcileError::Refused)?;
        let from = Timestamp(since.0.saturating_sub(CLOCKS_DIFFER_MS));
        let (mut records, mut after, mut complete) = (Vec::<PaymentRecord>::new(), None::<String>, true);
        loop {
            // Whoever asks for a comparison is told so at once; orders find out when the provider is back.
            if !desk.status().up {
                return Err(ReconcileError::NoAnswer);
            }
            desk.place().await;
            let turns = Turns::of_placed(desk);
            let listing = turns.provider().list(from, after.as_deref());
            let page = self.outside(turns, listing, PAGE_DEADLINE).await;
            let page = page.flatten().ok_or(ReconcileError::NoAnswer)?;
            records.extend(page.data);
            after = page.next;
            if after.is_none() {
                break;
            }
            if records.len() >= PAYMENTS_MAX {
                complete = false;
                break;
            }
        }
        let payments = records.len();
        let settled = |record: &PaymentRecord| record.created_at.plus_ms(settling_ms).0 <= now_ms;
        let listed: BTreeSet<OrderId> = records.iter().filter_map(|record| record.order).collect();
        records.retain(settled);
        let mut findings: Vec<Finding> = if complete { without_payment(&views, &listed) } else { Vec::new() };
        let mut orders = views.len();
        for (id, records) in by_order(records) {
            let view = match self.order(Access::Admin, id).await {
                Ok(view) => Some(view),
                Err(Refusal::NotFound(Missing::Order)) => None,
                Err(refusal) => return Err(ReconcileError::Refused(refusal)),
            };
            orders =
                orders.saturating_add(usize::from(view.as_ref().is_some_and(|view| view.created_at < since)));
            for compared in compare(id, view.as_ref(), &records) {
                let mut finding = compared.finding;
                if let Some(news) = compared.tell {
                    let event = format!("reconciled:{}:{:?}", news.reference, news.standing).to_lowercase();
                    let deadline =
                        tokio::time::Instant::now().checked_add(self.shared.limits.payment_deadline);
                    let before = self.version_of(id).await;
                    let told =
                        self.tell(event, news, deadline.unwrap_or_else(tokio::time::Instant::now)).await;
                    // An order that was told the same before has done what it could, and it did not help.
                    finding.repaired = told.is_ok() && self.version_of(id).await != before;
                }
                findings.push(finding);
            }
        }
        for finding in &findings {
            payments::count_finding(desk.name(), finding);
        }
        Ok(Reconciliation { provider: provider.to_owned(), since, payments, orders, complete, findings })
    }

    /// Orders of this provider, made since then and long enough ago to have settled.
    async fn orders_of(
        &self,
        provider: &str,
        since: Timestamp,
        until_ms: u64,
    ) -> Result<Vec<doorbuster_engine::order::OrderView>, Refusal> {
        let mut filter = OrderFilter {
            since: Some(since),
            until: Some(Timestamp(until_ms)),
            limit: 100,
            ..OrderFilter::default()
        };
        let mut views = Vec::new();
        loop {
            let page = self.orders(filter.clone()).await?;
            views.extend(page.data.into_iter().filter(|view| view.provider == provider));
            match page.next_cursor {
                Some(cursor) if views.len() < PAYMENTS_MAX => filter.starting_after = Some(cursor),
                Some(_) | None => return Ok(views),
            }
        }
    }

    async fn version_of(&self, order: OrderId) -> Option<u64> {
        self.order(Access::Admin, order).await.ok().map(|view| view.version)
    }

    async fn tell(
        &self,
        event: String,
        news: PaymentNews,
        deadline: tokio::time::Instant,
    ) -> Result<(), Refusal> {
        let order = news.order;
        let ticket = crate::types::Ticket { deadline, ..self.reading_ticket() };
        let reply = self.ask_order(ticket, order, OrderCommand::Notice { event, news }).await?;
        debug_assert!(matches!(reply.answer, Answer::Noticed), "a notice is answered as one");
        Ok(())
    }

    /// Runs a provider's call where its sockets live; `None` if it panicked or took longer.
    async fn outside<T: Send + 'static>(
        &self,
        turns: Turns,
        call: Answering<T>,
        deadline: Duration,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.shared.host.spawn(Box::pin(async move {
            if let Some(answer) = turns.within(deadline, call).await {
                let _ = sender.send(answer);
            }
        }));
        receiver.await.ok()
    }
}
