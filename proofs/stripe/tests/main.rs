//! What the stand-in promises, asked over bare HTTP as any client would. Time is advanced, never slept.
// Helpers of tests are not `#[test]` functions, so the lint takes them for production code.
#![allow(clippy::unwrap_used)]

mod client;
mod faults;
mod intents;
mod keys;
mod lists;
mod refunds;
mod webhooks;

use std::io::Read as _;

use client::Client;
use doorbuster_stripe::Stripe;

#[test]
fn a_request_without_the_key_is_refused_as_stripe_does() {
    let stripe = Stripe::start().unwrap();
    let basic_of_the_key = "Basic c2tfdGVzdF9zdGFuZF9pbjo="; // sk_test_stand_in:
    let rows = [
        (None, 401, "You did not provide an API key"),
        (Some("Bearer sk_test_other"), 401, "Invalid API Key provided: sk_test_****"),
        (Some("Bearer "), 401, "You did not provide an API key"),
        (Some("Basic !"), 401, "You did not provide an API key"),
        (Some("Bearer sk_test_stand_in"), 200, ""),
        (Some(basic_of_the_key), 200, ""),
    ];
    for (authorization, status, said) in rows {
        let client = Client { authorization: authorization.map(str::to_owned), ..Client::of(&stripe) };
        let answer = client.get("/v1/payment_intents");
        assert_eq!(answer.status, status, "{authorization:?}");
        if status == 401 {
            assert_eq!(answer.body["error"]["type"], "invalid_request_error");
            let message = answer.body["error"]["message"].as_str().unwrap();
            assert!(message.starts_with(said), "{authorization:?}: {message}");
        }
    }
}

#[test]
fn every_answer_names_its_request_and_the_version() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let (first, second) = (client.get("/v1/events"), client.get("/v1/nothing"));
    assert_eq!(second.status, 404);
    assert!(first.header("request-id").unwrap().starts_with("req_"));
    assert_ne!(first.header("request-id"), second.header("request-id"));
    assert_eq!(first.header("stripe-version"), Some("2026-09-30.endive"));
}

#[test]
fn the_same_seed_gives_the_same_ids() {
    let intents = [7, 7, 8].map(|seed| {
        let options = doorbuster_stripe::Options { seed: Some(seed), ..Default::default() };
        let stripe = Stripe::start_with(&options).unwrap();
        assert_eq!(stripe.seed(), seed);
        let intent = Client::of(&stripe).pay("pm_card_visa", 1_000);
        (intent["id"].clone(), intent["client_secret"].clone(), intent["latest_charge"].clone())
    });
    assert_eq!(intents[0], intents[1]);
    assert_ne!(intents[0], intents[2]);
}

#[test]
fn a_key_for_live_mode_makes_everything_live() {
    for (key, live) in [("sk_test_x", false), ("sk_live_x", true)] {
        let options = doorbuster_stripe::Options { key: key.to_owned(), ..Default::default() };
        let stripe = Stripe::start_with(&options).unwrap();
        assert_eq!(Client::of(&stripe).pay("pm_card_visa", 1_000)["livemode"], live, "{key}");
    }
}

#[test]
fn the_program_starts_says_where_and_answers() {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_stripe-stand-in"))
        .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--seed", "5"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut byte) = (vec![], [0]);
    let mut stderr = program.stderr.take().unwrap();
    while stderr.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        said.push(byte[0]);
    }
    let said = String::from_utf8(said).unwrap();
    let address = said.split("http://").nth(1).and_then(|rest| rest.split(',').next()).map(str::parse);
    let answer = address.map(|address| {
        let client = Client { address: address.unwrap(), authorization: None };
        client.get("/_stand-in")
    });
    program.kill().unwrap();
    program.wait().unwrap();
    let answer = answer.unwrap();
    assert!(said.ends_with("seed 5"), "{said}");
    assert_eq!((answer.status, &answer.body["seed"]), (200, &serde_json::json!(5)));
}
