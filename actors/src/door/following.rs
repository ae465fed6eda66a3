//! The journal for whoever follows it: projections, announcements, a copy elsewhere.

use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::tail::JournalTail;

use crate::engine::Engine;

impl Engine {
    /// The journal from frame `from` on, as frames become durable. Following costs the engine nothing but the disk's
    /// reading; for a thread that may wait.
    pub fn follow(&self, from: FrameNumber) -> JournalTail {
        let directory = &self.shared.directory;
        JournalTail::open(directory.paths().clone(), directory.engine(), from, self.shared.journal.clone())
    }
}
