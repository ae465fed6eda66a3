//! The journal as it lies on the disk, read without the engine's reader: frames are found, chained and checked here by the
//! layout that `docs/` and the format's golden files pin. Only an event's body is decoded by the public codec.
//!
//! Laws 3 and 9: what was durable once stays, byte for byte, at its place in the chain.

use std::path::{Path, PathBuf};

use doorbuster_persistence::codec::records;

use crate::broken::{Broken, Checked, demand};

const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 36;

/// Reads a file's bytes, if it is there.
pub trait Files {
    /// Shows the file's bytes to `see`; does nothing where there is no such file.
    fn with(&self, path: &Path, see: &mut dyn FnMut(&[u8]));
    /// Names of the files in a directory.
    fn list(&self, directory: &Path) -> Vec<PathBuf>;
}

/// A record met in a new frame.
#[derive(Debug)]
pub struct Met {
    /// Its partition.
    pub partition: u16,
    /// Where it stands; its index among events is not known here.
    pub standing: crate::model::Standing,
    /// The event.
    pub entry: doorbuster_engine::event::Entry,
}

/// Follows the journal from frame to frame.
#[derive(Debug)]
pub struct Walker {
    journal: PathBuf,
    checksums: Vec<u32>,
    /// Where each frame lies: segment, offset, bytes.
    places: Vec<(u64, usize, usize)>,
    segment: u64,
    offset: usize,
}

impl Walker {
    /// Before the first frame of the journal in `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            journal: root.join("journal"),
            checksums: Vec::new(),
            places: Vec::new(),
            segment: 1,
            offset: SEGMENT_HEADER,
        }
    }

    /// Frames met so far.
    pub fn frames(&self) -> usize {
        self.checksums.len()
    }

    /// Where the frame of this number lies: the file as long as it is not archived, offset and bytes.
    pub fn place_of(&self, number: u64) -> (PathBuf, u64, u64) {
        let at = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let (segment, offset, bytes) = self.places.get(at).copied().unwrap_or_default();
        (self.journal.join(name_of(segment)), offset as u64, bytes as u64)
    }

    /// Bytes left in the newest segment behind the newest frame.
    pub fn left_bytes(&self, files: &dyn Files) -> u64 {
        let mut left = 0;
        let path = self.journal.join(name_of(self.segment));
        files.with(&path, &mut |bytes| left = bytes.len().saturating_sub(self.offset) as u64);
        left
    }

    /// The checksum of the newest frame.
    pub fn last_checksum(&self) -> u32 {
        self.checksums.last().copied().unwrap_or(0)
    }

    /// Reads the frames that follow, and gives their records.
    pub fn advance(&mut self, files: &dyn Files) -> Result<Vec<Met>, Broken> {
        let mut met = Vec::new();
        loop {
            let path = self.journal.join(name_of(self.segment));
            let mut outcome = Ok(());
            files.with(&path, &mut |bytes| outcome = self.frames_of(bytes, &mut met));
            outcome?;
            let mut follows = false;
            let next = self.journal.join(name_of(self.segment + 1));
            files.with(&next, &mut |bytes| {
                follows = first_frame(bytes) == Some(self.checksums.len() as u64 + 1);
            });
            if !follows {
                return Ok(met);
            }
            self.segment += 1;
            self.offset = SEGMENT_HEADER;
        }
    }

    fn frames_of(&mut self, bytes: &[u8], met: &mut Vec<Met>) -> Checked {
        while let Some((checksum, body)) = frame_at(bytes, self.offset, self.segment, &self.checksums) {
            for record in records(body) {
                let unreadable =
                    |what: String| Broken { law: 9, seen: format!("a durable record is unreadable: {what}") };
                let record = record.map_err(|error| unreadable(error.to_string()))?;
                let entry = record.entry().map_err(|error| unreadable(error.to_string()))?;
                let standing = crate::model::Standing {
                    index: 0,
                    sequence: record.header.sequence,
                    position: record.header.position,
                    at_ms: record.header.at_ms,
                    request: entry.request,
                };
                met.push(Met { partition: record.header.partition, standing, entry });
            }
            let bytes = FRAME_HEADER + body.len();
            self.places.push((self.segment, self.offset, bytes));
            self.offset += bytes;
            self.checksums.push(checksum);
        }
        Ok(())
    }

    /// Walks the whole journal again after a recovery: every frame that was durable must be there as it was. Then the
    /// frames beyond them, which no sync had promised and which lie there all the same.
    pub fn again(&mut self, files: &dyn Files) -> Result<Vec<Met>, Broken> {
        let known = std::mem::take(&mut self.checksums);
        self.places.clear();
        let mut segments: Vec<PathBuf> = files.list(&self.journal.join("archive"));
        segments.extend(files.list(&self.journal));
        segments.retain(|path| path.extension().is_some_and(|ending| ending == "segment"));
        segments.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
        segments.dedup_by(|one, other| one.file_name() == other.file_name());
        let mut met = Vec::new();
        for (at, path) in segments.iter().enumerate() {
            self.segment = at as u64 + 1;
            self.offset = SEGMENT_HEADER;
            demand(path.file_name().is_some_and(|name| name == name_of(self.segment).as_str()), 9, || {
                format!("segment {} is missing, {} follows", self.segment, path.display())
            })?;
            let mut outcome = Ok(());
            files.with(path, &mut |bytes| {
                let first = first_frame(bytes);
                if first != Some(self.checksums.len() as u64 + 1) {
                    let seen = format!(
                        "{} begins with frame {first:?} after {} frames",
                        path.display(),
                        self.checksums.len()
                    );
                    outcome = Err(Broken { law: 9, seen });
                    return;
                }
                // Records of frames known before are not folded again.
                while self.checksums.len() < known.len()
                    && let Some((checksum, body)) =
                        frame_at(bytes, self.offset, self.segment, &self.checksums)
                {
                    let bytes = FRAME_HEADER + body.len();
                    self.places.push((self.segment, self.offset, bytes));
                    self.offset += bytes;
                    self.checksums.push(checksum);
                }
                if self.checksums.len() >= known.len() {
                    outcome = self.frames_of(bytes, &mut met);
                }
            });
            outcome?;
        }
        demand(self.checksums.len() >= known.len(), 3, || {
            format!("{} frames were durable, {} are left", known.len(), self.checksums.len())
        })?;
        demand(self.checksums[..known.len()] == known[..], 3, || "a durable frame has changed".to_owned())?;
        Ok(met)
    }
}

fn name_of(segment: u64) -> String {
    format!("{segment:020}.segment")
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..at + N)?);
    Some(u64::from_le_bytes(wide))
}

/// The number of a segment's first frame, if its header is whole.
pub(crate) fn first_frame(bytes: &[u8]) -> Option<u64> {
    let header = bytes.get(..SEGMENT_HEADER)?;
    let sound =
        &header[..8] == b"DOORBSEG" && u64::from(crc32c::crc32c(&header[..60])) == number::<4>(header, 60)?;
    if sound { number::<8>(header, 36) } else { None }
}

/// The frame at `offset`, if it is whole, is of this segment and follows the ones before.
fn frame_at<'a>(bytes: &'a [u8], offset: usize, segment: u64, before: &[u32]) -> Option<(u32, &'a [u8])> {
    let header = bytes.get(offset..offset + FRAME_HEADER)?;
    if &header[..4] != b"DBFR" {
        return None;
    }
    let length = usize::try_from(number::<4>(header, 4)?).ok()?;
    let body = bytes.get(offset + FRAME_HEADER..offset + FRAME_HEADER + length)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..32]), body);
    let previous = before.last().copied().unwrap_or(0);
    let follows = number::<8>(header, 12)? == segment
        && number::<8>(header, 20)? == before.len() as u64 + 1
        && number::<4>(header, 28)? == u64::from(previous)
        && number::<4>(header, 32)? == u64::from(checksum);
    follows.then_some((checksum, body))
}
