//! The one place where the engine's answers become wire types. Pure: equal answers give equal bytes.

use doorbuster_actors::{
    self as actors, ActorDetail, ActorReport, AvailabilityState, ProviderStatus, SkuSnapshot,
};
use doorbuster_engine::answer::{ReservationRecord, ReservationState};
use doorbuster_engine::cart::{CartStateName, CartView, Line};
use doorbuster_engine::money;
use doorbuster_engine::order::{
    self, FulfilmentView, OrderState, OrderView, PaymentState, RefundState, RefundView,
};
use doorbuster_engine::pricing;
use doorbuster_engine::stock::{self, LedgerKind, StockView};

use super::requests::{Address, LineUnits};
use super::responses::{
    Actor, Availability, Cart, CartLine, Finding, Fulfilment, Item, LedgerEntry, Order, OrderLine, Payment,
    Percentiles, Provider, RecentMessage, Reconciliation, Refund, Reservation, SkuResponse, Stock,
    TimelineEntry, Totals,
};
use super::{Money, time};

/// How a payment provider stands.
pub fn provider(status: &ProviderStatus) -> Provider {
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Provider {
        name: status.name,
        up: status.up,
        waiting: status.waiting,
        waiting_oldest_ms: ms(status.waiting_oldest),
        pace_wait_ms: ms(status.pace_wait),
        drain_ms: ms(status.drain),
    }
}

/// What a comparison of books came to.
pub fn reconciliation(found: &actors::Reconciliation) -> Reconciliation {
    let findings = found.findings.iter().map(|finding| Finding {
        kind: finding.kind.name(),
        order: finding.order.map(|order| order.to_string()),
        reference: finding.reference.clone(),
        detail: finding.detail.clone(),
        repaired: finding.repaired,
    });
    Reconciliation {
        provider: found.provider.clone(),
        since: time::text(found.since),
        payments: found.payments,
        orders: found.orders,
        complete: found.complete,
        findings: findings.collect(),
    }
}

/// Wire name of a reservation's state.
pub fn reservation_state(state: ReservationState) -> &'static str {
    match state {
        ReservationState::Held => "held",
        ReservationState::Committed => "committed",
        ReservationState::Released => "released",
        ReservationState::Expired => "expired",
    }
}

/// Appends a reservation as JSON: the hot path's body, one pass, no intermediate texts.
///
/// SKUs and receipts consist of characters that JSON never escapes.
pub fn write_reservation(out: &mut Vec<u8>, record: &ReservationRecord, receipt: &str) {
    out.extend_from_slice(b"{\"id\":\"res_");
    hexadecimal(out, &record.id.0.to_be_bytes());
    out.extend_from_slice(b"\",\"state\":\"");
    out.extend_from_slice(reservation_state(record.state).as_bytes());
    out.extend_from_slice(b"\",\"items\":[");
    for (index, item) in record.items.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"sku\":\"" } else { b",{\"sku\":\"" });
        out.extend_from_slice(item.sku.as_str().as_bytes());
        out.extend_from_slice(b"\",\"quantity\":");
        decimal(out, item.quantity);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"expires_at\":\"");
    time::write(out, record.expires_at);
    out.extend_from_slice(b"\",\"receipt\":\"");
    out.extend_from_slice(receipt.as_bytes());
    out.extend_from_slice(b"\",\"journal_position\":\"");
    hexadecimal(out, &record.position.0.to_be_bytes());
    out.extend_from_slice(b"\"}");
}

fn hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn decimal(out: &mut Vec<u8>, value: i64) {
    use std::io::Write;
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}

/// A reservation as a value.
pub fn reservation(record: &ReservationRecord, receipt: String) -> Reservation {
    Reservation {
        id: record.id.to_string(),
        state: reservation_state(record.state).to_owned(),
        items: record
            .items
            .iter()
            .map(|item| Item { sku: item.sku.to_string(), quantity: item.quantity })
            .collect(),
        expires_at: time::text(record.expires_at),
        receipt,
        journal_position: record.position.to_string(),
    }
}

/// Wire name of how a SKU's availability reads.
pub fn availability_state(state: AvailabilityState) -> &'static str {
    match state {
        AvailabilityState::InStock => "in_stock",
        AvailabilityState::LowStock => "low_stock",
        AvailabilityState::SoldOut => "sold_out",
        AvailabilityState::Backorder => "backorder",
    }
}

/// A SKU.
pub fn sku(snapshot: &SkuSnapshot) -> SkuResponse {
    SkuResponse {
        sku: snapshot.sku.to_string(),
        name: snapshot.name.to_string(),
        price: snapshot.price.into(),
        sellable: snapshot.sellable,
        state: availability_state(snapshot.state),
        version: snapshot.version,
    }
}

/// A SKU's availability.
pub fn availability(snapshot: &SkuSnapshot) -> Availability {
    Availability {
        sku: snapshot.sku.to_string(),
        sellable: snapshot.sellable,
        state: availability_state(snapshot.state),
        version: snapshot.version,
    }
}

fn totals(totals: &pricing::Totals) -> Totals {
    Totals {
        subtotal: totals.subtotal.into(),
        discount: totals.discount.into(),
        shipping: totals.shipping.into(),
        tax: totals.tax.into(),
        total: totals.total.into(),
    }
}

fn cart_line(line: &Line) -> CartLine {
    // The cart's totals fit, so each line's does.
    let total =
        line.unit_price.checked_times(line.quantity).unwrap_or(money::Money::zero(line.unit_price.currency));
    CartLine {
        line_id: line.line.to_string(),
        sku: line.sku.to_string(),
        name: line.name.to_string(),
        quantity: line.quantity,
        unit_price: line.unit_price.into(),
        total: total.into(),
    }
}

/// A cart; `token` only in the answer to its creation.
pub fn cart(view: &CartView, token: Option<String>) -> Cart {
    Cart {
        id: view.id.to_string(),
        token,
        state: match view.state {
            CartStateName::Open => "open",
            CartStateName::CheckingOut => "checking_out",
            CartStateName::Ordered => "ordered",
        },
        currency: view.currency.to_string(),
        lines: view.lines.iter().map(cart_line).collect(),
        totals: totals(&view.totals),
        version: view.version,
        expires_at: time::text(view.expires_at),
        order: view.order.map(|order| order.to_string()),
    }
}

/// Wire name of an order's state.
pub fn order_state(state: OrderState) -> &'static str {
    match state {
        OrderState::PendingPayment => "pending_payment",
        OrderState::Paid => "paid",
        OrderState::Fulfilled => "fulfilled",
        OrderState::Completed => "completed",
        OrderState::Cancelled => "cancelled",
        OrderState::PartiallyRefunded => "partially_refunded",
        OrderState::Refunded => "refunded",
    }
}

/// Every state of an order, for filters.
pub const ORDER_STATES: [OrderState; 7] = [
    OrderState::PendingPayment,
    OrderState::Paid,
    OrderState::Fulfilled,
    OrderState::Completed,
    OrderState::Cancelled,
    OrderState::PartiallyRefunded,
    OrderState::Refunded,
];

fn payment_state(state: PaymentState) -> &'static str {
    match state {
        PaymentState::None => "none",
        PaymentState::NotRequired => "not_required",
        PaymentState::Pending => "pending",
        PaymentState::RequiresAction => "requires_action",
        PaymentState::Authorized => "authorized",
        PaymentState::Captured => "captured",
        PaymentState::Declined => "declined",
        PaymentState::Voided => "voided",
        PaymentState::PartiallyRefunded => "partially_refunded",
        PaymentState::Refunded => "refunded",
    }
}

fn address(address: &order::Address) -> Address {
    Address {
        name: address.name.clone(),
        line1: address.line1.clone(),
        line2: address.line2.clone(),
        city: address.city.clone(),
        region: address.region.clone(),
        postal_code: address.postal_code.clone(),
        country: address.country.clone(),
    }
}

/// An order.
pub fn order(view: &OrderView) -> Order {
    Order {
        id: view.id.to_string(),
        number: view.number.clone(),
        cart: view.cart.to_string(),
        state: order_state(view.state),
        lines: view
            .lines
            .iter()
            .map(|line| OrderLine {
                line_id: line.line.to_string(),
                sku: line.sku.to_string(),
                name: line.name.to_string(),
                quantity: line.quantity,
                unit_price: line.unit_price.into(),
                total: line.total.into(),
                fulfilled: line.fulfilled,
                refunded: line.refunded,
            })
            .collect(),
        totals: totals(&view.totals),
        email: view.email.clone(),
        shipping_address: view.shipping_address.as_ref().map(address),
        payment: Payment {
            provider: view.provider.clone(),
            state: payment_state(view.payment_state),
            id: view.payment_id.map(|id| id.to_string()),
            captured: view.captured.into(),
            refunded: view.refunded.into(),
        },
        refunds: view.refunds.iter().map(refund).collect(),
        fulfilments: view.fulfilments.iter().map(fulfilment).collect(),
        created_at: time::text(view.created_at),
        version: view.version,
    }
}

fn line_units(units: &[order::LineUnits]) -> Vec<LineUnits> {
    units
        .iter()
        .map(|units| LineUnits { line_id: units.line.to_string(), quantity: units.quantity })
        .collect()
}

/// A refund.
pub fn refund(view: &RefundView) -> Refund {
    Refund {
        id: view.id.to_string(),
        order: view.order.to_string(),
        amount: view.amount.into(),
        lines: line_units(&view.lines),
        restock: view.restock,
        reason: view.reason.clone(),
        state: match view.state {
            RefundState::Pending => "pending",
            RefundState::Succeeded => "succeeded",
            RefundState::Failed => "failed",
        },
        created_at: time::text(view.created_at),
    }
}

/// A fulfilment.
pub fn fulfilment(view: &FulfilmentView) -> Fulfilment {
    Fulfilment {
        id: view.id.to_string(),
        order: view.order.to_string(),
        lines: line_units(&view.lines),
        tracking: view.tracking.clone(),
        created_at: time::text(view.created_at),
    }
}

/// A step of an order's life.
pub fn timeline_entry(entry: &order::TimelineEntry) -> TimelineEntry {
    TimelineEntry {
        position: entry.position.to_string(),
        at: time::text(entry.at),
        kind: entry.kind.clone(),
        detail: entry.detail.clone(),
    }
}

/// A SKU's stock.
pub fn stock(view: &StockView) -> Stock {
    Stock {
        sku: view.sku.to_string(),
        received: view.received,
        on_hand: view.on_hand,
        reserved: view.reserved,
        available: view.available,
        sellable: view.sellable,
        sold: view.sold,
        version: view.version,
    }
}

/// A movement of a SKU's units.
pub fn ledger_entry(entry: &stock::LedgerEntry) -> LedgerEntry {
    LedgerEntry {
        position: entry.position.to_string(),
        at: time::text(entry.at),
        kind: match entry.kind {
            LedgerKind::Opening => "opening",
            LedgerKind::Adjustment => "adjustment",
            LedgerKind::Count => "count",
            LedgerKind::Sale => "sale",
            LedgerKind::Restock => "restock",
        },
        delta: entry.delta,
        reason: entry.reason.as_deref().map(str::to_owned),
        reference: entry.reference.as_deref().map(str::to_owned),
        reservation: entry.reservation.map(|id| id.to_string()),
    }
}

/// An actor's figures.
pub fn actor(report: &ActorReport) -> Actor {
    let percentiles = |(p50, p99)| Percentiles { p50, p99 };
    Actor {
        kind: report.kind,
        key: report.key.clone(),
        queue_depth: report.queue_depth,
        messages: report.messages,
        rate: report.rate,
        wait_us: percentiles(report.wait_us),
        service_us: percentiles(report.service_us),
        last_activity: time::text(report.last_activity),
        restarts: report.restarts,
    }
}

/// An actor looked into.
pub fn actor_detail(detail: &ActorDetail) -> super::responses::ActorDetail {
    super::responses::ActorDetail {
        actor: actor(&detail.report),
        state: detail.state.clone(),
        recent: detail
            .recent
            .iter()
            .map(|recent| RecentMessage {
                at: time::text(recent.at),
                message: recent.message,
                outcome: recent.outcome,
            })
            .collect(),
        position: detail.position.to_string(),
    }
}

/// Money, for callers outside this module.
pub fn money(money: money::Money) -> Money {
    money.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorbuster_engine::answer;
    use doorbuster_engine::identity::{Fingerprint, Position, ReservationId, Sku, Timestamp};

    #[test]
    fn the_hand_written_reservation_reads_as_its_documented_type() {
        for state in [
            ReservationState::Held,
            ReservationState::Committed,
            ReservationState::Released,
            ReservationState::Expired,
        ] {
            let record = ReservationRecord {
                id: ReservationId(0x0123_4567_89ab_cdef),
                items: vec![
                    answer::Item { sku: Sku::new("TEE M_1.2-x").unwrap(), quantity: 3 },
                    answer::Item { sku: Sku::new("B").unwrap(), quantity: 1_000_000_000 },
                ]
                .into(),
                state,
                created_at: Timestamp(1_000),
                ttl_ms: 600_000,
                expires_at: Timestamp(1_763_718_394_123),
                position: Position(77),
                fingerprint: Fingerprint(0),
                order: None,
            };
            let mut out = Vec::new();
            write_reservation(&mut out, &record, "rct.abc-_");
            let read: Reservation = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, reservation(&record, "rct.abc-_".to_owned()));
            assert_eq!(serde_json::to_vec(&read).unwrap(), out, "field by field the same bytes");
        }
    }
}
