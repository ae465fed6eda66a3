//! The ledger of a trial: every final answer, written down the moment it arrived, refusals too.
//!
//! One JSON object a line with the whole request, so that anybody can send it again: what was acknowledged must be
//! answered with the same bytes, what was definitely refused must never have taken effect (laws 3, 4 and 5). Each line
//! is one write before anything else is done with the answer, so a killed client leaves at most one torn last line,
//! which is skipped. Start at [`Request`], [`Verdict::of`] and [`Ledger::append`].

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Answer, Call, CartReply, Client, Failure, ItemReply, OrderReply, ReservationReply};
use crate::wire::time;

/// A keyed request, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its idempotency key.
    pub key: String,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The cart token it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Whether it shows the admin key.
    #[serde(default)]
    pub as_admin: bool,
    /// The `ETag` that must still be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// Its body as sent; empty for none.
    #[serde(default)]
    pub body: String,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, path: impl Into<String>, key: impl Into<String>) -> Self {
        Self { key: key.into(), method: method.to_owned(), path: path.into(), ..Self::default() }
    }

    /// With this body.
    pub fn json(self, body: &Value) -> Self {
        Self { body: body.to_string(), ..self }
    }

    /// Showing this cart token.
    pub fn token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Showing the admin key.
    pub fn as_admin(self) -> Self {
        Self { as_admin: true, ..self }
    }

    /// Begins a call of it, byte for byte the same each time.
    pub fn call<'a>(&self, client: &'a Client, label: &'static str) -> Result<Call<'a>, Failure> {
        let method = self.method.parse().map_err(|_| Failure::BadUrl { url: self.method.clone() })?;
        let mut call = client.any(label, method, self.path.as_str()).key(self.key.as_str());
        if let Some(token) = &self.token {
            call = call.cart_token(token.as_str());
        }
        if self.as_admin {
            call = call.as_admin();
        }
        if let Some(version) = &self.if_match {
            call = call.if_match(version.as_str());
        }
        if !self.body.is_empty() {
            call = call.bytes("application/json", self.body.clone().into());
        }
        Ok(call)
    }
}

/// What an answer said of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Verdict {
    /// A SKU was made with so many units.
    Sku {
        /// Which.
        sku: String,
        /// Its opening stock.
        units: i64,
    },
    /// Units are held.
    Reserved {
        /// The reservation's id.
        id: String,
        /// What it holds.
        items: Vec<ItemReply>,
        /// Until when, in milliseconds since 1970, exclusive.
        until_ms: u64,
    },
    /// A reservation was sold.
    Committed {
        /// The reservation's id.
        id: String,
    },
    /// A reservation was given back.
    Released {
        /// The reservation's id.
        id: String,
    },
    /// A cart was made.
    Carted {
        /// Its id.
        id: String,
    },
    /// An order was paid.
    Ordered {
        /// Its id.
        id: String,
    },
    /// An order waits for its payment.
    Pending {
        /// Its id.
        id: String,
    },
    /// A payment was declined: an answer that is kept, because the checkout was begun and undone.
    Declined,
    /// Definitely refused: it must never take effect.
    Refused {
        /// The problem's code.
        code: String,
    },
    /// Nobody answered in time; a retry with the same key settles it.
    Unknown,
}

impl Verdict {
    /// Reads an answer to one of the requests that a trial sends.
    pub fn of(request: &Request, answer: &Answer) -> Result<Self, Failure> {
        if !answer.is_success() {
            return Ok(match answer.status {
                402 => Self::Declined,
                500.. => Self::Unknown,
                _ => Self::Refused { code: answer.problem().code },
            });
        }
        let segments: Vec<&str> = request.path.trim_matches('/').split('/').skip(1).collect();
        Ok(match (request.method.as_str(), segments.as_slice()) {
            ("PUT", ["admin", "skus", sku]) => {
                let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
                Self::Sku { sku: (*sku).to_owned(), units: body["on_hand"].as_i64().unwrap_or_default() }
            }
            ("POST", ["reservations"]) => {
                let reservation: ReservationReply = answer.expect()?;
                let until_ms = reservation.expires_at.as_deref().and_then(time::parse).map_or(0, |at| at.0);
                Self::Reserved { id: reservation.id, items: reservation.items, until_ms }
            }
            ("POST", ["reservations", id, "commit"]) => Self::Committed { id: (*id).to_owned() },
            ("DELETE", ["reservations", id]) => Self::Released { id: (*id).to_owned() },
            ("POST", ["carts"]) => Self::Carted { id: answer.expect::<CartReply>()?.id },
            ("POST", ["carts", _, "checkout"]) if answer.status == 202 => {
                let pending: Value = answer.expect()?;
                Self::Pending { id: pending["order"]["id"].as_str().unwrap_or_default().to_owned() }
            }
            ("POST", ["carts", _, "checkout"]) => Self::Ordered { id: answer.expect::<OrderReply>()?.id },
            (_, _) => return Err(answer.unexpected()),
        })
    }

    /// Whether the engine promised something durable with it.
    pub fn is_acknowledged(&self) -> bool {
        match self {
            Self::Sku { .. }
            | Self::Reserved { .. }
            | Self::Committed { .. }
            | Self::Released { .. }
            | Self::Carted { .. }
            | Self::Ordered { .. }
            | Self::Pending { .. }
            | Self::Declined => true,
            Self::Refused { .. } | Self::Unknown => false,
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the answer was there, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was asked.
    pub request: Request,
    /// Status of the answer; 0 for none.
    pub status: u16,
    /// Digest of its body.
    pub digest: String,
    /// What it said.
    pub verdict: Verdict,
}

impl Entry {
    /// What `answer` said of `request`, now.
    pub fn of(request: &Request, answer: &Answer) -> Result<Self, Failure> {
        let verdict = Verdict::of(request, answer)?;
        Ok(Self {
            at_ms: now_ms(),
            request: request.clone(),
            status: answer.status,
            digest: digest(answer),
            verdict,
        })
    }

    /// Nobody answered.
    pub fn unknown(request: &Request) -> Self {
        Self {
            at_ms: now_ms(),
            request: request.clone(),
            status: 0,
            digest: String::new(),
            verdict: Verdict::Unknown,
        }
    }
}

/// Sixteen hexadecimal digits of a body's hash: enough that two answers of a trial never look alike by chance.
pub fn digest(answer: &Answer) -> String {
    blake3::hash(&answer.body).to_hex().chars().take(16).collect()
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    /// Appends to `path`, made if it is not there.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// Writes one answer down. The file survives a kill of this process, not of the machine: it is the engine that is
    /// on trial.
    pub fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// Reads all complete lines of a file.
    pub fn read(path: &Path) -> Result<Vec<Entry>, String> {
        let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let mut reader = BufReader::new(file);
        let (mut entries, mut line) = (Vec::new(), String::new());
        loop {
            line.clear();
            let length = reader.read_line(&mut line).map_err(|error| error.to_string())?;
            // Without its newline the last line was torn when the client died.
            if length == 0 || !line.ends_with('\n') {
                return Ok(entries);
            }
            let entry = serde_json::from_str(&line).map_err(|error| {
                format!("line {} of {} is no answer: {error}", entries.len() + 1, path.display())
            })?;
            entries.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_can_be_read_back_and_a_torn_one_is_skipped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut ledger = Ledger::open(file.path()).unwrap();
        let request = Request::new("POST", "/v1/reservations", "key with spaces")
            .json(&serde_json::json!({"items": []}))
            .token("t");
        let verdicts = [
            Verdict::Sku { sku: "A".to_owned(), units: 3 },
            Verdict::Reserved { id: "res_1".to_owned(), items: Vec::new(), until_ms: 7 },
            Verdict::Refused { code: "insufficient_stock".to_owned() },
            Verdict::Unknown,
        ];
        let entries: Vec<Entry> =
            verdicts.into_iter().map(|verdict| Entry { verdict, ..Entry::unknown(&request) }).collect();
        for entry in &entries {
            ledger.append(entry).unwrap();
        }
        OpenOptions::new().append(true).open(file.path()).unwrap().write_all(b"{\"at_ms\":1,\"requ").unwrap();
        assert_eq!(Ledger::read(file.path()).unwrap(), entries);
        std::fs::write(file.path(), "what is this\n").unwrap();
        assert!(Ledger::read(file.path()).unwrap_err().contains("line 1"));
    }
}
