//! A copy of the whole store, taken while rounds go on: what a journal cut off behind a checkpoint begins from.
//!
//! It is a round that lasts as long as the copying. Rows are copied first, each no older than the newest mark, and what
//! they lead to (answers, ledger pages, due times, summaries) after them: whatever a row reflects was put before it. Replay from that
//! mark's frame skips what the rows reflect already, as after any round. Rows of what is gone stay until the copy is
//! done, or a replay would find the records of somebody without a row (law 10).
//!
//! ```text
//! an entry of a page: tree 1, key length 2, value length 4, key, value     (little endian)
//! ```
//!
//! Start at [`CheckpointStore::begin_image`].

use super::{CheckpointStore, RoundMark, RowGroup, chunks, decode_mark, encode_mark, keys};
use crate::disk::{Tree, TreeBatch};
use crate::error::CheckpointError;
use crate::frame::{u16_at, u32_at};

/// The trees of a copy in its order; a tree's number is its place here, counted from 1.
const TREES: [Kind; 6] = [Kind::Rows, Kind::Due, Kind::Orders, Kind::Ledger, Kind::Cold, Kind::ColdTimes];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rows,
    Due,
    Orders,
    Ledger,
    Cold,
    ColdTimes,
}

impl Kind {
    /// Whether its values are cut into chunks.
    fn is_chunked(self) -> bool {
        match self {
            Self::Rows | Self::Ledger | Self::Cold => true,
            Self::Due | Self::Orders | Self::ColdTimes => false,
        }
    }
}

const ENTRY_HEAD_BYTES: usize = 7;

/// A copy being taken.
#[derive(Debug)]
pub struct Imaging {
    /// The mark from whose frame a replay onto this copy begins.
    pub mark: RoundMark,
    store: u64,
    /// Index in [`TREES`] of the tree being copied; its length at the end.
    tree: usize,
    /// Where the next entry begins.
    begin: Vec<u8>,
}

impl Imaging {
    /// Whether all rows are copied: from now on nothing newer than the journal's present end comes in.
    pub fn has_all_rows(&self) -> bool {
        self.tree > 0
    }

    /// Whether everything is copied.
    pub fn is_done(&self) -> bool {
        self.tree >= TREES.len()
    }
}

impl CheckpointStore {
    /// Begins a copy as of the newest mark; `None` before the first. One copy at a time: it ends with
    /// [`CheckpointStore::end_image`], also when it is given up.
    pub fn begin_image(&self) -> Result<Option<Imaging>, CheckpointError> {
        self.gone.lock().is_held = true;
        let mark = match self.marks() {
            Ok(marks) => marks.into_iter().next(),
            Err(error) => {
                self.end_image();
                return Err(error);
            }
        };
        let Some(mark) = mark else {
            self.end_image();
            return Ok(None);
        };
        Ok(Some(Imaging { mark, store: self.number, tree: 0, begin: Vec::new() }))
    }

    /// Appends entries to `page` until it has `bytes` or everything is copied.
    pub fn image_page(
        &self,
        imaging: &mut Imaging,
        bytes: usize,
        page: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        if imaging.store != self.number {
            return Err(CheckpointError::Store {
                what: "it was opened again while it was copied".to_owned(),
                is_damage: false,
            });
        }
        while let Some(kind) = TREES.get(imaging.tree).copied() {
            let tree = self.tree_of(kind);
            for entry in tree.range(&imaging.begin, None) {
                let (key, value) = entry?;
                if kind == Kind::Rows && key.first() == Some(&0) {
                    continue;
                }
                if kind.is_chunked() {
                    let Some((name, 0)) = chunks::split_chunk(&key) else { continue };
                    // One that vanished since is either over its day or replaced, and then met again.
                    if let Some(stored) = chunks::read(tree, name)? {
                        put_entry(page, imaging.tree, name, &stored.payload)?;
                    }
                    imaging.begin = keys::chunk(name, u16::MAX);
                } else {
                    put_entry(page, imaging.tree, &key, &value)?;
                    imaging.begin = key.to_vec();
                }
                imaging.begin.push(0);
                if page.len() >= bytes {
                    return Ok(());
                }
            }
            imaging.tree += 1;
            imaging.begin.clear();
        }
        Ok(())
    }

    /// The copy is done, or given up: rows of what is gone may go again.
    pub fn end_image(&self) {
        self.gone.lock().is_held = false;
    }

    /// Adds the entries of a page to a store in which no round was ever finished. Repeats are harmless.
    pub fn fill(&self, page: &[u8]) -> Result<(), CheckpointError> {
        let mut group = RowGroup::default();
        let mut batches: [TreeBatch; TREES.len()] = Default::default();
        for entry in entries(page) {
            let (index, key, value) =
                entry.ok_or_else(|| CheckpointError::damaged("an entry of its copy"))?;
            match TREES[index] {
                Kind::Rows => {
                    group.add(key.to_vec(), Some(value.to_vec()));
                    if group.is_full(self.trees.batch_rows()) {
                        self.write_group(&std::mem::take(&mut group))?;
                    }
                }
                kind if kind.is_chunked() => {
                    chunks::write(&mut batches[index], key, value);
                }
                Kind::Due | Kind::Orders | Kind::ColdTimes | Kind::Ledger | Kind::Cold => {
                    batches[index].insert(key.to_vec(), value.to_vec());
                }
            }
        }
        self.write_group(&group)?;
        for (kind, batch) in TREES.into_iter().zip(batches) {
            if kind != Kind::Rows {
                self.apply_in_pieces(kind, batch)?;
            }
        }
        Ok(())
    }

    /// A page is larger than what sled takes well at once.
    fn apply_in_pieces(&self, kind: Kind, batch: TreeBatch) -> Result<(), CheckpointError> {
        let mut piece = TreeBatch::default();
        let mut bytes = 0;
        for (key, value) in batch.into_changes() {
            let Some(value) = value else { continue };
            bytes += key.len() + value.len();
            piece.insert(key, value);
            if bytes >= Self::BATCH_BYTES {
                self.tree_of(kind).apply_batch(std::mem::take(&mut piece))?;
                bytes = 0;
            }
        }
        self.tree_of(kind).apply_batch(piece)
    }

    fn tree_of(&self, kind: Kind) -> &dyn Tree {
        match kind {
            Kind::Rows => &*self.rows,
            Kind::Due => &*self.due,
            Kind::Orders => &*self.orders,
            Kind::Ledger => &*self.ledger,
            Kind::Cold => &*self.cold,
            Kind::ColdTimes => &*self.cold_times,
        }
    }
}

/// A mark as bytes, hash included, as it goes with a copy.
pub(crate) fn mark_bytes(mark: &RoundMark) -> Vec<u8> {
    encode_mark(mark, 0)
}

/// The mark that [`mark_bytes`] made `bytes` of.
pub(crate) fn mark_of(bytes: &[u8]) -> Option<RoundMark> {
    decode_mark(bytes).map(|(mark, _)| mark)
}

fn put_entry(page: &mut Vec<u8>, tree: usize, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
    let number = u8::try_from(tree + 1).map_err(|_| CheckpointError::damaged("a tree's number"))?;
    let key_bytes = u16::try_from(key.len()).map_err(|_| CheckpointError::damaged("a key is too long"))?;
    let value_bytes =
        u32::try_from(value.len()).map_err(|_| CheckpointError::damaged("a value is too long"))?;
    page.push(number);
    page.extend_from_slice(&key_bytes.to_le_bytes());
    page.extend_from_slice(&value_bytes.to_le_bytes());
    page.extend_from_slice(key);
    page.extend_from_slice(value);
    Ok(())
}

/// The entries of a page: index of the tree, key and value; `None` where one is no entry, and then the end.
pub(super) fn entries(page: &[u8]) -> impl Iterator<Item = Option<(usize, &[u8], &[u8])>> {
    let mut rest = Some(page);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let Some((entry, behind)) = split_entry(bytes) else { return Some(None) };
        rest = Some(behind);
        Some(Some(entry))
    })
}

type Split<'a> = ((usize, &'a [u8], &'a [u8]), &'a [u8]);

fn split_entry(bytes: &[u8]) -> Option<Split<'_>> {
    let (head, rest) = bytes.split_at_checked(ENTRY_HEAD_BYTES)?;
    let index = usize::from(head[0]).checked_sub(1).filter(|index| *index < TREES.len())?;
    let (key, rest) = rest.split_at_checked(usize::from(u16_at(head, 1)))?;
    let (value, rest) = rest.split_at_checked(u32_at(head, 3) as usize)?;
    Some(((index, key, value), rest))
}
