//! What the live console shows: one snapshot of a sale, as `/v1/admin/live` sends it once a second.
//!
//! Every part says when it was measured, so that whoever shows it can show its age.

use serde::Serialize;
use utoipa::ToSchema;

use super::Money;
use super::responses::{Actor, Provider};

/// One look at a running engine.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveSnapshot {
    /// When it was taken.
    pub at: String,
    /// Counts snapshots since somebody began to watch.
    pub number: u64,
    /// Time between two snapshots, in milliseconds.
    pub interval_ms: u64,
    /// How far back rates and latencies look, in milliseconds: ten seconds, less at the beginning.
    pub window_ms: u64,
    /// What runs.
    pub engine: LiveEngine,
    /// What is sold.
    pub sale: LiveSale,
    /// What is asked and how it is answered.
    pub traffic: LiveTraffic,
    /// The SKUs that move most, and how far they are sold.
    pub skus: LiveSkus,
    /// The actors with the most messages a second.
    pub actors: LiveActors,
    /// The journal.
    pub journal: LiveJournal,
    /// Who follows the journal, and how far behind.
    pub followers: Vec<LiveFollower>,
    /// How payment providers stand.
    pub payments: Vec<Provider>,
    /// Whether the laws hold, as far as was looked.
    pub laws: LiveLaws,
    /// What happened lately, newest first.
    pub events: Vec<LiveEvent>,
}

/// What runs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveEngine {
    /// Its version.
    pub version: &'static str,
    /// What an acknowledgement means: `local`, `replicated` or `memory`.
    pub durability: &'static str,
    /// `recovering`, `ready` or `draining`.
    pub readiness: &'static str,
    /// When the process started.
    pub started_at: String,
    /// SKUs in the catalogue.
    pub skus: usize,
    /// Watchers of this console.
    pub watchers: usize,
}

/// How often something happens.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Rate {
    /// In the last second.
    pub now: f64,
    /// A second, over the window.
    pub mean: f64,
}

/// What is sold.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveSale {
    /// Orders placed a second.
    pub orders_per_s: Rate,
    /// Orders placed since the process started.
    pub orders_placed: u64,
    /// What they cost, by currency, since the process started. Refunds are not taken off.
    pub revenue: Vec<Money>,
    /// Units set aside a second, as reservations of any kind.
    pub reservations_per_s: Rate,
    /// Reservations and parts of orders a second whose units were sold.
    pub sold_per_s: Rate,
    /// Reservations and parts of orders a second whose units went back by choice.
    pub released_per_s: Rate,
    /// Reservations a second whose units went back by time.
    pub expired_per_s: Rate,
    /// Payments declined a second.
    pub declined_per_s: Rate,
}

/// What is asked and how it is answered. Calls of operators are left out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveTraffic {
    /// Requests answered a second.
    pub requests_per_s: Rate,
    /// By kind of call, over the window.
    pub calls: Vec<LiveCall>,
    /// Answers that were problems, by code, over the window; the most frequent first.
    pub refusals: Vec<LiveRefusal>,
    /// Of a hundred answers over the window, how many refused for want of time or room: what shoppers feel as an outage.
    /// Sold out is no such refusal.
    pub shed_percent: f64,
    /// Requests in the engine now.
    pub in_flight: u64,
}

/// One kind of call.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveCall {
    /// `reserve`, `commit`, `checkout` or `other`.
    pub call: &'static str,
    /// Answers a second, over the window.
    pub per_s: f64,
    /// Median time to the answer in microseconds, at most an eighth too much; absent where nothing was asked.
    pub p50_us: Option<u64>,
    /// 99th percentile.
    pub p99_us: Option<u64>,
    /// The longest.
    pub max_us: Option<u64>,
}

/// One kind of problem.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveRefusal {
    /// Its code.
    pub code: &'static str,
    /// Answers a second, over the window.
    pub per_s: f64,
}

/// The SKUs that move most.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct LiveSkus {
    /// When they were read, in milliseconds since 1970.
    pub at_ms: u64,
    /// Each, hottest first.
    pub data: Vec<LiveSku>,
}

/// One SKU.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveSku {
    /// Which.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// Opening + receipts + net adjustments.
    pub received: i64,
    /// Physical units.
    pub on_hand: i64,
    /// Units set aside.
    pub reserved: i64,
    /// Units that can be sold now.
    pub sellable: i64,
    /// Units sold.
    pub sold: i64,
    /// Changes a second, lately.
    pub changes_per_s: f64,
    /// When it will be sold out at the window's pace, in seconds; absent where it does not go down.
    pub sold_out_in_s: Option<u64>,
}

/// The hottest actors.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct LiveActors {
    /// When they were asked for, in milliseconds since 1970.
    pub at_ms: u64,
    /// Each, most messages a second first.
    pub data: Vec<Actor>,
}

/// The journal.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveJournal {
    /// Events made durable a second.
    pub events_per_s: Rate,
    /// Bytes made durable a second.
    pub bytes_per_s: Rate,
    /// Events that shared one sync, on average over the window.
    pub events_per_sync: f64,
    /// Median time of a sync in microseconds over the window, read off a histogram; absent where there was none.
    pub sync_p50_us: Option<u64>,
    /// 99th percentile.
    pub sync_p99_us: Option<u64>,
    /// Batches that wait for the writer.
    pub queue_batches: u64,
    /// Room surely there for records, in bytes.
    pub claimable_bytes: u64,
    /// Checkpoint rounds given up since the process started.
    pub checkpoint_failures: u64,
    /// Frames that this console passed over because it could not keep up: events of theirs are in no figure here.
    pub frames_skipped: u64,
}

/// Somebody who follows the journal.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveFollower {
    /// `projection`, `announcements` or `rescue`.
    pub name: &'static str,
    /// Whether there is one.
    pub configured: bool,
    /// How long the oldest thing that it lacks has been durable, in seconds.
    pub lag_s: Option<f64>,
    /// Durable frames that it lacks.
    pub lag_frames: Option<u64>,
}

/// Whether the laws hold, as far as was looked.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveLaws {
    /// Whether everything that was looked at holds.
    pub ok: bool,
    /// What was looked at.
    pub checks: Vec<LiveCheck>,
}

/// One thing that is looked at.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveCheck {
    /// Number of the law (engine/src/invariants.rs).
    pub law: u8,
    /// What is checked, in words.
    pub what: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// On how much it was checked.
    pub looked_at: u64,
    /// What is wrong, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveEvent {
    /// Counts events since somebody began to watch.
    pub number: u64,
    /// When.
    pub at: String,
    /// `info`, `warning` or `alarm`.
    pub level: &'static str,
    /// In words.
    pub text: String,
    /// The actor to look into, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<LiveActorName>,
}

/// An actor by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LiveActorName {
    /// `sku`, `cart`, `order` or `reservation`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
}
