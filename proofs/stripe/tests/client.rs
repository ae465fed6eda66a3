//! A client that knows HTTP and nothing of Stripe's libraries: one connection a request.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use doorbuster_stripe::Stripe;
use serde_json::Value;

/// Long enough for a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) authorization: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Type, code and decline code of a refusal.
    pub(crate) fn error(&self) -> (&str, &str, &str) {
        let text = |name: &str| self.body["error"][name].as_str().unwrap_or_default();
        (text("type"), text("code"), text("decline_code"))
    }
}

impl Client {
    pub(crate) fn of(stripe: &Stripe) -> Self {
        Self { address: stripe.address(), authorization: Some(format!("Bearer {}", stripe.key())) }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, "").unwrap()
    }

    pub(crate) fn post(&self, path: &str, form: &str) -> Answer {
        self.ask("POST", path, None, form).unwrap()
    }

    pub(crate) fn post_with_key(&self, path: &str, key: &str, form: &str) -> Answer {
        self.ask("POST", path, Some(key), form).unwrap()
    }

    /// An intent of 1,000 pence or so that is captured by hand, confirmed at once.
    pub(crate) fn pay(&self, method: &str, amount: i64) -> Value {
        let answer = self.post("/v1/payment_intents", &payment(method, amount));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    /// One request; `None` where the connection ended without an answer.
    pub(crate) fn ask(&self, method: &str, path: &str, key: Option<&str>, form: &str) -> Option<Answer> {
        self.send(method, path, key, form).and_then(|stream| receive(stream).ok())
    }

    /// Sends one request and waits for nothing.
    pub(crate) fn send(&self, method: &str, path: &str, key: Option<&str>, form: &str) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = form.len();
        let header = |name: &str, value: Option<&str>| {
            value.map(|value| format!("{name}: {value}\r\n")).unwrap_or_default()
        };
        let head = [
            format!("{method} {path} HTTP/1.1\r\nHost: stripe\r\nConnection: close\r\n"),
            format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"),
            header("Authorization", self.authorization.as_deref()),
            header("Idempotency-Key", key),
        ];
        let head = head.concat();
        stream.write_all(format!("{head}\r\n{form}").as_bytes()).ok()?;
        Some(stream)
    }
}

/// The form of an intent that is captured by hand and confirmed at once.
pub(crate) fn payment(method: &str, amount: i64) -> String {
    format!(
        "amount={amount}&currency=gbp&capture_method=manual&confirm=true&payment_method={method}\
         &allowed_payment_method_types[0]=card&metadata[order]=ord_7"
    )
}

/// Reads one answer to its end.
pub(crate) fn receive(mut stream: TcpStream) -> std::io::Result<Answer> {
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).unwrap();
    let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(ended)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(ended)?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    Ok(Answer {
        status: status.parse().unwrap(),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        text: body.to_owned(),
        body: serde_json::from_str(body).unwrap_or_default(),
    })
}
