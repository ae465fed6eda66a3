//! Payment intents: the states, and who may go from which to which.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{AUTHORIZATION_MS, Account, Charge, Intent, Status};
use crate::cards::{Card, GENERIC_DECLINE, Verdict};
use crate::failure::Failure;
use crate::form::Form;

/// Stripe's largest amount of a card payment: eight digits.
const AMOUNT_MAX: i64 = 99_999_999;

/// Currencies that Stripe charges in: those that `async-stripe` 1.0.0-rc.10 lists, and [`THREE_DECIMALS`].
const CURRENCIES: &str = "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bif bmd bnd bob brl bsd bwp byn \
    bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd eek egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl \
    hrk htg huf idr ils inr isk jmd jpy kes kgs khr kmf krw kyd kzt lak lbp lkr lrd lsl ltl lvl mad mdl mga mkd mmk mnt \
    mop mro mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr \
    sek sgd shp sll sos srd std svc szl thb tjs top try ttd twd tzs uah ugx usd uyu uzs vef vnd vuv wst xaf xcd xof xpf \
    yer zar zmw";

/// Currencies of three decimals, of which the last is always 0. Source: <https://docs.stripe.com/currencies>.
const THREE_DECIMALS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

/// Currencies without decimals of which Stripe counts hundredths, always 00. Source: the same, "Special cases".
const WHOLE_IN_HUNDREDTHS: [&str; 2] = ["isk", "ugx"];

const CAPTURE_METHODS: [&str; 3] = ["automatic", "automatic_async", "manual"];

const CREATE: [&str; 21] = [
    "allowed_payment_method_types",
    "amount",
    "automatic_payment_methods",
    "capture_method",
    "confirm",
    "confirmation_method",
    "currency",
    "description",
    "error_on_requires_action",
    "expand",
    "metadata",
    "off_session",
    "payment_method",
    "payment_method_types",
    "receipt_email",
    "return_url",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
    "use_stripe_sdk",
    "payment_method_options",
];

/// How a confirmation is asked for.
struct Confirmation {
    off_session: bool,
    error_on_requires_action: bool,
    return_url: Option<String>,
}

impl Confirmation {
    fn read(form: &Form) -> Result<Self, Failure> {
        Ok(Self {
            off_session: form.flag("off_session")?,
            error_on_requires_action: form.flag("error_on_requires_action")?,
            return_url: form.text("return_url")?.map(str::to_owned),
        })
    }

    /// Methods that may redirect the customer need a way back.
    fn check_return(&self) -> Result<(), Failure> {
        let said = "This PaymentIntent is configured to accept payment methods that may redirect; provide a \
                    `return_url`, or set `automatic_payment_methods[allow_redirects]` to `never`, or name \
                    `allowed_payment_method_types`.";
        self.return_url.as_ref().map(drop).ok_or_else(|| Failure::parameter("return_url", said))
    }
}

impl Account {
    /// `POST /v1/payment_intents`
    pub(crate) fn create_intent(&mut self, form: &Form) -> Result<String, Failure> {
        form.only(&CREATE)?;
        if form.nested("payment_method_options")?.is_some_and(|options| !options.is_empty()) {
            return Err(Failure::parameter(
                "payment_method_options",
                "The stand-in knows no payment_method_options",
            ));
        }
        let currency = form.needed("currency")?.to_ascii_lowercase();
        if !CURRENCIES.split(' ').chain(THREE_DECIMALS).any(|known| known == currency) {
            return Err(Failure::parameter("currency", format!("Invalid currency: {currency}")));
        }
        form.needed("amount")?;
        let amount = form.integer("amount")?.unwrap_or_default();
        check_amount(amount, &currency)?;
        let confirm = form.flag("confirm")?;
        let confirmation = Confirmation::read(form)?;
        let words = ["automatic", "manual"];
        let confirmation_method = form.word("confirmation_method", &words)?.unwrap_or("automatic").to_owned();
        let capture_method = form.word("capture_method", &CAPTURE_METHODS)?.unwrap_or("automatic_async");
        // The name of today's API, then that of versions before it; both name what may be used.
        let (allowed, older) =
            (form.list("allowed_payment_method_types")?, form.list("payment_method_types")?);
        let named = !allowed.is_empty();
        let method_types = if named { allowed } else { older.clone() };
        let automatic_methods = match form.nested("automatic_payment_methods")? {
            // Whoever names no method leaves them to Stripe, those included that redirect the customer.
            None => method_types.is_empty().then_some(true),
            Some(methods) => {
                methods.only(&["enabled", "allow_redirects"])?;
                let redirects = methods.word("allow_redirects", &["always", "never"])?;
                methods.flag("enabled")?.then_some(redirects != Some("never"))
            }
        };
        if (automatic_methods.is_some() && !method_types.is_empty()) || (named && !older.is_empty()) {
            let said = "You may only specify one of these parameters: automatic_payment_methods, \
                        allowed_payment_method_types, payment_method_types.";
            return Err(Failure::parameter("", said));
        }
        let card = form.text("payment_method")?.map(known_card).transpose()?;
        if confirm && automatic_methods == Some(true) {
            confirmation.check_return()?;
        }
        if confirm && card.is_none() {
            return Err(missing_method());
        }
        let metadata = metadata(form)?;
        let own = |name| form.text(name).map(|text| text.map(str::to_owned));
        let id = self.ids.id("pi");
        let intent = Intent {
            client_secret: format!("{id}_secret_{}", &self.ids.id("s")[2..]),
            id: id.clone(),
            created_ms: self.now_ms,
            amount,
            amount_capturable: 0,
            amount_received: 0,
            currency,
            status: Status::RequiresPaymentMethod,
            capture_method: capture_method.to_owned(),
            confirmation_method,
            method: None,
            method_types: if method_types.is_empty() { vec!["card".to_owned()] } else { method_types },
            types_allowed: named,
            automatic_methods,
            metadata,
            description: own("description")?,
            receipt_email: own("receipt_email")?,
            statement_descriptor: own("statement_descriptor")?,
            statement_descriptor_suffix: own("statement_descriptor_suffix")?,
            transfer_group: own("transfer_group")?,
            return_url: None,
            latest_charge: None,
            last_error: None,
            canceled_ms: None,
            cancellation_reason: None,
            capture_before_ms: 0,
        };
        self.intents.insert(id.clone(), intent);
        if let Some(card) = card {
            self.attach(&id, card);
        }
        self.happened_to_intent("payment_intent.created", &id);
        if confirm {
            self.attempt(&id, confirmation)?;
        }
        Ok(id)
    }

    /// `POST /v1/payment_intents/{id}`
    pub(crate) fn update_intent(&mut self, id: &str, form: &Form) -> Result<(), Failure> {
        form.only(&["amount", "description", "expand", "metadata", "payment_method"])?;
        let intent = self.known_intent(id, 404, "intent")?;
        let waits = matches!(
            intent.status,
            Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::RequiresAction
        );
        let amount = form.integer("amount")?;
        if let Some(amount) = amount {
            check_amount(amount, &intent.currency)?;
        }
        let card = form.text("payment_method")?.map(known_card).transpose()?;
        let changed = metadata(form)?;
        if !waits && (amount.is_some() || card.is_some()) {
            let what = if amount.is_some() { "amount" } else { "payment_method" };
            let status = intent.status.name();
            let said = format!(
                "This PaymentIntent's {what} could not be updated because it has a status of {status}. You may only \
                 update the {what} of a PaymentIntent with one of the following statuses: requires_payment_method, \
                 requires_confirmation, requires_action."
            );
            return Err(self.unexpected(id, said));
        }
        let description = form.text("description")?.map(str::to_owned);
        if let Some(card) = card {
            self.attach(id, card);
        }
        let intent = &mut self.intents[id];
        intent.amount = amount.unwrap_or(intent.amount);
        intent.description = description.or(intent.description.take());
        for (name, value) in changed {
            // An empty value takes the name away.
            if value.is_empty() {
                intent.metadata.remove(&name);
            } else {
                intent.metadata.insert(name, value);
            }
        }
        Ok(())
    }

    /// `POST /v1/payment_intents/{id}/confirm`
    pub(crate) fn confirm_intent(&mut self, id: &str, form: &Form) -> Result<(), Failure> {
        form.only(&[
            "error_on_requires_action",
            "expand",
            "off_session",
            "payment_method",
            "return_url",
            "use_stripe_sdk",
        ])?;
        let confirmation = Confirmation::read(form)?;
        let card = form.text("payment_method")?.map(known_card).transpose()?;
        let intent = self.known_intent(id, 404, "intent")?;
        let said = match intent.status {
            Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::RequiresAction => None,
            Status::Succeeded => Some("it has already succeeded after being previously confirmed".to_owned()),
            Status::RequiresCapture => {
                Some("it has already been confirmed and waits for its capture".to_owned())
            }
            Status::Processing | Status::Canceled => {
                Some(format!("it has a status of {}", intent.status.name()))
            }
        };
        if let Some(said) = said {
            return Err(self.unexpected(id, format!("You cannot confirm this PaymentIntent because {said}.")));
        }
        if intent.automatic_methods == Some(true) && intent.return_url.is_none() {
            confirmation.check_return()?;
        }
        match card {
            Some(card) => self.attach(id, card),
            None if intent.method.is_none() => {
                let mut failure = missing_method();
                failure.payment_intent = Some(self.intent_object(&self.intents[id], false));
                return Err(failure);
            }
            None => {}
        }
        self.attempt(id, confirmation)
    }

    /// `POST /v1/payment_intents/{id}/capture`
    pub(crate) fn capture_intent(&mut self, id: &str, form: &Form) -> Result<(), Failure> {
        form.only(&["amount_to_capture", "expand", "final_capture", "metadata"])?;
        let intent = self.known_intent(id, 404, "intent")?;
        let amount = form.integer("amount_to_capture")?;
        if form.text("final_capture")? == Some("false") {
            return Err(Failure::parameter("final_capture", "The stand-in captures a payment once"));
        }
        let changed = metadata(form)?;
        if intent.status != Status::RequiresCapture {
            let status = intent.status.name();
            let said = format!(
                "This PaymentIntent could not be captured because it has a status of {status}. Only a PaymentIntent \
                 with one of the following statuses may be captured: requires_capture."
            );
            return Err(self.unexpected(id, said));
        }
        let amount = amount.unwrap_or(intent.amount_capturable);
        if amount < 1 {
            let said = "This value must be greater than or equal to 1.";
            return Err(Failure::coded("amount_to_capture", "parameter_invalid_integer", said));
        }
        if amount > intent.amount_capturable {
            let said = format!(
                "Amount to capture ({amount}) is greater than the capturable amount ({}).",
                intent.amount_capturable
            );
            return Err(Failure::coded("amount_to_capture", "amount_too_large", said));
        }
        self.intents[id].metadata.extend(changed);
        self.capture(id, amount);
        Ok(())
    }

    /// `POST /v1/payment_intents/{id}/cancel`
    pub(crate) fn cancel_intent(&mut self, id: &str, form: &Form) -> Result<(), Failure> {
        form.only(&["cancellation_reason", "expand"])?;
        let words = ["duplicate", "fraudulent", "requested_by_customer", "abandoned"];
        let reason = form.word("cancellation_reason", &words)?.map(str::to_owned);
        let status = self.known_intent(id, 404, "intent")?.status;
        match status {
            Status::RequiresPaymentMethod
            | Status::RequiresConfirmation
            | Status::RequiresAction
            | Status::RequiresCapture => {
                self.let_go(id, reason.as_deref().unwrap_or_default(), false);
                Ok(())
            }
            Status::Processing | Status::Canceled | Status::Succeeded => {
                let status = status.name();
                let said = format!(
                    "You cannot cancel this PaymentIntent because it has a status of {status}. Only a PaymentIntent \
                     with one of the following statuses may be canceled: requires_payment_method, requires_capture, \
                     requires_confirmation, requires_action."
                );
                Err(self.unexpected(id, said))
            }
        }
    }

    /// The customer passed 3-D Secure, or failed it. A bank that then declines is no error here: the customer's browser
    /// is told, and the intent tells everybody else.
    pub(crate) fn authenticate(&mut self, id: &str, success: bool) -> Result<(), Failure> {
        if self.known_intent(id, 404, "intent")?.status != Status::RequiresAction {
            return Err(self.unexpected(id, "This PaymentIntent does not wait for its customer."));
        }
        if success {
            let _told_to_the_browser = self.ask_the_bank(id);
        } else {
            let said = "The provided payment method has failed authentication. You can provide another.";
            let failure = Failure::card("payment_intent_authentication_failure", None, said);
            self.refused(id, failure);
        }
        Ok(())
    }

    /// A payment that was `processing` ends.
    pub(crate) fn settle(&mut self, id: &str, success: bool) -> Result<(), Failure> {
        if self.known_intent(id, 404, "intent")?.status != Status::Processing {
            return Err(self.unexpected(id, "This PaymentIntent is not processing."));
        }
        if success {
            self.approved(id);
        } else {
            let said = "The customer's bank account could not be debited.";
            let failure = Failure::card("payment_intent_payment_attempt_failed", None, said);
            self.refused(id, failure);
        }
        Ok(())
    }

    fn attach(&mut self, id: &str, card: Card) {
        let method = self.ids.id("pm");
        let intent = &mut self.intents[id];
        intent.method = Some((method, card));
        intent.status = Status::RequiresConfirmation;
    }

    /// Tries to pay: 3-D Secure where the bank wants it, else the bank.
    fn attempt(&mut self, id: &str, confirmation: Confirmation) -> Result<(), Failure> {
        let intent = &mut self.intents[id];
        intent.return_url = confirmation.return_url.or(intent.return_url.take());
        if !intent.method.as_ref().is_some_and(|(_, card)| card.authentication) {
            return self.ask_the_bank(id);
        }
        if confirmation.off_session || confirmation.error_on_requires_action {
            let said = "Your card was declined. This transaction requires authentication.";
            let decline_code = confirmation.off_session.then_some("authentication_required");
            return Err(self.refused(id, Failure::card("authentication_required", decline_code, said)));
        }
        intent.status = Status::RequiresAction;
        self.happened_to_intent("payment_intent.requires_action", id);
        Ok(())
    }

    fn ask_the_bank(&mut self, id: &str) -> Result<(), Failure> {
        let refuse = std::mem::take(&mut self.refuse_next);
        let drawn = self.intents[id].method.as_ref().map_or(GENERIC_DECLINE, |(_, card)| card.verdict);
        match if refuse { GENERIC_DECLINE } else { drawn } {
            Verdict::Approved => {
                self.approved(id);
                Ok(())
            }
            Verdict::Pending => {
                self.charge(id, None, None);
                self.intents[id].status = Status::Processing;
                self.happened_to_intent("payment_intent.processing", id);
                Ok(())
            }
            Verdict::Declined(code, decline_code, said) => {
                Err(self.refused(id, Failure::card(code, decline_code, said)))
            }
        }
    }

    /// The bank said yes: the money is held, and taken at once unless the merchant captures.
    fn approved(&mut self, id: &str) {
        let charge = self.settled_charge(id, true, None);
        let due_ms = self.now_ms.saturating_add(AUTHORIZATION_MS);
        let intent = &mut self.intents[id];
        intent.amount_capturable = intent.amount;
        intent.status = Status::RequiresCapture;
        intent.last_error = None;
        intent.capture_before_ms = due_ms;
        let amount = intent.amount;
        if intent.capture_method == "manual" {
            self.authorizations.insert((due_ms, id.to_owned()));
            self.happened_to_charge("charge.succeeded", &charge, None);
            self.happened_to_intent("payment_intent.amount_capturable_updated", id);
        } else {
            self.capture(id, amount);
        }
    }

    /// Takes the money that is held, or a part of it; the rest is let go.
    fn capture(&mut self, id: &str, amount: i64) {
        let intent = &mut self.intents[id];
        let manual = intent.capture_method == "manual";
        intent.status = Status::Succeeded;
        intent.amount_capturable = 0;
        intent.amount_received = amount;
        self.authorizations.remove(&(intent.capture_before_ms, id.to_owned()));
        if let Some(charge) = intent.latest_charge.clone() {
            let taken = &mut self.charges[&charge];
            assert!(
                !taken.captured && amount <= taken.amount,
                "Invariant: captured once, at most as authorised"
            );
            taken.captured = true;
            taken.amount_captured = amount;
            let kind = if manual { "charge.captured" } else { "charge.succeeded" };
            self.happened_to_charge(kind, &charge, None);
        }
        self.happened_to_intent("payment_intent.succeeded", id);
    }

    /// Cancels the intent and lets go what is held, by the merchant's wish or because it grew too old.
    pub(super) fn let_go(&mut self, id: &str, reason: &str, too_old: bool) {
        let now_ms = self.now_ms;
        let intent = &mut self.intents[id];
        let held = intent.status == Status::RequiresCapture;
        intent.status = Status::Canceled;
        intent.amount_capturable = 0;
        intent.canceled_ms = Some(now_ms);
        intent.cancellation_reason = (!reason.is_empty()).then(|| reason.to_owned());
        self.authorizations.remove(&(intent.capture_before_ms, id.to_owned()));
        if let Some(charge) = intent.latest_charge.clone().filter(|_| held) {
            let charged = &mut self.charges[&charge];
            charged.amount_refunded = charged.amount;
            let kind = if too_old { "charge.expired" } else { "charge.refunded" };
            self.happened_to_charge(kind, &charge, Some(json!({"amount_refunded": 0, "refunded": false})));
        }
        self.happened_to_intent("payment_intent.canceled", id);
    }

    /// The attempt failed: the intent wants another method. The failure is handed back with the intent in it.
    fn refused(&mut self, id: &str, mut failure: Failure) -> Failure {
        // Before the bank was asked, there is nothing that could have been charged.
        let asked = !matches!(
            failure.code.as_deref(),
            Some("authentication_required" | "payment_intent_authentication_failure")
        );
        if asked {
            let why = (
                failure.code.clone().unwrap_or_default(),
                failure.decline_code.clone(),
                failure.message.clone(),
            );
            let charge = self.settled_charge(id, false, Some(why));
            failure.charge = Some(charge.clone());
            self.happened_to_charge("charge.failed", &charge, None);
        }
        let intent = &mut self.intents[id];
        intent.status = Status::RequiresPaymentMethod;
        intent.last_error = Some(failure.error());
        intent.method = None;
        self.happened_to_intent("payment_intent.payment_failed", id);
        failure.payment_intent = Some(self.intent_object(&self.intents[id], false));
        failure
    }

    /// The charge that the bank has now decided: the one that was pending, or a new one.
    fn settled_charge(
        &mut self,
        id: &str,
        approved: bool,
        failure: Option<(String, Option<String>, String)>,
    ) -> String {
        let pending = self.intents[id].latest_charge.clone();
        match pending.filter(|charge| self.charges[charge].approved.is_none()) {
            Some(charge) => {
                self.charges[&charge].approved = Some(approved);
                self.charges[&charge].failure = failure;
                charge
            }
            None => self.charge(id, Some(approved), failure),
        }
    }

    fn charge(
        &mut self,
        intent: &str,
        approved: Option<bool>,
        failure: Option<(String, Option<String>, String)>,
    ) -> String {
        let id = self.ids.id("ch");
        let intent = &mut self.intents[intent];
        let Some(method) = intent.method.clone() else {
            unreachable!("Invariant: only an intent with a payment method reaches the bank");
        };
        intent.latest_charge = Some(id.clone());
        let charge = Charge {
            id: id.clone(),
            intent: intent.id.clone(),
            created_ms: self.now_ms,
            amount: intent.amount,
            amount_captured: 0,
            amount_refunded: 0,
            captured: false,
            approved,
            currency: intent.currency.clone(),
            metadata: intent.metadata.clone(),
            method,
            failure,
        };
        self.charges.insert(id.clone(), charge);
        id
    }

    /// A refusal for what the state does not allow, with the intent in it.
    fn unexpected(&self, id: &str, said: impl Into<String>) -> Failure {
        let mut failure = Failure::state(Some("payment_intent_unexpected_state"), said);
        failure.payment_intent = self.intents.get(id).map(|intent| self.intent_object(intent, false));
        failure
    }

    /// Refuses, before anything is done, to expand what cannot be.
    pub(crate) fn check_expand(form: &Form, known: &[&str]) -> Result<(), Failure> {
        super::lists::expands(&form.list("expand")?, known).map(drop)
    }

    /// The intent as the caller gets it.
    pub(crate) fn show_intent(&self, id: &str, form: &Form) -> Result<Value, Failure> {
        let expand = form.list("expand")?;
        let intent = self.known_intent(id, 404, "intent")?;
        Ok(self.intent_object(intent, super::lists::expands(&expand, &["latest_charge"])?[0]))
    }
}

fn known_card(name: &str) -> Result<Card, Failure> {
    Card::of(name).ok_or_else(|| Failure::missing(400, "PaymentMethod", name, "payment_method"))
}

fn missing_method() -> Failure {
    let said = "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the \
                PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a \
                payment method.";
    Failure::state(Some("payment_intent_unexpected_state"), said)
}

/// The amount is one that Stripe would charge in this currency.
fn check_amount(amount: i64, currency: &str) -> Result<(), Failure> {
    let least = match currency {
        "gbp" => 30,
        "usd" | "eur" | "cad" | "aud" | "chf" | "nzd" | "sgd" | "inr" | "brl" | "jpy" => 50,
        _ => 1,
    };
    if amount < 1 {
        let said = "This value must be greater than or equal to 1.";
        return Err(Failure::coded("amount", "parameter_invalid_integer", said));
    }
    if amount < least {
        let said = format!("Amount must be at least {least} in the minor units of {currency}");
        return Err(Failure::coded("amount", "amount_too_small", said));
    }
    if amount > AMOUNT_MAX {
        let said = format!("Amount must be no more than {AMOUNT_MAX} in the minor units of {currency}");
        return Err(Failure::coded("amount", "amount_too_large", said));
    }
    if THREE_DECIMALS.contains(&currency) && amount % 10 != 0 {
        let said = format!("Invalid amount. Amounts in {currency} must be evenly divisible by 10.");
        return Err(Failure::parameter("amount", said));
    }
    if WHOLE_IN_HUNDREDTHS.contains(&currency) && amount % 100 != 0 {
        let said = format!("Invalid amount. Amounts in {currency} must be evenly divisible by 100.");
        return Err(Failure::coded("amount", "invalid_charge_amount_no_decimal_compatible", said));
    }
    Ok(())
}

/// The merchant's own names and values, within Stripe's bounds.
pub(super) fn metadata(form: &Form) -> Result<BTreeMap<String, String>, Failure> {
    let Some(nested) = form.nested("metadata")? else { return Ok(BTreeMap::new()) };
    let pairs = nested.pairs("metadata")?;
    if pairs.len() > 50 {
        return Err(Failure::parameter("metadata", "Metadata can have up to 50 keys"));
    }
    for (name, value) in &pairs {
        if name.chars().count() > 40 || value.chars().count() > 500 {
            let said = "Metadata keys can be up to 40 characters long, values up to 500";
            return Err(Failure::parameter(&format!("metadata[{name}]"), said));
        }
    }
    Ok(pairs.into_iter().collect())
}
