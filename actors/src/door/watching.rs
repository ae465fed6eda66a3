//! What a watcher of a cart or an order begins with, and goes on from with the journal.

use doorbuster_engine::answer::{Missing, Refusal};
use doorbuster_engine::cart::{Cart, CartStatus};
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{CartId, OrderId, Position};
use doorbuster_engine::order::Order;
use doorbuster_engine::world::Snapshot;

use crate::engine::Engine;
use crate::types::Access;

/// A state as it was when the journal stood at `as_of`: every event of it before that position is in it, none after.
#[derive(Clone, Debug)]
pub struct Watched<T> {
    /// The state.
    pub state: Box<T>,
    /// The first position that may hold an event of it which it does not reflect.
    pub as_of: Position,
}

impl Engine {
    /// A cart to be watched. Whoever calls has shown its token.
    pub async fn watch_cart(&self, id: CartId) -> Result<Watched<Cart>, Refusal> {
        let shared = std::sync::Arc::clone(&self.shared);
        let seen = self.query(EntityKey::Cart(id), move |seen| {
            // In the cart's own turn: nothing of it is decided between the two.
            let as_of = shared.as_of();
            match seen?.snapshot {
                Snapshot::Cart(cart) => Some(Watched { state: cart.clone(), as_of }),
                Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Order(_) => None,
            }
        });
        let watched = seen.await?.ok_or(Refusal::NotFound(Missing::Cart))?;
        match watched.state.status() {
            CartStatus::Absent => Err(Refusal::NotFound(Missing::Cart)),
            CartStatus::Deleted | CartStatus::Expired => Err(Refusal::CartExpired),
            CartStatus::Open | CartStatus::CheckingOut { .. } | CartStatus::Ordered(_) => Ok(watched),
        }
    }

    /// An order to be watched. A wrong token reads as an order that is not there.
    pub async fn watch_order(&self, access: Access, id: OrderId) -> Result<Watched<Order>, Refusal> {
        let shared = std::sync::Arc::clone(&self.shared);
        let seen = self.query(EntityKey::Order(id), move |seen| {
            let as_of = shared.as_of();
            match seen?.snapshot {
                Snapshot::Order(order) => Some(Watched { state: order.clone(), as_of }),
                Snapshot::Stock(_) | Snapshot::Reservation(_) | Snapshot::Cart(_) => None,
            }
        });
        let watched = seen.await?.filter(|watched| !watched.state.is_absent());
        let watched = watched.ok_or(Refusal::NotFound(Missing::Order))?;
        self.check_access(&access, &watched.state.view())?;
        Ok(watched)
    }
}
