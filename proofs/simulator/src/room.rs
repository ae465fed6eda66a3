//! Journal room in the model: when a turn may be refused for want of it, and how much there is once all is at rest. Law 3's
//! second half: room is set aside before a command is decided, and none is ever lost.

// Whatever else is asked brings no lines along.
#![allow(clippy::wildcard_enum_match_arm)]

use doorbuster_actors::NoRoom;

use crate::ask::Ask;
use crate::broken::{Broken, Checked, demand};
use crate::common::Common;
use crate::sometimes;

const SEGMENT_HEADER_BYTES: u64 = 64;
const FRAME_HEADER_BYTES: u64 = 36;

/// A turn's room, and what each line of a cart, an order or a reservation adds to it.
const TURN_BYTES: usize = 4 << 10;
const LINE_BYTES: usize = 640;

/// A cart has no more lines.
const CART_LINES_MAX: usize = 1_000;

/// Records of a frame are a quarter of a segment at most.
fn frame_bytes_max(segment_bytes: u64) -> u64 {
    (segment_bytes - SEGMENT_HEADER_BYTES) / 4
}

/// What the end of a segment still promises: the last frame may not fit, and each record may get a frame of its own.
fn promised_bytes(segment_bytes: u64, left: u64) -> u64 {
    left.saturating_sub(frame_bytes_max(segment_bytes) + FRAME_HEADER_BYTES) / 2
}

impl Common {
    /// A turn found no room: so it must be, by the figures it saw.
    pub fn judge_no_room(&mut self, seen: NoRoom) {
        let kept = if seen.ends_something { 0 } else { frame_bytes_max(self.segment_bytes) / 8 };
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let fits = match seen.wanted_bytes.checked_sub(seen.in_hand_bytes) {
            None | Some(0) => true,
            Some(missing) => seen.claimable_bytes >= missing + kept,
        };
        let checked =
            demand(!fits, 4, || format!("a turn was refused for want of room that was there: {seen:?}"));
        self.note(checked);
        if seen.ends_something {
            sometimes!("an ending found no room");
        }
        let now_ms = self.clock.now_ms();
        self.trace.line(now_ms, || format!("{seen:?}"));
        self.no_room.push_back((now_ms, seen));
        if self.no_room.len() > 256 {
            self.no_room.pop_front();
        }
    }

    /// A request was refused for want of room: its own turn must have found none since it was asked.
    pub fn check_storage_full(&self, ask: &Ask, asked_at_ms: u64) -> Checked {
        let lines = match ask {
            Ask::Reserve(items, ..) if items.len() > 1 => items.len(),
            Ask::MakeCart(lines) | Ask::AddLines(_, lines, _) => lines.len(),
            // Lines that are added and not durable yet count too, and the model does not know them.
            Ask::Checkout(..) => CART_LINES_MAX,
            Ask::Cancel(id) | Ask::Refund(id, ..) | Ask::Fulfil(id, _) => {
                self.model.orders.get(&id.0).map_or(0, |order| order.lines().len())
            }
            _ => 0,
        };
        let most = TURN_BYTES + lines * LINE_BYTES;
        let found = self
            .no_room
            .iter()
            .any(|(at_ms, seen)| *at_ms >= asked_at_ms && !seen.ends_something && seen.wanted_bytes <= most);
        demand(found, 4, || {
            format!("{ask:?} was refused for want of {most} bytes, and no turn found no room")
        })
    }

    /// All is at rest: the room there is is what the newest segment and the one prepared after it promise, to the byte.
    pub fn check_room(&self, room_bytes: u64, left_bytes: u64) -> Checked {
        let segment = self.segment_bytes;
        let fresh = promised_bytes(segment, segment - SEGMENT_HEADER_BYTES);
        let due = promised_bytes(segment, left_bytes) + fresh;
        if room_bytes == due {
            return Ok(());
        }
        let seen = format!("{room_bytes} bytes of the journal can be claimed, {due} are there");
        Err(Broken { law: 3, seen })
    }
}
