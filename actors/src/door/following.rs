//! The journal for whoever follows it: projections, announcements, a copy elsewhere.

use std::sync::Arc;

use doorbuster_persistence::checkpoint::Imaging;
use doorbuster_persistence::error::{CheckpointError, StartError};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::rescue::CheckpointSource;
use doorbuster_persistence::tail::JournalTail;

use crate::engine::Engine;
use crate::runtime::Shared;

/// The engine's checkpoint store, for copies.
struct Checkpoints(Arc<Shared>);

impl CheckpointSource for Checkpoints {
    fn begin(&self) -> Result<Option<Imaging>, CheckpointError> {
        self.0.store.get()?.begin_image()
    }

    fn page(&self, imaging: &mut Imaging, bytes: usize, page: &mut Vec<u8>) -> Result<(), CheckpointError> {
        self.0.store.get()?.image_page(imaging, bytes, page)
    }

    fn end(&self) {
        // One that is being opened again holds nothing.
        if let Ok(store) = self.0.store.get() {
            store.end_image();
        }
    }
}

impl Engine {
    /// The journal from frame `from` on, as frames become durable. Following costs the engine nothing but the disk's
    /// reading; for a thread that may wait.
    pub fn follow(&self, from: FrameNumber) -> JournalTail {
        let directory = &self.shared.directory;
        JournalTail::open(directory.paths().clone(), directory.engine(), from, self.shared.journal.clone())
    }

    /// Where copies of the checkpoint store are taken from while this engine serves.
    pub fn checkpoint_source(&self) -> Box<dyn CheckpointSource> {
        Box::new(Checkpoints(Arc::clone(&self.shared)))
    }

    /// What proves to a rescue copy that this data directory owns it: made at first use, and part of the directory.
    pub fn rescue_token(&self) -> Result<[u8; 32], StartError> {
        self.shared.directory.secret(doorbuster_persistence::rescue::TOKEN)
    }
}
