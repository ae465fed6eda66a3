//! A running engine behind a real socket, and a client that can also send what no client library would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::web;
use doorbuster_actors::{Engine, EngineOptions, Readiness};
use doorbuster_gateways::Fake;
use doorbuster_http::door::{DoorOptions, FrontDoor};
use doorbuster_http::metrics;
use doorbuster_http::server::{self, ServerOptions};
use serde_json::{Value, json};

/// The admin key of every test.
pub(crate) const ADMIN_KEY: &str = "test-admin-key";

/// A shop that is open until it is dropped.
pub(crate) struct Shop {
    address: SocketAddr,
    stop: tokio::sync::mpsc::UnboundedSender<()>,
    thread: Option<JoinHandle<()>>,
    directory: Option<tempfile::TempDir>,
}

impl Shop {
    /// A new shop with the usual options.
    pub(crate) fn open() -> Self {
        Self::open_with(|_| {}, |_| {})
    }

    /// A new shop with other options.
    pub(crate) fn open_with(
        engine: impl FnOnce(&mut EngineOptions),
        door: impl FnOnce(&mut DoorOptions),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::open_in(directory, engine, door)
    }

    fn open_in(
        directory: tempfile::TempDir,
        change_engine: impl FnOnce(&mut EngineOptions),
        change_door: impl FnOnce(&mut DoorOptions),
    ) -> Self {
        metrics::install_recorder();
        let data: PathBuf = directory.path().join("data");
        let mut options = EngineOptions {
            workers: 2,
            segment_bytes: 4 << 20,
            providers: vec![Arc::new(Fake::new(doorbuster_gateways::fake::Options {
                slow_ms: 100,
                timeout_ms: 60_000,
            }))],
            ..EngineOptions::new(data)
        };
        options.limits.payment_deadline = Duration::from_millis(300);
        change_engine(&mut options);
        let mut door_options = DoorOptions {
            admin_key: ADMIN_KEY.to_owned(),
            providers: vec!["fake".to_owned()],
            body_timeout_ms: 500,
            // A build server's other work is no overload; that has tests of its own.
            lag_target_ms: 60_000,
            ..DoorOptions::default()
        };
        change_door(&mut door_options);
        let (told, address) = mpsc::channel();
        let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel::<()>();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let listener = server::listen("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let workers = options.workers;
                let (engine, _) = Engine::start(options, &mut |_| {}).unwrap();
                let door = web::Data::new(FrontDoor::new(engine.clone(), door_options));
                let server_options = ServerOptions {
                    workers,
                    cors_origins: vec!["https://shop.example".to_owned()],
                    shutdown_timeout_s: 2,
                    ..ServerOptions::default()
                };
                let server = server::public(door, listener, &server_options).unwrap();
                let handle = server.handle();
                let running = actix_rt::spawn(server);
                while engine.readiness() == Readiness::Recovering {
                    actix_rt::time::sleep(Duration::from_millis(1)).await;
                }
                told.send(address).unwrap();
                stopped.recv().await;
                engine.begin_drain();
                engine.drain().await;
                handle.stop(true).await;
                let _ = running.await;
                engine.stop();
            });
        });
        let address = address.recv_timeout(Duration::from_secs(30)).expect("the shop opens");
        Self { address, stop, thread: Some(thread), directory: Some(directory) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn close(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the shop closes in order");
        }
    }

    /// Closes the shop in order and opens it again on the same directory.
    pub(crate) fn reopened(self) -> Self {
        self.reopened_with(|_| {})
    }

    /// The same with other options.
    pub(crate) fn reopened_with(mut self, door: impl FnOnce(&mut DoorOptions)) -> Self {
        self.close();
        let directory = self.directory.take().unwrap();
        Self::open_in(directory, |_| {}, door)
    }

    /// A connection that is kept.
    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// Sends one request on a connection of its own.
    pub(crate) fn send(&self, request: Request) -> Answer {
        self.connect().send(request)
    }

    /// Sends a request that must be answered with this status; its JSON.
    pub(crate) fn expect(&self, request: Request, status: u16) -> Value {
        let line = format!("{} {}", request.method, request.path);
        let answer = self.send(request);
        assert_eq!(answer.status, status, "{line}: {}", answer.text());
        answer.json()
    }

    /// Sends a request that must be refused with this problem, told in full.
    pub(crate) fn refused(&self, request: Request, status: u16, code: &str) -> Value {
        let line = format!(
            "{} {} {}",
            request.method,
            request.path,
            String::from_utf8_lossy(&request.body[..request.body.len().min(200)])
        );
        let answer = self.send(request);
        check_problem(&line, &answer, status, code)
    }

    /// Makes a SKU with this many units.
    pub(crate) fn stock(&self, sku: &str, units: i64) {
        self.priced(sku, units, 1_000);
    }

    /// Makes a SKU with this many units at this price in pence.
    pub(crate) fn priced(&self, sku: &str, units: i64, price: i64) {
        let body = json!({"name": format!("The {sku}"), "price": {"amount": price, "currency": "GBP"}, "on_hand": units});
        let path = format!("/v1/admin/skus/{}", sku.replace(' ', "%20"));
        self.expect(put(&path).admin().fresh_key().json(body), 201);
    }

    /// A SKU's stock, its laws checked.
    pub(crate) fn stock_of(&self, sku: &str) -> Value {
        let stock = self.expect(get(&format!("/v1/admin/skus/{sku}/stock")).admin(), 200);
        let n = |name: &str| stock[name].as_i64().unwrap();
        assert_eq!(n("received"), n("on_hand") + n("sold"), "law 1: {stock}");
        assert_eq!(n("available"), n("on_hand") - n("reserved"), "law 1: {stock}");
        assert!(n("sellable") >= 0 && n("reserved") >= 0 && n("sold") >= 0, "law 1: {stock}");
        stock
    }

    /// A cart with these lines: its id and token.
    pub(crate) fn cart(&self, lines: &[(&str, i64)]) -> (String, String) {
        let items: Vec<_> =
            lines.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
        let cart = self.expect(post("/v1/carts").json(json!({"items": items})), 201);
        (cart["id"].as_str().unwrap().to_owned(), cart["token"].as_str().unwrap().to_owned())
    }

    /// A request to check a cart out with this payment method.
    pub(crate) fn checkout(cart: &(String, String), method: &str) -> Request {
        let body = json!({"email": "ada@example.com", "payment": {"provider": "fake", "method": method}});
        post(&format!("/v1/carts/{}/checkout", cart.0)).token(&cart.1).fresh_key().json(body)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.close();
    }
}

/// Checks a problem in every part that all problems have.
pub(crate) fn check_problem(line: &str, answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{line}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{line}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{line}: {problem}");
    assert_eq!(problem["status"], status, "{line}");
    let told = answer.header("request-id");
    assert_eq!(problem["request_id"].as_str(), if status == 402 { None } else { told }, "{line}");
    assert!(problem["type"].as_str().unwrap().starts_with("/problems/"), "{line}");
    assert!(
        !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty(),
        "{line}"
    );
    assert_eq!(
        problem["retryable"] == true,
        answer.header("retry-after").is_some() || code == "payment_declined" && problem["retryable"] == true,
        "{line}: {problem}"
    );
    problem
}

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn request(method: &'static str, path: &str) -> Request {
    Request { method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
}

pub(crate) fn get(path: &str) -> Request {
    request("GET", path)
}

pub(crate) fn head(path: &str) -> Request {
    request("HEAD", path)
}

pub(crate) fn post(path: &str) -> Request {
    request("POST", path)
}

pub(crate) fn put(path: &str) -> Request {
    request("PUT", path)
}

pub(crate) fn patch(path: &str) -> Request {
    request("PATCH", path)
}

pub(crate) fn delete(path: &str) -> Request {
    request("DELETE", path)
}

impl Request {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn admin(self) -> Self {
        self.header("Authorization", &format!("Bearer {ADMIN_KEY}"))
    }

    /// The cart's token, instead of one given before.
    pub(crate) fn token(mut self, token: &str) -> Self {
        self.headers.retain(|(name, _)| name != "Cart-Token");
        self.header("Cart-Token", token)
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    /// A key that nobody used.
    pub(crate) fn fresh_key(self) -> Self {
        let key = uuid::Uuid::new_v4().to_string();
        self.key(&key)
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    pub(crate) fn body(mut self, kind: &str, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Type", kind)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let sends_body = !self.body.is_empty() || matches!(self.method, "POST" | "PUT" | "PATCH");
        if sends_body && !self.headers.iter().any(|(name, _)| name == "Content-Length") {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// A reply as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }
}

/// A connection, kept from request to request.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, request: Request) -> Answer {
        self.write(&request.bytes());
        self.read()
    }

    /// Sends bytes as they are. The other side may have refused and closed already.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.reader.get_mut().write_all(bytes);
    }

    /// Sends a request whose answer has a head only, whatever length it tells.
    pub(crate) fn send_for_head(&mut self, request: Request) -> Answer {
        self.write(&request.bytes());
        self.read_head()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// Whether the other side has closed; waits for it.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.reader.read(&mut [0]).is_ok_and(|read| read == 0)
    }

    pub(crate) fn read(&mut self) -> Answer {
        let answer = self.read_head();
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        Answer { body, ..answer }
    }

    fn read_head(&mut self) -> Answer {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let status =
            line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Answer { status, headers, body: Vec::new() }
    }
}

/// Asks again until `look` finds what it waits for. Time is the engine's here, so the test waits for its effects.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not happen in ten seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}
