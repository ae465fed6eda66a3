//! Lists, search and events: what a reconciliation reads.

use doorbuster_stripe::{Faults, Stripe};
use serde_json::Value;

use crate::client::Client;

fn ids(list: &Value) -> Vec<String> {
    let data = list["data"].as_array().unwrap();
    data.iter().map(|object| object["id"].as_str().unwrap().to_owned()).collect()
}

/// Five intents a minute apart, oldest first.
fn five(stripe: &Stripe, client: &Client) -> Vec<String> {
    let made = (0..5).map(|number| {
        stripe.advance(60_000);
        let form = format!("amount={}&currency=gbp&metadata[order]=ord_{number}", 1_000 + number);
        client.post("/v1/payment_intents", &form).body["id"].as_str().unwrap().to_owned()
    });
    made.collect()
}

#[test]
fn a_list_is_walked_from_the_newest_without_gap_or_repeat() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let mut made = five(&stripe, &client);
    made.reverse();
    let (mut walked, mut after) = (vec![], String::new());
    for _ in 0..3 {
        let page = client.get(&format!("/v1/payment_intents?limit=2{after}")).body;
        assert_eq!((&page["object"], &page["url"]), (&"list".into(), &"/v1/payment_intents".into()));
        walked.extend(ids(&page));
        assert_eq!(page["has_more"], walked.len() < 5);
        after = format!("&starting_after={}", walked.last().unwrap());
        // Whoever comes meanwhile does not shift the pages.
        client.post("/v1/payment_intents", "amount=1000&currency=gbp");
    }
    assert_eq!(walked, made);
    let back = client.get(&format!("/v1/payment_intents?limit=2&ending_before={}", made[3])).body;
    assert_eq!(ids(&back), made[1..3]);
}

#[test]
fn a_list_is_cut_by_time() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let start_s = stripe.now_ms() / 1_000;
    let made = five(&stripe, &client);
    let at = |number: u64| start_s + 60 * number;
    let rows = [
        (format!("created[gte]={}", at(4)), &made[3..]),
        (format!("created[gt]={}", at(4)), &made[4..]),
        (format!("created[lt]={}", at(2)), &made[..1]),
        (format!("created[lte]={}", at(2)), &made[..2]),
        (format!("created[gte]={}&created[lt]={}", at(2), at(4)), &made[1..3]),
        (format!("created={}", at(3)), &made[2..3]),
    ];
    for (query, expected) in rows {
        let mut found = ids(&client.get(&format!("/v1/payment_intents?{query}")).body);
        found.reverse();
        assert_eq!(found, expected, "{query}");
    }
}

#[test]
fn a_search_finds_by_metadata_state_and_amount() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let made = five(&stripe, &client);
    client.post(&format!("/v1/payment_intents/{}/cancel", made[1]), "");
    let rows = [
        ("metadata['order']:'ord_3'", vec![3]),
        ("metadata[\"order\"]:\"ord_3\"", vec![3]),
        ("status:'canceled'", vec![1]),
        ("-status:'canceled' AND amount<1003", vec![0, 2]),
        ("amount>=1003", vec![3, 4]),
        ("metadata['order']:'ord_0' OR metadata['order']:'ord_4'", vec![0, 4]),
        ("currency:'gbp' AND metadata['order']:'ord_9'", vec![]),
    ];
    for (query, expected) in rows {
        let encoded = query.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
        let answer = client.get(&format!("/v1/payment_intents/search?query={encoded}"));
        let mut found = ids(&answer.body);
        found.reverse();
        let expected: Vec<String> = expected.into_iter().map(|number| made[number].clone()).collect();
        assert_eq!(found, expected, "{query}: {}", answer.text);
    }
    for query in
        ["", "status", "status:canceled'", "colour:'red'", "status:'a'%20XOR%20status:'b'", "amount:x"]
    {
        assert_eq!(client.get(&format!("/v1/payment_intents/search?query={query}")).status, 400, "{query}");
    }
    let page = client.get("/v1/payment_intents/search?limit=3&query=currency:'gbp'").body;
    let next = page["next_page"].as_str().unwrap();
    let rest =
        client.get(&format!("/v1/payment_intents/search?limit=3&query=currency:'gbp'&page={next}")).body;
    assert_eq!((ids(&page).len(), ids(&rest).len(), &rest["has_more"]), (3, 2, &false.into()));
}

#[test]
fn a_search_does_not_find_what_is_new_where_that_is_wished() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    stripe.set_faults(Faults { search_lag_ms: 60_000, ..Faults::default() });
    let id = client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap().to_owned();
    let search = "/v1/payment_intents/search?query=metadata['order']:'ord_7'";
    assert!(ids(&client.get(search).body).is_empty());
    assert_eq!(ids(&client.get("/v1/payment_intents").body), [id.as_str()], "a list knows it at once");
    stripe.advance(60_000);
    assert_eq!(ids(&client.get(search).body), [id]);
}

#[test]
fn a_property_is_expanded_where_it_can_be() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let intent = client.pay("pm_card_visa", 1_000);
    let path = format!("/v1/payment_intents/{}", intent["id"].as_str().unwrap());
    let expanded = client.get(&format!("{path}?expand[]=latest_charge")).body;
    assert_eq!(expanded["latest_charge"]["id"], intent["latest_charge"]);
    assert_eq!(expanded["latest_charge"]["payment_method_details"]["card"]["last4"], "4242");
    let listed = client.get("/v1/payment_intents?expand[]=data.latest_charge").body;
    assert_eq!(listed["data"][0]["latest_charge"], expanded["latest_charge"]);
    assert_eq!(client.get(&format!("{path}?expand[]=customer")).status, 400);
}

#[test]
fn a_page_that_cannot_be_is_refused() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let rows = [
        "limit=0",
        "limit=101",
        "limit=x",
        "starting_after=pi_x",
        "created[around]=1",
        "created[gte]=x",
        "colour=red",
    ];
    for query in rows {
        for list in ["payment_intents", "charges", "refunds", "events"] {
            assert_eq!(client.get(&format!("/v1/{list}?{query}")).status, 400, "{list} {query}");
        }
    }
}

#[test]
fn every_change_of_money_is_an_event_with_the_object_as_it_was() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let id = client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap().to_owned();
    let capture = format!("/v1/payment_intents/{id}/capture");
    let captured = client.post_with_key(&capture, "capture-7", "amount_to_capture=800");
    client.post("/v1/refunds", &format!("payment_intent={id}&amount=100"));
    let events = client.get("/v1/events?limit=100").body;
    let mut kinds: Vec<_> =
        events["data"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.reverse();
    let expected = [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
        "refund.created",
        "charge.refunded",
    ];
    assert_eq!(kinds, expected);
    let created = &events["data"][6]["data"]["object"];
    assert_eq!((&created["id"], &created["status"]), (&id.into(), &"requires_confirmation".into()));
    let succeeded = &events["data"][2];
    assert_eq!(succeeded["request"]["id"].as_str(), captured.header("request-id"));
    assert_eq!(succeeded["request"]["idempotency_key"], "capture-7");
    assert_eq!(events["data"][0]["data"]["previous_attributes"]["amount_refunded"], 0);
    let one = client.get(&format!("/v1/events/{}", succeeded["id"].as_str().unwrap())).body;
    assert_eq!(&one, succeeded);
    let two = client.get("/v1/events?types[]=charge.captured&types[]=charge.refunded").body;
    assert_eq!(ids(&two).len(), 2);
}
