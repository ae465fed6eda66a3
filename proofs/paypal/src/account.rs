//! The merchant's account: orders, what was authorized, captured and refunded, and the rules between them.
//!
//! Laws: (1) an order has one authorization at most, an authorization one capture, a capture never more refunds than itself;
//! (2) money moves by a request alone, and by none that was refused; (3) a `PayPal-Request-Id` on one path has one effect.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::Chance;
use crate::show;
use crate::webhooks::{self, Webhook};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Creates an order.
    Create,
    /// Changes an order.
    Patch,
    /// Authorizes an order.
    Authorize,
    /// Captures an authorization.
    Capture,
    /// Voids an authorization.
    Void,
    /// Refunds a capture.
    Refund,
}

/// One line of the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// PayPal's id.
    pub id: String,
    /// PayPal's id of the order.
    pub order: String,
    /// What the merchant calls it.
    pub custom_id: String,
    /// PayPal's word for its state.
    pub status: String,
    /// The currency's code.
    pub currency: String,
    /// The amount as it was written.
    pub value: String,
}

/// The books: everything there ever was, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Orders.
    pub orders: Vec<Entry>,
    /// Authorizations.
    pub authorizations: Vec<Entry>,
    /// Captures.
    pub captures: Vec<Entry>,
    /// Refunds.
    pub refunds: Vec<Entry>,
}

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) name: &'static str,
    pub(crate) issue: String,
    /// Where the shopper could go, where that would help.
    pub(crate) page: Option<String>,
}

/// What was done: the id of the thing, and whether it is new.
pub(crate) type Done = Result<(String, bool), Failure>;

pub(crate) fn refused(issue: &str) -> Failure {
    Failure { status: 422, name: "UNPROCESSABLE_ENTITY", issue: issue.to_owned(), page: None }
}

pub(crate) fn malformed(issue: &str) -> Failure {
    Failure { status: 400, name: "INVALID_REQUEST", issue: issue.to_owned(), page: None }
}

pub(crate) fn missing() -> Failure {
    let issue = "INVALID_RESOURCE_ID".to_owned();
    Failure { status: 404, name: "RESOURCE_NOT_FOUND", issue, page: None }
}

/// Currencies taken, and of those the ones without decimals.
const CURRENCIES: [&str; 24] = [
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "MXN", "MYR",
    "NOK", "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "TWD", "USD",
];
const WHOLE: [&str; 3] = ["HUF", "JPY", "TWD"];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Amount {
    pub(crate) currency_code: String,
    pub(crate) value: String,
}

impl Amount {
    /// The amount in hundredths.
    fn checked(&self) -> Result<u64, Failure> {
        let (whole, part) = self.value.split_once('.').unwrap_or((&self.value, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 12 || !digits(whole) || !digits(part) {
            return Err(malformed("INVALID_PARAMETER_SYNTAX"));
        }
        if !CURRENCIES.contains(&self.currency_code.as_str()) {
            return Err(refused("CURRENCY_NOT_SUPPORTED"));
        }
        if !part.is_empty() && WHOLE.contains(&self.currency_code.as_str()) {
            return Err(refused("DECIMALS_NOT_SUPPORTED"));
        }
        if part.len() > 2 {
            return Err(refused("DECIMAL_PRECISION"));
        }
        let hundredths: u64 =
            format!("{whole}{part:0<2}").parse().map_err(|_| malformed("INVALID_PARAMETER_SYNTAX"))?;
        if hundredths == 0 { Err(refused("CANNOT_BE_ZERO_OR_NEGATIVE")) } else { Ok(hundredths) }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Wanted {
    intent: String,
    purchase_units: Vec<WantedUnit>,
    #[serde(default)]
    payment_source: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct WantedUnit {
    amount: Amount,
    #[serde(default)]
    custom_id: String,
    #[serde(default)]
    invoice_id: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) intent: String,
    pub(crate) status: String,
    pub(crate) amount: Amount,
    pub(crate) custom_id: String,
    pub(crate) invoice_id: String,
    /// Whether it was made with a payment source: then its page is called `payer-action`.
    pub(crate) by_source: bool,
    pub(crate) return_url: String,
    pub(crate) cancel_url: String,
    pub(crate) created: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Authorization,
    Capture,
    Refund,
}

#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) order: String,
    /// Of a capture its authorization, of a refund its capture.
    pub(crate) parent: String,
    pub(crate) status: String,
    pub(crate) amount: Amount,
    pub(crate) custom_id: String,
    pub(crate) created: String,
}

#[derive(Debug)]
pub(crate) struct Account {
    chance: Chance,
    pub(crate) base: String,
    pub(crate) orders: IndexMap<String, Order>,
    pub(crate) payments: IndexMap<String, Payment>,
    /// By path and request id: the body that was sent, and what it made.
    keys: HashMap<(String, String), (String, String)>,
    pub(crate) refusals: Vec<(Step, String)>,
    pub(crate) states: Vec<(Step, String)>,
    pub(crate) webhooks: Vec<Webhook>,
}

impl Account {
    pub(crate) fn new(seed: u64, base: String) -> Self {
        Self {
            chance: Chance(seed),
            base,
            orders: IndexMap::new(),
            payments: IndexMap::new(),
            keys: HashMap::new(),
            refusals: vec![],
            states: vec![],
            webhooks: vec![],
        }
    }

    /// An id as PayPal's: 17 digits and capitals.
    pub(crate) fn id(&mut self) -> String {
        let alphabet = b"0123456789ABCDEFGHJKLMNPQRSTUVWXY";
        let mut pick = || alphabet[usize::try_from(self.chance.next() % 33).unwrap_or_default()];
        (0..17).map(|_| char::from(pick())).collect()
    }

    /// Does a step once for each request id on a path; without one, each time.
    pub(crate) fn once(
        &mut self,
        step: Step,
        path: &str,
        key: Option<&str>,
        body: &str,
        work: impl FnOnce(&mut Self) -> Done,
    ) -> Done {
        let place = key.map(|key| (path.to_owned(), key.to_owned()));
        if let Some((first, id)) = place.as_ref().and_then(|place| self.keys.get(place)) {
            return if first == body {
                Ok((id.clone(), false))
            } else {
                Err(refused("DUPLICATE_REQUEST_ID"))
            };
        }
        if let Some(at) = self.refusals.iter().position(|(refused, _)| *refused == step) {
            return Err(refused(&self.refusals.remove(at).1));
        }
        let (id, new) = work(self)?;
        if let Some(place) = place {
            self.keys.insert(place, (body.to_owned(), id.clone()));
        }
        Ok((id, new))
    }

    fn state(&mut self, step: Step, usual: &str) -> String {
        match self.states.iter().position(|(meant, _)| *meant == step) {
            Some(at) => self.states.remove(at).1,
            None => usual.to_owned(),
        }
    }

    pub(crate) fn create(&mut self, body: &str) -> Done {
        let wanted: Wanted = serde_json::from_str(body).map_err(|_| malformed("MALFORMED_REQUEST_JSON"))?;
        if !["AUTHORIZE", "CAPTURE"].contains(&wanted.intent.as_str()) {
            return Err(malformed("INVALID_PARAMETER_VALUE"));
        }
        let [unit] = wanted.purchase_units.as_slice() else {
            return Err(malformed("INVALID_ARRAY_MIN_ITEMS"));
        };
        unit.amount.checked()?;
        let page = |name: &str| {
            let path = format!("/paypal/experience_context/{name}");
            let said = wanted.payment_source.as_ref().and_then(|source| source.pointer(&path));
            said.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let by_source = wanted.payment_source.is_some();
        let order = Order {
            id: self.id(),
            intent: wanted.intent.clone(),
            status: if by_source { "PAYER_ACTION_REQUIRED" } else { "CREATED" }.to_owned(),
            amount: unit.amount.clone(),
            custom_id: unit.custom_id.clone(),
            invoice_id: unit.invoice_id.clone(),
            by_source,
            return_url: page("return_url"),
            cancel_url: page("cancel_url"),
            created: now(),
        };
        let id = order.id.clone();
        self.orders.insert(id.clone(), order);
        Ok((id, true))
    }

    pub(crate) fn order(&self, id: &str) -> Result<&Order, Failure> {
        self.orders.get(id).ok_or_else(missing)
    }

    pub(crate) fn payment(&self, kind: Kind, id: &str) -> Result<&Payment, Failure> {
        self.payments.get(id).filter(|payment| payment.kind == kind).ok_or_else(missing)
    }

    pub(crate) fn patch(&mut self, id: &str, body: &str) -> Done {
        let order = self.orders.get_mut(id).ok_or_else(missing)?;
        let patches: Vec<Value> =
            serde_json::from_str(body).map_err(|_| malformed("MALFORMED_REQUEST_JSON"))?;
        if order.status == "COMPLETED" {
            return Err(refused("ORDER_ALREADY_COMPLETED"));
        }
        for patch in patches {
            let known = patch["op"] == "replace" && patch["path"] == "/intent";
            let Some(intent) = patch["value"].as_str().filter(|_| known) else {
                return Err(refused("NOT_PATCHABLE"));
            };
            intent.clone_into(&mut order.intent);
        }
        Ok((id.to_owned(), false))
    }

    pub(crate) fn approve(&mut self, id: &str) -> Result<(), String> {
        let order = self.orders.get_mut(id).ok_or("no such order")?;
        if !["CREATED", "PAYER_ACTION_REQUIRED", "APPROVED"].contains(&order.status.as_str()) {
            return Err(format!("an order that is {} cannot be approved", order.status));
        }
        "APPROVED".clone_into(&mut order.status);
        self.tell("CHECKOUT.ORDER.APPROVED", "checkout-order", id);
        Ok(())
    }

    pub(crate) fn authorize(&mut self, id: &str) -> Done {
        let order = self.order(id)?.clone();
        match (order.status.as_str(), order.intent.as_str()) {
            ("COMPLETED", _) => return Err(refused("ORDER_ALREADY_AUTHORIZED")),
            (_, "CAPTURE") => return Err(refused("ACTION_DOES_NOT_MATCH_INTENT")),
            ("APPROVED", _) => {}
            (_, _) => {
                let page = Some(show::page(&self.base, id));
                return Err(Failure { page, ..refused("ORDER_NOT_APPROVED") });
            }
        }
        let used = self.payments.values().any(|payment| {
            let other = self.orders.get(&payment.order);
            payment.kind == Kind::Authorization
                && !["VOIDED", "DENIED"].contains(&payment.status.as_str())
                && other
                    .is_some_and(|other| !other.invoice_id.is_empty() && other.invoice_id == order.invoice_id)
        });
        if used {
            return Err(refused("DUPLICATE_INVOICE_ID"));
        }
        let status = self.state(Step::Authorize, "CREATED");
        let created = status == "CREATED";
        let made = self.pay(Kind::Authorization, id, "", status, order.amount, order.custom_id);
        if let Some(order) = self.orders.get_mut(id) {
            "COMPLETED".clone_into(&mut order.status);
        }
        if created {
            self.tell("PAYMENT.AUTHORIZATION.CREATED", "authorization", &made);
        }
        Ok((id.to_owned(), true))
    }

    pub(crate) fn capture(&mut self, id: &str, body: &str) -> Done {
        let held = self.payment(Kind::Authorization, id)?.clone();
        match held.status.as_str() {
            "CREATED" | "PENDING" => {}
            "CAPTURED" => return Err(refused("AUTHORIZATION_ALREADY_CAPTURED")),
            "EXPIRED" => return Err(refused("AUTHORIZATION_EXPIRED")),
            "DENIED" => return Err(refused("AUTHORIZATION_DENIED")),
            _ => return Err(refused("AUTHORIZATION_VOIDED")),
        }
        let asked: Value = serde_json::from_str(body).map_err(|_| malformed("MALFORMED_REQUEST_JSON"))?;
        let amount = match asked.get("amount") {
            Some(amount) => {
                serde_json::from_value(amount.clone()).map_err(|_| malformed("INVALID_PARAMETER_SYNTAX"))?
            }
            None => held.amount.clone(),
        };
        if amount.currency_code != held.amount.currency_code {
            return Err(refused("AUTH_CAPTURE_CURRENCY_MISMATCH"));
        }
        if amount.checked()? > held.amount.checked()? {
            return Err(refused("MAX_CAPTURE_AMOUNT_EXCEEDED"));
        }
        let status = self.state(Step::Capture, "COMPLETED");
        let (came, refused) = (status == "COMPLETED", status == "DECLINED" || status == "FAILED");
        let made = self.pay(Kind::Capture, &held.order, id, status, amount, held.custom_id);
        if !refused {
            self.set_status(id, "CAPTURED");
        }
        if came {
            self.tell("PAYMENT.CAPTURE.COMPLETED", "capture", &made);
        }
        Ok((made, true))
    }

    pub(crate) fn void(&mut self, id: &str) -> Done {
        match self.payment(Kind::Authorization, id)?.status.as_str() {
            "CAPTURED" => Err(refused("PREVIOUSLY_CAPTURED")),
            "VOIDED" => Err(refused("PREVIOUSLY_VOIDED")),
            _ => {
                self.set_status(id, "VOIDED");
                self.tell("PAYMENT.AUTHORIZATION.VOIDED", "authorization", id);
                Ok((id.to_owned(), false))
            }
        }
    }

    pub(crate) fn refund(&mut self, id: &str, body: &str) -> Done {
        let capture = self.payment(Kind::Capture, id)?.clone();
        let asked: Value = serde_json::from_str(body).map_err(|_| malformed("MALFORMED_REQUEST_JSON"))?;
        let amount: Amount = match asked.get("amount") {
            Some(amount) => {
                serde_json::from_value(amount.clone()).map_err(|_| malformed("INVALID_PARAMETER_SYNTAX"))?
            }
            None => capture.amount.clone(),
        };
        let before: u64 = self
            .payments
            .values()
            .filter(|payment| payment.kind == Kind::Refund && payment.parent == id)
            .filter(|payment| !["FAILED", "CANCELLED"].contains(&payment.status.as_str()))
            .filter_map(|payment| payment.amount.checked().ok())
            .sum();
        let all = capture.amount.checked()?;
        match capture.status.as_str() {
            "PENDING" => return Err(refused("PENDING_CAPTURE")),
            "DECLINED" | "FAILED" => return Err(refused("REFUND_NOT_ALLOWED")),
            _ if before >= all => return Err(refused("CAPTURE_FULLY_REFUNDED")),
            _ => {}
        }
        if amount.currency_code != capture.amount.currency_code {
            return Err(refused("REFUND_CAPTURE_CURRENCY_MISMATCH"));
        }
        let back = amount.checked()?;
        if before + back > all {
            return Err(refused("REFUND_AMOUNT_EXCEEDED"));
        }
        let status = self.state(Step::Refund, "COMPLETED");
        let goes = !["FAILED", "CANCELLED"].contains(&status.as_str());
        let custom_id = asked["custom_id"].as_str().unwrap_or_default().to_owned();
        let made = self.pay(Kind::Refund, &capture.order, id, status, amount, custom_id);
        if goes {
            self.set_status(id, if before + back == all { "REFUNDED" } else { "PARTIALLY_REFUNDED" });
            self.tell("PAYMENT.CAPTURE.REFUNDED", "refund", &made);
        }
        Ok((made, true))
    }

    fn pay(
        &mut self,
        kind: Kind,
        order: &str,
        parent: &str,
        status: String,
        amount: Amount,
        custom_id: String,
    ) -> String {
        let id = self.id();
        let (order, parent) = (order.to_owned(), parent.to_owned());
        let payment =
            Payment { id: id.clone(), kind, order, parent, status, amount, custom_id, created: now() };
        self.payments.insert(id.clone(), payment);
        id
    }

    pub(crate) fn set_status(&mut self, id: &str, status: &str) -> bool {
        let payment = self.payments.get_mut(id);
        payment.map(|payment| status.clone_into(&mut payment.status)).is_some()
    }

    pub(crate) fn drop_order(&mut self, id: &str) -> bool {
        self.orders.shift_remove(id).is_some()
    }

    pub(crate) fn forget_keys(&mut self) {
        self.keys.clear();
    }

    fn tell(&mut self, kind: &str, resource_type: &str, id: &str) {
        let resource = match self.orders.get(id) {
            Some(order) => show::order(self, order),
            None => self.payments.get(id).map(|payment| show::payment(self, payment)).unwrap_or_default(),
        };
        let event = format!("WH-{}-{}", self.id(), self.id());
        self.webhooks.push(webhooks::sign(&event, &show::event(&event, kind, resource_type, &resource)));
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let payments = |kind: Kind| {
            let of_kind = self.payments.values().filter(move |payment| payment.kind == kind);
            let entry = |payment: &Payment| Entry {
                id: payment.id.clone(),
                order: payment.order.clone(),
                custom_id: payment.custom_id.clone(),
                status: payment.status.clone(),
                currency: payment.amount.currency_code.clone(),
                value: payment.amount.value.clone(),
            };
            of_kind.map(entry).collect()
        };
        let order = |order: &Order| Entry {
            id: order.id.clone(),
            order: order.id.clone(),
            custom_id: order.custom_id.clone(),
            status: order.status.clone(),
            currency: order.amount.currency_code.clone(),
            value: order.amount.value.clone(),
        };
        Ledger {
            orders: self.orders.values().map(order).collect(),
            authorizations: payments(Kind::Authorization),
            captures: payments(Kind::Capture),
            refunds: payments(Kind::Refund),
        }
    }
}

fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string()
}
