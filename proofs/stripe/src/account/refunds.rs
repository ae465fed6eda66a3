//! Refunds: never more than was captured.

use serde_json::{Value, json};

use super::intents::metadata;
use super::{Account, REFUND_MS, Refund};
use crate::cards::Return;
use crate::failure::Failure;
use crate::form::Form;

impl Account {
    /// `POST /v1/refunds`
    pub(crate) fn create_refund(&mut self, form: &Form) -> Result<String, Failure> {
        form.only(&["amount", "charge", "expand", "metadata", "payment_intent", "reason"])?;
        let reason = form.word("reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
        let amount = form.integer("amount")?;
        let metadata = metadata(form)?;
        let charge = match (form.text("charge")?, form.text("payment_intent")?) {
            (Some(charge), None) => charge.to_owned(),
            (None, Some(intent)) => {
                let known = self.known_intent(intent, 400, "payment_intent")?;
                let said =
                    format!("This PaymentIntent ({intent}) does not have a successful charge to refund.");
                known.latest_charge.clone().ok_or_else(|| Failure::state(None, said))?
            }
            (None, None) => {
                let said = "One of the following params should be provided for this request: payment_intent or charge.";
                return Err(Failure::coded("", "parameter_missing", said));
            }
            (Some(_), Some(_)) => {
                let said = "You may only specify one of these parameters: payment_intent, charge.";
                return Err(Failure::parameter("", said));
            }
        };
        let Some(charged) = self.charges.get(&charge) else {
            return Err(Failure::missing(400, "charge", &charge, "charge"));
        };
        if !charged.captured && charged.amount_refunded == 0 {
            let intent = &charged.intent;
            let said = format!("This PaymentIntent ({intent}) does not have a successful charge to refund.");
            return Err(Failure::state(None, said));
        }
        let left = if charged.captured { charged.amount_captured - charged.amount_refunded } else { 0 };
        if left == 0 {
            let said = format!("Charge {charge} has already been refunded.");
            return Err(Failure::state(Some("charge_already_refunded"), said));
        }
        let amount = amount.unwrap_or(left);
        if amount < 1 {
            let said = "This value must be greater than or equal to 1.";
            return Err(Failure::coded("amount", "parameter_invalid_integer", said));
        }
        if amount > left {
            let said =
                format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
            let mut failure = Failure::state(None, said);
            failure.param = Some("amount".to_owned());
            return Err(failure);
        }
        let before = json!({
            "amount_refunded": charged.amount_refunded,
            "refunded": false,
        });
        let refund = Refund {
            id: self.ids.id("re"),
            charge: charge.clone(),
            intent: charged.intent.clone(),
            created_ms: self.now_ms,
            amount,
            currency: charged.currency.clone(),
            reason: reason.map(str::to_owned),
            metadata,
            status: match charged.method.1.refunds {
                Return::Late => "pending",
                Return::AtOnce | Return::Fails => "succeeded",
            },
        };
        if charged.method.1.refunds != Return::AtOnce {
            self.returning.insert((self.now_ms.saturating_add(REFUND_MS), refund.id.clone()));
        }
        let charged = &mut self.charges[&charge];
        charged.amount_refunded += amount;
        assert!(charged.amount_refunded <= charged.amount_captured, "Invariant: refunded <= captured");
        let id = refund.id.clone();
        let object = self.refund_object(&refund, false, false);
        self.refunds.insert(id.clone(), refund);
        self.happened("refund.created", object, None);
        self.happened_to_charge("charge.refunded", &charge, Some(before));
        Ok(id)
    }

    /// A refund that was under way arrives, or comes back.
    pub(super) fn end_refund(&mut self, id: &str) {
        let refund = &mut self.refunds[id];
        let charged = &mut self.charges[&refund.charge];
        let fails = charged.method.1.refunds == Return::Fails;
        refund.status = if fails { "failed" } else { "succeeded" };
        if fails {
            charged.amount_refunded -= refund.amount;
        }
        let object = self.refund_object(&self.refunds[id], false, false);
        self.happened(if fails { "refund.failed" } else { "refund.updated" }, object, None);
    }

    /// The refund as the caller gets it.
    pub(crate) fn show_refund(&self, id: &str, form: &Form) -> Result<Value, Failure> {
        let expand = super::lists::expands(&form.list("expand")?, &["charge", "payment_intent"])?;
        let refund = self.refunds.get(id).ok_or_else(|| Failure::missing(404, "refund", id, "id"))?;
        Ok(self.refund_object(refund, expand[0], expand[1]))
    }
}
