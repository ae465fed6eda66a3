//! One merchant's account: intents, charges, refunds and events, and the time at which a request finds them.
//!
//! Laws: an intent has at most one charge that succeeded; captured never exceeds authorised; refunded never exceeds
//! captured; every change of money is an event. Start at [`Account::create_intent`] in `intents`.

mod intents;
mod lists;
mod objects;
mod refunds;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use crate::cards::Card;
use crate::chance::Chance;
use crate::failure::Failure;

pub(crate) use objects::API_VERSION;

/// How long a card's authorisation waits for its capture: seven days.
const AUTHORIZATION_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// How long a refund takes to arrive, or to fail, where it does not at once. Stripe says "some time later".
const REFUND_MS: u64 = 60 * 1_000;

/// Where a payment stands, in Stripe's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Canceled,
    Succeeded,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresConfirmation => "requires_confirmation",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::RequiresCapture => "requires_capture",
            Self::Canceled => "canceled",
            Self::Succeeded => "succeeded",
        }
    }
}

/// A payment intent. Amounts are minor units of its currency.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) id: String,
    pub(crate) client_secret: String,
    pub(crate) created_ms: u64,
    pub(crate) amount: i64,
    pub(crate) amount_capturable: i64,
    pub(crate) amount_received: i64,
    pub(crate) currency: String,
    pub(crate) status: Status,
    /// `automatic`, `automatic_async` or `manual`.
    pub(crate) capture_method: String,
    pub(crate) confirmation_method: String,
    /// The payment method's own id and what it does.
    pub(crate) method: Option<(String, Card)>,
    pub(crate) method_types: Vec<String>,
    /// Whether they were named as allowed, as today's API does.
    pub(crate) types_allowed: bool,
    /// Whether methods were left to Stripe, and whether such as redirect the customer are among them.
    pub(crate) automatic_methods: Option<bool>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) description: Option<String>,
    pub(crate) receipt_email: Option<String>,
    pub(crate) statement_descriptor: Option<String>,
    pub(crate) statement_descriptor_suffix: Option<String>,
    pub(crate) transfer_group: Option<String>,
    pub(crate) return_url: Option<String>,
    pub(crate) latest_charge: Option<String>,
    pub(crate) last_error: Option<Value>,
    pub(crate) canceled_ms: Option<u64>,
    pub(crate) cancellation_reason: Option<String>,
    pub(crate) capture_before_ms: u64,
}

/// One attempt to take money. Amounts are minor units.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pub(crate) id: String,
    pub(crate) intent: String,
    pub(crate) created_ms: u64,
    pub(crate) amount: i64,
    pub(crate) amount_captured: i64,
    /// What went back after the capture; of an authorisation that was let go, all of it, as Stripe shows it.
    pub(crate) amount_refunded: i64,
    pub(crate) captured: bool,
    /// Whether the bank said yes, said no, or has not said.
    pub(crate) approved: Option<bool>,
    pub(crate) currency: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) method: (String, Card),
    pub(crate) failure: Option<(String, Option<String>, String)>,
}

/// Money given back, in minor units.
#[derive(Clone, Debug)]
pub(crate) struct Refund {
    pub(crate) id: String,
    pub(crate) charge: String,
    pub(crate) intent: String,
    pub(crate) created_ms: u64,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) reason: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// `pending`, `succeeded` or `failed`.
    pub(crate) status: &'static str,
}

/// Something that happened, as it was then.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) created_ms: u64,
    pub(crate) object: Value,
    pub(crate) previous: Option<Value>,
    pub(crate) request: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    /// Whether the webhook still has to be delivered.
    pub(crate) pending: bool,
}

/// What the books of a merchant are compared with, in minor units. Everything that moved money is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Sums by currency.
    pub totals: BTreeMap<String, Totals>,
    /// Every attempt that the bank approved, oldest first.
    pub charges: Vec<LedgerCharge>,
    /// Every refund that did not fail, oldest first.
    pub refunds: Vec<LedgerRefund>,
}

/// Sums in one currency, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Held on cards and neither captured nor let go.
    pub authorized: i64,
    /// Captured, before refunds.
    pub captured: i64,
    /// Given back of what was captured.
    pub refunded: i64,
}

/// An approved charge in the [`Ledger`], amounts in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerCharge {
    /// `ch_…`
    pub id: String,
    /// `pi_…`
    pub payment_intent: String,
    /// Of the intent when it was charged.
    pub metadata: BTreeMap<String, String>,
    /// Three small letters.
    pub currency: String,
    /// Authorised.
    pub amount: i64,
    /// Captured, 0 before.
    pub amount_captured: i64,
    /// Given back of what was captured.
    pub amount_refunded: i64,
    /// Whether the authorisation was let go uncaptured, by cancelling or by its age.
    pub released: bool,
}

/// A refund in the [`Ledger`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerRefund {
    /// `re_…`
    pub id: String,
    /// `ch_…`
    pub charge: String,
    /// `pi_…`
    pub payment_intent: String,
    /// Three small letters.
    pub currency: String,
    /// Minor units.
    pub amount: i64,
}

/// The account.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) now_ms: u64,
    pub(crate) livemode: bool,
    /// Where the customer goes for 3-D Secure.
    pub(crate) base_url: String,
    /// The request that is being carried out and its idempotency key, for the events that it causes.
    pub(crate) request: Option<(String, Option<String>)>,
    /// Whether the bank refuses the next approval for no reason.
    pub(crate) refuse_next: bool,
    /// How long a new intent is not yet found by a search.
    pub(crate) search_lag_ms: u64,
    ids: Chance,
    intents: IndexMap<String, Intent>,
    charges: IndexMap<String, Charge>,
    refunds: IndexMap<String, Refund>,
    events: IndexMap<String, Event>,
    authorizations: BTreeSet<(u64, String)>,
    /// Refunds that are still to arrive or to fail, by when.
    returning: BTreeSet<(u64, String)>,
    /// Events that no one has been told yet.
    fresh: Vec<String>,
}

impl Account {
    pub(crate) fn new(seed: u64, livemode: bool, now_ms: u64) -> Self {
        Self {
            now_ms,
            livemode,
            base_url: String::new(),
            request: None,
            refuse_next: false,
            search_lag_ms: 0,
            ids: Chance::new(seed, 1),
            intents: IndexMap::new(),
            charges: IndexMap::new(),
            refunds: IndexMap::new(),
            events: IndexMap::new(),
            authorizations: BTreeSet::new(),
            returning: BTreeSet::new(),
            fresh: vec![],
        }
    }

    /// Lets time pass: authorisations that nobody captured in seven days are let go, refunds under way end.
    pub(crate) fn pass_time(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some((due_ms, id)) =
            self.returning.first().cloned().filter(|(due_ms, _)| *due_ms <= self.now_ms)
        {
            self.returning.remove(&(due_ms, id.clone()));
            self.end_refund(&id);
        }
        while let Some((due_ms, id)) = self.authorizations.first().cloned() {
            if due_ms > self.now_ms {
                return;
            }
            self.authorizations.pop_first();
            self.let_go(&id, "automatic", true);
        }
    }

    /// Records that something happened to an object, as it is now.
    fn happened(&mut self, kind: &'static str, object: Value, previous: Option<Value>) {
        let id = self.ids.id("evt");
        let (request, idempotency_key) =
            self.request.clone().map_or((None, None), |(id, key)| (Some(id), key));
        let event = Event {
            id: id.clone(),
            kind,
            created_ms: self.now_ms,
            object,
            previous,
            request,
            idempotency_key,
            pending: false,
        };
        self.events.insert(id.clone(), event);
        self.fresh.push(id);
    }

    fn happened_to_intent(&mut self, kind: &'static str, id: &str) {
        let object = self.intent_object(&self.intents[id], false);
        self.happened(kind, object, None);
    }

    fn happened_to_charge(&mut self, kind: &'static str, id: &str, previous: Option<Value>) {
        let object = self.charge_object(&self.charges[id]);
        self.happened(kind, object, previous);
    }

    /// Events since the last call, for whoever delivers webhooks.
    pub(crate) fn take_fresh(&mut self) -> Vec<String> {
        std::mem::take(&mut self.fresh)
    }

    /// What happened.
    pub(crate) fn event_kind(&self, id: &str) -> &'static str {
        self.events.get(id).map_or("", |event| event.kind)
    }

    /// Marks whether an event's webhook is still to be delivered.
    pub(crate) fn set_pending(&mut self, event: &str, pending: bool) {
        if let Some(event) = self.events.get_mut(event) {
            event.pending = pending;
        }
    }

    /// The event's bytes for its webhook.
    pub(crate) fn event_body(&self, id: &str) -> Option<String> {
        self.events.get(id).map(|event| self.event_object(event).to_string())
    }

    fn known_intent(&self, id: &str, status: u16, param: &str) -> Result<&Intent, Failure> {
        self.intents.get(id).ok_or_else(|| Failure::missing(status, "payment_intent", id, param))
    }

    /// The books.
    pub(crate) fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for charge in self.charges.values().filter(|charge| charge.approved == Some(true)) {
            let released = !charge.captured && charge.amount_refunded > 0;
            let totals = ledger.totals.entry(charge.currency.clone()).or_default();
            let amount_refunded = if charge.captured { charge.amount_refunded } else { 0 };
            totals.authorized += if charge.captured || released { 0 } else { charge.amount };
            totals.captured += charge.amount_captured;
            totals.refunded += amount_refunded;
            ledger.charges.push(LedgerCharge {
                id: charge.id.clone(),
                payment_intent: charge.intent.clone(),
                metadata: charge.metadata.clone(),
                currency: charge.currency.clone(),
                amount: charge.amount,
                amount_captured: charge.amount_captured,
                amount_refunded,
                released,
            });
        }
        ledger.refunds.extend(self.refunds.values().filter(|refund| refund.status != "failed").map(
            |refund| LedgerRefund {
                id: refund.id.clone(),
                charge: refund.charge.clone(),
                payment_intent: refund.intent.clone(),
                currency: refund.currency.clone(),
                amount: refund.amount,
            },
        ));
        ledger
    }
}
