//! The one place where requests become the engine's inputs: every range is checked here, all wrong fields of a
//! request are told at once, each with its JSON pointer.

use std::borrow::Cow;
use std::str::FromStr;

use doorbuster_actors as types;
use doorbuster_engine::answer::{FieldError, Item};
use doorbuster_engine::cart::LINES_MAX;
use doorbuster_engine::identity::Sku;
use doorbuster_engine::money;
use doorbuster_engine::order;
use doorbuster_engine::stock::{Definition, Oversell, QUANTITY_MAX, UNITS_MAX};

use super::Money;
use super::requests::{
    Address, AdjustmentRequest, CheckoutRequest, FulfilmentRequest, ItemRequest, LineRequest, LineUnits,
    LinesRequest, OversellPolicy, OversellRequest, RefundRequest, ReservationRequest, SkuRequest,
    StockRequest,
};
use crate::problem::Problem;

/// Most lines of one reservation. Beyond it one request would hold a hundred SKUs' turns.
pub const RESERVATION_ITEMS_MAX: usize = 100;

/// Longest life that may be asked for, in seconds: a day.
pub const TTL_S_MAX: u64 = 86_400;

/// Longest name, in characters.
const NAME_MAX: usize = 200;

/// Longest reason or reference, in characters.
const TEXT_MAX: usize = 500;

/// Longest e-mail address, in characters. Source: RFC 5321 with its errata.
const EMAIL_MAX: usize = 254;

/// Wrong fields found so far.
#[derive(Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// Notes a wrong field.
    pub fn refuse(&mut self, pointer: impl Into<String>, code: &str, message: impl Into<String>) {
        self.0.push(FieldError::new(pointer, code, message));
    }

    /// `value`, or the problem that tells every wrong field.
    pub fn finish<T>(self, value: T) -> Result<T, Problem> {
        if self.0.is_empty() { Ok(value) } else { Err(Problem::validation(self.0)) }
    }

    fn range<T: Copy + PartialOrd + std::fmt::Display>(&mut self, pointer: &str, value: T, low: T, high: T) {
        if value < low || value > high {
            self.refuse(pointer, "out_of_range", format!("{value} is not within {low} to {high}"));
        }
    }

    fn count(&mut self, pointer: &str, count: usize, high: usize) {
        if count == 0 {
            self.refuse(pointer, "too_few", "at least one is needed");
        } else if count > high {
            self.refuse(pointer, "too_many", format!("{count} were sent, {high} are the most"));
        }
    }

    fn text(&mut self, pointer: &str, text: &str, low: usize, high: usize) {
        let length = text.chars().count();
        if length < low || length > high {
            self.refuse(
                pointer,
                "wrong_length",
                format!("{length} characters are not within {low} to {high}"),
            );
        } else if text.chars().any(char::is_control) {
            self.refuse(pointer, "wrong_character", "control characters are not allowed");
        }
    }

    fn optional_text(&mut self, pointer: &str, text: Option<&str>, high: usize) {
        if let Some(text) = text {
            self.text(pointer, text, 0, high);
        }
    }

    fn sku(&mut self, pointer: &str, text: &str) -> Option<Sku> {
        match Sku::new(text) {
            Ok(sku) => Some(sku),
            Err(error) => {
                self.refuse(pointer, "not_a_sku", error.to_string());
                None
            }
        }
    }

    fn line(&mut self, pointer: &str, text: &str) -> Option<u32> {
        // Only the canonical form: "01" and "+1" would name line 1 twice.
        let line = text.parse::<u32>().ok().filter(|line| line.to_string() == text);
        if line.is_none() {
            self.refuse(pointer, "not_a_line", format!("`{text}` is not a line_id"));
        }
        line
    }
}

/// A reservation's inputs; lines of one SKU are summed, in the order first asked.
pub fn reservation(request: &ReservationRequest<'_>) -> Result<types::ReserveRequest, Problem> {
    let mut fields = Fields::default();
    fields.count("/items", request.items.len(), RESERVATION_ITEMS_MAX);
    let items = if request.items.len() <= RESERVATION_ITEMS_MAX {
        items(&mut fields, &request.items)
    } else {
        Vec::new()
    };
    if let Some(ttl_s) = request.ttl_s {
        fields.range("/ttl_s", ttl_s, 1, TTL_S_MAX);
    }
    fields.optional_text("/customer", request.customer.as_deref(), NAME_MAX);
    fields.finish(())?;
    Ok(types::ReserveRequest {
        items,
        ttl_ms: request.ttl_s.map(|ttl_s| ttl_s * 1_000),
        partial: request.partial.unwrap_or(false),
        customer: request.customer.as_deref().map(str::to_owned),
    })
}

fn items(fields: &mut Fields, lines: &[ItemRequest<'_>]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        if !(1..=QUANTITY_MAX).contains(&line.quantity) {
            fields.range(&format!("/items/{index}/quantity"), line.quantity, 1, QUANTITY_MAX);
            continue;
        }
        // At most 100 lines: a scan beats any map.
        if let Some(item) = items.iter_mut().find(|item| item.sku.as_str() == line.sku) {
            match item.quantity.checked_add(line.quantity).filter(|sum| *sum <= QUANTITY_MAX) {
                Some(sum) => item.quantity = sum,
                None => fields.refuse(
                    format!("/items/{index}/quantity"),
                    "out_of_range",
                    format!("the lines of {} sum to more than {QUANTITY_MAX}", line.sku),
                ),
            }
            continue;
        }
        match Sku::new(&line.sku) {
            Ok(sku) => items.push(Item { sku, quantity: line.quantity }),
            Err(error) => fields.refuse(format!("/items/{index}/sku"), "not_a_sku", error.to_string()),
        }
    }
    items
}

/// Lines of a cart; `base` is the pointer of the list.
pub fn cart_lines(base: &str, lines: &[LineRequest]) -> Result<Vec<types::LineRequest>, Problem> {
    let mut fields = Fields::default();
    if lines.len() > LINES_MAX {
        fields.count(base, lines.len(), LINES_MAX);
        return fields.finish(Vec::new());
    }
    let mut taken = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let place = |field: &str| format!("{base}/{index}/{field}");
        cart_line(&mut fields, &mut taken, line, &place);
    }
    fields.finish(taken)
}

/// Lines to add to a cart, sent as one line in place or as a list.
pub fn added_lines(request: LinesRequest) -> Result<Vec<types::LineRequest>, Problem> {
    let LinesRequest { sku, quantity, unit_price, lines } = request;
    let mut fields = Fields::default();
    match (sku, quantity, lines) {
        (None, None, Some(lines)) => {
            if unit_price.is_some() {
                fields.refuse(
                    "/unit_price",
                    "not_beside_lines",
                    "beside lines, each line has its own unit_price",
                );
            }
            fields.count("/lines", lines.len(), LINES_MAX);
            fields.finish(())?;
            cart_lines("/lines", &lines)
        }
        (Some(sku), Some(quantity), None) => {
            let line = LineRequest { sku, quantity, unit_price };
            let mut taken = Vec::with_capacity(1);
            cart_line(&mut fields, &mut taken, &line, &|field| format!("/{field}"));
            fields.finish(taken)
        }
        (_, _, Some(_)) => {
            fields.refuse("/lines", "not_beside_sku", "send either sku and quantity, or lines");
            fields.finish(Vec::new())
        }
        (sku, quantity, None) => {
            if sku.is_none() {
                fields.refuse("/sku", "required", "missing field `sku` (or send lines)");
            }
            if quantity.is_none() {
                fields.refuse("/quantity", "required", "missing field `quantity` (or send lines)");
            }
            fields.finish(Vec::new())
        }
    }
}

fn cart_line(
    fields: &mut Fields,
    taken: &mut Vec<types::LineRequest>,
    line: &LineRequest,
    place: &dyn Fn(&str) -> String,
) {
    let sku = fields.sku(&place("sku"), &line.sku);
    fields.range(&place("quantity"), line.quantity, 1, QUANTITY_MAX);
    if let Some(price) = &line.unit_price {
        fields.range(&place("unit_price/amount"), price.amount, 0, money::Money::AMOUNT_MAX);
    }
    if let Some(sku) = sku {
        let unit_price = line.unit_price.map(Into::into);
        taken.push(types::LineRequest { sku, quantity: line.quantity, unit_price });
    }
}

/// A line's new quantity.
pub fn quantity(quantity: i64) -> Result<i64, Problem> {
    let mut fields = Fields::default();
    fields.range("/quantity", quantity, 0, QUANTITY_MAX);
    fields.finish(quantity)
}

/// A longer life, in milliseconds.
pub fn extend_ms(extend_s: u64) -> Result<u64, Problem> {
    let mut fields = Fields::default();
    fields.range("/extend_s", extend_s, 1, TTL_S_MAX);
    fields.finish(extend_s.saturating_mul(1_000))
}

/// A checkout's inputs. `providers` are the names that may be chosen.
pub fn checkout(
    request: CheckoutRequest,
    providers: &[String],
    expected_version: Option<u64>,
) -> Result<types::CheckoutInput, Problem> {
    let mut fields = Fields::default();
    fields.text("/email", &request.email, 3, EMAIL_MAX);
    if !is_email(&request.email) {
        fields.refuse(
            "/email",
            "not_an_email",
            "an address has one @ with something on both sides and no spaces",
        );
    }
    if !providers.contains(&request.payment.provider) {
        let known = if providers.is_empty() { "none".to_owned() } else { providers.join(", ") };
        fields.refuse(
            "/payment/provider",
            "unknown_value",
            format!("`{}` is not a payment provider here; known: {known}", request.payment.provider),
        );
    }
    fields.text("/payment/method", &request.payment.method, 1, NAME_MAX);
    if let Some(total) = &request.expected_total {
        fields.range("/expected_total/amount", total.amount, 0, i64::MAX);
    }
    if let Some(address) = &request.shipping_address {
        for (field, text) in [
            ("name", &address.name),
            ("line1", &address.line1),
            ("line2", &address.line2),
            ("city", &address.city),
            ("region", &address.region),
            ("postal_code", &address.postal_code),
        ] {
            fields.optional_text(&format!("/shipping_address/{field}"), text.as_deref(), NAME_MAX);
        }
        fields.text("/shipping_address/country", &address.country, 1, NAME_MAX);
    }
    fields.finish(())?;
    Ok(types::CheckoutInput {
        email: request.email,
        provider: request.payment.provider,
        method: request.payment.method,
        expected_total: request.expected_total.map(Into::into),
        shipping_address: request.shipping_address.map(address),
        expected_version,
    })
}

/// One `@` with something on both sides, no spaces: what can be told without sending a mail.
fn is_email(text: &str) -> bool {
    let mut parts = text.split('@');
    let (local, domain, more) = (parts.next(), parts.next(), parts.next());
    more.is_none()
        && local.is_some_and(|local| !local.is_empty())
        && domain.is_some_and(|domain| !domain.is_empty())
        && !text.chars().any(char::is_whitespace)
}

fn address(address: Address) -> order::Address {
    let Address { name, line1, line2, city, region, postal_code, country } = address;
    order::Address { name, line1, line2, city, region, postal_code, country }
}

fn line_units(fields: &mut Fields, lines: Option<&[LineUnits]>) -> Option<Vec<order::LineUnits>> {
    let lines = lines?;
    fields.count("/lines", lines.len(), LINES_MAX);
    let mut taken: Vec<order::LineUnits> = Vec::with_capacity(lines.len().min(LINES_MAX));
    for (index, units) in lines.iter().take(LINES_MAX).enumerate() {
        fields.range(&format!("/lines/{index}/quantity"), units.quantity, 1, QUANTITY_MAX);
        if let Some(line) = fields.line(&format!("/lines/{index}/line_id"), &units.line_id) {
            taken.push(order::LineUnits { line, quantity: units.quantity });
        }
    }
    let mut seen: Vec<u32> = taken.iter().map(|units| units.line).collect();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() < taken.len() {
        fields.refuse("/lines", "duplicate_line", "a line_id is named twice; sum its quantities");
    }
    Some(taken)
}

/// A refund's inputs.
pub fn refund(request: RefundRequest) -> Result<types::RefundInput, Problem> {
    let mut fields = Fields::default();
    if let Some(amount) = &request.amount {
        fields.range("/amount/amount", amount.amount, 0, i64::MAX);
    }
    let lines = line_units(&mut fields, request.lines.as_deref());
    fields.optional_text("/reason", request.reason.as_deref(), TEXT_MAX);
    fields.finish(())?;
    Ok(types::RefundInput {
        amount: request.amount.map(Into::into),
        lines,
        restock: request.restock.unwrap_or(false),
        reason: request.reason,
    })
}

/// A fulfilment's inputs.
pub fn fulfilment(
    request: FulfilmentRequest,
) -> Result<(Option<Vec<order::LineUnits>>, Option<String>), Problem> {
    let mut fields = Fields::default();
    let lines = line_units(&mut fields, request.lines.as_deref());
    fields.optional_text("/tracking", request.tracking.as_deref(), NAME_MAX);
    fields.finish((lines, request.tracking))
}

/// What the merchant says of a SKU, and the units it begins with.
pub fn definition(request: SkuRequest) -> Result<(Definition, Option<i64>), Problem> {
    let SkuRequest { name, price, on_hand, oversell, reservation_ttl_s, low_stock_at } = request;
    let mut fields = Fields::default();
    fields.text("/name", &name, 1, NAME_MAX);
    fields.range("/price/amount", price.amount, 0, money::Money::AMOUNT_MAX);
    if let Some(on_hand) = on_hand {
        fields.range("/on_hand", on_hand, 0, UNITS_MAX);
    }
    if let Some(ttl_s) = reservation_ttl_s {
        fields.range("/reservation_ttl_s", ttl_s, 1, TTL_S_MAX);
    }
    if let Some(low_stock_at) = low_stock_at {
        fields.range("/low_stock_at", low_stock_at, 0, UNITS_MAX);
    }
    let oversell = self::oversell(&mut fields, oversell.as_ref());
    fields.finish(())?;
    let definition = Definition {
        name: name.into_boxed_str(),
        price: price.into(),
        oversell,
        reservation_ttl_ms: reservation_ttl_s.map(|ttl_s| ttl_s * 1_000),
        low_stock_at,
    };
    Ok((definition, on_hand))
}

fn oversell(fields: &mut Fields, request: Option<&OversellRequest>) -> Oversell {
    let Some(OversellRequest { policy, limit }) = request else { return Oversell::Deny };
    if let Some(limit) = limit {
        fields.range("/oversell/limit", *limit, 0, UNITS_MAX);
    }
    match (policy, limit) {
        (OversellPolicy::Allow, limit) => Oversell::Allow(limit.unwrap_or(UNITS_MAX)),
        (OversellPolicy::Deny, Some(limit)) if *limit != 0 => {
            fields.refuse("/oversell/limit", "not_with_deny", "a limit goes with the policy `allow`");
            Oversell::Deny
        }
        (OversellPolicy::Deny, _) => Oversell::Deny,
    }
}

/// A change of what is on hand: delta, reason, reference.
pub fn adjustment(request: AdjustmentRequest) -> Result<(i64, String, Option<String>), Problem> {
    let AdjustmentRequest { delta, reason, reference } = request;
    let mut fields = Fields::default();
    if delta == 0 {
        fields.refuse("/delta", "out_of_range", "a change of 0 changes nothing");
    } else {
        fields.range("/delta", delta, -UNITS_MAX, UNITS_MAX);
    }
    fields.text("/reason", &reason, 1, TEXT_MAX);
    fields.optional_text("/reference", reference.as_deref(), TEXT_MAX);
    fields.finish((delta, reason, reference))
}

/// A count of what is on hand, and why.
pub fn counted_stock(request: StockRequest) -> Result<(i64, String), Problem> {
    let StockRequest { on_hand, reason } = request;
    let mut fields = Fields::default();
    fields.range("/on_hand", on_hand, 0, UNITS_MAX);
    fields.text("/reason", &reason, 1, TEXT_MAX);
    fields.finish((on_hand, reason))
}

/// The body under which a reservation is fingerprinted: the same for a single call and for an item of a batch.
pub fn canonical(request: &ReservationRequest<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    // Plain data to memory cannot fail.
    let _ = serde_json::to_writer(&mut out, request);
    out
}

/// A price read from separate columns.
pub fn price(amount: &str, currency: &str) -> Option<Money> {
    let currency = money::Currency::from_str(currency).ok()?;
    Some(Money { amount: amount.parse().ok()?, currency: super::CurrencyCode(currency) })
}

/// A request with nothing in it but lines, for the demonstration catalogue and tests.
pub fn lines<'a>(lines: &[(&'a str, i64)]) -> ReservationRequest<'a> {
    let items =
        lines.iter().map(|(sku, quantity)| ItemRequest { sku: Cow::Borrowed(*sku), quantity: *quantity });
    ReservationRequest { items: items.collect(), ttl_s: None, partial: None, customer: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers<T: std::fmt::Debug>(result: Result<T, Problem>) -> Vec<(String, String)> {
        let Err(problem) = result else { return Vec::new() };
        let body: serde_json::Value = serde_json::from_slice(&problem.body("r", None)).unwrap();
        let errors = body["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|e| (e["pointer"].as_str().unwrap().to_owned(), e["code"].as_str().unwrap().to_owned()))
            .collect()
    }

    /// One row: lines, the field refused and its code; nothing where it is taken.
    #[test]
    fn reservations_out_of_range_name_the_field() {
        let many: Vec<(&str, i64)> = vec![("A", 1); 101];
        for (asked, pointer, code) in [
            (&[("A", 1)][..], "", ""),
            (&[("A", QUANTITY_MAX)], "", ""),
            (&[], "/items", "too_few"),
            (&many, "/items", "too_many"),
            (&[("A", 0)], "/items/0/quantity", "out_of_range"),
            (&[("A", 1), ("B", -1)], "/items/1/quantity", "out_of_range"),
            (&[("A", QUANTITY_MAX + 1)], "/items/0/quantity", "out_of_range"),
            (&[("A", QUANTITY_MAX), ("A", 1)], "/items/1/quantity", "out_of_range"),
            (&[(" A", 1)], "/items/0/sku", "not_a_sku"),
        ] {
            let expected: Vec<_> =
                if pointer.is_empty() { Vec::new() } else { vec![(pointer.to_owned(), code.to_owned())] };
            assert_eq!(pointers(reservation(&lines(asked))), expected, "{:?}", asked.first());
        }
    }

    #[test]
    fn lines_of_one_sku_are_summed_in_the_order_asked() {
        let request = reservation(&lines(&[("B", 2), ("A", 1), ("B", 3)])).unwrap();
        let items: Vec<_> = request.items.iter().map(|item| (item.sku.as_str(), item.quantity)).collect();
        assert_eq!(items, [("B", 5), ("A", 1)]);
    }

    #[test]
    fn the_canonical_body_ignores_spelling_but_not_content() {
        let read = |text: &'static str| canonical(&serde_json::from_str(text).unwrap());
        let plain = read(r#"{"items":[{"sku":"A","quantity":1}],"ttl_s":5}"#);
        assert_eq!(plain, read(r#"{ "ttl_s": 5, "items": [{"quantity": 1, "sku": "A"}], "partial": null }"#));
        assert_ne!(plain, read(r#"{"items":[{"sku":"A","quantity":1}]}"#));
        assert_ne!(plain, read(r#"{"items":[{"sku":"A","quantity":2}],"ttl_s":5}"#));
    }

    #[test]
    fn an_email_address_has_one_at_sign() {
        for (text, taken) in [
            ("a@b", true),
            ("ada@example.com", true),
            ("ada", false),
            ("@b", false),
            ("a@", false),
            ("a@b@c", false),
            ("a b@c", false),
        ] {
            assert_eq!(is_email(text), taken, "{text}");
        }
    }

    #[test]
    fn a_line_id_has_one_spelling() {
        let mut fields = Fields::default();
        assert_eq!(fields.line("/x", "7"), Some(7));
        for text in ["07", "+7", "", "-1", "4294967296", "x"] {
            assert_eq!(fields.line("/x", text), None, "{text}");
        }
    }
}
