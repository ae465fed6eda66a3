//! Calls on carts. Whoever calls has shown the cart's token.

use doorbuster_engine::answer::{FieldError, Missing, Refusal};
use doorbuster_engine::cart::{CART_TTL_MS, CartCommand, CheckoutRequest, NewLine};
use doorbuster_engine::command::Command;
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::{CartId, OrderId};
use doorbuster_engine::money::Currency;

use crate::engine::Engine;
use crate::types::{CURRENCY_DEFAULT, CheckoutInput, LineRequest, Ticket, Verdict};

impl Engine {
    /// Makes a cart. Its id comes from the ticket's key, so that a retry finds the same cart.
    pub async fn create_cart(
        &self,
        ticket: Ticket,
        currency: Option<Currency>,
        lines: Vec<LineRequest>,
    ) -> Verdict {
        self.check_open()?;
        let lines = self.priced(lines)?;
        let currency =
            currency.or(lines.first().map(|line| line.unit_price.currency)).unwrap_or(CURRENCY_DEFAULT);
        let command = CartCommand::Create { currency, lines, ttl_ms: CART_TTL_MS };
        let cart = EntityKey::Cart(CartId(ticket.stamp.key.0));
        self.ask(cart, Command::Cart(command), ticket, None).await
    }

    /// A cart as it stands.
    pub async fn cart(&self, id: CartId) -> Verdict {
        let ticket = self.reading_ticket();
        self.ask(EntityKey::Cart(id), Command::Cart(CartCommand::Read), ticket, None).await
    }

    /// Deletes a cart.
    pub async fn delete_cart(&self, ticket: Ticket, id: CartId) -> Verdict {
        self.ask_cart(ticket, id, CartCommand::Delete).await
    }

    /// Adds lines.
    pub async fn add_lines(
        &self,
        ticket: Ticket,
        id: CartId,
        lines: Vec<LineRequest>,
        expected_version: Option<u64>,
    ) -> Verdict {
        let lines = self.priced(lines)?;
        self.ask_cart(ticket, id, CartCommand::AddLines { lines, expected_version }).await
    }

    /// Sets a line's quantity; 0 removes it.
    pub async fn set_quantity(
        &self,
        ticket: Ticket,
        id: CartId,
        line: u32,
        quantity: i64,
        expected_version: Option<u64>,
    ) -> Verdict {
        self.ask_cart(ticket, id, CartCommand::SetQuantity { line, quantity, expected_version }).await
    }

    /// Checks a cart out: holds its units, charges, places the order. A refusal undoes all of it.
    pub async fn checkout(&self, ticket: Ticket, id: CartId, input: CheckoutInput) -> Verdict {
        let provider = self.provider_for(input.provider, &ticket)?;
        let pin_ms = u64::try_from(self.shared.limits.payment_pin.as_millis()).unwrap_or(u64::MAX);
        let request = CheckoutRequest {
            order: OrderId(self.random_bits()),
            email: input.email,
            provider,
            method: input.method,
            expected_total: input.expected_total,
            shipping_address: input.shipping_address,
            pin_ms,
            expected_version: input.expected_version,
        };
        self.ask_cart(ticket, id, CartCommand::Checkout(Box::new(request))).await
    }

    /// Who is to be asked for the money: the provider that the shopper chose, or where it does not answer, the one that the
    /// shop named for that case. A copy of this request that comes later is told what the first one came to (law 5), whoever
    /// would be chosen then.
    fn provider_for(&self, chosen: String, ticket: &Ticket) -> Result<String, Refusal> {
        let shared = &self.shared;
        let Some(desk) = shared.desk(&chosen) else {
            let known: Vec<_> = shared.desks.iter().map(|desk| desk.name()).collect();
            let message = format!("no such payment provider here; this engine has: {}", known.join(", "));
            let error = FieldError::new("/payment/provider", "unknown_provider", message);
            return Err(Refusal::Validation(vec![error]));
        };
        if desk.is_open() {
            return Ok(chosen);
        }
        let fallback = shared.when_down.fallback.as_deref().and_then(|name| shared.desk(name));
        if let Some(other) = fallback.filter(|other| other.is_open()) {
            metrics::counter!("doorbuster_payment_fallbacks_total", "provider" => desk.name()).increment(1);
            return Ok(other.name().to_owned());
        }
        // A copy of a request that took effect while the provider answered is no new checkout.
        let known = ticket.keyed && shared.index.stage(ticket.stamp.key).is_some();
        if shared.when_down.defer.is_none() && !known {
            return Err(Refusal::PaymentUnavailable { retry_after_ms: desk.retry_after_ms() });
        }
        Ok(chosen)
    }

    async fn ask_cart(&self, ticket: Ticket, id: CartId, command: CartCommand) -> Verdict {
        self.check_open()?;
        self.ask(EntityKey::Cart(id), Command::Cart(command), ticket, None).await
    }

    /// Names and prices from the catalogue, where the caller gave no price of their own.
    fn priced(&self, lines: Vec<LineRequest>) -> Result<Vec<NewLine>, Refusal> {
        let mut missing = Vec::new();
        let mut priced = Vec::with_capacity(lines.len());
        for line in lines {
            match self.shared.catalogue.get(line.sku.as_str()) {
                Some(known) => priced.push(NewLine {
                    sku: known.sku,
                    name: known.name,
                    quantity: line.quantity,
                    unit_price: line.unit_price.unwrap_or(known.price),
                }),
                None => missing.push(line.sku),
            }
        }
        if missing.is_empty() { Ok(priced) } else { Err(Refusal::NotFound(Missing::Skus(missing))) }
    }
}
