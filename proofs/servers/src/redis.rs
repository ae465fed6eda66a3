//! A Redis of our own.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use crate::process::{Server, Start, free_port};
use crate::programs::in_path;

/// A Redis in a temporary directory, on a port that it keeps over restarts. Gone with this value.
#[derive(Debug)]
pub struct Redis {
    server: Option<Server>,
    port: u16,
    settings: Vec<String>,
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Redis {
    /// A Redis that keeps nothing on disk.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// A Redis with these words of its command line.
    pub fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        let program = in_path("redis-server").context(
            "Redis was not found: apt-get install redis-server (the tests start a server of their own with it)",
        )?;
        let home = tempfile::Builder::new().prefix("doorbuster-redis-").tempdir()?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut redis = Self { server: None, port: free_port(None)?, settings, program, home };
        redis.run()?;
        Ok(redis)
    }

    /// Starts it again after a stop or a kill, on the same port.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let own = ["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"].map(str::to_owned);
        let mut arguments = own.to_vec();
        arguments.push(self.home.path().display().to_string());
        arguments.extend(self.settings.iter().cloned());
        let server = Server::start(
            Start {
                name: "Redis",
                program: self.program.clone(),
                arguments,
                environment: vec![],
                port: self.port,
                log: &self.home.path().join("redis.log"),
                user: None,
                stop_signal: Signal::TERM,
            },
            |address| Ok(say(address, &["PING"])? == "+PONG"),
        )?;
        self.server = Some(server);
        Ok(())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a client finds it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// One command on a connection of its own, and the first line of its answer; of a bulk text its two lines.
    pub fn say(&self, words: &[&str]) -> anyhow::Result<String> {
        say(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), words)
    }

    /// Stops it in an orderly way; [`Redis::run`] starts it again.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.server.take().map_or(Ok(()), Server::stop)
    }

    /// Kills it; [`Redis::run`] starts it again.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.take().map_or(Ok(()), Server::kill)
    }

    /// Stops it in its tracks, connections and all.
    pub fn pause(&self) {
        if let Some(server) = &self.server {
            server.signal(Signal::STOP);
        }
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        if let Some(server) = &self.server {
            server.signal(Signal::CONT);
        }
    }
}

/// A command as Redis reads it.
pub fn command(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        // Into memory, which does not fail.
        let _ = write!(text, "${}\r\n{word}\r\n", word.len());
    }
    text
}

/// One command to the Redis at `address`, on a connection of its own, and the first line of its answer; of a bulk text
/// its two lines.
pub fn say(address: SocketAddr, words: &[&str]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(command(words).as_bytes())?;
    let mut received = vec![];
    let mut chunk = [0; 1_024];
    loop {
        let text = String::from_utf8_lossy(&received);
        let lines = if text.starts_with('$') && !text.starts_with("$-1") { 2 } else { 1 };
        if text.matches("\r\n").count() >= lines {
            return Ok(text.trim_end().to_owned());
        }
        let count = stream.read(&mut chunk)?;
        anyhow::ensure!(count > 0, "Redis closed the connection");
        received.extend_from_slice(&chunk[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_keeps_its_port_over_a_kill_and_forgets() {
        let mut redis = Redis::start().unwrap();
        assert_eq!(redis.say(&["SET", "door", "open"]).unwrap(), "+OK");
        assert_eq!(redis.say(&["GET", "door"]).unwrap(), "$4\r\nopen");
        let url = redis.url();
        redis.kill().unwrap();
        assert!(redis.say(&["PING"]).is_err());
        redis.run().unwrap();
        assert_eq!((redis.say(&["GET", "door"]).unwrap().as_str(), redis.url()), ("$-1", url));
    }
}
