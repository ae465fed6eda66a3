//! Sessions: what they are called, and that nobody waits for ever.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use doorbuster_postgres::error::PostgresError;
use doorbuster_postgres::settings::DatabaseSettings;
use doorbuster_servers::postgres::Postgres;
use tokio_postgres::error::SqlState;

use crate::support::{Database, run};

#[test]
fn a_session_says_who_it_is_and_when_it_gives_up() {
    let database = Database::new();
    run(async {
        let settings = database.settings().with_patience(1_500, Duration::from_secs(5));
        let connection = settings.named("doorbuster projector").connect().await.unwrap();
        let sql = "SELECT current_setting('application_name'), current_setting('statement_timeout'), \
                   current_setting('lock_timeout'), current_setting('TimeZone')";
        let row = connection.within("asking", connection.client().query_one(sql, &[])).await.unwrap();
        let seen: Vec<String> = (0..4).map(|index| row.get(index)).collect();
        assert_eq!(seen, ["doorbuster projector", "1500ms", "1500ms", "UTC"]);
        let slow =
            connection.within("dawdling", connection.client().batch_execute("SELECT pg_sleep(9)")).await;
        let error = slow.unwrap_err();
        assert_eq!(error.code().map(SqlState::code), Some("57014"), "{error}");
    });
}

#[test]
fn a_place_where_nobody_is_says_so_without_the_password() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = DatabaseSettings::parse(&format!("postgres://a:s3cret@127.0.0.1:{port}/b"), "x").unwrap();
    let error = run(settings.connect()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PostgresError::Connect { .. }), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}/b")) && text.contains("refused"), "{text}");
    assert!(!text.contains("s3cret") && !format!("{error:?}").contains("s3cret"), "{text}");
}

#[test]
fn a_paused_server_is_given_up_and_found_again() {
    let server = Postgres::start().unwrap();
    let settings = DatabaseSettings::parse(&server.url("postgres"), "doorbuster test").unwrap();
    let settings = settings.with_patience(300, Duration::from_millis(600));
    run(async {
        let connection = settings.connect().await.unwrap();
        server.pause();
        let began = Instant::now();
        let silent = connection.within("asking", connection.client().batch_execute("SELECT 1")).await;
        assert!(matches!(silent, Err(PostgresError::Deadline { what: "asking", .. })), "{silent:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drop(connection);
        server.resume();
        let again = settings.connect().await.unwrap();
        again.within("asking", again.client().batch_execute("SELECT 1")).await.unwrap();
    });
}
