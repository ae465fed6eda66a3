//! Orders, payments and events as PayPal writes them.

use serde_json::{Value, json};

use crate::account::{Account, Failure, Kind, Order, Payment};

/// Where the shopper approves.
pub(crate) fn page(base: &str, order: &str) -> String {
    format!("{base}/checkoutnow?token={order}")
}

/// An order with all that became of it.
pub(crate) fn order(account: &Account, order: &Order) -> Value {
    let base = &account.base;
    let own = format!("{base}/v2/checkout/orders/{}", order.id);
    let mut links = vec![json!({"href": own, "rel": "self", "method": "GET"})];
    if ["CREATED", "PAYER_ACTION_REQUIRED"].contains(&order.status.as_str()) {
        let rel = if order.by_source { "payer-action" } else { "approve" };
        links.push(json!({"href": page(base, &order.id), "rel": rel, "method": "GET"}));
    }
    let payments = |kind: Kind| -> Vec<Value> {
        let of_order = account.payments.values().filter(|it| it.order == order.id && it.kind == kind);
        of_order.map(|it| payment(account, it)).collect()
    };
    let mut unit = json!({
        "reference_id": "default",
        "amount": {
            "currency_code": order.amount.currency_code,
            "value": order.amount.value,
            // As PayPal sends it in events: an empty object that a careless rewriting turns into an empty list.
            "breakdown": {},
        },
        "custom_id": order.custom_id,
        "invoice_id": order.invoice_id,
    });
    let lists = [
        ("authorizations", payments(Kind::Authorization)),
        ("captures", payments(Kind::Capture)),
        ("refunds", payments(Kind::Refund)),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            unit["payments"][name] = Value::Array(list);
        }
    }
    json!({
        "id": order.id,
        "intent": order.intent,
        "status": order.status,
        "purchase_units": [unit],
        "create_time": order.created,
        "links": links,
    })
}

/// An authorization, a capture or a refund.
pub(crate) fn payment(account: &Account, payment: &Payment) -> Value {
    let base = &account.base;
    let mut shown = json!({
        "id": payment.id,
        "status": payment.status,
        "amount": payment.amount,
        "create_time": payment.created,
        "supplementary_data": {"related_ids": {"order_id": payment.order}},
        "links": [{"href": format!("{base}/v2/checkout/orders/{}", payment.order), "rel": "up", "method": "GET"}],
    });
    if !payment.custom_id.is_empty() {
        shown["custom_id"] = json!(payment.custom_id);
    }
    if payment.status == "PENDING" {
        shown["status_details"] = json!({"reason": "PENDING_REVIEW"});
    }
    shown
}

/// An event, written with spaces and a float that a rewriting would change.
pub(crate) fn event(id: &str, kind: &str, resource_type: &str, resource: &Value) -> String {
    format!(
        "{{\"id\":\"{id}\", \"event_version\":\"1.0\",\"zts\":1.0,\"resource_type\":\"{resource_type}\",\
         \"event_type\":\"{kind}\",\"resource\":{resource} }}"
    )
}

/// A refusal.
pub(crate) fn failure(failure: &Failure) -> Value {
    let mut shown = json!({
        "name": failure.name,
        "message": "The stand-in refuses.",
        "debug_id": "standin",
        "details": [{"issue": failure.issue}],
    });
    if let Some(page) = &failure.page {
        shown["links"] = json!([{"href": page, "rel": "approve", "method": "GET"}]);
    }
    shown
}
