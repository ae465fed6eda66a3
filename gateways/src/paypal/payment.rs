//! The calls that move money. Each reads the order first, unless it makes it, and does what its stage allows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{
    CaptureOutcome, ChargeOutcome, ChargeRequest, NextAction, RefundOutcome, VoidOutcome,
};
use serde_json::json;

use super::door::{Call, Failed, Refusal};
use super::judge::{
    FORBIDDEN, NOTHING_HELD, Stage, WENT_ON, approval_page, declined, is_payers, plainly, reason, stage,
};
use super::wire::{Order, Payment, is_id};
use super::{Core, amounts, shop_page};

/// PayPal drops an order that nobody approves after three hours; a missing one that is younger was made in another
/// account.
const UNAPPROVED_KEPT: Duration = Duration::from_secs(3 * 60 * 60);

/// What became of reading an order.
enum Read {
    /// The order, and how far it is.
    Order(Order, Stage),
    /// PayPal does not know it.
    Missing,
    /// Nothing definite, or not this payment's order.
    Unknown,
}

impl Core {
    /// Creates the order, or finds the one that was created under this key.
    pub(super) async fn authorize(&self, request: &ChargeRequest) -> ChargeOutcome {
        let Ok(amount) = amounts::write(request.amount) else {
            return declined("DECIMALS_NOT_SUPPORTED");
        };
        let order = request.order.to_string();
        let body = json!({
            "intent": "AUTHORIZE",
            "purchase_units": [{ "custom_id": order, "invoice_id": order, "amount": amount }],
            "payment_source": { "paypal": { "experience_context": {
                // The page says «pay now»: the order is final, and we authorize as soon as the shopper is back.
                "user_action": "PAY_NOW",
                // The address is the order's own business; one chosen at PayPal would be lost.
                "shipping_preference": "NO_SHIPPING",
                // No e-cheque: units are not pinned for days while a bank makes up its mind.
                "payment_method_preference": "IMMEDIATE_PAYMENT_REQUIRED",
                "return_url": shop_page(&self.options.return_url, request.order),
                "cancel_url": shop_page(&self.options.cancel_url, request.order),
            }}},
        });
        match self.door.ask::<Order>(&Call::post("/v2/checkout/orders", &request.key, &body)).await {
            Ok(order) => match mine(request, order) {
                Read::Order(order, Stage::Approved) => self.take(request, &order).await,
                Read::Order(order, stage) => told(&order, stage),
                Read::Missing | Read::Unknown => ChargeOutcome::Unknown,
            },
            Err(Failed::Refused(refusal)) if refusal.is_missing() => {
                tracing::error!("PayPal's API is not at the API base; see Options::api_base");
                ChargeOutcome::Unknown
            }
            // Made before with other words (a return URL that was changed since): nobody was shown that order, so a
            // new attempt under a new key is safe, and this one is over.
            Err(Failed::Refused(refusal)) if refusal.names(&["DUPLICATE_REQUEST_ID"]) => {
                ChargeOutcome::Declined {
                    reason: "PayPal could not be asked again; pay anew".to_owned(),
                    retryable: true,
                }
            }
            Err(Failed::Refused(refusal)) => {
                blame(&refusal, "create an order");
                declined(refusal.issue())
            }
            Err(Failed::Silent) => ChargeOutcome::Unknown,
        }
    }

    /// Reads the order, and authorizes it if the shopper has approved.
    pub(super) async fn go_on(&self, request: &ChargeRequest, reference: &str) -> ChargeOutcome {
        match self.read(request, reference).await {
            Read::Order(order, Stage::Approved) => self.take(request, &order).await,
            Read::Order(order, stage) => told(&order, stage),
            Read::Missing if ran_out(request, reference) => declined("ORDER_EXPIRED"),
            Read::Missing | Read::Unknown => ChargeOutcome::Unknown,
        }
    }

    /// Authorizes an approved order.
    async fn take(&self, request: &ChargeRequest, order: &Order) -> ChargeOutcome {
        let path = format!("/v2/checkout/orders/{}/authorize", order.id);
        let key = format!("{}:authorize:{}", request.key, order.id);
        let refusal = match self.door.ask::<Order>(&Call::post(&path, &key, &json!({}))).await {
            Ok(taken) => {
                let stage = stage(&taken);
                return told(&taken, stage);
            }
            Err(Failed::Refused(refusal)) => refusal,
            Err(Failed::Silent) => return ChargeOutcome::Unknown,
        };
        if refusal.names(&["ORDER_NOT_APPROVED", "PAYER_ACTION_REQUIRED"]) {
            return waiting(&order.id, approval_page(&refusal.links).or_else(|| approval_page(&order.links)));
        }
        if refusal.names(&WENT_ON) || refusal.is_missing() {
            // Once only: whoever asks again reads again.
            return match self.read(request, &order.id).await {
                Read::Order(order, stage) => told(&order, stage),
                Read::Missing | Read::Unknown => ChargeOutcome::Unknown,
            };
        }
        blame(&refusal, "authorize a payment");
        declined(refusal.issue())
    }

    /// Captures the order's authorization, all of it.
    pub(super) async fn capture(&self, request: &ChargeRequest, reference: &str) -> CaptureOutcome {
        let authorization = match self.read(request, reference).await {
            Read::Order(_, Stage::Held { authorization } | Stage::Examined { authorization }) => {
                authorization
            }
            Read::Order(_, stage) => return kept(reference, &stage),
            Read::Missing => {
                tracing::error!(
                    reference,
                    "PayPal does not know a payment that is to be captured: {ANOTHER_ACCOUNT}"
                );
                return CaptureOutcome::Unknown;
            }
            Read::Unknown => return CaptureOutcome::Unknown,
        };
        let Ok(amount) = amounts::write(request.amount) else { return CaptureOutcome::Unknown };
        let path = format!("/v2/payments/authorizations/{authorization}/capture");
        let key = format!("{}:capture:{authorization}", request.key);
        let body = json!({ "amount": amount, "final_capture": true });
        let refusal = match self.door.ask::<Payment>(&Call::post(&path, &key, &body)).await {
            Ok(capture) => {
                return match capture.status.as_str() {
                    "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED" => CaptureOutcome::Captured,
                    "DECLINED" | "FAILED" => {
                        self.give_up(request, &authorization, "INSTRUMENT_DECLINED").await
                    }
                    _ => kept(reference, &Stage::Arriving { reason: reason(&capture) }),
                };
            }
            Err(Failed::Refused(refusal)) => refusal,
            Err(Failed::Silent) => return CaptureOutcome::Unknown,
        };
        let issue = refusal.issue();
        if refusal.names(&NOTHING_HELD) {
            return lost("the payment was cancelled or ran out at PayPal");
        }
        if refusal.names(&WENT_ON) {
            return match self.read(request, reference).await {
                Read::Order(_, stage) => kept(reference, &stage),
                Read::Missing | Read::Unknown => CaptureOutcome::Unknown,
            };
        }
        if is_payers(issue) {
            return self.give_up(request, &authorization, issue).await;
        }
        tracing::error!(
            reference,
            issue,
            "PayPal refuses a capture, and it will be asked again; see the app and account"
        );
        CaptureOutcome::Unknown
    }

    /// Lets go of an authorization whose capture was refused, so that «lost» stays true.
    async fn give_up(&self, request: &ChargeRequest, authorization: &str, issue: &str) -> CaptureOutcome {
        match self.let_go(request, authorization, "").await {
            VoidOutcome::Voided => lost(plainly(issue).0),
            VoidOutcome::AlreadyCaptured { .. } => CaptureOutcome::Captured,
            VoidOutcome::Unknown => CaptureOutcome::Unknown,
        }
    }

    /// Makes sure that nothing is held and nothing can be.
    pub(super) async fn void(&self, request: &ChargeRequest, reference: &str) -> VoidOutcome {
        let first = match self.read(request, reference).await {
            Read::Order(_, stage) => stage,
            Read::Missing if ran_out(request, reference) => return VoidOutcome::Voided,
            Read::Missing | Read::Unknown => return VoidOutcome::Unknown,
        };
        if !matches!(first, Stage::Waiting { .. } | Stage::Approved) {
            return self.end(request, reference, first).await;
        }
        let path = format!("/v2/checkout/orders/{reference}");
        let change = json!([{ "op": "replace", "path": "/intent", "value": FORBIDDEN }]);
        let body = Some(change.to_string().into_bytes());
        let call = Call { method: reqwest::Method::PATCH, path: &path, key: None, body };
        match self.door.tell(&call).await {
            Ok(()) => VoidOutcome::Voided,
            Err(Failed::Silent) => VoidOutcome::Unknown,
            // An authorization was under way and came first, or PayPal does not let this order be changed.
            Err(Failed::Refused(_)) => match self.read(request, reference).await {
                // Nothing is held, and authorizing is ours alone (law 2).
                Read::Order(_, Stage::Waiting { .. } | Stage::Approved) => VoidOutcome::Voided,
                Read::Order(_, stage) => self.end(request, reference, stage).await,
                Read::Missing | Read::Unknown => VoidOutcome::Unknown,
            },
        }
    }

    async fn end(&self, request: &ChargeRequest, reference: &str, stage: Stage) -> VoidOutcome {
        match stage {
            Stage::Held { authorization } | Stage::Examined { authorization } => {
                self.let_go(request, &authorization, reference).await
            }
            Stage::Captured { .. } => VoidOutcome::AlreadyCaptured { reference: reference.to_owned() },
            Stage::Denied | Stage::Over => VoidOutcome::Voided,
            Stage::Waiting { .. } | Stage::Approved | Stage::Arriving { .. } | Stage::Strange => {
                VoidOutcome::Unknown
            }
        }
    }

    /// Voids an authorization.
    async fn let_go(&self, request: &ChargeRequest, authorization: &str, reference: &str) -> VoidOutcome {
        let path = format!("/v2/payments/authorizations/{authorization}/void");
        let key = format!("{}:void:{authorization}", request.key);
        match self.door.tell(&Call::post(&path, &key, &json!({}))).await {
            Ok(()) => VoidOutcome::Voided,
            Err(Failed::Refused(refusal)) if refusal.names(&NOTHING_HELD) => VoidOutcome::Voided,
            Err(Failed::Refused(refusal))
                if refusal.names(&["PREVIOUSLY_CAPTURED", "AUTHORIZATION_ALREADY_CAPTURED"]) =>
            {
                VoidOutcome::AlreadyCaptured { reference: reference.to_owned() }
            }
            Err(Failed::Refused(refusal)) => {
                tracing::error!(
                    authorization,
                    issue = refusal.issue(),
                    "PayPal refuses to void, and will be asked again"
                );
                VoidOutcome::Unknown
            }
            Err(Failed::Silent) => VoidOutcome::Unknown,
        }
    }

    /// Gives some of the capture back.
    pub(super) async fn refund(
        &self,
        request: &ChargeRequest,
        reference: &str,
        key: &str,
        amount: Money,
    ) -> RefundOutcome {
        let refused = |reason: &str| RefundOutcome::Refused { reason: reason.to_owned() };
        if amount.currency != request.amount.currency || amount.amount <= 0 {
            return refused("a refund is more than zero, in the payment's currency");
        }
        let Ok(wire) = amounts::write(amount) else {
            return refused(plainly("DECIMALS_NOT_SUPPORTED").0);
        };
        let capture = match self.read(request, reference).await {
            Read::Order(order, stage) => {
                if let Some(found) = refund_under(&order, key) {
                    return refunded(found);
                }
                match stage {
                    Stage::Captured { capture } => capture,
                    Stage::Arriving { .. } => return refused(plainly("PENDING_CAPTURE").0),
                    Stage::Waiting { .. }
                    | Stage::Approved
                    | Stage::Held { .. }
                    | Stage::Examined { .. }
                    | Stage::Denied
                    | Stage::Over => return refused("the payment was not captured"),
                    Stage::Strange => return RefundOutcome::Unknown,
                }
            }
            Read::Missing => {
                tracing::error!(
                    reference,
                    "PayPal does not know a payment that is to be refunded: {ANOTHER_ACCOUNT}"
                );
                return RefundOutcome::Unknown;
            }
            Read::Unknown => return RefundOutcome::Unknown,
        };
        let path = format!("/v2/payments/captures/{capture}/refund");
        // The key also goes where it can be read again: PayPal forgets request ids after 45 days, and takes refunds for 180.
        let body = json!({ "amount": wire, "custom_id": key });
        match self.door.ask::<Payment>(&Call::post(&path, key, &body)).await {
            Ok(refund) => refunded(&refund),
            Err(Failed::Refused(refusal)) if refusal.names(&WENT_ON) => RefundOutcome::Unknown,
            Err(Failed::Refused(refusal)) => {
                blame(&refusal, "refund a payment");
                refused(plainly(refusal.issue()).0)
            }
            Err(Failed::Silent) => RefundOutcome::Unknown,
        }
    }

    async fn read(&self, request: &ChargeRequest, reference: &str) -> Read {
        if !is_id(reference) {
            tracing::error!(reference, "this is no name that PayPal gives");
            return Read::Unknown;
        }
        match self.door.ask::<Order>(&Call::get(&format!("/v2/checkout/orders/{reference}"))).await {
            Ok(order) => mine(request, order),
            Err(Failed::Refused(refusal)) if refusal.is_missing() => Read::Missing,
            Err(Failed::Refused(_) | Failed::Silent) => Read::Unknown,
        }
    }
}

/// Takes an order only if it is the one for this payment.
fn mine(request: &ChargeRequest, order: Order) -> Read {
    let named = order.purchase_units.iter().find_map(|unit| unit.custom_id.as_deref());
    if named.is_some_and(|named| named != request.order.to_string()) || !is_id(&order.id) {
        tracing::error!(paypal = order.id, order = %request.order, "PayPal's order is for another order of ours");
        return Read::Unknown;
    }
    let stage = stage(&order);
    if stage == Stage::Strange {
        tracing::error!(
            paypal = order.id,
            status = order.status,
            "PayPal's order is in a state we do not know"
        );
    }
    Read::Order(order, stage)
}

/// What to do where PayPal lacks a payment that it must have.
const ANOTHER_ACCOUNT: &str = "is this the account, and the kind (live or sandbox), in which it was made?";

/// Whether a missing order is one that ran out. A younger one must be there: then we are in another account, and know
/// nothing.
fn ran_out(request: &ChargeRequest, reference: &str) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ran_out = Duration::from_millis(request.asked_at.0).saturating_add(UNAPPROVED_KEPT) <= now;
    if !ran_out {
        tracing::error!(
            reference,
            "PayPal does not know an order of less than three hours: {ANOTHER_ACCOUNT}"
        );
    }
    ran_out
}

/// What a stage tells of a charge. Nothing is done about an approved order here.
fn told(order: &Order, stage: Stage) -> ChargeOutcome {
    let reference = order.id.clone();
    match stage {
        Stage::Waiting { page } => waiting(&order.id, page),
        Stage::Held { .. } | Stage::Arriving { .. } => ChargeOutcome::Authorized { reference },
        Stage::Captured { .. } => ChargeOutcome::Captured { reference },
        Stage::Denied => declined("INSTRUMENT_DECLINED"),
        Stage::Over => ChargeOutcome::Declined {
            reason: "the payment was cancelled or ran out at PayPal".to_owned(),
            retryable: true,
        },
        Stage::Approved | Stage::Examined { .. } | Stage::Strange => ChargeOutcome::Unknown,
    }
}

fn waiting(order: &str, page: Option<String>) -> ChargeOutcome {
    match page {
        Some(page) => {
            ChargeOutcome::ActionRequired { reference: order.to_owned(), action: NextAction::Redirect(page) }
        }
        None => {
            tracing::error!(order, "PayPal names no page at which this order can be approved");
            ChargeOutcome::Unknown
        }
    }
}

/// What a stage tells of a capture that is not to be asked for now.
fn kept(reference: &str, stage: &Stage) -> CaptureOutcome {
    match stage {
        Stage::Captured { .. } => CaptureOutcome::Captured,
        Stage::Denied | Stage::Over => lost("the payment was cancelled or ran out at PayPal"),
        Stage::Arriving { reason } => {
            tracing::warn!(
                reference,
                reason,
                "a captured payment has not arrived at PayPal; see the account"
            );
            CaptureOutcome::Unknown
        }
        Stage::Waiting { .. } | Stage::Approved => {
            tracing::error!(reference, "a payment is to be captured that PayPal does not hold");
            CaptureOutcome::Unknown
        }
        Stage::Held { .. } | Stage::Examined { .. } | Stage::Strange => CaptureOutcome::Unknown,
    }
}

fn lost(reason: &str) -> CaptureOutcome {
    CaptureOutcome::Lost { reason: reason.to_owned() }
}

/// The refund that was made under a key, if any.
fn refund_under<'order>(order: &'order Order, key: &str) -> Option<&'order Payment> {
    let mut refunds = order.purchase_units.iter().flat_map(|unit| &unit.payments.refunds);
    refunds.find(|refund| refund.custom_id.as_deref() == Some(key))
}

fn refunded(refund: &Payment) -> RefundOutcome {
    match refund.status.as_str() {
        // Pending ones wait for the shop's bank, and no longer for us.
        "COMPLETED" | "PENDING" => RefundOutcome::Refunded { reference: refund.id.clone() },
        "CANCELLED" | "FAILED" => {
            RefundOutcome::Refused { reason: "PayPal could not pay the refund".to_owned() }
        }
        _ => RefundOutcome::Unknown,
    }
}

/// Says loudly what is the shop's own fault: the shopper can do nothing about it.
fn blame(refusal: &Refusal, what: &str) {
    if !is_payers(refusal.issue()) {
        let issues = refusal.issues.join(" ");
        tracing::error!(issues, "PayPal refuses to {what}; see docs/payments.md, PayPal");
    }
}
