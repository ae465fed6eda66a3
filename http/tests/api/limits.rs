//! Rate limits over a real socket: who is limited, what is told, and that nothing was begun.

use std::sync::Arc;

use doorbuster_http::limits::address::Proxies;
use doorbuster_http::limits::policy::Policy;
use doorbuster_http::limits::{RateLimits, SharedCounts};
use doorbuster_outlets::limits::Counts;
use doorbuster_outlets::link::{Link, LinkOptions};
use doorbuster_servers::redis::Redis;
use serde_json::json;

use super::harness::{Request, Shop, check_problem, eventually, get, post};

fn shop(policy: &str, proxies: &[&str]) -> Shop {
    shop_counting(policy, proxies, None)
}

fn shop_counting(policy: &str, proxies: &[&str], shared: Option<Arc<dyn SharedCounts>>) -> Shop {
    let policy = Policy::parse(policy).unwrap();
    let proxies: Vec<String> = proxies.iter().map(|network| (*network).to_owned()).collect();
    let limits = RateLimits::new(policy, Proxies::new(&proxies).unwrap(), shared, 1);
    Shop::open_with(|_| {}, |door| door.limits = Some(Arc::new(limits)))
}

fn limit(name: &str, routes: &str, per: &str, requests: u32) -> String {
    format!(
        "[[limit]]\nname = \"{name}\"\nroutes = [\"{routes}\"]\nper = \"{per}\"\nrequests = {requests}\nwindow_s = 3600\n"
    )
}

fn reserve(sku: &str, customer: &str) -> Request {
    let body = json!({"items": [{"sku": sku, "quantity": 1}], "customer": customer});
    post("/v1/reservations").fresh_key().json(body)
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back_and_nothing_was_begun() {
    let shop = shop(&limit("reserving", "POST /v1/reservations", "address", 3), &[]);
    shop.stock("TEE-M", 10);
    for left in [2, 1, 0] {
        let answer = shop.send(reserve("TEE-M", "ada"));
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.header("ratelimit-policy"), Some("\"reserving\";q=3;w=3600"));
        let told = answer.header("ratelimit").unwrap();
        assert!(told.starts_with(&format!("\"reserving\";r={left};t=")), "{told}");
    }
    let answer = shop.send(reserve("TEE-M", "ada"));
    let problem = check_problem("the fourth", &answer, 429, "rate_limited");
    let wait_s: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1_190..=1_200).contains(&wait_s), "{wait_s}");
    assert!(problem["detail"].as_str().unwrap().contains("reserving"), "{problem}");
    assert!(answer.header("ratelimit").unwrap().starts_with("\"reserving\";r=0;t="));
    assert_eq!(shop.stock_of("TEE-M")["reserved"], 3, "law 4");
    assert_eq!(
        shop.send(reserve("TEE-M", "ada").admin()).status,
        201,
        "the shop's own gateway is not limited"
    );
    let browsing = shop.send(get("/v1/skus/TEE-M/availability"));
    assert_eq!((browsing.status, browsing.header("ratelimit")), (200, None), "no limit covers this route");
}

#[test]
fn a_client_counts_by_its_own_address_only_behind_a_proxy_of_ours() {
    let policy = limit("browsing", "catalogue", "address", 2);
    for (label, proxies, counted_apart) in
        [("a proxy of ours", &["127.0.0.1"][..], true), ("a stranger", &[][..], false)]
    {
        let shop = shop(&policy, proxies);
        let ask = |client: &str| shop.send(get("/v1/skus").header("X-Forwarded-For", client)).status;
        assert_eq!([ask("203.0.113.1"), ask("203.0.113.1"), ask("203.0.113.1")], [200, 200, 429], "{label}");
        assert_eq!(ask("203.0.113.2") == 200, counted_apart, "{label}");
    }
}

#[test]
fn carts_and_customers_count_whoever_asks_for_them() {
    let shop = shop(
        &(limit("cart", "carts", "caller", 2) + &limit("customer", "POST /v1/reservations", "customer", 2)),
        &[],
    );
    shop.stock("TEE-M", 100);
    let (one, other) = (shop.cart(&[]), shop.cart(&[]));
    let look =
        |cart: &(String, String)| shop.send(get(&format!("/v1/carts/{}", cart.0)).token(&cart.1)).status;
    assert_eq!([look(&one), look(&one), look(&one), look(&other)], [200, 200, 429, 200]);
    let buy = |customer: &str| shop.send(reserve("TEE-M", customer)).status;
    assert_eq!([buy("ada"), buy("ada"), buy("ada"), buy("bob")], [201, 201, 429, 201]);
    assert_eq!(shop.stock_of("TEE-M")["reserved"], 3, "law 4");
}

#[test]
fn guessing_the_admin_key_is_limited_as_any_stranger_is() {
    let shop = shop(&limit("admin_calls", "admin", "address", 2), &[]);
    let guess = || shop.send(get("/v1/admin/orders").header("Authorization", "Bearer wrong-key")).status;
    assert_eq!([guess(), guess(), guess()], [401, 401, 429]);
    shop.expect(get("/v1/admin/orders").admin(), 200);
}

#[test]
fn instances_count_together_while_redis_is_there_and_each_alone_while_it_is_not() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut redis = Redis::start().unwrap();
    let policy = limit("browsing", "catalogue", "address", 3);
    let open = || {
        // Patient, because a busy machine's Redis is no outage here.
        let link = Link::new(&redis.url(), LinkOptions::patient("limits"), runtime.handle().clone()).unwrap();
        shop_counting(&policy, &[], Some(Arc::new(Counts::new(link, "shop"))))
    };
    let (one, other) = (open(), open());
    let ask = |shop: &Shop| shop.send(get("/v1/skus")).status;
    assert_eq!([ask(&one), ask(&other), ask(&one), ask(&other), ask(&one)], [200, 200, 200, 429, 429]);
    redis.kill().unwrap();
    // Each has counted what it was asked itself: `one` allowed two of its three, `other` one.
    assert_eq!(
        [ask(&one), ask(&one)],
        [429, 429],
        "a refused request counted here too, as each asked three times"
    );
    assert_eq!([ask(&other), ask(&other)], [200, 429]);
    redis.run().unwrap();
    let back = eventually("Redis found again", || (ask(&other) == 200).then(|| ask(&one)));
    assert_eq!(back, 200, "a Redis that forgot everything has forgiven everybody once");
}
