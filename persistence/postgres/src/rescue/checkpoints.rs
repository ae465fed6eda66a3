//! Checkpoints on their way to the copy: one page at a time, between batches, so that frames never wait for long.
//!
//! A checkpoint is begun when the batches since the last one are worth it, and counts once all its pages and every frame it may
//! reflect are there. Two are kept; batches behind the older one are pruned. Start at [`Courier::step`].

use std::time::{Duration, Instant};

use doorbuster_persistence::checkpoint::{Imaging, RoundMark};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::rescue::CheckpointSource;
use doorbuster_persistence::rescue::base::{BaseHead, BasePage, PAGE_BYTES};

use super::error::RescueError;
use super::status::Status;
use super::tables::{Claimant, Tables};

/// Wait after a checkpoint that could not be taken, or when there was none to take yet.
const PAUSE: Duration = Duration::from_secs(1);

/// Batches removed at a time: each costs the server a row and its pages, and frames wait meanwhile.
const PRUNED_AT_ONCE: i64 = 200;

/// Takes checkpoints to the copy.
pub(crate) struct Courier {
    stage: Stage,
    /// Least bytes of batches, compressed, between two checkpoints.
    bytes_min: u64,
    /// Bytes of batches since the frame from which the newest checkpoint replays.
    bytes_since: u64,
    /// Bytes of the newest checkpoint.
    bytes_of_newest: u64,
    /// Whether the copy is of no use without a checkpoint, because it begins behind frame 1.
    is_needed: bool,
    again_at: Instant,
    is_pruned: bool,
}

enum Stage {
    Resting,
    Copying(Copying),
    /// Whole, but for frames that are still to be shipped.
    Waiting(Copying),
}

struct Copying {
    imaging: Imaging,
    checkpoint: i64,
    pages: u64,
    bytes: u64,
    /// The journal's durable end when all rows were copied.
    durable: FrameNumber,
    /// Bytes of batches shipped since the copy was begun.
    bytes_since: u64,
}

impl Courier {
    pub(crate) fn new(bytes_min: u64) -> Self {
        Self {
            stage: Stage::Resting,
            bytes_min,
            bytes_since: 0,
            bytes_of_newest: 0,
            is_needed: false,
            again_at: Instant::now(),
            is_pruned: true,
        }
    }

    /// Looks what the copy has, at a session's beginning.
    /// `begin` is the frame where it begins if it has no batch yet.
    pub(crate) async fn attach(&mut self, tables: &Tables, begin: FrameNumber) -> Result<(), RescueError> {
        let newest = tables.newest_checkpoint_extent().await?;
        let first = tables.extent().await?.map_or(begin, |(first, _)| first);
        self.is_needed = newest.is_none() && first > FrameNumber::FIRST;
        let (from, bytes) = newest.unwrap_or((FrameNumber::FIRST, 0));
        self.bytes_of_newest = bytes;
        self.bytes_since = tables.bytes_from(from).await?;
        self.is_pruned = false;
        Ok(())
    }

    /// A session ended: what was begun in it is not gone on with.
    pub(crate) fn abandon(&mut self, source: &dyn CheckpointSource) {
        if !matches!(self.stage, Stage::Resting) {
            source.end();
            self.stage = Stage::Resting;
        }
        self.again_at = Instant::now() + PAUSE;
    }

    /// Batches of so many bytes were shipped.
    pub(crate) fn shipped(&mut self, bytes: u64) {
        self.bytes_since += bytes;
        match &mut self.stage {
            Stage::Resting => {}
            Stage::Copying(copying) | Stage::Waiting(copying) => copying.bytes_since += bytes,
        }
    }

    fn is_due(&self) -> bool {
        // Twice its own size: then checkpoints are at most a third of what is shipped.
        let worth = self.bytes_min.max(self.bytes_of_newest.saturating_mul(2));
        (self.bytes_since >= worth || self.is_needed) && self.again_at <= Instant::now()
    }

    /// Does one thing, if there is one to do: a page, the end of a checkpoint, a piece of pruning.
    pub(crate) async fn step(
        &mut self,
        tables: &mut Tables,
        claimant: &Claimant,
        source: &dyn CheckpointSource,
        place: Place<'_>,
        status: &Status,
    ) -> Result<(), RescueError> {
        match std::mem::replace(&mut self.stage, Stage::Resting) {
            Stage::Resting if self.is_due() => self.begin(tables, claimant, source).await,
            Stage::Resting if !self.is_pruned => {
                let pruned = tables.prune(claimant, PRUNED_AT_ONCE).await?;
                status.pruned(pruned);
                self.is_pruned = pruned == 0;
                Ok(())
            }
            Stage::Resting => Ok(()),
            Stage::Copying(copying) => self.copy(copying, tables, claimant, source, place).await,
            Stage::Waiting(copying) if place.shipped < copying.durable => {
                self.stage = Stage::Waiting(copying);
                Ok(())
            }
            Stage::Waiting(copying) => {
                let mark = RoundMark { durable_frame: copying.durable, ..copying.imaging.mark.clone() };
                let head = BaseHead { mark, pages: copying.pages };
                if tables.finish_checkpoint(claimant, copying.checkpoint, &head, copying.bytes).await? {
                    self.bytes_of_newest = copying.bytes;
                    self.bytes_since = copying.bytes_since;
                    self.is_needed = false;
                    self.is_pruned = false;
                    status.checkpoint_finished();
                    tracing::info!(
                        replay_from = head.mark.replay_from_frame.0,
                        pages = head.pages,
                        bytes = copying.bytes,
                        "the rescue copy has a checkpoint"
                    );
                }
                self.again_at = Instant::now() + PAUSE;
                Ok(())
            }
        }
    }

    async fn begin(
        &mut self,
        tables: &mut Tables,
        claimant: &Claimant,
        source: &dyn CheckpointSource,
    ) -> Result<(), RescueError> {
        self.again_at = Instant::now() + PAUSE;
        let imaging = match source.begin() {
            Ok(Some(imaging)) => imaging,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "no checkpoint can be taken for the rescue copy now");
                return Ok(());
            }
        };
        match tables.begin_checkpoint(claimant, imaging.mark.replay_from_frame).await {
            Ok(Some(checkpoint)) => {
                let durable = FrameNumber(0);
                let copying = Copying { imaging, checkpoint, pages: 0, bytes: 0, durable, bytes_since: 0 };
                self.stage = Stage::Copying(copying);
                Ok(())
            }
            Ok(None) => {
                source.end();
                Ok(())
            }
            Err(error) => {
                source.end();
                Err(error)
            }
        }
    }

    async fn copy(
        &mut self,
        mut copying: Copying,
        tables: &mut Tables,
        claimant: &Claimant,
        source: &dyn CheckpointSource,
        place: Place<'_>,
    ) -> Result<(), RescueError> {
        let mut raw = Vec::new();
        let had_all_rows = copying.imaging.has_all_rows();
        if let Err(error) = source.page(&mut copying.imaging, PAGE_BYTES, &mut raw) {
            tracing::warn!(%error, "a checkpoint for the rescue copy was given up and is taken again");
            source.end();
            self.again_at = Instant::now() + PAUSE;
            return Ok(());
        }
        if copying.imaging.has_all_rows() && !had_all_rows {
            // Rows hold durable state only, so none of them is beyond this.
            copying.durable = (place.durable)();
        }
        let is_done = copying.imaging.is_done();
        let page = BasePage::pack(claimant.engine, &copying.imaging.mark, copying.pages, &raw);
        if let Err(error) = tables.put_page(copying.checkpoint, copying.pages, &page).await {
            source.end();
            return Err(error);
        }
        copying.pages += 1;
        copying.bytes += page.payload.len() as u64;
        self.stage = if is_done {
            source.end();
            Stage::Waiting(copying)
        } else {
            Stage::Copying(copying)
        };
        Ok(())
    }
}

/// Where the journal and its copy stand.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Last frame of the copy.
    pub(crate) shipped: FrameNumber,
    /// Tells the journal's durable end.
    pub(crate) durable: &'a dyn Fn() -> FrameNumber,
}
