//! What the front door and the engine say to each other.

use doorbuster_engine::answer::{Answer, Item, Refusal};
use doorbuster_engine::identity::{Position, RequestStamp, Sku, Timestamp};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{Address, LineUnits, OrderState, OrderView};
use doorbuster_engine::stock::LedgerEntry;
use tokio::time::Instant;

/// A request's identity and time limit, made by [`crate::Engine::ticket`].
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Key and fingerprint; a random key where the caller sent none.
    pub stamp: RequestStamp,
    /// Whether the caller sent a key: only then is the answer remembered and journalled.
    pub keyed: bool,
    /// When the caller stops waiting. Work not begun by then is dropped.
    pub deadline: Instant,
}

/// An answer, and whether it is an earlier one given again.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What to tell the caller.
    pub answer: Answer,
    /// Whether this key had its answer already.
    pub replayed: bool,
}

/// What every call comes to.
pub type Verdict = Result<Reply, Refusal>;

/// A reservation as asked.
#[derive(Clone, Debug)]
pub struct ReserveRequest {
    /// 1 to 100 SKUs, lines of one SKU already summed.
    pub items: Vec<Item>,
    /// Time to live; absent: the SKU's own, else 600 s (of several SKUs the shortest).
    pub ttl_ms: Option<u64>,
    /// Whether less than asked will do.
    pub partial: bool,
    /// Whom it is for, opaque.
    pub customer: Option<String>,
}

/// A cart line as asked.
#[derive(Clone, Debug)]
pub struct LineRequest {
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: i64,
    /// A price of the admin's own; absent: the catalogue's.
    pub unit_price: Option<Money>,
}

/// A checkout as asked.
#[derive(Clone, Debug)]
pub struct CheckoutInput {
    /// Where the confirmation goes.
    pub email: String,
    /// Payment provider's name.
    pub provider: String,
    /// Payment method token.
    pub method: String,
    /// The total the shopper saw.
    pub expected_total: Option<Money>,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// `If-Match`.
    pub expected_version: Option<u64>,
}

/// A refund as asked.
#[derive(Clone, Debug)]
pub struct RefundInput {
    /// How much; absent: by `lines`, or all that is left.
    pub amount: Option<Money>,
    /// Which units.
    pub lines: Option<Vec<LineUnits>>,
    /// Whether they go back on the shelf.
    pub restock: bool,
    /// Why.
    pub reason: Option<String>,
}

/// Who asks for an order.
#[derive(Clone, Debug)]
pub enum Access {
    /// The admin key was given.
    Admin,
    /// This cart token was given.
    Token(String),
    /// Nothing was given.
    Anonymous,
}

/// Which orders to list.
#[derive(Clone, Debug, Default)]
pub struct OrderFilter {
    /// Only in this state.
    pub state: Option<OrderState>,
    /// Only with this e-mail address.
    pub email: Option<String>,
    /// Only from then on.
    pub since: Option<Timestamp>,
    /// Only before then.
    pub until: Option<Timestamp>,
    /// Continue after this order (a cursor of an earlier page).
    pub starting_after: Option<String>,
    /// 1 to 100.
    pub limit: usize,
}

/// Part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Where to go on, if there is more.
    pub next_cursor: Option<String>,
}

/// Orders, newest first.
pub type OrderPage = Page<OrderView>;

/// Ledger entries, newest first.
pub type LedgerPage = Page<LedgerEntry>;

/// How a SKU's availability reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AvailabilityState {
    /// Plenty.
    InStock,
    /// At or below the merchant's mark.
    LowStock,
    /// Nothing to sell.
    SoldOut,
    /// Only beyond what is there.
    Backorder,
}

/// A SKU as anybody may see it; may be a flush ahead of the disk.
#[derive(Clone, Debug)]
pub struct SkuSnapshot {
    /// Which.
    pub sku: Sku,
    /// Its name.
    pub name: std::sync::Arc<str>,
    /// Price of one.
    pub price: Money,
    /// Units that can be sold now.
    pub sellable: i64,
    /// In a word.
    pub state: AvailabilityState,
    /// Grows with each change.
    pub version: u64,
}

/// One actor's figures.
#[derive(Clone, Debug)]
pub struct ActorReport {
    /// `sku`, `cart`, `order` or `reservation`.
    pub kind: &'static str,
    /// Its key, as on the wire.
    pub key: String,
    /// Messages waiting.
    pub queue_depth: u64,
    /// Messages handled since it was activated.
    pub messages: u64,
    /// Messages a second over the last ten seconds.
    pub rate: f64,
    /// Time from sending to start, in microseconds: median and 99th percentile.
    pub wait_us: (u64, u64),
    /// Time in the handler, in microseconds: median and 99th percentile.
    pub service_us: (u64, u64),
    /// When it last handled one.
    pub last_activity: Timestamp,
    /// Times it was rebuilt after a panic.
    pub restarts: u64,
}

/// How actors are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActorSort {
    /// Most messages a second.
    #[default]
    Rate,
    /// Most messages waiting.
    Depth,
    /// Longest wait, 99th percentile.
    Wait,
    /// Most messages since activation.
    Messages,
}

/// One actor looked into.
#[derive(Clone, Debug)]
pub struct ActorDetail {
    /// Its figures.
    pub report: ActorReport,
    /// Its state in the debug form of the pure machine.
    pub state: String,
    /// Its last messages, newest first.
    pub recent: Vec<RecentMessage>,
    /// Position of its last event.
    pub position: Position,
}

/// One handled message.
#[derive(Clone, Debug)]
pub struct RecentMessage {
    /// When.
    pub at: Timestamp,
    /// Wire name of the command.
    pub message: &'static str,
    /// Wire name of the outcome.
    pub outcome: &'static str,
}

/// Where the engine as a whole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Reading its journal.
    Recovering,
    /// Serving.
    Ready,
    /// Finishing what was begun.
    Draining,
}

/// Currency used where a cart names none.
pub const CURRENCY_DEFAULT: Currency = Currency::GBP;
