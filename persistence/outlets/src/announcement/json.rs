//! Announcements as `CloudEvents` 1.0 in JSON: what their schemas in `docs/schemas` describe, each version for ever.

use std::fmt;

use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::money::Money;
use doorbuster_persistence::directory::EngineId;
use serde_json::{Map, Value, json};

use super::{Announcement, CancelReason, Figures, Happened, Level, Line, Subject};

/// Whose journal it is: with `id` this names an announcement in the whole world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The engine.
    pub engine: EngineId,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/doorbuster/{}", self.engine)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(id) => id.fmt(f),
            Self::Sku(sku) => sku.fmt(f),
            Self::Cart(id) => id.fmt(f),
            Self::Reservation(id) => id.fmt(f),
        }
    }
}

impl Announcement {
    /// The same for ever wherever the journal is folded: its position and its number there, so that texts order as they do.
    pub fn id(&self) -> String {
        format!("evt_{}{:02x}", self.position, self.index)
    }

    /// Its whole type name, version included.
    pub fn type_name(&self) -> String {
        format!("com.doorbuster.{}.v1", self.happened.kind())
    }

    /// Its sequence number as text that orders as the number does.
    pub fn sequence_text(&self) -> Option<String> {
        self.sequence.map(|sequence| format!("{sequence:010}"))
    }

    /// The whole event.
    pub fn cloud_event(&self, source: Source) -> Value {
        let mut event = json!({
            "specversion": "1.0",
            "id": self.id(),
            "source": source.to_string(),
            "type": self.type_name(),
            "subject": self.subject.to_string(),
            "time": time(self.at),
            "datacontenttype": "application/json",
            "dataschema": format!("urn:doorbuster:schema:{}.v1", self.happened.kind()),
            "data": self.data(),
        });
        if let Some(sequence) = self.sequence_text() {
            event["sequence"] = Value::String(sequence);
        }
        event
    }

    fn data(&self) -> Value {
        let mut data = Data::default();
        let about = match self.subject {
            Subject::Order(_) => "order",
            Subject::Sku(_) => "sku",
            Subject::Cart(_) => "cart",
            Subject::Reservation(_) => "reservation",
        };
        data.put(about, json!(self.subject.to_string()));
        let maybe = |amount: Option<Money>| amount.map(money);
        match &self.happened {
            Happened::OrderCreated { cart, number, lines, total } => {
                data.put("cart", json!(cart.to_string()));
                data.put("number", json!(number));
                data.put("lines", lines.iter().map(line).collect());
                data.put("total", money(*total));
            }
            Happened::OrderPaid { total } => data.put_some("total", maybe(*total)),
            Happened::OrderFulfilled { fulfilment, units } => {
                data.put("fulfilment", json!(fulfilment.to_string()));
                let units = units.iter();
                let units =
                    units.map(|(line, quantity)| json!({"line_id": line.to_string(), "quantity": quantity}));
                data.put("lines", units.collect());
            }
            Happened::OrderCompleted => {}
            Happened::OrderCancelled { reason } => data.put("reason", json!(cancel_reason(*reason))),
            Happened::OrderRefunded { refund, amount, refunded, in_full } => {
                data.put("refund", json!(refund.to_string()));
                data.put_some("amount", maybe(*amount));
                data.put_some("refunded_total", maybe(*refunded));
                data.put_some("in_full", in_full.map(Value::Bool));
            }
            Happened::OrderRefundFailed { refund, amount } => {
                data.put("refund", json!(refund.to_string()));
                data.put_some("amount", maybe(*amount));
            }
            Happened::PaymentSucceeded { payment, amount } => {
                data.put("payment", json!(payment.to_string()));
                data.put_some("amount", maybe(*amount));
            }
            Happened::PaymentFailed { payment, declined_retryable } => {
                data.put("payment", json!(payment.to_string()));
                data.put("reason", json!(if declined_retryable.is_some() { "declined" } else { "voided" }));
                data.put("retryable", json!(declined_retryable.unwrap_or(true)));
            }
            Happened::InventoryLow(figures) => data.put_figures(figures, Level::Low),
            Happened::InventoryRestocked(figures, level) => data.put_figures(figures, *level),
            Happened::SoldOut(figures) => data.put_figures(figures, Level::SoldOut),
            Happened::CartAbandoned { lines, total } => {
                data.put_some("lines", lines.as_ref().map(|lines| lines.iter().map(line).collect()));
                data.put_some("total", maybe(*total));
            }
            Happened::ReservationExpired { items } => {
                let items = items.iter();
                let items = items.map(|(sku, quantity)| json!({"sku": sku.as_str(), "quantity": quantity}));
                data.put("items", items.collect());
            }
        }
        Value::Object(data.0)
    }
}

/// The part of an event that is its kind's own.
#[derive(Default)]
struct Data(Map<String, Value>);

impl Data {
    fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn put_some(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn put_figures(&mut self, figures: &Figures, level: Level) {
        let state = match level {
            Level::SoldOut => "sold_out",
            Level::Low => "low_stock",
            Level::Fine => "in_stock",
        };
        self.put("state", json!(state));
        self.put("sellable", json!(figures.sellable));
        self.put("on_hand", json!(figures.on_hand));
        self.put_some("low_stock_at", figures.low_stock_at.map(|mark| json!(mark)));
    }
}

fn cancel_reason(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::OutOfStock => "out_of_stock",
        CancelReason::PaymentDeclined => "payment_declined",
        CancelReason::PaymentTimedOut => "payment_timed_out",
        CancelReason::Requested => "requested",
    }
}

fn line(line: &Line) -> Value {
    json!({
        "line_id": line.line.to_string(),
        "sku": line.sku.as_str(),
        "quantity": line.quantity,
        "unit_price": money(line.unit_price),
    })
}

fn money(money: Money) -> Value {
    json!({"amount": money.amount, "currency": money.currency.code()})
}

/// RFC 3339, UTC, milliseconds; times beyond what a calendar has are its last moment.
fn time(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.3}")
}
