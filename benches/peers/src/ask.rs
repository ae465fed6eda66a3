//! Single HTTP calls, one connection each: for setting servers up and asking them afterwards.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::generator::wire;

/// How long one call may take: an import of all SKUs is the longest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a request and waits for the whole answer: its status and body.
pub(crate) fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n")?;
    }
    write!(request, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    stream.write_all(request.as_bytes())?;
    let mut received = vec![];
    let mut chunk = [0; 16 * 1024];
    loop {
        let read =
            wire::http(&received).map_err(|malformed| anyhow::anyhow!("{method} {path}: {malformed}"))?;
        if let Some(answer) = read {
            return Ok((answer.status, String::from_utf8_lossy(answer.body).into_owned()));
        }
        let read = stream.read(&mut chunk);
        let count = read.with_context(|| format!("{method} {path}: no whole answer within {PATIENCE:?}"))?;
        anyhow::ensure!(count > 0, "{method} {path}: the server closed the connection");
        received.extend_from_slice(&chunk[..count]);
    }
}

/// The same, where only `status` will do.
pub(crate) fn demand(
    address: SocketAddr,
    status: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<String> {
    let (seen, answer) = call(address, method, path, headers, body)?;
    anyhow::ensure!(seen == status, "{method} {path} answered {seen}, not {status}: {answer}");
    Ok(answer)
}

/// A field of a JSON answer.
pub(crate) fn field(answer: &str, pointer: &str) -> anyhow::Result<Value> {
    let value: Value = serde_json::from_str(answer).with_context(|| format!("no JSON: {answer}"))?;
    value.pointer(pointer).cloned().with_context(|| format!("{pointer} is not in {answer}"))
}
