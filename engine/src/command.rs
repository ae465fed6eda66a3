//! Any command to any machine, and the one way to decide it.

use crate::answer::{Missing, Refusal};
use crate::cart::CartCommand;
use crate::envelope::{Decision, Envelope};
use crate::event::Event;
use crate::order::OrderCommand;
use crate::reservation::ReservationCommand;
use crate::stock::StockCommand;
use crate::world::Snapshot;

/// A command to one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// To a SKU's stock.
    Stock(StockCommand),
    /// To a reservation over several SKUs.
    Reservation(ReservationCommand),
    /// To a cart.
    Cart(CartCommand),
    /// To an order.
    Order(OrderCommand),
}

impl Command {
    /// The command's wire name, for metrics and the actor pages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stock(command) => match command {
                StockCommand::Define { .. } => "define",
                StockCommand::Adjust { .. } => "adjust",
                StockCommand::SetOnHand { .. } => "set_on_hand",
                StockCommand::Reserve(_) => "reserve",
                StockCommand::Extend { .. } => "extend",
                StockCommand::Commit { .. } => "commit",
                StockCommand::Release { .. } => "release",
                StockCommand::Expire { .. } => "expire",
                StockCommand::HoldPart { .. } => "hold_part",
                StockCommand::SellPart { .. } => "sell_part",
                StockCommand::FreePart { .. } => "free_part",
                StockCommand::Restock { .. } => "restock",
            },
            Self::Reservation(command) => match command {
                ReservationCommand::Request { .. } => "request",
                ReservationCommand::UnitsHeld { .. } => "units_held",
                ReservationCommand::UnitsRefused { .. } => "units_refused",
                ReservationCommand::Extend { .. } => "extend",
                ReservationCommand::Commit => "commit",
                ReservationCommand::Release => "release",
                ReservationCommand::Expire => "expire",
                ReservationCommand::UnitsSettled => "units_settled",
                ReservationCommand::Read => "read",
            },
            Self::Cart(command) => match command {
                CartCommand::Create { .. } => "create",
                CartCommand::AddLines { .. } => "add_lines",
                CartCommand::SetQuantity { .. } => "set_quantity",
                CartCommand::Checkout(_) => "checkout",
                CartCommand::OrderPlaced(_) => "order_placed",
                CartCommand::OrderFailed(_) => "order_failed",
                CartCommand::Delete => "delete",
                CartCommand::Expire => "expire",
                CartCommand::Read => "read",
            },
            Self::Order(command) => match command {
                OrderCommand::Start(_) => "start",
                OrderCommand::UnitsHeld { .. } => "units_held",
                OrderCommand::UnitsRefused { .. } => "units_refused",
                OrderCommand::ChargeAnswered(_) => "charge_answered",
                OrderCommand::ProviderReady => "provider_ready",
                OrderCommand::CaptureAnswered(_) => "capture_answered",
                OrderCommand::VoidAnswered(_) => "void_answered",
                OrderCommand::StrayAnswered { .. } => "stray_answered",
                OrderCommand::Notice { .. } => "notice",
                OrderCommand::RefundAnswered { .. } => "refund_answered",
                OrderCommand::UnitsSold => "units_sold",
                OrderCommand::UnitsFreed => "units_freed",
                OrderCommand::UnitsRestocked { .. } => "units_restocked",
                OrderCommand::CartTold => "cart_told",
                OrderCommand::Wake => "wake",
                OrderCommand::Confirm => "confirm",
                OrderCommand::Cancel { .. } => "cancel",
                OrderCommand::Refund { .. } => "refund",
                OrderCommand::Fulfil { .. } => "fulfil",
                OrderCommand::Read => "read",
            },
        }
    }
}

impl Snapshot {
    /// Decides one command; changes nothing. A command of another kind than the entity finds nothing here.
    pub fn decide(&self, envelope: Envelope<Command>) -> Decision<Event> {
        let Envelope { now, request, command } = envelope;
        match (self, command) {
            (Self::Stock(stock), Command::Stock(command)) => {
                widen(stock.decide(&Envelope { now, request, command }), Event::Stock)
            }
            (Self::Reservation(reservation), Command::Reservation(command)) => {
                widen(reservation.decide(&Envelope { now, request, command }), Event::Reservation)
            }
            (Self::Cart(cart), Command::Cart(command)) => {
                widen(cart.decide(&Envelope { now, request, command }), Event::Cart)
            }
            (Self::Order(order), Command::Order(command)) => {
                widen(order.decide(&Envelope { now, request, command }), Event::Order)
            }
            (Self::Stock(_) | Self::Reservation(_) | Self::Cart(_) | Self::Order(_), _) => {
                Decision::Refuse(Refusal::NotFound(Missing::Actor))
            }
        }
    }
}

fn widen<E>(decision: Decision<E>, event: impl Fn(E) -> Event) -> Decision<Event> {
    match decision {
        Decision::Change(events) => Decision::Change(events.into_iter().map(event).collect()),
        Decision::Answer(answer) => Decision::Answer(answer),
        Decision::Refuse(refusal) => Decision::Refuse(refusal),
        Decision::Nothing => Decision::Nothing,
        Decision::Join => Decision::Join,
    }
}
