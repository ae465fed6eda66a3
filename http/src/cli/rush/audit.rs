//! After the rush: is everything that was promised still true, and was no unit sold twice?
//!
//! Start at [`after_rush`] and [`after_restart`].

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

use super::ledger::{Kind, Promises};
use super::shopper::{End, Grant, Stage};
use crate::client::{Answer, Client, Failure, OrderReply, ReservationReply, StockReply, path_segment};

/// How long the last expiry and the last sale of a paid order may take to show: an orphan ends within five
/// seconds (law 6), a due expiry is visible within one.
/// A stub in a test has nothing to settle.
const SETTLE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 8_000 });

/// Reads at once while auditing.
const READS: usize = 32;

/// States an order may have that was paid once.
const PAID: [&str; 5] = ["paid", "fulfilled", "completed", "partially_refunded", "refunded"];

/// A SKU's stock, or `None` where the engine does not know it.
pub async fn stock(client: &Client, sku: &str) -> Result<Option<StockReply>, Failure> {
    let path = format!("/v1/admin/skus/{}/stock", path_segment(sku));
    let answer = client.get("read stock", path).as_admin().send().await?;
    if answer.status == 404 { Ok(None) } else { answer.expect().map(Some) }
}

/// Checks the shoppers' grants against the engine. `before` is the SKU's stock before the first shot.
pub async fn after_rush(stage: &Stage, before: &StockReply) -> Result<Vec<String>, Failure> {
    let grants = stage.grants.borrow().clone();
    let unknown = i64::try_from(stage.unknown.get()).unwrap_or(i64::MAX);
    let of = |ends: &[End]| {
        let count = grants.iter().filter(|grant| ends.contains(&grant.end)).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    };
    let sold = before.sold + of(&[End::Committed, End::Ordered]);
    let reserved = before.reserved + of(&[End::Held]);
    let begun = Instant::now();
    let mut violations = loop {
        let Some(now) = stock(&stage.client, &stage.sku).await? else {
            return Ok(vec![format!("law 3: SKU {} is gone", stage.sku)]);
        };
        let mut seen: Vec<String> = now.broken_law().into_iter().collect();
        if now.received != before.received {
            seen.push(format!(
                "received was {} and is {}; nobody adjusted it",
                before.received, now.received
            ));
        }
        // An attempt without answer may or may not have taken its unit; all others are counted exactly.
        for (figure, acknowledged, engine) in [("sold", sold, now.sold), ("reserved", reserved, now.reserved)]
        {
            if engine < acknowledged || engine > acknowledged + unknown {
                seen.push(format!(
                    "{figure}: {acknowledged} acknowledged, {unknown} attempts without answer, and the engine says {engine}"
                ));
            }
        }
        if seen.is_empty() || begun.elapsed() >= SETTLE {
            break seen;
        }
        actix_rt::time::sleep(Duration::from_millis(200)).await;
    };
    if sold + reserved > before.received {
        violations.push(format!("sold twice: {} units acknowledged of {}", sold + reserved, before.received));
    }
    let attempts = i64::try_from(stage.attempts.get()).unwrap_or(i64::MAX);
    let wanted = attempts.min(before.available);
    let refused = stage.refused.get();
    if stage.is_plain && unknown == 0 && refused == 0 && of(&[End::Held]) != wanted {
        violations.push(format!("{} units granted, though {wanted} were wanted and there", of(&[End::Held])));
    }
    violations.extend(read_back(&stage.client, &grants).await?);
    Ok(violations)
}

/// Reads every grant back by its id.
async fn read_back(client: &Client, grants: &[Grant]) -> Result<Vec<String>, Failure> {
    let violations = RefCell::new(Vec::new());
    let mut reads = stream::iter(grants.iter().cloned())
        .map(|grant| {
            let violations = &violations;
            async move {
                let answer = read(client, &grant.id, grant.end == End::Ordered).await?;
                let wrong = match grant.end {
                    End::Ordered => wrong_order(&answer)?,
                    End::Held => wrong_reservation(&answer, &["held"])?,
                    End::Committed => wrong_reservation(&answer, &["committed"])?,
                    End::Released => wrong_reservation(&answer, &["released"])?,
                    End::Expired => wrong_reservation(&answer, &["expired"])?,
                };
                violations.borrow_mut().extend(wrong.map(|wrong| format!("{}: {wrong}", grant.id)));
                Ok::<_, Failure>(())
            }
        })
        .buffer_unordered(READS);
    while let Some(read) = reads.next().await {
        read?;
    }
    drop(reads);
    Ok(violations.into_inner())
}

/// Checks a ledger's promises against an engine that may have been killed and started again since.
pub async fn after_restart(client: &Client, promises: &Promises) -> Result<Vec<String>, Failure> {
    let violations = RefCell::new(Vec::new());
    let entries: Vec<_> = promises.by_id.iter().map(|(id, promise)| (id.clone(), *promise)).collect();
    let units_of = |kinds: &[Kind]| -> i64 {
        entries.iter().filter(|(_, (kind, _))| kinds.contains(kind)).map(|(_, (_, units))| units).sum()
    };
    let acknowledged = units_of(&[Kind::Committed, Kind::Order]);
    let is_any_sku = entries.iter().any(|(_, (kind, _))| *kind == Kind::Sku);
    let sold = Cell::new(0_i64);
    let mut reads = stream::iter(entries)
        .map(|(id, (kind, _))| {
            let (violations, sold) = (&violations, &sold);
            async move {
                let wrong = match kind {
                    Kind::Sku => match stock(client, &id).await? {
                        None => Some("lost".to_owned()),
                        Some(stock) => {
                            sold.set(sold.get() + stock.sold);
                            stock.broken_law()
                        }
                    },
                    Kind::Order => wrong_order(&read(client, &id, true).await?)?,
                    Kind::Committed => wrong_reservation(&read(client, &id, false).await?, &["committed"])?,
                    Kind::Released => wrong_reservation(&read(client, &id, false).await?, &["released"])?,
                    // What came after the grant may have been done without its answer arriving.
                    Kind::Reserved => wrong_reservation(
                        &read(client, &id, false).await?,
                        &["held", "committed", "released", "expired"],
                    )?,
                };
                violations
                    .borrow_mut()
                    .extend(wrong.map(|wrong| format!("law 3: {} {id}: {wrong}", kind.name())));
                Ok::<_, Failure>(())
            }
        })
        .buffer_unordered(READS);
    while let Some(read) = reads.next().await {
        read?;
    }
    drop(reads);
    let mut violations = violations.into_inner();
    // A rush on a SKU that was there before writes no SKU down; then nobody knows what else it sold.
    if is_any_sku && sold.get() < acknowledged {
        violations.push(format!(
            "law 3: {acknowledged} sold units were acknowledged, and the engine knows {}",
            sold.get()
        ));
    }
    Ok(violations)
}

async fn read(client: &Client, id: &str, is_order: bool) -> Result<Answer, Failure> {
    let id = path_segment(id);
    if is_order {
        return client.get("read order", format!("/v1/orders/{id}")).as_admin().send().await;
    }
    client.get("read reservation", format!("/v1/reservations/{id}")).send().await
}

fn wrong_order(answer: &Answer) -> Result<Option<String>, Failure> {
    if answer.status == 404 {
        return Ok(Some("an acknowledged order is lost".to_owned()));
    }
    let order: OrderReply = answer.expect()?;
    let is_paid = PAID.contains(&order.state.as_str());
    Ok((!is_paid).then(|| format!("was acknowledged as paid and is {}", order.state)))
}

fn wrong_reservation(answer: &Answer, expected: &[&str]) -> Result<Option<String>, Failure> {
    if answer.status == 404 {
        return Ok(Some("an acknowledged reservation is lost".to_owned()));
    }
    let reservation: ReservationReply = answer.expect()?;
    let is_right = expected.contains(&reservation.state.as_str());
    Ok((!is_right).then(|| format!("should be {} and is {}", expected.join(" or "), reservation.state)))
}
