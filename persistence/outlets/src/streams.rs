//! The streams as Redis holds them: keys, the offset beside them, and the one script that moves both.

use redis::Script;

use crate::announcement::{Announcement, Source, Stream};
use crate::link::{Link, LinkError};

/// Where announcing goes on: what Redis holds in the same step as the announcements themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The next frame to announce.
    pub next_frame: u64,
    /// Checksum of the body of the frame before; 0 before the first.
    pub mark: u32,
}

/// What Redis knows of the streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing: a new Redis, or one that was flushed.
    Nothing,
    /// These are another engine's.
    Foreign {
        /// That engine.
        engine: String,
    },
    /// Ours.
    Ours {
        /// Where they end.
        offset: Offset,
        /// Whether a stream that was written is gone.
        lost: bool,
    },
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is done.
    Done,
    /// The offset is not where it was believed to be; nothing was done.
    Elsewhere,
}

/// Keys of one set of streams. All have one hash tag, so that a cluster keeps them on one node.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The hash with the offset.
    pub fn offset(&self) -> String {
        format!("{}:{{events}}:offset", self.prefix)
    }

    /// A stream.
    pub fn stream(&self, stream: Stream) -> String {
        format!("{}:{{events}}:{}", self.prefix, stream.name())
    }

    /// The channel on which announcements of a type are published.
    pub fn channel(&self, type_name: &str) -> String {
        format!("{}:{{events}}:{type_name}", self.prefix)
    }

    /// All of them, for people.
    pub fn pattern(&self) -> String {
        format!("{}:{{events}}:*", self.prefix)
    }
}

/// One announcement as Redis gets it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    stream: Stream,
    stream_id: String,
    type_name: String,
    subject: String,
    sequence: String,
    id: String,
    event: String,
    channel: String,
}

impl Entry {
    /// `number` is the announcement's among all of its frame. Live listeners hear it only where it `is_news`.
    pub(crate) fn new(
        keys: &Keys,
        source: Source,
        frame: u64,
        number: u32,
        is_news: bool,
        told: &Announcement,
    ) -> Self {
        let type_name = told.type_name();
        Self {
            stream: told.subject.stream(),
            stream_id: format!("{frame}-{number}"),
            channel: if is_news { keys.channel(&type_name) } else { String::new() },
            type_name,
            subject: told.subject.to_string(),
            sequence: told.sequence_text().unwrap_or_default(),
            id: told.id(),
            event: told.cloud_event(source).to_string(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.event.len()
    }

    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }
}

/// A step to take: announcements and where the offset goes.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) engine: String,
    /// Where Redis holds the offset now.
    pub(crate) from: Option<Offset>,
    pub(crate) to: Offset,
    pub(crate) stream_length: u64,
    /// Whether the streams are begun anew: what of them is gone is no news then.
    pub(crate) anew: bool,
    pub(crate) entries: Vec<Entry>,
}

/// What Redis holds of `engine`'s streams.
pub(crate) async fn held(link: &Link, keys: &Keys, engine: &str) -> Result<Held, LinkError> {
    let offset_key = keys.offset();
    let streams = Stream::ALL.map(|stream| keys.stream(stream));
    let (fields, there) = link
        .ask(move |mut connection| async move {
            let mut hmget = redis::cmd("HMGET");
            hmget.arg(&offset_key).arg("engine").arg("next_frame").arg("mark");
            for stream in Stream::ALL {
                hmget.arg(stream.name());
            }
            let fields: Vec<Option<String>> = hmget.query_async(&mut connection).await?;
            let mut there = [0_u64; 4];
            for (place, key) in there.iter_mut().zip(&streams) {
                *place = redis::cmd("EXISTS").arg(key).query_async(&mut connection).await?;
            }
            Ok((fields, there))
        })
        .await?;
    let field = |index: usize| fields.get(index).and_then(Option::as_deref);
    let number = |index: usize| field(index).and_then(|text| text.parse::<u64>().ok());
    let Some(owner) = field(0) else { return Ok(Held::Nothing) };
    if owner != engine {
        return Ok(Held::Foreign { engine: owner.to_owned() });
    }
    let small = |index: usize| number(index).and_then(|number| u32::try_from(number).ok());
    let (Some(next_frame), Some(mark)) = (number(1), small(2)) else {
        // Somebody wrote there. What it says is nothing of ours.
        return Ok(Held::Foreign { engine: format!("{owner} (its offset is damaged)") });
    };
    let lost = (0..4).any(|index| number(3 + index).unwrap_or(0) > 0 && there[index] == 0);
    Ok(Held::Ours { offset: Offset { next_frame, mark }, lost })
}

/// Takes a step. Repeating one whose answer was lost is harmless: it is elsewhere, or its announcements are there already.
pub(crate) async fn take(link: &Link, keys: &Keys, script: &Script, batch: Batch) -> Result<Step, LinkError> {
    let keys = keys.clone();
    let script = script.clone();
    let answer: (String, String) = link
        .ask(move |mut connection| async move {
            let mut call = script.prepare_invoke();
            call.key(keys.offset());
            for stream in Stream::ALL {
                call.key(keys.stream(stream));
            }
            let from = batch.from.map(|from| from.next_frame.to_string()).unwrap_or_default();
            call.arg(&batch.engine).arg(from);
            call.arg(batch.to.next_frame).arg(batch.to.mark).arg(batch.stream_length);
            call.arg(u8::from(batch.anew));
            for entry in &batch.entries {
                call.arg(entry.stream.index() + 1).arg(&entry.stream_id).arg(&entry.type_name);
                call.arg(&entry.subject).arg(&entry.sequence).arg(&entry.id).arg(&entry.event);
                call.arg(&entry.channel);
            }
            call.invoke_async(&mut connection).await
        })
        .await?;
    Ok(if answer.0 == "done" { Step::Done } else { Step::Elsewhere })
}

/// The script of [`take`].
pub(crate) fn script() -> Script {
    Script::new(include_str!("announce.lua"))
}
