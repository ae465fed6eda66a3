//! A batch of frames on its way: a run of whole frames, compressed as one LZ4 block, hashed with all that is said of it.
//!
//! Law 9 on the way: whoever unpacks checks the hash first, then each frame's own checksum, number and chain, so that a
//! shipment is what a journal wrote or is refused. Layout in `docs/formats.md`. Start at [`Packer`] and
//! [`Shipment::unpack`].

use crate::directory::EngineId;
use crate::frame::{self, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FrameNumber};
use crate::reader::FrameView;

/// The form of a shipment that this engine writes, and the newest it reads.
pub const SHIPMENT_VERSION: u16 = 1;

/// Largest run of frames before compression: one more frame than a packer is asked for may be in it.
const RAW_BYTES_MAX: usize = 4 * (FRAME_BODY_BYTES_MAX + FRAME_HEADER_BYTES);

/// Frames `first_frame` to `last_frame`, all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// Form of the payload.
    pub version: u16,
    /// The first frame in it.
    pub first_frame: FrameNumber,
    /// The last one.
    pub last_frame: FrameNumber,
    /// Checksum of the frame before the first; 0 where that is the first of all.
    pub previous_checksum: u32,
    /// Checksum of the last frame.
    pub checksum: u32,
    /// Records in all of them.
    pub records: u64,
    /// Bytes of the frames, headers included.
    pub raw_bytes: u64,
    /// The frames, one after another, as an LZ4 block.
    pub payload: Vec<u8>,
    /// The first half of BLAKE3 over the engine's id and everything above.
    pub hash: [u8; 16],
}

/// Why a shipment is refused. Nothing of it was used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShipmentError {
    /// It was packed by a newer engine; use that one.
    #[error(
        "frames {first_frame} to {last_frame} were packed in form {found}, but this engine knows forms up to {SHIPMENT_VERSION}; use the engine that packed them, or a newer one"
    )]
    NewerVersion {
        /// First frame it says it has.
        first_frame: FrameNumber,
        /// Last frame it says it has.
        last_frame: FrameNumber,
        /// Its form.
        found: u16,
    },
    /// It is not what was packed.
    #[error(
        "the copy of frames {first_frame} to {last_frame} is damaged: {what}; restore the database from a backup of its own"
    )]
    Damaged {
        /// First frame it says it has.
        first_frame: FrameNumber,
        /// Last frame it says it has.
        last_frame: FrameNumber,
        /// What is wrong.
        what: String,
    },
}

/// Gathers frames for one shipment after another.
#[derive(Debug)]
pub struct Packer {
    engine: EngineId,
    raw: Vec<u8>,
    first_frame: FrameNumber,
    last_frame: FrameNumber,
    previous_checksum: u32,
    checksum: u32,
    records: u64,
}

impl Packer {
    /// A packer of frames of this engine, empty.
    pub fn new(engine: EngineId) -> Self {
        Self {
            engine,
            raw: Vec::new(),
            first_frame: FrameNumber(0),
            last_frame: FrameNumber(0),
            previous_checksum: 0,
            checksum: 0,
            records: 0,
        }
    }

    /// Adds the frame that follows the last one added.
    pub fn add(&mut self, frame: &FrameView<'_>) {
        if self.raw.is_empty() {
            self.first_frame = frame.number;
            self.previous_checksum = frame.previous_checksum();
            self.records = 0;
        } else {
            assert_eq!(frame.number, self.last_frame.next(), "Invariant: a shipment has no gap (law 9)");
        }
        self.raw.extend_from_slice(frame.bytes);
        self.last_frame = frame.number;
        self.checksum = frame.checksum();
        self.records += u64::from(frame.records);
    }

    /// Bytes of the frames gathered.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Whether nothing is gathered.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Forgets what is gathered.
    pub fn clear(&mut self) {
        self.raw.clear();
    }

    /// Packs what is gathered, and begins anew; `None` where nothing is.
    pub fn pack(&mut self) -> Option<Shipment> {
        if self.raw.is_empty() {
            return None;
        }
        let mut shipment = Shipment {
            version: SHIPMENT_VERSION,
            first_frame: self.first_frame,
            last_frame: self.last_frame,
            previous_checksum: self.previous_checksum,
            checksum: self.checksum,
            records: self.records,
            raw_bytes: self.raw.len() as u64,
            payload: lz4_flex::block::compress(&self.raw),
            hash: [0; 16],
        };
        shipment.hash = shipment.hash_for(self.engine);
        self.raw.clear();
        // One large frame is no reason to keep its room for ever.
        self.raw.shrink_to(8 << 20);
        Some(shipment)
    }
}

impl Shipment {
    /// The hash that a shipment of `engine` with this content has.
    fn hash_for(&self, engine: EngineId) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"doorbuster shipment");
        hasher.update(&self.version.to_le_bytes());
        hasher.update(&engine.0);
        hasher.update(&self.first_frame.0.to_le_bytes());
        hasher.update(&self.last_frame.0.to_le_bytes());
        hasher.update(&self.previous_checksum.to_le_bytes());
        hasher.update(&self.checksum.to_le_bytes());
        hasher.update(&self.records.to_le_bytes());
        hasher.update(&self.raw_bytes.to_le_bytes());
        hasher.update(&self.payload);
        frame::array_at(hasher.finalize().as_bytes(), 0)
    }

    fn damaged(&self, what: impl Into<String>) -> ShipmentError {
        let (first_frame, last_frame) = (self.first_frame, self.last_frame);
        ShipmentError::Damaged { first_frame, last_frame, what: what.into() }
    }

    /// The frames, byte for byte as they were written, every one checked.
    pub fn unpack(&self, engine: EngineId) -> Result<Vec<u8>, ShipmentError> {
        if self.version > SHIPMENT_VERSION {
            let (first_frame, last_frame) = (self.first_frame, self.last_frame);
            return Err(ShipmentError::NewerVersion { first_frame, last_frame, found: self.version });
        }
        if self.hash != self.hash_for(engine) {
            return Err(self.damaged("its hash does not match, or it is another engine's"));
        }
        // After the hash only our own mistake could make this untrue; a length must not become a huge allocation all the same.
        let raw_bytes = usize::try_from(self.raw_bytes).unwrap_or(usize::MAX);
        if raw_bytes > RAW_BYTES_MAX {
            return Err(self.damaged(format!("it says that it has {raw_bytes} bytes, over the limit")));
        }
        let raw = lz4_flex::block::decompress(&self.payload, raw_bytes)
            .map_err(|error| self.damaged(format!("it cannot be decompressed ({error})")))?;
        if raw.len() != raw_bytes {
            return Err(self.damaged(format!("it has {} bytes where {raw_bytes} are due", raw.len())));
        }
        let (mut due, mut checksum, mut records) = (self.first_frame, self.previous_checksum, 0_u64);
        for found in frames(&raw) {
            let (header, _) = found.map_err(|what| self.damaged(what))?;
            if header.number != due || header.previous_checksum != checksum {
                return Err(
                    self.damaged(format!("frame {} does not continue the one before it", header.number))
                );
            }
            (due, checksum) = (due.next(), header.checksum);
            records += u64::from(header.records);
        }
        if due != self.last_frame.next() || checksum != self.checksum || records != self.records {
            return Err(self.damaged(format!("its frames end at frame {}", due.0.saturating_sub(1))));
        }
        Ok(raw)
    }
}

/// The frames in `raw`, each with its header and all of its bytes; ends after the first that is none.
pub(crate) fn frames(raw: &[u8]) -> impl Iterator<Item = Result<(frame::FrameHeader, &[u8]), &'static str>> {
    let mut rest = Some(raw);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        match frame::decode(bytes) {
            Ok((header, body)) => {
                let (whole, behind) = bytes.split_at(FRAME_HEADER_BYTES + body.len());
                rest = Some(behind);
                Some(Ok((header, whole)))
            }
            Err(what) => Some(Err(what)),
        }
    })
}
