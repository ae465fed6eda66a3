//! The no-op: actix-web with nothing around it, which reads the same bodies and answers others of the same size. What it
//! does a second is the most that HTTP leaves to anybody here.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};

use crate::answers::Answers;
use crate::generator::requests::SOLD_OUT;
use crate::servers::asked;

/// A bare server, for comparison
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Port of 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Worker threads
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// What it answers: a directory of JSON files
    #[arg(long)]
    answers: PathBuf,
}

/// The answers as bytes that are shared, not copied.
#[derive(Clone)]
struct Bodies {
    reservation: Bytes,
    refusal: Bytes,
    availability: Bytes,
    batch: Bytes,
    cart: Bytes,
    lines: Bytes,
    order: Bytes,
}

fn reply(status: StatusCode, body: &Bytes) -> HttpResponse {
    let mut response = HttpResponse::with_body(status, body.clone());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.map_into_boxed_body()
}

/// Parses the body, and answers 400 where it is not as it should be: then the run is void.
macro_rules! parsed {
    ($type:ty, $body:expr) => {
        match serde_json::from_slice::<$type>(&$body) {
            Ok(parsed) => std::hint::black_box(parsed),
            Err(error) => return HttpResponse::BadRequest().body(error.to_string()),
        }
    };
}

async fn reserve(body: Bytes, bodies: web::Data<Bodies>) -> HttpResponse {
    let asked = parsed!(asked::Reservation<'_>, body);
    let ended = asked.items.first().is_some_and(|item| item.sku == SOLD_OUT && item.quantity > 0);
    std::hint::black_box((asked.ttl_s, asked.customer, asked.key));
    if ended {
        reply(StatusCode::CONFLICT, &bodies.refusal)
    } else {
        reply(StatusCode::CREATED, &bodies.reservation)
    }
}

async fn reserve_many(body: Bytes, bodies: web::Data<Bodies>) -> HttpResponse {
    let asked = parsed!(asked::Batch<'_>, body);
    std::hint::black_box(asked.requests.len());
    reply(StatusCode::OK, &bodies.batch)
}

async fn availability(bodies: web::Data<Bodies>) -> HttpResponse {
    reply(StatusCode::OK, &bodies.availability)
}

async fn create_cart(body: Bytes, bodies: web::Data<Bodies>) -> HttpResponse {
    std::hint::black_box(parsed!(asked::Cart<'_>, body).currency);
    reply(StatusCode::CREATED, &bodies.cart)
}

async fn add_line(body: Bytes, bodies: web::Data<Bodies>) -> HttpResponse {
    std::hint::black_box(parsed!(asked::Item<'_>, body).sku);
    reply(StatusCode::OK, &bodies.lines)
}

async fn check_out(body: Bytes, bodies: web::Data<Bodies>) -> HttpResponse {
    let asked = parsed!(asked::Checkout<'_>, body);
    std::hint::black_box((asked.email, asked.payment.provider, asked.payment.method));
    reply(StatusCode::CREATED, &bodies.order)
}

async fn order(bodies: web::Data<Bodies>) -> HttpResponse {
    reply(StatusCode::OK, &bodies.order)
}

/// Serves until a signal comes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let answers = Answers::read(&arguments.answers)?;
    let bodies = Bodies {
        reservation: answers.reservation.into(),
        refusal: answers.refusal.into(),
        availability: answers.availability.into(),
        batch: answers.batch.into(),
        cart: answers.cart.into(),
        lines: answers.lines.into(),
        order: answers.order.into(),
    };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(bodies.clone()))
            .route("/v1/reservations", web::post().to(reserve))
            .route("/v1/reservations/batch", web::post().to(reserve_many))
            .route("/v1/skus/{sku}/availability", web::get().to(availability))
            .route("/v1/carts", web::post().to(create_cart))
            .route("/v1/carts/{id}/lines", web::post().to(add_line))
            .route("/v1/carts/{id}/checkout", web::post().to(check_out))
            .route("/v1/orders/{id}", web::get().to(order))
    })
    .workers(arguments.workers)
    .shutdown_timeout(1)
    .bind((Ipv4Addr::LOCALHOST, arguments.port))?;
    actix_web::rt::System::new().block_on(server.run())?;
    Ok(())
}
