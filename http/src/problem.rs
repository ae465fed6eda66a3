//! Every way a request can fail, as `application/problem+json` (RFC 9457).
//!
//! [`Code`] is the closed list of what a client may be told; status, title and remedy hang on it, so a problem cannot
//! be half described. [`Problem::from`] a [`Refusal`] is exhaustive: a new refusal does not compile before it has a
//! code. Start at [`Problem`].

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use doorbuster_engine::answer::{FieldError, Missing, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

use crate::wire::{Money, ProblemField, Shortage};

/// Media type of every problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($name:ident, $wire:literal, $status:literal, $retryable:literal, $title:literal, $remedy:literal;)+) => {
        /// What went wrong, by its stable name. Clients branch on this, not on texts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name on the wire.
            pub fn wire(self) -> &'static str {
                match self { $(Self::$name => $wire,)+ }
            }

            /// The status it is sent with.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$name => $status,)+ };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Whether the same request may succeed later without a change.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)+ }
            }

            /// A short name for people, the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What the caller can do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

codes! {
    Malformed, "malformed", 400, false, "The request cannot be read",
        "Send syntactically valid JSON in UTF-8; the detail names the place where reading stopped.";
    IdempotencyKeyMissing, "idempotency_key_missing", 400, false, "This call needs an Idempotency-Key",
        "Send an Idempotency-Key header of 1 to 255 printable characters, new for each intention and the same for each retry of it.";
    SignatureInvalid, "signature_invalid", 400, false, "The webhook's signature does not fit",
        "Check that the endpoint's signing secret is configured here, and that no proxy changes the body; the detail names the reason.";
    Unauthenticated, "unauthenticated", 401, false, "The admin key is needed",
        "Send Authorization: Bearer with the admin key (DOORBUSTER_ADMIN_KEY, or the file admin_key in the data directory).";
    Forbidden, "forbidden", 403, false, "Not allowed for this caller",
        "Send the admin key, or leave out the field that needs it.";
    PaymentDeclined, "payment_declined", 402, false, "The payment was declined",
        "Try another payment method; the cart is open again and its units are back.";
    NotFound, "not_found", 404, false, "Not found",
        "Check the id or SKU and the Cart-Token header; a wrong token reads the same as a wrong id.";
    MethodNotAllowed, "method_not_allowed", 405, false, "The method is not allowed here",
        "Use one of the methods in the Allow header.";
    InsufficientStock, "insufficient_stock", 409, false, "Not enough stock",
        "Ask for fewer units, allow a partial reservation, or tell the shopper; nothing was reserved.";
    IllegalTransition, "illegal_transition", 409, false, "Not possible in this state",
        "Read the resource and decide by its present state; nothing was changed.";
    PriceChanged, "price_changed", 409, false, "The total has changed",
        "Show the shopper the new total and check out again with it as expected_total.";
    RequestInProgress, "request_in_progress", 409, true, "The first request with this key is still running",
        "Repeat the same request with the same key after Retry-After.";
    ReservationExpired, "reservation_expired", 410, false, "The reservation has expired",
        "Reserve again with a new Idempotency-Key; its units went back.";
    CartExpired, "cart_expired", 410, false, "The cart is gone",
        "Make a new cart.";
    VersionMismatch, "version_mismatch", 412, false, "The resource has changed",
        "Read it again and repeat with its present ETag in If-Match.";
    TooLarge, "too_large", 413, false, "The request body is too large",
        "Send less in one request: 64 KiB in general, 1 MiB of cart lines or batched reservations, 64 KiB a line of an import.";
    UnsupportedMediaType, "unsupported_media_type", 415, false, "The media type is not supported",
        "Send Content-Type: application/json (imports: application/x-ndjson or text/csv), without a content encoding.";
    ValidationFailed, "validation_failed", 422, false, "The request's content is wrong",
        "Mend the fields named in errors; each has a JSON pointer and a message.";
    IdempotencyKeyReused, "idempotency_key_reused", 422, false, "The Idempotency-Key was used for another request",
        "Use a new key for a new intention; a key belongs to one method, path and body.";
    PreconditionRequired, "precondition_required", 428, false, "If-Match is needed",
        "Read the stock and send its ETag in If-Match, so that nobody's change is overwritten unseen.";
    RateLimited, "rate_limited", 429, true, "Asked too often",
        "Wait for Retry-After and repeat with the same key; the RateLimit header tells which limit it was. Nothing was begun.";
    Internal, "internal", 500, false, "An error inside the engine",
        "Report the request_id; a retry with the same Idempotency-Key is safe and tells what became of the request.";
    Overloaded, "overloaded", 503, true, "Too much at once",
        "Wait for Retry-After and repeat with the same key; nothing was done.";
    PaymentUnavailable, "payment_unavailable", 503, true, "The payment provider does not answer",
        "Wait for Retry-After and repeat with the same key, or choose another provider; nothing was done.";
    StorageFull, "storage_full", 503, true, "The disk is full",
        "Free space on the data directory's disk; the engine resumes by itself and nothing was done.";
    Draining, "draining", 503, true, "The engine is shutting down",
        "Repeat with the same key after Retry-After; another instance or the restarted one will answer.";
    Recovering, "recovering", 503, true, "The engine is recovering",
        "Repeat with the same key after Retry-After; /readyz tells when it is ready.";
    DeadlineExceeded, "deadline_exceeded", 503, true, "Time ran out",
        "The outcome is unknown: repeat with the same Idempotency-Key and the engine tells it.";
}

impl Code {
    /// The path of its page, also its `type` in a problem.
    pub fn page(self) -> String {
        format!("/problems/{}", self.wire().replace('_', "-"))
    }
}

/// Typed context of a problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Context {
    items: Vec<Shortage>,
    skus: Vec<String>,
    from: Option<String>,
    action: Option<String>,
    expected_total: Option<Money>,
    total: Option<Money>,
    current_version: Option<u64>,
}

/// One failure, ready to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    status: StatusCode,
    detail: Cow<'static, str>,
    retryable: bool,
    retry_after_ms: Option<u64>,
    errors: Vec<FieldError>,
    allow: Option<String>,
    context: Option<Box<Context>>,
}

/// A problem as it is written.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Path of a page about this kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in a few words.
    pub title: &'static str,
    /// The HTTP status again.
    pub status: u16,
    /// What happened this time, for people.
    pub detail: &'a str,
    /// Path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<&'a str>,
    /// Stable name to branch on.
    pub code: &'static str,
    /// The `Request-Id` of this exchange, for support. Not in a kept refusal, whose every copy has the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// When to try again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub errors: Vec<ProblemField>,
    /// SKUs that could not give what was asked.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub items: &'a [Shortage],
    /// SKUs that are not in the catalogue.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub skus: &'a [String],
    /// The state that does not allow the move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'a str>,
    /// The move that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'a str>,
    /// The total the caller expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_total: Option<Money>,
    /// The total it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Money>,
    /// The version the resource has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
}

impl Problem {
    /// A problem of this kind, with what happened this time.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let retryable = code.retryable();
        Self {
            code,
            status: code.status(),
            detail: detail.into(),
            retryable,
            retry_after_ms: retryable.then_some(RETRY_AFTER_MS),
            errors: Vec::new(),
            allow: None,
            context: None,
        }
    }

    /// A body that is not JSON.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Malformed, detail)
    }

    /// Wrong content, field by field.
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.message.clone(),
            [one] => format!("{}: {}", one.pointer, one.message),
            many => format!("{} fields are wrong", many.len()),
        };
        Self { errors, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// One wrong field.
    pub fn field(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self::validation(vec![FieldError::new(pointer, code, message)])
    }

    /// Nothing is at this path, or not for this caller.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// The path is right, the method is not.
    pub fn method_not_allowed(allow: String) -> Self {
        let detail = format!("this path answers to {allow}");
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// The body did not arrive in time. 408 tells that nothing was begun; the code is that of any lost deadline.
    pub fn body_too_slow() -> Self {
        let detail = "the request body did not arrive in time; nothing was begun";
        Self { status: StatusCode::REQUEST_TIMEOUT, ..Self::new(Code::DeadlineExceeded, detail) }
    }

    /// A limit on how often somebody may ask is used up.
    pub(crate) fn rate_limited(limit: &str, retry_after_ms: u64) -> Self {
        let detail = format!("the limit `{limit}` is used up for now; nothing was begun");
        Self::new(Code::RateLimited, detail).after(retry_after_ms)
    }

    /// The version asked for is not the present one.
    pub fn version_mismatch(current: Option<u64>) -> Self {
        let problem = Self::new(Code::VersionMismatch, "If-Match does not name the present version");
        problem.with(Context { current_version: current, ..Context::default() })
    }

    fn with(self, context: Context) -> Self {
        Self { context: Some(Box::new(context)), ..self }
    }

    pub(crate) fn after(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }

    /// Its kind.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The status it is sent with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// When to try again, where that helps.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after_ms
    }

    /// The body's bytes; `instance` is the request's path.
    pub fn body(&self, request_id: &str, instance: Option<&str>) -> Vec<u8> {
        let empty = Context::default();
        let context = self.context.as_deref().unwrap_or(&empty);
        let body = ProblemBody {
            kind: self.code.page(),
            title: self.code.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            code: self.code.wire(),
            // Copies that waited for one payment together get the same bytes (law 5).
            request_id: (self.code != Code::PaymentDeclined).then_some(request_id),
            retryable: self.retryable,
            retry_after_ms: self.retry_after_ms,
            errors: self.errors.iter().map(ProblemField::from).collect(),
            items: &context.items,
            skus: &context.skus,
            from: context.from.as_deref(),
            action: context.action.as_deref(),
            expected_total: context.expected_total,
            total: context.total,
            current_version: context.current_version,
        };
        let mut out = Vec::with_capacity(384);
        // Writing plain data to memory cannot fail; an empty body would still carry the right status.
        let _ = serde_json::to_writer(&mut out, &body);
        out
    }

    /// The whole reply.
    pub fn reply(&self, request_id: &str, instance: Option<&str>) -> HttpResponse {
        let mut response = HttpResponse::new(self.status)
            .set_body(actix_web::body::BoxBody::new(self.body(request_id, instance)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(retry_after_ms) = self.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s(retry_after_ms)));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if self.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"doorbuster\""));
        }
        response
    }
}

/// The reply to a request that is refused because nobody has time for it: as [`Problem::reply`] would write it, without
/// going through everything that a problem could have. There may be ten of these for each request that is served.
pub(crate) fn overloaded(retry_after_ms: u64, request_id: &str, instance: &str) -> HttpResponse {
    let plain =
        |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
    if !plain(instance) || !plain(request_id) {
        let problem = Problem::new(Code::Overloaded, OVERLOADED).after(retry_after_ms);
        return problem.reply(request_id, Some(instance));
    }
    let (kind, title) = ("/problems/overloaded", Code::Overloaded.title());
    let body = format!(
        r#"{{"type":"{kind}","title":"{title}","status":503,"detail":"{OVERLOADED}","instance":"{instance}","code":"overloaded","request_id":"{request_id}","retryable":true,"retry_after_ms":{retry_after_ms}}}"#
    );
    let mut response =
        HttpResponse::new(StatusCode::SERVICE_UNAVAILABLE).set_body(actix_web::body::BoxBody::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s(retry_after_ms)));
    response
}

/// What an overload is told as.
const OVERLOADED: &str = "more is asked than can be answered in time; nothing was begun";

/// As `Retry-After` has it: whole seconds, and one at least.
fn retry_after_s(retry_after_ms: u64) -> u64 {
    retry_after_ms.div_ceil(1_000).max(1)
}

/// When to try again where nothing better is known: one second, about what a restart or a full second of load needs.
const RETRY_AFTER_MS: u64 = 1_000;

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(missing) => not_found(missing),
            Refusal::InsufficientStock(shortages) => {
                let items: Vec<Shortage> = shortages.iter().map(Shortage::from).collect();
                let detail = match items.as_slice() {
                    [one] => format!("{}: {} requested, {} available", one.sku, one.requested, one.available),
                    many => format!("{} SKUs cannot give what was asked", many.len()),
                };
                Self::new(Code::InsufficientStock, detail).with(Context { items, ..Context::default() })
            }
            Refusal::IllegalTransition { from, action, detail } => Self::new(Code::IllegalTransition, detail)
                .with(Context { from: Some(from), action: Some(action), ..Context::default() }),
            Refusal::ReservationExpired => {
                Self::new(Code::ReservationExpired, "its time ran out and its units went back")
            }
            Refusal::CartExpired => Self::new(Code::CartExpired, "its time ran out, or it was deleted"),
            Refusal::PriceChanged { expected, total } => {
                Self::new(Code::PriceChanged, format!("the total is {total}, not {expected}")).with(Context {
                    expected_total: Some(expected.into()),
                    total: Some(total.into()),
                    ..Context::default()
                })
            }
            Refusal::VersionMismatch { current } => Self::version_mismatch(Some(current)),
            Refusal::PaymentDeclined { reason, retryable } => {
                Self { retryable, ..Self::new(Code::PaymentDeclined, reason) }
            }
            Refusal::Validation(errors) => Self::validation(errors),
            Refusal::KeyReused => {
                Self::new(Code::IdempotencyKeyReused, "this key was used with another method, path or body")
            }
            Refusal::InProgress { retry_after_ms } => {
                Self::new(Code::RequestInProgress, "the first request has no answer yet")
                    .after(retry_after_ms)
            }
            Refusal::Overloaded { retry_after_ms } => {
                Self::new(Code::Overloaded, "too many requests wait already; nothing was done")
                    .after(retry_after_ms)
            }
            Refusal::StorageFull { retry_after_ms } => {
                Self::new(Code::StorageFull, "the journal has no room for another record; nothing was done")
                    .after(retry_after_ms)
            }
            Refusal::Draining => Self::new(Code::Draining, "the engine is shutting down; nothing was done"),
            Refusal::Recovering { retry_after_ms } => {
                Self::new(Code::Recovering, "this part of the engine is being rebuilt; nothing was done")
                    .after(retry_after_ms)
            }
            Refusal::PaymentUnavailable { retry_after_ms } => {
                Self::new(Code::PaymentUnavailable, "the payment provider does not answer; nothing was done")
                    .after(retry_after_ms)
            }
            Refusal::DeadlineExceeded => Self::new(
                Code::DeadlineExceeded,
                "no answer in time; whether the request took effect is unknown until it is repeated with its key",
            ),
        }
    }
}

fn not_found(missing: Missing) -> Problem {
    match missing {
        Missing::Skus(skus) => {
            let skus: Vec<String> = skus.iter().map(ToString::to_string).collect();
            Problem::not_found(format!("not in the catalogue: {}", skus.join(", ")))
                .with(Context { skus, ..Context::default() })
        }
        Missing::Reservation => Problem::not_found("no such reservation"),
        Missing::Cart => Problem::not_found("no such cart, or not with this Cart-Token"),
        Missing::Line => Problem::not_found("the cart has no such line"),
        Missing::Order => Problem::not_found("no such order, or not with this Cart-Token"),
        Missing::Actor => Problem::not_found("no such actor is active"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_page() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.wire()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            assert!(!code.page().contains('_'), "{code:?}");
            assert!(code.remedy().ends_with('.'), "{code:?}");
        }
    }

    #[test]
    fn retry_after_rounds_up_to_whole_seconds() {
        for (retry_after_ms, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")] {
            let reply = Problem::from(Refusal::Overloaded { retry_after_ms }).reply("r", None);
            assert_eq!(reply.headers().get(RETRY_AFTER).unwrap(), seconds);
        }
    }

    #[test]
    fn a_shortage_names_what_was_asked_and_what_is_there() {
        let sku = doorbuster_engine::identity::Sku::new("TEE-M").unwrap();
        let refusal = Refusal::InsufficientStock(vec![doorbuster_engine::answer::Shortage {
            sku,
            requested: 2,
            available: 1,
        }]);
        let body: serde_json::Value =
            serde_json::from_slice(&Problem::from(refusal).body("abc", Some("/v1/reservations"))).unwrap();
        assert_eq!(body["type"], "/problems/insufficient-stock");
        assert_eq!(body["status"], 409);
        assert_eq!(body["retryable"], false);
        assert_eq!(body["items"][0]["available"], 1);
        assert_eq!(body["request_id"], "abc");
        assert_eq!(body["instance"], "/v1/reservations");
    }

    #[test]
    fn the_quick_way_to_refuse_says_what_the_usual_one_does() {
        for (instance, request_id) in [
            ("/v1/reservations", "abc"),
            ("/v1/skus/\"A", "abc"),
            ("/v1/skus/\\", "x"),
            ("/v1/skus/A%20B", "1.2:3"),
        ] {
            for retry_after_ms in [50, 1_000, 1_001, 10_000] {
                let quick = overloaded(retry_after_ms, request_id, instance);
                let usual = Problem::new(Code::Overloaded, OVERLOADED).after(retry_after_ms);
                let slow = usual.reply(request_id, Some(instance));
                assert_eq!(quick.status(), slow.status());
                assert_eq!(quick.headers().len(), slow.headers().len());
                for name in [CONTENT_TYPE, RETRY_AFTER] {
                    assert_eq!(quick.headers().get(&name), slow.headers().get(&name));
                }
                let quick = actix_web::body::MessageBody::try_into_bytes(quick.into_body()).unwrap();
                assert_eq!(quick, usual.body(request_id, Some(instance)), "{instance}");
            }
        }
    }
}
