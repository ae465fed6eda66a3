//! Connections by hand: bytes through a pipe in memory, looks instead of time.

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use doorbuster_actors::{Engine, EngineOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::admission;
use crate::door::{DoorOptions, FrontDoor};
use crate::routes;

/// A client at one end of a pipe; the front door is at the other.
struct Client(DuplexStream);

/// An answer's status, its head in small letters, and its JSON.
type Answer = (u16, String, Value);

impl Client {
    async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
        // The other end is a task of this thread.
        give_way().await;
    }

    async fn read(&mut self) -> Answer {
        let mut received = vec![];
        let head_end = loop {
            if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            let mut byte = [0];
            let count = self.0.read(&mut byte).await.unwrap();
            assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&received));
            received.push(byte[0]);
        };
        let head = String::from_utf8(received[..head_end].to_vec()).unwrap().to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.lines().next().unwrap().trim().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn ask(&mut self, bytes: &str) -> Answer {
        self.send(bytes).await;
        self.read().await
    }

    /// Whether nothing has come.
    async fn hears_nothing(&mut self) -> bool {
        give_way().await;
        let mut byte = [0];
        let read = self.0.read(&mut byte);
        futures_util::FutureExt::now_or_never(read).is_none()
    }
}

async fn give_way() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Runs `story` with a maker of connections to a door of its own.
fn with_door<F: Future<Output = ()>>(story: impl FnOnce(Box<dyn Fn() -> Client>) -> F) {
    let directory = tempfile::tempdir().unwrap();
    actix_rt::System::new().block_on(async {
        let options = EngineOptions {
            workers: 1,
            segment_bytes: 1 << 20,
            ..EngineOptions::new(directory.path().join("data"))
        };
        let (engine, _) = Engine::start(options, &mut |_| {}).unwrap();
        engine.attach_worker();
        let options = DoorOptions { admin_key: "key".to_owned(), ..DoorOptions::default() };
        let door = web::Data::new(FrontDoor::new(engine.clone(), options));
        let application = App::new().app_data(door).configure(routes::configure);
        let application = application.into_factory().map_err(|error| error.error_response());
        let service = HttpService::build()
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(Duration::from_secs(1))
            .on_connect_ext(|socket: &Socket<DuplexStream>, data| socket.introduce(data))
            .h1(map_config(application, |()| AppConfig::default()))
            .new_service(())
            .await
            .unwrap();
        let service = Rc::new(service);
        limit(Duration::from_millis(200), Duration::from_secs(2));
        let connect = move || {
            let (near, far) = tokio::io::duplex(64 << 10);
            let served = service.call((Socket::new(far), None));
            actix_rt::spawn(async move {
                let _ = served.await;
            });
            Client(near)
        };
        story(Box::new(connect)).await;
        engine.stop();
    });
}

/// As many looks as a quarter of a second has, and those after which the slow are cut.
async fn let_looks_pass() {
    for _ in 0..40 {
        look(TICK);
    }
    give_way().await;
}

fn reserve(key: &str, quantity: u32) -> (String, String) {
    let body = format!("{{\"items\":[{{\"sku\":\"A\",\"quantity\":{quantity}}}]}}");
    let head = format!(
        "POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head, body)
}

const HEALTH: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
const NEW_SKU: &str = "PUT /v1/admin/skus/A HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\nIdempotency-Key: a\r\n\
    Content-Length: 64\r\n\r\n{\"name\":\"A\",\"price\":{\"amount\":1,\"currency\":\"GBP\"},\"on_hand\":100}";

#[test]
fn an_overloaded_door_refuses_from_the_head_alone_and_takes_the_same_key_afterwards() {
    with_door(|connect| async move {
        let mut client = connect();
        assert_eq!(client.ask(NEW_SKU).await.0, 201);
        let (head, body) = reserve("k", 1);
        admission::pretend(1.0);
        // The body is never sent: who waited for it would not answer.
        let (status, told, problem) = connect().ask(&head).await;
        assert_eq!(
            (status, &problem["code"], &problem["retryable"]),
            (503, &"overloaded".into(), &true.into())
        );
        assert!(told.contains("\r\nretry-after: 1") && told.contains("\r\nrequest-id: "), "{told}");
        assert_eq!(problem["instance"], "/v1/reservations");
        // A whole request leaves the connection as it was.
        for _ in 0..3 {
            assert_eq!(client.ask(&format!("{head}{body}")).await.0, 503);
        }
        admission::pretend(0.0);
        let (other_head, other_body) = reserve("k", 2);
        let (status, _, reservation) = client.ask(&format!("{other_head}{other_body}")).await;
        assert_eq!(
            (status, &reservation["items"][0]["quantity"]),
            (201, &2.into()),
            "the key was never claimed (law 4)"
        );
    });
}

#[test]
fn operators_are_always_answered_and_what_was_begun_until_the_last() {
    with_door(|connect| async move {
        let mut client = connect();
        assert_eq!(client.ask(NEW_SKU).await.0, 201);
        let (head, body) = reserve("k", 1);
        let (_, _, reservation) = client.ask(&format!("{head}{body}")).await;
        let id = reservation["id"].as_str().unwrap().to_owned();
        let read = format!("GET /v1/reservations/{id} HTTP/1.1\r\nHost: x\r\n\r\n");
        let stock = "GET /v1/admin/skus/A/stock HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n\r\n";
        let browse = "GET /v1/skus/A HTTP/1.1\r\nHost: x\r\n\r\n";
        for (pressure, browsing, begun) in [(0.0, 200, 200), (1.0, 503, 200), (2.0, 503, 503)] {
            admission::pretend(pressure);
            assert_eq!(client.ask(HEALTH).await.0, 200, "{pressure}");
            assert_eq!(client.ask(stock).await.0, 200, "{pressure}");
            assert_eq!(client.ask(browse).await.0, browsing, "{pressure}");
            assert_eq!(client.ask(&read).await.0, begun, "{pressure}");
        }
        admission::pretend(0.0);
    });
}

#[test]
fn a_head_that_drips_is_cut_the_first_of_a_connection_and_the_second() {
    with_door(|connect| async move {
        let (mut first, mut second, mut third) = (connect(), connect(), connect());
        give_way().await;
        assert_eq!(second.ask(HEALTH).await.0, 200);
        assert_eq!(third.ask(HEALTH).await.0, 200);
        first.send("GET /livez HTT").await;
        second.send("GET /livez HTTP/1.1\r\nX-").await;
        let_looks_pass().await;
        for client in [&mut first, &mut second] {
            let (status, head, problem) = client.read().await;
            assert_eq!(
                (status, &problem["code"], &problem["status"]),
                (408, &"deadline_exceeded".into(), &408.into())
            );
            assert!(head.contains("retry-after: 1") && head.contains("connection: close"), "{head}");
            assert_eq!(client.0.read(&mut [0]).await.unwrap(), 0, "and the connection is closed");
        }
        assert_eq!(third.ask(HEALTH).await.0, 200, "who is idle between two requests is let be");
    });
}

#[test]
fn who_connects_ahead_of_a_first_request_is_kept_like_anybody_idle_and_then_let_go_in_silence() {
    with_door(|connect| async move {
        let mut client = connect();
        give_way().await;
        let_looks_pass().await;
        assert_eq!(client.ask(HEALTH).await.0, 200, "longer ago than a head may take");
        let mut client = connect();
        give_way().await;
        for _ in 0..4 {
            let_looks_pass().await;
        }
        assert_eq!(client.0.read(&mut [0]).await.unwrap(), 0, "no status that could be taken for an answer");
    });
}

#[test]
fn what_waited_through_a_long_rest_is_refused_once_and_what_came_after_it_is_not() {
    with_door(|connect| async move {
        let browse = "GET /v1/skus HTTP/1.1\r\nHost: x\r\n\r\n";
        for (rest_ms, first) in [(60, 200), (100, 503), (3_000, 503)] {
            let mut client = connect();
            assert_eq!(client.ask(browse).await.0, 200);
            LINES.with(|lines| {
                let line = lines.all.borrow().last().and_then(Weak::upgrade).unwrap();
                lines.rest(&line, Duration::from_millis(rest_ms));
            });
            client.send(browse).await;
            // So low a pressure that chance alone would let it pass.
            admission::pretend(1e-12);
            look(Duration::from_millis(rest_ms));
            assert_eq!(client.read().await.0, first, "{rest_ms}");
            assert_eq!(client.ask(browse).await.0, 200, "{rest_ms}: but only once");
            admission::pretend(0.0);
        }
    });
}

#[test]
fn a_worker_that_was_stopped_cuts_nobody_for_it() {
    with_door(|connect| async move {
        let mut client = connect();
        client.send("GET /livez HTTP/1.1\r\n").await;
        // One look after an hour: the hour was the worker's own.
        look(Duration::from_secs(3_600));
        give_way().await;
        assert!(client.hears_nothing().await);
        assert_eq!(client.ask("Host: x\r\n\r\n").await.0, 200);
    });
}

#[test]
fn a_connection_at_rest_is_not_read_until_its_rest_is_over() {
    with_door(|connect| async move {
        let mut client = connect();
        assert_eq!(client.ask(HEALTH).await.0, 200);
        LINES.with(|lines| {
            let line = lines.all.borrow().last().and_then(Weak::upgrade).unwrap();
            lines.rest(&line, Duration::from_millis(100));
        });
        client.send(HEALTH).await;
        for _ in 0..4 {
            look(TICK);
            assert!(client.hears_nothing().await);
        }
        look(TICK);
        assert_eq!(client.read().await.0, 200);
        // The longest rest ends too, also when the looks come late.
        LINES.with(|lines| {
            let line = lines.all.borrow().last().and_then(Weak::upgrade).unwrap();
            lines.rest(&line, REST_MAX);
        });
        client.send(HEALTH).await;
        look(Duration::from_millis(3_980));
        assert!(client.hears_nothing().await);
        look(TICK * 3);
        assert_eq!(client.read().await.0, 200);
        // At once, when all that is left of a longest rest is let pass, as a shutdown does.
        LINES.with(|lines| {
            let line = lines.all.borrow().last().and_then(Weak::upgrade).unwrap();
            lines.rest(&line, REST_MAX);
        });
        client.send(HEALTH).await;
        look(TICK + REST_MAX);
        assert_eq!(client.read().await.0, 200);
    });
}

#[test]
fn what_a_slow_head_is_told_is_whole() {
    let text = std::str::from_utf8(TOO_SLOW).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    let told: Value = serde_json::from_str(body).unwrap();
    assert_eq!(told["type"], crate::problem::Code::DeadlineExceeded.page());
    assert_eq!(told["title"], crate::problem::Code::DeadlineExceeded.title());
}
