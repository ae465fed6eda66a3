//! Reading bodies: bounded in length, bounded in time, and without a copy or a timer where the body is here already.

use std::task::Poll;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{self, Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};

use crate::problem::{Code, Problem};
use crate::routes::table;

/// Whether the body is said to be JSON, or nothing is said.
pub(crate) fn is_json(request: &HttpRequest) -> bool {
    if is_packed(request) {
        return false;
    }
    let Some(kind) = request.headers().get(CONTENT_TYPE) else { return true };
    let Ok(kind) = kind.to_str() else { return false };
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json")
        || (kind.len() > 5
            && kind.is_char_boundary(kind.len() - 5)
            && kind[kind.len() - 5..].eq_ignore_ascii_case("+json"))
}

/// Whether the body is sent under a content encoding, which nothing here undoes.
pub(crate) fn is_packed(request: &HttpRequest) -> bool {
    request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity")
}

/// Reads a body of at most `bytes_max` bytes within `patience`.
///
/// The usual body is here already as one chunk: no copy and no timer then.
pub(crate) async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    bytes_max: usize,
    patience: Duration,
) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::TooLarge, format!("this call reads at most {bytes_max} bytes"));
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let broken = |_| Problem::malformed("the request body broke off");
    let mut whole = match arrived(&mut payload).await {
        Some(None) => return Ok(Bytes::new()),
        Some(Some(chunk)) => {
            let chunk = chunk.map_err(broken)?;
            if announced == Some(chunk.len() as u64) {
                return Ok(chunk);
            }
            BytesMut::from(&chunk[..])
        }
        None => BytesMut::new(),
    };
    let rest = async {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(broken)?;
            if whole.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.split().freeze())
    };
    actix_rt::time::timeout(patience, rest).await.unwrap_or_else(|_| Err(Problem::body_too_slow()))
}

/// Takes what has arrived already of a body that nobody will read, so that its connection can be kept: with bytes left
/// over it would be closed, and a client that sent a wrong header would have to connect again each time.
pub(crate) async fn discard(payload: &mut web::Payload) {
    let mut discarded = 0;
    while discarded <= table::BODY_BYTES_MAX {
        match arrived(payload).await {
            Some(Some(Ok(chunk))) => discarded += chunk.len(),
            Some(None | Some(Err(_))) | None => return,
        }
    }
}

/// What comes of a body without waiting for the network.
///
/// The server begins a request before it looks at the bytes behind its head, so a body that is here already shows only
/// once the request has given way: cheaper than a timer for each request. It comes back to the request in the same turn.
async fn arrived(payload: &mut web::Payload) -> Option<Option<Result<Bytes, PayloadError>>> {
    let first = payload.next().now_or_never();
    if first.is_some() {
        return first;
    }
    give_way().await;
    payload.next().now_or_never()
}

/// Lets the caller go on, and asks to be polled again. Unlike tokio's `yield_now`, whose wake-up waits until the worker has
/// gone round all that is ready: under load that is a second wait as long as the first.
fn give_way() -> impl Future<Output = ()> {
    let mut given = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}
