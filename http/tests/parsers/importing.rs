//! The import under damage: every line of the file is counted once, a damaged line spares its neighbours, and what was
//! accepted is what stock shows.

use std::time::Duration;

use doorbuster_mutator::{Fuzz, Mutator};
use serde_json::{Value, json};

use crate::api::harness::{Answer, Shop, get, post};

const LINES: usize = 4;

/// A file of fresh SKUs, its lines apart; the header of a CSV is not among them.
fn file(csv: bool, run: u64) -> Vec<(String, i64, String)> {
    (0..LINES)
        .map(|line| {
            let sku = format!("S{run}-{line}");
            let units = i64::try_from(line).unwrap() * 7 + 1;
            let text = if csv {
                format!("{sku},\"The, {line}\",199,GBP,{units},2,allow,3,60")
            } else {
                json!({"sku": sku, "name": "N", "price": {"amount": 199, "currency": "GBP"}, "on_hand": units}).to_string()
            };
            (sku, units, text)
        })
        .collect()
}

/// Damage that stays within its line: a quote of CSV could swallow the neighbours, rightly.
fn damaged_line(mutator: &mut Mutator, text: &str, csv: bool) -> Vec<u8> {
    let samples = [text.as_bytes()];
    let mut line = mutator.damaged(&samples);
    line.retain(|byte| *byte != b'\n' && !(csv && *byte == b'"'));
    line
}

/// What a line says by itself, read by other code than the engine's: SKU and units.
fn said(line: &[u8], csv: bool) -> Option<(String, i64)> {
    if csv {
        let text = std::str::from_utf8(line).ok()?;
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        // Without quotes the name's comma makes one field more.
        return Some((fields.first()?.trim().to_owned(), fields.get(4)?.parse().unwrap_or(0)));
    }
    let value: Value = serde_json::from_slice(line).ok()?;
    Some((value["sku"].as_str()?.to_owned(), value["on_hand"].as_i64().unwrap_or(0)))
}

#[test]
fn what_an_import_accepts_is_what_stock_shows_and_a_bad_line_spares_its_neighbours() {
    let shop = Shop::open();
    let fuzz = Fuzz {
        name: "imports",
        part: 0.2,
        case_max: Duration::from_secs(20),
        wanted: &["created", "malformed", "validation_failed", "too_large", "csv", "ndjson"],
    };
    let mut run = 0;
    fuzz.run(|mutator, reached| {
        run += 1;
        let csv = mutator.once_in(2);
        reached.note(if csv { "csv" } else { "ndjson" });
        let file = file(csv, run);
        let bad = mutator.below(LINES);
        let mut damaged = damaged_line(mutator, &file[bad].2, csv);
        if mutator.once_in(50) {
            damaged.resize(70_000, b'x');
        }
        let mut body = Vec::new();
        if csv {
            body.extend_from_slice(
                b"sku,name,amount,currency,on_hand,low_stock_at,oversell_policy,oversell_limit,reservation_ttl_s\r\n",
            );
        }
        for (line, (_, _, text)) in file.iter().enumerate() {
            body.extend_from_slice(if line == bad { &damaged } else { text.as_bytes() });
            body.extend_from_slice(if mutator.once_in(2) { b"\r\n" } else { b"\n" });
        }
        let kind = if csv { "text/csv" } else { "application/x-ndjson" };
        let answer: Answer = shop.send(post("/v1/admin/import/skus").admin().body(kind, &body));
        assert_eq!(answer.status, 200, "{}: {}", String::from_utf8_lossy(&damaged), answer.text());
        let report = answer.json();
        let count = |name: &str| report[name].as_u64().unwrap();
        // A byte order mark is one at the very start of the file alone: behind a space it is a line nobody can read.
        let blank = damaged.trim_ascii().is_empty()
            || (bad == 0 && !csv && damaged.trim_ascii_end() == b"\xef\xbb\xbf");
        let sent = LINES as u64 - u64::from(blank);
        let told = String::from_utf8_lossy(&damaged).into_owned();
        assert_eq!(count("created") + count("updated") + count("rejected_total"), sent, "{told}: {report}");
        for row in report["rejected"].as_array().unwrap() {
            let number = row["line"].as_u64().unwrap();
            assert_eq!(number, (bad + 1 + usize::from(csv)) as u64, "{told}: {report}");
            reached.note(row["code"].as_str().unwrap());
        }
        let accepted = count("rejected_total") == 0 && !blank;
        let said = if accepted { said(&damaged, csv) } else { None };
        for (line, (sku, units, _)) in file.iter().enumerate() {
            let overruled = said.as_ref().is_some_and(|(other, _)| other == sku);
            if line != bad && !overruled {
                assert_eq!(shop.stock_of(sku)["on_hand"], *units, "{told}: {report}");
                reached.note("created");
            }
        }
        if let Some((sku, units)) = said
            && !file.iter().enumerate().any(|(line, (other, _, _))| line != bad && *other == sku)
            && count("created") == sent
            && !csv
        {
            let path = format!("/v1/admin/skus/{}/stock", sku.replace(' ', "%20"));
            let stock = shop.expect(get(&path).admin(), 200);
            assert_eq!(stock["on_hand"], units, "{told}: {report}");
        }
    });
}
