//! A network that misbehaves on request: a TCP proxy before a server, with latency, cuts and silence.
//!
//! Start at [`Proxy::before`]; [`Proxy::set`] changes the weather for connections that are open and for new ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes at once.
    Clear,
    /// Everything passes, each piece this much later, in both directions.
    Slow(Duration),
    /// Nothing passes and nobody is told: the other side of a half-open connection. What was sent passes when it clears up.
    Silent,
    /// Connections are reset, new ones too.
    Cut,
}

/// A proxy that lasts as long as this value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// A proxy on a free port of this machine, before the server on `port`. The weather is clear.
    pub fn before(port: u16) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.context("a proxy cannot listen")?;
        let own = listener.local_addr()?.port();
        let (weather, seen) = watch::channel(Weather::Clear);
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, seen.clone()));
            }
        });
        Ok(Self { port: own, weather, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the weather, for open connections too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Also from within another runtime, where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Carries one connection until one side ends it or it is cut.
async fn carry(client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    // In silence nobody is at the door; the kernel has let the client in all the same.
    let now = weather.wait_for(|weather| *weather != Weather::Silent).await.map(|weather| *weather);
    if !now.is_ok_and(|now| now != Weather::Cut) {
        reset(&client);
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    let ends = [&client, &server].map(|end| end.set_nodelay(true).is_ok() && end.set_zero_linger().is_ok());
    if ends != [true, true] {
        return;
    }
    // Halves of their own kind would end in order when they are dropped, and a cut is a reset.
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    let there = pass(from_client, to_server, weather.clone());
    let back = pass(from_server, to_client, weather.clone());
    tokio::select! {
        // Dropped with no linger, both ends are reset.
        _ = weather.wait_for(|weather| *weather == Weather::Cut) => {}
        () = async { tokio::join!(there, back); } => {}
    }
}

/// Carries one direction; tells the end of it to the other side.
async fn pass(
    mut from: ReadHalf<TcpStream>,
    mut to: WriteHalf<TcpStream>,
    mut weather: watch::Receiver<Weather>,
) {
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut piece).await.unwrap_or(0);
        let now = *weather.borrow();
        if let Weather::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        let _ = weather.wait_for(|weather| *weather != Weather::Silent).await;
        if count == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}

fn reset(end: &TcpStream) {
    // Where it cannot be set, the client is told by an orderly end instead.
    let _ = end.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::time::Instant;

    use super::*;

    /// A server that says back what it hears, one connection after another.
    fn echo() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        port
    }

    fn said(stream: &mut std::net::TcpStream, byte: u8) -> std::io::Result<Duration> {
        let began = Instant::now();
        stream.write_all(&[byte])?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, [byte]);
        Ok(began.elapsed())
    }

    #[test]
    fn the_weather_changes_for_open_connections_and_new_ones() {
        let proxy = Proxy::before(echo()).unwrap();
        let connect = || {
            let stream = std::net::TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
            stream
        };
        let mut stream = connect();
        said(&mut stream, 1).unwrap();
        proxy.set(Weather::Slow(Duration::from_millis(40)));
        let slow = said(&mut stream, 2).unwrap();
        assert!(slow >= Duration::from_millis(80), "there and back: {slow:?}");
        proxy.set(Weather::Silent);
        let mut late = connect();
        for stream in [&mut stream, &mut late] {
            assert_eq!(said(stream, 3).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        proxy.set(Weather::Clear);
        for stream in [&mut stream, &mut late] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [3], "what was sent into the silence arrives");
        }
        proxy.set(Weather::Cut);
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let refused = said(&mut connect(), 4).unwrap_err().kind();
        assert!(
            matches!(refused, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof),
            "{refused}"
        );
        proxy.set(Weather::Clear);
        said(&mut connect(), 5).unwrap();
    }
}
