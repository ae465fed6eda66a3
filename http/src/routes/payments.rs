//! `/v1/webhooks` and `/v1/admin/payments`.

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use doorbuster_actors::{HearError, Heard, ReconcileError};
use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::payment::NoticeError;

use crate::body;
use crate::call::Call;
use crate::metrics::PAYMENT_NOTICES_TOTAL;
use crate::problem::{Code, Problem};
use crate::reply::ok;
use crate::wire::requests::ReconcileRequest;
use crate::wire::responses::{ProviderList, Received};
use crate::wire::{from_engine, json, time};

/// How far back books are compared where nothing is said: an hour, many times what anything takes to settle.
const RECONCILE_MS: u64 = 60 * 60 * 1_000;

/// When a provider should send a webhook again that could not be proved now.
const UNPROVED_RETRY_MS: u64 = 5_000;

/// Providers whose webhooks have a route.
pub(crate) const HEARD: [&str; 2] = ["stripe", "paypal"];

/// What becomes of a webhook, as metrics spell it.
pub(crate) const NOTICES: [&str; 6] =
    ["taken", "not_ours", "not_genuine", "unproved", "refused", "not_configured"];

pub(crate) async fn hear_stripe(call: Call) -> Result<HttpResponse, Problem> {
    hear(call, "stripe").await
}

pub(crate) async fn hear_paypal(call: Call) -> Result<HttpResponse, Problem> {
    hear(call, "paypal").await
}

async fn hear(mut call: Call, provider: &'static str) -> Result<HttpResponse, Problem> {
    // As they came: each byte is signed, so neither media type nor coding is looked at.
    let bytes = match call.stream() {
        Some(payload) => {
            body::read(&call.request, payload, call.route.body_bytes_max, call.body_timeout()).await?
        }
        None => Bytes::new(),
    };
    let headers = call.request.headers();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let heard = call.engine().hear(provider, &header, &bytes, call.deadline.into()).await;
    let outcome = match &heard {
        Ok(Heard::Taken { .. }) => "taken",
        Ok(Heard::NotOurs { .. }) => "not_ours",
        Err(HearError::NotGenuine(NoticeError::Unproved)) => "unproved",
        Err(HearError::UnknownProvider | HearError::NotGenuine(NoticeError::NotConfigured)) => {
            "not_configured"
        }
        Err(HearError::NotGenuine(_)) => "not_genuine",
        Err(HearError::Refused(_)) => "refused",
    };
    debug_assert!(
        HEARD.contains(&provider) && NOTICES.contains(&outcome),
        "shown at zero: {provider} {outcome}"
    );
    metrics::counter!(PAYMENT_NOTICES_TOTAL, "provider" => provider, "outcome" => outcome).increment(1);
    match heard {
        Ok(Heard::Taken { kind } | Heard::NotOurs { kind }) => {
            tracing::debug!(provider, kind, outcome, "webhook");
            Ok(ok(&Received { received: true }))
        }
        Err(HearError::UnknownProvider) => {
            Err(Problem::not_found(format!("this engine has no payment provider `{provider}`")))
        }
        Err(HearError::NotGenuine(NoticeError::Unproved)) => {
            let detail = "the provider could not be asked whether it sent this; send it again";
            Err(Problem::new(Code::PaymentUnavailable, detail).after(UNPROVED_RETRY_MS))
        }
        Err(HearError::NotGenuine(error)) => {
            tracing::warn!(provider, %error, "a webhook was not believed");
            Err(Problem::new(Code::SignatureInvalid, error.to_string()))
        }
        Err(HearError::Refused(refusal)) => Err(refusal.into()),
    }
}

pub(crate) async fn providers(call: Call) -> Result<HttpResponse, Problem> {
    let data = call.engine().providers().iter().map(from_engine::provider).collect();
    Ok(ok(&ProviderList { data }))
}

pub(crate) async fn reconcile(mut call: Call) -> Result<HttpResponse, Problem> {
    let body = call.body().await?;
    let request: ReconcileRequest = json::parse(&body)?;
    let since = match &request.since {
        Some(text) => {
            time::parse(text).ok_or_else(|| Problem::field("/since", "not_a_time", "an RFC 3339 time"))?
        }
        None => Timestamp(call.engine().now().0.saturating_sub(RECONCILE_MS)),
    };
    match call.engine().reconcile(&request.provider, since).await {
        Ok(found) => Ok(ok(&from_engine::reconciliation(&found))),
        Err(ReconcileError::UnknownProvider) => {
            let message = format!("this engine has no payment provider `{}`", request.provider);
            Err(Problem::field("/provider", "unknown_provider", message))
        }
        Err(ReconcileError::KeepsNoBooks) => {
            let message = format!("`{}` is built in and keeps no books of its own", request.provider);
            Err(Problem::field("/provider", "keeps_no_books", message))
        }
        Err(ReconcileError::NoAnswer) => {
            let detail = "the provider does not list its payments now; nothing was compared";
            Err(Problem::new(Code::PaymentUnavailable, detail).after(UNPROVED_RETRY_MS))
        }
        Err(ReconcileError::Refused(refusal)) => Err(refusal.into()),
    }
}
