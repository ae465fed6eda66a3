//! The journal as a projection reads it: frame by frame, live or at rest, gathered into batches.

use doorbuster_engine::event::Entry;
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::EngineId;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::FrameView;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::tail::JournalTail;

use super::error::ProjectionError;

/// Most events of one batch, but for a single frame with more: enough to make a transaction's fixed cost small, few enough
/// that a batch is folded and written well within a second, and that its memory is some megabytes.
pub(crate) const BATCH_EVENTS_MAX: usize = 20_000;

/// Most bytes of one batch's frames, but for a single larger one.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// One event with where it stands.
pub(crate) type Event = (RecordHeader, Entry);

/// Events of some frames in a row.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    pub(crate) last: FrameNumber,
    /// Digest of the last frame's body.
    pub(crate) digest: String,
}

/// Where frames come from.
#[derive(Debug)]
pub(crate) struct Source {
    tail: JournalTail,
    /// The last frame of a journal at rest.
    through: Option<FrameNumber>,
    /// Events from which on a batch is full.
    events_max: usize,
}

impl Source {
    /// Follows a journal that is being written.
    pub(crate) fn live(tail: JournalTail) -> Self {
        Self { tail, through: None, events_max: BATCH_EVENTS_MAX }
    }

    /// Reads a journal that nobody writes, up to its last frame.
    pub(crate) fn at_rest(tail: JournalTail, through: FrameNumber) -> Self {
        Self { tail, through: Some(through), events_max: BATCH_EVENTS_MAX }
    }

    /// The same, with batches of about so many events.
    pub(crate) fn in_batches_of(self, events_max: usize) -> Self {
        Self { events_max, ..self }
    }

    pub(crate) fn engine(&self) -> EngineId {
        self.tail.engine()
    }

    /// The last frame there is.
    pub(crate) fn durable(&self) -> FrameNumber {
        self.through.unwrap_or_else(|| self.tail.durable_frame())
    }

    pub(crate) fn seek(&mut self, due: FrameNumber) {
        self.tail.seek(due);
    }

    /// The next frame there is, if any.
    pub(crate) fn next_frame(&mut self) -> Result<Option<FrameView<'_>>, ProjectionError> {
        let through = self.durable();
        Ok(self.tail.next_frame_through(through)?)
    }

    /// The frames there are, up to a batch full; `None` when there is none.
    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch>, ProjectionError> {
        let through = self.durable();
        let (mut events, mut bytes, mut last) = (Vec::new(), 0, None);
        while events.len() < self.events_max && bytes < BATCH_BYTES_MAX {
            let Some(frame) = self.tail.next_frame_through(through)? else { break };
            bytes += frame.body.len();
            for event in read(&frame) {
                events.push(event?);
            }
            let is_last =
                events.len() >= self.events_max || bytes >= BATCH_BYTES_MAX || frame.number >= through;
            // Hashing every frame would cost more than it tells: the chain of checksums binds those before.
            let digest = if is_last { digest(frame.body) } else { String::new() };
            last = Some((frame.number, digest));
        }
        Ok(last.map(|(last, digest)| Batch { events, last, digest }))
    }
}

/// The events of a frame.
pub(crate) fn read(frame: &FrameView<'_>) -> impl Iterator<Item = Result<Event, ProjectionError>> {
    let frame_number = frame.number.0;
    let unreadable = move |error: codec::CodecError| ProjectionError::Unreadable {
        frame: frame_number,
        what: error.to_string(),
    };
    codec::records(frame.body).map(move |record| {
        let record = record.map_err(unreadable)?;
        Ok((record.header, record.entry().map_err(unreadable)?))
    })
}

/// A frame's body as the tables remember it.
pub(crate) fn digest(body: &[u8]) -> String {
    blake3::hash(body).to_hex().to_string()
}
