//! Postgres: one cluster of our own, reached through its socket only, and the service before it.
//!
//! Its settings are what an engineer would set on such a machine: more shared memory, and no checkpoint in the middle
//! of a run. Durability is its default and untouched: `fsync` and `synchronous_commit` are on. The socket spares it TCP.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use doorbuster_servers::postgres::{make_cluster, user};
use rustix::process::Signal;

use super::{Arena, Stand};
use crate::generator::{Load, Seen};
use crate::measure::Spent;
use crate::plan::{Contender, Row};
use doorbuster_servers::process::{Server, Start, accepts, command, free_port, interrupted};

/// One prepared statement a reservation: the row is locked for as long as a statement takes, no round trip between.
const BEST_FORM: &str = "WITH taken AS (UPDATE inventory SET reserved = reserved + 1 \
     WHERE id = :id AND on_hand - reserved >= 1 RETURNING id) \
     INSERT INTO hold (inventory_id, quantity, expires_at) \
     SELECT id, 1, now() + interval '10 minutes' FROM taken;\n";

/// The cluster's directory; made at the first call.
fn cluster(arena: &Arena) -> anyhow::Result<PathBuf> {
    let home = arena.path().join("postgres");
    if home.exists() {
        return Ok(home);
    }
    // Its files are its own user's; on the way there it may pass, not look.
    std::fs::set_permissions(arena.path(), Permissions::from_mode(0o711))?;
    make_cluster(arena.programs.postgres.as_ref().context("PostgreSQL's programs")?, &home)?;
    Ok(home)
}

fn program(arena: &Arena, name: &str) -> anyhow::Result<PathBuf> {
    Ok(arena.programs.postgres.as_ref().context("PostgreSQL's programs")?.join(name))
}

/// Starts the cluster with fresh tables.
pub(super) fn start(arena: &Arena, place: &Path) -> anyhow::Result<Server> {
    let home = cluster(arena)?;
    let port = free_port(None)?;
    let settings = [
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={}", home.display()),
        format!("port={port}"),
        "shared_buffers=512MB".to_owned(),
        "max_wal_size=4GB".to_owned(),
        "checkpoint_timeout=30min".to_owned(),
        "max_connections=200".to_owned(),
    ];
    let mut arguments = vec!["-D".to_owned(), home.join("data").display().to_string()];
    arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
    let server = Server::start(
        Start {
            name: "PostgreSQL",
            program: program(arena, "postgres")?,
            arguments,
            environment: vec![],
            port,
            log: &place.join("postgres.log"),
            user: user(),
            // Fast shutdown: it does not wait for clients.
            stop_signal: Signal::INT,
        },
        |_| Ok(psql(arena, port, &["--command=SELECT 1"], None).is_ok()),
    )?;
    let skus = format!("--set=skus={}", arena.options.skus);
    psql(arena, port, &[&skus], Some(include_str!("schema.sql")))?;
    Ok(server)
}

/// Runs `psql`, with `script` on its standard input.
fn psql(arena: &Arena, port: u16, arguments: &[&str], script: Option<&str>) -> anyhow::Result<String> {
    let mut child = Command::new(program(arena, "psql")?)
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
        .args(["--username=postgres", "--dbname=postgres", "--port", &port.to_string(), "--host"])
        .arg(arena.path().join("postgres"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("psql cannot be run")?;
    if let Some(mut input) = child.stdin.take() {
        std::io::Write::write_all(&mut input, script.unwrap_or("").as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "psql failed: {words}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Starts the service before `postgres`.
pub(super) fn start_service(
    arena: &Arena,
    place: &Path,
    postgres: &Server,
    contender: Contender,
) -> anyhow::Result<Server> {
    let port = free_port(arena.options.port)?;
    let mut arguments = vec![
        "typical".to_owned(),
        format!("--port={port}"),
        format!("--socket={}", arena.path().join("postgres").display()),
        format!("--postgres-port={}", postgres.address.port()),
        format!("--pool={}", arena.options.pool),
    ];
    if contender == Contender::TypicalOneStatement {
        arguments.push("--one-statement".to_owned());
    }
    Server::start(
        Start {
            name: "the typical service",
            program: std::env::current_exe()?,
            arguments,
            environment: vec![],
            port,
            log: &place.join("typical.log"),
            user: None,
            stop_signal: Signal::TERM,
        },
        |address| Ok(accepts(address)),
    )
}

/// Reservations in the books, which must agree with the stock.
pub(super) fn granted(arena: &Arena, postgres: &Server) -> anyhow::Result<u64> {
    let query = "--command=SELECT (SELECT count(*) FROM hold) + (SELECT count(*) FROM reservation), \
                 (SELECT sum(reserved) FROM inventory)";
    let answer = psql(arena, postgres.address.port(), &[query], None)?;
    let (booked, taken) = answer.split_once('|').with_context(|| format!("PostgreSQL counted {answer}"))?;
    anyhow::ensure!(booked == taken, "PostgreSQL booked {booked} reservations but took {taken} units");
    Ok(booked.parse()?)
}

/// Drives the cluster with pgbench, first for the warm-up and then for the measured time.
pub(crate) fn bench(
    arena: &Arena,
    stand: &Stand,
    row: Row,
    load: &Load,
) -> anyhow::Result<(Seen, Spent, Spent)> {
    let script = stand.place.join("reserve.sql");
    let choice = match row {
        Row::Many => format!("\\set id random(0, {})\n", arena.options.skus - 1),
        Row::Hot | Row::SoldOut | Row::Availability | Row::Batch | Row::Checkout | Row::Paced => {
            "\\set id 0\n".to_owned()
        }
    };
    std::fs::write(&script, choice + BEST_FORM)?;
    let warmed =
        if load.warm_up.is_zero() { Done::default() } else { pgbench(arena, stand, load.warm_up, None)? };
    let before = Spent::now(&stand.roots())?;
    let log = stand.place.join("transactions");
    let done = pgbench(arena, stand, load.window, Some(&log))?;
    let after = Spent::now(&stand.roots())?;

    let mut seen = Seen::new();
    seen.window = done.took;
    seen.answers = done.transactions;
    seen.worth = done.transactions;
    seen.worth_in_all = warmed.transactions + done.transactions;
    // All that is ours and not the server's is pgbench, but for a little waiting.
    seen.own_cpu = after.ours_beside_the_server(before);
    for entry in std::fs::read_dir(&stand.place)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("transactions") {
            for line in std::fs::read_to_string(entry.path())?.lines() {
                let took_us = line.split(' ').nth(2).and_then(|field| field.parse::<u64>().ok());
                seen.latency.saturating_record(took_us.context("a line of pgbench's log")? * 1_000);
            }
        }
    }
    Ok((seen, before, after))
}

/// What one run of pgbench did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Done {
    transactions: u64,
    took: Duration,
}

fn pgbench(arena: &Arena, stand: &Stand, time: Duration, log: Option<&Path>) -> anyhow::Result<Done> {
    let port = stand.server.address.port().to_string();
    let seconds = time.as_secs_f64().ceil().max(1.0).to_string();
    let mut pgbench = command(&program(arena, "pgbench")?, None);
    pgbench
        .args(["--no-vacuum", "--protocol=prepared", "--username=postgres", "--port", &port, "--host"])
        .arg(arena.path().join("postgres"))
        .args(["--client", &arena.options.pgbench_clients.to_string(), "--jobs", "2", "--time", &seconds])
        .arg("--file")
        .arg(stand.place.join("reserve.sql"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(log) = log {
        pgbench.arg("--log").arg("--log-prefix").arg(log);
    }
    let mut child = pgbench.arg("postgres").spawn().context("pgbench cannot be run")?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if interrupted() || began.elapsed() > time + Duration::from_secs(60) {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("pgbench was stopped");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "pgbench failed: {words}");
    done(&text).with_context(|| format!("pgbench said something else: {text}"))
}

/// Reads what pgbench says at its end.
fn done(text: &str) -> Option<Done> {
    let after = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let transactions: u64 =
        after("number of transactions actually processed: ")?.split('/').next()?.trim().parse().ok()?;
    let failed =
        after("number of failed transactions: ").map_or("0", |rest| rest.split(' ').next().unwrap_or(""));
    let a_second: f64 = after("tps = ")?.split(' ').next()?.parse().ok()?;
    if failed != "0" || transactions == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "transactions of one run are far below 2^52")]
    let took = Duration::try_from_secs_f64(transactions as f64 / a_second).ok()?;
    Some(Done { transactions, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says_is_read() {
        let text = "transaction type: hot.sql\nnumber of transactions actually processed: 30000\n\
            number of failed transactions: 0 (0.000%)\nlatency average = 0.8 ms\n\
            initial connection time = 5.1 ms\ntps = 10000.000000 (without initial connection time)\n";
        assert_eq!(done(text), Some(Done { transactions: 30_000, took: Duration::from_secs(3) }));
        assert_eq!(done(&text.replace("transactions: 0", "transactions: 3")), None);
        assert_eq!(done("tps = nan"), None);
    }
}
