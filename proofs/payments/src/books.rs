//! Both sides' books as they are shown to strangers: the engine's orders and stock over HTTP, the stand-in's ledger.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use crate::client::Client;
use crate::plan::Article;

/// Money on the wire; all of it is in GBP here.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Money {
    pub(crate) amount: i64,
}

/// A line of an order.
#[expect(clippy::struct_field_names)] // as on the wire
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Line {
    pub(crate) line_id: String,
    pub(crate) sku: String,
    pub(crate) quantity: i64,
    pub(crate) unit_price: Money,
}

/// Units of a refund.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Units {
    pub(crate) line_id: String,
    pub(crate) quantity: i64,
}

/// A refund.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Refund {
    pub(crate) lines: Vec<Units>,
    pub(crate) restock: bool,
    pub(crate) state: String,
}

/// How an order is paid.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Payment {
    pub(crate) state: String,
    pub(crate) captured: Money,
    pub(crate) refunded: Money,
}

/// Sums of an order.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Totals {
    pub(crate) total: Money,
}

/// An order, as far as it is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) cart: String,
    pub(crate) state: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) totals: Totals,
    pub(crate) payment: Payment,
    pub(crate) refunds: Vec<Refund>,
    pub(crate) created_at: String,
}

impl Order {
    /// Whether it stands: its money is kept, in part at least, or was given back after it was.
    pub(crate) fn stands(&self) -> bool {
        matches!(self.state.as_str(), "paid" | "fulfilled" | "completed" | "partially_refunded" | "refunded")
    }

    /// Whether nothing about it is still to come.
    pub(crate) fn is_settled(&self) -> bool {
        let payment_open =
            matches!(self.payment.state.as_str(), "none" | "pending" | "requires_action" | "authorized");
        let refund_open = self.refunds.iter().any(|refund| refund.state == "pending");
        self.state != "pending_payment" && !refund_open && !(payment_open && self.stands())
    }
}

/// The stock of one SKU.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Stock {
    pub(crate) sku: String,
    pub(crate) received: i64,
    pub(crate) on_hand: i64,
    pub(crate) reserved: i64,
    pub(crate) sold: i64,
}

/// One page of orders.
#[derive(Deserialize)]
struct Page {
    data: Vec<Order>,
    next_cursor: Option<String>,
}

/// Every order that the engine has, newest first; of one state only where one is named.
pub(crate) fn orders(client: &mut Client<'_>, state: Option<&str>) -> anyhow::Result<Vec<Order>> {
    let only = state.map(|state| format!("&state={state}")).unwrap_or_default();
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page: Value = client.look(&format!("/v1/admin/orders?limit=100{only}{after}"))?;
        let page: Page = serde_json::from_value(page).context("a page of orders")?;
        all.extend(page.data);
        match page.next_cursor {
            Some(cursor) => after = format!("&starting_after={cursor}"),
            None => return Ok(all),
        }
    }
}

/// The stock of all that is for sale.
pub(crate) fn stocks(client: &mut Client<'_>, articles: &[Article]) -> anyhow::Result<Vec<Stock>> {
    let mut stocks = Vec::new();
    for article in articles {
        let stock = client.look(&format!("/v1/admin/skus/{}/stock", article.sku))?;
        stocks.push(serde_json::from_value(stock).context("a SKU's stock")?);
    }
    Ok(stocks)
}
