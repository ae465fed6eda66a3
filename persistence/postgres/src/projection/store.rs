//! Rows on their way in and out of the server: read by key, copied in bulk, upserted through temporary tables.
//!
//! New rows are copied straight into their tables: one that is there already is an event applied twice, and fails the
//! transaction. Changed rows are copied into a temporary table and upserted, one row however many events changed it.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Statement, Transaction};

use super::rows::{Row, Value};
use super::tables::{
    CART_LINES, CARTS, FULFILMENT_LINES, FULFILMENTS, OPEN_HOLDS, ORDER_LINES, ORDER_TIMELINE, ORDERS,
    PAYMENTS, REFUND_LINES, REFUNDS, SKUS, STOCK_LEDGER, STOCK_LEVELS, Table,
};
use crate::connection::within;
use crate::error::PostgresError;

/// In the order in which they are written: what others refer to comes first.
const WRITTEN: [&Table; 13] = [
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

/// Tables whose rows change; each has a temporary twin.
const CHANGING: [&Table; 7] = [&SKUS, &STOCK_LEVELS, &CARTS, &ORDERS, &ORDER_LINES, &PAYMENTS, &REFUNDS];

/// What a batch does to the tables.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    inserted: HashMap<&'static str, Vec<Row>>,
    updated: HashMap<&'static str, Vec<Row>>,
    /// Stored carts all of whose lines are written anew.
    pub(crate) rewritten_carts: Vec<String>,
}

impl Changes {
    pub(crate) fn insert(&mut self, table: &'static Table, row: Row) {
        self.inserted.entry(table.name).or_default().push(row);
    }

    pub(crate) fn update(&mut self, table: &'static Table, row: Row) {
        self.updated.entry(table.name).or_default().push(row);
    }

    pub(crate) fn append(&mut self, other: Self) {
        for (table, rows) in other.inserted {
            self.inserted.entry(table).or_default().extend(rows);
        }
        for (table, rows) in other.updated {
            self.updated.entry(table).or_default().extend(rows);
        }
        self.rewritten_carts.extend(other.rewritten_carts);
    }

    /// Rows inserted and updated.
    pub(crate) fn rows(&self) -> u64 {
        self.inserted.values().chain(self.updated.values()).map(|rows| rows.len() as u64).sum()
    }
}

/// SQL that a session begins with: the temporary tables.
pub(crate) fn temporary_tables() -> String {
    let tables = CHANGING.iter();
    let made = tables.map(|table| {
        format!(
            "CREATE TEMPORARY TABLE changed_{name} ON COMMIT DELETE ROWS AS \
             SELECT {columns} FROM doorbuster.{name} LIMIT 0;",
            name = table.name,
            columns = table.names()
        )
    });
    made.collect()
}

/// Statements prepared once a session.
#[derive(Default)]
pub(crate) struct Prepared(HashMap<String, Statement>);

/// One transaction, its statements and its patience.
pub(crate) struct Session<'a> {
    pub(crate) transaction: &'a Transaction<'a>,
    pub(crate) prepared: &'a mut Prepared,
    pub(crate) patience: Duration,
}

impl Session<'_> {
    pub(crate) async fn statement(&mut self, sql: &str) -> Result<Statement, PostgresError> {
        if let Some(known) = self.prepared.0.get(sql) {
            return Ok(known.clone());
        }
        let preparing = self.transaction.prepare(sql);
        let statement = within(self.patience, "preparing a statement", preparing).await?;
        self.prepared.0.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(crate) async fn execute(
        &mut self,
        what: &'static str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, PostgresError> {
        let statement = self.statement(sql).await?;
        within(self.patience, what, self.transaction.execute(&statement, values)).await
    }

    /// Rows of `table` whose column `by` is one of `keys`, in the order of the table's key.
    pub(crate) async fn read(
        &mut self,
        table: &Table,
        by: &str,
        keys: &[String],
    ) -> Result<Vec<Row>, PostgresError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let key = table.columns[..table.key].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT {} FROM doorbuster.{} WHERE {by} = ANY($1) ORDER BY {key}",
            table.names(),
            table.name
        );
        let statement = self.statement(&sql).await?;
        let keys: [&(dyn ToSql + Sync); 1] = [&keys];
        let asked = self.transaction.query(&statement, &keys);
        let rows = within(self.patience, "reading the rows a batch touches", asked).await?;
        Ok(rows.iter().map(|row| read_row(row, table.columns)).collect())
    }

    /// Writes everything.
    pub(crate) async fn write(&mut self, mut changes: Changes) -> Result<(), PostgresError> {
        if !changes.rewritten_carts.is_empty() {
            let sql = "DELETE FROM doorbuster.cart_lines WHERE cart_id = ANY($1)";
            self.execute("taking old lines of carts away", sql, &[&changes.rewritten_carts]).await?;
        }
        for table in WRITTEN {
            if let Some(rows) = changes.inserted.remove(table.name) {
                self.copy(table, &format!("doorbuster.{}", table.name), &rows).await?;
            }
            if let Some(rows) = changes.updated.remove(table.name) {
                self.copy(table, &format!("pg_temp.changed_{}", table.name), &rows).await?;
                self.execute("writing changed rows", &upsert(table), &[]).await?;
            }
        }
        Ok(())
    }

    /// Copies `rows` into `target`, which has the columns of `table`.
    pub(crate) async fn copy(
        &mut self,
        table: &Table,
        target: &str,
        rows: &[Row],
    ) -> Result<(), PostgresError> {
        let sql = format!("COPY {target} ({}) FROM STDIN (FORMAT binary)", table.names());
        let statement = self.statement(&sql).await?;
        let kinds: Vec<Type> = table.columns.iter().map(|(_, kind)| kind.sql()).collect();
        let copying = async {
            let sink = self.transaction.copy_in(&statement).await?;
            let mut writer = pin!(BinaryCopyInWriter::new(sink, &kinds));
            for row in rows {
                let values: Vec<_> = row.iter().map(Value::to_sql).collect();
                let values: Vec<&(dyn ToSql + Sync)> =
                    values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
                writer.as_mut().write(&values).await?;
            }
            writer.finish().await.map(drop)
        };
        within(self.patience, "copying rows", copying).await
    }

    /// Gives every row of `table`, its first `columns` columns, to `each`, as they come.
    pub(crate) async fn for_each(
        &mut self,
        table: &Table,
        columns: &[(&str, super::rows::Kind)],
        mut each: impl FnMut(Row),
    ) -> Result<(), PostgresError> {
        const WHAT: &str = "reading a table";
        let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {names} FROM doorbuster.{}", table.name);
        let asked = self.transaction.query_raw(&sql, std::iter::empty::<&(dyn ToSql + Sync)>());
        let mut rows = pin!(within(self.patience, WHAT, asked).await?.into_stream());
        // Each row has its own patience: a large table takes longer than any one answer may.
        while let Some(row) = within(self.patience, WHAT, async { rows.next().await.transpose() }).await? {
            each(read_row(&row, columns));
        }
        Ok(())
    }
}

fn read_row(row: &tokio_postgres::Row, columns: &[(&str, super::rows::Kind)]) -> Row {
    columns.iter().enumerate().map(|(index, (_, kind))| Value::read(row, index, *kind)).collect()
}

fn upsert(table: &Table) -> String {
    let (key, rest) = table.columns.split_at(table.key);
    let key = key.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let rest = rest.iter().map(|(name, _)| format!("{name} = EXCLUDED.{name}"));
    format!(
        "INSERT INTO doorbuster.{name} ({columns}) SELECT {columns} FROM pg_temp.changed_{name} \
         ON CONFLICT ({key}) DO UPDATE SET {rest}",
        name = table.name,
        columns = table.names(),
        rest = rest.collect::<Vec<_>>().join(", ")
    )
}

/// Writes what the table of open holds lacks, and takes away what ended.
pub(crate) async fn write_holds(
    session: &mut Session<'_>,
    holds: &super::holds::HoldRows,
) -> Result<(), PostgresError> {
    let (skus, reservations) = &holds.ended;
    if !skus.is_empty() {
        let sql = "DELETE FROM doorbuster.open_holds h USING unnest($1::text[], $2::text[]) AS e (sku, reservation_id) \
                   WHERE h.sku = e.sku AND h.reservation_id = e.reservation_id";
        session.execute("taking ended holds away", sql, &[skus, reservations]).await?;
    }
    if holds.begun.is_empty() {
        return Ok(());
    }
    session.copy(&OPEN_HOLDS, "doorbuster.open_holds", &holds.begun).await
}
