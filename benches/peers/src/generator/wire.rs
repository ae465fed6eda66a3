//! Where an answer ends and what it says, for HTTP/1.1 and for Redis' protocol. As little as a fair client must read.

use memchr::memmem;

/// A whole answer at the beginning of what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// The HTTP status; for Redis 201 for a granted reservation, 409 for a refused one, 500 for an error.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: &'a [u8],
    /// How many bytes the whole answer has.
    pub(crate) length: usize,
}

/// Bytes that are no answer, and why.
pub(crate) type Malformed = &'static str;

/// Reads an HTTP/1.1 answer with a `Content-Length`; `None` while it is not complete.
pub(crate) fn http(bytes: &[u8]) -> Result<Option<Answer<'_>>, Malformed> {
    let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..head_end];
    if !head.starts_with(b"HTTP/1.1 ") || head.len() < 12 {
        return Err("no HTTP/1.1 status line");
    }
    let status = number(&head[9..12]).and_then(|status| u16::try_from(status).ok()).ok_or("no status")?;
    let body_length = content_length(head).ok_or("an answer without Content-Length")?;
    let body_start = head_end + 4;
    let length = body_start + body_length;
    Ok(bytes.get(body_start..length).map(|body| Answer { status, body, length }))
}

/// The value of `Content-Length`. Both servers of ours write it in small letters; others may not.
fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let at = memmem::find(head, NAME).or_else(|| {
        let lines = memmem::find_iter(head, b"\r\n").map(|at| at + 2);
        lines
            .into_iter()
            .find(|at| head.get(*at..*at + NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
    })?;
    let value = &head[at + NAME.len()..];
    let end = memchr::memchr(b'\r', value).unwrap_or(value.len());
    number(value[..end].trim_ascii())
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + usize::from(digit - b'0')))
}

/// Reads Redis' answer to the script: an integer, positive for a granted reservation.
pub(crate) fn redis(bytes: &[u8]) -> Result<Option<Answer<'_>>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let line = bytes[..end].trim_ascii_end();
    let status = match line.split_first() {
        Some((b':', [b'-', ..])) => 409,
        Some((b':', _)) => 201,
        Some((b'-', _)) => 500,
        Some(_) | None => return Err("neither an integer nor an error"),
    };
    Ok(Some(Answer { status, body: line, length: end + 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, body and length of an answer, if it is complete.
    type Read<'a> = Result<Option<(u16, &'a [u8], usize)>, Malformed>;

    /// Only the status.
    type Status = Result<Option<u16>, Malformed>;

    #[test]
    fn answers_end_where_they_say() {
        let rows: [(&str, &[u8], Read<'_>); 9] = [
            ("nothing yet", b"", Ok(None)),
            ("head only", b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n", Ok(None)),
            ("half a body", b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{", Ok(None)),
            ("whole", b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}", Ok(Some((201, b"{}", 45)))),
            (
                "the next one begins",
                b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}HTTP",
                Ok(Some((201, b"{}", 45))),
            ),
            (
                "another spelling",
                b"HTTP/1.1 409 Conflict\r\nA: b\r\nContent-Length:0\r\n\r\n",
                Ok(Some((409, b"", 49))),
            ),
            ("chunked", b"HTTP/1.1 200 OK\r\n\r\n", Err("an answer without Content-Length")),
            ("not HTTP", b"-ERR unknown\r\n\r\n", Err("no HTTP/1.1 status line")),
            ("a wrong status", b"HTTP/1.1 2x1 Created\r\n\r\n", Err("no status")),
        ];
        for (name, bytes, expected) in rows {
            let seen =
                http(bytes).map(|answer| answer.map(|answer| (answer.status, answer.body, answer.length)));
            assert_eq!(seen, expected, "{name}");
        }
        let rows: [(&[u8], Status); 5] = [
            (b":1", Ok(None)),
            (b":1\r\n", Ok(Some(201))),
            (b":-1\r\n", Ok(Some(409))),
            (b"-NOSCRIPT No matching script\r\n", Ok(Some(500))),
            (b"+OK\r\n", Err("neither an integer nor an error")),
        ];
        for (bytes, expected) in rows {
            assert_eq!(redis(bytes).map(|answer| answer.map(|answer| answer.status)), expected);
        }
    }
}
