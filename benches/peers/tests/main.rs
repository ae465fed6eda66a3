//! The command as it is used: refusals, a short measurement, Ctrl-C.
#![cfg(target_os = "linux")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn peers(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
    command.arg("measure").args(arguments).env_remove("DOORBUSTER").stdin(Stdio::null());
    command
}

/// A measurement of the no-op alone, as short as can be.
const SHORT: [&str; 9] = [
    "--contenders=noop",
    "--rounds=1",
    "--seconds=0.5",
    "--warm-up=0.05",
    "--connections=4",
    "--paced-connections=4",
    "--noop-workers=1",
    "--batch=2",
    "--no-syncs",
];

fn short(more: &[&str]) -> Output {
    peers(&SHORT).args(more).output().expect("the command runs")
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

#[test]
fn what_cannot_be_run_is_refused_with_its_remedy() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("--port={}", holder.local_addr().unwrap().port());
    let rows: [(&[&str], &str); 8] = [
        (&["--rows=lukewarm"], "possible values: hot, many"),
        (&["--contenders=everybody"], "possible values: engine, attached, noop"),
        (&["--rounds=0"], "1 to 10000"),
        (&["--seconds=0"], "0.05 to 3600"),
        (&["--batch=257"], "1 to 256"),
        (&["--contenders=noop", "--no-syncs", &busy], "is busy"),
        (&["--contenders=engine", "--engine=/nowhere/doorbuster"], "cargo build --release"),
        (&["--contenders=noop", "--no-syncs", "--directory=/dev/shm"], "is memory"),
    ];
    for (arguments, expected) in rows {
        let output = peers(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", words(&output));
        assert!(words(&output).contains(expected), "{arguments:?}: {}", words(&output));
    }
}

#[test]
fn a_short_measurement_of_the_noop_has_every_row_and_the_json_its_shape() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("peers.json");
    let output =
        short(&["--rows=hot,many,sold_out,availability,batch,checkout", "--json", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for pointer in [
        "/schema",
        "/measured_at",
        "/build",
        "/machine/cpu",
        "/machine/cores",
        "/machine/kernel",
        "/machine/file_system",
        "/machine/load_before",
        "/versions/harness",
        "/options/rounds",
        "/noop_workers",
        "/summaries/0/rate/median",
        "/summaries/0/p99_us/most",
        "/summaries/0/server_cpu_us/least",
        "/goals/0/goal/wanted/at_least",
        "/runs/0/generator_cores",
        "/runs/0/others_cores",
        "/runs/0/acknowledged",
    ] {
        assert!(report.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer} in {report:#}");
    }
    let rows: Vec<&str> =
        report["summaries"].as_array().unwrap().iter().filter_map(|row| row["row"].as_str()).collect();
    assert_eq!(rows, ["hot", "many", "sold_out", "availability", "batch", "checkout"]);
    for run in report["runs"].as_array().unwrap() {
        assert!(run["void"].is_null() && run["rate"].as_f64().unwrap() > 0.0, "{run:#}");
        assert!(run["server_cpu_us"].as_f64().unwrap() > 0.0, "{run:#}");
    }
    // Without the engine no ratio can be had, and the goals say so.
    assert_eq!(report["ratios"], Value::Array(vec![]));
    assert!(report["goals"].as_array().unwrap().iter().all(|goal| goal["met"].is_null()));
    let text = words(&output);
    assert!(text.contains("not measured") && text.contains("availability"), "{text}");
}

#[test]
fn a_rate_that_nobody_can_keep_is_void_and_told() {
    let output = short(&["--rows=paced", "--rate=1000000"]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let text = words(&output);
    assert!(
        text.contains("VOID: paced of noop, round 1: the rate of 1000000 a second was not kept"),
        "{text}"
    );
}

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_interrupted_or_killed_measurement_leaves_no_server_behind() {
    // SIGKILL gives no chance to stop anything: then the kernel does.
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let port = free_port();
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        let mut command = peers(&SHORT);
        command.args(["--seconds=60", "--rows=hot", "--port", &port.to_string()]);
        // A second `--seconds` replaces none: the short one is left out.
        let arguments: Vec<_> = command
            .get_args()
            .filter(|argument| *argument != "--seconds=0.5")
            .map(ToOwned::to_owned)
            .collect();
        let mut running = Running(
            Command::new(env!("CARGO_BIN_EXE_peers"))
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        wait_for("the no-op listens", listens);
        let pid = running.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        let status = running.0.wait().unwrap();
        assert_eq!(status.code(), code, "after SIG{signal}");
        wait_for("nobody listens any more", || !listens());
    }
}
