//! What can go wrong with the disk, and what to do about it.
//!
//! A [`JournalError`] while serving is fatal: the process stops and recovery speaks next (law 3). A [`StartError`]
//! ends the start with one sentence and an exit code; the data stays as it is.

use std::io;
use std::path::{Path, PathBuf};

use doorbuster_engine::invariants::Violation;

/// The journal cannot go on. Never retried: after a failed write or sync nobody knows what the disk holds.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused; stop the process, look at the disk, start again.
    #[error("cannot {action} {}: {source}; check the disk, then start the engine again", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No segment is prepared and none can be made; free some space and start again.
    #[error("no room for another journal segment in {}: {reason}; free some space, then start the engine again", path.display())]
    Full {
        /// The journal's directory.
        path: PathBuf,
        /// Why preparing failed.
        reason: String,
    },
    /// A batch was larger than a frame may be; a bug of the caller, who splits at
    /// [`Journal::frame_bytes_max`](crate::journal::Journal::frame_bytes_max).
    #[error("a batch of {bytes} bytes is over the frame's limit of {bytes_max}; split it")]
    FrameTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// An earlier error closed the journal; nothing more is taken until a restart.
    #[error("the journal stopped earlier ({reason}); restart the engine, recovery will tell what is on disk")]
    Stopped {
        /// The first error.
        reason: String,
    },
    /// Bytes are not what was written, and not a torn tail; restore the named file from a copy.
    #[error("{} is damaged at offset {offset}: {what}; restore this file from a copy, do not edit or delete it", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The file was written by a newer engine; start that one.
    #[error("{} has format {found}, but this engine knows formats up to {known}; start it with a newer engine", file.display())]
    NewerVersion {
        /// Which file.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest this engine reads.
        known: u32,
    },
    /// The file was written by an engine from before the first release; start that one, or begin anew.
    #[error("{} has records of version {found}, but this engine reads versions from {oldest} on; start it with the engine that wrote it, or begin anew in another directory with --data", file.display())]
    OlderVersion {
        /// Which file.
        file: PathBuf,
        /// Version of its records.
        found: u32,
        /// The oldest this engine reads.
        oldest: u32,
    },
    /// Segments that should be there are not; bring them back.
    #[error("journal segment {segment} is missing from {}; put the file back from a copy", directory.display())]
    MissingSegment {
        /// The journal's directory.
        directory: PathBuf,
        /// The missing number.
        segment: u64,
    },
    /// Segments of another engine lie in this directory.
    #[error("{} belongs to another engine; remove it from this data directory", file.display())]
    ForeignSegment {
        /// Which file.
        file: PathBuf,
    },
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_path_buf(), offset, what: what.into() }
    }
}

/// The checkpoint store failed. Costs time, never data: the journal can rebuild it.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store refused; skip this round and raise an alarm.
    #[error(
        "the checkpoint store failed: {what}; it is rebuilt from the journal at the next start if it stays so"
    )]
    Store {
        /// What it said.
        what: String,
        /// Whether the store itself is to blame, not the disk under it.
        is_damage: bool,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value is not what was written; the store is set aside and rebuilt at the next start.
    #[error("the checkpoint store is damaged ({what}); restart the engine, it is rebuilt from the journal")]
    Damaged {
        /// What was found.
        what: String,
    },
}

impl CheckpointError {
    /// Whether the store itself is to blame, so that setting it aside and rebuilding it helps; else the disk is.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { .. } => false,
            Self::Store { is_damage, .. } => *is_damage,
        }
    }

    /// An input or output error inside the store: the disk's fault where the system names a reason of its own, else
    /// the store's.
    pub fn of_store(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;

        let disk = [
            Kind::StorageFull,
            Kind::QuotaExceeded,
            Kind::PermissionDenied,
            Kind::ReadOnlyFilesystem,
            Kind::WouldBlock,
        ];
        Self::Store { what: format!("IO error: {error}"), is_damage: !disk.contains(&error.kind()) }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// Why the engine did not start. Its text is one sentence with the remedy; the data is untouched.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be written.
    #[error("cannot write to the data directory {}: {source}; give this user the right to write there or choose another with --data", path.display())]
    NotWritable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no data directory here (offline commands only; serving makes one).
    #[error("{} is not a data directory of this engine; name the one given to serve", path.display())]
    NotADataDirectory {
        /// Which.
        path: PathBuf,
    },
    /// Another engine holds it.
    #[error("another engine already runs on the data directory {}; stop it or choose another directory with --data", path.display())]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// The directory was written by a newer engine.
    #[error("the data directory {} has format {found}, but this engine knows formats up to {known}; start it with a newer engine", path.display())]
    NewerVersion {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest this engine reads.
        known: u32,
    },
    /// The directory was written by an engine from before the first release.
    #[error("the data directory {} has format {found}, but this engine reads formats from {oldest} on; start it with the engine that wrote it, or begin anew in another directory with --data", path.display())]
    OlderVersion {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The oldest this engine reads.
        oldest: u32,
    },
    /// Not enough room to begin.
    #[error("the disk of {} has {free_bytes} bytes free, but starting needs {needed_bytes}; free some space or choose another directory with --data", path.display())]
    DiskFull {
        /// Which.
        path: PathBuf,
        /// Bytes free.
        free_bytes: u64,
        /// Bytes needed.
        needed_bytes: u64,
    },
    /// A small file of the directory is not what was written.
    #[error("{} is damaged ({what}); restore this file from a copy", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The checkpoint store refused twice: once as found, once made new.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A record's place in its partition is wrong.
    #[error("{} breaks law 9 in the frame at offset {offset}: partition {partition} continues with sequence {found} where {expected} was due; restore the journal from a copy", file.display())]
    Gap {
        /// Segment file.
        file: PathBuf,
        /// Offset of the frame.
        offset: u64,
        /// Partition.
        partition: u16,
        /// Sequence that was due.
        expected: u64,
        /// Sequence found.
        found: u64,
    },
    /// The checkpoint knows more than the journal: durable records are gone.
    #[error("the checkpoint in {} {what}: durable records are missing; restore the newest journal segments from a copy", path.display())]
    CheckpointAhead {
        /// The checkpoint's directory.
        path: PathBuf,
        /// What it reflects and where the journal ends.
        what: String,
    },
    /// Records before the first segment at hand are needed.
    #[error("the journal in {} begins at frame {first_frame}, but frame {needed_frame} is needed; put the archived segments back", directory.display())]
    MissingFrames {
        /// The journal's directory.
        directory: PathBuf,
        /// First frame at hand.
        first_frame: u64,
        /// First frame needed.
        needed_frame: u64,
    },
    /// The rebuilt state breaks a law; never served.
    #[error("{place}: {violation}; keep the data directory as it is and report this, or restore a copy")]
    Law {
        /// Where it showed.
        place: String,
        /// What it breaks.
        violation: Violation,
    },
}

impl StartError {
    pub(crate) fn not_writable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::NotWritable { path, source }
    }

    /// The process's exit code: as in `sysexits.h`, so that supervisors can tell a busy directory from a broken one.
    ///
    /// 65 damaged data or a broken law, 66 no such data, 71 disk full, 73 not writable, 74 input/output error,
    /// 75 locked by another engine, 76 a format of a newer engine, or of one from before the first release.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotWritable { .. } => 73,
            Self::NotADataDirectory { .. } => 66,
            Self::Locked { .. } => 75,
            Self::NewerVersion { .. }
            | Self::OlderVersion { .. }
            | Self::Journal(JournalError::NewerVersion { .. } | JournalError::OlderVersion { .. }) => 76,
            Self::DiskFull { .. } | Self::Journal(JournalError::Full { .. }) => 71,
            Self::Damaged { .. }
            | Self::Gap { .. }
            | Self::CheckpointAhead { .. }
            | Self::MissingFrames { .. }
            | Self::Law { .. }
            | Self::Checkpoint(CheckpointError::Damaged { .. })
            | Self::Journal(
                JournalError::Damaged { .. }
                | JournalError::MissingSegment { .. }
                | JournalError::ForeignSegment { .. },
            ) => 65,
            Self::Journal(
                JournalError::Io { .. } | JournalError::FrameTooLarge { .. } | JournalError::Stopped { .. },
            )
            | Self::Checkpoint(CheckpointError::Store { .. } | CheckpointError::Io { .. }) => 74,
        }
    }
}
