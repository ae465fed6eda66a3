//! The herald's memory on disk: what spares a start the whole journal. Losing it costs time, never an announcement.
//!
//! ```text
//! magic "DBHM", version 2, engine 16, frame 8, then rows: length 4, bytes; length 0 ends them; CRC32C of all before 4
//! ```
//!
//! Numbers are little endian. A row is a value as `persistence::codec` stores them. Written beside and renamed, so it is
//! there whole or not at all; damage and other versions are told, and the caller folds the journal again.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use doorbuster_engine::cart::Cart;
use doorbuster_engine::identity::{CartId, OrderId, ReservationId, Sku, Timestamp};
use doorbuster_persistence::codec::{CodecError, decode_stored, encode_stored};
use doorbuster_persistence::directory::EngineId;
use doorbuster_persistence::frame::FrameNumber;
use serde::{Deserialize, Serialize};

use super::Herald;
use super::herald::Story;
use super::shelf::Shelf;

const MAGIC: [u8; 4] = *b"DBHM";
const VERSION: u16 = 2;
const HEADER_BYTES: usize = 30;

/// Longest row. A flipped bit in a length must not become a huge allocation.
const ROW_BYTES_MAX: u32 = 4 << 20;

/// Why a memory cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file cannot be read or written; the journal is folded again.
    #[error("the announcements' memory cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// It is damaged, of another version or another engine's; the journal is folded again.
    #[error("the announcements' memory is of no use: {0}")]
    Unusable(String),
}

impl From<CodecError> for MemoryError {
    fn from(error: CodecError) -> Self {
        Self::Unusable(error.to_string())
    }
}

#[derive(Serialize, Deserialize)]
enum Row {
    Counts([u64; 4], Timestamp),
    Shelf(Sku, Shelf),
    Hold(ReservationId, u32, i64),
    Group(ReservationId, Vec<(Sku, i64)>),
    Cart(bool, CartId, Box<Cart>),
    Order(bool, OrderId, Story),
    Owed(Timestamp, u32),
}

/// Counts a checksum of what passes.
struct Summed<T> {
    inner: T,
    sum: u32,
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes[..count]);
        Ok(count)
    }
}

impl Herald {
    /// Keeps what it remembers after frame `frame` in the file `path`.
    pub fn keep(&self, path: &Path, engine: EngineId, frame: FrameNumber) -> Result<(), MemoryError> {
        let beside = path.with_extension("new");
        let mut out = Summed { inner: BufWriter::new(File::create(&beside)?), sum: 0 };
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&engine.0)?;
        out.write_all(&frame.0.to_le_bytes())?;
        let mut put = |row: Row| -> Result<(), MemoryError> {
            let bytes = encode_stored(&row)?;
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if length > ROW_BYTES_MAX {
                return Err(MemoryError::Unusable(format!("a row of {length} bytes")));
            }
            out.write_all(&length.to_le_bytes())?;
            Ok(out.write_all(&bytes)?)
        };
        put(Row::Counts(self.counts, self.now))?;
        for (sku, shelf) in &self.shelves {
            put(Row::Shelf(sku.clone(), shelf.clone()))?;
        }
        for ((reservation, sku), quantity) in &self.holds {
            put(Row::Hold(*reservation, *sku, *quantity))?;
        }
        for (reservation, items) in &self.groups {
            put(Row::Group(*reservation, items.clone()))?;
        }
        for (old, id, cart) in self.carts.iter() {
            put(Row::Cart(old, *id, Box::new(cart.clone())))?;
        }
        for (old, id, story) in self.orders.iter() {
            put(Row::Order(old, *id, story.clone()))?;
        }
        for (due, sku) in &self.owed {
            put(Row::Owed(*due, *sku))?;
        }
        out.write_all(&0_u32.to_le_bytes())?;
        let sum = out.sum;
        out.write_all(&sum.to_le_bytes())?;
        out.flush()?;
        out.inner.get_ref().sync_all()?;
        Ok(fs::rename(&beside, path)?)
    }

    /// What was kept in the file `path`, and the last frame it reflects; `None` where there is no file. The bounds are this
    /// herald's, which has heard nothing.
    pub fn recall(
        mut self,
        path: &Path,
        engine: EngineId,
    ) -> Result<Option<(Self, FrameNumber)>, MemoryError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unusable = |what: &str| MemoryError::Unusable(what.to_owned());
        let mut source = Summed { inner: BufReader::new(file), sum: 0 };
        let mut header = [0; HEADER_BYTES];
        source.read_exact(&mut header)?;
        if header[..4] != MAGIC || header[4..6] != VERSION.to_le_bytes() {
            return Err(unusable("it is of another version"));
        }
        if header[6..22] != engine.0 {
            return Err(unusable("it is another engine's"));
        }
        let mut frame = [0; 8];
        frame.copy_from_slice(&header[22..]);
        let mut bytes = Vec::new();
        loop {
            let mut length = [0; 4];
            source.read_exact(&mut length)?;
            let length = u32::from_le_bytes(length);
            if length == 0 {
                break;
            }
            if length > ROW_BYTES_MAX {
                return Err(unusable("a row has an impossible length"));
            }
            bytes.resize(length as usize, 0);
            source.read_exact(&mut bytes)?;
            self.restore(decode_stored(&bytes)?);
        }
        let expected = source.sum;
        let mut sum = [0; 4];
        source.read_exact(&mut sum)?;
        if u32::from_le_bytes(sum) != expected {
            return Err(unusable("its checksum does not match"));
        }
        Ok(Some((self, FrameNumber(u64::from_le_bytes(frame)))))
    }

    fn restore(&mut self, row: Row) {
        match row {
            Row::Counts(counts, now) => (self.counts, self.now) = (counts, now),
            Row::Shelf(sku, stock) => {
                self.shelves.insert(sku, stock);
            }
            Row::Hold(reservation, sku, quantity) => {
                self.holds.insert((reservation, sku), quantity);
            }
            Row::Group(reservation, items) => {
                self.groups.insert(reservation, items);
            }
            Row::Cart(old, id, cart) => self.carts.restore(old, id, *cart),
            Row::Order(old, id, story) => self.orders.restore(old, id, story),
            Row::Owed(due, sku) => self.owed.push_back((due, sku)),
        }
    }
}
