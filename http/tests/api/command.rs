//! The binary itself: bad days end in one sentence and a documented exit code, good ones in 0.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn doorbuster(arguments: &[&str]) -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_doorbuster")), arguments)
}

fn clean(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    // The tests' own settings must not depend on the shell they are run from.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("DOORBUSTER_")
            || name == "DATABASE_URL"
            || name == "REDIS_URL"
            || name.starts_with("STRIPE_")
        {
            command.env_remove(&*name);
        }
    }
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    doorbuster(arguments).output().unwrap()
}

/// Checks that a command ends with this code and one sentence that has these words.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    let lines: Vec<_> = told.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
}

/// A served engine, killed when dropped.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Served {
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::spawn(doorbuster(&[]), data, more)
    }

    /// Starts it by another command, such as `nohup`.
    pub(crate) fn start_with(mut command: Command, data: &Path, more: &[&str]) -> Self {
        command.arg(env!("CARGO_BIN_EXE_doorbuster"));
        Self::spawn(command, data, more)
    }

    fn spawn(command: Command, data: &Path, more: &[&str]) -> Self {
        // A free port: taken, told, and given back just before the engine takes it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut arguments = vec![
            "serve",
            "--data",
            data.to_str().unwrap(),
            "--listen",
            &address,
            "--admin-key",
            "command-test",
            "--segment-mib",
            "4",
        ];
        arguments.extend(more);
        let mut child =
            clean(command, &arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = lines.by_ref().map_while(Result::ok).any(|line| line.contains("\"serving\""));
        assert!(serving, "it serves");
        let log = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        Self { child, address, log }
    }

    /// Sends a request; status and body.
    pub(crate) fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer command-test\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or("").to_owned())
    }

    /// What it has logged since it serves.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_port_in_use_is_told_and_nothing_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = directory.path().join("data");
    refused(&["serve", "--data", data.to_str().unwrap(), "--listen", &address], 69, &["in use", "--listen"]);
    assert!(!data.exists());
}

#[test]
fn two_engines_never_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let first = Served::start(&data, &[]);
    let path = data.to_str().unwrap();
    refused(&["serve", "--data", path, "--listen", "127.0.0.1:0"], 75, &["already runs", "--data"]);
    refused(&["verify", "--data", path], 75, &["already runs"]);
    assert_eq!(first.ask("GET /readyz", "").0, 200);
}

#[test]
fn a_directory_that_cannot_be_used_is_told_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let below = file.join("data");
    refused(
        &["serve", "--data", below.to_str().unwrap(), "--listen", "127.0.0.1:0"],
        73,
        &["cannot write", "--data"],
    );
    let nothing = directory.path().join("nothing");
    refused(&["verify", "--data", nothing.to_str().unwrap()], 66, &["not a data directory"]);
    let newer = directory.path().join("newer");
    drop(Served::start(&newer, &[]));
    let format = newer.join("FORMAT");
    let text = std::fs::read_to_string(&format).unwrap();
    let line = text.lines().find(|line| line.starts_with("format ")).unwrap();
    std::fs::write(&format, text.replace(line, "format 99")).unwrap();
    refused(
        &["serve", "--data", newer.to_str().unwrap(), "--listen", "127.0.0.1:0"],
        76,
        &["99", "newer engine"],
    );
}

#[test]
fn wrong_settings_are_told_before_anything_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let config = directory.path().join("doorbuster.toml");
    std::fs::write(&config, "lisen = \"x\"\n").unwrap();
    let data_text = data.to_str().unwrap();
    refused(
        &["serve", "--data", data_text, "--config", config.to_str().unwrap()],
        2,
        &["unknown setting `lisen`", "listen"],
    );
    let tls = [
        "serve",
        "--data",
        data_text,
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        "/nowhere",
        "--tls-key",
        "/nowhere",
    ];
    refused(&tls, 78, &["/nowhere", "--tls-cert"]);
    for (flags, words) in [
        (["--rate-limits", "/nowhere"], ["/nowhere", "production"]),
        (["--rate-limits", config.to_str().unwrap()], ["doorbuster.toml", "lisen"]),
    ] {
        refused(&["serve", "--data", data_text, flags[0], flags[1]], 78, &words);
    }
    let proxy =
        ["serve", "--data", data_text, "--rate-limits", "production", "--trusted-proxy", "10.0.0.0/33"];
    refused(&proxy, 78, &["--trusted-proxy", "10.0.0.0/33"]);
    assert!(!data.exists());
    for (flag, value) in [
        ("--connections-max", "0"),
        ("--in-flight-max", "0"),
        ("--request-deadline-ms", "0"),
        ("--head-timeout-ms", "0"),
        ("--body-timeout-ms", "0"),
        ("--workers", "0"),
    ] {
        let output = run(&["serve", "--data", data_text, flag, value]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flag}: {told}");
        assert!(told.contains(flag) && told.contains("is not in 1.."), "{flag}: {told}");
    }
    assert!(!data.exists());
    assert_eq!(run(&["serve", "--nonsense"]).status.code(), Some(2));
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("Exit codes") && help.contains("75"), "{help}");
}

#[test]
fn an_acknowledged_reservation_survives_a_kill_and_a_shutdown_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let body = r#"{"items":[{"sku":"TEE-M","quantity":2}]}"#;
    let first = {
        let served = Served::start(&data, &["--demo"]);
        let first = served.ask("POST /v1/reservations", body);
        assert_eq!(first.0, 201, "{}", first.1);
        served.signal("-KILL");
        first
    };
    let mut served = Served::start(&data, &["--demo", "--admin-listen", "127.0.0.1:0"]);
    assert_eq!(served.ask("POST /v1/reservations", body), first, "the same key gets the same bytes");
    let (_, stock) = served.ask("GET /v1/admin/skus/TEE-M/stock", "");
    assert!(stock.contains("\"reserved\":2"), "{stock}");
    served.signal("-TERM");
    let ended = served.child.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "{ended}");
    let verify = run(&["verify", "--data", data.to_str().unwrap(), "--json"]);
    assert_eq!(verify.status.code(), Some(0), "{}", String::from_utf8_lossy(&verify.stdout));
    let report: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
    assert_eq!(report["problems"], serde_json::json!([]));
    assert!(report["records"].as_u64().unwrap() >= 13, "{report}");
    // The form that docs/formats.md promises.
    assert_eq!((&report["schema"], &report["sound"]), (&serde_json::json!(1), &serde_json::json!(true)));
    let laws = report["laws"].as_array().unwrap();
    assert_eq!(laws.len(), 11);
    for (law, number) in laws.iter().zip(1..) {
        assert_eq!(law["law"], number, "{law}");
        assert!(law["text"].is_string() && law["events"].is_u64() && law["checks"].is_u64(), "{law}");
        assert!(law["checked"].is_string() || law["not_seen"].is_string(), "{law}");
    }
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats.md")).unwrap();
    for field in report.as_object().unwrap().keys().chain(laws[0].as_object().unwrap().keys()) {
        assert!(page.contains(&format!("`{field}`")), "docs/formats.md lacks {field}");
    }
}

#[test]
fn the_demo_shop_is_there_with_demo_alone_and_never_in_production() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for (options, status) in [(&[][..], 404), (&["--demo"], 200), (&["--demo", "--production"], 404)] {
        let served = Served::start(&data, options);
        for path in ["/demo", "/demo/state"] {
            assert_eq!(served.ask(&format!("GET {path}"), "").0, status, "{options:?}: {path}");
        }
    }
}

#[test]
fn the_doctor_tells_what_stands_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let sick = run(&["doctor", "--json", "--data", data.to_str().unwrap(), "--listen", &address]);
    assert_eq!(sick.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&sick.stdout).unwrap();
    let address_check =
        report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "address").unwrap();
    assert_eq!(
        (&report["fit"], &address_check["finding"]),
        (&serde_json::json!(false), &serde_json::json!("bad"))
    );
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "the doctor leaves nothing behind: {left:?}");
}

#[test]
fn a_shutdown_tells_the_balancer_first_and_a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut served = Served::start(&directory.path().join("data"), &["--demo", "--drain-delay-ms", "60000"]);
    assert_eq!(served.ask("GET /readyz", "").0, 200);
    served.signal("-TERM");
    super::harness::eventually("draining", || (served.ask("GET /readyz", "").0 == 503).then_some(()));
    let body = r#"{"items":[{"sku":"TEE-M","quantity":2}]}"#;
    assert_eq!(
        served.ask("POST /v1/reservations", body).0,
        201,
        "whoever still comes is served during the delay"
    );
    let mut kept = TcpStream::connect(&served.address).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).expect("no connection is kept open to be cut later");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    served.signal("-INT");
    assert_eq!(served.child.wait().unwrap().code(), Some(130));
}

#[test]
fn operators_have_a_listener_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let private = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let served = Served::start(&directory.path().join("data"), &["--admin-listen", &private]);
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&private).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("/metrics").contains("doorbuster_build_info"), "metrics need no key here");
    assert!(ask("/readyz").starts_with("HTTP/1.1 200"));
    assert!(ask("/v1/skus").starts_with("HTTP/1.1 404"), "and nothing else is here");
    assert_eq!(served.ask("GET /readyz", "").0, 200);
}

#[test]
fn what_is_limited_before_redis_answers_is_counted_from_the_first_request() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("limits.toml");
    let text = "[[limit]]\nname = \"browsing\"\nroutes = [\"catalogue\"]\nper = \"address\"\nrequests = 1\nwindow_s = 3600\n";
    std::fs::write(&policy, text).unwrap();
    // Nobody listens on port 1.
    let more = ["--rate-limits", policy.to_str().unwrap(), "--redis-url", "redis://127.0.0.1:1/"];
    let served = Served::start(&directory.path().join("data"), &more);
    let stranger = || {
        let mut stream = TcpStream::connect(&served.address).unwrap();
        write!(stream, "GET /v1/skus HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(stranger().starts_with("HTTP/1.1 200"));
    assert!(stranger().starts_with("HTTP/1.1 429"));
    let page = served.ask("GET /metrics", "").1;
    for line in [
        "doorbuster_rate_limited_total{limit=\"browsing\"} 1",
        "doorbuster_rate_limit_alone_total 2",
        "doorbuster_redis_errors_total{purpose=\"limits\",kind=\"outage\"} 2",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
}

/// The certificate in `tests/data/tls` is our own, for `localhost` and 127.0.0.1, valid for a hundred years:
/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
/// -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE`.
#[test]
fn a_certificate_makes_it_speak_tls_and_http_1_only() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let (certificate, key) = (files.join("certificate.pem"), files.join("key.pem"));
    let directory = tempfile::tempdir().unwrap();
    let more = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let mut served = Served::start(&directory.path().join("data"), &more);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut std::fs::read(&certificate).unwrap().as_slice()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(&served.address).unwrap());
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut start = [0; 15];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    // The idle connection above does not hold a shutdown up.
    served.signal("-TERM");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_database_that_cannot_be_used_is_told_without_its_password() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().to_str().unwrap();
    let nobody = "postgres://shop:s3cret@127.0.0.1:1/shop?sslmode=disable";
    for (arguments, code, words) in [
        (vec!["migrate"], 2, vec!["--database-url"]),
        (vec!["migrate", "--database-url", nobody], 2, vec!["127.0.0.1:1/shop", "refused", "is it running"]),
        (vec!["migrate", "--database-url", "mysql://a:s3cret@b/c"], 2, vec!["postgres://user:password@host"]),
        (
            vec!["rebuild-projection", "--data", data, "--database-url", nobody],
            66,
            vec!["is not a data directory"],
        ),
        (
            vec!["serve", "--data", data, "--database-url", "nonsense"],
            2,
            vec!["postgres://user:password@host"],
        ),
    ] {
        refused(&arguments, code, &words);
        let told = String::from_utf8_lossy(&run(&arguments).stderr).into_owned();
        assert!(!told.contains("s3cret"), "{told}");
    }
}
