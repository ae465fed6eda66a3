//! TLS: who is vouched for is spoken to, over connections that are kept; who is not hears no key.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// A Stripe without any payment, behind TLS. Connections and requests are counted.
struct Served {
    base: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

fn serve(config: ServerConfig) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, asked, config) = (Arc::clone(&connections), Arc::clone(&requests), Arc::new(config));
    // It ends with the process: it waits in `accept`.
    std::thread::spawn(move || {
        for line in listener.incoming() {
            opened.fetch_add(1, Ordering::SeqCst);
            let (config, asked) = (Arc::clone(&config), Arc::clone(&asked));
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                // A handshake that fails, or a client that leaves, ends this line alone.
                let _ = talk(StreamOwned::new(connection, line.unwrap()), &asked);
            });
        }
    });
    Served { base, connections, requests }
}

/// Answers each request (they have no body) with an empty page, on one line until the client leaves.
fn talk(mut line: StreamOwned<ServerConnection, TcpStream>, asked: &AtomicUsize) -> std::io::Result<()> {
    let (mut heard, mut bytes) = (vec![], [0; 8_192]);
    loop {
        let read = line.read(&mut bytes)?;
        if read == 0 {
            return Ok(());
        }
        heard.extend_from_slice(&bytes[..read]);
        if heard.ends_with(b"\r\n\r\n") {
            heard.clear();
            asked.fetch_add(1, Ordering::SeqCst);
            let body = r#"{"object":"list","data":[],"has_more":false}"#;
            let length = body.len();
            line.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())?;
            line.flush()?;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_vouched_for_hears_the_key_and_one_handshake_is_enough() {
    // The certificate of the front door's tests, for 127.0.0.1 and a hundred years.
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../http/tests/data/tls");
    let certificate = CertificateDer::from_pem_file(files.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(files.join("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let served = serve(config);
    let mut ours = RootCertStore::empty();
    ours.add(certificate).unwrap();
    let options = Options { api_base: served.base.clone(), ..Options::new("sk_live_a") };
    let stranger = Stripe::new(&options).unwrap();
    assert_eq!(stranger.list(Timestamp(0), None).await, None);
    assert_eq!(served.requests.load(Ordering::SeqCst), 0, "a stranger hears nothing");

    let timeout = Duration::from_millis(options.request_timeout_ms);
    let wire = Wire::believing(served.base.clone(), "sk_live_a", timeout, ours).unwrap();
    let account = Account { wire, clock: Arc::new(wall_clock_ms), live: true, webhook_secrets: vec![] };
    let door = Stripe { account: Arc::new(account), calls_per_second_max: 1 };
    let before = served.connections.load(Ordering::SeqCst);
    for _ in 0..20 {
        assert_eq!(door.list(Timestamp(0), None).await, Some(PaymentPage::default()));
    }
    assert_eq!(served.requests.load(Ordering::SeqCst), 20);
    let connections = served.connections.load(Ordering::SeqCst) - before;
    // One, and another where the next call began before the last connection was back in its place.
    assert!(connections <= 3, "{connections} handshakes for 20 calls");
}
