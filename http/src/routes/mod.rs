//! The router: binds each route of the [`table`] to its handler.
//!
//! Handlers are thin: read the request, ask the engine, write the reply. What a path does not answer to is refused
//! with the methods it does; what no path takes is 404; both as problems.

pub(crate) mod actors;
pub(crate) mod carts;
pub(crate) mod console;
pub(crate) mod import;
pub(crate) mod orders;
pub(crate) mod pages;
pub(crate) mod payments;
pub(crate) mod reservations;
pub(crate) mod service;
pub(crate) mod skus;
pub(crate) mod stock;
pub(crate) mod streams;
pub mod table;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, Resource, Route, guard};

use crate::body::discard;
use crate::door::{observed, stray};
use crate::problem::Problem;

/// Binds handlers to the table's routes by name, grouped by the beginning of their paths.
///
/// The groups are for speed: the router tries its entries one after another, and each path with a `{…}` costs a
/// regular expression. A group is entered by plain comparison, and the hot path comes before all of them.
macro_rules! bind {
    ($config:ident, $($group:literal { $($rest:literal { $($name:literal => $handler:path),+ $(,)? })+ })+) => {
        $({
            let mut scope = web::scope($group);
            $(
                let path = concat!($group, $rest);
                let mut resource = web::resource($rest);
                $(
                    let index = table::index_of($name);
                    assert_eq!(table::ROUTES[index].path, path, "Invariant: a handler is bound to its own path");
                    let handler =
                        move |request: HttpRequest, payload: web::Payload| observed(index, request, payload, $handler);
                    resource = resource.route(answering(index).to(handler));
                )+
                scope = scope.service(closed(path, resource));
            )+
            $config.service(scope);
        })+
    };
}

/// Every path and name that the router binds, for the test against the table.
#[cfg(test)]
macro_rules! names {
    ($($group:literal { $($rest:literal { $($name:literal => $handler:path),+ $(,)? })+ })+) => {
        vec![$($($((concat!($group, $rest), $name),)+)+)+]
    };
}

macro_rules! routing {
    ($use:ident $($argument:tt)*) => {
        $use! { $($argument)*
            "/v1/reservations" {
                "" { "create_reservation" => reservations::create }
                "/batch" { "create_reservations" => reservations::create_many }
                "/{id}" {
                    "get_reservation" => reservations::get,
                    "extend_reservation" => reservations::extend,
                    "release_reservation" => reservations::release,
                }
                "/{id}/commit" { "commit_reservation" => reservations::commit }
            }
            "/v1/carts" {
                "" { "create_cart" => carts::create }
                "/{id}" { "get_cart" => carts::get, "delete_cart" => carts::delete }
                "/{id}/lines" { "add_lines" => carts::add_lines }
                "/{id}/lines/{line_id}" { "set_line" => carts::set_line, "remove_line" => carts::remove_line }
                "/{id}/checkout" { "check_out" => carts::check_out }
            }
            "/v1/orders" {
                "/{id}" { "get_order" => orders::get }
                "/{id}/confirm" { "confirm_order" => orders::confirm }
                "/{id}/timeline" { "get_order_timeline" => orders::timeline }
                "/{id}/cancel" { "cancel_order" => orders::cancel }
            }
            "/v1/skus" {
                "" { "list_skus" => skus::list }
                "/{sku}/availability" { "get_availability" => skus::availability }
                "/{sku}" { "get_sku" => skus::get }
            }
            "/v1/availability" { "" { "list_availability" => skus::availabilities } }
            "/v1/webhooks" {
                "/stripe" { "hear_stripe" => payments::hear_stripe }
                "/paypal" { "hear_paypal" => payments::hear_paypal }
            }
            "/v1/streams" {
                "/skus" { "stream_skus" => streams::skus }
                "/carts/{id}" { "stream_cart" => streams::cart }
                "/orders/{id}" { "stream_order" => streams::order }
            }
            "/v1/admin/skus" {
                "/{sku}/adjustments" { "adjust_stock" => stock::adjust }
                "/{sku}/stock" { "get_stock" => stock::get, "set_stock" => stock::set }
                "/{sku}/ledger" { "list_ledger" => stock::ledger }
                "/{sku}" { "define_sku" => stock::define }
            }
            "/v1/admin/orders" {
                "" { "list_orders" => orders::list }
                "/{id}/refunds" { "refund_order" => orders::refund }
                "/{id}/fulfilments" { "fulfil_order" => orders::fulfil }
            }
            "/v1/admin/payments" {
                "/providers" { "list_providers" => payments::providers }
                "/reconcile" { "reconcile_payments" => payments::reconcile }
            }
            "/v1/admin/import" { "/skus" { "import_skus" => import::skus } }
            "/v1/admin/actors" {
                "" { "list_actors" => actors::list }
                "/{kind}/{key}" { "get_actor" => actors::get }
            }
            "/v1/admin/live" { "" { "watch_engine" => console::watch } }
            "/console" {
                "" { "console" => console::page }
                "/console.css" { "console_style" => console::style }
                "/console.js" { "console_script" => console::script }
            }
            "/livez" { "" { "live" => service::live } }
            "/readyz" { "" { "ready" => service::ready } }
            "/version" { "" { "version" => service::version } }
            "/metrics" { "" { "metrics" => service::metrics } }
            "/openapi.json" { "" { "openapi" => pages::openapi } }
            "/docs" { "" { "docs" => pages::docs } }
            "/problems" { "/{code}" { "problem_page" => pages::problem } }
        }
    };
}

/// Adds every route.
pub fn configure(config: &mut ServiceConfig) {
    routing!(bind config,);
    config.default_service(web::to(nowhere));
}

/// Adds what operators may see without a key on a listener of their own.
pub(crate) fn configure_private(config: &mut ServiceConfig) {
    bind! { config,
        "/livez" { "" { "live" => service::live } }
        "/readyz" { "" { "ready" => service::ready } }
        "/version" { "" { "version" => service::version } }
        "/metrics" { "" { "metrics" => service::metrics } }
    }
    config.default_service(web::to(nowhere));
}

/// A route that takes its table entry's method. What can be read can be asked for its head alone (RFC 9110, 9.3.2):
/// the server sends the same head and leaves the body out.
fn answering(index: usize) -> Route {
    match table::ROUTES[index].method {
        table::Method::Get => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
        table::Method::Post => web::post(),
        table::Method::Put => web::put(),
        table::Method::Patch => web::patch(),
        table::Method::Delete => web::delete(),
    }
}

/// The methods that a path answers to, as in an `Allow` header.
fn allowed(path: &str) -> String {
    let methods = table::ROUTES.iter().filter(|route| route.path == path).map(|route| match route.method {
        table::Method::Get => "GET, HEAD",
        method
        @ (table::Method::Post | table::Method::Put | table::Method::Patch | table::Method::Delete) => {
            method.name()
        }
    });
    methods.collect::<Vec<_>>().join(", ")
}

fn closed(path: &'static str, resource: Resource) -> Resource {
    resource.default_service(web::to(move |request: HttpRequest, mut payload: web::Payload| async move {
        discard(&mut payload).await;
        stray(&request, &Problem::method_not_allowed(allowed(path)))
    }))
}

async fn nowhere(request: HttpRequest, mut payload: web::Payload) -> actix_web::HttpResponse {
    discard(&mut payload).await;
    stray(&request, &Problem::not_found("nothing is at this path; /docs lists every path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_binds_exactly_the_tables_routes() {
        let mut bound: Vec<(&str, &str)> = routing!(names);
        let mut listed: Vec<(&str, &str)> =
            table::ROUTES.iter().map(|route| (route.path, route.name)).collect();
        bound.sort_unstable();
        listed.sort_unstable();
        assert_eq!(bound, listed);
        listed.dedup();
        assert_eq!(listed.len(), table::ROUTES.len(), "names are unique");
    }

    #[test]
    fn every_path_tells_its_methods() {
        assert_eq!(allowed("/v1/reservations/{id}"), "GET, HEAD, PATCH, DELETE");
        assert_eq!(allowed("/v1/reservations"), "POST");
    }
}
