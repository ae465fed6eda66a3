//! One shopper: cart, checkout, 3-D Secure, and what comes afterwards, with every definite answer written down.
//!
//! Each change is asked for under one key until its answer is definite, through whatever happens to the engine meanwhile.
//! Start at [`visit`].

use std::time::{Duration, Instant};

use doorbuster_servers::process;
use doorbuster_stripe::Stripe;
use serde_json::{Value, json};

use crate::client::{Answer, Client, Request};
use crate::plan::{Afterwards, Plan, Way};

/// How long a shopper looks whether an order that waits goes on.
const LOOKS_FOR: Duration = Duration::from_secs(120);

/// Amount of a refund for a scratch, minor units; below the price of any order.
const SCRATCH: i64 = 50;

/// What the shopper was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing yet.
    #[default]
    Nothing,
    /// The order stands.
    Paid,
    /// The payment was declined.
    Declined,
    /// There were not enough units.
    OutOfStock,
    /// The order is off.
    Off,
    /// The order waits; the shopper has left.
    Waits,
}

/// What one shopper knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) number: u64,
    pub(crate) cart: String,
    /// Every order that the shopper was told of.
    pub(crate) orders: Vec<String>,
    /// The last of them.
    pub(crate) order: Option<String>,
    pub(crate) told: Told,
    pub(crate) items: Vec<(String, i64)>,
    /// Whether it was said that the order is cancelled.
    pub(crate) cancelled: bool,
    /// Minor units that were said to have gone back.
    pub(crate) refunded: i64,
    /// Units that were said to go back on the shelf, by SKU.
    pub(crate) restocked: Vec<(String, i64)>,
    /// What the checkout's first answer was, how long after it was first sent, and when.
    pub(crate) checkout: Option<Checkout>,
    /// Repeats of what was answered, and those that were answered otherwise than before.
    pub(crate) repeats: u64,
    pub(crate) changed: Vec<String>,
    /// What is to be repeated at the end.
    pub(crate) later: Vec<(Request, u16, Vec<u8>)>,
    /// Answers that no promise allows.
    pub(crate) strange: Vec<String>,
    /// 3-D Secure was passed, though nobody came back.
    pub(crate) left_after_passing: bool,
}

/// The first definite answer to a checkout.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    /// 201, 202 `requires_action`, 202 `payment_pending`, 402, 409.
    pub(crate) what: String,
    pub(crate) sent: Instant,
    pub(crate) took: Duration,
}

/// Lets one shopper shop.
pub(crate) fn visit(
    client: &mut Client<'_>,
    stripe: &Stripe,
    run: &str,
    number: u64,
    plan: &Plan,
    waits: bool,
) -> anyhow::Result<Record> {
    let record = Record { number, items: plan.items.clone(), ..Record::default() };
    let key = format!("{run}-{number}");
    let mut shopper = Shopper { client, stripe, plan, key, waits, token: String::new(), record };
    shopper.shop()?;
    Ok(shopper.record)
}

struct Shopper<'a, 'met> {
    client: &'a mut Client<'met>,
    stripe: &'a Stripe,
    plan: &'a Plan,
    key: String,
    /// Whether the shopper stays for an order that waits.
    waits: bool,
    token: String,
    record: Record,
}

impl Shopper<'_, '_> {
    fn shop(&mut self) -> anyhow::Result<()> {
        let items: Vec<Value> =
            self.plan.items.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
        let body = json!({"currency": "GBP", "items": items});
        let cart = self.client.ask(&Request::post("/v1/carts", format!("{}:cart", self.key), &body))?;
        if cart.status != 201 {
            self.strange("a cart", &cart);
            return Ok(());
        }
        cart.text("id").clone_into(&mut self.record.cart);
        cart.text("token").clone_into(&mut self.token);
        let body = json!({
            "email": format!("shopper-{}@example.com", self.record.number),
            "payment": {"provider": "stripe", "method": self.plan.method()},
        });
        let path = format!("/v1/carts/{}/checkout", self.record.cart);
        let request = Request::post(path, format!("{}:checkout", self.key), &body).with_token(&self.token);
        let sent = Instant::now();
        let answer = self.client.ask(&request)?;
        let what = match (answer.status, answer.text("status")) {
            (202, status) => format!("202 {status}"),
            (201, _) => "201".to_owned(),
            (status, _) => format!("{status} {}", answer.text("code")),
        };
        self.record.checkout = Some(Checkout { what, sent, took: sent.elapsed() });
        self.keep(&request, &answer)?;
        self.follow(answer)?;
        if self.record.told == Told::Paid {
            self.afterwards()?;
        }
        Ok(())
    }

    /// Repeats an acknowledgement now and then. A refusal is none: its copy is a new attempt.
    fn keep(&mut self, request: &Request, answer: &Answer) -> anyhow::Result<()> {
        if !(200..300).contains(&answer.status) {
            return Ok(());
        }
        if self.plan.repeats {
            let again = self.client.ask(request)?;
            self.record.repeats += 1;
            if (again.status, &again.bytes) != (answer.status, &answer.bytes) {
                self.record.changed.push(difference(request, answer.status, &answer.bytes, &again));
            }
        }
        if self.plan.repeats_at_the_end {
            self.record.later.push((request.clone(), answer.status, answer.bytes.clone()));
        }
        Ok(())
    }

    /// Goes on from the answer to a checkout or a confirmation until the shopper knows, or leaves.
    fn follow(&mut self, mut answer: Answer) -> anyhow::Result<()> {
        let mut confirmations = 0;
        loop {
            let order = if answer.status == 202 { &answer.body["order"] } else { &answer.body };
            if let Some(id) = order["id"].as_str().filter(|id| id.starts_with("ord_")) {
                if !self.record.orders.iter().any(|known| known == id) {
                    self.record.orders.push(id.to_owned());
                }
                self.record.order = Some(id.to_owned());
            }
            let (status, said, code) = (answer.status, answer.text("status"), answer.text("code"));
            match (status, said, code) {
                (200 | 201, ..) => {
                    self.record.told = match answer.text("state") {
                        "paid" => Told::Paid,
                        "cancelled" => Told::Off,
                        _ => {
                            self.strange("an order", &answer);
                            return Ok(());
                        }
                    };
                    return Ok(());
                }
                (202, "requires_action", _) => {
                    let secret = answer.text("client_secret");
                    let intent = secret.split("_secret_").next().unwrap_or_default().to_owned();
                    match self.act(&intent)? {
                        Some(next) => answer = next,
                        None => return Ok(()),
                    }
                }
                (202, "payment_pending", _) if !self.waits => {
                    self.record.told = Told::Waits;
                    return Ok(());
                }
                (202, "payment_pending", _) => match self.look_until_it_moves()? {
                    Some(order) if order["state"] == "pending_payment" => {
                        // It wants the shopper: the secret comes with the confirmation's answer.
                        confirmations += 1;
                        answer = self.confirm(confirmations)?;
                    }
                    Some(order) => {
                        let status = if order["state"] == "cancelled" { Told::Off } else { Told::Paid };
                        self.record.told = status;
                        return Ok(());
                    }
                    None => {
                        self.record.told = Told::Waits;
                        return Ok(());
                    }
                },
                (402, _, "payment_declined") => {
                    self.record.told = Told::Declined;
                    return Ok(());
                }
                (409, _, "insufficient_stock") => {
                    self.record.told = Told::OutOfStock;
                    return Ok(());
                }
                // A confirmation that came when the order was off: it failed 3-D Secure, or its time was up.
                (409, _, "illegal_transition") if self.record.order.is_some() => {
                    self.record.told = Told::Off;
                    return Ok(());
                }
                _ => {
                    self.strange("a checkout", &answer);
                    return Ok(());
                }
            }
        }
    }

    /// What the shopper does about 3-D Secure; the next answer, or nothing where the shopper has left.
    fn act(&mut self, intent: &str) -> anyhow::Result<Option<Answer>> {
        self.record.told = Told::Waits;
        match self.plan.way {
            Way::Card | Way::Returns => {
                // Too late where the order has given up meanwhile; the confirmation then says so.
                let _passed = self.stripe.authenticate(intent, true);
                Ok(Some(self.confirm(0)?))
            }
            Way::ReturnsLate => {
                let _passed = self.stripe.authenticate(intent, true);
                // Where the webhook is lost in a kill, the shopper comes back before its repeat.
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(5) && self.state()? == "pending_payment" {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Ok(Some(self.confirm(0)?))
            }
            Way::Leaves => {
                self.record.left_after_passing = self.stripe.authenticate(intent, true).is_ok();
                Ok(None)
            }
            Way::Abandons => Ok(None),
            Way::Fails => {
                let _failed = self.stripe.authenticate(intent, false);
                Ok(Some(self.confirm(0)?))
            }
            Way::Cancels => {
                self.cancel()?;
                Ok(None)
            }
        }
    }

    fn order(&self) -> &str {
        self.record.order.as_deref().unwrap_or_default()
    }

    fn state(&mut self) -> anyhow::Result<String> {
        let path = format!("/v1/orders/{}", self.order());
        let order = self.client.look(&path)?;
        Ok(order["state"].as_str().unwrap_or_default().to_owned())
    }

    fn confirm(&mut self, nth: u32) -> anyhow::Result<Answer> {
        let path = format!("/v1/orders/{}/confirm", self.order());
        let key = format!("{}:confirm-{nth}", self.key);
        let request = Request::post(path, key, &Value::Null).with_token(&self.token);
        let answer = self.client.ask(&request)?;
        self.keep(&request, &answer)?;
        Ok(answer)
    }

    /// The order once it is paid, off, or wants its shopper; nothing where that takes too long.
    fn look_until_it_moves(&mut self) -> anyhow::Result<Option<Value>> {
        let (began, mut pause) = (Instant::now(), Duration::from_millis(50));
        let path = format!("/v1/orders/{}", self.order());
        while began.elapsed() < LOOKS_FOR && !process::interrupted() {
            let order = self.client.look(&path)?;
            if order["state"] != "pending_payment" || order["payment"]["state"] == "requires_action" {
                return Ok(Some(order));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Ok(None)
    }

    fn cancel(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/orders/{}/cancel", self.order());
        let request =
            Request::post(path, format!("{}:cancel", self.key), &Value::Null).with_token(&self.token);
        let answer = self.client.ask(&request)?;
        self.keep(&request, &answer)?;
        if answer.status == 200 && answer.text("state") == "cancelled" {
            self.record.cancelled = true;
        } else {
            self.strange("a cancellation", &answer);
        }
        Ok(())
    }

    fn afterwards(&mut self) -> anyhow::Result<()> {
        let (sku, _) = self.plan.items[0].clone();
        let (body, restocked) = match self.plan.afterwards {
            Afterwards::Nothing => return Ok(()),
            Afterwards::Cancel => return self.cancel(),
            Afterwards::RefundAll { restock } => {
                (json!({"restock": restock}), if restock { self.plan.items.clone() } else { vec![] })
            }
            Afterwards::RefundUnit { restock } => {
                let order = self.client.look(&format!("/v1/orders/{}", self.order()))?;
                let lines = order["lines"].as_array().cloned().unwrap_or_default();
                let line = lines.iter().find(|line| line["sku"] == sku.as_str()).cloned().unwrap_or_default();
                let body =
                    json!({"lines": [{"line_id": line["line_id"], "quantity": 1}], "restock": restock});
                (body, if restock { vec![(sku, 1)] } else { vec![] })
            }
            Afterwards::RefundSome => {
                let amount = json!({"amount": SCRATCH, "currency": "GBP"});
                (json!({"amount": amount, "reason": "scratched"}), vec![])
            }
        };
        let path = format!("/v1/admin/orders/{}/refunds", self.order());
        let request = Request::post(path, format!("{}:refund", self.key), &body);
        let answer = self.client.ask(&request)?;
        self.keep(&request, &answer)?;
        if answer.status == 201 && answer.text("state") == "succeeded" {
            self.record.refunded += answer.body["amount"]["amount"].as_i64().unwrap_or(0);
            self.record.restocked = restocked;
        } else {
            self.strange("a refund", &answer);
        }
        Ok(())
    }

    fn strange(&mut self, what: &str, answer: &Answer) {
        let said =
            format!("shopper {}: {what} was answered {}: {}", self.record.number, answer.status, answer.body);
        self.record.strange.push(said);
    }
}

/// A repeat that was answered otherwise than the first.
pub(crate) fn difference(request: &Request, status: u16, bytes: &[u8], again: &Answer) -> String {
    format!(
        "{} {} with key {} was answered {status} {} and then {} {}",
        request.method,
        request.path,
        request.key.as_deref().unwrap_or("-"),
        String::from_utf8_lossy(bytes),
        again.status,
        String::from_utf8_lossy(&again.bytes)
    )
}
