//! What a journal begins from when its first frames are not at hand: a copy of the checkpoint store, in one file beside
//! the segments.
//!
//! Laws: (9) a journal without its first frames is sound with a base that reflects them, and with no other; (10) rows of
//! the base are what those frames folded to, and replay skips what they reflect. The file is written once, by a
//! restoration, and is as much part of the journal as its segments: recovery rebuilds a lost checkpoint from it, and
//! `verify` begins there. Layout in `docs/formats.md`. Start at [`Base::read`].

use std::io;
use std::path::PathBuf;

use crate::checkpoint::{self, CheckpointStore, EntityRow, RoundMark};
use crate::directory::{DataPaths, EngineId};
use crate::disk::{DiskFile, OpenMode};
use crate::error::{CheckpointError, StartError};
use crate::frame::{self, u32_at, u64_at};

/// The form of a base that this engine writes, and the newest it reads.
pub const BASE_VERSION: u32 = 1;

/// Bytes of a page before compression, about; an entry may carry it beyond.
pub const PAGE_BYTES: usize = 4 << 20;

const MAGIC: [u8; 8] = *b"DOORBASE";

/// Magic, version, layout, engine, page count; the mark; a hash over both.
const HEAD_BYTES: usize = 8 + 4 + 4 + 16 + 8;

/// Before each page: its bytes raw and packed, and a hash.
const PAGE_HEAD_BYTES: usize = 8 + 8 + 16;

/// Largest page: no entity is larger than its records, which a frame bounds.
const PAGE_BYTES_MAX: usize = 256 << 20;

/// What is said of a base before its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseHead {
    /// The mark from whose frame a replay begins; its durable frame is one that the journal must reach.
    pub mark: RoundMark,
    /// How many pages follow.
    pub pages: u64,
}

/// One page of a base, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePage {
    /// Bytes of its entries.
    pub raw_bytes: u64,
    /// The entries as an LZ4 block.
    pub payload: Vec<u8>,
    /// The first half of BLAKE3 over the engine's id, the mark's first frame, the page's number and everything above.
    pub hash: [u8; 16],
}

impl BaseHead {
    /// The head as bytes, its hash included.
    pub fn encode(&self, engine: EngineId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2_200);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&BASE_VERSION.to_le_bytes());
        bytes.extend_from_slice(&checkpoint::LAYOUT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&engine.0);
        bytes.extend_from_slice(&self.pages.to_le_bytes());
        bytes.extend_from_slice(&checkpoint::mark_bytes(&self.mark));
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(&hash.as_bytes()[..16]);
        bytes
    }

    /// Bytes of any head.
    pub fn encoded_bytes() -> usize {
        HEAD_BYTES + checkpoint::MARK_BYTES + 16
    }

    /// Reads a head, or says what is wrong with it.
    pub fn decode(engine: EngineId, bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.get(..Self::encoded_bytes()).ok_or("it ends within its head")?;
        let (said, hash) = bytes.split_at(bytes.len() - 16);
        if said[..8] != MAGIC {
            return Err("it is no base of a journal".to_owned());
        }
        for (what, at, known) in [("form", 8, BASE_VERSION), ("layout", 12, checkpoint::LAYOUT_VERSION)] {
            let found = u32_at(said, at);
            if found != known {
                return Err(format!(
                    "its {what} is {found}, this engine knows {known}; use the engine that wrote it"
                ));
            }
        }
        if blake3::hash(said).as_bytes()[..16] != *hash {
            return Err("its head's hash does not match".to_owned());
        }
        if said[16..32] != engine.0 {
            return Err("it belongs to another engine".to_owned());
        }
        let mark = checkpoint::mark_of(&said[HEAD_BYTES..]).ok_or("its mark is damaged")?;
        Ok(Self { mark, pages: u64_at(said, 32) })
    }
}

impl BasePage {
    /// Packs page `number` of a base whose replay begins at the mark's frame.
    pub fn pack(engine: EngineId, mark: &RoundMark, number: u64, raw: &[u8]) -> Self {
        let mut page =
            Self { raw_bytes: raw.len() as u64, payload: lz4_flex::block::compress(raw), hash: [0; 16] };
        page.hash = page.hash_for(engine, mark, number);
        page
    }

    fn hash_for(&self, engine: EngineId, mark: &RoundMark, number: u64) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"doorbuster base page");
        hasher.update(&engine.0);
        hasher.update(&mark.replay_from_frame.0.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(&self.raw_bytes.to_le_bytes());
        hasher.update(&self.payload);
        frame::array_at(hasher.finalize().as_bytes(), 0)
    }

    /// The entries, or what is wrong.
    pub fn unpack(&self, engine: EngineId, mark: &RoundMark, number: u64) -> Result<Vec<u8>, String> {
        if self.hash != self.hash_for(engine, mark, number) {
            return Err(format!("the hash of page {number} does not match"));
        }
        let raw_bytes = usize::try_from(self.raw_bytes).unwrap_or(usize::MAX);
        if raw_bytes > PAGE_BYTES_MAX {
            return Err(format!("page {number} says that it has {raw_bytes} bytes, over the limit"));
        }
        let raw = lz4_flex::block::decompress(&self.payload, raw_bytes)
            .map_err(|error| format!("page {number} cannot be decompressed ({error})"))?;
        if raw.len() != raw_bytes {
            return Err(format!("page {number} has {} bytes where {raw_bytes} are due", raw.len()));
        }
        Ok(raw)
    }

    /// The page as it stands in the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAGE_HEAD_BYTES + self.payload.len());
        bytes.extend_from_slice(&self.raw_bytes.to_le_bytes());
        bytes.extend_from_slice(&(self.payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// A base on disk, its head read.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) head: BaseHead,
    engine: EngineId,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

/// Where a journal's base lies, if it has one.
pub(crate) fn path_of(paths: &DataPaths) -> PathBuf {
    paths.journal().join("base")
}

impl Base {
    /// The base of this journal; `None` where it begins at its first frame.
    pub(crate) fn read(paths: &DataPaths, engine: EngineId) -> Result<Option<Self>, StartError> {
        let path = path_of(paths);
        let disk = paths.disk().as_ref();
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StartError::not_writable(&path)(error)),
        };
        let length = file.length().map_err(StartError::not_writable(&path))?;
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(BaseHead::encoded_bytes());
        let mut bytes = vec![0; wanted];
        file.read_exact_at(&mut bytes, 0).map_err(StartError::not_writable(&path))?;
        match BaseHead::decode(engine, &bytes) {
            Ok(head) => Ok(Some(Self { head, engine, path, file })),
            Err(what) => Err(StartError::Damaged { file: path, what }),
        }
    }

    /// Visits every page, in order, each checked.
    pub(crate) fn for_each_page(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let damaged = |what: String| StartError::Damaged { file: self.path.clone(), what };
        let refuse = |error| StartError::not_writable(&self.path)(error);
        let length = self.file.length().map_err(refuse)?;
        let mut at = BaseHead::encoded_bytes() as u64;
        for number in 0..self.head.pages {
            let mut head = [0; PAGE_HEAD_BYTES];
            if length < at + head.len() as u64 {
                return Err(damaged(format!("it ends before page {number}")));
            }
            self.file.read_exact_at(&mut head, at).map_err(refuse)?;
            at += head.len() as u64;
            let payload_bytes = u64_at(&head, 8);
            if length - at < payload_bytes {
                return Err(damaged(format!("it ends within page {number}")));
            }
            let mut payload = vec![0; usize::try_from(payload_bytes).unwrap_or(0)];
            self.file.read_exact_at(&mut payload, at).map_err(refuse)?;
            at += payload_bytes;
            let page = BasePage { raw_bytes: u64_at(&head, 0), payload, hash: frame::array_at(&head, 16) };
            visit(&page.unpack(self.engine, &self.head.mark, number).map_err(damaged)?)?;
        }
        Ok(())
    }

    /// Visits every entity's row.
    pub(crate) fn for_each_row(&self, mut visit: impl FnMut(EntityRow)) -> Result<(), StartError> {
        self.for_each_page(|page| {
            let rows = checkpoint::rows_of(page);
            for row in rows {
                visit(row.map_err(|error| self.damaged(&error))?);
            }
            Ok(())
        })
    }

    /// Fills a store in which no round was ever finished, and sets the mark.
    pub(crate) fn fill(&self, store: &CheckpointStore) -> Result<(), StartError> {
        self.for_each_page(|page| Ok(store.fill(page)?))?;
        store.finish_round(&self.head.mark)?;
        Ok(())
    }

    fn damaged(&self, error: &CheckpointError) -> StartError {
        StartError::Damaged { file: self.path.clone(), what: error.to_string() }
    }
}

/// Writes a base, page by page, durable when [`BaseWriter::finish`] returns.
#[derive(Debug)]
pub(crate) struct BaseWriter {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    at: u64,
    pub(crate) head: BaseHead,
    engine: EngineId,
    written: u64,
}

impl BaseWriter {
    pub(crate) fn begin(paths: &DataPaths, engine: EngineId, head: BaseHead) -> Result<Self, StartError> {
        let path = path_of(paths);
        let file = paths
            .disk()
            .open(&path, OpenMode::CreateNew { mode: 0o666 })
            .map_err(StartError::not_writable(&path))?;
        let bytes = head.encode(engine);
        let mut writer = Self { file, path, at: 0, head, engine, written: 0 };
        writer.append(&bytes)?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StartError> {
        self.file
            .write_all_at(&mut [io::IoSlice::new(bytes)], self.at)
            .map_err(StartError::not_writable(&self.path))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Adds the next page, after a look at it.
    pub(crate) fn put(&mut self, page: &BasePage) -> Result<(), StartError> {
        if let Err(what) = page.unpack(self.engine, &self.head.mark, self.written) {
            return Err(StartError::Damaged { file: self.path.clone(), what });
        }
        self.append(&page.encode())?;
        self.written += 1;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), StartError> {
        if self.written != self.head.pages {
            let what = format!("{} of its {} pages came in", self.written, self.head.pages);
            return Err(StartError::Damaged { file: self.path, what });
        }
        self.file.sync_all().map_err(StartError::not_writable(&self.path))
    }
}
