//! What a request costs in process: routing, the front door, JSON and the engine, without a socket.
//!
//! What a server adds to it is the kernel's sending and receiving. `Durability::Memory` leaves the disk out.

use std::cell::Cell;

use actix_rt::SystemRunner;
use actix_web::test::TestRequest;
use actix_web::web::Data;
use actix_web::{App, test};
use criterion::async_executor::AsyncExecutor;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use doorbuster_actors::{Engine, EngineOptions};
use doorbuster_http::door::{DoorOptions, FrontDoor};
use doorbuster_http::{metrics, routes};
use doorbuster_persistence::writer::Durability;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ADMIN_KEY: &str = "bench-admin-key";

/// Criterion's loop on the thread that is the engine's only worker.
struct Worker<'a>(&'a SystemRunner);

impl AsyncExecutor for Worker<'_> {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }
}

fn http(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let system = actix_rt::System::new();
    metrics::install_recorder();
    let mut options = EngineOptions::new(directory.path().join("data"));
    options.workers = 1;
    options.durability = Durability::Memory;
    let (engine, _) = Engine::start(options, &mut |_| {}).expect("an empty directory");
    let door_options = DoorOptions { admin_key: ADMIN_KEY.to_owned(), ..DoorOptions::default() };
    let door = Data::new(FrontDoor::new(engine.clone(), door_options));
    let application = system.block_on(async {
        engine.attach_worker();
        let application = test::init_service(App::new().app_data(door).configure(routes::configure)).await;
        let body = r#"{"name":"bench","price":{"amount":1999,"currency":"GBP"},"on_hand":1000000000}"#;
        let made = json(TestRequest::put().uri("/v1/admin/skus/BENCH"), "bench", body)
            .insert_header(("Authorization", format!("Bearer {ADMIN_KEY}")));
        assert_eq!(test::call_service(&application, made.to_request()).await.status(), 201);
        application
    });

    let mut group = criterion.benchmark_group("http");
    group.throughput(Throughput::Elements(1));
    let number = Cell::new(0_u64);
    group.bench_function("reserve", |bencher| {
        bencher.to_async(Worker(&system)).iter(|| async {
            number.set(number.get() + 1);
            let body = r#"{"items":[{"sku":"BENCH","quantity":1}]}"#;
            let request = json(TestRequest::post().uri("/v1/reservations"), &number.get().to_string(), body);
            assert_eq!(test::call_service(&application, request.to_request()).await.status(), 201);
        });
    });
    group.bench_function("availability", |bencher| {
        bencher.to_async(Worker(&system)).iter(|| async {
            let request = TestRequest::get().uri("/v1/skus/BENCH/availability").to_request();
            assert_eq!(test::call_service(&application, request).await.status(), 200);
        });
    });
    group.finish();
    system.block_on(engine.drain());
    engine.stop();
}

fn json(request: TestRequest, key: &str, body: &'static str) -> TestRequest {
    request
        .insert_header(("Idempotency-Key", key))
        .insert_header(("Content-Type", "application/json"))
        .set_payload(body)
}

criterion_group!(benches, http);
criterion_main!(benches);
