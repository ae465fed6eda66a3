//! The only mutation: one event folded into a cart.

use crate::answer::{Answer, Folded};
use crate::identity::{Recorded, RequestStamp, Timestamp};

use super::decide::{merge, with_quantity};
use super::{Cart, CartEvent, CartStatus};

impl Cart {
    /// Folds one event: total, deterministic, reads no clock. Panics only where the journal breaks an invariant.
    pub fn evolve(&mut self, event: &CartEvent, recorded: Recorded, request: Option<RequestStamp>) -> Folded {
        self.version = self.version.checked_add(1).expect("law 10: a version fits u64");
        match event {
            CartEvent::Created { currency, lines, ttl_ms } => {
                assert!(self.is_absent(), "law 10: a cart is created once");
                self.currency = *currency;
                self.ttl_ms = *ttl_ms;
                self.created = recorded;
                self.status = CartStatus::Open;
                self.add(lines);
                self.renew(recorded.at);
                Folded::settle(request, || Ok(Answer::CartCreated(Box::new(self.view()))))
            }
            CartEvent::LinesAdded { lines } => {
                self.add(lines);
                self.renew(recorded.at);
                Folded::settle(request, || Ok(Answer::Cart(Box::new(self.view()))))
            }
            CartEvent::QuantitySet { line, quantity } => {
                self.lines = with_quantity(&self.lines, *line, *quantity);
                self.renew(recorded.at);
                Folded::settle(request, || Ok(Answer::Cart(Box::new(self.view()))))
            }
            CartEvent::CheckoutStarted { draft } => {
                assert!(self.checkout().is_none(), "law 7: one checkout at a time");
                self.renew(recorded.at);
                self.status = CartStatus::CheckingOut { draft: draft.clone(), request };
                // The order settles the request: it alone knows how the checkout ends.
                Folded::default()
            }
            CartEvent::Ordered { order } => {
                assert!(self.checkout().is_some(), "law 10: a cart becomes an order through a checkout");
                self.renew(recorded.at);
                self.status = CartStatus::Ordered(*order);
                Folded::default()
            }
            CartEvent::Reopened { order: _ } => {
                assert!(self.checkout().is_some(), "law 10: only a checkout reopens a cart");
                self.renew(recorded.at);
                self.status = CartStatus::Open;
                // The order has told its refusal, or long ago an answer that must stay the first one (law 5).
                Folded::default()
            }
            CartEvent::Deleted => {
                self.status = CartStatus::Deleted;
                Folded::settle(request, || Ok(Answer::CartDeleted))
            }
            CartEvent::Expired => {
                self.status = CartStatus::Expired;
                Folded::default()
            }
        }
    }

    fn add(&mut self, lines: &[super::NewLine]) {
        let merged = merge(self.currency, &self.lines, self.next_line, lines, "");
        (self.lines, self.next_line) = merged.expect("law 11: journalled lines fit their cart");
    }

    fn renew(&mut self, at: Timestamp) {
        self.expires_at = at.plus_ms(self.ttl_ms);
    }
}
