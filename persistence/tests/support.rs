//! What the tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster_persistence::directory::{DataPaths, EngineId};
use doorbuster_persistence::disk::MachineDisk;
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions, Preparation};
use doorbuster_persistence::frame::{Frame, FrameNumber};
use doorbuster_persistence::journal::Journal;
use doorbuster_persistence::reader::{JournalReader, Tail};
use doorbuster_persistence::segment::segment_name;

/// The engine of all tests.
pub(crate) const ENGINE: EngineId = EngineId([7; 16]);

/// Segments so small that tests rotate them.
pub(crate) const SMALL: JournalOptions =
    JournalOptions { segment_bytes: 4_096, preparation: Preparation::Thread };

/// A place for a journal.
pub(crate) fn paths(root: &Path) -> DataPaths {
    let paths = DataPaths::new(Arc::new(MachineDisk), root);
    std::fs::create_dir_all(paths.archive()).unwrap();
    paths
}

/// Opens, which must succeed without a cut.
pub(crate) fn open(paths: &DataPaths) -> FileJournal {
    let (journal, cut) = FileJournal::open(paths, ENGINE, SMALL).unwrap();
    assert_eq!(cut, None);
    journal
}

/// Appends one frame a text and syncs each.
pub(crate) fn write(journal: &mut dyn Journal, texts: &[&[u8]]) {
    for text in texts {
        journal.append(Frame { records: 1, parts: &[text] }).unwrap();
        journal.sync().unwrap();
    }
}

/// Everything a journal holds from `from` on, and its end.
pub(crate) fn read(paths: &DataPaths, from: FrameNumber) -> Result<(Vec<Vec<u8>>, Tail), JournalError> {
    let mut reader = JournalReader::open(paths, ENGINE, from)?;
    let mut bodies = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        bodies.push(frame.body.to_vec());
    }
    Ok((bodies, reader.tail()))
}

/// The newest segment file of a data directory, and its number.
pub(crate) fn last_segment(root: &Path) -> (PathBuf, u64) {
    let place = |number| root.join("journal").join(segment_name(number));
    let number = (1..1_000).rev().find(|number| place(*number).exists()).unwrap();
    (place(number), number)
}

/// Copies a directory with all that is in it.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
