//! `/v1/streams`: live events, as server-sent events or, for a cart, over a WebSocket.
//!
//! What is told and in which order is [`crate::live`]'s; here is how it goes over the wire.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodyStream, BoxBody};
use actix_web::http::Method;
use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use actix_web::web::Bytes;
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, Session};
use doorbuster_engine::answer::{Missing, Refusal};
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{CartId, OrderId, Sku};
use futures_util::Stream;

use crate::call::Call;
use crate::line;
use crate::live::{Seed, Source, Subscription, Told, Topics};
use crate::problem::{Code, Problem};

/// Most SKUs of one stream.
const SKUS_MAX: usize = 100;

/// Largest WebSocket frame a client may send. It has nothing to say but pongs and its farewell.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// How long a client that was ended for not reading has to read why, before its connection is cut.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long one WebSocket message may wait for its client, and how often a silent one is asked whether it lives.
const TAKE_MAX: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(15);

/// Pings in a row that a client may leave unanswered.
const PINGS_MAX: u32 = 3;

/// The WebSocket protocol spoken here. A browser can send no header, so it offers its token as a second protocol.
const PROTOCOL: &str = "doorbuster.v1";
const TOKEN_PROTOCOL: &str = "token.";

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
static ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the client has seen already, in the digits of this kind of stream; anything else counts as nothing.
fn since(call: &Call, radix: u32) -> Option<u64> {
    let text = call.request.headers().get(&LAST_EVENT_ID)?.to_str().ok()?;
    u64::from_str_radix(text.trim(), radix).ok()
}

pub(crate) async fn skus(call: Call) -> Result<HttpResponse, Problem> {
    let query = call.query()?;
    let mut skus: Vec<Sku> = Vec::new();
    let mut missing = Vec::new();
    for text in query.all("sku") {
        let sku = Sku::new(text)
            .map_err(|error| Problem::field("?sku", "not_a_sku", format!("`{text}`: {error}")))?;
        if call.engine().catalogue().get(text).is_none() {
            missing.push(sku);
        } else if !skus.contains(&sku) {
            skus.push(sku);
        }
        if skus.len() + missing.len() > SKUS_MAX {
            let message = format!("a stream tells of 1 to {SKUS_MAX} SKUs");
            return Err(Problem::field("?sku", "too_many", message));
        }
    }
    if !missing.is_empty() {
        return Err(Refusal::NotFound(Missing::Skus(missing)).into());
    }
    if skus.is_empty() {
        return Err(Problem::field("?sku", "too_few", format!("a stream tells of 1 to {SKUS_MAX} SKUs")));
    }
    if call.request.method() == Method::HEAD {
        return Ok(head());
    }
    let subscription = call.door.live.open(Topics::Skus(skus), since(&call, 16)).await?;
    Ok(events(&call, subscription))
}

pub(crate) async fn order(call: Call) -> Result<HttpResponse, Problem> {
    let id: OrderId =
        call.id().map_err(|_| Problem::not_found("no such order, or not with this Cart-Token"))?;
    if call.request.method() == Method::HEAD {
        call.engine().order(call.order_access(), id).await?;
        return Ok(head());
    }
    let key = EntityKey::Order(id);
    // First to be told, then to ask: what happens between the two is not missed.
    let subscription = call.door.live.open(Topics::One(key.clone()), since(&call, 10)).await?;
    let watched = call.engine().watch_order(call.order_access(), id).await?;
    subscription.seed(key, Seed::Order(watched))?;
    Ok(events(&call, subscription))
}

pub(crate) async fn cart(mut call: Call) -> Result<HttpResponse, Problem> {
    let wrong = || Problem::not_found("no such cart, or not with this Cart-Token");
    let id: CartId = call.id().map_err(|_| wrong())?;
    let offered = offered_token(&call);
    let token = offered.as_deref().unwrap_or_else(|| call.cart_token());
    if !call.engine().cart_token_matches(id, token) {
        return Err(wrong());
    }
    let socket = call.request.headers().contains_key(UPGRADE);
    if socket {
        check_origin(&call)?;
    }
    if call.request.method() == Method::HEAD {
        call.engine().watch_cart(id).await?;
        return Ok(head());
    }
    let key = EntityKey::Cart(id);
    let subscription = call.door.live.open(Topics::One(key.clone()), since(&call, 10)).await?;
    let watched = call.engine().watch_cart(id).await?;
    subscription.seed(key, Seed::Cart(watched))?;
    if !socket {
        return Ok(events(&call, subscription));
    }
    let refuse = |error: actix_web::Error| Problem::new(Code::Malformed, format!("no WebSocket: {error}"));
    let payload = call.stream().ok_or_else(|| Problem::new(Code::Malformed, "no WebSocket"))?;
    let (response, session, messages) =
        actix_ws::handle_with_protocols(&call.request, payload, &[PROTOCOL]).map_err(refuse)?;
    line::keep_open(&call.request);
    actix_rt::spawn(converse(subscription, session, messages.max_frame_size(FRAME_BYTES_MAX)));
    Ok(response)
}

/// The token that a browser offers as a WebSocket protocol.
fn offered_token(call: &Call) -> Option<String> {
    let offered =
        call.request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    let mut protocols = offered.flat_map(|value| value.split(',')).map(str::trim);
    protocols.find_map(|protocol| protocol.strip_prefix(TOKEN_PROTOCOL)).map(str::to_owned)
}

/// A page of another origin may open a WebSocket with a shopper's credentials, and no preflight asks first. So the origins
/// that may are those of the CORS list and our own.
fn check_origin(call: &Call) -> Result<(), Problem> {
    let headers = call.request.headers();
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let own = origin.split_once("://").is_some_and(|(_, place)| !host.is_empty() && place == host);
    if own || call.door.options.origins.iter().any(|allowed| allowed == origin) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "this origin may not open a WebSocket; allow it with --cors-origin"))
}

/// The head of a stream's answer.
pub(crate) fn head() -> HttpResponse {
    let mut response = HttpResponse::Ok().finish();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Compression would hold small events back, and so would a proxy's buffer.
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(ACCEL_BUFFERING.clone(), HeaderValue::from_static("no"));
    response
}

/// A source's events as the answer, until either side ends it.
pub(crate) fn events<S: Source>(call: &Call, source: S) -> HttpResponse {
    // Not all come back in the same moment after a restart.
    let retry_ms = 1_000 + source.number().wrapping_mul(7_919) % 4_000;
    let ending = std::sync::Arc::clone(source.ending());
    let cut = line::cutter(&call.request);
    let farewell = actix_rt::spawn(async move {
        ending.wait().await;
        actix_rt::time::sleep(FAREWELL).await;
        cut();
    });
    let begin = Some(Bytes::from(format!("retry: {retry_ms}\n\n")));
    let stream = Events { source, begin, farewell, over: false };
    head().set_body(BoxBody::new(BodyStream::new(stream)))
}

/// A stream as the body of an answer.
struct Events<S> {
    source: S,
    begin: Option<Bytes>,
    farewell: actix_rt::task::JoinHandle<()>,
    over: bool,
}

impl<S> Drop for Events<S> {
    fn drop(&mut self) {
        self.farewell.abort();
    }
}

impl<S: Source> Stream for Events<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(begin) = this.begin.take() {
            return Poll::Ready(Some(Ok(begin)));
        }
        if this.over {
            return Poll::Ready(None);
        }
        match this.source.receiver().poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(told)) => Poll::Ready(Some(Ok(told.sse.clone()))),
            Poll::Ready(None) => {
                this.over = true;
                let last = Told::end(this.source.ending().reason());
                Poll::Ready(Some(Ok(last.sse.clone())))
            }
        }
    }
}

/// An event as a WebSocket message.
fn text(told: &Told) -> String {
    let id = told.id.as_ref().map(|id| format!(",\"id\":\"{id}\"")).unwrap_or_default();
    format!("{{\"event\":\"{}\"{id},\"data\":{}}}", told.name, String::from_utf8_lossy(&told.data))
}

/// Tells a cart's watcher over a WebSocket until one of the two has enough.
async fn converse(mut subscription: Subscription, mut session: Session, mut messages: MessageStream) {
    let mut unanswered = 0;
    let mut pings = actix_rt::time::interval(PING);
    pings.tick().await;
    let reason = loop {
        tokio::select! {
            told = subscription.receiver.recv() => match told {
                // The socket has pings of its own.
                Some(told) if told.name.is_empty() => {}
                Some(told) => match actix_rt::time::timeout(TAKE_MAX, session.text(text(&told))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => break "slow_reader",
                },
                None => break subscription.ending.reason(),
            },
            message = messages.recv() => match message {
                Some(Ok(Message::Ping(bytes))) => {
                    unanswered = 0;
                    if session.pong(&bytes).await.is_err() {
                        return;
                    }
                }
                // Whatever it says, it lives.
                Some(Ok(Message::Pong(_) | Message::Text(_) | Message::Binary(_) | Message::Continuation(_) | Message::Nop)) => {
                    unanswered = 0;
                }
                Some(Ok(Message::Close(_))) => {
                    let _ = session.close(None).await;
                    return;
                }
                Some(Err(_)) => {
                    let reason = CloseReason { code: CloseCode::Protocol, description: None };
                    let _ = session.close(Some(reason)).await;
                    return;
                }
                None => return,
            },
            _ = pings.tick() => {
                unanswered += 1;
                if unanswered > PINGS_MAX || session.ping(b"").await.is_err() {
                    return;
                }
            }
        }
    };
    let _ = actix_rt::time::timeout(TAKE_MAX, session.text(text(&Told::end(reason)))).await;
    let code = if reason == "slow_reader" { CloseCode::Again } else { CloseCode::Away };
    let _ = session.close(Some(CloseReason { code, description: Some(reason.to_owned()) })).await;
}
