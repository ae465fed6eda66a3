//! What a journal is, whatever carries it: frames appended, then synced.
//!
//! Any error is final. After a failed write or sync nobody knows what the disk holds, so it is reported once and the
//! journal refuses everything afterwards (law 3); recovery speaks next.

use std::sync::Arc;

use crate::error::JournalError;
use crate::frame::{Frame, FrameNumber};
use crate::space::Space;

/// An append-only sequence of frames.
pub trait Journal: Send {
    /// Writes one frame after the last. It promises nothing until [`Journal::sync`] returns.
    fn append(&mut self, frame: Frame<'_>) -> Result<FrameNumber, JournalError>;

    /// Makes every appended frame durable.
    fn sync(&mut self) -> Result<(), JournalError>;

    /// Looks after what can wait until nobody does: room for later frames. Called before each step of a writer.
    fn tend(&mut self) {}

    /// The number the next frame will have.
    fn next_frame(&self) -> FrameNumber;

    /// Largest frame body, in bytes. Larger batches cannot be written.
    fn frame_bytes_max(&self) -> usize;

    /// The budget from which space for records is claimed.
    fn space(&self) -> Arc<Space>;
}
