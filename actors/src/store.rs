//! The checkpoint store while serving: it may fail, and is then closed and opened again beneath its readers.
//!
//! sled refuses everything after its first failed write, also when there is room again, until it is opened anew; and what it
//! had taken and not synced by then may be lost. Laws 3 and 10: what is opened again is proved whole, and no older than the
//! last mark. Start at [`Store::get`].

use doorbuster_persistence::checkpoint::CheckpointStore;
use doorbuster_persistence::directory::DataPaths;
use doorbuster_persistence::error::CheckpointError;
use doorbuster_persistence::frame::FrameNumber;
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};

/// Below this the store is left alone: it would fail half way, and the journal needs the rest.
const ROOM_MIN_BYTES: u64 = 8 << 20;

/// See the module's header.
pub(crate) struct Store {
    open: RwLock<Option<CheckpointStore>>,
    paths: DataPaths,
}

impl Store {
    /// A store that recovery opened.
    pub(crate) fn new(store: CheckpointStore, paths: DataPaths) -> Self {
        Self { open: RwLock::new(Some(store)), paths }
    }

    /// The store, for a short while.
    ///
    /// # Errors
    /// While it could not be opened again after a failure.
    pub(crate) fn get(&self) -> Result<MappedRwLockReadGuard<'_, CheckpointStore>, CheckpointError> {
        RwLockReadGuard::try_map(self.open.read(), Option::as_ref).map_err(|_| CheckpointError::Store {
            what: "it is being opened again".to_owned(),
            is_damage: false,
        })
    }

    /// Whether the disk has room for writing to it.
    pub(crate) fn has_room(&self) -> bool {
        let free = self.paths.disk().free_bytes(&self.paths.checkpoint());
        // A disk that cannot say so may still take what is written; if it does not, that is an error of its own.
        free.map_or(true, |bytes| bytes >= ROOM_MIN_BYTES)
    }

    /// Opens the store anew after a failure. Afterwards it holds what was synced, and perhaps more.
    ///
    /// # Errors
    /// When it cannot be opened now, is damaged, or is older than `last_mark`, the newest that was set in this run: then
    /// the next start rebuilds it.
    pub(crate) fn reopen(&self, last_mark: Option<FrameNumber>) -> Result<(), CheckpointError> {
        let mut open = self.open.write();
        // Closed first: it locks its file.
        drop(open.take());
        let store = CheckpointStore::open(&**self.paths.disk(), &self.paths.checkpoint())?;
        store.for_each(|_| ())?;
        store.answers_for_each(|_| ())?;
        store.prove_readable()?;
        let newest = store.marks()?.first().map(|mark| mark.replay_from_frame);
        if newest < last_mark {
            return Err(CheckpointError::Damaged { what: "it forgot its newest mark".to_owned() });
        }
        *open = Some(store);
        Ok(())
    }
}
