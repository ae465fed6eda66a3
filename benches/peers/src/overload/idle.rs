//! Connections that say nothing, or too little, beside others that work.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

use crate::contenders::Arena;
use crate::figures;
use crate::generator::{Load, Pace, drive};
use crate::plan::{Contender, Row};
use crate::programs::Programs;
use doorbuster_servers::process::{catch_signals, interrupted};

/// Measure what idle, slow and half-open connections cost the others
///
/// Reservations at a fixed rate, alone and beside connections that were opened and say nothing, that send a head byte by
/// byte, and that stopped in the middle of a body; in turns, each on a fresh engine. The 99th percentiles are compared.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections that say nothing
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    idle: usize,
    /// Connections that send a byte of their head every quarter of a second, for ever
    #[arg(long, default_value_t = 200, value_name = "N")]
    slow: usize,
    /// Connections that have sent half of a body
    #[arg(long, default_value_t = 200, value_name = "N")]
    half: usize,
    /// Requests a second of those who work
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    rate: u32,
    /// Connections of those who work
    #[arg(long, default_value_t = 64, value_name = "N")]
    connections: usize,
    /// Measured time of a turn
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    seconds: f64,
    /// How often both turns are repeated
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// The engine's binary (default: `doorbuster` beside this program)
    #[arg(long, env = "DOORBUSTER", value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Where the engine keeps its data, on a real disk
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    catch_signals()?;
    let plain = crate::options::Options::of_engine(options.engine.clone(), options.directory.clone(), None);
    let programs = Programs::find(&plain)?;
    let arena = Arena::new(plain, programs)?;
    println!("load before: {}", figures::load_average());
    let mut ratios = vec![];
    for round in 0..options.rounds {
        // Whoever comes second finds a warmer machine, so they take turns at that too.
        let (alone, beside) = if round % 2 == 0 {
            let alone = turn(options, &arena, false)?;
            (alone, turn(options, &arena, true)?)
        } else {
            let beside = turn(options, &arena, true)?;
            (turn(options, &arena, false)?, beside)
        };
        let ratio = beside / alone;
        println!(
            "round {}: p99 alone {alone:.0} us, beside them {beside:.0} us, ratio {ratio:.2}",
            round + 1
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    if let [least, .., most] | [least @ most] = ratios.as_slice() {
        println!("ratio of p99: {:.2} ({least:.2} to {most:.2})", ratios[ratios.len() / 2]);
    }
    println!("load after: {}", figures::load_average());
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of one run are far below 2^52")]
fn turn(options: &Options, arena: &Arena, beside: bool) -> anyhow::Result<f64> {
    let stand = arena.stand(Contender::Engine)?;
    let idlers = if beside { Some(Idlers::gather(stand.server.address, options)?) } else { None };
    let load = Load {
        pace: Pace::Open { per_second: options.rate },
        connections: options.connections,
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs_f64(options.seconds),
    };
    let mut script = stand.script(arena, Row::Paced)?;
    let seen = drive(stand.server.address, &load, script.as_mut(), |_| Ok(()))?;
    if let Some(idlers) = idlers {
        idlers.leave();
    }
    if let Some(reason) = seen.void(&load) {
        eprintln!("void, but told: {reason}");
    }
    stand.stop()?;
    Ok(seen.latency.value_at_quantile(0.99) as f64 / 1_000.0)
}

/// Those who say nothing. One thread keeps the slow ones dripping and renews whoever is cut.
struct Idlers {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A head without an end.
const HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Nothing: ";

/// A request that stops in the middle of its body.
const HALF: &[u8] = b"POST /v1/reservations HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: half\r\n\
    Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"items\":";

impl Idlers {
    fn gather(address: SocketAddr, options: &Options) -> anyhow::Result<Self> {
        let connect = || -> anyhow::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
                .context("a connection beside the others; see `ulimit -n`")?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let mut idle = vec![];
        for number in 0..options.idle {
            let mut stream = connect()?;
            if number % 2 == 0 {
                // Half of them were customers once, so that the engine keeps them longer.
                stream.write_all(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
            }
            idle.push(stream);
        }
        let mut slow = (0..options.slow).map(|_| connect()).collect::<anyhow::Result<Vec<_>>>()?;
        let mut half = (0..options.half).map(|_| connect()).collect::<anyhow::Result<Vec<_>>>()?;
        for stream in &mut slow {
            stream.write_all(HEAD)?;
        }
        for stream in &mut half {
            stream.write_all(HALF)?;
        }
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) && !interrupted() {
                std::thread::sleep(Duration::from_millis(250));
                for stream in &mut slow {
                    // Cut, as it should be: here is another of the kind.
                    if stream.write_all(b"x").is_err()
                        && let Ok(mut another) = TcpStream::connect(address)
                    {
                        let _ = another.set_nonblocking(true);
                        let _ = another.write_all(HEAD);
                        *stream = another;
                    }
                }
            }
            drop((idle, half));
        });
        Ok(Self { over, thread })
    }

    fn leave(self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}
