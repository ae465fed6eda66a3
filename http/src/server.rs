//! Running the front door: listeners, workers, time-outs, TLS, CORS.
//!
//! Each worker thread serves connections and hosts its share of the engine's actors. Limits against slow or greedy
//! clients are set here; limits of single requests are the [`crate::door`]'s.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_cors::Cors;
use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server, ServerHandle};
use actix_web::http::header;
use actix_web::middleware::Condition;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use doorbuster_engine::answer::Refusal;
use tokio::net::TcpStream;

use crate::admission;
use crate::demo;
use crate::door::{self, FrontDoor, PrivateListener};
use crate::limits;
use crate::line::{self, Socket};
use crate::problem::Problem;
use crate::routes;

/// Connections that wait to be accepted. A sale begins with everybody at once; the kernel's usual 128 would refuse them.
const BACKLOG: u32 = 4_096;

/// How long a closing door waits for those on the threshold: longer than a packet takes around the world and back, so
/// that every handshake begun is finished, and long enough for a busy kept connection to get its last answer.
const THRESHOLD: Duration = Duration::from_millis(300);

/// How long the server that only says "recovering" has for connections that it took and did not look at yet.
const HAND_OVER: Duration = Duration::from_millis(50);

/// Options of the listeners.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Threads that serve connections and host actors; the engine's number.
    pub workers: usize,
    /// Connections a worker holds at a time; more wait in the backlog. Each costs a few KiB and a file descriptor.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, in milliseconds.
    pub head_timeout_ms: u64,
    /// How long an idle connection is kept, in seconds; longer than the usual proxy's 60, so that the proxy closes first.
    pub keep_alive_s: u64,
    /// How long requests may go on after a shutdown began, in seconds.
    pub shutdown_timeout_s: u64,
    /// Origins whose pages may call from a browser.
    pub cors_origins: Vec<String>,
    /// Certificate chain and key, where TLS is ended here.
    pub tls: Option<TlsFiles>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            connections_max: 25_000,
            head_timeout_ms: 5_000,
            keep_alive_s: 75,
            shutdown_timeout_s: 30,
            cors_origins: Vec::new(),
            tls: None,
        }
    }
}

/// PEM files of a certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Why there is no server. Its text is one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody else listens there.
    #[error("the address {address} is in use by another process; stop it or choose another with --listen")]
    PortInUse {
        /// Where.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Address {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use {} for TLS: {what}; give PEM files with --tls-cert and --tls-key", file.display())]
    Tls {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The threads could not be started.
    #[error("cannot start the server: {0}; look at the limits of this user with `ulimit -a`")]
    Start(#[from] io::Error),
}

/// Listens on `address` without accepting yet, so that a port in use is known before anything is touched.
///
/// Needs a running runtime.
pub fn listen(address: &str) -> Result<TcpListener, ServerError> {
    let refuse = |source: io::Error| {
        let address = address.to_owned();
        if source.kind() == io::ErrorKind::AddrInUse {
            ServerError::PortInUse { address }
        } else {
            ServerError::Address { address, source }
        }
    };
    let first: SocketAddr = address
        .to_socket_addrs()
        .map_err(refuse)?
        .next()
        .ok_or_else(|| refuse(io::Error::other("the name has no address")))?;
    let socket =
        if first.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }
            .map_err(refuse)?;
    // A restarted engine must not wait for old connections to be forgotten.
    socket.set_reuseaddr(true).map_err(refuse)?;
    socket.bind(first).map_err(refuse)?;
    socket.listen(BACKLOG).and_then(tokio::net::TcpListener::into_std).map_err(refuse)
}

/// HTTP/1.1 as the public listeners speak it. A macro, because its type cannot be named outside actix-http.
macro_rules! protocol {
    ($closing:expr, $keep_alive_s:expr, $head_timeout:expr) => {{
        let closing = $closing.clone();
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let closing = closing.clone();
                async move { closing.notified().await }
            })
            .keep_alive(Duration::from_secs($keep_alive_s))
            .client_request_timeout($head_timeout)
            .client_disconnect_timeout(Duration::from_secs(1))
    }};
}

/// The application of one public worker, which attaches to the engine here and begins to watch itself.
macro_rules! application {
    ($door:expr, $origins:expr) => {{
        $door.engine.attach_worker();
        actix_rt::spawn(admission::keep($door.clone()));
        let application = App::new()
            .app_data($door.clone())
            .wrap(Condition::new(!$origins.is_empty(), cors(&$origins)))
            .configure(|config| demo::configure(config, &$door))
            .configure(routes::configure)
            .into_factory()
            .map_err(|error| error.error_response());
        map_config(application, |()| AppConfig::default())
    }};
}

/// Sets the limits of the other listeners. A macro for the same reason.
macro_rules! limited {
    ($server:expr, $options:expr) => {
        $server
            .disable_signals()
            .tcp_nodelay(true)
            .max_connections($options.connections_max)
            .keep_alive(Duration::from_secs($options.keep_alive_s))
            .client_request_timeout(Duration::from_millis($options.head_timeout_ms))
            .client_disconnect_timeout(Duration::from_secs(1))
            .shutdown_timeout($options.shutdown_timeout_s)
    };
}

/// The public server. Its workers attach to the door's engine as they start.
///
/// Built by hand rather than as an `HttpServer`, which offers neither a socket of our own below its parser nor TLS
/// without HTTP/2 (that is the proxy's business).
pub fn public(
    door: web::Data<FrontDoor>,
    listener: TcpListener,
    options: &ServerOptions,
) -> Result<Server, ServerError> {
    let builder = Server::build()
        .workers(options.workers)
        .max_concurrent_connections(options.connections_max)
        .shutdown_timeout(options.shutdown_timeout_s)
        .disable_signals();
    let closing = builder.graceful_shutdown_signal();
    let ServerOptions { head_timeout_ms, keep_alive_s, cors_origins: origins, .. } = options.clone();
    let server = match &options.tls {
        Some(files) => {
            let tls = tls(files)?;
            builder.listen("encrypted", listener, move || {
                // Below TLS nobody can tell a head from anything else, so here the library's own time-out stands.
                let head_timeout = Duration::from_millis(head_timeout_ms);
                let protocol = protocol!(closing, keep_alive_s, head_timeout).tcp_nodelay(true);
                protocol.h1(application!(door, origins)).rustls_0_23(tls.clone())
            })?
        }
        None => builder.listen("plain", listener, move || {
            line::limit(Duration::from_millis(head_timeout_ms), Duration::from_secs(keep_alive_s));
            let protocol = protocol!(closing, keep_alive_s, Duration::ZERO);
            let protocol = protocol.on_connect_ext(|socket: &Socket<TcpStream>, data| socket.introduce(data));
            fn_service(|socket: TcpStream| async {
                // Refused only by a socket that is gone already, which the first read tells.
                let _ = socket.set_nodelay(true);
                let peer = socket.peer_addr().ok();
                Ok((Socket::new(socket), peer))
            })
            .and_then(protocol.h1(application!(door, origins)))
        })?,
    };
    Ok(server.run())
}

/// The operators' server: health and metrics without a key, for a listener that strangers cannot reach.
pub fn private(
    door: web::Data<FrontDoor>,
    listener: TcpListener,
    options: &ServerOptions,
) -> Result<Server, ServerError> {
    let server = HttpServer::new(move || {
        App::new().app_data(door.clone()).app_data(PrivateListener).configure(routes::configure_private)
    });
    Ok(limited!(server, options).workers(1).listen(listener)?.run())
}

/// Answers while the engine recovers: it lives, and everything else has to wait.
pub fn recovering(listener: TcpListener) -> Result<Server, ServerError> {
    async fn wait(request: HttpRequest) -> HttpResponse {
        if request.path() == "/livez" {
            return crate::reply::ok(&crate::wire::responses::Health { status: "ok" });
        }
        door::stray(&request, &Problem::from(Refusal::Recovering { retry_after_ms: 1_000 }))
    }
    let server = HttpServer::new(|| App::new().default_service(web::to(wait)));
    Ok(limited!(server, ServerOptions::default()).workers(1).listen(listener)?.run())
}

/// A second handle on a listening socket, to close its door before it is closed itself.
///
/// A socket that is simply closed resets every connection that the kernel has let in and nobody has taken yet: their
/// clients were connected, may have sent their request, and learn nothing. So the door is closed first: who begins to
/// connect from then on gets no answer, while whoever is inside or on the threshold is still served.
#[derive(Debug)]
pub struct Doorway(TcpListener);

impl Doorway {
    /// The doorway of `listener`.
    pub fn of(listener: &TcpListener) -> Result<Self, ServerError> {
        Ok(Self(listener.try_clone()?))
    }

    /// Lets nobody new in, and waits until those on the threshold are inside.
    ///
    /// Whoever knocks meanwhile is refused once the socket is closed: a knock without answer is repeated by the
    /// client's system after a second. Where the system cannot do this, some connections of the last moment are reset.
    pub async fn close(self) {
        if let Err(error) = turn_away(&self.0) {
            tracing::warn!(%error, "cannot close the door before the socket; the last connections may be reset");
        }
        actix_rt::time::sleep(THRESHOLD).await;
    }
}

/// Makes the kernel drop packets that begin a connection, and only those.
#[cfg(target_os = "linux")]
fn turn_away(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};

    /// Classic BPF, as in `linux/filter.h`.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// Where the flags stand in a TCP header, and which of them begins a connection.
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn turn_away(_listener: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Ends a server while another takes over its socket: it takes nobody new, and answers whom it has.
///
/// Returns once nobody new comes to it; it ends by itself.
pub async fn hand_over(server: ServerHandle) {
    server.pause().await;
    // The accepting thread reads its orders and shares out what it holds.
    actix_rt::time::sleep(HAND_OVER).await;
    actix_rt::spawn(async move { server.stop(true).await });
}

fn cors(origins: &[String]) -> Cors {
    let mut cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            door::IDEMPOTENCY_KEY.clone(),
            door::CART_TOKEN.clone(),
            door::REQUEST_ID.clone(),
            door::TRACEPARENT.clone(),
            header::HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([
            header::ETAG,
            header::RETRY_AFTER,
            door::REQUEST_ID.clone(),
            door::IDEMPOTENT_REPLAYED.clone(),
            limits::RATE_LIMIT.clone(),
            limits::RATE_LIMIT_POLICY.clone(),
        ])
        .max_age(600);
    for origin in origins {
        cors = cors.allowed_origin(origin);
    }
    cors
}

/// Whether the certificate can be used, before anything else is touched.
pub fn check_tls(files: &TlsFiles) -> Result<(), ServerError> {
    tls(files).map(|_| ())
}

fn tls(files: &TlsFiles) -> Result<rustls::ServerConfig, ServerError> {
    let refuse = |file: &Path, what: String| ServerError::Tls { file: file.to_path_buf(), what };
    let read = |file: &Path| std::fs::read(file).map_err(|error| refuse(file, error.to_string()));
    let certificate = read(&files.certificate)?;
    let chain: Vec<_> = rustls_pemfile::certs(&mut certificate.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse(&files.certificate, "it has no certificate".to_owned()));
    }
    let key = read(&files.key)?;
    let key = rustls_pemfile::private_key(&mut key.as_slice())
        .map_err(|error| refuse(&files.key, error.to_string()))?
        .ok_or_else(|| refuse(&files.key, "it has no private key".to_owned()))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refuse(&files.certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
