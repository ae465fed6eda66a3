//! A snapshot as lines of text. Pure: the same snapshot in the same size gives the same lines.
//!
//! Names of SKUs, reasons and keys are other people's words, so nothing of them but plain characters reaches a terminal.

use std::time::Duration;

use doorbuster_engine::money;
use serde_json::Value;

use super::super::replay::report::grouped;
use crate::wire::Money;

/// Width of a sell-through bar.
const BAR: usize = 24;

/// Rows of lists where there is room for more.
const SKUS_MAX: usize = 12;
const ACTORS_MAX: usize = 10;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn count(value: &Value) -> String {
    grouped(
        value
            .as_u64()
            .unwrap_or_else(|| value.as_i64().map_or(0, |number| u64::try_from(number).unwrap_or(0))),
    )
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("–")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn rate(value: &Value) -> String {
    let value = number(value);
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn micros(value: &Value) -> String {
    match value.as_f64() {
        None => "–".to_owned(),
        Some(us) if us < 1e3 => format!("{us:.0} µs"),
        Some(us) if us < 1e5 => format!("{:.1} ms", us / 1e3),
        Some(us) if us < 1e6 => format!("{:.0} ms", us / 1e3),
        Some(us) => format!("{:.2} s", us / 1e6),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}

fn bytes(value: &Value) -> String {
    match number(value) {
        b if b < 1024.0 => format!("{b:.0} B"),
        b if b < 1_048_576.0 => format!("{:.1} KiB", b / 1024.0),
        b if b < 1_073_741_824.0 => format!("{:.1} MiB", b / 1_048_576.0),
        b => format!("{:.1} GiB", b / 1_073_741_824.0),
    }
}

fn revenue(sale: &Value) -> String {
    let each = list(&sale["revenue"]).filter_map(|value| {
        let amount: Money = serde_json::from_value(value.clone()).ok()?;
        Some(money::Money::from(amount).to_string())
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "none yet".to_owned() } else { each.join(", ") }
}

fn clock(at: &Value) -> &str {
    words(at).get(11..19).unwrap_or("–")
}

fn laws(snapshot: &Value) -> String {
    let broken: Vec<String> = list(&snapshot["laws"]["checks"])
        .filter(|check| check["ok"] != true)
        .map(|check| format!("LAW {} BROKEN: {}", check["law"], words(&check["found"])))
        .collect();
    if broken.is_empty() { "laws ok".to_owned() } else { broken.join("; ") }
}

fn reserve(snapshot: &Value) -> &Value {
    list(&snapshot["traffic"]["calls"]).find(|call| call["call"] == "reserve").unwrap_or(&Value::Null)
}

/// Cut or filled to exactly this width, without anything that a terminal would obey.
fn fit(text: &str, width: usize) -> String {
    let mut fitted: String = plain(text).chars().take(width).collect();
    fitted.extend(std::iter::repeat_n(' ', width.saturating_sub(fitted.chars().count())));
    fitted
}

fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// One snapshot in one line.
pub(super) fn line(snapshot: &Value) -> String {
    let (sale, traffic) = (&snapshot["sale"], &snapshot["traffic"]);
    plain(&format!(
        "{} orders/s {} placed {} requests/s {} reserve p99 {} turned away {} % sync p99 {} {}",
        clock(&snapshot["at"]),
        rate(&sale["orders_per_s"]["mean"]),
        count(&sale["orders_placed"]),
        rate(&traffic["requests_per_s"]["mean"]),
        micros(&reserve(snapshot)["p99_us"]),
        number(&traffic["shed_percent"]),
        micros(&snapshot["journal"]["sync_p99_us"]),
        laws(snapshot),
    ))
}

/// A snapshot as a board of this size. `trouble` is why there is no newer one, and how old this one is.
pub(super) fn board(
    snapshot: &Value,
    trouble: Option<(&str, Duration)>,
    columns: usize,
    rows: usize,
) -> Vec<String> {
    let engine = &snapshot["engine"];
    let head = match trouble {
        Some((trouble, age)) => format!(" STALE, {} old: {trouble}", seconds(age.as_secs_f64())),
        None => format!(
            " Doorbuster {}  {} durability  {}  {}  {}",
            words(&engine["version"]),
            words(&engine["durability"]),
            words(&engine["readiness"]),
            clock(&snapshot["at"]),
            laws(snapshot),
        ),
    };
    let mut lines = vec![head];
    lines.extend(figures(snapshot));
    // News take what is left, a few lines at least; lists are cut before they leave no room for them.
    let tail = tail(snapshot);
    let room = rows.saturating_sub(lines.len() + tail.len() + 8);
    let actors = list(&snapshot["actors"]["data"]).count().min(ACTORS_MAX).min(room / 2);
    let skus = list(&snapshot["skus"]["data"]).count().min(SKUS_MAX).min(room - actors);
    lines.extend(sell_through(snapshot, skus));
    lines.extend(hot_actors(snapshot, actors));
    lines.extend(tail);
    let left = rows.saturating_sub(lines.len() + 1);
    if left > 0 {
        lines.push("NEWS".to_owned());
        lines.extend(list(&snapshot["events"]).take(left).map(news));
    }
    let mut fitted: Vec<String> = lines.iter().take(rows).map(|line| fit(line, columns)).collect();
    for line in fitted.iter_mut().skip(1) {
        line.truncate(line.trim_end().len());
    }
    fitted
}

fn figures(snapshot: &Value) -> Vec<String> {
    let (sale, traffic) = (&snapshot["sale"], &snapshot["traffic"]);
    let call = reserve(snapshot);
    let refusals: Vec<String> = list(&traffic["refusals"])
        .take(4)
        .map(|refusal| format!("{} {}", words(&refusal["code"]), rate(&refusal["per_s"])))
        .collect();
    let refusals = if refusals.is_empty() { "none".to_owned() } else { refusals.join("  ") };
    vec![
        format!(
            "orders/s {:>9}   placed {:>11}   revenue {}",
            rate(&sale["orders_per_s"]["mean"]),
            count(&sale["orders_placed"]),
            revenue(sale)
        ),
        format!(
            "requests/s {:>7}   in flight {:>8}   turned away {} %",
            rate(&traffic["requests_per_s"]["mean"]),
            count(&traffic["in_flight"]),
            number(&traffic["shed_percent"])
        ),
        format!(
            "reserve/s {:>8}   p50 {:>14}   p99 {}   longest {}",
            rate(&call["per_s"]),
            micros(&call["p50_us"]),
            micros(&call["p99_us"]),
            micros(&call["max_us"])
        ),
        format!("refused/s {refusals}"),
        String::new(),
    ]
}

fn bar(sku: &Value) -> String {
    let all = number(&sku["received"]).max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a bar of 24"
    )]
    let part = |units: &Value| (number(units).max(0.0) / all * BAR as f64).round() as usize;
    let sold = part(&sku["sold"]).min(BAR);
    let held = part(&sku["reserved"]).min(BAR - sold);
    format!("[{}{}{}]", "#".repeat(sold), "=".repeat(held), ".".repeat(BAR - sold - held))
}

fn sell_through(snapshot: &Value, rows: usize) -> Vec<String> {
    if rows == 0 {
        return Vec::new();
    }
    let mut lines =
        vec![format!("{} {:>9} {:>8} {:>9}  # sold = held . left", fit("SKU", 22), "sold", "held", "left")];
    lines.extend(list(&snapshot["skus"]["data"]).take(rows).map(|sku| {
        let end = match (&sku["sold_out_in_s"], number(&sku["sellable"]) <= 0.0) {
            (_, true) => "sold out".to_owned(),
            (Value::Null, false) => String::new(),
            (left, false) => format!("gone in {}", seconds(number(left))),
        };
        format!(
            "{} {:>9} {:>8} {:>9}  {} {end}",
            fit(words(&sku["sku"]), 22),
            count(&sku["sold"]),
            count(&sku["reserved"]),
            count(&sku["sellable"]),
            bar(sku)
        )
    }));
    lines.push(String::new());
    lines
}

fn hot_actors(snapshot: &Value, rows: usize) -> Vec<String> {
    if rows == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "{} {:>9} {:>8} {:>9} {:>9}",
        fit("ACTOR", 46),
        "messages/s",
        "waiting",
        "wait p99",
        "turn p99"
    )];
    lines.extend(list(&snapshot["actors"]["data"]).take(rows).map(|actor| {
        let name = format!("{} {}", words(&actor["kind"]), words(&actor["key"]));
        format!(
            "{} {:>10} {:>8} {:>9} {:>9}",
            fit(&name, 46),
            rate(&actor["rate"]),
            count(&actor["queue_depth"]),
            micros(&actor["wait_us"]["p99"]),
            micros(&actor["service_us"]["p99"])
        )
    }));
    lines.push(String::new());
    lines
}

fn tail(snapshot: &Value) -> Vec<String> {
    let journal = &snapshot["journal"];
    let followers: Vec<String> = list(&snapshot["followers"])
        .map(|follower| {
            let name = words(&follower["name"]);
            match follower["lag_s"].as_f64() {
                None => format!("{name} not configured"),
                Some(lag) if lag > 0.0 => format!("{name} {} behind", seconds(lag)),
                Some(_) => format!("{name} up to date"),
            }
        })
        .collect();
    let payments: Vec<String> = list(&snapshot["payments"])
        .map(|provider| {
            let stands = if provider["up"] == true { "answers" } else { "DOES NOT ANSWER" };
            let waiting = if number(&provider["waiting"]) > 0.0 {
                format!(
                    ", {} wait, drained in {}",
                    count(&provider["waiting"]),
                    seconds(number(&provider["drain_ms"]) / 1e3)
                )
            } else {
                String::new()
            };
            format!("{} {stands}{waiting}", words(&provider["name"]))
        })
        .collect();
    vec![
        format!(
            "JOURNAL   {} events/s   sync p50 {}  p99 {}   {} batches wait   room {}",
            rate(&journal["events_per_s"]["mean"]),
            micros(&journal["sync_p50_us"]),
            micros(&journal["sync_p99_us"]),
            count(&journal["queue_batches"]),
            bytes(&journal["claimable_bytes"])
        ),
        format!("FOLLOWERS {}", followers.join("   ")),
        format!(
            "PAYMENTS  {}",
            if payments.is_empty() { "none configured".to_owned() } else { payments.join("   ") }
        ),
        String::new(),
    ]
}

fn news(event: &Value) -> String {
    let level = match words(&event["level"]) {
        "info" => String::new(),
        level => format!("{}: ", level.to_uppercase()),
    };
    let actor = event["actor"]["key"].as_str().map(|key| format!("  {key}")).unwrap_or_default();
    format!("{}  {level}{}{actor}", clock(&event["at"]), words(&event["text"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot() -> Value {
        json!({
            "at": "2026-11-27T09:00:01.250Z",
            "engine": {"version": "0.1.0", "durability": "local", "readiness": "ready"},
            "sale": {"orders_per_s": {"now": 15.0, "mean": 14.25}, "orders_placed": 1284,
                     "revenue": [{"amount": 256_672, "currency": "GBP"}, {"amount": 1999, "currency": "JPY"}]},
            "traffic": {"requests_per_s": {"mean": 1602.4}, "in_flight": 21, "shed_percent": 0.4,
                        "calls": [{"call": "reserve", "per_s": 78.0, "p50_us": 900, "p99_us": 12_345, "max_us": 1_850_000}],
                        "refusals": [{"code": "insufficient_stock", "per_s": 12.5}]},
            "skus": {"data": [{"sku": "TEE-M", "received": 100, "sold": 50, "reserved": 25, "sellable": 25, "sold_out_in_s": 45},
                              {"sku": "MUG\u{1b}[2J", "received": 10, "sold": 10, "reserved": 0, "sellable": 0, "sold_out_in_s": null}]},
            "actors": {"data": [{"kind": "sku", "key": "TEE-M", "rate": 175.0, "queue_depth": 10,
                                 "wait_us": {"p99": 262_144}, "service_us": {"p99": 4_096}}]},
            "journal": {"events_per_s": {"mean": 268.0}, "sync_p50_us": 4_680, "sync_p99_us": null, "queue_batches": 2, "claimable_bytes": 49_700_000},
            "followers": [{"name": "projection", "lag_s": 12.0}, {"name": "rescue", "lag_s": null}, {"name": "announcements", "lag_s": 0.0}],
            "payments": [{"name": "stripe", "up": false, "waiting": 40, "drain_ms": 8_000}],
            "laws": {"ok": true, "checks": [{"law": 1, "ok": true}]},
            "events": [{"at": "2026-11-27T09:00:00.000Z", "level": "alarm", "text": "an actor panicked"},
                       {"at": "2026-11-27T08:59:59.000Z", "level": "info", "text": "order placed", "actor": {"kind": "order", "key": "ord_1"}}],
        })
    }

    #[test]
    fn the_board_shows_each_part() {
        let text = board(&snapshot(), None, 110, 60).join("\n");
        for part in [
            "laws ok",
            "09:00:01",
            "14.2",
            "1,284",
            "2566.72 GBP, 1999 JPY",
            "1602",
            "turned away 0.4 %",
            "12.3 ms",
            "1.85 s",
            "insufficient_stock 12.5",
            "[############======......] gone in 45 s",
            "sold out",
            "sku TEE-M",
            "262 ms",
            "sync p50 4.7 ms  p99 –",
            "47.4 MiB",
            "projection 12 s behind",
            "rescue not configured",
            "announcements up to date",
            "stripe DOES NOT ANSWER, 40 wait, drained in 8 s",
            "ALARM: an actor panicked",
            "order placed  ord_1",
        ] {
            assert!(text.contains(part), "`{part}` is missing:\n{text}");
        }
    }

    #[test]
    fn it_fits_whatever_the_terminal() {
        for (columns, rows) in [(20, 4), (40, 12), (80, 24), (200, 100)] {
            let lines = board(&snapshot(), None, columns, rows);
            assert!(lines.len() <= rows, "{columns} x {rows}: {} lines", lines.len());
            assert!(
                lines.iter().all(|line| line.chars().count() <= columns),
                "{columns} x {rows}: {lines:#?}"
            );
        }
    }

    #[test]
    fn nothing_that_others_named_is_obeyed_by_a_terminal() {
        for text in [board(&snapshot(), None, 110, 60).join(""), line(&snapshot())] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        assert!(board(&snapshot(), None, 110, 60).join("\n").contains("MUG?[2J"));
    }

    #[test]
    fn bad_news_stand_in_the_first_line() {
        let mut broken = snapshot();
        broken["laws"]["checks"][0] = json!({"law": 1, "ok": false, "found": "TEE-M: sellable is -1"});
        assert!(board(&broken, None, 110, 40)[0].contains("LAW 1 BROKEN: TEE-M"));
        assert!(line(&broken).contains("LAW 1 BROKEN"));
        let stale = board(&snapshot(), Some(("no answer", Duration::from_secs(7))), 110, 40);
        assert!(stale[0].contains("STALE, 7 s old: no answer"), "{}", stale[0]);
    }

    #[test]
    fn an_empty_answer_is_a_board_without_figures() {
        let lines = board(&json!({}), None, 80, 24);
        assert!(lines.iter().any(|line| line.contains("none configured")), "{lines:#?}");
    }
}
