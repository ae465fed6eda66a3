//! The limits as a whole, over counts that answer, refuse and stay silent.

use std::sync::Mutex;

use actix_web::test::TestRequest;

use super::*;
use crate::routes::table::index_of;

/// A shared count that says what it is told to.
struct Said(Mutex<Option<Vec<Count>>>);

impl SharedCounts for Said {
    fn take<'a>(&'a self, _asks: &'a [Ask<'a>]) -> Counting<'a> {
        let answer = self.0.lock().unwrap().clone();
        Box::pin(async move { answer })
    }
}

fn limits(shared: Option<Arc<dyn SharedCounts>>) -> RateLimits {
    let text = "[[limit]]\nname = \"browsing\"\nroutes = [\"catalogue\"]\nper = \"address\"\nrequests = 2\nwindow_s = 60\n";
    RateLimits::new(Policy::parse(text).unwrap(), Proxies::default(), shared, 1)
}

fn browse(limits: &RateLimits) -> (Decision, Option<Problem>) {
    let request = TestRequest::get().peer_addr("192.0.2.1:4711".parse().unwrap()).to_http_request();
    actix_rt::System::new().block_on(limits.check(&request, index_of("list_skus"), ""))
}

#[test]
fn what_the_shared_count_says_counts_and_its_silence_leaves_each_alone() {
    let refuse = Count { allowed: false, remaining: 0, retry_after_us: 2_500_000, reset_us: 60_000_000 };
    let allow = Count { allowed: true, remaining: 9, retry_after_us: 0, reset_us: 1 };
    let said = Arc::new(Said(Mutex::new(Some(vec![refuse]))));
    let limits = limits(Some(Arc::clone(&said) as Arc<dyn SharedCounts>));
    let (decision, problem) = browse(&limits);
    assert_eq!(problem.and_then(|problem| problem.retry_after_ms()), Some(2_500));
    assert_eq!(
        (decision.policy.as_str(), decision.state.as_str()),
        ("\"browsing\";q=2;w=60", "\"browsing\";r=0;t=60")
    );
    *said.0.lock().unwrap() = Some(vec![allow]);
    for _ in 0..5 {
        assert!(browse(&limits).1.is_none(), "others may have asked less than this instance knows");
    }
    for silence in [None, Some(vec![])] {
        *said.0.lock().unwrap() = silence;
        assert!(browse(&limits).1.is_some(), "alone, this instance has counted all along");
    }
}

#[test]
fn routes_without_a_limit_cost_nothing_and_tell_nothing() {
    let limits = limits(None);
    let request = TestRequest::get().to_http_request();
    let check = limits.check(&request, index_of("live"), "");
    let (decision, problem) = actix_rt::System::new().block_on(check);
    assert!(problem.is_none() && decision.state.is_empty());
}

#[test]
fn who_asks_is_hashed_and_kinds_do_not_meet() {
    assert_ne!(who(b"address", b"x"), who(b"caller", b"x"));
    assert_eq!(who(b"caller", b"x"), who(b"caller", b"x"));
}
