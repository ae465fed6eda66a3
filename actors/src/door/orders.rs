//! Calls on orders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use doorbuster_engine::answer::{Missing, Refusal};
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{FulfilmentId, OrderId, RefundId, Timestamp};
use doorbuster_engine::order::{LineUnits, Order, OrderCommand, OrderSummary, OrderView, TimelineEntry};
use doorbuster_engine::world::Snapshot;
use doorbuster_persistence::codec::decode_stored;

use crate::engine::Engine;
use crate::message::Seen;
use crate::types::{Access, OrderFilter, OrderPage, Page, RefundInput, Ticket, Verdict};
use crate::worker::{Inbound, OrderPlace, OrdersBelow};

/// Rows of the time index read at a time.
const ROWS: usize = 256;

/// Most rows one page may look through; a filter that matches less often continues from the cursor.
const ROWS_MAX: usize = 50_000;

/// How long a worker may take to list its orders.
const LISTING_MAX: Duration = Duration::from_secs(2);

/// Orders in memory.
struct HotOrders {
    places: Vec<OrderPlace>,
    /// Down to here all are known; absent: all are.
    reached: Option<OrderPlace>,
}

impl Engine {
    /// An order as it stands. A wrong token reads as an order that is not there.
    pub async fn order(&self, access: Access, id: OrderId) -> Result<OrderView, Refusal> {
        let view = self.query(EntityKey::Order(id), |seen| order_of(seen).map(Order::view)).await?;
        let view = view.ok_or(Refusal::NotFound(Missing::Order))?;
        self.check_access(&access, &view)?;
        Ok(view)
    }

    /// What happened to an order, oldest first.
    pub async fn timeline(&self, access: Access, id: OrderId) -> Result<Vec<TimelineEntry>, Refusal> {
        let found = self.query(EntityKey::Order(id), |seen| {
            order_of(seen).map(|order| (order.view(), order.timeline().to_vec()))
        });
        let (view, timeline) = found.await?.ok_or(Refusal::NotFound(Missing::Order))?;
        self.check_access(&access, &view)?;
        Ok(timeline)
    }

    /// The shopper has acted, or asks how the payment stands.
    pub async fn confirm(&self, ticket: Ticket, access: Access, id: OrderId) -> Verdict {
        self.order(access, id).await?;
        self.ask_order(ticket, id, OrderCommand::Confirm).await
    }

    /// Calls an order off: units go back, money too.
    pub async fn cancel(&self, ticket: Ticket, access: Access, id: OrderId) -> Verdict {
        self.order(access, id).await?;
        self.ask_order(ticket, id, OrderCommand::Cancel { refund: RefundId(self.random_bits()) }).await
    }

    /// Gives money back, and units to the shelf where asked.
    pub async fn refund(&self, ticket: Ticket, id: OrderId, input: RefundInput) -> Verdict {
        let RefundInput { amount, lines, restock, reason } = input;
        let refund = RefundId(self.random_bits());
        self.ask_order(ticket, id, OrderCommand::Refund { refund, amount, lines, restock, reason }).await
    }

    /// Hands units to the carrier.
    pub async fn fulfil(
        &self,
        ticket: Ticket,
        id: OrderId,
        lines: Option<Vec<LineUnits>>,
        tracking: Option<String>,
    ) -> Verdict {
        let fulfilment = FulfilmentId(self.random_bits());
        self.ask_order(ticket, id, OrderCommand::Fulfil { fulfilment, lines, tracking }).await
    }

    /// Orders, newest first: those in memory over those the checkpoint knows.
    pub async fn orders(&self, filter: OrderFilter) -> Result<OrderPage, Refusal> {
        let mut cursor = match &filter.starting_after {
            Some(text) => Some(self.cursor_of(text).await?),
            None => None,
        };
        let mut data = Vec::new();
        let mut looked_at = 0_usize;
        loop {
            let hot = self.hot_orders(cursor).await?;
            let cold = self.cold_orders(cursor).await?;
            let below_cold = cold.last().filter(|_| cold.len() == ROWS);
            let below_cold = below_cold.map(|summary| (summary.created_at, summary.id));
            // Everything at or above it is known now; what is below it only once that was read too.
            let reached = below_cold.max(hot.reached);
            let is_known = |place: &OrderPlace| reached.is_none_or(|reached| *place >= reached);
            let mut known = BTreeMap::new();
            for summary in cold {
                known.insert((summary.created_at, summary.id), summary);
            }
            for place in hot.places {
                // Memory knows better than the checkpoint; and what left memory meanwhile is in that.
                if is_known(&place)
                    && let Some(summary) = self.summary(place.1).await?
                {
                    known.insert(place, summary);
                }
            }
            known.retain(|place, _| is_known(place));
            looked_at = looked_at.saturating_add(known.len());
            for ((_, id), summary) in known.into_iter().rev() {
                if !matches(&filter, &summary) {
                    continue;
                }
                if data.len() == filter.limit {
                    return Ok(Page { next_cursor: last_id(&data), data });
                }
                if let Ok(view) = self.order(Access::Admin, id).await {
                    data.push(view);
                }
            }
            let Some(reached) = reached else { return Ok(Page { data, next_cursor: None }) };
            if filter.since.is_some_and(|since| reached.0 < since) {
                return Ok(Page { data, next_cursor: None });
            }
            if looked_at >= ROWS_MAX {
                return Ok(Page { data, next_cursor: Some(reached.1.to_string()) });
            }
            cursor = Some(reached);
        }
    }

    /// As [`Engine::orders`], where `history` has found the orders to look through: at most one more than the page holds,
    /// newest first, each as wanted when it was last told. What is in memory is looked through too, and every order is shown
    /// and judged as it is now.
    ///
    /// Gives `None` where `history` cannot say.
    pub async fn orders_by_history(
        &self,
        filter: &OrderFilter,
        history: impl AsyncFnOnce(Option<(Timestamp, OrderId)>, usize) -> Option<Vec<(Timestamp, OrderId)>>,
    ) -> Result<Option<OrderPage>, Refusal> {
        let cursor = match &filter.starting_after {
            Some(text) => Some(self.cursor_of(text).await?),
            None => None,
        };
        let wanted = filter.limit.saturating_add(1);
        let Some(found) = history(cursor, wanted).await else {
            return Ok(None);
        };
        let hot = self.hot_orders(cursor).await?;
        // Below the last one found, others may lie that were not asked for.
        let reached = found.last().copied().filter(|_| found.len() >= wanted).max(hot.reached);
        let mut places: BTreeSet<OrderPlace> = found.into_iter().collect();
        places.extend(hot.places);
        places.retain(|place| reached.is_none_or(|reached| *place >= reached));
        let mut data: Vec<OrderView> = Vec::new();
        for (_, id) in places.into_iter().rev() {
            let Ok(view) = self.order(Access::Admin, id).await else { continue };
            let (created_at, state, email) = (view.created_at, view.state, view.email.clone());
            if !matches(filter, &OrderSummary { created_at, id, state, email }) {
                continue;
            }
            if data.len() == filter.limit {
                return Ok(Some(Page { next_cursor: last_id(&data), data }));
            }
            data.push(view);
        }
        Ok(Some(Page { data, next_cursor: reached.map(|(_, id)| id.to_string()) }))
    }

    pub(super) async fn ask_order(&self, ticket: Ticket, id: OrderId, command: OrderCommand) -> Verdict {
        self.check_open()?;
        self.ask(EntityKey::Order(id), Command::Order(command), ticket, None).await
    }

    pub(crate) fn check_access(&self, access: &Access, view: &OrderView) -> Result<(), Refusal> {
        let allowed = match access {
            Access::Admin => true,
            Access::Token(token) => self.cart_token_matches(view.cart, token),
            Access::Anonymous => false,
        };
        if allowed { Ok(()) } else { Err(Refusal::NotFound(Missing::Order)) }
    }

    async fn cursor_of(&self, text: &str) -> Result<OrderPlace, Refusal> {
        let id: OrderId = text.parse().map_err(|_| Refusal::NotFound(Missing::Order))?;
        let view = self.order(Access::Admin, id).await?;
        Ok((view.created_at, view.id))
    }

    /// The newest orders in memory that are older than the cursor.
    async fn hot_orders(&self, cursor: Option<OrderPlace>) -> Result<HotOrders, Refusal> {
        let mut hot = HotOrders { places: Vec::new(), reached: None };
        for worker in 0..self.shared.inboxes.len() {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            self.shared.tell(worker, Inbound::Orders(OrdersBelow { place: cursor, limit: ROWS }, sender));
            let listed = tokio::time::timeout(LISTING_MAX, receiver).await;
            let Ok(Ok(listed)) = listed else { return Err(Refusal::Recovering { retry_after_ms: 1_000 }) };
            hot.reached = hot.reached.max(listed.last().copied().filter(|_| listed.len() == ROWS));
            hot.places.extend(listed);
        }
        Ok(hot)
    }

    async fn summary(&self, id: OrderId) -> Result<Option<OrderSummary>, Refusal> {
        self.query(EntityKey::Order(id), |seen| order_of(seen).map(Order::summary)).await
    }

    async fn cold_orders(&self, cursor: Option<OrderPlace>) -> Result<Vec<OrderSummary>, Refusal> {
        let shared = Arc::clone(&self.shared);
        let read = self.shared.blocking(move || {
            let cursor = cursor.map(|(at, id)| (at.0, id));
            let rows = shared.store.get().ok()?.orders_by_time(cursor, ROWS).ok()?;
            rows.iter()
                .map(|row| decode_stored::<OrderSummary>(&row.summary).ok())
                .collect::<Option<Vec<_>>>()
        });
        read.await.flatten().ok_or(Refusal::Recovering { retry_after_ms: 10_000 })
    }
}

fn last_id(data: &[OrderView]) -> Option<String> {
    data.last().map(|view| view.id.to_string())
}

fn matches(filter: &OrderFilter, summary: &OrderSummary) -> bool {
    filter.state.is_none_or(|state| state == summary.state)
        && filter.email.as_ref().is_none_or(|email| *email == summary.email)
        && filter.since.is_none_or(|since| summary.created_at >= since)
        && filter.until.is_none_or(|until| summary.created_at < until)
}

fn order_of(seen: Option<Seen<'_>>) -> Option<&Order> {
    match seen?.snapshot {
        Snapshot::Order(order) if !order.is_absent() => Some(order),
        Snapshot::Order(_) | Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_) => None,
    }
}
