//! Webhooks: signed, in order, retried until received; late, double and shuffled on request.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use doorbuster_stripe::{Endpoint, Faults, Stripe, signature};
use serde_json::Value;

use crate::client::Client;

/// Long enough for a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One webhook as it came.
struct Came {
    signature: String,
    body: String,
}

impl Came {
    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn kind(&self) -> String {
        self.event()["type"].as_str().unwrap().to_owned()
    }
}

/// Somebody who receives webhooks and answers as told, 200 where nothing was said.
struct Shop {
    url: String,
    came: Receiver<Came>,
    answers: Sender<u16>,
}

impl Shop {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/webhooks", listener.local_addr().unwrap());
        let ((tell, came), (answers, told)) = (channel(), channel());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut bytes, mut piece) = (vec![], [0; 4_096]);
                let (head, mut body) = loop {
                    let count = stream.read(&mut piece).unwrap();
                    bytes.extend_from_slice(&piece[..count]);
                    if let Some((head, body)) =
                        String::from_utf8(bytes.clone()).unwrap().split_once("\r\n\r\n")
                    {
                        break (head.to_lowercase(), body.to_owned());
                    }
                    assert!(count > 0, "a webhook without an end of its head");
                };
                let header = |name: &str| {
                    let line = head.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_else(|| panic!("no {name} in {head}")).trim().to_owned()
                };
                let length: usize = header("content-length:").parse().unwrap();
                while body.len() < length {
                    let count = stream.read(&mut piece).unwrap();
                    body.push_str(std::str::from_utf8(&piece[..count]).unwrap());
                }
                let status = told.try_recv().unwrap_or(200);
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
                if tell.send(Came { signature: header("stripe-signature:"), body }).is_err() {
                    return;
                }
            }
        });
        Self { url, came, answers }
    }

    fn endpoint(&self, secrets: &[&str]) -> Endpoint {
        let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        Endpoint { url: self.url.clone(), secrets, kinds: vec![] }
    }

    fn next(&self) -> Came {
        self.came.recv_timeout(PATIENCE).unwrap()
    }

    fn kinds(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().kind()).collect()
    }

    /// Whether nothing more came once the stand-in has nothing more to say.
    fn is_quiet(&self, stripe: &Stripe) -> bool {
        while stripe.figures().webhooks_outstanding > 0 {
            std::thread::yield_now();
        }
        self.came.try_recv().is_err()
    }
}

const PAID: [&str; 3] =
    ["payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated"];

#[test]
fn webhooks_come_in_order_and_are_what_the_events_say() {
    let (stripe, shop) = (Stripe::start().unwrap(), Shop::open());
    let client = Client::of(&stripe);
    stripe.set_endpoint(Some(shop.endpoint(&["whsec_one"])));
    client.pay("pm_card_visa", 1_000);
    let came = [(); 3].map(|()| shop.next());
    assert_eq!([0, 1, 2].map(|at| came[at].kind()), PAID);
    assert!(shop.is_quiet(&stripe));
    let mut listed = client.get("/v1/events").body["data"].clone();
    listed.as_array_mut().unwrap().reverse();
    for (came, listed) in came.iter().zip(listed.as_array().unwrap()) {
        assert_eq!(
            (came.event()["id"].clone(), listed["pending_webhooks"].clone()),
            (listed["id"].clone(), 0.into())
        );
        assert_eq!(came.event()["data"], listed["data"]);
    }
}

#[test]
fn a_webhook_is_signed_over_its_time_and_its_bytes() {
    let (stripe, shop) = (Stripe::start().unwrap(), Shop::open());
    // Reckoned by `openssl dgst -sha256 -hmac whsec_one` over `1767225600.{"id":1}`.
    let known = "8ff774a75a803e8c46fe39dd83f0724332c0f4ae5a986e3e30cb7ed36188582f";
    assert_eq!(
        signature(&["whsec_one".to_owned()], 1_767_225_600, r#"{"id":1}"#),
        format!("t=1767225600,v1={known}")
    );
    let secrets = ["whsec_one", "whsec_two"];
    stripe.set_endpoint(Some(shop.endpoint(&secrets)));
    Client::of(&stripe).pay("pm_card_visa", 1_000);
    let came = shop.next();
    let at_s = stripe.now_ms() / 1_000;
    let both = secrets.map(str::to_owned);
    assert_eq!(came.signature, signature(&both, at_s, &came.body));
    assert_eq!(came.signature.matches("v1=").count(), 2, "both secrets sign while one replaces the other");
    assert_ne!(signature(&both[..1], at_s, &came.body), signature(&both[1..], at_s, &came.body));
}

#[test]
fn a_webhook_is_sent_until_it_is_received() {
    let (stripe, shop) = (Stripe::start().unwrap(), Shop::open());
    let client = Client::of(&stripe);
    let mut endpoint = shop.endpoint(&["whsec_one"]);
    endpoint.kinds = vec!["payment_intent.created".to_owned()];
    stripe.set_endpoint(Some(endpoint));
    for status in [500, 302, 400] {
        shop.answers.send(status).unwrap();
    }
    client.pay("pm_card_visa", 1_000);
    let first = shop.next();
    // The waits grow: 10, 20, 40 seconds.
    for wait_ms in [10_000, 20_000, 40_000] {
        assert!(shop.is_quiet(&stripe));
        assert_eq!(client.get("/v1/events?delivery_success=false").body["data"].as_array().unwrap().len(), 1);
        stripe.advance(wait_ms - 1);
        assert!(shop.is_quiet(&stripe), "too early");
        stripe.advance(1);
        let again = shop.next();
        assert_eq!(again.event()["id"], first.event()["id"]);
        assert_ne!(again.signature, first.signature, "signed anew at its own time");
    }
    assert!(shop.is_quiet(&stripe));
    let statuses: Vec<_> = stripe.deliveries().iter().map(|delivery| delivery.status.unwrap()).collect();
    assert_eq!(statuses, [500, 302, 400, 200]);
    stripe.advance(4 * 86_400_000);
    assert!(shop.is_quiet(&stripe), "received is received");
}

#[test]
fn an_event_that_nobody_receives_is_given_up_after_three_days() {
    let stripe = Stripe::start().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = Endpoint {
        url: format!("http://{nobody}/"),
        secrets: vec!["whsec_one".to_owned()],
        kinds: vec!["payment_intent.created".to_owned()],
    };
    stripe.set_endpoint(Some(endpoint));
    Client::of(&stripe).pay("pm_card_visa", 1_000);
    let began_ms = stripe.now_ms();
    for _ in 0..100 {
        while stripe.figures().webhooks_outstanding > 0 {
            std::thread::yield_now();
        }
        stripe.advance(3_600_000);
    }
    let made = stripe.deliveries();
    assert!(made.len() > 10, "{} attempts", made.len());
    assert!(made.iter().all(|delivery| delivery.status.is_none()));
    assert!(made.last().unwrap().at_ms < began_ms + 3 * 86_400_000 + 3_600_000);
}

#[test]
fn webhooks_come_twice_where_that_is_wished() {
    let (stripe, shop) = (Stripe::start().unwrap(), Shop::open());
    stripe.set_endpoint(Some(shop.endpoint(&["whsec_one"])));
    stripe.set_faults(Faults { webhook_duplicate_rate: 1.0, ..Faults::default() });
    Client::of(&stripe).pay("pm_card_visa", 1_000);
    let ids: Vec<Value> = (0..6).map(|_| shop.next().event()["id"].clone()).collect();
    for pair in ids.chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
    assert!(shop.is_quiet(&stripe));
}

#[test]
fn webhooks_come_late_and_out_of_order_where_that_is_wished() {
    let options = doorbuster_stripe::Options { seed: Some(1), ..Default::default() };
    let (stripe, shop) = (Stripe::start_with(&options).unwrap(), Shop::open());
    let client = Client::of(&stripe);
    stripe.set_endpoint(Some(shop.endpoint(&["whsec_one"])));
    let days_ms = 2 * 86_400_000;
    stripe.set_faults(Faults { webhook_late_rate: 1.0, webhook_late_ms: days_ms, ..Faults::default() });
    let id = client.pay("pm_card_visa", 1_000)["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/payment_intents/{id}/capture"), "");
    assert!(shop.is_quiet(&stripe), "all are late");
    stripe.advance(days_ms);
    let mut came = shop.kinds(5);
    let in_order = [&PAID[..], &["charge.captured", "payment_intent.succeeded"]].concat();
    assert_ne!(came, in_order, "shuffled");
    came.sort();
    let mut expected = in_order.clone();
    expected.sort_unstable();
    assert_eq!(came, expected, "and complete");
}

#[test]
fn events_from_before_the_endpoint_are_not_sent() {
    let (stripe, shop) = (Stripe::start().unwrap(), Shop::open());
    let client = Client::of(&stripe);
    client.pay("pm_card_visa", 1_000);
    stripe.set_endpoint(Some(shop.endpoint(&["whsec_one"])));
    assert!(shop.is_quiet(&stripe));
    client.pay("pm_card_visa", 2_000);
    assert_eq!(shop.next().event()["data"]["object"]["amount"], 2_000);
}
