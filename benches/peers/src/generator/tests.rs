//! The generator against servers of its own making: what counts, what voids a run, where time begins.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::requests::Repeated;
use super::*;
use crate::plan::Row;

/// A server that answers the `n`-th request, counted from 1 over all connections, with the status that `status` tells.
fn server(status: fn(u64) -> u16, think: Duration) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counter) = (stream.unwrap(), Arc::clone(&counter));
            std::thread::spawn(move || {
                // A request of ours is one write of a few hundred bytes, and comes as one read.
                let mut buffer = vec![0; 64 * 1024];
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                    std::thread::sleep(think);
                    let status = status(counter.fetch_add(1, Ordering::SeqCst) + 1);
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, served)
}

fn load(pace: Pace, connections: usize, window_ms: u64) -> Load {
    Load { pace, connections, warm_up: Duration::from_millis(20), window: Duration::from_millis(window_ms) }
}

fn driven(address: SocketAddr, load: &Load) -> Seen {
    let mut script = Repeated::http(Row::Hot, 1, 10, 1);
    let mut borders = vec![];
    let seen = drive(address, load, &mut script, |border| {
        borders.push(border);
        Ok(())
    });
    assert_eq!(borders, [Border::Begin, Border::End]);
    seen.unwrap()
}

#[test]
fn every_good_answer_counts_once() {
    let (address, served) = server(|_| 201, Duration::ZERO);
    let load = load(Pace::Closed, 4, 200);
    let seen = driven(address, &load);
    assert_eq!(seen.void(&load), None);
    assert_eq!(
        seen.worth_in_all,
        served.load(Ordering::SeqCst),
        "all that was sent was answered and counted"
    );
    assert!(seen.answers > 0 && seen.answers <= seen.worth_in_all);
    assert_eq!(seen.latency.len(), seen.answers);
    assert_eq!(seen.body_bytes, seen.answers * 2);
    assert!(seen.own_cpu > Duration::ZERO && seen.own_cpu < seen.window * 2);
}

#[test]
fn one_answer_that_was_not_asked_for_voids_the_run() {
    let (address, _) = server(|nth| if nth == 20 { 503 } else { 201 }, Duration::ZERO);
    let load = load(Pace::Closed, 4, 200);
    let seen = driven(address, &load);
    assert_eq!(seen.unexpected, BTreeMap::from([(503, 1)]));
    assert!(seen.void(&load).is_some_and(|reason| reason.contains("1 answers were 503")));
}

#[test]
fn a_rate_that_is_not_kept_voids_the_run_and_the_queue_is_not_hidden() {
    // Two connections of 50 answers a second cannot take 1,000.
    let (address, _) = server(|_| 201, Duration::from_millis(20));
    let load = load(Pace::Open { per_second: 1_000 }, 2, 400);
    let seen = driven(address, &load);
    let reason = seen.void(&load).unwrap();
    assert!(reason.contains("the rate of 1000 a second was not kept"), "{reason}");
    assert!((390..=420).contains(&seen.due), "{} fell due", seen.due);
    let longest = Duration::from_nanos(seen.latency.max());
    assert!(
        longest > Duration::from_millis(150),
        "the wait for a connection is part of the latency: {longest:?}"
    );
}

#[test]
fn a_generator_that_comes_too_late_voids_the_run() {
    let load = load(Pace::Open { per_second: 1_000 }, 2, 400);
    let mut seen = Seen { due: 100, sent: 100, answers: 100, ..Seen::new() };
    seen.own_delay.record_n(100_000, 100).unwrap();
    assert_eq!(seen.void(&load), None);
    seen.own_delay.record_n(5_000_000, 10).unwrap();
    assert!(seen.void(&load).is_some_and(|reason| reason.contains("the generator came too late")));
    seen.sent = 98;
    assert!(seen.void(&load).is_some_and(|reason| reason.contains("for want of processor time")));
}

#[test]
fn a_server_that_closes_a_connection_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || drop(listener.accept()));
    let mut script = Repeated::http(Row::Hot, 1, 10, 1);
    let failed = drive(address, &load(Pace::Closed, 1, 200), &mut script, |_| Ok(())).unwrap_err();
    let text = format!("{failed:#}");
    assert!(text.contains("closed a connection") || text.contains("could not be"), "{text}");
}
