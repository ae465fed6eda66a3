//! Law 9 at every bit and every length of a small journal of three segments: damage in the last frame may pass for a torn
//! tail, is cut and reported, and costs that frame alone; any other refuses and names file, offset and remedy; nothing is ever
//! skipped in silence.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster_persistence::directory::{DataPaths, EngineId};
use doorbuster_persistence::disk::OpenMode;
use doorbuster_persistence::error::JournalError;
use doorbuster_persistence::file_journal::{FileJournal, JournalOptions, Preparation};
use doorbuster_persistence::frame::{Frame, FrameNumber};
use doorbuster_persistence::journal::Journal;
use doorbuster_persistence::reader::{JournalReader, Tail};
use doorbuster_simulator::disk::Machine;
use doorbuster_simulator::random::Random;

const ENGINE: EngineId = EngineId([7; 16]);
const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 4_096, preparation: Preparation::Inline };

/// Where one frame or header lies.
struct Piece {
    file: PathBuf,
    begin: u64,
    end: u64,
}

struct Journaled {
    machine: Machine,
    paths: DataPaths,
    bodies: Vec<Vec<u8>>,
    frames: Vec<Piece>,
    files: Vec<PathBuf>,
}

fn read(paths: &DataPaths) -> Result<(Vec<Vec<u8>>, Tail), JournalError> {
    let mut reader = JournalReader::open(paths, ENGINE, FrameNumber::FIRST)?;
    let mut bodies = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        bodies.push(frame.body.to_vec());
    }
    Ok((bodies, reader.tail()))
}

/// Three segments, the last with three frames; all synced.
fn journaled() -> Journaled {
    let machine = Machine::new(Random::new(1), 1 << 24);
    let paths = DataPaths::new(machine.boot(), Path::new("/data"));
    paths.disk().create_directory(&paths.archive(), 0o700).expect("an empty disk");
    let (mut journal, cut) = FileJournal::open(&paths, ENGINE, OPTIONS).expect("an empty directory");
    assert_eq!(cut, None);
    let mut bodies = Vec::new();
    for number in 0..11_u8 {
        let body = vec![number + 1; if number < 8 { 970 } else { 20 + usize::from(number) }];
        journal.append(Frame { records: 1, parts: &[&body] }).expect("room");
        journal.sync().expect("an honest disk");
        bodies.push(body);
    }
    journal.tend();
    drop(journal);
    let mut reader = JournalReader::open(&paths, ENGINE, FrameNumber::FIRST).expect("sound");
    let files = reader.segments().iter().map(|segment| segment.path.clone()).collect::<Vec<_>>();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().expect("sound") {
        let end = frame.offset + 36 + frame.body.len() as u64;
        frames.push(Piece { file: frame.file.to_path_buf(), begin: frame.offset, end });
    }
    assert_eq!((files.len(), frames.len()), (3, 11));
    Journaled { machine, paths, bodies, frames, files }
}

impl Journaled {
    /// What was damaged at `offset` of `file`: the index of its frame, or `None` outside of all frames.
    fn frame_at(&self, file: &Path, offset: u64) -> Option<usize> {
        self.frames.iter().position(|piece| piece.file == file && (piece.begin..piece.end).contains(&offset))
    }

    /// Checks what a start makes of damage in `file`, where it begins at `offset`.
    fn check(&self, file: &Path, offset: u64, what: &str) -> Outcome {
        let damaged = self.frame_at(file, offset);
        let last = self.frames.len() - 1;
        match read(&self.paths) {
            Ok((bodies, tail)) => {
                let cut = tail.cut.unwrap_or_else(|| panic!("{what} passed in silence"));
                let kept = bodies.len();
                assert!(kept >= last, "{what} cost {} frames", self.bodies.len() - kept);
                assert_eq!(bodies, self.bodies[..kept], "{what}");
                assert_eq!(cut.file, file, "{what}");
                assert_eq!(kept == last, damaged == Some(last), "{what}");
                assert!(cut.offset <= offset && offset < cut.offset + cut.bytes, "{what}: {cut:?}");
                Outcome::Cut
            }
            Err(error) => {
                assert_ne!(damaged, Some(last), "{what} refused, though it may be a torn frame: {error}");
                self.check_refusal(&error, file, offset, damaged, what);
                Outcome::Refused
            }
        }
    }

    fn check_refusal(&self, error: &JournalError, file: &Path, at: u64, damaged: Option<usize>, what: &str) {
        let text = error.to_string();
        match error {
            JournalError::Damaged { file: named, offset, .. } => {
                assert_eq!(named, file, "{what}: {text}");
                // A frame is named by its beginning, a header by its own or its field's.
                let begin = damaged.map_or(0, |index| self.frames[index].begin);
                assert!((begin..=at).contains(offset), "{what}: {text}");
                assert!(text.contains("restore this file from a copy"), "{what}: {text}");
            }
            JournalError::NewerVersion { file: named, .. } => {
                assert!(named == file && (8..12).contains(&at), "{what}: {text}");
                assert!(text.contains("start it with a newer engine"), "{text}");
            }
            other @ (JournalError::Io { .. }
            | JournalError::Full { .. }
            | JournalError::FrameTooLarge { .. }
            | JournalError::Stopped { .. }
            | JournalError::OlderVersion { .. }
            | JournalError::MissingSegment { .. }
            | JournalError::ForeignSegment { .. }) => panic!("{what}: {other}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Cut,
    Refused,
}

#[test]
fn every_flipped_bit_is_cut_and_reported_in_the_last_frame_and_refused_elsewhere() {
    let journaled = journaled();
    let last = journaled.frames.last().expect("frames");
    let (mut cuts, mut refusals) = (0_u64, 0);
    for file in &journaled.files {
        let length = journaled.paths.disk().length(file).expect("it is there");
        for at in 0..length {
            for bit in 0..8 {
                assert!(journaled.machine.flip(file, at, bit));
                match journaled.check(file, at, &format!("bit {bit} of byte {at} of {}", file.display())) {
                    Outcome::Cut => cuts += 1,
                    Outcome::Refused => refusals += 1,
                }
                assert!(journaled.machine.flip(file, at, bit));
            }
        }
    }
    let written_last = 4_096 - last.begin;
    assert_eq!(
        cuts,
        written_last * 8,
        "every bit of the last frame and of the zeros behind it, and no other"
    );
    assert!(refusals > 8 * 7_000, "{refusals}");
    assert!(read(&journaled.paths).expect("sound again").0 == journaled.bodies);
}

#[test]
fn a_file_cut_at_any_offset_refuses_and_names_where_it_ends() {
    let journaled = journaled();
    for (index, file) in journaled.files.iter().enumerate() {
        let disk = Arc::clone(journaled.paths.disk());
        let open = disk.open(file, OpenMode::Write).expect("it is there");
        let mut whole = Vec::new();
        open.read_all(&mut whole).expect("it is there");
        for length in (0..whole.len()).rev() {
            open.set_len(length as u64).expect("an honest disk");
            let what = format!("{} cut to {length}", file.display());
            let error = read(&journaled.paths).map(|(bodies, _)| bodies.len()).expect_err(&what);
            let text = error.to_string();
            let JournalError::Damaged { file: named, offset, .. } = &error else { panic!("{what}: {text}") };
            // A sealed segment cut between two frames shows at the next one, which continues where nothing ends.
            assert!(named == file || Some(named) == journaled.files.get(index + 1), "{what}: {text}");
            assert!(named != file || *offset <= length as u64, "{what}: {text}");
            assert!(text.contains("restore this file from a copy"), "{what}: {text}");
        }
        open.write_all_at(&mut [IoSlice::new(&whole)], 0).expect("room");
    }
    assert!(read(&journaled.paths).expect("sound again").0 == journaled.bodies);
}

#[test]
fn after_a_cut_the_journal_goes_on_and_keeps_the_evidence() {
    let journaled = journaled();
    let last = journaled.frames.last().expect("frames");
    assert!(journaled.machine.flip(&last.file, last.end - 1, 0));
    let (mut journal, cut) = FileJournal::open(&journaled.paths, ENGINE, OPTIONS).expect("a torn tail");
    assert_eq!(cut.map(|cut| (cut.file, cut.offset)), Some((last.file.clone(), last.begin)));
    journal.append(Frame { records: 1, parts: &[b"short"] }).expect("room");
    journal.sync().expect("an honest disk");
    drop(journal);
    let (bodies, tail) = read(&journaled.paths).expect("sound");
    assert_eq!(tail.cut, None, "nothing of the longer torn frame is left behind the shorter new one");
    assert_eq!(bodies.last().map(Vec::as_slice), Some(&b"short"[..]));
    let torn = journaled.machine.list(&journaled.paths.journal());
    assert!(torn.iter().any(|path| path.extension().is_some_and(|extension| extension == "torn")));
}
