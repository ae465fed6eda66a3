//! TLS: who is vouched for is spoken to, who is not hears no secret.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbuster_engine::payment::ChargeOutcome;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{charge, options, word};
use crate::paypal::Core;
use crate::paypal::door::Door;

/// One answer for each request: a token, then an order that waits. What it hears is counted.
struct Served {
    base: String,
    heard: Arc<AtomicUsize>,
}

fn serve(config: ServerConfig) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let heard = Arc::new(AtomicUsize::new(0));
    let (config, counted) = (Arc::new(config), Arc::clone(&heard));
    // It ends with the process: it waits in `accept`.
    std::thread::spawn(move || {
        for line in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A handshake that fails ends this line alone.
            let _ = talk(StreamOwned::new(connection, line.unwrap()), &counted);
        }
    });
    Served { base, heard }
}

fn talk(mut line: StreamOwned<ServerConnection, TcpStream>, heard: &AtomicUsize) -> std::io::Result<()> {
    let mut bytes = [0; 8_192];
    let read = line.read(&mut bytes)?;
    if read == 0 {
        return Ok(());
    }
    heard.fetch_add(1, Ordering::SeqCst);
    let token = bytes[..read].windows(6).any(|part| part == b"oauth2");
    let body = if token {
        r#"{"access_token":"t","expires_in":3600}"#
    } else {
        r#"{"id":"O1","status":"CREATED","links":[{"rel":"approve","href":"https://www.paypal.com/"}]}"#
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    line.write_all(answer.as_bytes())?;
    line.conn.send_close_notify();
    line.flush()
}

#[tokio::test]
async fn only_who_is_vouched_for_hears_the_secret() {
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
    let options = options(&served.base);
    let browsers = Door::new(&options).unwrap();
    let believing = Door::believing(&options, ours).unwrap();
    for (label, door, outcome, heard) in
        [("a stranger", browsers, "unknown", 0), ("vouched for", believing, "action", 2)]
    {
        let core = Core { door, options: Arc::new(options.clone()) };
        let said: ChargeOutcome = core.authorize(&charge(1)).await;
        assert_eq!(word(&said), outcome, "{label}");
        assert_eq!(served.heard.load(Ordering::SeqCst), heard, "{label}");
    }
}
