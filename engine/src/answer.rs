//! What a machine says: answers, refusals, and what folding an event leaves behind.
//!
//! An [`Answer`] is plain data that the journal's fold can make again, so that a retry gets the first answer's
//! bytes after a crash (law 5). A [`Refusal`] promises nothing and is never stored (law 4).

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::cart::CartView;
use crate::identity::{Fingerprint, OrderId, Position, RequestStamp, ReservationId, Sku, Timestamp};
use crate::money::Money;
use crate::order::{FulfilmentView, OrderView, RefundView};
use crate::payment::NextAction;
use crate::stock::{LedgerEntry, StockView};

/// Units of one SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What.
    pub sku: Sku,
    /// How many, 1 or more.
    pub quantity: i64,
}

/// Where a reservation stands. It leaves `Held` exactly once (law 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReservationState {
    /// Units are set aside until `expires_at`.
    Held,
    /// Units are sold.
    Committed,
    /// Units went back by choice.
    Released,
    /// Units went back by time.
    Expired,
}

/// All that is remembered of a reservation: enough for its present view and for the first answer again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRecord {
    /// Its id.
    pub id: ReservationId,
    /// What was granted, one entry a SKU, in the order asked.
    pub items: SmallVec<[Item; 1]>,
    /// Where it stands.
    pub state: ReservationState,
    /// When it was granted.
    pub created_at: Timestamp,
    /// Time to live it was granted with, in milliseconds.
    pub ttl_ms: u64,
    /// When it ends by itself (exclusive), after any extension.
    pub expires_at: Timestamp,
    /// Position of the grant.
    pub position: Position,
    /// Body hash of the request that made it; zero for an order's.
    pub fingerprint: Fingerprint,
    /// The order that owns it, which refuses public commit, extend and release.
    pub order: Option<OrderId>,
}

impl ReservationRecord {
    /// The record as its first answer showed it: held, with the first deadline.
    pub fn first(&self) -> Self {
        Self {
            state: ReservationState::Held,
            expires_at: self.created_at.plus_ms(self.ttl_ms),
            ..self.clone()
        }
    }
}

/// What a successful command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A reservation, as it stood then.
    Reservation(ReservationRecord),
    /// A SKU's stock.
    Stock(StockView),
    /// A SKU made (`created`) or changed.
    SkuDefined {
        /// Whether it is new.
        created: bool,
        /// Its stock now.
        stock: StockView,
    },
    /// A new cart; the front door adds the token.
    CartCreated(Box<CartView>),
    /// A cart.
    Cart(Box<CartView>),
    /// A cart deleted.
    CartDeleted,
    /// A checkout or confirmation came to a result.
    Checkout(CheckoutResult, Box<OrderView>),
    /// An order.
    Order(Box<OrderView>),
    /// A refund.
    Refund(RefundView),
    /// A fulfilment.
    Fulfilment(FulfilmentView),
    /// What a provider told was remembered, and has had its effect.
    Noticed,
}

/// What a checkout came to, short of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckoutResult {
    /// Paid and placed.
    Placed,
    /// The shopper must act (3-D Secure, a provider's page).
    ActionRequired {
        /// What to do.
        action: NextAction,
    },
    /// The provider has not answered yet; the order holds its units.
    PaymentPending,
}

/// A SKU that could not give what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// Which.
    pub sku: Sku,
    /// Units asked for.
    pub requested: i64,
    /// Units it could have given.
    pub available: i64,
}

/// One thing wrong with a request's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON pointer to it, e.g. `/items/0/quantity`.
    pub pointer: String,
    /// Stable code, e.g. `out_of_range`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl FieldError {
    /// A field error from its three texts.
    pub fn new(pointer: impl Into<String>, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), message: message.into() }
    }
}

/// What is missing, for `not_found`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// These SKUs are not in the catalogue.
    Skus(Vec<Sku>),
    /// No such reservation.
    Reservation,
    /// No such cart, or a wrong token.
    Cart,
    /// The cart has no such line.
    Line,
    /// No such order, or a wrong token.
    Order,
    /// No such actor.
    Actor,
}

/// Why a command was not carried out. Ordinary data; nothing changed, except where a saga was undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The thing is not there, or not the caller's.
    NotFound(Missing),
    /// Units are not there.
    InsufficientStock(Vec<Shortage>),
    /// The machine does not allow this move from where it stands.
    IllegalTransition {
        /// The state it is in, by its wire name.
        from: String,
        /// What was asked, in words.
        action: String,
        /// Why, for people.
        detail: String,
    },
    /// The reservation ended by time.
    ReservationExpired,
    /// The cart ended by time, or was deleted.
    CartExpired,
    /// The total is not what the caller expected.
    PriceChanged {
        /// What the caller said.
        expected: Money,
        /// What it is.
        total: Money,
    },
    /// The resource has another version than the caller's `If-Match`.
    VersionMismatch {
        /// Its version now.
        current: u64,
    },
    /// The provider refused the payment.
    PaymentDeclined {
        /// Why, in the provider's words made safe.
        reason: String,
        /// Whether a new attempt may fare better.
        retryable: bool,
    },
    /// The content is wrong.
    Validation(Vec<FieldError>),
    /// The key was used for something else.
    KeyReused,
    /// The first call with this key is still running.
    InProgress {
        /// When to ask again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Too much waits already.
    Overloaded {
        /// When a place is expected to be free, in milliseconds.
        retry_after_ms: u64,
    },
    /// The journal has no room for the record.
    StorageFull {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The engine is shutting down.
    Draining,
    /// The actor or engine is being rebuilt.
    Recovering {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The payment provider does not answer, and the shop lets no order wait for it.
    PaymentUnavailable {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Its time ran out before it was decided, or before its answer was known to be durable.
    DeadlineExceeded,
}

/// A request that has its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which request.
    pub request: RequestStamp,
    /// What it is told. Only an `Ok` is remembered under the key.
    pub verdict: Result<Answer, Refusal>,
}

/// Entries of a SKU's ledger that left its memory, to be kept in cold storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerChunk {
    /// Whose.
    pub sku: Sku,
    /// Oldest first, never empty.
    pub entries: Vec<LedgerEntry>,
}

/// What folding one event leaves behind besides the new state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Requests that now have their verdict.
    pub settlements: SmallVec<[Settlement; 1]>,
    /// A reservation that ended and left its actor's memory.
    pub ended: Option<Box<ReservationRecord>>,
    /// Ledger entries that left the actor's memory.
    pub spilled: Option<Box<LedgerChunk>>,
}

impl Folded {
    /// Only a verdict; nothing where the change came from no request.
    pub fn settle(request: Option<RequestStamp>, verdict: impl FnOnce() -> Result<Answer, Refusal>) -> Self {
        let settlements =
            request.map(|request| Settlement { request, verdict: verdict() }).into_iter().collect();
        Self { settlements, ..Self::default() }
    }
}
