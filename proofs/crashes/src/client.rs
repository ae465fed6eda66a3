//! A small HTTP/1.1 client over one kept connection: this crate shares nothing with the engine's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The admin key of every engine started here.
pub(crate) const ADMIN_KEY: &str = "crashes-admin-key-0123456789abcdef";

/// How long an answer may take. The slowest row gives the disk half a second a sync.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// The header `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// Its body; null without one.
    pub(crate) body: Value,
}

impl Answer {
    /// Whether it acknowledges.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A text of the body.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
}

impl Client {
    /// Connects.
    pub(crate) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its answer. After an error the outcome is unknown and the connection of no use.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> anyhow::Result<Answer> {
        use std::fmt::Write as _;

        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: crashes\r\nAuthorization: Bearer {ADMIN_KEY}\r\n");
        if let Some(key) = key {
            write!(head, "Idempotency-Key: {key}\r\n")?;
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        if !body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
        }
        write!(head, "Content-Length: {}\r\n\r\n{body}", body.len())?;
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.read()
    }

    fn read(&mut self) -> anyhow::Result<Answer> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the connection was closed");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
        let (mut length, mut retry_after) = (0_usize, None);
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the connection was closed");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "retry-after" => retry_after = value.trim().parse().ok(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let body =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or(Value::Null) };
        Ok(Answer { status, retry_after, body })
    }
}
