//! The parse functions by themselves: JSON bodies, query strings, times, and the replay's order files.

use std::path::Path;
use std::time::Duration;

use doorbuster_http::cli::replay::columns::Columns;
use doorbuster_http::cli::replay::reader::Reader;
use doorbuster_http::cli::replay::sku;
use doorbuster_http::problem::{Code, Problem};
use doorbuster_http::wire::query::{Query, decode};
use doorbuster_http::wire::requests::{
    AdjustmentRequest, BatchRequest, CartRequest, CheckoutRequest, EmptyRequest, ExtendRequest,
    FulfilmentRequest, ImportLine, LinesRequest, LooseBatchRequest, QuantityRequest, RefundRequest,
    ReservationRequest, SkuRequest, StockRequest,
};
use doorbuster_http::wire::{into_engine, json, time};
use doorbuster_mutator::{Fuzz, Reached};

const CASE_MAX: Duration = Duration::from_secs(5);

/// A valid body of every route that reads one.
pub(super) const BODIES: &[&str] = &[
    r#"{"items":[{"sku":"TEE-M","quantity":2},{"sku":"MUG 1","quantity":1}],"ttl_s":60,"partial":true,"customer":"ada"}"#,
    r#"{"requests":[{"key":"a","items":[{"sku":"TEE-M","quantity":1}]},{"key":"b","items":[{"sku":"TEE-M","quantity":1}],"ttl_s":9}]}"#,
    r#"{"extend_s":60}"#,
    r#"{"currency":"GBP","items":[{"sku":"TEE-M","quantity":2,"unit_price":{"amount":5,"currency":"GBP"}}]}"#,
    r#"{"lines":[{"sku":"TEE-M","quantity":2}]}"#,
    r#"{"sku":"TEE-M","quantity":2,"unit_price":{"amount":5,"currency":"GBP"}}"#,
    r#"{"quantity":3}"#,
    r#"{"email":"ada@example.com","payment":{"provider":"fake","method":"ok"},"expected_total":{"amount":1000,"currency":"GBP"},"shipping_address":{"name":"Ada","line1":"1 Row","city":"Hull","country":"GB"}}"#,
    r#"{"amount":{"amount":1,"currency":"GBP"},"lines":[{"line_id":"1","quantity":1}],"restock":true,"reason":"late"}"#,
    r#"{"lines":[{"line_id":"1","quantity":1}],"tracking":"T1"}"#,
    r#"{"name":"A","price":{"amount":1,"currency":"EUR"},"on_hand":5,"oversell":{"policy":"allow","limit":3},"reservation_ttl_s":60,"low_stock_at":2}"#,
    r#"{"sku":"TEE-M","name":"A","price":{"amount":1,"currency":"EUR"},"on_hand":5}"#,
    r#"{"delta":-3,"reason":"count","reference":"PO-7"}"#,
    r#"{"on_hand":7,"reason":"count"}"#,
    "{}",
];

/// Bodies a step away from a refusal that chance alone seldom meets.
const NEARLY: &[&str] = &[
    r#"{"items":[]}"#,
    r#"{"items":[{"sku":"TEE-M","quantity":1}],"customer":"a\tb"}"#,
    r#"{"lines":[],"sku":"TEE-M","quantity":1}"#,
    r#"{"lines":[{"line_id":"1","quantity":1},{"line_id":"1","quantity":1}]}"#,
    r#"{"name":"A","price":{"amount":1,"currency":"EUR"},"oversell":{"policy":"deny","limit":3}}"#,
    r#"{"email":"ada","payment":{"provider":"gold","method":""}}"#,
];

/// Counts what became of a body.
fn note<T>(reached: &mut Reached, result: &Result<T, Problem>) {
    match result {
        Ok(_) => reached.note("accepted"),
        Err(problem) => {
            let told: serde_json::Value = serde_json::from_slice(&problem.body("r", None)).unwrap();
            assert!(matches!(problem.code(), Code::Malformed | Code::ValidationFailed), "{told}");
            match told["errors"][0]["code"].as_str() {
                Some(code) => reached.note(code),
                None => reached.note(problem.code().wire()),
            }
        }
    }
}

#[test]
fn a_damaged_body_is_a_problem_or_reads_back_as_it_prints() {
    let fuzz = Fuzz {
        name: "bodies",
        part: 0.15,
        case_max: CASE_MAX,
        wanted: &[
            "accepted",
            "malformed",
            "required",
            "unknown_field",
            "duplicate_field",
            "unknown_value",
            "out_of_range",
            "wrong_type",
            "too_few",
            "not_a_sku",
            "wrong_length",
            "wrong_character",
            "not_an_email",
            "not_a_line",
            "not_beside_sku",
            "not_with_deny",
            "duplicate_line",
        ],
    };
    let providers = ["fake".to_owned()];
    let samples = [BODIES, NEARLY].concat();
    fuzz.run(|mutator, reached| {
        let body = mutator.damaged(&samples);
        let reservation = json::parse::<ReservationRequest<'_>>(&body);
        if let Ok(request) = &reservation {
            let printed = into_engine::canonical(request);
            let again = json::parse::<ReservationRequest<'_>>(&printed).expect("what is printed can be read");
            assert_eq!(into_engine::canonical(&again), printed);
        }
        note(reached, &reservation.and_then(|request| into_engine::reservation(&request)));
        note(reached, &json::parse::<BatchRequest<'_>>(&body));
        if let Ok(loose) = json::read::<LooseBatchRequest>(&body) {
            // The same items, whichever way the batch is read.
            for text in &loose.requests {
                assert!(json::read::<serde_json::Value>(&text.0).is_ok(), "an item's text is JSON");
            }
        }
        note(reached, &json::parse::<EmptyRequest>(&body));
        let extend = json::parse::<ExtendRequest>(&body);
        note(reached, &extend.and_then(|request| into_engine::extend_ms(request.extend_s)));
        let cart = json::parse::<CartRequest>(&body);
        note(
            reached,
            &cart.and_then(|request| into_engine::cart_lines("/items", &request.items.unwrap_or_default())),
        );
        note(reached, &json::parse::<LinesRequest>(&body).and_then(into_engine::added_lines));
        let quantity = json::parse::<QuantityRequest>(&body);
        note(reached, &quantity.and_then(|request| into_engine::quantity(request.quantity)));
        let checkout = json::parse::<CheckoutRequest>(&body);
        note(reached, &checkout.and_then(|request| into_engine::checkout(request, &providers, None)));
        note(reached, &json::parse::<RefundRequest>(&body).and_then(into_engine::refund));
        note(reached, &json::parse::<FulfilmentRequest>(&body).and_then(into_engine::fulfilment));
        note(reached, &json::parse::<SkuRequest>(&body).and_then(into_engine::definition));
        note(reached, &json::parse::<ImportLine>(&body));
        note(reached, &json::parse::<AdjustmentRequest>(&body).and_then(into_engine::adjustment));
        note(reached, &json::parse::<StockRequest>(&body).and_then(into_engine::counted_stock));
    });
}

/// A query's parameters, written with nothing left plain but letters and digits.
fn encoded(text: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}

#[test]
fn a_damaged_query_is_a_problem_or_reads_back_as_it_prints() {
    const KNOWN: [&str; 5] = ["sku", "limit", "in_stock", "since", "starting_after"];
    let samples = [
        "sku=TEE-M&sku=MUG%201&sku=A+B",
        "limit=20&starting_after=TEE-M",
        "in_stock=true",
        "since=2026-11-27T09:00:00.125Z&limit=1",
    ];
    let fuzz = Fuzz {
        name: "queries",
        part: 0.05,
        case_max: CASE_MAX,
        wanted: &["accepted", "malformed", "unknown_field", "duplicate_field", "out_of_range", "wrong_type"],
    };
    fuzz.run(|mutator, reached| {
        let bytes = mutator.damaged(&samples);
        let text = String::from_utf8_lossy(&bytes);
        let query = match Query::parse(&text, &KNOWN) {
            Ok(query) => query,
            Err(problem) => return note(reached, &Err::<(), _>(problem)),
        };
        let printed: Vec<String> = KNOWN
            .iter()
            .flat_map(|name| query.all(name).map(move |value| format!("{name}={}", encoded(value))))
            .collect();
        let again = Query::parse(&printed.join("&"), &KNOWN).unwrap();
        for name in KNOWN {
            assert!(query.all(name).eq(again.all(name)), "{text:?}");
        }
        note(reached, &query.limit());
        note(reached, &query.boolean("in_stock"));
        let since = query.time("since");
        if let Ok(Some(at)) = since {
            assert_eq!(time::parse(&time::text(at)), Some(at), "{text:?}");
        }
        note(reached, &since);
        if let Some(plain) = decode(&text, false) {
            assert_eq!(decode(&encoded(&plain), false), Some(plain));
        }
    });
}

#[test]
fn a_damaged_order_file_counts_every_line_once_and_prints_as_it_was_read() {
    let samples: [&[u8]; 2] = [
        b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n\
          536365,85123A,\"WHITE \"\"HEART\"\", HOLDER\",6,12/1/2010 8:26,2.55,17850,United Kingdom\n\
          536365,22423,,1,,1.005,,\n\
          C536379,D,Voucher \xa340,-1,2010-12-01T09:41:00,27.5,,France\n",
        b"Invoice,StockCode,Quantity,InvoiceDate,Price,Customer ID\r\n1,A b,1,2010-12-01 08:26:00+01:00,.5,\r\n2,B,1000000001,2010-12-01,1,\r\n2,B,1,2010-12-01,99999999999,\r\n1,caf\xc3\xa9,2.0,12/1/10 8:26 PM,19,7\r\n",
    ];
    let fuzz = Fuzz {
        name: "order files",
        part: 0.1,
        case_max: CASE_MAX,
        wanted: &[
            "line",
            "no column",
            "no stock code",
            "stock code longer than a SKU may be",
            "quantity is no whole number",
            "quantity beyond what the engine takes",
            "price is no amount",
            "price beyond what the engine takes",
            "date in no known form",
            "no date",
        ],
    };
    fuzz.run(|mutator, reached| {
        let file = mutator.damaged(&samples);
        let columns = Columns::online_retail();
        let Ok(mut reader) = Reader::new(Path::new("damaged.csv"), file.as_slice(), &columns, 2) else {
            return reached.note("no column");
        };
        let mut numbers = Vec::new();
        let mut printed = b"Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID\n".to_vec();
        let mut lines = Vec::new();
        while let Some((_, invoice)) = reader.next_invoice().expect("memory can be read") {
            for bad in &invoice.bad {
                numbers.push(bad.number);
                reached.note(bad.reason);
            }
            for line in invoice.lines {
                numbers.push(line.number);
                reached.note("line");
                assert_eq!(sku::decoded(&line.sku).as_deref(), Some(line.code.as_str()));
                let at = time::text(doorbuster_engine::identity::Timestamp(
                    u64::try_from(line.at_s).unwrap_or(0) * 1_000,
                ));
                if line.at_s >= 0 && line.at_s < 253_402_300_800 {
                    let price = format!(
                        "{}{}.{:02}",
                        if line.price < 0 { "-" } else { "" },
                        line.price.abs() / 100,
                        line.price.abs() % 100
                    );
                    let quantity = line.quantity.to_string();
                    let number = invoice.number.clone();
                    let fields =
                        [&number, &line.code, &line.description, &quantity, &at, &price, &line.customer];
                    write_csv(&mut printed, &fields);
                    lines.push(line);
                }
            }
        }
        numbers.sort_unstable();
        let count = u64::try_from(numbers.len()).unwrap();
        assert!(numbers.into_iter().eq(1..=count), "every line once");
        let mut reader = Reader::new(Path::new("printed.csv"), printed.as_slice(), &columns, 2).unwrap();
        let mut again = Vec::new();
        while let Some((_, invoice)) = reader.next_invoice().unwrap() {
            assert_eq!(invoice.bad, [], "{}", String::from_utf8_lossy(&printed));
            again.extend(invoice.lines);
        }
        let told = |line: &doorbuster_http::cli::replay::reader::Line| {
            (line.code.clone(), line.description.clone(), line.quantity, line.at_s, line.price)
        };
        assert!(lines.iter().map(told).eq(again.iter().map(told)), "{}", String::from_utf8_lossy(&printed));
    });
}

/// One record, each field in quotes.
fn write_csv(out: &mut Vec<u8>, fields: &[&String]) {
    let quoted: Vec<String> =
        fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
    out.extend_from_slice(quoted.join(",").as_bytes());
    out.push(b'\n');
}
