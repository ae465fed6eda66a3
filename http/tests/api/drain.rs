//! Shutting down and starting up under load: whoever was let in is answered, everybody else is refused at the door.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use doorbuster_http::server;

use super::command::Served;
use super::harness::eventually;

/// What became of all the connections of one knocking client.
#[derive(Debug, Default)]
struct Knocks {
    answered: u64,
    succeeded: u64,
    /// Let in, and then cut without an answer.
    cut: Vec<String>,
}

/// Reads one whole response; its status, and whether the connection stays open.
fn response(stream: &mut TcpStream) -> std::io::Result<(u16, bool)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Ok((status, !head.contains("connection: close")));
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed without an answer")),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Reserves over and over until the door is closed, on kept connections or on a new one each time.
fn knock(address: &str, name: usize, keeps: bool) -> Knocks {
    let mut knocks = Knocks::default();
    let mut kept: Option<TcpStream> = None;
    let body = r#"{"items":[{"sku":"TEE-M","quantity":1}]}"#;
    for number in 0.. {
        let connection = match kept.take() {
            Some(connection) => Ok(connection),
            None => TcpStream::connect(address),
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                return knocks;
            }
        };
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let wish = if keeps { "" } else { "Connection: close\r\n" };
        let request = format!(
            "POST /v1/reservations HTTP/1.1\r\nHost: x\r\n{wish}Idempotency-Key: {name}-{number}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        match connection.write_all(request.as_bytes()).and_then(|()| response(&mut connection)) {
            Ok((status, stays)) => {
                knocks.answered += 1;
                knocks.succeeded += u64::from(status == 201);
                if keeps && stays {
                    kept = Some(connection);
                }
            }
            Err(error) => knocks.cut.push(format!("request {number}: {error}")),
        }
    }
    knocks
}

#[test]
fn a_drain_answers_or_refuses_every_connection_and_cuts_none() {
    for round in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let mut served = Served::start(&directory.path().join("data"), &["--demo"]);
        let address = served.address.clone();
        let knockers: Vec<_> = (0..12)
            .map(|name| {
                let address = address.clone();
                std::thread::spawn(move || knock(&address, name, name % 3 == 0))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(400));
        served.signal("-TERM");
        assert_eq!(served.child.wait().unwrap().code(), Some(0));
        let all: Vec<Knocks> = knockers.into_iter().map(|knocker| knocker.join().unwrap()).collect();
        let answered: u64 = all.iter().map(|knocks| knocks.answered).sum();
        assert!(all.iter().all(|knocks| knocks.succeeded > 0), "everybody was served: {all:?}");
        let cut: Vec<&String> = all.iter().flat_map(|knocks| &knocks.cut).collect();
        assert!(cut.is_empty(), "round {round}: of {answered} answers beside, {} cut: {cut:?}", cut.len());
    }
}

/// While the engine recovers another server answers on the same socket; nobody may fall between the two.
#[test]
fn a_server_hands_its_socket_over_without_cutting_anybody() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (done, until_done) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let mut current = server::recovering(listener.try_clone().unwrap()).unwrap();
            let mut handle = current.handle();
            actix_web::rt::spawn(current);
            for _ in 0..5 {
                actix_web::rt::time::sleep(Duration::from_millis(100)).await;
                current = server::recovering(listener.try_clone().unwrap()).unwrap();
                let next = current.handle();
                server::hand_over(handle).await;
                actix_web::rt::spawn(current);
                handle = next;
            }
            let doorway = server::Doorway::of(&listener).unwrap();
            drop(listener);
            doorway.close().await;
            handle.stop(true).await;
            let _ = until_done.await;
        });
    });
    let knockers: Vec<_> = (0..6)
        .map(|name| {
            let address = address.clone();
            std::thread::spawn(move || knock(&address, name, false))
        })
        .collect();
    let all: Vec<Knocks> = knockers.into_iter().map(|knocker| knocker.join().unwrap()).collect();
    drop(done);
    serving.join().unwrap();
    assert!(all.iter().all(|knocks| knocks.answered > 10 && knocks.cut.is_empty()), "{all:?}");
}

#[test]
fn a_hangup_drains_like_a_termination() {
    let directory = tempfile::tempdir().unwrap();
    // Whoever runs the tests under `nohup` ignores hangups, and so would the server.
    let mut heedful = Command::new("env");
    heedful.arg("--default-signal=HUP");
    let mut served = Served::start_with(heedful, &directory.path().join("data"), &["--demo"]);
    served.signal("-HUP");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn nohup_keeps_it_running_when_its_terminal_goes() {
    let directory = tempfile::tempdir().unwrap();
    let mut served = Served::start_with(Command::new("nohup"), &directory.path().join("data"), &["--demo"]);
    served.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(served.ask("GET /readyz", "").0, 200);
    served.signal("-TERM");
    eventually("an end", || served.child.try_wait().unwrap().and_then(|ended| ended.code()));
}
