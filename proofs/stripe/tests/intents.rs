//! Payment intents: where each call leads from each state, and what each test card does.

use doorbuster_stripe::Stripe;

use crate::client::{Client, payment};

#[test]
fn each_test_card_does_what_stripe_says() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    // method, status of the answer, code, decline code, where the intent then stands
    let rows = [
        ("pm_card_visa", 200, "", "", "requires_capture"),
        ("pm_card_mastercard", 200, "", "", "requires_capture"),
        ("pm_card_authenticationRequired", 200, "", "", "requires_action"),
        ("pm_usBankAccount_processing", 200, "", "", "processing"),
        ("pm_card_chargeDeclined", 402, "card_declined", "generic_decline", "requires_payment_method"),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            402,
            "card_declined",
            "insufficient_funds",
            "requires_payment_method",
        ),
        ("pm_card_chargeDeclinedExpiredCard", 402, "expired_card", "", "requires_payment_method"),
        ("pm_card_chargeDeclinedIncorrectCvc", 402, "incorrect_cvc", "", "requires_payment_method"),
        ("pm_card_chargeDeclinedProcessingError", 402, "processing_error", "", "requires_payment_method"),
    ];
    for (method, status, code, decline_code, stands) in rows {
        let answer = client.post("/v1/payment_intents", &payment(method, 1_000));
        assert_eq!(answer.status, status, "{method}: {}", answer.text);
        let intent = if status == 200 {
            &answer.body
        } else {
            assert_eq!(answer.error(), ("card_error", code, decline_code), "{method}");
            &answer.body["error"]["payment_intent"]
        };
        assert_eq!(intent["status"], stands, "{method}");
        let now = client.get(&format!("/v1/payment_intents/{}", intent["id"].as_str().unwrap()));
        assert_eq!(&now.body, intent, "{method}");
    }
    let unknown = client.post("/v1/payment_intents", &payment("pm_nobody", 1_000));
    assert_eq!((unknown.status, unknown.error()), (400, ("invalid_request_error", "resource_missing", "")));
}

#[test]
fn a_payment_goes_from_state_to_state_and_nowhere_else() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let manual = "amount=1000&currency=gbp&capture_method=manual&payment_method_types[]=card";
    // how a state is reached, the state, and what confirm, capture and cancel lead to; a dash is a refusal
    let rows = [
        ("", "", "requires_payment_method", "-", "-", "canceled"),
        ("&payment_method=pm_card_visa", "", "requires_confirmation", "requires_capture", "-", "canceled"),
        (
            "&confirm=true&payment_method=pm_card_authenticationRequired",
            "",
            "requires_action",
            "requires_action",
            "-",
            "canceled",
        ),
        ("&confirm=true&payment_method=pm_usBankAccount_processing", "", "processing", "-", "-", "-"),
        ("&confirm=true&payment_method=pm_card_visa", "", "requires_capture", "-", "succeeded", "canceled"),
        ("&confirm=true&payment_method=pm_card_visa", "capture", "succeeded", "-", "-", "-"),
        ("&confirm=true&payment_method=pm_card_visa", "cancel", "canceled", "-", "-", "-"),
    ];
    for (form, then, state, confirm, capture, cancel) in rows {
        for (call, leads_to) in [("confirm", confirm), ("capture", capture), ("cancel", cancel)] {
            let label = format!("{state} {call}");
            let made = client.post("/v1/payment_intents", &format!("{manual}{form}"));
            assert_eq!(made.status, 200, "{label}: {}", made.text);
            let path = format!("/v1/payment_intents/{}", made.body["id"].as_str().unwrap());
            if !then.is_empty() {
                assert_eq!(client.post(&format!("{path}/{then}"), "").status, 200, "{label}");
            }
            assert_eq!(client.get(&path).body["status"], state, "{label}");
            let answer = client.post(&format!("{path}/{call}"), "");
            if leads_to == "-" {
                assert_eq!(answer.status, 400, "{label}: {}", answer.text);
                let error = ("invalid_request_error", "payment_intent_unexpected_state", "");
                assert_eq!(answer.error(), error, "{label}");
                assert_eq!(answer.body["error"]["payment_intent"]["status"], state, "{label}");
                assert_eq!(client.get(&path).body["status"], state, "{label}");
            } else {
                assert_eq!((answer.status, &answer.body["status"]), (200, &leads_to.into()), "{label}");
            }
        }
    }
}

#[test]
fn a_customer_passes_three_d_secure_or_fails_it() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    // method, whether the customer passes, where the intent stands, what went wrong
    let rows = [
        ("pm_card_authenticationRequired", true, "requires_capture", ""),
        (
            "pm_card_authenticationRequired",
            false,
            "requires_payment_method",
            "payment_intent_authentication_failure",
        ),
        (
            "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
            true,
            "requires_payment_method",
            "card_declined",
        ),
    ];
    for (method, passes, stands, code) in rows {
        let form = payment(method, 1_000) + "&return_url=https%3A%2F%2Fshop.example%2Fback";
        let intent = client.post("/v1/payment_intents", &form).body;
        let action = &intent["next_action"];
        assert_eq!(action["type"], "redirect_to_url", "{method}");
        assert_eq!(action["redirect_to_url"]["return_url"], "https://shop.example/back");
        assert!(intent["client_secret"].as_str().unwrap().starts_with(intent["id"].as_str().unwrap()));
        let page = action["redirect_to_url"]["url"].as_str().unwrap().strip_prefix(&stripe.url()).unwrap();
        assert_eq!(client.get(page).status, 200);
        let told = client.post(&format!("{page}?success={passes}"), "");
        assert_eq!((told.status, &told.body["status"]), (200, &stands.into()), "{method} {passes}");
        assert_eq!(told.body["next_action"], serde_json::Value::Null);
        assert_eq!(told.body["last_payment_error"]["code"].as_str().unwrap_or_default(), code, "{method}");
        let again = client.post(&format!("{page}?success={passes}"), "");
        assert_eq!(again.status, 400, "an intent waits for its customer once");
    }
    assert_eq!(stripe.ledger().charges.len(), 1, "one of the three was approved");
}

#[test]
fn a_customer_who_is_not_there_is_not_asked() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    for (flag, decline_code) in [("off_session", "authentication_required"), ("error_on_requires_action", "")]
    {
        let form = payment("pm_card_authenticationRequired", 1_000) + &format!("&{flag}=true");
        let answer = client.post("/v1/payment_intents", &form);
        assert_eq!(answer.status, 402, "{flag}");
        assert_eq!(answer.error(), ("card_error", "authentication_required", decline_code), "{flag}");
    }
}

#[test]
fn a_payment_that_is_processing_ends_well_or_badly() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    for (success, stands) in [(true, "requires_capture"), (false, "requires_payment_method")] {
        let intent = client.pay("pm_usBankAccount_processing", 1_000);
        let id = intent["id"].as_str().unwrap();
        let charge = client.get(&format!("/v1/charges/{}", intent["latest_charge"].as_str().unwrap())).body;
        assert_eq!((&charge["status"], &charge["paid"]), (&"pending".into(), &false.into()));
        let settled = stripe.settle(id, success).unwrap();
        assert_eq!(settled["status"], stands);
        assert_eq!(settled["latest_charge"], intent["latest_charge"], "the same attempt, decided");
        assert!(stripe.settle(id, success).is_err(), "a payment ends once");
    }
    assert_eq!(stripe.ledger().charges.len(), 1);
}

#[test]
fn a_capture_takes_at_most_what_is_held() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    // amount to capture of 1,000, status, code, received
    let rows = [
        ("", 200, "", 1_000),
        ("amount_to_capture=1000", 200, "", 1_000),
        ("amount_to_capture=400", 200, "", 400),
        ("amount_to_capture=1", 200, "", 1),
        ("amount_to_capture=1001", 400, "amount_too_large", 0),
        ("amount_to_capture=0", 400, "parameter_invalid_integer", 0),
        ("amount_to_capture=-1", 400, "parameter_invalid_integer", 0),
        ("amount_to_capture=ten", 400, "parameter_invalid_integer", 0),
    ];
    let mut captured = 0;
    for (form, status, code, received) in rows {
        let path =
            format!("/v1/payment_intents/{}", client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap());
        let answer = client.post(&format!("{path}/capture"), form);
        assert_eq!((answer.status, answer.error().1), (status, code), "{form}");
        let intent = client.get(&path).body;
        assert_eq!(intent["amount_received"], received, "{form}");
        let capturable = if status == 200 { 0 } else { 1_000 };
        assert_eq!(intent["amount_capturable"], capturable, "{form}");
        captured += received;
    }
    assert_eq!(stripe.ledger().totals["gbp"].captured, captured);
    assert_eq!(stripe.ledger().totals["gbp"].authorized, 4_000, "four were not captured");
}

#[test]
fn money_is_taken_at_once_where_nobody_captures() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let form = "amount=1000&currency=gbp&confirm=true&payment_method=pm_card_visa\
                &automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=never";
    let intent = client.post("/v1/payment_intents", form).body;
    assert_eq!((&intent["status"], &intent["amount_received"]), (&"succeeded".into(), &1_000.into()));
    assert_eq!(intent["capture_method"], "automatic_async");
    assert_eq!(stripe.ledger().totals["gbp"].captured, 1_000);
}

#[test]
fn an_authorization_is_let_go_after_seven_days() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let path = format!("/v1/payment_intents/{}", client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap());
    stripe.advance(7 * 86_400_000 - 1);
    assert_eq!(client.get(&path).body["status"], "requires_capture");
    stripe.advance(1);
    let intent = client.get(&path).body;
    assert_eq!(
        (&intent["status"], &intent["cancellation_reason"]),
        (&"canceled".into(), &"automatic".into())
    );
    assert_eq!(client.post(&format!("{path}/capture"), "").error().1, "payment_intent_unexpected_state");
    let ledger = stripe.ledger();
    assert!(ledger.charges[0].released);
    assert_eq!((ledger.totals["gbp"].authorized, ledger.totals["gbp"].captured), (0, 0));
}

#[test]
fn a_declined_intent_takes_another_card() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let declined = client.post("/v1/payment_intents", &payment("pm_card_chargeDeclined", 1_000));
    let id = declined.body["error"]["payment_intent"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/payment_intents/{id}/confirm");
    assert_eq!(client.post(&path, "").error().1, "payment_intent_unexpected_state", "its method is gone");
    let answer = client.post(&path, "payment_method=pm_card_visa");
    assert_eq!((answer.status, &answer.body["status"]), (200, &"requires_capture".into()));
    assert_eq!(answer.body["last_payment_error"], serde_json::Value::Null);
    let attempts = client.get(&format!("/v1/charges?payment_intent={id}")).body;
    let statuses: Vec<_> =
        attempts["data"].as_array().unwrap().iter().map(|charge| &charge["status"]).collect();
    assert_eq!(statuses, ["succeeded", "failed"], "newest first");
}

#[test]
fn an_amount_changes_before_the_payment_and_not_after() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let made = client.post(
        "/v1/payment_intents",
        "amount=1000&currency=gbp&payment_method=pm_card_visa&payment_method_types[]=card",
    );
    let path = format!("/v1/payment_intents/{}", made.body["id"].as_str().unwrap());
    let changed = client.post(&path, "amount=900&metadata[a]=1&metadata[b]=2");
    assert_eq!((changed.status, &changed.body["amount"]), (200, &900.into()));
    assert_eq!(client.post(&path, "metadata[a]=").body["metadata"], serde_json::json!({"b": "2"}));
    client.post(&format!("{path}/confirm"), "");
    assert_eq!(client.post(&path, "amount=800").error().1, "payment_intent_unexpected_state");
    assert_eq!(client.post(&path, "metadata[c]=3").status, 200, "notes can still be made");
    assert_eq!(stripe.ledger().totals["gbp"].captured, 900);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let stripe = Stripe::start().unwrap();
    let client = Client::of(&stripe);
    let long = "x".repeat(501);
    let rows = [
        ("currency=gbp".to_owned(), "parameter_missing", "amount"),
        ("amount=1000".to_owned(), "parameter_missing", "currency"),
        ("amount=1000&currency=xyz".to_owned(), "", "currency"),
        ("amount=10.5&currency=gbp".to_owned(), "parameter_invalid_integer", "amount"),
        ("amount=0&currency=gbp".to_owned(), "parameter_invalid_integer", "amount"),
        ("amount=29&currency=gbp".to_owned(), "amount_too_small", "amount"),
        ("amount=100000000&currency=gbp".to_owned(), "amount_too_large", "amount"),
        ("amount=1000&currency=gbp&colour=red".to_owned(), "parameter_unknown", "colour"),
        (
            "amount=1000&currency=gbp&payment_method_types[]=card&allowed_payment_method_types[]=card"
                .to_owned(),
            "",
            "",
        ),
        ("amount=1000&currency=gbp&capture_method=never".to_owned(), "", "capture_method"),
        ("amount=1000&currency=gbp&confirm=maybe".to_owned(), "", "confirm"),
        (
            "amount=1000&currency=gbp&confirm=true&payment_method_types[]=card".to_owned(),
            "payment_intent_unexpected_state",
            "",
        ),
        ("amount=1000&currency=gbp&confirm=true&payment_method=pm_card_visa".to_owned(), "", "return_url"),
        ("amount=1000&currency=gbp&amount[x]=1".to_owned(), "", "amount[x]"),
        ("amount=1000&currency=gbp&metadata=text".to_owned(), "", "metadata"),
        (format!("amount=1000&currency=gbp&metadata[a]={long}"), "", "metadata[a]"),
        ("amount=1000&currency=gbp&expand[]=customer".to_owned(), "", "expand"),
        (
            "amount=1000&currency=gbp&payment_method_data[card][number]=4242424242424242".to_owned(),
            "parameter_unknown",
            "payment_method_data",
        ),
    ];
    for (form, code, param) in rows {
        let answer = client.post("/v1/payment_intents", &form);
        assert_eq!(answer.status, 400, "{form}: {}", answer.text);
        assert_eq!(answer.error(), ("invalid_request_error", code, ""), "{form}");
        assert_eq!(answer.body["error"]["param"].as_str().unwrap_or_default(), param, "{form}");
    }
    let nobody = client.get("/v1/payment_intents/pi_nobody");
    assert_eq!((nobody.status, nobody.error().1), (404, "resource_missing"));
    assert!(client.get("/v1/payment_intents").body["data"].as_array().unwrap().is_empty(), "none was made");
}
