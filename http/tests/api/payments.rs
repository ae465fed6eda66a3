//! Payments over the surface: card numbers, webhooks, providers, comparisons, and an order paid step by step.

use std::time::Duration;

use doorbuster_actors::WhenDown;
use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::payment::{PaymentRecord, Standing};
use serde_json::{Value, json};

use super::command::Served;
use super::harness::{Connection, Request, Shop, eventually, get, post};
use super::till::Till;

/// The numbers that providers publish for tests, and how they may be written.
const CARD_NUMBERS: [&str; 4] =
    ["4242424242424242", "5555 5555 5555 4444", "3782-822463-10005", "6011111111111117"];

fn pay_by(cart: &(String, String), provider: &str, method: &str) -> Request {
    let body = json!({"email": "ada@example.com", "payment": {"provider": provider, "method": method}});
    post(&format!("/v1/carts/{}/checkout", cart.0)).token(&cart.1).fresh_key().json(body)
}

#[test]
fn a_card_number_is_refused_and_not_repeated() {
    let shop = Shop::open();
    shop.stock("A", 5);
    let cart = shop.cart(&[("A", 1)]);
    let checkout =
        |body: Value| post(&format!("/v1/carts/{}/checkout", cart.0)).token(&cart.1).fresh_key().json(body);
    for number in CARD_NUMBERS {
        let bodies = [
            json!({"email": "ada@example.com", "payment": {"provider": "fake", "method": number}}),
            // Where no field for it is known, it is a card number first and an unknown field second.
            json!({"email": "ada@example.com", "payment": {"provider": "fake", "method": "ok", "card": {"number": number}}}),
            json!({"email": "ada@example.com", "payment": {"provider": "fake", "method": "ok"},
                "shipping_address": {"country": "GB", "line2": format!("card {number} please")}}),
        ];
        for body in bodies {
            let problem = shop.refused(checkout(body), 422, "validation_failed");
            assert_eq!(
                (&problem["errors"][0]["code"], &problem["errors"][0]["pointer"]),
                (&json!("card_number"), &json!("/payment/method")),
                "{problem}"
            );
            let digits: String = problem.to_string().chars().filter(char::is_ascii_digit).collect();
            let number: String = number.chars().filter(char::is_ascii_digit).collect();
            assert!(!digits.contains(&number), "{problem}");
        }
    }
    assert_eq!(shop.stock_of("A")["reserved"], 0);
    // One digit off it is a method like any other.
    shop.refused(Shop::checkout(&cart, "4242424242424241"), 402, "payment_declined");
}

#[test]
fn a_card_number_reaches_neither_log_nor_disk() {
    const NUMBER: &str = "4242424242424242";
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let served = Served::start(&data, &["--demo", "--log", "trace"]);
    let mut connection = Connection::to(served.address.parse().unwrap());
    let cart =
        connection.send(post("/v1/carts").json(json!({"items": [{"sku": "TEE-M", "quantity": 1}]}))).json();
    let cart = (cart["id"].as_str().unwrap().to_owned(), cart["token"].as_str().unwrap().to_owned());
    let refused = connection.send(Shop::checkout(&cart, NUMBER));
    assert!(refused.status == 422 && refused.text().contains("card_number"), "{}", refused.text());
    // The door is seen to log at this level, and the engine to write.
    let placed = connection.send(Shop::checkout(&cart, "ok"));
    assert_eq!(placed.status, 201, "{}", placed.text());
    served.signal("-TERM");
    eventually("the log", || served.log().contains("drain").then_some(()));
    assert!(!served.log().contains(NUMBER), "the log has the card number");
    let mut files = vec![data];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(bytes) = std::fs::read(&path) {
            looked_at += 1;
            assert!(!bytes.windows(NUMBER.len()).any(|part| part == NUMBER.as_bytes()), "{}", path.display());
        }
    }
    assert!(looked_at > 3, "{looked_at} files");
}

/// A webhook with this proof.
fn webhook(provider: &str, proof: &str, body: &str) -> Request {
    post(&format!("/v1/webhooks/{provider}"))
        .header("Till-Proof", proof)
        .body("application/json", body.as_bytes())
}

#[test]
fn a_webhook_that_cannot_be_believed_has_no_effect() {
    let till = Till::named("paypal");
    let shop = till.shop();
    shop.stock("A", 5);
    let pending = shop.expect(pay_by(&shop.cart(&[("A", 1)]), "paypal", "page"), 202);
    let id = pending["order"]["id"].as_str().unwrap();
    let news = format!("evt_1 {id} 1000");
    shop.refused(webhook("stripe", "good", &news), 404, "not_found");
    shop.refused(webhook("nobody", "good", &news), 404, "not_found");
    for proof in ["bad", "", "old"] {
        let problem = shop.refused(webhook("paypal", proof, &news), 400, "signature_invalid");
        assert!(!problem.to_string().contains(id), "{problem}");
    }
    let later = shop.refused(webhook("paypal", "later", &news), 503, "payment_unavailable");
    assert_eq!(later["retry_after_ms"], 5_000);
    let long = "x".repeat(2 << 20);
    shop.refused(webhook("paypal", "good", &long), 413, "too_large");
    shop.refused(get("/v1/webhooks/paypal"), 405, "method_not_allowed");
    let order = shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200);
    assert_eq!(
        (&order["state"], &order["payment"]["state"]),
        (&json!("pending_payment"), &json!("requires_action"))
    );

    let without = Till::named("paypal").without_secret();
    let problem = without.shop().refused(webhook("paypal", "good", &news), 400, "signature_invalid");
    assert!(problem["detail"].as_str().unwrap().contains("no webhook secret is configured"), "{problem}");
}

#[test]
fn a_webhook_finishes_an_order_and_its_copies_change_nothing() {
    let till = Till::named("paypal");
    let shop = till.shop();
    shop.stock("A", 5);
    let cart = shop.cart(&[("A", 2)]);
    let pending = shop.send(pay_by(&cart, "paypal", "page"));
    assert_eq!(pending.status, 202, "{}", pending.text());
    let pending = pending.json();
    let id = pending["order"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&pending["status"], &pending["redirect_url"], &pending["client_secret"]),
        (&json!("requires_action"), &json!(format!("https://till.example/pay?of={id}")), &Value::Null)
    );
    let news = format!("evt_1 {id} 2000");
    // As it comes: no media type is asked for, and any header may stand beside.
    let bare = post("/v1/webhooks/paypal").header("Till-Proof", "good").body("text/plain", news.as_bytes());
    assert_eq!(shop.expect(bare, 200), json!({"received": true}));
    let captured = || {
        let order = shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200);
        (order["payment"]["state"] == "captured").then_some(order)
    };
    let order = eventually("capture", captured);
    assert_eq!(order["state"], "paid");
    for _ in 0..3 {
        assert_eq!(shop.expect(webhook("paypal", "good", &news), 200), json!({"received": true}));
    }
    assert_eq!(captured().unwrap()["version"], order["version"], "a copy changes nothing");
    // About nobody here: taken, so that it is not sent for three days.
    shop.expect(webhook("paypal", "good", "evt_2"), 200);
    shop.expect(webhook("paypal", "good", "evt_3 ord_00000000000000000000000000000001 5"), 200);
    // The shopper comes back after the webhook.
    let confirm = post(&format!("/v1/orders/{id}/confirm")).token(&cart.1).fresh_key();
    assert_eq!(shop.expect(confirm, 200)["state"], "paid");
    assert_eq!(shop.stock_of("A")["sold"], 2);
}

#[test]
fn a_shopper_who_comes_back_confirms_and_the_webhook_behind_changes_nothing() {
    let till = Till::named("paypal");
    let shop = till.shop();
    shop.stock("A", 5);
    let cart = shop.cart(&[("A", 1)]);
    let pending = shop.expect(pay_by(&cart, "paypal", "page"), 202);
    let id = pending["order"]["id"].as_str().unwrap();
    let confirm = || post(&format!("/v1/orders/{id}/confirm")).token(&cart.1).key("back");
    let first = shop.send(confirm());
    assert_eq!((first.status, first.json()["state"].as_str()), (200, Some("paid")));
    let again = shop.send(confirm());
    assert_eq!((again.status, again.is_replay(), again.text()), (200, true, first.text()));
    eventually("capture", || {
        let order = shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200);
        (order["payment"]["state"] == "captured").then_some(())
    });
    shop.expect(webhook("paypal", "good", &format!("evt_1 {id} 1000")), 200);
    let order = shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200);
    assert_eq!((&order["state"], &order["payment"]["captured"]["amount"]), (&json!("paid"), &json!(1_000)));
    let timeline = shop.expect(get(&format!("/v1/orders/{id}/timeline")).admin(), 200);
    let kinds: Vec<_> =
        timeline["data"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect();
    assert!(
        kinds.contains(&json!("provider_notice")) && !kinds.contains(&json!("stray_payment_found")),
        "{kinds:?}"
    );
}

#[test]
fn providers_are_shown_to_the_admin() {
    let till = Till::named("paypal");
    let shop = till.shop();
    shop.refused(get("/v1/admin/payments/providers"), 401, "unauthenticated");
    let list = shop.expect(get("/v1/admin/payments/providers").admin(), 200);
    assert_eq!(
        list["data"][1],
        json!({"name": "paypal", "up": true, "waiting": 0, "waiting_oldest_ms": 0, "pace_wait_ms": 0, "drain_ms": 0})
    );
    assert_eq!(list["data"][0]["name"], "fake");
}

/// Five calls in a row that are not answered: the provider counts as away.
fn outage(shop: &Shop, till: &Till) {
    till.fall_silent();
    for _ in 0..5 {
        let pending = shop.expect(pay_by(&shop.cart(&[("A", 1)]), "paypal", "page"), 202);
        assert_eq!(pending["status"], "payment_pending");
    }
}

#[test]
fn while_a_provider_is_away_checkouts_wait_or_are_refused_as_the_shop_chose() {
    let till = Till::named("paypal");
    let shop = till.shop();
    shop.stock("A", 20);
    outage(&shop, &till);
    let pending = shop.expect(pay_by(&shop.cart(&[("A", 1)]), "paypal", "page"), 202);
    assert_eq!(
        (&pending["status"], &pending["order"]["state"]),
        (&json!("payment_pending"), &json!("pending_payment"))
    );
    let list = shop.expect(get("/v1/admin/payments/providers").admin(), 200);
    assert_eq!((&list["data"][1]["up"], &list["data"][1]["waiting"]), (&json!(false), &json!(1)), "{list}");

    let till = Till::named("paypal");
    let shop = till.shop_with(|engine| engine.when_down = WhenDown { fallback: None, defer: None });
    shop.stock("A", 20);
    outage(&shop, &till);
    let cart = shop.cart(&[("A", 1)]);
    let problem = shop.refused(pay_by(&cart, "paypal", "page"), 503, "payment_unavailable");
    assert!(problem["retry_after_ms"].as_u64().unwrap() >= 100, "{problem}");
    assert_eq!(shop.stock_of("A")["reserved"], 5, "nothing was done");

    let till = Till::named("paypal");
    let elsewhere =
        |engine: &mut doorbuster_actors::EngineOptions| engine.when_down.fallback = Some("fake".into());
    let shop = till.shop_with(elsewhere);
    shop.stock("A", 20);
    outage(&shop, &till);
    let order = shop.expect(pay_by(&shop.cart(&[("A", 1)]), "paypal", "ok"), 201);
    assert_eq!(order["payment"]["provider"], "fake");
}

#[test]
fn a_comparison_is_the_admins_and_names_what_does_not_agree() {
    let till = Till::named("paypal");
    let shop = till.shop();
    shop.stock("A", 5);
    let compare = |body: Value| post("/v1/admin/payments/reconcile").admin().json(body);
    let of = json!({"provider": "paypal"});
    shop.refused(post("/v1/admin/payments/reconcile").json(of.clone()), 401, "unauthenticated");
    for (body, code) in [
        (json!({"provider": "nobody"}), "unknown_provider"),
        (json!({"provider": "fake"}), "keeps_no_books"),
        (json!({"provider": "paypal", "since": "yesterday"}), "not_a_time"),
    ] {
        let problem = shop.refused(compare(body), 422, "validation_failed");
        assert_eq!(problem["errors"][0]["code"], code, "{problem}");
    }
    shop.refused(compare(json!({"provider": "paypal", "until": "now"})), 422, "validation_failed");
    let agrees = shop.expect(compare(of.clone()), 200);
    assert_eq!(
        (&agrees["payments"], &agrees["complete"], &agrees["findings"]),
        (&json!(0), &json!(true), &json!([]))
    );
    let stranger = OrderId(77);
    till.list(PaymentRecord {
        reference: "till_stranger".into(),
        order: Some(stranger),
        amount: Money::new(500, Currency::GBP),
        captured: 500,
        refunded: 0,
        standing: Standing::Captured,
        created_at: Timestamp(1_000),
    });
    assert_eq!(
        shop.expect(compare(of.clone()), 200)["payments"],
        0,
        "it is older than the hour that is looked at"
    );
    let found = shop.expect(compare(json!({"provider": "paypal", "since": "1970-01-01T00:00:00Z"})), 200);
    assert_eq!((&found["payments"], &found["since"]), (&json!(1), &json!("1970-01-01T00:00:00.000Z")));
    let finding = &found["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["order"], &finding["reference"], &finding["repaired"]),
        (
            &json!("payment_without_order"),
            &json!(stranger.to_string()),
            &json!("till_stranger"),
            &json!(false)
        )
    );
    till.fall_silent();
    shop.refused(compare(of), 503, "payment_unavailable");
}

#[test]
fn an_authorized_payment_is_captured_and_can_be_given_back() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    let cart = shop.cart(&[("A", 4)]);
    let placed = shop.expect(Shop::checkout(&cart, "authorize"), 201);
    let id = placed["id"].as_str().unwrap();
    assert_eq!(
        (&placed["state"], &placed["payment"]["state"], &placed["payment"]["captured"]["amount"]),
        (&json!("paid"), &json!("authorized"), &json!(0))
    );
    let order = eventually("capture", || {
        let order = shop.expect(get(&format!("/v1/orders/{id}")).token(&cart.1), 200);
        (order["payment"]["state"] == "captured").then_some(order)
    });
    assert_eq!(order["payment"]["captured"]["amount"], 1_000);
    let refund = |body: Value| post(&format!("/v1/admin/orders/{id}/refunds")).admin().fresh_key().json(body);
    let part = json!({"lines": [{"line_id": "1", "quantity": 1}], "restock": true});
    assert_eq!(shop.expect(refund(part), 201)["amount"]["amount"], 250);
    shop.expect(post(&format!("/v1/admin/orders/{id}/fulfilments")).admin().fresh_key().json(json!({})), 201);
    shop.expect(refund(json!({})), 201);
    let order = shop.expect(get(&format!("/v1/orders/{id}")).admin(), 200);
    assert_eq!(
        (&order["state"], &order["payment"]["state"], &order["payment"]["refunded"]["amount"]),
        (&json!("refunded"), &json!("refunded"), &json!(1_000))
    );
}

#[test]
fn an_authorized_order_can_be_called_off_at_any_moment() {
    let shop = Shop::open();
    shop.priced("A", 10, 250);
    for _ in 0..10 {
        let cart = shop.cart(&[("A", 4)]);
        let placed = shop.expect(Shop::checkout(&cart, "authorize"), 201);
        let id = placed["id"].as_str().unwrap();
        // Before, while or after it is captured: let go or given back, and nothing is kept.
        let order = shop.expect(post(&format!("/v1/orders/{id}/cancel")).token(&cart.1).fresh_key(), 200);
        assert_eq!(order["state"], "cancelled");
        assert_eq!(order["payment"]["captured"], order["payment"]["refunded"], "law 7: {order}");
    }
    eventually("restock", || {
        let stock = shop.stock_of("A");
        (stock["on_hand"] == 10 && stock["sold"] == 0 && stock["reserved"] == 0).then_some(())
    });
}

#[test]
fn the_description_tells_of_payments() {
    let document: Value = serde_json::from_str(&doorbuster_http::openapi::text()).unwrap();
    let answers = |path: &str, method: &str| {
        let call = &document["paths"][path][method];
        call["responses"].as_object().unwrap_or_else(|| panic!("{path}")).keys().cloned().collect::<Vec<_>>()
    };
    for (path, method, statuses) in [
        ("/v1/carts/{id}/checkout", "post", vec!["201", "202", "402", "422", "503"]),
        ("/v1/orders/{id}/confirm", "post", vec!["200", "202", "402", "503"]),
        ("/v1/webhooks/stripe", "post", vec!["200", "400", "404", "413", "503"]),
        ("/v1/webhooks/paypal", "post", vec!["200", "400", "404", "413", "503"]),
        ("/v1/admin/payments/providers", "get", vec!["200", "401"]),
        ("/v1/admin/payments/reconcile", "post", vec!["200", "401", "422", "503"]),
    ] {
        let answers = answers(path, method);
        for status in statuses {
            assert!(
                answers.iter().any(|answer| answer == status),
                "{method} {path} lacks {status}: {answers:?}"
            );
        }
    }
    let checkout = document["paths"]["/v1/carts/{id}/checkout"]["post"]["responses"]["503"].to_string();
    assert!(checkout.contains("payment_unavailable"), "{checkout}");
    let schemas = &document["components"]["schemas"];
    for (schema, field) in [
        ("CheckoutPending", "redirect_url"),
        ("CheckoutPending", "client_secret"),
        ("Provider", "waiting"),
        ("Finding", "repaired"),
    ] {
        assert!(schemas[schema]["properties"][field].is_object(), "{schema} lacks {field}");
    }
}

#[test]
fn wrong_settings_of_payments_are_told_with_their_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data_text = data.to_str().unwrap();
    let mut rows = vec![
        (vec!["--payment-fallback", "nobody"], 78, vec!["--payment-fallback", "nobody", "fake"]),
        (vec!["--stripe-secret-key-file", "/nowhere"], 78, vec!["/nowhere", "readable"]),
        (vec!["--payment-defer-s", "9999999"], 2, vec!["--payment-defer-s"]),
        (vec!["--payment-pin-s", "0"], 2, vec!["--payment-pin-s"]),
        (vec!["--stripe-calls-per-second", "0"], 2, vec!["--stripe-calls-per-second"]),
    ];
    #[cfg(not(feature = "stripe"))]
    rows.push((vec!["--stripe-secret-key", "sk_test_x"], 78, vec!["without Stripe", "--features stripe"]));
    #[cfg(feature = "stripe")]
    rows.push((vec!["--stripe-secret-key", "pk_test_x"], 78, vec!["publishable", "dashboard.stripe.com"]));
    #[cfg(not(feature = "paypal"))]
    rows.push((vec!["--paypal-client-id", "x"], 78, vec!["without it", "--features paypal"]));
    for (flags, code, words) in rows {
        let arguments: Vec<&str> = ["serve", "--data", data_text, "--listen", "127.0.0.1:0"]
            .into_iter()
            .chain(flags.clone())
            .collect();
        let output = super::command::run(&arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {told}");
        for word in words {
            assert!(told.contains(word), "{flags:?}: {word:?} is not in {told}");
        }
        assert!(!told.contains("_test_x"), "{flags:?} tells a secret: {told}");
        assert!(!data.exists(), "{flags:?} touched the data directory");
    }
}

#[test]
fn a_shop_that_lets_nobody_wait_says_so_in_its_settings() {
    use clap::Parser;

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        payments: doorbuster_http::cli::payments::PaymentArguments,
    }
    let of = |flags: &[&str]| Settings::parse_from(["x"].iter().chain(flags)).payments.when_down();
    assert_eq!(of(&[]), WhenDown { fallback: None, defer: Some(Duration::from_secs(24 * 60 * 60)) });
    assert_eq!(of(&["--payment-defer-s", "0"]), WhenDown { fallback: None, defer: None });
    let named = of(&["--payment-defer-s", "60", "--payment-fallback", "paypal"]);
    assert_eq!(named, WhenDown { fallback: Some("paypal".into()), defer: Some(Duration::from_secs(60)) });
}
