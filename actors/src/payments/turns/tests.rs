//! What a call may take, and what it waits for, told by a clock that is advanced.

use doorbuster_engine::money::Money;
use doorbuster_engine::payment::{CaptureOutcome, ChargeOutcome, ChargeRequest, RefundOutcome, VoidOutcome};

use super::*;

/// A provider elsewhere that allows so many requests a second. Nobody makes a call of it here.
struct Elsewhere(u32);

impl PaymentProvider for Elsewhere {
    fn name(&self) -> &'static str {
        "elsewhere"
    }

    fn calls_per_second_max(&self) -> Option<u32> {
        Some(self.0)
    }

    fn authorize(&self, _: &ChargeRequest) -> Answering<ChargeOutcome> {
        unreachable!("nobody asks")
    }

    fn confirm(&self, _: &ChargeRequest, _: &str) -> Answering<ChargeOutcome> {
        unreachable!("nobody asks")
    }

    fn look_up(&self, _: &ChargeRequest, _: Option<&str>) -> Answering<ChargeOutcome> {
        unreachable!("nobody asks")
    }

    fn capture(&self, _: &ChargeRequest, _: &str) -> Answering<CaptureOutcome> {
        unreachable!("nobody asks")
    }

    fn void(&self, _: &ChargeRequest, _: Option<&str>) -> Answering<VoidOutcome> {
        unreachable!("nobody asks")
    }

    fn refund(&self, _: &ChargeRequest, _: &str, _: &str, _: Money) -> Answering<RefundOutcome> {
        unreachable!("nobody asks")
    }
}

fn desk(requests_per_second: u32) -> Arc<Desk> {
    Arc::new(Desk::new(Arc::new(Elsewhere(requests_per_second))))
}

/// A call whose requests take so long each, one after another.
fn call(turns: &Turns, requests_ms: &'static [u64]) -> Answering<()> {
    let turns = turns.clone();
    Box::pin(async move {
        for ms in requests_ms {
            assert!(turns.turn().await);
            tokio::time::sleep(Duration::from_millis(*ms)).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_place_is_no_part_of_the_calls_deadline() {
    // The desk's place, one of the burst, and from then on one a second; the deadline is 500 ms.
    for (label, requests_ms, expected, at_ms) in [
        ("one request", &[400][..], true, 400),
        ("one that takes too long", &[600], false, 500),
        ("four, each answered soon", &[100, 100, 100, 100], true, 2_900),
        ("the third takes too long", &[100, 100, 600], false, 2_100),
        ("all together take too long", &[200, 200, 200], false, 1_900),
    ] {
        let desk = desk(1);
        let began = Instant::now();
        desk.place().await;
        let turns = Turns::of_placed(&desk);
        let answered = turns.within(Duration::from_millis(500), call(&turns, requests_ms)).await;
        assert_eq!(answered.is_some(), expected, "{label}");
        assert_eq!(began.elapsed().as_millis(), at_ms, "{label}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_of_requests_that_are_made_together_count_once() {
    let desk = desk(10);
    desk.place().await;
    let turns = Turns::of_placed(&desk);
    let all = {
        let turns = turns.clone();
        async move {
            let each = || call(&turns, &[100]);
            tokio::join!(each(), each(), each(), each(), each(), each())
        }
    };
    let began = Instant::now();
    assert!(turns.within(Duration::from_millis(150), Box::pin(all)).await.is_some());
    assert_eq!(began.elapsed().as_millis(), 400, "0, 0, 0, 100, 200 and 300 ms, and the last one's answer");
    assert_eq!(turns.waited().as_millis(), 300);
}

#[tokio::test(start_paused = true)]
async fn who_has_little_patience_takes_no_place_where_there_is_none_soon() {
    let desk = desk(2);
    let turns: Vec<_> =
        (0..20).map(|_| tokio::spawn(Turns::of_patient(&desk, Duration::from_secs(1)).turn())).collect();
    let mut granted = 0;
    for turn in turns {
        granted += usize::from(turn.await.unwrap());
    }
    assert_eq!(granted, 3, "now, after 300 ms, after 800 ms");
    assert!(desk.status().pace_wait <= Duration::from_secs(1), "{:?}", desk.status().pace_wait);
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_for_a_place_does_not_go_in_one_heap_with_others() {
    let (desk, began) = (desk(100), Instant::now());
    let places: Vec<_> = (0..100)
        .map(|_| {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                desk.place().await;
                began.elapsed().as_millis()
            })
        })
        .collect();
    // The burst goes. Then all stands still for a second: the other places' moments pass, and nobody comes for them.
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut at = Vec::new();
    for place in places {
        at.push(place.await.unwrap());
    }
    let count = |ms| at.iter().filter(|at| **at == ms).count();
    assert_eq!((count(0), count(1_000)), (21, 21), "a burst at most, however many are late");
    assert_eq!(at.last(), Some(&1_580), "then evenly, and first come, first served");
}

/// Found by measuring: a timer that ends at once still takes a tick, and all calls of a provider without a pace stood in line
/// behind one another's.
#[tokio::test(start_paused = true)]
async fn whose_moment_has_come_waits_for_no_timer() {
    // Between two ticks, where nearly every call comes.
    tokio::time::advance(Duration::from_micros(300)).await;
    for (label, pace) in [("no pace", 0), ("a pace with room for a burst", 1_000)] {
        let (desk, began) = (desk(pace), Instant::now());
        for _ in 0..100 {
            assert!(desk.place_further(None).await, "{label}");
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "{label}");
    }
}
