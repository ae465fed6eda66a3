//! Redis with a Lua script, every command on the disk before its answer. Over TCP as its users have it, by the same
//! generator as the others, and without HTTP in its way.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use doorbuster_servers::redis::say;
use rustix::process::Signal;

use super::Arena;
use super::engine::AMPLE;
use doorbuster_servers::process::{Server, Start, free_port};

const RESERVE: &str = include_str!("reserve.lua");

/// Makes every SKU.
const FILL: &str = "for number = 0, ARGV[1] - 1 do \
     redis.call('HSET', string.format('stock:SKU-%05d', number), 'on_hand', ARGV[2], 'reserved', 0) end return 1";

/// Adds up what is reserved.
const RESERVED: &str = "local sum = 0 for number = 0, ARGV[1] - 1 do \
     sum = sum + redis.call('HGET', string.format('stock:SKU-%05d', number), 'reserved') end return sum";

/// Starts it with a full catalogue.
pub(super) fn start(arena: &Arena, place: &Path) -> anyhow::Result<Server> {
    let port = free_port(arena.options.port)?;
    let arguments = [
        ("--port", port.to_string()),
        ("--bind", "127.0.0.1".to_owned()),
        ("--dir", place.display().to_string()),
        ("--appendonly", "yes".to_owned()),
        ("--appendfsync", "always".to_owned()),
        // No snapshot and no rewriting of the file beside the work.
        ("--save", String::new()),
        ("--auto-aof-rewrite-percentage", "0".to_owned()),
    ];
    let server = Server::start(
        Start {
            name: "Redis",
            program: arena.programs.redis.clone().context("redis-server")?,
            arguments: arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect(),
            environment: vec![],
            port,
            log: &place.join("redis.log"),
            user: None,
            stop_signal: Signal::TERM,
        },
        |address| Ok(say(address, &["PING"])? == "+PONG"),
    )?;
    let filled =
        say(server.address, &["EVAL", FILL, "0", &arena.options.skus.to_string(), &AMPLE.to_string()])?;
    anyhow::ensure!(filled == ":1", "Redis did not take the catalogue: {filled}");
    Ok(server)
}

/// Loads the script, and returns the hash by which it is called.
pub(super) fn load_script(address: SocketAddr) -> anyhow::Result<String> {
    let answer = say(address, &["SCRIPT", "LOAD", RESERVE])?;
    let hash = answer.lines().nth(1).map(str::trim).filter(|hash| hash.len() == 40);
    Ok(hash.with_context(|| format!("Redis did not load the script: {answer}"))?.to_owned())
}

/// Units reserved of all SKUs.
pub(super) fn granted(arena: &Arena, address: SocketAddr) -> anyhow::Result<u64> {
    let answer = say(address, &["EVAL", RESERVED, "0", &arena.options.skus.to_string()])?;
    let sum = answer.strip_prefix(':').and_then(|sum| sum.parse().ok());
    sum.with_context(|| format!("Redis counted {answer}"))
}
