//! What a client may ask, as plain data: it is sent again as it is, and the model is asked what may come of it.

use std::fmt::Write as _;

use doorbuster_actors::{
    Access, CheckoutInput, Engine, LineRequest, RefundInput, Reply, ReserveRequest, Ticket, Verdict,
};
use doorbuster_engine::answer::{Answer, Item};
use doorbuster_engine::event::Event;
use doorbuster_engine::identity::{CartId, OrderId, ReservationId, Sku};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{Inquiry, LineUnits, OrderEvent};
use doorbuster_engine::reservation::ReservationEvent;
use doorbuster_engine::stock::{Definition, StockEvent};

/// The name by which checkouts choose the simulated provider.
pub const PROVIDER: &str = "simulated";

/// One command, or one read.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Makes or changes a SKU.
    Define(Sku, Box<Definition>, Option<i64>),
    /// Adds or takes units.
    Adjust(Sku, i64),
    /// Sets a counted figure, based on a version.
    Count(Sku, i64, u64),
    /// Holds units: what, time to live, whether less will do.
    Reserve(Vec<Item>, Option<u64>, bool),
    /// Lengthens a reservation by so many milliseconds.
    Extend(ReservationId, u64),
    /// Sells a reservation.
    Commit(ReservationId),
    /// Gives a reservation back.
    Release(ReservationId),
    /// Makes a cart.
    MakeCart(Vec<(Sku, i64)>),
    /// Adds lines, if the version is this.
    AddLines(CartId, Vec<(Sku, i64)>, Option<u64>),
    /// Sets a line's quantity.
    SetQuantity(CartId, u32, i64, Option<u64>),
    /// Deletes a cart.
    DeleteCart(CartId),
    /// Checks a cart out, if the total is this.
    Checkout(CartId, Option<Money>),
    /// The shopper has acted.
    Confirm(OrderId),
    /// Calls an order off.
    Cancel(OrderId),
    /// Gives money back, by amount or lines.
    Refund(OrderId, Option<i64>, Option<Vec<LineUnits>>, bool),
    /// Hands units to the carrier.
    Fulfil(OrderId, Option<Vec<LineUnits>>),
    /// Reads a reservation.
    SeeReservation(ReservationId),
    /// Reads a cart.
    SeeCart(CartId),
    /// Reads an order.
    SeeOrder(OrderId),
    /// Reads a SKU's stock.
    SeeStock(Sku),
}

impl Ask {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::SeeReservation(_) | Self::SeeCart(_) | Self::SeeOrder(_) | Self::SeeStock(_))
    }

    /// The request's content, as its fingerprint hashes it.
    pub fn body(&self) -> String {
        let mut body = String::with_capacity(96);
        let _ = write!(body, "{self:?}");
        body
    }

    /// Sends it and waits for the verdict.
    pub async fn send(&self, engine: &Engine, ticket: Ticket) -> Verdict {
        let fresh = |answer| Reply { answer, replayed: false };
        match self.clone() {
            Self::Define(sku, definition, opening) => {
                engine.define_sku(ticket, sku, *definition, opening).await
            }
            Self::Adjust(sku, delta) => engine.adjust(ticket, sku, delta, "simulated".into(), None).await,
            Self::Count(sku, on_hand, version) => {
                engine.set_stock(ticket, sku, on_hand, "counted".into(), version).await
            }
            Self::Reserve(items, ttl_ms, partial) => {
                engine.reserve(ticket, ReserveRequest { items, ttl_ms, partial, customer: None }).await
            }
            Self::Extend(id, extend_ms) => engine.extend(ticket, id, extend_ms).await,
            Self::Commit(id) => engine.commit(ticket, id).await,
            Self::Release(id) => engine.release(ticket, id).await,
            Self::MakeCart(lines) => engine.create_cart(ticket, Some(Currency::GBP), requests(lines)).await,
            Self::AddLines(cart, lines, version) => {
                engine.add_lines(ticket, cart, requests(lines), version).await
            }
            Self::SetQuantity(cart, line, quantity, version) => {
                engine.set_quantity(ticket, cart, line, quantity, version).await
            }
            Self::DeleteCart(cart) => engine.delete_cart(ticket, cart).await,
            Self::Checkout(cart, expected_total) => {
                let input = CheckoutInput {
                    email: "shopper@example.org".into(),
                    provider: PROVIDER.into(),
                    method: "card".into(),
                    expected_total,
                    shipping_address: None,
                    expected_version: None,
                };
                engine.checkout(ticket, cart, input).await
            }
            Self::Confirm(order) => engine.confirm(ticket, Access::Admin, order).await,
            Self::Cancel(order) => engine.cancel(ticket, Access::Admin, order).await,
            Self::Refund(order, amount, lines, restock) => {
                let amount = amount.map(|amount| Money::new(amount, Currency::GBP));
                engine.refund(ticket, order, RefundInput { amount, lines, restock, reason: None }).await
            }
            Self::Fulfil(order, lines) => engine.fulfil(ticket, order, lines, None).await,
            Self::SeeReservation(id) => engine.reservation(id).await,
            Self::SeeCart(cart) => engine.cart(cart).await,
            Self::SeeOrder(order) => {
                let view = engine.order(Access::Admin, order).await?;
                Ok(fresh(Answer::Order(Box::new(view))))
            }
            Self::SeeStock(sku) => engine.stock(sku).await.map(|view| fresh(Answer::Stock(view))),
        }
    }

    /// Whether an event that carries this request's key can be what was asked.
    pub fn may_cause(&self, event: &Event) -> bool {
        match (self, event) {
            (
                Self::Define(_, asked, _),
                Event::Stock(StockEvent::Defined { definition, .. } | StockEvent::Redefined { definition }),
            ) => **asked == *definition,
            (Self::Adjust(_, asked), Event::Stock(StockEvent::Adjusted { delta, .. })) => asked == delta,
            (Self::Count(_, asked, _), Event::Stock(StockEvent::OnHandSet { on_hand, .. })) => {
                asked == on_hand
            }
            (
                Self::Reserve(items, ttl, partial),
                Event::Stock(StockEvent::Reserved { quantity, ttl_ms, .. }),
            ) => {
                let [item] = items.as_slice() else { return false };
                let fits = item.quantity == *quantity || (*partial && *quantity < item.quantity);
                fits && ttl.is_none_or(|ttl| ttl == *ttl_ms)
            }
            (
                Self::Reserve(items, ttl, partial),
                Event::Reservation(ReservationEvent::Requested {
                    items: asked, ttl_ms, partial: less, ..
                }),
            ) => items == asked && partial == less && ttl.is_none_or(|ttl| ttl == *ttl_ms),
            (Self::Extend(id, _), Event::Stock(StockEvent::Extended { reservation, .. })) => {
                id == reservation
            }
            (Self::Commit(id), Event::Stock(StockEvent::Committed { reservation })) => id == reservation,
            (Self::Release(id), Event::Stock(StockEvent::Released { reservation })) => id == reservation,
            (Self::Extend(..), Event::Reservation(ReservationEvent::Extended { .. })) => true,
            (Self::Commit(_), Event::Reservation(ReservationEvent::Committed)) => true,
            (Self::Release(_), Event::Reservation(ReservationEvent::Released)) => true,
            (Self::Checkout(..), Event::Order(OrderEvent::Started(draft))) => draft.provider == PROVIDER,
            (
                Self::Confirm(_),
                Event::Order(OrderEvent::ConfirmRequested | OrderEvent::Answered(Inquiry::Confirm)),
            ) => true,
            (Self::Cancel(_), Event::Order(event)) => matches!(
                event,
                OrderEvent::CancelRequested { .. }
                    | OrderEvent::VoidRequested { by_request: true, .. }
                    // In the same breath, where the order waits for its provider.
                    | OrderEvent::PaymentVoided
                    | OrderEvent::Answered(Inquiry::Cancel)
                    | OrderEvent::RefundSucceeded { .. }
            ),
            (
                Self::Refund(_, asked, lines, again),
                Event::Order(OrderEvent::RefundRequested { amount, lines: units, restock, .. }),
            ) => {
                let right_units = lines.as_ref().is_none_or(|lines| lines == units);
                asked.is_none_or(|asked| asked == amount.amount) && right_units && again == restock
            }
            (Self::Refund(..), Event::Order(OrderEvent::RefundSucceeded { .. })) => true,
            (Self::Fulfil(_, asked), Event::Order(OrderEvent::Fulfilled { lines, .. })) => {
                asked.as_ref().is_none_or(|asked| asked == lines)
            }
            (
                Self::MakeCart(_)
                | Self::AddLines(..)
                | Self::SetQuantity(..)
                | Self::DeleteCart(_)
                | Self::Checkout(..),
                Event::Cart(event),
            ) => self.may_change_cart(event),
            _ => false,
        }
    }

    fn may_change_cart(&self, event: &doorbuster_engine::cart::CartEvent) -> bool {
        use doorbuster_engine::cart::{CartEvent, NewLine};
        let same = |asked: &[(Sku, i64)], lines: &[NewLine]| {
            asked.len() == lines.len()
                && asked
                    .iter()
                    .zip(lines)
                    .all(|((sku, quantity), line)| *sku == line.sku && *quantity == line.quantity)
        };
        match (self, event) {
            (Self::MakeCart(asked), CartEvent::Created { lines, .. })
            | (Self::AddLines(_, asked, _), CartEvent::LinesAdded { lines }) => same(asked, lines),
            (Self::SetQuantity(_, asked, units, _), CartEvent::QuantitySet { line, quantity }) => {
                asked == line && units == quantity
            }
            (Self::DeleteCart(_), CartEvent::Deleted) => true,
            (Self::Checkout(cart, _), CartEvent::CheckoutStarted { draft }) => *cart == draft.cart,
            _ => false,
        }
    }
}

fn requests(lines: Vec<(Sku, i64)>) -> Vec<LineRequest> {
    lines.into_iter().map(|(sku, quantity)| LineRequest { sku, quantity, unit_price: None }).collect()
}
