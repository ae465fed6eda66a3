//! Values of any size in sled: cut into chunks, hashed as a whole.
//!
//! sled 0.34 puts values of 128 KiB or more into separate files that nothing ever syncs, and rewrites whole pages of small
//! ones; chunks stay far below both.
//!
//! ```text
//! chunk 0   chunk count 2, payload length 4, hash 16, payload…     chunk n   payload…
//! ```

use super::keys;
use crate::disk::{Tree, TreeBatch};
use crate::error::CheckpointError;
use crate::frame::{array_at, u16_at, u32_at};

/// Payload bytes of a chunk.
const CHUNK_BYTES: usize = 24 << 10;

const HEAD_BYTES: usize = 22;

/// What chunk 0 says.
pub(super) struct Head {
    pub(super) chunk_count: u16,
    pub(super) hash: [u8; 16],
}

/// A whole value, its hash checked.
pub(super) struct Stored {
    pub(super) payload: Vec<u8>,
    pub(super) hash: [u8; 16],
}

/// The first half of BLAKE3 over key and payload: 128 bits are plenty against accidents.
pub(super) fn hash(key: &[u8], payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(payload);
    array_at(hasher.finalize().as_bytes(), 0)
}

/// Adds the chunks of a value to `batch`.
pub(super) fn write(batch: &mut TreeBatch, key: &[u8], payload: &[u8]) -> Head {
    let hash = hash(key, payload);
    let chunk_count = payload.len().div_ceil(CHUNK_BYTES).max(1);
    // 65,535 chunks are 1.5 GiB; a record's limit is 16 MiB, and no entity is larger than its records.
    let chunk_count = u16::try_from(chunk_count).unwrap_or(u16::MAX);
    for index in 0..chunk_count {
        let begin = usize::from(index) * CHUNK_BYTES;
        let part = &payload[begin..payload.len().min(begin + CHUNK_BYTES)];
        let mut value = Vec::with_capacity(HEAD_BYTES + part.len());
        if index == 0 {
            value.extend_from_slice(&chunk_count.to_le_bytes());
            value.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
            value.extend_from_slice(&hash);
        }
        value.extend_from_slice(part);
        batch.insert(keys::chunk(key, index), value);
    }
    Head { chunk_count, hash }
}

/// Adds the removal of a value to `batch`.
pub(super) fn remove(tree: &dyn Tree, batch: &mut TreeBatch, key: &[u8]) -> Result<(), CheckpointError> {
    for index in 0..head(tree, key)?.map_or(0, |head| head.chunk_count) {
        batch.remove(keys::chunk(key, index));
    }
    Ok(())
}

/// Chunk 0's head, if the value is there.
pub(super) fn head(tree: &dyn Tree, key: &[u8]) -> Result<Option<Head>, CheckpointError> {
    match tree.get(&keys::chunk(key, 0))? {
        Some(first) if first.len() >= HEAD_BYTES => {
            Ok(Some(Head { chunk_count: u16_at(&first, 0), hash: array_at(&first, 6) }))
        }
        Some(_) => Err(CheckpointError::damaged("a value is shorter than its head")),
        None => Ok(None),
    }
}

/// The value under `key`.
pub(super) fn read(tree: &dyn Tree, key: &[u8]) -> Result<Option<Stored>, CheckpointError> {
    /// Chunks are got one by one, so a value replaced meanwhile reads as half old, half new. A writer comes by once a round;
    /// meeting it this often in a row is damage.
    const ATTEMPTS: usize = 8;
    let mut read = read_once(tree, key);
    for _ in 1..ATTEMPTS {
        if !matches!(read, Err(CheckpointError::Damaged { .. })) {
            break;
        }
        read = read_once(tree, key);
    }
    read
}

fn read_once(tree: &dyn Tree, key: &[u8]) -> Result<Option<Stored>, CheckpointError> {
    let Some(first) = tree.get(&keys::chunk(key, 0))? else { return Ok(None) };
    let mut value = Assembly::begin(key, &first)?;
    for index in 1..value.chunk_count {
        let part = tree.get(&keys::chunk(key, index))?;
        value.payload.extend_from_slice(&part.ok_or_else(|| CheckpointError::damaged("a chunk is missing"))?);
    }
    value.finish().map(Some)
}

/// Told of each value with its key.
pub(super) type Visit<'a> = dyn FnMut(&[u8], Stored) -> Result<(), CheckpointError> + 'a;

/// Visits every value of a tree in the order of keys, each once and whole.
pub(super) fn scan(tree: &dyn Tree, visit: &mut Visit<'_>) -> Result<(), CheckpointError> {
    let mut open: Option<Assembly> = None;
    for entry in tree.range(&[], None) {
        let (chunk_key, value) = entry?;
        if chunk_key.first() == Some(&0) {
            continue;
        }
        let Some((key, index)) = split_chunk(&chunk_key) else {
            return Err(CheckpointError::damaged("a key is too short"));
        };
        let mut assembly = match open.take() {
            Some(mut assembly) if index > 0 && assembly.key == key && assembly.chunks_read == index => {
                assembly.chunks_read += 1;
                assembly.payload.extend_from_slice(&value);
                assembly
            }
            None if index == 0 => Assembly::begin(key, &value)?,
            _ => return Err(CheckpointError::damaged("a chunk is missing or out of place")),
        };
        if assembly.chunks_read == assembly.chunk_count {
            let key = std::mem::take(&mut assembly.key);
            assembly.key.clone_from(&key);
            visit(&key, assembly.finish()?)?;
        } else {
            open = Some(assembly);
        }
    }
    if open.is_some() {
        return Err(CheckpointError::damaged("the last value ends early"));
    }
    Ok(())
}

/// Key and index of a chunk's key.
pub(super) fn split_chunk(chunk_key: &[u8]) -> Option<(&[u8], u16)> {
    let (key, index) = chunk_key.split_at_checked(chunk_key.len().checked_sub(2)?)?;
    Some((key, u16::from_be_bytes(array_at(index, 0))))
}

struct Assembly {
    key: Vec<u8>,
    chunk_count: u16,
    chunks_read: u16,
    length: usize,
    hash: [u8; 16],
    payload: Vec<u8>,
}

impl Assembly {
    fn begin(key: &[u8], first: &[u8]) -> Result<Self, CheckpointError> {
        let Some((head, part)) = first.split_at_checked(HEAD_BYTES) else {
            return Err(CheckpointError::damaged("a value is shorter than its head"));
        };
        Ok(Self {
            key: key.to_vec(),
            chunk_count: u16_at(head, 0),
            chunks_read: 1,
            length: u32_at(head, 2) as usize,
            hash: array_at(head, 6),
            payload: part.to_vec(),
        })
    }

    fn finish(self) -> Result<Stored, CheckpointError> {
        if self.payload.len() != self.length || hash(&self.key, &self.payload) != self.hash {
            return Err(CheckpointError::damaged("a value's hash does not match"));
        }
        Ok(Stored { payload: self.payload, hash: self.hash })
    }
}
