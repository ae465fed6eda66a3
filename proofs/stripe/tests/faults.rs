//! Bad days on request: each does what it says, and nothing when it is over.

use std::net::TcpStream;

use doorbuster_stripe::{Faults, Options, Outage, Stripe};

use crate::client::{Answer, Client, payment, receive};

const INTENTS: &str = "/v1/payment_intents";

/// A faulty stand-in's answer to a payment under the key `k`, then a well one's to the same.
fn before_and_after(faults: Faults) -> (Option<Answer>, Answer, Stripe) {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    stripe.set_faults(faults);
    let form = payment("pm_card_visa", 1_000);
    let first = client.ask("POST", INTENTS, Some("k"), &form);
    stripe.set_faults(Faults::default());
    let well = client.post_with_key(INTENTS, "k", &form);
    (first, well, stripe)
}

#[test]
fn a_lost_reply_did_the_work_once_and_the_key_tells() {
    let (lost, told, stripe) = before_and_after(Faults { lost_reply_rate: 1.0, ..Faults::default() });
    assert!(lost.is_none(), "the connection ended without an answer");
    assert_eq!((told.status, told.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(stripe.ledger().charges.len(), 1);
    assert_eq!(stripe.figures().replies_lost, 1);
}

#[test]
fn a_503_began_nothing_and_leaves_the_key_free() {
    let (refused, told, stripe) = before_and_after(Faults { unavailable_rate: 1.0, ..Faults::default() });
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.error().0), (503, "api_error"));
    assert_eq!((told.status, told.header("idempotent-replayed")), (200, None));
    assert_eq!(stripe.ledger().charges.len(), 1);
}

#[test]
fn a_500_is_kept_and_may_have_done_the_work() {
    let rows = [
        (Faults { failed_before_rate: 1.0, ..Faults::default() }, 0),
        (Faults { failed_after_rate: 1.0, ..Faults::default() }, 1),
    ];
    for (faults, charges) in rows {
        let (failed, again, stripe) = before_and_after(faults.clone());
        let failed = failed.unwrap();
        assert_eq!((failed.status, failed.error().0), (500, "api_error"), "{faults:?}");
        assert_eq!((again.status, &again.text), (500, &failed.text), "{faults:?}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{faults:?}");
        assert_eq!(stripe.ledger().charges.len(), charges, "{faults:?}");
    }
}

#[test]
fn the_rate_limit_counts_the_requests_of_a_second() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    stripe.set_faults(Faults { rate_limit_per_s: Some(25), ..Faults::default() });
    let statuses =
        |count: usize| -> Vec<u16> { (0..count).map(|_| client.get("/v1/refunds").status).collect() };
    assert_eq!(statuses(25), [200; 25]);
    assert_eq!(statuses(3), [429; 3]);
    assert_eq!(client.get("/v1/refunds").error(), ("invalid_request_error", "rate_limit", ""));
    stripe.advance(999);
    assert_eq!(statuses(1), [429]);
    stripe.advance(1);
    assert_eq!(statuses(26)[24..], [200, 429]);
    let refused = client.post_with_key(INTENTS, "k", &payment("pm_card_visa", 1_000));
    stripe.advance(1_000);
    let told = client.post_with_key(INTENTS, "k", &payment("pm_card_visa", 1_000));
    assert_eq!((refused.status, told.status), (429, 200), "a key keeps no 429");
}

#[test]
fn a_delay_is_over_when_its_time_has_come() {
    // whether the delay comes before the work, and charges while it lasts
    for (before_work, charges) in [(false, 1), (true, 0)] {
        let stripe = Stripe::start().unwrap();
        let client = Client::of(&stripe);
        let faults = Faults { delay_rate: 1.0, delay_ms: 700, ..Faults::default() };
        stripe.set_faults(Faults {
            delay_before_work: before_work,
            path: Some(INTENTS.to_owned()),
            ..faults
        });
        let waiting = client.send("POST", INTENTS, None, &payment("pm_card_visa", 1_000)).unwrap();
        while stripe.figures().under_way == 0 {
            std::thread::yield_now();
        }
        // Requests are served in turn, so that this answer comes after the other one's work, if it was done.
        assert_eq!(client.get("/v1/refunds").status, 200, "no other path waits");
        assert_eq!(stripe.ledger().charges.len(), charges, "{before_work}");
        stripe.advance(700);
        assert_eq!(receive(waiting).unwrap().status, 200);
        assert_eq!(stripe.ledger().charges.len(), 1);
    }
}

#[test]
fn a_caller_who_left_is_charged_all_the_same() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    stripe.set_faults(Faults {
        delay_rate: 1.0,
        delay_ms: 700,
        delay_before_work: true,
        ..Faults::default()
    });
    let waiting = client.send("POST", INTENTS, None, &payment("pm_card_visa", 1_000)).unwrap();
    while stripe.figures().under_way == 0 {
        std::thread::yield_now();
    }
    drop(waiting);
    stripe.set_faults(Faults::default());
    assert_eq!(client.get("/v1/refunds").status, 200);
    assert!(stripe.ledger().charges.is_empty());
    stripe.advance(700);
    while stripe.figures().under_way > 0 {
        std::thread::yield_now();
    }
    assert_eq!(stripe.ledger().charges.len(), 1);
}

#[test]
fn declines_come_at_their_rate_and_the_seed_repeats_them() {
    let declined = [3, 3, 4].map(|seed| {
        let stripe = Stripe::start_with(&Options { seed: Some(seed), ..Options::default() }).unwrap();
        let client = Client::of(&stripe);
        stripe.set_faults(Faults { decline_rate: 0.3, ..Faults::default() });
        let form = payment("pm_card_visa", 1_000);
        let statuses = (0..200).map(|_| client.post(INTENTS, &form).status);
        statuses.map(|status| status == 402).collect::<Vec<bool>>()
    });
    assert_eq!(declined[0], declined[1]);
    assert_ne!(declined[0], declined[2]);
    for declined in declined {
        let count = declined.into_iter().filter(|declined| *declined).count();
        assert!((30..90).contains(&count), "{count} of 200 at a rate of 0.3");
    }
}

#[test]
fn a_fault_hits_its_path_and_so_often_only() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let path = Some("/capture".to_owned());
    stripe.set_faults(Faults { unavailable_rate: 1.0, path, times_max: Some(2), ..Faults::default() });
    let capture = format!("{INTENTS}/{}/capture", client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap());
    let statuses = [(); 3].map(|()| client.post(&capture, "").status);
    assert_eq!(statuses, [503, 503, 200]);
}

#[test]
fn an_outage_refuses_or_hangs_and_then_is_over() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let control = Client { address: stripe.control_url()[7..].parse().unwrap(), authorization: None };

    stripe.set_faults(Faults { outage: Outage::Refused, ..Faults::default() });
    while TcpStream::connect(stripe.address()).is_ok() {
        std::thread::yield_now();
    }
    assert!(client.ask("GET", INTENTS, None, "").is_none());
    assert_eq!(control.get("/_stand-in").status, 200, "the control door stays open");
    stripe.set_faults(Faults::default());
    while TcpStream::connect(stripe.address()).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(client.get(INTENTS).status, 200);

    stripe.set_faults(Faults { outage: Outage::Hanging, ..Faults::default() });
    let hanging = client.send("POST", INTENTS, Some("k"), &payment("pm_card_visa", 1_000)).unwrap();
    while stripe.figures().under_way == 0 {
        std::thread::yield_now();
    }
    stripe.set_faults(Faults::default());
    assert!(receive(hanging).is_err(), "nobody answers what came in an outage");
    assert!(stripe.ledger().charges.is_empty(), "nor carries it out");
    assert_eq!(client.post_with_key(INTENTS, "k", &payment("pm_card_visa", 1_000)).status, 200);
}

#[test]
fn faults_are_asked_for_over_http_and_checked() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let control = |body: &str| json_post(&client, "/_stand-in/faults", body);
    assert_eq!(control(r#"{"unavailable_rate": 1.0}"#), 204);
    assert_eq!(client.get(INTENTS).status, 503);
    assert_eq!(client.get("/_stand-in/faults").body["unavailable_rate"], 1.0);
    assert_eq!(control("{}"), 204);
    assert_eq!(client.get(INTENTS).status, 200, "what is unsaid is well again");
    for body in [r#"{"unavailable_rate": 1.5}"#, r#"{"decline_rate": -0.1}"#, r#"{"earthquake": 1}"#, "[", ""]
    {
        assert_eq!(control(body), 400, "{body}");
    }
    let before_ms = stripe.now_ms();
    assert_eq!(json_post(&client, "/_stand-in/clock", r#"{"advance_ms": 250}"#), 200);
    assert_eq!(stripe.now_ms(), before_ms + 250);
}

fn json_post(client: &Client, path: &str, body: &str) -> u16 {
    use std::io::Write as _;
    let mut stream = TcpStream::connect(client.address).unwrap();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}Content-Type: application/json\r\n\r\n{body}").as_bytes()).unwrap();
    receive(stream).unwrap().status
}
