//! Connections and statuses.

use bytes::Bytes;
use hyper::StatusCode;

use super::super::wire::{Failure, judge};
use super::*;

#[test]
fn only_stripes_own_refusal_is_one() {
    let error = |kind: &str| format!(r#"{{"error":{{"type":"{kind}","message":"m"}}}}"#);
    let card = error("card_error");
    let request = error("invalid_request_error");
    let rows = [
        (402, false, card.clone(), "refused"),
        (400, false, request.clone(), "refused"),
        (400, false, error("idempotency_error"), "key spent"),
        (400, false, error("api_error"), "unanswered"),
        (400, false, r#"{"error":{"message":"m"}}"#.to_owned(), "unanswered"),
        (400, false, "<html>".to_owned(), "unanswered"),
        (402, false, String::new(), "unanswered"),
        (404, false, request.clone(), "missing"),
        (401, false, request.clone(), "unanswered"),
        (403, false, request.clone(), "unanswered"),
        (409, false, error("idempotency_error"), "unanswered"),
        (424, false, request.clone(), "unanswered"),
        (429, false, request.clone(), "unanswered"),
        (500, false, error("api_error"), "unanswered"),
        (500, true, error("api_error"), "key spent"),
        (503, true, String::new(), "key spent"),
        (502, false, "<html>".to_owned(), "unanswered"),
        (302, false, String::new(), "unanswered"),
        (402, true, card, "refused"),
    ];
    for (status, replayed, body, expected) in rows {
        let failure =
            judge(StatusCode::from_u16(status).unwrap(), &Bytes::from(body.clone()), replayed, "/", "req");
        let seen = match failure {
            Failure::Refused(..) => "refused",
            Failure::Missing => "missing",
            Failure::KeySpent => "key spent",
            Failure::Unanswered => "unanswered",
        };
        assert_eq!(seen, expected, "{status} {replayed} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_from_call_to_call() {
    let shop = Shop::open();
    for _ in 0..50 {
        let request = shop.request("pm_card_visa");
        let outcome = shop.door.authorize(&request).await;
        shop.door.capture(&request, reference_of(&outcome).unwrap()).await;
    }
    let one_by_one = shop.stripe.figures();
    assert_eq!(one_by_one.requests, 100);
    // One, and another where the next call began before the last connection was back in its place.
    assert!(one_by_one.connections <= 4, "{} connections one by one", one_by_one.connections);
    for _ in 0..10 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (door, request) = (shop.door.clone(), shop.request("pm_card_visa"));
                tokio::spawn(async move { door.authorize(&request).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(name(&task.await.unwrap()), "authorized");
        }
    }
    let figures = shop.stripe.figures();
    let (calls, connections) = (figures.requests, figures.connections);
    eprintln!("{calls} calls over {connections} connections, 8 at once at most");
    assert_eq!(calls, 180);
    // One for each that is under way at once, and now and then one that was opened and not needed after all.
    assert!(connections <= 16, "{connections} connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_other_side_closed_is_replaced() {
    let shop = Shop::open();
    for _ in 0..3 {
        let request = shop.request("pm_card_visa");
        assert_eq!(name(&shop.door.authorize(&request).await), "authorized");
        shop.shut();
        assert_eq!(shop.door.look_up(&request, None).await, ChargeOutcome::Unknown);
        shop.calm();
        assert_eq!(name(&shop.door.look_up(&request, None).await), "authorized");
    }
}
