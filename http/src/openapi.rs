//! `/openapi.json`: written from the route table and the wire types, so that it cannot say other than what is done.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::problem::{Code, PROBLEM_JSON};
use crate::routes::table::{Access, Body, Key, Parameter, ParameterKind, ROUTES, Route, Success, Versions};
use crate::wire::{live, requests, responses};

/// Collects the schemas of every wire type.
#[derive(OpenApi)]
#[openapi(components(schemas(
    crate::problem::ProblemBody,
    crate::wire::Money,
    crate::wire::ProblemField,
    crate::wire::Shortage,
    live::LiveActorName,
    live::LiveActors,
    live::LiveCall,
    live::LiveCheck,
    live::LiveEngine,
    live::LiveEvent,
    live::LiveFollower,
    live::LiveJournal,
    live::LiveLaws,
    live::LiveRefusal,
    live::LiveSale,
    live::LiveSku,
    live::LiveSkus,
    live::LiveSnapshot,
    live::LiveTraffic,
    live::Rate,
    requests::Address,
    requests::AdjustmentRequest,
    requests::BatchItemRequest,
    requests::BatchRequest,
    requests::CartRequest,
    requests::CheckoutRequest,
    requests::ExtendRequest,
    requests::FulfilmentRequest,
    requests::ImportLine,
    requests::ItemRequest,
    requests::LineRequest,
    requests::LinesRequest,
    requests::LineUnits,
    requests::OversellPolicy,
    requests::OversellRequest,
    requests::PaymentRequest,
    requests::QuantityRequest,
    requests::ReconcileRequest,
    requests::RefundRequest,
    requests::ReservationRequest,
    requests::SkuRequest,
    requests::StockRequest,
    responses::Actor,
    responses::ActorDetail,
    responses::ActorList,
    responses::Availability,
    responses::AvailabilityList,
    responses::BatchResponse,
    responses::BatchResult,
    responses::Cart,
    responses::CartLine,
    responses::CheckoutPending,
    responses::Finding,
    responses::Fulfilment,
    responses::Health,
    responses::ImportResponse,
    responses::Item,
    responses::LedgerEntry,
    responses::Order,
    responses::OrderLine,
    responses::Payment,
    responses::Percentiles,
    responses::Provider,
    responses::ProviderList,
    responses::RecentMessage,
    responses::Received,
    responses::Reconciliation,
    responses::Refund,
    responses::RejectedLine,
    responses::Reservation,
    responses::SkuResponse,
    responses::Stock,
    responses::Timeline,
    responses::TimelineEntry,
    responses::Totals,
    responses::Version,
)))]
struct Schemas;

/// The whole document, indented, ending in a line break.
pub fn text() -> String {
    // A document of texts and maps always serializes.
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The whole document.
pub fn document() -> Value {
    let mut components = serde_json::to_value(Schemas::openapi().components).unwrap_or_default();
    for (list, row) in [("SkuList", "SkuResponse"), ("OrderList", "Order"), ("LedgerList", "LedgerEntry")] {
        components["schemas"][list] = list_schema(row);
    }
    components["schemas"]["OrderList"]["properties"]["source"] = json!({
        "type": "string", "enum": ["postgres", "engine"],
        "description": "Who found them: Postgres, or the engine where there is no Postgres or none that can say.",
    });
    components["securitySchemes"] = json!({
        "admin_key": {"type": "http", "scheme": "bearer", "description": "The admin key."},
        "cart_token": {"type": "apiKey", "in": "header", "name": "Cart-Token", "description": "The token that the cart's creation answered."},
    });
    let mut paths = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.name().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Doorbuster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An order engine for the minute when everybody wants the same thing. Money is integer minor units; times are RFC 3339 UTC with milliseconds; a 2xx for a change is sent only after the change is on stable storage.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "catalogue", "description": "What there is to buy."},
            {"name": "reservations", "description": "Units set aside for a shopper."},
            {"name": "carts", "description": "From lines to a checkout."},
            {"name": "orders", "description": "What a checkout became."},
            {"name": "streams", "description": "Live events for shop windows."},
            {"name": "admin", "description": "Catalogue, stock and orders, for merchants; needs the admin key."},
            {"name": "service", "description": "For whoever runs the engine."},
        ],
        "paths": paths,
        "components": components,
    })
}

fn list_schema(row: &str) -> Value {
    json!({
        "type": "object",
        "required": ["data", "has_more"],
        "properties": {
            "data": {"type": "array", "items": reference(row)},
            "has_more": {"type": "boolean", "description": "Whether there are more."},
            "next_cursor": {"type": ["string", "null"], "description": "What to send as starting_after for the next part."},
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": route.name,
        "tags": [route.group],
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses_of(route),
    });
    if !route.description.is_empty() {
        operation["description"] = json!(route.description);
    }
    if let Some(body) = body(route.body) {
        operation["requestBody"] = body;
    }
    match route.access {
        Access::Open => {}
        Access::Admin => operation["security"] = json!([{"admin_key": []}]),
        Access::CartToken => operation["security"] = json!([{"cart_token": []}]),
        Access::Order => operation["security"] = json!([{"cart_token": []}, {"admin_key": []}]),
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters: Vec<Value> = route
        .segments()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(route.query.iter().map(query));
    let header = |name: &str, required: bool, description: &str| json!({"name": name, "in": "header", "required": required, "description": description, "schema": {"type": "string"}});
    match route.key {
        Key::Unused => {}
        Key::Accepted | Key::Required => parameters.push(header(
            "Idempotency-Key",
            route.key == Key::Required,
            "1 to 255 printable characters, new for each intention, the same for each retry of it.",
        )),
    }
    match route.versions {
        Versions::None => {}
        Versions::Read => {
            parameters.push(header(
                "If-None-Match",
                false,
                "An ETag: 304 where it is still the present one.",
            ));
        }
        Versions::Match | Versions::MatchRequired => parameters.push(header(
            "If-Match",
            route.versions == Versions::MatchRequired,
            "An ETag: 412 where it is no longer the present one.",
        )),
    }
    parameters
}

fn query(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        ParameterKind::Text => json!({"type": "string"}),
        ParameterKind::Texts => {
            json!({"type": "array", "minItems": 1, "maxItems": 100, "items": {"type": "string"}})
        }
        ParameterKind::Boolean => json!({"type": "boolean"}),
        ParameterKind::Limit => json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        ParameterKind::Time => json!({"type": "string", "format": "date-time"}),
    };
    let required = parameter.kind == ParameterKind::Texts;
    json!({
        "name": parameter.name,
        "in": "query",
        "required": required,
        "description": parameter.description,
        "schema": schema,
    })
}

fn body(body: Body) -> Option<Value> {
    let json_content = |schema: Value| json!({"application/json": {"schema": schema}});
    match body {
        Body::Unused => None,
        Body::Empty => Some(json!({
            "required": false,
            "description": "Nothing, or an object without fields.",
            "content": json_content(json!({"type": "object", "additionalProperties": false})),
        })),
        Body::Json(schema) => Some(json!({"required": true, "content": json_content(reference(schema))})),
        Body::Signed(description) => Some(json!({
            "required": true,
            "description": description,
            "content": json_content(json!({"type": "object"})),
        })),
        Body::Stream(schema) => Some(json!({
            "required": true,
            "description": "One SKU a line.",
            "content": {
                "application/x-ndjson": {"schema": reference(schema)},
                "text/csv": {"schema": {"type": "string"}},
            },
        })),
    }
}

fn responses_of(route: &Route) -> Value {
    let mut responses = Map::new();
    for success in route.successes {
        responses.insert(success.status.to_string(), success_response(route, success));
    }
    if route.versions == Versions::Read {
        responses.insert("304".to_owned(), json!({"description": "The caller has this version already."}));
    }
    // Several codes may share a status.
    let mut codes = route.all_refusals();
    codes.push(Code::Internal);
    for code in codes {
        let status = code.status().as_u16().to_string();
        let entry = responses.entry(status).or_insert_with(
            || json!({"description": "", "content": {PROBLEM_JSON: {"schema": reference("Problem")}}}),
        );
        let told = entry["description"].as_str().unwrap_or("").to_owned();
        let separator = if told.is_empty() { "" } else { " " };
        entry["description"] = json!(format!("{told}{separator}`{}`: {}.", code.wire(), code.title()));
        if code.retryable() {
            entry["headers"] =
                json!({"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}});
        }
    }
    Value::Object(responses)
}

fn success_response(route: &Route, success: &Success) -> Value {
    let mut response = json!({"description": success.description});
    if let Some(schema) = success.schema {
        response["content"] = json!({"application/json": {"schema": reference(schema)}});
    }
    let mut headers = Map::new();
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    if route.versions != Versions::None {
        headers.insert("ETag".to_owned(), text("The version in quotes."));
    }
    if route.key != Key::Unused {
        headers.insert(
            "Idempotent-Replayed".to_owned(),
            text("`true` when this is the first answer to the key again."),
        );
    }
    if !headers.is_empty() {
        response["headers"] = Value::Object(headers);
    }
    response
}

/// Every method and path of the document, for the test against the router.
pub fn operations() -> Vec<(String, String)> {
    let document = document();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for method in item.as_object().into_iter().flat_map(Map::keys) {
            operations.push((method.to_ascii_uppercase(), path.clone()));
        }
    }
    operations.sort_unstable();
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_points_at_a_schema() {
        let document = document();
        let text = document.to_string();
        let mut count = 0;
        for part in text.split("\"$ref\":\"").skip(1) {
            let target = part.split('"').next().unwrap();
            let name = target.strip_prefix("#/components/schemas/").unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
            count += 1;
        }
        assert!(count > 100, "{count}");
    }

    #[test]
    fn the_document_describes_exactly_the_routes() {
        let mut routes: Vec<(String, String)> =
            ROUTES.iter().map(|route| (route.method.name().to_owned(), route.path.to_owned())).collect();
        routes.sort_unstable();
        assert_eq!(operations(), routes);
    }
}
