//! The order history: found in Postgres, and without it all the same.

use std::time::{Duration, Instant};

use doorbuster_servers::postgres::Postgres;
use serde_json::{Value, json};

use super::command::Served;
use super::harness::{ADMIN_KEY, Connection, Request, get, post, put};

/// An engine with a Postgres behind it.
struct Shop {
    served: Served,
    /// When each order was placed, and its id, oldest first.
    placed: Vec<(String, String)>,
}

impl Shop {
    fn ask(&self, request: Request, status: u16) -> Value {
        let answer = Connection::to(self.served.address.parse().unwrap()).send(request);
        assert_eq!(answer.status, status, "{}", answer.text());
        answer.json()
    }

    fn buy(&mut self, email: &str, method: &str, status: u16) {
        let cart = self.ask(post("/v1/carts").json(json!({"items": [{"sku": "TEE", "quantity": 1}]})), 201);
        let (id, token) = (cart["id"].as_str().unwrap(), cart["token"].as_str().unwrap());
        let checkout = json!({"email": email, "payment": {"provider": "fake", "method": method}});
        let request = post(&format!("/v1/carts/{id}/checkout")).token(token).fresh_key().json(checkout);
        let order = self.ask(request, status);
        if status == 201 {
            let text = |name: &str| order[name].as_str().unwrap().to_owned();
            self.placed.push((text("created_at"), text("id")));
        }
    }

    /// Who found them, their ids, and where to go on.
    fn list(&self, query: &str) -> (String, Vec<String>, Option<String>) {
        let list = self.ask(get(&format!("/v1/admin/orders?{query}")).admin(), 200);
        let ids = list["data"].as_array().unwrap().iter().map(|order| order["id"].as_str().unwrap());
        let source = list["source"].as_str().unwrap().to_owned();
        (source, ids.map(str::to_owned).collect(), list["next_cursor"].as_str().map(str::to_owned))
    }

    /// The placed orders that are wanted, newest first; those of one millisecond by their ids.
    fn newest(&self, wanted: impl Fn(usize) -> bool) -> Vec<String> {
        let placed = self.placed.iter().enumerate().filter(|(at, _)| wanted(*at));
        let mut found: Vec<_> = placed.map(|(_, order)| order).collect();
        found.sort_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, id)| id.clone()).collect()
    }

    #[track_caller]
    fn check(&self, source: &str) {
        let found = |query: &str| {
            let (by, ids, _) = self.list(query);
            assert_eq!(by, source, "{query}");
            ids
        };
        assert_eq!(found("state=paid&fresh=true"), self.newest(|_| true));
        assert_eq!(found("email=bob%40example.org&fresh=true"), self.newest(|at| at % 2 == 1));
        assert_eq!(found("state=refunded&fresh=true"), [] as [&str; 0]);
        assert_eq!(found("state=cancelled&fresh=true").len(), 1, "the one that was declined");
        assert_eq!(found("until=2020-01-01T00:00:00Z"), [] as [&str; 0]);
        assert_eq!(found("since=2020-01-01T00:00:00Z&state=paid&fresh=true"), self.newest(|_| true));
        let (mut paged, mut query) = (vec![], "state=paid&limit=2&fresh=true".to_owned());
        while let (_, ids, Some(cursor)) = self.list(&query) {
            paged.extend(ids);
            query = format!("state=paid&limit=2&fresh=true&starting_after={cursor}");
        }
        paged.extend(self.list(&query).1);
        assert_eq!(paged, self.newest(|_| true), "pages meet without a gap or a double");
    }
}

#[test]
fn orders_are_found_in_postgres_and_without_it_alike() {
    let server = Postgres::start().unwrap();
    let url = server.fresh_database("shop").unwrap();
    let home = tempfile::tempdir().unwrap();
    // The replica is nobody: it is left alone, and the primary answers.
    let nobody = "postgres://postgres@127.0.0.1:1/shop?sslmode=disable";
    let more = ["--admin-key", ADMIN_KEY, "--database-url", &url, "--database-replica-urls", nobody];
    let mut shop = Shop { served: Served::start(home.path(), &more), placed: vec![] };
    let tee = json!({"name": "Tee", "price": {"amount": 500, "currency": "GBP"}, "on_hand": 100});
    shop.ask(put("/v1/admin/skus/TEE").admin().fresh_key().json(tee), 201);
    for number in 0..5 {
        shop.buy(if number % 2 == 0 { "ada@example.org" } else { "bob@example.org" }, "ok", 201);
    }
    shop.buy("eve@example.org", "declined", 402);
    let began = Instant::now();
    while shop.list("fresh=true").0 != "postgres" {
        assert!(began.elapsed() < Duration::from_secs(20), "Postgres is never asked");
        std::thread::sleep(Duration::from_millis(20));
    }
    shop.check("postgres");
    assert_eq!(shop.list("state=paid").1, shop.newest(|_| true), "by way of the replicas");
    server.pause();
    // Postgres is not told of it, and it is seen all the same.
    let (_, cancelled) = shop.placed.remove(4);
    shop.ask(post(&format!("/v1/orders/{cancelled}/cancel")).admin().fresh_key(), 200);
    assert_eq!(shop.list("state=paid&fresh=true"), ("engine".to_owned(), shop.newest(|_| true), None));
    shop.ask(get("/readyz"), 200);
    server.resume();
    let began = Instant::now();
    while shop.list("fresh=true").0 != "postgres" {
        assert!(began.elapsed() < Duration::from_secs(60), "Postgres is never asked again");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(shop.list("state=paid&fresh=true").1, shop.newest(|_| true));
    assert_eq!(shop.list("state=cancelled&fresh=true").1.len(), 2);
}
