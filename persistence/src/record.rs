//! The fixed part of a record: where an event stands, apart from what it says.
//!
//! A record carries its partition, owner epoch and a sequence that is gapless per partition from the first day, so
//! that a cluster changes no bytes.

/// The version of a record, and of the event in it, that this engine writes, and the newest it reads. Version 2 came with
/// payments that are authorized first, version 3 with answers that are recorded although nothing changed.
pub const RECORD_VERSION: u16 = 3;

/// Bytes of a record before its body: length, version and [`RecordHeader`].
pub const RECORD_HEADER_BYTES: usize = 36;

/// Largest body of a record, in bytes: the bound of every allocation a damaged length could ask for.
pub const RECORD_BODY_BYTES_MAX: usize = 16 << 20;

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The entity's partition, [`EntityKey::partition`](doorbuster_engine::event::EntityKey::partition).
    pub partition: u16,
    /// Which ownership of the partition wrote it; 1 on a single machine.
    pub epoch: u32,
    /// Its number in the partition: 1, 2, 3, … without a gap.
    pub sequence: u64,
    /// Its position among all events of the engine: unique, ascending, not gapless.
    pub position: u64,
    /// Business time of the turn, milliseconds since the Unix epoch.
    pub at_ms: u64,
}
