//! Applies batches: reads the rows that a batch touches, folds, writes what changed and the offset, all in one transaction.
//!
//! Law 10: the offset's row is locked first and must say what this session believes, so that of two sessions only one
//! applies a batch. After any error the session is of no use, memory of holds included; the next one asks the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use doorbuster_engine::cart::CartEvent;
use doorbuster_engine::event::{EntityKey, Event};
use doorbuster_engine::identity::{Position, Recorded, Timestamp};
use doorbuster_engine::order::OrderEvent;
use doorbuster_engine::stock::StockEvent;
use doorbuster_persistence::frame::FrameNumber;

use super::carts::Carts;
use super::error::ProjectionError;
use super::holds::Holds;
use super::orders::Orders;
use super::refunds::Refund;
use super::rows::{Row, Value};
use super::source::{self, Batch, Source};
use super::stock::Shelf;
use super::store::{Changes, Prepared, Session, temporary_tables, write_holds};
use super::tables::{
    CART_LINES, CARTS, ORDER_LINES, ORDERS, PAYMENTS, REFUND_LINES, REFUNDS, SKUS, STOCK_LEVELS,
};
use crate::connection::{Connection, within};
use crate::error::PostgresError;

/// How old `open_holds` may become: so much of the journal is read again by whoever begins.
const HOLDS_AGE_MAX: Duration = Duration::from_secs(5);

/// Milliseconds of a day: months are told apart by days, and begin at one.
const DAY_MS: u64 = 86_400_000;

/// What one batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Events in it.
    pub events: u64,
    /// Rows written.
    pub rows: u64,
    /// The last frame applied by now.
    pub frame: FrameNumber,
    /// Business time of the last event, milliseconds since the Unix epoch; 0 for none.
    pub at_ms: u64,
}

/// One session that applies batches.
pub struct Applier {
    connection: Connection,
    source: Source,
    prepared: Prepared,
    holds: Holds,
    holds_written: Instant,
    engine: String,
    last: FrameNumber,
    last_at_ms: u64,
    /// Days whose month has its partitions.
    days: BTreeSet<u64>,
}

impl Applier {
    /// Begins where the tables are, after a look whether they belong to this journal.
    pub(crate) async fn begin(
        mut connection: Connection,
        mut source: Source,
    ) -> Result<Self, ProjectionError> {
        let encoding = text(&connection, "SELECT current_setting('server_encoding')").await?;
        if encoding != "UTF8" {
            return Err(ProjectionError::Encoding { found: encoding });
        }
        let engine = source.engine().to_string();
        let made = "INSERT INTO doorbuster.projection_state (engine_id, last_frame, last_frame_digest, holds_frame) \
                    VALUES ($1, 0, '', 0) ON CONFLICT DO NOTHING";
        connection.within("beginning a projection", connection.client().execute(made, &[&engine])).await?;
        let sql = "SELECT engine_id, last_frame, last_frame_digest, holds_frame, \
                   coalesce((extract(epoch FROM last_at) * 1000)::bigint, 0) FROM doorbuster.projection_state";
        let row = connection.within("reading the offset", connection.client().query_one(sql, &[])).await?;
        let (found, digest): (String, String) = (row.get(0), row.get(2));
        let number = |index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
        let (last, holds_frame) = (FrameNumber(number(1)), FrameNumber(number(3)));
        if found != engine {
            return Err(ProjectionError::OtherEngine { found, own: engine });
        }
        if last > source.durable() {
            return Err(ProjectionError::Ahead { applied: last.0, durable: source.durable().0 });
        }
        if last > FrameNumber(0) {
            source.seek(last);
            let frame = source.next_frame()?;
            if frame.is_none_or(|frame| source::digest(frame.body) != digest) {
                return Err(ProjectionError::OtherHistory { frame: last.0 });
            }
        }
        let temporary = temporary_tables();
        connection.within("making temporary tables", connection.client().batch_execute(&temporary)).await?;
        let holds = load_holds(&mut connection, &mut source, holds_frame, last).await?;
        Ok(Self {
            connection,
            source,
            prepared: Prepared::default(),
            holds,
            holds_written: Instant::now(),
            engine,
            last,
            last_at_ms: number(4),
            days: BTreeSet::new(),
        })
    }

    /// The last frame applied.
    pub fn frame(&self) -> FrameNumber {
        self.last
    }

    /// The last frame there is to apply.
    pub fn durable(&self) -> FrameNumber {
        self.source.durable()
    }

    /// Applies the next batch; `None` when there is nothing to apply. After an error this session is to be dropped.
    pub async fn step(&mut self) -> Result<Option<Applied>, ProjectionError> {
        let Some(batch) = self.source.next_batch()? else {
            return Ok(None);
        };
        self.make_months(&batch).await?;
        let applied = self.apply(&batch).await?;
        self.last = applied.frame;
        self.last_at_ms = applied.at_ms;
        Ok(Some(applied))
    }

    /// Looks whether the tables are where this session left them; after an error it is to be dropped, as after a batch.
    pub(crate) async fn look(&self) -> Result<(), ProjectionError> {
        let sql = "SELECT 1 FROM doorbuster.projection_state WHERE engine_id = $1 AND last_frame = $2";
        let expected = i64::try_from(self.last.0).unwrap_or(i64::MAX);
        let client = self.connection.client();
        let found = self
            .connection
            .within("looking at the offset", client.query_opt(sql, &[&self.engine, &expected]))
            .await?;
        found.map(|_| ()).ok_or(ProjectionError::Contended)
    }

    /// Partitions are made in transactions of their own: attaching one waits for writers, not for readers, and should not
    /// hold what the batch holds.
    async fn make_months(&mut self, batch: &Batch) -> Result<(), ProjectionError> {
        let days: BTreeSet<u64> = batch
            .events
            .iter()
            .filter(|(_, entry)| matches!(entry.entity, EntityKey::Order(_)))
            .map(|(header, _)| header.at_ms / DAY_MS)
            .filter(|day| !self.days.contains(day))
            .collect();
        for day in days {
            let Value::Time(Some(ms)) = Value::time(day * DAY_MS) else { continue };
            let sql = "SELECT doorbuster.make_month(to_timestamp($1::bigint / 1000))";
            let seconds = i64::try_from(ms).unwrap_or(i64::MAX);
            self.connection
                .within("making a month's partitions", self.connection.client().execute(sql, &[&seconds]))
                .await?;
            self.days.insert(day);
        }
        Ok(())
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Applied, ProjectionError> {
        let patience = self.connection.patience();
        let began = self.connection.client_mut().transaction();
        let transaction = within(patience, "beginning a batch", began).await?;
        let mut session = Session { transaction: &transaction, prepared: &mut self.prepared, patience };
        let sql = "SELECT last_frame FROM doorbuster.projection_state WHERE engine_id = $1 AND last_frame = $2 FOR UPDATE";
        let expected = i64::try_from(self.last.0).unwrap_or(i64::MAX);
        if session.execute("locking the offset", sql, &[&self.engine, &expected]).await? != 1 {
            return Err(ProjectionError::Contended);
        }
        let mut touched = Touched::default();
        touched.load(&mut session, batch).await?;
        let mut at_ms = self.last_at_ms;
        for (header, entry) in &batch.events {
            let recorded = Recorded { position: Position(header.position), at: Timestamp(header.at_ms) };
            at_ms = at_ms.max(header.at_ms);
            match (&entry.entity, &entry.event) {
                (EntityKey::Sku(sku), Event::Stock(event)) => {
                    touched.shelf.fold(sku, event, recorded, &mut self.holds)?;
                }
                (EntityKey::Cart(id), Event::Cart(event)) => touched.carts.fold(*id, event, recorded)?,
                (EntityKey::Order(id), Event::Order(event)) => touched.orders.fold(*id, event, recorded)?,
                // A coordinator only says what its SKUs say too.
                (EntityKey::Reservation(_), Event::Reservation(_)) => {}
                (entity, _) => {
                    let what = format!("an event of another kind is recorded for {entity}");
                    return Err(ProjectionError::Inconsistent { position: header.position, what });
                }
            }
        }
        let changes = touched.finish();
        let rows = changes.rows();
        session.write(changes).await?;
        let mut holds_frame = None;
        if self.holds_written.elapsed() >= HOLDS_AGE_MAX {
            write_holds(&mut session, &self.holds.unstored()).await?;
            holds_frame = Some(i64::try_from(batch.last.0).unwrap_or(i64::MAX));
        }
        let sql = "UPDATE doorbuster.projection_state SET last_frame = $1, last_frame_digest = $2, \
                   last_at = to_timestamp($3::bigint / 1000.0), holds_frame = coalesce($4::bigint, holds_frame), \
                   applied_at = clock_timestamp()";
        let (last, at) =
            (i64::try_from(batch.last.0).unwrap_or(i64::MAX), i64::try_from(at_ms).unwrap_or(i64::MAX));
        session.execute("moving the offset", sql, &[&last, &batch.digest, &at, &holds_frame]).await?;
        within(patience, "ending a batch", transaction.commit()).await?;
        if holds_frame.is_some() {
            self.holds.mark_stored();
            self.holds_written = Instant::now();
        }
        Ok(Applied { events: batch.events.len() as u64, rows, frame: batch.last, at_ms })
    }
}

/// What a batch touches, as the tables have it and as the batch leaves it.
#[derive(Default)]
struct Touched {
    shelf: Shelf,
    carts: Carts,
    orders: Orders,
}

impl Touched {
    async fn load(&mut self, session: &mut Session<'_>, batch: &Batch) -> Result<(), PostgresError> {
        // Whether each begins in this batch: then no table has it yet.
        let mut entities: BTreeMap<&EntityKey, bool> = BTreeMap::new();
        for (_, entry) in &batch.events {
            let begins = matches!(
                entry.event,
                Event::Stock(StockEvent::Defined { .. })
                    | Event::Cart(CartEvent::Created { .. })
                    | Event::Order(OrderEvent::Started(_))
            );
            *entities.entry(&entry.entity).or_default() |= begins;
        }
        let (mut skus, mut carts, mut orders) = (Vec::new(), Vec::new(), Vec::new());
        for (entity, _) in entities.into_iter().filter(|(_, begins)| !begins) {
            match entity {
                EntityKey::Sku(sku) => skus.push(sku.to_string()),
                EntityKey::Cart(id) => carts.push(id.to_string()),
                EntityKey::Order(id) => orders.push(id.to_string()),
                EntityKey::Reservation(_) => {}
            }
        }
        let levels = session.read(&STOCK_LEVELS, "sku", &skus).await?;
        let rows = session.read(&SKUS, "sku", &skus).await?;
        for (mut card, level) in rows.into_iter().zip(levels) {
            card.extend(level);
            self.shelf.load(&card);
        }
        for row in session.read(&CARTS, "cart_id", &carts).await? {
            self.carts.load(&row);
        }
        for row in session.read(&CART_LINES, "cart_id", &carts).await? {
            self.carts.load_line(&row);
        }
        for row in session.read(&ORDERS, "order_id", &orders).await? {
            self.orders.load(row);
        }
        for row in session.read(&ORDER_LINES, "order_id", &orders).await? {
            if let Some(order) = self.orders.of(&row, 0) {
                order.load_line(row);
            }
        }
        for row in session.read(&PAYMENTS, "order_id", &orders).await? {
            if let Some(order) = self.orders.of(&row, 0) {
                order.load_payment(row);
            }
        }
        self.load_refunds(session, &orders).await
    }

    async fn load_refunds(
        &mut self,
        session: &mut Session<'_>,
        orders: &[String],
    ) -> Result<(), PostgresError> {
        let refunds = session.read(&REFUNDS, "order_id", orders).await?;
        let name = |row: &Row| row[0].as_text().unwrap_or_default().to_owned();
        let names: Vec<String> = refunds.iter().map(name).collect();
        for row in refunds {
            if let Some(order) = self.orders.of(&row, 2) {
                order.refunds.push(Refund::load(row));
            }
        }
        for row in session.read(&REFUND_LINES, "refund_id", &names).await? {
            if let Some(refund) = self.orders.with_refund(&name(&row)) {
                refund.load_line(&row);
            }
        }
        Ok(())
    }

    fn finish(self) -> Changes {
        let mut changes = Changes::default();
        self.shelf.finish(&mut changes);
        self.carts.finish(&mut changes);
        self.orders.finish(&mut changes);
        changes
    }
}

/// The holds at frame `last`: those of the table, and the journal since.
async fn load_holds(
    connection: &mut Connection,
    source: &mut Source,
    holds_frame: FrameNumber,
    last: FrameNumber,
) -> Result<Holds, ProjectionError> {
    let sql = "SELECT sku, reservation_id, quantity FROM doorbuster.open_holds";
    let rows = connection.within("reading open holds", connection.client().query(sql, &[])).await?;
    let mut holds = Holds::default();
    for row in rows {
        let (sku, reservation): (String, String) = (row.get(0), row.get(1));
        holds.load(&sku, &reservation, row.get(2)).ok_or_else(|| ProjectionError::Inconsistent {
            position: 0,
            what: format!("open_holds has a row of {sku} and {reservation}, which no journal names"),
        })?;
    }
    source.seek(holds_frame.next());
    let mut done = holds_frame;
    while done < last {
        let Some(frame) = source.next_frame()? else { break };
        done = frame.number;
        for event in source::read(&frame) {
            let (header, entry) = event?;
            if let (EntityKey::Sku(sku), Event::Stock(event)) = (&entry.entity, &entry.event) {
                holds.fold(sku, event).map_err(|id| ProjectionError::Inconsistent {
                    position: header.position,
                    what: format!("{id} ends at sku {sku}, where it holds nothing"),
                })?;
            }
        }
    }
    Ok(holds)
}

async fn text(connection: &Connection, sql: &str) -> Result<String, PostgresError> {
    Ok(connection.within("asking the server", connection.client().query_one(sql, &[])).await?.get(0))
}
