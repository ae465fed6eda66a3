//! `/livez`, `/readyz`, `/version`, `/metrics`: for whoever runs the engine.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use doorbuster_engine::answer::Refusal;

use crate::call::Call;
use crate::problem::{Code, Problem};
use crate::reply::ok;
use crate::wire::responses::{Health, Version};
use crate::wire::time;
use doorbuster_actors::Readiness;

/// How long answers may wait for the rescue copy before balancers are told to turn away.
const COPY_PATIENCE: Duration = Duration::from_secs(3);

const COPY_AWAY: &str = "answers wait for the rescue copy in Postgres (--durability replicated), which takes nothing now; they go \
                         out when it does";

pub(crate) async fn live(_call: Call) -> Result<HttpResponse, Problem> {
    Ok(ok(&Health { status: "ok" }))
}

pub(crate) async fn ready(call: Call) -> Result<HttpResponse, Problem> {
    match call.engine().readiness() {
        Readiness::Ready => match &call.door.options.replication {
            Some(copy) if !copy.is_confirming(COPY_PATIENCE) => {
                Err(Problem::new(Code::Recovering, COPY_AWAY))
            }
            Some(_) | None => Ok(ok(&Health { status: "ok" })),
        },
        Readiness::Recovering => Err(Refusal::Recovering { retry_after_ms: 1_000 }.into()),
        Readiness::Draining => Err(Refusal::Draining.into()),
    }
}

pub(crate) async fn version(call: Call) -> Result<HttpResponse, Problem> {
    Ok(ok(&Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: crate::COMMIT,
        durability: call.door.options.durability,
        started_at: time::text(call.door.started_at),
    }))
}

pub(crate) async fn metrics(_call: Call) -> Result<HttpResponse, Problem> {
    let Some(recorder) = crate::metrics::recorder() else {
        return Err(Problem::new(Code::Internal, "no metrics are recorded in this process"));
    };
    // Rendering takes milliseconds with thousands of series; a worker's actors must not wait for it.
    let page = actix_web::web::block(|| recorder.render()).await;
    let page = page.map_err(|_| Problem::new(Code::Internal, "the metrics page could not be made"))?;
    let mut response = HttpResponse::with_body(StatusCode::OK, actix_web::body::BoxBody::new(page));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
