//! What a fresh engine tells Prometheus before anything has happened: the step from nothing to one is no step for `increase()`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::command::Served;

const PAGE: &str = include_str!("../../../docs/METRICS.md");

/// Parts of the page whose metrics are there only with what they are about.
const CONFIGURED: [&str; 3] = ["Redis", "Postgres", "The rescue copy"];

/// The same, one by one; and the value of orders, which has no currency before the first.
const CONFIGURED_METRICS: [&str; 3] = [
    "doorbuster_rate_limited_total",
    "doorbuster_rate_limit_alone_total",
    "doorbuster_order_value_minor_units_total",
];

/// What one row of the page promises.
struct Row {
    name: String,
    /// The values that it lists, by label.
    values: BTreeMap<String, Vec<String>>,
}

/// Rows of metrics that need no configured part.
fn rows() -> Vec<Row> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, _, labels, ..] = cells.as_slice() else { continue };
        let name = name.trim_matches('`').to_owned();
        if !name.starts_with("doorbuster_")
            || CONFIGURED.contains(&section)
            || CONFIGURED_METRICS.contains(&name.as_str())
        {
            continue;
        }
        let values = labels.split(';').filter_map(|part| {
            let (before, after) = part.split_once("`:")?;
            let label = before.rsplit('`').next()?.to_owned();
            Some((label, after.split('`').skip(1).step_by(2).map(str::to_owned).collect()))
        });
        rows.push(Row { name, values: values.collect() });
    }
    rows
}

#[test]
fn every_listed_metric_is_there_with_every_listed_label_before_anything_happens() {
    let rows = rows();
    assert!(rows.len() > 30, "the page's rows were not found: {}", rows.len());
    let listed: usize = rows.iter().flat_map(|row| row.values.values()).map(Vec::len).sum();
    assert!(listed > 50, "the page's labels were not found: {listed}");
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(&directory.path().join("data"), &[]);
    // Gauges are told once a second, the first time soon after the start.
    let began = Instant::now();
    let page = loop {
        let (status, page) = served.ask("GET /metrics", "");
        assert_eq!(status, 200, "{page}");
        if page.contains("doorbuster_payment_provider_up{") || began.elapsed() > Duration::from_secs(20) {
            break page;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let samples: Vec<&str> = page.lines().filter(|line| line.starts_with("doorbuster_")).collect();
    let mut missing = BTreeSet::new();
    for row in &rows {
        let of_row = || {
            samples.iter().filter(|line| {
                let name = line.split(['{', ' ']).next().unwrap_or("");
                ["", "_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(&row.name))
            })
        };
        if of_row().next().is_none() {
            missing.insert(row.name.clone());
        }
        for (label, values) in &row.values {
            for value in values {
                let pair = format!("{label}=\"{value}\"");
                if !of_row().any(|line| line.contains(&pair)) {
                    missing.insert(format!("{}{{{pair}}}", row.name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "docs/METRICS.md promises what a fresh engine does not show: {missing:#?}");
    for route in ["/v1/reservations", "/v1/carts/{id}/checkout"] {
        for code in [500, 503] {
            let sample = format!(
                "doorbuster_http_requests_total{{route=\"{route}\",method=\"POST\",code=\"{code}\"}} 0"
            );
            assert!(samples.contains(&sample.as_str()), "{sample}");
        }
    }
    // A third of the budget that SeriesBudgetExceeded holds, and more once there is trade.
    assert!(samples.len() < 2_200, "{} samples of nothing", samples.len());
}
