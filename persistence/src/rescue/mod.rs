//! A journal's copy elsewhere: frames packed for the way, and a data directory rebuilt from them.
//!
//! Laws: (3) what the copy holds comes back byte for byte; (9) a restored journal is the gapless, chained prefix of the one it was
//! copied from, or nothing at all. Where the copy lies is not known here: `doorbuster-postgres` keeps it in a
//! database. [`base`] is what a journal begins from
//! whose first frames were pruned. Start at [`shipment::Packer`] on the way out and at [`restore::Restoration`] on the way back.

pub mod base;
pub mod restore;
pub mod shipment;

use crate::checkpoint::Imaging;
use crate::error::CheckpointError;

/// Name of the secret that proves to a copy which data directory owns it. It is never copied itself.
pub const TOKEN: &str = "rescue_owner";

/// Where copies of the checkpoint store are taken from while an engine serves.
pub trait CheckpointSource: Send {
    /// Begins a copy; `None` before the first round.
    fn begin(&self) -> Result<Option<Imaging>, CheckpointError>;

    /// Appends entries to `page` until it has `bytes` or everything is copied.
    fn page(&self, imaging: &mut Imaging, bytes: usize, page: &mut Vec<u8>) -> Result<(), CheckpointError>;

    /// The copy is done, or given up.
    fn end(&self);
}
