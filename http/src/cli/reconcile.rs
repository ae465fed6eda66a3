//! `doorbuster reconcile`: asks a running engine to compare a provider's books with its orders, and shows what did not agree.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::Table;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Failure;
use crate::client::{Client, Options};

/// How long a comparison may take: a provider lists a hundred payments a call, at the pace it allows.
const PATIENCE: Duration = Duration::from_secs(600);

/// Compare a payment provider's books with the orders of a running engine.
///
/// Orders that do not know how their payment stands are told, and mend it: an order whose webhook was lost is placed, money that
/// came for an order that is off goes back. What an order cannot mend is listed for people. Exit code 0: everything agrees or was
/// mended; 1: something is left for people; 2: wrong usage or unreachable engine.
#[derive(Clone, Debug, clap::Args)]
pub struct ReconcileArguments {
    /// Where the engine listens
    #[arg(long, env = "DOORBUSTER_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The engine's admin key
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// Whose books
    #[arg(long, default_value = "stripe", value_name = "PROVIDER")]
    pub provider: String,
    /// Orders made at or after this time, e.g. 2026-11-27T00:00:00Z (default: the last hour)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The engine's report, as far as it is shown here.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    provider: String,
    since: String,
    payments: usize,
    orders: usize,
    complete: bool,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Finding {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    detail: String,
    repaired: bool,
}

/// Runs the command.
pub fn run(arguments: &ReconcileArguments) -> Result<ExitCode, Failure> {
    let refuse = |error: crate::client::Failure| Failure { message: format!("{error:#}"), code: 2 };
    let report: Report = actix_rt::System::new().block_on(async {
        let client = Client::new(Options {
            url: arguments.url.clone(),
            admin_key: arguments.admin_key.clone(),
            patience: Duration::from_secs(15),
            timeout: PATIENCE,
        })
        .map_err(refuse)?;
        client.hello().await.map_err(refuse)?;
        let mut body = json!({"provider": arguments.provider});
        if let Some(since) = &arguments.since {
            body["since"] = json!(since);
        }
        let call = client.post("reconcile", "/v1/admin/payments/reconcile").as_admin().json(&body);
        let answer = call.send().await.map_err(refuse)?;
        if !answer.is_success() {
            return Err(refuse(answer.unexpected()));
        }
        answer.expect::<Report>().map_err(refuse)
    })?;
    let open = report.findings.iter().filter(|finding| !finding.repaired).count();
    if arguments.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        show(&report, open);
    }
    Ok(if open == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(report: &Report, open: usize) {
    println!(
        "{}: {} payments against {} orders since {}{}",
        report.provider,
        report.payments,
        report.orders,
        report.since,
        if report.complete { "" } else { "; only in part: the list is too long, compare a shorter time" }
    );
    if report.findings.is_empty() {
        println!("Everything agrees.");
        return;
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["what", "order", "payment", "mended", "detail"]);
    for finding in &report.findings {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mended = if finding.repaired { "yes" } else { "no" };
        table.add_row([
            &finding.kind,
            &text(&finding.order),
            &text(&finding.reference),
            mended,
            &finding.detail,
        ]);
    }
    println!("{table}");
    println!("{} mended by telling the order, {open} left for people.", report.findings.len() - open);
}
