//! `/v1/carts`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use doorbuster_engine::identity::CartId;

use crate::call::Call;
use crate::problem::{Code, Problem};
use crate::reply::{changed, read};
use crate::wire::requests::{CartRequest, CheckoutRequest, LinesRequest, QuantityRequest};
use crate::wire::{cards, into_engine, json};
use doorbuster_actors::LineRequest;

/// The cart in the path, once its token is found right.
fn cart(call: &Call) -> Result<CartId, Problem> {
    let wrong = || Problem::not_found("no such cart, or not with this Cart-Token");
    let id: CartId = call.id().map_err(|_| wrong())?;
    if call.engine().cart_token_matches(id, call.cart_token()) { Ok(id) } else { Err(wrong()) }
}

/// Refuses prices of the caller's own without the admin key.
fn priced_by_admin_only(call: &Call, lines: &[LineRequest]) -> Result<(), Problem> {
    if call.is_admin() || lines.iter().all(|line| line.unit_price.is_none()) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "unit_price needs the admin key"))
}

pub(crate) async fn create(mut call: Call) -> Result<HttpResponse, Problem> {
    let body = call.body().await?;
    let request: CartRequest = json::parse(&body)?;
    let lines = into_engine::cart_lines("/items", request.items.as_deref().unwrap_or(&[]))?;
    priced_by_admin_only(&call, &lines)?;
    let currency = request.currency.map(|currency| currency.0);
    let verdict = call.engine().create_cart(call.ticket(&body)?, currency, lines).await;
    changed(&call, verdict, StatusCode::CREATED)
}

pub(crate) async fn get(call: Call) -> Result<HttpResponse, Problem> {
    let id = cart(&call)?;
    let verdict = call.engine().cart(id).await;
    read(&call, verdict)
}

pub(crate) async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let id = cart(&call)?;
    let verdict = call.engine().delete_cart(call.ticket(b"")?, id).await;
    changed(&call, verdict, StatusCode::NO_CONTENT)
}

pub(crate) async fn add_lines(mut call: Call) -> Result<HttpResponse, Problem> {
    let id = cart(&call)?;
    let body = call.body().await?;
    let request: LinesRequest = json::parse(&body)?;
    let lines = into_engine::added_lines(request)?;
    priced_by_admin_only(&call, &lines)?;
    let expected_version = call.if_match()?;
    let verdict = call.engine().add_lines(call.ticket(&body)?, id, lines, expected_version).await;
    changed(&call, verdict, StatusCode::OK)
}

/// The line in the path.
fn line(call: &Call) -> Result<u32, Problem> {
    let text = call.request.match_info().get("line_id").unwrap_or("");
    // Only the canonical form, as answers spell it.
    let line = text.parse::<u32>().ok().filter(|line| line.to_string() == text);
    line.ok_or_else(|| Problem::not_found("the cart has no such line"))
}

pub(crate) async fn set_line(mut call: Call) -> Result<HttpResponse, Problem> {
    let id = cart(&call)?;
    let line = line(&call)?;
    let body = call.body().await?;
    let request: QuantityRequest = json::parse(&body)?;
    let quantity = into_engine::quantity(request.quantity)?;
    let expected_version = call.if_match()?;
    let verdict = call.engine().set_quantity(call.ticket(&body)?, id, line, quantity, expected_version).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn remove_line(call: Call) -> Result<HttpResponse, Problem> {
    let id = cart(&call)?;
    let line = line(&call)?;
    let expected_version = call.if_match()?;
    let verdict = call.engine().set_quantity(call.ticket(b"")?, id, line, 0, expected_version).await;
    changed(&call, verdict, StatusCode::OK)
}

pub(crate) async fn check_out(mut call: Call) -> Result<HttpResponse, Problem> {
    let id = cart(&call)?;
    let body = call.body().await?;
    if cards::has_card_number(&body) {
        let message = "this looks like a card number; send the token that the provider's own library gives for the card";
        return Err(Problem::field("/payment/method", "card_number", message));
    }
    let request: CheckoutRequest = json::parse(&body)?;
    let input = into_engine::checkout(request, &call.door.options.providers, call.if_match()?)?;
    let verdict = call.engine().checkout(call.ticket(&body)?, id, input).await;
    changed(&call, verdict, StatusCode::CREATED)
}
