//! Asks the engine again, after the last answer, and holds every figure against the books.
//!
//! The stock of every SKU and every order are read one by one; an answer given during the replay counts for
//! nothing here. Start at [`audit`].

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

use super::books::{Difference, Sums};
use super::drive::Drive;
use crate::client::{Client, Failure, OrderReply, StockReply, path_segment};

/// How long a figure may lag behind the last answer before it counts as different: units of a just paid
/// order are sold in a step of their own, and an orphan ends within five seconds (law 6).
/// A stub in a test has nothing to settle.
const SETTLE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 6_000 });

/// Compares everything; adds what differs to the books and returns the engine's sums.
pub async fn audit(
    client: &Client,
    drive: &Rc<Drive>,
    concurrency: usize,
    step: impl Fn(u64),
) -> Result<Sums, Failure> {
    let sums = RefCell::new(Sums::default());
    let begun = Instant::now();
    let skus = drive.books().skus();
    let orders = drive.books().placed_orders();
    let done = RefCell::new(0_u64);
    let one_more = || {
        *done.borrow_mut() += 1;
        step(*done.borrow());
    };
    let stocks = stream::iter(skus).map(|sku| {
        let (sums, one_more) = (&sums, &one_more);
        async move {
            let path = format!("/v1/admin/skus/{}/stock", path_segment(&sku));
            loop {
                let answer = client.get("read stock", path.as_str()).as_admin().send().await?;
                if answer.status == 404 {
                    drive.books().refused(&format!("SKU {sku}"), "404: the engine does not know it");
                    break;
                }
                let stock: StockReply = answer.expect()?;
                let found = drive.books().stock_differences(&sku, &stock);
                if settled(&found, begun).await {
                    let mut sums = sums.borrow_mut();
                    sums.units_received += stock.received;
                    sums.units_sold += stock.sold;
                    sums.units_left += stock.on_hand;
                    drive.books().differences.extend(found);
                    break;
                }
            }
            one_more();
            Ok::<_, Failure>(())
        }
    });
    let mut stocks = stocks.buffer_unordered(concurrency);
    while let Some(read) = stocks.next().await {
        read?;
    }
    let orders = stream::iter(orders).map(|(number, id)| {
        let (sums, one_more) = (&sums, &one_more);
        async move {
            let path = format!("/v1/orders/{}", path_segment(&id));
            loop {
                let answer = client.get("read order", path.as_str()).as_admin().send().await?;
                if answer.status == 404 {
                    drive.books().refused(&format!("order {id}"), "404: placed, and now lost");
                    break;
                }
                let reply: OrderReply = answer.expect()?;
                let found = drive.books().order_differences(number, &reply);
                if settled(&found, begun).await {
                    let mut sums = sums.borrow_mut();
                    sums.orders += 1;
                    sums.gross += reply.totals.total.amount;
                    sums.refunds += reply.refunded();
                    sums.units_returned += reply.units_refunded();
                    drive.books().differences.extend(found);
                    break;
                }
            }
            one_more();
            Ok::<_, Failure>(())
        }
    });
    let mut orders = orders.buffer_unordered(concurrency);
    while let Some(read) = orders.next().await {
        read?;
    }
    drive.books().note_missing_orders();
    let engine = *sums.borrow();
    let file = drive.books().file_sums();
    drive.books().differences.extend(sum_differences(&file, &engine));
    Ok(engine)
}

/// Whether nothing differs, or nothing can be expected to change any more; waits a little where it can.
async fn settled(found: &[Difference], begun: Instant) -> bool {
    if found.is_empty() || begun.elapsed() >= SETTLE {
        return true;
    }
    actix_rt::time::sleep(Duration::from_millis(200)).await;
    false
}

fn sum_differences(file: &Sums, engine: &Sums) -> Vec<Difference> {
    let whole = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
    [
        ("orders", whole(file.orders), whole(engine.orders)),
        ("gross sales", file.gross, engine.gross),
        ("refunds", file.refunds, engine.refunds),
        ("units returned", file.units_returned, engine.units_returned),
        ("units received", file.units_received, engine.units_received),
        ("units sold", file.units_sold, engine.units_sold),
        ("units left", file.units_left, engine.units_left),
    ]
    .into_iter()
    .filter(|(_, file, engine)| file != engine)
    .map(|(figure, file, engine)| Difference {
        of: "everything".to_owned(),
        figure: figure.to_owned(),
        file: file.to_string(),
        engine: engine.to_string(),
    })
    .collect()
}
