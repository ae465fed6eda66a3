//! The second pass: carries out the plans against an engine, many invoices at once.
//!
//! Invoices start in time order and hold one of `concurrency` places each. A refund waits until its order has an
//! answer; that order started earlier and never waits for a later one, so places cannot lock each other.
//! Start at [`Drive::run`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::books::Books;
use super::plan::{AdjustmentPlan, InvoicePlan, OrderPlan, RefundPlan};
use crate::client::{Answer, CartReply, Client, Failure, MoneyReply, OrderReply, microseconds, path_segment};

/// Most bytes of lines in one request; the engine's limit is 64 KiB for the whole body.
const CHUNK_BYTES_MAX: usize = 56 * 1024;

/// Most lines in one request, as the surface says.
const CHUNK_LINES_MAX: usize = 1_000;

/// What became of an order that a refund may wait for.
#[derive(Clone, Debug)]
enum Fate {
    Open,
    Placed { id: Rc<str>, lines: Rc<Vec<(String, i64, Value)>> },
    Refused,
}

/// How invoices follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// By the file's own times, divided by this.
    Times(f64),
    /// As soon as there is a place.
    Max,
}

/// Carries out plans.
pub struct Drive {
    client: Client,
    currency: String,
    /// Whether an order may be refused for want of stock.
    may_sell_out: bool,
    books: RefCell<Books>,
    fates: RefCell<HashMap<usize, watch::Sender<Fate>>>,
    order_times: RefCell<Histogram<u64>>,
    failure: RefCell<Option<Failure>>,
}

impl Drive {
    /// A drive that writes what it expects and sees into `books`.
    pub fn new(client: Client, currency: &str, may_sell_out: bool, books: Books) -> Rc<Self> {
        Rc::new(Self {
            client,
            currency: currency.to_owned(),
            may_sell_out,
            books: RefCell::new(books),
            fates: RefCell::default(),
            order_times: RefCell::new(microseconds()),
            failure: RefCell::default(),
        })
    }

    /// The books, once the drive is over.
    pub fn books(&self) -> std::cell::RefMut<'_, Books> {
        self.books.borrow_mut()
    }

    /// Time from opening a cart to the paid order.
    pub fn order_times(&self) -> Histogram<u64> {
        self.order_times.borrow().clone()
    }

    /// Carries out all that `next` gives; returns early with the failure that stopped it.
    pub async fn run<E>(
        self: &Rc<Self>,
        mut next: impl FnMut() -> Result<Option<InvoicePlan>, E>,
        concurrency: usize,
        speed: Speed,
        begins_s: i64,
    ) -> Result<(), DriveError<E>> {
        let places = Arc::new(Semaphore::new(concurrency));
        let begun = Instant::now();
        while let Some(plan) = next().map_err(DriveError::File)? {
            if let (Speed::Times(times), Some(at_s)) = (speed, plan.at_s) {
                // Distances of years still fit f64 to the millisecond.
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "pacing needs no more than a double's precision"
                )]
                let due = Duration::from_secs_f64(((at_s - begins_s).max(0) as f64) / times);
                actix_rt::time::sleep(due.saturating_sub(begun.elapsed())).await;
            }
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            if self.failure.borrow().is_some() {
                break;
            }
            self.expect(&plan);
            let drive = Rc::clone(self);
            actix_rt::spawn(async move {
                if let Err(failure) = drive.invoice(plan).await {
                    drive.failure.borrow_mut().get_or_insert(failure);
                }
                drop(place);
            });
        }
        // Every place free again means every invoice has ended.
        let all = u32::try_from(concurrency).unwrap_or(u32::MAX);
        let _ = places.acquire_many(all).await;
        match self.failure.borrow_mut().take() {
            Some(failure) => Err(DriveError::Engine(failure)),
            None => Ok(()),
        }
    }

    fn expect(&self, plan: &InvoicePlan) {
        let mut books = self.books.borrow_mut();
        let mut fates = self.fates.borrow_mut();
        for order in &plan.orders {
            books.expect_order(order);
            if !order.may_come_back.is_empty() {
                fates.insert(order.number, watch::Sender::new(Fate::Open));
            }
        }
        plan.refunds.iter().for_each(|refund| books.expect_refund(refund));
        plan.adjustments.iter().for_each(|adjustment| books.expect_adjustment(adjustment));
    }

    async fn invoice(&self, plan: InvoicePlan) -> Result<(), Failure> {
        for order in &plan.orders {
            let result = self.order(order).await;
            let fate = result.as_ref().map_or(Fate::Refused, Clone::clone);
            if let Some(sender) = self.fates.borrow().get(&order.number) {
                sender.send_replace(fate);
            }
            result?;
        }
        for refund in &plan.refunds {
            self.refund(refund).await?;
        }
        for adjustment in &plan.adjustments {
            self.adjustment(adjustment).await?;
        }
        Ok(())
    }

    async fn order(&self, plan: &OrderPlan) -> Result<Fate, Failure> {
        let begun = Instant::now();
        let answer = self
            .client
            .post("create cart", "/v1/carts")
            .key(format!("{}:cart", plan.key))
            .as_admin()
            .json(&json!({"currency": self.currency}))
            .send()
            .await?;
        if !answer.is_success() {
            return Ok(self.order_refused(plan, &answer));
        }
        let mut cart: CartReply = answer.expect()?;
        let token = cart.token.clone().unwrap_or_default();
        let path = format!("/v1/carts/{}", path_segment(&cart.id));
        for (number, lines) in self.chunks(plan).into_iter().enumerate() {
            let answer = self
                .client
                .post("add lines", format!("{path}/lines"))
                .key(format!("{}:lines:{number}", plan.key))
                .cart_token(token.as_str())
                .as_admin()
                .bytes("application/json", lines.into())
                .send()
                .await?;
            if !answer.is_success() {
                return Ok(self.order_refused(plan, &answer));
            }
            cart = answer.expect()?;
        }
        let answer = self
            .client
            .post("checkout", format!("{path}/checkout"))
            .key(format!("{}:checkout", plan.key))
            .cart_token(token.as_str())
            .as_admin()
            .json(&json!({
                "email": "shopper@replay.example",
                "payment": {"provider": "fake", "method": "ok"},
                "expected_total": MoneyReply::new(plan.total, &self.currency),
            }))
            .send()
            .await?;
        if !answer.is_success() {
            return Ok(self.order_refused(plan, &answer));
        }
        let order = self.paid_order(&answer).await?;
        let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.order_times.borrow_mut().saturating_record(took_us);
        self.books.borrow_mut().order_placed(plan.number, &order.id);
        let lines = cart
            .lines
            .into_iter()
            .map(|line| (line.sku, line.unit_price.amount, line.line_id))
            .filter(|(sku, price, _)| plan.may_come_back.iter().any(|(back, at)| back == sku && at == price))
            .collect();
        Ok(Fate::Placed { id: order.id.into(), lines: Rc::new(lines) })
    }

    /// The order of a 201; that of a 202 once its payment has come to an end.
    async fn paid_order(&self, answer: &Answer) -> Result<OrderReply, Failure> {
        if answer.status != 202 {
            return answer.expect();
        }
        let body: Value = answer.expect()?;
        let mut order: OrderReply = serde_json::from_value(body.get("order").cloned().unwrap_or_default())
            .map_err(|_| answer.unexpected())?;
        let begun = Instant::now();
        while order.state == "pending_payment" && begun.elapsed() < Duration::from_secs(30) {
            actix_rt::time::sleep(Duration::from_millis(100)).await;
            order = self.read_order(&order.id).await?;
        }
        Ok(order)
    }

    /// Reads an order as the engine has it now.
    pub async fn read_order(&self, id: &str) -> Result<OrderReply, Failure> {
        let path = format!("/v1/orders/{}", path_segment(id));
        self.client.get("read order", path).as_admin().send().await?.expect()
    }

    fn order_refused(&self, plan: &OrderPlan, answer: &Answer) -> Fate {
        let problem = answer.problem();
        let mut books = self.books.borrow_mut();
        if self.may_sell_out && problem.code == "insufficient_stock" {
            books.order_withdrawn(plan);
        } else {
            books.refused(&format!("order {}", plan.key), &told(answer.status, &problem));
        }
        Fate::Refused
    }

    async fn refund(&self, plan: &RefundPlan) -> Result<(), Failure> {
        let waiting = self.fates.borrow().get(&plan.order).map(watch::Sender::subscribe);
        let fate = match waiting {
            Some(mut waiting) => waiting
                .wait_for(|fate| !matches!(fate, Fate::Open))
                .await
                .map_or(Fate::Refused, |fate| fate.clone()),
            None => Fate::Refused,
        };
        let Fate::Placed { id, lines } = fate else {
            // Where nothing may be refused, the refused order is a difference already and the file's side stands.
            if self.may_sell_out {
                self.books.borrow_mut().refund_withdrawn(plan);
            }
            return Ok(());
        };
        let line = lines.iter().find(|(sku, price, _)| *sku == plan.sku && *price == plan.sold_price);
        let Some((_, _, line_id)) = line else {
            self.books.borrow_mut().refused(&format!("refund {}", plan.key), "the order has no such line");
            return Ok(());
        };
        let mut body = json!({
            "lines": [{"line_id": line_id, "quantity": plan.units}],
            "restock": true,
            "reason": "returned",
        });
        if plan.amount != plan.units * plan.sold_price {
            body["amount"] = json!(MoneyReply::new(plan.amount, &self.currency));
        }
        let answer = self
            .client
            .post("refund", format!("/v1/admin/orders/{}/refunds", path_segment(&id)))
            .key(plan.key.as_str())
            .as_admin()
            .json(&body)
            .send()
            .await?;
        let mut books = self.books.borrow_mut();
        if answer.is_success() {
            books.carried.refunds_made += 1;
        } else {
            books.refused(&format!("refund {}", plan.key), &told(answer.status, &answer.problem()));
        }
        Ok(())
    }

    async fn adjustment(&self, plan: &AdjustmentPlan) -> Result<(), Failure> {
        let answer = self
            .client
            .post("adjust stock", format!("/v1/admin/skus/{}/adjustments", path_segment(&plan.sku)))
            .key(plan.key.as_str())
            .as_admin()
            .json(&json!({"delta": plan.delta, "reason": plan.rule.name(), "reference": plan.reference}))
            .send()
            .await?;
        let mut books = self.books.borrow_mut();
        if answer.is_success() {
            books.carried.adjustments_made += 1;
            return Ok(());
        }
        let problem = answer.problem();
        if self.may_sell_out && problem.code == "insufficient_stock" {
            books.adjustment_withdrawn(plan);
        } else {
            books.refused(&format!("adjustment {}", plan.key), &told(answer.status, &problem));
        }
        Ok(())
    }

    /// The order's lines as request bodies, each within the engine's limits.
    fn chunks(&self, plan: &OrderPlan) -> Vec<String> {
        let mut chunks = Vec::new();
        let (mut body, mut lines) = (String::new(), 0);
        for line in &plan.lines {
            let written = json!({
                "sku": line.sku,
                "quantity": line.quantity,
                "unit_price": MoneyReply::new(line.price, &self.currency),
            })
            .to_string();
            if lines == CHUNK_LINES_MAX || body.len() + written.len() > CHUNK_BYTES_MAX {
                chunks.push(format!("{{\"lines\":[{body}]}}"));
                body.clear();
                lines = 0;
            }
            if lines > 0 {
                body.push(',');
            }
            body.push_str(&written);
            lines += 1;
        }
        chunks.push(format!("{{\"lines\":[{body}]}}"));
        chunks
    }
}

/// Why a drive stopped.
#[derive(Debug, thiserror::Error)]
pub enum DriveError<E> {
    /// The file could not be read on.
    #[error(transparent)]
    File(E),
    /// The engine could not be reached any more.
    #[error(transparent)]
    Engine(Failure),
}

fn told(status: u16, problem: &crate::client::ProblemReply) -> String {
    format!("{status} {}: {}", problem.code, problem.detail.as_deref().unwrap_or("no detail"))
}
