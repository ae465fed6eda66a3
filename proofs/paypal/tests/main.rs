//! The stand-in by itself, asked over a plain socket: what an adapter's tests rely upon.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use doorbuster_paypal_stand_in::{CLIENT_ID, CLIENT_SECRET, Faults, Options, PayPal, Step};
use serde_json::{Value, json};

struct Client {
    address: SocketAddr,
    token: String,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Client {
    fn of(paypal: &PayPal) -> Self {
        let address = paypal.url().strip_prefix("http://").unwrap().parse().unwrap();
        let mut client = Self { address, token: String::new() };
        // `stand-in-client:stand-in-secret`.
        assert_eq!((CLIENT_ID, CLIENT_SECRET), ("stand-in-client", "stand-in-secret"));
        let basic = "Authorization: Basic c3RhbmQtaW4tY2xpZW50OnN0YW5kLWluLXNlY3JldA==";
        let answer =
            client.ask("POST", "/v1/oauth2/token", &[basic], "grant_type=client_credentials").unwrap();
        answer.body["access_token"].as_str().unwrap().clone_into(&mut client.token);
        client
    }

    /// `None` where the line was cut.
    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Option<Answer> {
        let mut line = TcpStream::connect(self.address).unwrap();
        let mut headers: Vec<String> = headers.iter().map(|header| format!("{header}\r\n")).collect();
        if !self.token.is_empty() {
            headers.push(format!("Authorization: Bearer {}\r\n", self.token));
        }
        let (length, headers) = (body.len(), headers.concat());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: paypal\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        line.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        line.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        Some(Answer { status, head: head.to_owned(), body })
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[&format!("PayPal-Request-Id: {key}")], &body.to_string()).unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").unwrap()
    }

    fn order(&self, key: &str, custom_id: &str) -> String {
        let answer = self.post("/v2/checkout/orders", key, &order(custom_id, "19.99"));
        assert_eq!(answer.status, 201);
        answer.body["id"].as_str().unwrap().to_owned()
    }
}

fn order(custom_id: &str, value: &str) -> Value {
    let amount = json!({"currency_code": "GBP", "value": value});
    json!({
        "intent": "AUTHORIZE",
        "purchase_units": [{"custom_id": custom_id, "invoice_id": custom_id, "amount": amount}],
        "payment_source": {"paypal": {"experience_context": {"return_url": "https://shop.example/?a=b"}}},
    })
}

fn issue(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["details"][0]["issue"].as_str().unwrap_or_default())
}

#[test]
fn a_request_id_has_one_effect_on_a_path_and_answers_the_latest_state() {
    let paypal = PayPal::start().unwrap();
    let client = Client::of(&paypal);
    let id = client.order("k1", "O1");
    paypal.approve(&id).unwrap();
    let again = client.post("/v2/checkout/orders", "k1", &order("O1", "19.99"));
    assert_eq!(
        (again.status, &again.body["id"], &again.body["status"]),
        (200, &json!(id), &json!("APPROVED"))
    );
    let other = client.post("/v2/checkout/orders", "k1", &order("O1", "20.00"));
    assert_eq!(issue(&other), (422, "DUPLICATE_REQUEST_ID"));
    let nameless = client.ask("POST", "/v2/checkout/orders", &[], &order("O1", "1.00").to_string()).unwrap();
    assert_eq!(issue(&nameless), (400, "PAYPAL_REQUEST_ID_REQUIRED"));
    assert_eq!(paypal.ledger().orders.len(), 1);
    paypal.forget_keys();
    assert_ne!(client.order("k1", "O1"), id);
}

#[test]
fn money_moves_by_the_books() {
    let paypal = PayPal::start().unwrap();
    let client = Client::of(&paypal);
    let id = client.order("k1", "O1");
    let authorize = format!("/v2/checkout/orders/{id}/authorize");
    let early = client.post(&authorize, "a0", &json!({}));
    assert_eq!(issue(&early), (422, "ORDER_NOT_APPROVED"));
    paypal.approve(&id).unwrap();
    assert_eq!(client.post(&authorize, "a1", &json!({})).status, 201);
    assert_eq!(issue(&client.post(&authorize, "a2", &json!({}))), (422, "ORDER_ALREADY_AUTHORIZED"));
    assert!(paypal.approve(&id).is_err());
    let held = paypal.ledger().authorizations[0].id.clone();
    let capture = format!("/v2/payments/authorizations/{held}/capture");
    let pounds = |value: &str| json!({"amount": {"currency_code": "GBP", "value": value}});
    assert_eq!(issue(&client.post(&capture, "c0", &pounds("20.00"))), (422, "MAX_CAPTURE_AMOUNT_EXCEEDED"));
    assert_eq!(client.post(&capture, "c1", &pounds("19.99")).status, 201);
    assert_eq!(
        issue(&client.post(&capture, "c2", &pounds("19.99"))),
        (422, "AUTHORIZATION_ALREADY_CAPTURED")
    );
    let void = format!("/v2/payments/authorizations/{held}/void");
    assert_eq!(issue(&client.post(&void, "v1", &json!({}))), (422, "PREVIOUSLY_CAPTURED"));
    let captured = paypal.ledger().captures[0].id.clone();
    let refund = format!("/v2/payments/captures/{captured}/refund");
    assert_eq!(client.post(&refund, "r1", &pounds("9.99")).status, 201);
    assert_eq!(issue(&client.post(&refund, "r2", &pounds("10.01"))), (422, "REFUND_AMOUNT_EXCEEDED"));
    assert_eq!(client.post(&refund, "r3", &pounds("10.00")).status, 201);
    assert_eq!(issue(&client.post(&refund, "r4", &pounds("0.01"))), (422, "CAPTURE_FULLY_REFUNDED"));
    let ledger = paypal.ledger();
    let counts = (ledger.authorizations.len(), ledger.captures.len(), ledger.refunds.len());
    assert_eq!((counts, ledger.captures[0].status.as_str()), ((1, 1, 2), "REFUNDED"));
}

#[test]
fn amounts_are_checked_as_paypal_checks_them() {
    let paypal = PayPal::start().unwrap();
    let client = Client::of(&paypal);
    for (code, value, expected) in [
        ("GBP", "0.01", (201, "")),
        ("GBP", "0.00", (422, "CANNOT_BE_ZERO_OR_NEGATIVE")),
        ("GBP", "-1.00", (400, "INVALID_PARAMETER_SYNTAX")),
        ("GBP", "1.001", (422, "DECIMAL_PRECISION")),
        ("JPY", "100", (201, "")),
        ("JPY", "1.00", (422, "DECIMALS_NOT_SUPPORTED")),
        ("KWD", "1.00", (422, "CURRENCY_NOT_SUPPORTED")),
    ] {
        let mut wanted = order("O1", value);
        wanted["purchase_units"][0]["amount"]["currency_code"] = json!(code);
        let answer = client.post("/v2/checkout/orders", &format!("{code}{value}"), &wanted);
        assert_eq!(issue(&answer), expected, "{value} {code}");
    }
}

#[test]
fn what_is_asked_for_goes_wrong() {
    let paypal = PayPal::start().unwrap();
    let client = Client::of(&paypal);
    let create = |key: &str| {
        let headers = [&*format!("PayPal-Request-Id: {key}")];
        client.ask("POST", "/v2/checkout/orders", &headers, &order(key, "1.00").to_string())
    };
    let some = |status: u16| Some(status);
    // The fault, what comes back, and how many orders there are then.
    let faults = |change: fn(&mut Faults)| {
        let mut faults = Faults { times_max: Some(1), ..Faults::default() };
        change(&mut faults);
        faults
    };
    for (key, faults, status, orders) in [
        ("k1", faults(|it| it.outage = true), None, 0),
        ("k2", faults(|it| it.too_many_rate = 1.0), some(429), 0),
        ("k3", faults(|it| it.failed_before_rate = 1.0), some(500), 0),
        ("k4", faults(|it| it.status = Some(403)), some(403), 0),
        ("k5", faults(|it| it.failed_after_rate = 1.0), some(500), 1),
        ("k6", faults(|it| it.lost_reply_rate = 1.0), None, 2),
        ("k7", faults(|it| (it.status, it.path) = (Some(500), Some("refund".to_owned()))), some(201), 3),
        ("k6", faults(|_| ()), some(200), 3),
    ] {
        paypal.set_faults(faults);
        assert_eq!(create(key).map(|answer| answer.status), status, "{key}");
        assert_eq!(paypal.ledger().orders.len(), orders, "{key}");
    }
    paypal.set_faults(Faults::default());
    paypal.refuse_next(Step::Create, "CURRENCY_NOT_SUPPORTED");
    assert_eq!(create("k8").map(|answer| answer.status), some(422));
    paypal.revoke_tokens();
    assert_eq!(create("k9").map(|answer| answer.status), some(401));
}

#[test]
fn the_same_seed_gives_the_same_ids() {
    let ids = [7, 7, 8].map(|seed| {
        let paypal = PayPal::start_with(&Options { seed: Some(seed), ..Options::default() }).unwrap();
        assert_eq!(paypal.seed(), seed);
        Client::of(&paypal).order("k1", "O1")
    });
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[test]
fn the_program_starts_says_where_and_lets_a_shopper_pay() {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_paypal-stand-in"))
        .args(["--listen", "127.0.0.1:0", "--seed", "5"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut byte) = (vec![], [0]);
    let mut stderr = program.stderr.take().unwrap();
    while stderr.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        said.push(byte[0]);
    }
    let said = String::from_utf8(said).unwrap();
    let told = std::panic::catch_unwind(|| {
        let address: SocketAddr =
            said.split("http://").nth(1).and_then(|rest| rest.split(',').next()).unwrap().parse().unwrap();
        let mut client = Client { address, token: String::new() };
        let basic = "Authorization: Basic c3RhbmQtaW4tY2xpZW50OnN0YW5kLWluLXNlY3JldA==";
        let token =
            client.ask("POST", "/v1/oauth2/token", &[basic], "grant_type=client_credentials").unwrap();
        token.body["access_token"].as_str().unwrap().clone_into(&mut client.token);
        let id = client.order("k1", "O1");
        let page = format!("/checkoutnow?token={id}");
        assert_eq!(client.get(&page).status, 200);
        let paid = client.ask("POST", &format!("{page}&approve=true"), &[], "").unwrap();
        assert_eq!(paid.status, 303);
        assert!(
            paid.head
                .to_lowercase()
                .contains(&format!("https://shop.example/?a=b&token={}", id.to_lowercase()))
        );
        let ledger = client.get("/_stand-in/ledger").body;
        assert_eq!(ledger["orders"][0]["status"], "APPROVED");
        let bad = client.ask("POST", "/_stand-in/faults", &[], r#"{"lost_reply_rate":2}"#).unwrap();
        assert_eq!(bad.status, 400);
        let good = client.ask("POST", "/_stand-in/faults", &[], r#"{"outage":true}"#).unwrap();
        assert_eq!(good.status, 204);
        assert!(client.ask("GET", &format!("/v2/checkout/orders/{id}"), &[], "").is_none());
    });
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(said.ends_with("seed 5"), "{said}");
    told.unwrap();
}
