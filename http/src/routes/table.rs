//! Every route, once: what it needs, what it answers, what can go wrong.
//!
//! Access, body limits and idempotency keys are enforced from this table and `/openapi.json` is written from it, so
//! the documentation cannot say other than what is done. The router is tied to it in [`super::configure`].

use crate::problem::Code;

/// An HTTP method that some route answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Does or makes something.
    Post,
    /// Makes or replaces.
    Put,
    /// Changes part.
    Patch,
    /// Ends.
    Delete,
}

impl Method {
    /// Its name as in a request line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Only with the admin key.
    Admin,
    /// Only with the cart's token; anything else reads as 404.
    CartToken,
    /// With the token of the cart the order came from, or the admin key; anything else reads as 404.
    Order,
}

/// Whether an `Idempotency-Key` is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Not looked at: the call changes nothing, or its parts carry their own keys.
    Unused,
    /// Taken where it is sent.
    Accepted,
    /// Refused without it, because stock or money moves.
    Required,
}

/// What a body must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Not looked at.
    Unused,
    /// Nothing, or an object without fields.
    Empty,
    /// JSON of this schema.
    Json(&'static str),
    /// Lines of JSON or CSV, read as they come.
    Stream(&'static str),
    /// Bytes of which every one is signed; what they say is their sender's business.
    Signed(&'static str),
}

/// Where a route stands when not everybody can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never refused: health, figures, the operators' own calls, pages of the documentation.
    Always,
    /// Goes on with something begun: a half-done checkout is worth more than a new one.
    Begun,
    /// Begins something, or looks around.
    New,
}

/// One documented success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Success {
    /// Its status.
    pub status: u16,
    /// Schema of its body, where it has one.
    pub schema: Option<&'static str>,
    /// When it comes.
    pub description: &'static str,
}

/// One query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Its type.
    pub kind: ParameterKind,
}

/// Type of a query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any text.
    Text,
    /// The same, as often as wanted.
    Texts,
    /// `true` or `false`.
    Boolean,
    /// A whole number, 1 to 100.
    Limit,
    /// An RFC 3339 time.
    Time,
}

/// How a route deals with versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Not at all.
    None,
    /// Answers with an `ETag`, and 304 to a matching `If-None-Match`.
    Read,
    /// Refuses with 412 where `If-Match` is sent and does not match; answers with an `ETag`.
    Match,
    /// The same, and refuses with 428 without `If-Match`.
    MatchRequired,
}

/// Everything said of one route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path; `{name}` stands for one segment.
    pub path: &'static str,
    /// Its name for generated clients and metrics.
    pub name: &'static str,
    /// The group it is shown in.
    pub group: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// More about it.
    pub description: &'static str,
    /// Who may call.
    pub access: Access,
    /// Where it stands under overload.
    pub standing: Standing,
    /// Whether an `Idempotency-Key` is taken.
    pub key: Key,
    /// What its body must be.
    pub body: Body,
    /// Longest body, in bytes; of a stream: longest line.
    pub body_bytes_max: usize,
    /// Its query parameters.
    pub query: &'static [Parameter],
    /// How it deals with versions.
    pub versions: Versions,
    /// Its successes.
    pub successes: &'static [Success],
    /// Its own refusals, beside those that its other fields imply.
    pub refusals: &'static [Code],
}

/// Longest body in general. Beyond it a stranger could fill memory faster than requests are read.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// Longest webhook: a provider tells of one object, with all that hangs on it.
const WEBHOOK_BYTES_MAX: usize = 256 << 10;

/// Longest body of calls that carry up to 1,000 lines: a kilobyte each.
pub const LINES_BYTES_MAX: usize = 1 << 20;

/// Shorthand of a documented success.
const fn ok(status: u16, schema: &'static str, description: &'static str) -> Success {
    Success { status, schema: Some(schema), description }
}

const fn route(method: Method, path: &'static str, name: &'static str, summary: &'static str) -> Route {
    Route {
        method,
        path,
        name,
        group: "service",
        summary,
        description: "",
        access: Access::Open,
        standing: Standing::Begun,
        key: Key::Unused,
        body: Body::Unused,
        body_bytes_max: BODY_BYTES_MAX,
        query: &[],
        versions: Versions::None,
        successes: &[],
        refusals: &[],
    }
}

const fn get(path: &'static str, name: &'static str, summary: &'static str) -> Route {
    route(Method::Get, path, name, summary)
}

const fn post(path: &'static str, name: &'static str, summary: &'static str) -> Route {
    route(Method::Post, path, name, summary)
}

impl Route {
    const fn group(self, group: &'static str) -> Self {
        Self { group, ..self }
    }

    const fn more(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    const fn access(self, access: Access) -> Self {
        let standing = if matches!(access, Access::Admin) { Standing::Always } else { self.standing };
        Self { access, standing, ..self }
    }

    const fn stands(self, standing: Standing) -> Self {
        Self { standing, ..self }
    }

    const fn key(self, key: Key) -> Self {
        Self { key, ..self }
    }

    const fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    const fn body_bytes_max(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    const fn query(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    const fn versions(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    const fn answers(self, successes: &'static [Success]) -> Self {
        Self { successes, ..self }
    }

    const fn refuses(self, refusals: &'static [Code]) -> Self {
        Self { refusals, ..self }
    }
}

const fn parameter(name: &'static str, kind: ParameterKind, description: &'static str) -> Parameter {
    Parameter { name, description, kind }
}

const LIMIT: Parameter = parameter("limit", ParameterKind::Limit, "Most rows to answer; absent: 20.");
const AFTER: Parameter =
    parameter("starting_after", ParameterKind::Text, "Go on after this `next_cursor` of an earlier part.");

/// Every route.
pub static ROUTES: &[Route] = &[
    get("/v1/skus", "list_skus", "List the catalogue")
        .group("catalogue")
        .stands(Standing::New)
        .query(&[parameter("in_stock", ParameterKind::Boolean, "Only SKUs that can (or cannot) be bought now."), LIMIT, AFTER])
        .answers(&[ok(200, "SkuList", "SKUs in the order of their names.")]),
    get("/v1/skus/{sku}", "get_sku", "Show a SKU")
        .group("catalogue")
        .stands(Standing::New)
        .answers(&[ok(200, "SkuResponse", "The SKU.")])
        .refuses(&[Code::NotFound]),
    get("/v1/skus/{sku}/availability", "get_availability", "What can be sold of a SKU now")
        .group("catalogue")
        .stands(Standing::New)
        .more("Answered from memory without asking the SKU's actor: cheap enough for every page view. Advisory; may be a flush ahead of the disk.")
        .versions(Versions::Read)
        .answers(&[ok(200, "Availability", "What can be sold.")])
        .refuses(&[Code::NotFound]),
    get("/v1/availability", "list_availability", "What can be sold of several SKUs now")
        .group("catalogue")
        .stands(Standing::New)
        .query(&[parameter("sku", ParameterKind::Texts, "1 to 100 SKUs.")])
        .answers(&[ok(200, "AvailabilityList", "In the order asked.")])
        .refuses(&[Code::NotFound]),
    post("/v1/reservations", "create_reservation", "Reserve units")
        .group("reservations")
        .stands(Standing::New)
        .more("Sets units aside until they are committed, released or their time is over. All lines or none, unless `partial`. The key names the reservation: a retry answers the same bytes.")
        .key(Key::Required)
        .body(Body::Json("ReservationRequest"))
        .answers(&[ok(201, "Reservation", "The units are held, on stable storage.")])
        .refuses(&[Code::NotFound, Code::InsufficientStock]),
    post("/v1/reservations/batch", "create_reservations", "Make many independent reservations")
        .group("reservations")
        .stands(Standing::New)
        .more("For gateways that gather many shoppers: each item is a reservation of its own with its own key and verdict, all behind one durable wait.")
        .body(Body::Json("BatchRequest"))
        .body_bytes_max(LINES_BYTES_MAX)
        .answers(&[ok(200, "BatchResponse", "One result for each request, in order.")]),
    get("/v1/reservations/{id}", "get_reservation", "Show a reservation")
        .group("reservations")
        .answers(&[ok(200, "Reservation", "As it stands now.")])
        .refuses(&[Code::NotFound]),
    route(Method::Patch, "/v1/reservations/{id}", "extend_reservation", "Extend a reservation's life")
        .group("reservations")
        .key(Key::Required)
        .body(Body::Json("ExtendRequest"))
        .answers(&[ok(200, "Reservation", "With its new end; the whole life is capped at a day.")])
        .refuses(&[Code::NotFound, Code::IllegalTransition, Code::ReservationExpired]),
    route(Method::Delete, "/v1/reservations/{id}", "release_reservation", "Release a reservation")
        .group("reservations")
        .key(Key::Required)
        .answers(&[ok(200, "Reservation", "Its units are back; again: the same body.")])
        .refuses(&[Code::NotFound, Code::IllegalTransition, Code::ReservationExpired]),
    post("/v1/reservations/{id}/commit", "commit_reservation", "Sell a reservation's units")
        .group("reservations")
        .key(Key::Required)
        .body(Body::Empty)
        .answers(&[ok(200, "Reservation", "Its units are sold; again: the same body.")])
        .refuses(&[Code::NotFound, Code::IllegalTransition, Code::ReservationExpired]),
    post("/v1/carts", "create_cart", "Make a cart")
        .group("carts")
        .stands(Standing::New)
        .key(Key::Accepted)
        .body(Body::Json("CartRequest"))
        .body_bytes_max(LINES_BYTES_MAX)
        .answers(&[ok(201, "Cart", "The cart with its token, which is given only here.")])
        .refuses(&[Code::NotFound, Code::Forbidden]),
    get("/v1/carts/{id}", "get_cart", "Show a cart")
        .group("carts")
        .access(Access::CartToken)
        .versions(Versions::Read)
        .answers(&[ok(200, "Cart", "The cart.")])
        .refuses(&[Code::CartExpired]),
    route(Method::Delete, "/v1/carts/{id}", "delete_cart", "Delete a cart")
        .group("carts")
        .access(Access::CartToken)
        .key(Key::Accepted)
        .answers(&[Success { status: 204, schema: None, description: "It is gone." }])
        .refuses(&[Code::IllegalTransition, Code::CartExpired]),
    post("/v1/carts/{id}/lines", "add_lines", "Add lines to a cart")
        .group("carts")
        .more("Adds to the line of that SKU and price, or makes a new one. One line in place (`sku`, `quantity`), or up to 1,000 as `lines`.")
        .access(Access::CartToken)
        .key(Key::Accepted)
        .body(Body::Json("LinesRequest"))
        .body_bytes_max(LINES_BYTES_MAX)
        .versions(Versions::Match)
        .answers(&[ok(200, "Cart", "The whole cart.")])
        .refuses(&[Code::Forbidden, Code::IllegalTransition, Code::CartExpired]),
    route(Method::Patch, "/v1/carts/{id}/lines/{line_id}", "set_line", "Set a line's quantity")
        .group("carts")
        .access(Access::CartToken)
        .key(Key::Accepted)
        .body(Body::Json("QuantityRequest"))
        .versions(Versions::Match)
        .answers(&[ok(200, "Cart", "The whole cart.")])
        .refuses(&[Code::IllegalTransition, Code::CartExpired]),
    route(Method::Delete, "/v1/carts/{id}/lines/{line_id}", "remove_line", "Remove a line")
        .group("carts")
        .access(Access::CartToken)
        .key(Key::Accepted)
        .versions(Versions::Match)
        .answers(&[ok(200, "Cart", "The whole cart.")])
        .refuses(&[Code::IllegalTransition, Code::CartExpired]),
    post("/v1/carts/{id}/checkout", "check_out", "Check out a cart")
        .group("carts")
        .more("Reserves every line, takes the payment and places the order: all of it or nothing. A cart that cannot be paid is open again.")
        .access(Access::CartToken)
        .key(Key::Required)
        .body(Body::Json("CheckoutRequest"))
        .versions(Versions::Match)
        .answers(&[
            ok(201, "Order", "Paid and placed."),
            ok(202, "CheckoutPending", "The shopper must act (`requires_action`), or the provider has not answered yet (`payment_pending`)."),
        ])
        .refuses(&[
            Code::PaymentDeclined,
            Code::PaymentUnavailable,
            Code::InsufficientStock,
            Code::IllegalTransition,
            Code::PriceChanged,
            Code::CartExpired,
        ]),
    post("/v1/orders/{id}/confirm", "confirm_order", "Finish a payment after the shopper acted")
        .group("orders")
        .access(Access::Order)
        .key(Key::Required)
        .body(Body::Empty)
        .answers(&[ok(200, "Order", "Paid and placed."), ok(202, "CheckoutPending", "Still open.")])
        .refuses(&[Code::PaymentDeclined, Code::IllegalTransition]),
    get("/v1/orders/{id}", "get_order", "Show an order")
        .group("orders")
        .access(Access::Order)
        .versions(Versions::Read)
        .answers(&[ok(200, "Order", "The order.")]),
    get("/v1/orders/{id}/timeline", "get_order_timeline", "Show what happened to an order")
        .group("orders")
        .access(Access::Order)
        .answers(&[ok(200, "Timeline", "Oldest first.")]),
    post("/v1/orders/{id}/cancel", "cancel_order", "Cancel an order")
        .group("orders")
        .more("Voids or refunds the payment and puts the units back.")
        .access(Access::Order)
        .key(Key::Required)
        .body(Body::Empty)
        .answers(&[ok(200, "Order", "It is cancelled.")])
        .refuses(&[Code::IllegalTransition]),
    post("/v1/webhooks/stripe", "hear_stripe", "Take a webhook of Stripe")
        .group("payments")
        .more("For Stripe alone. The order is told on stable storage before the answer; copies and events of any age are welcome, unknown kinds are taken and counted.")
        .body(Body::Signed("Stripe's event, signed in `Stripe-Signature`."))
        .body_bytes_max(WEBHOOK_BYTES_MAX)
        .answers(&[ok(200, "Received", "Taken; repeats too.")])
        .refuses(&[Code::SignatureInvalid, Code::PaymentUnavailable, Code::NotFound]),
    post("/v1/webhooks/paypal", "hear_paypal", "Take a webhook of PayPal")
        .group("payments")
        .more("For PayPal alone, which is asked whether it sent it.")
        .body(Body::Signed("PayPal's event, signed in its `PAYPAL-TRANSMISSION-…` headers."))
        .body_bytes_max(WEBHOOK_BYTES_MAX)
        .answers(&[ok(200, "Received", "Taken; repeats too.")])
        .refuses(&[Code::SignatureInvalid, Code::PaymentUnavailable, Code::NotFound]),
    get("/v1/admin/payments/providers", "list_providers", "Show how payment providers stand")
        .group("admin")
        .access(Access::Admin)
        .answers(&[ok(200, "ProviderList", "Whether each answers, who waits for it, and how long that will take.")]),
    post("/v1/admin/payments/reconcile", "reconcile_payments", "Compare a provider's books with the orders")
        .group("admin")
        .more("Orders are told what they do not know, and mend it; what they cannot mend is reported. Orders of the last minute are left out: they may be under way.")
        .access(Access::Admin)
        .body(Body::Json("ReconcileRequest"))
        .answers(&[ok(200, "Reconciliation", "What did not agree.")])
        .refuses(&[Code::PaymentUnavailable]),
    get("/v1/streams/skus", "stream_skus", "Watch SKUs")
        .group("streams")
        .stands(Standing::New)
        .more("Server-sent events: `availability` of each SKU at once, then whenever it changed, at most about ten times a second and always the last state. `Last-Event-ID` goes on where a stream ended. Comments are heartbeats; a last event `end` says why.")
        .query(&[parameter("sku", ParameterKind::Texts, "1 to 100 SKUs.")])
        .answers(&[Success { status: 200, schema: None, description: "text/event-stream, until either side ends it." }])
        .refuses(&[Code::NotFound]),
    get("/v1/streams/carts/{id}", "stream_cart", "Watch a cart")
        .group("streams")
        .access(Access::CartToken)
        .stands(Standing::New)
        .more("Server-sent events: `cart`, the whole cart, at once and after every durable change, in order; the id is its version. With `Upgrade: websocket` the same over a WebSocket, as `{\"event\", \"id\", \"data\"}`; a browser offers the protocols `doorbuster.v1` and `token.` with the cart's token.")
        .answers(&[
            Success { status: 200, schema: None, description: "text/event-stream, until either side ends it." },
            Success { status: 101, schema: None, description: "A WebSocket, where one was asked for." },
        ])
        .refuses(&[Code::CartExpired, Code::Forbidden, Code::Malformed]),
    get("/v1/streams/orders/{id}", "stream_order", "Watch an order")
        .group("streams")
        .access(Access::Order)
        .stands(Standing::New)
        .more("Server-sent events: `order`, the whole order and the steps not seen yet, at once and after every durable change, in order; the id is its version.")
        .answers(&[Success { status: 200, schema: None, description: "text/event-stream, until either side ends it." }]),
    get("/v1/admin/orders", "list_orders", "List orders")
        .group("admin")
        .access(Access::Admin)
        .query(&[
            parameter("state", ParameterKind::Text, "Only in this state."),
            parameter("email", ParameterKind::Text, "Only with this address."),
            parameter("since", ParameterKind::Time, "Only from then on."),
            parameter("until", ParameterKind::Time, "Only before then."),
            parameter("fresh", ParameterKind::Boolean, "Whether everything you were told of before must be found."),
            LIMIT,
            AFTER,
        ])
        .more("Found in Postgres where there is one that can say, else by the engine, which has them all and takes longer.")
        .answers(&[ok(200, "OrderList", "Newest first.")]),
    post("/v1/admin/orders/{id}/refunds", "refund_order", "Give money back")
        .group("admin")
        .access(Access::Admin)
        .key(Key::Required)
        .body(Body::Json("RefundRequest"))
        .answers(&[ok(201, "Refund", "The refund.")])
        .refuses(&[Code::NotFound, Code::IllegalTransition]),
    post("/v1/admin/orders/{id}/fulfilments", "fulfil_order", "Hand units to the carrier")
        .group("admin")
        .access(Access::Admin)
        .key(Key::Required)
        .body(Body::Json("FulfilmentRequest"))
        .answers(&[ok(201, "Fulfilment", "The fulfilment.")])
        .refuses(&[Code::NotFound, Code::IllegalTransition]),
    route(Method::Put, "/v1/admin/skus/{sku}", "define_sku", "Make or change a SKU")
        .group("admin")
        .access(Access::Admin)
        .key(Key::Required)
        .body(Body::Json("SkuRequest"))
        .answers(&[ok(201, "Stock", "It is new; its stock."), ok(200, "Stock", "It was changed; `on_hand` was not looked at.")])
        .refuses(&[Code::InsufficientStock]),
    get("/v1/admin/skus/{sku}/stock", "get_stock", "Show a SKU's stock")
        .group("admin")
        .access(Access::Admin)
        .versions(Versions::Read)
        .answers(&[ok(200, "Stock", "Its stock.")])
        .refuses(&[Code::NotFound]),
    route(Method::Put, "/v1/admin/skus/{sku}/stock", "set_stock", "Set what was counted")
        .group("admin")
        .access(Access::Admin)
        .key(Key::Required)
        .body(Body::Json("StockRequest"))
        .versions(Versions::MatchRequired)
        .answers(&[ok(200, "Stock", "Its stock.")])
        .refuses(&[Code::NotFound, Code::InsufficientStock]),
    post("/v1/admin/skus/{sku}/adjustments", "adjust_stock", "Add or take units")
        .group("admin")
        .access(Access::Admin)
        .key(Key::Required)
        .body(Body::Json("AdjustmentRequest"))
        .answers(&[ok(200, "Stock", "Its stock.")])
        .refuses(&[Code::NotFound, Code::InsufficientStock]),
    get("/v1/admin/skus/{sku}/ledger", "list_ledger", "Show how a SKU's stock came about")
        .group("admin")
        .access(Access::Admin)
        .query(&[LIMIT, AFTER])
        .answers(&[ok(200, "LedgerList", "Newest first.")])
        .refuses(&[Code::NotFound]),
    post("/v1/admin/import/skus", "import_skus", "Make or change many SKUs")
        .group("admin")
        .more("NDJSON (one object a line) or CSV with the header `sku,name,amount,currency,on_hand,low_stock_at,oversell_policy,oversell_limit,reservation_ttl_s` (the first four are needed, in any order). Read as it comes, any length. With an `Idempotency-Key` a repeat goes on where the first stopped and answers the same counts.")
        .access(Access::Admin)
        .key(Key::Accepted)
        .body(Body::Stream("ImportLine"))
        .answers(&[ok(200, "ImportResponse", "What became of the lines.")]),
    get("/v1/admin/actors", "list_actors", "Show the hottest actors")
        .group("admin")
        .access(Access::Admin)
        .query(&[
            parameter("kind", ParameterKind::Text, "Only `sku`, `cart`, `order` or `reservation`."),
            parameter("sort", ParameterKind::Text, "By `rate` (the default), `depth`, `wait` or `messages`."),
            LIMIT,
        ])
        .answers(&[ok(200, "ActorList", "Hottest first.")]),
    get("/v1/admin/actors/{kind}/{key}", "get_actor", "Look into an actor")
        .group("admin")
        .access(Access::Admin)
        .answers(&[ok(200, "ActorDetail", "Its figures, state and last messages.")])
        .refuses(&[Code::NotFound]),
    get("/v1/admin/live", "watch_engine", "Watch the engine at work")
        .group("admin")
        .access(Access::Admin)
        .more("Server-sent events: `snapshot`, a `LiveSnapshot`, once a second: rates, revenue, latencies, refusals, the SKUs and actors that move most, journal, followers, payment providers, laws, news. Nothing is measured while nobody watches, so the first comes after a second or two. With `once=true`, or `Accept: application/json`, a single one as JSON. 64 may watch at a time.")
        .query(&[parameter("once", ParameterKind::Boolean, "Whether one snapshot is enough.")])
        .answers(&[ok(200, "LiveSnapshot", "The snapshot; or text/event-stream, until either side ends it.")]),
    get("/console", "console", "The live console, for people")
        .stands(Standing::Always)
        .more("Asks for the admin key and shows what `/v1/admin/live` tells.")
        .answers(&[Success { status: 200, schema: None, description: "HTML." }]),
    get("/console/console.css", "console_style", "The console's style")
        .stands(Standing::Always)
        .answers(&[Success { status: 200, schema: None, description: "CSS." }]),
    get("/console/console.js", "console_script", "The console's script")
        .stands(Standing::Always)
        .answers(&[Success { status: 200, schema: None, description: "JavaScript." }]),
    get("/livez", "live", "Whether the process lives")
        .stands(Standing::Always).answers(&[ok(200, "Health", "It does.")]),
    get("/readyz", "ready", "Whether it serves")
        .stands(Standing::Always)
        .more("503 while recovering or draining; a missing database behind the engine does not make it unready.")
        .answers(&[ok(200, "Health", "It does.")])
        .refuses(&[Code::Recovering, Code::Draining]),
    get("/version", "version", "What runs here")
        .stands(Standing::Always).answers(&[ok(200, "Version", "Version and durability.")]),
    get("/metrics", "metrics", "Metrics for Prometheus")
        .access(Access::Admin)
        .answers(&[Success { status: 200, schema: None, description: "Text exposition format." }]),
    get("/openapi.json", "openapi", "This description")
        .stands(Standing::Always)
        .answers(&[Success { status: 200, schema: None, description: "OpenAPI 3.1." }]),
    get("/docs", "docs", "This description, for reading")
        .stands(Standing::Always)
        .answers(&[Success { status: 200, schema: None, description: "HTML." }]),
    get("/problems/{code}", "problem_page", "What a problem means and what to do")
        .stands(Standing::Always)
        .answers(&[Success { status: 200, schema: None, description: "HTML." }])
        .refuses(&[Code::NotFound]),
];

/// Index of a route in [`ROUTES`], by name; the router and the meters use it.
pub fn index_of(name: &str) -> usize {
    ROUTES
        .iter()
        .position(|route| route.name == name)
        .unwrap_or_else(|| unreachable!("Invariant: the router names only routes of the table, not `{name}`"))
}

impl Route {
    /// Every refusal it may answer with, those that its fields imply included, in the order of [`Code::ALL`].
    pub fn all_refusals(&self) -> Vec<Code> {
        let changes = self.method != Method::Get;
        let business = self.path.starts_with("/v1/");
        let reads_body = !matches!(self.body, Body::Unused);
        let implied = |code: Code| match code {
            Code::Malformed => reads_body || !self.query.is_empty(),
            Code::IdempotencyKeyMissing => self.key == Key::Required,
            Code::IdempotencyKeyReused | Code::RequestInProgress => self.key != Key::Unused,
            Code::Unauthenticated => self.access == Access::Admin,
            Code::NotFound => matches!(self.access, Access::CartToken | Access::Order),
            Code::VersionMismatch => matches!(self.versions, Versions::Match | Versions::MatchRequired),
            Code::PreconditionRequired => self.versions == Versions::MatchRequired,
            Code::TooLarge | Code::UnsupportedMediaType => reads_body,
            Code::ValidationFailed => reads_body || !self.query.is_empty() || self.key != Key::Unused,
            Code::StorageFull => changes && business,
            Code::Overloaded | Code::Recovering | Code::Draining | Code::DeadlineExceeded => business,
            Code::RateLimited => business && self.access != Access::Admin,
            Code::Internal
            | Code::Forbidden
            | Code::PaymentDeclined
            | Code::PaymentUnavailable
            | Code::SignatureInvalid
            | Code::MethodNotAllowed
            | Code::InsufficientStock
            | Code::IllegalTransition
            | Code::PriceChanged
            | Code::ReservationExpired
            | Code::CartExpired => false,
        };
        Code::ALL.iter().copied().filter(|code| self.refusals.contains(code) || implied(*code)).collect()
    }

    /// Names of the `{…}` segments of its path.
    pub fn segments(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}
