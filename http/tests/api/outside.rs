//! The binary and the Redis it is told of.

use std::process::Output;

use doorbuster_servers::redis::Redis;
use serde_json::Value;

use super::command::run;

fn finding(output: &Output) -> (String, String, String) {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "Redis").unwrap();
    let text = |name: &str| check[name].as_str().unwrap().to_owned();
    (text("finding"), text("seen"), text("remedy"))
}

#[test]
fn the_doctor_looks_at_redis_and_shows_no_password() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let look = |url: &str| {
        let output = run(&[
            "doctor",
            "--json",
            "--data",
            data.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--redis-url",
            url,
        ]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!told.contains("s3cret"), "{told}");
        finding(&output)
    };
    let mut redis = Redis::start().unwrap();
    let url = redis.url();
    let (found, seen, _) = look(&url);
    assert!(found == "good" && seen.contains("version "), "{seen}");
    redis.say(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    let (found, _, remedy) = look(&url);
    assert!(found == "warning" && remedy.contains("noeviction"), "{remedy}");
    redis.say(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    redis.say(&["CONFIG", "SET", "requirepass", "s3cret"]).unwrap();
    assert_eq!(look(&url).0, "warning", "it wants a password");
    assert_eq!(look(&url.replace("redis://", "redis://:s3cret@")).0, "good");
    redis.kill().unwrap();
    let (found, seen, remedy) = look(&url.replace("redis://", "redis://:s3cret@"));
    assert!(found == "warning" && remedy.contains("--redis-url"), "{seen} {remedy}");
    assert_eq!(look("http://:s3cret@nowhere").0, "bad");
}

#[test]
fn a_url_that_is_none_is_refused_before_anything_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let output = run(&["serve", "--data", data.to_str().unwrap(), "--redis-url", "localhost:s3cret"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("--redis-url") && told.contains("redis://") && !told.contains("s3cret"), "{told}");
    assert!(!data.exists());
}

#[test]
fn a_start_that_fails_beside_a_redis_fails_as_without_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (data, address) = (directory.path().join("data"), taken.local_addr().unwrap().to_string());
    let redis = ["--redis-url", "redis://127.0.0.1:1/"];
    let output = run(&["serve", "--data", data.to_str().unwrap(), "--listen", &address, redis[0], redis[1]]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("is in use") && !told.contains("panicked"), "{told}");
}
