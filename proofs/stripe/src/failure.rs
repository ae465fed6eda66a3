//! Refusals with the status, type and code that Stripe's carry.

use serde_json::{Value, json};

/// A refusal on its way to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    /// Stripe's `type`: `card_error`, `invalid_request_error`, `idempotency_error` or `api_error`.
    pub(crate) kind: &'static str,
    pub(crate) code: Option<String>,
    pub(crate) decline_code: Option<String>,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) charge: Option<String>,
    pub(crate) payment_intent: Option<Value>,
    /// Whether execution had begun: then an idempotency key keeps this answer.
    pub(crate) began: bool,
}

impl Failure {
    pub(crate) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            decline_code: None,
            message: message.into(),
            param: None,
            charge: None,
            payment_intent: None,
            began: false,
        }
    }

    /// A parameter that cannot be: nothing was begun.
    pub(crate) fn parameter(param: &str, message: impl Into<String>) -> Self {
        let mut failure = Self::new(400, "invalid_request_error", message);
        failure.param = (!param.is_empty()).then(|| param.to_owned());
        failure
    }

    /// A parameter that cannot be, with a code.
    pub(crate) fn coded(param: &str, code: &str, message: impl Into<String>) -> Self {
        Self { code: Some(code.to_owned()), ..Self::parameter(param, message) }
    }

    /// A thing that is not there: 404 where the path names it, 400 where a parameter does.
    pub(crate) fn missing(status: u16, what: &str, id: &str, param: &str) -> Self {
        let mut failure = Self::parameter(param, format!("No such {what}: '{id}'"));
        failure.status = status;
        failure.code = Some("resource_missing".to_owned());
        failure
    }

    /// Something that an object's state does not allow.
    pub(crate) fn state(code: Option<&str>, message: impl Into<String>) -> Self {
        let mut failure = Self::new(400, "invalid_request_error", message);
        failure.code = code.map(str::to_owned);
        failure.began = true;
        failure
    }

    /// A card that is refused.
    pub(crate) fn card(code: &str, decline_code: Option<&str>, message: &str) -> Self {
        let mut failure = Self::new(402, "card_error", message);
        failure.code = Some(code.to_owned());
        failure.decline_code = decline_code.map(str::to_owned);
        failure.began = true;
        failure
    }

    /// Stripe's own fault.
    pub(crate) fn fault(status: u16, began: bool) -> Self {
        let message = "An unexpected error occurred. The stand-in was asked to fail.";
        Self { began, ..Self::new(status, "api_error", message) }
    }

    /// The object under `error`, without what is unsaid, as Stripe leaves it out.
    pub(crate) fn error(&self) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        let texts = [
            ("code", &self.code),
            ("decline_code", &self.decline_code),
            ("param", &self.param),
            ("charge", &self.charge),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                error[name] = json!(text);
            }
        }
        if let Some(code) = &self.code {
            let page = code.replace('_', "-");
            error["doc_url"] = json!(format!("https://docs.stripe.com/error-codes/{page}"));
        }
        if let Some(intent) = &self.payment_intent {
            error["payment_intent"] = intent.clone();
        }
        error
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({"error": self.error()})
    }
}
