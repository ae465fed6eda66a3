//! The projected tables: their columns in the order of our rows, their keys, and what the digest leaves out.

use super::rows::Kind::{self, Flag, Integer, Small, Text, Time};

/// A projected table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name in the schema `doorbuster`.
    pub(crate) name: &'static str,
    /// Its columns.
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// How many of the first columns are its key.
    pub(crate) key: usize,
    /// How many of the last columns are the projector's own memory, which no fold of the journal shows.
    pub(crate) own: usize,
}

impl Table {
    /// Names of all columns, with commas between.
    pub(crate) fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The columns that the digest covers.
    pub(crate) fn shown(&self) -> &'static [(&'static str, Kind)] {
        self.columns.split_at(self.columns.len() - self.own).0
    }
}

pub(crate) const SKUS: Table = Table {
    name: "skus",
    columns: &[
        ("sku", Text),
        ("name", Text),
        ("price", Integer),
        ("currency", Text),
        ("oversell_policy", Text),
        ("oversell_limit", Integer),
        ("reservation_ttl_ms", Integer),
        ("low_stock_at", Integer),
        ("created_at", Time),
        ("changed_at", Time),
    ],
    key: 1,
    own: 0,
};

pub(crate) const STOCK_LEVELS: Table = Table {
    name: "stock_levels",
    columns: &[
        ("sku", Text),
        ("received", Integer),
        ("on_hand", Integer),
        ("reserved", Integer),
        ("sold", Integer),
        ("version", Integer),
        ("changed_at", Time),
    ],
    key: 1,
    own: 0,
};

pub(crate) const STOCK_LEDGER: Table = Table {
    name: "stock_ledger",
    columns: &[
        ("position", Integer),
        ("sku", Text),
        ("at", Time),
        ("kind", Text),
        ("delta", Integer),
        ("reason", Text),
        ("reference", Text),
        ("reservation_id", Text),
    ],
    key: 1,
    own: 0,
};

/// The projector's memory of holds; no part of the digest.
pub(crate) const OPEN_HOLDS: Table = Table {
    name: "open_holds",
    columns: &[("sku", Text), ("reservation_id", Text), ("quantity", Integer)],
    key: 2,
    own: 3,
};

pub(crate) const CARTS: Table = Table {
    name: "carts",
    columns: &[
        ("cart_id", Text),
        ("state", Text),
        ("currency", Text),
        ("units", Integer),
        ("subtotal", Integer),
        ("order_id", Text),
        ("version", Integer),
        ("created_at", Time),
        ("changed_at", Time),
        ("expires_at", Time),
        ("next_line", Small),
        ("ttl_ms", Integer),
    ],
    key: 1,
    own: 2,
};

pub(crate) const CART_LINES: Table = Table {
    name: "cart_lines",
    columns: &[
        ("cart_id", Text),
        ("line", Small),
        ("sku", Text),
        ("name", Text),
        ("quantity", Integer),
        ("unit_price", Integer),
    ],
    key: 2,
    own: 0,
};

pub(crate) const ORDERS: Table = Table {
    name: "orders",
    columns: &[
        ("order_id", Text),
        ("created_at", Time),
        ("number", Integer),
        ("cart_id", Text),
        ("state", Text),
        ("off_reason", Text),
        ("email", Text),
        ("provider", Text),
        ("currency", Text),
        ("subtotal", Integer),
        ("discount", Integer),
        ("shipping", Integer),
        ("tax", Integer),
        ("total", Integer),
        ("captured", Integer),
        ("refunded", Integer),
        ("ship_name", Text),
        ("ship_line1", Text),
        ("ship_line2", Text),
        ("ship_city", Text),
        ("ship_region", Text),
        ("ship_postal_code", Text),
        ("ship_country", Text),
        ("placed_at", Time),
        ("fulfilled_at", Time),
        ("completed_at", Time),
        ("version", Integer),
        ("changed_at", Time),
    ],
    key: 2,
    own: 0,
};

pub(crate) const ORDER_LINES: Table = Table {
    name: "order_lines",
    columns: &[
        ("order_id", Text),
        ("ordered_at", Time),
        ("line", Small),
        ("sku", Text),
        ("name", Text),
        ("quantity", Integer),
        ("unit_price", Integer),
        ("total", Integer),
        ("fulfilled", Integer),
        ("refunded", Integer),
    ],
    key: 3,
    own: 0,
};

pub(crate) const PAYMENTS: Table = Table {
    name: "payments",
    columns: &[
        ("order_id", Text),
        ("ordered_at", Time),
        ("payment_id", Text),
        ("provider", Text),
        ("reference", Text),
        ("amount", Integer),
        ("currency", Text),
        ("state", Text),
        ("decline_reason", Text),
        ("requested_at", Time),
        ("settled_at", Time),
    ],
    key: 2,
    own: 0,
};

pub(crate) const REFUNDS: Table = Table {
    name: "refunds",
    columns: &[
        ("refund_id", Text),
        ("ordered_at", Time),
        ("order_id", Text),
        ("amount", Integer),
        ("currency", Text),
        ("restock", Flag),
        ("cancels", Flag),
        ("reason", Text),
        ("state", Text),
        ("reference", Text),
        ("failure", Text),
        ("requested_at", Time),
        ("settled_at", Time),
        ("restocked_at", Time),
    ],
    key: 2,
    own: 0,
};

pub(crate) const REFUND_LINES: Table = Table {
    name: "refund_lines",
    columns: &[("refund_id", Text), ("ordered_at", Time), ("line", Small), ("quantity", Integer)],
    key: 3,
    own: 0,
};

pub(crate) const FULFILMENTS: Table = Table {
    name: "fulfilments",
    columns: &[
        ("fulfilment_id", Text),
        ("ordered_at", Time),
        ("order_id", Text),
        ("tracking", Text),
        ("created_at", Time),
    ],
    key: 2,
    own: 0,
};

pub(crate) const FULFILMENT_LINES: Table = Table {
    name: "fulfilment_lines",
    columns: &[("fulfilment_id", Text), ("ordered_at", Time), ("line", Small), ("quantity", Integer)],
    key: 3,
    own: 0,
};

pub(crate) const ORDER_TIMELINE: Table = Table {
    name: "order_timeline",
    columns: &[
        ("order_id", Text),
        ("ordered_at", Time),
        ("position", Integer),
        ("at", Time),
        ("kind", Text),
        ("detail", Text),
    ],
    key: 3,
    own: 0,
};

/// What the digest covers, in this order for ever.
pub(crate) const DIGESTED: [&Table; 13] = [
    &SKUS,
    &STOCK_LEVELS,
    &STOCK_LEDGER,
    &CARTS,
    &CART_LINES,
    &ORDERS,
    &ORDER_LINES,
    &PAYMENTS,
    &REFUNDS,
    &REFUND_LINES,
    &FULFILMENTS,
    &FULFILMENT_LINES,
    &ORDER_TIMELINE,
];
