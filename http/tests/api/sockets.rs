//! The WebSocket twin of a cart's stream, spoken byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::harness::{Shop, delete, patch};

/// A WebSocket being spoken.
struct Socket {
    stream: TcpStream,
    head: String,
}

impl Socket {
    fn open(shop: &Shop, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(shop.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.local:1\r\n{upgrade}{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        Self { stream, head: String::from_utf8(head).unwrap().to_ascii_lowercase() }
    }

    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// Sends a frame, masked with zeros as a lazy client would.
    fn say(&mut self, opcode: u8, bytes: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match bytes.len() {
            length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(bytes);
        // The other side may have hung up already.
        let _ = self.stream.write_all(&frame);
    }

    /// The next frame: its opcode and what it says.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut more = [0; 2];
            self.stream.read_exact(&mut more).unwrap();
            length = usize::from(u16::from_be_bytes(more));
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        (head[0] & 0x0f, bytes)
    }

    fn event(&mut self) -> Value {
        let (opcode, bytes) = self.hear();
        assert_eq!(opcode, 1, "{}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap()
    }

    fn is_over(&mut self) -> bool {
        self.stream.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn open_shop() -> (Shop, (String, String), String) {
    let shop = Shop::open_with(|_| {}, |door| door.origins = vec!["https://shop.example".to_owned()]);
    shop.stock("TEE", 100);
    let cart = shop.cart(&[("TEE", 1)]);
    let path = format!("/v1/streams/carts/{}", cart.0);
    (shop, cart, path)
}

#[test]
fn a_socket_tells_what_the_stream_tells() {
    let (shop, cart, path) = open_shop();
    let mut socket = Socket::open(&shop, &path, &format!("Cart-Token: {}\r\n", cart.1));
    assert_eq!(socket.status(), "101", "{}", socket.head);
    let first = socket.event();
    assert_eq!(
        (&first["event"], &first["id"], &first["data"]["id"]),
        (&json!("cart"), &json!("1"), &json!(cart.0))
    );
    // Something was sent and then nothing for longer than a request's head may take: what a socket says is no head.
    socket.say(TEXT, b"nobody listens to this");
    std::thread::sleep(Duration::from_millis(5_800));
    for version in 2..10 {
        let change = patch(&format!("/v1/carts/{}/lines/1", cart.0)).token(&cart.1).fresh_key();
        shop.expect(change.json(json!({"quantity": version})), 200);
        let told = socket.event();
        assert_eq!((&told["id"], &told["data"]["version"]), (&json!(version.to_string()), &json!(version)));
    }
    socket.say(PING, b"there?");
    assert_eq!(socket.hear(), (PONG, b"there?".to_vec()));
    assert_eq!(shop.send(delete(&format!("/v1/carts/{}", cart.0)).token(&cart.1).fresh_key()).status, 204);
    assert_eq!(socket.event(), json!({"event": "end", "data": {"reason": "cart_deleted"}}));
    assert_eq!(socket.hear().0, CLOSE);
}

#[test]
fn a_browser_shows_its_token_as_a_protocol_and_comes_from_an_origin_that_may() {
    let (shop, cart, path) = open_shop();
    let token = format!("Sec-WebSocket-Protocol: doorbuster.v1, token.{}\r\n", cart.1);
    for (origin, status) in [
        ("", "101"),
        ("Origin: https://shop.example\r\n", "101"),
        ("Origin: http://shop.local:1\r\n", "101"),
        ("Origin: https://evil.example\r\n", "403"),
        ("Origin: null\r\n", "403"),
    ] {
        let mut socket = Socket::open(&shop, &path, &format!("{token}{origin}"));
        assert_eq!(socket.status(), status, "{origin}");
        if status == "101" {
            assert!(socket.head.contains("sec-websocket-protocol: doorbuster.v1\r\n"), "{}", socket.head);
            assert_eq!(socket.event()["event"], "cart");
        }
    }
    for wrong in ["", "Cart-Token: ct_0\r\n", "Sec-WebSocket-Protocol: doorbuster.v1, token.ct_0\r\n"] {
        assert_eq!(Socket::open(&shop, &path, wrong).status(), "404", "{wrong}");
    }
}

#[test]
fn a_frame_beyond_the_bound_or_a_farewell_ends_the_socket() {
    let (shop, cart, path) = open_shop();
    let token = format!("Cart-Token: {}\r\n", cart.1);
    let mut socket = Socket::open(&shop, &path, &token);
    socket.event();
    socket.say(TEXT, &vec![b'x'; (64 << 10) + 1]);
    let (opcode, _) = socket.hear();
    assert_eq!(opcode, CLOSE);
    let mut socket = Socket::open(&shop, &path, &token);
    socket.event();
    socket.say(CLOSE, b"");
    assert_eq!(socket.hear().0, CLOSE);
    assert!(socket.is_over());
    // The engine goes on for others.
    assert_eq!(Socket::open(&shop, &path, &token).event()["event"], "cart");
}
