//! The guards: each command's refusals in order of precedence, then the event.

use crate::answer::{Answer, FieldError, Missing, Refusal};
use crate::envelope::{Decision, Envelope};
use crate::identity::{OrderId, RequestStamp, Timestamp};
use crate::money::{Currency, Money};
use crate::order::{DraftLine, OrderDraft};
use crate::stock::QUANTITY_MAX;

use super::{Cart, CartCommand, CartEvent, CartStatus, CheckoutRequest, LINES_MAX, Line, NewLine, sums};

/// A cart decision.
type CartDecision = Decision<CartEvent>;

/// When to ask again while another checkout of the cart runs.
const CHECKOUT_RETRY_MS: u64 = 500;

impl Cart {
    /// Decides one command; changes nothing.
    pub fn decide(&self, envelope: &Envelope<CartCommand>) -> CartDecision {
        let now = envelope.now;
        let decided = match &envelope.command {
            CartCommand::Create { currency, lines, ttl_ms } => {
                self.decide_create(*currency, lines, *ttl_ms, now)
            }
            CartCommand::AddLines { lines, expected_version } => {
                self.decide_add_lines(lines, *expected_version, now)
            }
            CartCommand::SetQuantity { line, quantity, expected_version } => {
                self.decide_set_quantity(*line, *quantity, *expected_version, now)
            }
            CartCommand::Checkout(checkout) => self.decide_checkout(checkout, envelope.request, now),
            CartCommand::OrderPlaced(order) => {
                Ok(self.if_becoming(*order, CartEvent::Ordered { order: *order }))
            }
            CartCommand::OrderFailed(order) => {
                Ok(self.if_becoming(*order, CartEvent::Reopened { order: *order }))
            }
            CartCommand::Delete => self.open("delete", now).map(|()| Decision::change(CartEvent::Deleted)),
            CartCommand::Expire => Ok(match self.due() {
                Some(due) if now >= due => Decision::change(CartEvent::Expired),
                Some(_) | None => Decision::Nothing,
            }),
            CartCommand::Read => {
                self.readable(now).map(|()| Decision::Answer(Answer::Cart(Box::new(self.view()))))
            }
        };
        decided.unwrap_or_else(Decision::Refuse)
    }

    fn decide_create(
        &self,
        currency: Currency,
        lines: &[NewLine],
        ttl_ms: u64,
        now: Timestamp,
    ) -> Result<CartDecision, Refusal> {
        if !self.is_absent() {
            // Ids are made for one creation, so this is its repeat.
            self.readable(now)?;
            return Ok(Decision::Answer(Answer::CartCreated(Box::new(self.view()))));
        }
        merge(currency, &[], self.next_line, lines, "/items")?;
        Ok(Decision::change(CartEvent::Created { currency, lines: lines.to_vec(), ttl_ms }))
    }

    fn decide_add_lines(
        &self,
        lines: &[NewLine],
        expected_version: Option<u64>,
        now: Timestamp,
    ) -> Result<CartDecision, Refusal> {
        self.open("add_lines", now)?;
        self.at_version(expected_version)?;
        merge(self.currency, &self.lines, self.next_line, lines, "/lines")?;
        Ok(Decision::change(CartEvent::LinesAdded { lines: lines.to_vec() }))
    }

    fn decide_set_quantity(
        &self,
        line: u32,
        quantity: i64,
        expected_version: Option<u64>,
        now: Timestamp,
    ) -> Result<CartDecision, Refusal> {
        self.open("set_quantity", now)?;
        if !self.lines.iter().any(|known| known.line == line) {
            return Err(Refusal::NotFound(Missing::Line));
        }
        self.at_version(expected_version)?;
        if !(0..=QUANTITY_MAX).contains(&quantity) {
            return Err(invalid("/quantity", "out_of_range", &format!("a quantity is 0 to {QUANTITY_MAX}")));
        }
        if sums(self.currency, &with_quantity(&self.lines, line, quantity)).is_none() {
            return Err(invalid(
                "/quantity",
                "out_of_range",
                "the cart's total would be too large; take fewer",
            ));
        }
        Ok(Decision::change(CartEvent::QuantitySet { line, quantity }))
    }

    fn decide_checkout(
        &self,
        checkout: &CheckoutRequest,
        request: Option<RequestStamp>,
        now: Timestamp,
    ) -> Result<CartDecision, Refusal> {
        if let Some((_, running)) = self.checkout() {
            // The stamp, not the order's id: the id is made anew for each copy of the request.
            return match (running, request) {
                (Some(running), Some(request)) if running.key == request.key => Ok(Decision::Join),
                (Some(_) | None, Some(_) | None) => {
                    Err(Refusal::InProgress { retry_after_ms: CHECKOUT_RETRY_MS })
                }
            };
        }
        self.open("checkout", now)?;
        self.at_version(checkout.expected_version)?;
        if self.lines.is_empty() {
            return Err(illegal("open", "checkout", "the cart is empty; add a line first"));
        }
        let totals = self.totals();
        if let Some(expected) = checkout.expected_total
            && expected != totals.total
        {
            return Err(Refusal::PriceChanged { expected, total: totals.total });
        }
        let lines = self.lines.iter().map(DraftLine::from).collect();
        Ok(Decision::change(CartEvent::CheckoutStarted {
            draft: Box::new(OrderDraft {
                order: checkout.order,
                cart: self.id,
                lines,
                totals,
                email: checkout.email.clone(),
                provider: checkout.provider.clone(),
                method: checkout.method.clone(),
                shipping_address: checkout.shipping_address.clone(),
                pin_ms: checkout.pin_ms,
            }),
        }))
    }

    /// `event` if this cart is becoming `order`; otherwise the news is old.
    fn if_becoming(&self, order: OrderId, event: CartEvent) -> CartDecision {
        match self.checkout() {
            Some((draft, _)) if draft.order == order => Decision::change(event),
            Some(_) | None => Decision::Nothing,
        }
    }

    /// Whether it can be shown.
    fn readable(&self, now: Timestamp) -> Result<(), Refusal> {
        match &self.status {
            CartStatus::Absent => Err(Refusal::NotFound(Missing::Cart)),
            // Time ends a cart, the timer only records it.
            CartStatus::Open if now >= self.expires_at => Err(Refusal::CartExpired),
            CartStatus::Open | CartStatus::CheckingOut { .. } | CartStatus::Ordered(_) => Ok(()),
            CartStatus::Deleted | CartStatus::Expired => Err(Refusal::CartExpired),
        }
    }

    /// Whether it takes changes.
    fn open(&self, action: &str, now: Timestamp) -> Result<(), Refusal> {
        self.readable(now)?;
        match &self.status {
            CartStatus::CheckingOut { .. } => {
                Err(illegal("checking_out", action, "a checkout is running; wait until it ends"))
            }
            CartStatus::Ordered(order) => {
                Err(illegal("ordered", action, &format!("the cart became {order}; start a new cart")))
            }
            CartStatus::Absent | CartStatus::Open | CartStatus::Deleted | CartStatus::Expired => Ok(()),
        }
    }

    fn at_version(&self, expected_version: Option<u64>) -> Result<(), Refusal> {
        match expected_version {
            Some(expected) if expected != self.version => {
                Err(Refusal::VersionMismatch { current: self.version })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl From<&Line> for DraftLine {
    fn from(line: &Line) -> Self {
        Self {
            line: line.line,
            sku: line.sku.clone(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price,
        }
    }
}

/// Adds `added` to `lines`: to the line of the same SKU and price, else as a new one. Also the next free number.
///
/// Refuses what would break a cart's laws, with pointers below `root`. A linear search per line: a thousand lines
/// onto a thousand cost about a millisecond, and anything cleverer costs more on the usual handful.
pub(super) fn merge(
    currency: Currency,
    lines: &[Line],
    next_line: u32,
    added: &[NewLine],
    root: &str,
) -> Result<(Vec<Line>, u32), Refusal> {
    let mut merged = lines.to_vec();
    let mut next_line = next_line;
    for (index, new) in added.iter().enumerate() {
        if new.unit_price.currency != currency {
            let message = format!("this cart is in {currency}");
            return Err(invalid(
                &format!("{root}/{index}/unit_price/currency"),
                "currency_mismatch",
                &message,
            ));
        }
        if !(0..=Money::AMOUNT_MAX).contains(&new.unit_price.amount) {
            let message = format!("a price is 0 to {} minor units", Money::AMOUNT_MAX);
            return Err(invalid(&format!("{root}/{index}/unit_price/amount"), "out_of_range", &message));
        }
        let same = merged.iter().position(|line| line.unit_price == new.unit_price && line.sku == new.sku);
        let existing = same.and_then(|at| merged.get_mut(at));
        let held = existing.as_ref().map_or(0, |line| line.quantity);
        let quantity = held.checked_add(new.quantity).filter(|sum| (1..=QUANTITY_MAX).contains(sum));
        let Some(quantity) = quantity.filter(|_| new.quantity >= 1) else {
            let message = format!("a line has 1 to {QUANTITY_MAX} units");
            return Err(invalid(&format!("{root}/{index}/quantity"), "out_of_range", &message));
        };
        if let Some(line) = existing {
            line.quantity = quantity;
            continue;
        }
        let following = next_line.checked_add(1).filter(|_| merged.len() < LINES_MAX);
        let Some(following) = following else {
            return Err(invalid(root, "too_many_lines", &format!("a cart has at most {LINES_MAX} lines")));
        };
        merged.push(Line {
            line: next_line,
            sku: new.sku.clone(),
            name: new.name.clone(),
            quantity,
            unit_price: new.unit_price,
        });
        next_line = following;
    }
    if sums(currency, &merged).is_none() {
        return Err(invalid(root, "out_of_range", "the cart's total would be too large; take fewer"));
    }
    Ok((merged, next_line))
}

/// `lines` with the quantity of one set; 0 removes it.
pub(super) fn with_quantity(lines: &[Line], line: u32, quantity: i64) -> Vec<Line> {
    let set =
        |known: &Line| if known.line == line { Line { quantity, ..known.clone() } } else { known.clone() };
    lines.iter().map(set).filter(|line| line.quantity > 0).collect()
}

fn invalid(pointer: &str, code: &str, message: &str) -> Refusal {
    Refusal::Validation(vec![FieldError::new(pointer, code, message)])
}

fn illegal(from: &str, action: &str, detail: &str) -> Refusal {
    Refusal::IllegalTransition { from: from.into(), action: action.into(), detail: detail.into() }
}
