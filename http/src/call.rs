//! One request as its handler sees it: who calls, with which key, what for, and until when.

use std::str::FromStr;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderValue, IF_MATCH, IF_NONE_MATCH};
use actix_web::web::{self, Bytes};
use doorbuster_actors::{self as types, Engine, Ticket};
use doorbuster_engine::identity::Sku;
use doorbuster_postgres::history::History;

use crate::body;
use crate::door::{CART_TOKEN, FrontDoor, IDEMPOTENCY_KEY};
use crate::problem::{Code, Problem};
use crate::routes::table::Route;
use crate::wire::query::{self, Query};

/// Longest idempotency key, in characters.
const KEY_MAX: usize = 255;

/// One request on its way to a handler.
pub(crate) struct Call {
    /// Head of the request.
    pub(crate) request: HttpRequest,
    /// Its route.
    pub(crate) route: &'static Route,
    /// Its route's place in the table.
    pub(crate) place: usize,
    /// The door it came through.
    pub(crate) door: web::Data<FrontDoor>,
    /// When its caller is told that time ran out.
    pub(crate) deadline: Instant,
    /// Its name, as given or made here.
    pub(crate) request_id: HeaderValue,
    /// Whether the caller has the admin key.
    pub(crate) admin: bool,
    /// The body, until somebody reads it.
    pub(crate) payload: Option<web::Payload>,
}

impl Call {
    /// Who finds orders in Postgres, where there is one.
    pub(crate) fn history(&self) -> Option<&History> {
        self.door.options.history.as_ref()
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.door.engine
    }

    /// Its name, for problems inside a reply.
    pub(crate) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or("")
    }

    /// Whether the caller has the admin key.
    pub(crate) fn is_admin(&self) -> bool {
        self.admin
    }

    /// The `Cart-Token` header, empty where it is missing or no text.
    pub(crate) fn cart_token(&self) -> &str {
        self.request.headers().get(&CART_TOKEN).and_then(|token| token.to_str().ok()).unwrap_or("")
    }

    /// Who asks for an order.
    pub(crate) fn order_access(&self) -> types::Access {
        let token = self.cart_token();
        if self.admin {
            types::Access::Admin
        } else if token.is_empty() {
            types::Access::Anonymous
        } else {
            types::Access::Token(token.to_owned())
        }
    }

    /// The whole body, checked for length, media type and pace.
    pub(crate) async fn body(&mut self) -> Result<Bytes, Problem> {
        let bytes = match self.payload.take() {
            Some(payload) => {
                body::read(&self.request, payload, self.route.body_bytes_max, self.body_timeout()).await?
            }
            None => Bytes::new(),
        };
        if !bytes.is_empty() && !body::is_json(&self.request) {
            return Err(Problem::new(Code::UnsupportedMediaType, "this call reads application/json"));
        }
        Ok(bytes)
    }

    /// A body that says nothing: no bytes, or an object without fields.
    pub(crate) async fn empty_body(&mut self) -> Result<Bytes, Problem> {
        let bytes = self.body().await?;
        if !bytes.is_empty() {
            crate::wire::json::parse::<crate::wire::requests::EmptyRequest>(&bytes)?;
        }
        Ok(bytes)
    }

    /// The body as it comes.
    pub(crate) fn stream(&mut self) -> Option<web::Payload> {
        self.payload.take()
    }

    /// How long a body may take, or a stream may pause.
    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.door.options.body_timeout_ms)
    }

    /// The caller's idempotency key, if it sent one.
    pub(crate) fn key(&self) -> Result<Option<&str>, Problem> {
        let Some(header) = self.request.headers().get(&IDEMPOTENCY_KEY) else { return Ok(None) };
        checked_key(header.as_bytes())
            .map(Some)
            .map_err(|message| Problem::field("Idempotency-Key", "wrong_length", message))
    }

    /// Identity and deadline of this request, with `body` in its fingerprint.
    pub(crate) fn ticket(&self, body: &[u8]) -> Result<Ticket, Problem> {
        let key = self.key()?;
        Ok(self.ticket_for(key, self.route.method.name(), self.request.path(), body))
    }

    /// The same for a part of this request that has a key of its own.
    pub(crate) fn ticket_for(&self, key: Option<&str>, method: &str, path: &str, body: &[u8]) -> Ticket {
        let engine = self.engine();
        if self.admin {
            return engine.ticket("admin", key, method, path, body, self.deadline);
        }
        match self.cart_token() {
            "" => engine.ticket("anonymous", key, method, path, body, self.deadline),
            token => engine.ticket(&format!("cart:{token}"), key, method, path, body, self.deadline),
        }
    }

    /// Counts a reservation against its customer's limits, where there are any.
    pub(crate) async fn count_customer(&self, customer: Option<&str>) -> Result<(), Problem> {
        match (&self.door.options.limits, customer) {
            (Some(limits), Some(customer)) if !self.admin && limits.counts_customers(self.place) => {
                Box::pin(limits.check_customer(self.place, customer)).await
            }
            (Some(_), Some(_)) | (None, _) | (_, None) => Ok(()),
        }
    }

    /// A segment of the path, decoded.
    pub(crate) fn segment(&self, name: &str) -> Result<String, Problem> {
        let text = self.request.match_info().get(name).unwrap_or("");
        query::decode(text, false).ok_or_else(|| Problem::not_found("the path is not percent-encoded UTF-8"))
    }

    /// An id in the path; a malformed one names nothing.
    pub(crate) fn id<T: FromStr>(&self) -> Result<T, Problem> {
        // Ids have no character that needs decoding.
        self.request
            .match_info()
            .get("id")
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Problem::not_found("nothing has this id"))
    }

    /// The SKU in the path; what cannot be a SKU is not in the catalogue.
    pub(crate) fn sku(&self) -> Result<Sku, Problem> {
        Sku::new(&self.segment("sku")?)
            .map_err(|error| Problem::not_found(format!("not in the catalogue: {error}")))
    }

    /// The query's parameters; only those of the route's table entry are known.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        let mut known = [""; 8];
        let mut count = 0;
        for (place, parameter) in known.iter_mut().zip(self.route.query) {
            *place = parameter.name;
            count += 1;
        }
        Query::parse(self.request.query_string(), &known[..count])
    }

    /// The version that `If-Match` names; `None` where it is missing or `*`.
    pub(crate) fn if_match(&self) -> Result<Option<u64>, Problem> {
        let Some(header) = self.request.headers().get(IF_MATCH) else { return Ok(None) };
        let text = header.to_str().unwrap_or("").trim();
        if text == "*" {
            return Ok(None);
        }
        // Our tags are versions in quotes; a weak or foreign one can match nothing.
        tag_version(text).map(Some).ok_or_else(|| Problem::version_mismatch(None))
    }

    /// Whether `If-None-Match` names this version: the caller has it already.
    pub(crate) fn has_version(&self, version: u64) -> bool {
        let Some(header) = self.request.headers().get(IF_NONE_MATCH).and_then(|header| header.to_str().ok())
        else {
            return false;
        };
        // Weak comparison, as RFC 9110 has it for If-None-Match.
        header
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag_version(tag.strip_prefix("W/").unwrap_or(tag)) == Some(version))
    }
}

/// The version in an entity tag of ours.
fn tag_version(tag: &str) -> Option<u64> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// An idempotency key as it may be: 1 to 255 printable ASCII characters.
pub(crate) fn checked_key(key: &[u8]) -> Result<&str, String> {
    let sound = (1..=KEY_MAX).contains(&key.len()) && key.iter().all(|byte| (b' '..=b'~').contains(byte));
    match std::str::from_utf8(key) {
        Ok(text) if sound => Ok(text),
        Ok(_) | Err(_) => Err(format!("a key has 1 to {KEY_MAX} printable ASCII characters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_printable_and_bounded() {
        let longest = "k".repeat(KEY_MAX);
        let too_long = "k".repeat(KEY_MAX + 1);
        for (key, taken) in [
            ("k".as_bytes(), true),
            (b"order 17/retry", true),
            (longest.as_bytes(), true),
            (too_long.as_bytes(), false),
            (b"", false),
            (b"a\tb", false),
            ("schl\u{fc}ssel".as_bytes(), false),
        ] {
            assert_eq!(checked_key(key).is_ok(), taken, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn only_strong_quoted_versions_are_tags_of_ours() {
        for (tag, version) in
            [("\"3\"", Some(3)), ("3", None), ("W/\"3\"", None), ("\"x\"", None), ("\"\"", None)]
        {
            assert_eq!(tag_version(tag), version, "{tag}");
        }
    }
}
