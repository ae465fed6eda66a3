//! Finds orders by what people remember of them: state, address, time. Postgres' indexes do what no engine's memory can.
//!
//! It answers which orders there are, not what they look like: the engine knows that better. One thread with a runtime of
//! its own, a session for each place; replicas take turns, and the primary is asked where a replica is away or too old. Whoever
//! asks waits a bounded time, and is told `None` where Postgres cannot say: the engine then looks by itself. Start at
//! [`History::start`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbuster_engine::identity::{OrderId, Timestamp};
use doorbuster_persistence::frame::FrameNumber;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::connection::Connection;
use crate::error::PostgresError;
use crate::projection::projector::ProjectionStatus;
use crate::settings::DatabaseSettings;

/// How long a question may take. An admin's page should not hang on a database that does.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1_500);

/// How long a place that failed is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// Questions that may wait; beyond it the engine looks by itself at once.
const WAITING_MAX: usize = 64;

/// How far behind the projection may be and still be asked.
const LAG_MAX: Duration = Duration::from_secs(5);

/// Which orders are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderQuery {
    /// Wire name of their state.
    pub state: Option<&'static str>,
    /// Their e-mail address, to the letter.
    pub email: Option<String>,
    /// Begun at this time or later.
    pub since: Option<Timestamp>,
    /// Begun before this time.
    pub until: Option<Timestamp>,
    /// Older than this order.
    pub before: Option<(Timestamp, OrderId)>,
    /// So many at most.
    pub limit: usize,
    /// Everything up to this frame must be among them.
    pub through: Option<FrameNumber>,
}

/// Orders found, newest first, by time and id.
pub type Found = Vec<(Timestamp, OrderId)>;

struct Question {
    query: OrderQuery,
    asked: Instant,
    answer: oneshot::Sender<Option<Found>>,
}

/// A way to ask. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct History {
    questions: mpsc::Sender<Question>,
    status: Arc<ProjectionStatus>,
}

impl History {
    /// Starts the thread that asks `primary` and its `replicas`, as far as `status` says that there is something to ask.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(
        primary: DatabaseSettings,
        replicas: Vec<DatabaseSettings>,
        status: Arc<ProjectionStatus>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (questions, asked) = mpsc::channel(WAITING_MAX);
        let statement_ms = u64::try_from(ANSWERS_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let place = |settings: DatabaseSettings| Place {
            settings: settings.named("doorbuster history").with_patience(statement_ms, ANSWERS_WITHIN),
            connection: None,
            failed: None,
        };
        let desk =
            Desk { primary: place(primary), replicas: replicas.into_iter().map(place).collect(), turn: 0 };
        std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || runtime.block_on(desk.answer(asked)))?;
        Ok(Self { questions, status })
    }

    /// Orders as wanted; `None` where Postgres cannot say, or not in time.
    pub async fn orders(&self, query: OrderQuery) -> Option<Found> {
        if self.status.lag().is_none_or(|lag| lag > LAG_MAX) {
            return None;
        }
        let asked = Instant::now();
        // Reading one's own writes: as soon as the projection has them, which is a batch away.
        while query.through.is_some_and(|through| self.status.frame() < through) {
            if asked.elapsed() > ANSWERS_WITHIN {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (answer, answered) = oneshot::channel();
        self.questions.try_send(Question { query, asked, answer }).ok()?;
        tokio::time::timeout(ANSWERS_WITHIN * 2, answered).await.ok()?.ok()?
    }
}

/// One server.
struct Place {
    settings: DatabaseSettings,
    connection: Option<Connection>,
    failed: Option<Instant>,
}

struct Desk {
    primary: Place,
    replicas: Vec<Place>,
    turn: usize,
}

impl Desk {
    async fn answer(mut self, mut questions: mpsc::Receiver<Question>) {
        while let Some(question) = questions.recv().await {
            // Whoever asked has gone by then.
            if question.asked.elapsed() > ANSWERS_WITHIN * 2 {
                continue;
            }
            let found = self.find(&question.query).await;
            let _ = question.answer.send(found);
        }
    }

    async fn find(&mut self, query: &OrderQuery) -> Option<Found> {
        if query.through.is_none() && !self.replicas.is_empty() {
            let count = self.replicas.len();
            for _ in 0..count {
                self.turn = (self.turn + 1) % count;
                if let Some(found) = self.replicas[self.turn].find(query).await {
                    return Some(found);
                }
            }
        }
        self.primary.find(query).await
    }
}

impl Place {
    async fn find(&mut self, query: &OrderQuery) -> Option<Found> {
        if self.failed.is_some_and(|at| at.elapsed() < LEFT_ALONE) {
            return None;
        }
        match self.ask(query).await {
            Ok(found) => {
                self.failed = None;
                found
            }
            Err(error) => {
                tracing::warn!(
                    place = self.settings.place(),
                    "the order history is not answered here: {error}"
                );
                self.connection = None;
                self.failed = Some(Instant::now());
                None
            }
        }
    }

    async fn ask(&mut self, query: &OrderQuery) -> Result<Option<Found>, PostgresError> {
        let connection = match self.connection.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => self.settings.connect().await?,
        };
        let rows = select(&connection, query).await;
        self.connection = Some(connection);
        Ok(read(&rows?, query.through))
    }
}

/// Asks for a page, and in the same statement for what it reflects.
async fn select(connection: &Connection, query: &OrderQuery) -> Result<Vec<Row>, PostgresError> {
    // Times come and go as whole milliseconds; a NULL parameter filters nothing. Planned anew each time, so that a filter
    // that is not there costs no index.
    const SQL: &str = "
        SELECT s.last_frame, o.order_id, (extract(epoch FROM o.created_at) * 1000)::bigint
        FROM doorbuster.projection_state s LEFT JOIN LATERAL (
            SELECT order_id, created_at FROM doorbuster.orders
            WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR email = $2)
                AND ($3::bigint IS NULL OR created_at >= to_timestamp($3 / 1000.0))
                AND ($4::bigint IS NULL OR created_at < to_timestamp($4 / 1000.0))
                AND ($5::bigint IS NULL OR (created_at, order_id) < (to_timestamp($5 / 1000.0), $6::text))
            ORDER BY created_at DESC, order_id DESC LIMIT $7
        ) o ON true ORDER BY o.created_at DESC, o.order_id DESC";
    // Beyond the year 9999 there is no order, and no `timestamptz` for it.
    let ms = |at: Timestamp| i64::try_from(at.0.min(253_402_300_799_999)).unwrap_or(i64::MAX);
    let (since, until) = (query.since.map(ms), query.until.map(ms));
    let before = query.before.map(|(at, _)| ms(at));
    let id = query.before.map(|(_, id)| id.to_string());
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let values: [&(dyn ToSql + Sync); 7] = [&query.state, &query.email, &since, &until, &before, &id, &limit];
    connection.within("looking for orders", connection.client().query(SQL, &values)).await
}

/// `None` where the server does not have all that is wanted.
fn read(rows: &[Row], through: Option<FrameNumber>) -> Option<Found> {
    let frame = u64::try_from(rows.first()?.get::<_, i64>(0)).unwrap_or(0);
    if through.is_some_and(|through| FrameNumber(frame) < through) {
        return None;
    }
    let found = rows.iter().filter_map(|row| {
        let id: OrderId = row.get::<_, Option<&str>>(1)?.parse().ok()?;
        let at = u64::try_from(row.get::<_, Option<i64>>(2)?).unwrap_or(0);
        Some((Timestamp(at), id))
    });
    Some(found.collect())
}
