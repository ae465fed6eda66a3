//! Clears the live journal behind the checkpoint: sealed segments move to the archive, nothing is deleted.

use doorbuster_engine::mutant::{self, Mutant};

use crate::directory::{DataPaths, EngineId};
use crate::error::JournalError;
use crate::frame::FrameNumber;
use crate::segment::{self, SegmentFile};

/// Moves every segment that lies wholly below `replay_from` to `journal/archive/`; returns those moved.
///
/// `replay_from` is the mark of the *older* of the two kept rounds: both can still be replayed from live segments.
/// Safe beside a running writer: a segment with a successor is sealed. Oldest first, so that a crash in between leaves
/// no gap.
pub fn archive_segments(
    paths: &DataPaths,
    engine: EngineId,
    replay_from: FrameNumber,
) -> Result<Vec<SegmentFile>, JournalError> {
    let disk = paths.disk().as_ref();
    let (journal, archive) = (paths.journal(), paths.archive());
    let live = segment::list(disk, &journal, engine, false)?;
    let mut moved = Vec::new();
    for pair in live.windows(2) {
        if pair[1].header.first_frame > replay_from && !mutant::active(Mutant::ArchiveTooEarly) {
            break;
        }
        let target = archive.join(segment::segment_name(pair[0].header.number));
        disk.rename(&pair[0].path, &target).map_err(JournalError::io("archive", &pair[0].path))?;
        moved.push(SegmentFile { path: target, archived: true, ..pair[0].clone() });
    }
    if !moved.is_empty() {
        // The new name first: between the two syncs a power cut may leave both names or the new one, never neither.
        disk.sync_directory(&archive).map_err(JournalError::io("sync", &archive))?;
        disk.sync_directory(&journal).map_err(JournalError::io("sync", &journal))?;
    }
    Ok(moved)
}
