//! Sessions: what they are called, and that nobody waits for ever.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
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

#[test]
fn an_encrypted_connection_is_verified_where_that_is_asked_for() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../http/tests/data/tls");
    let own = tempfile::tempdir().unwrap();
    let (certificate, key) = (own.path().join("certificate.pem"), own.path().join("key.pem"));
    std::fs::copy(files.join("certificate.pem"), &certificate).unwrap();
    std::fs::copy(files.join("key.pem"), &key).unwrap();
    // Postgres wants its key for itself, and runs as whoever owns the cluster.
    let owner = std::fs::metadata(own.path()).unwrap();
    let user = doorbuster_servers::postgres::user().map(|name| {
        let output = std::process::Command::new("id").args(["-u", name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().unwrap()
    });
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    chown(&key, Some(user.unwrap_or(owner.uid())), None).unwrap();
    let (certificate_setting, key_setting) =
        (format!("ssl_cert_file={}", certificate.display()), format!("ssl_key_file={}", key.display()));
    let server = Postgres::start_with(&["ssl=on", &certificate_setting, &key_setting]).unwrap();
    let place =
        |host: &str, more: &str| format!("postgres://postgres@{host}:{}/postgres?{more}", server.port());
    let root = certificate.display();
    let other = own.path().join("other.pem");
    std::fs::write(&other, "no certificate").unwrap();
    for (host, words, told) in [
        ("127.0.0.1", "sslmode=require".to_owned(), "t"),
        ("127.0.0.1", "sslmode=prefer".to_owned(), "t"),
        ("127.0.0.1", "sslmode=disable".to_owned(), "f"),
        ("localhost", format!("sslmode=verify-full&sslrootcert={root}"), "t"),
        (
            "other.example",
            format!("hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={root}"),
            "not valid for name",
        ),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={}", other.display()), "no certificate"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=/nowhere/ca.pem".to_owned(), "No such file"),
    ] {
        let seen = run(async {
            let connection = DatabaseSettings::parse(&place(host, &words), "test").unwrap().connect().await?;
            let sql = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let row = connection.within("asking", connection.client().query_one(sql, &[])).await?;
            Ok::<String, PostgresError>(row.get::<_, String>(0)[..1].to_owned())
        });
        let seen = seen.unwrap_or_else(|error| error.to_string());
        assert!(seen.contains(told), "{host} {words}: {seen}");
    }
}
