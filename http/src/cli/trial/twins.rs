//! Twins: of every kind of keyed request a hundred copies at once, which must have one effect and one answer (law 5).
//!
//! Each kind is prepared, sent by all twins on connections of their own, compared byte for byte, and then its effect is
//! counted on the surface. Start at [`run`].

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ledger::Request;
use crate::cli::rush::audit::stock;
use crate::client::{Answer, Client, Failure, MoneyReply, StockReply, path_segment};

/// What twins of one kind came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which kind.
    pub kind: &'static str,
    /// Status of the answer.
    pub status: u16,
    /// Different answers; one is right.
    pub answers: usize,
    /// Answers not marked as repeats; one is right.
    pub fresh: usize,
    /// What its effect should be and is not.
    pub wrong: Option<String>,
}

impl Row {
    /// Whether it is as promised.
    pub fn is_right(&self) -> bool {
        // A refusal, as of a declined payment, carries no mark.
        let is_one_fresh = self.fresh == 1 || self.status >= 400;
        self.answers == 1 && is_one_fresh && self.wrong.is_none()
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "kind": self.kind, "status": self.status, "different_answers": self.answers, "effects_told": self.fresh,
            "wrong": self.wrong, "right": self.is_right(),
        })
    }
}

/// Sends `twins` copies of each kind.
pub async fn run(client: &Client, twins: usize) -> Result<Vec<Row>, Failure> {
    let run: String = uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect();
    let stage = Stage { client, twins, run, rows: RefCell::default() };
    stage.stock_kinds().await?;
    stage.reservation_kinds().await?;
    stage.cart_kinds().await?;
    stage.order_kinds().await?;
    Ok(stage.rows.into_inner())
}

struct Stage<'a> {
    client: &'a Client,
    twins: usize,
    run: String,
    rows: RefCell<Vec<Row>>,
}

/// Stock figures that twins may move.
type Figures = (i64, i64, i64);

impl Stage<'_> {
    fn request(&self, method: &str, path: impl Into<String>, what: &str) -> Request {
        Request::new(method, path, format!("twins:{}:{what}", self.run))
    }

    fn sku(&self, name: &str) -> String {
        format!("TWINS-{}-{name}", self.run)
    }

    fn admin_path(&self, name: &str, rest: &str) -> String {
        format!("/v1/admin/skus/{}{rest}", path_segment(&self.sku(name)))
    }

    /// Sends all twins at once and compares their answers.
    async fn twins(&self, kind: &'static str, request: &Request) -> Result<Answer, Failure> {
        let sent = (0..self.twins).map(|_| async move { request.call(self.client, "twin")?.send().await });
        let answers = futures_util::future::join_all(sent).await;
        let mut different: BTreeMap<(u16, Vec<u8>), usize> = BTreeMap::new();
        let (mut fresh, mut last) = (0, None);
        for answer in answers {
            let answer = answer?;
            let (body, is_replayed) = comparable(&answer);
            *different.entry((answer.status, body)).or_default() += 1;
            fresh += usize::from(!is_replayed);
            last = Some(answer);
        }
        let Some(answer) = last else {
            return Err(Failure::Unexpected {
                what: kind.to_owned(),
                status: 0,
                excerpt: "no twins".to_owned(),
            });
        };
        let row = Row { kind, status: answer.status, answers: different.len(), fresh, wrong: None };
        self.rows.borrow_mut().push(row);
        Ok(answer)
    }

    /// Notes what is wrong with the newest row.
    fn expect<T: PartialEq + std::fmt::Debug>(&self, what: &str, wanted: &T, seen: &T) {
        if wanted != seen
            && let Some(row) = self.rows.borrow_mut().last_mut()
        {
            row.wrong.get_or_insert_with(|| format!("{what} should be {wanted:?} and is {seen:?}"));
        }
    }

    fn expect_status(&self, wanted: u16) {
        let seen = self.rows.borrow().last().map_or(0, |row| row.status);
        self.expect("status", &wanted, &seen);
    }

    /// Received, reserved and sold units of a SKU.
    async fn figures(&self, name: &str) -> Result<Figures, Failure> {
        let stock = stock(self.client, &self.sku(name)).await?;
        Ok(stock
            .map_or((-1, -1, -1), |StockReply { received, reserved, sold, .. }| (received, reserved, sold)))
    }

    async fn expect_figures(&self, name: &str, wanted: Figures) -> Result<(), Failure> {
        let seen = self.figures(name).await?;
        self.expect("(received, reserved, sold)", &wanted, &seen);
        Ok(())
    }

    async fn json(&self, path: &str, token: Option<&str>) -> Result<Value, Failure> {
        let call = self.client.get("read", path).as_admin();
        let call = if let Some(token) = token { call.cart_token(token) } else { call };
        call.send().await?.expect()
    }

    async fn once(&self, request: &Request) -> Result<Value, Failure> {
        request.call(self.client, "prepare")?.send().await?.expect()
    }

    fn new_sku(&self, name: &str, units: i64) -> Request {
        let body = json!({"name": "Twins", "price": MoneyReply::new(1000, "GBP"), "on_hand": units});
        self.request("PUT", self.admin_path(name, ""), &format!("sku-{name}")).as_admin().json(&body)
    }

    async fn stock_kinds(&self) -> Result<(), Failure> {
        self.twins("make a SKU", &self.new_sku("A", 100)).await?;
        self.expect_status(201);
        self.expect_figures("A", (100, 0, 0)).await?;

        let adjust = self.request("POST", self.admin_path("A", "/adjustments"), "adjust").as_admin();
        self.twins("adjust stock", &adjust.json(&json!({"delta": 7, "reason": "found"}))).await?;
        self.expect_status(200);
        self.expect_figures("A", (107, 0, 0)).await?;

        let read = self.client.get("read", self.admin_path("A", "/stock")).as_admin().send().await?;
        let mut count = self
            .request("PUT", self.admin_path("A", "/stock"), "count")
            .as_admin()
            .json(&json!({"on_hand": 120, "reason": "counted"}));
        count.if_match = read.version;
        self.twins("set stock", &count).await?;
        self.expect_status(200);
        self.expect_figures("A", (120, 0, 0)).await
    }

    fn reserve(&self, what: &str, body: &Value) -> Request {
        self.request("POST", "/v1/reservations", what).json(body)
    }

    async fn reservation_kinds(&self) -> Result<(), Failure> {
        self.once(&self.new_sku("B", 3)).await?;
        let item = |name: &str, units: i64| json!({"sku": self.sku(name), "quantity": units});

        let one = self.reserve("one", &json!({"items": [item("A", 2)], "ttl_s": 3600}));
        let reserved: Value = self.twins("reserve one SKU", &one).await?.expect()?;
        self.expect_status(201);
        self.expect_figures("A", (120, 2, 0)).await?;
        let id = reserved["id"].as_str().unwrap_or_default().to_owned();

        let extend = self.request("PATCH", format!("/v1/reservations/{id}"), "extend");
        let extended: Value =
            self.twins("extend", &extend.json(&json!({"extend_s": 600}))).await?.expect()?;
        self.expect_status(200);
        let now = self.json(&format!("/v1/reservations/{id}"), None).await?;
        self.expect("expires_at", &extended["expires_at"], &now["expires_at"]);

        self.twins("commit", &self.request("POST", format!("/v1/reservations/{id}/commit"), "commit"))
            .await?;
        self.expect_status(200);
        self.expect_figures("A", (120, 0, 2)).await?;

        let many = self.reserve("many", &json!({"items": [item("A", 1), item("B", 1)], "ttl_s": 3600}));
        let reserved: Value = self.twins("reserve several SKUs", &many).await?.expect()?;
        self.expect_status(201);
        self.expect_figures("A", (120, 1, 2)).await?;
        self.expect_figures("B", (3, 1, 0)).await?;

        let id = reserved["id"].as_str().unwrap_or_default().to_owned();
        self.twins("release", &self.request("DELETE", format!("/v1/reservations/{id}"), "release")).await?;
        self.expect_status(200);
        self.expect_figures("A", (120, 0, 2)).await?;
        self.expect_figures("B", (3, 0, 0)).await?;

        let part = json!({"items": [item("B", 5)], "partial": true, "ttl_s": 3600});
        self.twins("reserve a part", &self.reserve("part", &part)).await?;
        self.expect_status(201);
        self.expect_figures("B", (3, 3, 0)).await?;

        let requests: Vec<Value> = (0..3)
            .map(|place| json!({"key": format!("{}:{place}", self.run), "items": [item("A", 1)], "ttl_s": 3600}))
            .collect();
        let batch =
            self.request("POST", "/v1/reservations/batch", "batch").json(&json!({"requests": requests}));
        self.twins("reserve in a batch", &batch).await?;
        self.expect_status(200);
        self.expect_figures("A", (120, 3, 2)).await
    }

    /// A cart with one unit of A: its path and token.
    async fn cart(&self, what: &str) -> Result<(String, String), Failure> {
        let made = self.once(&self.new_cart(what)).await?;
        Ok(opened(&made))
    }

    fn new_cart(&self, what: &str) -> Request {
        let items = json!({"items": [{"sku": self.sku("A"), "quantity": 1}]});
        self.request("POST", "/v1/carts", what).json(&items)
    }

    async fn cart_kinds(&self) -> Result<(), Failure> {
        let made: Value = self.twins("make a cart", &self.new_cart("cart")).await?.expect()?;
        self.expect_status(201);
        let (path, token) = opened(&made);

        let more = self.request("POST", format!("{path}/lines"), "line").token(&token);
        self.twins("add a line", &more.json(&json!({"sku": self.sku("B"), "quantity": 2}))).await?;
        self.expect_status(200);
        let cart = self.json(&path, Some(&token)).await?;
        self.expect("units of B", &json!(2), &cart["lines"][1]["quantity"]);

        let line = format!("{path}/lines/{}", cart["lines"][1]["line_id"].as_str().unwrap_or_default());
        let set = self.request("PATCH", line.as_str(), "set").token(&token).json(&json!({"quantity": 5}));
        self.twins("set a line", &set).await?;
        self.expect_status(200);
        let cart = self.json(&path, Some(&token)).await?;
        self.expect("units of B", &json!(5), &cart["lines"][1]["quantity"]);

        self.twins("remove a line", &self.request("DELETE", line.as_str(), "remove").token(&token)).await?;
        self.expect_status(200);
        let cart = self.json(&path, Some(&token)).await?;
        self.expect("lines", &Some(1), &cart["lines"].as_array().map(Vec::len));

        self.twins("delete a cart", &self.request("DELETE", path.as_str(), "delete").token(&token)).await?;
        self.expect_status(204);
        Ok(())
    }

    fn checkout(&self, path: &str, token: &str, method: &str) -> Request {
        let body = json!({"email": format!("{}@{}.example", method.replace('_', "-"), self.run),
            "payment": {"provider": "fake", "method": method}});
        self.request("POST", format!("{path}/checkout"), &format!("checkout-{method}"))
            .token(token)
            .json(&body)
    }

    async fn orders_of(&self, method: &str) -> Result<Vec<Value>, Failure> {
        let email = format!("{}%40{}.example", method.replace('_', "-"), self.run);
        let list = self.json(&format!("/v1/admin/orders?email={email}"), None).await?;
        Ok(list["data"].as_array().cloned().unwrap_or_default())
    }

    async fn order_kinds(&self) -> Result<(), Failure> {
        let (received, reserved, mut sold) = self.figures("A").await?;

        let (path, token) = self.cart("cart-ok").await?;
        let order: Value = self.twins("check out", &self.checkout(&path, &token, "ok")).await?.expect()?;
        self.expect_status(201);
        sold += 1;
        self.expect_figures("A", (received, reserved, sold)).await?;
        self.expect("orders", &1, &self.orders_of("ok").await?.len());

        let id = order["id"].as_str().unwrap_or_default();
        let refund = self.request("POST", format!("/v1/admin/orders/{id}/refunds"), "refund").as_admin();
        self.twins("refund", &refund.json(&json!({"amount": MoneyReply::new(100, "GBP")}))).await?;
        self.expect_status(201);
        let now = self.json(&format!("/v1/orders/{id}"), None).await?;
        self.expect("refunded", &json!(100), &now["payment"]["refunded"]["amount"]);

        let fulfil = self.request("POST", format!("/v1/admin/orders/{id}/fulfilments"), "fulfil").as_admin();
        self.twins("fulfil", &fulfil.json(&json!({"tracking": "T1"}))).await?;
        self.expect_status(201);

        let (path, token) = self.cart("cart-declined").await?;
        self.twins("check out, declined", &self.checkout(&path, &token, "declined")).await?;
        self.expect_status(402);
        self.expect_figures("A", (received, reserved, sold)).await?;
        // Law 4: a copy that comes when the first was refused already is a new attempt, so there may be more than one order.
        // None may keep anything: not a unit, not a penny.
        let orders = self.orders_of("declined").await?;
        let kept =
            |order: &&Value| order["state"] != "cancelled" || order["payment"]["captured"]["amount"] != 0;
        self.expect("attempts", &true, &!orders.is_empty());
        self.expect("attempts that kept something", &0, &orders.iter().filter(kept).count());

        let (path, token) = self.cart("cart-action").await?;
        let pending: Value = self
            .twins("check out, to be confirmed", &self.checkout(&path, &token, "requires_action"))
            .await?
            .expect()?;
        self.expect_status(202);
        self.expect_figures("A", (received, reserved + 1, sold)).await?;

        let id = pending["order"]["id"].as_str().unwrap_or_default();
        let confirm = self.request("POST", format!("/v1/orders/{id}/confirm"), "confirm").token(&token);
        self.twins("confirm", &confirm).await?;
        self.expect_status(200);
        sold += 1;
        self.expect_figures("A", (received, reserved, sold)).await?;

        let cancel = self.request("POST", format!("/v1/orders/{id}/cancel"), "cancel").token(&token);
        self.twins("cancel", &cancel).await?;
        self.expect_status(200);
        self.expect_figures("A", (received, reserved, sold - 1)).await?;
        self.expect("orders", &1, &self.orders_of("requires_action").await?.len());
        Ok(())
    }
}

/// Path and token of a cart just made.
fn opened(made: &Value) -> (String, String) {
    let id = made["id"].as_str().unwrap_or_default();
    (format!("/v1/carts/{}", path_segment(id)), made["token"].as_str().unwrap_or_default().to_owned())
}

/// The bytes to compare, and whether it is marked as a repeat. A batch marks each of its results inside the body.
fn comparable(answer: &Answer) -> (Vec<u8>, bool) {
    let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else {
        return (answer.body.to_vec(), answer.replayed);
    };
    let Some(results) = body.get_mut("results").and_then(Value::as_array_mut) else {
        return (answer.body.to_vec(), answer.replayed);
    };
    let mut is_replayed = true;
    for result in results {
        let marked = result.as_object_mut().and_then(|result| result.remove("replayed"));
        is_replayed &= marked == Some(Value::Bool(true));
    }
    (body.to_string().into_bytes(), is_replayed)
}
