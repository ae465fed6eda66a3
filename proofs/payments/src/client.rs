//! A small HTTP/1.1 client over one kept connection, that asks with the same key until the answer is definite: this crate
//! shares nothing with the engine's own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use doorbuster_servers::process;
use serde_json::Value;

/// The admin key of every engine started here.
pub(crate) const ADMIN_KEY: &str = "payments-admin-key-0123456789abcdef";

/// How long one attempt may take. The engine answers within its own deadline of ten seconds.
const ATTEMPT: Duration = Duration::from_secs(15);

/// How long a caller goes on asking. Fifty kills one behind another would take half of it.
const PATIENCE: Duration = Duration::from_secs(240);

/// Longest pause between two attempts, whatever the engine advises: shoppers are impatient.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What all clients met.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// Attempts made.
    pub(crate) attempts: AtomicU64,
    /// Attempts without an answer: refused connections and connections that ended.
    pub(crate) unanswered: AtomicU64,
    /// Definite answers that said `Idempotent-Replayed`.
    pub(crate) replayed: AtomicU64,
    /// Answers that only said to come back, by status and code.
    pub(crate) put_off: Mutex<BTreeMap<String, u64>>,
}

impl Met {
    fn put_off(&self, answer: &Answer) {
        let code = answer.body["code"].as_str().unwrap_or("-");
        if let Ok(mut put_off) = self.put_off.lock() {
            *put_off.entry(format!("{} {code}", answer.status)).or_default() += 1;
        }
    }
}

/// One request, as often as it has to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    /// The cart's token; the admin key where there is none.
    pub(crate) token: Option<String>,
    /// JSON; empty for none.
    pub(crate) body: String,
}

impl Request {
    /// A look at something, as its admin.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), key: None, token: None, body: String::new() }
    }

    /// A change under a key.
    pub(crate) fn post(path: impl Into<String>, key: impl Into<String>, body: &Value) -> Self {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Self { method: "POST", path: path.into(), key: Some(key.into()), token: None, body }
    }

    /// The same by the owner of a cart.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether it says to be the first one again.
    pub(crate) replayed: bool,
    /// As it came.
    pub(crate) bytes: Vec<u8>,
    /// As JSON; null where it is none.
    pub(crate) body: Value,
}

impl Answer {
    /// A text of the body.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    /// When to come back, where that is all it says.
    fn come_back(&self) -> Option<Duration> {
        let waits = match self.status {
            429 | 503 => true,
            409 => self.text("code") == "request_in_progress",
            _ => false,
        };
        let advised = Duration::from_millis(self.body["retry_after_ms"].as_u64().unwrap_or(100));
        waits.then(|| advised.clamp(Duration::from_millis(10), PAUSE_MAX))
    }
}

/// One caller.
pub(crate) struct Client<'met> {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    attempt: Duration,
    met: &'met Met,
}

impl<'met> Client<'met> {
    pub(crate) fn new(address: SocketAddr, met: &'met Met) -> Self {
        Self { address, stream: None, attempt: ATTEMPT, met }
    }

    /// One who waits for an answer that takes minutes.
    pub(crate) fn patient(address: SocketAddr, met: &'met Met) -> Self {
        Self { attempt: PATIENCE * 4, ..Self::new(address, met) }
    }

    /// Asks until the answer is definite: through kills, overload and whatever else says only to come back.
    pub(crate) fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            ensure!(!process::interrupted(), "interrupted");
            ensure!(
                began.elapsed() < PATIENCE,
                "{} {} got no definite answer in {PATIENCE:?}",
                request.method,
                request.path
            );
            self.met.attempts.fetch_add(1, Ordering::Relaxed);
            let Ok(answer) = self.attempt(request) else {
                self.met.unanswered.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(250));
                continue;
            };
            match answer.come_back() {
                Some(after) => {
                    self.met.put_off(&answer);
                    std::thread::sleep(after);
                }
                None => {
                    self.met.replayed.fetch_add(u64::from(answer.replayed), Ordering::Relaxed);
                    return Ok(answer);
                }
            }
        }
    }

    /// Asks for something that has to be there.
    pub(crate) fn look(&mut self, path: &str) -> anyhow::Result<Value> {
        let answer = self.ask(&Request::get(path))?;
        ensure!(answer.status == 200, "GET {path} was answered {}: {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Sends once and reads the answer. After an error the outcome is unknown, and the next attempt connects anew.
    pub(crate) fn attempt(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address, self.attempt)?,
        };
        write(stream.get_mut(), request)?;
        let (answer, stays) = read(&mut stream)?;
        self.stream = stays.then_some(stream);
        Ok(answer)
    }
}

fn connect(address: SocketAddr, attempt: Duration) -> anyhow::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(attempt))?;
    stream.set_write_timeout(Some(attempt))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn write(stream: &mut TcpStream, request: &Request) -> anyhow::Result<()> {
    use std::fmt::Write as _;

    let Request { method, path, key, token, body } = request;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: shop\r\n");
    match token {
        Some(token) => write!(text, "Cart-Token: {token}\r\n")?,
        None => write!(text, "Authorization: Bearer {ADMIN_KEY}\r\n")?,
    }
    if let Some(key) = key {
        write!(text, "Idempotency-Key: {key}\r\n")?;
    }
    if !body.is_empty() {
        text.push_str("Content-Type: application/json\r\n");
    }
    write!(text, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    Ok(stream.write_all(text.as_bytes())?)
}

/// The answer, and whether the connection stays.
fn read(stream: &mut BufReader<TcpStream>) -> anyhow::Result<(Answer, bool)> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line)? > 0, "the connection was closed");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
    let (mut length, mut replayed, mut stays) = (0_usize, false, true);
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the connection was closed");
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "idempotent-replayed" => replayed = value.trim() == "true",
            "connection" => stays = !value.trim().eq_ignore_ascii_case("close"),
            "transfer-encoding" => bail!("an answer in chunks, which this client does not read"),
            _ => {}
        }
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok((Answer { status, replayed, bytes, body }, stays))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_say_nothing_definite_are_asked_for_again() {
        let rows = [
            (200, "", false),
            (201, "", false),
            (202, "", false),
            (402, "payment_declined", false),
            (409, "insufficient_stock", false),
            (409, "illegal_transition", false),
            (409, "request_in_progress", true),
            (410, "cart_expired", false),
            (422, "idempotency_key_reused", false),
            (429, "rate_limited", true),
            (500, "internal", false),
            (503, "deadline_exceeded", true),
        ];
        for (status, code, again) in rows {
            let body = serde_json::json!({"code": code, "retry_after_ms": 70});
            let answer = Answer { status, replayed: false, bytes: vec![], body };
            let expected = again.then_some(Duration::from_millis(70));
            assert_eq!(answer.come_back(), expected, "{status} {code}");
        }
    }
}
