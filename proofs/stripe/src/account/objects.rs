//! Objects as Stripe writes them: every field that the types of `async-stripe` 1.0.0-rc.10 require, and those that
//! merchants read. What the stand-in does not keep is `null`, as with Stripe where it is unset.

use serde_json::{Value, json};

use super::{Account, Charge, Event, Intent, Refund, Status};

/// The version of the API whose objects these are.
pub(crate) const API_VERSION: &str = "2026-09-30.endive";

impl Account {
    pub(super) fn intent_object(&self, intent: &Intent, with_charge: bool) -> Value {
        let charge = intent.latest_charge.as_ref();
        let latest_charge = match charge {
            Some(id) if with_charge => self.charge_object(&self.charges[id]),
            _ => json!(charge),
        };
        let automatic = intent.automatic_methods.map(|redirects| {
            json!({"enabled": true, "allow_redirects": if redirects { "always" } else { "never" }})
        });
        json!({
            "id": intent.id,
            "object": "payment_intent",
            "allowed_payment_method_types": intent.types_allowed.then_some(&intent.method_types),
            "amount": intent.amount,
            "amount_capturable": intent.amount_capturable,
            "amount_details": {"tip": {}},
            "amount_received": intent.amount_received,
            "application": null,
            "application_fee_amount": null,
            "automatic_payment_methods": automatic,
            "canceled_at": intent.canceled_ms.map(seconds),
            "cancellation_reason": intent.cancellation_reason,
            "capture_method": intent.capture_method,
            "client_secret": intent.client_secret,
            "confirmation_method": intent.confirmation_method,
            "created": seconds(intent.created_ms),
            "currency": intent.currency,
            "customer": null,
            "description": intent.description,
            "last_payment_error": intent.last_error,
            "latest_charge": latest_charge,
            "livemode": self.livemode,
            "metadata": intent.metadata,
            "next_action": self.next_action(intent),
            "on_behalf_of": null,
            "payment_method": intent.method.as_ref().map(|(id, _)| id),
            "payment_method_configuration_details": null,
            "payment_method_options": {},
            "payment_method_types": intent.method_types,
            "processing": null,
            "receipt_email": intent.receipt_email,
            "review": null,
            "setup_future_usage": null,
            "shipping": null,
            "source": null,
            "statement_descriptor": intent.statement_descriptor,
            "statement_descriptor_suffix": intent.statement_descriptor_suffix,
            "status": intent.status.name(),
            "transfer_data": null,
            "transfer_group": intent.transfer_group,
        })
    }

    /// What the customer has to do: go to a page where the merchant said where to come back, else run Stripe's script.
    fn next_action(&self, intent: &Intent) -> Value {
        if intent.status != Status::RequiresAction {
            return Value::Null;
        }
        let url = format!("{}/_stand-in/payment_intents/{}/authenticate", self.base_url, intent.id);
        match &intent.return_url {
            Some(back) => json!({
                "type": "redirect_to_url",
                "redirect_to_url": {"return_url": back, "url": url},
            }),
            None => json!({
                "type": "use_stripe_sdk",
                "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": url},
            }),
        }
    }

    pub(super) fn charge_object(&self, charge: &Charge) -> Value {
        let (method, card) = &charge.method;
        let approved = charge.approved == Some(true);
        let returned = if charge.captured { charge.amount_captured } else { charge.amount };
        let status = match charge.approved {
            Some(true) => "succeeded",
            Some(false) => "failed",
            None => "pending",
        };
        let (failure_code, decline, said) = match &charge.failure {
            Some((code, decline, said)) => (Some(code), decline.as_ref(), Some(said)),
            None => (None, None, None),
        };
        let outcome = charge.approved.map(|_| {
            json!({
                "type": if approved { "authorized" } else { "issuer_declined" },
                "network_status": if approved { "approved_by_network" } else { "declined_by_network" },
                "reason": decline.or(failure_code),
                "risk_level": "normal",
                "seller_message": if approved { "Payment complete." } else { "The bank declined the payment." },
            })
        });
        let details = if card.kind() == "card" {
            json!({"type": "card", "card": {
                "brand": card.brand,
                "country": "GB",
                "exp_month": 12,
                "exp_year": 2034,
                "funding": "credit",
                "last4": card.last4,
                "network": card.brand,
            }})
        } else {
            json!({"type": card.kind(), card.kind(): {"last4": card.last4}})
        };
        json!({
            "id": charge.id,
            "object": "charge",
            "amount": charge.amount,
            "amount_captured": charge.amount_captured,
            "amount_refunded": charge.amount_refunded,
            "application": null,
            "application_fee": null,
            "application_fee_amount": null,
            "balance_transaction": null,
            "billing_details": {"address": null, "email": null, "name": null, "phone": null, "tax_id": null},
            "captured": charge.captured,
            "created": seconds(charge.created_ms),
            "currency": charge.currency,
            "customer": null,
            "description": null,
            "disputed": false,
            "failure_balance_transaction": null,
            "failure_code": failure_code,
            "failure_message": said,
            "fraud_details": {},
            "livemode": self.livemode,
            "metadata": charge.metadata,
            "on_behalf_of": null,
            "outcome": outcome,
            "paid": approved,
            "payment_intent": charge.intent,
            "payment_method": method,
            "payment_method_details": details,
            "receipt_email": null,
            "receipt_number": null,
            "receipt_url": null,
            "refunded": approved && charge.amount_refunded == returned,
            "review": null,
            "shipping": null,
            "source": null,
            "statement_descriptor": null,
            "statement_descriptor_suffix": null,
            "status": status,
            "transfer_data": null,
            "transfer_group": null,
        })
    }

    pub(super) fn refund_object(&self, refund: &Refund, with_charge: bool, with_intent: bool) -> Value {
        let charge = match self.charges.get(&refund.charge) {
            Some(charge) if with_charge => self.charge_object(charge),
            _ => json!(refund.charge),
        };
        let intent = match self.intents.get(&refund.intent) {
            Some(intent) if with_intent => self.intent_object(intent, false),
            _ => json!(refund.intent),
        };
        let mut object = json!({
            "id": refund.id,
            "object": "refund",
            "amount": refund.amount,
            "balance_transaction": null,
            "charge": charge,
            "created": seconds(refund.created_ms),
            "currency": refund.currency,
            "destination_details": null,
            "metadata": refund.metadata,
            "payment_intent": intent,
            "reason": refund.reason,
            "receipt_number": null,
            "source_transfer_reversal": null,
            "status": refund.status,
            "transfer_reversal": null,
        });
        // Left out where a refund did not fail, as Stripe does.
        if refund.status == "failed" {
            object["failure_reason"] = json!("declined");
        }
        object
    }

    pub(super) fn event_object(&self, event: &Event) -> Value {
        let mut data = json!({"object": event.object});
        if let Some(previous) = &event.previous {
            data["previous_attributes"] = previous.clone();
        }
        json!({
            "id": event.id,
            "object": "event",
            "api_version": API_VERSION,
            "created": seconds(event.created_ms),
            "data": data,
            "livemode": self.livemode,
            "pending_webhooks": i64::from(event.pending),
            "request": {"id": event.request, "idempotency_key": event.idempotency_key},
            "type": event.kind,
        })
    }
}

/// Stripe counts seconds.
pub(super) fn seconds(at_ms: u64) -> u64 {
    at_ms / 1_000
}
