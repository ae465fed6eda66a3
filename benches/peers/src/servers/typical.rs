//! The typical service: actix-web, a pool of connections, prepared statements, and a Postgres transaction that locks the
//! SKU's row, checks, books and commits. Written with care, as one would for a shop; it keeps the same promises as the
//! engine's reservations: durable, never oversold, one effect for one idempotency key.
//!
//! With `--one-statement` the transaction is one statement, which holds the row's lock for less than a round trip.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, Row};

use crate::servers::asked;

/// A service over Postgres, for comparison
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Port of 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Directory of Postgres' socket
    #[arg(long)]
    socket: PathBuf,
    /// The port in the socket's name
    #[arg(long)]
    postgres_port: u16,
    /// Connections to Postgres
    #[arg(long)]
    pool: usize,
    /// Book in one statement
    #[arg(long)]
    one_statement: bool,
}

const LOCK: &str = "SELECT id, on_hand - reserved FROM inventory WHERE sku = $1 FOR UPDATE";
const TAKE: &str = "UPDATE inventory SET reserved = reserved + $2 WHERE id = $1";
const BOOK: &str = "INSERT INTO reservation (idempotency_key, inventory_id, quantity, customer, expires_at) \
     VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) \
     RETURNING id, (extract(epoch FROM expires_at) * 1000)::bigint";
const TAKE_AND_BOOK: &str = "WITH taken AS (UPDATE inventory SET reserved = reserved + $3 \
     WHERE sku = $2 AND on_hand - reserved >= $3 RETURNING id) \
     INSERT INTO reservation (idempotency_key, inventory_id, quantity, customer, expires_at) \
     SELECT $1, id, $3, $4, now() + make_interval(secs => $5) FROM taken \
     RETURNING id, (extract(epoch FROM expires_at) * 1000)::bigint";
const BOOKED: &str =
    "SELECT id, (extract(epoch FROM expires_at) * 1000)::bigint FROM reservation WHERE idempotency_key = $1";
const AVAILABLE: &str = "SELECT on_hand - reserved FROM inventory WHERE sku = $1";

struct Shop {
    pool: Pool,
    one_statement: bool,
}

/// What is asked, checked.
struct Asked<'a> {
    key: &'a str,
    sku: &'a str,
    quantity: i64,
    customer: Option<&'a str>,
    ttl_s: f64,
}

/// What became of it.
enum Outcome {
    Booked { row: Row, replayed: bool },
    SoldOut { available: i64 },
    Unknown,
}

/// Why nothing became of it.
enum Fault {
    Pool(deadpool_postgres::PoolError),
    Postgres(tokio_postgres::Error),
}

impl From<deadpool_postgres::PoolError> for Fault {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl Shop {
    async fn reserve(&self, asked: &Asked<'_>) -> Result<Outcome, Fault> {
        let mut client = self.pool.get().await?;
        let booked = if self.one_statement {
            in_one_statement(&client, asked).await
        } else {
            in_a_transaction(&mut client, asked).await
        };
        match booked {
            // The key was there: the transaction was rolled back, and the first answer is given again.
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                let statement = client.prepare_cached(BOOKED).await?;
                let row = client.query_one(&statement, &[&asked.key]).await?;
                Ok(Outcome::Booked { row, replayed: true })
            }
            booked => Ok(booked?),
        }
    }

    async fn available(&self, sku: &str) -> Result<Option<i64>, Fault> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(AVAILABLE).await?;
        Ok(client.query_opt(&statement, &[&sku]).await?.map(|row| row.get(0)))
    }
}

async fn in_a_transaction(client: &mut Object, asked: &Asked<'_>) -> Result<Outcome, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let Some(locked) = transaction.query_opt(&lock, &[&asked.sku]).await? else {
        transaction.rollback().await?;
        return Ok(Outcome::Unknown);
    };
    let (id, available): (i32, i64) = (locked.get(0), locked.get(1));
    if available < asked.quantity {
        transaction.rollback().await?;
        return Ok(Outcome::SoldOut { available });
    }
    let (take, book) = (transaction.prepare_cached(TAKE).await?, transaction.prepare_cached(BOOK).await?);
    transaction.execute(&take, &[&id, &asked.quantity]).await?;
    let row = transaction
        .query_one(&book, &[&asked.key, &id, &asked.quantity, &asked.customer, &asked.ttl_s])
        .await?;
    transaction.commit().await?;
    Ok(Outcome::Booked { row, replayed: false })
}

async fn in_one_statement(client: &Object, asked: &Asked<'_>) -> Result<Outcome, tokio_postgres::Error> {
    let statement = client.prepare_cached(TAKE_AND_BOOK).await?;
    let row = client
        .query_opt(&statement, &[&asked.key, &asked.sku, &asked.quantity, &asked.customer, &asked.ttl_s])
        .await?;
    if let Some(row) = row {
        return Ok(Outcome::Booked { row, replayed: false });
    }
    let statement = client.prepare_cached(AVAILABLE).await?;
    let row = client.query_opt(&statement, &[&asked.sku]).await?;
    Ok(row.map_or(Outcome::Unknown, |row| Outcome::SoldOut { available: row.get(0) }))
}

fn problem(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    let body = serde_json::json!({
        "type": format!("/problems/{code}"), "status": status.as_u16(), "code": code, "detail": detail,
    });
    HttpResponse::build(status).content_type("application/problem+json").body(body.to_string())
}

async fn reserve(request: HttpRequest, body: Bytes, shop: web::Data<Shop>) -> HttpResponse {
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return problem(StatusCode::BAD_REQUEST, "idempotency_key_missing", "send an Idempotency-Key");
    };
    let parsed = match serde_json::from_slice::<asked::Reservation<'_>>(&body) {
        Ok(parsed) => parsed,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "malformed", &error.to_string()),
    };
    let [item] = parsed.items.as_slice() else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", "one item");
    };
    if item.quantity < 1 || parsed.key.is_some() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", "a quantity from 1");
    }
    let asked = Asked {
        key,
        sku: &item.sku,
        quantity: item.quantity,
        customer: parsed.customer.as_deref(),
        ttl_s: f64::from(parsed.ttl_s.unwrap_or(600)),
    };
    match shop.reserve(&asked).await {
        Ok(Outcome::Booked { row, replayed }) => {
            let (id, expires_at_ms): (i64, i64) = (row.get(0), row.get(1));
            let body = format!(
                r#"{{"id":"res_{id:032x}","state":"held","items":[{{"sku":"{}","quantity":{}}}],"expires_at_ms":{expires_at_ms}}}"#,
                item.sku, item.quantity
            );
            let mut response = HttpResponse::Created();
            if replayed {
                response.insert_header(("Idempotent-Replayed", "true"));
            }
            response.content_type("application/json").body(body)
        }
        Ok(Outcome::SoldOut { available }) => problem(
            StatusCode::CONFLICT,
            "insufficient_stock",
            &format!("{}: {} requested, {available} available", item.sku, item.quantity),
        ),
        Ok(Outcome::Unknown) => problem(StatusCode::NOT_FOUND, "not_found", "no such SKU"),
        Err(fault) => failed(&fault),
    }
}

async fn availability(sku: web::Path<String>, shop: web::Data<Shop>) -> HttpResponse {
    match shop.available(&sku).await {
        Ok(Some(available)) => HttpResponse::Ok()
            .content_type("application/json")
            .body(format!(r#"{{"sku":"{sku}","sellable":{available}}}"#)),
        Ok(None) => problem(StatusCode::NOT_FOUND, "not_found", "no such SKU"),
        Err(fault) => failed(&fault),
    }
}

fn failed(fault: &Fault) -> HttpResponse {
    let detail = match fault {
        Fault::Pool(error) => error.to_string(),
        Fault::Postgres(error) => error.to_string(),
    };
    problem(StatusCode::SERVICE_UNAVAILABLE, "overloaded", &detail)
}

/// Serves until a signal comes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut postgres = tokio_postgres::Config::new();
    postgres
        .host_path(&arguments.socket)
        .port(arguments.postgres_port)
        .user("postgres")
        .dbname("postgres")
        .application_name("typical");
    // A connection is handed on as it is, without a question to Postgres in between.
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(postgres, NoTls, config);
    let pool = Pool::builder(manager).max_size(arguments.pool).build()?;
    let shop = web::Data::new(Shop { pool, one_statement: arguments.one_statement });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shop.clone())
            .route("/v1/reservations", web::post().to(reserve))
            .route("/v1/skus/{sku}/availability", web::get().to(availability))
    })
    .shutdown_timeout(1)
    .bind((Ipv4Addr::LOCALHOST, arguments.port))?;
    actix_web::rt::System::new().block_on(server.run())?;
    Ok(())
}
