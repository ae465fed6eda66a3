//! Holds a provider's books against the orders: what does not agree is told to the order where that mends it, and reported.
//!
//! Nothing is repaired by hand here. An order that hears how its payment stands does what it would have done, had a webhook
//! told it (law 7: unwanted money goes back; law 8: an open payment becomes definite). What an order cannot mend by itself
//! (amounts that differ, a payment that the provider does not know) is for people.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::order::{OrderState, OrderView, PaymentState, RefundState};
use doorbuster_engine::payment::{PaymentNews, PaymentRecord, Standing};

/// What did not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// The provider has a payment of ours whose order this engine does not know.
    PaymentWithoutOrder,
    /// The order has money that the provider's list does not show.
    OrderWithoutPayment,
    /// The provider holds money for an order that does not want it, or a second time.
    UnwantedPayment,
    /// The order does not know yet how its payment stands.
    OrderBehind,
    /// Both know the payment, over different amounts.
    AmountDiffers,
    /// Both know the payment, and what went back of it differs.
    RefundDiffers,
}

impl FindingKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::PaymentWithoutOrder,
        Self::OrderWithoutPayment,
        Self::UnwantedPayment,
        Self::OrderBehind,
        Self::AmountDiffers,
        Self::RefundDiffers,
    ];

    /// Its name on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::PaymentWithoutOrder => "payment_without_order",
            Self::OrderWithoutPayment => "order_without_payment",
            Self::UnwantedPayment => "unwanted_payment",
            Self::OrderBehind => "order_behind",
            Self::AmountDiffers => "amount_differs",
            Self::RefundDiffers => "refund_differs",
        }
    }

    /// Whether telling the order mends it.
    pub fn is_mended_by_telling(self) -> bool {
        matches!(self, Self::UnwantedPayment | Self::OrderBehind)
    }
}

/// One thing that did not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The order, where one is named.
    pub order: Option<OrderId>,
    /// The provider's name for the payment, where there is one.
    pub reference: Option<String>,
    /// In words, safe to show.
    pub detail: String,
    /// Whether the order was told and mends it.
    pub repaired: bool,
}

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciliation {
    /// Whose books.
    pub provider: String,
    /// From when on.
    pub since: Timestamp,
    /// Payments that the provider's list showed, ours or not.
    pub payments: usize,
    /// Orders that were compared.
    pub orders: usize,
    /// Whether both lists were read to their end; else this speaks only of what was read.
    pub complete: bool,
    /// What did not agree.
    pub findings: Vec<Finding>,
}

/// What one payment, or one order without any, says; and what the order is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) finding: Finding,
    pub(crate) tell: Option<PaymentNews>,
}

/// The provider's payments of one order against the order.
pub(crate) fn compare(order: OrderId, view: Option<&OrderView>, records: &[PaymentRecord]) -> Vec<Compared> {
    let Some(view) = view else {
        let unknown = records.iter().filter(|record| is_live(record)).map(|record| {
            let detail = format!(
                "{} of {}, made for an order that this engine does not have",
                name(record.standing),
                record.amount
            );
            compared(FindingKind::PaymentWithoutOrder, order, record, detail, false)
        });
        return unknown.collect();
    };
    let mut found = Vec::new();
    let live: Vec<&PaymentRecord> = records.iter().filter(|record| is_live(record)).collect();
    for record in &live {
        if record.amount != view.totals.total {
            let detail =
                format!("the payment is over {}, the order over {}", record.amount, view.totals.total);
            found.push(compared(FindingKind::AmountDiffers, order, record, detail, false));
            continue;
        }
        let behind = match view.state {
            OrderState::PendingPayment => true,
            OrderState::Paid
            | OrderState::Fulfilled
            | OrderState::Completed
            | OrderState::PartiallyRefunded
            | OrderState::Refunded
            | OrderState::Cancelled => {
                view.payment_state == PaymentState::Authorized && record.standing == Standing::Captured
            }
        };
        if behind {
            let detail =
                format!("the provider says {}, the order {}", name(record.standing), view.state.name());
            found.push(compared(FindingKind::OrderBehind, order, record, detail, true));
        } else if keeps_nothing(view) && record.captured > record.refunded
            || keeps_nothing(view) && record.standing == Standing::Authorized
        {
            let detail = format!("{} of {}, but the order is off", name(record.standing), record.amount);
            found.push(compared(FindingKind::UnwantedPayment, order, record, detail, true));
        }
    }
    // Which of two is the order's own, the order itself knows: it is told of all, and sends back the others.
    let kept: Vec<&&PaymentRecord> = live
        .iter()
        .filter(|record| record.standing == Standing::Authorized || record.captured > record.refunded)
        .collect();
    if kept.len() > 1 && !keeps_nothing(view) {
        for record in &kept {
            let detail = format!("one of {} payments for the same order", kept.len());
            found.push(compared(FindingKind::UnwantedPayment, order, record, detail, true));
        }
    }
    if let [record] = kept.as_slice()
        && found.is_empty()
        && view.captured.amount > 0
    {
        let pending = view.refunds.iter().any(|refund| refund.state == RefundState::Pending);
        if record.captured != view.captured.amount {
            let detail = format!("{} captured, the order says {}", record.captured, view.captured);
            found.push(compared(FindingKind::AmountDiffers, order, record, detail, false));
        } else if record.refunded != view.refunded.amount && !pending {
            let detail = format!("{} given back, the order says {}", record.refunded, view.refunded);
            found.push(compared(FindingKind::RefundDiffers, order, record, detail, false));
        }
    }
    found
}

/// Orders whose money should be in the provider's list and is not.
pub(crate) fn without_payment(views: &[OrderView], listed: &BTreeSet<OrderId>) -> Vec<Finding> {
    views
        .iter()
        .filter(|view| !listed.contains(&view.id))
        .filter(|view| view.captured.amount > 0 || view.payment_state == PaymentState::Authorized)
        .map(|view| Finding {
            kind: FindingKind::OrderWithoutPayment,
            order: Some(view.id),
            reference: None,
            detail: format!(
                "the order is {} with {} captured; the provider's list has no payment for it",
                view.state.name(),
                view.captured
            ),
            repaired: false,
        })
        .collect()
}

/// The provider's payments by the order they are for.
pub(crate) fn by_order(records: Vec<PaymentRecord>) -> BTreeMap<OrderId, Vec<PaymentRecord>> {
    let mut orders: BTreeMap<OrderId, Vec<PaymentRecord>> = BTreeMap::new();
    for record in records {
        if let Some(order) = record.order {
            orders.entry(order).or_default().push(record);
        }
    }
    orders
}

fn is_live(record: &PaymentRecord) -> bool {
    match record.standing {
        Standing::Authorized | Standing::Captured => true,
        Standing::Open | Standing::Cancelled => false,
    }
}

/// Whether the order wants no money: it is off, and what it had went back.
fn keeps_nothing(view: &OrderView) -> bool {
    let owes = view.refunds.iter().any(|refund| refund.state == RefundState::Pending);
    view.state == OrderState::Cancelled && !owes
}

fn compared(
    kind: FindingKind,
    order: OrderId,
    record: &PaymentRecord,
    detail: String,
    tells: bool,
) -> Compared {
    let news = PaymentNews {
        order,
        reference: record.reference.clone(),
        amount: record.amount,
        standing: record.standing,
    };
    let reference = Some(record.reference.clone());
    let finding = Finding { kind, order: Some(order), reference, detail, repaired: false };
    Compared { finding, tell: tells.then_some(news) }
}

fn name(standing: Standing) -> &'static str {
    match standing {
        Standing::Open => "open",
        Standing::Authorized => "authorized",
        Standing::Captured => "captured",
        Standing::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests;
