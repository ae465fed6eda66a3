//! The description of the surface: a golden file, and agreement with what the router does.

use std::path::Path;

use super::harness::{Shop, get};

/// `DOORBUSTER_UPDATE_GOLDEN=1 cargo test` writes it anew; the diff is reviewed like code.
#[test]
fn the_description_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let text = doorbuster_http::openapi::text();
    if std::env::var_os("DOORBUSTER_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "the surface changed: review it, then DOORBUSTER_UPDATE_GOLDEN=1 writes http/openapi.json"
    );
}

/// A path of the description with something in each of its places.
fn concrete(path: &str) -> String {
    path.replace("{id}", "nothing")
        .replace("{sku}", "NOTHING")
        .replace("{line_id}", "1")
        .replace("{kind}", "sku")
        .replace("{key}", "NOTHING")
        .replace("{code}", "not-found")
}

#[test]
fn the_router_answers_to_every_described_call() {
    let shop = Shop::open();
    let document = shop.expect(get("/openapi.json"), 200);
    let mut calls = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            let request = match method.as_str() {
                "get" => get(&concrete(path)),
                "post" => super::harness::post(&concrete(path)),
                "put" => super::harness::put(&concrete(path)),
                "patch" => super::harness::patch(&concrete(path)),
                "delete" => super::harness::delete(&concrete(path)),
                other => panic!("{other}"),
            };
            let answer = shop.send(request.admin().fresh_key());
            assert_ne!(answer.status, 405, "{method} {path}");
            let described = call["responses"].as_object().unwrap();
            assert!(
                described.contains_key(&answer.status.to_string()),
                "{method} {path}: {} is not described",
                answer.status
            );
            let detail = answer.text();
            assert!(!detail.contains("nothing is at this path"), "{method} {path}");
            calls += 1;
        }
    }
    assert!(calls > 35, "{calls}");
}
